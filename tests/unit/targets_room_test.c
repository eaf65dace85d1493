// SPDX-License-Identifier: Apache-2.0
// targets: finished rollouts make room for others, oldest first, however many there have been; a restart and
// a replay know the same ones.
#include "targets_bench.h"

#include <stdio.h>

#include "journal_hand.h"
#include "ship/engine/replay.h"

enum {
    EARLIER = ENGINE_FINISHED_MAX + 36, // releases that the journal has before the daemon starts
    RELEASES = EARLIER + 100,
    // The newest that are over, the one in the file, and the first, which the file still has.
    KNOWN = ENGINE_FINISHED_MAX + 2,
};

static struct bench bench;

static void name_of(char name[ROLLOUT_NAME_BYTES], uint32_t number)
{
    snprintf(name, ROLLOUT_NAME_BYTES, "r%u", number);
}

// A file with the first rollout, which is of another service, and that one; versions alternate.
static const char *file_with(uint32_t number)
{
    static char yaml[1024];
    struct text text = text_over(yaml, sizeof yaml);
    text_addf(
        &text,
        "listen: [127.0.0.1:1]\n"
        "services:\n"
        "  cart: {versions: {v0: [10.0.0.3:80], v1: [10.0.0.4:80]}, stable: v1, routes: [{path: /cart}]}\n"
        "  shop: {versions: {v0: [10.0.0.1:80], v1: [10.0.0.2:80]}, stable: v%u}\n"
        "rollouts:\n",
        (number + 1) % 2);
    const uint32_t numbers[] = {0, number};
    for (uint32_t i = 0; i < (number == 0 ? 1 : 2); i++)
        text_addf(&text, "  r%u: {service: %s, to: v%u, stages: [{weight: 100%%}], checks: {latency: off}}\n",
                  numbers[i], numbers[i] == 0 ? "cart" : "shop", numbers[i] % 2);
    assert_false(text.cut);
    return yaml;
}

static void command(uint32_t number, enum rollout_command word, enum status expected)
{
    char name[ROLLOUT_NAME_BYTES];
    name_of(name, number);
    if (engine_command(bench.engine, name, word, "ann", "here", &bench.fault) != expected)
        fail_msg("%s %s: %s", rollout_command_name(word), name, bench.fault.text);
}

static bool is_known(uint32_t number)
{
    char name[ROLLOUT_NAME_BYTES];
    name_of(name, number);
    return engine_view_find(bench.engine, name) >= 0;
}

static enum rollout_state state_of(uint32_t number)
{
    char name[ROLLOUT_NAME_BYTES];
    struct engine_view view;
    name_of(name, number);
    engine_view_get(bench.engine, (uint32_t)engine_view_find(bench.engine, name), &view);
    return view.view.state;
}

static void release(uint32_t number)
{
    if (bench_reload(&bench, file_with(number)) != STATUS_OK)
        fail_msg("rollout %u: %s", number, bench.fault.text);
    command(number, ROLLOUT_COMMAND_START, STATUS_OK);
    while (state_of(number) != ROLLOUT_COMPLETED)
        command(number, ROLLOUT_COMMAND_PROMOTE, STATUS_OK);
}

static bool is_complete(const struct journal_hand *hand)
{
    struct rollout_view view;
    rollout_view_get(hand->record->core, &view);
    return view.state == ROLLOUT_COMPLETED;
}

static void write_release(struct journal_hand *hand, uint32_t number)
{
    struct rollout_spec spec;
    rollout_spec_init(&spec);
    spec.stage_count = 1;
    spec.stages[0] = (struct rollout_stage){.kind = ROLLOUT_STAGE_WEIGHT, .weight = ROLLOUT_WEIGHT_FULL};
    spec.latency.on = false;
    name_of(spec.name, number);
    snprintf(spec.service, sizeof spec.service, "%s", number == 0 ? "cart" : "shop");
    snprintf(spec.from, sizeof spec.from, "v%u", (number + 1) % 2);
    snprintf(spec.to, sizeof spec.to, "v%u", number % 2);
    journal_hand_begin(hand, spec.name);
    struct rollout_input input = {.kind = ROLLOUT_INPUT_SPEC, .time_ms = 1000, .spec = &spec};
    journal_hand_step(hand, &input, false);
    input = (struct rollout_input){.kind = ROLLOUT_INPUT_COMMAND, .time_ms = 1001};
    snprintf(input.command.who, sizeof input.command.who, "%s", "ann");
    journal_hand_step(hand, &input, false);
    input.command.command = ROLLOUT_COMMAND_PROMOTE;
    while (!is_complete(hand))
        journal_hand_step(hand, &input, false);
    engine_record_destroy(hand->record);
}

static void write_earlier(void)
{
    static struct journal_hand hand;
    struct fault fault;
    bench_place(&bench);
    assert_int_equal(journal_open(bench.path, JOURNAL_WRITE, &hand.journal, &fault), STATUS_OK);
    for (uint32_t i = 0; i < EARLIER; i++)
        write_release(&hand, i);
    journal_close(hand.journal);
}

static void expect_newest(uint32_t count)
{
    assert_int_equal(engine_rollout_count(bench.engine), KNOWN);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(is_known(i), i == 0 || i > count - KNOWN);
}

static void expect_replayed(uint64_t forgotten)
{
    static struct engine_replay replay;
    struct fault fault;
    if (engine_replay_run(bench.journal, &replay, &fault) != STATUS_OK)
        fail_msg("%s", fault.text);
    assert_false(replay.differs);
    assert_int_equal(replay.forgotten, forgotten);
    assert_int_equal(replay.record_count, engine_rollout_count(bench.engine));
    for (uint32_t i = 0; i < replay.record_count; i++)
        assert_true(engine_view_find(bench.engine, replay.records[i]->name) >= 0);
    engine_replay_deinit(&replay);
}

static const char *stable_version(void)
{
    return engine_stable_version(engine_stables_of(bench.engine), &engine_config(bench.engine)->services[1]);
}

TEST(more_releases_than_there_is_room)
{
    bench = (struct bench){.path = ""};
    write_earlier();
    assert_int_equal(bench_up(&bench, file_with(0)), STATUS_OK);
    for (uint32_t i = EARLIER; i < RELEASES; i++)
        release(i);
    expect_newest(RELEASES);
    expect_replayed(RELEASES - KNOWN);
    assert_string_equal(stable_version(), "v1");

    command(1, ROLLOUT_COMMAND_UNDO, STATUS_NOT_FOUND);
    assert_string_equal(bench.fault.text, "there is no rollout \"r1\"");

    // What is forgotten stays so, and what it promoted counts as before.
    bench_down(&bench);
    assert_int_equal(bench_up(&bench, file_with(RELEASES - 1)), STATUS_OK);
    expect_newest(RELEASES);
    assert_string_equal(stable_version(), "v1");

    // A name that comes back begins as one that never ran.
    release(RELEASES);
    release(1);
    expect_replayed(RELEASES + 2 - KNOWN);
    bench_down(&bench);
    assert_int_equal(bench_up(&bench, file_with(1)), STATUS_OK);
    assert_int_equal(state_of(1), ROLLOUT_COMPLETED);
    bench_down(&bench);
    bench_forget(&bench);
}
