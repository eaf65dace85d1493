// SPDX-License-Identifier: Apache-2.0
// Sample-ratio test: the product of one Dirichlet-multinomial per weight vector. Only counts are kept, so the
// result does not depend on the order of spans (until a segment is closed because there is no room).
#include "stats/srm.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/check.h"
#include "stats/real.h"

void stats_srm_init(struct stats_srm *srm, uint32_t arms)
{
    CHECK(arms >= 2 && arms <= STATS_SRM_ARMS_MAX);
    *srm = (struct stats_srm){.arms = arms};
}

// ln of predicted to stated probability of a segment's counts: lnB(a + n) - lnB(a) - sum n·ln w, a = k·w.
static double srm_segment_log_e(const struct stats_srm_segment *segment, uint32_t arms)
{
    double log_e = 0.0;
    double total = 0.0;
    for (uint32_t i = 0; i < arms; i++) {
        double weight = segment->weights[i];
        if (weight < DBL_MIN || segment->counts[i] == 0)
            continue;
        double prior = STATS_SRM_CONCENTRATION * weight;
        double count = (double)segment->counts[i];
        total += count;
        log_e += stats_ln_gamma(prior + count) - stats_ln_gamma(prior) - count * stats_ln(weight);
    }
    return log_e -
           (stats_ln_gamma(STATS_SRM_CONCENTRATION + total) - stats_ln_gamma(STATS_SRM_CONCENTRATION));
}

static void srm_close_oldest(struct stats_srm *srm)
{
    srm->closed_log_e += srm_segment_log_e(&srm->segments[0], srm->arms);
    srm->segment_count--;
    memmove(&srm->segments[0], &srm->segments[1], srm->segment_count * sizeof srm->segments[0]);
}

static struct stats_srm_segment *srm_segment_of(struct stats_srm *srm, const double *weights)
{
    for (uint32_t s = 0; s < srm->segment_count; s++) {
        struct stats_srm_segment *segment = &srm->segments[s];
        bool same = true;
        for (uint32_t i = 0; i < STATS_SRM_ARMS_MAX; i++)
            same = same && segment->weights[i] >= weights[i] && segment->weights[i] <= weights[i];
        if (same)
            return segment;
    }
    if (srm->segment_count == STATS_SRM_SEGMENTS_MAX)
        srm_close_oldest(srm);
    struct stats_srm_segment *fresh = &srm->segments[srm->segment_count++];
    *fresh = (struct stats_srm_segment){.counts = {0}};
    memcpy(fresh->weights, weights, sizeof fresh->weights);
    return fresh;
}

enum status stats_srm_add(struct stats_srm *srm, const double *weights, const uint64_t *requests)
{
    double total = 0.0;
    for (uint32_t i = 0; i < srm->arms; i++) {
        if (!(weights[i] >= 0.0 && weights[i] <= DBL_MAX))
            return STATUS_RANGE;
        total += weights[i];
    }
    if (!(total >= DBL_MIN && total <= DBL_MAX))
        return STATUS_RANGE;
    double shares[STATS_SRM_ARMS_MAX] = {0};
    for (uint32_t i = 0; i < srm->arms; i++)
        shares[i] = weights[i] / total;
    struct stats_srm_segment *segment = srm_segment_of(srm, shares);
    for (uint32_t i = 0; i < srm->arms; i++) {
        segment->counts[i] += requests[i];
        if (shares[i] < DBL_MIN)
            srm->impossible += requests[i];
    }
    return STATUS_OK;
}

double stats_srm_log_e(const struct stats_srm *srm)
{
    if (srm->impossible > 0)
        return (double)INFINITY;
    double log_e = srm->closed_log_e;
    for (uint32_t s = 0; s < srm->segment_count; s++)
        log_e += srm_segment_log_e(&srm->segments[s], srm->arms);
    return log_e;
}
