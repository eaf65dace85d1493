// SPDX-License-Identifier: Apache-2.0
// What routes do to the requests under way, and the answers that they give by themselves. Nothing here is
// touched for a route that is only a host and a prefix.
#include <stdatomic.h>

#include "net/proxy/proxy_private.h"

static bool names_field(const struct proxy_edit *edits, uint32_t count, struct slice name)
{
    for (uint32_t i = 0; i < count; i++)
        if (edits[i].kind != PROXY_EDIT_ADD && http_field_alike(edits[i].name, name))
            return true;
    return false;
}

static void take_out(const struct proxy_edit *edits, uint32_t count, struct http_fields *fields)
{
    for (uint32_t i = 0; count > 0 && i < fields->count; i++)
        if (names_field(edits, count, fields->items[i].name))
            fields->items[i].marks |= HTTP_FIELD_HOP;
}

// ---- the request ----

void action_hold(struct exchange *exchange, struct proxy_action *action)
{
    atomic_fetch_add_explicit(&action->holds, 1, memory_order_relaxed);
    exchange->action = action;
    struct proxy_timeouts *timeouts = &exchange->timeouts;
    timeouts->first_byte_ms = action->first_byte_ms != 0 ? action->first_byte_ms : timeouts->first_byte_ms;
    timeouts->idle_ms = action->idle_ms != 0 ? action->idle_ms : timeouts->idle_ms;
    timeouts->total_ms = action->total_ms != 0 ? action->total_ms : timeouts->total_ms;
    if (action->compression.codec_count > 0)
        compressed_ask(exchange);
}

void action_add_fields(struct worker *worker, struct http1_forward *forward, const struct http_field *fields,
                       size_t count)
{
    if (forward->add_count == 0) {
        forward->add = fields;
        forward->add_count = count;
        return;
    }
    struct action_scratch *scratch = &worker->action;
    CHECK(forward->add == scratch->fields && forward->add_count + count <= ARRAY_LEN(scratch->fields));
    memcpy(scratch->fields + forward->add_count, fields, count * sizeof *fields);
    forward->add_count += count;
}

static void add_capture(struct http_captures *captures, struct slice name, struct slice value)
{
    captures->items[captures->count++] = (struct http_capture){name, value};
}

// What the values of a request's headers may name.
static void request_captures(struct exchange *exchange, const struct proxy_route *route,
                             struct http_captures *captures)
{
    struct worker *worker = exchange->worker;
    const struct http_request *request = worker->request;
    bool secure = server_is_secure(exchange->stream);
    enum proxy_scheme scheme = proxy_table_scheme(worker->table, request, secure);
    table_action_captures(route, http_path_normal(request->path, worker->action.path), captures);
    add_capture(captures, SLICE("client"), exchange->client);
    add_capture(captures, SLICE("host"), request->host);
    add_capture(captures, SLICE("scheme"), scheme == PROXY_SCHEME_HTTPS ? SLICE("https") : SLICE("http"));
}

static void edit_request(struct exchange *exchange, const struct proxy_route *route, struct text *text,
                         struct http1_forward *forward)
{
    struct worker *worker = exchange->worker;
    const struct proxy_action *action = route->action;
    struct http_captures captures = {.count = 0};
    struct http_field *fields = worker->action.fields;
    size_t count = 0;
    request_captures(exchange, route, &captures);
    for (uint32_t i = 0; i < action->request_count; i++) {
        const struct proxy_edit *edit = &action->request[i];
        size_t start = text->len;
        if (edit->kind == PROXY_EDIT_REMOVE)
            continue;
        http_text_expand(edit->value, &captures, text);
        fields[count++] =
            (struct http_field){.name = edit->name, .value = {text->data + start, text->len - start}};
    }
    take_out(action->request, action->request_count, &worker->request->fields);
    action_add_fields(worker, forward, fields, count);
}

enum status action_forward(struct exchange *exchange, const struct proxy_route *route,
                           struct http1_forward *forward)
{
    struct worker *worker = exchange->worker;
    const struct proxy_action *action = route->action;
    struct text text = text_over(worker->action.text, sizeof worker->action.text);
    table_action_target(route, worker->request, &text);
    if (worker->request->path.data[0] == '/')
        forward->target_replace = text_slice(&text);
    if (action == NULL)
        return text.cut ? STATUS_FULL : STATUS_OK;
    if (action->host.len > 0)
        forward->host_replace = action->host;
    if (action->request_count > 0)
        edit_request(exchange, route, &text, forward);
    return text.cut ? STATUS_FULL : STATUS_OK;
}

void action_request_trailers(const struct exchange *exchange, struct http_fields *trailers)
{
    const struct proxy_action *action = exchange->action;
    if (action != NULL && trailers != NULL)
        take_out(action->request, action->request_count, trailers);
}

// ---- the answer of a service ----

void action_response(struct exchange *exchange, struct http_response *response, struct server_added *added)
{
    const struct proxy_action *action = exchange->action;
    struct http_field *out = exchange->worker->action.fields;
    size_t count = added->field_count;
    CHECK(count <= 1);
    if (count > 0)
        out[0] = added->fields[0];
    take_out(action->response, action->response_count, &response->fields);
    for (uint32_t i = 0; i < action->response_count; i++)
        if (action->response[i].kind != PROXY_EDIT_REMOVE)
            out[count++] =
                (struct http_field){.name = action->response[i].name, .value = action->response[i].value};
    added->fields = out;
    added->field_count = count;
    if (action->compression.codec_count > 0)
        compressed_head(exchange, response, added);
}

void action_response_trailers(const struct exchange *exchange, struct http_fields *trailers)
{
    const struct proxy_action *action = exchange->action;
    if (action != NULL)
        take_out(action->response, action->response_count, trailers);
}

// ---- answers of a route itself ----

static void answer(struct server_stream *stream, struct slice name, struct http_answer *made)
{
    struct worker *worker = CONTAINER_OF(stream->server, struct worker, server);
    struct asked asked = asked_of_request(worker);
    made->head_only = worker->request->method_id == HTTP_METHOD_HEAD;
    if (UNLIKELY(worker->access != NULL))
        access_tell(worker, made->status, identity_client(stream), &asked, name);
    client_answer_made(stream, made);
}

static void redirect(struct server_stream *stream, const struct proxy_redirect *to,
                     const struct proxy_route *route)
{
    struct worker *worker = CONTAINER_OF(stream->server, struct worker, server);
    struct text location = text_over(worker->action.text, sizeof worker->action.text);
    enum proxy_scheme scheme = proxy_table_scheme(worker->table, worker->request, server_is_secure(stream));
    struct http_answer made = {.status = 400, .body = SLICE("400 a redirect needs a host\n")};
    struct http_field field = {.name = SLICE("Location")};
    if (table_action_location(to, route, worker->request, scheme, &location)) {
        field.value = text_slice(&location);
        made = (struct http_answer){.status = to->status, .add = &field, .add_count = 1};
    } else if (location.cut) {
        made = (struct http_answer){.status = 414, .body = SLICE("414 the redirect would be too long\n")};
    }
    answer(stream, route != NULL ? route->action->name : SLICE(""), &made);
}

void action_redirect_https(struct server_stream *stream)
{
    static const struct proxy_redirect https = {.status = 308, .scheme = PROXY_SCHEME_HTTPS};
    redirect(stream, &https, NULL);
}

void action_answer(struct server_stream *stream, const struct proxy_route *route)
{
    struct worker *worker = CONTAINER_OF(stream->server, struct worker, server);
    const struct proxy_action *action = route->action;
    if (action->redirect.status != 0) {
        redirect(stream, &action->redirect, route);
        return;
    }
    struct http_answer made = {.status = action->answer, .body = action->body, .add = worker->action.fields};
    for (uint32_t i = 0; i < action->header_count; i++) {
        const struct proxy_edit *edit = &action->headers[i];
        if (http_field_id_of(edit->name) == HTTP_FIELD_CONTENT_TYPE)
            made.content_type = edit->value;
        else
            worker->action.fields[made.add_count++] =
                (struct http_field){.name = edit->name, .value = edit->value};
    }
    answer(stream, action->name, &made);
}
