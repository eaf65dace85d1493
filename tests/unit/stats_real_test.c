// SPDX-License-Identifier: Apache-2.0
// stats/real: the elementary functions agree with the C library to a few ulp, and have fixed bits.
#include <float.h>
#include <math.h>

#include "base/rng.h"
#include "stats/real.h"
#include "test.h"

static double any_real(struct rng *rng, double low, double high)
{
    return low + (high - low) * rng_double(rng);
}

TEST(logarithm)
{
    struct rng rng;
    rng_init(&rng, 1);
    for (int i = 0; i < 200000; i++) {
        double x = exp(any_real(&rng, -700.0, 700.0));
        assert_true(fabs(stats_ln(x) - log(x)) <= 4.0 * DBL_EPSILON * fabs(log(x)));
        x = 1.0 + any_real(&rng, -0.01, 0.01);
        assert_true(fabs(stats_ln(x) - log(x)) <= 4.0 * DBL_EPSILON * fabs(log(x)));
    }
    assert_true(stats_ln(1.0) >= 0.0 && stats_ln(1.0) <= 0.0);
    assert_true(isfinite(stats_ln(DBL_MIN)) && isfinite(stats_ln(DBL_MAX)));
}

TEST(exponential)
{
    struct rng rng;
    rng_init(&rng, 2);
    for (int i = 0; i < 200000; i++) {
        double x = any_real(&rng, -708.0, 709.0);
        assert_true(fabs(stats_exp(x) - exp(x)) <= 4.0 * DBL_EPSILON * exp(x));
    }
    assert_true(stats_exp(0.0) >= 1.0 && stats_exp(0.0) <= 1.0);
    assert_true(stats_exp(-1e300) <= 0.0 && stats_exp((double)-INFINITY) <= 0.0);
    assert_true(stats_exp(1e300) >= DBL_MAX && isfinite(stats_exp((double)INFINITY)));
}

TEST(log_gamma)
{
    struct rng rng;
    rng_init(&rng, 3);
    for (int i = 0; i < 100000; i++) {
        double x = exp(any_real(&rng, -10.0, 30.0));
        double expected = lgamma(x);
        assert_true(fabs(stats_ln_gamma(x) - expected) <= 1e-13 + 1e-14 * fabs(expected));
    }
}

TEST(means)
{
    double values[4] = {1.0, 2.0, -3.0, 0.5};
    double weights[4] = {1.0, 2.0, 0.0, 1.0};
    double mean = log((exp(1.0) + exp(2.0) + exp(-3.0) + exp(0.5)) / 4.0);
    assert_true(fabs(stats_log_mean_exp(values, 4) - mean) < 1e-14);
    mean = log((exp(1.0) + 2.0 * exp(2.0) + exp(0.5)) / 4.0);
    assert_true(fabs(stats_log_weighted_mean_exp(values, weights, 4) - mean) < 1e-14);
    values[2] = (double)INFINITY;
    assert_true(fabs(stats_log_weighted_mean_exp(values, weights, 4) - mean) < 1e-14);
    assert_true(isinf(stats_log_mean_exp(values, 4)));
    double huge[2] = {-1e6, -1e6};
    assert_true(fabs(stats_log_mean_exp(huge, 2) + 1e6) < 1e-9);
    double nothing[2] = {(double)-INFINITY, (double)-INFINITY};
    assert_true(isinf(stats_log_mean_exp(nothing, 2)) && stats_log_mean_exp(nothing, 2) < 0.0);
}

// The same bits on every compiler, library and level of optimisation: a hash over many results.
TEST(fixed_bits)
{
    struct rng rng;
    uint64_t hash = 0;
    rng_init(&rng, 4);
    for (int i = 0; i < 100000; i++) {
        union {
            double real;
            uint64_t bits;
        } result[3] = {{stats_ln(any_real(&rng, 1e-9, 1e9))},
                       {stats_exp(any_real(&rng, -50.0, 50.0))},
                       {stats_ln_gamma(any_real(&rng, 1e-3, 1e6))}};
        for (int k = 0; k < 3; k++) {
            hash ^= result[k].bits;
            hash = rng_splitmix(&hash);
        }
    }
    print_message("bits of 300000 results: %016llx\n", (unsigned long long)hash);
    assert_true(hash == 0x7add57f1a57e42f9ULL);
}
