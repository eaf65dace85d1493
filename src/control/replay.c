// SPDX-License-Identifier: Apache-2.0
// Replay. An input that the core turns into a decision makes one owed; the next entry of that rollout must be
// that decision. Only at the journal's end may one still be owed.
#include "control/replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "control/overlay.h"

struct replay_scratch {
    struct rollout_spec spec;
    struct rollout_span_delta spans[ROLLOUT_TICK_SPANS_MAX];
};

struct control_case *control_replay_find(struct control_replay *replay, const char *name)
{
    for (uint32_t i = 0; i < replay->case_count; i++)
        if (strcmp(replay->cases[i]->name, name) == 0)
            return replay->cases[i];
    return NULL;
}

void control_effects_write(const struct rollout_effects *effects, struct text *text)
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

static enum status case_for(struct control_replay *replay, const struct journal_entry *entry,
                            struct control_case **record, struct journal_problem *problem)
{
    *record = control_replay_find(replay, entry->subject);
    if (*record != NULL)
        return STATUS_OK;
    enum status status = STATUS_FULL;
    if (replay->case_count < CONTROL_CASES_MAX)
        status = control_case_create(entry->subject, record);
    if (status == STATUS_OK) {
        replay->cases[replay->case_count++] = *record;
        return STATUS_OK;
    }
    problem->status = status;
    problem->seq = entry->seq;
    snprintf(problem->text, sizeof problem->text, "entry %" PRIu64 ": no room for another rollout (%s)",
             entry->seq, status_name(status));
    return status;
}

static struct control_owed *owed_of(struct control_replay *replay, const struct control_case *record)
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
    control_effects_write(effects, &text);
    if (with_text)
        text_addf(&text, ", \"%s\"", effects->verdict.text);
}

static void differ(struct control_replay *replay, const struct journal_entry *entry,
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

static enum status bad_payload(const struct journal_entry *entry, struct journal_problem *problem)
{
    problem->status = STATUS_CORRUPT;
    problem->seq = entry->seq;
    snprintf(problem->text, sizeof problem->text,
             "entry %" PRIu64 " (%s) cannot be read by this version of sluice", entry->seq, entry->subject);
    return STATUS_CORRUPT;
}

static enum status replay_input(struct control_replay *replay, const struct journal_entry *entry,
                                struct replay_scratch *scratch, struct journal_problem *problem)
{
    struct control_case *record;
    enum status status = case_for(replay, entry, &record, problem);
    if (status != STATUS_OK)
        return status;
    struct wire_reader reader = {.data = (const uint8_t *)entry->payload.data, .len = entry->payload.len};
    struct rollout_input input;
    if (rollout_input_decode(&reader, &scratch->spec, scratch->spans, &input) != STATUS_OK)
        return bad_payload(entry, problem);
    struct control_owed *owed = owed_of(replay, record);
    if (owed != NULL) {
        differ(replay, entry, NULL, &owed->effects);
        return STATUS_OK;
    }
    replay->inputs++;
#ifdef BUG_REPLAY_SKIPS_EDGES
    if (input.kind == ROLLOUT_INPUT_EDGES)
        return STATUS_OK;
#endif
    struct rollout_effects effects;
    if (control_case_step(record, &input, entry->run, entry->seq, &effects)) {
        CHECK(replay->owed_count < CONTROL_CASES_MAX);
        replay->owed[replay->owed_count++] = (struct control_owed){.record = record, .effects = effects};
    }
    return STATUS_OK;
}

static enum status replay_decision(struct control_replay *replay, const struct journal_entry *entry,
                                   struct journal_problem *problem)
{
    struct control_case *record;
    enum status status = case_for(replay, entry, &record, problem);
    if (status != STATUS_OK)
        return status;
    struct wire_reader reader = {.data = (const uint8_t *)entry->payload.data, .len = entry->payload.len};
    struct rollout_effects recorded;
    if (rollout_effects_decode(&reader, &recorded) != STATUS_OK)
        return bad_payload(entry, problem);
    struct control_owed *owed = owed_of(replay, record);
    if (owed == NULL || !rollout_effects_equal(&owed->effects, &recorded)) {
        differ(replay, entry, &recorded, owed != NULL ? &owed->effects : NULL);
        return STATUS_OK;
    }
    *owed = replay->owed[--replay->owed_count];
    control_case_remember(record, entry->seq, &recorded);
    replay->decisions++;
    return STATUS_OK;
}

static enum status replay_flag(struct control_replay *replay, const struct journal_entry *entry,
                               struct journal_problem *problem)
{
    struct control_overlay_texts texts;
    struct control_flag_change change;
    if (control_overlay_decode(entry->payload, &texts, &change) != STATUS_OK)
        return bad_payload(entry, problem);
    replay->flag_changes++;
#ifdef BUG_FLAG_CHANGES_FORGOTTEN
    return STATUS_OK;
#endif
    if (replay->overlay == NULL)
        return STATUS_OK;
    enum status status = control_overlay_room(replay->overlay, &change);
    if (status == STATUS_OK)
        status = control_overlay_take(replay->overlay, &change, entry->seq, entry->time_ms);
    if (status != STATUS_OK)
        *problem = (struct journal_problem){
            .status = status, .seq = entry->seq, .text = "no memory left for the changes of flags"};
    return status;
}

static enum status replay_entry(struct control_replay *replay, const struct journal_entry *entry,
                                struct replay_scratch *scratch, struct journal_problem *problem)
{
    if (replay->entries++ == 0)
        replay->first_ms = entry->time_ms;
    replay->last_ms = entry->time_ms;
    switch (entry->kind) {
    case JOURNAL_PROCESS:
        replay->processes++;
        return STATUS_OK;
    case JOURNAL_INPUT:
        return replay_input(replay, entry, scratch, problem);
    case JOURNAL_DECISION:
        return replay_decision(replay, entry, problem);
    case JOURNAL_NOTE:
        return STATUS_OK;
    case JOURNAL_FLAG:
        return replay_flag(replay, entry, problem);
    }
    return bad_payload(entry, problem);
}

static enum status replay_all(struct journal_cursor *cursor, struct control_replay *replay,
                              struct replay_scratch *scratch, struct journal_problem *problem)
{
    while (!replay->differs) {
        struct journal_entry entry;
        enum status status = journal_cursor_next(cursor, &entry, problem);
        if (status == STATUS_NOT_FOUND)
            return STATUS_OK;
        if (status == STATUS_OK)
            status = replay_entry(replay, &entry, scratch, problem);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

enum status control_replay_run(struct journal *journal, struct control_replay *replay,
                               struct journal_problem *problem)
{
    struct control_overlay *overlay = replay->overlay;
    memset(replay, 0, sizeof *replay);
    replay->overlay = overlay;
    *problem = (struct journal_problem){.status = STATUS_NO_MEMORY, .text = "no memory left"};
    struct replay_scratch *scratch = heap_alloc(1, sizeof *scratch);
    if (scratch == NULL)
        return STATUS_NO_MEMORY;
    struct journal_cursor *cursor;
    enum status status = journal_cursor_open(journal, &cursor, problem);
    if (status == STATUS_OK) {
        status = replay_all(cursor, replay, scratch, problem);
        journal_cursor_close(cursor);
    }
    heap_free(scratch);
    return status;
}

void control_replay_deinit(struct control_replay *replay)
{
    for (uint32_t i = 0; i < replay->case_count; i++)
        control_case_destroy(replay->cases[i]);
    replay->case_count = 0;
}
