// SPDX-License-Identifier: Apache-2.0
// control: nothing shows before it is in the journal. The disk fails at every write in turn; whatever is in
// force then must be what a replay of the journal gives.
#include "failing_disk.h"
#include "targets_bench.h"
#include "test.h"

#include "net/proxy/proxy_private.h"
#include "ship/engine/engine_private.h"
#include "ship/routing/routing_private.h"

static uint32_t weight_in_force(const struct bench *bench)
{
    return bench->proxy->newest->services[0].weight;
}

static uint32_t told;

static void on_decided(struct engine_watcher *watcher, const char *name,
                       const struct engine_decision *decision)
{
    (void)watcher;
    assert_string_equal(name, "ship");
    assert_true(decision->seq > 0);
    told++;
}

EACH_TEST(NULL, disk_heals);

TEST(disk_fails_at_every_write)
{
    assert_int_equal(fault_vfs_install(), STATUS_OK);
    bool through = false;
    int failed = 0;
    for (uint64_t n = 1; n < 200 && !through; n++) {
        struct bench bench = {.path = ""};
        struct engine_watcher watcher = {.decided = on_decided};
        assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
        engine_watch(bench.engine, &watcher);
        told = 0;
        fault_vfs_set(&(struct fault_vfs_plan){.write_fails_from = n, .write_fails_count = UINT64_MAX / 2});
        through = bench_command(&bench, ROLLOUT_COMMAND_START) == STATUS_OK;
        failed += !through;
        struct engine_health health;
        engine_health_get(bench.engine, &health);
        assert_int_equal(health.journal_failing, !through);
        assert_int_equal(weight_in_force(&bench), through ? 10000 : 0);
        assert_int_equal(told, through ? 1 : 0);
        if (!through)
            assert_true(health.journal_problem[0] != '\0');
        fault_vfs_set(&(struct fault_vfs_plan){0});
        engine_unwatch(&watcher);
        bench_down(&bench);
        // A restart takes what was owed: input in the journal, decision not.
        assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
        bool started = bench_rollout(&bench).view.state == ROLLOUT_SHIFTING;
        assert_int_equal(weight_in_force(&bench), started ? 10000 : 0);
        if (through)
            assert_true(started);
        bench_down(&bench);
        bench_forget(&bench);
    }
    assert_true(through);
    assert_true(failed > 0);
    fault_vfs_remove();
}

// While the journal fails, ticks decide nothing; when it works again, it goes on by itself.
TEST(goes_on_by_itself)
{
    assert_int_equal(fault_vfs_install(), STATUS_OK);
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    engine_start(bench.engine);
    fault_vfs_set(&(struct fault_vfs_plan){.write_fails_from = 1, .write_fails_count = UINT64_MAX / 2});
    assert_int_not_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    struct engine_health health;
    engine_health_get(bench.engine, &health);
    assert_true(health.journal_failing);
    fault_vfs_set(&(struct fault_vfs_plan){0});
    uint64_t until_us = io_loop_clock_us(bench.loop) + 8000000;
    while (health.journal_failing && io_loop_clock_us(bench.loop) < until_us) {
        assert_int_equal(io_loop_turn(bench.loop, 50000), STATUS_OK);
        engine_health_get(bench.engine, &health);
    }
    assert_false(health.journal_failing);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    bench_down(&bench);
    bench_forget(&bench);
    fault_vfs_remove();
}

static void disk_full(void)
{
    fault_vfs_set(&(struct fault_vfs_plan){.write_fails_from = 1, .write_fails_count = UINT64_MAX / 2});
}

static void until_journal_works(struct bench *bench)
{
    struct engine_health health;
    engine_health_get(bench->engine, &health);
    uint64_t until_us = io_loop_clock_us(bench->loop) + 8000000;
    while (health.journal_failing && io_loop_clock_us(bench->loop) < until_us) {
        assert_int_equal(io_loop_turn(bench->loop, 50000), STATUS_OK);
        engine_health_get(bench->engine, &health);
    }
    assert_false(health.journal_failing);
    assert_int_equal(health.journal_waiting, 0);
}

// With a full disk a person's words in the safe direction act at once; others do not. Once there is room all
// of it is in the journal, in its order, and a restart derives the same.
TEST(the_way_back_does_not_wait_for_the_journal)
{
    assert_int_equal(fault_vfs_install(), STATUS_OK);
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    engine_start(bench.engine);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    assert_int_equal(weight_in_force(&bench), 10000);
    disk_full();
    assert_int_not_equal(bench_command(&bench, ROLLOUT_COMMAND_PROMOTE), STATUS_OK);
    assert_int_equal(bench_rollout(&bench).view.state, ROLLOUT_SHIFTING);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_PAUSE), STATUS_OK);
    assert_int_equal(bench_rollout(&bench).view.state, ROLLOUT_PAUSED);
    assert_int_equal(weight_in_force(&bench), 10000);
    assert_int_not_equal(bench_command(&bench, ROLLOUT_COMMAND_RESUME), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_ABORT), STATUS_OK);
    assert_int_equal(weight_in_force(&bench), 0);
    struct engine_health health;
    engine_health_get(bench.engine, &health);
    assert_true(health.journal_failing);
    assert_true(health.journal_waiting >= 4); // two words, two decisions
    fault_vfs_set(&(struct fault_vfs_plan){0});
    until_journal_works(&bench);
    bench_down(&bench);
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    enum rollout_state stands = bench_rollout(&bench).view.state;
    assert_true(stands == ROLLOUT_ROLLING_BACK || stands == ROLLOUT_ROLLED_BACK);
    assert_int_equal(weight_in_force(&bench), 0);
    bench_down(&bench);
    bench_forget(&bench);
    fault_vfs_remove();
}

// A step forward that was decided and not written has no effect, and a word back overtakes it.
TEST(a_word_back_overtakes_what_is_owed)
{
    assert_int_equal(fault_vfs_install(), STATUS_OK);
    bool overtaken = false;
    for (uint64_t n = 1; n < 60 && !overtaken; n++) {
        struct bench bench = {.path = ""};
        assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
        assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
        // The input is written, the decision is not.
        fault_vfs_set(&(struct fault_vfs_plan){.write_fails_from = n, .write_fails_count = UINT64_MAX / 2});
        (void)!bench_command(&bench, ROLLOUT_COMMAND_PROMOTE);
        overtaken = bench_rollout(&bench).view.weight > weight_in_force(&bench);
        assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_ABORT), STATUS_OK);
        assert_int_equal(weight_in_force(&bench), 0);
        fault_vfs_set(&(struct fault_vfs_plan){0});
        engine_start(bench.engine);
        until_journal_works(&bench);
        bench_down(&bench);
        assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
        assert_int_equal(weight_in_force(&bench), 0);
        bench_down(&bench);
        bench_forget(&bench);
    }
    assert_true(overtaken);
    fault_vfs_remove();
}

// A tick that the loop comes to late is told by how late what it decides comes.
TEST(late_decisions_are_counted)
{
    struct bench bench = {.path = ""};
    struct engine_health health = {.ticks = 0};
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    engine_start(bench.engine);
    usleep(160000); // the first tick is due after 100 ms
    while (health.ticks == 0) {
        assert_int_equal(io_loop_turn(bench.loop, 10000), STATUS_OK);
        engine_health_get(bench.engine, &health);
    }
    assert_true(health.decisions_us >= 60000);
    for (uint32_t i = 0; i < ENGINE_DECISION_BUCKETS; i++)
        if (engine_decision_ms[i] <= 50)
            assert_int_equal(health.decisions[i], 0);
    bench_down(&bench);
    bench_forget(&bench);
}

static uint64_t table_in_force;

static uint64_t table_of_test(const void *world)
{
    (void)world;
    return table_in_force;
}

static void publish_in_tick(void *world)
{
    (void)world;
    table_in_force++;
}

static void publish_nothing(void *world)
{
    (void)world;
}

static void until_ticked(struct bench *bench, uint64_t ticks, struct engine_health *health)
{
    do {
        assert_int_equal(io_loop_turn(bench->loop, 10000), STATUS_OK);
        engine_health_get(bench->engine, health);
    } while (health->ticks < ticks);
}

// A decision counts when every worker has taken it up, however many ticks later.
TEST(decisions_last_until_they_are_taken_up)
{
    struct bench bench = {.path = ""};
    struct engine_health health;
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    while (bench.targets->routing->ack_awaited) // of the start
        assert_int_equal(io_loop_turn(bench.loop, 10000), STATUS_OK);
    struct engine_host host = *bench.engine->host;
    table_in_force = 1;
    host.table_version = table_of_test;
    host.tick_began = publish_in_tick;
    bench.engine->host = &host;
    engine_start(bench.engine);
    until_ticked(&bench, 2, &health);
    assert_int_equal(health.decisions_count, 0);
    engine_taken_up(bench.engine);
    engine_health_get(bench.engine, &health);
    assert_int_equal(health.decisions_count, health.ticks);
    assert_true(health.decisions_us >= ROLLOUT_TICK_MS * 1000); // the first waited for the second
    // A tick that put nothing in force is over when it is over.
    host.tick_began = publish_nothing;
    until_ticked(&bench, health.ticks + 1, &health);
    assert_int_equal(health.decisions_count, health.ticks);
    bench_down(&bench);
    bench_forget(&bench);
}
