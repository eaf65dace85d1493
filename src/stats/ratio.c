// SPDX-License-Identifier: Apache-2.0
// The rate-ratio e-process. Plain loops over arrays of 24, so that the compiler may use vectors; every
// element sees the same operations in the same order whatever the width, so the bits do not depend on it.
#include "stats/ratio.h"

#include "base/check.h"
#include "stats/real.h"

void stats_ratio_grid_init(struct stats_ratio_grid *grid, enum stats_ratio_side side, double null_ratio,
                           double step_min, double step_max)
{
    CHECK(null_ratio >= 1e-9 && null_ratio <= 1e9);
    CHECK(step_min > 0.0 && step_min < step_max && step_max <= 20.0);
    double log_first = stats_ln(step_min);
    double log_growth = (stats_ln(step_max) - log_first) / (STATS_RATIO_ALTERNATIVES - 1);
    grid->null_ratio = null_ratio;
    for (int j = 0; j < STATS_RATIO_ALTERNATIVES; j++) {
        double distance = stats_exp(log_first + j * log_growth);
        grid->step[j] = side == STATS_RATIO_ABOVE ? distance : -distance;
        grid->ratio[j] = null_ratio * stats_exp(grid->step[j]);
    }
}

void stats_ratio_terms_init(const struct stats_ratio_grid *grid, double weight,
                            struct stats_ratio_terms *terms)
{
    *terms = (struct stats_ratio_terms){.weight = weight, .silent = true};
    if (!(weight > 0.0 && weight < 1.0))
        return;
    terms->silent = false;
    double null_share = weight * grid->null_ratio + (1.0 - weight);
    for (int j = 0; j < STATS_RATIO_ALTERNATIVES; j++)
        terms->toll[j] = stats_ln((weight * grid->ratio[j] + (1.0 - weight)) / null_share);
}

void stats_ratio_add_terms(const struct stats_ratio_grid *grid, const struct stats_ratio_terms *terms,
                           struct stats_ratio_state *state, uint64_t canary_events, uint64_t baseline_events)
{
    if (terms->silent)
        return;
    double canary = (double)canary_events;
    double all = (double)canary_events + (double)baseline_events;
    for (int j = 0; j < STATS_RATIO_ALTERNATIVES; j++)
        state->ll[j] += canary * grid->step[j] - all * terms->toll[j];
}

void stats_ratio_add(const struct stats_ratio_grid *grid, struct stats_ratio_state *state, double weight,
                     uint64_t canary_events, uint64_t baseline_events)
{
    struct stats_ratio_terms terms;
    stats_ratio_terms_init(grid, weight, &terms);
    stats_ratio_add_terms(grid, &terms, state, canary_events, baseline_events);
}

double stats_ratio_log_e(const struct stats_ratio_state *state)
{
    return stats_log_mean_exp(state->ll, STATS_RATIO_ALTERNATIVES);
}
