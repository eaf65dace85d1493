// SPDX-License-Identifier: Apache-2.0
// The stage in the shadow: what takes it back, what lets it go on, and what it says of either. How often
// equal versions are taken back, and a difference of one answer in a hundred is found, is simulated.
#include "base/text.h"
#include "rollout_hand.h"
#include "ship/rollout/plan.h"

static void shadow_spec(struct rollout_spec *spec)
{
    static const uint32_t percents[] = {5, 100};
    sim_spec(spec, percents, 2, 1000, 1000);
    memmove(spec->stages + 1, spec->stages, spec->stage_count++ * sizeof spec->stages[0]);
    spec->stages[0] = (struct rollout_stage){
        .kind = ROLLOUT_STAGE_SHADOW,
        .min_ms = 10000,
        .horizon_ms = 60000,
        .shadow = {.share = 10000, .secondary = ROLLOUT_WEIGHT_FULL, .compared = 1000, .timeout_ms = 10000}};
    spec->latency.on = false;
}

static void begin(struct hand *hand)
{
    struct rollout_spec spec;
    shadow_spec(&spec);
    hand_begin(hand, &spec);
    assert_int_equal(hand->effects.to, ROLLOUT_SHADOW);
    assert_true(hand->effects.publish);
    assert_int_equal(hand->effects.weight, 0);
}

static void tell(struct hand *hand, const struct rollout_shadow_delta *delta)
{
    hand->time_ms += ROLLOUT_TICK_MS;
    struct rollout_input input = {.kind = ROLLOUT_INPUT_TICK, .time_ms = hand->time_ms};
    input.tick.tick = ++hand->tick;
    input.tick.shadow = delta;
    rollout_step(hand->rollout, &input, &hand->effects);
}

// So many ticks, each with so many answers that were compared, the last of them with the row.
static void compare(struct hand *hand, uint32_t ticks, uint32_t per_tick,
                    const struct rollout_shadow_row *row)
{
    for (uint32_t i = 0; i < ticks && hand->effects.to == ROLLOUT_SHADOW; i++) {
        struct rollout_shadow_delta delta = {
            .sent = per_tick, .triples = per_tick, .candidate_answered = per_tick};
        if (i + 1 == ticks && row != NULL) {
            delta.row_count = 1;
            delta.rows = row;
        }
        tell(hand, &delta);
    }
}

static void resume(struct hand *hand)
{
    struct rollout_input input = {.kind = ROLLOUT_INPUT_RESUMED, .time_ms = hand->time_ms};
    rollout_step(hand->rollout, &input, &hand->effects);
    hand->tick = 0;
}

static void assert_says(const struct hand *hand, const char *words)
{
    if (strstr(hand->effects.verdict.text, words) == NULL)
        fail_msg("lacks \"%s\": %s", words, hand->effects.verdict.text);
}

TEST(equal_answers_pass_to_the_first_weight)
{
    struct hand hand;
    begin(&hand);
    compare(&hand, 99, 11, NULL); // 1 089 of 1 000, but not yet 10 s
    assert_int_equal(hand.effects.to, ROLLOUT_SHADOW);
    compare(&hand, 5, 11, NULL);
    assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    assert_int_equal(hand.effects.weight, 5000);
    assert_int_equal(hand.effects.verdict.outcome, ROLLOUT_OUTCOME_PROMOTED);
    assert_says(&hand, "stage 1 of 3, in the shadow, passed");
    assert_says(&hand,
                "no difference in 1 111 compared answers; one in 1.95 % of them would have been found");
    assert_says(&hand,
                "errors: canary 0 % (0/1 089) vs stable 0 % (0/1 089); at 5 % less than 0.20 % of all more");
    assert_true(view_of_hand(&hand).shadow.has_been);
    hand_end(&hand);
}

// Users are drawn for live requests alone.
TEST(users_do_not_hold_it_up)
{
    struct hand hand;
    struct rollout_spec spec;
    shadow_spec(&spec);
    spec.keyed = true;
    hand_begin(&hand, &spec);
    compare(&hand, 104, 11, NULL);
    assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    hand_end(&hand);
}

TEST(too_few_answers_do_not_pass)
{
    struct hand hand;
    begin(&hand);
    compare(&hand, 500, 1, NULL);
    assert_int_equal(hand.effects.to, ROLLOUT_SHADOW);
    compare(&hand, 150, 1, NULL);
    assert_int_equal(hand.effects.to, ROLLOUT_UNDECIDED);
    assert_says(&hand, "held");
    assert_says(&hand, "needs 1 000");
    assert_int_equal(hand.effects.weight, 0);
    assert_true(view_of_hand(&hand).shadow.on); // it goes on comparing
    struct rollout_input input = {.kind = ROLLOUT_INPUT_COMMAND, .time_ms = hand.time_ms};
    input.command.command = ROLLOUT_COMMAND_RESUME;
    rollout_step(hand.rollout, &input, &hand.effects);
    assert_int_equal(hand.effects.to, ROLLOUT_SHADOW);
    hand_end(&hand);
}

// Only requests that were asked three times tell of differences.
TEST(without_a_secondary_nothing_passes)
{
    struct hand hand;
    begin(&hand);
    for (int i = 0; i < 300; i++) {
        struct rollout_shadow_delta delta = {.sent = 10, .pairs = 10, .candidate_answered = 10};
        tell(&hand, &delta);
    }
    assert_int_equal(hand.effects.to, ROLLOUT_SHADOW);
    assert_true(view_of_hand(&hand).shadow.found > 1.0);
    hand_end(&hand);
}

TEST(nothing_mirrored_waits)
{
    struct hand hand;
    begin(&hand);
    for (int i = 0; i < 550; i++)
        tell(&hand, NULL);
    assert_int_equal(hand.effects.to, ROLLOUT_SHADOW);
    assert_int_equal(view_of_hand(&hand).stage_watched_ms, 0);
    hand_end(&hand);
}

// E of n answers of the candidate alone, at the first path (weight 1/2), needs 1 / (0.01 / 2 / 2) = 400:
// 14 give 955 / 2, 13 give 514 / 2; held up from 9 on: 46 / 2 of 20.
TEST(fourteen_differences_are_not_noise)
{
    struct hand hand;
    begin(&hand);
    compare(&hand, 20, 10, &(struct rollout_shadow_row){.row = 7, .rank = 1, .candidate = 8});
    assert_int_equal(view_of_hand(&hand).shadow.suspected, 0);
    compare(&hand, 1, 10, &(struct rollout_shadow_row){.row = 7, .rank = 1, .candidate = 9});
    assert_int_equal(view_of_hand(&hand).shadow.suspected, 1);
    compare(&hand, 130, 10, &(struct rollout_shadow_row){.row = 7, .rank = 1, .candidate = 13});
    assert_int_equal(hand.effects.to, ROLLOUT_SHADOW); // suspected: it does not pass
    compare(&hand, 1, 10, &(struct rollout_shadow_row){.row = 7, .rank = 1, .candidate = 14});
    assert_int_equal(hand.effects.to, ROLLOUT_ROLLING_BACK);
    const struct rollout_verdict *verdict = &hand.effects.verdict;
    assert_string_equal(verdict->check, "difference");
    assert_int_equal(verdict->canary_events, 14);
    assert_int_equal(verdict->canary_total, 1520);
    assert_int_equal(verdict->baseline_events, 0);
    assert_true(fabs(verdict->log_e - (6.862186786687415 - 0.6931471805599453)) < 1e-9);
    assert_true(fabs(verdict->log_e_needed - 5.991464547107982) < 1e-9);
    assert_says(&hand, "path 1 of 1: canary alone 0.92 % (14/1 520) vs stable from itself 0 % (0/1 520)");
    assert_true(hand.effects.publish);
    assert_false(view_of_hand(&hand).shadow.on);
    assert_int_equal(view_of_hand(&hand).shadow.different, 1);
    hand_end(&hand);
}

TEST(noise_passes)
{
    struct hand hand;
    begin(&hand);
    compare(
        &hand, 101, 20,
        &(struct rollout_shadow_row){.row = 0, .rank = 1, .both = 900, .candidate = 400, .secondary = 390});
    assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    assert_says(&hand,
                "no difference beyond noise in 2 020 compared answers (1 path is not always the same)");
    hand_end(&hand);
}

// The second differ is judged at 1 / 6 of alpha's half: 15 give 1 784 / 2, 16 give 3 341 / 2, of 1 200.
TEST(a_restart_forgets_paths_and_pays_for_another_try)
{
    struct hand hand;
    begin(&hand);
    compare(&hand, 20, 10, &(struct rollout_shadow_row){.row = 0, .rank = 1, .candidate = 13});
    resume(&hand);
    assert_true(hand.effects.publish);
    assert_int_equal(view_of_hand(&hand).shadow.compared, 0);
    assert_int_equal(view_of_hand(&hand).shadow.paths, 0);
    compare(&hand, 20, 10, &(struct rollout_shadow_row){.row = 0, .rank = 1, .candidate = 15});
    assert_int_equal(hand.effects.to, ROLLOUT_SHADOW);
    compare(&hand, 1, 10, &(struct rollout_shadow_row){.row = 0, .rank = 1, .candidate = 16});
    assert_int_equal(hand.effects.to, ROLLOUT_ROLLING_BACK);
    hand_end(&hand);
}

TEST(a_dead_version_goes_back_and_nobody_was_asked_to_use_it)
{
    struct hand hand;
    begin(&hand);
    int ticks = 0;
    while (hand.effects.to == ROLLOUT_SHADOW && ticks++ < 300) {
        struct rollout_shadow_delta delta = {.sent = 10, .candidate_errors = 10, .uncompared = 10};
        tell(&hand, &delta);
    }
    assert_int_equal(hand.effects.to, ROLLOUT_ROLLING_BACK);
    assert_true(ticks <= 20); // an outage counts request by request after its first second
    assert_says(&hand, "in the shadow, errors: canary 100.0 %");
    assert_says(&hand, "vs stable 0 %");
    assert_says(&hand, "no good answer for more than a second");
    assert_says(&hand, "at most 1 % of equal versions go back in the shadow");
    hand_end(&hand);
}

// Errors that both answers have are nobody's fault.
TEST(shared_errors_are_not_held_against_it)
{
    struct hand hand;
    begin(&hand);
    for (int i = 0; i < 400 && hand.effects.to == ROLLOUT_SHADOW; i++) {
        struct rollout_shadow_delta delta = {
            .sent = 20, .triples = 15, .candidate_answered = 20, .candidate_errors = 5, .primary_errors = 5};
        tell(&hand, &delta);
    }
    assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    hand_end(&hand);
}

TEST(a_slow_version_goes_back)
{
    struct hand hand;
    struct rollout_spec spec;
    shadow_spec(&spec);
    spec.latency.on = true;
    hand_begin(&hand, &spec);
    assert_int_equal(hand.effects.to, ROLLOUT_BASELINE);
    struct rollout_input input = {.kind = ROLLOUT_INPUT_EDGES,
                                  .time_ms = hand.time_ms,
                                  .edges = {.requests = 10000, .edge_us = {5000, 9000, 20000, 90000}}};
    rollout_step(hand.rollout, &input, &hand.effects);
    assert_int_equal(hand.effects.to, ROLLOUT_SHADOW);
    for (int i = 0; i < 550 && hand.effects.to == ROLLOUT_SHADOW; i++) {
        struct rollout_shadow_delta delta = {.sent = 100,
                                             .triples = 100,
                                             .candidate_answered = 100,
                                             .slow_candidate = {60, 40, 2, 0},
                                             .slow_primary = {5, 2, 1, 0}};
        tell(&hand, &delta);
    }
    assert_int_equal(hand.effects.to, ROLLOUT_ROLLING_BACK);
    assert_says(&hand, "in the shadow, latency p");
    hand_end(&hand);
}

// What was gathered in the shadow is no evidence of live requests, and theirs none of it.
TEST(live_evidence_begins_with_the_first_weight)
{
    struct hand hand;
    begin(&hand);
    // One second in two is a little worse: E grows, and does not suffice.
    for (int i = 0; i < 300 && hand.effects.to == ROLLOUT_SHADOW; i++) {
        struct rollout_shadow_delta delta = {
            .sent = 100, .triples = 100, .candidate_answered = 100, .candidate_errors = i % 20 < 3 ? 3 : 0};
        tell(&hand, &delta);
    }
    assert_true(view_of_hand(&hand).log_e_bad > 0.1 || hand.effects.to == ROLLOUT_SHIFTING);
    if (hand.effects.to == ROLLOUT_SHADOW) {
        struct rollout_input input = {.kind = ROLLOUT_INPUT_COMMAND, .time_ms = hand.time_ms};
        input.command.command = ROLLOUT_COMMAND_PROMOTE;
        rollout_step(hand.rollout, &input, &hand.effects);
    }
    assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    assert_true(view_of_hand(&hand).log_e_bad <= 0.0);
    assert_int_equal(view_of_hand(&hand).routed[ROLLOUT_ARM_CANARY], 0);
    struct rollout_shadow_delta late = {.sent = 50, .candidate_errors = 50};
    for (int i = 0; i < 100; i++)
        tell(&hand, &late);
    assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    // Users' requests without an error weigh what there is once more.
    for (int i = 0; i < 100; i++) {
        struct rollout_span_delta span = hand_span(&hand, view_of_hand(&hand).weight, 100, 0, 10, 0);
        hand_tick(&hand, &span, 1);
    }
    assert_true(view_of_hand(&hand).log_e_bad <= 0.0);
    hand_end(&hand);
}

TEST(a_shadow_stands_before_the_weights_and_once)
{
    struct rollout_spec spec;
    struct fault fault;
    shadow_spec(&spec);
    assert_int_equal(rollout_spec_check(&spec, &fault), STATUS_OK);
    spec.stages[1] = spec.stages[0];
    assert_int_equal(rollout_spec_check(&spec, &fault), STATUS_INVALID);
    assert_string_equal(fault.text, "a rollout has one stage in the shadow");
    shadow_spec(&spec);
    struct rollout_stage first = spec.stages[0];
    spec.stages[0] = spec.stages[1];
    spec.stages[1] = first;
    assert_int_equal(rollout_spec_check(&spec, &fault), STATUS_INVALID);
    assert_string_equal(fault.text, "a stage in the shadow comes before the first weight");
    shadow_spec(&spec);
    memcpy(spec.flag, "f", 2);
    rollout_spec_classify(&spec);
    assert_int_equal(rollout_spec_check(&spec, &fault), STATUS_INVALID);
    assert_string_equal(fault.text, "a stage in the shadow belongs to rollouts of versions");
    shadow_spec(&spec);
    spec.diff.ignore_count = 1;
    assert_int_equal(rollout_spec_check(&spec, &fault), STATUS_INVALID);
}

TEST(its_rules_are_in_the_journal)
{
    static struct rollout_spec spec, again;
    static uint8_t bytes[ROLLOUT_SPEC_WIRE_BYTES_MAX], bytes_again[ROLLOUT_SPEC_WIRE_BYTES_MAX];
    shadow_spec(&spec);
    spec.diff.ignore_count = ROLLOUT_IGNORES_MAX;
    for (int i = 0; i < ROLLOUT_IGNORES_MAX; i++) {
        memset(spec.diff.ignores[i].path, 'p', ROLLOUT_IGNORE_BYTES - 1);
        memset(spec.diff.ignores[i].reason, 'r', ROLLOUT_IGNORE_BYTES - 1);
    }
    struct fault fault;
    assert_int_equal(rollout_spec_check(&spec, &fault), STATUS_OK);
    struct wire_writer writer = {.data = bytes, .cap = sizeof bytes};
    rollout_spec_encode(&spec, &writer);
    assert_false(writer.full);
    for (size_t cut = 0; cut < writer.len; cut += 7) {
        struct wire_reader reader = {.data = bytes, .len = cut};
        assert_int_equal(rollout_spec_decode(&reader, &again), STATUS_CORRUPT);
    }
    struct wire_reader reader = {.data = bytes, .len = writer.len};
    assert_int_equal(rollout_spec_decode(&reader, &again), STATUS_OK);
    assert_int_equal(again.diff.ignore_count, ROLLOUT_IGNORES_MAX);
    assert_string_equal(again.diff.ignores[15].reason, spec.diff.ignores[15].reason);
    struct wire_writer second = {.data = bytes_again, .cap = sizeof bytes_again};
    rollout_spec_encode(&again, &second);
    assert_int_equal(second.len, writer.len);
    assert_memory_equal(bytes, bytes_again, writer.len);
}

// 1 000 of a tenth of the requests; 14 differences call the first path different: 21.65 of 1 000 at 95 %.
TEST(the_plan_says_what_would_be_found)
{
    struct rollout_spec spec;
    struct rollout_plan plan;
    shadow_spec(&spec);
    const struct rollout_plan_traffic traffic = {.requests_per_second = 200, .slowdown = 1.5};
    rollout_plan_make(&spec, &traffic, &plan);
    assert_int_equal(plan.stages[0].kind, ROLLOUT_STAGE_SHADOW);
    assert_int_equal(plan.stages[0].weight, 0);
    assert_true(fabs(plan.stages[0].promote - 10000) < 1e-6);
    assert_true(fabs(plan.stages[0].promote_ms - 50000) < 1e-6);
    assert_true(fabs(plan.stages[0].found - 0.021654) < 1e-5);
    spec.stages[0].shadow.secondary = ROLLOUT_WEIGHT_FULL / 100;
    rollout_plan_make(&spec, &traffic, &plan);
    assert_true(fabs(plan.stages[0].promote - 100000) < 1e-6); // for 100 that are asked three times
}

// ---- simulated ----

enum { PATHS = 6 };

struct pair_world {
    struct hand hand;
    struct rng rng;
    double noise[PATHS];  // how often an answer differs from another of the same version there
    double broken[PATHS]; // and how often the candidate's does besides
    double error_rate;
    uint32_t per_tick;
    uint32_t restart_ticks; // 0: never
    double lost;            // share of ticks that the process slept through
    struct rollout_shadow_row rows[PATHS];
    uint32_t ranks;
};

static bool differs(struct pair_world *world, double rate)
{
    return rng_double(&world->rng) < rate;
}

static void one_triple(struct pair_world *world, struct rollout_shadow_delta *delta)
{
    delta->sent++;
    bool candidate_error = differs(world, world->error_rate),
         primary_error = differs(world, world->error_rate);
    delta->candidate_errors += candidate_error;
    delta->primary_errors += primary_error;
    delta->candidate_answered++;
    delta->triples++;
    for (int i = 0; i < PATHS; i++) {
        bool candidate = differs(world, world->noise[i]) || differs(world, world->broken[i]);
        bool secondary = differs(world, world->noise[i]);
        struct rollout_shadow_row *row = &world->rows[i];
        if (!candidate && !secondary)
            continue;
        row->row = (uint16_t)i;
        row->rank = row->rank > 0 ? row->rank : ++world->ranks;
        *(candidate && secondary ? &row->both : candidate ? &row->candidate : &row->secondary) += 1;
    }
}

// True: it was taken back. False: it went on, or is held up.
static bool taken_back(struct pair_world *world)
{
    struct hand *hand = &world->hand;
    for (uint32_t tick = 1; tick <= 620 && hand->effects.to == ROLLOUT_SHADOW; tick++) {
        if (world->restart_ticks > 0 && tick % world->restart_ticks == 0) {
            resume(hand);
            memset(world->rows, 0, sizeof world->rows);
            world->ranks = 0;
        }
        struct rollout_shadow_delta delta = {.row_count = 0};
        for (uint32_t i = 0; i < world->per_tick; i++)
            one_triple(world, &delta);
        if (differs(world, world->lost)) { // its rows are told by a later tick
            hand->tick++;
            continue;
        }
        struct rollout_shadow_row told[PATHS];
        for (int i = 0; i < PATHS; i++)
            if (world->rows[i].rank > 0)
                told[delta.row_count++] = world->rows[i];
        delta.rows = told;
        tell(hand, &delta);
    }
    return hand->effects.to == ROLLOUT_ROLLING_BACK;
}

static bool simulate(struct pair_world *world, uint64_t seed)
{
    struct rollout_spec spec;
    shadow_spec(&spec);
    spec.stages[0].shadow.compared = 2500;
    rng_init(&world->rng, seed);
    memset(world->rows, 0, sizeof world->rows);
    world->ranks = 0;
    hand_begin(&world->hand, &spec);
    bool back = taken_back(world);
    hand_end(&world->hand);
    return back;
}

static uint32_t count_back(struct pair_world *world, uint32_t stages)
{
    uint32_t back = 0;
    for (uint32_t i = 0; i < stages; i++)
        back += simulate(world, 1000 + i);
    return back;
}

TEST(equal_versions_are_taken_back_less_often_than_alpha)
{
    static struct pair_world world = {
        .noise = {0.5, 0.1, 0.02, 0.004, 0.9, 0.0005}, .error_rate = 0.01, .per_tick = 25};
    assert_true(count_back(&world, 1000) <= 10);
    world.restart_ticks = 40;
    world.lost = 0.1;
    assert_true(count_back(&world, 200) <= 2);
}

TEST(one_answer_in_a_hundred_is_found)
{
    static struct pair_world world = {
        .noise = {0.5, 0.1, 0.02}, .broken = {[3] = 0.01}, .error_rate = 0.01, .per_tick = 25, .lost = 0.1};
    uint32_t back = count_back(&world, 100);
    if (back < 95)
        fail_msg("found in %u of 100", back);
}
