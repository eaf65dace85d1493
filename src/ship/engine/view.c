// SPDX-License-Identifier: Apache-2.0
// What people look at: rollouts with their arms, and health. Reads only.
#include <string.h>

#include "base/check.h"
#include "ship/engine/engine_private.h"

int64_t engine_wall_ms(const struct engine *engine)
{
    return io_loop_wall_ms(engine->loop);
}

const struct config *engine_config(const struct engine *engine)
{
    return engine->config;
}

const struct engine_stables *engine_stables_of(const struct engine *engine)
{
    return &engine->stables;
}

struct io_loop *engine_loop(const struct engine *engine)
{
    return engine->loop;
}

struct log *engine_log_of(const struct engine *engine)
{
    return engine->log;
}

void *engine_world(const struct engine *engine)
{
    return engine->world;
}

uint32_t engine_rollout_count(const struct engine *engine)
{
    return engine->rollout_count;
}

int engine_view_find(const struct engine *engine, const char *name)
{
    for (uint32_t i = 0; i < engine->rollout_count; i++)
        if (strcmp(engine->rollouts[i].name, name) == 0)
            return (int)i;
    return -1;
}

const char *engine_rollout_nearest(const struct engine *engine, const char *name)
{
    const char *names[ENGINE_ROLLOUTS_MAX];
    for (uint32_t i = 0; i < engine->rollout_count; i++)
        names[i] = engine->rollouts[i].name;
    return config_nearest(slice_of(name), names, engine->rollout_count);
}

static void arm_latency(struct engine *engine, const struct engine_rollout *rollout,
                        const struct rollout_spec *spec, int index, struct engine_arm *arm)
{
    struct stats_histogram *seen = engine->histogram;
    uint64_t since;
    if (!engine->targets[spec->target]->latency(engine->world, spec, arm->version, seen, &since))
        return;
    if (rollout->latency_before != NULL && rollout->latency_since[index] == since)
        stats_histogram_subtract(seen, &rollout->latency_before[index]);
    arm->latency_count = seen->count;
    arm->p50_us = stats_histogram_quantile(seen, 0.5);
    arm->p90_us = stats_histogram_quantile(seen, 0.9);
    arm->p99_us = stats_histogram_quantile(seen, 0.99);
    arm->p999_us = stats_histogram_quantile(seen, 0.999);
}

static void fill_arm(struct engine *engine, const struct engine_rollout *rollout, int index,
                     struct engine_view *view)
{
    struct engine_arm *arm = &view->arms[index];
    CHECK(view->spec != NULL);
    const char *version = engine_arm_name(view->spec, index);
    *arm = (struct engine_arm){.present = version != NULL};
    if (version == NULL)
        return;
    size_t len = strlen(version);
    CHECK(len < sizeof arm->version);
    memcpy(arm->version, version, len + 1);
    arm_latency(engine, rollout, view->spec, index, arm);
    if (rollout->record == NULL)
        return;
    arm->sum = rollout->record->arms[index];
    // The present tick is still being filled.
    uint32_t ticks = rollout->rate_ticks < 2 ? 1 : rollout->rate_ticks - 1;
    arm->rate = (double)rollout->rate_sum[index] / (ticks * ROLLOUT_TICK_MS / 1000.0);
    uint64_t routed = 0;
    for (int i = 0; i < ROLLOUT_ARMS; i++)
        routed += view->view.stage_routed[i];
    if (routed > 0)
        arm->share = (double)view->view.stage_routed[index] / (double)routed;
}

// The newest decision with a verdict is the one that the view shows as the last.
static const char *failures_told(const struct engine_record *record)
{
    const struct engine_decision *decision;
    for (uint64_t i = 0; (decision = engine_record_decision(record, i)) != NULL; i++)
        if (decision->effects.has_verdict)
            return decision->run == record->run ? decision->failures : "";
    return "";
}

const struct rollout_failures *engine_failures(struct engine *engine, uint32_t index)
{
    const struct engine_rollout *rollout = engine_rollout_at(engine, index);
    const struct engine_source *source = engine->sources[rollout->route.spec.source];
    if (rollout->record == NULL || !engine_record_active(rollout->record) || source->failures == NULL)
        return NULL;
    source->failures(engine->world, rollout, engine->failures);
    return engine->failures;
}

void engine_view_get(struct engine *engine, uint32_t index, struct engine_view *view)
{
    const struct engine_rollout *rollout = engine_rollout_at(engine, index);
    const struct config_rollout *entry = config_rollout_find(engine->config, rollout->name);
    *view = (struct engine_view){
        .name = rollout->name, .in_file = entry != NULL, .record = rollout->record, .failures = ""};
    view->file_differs = engine_rollout_file_differs(engine, rollout);
    if (rollout->record != NULL) {
        view->run = rollout->record->run;
        view->spec = rollout_spec_of(rollout->record->core);
        rollout_view_get(rollout->record->core, &view->view);
        view->failures = failures_told(rollout->record);
    } else {
        view->spec = &entry->spec;
        view->view.state = ROLLOUT_PENDING;
    }
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        fill_arm(engine, rollout, arm, view);
}

void engine_health_get(const struct engine *engine, struct engine_health *health)
{
    *health = engine->health;
    health->journal_entries = journal_count(engine->journal);
    health->journal_waiting = engine->backlog.count;
    health->journal_bytes = journal_bytes(engine->journal);
}
