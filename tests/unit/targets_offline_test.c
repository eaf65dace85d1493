// SPDX-License-Identifier: Apache-2.0
// engine: a word given to the journal while no daemon runs counts at the next start, as if the daemon had
// taken it; what does not fit writes nothing.
#include "net/proxy/proxy_private.h"
#include "ship/engine/offline.h"
#include "ship/engine/replay.h"
#include "targets_bench.h"
#include "test.h"

static struct rollout_verdict verdict;

static uint32_t weight_in_force(const struct bench *bench)
{
    return bench->proxy->newest->services[0].weight;
}

static struct engine_offline reopen(const struct bench *bench)
{
    struct fault fault;
    struct engine_offline offline = {.now_ms = 1};
    assert_int_equal(journal_open(bench->path, JOURNAL_WRITE, &offline.journal, &fault), STATUS_OK);
    return offline;
}

static enum status say(struct bench *bench, const char *name, enum rollout_command command)
{
    struct engine_offline offline = reopen(bench);
    uint64_t before = journal_count(offline.journal);
    enum status status = engine_offline_command(&offline, name, command, "ann", &verdict, &bench->fault);
    if (status != STATUS_OK)
        assert_int_equal(journal_count(offline.journal), before);
    journal_close(offline.journal);
    return status;
}

// A daemon that went the way of these commands and is down.
static void went(struct bench *bench, const enum rollout_command *commands, size_t count)
{
    assert_int_equal(bench_up(bench, BENCH_YAML), STATUS_OK);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(bench_command(bench, commands[i]), STATUS_OK);
    bench_down(bench);
}

static const enum rollout_command HALF[] = {ROLLOUT_COMMAND_START, ROLLOUT_COMMAND_PROMOTE};

TEST(abort_counts_at_the_next_start)
{
    struct bench bench = {.path = ""};
    went(&bench, HALF, 2);
    assert_int_equal(say(&bench, "ship", ROLLOUT_COMMAND_ABORT), STATUS_OK);
    assert_non_null(strstr(verdict.text, "ABORTED"));
    assert_int_equal(say(&bench, "ship", ROLLOUT_COMMAND_ABORT), STATUS_EXISTS);
    assert_non_null(strstr(bench.fault.text, "going back already"));
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK); // replays, and finds every decision equal
    assert_int_equal(weight_in_force(&bench), 0);
    struct engine_view rollout = bench_rollout(&bench);
    assert_int_equal(rollout.view.state, ROLLOUT_ROLLING_BACK);
    assert_non_null(strstr(rollout.view.last.text, "by ann from the journal, while no daemon ran"));
    bench_down(&bench);
    bench_forget(&bench);
}

TEST(pause_holds_the_weight)
{
    struct bench bench = {.path = ""};
    went(&bench, HALF, 2);
    assert_int_equal(say(&bench, "ship", ROLLOUT_COMMAND_PAUSE), STATUS_OK);
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    assert_int_equal(bench_rollout(&bench).view.state, ROLLOUT_PAUSED);
    assert_int_equal(weight_in_force(&bench), 50000);
    bench_down(&bench);
    bench_forget(&bench);
}

#define TWO_YAML                                                                                             \
    "listen: [127.0.0.1:1]\n"                                                                                \
    "services:\n"                                                                                            \
    "  shop: {versions: {v1: [10.0.0.1:80], v2: [10.0.0.2:80], v3: [10.0.0.3:80]}, stable: v1}\n"            \
    "rollouts:\n"                                                                                            \
    "  ship: {service: shop, to: v2, stages: [{weight: 100%, soak: 1h}], checks: {latency: off}}\n"

TEST(undo_of_what_was_promoted)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, TWO_YAML), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_PROMOTE), STATUS_OK);
    assert_int_equal(bench_rollout(&bench).view.state, ROLLOUT_COMPLETED);
    int64_t now_ms = engine_wall_ms(bench.engine);
    bench_down(&bench);
    struct engine_offline offline = reopen(&bench);
    offline.now_ms = now_ms;
    assert_int_equal(
        engine_offline_command(&offline, "ship", ROLLOUT_COMMAND_UNDO, "ann", &verdict, &bench.fault),
        STATUS_OK);
    journal_close(offline.journal);
    assert_int_equal(bench_up(&bench, TWO_YAML), STATUS_OK);
    assert_string_equal(engine_stable_find(engine_stables_of(bench.engine), "shop")->version, "v1");
    assert_int_equal(bench_rollout(&bench).view.state, ROLLOUT_ROLLING_BACK);
    bench_down(&bench);
    bench_forget(&bench);
}

// Somebody wrote another version into the file meanwhile: the old run must not move the service.
TEST(undo_after_the_service_went_on)
{
    static const char edited[] =
        "listen: [127.0.0.1:1]\n"
        "services:\n"
        "  shop: {versions: {v1: [10.0.0.1:80], v2: [10.0.0.2:80], v3: [10.0.0.3:80]}, "
        "stable: v3}\n";
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, TWO_YAML), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_PROMOTE), STATUS_OK);
    assert_int_equal(bench_reload(&bench, edited), STATUS_OK);
    bench_down(&bench);
    assert_int_equal(say(&bench, "ship", ROLLOUT_COMMAND_UNDO), STATUS_CONFLICT);
    assert_non_null(strstr(bench.fault.text, "gone on since"));
    bench_forget(&bench);
}

TEST(nothing_to_abort)
{
    struct bench bench = {.path = ""};
    went(&bench, HALF, 0);
    assert_int_equal(say(&bench, "ship", ROLLOUT_COMMAND_ABORT), STATUS_NOT_FOUND);
    assert_int_equal(say(&bench, "other", ROLLOUT_COMMAND_ABORT), STATUS_NOT_FOUND);
    bench_forget(&bench);
}

static void append_input(struct bench *bench, const struct rollout_input *input)
{
    static uint8_t bytes[ROLLOUT_INPUT_WIRE_BYTES_MAX];
    struct engine_offline offline = reopen(bench);
    struct wire_writer writer = {.data = bytes, .cap = sizeof bytes};
    rollout_input_encode(input, &writer);
    struct journal_entry entry = {.time_ms = 2, .kind = JOURNAL_INPUT, .run = 1, .subject = "ship"};
    entry.payload = (struct slice){(const char *)bytes, writer.len};
    assert_int_equal(journal_begin(offline.journal, JOURNAL_SYNC_FULL, &bench->fault), STATUS_OK);
    assert_int_equal(journal_append(offline.journal, &entry, NULL, &bench->fault), STATUS_OK);
    assert_int_equal(journal_commit(offline.journal, &bench->fault), STATUS_OK);
    journal_close(offline.journal);
}

// The daemon died between an input and its decision: that decision is written first.
TEST(decision_that_was_owed)
{
    struct bench bench = {.path = ""};
    went(&bench, HALF, 1);
    append_input(&bench, &(struct rollout_input){.kind = ROLLOUT_INPUT_COMMAND,
                                                 .time_ms = 2,
                                                 .command = {.command = ROLLOUT_COMMAND_PROMOTE}});
    assert_int_equal(say(&bench, "ship", ROLLOUT_COMMAND_ABORT), STATUS_OK);
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    assert_int_equal(bench_rollout(&bench).record->history_count, 3);
    assert_int_equal(weight_in_force(&bench), 0);
    bench_down(&bench);
    bench_forget(&bench);
}
