// SPDX-License-Identifier: Apache-2.0
// One tick: what was counted goes to the cores, what they decide takes effect. While the journal fails the
// cores are told to move nothing forward, and what they take back takes effect; once too much waits for the
// journal, nothing is gathered: where it was counted it is kept as long as its deadline, and what had to go
// is told.
#include <string.h>

#include "base/heap.h"
#include "ship/engine/engine_private.h"

// ---- evidence ----

static void rate_note(struct engine_rollout *rollout, uint32_t at, const struct rollout_span_delta *spans,
                      uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
            rollout->rate_ring[at][arm] += spans[i].arms[arm].routed;
            rollout->rate_sum[arm] += spans[i].arms[arm].routed;
        }
    }
}

static void freeze_edges(struct engine *engine, struct engine_rollout *rollout)
{
    struct rollout_input input = {.kind = ROLLOUT_INPUT_EDGES, .time_ms = engine_wall_ms(engine)};
    if (engine_baseline_edges(engine, rollout, &input.edges) != STATUS_OK)
        return;
    struct rollout_effects effects;
    // A failure is told by order.c.
    (void)!engine_journal_input(engine, rollout, &input, rollout->record->run, &effects);
}

// A tick without evidence is worth an entry only when the core waits for time to pass.
static bool time_matters(const struct rollout_view *view, const struct rollout *core, uint64_t ticks_passed)
{
    uint64_t passed_ms = ticks_passed * ROLLOUT_TICK_MS;
    bool over = passed_ms >= rollout_wait_ms(core);
    if (view->state == ROLLOUT_ROLLING_BACK)
        return over;
    return (over || view->pending.routed > 0) && passed_ms >= 1000;
}

// What copies of requests showed and the core has not seen; NULL: nothing. Without memory it is asked for at
// the next tick.
static struct engine_shadow *shadow_gather(struct engine *engine, struct engine_rollout *rollout)
{
    const struct engine_source *source = engine->sources[rollout->route.spec.source];
    if (!rollout->route.shadow || source->shadow == NULL)
        return NULL;
    if (rollout->shadow == NULL)
        rollout->shadow = heap_alloc(1, sizeof *rollout->shadow);
    struct engine_shadow *shadow = rollout->shadow;
    if (shadow == NULL)
        return NULL;
    if (shadow->run != rollout->route.run)
        *shadow = (struct engine_shadow){.run = rollout->route.run};
    if (!shadow->full)
        shadow->full = source->shadow(engine->world, rollout, shadow->rows, &shadow->delta);
    return shadow->full ? shadow : NULL;
}

static void tick_step(struct engine *engine, struct engine_rollout *rollout, uint32_t count, uint64_t lost)
{
    struct engine_shadow *shadow = shadow_gather(engine, rollout);
    struct rollout_view view;
    rollout_view_get(rollout->record->core, &view);
    struct rollout_input input = {.kind = ROLLOUT_INPUT_TICK, .time_ms = engine_wall_ms(engine)};
    input.tick.tick = engine->host->tick(engine->world);
    uint64_t passed = input.tick.tick - rollout->stepped_tick;
    if (count == 0 && lost == 0 && shadow == NULL && !time_matters(&view, rollout->record->core, passed))
        return;
    uint64_t slept = engine->slept_ticks;
    input.tick.slept_ticks = slept - rollout->slept_told;
    input.tick.spans_lost = lost;
    input.tick.hold = engine->health.journal_failing || engine->health.careful;
    input.tick.spans = engine->spans;
    input.tick.span_count = count;
    input.tick.shadow = shadow != NULL ? &shadow->delta : NULL;
    if (view.state == ROLLOUT_BASELINE) {
        uint64_t seen = engine_baseline_count(engine, rollout);
        input.tick.baseline_count = seen < UINT32_MAX ? (uint32_t)seen : UINT32_MAX;
    }
    struct rollout_effects effects;
    enum status status = engine_journal_input(engine, rollout, &input, rollout->record->run, &effects);
    // A failure is told by order.c. What the core has not seen is gone where it was counted: it is lost.
    bool seen = status == STATUS_OK || rollout->owed;
    if (seen)
        rollout->slept_told = slept;
    else
        rollout->spans_unwritten += count + lost;
    if (seen && shadow != NULL)
        shadow->full = false;
}

static bool can_step(const struct engine *engine, const struct engine_rollout *rollout)
{
    bool room = !engine->health.journal_failing || engine_backlog_has_room(&engine->backlog);
    return room && !rollout->owed && engine_rollout_active(rollout);
}

// Before anything more is gathered. A failure is told by order.c, and it is tried again.
static void redefine(struct engine *engine, struct engine_rollout *rollout)
{
    struct rollout_input input = {.kind = ROLLOUT_INPUT_REDEFINED, .time_ms = engine_wall_ms(engine)};
    input.redefined.errors_id = engine_errors_id(engine->config, rollout_spec_of(rollout->record->core));
    input.redefined.table = rollout->redefined_table;
    struct rollout_effects effects;
    if (engine_journal_input(engine, rollout, &input, rollout->record->run, &effects) != STATUS_OK)
        return;
    rollout->redefined_table = 0;
    memset(&rollout->kill, 0, sizeof rollout->kill);
}

static void tick_rollout(struct engine *engine, struct engine_rollout *rollout)
{
    if (rollout->redefined_table > 0 && can_step(engine, rollout))
        redefine(engine, rollout);
    if (rollout->redefined_table > 0)
        return;
    bool more = true;
    for (int i = 0; i < ENGINE_GATHERS_PER_TICK && more && can_step(engine, rollout); i++) {
        const struct engine_source *source = engine->sources[rollout->route.spec.source];
        uint64_t lost = rollout->spans_unwritten;
        rollout->spans_unwritten = 0;
        more = false;
        uint32_t count = source->gather(engine->world, rollout, engine->spans, &lost, &more);
        engine_kill_note(rollout, engine->spans, count);
        rate_note(rollout, engine->rate_at, engine->spans, count);
        if (i == 0 || count > 0)
            tick_step(engine, rollout, count, lost);
    }
    if (!can_step(engine, rollout))
        return;
    struct rollout_view view;
    rollout_view_get(rollout->record->core, &view);
    if (view.state == ROLLOUT_BASELINE && !engine->health.journal_failing)
        freeze_edges(engine, rollout);
}

// ---- the tick ----

static void rates_advance(struct engine *engine)
{
    engine->rate_at = (engine->rate_at + 1) % ENGINE_RATE_TICKS;
    for (uint32_t i = 0; i < engine->rollout_count; i++) {
        struct engine_rollout *rollout = &engine->rollouts[i];
        rollout->rate_ticks += rollout->rate_ticks < ENGINE_RATE_TICKS ? 1 : 0;
        for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
            rollout->rate_sum[arm] -= rollout->rate_ring[engine->rate_at][arm];
            rollout->rate_ring[engine->rate_at][arm] = 0;
        }
    }
}

// While the journal fails, tries once a second to get what is owed into it, or just to write at all.
static void journal_retry(struct engine *engine)
{
    if (io_loop_now_us(engine->loop) < engine->journal_retry_us)
        return;
    if (engine_journal_owed(engine) != STATUS_OK || !engine->health.journal_failing)
        return;
    (void)!engine_journal_note(engine, JOURNAL_NOTE, NULL, "the journal can be written again");
}

// In the file's order, then those that the file has no more: one that rolls back is seen to its end.
static void tick_rollouts(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->config->rollout_count; i++) {
        struct engine_rollout *rollout = engine_rollout_find(engine, engine->config->rollouts[i].spec.name);
        if (rollout != NULL)
            tick_rollout(engine, rollout);
    }
    for (uint32_t i = 0; i < engine->rollout_count; i++)
        if (config_rollout_find(engine->config, engine->rollouts[i].name) == NULL)
            tick_rollout(engine, &engine->rollouts[i]);
}

// What happened while this process stood still is unknown, not good: those ticks count as slept.
static void notice_sleep(struct engine *engine)
{
    uint64_t tick = engine->host->tick(engine->world);
    uint64_t gap = tick - engine->ticked;
    if (engine->ticked > 0 && gap > ENGINE_SLEEP_TICKS)
        engine->slept_ticks += gap - 1;
    engine->ticked = tick;
}

void engine_tick(struct engine *engine)
{
    notice_sleep(engine);
    if (engine->health.journal_failing)
        journal_retry(engine);
    rates_advance(engine);
    engine->host->tick_began(engine->world);
    tick_rollouts(engine);
    for (uint32_t i = 0; i < engine->rollout_count; i++)
        engine_kill_tick(engine, &engine->rollouts[i]);
    engine->host->tick_over(engine->world);
}
