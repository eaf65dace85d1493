// SPDX-License-Identifier: Apache-2.0
// The order that everything rests on: input into the journal, then the core, then the decision into the
// journal (durable against power loss), then its effect. No other file of the running daemon steps a
// core or acts on its effects; a replay steps cores without any effect.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/utf8.h"
#include "ship/engine/engine_private.h"

static void journal_failed(struct engine *engine, const struct fault *fault)
{
    struct engine_health *health = &engine->health;
    health->journal_failures++;
    snprintf(health->journal_problem, sizeof health->journal_problem, "%s", fault->text);
    engine->journal_retry_us = io_loop_now_us(engine->loop) + ENGINE_JOURNAL_RETRY_MS * 1000;
    if (health->journal_failing)
        return;
    health->journal_failing = true;
    health->journal_failing_since_ms = engine_wall_ms(engine);
    log_write(
        engine->log, LOG_ERROR,
        "the journal cannot be written: nothing moves forward until it can; what goes back or is switched "
        "off takes effect at once; tried again every second",
        LOG_FIELDS(LOG_TEXT("problem", fault->text)));
}

static void journal_works(struct engine *engine)
{
    struct engine_health *health = &engine->health;
    if (!health->journal_failing)
        return;
    health->journal_failing = false;
    int64_t failed_ms = engine_wall_ms(engine) - health->journal_failing_since_ms;
    log_write(engine->log, LOG_INFO, "the journal can be written again: decisions go on",
              LOG_FIELDS(LOG_NUMBER("failed_ms", (uint64_t)(failed_ms > 0 ? failed_ms : 0))));
}

// Whatever comes stands behind what waits for the journal already. While that fails it is tried once a
// second.
static bool must_wait(const struct engine *engine)
{
    return engine->backlog.count > 0 && engine->health.journal_failing &&
           io_loop_now_us(engine->loop) < engine->journal_retry_us;
}

static enum status write_behind(struct engine *engine, struct fault *fault)
{
    return engine->backlog.count == 0 ? STATUS_OK
                                      : engine_backlog_write(&engine->backlog, engine->journal, fault);
}

static enum status append_one(struct engine *engine, const struct journal_entry *entry,
                              enum journal_sync sync, uint64_t *seq, struct fault *fault)
{
    if (must_wait(engine))
        return fault_set(fault, STATUS_IO, "%s", engine->health.journal_problem);
    fault->status = STATUS_OK;
    enum status status = write_behind(engine, fault);
    if (status == STATUS_OK)
        status = journal_begin(engine->journal, sync, fault);
    if (status == STATUS_OK)
        status = journal_append(engine->journal, entry, seq, fault);
    if (status == STATUS_OK)
        status = journal_commit(engine->journal, fault);
    if (status != STATUS_OK)
        journal_failed(engine, fault);
    else
        journal_works(engine);
    return status;
}

// As append_one, but what may not wait for the journal waits behind it: STATUS_OK with *seq 0.
static enum status append_or_hold(struct engine *engine, const struct journal_entry *entry,
                                  enum journal_sync sync, bool hold, bool urgent, uint64_t *seq,
                                  struct fault *fault)
{
    enum status status = append_one(engine, entry, sync, seq, fault);
    if (status == STATUS_OK || !hold)
        return status;
    *seq = 0;
    enum status held = engine_backlog_push(&engine->backlog, entry, urgent);
    return held == STATUS_OK ? STATUS_OK : status;
}

enum status engine_journal_note(struct engine *engine, enum journal_kind kind,
                                const struct engine_rollout *of, const char *text)
{
    struct fault fault;
    struct journal_entry entry = {.time_ms = engine_wall_ms(engine), .kind = kind, .payload = slice_of(text)};
    if (of != NULL) {
        entry.run = of->record->run;
        snprintf(entry.subject, sizeof entry.subject, "%s", of->name);
    }
    return append_one(engine, &entry, JOURNAL_SYNC_NORMAL, NULL, &fault);
}

enum status engine_journal_append(struct engine *engine, enum journal_kind kind, const char *subject,
                                  struct slice payload, bool safe, uint64_t *seq, struct fault *fault)
{
    struct journal_entry entry = {.time_ms = engine_wall_ms(engine), .kind = kind, .payload = payload};
    utf8_copy(entry.subject, sizeof entry.subject, slice_of(subject));
    return append_or_hold(engine, &entry, JOURNAL_SYNC_FULL, safe, safe, seq, fault);
}

static struct journal_entry entry_for(const struct engine_rollout *rollout, uint32_t run, int64_t time_ms,
                                      enum journal_kind kind, const struct wire_writer *writer)
{
    CHECK(!writer->full);
    struct journal_entry entry = {
        .time_ms = time_ms, .kind = kind, .run = run, .payload = {(const char *)writer->data, writer->len}};
    snprintf(entry.subject, sizeof entry.subject, "%s", rollout->name);
    return entry;
}

bool engine_command_is_safe(enum rollout_command command)
{
    return command == ROLLOUT_COMMAND_ABORT || command == ROLLOUT_COMMAND_UNDO ||
           command == ROLLOUT_COMMAND_PAUSE;
}

// A tick that is told to hold forward moves, words that lead back, and what only makes evidence less, may be
// taken before they are journalled.
static bool may_run_ahead(const struct rollout_input *input)
{
    if (input->kind == ROLLOUT_INPUT_COMMAND)
        return engine_command_is_safe(input->command.command);
    return input->kind == ROLLOUT_INPUT_REDEFINED || (input->kind == ROLLOUT_INPUT_TICK && input->tick.hold);
}

static enum status append_input(struct engine *engine, const struct engine_rollout *rollout,
                                const struct rollout_input *input, uint32_t run, uint64_t *seq)
{
    struct wire_writer writer = {.data = engine->wire, .cap = ROLLOUT_INPUT_WIRE_BYTES_MAX};
    rollout_input_encode(input, &writer);
    struct fault fault;
    struct journal_entry entry = entry_for(rollout, run, input->time_ms, JOURNAL_INPUT, &writer);
    return append_or_hold(engine, &entry, JOURNAL_SYNC_NORMAL, may_run_ahead(input),
                          input->kind == ROLLOUT_INPUT_COMMAND, seq, &fault);
}

static bool leads_back(const struct rollout_effects *effects)
{
    return effects->to == ROLLOUT_ROLLING_BACK || effects->to == ROLLOUT_ROLLED_BACK;
}

// A pause leaves the weight that is in force; one that was decided and never took effect waits with it.
static bool is_safe(const struct engine_rollout *rollout, const struct rollout_effects *effects)
{
    return leads_back(effects) || (effects->to == ROLLOUT_PAUSED && effects->weight <= rollout->route.weight);
}

static struct journal_entry decision_entry(struct engine *engine, const struct engine_rollout *rollout)
{
    struct wire_writer writer = {.data = engine->wire, .cap = ROLLOUT_INPUT_WIRE_BYTES_MAX};
    rollout_effects_encode(&rollout->owed_effects, &writer);
    return entry_for(rollout, rollout->record->run, engine_wall_ms(engine), JOURNAL_DECISION, &writer);
}

static enum status append_decision(struct engine *engine, const struct engine_rollout *rollout, uint64_t *seq,
                                   int64_t *time_ms)
{
    struct journal_entry entry = decision_entry(engine, rollout);
    *time_ms = entry.time_ms;
    struct fault fault;
    bool safe = is_safe(rollout, &rollout->owed_effects);
    enum status status = append_or_hold(engine, &entry, JOURNAL_SYNC_FULL, safe, safe, seq, &fault);
    if (status == STATUS_OK && engine->backlog.count > 0)
        log_write(
            engine->log, LOG_WARN,
            "a decision took effect before it could be journalled: a restart before it is would not know it",
            LOG_FIELDS(LOG_TEXT("rollout", rollout->name), LOG_NUMBER("waiting", engine->backlog.count)));
    return status;
}

// Takes the owed decision into the journal and lets it take effect.
static enum status settle(struct engine *engine, struct engine_rollout *rollout)
{
    uint64_t seq = 0;
    struct rollout_effects effects = rollout->owed_effects;
    bool journalled = effects.changed || effects.has_verdict;
    if (journalled) {
        int64_t time_ms;
        enum status status = append_decision(engine, rollout, &seq, &time_ms);
        if (status != STATUS_OK)
            return status;
        engine_record_remember(rollout->record, seq, time_ms, &effects);
    }
    rollout->owed = false;
    // A word that was refused puts nothing in force that was overtaken and stands in no journal yet.
    if (rollout->publish_owed && !journalled)
        return STATUS_OK;
    effects.publish |= rollout->publish_owed;
    rollout->publish_owed = false;
    engine_route_take(rollout->record, &rollout->route);
    engine_effects_act(engine, rollout, seq, &effects);
    return STATUS_OK;
}

enum status engine_journal_input(struct engine *engine, struct engine_rollout *rollout,
                                 const struct rollout_input *input, uint32_t run,
                                 struct rollout_effects *effects)
{
    CHECK(!rollout->owed && rollout->record != NULL);
    uint64_t seq = 0;
    enum status status = append_input(engine, rollout, input, run, &seq);
    if (status != STATUS_OK)
        return status;
    engine_record_step(rollout->record, input, run, seq, &rollout->owed_effects);
    *effects = rollout->owed_effects;
    rollout->owed = true;
    rollout->stepped_tick = engine->host->tick(engine->world);
    return settle(engine, rollout);
}

enum status engine_journal_overtake(struct engine *engine, struct engine_rollout *rollout)
{
    if (!rollout->owed)
        return STATUS_OK;
    if (rollout->owed_effects.changed || rollout->owed_effects.has_verdict) {
        struct journal_entry entry = decision_entry(engine, rollout);
        enum status status = engine_backlog_push(&engine->backlog, &entry, true);
        if (status != STATUS_OK)
            return status;
        engine_record_remember(rollout->record, 0, entry.time_ms, &rollout->owed_effects);
    }
    rollout->publish_owed |= rollout->owed_effects.publish;
    rollout->owed = false;
    return STATUS_OK;
}

enum status engine_journal_owed(struct engine *engine)
{
    if (must_wait(engine))
        return STATUS_IO;
    struct fault fault;
    enum status status = write_behind(engine, &fault);
    if (status != STATUS_OK) {
        journal_failed(engine, &fault);
        return status;
    }
    for (uint32_t i = 0; i < engine->rollout_count; i++) {
        if (!engine->rollouts[i].owed)
            continue;
        status = settle(engine, &engine->rollouts[i]);
        if (status != STATUS_OK)
            return status;
    }
    for (uint32_t i = 0; i < engine->rollout_count; i++) {
        struct engine_rollout *rollout = &engine->rollouts[i];
        if (!rollout->publish_owed)
            continue;
        rollout->publish_owed = false;
        engine_route_take(rollout->record, &rollout->route);
        engine->targets[rollout->route.spec.target]->apply(engine->world);
    }
    return STATUS_OK;
}
