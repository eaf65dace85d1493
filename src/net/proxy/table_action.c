// SPDX-License-Identifier: Apache-2.0
// What a route does with its requests: checked, made, and the texts that it makes of a path. An action lives
// in an allocation of its own, so that a request on its way can hold it while tables come and go.
#include <stdatomic.h>

#include "base/heap.h"
#include "net/http/http1.h"
#include "net/proxy/table_private.h"

// ---- checks ----

static bool text_fits(const char *text, size_t max)
{
    return text == NULL || strnlen(text, max) < max;
}

// What the texts of a route may name: of its path, and with `request` of the request too.
static bool names_known(const char *text, const struct proxy_route_plan *route, bool request)
{
    struct http_captures known = {.count = 0};
    size_t at;
    if (route->path_kind == PROXY_PATH_TEMPLATE)
        http_template_names(slice_of(route->path), &known);
    static const struct slice of_request[] = {{"client", 6}, {"host", 4}, {"scheme", 6}};
    for (size_t i = 0; request && i < ARRAY_LEN(of_request); i++)
        known.items[known.count++].name = of_request[i];
    return http_text_check(slice_of(text), &known, &at) == NULL;
}

static const char *check_path(const struct proxy_route_plan *route, const char *path)
{
    if (path == NULL)
        return NULL;
    if (path[0] != '/' || !text_fits(path, PROXY_RULE_TEXT_MAX) || strpbrk(path, " \t\r\n?#") != NULL)
        return "a rewritten path is not sound";
    return names_known(path, route, false) ? NULL : "a rewritten path names what the route's path does not";
}

static const char *check_edits(const struct proxy_route_plan *route, const struct proxy_edit_plan *edits,
                               uint32_t count, bool request)
{
    if (count > PROXY_EDITS_MAX)
        return "a route has too many rules for headers";
    for (uint32_t i = 0; i < count; i++) {
        const struct proxy_edit_plan *edit = &edits[i];
        if (edit->name == NULL || !text_fits(edit->name, PROXY_RULE_TEXT_MAX) ||
            !http_token_valid(slice_of(edit->name)) || http_field_reserved(slice_of(edit->name)))
            return "a rule names a header that is no token, HTTP's or the proxy's own";
        if (edit->kind == PROXY_EDIT_REMOVE)
            continue;
        if (edit->value == NULL || !text_fits(edit->value, PROXY_RULE_TEXT_MAX) ||
            !http_value_valid(slice_of(edit->value)))
            return "a rule's value for a header is not sound";
        if (request && !names_known(edit->value, route, true))
            return "a rule's value names what is not known";
    }
    return NULL;
}

static bool redirect_status(uint16_t status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static bool host_fits(const char *host)
{
    return host == NULL || (text_fits(host, PROXY_RULE_TEXT_MAX) && http_host_valid(slice_of(host)));
}

static const char *check_own(const struct proxy_route_plan *route)
{
    const struct proxy_action_plan *plan = route->action;
    const struct proxy_redirect_plan *redirect = plan->redirect;
    const struct proxy_answer_plan *answer = plan->answer;
    if ((redirect != NULL) == (answer != NULL))
        return "a route without a service is either a redirect or an answer";
    if (redirect != NULL && (!redirect_status(redirect->status) || !host_fits(redirect->host)))
        return "a redirect's status or host is not sound";
    if (redirect != NULL)
        return check_path(route, redirect->path);
    if (answer->status < 200 || answer->status > 599 || !text_fits(answer->body, PROXY_BODY_TEXT_MAX))
        return "a fixed answer's status or body is not sound";
    return check_edits(route, answer->headers, answer->header_count, false);
}

static const char *check_compression(const struct compress_settings *settings)
{
    if (settings->codec_count > COMPRESS_CODECS_MAX || settings->type_count > COMPRESS_TYPES_MAX)
        return "a route has too many codecs or types to compress";
    for (uint32_t i = 0; i < settings->codec_count; i++)
        if (settings->codecs[i] == HTTP_CODEC_NONE || settings->codecs[i] >= HTTP_CODECS)
            return "a codec to compress with is none";
    return NULL;
}

const char *table_action_check(const struct proxy_route_plan *route)
{
    const struct proxy_action_plan *plan = route->action;
    bool own = plan != NULL && (plan->redirect != NULL || plan->answer != NULL);
    if (own != (route->service == PROXY_SERVICE_NONE))
        return "a route has a service, or else a redirect or an answer";
    if (plan == NULL)
        return NULL;
    if (!text_fits(plan->name, PROXY_NAME_BYTES) || !host_fits(plan->host))
        return "a route's name or host is not sound";
    const char *why = check_path(route, plan->path);
    if (why == NULL)
        why = check_edits(route, plan->request, plan->request_count, true);
    if (why == NULL)
        why = check_edits(route, plan->response, plan->response_count, false);
    if (why == NULL)
        why = check_compression(&plan->compression);
    return why != NULL || !own ? why : check_own(route);
}

bool table_action_written(const struct proxy_action_plan *plan)
{
    return plan != NULL &&
           (plan->name != NULL || plan->path != NULL || plan->host != NULL || plan->retry_off ||
            plan->mirror_off || plan->request_count + plan->response_count > 0 || plan->body_bytes_max > 0 ||
            plan->first_byte_ms > 0 || plan->idle_ms > 0 || plan->total_ms > 0 || plan->redirect != NULL ||
            plan->answer != NULL);
}

// ---- making ----

static size_t edits_bytes(const struct proxy_edit_plan *edits, uint32_t count)
{
    size_t bytes = table_carve_bytes(count, sizeof(struct proxy_edit));
    for (uint32_t i = 0; i < count; i++)
        bytes += table_text_bytes(edits[i].name) + table_text_bytes(edits[i].value);
    return bytes;
}

static const struct proxy_edit *make_edits(struct table_carve *from, const struct proxy_edit_plan *plan,
                                           uint32_t count)
{
    struct proxy_edit *edits = table_carve(from, count, sizeof *edits);
    for (uint32_t i = 0; i < count; i++)
        edits[i] = (struct proxy_edit){.kind = plan[i].kind,
                                       .name = table_carve_text(from, plan[i].name, false),
                                       .value = table_carve_text(from, plan[i].value, false)};
    return edits;
}

static size_t types_bytes(const struct compress_settings *settings)
{
    size_t bytes = table_carve_bytes(settings->type_count, sizeof *settings->types);
    for (uint32_t i = 0; i < settings->type_count; i++)
        bytes += table_carve_bytes(settings->types[i].len, 1);
    return bytes;
}

static struct compress_settings make_compression(struct table_carve *from,
                                                 const struct compress_settings *plan)
{
    struct compress_settings settings = *plan;
    struct slice *types = table_carve(from, plan->type_count, sizeof *types);
    for (uint32_t i = 0; i < plan->type_count; i++) {
        char *copy = table_carve(from, plan->types[i].len, 1);
        memcpy(copy, plan->types[i].data, plan->types[i].len);
        types[i] = (struct slice){copy, plan->types[i].len};
    }
    settings.types = types;
    return settings;
}

static size_t action_bytes(const struct proxy_action_plan *plan)
{
    size_t bytes = table_carve_bytes(1, sizeof(struct proxy_action)) + table_text_bytes(plan->name) +
                   table_text_bytes(plan->path) + table_text_bytes(plan->host) +
                   edits_bytes(plan->request, plan->request_count) +
                   edits_bytes(plan->response, plan->response_count) + types_bytes(&plan->compression);
    if (plan->redirect != NULL)
        bytes += table_text_bytes(plan->redirect->host) + table_text_bytes(plan->redirect->path);
    if (plan->answer != NULL)
        bytes += edits_bytes(plan->answer->headers, plan->answer->header_count) +
                 table_text_bytes(plan->answer->body);
    return bytes;
}

static void make_own(struct table_carve *from, const struct proxy_action_plan *plan,
                     struct proxy_action *action)
{
    if (plan->redirect != NULL)
        action->redirect =
            (struct proxy_redirect){.status = plan->redirect->status,
                                    .scheme = plan->redirect->scheme,
                                    .port = plan->redirect->port,
                                    .host = table_carve_text(from, plan->redirect->host, true),
                                    .path = table_carve_text(from, plan->redirect->path, false)};
    if (plan->answer == NULL)
        return;
    action->answer = plan->answer->status;
    action->headers = make_edits(from, plan->answer->headers, plan->answer->header_count);
    action->header_count = plan->answer->header_count;
    action->body = table_carve_text(from, plan->answer->body, false);
}

struct proxy_action *table_action_make(const struct proxy_action_plan *plan)
{
    size_t bytes = action_bytes(plan);
    char *block = heap_alloc_aligned((bytes + 63) & ~(size_t)63);
    if (block == NULL)
        return NULL;
    struct table_carve from = {block, block + bytes};
    struct proxy_action *action = table_carve(&from, 1, sizeof *action);
    action->holds = 1;
    action->name = table_carve_text(&from, plan->name, false);
    action->path = table_carve_text(&from, plan->path, false);
    action->host = table_carve_text(&from, plan->host, true);
    action->request = make_edits(&from, plan->request, plan->request_count);
    action->request_count = plan->request_count;
    action->response = make_edits(&from, plan->response, plan->response_count);
    action->response_count = plan->response_count;
    action->first_byte_ms = plan->first_byte_ms;
    action->idle_ms = plan->idle_ms;
    action->total_ms = plan->total_ms;
    action->retry_off = plan->retry_off;
    action->mirror_off = plan->mirror_off;
    action->body_bytes_max = plan->body_bytes_max;
    action->compression = make_compression(&from, &plan->compression);
    make_own(&from, plan, action);
    return action;
}

void proxy_action_release(struct proxy_action *action)
{
    if (action != NULL && atomic_fetch_sub_explicit(&action->holds, 1, memory_order_acq_rel) == 1)
        heap_free(action);
}

// ---- texts ----

void table_action_captures(const struct proxy_route *route, struct slice path, struct http_captures *captures)
{
    if (route->path_kind == PROXY_PATH_TEMPLATE)
        (void)http_template_match(route->path, path, captures);
}

// The prefix gives way to the text; both lose a '/' at their end, so that one stays between them.
static void add_after_prefix(struct slice prefix, struct slice path, struct slice text, struct text *out)
{
    size_t covered = http_path_covers(prefix, path);
    CHECK(covered != HTTP_PATH_NONE);
    while (text.len > 0 && text.data[text.len - 1] == '/')
        text.len--;
    text_add(out, text);
    text_add(out, (struct slice){path.data + covered, path.len - covered});
    if (text.len + path.len == covered)
        text_add_char(out, '/');
}

// route NULL, or text empty: the path as it is.
static void add_path(const struct proxy_route *route, const struct http_request *request, struct slice text,
                     struct text *out)
{
    char storage[HTTP1_START_LINE_BYTES_MAX];
    struct slice path = http_path_normal(request->path, storage);
    struct http_captures captures = {.count = 0};
    if (path.len == 0 || path.data[0] != '/' || route == NULL || text.len == 0) {
        text_add(out, path);
        return;
    }
    if (route->path_kind == PROXY_PATH_PREFIX) {
        add_after_prefix(route->path, path, text, out);
        return;
    }
    table_action_captures(route, path, &captures);
    http_text_expand(text, &captures, out);
}

static void add_query(const struct http_request *request, struct text *out)
{
    if (request->query.data == NULL)
        return;
    text_add_char(out, '?');
    text_add(out, request->query);
}

void table_action_target(const struct proxy_route *route, const struct http_request *request,
                         struct text *out)
{
    add_path(route, request, route->action != NULL ? route->action->path : SLICE(""), out);
    add_query(request, out);
}

static void add_authority(const struct proxy_redirect *redirect, const struct http_request *request,
                          bool same, struct text *out)
{
    bool port = redirect->port != 0 || (same && request->port != 0);
    text_add(out, redirect->host.len > 0 ? redirect->host : request->host);
    if (port)
        text_addf(out, ":%u", redirect->port != 0 ? redirect->port : request->port);
}

bool table_action_location(const struct proxy_redirect *redirect, const struct proxy_route *route,
                           const struct http_request *request, enum proxy_scheme scheme, struct text *out)
{
    enum proxy_scheme to = redirect->scheme != PROXY_SCHEME_ANY ? redirect->scheme : scheme;
    bool star = request->path.len == 0 || request->path.data[0] != '/';
    if (redirect->host.len == 0 && request->host.len == 0)
        return false;
    text_add(out, to == PROXY_SCHEME_HTTPS ? SLICE("https://") : SLICE("http://"));
    add_authority(redirect, request, to == scheme && redirect->host.len == 0, out);
    if (star)
        text_add_char(out, '/');
    else
        add_path(route, request, redirect->path, out);
    add_query(request, out);
    return !out->cut;
}
