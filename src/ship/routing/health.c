// SPDX-License-Identifier: Apache-2.0
// Protection of endpoints between the file and the proxy: what the file says of it, which endpoints are
// checked, and what became of them, told once per change.
#include <stdio.h>
#include <string.h>

#include "base/heap.h"
#include "net/health/health.h"
#include "operate/metrics/exposition.h"
#include "ship/routing/routing_private.h"

// ---- from the file ----

const struct proxy_protection *routing_protection(const struct config_service *service,
                                                  struct proxy_protection *storage)
{
    const struct config_outlier *outlier = &service->outlier;
    const struct config_breaker *breaker = &service->breaker;
    if (!service->health.given && !outlier->given && !breaker->given && !service->fallback &&
        service->slow_start_ms == 0)
        return NULL;
    *storage = (struct proxy_protection){.panic = service->panic,
                                         .slow_start_ms = (uint32_t)service->slow_start_ms,
                                         .fallback = service->fallback};
    if (outlier->given)
        storage->outlier = (struct proxy_outlier){.consecutive = outlier->consecutive,
                                                  .ejection_ms = (uint32_t)outlier->ejection_ms,
                                                  .ejection_ms_max = (uint32_t)outlier->longest_ms,
                                                  .at_most = outlier->at_most};
    if (!breaker->given)
        return storage;
    storage->requests_max = breaker->requests;
    storage->breaker = (struct breaker_rule){.errors = breaker->errors,
                                             .requests_min = breaker->at_least,
                                             .window_ms = (uint32_t)breaker->within_ms,
                                             .open_ms = (uint32_t)breaker->open_ms,
                                             .probes = breaker->probes};
    return storage;
}

static struct health_rule rule_of(const struct config_health *health)
{
    struct health_rule rule = {.tcp = health->tcp,
                               .status_first = health->status.first,
                               .status_last = health->status.last,
                               .every_ms = (uint32_t)health->every_ms,
                               .timeout_ms = (uint32_t)health->timeout_ms,
                               .rise = health->rise,
                               .fall = health->fall,
                               .unhealthy_first = health->unhealthy_first};
    snprintf(rule.path, sizeof rule.path, "%s", health->path);
    snprintf(rule.host, sizeof rule.host, "%s", health->host);
    return rule;
}

static const char *service_name(const struct routing *routing, const struct routing_slot *version)
{
    return version->service == PROXY_SLOT_NONE ? "" : routing->service_slots.items[version->service].name;
}

// ---- active checks ----

static void on_change(void *context, uint16_t slot, const struct health_state *state)
{
    struct routing *routing = context;
    const struct routing_endpoint_slot *endpoint = &routing->endpoint_slots[slot];
    enum proxy_endpoint_health health = state->healthy   ? PROXY_ENDPOINT_HEALTHY
                                        : state->checked ? PROXY_ENDPOINT_UNHEALTHY
                                                         : PROXY_ENDPOINT_NEW;
    proxy_endpoint_health_set(routing->proxy, slot, health, io_loop_clock_us(routing->parts.loop));
    if (!state->checked)
        return;
    const struct routing_slot *version = &routing->version_slots.items[endpoint->version];
    log_write(routing->parts.log, state->healthy ? LOG_INFO : LOG_WARN,
              state->healthy ? "an endpoint is healthy again" : "an endpoint is unhealthy: its checks fail",
              LOG_FIELDS(LOG_TEXT("service", service_name(routing, version)),
                         LOG_TEXT("version", version->name), LOG_TEXT("endpoint", endpoint->address),
                         LOG_TEXT("problem", state->why != NULL ? state->why : ""),
                         LOG_NUMBER("status", state->status)));
}

static enum status checks_create(struct routing *routing)
{
    const struct health_parts parts = {.loop = routing->parts.loop,
                                       .slots = PROXY_ENDPOINTS_MAX,
                                       .seed = io_loop_clock_us(routing->parts.loop),
                                       .changed = on_change,
                                       .context = routing};
    return routing->checks != NULL ? STATUS_OK : health_create(&parts, &routing->checks);
}

struct follow {
    struct health_endpoint *endpoints;
    uint32_t count;
};

// Checks speak as the first worker does: whoever is believed by one is believed by all.
static void follow_version(struct routing *routing, const struct proxy_version_plan *version,
                           const struct health_rule *rule, struct follow *follow)
{
    struct tls_client *client = version->secure ? proxy_tls_client(routing->tls, 0, version->origin) : NULL;
    for (uint32_t i = 0; i < version->endpoint_count; i++) {
        const struct proxy_endpoint_plan *endpoint = &version->endpoints[i];
        if (rule != NULL)
            follow->endpoints[follow->count++] = (struct health_endpoint){.slot = endpoint->slot,
                                                                          .addr = endpoint->addr,
                                                                          .rule = rule,
                                                                          .secure = version->secure,
                                                                          .client = client,
                                                                          .name = endpoint->name,
                                                                          .header = version->header};
        else // it may have been checked before
            proxy_endpoint_health_set(routing->proxy, endpoint->slot, PROXY_ENDPOINT_HEALTHY,
                                      io_loop_clock_us(routing->parts.loop));
    }
}

static void follow_service(struct routing *routing, const struct proxy_service_plan *plan,
                           const struct health_rule *rule, struct follow *follow)
{
    for (uint32_t i = 0; i < plan->version_count; i++)
        follow_version(routing, &plan->versions[i], rule, follow);
}

static enum status follow_all(struct routing *routing, const struct proxy_service_plan *plans,
                              struct health_rule *rules, struct follow *follow)
{
    const struct config *config = routing->config;
    for (uint32_t i = 0; i < config->service_count; i++) {
        const struct config_health *health = &config->services[i].health;
        rules[i] = rule_of(health);
        follow_service(routing, &plans[i], health->given ? &rules[i] : NULL, follow);
    }
    return health_follow(routing->checks, follow->endpoints, follow->count);
}

enum status routing_health_follow(struct routing *routing, const struct proxy_service_plan *plans)
{
    const struct config *config = routing->config;
    bool checks = routing->checks != NULL;
    routing->protects = false;
    for (uint32_t i = 0; i < config->service_count; i++) {
        checks |= config->services[i].health.given;
        routing->protects |= plans[i].protection != NULL;
    }
    if (!checks)
        return STATUS_OK;
    struct health_rule *rules = heap_alloc(config->service_count + 1, sizeof *rules);
    struct follow follow = {.endpoints = heap_alloc(PROXY_TABLE_ENDPOINTS_MAX, sizeof *follow.endpoints)};
    enum status status = STATUS_NO_MEMORY;
    if (rules != NULL && follow.endpoints != NULL && checks_create(routing) == STATUS_OK)
        status = follow_all(routing, plans, rules, &follow);
    heap_free(rules);
    heap_free(follow.endpoints);
    return status;
}

void routing_health_deinit(struct routing *routing)
{
    if (routing->checks == NULL)
        return;
    health_close(routing->checks);
    while (!health_closed(routing->checks))
        if (io_loop_turn(routing->parts.loop, 10000) != STATUS_OK)
            break;
    health_destroy(routing->checks);
    routing->checks = NULL;
}

// ---- telling ----

static bool is_ejected(const struct routing *routing, uint32_t slot, struct proxy_endpoint_view *view)
{
    proxy_endpoint_get(routing->proxy, (uint16_t)slot, view);
    return view->out_until_us > io_loop_clock_us(routing->parts.loop);
}

static void tell_endpoint(struct routing *routing, uint32_t slot)
{
    struct routing_endpoint_slot *endpoint = &routing->endpoint_slots[slot];
    struct proxy_endpoint_view view;
    bool ejected = is_ejected(routing, slot, &view);
    if (ejected == endpoint->told_ejected)
        return;
    endpoint->told_ejected = ejected;
    uint64_t now_us = io_loop_clock_us(routing->parts.loop);
    const struct routing_slot *version = &routing->version_slots.items[endpoint->version];
    log_write(routing->parts.log, ejected ? LOG_WARN : LOG_INFO,
              ejected ? "an endpoint is ejected: its requests failed"
                      : "an endpoint is back after its ejection",
              LOG_FIELDS(LOG_TEXT("service", service_name(routing, version)),
                         LOG_TEXT("version", version->name), LOG_TEXT("endpoint", endpoint->address),
                         LOG_NUMBER("for_ms", ejected ? (view.out_until_us - now_us) / 1000 : 0)));
}

static const char *phase_name(enum breaker_phase phase)
{
    static const char *const names[] = {
        [BREAKER_CLOSED] = "closed", [BREAKER_OPEN] = "open", [BREAKER_HALF_OPEN] = "half-open"};
    return names[phase];
}

static void tell_breaker(struct routing *routing, uint32_t slot)
{
    struct routing_slot *version = &routing->version_slots.items[slot];
    enum breaker_phase phase = proxy_breaker_phase(routing->proxy, (uint16_t)slot);
    if (phase == version->told)
        return;
    version->told = phase;
    log_write(routing->parts.log, phase == BREAKER_OPEN ? LOG_WARN : LOG_INFO, "a breaker has changed",
              LOG_FIELDS(LOG_TEXT("service", service_name(routing, version)),
                         LOG_TEXT("version", version->name), LOG_TEXT("breaker", phase_name(phase))));
}

static bool is_in_table(const struct routing *routing, uint32_t slot)
{
    return routing->endpoint_slots[slot].hold.table == routing->state.table_version;
}

void routing_health_tick(struct routing *routing)
{
    if (!routing->protects)
        return;
    for (uint32_t i = 0; i < routing->endpoint_slot_count; i++)
        if (is_in_table(routing, i))
            tell_endpoint(routing, i);
    for (uint32_t i = 0; i < routing->version_slots.count; i++)
        tell_breaker(routing, i);
}

// ---- showing ----

static bool is_protected(const struct routing *routing, const char *service)
{
    struct proxy_protection storage;
    const struct config_service *found = config_service_find(routing->config, service);
    return found != NULL && routing_protection(found, &storage) != NULL;
}

static void show_endpoint(const struct routing *routing, uint32_t slot, struct routing_endpoint *out)
{
    struct proxy_endpoint_view view;
    const struct health_state *state =
        routing->checks != NULL ? health_of(routing->checks, (uint16_t)slot) : NULL;
    *out = (struct routing_endpoint){.ejected = is_ejected(routing, slot, &view)};
    out->healthy = view.health == PROXY_ENDPOINT_HEALTHY;
    out->in_use = out->healthy && !out->ejected;
    out->why = state != NULL ? state->why : NULL;
    snprintf(out->address, sizeof out->address, "%s", routing->endpoint_slots[slot].address);
}

uint32_t routing_endpoints(const struct routing *routing, const char *service, const char *version,
                           struct routing_endpoint *out, uint32_t cap)
{
    uint16_t slot = routing_version_slot(routing, service, version);
    uint32_t count = 0;
    if (slot == PROXY_SLOT_NONE || !is_protected(routing, service))
        return 0;
    for (uint32_t i = 0; i < routing->endpoint_slot_count && count < cap; i++)
        if (routing->endpoint_slots[i].version == slot && is_in_table(routing, i))
            show_endpoint(routing, i, &out[count++]);
    return count;
}

const char *routing_breaker(const struct routing *routing, const char *service, const char *version)
{
    uint16_t slot = routing_version_slot(routing, service, version);
    return phase_name(slot == PROXY_SLOT_NONE ? BREAKER_CLOSED : proxy_breaker_phase(routing->proxy, slot));
}

METRICS_FAMILY(in_use, GAUGE, "endpoint_healthy",
               "1: the endpoint is in use; 0: its checks fail, or it is ejected. Of services with health, "
               "outlier, breaker or fallback.");
METRICS_FAMILY(breakers, GAUGE, "breaker_state", "Breaker of a version: 0 closed, 1 open, 2 half-open.");

void routing_health_metrics(const struct routing *routing, struct metrics_writer *writer)
{
    metrics_open(writer, &in_use);
    for (uint32_t i = 0; i < routing->endpoint_slot_count && routing->protects; i++) {
        struct routing_endpoint shown;
        const struct routing_slot *version =
            &routing->version_slots.items[routing->endpoint_slots[i].version];
        if (!is_in_table(routing, i) || !is_protected(routing, service_name(routing, version)))
            continue;
        show_endpoint(routing, i, &shown);
        const struct metrics_label labels[] = {metrics_label_of("service", service_name(routing, version)),
                                               metrics_label_of("version", version->name),
                                               metrics_label_of("endpoint", shown.address)};
        metrics_count(writer, labels, 3, shown.in_use);
    }
    metrics_open(writer, &breakers);
    for (uint32_t i = 0; i < routing->version_slots.count && routing->protects; i++) {
        const struct routing_slot *version = &routing->version_slots.items[i];
        if (!is_protected(routing, service_name(routing, version)))
            continue;
        const struct metrics_label labels[] = {metrics_label_of("service", service_name(routing, version)),
                                               metrics_label_of("version", version->name)};
        metrics_count(writer, labels, 2, (uint64_t)proxy_breaker_phase(routing->proxy, (uint16_t)i));
    }
}
