// SPDX-License-Identifier: Apache-2.0
// stats/plan: the formula, its special cases, and its stated accuracy against simulation of the real tests.
#include <math.h>

#include "base/check.h"
#include "base/rng.h"
#include "stats/bernoulli.h"
#include "stats/plan.h"
#include "stats/ratio.h"
#include "stats/vote.h"
#include "test.h"

static void assert_factor(double measured, double planned, double factor)
{
    if (!(measured <= planned * factor && measured >= planned / factor))
        fail_msg("measured %.1f, planned %.1f: not within a factor %.2f", measured, planned, factor);
}

TEST(formula)
{
    double divergence = 2.0 / 3.0 * log(4.0 / 3.0) + 1.0 / 3.0 * log(2.0 / 3.0);
    double events = (log(100.0) + 1.0) / divergence;
    assert_true(fabs(stats_plan_ratio_events(0.5, 2.0, 1.0, 0.01) - events) < 1e-9);
    double requests = events / 0.0015;
    assert_true(fabs(stats_plan_ratio_requests(0.5, 0.001, 2.0, 1.0, 0.01) - requests) < 1e-6);
}

TEST(what_is_never_decided)
{
    assert_true(isinf(stats_plan_ratio_events(0.5, 1.0, 1.0, 0.01)));
    assert_true(isinf(stats_plan_ratio_events(0.0, 2.0, 1.0, 0.01)));
    assert_true(isinf(stats_plan_ratio_events(1.0, 2.0, 1.0, 0.01)));
    assert_true(isinf(stats_plan_ratio_requests(0.5, 0.0, 2.0, 1.0, 0.01)));
    assert_true(isinf(stats_plan_negligible_requests(0.5, 0.001, 0.001, 0.05)));
    assert_true(isinf(stats_plan_negligible_requests(0.0, 0.0, 0.001, 0.05)));
    assert_true(isfinite(stats_plan_ratio_events(0.5, 0.0, 1.0, 0.01)));
}

// Mean events until the kernel rejects at alpha = .01 (400 runs).
static double simulated_events(enum stats_ratio_side side, double step_min, double weight, double ratio,
                               double null_ratio, double alpha)
{
    struct stats_ratio_grid grid;
    struct stats_ratio_terms terms;
    struct rng rng;
    double theta = weight * ratio / (weight * ratio + 1.0 - weight);
    double total = 0.0;
    rng_init(&rng, 23);
    stats_ratio_grid_init(&grid, side, null_ratio, step_min, STATS_RATIO_STEP_MAX);
    stats_ratio_terms_init(&grid, weight, &terms);
    for (int r = 0; r < 400; r++) {
        struct stats_ratio_state run = {.ll = {0}};
        do {
            bool canary = rng_double(&rng) < theta;
            stats_ratio_add_terms(&grid, &terms, &run, canary, !canary);
            total += 1.0;
        } while (stats_ratio_log_e(&run) < -log(alpha));
    }
    return total / 400.0;
}

TEST(rollback_and_promotion_against_simulation)
{
    static const struct {
        enum stats_ratio_side side;
        double step_min;
        double weight;
        double ratio;
        double null_ratio;
        double alpha;
        double factor;
    } CASES[] = {
        {STATS_RATIO_ABOVE, STATS_RATIO_STEP_MIN, 0.5, 2.0, 1.0, 0.01, 1.5},
        {STATS_RATIO_ABOVE, STATS_RATIO_STEP_MIN, 0.5, 5.0, 1.0, 0.01, 1.5},
        {STATS_RATIO_ABOVE, STATS_RATIO_STEP_MIN, 0.05, 2.0, 1.0, 0.01, 1.5},
        {STATS_RATIO_ABOVE, STATS_RATIO_STEP_MIN, 0.01, 2.0, 1.0, 0.01, 1.5},
        {STATS_RATIO_ABOVE, STATS_RATIO_STEP_MIN, 0.01, 10.0, 1.0, 0.01, 1.5},
        {STATS_RATIO_ABOVE, STATS_RATIO_STEP_MIN, 0.05, 50.0, 1.0, 0.01, 2.5},
        {STATS_RATIO_BELOW, STATS_RATIO_STEP_MIN, 0.5, 1.0, 1.25, 0.05, 1.5},
        {STATS_RATIO_BELOW, STATS_RATIO_STEP_MIN, 0.05, 1.0, 1.5, 0.05, 1.5},
        {STATS_RATIO_BELOW, STATS_RATIO_STEP_MIN, 0.25, 1.0, 1.5, 0.025, 1.5},
        {STATS_RATIO_BELOW, STATS_RATIO_STEP_MIN_THROUGHPUT, 0.5, 0.5, 1.0, 0.01, 1.5},
        {STATS_RATIO_ABOVE, STATS_RATIO_STEP_MIN_THROUGHPUT, 0.5, 1.0, 0.8, 0.05, 1.5},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        double planned =
            stats_plan_ratio_events(CASES[i].weight, CASES[i].ratio, CASES[i].null_ratio, CASES[i].alpha);
        double measured = simulated_events(CASES[i].side, CASES[i].step_min, CASES[i].weight, CASES[i].ratio,
                                           CASES[i].null_ratio, CASES[i].alpha);
        print_message("case %zu: planned %.1f events, measured %.1f\n", i, planned, measured);
        assert_factor(measured, planned, CASES[i].factor);
    }
}

TEST(negligible_against_simulation)
{
    static const double CANARY[] = {0.0, 0.0002, 0.0005};
    struct stats_bernoulli_grid grid;
    struct rng rng;
    rng_init(&rng, 29);
    stats_bernoulli_grid_init(&grid, STATS_BERNOULLI_BELOW, 0.001);
    for (size_t i = 0; i < ARRAY_LEN(CANARY); i++) {
        double total = 0.0;
        for (int r = 0; r < 100; r++) {
            struct stats_bernoulli_state run = {.ll = {0}};
            for (; stats_bernoulli_log_e(&run) < log(40.0); total += 50.0) {
                uint64_t events = 0;
                for (int k = 0; k < 50; k++)
                    events += rng_double(&rng) < CANARY[i];
                stats_bernoulli_add(&grid, &run, 50, events);
            }
        }
        double planned = stats_plan_negligible_requests(0.1, CANARY[i], 0.001, 0.025);
        print_message("rate %g: planned %.0f requests, measured %.0f\n", CANARY[i], planned,
                      total / 100.0 / 0.1);
        assert_factor(total / 100.0 / 0.1, planned, 1.5);
    }
}

TEST(shares_beyond_the_edges)
{
    static const double tails[] = {0.5, 0.1, 0.01, 0.001};
    for (int edge = 0; edge < 4; edge++) {
        double same = stats_plan_latency_share(edge, 1.0, 0.7);
        assert_true(fabs(same - tails[edge]) < 1e-9);
        assert_true(stats_plan_latency_share(edge, 1.5, 0.7) > same);
        assert_true(stats_plan_latency_share(edge, 0.5, 0.7) < same);
    }
}

// The figures of the table in docs/DECISIONS.md, where the baseline's rate is taken at 0.85 of the true one.
TEST(harm_against_the_table)
{
    assert_factor(stats_plan_harm_requests(0.001, 0.001, 0.04, 0.05), 137, 1.3);
    assert_factor(stats_plan_harm_requests(0.001, 0.001, 0.008, 0.05), 775, 1.3);
    assert_factor(stats_plan_harm_requests(0.001, 0.001, 0.002, 0.05), 5500, 1.5);
    assert_true(isinf(stats_plan_harm_requests(0.001, 0.05, 0.04, 0.05)));
    assert_true(isinf(stats_plan_harm_requests(0.001, 0.001, 0.0, 0.05)));
}

// Votes of seconds drawn independently, with a look at every second.
static double simulated_seconds(const struct stats_vote_rule *rule, unsigned canary, unsigned baseline,
                                double p, double bad, double alpha)
{
    struct rng rng;
    double total = 0.0;
    rng_init(&rng, 31);
    for (int r = 0; r < 200; r++) {
        struct stats_vote_state votes = {.ll = {0}};
        while (stats_vote_log_e(&votes) < -log(alpha)) {
            struct stats_vote_second second = {
                .canary_routed = canary, .baseline_routed = baseline, .rate = p};
            for (unsigned i = 0; i < canary; i++)
                second.canary_events += rng_double(&rng) < bad;
            for (unsigned i = 0; i < baseline; i++)
                second.baseline_events += rng_double(&rng) < p;
            stats_vote_add(&votes, stats_vote_z(rule, &second));
            total += 1.0;
        }
    }
    return total / 200.0;
}

TEST(votes_against_simulation)
{
    struct stats_vote_rule rule = {.worse = 1.1, .floor = 0.0002};
    static const struct {
        unsigned canary, baseline;
        double rate, bad;
    } CASES[] = {{50, 50, 0.01, 0.05}, {100, 900, 0.01, 0.03}, {500, 500, 0.001, 0.005}, {10, 90, 0.01, 0.5}};
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        double planned = stats_plan_vote_seconds(&rule, CASES[i].canary, CASES[i].baseline, CASES[i].rate,
                                                 CASES[i].bad, 0.005);
        double measured =
            simulated_seconds(&rule, CASES[i].canary, CASES[i].baseline, CASES[i].rate, CASES[i].bad, 0.005);
        print_message("case %zu: planned %.1f s, measured %.1f s\n", i, planned, measured);
        assert_factor(measured, planned, 1.6);
    }
    assert_true(isinf(stats_plan_vote_seconds(&rule, 50, 50, 0.01, 0.01, 0.005)));
    assert_true(isinf(stats_plan_vote_seconds(&rule, 0, 50, 0.01, 0.5, 0.005)));
}
