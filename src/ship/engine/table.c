// SPDX-License-Identifier: Apache-2.0
// From the file and the cores to the routing table. Slots are given out once per name and never again, so
// that counters and pools outlive every change.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/siphash.h"
#include "ship/engine/engine_private.h"

struct table_scratch {
    struct proxy_service_plan *services;
    struct proxy_version_plan *versions;
    struct proxy_endpoint_plan *endpoints;
    struct proxy_route_plan *routes;
    struct proxy_attribute_plan *attributes;
    struct proxy_flag_header_plan *flag_headers;
    const char **flag_keys;
    struct proxy_network networks[PROXY_NETWORKS_MAX];
    uint32_t version_count, endpoint_count, route_count, attribute_count, flag_header_count, flag_key_count;
};

// ---- slots ----

uint16_t engine_service_slot(const struct engine *engine, const char *service)
{
    for (uint32_t i = 0; i < engine->service_slot_count; i++)
        if (strcmp(engine->service_slots[i], service) == 0)
            return (uint16_t)i;
    return PROXY_SLOT_NONE;
}

static uint16_t version_slot_find(const struct engine *engine, uint16_t service, const char *version)
{
    for (uint32_t i = 0; i < engine->version_slot_count; i++) {
        const struct engine_version_slot *slot = &engine->version_slots[i];
        if (slot->service == service && strcmp(slot->name, version) == 0)
            return (uint16_t)i;
    }
    return PROXY_SLOT_NONE;
}

uint16_t engine_version_slot(const struct engine *engine, const char *service, const char *version)
{
    uint16_t slot = engine_service_slot(engine, service);
    return slot == PROXY_SLOT_NONE ? slot : version_slot_find(engine, slot, version);
}

static uint16_t service_slot_give(struct engine *engine, const char *service)
{
    uint16_t slot = engine_service_slot(engine, service);
    if (slot != PROXY_SLOT_NONE || engine->service_slot_count == PROXY_SERVICES_MAX)
        return slot;
    snprintf(engine->service_slots[engine->service_slot_count], PROXY_NAME_BYTES, "%s", service);
    return (uint16_t)engine->service_slot_count++;
}

static uint16_t version_slot_give(struct engine *engine, uint16_t service, const char *version)
{
    uint16_t slot = version_slot_find(engine, service, version);
    if (slot != PROXY_SLOT_NONE || engine->version_slot_count == PROXY_VERSIONS_MAX)
        return slot;
    struct engine_version_slot *fresh = &engine->version_slots[engine->version_slot_count];
    fresh->service = service;
    snprintf(fresh->name, sizeof fresh->name, "%s", version);
    return (uint16_t)engine->version_slot_count++;
}

static uint16_t endpoint_slot_give(struct engine *engine, uint16_t version, const char *address)
{
    for (uint32_t i = 0; i < engine->endpoint_slot_count; i++) {
        const struct engine_endpoint_slot *slot = &engine->endpoint_slots[i];
        if (slot->version == version && strcmp(slot->address, address) == 0)
            return (uint16_t)i;
    }
    if (engine->endpoint_slot_count == PROXY_ENDPOINTS_MAX)
        return PROXY_SLOT_NONE;
    struct engine_endpoint_slot *fresh = &engine->endpoint_slots[engine->endpoint_slot_count];
    fresh->version = version;
    snprintf(fresh->address, sizeof fresh->address, "%s", address);
    return (uint16_t)engine->endpoint_slot_count++;
}

// ---- which run governs ----

void engine_share_take(const struct engine_case *record, struct engine_share *share)
{
    memset(share, 0, sizeof *share);
    if (record == NULL || record->run == 0)
        return;
    const struct rollout_spec *spec = rollout_spec_of(record->core);
    struct rollout_view view;
    rollout_view_get(record->core, &view);
    share->run = record->run;
    share->run_seq = record->run_seq;
    snprintf(share->service, sizeof share->service, "%s", spec->service);
    snprintf(share->from, sizeof share->from, "%s", spec->from);
    snprintf(share->to, sizeof share->to, "%s", spec->to);
    snprintf(share->flag, sizeof share->flag, "%s", spec->flag);
    for (uint32_t i = 0; i < view.ring_stages && i < spec->stage_count; i++)
        if (spec->stages[i].kind == ROLLOUT_STAGE_SEGMENT && share->ring_count < FLAGS_RINGS_MAX)
            memcpy(share->rings[share->ring_count++], spec->stages[i].segment, ROLLOUT_NAME_BYTES);
    share->active = engine_case_active(record);
    share->back = view.state == ROLLOUT_ROLLING_BACK || view.state == ROLLOUT_ROLLED_BACK;
    share->control = spec->control;
    share->weight = view.weight;
    share->deadline_ms = (uint32_t)spec->deadline_ms;
    share->error_window_ms = (uint32_t)spec->errors.window_ms;
    share->edges = view.edges;
    share->edge_slack_us = spec->latency.slack_ms * 1000;
    for (int k = 0; view.edges.requests > 0 && k < ROLLOUT_EDGES; k++) {
        uint64_t slacked_us = view.edges.edge_us[k] + share->edge_slack_us;
        uint64_t margin_us = stats_histogram_edge_scale(view.edges.edge_us[k], spec->latency.margin);
        share->edge_margin_us[k] = margin_us > slacked_us ? margin_us : slacked_us;
    }
}

bool engine_flag_share_applies(const struct config *config, const char *name,
                               const struct engine_share *share)
{
    const struct config_rollout *entry = config_rollout_find(config, name);
    if (share->run == 0 || entry == NULL || strcmp(entry->spec.flag, share->flag) != 0 ||
        strcmp(entry->spec.service, share->service) != 0)
        return false;
    bool same = strcmp(entry->spec.to, share->to) == 0 && strcmp(entry->spec.from, share->from) == 0;
    return !share->back && (share->active || same);
}

static bool share_applies(const struct config *config, const char *name, const struct engine_share *share)
{
    if (share->run == 0)
        return false;
    if (share->flag[0] != '\0')
        return engine_flag_share_applies(config, name, share);
    const struct config_service *service = config_service_find(config, share->service);
    const struct config_rollout *entry = config_rollout_find(config, name);
    if (service == NULL || entry == NULL || strcmp(entry->spec.service, share->service) != 0)
        return false;
    return strcmp(service->stable, share->from) == 0 && config_version_find(service, share->to) != NULL &&
           (share->active || strcmp(entry->spec.to, share->to) == 0);
}

bool engine_run_applies(const struct config *config, const struct engine_case *record)
{
    struct engine_share share;
    engine_share_take(record, &share);
    return record != NULL && share_applies(config, record->name, &share);
}

// Without one of its rings the whole split would be void, and everybody back at `from` in the middle of it.
static enum status rings_fit(const struct config *config, const struct rollout_spec *spec,
                             struct fault *fault)
{
    const char *missing;
    bool rings = false;
    for (uint32_t i = 0; i < spec->stage_count; i++)
        rings |= spec->stages[i].kind == ROLLOUT_STAGE_SEGMENT;
    enum status status = rings ? engine_segments_fit(config, spec, &missing) : STATUS_OK;
    if (status == STATUS_CONFLICT)
        return fault_set(fault, status,
                         "rollout %s of flag %s is under way and has segment %s as a ring: the file must "
                         "keep that segment until it is over (or abort it first)",
                         spec->name, spec->flag, missing);
    if (status != STATUS_OK)
        return fault_set(fault, status, "the segments cannot be read: %s", status_name(status));
    return STATUS_OK;
}

static enum status run_fits(const struct config *config, const struct engine_case *record,
                            struct fault *fault)
{
    const struct rollout_spec *spec = rollout_spec_of(record->core);
    struct rollout_view view;
    rollout_view_get(record->core, &view);
    // It is over but for the requests under way; engine_tick sees it to its end.
    if (spec->flag[0] != '\0' && view.state == ROLLOUT_ROLLING_BACK)
        return STATUS_OK;
    if (engine_run_applies(config, record))
        return spec->flag[0] != '\0' ? rings_fit(config, spec, fault) : STATUS_OK;
    if (spec->flag[0] != '\0')
        return fault_set(
            fault, STATUS_CONFLICT,
            "rollout %s is moving flag %s from %s to %s, and the file does not fit: it must keep that "
            "rollout with the same flag and service until it is over (or abort it first)",
            record->name, spec->flag, spec->from, spec->to);
    return fault_set(fault, STATUS_CONFLICT,
                     "rollout %s is under way from %s to %s of service %s, and the file does not fit: it "
                     "must keep that rollout, both versions, and `stable: %s` until it is over (or abort "
                     "it first)",
                     record->name, spec->from, spec->to, spec->service, spec->from);
}

enum status engine_config_fits(const struct engine *engine, const struct config *config, struct fault *fault)
{
    for (uint32_t i = 0; i < engine->live_count; i++) {
        const struct engine_case *record = engine->live[i].record;
        if (record == NULL || !engine_case_active(record))
            continue;
        enum status status = run_fits(config, record, fault);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

// ---- plan ----

// What a name means is asked when the file is read, never when a decision takes effect: a rollback must not
// wait for a name server, nor fail with it.
static bool name_resolve(struct engine *engine, struct proxy_endpoint_plan *endpoint)
{
    struct engine_endpoint_slot *slot = &engine->endpoint_slots[endpoint->slot];
    if (!slot->resolved || engine->names_fresh) {
        if (io_addr_resolve(slot->address, &slot->addr) != STATUS_OK)
            return false;
        slot->resolved = true;
    }
    endpoint->addr = slot->addr;
    return true;
}

static enum status plan_endpoints(struct engine *engine, struct table_scratch *scratch,
                                  const struct config_address *addresses, uint32_t count,
                                  struct proxy_version_plan *version, struct fault *fault)
{
    struct proxy_endpoint_plan *first = &scratch->endpoints[scratch->endpoint_count];
    for (uint32_t i = 0; i < count; i++) {
        struct proxy_endpoint_plan *endpoint = &scratch->endpoints[scratch->endpoint_count];
        *endpoint = (struct proxy_endpoint_plan){
            .addr = addresses[i].addr, .connections_max = engine->config->limits.endpoint_connections};
        endpoint->slot = endpoint_slot_give(engine, version->slot, addresses[i].text);
        if (endpoint->slot == PROXY_SLOT_NONE)
            return fault_set(fault, STATUS_FULL, "more than %d endpoints since the start; restart to go on",
                             PROXY_ENDPOINTS_MAX);
        if (!addresses[i].literal && !name_resolve(engine, endpoint))
            return fault_set(fault, STATUS_UNREACHABLE, "the name in \"%s\" cannot be resolved",
                             addresses[i].text);
        scratch->endpoint_count++;
    }
    version->endpoints = first;
    version->endpoint_count = count;
    return STATUS_OK;
}

static enum status plan_version(struct engine *engine, struct table_scratch *scratch, uint16_t service,
                                const char *name, const struct config_address *addresses, uint32_t count,
                                struct fault *fault)
{
    struct proxy_version_plan *version = &scratch->versions[scratch->version_count++];
    *version = (struct proxy_version_plan){.name = name, .slot = version_slot_give(engine, service, name)};
    if (version->slot == PROXY_SLOT_NONE)
        return fault_set(fault, STATUS_FULL, "more than %d versions since the start; restart to go on",
                         PROXY_VERSIONS_MAX);
    return plan_endpoints(engine, scratch, addresses, count, version, fault);
}

static int32_t version_index(const struct config_service *service, const char *name)
{
    for (uint32_t i = 0; i < service->version_count; i++)
        if (strcmp(service->versions[i].name, name) == 0)
            return (int32_t)i;
    return PROXY_VERSION_NONE;
}

// Assignment is drawn anew for every run, and is the same through all of one run, restarts included.
static struct siphash_key salt_of(const char *service, const char *rollout, uint32_t run)
{
    char seed[2 * ROLLOUT_NAME_BYTES + 32];
    int len = snprintf(seed, sizeof seed, "%s/%s/%u", service, rollout, run);
    const struct siphash_key key0 = {0x736c75696365206bULL, 0x30};
    const struct siphash_key key1 = {0x736c75696365206bULL, 0x31};
    return (struct siphash_key){siphash(key0, seed, (size_t)len), siphash(key1, seed, (size_t)len)};
}

static void plan_rollout(const struct engine *engine, const struct config_service *service,
                         struct proxy_service_plan *plan)
{
    const struct config_rollout *entry = config_rollout_of_service(engine->config, service->name);
    struct engine_share share = {.run = 0};
    uint32_t split_weight = 0;
    for (uint32_t i = 0; entry != NULL && i < engine->live_count; i++)
        if (strcmp(engine->live[i].name, entry->spec.name) == 0) {
            split_weight = engine->live[i].split_weight;
            share = engine->live[i].share;
        }
    bool applies = entry != NULL && share_applies(engine->config, entry->spec.name, &share);
    plan->salt = salt_of(service->name, applies ? entry->spec.name : "", applies ? share.run : 0);
    bool of_flag = entry != NULL && entry->spec.flag[0] != '\0';
    if (entry != NULL && !of_flag)
        plan->canary = version_index(service, entry->spec.to);
    if (!applies)
        return;
    plan->weight = share.weight;
    if (of_flag) {
        plan->arm_flag = entry->spec.flag;
        plan->weight = split_weight; // what the set in this table splits by
    } else {
        plan->canary = version_index(service, share.to);
    }
    plan->weight_control = share.control && share.weight < ROLLOUT_WEIGHT_FULL ? share.weight : 0;
    plan->epoch = share.run_seq * 2 + (share.back ? 1 : 0);
    plan->edges = share.edges;
    memcpy(plan->edge_margin_us, share.edge_margin_us, sizeof plan->edge_margin_us);
    plan->edge_slack_us = share.edge_slack_us;
    plan->deadline_ms = share.deadline_ms;
    plan->error_window_ms = share.error_window_ms;
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

static enum status plan_service(struct engine *engine, struct table_scratch *scratch, uint32_t index,
                                struct fault *fault)
{
    const struct config_service *service = &engine->config->services[index];
    struct proxy_service_plan *plan = &scratch->services[index];
    *plan = (struct proxy_service_plan){
        .name = service->name,
        .slot = service_slot_give(engine, service->name),
        .versions = &scratch->versions[scratch->version_count],
        .version_count = service->version_count,
        .stable = version_index(service, service->stable),
        .canary = PROXY_VERSION_NONE,
        .control = PROXY_VERSION_NONE,
        .unit = unit_of(service->unit.kind),
        .unit_name = service->unit.name[0] != '\0' ? service->unit.name : NULL,
        .body_bytes_max = engine->config->limits.request_body_bytes,
        .timeouts = {.connect_ms = clamp_ms(service->timeouts.connect_ms),
                     .first_byte_ms = clamp_ms(service->timeouts.first_byte_ms),
                     .idle_ms = clamp_ms(service->timeouts.idle_ms),
                     .total_ms = clamp_ms(service->timeouts.total_ms),
                     .tunnel_ms = clamp_ms(service->timeouts.tunnel_ms),
                     .pool_idle_ms = clamp_ms(service->timeouts.pool_idle_ms)},
    };
    if (plan->slot == PROXY_SLOT_NONE)
        return fault_set(fault, STATUS_FULL, "more than %d services since the start; restart to go on",
                         PROXY_SERVICES_MAX);
    for (uint32_t i = 0; i < service->version_count; i++) {
        const struct config_version *version = &service->versions[i];
        enum status status = plan_version(engine, scratch, plan->slot, version->name, version->endpoints,
                                          version->endpoint_count, fault);
        if (status != STATUS_OK)
            return status;
    }
    for (uint32_t i = 0; i < service->route_count; i++)
        scratch->routes[scratch->route_count++] = (struct proxy_route_plan){
            .host = service->routes[i].host[0] != '\0' ? service->routes[i].host : NULL,
            .path = service->routes[i].path,
            .service = index};
    plan_flags(scratch, service, plan);
    plan_rollout(engine, service, plan);
    if (service->engine_endpoint_count == 0)
        return STATUS_OK;
    plan->control = (int32_t)plan->version_count++;
    return plan_version(engine, scratch, plan->slot, "(control)", service->engine_endpoints,
                        service->engine_endpoint_count, fault);
}

static uint32_t plan_networks(const struct config *config, struct proxy_network *networks)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    uint32_t count = 0;
    for (; count < config->trust.network_count && count < PROXY_NETWORKS_MAX; count++) {
        const struct config_network *from = &config->trust.networks[count];
        struct proxy_network *to = &networks[count];
        *to = (struct proxy_network){.bits = from->prefix_bits, .ipv6 = true};
        memcpy(to->bytes, from->address, sizeof to->bytes);
        if (from->prefix_bits < 96 || memcmp(from->address, mapped, sizeof mapped) != 0)
            continue;
        *to = (struct proxy_network){.bits = (uint8_t)(from->prefix_bits - 96)};
        memcpy(to->bytes, from->address + 12, 4);
    }
    return count;
}

static void scratch_free(struct table_scratch *scratch)
{
    heap_free(scratch->services);
    heap_free(scratch->versions);
    heap_free(scratch->endpoints);
    heap_free(scratch->routes);
    heap_free(scratch->attributes);
    heap_free(scratch->flag_headers);
    heap_free(scratch->flag_keys);
}

static enum status scratch_alloc(const struct config *config, struct table_scratch *scratch)
{
    size_t versions = 1, endpoints = 1, routes = 1, attributes = 1, headers = 1, keys = 1;
    for (uint32_t i = 0; i < config->service_count; i++) {
        const struct config_service *service = &config->services[i];
        versions += service->version_count + 1;
        routes += service->route_count;
        endpoints += service->engine_endpoint_count;
        for (uint32_t j = 0; j < service->version_count; j++)
            endpoints += service->versions[j].endpoint_count;
        attributes += service->flags.context_count + 1;
        headers += service->flags.header_count;
        for (uint32_t j = 0; j < service->flags.header_count; j++)
            keys += service->flags.headers[j].flag_count;
    }
    scratch->attributes = heap_alloc(attributes, sizeof *scratch->attributes);
    scratch->flag_headers = heap_alloc(headers, sizeof *scratch->flag_headers);
    scratch->flag_keys = heap_alloc(keys, sizeof *scratch->flag_keys);
    scratch->services = heap_alloc(config->service_count + 1, sizeof *scratch->services);
    scratch->versions = heap_alloc(versions, sizeof *scratch->versions);
    scratch->endpoints = heap_alloc(endpoints, sizeof *scratch->endpoints);
    scratch->routes = heap_alloc(routes, sizeof *scratch->routes);
    bool all = scratch->services != NULL && scratch->versions != NULL && scratch->endpoints != NULL &&
               scratch->routes != NULL && scratch->attributes != NULL && scratch->flag_headers != NULL &&
               scratch->flag_keys != NULL;
    return all ? STATUS_OK : STATUS_NO_MEMORY;
}

static void release_set(void *context)
{
    flagset_snapshot_unref(context);
}

// The set that the table's services evaluate, kept alive until no worker sees the table any more.
static void plan_set(const struct engine *engine, struct proxy_table_plan *plan)
{
    if (engine->flags.set == NULL || !engine_flags_in_path(engine->config))
        return;
    const struct flagset_snapshot *snapshot = flagset_current(engine->flags.set);
    plan->flags = &snapshot->all.set;
    plan->tallies = snapshot->tallies;
    plan->flags_release = release_set;
    plan->flags_context = (void *)(uintptr_t)flagset_snapshot_ref(snapshot);
}

static enum status build(struct engine *engine, struct table_scratch *scratch, struct proxy_table **table,
                         struct fault *fault)
{
    const struct config *config = engine->config;
    if (scratch_alloc(config, scratch) != STATUS_OK)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left for a routing table");
    for (uint32_t i = 0; i < config->service_count; i++) {
        enum status status = plan_service(engine, scratch, i, fault);
        if (status != STATUS_OK)
            return status;
    }
    struct proxy_table_plan plan = {
        .version = engine->table_version + 1,
        .services = scratch->services,
        .service_count = config->service_count,
        .routes = scratch->routes,
        .route_count = scratch->route_count,
        .operators = scratch->networks,
        .operator_count = plan_networks(config, scratch->networks),
        .trusted_hops = config->trust.forwarded_hops,
        .client_head_ms = clamp_ms(config->timeouts.client_head_ms),
        .client_idle_ms = clamp_ms(config->timeouts.client_idle_ms),
    };
    const char *why = "";
    plan_set(engine, &plan);
    enum status status = proxy_table_build(&plan, table, &why);
    if (status != STATUS_OK)
        flagset_snapshot_unref(plan.flags_context);
    if (status != STATUS_OK)
        return fault_set(fault, status, "no routing table can be made: %s", why);
    return STATUS_OK;
}

void engine_publish_or_retry(struct engine *engine)
{
    struct fault fault;
    enum status status = engine_publish(engine, &fault);
    engine->table_dirty = status != STATUS_OK;
    if (status != STATUS_OK)
        engine_log_write(engine->log, ENGINE_LOG_ERROR,
                         "the routing table could not be replaced; tried again at every tick",
                         ENGINE_FIELDS(ENGINE_TEXT("problem", fault.text)));
}

enum status engine_publish(struct engine *engine, struct fault *fault)
{
    uint64_t before_us = io_loop_clock_us(engine->loop);
    struct table_scratch scratch = {.services = NULL};
    struct proxy_table *table = NULL;
    enum status status = build(engine, &scratch, &table, fault);
    scratch_free(&scratch);
    if (status != STATUS_OK)
        return status;
    status = proxy_publish(engine->proxy, table);
    if (status != STATUS_OK) {
        proxy_table_destroy(table);
        return fault_set(fault, status, "the routing table was not taken (%s)", status_name(status));
    }
    engine->table_version++;
    engine->published_us = io_loop_clock_us(engine->loop);
    engine->health.table_build_us = engine->published_us - before_us;
    engine->health.table_version = engine->table_version;
    engine->ack_awaited = true;
    io_timer_set(engine->loop, &engine->ack_timer, io_loop_now_us(engine->loop) + ENGINE_ACK_CHECK_MS * 1000);
    return STATUS_OK;
}
