// SPDX-License-Identifier: Apache-2.0
// targets: what the file calls an error reaches the routing table whole, and a change of it under a run
// begins the run's evidence afresh.
#include "targets_bench.h"

#include "net/proxy/outcome.h"
#include "net/proxy/proxy_private.h"
#include "ship/engine/engine_private.h"

#define SHIP(to, more)                                                                                                                \
    "listen: [127.0.0.1:1]\nservices:\n  shop: {versions: {v1: [10.0.0.1:80], v2: [10.0.0.2:80], v3: [10.0.0.3:80]}, stable: v1" more \
    "}\nrollouts:\n  ship: {service: shop, to: " to ", stages: [{weight: 10%}, {weight: 100%}], "                                     \
    "checks: {latency: off}}\n"
#define SHOP(more) SHIP("v2", more)
#define LOST ", errors: {statuses: [404]}"

static struct bench bench;

static int up(void **state)
{
    (void)state;
    bench = (struct bench){.path = ""};
    return bench_up(&bench, SHOP("")) == STATUS_OK ? 0 : -1;
}

static int down(void **state)
{
    (void)state;
    bench_down(&bench);
    bench_forget(&bench);
    return 0;
}

EACH_TEST(up, down);

static const struct proxy_errors *errors_after(const char *yaml)
{
    if (bench_reload(&bench, yaml) != STATUS_OK)
        fail_msg("%s", bench.fault.text);
    return bench.proxy->newest->services[0].errors;
}

static bool is_listed(const struct proxy_errors *errors, unsigned status)
{
    unsigned bit = status - PROXY_STATUS_FIRST;
    return (errors->statuses[bit / 64] >> bit % 64 & 1) != 0;
}

TEST(the_table_has_what_the_file_says)
{
    assert_null(bench.proxy->newest->services[0].errors);
    const struct proxy_errors *errors =
        errors_after(SHOP(", errors: {statuses: [404-405, 5xx], headers: {X-A: b, c: present},"
                          " body: {contains: 'no', within: 1KiB}, grpc: [aborted, internal]}"));
    assert_true(is_listed(errors, 404) && is_listed(errors, 405) && is_listed(errors, 599));
    assert_false(is_listed(errors, 403) || is_listed(errors, 406) || is_listed(errors, 499));
    assert_int_equal(errors->header_count, 2);
    assert_true(slice_equal(errors->headers[0].name, SLICE("x-a")) && !errors->headers[0].any);
    assert_true(slice_equal(errors->headers[0].value, SLICE("b")) && errors->headers[1].any);
    assert_true(slice_equal(errors->text, SLICE("no")));
    assert_int_equal(errors->within, 1024);
    assert_int_equal(errors->grpc, 1u << 10 | 1u << 13);
    // What is not said is as everywhere.
    errors = errors_after(SHOP(", errors: {body: x}"));
    assert_memory_equal(errors->statuses, outcome_default.statuses, sizeof errors->statuses);
    assert_int_equal(errors->grpc, outcome_default.grpc);
    assert_int_equal(errors->within, 64 * 1024);
    assert_null(errors_after(SHOP("")));
}

static bool changed(void)
{
    struct engine_view view;
    engine_tick(bench.engine);
    engine_view_get(bench.engine, (uint32_t)engine_view_find(bench.engine, "ship"), &view);
    return view.view.redefined_ms > 0;
}

static void command(enum rollout_command word)
{
    if (engine_command(bench.engine, "ship", word, "ann", "here", &bench.fault) != STATUS_OK)
        fail_msg("%s", bench.fault.text);
}

// Only under a run, only by another meaning, and only until the next run.
TEST(a_change_under_a_run_begins_evidence_afresh)
{
    (void)errors_after(SHOP(LOST));
    assert_false(changed());
    command(ROLLOUT_COMMAND_START);
    (void)errors_after(SHOP(", errors: {statuses: [404-404]}"));
    assert_false(changed());
    (void)errors_after(SHOP(LOST));
    assert_false(changed());
    (void)errors_after(SHOP(""));
    assert_true(changed());
    for (int stage = 0; stage < 2; stage++)
        command(ROLLOUT_COMMAND_PROMOTE);
    assert_true(changed());
    (void)errors_after(SHIP("v3", ""));
    command(ROLLOUT_COMMAND_START);
    assert_false(changed());
}

static void restart(const char *yaml)
{
    bench_down(&bench);
    if (bench_up(&bench, yaml) != STATUS_OK)
        fail_msg("%s", bench.fault.text);
}

// What was journalled stays so, and a file that was edited while no process ran is seen.
TEST(a_change_is_kept_and_found_by_the_next_process)
{
    command(ROLLOUT_COMMAND_START);
    (void)errors_after(SHOP(LOST));
    assert_true(changed());
    restart(SHOP(LOST));
    assert_true(changed());
    command(ROLLOUT_COMMAND_ABORT);
    (void)errors_after(SHOP(""));
    while (bench_rollout(&bench).view.state != ROLLOUT_ROLLED_BACK)
        engine_tick(bench.engine);
    command(ROLLOUT_COMMAND_START);
    restart(SHOP(""));
    assert_false(changed());
    restart(SHOP(LOST));
    assert_true(changed());
}
