// SPDX-License-Identifier: Apache-2.0
// What a rollout will need before it starts: for each stage the requests (of all arms together) until a
// version that is as good as the old one moves on, and the time until a stated regression is taken back.
// Wald's approximation (stats/plan.h); shown to people, no verdict depends on it. INFINITY: not to be
// expected at all.
#pragma once

#include "ship/rollout/spec.h"

struct rollout_plan_traffic {
    double requests_per_second; // of the service; 0: unknown
    double error_rate;          // the baseline's, 0..1
    double error_added;         // a regression: so much more of the requests fail; 0: 1 %
    double slowdown;      // a regression: every answer takes this many times as long, > 1 (1.5 is usual)
    double latency_sigma; // of the lognormal that latencies are taken for; 0: 1
};

struct rollout_plan_stage {
    enum rollout_stage_kind kind;
    uint32_t weight;       // of the canary; for APPROVE the weight that stands meanwhile
    uint32_t next;         // the weight that passing it leads to
    double promote_errors; // requests until the check passes; 0: the check is off
    double promote_latency;
    double promote_throughput;
    double promote;          // the largest of those; 0 at 100 %, where only time counts
    double promote_ms;       // time at that traffic, never below the stage's minimum; 0: traffic unknown
    double detect_errors_ms; // until taken back; 0: the check is off, or traffic unknown; INFINITY at 100 %
    double detect_latency_ms;
    double
        found; // SHADOW: share of answers in which a path must differ to be found, 95 % sure; above 1: none
    bool beyond_horizon; // promote_ms is known and above the horizon: expect "undecided"
};

struct rollout_plan {
    uint32_t stage_count;
    struct rollout_plan_stage stages[ROLLOUT_STAGES_MAX];
    double promote_ms; // of all stages, soak included; 0: traffic unknown
    double rate_least; // requests per second with which every stage can pass within its horizon
};

// spec must pass rollout_spec_check; numbers outside their range are clamped into it.
void rollout_plan_make(const struct rollout_spec *spec, const struct rollout_plan_traffic *traffic,
                       struct rollout_plan *plan);
