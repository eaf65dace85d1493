// SPDX-License-Identifier: Apache-2.0
// The latency edges that a run is judged by: of what was served before and in it, but not of a bad minute at
// its beginning.
#include "targets_bench.h"
#include "test.h"

#include "net/proxy/proxy_private.h"
#include "net/proxy/sheet.h"

#define YAML(requests)                                                                                       \
    "listen: [127.0.0.1:1]\n"                                                                                \
    "services:\n"                                                                                            \
    "  shop: {versions: {v1: [10.0.0.1:80], v2: [10.0.0.2:80]}, stable: v1}\n"                               \
    "rollouts:\n"                                                                                            \
    "  ship:\n"                                                                                              \
    "    service: shop\n"                                                                                    \
    "    to: v2\n"                                                                                           \
    "    stages: [{weight: 10%}, {weight: 100%}]\n"                                                          \
    "    checks: {latency: {baseline: " requests "}}\n"

// One in ten takes ten times as long; then time for a few ticks.
static struct rollout_view serve(struct bench *bench, int requests, uint64_t usual_us)
{
    struct version_sheet *sheet = bench->proxy->workers[0]->versions[0];
    for (int i = 0; i < requests; i++)
        version_latency_record(sheet, i % 10 == 0 ? 10 * usual_us : usual_us);
    uint64_t until_us = io_loop_clock_us(bench->loop) + 4 * ROLLOUT_TICK_MS * 1000;
    while (io_loop_clock_us(bench->loop) < until_us)
        assert_int_equal(io_loop_turn(bench->loop, 10000), STATUS_OK);
    return bench_rollout(bench).view;
}

TEST(edges_are_of_an_even_sample)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, YAML("400")), STATUS_OK);
    engine_start(bench.engine);
    struct rollout_view view = serve(&bench, 10000, 2000);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    (void)serve(&bench, 0, 2000);
    view = serve(&bench, 60, 2000);
    assert_int_equal(view.state, ROLLOUT_BASELINE); // its last quarter is to be of this run
    view = serve(&bench, 40, 2000);
    assert_int_equal(view.state, ROLLOUT_SHIFTING);
    assert_int_equal(view.edges.requests, 10100);
    assert_in_range(view.edges.edge_us[0], 2000, 2020);
    bench_down(&bench);
    bench_forget(&bench);
}

TEST(a_slow_beginning_does_not_count)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, YAML("400")), STATUS_OK);
    engine_start(bench.engine);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    struct rollout_view view = serve(&bench, 300, 20000); // it has just begun
    assert_int_equal(view.state, ROLLOUT_BASELINE);
    view = serve(&bench, 100, 2000);
    assert_int_equal(view.state,
                     ROLLOUT_BASELINE); // plainly faster: measured anew, with these as the beginning
    view = serve(&bench, 200, 2000);
    assert_int_equal(view.state, ROLLOUT_BASELINE);
    view = serve(&bench, 100, 2000);
    assert_int_equal(view.state, ROLLOUT_SHIFTING);
    assert_int_equal(view.edges.requests, 400);
    assert_in_range(view.edges.edge_us[0], 2000, 2020);
    assert_in_range(view.edges.edge_us[3], 20000, 20200);
    bench_down(&bench);
    bench_forget(&bench);
}

// A service that becomes faster for ever still starts.
TEST(rounds_end)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, YAML("100")), STATUS_OK);
    engine_start(bench.engine);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    struct rollout_view view = {.state = ROLLOUT_BASELINE};
    uint64_t usual_us = 1000000;
    int rounds = 0;
    for (; rounds < 8 && view.state == ROLLOUT_BASELINE; rounds++) {
        (void)serve(&bench, rounds == 0 ? 75 : 50, usual_us);
        view = serve(&bench, 25, usual_us /= 4);
    }
    assert_int_equal(view.state, ROLLOUT_SHIFTING);
    assert_int_equal(rounds, 4);
    bench_down(&bench);
    bench_forget(&bench);
}
