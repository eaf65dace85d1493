// SPDX-License-Identifier: Apache-2.0
// Stages of a rollout: a weight, a person's approval, a ring, or a shadow.
#include "base/check.h"
#include "daemon/config/config_private.h"

static void stage_prepare(struct config_reader *reader, void *target)
{
    (void)reader;
    struct rollout_spec spec;
    struct rollout_stage *stage = target;
    rollout_spec_init(&spec);
    rollout_spec_default_stages(&spec);
    CHECK(spec.stage_count > 0);
    *stage = spec.stages[0];
    stage->weight = 0;
    stage->by[0] = '\0';
    // The soak of the last one; taken back below when this stage is not at 100 %.
    stage->soak_ms = spec.stages[spec.stage_count - 1].soak_ms;
}

// A stage of a kind that knows no more than `kept`.
static void stage_alone(struct config_reader *reader, const struct config_node *node, const char *kind,
                        const char *kept)
{
    static const char *const others[] = {"weight", "for", "horizon", "soak", "segment", "approve", "shadow"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (strcmp(others[i], kind) != 0 && (kept == NULL || strcmp(others[i], kept) != 0) &&
            config_given(node, others[i]))
            config_error_at(reader, config_node_find(node, others[i])->key,
                            "'%s' and '%s' do not belong to one stage; write two", others[i], kind);
}

static void approve_stage_finish(struct config_reader *reader, const struct config_node *node,
                                 struct rollout_stage *stage)
{
    stage_alone(reader, node, "approve", NULL);
    stage->kind = ROLLOUT_STAGE_APPROVE;
    stage->weight = 0;
    stage->min_ms = stage->horizon_ms = stage->soak_ms = 0;
}

// Equal to `for` it would leave no time to wait for evidence. place: where `for` and `horizon` stand.
static void horizon_finish(struct config_reader *reader, const struct config_node *place,
                           struct rollout_stage *stage)
{
    if (!config_given(place, "horizon") && stage->horizon_ms < 2 * stage->min_ms)
        stage->horizon_ms = 2 * stage->min_ms;
    if (stage->horizon_ms < stage->min_ms)
        config_error_at(
            reader, config_node_get(place, "horizon"),
            "'horizon' is shorter than 'for': the stage would end undecided before it may be promoted");
}

static void shadow_stage_finish(struct config_reader *reader, const struct config_node *node,
                                struct rollout_stage *stage)
{
    stage_alone(reader, node, "shadow", NULL);
    stage->kind = ROLLOUT_STAGE_SHADOW;
    stage->weight = 0;
    stage->soak_ms = 0;
    horizon_finish(reader, config_node_get(node, "shadow"), stage);
}

static void stage_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct rollout_stage *stage = target;
    if (config_given(node, "shadow")) {
        shadow_stage_finish(reader, node, stage);
        return;
    }
    if (config_given(node, "approve")) {
        approve_stage_finish(reader, node, stage);
        return;
    }
    if (config_given(node, "segment")) {
        stage_alone(reader, node, "segment", "for");
        stage->kind = ROLLOUT_STAGE_SEGMENT;
        stage->weight = 0;
        stage->horizon_ms = stage->soak_ms = 0;
        return;
    }
    stage->kind = ROLLOUT_STAGE_WEIGHT;
    if (!config_given(node, "weight"))
        config_error_at(reader, node,
                        "this stage says neither 'weight' nor 'approve' nor 'segment' nor 'shadow'");
    if (config_given(node, "soak") && stage->weight != ROLLOUT_WEIGHT_FULL)
        config_error_at(reader, config_node_find(node, "soak")->key,
                        "'soak' belongs to the stage with weight 100%%");
    horizon_finish(reader, node, stage);
    if (stage->weight != ROLLOUT_WEIGHT_FULL)
        stage->soak_ms = 0;
    else if (!config_given(node, "soak") && config_given(node, "for") && stage->min_ms > stage->soak_ms)
        stage->soak_ms = stage->min_ms;
}

static const struct config_word approve_words[] = {
    {.word = "by",
     .kind = CONFIG_KIND_NAME,
     CONFIG_AT(struct rollout_stage, by),
     .help = "who may approve; without it any approver"},
};
static const struct config_section approve_section = {
    .title = "approve",
    .help = "Waits for a person. `approve: sre` is short for `approve: {by: sre}`.",
    CONFIG_WORDS(approve_words),
    .shorthand = "by",
};

static const struct config_word ring_words[] = {
    {.word = "name",
     .kind = CONFIG_KIND_NAME,
     CONFIG_AT(struct rollout_stage, segment),
     .required = true,
     .help = "a segment of this file"},
    {.word = "for",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct rollout_stage, min_ms),
     .max = 30 * CONFIG_DAY,
     .help = "time in this stage, as the stage's own `for`"},
};
static const struct config_section ring_section = {
    .title = "ring",
    .help = "Everybody in a segment gets the new variant. `segment: internal` is short for "
            "`segment: {name: internal}`.",
    CONFIG_WORDS(ring_words),
    .shorthand = "name",
};

static const struct config_word shadow_words[] = {
    {.word = "share",
     .kind = CONFIG_KIND_WEIGHT,
     CONFIG_AT(struct rollout_stage, shadow.share),
     .min = 1,
     .max = ROLLOUT_WEIGHT_FULL,
     .fallback = "10%",
     .help = "share of the service's requests of which the new version gets a copy"},
    {.word = "for",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct rollout_stage, min_ms),
     .max = 30 * CONFIG_DAY,
     .fallback = "10m",
     .help = "least time in this stage, however good the evidence"},
    {.word = "horizon",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct rollout_stage, horizon_ms),
     .min = 1000,
     .max = 90 * CONFIG_DAY,
     .fallback = "1h",
     .help = "time after which a stage without a verdict is undecided; by default at least twice `for`"},
    {.word = "compared",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct rollout_stage, shadow.compared),
     .min = 100,
     .max = 1000000000,
     .fallback = "1000",
     .help =
         "not before so many answers were compared; `sluice check` says what share of wrong ones is found"},
    {.word = "secondary",
     .kind = CONFIG_KIND_WEIGHT,
     CONFIG_AT(struct rollout_stage, shadow.secondary),
     .min = 1000,
     .max = ROLLOUT_WEIGHT_FULL,
     .fallback = "100%",
     .help =
         "share of the copies that the old version gets once more, to see how it differs from itself; only "
         "these are evidence of what differs"},
    {.word = "timeout",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct rollout_stage, shadow.timeout_ms),
     .min = ROLLOUT_TICK_MS,
     .max = ROLLOUT_DEADLINE_MS_MAX,
     .fallback = "10s",
     .help = "for an answer to a copy"},
    {.word = "unsafe",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct rollout_stage, shadow.unsafe),
     .choices = config_false_or_true,
     .fallback = "false",
     .help =
         "`true`: also methods beside GET, HEAD and OPTIONS, as of a mirror: what they do is done with each "
         "copy once more"},
};
static const struct config_section shadow_section = {
    .title = "shadow",
    .help =
        "The new version answers copies of requests, and nobody gets its answers. `shadow: 10%` is short for "
        "`shadow: {share: 10%}`.",
    CONFIG_WORDS(shadow_words),
    .shorthand = "share",
};

static const struct config_word stage_words[] = {
    {.word = "weight",
     .kind = CONFIG_KIND_WEIGHT,
     CONFIG_AT(struct rollout_stage, weight),
     .min = 1,
     .max = ROLLOUT_WEIGHT_FULL,
     .help = "share of live traffic the new version gets; grows from stage to stage"},
    {.word = "for",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct rollout_stage, min_ms),
     .max = 30 * CONFIG_DAY,
     .fallback = "10m",
     .help = "least time in this stage, however good the evidence"},
    {.word = "horizon",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct rollout_stage, horizon_ms),
     .min = 1000,
     .max = 90 * CONFIG_DAY,
     .fallback = "1h",
     .help = "time after which a stage without a verdict is undecided; by default at least twice `for`"},
    {.word = "soak",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct rollout_stage, soak_ms),
     .max = 30 * CONFIG_DAY,
     .fallback = "1h",
     .help = "only at weight 100%: how long the watch goes on before the rollout is complete"},
    {.word = "approve",
     .kind = CONFIG_KIND_SECTION,
     .offset = 0,
     .size = sizeof(struct rollout_stage),
     .optional = true,
     .section = &approve_section,
     .help = "instead of a weight: wait for a person"},
    {.word = "shadow",
     .kind = CONFIG_KIND_SECTION,
     .offset = 0,
     .size = sizeof(struct rollout_stage),
     .optional = true,
     .section = &shadow_section,
     .help = "instead of a weight, before the first one: copies of requests"},
    {.word = "segment",
     .kind = CONFIG_KIND_SECTION,
     .offset = 0,
     .size = sizeof(struct rollout_stage),
     .optional = true,
     .section = &ring_section,
     .help = "instead of a weight, of a flag's rollout: a ring, whose members get the variant for good"},
};
const struct config_section config_stage_section = {
    .title = "stage",
    .help = "One step of a rollout: a `weight`, an `approve`, a `segment` or a `shadow`.",
    CONFIG_WORDS(stage_words),
    .prepared = true,
    .prepare = stage_prepare,
    .finish = stage_finish,
};
