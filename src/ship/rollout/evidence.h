// SPDX-License-Identifier: Apache-2.0
// What a rollout is decided from: counts per arm and span. A span is the requests that were routed within one
// tick under one weight; every later fact about a request is counted in the span in which it was routed.
// Proxy workers count, the engine gathers and sums over workers, the rollout core consumes.
#pragma once

#include <stdint.h>

enum {
    ROLLOUT_TICK_MS = 100,
    ROLLOUT_WEIGHT_FULL = 100000, // weights are in thousandths of a percent
    ROLLOUT_EDGES = 4,            // p50, p90, p99, p99.9 of the frozen baseline
    ROLLOUT_SPANS_OPEN_MAX =
        1024, // spans that may still change: deadline / tick, and the weight changes within
    ROLLOUT_DEADLINE_MS_MAX = 60000,
};

enum rollout_arm { ROLLOUT_ARM_STABLE, ROLLOUT_ARM_CANARY, ROLLOUT_ARM_CONTROL, ROLLOUT_ARMS };

// All are counts of requests of one arm that a client had sent in full within one span, but errors and
// error_events, which count attempts: a failed attempt that a retry hid is an error too. Judged are the
// routed that are not excused; all further counts are of the judged.
struct rollout_counts {
    uint32_t routed;
    uint32_t completed;           // of the judged, those whose answer began, or that ended without one
    uint32_t errors;              // answers that are errors, connect failure, timeout, reset, broken response
    uint32_t error_events;        // of the errors, the first of each unit: what the error check uses
    uint32_t slow[ROLLOUT_EDGES]; // completed; of the canary slower than worse_us[k], else than edge k
    uint32_t slow_margin[ROLLOUT_EDGES]; // completed, slower than margin times edge k
    uint32_t good;                       // completed without error within the deadline
    uint32_t units; // routed, and the unit was seen for the first time (for the sample ratio)
    // Nobody is judged by them: the client left before it could be told how long the answer takes, or, with a
    // unit, the unit had a judged request in the same second already.
    uint32_t excused;
    uint32_t failed;        // of the judged, with an error; each request once, whoever sent it
    uint32_t redirects;     // of the completed, answered 300 to 399, which was no error
    uint32_t client_errors; // of the completed, answered 400 to 499, which was no error
    // Growth of the sum, over units, of the square of their judged requests: how unevenly requests lie on
    // units.
    uint32_t unit_squares;
};

static inline uint32_t rollout_counts_judged(const struct rollout_counts *counts)
{
    return counts->routed - counts->excused;
}

// Additions to one span since it was last reported. A span is named by (tick, table); a new name opens it.
struct rollout_span_delta {
    uint64_t tick;           // routing time in ROLLOUT_TICK_MS since the epoch of the process that counted
    uint64_t table;          // version of the routing table in force
    uint32_t weight;         // the canary's weight under that table, 0..ROLLOUT_WEIGHT_FULL
    uint32_t weight_control; // with a control arm, the control's weight; else 0
    struct rollout_counts arms[ROLLOUT_ARMS];
    // Members of a ring: they have the new variant, but no lot put them there and nobody is compared with
    // them. For the kill switch alone: the core does not look at it, the journal does not hold it.
    struct rollout_counts ring;
};

// Latency edges of the baseline, microseconds, frozen before the canary starts.
struct rollout_edges {
    uint64_t requests; // the sample they come from; 0: not frozen yet
    uint64_t edge_us[ROLLOUT_EDGES];
};

// What one outcome is measured by, the same for everything that a run's evidence comes from.
struct rollout_yardstick {
    struct rollout_edges edges;
    uint64_t
        worse_us[ROLLOUT_EDGES]; // the canary is slow past it: worse times edge k, at least edge and slack
    uint64_t margin_us[ROLLOUT_EDGES]; // margin times edge k, never below edge k and the slack
    uint64_t deadline_us;              // good only within it
    uint64_t error_window_us;          // a unit's second error within it is no event; 0: the whole rollout
};
