// SPDX-License-Identifier: Apache-2.0
// Watch on one rate for a change at an unknown time: e-CUSUM M_t = e_t·max(1, M_{t-1}), one per alternative,
// averaged over the bank (Shin, Ramdas, Rinaldo 2023, "E-detectors": a mixture of e-detectors is one). H0: p
// <= p0 all along. Used where no baseline runs beside the canary any more (soak at 100 %, watch after
// promotion). Bound: M_t is at most the Shiryaev-Roberts sum, a submartingale of mean <= t under H0, so by
// Doob P(max over N steps of M >= N/alpha) <= alpha.
#pragma once

#include <stdint.h>

#include "stats/bernoulli.h"

// log_m is ln M_j. All zeros is the start (M_0 = 1; max(1, M) makes any start <= 1 the same).
struct stats_ecusum {
    uint64_t steps;
    double log_m[STATS_BERNOULLI_ALTERNATIVES];
};

// One step: the batch of one tick. A batch without trials is no step, because no data is no evidence. The
// grid is of side STATS_BERNOULLI_ABOVE. p0 is taken as exactly known: pass an upper bound that covers its
// uncertainty, not a bare estimate.
void stats_ecusum_add(const struct stats_bernoulli_grid *grid, struct stats_ecusum *ecusum, uint64_t trials,
                      uint64_t events);

// ln M, M averaged over the bank.
double stats_ecusum_log_m(const struct stats_ecusum *ecusum);

// The alarm threshold ln(steps_max / alpha): with it, the probability of any false alarm during a whole watch
// of steps_max steps is at most alpha. Fewer, longer steps give a lower threshold and a later first look. 0 <
// alpha < 1, steps_max >= 1 (CHECK).
double stats_ecusum_threshold(uint64_t steps_max, double alpha);
