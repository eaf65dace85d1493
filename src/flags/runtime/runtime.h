// SPDX-License-Identifier: Apache-2.0
// Flags as they run: the sources that the file names, and over them what operators change (journalled before
// it is in force, kept over restarts) and what rollouts of flags split. Calls are for one thread.
#pragma once

#include "base/fault.h"
#include "base/list.h"
#include "daemon/config/config.h"
#include "flags/eval/image.h"
#include "flags/set/flagset.h"
#include "flags/set/usage.h"
#include "operate/log/log.h"

enum {
    RUNTIME_KEY_BYTES = 256, // longest key that can be changed at runtime, the NUL included
    RUNTIME_NAME_BYTES = 64, // of variants and people, the NUL included
    RUNTIME_DEFINITION_BYTES = 512 * 1024,
    RUNTIME_CHANGES_KEPT = 10000,         // newest ones, for history
    RUNTIME_OVERLAY_MAX = 100000,         // flags changed at runtime
    RUNTIME_OVERLAY_BYTES_MAX = 64 << 20, // of their definitions
};

struct runtime;
struct metrics_writer;

// What a rollout lays over a flag.
struct runtime_split {
    const char *rollout; // its name
    struct slice flag, from, to;
    uint32_t share;
    struct siphash_key salt;
    uint32_t ring_count;
    struct slice rings[FLAGS_RINGS_MAX];
    bool active; // under way: the flag must not be defined anew
};

// Appends a change to the journal; durable before it returns OK. safe: it does not wait for a journal that
// fails, and *seq is 0 then.
typedef enum status runtime_append(void *context, const char *key, struct slice payload, bool safe,
                                   uint64_t *seq, struct fault *fault);

// Everything is borrowed for as long as the runtime lives.
struct runtime_parts {
    struct io_loop *loop;
    struct log *log;
    const char *journal_path; // what is known of the use of flags is kept beside it
    uint32_t readers;         // threads that evaluate
    runtime_append *append;
    // The next split in force, *at is from 0 and the callee's to move. False: no more. Slices live until the
    // next turn of the loop.
    bool (*split)(void *context, uint32_t *at, struct runtime_split *split);
    // Another set is in force; called before it is said to anybody else.
    void (*changed)(void *context, const struct flagset_snapshot *snapshot);
    void *context;
};

MUST_USE enum status runtime_create(const struct runtime_parts *parts, struct runtime **runtime);
void runtime_destroy(struct runtime *runtime); // NULL is allowed
// Takes a change that the journal holds, before runtime_open. NULL: it is only read. CORRUPT, UNSUPPORTED,
// and FULL or NO_MEMORY when it cannot be kept.
MUST_USE enum status runtime_fold(struct runtime *runtime, uint64_t seq, int64_t time_ms,
                                  struct slice payload);
// Opens the file's sources with all that lies over them. OK without flags. The file is borrowed until another
// one is in force.
MUST_USE enum status runtime_open(struct runtime *runtime, const struct config *config, struct fault *fault);
// Whether what another file says of flags can be read and compiled, as at a start; INVALID with the problems.
// Always, when it says the same as the file in force, `before`: the set's own thread follows its sources, and
// the caller, who decides about rollouts, does not wait for them.
MUST_USE enum status runtime_acceptable(const struct runtime *runtime, const struct config *before,
                                        const struct config *config, struct fault *fault);
void runtime_reload(struct runtime *runtime, const struct config *config);
// Hands changes and splits to the set, which puts them in force soon.
void runtime_refresh(struct runtime *runtime);
void runtime_tick(struct runtime *runtime);
void runtime_drain(struct runtime *runtime); // no changes any more

// NULL when the file has no `flags`.
struct flagset *runtime_flagset(const struct runtime *runtime);
// How the flags are used; NULL when the file has no `flags`.
const struct usage *runtime_usage(const struct runtime *runtime);
// CONFLICT with a sentence when the set in force lacks the flag or one of the two variants.
MUST_USE enum status runtime_movable(const struct runtime *runtime, const char *key, const char *from,
                                     const char *to, struct fault *fault);

// ---- changes ----

enum runtime_op {
    RUNTIME_SET,   // a definition, over whatever the sources say
    RUNTIME_ON,    // enabled, not killed, whatever the definition says
    RUNTIME_OFF,   // killed: everybody gets `variant`; when it is empty, the flag answers as "kill": true
    RUNTIME_UNSET, // all of the above is taken away: the sources speak again
};
const char *runtime_op_name(enum runtime_op op); // "set", "on", "off", "unset"

struct runtime_change {
    enum runtime_op op;
    const char *key;
    struct slice definition; // SET: the flag's JSON object
    const char *variant;     // OFF; NULL or "": none named
    const char *who;
    const char *from;
    bool checked; // SET: by flagset_check_flags, with others that are changed in the same breath
};

// Journals the change and hands it on. STATUS_OK: kept, *number numbers it; in force once the snapshot's
// `change` is at least that. INVALID (with line and column; no such variant), NOT_FOUND (no such flag),
// CONFLICT (no flags in the file; a rollout drives the flag), FULL, and what the journal says.
MUST_USE enum status runtime_apply(struct runtime *runtime, const struct runtime_change *change,
                                   uint64_t *number, struct fault *fault);

// Journals a change without a runtime, for the next start to fold; whether the flag exists is not asked.
// INVALID, and what the journal says.
MUST_USE enum status runtime_change_append(const struct runtime_change *change, runtime_append *append,
                                           void *context, uint64_t *seq, struct fault *fault);

// ---- checks ----

// What a file says of flags, read and compiled once as at a start; nothing is kept and no address asked.
struct runtime_report {
    uint32_t flags;
    uint32_t sources;
    uint32_t left_out; // sources that are addresses
    uint32_t problem_count;
    struct fault problems[FLAGSET_PROBLEMS_MAX];
};
MUST_USE enum status runtime_check(const struct config *config, struct runtime_report *report);

// ---- what people look at ----

// Called from the loop's own turn when another snapshot is in force (borrowed: reference it to keep it).
struct runtime_watcher {
    struct list link; // private
    void (*changed)(struct runtime_watcher *watcher, const struct flagset_snapshot *snapshot);
};
void runtime_watch(struct runtime *runtime, struct runtime_watcher *watcher);
void runtime_unwatch(struct runtime_watcher *watcher);

// What stands over a flag at runtime.
struct runtime_flag {
    bool defined; // by SET
    enum flags_patch_state state;
    bool killed;
    char kill_variant[RUNTIME_NAME_BYTES];
    const char *rollout; // that drives it, or NULL
};
void runtime_flag_get(const struct runtime *runtime, struct slice key, struct runtime_flag *flag);

// A change that was made, newest last.
struct runtime_entry {
    uint64_t number;
    uint64_t seq; // in the journal
    int64_t time_ms;
    enum runtime_op op;
    char key[RUNTIME_KEY_BYTES];
    char variant[RUNTIME_NAME_BYTES];
    char who[RUNTIME_NAME_BYTES];
    char from[IO_ADDR_TEXT_BYTES];
};
uint32_t runtime_history_count(const struct runtime *runtime);
const struct runtime_entry *runtime_history(const struct runtime *runtime, uint32_t i);

void runtime_metrics_write(const struct runtime *runtime, struct metrics_writer *writer);
