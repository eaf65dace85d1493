// SPDX-License-Identifier: Apache-2.0
// Life of control: recovery from the journal, the tick's timer, the acknowledgement of tables, shutdown,
// reload.
#include "control/control.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "control/control_private.h"
#include "control/overlay.h"
#include "control/replay.h"

// ---- small reads ----

int64_t control_wall_ms(const struct control *control)
{
    return io_loop_wall_ms(control->loop);
}

const struct config *control_config(const struct control *control)
{
    return control->config;
}

struct proxy *control_proxy(const struct control *control)
{
    return control->proxy;
}

struct io_loop *control_loop(const struct control *control)
{
    return control->loop;
}

struct control_log *control_log_of(const struct control *control)
{
    return control->log;
}

void control_metric_source_add(struct control *control, struct control_metric_source *source)
{
    list_push_back(&control->metric_sources, &source->link);
}

void control_metric_source_remove(struct control_metric_source *source)
{
    list_remove(&source->link);
}

bool control_draining(const struct control *control)
{
    return control->health.draining;
}

void control_set_listening(struct control *control, bool listening)
{
    control->health.listening = listening;
}

// ---- timers ----

static void on_tick(struct io_timer *timer)
{
    struct control *control = CONTAINER_OF(timer, struct control, tick_timer);
    struct control_health *health = &control->health;
    uint64_t began_us = io_loop_clock_us(control->loop);
    if (began_us > control->tick_due_us + CONTROL_TICK_US) {
        health->ticks_late++;
        control->tick_due_us = began_us;
    }
    control_tick(control);
    health->ticks++;
    health->tick_us = io_loop_clock_us(control->loop) - began_us;
    health->tick_us_max = health->tick_us > health->tick_us_max ? health->tick_us : health->tick_us_max;
    control->tick_due_us += CONTROL_TICK_US;
    io_timer_set(control->loop, timer, control->tick_due_us);
}

static void on_ack_check(struct io_timer *timer)
{
    struct control *control = CONTAINER_OF(timer, struct control, ack_timer);
    struct control_health *health = &control->health;
    if (!control->ack_awaited)
        return;
    health->table_acknowledged = proxy_acknowledged(control->proxy);
    if (health->table_acknowledged < control->table_version) {
        // Before the start nobody acknowledges: then the tick-long pause is enough.
        uint64_t pause_us = health->listening ? CONTROL_ACK_CHECK_MS * 1000 : CONTROL_TICK_US;
        io_timer_set(control->loop, timer, io_loop_now_us(control->loop) + pause_us);
        return;
    }
    control->ack_awaited = false;
    if (!health->listening)
        return;
    health->table_switch_us = io_loop_clock_us(control->loop) - control->published_us;
    if (health->table_switch_us > health->table_switch_us_max)
        health->table_switch_us_max = health->table_switch_us;
    control_log_write(control->log, CONTROL_LOG_DEBUG, "every worker has taken up the routing table",
                      CONTROL_FIELDS(CONTROL_NUMBER("table", control->table_version),
                                     CONTROL_NUMBER("switch_us", health->table_switch_us)));
}

// Whether the rollout ever started. A process may have died between its first specification and its start.
static bool ever_started(const struct control_live *live)
{
    if (live->record == NULL || live->record->run == 0)
        return false;
#ifdef BUG_AUTO_START_HALF_DONE
    return true;
#endif
    struct rollout_view view;
    rollout_view_get(live->record->core, &view);
    return live->record->run > 1 || view.state != ROLLOUT_PENDING;
}

static void start_automatic(struct control *control)
{
    for (uint32_t i = 0; i < control->config->rollout_count; i++) {
        const struct rollout_spec *spec = &control->config->rollouts[i].spec;
        struct control_live *live = control_live_find(control, spec->name);
        if (!spec->start_auto || live == NULL || ever_started(live))
            continue;
        struct control_fault fault;
        if (control_command(control, spec->name, ROLLOUT_COMMAND_START, "sluice", "the file", &fault) !=
            STATUS_OK)
            control_log_write(
                control->log, CONTROL_LOG_ERROR, "a rollout could not be started by itself",
                CONTROL_FIELDS(CONTROL_TEXT("rollout", spec->name), CONTROL_TEXT("why", fault.text)));
    }
}

void control_start(struct control *control)
{
    CHECK(!control->started);
    control->started = true;
    control->health.started_ms = control_wall_ms(control);
    start_automatic(control);
    control->tick_due_us = io_loop_clock_us(control->loop) + CONTROL_TICK_US;
    io_timer_set(control->loop, &control->tick_timer, control->tick_due_us);
}

// ---- recovery ----

static enum status mismatch_fault(const struct control *control, const struct control_replay *replay,
                                  struct control_fault *fault)
{
    return control_fault_set(
        fault, STATUS_MISMATCH,
        "the journal %s cannot be trusted to give the state it gave before: entry %" PRIu64
        " of rollout %s differs.\n"
        "  recorded: %s\n  derived:  %s\n"
        "Nothing was started and nothing was changed. If another version of sluice wrote it, start that one, "
        "or "
        "finish the rollout with it. To go on without this history, move the file away: every rollout then "
        "begins "
        "as never started, with all traffic on its stable version.",
        journal_path(control->journal), replay->difference_seq, replay->difference_subject, replay->recorded,
        replay->derived);
}

static enum status take_cases(struct control *control, struct control_replay *replay,
                              struct control_fault *fault)
{
    for (uint32_t i = 0; i < replay->case_count; i++) {
        struct control_live *live;
        if (control_live_get(control, replay->cases[i]->name, &live) != STATUS_OK)
            return control_fault_set(fault, STATUS_FULL, "more than %d rollouts in the journal",
                                     CONTROL_CASES_MAX);
        live->record = replay->cases[i];
        control_share_take(live->record, &live->share);
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

static enum status add_from_file(struct control *control, const struct config *config,
                                 struct control_fault *fault)
{
    for (uint32_t i = 0; i < config->rollout_count; i++) {
        struct control_live *live;
        if (control_live_get(control, config->rollouts[i].spec.name, &live) != STATUS_OK)
            return control_fault_set(fault, STATUS_FULL,
                                     "more than %d rollouts, those in the journal included",
                                     CONTROL_CASES_MAX);
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

bool control_file_differs(const struct control *control, const struct control_live *live)
{
    const struct config_rollout *entry = config_rollout_find(control->config, live->name);
    return entry != NULL && live->record != NULL && control_case_active(live->record) &&
           !spec_equal(&entry->spec, rollout_spec_of(live->record->core));
}

static void warn_differences(struct control *control)
{
    for (uint32_t i = 0; i < control->live_count; i++) {
        struct control_live *live = &control->live[i];
        if (!control_file_differs(control, live) || live->mismatch_told)
            continue;
        live->mismatch_told = true;
        control_log_write(
            control->log, CONTROL_LOG_WARN,
            "the file changed a rollout that is under way: it goes on as it was started; the change "
            "counts from its next start",
            CONTROL_FIELDS(CONTROL_TEXT("rollout", live->name)));
    }
}

static enum status resume_all(struct control *control, struct control_fault *fault)
{
    enum status status = control_record_note(control, JOURNAL_PROCESS, SLUICE_VERSION);
    if (status == STATUS_OK)
        status = control_record_owed(control);
    for (uint32_t i = 0; i < control->live_count && status == STATUS_OK; i++) {
        struct control_live *live = &control->live[i];
        if (live->record == NULL || live->record->run == 0)
            continue;
        struct rollout_input input = {.kind = ROLLOUT_INPUT_RESUMED, .time_ms = control_wall_ms(control)};
        struct rollout_effects effects;
        status = control_record(control, live, &input, live->record->run, &effects);
    }
    if (status != STATUS_OK)
        return control_fault_set(fault, status, "the journal cannot be written: %s",
                                 control->health.journal_problem);
    return STATUS_OK;
}

static enum status replay_journal(struct control *control, struct control_replay *replay,
                                  struct control_fault *fault)
{
    struct journal_problem problem;
    enum status status = control_replay_run(control->journal, replay, &problem);
    if (status != STATUS_OK)
        return control_fault_set(fault, status, "the journal cannot be replayed: %s", problem.text);
    if (replay->differs)
        return mismatch_fault(control, replay, fault);
    return take_cases(control, replay, fault);
}

static enum status recover(struct control *control, uint32_t readers, struct control_fault *fault)
{
    struct control_replay *replay = heap_alloc(1, sizeof *replay);
    if (replay == NULL)
        return control_fault_set(fault, STATUS_NO_MEMORY, "no memory left to replay the journal");
    replay->overlay = control->flags.overlay;
    enum status status = replay_journal(control, replay, fault);
    uint64_t decisions = replay->decisions;
    uint64_t entries = replay->entries;
    control_replay_deinit(replay);
    heap_free(replay);
    if (status == STATUS_OK)
        status = add_from_file(control, control->config, fault);
    if (status == STATUS_OK)
        status = control_config_fits(control, control->config, fault);
    if (status == STATUS_OK)
        status = control_flags_open(control, readers, fault);
    if (status == STATUS_OK)
        status = resume_all(control, fault);
    if (status == STATUS_OK)
        status = control_publish(control, fault);
    if (status != STATUS_OK)
        return status;
    if (entries > 0)
        control_log_write(
            control->log, CONTROL_LOG_INFO, "the journal was replayed: every decision came out the same",
            CONTROL_FIELDS(CONTROL_TEXT("journal", journal_path(control->journal)),
                           CONTROL_NUMBER("entries", entries), CONTROL_NUMBER("decisions", decisions)));
    warn_differences(control);
    return STATUS_OK;
}

// ---- create and destroy ----

static bool allocate(struct control *control)
{
    control->live = heap_alloc(CONTROL_CASES_MAX, sizeof *control->live);
    control->service_slots = heap_alloc(PROXY_SERVICES_MAX, sizeof *control->service_slots);
    control->version_slots = heap_alloc(PROXY_VERSIONS_MAX, sizeof *control->version_slots);
    control->endpoint_slots = heap_alloc(PROXY_ENDPOINTS_MAX, sizeof *control->endpoint_slots);
    control->rates = heap_alloc(PROXY_SERVICES_MAX, sizeof *control->rates);
    control->spans = heap_alloc(ROLLOUT_TICK_SPANS_MAX, sizeof *control->spans);
    control->wire = heap_alloc(1, ROLLOUT_INPUT_WIRE_BYTES_MAX);
    control->histogram = heap_alloc(1, sizeof *control->histogram);
    control->flags.overlay = heap_alloc(1, sizeof *control->flags.overlay);
    return control->flags.overlay != NULL && control->live != NULL && control->service_slots != NULL &&
           control->version_slots != NULL && control->endpoint_slots != NULL && control->rates != NULL &&
           control->spans != NULL && control->wire != NULL && control->histogram != NULL;
}

void control_destroy(struct control *control)
{
    if (control == NULL)
        return;
    io_timer_clear(control->loop, &control->tick_timer);
    io_timer_clear(control->loop, &control->ack_timer);
    io_timer_clear(control->loop, &control->drain_timer);
    control_flags_close(control);
    for (uint32_t i = 0; i < control->live_count; i++) {
        control_case_destroy(control->live[i].record);
        heap_free(control->live[i].latency_before);
        control_events_free(&control->live[i]);
    }
    heap_free(control->live);
    heap_free(control->service_slots);
    heap_free(control->version_slots);
    heap_free(control->endpoint_slots);
    heap_free(control->rates);
    heap_free(control->spans);
    heap_free(control->wire);
    heap_free(control->histogram);
    config_destroy(control->config);
    heap_free(control);
}

static void on_drain_check(struct io_timer *timer);

enum status control_create(const struct control_parts *parts, struct control **control,
                           struct control_fault *fault)
{
    struct control *made = heap_alloc(1, sizeof *made);
    if (made == NULL)
        return control_fault_set(fault, STATUS_NO_MEMORY, "no memory left");
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
                                        : control_fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    if (status != STATUS_OK) {
        made->config = NULL; // still the caller's
        control_destroy(made);
        return status;
    }
    *control = made;
    return STATUS_OK;
}

// ---- shutdown ----

static void finish(struct control *control)
{
    io_timer_clear(control->loop, &control->tick_timer);
    proxy_stop(control->proxy);
    control_log_flush(control->log, true);
    control->drained(control->drained_context);
}

static void on_drain_check(struct io_timer *timer)
{
    struct control *control = CONTAINER_OF(timer, struct control, drain_timer);
    uint64_t open = proxy_clients_open(control->proxy);
    uint64_t now_us = io_loop_now_us(control->loop);
    if (open > 0 && now_us < control->drain_until_us) {
        io_timer_set(control->loop, timer, now_us + CONTROL_TICK_US / 2);
        return;
    }
    if (open > 0)
        control_log_write(control->log, CONTROL_LOG_WARN,
                          "the time to drain is over: open connections are cut",
                          CONTROL_FIELDS(CONTROL_NUMBER("connections", open)));
    finish(control);
}

void control_shutdown(struct control *control, uint64_t drain_ms, void (*done)(void *context), void *context)
{
    uint64_t now_us = io_loop_now_us(control->loop);
    if (control->health.draining) {
        control->drain_until_us = now_us; // again: at once
        io_timer_set(control->loop, &control->drain_timer, now_us);
        return;
    }
    control->health.draining = true;
    control->drained = done;
    control->drained_context = context;
    control->drain_until_us = now_us + drain_ms * 1000;
    proxy_drain(control->proxy);
    uint64_t open = proxy_clients_open(control->proxy);
    control_log_write(
        control->log, CONTROL_LOG_INFO, "shutting down: no new connections, open ones may finish",
        CONTROL_FIELDS(CONTROL_NUMBER("connections", open), CONTROL_NUMBER("at_most_ms", drain_ms)));
    io_timer_set(control->loop, &control->drain_timer, now_us);
}

// ---- reload ----

static bool addresses_equal(const struct config_address *a, uint32_t a_count, const struct config_address *b,
                            uint32_t b_count)
{
    if (a_count != b_count)
        return false;
    for (uint32_t i = 0; i < a_count; i++)
        if (strcmp(a[i].text, b[i].text) != 0)
            return false;
    return true;
}

static void say_restart(struct control *control, const char *word)
{
    control_log_write(control->log, CONTROL_LOG_WARN,
                      "a changed setting takes effect only when the daemon is started again",
                      CONTROL_FIELDS(CONTROL_TEXT("setting", word)));
}

static void say_restarts(struct control *control, const struct config *now)
{
    const struct config *was = control->config;
    if (!addresses_equal(was->listen, was->listen_count, now->listen, now->listen_count))
        say_restart(control, "listen");
    if (strcmp(was->admin.text, now->admin.text) != 0)
        say_restart(control, "admin");
    if (was->workers != now->workers)
        say_restart(control, "workers");
    if (was->io != now->io)
        say_restart(control, "io");
    if (strcmp(was->journal, now->journal) != 0)
        say_restart(control, "journal");
    if (was->limits.connections != now->limits.connections)
        say_restart(control, "limits.connections");
    if (was->flags.given != now->flags.given)
        say_restart(control, "flags");
    if (strcmp(was->flags.listen.text, now->flags.listen.text) != 0)
        say_restart(control, "flags.listen");
    if (was->flags.threads != now->flags.threads)
        say_restart(control, "flags.threads");
    if (was->flags.rate != now->flags.rate || was->flags.burst != now->flags.burst)
        say_restart(control, "flags.rate");
    if (strcmp(was->flags.share, now->flags.share) != 0)
        say_restart(control, "flags.share");
    if (was->flags.tokens[0] != '\0' && now->flags.tokens[0] == '\0')
        say_restart(control, "flags.tokens");
    if (strcmp(was->flags.cors, now->flags.cors) != 0)
        say_restart(control, "flags.cors");
    if ((was->flags.exposures[0] != '\0') != (now->flags.exposures[0] != '\0'))
        say_restart(control, "flags.exposures");
}

enum status control_reload(struct control *control, struct config *config, struct control_fault *fault)
{
    enum status status = control_config_fits(control, config, fault);
#ifndef BUG_RELOAD_TAKES_BAD_FLAGS
    if (status == STATUS_OK)
        status = control_flags_acceptable(control, config, fault);
#endif
    if (status == STATUS_OK)
        status = add_from_file(control, config, fault);
    if (status != STATUS_OK)
        return status;
    struct config *before = control->config;
    control->config = config;
    control->names_fresh = true;
    status = control_publish(control, fault);
    control->names_fresh = false;
    if (status != STATUS_OK) {
        control->config = before;
        return status;
    }
    control->config = before;
    say_restarts(control, config);
    control->config = config;
    config_destroy(before);
    control_flags_reload(control);
    warn_differences(control);
    control_log_write(control->log, CONTROL_LOG_INFO, "the file was read again and is in force",
                      CONTROL_FIELDS(CONTROL_NUMBER("services", config->service_count),
                                     CONTROL_NUMBER("rollouts", config->rollout_count),
                                     CONTROL_NUMBER("table", control->table_version)));
    return STATUS_OK;
}
