// SPDX-License-Identifier: Apache-2.0
// A daemon that lives through thousands of releases: every reload is taken, what is told to Prometheus is
// what there is, and nothing that is shown is counted by a version of another time.
#include <time.h>

#include "exposition_check.h"
#include "net/proxy/proxy_private.h"
#include "operate/metrics/exposition.h"
#include "ship/routing/routing_private.h"
#include "ship/targets/targets_private.h"
#include "targets_bench.h"

enum { RELOADS = 40, FRESH_SERVICES = 15, FRESH_VERSIONS = 5, FILES = 20 };

static struct bench bench;

static int up(void **state)
{
    (void)state;
    bench = (struct bench){.path = ""};
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    return 0;
}

static int down(void **state)
{
    (void)state;
    bench_down(&bench);
    bench_forget(&bench);
    return 0;
}
EACH_TEST(up, down);

static void reload(const char *yaml)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    if (bench_reload(&bench, yaml) != STATUS_OK)
        fail_msg("%s", bench.fault.text);
    for (int i = 0; i < 10000 && proxy_acknowledged(bench.proxy) < bench.proxy->newest->version; i++)
        nanosleep(&pause, NULL);
    assert_true(proxy_acknowledged(bench.proxy) == bench.proxy->newest->version);
}

// shop with one version that is always there, and services and versions that nobody has seen before.
static const char *fresh_file(int generation)
{
    static char yaml[1 << 14];
    struct text text = text_over(yaml, sizeof yaml);
    text_addf(&text,
              "listen: [127.0.0.1:1]\nservices:\n  shop: {versions: {v1: [10.0.0.1:80]}, stable: v1}\n");
    for (int s = 0; s < FRESH_SERVICES; s++) {
        text_addf(&text, "  s%d-%d: {stable: v0, routes: [{path: /%d}], versions: {", generation, s, s);
        for (int v = 0; v < FRESH_VERSIONS; v++)
            text_addf(&text, "v%d: [10.0.0.1:80], ", v);
        text_addf(&text, "}}\n");
    }
    text_addf(
        &text,
        "rollouts:\n  ship-%d: {service: s%d-0, to: v1, stages: [{weight: 100%%}], checks: {latency: off}}\n",
        generation, generation);
    assert_false(text.cut);
    return yaml;
}

static const char *metrics(void)
{
    static char storage[ENGINE_METRICS_BYTES_MAX];
    struct slice text;
    assert_int_equal(engine_metrics_write(bench.engine, storage, sizeof storage - 1, &text), STATUS_OK);
    storage[text.len] = '\0';
    return storage;
}

// So long that what left is forgotten.
static void pass_the_time(void)
{
    bench.targets->routing->ticks += ROUTING_KEEP_TICKS;
    routing_tick_began(bench.targets->routing);
}

TEST(three_thousand_versions_of_six_hundred_services)
{
    uint16_t slot = routing_version_slot(bench.targets->routing, "shop", "v1");
    version_count(bench.proxy->workers[0]->versions[slot], PROXY_VERSION_COMPLETED, 7);
    for (int generation = 1; generation <= RELOADS; generation++)
        reload(fresh_file(generation));
    const char *told = metrics();
    assert_non_null(strstr(told, "sluice_completed_total{service=\"shop\",version=\"v1\"} 7\n"));
    assert_non_null(strstr(told, "sluice_completed_total{service=\"s40-14\",version=\"v4\"} 0\n"));
    assert_non_null(strstr(told, "sluice_completed_total{service=\"s39-0\",version=\"v0\"} 0\n"));
    assert_null(strstr(told, "service=\"s1-0\"")); // its slot was needed
    pass_the_time();
    told = metrics();
    static struct exposition checker;
    if (!exposition_check(&checker, told))
        fail_msg("%s", checker.error);
    assert_non_null(strstr(told, "sluice_completed_total{service=\"shop\",version=\"v1\"} 7\n"));
    assert_non_null(strstr(told, "service=\"s40-14\",version=\"v4\"")); // it is in the file
    assert_null(strstr(told, "service=\"s39-0\""));
    assert_int_equal(routing_version_slot(bench.targets->routing, "shop", "v1"), slot);
}

// A request of each version in the file begins, or ends.
static void each_version(bool begins)
{
    for (uint16_t slot = 0; slot < PROXY_VERSIONS_MAX; slot++) {
        struct version_sheet *sheet = bench.proxy->workers[0]->versions[slot];
        assert_non_null(sheet);
        if (begins)
            version_count(sheet, PROXY_VERSION_REQUESTS, 1);
        else
            version_leave(sheet);
    }
}

TEST(more_versions_than_there_is_room_for_at_once)
{
    // Names are as long as they may be: what is told of them all has room.
    static char yaml[1 << 18];
    struct text text = text_over(yaml, sizeof yaml);
    text_addf(&text, "listen: [127.0.0.1:1]\nservices:\n"
                     "  shop: {versions: {v1: [10.0.0.1:80], v2: [10.0.0.2:80]}, stable: v1}\n");
    for (uint32_t i = 2; i < PROXY_VERSIONS_MAX; i++) {
        if (i % 16 == 2)
            text_addf(&text, "  s%062u: {stable: v%062u, routes: [{path: /%u}], versions: {", i, i, i);
        text_addf(&text, "v%062u: [10.0.0.1:80], ", i);
        if (i % 16 == 1 || i + 1 == PROXY_VERSIONS_MAX)
            text_addf(&text, "}}\n");
    }
    assert_false(text.cut);
    reload(yaml);
    (void)metrics();
    each_version(true);
    assert_int_equal(bench_reload(&bench, fresh_file(1)), STATUS_FULL);
    assert_non_null(strstr(bench.fault.text, "more than 1024 versions at once"));
    assert_int_equal(engine_view_find(bench.engine, "ship-1"), -1);
    reload(BENCH_YAML); // what has its slot needs none
    each_version(false);
    reload(fresh_file(1));
}

// A rollout that nobody started goes with the file that named it, and one of a file that was refused never
// comes.
TEST(rollouts_that_no_file_has)
{
    assert_true(engine_view_find(bench.engine, "ship") >= 0);
    reload(fresh_file(1));
    assert_int_equal(engine_view_find(bench.engine, "ship"), -1);
    (void)metrics();
    for (int generation = 2; generation <= FILES; generation++)
        reload(fresh_file(generation));
    assert_int_equal(engine_rollout_count(bench.engine), 1);
    assert_int_equal(engine_view_find(bench.engine, "ship-20"), 0);
}

static void count_latency(const char *version, int times)
{
    uint16_t slot = routing_version_slot(bench.targets->routing, "shop", version);
    for (int i = 0; i < times; i++)
        version_latency_record(bench.proxy->workers[0]->versions[slot], 1000);
}

// What is shown of a run is what was seen since it began, or since its version came back.
TEST(a_version_that_comes_back_is_counted_anew)
{
    count_latency("v2", 5);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    count_latency("v2", 3);
    assert_int_equal(bench_rollout(&bench).arms[ROLLOUT_ARM_CANARY].latency_count, 3);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_ABORT), STATUS_OK);
    reload(fresh_file(1));
    reload(BENCH_YAML); // a short absence
    assert_int_equal(bench_rollout(&bench).arms[ROLLOUT_ARM_CANARY].latency_count, 3);
    reload(fresh_file(1));
    pass_the_time();
    reload(BENCH_YAML);
    count_latency("v2", 6);
    assert_int_equal(bench_rollout(&bench).arms[ROLLOUT_ARM_CANARY].latency_count, 6);
}
