// SPDX-License-Identifier: Apache-2.0
// targets: the version that a completed rollout promoted stays the stable one, whatever the file's `stable`
// said before, until the word is edited, another rollout completes, or it is undone; over restarts too.
#include "targets_bench.h"

#include <stdio.h>

#include "net/proxy/proxy_private.h"

#define VERSIONS "{v1: [10.0.0.1:80], v2: [10.0.0.2:80], v3: [10.0.0.3:80]}"
#define FILE_WITH(versions, stable, more)                                                                    \
    "listen: [127.0.0.1:1]\nservices:\n  shop: {versions: " versions ", stable: " stable more "}\n"
#define FILE_(versions, stable) FILE_WITH(versions, stable, "")
#define SHOP(stable) FILE_(VERSIONS, stable)
#define ENTRY(name, to, full)                                                                                \
    "rollouts:\n  " name ": {service: shop, to: " to ", stages: [{weight: 10%}, {weight: " full "}],"        \
    " checks: {latency: off}}\n"
#define SHIP(to) ENTRY("ship", to, "100%")
#define NEXT ENTRY("next", "v3", "100%")

static void command(struct bench *bench, const char *name, enum rollout_command word, enum status expected)
{
    enum status status = engine_command(bench->engine, name, word, "ann", "here", &bench->fault);
    if (status != expected)
        fail_msg("%s %s: %s", rollout_command_name(word), name, bench->fault.text);
}

static struct engine_view view_of(struct bench *bench, const char *name)
{
    struct engine_view view;
    engine_view_get(bench->engine, (uint32_t)engine_view_find(bench->engine, name), &view);
    return view;
}

static void complete(struct bench *bench, const char *name)
{
    command(bench, name, ROLLOUT_COMMAND_START, STATUS_OK);
    while (view_of(bench, name).view.state != ROLLOUT_COMPLETED)
        command(bench, name, ROLLOUT_COMMAND_PROMOTE, STATUS_OK);
}

// All traffic, by the table in force.
static void expect_all_on(const struct bench *bench, const char *version)
{
    const struct proxy_service *shop = &bench->proxy->newest->services[0];
    assert_int_equal(shop->weight, 0);
    assert_string_equal(shop->arms[ROLLOUT_ARM_STABLE]->name, version);
}

static void again(struct bench *bench, const char *yaml, const char *version)
{
    bench_down(bench);
    assert_int_equal(bench_up(bench, yaml), STATUS_OK);
    expect_all_on(bench, version);
}

static void put(struct bench *bench, const char *yaml, const char *version)
{
    if (bench_reload(bench, yaml) != STATUS_OK)
        fail_msg("%s", bench->fault.text);
    expect_all_on(bench, version);
}

static struct bench bench;

static int promoted(void **state)
{
    (void)state;
    bench = (struct bench){.path = ""};
    assert_int_equal(bench_up(&bench, SHOP("v1") SHIP("v2")), STATUS_OK);
    complete(&bench, "ship");
    expect_all_on(&bench, "v2");
    return 0;
}

static int forget(void **state)
{
    (void)state;
    bench_down(&bench);
    bench_forget(&bench);
    return 0;
}

EACH_TEST(promoted, forget);

TEST(an_old_word_moves_nothing)
{
    put(&bench, SHOP("v1") SHIP("v3"), "v2");
    put(&bench, SHOP("v1"), "v2");
    again(&bench, SHOP("v1"), "v2");
    again(&bench, SHOP("v1") SHIP("v2"), "v2");
    command(&bench, "ship", ROLLOUT_COMMAND_START, STATUS_CONFLICT);
    assert_string_equal(bench.fault.text,
                        "cannot start: version v2 is the stable one of service shop already");
}

TEST(the_next_release_needs_no_edit)
{
    put(&bench, SHOP("v1") SHIP("v3"), "v2");
    command(&bench, "ship", ROLLOUT_COMMAND_START, STATUS_OK);
    assert_string_equal(view_of(&bench, "ship").spec->from, "v2");
    assert_false(view_of(&bench, "ship").file_differs);
    const struct proxy_service *shop = &bench.proxy->newest->services[0];
    assert_int_equal(shop->weight, 10000);
    assert_string_equal(shop->arms[ROLLOUT_ARM_STABLE]->name, "v2");
    assert_string_equal(shop->arms[ROLLOUT_ARM_CANARY]->name, "v3");
    command(&bench, "ship", ROLLOUT_COMMAND_ABORT, STATUS_OK);
    expect_all_on(&bench, "v2");
    again(&bench, SHOP("v1") NEXT, "v2");
    complete(&bench, "next");
    expect_all_on(&bench, "v3");
    again(&bench, SHOP("v1"), "v3");
    // A version that is gone cannot be served; its word comes back with it.
    put(&bench, FILE_("{v1: [10.0.0.1:80], v2: [10.0.0.2:80]}", "v1"), "v1");
    put(&bench, SHOP("v1"), "v3");
}

// Each of the words that a file can have after it: the one of before, the promoted one, another; and that an
// edit stays one, when the old word comes back.
TEST(an_edited_word_counts)
{
    put(&bench, SHOP("v2"), "v2");
    again(&bench, SHOP("v2"), "v2");
    put(&bench, SHOP("v1"), "v1");
    again(&bench, SHOP("v1"), "v1");
    put(&bench, SHOP("v1") NEXT, "v1");
    complete(&bench, "next");
    expect_all_on(&bench, "v3");
    again(&bench, SHOP("v2"), "v2");
    again(&bench, SHOP("v1"), "v1");
}

TEST(an_edit_that_moves_traffic_is_told)
{
    char *told = NULL;
    size_t len = 0;
    FILE *stream = open_memstream(&told, &len);
    log_init(&bench.log, stream, false, LOG_INFO);
    put(&bench, SHOP("v1") NEXT, "v2");
    fflush(stream);
    assert_non_null(strstr(told, "that version stays"));
    assert_non_null(strstr(told, "service=shop stable=v2 file=v1 rollout=ship"));
    assert_null(strstr(told, "another stable version"));
    put(&bench, SHOP("v3"), "v3");
    fflush(stream);
    assert_non_null(strstr(told, "moves the traffic of a service to another stable version"));
    assert_non_null(strstr(told, "service=shop from=v2 to=v3"));
    log_init(&bench.log, NULL, false, LOG_INFO);
    fclose(stream);
    free(told);
}

static void turn_until_back(void)
{
    engine_start(bench.engine);
    for (int i = 0; i < 500 && view_of(&bench, "ship").view.state != ROLLOUT_ROLLED_BACK; i++)
        assert_int_equal(io_loop_turn(bench.loop, 20000), STATUS_OK);
    assert_int_equal(view_of(&bench, "ship").view.state, ROLLOUT_ROLLED_BACK);
}

// The file agrees with the promotion, and the entry has gone for the next one's.
TEST(undo_moves_back_and_ends)
{
    put(&bench, SHOP("v2") NEXT, "v2");
    command(&bench, "ship", ROLLOUT_COMMAND_UNDO, STATUS_OK);
    expect_all_on(&bench, "v1");
    // While it goes back, no file is refused, and every start succeeds.
    put(&bench, SHOP("v2"), "v1");
    again(&bench, FILE_("{v3: [10.0.0.3:80]}", "v3"), "v3");
    turn_until_back();
    again(&bench, FILE_("{v3: [10.0.0.3:80]}", "v3"), "v3");
}

TEST(undo_is_over_for_the_next_run)
{
    command(&bench, "ship", ROLLOUT_COMMAND_UNDO, STATUS_OK);
    expect_all_on(&bench, "v1");
    again(&bench, SHOP("v1") SHIP("v2"), "v1");
    turn_until_back();
    complete(&bench, "ship");
    again(&bench, SHOP("v1"), "v2");
}

static void expect_no_undo(const char *why)
{
    command(&bench, "ship", ROLLOUT_COMMAND_UNDO, STATUS_CONFLICT);
    assert_string_equal(bench.fault.text, why);
    assert_int_equal(view_of(&bench, "ship").view.state, ROLLOUT_COMPLETED);
}

TEST(undo_that_would_move_nothing_is_refused)
{
    put(&bench, FILE_("{v2: [10.0.0.2:80]}", "v2"), "v2");
    expect_no_undo("cannot undo: the file no longer has version v1 of service shop");
    put(&bench, SHOP("v1"), "v1");
    expect_no_undo("cannot undo: service shop has gone on since; its stable version is v1, by the file");
    put(&bench, SHOP("v2") NEXT, "v2");
    command(&bench, "next", ROLLOUT_COMMAND_START, STATUS_OK);
    expect_no_undo("cannot undo: rollout next is moving service shop on from v2; abort it first");
    command(&bench, "next", ROLLOUT_COMMAND_PROMOTE, STATUS_OK);
    command(&bench, "next", ROLLOUT_COMMAND_PROMOTE, STATUS_OK);
    expect_all_on(&bench, "v3");
    expect_no_undo("cannot undo: service shop has gone on since; its stable version is v3, by rollout next");
}

TEST(every_file_starts_in_mid_rollout)
{
    static const struct {
        const char *yaml, *version;
    } files[] = {
        {SHOP("v1"), "v2"},                                            // no entry
        {SHOP("v3"), "v3"},                                            // another word
        {FILE_("{v1: [10.0.0.1:80], v2: [10.0.0.2:80]}", "v1"), "v2"}, // no v3
        {FILE_("{v1: [10.0.0.1:80]}", "v1"), "v1"},
        {"listen: [127.0.0.1:1]\nservices: {cart: {versions: {v9: [10.0.0.9:80]}}}\n", "v9"},
    };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        if (i > 0) {
            forget(NULL);
            promoted(NULL);
        }
        put(&bench, SHOP("v1") NEXT, "v2");
        command(&bench, "next", ROLLOUT_COMMAND_START, STATUS_OK);
        assert_int_equal(bench_reload(&bench, files[i].yaml), STATUS_CONFLICT);
        again(&bench, files[i].yaml, files[i].version);
        assert_int_equal(view_of(&bench, "next").view.state, ROLLOUT_ROLLING_BACK);
        again(&bench, files[i].yaml, files[i].version);
    }
}

// The control endpoints would run another version than the one that the new one is to be compared with.
TEST(control_endpoints_follow_the_file)
{
#define CONTROLLED(stable) FILE_WITH(VERSIONS, stable, ", control: {endpoints: [10.0.0.8:80]}") NEXT
    put(&bench, CONTROLLED("v1"), "v2");
    command(&bench, "next", ROLLOUT_COMMAND_START, STATUS_CONFLICT);
    assert_non_null(strstr(bench.fault.text, "belong to `stable: v1`, and its stable version is v2"));
    put(&bench, CONTROLLED("v2"), "v2");
    command(&bench, "next", ROLLOUT_COMMAND_START, STATUS_OK);
}

// A share that stands below 100 % is no promotion: it lives with its entry.
TEST(a_part_is_no_promotion)
{
    forget(NULL);
    bench = (struct bench){.path = ""};
    assert_int_equal(bench_up(&bench, SHOP("v1") ENTRY("ship", "v2", "50%")), STATUS_OK);
    complete(&bench, "ship");
    const struct proxy_service *shop = &bench.proxy->newest->services[0];
    assert_int_equal(shop->weight, 50000);
    assert_string_equal(shop->arms[ROLLOUT_ARM_STABLE]->name, "v1");
    put(&bench, SHOP("v1"), "v1");
}
