// SPDX-License-Identifier: Apache-2.0
// The engine of HTTP/1: heads are parsed where they were received, requests are told strictly in order, and a
// connection that waits holds no buffer.
#include "net/server/http2_private.h"

// ---- bodies ----

static void tell_ended(struct connection *c)
{
    struct http_fields storage;
    struct http_fields *trailers = server_frame_trailers(&c->body, &storage);
    c->stream.server->handler->ended(&c->stream, trailers);
}

static void tell_flush(struct connection *c)
{
    const struct server_handler *handler = c->stream.server->handler;
    if (c->active && handler->flush != NULL)
        handler->flush(&c->stream);
}

// Body bytes; what follows the request is held. Takes buf, which is linked to no other.
static void take_body(struct connection *c, struct io_buf *buf)
{
    while (buf != NULL && c->active && !c->request_done) {
        size_t used = 0;
        struct slice run = {NULL, 0};
        enum status status =
            http1_body_next(&c->body, (char *)buf->data + buf->start, io_buf_len(buf), &used, &run);
        if (UNLIKELY(status != STATUS_OK && status != STATUS_AGAIN)) {
            io_buf_put(buf);
            enum http1_reject why = (enum http1_reject)c->body.reject;
            connection_refuse(c, SERVER_REFUSAL_BODY, http1_reject_status(why), http1_reject_text(why));
            return;
        }
        c->request_done = c->body.done;
        if (run.len > 0)
            c->stream.server->handler->data(&c->stream, run, &buf);
        if (buf != NULL)
            buf = io_held_skip(buf, (uint32_t)used);
    }
    if (c->state != CONNECTION_OPEN) {
        io_buf_put(buf);
        return;
    }
    c->held = buf;
    if (buf != NULL && c->active)
        connection_pause(c);
    if (c->active && c->request_done)
        tell_ended(c);
}

// Buffers that were received with a head, before anybody asked for them.
static void take_held(struct connection *c, struct io_buf *held)
{
    while (held != NULL) {
        struct io_buf *next = held->next;
        held->next = NULL;
        if (c->state != CONNECTION_OPEN)
            io_buf_put(held);
        else if (c->request_done)
            c->held = io_held_join(c->held, held);
        else
            take_body(c, held);
        held = next;
    }
    tell_flush(c);
}

// ---- heads ----

// A request whose head is the first head_len bytes of what is held. The head's buffer stays until it was
// told.
static void begin(struct connection *c, uint32_t head_len)
{
    struct server *server = c->stream.server;
    struct http_request *request = &server->request;
    struct io_buf *held = c->held;
    if (!c->head_started)
        c->stream.begun_us = connection_now_us(c);
    c->head_started = false;
    bool whole = request->framing == HTTP_FRAMING_NONE;
    if (!whole) {
        if (server_frame_begin(&c->body, &c->trailers, server->loop, (enum http_framing)request->framing,
                               request->content_length, &server->http1) != STATUS_OK) {
            connection_refuse(c, SERVER_REFUSAL_STARVED, 503, "out of buffers");
            return;
        }
        whole = c->body.done;
    }
    c->held = NULL;
    c->stream.subject = NULL;
    c->active = true;
    c->due_us = UINT64_MAX;
    c->settled = true;
    c->keep = request->keep_alive;
    c->http10 = request->version_minor == 0;
    c->chunked = false;
    c->tunnel = false;
    c->request_done = whole;
    c->stream.at_hand = io_buf_len(held) - head_len;
    // While it waited for its turn the connection was paused, and the rest of its body has yet to come.
    if (!whole)
        connection_resume(c);
    server->handler->request(&c->stream, request);
    held = io_held_skip(held, head_len);
    if (LIKELY(whole && c->state == CONNECTION_OPEN))
        c->held = held;
    else
        take_held(c, held);
}

// The first line of HTTP/2, which no parser of HTTP/1 takes (RFC 9113, 3.4), before any request.
static bool begins_http2(const struct connection *c)
{
    static const char PREFACE[] = "PRI * HTTP/2.0\r\n\r\n";
    const struct io_buf *held = c->held;
    return !c->settled && io_buf_len(held) >= sizeof PREFACE - 1 &&
           memcmp(held->data + held->start, PREFACE, sizeof PREFACE - 1) == 0 && connection_may_http2(c);
}

// One head from what is held. False when there is nothing more to do for now.
static bool step(struct connection *c)
{
    struct server *server = c->stream.server;
    size_t head_len;
    enum http1_reject why;
    enum status status;
    do {
        struct io_buf *buf = c->held;
        status = http1_request_parse((char *)buf->data + buf->start, io_buf_len(buf), &server->http1,
                                     &server->request, &head_len, &why);
    } while (status == STATUS_AGAIN && io_held_pull(c->held));
    if (LIKELY(status == STATUS_OK)) {
        begin(c, (uint32_t)head_len);
        return true;
    }
    if (status != STATUS_AGAIN && begins_http2(c)) {
        http2_take_over(c);
        return false;
    }
    if (status != STATUS_AGAIN) {
        connection_refuse(c, SERVER_REFUSAL_MALFORMED, http1_reject_status(why), http1_reject_text(why));
        return false;
    }
    if (c->head_started)
        return false;
    c->head_started = true;
    c->stream.begun_us = connection_now_us(c);
    connection_due(c, c->stream.begun_us + server->limits.head_us);
    return false;
}

// The same, but as long as the last request of any connection took, nobody's is taken up.
static bool rest_or_step(struct connection *c)
{
    struct server *server = c->stream.server;
    uint64_t began_us = io_loop_clock_us(c->io.loop);
    if (began_us < server->rested_us) {
        c->rests = true;
        connection_due(c, server->rested_us);
        return false;
    }
    bool more = step(c);
    uint64_t now_us = io_loop_clock_us(c->io.loop);
    server->rested_us = now_us + (now_us - began_us) + 1; // in the same turn at least
    return more;
}

static void go_on(struct connection *c)
{
    bool rests = c->stream.server->limits.rests;
    while (c->state == CONNECTION_OPEN && !c->active && c->held != NULL && !c->rests &&
           connection_unsent(c) <= SERVER_UNSENT_HIGH)
        if (!(rests ? rest_or_step(c) : step(c)))
            break;
    if (c->state != CONNECTION_OPEN || c->active || c->http2 != NULL)
        return;
    if (c->held != NULL && (c->rests || !c->head_started))
        connection_pause(c); // it is not its turn, or the client must first take what it asked for
    else if (UNLIKELY(c->stream.half_closed))
        connection_linger(c); // nothing more will come, and what is held is no whole head
    else
        connection_resume(c);
}

void connection_leave(struct connection *c)
{
    if (c->held != NULL || c->stream.paused || c->stream.half_closed)
        go_on(c);
    c->busy = false;
    connection_flush_some(c);
}

// ---- the connection's events ----

static struct connection *connection_of_io(struct io_stream *stream)
{
    return CONTAINER_OF(stream, struct connection, io);
}

// A handshake is over: what was agreed in it holds (RFC 9113, 3.2).
static void on_open(struct io_stream *stream, enum status status)
{
    struct connection *c = connection_of_io(stream);
    if (status != STATUS_OK || c->state != CONNECTION_OPEN)
        return;
    if (!connection_may_http2(c))
        c->settled = true;
    else if (!http2_begin(c))
        connection_close(c, true);
}

static void on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct connection *c = connection_of_io(stream);
    const struct server_handler *handler = c->stream.server->handler;
    buf->next = NULL;
    if (UNLIKELY(c->state != CONNECTION_OPEN)) {
        connection_drop(c, buf);
        return;
    }
    if (UNLIKELY(c->untold)) {
        connection_hear(c, buf);
        return;
    }
    c->busy = true;
    if (!c->active) {
        c->held = io_held_join(c->held, buf);
    } else if (c->tunnel) {
        struct slice run = {(char *)buf->data + buf->start, io_buf_len(buf)};
        handler->data(&c->stream, run, &buf);
        io_buf_put(buf);
    } else if (!c->request_done) {
        take_body(c, buf);
        tell_flush(c);
    } else {
        c->held = io_held_join(c->held, buf);
        connection_pause(c); // a pipelined request waits for the answer before it
    }
    connection_leave(c);
}

static void on_end(struct io_stream *stream, enum status status)
{
    struct connection *c = connection_of_io(stream);
    const struct server_handler *handler = c->stream.server->handler;
    if (status == STATUS_CLOSED)
        c->stream.half_closed = true;
    if (c->state == CONNECTION_CLOSED)
        return;
    c->busy = true;
    // A client that has sent its whole request may end its side and still wait for the answer.
    if (c->active && (status != STATUS_CLOSED || !c->request_done))
        connection_gone(c);
    else if (c->active && handler->half_closed != NULL)
        handler->half_closed(&c->stream);
    else if (!c->active && (status != STATUS_CLOSED || connection_unsent(c) == 0))
        connection_close(c, false);
    connection_leave(c);
}

static void on_drain(struct io_stream *stream)
{
    struct connection *c = connection_of_io(stream);
    const struct server_handler *handler = c->stream.server->handler;
    c->busy = true;
    connection_flush_some(c);
    if (c->active && handler->drained != NULL)
        handler->drained(&c->stream);
    else
        connection_linger_drained(c);
    connection_leave(c);
}

static void on_closed(struct io_stream *stream)
{
    connection_free(connection_of_io(stream));
}

const struct io_stream_ops CONNECTION_OPS = {
    .on_open = on_open, .on_data = on_data, .on_end = on_end, .on_drain = on_drain, .on_closed = on_closed};
