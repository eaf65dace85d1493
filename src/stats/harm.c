// SPDX-License-Identifier: Apache-2.0
#include "stats/harm.h"

#include <stdbool.h>

#include "base/check.h"
#include "stats/bernoulli.h"
#include "stats/real.h"

enum { BISECTIONS = 26 }; // relative error below 1e-6

static const double RATE_MIN = 1e-9;
static const double RATE_MAX = 1.0 - 1e-9;

// Whether ln E against "rate <= null_rate" reaches `needed`; the sum over the bets only where the largest one
// alone does not tell.
static bool rejects(double null_rate, uint64_t requests, uint64_t events, double needed)
{
    struct stats_bernoulli_grid grid;
    struct stats_bernoulli_state state = {.ll = {0.0}};
    stats_bernoulli_grid_init(&grid, STATS_BERNOULLI_ABOVE, null_rate);
    stats_bernoulli_add(&grid, &state, requests, events);
    double largest = state.ll[0];
    for (int j = 1; j < STATS_BERNOULLI_ALTERNATIVES; j++)
        largest = state.ll[j] > largest ? state.ll[j] : largest;
    double of_mean = stats_ln(STATS_BERNOULLI_ALTERNATIVES);
    if (largest < needed || largest - of_mean >= needed)
        return largest - of_mean >= needed;
    return stats_bernoulli_log_e(&state) >= needed;
}

double stats_harm_rate_low(uint64_t requests, uint64_t events, double alpha)
{
    CHECK(alpha > 0.0 && alpha < 1.0);
    double needed = -stats_ln(alpha);
    if (events == 0 || !rejects(RATE_MIN, requests, events, needed))
        return 0.0;
    // ln E falls as the null grows, so there is one crossing; it is searched on the logarithm of the rate.
    double rejected = stats_ln(RATE_MIN), kept = stats_ln(RATE_MAX);
    for (int i = 0; i < BISECTIONS; i++) {
        double middle = 0.5 * (rejected + kept);
        if (rejects(stats_exp(middle), requests, events, needed))
            rejected = middle;
        else
            kept = middle;
    }
    return stats_exp(rejected);
}

double stats_harm_log_e(const struct stats_harm_counts *counts, double d, double beta)
{
    CHECK(d > 0.0 && beta > 0.0 && beta < 1.0);
    double null_rate =
        stats_harm_rate_low(counts->baseline_requests, counts->baseline_events, 0.5 * beta) + d;
    if (null_rate >= RATE_MAX)
        return -stats_ln(0.5 * beta);
    null_rate = null_rate < RATE_MIN ? RATE_MIN : null_rate;
    struct stats_bernoulli_grid grid;
    struct stats_bernoulli_state state = {.ll = {0.0}};
    stats_bernoulli_grid_init(&grid, STATS_BERNOULLI_BELOW, null_rate);
    stats_bernoulli_add(&grid, &state, counts->canary_requests, counts->canary_events);
    return stats_bernoulli_log_e(&state);
}
