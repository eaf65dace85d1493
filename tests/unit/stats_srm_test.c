// SPDX-License-Identifier: Apache-2.0
// stats/srm: the design's closed form, changing weights, validity by simulation, power, impossible requests.
#include <math.h>

#include "base/rng.h"
#include "stats/srm.h"
#include "test.h"

static void add(struct stats_srm *srm, const double *weights, const uint64_t *requests)
{
    assert_int_equal(stats_srm_add(srm, weights, requests), STATUS_OK);
}

static void assert_near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance))
        fail_msg("%.9f is not within %g of %.9f", value, tolerance, expected);
}

static double log_beta(double a, double b)
{
    return lgamma(a) + lgamma(b) - lgamma(a + b);
}

TEST(closed_form_of_two_equal_arms)
{
    struct stats_srm srm;
    stats_srm_init(&srm, 2);
    assert_near(stats_srm_log_e(&srm), 0.0, 1e-12);
    add(&srm, (double[]){0.5, 0.5}, (uint64_t[]){300, 100});
    add(&srm, (double[]){1.0, 1.0}, (uint64_t[]){300, 300});
    double expected = log_beta(500 + 600, 500 + 400) - log_beta(500, 500) - 1000 * log(0.5);
    assert_near(stats_srm_log_e(&srm), expected, 1e-8);
    assert_int_equal(srm.segment_count, 1);
}

TEST(weights_have_their_own_segments)
{
    struct stats_srm srm;
    stats_srm_init(&srm, 3);
    double early[3] = {0.05, 0.05, 0.9};
    double late[3] = {0.25, 0.25, 0.5};
    add(&srm, early, (uint64_t[]){40, 60, 900});
    add(&srm, late, (uint64_t[]){250, 260, 500});
    add(&srm, early, (uint64_t[]){50, 50, 910});
    assert_int_equal(srm.segment_count, 2);
    double total = 0.0;
    double counts[2][3] = {{90, 110, 1810}, {250, 260, 500}};
    for (int s = 0; s < 2; s++) {
        const double *w = s ? late : early;
        double n = counts[s][0] + counts[s][1] + counts[s][2];
        total -= lgamma(1000.0 + n) - lgamma(1000.0);
        for (int i = 0; i < 3; i++)
            total += lgamma(1000 * w[i] + counts[s][i]) - lgamma(1000 * w[i]) - counts[s][i] * log(w[i]);
    }
    assert_near(stats_srm_log_e(&srm), total, 1e-8);
}

TEST(full_segments_close)
{
    struct stats_srm srm;
    stats_srm_init(&srm, 2);
    double expected = 0.0;
    for (int i = 1; i <= 40; i++) {
        struct stats_srm alone;
        double weights[2] = {i, 100.0 - i};
        uint64_t requests[2] = {(uint64_t)i * 3, 200};
        stats_srm_init(&alone, 2);
        add(&srm, weights, requests);
        add(&alone, weights, requests);
        expected += stats_srm_log_e(&alone);
    }
    assert_int_equal(srm.segment_count, STATS_SRM_SEGMENTS_MAX);
    assert_near(stats_srm_log_e(&srm), expected, 1e-8);
}

TEST(arm_without_weight)
{
    struct stats_srm srm;
    stats_srm_init(&srm, 2);
    add(&srm, (double[]){0.0, 1.0}, (uint64_t[]){0, 500000});
    assert_near(stats_srm_log_e(&srm), 0.0, 1e-6);
    add(&srm, (double[]){0.0, 1.0}, (uint64_t[]){1, 0});
    assert_true(isinf(stats_srm_log_e(&srm)));
}

TEST(refused_weights_change_nothing)
{
    struct stats_srm srm;
    stats_srm_init(&srm, 2);
    add(&srm, (double[]){0.2, 0.8}, (uint64_t[]){10, 40});
    struct stats_srm before = srm;
    uint64_t requests[2] = {1, 1};
    assert_int_equal(stats_srm_add(&srm, (double[]){0.0, 0.0}, requests), STATUS_RANGE);
    assert_int_equal(stats_srm_add(&srm, (double[]){-0.1, 1.1}, requests), STATUS_RANGE);
    assert_int_equal(stats_srm_add(&srm, (double[]){(double)NAN, 1.0}, requests), STATUS_RANGE);
    assert_int_equal(stats_srm_add(&srm, (double[]){(double)INFINITY, 1.0}, requests), STATUS_RANGE);
    assert_memory_equal(&srm, &before, sizeof before);
}

// A ramp looked at in every span, the weight vector alternating between workers that acknowledge late. truth
// scales the canary's true share. Whether E ever reaches the threshold.
static bool ramp_rejects(struct rng *rng, double truth, double threshold)
{
    static const double RAMP[] = {0.01, 0.05, 0.10, 0.25, 0.50};
    struct stats_srm srm;
    stats_srm_init(&srm, 2);
    for (int span = 0; span < 100; span++) {
        int stage = span / 20;
        if (stage > 0 && span % 20 < 4 && span % 2 == 0)
            stage--;
        double weight = RAMP[stage];
        uint64_t canary = 0;
        for (int i = 0; i < 300; i++)
            canary += rng_double(rng) < weight * truth;
        add(&srm, (double[]){weight, 1.0 - weight}, (uint64_t[]){canary, 300 - canary});
        if (stats_srm_log_e(&srm) >= threshold)
            return true;
    }
    return false;
}

TEST(false_alarms_and_power_over_a_ramp)
{
    struct rng rng;
    int alarms = 0;
    int alarms_at_five_percent = 0;
    int detections = 0;
    rng_init(&rng, 9);
    for (int r = 0; r < 500; r++) {
        alarms += ramp_rejects(&rng, 1.0, STATS_SRM_LOG_E_STOP);
        alarms_at_five_percent += ramp_rejects(&rng, 1.0, log(20.0));
    }
    for (int r = 0; r < 50; r++)
        detections += ramp_rejects(&rng, 1.25, STATS_SRM_LOG_E_STOP);
    // 500 runs: at 0.1 % at most 0.5 expected, at 5 % at most 25; the limits are three standard errors above.
    assert_in_range(alarms, 0, 3);
    assert_in_range(alarms_at_five_percent, 0, 40);
    assert_true(detections >= 48);
}
