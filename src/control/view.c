// SPDX-License-Identifier: Apache-2.0
// What people look at: rollouts with both arms, health, traffic. Reads only.
#include <string.h>

#include "base/check.h"
#include "control/control_private.h"

uint32_t control_rollout_count(const struct control *control)
{
    return control->live_count;
}

int control_rollout_find(const struct control *control, const char *name)
{
    for (uint32_t i = 0; i < control->live_count; i++)
        if (strcmp(control->live[i].name, name) == 0)
            return (int)i;
    return -1;
}

const char *control_rollout_nearest(const struct control *control, const char *name)
{
    const char *names[CONTROL_CASES_MAX];
    for (uint32_t i = 0; i < control->live_count; i++)
        names[i] = control->live[i].name;
    return config_nearest(slice_of(name), names, control->live_count);
}

static double window_s(uint64_t ticks)
{
    // The present tick is still being filled.
    ticks = ticks < 2 ? 1 : ticks > CONTROL_RATE_TICKS ? CONTROL_RATE_TICKS - 1 : ticks - 1;
    return (double)ticks * ROLLOUT_TICK_MS / 1000.0;
}

static void arm_latency(struct control *control, const struct control_live *live,
                        const struct rollout_spec *spec, int index, struct control_arm *arm)
{
    // Variants are no versions, even where they have the same names: their requests are in one histogram.
    if (spec->flag[0] != '\0')
        return;
    uint16_t slot = control_version_slot(control, spec->service, arm->version);
    if (slot == PROXY_SLOT_NONE)
        return;
    struct stats_histogram *seen = control->histogram;
    proxy_version_latency(control->proxy, slot, seen);
    if (live->latency_before != NULL)
        stats_histogram_subtract(seen, &live->latency_before[index]);
    arm->latency_count = seen->count;
    arm->p50_us = stats_histogram_quantile(seen, 0.5);
    arm->p90_us = stats_histogram_quantile(seen, 0.9);
    arm->p99_us = stats_histogram_quantile(seen, 0.99);
    arm->p999_us = stats_histogram_quantile(seen, 0.999);
}

static void fill_arm(struct control *control, const struct control_live *live, int index,
                     struct control_rollout *rollout)
{
    struct control_arm *arm = &rollout->arms[index];
    const struct rollout_spec *spec = rollout->spec;
    CHECK(spec != NULL);
    const char *version = index == ROLLOUT_ARM_STABLE   ? spec->from
                          : index == ROLLOUT_ARM_CANARY ? spec->to
                          : spec->control               ? "(control)"
                                                        : NULL;
    *arm = (struct control_arm){.present = version != NULL};
    if (version == NULL)
        return;
    size_t len = strlen(version);
    CHECK(len < sizeof arm->version);
    memcpy(arm->version, version, len + 1);
    arm_latency(control, live, spec, index, arm);
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

void control_rollout_get(struct control *control, uint32_t index, struct control_rollout *rollout)
{
    CHECK(index < control->live_count);
    const struct control_live *live = &control->live[index];
    const struct config_rollout *entry = config_rollout_find(control->config, live->name);
    *rollout = (struct control_rollout){.name = live->name, .in_file = entry != NULL, .record = live->record};
    rollout->file_differs = control_file_differs(control, live);
    if (live->record != NULL) {
        rollout->run = live->record->run;
        rollout->spec = rollout_spec_of(live->record->core);
        rollout_view_get(live->record->core, &rollout->view);
    } else {
        rollout->spec = &entry->spec;
        rollout->view.state = ROLLOUT_PENDING;
    }
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        fill_arm(control, live, arm, rollout);
}

void control_health_get(const struct control *control, struct control_health *health)
{
    *health = control->health;
    health->journal_entries = journal_count(control->journal);
    health->journal_bytes = journal_bytes(control->journal);
    health->table_acknowledged = proxy_acknowledged(control->proxy);
}

void control_traffic_get(const struct control *control, const char *service, struct control_traffic *traffic)
{
    *traffic = (struct control_traffic){.requests = 0};
    uint16_t slot = control_service_slot(control, service);
    const struct config_service *entry = config_service_find(control->config, service);
    if (slot == PROXY_SLOT_NONE || entry == NULL)
        return;
    traffic->requests = control->rates[slot].requests_before;
    traffic->requests_per_second = (double)control->rates[slot].sum / window_s(control->health.ticks);
    uint16_t stable = control_version_slot(control, service, entry->stable);
    if (stable == PROXY_SLOT_NONE)
        return;
    uint64_t counts[PROXY_VERSION_COUNTERS];
    proxy_version_counts(control->proxy, stable, counts);
    if (counts[PROXY_VERSION_REQUESTS] > 0)
        traffic->error_rate =
            (double)counts[PROXY_VERSION_ERROR_EVENTS] / (double)counts[PROXY_VERSION_REQUESTS];
}
