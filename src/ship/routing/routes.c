// SPDX-License-Identifier: Apache-2.0
// The routes of a file as the routing table wants them: first those without a service, then those of each
// service, in the order of the file.
#include <string.h>

#include "base/heap.h"
#include "ship/routing/routing_private.h"

static uint32_t clamp_ms(uint64_t ms)
{
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static enum proxy_scheme scheme_of(enum config_scheme scheme)
{
    return scheme == CONFIG_SCHEME_HTTP    ? PROXY_SCHEME_HTTP
           : scheme == CONFIG_SCHEME_HTTPS ? PROXY_SCHEME_HTTPS
                                           : PROXY_SCHEME_ANY;
}

static const struct proxy_condition_plan *plan_conditions(struct routing_routes *to,
                                                          const struct config_condition *from, uint32_t count)
{
    static const enum proxy_condition_kind kinds[] = {[CONFIG_IS] = PROXY_IS,
                                                      [CONFIG_BEGINS] = PROXY_BEGINS,
                                                      [CONFIG_PRESENT] = PROXY_PRESENT,
                                                      [CONFIG_ABSENT] = PROXY_ABSENT};
    const struct proxy_condition_plan *first = &to->conditions[to->condition_count];
    for (uint32_t i = 0; i < count; i++)
        to->conditions[to->condition_count++] = (struct proxy_condition_plan){
            .name = from[i].name, .kind = kinds[from[i].kind], .value = from[i].value};
    return first;
}

static void plan_values(struct routing_routes *to, enum proxy_edit_kind kind,
                        const struct config_header_value *from, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        to->edits[to->edit_count++] =
            (struct proxy_edit_plan){.kind = kind, .name = from[i].name, .value = from[i].value};
}

static const struct proxy_edit_plan *plan_edits(struct routing_routes *to, const struct config_edits *from,
                                                uint32_t *count)
{
    const struct proxy_edit_plan *first = &to->edits[to->edit_count];
    plan_values(to, PROXY_EDIT_SET, from->set, from->set_count);
    plan_values(to, PROXY_EDIT_ADD, from->add, from->add_count);
    for (uint32_t i = 0; i < from->remove_count; i++)
        to->edits[to->edit_count++] =
            (struct proxy_edit_plan){.kind = PROXY_EDIT_REMOVE, .name = from->remove[i]};
    *count = (uint32_t)(&to->edits[to->edit_count] - first);
    return first;
}

static struct proxy_route_plan *plan_match(struct routing_routes *to, const struct config_route *from,
                                           uint32_t service)
{
    static const enum proxy_path_kind kinds[] = {[CONFIG_PATH_PREFIX] = PROXY_PATH_PREFIX,
                                                 [CONFIG_PATH_EXACT] = PROXY_PATH_EXACT,
                                                 [CONFIG_PATH_TEMPLATE] = PROXY_PATH_TEMPLATE};
    struct proxy_route_plan *plan = &to->routes[to->route_count++];
    const char **methods = &to->methods[to->method_count];
    for (uint32_t i = 0; i < from->method_count; i++)
        to->methods[to->method_count++] = from->methods[i];
    *plan = (struct proxy_route_plan){
        .host = or_null(from->host),
        .path = from->path.text,
        .service = service,
        .path_kind = kinds[from->path.kind],
        .scheme = scheme_of(from->scheme),
        .methods = methods,
        .method_count = from->method_count,
        .headers = plan_conditions(to, from->headers, from->header_count),
        .header_count = from->header_count,
        .query = plan_conditions(to, from->query, from->query_count),
        .query_count = from->query_count,
    };
    return plan;
}

static bool acts(const struct config_route *from, const struct proxy_action_plan *plan)
{
    return plan->name != NULL || plan->path != NULL || plan->host != NULL || plan->retry_off ||
           plan->mirror_off || plan->request_count + plan->response_count > 0 || plan->body_bytes_max > 0 ||
           plan->compression.codec_count > 0 ||
           from->timeouts.first_byte_ms + from->timeouts.idle_ms + from->timeouts.total_ms > 0;
}

static const struct config_compression *compression_of(const struct config_service *service,
                                                       const struct config_route *route)
{
    bool said = route->compression.state != CONFIG_COMPRESSION_UNSAID;
    return said ? &route->compression : &service->compression;
}

static struct compress_settings plan_compression(struct routing_routes *to,
                                                 const struct config_compression *from)
{
    struct slice *types = &to->types[to->type_count];
    to->type_count += from->type_count;
    return routing_compression_of(from, types);
}

static void plan_of_service(struct routing_routes *to, const struct config *config, uint32_t service,
                            const struct config_route *from)
{
    struct proxy_route_plan *route = plan_match(to, from, service);
    struct proxy_action_plan *plan = &to->actions[to->action_count];
    *plan = (struct proxy_action_plan){.name = or_null(from->name),
                                       .path = or_null(from->rewrite.path),
                                       .host = or_null(from->rewrite.host),
                                       .first_byte_ms = clamp_ms(from->timeouts.first_byte_ms),
                                       .idle_ms = clamp_ms(from->timeouts.idle_ms),
                                       .total_ms = clamp_ms(from->timeouts.total_ms),
                                       .retry_off = from->retry_off,
                                       .mirror_off = from->mirror_off,
                                       .body_bytes_max = from->request_body_bytes};
    plan->request = plan_edits(to, &from->request, &plan->request_count);
    plan->response = plan_edits(to, &from->response, &plan->response_count);
    plan->compression = plan_compression(to, compression_of(&config->services[service], from));
    if (!acts(from, plan))
        return;
    route->action = plan;
    to->action_count++;
}

static void plan_own(struct routing_routes *to, const struct config_own_route *from, uint32_t index)
{
    struct proxy_route_plan *route = plan_match(to, &from->route, PROXY_SERVICE_NONE);
    struct proxy_action_plan *plan = &to->actions[to->action_count++];
    struct proxy_redirect_plan *redirect = &to->redirects[index];
    struct proxy_answer_plan *answer = &to->answers[index];
    *redirect = (struct proxy_redirect_plan){.status = (uint16_t)from->redirect.status,
                                             .scheme = scheme_of(from->redirect.scheme),
                                             .host = or_null(from->redirect.host),
                                             .port = (uint16_t)from->redirect.port,
                                             .path = or_null(from->redirect.path)};
    *answer = (struct proxy_answer_plan){.status = (uint16_t)from->answer.status,
                                         .headers = &to->edits[to->edit_count],
                                         .header_count = from->answer.header_count,
                                         .body = or_null(from->answer.body)};
    plan_values(to, PROXY_EDIT_ADD, from->answer.headers, from->answer.header_count);
    *plan = (struct proxy_action_plan){.name = or_null(from->route.name),
                                       .redirect = redirect->status != 0 ? redirect : NULL,
                                       .answer = answer->status != 0 ? answer : NULL};
    route->action = plan;
}

// ---- sizes ----

struct sizes {
    size_t routes, conditions, edits, methods, types;
};

static uint32_t edits_of(const struct config_edits *edits)
{
    return edits->set_count + edits->add_count + edits->remove_count;
}

static void add_size(struct sizes *sizes, const struct config_route *route)
{
    sizes->routes++;
    sizes->conditions += route->header_count + route->query_count;
    sizes->methods += route->method_count;
    sizes->edits += edits_of(&route->request) + edits_of(&route->response);
}

static struct sizes sizes_of(const struct config *config)
{
    struct sizes sizes = {1, 1, 1, 1, 1}; // none of them is nothing
    for (uint32_t i = 0; i < config->route_count; i++) {
        add_size(&sizes, &config->routes[i].route);
        sizes.edits += config->routes[i].answer.header_count;
    }
    for (uint32_t i = 0; i < config->service_count; i++)
        for (uint32_t j = 0; j < config->services[i].route_count; j++) {
            add_size(&sizes, &config->services[i].routes[j]);
            sizes.types += compression_of(&config->services[i], &config->services[i].routes[j])->type_count;
        }
    return sizes;
}

void routing_routes_free(struct routing_routes *routes)
{
    heap_free(routes->routes);
    heap_free(routes->actions);
    heap_free(routes->redirects);
    heap_free(routes->answers);
    heap_free(routes->conditions);
    heap_free(routes->edits);
    heap_free(routes->methods);
    heap_free(routes->types);
}

enum status routing_routes_plan(const struct config *config, struct routing_routes *routes)
{
    struct sizes sizes = sizes_of(config);
    *routes = (struct routing_routes){
        .routes = heap_alloc(sizes.routes, sizeof *routes->routes),
        .actions = heap_alloc(sizes.routes, sizeof *routes->actions),
        .redirects = heap_alloc(config->route_count + 1, sizeof *routes->redirects),
        .answers = heap_alloc(config->route_count + 1, sizeof *routes->answers),
        .conditions = heap_alloc(sizes.conditions, sizeof *routes->conditions),
        .edits = heap_alloc(sizes.edits, sizeof *routes->edits),
        .methods = heap_alloc(sizes.methods, sizeof *routes->methods),
        .types = heap_alloc(sizes.types, sizeof *routes->types),
    };
    if (routes->routes == NULL || routes->actions == NULL || routes->redirects == NULL ||
        routes->answers == NULL || routes->conditions == NULL || routes->edits == NULL ||
        routes->methods == NULL || routes->types == NULL)
        return STATUS_NO_MEMORY;
    for (uint32_t i = 0; i < config->route_count; i++)
        plan_own(routes, &config->routes[i], i);
    for (uint32_t i = 0; i < config->service_count; i++)
        for (uint32_t j = 0; j < config->services[i].route_count; j++)
            plan_of_service(routes, config, i, &config->services[i].routes[j]);
    return STATUS_OK;
}

// By their addresses: those that are open are the start's, whatever the file lists now.
uint32_t routing_https_listeners(const struct routing *routing)
{
    const struct config *config = routing->config;
    uint32_t bits = 0;
    for (uint32_t i = 0; i < routing->listener_count; i++) {
        const struct config_listener *listener = routing_listener(config, routing->listeners[i]);
        bits |= (uint32_t)(listener != NULL && listener->https) << i;
    }
    return bits;
}

// ---- asking a file ----

enum status routing_routes_table(const struct config *config, struct proxy_table **table, struct fault *fault)
{
    struct routing_routes routes;
    struct proxy_service_plan *services = heap_alloc(config->service_count + 1, sizeof *services);
    struct proxy_version_plan *versions = heap_alloc(config->service_count + 1, sizeof *versions);
    enum status status = routing_routes_plan(config, &routes);
    if (services == NULL || versions == NULL || status != STATUS_OK)
        status = fault_set(fault, STATUS_NO_MEMORY, "no memory left for a routing table");
    for (uint32_t i = 0; i < config->service_count && status == STATUS_OK; i++) {
        versions[i] = (struct proxy_version_plan){.slot = (uint16_t)i, .name = "any"};
        services[i] = (struct proxy_service_plan){.slot = (uint16_t)i,
                                                  .name = config->services[i].name,
                                                  .versions = &versions[i],
                                                  .version_count = 1,
                                                  .canary = PROXY_VERSION_NONE,
                                                  .control = PROXY_VERSION_NONE};
    }
    const struct proxy_table_plan plan = {.version = 1,
                                          .services = services,
                                          .service_count = config->service_count,
                                          .routes = routes.routes,
                                          .route_count = routes.route_count,
                                          .trusted_hops =
                                              config->trust.forwarded_hops + config->trust.proxy_count};
    if (status == STATUS_OK)
        status = proxy_table_build(&plan, table, fault);
    heap_free(services);
    heap_free(versions);
    routing_routes_free(&routes);
    return status;
}

struct routing_route routing_route_of(const struct config *config, uint32_t plan)
{
    if (plan < config->route_count)
        return (struct routing_route){.route = &config->routes[plan].route, .own = &config->routes[plan]};
    plan -= config->route_count;
    const struct config_service *service = config->services;
    for (; plan >= service->route_count; service++)
        plan -= service->route_count;
    return (struct routing_route){.route = &service->routes[plan], .service = service};
}
