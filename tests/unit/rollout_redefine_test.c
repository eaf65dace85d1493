// SPDX-License-Identifier: Apache-2.0
// rollout: when what counts as an error changes under a run, its evidence begins afresh.
#include "rollout_hand.h"

static struct hand hand;

static int begin(void **state)
{
    (void)state;
    struct rollout_spec spec;
    spec_of_errors(&spec);
    spec.errors_id = 1;
    hand_begin(&hand, &spec);
    return 0;
}

static int end(void **state)
{
    (void)state;
    hand_end(&hand);
    return 0;
}

EACH_TEST(begin, end);

// Ticks of 100 requests in each arm, of which so many of the canary's fail; false once the run went back.
static bool ticks(int count, uint64_t table, uint32_t errors)
{
    for (int i = 0; i < count && hand.effects.to == ROLLOUT_SHIFTING; i++) {
        struct rollout_span_delta delta = hand_span(&hand, 50000, 100, 1, 100, errors);
        delta.table = table;
        hand_tick(&hand, &delta, 1);
    }
    return hand.effects.to == ROLLOUT_SHIFTING;
}

static void redefine(uint64_t errors_id, uint64_t table)
{
    struct rollout_input input = {.kind = ROLLOUT_INPUT_REDEFINED, .time_ms = hand.time_ms};
    input.redefined.errors_id = errors_id;
    input.redefined.table = table;
    rollout_step(hand.rollout, &input, &hand.effects);
    assert_false(hand.effects.changed || hand.effects.publish || hand.effects.has_verdict);
}

static double log_bad(void)
{
    return view_of_hand(&hand).log_e_bad;
}

// As much evidence as almost suffices, twice: it would not last if the first half still counted.
TEST(evidence_before_counts_for_nothing)
{
    assert_true(ticks(70, 1, 12));
    double before = log_bad();
    assert_true(before > 1.0);
    redefine(2, 2);
    struct rollout_view view = view_of_hand(&hand);
    assert_true(view.redefined_ms == hand.time_ms && view.stage_since_ms == hand.time_ms);
    assert_int_equal(view.stage_watched_ms, 0);
    assert_int_equal(view.checks[0].canary_total, 0);
    assert_true(ticks(50, 2, 1));
    assert_true(log_bad() < 1.0);
    assert_true(ticks(60, 2, 12));
    assert_false(ticks(200, 2, 12));
}

// What earlier tables routed is no evidence however late it is told; the newer tables' is.
TEST(requests_of_earlier_tables_count_for_nothing)
{
    assert_true(ticks(20, 6, 1));
    redefine(2, 7);
    assert_true(ticks(300, 6, 100));
    assert_int_equal(view_of_hand(&hand).checks[0].canary_total, 0);
    assert_int_equal(view_of_hand(&hand).spans_ignored, 0);
    assert_false(ticks(300, 7, 100));
}

static void resume(uint64_t errors_id)
{
    struct rollout_input input = {.kind = ROLLOUT_INPUT_RESUMED, .time_ms = hand.time_ms};
    input.resumed.errors_id = errors_id;
    rollout_step(hand.rollout, &input, &hand.effects);
    hand.tick = 0;
    hand_tick(&hand, NULL, 0);
}

// A new process counts its tables from zero; one that finds the same definition goes on with the evidence.
TEST(a_restart_finds_another_definition)
{
    assert_true(ticks(70, 9, 12));
    resume(1);
    assert_true(log_bad() > 1.0 && view_of_hand(&hand).redefined_ms == 0);
    resume(0);
    assert_true(log_bad() > 1.0 && view_of_hand(&hand).redefined_ms == 0);
    resume(2);
    assert_true(log_bad() < 1.0 && view_of_hand(&hand).redefined_ms == hand.time_ms - ROLLOUT_TICK_MS);
    assert_false(ticks(300, 1, 100));
    int64_t redefined_ms = view_of_hand(&hand).redefined_ms;
    redefine(3, 2); // it has decided already
    assert_true(view_of_hand(&hand).redefined_ms == redefined_ms);
    assert_int_equal(hand.effects.to, ROLLOUT_ROLLING_BACK);
}
