// SPDX-License-Identifier: Apache-2.0
// The kill switch: an absolute bound on the failures of what is being rolled out, over a sliding time. It
// gives an ordinary command, so the journal says who did it and why, and the replay needs to know nothing of
// it.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "ship/engine/engine_private.h"

void engine_kill_note(struct engine_rollout *rollout, const struct rollout_span_delta *spans, uint32_t count)
{
    struct engine_kill *kill = &rollout->kill;
    if (kill->run != rollout->route.run) {
        memset(kill, 0, sizeof *kill);
        kill->run = rollout->route.run;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct rollout_counts *canary = &spans[i].arms[ROLLOUT_ARM_CANARY], *ring = &spans[i].ring;
        kill->completed[kill->at] += canary->completed + ring->completed;
        kill->errors[kill->at] += canary->errors + ring->errors;
    }
}

static void act(struct engine *engine, struct engine_rollout *rollout, uint64_t errors, uint64_t completed,
                uint64_t within_ms)
{
    char who[ROLLOUT_WHO_BYTES];
    struct fault fault;
    snprintf(who, sizeof who, "kill switch: %llu of %llu failed in %llu s", (unsigned long long)errors,
             (unsigned long long)completed, (unsigned long long)(within_ms / 1000));
    if (engine_command(engine, rollout->name, ROLLOUT_COMMAND_ABORT, who, "the file", &fault) == STATUS_OK)
        return;
    log_repeat(engine->log, LOG_ERROR, "the kill switch could not act; tried again at every tick",
               LOG_FIELDS(LOG_TEXT("rollout", rollout->name), LOG_TEXT("why", fault.text)));
}

static bool can_abort(const struct engine_rollout *rollout)
{
    if (!engine_rollout_active(rollout))
        return false;
    struct rollout_view view;
    rollout_view_get(rollout->record->core, &view);
    return view.state != ROLLOUT_ROLLING_BACK && view.state != ROLLOUT_PENDING;
}

static void step_on(struct engine_kill *kill)
{
    kill->at = (kill->at + 1) % ENGINE_KILL_TICKS;
    kill->completed[kill->at] = 0;
    kill->errors[kill->at] = 0;
}

static void judge(struct engine *engine, struct engine_rollout *rollout, const struct config_kill *bound)
{
    const struct engine_kill *kill = &rollout->kill;
    uint64_t completed = 0, errors = 0;
    uint64_t ticks = bound->within_ms / ROLLOUT_TICK_MS;
    CHECK(ticks <= ENGINE_KILL_TICKS);
    for (uint64_t i = 0; i < ticks; i++) {
        uint32_t at = (uint32_t)((kill->at + ENGINE_KILL_TICKS - i) % ENGINE_KILL_TICKS);
        completed += kill->completed[at];
        errors += kill->errors[at];
    }
    if (completed >= bound->requests && (double)errors > bound->errors * (double)completed)
        act(engine, rollout, errors, completed, bound->within_ms);
}

void engine_kill_tick(struct engine *engine, struct engine_rollout *rollout)
{
    const struct config_rollout *entry = config_rollout_find(engine->config, rollout->name);
    if (rollout->kill.run != rollout->route.run)
        return;
    if (entry != NULL && entry->kill.errors > 0 && can_abort(rollout))
        judge(engine, rollout, &entry->kill);
    // Also without a bound: the file may get one while the rollout is under way.
    step_on(&rollout->kill);
}
