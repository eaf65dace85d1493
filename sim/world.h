// SPDX-License-Identifier: Apache-2.0
// One simulated world: the daemon (proxy workers, control, journal), the origins, the clients, and an
// observer who believes none of them. Everything happens between two slices of virtual time, so that the same
// plan gives the same world.
#pragma once

#include "operate/load/load.h"
#include "plan.h"
#include "ship/engine/replay.h"
#include "ship/targets/targets.h"

enum {
    WORLD_SLICE_US = 10000,
    WORLD_WORKERS_MAX = 3,
    WORLD_FAILURE_BYTES = 600,
    WORLD_SIGHTINGS = 1 << 17, // requests that reached an origin; a power of two
    WORLD_PATH_BYTES = 256,
};

// Faults and other things that really happened.
enum world_count {
    WORLD_DAEMON_CRASHES,
    WORLD_SILENT_CRASHES,
    WORLD_CRASHES_IN_JOURNAL, // of the crashes, in the middle of a write to the journal
    WORLD_CRASHES_IN_START,   // the same while the daemon started
    WORLD_POWER_LOSSES,
    WORLD_OWED_AT_RESTART, // decisions that the journal did not hold when the daemon came back
    WORLD_STARTS_REFUSED,  // the daemon could not start: the disk
    WORLD_ORIGIN_CRASHES,
    WORLD_DISK_FAILURES, // operations that the disk refused
    WORLD_JOURNAL_FAILURES,
    WORLD_COMMANDS_OBEYED,
    WORLD_COMMANDS_REFUSED,
    WORLD_RELOADS,
    WORLD_RESTARTS,
    WORLD_ORIGIN_TURNS,
    WORLD_CLOCK_STEPS,
    WORLD_STALLS,
    WORLD_RESETS,
    WORLD_REFUSALS,
    WORLD_FRAGMENTS,
    WORLD_REQUESTS,
    WORLD_DECISIONS,
    WORLD_COMPLETED,      // rollouts
    WORLD_ROLLED_BACK,    // rollouts
    WORLD_GOOD_RUNS,      // runs of a good version that no fault touched
    WORLD_FALSE_ALARMS,   // of them, taken back by evidence
    WORLD_CLEAN_RUNS,     // seeds in which clients may see no failure but the new version's
    WORLD_EVIDENCE_WHOLE, // rollouts whose evidence was compared with the proxy's counts
    WORLD_COUNTS
};
const char *world_count_name(enum world_count count);

// What came of one run of a seed.
struct world_result {
    bool failed;
    char failure[WORLD_FAILURE_BYTES]; // the first
    uint64_t trace_hash;
    uint64_t journal_hash;
    uint64_t counts[WORLD_COUNTS];
};

struct world_origin {
    struct io_loop *loop;
    struct load_origin *origin; // NULL: down
    struct io_addr addr;
    uint64_t back_us;               // when it comes up
    uint64_t turned_us;             // until when it is not itself; 0: it is
    struct load_origin_counts past; // of those that crashed
    struct world *world;
    uint32_t bit;
};

struct world_daemon {
    bool up;
    uint64_t back_us;  // when it comes up
    uint64_t crash_us; // 0: none under way; when it comes at the latest
    struct plan_event crash;
    struct io_loop *loops[WORLD_WORKERS_MAX];
    struct io_loop *loop; // control's
    struct proxy *proxy;
    struct journal *journal;
    struct targets *targets;
    struct engine *engine; // of targets
    struct log log;
    struct engine_watcher watcher;
    uint32_t starts;
    uint64_t failures_told; // of the journal, already in counts
    // The observer's notes.
    uint64_t acted_seq;     // newest decision that took effect, over all processes
    uint64_t table_version; // newest table seen
};

// The observer's notes of one service.
struct world_service {
    uint32_t weight; // in force
    uint64_t weight_since_us;
    uint64_t requests[2]; // of stable and canary when last looked at
    // Per session: when it first came to the canary under this growth (0: it did not), and the beginning of
    // the weight under which it was seen at the old version.
    uint64_t canary_seen_us[PLAN_SESSIONS];
    uint64_t stable_under_us[PLAN_SESSIONS];
};

struct world_sighting {
    uint64_t id; // 0: free
    uint8_t origins;
    uint8_t times;
};

struct world {
    struct plan plan;
    struct world_result *result;
    FILE *verbose; // NULL: quiet
    struct io_sim *sim;
    char folder[WORLD_PATH_BYTES];
    char path[WORLD_PATH_BYTES];
    struct world_daemon daemon;
    struct world_service services[PLAN_SERVICES_MAX];
    struct world_origin origins[PLAN_ORIGINS];
    struct io_loop *load_loop;
    struct load *load;
    struct load_request *requests;
    char (*names)[32]; // paths and sessions
    uint32_t next_event;
    uint64_t disk_full_from; // the write, counted from the fault's beginning
    uint64_t disk_full_until_us, sync_fails_at, network_until_us;
    bool stopping; // an orderly end: nothing is checked while it lasts
    bool stopped;
    int64_t clock_step_ms;
    uint32_t loads_begun;
    struct world_sighting *sightings;
    uint32_t sighting_count;
    struct rollout_input_room *room; // scratch
};

// ---- world.c ----

__attribute__((format(printf, 2, 3))) void world_fail(struct world *world, const char *format, ...);
__attribute__((format(printf, 2, 3))) void world_say(struct world *world, const char *format, ...);
void world_count_up(struct world *world, enum world_count count, uint64_t n);
// Everything up but clients.
void world_create(struct world *world, uint64_t seed, struct world_result *result, FILE *verbose);
// Crashes and frees whatever is left.
void world_destroy(struct world *world);
// Runs until then, slice by slice: events of the plan, restarts, the observer.
void world_run(struct world *world, uint64_t until_us);
uint64_t world_now_us(const struct world *world);
void world_load_begin(struct world *world, double rate, uint64_t duration_us);
// Waits until no request is pending, checks the accounts, frees the load.
void world_load_end(struct world *world);
// No faults from now on; everything that is down comes up.
void world_heal(struct world *world);
// The operator's word; STATUS_CLOSED when the daemon is down.
enum status world_command(struct world *world, uint32_t service, enum rollout_command command);
void world_view(struct world *world, uint32_t service, struct rollout_view *view, uint32_t *run);
// Ends the daemon in good order; its remains stay for the observer.
void world_stop(struct world *world);

// ---- host.c: the machines ----

void world_daemon_start(struct world *world);
void world_daemon_crash(struct world *world, const struct plan_event *how);
void world_origin_start(struct world *world, enum plan_origin which);
// From now on it behaves so; its turn is over when that is its nature.
void world_origin_set(struct world *world, enum plan_origin which, enum load_origin_behaviour behaviour);
void world_origin_crash(struct world *world, enum plan_origin which, bool silent);
void world_disk_apply(struct world *world, uint64_t off_after);

// ---- observer.c ----

void world_seen(void *context, const struct http_request *request);
void world_decided(struct engine_watcher *watcher, const char *name, const struct engine_decision *decision);
// After each slice.
void world_observe(struct world *world);
// The weights and the table's version in force; false before the first table.
bool world_table(const struct world *world, uint32_t weights[PLAN_SERVICES_MAX], uint64_t *version);
// Before control takes the journal: what it must come to.
struct world_expected {
    uint32_t weights[PLAN_SERVICES_MAX];
};
void world_replay(struct world *world, struct journal *journal, struct world_expected *expected);
// A new process: its counters begin at zero.
void world_observe_start(struct world *world);
// After the load ended.
void world_check_load(struct world *world, const struct load_totals *totals);
// At rest, before and after the proxy stopped.
void world_check_accounts(struct world *world);
void world_check_closed(struct world *world);
// The journal as a whole: order of stages, split, and that it replays to what the daemon had.
void world_check_journal(struct world *world);
