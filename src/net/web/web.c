// SPDX-License-Identifier: Apache-2.0
// The server's life: listening, connections, their timers and ends, streams. One timer per connection; it is
// not moved at each request but looks, when it fires, whether its deadline has moved.
#include <string.h>

#include "base/heap.h"
#include "net/web/web_private.h"

// ---- ends ----

void web_deadline_set(struct web_connection *c, uint64_t ms)
{
    c->deadline_us = io_loop_now_us(c->web->loop) + ms * 1000;
    if (!io_timer_is_set(&c->timer) || c->timer.deadline_us > c->deadline_us)
        io_timer_set(c->web->loop, &c->timer, c->deadline_us);
}

static void leave_stream(struct web_connection *c)
{
    if (c->state == WEB_STREAM)
        c->web->stats.streams--;
}

void web_connection_close(struct web_connection *c)
{
    struct web *web = c->web;
    if (c->state == WEB_CLOSING)
        return;
    leave_stream(c);
    c->state = WEB_CLOSING;
    io_timer_clear(web->loop, &c->timer);
    web_input_drop(c);
    io_buf_put(c->out);
    c->out = NULL;
    web->memory -= c->counted;
    c->counted = 0;
    io_stream_close(&c->stream);
}

void web_connection_finish(struct web_connection *c)
{
    if (c->state == WEB_CLOSING || c->state == WEB_FINISHING)
        return;
    leave_stream(c);
    c->state = WEB_FINISHING;
    web_input_drop(c);
    web_out_flush(c, true);
    bool waits = web_unsent(c) > 0;
    if (!waits && c->peer_ended) {
        web_connection_close(c);
        return;
    }
    web_unsent_count(c);
    io_stream_finish(&c->stream);
    web_deadline_set(c, waits ? c->web->limits.idle_ms : WEB_LINGER_MS);
    if (c->stalled) {
        c->stalled = false;
        io_stream_resume(&c->stream);
    }
}

// A peer that still takes what we send is slow, not gone.
static bool takes_answers(struct web_connection *c)
{
    uint64_t taken = c->written - io_stream_pending(&c->stream);
    bool takes = web_unsent(c) > 0 && taken > c->taken_seen;
    c->taken_seen = taken;
    return takes;
}

static void on_timer(struct io_timer *timer)
{
    struct web_connection *c = CONTAINER_OF(timer, struct web_connection, timer);
    struct web *web = c->web;
    if (io_loop_now_us(web->loop) < c->deadline_us)
        io_timer_set(web->loop, timer, c->deadline_us);
    else if (takes_answers(c))
        web_deadline_set(c, web->limits.idle_ms);
    else if (c->state == WEB_REQUEST && web_unsent(c) == 0)
        web_refuse(c, 408, "the request took too long\n");
    else
        web_connection_close(c);
}

// ---- the stream's events ----

static void on_open(struct io_stream *stream, enum status status)
{
    (void)stream;
    (void)status;
}

static void on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct web_connection *c = CONTAINER_OF(stream, struct web_connection, stream);
    if (LIKELY(c->state == WEB_IDLE || c->state == WEB_REQUEST))
        web_take(c, buf);
    else
        io_buf_put(buf);
}

static void on_drain(struct io_stream *stream)
{
    struct web_connection *c = CONTAINER_OF(stream, struct web_connection, stream);
    if (c->state == WEB_CLOSING)
        return;
    web_out_flush(c, false);
    web_unsent_count(c);
    if (c->state == WEB_FINISHING) {
        if (c->peer_ended)
            web_connection_close(c);
        else
            web_deadline_set(c, WEB_LINGER_MS);
    } else if (c->stalled) {
        c->stalled = false;
        io_stream_resume(stream);
        web_consume(c);
    }
}

// An orderly end while answers are under way is a client that has asked all it wanted.
static void on_end(struct io_stream *stream, enum status status)
{
    struct web_connection *c = CONTAINER_OF(stream, struct web_connection, stream);
    c->peer_ended = true;
    if (status != STATUS_CLOSED || c->state == WEB_STREAM || web_unsent(c) == 0)
        web_connection_close(c);
    else
        web_connection_finish(c);
}

static void on_closed(struct io_stream *stream)
{
    struct web_connection *c = CONTAINER_OF(stream, struct web_connection, stream);
    struct web *web = c->web;
    list_remove(&c->link);
    web->stats.connections--;
    web->turned_away -= c->turned_away;
    if (c->opened && web->handler.closed != NULL)
        web->handler.closed(web->handler.context, c, c->subject);
    heap_free(c);
}

static const struct io_stream_ops STREAM_OPS = {
    .on_open = on_open, .on_data = on_data, .on_drain = on_drain, .on_end = on_end, .on_closed = on_closed};

// ---- accepting ----

// "10.0.0.1:80", "[::1]:80", "unix:...": what stands before the port.
static struct slice host_of(const char *from)
{
    const char *colon = strrchr(from, ':');
    if (colon == NULL || strncmp(from, "unix:", 5) == 0)
        return slice_of(from);
    if (from[0] == '[' && colon - from > 2)
        return (struct slice){from + 1, (size_t)(colon - from) - 2};
    return (struct slice){from, (size_t)(colon - from)};
}

static bool is_crowded(const struct web *web)
{
    return web->stats.connections - web->turned_away >= web->limits.connections;
}

static void on_accept(struct io_listener *listener, int handle, const struct io_addr *peer)
{
    struct web *web = CONTAINER_OF(listener, struct web, listener);
    bool crowded = is_crowded(web);
    bool silent = crowded && web->turned_away >= WEB_TURNED_AWAY_MAX;
    struct web_connection *c = silent ? NULL : heap_alloc(1, sizeof *c);
    if (c == NULL) {
        web->stats.refused++;
        io_handle_close(web->loop, handle);
        return;
    }
    c->web = web;
    c->turned_away = crowded;
    web->turned_away += crowded;
    web->stats.connections++;
    io_addr_format(peer, c->from);
    c->from_host = host_of(c->from);
    io_timer_init(&c->timer, on_timer);
    list_push_back(&web->connections, &c->link);
    io_stream_adopt(web->loop, &c->stream, handle, &STREAM_OPS);
    if (UNLIKELY(crowded))
        web_refuse(c, 503, "too many connections\n");
    else
        web_deadline_set(c, web->limits.idle_ms);
}

// ---- streams ----

bool web_stream_send(struct web_connection *c, struct slice bytes)
{
    if (c->state != WEB_STREAM || !web_out_add(c, bytes))
        return false;
    if (web_unsent(c) > c->web->limits.pending_bytes) {
        web_connection_close(c);
        return false;
    }
    web_out_flush(c, false);
    web_unsent_count(c);
    // Each within its own limit, all together could still take any amount: beyond theirs, who is behind goes.
    if (c->web->memory > c->web->limits.memory_bytes && web_unsent(c) > WEB_UNSENT_BYTES_MAX) {
        web_connection_close(c);
        return false;
    }
    return true;
}

void web_stream_end(struct web_connection *c)
{
    if (c->state == WEB_STREAM)
        web_connection_finish(c);
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

enum status web_create(struct io_loop *loop, const struct io_addr *addr, bool reuse_port,
                       const struct web_handler *handler, const struct web_limits *limits, struct web **out)
{
    struct web *web = heap_alloc(1, sizeof *web);
    if (web == NULL)
        return STATUS_NO_MEMORY;
    web->loop = loop;
    web->handler = *handler;
    if (limits != NULL)
        web->limits = *limits;
    limits_fill(&web->limits);
    list_init(&web->connections);
    web->listener.on_accept = on_accept;
    enum status status = io_listener_open(loop, &web->listener, addr, reuse_port);
    if (status != STATUS_OK) {
        heap_free(web);
        return status;
    }
    web->listening = true;
    *out = web;
    return STATUS_OK;
}

void web_addr(const struct web *web, struct io_addr *addr)
{
    io_listener_addr(&web->listener, addr);
}

void web_close(struct web *web)
{
    if (!web->listening)
        return;
    web->listening = false;
    io_listener_close(&web->listener);
    for (struct list *node = web->connections.next; node != &web->connections; node = node->next)
        web_connection_close(CONTAINER_OF(node, struct web_connection, link));
}

bool web_closed(const struct web *web)
{
    return !web->listening && web->stats.connections == 0;
}

void web_destroy(struct web *web)
{
    CHECK(web_closed(web));
    CHECK(web->memory == 0);
    heap_free(web);
}

void web_stats_get(const struct web *web, struct web_stats *stats)
{
    *stats = web->stats;
}
