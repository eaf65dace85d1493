// SPDX-License-Identifier: Apache-2.0
// Routes: which requests are meant, and what is done with them on their way, or instead of it.
#include "base/check.h"
#include "daemon/config/config_private.h"
#include "net/http/field.h"
#include "net/http/template.h"

// Tells an error of a text at one of its bytes.
static void error_within(struct config_reader *reader, const struct config_node *node, size_t at,
                         const char *why)
{
    config_error_mark(reader, node->file, node->line, node->column + (uint32_t)at + !node->plain, "%s", why);
}

// ---- path ----

static void path_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    static const struct {
        const char *word;
        enum config_path_kind kind;
    } words[] = {
        {"prefix", CONFIG_PATH_PREFIX}, {"exact", CONFIG_PATH_EXACT}, {"template", CONFIG_PATH_TEMPLATE}};
    struct config_route_path *path = target;
    const struct config_entry *first = NULL;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        const struct config_entry *entry = config_node_find(node, words[i].word);
        if (entry != NULL && first != NULL)
            config_error_at(reader, entry->key,
                            "a path is one thing: a 'prefix', an 'exact' one or a 'template'");
        if (entry == NULL)
            continue;
        first = entry;
        path->kind = words[i].kind;
    }
    if (node == NULL || (node->kind == CONFIG_NODE_MAP && first == NULL))
        memcpy(path->text, "/", 2);
    size_t at;
    const char *why = NULL;
    if (path->kind == CONFIG_PATH_TEMPLATE && path->text[0] != '\0')
        why = http_template_check(slice_of(path->text), &at);
    if (why != NULL)
        error_within(reader, config_node_get(node, "template"), at, why);
}

static const struct config_word path_words[] = {
    {.word = "prefix",
     .kind = CONFIG_KIND_PATH,
     CONFIG_AT(struct config_route_path, text),
     .help = "on a segment boundary: /a holds /a and /a/b, not /ab"},
    {.word = "exact",
     .kind = CONFIG_KIND_PATH,
     CONFIG_AT(struct config_route_path, text),
     .help = "this path alone: /a is not /a/"},
    {.word = "template",
     .kind = CONFIG_KIND_PATH,
     CONFIG_AT(struct config_route_path, text),
     .help = "segments by name: `/orders/{id}/items`; the last one may be all that follows: "
             "`/files/{rest...}`"},
};
static const struct config_section path_section = {
    .title = "path",
    .help =
        "Which paths. `path: /a` is short for `path: {prefix: /a}`. Compared in the one form of RFC 3986 "
        "6.2.2 (`/%61`, `/x/../a` and `//a` are `/a`, `%2F` is no slash); parameters of segments (`/a;v=1`) "
        "are not compared.",
    CONFIG_WORDS(path_words),
    .shorthand = "prefix",
    .finish = path_finish,
};

// ---- conditions ----

static void condition_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct config_condition *condition = target;
    if (config_given(node, "prefix") && config_given(node, "is"))
        config_error_at(reader, config_node_find(node, "prefix")->key,
                        "a condition is one thing: 'is' or 'prefix'");
    if (config_given(node, "prefix"))
        condition->kind = CONFIG_BEGINS;
    if (condition->kind == CONFIG_IS && condition->value[0] == '\0')
        config_error_at(reader, node, "'%s' wants a value, {prefix: ...}, 'present' or 'absent'",
                        condition->name);
    else if (!http_value_valid(slice_of(condition->value)))
        config_error_at(reader, node,
                        "'%s' can never be so: a value has no control characters and no blanks "
                        "around it",
                        condition->name);
}

static const struct config_choice condition_choices[] = {
    {"present", CONFIG_PRESENT}, {"absent", CONFIG_ABSENT}, {NULL, 0}};
static const struct config_word condition_words[] = {
    {.word = "is",
     .kind = CONFIG_KIND_TEXT,
     CONFIG_AT(struct config_condition, value),
     .help = "exactly this value; of several, any of them"},
    {.word = "prefix",
     .kind = CONFIG_KIND_TEXT,
     CONFIG_AT(struct config_condition, value),
     .help = "a value that begins so"},
};
static const struct config_section condition_section = {
    .title = "condition",
    .help =
        "On a header or a parameter of the query: its value, how that begins, or whether it is `present` or "
        "`absent`. `x-beta: yes` is short for `x-beta: {is: yes}`. Parameters are compared without their "
        "escapes.",
    CONFIG_WORDS(condition_words),
    .shorthand = "is",
    .choices = condition_choices,
    .choice_offset = offsetof(struct config_condition, kind),
    .choice_size = sizeof(enum config_condition_kind),
    .finish = condition_finish,
};

// ---- headers ----

static void header_value_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    const struct config_header_value *header = target;
    if (!http_value_valid(slice_of(header->value)))
        config_error_at(reader, node, "the value of '%s' has control characters, or blanks around it",
                        header->name);
}

static const struct config_word header_value_words[] = {
    {.word = "value",
     .kind = CONFIG_KIND_TEXT,
     CONFIG_AT(struct config_header_value, value),
     .required = true,
     .help =
         "its value. Of a request it may name `{client}`, `{host}`, `{scheme}` and the names of the route's "
         "template; `{{` and `}}` are braces"},
};
static const struct config_section header_value_section = {
    .title = "header",
    .help = "`X-Tier: gold` is short for `X-Tier: {value: gold}`.",
    CONFIG_WORDS(header_value_words),
    .shorthand = "value",
    .finish = header_value_finish,
};

static const struct config_word remove_item = {
    .word = "remove", .kind = CONFIG_KIND_TOKEN, .size = CONFIG_WORD_BYTES};
static const struct config_word edits_words[] = {
    {.word = "set",
     .kind = CONFIG_KIND_MAP,
     CONFIG_ITEMS(struct config_edits, set, set_count),
     .max = CONFIG_EDITS_MAX,
     .section = &header_value_section,
     .help = "in place of what came under the name"},
    {.word = "add",
     .kind = CONFIG_KIND_MAP,
     CONFIG_ITEMS(struct config_edits, add, add_count),
     .max = CONFIG_EDITS_MAX,
     .section = &header_value_section,
     .help = "beside what came under the name"},
    {.word = "remove",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config_edits, remove, remove_count),
     .max = CONFIG_EDITS_MAX,
     .item = &remove_item,
     .help = "what came under these names, in trailers too; '-' and '_' are the same"},
};

static void name_check(struct config_reader *reader, const struct config_node *node, const char *name)
{
    if (http_field_reserved(slice_of(name)))
        config_error_at(reader, node, "'%s' is HTTP's or the proxy's own: rules cannot touch it", name);
}

static void header_names_check(struct config_reader *reader, const struct config_node *map,
                               const struct config_header_value *headers, uint32_t count)
{
    const struct config_entry *entry = map != NULL ? map->first : NULL;
    for (uint32_t i = 0; i < count && entry != NULL; i++, entry = entry->next)
        name_check(reader, entry->key, headers[i].name);
}

static void edits_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    const struct config_edits *edits = target;
    header_names_check(reader, config_node_get(node, "set"), edits->set, edits->set_count);
    header_names_check(reader, config_node_get(node, "add"), edits->add, edits->add_count);
    const struct config_node *remove = config_node_get(node, "remove");
    const struct config_entry *entry = remove != NULL ? remove->first : NULL;
    for (uint32_t i = 0; i < edits->remove_count && entry != NULL; i++, entry = entry->next)
        name_check(reader, entry->value, edits->remove[i]);
}

const struct config_section config_edits_section = {
    .title = "headers on their way",
    .help = "What becomes of the headers on their way. First what came is taken out, then set and added.",
    CONFIG_WORDS(edits_words),
    .finish = edits_finish,
};

// ---- what else is done on the way ----

static void host_check(struct config_reader *reader, const struct config_node *node, const char *host)
{
    if (host[0] == '*')
        config_error_at(reader, config_node_get(node, "host"), "a host to go to is a single one, not '%s'",
                        host);
}

static void rewrite_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    host_check(reader, node, ((const struct config_rewrite *)target)->host);
}

static const struct config_word rewrite_words[] = {
    {.word = "path",
     .kind = CONFIG_KIND_PATH,
     CONFIG_AT(struct config_rewrite, path),
     .help = "in place of the prefix; of an exact path or a template, in place of the whole path, with the "
             "template's names: `/v2/{id}`"},
    {.word = "host",
     .kind = CONFIG_KIND_HOST,
     CONFIG_AT(struct config_rewrite, host),
     .help = "in place of Host; what the client sent goes into X-Forwarded-Host"},
};
static const struct config_section rewrite_section = {
    .title = "rewrite",
    .help = "What the service gets in place of what was asked. The query stays.",
    CONFIG_WORDS(rewrite_words),
    .finish = rewrite_finish,
};

#define ROUTE_TIMEOUT(name, member, text)                                                                    \
    {                                                                                                        \
        .word = (name), .kind = CONFIG_KIND_DURATION, CONFIG_AT(struct config_route_timeouts, member),       \
        .min = 1, .max = CONFIG_DAY, .help = (text)                                                          \
    }
static const struct config_word route_timeout_words[] = {
    ROUTE_TIMEOUT("first_byte", first_byte_ms, "from the request sent on to the first byte of the answer"),
    ROUTE_TIMEOUT("idle", idle_ms, "without a byte in either direction while a request runs"),
    ROUTE_TIMEOUT("total", total_ms, "one request altogether"),
};
static const struct config_section route_timeouts_section = {
    .title = "timeouts",
    .help = "Overrides the service's timeouts for one route. What is not named is as there.",
    CONFIG_WORDS(route_timeout_words),
};

// ---- the texts of a route ----

static void text_check(struct config_reader *reader, const struct config_node *node, const char *text,
                       const struct http_captures *known)
{
    size_t at;
    const char *why = http_text_check(slice_of(text), known, &at);
    if (why != NULL && node != NULL)
        error_within(reader, node, at, why);
}

static void template_names(const struct config_route *route, struct http_captures *known)
{
    size_t at;
    known->count = 0;
    if (route->path.kind == CONFIG_PATH_TEMPLATE &&
        http_template_check(slice_of(route->path.text), &at) == NULL)
        http_template_names(slice_of(route->path.text), known);
}

static void values_check(struct config_reader *reader, const struct config_node *map,
                         const struct config_header_value *headers, uint32_t count,
                         const struct http_captures *known)
{
    const struct config_entry *entry = map != NULL ? map->first : NULL;
    for (uint32_t i = 0; i < count && entry != NULL; i++, entry = entry->next) {
        bool map_form = entry->value->kind == CONFIG_NODE_MAP;
        text_check(reader, map_form ? config_node_get(entry->value, "value") : entry->value, headers[i].value,
                   known);
    }
}

static void route_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    static const struct slice of_request[] = {{"client", 6}, {"host", 4}, {"scheme", 6}};
    struct config_route *route = target;
    struct http_captures known;
    route->position = config_position_of(reader, node);
    template_names(route, &known);
    text_check(reader, config_node_get(config_node_get(node, "rewrite"), "path"), route->rewrite.path,
               &known);
    for (size_t i = 0; i < ARRAY_LEN(of_request); i++)
        known.items[known.count++].name = of_request[i];
    const struct config_node *edits = config_node_get(node, "request_headers");
    values_check(reader, config_node_get(edits, "set"), route->request.set, route->request.set_count, &known);
    values_check(reader, config_node_get(edits, "add"), route->request.add, route->request.add_count, &known);
}

// ---- the words of a route ----

static const struct config_choice scheme_choices[] = {
    {"http", CONFIG_SCHEME_HTTP}, {"https", CONFIG_SCHEME_HTTPS}, {NULL, 0}};
static const struct config_choice on_or_off[] = {{"on", false}, {"off", true}, {NULL, 0}};
static const struct config_word method_item = {
    .word = "methods", .kind = CONFIG_KIND_TOKEN, .size = CONFIG_METHOD_BYTES};

// At the beginning of both structs of routes.
#define MATCH_WORDS                                                                                          \
    {.word = "name",                                                                                         \
     .kind = CONFIG_KIND_NAME,                                                                               \
     CONFIG_AT(struct config_route, name),                                                                   \
     .help = "for people: in the access log (as JSON) and in `sluice check --route`"},                       \
        {.word = "host",                                                                                     \
         .kind = CONFIG_KIND_HOST,                                                                           \
         CONFIG_AT(struct config_route, host),                                                               \
         .help =                                                                                             \
             "a host without port; `*.shop.example` is every name below it; a final dot does not matter; "   \
             "without it any host"},                                                                         \
        {.word = "path",                                                                                     \
         .kind = CONFIG_KIND_SECTION,                                                                        \
         CONFIG_AT(struct config_route, path),                                                               \
         .section = &path_section,                                                                           \
         .fallback = "`/`, which is every path",                                                             \
         .help = "a prefix, an exact path or a template"},                                                   \
        {.word = "scheme",                                                                                   \
         .kind = CONFIG_KIND_CHOICE,                                                                         \
         CONFIG_AT(struct config_route, scheme),                                                             \
         .choices = scheme_choices,                                                                          \
         .help = "by which the client came: over a listener with tls, or as a trusted proxy tells in "       \
                 "X-Forwarded-Proto"},                                                                       \
        {.word = "methods",                                                                                  \
         .kind = CONFIG_KIND_LIST,                                                                           \
         CONFIG_ITEMS(struct config_route, methods, method_count),                                           \
         .max = CONFIG_METHODS_MAX,                                                                          \
         .item = &method_item,                                                                               \
         .fallback = "any",                                                                                  \
         .help = "one of these; GET is not HEAD"},                                                           \
        {.word = "headers",                                                                                  \
         .kind = CONFIG_KIND_MAP,                                                                            \
         CONFIG_ITEMS(struct config_route, headers, header_count),                                           \
         .max = CONFIG_CONDITIONS_MAX,                                                                       \
         .section = &condition_section,                                                                      \
         .fallback = "any",                                                                                  \
         .help = "all of these"},                                                                            \
    {                                                                                                        \
        .word = "query", .kind = CONFIG_KIND_MAP, CONFIG_ITEMS(struct config_route, query, query_count),     \
        .max = CONFIG_CONDITIONS_MAX, .section = &condition_section, .fallback = "any",                      \
        .help = "parameters, all of these"                                                                   \
    }

static const struct config_word route_words[] = {
    MATCH_WORDS,
    {.word = "rewrite",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_route, rewrite),
     .section = &rewrite_section,
     .optional = true,
     .help = "another path or host for the service"},
    {.word = "request_headers",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_route, request),
     .section = &config_edits_section,
     .optional = true,
     .help = "headers that the service gets"},
    {.word = "response_headers",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_route, response),
     .section = &config_edits_section,
     .optional = true,
     .help = "headers that the client gets from the service; their values are as written"},
    {.word = "timeouts",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_route, timeouts),
     .section = &route_timeouts_section,
     .optional = true,
     .fallback = "the service's",
     .help = "timeouts of this route alone"},
    {.word = "retries",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_route, retry_off),
     .choices = on_or_off,
     .fallback = "on",
     .help = "off: no request of this route is tried again"},
    {.word = "mirror",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_route, mirror_off),
     .choices = on_or_off,
     .fallback = "on",
     .help = "off: no request of this route is mirrored, if the service mirrors any"},
    {.word = "request_body",
     .kind = CONFIG_KIND_SIZE,
     CONFIG_AT(struct config_route, request_body_bytes),
     .min = 1,
     .max = 1ULL << 50,
     .help = "larger request bodies are answered 413; without it as `limits.request_body` says"},
    {.word = "compression",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_route, compression),
     .section = &config_compression_section,
     .optional = true,
     .fallback = "as the service has it",
     .help = "compression of this route's answers alone"},
};
const struct config_section config_route_section = {
    .title = "route",
    .help = "Requests that belong to the service, and what is done with them on their way. Of several routes "
            "that match, the most exact host wins, then the most exact path, then more conditions, then the "
            "place in the file.",
    CONFIG_WORDS(route_words),
    .finish = route_finish,
};

// ---- routes without a service ----

static const struct config_choice redirect_statuses[] = {{"301", 301}, {"302", 302}, {"303", 303},
                                                         {"307", 307}, {"308", 308}, {NULL, 0}};
static const struct config_choice redirect_choices[] = {{"https", CONFIG_SCHEME_HTTPS}, {NULL, 0}};

static void redirect_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct config_redirect *redirect = target;
    host_check(reader, node, redirect->host);
    if (node != NULL && node->kind == CONFIG_NODE_SCALAR)
        redirect->status = 308;
    else if (!config_given(node, "scheme") && !config_given(node, "host") && !config_given(node, "port") &&
             !config_given(node, "path"))
        config_error_at(reader, node,
                        "a redirect to where the request went already: give a scheme, host, port or "
                        "path");
}

static const struct config_word redirect_words[] = {
    {.word = "status",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_redirect, status),
     .choices = redirect_statuses,
     .fallback = "302",
     .help = "301 and 308 are kept by browsers; 307 and 308 keep the method"},
    {.word = "scheme",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_redirect, scheme),
     .choices = scheme_choices,
     .help = "http or https; without it the request's"},
    {.word = "host",
     .kind = CONFIG_KIND_HOST,
     CONFIG_AT(struct config_redirect, host),
     .help = "without it the request's"},
    {.word = "port",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_redirect, port),
     .min = 1,
     .max = 65535,
     .help = "without it none where scheme or host are others, else the request's"},
    {.word = "path",
     .kind = CONFIG_KIND_PATH,
     CONFIG_AT(struct config_redirect, path),
     .help = "as `path` of a rewrite; without it the request's"},
};
static const struct config_section redirect_section = {
    .title = "redirect",
    .help =
        "Sends the client elsewhere. The address always has a scheme and a host, and these come from this "
        "file or are the request's own, never from its path; the query stays. `redirect: https` is the same "
        "host and path by https, status 308, for what came by http.",
    CONFIG_WORDS(redirect_words),
    .choices = redirect_choices,
    .choice_offset = offsetof(struct config_redirect, scheme),
    .choice_size = sizeof(enum config_scheme),
    .finish = redirect_finish,
};

static void answer_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    const struct config_answer *answer = target;
    bool bodiless = answer->status == 204 || answer->status == 304;
    header_names_check(reader, config_node_get(node, "headers"), answer->headers, answer->header_count);
    if (bodiless && answer->body[0] != '\0')
        config_error_at(reader, config_place(node, "body"), "an answer with status %u has no body",
                        answer->status);
}

static const struct config_word answer_words[] = {
    {.word = "status",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_answer, status),
     .min = 200,
     .max = 599,
     .required = true,
     .help = "200 to 599"},
    {.word = "headers",
     .kind = CONFIG_KIND_MAP,
     CONFIG_ITEMS(struct config_answer, headers, header_count),
     .max = CONFIG_EDITS_MAX,
     .section = &header_value_section,
     .help = "headers, by name; without Content-Type it is text/plain in UTF-8"},
    {.word = "body",
     .kind = CONFIG_KIND_BODY,
     CONFIG_AT(struct config_answer, body),
     .help = "at most 4096 bytes, as written"},
};
static const struct config_section answer_section = {
    .title = "answer",
    .help = "A fixed answer. `answer: 404` is short for `answer: {status: 404}`.",
    CONFIG_WORDS(answer_words),
    .shorthand = "status",
    .finish = answer_finish,
};

// A redirect that changes nothing but the scheme is for what came by the other one.
static void own_scheme(struct config_reader *reader, const struct config_node *node,
                       struct config_own_route *own)
{
    const struct config_redirect *to = &own->redirect;
    if (to->scheme == CONFIG_SCHEME_ANY || to->host[0] != '\0' || to->port != 0 || to->path[0] != '\0')
        return;
    if (own->route.scheme == to->scheme)
        config_error_at(reader, config_place(node, "redirect"),
                        "it sends what came by this scheme to the same place: in circles");
    own->route.scheme = to->scheme == CONFIG_SCHEME_HTTPS ? CONFIG_SCHEME_HTTP : CONFIG_SCHEME_HTTPS;
}

static void own_route_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct config_own_route *own = target;
    struct http_captures known;
    bool redirect = config_given(node, "redirect");
    own->route.position = config_position_of(reader, node);
    if (redirect == config_given(node, "answer"))
        config_error_at(reader, node, "a route without a service has either a 'redirect' or an 'answer'");
    if (!redirect)
        return;
    template_names(&own->route, &known);
    text_check(reader, config_node_get(config_node_get(node, "redirect"), "path"), own->redirect.path,
               &known);
    own_scheme(reader, node, own);
}

static const struct config_word own_route_words[] = {
    MATCH_WORDS,
    {.word = "redirect",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_own_route, redirect),
     .section = &redirect_section,
     .optional = true,
     .help = "where the client is sent"},
    {.word = "answer",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_own_route, answer),
     .section = &answer_section,
     .optional = true,
     .help = "a fixed answer"},
};
const struct config_section config_own_route_section = {
    .title = "route without a service",
    .help =
        "Requests that the proxy answers by itself. They stand in the same order as the routes of services, "
        "and before these where all else is equal.",
    CONFIG_WORDS(own_route_words),
    .finish = own_route_finish,
};

// ---- twice the same ----

static bool condition_in(const struct config_condition *one, const struct config_condition *all,
                         uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(one->name, all[i].name) == 0 && one->kind == all[i].kind &&
            strcmp(one->value, all[i].value) == 0)
            return true;
    return false;
}

static bool conditions_same(const struct config_condition *a, uint32_t count,
                            const struct config_condition *b, uint32_t other)
{
    for (uint32_t i = 0; i < count && count == other; i++)
        if (!condition_in(&a[i], b, other))
            return false;
    return count == other;
}

static bool methods_same(const struct config_route *a, const struct config_route *b)
{
    for (uint32_t i = 0; i < a->method_count && a->method_count == b->method_count; i++) {
        bool found = false;
        for (uint32_t j = 0; j < b->method_count; j++)
            found |= strcmp(a->methods[i], b->methods[j]) == 0;
        if (!found)
            return false;
    }
    return a->method_count == b->method_count;
}

static bool route_same(const struct config_route *a, const struct config_route *b)
{
    return strcmp(a->host, b->host) == 0 && strcmp(a->path.text, b->path.text) == 0 &&
           a->path.kind == b->path.kind && a->scheme == b->scheme && methods_same(a, b) &&
           conditions_same(a->headers, a->header_count, b->headers, b->header_count) &&
           conditions_same(a->query, a->query_count, b->query, b->query_count);
}

// Every route of the file by a number, in the order of the table: first those without a service.
struct numbered {
    const struct config_route *route;
    const struct config_service *service; // NULL: none
    const struct config_node *node;
};

static struct numbered next_of(const struct config *config, const struct config_node *root, uint32_t number)
{
    const struct config_node *list = config_node_get(root, "routes");
    const struct config_entry *entry =
        config_node_get(root, "services") != NULL ? config_node_get(root, "services")->first : NULL;
    struct numbered it = {.service = NULL};
    if (number < config->route_count) {
        it.route = &config->routes[number].route;
    } else {
        number -= config->route_count;
        it.service = config->services;
        for (; number >= it.service->route_count; it.service++, entry = entry->next)
            number -= it.service->route_count;
        it.route = &it.service->routes[number];
        list = config_node_get(entry->value, "routes");
        it.node = entry->value;
    }
    if (list == NULL)
        return it;
    for (entry = list->first; number > 0; number--)
        entry = entry->next;
    it.node = entry->value;
    return it;
}

static void tell_twice(struct config_reader *reader, const struct numbered *it, const struct numbered *before)
{
    config_error_at(reader, it->node, "host '%s' and path '%s' belong to %s%s%s already",
                    it->route->host[0] == '\0' ? "*" : config_show(slice_of(it->route->host)).text,
                    config_show(slice_of(it->route->path.text)).text,
                    before->service != NULL ? "service '" : "a route without a service",
                    before->service != NULL ? before->service->name : "", before->service != NULL ? "'" : "");
}

void config_routes_check(struct config_reader *reader, const struct config_node *root)
{
    const struct config *config = reader->config;
    uint32_t count = config->route_count;
    for (uint32_t i = 0; i < config->service_count; i++)
        count += config->services[i].route_count;
    struct numbered *all = config_arena_alloc(&reader->arena, (count + 1) * sizeof *all);
    if (all == NULL) {
        reader->no_memory = true;
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        all[i] = next_of(config, root, i);
        for (uint32_t j = 0; j < i; j++) {
            if (!route_same(all[i].route, all[j].route))
                continue;
            tell_twice(reader, &all[i], &all[j]);
            break;
        }
    }
}
