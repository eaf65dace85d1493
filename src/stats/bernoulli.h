// SPDX-License-Identifier: Apache-2.0
// One-sample anytime-valid test of a rate p against a fixed p0: likelihood ratios of Bernoulli(p_j) to
// Bernoulli(p0), uniform mixture over a grid. The alternatives stand at log-odds p0 +- g_j, so that every p_j
// is a probability. ln E may be looked at after every batch: P(sup E >= 1/alpha) <= alpha over the whole
// null.
#pragma once

#include <stdint.h>

#define STATS_BERNOULLI_ALTERNATIVES 24
#define STATS_BERNOULLI_STEP_MIN 0.01
#define STATS_BERNOULLI_STEP_MAX 3.5

enum stats_bernoulli_side {
    STATS_BERNOULLI_ABOVE, // H0: p <= p0; rejected when the rate is above it (SLO, soak watch)
    STATS_BERNOULLI_BELOW, // H0: p >= p0; rejected when the rate is below it (negligible)
};

// Built once, then read-only.
struct stats_bernoulli_grid {
    double null_rate;
    double hit[STATS_BERNOULLI_ALTERNATIVES];  // ln(p_j / p0): gained by each event
    double miss[STATS_BERNOULLI_ALTERNATIVES]; // ln((1 - p_j) / (1 - p0)): gained by each trial without one
};

// All zeros is "no evidence yet".
struct stats_bernoulli_state {
    double ll[STATS_BERNOULLI_ALTERNATIVES];
};

// 0 < null_rate < 1, at least 1e-9 away from both ends (CHECK).
void stats_bernoulli_grid_init(struct stats_bernoulli_grid *grid, enum stats_bernoulli_side side,
                               double null_rate);

// Adds a batch of trials, `events` of which had the event. More events than trials (the counters were read
// while they moved) count as that many trials.
void stats_bernoulli_add(const struct stats_bernoulli_grid *grid, struct stats_bernoulli_state *state,
                         uint64_t trials, uint64_t events);

// ln E: reject H0 when >= ln(1/alpha).
double stats_bernoulli_log_e(const struct stats_bernoulli_state *state);
