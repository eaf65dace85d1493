// SPDX-License-Identifier: Apache-2.0
// One-sample test of a rate: bets at log-odds distances g_j from the null, geometric from 0.10 to 3.5.
#include "stats/bernoulli.h"

#include "base/check.h"
#include "stats/real.h"

void stats_bernoulli_grid_init(struct stats_bernoulli_grid *grid, enum stats_bernoulli_side side,
                               double null_rate)
{
    CHECK(null_rate >= 1e-9 && null_rate <= 1.0 - 1e-9);
    double log_first = stats_ln(STATS_BERNOULLI_STEP_MIN);
    double log_growth = (stats_ln(STATS_BERNOULLI_STEP_MAX) - log_first) / (STATS_BERNOULLI_ALTERNATIVES - 1);
    grid->null_rate = null_rate;
    for (int j = 0; j < STATS_BERNOULLI_ALTERNATIVES; j++) {
        double distance = stats_exp(log_first + j * log_growth);
        double step = side == STATS_BERNOULLI_ABOVE ? distance : -distance;
        // p_j / (1 - p_j) = e^step · p0 / (1 - p0) gives (1 - p_j) / (1 - p0) = 1 / (1 + p0·(e^step - 1)).
        grid->miss[j] = -stats_ln(1.0 - null_rate + null_rate * stats_exp(step));
        grid->hit[j] = step + grid->miss[j];
    }
}

void stats_bernoulli_add(const struct stats_bernoulli_grid *grid, struct stats_bernoulli_state *state,
                         uint64_t trials, uint64_t events)
{
    double hits = (double)events;
    double misses = trials > events ? (double)(trials - events) : 0.0;
    for (int j = 0; j < STATS_BERNOULLI_ALTERNATIVES; j++)
        state->ll[j] += hits * grid->hit[j] + misses * grid->miss[j];
}

double stats_bernoulli_log_e(const struct stats_bernoulli_state *state)
{
    return stats_log_mean_exp(state->ll, STATS_BERNOULLI_ALTERNATIVES);
}
