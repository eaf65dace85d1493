// SPDX-License-Identifier: Apache-2.0
// One-sample test of a rate: bets at log-odds distances g_j from the null, geometric from 0.01 to 3.5. The
// bets near the null are what makes bounds close in on a rate as requests add up: a bound cannot come nearer
// to it than half of the least distance, however many there are.
#include "stats/bernoulli.h"

#include <stdbool.h>

#include "base/check.h"
#include "stats/real.h"

// g_j = 0.01 · 350^(j/23), with e^g_j and e^-g_j: constants, because a bound on a rate is found by making
// many grids (stats/harm.c).
static const double STEP[STATS_BERNOULLI_ALTERNATIVES] = {
    0.01,
    0.01290065182087578,
    0.016642681740346558,
    0.021470144249785793,
    0.027697885551046474,
    0.035732077766851666,
    0.046096709410660991,
    0.059467759819502544,
    0.076717286399886897,
    0.098970300048734972,
    0.12767813815363352,
    0.16471312054577014,
    0.21249066184909216,
    0.27412680437025905,
    0.35364144579500412,
    0.45622051616324633,
    0.5885542032562272,
    0.75927328539215411,
    0.97951202917366287,
    1.2636343642728944,
    1.6301706962378324,
    2.1030264560758933,
    2.713041207992541,
    3.5,
};
static const double GROWTH[STATS_BERNOULLI_ALTERNATIVES] = {
    1.0100501670841679, 1.0129842242223777, 1.0167819426538149, 1.0217022861937723, 1.0280850381536457,
    1.0363781405449854, 1.0471756778027885, 1.0612715448418097, 1.0797367769670931, 1.1040335093305282,
    1.1361872485134348, 1.1790548235844531, 1.236754564510602,  1.3153815877978232, 1.4242444260898011,
    1.5780983025828177, 1.8013820993766838, 2.1367228684219581, 2.6631563821879127, 3.5382574644454361,
    5.1047460051101021, 8.1909219036303345, 15.075052240683341, 33.115451958692312,
};
static const double DECAY[STATS_BERNOULLI_ALTERNATIVES] = {
    0.99004983374916811, 0.98718220490319575, 0.98349504259486165,  0.97875869860816156,  0.97268218375779103,
    0.96489877668989066, 0.95494960511136595, 0.94226591192460307,  0.92615165226559359,  0.9057696089373114,
    0.88013661595690362, 0.84813698226507639, 0.80856786681495818,  0.76023566794345465,  0.70212667269862861,
    0.63367408631219957, 0.55512930896005963, 0.46800641055455811,  0.37549428440940869,  0.28262499550940212,
    0.19589613253998353, 0.1220863795022616,  0.066334761832617745, 0.030197383422318501,
};

void stats_bernoulli_grid_init(struct stats_bernoulli_grid *grid, enum stats_bernoulli_side side,
                               double null_rate)
{
    CHECK(null_rate >= 1e-9 && null_rate <= 1.0 - 1e-9);
    bool above = side == STATS_BERNOULLI_ABOVE;
    grid->null_rate = null_rate;
    for (int j = 0; j < STATS_BERNOULLI_ALTERNATIVES; j++) {
        double step = above ? STEP[j] : -STEP[j];
        // p_j / (1 - p_j) = e^step · p0 / (1 - p0) gives (1 - p_j) / (1 - p0) = 1 / (1 + p0·(e^step - 1)).
        grid->miss[j] = -stats_ln(1.0 - null_rate + null_rate * (above ? GROWTH[j] : DECAY[j]));
        grid->hit[j] = step + grid->miss[j];
    }
}

void stats_bernoulli_add(const struct stats_bernoulli_grid *grid, struct stats_bernoulli_state *state,
                         uint64_t trials, uint64_t events)
{
    double hits = (double)events;
    double misses = trials > events ? (double)(trials - events) : 0.0;
    for (int j = 0; j < STATS_BERNOULLI_ALTERNATIVES; j++)
        state->ll[j] += hits * grid->hit[j] + misses * grid->miss[j];
}

double stats_bernoulli_log_e(const struct stats_bernoulli_state *state)
{
    return stats_log_mean_exp(state->ll, STATS_BERNOULLI_ALTERNATIVES);
}
