// SPDX-License-Identifier: Apache-2.0
// Replay. An input that the core turns into a decision makes one owed; the next entry of that rollout must be
// that decision. Only at the journal's end may one still be owed.
#include "ship/engine/replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"

struct replay_scratch {
    struct rollout_spec spec;
    struct rollout_span_delta spans[ROLLOUT_TICK_SPANS_MAX];
};

struct engine_record *engine_replay_find(struct engine_replay *replay, const char *name)
{
    for (uint32_t i = 0; i < replay->record_count; i++)
        if (strcmp(replay->records[i]->name, name) == 0)
            return replay->records[i];
    return NULL;
}

// One line for people: "Shifting -> RollingBack, stage 2, weight 0 %, ...".
static void write_effects(const struct rollout_effects *effects, struct text *text)
{
    text_addf(text, "%s -> %s, stage %u, weight %g %%", rollout_state_name(effects->from),
              rollout_state_name(effects->to), effects->stage + 1, effects->weight / 1000.0);
    if (effects->refused != STATUS_OK)
        text_addf(text, ", refused: %s", effects->refused_text);
    const struct rollout_verdict *verdict = &effects->verdict;
    if (effects->has_verdict)
        text_addf(
            text, ", %s: ln E %.17g of %.17g, canary %" PRIu64 "/%" PRIu64 ", baseline %" PRIu64 "/%" PRIu64,
            rollout_outcome_name(verdict->outcome), verdict->log_e, verdict->log_e_needed,
            verdict->canary_events, verdict->canary_total, verdict->baseline_events, verdict->baseline_total);
}

static enum status record_for(struct engine_replay *replay, const struct journal_entry *entry,
                              struct engine_record **record, struct fault *fault)
{
    *record = engine_replay_find(replay, entry->subject);
    if (*record != NULL)
        return STATUS_OK;
    enum status status = STATUS_FULL;
    if (replay->record_count < ENGINE_ROLLOUTS_MAX)
        status = engine_record_create(entry->subject, record);
    if (status == STATUS_OK) {
        replay->records[replay->record_count++] = *record;
        return STATUS_OK;
    }
    (void)fault_set(fault, status, "entry %" PRIu64 ": no room for another rollout (%s)", entry->seq,
                    status_name(status));
    fault->entry = entry->seq;
    return status;
}

static struct engine_owed *owed_of(struct engine_replay *replay, const struct engine_record *record)
{
    for (uint32_t i = 0; i < replay->owed_count; i++)
        if (replay->owed[i].record == record)
            return &replay->owed[i];
    return NULL;
}

static void side_write(const struct rollout_effects *effects, char *storage, size_t cap, bool with_text)
{
    struct text text = text_over(storage, cap);
    if (effects == NULL) {
        text_add(&text, SLICE("no decision"));
        return;
    }
    write_effects(effects, &text);
    if (with_text)
        text_addf(&text, ", \"%s\"", effects->verdict.text);
}

static void differ(struct engine_replay *replay, const struct journal_entry *entry,
                   const struct rollout_effects *recorded, const struct rollout_effects *derived)
{
    replay->differs = true;
    replay->difference_seq = entry->seq;
    snprintf(replay->difference_subject, sizeof replay->difference_subject, "%s", entry->subject);
    side_write(recorded, replay->recorded, sizeof replay->recorded, false);
    side_write(derived, replay->derived, sizeof replay->derived, false);
    if (strcmp(replay->recorded, replay->derived) != 0)
        return;
    side_write(recorded, replay->recorded, sizeof replay->recorded, true);
    side_write(derived, replay->derived, sizeof replay->derived, true);
}

// What another version of the program wrote is told apart from damage.
static enum status bad_payload(const struct journal_entry *entry, enum status status, struct fault *fault)
{
    bool newer = status == STATUS_UNSUPPORTED;
    (void)fault_set(fault, status, "entry %" PRIu64 " (%s) %s", entry->seq, entry->subject,
                    newer ? "was written by a newer version of sluice: use that one"
                          : "cannot be read by this version of sluice");
    fault->entry = entry->seq;
    return status;
}

static enum status replay_input(struct engine_replay *replay, const struct journal_entry *entry,
                                struct replay_scratch *scratch, struct fault *fault)
{
    struct engine_record *record;
    enum status status = record_for(replay, entry, &record, fault);
    if (status != STATUS_OK)
        return status;
    struct wire_reader reader = {.data = (const uint8_t *)entry->payload.data, .len = entry->payload.len};
    struct rollout_input input;
    status = rollout_input_decode(&reader, &scratch->spec, scratch->spans, &input);
    if (status != STATUS_OK)
        return bad_payload(entry, status, fault);
    struct engine_owed *owed = owed_of(replay, record);
    if (owed != NULL) {
        differ(replay, entry, NULL, &owed->effects);
        return STATUS_OK;
    }
    replay->inputs++;
    struct rollout_effects effects;
    if (engine_record_step(record, &input, entry->run, entry->seq, &effects)) {
        CHECK(replay->owed_count < ENGINE_ROLLOUTS_MAX);
        replay->owed[replay->owed_count++] = (struct engine_owed){.record = record, .effects = effects};
    }
    return STATUS_OK;
}

static enum status replay_decision(struct engine_replay *replay, const struct journal_entry *entry,
                                   struct fault *fault)
{
    struct engine_record *record;
    enum status status = record_for(replay, entry, &record, fault);
    if (status != STATUS_OK)
        return status;
    struct wire_reader reader = {.data = (const uint8_t *)entry->payload.data, .len = entry->payload.len};
    struct rollout_effects recorded;
    status = rollout_effects_decode(&reader, &recorded);
    if (status != STATUS_OK)
        return bad_payload(entry, status, fault);
    if (record->foreign.on) {
        engine_record_follow(record, &recorded, entry->time_ms);
        engine_record_remember(record, entry->seq, entry->time_ms, &recorded);
        engine_stable_fold(&replay->stables, record, &recorded);
        replay->foreign++;
        return STATUS_OK;
    }
    struct engine_owed *owed = owed_of(replay, record);
    if (owed == NULL || !rollout_effects_equal(&owed->effects, &recorded)) {
        differ(replay, entry, &recorded, owed != NULL ? &owed->effects : NULL);
        return STATUS_OK;
    }
    *owed = replay->owed[--replay->owed_count];
    engine_record_remember(record, entry->seq, entry->time_ms, &recorded);
    engine_stable_fold(&replay->stables, record, &recorded);
    replay->decisions++;
    return STATUS_OK;
}

// What is noted of a rollout tells which requests its latest decision saw fail.
static void replay_note(struct engine_replay *replay, const struct journal_entry *entry)
{
    struct engine_record *record = engine_replay_find(replay, entry->subject);
    if (record != NULL && record->run == entry->run)
        engine_record_failures(record, entry->payload);
}

static enum status replay_foreign(struct engine_replay *replay, const struct journal_entry *entry,
                                  struct fault *fault)
{
    enum status status = replay->fold != NULL ? replay->fold(replay->fold_context, entry) : STATUS_OK;
    if (status == STATUS_CORRUPT || status == STATUS_UNSUPPORTED)
        return bad_payload(entry, status, fault);
    if (status != STATUS_OK) {
        (void)fault_set(fault, status, "entry %" PRIu64 " (%s): no memory left for it", entry->seq,
                        entry->subject);
        fault->entry = entry->seq;
    }
    return status;
}

static enum status replay_edit(struct engine_replay *replay, const struct journal_entry *entry,
                               struct fault *fault)
{
    enum status status = engine_stable_fold_edit(&replay->stables, entry);
    return status == STATUS_OK ? STATUS_OK : bad_payload(entry, status, fault);
}

// Only what is finished may go: anything else would change what is derived.
static enum status replay_forgotten(struct engine_replay *replay, const struct journal_entry *entry,
                                    struct fault *fault)
{
    struct engine_record *record = engine_replay_find(replay, entry->subject);
    if (record == NULL || engine_record_active(record) || owed_of(replay, record) != NULL)
        return bad_payload(entry, STATUS_CORRUPT, fault);
    uint32_t at = 0;
    while (replay->records[at] != record)
        at++;
    replay->record_count--;
    memmove(&replay->records[at], &replay->records[at + 1],
            (replay->record_count - at) * sizeof replay->records[0]);
    engine_record_destroy(record);
    replay->forgotten++;
    return STATUS_OK;
}

static enum status replay_entry(struct engine_replay *replay, const struct journal_entry *entry,
                                struct replay_scratch *scratch, struct fault *fault)
{
    if (replay->entries++ == 0)
        replay->first_ms = entry->time_ms;
    replay->last_ms = entry->time_ms;
    switch (entry->kind) {
    case JOURNAL_PROCESS:
        replay->processes++;
        return STATUS_OK;
    case JOURNAL_INPUT:
        return replay_input(replay, entry, scratch, fault);
    case JOURNAL_DECISION:
        return replay_decision(replay, entry, fault);
    case JOURNAL_NOTE:
        replay_note(replay, entry);
        return STATUS_OK;
    case JOURNAL_FLAG:
        return replay_foreign(replay, entry, fault);
    case JOURNAL_STABLE:
        return replay_edit(replay, entry, fault);
    case JOURNAL_FORGOTTEN:
        return replay_forgotten(replay, entry, fault);
    }
    return bad_payload(entry, STATUS_UNSUPPORTED, fault);
}

static enum status replay_all(struct journal_cursor *cursor, struct engine_replay *replay,
                              struct replay_scratch *scratch, struct fault *fault)
{
    while (!replay->differs) {
        struct journal_entry entry;
        enum status status = journal_cursor_next(cursor, &entry, fault);
        if (status == STATUS_NOT_FOUND)
            return STATUS_OK;
        if (status == STATUS_OK)
            status = replay_entry(replay, &entry, scratch, fault);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

// Lets the cores of foreign runs stand where their decisions left them.
static void stand_foreign(struct engine_replay *replay)
{
    for (uint32_t i = 0; i < replay->record_count; i++) {
        struct engine_record *record = replay->records[i];
        if (!record->foreign.on)
            continue;
        struct rollout_input input = engine_record_takeover(record, replay->last_ms);
        struct rollout_effects effects;
        rollout_step(record->core, &input, &effects);
    }
}

enum status engine_replay_run(struct journal *journal, struct engine_replay *replay, struct fault *fault)
{
    enum status (*fold)(void *, const struct journal_entry *) = replay->fold;
    void *fold_context = replay->fold_context;
    memset(replay, 0, sizeof *replay);
    replay->fold = fold;
    replay->fold_context = fold_context;
    *fault = (struct fault){.status = STATUS_NO_MEMORY, .text = "no memory left"};
    struct replay_scratch *scratch = heap_alloc(1, sizeof *scratch);
    if (scratch == NULL)
        return STATUS_NO_MEMORY;
    struct journal_cursor *cursor;
    enum status status = journal_cursor_open(journal, &cursor, fault);
    if (status == STATUS_OK) {
        status = replay_all(cursor, replay, scratch, fault);
        stand_foreign(replay);
        journal_cursor_close(cursor);
    }
    heap_free(scratch);
    return status;
}

void engine_replay_deinit(struct engine_replay *replay)
{
    for (uint32_t i = 0; i < replay->record_count; i++)
        engine_record_destroy(replay->records[i]);
    replay->record_count = 0;
}
