// SPDX-License-Identifier: Apache-2.0
// Flags under control: what operators change at runtime, journalled before it is in force, kept over
// restarts. Calls are for the control thread.
#pragma once

#include "flags/set/flagset.h"
#include "flags/set/usage.h"
#include "ship/engine/engine.h"

enum {
    ENGINE_FLAG_KEY_BYTES = 256, // longest key that can be changed at runtime, the NUL included
    ENGINE_FLAG_DEFINITION_BYTES = 512 * 1024,
    ENGINE_FLAG_CHANGES_KEPT = 10000,         // newest ones, for history
    ENGINE_FLAG_OVERLAY_MAX = 100000,         // flags changed at runtime
    ENGINE_FLAG_OVERLAY_BYTES_MAX = 64 << 20, // of their definitions
};

enum engine_flag_op {
    ENGINE_FLAG_SET,   // a definition, over whatever the sources say
    ENGINE_FLAG_ON,    // enabled, not killed, whatever the definition says
    ENGINE_FLAG_OFF,   // killed: everybody gets `variant`, or the caller's default when it is empty
    ENGINE_FLAG_UNSET, // all of the above is taken away: the sources speak again
};
const char *engine_flag_op_name(enum engine_flag_op op); // "set", "on", "off", "unset"

struct engine_flag_change {
    enum engine_flag_op op;
    const char *key;
    struct slice definition; // SET: the flag's JSON object
    const char *variant;     // OFF; NULL or "": the caller's default
    const char *who;
    const char *from;
    bool checked; // SET: by flagset_check_flags, with others that are changed in the same breath
};

// NULL when the file has no `flags`.
struct flagset *engine_flagset(const struct engine *engine);
// What becomes of the flags in use; NULL when the file has no `flags`.
const struct usage *engine_flag_usage(const struct engine *engine);
// Journals the change and hands it on. STATUS_OK: kept, *change numbers it; in force once the snapshot's
// `change` is at least that. INVALID (with line and column; no such variant), NOT_FOUND (no such flag),
// CONFLICT (no flags in the file; a rollout drives the flag), FULL, and what the journal says.
MUST_USE enum status engine_flag_apply(struct engine *engine, const struct engine_flag_change *change,
                                       uint64_t *number, struct fault *fault);

// What a file says of flags, read and compiled once as at a start; nothing is kept and no address asked.
struct engine_flags_report {
    uint32_t flags;
    uint32_t sources;
    uint32_t left_out; // sources that are addresses
    uint32_t problem_count;
    struct fault problems[FLAGSET_PROBLEMS_MAX];
};
MUST_USE enum status engine_flags_check(const struct config *config, struct engine_flags_report *report);

// Called from the loop's own turn when another snapshot is in force (borrowed: reference it to keep it).
struct engine_flags_watcher {
    struct list link; // private
    void (*changed)(struct engine_flags_watcher *watcher, const struct flagset_snapshot *snapshot);
};
void engine_flags_watch(struct engine *engine, struct engine_flags_watcher *watcher);
void engine_flags_unwatch(struct engine_flags_watcher *watcher);

// What stands over a flag at runtime.
struct engine_flag_overlay {
    bool defined; // by SET
    enum flags_patch_state state;
    bool killed;
    char kill_variant[ROLLOUT_NAME_BYTES];
    const char *rollout; // that drives it, or NULL
};
void engine_flag_overlay_get(const struct engine *engine, struct slice key,
                             struct engine_flag_overlay *overlay);

// A change that was made, newest last.
struct engine_flag_entry {
    uint64_t number;
    uint64_t seq; // in the journal
    int64_t time_ms;
    enum engine_flag_op op;
    char key[ENGINE_FLAG_KEY_BYTES];
    char variant[ROLLOUT_NAME_BYTES];
    char who[ROLLOUT_WHO_BYTES];
    char from[IO_ADDR_TEXT_BYTES];
};
uint32_t engine_flag_history_count(const struct engine *engine);
const struct engine_flag_entry *engine_flag_history(const struct engine *engine, uint32_t i);
