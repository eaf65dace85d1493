// SPDX-License-Identifier: Apache-2.0
// Rollouts, with their kill switch; and what a rollout owes to services, segments and flags.
#include "base/check.h"
#include "daemon/config/config_private.h"

static const struct config_word kill_words[] = {
    {.word = "errors",
     .kind = CONFIG_KIND_SHARE,
     CONFIG_AT(struct config_kill, errors),
     .low = 0.00001,
     .high = 1,
     .required = true,
     .help = "share of failed requests above which it acts"},
    {.word = "requests",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_kill, requests),
     .min = 1,
     .max = 1000000000,
     .fallback = "20",
     .help = "not before so many requests of the new version or variant within the time"},
    {.word = "within",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct config_kill, within_ms),
     .min = 1000,
     .max = CONFIG_MINUTES(1),
     .fallback = "10s",
     .help = "the time that is looked back"},
};
static const struct config_section kill_section = {
    .title = "kill switch",
    .help = "An absolute bound beside the comparison. `kill: 20%` is short for `kill: {errors: 20%}`.",
    CONFIG_WORDS(kill_words),
    .shorthand = "errors",
};

static const struct config_word ignore_words[] = {
    {.word = "path",
     .kind = CONFIG_KIND_TEXT,
     CONFIG_AT(struct rollout_ignore, path),
     .required = true,
     .help = "as `sluice diff` tells it: `body.items[].id`; `*` stands for any run of characters"},
    {.word = "reason",
     .kind = CONFIG_KIND_TEXT,
     CONFIG_AT(struct rollout_ignore, reason),
     .required = true,
     .help = "why a difference there is none, for whoever reads this later"},
};
static const struct config_section ignore_section = {
    .title = "ignored path",
    .help = "A path of answers that is not compared.",
    CONFIG_WORDS(ignore_words),
};

static const struct config_word diff_words[] = {
    {.word = "alpha",
     .kind = CONFIG_KIND_NUMBER,
     CONFIG_AT(struct rollout_diff_rules, alpha),
     .low = 0.000001,
     .high = 0.2,
     .fallback = "0.01",
     .help = "bound on taking a version that is no worse back in the shadow"},
    {.word = "ignore",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct rollout_diff_rules, ignores, ignore_count),
     .in_place = true,
     .max = ROLLOUT_IGNORES_MAX,
     .section = &ignore_section,
     .help = "paths that may differ; noise need not be named: the old version shows it"},
};
static const struct config_section diff_section = {
    .title = "diff",
    .help = "How answers are compared in a stage `shadow`.",
    CONFIG_WORDS(diff_words),
};

static void rollout_prepare(struct config_reader *reader, void *target)
{
    (void)reader;
    struct config_rollout *rollout = target;
    char name[ROLLOUT_NAME_BYTES];
    memcpy(name, rollout->spec.name, sizeof name);
    rollout_spec_init(&rollout->spec);
    memcpy(rollout->spec.name, name, sizeof name);
    rollout_spec_default_stages(&rollout->spec);
}

static void weights_check(struct config_reader *reader, const struct config_node *stages,
                          const struct rollout_spec *spec)
{
    uint32_t last = 0, weights = 0;
    const struct config_entry *entry = stages->first;
    for (uint32_t i = 0; i < spec->stage_count && i < stages->count; i++, entry = entry->next) {
        const struct rollout_stage *stage = &spec->stages[i];
        if (last == ROLLOUT_WEIGHT_FULL) {
            config_error_at(reader, entry->value, "no stage can come after the one with weight 100%%");
            return;
        }
        if (stage->kind != ROLLOUT_STAGE_WEIGHT || stage->weight == 0)
            continue;
        char before[16];
        struct text text = text_over(before, sizeof before);
        config_weight_write(last, &text);
        if (stage->weight <= last)
            config_error_at(reader, config_place(entry->value, "weight"),
                            "weights must grow from stage to stage; the one before has %s", before);
        last = stage->weight;
        weights++;
    }
    if (weights == 0 && reader->errors->count == 0)
        config_error_at(reader, stages, "no stage has a 'weight'; the new version would get no traffic");
}

static void shadow_check(struct config_reader *reader, const struct config_node *node,
                         const struct rollout_spec *spec)
{
    const struct config_node *stages = config_node_get(node, "stages");
    const struct config_entry *entry = stages != NULL ? stages->first : NULL;
    const struct rollout_stage *shadow = rollout_spec_shadow(spec);
    bool weighs = false;
    if (shadow == NULL && config_given(node, "diff"))
        config_error_at(reader, config_node_find(node, "diff")->key,
                        "'diff' says how answers are compared in a stage 'shadow', and no stage is one");
    for (uint32_t i = 0; i < spec->stage_count && entry != NULL; i++, entry = entry->next) {
        const struct rollout_stage *stage = &spec->stages[i];
        weighs |= stage->kind == ROLLOUT_STAGE_WEIGHT;
        if (stage->kind != ROLLOUT_STAGE_SHADOW)
            continue;
        const struct config_node *at = config_place(entry->value, "shadow");
        if (spec->target != ROLLOUT_TARGET_VERSION)
            config_error_at(reader, at,
                            "a stage 'shadow' belongs to rollouts of versions: two variants of a flag answer "
                            "through one version");
        else if (weighs)
            config_error_at(
                reader, at,
                "a stage 'shadow' comes before the first 'weight': nobody is to have an answer yet");
        else if (stage != shadow)
            config_error_at(reader, at, "a rollout has one stage 'shadow'");
    }
}

static void rollout_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct config_rollout *rollout = target;
    struct rollout_spec *spec = &rollout->spec;
    rollout->position = config_position_of(reader, node);
    rollout_spec_classify(spec);
    shadow_check(reader, node, spec);
    const struct config_node *stages = config_node_get(node, "stages");
    if (stages != NULL && stages->kind == CONFIG_NODE_LIST)
        weights_check(reader, stages, spec);
    // Events need not tell how long anything took: without times a baseline would be waited for in vain.
    if (spec->target == ROLLOUT_TARGET_FLAG && !config_given(node, "service") &&
        !config_given(config_node_get(node, "checks"), "latency"))
        spec->latency.on = false;
    config_checks_settle(reader, node, spec);
}

static const struct config_choice undecided_choices[] = {
    {"hold", ROLLOUT_UNDECIDED_HOLD},
    {"rollback", ROLLOUT_UNDECIDED_ROLLBACK},
    {"proceed", ROLLOUT_UNDECIDED_PROCEED},
    {NULL, 0},
};
static const struct config_choice evidence_choices[] = {{"stage", 0}, {"cumulative", 1}, {NULL, 0}};
static const struct config_choice start_choices[] = {{"manual", 0}, {"auto", 1}, {NULL, 0}};

static const struct config_word rollout_words[] = {
    {.word = "service",
     .kind = CONFIG_KIND_NAME,
     CONFIG_AT(struct rollout_spec, service),
     .required = true,
     .unless = "flag",
     .help = "the service whose version changes; of a flag's rollout, the service whose requests are the "
             "evidence (without it, evidence is what is sent to `/v1/events`)"},
    {.word = "flag",
     .kind = CONFIG_KIND_TEXT,
     CONFIG_AT(struct rollout_spec, flag),
     .help = "instead of a version: the flag whose variant changes"},
    {.word = "from",
     .kind = CONFIG_KIND_NAME,
     CONFIG_AT(struct rollout_spec, from),
     .help = "only with `flag`: the variant that is given today"},
    {.word = "to",
     .kind = CONFIG_KIND_NAME,
     CONFIG_AT(struct rollout_spec, to),
     .required = true,
     .help = "the version that is to become stable, or the variant that is to replace `from`"},
    {.word = "stages",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct rollout_spec, stages, stage_count),
     .in_place = true,
     .min = 1,
     .max = ROLLOUT_STAGES_MAX,
     .section = &config_stage_section,
     .fallback = "weights 1, 5, 10, 25, 50 and 100%",
     .help = "the steps, in order"},
    {.word = "checks",
     .kind = CONFIG_KIND_SECTION,
     .offset = 0,
     .size = sizeof(struct rollout_spec),
     .section = &config_checks_section,
     .fallback = "errors and latency",
     .help = "what the new version is compared in"},
    {.word = "diff",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct rollout_spec, diff),
     .section = &diff_section,
     .help = "how answers are compared in a stage `shadow`"},
    {.word = "alpha",
     .kind = CONFIG_KIND_NUMBER,
     CONFIG_AT(struct rollout_spec, alpha),
     .low = 0.000001,
     .high = 0.2,
     .fallback = "0.01",
     .help = "bound on rolling back a version that is no worse, over the whole rollout"},
    {.word = "beta",
     .kind = CONFIG_KIND_NUMBER,
     CONFIG_AT(struct rollout_spec, beta),
     .low = 0.000001,
     .high = 0.5,
     .fallback = "0.05",
     .help = "bound on promoting a version that is worse than the margin, per stage"},
    {.word = "undecided",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct rollout_spec, undecided),
     .choices = undecided_choices,
     .fallback = "hold",
     .help = "what happens at a stage's horizon without a verdict"},
    {.word = "evidence",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct rollout_spec, evidence_cumulative),
     .choices = evidence_choices,
     .fallback = "stage",
     .help =
         "for `prove: ratio` alone: whether the proof starts afresh in each stage or runs on; what moving on "
         "may cost is shown of each stage by itself"},
    {.word = "start",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct rollout_spec, start_auto),
     .choices = start_choices,
     .fallback = "manual",
     .help = "manual waits for `sluice rollout start`; auto begins when the daemon does"},
    {.word = "warmup",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct rollout_spec, warmup_ms),
     .max = CONFIG_DAY,
     .fallback = "30s",
     .help = "the new version's first time, whose latency and throughput are not counted"},
    {.word = "deadline",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct rollout_spec, deadline_ms),
     .min = 100,
     .max = ROLLOUT_DEADLINE_MS_MAX,
     .fallback = "30s",
     .help = "a request still without an answer after it counts as timed out"},
    {.word = "drain",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct rollout_spec, drain_ms),
     .max = CONFIG_DAY,
     .fallback = "30s",
     .help = "how long a rollback waits for requests in flight"},
    {.word = "keep",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct rollout_spec, keep_ms),
     .max = 30 * CONFIG_DAY,
     .fallback = "1h",
     .help = "how long after completion `undo` stays instant"},
    {.word = "kill",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_rollout, kill),
     .section = &kill_section,
     .optional = true,
     .help = "takes it back at once by its own failures, in rings too, where nothing is compared"},
    {.word = "outage",
     .kind = CONFIG_KIND_SHARE,
     CONFIG_AT(struct rollout_spec, outage),
     .low = 0.01,
     .high = 1,
     .zero = "off",
     .fallback = "50%",
     .help =
         "taken back at once when more than this share of the new version's requests fails in each of three "
         "seconds, and not of the old one's: a trigger, no test"},
    {.word = "triggers", .kind = CONFIG_KIND_LATER, .help = "triggers are"},
    {.word = "holdback", .kind = CONFIG_KIND_LATER, .help = "a holdback is"},
};
const struct config_section config_rollout_section = {
    .title = "rollout",
    .help = "Ships one version of one service, or one variant of one flag, by evidence.",
    CONFIG_WORDS(rollout_words),
    .prepared = true,
    .prepare = rollout_prepare,
    .finish = rollout_finish,
};

// ---- across sections ----

static void service_unknown(struct config_reader *reader, const struct config_node *node, const char *name)
{
    char hint[200];
    struct text text = text_over(hint, sizeof hint);
    const char *names[CONFIG_SERVICES_MAX];
    for (uint32_t i = 0; i < reader->config->service_count; i++)
        names[i] = reader->config->services[i].name;
    config_hint_known(&text, slice_of(name), names, reader->config->service_count);
    config_error_at(reader, node, "there is no service '%s'%s", name, hint);
}

// What the service knows and the rollout needs.
static void rollout_complete(struct rollout_spec *spec, const struct config_service *service)
{
    memcpy(spec->from, service->stable, sizeof spec->from);
    spec->keyed = service->unit.kind != CONFIG_UNIT_REQUEST;
    spec->control = service->control_endpoint_count > 0;
}

// Segments are for rollouts of flags: a ring gets the variant for good.
static void segments_check(struct config_reader *reader, const struct config_node *root,
                           const struct config_node *node, const struct rollout_spec *spec)
{
    const struct config_node *stages = config_node_get(node, "stages");
    const struct config_node *segments = config_node_get(root, "segments");
    const struct config_entry *entry = stages != NULL ? stages->first : NULL;
    for (uint32_t i = 0; i < spec->stage_count && entry != NULL; i++, entry = entry->next) {
        const struct rollout_stage *stage = &spec->stages[i];
        if (stage->kind != ROLLOUT_STAGE_SEGMENT)
            continue;
        const struct config_node *at = config_place(entry->value, "segment");
        if (spec->target != ROLLOUT_TARGET_FLAG)
            config_error_at(reader, at, "'segment' stages belong to rollouts of flags");
        else if (stage->segment[0] != '\0' && config_node_get(segments, stage->segment) == NULL)
            config_error_at(reader, at, "there is no segment '%s' in this file", stage->segment);
    }
}

static void flag_rollout_check(struct config_reader *reader, const struct config_node *node, uint32_t index)
{
    struct rollout_spec *spec = &reader->config->rollouts[index].spec;
    if (!reader->config->flags.given)
        config_error_at(reader, config_node_get(node, "flag"),
                        "this file has no 'flags'; say where flag '%s' comes from", spec->flag);
    if (spec->from[0] == '\0' && !config_given(node, "from"))
        config_error_at(reader, node, "rollout '%s' lacks the word 'from': the variant that is given today",
                        spec->name);
    else if (strcmp(spec->from, spec->to) == 0 && spec->to[0] != '\0')
        config_error_at(reader, config_node_get(node, "to"), "'from' and 'to' are the same variant '%s'",
                        spec->to);
    for (uint32_t i = 0; i < index; i++)
        if (strcmp(reader->config->rollouts[i].spec.flag, spec->flag) == 0)
            config_error_at(reader, config_node_get(node, "flag"),
                            "flag '%s' is in rollout '%s' already; one rollout at a time may drive it",
                            spec->flag, reader->config->rollouts[i].spec.name);
    spec->keyed = true;
    spec->control = false;
}

// Without a targeting key nobody is split: everybody would keep `from`, and no evidence would ever come.
static void split_key_check(struct config_reader *reader, const struct config_node *node,
                            const struct config_service *service)
{
    if (service->unit.kind == CONFIG_UNIT_REQUEST && service->flags.key.kind == CONFIG_ATTRIBUTE_NONE)
        config_error_at(reader, config_node_get(node, "service"),
                        "service '%s' has no key to split users by: give it a 'unit', or 'flags: {key: ...}'",
                        service->name);
}

static void service_rollout_check(struct config_reader *reader, const struct config_node *node,
                                  struct rollout_spec *spec, const struct config_service *service)
{
    if (config_given(node, "from"))
        config_error_at(reader, config_node_find(node, "from")->key,
                        "'from' belongs to rollouts of flags; a service's is its 'stable' version");
    if (spec->to[0] == '\0' || service->version_count == 0)
        return;
    if (config_version_find(service, spec->to) == NULL)
        config_version_unknown(reader, config_node_get(node, "to"), service, spec->to);
    else if (strcmp(spec->to, service->stable) == 0)
        config_error_at(reader, config_node_get(node, "to"),
                        "version '%s' is the stable one of service '%s' already; a rollout leads to another",
                        spec->to, service->name);
    if (rollout_spec_shadow(spec) != NULL) {
        config_copies_check(reader, config_node_get(node, "to"), service, spec->to);
        config_copies_check(reader, config_node_get(node, "to"), service, service->stable);
    }
    rollout_complete(spec, service);
}

static void rollout_check(struct config_reader *reader, const struct config_node *root,
                          const struct config_node *node, uint32_t index)
{
    struct rollout_spec *spec = &reader->config->rollouts[index].spec;
    bool of_flag = spec->target == ROLLOUT_TARGET_FLAG;
    segments_check(reader, root, node, spec);
    if (of_flag)
        flag_rollout_check(reader, node, index);
    // Missing or no name: told already. (A rollout with an error of its own was not classified, so its source
    // tells nothing here.)
    bool named = spec->service[0] != '\0';
    if (!named && !of_flag)
        return;
    const struct config_service *service = config_service_find(reader->config, spec->service);
    if (service == NULL && named) {
        service_unknown(reader, config_node_get(node, "service"), spec->service);
        return;
    }
    for (uint32_t i = 0; i < index && service != NULL; i++)
        if (strcmp(reader->config->rollouts[i].spec.service, spec->service) == 0)
            config_error_at(
                reader, config_node_get(node, "service"),
                "service '%s' is in rollout '%s' already; one rollout at a time may move its traffic",
                spec->service, reader->config->rollouts[i].spec.name);
    if (!of_flag)
        service_rollout_check(reader, node, spec, service);
    else if (service != NULL)
        split_key_check(reader, node, service);
    struct fault fault;
    if (reader->errors->count == 0 && rollout_spec_check(spec, &fault) != STATUS_OK)
        config_error_at(reader, node, "rollout '%s' cannot run: %s", spec->name, fault.text);
}

void config_rollouts_check(struct config_reader *reader, const struct config_node *root)
{
    if (reader->config->service_count == 0 && !reader->config->flags.given)
        return;
    const struct config_node *rollouts = config_node_get(root, "rollouts");
    const struct config_entry *entry = rollouts == NULL ? NULL : rollouts->first;
    for (uint32_t i = 0; i < reader->config->rollout_count && entry != NULL; i++, entry = entry->next)
        rollout_check(reader, root, entry->value, i);
}

// ---- looking up ----

const struct config_rollout *config_rollout_find(const struct config *config, const char *name)
{
    for (uint32_t i = 0; i < config->rollout_count; i++)
        if (strcmp(config->rollouts[i].spec.name, name) == 0)
            return &config->rollouts[i];
    return NULL;
}

const struct config_rollout *config_rollout_of_service(const struct config *config, const char *service)
{
    for (uint32_t i = 0; i < config->rollout_count; i++)
        if (strcmp(config->rollouts[i].spec.service, service) == 0)
            return &config->rollouts[i];
    return NULL;
}
