// SPDX-License-Identifier: Apache-2.0
// A daemon without traffic for tests of engine and API: a loop, a proxy without requests, and a journal in a
// temporary file that outlives restarts.
#pragma once

#include <unistd.h>

#include "folder.h"
#include "ship/targets/targets.h"
#include "test.h"

#define BENCH_YAML                                                                                           \
    "listen: [127.0.0.1:1]\n"                                                                                \
    "services:\n"                                                                                            \
    "  shop: {versions: {v1: [10.0.0.1:80], v2: [10.0.0.2:80]}, stable: v1}\n"                               \
    "rollouts:\n"                                                                                            \
    "  ship:\n"                                                                                              \
    "    service: shop\n"                                                                                    \
    "    to: v2\n"                                                                                           \
    "    stages: [{weight: 10%}, {weight: 50%}, {approve: {by: ann}}, {weight: 100%, soak: 1h}]\n"           \
    "    checks: {latency: off}\n"

struct bench {
    char path[FOLDER_PATH_BYTES];
    struct io_loop *loop;
    struct proxy *proxy;
    struct journal *journal;
    struct targets *targets;
    struct engine *engine; // of targets
    struct log log;
    struct fault fault;
};

static inline struct config *bench_config(const char *yaml)
{
    static struct config_errors errors;
    struct config *config = NULL;
    if (config_load_text("t.yaml", slice_of(yaml), &config, &errors) != STATUS_OK)
        fail_msg("%s", errors.items[0].message);
    return config;
}

// Shared by all suites of a program: how many benches a failed test left up, each with its journal locked.
__attribute__((weak)) int bench_left;
__attribute__((weak)) bool bench_is_up;

// The journal has one path, because the failing disk (fault_vfs) remembers the paths it saw; another one when
// a test that failed still holds it.
static inline void bench_place(struct bench *bench)
{
    snprintf(bench->path, sizeof bench->path, "%s/sluice-bench-%s-%d.db", folder_root(), folder_mark(),
             bench_left);
}

// Returns what targets_create returned; the fault is in bench->fault.
static inline enum status bench_up(struct bench *bench, const char *yaml)
{
    struct io_loop_config loop = {.kind = IO_KIND_EPOLL, .bufs_max = 256};
    struct proxy_config proxy = {.workers = 1};
    struct fault problem;
    bench_left += bench_is_up;
    bench_is_up = true;
    bench_place(bench);
    assert_int_equal(io_loop_create(&loop, &bench->loop), STATUS_OK);
    assert_int_equal(proxy_create(&proxy, &bench->proxy), STATUS_OK);
    assert_int_equal(journal_open(bench->path, JOURNAL_WRITE, &bench->journal, &problem), STATUS_OK);
    log_init(&bench->log, NULL, false, LOG_INFO);
    struct targets_parts parts = {.config = bench_config(yaml),
                                  .loop = bench->loop,
                                  .proxy = bench->proxy,
                                  .journal = bench->journal,
                                  .log = &bench->log,
                                  .workers = 1};
    bench->targets = NULL;
    bench->engine = NULL;
    enum status status = targets_create(&parts, &bench->targets, &bench->fault);
    if (status == STATUS_OK) {
        bench->engine = bench->targets->engine;
        assert_int_equal(proxy_start(bench->proxy), STATUS_OK); // time is counted in its ticks
    } else {
        config_destroy(parts.config);
    }
    return status;
}

static inline enum status bench_reload(struct bench *bench, const char *yaml)
{
    struct config *config = bench_config(yaml);
    enum status status = engine_reload(bench->engine, config, &bench->fault);
    if (status != STATUS_OK)
        config_destroy(config);
    return status;
}

static inline void bench_down(struct bench *bench)
{
    bench_is_up = false;
    targets_destroy(bench->targets);
    proxy_stop(bench->proxy);
    proxy_destroy(bench->proxy);
    journal_close(bench->journal);
    io_loop_destroy(bench->loop);
}

static inline void bench_forget(struct bench *bench)
{
    folder_remove_journal(bench->path);
    bench->path[0] = '\0';
}

static inline enum status bench_command(struct bench *bench, enum rollout_command command)
{
    return engine_command(bench->engine, "ship", command, "ann", "here", &bench->fault);
}

static inline struct engine_view bench_rollout(struct bench *bench)
{
    struct engine_view rollout;
    int index = engine_view_find(bench->engine, "ship");
    assert_true(index >= 0);
    engine_view_get(bench->engine, (uint32_t)index, &rollout);
    return rollout;
}
