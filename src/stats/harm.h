// SPDX-License-Identifier: Apache-2.0
// Whether moving on is affordable: shows that the canary's rate of bad events is less than the baseline's
// plus d, at any time, with few requests when d is large. A rollout that goes from weight w to w' with a
// budget of h (the share of all requests that may fail more than today because of this step) needs d = h / w'
// only.
#pragma once

#include <stdint.h>

// Sums over one stage with one weight, so that load and drift, which the arms share, affect both alike.
struct stats_harm_counts {
    uint64_t canary_requests, canary_events;
    uint64_t baseline_requests, baseline_events;
};

// A lower bound of the rate behind requests and events that holds at every instant at once with probability
// >= 1 - alpha: the largest rate that the one-sample e-process (stats/bernoulli.h, ABOVE) rejects. 0 when it
// rejects none. Needs independent events. 0 < alpha < 1 (CHECK).
double stats_harm_rate_low(uint64_t requests, uint64_t events, double alpha);

// ln E against H0: canary rate >= baseline rate + d, the baseline's rate taken at its lower bound (beta / 2).
// When it reaches ln(2 / beta), "canary rate < baseline rate + d" is shown; over all looks the probability to
// show it wrongly is at most beta: either the bound fails once (beta / 2), or the e-process for a null at or
// above the bound plus d does (beta / 2), and it grows with the null. Counts of one stage; not a sum over
// prefixes. 0 < d, 0 < beta < 1 (CHECK). A bound plus d of 1 and more is shown at once.
double stats_harm_log_e(const struct stats_harm_counts *counts, double d, double beta);
