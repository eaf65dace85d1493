// SPDX-License-Identifier: Apache-2.0
// rollout: a daemon that restarts knows no user and sees each for the first time once more.
#include "rollout_sim.h"
#include "test.h"

static void give(struct rollout *rollout, const struct rollout_input *input)
{
    struct rollout_effects effects;
    rollout_step(rollout, input, &effects);
    assert_int_equal(effects.refused, STATUS_OK);
}

static struct rollout *started(bool keyed)
{
    static const uint32_t percents[] = {50};
    struct rollout_spec spec;
    sim_spec(&spec, percents, 1, 3600000, 0);
    spec.latency.on = false;
    spec.keyed = keyed;
    struct rollout *rollout = malloc(rollout_size());
    CHECK(rollout != NULL);
    rollout_init(rollout);
    give(rollout, &(struct rollout_input){.kind = ROLLOUT_INPUT_SPEC, .time_ms = 1, .spec = &spec});
    give(rollout, &(struct rollout_input){.kind = ROLLOUT_INPUT_COMMAND, .time_ms = 1});
    return rollout;
}

// All users come once, in the first tick of a process.
static void users_come(struct rollout *rollout, int64_t time_ms, uint32_t stable, uint32_t canary)
{
    struct rollout_span_delta delta = {.tick = 0, .table = 1, .weight = 50000};
    const uint32_t users[ROLLOUT_ARMS] = {[ROLLOUT_ARM_STABLE] = stable, [ROLLOUT_ARM_CANARY] = canary};
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        delta.arms[arm] = (struct rollout_counts){.routed = users[arm],
                                                  .completed = users[arm],
                                                  .good = users[arm],
                                                  .units = users[arm],
                                                  .unit_squares = users[arm]};
    struct rollout_input input = {.kind = ROLLOUT_INPUT_TICK, .time_ms = time_ms};
    input.tick.tick = 1;
    input.tick.spans = &delta;
    input.tick.span_count = 1;
    give(rollout, &input);
}

// Whether a run is blocked whose 2 000 sticky users, drawn by that share, all come again after each of 50
// restarts.
static bool restarts_block(uint64_t seed, bool keyed, bool strangers, double share)
{
    enum { USERS = 2000, RESTARTS = 50 };
    struct rng rng;
    rng_init(&rng, seed);
    uint32_t canary = 0;
    for (int i = 0; i < USERS; i++)
        canary += rng_double(&rng) < share;
    struct rollout *rollout = started(keyed);
    for (int i = 0; i <= RESTARTS; i++) {
        int64_t time_ms = 1000 * (i + 1);
        users_come(rollout, time_ms, USERS - canary, canary);
        give(rollout, &(struct rollout_input){.kind = ROLLOUT_INPUT_RESUMED,
                                              .time_ms = time_ms,
                                              .resumed = {.strangers = strangers}});
    }
    struct rollout_view view;
    rollout_view_get(rollout, &view);
    free(rollout);
    return view.blocked;
}

// The same lot seen again is no worse than seen once, and a broken split is still found.
TEST(restarts_do_not_break_the_split)
{
    enum { RUNS = 100 };
    int as_before = 0;
    for (uint64_t seed = 1; seed <= RUNS; seed++) {
        assert_false(restarts_block(seed, true, true, 0.5)); // one in 500 is allowed
        as_before += restarts_block(seed, true, false, 0.5);
    }
    assert_true(as_before > RUNS / 4); // what journals of earlier versions replay to
    assert_true(restarts_block(1, true, true, 0.7));
    assert_true(restarts_block(1, false, true, 0.52)); // requests are fresh draws: nothing is forgotten
}
