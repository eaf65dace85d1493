// SPDX-License-Identifier: Apache-2.0
// What values owe each other: a stage to itself, the checks' shares to one, rollouts to services, routes and
// addresses to each other. The node beside each struct is where an error is told.
#include <netinet/in.h>

#include "base/check.h"
#include "base/heap.h"
#include "daemon/config/config_private.h"
#include "net/http/field.h"

static const double SHARE_TOLERANCE = 1e-9;

// The value's place when the word is given, else the place of what lacks it.
static const struct config_node *place_of(const struct config_node *node, const char *word)
{
    const struct config_node *value = config_node_get(node, word);
    return value != NULL ? value : node;
}

static bool is_given(const struct config_node *node, const char *word)
{
    return config_node_get(node, word) != NULL;
}

static struct config_position position_of(const struct config_reader *reader, const struct config_node *node)
{
    struct config_position position = {.line = node->line, .column = node->column};
    memcpy(position.file, reader->sources.items[node->file].name, sizeof position.file);
    return position;
}

// ---- stages ----

void config_stage_prepare(struct config_reader *reader, void *target)
{
    (void)reader;
    struct rollout_spec spec;
    struct rollout_stage *stage = target;
    rollout_spec_init(&spec);
    rollout_spec_default_stages(&spec);
    CHECK(spec.stage_count > 0);
    *stage = spec.stages[0];
    stage->weight = 0;
    stage->by[0] = '\0';
    // The soak of the last one; taken back below when this stage is not at 100 %.
    stage->soak_ms = spec.stages[spec.stage_count - 1].soak_ms;
}

// A stage of a kind that knows no more than `kept`.
static void stage_alone(struct config_reader *reader, const struct config_node *node, const char *kind,
                        const char *kept)
{
    static const char *const others[] = {"weight", "for", "horizon", "soak", "segment", "approve"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (strcmp(others[i], kind) != 0 && (kept == NULL || strcmp(others[i], kept) != 0) &&
            is_given(node, others[i]))
            config_error_at(reader, config_node_find(node, others[i])->key,
                            "'%s' and '%s' do not belong to one stage; write two", others[i], kind);
}

static void approve_stage_finish(struct config_reader *reader, const struct config_node *node,
                                 struct rollout_stage *stage)
{
    stage_alone(reader, node, "approve", NULL);
    stage->kind = ROLLOUT_STAGE_APPROVE;
    stage->weight = 0;
    stage->min_ms = stage->horizon_ms = stage->soak_ms = 0;
}

void config_stage_finish(struct config_reader *reader, const struct config_scope *scope,
                         const struct config_node *node, void *target)
{
    struct rollout_stage *stage = target;
    (void)scope;
    if (is_given(node, "approve")) {
        approve_stage_finish(reader, node, stage);
        return;
    }
    if (is_given(node, "segment")) {
        stage_alone(reader, node, "segment", "for");
        stage->kind = ROLLOUT_STAGE_SEGMENT;
        stage->weight = 0;
        stage->horizon_ms = stage->soak_ms = 0;
        return;
    }
    stage->kind = ROLLOUT_STAGE_WEIGHT;
    // A stage of a later version has been reported already.
    if (!is_given(node, "weight") && !is_given(node, "shadow"))
        config_error_at(reader, node, "this stage says neither 'weight' nor 'approve' nor 'segment'");
    if (is_given(node, "soak") && stage->weight != ROLLOUT_WEIGHT_FULL)
        config_error_at(reader, config_node_find(node, "soak")->key,
                        "'soak' belongs to the stage with weight 100%%");
    // Equal to `for` it would leave no time to wait for evidence.
    if (!is_given(node, "horizon") && stage->horizon_ms < 2 * stage->min_ms)
        stage->horizon_ms = 2 * stage->min_ms;
    if (stage->horizon_ms < stage->min_ms)
        config_error_at(
            reader, config_node_get(node, "horizon"),
            "'horizon' is shorter than 'for': the stage would end undecided before it may be promoted");
    if (stage->weight != ROLLOUT_WEIGHT_FULL)
        stage->soak_ms = 0;
}

// ---- checks ----

static bool is_mapping_or_null(const struct config_node *node)
{
    return node != NULL && (node->kind == CONFIG_NODE_MAP || config_node_is_null(node));
}

void config_check_finish_errors(struct config_reader *reader, const struct config_scope *scope,
                                const struct config_node *node, void *target)
{
    struct rollout_check_errors *errors = target;
    (void)scope;
    if (is_mapping_or_null(node))
        errors->on = true;
    if (is_given(node, "margin") && errors->margin > 0 && errors->margin <= errors->worse)
        config_error_at(
            reader, config_node_get(node, "margin"),
            "'margin' must be above 'worse' (%g), or a version could be promoted and rolled back at once",
            errors->worse);
}

void config_check_finish_latency(struct config_reader *reader, const struct config_scope *scope,
                                 const struct config_node *node, void *target)
{
    (void)reader;
    (void)scope;
    if (is_mapping_or_null(node))
        ((struct rollout_check_latency *)target)->on = true;
}

void config_check_finish_throughput(struct config_reader *reader, const struct config_scope *scope,
                                    const struct config_node *node, void *target)
{
    (void)reader;
    (void)scope;
    if (is_mapping_or_null(node))
        ((struct rollout_check_throughput *)target)->on = true;
}

struct share_owner {
    const char *word;
    bool on;
    bool given;
    double *share;
};

// Shares that are given stand; the checks that are on split what is left equally. The sum is one.
static void shares_settle(struct config_reader *reader, const struct config_node *checks,
                          struct share_owner *owners, size_t count)
{
    double given = 0;
    unsigned open = 0, on = 0;
    for (size_t i = 0; i < count; i++) {
        owners[i].given = is_given(config_node_get(checks, owners[i].word), "share");
        on += owners[i].on;
        open += owners[i].on && !owners[i].given;
        given += owners[i].on && owners[i].given ? *owners[i].share : 0;
    }
    if (on == 0)
        return;
    bool too_much = open > 0 ? given > 1 - SHARE_TOLERANCE : given > 1 + SHARE_TOLERANCE;
    bool too_little = open == 0 && given < 1 - SHARE_TOLERANCE;
    if (too_much || too_little) {
        config_error_at(reader, checks, "the shares of the checks make %g%%; they must make 100%%%s",
                        given * 100, open > 0 ? ", with something left for the checks that give none" : "");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (!owners[i].on)
            *owners[i].share = 0;
        else if (!owners[i].given)
            *owners[i].share = (1 - given) / open;
    }
}

// ---- rollouts ----

void config_rollout_prepare(struct config_reader *reader, void *target)
{
    (void)reader;
    struct config_rollout *rollout = target;
    char name[ROLLOUT_NAME_BYTES];
    memcpy(name, rollout->spec.name, sizeof name);
    rollout_spec_init(&rollout->spec);
    memcpy(rollout->spec.name, name, sizeof name);
    rollout_spec_default_stages(&rollout->spec);
}

static void weights_check(struct config_reader *reader, const struct config_node *stages,
                          const struct rollout_spec *spec)
{
    uint32_t last = 0, weights = 0;
    const struct config_entry *entry = stages->first;
    for (uint32_t i = 0; i < spec->stage_count && i < stages->count; i++, entry = entry->next) {
        const struct rollout_stage *stage = &spec->stages[i];
        if (last == ROLLOUT_WEIGHT_FULL) {
            config_error_at(reader, entry->value, "no stage can come after the one with weight 100%%");
            return;
        }
        if (stage->kind != ROLLOUT_STAGE_WEIGHT || stage->weight == 0)
            continue;
        char before[16];
        struct text text = text_over(before, sizeof before);
        config_weight_write(last, &text);
        if (stage->weight <= last)
            config_error_at(reader, place_of(entry->value, "weight"),
                            "weights must grow from stage to stage; the one before has %s", before);
        last = stage->weight;
        weights++;
    }
    if (weights == 0 && reader->errors->count == 0)
        config_error_at(reader, stages, "no stage has a 'weight'; the new version would get no traffic");
}

void config_rollout_finish(struct config_reader *reader, const struct config_scope *scope,
                           const struct config_node *node, void *target)
{
    struct config_rollout *rollout = target;
    struct rollout_spec *spec = &rollout->spec;
    (void)scope;
    rollout->position = position_of(reader, node);
    rollout_spec_classify(spec);
    const struct config_node *stages = config_node_get(node, "stages");
    if (stages != NULL && stages->kind == CONFIG_NODE_LIST)
        weights_check(reader, stages, spec);
    // Events need not tell how long anything took: without times a baseline would be waited for in vain.
    if (spec->target == ROLLOUT_TARGET_FLAG && !is_given(node, "service") &&
        !is_given(config_node_get(node, "checks"), "latency"))
        spec->latency.on = false;
    struct share_owner owners[] = {
        {.word = "errors", .on = spec->errors.on, .share = &spec->errors.share},
        {.word = "latency", .on = spec->latency.on, .share = &spec->latency.share},
        {.word = "throughput", .on = spec->throughput.on, .share = &spec->throughput.share},
    };
    shares_settle(reader, config_node_get(node, "checks"), owners, ARRAY_LEN(owners));
    if (!spec->errors.on && !spec->latency.on && !spec->throughput.on)
        config_error_at(reader, place_of(node, "checks"),
                        "every check is off: nothing would tell a bad version from a good one");
}

// ---- services ----

void config_service_prepare(struct config_reader *reader, void *target)
{
    ((struct config_service *)target)->timeouts = reader->config->timeouts;
}

static void endpoints_distinct(struct config_reader *reader, const struct config_node *list,
                               const struct config_address *endpoints, uint32_t count)
{
    if (list == NULL || list->kind != CONFIG_NODE_LIST)
        return;
    const struct config_entry *entry = list->first;
    for (uint32_t i = 0; i < count; i++, entry = entry->next)
        for (uint32_t j = 0; j < i; j++)
            if (endpoints[i].text[0] != '\0' && strcmp(endpoints[i].text, endpoints[j].text) == 0)
                config_error_at(reader, entry->value, "'%s' stands in this list twice", endpoints[i].text);
}

static const struct config_node *endpoints_node(const struct config_node *node)
{
    return node != NULL && node->kind == CONFIG_NODE_LIST ? node : config_node_get(node, "endpoints");
}

void config_version_finish(struct config_reader *reader, const struct config_scope *scope,
                           const struct config_node *node, void *target)
{
    const struct config_version *version = target;
    (void)scope;
    endpoints_distinct(reader, endpoints_node(node), version->endpoints, version->endpoint_count);
}

void config_unit_finish(struct config_reader *reader, const struct config_scope *scope,
                        const struct config_node *node, void *target)
{
    struct config_unit *unit = target;
    (void)scope;
    bool cookie = is_given(node, "cookie");
    bool header = is_given(node, "header");
    if (cookie && header)
        config_error_at(reader, config_node_find(node, "header")->key,
                        "a unit is one thing: either a 'cookie' or a 'header', not both");
    else if (node != NULL && node->kind != CONFIG_NODE_SCALAR && !cookie && !header)
        config_error_at(reader, node, "a unit is {cookie: name}, {header: name}, 'address' or 'request'");
    if (cookie || header)
        unit->kind = cookie ? CONFIG_UNIT_COOKIE : CONFIG_UNIT_HEADER;
}

static void route_for_all(struct config_reader *reader, struct config_service *service)
{
    service->routes = heap_alloc(1, sizeof *service->routes);
    if (service->routes == NULL) {
        reader->no_memory = true;
        return;
    }
    service->route_count = 1;
    memcpy(service->routes[0].path, "/", 2);
}

static void names_hint(struct text *text, const char *wanted, const char *const *names, size_t count)
{
    config_hint_write(text, slice_of(wanted), names, count);
    text_addf(text, "%s known: ", text->len > 0 ? "" : ";");
    for (size_t i = 0; i < count; i++)
        text_addf(text, "%s%s", i == 0 ? "" : ", ", names[i]);
}

static void version_unknown(struct config_reader *reader, const struct config_node *node,
                            const struct config_service *service, const char *version)
{
    char hint[200];
    struct text text = text_over(hint, sizeof hint);
    const char *names[CONFIG_VERSIONS_MAX];
    for (uint32_t i = 0; i < service->version_count; i++)
        names[i] = service->versions[i].name;
    names_hint(&text, version, names, service->version_count);
    config_error_at(reader, node, "service '%s' has no version '%s'%s", service->name, version, hint);
}

void config_service_finish(struct config_reader *reader, const struct config_scope *scope,
                           const struct config_node *node, void *target)
{
    struct config_service *service = target;
    (void)scope;
    service->position = position_of(reader, node);
    if (!is_given(node, "routes"))
        route_for_all(reader, service);
    endpoints_distinct(reader, endpoints_node(config_node_get(node, "control")), service->engine_endpoints,
                       service->engine_endpoint_count);
    if (service->version_count == 0)
        return;
    if (!is_given(node, "stable") && service->version_count == 1)
        memcpy(service->stable, service->versions[0].name, sizeof service->stable);
    else if (!is_given(node, "stable"))
        config_error_at(reader, node,
                        "service '%s' has %u versions and lacks the word 'stable': which of them gets "
                        "the traffic?",
                        service->name, service->version_count);
    else if (service->stable[0] != '\0' && config_version_find(service, service->stable) == NULL)
        version_unknown(reader, config_node_get(node, "stable"), service, service->stable);
}

// ---- flags ----

void config_attribute_finish(struct config_reader *reader, const struct config_scope *scope,
                             const struct config_node *node, void *target)
{
    struct config_attribute *attribute = target;
    (void)scope;
    bool cookie = is_given(node, "cookie");
    bool header = is_given(node, "header");
    if (cookie && header)
        config_error_at(reader, config_node_find(node, "cookie")->key,
                        "a value stands in one place: either a 'cookie' or a 'header', not both");
    else if (node != NULL && node->kind != CONFIG_NODE_SCALAR && !cookie && !header)
        config_error_at(reader, node,
                        "write {header: name}, {cookie: name}, 'address', 'method', 'host' or 'path'");
    if (cookie || header)
        attribute->kind = cookie ? CONFIG_ATTRIBUTE_COOKIE : CONFIG_ATTRIBUTE_HEADER;
}

static bool field_name_same(const char *a, const char *b)
{
    for (; *a != '\0' && *b != '\0'; a++, b++) {
        char x = *a == '_' ? '-' : slice_lower_char(*a);
        char y = *b == '_' ? '-' : slice_lower_char(*b);
        if (x != y)
            return false;
    }
    return *a == *b;
}

static void flag_header_check(struct config_reader *reader, const struct config_node *key,
                              const struct config_service_flags *flags, uint32_t index)
{
    const struct config_flag_header *header = &flags->headers[index];
    if (http_field_id_of(slice_of(header->name)) != HTTP_FIELD_OTHER)
        config_error_at(reader, key, "'%s' has a meaning of its own; choose another name, such as X-Flags",
                        header->name);
    for (uint32_t i = 0; i < index; i++)
        if (field_name_same(header->name, flags->headers[i].name))
            config_error_at(reader, key, "'%s' and '%s' are one header to many servers", header->name,
                            flags->headers[i].name);
    for (uint32_t i = 0; i < header->flag_count; i++)
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(header->flags[i], header->flags[j]) == 0)
                config_error_at(reader, key, "flag '%s' stands in this header twice", header->flags[i]);
}

void config_service_flags_finish(struct config_reader *reader, const struct config_scope *scope,
                                 const struct config_node *node, void *target)
{
    const struct config_service_flags *flags = target;
    (void)scope;
    const struct config_node *headers = config_node_get(node, "headers");
    const struct config_entry *entry = headers != NULL ? headers->first : NULL;
    uint32_t total = 0;
    for (uint32_t i = 0; i < flags->header_count && entry != NULL; i++, entry = entry->next) {
        flag_header_check(reader, entry->key, flags, i);
        total += flags->headers[i].flag_count;
    }
    if (total > CONFIG_HEADER_FLAGS_MAX)
        config_error_at(reader, headers, "all headers together have %u flags; at most %d are possible", total,
                        CONFIG_HEADER_FLAGS_MAX);
    const struct config_entry *given = config_node_find(config_node_get(node, "context"), "targetingKey");
    if (given != NULL)
        config_error_at(reader, given->key, "'targetingKey' is what the word 'key' says");
}

void config_flag_source_finish(struct config_reader *reader, const struct config_scope *scope,
                               const struct config_node *node, void *target)
{
    struct config_flag_source *source = target;
    (void)scope;
    static const char *const words[] = {"file", "directory", "url"};
    static const enum config_flag_source_kind kinds[] = {CONFIG_FLAG_FILE, CONFIG_FLAG_DIRECTORY,
                                                         CONFIG_FLAG_URL};
    uint32_t given = 0;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!is_given(node, words[i]))
            continue;
        source->kind = kinds[i];
        given++;
    }
    if (node != NULL && node->kind == CONFIG_NODE_MAP && given != 1)
        config_error_at(reader, node, "a source is one of 'file', 'directory' and 'url'");
    static const char *const fetched[] = {"every", "token"};
    for (size_t i = 0; i < ARRAY_LEN(fetched); i++)
        if (is_given(node, fetched[i]) && source->kind != CONFIG_FLAG_URL)
            config_error_at(reader, config_node_find(node, fetched[i])->key, "'%s' belongs to a 'url'",
                            fetched[i]);
}

static bool is_loopback(const struct io_addr *addr)
{
    if (addr->any.sa_family == AF_UNIX)
        return true;
    if (addr->any.sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, addr->bytes, sizeof in);
        return ntohl(in.sin_addr.s_addr) >> 24 == 127;
    }
    struct sockaddr_in6 in6;
    memcpy(&in6, addr->bytes, sizeof in6);
    return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
}

void config_flags_finish(struct config_reader *reader, const struct config_scope *scope,
                         const struct config_node *node, void *target)
{
    struct config_flags *flags = target;
    (void)scope;
    flags->given = true;
    flags->position = position_of(reader, node);
    bool open = flags->listen.literal && !is_loopback(&flags->listen.addr);
    if (open && flags->tokens[0] == '\0')
        config_error_at(reader, place_of(node, "listen"),
                        "'%s' can be reached from other machines: name a file of 'tokens' (`sluice flag "
                        "token` makes lines for it), or use a loopback address such as 127.0.0.1:8016",
                        flags->listen.text);
    if (is_given(node, "burst") && flags->rate == 0)
        config_error_at(reader, config_node_find(node, "burst")->key, "'burst' means nothing without 'rate'");
}

// ---- the admin address ----

void config_admin_finish(struct config_reader *reader, const struct config_scope *scope,
                         const struct config_node *node, void *target)
{
    const struct config_address *admin = target;
    (void)scope;
    bool open = admin->literal && !is_loopback(&admin->addr);
    if (open)
        config_error_at(
            reader, place_of(node, "address"),
            "'%s' can be reached from other machines, and nothing would ask who is there: tokens come in "
            "a later version; use a loopback address such as 127.0.0.1:9440, or unix:/path",
            admin->text);
}

// ---- across sections ----

static bool address_same(const struct config_address *a, const struct config_address *b)
{
    return a->literal && b->literal && a->addr.len == b->addr.len &&
           memcmp(a->addr.bytes, b->addr.bytes, a->addr.len) == 0;
}

static bool port_is_chosen_later(const struct config_address *address)
{
    return address->addr.any.sa_family != AF_UNIX && address->addr.bytes[2] == 0 &&
           address->addr.bytes[3] == 0;
}

static void listen_check(struct config_reader *reader, const struct config_node *root)
{
    const struct config *config = reader->config;
    const struct config_node *list = config_node_get(root, "listen");
    const struct config_entry *entry = list != NULL ? list->first : NULL;
    for (uint32_t i = 0; i < config->listen_count && entry != NULL; i++, entry = entry->next) {
        const struct config_address *address = &config->listen[i];
        bool twice = address_same(address, &config->admin) || address_same(address, &config->flags.listen);
        for (uint32_t j = 0; j < i; j++)
            twice = twice || address_same(address, &config->listen[j]);
        if (twice && !port_is_chosen_later(address))
            config_error_at(reader, place_of(entry->value, "address"),
                            "'%s' is listened to twice; each address belongs to one listener", address->text);
    }
}

static void loop_check(struct config_reader *reader, const struct config_node *list,
                       const struct config_address *endpoints, uint32_t count)
{
    const struct config *config = reader->config;
    const struct config_entry *entry = list->first;
    for (uint32_t i = 0; i < count; i++, entry = entry->next)
        for (uint32_t j = 0; j < config->listen_count; j++)
            if (address_same(&endpoints[i], &config->listen[j]))
                config_error_at(reader, entry->value,
                                "'%s' is a listener of this file: requests would go in circles",
                                endpoints[i].text);
}

static const struct config_node *route_node(const struct config_node *services, uint32_t service,
                                            uint32_t route)
{
    const struct config_entry *entry = services->first;
    while (service-- > 0)
        entry = entry->next;
    const struct config_node *routes = config_node_get(entry->value, "routes");
    if (routes == NULL)
        return entry->value;
    entry = routes->first;
    while (route-- > 0)
        entry = entry->next;
    return entry->value;
}

static bool route_same(const struct config_route *a, const struct config_route *b)
{
    return strcmp(a->host, b->host) == 0 && strcmp(a->path, b->path) == 0;
}

// The first route that equals route `number` of service `index`; true and its owner, or false.
static bool route_earlier(const struct config *config, uint32_t index, uint32_t number, uint32_t *owner)
{
    const struct config_route *route = &config->services[index].routes[number];
    for (uint32_t i = 0; i <= index; i++)
        for (uint32_t j = 0; j < config->services[i].route_count; j++) {
            if (i == index && j == number)
                return false;
            if (route_same(route, &config->services[i].routes[j])) {
                *owner = i;
                return true;
            }
        }
    return false;
}

static void routes_check(struct config_reader *reader, const struct config_node *services, uint32_t index)
{
    const struct config_service *service = &reader->config->services[index];
    for (uint32_t i = 0; i < service->route_count; i++) {
        uint32_t owner;
        if (!route_earlier(reader->config, index, i, &owner))
            continue;
        const struct config_route *route = &service->routes[i];
        config_error_at(reader, route_node(services, index, i),
                        "host '%s' and path '%s' belong to service '%s' already",
                        route->host[0] == '\0' ? "*" : config_show(slice_of(route->host)).text,
                        config_show(slice_of(route->path)).text, reader->config->services[owner].name);
    }
}

static void services_check(struct config_reader *reader, const struct config_node *services)
{
    const struct config_entry *entry = services != NULL ? services->first : NULL;
    for (uint32_t i = 0; i < reader->config->service_count && entry != NULL; i++, entry = entry->next) {
        const struct config_service *service = &reader->config->services[i];
        routes_check(reader, services, i);
        const struct config_entry *version = config_node_get(entry->value, "versions")->first;
        for (uint32_t j = 0; j < service->version_count; j++, version = version->next)
            loop_check(reader, endpoints_node(version->value), service->versions[j].endpoints,
                       service->versions[j].endpoint_count);
        if (service->engine_endpoint_count > 0)
            loop_check(reader, endpoints_node(config_node_get(entry->value, "control")),
                       service->engine_endpoints, service->engine_endpoint_count);
    }
}

static void service_unknown(struct config_reader *reader, const struct config_node *node, const char *name)
{
    char hint[200];
    struct text text = text_over(hint, sizeof hint);
    const char *names[CONFIG_SERVICES_MAX];
    for (uint32_t i = 0; i < reader->config->service_count; i++)
        names[i] = reader->config->services[i].name;
    names_hint(&text, name, names, reader->config->service_count);
    config_error_at(reader, node, "there is no service '%s'%s", name, hint);
}

// What the service knows and the rollout needs.
static void rollout_complete(struct rollout_spec *spec, const struct config_service *service)
{
    memcpy(spec->from, service->stable, sizeof spec->from);
    spec->keyed = service->unit.kind != CONFIG_UNIT_REQUEST;
    spec->control = service->engine_endpoint_count > 0;
}

// Segments are for rollouts of flags: a ring gets the variant for good.
static void segments_check(struct config_reader *reader, const struct config_node *root,
                           const struct config_node *node, const struct rollout_spec *spec)
{
    const struct config_node *stages = config_node_get(node, "stages");
    const struct config_node *segments = config_node_get(root, "segments");
    const struct config_entry *entry = stages != NULL ? stages->first : NULL;
    for (uint32_t i = 0; i < spec->stage_count && entry != NULL; i++, entry = entry->next) {
        const struct rollout_stage *stage = &spec->stages[i];
        if (stage->kind != ROLLOUT_STAGE_SEGMENT)
            continue;
        const struct config_node *at = place_of(entry->value, "segment");
        if (spec->target != ROLLOUT_TARGET_FLAG)
            config_error_at(reader, at, "'segment' stages belong to rollouts of flags");
        else if (stage->segment[0] != '\0' && config_node_get(segments, stage->segment) == NULL)
            config_error_at(reader, at, "there is no segment '%s' in this file", stage->segment);
    }
}

static void flag_rollout_check(struct config_reader *reader, const struct config_node *node, uint32_t index)
{
    struct rollout_spec *spec = &reader->config->rollouts[index].spec;
    if (!reader->config->flags.given)
        config_error_at(reader, config_node_get(node, "flag"),
                        "this file has no 'flags'; say where flag '%s' comes from", spec->flag);
    if (spec->from[0] == '\0' && !is_given(node, "from"))
        config_error_at(reader, node, "rollout '%s' lacks the word 'from': the variant that is given today",
                        spec->name);
    else if (strcmp(spec->from, spec->to) == 0 && spec->to[0] != '\0')
        config_error_at(reader, config_node_get(node, "to"), "'from' and 'to' are the same variant '%s'",
                        spec->to);
    for (uint32_t i = 0; i < index; i++)
        if (strcmp(reader->config->rollouts[i].spec.flag, spec->flag) == 0)
            config_error_at(reader, config_node_get(node, "flag"),
                            "flag '%s' is in rollout '%s' already; one rollout at a time may drive it",
                            spec->flag, reader->config->rollouts[i].spec.name);
    spec->keyed = true;
    spec->control = false;
}

// Without a targeting key nobody is split: everybody would keep `from`, and no evidence would ever come.
static void split_key_check(struct config_reader *reader, const struct config_node *node,
                            const struct config_service *service)
{
    if (service->unit.kind == CONFIG_UNIT_REQUEST && service->flags.key.kind == CONFIG_ATTRIBUTE_NONE)
        config_error_at(reader, config_node_get(node, "service"),
                        "service '%s' has no key to split users by: give it a 'unit', or 'flags: {key: ...}'",
                        service->name);
}

static void service_rollout_check(struct config_reader *reader, const struct config_node *node,
                                  struct rollout_spec *spec, const struct config_service *service)
{
    if (is_given(node, "from"))
        config_error_at(reader, config_node_find(node, "from")->key,
                        "'from' belongs to rollouts of flags; a service's is its 'stable' version");
    if (spec->to[0] == '\0' || service->version_count == 0)
        return;
    if (config_version_find(service, spec->to) == NULL)
        version_unknown(reader, config_node_get(node, "to"), service, spec->to);
    else if (strcmp(spec->to, service->stable) == 0)
        config_error_at(reader, config_node_get(node, "to"),
                        "version '%s' is the stable one of service '%s' already; a rollout leads to another",
                        spec->to, service->name);
    rollout_complete(spec, service);
}

static void rollout_check(struct config_reader *reader, const struct config_node *root,
                          const struct config_node *node, uint32_t index)
{
    struct rollout_spec *spec = &reader->config->rollouts[index].spec;
    bool of_flag = spec->target == ROLLOUT_TARGET_FLAG;
    segments_check(reader, root, node, spec);
    if (of_flag)
        flag_rollout_check(reader, node, index);
    // Missing or no name: told already.
    if (spec->source == ROLLOUT_SOURCE_EVENTS && !of_flag)
        return;
    const struct config_service *service = config_service_find(reader->config, spec->service);
    if (service == NULL && spec->source == ROLLOUT_SOURCE_REQUESTS) {
        service_unknown(reader, config_node_get(node, "service"), spec->service);
        return;
    }
    for (uint32_t i = 0; i < index && service != NULL; i++)
        if (strcmp(reader->config->rollouts[i].spec.service, spec->service) == 0)
            config_error_at(
                reader, config_node_get(node, "service"),
                "service '%s' is in rollout '%s' already; one rollout at a time may move its traffic",
                spec->service, reader->config->rollouts[i].spec.name);
    if (!of_flag)
        service_rollout_check(reader, node, spec, service);
    else if (service != NULL)
        split_key_check(reader, node, service);
    struct fault fault;
    if (reader->errors->count == 0 && rollout_spec_check(spec, &fault) != STATUS_OK)
        config_error_at(reader, node, "rollout '%s' cannot run: %s", spec->name, fault.text);
}

static void rollouts_check(struct config_reader *reader, const struct config_node *root)
{
    if (reader->config->service_count == 0 && !reader->config->flags.given)
        return;
    const struct config_node *rollouts = config_node_get(root, "rollouts");
    const struct config_entry *entry = rollouts == NULL ? NULL : rollouts->first;
    for (uint32_t i = 0; i < reader->config->rollout_count && entry != NULL; i++, entry = entry->next)
        rollout_check(reader, root, entry->value, i);
}

static bool total_fits(struct config_reader *reader, const struct config_node *services, const char *what,
                       uint32_t total, uint32_t max)
{
    if (total <= max)
        return true;
    config_error_at(reader, services, "all services together have %u %s; at most %u are possible", total,
                    what, max);
    return false;
}

static bool totals_check(struct config_reader *reader, const struct config_node *services)
{
    uint32_t routes = 0, versions = 0, endpoints = 0;
    for (uint32_t i = 0; i < reader->config->service_count; i++) {
        const struct config_service *service = &reader->config->services[i];
        routes += service->route_count;
        versions += service->version_count + (service->engine_endpoint_count > 0);
        endpoints += service->engine_endpoint_count;
        for (uint32_t j = 0; j < service->version_count; j++)
            endpoints += service->versions[j].endpoint_count;
    }
    return total_fits(reader, services, "routes", routes, CONFIG_ALL_ROUTES_MAX) &&
           total_fits(reader, services, "versions", versions, CONFIG_ALL_VERSIONS_MAX) &&
           total_fits(reader, services, "endpoints", endpoints, CONFIG_ALL_ENDPOINTS_MAX);
}

void config_cross_check(struct config_reader *reader, const struct config_node *root)
{
    // Rollouts name things, which can be told beside other errors; the rest rests on whole services.
    rollouts_check(reader, root);
    if (reader->errors->count > 0)
        return;
    // Before what takes time in the square of them.
    if (!totals_check(reader, config_node_get(root, "services")))
        return;
    listen_check(reader, root);
    services_check(reader, config_node_get(root, "services"));
}
