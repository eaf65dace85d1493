// SPDX-License-Identifier: Apache-2.0
// Services: versions, the control arm, routes, the unit; and what services owe to each other and to
// listeners.
#include "base/check.h"
#include "base/heap.h"
#include "daemon/config/config_private.h"

// ---- versions and their endpoints ----

const struct config_node *config_endpoints_node(const struct config_node *node)
{
    return node != NULL && node->kind == CONFIG_NODE_LIST ? node : config_node_get(node, "endpoints");
}

static void version_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    const struct config_version *version = target;
    if (version->endpoint_count > 0 && version->endpoints_file[0] != '\0')
        config_error_at(reader, config_place(node, "endpoints_file"),
                        "endpoints stand in one place: either 'endpoints' or 'endpoints_file', not both");
    config_endpoints_distinct(reader, config_endpoints_node(node), version->endpoints,
                              version->endpoint_count);
}

static const struct config_choice header_choices[] = {{"none", 0}, {"v1", 1}, {"v2", 2}, {NULL, 0}};

static const struct config_choice http2_choices[] = {
    {"off", CONFIG_HTTP2_OFF}, {"on", CONFIG_HTTP2_ON}, {NULL, 0}};

static const struct config_word version_words[] = {
    {.word = "endpoints",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config_version, endpoints, endpoint_count),
     .min = 1,
     .max = CONFIG_ENDPOINTS_MAX,
     .section = &config_endpoint_section,
     .required = true,
     .unless = "endpoints_file",
     .help = "where this version answers"},
    {.word = "endpoints_file",
     .kind = CONFIG_KIND_FILE,
     CONFIG_AT(struct config_version, endpoints_file),
     .help = "file with the list that `endpoints` would have; read again when it changes"},
    {.word = "tls",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_version, origin),
     .section = &config_origin_section,
     .optional = true,
     .fallback = "as at its service",
     .help = "HTTPS to these endpoints"},
    {.word = "http2",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_version, http2),
     .choices = http2_choices,
     .help = "HTTP/2 to these endpoints; without this word as at its service"},
    {.word = "proxy_protocol",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_version, proxy_header),
     .choices = header_choices,
     .fallback = "none",
     .help =
         "whether connections to it begin with a PROXY header, which tells whose they are; each then serves one "
         "client's connection only"},
};
static const struct config_section version_section = {
    .title = "version",
    .help =
        "One version of a service. `v1: [10.0.0.1:9001]` is short for `v1: {endpoints: [10.0.0.1:9001]}`.",
    CONFIG_WORDS(version_words),
    .shorthand = "endpoints",
    .finish = version_finish,
};

static const struct config_word control_words[] = {
    {.word = "endpoints",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config_service, control_endpoints, control_endpoint_count),
     .min = 1,
     .max = CONFIG_ENDPOINTS_MAX,
     .section = &config_endpoint_section,
     .required = true,
     .help = "where they answer"},
    {.word = "tls",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_service, control_origin),
     .section = &config_origin_section,
     .optional = true,
     .fallback = "as at its service",
     .help = "HTTPS to these endpoints"},
    {.word = "http2",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_service, control_http2),
     .choices = http2_choices,
     .help = "HTTP/2 to these endpoints; without this word as at its service"},
};
static const struct config_section control_section = {
    .title = "control",
    .help = "A control arm: freshly started endpoints of the stable version, which get the new version's "
            "share of "
            "traffic and are what it is compared with.",
    CONFIG_WORDS(control_words),
    .shorthand = "endpoints",
};

// ---- the unit ----

static void unit_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct config_unit *unit = target;
    bool cookie = config_given(node, "cookie");
    bool header = config_given(node, "header");
    if (cookie && header)
        config_error_at(reader, config_node_find(node, "header")->key,
                        "a unit is one thing: either a 'cookie' or a 'header', not both");
    else if (node != NULL && node->kind != CONFIG_NODE_SCALAR && !cookie && !header)
        config_error_at(reader, node, "a unit is {cookie: name}, {header: name}, 'address' or 'request'");
    if (cookie || header)
        unit->kind = cookie ? CONFIG_UNIT_COOKIE : CONFIG_UNIT_HEADER;
}

static const struct config_choice unit_choices[] = {
    {"request", CONFIG_UNIT_REQUEST}, {"address", CONFIG_UNIT_ADDRESS}, {NULL, 0}};
static const struct config_word unit_words[] = {
    {.word = "cookie",
     .kind = CONFIG_KIND_TOKEN,
     CONFIG_AT(struct config_unit, name),
     .help = "the value of this cookie"},
    {.word = "header",
     .kind = CONFIG_KIND_TOKEN,
     CONFIG_AT(struct config_unit, name),
     .help = "the value of this header"},
};
static const struct config_section unit_section = {
    .title = "unit",
    .help = "What stays on one version: a cookie or a header by its name, the client's `address`, or nothing "
            "but the "
            "single `request`.",
    CONFIG_WORDS(unit_words),
    .choices = unit_choices,
    .choice_offset = offsetof(struct config_unit, kind),
    .choice_size = sizeof(enum config_unit_kind),
    .finish = unit_finish,
};

// ---- services ----

const struct config_service *config_service_find(const struct config *config, const char *name)
{
    for (uint32_t i = 0; i < config->service_count; i++)
        if (strcmp(config->services[i].name, name) == 0)
            return &config->services[i];
    return NULL;
}

const struct config_version *config_version_find(const struct config_service *service, const char *name)
{
    for (uint32_t i = 0; i < service->version_count; i++)
        if (strcmp(service->versions[i].name, name) == 0)
            return &service->versions[i];
    return NULL;
}

void config_version_unknown(struct config_reader *reader, const struct config_node *node,
                            const struct config_service *service, const char *version)
{
    char hint[200];
    struct text text = text_over(hint, sizeof hint);
    const char *names[CONFIG_VERSIONS_MAX];
    for (uint32_t i = 0; i < service->version_count; i++)
        names[i] = service->versions[i].name;
    config_hint_known(&text, slice_of(version), names, service->version_count);
    config_error_at(reader, node, "service '%s' has no version '%s'%s", service->name, version, hint);
}

static void service_prepare(struct config_reader *reader, void *target)
{
    ((struct config_service *)target)->timeouts = reader->config->timeouts;
}

static void route_for_all(struct config_reader *reader, struct config_service *service)
{
    service->routes = heap_alloc(1, sizeof *service->routes);
    if (service->routes == NULL) {
        reader->no_memory = true;
        return;
    }
    service->route_count = 1;
    memcpy(service->routes[0].path.text, "/", 2);
}

static void http2_inherit(struct config_service *service)
{
    if (service->control_http2 == CONFIG_HTTP2_UNSAID)
        service->control_http2 = service->http2;
    for (uint32_t i = 0; i < service->version_count; i++)
        if (service->versions[i].http2 == CONFIG_HTTP2_UNSAID)
            service->versions[i].http2 = service->http2;
}

// What cannot be had together with HTTP/2.
static void http2_check(struct config_reader *reader, const struct config_node *node,
                        const struct config_service *service)
{
    bool asked = service->health.given && service->health.path[0] != '\0';
    for (uint32_t i = 0; i < service->version_count; i++) {
        const struct config_version *version = &service->versions[i];
        if (version->http2 != CONFIG_HTTP2_ON)
            continue;
        if (version->proxy_header != 0)
            config_error_at(
                reader, node,
                "version '%s' has 'http2', where clients share connections, and 'proxy_protocol', which "
                "tells of one client: take one of them away",
                version->name);
        if (asked && version->origin.speech != CONFIG_SPEECH_TLS)
            config_error_at(
                reader, config_place(node, "health"),
                "'health' with a 'path' asks in HTTP/1.1, which version '%s' with 'http2' and without "
                "'tls' does not speak: use 'tcp'",
                version->name);
    }
}

static void origins_inherit(struct config_service *service)
{
    if (service->control_origin.speech == CONFIG_SPEECH_UNSAID)
        service->control_origin = service->origin;
    for (uint32_t i = 0; i < service->version_count; i++)
        if (service->versions[i].origin.speech == CONFIG_SPEECH_UNSAID)
            service->versions[i].origin = service->origin;
}

void config_copies_check(struct config_reader *reader, const struct config_node *node,
                         const struct config_service *service, const char *name)
{
    const struct config_version *version = config_version_find(service, name);
    if (version != NULL && version->http2 == CONFIG_HTTP2_ON && version->origin.speech != CONFIG_SPEECH_TLS)
        config_error_at(
            reader, node,
            "copies of requests go in HTTP/1.1, which version '%s' with 'http2' and without 'tls' "
            "does not speak",
            name);
}

// A version that is promoted later is not told here: then the mirror rests.
static void mirror_check(struct config_reader *reader, const struct config_node *node,
                         const struct config_service *service)
{
    const char *to = service->mirror.to;
    const struct config_node *place = config_place(config_node_get(node, "mirror"), "to");
    if (to[0] != '\0' && config_version_find(service, to) == NULL)
        config_version_unknown(reader, place, service, to);
    else if (to[0] != '\0' && strcmp(to, service->stable) == 0)
        config_error_at(reader, place, "'%s' is the stable version: a mirror goes to another one", to);
    if (to[0] == '\0')
        return;
    config_copies_check(reader, place, service, to);
    if (service->mirror.secondary > 0)
        config_copies_check(reader, place, service, service->stable);
}

static void service_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct config_service *service = target;
    service->position = config_position_of(reader, node);
    if (!config_given(node, "routes"))
        route_for_all(reader, service);
    origins_inherit(service);
    http2_inherit(service);
    http2_check(reader, node, service);
    config_endpoints_distinct(reader, config_endpoints_node(config_node_get(node, "control")),
                              service->control_endpoints, service->control_endpoint_count);
    if (service->version_count == 0)
        return;
    if (!config_given(node, "stable") && service->version_count == 1)
        memcpy(service->stable, service->versions[0].name, sizeof service->stable);
    else if (!config_given(node, "stable") && !config_is_mistyped(&config_service_section, node, "stable"))
        config_error_at(reader, node,
                        "service '%s' has %u versions and lacks the word 'stable': which of them gets "
                        "the traffic?",
                        service->name, service->version_count);
    else if (service->stable[0] != '\0' && config_version_find(service, service->stable) == NULL)
        config_version_unknown(reader, config_node_get(node, "stable"), service, service->stable);
    mirror_check(reader, node, service);
}

static const struct config_choice fallback_choices[] = {{"none", false}, {"stable", true}, {NULL, 0}};
static const struct config_word service_words[] = {
    {.word = "routes",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config_service, routes, route_count),
     .min = 1,
     .max = CONFIG_ROUTES_MAX,
     .section = &config_route_section,
     .fallback = "every host and path",
     .help = "which requests belong to the service"},
    {.word = "versions",
     .kind = CONFIG_KIND_MAP,
     CONFIG_ITEMS(struct config_service, versions, version_count),
     .min = 1,
     .max = CONFIG_VERSIONS_MAX,
     .section = &version_section,
     .required = true,
     .help = "names of versions, each with its endpoints"},
    {.word = "stable",
     .kind = CONFIG_KIND_NAME,
     CONFIG_AT(struct config_service, stable),
     .help =
         "the version that gets all traffic outside of rollouts, until a completed rollout promotes another or "
         "this word is edited; may be left out when there is only one version"},
    {.word = "unit",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_service, unit),
     .section = &unit_section,
     .fallback = "request",
     .help = "what stays on one version"},
    {.word = "control",
     .kind = CONFIG_KIND_SECTION,
     .offset = 0,
     .size = sizeof(struct config_service),
     .optional = true,
     .section = &control_section,
     .help = "a control arm"},
    {.word = "tls",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_service, origin),
     .section = &config_origin_section,
     .optional = true,
     .help = "HTTPS to the endpoints of all its versions that do not say otherwise"},
    {.word = "http2",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_service, http2),
     .choices = http2_choices,
     .help =
         "HTTP/2 to the endpoints of all its versions that do not say otherwise, as gRPC needs it: with `tls` where "
         "an endpoint agrees to it (ALPN), else HTTP/1.1; without `tls` they must speak it from the first byte"},
    {.word = "timeouts",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_service, timeouts),
     .section = &config_service_timeouts_section,
     .fallback = "as in the file's own",
     .help = "timeouts of this service alone"},
    {.word = "flags",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_service, flags),
     .section = &config_service_flags_section,
     .optional = true,
     .help = "headers and versions by flags"},
    {.word = "errors",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_service, errors),
     .section = &config_service_errors_section,
     .fallback = "5xx and gRPC's server faults",
     .help = "what counts as an error of its versions"},
    {.word = "health",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_service, health),
     .section = &config_health_section,
     .optional = true,
     .fallback = "not checked",
     .help = "how endpoints are checked"},
    {.word = "outlier",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_service, outlier),
     .section = &config_outlier_section,
     .optional = true,
     .fallback = "none is ejected",
     .help = "when an endpoint whose requests fail is ejected"},
    {.word = "breaker",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_service, breaker),
     .section = &config_breaker_section,
     .optional = true,
     .fallback = "none",
     .help = "when a version gets no requests for a while"},
    {.word = "panic",
     .kind = CONFIG_KIND_WEIGHT,
     CONFIG_AT(struct config_service, panic),
     .max = ROLLOUT_WEIGHT_FULL,
     .fallback = "50%",
     .help = "while less than this share of a version's endpoints are in use, all of them are used; `0%`: "
             "never"},
    {.word = "slow_start",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct config_service, slow_start_ms),
     .min = 100,
     .max = CONFIG_MINUTES(60),
     .zero = "off",
     .fallback = "off",
     .help =
         "an endpoint that is new or back in use takes its full part only after it, from a tenth on; not with "
         "`balance: {hash: ...}`"},
    {.word = "fallback",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_service, fallback),
     .choices = fallback_choices,
     .fallback = "none",
     .help =
         "`stable`: a request of the new version that reached nobody (no connection, no endpoint, an open "
         "breaker) is served by the stable version; it is an error of the new one all the same"},
    {.word = "balance",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_service, balance),
     .section = &config_balance_section,
     .help = "how requests are spread over endpoints"},
    {.word = "compression",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_service, compression),
     .section = &config_compression_section,
     .optional = true,
     .fallback = "off",
     .help = "compression of answers"},
    {.word = "mirror",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_service, mirror),
     .section = &config_mirror_section,
     .optional = true,
     .fallback = "none",
     .help = "requests that are sent to a second version as well"},
};
const struct config_section config_service_section = {
    .title = "service",
    .help = "Something that answers requests in one or more versions.",
    CONFIG_WORDS(service_words),
    .prepare = service_prepare,
    .finish = service_finish,
};

// ---- across sections ----

static bool total_fits(struct config_reader *reader, const struct config_node *services, const char *what,
                       uint32_t total, uint32_t max)
{
    if (total <= max)
        return true;
    config_error_at(reader, services, "all services together have %u %s; at most %u are possible", total,
                    what, max);
    return false;
}

static uint32_t count_names(const struct config_endpoint *endpoints, uint32_t count)
{
    uint32_t names = 0;
    for (uint32_t i = 0; i < count; i++)
        names += !endpoints[i].address.literal;
    return names;
}

bool config_totals_check(struct config_reader *reader, const struct config_node *root)
{
    const struct config_node *services = config_node_get(root, "services");
    uint32_t routes = reader->config->route_count, versions = 0, endpoints = 0, names = 0;
    for (uint32_t i = 0; i < reader->config->service_count; i++) {
        const struct config_service *service = &reader->config->services[i];
        routes += service->route_count;
        versions += service->version_count + (service->control_endpoint_count > 0);
        endpoints += service->control_endpoint_count;
        names += count_names(service->control_endpoints, service->control_endpoint_count);
        for (uint32_t j = 0; j < service->version_count; j++) {
            endpoints += service->versions[j].endpoint_count;
            names += count_names(service->versions[j].endpoints, service->versions[j].endpoint_count);
        }
    }
    return total_fits(reader, services, "routes", routes, CONFIG_ALL_ROUTES_MAX) &&
           total_fits(reader, services, "versions", versions, CONFIG_ALL_VERSIONS_MAX) &&
           total_fits(reader, services, "endpoints", endpoints, CONFIG_ALL_ENDPOINTS_MAX) &&
           total_fits(reader, services, "endpoints by name", names, CONFIG_ALL_NAMES_MAX);
}

void config_endpoints_loop(struct config_reader *reader, const struct config_node *node,
                           const struct config_endpoint *endpoints, uint32_t count)
{
    const struct config *config = reader->config;
    const struct config_entry *entry = node != NULL ? node->first : NULL;
    for (uint32_t i = 0; i < count; i++, entry = entry->next)
        for (uint32_t j = 0; j < config->listen_count; j++)
            if (config_address_same(&endpoints[i].address, &config->listen[j].address))
                config_error_at(reader, entry->value,
                                "'%s' is a listener of this file: requests would go in circles",
                                endpoints[i].address.text);
}

void config_services_check(struct config_reader *reader, const struct config_node *root)
{
    const struct config_node *services = config_node_get(root, "services");
    const struct config_entry *entry = services != NULL ? services->first : NULL;
    for (uint32_t i = 0; i < reader->config->service_count && entry != NULL; i++, entry = entry->next) {
        const struct config_service *service = &reader->config->services[i];
        const struct config_entry *version = config_node_get(entry->value, "versions")->first;
        for (uint32_t j = 0; j < service->version_count; j++, version = version->next)
            config_endpoints_loop(reader, config_endpoints_node(version->value),
                                  service->versions[j].endpoints, service->versions[j].endpoint_count);
        if (service->control_endpoint_count > 0)
            config_endpoints_loop(reader, config_endpoints_node(config_node_get(entry->value, "control")),
                                  service->control_endpoints, service->control_endpoint_count);
    }
}
