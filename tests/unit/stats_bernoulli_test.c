// SPDX-License-Identifier: Apache-2.0
// stats/bernoulli: likelihoods term by term, batches, false alarms at the boundary, power for "negligible".
#include <math.h>

#include "base/rng.h"
#include "stats/bernoulli.h"
#include "test.h"

static void assert_near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance))
        fail_msg("%.9f is not within %g of %.9f", value, tolerance, expected);
}

static double direct_log_e(double null_rate, double sign, double trials, double events)
{
    double sum = 0.0;
    for (int j = 0; j < 24; j++) {
        double odds = null_rate / (1.0 - null_rate) * exp(sign * 0.01 * pow(350.0, j / 23.0));
        double p = odds / (1.0 + odds);
        sum += exp(events * log(p / null_rate) + (trials - events) * log((1.0 - p) / (1.0 - null_rate)));
    }
    return log(sum / 24.0);
}

TEST(against_direct_likelihood)
{
    struct stats_bernoulli_grid above;
    struct stats_bernoulli_grid below;
    stats_bernoulli_grid_init(&above, STATS_BERNOULLI_ABOVE, 0.01);
    stats_bernoulli_grid_init(&below, STATS_BERNOULLI_BELOW, 0.3);
    struct stats_bernoulli_state up = {.ll = {0}};
    struct stats_bernoulli_state down = {.ll = {0}};
    assert_near(stats_bernoulli_log_e(&up), 0.0, 1e-15);
    stats_bernoulli_add(&above, &up, 400, 3);
    stats_bernoulli_add(&above, &up, 600, 17);
    assert_near(stats_bernoulli_log_e(&up), direct_log_e(0.01, 1.0, 1000, 20), 1e-10);
    stats_bernoulli_add(&below, &down, 100, 12);
    assert_near(stats_bernoulli_log_e(&down), direct_log_e(0.3, -1.0, 100, 12), 1e-10);
}

TEST(events_beyond_trials_are_trials)
{
    struct stats_bernoulli_grid below;
    stats_bernoulli_grid_init(&below, STATS_BERNOULLI_BELOW, 0.001);
    struct stats_bernoulli_state odd = {.ll = {0}};
    struct stats_bernoulli_state whole = {.ll = {0}};
    stats_bernoulli_add(&below, &odd, 2, 5);
    stats_bernoulli_add(&below, &whole, 5, 5);
    assert_memory_equal(&odd, &whole, sizeof odd);
}

// Without a single error, 0.1 % is shown to be undercut after about (ln(1/alpha) + 1) / 0.001 requests.
TEST(no_errors_become_negligible)
{
    struct stats_bernoulli_grid below;
    stats_bernoulli_grid_init(&below, STATS_BERNOULLI_BELOW, 0.001);
    struct stats_bernoulli_state clean = {.ll = {0}};
    uint64_t requests = 0;
    for (; stats_bernoulli_log_e(&clean) < log(40.0); requests += 10)
        stats_bernoulli_add(&below, &clean, 10, 0);
    assert_true(requests > 3700 && requests < 6000);
}

static int false_alarms(enum stats_bernoulli_side side, double null_rate, uint64_t seed, int runs)
{
    struct stats_bernoulli_grid grid;
    struct rng rng;
    stats_bernoulli_grid_init(&grid, side, null_rate);
    rng_init(&rng, seed);
    int alarms = 0;
    for (int r = 0; r < runs; r++) {
        struct stats_bernoulli_state run = {.ll = {0}};
        for (int batch = 0; batch < 100; batch++) {
            uint64_t events = 0;
            for (int i = 0; i < 20; i++)
                events += rng_double(&rng) < null_rate;
            stats_bernoulli_add(&grid, &run, 20, events);
            if (stats_bernoulli_log_e(&run) >= log(20.0)) {
                alarms++;
                break;
            }
        }
    }
    return alarms;
}

// At the boundary of the null, alpha = .05, 1000 runs of 100 looks: 50 expected at most, 71 is three standard
// errors above.
TEST(false_alarms_under_peeking)
{
    assert_in_range(false_alarms(STATS_BERNOULLI_ABOVE, 0.05, 1, 1000), 1, 71);
    assert_in_range(false_alarms(STATS_BERNOULLI_BELOW, 0.05, 2, 1000), 1, 71);
    assert_in_range(false_alarms(STATS_BERNOULLI_BELOW, 0.5, 3, 1000), 1, 71);
}
