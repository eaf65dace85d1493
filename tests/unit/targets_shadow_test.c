// SPDX-License-Identifier: Apache-2.0
// control: what copies of requests showed reaches the core through the journal, once and whole, and a replay
// of it decides the same.
#include "failing_disk.h"
#include "ship/engine/engine_private.h"
#include "ship/engine/replay.h"
#include "targets_bench.h"

static const char YAML[] =
    "listen: [127.0.0.1:1]\n"
    "services:\n"
    "  shop: {versions: {v1: [10.0.0.1:80], v2: [10.0.0.2:80]}, stable: v1}\n"
    "rollouts:\n"
    "  ship:\n"
    "    service: shop\n"
    "    to: v2\n"
    "    stages: [{shadow: {share: 50%, for: 10s, compared: 500}}, {weight: 10%}, {weight: 100%}]\n"
    "    checks: {latency: off}\n"
    "    diff: {ignore: [{path: body.id, reason: drawn anew}]}\n";

EACH_TEST(NULL, disk_heals);

// A differ, of which the test says what it has counted since it was asked last.
static struct rollout_shadow_delta counted;
static struct rollout_shadow_row counted_row;
static uint32_t asked;

static bool fake_shadow(void *world, const struct engine_rollout *rollout,
                        struct rollout_shadow_row rows[ROLLOUT_SHADOW_ROWS_MAX],
                        struct rollout_shadow_delta *delta)
{
    (void)world;
    assert_true(rollout->route.shadow);
    asked++;
    if (counted.sent == 0)
        return false;
    *delta = counted;
    rows[0] = counted_row;
    delta->rows = rows;
    delta->row_count = counted_row.rank > 0;
    counted = (struct rollout_shadow_delta){.sent = 0};
    return true;
}

static void fake_differences(void *world, const struct engine_rollout *rollout,
                             char words[ROLLOUT_FAILURES_TEXT_BYTES])
{
    (void)world;
    (void)rollout;
    struct text text = text_over(words, ROLLOUT_FAILURES_TEXT_BYTES);
    text_addf(&text, "body.price: was 10.25, is 10.");
}

static void count(uint32_t triples, uint32_t candidate)
{
    counted =
        (struct rollout_shadow_delta){.sent = triples, .triples = triples, .candidate_answered = triples};
    counted_row = (struct rollout_shadow_row){.row = 3, .rank = candidate > 0, .candidate = candidate};
}

static void up(struct bench *bench)
{
    static struct engine_source fake;
    static const struct engine_source *sources[ROLLOUT_SOURCES];
    assert_int_equal(bench_up(bench, YAML), STATUS_OK);
    memcpy(sources, bench->engine->sources, sizeof sources);
    fake = *sources[ROLLOUT_SOURCE_REQUESTS];
    fake.shadow = fake_shadow;
    fake.differences = fake_differences;
    sources[ROLLOUT_SOURCE_REQUESTS] = &fake;
    bench->engine->sources = sources;
    counted.sent = 0;
    asked = 0;
}

static void start(struct bench *bench)
{
    up(bench);
    assert_int_equal(bench_command(bench, ROLLOUT_COMMAND_START), STATUS_OK);
    assert_int_equal(bench_rollout(bench).view.state, ROLLOUT_SHADOW);
}

static void replay_same(struct bench *bench, uint32_t decisions)
{
    static struct engine_replay replay;
    struct journal *journal;
    struct fault problem;
    assert_int_equal(journal_open(bench->path, JOURNAL_READ, &journal, &problem), STATUS_OK);
    assert_int_equal(engine_replay_run(journal, &replay, &problem), STATUS_OK);
    assert_false(replay.differs);
    assert_int_equal(replay.decisions, decisions);
    engine_replay_deinit(&replay);
    journal_close(journal);
}

TEST(a_difference_takes_it_back_and_is_quoted)
{
    struct bench bench = {.path = ""};
    start(&bench);
    engine_tick(bench.engine);
    count(300, 13);
    engine_tick(bench.engine);
    assert_int_equal(bench_rollout(&bench).view.shadow.sent, 300);
    assert_int_equal(bench_rollout(&bench).view.shadow.suspected, 1);
    assert_int_equal(bench_rollout(&bench).view.state, ROLLOUT_SHADOW);
    count(20, 14);
    engine_tick(bench.engine);
    struct engine_view view = bench_rollout(&bench);
    assert_int_equal(view.view.state, ROLLOUT_ROLLING_BACK);
    assert_string_equal(view.view.last.check, "difference");
    assert_string_equal(view.failures, "body.price: was 10.25, is 10.");
    assert_int_equal(view.arms[ROLLOUT_ARM_CANARY].sum.routed, 0);
    uint32_t before = asked;
    engine_tick(bench.engine);
    assert_int_equal(asked, before); // nothing is mirrored any more
    bench_down(&bench);
    replay_same(&bench, 2);
    bench_forget(&bench);
}

// At each write of a tick in turn the disk is full for a while: what was counted is there in the end, once.
TEST(nothing_is_lost_while_the_disk_is_full)
{
    struct bench bench = {.path = ""};
    int failed = 0;
    assert_int_equal(fault_vfs_install(), STATUS_OK);
    start(&bench);
    for (uint64_t n = 1; n <= 12; n++) {
        fault_vfs_set(&(struct fault_vfs_plan){.write_fails_from = n, .write_fails_count = UINT64_MAX / 2});
        count(10, 1);
        engine_tick(bench.engine);
        failed += bench.engine->health.journal_failing;
        engine_tick(bench.engine);
        fault_vfs_set(&(struct fault_vfs_plan){0});
        bench.engine->journal_retry_us = 0;
        engine_tick(bench.engine);
        engine_tick(bench.engine);
        assert_false(bench.engine->health.journal_failing);
        assert_int_equal(bench_rollout(&bench).view.shadow.sent, 10 * n);
        assert_int_equal(bench_rollout(&bench).view.shadow.paths, 1);
    }
    assert_true(failed > 0);
    bench_down(&bench);
    fault_vfs_remove();
    replay_same(&bench, 1);
    bench_forget(&bench);
}

TEST(a_restart_goes_on_in_the_shadow_and_compares_afresh)
{
    struct bench bench = {.path = ""};
    start(&bench);
    count(300, 13);
    engine_tick(bench.engine);
    bench_down(&bench);
    up(&bench);
    engine_start(bench.engine);
    struct engine_view view = bench_rollout(&bench);
    assert_int_equal(view.view.state, ROLLOUT_SHADOW);
    assert_int_equal(view.view.shadow.sent, 300);
    assert_int_equal(view.view.shadow.compared, 0);
    assert_string_equal(view.spec->diff.ignores[0].reason, "drawn anew");
    assert_false(view.file_differs);
    count(20, 14);
    engine_tick(bench.engine);
    assert_int_equal(bench_rollout(&bench).view.state, ROLLOUT_SHADOW); // a second differ pays for its try
    count(20, 16);
    engine_tick(bench.engine);
    assert_int_equal(bench_rollout(&bench).view.state, ROLLOUT_ROLLING_BACK);
    bench_down(&bench);
    replay_same(&bench, 2);
    bench_forget(&bench);
}
