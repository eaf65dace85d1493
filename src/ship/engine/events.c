// SPDX-License-Identifier: Apache-2.0
// An event is routed and completed at once: its span is the tick in which it came, under the split in force.
// Which keys were seen, and which erred, is remembered in direct-mapped tables: a key that another one pushed
// out counts once more, in every arm alike.
#include "ship/engine/events.h"

#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/siphash.h"
#include "ship/engine/engine_private.h"
#include "stats/histogram.h"

enum {
    EVENTS_SEEN = 1 << 16, // a power of two
    EVENTS_SPANS = 64,     // named by tick and split: between two gathers there are two or three
};

struct engine_events {
    uint32_t run; // whose evidence this is
    uint64_t units[EVENTS_SEEN];
    uint64_t errors[EVENTS_SEEN];
    struct rollout_span_delta spans[EVENTS_SPANS];
    uint32_t span_count;
    uint64_t lost;
    struct stats_histogram baseline; // latency of the arm `from`, before the rollout moves
};

void engine_events_free(struct engine_live *live)
{
    heap_free(live->events);
    live->events = NULL;
}

// True the first time.
static bool see(uint64_t table[EVENTS_SEEN], uint64_t hash)
{
    uint64_t *slot = &table[hash % EVENTS_SEEN];
    bool first = *slot != hash;
    *slot = hash;
    return first;
}

static struct engine_events *events_of(struct engine_live *live)
{
    if (live->events != NULL && live->events->run == live->record->run)
        return live->events;
    engine_events_free(live);
    live->events = heap_alloc(1, sizeof *live->events);
    if (live->events != NULL)
        live->events->run = live->record->run;
    return live->events;
}

static struct rollout_span_delta *span_now(struct engine *engine, const struct engine_live *live,
                                           struct engine_events *events)
{
    uint64_t tick = proxy_tick(engine->proxy);
    struct rollout_span_delta *last = events->span_count > 0 ? &events->spans[events->span_count - 1] : NULL;
    if (last != NULL && last->tick == tick && last->table == live->split_table)
        return last;
    if (events->span_count == EVENTS_SPANS)
        return NULL;
    last = &events->spans[events->span_count++];
    *last =
        (struct rollout_span_delta){.tick = tick, .table = live->split_table, .weight = live->split_weight};
    return last;
}

static void count_latency(const struct engine_live *live, struct rollout_counts *counts, bool canary,
                          uint64_t latency_us)
{
    const struct engine_share *share = &live->share;
    uint64_t slack_us = canary ? share->edge_slack_us : 0;
    for (int k = 0; k < ROLLOUT_EDGES && share->edges.requests > 0; k++) {
        counts->slow[k] += latency_us > share->edges.edge_us[k] + slack_us;
        counts->slow_margin[k] += latency_us > share->edge_margin_us[k];
    }
}

static enum engine_event_outcome count(struct engine *engine, struct engine_live *live, enum rollout_arm arm,
                                       const struct engine_event *event, uint64_t unit)
{
    bool canary = arm == ROLLOUT_ARM_CANARY;
    struct engine_events *events = events_of(live);
    struct rollout_span_delta *span = events != NULL ? span_now(engine, live, events) : NULL;
    if (span == NULL) {
        if (events != NULL)
            events->lost++;
        return ENGINE_EVENT_LOST;
    }
    struct rollout_counts *counts = &span->arms[arm];
    counts->routed++;
    counts->completed++;
    counts->units += see(events->units, unit);
    if (event->error) {
        counts->errors++;
        counts->error_events += see(events->errors, unit);
    }
    if (event->has_latency)
        count_latency(live, counts, canary, event->latency_us);
    bool in_time = !event->has_latency || event->latency_us <= (uint64_t)live->share.deadline_ms * 1000;
    counts->good += !event->error && in_time;
    if (event->has_latency && arm == ROLLOUT_ARM_STABLE && live->share.edges.requests == 0)
        stats_histogram_record(&events->baseline, event->latency_us);
    return arm == ROLLOUT_ARM_CONTROL ? ENGINE_EVENT_RING : ENGINE_EVENT_COUNTED;
}

static bool takes_events(const struct engine_live *live)
{
    return live->share.flag[0] != '\0' && live->share.service[0] == '\0' && live->share.active &&
           live->record != NULL;
}

static struct engine_live *taker_of(struct engine *engine, struct slice flag)
{
    for (uint32_t i = 0; i < engine->live_count; i++)
        if (takes_events(&engine->live[i]) && slice_equal(slice_of(engine->live[i].share.flag), flag))
            return &engine->live[i];
    return NULL;
}

static struct slice key_of(const struct flags_context *context)
{
    if (context->has_targeting_key)
        return context->targeting_key;
    const struct flags_json *member =
        context->tree != NULL ? flags_json_member(context->tree, SLICE("targetingKey")) : NULL;
    return member != NULL && member->kind == FLAGS_JSON_STRING ? member->text : (struct slice){"", 0};
}

enum engine_event_outcome engine_flag_event(struct engine *engine, const struct engine_event *event)
{
    struct engine_live *live = taker_of(engine, event->flag);
    if (live == NULL || engine->flags.set == NULL)
        return ENGINE_EVENT_UNWANTED;
    uint8_t scratch[FLAGS_SCRATCH_DEFAULT];
    struct flags_result result;
    flags_evaluate(&flagset_current(engine->flags.set)->all.set, event->flag, FLAGS_ANY, event->context,
                   (struct flags_scratch){scratch, sizeof scratch}, &result);
    if (result.arm == FLAGS_ARM_NONE)
        return ENGINE_EVENT_NO_ARM;
    struct slice key = key_of(event->context);
    const struct siphash_key salt = {live->record->run_seq, live->record->run};
    static const enum rollout_arm arms[] = {[FLAGS_ARM_FROM] = ROLLOUT_ARM_STABLE,
                                            [FLAGS_ARM_TO] = ROLLOUT_ARM_CANARY,
                                            [FLAGS_ARM_RING] = ROLLOUT_ARM_CONTROL};
    return count(engine, live, arms[result.arm], event, siphash(salt, key.data, key.len) | 1);
}

uint32_t engine_events_take(struct engine_live *live, struct rollout_span_delta *spans, uint64_t *lost)
{
    struct engine_events *events = live->events;
    *lost = 0;
    if (events == NULL || events->run != live->record->run)
        return 0;
    uint32_t count = events->span_count;
    memcpy(spans, events->spans, count * sizeof *spans);
    *lost = events->lost;
    events->span_count = 0;
    events->lost = 0;
    return count;
}

const struct stats_histogram *engine_events_baseline(const struct engine_live *live)
{
    const struct engine_events *events = live->events;
    return events != NULL && events->run == live->record->run ? &events->baseline : NULL;
}
