// SPDX-License-Identifier: Apache-2.0
// A record: heap for the core and the history, sums beside it.
#include "ship/engine/record.h"

#include <stdio.h>
#include <string.h>

#include "base/heap.h"
#include "base/utf8.h"

enum status engine_record_create(const char *name, struct engine_record **made)
{
    struct engine_record *record = heap_alloc(1, sizeof *record);
    if (record == NULL)
        return STATUS_NO_MEMORY;
    record->core = heap_alloc(1, rollout_size());
    record->history = heap_alloc(ENGINE_HISTORY, sizeof *record->history);
    if (record->core == NULL || record->history == NULL) {
        engine_record_destroy(record);
        return STATUS_NO_MEMORY;
    }
    snprintf(record->name, sizeof record->name, "%s", name);
    rollout_init(record->core);
    *made = record;
    return STATUS_OK;
}

void engine_record_destroy(struct engine_record *record)
{
    if (record == NULL)
        return;
    heap_free(record->core);
    heap_free(record->history);
    heap_free(record);
}

static void sum_spans(struct engine_record *record, const struct rollout_input *input)
{
    record->spans += input->tick.span_count;
    for (uint32_t i = 0; i < input->tick.span_count; i++) {
        for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
            const struct rollout_counts *counts = &input->tick.spans[i].arms[arm];
            record->arms[arm].routed += counts->routed;
            record->arms[arm].completed += counts->completed;
            record->arms[arm].failed += counts->failed;
            record->arms[arm].errors += counts->errors;
        }
    }
}

// ---- runs of another rule ----

static void foreign_begin(struct engine_record *record, const struct rollout_spec *spec)
{
    record->foreign = (struct engine_foreign){.on = true, .rule = spec->rule, .spec = *spec};
    rollout_spec_upgrade(&record->foreign.spec);
    record->foreign.stood = (struct rollout_takeover){.state = ROLLOUT_PENDING};
}

void engine_record_follow(struct engine_record *record, const struct rollout_effects *effects,
                          int64_t time_ms)
{
    struct rollout_takeover *stood = &record->foreign.stood;
    if (effects->has_verdict) {
        stood->last = effects->verdict;
        if (effects->verdict.outcome == ROLLOUT_OUTCOME_STARTED)
            stood->started_ms = effects->verdict.time_ms;
    }
    if (effects->to != stood->state)
        stood->state_since_ms = effects->has_verdict ? effects->verdict.time_ms : time_ms;
    if (effects->to == ROLLOUT_PAUSED && effects->from != ROLLOUT_PAUSED)
        stood->paused_from = effects->from;
    stood->state = effects->to;
    stood->stage = effects->stage;
    stood->weight = effects->weight;
}

struct rollout_input engine_record_takeover(const struct engine_record *record, int64_t time_ms)
{
    struct rollout_input input = {.kind = ROLLOUT_INPUT_TAKEOVER, .time_ms = time_ms};
    input.takeover = record->foreign.stood;
    input.takeover.spec = &record->foreign.spec;
    return input;
}

static bool is_foreign(struct engine_record *record, const struct rollout_input *input)
{
    if (input->kind == ROLLOUT_INPUT_SPEC || input->kind == ROLLOUT_INPUT_TAKEOVER) {
        record->foreign.on = false;
        if (input->kind == ROLLOUT_INPUT_SPEC && input->spec->rule != ROLLOUT_RULE)
            foreign_begin(record, input->spec);
    } else if (record->foreign.on && input->kind == ROLLOUT_INPUT_EDGES) {
        record->foreign.stood.edges = input->edges;
    }
    return record->foreign.on;
}

// ---- steps ----

bool engine_record_step(struct engine_record *record, const struct rollout_input *input, uint32_t run,
                        uint64_t seq, struct rollout_effects *effects)
{
    if (input->kind == ROLLOUT_INPUT_SPEC) {
        record->run = run;
        record->run_seq = seq;
        record->run_ms = input->time_ms;
        memset(record->arms, 0, sizeof record->arms);
    }
    if (input->kind == ROLLOUT_INPUT_TICK && (record->foreign.on || engine_record_active(record)))
        sum_spans(record, input);
    record->inputs++;
    if (is_foreign(record, input)) {
        *effects = (struct rollout_effects){.refused = STATUS_OK};
        return false;
    }
    rollout_step(record->core, input, effects);
    return effects->changed || effects->has_verdict;
}

void engine_record_remember(struct engine_record *record, uint64_t seq, int64_t time_ms,
                            const struct rollout_effects *effects)
{
    struct engine_decision *slot = &record->history[record->history_count++ % ENGINE_HISTORY];
    *slot = (struct engine_decision){.seq = seq, .time_ms = time_ms, .run = record->run, .effects = *effects};
    record->decisions++;
}

void engine_record_failures(struct engine_record *record, struct slice words)
{
    if (record->history_count == 0)
        return;
    struct engine_decision *newest = &record->history[(record->history_count - 1) % ENGINE_HISTORY];
    utf8_copy(newest->failures, sizeof newest->failures, words);
}

const struct engine_decision *engine_record_decision(const struct engine_record *record, uint64_t i)
{
    uint64_t kept = record->history_count < ENGINE_HISTORY ? record->history_count : ENGINE_HISTORY;
    if (i >= kept)
        return NULL;
    return &record->history[(record->history_count - 1 - i) % ENGINE_HISTORY];
}

bool engine_record_active(const struct engine_record *record)
{
    if (record->run == 0)
        return false;
    struct rollout_view view;
    rollout_view_get(record->core, &view);
    return view.state != ROLLOUT_PENDING && !rollout_state_is_final(view.state);
}
