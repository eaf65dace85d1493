// SPDX-License-Identifier: Apache-2.0
// Life of the engine: recovery from the journal, the tick's timer, shutdown, reload.
#include "ship/engine/engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "ship/engine/engine_private.h"
#include "ship/engine/replay.h"

void engine_metric_source_add(struct engine *engine, struct engine_metric_source *source)
{
    list_push_back(&engine->metric_sources, &source->link);
}

void engine_metric_source_remove(struct engine_metric_source *source)
{
    list_remove(&source->link);
}

// ---- timers ----

const uint16_t engine_decision_ms[ENGINE_DECISION_BUCKETS] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000};

static void note_decision(struct engine_health *health, uint64_t took_us)
{
    uint32_t at = 0;
    while (at < ENGINE_DECISION_BUCKETS && took_us > engine_decision_ms[at] * UINT64_C(1000))
        at++;
    if (at < ENGINE_DECISION_BUCKETS)
        health->decisions[at]++;
    health->decisions_us += took_us;
}

static void on_tick(struct io_timer *timer)
{
    struct engine *engine = CONTAINER_OF(timer, struct engine, tick_timer);
    struct engine_health *health = &engine->health;
    uint64_t began_us = io_loop_clock_us(engine->loop);
    health->delay_us = began_us > engine->tick_due_us ? began_us - engine->tick_due_us : 0;
    if (health->delay_us > health->delay_us_max)
        health->delay_us_max = health->delay_us;
    if (began_us > engine->tick_due_us + ENGINE_TICK_US) {
        health->ticks_late++;
        engine->tick_due_us = began_us;
    }
    engine_tick(engine);
    health->ticks++;
    health->tick_us = io_loop_clock_us(engine->loop) - began_us;
    health->tick_us_max = health->tick_us > health->tick_us_max ? health->tick_us : health->tick_us_max;
    note_decision(health, health->delay_us + health->tick_us);
    engine->tick_due_us += ENGINE_TICK_US;
    io_timer_set(engine->loop, timer, engine->tick_due_us);
}

// Whether the rollout ever started. A process may have died between its first specification and its start.
static bool ever_started(const struct engine_rollout *rollout)
{
    if (rollout->record == NULL || rollout->record->run == 0)
        return false;
    struct rollout_view view;
    rollout_view_get(rollout->record->core, &view);
    return rollout->record->run > 1 || view.state != ROLLOUT_PENDING;
}

static void start_automatic(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->config->rollout_count; i++) {
        const struct rollout_spec *spec = &engine->config->rollouts[i].spec;
        struct engine_rollout *rollout = engine_rollout_find(engine, spec->name);
        if (!spec->start_auto || rollout == NULL || ever_started(rollout))
            continue;
        struct fault fault;
        if (engine_command(engine, spec->name, ROLLOUT_COMMAND_START, "sluice", "the file", &fault) !=
            STATUS_OK)
            log_write(engine->log, LOG_ERROR, "a rollout could not be started by itself",
                      LOG_FIELDS(LOG_TEXT("rollout", spec->name), LOG_TEXT("why", fault.text)));
    }
}

void engine_start(struct engine *engine)
{
    CHECK(!engine->started);
    engine->started = true;
    engine->health.started_ms = engine_wall_ms(engine);
    start_automatic(engine);
    engine->tick_due_us = io_loop_clock_us(engine->loop) + ENGINE_TICK_US;
    io_timer_set(engine->loop, &engine->tick_timer, engine->tick_due_us);
}

// ---- recovery ----

static enum status mismatch_fault(const struct engine *engine, const struct engine_replay *replay,
                                  struct fault *fault)
{
    return fault_set(
        fault, STATUS_MISMATCH,
        "the journal %s cannot be trusted to give the state it gave before: entry %" PRIu64
        " of rollout %s differs.\n"
        "  recorded: %s\n  derived:  %s\n"
        "Nothing was started and nothing was changed. If another version of sluice wrote it, start that one, "
        "or finish the rollout with it. To go on without this history, move the file away: every rollout then "
        "begins as never started, with all traffic on its stable version.",
        journal_path(engine->journal), replay->difference_seq, replay->difference_subject, replay->recorded,
        replay->derived);
}

static void take_records(struct engine *engine, struct engine_replay *replay)
{
    for (uint32_t i = 0; i < replay->record_count; i++) {
        struct engine_rollout *rollout = engine_rollout_place(engine, replay->records[i]->name);
        CHECK(rollout != NULL);
        rollout->record = replay->records[i];
        engine_route_take(rollout->record, &rollout->route);
        for (uint32_t j = 0; j < replay->owed_count; j++) {
            if (replay->owed[j].record != rollout->record)
                continue;
            rollout->owed = true;
            rollout->owed_effects = replay->owed[j].effects;
        }
    }
    replay->record_count = 0; // they are the engine's now
    engine->stables = replay->stables;
}

static void warn_differences(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->rollout_count; i++) {
        struct engine_rollout *rollout = &engine->rollouts[i];
        if (!engine_rollout_file_differs(engine, rollout) || rollout->mismatch_told)
            continue;
        rollout->mismatch_told = true;
        log_write(engine->log, LOG_WARN,
                  "the file changed a rollout that is under way: it goes on as it was started; the change "
                  "counts from its next start",
                  LOG_FIELDS(LOG_TEXT("rollout", rollout->name)));
    }
}

static enum status resume_all(struct engine *engine, struct fault *fault)
{
    enum status status = engine_journal_note(engine, JOURNAL_PROCESS, NULL, SLUICE_VERSION);
    if (status == STATUS_OK)
        status = engine_journal_owed(engine);
    for (uint32_t i = 0; i < engine->rollout_count && status == STATUS_OK; i++) {
        struct engine_rollout *rollout = &engine->rollouts[i];
        if (rollout->record == NULL || rollout->record->run == 0)
            continue;
        struct rollout_input input = {.kind = ROLLOUT_INPUT_RESUMED, .time_ms = engine_wall_ms(engine)};
        input.resumed.strangers = true;
        input.resumed.errors_id = engine_errors_id(engine->config, rollout_spec_of(rollout->record->core));
        struct rollout_effects effects;
        if (rollout->record->foreign.on) {
            input = engine_record_takeover(rollout->record, input.time_ms);
            if (engine_rollout_active(rollout))
                log_write(
                    engine->log, LOG_WARN,
                    "a run was begun under a rule of decision that this version no longer has: it keeps its "
                    "stage and weight, and evidence is gathered afresh",
                    LOG_FIELDS(LOG_TEXT("rollout", rollout->name),
                               LOG_NUMBER("rule", rollout->record->foreign.rule),
                               LOG_NUMBER("now", ROLLOUT_RULE)));
        }
        status = engine_journal_input(engine, rollout, &input, rollout->record->run, &effects);
    }
    if (status != STATUS_OK)
        return fault_set(fault, status, "the journal cannot be written: %s", engine->health.journal_problem);
    return STATUS_OK;
}

static enum status replay_journal(struct engine *engine, struct engine_replay *replay, struct fault *fault)
{
    struct fault read;
    enum status status = engine_replay_run(engine->journal, replay, &read);
    if (status != STATUS_OK)
        return fault_set(fault, status, "the journal cannot be replayed: %s", read.text);
    if (replay->differs)
        return mismatch_fault(engine, replay, fault);
    take_records(engine, replay);
    return STATUS_OK;
}

static enum status recover(struct engine *engine, struct fault *fault)
{
    struct engine_replay *replay = heap_alloc(1, sizeof *replay);
    if (replay == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left to replay the journal");
    replay->fold = engine->host->fold;
    replay->fold_context = engine->world;
    enum status status = replay_journal(engine, replay, fault);
    uint64_t decisions = replay->decisions;
    uint64_t entries = replay->entries, foreign = replay->foreign;
    engine_replay_deinit(replay);
    heap_free(replay);
    if (status == STATUS_OK)
        status = engine_rollouts_add(engine, engine->config, fault);
    engine_stable_fill(&engine->stables, engine->config);
    if (status == STATUS_OK)
        status = engine->host->open(engine->world, engine, fault);
    if (status == STATUS_OK)
        status = resume_all(engine, fault);
    if (status == STATUS_OK)
        status = engine_take_back_misfits(engine, fault);
    if (status == STATUS_OK)
        status = engine->host->publish(engine->world, true, fault);
    if (status != STATUS_OK)
        return status;
    if (entries > 0)
        log_write(engine->log, LOG_INFO, "the journal was replayed: every decision came out the same",
                  LOG_FIELDS(LOG_TEXT("journal", journal_path(engine->journal)),
                             LOG_NUMBER("entries", entries), LOG_NUMBER("decisions", decisions),
                             LOG_NUMBER("of_older_rules", foreign)));
    warn_differences(engine);
    engine_config_adopted(engine, NULL);
    return STATUS_OK;
}

// ---- create and destroy ----

static bool allocate(struct engine *engine)
{
    engine->rollouts = heap_alloc(ENGINE_ROLLOUTS_MAX, sizeof *engine->rollouts);
    engine->spans = heap_alloc(ROLLOUT_TICK_SPANS_MAX, sizeof *engine->spans);
    engine->wire = heap_alloc(1, ROLLOUT_INPUT_WIRE_BYTES_MAX);
    engine->histogram = heap_alloc(1, sizeof *engine->histogram);
    engine->histogram_part = heap_alloc(1, sizeof *engine->histogram_part);
    engine->failures = heap_alloc(1, sizeof *engine->failures);
    return engine->rollouts != NULL && engine->spans != NULL && engine->wire != NULL &&
           engine->histogram != NULL && engine->histogram_part != NULL && engine->failures != NULL;
}

void engine_destroy(struct engine *engine)
{
    if (engine == NULL)
        return;
    io_timer_clear(engine->loop, &engine->tick_timer);
    io_timer_clear(engine->loop, &engine->drain_timer);
    for (uint32_t i = 0; i < engine->rollout_count; i++)
        engine_rollout_deinit(engine, &engine->rollouts[i]);
    heap_free(engine->rollouts);
    heap_free(engine->spans);
    heap_free(engine->wire);
    heap_free(engine->histogram);
    heap_free(engine->histogram_part);
    heap_free(engine->failures);
    if (engine->backlog.count > 0)
        log_write(engine->log, LOG_ERROR,
                  "the journal could not be written to the end: what took effect without it is not in it",
                  LOG_FIELDS(LOG_NUMBER("entries", engine->backlog.count)));
    engine_backlog_deinit(&engine->backlog);
    config_destroy(engine->config);
    heap_free(engine);
}

static void on_drain_check(struct io_timer *timer);

enum status engine_create(const struct engine_parts *parts, struct engine **engine, struct fault *fault)
{
    struct engine *made = heap_alloc(1, sizeof *made);
    if (made == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    made->config = parts->config;
    made->loop = parts->loop;
    made->journal = parts->journal;
    made->log = parts->log;
    made->host = parts->host;
    made->targets = parts->targets;
    made->sources = parts->sources;
    made->world = parts->world;
    memcpy(made->secret, parts->secret, sizeof made->secret);
    engine_backlog_init(&made->backlog);
    list_init(&made->watchers);
    list_init(&made->metric_sources);
    io_timer_init(&made->tick_timer, on_tick);
    io_timer_init(&made->drain_timer, on_drain_check);
    enum status status =
        allocate(made) ? recover(made, fault) : fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    if (status != STATUS_OK) {
        made->config = NULL; // still the caller's
        engine_destroy(made);
        return status;
    }
    *engine = made;
    return STATUS_OK;
}

// ---- shutdown ----

static void finish(struct engine *engine)
{
    io_timer_clear(engine->loop, &engine->tick_timer);
    engine->host->stop(engine->world);
    struct fault fault;
    if (!engine->retired)
        (void)!engine_backlog_write(&engine->backlog, engine->journal, &fault); // destroy tells what is left
    log_flush(engine->log, true);
    engine->drained(engine->drained_context);
}

static void on_drain_check(struct io_timer *timer)
{
    struct engine *engine = CONTAINER_OF(timer, struct engine, drain_timer);
    uint64_t open = engine->host->open_count(engine->world);
    uint64_t now_us = io_loop_now_us(engine->loop);
    if (open > 0 && now_us < engine->drain_until_us) {
        io_timer_set(engine->loop, timer, now_us + ENGINE_TICK_US / 2);
        return;
    }
    if (open > 0)
        log_write(engine->log, LOG_WARN, "the time to drain is over: open connections are cut",
                  LOG_FIELDS(LOG_NUMBER("connections", open)));
    finish(engine);
}

void engine_shutdown(struct engine *engine, uint64_t drain_ms, void (*done)(void *context), void *context)
{
    uint64_t now_us = io_loop_now_us(engine->loop);
    if (engine->health.draining) {
        engine->drain_until_us = now_us; // again: at once
        io_timer_set(engine->loop, &engine->drain_timer, now_us);
        return;
    }
    engine->health.draining = true;
    engine->drained = done;
    engine->drained_context = context;
    engine->drain_until_us = now_us + drain_ms * 1000;
    engine->host->drain(engine->world);
    uint64_t open = engine->host->open_count(engine->world);
    log_write(engine->log, LOG_INFO, "shutting down: no new connections, open ones may finish",
              LOG_FIELDS(LOG_NUMBER("connections", open), LOG_NUMBER("at_most_ms", drain_ms)));
    io_timer_set(engine->loop, &engine->drain_timer, now_us);
}

void engine_retire(struct engine *engine)
{
    struct fault fault;
    io_timer_clear(engine->loop, &engine->tick_timer);
    (void)!engine_backlog_write(&engine->backlog, engine->journal, &fault); // destroy tells what is left
    engine->retired = true;
}

void engine_be_careful(struct engine *engine)
{
    engine->health.careful = true;
}

// ---- reload ----

static void say_restart(void *context, const char *word)
{
    const struct engine *engine = context;
    log_write(engine->log, LOG_WARN, "a changed setting takes effect only when the daemon is started again",
              LOG_FIELDS(LOG_TEXT("setting", word)));
}

enum status engine_reload(struct engine *engine, struct config *config, struct fault *fault)
{
    engine_stable_fill(&engine->stables, config);
    enum status status = engine_config_fits(engine, config, fault);
    if (status == STATUS_OK)
        status = engine->host->accept(engine->world, config, fault);
    if (status == STATUS_OK)
        status = engine_rollouts_add(engine, config, fault);
    struct config *before = engine->config;
    if (status == STATUS_OK) {
        engine->config = config;
        status = engine->host->publish(engine->world, true, fault);
    }
    if (status != STATUS_OK)
        engine->config = before;
    engine_rollouts_sort_out(engine);
    if (status != STATUS_OK)
        return status;
    config_restarts(before, config, say_restart, engine);
    engine_config_adopted(engine, before);
    config_destroy(before);
    engine->host->reloaded(engine->world);
    warn_differences(engine);
    log_write(engine->log, LOG_INFO, "the file was read again and is in force",
              LOG_FIELDS(LOG_NUMBER("services", config->service_count),
                         LOG_NUMBER("rollouts", config->rollout_count),
                         LOG_NUMBER("table", engine->host->table_version(engine->world))));
    return STATUS_OK;
}
