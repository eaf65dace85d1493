// SPDX-License-Identifier: Apache-2.0
// What the engine does not know: what a rollout moves, where its evidence comes from, and what stands around
// the engine. One const struct of functions per variant, one file each (ship/targets). All are called on the
// engine's thread, with the world that was given to engine_create.
#pragma once

#include "base/fault.h"
#include "daemon/config/config.h"
#include "ship/engine/record.h"
#include "ship/rollout/failures.h"
#include "ship/store/journal.h"
#include "stats/histogram.h"

enum {
    ENGINE_KILL_TICKS = 600, // the longest time that the kill switch looks back
    ENGINE_RATE_TICKS = 50,  // window of the rates shown: 5 s
};

struct engine;
struct engine_baseline;
struct proxy_service_plan;

// What may be put in force of a run. It is renewed only when the journal holds the decision it comes from:
// while one is owed the core is already ahead, and what is put in force then for any other reason (a reload,
// another rollout's decision) must not show it.
struct engine_route {
    uint32_t run; // 0: never started
    uint64_t run_seq;
    struct rollout_spec spec; // of the run
    bool active;              // started and not final
    bool back;                // rolling or rolled back
    uint32_t weight;
    uint32_t ring_stages; // the segments among so many first stages are in force
    bool shadow;          // the canary is to get copies of requests
    struct rollout_yardstick yardstick;
};

// What copies of requests showed, on its way to the core. It stays until the journal has it; until then
// nothing more is asked for, and whoever counts goes on.
struct engine_shadow {
    uint32_t run; // whose
    bool full;
    struct rollout_shadow_delta delta;
    struct rollout_shadow_row rows[ROLLOUT_SHADOW_ROWS_MAX];
};

// What the kill switch looks at: completed and failed uses of the new version or variant, rings included.
struct engine_kill {
    uint32_t run; // whose counts these are
    uint32_t completed[ENGINE_KILL_TICKS];
    uint32_t errors[ENGINE_KILL_TICKS];
    uint32_t at;
};

// A rollout as it lives in the engine, beside its record.
struct engine_rollout {
    char name[ROLLOUT_NAME_BYTES];
    struct engine_record *record; // NULL: never started
    struct engine_route route;
    // A decision the core has taken and the journal not yet.
    bool owed;
    bool publish_owed; // what was overtaken must be put in force once it is journalled
    struct rollout_effects owed_effects;
    uint64_t stepped_tick;    // of the latest input
    uint64_t slept_told;      // of engine->slept_ticks, to the core
    uint64_t spans_unwritten; // gathered, but the journal did not take them: told to the core as lost
    bool mismatch_told;       // "the file differs from the run" was logged
    uint64_t redefined_table; // the first with another definition of errors, which the core does not know yet
    struct engine_kill kill;
    struct engine_shadow *shadow; // NULL: nothing was in the shadow yet
    // Routed per arm and tick, for the rates shown.
    uint32_t rate_ring[ENGINE_RATE_TICKS][ROLLOUT_ARMS];
    uint64_t rate_sum[ROLLOUT_ARMS];
    uint32_t rate_ticks; // since the run began, at most ENGINE_RATE_TICKS
    // The arms' histograms when the run began: what is shown is the difference.
    struct stats_histogram *latency_before; // [ROLLOUT_ARMS], or NULL
    uint64_t latency_since[ROLLOUT_ARMS];   // whose readings those are
    struct engine_baseline *baseline;       // being measured, or NULL
    // Its target's: the weight that is in force, which may be behind what the core wants, and since when.
    uint32_t split_weight;
    uint64_t split_table;
    void *evidence; // its source's, or NULL
};

struct engine_target {
    // CONFLICT with a sentence when what the specification moves is not there: no evidence would come, and
    // rings pass by time alone.
    enum status (*ready)(void *world, const struct rollout_spec *spec, struct fault *fault);
    // Whether the run governs under that file.
    bool (*applies)(const struct config *config, const char *name, const struct engine_route *route);
    // CONFLICT with a sentence when a run under way does not fit the file.
    enum status (*fits)(const struct config *config, const char *name, const struct engine_route *route,
                        struct fault *fault);
    // Puts in force what a decision changed; what fails is tried again by itself.
    void (*apply)(void *world);
    // Its part of a service's plan. applies: the run governs, else only the file's word stands.
    void (*plan)(const struct engine_rollout *rollout, const struct config_rollout *entry, bool applies,
                 const struct config_service *service, struct proxy_service_plan *plan);
    // What was seen of an arm's latency; *since: another number when that was begun anew. False: the arms
    // have none of their own.
    bool (*latency)(void *world, const struct rollout_spec *spec, const char *arm,
                    struct stats_histogram *seen, uint64_t *since);
};

struct engine_source {
    // What came since the last call, in the order it was routed. *lost grows by what could not be kept;
    // *more: call again.
    uint32_t (*gather)(void *world, struct engine_rollout *rollout,
                       struct rollout_span_delta spans[ROLLOUT_TICK_SPANS_MAX], uint64_t *lost, bool *more);
    // The latency of what the new is compared with.
    void (*baseline)(void *world, const struct engine_rollout *rollout, struct stats_histogram *seen);
    // What copies of requests showed since the last call; the delta borrows rows. False: nothing. NULL:
    // nothing can be in the shadow.
    bool (*shadow)(void *world, const struct engine_rollout *rollout,
                   struct rollout_shadow_row rows[ROLLOUT_SHADOW_ROWS_MAX],
                   struct rollout_shadow_delta *delta);
    // Which paths of the answers differ, in a sentence or two, for people. NULL as `shadow`.
    void (*differences)(void *world, const struct engine_rollout *rollout,
                        char words[ROLLOUT_FAILURES_TEXT_BYTES]);
    // Which requests of the run failed, for people. NULL: it cannot tell.
    void (*failures)(void *world, const struct engine_rollout *rollout, struct rollout_failures *out);
    void (*forget)(struct engine_rollout *rollout); // frees what it keeps of the rollout; NULL: nothing
};

// What stands around the engine.
struct engine_host {
    // An entry of the journal that is no rollout's, while the journal is replayed.
    enum status (*fold)(void *world, const struct journal_entry *entry);
    // The journal is replayed and the file fits; nothing has been decided yet.
    enum status (*open)(void *world, struct engine *engine, struct fault *fault);
    // Whether another file can be put in force, as far as the engine does not know.
    enum status (*accept)(void *world, const struct config *config, struct fault *fault);
    // Puts the engine's file and all runs in force; fresh: the file was just read.
    enum status (*publish)(void *world, bool fresh, struct fault *fault);
    void (*reloaded)(void *world);
    uint64_t (*tick)(const void *world); // the present one, on the clock of the spans
    void (*tick_began)(void *world);
    void (*tick_over)(void *world);
    void (*drain)(void *world); // nothing new; what is open may finish
    uint64_t (*open_count)(const void *world);
    uint64_t (*table_version)(const void *world); // of the routing table in force, for the log
    void (*stop)(void *world);
};
