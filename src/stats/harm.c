// SPDX-License-Identifier: Apache-2.0
#include "stats/harm.h"

#include "base/check.h"
#include "stats/bernoulli.h"
#include "stats/real.h"

enum { BISECTIONS = 36 }; // relative error below 1e-9

static const double RATE_MIN = 1e-9;
static const double RATE_MAX = 1.0 - 1e-9;

static double log_e(enum stats_bernoulli_side side, double null_rate, uint64_t requests, uint64_t events)
{
    struct stats_bernoulli_grid grid;
    struct stats_bernoulli_state state = {.ll = {0.0}};
    stats_bernoulli_grid_init(&grid, side, null_rate);
    stats_bernoulli_add(&grid, &state, requests, events);
    return stats_bernoulli_log_e(&state);
}

double stats_harm_rate_low(uint64_t requests, uint64_t events, double alpha)
{
    CHECK(alpha > 0.0 && alpha < 1.0);
    double needed = -stats_ln(alpha);
    if (events == 0 || log_e(STATS_BERNOULLI_ABOVE, RATE_MIN, requests, events) < needed)
        return 0.0;
    // ln E falls as the null grows, so there is one crossing; it is searched on the logarithm of the rate.
    double rejected = stats_ln(RATE_MIN), kept = stats_ln(RATE_MAX);
    for (int i = 0; i < BISECTIONS; i++) {
        double middle = 0.5 * (rejected + kept);
        if (log_e(STATS_BERNOULLI_ABOVE, stats_exp(middle), requests, events) >= needed)
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
    return log_e(STATS_BERNOULLI_BELOW, null_rate, counts->canary_requests, counts->canary_events);
}
