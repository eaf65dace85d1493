// SPDX-License-Identifier: Apache-2.0
// The latency edges of the baseline, before the canary gets its first request. What was served before the run
// counts too, but a sample that holds a bad minute (a process that has just begun, a machine that was busy)
// would make slow look usual. So its last quarter is fresh, and is held against the rest: when it is plainly
// faster, the rest does not count and the sample goes on with that quarter.
#include <string.h>

#include "base/heap.h"
#include "ship/engine/engine_private.h"

enum {
    ROUNDS_MAX = 4,        // then the sample is what this service is like
    LATE_FOR_P99_MIN = 500 // requests that a p99 is compared by
};
static const double FASTER = 1.25; // the default `worse`: what is less nobody minds
static const double quantiles[ROLLOUT_EDGES] = {0.5, 0.9, 0.99, 0.999};

struct engine_baseline {
    struct stats_histogram from;  // what was seen before the sample begins
    struct stats_histogram early; // when its last quarter began
    bool late;                    // it has begun
    uint32_t rounds;
};

void engine_baseline_forget(struct engine_rollout *rollout)
{
    heap_free(rollout->baseline);
    rollout->baseline = NULL;
}

static void read_now(struct engine *engine, const struct engine_rollout *rollout,
                     struct stats_histogram *seen)
{
    memset(seen, 0, sizeof *seen);
    engine->sources[rollout->route.spec.source]->baseline(engine->world, rollout, seen);
}

static uint64_t quarter_of(const struct engine_rollout *rollout)
{
    uint64_t wanted = rollout->route.spec.latency.baseline_requests;
    return wanted >= 4 ? wanted / 4 : 1;
}

// At the quantiles that so few requests can tell.
static bool is_faster(const struct engine_rollout *rollout, const struct stats_histogram *late,
                      const struct stats_histogram *early)
{
    double slack_us = 1000.0 * (double)rollout->route.spec.latency.slack_ms;
    for (int k = 0; k < ROLLOUT_EDGES - 1; k++) {
        if (quantiles[k] > 0.9 && late->count < LATE_FOR_P99_MIN)
            break;
        double now = (double)stats_histogram_edge(late, quantiles[k]);
        if (FASTER * now + slack_us < (double)stats_histogram_edge(early, quantiles[k]))
            return true;
    }
    return false;
}

// What has been measured of the arms that are measured now. After a change of those it may be less than
// before: then it is begun anew.
static void read_on(struct engine *engine, const struct engine_rollout *rollout)
{
    struct engine_baseline *baseline = rollout->baseline;
    read_now(engine, rollout, engine->histogram);
    if (baseline == NULL)
        return;
    uint64_t before = baseline->late ? baseline->early.count : baseline->from.count;
    if (engine->histogram->count < before)
        *baseline = (struct engine_baseline){.rounds = baseline->rounds};
}

uint64_t engine_baseline_count(struct engine *engine, const struct engine_rollout *rollout)
{
    struct stats_histogram *seen = engine->histogram;
    const struct engine_baseline *baseline = rollout->baseline;
    read_on(engine, rollout);
    uint64_t rest = rollout->route.spec.latency.baseline_requests - quarter_of(rollout);
    if (baseline == NULL || !baseline->late) {
        uint64_t count = seen->count - (baseline != NULL ? baseline->from.count : 0);
        return count < rest ? count : rest;
    }
    return rest + seen->count - baseline->early.count;
}

// Begins another round with the last quarter as its beginning.
static void begin_again(struct engine *engine, const struct engine_rollout *rollout)
{
    struct engine_baseline *baseline = rollout->baseline;
    baseline->from = baseline->early;
    baseline->late = false;
    baseline->rounds++;
    log_write(engine->log, LOG_INFO, "the baseline has become faster: it is measured anew",
              LOG_FIELDS(LOG_TEXT("rollout", rollout->name)));
}

enum status engine_baseline_edges(struct engine *engine, struct engine_rollout *rollout,
                                  struct rollout_edges *edges)
{
    if (rollout->baseline == NULL)
        rollout->baseline = heap_alloc(1, sizeof *rollout->baseline);
    struct engine_baseline *baseline = rollout->baseline;
    if (baseline == NULL)
        return STATUS_NO_MEMORY;
    struct stats_histogram *seen = engine->histogram, *part = engine->histogram_part;
    read_on(engine, rollout);
    uint64_t wanted = rollout->route.spec.latency.baseline_requests, quarter = quarter_of(rollout);
    if (!baseline->late) {
        if (seen->count - baseline->from.count + quarter < wanted)
            return STATUS_AGAIN;
        baseline->early = *seen;
        baseline->late = true;
    }
    if (seen->count - baseline->early.count < quarter)
        return STATUS_AGAIN;
    *part = *seen;
    stats_histogram_subtract(part, &baseline->early);
    stats_histogram_subtract(&baseline->early, &baseline->from);
    bool faster = baseline->rounds + 1 < ROUNDS_MAX && is_faster(rollout, part, &baseline->early);
    baseline->early = *seen;
    stats_histogram_subtract(&baseline->early, part);
    if (faster) {
        begin_again(engine, rollout);
        return STATUS_AGAIN;
    }
    stats_histogram_subtract(seen, &baseline->from);
    edges->requests = seen->count;
    for (int k = 0; k < ROLLOUT_EDGES; k++)
        edges->edge_us[k] = stats_histogram_edge(seen, quantiles[k]);
    engine_baseline_forget(rollout);
    return STATUS_OK;
}
