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
    log_write(engine->log, LOG_ERROR,
              "the journal cannot be written: no decision is taken until it can; traffic goes on as it "
              "is; tried again every second",
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

static enum status append_one(struct engine *engine, const struct journal_entry *entry,
                              enum journal_sync sync, uint64_t *seq, struct fault *fault)
{
    fault->status = STATUS_OK;
    enum status status = journal_begin(engine->journal, sync, fault);
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

enum status engine_journal_note(struct engine *engine, enum journal_kind kind, const char *text)
{
    struct fault fault;
    struct journal_entry entry = {.time_ms = engine_wall_ms(engine), .kind = kind, .payload = slice_of(text)};
    return append_one(engine, &entry, JOURNAL_SYNC_NORMAL, NULL, &fault);
}

enum status engine_journal_append(struct engine *engine, enum journal_kind kind, const char *subject,
                                  struct slice payload, uint64_t *seq, struct fault *fault)
{
    struct journal_entry entry = {.time_ms = engine_wall_ms(engine), .kind = kind, .payload = payload};
    utf8_copy(entry.subject, sizeof entry.subject, slice_of(subject));
    return append_one(engine, &entry, JOURNAL_SYNC_FULL, seq, fault);
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

static enum status append_input(struct engine *engine, const struct engine_rollout *rollout,
                                const struct rollout_input *input, uint32_t run, uint64_t *seq)
{
    struct wire_writer writer = {.data = engine->wire, .cap = ROLLOUT_INPUT_WIRE_BYTES_MAX};
    rollout_input_encode(input, &writer);
    struct fault fault;
    struct journal_entry entry = entry_for(rollout, run, input->time_ms, JOURNAL_INPUT, &writer);
    return append_one(engine, &entry, JOURNAL_SYNC_NORMAL, seq, &fault);
}

static enum status append_decision(struct engine *engine, const struct engine_rollout *rollout, uint64_t *seq)
{
    struct wire_writer writer = {.data = engine->wire, .cap = ROLLOUT_INPUT_WIRE_BYTES_MAX};
    rollout_effects_encode(&rollout->owed_effects, &writer);
    struct journal_entry entry =
        entry_for(rollout, rollout->record->run, engine_wall_ms(engine), JOURNAL_DECISION, &writer);
    struct fault fault;
    return append_one(engine, &entry, JOURNAL_SYNC_FULL, seq, &fault);
}

// Takes the owed decision into the journal and lets it take effect.
static enum status settle(struct engine *engine, struct engine_rollout *rollout)
{
    uint64_t seq = 0;
    struct rollout_effects effects = rollout->owed_effects;
    bool journalled = effects.changed || effects.has_verdict;
    if (journalled) {
        enum status status = append_decision(engine, rollout, &seq);
        if (status != STATUS_OK)
            return status;
        engine_record_remember(rollout->record, seq, &effects);
    }
    rollout->owed = false;
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

enum status engine_journal_owed(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->rollout_count; i++) {
        if (!engine->rollouts[i].owed)
            continue;
        enum status status = settle(engine, &engine->rollouts[i]);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}
