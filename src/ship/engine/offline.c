// SPDX-License-Identifier: Apache-2.0
// A word given to the journal instead of a daemon. A replay brings the core to where it stood, the word is
// one more input, and nothing is in force here: whoever starts next puts it there.
#include "ship/engine/offline.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/utf8.h"
#include "ship/engine/replay.h"

struct word {
    struct engine_offline at;
    struct engine_record *record;
    uint8_t *wire; // ROLLOUT_INPUT_WIRE_BYTES_MAX
};

static enum status append(const struct word *word, enum journal_kind kind, const struct wire_writer *writer,
                          uint64_t *seq, struct fault *fault)
{
    CHECK(!writer->full);
    struct journal_entry entry = {.time_ms = word->at.now_ms,
                                  .kind = kind,
                                  .run = word->record->run,
                                  .payload = {(const char *)writer->data, writer->len}};
    snprintf(entry.subject, sizeof entry.subject, "%s", word->record->name);
    return journal_append(word->at.journal, &entry, seq, fault);
}

static enum status append_decision(const struct word *word, const struct rollout_effects *effects,
                                   struct fault *fault)
{
    struct wire_writer writer = {.data = word->wire, .cap = ROLLOUT_INPUT_WIRE_BYTES_MAX};
    rollout_effects_encode(effects, &writer);
    return append(word, JOURNAL_DECISION, &writer, NULL, fault);
}

static enum status step(const struct word *word, const struct rollout_input *input,
                        struct rollout_effects *effects, struct fault *fault)
{
    struct wire_writer writer = {.data = word->wire, .cap = ROLLOUT_INPUT_WIRE_BYTES_MAX};
    uint64_t seq = 0;
    rollout_input_encode(input, &writer);
    enum status status = append(word, JOURNAL_INPUT, &writer, &seq, fault);
    if (status != STATUS_OK)
        return status;
    if (!engine_record_step(word->record, input, word->record->run, seq, effects))
        return STATUS_OK;
    return append_decision(word, effects, fault);
}

// As engine_undo_fits, without a file: a service that has gone on since must not be moved by an old run.
static enum status undo_fits(const struct engine_replay *replay, const struct engine_record *record,
                             struct fault *fault)
{
    const struct rollout_spec *spec = rollout_spec_of(record->core);
    const struct engine_stable *stable = engine_stable_find(&replay->stables, spec->service);
    if (spec->target != ROLLOUT_TARGET_VERSION || engine_record_active(record))
        return STATUS_OK;
    if (stable == NULL || strcmp(stable->rollout, record->name) != 0 ||
        strcmp(stable->version, spec->to) != 0)
        return fault_set(fault, STATUS_CONFLICT, "cannot undo: service %s has gone on since", spec->service);
    for (uint32_t i = 0; i < replay->record_count; i++) {
        const struct engine_record *other = replay->records[i];
        if (other == record || !engine_record_active(other) ||
            strcmp(rollout_spec_of(other->core)->service, spec->service) != 0)
            continue;
        return fault_set(fault, STATUS_CONFLICT,
                         "cannot undo: rollout %s is moving service %s on; abort it first", other->name,
                         spec->service);
    }
    return STATUS_OK;
}

// What the daemon left unfinished comes first: the decision it had not written yet, a run of an older rule.
static enum status catch_up(const struct word *word, const struct engine_replay *replay, struct fault *fault)
{
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < replay->owed_count && status == STATUS_OK; i++)
        if (replay->owed[i].record == word->record)
            status = append_decision(word, &replay->owed[i].effects, fault);
    if (status != STATUS_OK || !word->record->foreign.on)
        return status;
    struct rollout_input input = engine_record_takeover(word->record, word->at.now_ms);
    struct rollout_effects effects;
    return step(word, &input, &effects, fault);
}

static enum status transact(const struct word *word, const struct engine_replay *replay,
                            const struct rollout_input *input, struct rollout_effects *effects,
                            struct fault *fault)
{
    enum status status = journal_begin(word->at.journal, JOURNAL_SYNC_FULL, fault);
    if (status != STATUS_OK)
        return status;
    status = catch_up(word, replay, fault);
    if (status == STATUS_OK)
        status = step(word, input, effects, fault);
    if (status == STATUS_OK && effects->refused != STATUS_OK)
        status = fault_set(fault, effects->refused, "%s", effects->refused_text);
    if (status == STATUS_OK)
        return journal_commit(word->at.journal, fault);
    journal_rollback(word->at.journal);
    return status;
}

static enum status find(struct journal *journal, struct engine_replay *replay, const char *name,
                        struct engine_record **record, struct fault *fault)
{
    enum status status = engine_replay_run(journal, replay, fault);
    if (status != STATUS_OK)
        return status;
    if (replay->differs)
        return fault_set(fault, STATUS_MISMATCH,
                         "the journal %s cannot be trusted: a decision of rollout %s comes out differently "
                         "(\"sluice replay\" shows it), so nothing was written",
                         journal_path(journal), replay->difference_subject);
    *record = engine_replay_find(replay, name);
    if (*record == NULL || (*record)->run == 0)
        return fault_set(fault, STATUS_NOT_FOUND,
                         "the journal %s knows no run of a rollout \"%s\", so there is nothing to do",
                         journal_path(journal), name);
    return STATUS_OK;
}

static enum status command_with(struct word *word, struct engine_replay *replay, const char *name,
                                const struct rollout_input *input, struct rollout_verdict *verdict,
                                struct fault *fault)
{
    struct rollout_effects effects;
    enum status status = find(word->at.journal, replay, name, &word->record, fault);
    if (status == STATUS_OK && input->command.command == ROLLOUT_COMMAND_UNDO)
        status = undo_fits(replay, word->record, fault);
    if (status == STATUS_OK)
        status = transact(word, replay, input, &effects, fault);
    if (status == STATUS_OK)
        *verdict = effects.verdict;
    return status;
}

enum status engine_offline_command(const struct engine_offline *offline, const char *name,
                                   enum rollout_command command, const char *who,
                                   struct rollout_verdict *verdict, struct fault *fault)
{
    struct word word = {.at = *offline, .wire = heap_alloc(1, ROLLOUT_INPUT_WIRE_BYTES_MAX)};
    struct engine_replay *replay = heap_alloc(1, sizeof *replay);
    struct rollout_input input = {.kind = ROLLOUT_INPUT_COMMAND, .time_ms = offline->now_ms};
    input.command.command = command;
    utf8_copy(input.command.who, sizeof input.command.who, slice_of(who));
    snprintf(input.command.from, sizeof input.command.from, "%s", ENGINE_OFFLINE_FROM);
    enum status status = STATUS_NO_MEMORY;
    if (word.wire != NULL && replay != NULL) {
        status = command_with(&word, replay, name, &input, verdict, fault);
        engine_replay_deinit(replay);
    } else {
        (void)fault_set(fault, status, "no memory left");
    }
    heap_free(replay);
    heap_free(word.wire);
    return status;
}

enum status engine_offline_append(void *context, const char *key, struct slice payload, bool safe,
                                  uint64_t *seq, struct fault *fault)
{
    (void)safe;
    const struct engine_offline *offline = context;
    struct journal_entry entry = {.time_ms = offline->now_ms, .kind = JOURNAL_FLAG, .payload = payload};
    utf8_copy(entry.subject, sizeof entry.subject, slice_of(key));
    enum status status = journal_begin(offline->journal, JOURNAL_SYNC_FULL, fault);
    if (status == STATUS_OK)
        status = journal_append(offline->journal, &entry, seq, fault);
    return status == STATUS_OK ? journal_commit(offline->journal, fault) : status;
}
