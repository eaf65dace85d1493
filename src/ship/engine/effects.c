// SPDX-License-Identifier: Apache-2.0
// What a decision does to the world once it is in the journal: its target puts it in force, a line in the
// log, word to watchers.
#include <stdio.h>

#include "base/check.h"
#include "ship/engine/engine_private.h"

static enum log_level level_of(const struct rollout_effects *effects)
{
    enum rollout_outcome outcome = effects->verdict.outcome;
    bool worrying = outcome == ROLLOUT_OUTCOME_ROLLED_BACK || outcome == ROLLOUT_OUTCOME_UNDECIDED ||
                    outcome == ROLLOUT_OUTCOME_BLOCKED;
    return effects->has_verdict && worrying ? LOG_WARN : LOG_INFO;
}

static void log_effects(struct engine *engine, const struct engine_rollout *rollout, uint64_t seq,
                        const struct rollout_effects *effects)
{
    char weight[24];
    snprintf(weight, sizeof weight, "%g%%", effects->weight / 1000.0);
    char moved[96];
    snprintf(moved, sizeof moved, "%s -> %s", rollout_state_name(effects->from),
             rollout_state_name(effects->to));
    log_write(engine->log, level_of(effects), effects->has_verdict ? effects->verdict.text : moved,
              LOG_FIELDS(
                  LOG_TEXT("rollout", rollout->name), LOG_TEXT("state", rollout_state_name(effects->to)),
                  LOG_NUMBER("stage", effects->stage + 1), LOG_TEXT("weight", weight),
                  LOG_NUMBER("table", engine->host->table_version(engine->world)), LOG_NUMBER("entry", seq)));
}

// The failing requests, or in the shadow the paths, that a verdict which moved nothing forward saw; empty:
// none. No decision rests on them.
static void failures_of(struct engine *engine, struct engine_rollout *rollout,
                        const struct rollout_effects *effects, char words[ROLLOUT_FAILURES_TEXT_BYTES])
{
    words[0] = '\0';
    const struct engine_source *source = engine->sources[rollout->route.spec.source];
    const struct rollout_spec *spec = &rollout->route.spec;
    enum rollout_outcome outcome = effects->verdict.outcome;
    if (!effects->has_verdict ||
        (outcome != ROLLOUT_OUTCOME_ROLLED_BACK && outcome != ROLLOUT_OUTCOME_UNDECIDED))
        return;
    if (spec->stages[effects->verdict.stage].kind == ROLLOUT_STAGE_SHADOW) {
        if (source->differences != NULL)
            source->differences(engine->world, rollout, words);
        return;
    }
    if (source->failures == NULL)
        return;
    source->failures(engine->world, rollout, engine->failures);
    rollout_failures_words(engine->failures, effects->verdict.check, spec->to, spec->from, words);
}

// Behind the effect: the disk may be slow.
static void tell_failures(struct engine *engine, struct engine_rollout *rollout, const char *words)
{
    if (words[0] == '\0')
        return;
    log_write(engine->log, LOG_WARN, words, LOG_FIELDS(LOG_TEXT("rollout", rollout->name)));
    engine_record_failures(rollout->record, slice_of(words));
    (void)!engine_journal_note(engine, JOURNAL_NOTE, rollout, words);
}

void engine_effects_act(struct engine *engine, struct engine_rollout *rollout, uint64_t seq,
                        const struct rollout_effects *effects)
{
    char words[ROLLOUT_FAILURES_TEXT_BYTES];
    failures_of(engine, rollout, effects, words); // the effect begins their counts anew
    bool moved = engine_stable_fold(&engine->stables, rollout->record, effects);
    if (moved)
        engine_stable_fill(&engine->stables, engine->config);
    if (effects->publish || moved)
        engine->targets[rollout->route.spec.target]->apply(engine->world);
    tell_failures(engine, rollout, words);
    if (!effects->changed && !effects->has_verdict)
        return;
    log_effects(engine, rollout, seq, effects);
    const struct engine_decision *decision = engine_record_decision(rollout->record, 0);
    struct list *link = engine->watchers.next;
    while (link != &engine->watchers) {
        struct engine_watcher *watcher = CONTAINER_OF(link, struct engine_watcher, link);
        link = link->next; // the watcher may leave
        watcher->decided(watcher, rollout->name, decision);
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
