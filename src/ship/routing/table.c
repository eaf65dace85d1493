// SPDX-License-Identifier: Apache-2.0
// From the file, and what its runs want, to the routing table.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "ship/routing/routing_private.h"

// What one service calls an error.
struct errors_scratch {
    struct proxy_errors_plan plan;
    struct proxy_status_range statuses[CONFIG_ERROR_STATUSES_MAX];
    struct proxy_error_header_plan headers[CONFIG_ERROR_HEADERS_MAX];
};

struct table_scratch {
    struct proxy_service_plan *services;
    struct proxy_version_plan *versions;
    struct proxy_endpoint_plan *endpoints;
    struct routing_routes routes;
    struct proxy_attribute_plan *attributes;
    struct proxy_flag_header_plan *flag_headers;
    const char **flag_keys;
    struct errors_scratch *errors; // one of each service, as below
    struct proxy_protection *protections;
    struct routing_identity identity;
    uint32_t version_count, endpoint_count, attribute_count, flag_header_count, flag_key_count;
    uint64_t left_out;
};

// ---- plan ----

static bool endpoints_full(const struct table_scratch *scratch, const struct proxy_version_plan *version)
{
    const struct proxy_endpoint_plan *next = &scratch->endpoints[scratch->endpoint_count];
    return scratch->endpoint_count == PROXY_TABLE_ENDPOINTS_MAX ||
           next - version->endpoints == PROXY_VERSION_ENDPOINTS_MAX;
}

// False: no room in the table, or no slot. words: what the file says of it; NULL: nothing.
static bool plan_endpoint(struct routing *routing, struct table_scratch *scratch, const struct io_addr *addr,
                          struct slice name, const struct config_endpoint *words,
                          const struct proxy_version_plan *version)
{
    bool again;
    if (endpoints_full(scratch, version))
        return false;
    uint16_t slot = routing_endpoint_slot_give(routing, version->slot, addr, &again);
    if (slot == PROXY_SLOT_NONE)
        return false;
    if (again) // an address that several names have counts once
        return true;
    const char *zone = routing->config->zone;
    scratch->endpoints[scratch->endpoint_count++] = (struct proxy_endpoint_plan){
        .slot = slot,
        .addr = *addr,
        .connections_max = routing->config->limits.endpoint_connections,
        .name = version->secure ? name : SLICE(""),
        .weight = words != NULL ? words->weight : 1,
        .drained = words != NULL && words->weight == 0,
        .near = words != NULL && zone[0] != '\0' && strcmp(words->zone, zone) == 0};
    return true;
}

// What the certificate of an endpoint must be for, by its version's words or else its own name; empty: its
// address.
static struct slice certified_name(const struct config_origin *origin, const struct config_address *address)
{
    if (origin->server_name[0] != '\0')
        return slice_of(origin->server_name);
    const char *end = address->literal || slice_starts_with(slice_of(address->text), SLICE("srv:"))
                          ? NULL
                          : strrchr(address->text, ':');
    return (struct slice){address->text, end != NULL ? (size_t)(end - address->text) : 0};
}

// All addresses that the name is known to have; those without room are counted. False: nothing is known of it
// yet.
static bool plan_name(struct routing *routing, struct table_scratch *scratch,
                      const struct config_origin *origin, const struct config_endpoint *words,
                      const struct proxy_version_plan *version)
{
    const struct names_answer *answer = names_find(routing->names, words->address.text);
    if (answer == NULL)
        return false;
    for (uint32_t i = 0; i < answer->address_count; i++)
        scratch->left_out += !plan_endpoint(routing, scratch, &answer->addresses[i],
                                            certified_name(origin, &words->address), words, version);
    return answer->address_count > 0 || answer->state == NAMES_MISSING;
}

// A version whose new names have told nothing yet keeps the endpoints that it has.
static void keep_endpoints(struct routing *routing, struct table_scratch *scratch,
                           const struct config_origin *origin, const struct proxy_version_plan *version)
{
    struct slice given = slice_of(origin->server_name);
    uint64_t table = routing->state.table_version;
    for (uint32_t i = 0; i < routing->endpoint_slot_count && table > 0; i++) {
        const struct routing_endpoint_slot *slot = &routing->endpoint_slots[i];
        if (slot->version == version->slot && slot->hold.table == table)
            (void)plan_endpoint(routing, scratch, &slot->addr,
                                given.len > 0 ? given : proxy_endpoint_name(routing->proxy, (uint16_t)i),
                                NULL, version);
    }
}

// What the file says of a version, or of a control arm.
struct version_words {
    const char *name;
    const struct config_endpoint *endpoints;
    uint32_t endpoint_count;
    const struct config_origin *origin;
    enum config_http2 http2;
};

static enum status plan_endpoints(struct routing *routing, struct table_scratch *scratch,
                                  const struct version_words *words, struct proxy_version_plan *version,
                                  struct fault *fault)
{
    const struct proxy_endpoint_plan *first = &scratch->endpoints[scratch->endpoint_count];
    const struct config_endpoint *endpoints = words->endpoints;
    bool unknown = false;
    version->endpoints = first;
    // What the file lists comes first, so that no name takes its room.
    for (uint32_t i = 0; i < words->endpoint_count; i++)
        if (endpoints[i].address.literal &&
            !plan_endpoint(routing, scratch, &endpoints[i].address.addr,
                           certified_name(words->origin, &endpoints[i].address), &endpoints[i], version))
            return fault_set(fault, STATUS_FULL, "more than %d endpoints in this file and the ones before",
                             PROXY_ENDPOINTS_MAX);
    for (uint32_t i = 0; i < words->endpoint_count; i++)
        unknown |= !endpoints[i].address.literal &&
                   !plan_name(routing, scratch, words->origin, &endpoints[i], version);
    if (unknown && first == &scratch->endpoints[scratch->endpoint_count])
        keep_endpoints(routing, scratch, words->origin, version);
    version->endpoint_count = (uint32_t)(&scratch->endpoints[scratch->endpoint_count] - first);
    return STATUS_OK;
}

static enum status plan_version(struct routing *routing, struct table_scratch *scratch, uint16_t service,
                                const struct version_words *words, struct fault *fault)
{
    struct proxy_version_plan *version = &scratch->versions[scratch->version_count++];
    *version = (struct proxy_version_plan){.name = words->name,
                                           .slot = routing_version_slot_give(routing, service, words->name),
                                           .secure = words->origin->speech == CONFIG_SPEECH_TLS,
                                           .http2 = words->http2 == CONFIG_HTTP2_ON};
    if (version->slot == PROXY_SLOT_NONE)
        return fault_set(fault, STATUS_FULL,
                         "more than %d versions at once, those included whose last requests are still open",
                         PROXY_VERSIONS_MAX);
    if (version->secure)
        version->origin = proxy_tls_origin(routing->tls, routing_origin_key(words->origin));
    return plan_endpoints(routing, scratch, words, version, fault);
}

int32_t routing_version_index(const struct config_service *service, const char *name)
{
    for (uint32_t i = 0; i < service->version_count; i++)
        if (strcmp(service->versions[i].name, name) == 0)
            return (int32_t)i;
    return PROXY_VERSION_NONE;
}

static uint32_t clamp_ms(uint64_t ms)
{
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

static enum proxy_unit_kind unit_of(enum config_unit_kind kind)
{
    switch (kind) {
    case CONFIG_UNIT_COOKIE:
        return PROXY_UNIT_COOKIE;
    case CONFIG_UNIT_HEADER:
        return PROXY_UNIT_HEADER;
    case CONFIG_UNIT_ADDRESS:
        return PROXY_UNIT_ADDRESS;
    case CONFIG_UNIT_REQUEST:
        break;
    }
    return PROXY_UNIT_REQUEST;
}

static enum proxy_attribute_kind attribute_of(enum config_attribute_kind kind)
{
    switch (kind) {
    case CONFIG_ATTRIBUTE_COOKIE:
        return PROXY_ATTRIBUTE_COOKIE;
    case CONFIG_ATTRIBUTE_ADDRESS:
        return PROXY_ATTRIBUTE_ADDRESS;
    case CONFIG_ATTRIBUTE_METHOD:
        return PROXY_ATTRIBUTE_METHOD;
    case CONFIG_ATTRIBUTE_HOST:
        return PROXY_ATTRIBUTE_HOST;
    case CONFIG_ATTRIBUTE_PATH:
        return PROXY_ATTRIBUTE_PATH;
    case CONFIG_ATTRIBUTE_NONE:
    case CONFIG_ATTRIBUTE_HEADER:
        break;
    }
    return PROXY_ATTRIBUTE_HEADER;
}

static void plan_attribute(struct table_scratch *scratch, const struct config_attribute *attribute)
{
    scratch->attributes[scratch->attribute_count++] = (struct proxy_attribute_plan){
        .name = attribute->name, .kind = attribute_of(attribute->kind), .source = attribute->source};
}

static const struct proxy_attribute_plan *plan_hash(struct table_scratch *scratch,
                                                    const struct config_attribute *hash)
{
    if (hash->kind == CONFIG_ATTRIBUTE_NONE)
        return NULL;
    plan_attribute(scratch, hash);
    return &scratch->attributes[scratch->attribute_count - 1];
}

static void plan_flags(struct table_scratch *scratch, const struct config_service *service,
                       struct proxy_service_plan *plan)
{
    const struct config_service_flags *flags = &service->flags;
    if (flags->key.kind != CONFIG_ATTRIBUTE_NONE) {
        plan->key = &scratch->attributes[scratch->attribute_count];
        plan_attribute(scratch, &flags->key);
    }
    plan->attributes = &scratch->attributes[scratch->attribute_count];
    plan->attribute_count = flags->context_count;
    for (uint32_t i = 0; i < flags->context_count; i++)
        plan_attribute(scratch, &flags->context[i]);
    plan->flag_headers = &scratch->flag_headers[scratch->flag_header_count];
    plan->flag_header_count = flags->header_count;
    for (uint32_t i = 0; i < flags->header_count; i++) {
        const struct config_flag_header *header = &flags->headers[i];
        scratch->flag_headers[scratch->flag_header_count++] =
            (struct proxy_flag_header_plan){.name = header->name,
                                            .flags = &scratch->flag_keys[scratch->flag_key_count],
                                            .flag_count = header->flag_count};
        for (uint32_t j = 0; j < header->flag_count; j++)
            scratch->flag_keys[scratch->flag_key_count++] = header->flags[j];
    }
    plan->version_flag = flags->version[0] != '\0' ? flags->version : NULL;
}

static const struct proxy_errors_plan *plan_errors(struct errors_scratch *scratch,
                                                   const struct config_service_errors *errors)
{
    if (!errors->given)
        return NULL;
    for (uint32_t i = 0; i < errors->status_count; i++)
        scratch->statuses[i] =
            (struct proxy_status_range){errors->statuses[i].first, errors->statuses[i].last};
    for (uint32_t i = 0; i < errors->header_count; i++)
        scratch->headers[i] = (struct proxy_error_header_plan){
            .name = errors->headers[i].name,
            .value = errors->headers[i].present ? NULL : errors->headers[i].value};
    scratch->plan = (struct proxy_errors_plan){
        .statuses = scratch->statuses,
        .status_count = errors->status_count,
        .headers = scratch->headers,
        .header_count = errors->header_count,
        .text = errors->body.contains[0] != '\0' ? errors->body.contains : NULL,
        .within = (uint32_t)errors->body.within,
    };
    for (uint32_t i = 0; i < errors->grpc_count; i++)
        scratch->plan.grpc |= 1u << errors->grpc[i];
    return &scratch->plan;
}

static enum status plan_service(struct routing *routing, struct table_scratch *scratch, uint32_t index,
                                struct fault *fault)
{
    const struct config_service *service = &routing->config->services[index];
    struct proxy_service_plan *plan = &scratch->services[index];
    *plan = (struct proxy_service_plan){
        .name = service->name,
        .slot = routing_service_slot_give(routing, service->name),
        .versions = &scratch->versions[scratch->version_count],
        .version_count = service->version_count,
        .stable = routing_version_index(service, service->stable),
        .canary = PROXY_VERSION_NONE,
        .control = PROXY_VERSION_NONE,
        .unit = unit_of(service->unit.kind),
        .unit_name = service->unit.name[0] != '\0' ? service->unit.name : NULL,
        .body_bytes_max = routing->config->limits.request_body_bytes,
        .protection = routing_protection(service, &scratch->protections[index]),
        .hash = plan_hash(scratch, &service->balance.hash),
        .errors = plan_errors(&scratch->errors[index], &service->errors),
        .timeouts = {.connect_ms = clamp_ms(service->timeouts.connect_ms),
                     .first_byte_ms = clamp_ms(service->timeouts.first_byte_ms),
                     .idle_ms = clamp_ms(service->timeouts.idle_ms),
                     .total_ms = clamp_ms(service->timeouts.total_ms),
                     .tunnel_ms = clamp_ms(service->timeouts.tunnel_ms),
                     .pool_idle_ms = clamp_ms(service->timeouts.pool_idle_ms)},
    };
    if (plan->slot == PROXY_SLOT_NONE)
        return fault_set(fault, STATUS_FULL,
                         "more than %d services at once, those included whose last requests are still open",
                         PROXY_SERVICES_MAX);
    for (uint32_t i = 0; i < service->version_count; i++) {
        const struct config_version *version = &service->versions[i];
        struct version_words words = {
            .name = version->name, .origin = &version->origin, .http2 = version->http2};
        words.endpoints = routing_listed(routing, service, version, &words.endpoint_count);
        enum status status = plan_version(routing, scratch, plan->slot, &words, fault);
        if (status != STATUS_OK)
            return status;
        scratch->versions[scratch->version_count - 1].header = (uint8_t)version->proxy_header;
    }
    plan_flags(scratch, service, plan);
    routing->parts.govern(routing->parts.context, service, plan);
    routing->services[plan->slot].stable = plan->versions[plan->stable].slot;
    routing_mirror_plan(routing, service, plan);
    if (service->control_endpoint_count == 0)
        return STATUS_OK;
    plan->control = (int32_t)plan->version_count++;
    const struct version_words control = {"(control)", service->control_endpoints,
                                          service->control_endpoint_count, &service->control_origin,
                                          service->control_http2};
    enum status status = plan_version(routing, scratch, plan->slot, &control, fault);
    scratch->versions[scratch->version_count - 1].header = plan->versions[plan->stable].header;
    return status;
}

// Per worker. Where proxies of our own stand before us, all clients come from their addresses.
static uint32_t clients_per_site(const struct config *config, uint32_t workers)
{
    uint32_t all = config->limits.address_connections;
    if (all == 0 && (config->trust.forwarded_hops > 0 || config->trust.proxy_count > 0))
        return 0;
    if (all == 0)
        all = config->limits.connections / 4;
    return (all + workers - 1) / workers;
}

static void scratch_free(const struct config *config, struct table_scratch *scratch)
{
    for (uint32_t i = 0; scratch->services != NULL && i < config->service_count; i++)
        mirror_plan_release(scratch->services[i].mirror); // the table holds its own
    heap_free(scratch->services);
    heap_free(scratch->versions);
    heap_free(scratch->endpoints);
    routing_routes_free(&scratch->routes);
    heap_free(scratch->attributes);
    heap_free(scratch->flag_headers);
    heap_free(scratch->flag_keys);
    heap_free(scratch->errors);
    heap_free(scratch->protections);
    routing_identity_free(&scratch->identity);
}

static enum status scratch_alloc(const struct config *config, struct table_scratch *scratch)
{
    size_t versions = 1, attributes = 1, headers = 1, keys = 1;
    for (uint32_t i = 0; i < config->service_count; i++) {
        const struct config_service *service = &config->services[i];
        versions += service->version_count + 1;
        attributes += service->flags.context_count + 2; // and the key, and what picks endpoints
        headers += service->flags.header_count;
        for (uint32_t j = 0; j < service->flags.header_count; j++)
            keys += service->flags.headers[j].flag_count;
    }
    scratch->attributes = heap_alloc(attributes, sizeof *scratch->attributes);
    scratch->flag_headers = heap_alloc(headers, sizeof *scratch->flag_headers);
    scratch->flag_keys = heap_alloc(keys, sizeof *scratch->flag_keys);
    scratch->services = heap_alloc(config->service_count + 1, sizeof *scratch->services);
    scratch->errors = heap_alloc(config->service_count + 1, sizeof *scratch->errors);
    scratch->protections = heap_alloc(config->service_count + 1, sizeof *scratch->protections);
    scratch->versions = heap_alloc(versions, sizeof *scratch->versions);
    scratch->endpoints = heap_alloc(PROXY_TABLE_ENDPOINTS_MAX, sizeof *scratch->endpoints);
    bool routes = routing_routes_plan(config, &scratch->routes) == STATUS_OK;
    bool all = scratch->services != NULL && scratch->versions != NULL && scratch->endpoints != NULL &&
               routes && scratch->attributes != NULL && scratch->flag_headers != NULL &&
               scratch->flag_keys != NULL && scratch->errors != NULL && scratch->protections != NULL;
    return all ? STATUS_OK : STATUS_NO_MEMORY;
}

static enum status build(struct routing *routing, struct table_scratch *scratch, struct proxy_table **table,
                         struct fault *fault)
{
    const struct config *config = routing->config;
    if (scratch_alloc(config, scratch) != STATUS_OK)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left for a routing table");
    for (uint32_t i = 0; i < config->service_count; i++) {
        enum status status = plan_service(routing, scratch, i, fault);
        if (status != STATUS_OK)
            return status;
    }
    struct proxy_table_plan plan = {
        .version = routing->state.table_version + 1,
        .tls = routing->tls,
        .listen_http1 = routing_listen_http1(routing),
        .services = scratch->services,
        .service_count = config->service_count,
        .routes = scratch->routes.routes,
        .route_count = scratch->routes.route_count,
        .https_listeners = routing_https_listeners(routing),
        .paths_untold = config->log.paths == CONFIG_LOG_PATHS_NONE,
        .clients_per_site = clients_per_site(config, proxy_worker_count(routing->proxy)),
        .drain_ms = clamp_ms(config->timeouts.drain_ms > 0 ? config->timeouts.drain_ms : 1),
        .body_rate_min = (uint32_t)config->limits.request_rate_bytes,
        .client_head_ms = clamp_ms(config->timeouts.client_head_ms),
        .client_idle_ms = clamp_ms(config->timeouts.client_idle_ms),
    };
    struct fault why;
    if (routing_identity_plan(routing, &scratch->identity, &plan) != STATUS_OK)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left for a routing table");
    routing->parts.flags(routing->parts.context, routing->config, &plan);
    enum status status = proxy_table_build(&plan, table, &why);
    if (status != STATUS_OK && plan.flags_release != NULL)
        plan.flags_release(plan.flags_context);
    if (status != STATUS_OK)
        return fault_set(fault, status, "no routing table can be made: %s", why.text);
    if (routing_health_follow(routing, scratch->services) != STATUS_OK)
        log_write(routing->parts.log, LOG_ERROR, "no memory left: some endpoints are not checked", NULL, 0);
    return STATUS_OK;
}

enum status routing_table_make(struct routing *routing, struct proxy_table **table, struct fault *fault)
{
    struct table_scratch scratch = {.services = NULL};
    routing->builds++;
    enum status status = build(routing, &scratch, table, fault);
    routing->names_left_out = scratch.left_out;
    scratch_free(routing->config, &scratch);
    return status;
}
