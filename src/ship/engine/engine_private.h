// SPDX-License-Identifier: Apache-2.0
// The engine's own storage, shared by its parts. Calls go down this list: engine.c, tick.c, kill.c,
// adopt.c, command.c, order.c, effects.c, rollouts.c, stable.c; views and metrics read beside it.
#pragma once

#include "ship/engine/engine.h"

enum {
    ENGINE_GATHERS_PER_TICK = 8, // of full span buffers, per rollout
    ENGINE_TICK_US = ROLLOUT_TICK_MS * 1000,
    ENGINE_SLEEP_TICKS = 20, // a longer gap between two ticks is no late tick: the process did not run
};

// What took effect before the journal could hold it.
struct engine_backlog {
    struct list entries;
    uint64_t bytes, count;
};

struct engine {
    struct config *config;
    struct io_loop *loop;
    struct journal *journal;
    struct log *log;
    const struct engine_host *host;
    const struct engine_target *const *targets; // [ROLLOUT_TARGETS]
    const struct engine_source *const *sources; // [ROLLOUT_SOURCES]
    void *world;
    uint64_t secret[2];
    struct engine_rollout *rollouts; // [ENGINE_ROLLOUTS_MAX]
    uint32_t rollout_count;
    struct engine_stables stables; // of the services that rollouts have moved
    struct engine_health health;
    struct list watchers;
    struct list metric_sources;
    struct io_timer tick_timer;
    uint64_t tick_due_us;
    uint64_t journal_retry_us;
    struct engine_backlog backlog;
    uint32_t rate_at; // ring position, one per tick
    uint64_t ticked;  // the latest tick
    uint64_t slept_ticks;
    bool started;
    bool retired; // the journal is another process's
    // scratch
    struct rollout_span_delta *spans; // [ROLLOUT_TICK_SPANS_MAX]
    uint8_t *wire;                    // ROLLOUT_INPUT_WIRE_BYTES_MAX
    struct stats_histogram *histogram, *histogram_part;
    struct rollout_failures *failures;
    // shutdown
    struct io_timer drain_timer;
    uint64_t drain_until_us;
    void (*drained)(void *context);
    void *drained_context;
};

// ---- backlog.c
void engine_backlog_init(struct engine_backlog *backlog);
void engine_backlog_deinit(struct engine_backlog *backlog);
bool engine_backlog_has_room(const struct engine_backlog *backlog); // for what is not urgent
// Copies the entry. STATUS_FULL, NO_MEMORY.
MUST_USE enum status engine_backlog_push(struct engine_backlog *backlog, const struct journal_entry *entry,
                                         bool urgent);
// Writes all of it in order, durable; what could not be written stays.
MUST_USE enum status engine_backlog_write(struct engine_backlog *backlog, struct journal *journal,
                                          struct fault *fault);

// ---- order.c: the only way into a core and out of it
// Journals the input, steps, journals the decision, lets it take effect. On failure nothing has taken effect:
// the input was not journalled (the core is untouched), or the decision is owed and engine_journal_owed will
// finish it. What goes back or stops does not wait for a journal that fails: it takes effect, and is
// journalled behind it when that can be.
MUST_USE enum status engine_journal_input(struct engine *engine, struct engine_rollout *rollout,
                                          const struct rollout_input *input, uint32_t run,
                                          struct rollout_effects *effects);
// Journals what is owed and acts on it; STATUS_OK when nothing is owed any more.
MUST_USE enum status engine_journal_owed(struct engine *engine);
// Lets the decision that the rollout is owed stand without effect, so that a word in the safe direction can
// follow.
MUST_USE enum status engine_journal_overtake(struct engine *engine, struct engine_rollout *rollout);
bool engine_command_is_safe(enum rollout_command command);
// of: the rollout that it is about, or NULL.
MUST_USE enum status engine_journal_note(struct engine *engine, enum journal_kind kind,
                                         const struct engine_rollout *of, const char *text);

// ---- baseline.c
// AGAIN until the baseline was seen often enough, then once OK. NO_MEMORY.
MUST_USE enum status engine_baseline_edges(struct engine *engine, struct engine_rollout *rollout,
                                           struct rollout_edges *edges);
uint64_t engine_baseline_count(struct engine *engine, const struct engine_rollout *rollout); // towards those
void engine_baseline_forget(struct engine_rollout *rollout);

// ---- effects.c
void engine_effects_act(struct engine *engine, struct engine_rollout *rollout, uint64_t seq,
                        const struct rollout_effects *effects);

// ---- rollouts.c
// A place for each rollout of the file. Where there is none left, the finished rollout whose run is the
// oldest is forgotten, and the journal told so; what is under way, and what that file or the engine's has,
// stays. STATUS_FULL: nothing can be forgotten; or what the journal says.
MUST_USE enum status engine_rollouts_add(struct engine *engine, const struct config *config,
                                         struct fault *fault);
// A place for a rollout that has none; NULL: all are taken.
struct engine_rollout *engine_rollout_place(struct engine *engine, const char *name);
void engine_rollout_deinit(struct engine *engine, struct engine_rollout *rollout);
// Drops those that were never started and are in no file: there is nothing to tell of them.
void engine_rollouts_sort_out(struct engine *engine);
bool engine_rollout_active(const struct engine_rollout *rollout); // started and not final
// Remembers where the arms' histograms stood, so that a run's quantiles are its own.
void engine_rollout_run_began(struct engine *engine, struct engine_rollout *rollout);
// Whether the file says something else than the run under way.
bool engine_rollout_file_differs(const struct engine *engine, const struct engine_rollout *rollout);
// What may be put in force of the record, as it stands.
void engine_route_take(const struct engine_record *record, struct engine_route *route);
// Whether the run in the record governs under that file.
bool engine_run_applies(const struct engine *engine, const struct config *config,
                        const struct engine_record *record);
// The name of an arm's version or variant; NULL: the run has no such arm.
const char *engine_arm_name(const struct rollout_spec *spec, int arm);

// ---- adopt.c: what another file does to rollouts and services
// STATUS_CONFLICT with a sentence when a rollout under way does not fit the config.
MUST_USE enum status engine_config_fits(const struct engine *engine, const struct config *config,
                                        struct fault *fault);
// Aborts the rollouts under way that do not fit the engine's file: a daemon starts with every valid file.
MUST_USE enum status engine_take_back_misfits(struct engine *engine, struct fault *fault);
// The engine's file is in force; before: the one until now, NULL at a start. Tells whose traffic it moved and
// where its word is not what is served, and journals the edits.
void engine_config_adopted(struct engine *engine, const struct config *before);
// Stands for what counts as an error of the service that the rollout is judged by; 0: it has none.
uint64_t engine_errors_id(const struct config *config, const struct rollout_spec *spec);
// CONFLICT with a sentence when an undo of the completed rollout would not move its service back.
MUST_USE enum status engine_undo_fits(const struct engine *engine, const struct engine_rollout *rollout,
                                      struct fault *fault);

// ---- kill.c
// Counts what the new version or variant did in this tick, rings included.
void engine_kill_note(struct engine_rollout *rollout, const struct rollout_span_delta *spans, uint32_t count);
// Once a tick: aborts the run when its bound is passed, then moves on to the next tick.
void engine_kill_tick(struct engine *engine, struct engine_rollout *rollout);

// ---- tick.c
void engine_tick(struct engine *engine);
