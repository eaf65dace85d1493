// SPDX-License-Identifier: Apache-2.0
// Evidence that users of a flag send. An event is routed and completed at once: its span is the tick in which
// it came, under the split in force. What one key's events count is what a unit's requests would (sheet.h):
// one of each second is judged, the first error is an event, and a table that pushes none out remembers it.
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/siphash.h"
#include "flags/set/flagset.h"
#include "net/proxy/proxy.h"
#include "net/proxy/sheet.h"
#include "ship/rollout/evidence.h"
#include "ship/targets/targets_private.h"
#include "stats/histogram.h"

enum { EVENTS_SPANS = 64 }; // named by tick and split: between two gathers there are two or three

struct events {
    uint32_t run; // whose evidence this is
    struct sheet_units units;
    bool full_told;
    struct rollout_span_delta spans[EVENTS_SPANS];
    uint32_t span_count;
    uint64_t lost;
    struct stats_histogram baseline; // latency of the arm `from`, before the rollout moves
};

static void forget(struct engine_rollout *rollout)
{
    heap_free(rollout->evidence);
    rollout->evidence = NULL;
}

// Of the present run; NULL: none.
static struct events *events_find(const struct engine_rollout *rollout)
{
    struct events *events = rollout->evidence;
    return events != NULL && events->run == rollout->record->run ? events : NULL;
}

static struct events *events_of(struct engine_rollout *rollout)
{
    if (events_find(rollout) != NULL)
        return rollout->evidence;
    forget(rollout);
    struct events *events = heap_alloc(1, sizeof *events);
    if (events != NULL)
        events->run = rollout->record->run;
    rollout->evidence = events;
    return events;
}

static struct rollout_span_delta *span_now(const struct targets *targets,
                                           const struct engine_rollout *rollout, struct events *events)
{
    uint64_t tick = proxy_tick(targets->proxy);
    struct rollout_span_delta *last = events->span_count > 0 ? &events->spans[events->span_count - 1] : NULL;
    if (last != NULL && last->tick == tick && last->table == rollout->split_table)
        return last;
    if (events->span_count == EVENTS_SPANS)
        return NULL;
    last = &events->spans[events->span_count++];
    *last = (struct rollout_span_delta){
        .tick = tick, .table = rollout->split_table, .weight = rollout->split_weight};
    return last;
}

static void count_latency(const struct rollout_yardstick *by, struct rollout_counts *counts, bool canary,
                          uint64_t latency_us)
{
    const uint64_t *limits = canary ? by->worse_us : by->edges.edge_us;
    for (int k = 0; k < ROLLOUT_EDGES && by->edges.requests > 0; k++) {
        counts->slow[k] += latency_us > limits[k];
        counts->slow_margin[k] += latency_us > by->margin_us[k];
    }
}

static struct rollout_counts *counts_of(struct rollout_span_delta *span, enum flags_arm arm)
{
    return arm == FLAGS_ARM_RING ? &span->ring
           : arm == FLAGS_ARM_TO ? &span->arms[ROLLOUT_ARM_CANARY]
                                 : &span->arms[ROLLOUT_ARM_STABLE];
}

// Whether the event is judged, or one of its key was in this second already.
static bool route(const struct targets *targets, const struct engine_rollout *rollout, struct events *events,
                  struct rollout_counts *counts, uint64_t unit)
{
    struct sheet_sighting sighting = sheet_unit_see(&events->units, unit, proxy_tick(targets->proxy));
    counts->routed++;
    counts->units += sighting.first;
    counts->unit_squares += sighting.squares;
    counts->excused += !sighting.judged;
    if (sighting.no_room && !events->full_told) {
        events->full_told = true;
        log_write(
            engine_log_of(targets->engine), LOG_WARN,
            "more users than the table of this rollout holds: those without a place are judged at every "
            "event, and their errors are no votes",
            LOG_FIELDS(LOG_TEXT("rollout", rollout->name), LOG_NUMBER("places", SHEET_UNITS)));
    }
    return sighting.judged;
}

static bool first_error(const struct targets *targets, const struct rollout_yardstick *by,
                        struct events *events, uint64_t unit)
{
    const uint64_t tick_us = ROLLOUT_TICK_MS * 1000;
    return sheet_unit_erred(&events->units, unit, proxy_tick(targets->proxy),
                            (by->error_window_us + tick_us - 1) / tick_us);
}

static enum targets_event_outcome count(const struct targets *targets, struct engine_rollout *rollout,
                                        enum flags_arm arm, const struct targets_event *event, uint64_t unit)
{
    const struct rollout_yardstick *by = &rollout->route.yardstick;
    struct events *events = events_of(rollout);
    struct rollout_span_delta *span = events != NULL ? span_now(targets, rollout, events) : NULL;
    if (span == NULL) {
        if (events != NULL)
            events->lost++;
        return TARGETS_EVENT_LOST;
    }
    struct rollout_counts *counts = counts_of(span, arm);
    if (!route(targets, rollout, events, counts, unit))
        return TARGETS_EVENT_EXCUSED;
    counts->completed++;
    if (event->error) {
        counts->errors++;
        counts->failed++;
        counts->error_events += first_error(targets, by, events, unit);
    }
    if (event->has_latency)
        count_latency(by, counts, arm == FLAGS_ARM_TO, event->latency_us);
    bool in_time = !event->has_latency || event->latency_us <= by->deadline_us;
    counts->good += !event->error && in_time;
    if (event->has_latency && arm == FLAGS_ARM_FROM && by->edges.requests == 0)
        stats_histogram_record(&events->baseline, event->latency_us);
    return arm == FLAGS_ARM_RING ? TARGETS_EVENT_RING : TARGETS_EVENT_COUNTED;
}

static struct engine_rollout *taker_of(const struct targets *targets, struct slice flag)
{
    for (uint32_t i = 0; i < engine_rollout_count(targets->engine); i++) {
        struct engine_rollout *rollout = engine_rollout_at(targets->engine, i);
        const struct engine_route *route = &rollout->route;
        if (route->active && route->spec.source == ROLLOUT_SOURCE_EVENTS &&
            slice_equal(slice_of(route->spec.flag), flag))
            return rollout;
    }
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

enum targets_event_outcome targets_event_count(struct engine *engine, const struct targets_event *event)
{
    const struct targets *targets = targets_of(engine);
    struct engine_rollout *rollout = taker_of(targets, event->flag);
    const struct flagset *set = runtime_flagset(targets->runtime);
    if (rollout == NULL || set == NULL)
        return TARGETS_EVENT_UNWANTED;
    uint8_t scratch[FLAGS_SCRATCH_DEFAULT];
    struct flags_result result;
    flags_evaluate(&flagset_current(set)->all.set, event->flag, FLAGS_ANY, event->context,
                   (struct flags_scratch){scratch, sizeof scratch}, &result);
    if (result.arm == FLAGS_ARM_NONE)
        return TARGETS_EVENT_NO_ARM;
    struct slice key = key_of(event->context);
    const struct siphash_key salt = {rollout->record->run_seq, rollout->record->run};
    return count(targets, rollout, result.arm, event, siphash(salt, key.data, key.len));
}

static uint32_t gather(void *world, struct engine_rollout *rollout,
                       struct rollout_span_delta spans[ROLLOUT_TICK_SPANS_MAX], uint64_t *lost, bool *more)
{
    (void)world;
    (void)more;
    struct events *events = events_find(rollout);
    if (events == NULL)
        return 0;
    uint32_t count = events->span_count;
    memcpy(spans, events->spans, count * sizeof *spans);
    *lost += events->lost;
    events->span_count = 0;
    events->lost = 0;
    return count;
}

static void baseline(void *world, const struct engine_rollout *rollout, struct stats_histogram *seen)
{
    (void)world;
    const struct events *events = events_find(rollout);
    if (events != NULL)
        *seen = events->baseline;
}

const struct engine_source targets_events = {.gather = gather, .baseline = baseline, .forget = forget};
