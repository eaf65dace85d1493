// SPDX-License-Identifier: Apache-2.0
// stats/vote: golden values, a second is one vote whatever it holds, silence without two arms, the material
// factor and the floor, the shared slowdown, the bound under bursts of processes, the least delay.
#include <math.h>

#include "base/rng.h"
#include "stats/vote.h"
#include "test.h"

static const struct stats_vote_rule PLAIN = {.worse = 1.0, .floor = 0.0};

static double z_of(const struct stats_vote_rule *rule, uint64_t canary_routed, uint64_t canary_events,
                   uint64_t baseline_routed, uint64_t baseline_events, double rate)
{
    struct stats_vote_second second = {canary_routed, baseline_routed, canary_events, baseline_events, 0.0,
                                       rate};
    return stats_vote_z(rule, &second);
}

static void assert_near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-6))
        fail_msg("%.9f is not %.9f", value, expected);
}

// Computed apart from this code, from the formula in the header.
TEST(golden_values)
{
    assert_near(z_of(&PLAIN, 100, 3, 900, 9, 0.01), 0.953463);
    assert_near(z_of(&PLAIN, 100, 1, 100, 6, 0.05), -0.811107);
    assert_near(z_of(&(struct stats_vote_rule){1.1, 0.0002}, 500, 4, 500, 2, 0.004), 0.405115);
    struct stats_vote_state votes = {.ll = {0}};
    stats_vote_add(&votes, 0.5);
    stats_vote_add(&votes, -0.25);
    stats_vote_add(&votes, 1.0);
    assert_near(stats_vote_log_e(&votes), 0.422842);
}

TEST(a_second_is_one_vote)
{
    assert_near(z_of(&PLAIN, 10, 10, 10, 0, 0.001), 1.0);
    assert_near(z_of(&PLAIN, 100000, 100000, 100000, 0, 0.001), 1.0);
    assert_near(z_of(&PLAIN, 100000, 0, 100000, 50000, 0.001), -1.0);
}

TEST(one_arm_is_silent)
{
    assert_near(z_of(&PLAIN, 0, 0, 100, 3, 0.01), 0.0);
    assert_near(z_of(&PLAIN, 100, 100, 0, 0, 0.01), 0.0);
}

// With nine tenths of the traffic one bad second of the canary is less of a vote: the baseline has few
// requests to compare with.
TEST(a_large_canary_votes_less)
{
    assert_near(z_of(&PLAIN, 900, 900, 100, 0, 0.001), 1.0 / 9.0);
    assert_near(z_of(&PLAIN, 900, 0, 100, 50, 0.001), -1.0);
}

// Where drawn users are counted, their weights say what chance does, not how much each of them sent.
TEST(a_given_ratio_stands_for_the_routed)
{
    struct stats_vote_second second = {.canary_routed = 10,
                                       .baseline_routed = 990,
                                       .canary_events = 5,
                                       .baseline_events = 5,
                                       .q = 1.0,
                                       .rate = 0.01};
    assert_near(stats_vote_z(&PLAIN, &second), 0.0);
    second.q = 0.0;
    assert_near(stats_vote_z(&PLAIN, &second), 1.0);
}

TEST(what_does_not_matter_is_no_vote)
{
    struct stats_vote_rule rule = {.worse = 1.1, .floor = 0.001};
    assert_near(z_of(&rule, 10000, 100, 10000, 82, 0.01), -0.006761);
    assert_true(z_of(&PLAIN, 10000, 100, 10000, 82, 0.01) > 0.6);
}

TEST(a_shared_slowdown_is_no_vote_against_the_canary)
{
    assert_near(z_of(&PLAIN, 100, 100, 900, 451, 0.001), 0.0);
    assert_true(z_of(&PLAIN, 100, 100, 900, 450, 0.001) > 0.9);
    assert_near(z_of(&PLAIN, 100, 10, 900, 900, 0.001), -1.0);
}

TEST(least_seconds)
{
    assert_int_equal(stats_vote_seconds_least(1.0, 0.01), 10);
    assert_int_equal(stats_vote_seconds_least(0.5, 0.01), 16);
    assert_int_equal(stats_vote_seconds_least(0.1, 0.0045), 79);
}

// Identical processes, one each: every so often one of them fails all its requests of a second. `every` in
// seconds.
static bool alarms_under_bursts(uint64_t seed, double weight, uint32_t every, uint32_t seconds)
{
    struct rng rng;
    rng_init(&rng, seed);
    struct stats_vote_state votes = {.ll = {0}};
    uint64_t canary = (uint64_t)(1000 * weight), baseline = 1000 - canary;
    for (uint32_t i = 0; i < seconds; i++) {
        uint64_t canary_events =
            rng_below(&rng, every) == 0 ? canary : canary * rng_below(&rng, 1000) / 1000 / 500;
        uint64_t baseline_events =
            rng_below(&rng, every) == 0 ? baseline : baseline * rng_below(&rng, 1000) / 1000 / 500;
        stats_vote_add(&votes, z_of(&PLAIN, canary, canary_events, baseline, baseline_events, 0.001));
        if (stats_vote_log_e(&votes) >= log(100.0))
            return true;
    }
    return false;
}

TEST(false_alarms_under_bursts)
{
    enum { RUNS = 2000 };
    uint32_t alarms = 0;
    for (uint64_t seed = 1; seed <= RUNS; seed++)
        alarms += alarms_under_bursts(seed, 0.5, 10, 600);
    // Bound 1 %; 2 000 runs at the bound give at most 34 with probability 0.998.
    assert_in_range(alarms, 0, 34);
}
