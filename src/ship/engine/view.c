// SPDX-License-Identifier: Apache-2.0
// What people look at: rollouts with both arms, health, traffic. Reads only.
#include <string.h>

#include "base/check.h"
#include "ship/engine/engine_private.h"

uint32_t engine_rollout_count(const struct engine *engine)
{
    return engine->live_count;
}

int engine_rollout_find(const struct engine *engine, const char *name)
{
    for (uint32_t i = 0; i < engine->live_count; i++)
        if (strcmp(engine->live[i].name, name) == 0)
            return (int)i;
    return -1;
}

const char *engine_rollout_nearest(const struct engine *engine, const char *name)
{
    const char *names[ENGINE_CASES_MAX];
    for (uint32_t i = 0; i < engine->live_count; i++)
        names[i] = engine->live[i].name;
    return config_nearest(slice_of(name), names, engine->live_count);
}

static double window_s(uint64_t ticks)
{
    // The present tick is still being filled.
    ticks = ticks < 2 ? 1 : ticks > ENGINE_RATE_TICKS ? ENGINE_RATE_TICKS - 1 : ticks - 1;
    return (double)ticks * ROLLOUT_TICK_MS / 1000.0;
}

static void arm_latency(struct engine *engine, const struct engine_live *live,
                        const struct rollout_spec *spec, int index, struct engine_arm *arm)
{
    // Variants are no versions, even where they have the same names: their requests are in one histogram.
    if (spec->flag[0] != '\0')
        return;
    uint16_t slot = engine_version_slot(engine, spec->service, arm->version);
    if (slot == PROXY_SLOT_NONE)
        return;
    struct stats_histogram *seen = engine->histogram;
    proxy_version_latency(engine->proxy, slot, seen);
    if (live->latency_before != NULL)
        stats_histogram_subtract(seen, &live->latency_before[index]);
    arm->latency_count = seen->count;
    arm->p50_us = stats_histogram_quantile(seen, 0.5);
    arm->p90_us = stats_histogram_quantile(seen, 0.9);
    arm->p99_us = stats_histogram_quantile(seen, 0.99);
    arm->p999_us = stats_histogram_quantile(seen, 0.999);
}

static void fill_arm(struct engine *engine, const struct engine_live *live, int index,
                     struct engine_rollout *rollout)
{
    struct engine_arm *arm = &rollout->arms[index];
    const struct rollout_spec *spec = rollout->spec;
    CHECK(spec != NULL);
    const char *version = index == ROLLOUT_ARM_STABLE   ? spec->from
                          : index == ROLLOUT_ARM_CANARY ? spec->to
                          : spec->control               ? "(control)"
                                                        : NULL;
    *arm = (struct engine_arm){.present = version != NULL};
    if (version == NULL)
        return;
    size_t len = strlen(version);
    CHECK(len < sizeof arm->version);
    memcpy(arm->version, version, len + 1);
    arm_latency(engine, live, spec, index, arm);
    if (live->record == NULL)
        return;
    arm->sum = live->record->arms[index];
    arm->rate = (double)live->rate_sum[index] / window_s(live->rate_ticks);
    uint64_t routed = 0;
    for (int i = 0; i < ROLLOUT_ARMS; i++)
        routed += rollout->view.stage_routed[i];
    if (routed > 0)
        arm->share = (double)rollout->view.stage_routed[index] / (double)routed;
}

void engine_rollout_get(struct engine *engine, uint32_t index, struct engine_rollout *rollout)
{
    CHECK(index < engine->live_count);
    const struct engine_live *live = &engine->live[index];
    const struct config_rollout *entry = config_rollout_find(engine->config, live->name);
    *rollout = (struct engine_rollout){.name = live->name, .in_file = entry != NULL, .record = live->record};
    rollout->file_differs = engine_file_differs(engine, live);
    if (live->record != NULL) {
        rollout->run = live->record->run;
        rollout->spec = rollout_spec_of(live->record->core);
        rollout_view_get(live->record->core, &rollout->view);
    } else {
        rollout->spec = &entry->spec;
        rollout->view.state = ROLLOUT_PENDING;
    }
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        fill_arm(engine, live, arm, rollout);
}

void engine_health_get(const struct engine *engine, struct engine_health *health)
{
    *health = engine->health;
    health->journal_entries = journal_count(engine->journal);
    health->journal_bytes = journal_bytes(engine->journal);
    health->table_acknowledged = proxy_acknowledged(engine->proxy);
}

void engine_traffic_get(const struct engine *engine, const char *service, struct engine_traffic *traffic)
{
    *traffic = (struct engine_traffic){.requests = 0};
    uint16_t slot = engine_service_slot(engine, service);
    const struct config_service *entry = config_service_find(engine->config, service);
    if (slot == PROXY_SLOT_NONE || entry == NULL)
        return;
    traffic->requests = engine->rates[slot].requests_before;
    traffic->requests_per_second = (double)engine->rates[slot].sum / window_s(engine->health.ticks);
    uint16_t stable = engine_version_slot(engine, service, entry->stable);
    if (stable == PROXY_SLOT_NONE)
        return;
    uint64_t counts[PROXY_VERSION_COUNTERS];
    proxy_version_counts(engine->proxy, stable, counts);
    if (counts[PROXY_VERSION_REQUESTS] > 0)
        traffic->error_rate =
            (double)counts[PROXY_VERSION_ERROR_EVENTS] / (double)counts[PROXY_VERSION_REQUESTS];
}
