// SPDX-License-Identifier: Apache-2.0
// stats/ecusum: the recursion, the false-alarm bound over a whole watch, detection of late and slow changes.
#include <math.h>

#include "base/rng.h"
#include "stats/ecusum.h"
#include "test.h"

enum { STEPS = 400, TRIALS = 50 };

static struct stats_bernoulli_grid grid;

static int make_grid(void **state)
{
    (void)state;
    stats_bernoulli_grid_init(&grid, STATS_BERNOULLI_ABOVE, 0.02);
    return 0;
}

ALL_TESTS(make_grid, NULL);

TEST(recursion)
{
    struct stats_ecusum ecusum = {0};
    double m[24];
    for (int j = 0; j < 24; j++)
        m[j] = 1.0;
    static const uint64_t EVENTS[] = {3, 0, 0, 1, 4, 4, 0, 2};
    for (int t = 0; t < 8; t++) {
        double mean = 0.0;
        stats_ecusum_add(&grid, &ecusum, 50, EVENTS[t]);
        for (int j = 0; j < 24; j++) {
            double odds = 0.02 / 0.98 * exp(0.01 * pow(350.0, j / 23.0));
            double p = odds / (1.0 + odds);
            double events = (double)EVENTS[t];
            m[j] = fmax(1.0, m[j]) * pow(p / 0.02, events) * pow((1.0 - p) / 0.98, 50.0 - events);
            mean += m[j] / 24.0;
        }
        assert_true(fabs(stats_ecusum_log_m(&ecusum) - log(mean)) < 1e-10);
    }
    assert_int_equal(ecusum.steps, 8);
}

TEST(no_data_is_no_step)
{
    struct stats_ecusum ecusum = {0};
    stats_ecusum_add(&grid, &ecusum, 50, 4);
    struct stats_ecusum before = ecusum;
    stats_ecusum_add(&grid, &ecusum, 0, 0);
    assert_memory_equal(&ecusum, &before, sizeof before);
}

TEST(threshold)
{
    assert_true(fabs(stats_ecusum_threshold(36000, 0.01) - log(3.6e6)) < 1e-12);
    assert_true(fabs(stats_ecusum_threshold(1, 0.5) - log(2.0)) < 1e-12);
}

// Step of the alarm, or STEPS if none. The rate is `before` up to change_at, `after` from then on.
static int alarm_step(struct rng *rng, double before, double after, int change_at, double threshold)
{
    struct stats_ecusum ecusum = {0};
    for (int t = 0; t < STEPS; t++) {
        uint64_t events = 0;
        for (int i = 0; i < TRIALS; i++)
            events += rng_double(rng) < (t < change_at ? before : after);
        stats_ecusum_add(&grid, &ecusum, TRIALS, events);
        if (stats_ecusum_log_m(&ecusum) >= threshold)
            return t;
    }
    return STEPS;
}

// alpha = .1 over 400 steps, 500 watches: at most 50 alarms expected, 70 is three standard errors above.
TEST(false_alarms_over_a_watch)
{
    struct rng rng;
    int alarms = 0;
    rng_init(&rng, 17);
    for (int r = 0; r < 500; r++)
        alarms += alarm_step(&rng, 0.02, 0.02, STEPS, stats_ecusum_threshold(STEPS, 0.1)) < STEPS;
    assert_in_range(alarms, 0, 70);
}

// A rate that triples after 300 quiet steps is seen soon after: the quiet past does not hide it.
TEST(late_change_is_found)
{
    struct rng rng;
    int delay = 0;
    rng_init(&rng, 19);
    for (int r = 0; r < 100; r++) {
        int step = alarm_step(&rng, 0.01, 0.06, 300, stats_ecusum_threshold(STEPS, 0.01));
        assert_true(step >= 300);
        delay += step - 300;
    }
    assert_true(delay < 100 * 20);
}
