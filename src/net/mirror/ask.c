// SPDX-License-Identifier: Apache-2.0
// One target asked, once: a connection of the idle ones or a new one, the request, the answer up to its
// limits. An ask ends once, by its answer, a failure or its time. A connection that was used before and ends
// without a byte of an answer is one that its peer had closed already: then a request that may be repeated is
// sent once more.
#include <string.h>

#include "base/heap.h"
#include "net/http/proxy_header.h"
#include "net/io/filter.h"
#include "net/mirror/mirror_private.h"

struct mirror_connection {
    struct io_stream stream;
    struct mirror *mirror;
    struct mirror_ask *ask; // NULL: idle, or closing
    struct list link;       // of the idle ones
    struct io_timer timer;  // idle
    struct io_addr addr;
    struct tls_client *client; // NULL: in the clear
    uint8_t header;
    char name[MIRROR_NAME_BYTES]; // that its certificate has
    uint32_t uses;
    bool closing;
};

static void connection_close(struct mirror_connection *connection)
{
    struct mirror *mirror = connection->mirror;
    if (!list_empty(&connection->link)) {
        list_remove(&connection->link);
        mirror->idle_count--;
    }
    connection->ask = NULL;
    connection->closing = true;
    io_timer_clear(mirror->loop, &connection->timer);
    tls_say_end(&connection->stream);
    io_stream_close(&connection->stream);
}

static void on_idle(struct io_timer *timer)
{
    connection_close(CONTAINER_OF(timer, struct mirror_connection, timer));
}

void mirror_idle_close(struct mirror *mirror)
{
    while (!list_empty(&mirror->idle))
        connection_close(CONTAINER_OF(mirror->idle.next, struct mirror_connection, link));
}

static void connection_rest(struct mirror_connection *connection)
{
    struct mirror *mirror = connection->mirror;
    connection->ask = NULL;
    if (mirror->idle_count == MIRROR_IDLE_MAX)
        connection_close(CONTAINER_OF(mirror->idle.prev, struct mirror_connection, link));
    list_push_front(&mirror->idle, &connection->link);
    mirror->idle_count++;
    io_timer_set(mirror->loop, &connection->timer, io_loop_now_us(mirror->loop) + MIRROR_IDLE_US);
}

// ---- the end of an ask ----

static void let_go(struct mirror_ask *ask)
{
    struct mirror_connection *connection = ask->connection;
    io_timer_clear(ask->copy->mirror->loop, &ask->timer);
    io_buf_put(ask->held);
    ask->held = NULL;
    ask->connection = NULL;
    if (connection == NULL)
        return;
    if (ask->keep)
        connection_rest(connection);
    else
        connection_close(connection);
}

static void ask_end(struct mirror_ask *ask, enum mirror_end end)
{
    ask->taking.answer->end = end;
    let_go(ask);
    mirror_answered(ask);
}

// Within the body: what came of it is an answer all the same.
static void ask_cut(struct mirror_ask *ask, enum mirror_cut cut)
{
    ask->keep = false;
    ask->taking.answer->cut = cut;
    ask_end(ask, MIRROR_ANSWERED);
}

static void ask_fail(struct mirror_ask *ask, enum mirror_end end)
{
    if (ask->answering) {
        ask_cut(ask, MIRROR_CUT_BROKEN);
        return;
    }
    ask->keep = false;
    ask_end(ask, end);
}

static void on_time(struct io_timer *timer)
{
    struct mirror_ask *ask = CONTAINER_OF(timer, struct mirror_ask, timer);
    if (ask->answering)
        ask_cut(ask, MIRROR_CUT_TIME);
    else
        ask_fail(ask, MIRROR_TIMEOUT);
}

void mirror_ask_cancel(struct mirror_ask *ask)
{
    if (ask->connection == NULL)
        return;
    ask->ours = true;
    ask_fail(ask, MIRROR_RESET);
}

// ---- the request ----

static void send_body(struct mirror_ask *ask)
{
    struct io_stream *stream = &ask->connection->stream;
    struct slice body = ask->copy->seen.body;
    while (ask->sent < body.len && io_stream_pending(stream) < MIRROR_SENDING_BYTES) {
        struct io_buf *buf = io_buf_get(stream->loop);
        if (buf == NULL) {
            ask->ours = true;
            ask_fail(ask, MIRROR_RESET);
            return;
        }
        size_t len = body.len - ask->sent < IO_BUF_BYTES ? body.len - ask->sent : IO_BUF_BYTES;
        memcpy(buf->data, body.data + ask->sent, len);
        buf->end = (uint32_t)len;
        ask->sent += len;
        io_stream_send(stream, buf);
    }
    if (ask->sent == body.len && ask->sent_us == 0)
        ask->sent_us = io_loop_clock_us(stream->loop);
}

static void send_request(struct mirror_ask *ask)
{
    struct io_buf *buf = io_buf_get(ask->copy->mirror->loop);
    enum status status = buf != NULL ? mirror_head_write(ask, buf) : STATUS_NO_MEMORY;
    if (status != STATUS_OK) {
        io_buf_put(buf);
        ask->ours = true;
        ask_fail(ask, MIRROR_RESET);
        return;
    }
    io_stream_send(&ask->connection->stream, buf);
    send_body(ask);
}

// ---- the answer ----

static void take(struct mirror_ask *ask, struct slice run)
{
    struct mirror_copy *copy = ask->copy;
    struct mirror *mirror = copy->mirror;
    size_t left = mirror->answer_bytes < MIRROR_BYTES_MAX ? MIRROR_BYTES_MAX - mirror->answer_bytes : 0;
    size_t grown = 0;
    mirror_take_body(&ask->taking, mirror->key, run, copy->plan->words.body_bytes, left, &grown);
    copy->mirror_bytes += grown;
    mirror->answer_bytes += grown;
}

// Ends the ask when the answer does.
static void read_body(struct mirror_ask *ask, struct io_buf *buf)
{
    const char *data = (const char *)buf->data;
    while (!ask->body.done && io_buf_len(buf) > 0) {
        size_t used = 0;
        struct slice run = {NULL, 0};
        enum status status = http1_body_next(&ask->body, data + buf->start, io_buf_len(buf), &used, &run);
        if (status != STATUS_OK && status != STATUS_AGAIN) {
            ask_cut(ask, MIRROR_CUT_BROKEN);
            return;
        }
        buf->start += (uint32_t)used;
        if (run.len > 0)
            take(ask, run);
        if (ask->taking.came > MIRROR_READ_BYTES_MAX) {
            ask_cut(ask, MIRROR_CUT_LIMIT);
            return;
        }
    }
    if (!ask->body.done)
        return;
    bool sent = ask->sent == ask->copy->seen.body.len && io_stream_pending(&ask->connection->stream) == 0;
    ask->keep = ask->keep && sent && io_buf_len(buf) == 0; // what comes behind it nobody asked for
    ask_end(ask, MIRROR_ANSWERED);
}

// The final head. False: no memory for it.
static bool begin_answer(struct mirror_ask *ask)
{
    struct mirror *mirror = ask->copy->mirror;
    const struct http_response *response = &mirror->response;
    uint64_t now_us = io_loop_clock_us(mirror->loop);
    size_t grown = 0;
    if (!mirror_take_head(&ask->taking, response, &grown))
        return false;
    ask->copy->mirror_bytes += grown;
    mirror->answer_bytes += grown;
    ask->answering = true;
    ask->keep = response->keep_alive;
    ask->taking.answer->wait_us = ask->sent_us != 0 && now_us > ask->sent_us ? now_us - ask->sent_us : 0;
    http1_body_init(&ask->body, (enum http_framing)response->framing, response->content_length, NULL, NULL,
                    0);
    return true;
}

// AGAIN: more of the head must come.
static enum status read_heads(struct mirror_ask *ask)
{
    struct http_response *response = &ask->copy->mirror->response;
    struct io_buf *buf = ask->held;
    for (;;) {
        size_t len;
        enum http1_reject why;
        enum status status = http1_response_parse((char *)buf->data + buf->start, io_buf_len(buf), NULL,
                                                  ask->copy->method, response, &len, &why);
        if (status != STATUS_OK)
            return status;
        buf->start += (uint32_t)len;
        if (!response->informational)
            return response->status == 101 ? STATUS_INVALID : STATUS_OK;
    }
}

static void on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct mirror_connection *connection = CONTAINER_OF(stream, struct mirror_connection, stream);
    struct mirror_ask *ask = connection->ask;
    if (ask == NULL) { // idle: nobody asked for it
        io_buf_put(buf);
        if (!connection->closing)
            connection_close(connection);
        return;
    }
    if (!ask->answering) {
        enum status status = io_buf_join(&ask->held, buf);
        if (status == STATUS_OK)
            status = read_heads(ask);
        if (status == STATUS_AGAIN)
            return;
        ask->ours = status == STATUS_OK && !begin_answer(ask);
        if (status != STATUS_OK || ask->ours) {
            ask_fail(ask, MIRROR_BROKEN);
            return;
        }
        buf = ask->held;
        ask->held = NULL;
    }
    read_body(ask, buf);
    io_buf_put(buf);
}

// ---- connections ----

static void connect_to(struct mirror_ask *ask);

static void on_open(struct io_stream *stream, enum status status)
{
    struct mirror_connection *connection = CONTAINER_OF(stream, struct mirror_connection, stream);
    struct mirror_ask *ask = connection->ask;
    if (ask == NULL)
        return;
    if (status == STATUS_OK) {
        send_request(ask);
        return;
    }
    ask->ours = status == STATUS_NO_FD || status == STATUS_NO_MEMORY;
    ask_fail(ask, tls_why(stream)[0] != '\0' ? MIRROR_TLS : MIRROR_CONNECT);
}

static bool found_dead(const struct mirror_ask *ask)
{
    return ask->connection->uses > 1 && ask->held == NULL && !ask->answering && !ask->again &&
           ask->copy->repeatable;
}

static void on_end(struct io_stream *stream, enum status status)
{
    struct mirror_connection *connection = CONTAINER_OF(stream, struct mirror_connection, stream);
    struct mirror_ask *ask = connection->ask;
    if (connection->closing)
        return;
    if (ask == NULL) {
        connection_close(connection);
    } else if (found_dead(ask)) {
        connection_close(connection);
        ask->again = true;
        ask->sent = 0;
        ask->sent_us = 0;
        connect_to(ask);
    } else if (ask->answering && status == STATUS_CLOSED && http1_body_finish(&ask->body) == STATUS_OK) {
        ask->keep = false;
        ask_end(ask, MIRROR_ANSWERED);
    } else {
        ask_fail(ask, tls_why(stream)[0] != '\0' ? MIRROR_TLS : MIRROR_RESET);
    }
}

static void on_drain(struct io_stream *stream)
{
    struct mirror_ask *ask = CONTAINER_OF(stream, struct mirror_connection, stream)->ask;
    if (ask != NULL)
        send_body(ask);
}

static void on_closed(struct io_stream *stream)
{
    struct mirror_connection *connection = CONTAINER_OF(stream, struct mirror_connection, stream);
    connection->mirror->connections--;
    tls_client_destroy(connection->client);
    heap_free(connection);
}

static const struct io_stream_ops STREAM_OPS = {
    .on_open = on_open, .on_data = on_data, .on_end = on_end, .on_drain = on_drain, .on_closed = on_closed};

static bool same_way(const struct mirror_connection *connection, const struct mirror_target *target,
                     const struct mirror_endpoint *endpoint)
{
    return connection->client == (target->secure ? target->client : NULL) &&
           connection->header == target->header && connection->addr.len == endpoint->addr.len &&
           memcmp(connection->addr.bytes, endpoint->addr.bytes, endpoint->addr.len) == 0 &&
           slice_equal(slice_of(connection->name), endpoint->name);
}

static struct mirror_connection *idle_take(struct mirror *mirror, const struct mirror_target *target,
                                           const struct mirror_endpoint *endpoint)
{
    for (struct list *link = mirror->idle.next; link != &mirror->idle; link = link->next) {
        struct mirror_connection *connection = CONTAINER_OF(link, struct mirror_connection, link);
        if (!same_way(connection, target, endpoint))
            continue;
        list_remove(&connection->link);
        mirror->idle_count--;
        io_timer_clear(mirror->loop, &connection->timer);
        return connection;
    }
    return NULL;
}

// Before TLS: the connection is nobody's but our own, as requests of several clients share it.
static bool say_header(struct mirror_ask *ask)
{
    static const struct http_proxy_header nobody = {.family = HTTP_PROXY_NOBODY};
    struct mirror_connection *connection = ask->connection;
    struct io_buf *buf = io_buf_get(connection->stream.loop);
    ask->ours = buf == NULL;
    if (buf == NULL)
        return false;
    buf->end = (uint32_t)http_proxy_header_write(connection->header, &nobody, &nobody, (char *)buf->data);
    io_filter_send(&connection->stream, buf);
    return true;
}

// False: there is no TLS, or no memory, for it.
static bool begin_connection(struct mirror_ask *ask, const struct mirror_endpoint *endpoint)
{
    const struct mirror_target *target = ask->target;
    struct mirror_connection *connection = ask->connection;
    io_stream_connect(connection->mirror->loop, &connection->stream, &endpoint->addr, &STREAM_OPS);
    if (target->secure && (target->client == NULL || tls_connect(target->client, &connection->stream,
                                                                 endpoint->name, NULL) != STATUS_OK))
        return false;
    return target->header == 0 || say_header(ask);
}

static struct mirror_connection *make_connection(struct mirror *mirror, const struct mirror_target *target,
                                                 const struct mirror_endpoint *endpoint)
{
    struct mirror_connection *connection = heap_alloc(1, sizeof *connection);
    if (connection == NULL)
        return NULL;
    connection->mirror = mirror;
    connection->addr = endpoint->addr;
    connection->client = target->secure && target->client != NULL ? tls_client_share(target->client) : NULL;
    connection->header = target->header;
    memcpy(connection->name, endpoint->name.data, endpoint->name.len);
    list_init(&connection->link);
    io_timer_init(&connection->timer, on_idle);
    mirror->connections++;
    return connection;
}

static void connect_to(struct mirror_ask *ask)
{
    struct mirror *mirror = ask->copy->mirror;
    const struct mirror_target *target = ask->target;
    const struct mirror_endpoint *endpoint =
        &target->endpoints[rng_below(&mirror->rng, target->endpoint_count)];
    struct mirror_connection *idle = ask->again ? NULL : idle_take(mirror, target, endpoint);
    ask->connection = idle != NULL ? idle : make_connection(mirror, target, endpoint);
    if (ask->connection == NULL) {
        ask->ours = true;
        ask_fail(ask, MIRROR_CONNECT);
        return;
    }
    ask->connection->ask = ask;
    ask->connection->uses++;
    if (idle != NULL)
        send_request(ask);
    else if (!begin_connection(ask, endpoint))
        ask_fail(ask, MIRROR_TLS);
}

void mirror_ask_begin(struct mirror_ask *ask)
{
    struct mirror *mirror = ask->copy->mirror;
    io_timer_init(&ask->timer, on_time);
    io_timer_set(mirror->loop, &ask->timer,
                 io_loop_now_us(mirror->loop) + (uint64_t)ask->copy->plan->words.timeout_ms * 1000);
    connect_to(ask);
}
