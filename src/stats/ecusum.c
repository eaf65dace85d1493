// SPDX-License-Identifier: Apache-2.0
// Bank of e-CUSUMs in the log domain, one per alternative of the one-sample test.
#include "stats/ecusum.h"

#include "base/check.h"
#include "stats/real.h"

void stats_ecusum_add(const struct stats_bernoulli_grid *grid, struct stats_ecusum *ecusum, uint64_t trials,
                      uint64_t events)
{
    if (trials == 0 && events == 0)
        return;
    struct stats_bernoulli_state step = {.ll = {0}};
    stats_bernoulli_add(grid, &step, trials, events);
    ecusum->steps++;
    for (int j = 0; j < STATS_BERNOULLI_ALTERNATIVES; j++) {
        double kept = ecusum->log_m[j];
        kept = kept > 0.0 ? kept : 0.0;
        ecusum->log_m[j] = step.ll[j] + kept;
    }
}

double stats_ecusum_log_m(const struct stats_ecusum *ecusum)
{
    return stats_log_mean_exp(ecusum->log_m, STATS_BERNOULLI_ALTERNATIVES);
}

double stats_ecusum_threshold(uint64_t steps_max, double alpha)
{
    CHECK(alpha > 0.0 && alpha < 1.0 && steps_max >= 1);
    return stats_ln((double)steps_max / alpha);
}
