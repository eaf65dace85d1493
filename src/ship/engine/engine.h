// SPDX-License-Identifier: Apache-2.0
// The engine: the one thread that decides. Every tick it gathers evidence, journals it, lets the rollout
// cores judge, journals what they decided, and only then acts: the rollout's target puts it in force, a log
// line, word to those who watch. What is moved and what is counted it does not know (target.h). It owns no
// thread and no clock: it is driven by the loop it is given.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/list.h"
#include "base/text.h"
#include "daemon/config/config.h"
#include "net/io/loop.h"
#include "operate/log/log.h"
#include "ship/engine/record.h"
#include "ship/engine/stable.h"
#include "ship/engine/target.h"
#include "ship/rollout/rollout.h"
#include "ship/store/journal.h"

enum {
    ENGINE_JOURNAL_RETRY_MS = 1000,
    ENGINE_METRICS_BYTES_MAX = 16 * 1024 * 1024,
};

struct engine;

struct engine_parts {
    struct config *config;   // taken on success
    struct io_loop *loop;    // borrowed: the engine's own loop
    struct journal *journal; // borrowed: open for writing
    struct log *log;         // borrowed
    uint64_t secret[2];      // nobody else can know it: runs draw their salts from it
    const struct engine_host *host;
    const struct engine_target *const *targets; // [ROLLOUT_TARGETS]
    const struct engine_source *const *sources; // [ROLLOUT_SOURCES]
    void *world;                                // given to all of their functions
};

// Replays the journal, verifies every recorded decision, tells the cores that the process resumed, and
// publishes what they want in force. A run under way that does not fit the file is taken back. Open the
// listeners only after it. On failure nothing is kept.
//   STATUS_MISMATCH   the journal's decisions cannot be derived again; fault names the first difference
//   and what the journal, the host or the heap say
MUST_USE enum status engine_create(const struct engine_parts *parts, struct engine **engine,
                                   struct fault *fault);
// Begins to tick. Also starts the rollouts whose file says `start: auto` and that never ran.
void engine_start(struct engine *engine);
// After engine_stopped, or when nothing was started.
void engine_destroy(struct engine *engine);

// No new connections; waits at most drain_ms for those open, then stops the host and calls done. A second
// call stops at once.
void engine_shutdown(struct engine *engine, uint64_t drain_ms, void (*done)(void *context), void *context);
// Ticks no more and leaves the journal, which may then be closed, to another process; the host serves on.
// Only a shutdown may follow.
void engine_retire(struct engine *engine);
// From now on nothing is moved forward; what leads back is done.
void engine_be_careful(struct engine *engine);

// Every worker has taken up the newest table.
void engine_taken_up(struct engine *engine);

// A new file for the running daemon. On STATUS_OK the config is taken; what needs a restart is said in the
// log. Else nothing changed and fault says why.
MUST_USE enum status engine_reload(struct engine *engine, struct config *config, struct fault *fault);

// ---- commands ----

// An operator's word. STATUS_OK: done, journalled and in force. EXISTS: what it asks for is so already; the
// fault says it. NOT_FOUND: no such rollout. CONFLICT, DENIED: refused; the fault says why. IO, NO_SPACE,
// ...: the journal cannot be written.
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

struct engine_view {
    const char *name;
    const struct rollout_spec *spec; // what is being done; before the first run, what the file says
    uint32_t run;                    // 0: never started
    bool in_file;
    bool file_differs; // the file says something else than the run under way
    struct rollout_view view;
    struct engine_arm arms[ROLLOUT_ARMS];
    const struct engine_record *record; // NULL: never started
    const char *failures;               // which requests the last verdict saw fail, in words; empty: not told
};

uint32_t engine_rollout_count(const struct engine *engine);
// index < count. Everything borrowed lives until the next turn of the loop.
void engine_view_get(struct engine *engine, uint32_t index, struct engine_view *rollout);
// Which requests of the present run failed so far; borrowed until the next call. NULL: not told, because its
// source cannot, or because it is over.
const struct rollout_failures *engine_failures(struct engine *engine, uint32_t index);
// -1: none.
int engine_view_find(const struct engine *engine, const char *name);
const char *engine_rollout_nearest(const struct engine *engine, const char *name);

enum { ENGINE_DECISION_BUCKETS = 10 };
extern const uint16_t engine_decision_ms[ENGINE_DECISION_BUCKETS]; // rising

struct engine_health {
    bool journal_failing;
    int64_t journal_failing_since_ms;
    char journal_problem[FAULT_TEXT_BYTES];
    uint64_t journal_failures;
    uint64_t journal_waiting; // entries that took effect and are not written yet
    uint64_t journal_entries;
    uint64_t journal_bytes;
    uint64_t ticks;
    uint64_t ticks_late;             // ticks that began more than a tick after their time
    uint64_t tick_us, tick_us_max;   // time a tick took
    uint64_t delay_us, delay_us_max; // and how long after its time it began: decisions are late by that
    // Ticks by the time from when one was due until every worker had taken up what it put in force, or until
    // it was over where that was nothing: engine_decision_ms[i] and less. Those that took longer are in the
    // count alone; those that are awaited, in neither.
    uint64_t decisions[ENGINE_DECISION_BUCKETS];
    uint64_t decisions_count;
    uint64_t decisions_us; // sum of those times
    bool draining;
    bool careful; // nothing is moved forward: engine_be_careful
    int64_t started_ms;
};
void engine_health_get(const struct engine *engine, struct engine_health *health);
const struct config *engine_config(const struct engine *engine);
// Which versions are stable, see stable.h.
const struct engine_stables *engine_stables_of(const struct engine *engine);
struct io_loop *engine_loop(const struct engine *engine);
struct log *engine_log_of(const struct engine *engine);
int64_t engine_wall_ms(const struct engine *engine);
void *engine_world(const struct engine *engine);
// NULL: none of that name.
struct engine_rollout *engine_rollout_find(const struct engine *engine, const char *name);
struct engine_rollout *engine_rollout_at(const struct engine *engine, uint32_t index); // index < count
// An entry that is no rollout's; durable before it returns OK. A subject that is too long is cut. safe: what
// it says does not wait for a journal that fails; then it is kept to be written behind it, and *seq is 0.
MUST_USE enum status engine_journal_append(struct engine *engine, enum journal_kind kind, const char *subject,
                                           struct slice payload, bool safe, uint64_t *seq,
                                           struct fault *fault);

// Prometheus text of everything, into storage[cap]. STATUS_FULL when it did not fit.
MUST_USE enum status engine_metrics_write(struct engine *engine, char *storage, size_t cap,
                                          struct slice *text);

// Somebody else's families, written behind the engine's own.
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
