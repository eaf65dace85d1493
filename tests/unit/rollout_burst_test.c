// SPDX-License-Identifier: Apache-2.0
// rollout: bursts of errors and stalls. One is one vote, and one of the baseline's proves nothing good.
#include "rollout_hand.h"

// A burst of 300 ms across the end of a second is one vote, not two.
TEST(a_burst_across_two_seconds_is_one_vote)
{
    double log_e[2];
    for (int across = 0; across < 2; across++) {
        struct rollout_spec spec;
        spec_of_errors(&spec);
        struct hand hand;
        hand_begin(&hand, &spec);
        for (int i = 0; i < 400; i++) {
            int at = i % 100;
            bool burst = i >= 100 && (across != 0 ? at >= 59 && at < 62 : at >= 54 && at < 57);
            struct rollout_span_delta delta = hand_span(&hand, 50000, 50, 0, 50, burst ? 50 : 0);
            hand_tick(&hand, &delta, 1);
        }
        log_e[across] = view_of_hand(&hand).log_e_bad;
        hand_end(&hand);
    }
    if (fabs(log_e[0] - log_e[1]) > 0.2)
        fail_msg("ln E is %.3f when each lies in a second, %.3f across two", log_e[0], log_e[1]);
}

// Beside a burst of the baseline's errors any canary looks good; such seconds prove nothing.
TEST(a_burst_of_the_baseline_proves_nothing)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    spec.errors.worse = 1000.0; // no rollback here
    spec.outage = 0.0;
    spec.stages[0].min_ms = 1000;
    struct hand hand;
    hand_begin(&hand, &spec);
    for (int i = 0; i < 600; i++) {
        // One second in twenty all of the baseline's requests fail; the canary fails two of a hundred all the
        // time.
        uint32_t stable_errors = i / 10 % 20 == 0 ? 100 : 0;
        struct rollout_span_delta delta = hand_span(&hand, 50000, 100, stable_errors, 100, 2);
        hand_tick(&hand, &delta, 1);
        assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    }
    hand_end(&hand);
}

// A baseline that has become a little slower than its frozen edges is no burst for ever, and users who always
// fail in both versions are none either: a good version passes.
TEST(what_is_usual_is_no_burst)
{
    for (int keyed = 0; keyed < 2; keyed++) {
        struct rollout_spec spec;
        spec_of_errors(&spec);
        spec.keyed = keyed != 0;
        spec.errors.budget = 0.02; // more than the lot over so few users can hide
        spec.stages[0].min_ms = 5000;
        struct hand hand;
        hand_begin(&hand, &spec);
        for (uint32_t i = 0; i < 1500 && hand.effects.to == ROLLOUT_SHIFTING; i++) {
            struct rollout_span_delta delta = hand_span(&hand, 50000, 500, 10, 500, 10);
            if (keyed != 0)
                for (int arm = 0; arm < 2; arm++) {
                    delta.arms[arm].error_events = i == 0 ? 10 : 0;
                    delta.arms[arm].unit_squares = 500 * (2 * (i / 10) + 1);
                    delta.arms[arm].units = i < 10 ? 500 : 0;
                }
            hand_tick(&hand, &delta, 1);
        }
        if (hand.effects.to != ROLLOUT_COMPLETED)
            fail_msg("stands at %s: %s", rollout_state_name(hand.effects.to), hand.effects.verdict.text);
        hand_end(&hand);
    }
}

// A baseline that stands still for a second now and then makes a version look quick that is a third slower:
// in such a second all of its requests are beyond the p50, where half of them are at other times.
TEST(a_stall_of_the_baseline_proves_nothing)
{
    struct rollout_spec spec;
    static const uint32_t percents[] = {50, 100};
    sim_spec(&spec, percents, 2, 60000, 0);
    spec.stages[0].min_ms = 60000;
    spec.stages[0].horizon_ms = 600000;
    spec.alpha = 1e-9; // no rollback here
    spec.errors.on = false;
    spec.latency.budget = 0.01;
    struct hand hand;
    hand_begin(&hand, &spec);
    struct rollout_input input = {.kind = ROLLOUT_INPUT_EDGES, .time_ms = hand.time_ms};
    input.edges = (struct rollout_edges){10000, {5000, 11000, 20000, 32000}};
    rollout_step(hand.rollout, &input, &hand.effects);
    for (int i = 0; i < 900; i++) {
        struct rollout_span_delta delta = hand_span(&hand, 50000, 100, 0, 100, 0);
        bool stalls = i / 10 % 20 == 7;
        delta.arms[ROLLOUT_ARM_STABLE].slow_margin[0] = stalls ? 100 : 50;
        delta.arms[ROLLOUT_ARM_CANARY].slow_margin[0] = 52;
        delta.arms[ROLLOUT_ARM_STABLE].slow[0] = delta.arms[ROLLOUT_ARM_STABLE].slow_margin[0];
        delta.arms[ROLLOUT_ARM_CANARY].slow[0] = 52;
        hand_tick(&hand, &delta, 1);
        if (hand.effects.weight != 50000)
            fail_msg("tick %d, %s: %s", i, rollout_state_name(hand.effects.to), hand.effects.verdict.text);
    }
    hand_end(&hand);
}
