// SPDX-License-Identifier: Apache-2.0
// What a decision does to the world once it is in the journal: table, log, word to watchers. And the
// commands.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "control/control_private.h"

// ---- live rollouts ----

struct control_live *control_live_find(struct control *control, const char *name)
{
    for (uint32_t i = 0; i < control->live_count; i++)
        if (strcmp(control->live[i].name, name) == 0)
            return &control->live[i];
    return NULL;
}

enum status control_live_get(struct control *control, const char *name, struct control_live **live)
{
    *live = control_live_find(control, name);
    if (*live != NULL)
        return STATUS_OK;
    if (control->live_count == CONTROL_CASES_MAX)
        return STATUS_FULL;
    *live = &control->live[control->live_count++];
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
void control_live_run_began(struct control *control, struct control_live *live)
{
    if (live->latency_before == NULL)
        live->latency_before = heap_alloc(ROLLOUT_ARMS, sizeof *live->latency_before);
    const struct rollout_spec *spec = rollout_spec_of(live->record->core);
    const char *versions[ROLLOUT_ARMS];
    arm_versions(spec, versions);
    for (int arm = 0; live->latency_before != NULL && arm < ROLLOUT_ARMS; arm++) {
        uint16_t slot = versions[arm] == NULL ? PROXY_SLOT_NONE
                                              : control_version_slot(control, spec->service, versions[arm]);
        memset(&live->latency_before[arm], 0, sizeof live->latency_before[arm]);
        if (slot != PROXY_SLOT_NONE)
            proxy_version_latency(control->proxy, slot, &live->latency_before[arm]);
    }
    memset(live->rate_ring, 0, sizeof live->rate_ring);
    memset(live->rate_sum, 0, sizeof live->rate_sum);
    live->rate_ticks = 0;
}

// ---- effects ----

static enum control_log_level level_of(const struct rollout_effects *effects)
{
    enum rollout_outcome outcome = effects->verdict.outcome;
    bool worrying = outcome == ROLLOUT_OUTCOME_ROLLED_BACK || outcome == ROLLOUT_OUTCOME_UNDECIDED ||
                    outcome == ROLLOUT_OUTCOME_BLOCKED;
    return effects->has_verdict && worrying ? CONTROL_LOG_WARN : CONTROL_LOG_INFO;
}

static void log_effects(struct control *control, const struct control_live *live, uint64_t seq,
                        const struct rollout_effects *effects)
{
    char weight[24];
    snprintf(weight, sizeof weight, "%g%%", effects->weight / 1000.0);
    char moved[96];
    snprintf(moved, sizeof moved, "%s -> %s", rollout_state_name(effects->from),
             rollout_state_name(effects->to));
    control_log_write(
        control->log, level_of(effects), effects->has_verdict ? effects->verdict.text : moved,
        CONTROL_FIELDS(CONTROL_TEXT("rollout", live->name),
                       CONTROL_TEXT("state", rollout_state_name(effects->to)),
                       CONTROL_NUMBER("stage", effects->stage + 1), CONTROL_TEXT("weight", weight),
                       CONTROL_NUMBER("table", control->table_version), CONTROL_NUMBER("entry", seq)));
}

void control_act(struct control *control, struct control_live *live, uint64_t seq,
                 const struct rollout_effects *effects)
{
    // A flag's share reaches the table with the set that splits by it.
    if (effects->publish && live->share.flag[0] != '\0') {
        control_flags_refresh(control);
    } else if (effects->publish) {
        control_publish_or_retry(control);
    }
    if (!effects->changed && !effects->has_verdict)
        return;
    log_effects(control, live, seq, effects);
    struct control_decision decision = {.seq = seq, .run = live->record->run, .effects = *effects};
    struct list *link = control->watchers.next;
    while (link != &control->watchers) {
        struct control_watcher *watcher = CONTAINER_OF(link, struct control_watcher, link);
        link = link->next; // the watcher may leave
        watcher->decided(watcher, live->name, &decision);
    }
}

void control_watch(struct control *control, struct control_watcher *watcher)
{
    list_push_back(&control->watchers, &watcher->link);
}

void control_unwatch(struct control_watcher *watcher)
{
    list_remove(&watcher->link);
}

// ---- commands ----

static enum status journal_fault(const struct control *control, enum status status,
                                 struct control_fault *fault)
{
    return control_fault_set(fault, status, "the journal cannot be written, so nothing is decided: %s",
                             control->health.journal_problem);
}

// A new run: what the file says now becomes its specification.
static enum status begin_run(struct control *control, struct control_live *live,
                             const struct config_rollout *entry, struct control_fault *fault)
{
    if (entry->spec.flag[0] != '\0' && control_flag_rollout_ready(control, &entry->spec, fault) != STATUS_OK)
        return fault->status;
    if (live->record == NULL && control_case_create(live->name, &live->record) != STATUS_OK)
        return control_fault_set(fault, STATUS_NO_MEMORY, "no memory left for another rollout");
    struct rollout_input input = {
        .kind = ROLLOUT_INPUT_SPEC, .time_ms = control_wall_ms(control), .spec = &entry->spec};
    struct rollout_effects effects;
    enum status status = control_record(control, live, &input, live->record->run + 1, &effects);
    if (status != STATUS_OK)
        return journal_fault(control, status, fault);
    if (effects.refused != STATUS_OK)
        return control_fault_set(fault, effects.refused, "%s", effects.refused_text);
    live->mismatch_told = false;
    control_live_run_began(control, live);
    return STATUS_OK;
}

// Whether `start` means a new run: never run, taken back, or complete and the file asks for another version
// now.
static bool wants_new_run(const struct control *control, const struct control_live *live,
                          const struct config_rollout *entry)
{
    if (live->record == NULL || live->record->run == 0)
        return true;
    struct rollout_view view;
    rollout_view_get(live->record->core, &view);
    if (view.state == ROLLOUT_COMPLETED)
        return strcmp(rollout_spec_of(live->record->core)->to, entry->spec.to) != 0 ||
               !control_run_applies(control->config, live->record);
    return view.state == ROLLOUT_PENDING || view.state == ROLLOUT_ROLLED_BACK;
}

enum status control_command(struct control *control, const char *name, enum rollout_command command,
                            const char *who, const char *from, struct control_fault *fault)
{
    const struct config_rollout *entry = config_rollout_find(control->config, name);
    struct control_live *live = control_live_find(control, name);
    if (live == NULL)
        return control_fault_set(fault, STATUS_NOT_FOUND, "there is no rollout \"%s\"", name);
    if (control->health.draining)
        return control_fault_set(fault, STATUS_CONFLICT, "the daemon is shutting down");
    enum status status = control_record_owed(control);
    if (status != STATUS_OK)
        return journal_fault(control, status, fault);
    if (command == ROLLOUT_COMMAND_START && entry == NULL)
        return control_fault_set(fault, STATUS_CONFLICT, "cannot start: the file no longer has this rollout");
    if (command == ROLLOUT_COMMAND_START && wants_new_run(control, live, entry))
        status = begin_run(control, live, entry, fault);
    if (status != STATUS_OK)
        return status;
    if (live->record == NULL)
        return control_fault_set(
            fault, STATUS_CONFLICT,
            "cannot %s: the rollout has not been started; \"sluice rollout start %s\" does",
            rollout_command_name(command), name);
    struct rollout_input input = {.kind = ROLLOUT_INPUT_COMMAND, .time_ms = control_wall_ms(control)};
    input.command.command = command;
    snprintf(input.command.who, sizeof input.command.who, "%s", who);
    snprintf(input.command.from, sizeof input.command.from, "%s", from);
    struct rollout_effects effects;
    status = control_record(control, live, &input, live->record->run, &effects);
    if (status != STATUS_OK)
        return journal_fault(control, status, fault);
    if (effects.refused == STATUS_OK)
        return STATUS_OK;
    control_log_write(control->log, CONTROL_LOG_INFO, effects.refused_text,
                      CONTROL_FIELDS(CONTROL_TEXT("rollout", name), CONTROL_TEXT("who", who)));
    return control_fault_set(fault, effects.refused, "%s", effects.refused_text);
}
