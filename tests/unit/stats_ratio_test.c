// SPDX-License-Identifier: Apache-2.0
// stats/ratio: golden values, both directions, silence without two arms, order independence, validity while
// the weight ramps and the base rate drifts, power.
#include <math.h>

#include "base/check.h"
#include "base/rng.h"
#include "stats/ratio.h"
#include "stats/real.h"
#include "test.h"

struct span {
    double weight;
    uint64_t canary;
    uint64_t baseline;
};

static struct stats_ratio_grid bad;
static struct stats_ratio_grid good;

static int make_grids(void **state)
{
    (void)state;
    stats_ratio_grid_init(&bad, STATS_RATIO_ABOVE, 1.0, STATS_RATIO_STEP_MIN, STATS_RATIO_STEP_MAX);
    stats_ratio_grid_init(&good, STATS_RATIO_BELOW, 1.25, STATS_RATIO_STEP_MIN, STATS_RATIO_STEP_MAX);
    return 0;
}

ALL_TESTS(make_grids, NULL);

static double log_e_of(const struct stats_ratio_grid *grid, const struct span *spans, size_t count)
{
    struct stats_ratio_state state = {.ll = {0}};
    for (size_t i = 0; i < count; i++)
        stats_ratio_add(grid, &state, spans[i].weight, spans[i].canary, spans[i].baseline);
    return stats_ratio_log_e(&state);
}

static void assert_near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance))
        fail_msg("%.9f is not within %g of %.9f", value, tolerance, expected);
}

TEST(golden_values)
{
    assert_near(log_e_of(&bad, (struct span[]){{0.5, 30, 10}}, 1), 3.858366, 1e-6);
    assert_near(log_e_of(&bad, (struct span[]){{0.5, 7, 0}}, 1), 3.103935, 1e-6);
    assert_near(log_e_of(&bad, (struct span[]){{0.05, 3, 0}}, 1), 5.186260, 1e-6);
    assert_near(log_e_of(&bad, (struct span[]){{0.5, 100, 100}}, 1), -1.848992, 1e-6);
    assert_near(log_e_of(&good, (struct span[]){{0.5, 200, 200}}, 1), 1.242504, 1e-6);
}

TEST(golden_value_over_two_weights)
{
    assert_near(log_e_of(&bad, (struct span[]){{0.05, 5, 60}, {0.5, 12, 10}}, 2), -0.250863, 1e-6);
}

// Independent of the module's own arithmetic: the likelihood ratio term by term with the C library.
TEST(against_direct_likelihood)
{
    struct span spans[] = {{0.01, 2, 90}, {0.1, 11, 100}, {0.25, 30, 70}};
    double sum = 0.0;
    for (int j = 0; j < 24; j++) {
        double ratio = exp(0.02 * pow(3.5 / 0.02, j / 23.0) * -1.0);
        double ll = 0.0;
        for (size_t i = 0; i < 3; i++) {
            double w = spans[i].weight;
            double theta = w * ratio / (w * ratio + 1.0 - w);
            ll += (double)spans[i].canary * log(theta / w) +
                  (double)spans[i].baseline * log((1.0 - theta) / (1.0 - w));
        }
        sum += exp(ll) / 24.0;
    }
    struct stats_ratio_grid fewer;
    stats_ratio_grid_init(&fewer, STATS_RATIO_BELOW, 1.0, STATS_RATIO_STEP_MIN_THROUGHPUT,
                          STATS_RATIO_STEP_MAX);
    assert_near(log_e_of(&fewer, spans, 3), log(sum), 1e-10);
}

TEST(one_arm_is_silent)
{
    static const double WEIGHTS[] = {0.0, 1.0, -0.5, 1.5};
    for (size_t i = 0; i < ARRAY_LEN(WEIGHTS); i++)
        assert_near(log_e_of(&bad, (struct span[]){{WEIGHTS[i], 1000, 3}}, 1), 0.0, 1e-12);
    assert_near(log_e_of(&bad, (struct span[]){{(double)NAN, 1000, 3}}, 1), 0.0, 1e-12);
    assert_near(log_e_of(&bad, NULL, 0), 0.0, 1e-12);
}

TEST(terms_agree_with_add)
{
    struct stats_ratio_terms terms;
    struct stats_ratio_state by_terms = {.ll = {0}};
    struct stats_ratio_state by_add = {.ll = {0}};
    stats_ratio_terms_init(&bad, 0.1, &terms);
    stats_ratio_add_terms(&bad, &terms, &by_terms, 7, 20);
    stats_ratio_add(&bad, &by_add, 0.1, 7, 20);
    assert_memory_equal(&by_terms, &by_add, sizeof by_add);
    stats_ratio_add_terms(&bad, &terms, &by_terms, 2, 40);
    stats_ratio_add(&bad, &by_add, 0.1, 2, 40);
    assert_memory_equal(&by_terms, &by_add, sizeof by_add);
}

TEST(order_does_not_matter)
{
    struct span spans[100];
    struct rng rng;
    rng_init(&rng, 3);
    for (size_t i = 0; i < 100; i++) {
        spans[i].weight = 0.01 + 0.9 * rng_double(&rng);
        spans[i].canary = rng_below(&rng, 50);
        spans[i].baseline = rng_below(&rng, 50);
    }
    double expected = log_e_of(&bad, spans, 100);
    for (int round = 0; round < 20; round++) {
        for (size_t i = 99; i > 0; i--) {
            size_t other = (size_t)rng_below(&rng, i + 1);
            struct span swapped = spans[i];
            spans[i] = spans[other];
            spans[other] = swapped;
        }
        assert_near(log_e_of(&bad, spans, 100), expected, 1e-9);
    }
}

TEST(large_counts_stay_finite)
{
    double log_e = log_e_of(&bad, (struct span[]){{0.5, UINT64_MAX, UINT64_MAX}, {0.1, UINT64_MAX, 0}}, 2);
    assert_true(isfinite(log_e));
    log_e = log_e_of(&bad, (struct span[]){{0.5, 0, 1000000000}}, 1);
    assert_true(isfinite(log_e) && log_e < 0.0);
}

// One run of a ramp 1 → 50 % in 50 spans with R = ratio, while the shared base rate grows fivefold. Whether E
// >= 100 at any look.
static bool ramp_rejects(struct rng *rng, double ratio)
{
    static const double RAMP[] = {0.01, 0.05, 0.10, 0.25, 0.50};
    struct stats_ratio_state state = {.ll = {0}};
    for (int span = 0; span < 50; span++) {
        double w = RAMP[span / 10];
        double theta = w * ratio / (w * ratio + 1.0 - w);
        uint64_t events = 10 + (uint64_t)span;
        uint64_t canary = 0;
        for (uint64_t i = 0; i < events; i++)
            canary += rng_double(rng) < theta;
        stats_ratio_add(&bad, &state, w, canary, events - canary);
        if (stats_ratio_log_e(&state) >= 4.605170185988091)
            return true;
    }
    return false;
}

TEST(false_alarms_while_the_weight_ramps)
{
    struct rng rng;
    int alarms = 0;
    int detections = 0;
    rng_init(&rng, 5);
    for (int r = 0; r < 3000; r++)
        alarms += ramp_rejects(&rng, 1.0);
    for (int r = 0; r < 300; r++)
        detections += ramp_rejects(&rng, 2.0);
    // 3000 runs at 1 %: 30 expected at most, 47 is three standard errors above.
    assert_true(alarms <= 47);
    assert_true(detections >= 290);
}

TEST(weighted_mean_of_metrics)
{
    double log_e[2] = {log_e_of(&bad, (struct span[]){{0.5, 30, 10}}, 1),
                       log_e_of(&bad, (struct span[]){{0.5, 7, 0}}, 1)};
    double weights[2] = {0.7, 0.3};
    double expected = log(0.7 * exp(3.858366) + 0.3 * exp(3.103935));
    assert_near(stats_log_weighted_mean_exp(log_e, weights, 2), expected, 1e-6);
}
