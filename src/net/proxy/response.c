// SPDX-License-Identifier: Apache-2.0
// The way back: heads parsed where they were received, written anew, bodies framed anew. What is not a sound
// HTTP answer is never passed on as one, and one that breaks off ends in a reset.
#include "net/proxy/assign.h"
#include "net/proxy/proxy_private.h"

static struct worker *worker_of(const struct exchange *exchange)
{
    return exchange->client->worker;
}

// Sends to the client and holds the origin back while the client does not keep up.
static void send_to_client(struct exchange *exchange, struct chain *out)
{
    struct io_stream *stream = &exchange->client->stream;
    chain_send(out, stream);
    if (UNLIKELY(io_stream_pending(stream) > SEND_HIGH_BYTES) && exchange->upstream != NULL)
        upstream_pause(exchange->upstream);
}

// ---- the end of an answer ----

// Whether the connection may serve another request: both messages are over and nobody said otherwise.
static bool upstream_reusable(const struct exchange *exchange, const struct io_buf *rest)
{
    return exchange->upstream_keep && exchange->request_done && rest == NULL;
}

// rest: bytes behind the answer (taken), which nobody asked for.
static void response_complete(struct exchange *exchange, struct io_buf *rest)
{
    bool reuse = upstream_reusable(exchange, rest);
    bool keep = exchange->keep_client && exchange->request_done;
    io_buf_put(rest);
    exchange_complete(exchange, exchange->status < 500 ? FATE_OK : FATE_ERROR);
    exchange_end(exchange, reuse, keep);
}

static void response_body(struct exchange *exchange, struct io_buf *buf, struct chain *out)
{
    struct worker *worker = worker_of(exchange);
    exchange->activity_us = worker_now_us(worker);
    enum status status = body_relay_run(&exchange->response, worker->loop, &buf, out, NULL);
    send_to_client(exchange, out);
    if (UNLIKELY(status != STATUS_OK)) {
        io_buf_put(buf);
        if (status == STATUS_FULL)
            exchange_starved(exchange);
        else
            exchange_attempt_failed(exchange, ATTEMPT_BROKEN, "the origin's body is broken");
        return;
    }
    if (exchange->response.body.done)
        response_complete(exchange, buf);
}

void response_finish(struct exchange *exchange)
{
    struct chain out = {0};
    enum status status = body_relay_finish(&exchange->response, worker_of(exchange)->loop, &out);
    if (status != STATUS_OK) {
        chain_put(&out);
        exchange_attempt_failed(exchange, ATTEMPT_RESET, "the origin closed within its answer");
        return;
    }
    exchange->upstream_keep = false;
    send_to_client(exchange, &out);
    response_complete(exchange, NULL);
}

// ---- heads ----

enum { COOKIE_TEXT_BYTES = 1024 + ASSIGN_COOKIE_BYTES + 64 };

// "Set-Cookie" for a unit of ours. False when none is due.
static bool sticky_field(const struct exchange *exchange, struct text *storage, struct http_field *field)
{
    const struct proxy_table *table = worker_of(exchange)->table;
    const struct proxy_service *service = table == NULL ? NULL : table->by_slot[exchange->service];
    if (LIKELY(!exchange->set_cookie) || service == NULL)
        return false;
    char value[ASSIGN_COOKIE_BYTES];
    assign_cookie_write(service->cookie_key, exchange->unit_cookie, service->epoch, value);
    text_add(storage, service->unit_name);
    text_add_char(storage, '=');
    text_add(storage, (struct slice){value, sizeof value});
    text_add(storage, SLICE("; Path=/; HttpOnly; SameSite=Lax"));
    *field = (struct http_field){.name = SLICE("Set-Cookie"), .value = text_slice(storage)};
    return !storage->cut;
}

static enum status write_head(struct exchange *exchange, const struct http1_forward *how, struct chain *out)
{
    struct worker *worker = worker_of(exchange);
    struct http1_forward forward = *how;
    char storage[COOKIE_TEXT_BYTES];
    struct text text = text_over(storage, sizeof storage);
    struct http_field cookie;
    forward.via = worker->table != NULL ? worker->table->via : SLICE("");
    if (worker->response.status >= 200 && sticky_field(exchange, &text, &cookie)) {
        forward.add = &cookie;
        forward.add_count = 1;
    }
    struct io_buf *buf = io_buf_get(worker->loop);
    if (buf == NULL)
        return STATUS_FULL;
    struct http1_writer writer = http1_writer_over((char *)buf->data, IO_BUF_BYTES);
    enum status status = http1_write_response_head(&writer, &worker->response, &forward);
    if (status != STATUS_OK) {
        io_buf_put(buf);
        return STATUS_INVALID; // it does not fit: its fields are at the limit
    }
    buf->end = (uint32_t)writer.len;
    chain_push(out, buf);
    return STATUS_OK;
}

static void head_refused(struct exchange *exchange, enum status status)
{
    if (status == STATUS_FULL)
        exchange_starved(exchange);
    else
        exchange_attempt_failed(exchange, ATTEMPT_BROKEN, "the origin's head is too large");
}

// 100, 102, 103: passed on to clients that know them. False when the exchange is over.
static bool response_informational(struct exchange *exchange)
{
    struct chain out = {0};
    version_count(exchange->counts, PROXY_VERSION_STATUS_1XX, 1);
    if (exchange->http10)
        return true;
    struct http1_forward forward = {0};
    enum status status = write_head(exchange, &forward, &out);
    if (status != STATUS_OK) {
        head_refused(exchange, status);
        return false;
    }
    send_to_client(exchange, &out);
    return true;
}

// 101: what follows is not HTTP. Only for a client that asked for it.
static void response_switch(struct exchange *exchange, struct io_buf *rest)
{
    struct chain out = {0};
    struct http1_forward forward = {.upgrade = true};
    enum status status = exchange->upgrade ? write_head(exchange, &forward, &out) : STATUS_INVALID;
    if (status != STATUS_OK) {
        io_buf_put(rest);
        if (status == STATUS_FULL)
            exchange_starved(exchange);
        else
            exchange_attempt_failed(exchange, ATTEMPT_BROKEN, "the origin switched protocols unasked");
        return;
    }
    version_count(exchange->counts, PROXY_VERSION_STATUS_1XX, 1);
    send_to_client(exchange, &out);
    tunnel_open(exchange, rest);
}

static enum proxy_version_counter status_counter(unsigned status)
{
    return (enum proxy_version_counter)(PROXY_VERSION_STATUS_1XX + (status / 100 - 1));
}

// How the answer's body goes to this client, and what becomes of the connection.
static void settle_framing(struct exchange *exchange, struct http1_forward *forward)
{
    const struct worker *worker = worker_of(exchange);
    const struct http1_response *response = &worker->response;
    uint8_t framing = response->framing;
    if (framing == HTTP_FRAMING_CHUNKED || framing == HTTP_FRAMING_UNTIL_CLOSE)
        framing = exchange->http10 ? HTTP_FRAMING_UNTIL_CLOSE : HTTP_FRAMING_CHUNKED;
    forward->framing = framing;
    forward->content_length = response->content_length;
    if (framing == HTTP_FRAMING_UNTIL_CLOSE || !exchange->request_done || worker->phase != PHASE_SERVE)
        exchange->keep_client = false;
    if (!exchange->keep_client)
        forward->connection = HTTP1_CONNECTION_CLOSE;
    else if (exchange->http10)
        forward->connection = HTTP1_CONNECTION_KEEP_ALIVE;
}

// rest: what came behind the head (taken).
static void response_final(struct exchange *exchange, struct io_buf *rest)
{
    struct worker *worker = worker_of(exchange);
    const struct http1_response *response = &worker->response;
    struct chain out = {0};
    struct http1_forward forward = {0};
    settle_framing(exchange, &forward);
    enum status status = write_head(exchange, &forward, &out);
    if (LIKELY(status == STATUS_OK))
        status = body_relay_start(&exchange->response, worker->loop, (enum http_framing)response->framing,
                                  response->content_length, &worker->proxy->limits,
                                  forward.framing == HTTP_FRAMING_CHUNKED);
    if (UNLIKELY(status != STATUS_OK)) {
        chain_put(&out);
        io_buf_put(rest);
        head_refused(exchange, status);
        return;
    }
    exchange->status = response->status;
    exchange->upstream_keep = response->keep_alive;
    exchange->answering = true;
    worker_count(worker, PROXY_WORKER_ANSWERED);
    version_count(exchange->counts, status_counter(response->status), 1);
    if (response->status >= 500)
        exchange_count_error(exchange, ATTEMPT_5XX, "the origin answered 5xx");
    if (!exchange->response.body.done) {
        response_body(exchange, rest, &out);
        return;
    }
    send_to_client(exchange, &out);
    if (LIKELY(io_buf_len(rest) == 0)) {
        io_buf_put(rest);
        rest = NULL;
    }
    response_complete(exchange, rest);
}

// The first head of what is held. AGAIN: not complete. Anything else but OK has ended the attempt.
static enum status response_parse(struct exchange *exchange, struct io_buf *buf, size_t *head_len)
{
    struct worker *worker = worker_of(exchange);
    enum http1_reject why;
    enum status status;
    do {
        status = http1_response_parse((char *)buf->data + buf->start, io_buf_len(buf), &worker->proxy->limits,
                                      (enum http_method)exchange->method, &worker->response, head_len, &why);
    } while (status == STATUS_AGAIN && held_pull(buf));
    if (UNLIKELY(status != STATUS_OK && status != STATUS_AGAIN))
        exchange_attempt_failed(exchange, ATTEMPT_BROKEN, http1_reject_text(why));
    return status;
}

// A head after which the exchange's next state takes the bytes. Further buffers wait with the upstream, which
// is closed with them if it comes to its end before they are used: they would belong to no request.
static void response_turn(struct exchange *exchange, struct io_buf *buf, size_t head_len)
{
    struct upstream *upstream = exchange->upstream;
    bool switched = worker_of(exchange)->response.status == 101;
    upstream->held = buf->next;
    buf->next = NULL;
    buf->start += (uint32_t)head_len;
    if (switched)
        response_switch(exchange, buf);
    else
        response_final(exchange, buf);
    while (!upstream->closed && upstream->held != NULL) {
        struct io_buf *more = upstream->held;
        upstream->held = more->next;
        more->next = NULL;
        if (exchange->tunnel)
            tunnel_upstream_data(exchange, more);
        else
            response_data(exchange, more);
    }
}

// Heads until the final one. upstream->held is what has come.
static void response_heads(struct exchange *exchange)
{
    struct upstream *upstream = exchange->upstream;
    while (upstream->held != NULL) {
        struct io_buf *buf = upstream->held;
        size_t head_len;
        if (response_parse(exchange, buf, &head_len) != STATUS_OK)
            return;
        if (!worker_of(exchange)->response.informational) {
            response_turn(exchange, buf, head_len);
            return;
        }
        if (!response_informational(exchange))
            return;
        upstream->held = held_skip(buf, (uint32_t)head_len);
    }
}

void response_data(struct exchange *exchange, struct io_buf *buf)
{
    if (exchange->answering) {
        struct chain out = {0};
        response_body(exchange, buf, &out);
        return;
    }
    exchange->upstream->held = held_join(exchange->upstream->held, buf);
    response_heads(exchange);
}
