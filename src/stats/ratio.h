// SPDX-License-Identifier: Apache-2.0
// The kernel: an e-process for the ratio R of canary to baseline event rates, by conditioning on "an event
// happened": P(canary | event) = wR / (wR + 1 - w), w being the canary's weight when the request was ROUTED.
// ln E may be looked at after every event: under H0, P(sup E >= 1/alpha) <= alpha (Ville 1939), for any drift
// of the base rate that both arms share. Evidence of one span with one w needs only that span's two counts;
// totals over spans of different w must never be pooled. Sums are order-independent up to rounding.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define STATS_RATIO_ALTERNATIVES 24

// Log distance of the nearest and farthest alternative from the null; geometric in between.
#define STATS_RATIO_STEP_MIN 0.10
#define STATS_RATIO_STEP_MIN_THROUGHPUT 0.02
#define STATS_RATIO_STEP_MAX 3.5

// Which null a grid tests. Events that are bad (errors, slow requests): rollback is ABOVE R0, "good enough"
// is BELOW R1 > 1. Events that are good (completions within the deadline): rollback is BELOW R0 = 1 (the
// canary completes fewer), "good enough" is ABOVE R1 < 1 (e.g. 0.8: completes at least 80 %), both with
// STATS_RATIO_STEP_MIN_THROUGHPUT.
enum stats_ratio_side {
    STATS_RATIO_ABOVE, // H0: R <= null; rejected when the ratio is above it. R_j = null·e^{+g_j}
    STATS_RATIO_BELOW, // H0: R >= null; rejected when the ratio is below it. R_j = null·e^{-g_j}
};

// Built once, then read-only; may be shared by all metrics with the same null.
struct stats_ratio_grid {
    double null_ratio;
    double step[STATS_RATIO_ALTERNATIVES];  // +-g_j: gained by each event on the canary
    double ratio[STATS_RATIO_ALTERNATIVES]; // R_j
};

// What every event of a span with weight w pays, per alternative: ln[(w·R_j + 1 - w) / (w·null + 1 - w)].
// Costs 24 logarithms; shared by all metrics of the span and kept as long as w stays.
struct stats_ratio_terms {
    double weight;
    bool silent; // w <= 0 or w >= 1: one arm only, no evidence
    double toll[STATS_RATIO_ALTERNATIVES];
};

// Log-likelihood ratio of each alternative. All zeros is "no evidence yet" (ln E = 0).
struct stats_ratio_state {
    double ll[STATS_RATIO_ALTERNATIVES];
};

// null_ratio in [1e-9, 1e9], 0 < step_min < step_max <= 20 (CHECK).
void stats_ratio_grid_init(struct stats_ratio_grid *grid, enum stats_ratio_side side, double null_ratio,
                           double step_min, double step_max);

void stats_ratio_terms_init(const struct stats_ratio_grid *grid, double weight,
                            struct stats_ratio_terms *terms);

// Adds a span: events on the canary and on the baseline among requests routed with the terms' weight. terms
// must come from the same grid. To evaluate without committing (prefixes with imputed requests), add to a
// copy of the state: it is 192 bytes.
void stats_ratio_add_terms(const struct stats_ratio_grid *grid, const struct stats_ratio_terms *terms,
                           struct stats_ratio_state *state, uint64_t canary_events, uint64_t baseline_events);

// The same for a single use of w. A weight <= 0, >= 1 or NaN contributes nothing.
void stats_ratio_add(const struct stats_ratio_grid *grid, struct stats_ratio_state *state, double weight,
                     uint64_t canary_events, uint64_t baseline_events);

// ln E = logsumexp_j(ll_j) - ln 24. Reject H0 when it is >= ln(1/alpha). Averages over metrics or edges are
// taken of E at one instant: stats_log_weighted_mean_exp in stats/real.h.
double stats_ratio_log_e(const struct stats_ratio_state *state);
