// SPDX-License-Identifier: Apache-2.0
// Compiling a plan into a routing table, and finding a route in it. Routes are sorted once, most specific
// first, so that the first match is the answer.
#include "base/check.h"
#include "base/heap.h"
#include "net/http/http1.h"
#include "net/http/template.h"
#include "net/proxy/balance.h"
#include "net/proxy/outcome.h"
#include "net/proxy/table_private.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>

enum { TEXT_BYTES_MAX = 1024 }; // of a host, path, field or cookie name

// ---- checks ----

struct slot_marks {
    uint8_t services[PROXY_SERVICES_MAX / 8];
    uint8_t versions[PROXY_VERSIONS_MAX / 8];
    uint8_t endpoints[PROXY_ENDPOINTS_MAX / 8];
};

static const char SLOT_BAD[] = "a slot is out of range or used twice";

// False when the slot is out of range or marked already.
static bool mark_slot(uint8_t *marks, uint32_t slots, uint16_t slot)
{
    uint8_t bit = (uint8_t)(1u << (slot % 8));
    if (slot >= slots || (marks[slot / 8] & bit))
        return false;
    marks[slot / 8] |= bit;
    return true;
}

static bool text_fits(const char *text, size_t max)
{
    return text == NULL || strnlen(text, max) < max;
}

static const char *check_version(const struct proxy_version_plan *version, struct slot_marks *marks)
{
    if (!mark_slot(marks->versions, PROXY_VERSIONS_MAX, version->slot))
        return SLOT_BAD;
    if (version->name == NULL || !text_fits(version->name, PROXY_NAME_BYTES))
        return "a version has no name, or too long a one";
    if (version->endpoint_count > PROXY_VERSION_ENDPOINTS_MAX)
        return "a version has too many endpoints";
    for (uint32_t i = 0; i < version->endpoint_count; i++) {
        if (!mark_slot(marks->endpoints, PROXY_ENDPOINTS_MAX, version->endpoints[i].slot))
            return SLOT_BAD;
        if (version->endpoints[i].weight > PROXY_WEIGHT_MAX)
            return "an endpoint has too great a weight";
    }
    return NULL;
}

static bool arm_in_range(int32_t arm, uint32_t count)
{
    return arm == PROXY_VERSION_NONE || (arm >= 0 && (uint32_t)arm < count);
}

static const char *check_protection(const struct proxy_protection *protection)
{
    if (protection == NULL)
        return NULL;
    const struct breaker_rule *breaker = &protection->breaker;
    if (protection->panic > ROLLOUT_WEIGHT_FULL || protection->outlier.at_most > ROLLOUT_WEIGHT_FULL ||
        breaker->errors > ROLLOUT_WEIGHT_FULL)
        return "a share is above 100 %";
    if (breaker->errors > 0 && (breaker->window_ms < BREAKER_PARTS || breaker->open_ms == 0 ||
                                breaker->probes == 0 || breaker->probes > BREAKER_PROBES_MAX))
        return "a breaker has no window, no time or no probes";
    return NULL;
}

static const char *check_service(const struct proxy_service_plan *service, struct slot_marks *marks)
{
    if (!mark_slot(marks->services, PROXY_SERVICES_MAX, service->slot))
        return SLOT_BAD;
    if (service->name == NULL || !text_fits(service->name, PROXY_NAME_BYTES))
        return "a service has no name, or too long a one";
    if (service->version_count > PROXY_SERVICE_VERSIONS_MAX)
        return "a service has too many versions";
    if (!arm_in_range(service->stable, service->version_count) ||
        !arm_in_range(service->canary, service->version_count) ||
        !arm_in_range(service->control, service->version_count) || service->stable == PROXY_VERSION_NONE)
        return "an arm names no version of its service";
    if (service->weight > ROLLOUT_WEIGHT_FULL ||
        (service->weight > 0 && service->canary == PROXY_VERSION_NONE && service->arm_flag == NULL) ||
        (service->weight_control > 0 && service->control == PROXY_VERSION_NONE) ||
        (service->canary_leaves && service->canary == PROXY_VERSION_NONE))
        return "a weight is above 100 % or has no arm";
    if ((service->unit == PROXY_UNIT_HEADER || service->unit == PROXY_UNIT_COOKIE) &&
        service->unit_name == NULL)
        return "the unit needs the name of a field or cookie";
    if (!text_fits(service->unit_name, TEXT_BYTES_MAX) ||
        (service->unit_name != NULL && !http_token_valid(slice_of(service->unit_name))))
        return "the unit's name is no token";
    for (uint32_t i = 0; i < service->version_count; i++) {
        const char *why = check_version(&service->versions[i], marks);
        if (why != NULL)
            return why;
    }
    const char *why = check_protection(service->protection);
    if (why == NULL)
        why = outcome_check(service->errors);
    if (why == NULL && service->hash != NULL)
        why = table_attribute_check(service->hash);
    return why != NULL ? why : table_flags_check(service);
}

static const char *check_plan(const struct proxy_table_plan *plan)
{
    struct slot_marks marks = {0};
    for (uint32_t i = 0; i < plan->service_count; i++) {
        const char *why = check_service(&plan->services[i], &marks);
        if (why != NULL)
            return why;
    }
    for (uint32_t i = 0; i < plan->route_count; i++) {
        const struct proxy_route_plan *route = &plan->routes[i];
        if (route->service >= plan->service_count && route->service != PROXY_SERVICE_NONE)
            return "a route leads to no service";
        if (!text_fits(route->host, TEXT_BYTES_MAX) || !text_fits(route->path, TEXT_BYTES_MAX))
            return "a route's host or path is too long";
        if (route->path != NULL && route->path[0] != '/')
            return "a route's path does not begin with '/'";
        const char *why = table_route_check(route);
        if (why == NULL)
            why = table_action_check(route);
        if (why != NULL)
            return why;
    }
    if (!text_fits(plan->via, PROXY_NAME_BYTES) ||
        (plan->via != NULL && plan->via[0] != '\0' && !http_token_valid(slice_of(plan->via))))
        return "the name in Via is no token";
    return NULL;
}

// ---- sizes ----

static size_t version_bytes(const struct proxy_version_plan *version)
{
    size_t bytes = table_carve_bytes(version->endpoint_count, sizeof(struct proxy_endpoint));
    for (uint32_t i = 0; i < version->endpoint_count; i++)
        bytes += table_carve_bytes(version->endpoints[i].name.len, 1);
    return bytes;
}

static size_t plan_bytes(const struct proxy_table_plan *plan)
{
    size_t bytes = table_carve_bytes(1, sizeof(struct proxy_table)) + table_text_bytes(plan->via);
    bytes += table_carve_bytes(plan->header_peer_count, sizeof(struct proxy_header_peers));
    bytes += table_text_bytes(plan->request_id);
    bytes += table_carve_bytes(plan->certificate_count, sizeof(struct proxy_certificate));
    for (uint32_t i = 0; i < plan->certificate_count; i++)
        bytes += table_text_bytes(plan->certificates[i].field);
    bytes += table_carve_bytes(plan->service_count, sizeof(struct proxy_service));
    bytes += table_carve_bytes(plan->route_count, sizeof(struct proxy_route));
    for (uint32_t i = 0; i < plan->route_count; i++)
        bytes += table_text_bytes(plan->routes[i].host) + table_text_bytes(plan->routes[i].path) +
                 table_conditions_bytes(&plan->routes[i]);
    for (uint32_t i = 0; i < plan->service_count; i++) {
        const struct proxy_service_plan *service = &plan->services[i];
        bytes += table_text_bytes(service->unit_name) + table_flags_bytes(service) +
                 outcome_bytes(service->errors);
        bytes += table_carve_bytes(service->protection != NULL, sizeof(struct proxy_protection));
        bytes += table_carve_bytes(service->hash != NULL, sizeof(struct proxy_attribute)) +
                 table_attribute_bytes(service->hash);
        bytes += table_carve_bytes(service->version_count, sizeof(struct proxy_version));
        for (uint32_t j = 0; j < service->version_count; j++)
            bytes += version_bytes(&service->versions[j]);
    }
    return bytes;
}

// ---- compiling ----

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
    return value != 0 ? value : otherwise;
}

static void compile_endpoint(struct table_carve *from, const struct proxy_endpoint_plan *plan, uint8_t header,
                             struct proxy_endpoint *endpoint)
{
    endpoint->addr = plan->addr;
    endpoint->slot = plan->slot;
    endpoint->name = table_carve_slice(from, plan->name);
    endpoint->header = header;
    endpoint->connections_max = or_default(plan->connections_max, PROXY_CONNECTIONS_DEFAULT);
    endpoint->weight = or_default(plan->weight, 1);
    endpoint->hash = balance_hash(&plan->addr);
}

enum rank { RANK_NEAR, RANK_FAR, RANK_DRAINED, RANKS };

static enum rank rank_of(const struct proxy_endpoint_plan *plan)
{
    return plan->drained ? RANK_DRAINED : plan->near ? RANK_NEAR : RANK_FAR;
}

static void compile_endpoints(struct table_carve *from, const struct proxy_version_plan *plan,
                              struct proxy_version *version)
{
    struct proxy_endpoint *endpoints = table_carve(from, plan->endpoint_count, sizeof *endpoints);
    uint32_t ends[RANKS], count = 0;
    for (int rank = 0; rank < RANKS; rank++) {
        for (uint32_t i = 0; i < plan->endpoint_count; i++)
            if (rank_of(&plan->endpoints[i]) == (enum rank)rank)
                compile_endpoint(from, &plan->endpoints[i], plan->header, &endpoints[count++]);
        ends[rank] = count;
    }
    for (uint32_t i = 1; i < ends[RANK_FAR]; i++) {
        endpoints[i].before = endpoints[i - 1].before + endpoints[i - 1].weight;
        version->weighted |= endpoints[i].weight != endpoints[0].weight;
    }
    version->endpoints = endpoints;
    version->endpoint_count = ends[RANK_FAR];
    version->near_count = ends[RANK_NEAR] > 0 ? ends[RANK_NEAR] : ends[RANK_FAR];
    version->listed_count = count;
}

static void compile_version(struct table_carve *from, const struct proxy_version_plan *plan,
                            struct proxy_version *version)
{
    compile_endpoints(from, plan, version);
    version->slot = plan->slot;
    version->secure = plan->secure;
    version->http2 = plan->http2;
    version->origin = plan->origin;
    memcpy(version->name, plan->name, strlen(plan->name));
}

static const struct proxy_attribute *compile_hash(struct table_carve *from,
                                                  const struct proxy_attribute_plan *plan)
{
    if (plan == NULL)
        return NULL;
    struct proxy_attribute *hash = table_carve(from, 1, sizeof *hash);
    table_attribute_compile(from, plan, hash);
    return hash;
}

static const struct proxy_protection *compile_protection(struct table_carve *from,
                                                         const struct proxy_protection *plan)
{
    if (plan == NULL)
        return NULL;
    struct proxy_protection *protection = table_carve(from, 1, sizeof *protection);
    *protection = *plan;
    return protection;
}

static struct proxy_timeouts compile_timeouts(const struct proxy_timeouts *plan)
{
    return (struct proxy_timeouts){
        .connect_ms = or_default(plan->connect_ms, 2000),
        .first_byte_ms = or_default(plan->first_byte_ms, 15000),
        .idle_ms = or_default(plan->idle_ms, 30000),
        .total_ms = plan->total_ms,
        .tunnel_ms = or_default(plan->tunnel_ms, 3600000),
        .pool_idle_ms = or_default(plan->pool_idle_ms, 30000),
    };
}

static struct proxy_retry compile_retry(const struct proxy_retry *plan)
{
    return (struct proxy_retry){
        .off = plan->off,
        .attempts_max = or_default(plan->attempts_max, PROXY_ATTEMPTS_DEFAULT),
        .budget_percent = or_default(plan->budget_percent, 20),
        .budget_min = or_default(plan->budget_min, 3),
    };
}

static const struct proxy_version *arm_of(const struct proxy_service *service, int32_t arm)
{
    return arm == PROXY_VERSION_NONE ? NULL : &service->versions[arm];
}

static void compile_split(const struct proxy_service_plan *plan, struct proxy_service *service)
{
    service->arms[ROLLOUT_ARM_STABLE] = arm_of(service, plan->stable);
    service->arms[ROLLOUT_ARM_CANARY] = arm_of(service, plan->canary);
    service->arms[ROLLOUT_ARM_CONTROL] = arm_of(service, plan->control);
    service->canary_leaves = plan->canary_leaves;
    service->canary_leave_us = (uint64_t)plan->canary_leave_ms * 1000;
    service->weight = plan->weight;
    uint32_t left = ROLLOUT_WEIGHT_FULL - plan->weight;
    service->weight_control = plan->weight_control < left ? plan->weight_control : left;
    service->epoch = plan->epoch;
    service->salt = plan->salt;
    service->unit = plan->unit;
    service->cookie_key = plan->cookie_key;
}

static struct rollout_yardstick compile_yardstick(const struct rollout_yardstick *plan)
{
    struct rollout_yardstick by = *plan;
    bool frozen = by.edges.requests > 0;
    for (int k = 0; k < ROLLOUT_EDGES; k++) {
        by.edges.edge_us[k] = frozen && by.edges.edge_us[k] > 0 ? by.edges.edge_us[k] : UINT64_MAX;
        by.worse_us[k] = frozen && by.worse_us[k] > 0 ? by.worse_us[k] : UINT64_MAX;
        by.margin_us[k] = frozen && by.margin_us[k] > 0 ? by.margin_us[k] : UINT64_MAX;
    }
    by.deadline_us = by.deadline_us != 0 ? by.deadline_us : 30000000;
    if (by.deadline_us > (uint64_t)ROLLOUT_DEADLINE_MS_MAX * 1000)
        by.deadline_us = (uint64_t)ROLLOUT_DEADLINE_MS_MAX * 1000;
    return by;
}

static void compile_service(struct table_carve *from, const struct proxy_service_plan *plan,
                            struct proxy_service *service)
{
    struct proxy_version *versions = table_carve(from, plan->version_count, sizeof *versions);
    service->protection = compile_protection(from, plan->protection);
    for (uint32_t i = 0; i < plan->version_count; i++) {
        compile_version(from, &plan->versions[i], &versions[i]);
        versions[i].protection = service->protection;
    }
    service->versions = versions;
    service->version_count = plan->version_count;
    service->slot = plan->slot;
    memcpy(service->name, plan->name, strlen(plan->name));
    compile_split(plan, service);
    service->unit_name =
        plan->unit_name != NULL ? table_carve_text(from, plan->unit_name, false) : SLICE("sluice");
    service->yardstick = compile_yardstick(&plan->yardstick);
    service->timeouts = compile_timeouts(&plan->timeouts);
    service->retry = compile_retry(&plan->retry);
    service->body_bytes_max = plan->body_bytes_max != 0 ? plan->body_bytes_max : UINT64_MAX;
    service->flags = table_flags_compile(from, plan);
    service->errors = outcome_compile(from, plan->errors);
    service->mirror = plan->mirror;
    service->hash = compile_hash(from, plan->hash);
}

static struct slice carve_path(struct table_carve *from, const char *text)
{
    struct slice path = text == NULL ? SLICE("") : slice_of(text);
    char *copy = table_carve(from, path.len, 1);
    struct slice normal = http_path_normal(path, copy);
    if (normal.data != copy)
        memcpy(copy, normal.data, normal.len);
    return (struct slice){copy, normal.len};
}

// A final dot only says that the name is whole (RFC 3986 3.2.2).
static struct slice without_dot(struct slice host)
{
    if (host.len > 1 && host.data[host.len - 1] == '.')
        host.len--;
    return host;
}

static void compile_route(struct table_carve *from, const struct proxy_table *table,
                          const struct proxy_route_plan *plan, struct proxy_route *route)
{
    route->service = plan->service == PROXY_SERVICE_NONE ? NULL : &table->services[plan->service];
    route->path = carve_path(from, plan->path);
    route->path_kind = plan->path_kind;
    if (plan->path_kind == PROXY_PATH_PREFIX && route->path.len > 0 &&
        route->path.data[route->path.len - 1] == '/')
        route->path.len--;
    route->conditions = table_conditions_compile(from, plan);
    route->written = plan->path_kind != PROXY_PATH_PREFIX || route->conditions != NULL ||
                     table_action_written(plan->action);
    route->host = without_dot(table_carve_text(from, plan->host, true));
    route->kind = PROXY_HOST_EXACT;
    if (route->host.len == 0 || slice_equal(route->host, SLICE("*"))) {
        route->kind = PROXY_HOST_ANY;
        route->host.len = 0;
    }
    if (slice_starts_with(route->host, SLICE("*."))) {
        route->kind = PROXY_HOST_SUFFIX;
        route->host.data++;
        route->host.len--;
    }
}

// ---- the order of routes ----

static int host_rank(const struct proxy_route *route)
{
    return route->kind == PROXY_HOST_EXACT ? 0 : route->kind == PROXY_HOST_SUFFIX ? 1 : 2;
}

static int path_rank(const struct proxy_route *route)
{
    return route->path_kind == PROXY_PATH_EXACT ? 0 : route->path_kind == PROXY_PATH_TEMPLATE ? 1 : 2;
}

static int compare_texts(struct slice a, struct slice b)
{
    if (a.len != b.len)
        return a.len > b.len ? -1 : 1;
    return a.len == 0 ? 0 : memcmp(a.data, b.data, a.len);
}

static int compare_ranks(uint64_t a, uint64_t b)
{
    return a == b ? 0 : a > b ? -1 : 1;
}

static int compare_paths(const struct proxy_route *a, const struct proxy_route *b)
{
    if (a->path_kind != PROXY_PATH_TEMPLATE)
        return compare_texts(a->path, b->path);
    return compare_ranks(http_template_rank(a->path), http_template_rank(b->path));
}

// Which comes first, and why, in the words of the guide. Routes that can never both match are put side by
// side by their texts.
static int compare_why(const struct proxy_route *a, const struct proxy_route *b, const char **why)
{
    const struct {
        int order;
        const char *why;
    } steps[] = {
        {host_rank(a) - host_rank(b), "its host is more exact"},
        {compare_texts(a->host, b->host), "its host is longer"},
        {path_rank(a) - path_rank(b), "its kind of path is more exact"},
        {path_rank(a) != path_rank(b) ? 0 : compare_paths(a, b), "its path is longer"},
        {compare_ranks(table_conditions_count(a->conditions), table_conditions_count(b->conditions)),
         "it has more conditions"},
        {compare_ranks(b->plan, a->plan), "it stands earlier"},
    };
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        *why = steps[i].why;
        if (steps[i].order != 0)
            return steps[i].order;
    }
    return 0;
}

static int compare_routes(const void *left, const void *right)
{
    const char *why;
    return compare_why(left, right, &why);
}

static bool routes_same(const struct proxy_route *a, const struct proxy_route *b)
{
    return a->conditions == NULL && b->conditions == NULL && a->kind == b->kind &&
           a->path_kind == b->path_kind && slice_equal(a->host, b->host) && slice_equal(a->path, b->path);
}

static bool routes_repeat(const struct proxy_route *routes, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++)
        if (routes_same(&routes[i - 1], &routes[i]))
            return true;
    return false;
}

static void compile_networks(const struct proxy_network *from, uint32_t count, struct proxy_network *to)
{
    for (uint32_t i = 0; i < count; i++)
        to[i] = from[i];
}

static void compile_certificates(struct table_carve *from, const struct proxy_table_plan *plan,
                                 struct proxy_table *table)
{
    struct proxy_certificate *certificates = table_carve(from, plan->certificate_count, sizeof *certificates);
    for (uint32_t i = 0; i < plan->certificate_count; i++) {
        const struct proxy_certificate_plan *one = &plan->certificates[i];
        certificates[i] = (struct proxy_certificate){.listener = one->listener,
                                                     .value = one->value,
                                                     .field = table_carve_text(from, one->field, false)};
    }
    table->certificates = certificates;
    table->certificate_count = plan->certificate_count;
}

static void compile_identity(struct table_carve *from, const struct proxy_table_plan *plan,
                             struct proxy_table *table)
{
    compile_networks(plan->operators, plan->operator_count, table->operators);
    compile_networks(plan->proxies, plan->proxy_count, table->proxies);
    table->operator_count = plan->operator_count;
    table->proxy_count = plan->proxy_count;
    table->trusted_hops = plan->trusted_hops;
    table->trusts = plan->trusted_hops > 0 || plan->proxy_count > 0;
    table->forwarded = plan->forwarded;
    table->request_id = table_carve_text(from, plan->request_id, false);
    table->request_id_kept = plan->request_id_kept;
    table->identity = plan->proxy_count > 0 || plan->request_id != NULL || plan->certificate_count > 0;
    compile_certificates(from, plan, table);
    if (plan->header_peer_count == 0)
        return;
    struct proxy_header_peers *peers = table_carve(from, plan->header_peer_count, sizeof *peers);
    memcpy(peers, plan->header_peers, plan->header_peer_count * sizeof *peers);
    table->header_peers = peers;
    table->header_peer_count = plan->header_peer_count;
}

static struct proxy_table *compile(const struct proxy_table_plan *plan, char *block, size_t bytes)
{
    struct table_carve from = {block, block + bytes};
    struct proxy_table *table = table_carve(&from, 1, sizeof *table);
    table->version = plan->version;
    table->paths_untold = plan->paths_untold;
    table->drain_us = (uint64_t)or_default(plan->drain_ms, 30000) * 1000;
    table->clients_per_site = plan->clients_per_site;
    table->listen_http1 = plan->listen_http1;
    table->body_rate_min = or_default(plan->body_rate_min, 500);
    table->client_head_us = (uint64_t)or_default(plan->client_head_ms, 10000) * 1000;
    table->client_idle_us = (uint64_t)or_default(plan->client_idle_ms, 75000) * 1000;
    table->via = plan->via != NULL ? table_carve_text(&from, plan->via, false) : SLICE("sluice");
    if (plan->flags != NULL)
        table->flags = *plan->flags;
    table->tallies = plan->tallies;
    compile_identity(&from, plan, table);
    table->service_count = plan->service_count;
    table->services = table_carve(&from, plan->service_count, sizeof *table->services);
    for (uint32_t i = 0; i < plan->service_count; i++) {
        compile_service(&from, &plan->services[i], &table->services[i]);
        table->by_slot[table->services[i].slot] = &table->services[i];
    }
    table->route_count = plan->route_count;
    table->routes = table_carve(&from, plan->route_count, sizeof *table->routes);
    table->https_listeners = plan->https_listeners;
    table->written = plan->https_listeners != 0;
    for (uint32_t i = 0; i < plan->route_count; i++) {
        struct proxy_route *route = &table->routes[i];
        compile_route(&from, table, &plan->routes[i], route);
        route->plan = i;
        table->by_path |= route->path.len > 0;
        table->written |= route->written;
    }
    qsort(table->routes, table->route_count, sizeof *table->routes, compare_routes);
    return table;
}

static void actions_release(struct proxy_table *table)
{
    for (uint32_t i = 0; i < table->route_count; i++)
        proxy_action_release(table->routes[i].action);
}

static bool actions_make(const struct proxy_table_plan *plan, struct proxy_table *table)
{
    for (uint32_t i = 0; i < table->route_count; i++) {
        const struct proxy_action_plan *action = plan->routes[table->routes[i].plan].action;
        table->routes[i].action = action == NULL ? NULL : table_action_make(action);
        if (action != NULL && table->routes[i].action == NULL)
            return false;
    }
    return true;
}

enum status proxy_table_build(const struct proxy_table_plan *plan, struct proxy_table **table,
                              struct fault *fault)
{
    if (plan->service_count > PROXY_SERVICES_MAX || plan->route_count > PROXY_ROUTES_MAX ||
        plan->operator_count > PROXY_NETWORKS_MAX || plan->proxy_count > PROXY_NETWORKS_MAX ||
        plan->certificate_count > PROXY_CERTIFICATES_MAX || plan->header_peer_count > PROXY_HEADER_PEERS_MAX)
        return fault_set(fault, STATUS_FULL, "more services, routes or networks than a table holds");
    const char *why = check_plan(plan);
    if (why != NULL)
        return fault_set(fault, STATUS_INVALID, "%s", why);
    size_t bytes = plan_bytes(plan);
    char *block = heap_alloc_aligned((bytes + 63) & ~(size_t)63);
    if (block == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    struct proxy_table *built = compile(plan, block, bytes);
    if (routes_repeat(built->routes, built->route_count)) {
        heap_free(block);
        return fault_set(fault, STATUS_INVALID, "two routes have the same host and path");
    }
    if (!actions_make(plan, built)) {
        actions_release(built);
        heap_free(block);
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    }
    // Only now, so that a table that was not built releases nothing.
    built->flags_release = plan->flags_release;
    built->flags_context = plan->flags_context;
    built->tls = plan->tls;
    proxy_tls_hold(built->tls);
    for (uint32_t i = 0; i < built->service_count; i++)
        if (built->services[i].mirror != NULL)
            mirror_plan_share(built->services[i].mirror);
    *table = built;
    return STATUS_OK;
}

void proxy_table_destroy(struct proxy_table *table)
{
    if (table == NULL)
        return;
    if (table->flags_release != NULL)
        table->flags_release(table->flags_context);
    proxy_tls_release(table->tls);
    for (uint32_t i = 0; i < table->service_count; i++)
        mirror_plan_release(table->services[i].mirror);
    actions_release(table);
    heap_free(table);
}

// ---- finding ----

static bool host_matches(const struct proxy_route *route, struct slice host)
{
    if (route->kind == PROXY_HOST_ANY)
        return true;
    if (route->kind == PROXY_HOST_EXACT)
        return slice_equal_nocase(route->host, host);
    if (host.len <= route->host.len)
        return false;
    struct slice tail = {host.data + (host.len - route->host.len), route->host.len};
    return slice_equal_nocase(route->host, tail);
}

// A prefix on a segment boundary. params: a segment of the path has parameters.
static inline bool path_matches(struct slice prefix, struct slice path, bool params)
{
    if (prefix.len == 0)
        return true;
    if (UNLIKELY(params))
        return http_path_covers(prefix, path) != HTTP_PATH_NONE;
    if (!slice_starts_with(path, prefix))
        return false;
    return path.len == prefix.len || path.data[prefix.len] == '/';
}

static const struct proxy_route *find_by_host(const struct proxy_table *table, struct slice host)
{
    for (uint32_t i = 0; i < table->route_count; i++)
        if (host_matches(&table->routes[i], host))
            return &table->routes[i];
    return NULL;
}

static bool has_params(struct slice path)
{
    return memchr(path.data, ';', path.len) != NULL;
}

// Not inlined: its storage is large, and few tables ask for paths.
__attribute__((noinline)) static const struct proxy_route *find_by_path(const struct proxy_table *table,
                                                                        struct slice host, struct slice path)
{
    char storage[HTTP1_START_LINE_BYTES_MAX];
    CHECK(path.len <= sizeof storage);
    path = http_path_normal(path, storage);
    bool params = has_params(path);
    for (uint32_t i = 0; i < table->route_count && path.len > 0; i++) {
        const struct proxy_route *route = &table->routes[i];
        if (host_matches(route, host) && path_matches(route->path, path, params))
            return route;
    }
    return NULL;
}

const struct proxy_route *proxy_table_find(const struct proxy_table *table, struct slice host,
                                           struct slice path)
{
    host = without_dot(host);
    return table->by_path ? find_by_path(table, host, path) : find_by_host(table, host);
}

// ---- finding among written routes ----

// What a request is asked for; path in its normal form.
struct question {
    const struct http_request *request;
    struct slice host, path;
    enum proxy_scheme scheme;
    bool params;
};

enum proxy_scheme proxy_table_scheme(const struct proxy_table *table, const struct http_request *request,
                                     bool secure)
{
    const struct http_field *told =
        table->trusts ? http_fields_find(&request->fields, HTTP_FIELD_X_FORWARDED_PROTO) : NULL;
    if (told != NULL)
        secure = slice_equal_nocase(told->value, SLICE("https"));
    return secure ? PROXY_SCHEME_HTTPS : PROXY_SCHEME_HTTP;
}

// False: the path has no route.
static bool ask(const struct proxy_table *table, const struct http_request *request, bool secure,
                char storage[HTTP1_START_LINE_BYTES_MAX], struct question *question)
{
    CHECK(request->path.len <= HTTP1_START_LINE_BYTES_MAX);
    struct slice path = http_path_normal(request->path, storage);
    *question = (struct question){.request = request,
                                  .host = without_dot(request->host),
                                  .path = path,
                                  .scheme = proxy_table_scheme(table, request, secure),
                                  .params = has_params(path)};
    return path.len > 0;
}

static bool written_path_matches(const struct proxy_route *route, const struct question *question)
{
    if (route->path_kind == PROXY_PATH_TEMPLATE)
        return http_template_match(route->path, question->path, NULL);
    if (route->path_kind == PROXY_PATH_PREFIX)
        return path_matches(route->path, question->path, question->params);
    if (slice_equal(route->path, question->path))
        return true;
    return question->params && http_path_covers(route->path, question->path) == question->path.len;
}

static bool route_matches(const struct proxy_route *route, const struct question *question)
{
    return host_matches(route, question->host) && written_path_matches(route, question) &&
           (route->conditions == NULL ||
            table_conditions_hold(route->conditions, question->request, question->scheme));
}

const struct proxy_route *proxy_table_find_written(const struct proxy_table *table,
                                                   const struct http_request *request, bool secure)
{
    char storage[HTTP1_START_LINE_BYTES_MAX];
    struct question question;
    if (!ask(table, request, secure, storage, &question))
        return NULL;
    for (uint32_t i = 0; i < table->route_count; i++)
        if (route_matches(&table->routes[i], &question))
            return &table->routes[i];
    return NULL;
}

uint32_t proxy_table_matches(const struct proxy_table *table, const struct http_request *request, bool secure,
                             uint32_t *plans, uint32_t cap)
{
    char storage[HTTP1_START_LINE_BYTES_MAX];
    struct question question;
    uint32_t count = 0;
    if (!ask(table, request, secure, storage, &question))
        return 0;
    for (uint32_t i = 0; i < table->route_count && count < cap; i++)
        if (route_matches(&table->routes[i], &question))
            plans[count++] = table->routes[i].plan;
    return count;
}

static const struct proxy_route *route_of_plan(const struct proxy_table *table, uint32_t plan)
{
    const struct proxy_route *route = table->routes;
    while (route->plan != plan)
        route++;
    return route;
}

const char *proxy_table_why(const struct proxy_table *table, uint32_t first, uint32_t second)
{
    const char *why;
    (void)compare_why(route_of_plan(table, first), route_of_plan(table, second), &why);
    return why;
}

bool proxy_table_outcome(const struct proxy_table *table, uint32_t plan, const struct http_request *request,
                         bool secure, struct text *target, struct text *host)
{
    const struct proxy_route *route = route_of_plan(table, plan);
    enum proxy_scheme scheme = proxy_table_scheme(table, request, secure);
    if (route->service == NULL && route->action->redirect.status != 0)
        return table_action_location(&route->action->redirect, route, request, scheme, target);
    table_action_target(route, request, target);
    text_add(host,
             route->action != NULL && route->action->host.len > 0 ? route->action->host : request->authority);
    return !target->cut && !host->cut;
}

uint16_t proxy_table_route(const struct proxy_table *table, struct slice host, struct slice path)
{
    struct http_request request;
    memset(&request, 0, sizeof request);
    request.method = SLICE("GET");
    request.host = host;
    request.path = path;
    const struct proxy_route *route = table->written ? proxy_table_find_written(table, &request, false)
                                                     : proxy_table_find(table, host, path);
    return route == NULL || route->service == NULL ? PROXY_SLOT_NONE : route->service->slot;
}

const struct proxy_version *proxy_service_version(const struct proxy_service *service, uint16_t version_slot)
{
    for (uint32_t i = 0; i < service->version_count; i++)
        if (service->versions[i].slot == version_slot)
            return &service->versions[i];
    return NULL;
}

const struct proxy_version *proxy_service_version_named(const struct proxy_service *service,
                                                        struct slice name)
{
    for (uint32_t i = 0; i < service->version_count; i++)
        if (slice_equal(slice_of(service->versions[i].name), name))
            return &service->versions[i];
    return NULL;
}

struct slice proxy_table_endpoint_name(const struct proxy_table *table, uint16_t slot)
{
    for (uint32_t i = 0; table != NULL && i < table->service_count; i++)
        for (uint32_t j = 0; j < table->services[i].version_count; j++) {
            const struct proxy_version *version = &table->services[i].versions[j];
            for (uint32_t k = 0; k < version->listed_count; k++)
                if (version->endpoints[k].slot == slot)
                    return version->endpoints[k].name;
        }
    return SLICE("");
}

// ---- networks ----

static bool bits_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    if (memcmp(a, b, bits / 8) != 0)
        return false;
    unsigned rest = bits % 8;
    return rest == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - rest)) == 0;
}

static bool network_has(const struct proxy_network *network, const struct io_addr *addr)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (addr->any.sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, addr->bytes, sizeof in);
        return !network->ipv6 && bits_equal((const uint8_t *)&in.sin_addr, network->bytes, network->bits);
    }
    if (addr->any.sa_family != AF_INET6)
        return false;
    struct sockaddr_in6 in6;
    memcpy(&in6, addr->bytes, sizeof in6);
    const uint8_t *bytes = in6.sin6_addr.s6_addr;
    if (network->ipv6)
        return bits_equal(bytes, network->bytes, network->bits);
    return memcmp(bytes, mapped, sizeof mapped) == 0 && bits_equal(bytes + 12, network->bytes, network->bits);
}

static bool networks_have(const struct proxy_network *networks, uint32_t count, const struct io_addr *addr)
{
    for (uint32_t i = 0; i < count; i++)
        if (network_has(&networks[i], addr))
            return true;
    return false;
}

bool proxy_table_header_peer(const struct proxy_table *table, uint32_t listener, const struct io_addr *peer)
{
    for (uint32_t i = 0; i < table->header_peer_count; i++)
        if (table->header_peers[i].listener == listener && network_has(&table->header_peers[i].network, peer))
            return true;
    return false;
}

bool proxy_table_proxy(const struct proxy_table *table, const struct io_addr *addr)
{
    return networks_have(table->proxies, table->proxy_count, addr);
}

bool proxy_table_operator(const struct proxy_table *table, const struct io_addr *addr)
{
    return networks_have(table->operators, table->operator_count, addr);
}
