// SPDX-License-Identifier: Apache-2.0
// What a decision does to the world once it is in the journal: table, log, word to watchers. And the
// commands.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "ship/engine/engine_private.h"

// ---- live rollouts ----

struct engine_live *engine_live_find(struct engine *engine, const char *name)
{
    for (uint32_t i = 0; i < engine->live_count; i++)
        if (strcmp(engine->live[i].name, name) == 0)
            return &engine->live[i];
    return NULL;
}

enum status engine_live_get(struct engine *engine, const char *name, struct engine_live **live)
{
    *live = engine_live_find(engine, name);
    if (*live != NULL)
        return STATUS_OK;
    if (engine->live_count == ENGINE_CASES_MAX)
        return STATUS_FULL;
    *live = &engine->live[engine->live_count++];
    memset(*live, 0, sizeof **live);
    snprintf((*live)->name, sizeof(*live)->name, "%s", name);
    return STATUS_OK;
}

static void arm_versions(const struct rollout_spec *spec, const char *versions[ROLLOUT_ARMS])
{
    versions[ROLLOUT_ARM_STABLE] = spec->from;
    versions[ROLLOUT_ARM_CANARY] = spec->to;
    versions[ROLLOUT_ARM_CONTROL] = spec->control ? "(control)" : NULL;
}

// Remembers where the histograms stood, so that a run's quantiles are its own.
void engine_live_run_began(struct engine *engine, struct engine_live *live)
{
    if (live->latency_before == NULL)
        live->latency_before = heap_alloc(ROLLOUT_ARMS, sizeof *live->latency_before);
    const struct rollout_spec *spec = rollout_spec_of(live->record->core);
    const char *versions[ROLLOUT_ARMS];
    arm_versions(spec, versions);
    for (int arm = 0; live->latency_before != NULL && arm < ROLLOUT_ARMS; arm++) {
        uint16_t slot = versions[arm] == NULL ? PROXY_SLOT_NONE
                                              : engine_version_slot(engine, spec->service, versions[arm]);
        memset(&live->latency_before[arm], 0, sizeof live->latency_before[arm]);
        if (slot != PROXY_SLOT_NONE)
            proxy_version_latency(engine->proxy, slot, &live->latency_before[arm]);
    }
    memset(live->rate_ring, 0, sizeof live->rate_ring);
    memset(live->rate_sum, 0, sizeof live->rate_sum);
    live->rate_ticks = 0;
}

// ---- effects ----

static enum engine_log_level level_of(const struct rollout_effects *effects)
{
    enum rollout_outcome outcome = effects->verdict.outcome;
    bool worrying = outcome == ROLLOUT_OUTCOME_ROLLED_BACK || outcome == ROLLOUT_OUTCOME_UNDECIDED ||
                    outcome == ROLLOUT_OUTCOME_BLOCKED;
    return effects->has_verdict && worrying ? ENGINE_LOG_WARN : ENGINE_LOG_INFO;
}

static void log_effects(struct engine *engine, const struct engine_live *live, uint64_t seq,
                        const struct rollout_effects *effects)
{
    char weight[24];
    snprintf(weight, sizeof weight, "%g%%", effects->weight / 1000.0);
    char moved[96];
    snprintf(moved, sizeof moved, "%s -> %s", rollout_state_name(effects->from),
             rollout_state_name(effects->to));
    engine_log_write(engine->log, level_of(effects), effects->has_verdict ? effects->verdict.text : moved,
                     ENGINE_FIELDS(ENGINE_TEXT("rollout", live->name),
                                   ENGINE_TEXT("state", rollout_state_name(effects->to)),
                                   ENGINE_NUMBER("stage", effects->stage + 1), ENGINE_TEXT("weight", weight),
                                   ENGINE_NUMBER("table", engine->table_version),
                                   ENGINE_NUMBER("entry", seq)));
}

void engine_act(struct engine *engine, struct engine_live *live, uint64_t seq,
                const struct rollout_effects *effects)
{
    // A flag's share reaches the table with the set that splits by it.
    if (effects->publish && live->share.flag[0] != '\0') {
        engine_flags_refresh(engine);
    } else if (effects->publish) {
        engine_publish_or_retry(engine);
    }
    if (!effects->changed && !effects->has_verdict)
        return;
    log_effects(engine, live, seq, effects);
    struct engine_decision decision = {.seq = seq, .run = live->record->run, .effects = *effects};
    struct list *link = engine->watchers.next;
    while (link != &engine->watchers) {
        struct engine_watcher *watcher = CONTAINER_OF(link, struct engine_watcher, link);
        link = link->next; // the watcher may leave
        watcher->decided(watcher, live->name, &decision);
    }
}

void engine_watch(struct engine *engine, struct engine_watcher *watcher)
{
    list_push_back(&engine->watchers, &watcher->link);
}

void engine_unwatch(struct engine_watcher *watcher)
{
    list_remove(&watcher->link);
}

// ---- commands ----

static enum status journal_fault(const struct engine *engine, enum status status, struct fault *fault)
{
    return fault_set(fault, status, "the journal cannot be written, so nothing is decided: %s",
                     engine->health.journal_problem);
}

// A new run: what the file says now becomes its specification.
static enum status begin_run(struct engine *engine, struct engine_live *live,
                             const struct config_rollout *entry, struct fault *fault)
{
    if (entry->spec.flag[0] != '\0' && engine_flag_rollout_ready(engine, &entry->spec, fault) != STATUS_OK)
        return fault->status;
    if (live->record == NULL && engine_case_create(live->name, &live->record) != STATUS_OK)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left for another rollout");
    struct rollout_input input = {
        .kind = ROLLOUT_INPUT_SPEC, .time_ms = engine_wall_ms(engine), .spec = &entry->spec};
    struct rollout_effects effects;
    enum status status = engine_record(engine, live, &input, live->record->run + 1, &effects);
    if (status != STATUS_OK)
        return journal_fault(engine, status, fault);
    if (effects.refused != STATUS_OK)
        return fault_set(fault, effects.refused, "%s", effects.refused_text);
    live->mismatch_told = false;
    engine_live_run_began(engine, live);
    return STATUS_OK;
}

// Whether `start` means a new run: never run, taken back, or complete and the file asks for another version
// now.
static bool wants_new_run(const struct engine *engine, const struct engine_live *live,
                          const struct config_rollout *entry)
{
    if (live->record == NULL || live->record->run == 0)
        return true;
    struct rollout_view view;
    rollout_view_get(live->record->core, &view);
    if (view.state == ROLLOUT_COMPLETED)
        return strcmp(rollout_spec_of(live->record->core)->to, entry->spec.to) != 0 ||
               !engine_run_applies(engine->config, live->record);
    return view.state == ROLLOUT_PENDING || view.state == ROLLOUT_ROLLED_BACK;
}

enum status engine_command(struct engine *engine, const char *name, enum rollout_command command,
                           const char *who, const char *from, struct fault *fault)
{
    const struct config_rollout *entry = config_rollout_find(engine->config, name);
    struct engine_live *live = engine_live_find(engine, name);
    if (live == NULL)
        return fault_set(fault, STATUS_NOT_FOUND, "there is no rollout \"%s\"", name);
    if (engine->health.draining)
        return fault_set(fault, STATUS_CONFLICT, "the daemon is shutting down");
    enum status status = engine_record_owed(engine);
    if (status != STATUS_OK)
        return journal_fault(engine, status, fault);
    if (command == ROLLOUT_COMMAND_START && entry == NULL)
        return fault_set(fault, STATUS_CONFLICT, "cannot start: the file no longer has this rollout");
    if (command == ROLLOUT_COMMAND_START && wants_new_run(engine, live, entry))
        status = begin_run(engine, live, entry, fault);
    if (status != STATUS_OK)
        return status;
    if (live->record == NULL)
        return fault_set(fault, STATUS_CONFLICT,
                         "cannot %s: the rollout has not been started; \"sluice rollout start %s\" does",
                         rollout_command_name(command), name);
    struct rollout_input input = {.kind = ROLLOUT_INPUT_COMMAND, .time_ms = engine_wall_ms(engine)};
    input.command.command = command;
    snprintf(input.command.who, sizeof input.command.who, "%s", who);
    snprintf(input.command.from, sizeof input.command.from, "%s", from);
    struct rollout_effects effects;
    status = engine_record(engine, live, &input, live->record->run, &effects);
    if (status != STATUS_OK)
        return journal_fault(engine, status, fault);
    if (effects.refused == STATUS_OK)
        return STATUS_OK;
    engine_log_write(engine->log, ENGINE_LOG_INFO, effects.refused_text,
                     ENGINE_FIELDS(ENGINE_TEXT("rollout", name), ENGINE_TEXT("who", who)));
    return fault_set(fault, effects.refused, "%s", effects.refused_text);
}
