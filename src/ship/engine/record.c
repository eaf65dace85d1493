// SPDX-License-Identifier: Apache-2.0
// The order that everything rests on: input into the journal, then the core, then the decision into the
// journal (durable against power loss), then its effect. No other file steps a core or acts on its effects.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/utf8.h"
#include "ship/engine/engine_private.h"

void engine_journal_failed(struct engine *engine, const struct fault *fault)
{
    struct engine_health *health = &engine->health;
    health->journal_failures++;
    snprintf(health->journal_problem, sizeof health->journal_problem, "%s", fault->text);
    engine->journal_retry_us = io_loop_now_us(engine->loop) + ENGINE_JOURNAL_RETRY_MS * 1000;
    if (health->journal_failing)
        return;
    health->journal_failing = true;
    health->journal_failing_since_ms = engine_wall_ms(engine);
    engine_log_write(
        engine->log, ENGINE_LOG_ERROR,
        "the journal cannot be written: no decision is taken until it can; traffic goes on as it "
        "is; tried again every second",
        ENGINE_FIELDS(ENGINE_TEXT("problem", fault->text)));
}

void engine_journal_works(struct engine *engine)
{
    struct engine_health *health = &engine->health;
    if (!health->journal_failing)
        return;
    health->journal_failing = false;
    int64_t failed_ms = engine_wall_ms(engine) - health->journal_failing_since_ms;
    engine_log_write(engine->log, ENGINE_LOG_INFO, "the journal can be written again: decisions go on",
                     ENGINE_FIELDS(ENGINE_NUMBER("failed_ms", (uint64_t)(failed_ms > 0 ? failed_ms : 0))));
}

static enum status append_one(struct engine *engine, const struct journal_entry *entry,
                              enum journal_sync sync, uint64_t *seq)
{
    struct fault fault = {.status = STATUS_OK};
    enum status status = journal_begin(engine->journal, sync, &fault);
    if (status == STATUS_OK)
        status = journal_append(engine->journal, entry, seq, &fault);
    if (status == STATUS_OK)
        status = journal_commit(engine->journal, &fault);
    if (status != STATUS_OK)
        engine_journal_failed(engine, &fault);
    else
        engine_journal_works(engine);
    return status;
}

enum status engine_record_note(struct engine *engine, enum journal_kind kind, const char *text)
{
    struct journal_entry entry = {.time_ms = engine_wall_ms(engine), .kind = kind, .payload = slice_of(text)};
    return append_one(engine, &entry, JOURNAL_SYNC_NORMAL, NULL);
}

enum status engine_record_flag(struct engine *engine, const char *key, struct slice payload, uint64_t *seq)
{
    struct journal_entry entry = {
        .time_ms = engine_wall_ms(engine), .kind = JOURNAL_FLAG, .payload = payload};
    utf8_copy(entry.subject, sizeof entry.subject, slice_of(key)); // it may be longer
    return append_one(engine, &entry, JOURNAL_SYNC_FULL, seq);
}

static struct journal_entry entry_for(const struct engine_live *live, uint32_t run, int64_t time_ms,
                                      enum journal_kind kind, const struct wire_writer *writer)
{
    CHECK(!writer->full);
    struct journal_entry entry = {
        .time_ms = time_ms, .kind = kind, .run = run, .payload = {(const char *)writer->data, writer->len}};
    snprintf(entry.subject, sizeof entry.subject, "%s", live->name);
    return entry;
}

static enum status append_input(struct engine *engine, const struct engine_live *live,
                                const struct rollout_input *input, uint32_t run, uint64_t *seq)
{
    struct wire_writer writer = {.data = engine->wire, .cap = ROLLOUT_INPUT_WIRE_BYTES_MAX};
    rollout_input_encode(input, &writer);
    struct journal_entry entry = entry_for(live, run, input->time_ms, JOURNAL_INPUT, &writer);
    return append_one(engine, &entry, JOURNAL_SYNC_NORMAL, seq);
}

static enum status append_decision(struct engine *engine, const struct engine_live *live, uint64_t *seq)
{
    struct wire_writer writer = {.data = engine->wire, .cap = ROLLOUT_INPUT_WIRE_BYTES_MAX};
    rollout_effects_encode(&live->owed_effects, &writer);
    struct journal_entry entry =
        entry_for(live, live->record->run, engine_wall_ms(engine), JOURNAL_DECISION, &writer);
    return append_one(engine, &entry, JOURNAL_SYNC_FULL, seq);
}

// Takes the owed decision into the journal and lets it take effect.
static enum status settle(struct engine *engine, struct engine_live *live)
{
    uint64_t seq = 0;
    struct rollout_effects effects = live->owed_effects;
    bool journalled = effects.changed || effects.has_verdict;
    if (journalled) {
        enum status status = append_decision(engine, live, &seq);
        if (status != STATUS_OK)
            return status;
        engine_case_remember(live->record, seq, &effects);
    }
    live->owed = false;
    engine_share_take(live->record, &live->share);
    engine_act(engine, live, seq, &effects);
    return STATUS_OK;
}

enum status engine_record(struct engine *engine, struct engine_live *live, const struct rollout_input *input,
                          uint32_t run, struct rollout_effects *effects)
{
    CHECK(!live->owed && live->record != NULL);
    uint64_t seq = 0;
    enum status status = append_input(engine, live, input, run, &seq);
    if (status != STATUS_OK)
        return status;
    engine_case_step(live->record, input, run, seq, &live->owed_effects);
    *effects = live->owed_effects;
    live->owed = true;
    live->stepped_ms = input->time_ms;
    return settle(engine, live);
}

enum status engine_record_owed(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->live_count; i++) {
        if (!engine->live[i].owed)
            continue;
        enum status status = settle(engine, &engine->live[i]);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}
