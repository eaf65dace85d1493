// SPDX-License-Identifier: Apache-2.0
#include "stats/vote.h"

#include "base/check.h"
#include "stats/real.h"

// Small bets find small differences that last, large ones find large differences soon.
static const double BETS[STATS_VOTE_BETS] = {0.06, 0.2, 0.5, 0.9};

static double larger(double a, double b)
{
    return a > b ? a : b;
}

double stats_vote_z(const struct stats_vote_rule *rule, const struct stats_vote_second *second)
{
    CHECK(rule->worse >= 1.0 && rule->floor >= 0.0 && second->rate >= 0.0 && second->rate <= 1.0);
    if (second->canary_routed == 0 || second->baseline_routed == 0)
        return 0.0;
    double routed = (double)second->canary_routed;
    double q = second->q > 0.0 ? second->q : routed / (double)second->baseline_routed;
    double scaled = rule->worse * q * (double)second->baseline_events;
    double difference = (double)second->canary_events - scaled - rule->floor * routed;
    // The square root is exact by IEEE 754, so that replays elsewhere have the same bits.
    double spread = 2.0 * __builtin_sqrt(second->rate * (1.0 - second->rate) * routed *
                                         (1.0 + rule->worse * rule->worse * q));
    double z = difference / larger(larger(1.0, q), spread);
    double top = q > 1.0 ? 1.0 / q : 1.0;
    z = z > top ? top : z < -1.0 ? -1.0 : z;
    bool saturated = 2 * second->baseline_events > second->baseline_routed;
    return saturated && z > 0.0 ? 0.0 : z;
}

void stats_vote_add(struct stats_vote_state *state, double z)
{
    CHECK(z >= -1.0 && z <= 1.0);
    for (int i = 0; i < STATS_VOTE_BETS; i++)
        state->ll[i] += stats_ln(1.0 + BETS[i] * z);
}

double stats_vote_log_e(const struct stats_vote_state *state)
{
    return stats_log_mean_exp(state->ll, STATS_VOTE_BETS);
}

uint32_t stats_vote_seconds_least(double z_each, double alpha)
{
    CHECK(z_each > 0.0 && z_each <= 1.0 && alpha > 0.0 && alpha < 1.0);
    struct stats_vote_state state = {.ll = {0.0}};
    double needed = -stats_ln(alpha);
    uint32_t seconds = 0;
    while (stats_vote_log_e(&state) < needed) {
        stats_vote_add(&state, z_each);
        seconds++;
    }
    return seconds;
}
