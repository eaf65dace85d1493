// SPDX-License-Identifier: Apache-2.0
// Base-2 log-linear histogram of integers (microseconds, bytes) with 7 sub-bucket bits: values below 256 have
// a bucket each, above that every power of two is cut into 128. Subtracting is exact, bucket by bucket.
// Invariant: count equals the sum of the buckets as long as no bucket wrapped.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define STATS_HISTOGRAM_SUB_BITS 7
#define STATS_HISTOGRAM_RANGE_BITS 36
// 128 buckets for each shift 0..28 and 128 more below 128: the index of 2^36 - 1 is 3839.
#define STATS_HISTOGRAM_BUCKETS 3840u
#define STATS_HISTOGRAM_VALUE_MAX ((UINT64_C(1) << STATS_HISTOGRAM_RANGE_BITS) - 1)

_Static_assert(STATS_HISTOGRAM_BUCKETS ==
                   ((STATS_HISTOGRAM_RANGE_BITS - STATS_HISTOGRAM_SUB_BITS + 1) << STATS_HISTOGRAM_SUB_BITS),
               "the bucket count follows from the range");

// All zeros is an empty histogram. A bucket counts modulo 2^32, count and sum modulo 2^64: the difference of
// two readings of one growing histogram (stats_histogram_subtract) is exact if fewer than 2^32 values fell
// into one bucket between them. sum adds values as given, not clamped.
struct stats_histogram {
    uint64_t count;
    uint64_t sum;
    uint32_t buckets[STATS_HISTOGRAM_BUCKETS];
};

// Bucket of a value. Values above STATS_HISTOGRAM_VALUE_MAX (19 hours in microseconds) are clamped to the
// last bucket.
static inline uint32_t stats_histogram_index(uint64_t value)
{
    if (value < (UINT64_C(2) << STATS_HISTOGRAM_SUB_BITS))
        return (uint32_t)value;
    if (value > STATS_HISTOGRAM_VALUE_MAX)
        return STATS_HISTOGRAM_BUCKETS - 1;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(value) - STATS_HISTOGRAM_SUB_BITS;
    return (shift << STATS_HISTOGRAM_SUB_BITS) + (uint32_t)(value >> shift);
}

// How many low bits a bucket ignores; index < STATS_HISTOGRAM_BUCKETS in this and the next three.
static inline uint32_t stats_histogram_shift(uint32_t index)
{
    return index < (2u << STATS_HISTOGRAM_SUB_BITS) ? 0 : (index >> STATS_HISTOGRAM_SUB_BITS) - 1;
}

// Smallest value of a bucket.
static inline uint64_t stats_histogram_low(uint32_t index)
{
    uint32_t shift = stats_histogram_shift(index);
    return (uint64_t)(index - (shift << STATS_HISTOGRAM_SUB_BITS)) << (shift & 63);
}

// Largest value of a bucket (inclusive): its upper edge.
static inline uint64_t stats_histogram_high(uint32_t index)
{
    return stats_histogram_low(index) + ((UINT64_C(1) << (stats_histogram_shift(index) & 63)) - 1);
}

// The bucket's mid-point: the value whose relative error is equal at both ends, at most 1/257 (0.389 %) for
// any value of the bucket (exact below 256).
static inline uint64_t stats_histogram_mid(uint32_t index)
{
    uint32_t shift = stats_histogram_shift(index);
    uint64_t steps = index - (shift << STATS_HISTOGRAM_SUB_BITS);
    return (steps << shift) + (((shift ? steps : 0) << shift) / (2 * steps + 1));
}

static inline void stats_histogram_record(struct stats_histogram *histogram, uint64_t value)
{
    histogram->count++;
    histogram->sum += value;
    histogram->buckets[stats_histogram_index(value)]++;
}

// into -= from, for every bucket, the count and the sum. from must be a part of into.
void stats_histogram_subtract(struct stats_histogram *into, const struct stats_histogram *from);

// The q-quantile, 0 <= q <= 1 (clamped). Rank rule: the value of rank max(1, ceil(q·count)) counted from the
// smallest, without interpolation (a product q·count that is an integer but for rounding counts as that
// integer). Returns the mid-point of its bucket; 0 for an empty histogram.
uint64_t stats_histogram_quantile(const struct stats_histogram *histogram, double q);

// The same, as the upper edge of the bucket: what is frozen as a latency edge. At most a share 1 - q of the
// values lies above it, and stats_histogram_count_above of it is exact. 0 for an empty histogram.
uint64_t stats_histogram_edge(const struct stats_histogram *histogram, double q);

// The largest bucket edge that is not above edge·factor (factor > 0), for "canary slower than m·T". Rounding
// down by at most 0.8 % only makes a promotion stricter. For factor >= 1 and a bucket edge, the result is >=
// edge.
uint64_t stats_histogram_edge_scale(uint64_t edge, double factor);

// How many values are greater than edge. Exact when edge is a bucket edge; otherwise values that share edge's
// bucket are not counted.
uint64_t stats_histogram_count_above(const struct stats_histogram *histogram, uint64_t edge);
