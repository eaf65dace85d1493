// SPDX-License-Identifier: Apache-2.0
// The kill switch: an absolute bound on the failures of what is being rolled out, over a sliding time. It
// gives an ordinary command, so the journal says who did it and why, and the replay needs to know nothing of
// it.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "ship/engine/engine_private.h"

void engine_kill_note(struct engine_live *live, struct rollout_span_delta *spans, uint32_t count)
{
    struct engine_kill *kill = &live->kill;
    bool of_flag = live->share.flag[0] != '\0';
    if (kill->run != live->share.run) {
        memset(kill, 0, sizeof *kill);
        kill->run = live->share.run;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct rollout_counts *arms = spans[i].arms;
        kill->completed[kill->at] += arms[ROLLOUT_ARM_CANARY].completed;
        kill->errors[kill->at] += arms[ROLLOUT_ARM_CANARY].errors;
        if (!of_flag)
            continue;
        kill->completed[kill->at] += arms[ROLLOUT_ARM_CONTROL].completed;
        kill->errors[kill->at] += arms[ROLLOUT_ARM_CONTROL].errors;
        memset(&arms[ROLLOUT_ARM_CONTROL], 0, sizeof arms[ROLLOUT_ARM_CONTROL]);
    }
}

static void act(struct engine *engine, struct engine_live *live, uint64_t errors, uint64_t completed,
                uint64_t within_ms)
{
    char who[ROLLOUT_WHO_BYTES];
    struct fault fault;
    snprintf(who, sizeof who, "kill switch: %llu of %llu failed in %llu s", (unsigned long long)errors,
             (unsigned long long)completed, (unsigned long long)(within_ms / 1000));
    if (engine_command(engine, live->name, ROLLOUT_COMMAND_ABORT, who, "the file", &fault) == STATUS_OK)
        return;
    engine_log_repeat(engine->log, ENGINE_LOG_ERROR,
                      "the kill switch could not act; tried again at every tick",
                      ENGINE_FIELDS(ENGINE_TEXT("rollout", live->name), ENGINE_TEXT("why", fault.text)));
}

static bool can_abort(const struct engine_live *live)
{
    if (live->record == NULL || live->owed || !engine_case_active(live->record))
        return false;
    struct rollout_view view;
    rollout_view_get(live->record->core, &view);
    return view.state != ROLLOUT_ROLLING_BACK && view.state != ROLLOUT_PENDING;
}

static void step_on(struct engine_kill *kill)
{
    kill->at = (kill->at + 1) % ENGINE_KILL_TICKS;
    kill->completed[kill->at] = 0;
    kill->errors[kill->at] = 0;
}

static void judge(struct engine *engine, struct engine_live *live, const struct config_kill *bound)
{
    const struct engine_kill *kill = &live->kill;
    uint64_t completed = 0, errors = 0;
    uint64_t ticks = bound->within_ms / ROLLOUT_TICK_MS;
    CHECK(ticks <= ENGINE_KILL_TICKS);
    for (uint64_t i = 0; i < ticks; i++) {
        uint32_t at = (uint32_t)((kill->at + ENGINE_KILL_TICKS - i) % ENGINE_KILL_TICKS);
        completed += kill->completed[at];
        errors += kill->errors[at];
    }
    if (completed >= bound->requests && (double)errors > bound->errors * (double)completed)
        act(engine, live, errors, completed, bound->within_ms);
}

void engine_kill_tick(struct engine *engine, struct engine_live *live)
{
    const struct config_rollout *entry = config_rollout_find(engine->config, live->name);
    if (live->kill.run != live->share.run)
        return;
    if (entry != NULL && entry->kill.errors > 0 && can_abort(live))
        judge(engine, live, &entry->kill);
    // Also without a bound: the file may get one while the rollout is under way.
    step_on(&live->kill);
}
