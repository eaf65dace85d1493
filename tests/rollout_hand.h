// SPDX-License-Identifier: Apache-2.0
// A rollout stepped by spans made by hand.
#pragma once

#include "rollout_sim.h"
#include "test.h"

static inline void spec_of_errors(struct rollout_spec *spec)
{
    static const uint32_t percents[] = {50};
    sim_spec(spec, percents, 1, 3600000, 0);
    spec->latency.on = false;
}

struct hand {
    struct rollout *rollout;
    struct rollout_effects effects;
    uint64_t tick;
    int64_t time_ms;
};

static inline void hand_begin(struct hand *hand, const struct rollout_spec *spec)
{
    *hand = (struct hand){.rollout = malloc(rollout_size()), .time_ms = 1760000000000};
    CHECK(hand->rollout != NULL);
    rollout_init(hand->rollout);
    struct rollout_input input = {.kind = ROLLOUT_INPUT_SPEC, .time_ms = hand->time_ms, .spec = spec};
    rollout_step(hand->rollout, &input, &hand->effects);
    assert_int_equal(hand->effects.refused, STATUS_OK);
    input = (struct rollout_input){.kind = ROLLOUT_INPUT_COMMAND, .time_ms = hand->time_ms};
    rollout_step(hand->rollout, &input, &hand->effects);
    assert_int_equal(hand->effects.refused, STATUS_OK);
}

static inline void hand_tick(struct hand *hand, const struct rollout_span_delta *spans, uint32_t count)
{
    hand->time_ms += ROLLOUT_TICK_MS;
    struct rollout_input input = {.kind = ROLLOUT_INPUT_TICK, .time_ms = hand->time_ms};
    input.tick.tick = ++hand->tick;
    input.tick.spans = spans;
    input.tick.span_count = count;
    rollout_step(hand->rollout, &input, &hand->effects);
}

static inline struct rollout_span_delta hand_span(const struct hand *hand, uint32_t weight, uint32_t stable,
                                                  uint32_t stable_errors, uint32_t canary,
                                                  uint32_t canary_errors)
{
    struct rollout_span_delta delta = {.tick = hand->tick, .table = 1, .weight = weight};
    delta.arms[ROLLOUT_ARM_STABLE] = (struct rollout_counts){.routed = stable,
                                                             .completed = stable,
                                                             .errors = stable_errors,
                                                             .error_events = stable_errors,
                                                             .failed = stable_errors,
                                                             .good = stable - stable_errors,
                                                             .units = stable};
    delta.arms[ROLLOUT_ARM_CANARY] = (struct rollout_counts){.routed = canary,
                                                             .completed = canary,
                                                             .errors = canary_errors,
                                                             .error_events = canary_errors,
                                                             .failed = canary_errors,
                                                             .good = canary - canary_errors,
                                                             .units = canary};
    return delta;
}

static inline struct rollout_view view_of_hand(const struct hand *hand)
{
    static struct rollout_view view;
    rollout_view_get(hand->rollout, &view);
    return view;
}

static inline void hand_end(struct hand *hand)
{
    free(hand->rollout);
}
