// SPDX-License-Identifier: Apache-2.0
// One tick: what was counted goes to the cores, what they decide takes effect. While the journal fails
// nothing is gathered: the proxy keeps the spans as long as their deadline, and says what it had to let go.
#include <string.h>

#include "base/check.h"
#include "ship/engine/engine_private.h"

// ---- evidence ----

static void rate_note(struct engine_live *live, uint32_t at, const struct rollout_span_delta *spans,
                      uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
            live->rate_ring[at][arm] += spans[i].arms[arm].routed;
            live->rate_sum[arm] += spans[i].arms[arm].routed;
        }
    }
}

static uint64_t losses_new(struct engine *engine, struct engine_live *live, uint16_t service)
{
    struct proxy_sheet_losses losses;
    proxy_gather_losses(engine->proxy, service, &losses);
    uint64_t fresh = losses.routed_unspanned - live->losses_told;
    live->losses_told = losses.routed_unspanned;
    fresh += live->spans_unwritten;
    live->spans_unwritten = 0;
    return fresh;
}

// Of the baseline: the stable version, of a flag's rollout the version that its requests go to anyway, or
// what events told.
static void latency_of(struct engine *engine, const struct engine_live *live)
{
    const struct rollout_spec *spec = rollout_spec_of(live->record->core);
    const struct config_service *service = config_service_find(engine->config, spec->service);
    bool of_flag = spec->flag[0] != '\0';
    const char *version = of_flag && service != NULL ? service->stable : spec->from;
    uint16_t slot = engine_version_slot(engine, spec->service, version);
    memset(engine->histogram, 0, sizeof *engine->histogram);
    if (of_flag && spec->service[0] == '\0') {
        const struct stats_histogram *told = engine_events_baseline(live);
        if (told != NULL)
            *engine->histogram = *told;
        return;
    }
    if (slot != PROXY_SLOT_NONE)
        proxy_version_latency(engine->proxy, slot, engine->histogram);
}

// The baseline's edges, once the stable version has been seen often enough; what it served before the rollout
// counts too.
static void freeze_edges(struct engine *engine, struct engine_live *live)
{
    static const double quantiles[ROLLOUT_EDGES] = {0.5, 0.9, 0.99, 0.999};
    const struct rollout_spec *spec = rollout_spec_of(live->record->core);
    latency_of(engine, live);
    const struct stats_histogram *seen = engine->histogram;
    if (seen->count == 0 || seen->count < spec->latency.baseline_requests)
        return;
    struct rollout_input input = {.kind = ROLLOUT_INPUT_EDGES, .time_ms = engine_wall_ms(engine)};
    input.edges.requests = seen->count;
    for (int k = 0; k < ROLLOUT_EDGES; k++)
        input.edges.edge_us[k] = stats_histogram_edge(seen, quantiles[k]);
    struct rollout_effects effects;
    (void)!engine_record(engine, live, &input, live->record->run,
                         &effects); // a failure is told by record.c
}

// A tick without evidence is worth an entry only when the core waits for time to pass.
static bool time_matters(const struct engine_live *live, const struct rollout_view *view, int64_t now_ms)
{
    if (view->state == ROLLOUT_ROLLING_BACK)
        return now_ms >= rollout_deadline_ms(live->record->core);
    bool waiting = now_ms >= rollout_deadline_ms(live->record->core) || view->pending.routed > 0;
    return waiting && now_ms - live->stepped_ms >= 1000;
}

static void tick_step(struct engine *engine, struct engine_live *live, const struct rollout_view *view,
                      uint32_t count, uint64_t lost)
{
    struct rollout_input input = {.kind = ROLLOUT_INPUT_TICK, .time_ms = engine_wall_ms(engine)};
    if (count == 0 && lost == 0 && !time_matters(live, view, input.time_ms))
        return;
    input.tick.tick = proxy_tick(engine->proxy);
    input.tick.spans_lost = lost;
    input.tick.spans = engine->spans;
    input.tick.span_count = count;
    if (view->state == ROLLOUT_BASELINE) {
        latency_of(engine, live);
        input.tick.baseline_count =
            engine->histogram->count < UINT32_MAX ? (uint32_t)engine->histogram->count : UINT32_MAX;
    }
    struct rollout_effects effects;
    enum status status = engine_record(engine, live, &input, live->record->run, &effects);
    // A failure is told by record.c. What the core has not seen is gone from the proxy: it counts as lost.
    if (status != STATUS_OK && !live->owed)
        live->spans_unwritten += count + lost;
}

// Gathers a service's spans. Those that no rollout needs are taken out of the proxy's sheets all the same.
static void tick_service(struct engine *engine, const struct config_service *service)
{
    const struct config_rollout *entry = config_rollout_of_service(engine->config, service->name);
    struct engine_live *live = entry != NULL ? engine_live_find(engine, entry->spec.name) : NULL;
    uint16_t slot = engine_service_slot(engine, service->name);
    if (slot == PROXY_SLOT_NONE)
        return;
    bool active = live != NULL && live->record != NULL && engine_case_active(live->record);
    bool more = true;
    for (int i = 0; i < ENGINE_GATHERS_PER_TICK && more && !engine->health.journal_failing; i++) {
        uint32_t count =
            proxy_gather_spans(engine->proxy, slot, engine->spans, ROLLOUT_TICK_SPANS_MAX, &more);
        uint64_t lost = live != NULL ? losses_new(engine, live, slot) : 0;
        if (!active)
            continue;
        engine_kill_note(live, engine->spans, count);
        rate_note(live, engine->rate_at, engine->spans, count);
        struct rollout_view view;
        rollout_view_get(live->record->core, &view);
        if (i == 0 || count > 0)
            tick_step(engine, live, &view, count, lost);
    }
    if (!active || engine->health.journal_failing || live->owed)
        return;
    struct rollout_view view;
    rollout_view_get(live->record->core, &view);
    if (view.state == ROLLOUT_BASELINE)
        freeze_edges(engine, live);
}

// A flag's rollout without a service: what came as events since the last tick.
static void tick_events(struct engine *engine, struct engine_live *live)
{
    if (live->share.flag[0] == '\0' || live->share.service[0] != '\0' || live->record == NULL ||
        !engine_case_active(live->record) || live->owed || engine->health.journal_failing)
        return;
    uint64_t lost;
    uint32_t count = engine_events_take(live, engine->spans, &lost);
    engine_kill_note(live, engine->spans, count);
    lost += live->spans_unwritten;
    live->spans_unwritten = 0;
    rate_note(live, engine->rate_at, engine->spans, count);
    struct rollout_view view;
    rollout_view_get(live->record->core, &view);
    tick_step(engine, live, &view, count, lost);
    if (engine->health.journal_failing || live->owed)
        return;
    rollout_view_get(live->record->core, &view);
    if (view.state == ROLLOUT_BASELINE)
        freeze_edges(engine, live);
}

// A flag's rollout that is rolling back may have lost its entry, or its service, with another file: then no
// service's tick is its own, and time alone has to end it.
static void tick_orphan(struct engine *engine, struct engine_live *live)
{
    if (live->share.flag[0] == '\0' || live->share.service[0] == '\0' || live->record == NULL ||
        !engine_case_active(live->record) || live->owed || engine->health.journal_failing)
        return;
    const struct config_rollout *entry = config_rollout_of_service(engine->config, live->share.service);
    if (entry != NULL && strcmp(entry->spec.name, live->name) == 0)
        return;
    struct rollout_view view;
    rollout_view_get(live->record->core, &view);
    tick_step(engine, live, &view, 0, 0);
}

// ---- rates ----

static void rates_advance(struct engine *engine)
{
    engine->rate_at = (engine->rate_at + 1) % ENGINE_RATE_TICKS;
    for (uint32_t i = 0; i < engine->live_count; i++) {
        struct engine_live *live = &engine->live[i];
        live->rate_ticks += live->rate_ticks < ENGINE_RATE_TICKS ? 1 : 0;
        for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
            live->rate_sum[arm] -= live->rate_ring[engine->rate_at][arm];
            live->rate_ring[engine->rate_at][arm] = 0;
        }
    }
    for (uint32_t i = 0; i < engine->service_slot_count; i++) {
        struct engine_service_rate *rate = &engine->rates[i];
        uint64_t requests = 0;
        for (uint32_t v = 0; v < engine->version_slot_count; v++) {
            if (engine->version_slots[v].service != i)
                continue;
            uint64_t counts[PROXY_VERSION_COUNTERS];
            proxy_version_counts(engine->proxy, (uint16_t)v, counts);
            requests += counts[PROXY_VERSION_REQUESTS];
        }
        uint64_t fresh = requests - rate->requests_before;
        rate->requests_before = requests;
        rate->sum -= rate->ring[engine->rate_at];
        rate->ring[engine->rate_at] = (uint32_t)fresh;
        rate->sum += (uint32_t)fresh;
    }
}

// ---- the proxy's events ----

static const char *version_name(const struct engine *engine, uint16_t slot)
{
    return slot < engine->version_slot_count ? engine->version_slots[slot].name : "-";
}

static void log_events(struct engine *engine)
{
    if (engine->config->log.requests == CONFIG_LOG_REQUESTS_NONE)
        return;
    static const char *const messages[] = {
        [PROXY_EVENT_REJECTED] = "request refused for its form",
        [PROXY_EVENT_LOCAL] = "request answered by sluice itself",
        [PROXY_EVENT_UPSTREAM] = "an attempt upstream failed",
        [PROXY_EVENT_CUT] = "a response broke off in its middle",
        [PROXY_EVENT_FLAG] = "a flag could not choose the version",
    };
    struct proxy_event events[32];
    for (int round = 0; round < ENGINE_EVENTS_PER_TICK / 32; round++) {
        uint32_t count = proxy_events_take(engine->proxy, events, ARRAY_LEN(events));
        for (uint32_t i = 0; i < count; i++) {
            const struct proxy_event *event = &events[i];
            bool known = event->service < engine->service_slot_count;
            engine_log_repeat(
                engine->log, ENGINE_LOG_WARN, messages[event->kind],
                ENGINE_FIELDS(ENGINE_TEXT("reason", event->reason), ENGINE_NUMBER("status", event->status),
                              ENGINE_TEXT("service", known ? engine->service_slots[event->service] : "-"),
                              ENGINE_TEXT("version", version_name(engine, event->version)),
                              ENGINE_TEXT("endpoint", event->endpoint < engine->endpoint_slot_count
                                                          ? engine->endpoint_slots[event->endpoint].address
                                                          : "-"),
                              ENGINE_TEXT("client", event->client)));
        }
        if (count < ARRAY_LEN(events))
            return;
    }
}

// ---- the tick ----

// While the journal fails, tries once a second to get what is owed into it, or just to write at all.
static void journal_retry(struct engine *engine)
{
    if (io_loop_now_us(engine->loop) < engine->journal_retry_us)
        return;
    if (engine_record_owed(engine) != STATUS_OK || !engine->health.journal_failing)
        return;
    (void)!engine_record_note(engine, JOURNAL_NOTE, "the journal can be written again");
}

void engine_tick(struct engine *engine)
{
    if (engine->health.journal_failing)
        journal_retry(engine);
    rates_advance(engine);
    struct fault fault;
    if (engine->table_dirty && engine_publish(engine, &fault) == STATUS_OK)
        engine->table_dirty = false;
    for (uint32_t i = 0; i < engine->config->service_count && !engine->health.journal_failing; i++)
        tick_service(engine, &engine->config->services[i]);
    for (uint32_t i = 0; i < engine->live_count; i++)
        tick_events(engine, &engine->live[i]);
    for (uint32_t i = 0; i < engine->live_count; i++)
        tick_orphan(engine, &engine->live[i]);
    for (uint32_t i = 0; i < engine->live_count && !engine->health.journal_failing; i++)
        engine_kill_tick(engine, &engine->live[i]);
    log_events(engine);
    engine_flags_tick(engine);
    engine_log_flush(engine->log, false);
    proxy_reclaim(engine->proxy);
}
