// SPDX-License-Identifier: Apache-2.0
// One tick: what was counted goes to the cores, what they decide takes effect. While the journal fails
// nothing is gathered: the proxy keeps the spans as long as their deadline, and says what it had to let go.
#include <string.h>

#include "base/check.h"
#include "control/control_private.h"

// ---- evidence ----

static void rate_note(struct control_live *live, uint32_t at, const struct rollout_span_delta *spans,
                      uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
            live->rate_ring[at][arm] += spans[i].arms[arm].routed;
            live->rate_sum[arm] += spans[i].arms[arm].routed;
        }
    }
}

static uint64_t losses_new(struct control *control, struct control_live *live, uint16_t service)
{
    struct proxy_sheet_losses losses;
    proxy_gather_losses(control->proxy, service, &losses);
    uint64_t fresh = losses.routed_unspanned - live->losses_told;
    live->losses_told = losses.routed_unspanned;
    fresh += live->spans_unwritten;
    live->spans_unwritten = 0;
    return fresh;
}

// Of the baseline: the stable version, of a flag's rollout the version that its requests go to anyway, or
// what events told.
static void latency_of(struct control *control, const struct control_live *live)
{
    const struct rollout_spec *spec = rollout_spec_of(live->record->core);
    const struct config_service *service = config_service_find(control->config, spec->service);
    bool of_flag = spec->flag[0] != '\0';
    const char *version = of_flag && service != NULL ? service->stable : spec->from;
    uint16_t slot = control_version_slot(control, spec->service, version);
    memset(control->histogram, 0, sizeof *control->histogram);
    if (of_flag && spec->service[0] == '\0') {
        const struct stats_histogram *told = control_events_baseline(live);
        if (told != NULL)
            *control->histogram = *told;
        return;
    }
    if (slot != PROXY_SLOT_NONE)
        proxy_version_latency(control->proxy, slot, control->histogram);
}

// The baseline's edges, once the stable version has been seen often enough; what it served before the rollout
// counts too.
static void freeze_edges(struct control *control, struct control_live *live)
{
    static const double quantiles[ROLLOUT_EDGES] = {0.5, 0.9, 0.99, 0.999};
    const struct rollout_spec *spec = rollout_spec_of(live->record->core);
    latency_of(control, live);
    const struct stats_histogram *seen = control->histogram;
    if (seen->count == 0 || seen->count < spec->latency.baseline_requests)
        return;
    struct rollout_input input = {.kind = ROLLOUT_INPUT_EDGES, .time_ms = control_wall_ms(control)};
    input.edges.requests = seen->count;
    for (int k = 0; k < ROLLOUT_EDGES; k++)
        input.edges.edge_us[k] = stats_histogram_edge(seen, quantiles[k]);
    struct rollout_effects effects;
    (void)!control_record(control, live, &input, live->record->run,
                          &effects); // a failure is told by record.c
}

// A tick without evidence is worth an entry only when the core waits for time to pass.
static bool time_matters(const struct control_live *live, const struct rollout_view *view, int64_t now_ms)
{
    if (view->state == ROLLOUT_ROLLING_BACK)
        return now_ms >= rollout_deadline_ms(live->record->core);
    bool waiting = now_ms >= rollout_deadline_ms(live->record->core) || view->pending.routed > 0;
    return waiting && now_ms - live->stepped_ms >= 1000;
}

static void tick_step(struct control *control, struct control_live *live, const struct rollout_view *view,
                      uint32_t count, uint64_t lost)
{
    struct rollout_input input = {.kind = ROLLOUT_INPUT_TICK, .time_ms = control_wall_ms(control)};
    if (count == 0 && lost == 0 && !time_matters(live, view, input.time_ms))
        return;
    input.tick.tick = proxy_tick(control->proxy);
    input.tick.spans_lost = lost;
    input.tick.spans = control->spans;
    input.tick.span_count = count;
    if (view->state == ROLLOUT_BASELINE) {
        latency_of(control, live);
        input.tick.baseline_count =
            control->histogram->count < UINT32_MAX ? (uint32_t)control->histogram->count : UINT32_MAX;
    }
    struct rollout_effects effects;
    enum status status = control_record(control, live, &input, live->record->run, &effects);
    // A failure is told by record.c. What the core has not seen is gone from the proxy: it counts as lost.
    if (status != STATUS_OK && !live->owed)
        live->spans_unwritten += count + lost;
}

// Gathers a service's spans. Those that no rollout needs are taken out of the proxy's sheets all the same.
static void tick_service(struct control *control, const struct config_service *service)
{
    const struct config_rollout *entry = config_rollout_of_service(control->config, service->name);
    struct control_live *live = entry != NULL ? control_live_find(control, entry->spec.name) : NULL;
    uint16_t slot = control_service_slot(control, service->name);
    if (slot == PROXY_SLOT_NONE)
        return;
    bool active = live != NULL && live->record != NULL && control_case_active(live->record);
    bool more = true;
    for (int i = 0; i < CONTROL_GATHERS_PER_TICK && more && !control->health.journal_failing; i++) {
        uint32_t count =
            proxy_gather_spans(control->proxy, slot, control->spans, ROLLOUT_TICK_SPANS_MAX, &more);
        uint64_t lost = live != NULL ? losses_new(control, live, slot) : 0;
        if (!active)
            continue;
        control_kill_note(live, control->spans, count);
        rate_note(live, control->rate_at, control->spans, count);
        struct rollout_view view;
        rollout_view_get(live->record->core, &view);
        if (i == 0 || count > 0)
            tick_step(control, live, &view, count, lost);
    }
    if (!active || control->health.journal_failing || live->owed)
        return;
    struct rollout_view view;
    rollout_view_get(live->record->core, &view);
    if (view.state == ROLLOUT_BASELINE)
        freeze_edges(control, live);
}

// A flag's rollout without a service: what came as events since the last tick.
static void tick_events(struct control *control, struct control_live *live)
{
    if (live->share.flag[0] == '\0' || live->share.service[0] != '\0' || live->record == NULL ||
        !control_case_active(live->record) || live->owed || control->health.journal_failing)
        return;
    uint64_t lost;
    uint32_t count = control_events_take(live, control->spans, &lost);
    control_kill_note(live, control->spans, count);
    lost += live->spans_unwritten;
    live->spans_unwritten = 0;
    rate_note(live, control->rate_at, control->spans, count);
    struct rollout_view view;
    rollout_view_get(live->record->core, &view);
    tick_step(control, live, &view, count, lost);
    if (control->health.journal_failing || live->owed)
        return;
    rollout_view_get(live->record->core, &view);
    if (view.state == ROLLOUT_BASELINE)
        freeze_edges(control, live);
}

// A flag's rollout that is rolling back may have lost its entry, or its service, with another file: then no
// service's tick is its own, and time alone has to end it.
static void tick_orphan(struct control *control, struct control_live *live)
{
    if (live->share.flag[0] == '\0' || live->share.service[0] == '\0' || live->record == NULL ||
        !control_case_active(live->record) || live->owed || control->health.journal_failing)
        return;
    const struct config_rollout *entry = config_rollout_of_service(control->config, live->share.service);
    if (entry != NULL && strcmp(entry->spec.name, live->name) == 0)
        return;
    struct rollout_view view;
    rollout_view_get(live->record->core, &view);
    tick_step(control, live, &view, 0, 0);
}

// ---- rates ----

static void rates_advance(struct control *control)
{
    control->rate_at = (control->rate_at + 1) % CONTROL_RATE_TICKS;
    for (uint32_t i = 0; i < control->live_count; i++) {
        struct control_live *live = &control->live[i];
        live->rate_ticks += live->rate_ticks < CONTROL_RATE_TICKS ? 1 : 0;
        for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
            live->rate_sum[arm] -= live->rate_ring[control->rate_at][arm];
            live->rate_ring[control->rate_at][arm] = 0;
        }
    }
    for (uint32_t i = 0; i < control->service_slot_count; i++) {
        struct control_service_rate *rate = &control->rates[i];
        uint64_t requests = 0;
        for (uint32_t v = 0; v < control->version_slot_count; v++) {
            if (control->version_slots[v].service != i)
                continue;
            uint64_t counts[PROXY_VERSION_COUNTERS];
            proxy_version_counts(control->proxy, (uint16_t)v, counts);
            requests += counts[PROXY_VERSION_REQUESTS];
        }
        uint64_t fresh = requests - rate->requests_before;
        rate->requests_before = requests;
        rate->sum -= rate->ring[control->rate_at];
        rate->ring[control->rate_at] = (uint32_t)fresh;
        rate->sum += (uint32_t)fresh;
    }
}

// ---- the proxy's events ----

static const char *version_name(const struct control *control, uint16_t slot)
{
    return slot < control->version_slot_count ? control->version_slots[slot].name : "-";
}

static void log_events(struct control *control)
{
    if (control->config->log.requests == CONFIG_LOG_REQUESTS_NONE)
        return;
    static const char *const messages[] = {
        [PROXY_EVENT_REJECTED] = "request refused for its form",
        [PROXY_EVENT_LOCAL] = "request answered by sluice itself",
        [PROXY_EVENT_UPSTREAM] = "an attempt upstream failed",
        [PROXY_EVENT_CUT] = "a response broke off in its middle",
        [PROXY_EVENT_FLAG] = "a flag could not choose the version",
    };
    struct proxy_event events[32];
    for (int round = 0; round < CONTROL_EVENTS_PER_TICK / 32; round++) {
        uint32_t count = proxy_events_take(control->proxy, events, ARRAY_LEN(events));
        for (uint32_t i = 0; i < count; i++) {
            const struct proxy_event *event = &events[i];
            bool known = event->service < control->service_slot_count;
            control_log_repeat(
                control->log, CONTROL_LOG_WARN, messages[event->kind],
                CONTROL_FIELDS(CONTROL_TEXT("reason", event->reason), CONTROL_NUMBER("status", event->status),
                               CONTROL_TEXT("service", known ? control->service_slots[event->service] : "-"),
                               CONTROL_TEXT("version", version_name(control, event->version)),
                               CONTROL_TEXT("endpoint", event->endpoint < control->endpoint_slot_count
                                                            ? control->endpoint_slots[event->endpoint].address
                                                            : "-"),
                               CONTROL_TEXT("client", event->client)));
        }
        if (count < ARRAY_LEN(events))
            return;
    }
}

// ---- the tick ----

// While the journal fails, tries once a second to get what is owed into it, or just to write at all.
static void journal_retry(struct control *control)
{
    if (io_loop_now_us(control->loop) < control->journal_retry_us)
        return;
    if (control_record_owed(control) != STATUS_OK || !control->health.journal_failing)
        return;
    (void)!control_record_note(control, JOURNAL_NOTE, "the journal can be written again");
}

void control_tick(struct control *control)
{
    if (control->health.journal_failing)
        journal_retry(control);
    rates_advance(control);
    struct control_fault fault;
    if (control->table_dirty && control_publish(control, &fault) == STATUS_OK)
        control->table_dirty = false;
    for (uint32_t i = 0; i < control->config->service_count && !control->health.journal_failing; i++)
        tick_service(control, &control->config->services[i]);
    for (uint32_t i = 0; i < control->live_count; i++)
        tick_events(control, &control->live[i]);
#ifndef BUG_ORPHAN_STAYS
    for (uint32_t i = 0; i < control->live_count; i++)
        tick_orphan(control, &control->live[i]);
#endif
    for (uint32_t i = 0; i < control->live_count && !control->health.journal_failing; i++)
        control_kill_tick(control, &control->live[i]);
    log_events(control);
    control_flags_tick(control);
    control_log_flush(control->log, false);
    proxy_reclaim(control->proxy);
}
