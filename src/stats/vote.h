// SPDX-License-Identifier: Apache-2.0
// One second, one vote: an e-process for "the canary has more bad events than the baseline" that counts a
// whole second as at most one observation, however many requests it held. Real failures come in bursts (one
// process stalls, and hundreds of its requests are slow at once), so that requests of one second are not
// independent; seconds far enough apart are. For two arms with equal counts and matched endpoints the bound
// holds exactly under any dependence within a second (the sign-symmetry e-test of Vovk and Wang 2024);
// otherwise it rests on the conditions written at stats_vote_z.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { STATS_VOTE_BETS = 4 };

// What is compared. An event is bad: an error, or an answer slower than an edge.
struct stats_vote_rule {
    // H0: canary rate <= worse * baseline rate + floor. worse >= 1: a smaller difference is no reason to go
    // back. Where the canary's events are already counted behind a later edge than the baseline's, it is 1.
    double worse;
    double floor; // >= 0, in events per request
};

// One second: the requests that both arms routed in it, under one weight, and the bad events among them.
struct stats_vote_second {
    uint64_t canary_routed, baseline_routed;
    uint64_t canary_events, baseline_events;
    // Canary requests for one of the baseline, when chance alone says it: where the events are counted by
    // drawn users, their weights, not how many requests they sent. 0: as routed.
    double q;
    // The baseline's rate of events as it was known when the second began (0..1): it sets how large a
    // difference is usual. Of latency edges it is the share beyond the edge (0.5, 0.1, 0.01, 0.001).
    double rate;
};

// All zeros is "no evidence yet" (ln E = 0).
struct stats_vote_state {
    double ll[STATS_VOTE_BETS];
};

// What the second says, in [-1, 1]; positive: the canary is worse.
//     q = n_c / n_b,  D = C - worse * q * S - floor * n_c,  s^2 = 4 r (1 - r) n_c (1 + worse^2 q)
//     z = clip(D / max(1, q, s), -1, min(1, 1 / q))
// 0 when an arm routed nothing. A positive z counts as 0 when more than half of the baseline's requests were
// bad: a slowdown that both share saturates the baseline and says nothing about the canary. Under H0, E z <=
// 0 given the past and the routed counts whenever the upper tail of D / max(...) beyond 1 is at least as
// heavy as the lower one: exact for sign-symmetric D; checked numerically for independent events with weights
// and rates up to one half; and for rare bursts of processes when the canary has no more endpoints than the
// baseline. Bursts that cross the end of a second, or balancing that shuns a stalled baseline endpoint, are
// outside of it and only measured (bench/noise_bench.c).
double stats_vote_z(const struct stats_vote_rule *rule, const struct stats_vote_second *second);

// Adds one second's z: each bet l gains ln(1 + l z). z in [-1, 1] (CHECK).
void stats_vote_add(struct stats_vote_state *state, double z);

// ln E, the mean over the bets. Rejects H0 when >= ln(1 / alpha), however often it is looked at (Ville 1939).
// Only whole seconds may be added: looks within one would make many votes of it.
double stats_vote_log_e(const struct stats_vote_state *state);

// The fewest seconds in which E can reach 1 / alpha when every second has z = z_each (0 < z_each <= 1): no
// rule with one vote per second is faster.
uint32_t stats_vote_seconds_least(double z_each, double alpha);
