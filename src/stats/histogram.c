// SPDX-License-Identifier: Apache-2.0
// Operations on whole histograms: subtract, ranks. Integers only, but for the q of a quantile.
#include "stats/histogram.h"

#include "base/check.h"

void stats_histogram_subtract(struct stats_histogram *into, const struct stats_histogram *from)
{
    into->count -= from->count;
    into->sum -= from->sum;
    for (uint32_t i = 0; i < STATS_HISTOGRAM_BUCKETS; i++)
        into->buckets[i] -= from->buckets[i];
}

// max(1, ceil(q·count)). Rounding errors of the product are ignored: 0.07·100 gives rank 7, not 8.
static uint64_t histogram_rank(uint64_t count, double q)
{
    if (!(q > 0.0))
        return 1;
    if (q >= 1.0)
        return count;
    double product = q * (double)count * (1.0 - 0x1.0p-50);
    uint64_t rank = (uint64_t)product;
    if ((double)rank < product)
        rank++;
    if (rank < 1)
        return 1;
    return rank > count ? count : rank;
}

// The bucket that holds the value of the given rank; the last used bucket when wrapped buckets hold too few.
static uint32_t histogram_bucket_of_rank(const struct stats_histogram *histogram, uint64_t rank)
{
    uint64_t seen = 0;
    uint32_t last = 0;
    for (uint32_t i = 0; i < STATS_HISTOGRAM_BUCKETS; i++) {
        if (histogram->buckets[i] == 0)
            continue;
        seen += histogram->buckets[i];
        last = i;
        if (seen >= rank)
            break;
    }
    return last;
}

uint64_t stats_histogram_quantile(const struct stats_histogram *histogram, double q)
{
    if (histogram->count == 0)
        return 0;
    return stats_histogram_mid(histogram_bucket_of_rank(histogram, histogram_rank(histogram->count, q)));
}

uint64_t stats_histogram_edge(const struct stats_histogram *histogram, double q)
{
    if (histogram->count == 0)
        return 0;
    return stats_histogram_high(histogram_bucket_of_rank(histogram, histogram_rank(histogram->count, q)));
}

uint64_t stats_histogram_edge_scale(uint64_t edge, double factor)
{
    CHECK(factor > 0.0);
    double scaled = (double)edge * factor;
    if (scaled >= (double)STATS_HISTOGRAM_VALUE_MAX)
        return STATS_HISTOGRAM_VALUE_MAX;
    uint64_t value = (uint64_t)scaled;
    uint32_t index = stats_histogram_index(value);
    return stats_histogram_high(index) == value ? value : stats_histogram_high(index - 1);
}

uint64_t stats_histogram_count_above(const struct stats_histogram *histogram, uint64_t edge)
{
    uint64_t above = 0;
    for (uint32_t i = stats_histogram_index(edge) + 1; i < STATS_HISTOGRAM_BUCKETS; i++)
        above += histogram->buckets[i];
    return above;
}
