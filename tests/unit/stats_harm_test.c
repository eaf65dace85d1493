// SPDX-License-Identifier: Apache-2.0
// stats/harm: the lower bound against golden values, what is shown at once, false promotion at the edge of
// the budget, how many requests a healthy canary needs.
#include <math.h>

#include "base/rng.h"
#include "stats/harm.h"
#include "test.h"

static const double BETA = 0.05;

// Computed apart from this code by inverting the mixture over 24 odds ratios.
TEST(lower_bound)
{
    static const struct {
        uint64_t requests, events;
        double low;
    } GOLDEN[] = {{1000, 20, 0.00841715428},
                  {100000, 100, 0.0006987466753},
                  {1000000, 5000, 0.004765594058},
                  {50, 25, 0.274563363}};
    for (size_t i = 0; i < sizeof GOLDEN / sizeof *GOLDEN; i++) {
        double low = stats_harm_rate_low(GOLDEN[i].requests, GOLDEN[i].events, 0.025);
        if (!(fabs(low - GOLDEN[i].low) <= 1e-6 * GOLDEN[i].low))
            fail_msg("%zu: %.9g is not %.9g", i, low, GOLDEN[i].low);
    }
}

TEST(without_events_the_bound_is_zero)
{
    assert_true(stats_harm_rate_low(0, 0, 0.025) == 0.0);
    assert_true(stats_harm_rate_low(1000000, 0, 0.025) == 0.0);
    assert_true(stats_harm_rate_low(100, 1, 0.025) >= 0.0);
}

TEST(no_data_shows_nothing)
{
    struct stats_harm_counts none = {0};
    assert_true(stats_harm_log_e(&none, 0.04, BETA) <= 1e-12);
    struct stats_harm_counts baseline_only = {.baseline_requests = 1000000, .baseline_events = 1000};
    assert_true(stats_harm_log_e(&baseline_only, 0.04, BETA) <= 1e-12);
}

TEST(a_budget_of_everything_is_met_at_once)
{
    struct stats_harm_counts counts = {.baseline_requests = 10};
    assert_true(stats_harm_log_e(&counts, 1.0, BETA) >= log(2.0 / BETA) - 1e-9);
}

// Requests of the canary until it is shown; 0: not within the limit. Looks after every batch.
static uint64_t shown_after(struct rng *rng, double canary_rate, double baseline_rate, double d,
                            uint64_t limit)
{
    enum { BATCH = 25, BASELINE_TIMES = 9 };
    struct stats_harm_counts counts = {0};
    while (counts.canary_requests < limit) {
        for (int i = 0; i < BATCH; i++)
            counts.canary_events += rng_double(rng) < canary_rate;
        for (int i = 0; i < BATCH * BASELINE_TIMES; i++)
            counts.baseline_events += rng_double(rng) < baseline_rate;
        counts.canary_requests += BATCH;
        counts.baseline_requests += (uint64_t)BATCH * BASELINE_TIMES;
        if (stats_harm_log_e(&counts, d, BETA) >= log(2.0 / BETA))
            return counts.canary_requests;
    }
    return 0;
}

TEST(false_promotion_at_the_edge)
{
    enum { RUNS = 120 };
    struct rng rng;
    rng_init(&rng, 7);
    uint32_t shown = 0;
    for (int i = 0; i < RUNS; i++)
        shown += shown_after(&rng, 0.001 + 0.04, 0.001, 0.04, 1500) != 0;
    assert_in_range(shown, 0, (uintmax_t)(BETA * RUNS));
}

// The first step of a rollout (1 % to 5 %, budget 0.2 %: d = 4 %) needs few requests; a quarter more than the
// 130 to 150 that a mean over many runs gives is allowed for.
TEST(a_healthy_canary_needs_few_requests)
{
    enum { RUNS = 40 };
    struct rng rng;
    rng_init(&rng, 11);
    double sum = 0.0;
    for (int i = 0; i < RUNS; i++) {
        uint64_t needed = shown_after(&rng, 0.001, 0.001, 0.04, 5000);
        assert_true(needed > 0);
        sum += (double)needed;
    }
    assert_true(sum / RUNS < 190.0);
}

// A tenth of all answers lies right behind the edge, in both versions alike, and a hundredth more is
// affordable: the bounds have to close in on a rate to a few hundredths of itself. Means over many runs are
// 40 000 of each arm; bets no nearer than a tenth of the odds leave one rollout in four open after five times
// as many.
TEST(a_tenth_of_slow_answers_is_told_from_one_more_in_a_hundred)
{
    enum { RUNS = 20, BATCH = 2000, LIMIT = 120000 };
    struct rng rng;
    rng_init(&rng, 13);
    for (int run = 0; run < RUNS; run++) {
        struct stats_harm_counts counts = {0};
        while (stats_harm_log_e(&counts, 0.01, BETA) < log(2.0 / BETA)) {
            for (int i = 0; i < BATCH; i++) {
                counts.canary_events += rng_double(&rng) < 0.1;
                counts.baseline_events += rng_double(&rng) < 0.1;
            }
            counts.canary_requests += BATCH;
            counts.baseline_requests += BATCH;
            assert_true(counts.canary_requests <= LIMIT);
        }
    }
}
