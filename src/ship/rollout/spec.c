// SPDX-License-Identifier: Apache-2.0
// Defaults, checks and wire form of a rollout's specification. What rollout_spec_check lets through, the
// machine can run without meeting a broken invariant of the statistics below it.
#include "ship/rollout/spec.h"

#include <string.h>

#include "base/check.h"

enum {
    // 1 had neither flags nor segments, 2 no rule, 3 no errors_id, 4 no shadow; all are still read.
    SPEC_WIRE_VERSION = 5,
    MINUTE_MS = 60000,
};

static const uint64_t DURATION_MS_MAX = 366ull * 86400 * 1000;

void rollout_spec_init(struct rollout_spec *spec)
{
    *spec = (struct rollout_spec){
        .rule = ROLLOUT_RULE,
        .errors =
            {.on = true, .share = 0.45, .worse = 1.1, .floor = 0.0002, .budget = 0.002, .negligible = 0.001},
        .latency = {.on = true,
                    .share = 0.45,
                    .worse = 1.25,
                    .margin = 1.25,
                    .budget = 0.01,
                    .baseline_requests = 10000,
                    .slack_ms = 1},
        .throughput = {.on = false, .share = 0.0, .margin = 1.1},
        .statuses = {.on = true, .share = 0.1, .worse = 1.25, .floor = 0.002, .budget = 0.01},
        .diff = {.alpha = 0.01},
        .outage = 0.5,
        .alpha = 0.01,
        .beta = 0.05,
        .undecided = ROLLOUT_UNDECIDED_HOLD,
        .warmup_ms = MINUTE_MS / 2,
        .deadline_ms = MINUTE_MS / 2,
        .drain_ms = MINUTE_MS / 2,
        .keep_ms = 60 * MINUTE_MS,
    };
}

void rollout_spec_classify(struct rollout_spec *spec)
{
    spec->target = spec->flag[0] != '\0' ? ROLLOUT_TARGET_FLAG : ROLLOUT_TARGET_VERSION;
    spec->source = spec->service[0] != '\0' ? ROLLOUT_SOURCE_REQUESTS : ROLLOUT_SOURCE_EVENTS;
}

const struct rollout_stage *rollout_spec_shadow(const struct rollout_spec *spec)
{
    for (uint32_t i = 0; i < spec->stage_count; i++)
        if (spec->stages[i].kind == ROLLOUT_STAGE_SHADOW)
            return &spec->stages[i];
    return NULL;
}

void rollout_spec_default_stages(struct rollout_spec *spec)
{
    static const uint32_t percents[] = {1, 5, 10, 25, 50, 100};
    spec->stage_count = ARRAY_LEN(percents);
    for (uint32_t i = 0; i < spec->stage_count; i++) {
        spec->stages[i] = (struct rollout_stage){
            .kind = ROLLOUT_STAGE_WEIGHT,
            .weight = percents[i] * (ROLLOUT_WEIGHT_FULL / 100),
            .min_ms = 10 * MINUTE_MS,
            .horizon_ms = 60 * MINUTE_MS,
            .soak_ms = 60 * MINUTE_MS,
        };
    }
}

void rollout_spec_upgrade(struct rollout_spec *spec)
{
    struct rollout_spec fresh;
    rollout_spec_init(&fresh);
    spec->rule = ROLLOUT_RULE;
    if (spec->errors.worse < fresh.errors.worse)
        spec->errors.worse = fresh.errors.worse;
    spec->errors.floor = fresh.errors.floor;
    bool ratio = spec->errors.margin > 0.0 || spec->errors.negligible < fresh.errors.negligible ||
                 spec->errors.negligible > fresh.errors.negligible;
    spec->errors.prove = ratio ? ROLLOUT_PROVE_RATIO : ROLLOUT_PROVE_BUDGET; // as the file's words are read
    spec->errors.budget = fresh.errors.budget;
    spec->latency.worse = fresh.latency.worse;
    spec->latency.budget = fresh.latency.budget;
    spec->statuses = fresh.statuses;
    spec->outage = fresh.outage;
    double left = 1.0 - spec->statuses.share;
    spec->errors.share *= left;
    spec->latency.share *= left;
    spec->throughput.share *= left;
}

// ---- checks ----

// False for NaN too.
static bool within(double value, double low, double high)
{
    return value >= low && value <= high;
}

static bool text_ends(const char *text, size_t cap)
{
    return memchr(text, 0, cap) != NULL;
}

static const char *check_names(const struct rollout_spec *spec)
{
    if (!text_ends(spec->name, sizeof spec->name) || !text_ends(spec->service, sizeof spec->service) ||
        !text_ends(spec->flag, sizeof spec->flag) || !text_ends(spec->from, sizeof spec->from) ||
        !text_ends(spec->to, sizeof spec->to))
        return "a name is longer than 63 bytes";
    struct rollout_spec named = *spec;
    rollout_spec_classify(&named);
    if (spec->name[0] == '\0' ||
        (named.target == ROLLOUT_TARGET_VERSION && named.source == ROLLOUT_SOURCE_EVENTS))
        return "a rollout needs a name and a service or a flag";
    if (named.target != spec->target || named.source != spec->source)
        return "what a rollout moves is not what it names";
    if (spec->from[0] == '\0' || spec->to[0] == '\0')
        return "a rollout needs the version it comes from and the one it goes to";
    if (strcmp(spec->from, spec->to) == 0)
        return "a rollout from a version to itself changes nothing";
    return NULL;
}

static const char *check_stage(const struct rollout_stage *stage, uint32_t weight_before)
{
    if (stage->min_ms > DURATION_MS_MAX || stage->horizon_ms > DURATION_MS_MAX ||
        stage->soak_ms > DURATION_MS_MAX)
        return "a stage's times are at most a year";
    if (stage->weight < 1 || stage->weight > ROLLOUT_WEIGHT_FULL)
        return "a stage's weight is above 0 and at most 100 %";
    if (stage->weight <= weight_before)
        return weight_before == ROLLOUT_WEIGHT_FULL ? "nothing can come after the stage of 100 %"
                                                    : "weights must grow from stage to stage";
    if (stage->weight < ROLLOUT_WEIGHT_FULL && stage->horizon_ms < stage->min_ms)
        return "a stage's horizon is at least its minimum time";
    return NULL;
}

static const char *check_ring(const struct rollout_spec *spec, const struct rollout_stage *stage,
                              uint32_t weight_before)
{
    if (spec->target != ROLLOUT_TARGET_FLAG)
        return "segments belong to rollouts of flags";
    if (!text_ends(stage->segment, sizeof stage->segment) || stage->segment[0] == '\0')
        return "a segment has a name of 1 to 63 bytes";
    if (stage->min_ms > DURATION_MS_MAX)
        return "a stage's times are at most a year";
    if (weight_before == ROLLOUT_WEIGHT_FULL)
        return "nothing can come after the stage of 100 %";
    return NULL;
}

static const char *check_diff(const struct rollout_diff_rules *diff)
{
    if (!within(diff->alpha, 1e-9, 0.5))
        return "diff: alpha is above 0 and at most 0.5";
    if (diff->ignore_count > ROLLOUT_IGNORES_MAX)
        return "diff: at most 16 paths are ignored";
    for (uint32_t i = 0; i < diff->ignore_count; i++) {
        const struct rollout_ignore *ignore = &diff->ignores[i];
        if (!text_ends(ignore->path, sizeof ignore->path) ||
            !text_ends(ignore->reason, sizeof ignore->reason) || ignore->path[0] == '\0' ||
            ignore->reason[0] == '\0')
            return "diff: an ignored path and its reason have 1 to 127 bytes";
    }
    return NULL;
}

static const char *check_shadow(const struct rollout_spec *spec, const struct rollout_stage *stage,
                                uint32_t weight_before)
{
    const struct rollout_shadow_rules *shadow = &stage->shadow;
    if (spec->target != ROLLOUT_TARGET_VERSION)
        return "a stage in the shadow belongs to rollouts of versions";
    if (weight_before > 0)
        return "a stage in the shadow comes before the first weight";
    if (stage != rollout_spec_shadow(spec))
        return "a rollout has one stage in the shadow";
    if (stage->min_ms > DURATION_MS_MAX || stage->horizon_ms > DURATION_MS_MAX)
        return "a stage's times are at most a year";
    if (stage->horizon_ms < stage->min_ms)
        return "a stage's horizon is at least its minimum time";
    if (shadow->share < 1 || shadow->share > ROLLOUT_WEIGHT_FULL || shadow->secondary < 1 ||
        shadow->secondary > ROLLOUT_WEIGHT_FULL)
        return "shadow: share and secondary are above 0 and at most 100 %";
    if (shadow->compared < 1 || shadow->compared > 1000000000)
        return "shadow: 1 to 10^9 requests are compared";
    if (shadow->timeout_ms < ROLLOUT_TICK_MS || shadow->timeout_ms > ROLLOUT_DEADLINE_MS_MAX)
        return "shadow: the timeout is 100 ms to 60 s";
    return check_diff(&spec->diff);
}

static const char *check_stages(const struct rollout_spec *spec)
{
    if (spec->stage_count < 1 || spec->stage_count > ROLLOUT_STAGES_MAX)
        return "a rollout has 1 to 32 stages";
    uint32_t weight = 0, rings = 0;
    for (uint32_t i = 0; i < spec->stage_count; i++) {
        const struct rollout_stage *stage = &spec->stages[i];
        if (stage->kind == ROLLOUT_STAGE_APPROVE) {
            if (!text_ends(stage->by, sizeof stage->by))
                return "a name is longer than 63 bytes";
            if (weight == ROLLOUT_WEIGHT_FULL)
                return "nothing can come after the stage of 100 %";
            continue;
        }
        if (stage->kind == ROLLOUT_STAGE_SEGMENT) {
            const char *why = check_ring(spec, stage, weight);
            if (why != NULL)
                return why;
            rings++;
            continue;
        }
        if (stage->kind == ROLLOUT_STAGE_SHADOW) {
            const char *why = check_shadow(spec, stage, weight);
            if (why != NULL)
                return why;
            continue;
        }
        if (stage->kind != ROLLOUT_STAGE_WEIGHT)
            return "a stage is a weight, an approval, a segment or a shadow";
        const char *why = check_stage(stage, weight);
        if (why != NULL)
            return why;
        weight = stage->weight;
    }
    if (rings > ROLLOUT_RINGS_MAX)
        return "a rollout has at most 8 segments";
    return weight == 0 ? "at least one stage must have a weight" : NULL;
}

static const char *check_checks(const struct rollout_spec *spec)
{
    const struct rollout_check_errors *errors = &spec->errors;
    const struct rollout_check_latency *latency = &spec->latency;
    const struct rollout_check_throughput *throughput = &spec->throughput;
    const struct rollout_check_statuses *statuses = &spec->statuses;
    if (!errors->on && !latency->on && !throughput->on && !statuses->on)
        return "at least one check must be on";
    if ((errors->on && !within(errors->share, 1e-6, 1.0)) ||
        (latency->on && !within(latency->share, 1e-6, 1.0)) ||
        (throughput->on && !within(throughput->share, 1e-6, 1.0)) ||
        (statuses->on && !within(statuses->share, 1e-6, 1.0)))
        return "the share of a check that is on is above 0 and at most 1";
    if (errors->on && !within(errors->worse, 1.0, 1000.0))
        return "errors: worse is a factor from 1 to 1000";
    if (errors->on && !within(errors->margin, 0.0, 0.0) && !within(errors->margin, 1.001, 1000.0))
        return "errors: margin is a factor above 1, at most 1000";
    if (errors->on && !within(errors->negligible, 0.0, 0.0) && !within(errors->negligible, 1e-6, 0.5))
        return "errors: negligible is a rate from 0.0001 % to 50 %";
    if (errors->on && (!within(errors->floor, 0.0, 0.5) || !within(errors->budget, 1e-6, 1.0)))
        return "errors: floor is a rate up to 50 %, budget a share from 0.0001 %";
    if ((unsigned)errors->prove > ROLLOUT_PROVE_RATIO)
        return "errors: prove is budget or ratio";
    if (latency->on && (!within(latency->worse, 1.0, 1000.0) || !within(latency->budget, 1e-6, 1.0)))
        return "latency: worse is a factor from 1 to 1000, budget a share from 0.0001 %";
    if (statuses->on && (!within(statuses->worse, 1.0, 1000.0) || !within(statuses->floor, 0.0, 0.5) ||
                         !within(statuses->budget, 1e-6, 1.0)))
        return "statuses: worse is a factor from 1 to 1000, floor a rate up to 50 %, budget a share";
    if (latency->on && !within(latency->margin, 1.001, 1000.0))
        return "latency: margin is a factor above 1, at most 1000";
    if (latency->on && (latency->baseline_requests < 1 || latency->baseline_requests > 1000000000))
        return "latency: the baseline is 1 to 10^9 requests";
    if (latency->on && latency->slack_ms > ROLLOUT_DEADLINE_MS_MAX)
        return "latency: the slack is longer than any deadline";
    if (throughput->on && !within(throughput->margin, 1.0001, 1000.0))
        return "throughput: margin is a factor above 1, at most 1000";
    return NULL;
}

static const char *check_rest(const struct rollout_spec *spec)
{
    if (spec->rule != ROLLOUT_RULE)
        return "its rule of decision is another version's";
    if (!within(spec->outage, 0.0, 1.0))
        return "the outage trigger is a share up to 100 %";
    if (!within(spec->alpha, 1e-9, 0.5) || !within(spec->beta, 1e-9, 0.5))
        return "alpha and beta are above 0 and at most 0.5";
    if ((unsigned)spec->undecided > ROLLOUT_UNDECIDED_PROCEED)
        return "undecided is hold, rollback or proceed";
    if (spec->deadline_ms < ROLLOUT_TICK_MS || spec->deadline_ms > ROLLOUT_DEADLINE_MS_MAX)
        return "the deadline is 100 ms to 60 s";
    if (spec->warmup_ms > DURATION_MS_MAX || spec->drain_ms > DURATION_MS_MAX ||
        spec->keep_ms > DURATION_MS_MAX || spec->errors.window_ms > DURATION_MS_MAX)
        return "times are at most a year";
    return NULL;
}

enum status rollout_spec_check(const struct rollout_spec *spec, struct fault *fault)
{
    const char *(*const checks[])(const struct rollout_spec *) = {check_names, check_stages, check_checks,
                                                                  check_rest};
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        const char *sentence = checks[i](spec);
        if (sentence != NULL)
            return fault_set(fault, STATUS_INVALID, "%s", sentence);
    }
    return STATUS_OK;
}

// ---- wire ----

static void put_text(struct wire_writer *writer, const char *storage, size_t cap)
{
    wire_put_bytes(writer, (struct slice){storage, strnlen(storage, cap - 1)});
}

static void put_name(struct wire_writer *writer, const char *name)
{
    put_text(writer, name, ROLLOUT_NAME_BYTES);
}

static void put_shadow(struct wire_writer *writer, const struct rollout_shadow_rules *shadow)
{
    wire_put_u64(writer, shadow->share);
    wire_put_u64(writer, shadow->secondary);
    wire_put_u64(writer, shadow->compared);
    wire_put_u64(writer, shadow->timeout_ms);
    wire_put_u64(writer, shadow->unsafe);
}

static void put_stage(struct wire_writer *writer, const struct rollout_stage *stage)
{
    wire_put_u64(writer, stage->kind);
    wire_put_u64(writer, stage->weight);
    wire_put_u64(writer, stage->min_ms);
    wire_put_u64(writer, stage->horizon_ms);
    wire_put_u64(writer, stage->soak_ms);
    put_name(writer, stage->by);
    put_name(writer, stage->segment);
    if (stage->kind == ROLLOUT_STAGE_SHADOW)
        put_shadow(writer, &stage->shadow);
}

static void put_diff(struct wire_writer *writer, const struct rollout_diff_rules *diff)
{
    CHECK(diff->ignore_count <= ROLLOUT_IGNORES_MAX);
    wire_put_double(writer, diff->alpha);
    wire_put_u64(writer, diff->ignore_count);
    for (uint32_t i = 0; i < diff->ignore_count; i++) {
        put_text(writer, diff->ignores[i].path, sizeof diff->ignores[i].path);
        put_text(writer, diff->ignores[i].reason, sizeof diff->ignores[i].reason);
    }
}

static void put_checks(struct wire_writer *writer, const struct rollout_spec *spec)
{
    wire_put_u64(writer, spec->errors.on);
    wire_put_double(writer, spec->errors.share);
    wire_put_double(writer, spec->errors.worse);
    wire_put_double(writer, spec->errors.margin);
    wire_put_double(writer, spec->errors.negligible);
    wire_put_u64(writer, spec->errors.window_ms);
    wire_put_u64(writer, spec->latency.on);
    wire_put_double(writer, spec->latency.share);
    wire_put_double(writer, spec->latency.margin);
    wire_put_u64(writer, spec->latency.baseline_requests);
    wire_put_u64(writer, spec->latency.slack_ms);
    wire_put_u64(writer, spec->throughput.on);
    wire_put_double(writer, spec->throughput.share);
    wire_put_double(writer, spec->throughput.margin);
    wire_put_double(writer, spec->errors.floor);
    wire_put_u64(writer, spec->errors.prove);
    wire_put_double(writer, spec->errors.budget);
    wire_put_double(writer, spec->latency.worse);
    wire_put_double(writer, spec->latency.budget);
    wire_put_u64(writer, spec->statuses.on);
    wire_put_double(writer, spec->statuses.share);
    wire_put_double(writer, spec->statuses.worse);
    wire_put_double(writer, spec->statuses.floor);
    wire_put_double(writer, spec->statuses.budget);
    wire_put_double(writer, spec->outage);
}

void rollout_spec_encode(const struct rollout_spec *spec, struct wire_writer *writer)
{
    CHECK(spec->stage_count <= ROLLOUT_STAGES_MAX);
    wire_put_u64(writer, SPEC_WIRE_VERSION);
    wire_put_u64(writer, spec->rule);
    wire_put_u64(writer, spec->salt[0]);
    wire_put_u64(writer, spec->salt[1]);
    put_name(writer, spec->name);
    put_name(writer, spec->flag);
    put_name(writer, spec->service);
    put_name(writer, spec->from);
    put_name(writer, spec->to);
    wire_put_u64(writer, spec->stage_count);
    for (uint32_t i = 0; i < spec->stage_count; i++)
        put_stage(writer, &spec->stages[i]);
    put_checks(writer, spec);
    wire_put_double(writer, spec->alpha);
    wire_put_double(writer, spec->beta);
    wire_put_u64(writer, spec->undecided);
    wire_put_u64(writer, spec->evidence_cumulative);
    wire_put_u64(writer, spec->keyed);
    wire_put_u64(writer, spec->control);
    wire_put_u64(writer, spec->start_auto);
    wire_put_u64(writer, spec->warmup_ms);
    wire_put_u64(writer, spec->deadline_ms);
    wire_put_u64(writer, spec->drain_ms);
    wire_put_u64(writer, spec->keep_ms);
    wire_put_u64(writer, spec->errors_id);
    if (rollout_spec_shadow(spec) != NULL)
        put_diff(writer, &spec->diff);
}

static uint64_t get_at_most(struct wire_reader *reader, uint64_t most)
{
    uint64_t value = wire_get_u64(reader);
    if (value <= most)
        return value;
    reader->bad = true;
    return 0;
}

// NaN and infinities are no settings.
static double get_setting(struct wire_reader *reader)
{
    double value = wire_get_double(reader);
    if (within(value, -1e12, 1e12))
        return value;
    reader->bad = true;
    return 0.0;
}

static void get_shadow(struct wire_reader *reader, struct rollout_shadow_rules *shadow)
{
    shadow->share = (uint32_t)get_at_most(reader, ROLLOUT_WEIGHT_FULL);
    shadow->secondary = (uint32_t)get_at_most(reader, ROLLOUT_WEIGHT_FULL);
    shadow->compared = wire_get_u64(reader);
    shadow->timeout_ms = get_at_most(reader, ROLLOUT_DEADLINE_MS_MAX);
    shadow->unsafe = get_at_most(reader, 1) != 0;
}

static void get_stage(struct wire_reader *reader, uint64_t version, struct rollout_stage *stage)
{
    stage->kind = (enum rollout_stage_kind)get_at_most(reader, ROLLOUT_STAGE_SHADOW);
    stage->weight = (uint32_t)get_at_most(reader, ROLLOUT_WEIGHT_FULL);
    stage->min_ms = get_at_most(reader, DURATION_MS_MAX);
    stage->horizon_ms = get_at_most(reader, DURATION_MS_MAX);
    stage->soak_ms = get_at_most(reader, DURATION_MS_MAX);
    wire_get_string(reader, stage->by, sizeof stage->by);
    if (version >= 2)
        wire_get_string(reader, stage->segment, sizeof stage->segment);
    if (stage->kind == ROLLOUT_STAGE_SHADOW)
        get_shadow(reader, &stage->shadow);
}

static void get_diff(struct wire_reader *reader, struct rollout_diff_rules *diff)
{
    diff->alpha = get_setting(reader);
    diff->ignore_count = (uint32_t)get_at_most(reader, ROLLOUT_IGNORES_MAX);
    for (uint32_t i = 0; i < diff->ignore_count && !reader->bad; i++) {
        wire_get_string(reader, diff->ignores[i].path, sizeof diff->ignores[i].path);
        wire_get_string(reader, diff->ignores[i].reason, sizeof diff->ignores[i].reason);
    }
}

static void get_checks(struct wire_reader *reader, uint64_t version, struct rollout_spec *spec)
{
    spec->errors.on = get_at_most(reader, 1);
    spec->errors.share = get_setting(reader);
    spec->errors.worse = get_setting(reader);
    spec->errors.margin = get_setting(reader);
    spec->errors.negligible = get_setting(reader);
    spec->errors.window_ms = get_at_most(reader, DURATION_MS_MAX);
    spec->latency.on = get_at_most(reader, 1);
    spec->latency.share = get_setting(reader);
    spec->latency.margin = get_setting(reader);
    spec->latency.baseline_requests = get_at_most(reader, 1000000000);
    spec->latency.slack_ms = get_at_most(reader, ROLLOUT_DEADLINE_MS_MAX);
    spec->throughput.on = get_at_most(reader, 1);
    spec->throughput.share = get_setting(reader);
    spec->throughput.margin = get_setting(reader);
    if (version < 3)
        return;
    spec->errors.floor = get_setting(reader);
    spec->errors.prove = (enum rollout_prove)get_at_most(reader, ROLLOUT_PROVE_RATIO);
    spec->errors.budget = get_setting(reader);
    spec->latency.worse = get_setting(reader);
    spec->latency.budget = get_setting(reader);
    spec->statuses.on = get_at_most(reader, 1);
    spec->statuses.share = get_setting(reader);
    spec->statuses.worse = get_setting(reader);
    spec->statuses.floor = get_setting(reader);
    spec->statuses.budget = get_setting(reader);
    spec->outage = get_setting(reader);
}

enum status rollout_spec_decode(struct wire_reader *reader, struct rollout_spec *spec)
{
    struct rollout_spec out = {.stage_count = 0};
    uint64_t version = wire_get_u64(reader);
    if (!reader->bad && version > SPEC_WIRE_VERSION)
        return STATUS_UNSUPPORTED;
    if (version < 1)
        reader->bad = true;
    out.rule = version < 3 ? ROLLOUT_RULE_REQUESTS : (uint32_t)get_at_most(reader, UINT32_MAX);
    for (int i = 0; i < 2 && version >= 3; i++)
        out.salt[i] = wire_get_u64(reader);
    wire_get_string(reader, out.name, sizeof out.name);
    if (version >= 2)
        wire_get_string(reader, out.flag, sizeof out.flag);
    wire_get_string(reader, out.service, sizeof out.service);
    wire_get_string(reader, out.from, sizeof out.from);
    wire_get_string(reader, out.to, sizeof out.to);
    out.stage_count = (uint32_t)get_at_most(reader, ROLLOUT_STAGES_MAX);
    for (uint32_t i = 0; i < out.stage_count && !reader->bad; i++)
        get_stage(reader, version, &out.stages[i]);
    get_checks(reader, version, &out);
    out.alpha = get_setting(reader);
    out.beta = get_setting(reader);
    out.undecided = (enum rollout_undecided)get_at_most(reader, ROLLOUT_UNDECIDED_PROCEED);
    out.evidence_cumulative = get_at_most(reader, 1);
    out.keyed = get_at_most(reader, 1);
    out.control = get_at_most(reader, 1);
    out.start_auto = get_at_most(reader, 1);
    out.warmup_ms = get_at_most(reader, DURATION_MS_MAX);
    out.deadline_ms = get_at_most(reader, ROLLOUT_DEADLINE_MS_MAX);
    out.drain_ms = get_at_most(reader, DURATION_MS_MAX);
    out.keep_ms = get_at_most(reader, DURATION_MS_MAX);
    out.errors_id = version >= 4 ? wire_get_u64(reader) : 0;
    if (rollout_spec_shadow(&out) != NULL)
        get_diff(reader, &out.diff);
    if (reader->bad)
        return STATUS_CORRUPT;
    rollout_spec_classify(&out);
    *spec = out;
    return STATUS_OK;
}
