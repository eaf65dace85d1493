// SPDX-License-Identifier: Apache-2.0
// stats/histogram: the index covers the range without gaps, mid-points are near, merge and subtract are
// exact, ranks follow the stated rule.
#include <math.h>

#include "base/rng.h"
#include "stats/histogram.h"
#include "test.h"

static struct stats_histogram first;
static struct stats_histogram second;
static struct stats_histogram both;

static int clear(void **state)
{
    (void)state;
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
    memset(&both, 0, sizeof both);
    return 0;
}

EACH_TEST(clear, NULL);

// A value with a random magnitude below 64 - shift_min bits.
static uint64_t any_value(struct rng *rng, uint64_t shift_min, uint64_t magnitudes)
{
    uint64_t shift = shift_min + rng_below(rng, magnitudes);
    return rng_next(rng) >> shift;
}

TEST(index_formula)
{
    assert_int_equal(stats_histogram_index(0), 0);
    assert_int_equal(stats_histogram_index(255), 255);
    assert_int_equal(stats_histogram_index(256), 256);
    assert_int_equal(stats_histogram_index(257), 256);
    assert_int_equal(stats_histogram_index(511), 383);
    assert_int_equal(stats_histogram_index(512), 384);
    assert_int_equal(stats_histogram_index(1000000), (12 << 7) + (1000000 >> 12));
    assert_int_equal(stats_histogram_index(STATS_HISTOGRAM_VALUE_MAX), STATS_HISTOGRAM_BUCKETS - 1);
    assert_int_equal(stats_histogram_index(STATS_HISTOGRAM_VALUE_MAX + 1), STATS_HISTOGRAM_BUCKETS - 1);
    assert_int_equal(stats_histogram_index(UINT64_MAX), STATS_HISTOGRAM_BUCKETS - 1);
}

TEST(buckets_tile_the_range)
{
    uint64_t expected_low = 0;
    for (uint32_t i = 0; i < STATS_HISTOGRAM_BUCKETS; i++) {
        uint64_t low = stats_histogram_low(i);
        uint64_t high = stats_histogram_high(i);
        assert_true(low == expected_low);
        assert_int_equal(stats_histogram_index(low), i);
        assert_int_equal(stats_histogram_index(high), i);
        expected_low = high + 1;
    }
    assert_true(expected_low == STATS_HISTOGRAM_VALUE_MAX + 1);
}

TEST(mid_point_error)
{
    double worst = 0.0;
    for (uint32_t i = 1; i < STATS_HISTOGRAM_BUCKETS; i++) {
        double low = (double)stats_histogram_low(i);
        double high = (double)stats_histogram_high(i);
        double mid = (double)stats_histogram_mid(i);
        assert_int_equal(stats_histogram_index(stats_histogram_mid(i)), i);
        worst = fmax(worst, fmax((mid - low) / low, (high - mid) / high));
    }
    assert_true(worst <= 0.0039);
    assert_true(worst > 0.0038);
}

TEST(subtract_is_exact)
{
    struct rng rng;
    rng_init(&rng, 7);
    for (int i = 0; i < 200000; i++) {
        uint64_t value = any_value(&rng, 24, 40);
        stats_histogram_record(i % 3 ? &first : &second, value);
        stats_histogram_record(&both, value);
    }
    stats_histogram_subtract(&both, &second);
    assert_memory_equal(&first, &both, sizeof both);
}

TEST(differences_survive_wrapping)
{
    first.buckets[9] = UINT32_MAX;
    first.count = UINT32_MAX;
    struct stats_histogram earlier = first;
    stats_histogram_record(&first, 9);
    stats_histogram_subtract(&first, &earlier);
    assert_true(first.count == 1 && first.buckets[9] == 1 && first.sum == 9);
}

TEST(rank_rule)
{
    assert_int_equal(stats_histogram_quantile(&first, 0.5), 0);
    assert_int_equal(stats_histogram_edge(&first, 0.5), 0);
    for (uint64_t value = 1; value <= 100; value++)
        stats_histogram_record(&first, value);
    assert_int_equal(stats_histogram_quantile(&first, 0.0), 1);
    assert_int_equal(stats_histogram_quantile(&first, -1.0), 1);
    assert_int_equal(stats_histogram_quantile(&first, (double)NAN), 1);
    assert_int_equal(stats_histogram_quantile(&first, 0.001), 1);
    assert_int_equal(stats_histogram_quantile(&first, 0.07), 7);
    assert_int_equal(stats_histogram_quantile(&first, 0.501), 51);
    assert_int_equal(stats_histogram_quantile(&first, 1.0), 100);
    assert_int_equal(stats_histogram_quantile(&first, 2.0), 100);
    for (int percent = 1; percent <= 100; percent++)
        assert_int_equal(stats_histogram_quantile(&first, percent / 100.0), percent);
}

static int compare(const void *a, const void *b)
{
    const uint64_t *left = a;
    const uint64_t *right = b;
    return (*left > *right) - (*left < *right);
}

TEST(quantiles_against_sorted_values)
{
    static uint64_t values[20000];
    struct rng rng;
    rng_init(&rng, 11);
    for (size_t i = 0; i < 20000; i++) {
        values[i] = (uint64_t)(20000.0 * pow(1.0 - rng_double(&rng), -0.5));
        stats_histogram_record(&first, values[i]);
    }
    qsort(values, 20000, sizeof values[0], compare);
    static const double QUANTILES[] = {0.01, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0};
    for (size_t k = 0; k < sizeof QUANTILES / sizeof QUANTILES[0]; k++) {
        uint64_t exact = values[(size_t)ceil(QUANTILES[k] * 20000 - 1e-6) - 1];
        uint64_t estimate = stats_histogram_quantile(&first, QUANTILES[k]);
        assert_true(fabs((double)estimate - (double)exact) <= 0.0039 * (double)exact);
    }
}

TEST(edges_bound_the_tail)
{
    struct rng rng;
    rng_init(&rng, 13);
    for (int i = 0; i < 50000; i++)
        stats_histogram_record(&first, any_value(&rng, 34, 10));
    static const double QUANTILES[] = {0.5, 0.9, 0.99, 0.999};
    for (size_t k = 0; k < 4; k++) {
        uint64_t edge = stats_histogram_edge(&first, QUANTILES[k]);
        assert_true(stats_histogram_high(stats_histogram_index(edge)) == edge);
        uint64_t above = stats_histogram_count_above(&first, edge);
        assert_true((double)above <= (1.0 - QUANTILES[k]) * 50000 + 1e-6);
        rng_init(&rng, 13);
        uint64_t counted = 0;
        for (int i = 0; i < 50000; i++)
            counted += any_value(&rng, 34, 10) > edge;
        assert_true(counted == above);
    }
}

TEST(edge_scale)
{
    assert_int_equal(stats_histogram_edge_scale(100, 1.25), 125);
    assert_int_equal(stats_histogram_edge_scale(100, 1.0), 100);
    assert_int_equal(stats_histogram_edge_scale(0, 3.0), 0);
    assert_true(stats_histogram_edge_scale(STATS_HISTOGRAM_VALUE_MAX, 2.0) == STATS_HISTOGRAM_VALUE_MAX);
    for (uint32_t i = 1; i < STATS_HISTOGRAM_BUCKETS; i += 7) {
        uint64_t edge = stats_histogram_high(i);
        assert_true(stats_histogram_edge_scale(edge, 1.0) == edge);
        uint64_t scaled = stats_histogram_edge_scale(edge, 1.25);
        assert_true((double)scaled <= 1.25 * (double)edge);
        assert_true(scaled >= edge);
        assert_true(scaled == STATS_HISTOGRAM_VALUE_MAX || (double)scaled >= 1.24 * (double)edge - 1.0);
        assert_true(stats_histogram_high(stats_histogram_index(scaled)) == scaled);
    }
}
