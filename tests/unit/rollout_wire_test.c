// SPDX-License-Identifier: Apache-2.0
// rollout/wire and spec: round trips, every truncation, every flipped bit (decoded and given to a machine),
// the spec's rules, and a recorded rollout derived again from its bytes.
#include "base/text.h"
#include "rollout_sim.h"
#include "test.h"

static uint8_t bytes[ROLLOUT_INPUT_WIRE_BYTES_MAX];
static struct rollout_input_room room;

static void spec_make(struct rollout_spec *spec)
{
    static const uint32_t percents[] = {5, 50, 100};
    sim_spec(spec, percents, 3, 1000, 2000);
    spec->stages[0].by[0] = 'x';
    spec->throughput = (struct rollout_check_throughput){.on = true, .share = 0.25, .margin = 1.1};
    spec->keyed = true;
}

static size_t encode(const struct rollout_input *input)
{
    struct wire_writer writer = {.data = bytes, .cap = sizeof bytes};
    rollout_input_encode(input, &writer);
    assert_false(writer.full);
    return writer.len;
}

// An exact-size copy on the heap, so that the sanitizer sees the first byte past the end.
static enum status decode_exact(const uint8_t *data, size_t len, struct rollout_input *input)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    CHECK(copy != NULL);
    memcpy(copy, data, len);
    struct wire_reader reader = {.data = copy, .len = len};
    enum status status = rollout_input_decode(&reader, &room, input);
    if (status == STATUS_OK && !wire_done(&reader))
        status = STATUS_CORRUPT;
    free(copy);
    return status;
}

static uint32_t make_inputs(struct rollout_input inputs[8], const struct rollout_spec *spec,
                            struct rollout_span_delta deltas[2])
{
    uint32_t count = 0;
    inputs[count++] = (struct rollout_input){.kind = ROLLOUT_INPUT_SPEC, .time_ms = 7, .spec = spec};
    inputs[count] = (struct rollout_input){.kind = ROLLOUT_INPUT_COMMAND, .time_ms = 8};
    memcpy(inputs[count].command.who, "ann", 4);
    memcpy(inputs[count++].command.from, "::1", 4);
    inputs[count++] =
        (struct rollout_input){.kind = ROLLOUT_INPUT_EDGES,
                               .time_ms = 9,
                               .edges = {.requests = 10000, .edge_us = {1, 200, 30000, UINT64_MAX}}};
    inputs[count++] = (struct rollout_input){
        .kind = ROLLOUT_INPUT_RESUMED, .time_ms = INT64_MAX, .resumed = {.strangers = true, .errors_id = 5}};
    inputs[count++] = (struct rollout_input){
        .kind = ROLLOUT_INPUT_REDEFINED, .time_ms = 10, .redefined = {.errors_id = UINT64_MAX, .table = 7}};
    memset(deltas, 0, 2 * sizeof *deltas);
    deltas[0] = (struct rollout_span_delta){.tick = 40, .table = 3, .weight = 5000, .weight_control = 5000};
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        deltas[0].arms[arm] = (struct rollout_counts){.routed = 100 + (uint32_t)arm,
                                                      .completed = 90,
                                                      .errors = 7,
                                                      .error_events = 6,
                                                      .slow = {50, 9, 2, 1},
                                                      .good = 80};
    deltas[1] = (struct rollout_span_delta){.tick = 41, .table = 2, .weight = 0};
    deltas[1].arms[2].units = UINT32_MAX;
    inputs[count] = (struct rollout_input){.kind = ROLLOUT_INPUT_TICK, .time_ms = -1};
    inputs[count].tick.tick = 42;
    inputs[count].tick.spans_lost = 3;
    inputs[count].tick.baseline_count = 9;
    inputs[count].tick.span_count = 2;
    static const struct rollout_shadow_row rows[] = {
        {.row = 1032, .rank = UINT32_MAX, .candidate = 5},
        {.row = 3, .rank = 4, .both = 1, .secondary = 2, .alone = 7}};
    static const struct rollout_shadow_delta shadow = {.sent = 12,
                                                       .triples = 3,
                                                       .slow_primary = {0, 0, 0, UINT32_MAX},
                                                       .row_count = ARRAY_LEN(rows),
                                                       .rows = rows};
    inputs[count].tick.shadow = &shadow;
    inputs[count++].tick.spans = deltas;
    return count;
}

TEST(inputs_survive_the_round_trip)
{
    struct rollout_spec spec;
    spec_make(&spec);
    struct rollout_input inputs[8];
    struct rollout_span_delta deltas[2];
    uint32_t count = make_inputs(inputs, &spec, deltas);
    for (uint32_t i = 0; i < count; i++) {
        size_t len = encode(&inputs[i]);
        uint8_t first[8192];
        memcpy(first, bytes, len);
        struct rollout_input out;
        assert_int_equal(decode_exact(first, len, &out), STATUS_OK);
        assert_int_equal(out.kind, inputs[i].kind);
        assert_int_equal(out.time_ms, inputs[i].time_ms);
        assert_int_equal(encode(&out), len);
        assert_memory_equal(bytes, first, len);
        if (out.kind == ROLLOUT_INPUT_RESUMED)
            assert_true(out.resumed.strangers && out.resumed.errors_id == 5);
        if (out.kind == ROLLOUT_INPUT_REDEFINED)
            assert_true(out.redefined.errors_id == UINT64_MAX && out.redefined.table == 7);
        if (out.kind == ROLLOUT_INPUT_TICK) {
            assert_memory_equal(out.tick.spans, deltas, sizeof deltas);
            assert_int_equal(out.tick.shadow->sent, 12);
            assert_int_equal(out.tick.shadow->slow_primary[3], UINT32_MAX);
            assert_int_equal(out.tick.shadow->row_count, 2);
            assert_memory_equal(out.tick.shadow->rows, inputs[i].tick.shadow->rows,
                                2 * sizeof(struct rollout_shadow_row));
        }
        if (out.kind == ROLLOUT_INPUT_SPEC) {
            assert_string_equal(out.spec->stages[0].by, "x");
            assert_true(out.spec->alpha >= spec.alpha && out.spec->alpha <= spec.alpha);
        }
    }
}

// A journal of version 2 must replay to what that version decided.
TEST(a_resume_of_version_2_forgets_nobody)
{
    struct wire_writer writer = {.data = bytes, .cap = sizeof bytes};
    wire_put_u64(&writer, 2);
    wire_put_u64(&writer, ROLLOUT_INPUT_RESUMED);
    wire_put_i64(&writer, 77);
    struct rollout_input input;
    assert_int_equal(decode_exact(bytes, writer.len, &input), STATUS_OK);
    assert_int_equal(input.kind, ROLLOUT_INPUT_RESUMED);
    assert_false(input.resumed.strangers);
}

TEST(truncated_inputs_are_corrupt_and_touch_nothing)
{
    struct rollout_spec spec;
    spec_make(&spec);
    struct rollout_input inputs[8];
    struct rollout_span_delta deltas[2];
    uint32_t count = make_inputs(inputs, &spec, deltas);
    for (uint32_t i = 0; i < count; i++) {
        size_t len = encode(&inputs[i]);
        for (size_t cut = 0; cut < len; cut++) {
            struct rollout_input out;
            struct rollout_input untouched;
            memset(&out, 0x5a, sizeof out);
            memset(&untouched, 0x5a, sizeof untouched);
            assert_int_equal(decode_exact(bytes, cut, &out), STATUS_CORRUPT);
            assert_memory_equal(&out, &untouched, sizeof out);
        }
    }
}

// A machine that is under way, to be given whatever decodes.
TEST(flipped_bits_never_break_the_machine)
{
    struct rollout_spec spec;
    spec_make(&spec);
    struct rollout_input inputs[8];
    struct rollout_span_delta deltas[2];
    uint32_t count = make_inputs(inputs, &spec, deltas);
    struct sim *sim = sim_create(&spec, 3, 50);
    sim_start(sim);
    for (int i = 0; i < 20; i++)
        sim_tick(sim);
    int taken = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t len = encode(&inputs[i]);
        uint8_t good[8192];
        memcpy(good, bytes, len);
        for (size_t bit = 0; bit < len * 8; bit++) {
            uint8_t bad[8192];
            memcpy(bad, good, len);
            bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
            struct rollout_input out;
            if (decode_exact(bad, len, &out) != STATUS_OK)
                continue;
            struct rollout_effects effects;
            rollout_step(sim->rollout, &out, &effects);
            taken++;
        }
    }
    assert_true(taken > 100);
    sim_destroy(sim);
}

TEST(effects_survive_the_round_trip)
{
    struct rollout_effects effects = {.changed = true,
                                      .publish = true,
                                      .from = ROLLOUT_SHIFTING,
                                      .to = ROLLOUT_ROLLING_BACK,
                                      .stage = 3,
                                      .has_verdict = true,
                                      .verdict = {.outcome = ROLLOUT_OUTCOME_ROLLED_BACK,
                                                  .check = "errors",
                                                  .log_e = 5.25,
                                                  .canary_events = 39,
                                                  .text = "ROLLED BACK"}};
    uint8_t wire[2048];
    struct wire_writer writer = {.data = wire, .cap = sizeof wire};
    rollout_effects_encode(&effects, &writer);
    struct rollout_effects out;
    struct wire_reader reader = {.data = wire, .len = writer.len};
    assert_int_equal(rollout_effects_decode(&reader, &out), STATUS_OK);
    assert_true(wire_done(&reader));
    assert_true(rollout_effects_equal(&effects, &out));
    out.verdict.log_e += 1e-15;
    assert_false(rollout_effects_equal(&effects, &out));
    for (size_t cut = 0; cut < writer.len; cut++) {
        uint8_t *copy = malloc(cut + 1);
        CHECK(copy != NULL);
        memcpy(copy, wire, cut);
        reader = (struct wire_reader){.data = copy, .len = cut};
        assert_int_equal(rollout_effects_decode(&reader, &out), STATUS_CORRUPT);
        free(copy);
    }
}

// ---- derive again ----

struct recording {
    uint8_t *data;
    size_t len;
    size_t cap;
};

static void record(void *context, const struct rollout_input *input)
{
    struct recording *recording = context;
    struct wire_writer writer = {.data = recording->data + recording->len,
                                 .cap = recording->cap - recording->len};
    rollout_input_encode(input, &writer);
    CHECK(!writer.full);
    recording->len += writer.len;
}

TEST(a_recorded_rollout_comes_out_again)
{
    static struct rollout_effects made[1024];
    struct recording recording = {.cap = 4 << 20, .data = malloc(4 << 20)};
    CHECK(recording.data != NULL);
    struct rollout_spec spec;
    spec_make(&spec);
    spec.keyed = false;
    struct sim *sim = sim_create(&spec, 12, 100);
    sim->arms[ROLLOUT_ARM_STABLE].error_rate = 0.02;
    sim->arms[ROLLOUT_ARM_CANARY].error_rate = 0.03;
    sim->hook = record;
    sim->context = &recording;
    sim_command(sim, ROLLOUT_COMMAND_START);
    size_t count = 0;
    made[count++] = sim->effects;
    struct rollout_input input = {
        .kind = ROLLOUT_INPUT_EDGES, .time_ms = sim->time_ms, .edges = {.requests = 100}};
    sim_step(sim, &input);
    made[count++] = sim->effects;
    while (count < ARRAY_LEN(made) && !rollout_state_is_final(sim->effects.to)) {
        sim_tick(sim);
        made[count++] = sim->effects;
    }
    assert_true(count > 50);
    struct rollout *again = malloc(rollout_size());
    CHECK(again != NULL);
    rollout_init(again);
    input = (struct rollout_input){.kind = ROLLOUT_INPUT_SPEC, .spec = &spec};
    struct rollout_effects effects;
    rollout_step(again, &input, &effects);
    struct wire_reader reader = {.data = recording.data, .len = recording.len};
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(rollout_input_decode(&reader, &room, &input), STATUS_OK);
        rollout_step(again, &input, &effects);
        if (!rollout_effects_equal(&effects, &made[i]))
            fail_msg("step %zu differs: %s / %s", i, effects.verdict.text, made[i].verdict.text);
    }
    assert_true(wire_done(&reader));
    free(again);
    free(recording.data);
    sim_destroy(sim);
}

// ---- the spec ----

static void expect_invalid(const struct rollout_spec *spec, const char *word)
{
    struct fault fault;
    assert_int_equal(rollout_spec_check(spec, &fault), STATUS_INVALID);
    if (strstr(fault.text, word) == NULL)
        fail_msg("'%s' does not speak of %s", fault.text, word);
}

TEST(the_spec_rules)
{
    struct rollout_spec good;
    spec_make(&good);
    rollout_spec_default_stages(&good);
    struct fault fault;
    assert_int_equal(rollout_spec_check(&good, &fault), STATUS_OK);
    assert_int_equal(good.stage_count, 6);
    assert_int_equal(good.stages[5].weight, ROLLOUT_WEIGHT_FULL);
#define BROKEN(change, word)                                                                                 \
    do {                                                                                                     \
        struct rollout_spec spec = good;                                                                     \
        change;                                                                                              \
        expect_invalid(&spec, word);                                                                         \
    } while (0)
    BROKEN(spec.name[0] = '\0', "name");
    BROKEN(memset(spec.to, 'a', sizeof spec.to), "63");
    BROKEN(memcpy(spec.to, spec.from, sizeof spec.to), "itself");
    BROKEN(spec.stage_count = 0, "stages");
    BROKEN(spec.stage_count = 33, "stages");
    BROKEN(spec.stages[1].weight = spec.stages[0].weight, "grow");
    BROKEN(spec.stages[0].weight = ROLLOUT_WEIGHT_FULL, "100 %");
    BROKEN(spec.stages[0].weight = 0, "weight");
    BROKEN(spec.stages[2].horizon_ms = 1, "horizon");
    BROKEN(spec.stages[2].min_ms = UINT64_MAX, "year");
    BROKEN(spec.errors.worse = 0.5, "worse");
    BROKEN(spec.errors.margin = 0.9, "margin");
    BROKEN(spec.errors.negligible = 0.9, "negligible");
    BROKEN(spec.errors.share = 0.0, "share");
    BROKEN(spec.latency.margin = (double)NAN, "margin");
    BROKEN(spec.throughput.margin = 1.0, "margin");
    BROKEN(spec.alpha = 0.0, "alpha");
    BROKEN(spec.beta = (double)INFINITY, "beta");
    BROKEN(spec.deadline_ms = ROLLOUT_DEADLINE_MS_MAX + 1, "deadline");
    BROKEN(spec.drain_ms = UINT64_MAX, "year");
    BROKEN((spec.errors.on = false, spec.latency.on = false, spec.throughput.on = false,
            spec.statuses.on = false),
           "check");
    BROKEN(spec.rule = ROLLOUT_RULE_REQUESTS, "rule");
    BROKEN(spec.errors.floor = (double)NAN, "floor");
    BROKEN(spec.errors.budget = 0.0, "budget");
    BROKEN(spec.errors.prove = (enum rollout_prove)7, "prove");
    BROKEN(spec.latency.worse = 0.9, "worse");
    BROKEN(spec.latency.budget = 2.0, "budget");
    BROKEN(spec.statuses.worse = (double)INFINITY, "worse");
    BROKEN(spec.outage = 1.5, "outage");
    BROKEN((spec.stage_count = 1, spec.stages[0].kind = ROLLOUT_STAGE_APPROVE), "weight");
}

// What an older rule said stays as it was; what it did not say is as by default, and the shares still make
// one.
TEST(an_older_spec_is_put_under_the_present_rule)
{
    struct rollout_spec spec;
    spec_make(&spec);
    rollout_spec_default_stages(&spec);
    spec.rule = ROLLOUT_RULE_REQUESTS;
    spec.errors.worse = 1.0;
    spec.errors.floor = spec.errors.budget = spec.latency.worse = spec.latency.budget = spec.outage = 0.0;
    spec.errors.share = 0.3;
    spec.latency.share = 0.7;
    spec.statuses = (struct rollout_check_statuses){.on = false};
    struct fault fault;
    assert_int_equal(rollout_spec_check(&spec, &fault), STATUS_INVALID);
    rollout_spec_upgrade(&spec);
    assert_int_equal(rollout_spec_check(&spec, &fault), STATUS_OK);
    double shares = spec.errors.share + spec.latency.share + spec.statuses.share;
    assert_true(shares > 1.0 - 1e-9 && shares < 1.0 + 1e-9);
    assert_true(spec.errors.worse > 1.0);
}
