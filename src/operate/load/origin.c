// SPDX-License-Identifier: Apache-2.0
// The small origin: one request at a time per connection, answered from a timer. A connection holds a buffer
// only while a request is incomplete. Never blocks, and holds at most LOAD_ORIGIN_CONNECTIONS_MAX
// connections.
#include "operate/load/origin.h"

#include <math.h>
#include <stddef.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/rng.h"
#include "net/http/http1.h"
#include "net/http/http1_write.h"

enum { REQUEST_ID_BYTES = 64 };

struct connection {
    struct io_stream stream;
    struct io_timer timer;
    struct load_origin *origin;
    struct list link;
    struct io_buf *held; // bytes of an incomplete head, or of the next request
    struct http1_body body;
    char request_id[REQUEST_ID_BYTES]; // X-Request-Id to send back; empty: none, or too long
    uint32_t request_id_len;
    bool in_body;
    bool waiting; // an answer is due at the timer
    bool fail;    // that answer will be a 500
    bool keep_alive;
    bool head_only;
    bool closing;
};

struct load_origin {
    struct io_loop *loop;
    struct io_listener listener;
    struct load_origin_options options;
    struct load_origin_counts counts;
    struct rng rng;
    struct list connections;
    uint32_t open;
    bool listening;
    struct http1_request request; // scratch
};

static void consume(struct connection *c);

static void close_connection(struct connection *c)
{
    if (c->closing)
        return;
    c->closing = true;
    io_timer_clear(c->origin->loop, &c->timer);
    io_buf_put(c->held);
    c->held = NULL;
    io_stream_close(&c->stream);
}

// ---- what to answer ----

// Standard normal by Box and Muller; the second number of the pair is not used.
static double draw_normal(struct rng *rng)
{
    double u = 1.0 - rng_double(rng);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * rng_double(rng));
}

static uint64_t draw_delay_us(struct load_origin *origin)
{
    const struct load_origin_options *o = &origin->options;
    if (o->latency_us == 0)
        return 0;
    double delay = (double)o->latency_us * exp(o->latency_sigma * draw_normal(&origin->rng));
    if (rng_double(&origin->rng) < o->tail_share)
        delay *= o->tail_factor;
    return (uint64_t)fmin(delay, 60e6);
}

static void send_answer(struct connection *c)
{
    static const char FILL[LOAD_ORIGIN_BODY_BYTES_MAX] = {0};
    struct load_origin *origin = c->origin;
    struct io_buf *buf = io_buf_get(origin->loop);
    if (buf == NULL) {
        close_connection(c);
        return;
    }
    struct http_field fields[] = {
        {.name = SLICE("X-Version"), .value = slice_of(origin->options.version)},
        {.name = SLICE("X-Request-Id"), .value = {c->request_id, c->request_id_len}},
    };
    struct http1_local local = {
        .status = c->fail ? 500 : 200,
        .body = c->fail ? SLICE("it broke\n") : (struct slice){FILL, origin->options.body_bytes},
        .add = fields,
        .add_count = c->request_id_len > 0 ? 2 : 1,
        .close = !c->keep_alive,
        .head_only = c->head_only,
    };
    struct http1_writer writer = http1_writer_over((char *)buf->data, IO_BUF_BYTES);
    enum status status = http1_write_local(&writer, &local);
    CHECK(status == STATUS_OK);
    origin->counts.answers++;
    origin->counts.errors += c->fail;
    buf->end = (uint32_t)writer.len;
    if (origin->options.behaviour == LOAD_ORIGIN_CUTS) {
        buf->end -= buf->end > 1 ? buf->end / 4 : 0;
        io_stream_send(&c->stream, buf);
        io_stream_finish(&c->stream);
        return;
    }
    io_stream_send(&c->stream, buf);
    if (!c->keep_alive)
        io_stream_finish(&c->stream);
}

static void send_garbage(struct connection *c)
{
    static const char BYTES[] = "\x16\x03\x01\x02 what did you expect\r\n\r\n";
    struct io_buf *buf = io_buf_get(c->origin->loop);
    if (buf != NULL) {
        memcpy(buf->data, BYTES, sizeof BYTES - 1);
        buf->end = sizeof BYTES - 1;
        io_stream_send(&c->stream, buf);
        io_stream_finish(&c->stream);
    }
}

static void answer(struct connection *c)
{
    c->waiting = false;
    switch (c->origin->options.behaviour) {
    case LOAD_ORIGIN_STALLS:
        return;
    case LOAD_ORIGIN_GARBAGE:
        send_garbage(c);
        return;
    case LOAD_ORIGIN_REFUSES:
        close_connection(c);
        return;
    default:
        send_answer(c);
    }
    if (!c->closing && c->held != NULL)
        consume(c);
}

static void on_timer(struct io_timer *timer)
{
    answer(CONTAINER_OF(timer, struct connection, timer));
}

static void request_complete(struct connection *c)
{
    struct load_origin *origin = c->origin;
    uint64_t delay = draw_delay_us(origin);
    c->in_body = false;
    c->waiting = true;
    c->fail = rng_double(&origin->rng) < origin->options.error_share;
    if (delay == 0) {
        answer(c);
        return;
    }
    io_timer_set(origin->loop, &c->timer, io_loop_now_us(origin->loop) + delay);
}

// ---- reading ----

static void take(struct io_buf *buf, size_t n)
{
    buf->start += (uint32_t)n;
}

// Reads a head from the held bytes. False: more bytes are needed, or the connection ended.
static bool read_head(struct connection *c)
{
    struct load_origin *origin = c->origin;
    size_t head = 0;
    enum http1_reject why;
    enum status status = http1_request_parse((const char *)c->held->data + c->held->start,
                                             io_buf_len(c->held), NULL, &origin->request, &head, &why);
    if (status == STATUS_AGAIN)
        return false;
    if (status != STATUS_OK) {
        origin->counts.malformed++;
        close_connection(c);
        return false;
    }
    origin->counts.requests++;
    origin->counts.last_request_us = io_loop_now_us(origin->loop);
    c->keep_alive = origin->request.keep_alive;
    c->head_only = origin->request.method_id == HTTP_METHOD_HEAD;
    const struct http_field *id = http_fields_find_name(&origin->request.fields, SLICE("x-request-id"));
    c->request_id_len = id != NULL && id->value.len <= sizeof c->request_id ? (uint32_t)id->value.len : 0;
    if (c->request_id_len > 0)
        memcpy(c->request_id, id->value.data, c->request_id_len);
    if (origin->options.seen != NULL)
        origin->options.seen(origin->options.seen_context, &origin->request);
    http1_body_init(&c->body, (enum http_framing)origin->request.framing, origin->request.content_length,
                    NULL, NULL, 0);
    take(c->held, head);
    c->in_body = true;
    return true;
}

// Drops body bytes; true when the body is complete.
static bool read_body(struct connection *c)
{
    while (!c->body.done) {
        size_t used = 0;
        struct slice payload;
        enum status status = http1_body_next(&c->body, (const char *)c->held->data + c->held->start,
                                             io_buf_len(c->held), &used, &payload);
        if (status == STATUS_OK || status == STATUS_AGAIN)
            take(c->held, used);
        if (status == STATUS_AGAIN)
            return false;
        if (status != STATUS_OK) {
            c->origin->counts.malformed++;
            close_connection(c);
            return false;
        }
    }
    return true;
}

static void consume(struct connection *c)
{
    while (c->held != NULL && !c->waiting && !c->closing) {
        bool ready = c->in_body || read_head(c);
        if (ready && read_body(c))
            request_complete(c);
        else
            break;
    }
    if (c->held != NULL && io_buf_len(c->held) == 0) {
        io_buf_put(c->held);
        c->held = NULL;
    }
}

static void on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct connection *c = CONTAINER_OF(stream, struct connection, stream);
    if (c->closing) {
        io_buf_put(buf);
        return;
    }
    if (io_buf_join(&c->held, buf) != STATUS_OK) {
        c->origin->counts.malformed++;
        close_connection(c);
        return;
    }
    consume(c);
}

static void on_end(struct io_stream *stream, enum status status)
{
    (void)status;
    close_connection(CONTAINER_OF(stream, struct connection, stream));
}

static void on_drain(struct io_stream *stream)
{
    (void)stream;
}

static void on_closed(struct io_stream *stream)
{
    struct connection *c = CONTAINER_OF(stream, struct connection, stream);
    list_remove(&c->link);
    c->origin->open--;
    heap_free(c);
}

static void on_open(struct io_stream *stream, enum status status)
{
    (void)stream;
    (void)status;
}

static const struct io_stream_ops STREAM_OPS = {
    .on_open = on_open, .on_data = on_data, .on_end = on_end, .on_drain = on_drain, .on_closed = on_closed};

static void on_accept(struct io_listener *listener, int handle, const struct io_addr *peer)
{
    (void)peer;
    struct load_origin *origin = CONTAINER_OF(listener, struct load_origin, listener);
    bool welcome =
        origin->open < LOAD_ORIGIN_CONNECTIONS_MAX && origin->options.behaviour != LOAD_ORIGIN_REFUSES;
    struct connection *c = welcome ? heap_alloc(1, sizeof *c) : NULL;
    if (c == NULL) {
        origin->counts.refused++;
        io_handle_close(origin->loop, handle);
        return;
    }
    origin->counts.connections++;
    origin->open++;
    c->origin = origin;
    io_timer_init(&c->timer, on_timer);
    list_push_back(&origin->connections, &c->link);
    io_stream_adopt(origin->loop, &c->stream, handle, &STREAM_OPS);
}

static void on_failure(struct io_listener *listener, enum status status)
{
    (void)status;
    CONTAINER_OF(listener, struct load_origin, listener)->counts.refused++;
}

// ---- life ----

enum status load_origin_create(struct io_loop *loop, const struct io_addr *addr,
                               const struct load_origin_options *options, struct load_origin **out)
{
    struct load_origin *origin = heap_alloc(1, sizeof *origin);
    if (origin == NULL)
        return STATUS_NO_MEMORY;
    origin->loop = loop;
    list_init(&origin->connections);
    rng_init(&origin->rng, options->seed);
    load_origin_set(origin, options);
    origin->listener.on_accept = on_accept;
    origin->listener.on_failure = on_failure;
    enum status status = io_listener_open(loop, &origin->listener, addr, false);
    if (status != STATUS_OK) {
        heap_free(origin);
        return status;
    }
    origin->listening = true;
    *out = origin;
    return STATUS_OK;
}

void load_origin_addr(const struct load_origin *origin, struct io_addr *addr)
{
    io_listener_addr(&origin->listener, addr);
}

void load_origin_set(struct load_origin *origin, const struct load_origin_options *options)
{
    origin->options = *options;
    if (origin->options.body_bytes > LOAD_ORIGIN_BODY_BYTES_MAX)
        origin->options.body_bytes = LOAD_ORIGIN_BODY_BYTES_MAX;
}

const struct load_origin_counts *load_origin_counts(const struct load_origin *origin)
{
    return &origin->counts;
}

void load_origin_close(struct load_origin *origin)
{
    if (origin->listening)
        io_listener_close(&origin->listener);
    origin->listening = false;
    for (struct list *node = origin->connections.next; node != &origin->connections; node = node->next)
        close_connection(CONTAINER_OF(node, struct connection, link));
}

bool load_origin_closed(const struct load_origin *origin)
{
    return !origin->listening && origin->open == 0;
}

void load_origin_destroy(struct load_origin *origin)
{
    CHECK(load_origin_closed(origin));
    heap_free(origin);
}
