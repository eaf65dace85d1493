// SPDX-License-Identifier: Apache-2.0
// The module's life, and streams that stay open after their head.
#include "net/web/web.h"

#include "base/heap.h"
#include "net/web/web_private.h"

// ---- streams ----

static void tell_unborn(struct web *web, void *subject)
{
    if (web->handler.closed != NULL)
        web->handler.closed(web->handler.context, NULL, subject);
}

static void on_told(struct io_task *task)
{
    struct web_connection *c = CONTAINER_OF(task, struct web_connection, told);
    struct web *web = c->web;
    web->untold--;
    if (web->handler.closed != NULL)
        web->handler.closed(web->handler.context, c, c->subject);
    heap_free(c);
}

void web_stream_leave(struct web_connection *c)
{
    struct web *web = c->web;
    c->stream = NULL;
    list_remove(&c->link);
    web->stats.streams--;
    web->untold++;
    c->told.run = on_told;
    io_loop_post(web->loop, &c->told);
}

static struct web_connection *stream_create(struct server_stream *stream, const struct web_answer *answer)
{
    struct web *web = web_of(stream);
    struct web_connection *c = NULL;
    if (web->stats.streams >= web->limits.streams || (c = heap_alloc(1, sizeof *c)) == NULL) {
        web->stats.refused++;
        web_refuse(stream, 503, "too many streams are open\n");
        return NULL;
    }
    if (!web_answer_send(stream, answer, false, true)) {
        heap_free(c);
        return NULL;
    }
    c->web = web;
    c->stream = stream;
    c->open = true;
    c->subject = answer->subject;
    list_push_back(&web->streams, &c->link);
    web->stats.streams++;
    stream->subject = c;
    server_due(stream, UINT64_MAX); // the request's time is over; a stream has none
    return c;
}

void web_stream_begin(struct server_stream *stream, const struct web_answer *answer, bool head_only)
{
    struct web *web = web_of(stream);
    struct web_connection *c = NULL;
    if (!head_only)
        c = stream_create(stream, answer);
    else if (web_answer_send(stream, answer, true, true))
        server_end(stream);
    if (c == NULL)
        tell_unborn(web, answer->subject);
    else if (web->handler.opened != NULL)
        web->handler.opened(web->handler.context, c, answer->subject);
}

static void drop(struct web_connection *c)
{
    struct server_stream *stream = c->stream;
    web_stream_leave(c);
    server_reset(stream);
}

bool web_stream_send(struct web_connection *c, struct slice bytes)
{
    const struct web *web = c->web;
    if (c->stream == NULL)
        return false;
    if (server_data(c->stream, bytes, NULL) != STATUS_OK ||
        server_unsent(c->stream) > web->limits.pending_bytes) {
        drop(c);
        return false;
    }
    server_flush(c->stream);
    // Each within its own limit, all together could still take any amount: beyond theirs, who is behind goes.
    if (web_memory(web) > web->limits.memory_bytes && server_unsent(c->stream) > WEB_UNSENT_BYTES_MAX) {
        drop(c);
        return false;
    }
    return true;
}

void web_stream_end(struct web_connection *c)
{
    struct server_stream *stream = c->stream;
    if (stream == NULL)
        return;
    web_stream_leave(c);
    server_end(stream);
}

void web_stream_end_trailed(struct web_connection *c, struct slice trailers)
{
    struct server_stream *stream = c->stream;
    if (stream != NULL && web_trailers_send(stream, trailers) != STATUS_OK)
        drop(c);
    else
        web_stream_end(c);
}

// ---- life ----

static void limits_fill(struct web_limits *limits)
{
    static const struct web_limits DEFAULTS = {.connections = 256,
                                               .streams = 64,
                                               .body_bytes = 8192,
                                               .pending_bytes = 262144,
                                               .request_ms = 10000,
                                               .idle_ms = 60000,
                                               .memory_bytes = 64u << 20};
    limits->connections = limits->connections > 0 ? limits->connections : DEFAULTS.connections;
    limits->streams = limits->streams > 0 ? limits->streams : DEFAULTS.streams;
    limits->body_bytes = limits->body_bytes > 0 ? limits->body_bytes : DEFAULTS.body_bytes;
    limits->pending_bytes = limits->pending_bytes > 0 ? limits->pending_bytes : DEFAULTS.pending_bytes;
    limits->request_ms = limits->request_ms > 0 ? limits->request_ms : DEFAULTS.request_ms;
    limits->idle_ms = limits->idle_ms > 0 ? limits->idle_ms : DEFAULTS.idle_ms;
    limits->memory_bytes = limits->memory_bytes > 0 ? limits->memory_bytes : DEFAULTS.memory_bytes;
}

enum status web_create(struct io_loop *loop, const struct web_place *place, const struct web_handler *handler,
                       const struct web_limits *limits, struct web **out)
{
    struct web *web = heap_alloc(1, sizeof *web);
    if (web == NULL)
        return STATUS_NO_MEMORY;
    web->loop = loop;
    web->handler = *handler;
    if (limits != NULL)
        web->limits = *limits;
    limits_fill(&web->limits);
    list_init(&web->streams);
    const struct server_limits server_limits = {.rests = web->limits.rests,
                                                .connections = web->limits.connections,
                                                .head_us = (uint64_t)web->limits.request_ms * 1000,
                                                .idle_us = (uint64_t)web->limits.idle_ms * 1000};
    server_init(&web->server, &WEB_HANDLER, &server_limits, NULL);
    enum status status = place->beside != NULL
                             ? server_join(&web->server, loop, &place->beside->server)
                             : server_listen(&web->server, loop, place->addr, place->reuse_port);
    if (status != STATUS_OK) {
        heap_free(web);
        return status;
    }
    *out = web;
    return STATUS_OK;
}

void web_addr(const struct web *web, struct io_addr *addr)
{
    server_addr(&web->server, 0, addr);
}

void web_close(struct web *web)
{
    while (!list_empty(&web->streams))
        web_stream_end(CONTAINER_OF(web->streams.next, struct web_connection, link));
    server_close(&web->server);
}

bool web_closed(const struct web *web)
{
    return server_closed(&web->server) && web->untold == 0;
}

void web_destroy(struct web *web)
{
    CHECK(web_closed(web));
    CHECK(web->memory == 0);
    server_deinit(&web->server);
    heap_free(web);
}

void web_stats_get(const struct web *web, struct web_stats *stats)
{
    *stats = web->stats;
    stats->connections = web->server.open + web->server.turned_away;
}
