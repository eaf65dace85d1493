// SPDX-License-Identifier: Apache-2.0
// control: a restart resumes the same state and table; commands that do not fit are refused in words; a
// journal whose decisions cannot be derived again keeps the daemon from starting, a file that does not fit
// does not; replay finds the first difference; metrics are valid text.
#include "targets_bench.h"
#include "test.h"

#include "exposition_check.h"
#include "journal_hand.h"
#include "net/proxy/proxy_private.h"
#include "ship/engine/replay.h"

static uint32_t weight_in_force(const struct bench *bench)
{
    return bench->proxy->newest->services[0].weight;
}

TEST(restart_resumes)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    assert_int_equal(bench_rollout(&bench).view.state, ROLLOUT_PENDING);
    assert_int_equal(weight_in_force(&bench), 0);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_PROMOTE), STATUS_OK);
    int64_t decided_ms = engine_record_decision(bench_rollout(&bench).record, 0)->time_ms;
    assert_true(decided_ms >= bench_rollout(&bench).view.started_ms &&
                decided_ms <= (int64_t)time(NULL) * 1000 + 1000);
    for (int restart = 0; restart < 3; restart++) {
        bench_down(&bench);
        assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
        struct engine_view rollout = bench_rollout(&bench);
        assert_int_equal(rollout.view.state, ROLLOUT_SHIFTING);
        assert_int_equal(rollout.view.stage, 1);
        assert_int_equal(rollout.run, 1);
        assert_int_equal(weight_in_force(&bench), 50000);
        assert_int_equal(rollout.record->history_count, 2);
        assert_int_equal(engine_record_decision(rollout.record, 0)->time_ms, decided_ms);
    }
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_ABORT), STATUS_OK);
    assert_int_equal(weight_in_force(&bench), 0);
    bench_down(&bench);
    bench_forget(&bench);
}

TEST(refusals_say_why)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    assert_int_equal(engine_command(bench.engine, "shop", ROLLOUT_COMMAND_START, "a", "b", &bench.fault),
                     STATUS_NOT_FOUND);
    assert_string_equal(engine_rollout_nearest(bench.engine, "shp"), "ship");
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_PAUSE), STATUS_CONFLICT);
    assert_non_null(strstr(bench.fault.text, "sluice rollout start ship"));
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_EXISTS);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_UNDO), STATUS_CONFLICT);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_PROMOTE), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_PROMOTE), STATUS_OK);
    assert_int_equal(bench_rollout(&bench).view.state, ROLLOUT_AWAITING_APPROVAL);
    assert_int_equal(engine_command(bench.engine, "ship", ROLLOUT_COMMAND_APPROVE, "bob", "x", &bench.fault),
                     STATUS_DENIED);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_APPROVE), STATUS_OK);
    assert_int_equal(weight_in_force(&bench), ROLLOUT_WEIGHT_FULL);
    // What was refused is in the journal too, and does not disturb a replay.
    bench_down(&bench);
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    assert_int_equal(weight_in_force(&bench), ROLLOUT_WEIGHT_FULL);
    bench_down(&bench);
    bench_forget(&bench);
}

TEST(new_run_after_abort)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    for (uint32_t run = 1; run <= 3; run++) {
        assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
        assert_int_equal(bench_rollout(&bench).run, run);
        assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_ABORT), STATUS_OK);
        engine_start(bench.engine);
        uint64_t until_us = io_loop_clock_us(bench.loop) + 5000000;
        while (bench_rollout(&bench).view.state != ROLLOUT_ROLLED_BACK &&
               io_loop_clock_us(bench.loop) < until_us)
            assert_int_equal(io_loop_turn(bench.loop, 20000), STATUS_OK);
        assert_int_equal(bench_rollout(&bench).view.state, ROLLOUT_ROLLED_BACK);
        bench_down(&bench);
        assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    }
    bench_down(&bench);
    bench_forget(&bench);
}

TEST(file_that_does_not_fit)
{
    static const char gone[] = "listen: [127.0.0.1:1]\n"
                               "services:\n"
                               "  shop: {versions: {v1: [10.0.0.1:80]}, stable: v1}\n";
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    assert_int_equal(bench_reload(&bench, gone), STATUS_CONFLICT);
    assert_non_null(strstr(bench.fault.text, "ship"));
    assert_int_equal(weight_in_force(&bench), 10000);
    bench_down(&bench);
    // A start takes it all the same: traffic flows, and the rollout is taken back.
    assert_int_equal(bench_up(&bench, gone), STATUS_OK);
    assert_int_equal(weight_in_force(&bench), 0);
    struct engine_view rollout = bench_rollout(&bench);
    assert_int_equal(rollout.view.state, ROLLOUT_ROLLING_BACK);
    assert_non_null(strstr(rollout.view.last.text, "by sluice from a file that does not fit"));
    bench_down(&bench);
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    assert_int_equal(weight_in_force(&bench), 0);
    bench_down(&bench);
    bench_forget(&bench);
}

// ---- journals made by hand ----

// A run with a frozen baseline, so that a replay that forgets an input must differ.
static void hand_write(const char *path, bool lie)
{
    static struct journal_hand hand;
    struct fault problem;
    assert_int_equal(journal_open(path, JOURNAL_WRITE, &hand.journal, &problem), STATUS_OK);
    journal_hand_begin(&hand, "ship");
    struct rollout_spec spec;
    rollout_spec_init(&spec);
    rollout_spec_default_stages(&spec);
    snprintf(spec.name, sizeof spec.name, "%s", "ship");
    snprintf(spec.service, sizeof spec.service, "%s", "shop");
    snprintf(spec.from, sizeof spec.from, "%s", "v1");
    snprintf(spec.to, sizeof spec.to, "%s", "v2");
    struct rollout_input input = {.kind = ROLLOUT_INPUT_SPEC, .time_ms = 1000, .spec = &spec};
    journal_hand_step(&hand, &input, false);
    input = (struct rollout_input){.kind = ROLLOUT_INPUT_COMMAND, .time_ms = 1001};
    snprintf(input.command.who, sizeof input.command.who, "%s", "ann");
    journal_hand_step(&hand, &input, false);
    input = (struct rollout_input){.kind = ROLLOUT_INPUT_EDGES, .time_ms = 2000};
    input.edges = (struct rollout_edges){10000, {100, 200, 300, 400}};
    journal_hand_step(&hand, &input, lie);
    static const char seen[] = "Where v2 failed (2; v1 0): GET / 500 (2).";
    const struct wire_writer note = {.data = (uint8_t *)(uintptr_t)seen, .len = sizeof seen - 1};
    journal_hand_append(&hand, JOURNAL_NOTE, &note);
    engine_record_destroy(hand.record);
    journal_close(hand.journal);
}

static enum status replay_file(const char *path, struct engine_replay *replay)
{
    struct journal *journal;
    struct fault problem;
    assert_int_equal(journal_open(path, JOURNAL_READ, &journal, &problem), STATUS_OK);
    enum status status = engine_replay_run(journal, replay, &problem);
    journal_close(journal);
    return status;
}

TEST(replay_derives_the_same)
{
    static struct engine_replay replay;
    struct bench bench = {.path = ""};
    bench_place(&bench);
    hand_write(bench.path, false);
    assert_int_equal(replay_file(bench.path, &replay), STATUS_OK);
    assert_false(replay.differs);
    assert_int_equal(replay.inputs, 3);
    assert_int_equal(replay.decisions, 2);
    assert_int_equal(replay.owed_count, 0);
    assert_string_equal(engine_record_decision(replay.records[0], 0)->failures,
                        "Where v2 failed (2; v1 0): GET / 500 (2).");
    assert_string_equal(engine_record_decision(replay.records[0], 1)->failures, "");
    engine_replay_deinit(&replay);
    bench_forget(&bench);
}

TEST(a_lie_is_found_and_refused)
{
    static struct engine_replay replay;
    struct bench bench = {.path = ""};
    bench_place(&bench);
    hand_write(bench.path, true);
    assert_int_equal(replay_file(bench.path, &replay), STATUS_OK);
    assert_true(replay.differs);
    assert_string_equal(replay.difference_subject, "ship");
    assert_int_equal(replay.difference_seq, 5);
    assert_string_not_equal(replay.recorded, replay.derived);
    engine_replay_deinit(&replay);
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_MISMATCH);
    assert_non_null(strstr(bench.fault.text, "entry 5 of rollout ship"));
    assert_non_null(strstr(bench.fault.text, "move the file away"));
    bench_down(&bench);
    bench_forget(&bench);
}

TEST(metrics_are_valid)
{
    static char storage[1 << 20];
    static struct exposition checker;
    struct bench bench = {.path = ""};
    struct slice text;
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    assert_int_equal(engine_metrics_write(bench.engine, storage, sizeof storage - 1, &text), STATUS_OK);
    storage[text.len] = '\0';
    if (!exposition_check(&checker, storage))
        fail_msg("%s", checker.error);
    assert_non_null(
        strstr(storage, "sluice_rollout_state{rollout=\"ship\",service=\"shop\",state=\"Shifting\"} 1\n"));
    assert_non_null(strstr(storage, "sluice_rollout_weight_ratio{rollout=\"ship\",service=\"shop\"} 0.1\n"));
    assert_non_null(strstr(
        storage, "sluice_requests_total{service=\"shop\",version=\"v2\",class=\"5xx\",by=\"origin\"} 0\n"));
    assert_int_equal(engine_metrics_write(bench.engine, storage, 100, &text), STATUS_FULL);
    bench_down(&bench);
    bench_forget(&bench);
}
