// SPDX-License-Identifier: Apache-2.0
// An operator's word to a rollout.
#include <stdio.h>
#include <string.h>

#include "base/siphash.h"
#include "ship/engine/engine_private.h"

static enum status journal_fault(const struct engine *engine, enum status status, struct fault *fault)
{
    return fault_set(fault, status, "the journal cannot be written, so nothing is decided: %s",
                     engine->health.journal_problem);
}

// The same through all of one run, restarts included, because the journal holds it.
static void draw_salt(const struct engine *engine, const struct engine_rollout *rollout,
                      struct rollout_spec *spec)
{
    char seed[ROLLOUT_NAME_BYTES + 64];
    int len = snprintf(seed, sizeof seed, "%s/%u/%lld", rollout->name, rollout->record->run + 1,
                       (long long)engine_wall_ms(engine));
    for (uint64_t i = 0; i < 2; i++) {
        const struct siphash_key key = {engine->secret[0] ^ i, engine->secret[1]};
        spec->salt[i] = siphash(key, seed, (size_t)len);
    }
}

// A new run: what the file says now becomes its specification.
static enum status begin_run(struct engine *engine, struct engine_rollout *rollout,
                             const struct config_rollout *entry, struct fault *fault)
{
    enum status status = engine->targets[entry->spec.target]->ready(engine->world, &entry->spec, fault);
    if (status != STATUS_OK)
        return status;
    if (rollout->record == NULL && engine_record_create(rollout->name, &rollout->record) != STATUS_OK)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left for another rollout");
    struct rollout_spec spec = entry->spec;
    draw_salt(engine, rollout, &spec);
    spec.errors_id = engine_errors_id(engine->config, &spec);
    struct rollout_input input = {
        .kind = ROLLOUT_INPUT_SPEC, .time_ms = engine_wall_ms(engine), .spec = &spec};
    struct rollout_effects effects;
    status = engine_journal_input(engine, rollout, &input, rollout->record->run + 1, &effects);
    if (status != STATUS_OK)
        return journal_fault(engine, status, fault);
    if (effects.refused != STATUS_OK)
        return fault_set(fault, effects.refused, "%s", effects.refused_text);
    rollout->mismatch_told = false;
    rollout->redefined_table = 0;
    engine_rollout_run_began(engine, rollout);
    return STATUS_OK;
}

// Whether `start` means a new run: never run, taken back, or complete and the file asks for another version
// now.
static bool wants_new_run(const struct engine *engine, const struct engine_rollout *rollout,
                          const struct config_rollout *entry)
{
    if (rollout->record == NULL || rollout->record->run == 0)
        return true;
    struct rollout_view view;
    rollout_view_get(rollout->record->core, &view);
    if (view.state == ROLLOUT_COMPLETED)
        return strcmp(rollout_spec_of(rollout->record->core)->to, entry->spec.to) != 0 ||
               !engine_run_applies(engine, engine->config, rollout->record);
    return view.state == ROLLOUT_PENDING || view.state == ROLLOUT_ROLLED_BACK;
}

enum status engine_command(struct engine *engine, const char *name, enum rollout_command command,
                           const char *who, const char *from, struct fault *fault)
{
    const struct config_rollout *entry = config_rollout_find(engine->config, name);
    struct engine_rollout *rollout = engine_rollout_find(engine, name);
    if (rollout == NULL)
        return fault_set(fault, STATUS_NOT_FOUND, "there is no rollout \"%s\"", name);
    if (engine->health.draining)
        return fault_set(fault, STATUS_CONFLICT, "the daemon is shutting down");
    engine->journal_retry_us = 0; // a person's word is worth a try
    enum status status = engine_journal_owed(engine);
    if (status != STATUS_OK && engine_command_is_safe(command))
        status = engine_journal_overtake(engine, rollout);
    if (status != STATUS_OK)
        return journal_fault(engine, status, fault);
    if (command == ROLLOUT_COMMAND_START && entry == NULL)
        return fault_set(fault, STATUS_CONFLICT, "cannot start: the file no longer has this rollout");
    if (command == ROLLOUT_COMMAND_START && wants_new_run(engine, rollout, entry))
        status = begin_run(engine, rollout, entry, fault);
    if (status != STATUS_OK)
        return status;
    if (rollout->record == NULL)
        return fault_set(fault, STATUS_CONFLICT,
                         "cannot %s: the rollout has not been started; \"sluice rollout start %s\" does",
                         rollout_command_name(command), name);
    if (command == ROLLOUT_COMMAND_UNDO)
        status = engine_undo_fits(engine, rollout, fault);
    if (status != STATUS_OK)
        return status;
    struct rollout_input input = {.kind = ROLLOUT_INPUT_COMMAND, .time_ms = engine_wall_ms(engine)};
    input.command.command = command;
    snprintf(input.command.who, sizeof input.command.who, "%s", who);
    snprintf(input.command.from, sizeof input.command.from, "%s", from);
    struct rollout_effects effects;
    status = engine_journal_input(engine, rollout, &input, rollout->record->run, &effects);
    if (status != STATUS_OK)
        return journal_fault(engine, status, fault);
    if (effects.refused == STATUS_OK)
        return STATUS_OK;
    log_write(engine->log, LOG_INFO, effects.refused_text,
              LOG_FIELDS(LOG_TEXT("rollout", name), LOG_TEXT("who", who)));
    return fault_set(fault, effects.refused, "%s", effects.refused_text);
}
