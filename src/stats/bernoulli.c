// SPDX-License-Identifier: Apache-2.0
// One-sample test of a rate: bets at log-odds distances g_j from the null, geometric from 0.10 to 3.5.
#include "stats/bernoulli.h"

#include <stdbool.h>

#include "base/check.h"
#include "stats/real.h"

// g_j = 0.10 · 35^(j/23), with e^g_j and e^-g_j: constants, because a bound on a rate is found by making many
// grids (stats/harm.c).
static const double STEP[STATS_BERNOULLI_ALTERNATIVES] = {
    0.10000000000000001, 0.11671680568262717, 0.13622812728756148, 0.15900111861130506,
    0.18558102664276041, 0.21660424625045518, 0.25281355719646292, 0.29507590829233304,
    0.34440317449780944, 0.40197638394340751, 0.46917399493727818, 0.54760489998436179,
    0.63914694702329222, 0.74599190018361972, 0.87069791654545325, 1.0162507953370397,
    1.1861354660416854,  1.384419427032598,   1.6158501324821775,  1.8859686592516962,
    2.2012423752540506,  2.5692197857289156,  2.9987112648688279,  3.5,
};
static const double GROWTH[STATS_BERNOULLI_ALTERNATIVES] = {
    1.1051709180756477, 1.1238011305283844, 1.1459432847117454, 1.1723392580719316, 1.2039177452362466,
    1.2418525370768918, 1.2876431826484809, 1.3432283169842434, 1.4111474595006286, 1.4947760315438536,
    1.5986731355886934, 1.7291066709770748, 1.8948637704834019, 2.1085318511975926, 2.3885772995539591,
    2.7628169556439519, 3.2744026845036287, 3.9925072900144842, 5.0321641117149598, 6.5927374661688765,
    9.0362329207959284, 13.055634274016011, 20.059668658377372, 33.115451958692312,
};
static const double DECAY[STATS_BERNOULLI_ALTERNATIVES] = {
    0.90483741803595952, 0.8898371543102328,   0.8726435359770387,   0.85299540479829483,
    0.83062153038019093, 0.80524858640127162,  0.77661266216868885,  0.74447507348948372,
    0.70864316359530288, 0.668996544564049,    0.62551873659386992,  0.57833331903978202,
    0.52774242432472507, 0.47426364436089757,  0.41865925803897536,  0.36194942193226914,
    0.30539921211663418, 0.25046917321881013,  0.19872165887276685,  0.15168206001400397,
    0.11066558473704306, 0.076595282849662161, 0.049851272073847409, 0.030197383422318501,
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
