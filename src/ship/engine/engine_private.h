// SPDX-License-Identifier: Apache-2.0
// Control's own storage, shared by its parts: ticking, recording, table building, views, reload.
#pragma once

#include "ship/engine/engine.h"
#include "ship/engine/flags.h"

enum {
    ENGINE_GATHERS_PER_TICK = 8, // of full span buffers, per rollout
    ENGINE_EVENTS_PER_TICK = 256,
    ENGINE_TICK_US = ROLLOUT_TICK_MS * 1000,
};

// What the routing table takes from a run. It is renewed only when the journal holds the decision it comes
// from: while one is owed the core is already ahead, and a table built then for any other reason (a reload,
// another rollout's decision) must not show it.
struct engine_share {
    uint32_t run; // 0: never started
    uint64_t run_seq;
    char service[ROLLOUT_NAME_BYTES];
    char from[ROLLOUT_NAME_BYTES];
    char to[ROLLOUT_NAME_BYTES];
    char flag[ROLLOUT_NAME_BYTES];                   // of a flag's rollout; else empty
    char rings[FLAGS_RINGS_MAX][ROLLOUT_NAME_BYTES]; // segments in force
    uint32_t ring_count;
    bool active; // started and not final
    bool back;   // rolling or rolled back
    bool control;
    uint32_t weight;
    uint32_t deadline_ms;
    uint32_t error_window_ms;
    struct rollout_edges edges;
    uint64_t edge_margin_us[ROLLOUT_EDGES];
    uint64_t edge_slack_us;
};

enum { ENGINE_KILL_TICKS = 600 }; // the longest time that is looked back

// What the kill switch looks at: completed and failed uses of the new version or variant, rings included.
struct engine_kill {
    uint32_t run; // whose counts these are
    uint32_t completed[ENGINE_KILL_TICKS];
    uint32_t errors[ENGINE_KILL_TICKS];
    uint32_t at;
};

// A running rollout's live side, beside its record.
struct engine_live {
    struct engine_case *record; // NULL: never started
    struct engine_share share;
    char name[ROLLOUT_NAME_BYTES];
    // A decision the core has taken and the journal not yet.
    bool owed;
    struct rollout_effects owed_effects;
    int64_t stepped_ms;
    uint64_t losses_told;
    uint64_t spans_unwritten; // gathered, but the journal did not take them: told to the core as lost
    bool mismatch_told;       // "the file differs from the run" was logged
    // Of a flag's rollout: the share that the set in force splits by, which may be behind what the core
    // wants.
    uint32_t split_weight;
    uint64_t split_table;         // the set that came with split_weight first
    struct engine_events *events; // evidence that came as events, or NULL
    struct engine_kill kill;
    // Routed per arm and tick, for the rates shown.
    uint32_t rate_ring[ENGINE_RATE_TICKS][ROLLOUT_ARMS];
    uint64_t rate_sum[ROLLOUT_ARMS];
    uint32_t rate_ticks; // since the run began, at most ENGINE_RATE_TICKS
    // The versions' histograms when the run began: what is shown is the difference.
    struct stats_histogram *latency_before; // [ROLLOUT_ARMS], or NULL
};

struct engine_version_slot {
    uint16_t service;
    char name[PROXY_NAME_BYTES];
};

struct engine_endpoint_slot {
    uint16_t version;
    bool resolved; // addr is what the name meant when the file was read
    char address[IO_ADDR_TEXT_BYTES];
    struct io_addr addr;
};

struct engine_service_rate {
    uint32_t ring[ENGINE_RATE_TICKS];
    uint64_t sum;
    uint64_t requests_before;
};

struct engine_overlay;

enum { ENGINE_RETIRED_SETS = 4 };

struct engine_flags {
    struct flagset *set; // NULL: the file has no flags
    struct usage *usage;
    struct engine_overlay *overlay; // from the journal; there also without a set
    struct list watchers;
    uint64_t change; // newest one handed to the set
    bool handed_over;
    uint64_t usage_due_us;
    uint64_t told[FLAGSET_PROBLEMS_MAX]; // hashes of the problems logged last
    uint32_t told_count;
    // Sets whose counts go to usage, referenced: the one in force, and those it replaced lately.
    const struct flagset_snapshot *counted;
    struct engine_retired {
        const struct flagset_snapshot *set;
        uint64_t until_us;
    } retired[ENGINE_RETIRED_SETS];
    uint32_t retired_count;
};

struct engine {
    struct config *config;
    struct engine_flags flags;
    struct io_loop *loop;
    struct proxy *proxy;
    struct journal *journal;
    struct engine_log *log;
    struct engine_live *live; // [ENGINE_CASES_MAX]
    uint32_t live_count;
    struct engine_health health;
    struct list watchers;
    struct list metric_sources;
    struct io_timer tick_timer;
    struct io_timer ack_timer;
    uint64_t tick_due_us;
    uint64_t journal_retry_us;
    uint32_t rate_at; // ring position, one per tick
    bool started;
    // tables
    bool table_dirty; // a publish failed: try again each tick
    uint64_t table_version;
    uint64_t published_us;
    bool ack_awaited;
    char (*service_slots)[PROXY_NAME_BYTES]; // [PROXY_SERVICES_MAX]
    uint32_t service_slot_count;
    struct engine_version_slot *version_slots; // [PROXY_VERSIONS_MAX]
    uint32_t version_slot_count;
    struct engine_endpoint_slot *endpoint_slots; // [PROXY_ENDPOINTS_MAX]
    bool names_fresh;                            // the file is being read: names are asked for again
    uint32_t endpoint_slot_count;
    struct engine_service_rate *rates; // [PROXY_SERVICES_MAX]
    // scratch
    struct rollout_span_delta *spans; // [ROLLOUT_TICK_SPANS_MAX]
    uint8_t *wire;                    // ROLLOUT_INPUT_WIRE_BYTES_MAX
    struct stats_histogram *histogram;
    // shutdown
    struct io_timer drain_timer;
    uint64_t drain_until_us;
    void (*drained)(void *context);
    void *drained_context;
};

// ---- record.c: the only way into a core and out of it
// Journals the input, steps, journals the decision, acts. On failure nothing has taken effect: the input was
// not journalled (the core is untouched), or the decision is owed and engine_journal_retry will finish it.
MUST_USE enum status engine_record(struct engine *engine, struct engine_live *live,
                                   const struct rollout_input *input, uint32_t run,
                                   struct rollout_effects *effects);
// Journals what is owed and acts on it; STATUS_OK when nothing is owed any more.
MUST_USE enum status engine_record_owed(struct engine *engine);
MUST_USE enum status engine_record_note(struct engine *engine, enum journal_kind kind, const char *text);
// A change of a flag; durable before it returns OK.
MUST_USE enum status engine_record_flag(struct engine *engine, const char *key, struct slice payload,
                                        uint64_t *seq);
void engine_journal_failed(struct engine *engine, const struct fault *fault);
void engine_journal_works(struct engine *engine);

// ---- act.c
void engine_act(struct engine *engine, struct engine_live *live, uint64_t seq,
                const struct rollout_effects *effects);
struct engine_live *engine_live_find(struct engine *engine, const char *name);
// The live rollout of that name, made when there is none.
MUST_USE enum status engine_live_get(struct engine *engine, const char *name, struct engine_live **live);
void engine_live_run_began(struct engine *engine, struct engine_live *live);

// ---- table.c
// Builds a table from config and cores and publishes it; a failure is logged and tried again each tick.
MUST_USE enum status engine_publish(struct engine *engine, struct fault *fault);
// The same; a failure is logged, and engine_tick tries again.
void engine_publish_or_retry(struct engine *engine);
// What the table may carry of the record, as it stands.
void engine_share_take(const struct engine_case *record, struct engine_share *share);
// Whether the run in the record governs traffic under that config.
bool engine_run_applies(const struct config *config, const struct engine_case *record);
// STATUS_CONFLICT with a sentence when a rollout under way does not fit the config.
MUST_USE enum status engine_config_fits(const struct engine *engine, const struct config *config,
                                        struct fault *fault);
uint16_t engine_service_slot(const struct engine *engine, const char *service);

// Whether the run of a flag's rollout still governs under that config.
bool engine_flag_share_applies(const struct config *config, const char *name,
                               const struct engine_share *share);

// ---- kill.c
// Counts what the new version or variant did in this tick; of a flag's rollout takes the ring's part out,
// which is no evidence.
void engine_kill_note(struct engine_live *live, struct rollout_span_delta *spans, uint32_t count);
// Once a tick: aborts the run when its bound is passed, then moves on to the next tick.
void engine_kill_tick(struct engine *engine, struct engine_live *live);

// ---- events.c
void engine_events_free(struct engine_live *live);
// What came since the last take, at most ROLLOUT_TICK_SPANS_MAX.
uint32_t engine_events_take(struct engine_live *live, struct rollout_span_delta *spans, uint64_t *lost);
const struct stats_histogram *engine_events_baseline(const struct engine_live *live); // NULL: none

// ---- metrics_flags.c
void engine_metrics_flags(struct engine *engine, struct metrics_writer *writer);

// ---- flags.c
uint64_t engine_flag_changes(const struct engine *engine); // made at runtime since the journal began
// Opens the sources and puts in force what the journal's changes and rollouts lay over them. OK without
// flags.
MUST_USE enum status engine_flags_open(struct engine *engine, uint32_t readers, struct fault *fault);
void engine_flags_close(struct engine *engine);
// Whether what another file says of flags can be read and compiled, as at a start; INVALID with the problems.
MUST_USE enum status engine_flags_acceptable(const struct engine *engine, const struct config *config,
                                             struct fault *fault);
void engine_flags_reload(struct engine *engine);
// Hands changes and splits to the set, which puts them in force soon (on_changed there).
void engine_flags_refresh(struct engine *engine);
void engine_flags_tick(struct engine *engine);
// STATUS_CONFLICT with a sentence when the set in force lacks what a rollout of a flag moves: no evidence
// would come, and rings pass by time alone.
MUST_USE enum status engine_flag_rollout_ready(const struct engine *engine, const struct rollout_spec *spec,
                                               struct fault *fault);
// STATUS_CONFLICT when a ring of the specification is no segment of that file: *missing names it.
MUST_USE enum status engine_segments_fit(const struct config *config, const struct rollout_spec *spec,
                                         const char **missing);
// Whether workers need the set.
bool engine_flags_in_path(const struct config *config);

// ---- control.c
// Whether the file says something else than the run under way.
bool engine_file_differs(const struct engine *engine, const struct engine_live *live);

// ---- tick.c
void engine_tick(struct engine *engine);
