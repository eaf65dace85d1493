// SPDX-License-Identifier: Apache-2.0
// Life of control: recovery from the journal, the tick's timer, the acknowledgement of tables, shutdown,
// reload.
#include "ship/engine/engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "ship/engine/engine_private.h"
#include "ship/engine/overlay.h"
#include "ship/engine/replay.h"

// ---- small reads ----

int64_t engine_wall_ms(const struct engine *engine)
{
    return io_loop_wall_ms(engine->loop);
}

const struct config *engine_config(const struct engine *engine)
{
    return engine->config;
}

struct proxy *engine_proxy(const struct engine *engine)
{
    return engine->proxy;
}

struct io_loop *engine_loop(const struct engine *engine)
{
    return engine->loop;
}

struct engine_log *engine_log_of(const struct engine *engine)
{
    return engine->log;
}

void engine_metric_source_add(struct engine *engine, struct engine_metric_source *source)
{
    list_push_back(&engine->metric_sources, &source->link);
}

void engine_metric_source_remove(struct engine_metric_source *source)
{
    list_remove(&source->link);
}

bool engine_draining(const struct engine *engine)
{
    return engine->health.draining;
}

void engine_set_listening(struct engine *engine, bool listening)
{
    engine->health.listening = listening;
}

// ---- timers ----

static void on_tick(struct io_timer *timer)
{
    struct engine *engine = CONTAINER_OF(timer, struct engine, tick_timer);
    struct engine_health *health = &engine->health;
    uint64_t began_us = io_loop_clock_us(engine->loop);
    if (began_us > engine->tick_due_us + ENGINE_TICK_US) {
        health->ticks_late++;
        engine->tick_due_us = began_us;
    }
    engine_tick(engine);
    health->ticks++;
    health->tick_us = io_loop_clock_us(engine->loop) - began_us;
    health->tick_us_max = health->tick_us > health->tick_us_max ? health->tick_us : health->tick_us_max;
    engine->tick_due_us += ENGINE_TICK_US;
    io_timer_set(engine->loop, timer, engine->tick_due_us);
}

static void on_ack_check(struct io_timer *timer)
{
    struct engine *engine = CONTAINER_OF(timer, struct engine, ack_timer);
    struct engine_health *health = &engine->health;
    if (!engine->ack_awaited)
        return;
    health->table_acknowledged = proxy_acknowledged(engine->proxy);
    if (health->table_acknowledged < engine->table_version) {
        // Before the start nobody acknowledges: then the tick-long pause is enough.
        uint64_t pause_us = health->listening ? ENGINE_ACK_CHECK_MS * 1000 : ENGINE_TICK_US;
        io_timer_set(engine->loop, timer, io_loop_now_us(engine->loop) + pause_us);
        return;
    }
    engine->ack_awaited = false;
    if (!health->listening)
        return;
    health->table_switch_us = io_loop_clock_us(engine->loop) - engine->published_us;
    if (health->table_switch_us > health->table_switch_us_max)
        health->table_switch_us_max = health->table_switch_us;
    engine_log_write(engine->log, ENGINE_LOG_DEBUG, "every worker has taken up the routing table",
                     ENGINE_FIELDS(ENGINE_NUMBER("table", engine->table_version),
                                   ENGINE_NUMBER("switch_us", health->table_switch_us)));
}

// Whether the rollout ever started. A process may have died between its first specification and its start.
static bool ever_started(const struct engine_live *live)
{
    if (live->record == NULL || live->record->run == 0)
        return false;
    struct rollout_view view;
    rollout_view_get(live->record->core, &view);
    return live->record->run > 1 || view.state != ROLLOUT_PENDING;
}

static void start_automatic(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->config->rollout_count; i++) {
        const struct rollout_spec *spec = &engine->config->rollouts[i].spec;
        struct engine_live *live = engine_live_find(engine, spec->name);
        if (!spec->start_auto || live == NULL || ever_started(live))
            continue;
        struct fault fault;
        if (engine_command(engine, spec->name, ROLLOUT_COMMAND_START, "sluice", "the file", &fault) !=
            STATUS_OK)
            engine_log_write(
                engine->log, ENGINE_LOG_ERROR, "a rollout could not be started by itself",
                ENGINE_FIELDS(ENGINE_TEXT("rollout", spec->name), ENGINE_TEXT("why", fault.text)));
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
        "or "
        "finish the rollout with it. To go on without this history, move the file away: every rollout then "
        "begins "
        "as never started, with all traffic on its stable version.",
        journal_path(engine->journal), replay->difference_seq, replay->difference_subject, replay->recorded,
        replay->derived);
}

static enum status take_cases(struct engine *engine, struct engine_replay *replay, struct fault *fault)
{
    for (uint32_t i = 0; i < replay->case_count; i++) {
        struct engine_live *live;
        if (engine_live_get(engine, replay->cases[i]->name, &live) != STATUS_OK)
            return fault_set(fault, STATUS_FULL, "more than %d rollouts in the journal", ENGINE_CASES_MAX);
        live->record = replay->cases[i];
        engine_share_take(live->record, &live->share);
        for (uint32_t j = 0; j < replay->owed_count; j++) {
            if (replay->owed[j].record != live->record)
                continue;
            live->owed = true;
            live->owed_effects = replay->owed[j].effects;
        }
    }
    replay->case_count = 0; // they are control's now
    return STATUS_OK;
}

static enum status add_from_file(struct engine *engine, const struct config *config, struct fault *fault)
{
    for (uint32_t i = 0; i < config->rollout_count; i++) {
        struct engine_live *live;
        if (engine_live_get(engine, config->rollouts[i].spec.name, &live) != STATUS_OK)
            return fault_set(fault, STATUS_FULL, "more than %d rollouts, those in the journal included",
                             ENGINE_CASES_MAX);
    }
    return STATUS_OK;
}

static bool spec_equal(const struct rollout_spec *a, const struct rollout_spec *b)
{
    uint8_t bytes[2][ROLLOUT_SPEC_WIRE_BYTES_MAX];
    struct wire_writer writers[2] = {{.data = bytes[0], .cap = sizeof bytes[0]},
                                     {.data = bytes[1], .cap = sizeof bytes[1]}};
    rollout_spec_encode(a, &writers[0]);
    rollout_spec_encode(b, &writers[1]);
    return writers[0].len == writers[1].len && memcmp(bytes[0], bytes[1], writers[0].len) == 0;
}

bool engine_file_differs(const struct engine *engine, const struct engine_live *live)
{
    const struct config_rollout *entry = config_rollout_find(engine->config, live->name);
    return entry != NULL && live->record != NULL && engine_case_active(live->record) &&
           !spec_equal(&entry->spec, rollout_spec_of(live->record->core));
}

static void warn_differences(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->live_count; i++) {
        struct engine_live *live = &engine->live[i];
        if (!engine_file_differs(engine, live) || live->mismatch_told)
            continue;
        live->mismatch_told = true;
        engine_log_write(
            engine->log, ENGINE_LOG_WARN,
            "the file changed a rollout that is under way: it goes on as it was started; the change "
            "counts from its next start",
            ENGINE_FIELDS(ENGINE_TEXT("rollout", live->name)));
    }
}

static enum status resume_all(struct engine *engine, struct fault *fault)
{
    enum status status = engine_record_note(engine, JOURNAL_PROCESS, SLUICE_VERSION);
    if (status == STATUS_OK)
        status = engine_record_owed(engine);
    for (uint32_t i = 0; i < engine->live_count && status == STATUS_OK; i++) {
        struct engine_live *live = &engine->live[i];
        if (live->record == NULL || live->record->run == 0)
            continue;
        struct rollout_input input = {.kind = ROLLOUT_INPUT_RESUMED, .time_ms = engine_wall_ms(engine)};
        struct rollout_effects effects;
        status = engine_record(engine, live, &input, live->record->run, &effects);
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
    return take_cases(engine, replay, fault);
}

static enum status recover(struct engine *engine, uint32_t readers, struct fault *fault)
{
    struct engine_replay *replay = heap_alloc(1, sizeof *replay);
    if (replay == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left to replay the journal");
    replay->overlay = engine->flags.overlay;
    enum status status = replay_journal(engine, replay, fault);
    uint64_t decisions = replay->decisions;
    uint64_t entries = replay->entries;
    engine_replay_deinit(replay);
    heap_free(replay);
    if (status == STATUS_OK)
        status = add_from_file(engine, engine->config, fault);
    if (status == STATUS_OK)
        status = engine_config_fits(engine, engine->config, fault);
    if (status == STATUS_OK)
        status = engine_flags_open(engine, readers, fault);
    if (status == STATUS_OK)
        status = resume_all(engine, fault);
    if (status == STATUS_OK)
        status = engine_publish(engine, fault);
    if (status != STATUS_OK)
        return status;
    if (entries > 0)
        engine_log_write(
            engine->log, ENGINE_LOG_INFO, "the journal was replayed: every decision came out the same",
            ENGINE_FIELDS(ENGINE_TEXT("journal", journal_path(engine->journal)),
                          ENGINE_NUMBER("entries", entries), ENGINE_NUMBER("decisions", decisions)));
    warn_differences(engine);
    return STATUS_OK;
}

// ---- create and destroy ----

static bool allocate(struct engine *engine)
{
    engine->live = heap_alloc(ENGINE_CASES_MAX, sizeof *engine->live);
    engine->service_slots = heap_alloc(PROXY_SERVICES_MAX, sizeof *engine->service_slots);
    engine->version_slots = heap_alloc(PROXY_VERSIONS_MAX, sizeof *engine->version_slots);
    engine->endpoint_slots = heap_alloc(PROXY_ENDPOINTS_MAX, sizeof *engine->endpoint_slots);
    engine->rates = heap_alloc(PROXY_SERVICES_MAX, sizeof *engine->rates);
    engine->spans = heap_alloc(ROLLOUT_TICK_SPANS_MAX, sizeof *engine->spans);
    engine->wire = heap_alloc(1, ROLLOUT_INPUT_WIRE_BYTES_MAX);
    engine->histogram = heap_alloc(1, sizeof *engine->histogram);
    engine->flags.overlay = heap_alloc(1, sizeof *engine->flags.overlay);
    return engine->flags.overlay != NULL && engine->live != NULL && engine->service_slots != NULL &&
           engine->version_slots != NULL && engine->endpoint_slots != NULL && engine->rates != NULL &&
           engine->spans != NULL && engine->wire != NULL && engine->histogram != NULL;
}

void engine_destroy(struct engine *engine)
{
    if (engine == NULL)
        return;
    io_timer_clear(engine->loop, &engine->tick_timer);
    io_timer_clear(engine->loop, &engine->ack_timer);
    io_timer_clear(engine->loop, &engine->drain_timer);
    engine_flags_close(engine);
    for (uint32_t i = 0; i < engine->live_count; i++) {
        engine_case_destroy(engine->live[i].record);
        heap_free(engine->live[i].latency_before);
        engine_events_free(&engine->live[i]);
    }
    heap_free(engine->live);
    heap_free(engine->service_slots);
    heap_free(engine->version_slots);
    heap_free(engine->endpoint_slots);
    heap_free(engine->rates);
    heap_free(engine->spans);
    heap_free(engine->wire);
    heap_free(engine->histogram);
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
    made->proxy = parts->proxy;
    made->journal = parts->journal;
    made->log = parts->log;
    list_init(&made->watchers);
    list_init(&made->flags.watchers);
    list_init(&made->metric_sources);
    io_timer_init(&made->tick_timer, on_tick);
    io_timer_init(&made->ack_timer, on_ack_check);
    io_timer_init(&made->drain_timer, on_drain_check);
    enum status status = allocate(made) ? recover(made, parts->workers + parts->flag_readers, fault)
                                        : fault_set(fault, STATUS_NO_MEMORY, "no memory left");
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
    proxy_stop(engine->proxy);
    engine_log_flush(engine->log, true);
    engine->drained(engine->drained_context);
}

static void on_drain_check(struct io_timer *timer)
{
    struct engine *engine = CONTAINER_OF(timer, struct engine, drain_timer);
    uint64_t open = proxy_clients_open(engine->proxy);
    uint64_t now_us = io_loop_now_us(engine->loop);
    if (open > 0 && now_us < engine->drain_until_us) {
        io_timer_set(engine->loop, timer, now_us + ENGINE_TICK_US / 2);
        return;
    }
    if (open > 0)
        engine_log_write(engine->log, ENGINE_LOG_WARN, "the time to drain is over: open connections are cut",
                         ENGINE_FIELDS(ENGINE_NUMBER("connections", open)));
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
    proxy_drain(engine->proxy);
    uint64_t open = proxy_clients_open(engine->proxy);
    engine_log_write(
        engine->log, ENGINE_LOG_INFO, "shutting down: no new connections, open ones may finish",
        ENGINE_FIELDS(ENGINE_NUMBER("connections", open), ENGINE_NUMBER("at_most_ms", drain_ms)));
    io_timer_set(engine->loop, &engine->drain_timer, now_us);
}

// ---- reload ----

static void say_restart(void *context, const char *word)
{
    const struct engine *engine = context;
    engine_log_write(engine->log, ENGINE_LOG_WARN,
                     "a changed setting takes effect only when the daemon is started again",
                     ENGINE_FIELDS(ENGINE_TEXT("setting", word)));
}

enum status engine_reload(struct engine *engine, struct config *config, struct fault *fault)
{
    enum status status = engine_config_fits(engine, config, fault);
    if (status == STATUS_OK)
        status = engine_flags_acceptable(engine, config, fault);
    if (status == STATUS_OK)
        status = add_from_file(engine, config, fault);
    if (status != STATUS_OK)
        return status;
    struct config *before = engine->config;
    engine->config = config;
    engine->names_fresh = true;
    status = engine_publish(engine, fault);
    engine->names_fresh = false;
    if (status != STATUS_OK) {
        engine->config = before;
        return status;
    }
    config_restarts(before, config, say_restart, engine);
    config_destroy(before);
    engine_flags_reload(engine);
    warn_differences(engine);
    engine_log_write(engine->log, ENGINE_LOG_INFO, "the file was read again and is in force",
                     ENGINE_FIELDS(ENGINE_NUMBER("services", config->service_count),
                                   ENGINE_NUMBER("rollouts", config->rollout_count),
                                   ENGINE_NUMBER("table", engine->table_version)));
    return STATUS_OK;
}
