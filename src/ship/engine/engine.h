// SPDX-License-Identifier: Apache-2.0
// Control: the one thread that decides. Every tick it gathers what the proxy counted, journals it, lets the
// rollout cores judge, journals what they decided, and only then acts: a new routing table, a log line, word
// to those who watch. It owns no thread and no clock: it is driven by the loop it is given.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/list.h"
#include "base/text.h"
#include "daemon/config/config.h"
#include "net/io/loop.h"
#include "net/proxy/proxy.h"
#include "ship/engine/case.h"
#include "ship/engine/log.h"
#include "ship/rollout/rollout.h"
#include "ship/store/journal.h"

enum {
    ENGINE_JOURNAL_RETRY_MS = 1000,
    ENGINE_ACK_CHECK_MS = 1,
    ENGINE_METRICS_BYTES_MAX = 4 * 1024 * 1024,
};

struct engine;

struct engine_parts {
    struct config *config;   // taken on success
    struct io_loop *loop;    // borrowed: control's own loop
    struct proxy *proxy;     // borrowed: created, not started yet
    struct journal *journal; // borrowed: open for writing
    struct engine_log *log;  // borrowed
    uint32_t workers;        // of the proxy: each counts evaluations of flags of its own
    uint32_t flag_readers;   // other threads that do (FLAGSET_READERS_MAX together)
};

// Replays the journal, verifies every recorded decision, tells the cores that the process resumed, and
// publishes the table with the weights in force. Open the listeners only after it. On failure nothing is
// kept.
//   STATUS_MISMATCH   the journal's decisions cannot be derived again; fault names the first difference
//   STATUS_CONFLICT   a rollout under way does not fit the file
//   and what the journal, the table or the heap say
MUST_USE enum status engine_create(const struct engine_parts *parts, struct engine **engine,
                                   struct fault *fault);
// Begins to tick. Also starts the rollouts whose file says `start: auto` and that never ran.
void engine_start(struct engine *engine);
// After engine_stopped, or when nothing was started.
void engine_destroy(struct engine *engine);

// No new connections; waits at most drain_ms for those open, then stops the proxy and calls done. A second
// call stops at once.
void engine_shutdown(struct engine *engine, uint64_t drain_ms, void (*done)(void *context), void *context);
bool engine_draining(const struct engine *engine);

// A new file for the running daemon. On STATUS_OK the config is taken; what needs a restart is said in the
// log. Else nothing changed and fault says why.
MUST_USE enum status engine_reload(struct engine *engine, struct config *config, struct fault *fault);

// ---- commands ----

// An operator's word. STATUS_OK: done, journalled and in force (the table is published). NOT_FOUND: no such
// rollout. CONFLICT, DENIED: refused; the fault says why. IO, NO_SPACE, ...: the journal cannot be written.
MUST_USE enum status engine_command(struct engine *engine, const char *name, enum rollout_command command,
                                    const char *who, const char *from, struct fault *fault);

// ---- what people look at ----

struct engine_arm {
    char version[ROLLOUT_NAME_BYTES];
    bool present;
    struct engine_arm_sum sum; // since the run began
    double rate;               // requests per second, over the last 5 s
    double share;              // of what was routed in the present stage
    uint64_t latency_count;    // since the run began or the process started, whichever is later
    uint64_t p50_us, p90_us, p99_us, p999_us;
};

struct engine_rollout {
    const char *name;
    const struct rollout_spec *spec; // what is being done; before the first run, what the file says
    uint32_t run;                    // 0: never started
    bool in_file;
    bool file_differs; // the file says something else than the run under way
    struct rollout_view view;
    struct engine_arm arms[ROLLOUT_ARMS];
    const struct engine_case *record; // NULL: never started
};

uint32_t engine_rollout_count(const struct engine *engine);
// index < count. Everything borrowed lives until the next turn of the loop.
void engine_rollout_get(struct engine *engine, uint32_t index, struct engine_rollout *rollout);
// -1: none.
int engine_rollout_find(const struct engine *engine, const char *name);
const char *engine_rollout_nearest(const struct engine *engine, const char *name);

struct engine_health {
    bool journal_failing;
    int64_t journal_failing_since_ms;
    char journal_problem[FAULT_TEXT_BYTES];
    uint64_t journal_failures;
    uint64_t journal_entries;
    uint64_t journal_bytes;
    uint64_t table_version;
    uint64_t table_acknowledged;
    uint64_t table_switch_us; // from the last publish until every worker had taken it up
    uint64_t table_switch_us_max;
    uint64_t table_build_us;
    uint64_t ticks;
    uint64_t ticks_late;           // ticks that began more than a tick after their time
    uint64_t tick_us, tick_us_max; // time a tick took
    bool listening;
    bool draining;
    int64_t started_ms;
};
void engine_health_get(const struct engine *engine, struct engine_health *health);
// The proxy has its listeners open (set by whoever opened them).
void engine_set_listening(struct engine *engine, bool listening);

const struct config *engine_config(const struct engine *engine);
struct proxy *engine_proxy(const struct engine *engine);
struct io_loop *engine_loop(const struct engine *engine);
struct engine_log *engine_log_of(const struct engine *engine);
int64_t engine_wall_ms(const struct engine *engine);

// The slots that a service's version counts under; PROXY_SLOT_NONE when there is none.
uint16_t engine_version_slot(const struct engine *engine, const char *service, const char *version);

// What one service's requests are measured by, for metrics and plans.
struct engine_traffic {
    double requests_per_second; // last 5 s, all versions
    double error_rate;          // of the stable version, since the process began
    uint64_t requests;
};
void engine_traffic_get(const struct engine *engine, const char *service, struct engine_traffic *traffic);

// Prometheus text of everything, into storage[cap]. STATUS_FULL when it did not fit.
MUST_USE enum status engine_metrics_write(struct engine *engine, char *storage, size_t cap,
                                          struct slice *text);

// Somebody else's families, written behind control's own.
struct metrics_writer;
struct engine_metric_source {
    struct list link; // private
    void (*write)(struct engine_metric_source *source, struct metrics_writer *writer);
};
void engine_metric_source_add(struct engine *engine, struct engine_metric_source *source);
void engine_metric_source_remove(struct engine_metric_source *source);

// ---- watching ----

// Called after a decision has taken effect, from the loop's own turn.
struct engine_watcher {
    struct list link; // private
    void (*decided)(struct engine_watcher *watcher, const char *name, const struct engine_decision *decision);
};
void engine_watch(struct engine *engine, struct engine_watcher *watcher);
void engine_unwatch(struct engine_watcher *watcher);
