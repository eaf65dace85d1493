// SPDX-License-Identifier: Apache-2.0
// What the proxy counted, by the names of the file: spans for rollouts, rates for people, events for the log.
#include <string.h>

#include "base/check.h"
#include "ship/rollout/evidence.h"
#include "ship/routing/routing_private.h"

// ---- evidence ----

static uint32_t gather(struct routing *routing, uint16_t slot, struct rollout_span_delta *spans, uint32_t cap,
                       uint64_t *lost, bool *more)
{
    uint32_t count = proxy_gather_spans(routing->proxy, slot, spans, cap, more);
    struct proxy_sheet_losses losses;
    proxy_gather_losses(routing->proxy, slot, &losses);
    *lost += losses.routed_unspanned - routing->services[slot].losses_told;
    routing->services[slot].losses_told = losses.routed_unspanned;
    routing->services[slot].gathered = true;
    return count;
}

uint32_t routing_gather(struct routing *routing, const char *service, struct rollout_span_delta *spans,
                        uint32_t cap, uint64_t *lost, bool *more)
{
    uint16_t slot = routing_service_slot(routing, service);
    return slot == PROXY_SLOT_NONE ? 0 : gather(routing, slot, spans, cap, lost, more);
}

void routing_failures_get(const struct routing *routing, const char *service, struct rollout_failures *out)
{
    uint16_t slot = routing_service_slot(routing, service);
    if (slot == PROXY_SLOT_NONE)
        *out = (struct rollout_failures){0};
    else
        proxy_failures(routing->proxy, slot, out);
}

static void drain_unused(struct routing *routing)
{
    for (uint16_t slot = 0; slot < routing->service_slots.count; slot++) {
        uint64_t lost = 0;
        bool more = !routing->services[slot].gathered;
        for (int i = 0; i < ROUTING_GATHERS_PER_TICK && more; i++)
            (void)gather(routing, slot, routing->unused, ROUTING_UNUSED_SPANS, &lost, &more);
    }
}

// ---- rates ----

static void rates_advance(struct routing *routing)
{
    uint64_t requests[PROXY_SERVICES_MAX] = {0};
    for (uint32_t i = 0; i < routing->version_slots.count; i++) {
        uint16_t service = routing->version_slots.items[i].service;
        uint64_t counts[PROXY_VERSION_COUNTERS];
        if (service == PROXY_SLOT_NONE)
            continue;
        proxy_version_counts(routing->proxy, (uint16_t)i, counts);
        requests[service] += counts[PROXY_VERSION_REQUESTS];
    }
    routing->rate_at = (routing->rate_at + 1) % ROUTING_RATE_TICKS;
    for (uint32_t i = 0; i < routing->service_slots.count; i++) {
        struct routing_service *service = &routing->services[i];
        uint64_t all = service->requests_forgotten + requests[i];
        uint64_t fresh = all - service->requests_before;
        service->requests_before = all;
        service->sum -= service->ring[routing->rate_at];
        service->ring[routing->rate_at] = (uint32_t)fresh;
        service->sum += (uint32_t)fresh;
        service->gathered = false;
    }
}

uint16_t routing_stable_slot(const struct routing *routing, const char *service)
{
    uint16_t slot = routing_service_slot(routing, service);
    bool known = slot != PROXY_SLOT_NONE && config_service_find(routing->config, service) != NULL;
    return known ? routing->services[slot].stable : PROXY_SLOT_NONE;
}

void routing_traffic_get(const struct routing *routing, const char *service, struct routing_traffic *traffic)
{
    *traffic = (struct routing_traffic){.requests = 0};
    uint16_t slot = routing_service_slot(routing, service);
    uint16_t stable = routing_stable_slot(routing, service);
    if (stable == PROXY_SLOT_NONE)
        return;
    // The present tick is still being filled.
    uint64_t ticks = routing->ticks < ROUTING_RATE_TICKS ? routing->ticks : ROUTING_RATE_TICKS;
    double window_s = (double)(ticks < 2 ? 1 : ticks - 1) * ROLLOUT_TICK_MS / 1000.0;
    traffic->requests = routing->services[slot].requests_before;
    traffic->requests_per_second = (double)routing->services[slot].sum / window_s;
    uint64_t counts[PROXY_VERSION_COUNTERS];
    proxy_version_counts(routing->proxy, stable, counts);
    if (counts[PROXY_VERSION_REQUESTS] > 0)
        traffic->error_rate =
            (double)counts[PROXY_VERSION_ERROR_EVENTS] / (double)counts[PROXY_VERSION_REQUESTS];
}

// ---- the proxy's events ----

static const char *slot_name(const struct routing_slots *slots, uint16_t slot)
{
    return slot < slots->count ? slots->items[slot].name : "-";
}

static void log_event(struct routing *routing, const struct proxy_event *event)
{
    static const char *const messages[] = {
        [PROXY_EVENT_REJECTED] = "request refused for its form",
        [PROXY_EVENT_LOCAL] = "request answered by sluice itself",
        [PROXY_EVENT_UPSTREAM] = "an attempt upstream failed",
        [PROXY_EVENT_STATUS] = "an origin answered with an error",
        [PROXY_EVENT_CUT] = "a response broke off in its middle",
        [PROXY_EVENT_FLAG] = "a flag could not choose the version",
    };
    char ms[32];
    snprintf(ms, sizeof ms, "%.1f", (double)event->elapsed_us / 1000);
    // Why attempts fail are few things, of ours or the origin's, and each is to be seen; what clients do
    // wrong they could vary to fill the log.
    log_repeat_why(routing->parts.log, LOG_WARN, messages[event->kind],
                   event->kind == PROXY_EVENT_UPSTREAM ? event->reason : "",
                   LOG_FIELDS(LOG_TEXT("reason", event->reason), LOG_NUMBER("status", event->status),
                              LOG_TEXT("method", event->method), LOG_TEXT("host", event->host),
                              LOG_TEXT("path", event->path), LOG_TEXT("ms", ms),
                              LOG_TEXT("service", slot_name(&routing->service_slots, event->service)),
                              LOG_TEXT("version", slot_name(&routing->version_slots, event->version)),
                              LOG_TEXT("endpoint", event->endpoint < routing->endpoint_slot_count
                                                       ? routing->endpoint_slots[event->endpoint].address
                                                       : "-"),
                              LOG_TEXT("client", event->client)));
}

void routing_events_tell(struct routing *routing, uint32_t most)
{
    if (routing->config->log.requests == CONFIG_LOG_REQUESTS_NONE)
        return;
    struct proxy_event events[32];
    for (uint32_t told = 0; told < most; told += ARRAY_LEN(events)) {
        uint32_t count = proxy_events_take(routing->proxy, events, ARRAY_LEN(events));
        for (uint32_t i = 0; i < count; i++)
            log_event(routing, &events[i]);
        if (count < ARRAY_LEN(events))
            return;
    }
}

// ---- the tick ----

void routing_tick_began(struct routing *routing)
{
    struct fault fault;
    routing->ticks++;
    rates_advance(routing);
    routing_slots_tick(routing);
    routing_names_take(routing);
    routing_lists_tick(routing);
    routing_tls_tick(routing);
    // Not before the last table is in force everywhere: its slots come free only then.
    bool moved = routing->names_moved && !routing->ack_awaited;
    if ((routing->table_dirty || moved) &&
        routing_publish(routing, routing->config, false, &fault) == STATUS_OK)
        routing->table_dirty = false;
}

void routing_tick_over(struct routing *routing, bool drain)
{
    if (drain)
        drain_unused(routing);
    routing_events_tell(routing, ROUTING_EVENTS_PER_TICK);
    routing_health_tick(routing);
    proxy_reclaim(routing->proxy);
}
