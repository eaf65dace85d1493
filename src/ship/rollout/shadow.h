// SPDX-License-Identifier: Apache-2.0
// What mirrored requests showed: what the engine's tick hands to the core while a stage is in the shadow.
// Nobody but the mirror gets the new version's answers then.
#pragma once

#include <stdint.h>

enum { ROLLOUT_SHADOW_ROWS_MAX = 256, ROLLOUT_SHADOW_EDGES = 4 };

// One path and kind of difference: in how many requests it was seen so far. Only those that changed since the
// last delta are told.
struct rollout_shadow_row {
    uint16_t row;                        // index in the differ's table
    uint32_t rank;                       // from 1, in the order in which paths came; 0: the row is gone
    uint32_t both, candidate, secondary; // requests asked three times: both differ, or one alone
    uint32_t alone;                      // requests without a secondary: the candidate differs; no evidence
};

// All counts are of what came since the last delta.
struct rollout_shadow_delta {
    uint64_t sent;           // to the candidate, and their clients waited for the primary
    uint64_t triples, pairs; // compared, with a secondary and without
    uint64_t uncompared, dropped;
    uint64_t candidate_answered, candidate_errors, primary_errors; // of requests sent
    // Per pair: slower than edge k, where the other one was not. The candidate is held against the
    // yardstick's worse_us, the primary against its edge.
    uint64_t slow_candidate[ROLLOUT_SHADOW_EDGES], slow_primary[ROLLOUT_SHADOW_EDGES];
    uint32_t row_count;
    const struct rollout_shadow_row *rows;
};
