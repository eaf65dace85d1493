// SPDX-License-Identifier: Apache-2.0
// Sample-ratio mismatch: are requests spread over the arms as the weights say? Dirichlet-multinomial against
// the stated multinomial, prior Dirichlet(k·w), k = 1000 (Lindon and Malek 2022). A mismatch blocks every
// verdict, because the assignment itself is then broken. Only requests assigned by hash count: forced,
// segment and sticky ones were not drawn with w and must be left out. When weights change, each weight vector
// has its own posterior, which starts from its own prior and learns only from requests routed with that
// vector. So every request is predicted by a distribution fixed before it was drawn, and the product of
// predicted to stated probabilities is a martingale with mean 1, in whatever order the spans come.
#pragma once

#include <stdint.h>

#include "base/status.h"

#define STATS_SRM_ARMS_MAX 3
#define STATS_SRM_SEGMENTS_MAX 16
#define STATS_SRM_CONCENTRATION 1000.0
// ln 1000: at E >= 1000 the assignment is called broken.
#define STATS_SRM_LOG_E_STOP 6.907755278982137

struct stats_srm_segment {
    double weights[STATS_SRM_ARMS_MAX];
    uint64_t counts[STATS_SRM_ARMS_MAX];
};

// An empty test has only `arms` set; all else is zero. When a seventeenth weight vector comes, the oldest
// segment is closed: its evidence stays in closed_log_e and its posterior is forgotten. The test stays valid.
struct stats_srm {
    uint32_t arms;
    uint32_t segment_count;
    double closed_log_e;
    uint64_t impossible; // requests seen on an arm with weight 0
    struct stats_srm_segment segments[STATS_SRM_SEGMENTS_MAX];
};

// arms is 2 or 3 (CHECK).
void stats_srm_init(struct stats_srm *srm, uint32_t arms);

// Requests per arm in a span with constant weights. Weights are normalised to sum 1. STATUS_RANGE, and
// nothing is added, when a weight is negative or not finite, or all are 0.
MUST_USE enum status stats_srm_add(struct stats_srm *srm, const double *weights, const uint64_t *requests);

// ln E. One request on an arm with weight 0 cannot happen under H0: the result is then infinity.
double stats_srm_log_e(const struct stats_srm *srm);
