// SPDX-License-Identifier: Apache-2.0
// stats/effect: bounds are where the kernel's verdict turns, agree with the decision, cover the truth at any
// time.
#include <math.h>

#include "base/rng.h"
#include "stats/effect.h"
#include "stats/ratio.h"
#include "test.h"

static double log_e_at(enum stats_ratio_side side, double null_ratio,
                       const struct stats_effect_segment *segments, size_t count)
{
    struct stats_ratio_grid grid;
    struct stats_ratio_state state = {.ll = {0}};
    stats_ratio_grid_init(&grid, side, null_ratio, STATS_RATIO_STEP_MIN, STATS_RATIO_STEP_MAX);
    for (size_t i = 0; i < count; i++)
        stats_ratio_add(&grid, &state, segments[i].weight, segments[i].canary_events,
                        segments[i].baseline_events);
    return stats_ratio_log_e(&state);
}

static double lower_of(const struct stats_effect_segment *segments, size_t count)
{
    return stats_effect_lower(segments, count, STATS_RATIO_STEP_MIN, 0.01);
}

static double upper_of(const struct stats_effect_segment *segments, size_t count)
{
    return stats_effect_upper(segments, count, STATS_RATIO_STEP_MIN, 0.01);
}

TEST(bounds_are_the_crossings)
{
    struct stats_effect_segment segments[] = {{0.05, 14, 60}, {0.25, 40, 37}, {0.5, 90, 28}};
    double lower = lower_of(segments, 3);
    double upper = upper_of(segments, 3);
    assert_true(lower > 1.0 && lower < upper);
    assert_true(fabs(log_e_at(STATS_RATIO_ABOVE, lower, segments, 3) - log(100.0)) < 1e-6);
    assert_true(fabs(log_e_at(STATS_RATIO_BELOW, upper, segments, 3) - log(100.0)) < 1e-6);
    assert_true(log_e_at(STATS_RATIO_ABOVE, lower * 1.01, segments, 3) < log(100.0));
    assert_true(log_e_at(STATS_RATIO_BELOW, upper * 0.99, segments, 3) < log(100.0));
}

// ln E never rises with the null: the premise of the bisection.
TEST(log_e_is_monotone_in_the_null)
{
    struct rng rng;
    rng_init(&rng, 31);
    for (int r = 0; r < 50; r++) {
        struct stats_effect_segment segments[2] = {
            {0.01 + 0.9 * rng_double(&rng), rng_below(&rng, 60), rng_below(&rng, 60)},
            {0.01 + 0.9 * rng_double(&rng), rng_below(&rng, 60), rng_below(&rng, 60)}};
        double above = (double)INFINITY;
        double below = -(double)INFINITY;
        for (double log_null = -8.0; log_null <= 8.0; log_null += 0.25) {
            double next_above = log_e_at(STATS_RATIO_ABOVE, exp(log_null), segments, 2);
            double next_below = log_e_at(STATS_RATIO_BELOW, exp(log_null), segments, 2);
            assert_true(next_above <= above + 1e-9 && next_below >= below - 1e-9);
            above = next_above;
            below = next_below;
        }
    }
}

TEST(ends_of_the_scale)
{
    assert_true(lower_of(NULL, 0) <= 0.0 && isinf(upper_of(NULL, 0)));
    struct stats_effect_segment canary_only = {0.5, 1000, 0};
    assert_true(lower_of(&canary_only, 1) > 10.0 && isinf(upper_of(&canary_only, 1)));
    struct stats_effect_segment baseline_only = {0.5, 0, 1000};
    assert_true(lower_of(&baseline_only, 1) <= 0.0 && upper_of(&baseline_only, 1) < 0.1);
    struct stats_effect_segment no_baseline_arm = {1.0, 1000, 0};
    assert_true(lower_of(&no_baseline_arm, 1) <= 0.0);
}

// The lower bound at alpha = .05, looked at 40 times, ever above the true ratio 2: at most 5 %.
TEST(lower_bound_covers_at_any_time)
{
    struct rng rng;
    int missed = 0;
    rng_init(&rng, 37);
    for (int r = 0; r < 300; r++) {
        struct stats_effect_segment segments[2] = {{0.05, 0, 0}, {0.25, 0, 0}};
        bool miss = false;
        for (int look = 0; look < 40; look++) {
            struct stats_effect_segment *now = &segments[look / 20];
            double theta = now->weight * 2.0 / (now->weight * 2.0 + 1.0 - now->weight);
            for (int i = 0; i < 20; i++) {
                bool canary = rng_double(&rng) < theta;
                now->canary_events += canary;
                now->baseline_events += !canary;
            }
            // Asking whether the bound passes 2 is asking whether the null 2 is rejected.
            miss = miss || log_e_at(STATS_RATIO_ABOVE, 2.0, segments, 2) >= log(20.0);
        }
        if (miss)
            missed++;
        double lower = stats_effect_lower(segments, 2, STATS_RATIO_STEP_MIN, 0.05);
        assert_true((lower >= 2.0) == (log_e_at(STATS_RATIO_ABOVE, 2.0, segments, 2) >= log(20.0)));
    }
    // 300 runs: 15 expected at most, 26 is three standard errors above.
    assert_in_range(missed, 0, 26);
}
