// SPDX-License-Identifier: Apache-2.0
// What clients ask: the proxy as a handler of the server. Requests get their route here, and the answers that
// need no origin; all else is the exchange's.
#include <stdio.h>

#include "net/proxy/proxy_private.h"

static struct worker *worker_of(const struct server_stream *stream)
{
    return CONTAINER_OF(stream->server, struct worker, server);
}

// ---- answers of our own ----

bool client_answer_made(struct server_stream *stream, const struct http_answer *answer)
{
    struct worker *worker = worker_of(stream);
    unsigned status = answer->status;
    if (UNLIKELY(server_answer(stream, answer) != STATUS_OK)) {
        worker_count(worker, PROXY_WORKER_ABORTED);
        return false;
    }
    worker_count(worker, PROXY_WORKER_ANSWERED);
    worker_count(worker, PROXY_WORKER_LOCAL);
    if (status >= 500)
        worker_count(worker, PROXY_WORKER_LOCAL_5XX);
    if (status == 502)
        worker_count(worker, PROXY_WORKER_BAD_GATEWAY);
    if (status == 503)
        worker_count(worker, PROXY_WORKER_UNAVAILABLE);
    if (status == 504)
        worker_count(worker, PROXY_WORKER_GATEWAY_TIMEOUT);
    return true;
}

// "404 no route" as an answer; storage for its text.
static struct http_answer local(unsigned status, const char *why, struct text *text)
{
    text_addf(text, "%u %s\n", status, why);
    return (struct http_answer){.status = status, .body = text_slice(text)};
}

enum { LOCAL_BYTES = 160 };

bool client_answer(struct server_stream *stream, unsigned status, const char *why, bool head_only, bool close,
                   uint32_t retry_s)
{
    char body[LOCAL_BYTES], seconds[12];
    struct text text = text_over(body, sizeof body);
    struct http_answer answer = local(status, why, &text);
    snprintf(seconds, sizeof seconds, "%u", retry_s);
    const struct http_field retry = {.name = SLICE("Retry-After"), .value = slice_of(seconds)};
    answer.close = close;
    answer.head_only = head_only;
    answer.add = &retry;
    answer.add_count = retry_s > 0;
    return client_answer_made(stream, &answer);
}

// One of a crowd, which asked for nothing: not counted.
static void turn_back(struct server_stream *stream, unsigned status, const char *why)
{
    char body[LOCAL_BYTES];
    struct text text = text_over(body, sizeof body);
    struct http_answer answer = local(status, why, &text);
    answer.close = true;
    (void)server_answer(stream, &answer);
}

static const struct event_where NOWHERE = {PROXY_SLOT_NONE, PROXY_SLOT_NONE, PROXY_SLOT_NONE};

// Answers what is no request that could be read.
static void answer_unread(struct server_stream *stream, enum proxy_event_kind kind, unsigned status,
                          const char *why)
{
    static const struct asked UNREAD = {.method = {"", 0}};
    struct worker *worker = worker_of(stream);
    worker_event(worker, kind, status, why, server_from_host(stream), NOWHERE, NULL, 0);
    if (UNLIKELY(worker->access != NULL))
        access_tell(worker, status, server_from_host(stream), &UNREAD, SLICE(""));
    client_answer(stream, status, why, false, true, 0);
}

// A well-formed request that goes nowhere.
static void turn_away(struct server_stream *stream, struct event_where where, unsigned status,
                      const char *why)
{
    struct worker *worker = worker_of(stream);
    bool head_only = worker->request->method_id == HTTP_METHOD_HEAD;
    struct asked asked = asked_of_request(worker);
    worker_event(worker, PROXY_EVENT_LOCAL, status, why, identity_client(stream), where, &asked, 0);
    if (UNLIKELY(worker->access != NULL))
        access_tell(worker, status, identity_client(stream), &asked, SLICE(""));
    client_answer(stream, status, why, head_only, false, 0);
}

// ---- the server's events ----

// It came in the clear to a listener that only sends such to https.
static bool unsafe(const struct server_stream *stream)
{
    const struct worker *worker = worker_of(stream);
    const struct proxy_table *table = worker->table;
    if ((table->https_listeners >> server_listener_number(stream) & 1) == 0)
        return false;
    return proxy_table_scheme(table, worker->request, server_is_secure(stream)) == PROXY_SCHEME_HTTP;
}

static void on_request(struct server_stream *stream, struct http_request *request)
{
    struct worker *worker = worker_of(stream);
    worker->request = request;
    worker->hops = 0;
    worker->request_id.len = 0;
    worker_count(worker, PROXY_WORKER_RECEIVED);
    if (UNLIKELY(request->http2))
        worker_count(worker, PROXY_WORKER_HTTP2_REQUESTS);
    if (UNLIKELY(worker->table == NULL)) {
        turn_away(stream, NOWHERE, 503, "no routing table yet");
        return;
    }
    worker->hops = worker->table->trusted_hops;
    const char *untold = UNLIKELY(worker->table->identity) ? identity_settle(stream, request) : NULL;
    if (UNLIKELY(untold != NULL)) {
        worker_count(worker, PROXY_WORKER_REJECTED);
        turn_away(stream, NOWHERE, 431, untold);
        return;
    }
    const struct proxy_route *route;
    if (LIKELY(!worker->table->written)) {
        route = proxy_table_find(worker->table, request->host, request->path);
    } else if (unsafe(stream)) {
        action_redirect_https(stream);
        return;
    } else {
        route = proxy_table_find_written(worker->table, request, server_is_secure(stream));
    }
    if (UNLIKELY(route == NULL)) {
        worker_count(worker, PROXY_WORKER_UNROUTED);
        turn_away(stream, NOWHERE, 404, "no route");
        return;
    }
    worker->route = route;
    const struct proxy_service *service = route->service;
    if (UNLIKELY(service == NULL)) {
        action_answer(stream, route);
        return;
    }
    if (UNLIKELY(request->framing == HTTP_FRAMING_LENGTH &&
                 request->content_length > body_bytes_max(service, route->action))) {
        worker_count(worker, PROXY_WORKER_REJECTED);
        struct event_where where = {service->slot, PROXY_SLOT_NONE, PROXY_SLOT_NONE};
        turn_away(stream, where, 413, "request body too large");
        return;
    }
    exchange_begin(stream, service);
}

static void on_data(struct server_stream *stream, struct slice run, struct io_buf **buf)
{
    exchange_request_data(stream->subject, run, buf);
}

static void on_ended(struct server_stream *stream, struct http_fields *trailers)
{
    exchange_request_ended(stream->subject, trailers);
}

static void on_flush(struct server_stream *stream)
{
    exchange_request_flush(stream->subject);
}

static void on_half_closed(struct server_stream *stream)
{
    struct exchange *exchange = stream->subject;
    if (exchange->tunnel)
        tunnel_client_ended(exchange);
}

static void on_drained(struct server_stream *stream)
{
    exchange_client_drained(stream->subject);
}

static void on_due(struct server_stream *stream)
{
    exchange_on_due(stream->subject);
}

static void on_gone(struct server_stream *stream)
{
    exchange_client_gone(stream->subject);
}

// A request that cannot be framed.
static void reject(struct server_stream *stream, unsigned status, const char *why)
{
    struct worker *worker = worker_of(stream);
    worker_count(worker, PROXY_WORKER_RECEIVED);
    worker_count(worker, PROXY_WORKER_REJECTED);
    answer_unread(stream, PROXY_EVENT_REJECTED, status, why);
}

static void on_refused(struct server_stream *stream, enum server_refusal refusal, unsigned status,
                       const char *why)
{
    struct worker *worker = worker_of(stream);
    switch (refusal) {
    case SERVER_REFUSAL_CROWDED: // counted as refused: there was no request
        turn_back(stream, status, why);
        return;
    case SERVER_REFUSAL_BODY:
        exchange_request_refused(stream->subject, status, why);
        return;
    case SERVER_REFUSAL_STARVED:
        worker_count(worker, PROXY_WORKER_RECEIVED);
        answer_unread(stream, PROXY_EVENT_LOCAL, status, why);
        return;
    case SERVER_REFUSAL_LATE:
        worker_count(worker, PROXY_WORKER_HEAD_TIMEOUTS);
        reject(stream, status, why);
        return;
    case SERVER_REFUSAL_MALFORMED:
        reject(stream, status, why);
        return;
    case SERVER_REFUSAL_PROXY: // nobody is there who would understand an answer
        worker_count(worker, PROXY_WORKER_PROXY_HEADERS_REFUSED);
        worker_event(worker, PROXY_EVENT_REJECTED, 0, why, server_from_host(stream), NOWHERE, NULL, 0);
        return;
    }
}

static void on_note(struct server *server, enum server_note note)
{
    static const enum proxy_worker_counter counters[] = {
        [SERVER_NOTE_ACCEPTED] = PROXY_WORKER_ACCEPTED,
        [SERVER_NOTE_CROWDED] = PROXY_WORKER_REFUSED,
        [SERVER_NOTE_CLOSED] = PROXY_WORKER_CLIENTS_CLOSED,
        [SERVER_NOTE_ACCEPT_FAILED] = PROXY_WORKER_ACCEPT_FAILURES,
        [SERVER_NOTE_IDLE] = PROXY_WORKER_IDLE_CLOSED,
        [SERVER_NOTE_GAVE_WAY] = PROXY_WORKER_GAVE_WAY,
        [SERVER_NOTE_STREAM] = PROXY_WORKER_HTTP2_STREAMS_OPENED,
        [SERVER_NOTE_STREAM_CLOSED] = PROXY_WORKER_HTTP2_STREAMS_CLOSED,
        [SERVER_NOTE_RESET_BY_CLIENT] = PROXY_WORKER_HTTP2_RESETS_BY_CLIENTS,
        [SERVER_NOTE_RESET] = PROXY_WORKER_HTTP2_RESETS,
        [SERVER_NOTE_GOAWAY] = PROXY_WORKER_HTTP2_GOAWAYS,
        [SERVER_NOTE_CALMED] = PROXY_WORKER_HTTP2_CALMED,
    };
    worker_count(CONTAINER_OF(server, struct worker, server), counters[note]);
}

static bool on_proxied(struct server *server, uint32_t listener, const struct io_addr *peer)
{
    const struct proxy_table *table = CONTAINER_OF(server, struct worker, server)->table;
    if (LIKELY(table == NULL || table->header_peer_count == 0))
        return false;
    return proxy_table_header_peer(table, listener, peer);
}

// A listener that is to be secure never serves in the clear, whatever is amiss with its certificates.
static bool on_secure(struct server *server, uint32_t listener, struct io_stream *stream)
{
    const struct worker *worker = CONTAINER_OF(server, struct worker, server);
    if ((worker->proxy->listen_secure >> listener & 1) == 0)
        return true;
    const struct proxy_tls *tls = worker->table != NULL ? worker->table->tls : NULL;
    struct tls_server *secure = proxy_tls_server(tls, worker->index, listener);
    return secure != NULL && tls_accept(secure, stream) == STATUS_OK;
}

static bool on_http2(struct server *server, uint32_t listener, const struct io_stream *stream)
{
    const struct worker *worker = CONTAINER_OF(server, struct worker, server);
    struct tls_info info;
    if ((worker->proxy->listen_secure >> listener & 1) == 0)
        return worker->table == NULL || (worker->table->listen_http1 >> listener & 1) == 0;
    return tls_info_get(stream, &info) && strcmp(info.protocol, "h2") == 0;
}

const struct server_handler CLIENT_HANDLER = {.proxied = on_proxied,
                                              .secure = on_secure,
                                              .http2 = on_http2,
                                              .request = on_request,
                                              .data = on_data,
                                              .ended = on_ended,
                                              .flush = on_flush,
                                              .half_closed = on_half_closed,
                                              .drained = on_drained,
                                              .due = on_due,
                                              .gone = on_gone,
                                              .refused = on_refused,
                                              .note = on_note};
