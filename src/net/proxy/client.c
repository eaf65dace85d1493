// SPDX-License-Identifier: Apache-2.0
// One connection of a client: heads are parsed where they were received, requests are served strictly in
// order, and a connection that waits holds no buffer. Every answer of our own is made here.
#include "net/proxy/proxy_private.h"

static const struct io_stream_ops CLIENT_OPS;
static void client_on_timer(struct io_timer *timer);

static struct client *client_of(struct io_stream *stream)
{
    return CONTAINER_OF(stream, struct client, stream);
}

void client_due(struct client *client, uint64_t due_us)
{
    client->due_us = due_us;
    // The wheel is touched only to move the timer nearer; one that comes too early looks at due_us and goes
    // back.
    if (!io_timer_is_set(&client->timer) || client->timer.deadline_us > due_us)
        io_timer_set(client->worker->loop, &client->timer, due_us);
}

void client_pause(struct client *client)
{
    if (client->paused)
        return;
    client->paused = true;
    io_stream_pause(&client->stream);
}

void client_resume(struct client *client)
{
    if (!client->paused)
        return;
    client->paused = false;
    io_stream_resume(&client->stream);
}

static void held_put_all(struct client *client)
{
    struct chain held = {client->held, NULL};
    chain_put(&held);
    client->held = NULL;
}

void client_close(struct client *client, bool reset)
{
    if (client->state == CLIENT_CLOSED)
        return;
    CHECK(client->exchange == NULL);
    client->state = CLIENT_CLOSED;
    held_put_all(client);
    io_timer_clear(client->worker->loop, &client->timer);
    if (reset)
        io_stream_abort(&client->stream);
    else
        io_stream_close(&client->stream);
}

void client_linger(struct client *client)
{
    if (client->state != CLIENT_OPEN)
        return;
    client->state = CLIENT_LINGER;
    held_put_all(client);
    if (client->ended && io_stream_pending(&client->stream) == 0) {
        client_close(client, false);
        return;
    }
    io_stream_finish(&client->stream);
    client->linger_bytes = 0;
    client_resume(client);
    client_due(client, worker_now_us(client->worker) + LINGER_US);
}

// ---- answers of our own ----

static void put_local(struct client *client, struct io_buf *buf, unsigned status, const char *why,
                      bool head_only, bool keep)
{
    char body[160];
    struct text text = text_over(body, sizeof body);
    text_addf(&text, "%u %s\n", status, why);
    struct http1_local local = {
        .status = status, .body = text_slice(&text), .close = !keep, .head_only = head_only};
    struct http1_writer writer = http1_writer_over((char *)buf->data, IO_BUF_BYTES);
    enum status written = http1_write_local(&writer, &local);
    CHECK(written == STATUS_OK);
    buf->end = (uint32_t)writer.len;
    io_stream_send(&client->stream, buf);
}

bool client_answer_local(struct client *client, unsigned status, const char *why, bool head_only, bool keep)
{
    struct io_buf *buf = io_buf_get(client->worker->loop);
    if (UNLIKELY(buf == NULL)) {
        worker_count(client->worker, PROXY_WORKER_ABORTED);
        return false;
    }
    put_local(client, buf, status, why, head_only, keep);
    worker_count(client->worker, PROXY_WORKER_ANSWERED);
    worker_count(client->worker, PROXY_WORKER_LOCAL);
    if (status == 502)
        worker_count(client->worker, PROXY_WORKER_BAD_GATEWAY);
    if (status == 503)
        worker_count(client->worker, PROXY_WORKER_UNAVAILABLE);
    if (status == 504)
        worker_count(client->worker, PROXY_WORKER_GATEWAY_TIMEOUT);
    return keep;
}

static const struct event_where NOWHERE = {PROXY_SLOT_NONE, PROXY_SLOT_NONE, PROXY_SLOT_NONE};

// A request that cannot be framed: the answer is the connection's last.
static void client_reject(struct client *client, unsigned status, const char *why)
{
    worker_count(client->worker, PROXY_WORKER_RECEIVED);
    worker_count(client->worker, PROXY_WORKER_REJECTED);
    worker_event(client->worker, PROXY_EVENT_REJECTED, status, why, client_address(client), NOWHERE);
    (void)client_answer_local(client, status, why, false, false);
    client_linger(client);
}

// A well-formed request that goes nowhere. Without a body the connection goes on.
static void client_turn_away(struct client *client, uint32_t head_len, struct event_where where,
                             unsigned status, const char *why)
{
    const struct http1_request *request = &client->worker->request;
    bool keep = request->keep_alive && request->framing == HTTP_FRAMING_NONE && request->version_minor == 1 &&
                client->worker->phase == PHASE_SERVE;
    bool head_only = request->method_id == HTTP_METHOD_HEAD;
    worker_event(client->worker, PROXY_EVENT_LOCAL, status, why, client_address(client), where);
    client->held = held_skip(client->held, head_len);
    if (!client_answer_local(client, status, why, head_only, keep))
        client_linger(client);
}

// ---- heads ----

static void client_request(struct client *client, uint32_t head_len)
{
    struct worker *worker = client->worker;
    const struct http1_request *request = &worker->request;
    worker_count(worker, PROXY_WORKER_RECEIVED);
    if (UNLIKELY(worker->table == NULL)) {
        client_turn_away(client, head_len, NOWHERE, 503, "no routing table yet");
        return;
    }
    const struct proxy_service *service = proxy_table_find(worker->table, request->host, request->path);
    if (UNLIKELY(service == NULL)) {
        worker_count(worker, PROXY_WORKER_UNROUTED);
        client_turn_away(client, head_len, NOWHERE, 404, "no route");
        return;
    }
    if (UNLIKELY(request->framing == HTTP_FRAMING_LENGTH &&
                 request->content_length > service->body_bytes_max)) {
        worker_count(worker, PROXY_WORKER_REJECTED);
        struct event_where where = {service->slot, PROXY_SLOT_NONE, PROXY_SLOT_NONE};
        client_turn_away(client, head_len, where, 413, "request body too large");
        return;
    }
    exchange_begin(client, service, head_len);
}

static void client_wait_for_head(struct client *client)
{
    if (client->head_started)
        return;
    client->head_started = true;
    struct worker *worker = client->worker;
    uint64_t head_us = worker->table != NULL ? worker->table->client_head_us : 10000000;
    client_due(client, worker_now_us(worker) + head_us);
}

// One head from what is held. False when there is nothing more to do for now.
static bool client_step(struct client *client)
{
    struct worker *worker = client->worker;
    size_t head_len;
    enum http1_reject why;
    enum status status;
    do {
        struct io_buf *buf = client->held;
        status = http1_request_parse((char *)buf->data + buf->start, io_buf_len(buf), &worker->proxy->limits,
                                     &worker->request, &head_len, &why);
    } while (status == STATUS_AGAIN && held_pull(client->held));
    if (UNLIKELY(status == STATUS_AGAIN)) {
        client_wait_for_head(client);
        return false;
    }
    if (UNLIKELY(status != STATUS_OK)) {
        client_reject(client, http1_reject_status(why), http1_reject_text(why));
        return false;
    }
    client->head_started = false;
    client_request(client, (uint32_t)head_len);
    return true;
}

void client_run(struct client *client)
{
    if (client->running)
        return;
    client->running = true;
    while (client->state == CLIENT_OPEN && client->exchange == NULL && client->held != NULL &&
           io_stream_pending(&client->stream) <= SEND_HIGH_BYTES)
        if (!client_step(client))
            break;
    client->running = false;
    if (client->state != CLIENT_OPEN || client->exchange != NULL ||
        (client->held != NULL && !client->head_started)) // the client must first take what it asked for
        return;
    if (client->ended)
        client_linger(client); // nothing more will come, and what is held is no whole head
    else
        client_resume(client);
}

void client_exchange_over(struct client *client, bool keep)
{
    client->exchange = NULL;
    if (!keep || client->worker->phase != PHASE_SERVE) {
        client_linger(client);
        return;
    }
    struct worker *worker = client->worker;
    uint64_t idle_us = worker->table != NULL ? worker->table->client_idle_us : 60000000;
    client_due(client, worker_now_us(worker) + idle_us);
    if (client->held != NULL || client->paused || client->ended)
        client_run(client);
}

// ---- the stream ----

static void client_on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct client *client = client_of(stream);
    buf->next = NULL;
    if (UNLIKELY(client->state != CLIENT_OPEN)) {
        client->linger_bytes += io_buf_len(buf);
        io_buf_put(buf);
        if (client->state == CLIENT_LINGER && client->linger_bytes > LINGER_BYTES_MAX)
            client_close(client, false);
        return;
    }
    struct exchange *exchange = client->exchange;
    if (exchange != NULL && (!exchange->request_done || exchange->tunnel)) {
        exchange_request_data(exchange, buf);
        return;
    }
    client->held = held_join(client->held, buf);
    // A pipelined request waits for the answer before it; so does whatever comes behind it.
    if (exchange != NULL || io_stream_pending(stream) > SEND_HIGH_BYTES)
        client_pause(client);
    else
        client_run(client);
}

static void client_on_end(struct io_stream *stream, enum status status)
{
    struct client *client = client_of(stream);
    if (status == STATUS_CLOSED)
        client->ended = true;
    if (client->state == CLIENT_CLOSED)
        return;
    struct exchange *exchange = client->exchange;
    if (exchange != NULL) {
        // A client that has sent its whole request may end its side and still wait for the answer.
        if (exchange->tunnel && status == STATUS_CLOSED)
            tunnel_client_ended(exchange);
        else if (status != STATUS_CLOSED || !exchange->request_done)
            exchange_client_failed(exchange);
        return;
    }
    if (status == STATUS_CLOSED && io_stream_pending(stream) > 0)
        return; // on_drain closes
    client_close(client, false);
}

static void client_on_drain(struct io_stream *stream)
{
    struct client *client = client_of(stream);
    if (client->exchange != NULL) {
        exchange_client_drained(client->exchange);
        return;
    }
    if (client->state == CLIENT_OPEN && (client->held != NULL || client->paused || client->ended))
        client_run(client);
    else if (client->state == CLIENT_LINGER && client->ended)
        client_close(client, false);
}

static void client_on_closed(struct io_stream *stream)
{
    struct client *client = client_of(stream);
    struct worker *worker = client->worker;
    list_remove(&client->link);
    if (client->refused) {
        worker->clients_refusing--;
    } else {
        worker->clients_open--;
        worker_count(worker, PROXY_WORKER_CLIENTS_CLOSED);
    }
    free_list_put(&worker->free_clients, client);
}

static const struct io_stream_ops CLIENT_OPS = {.on_data = client_on_data,
                                                .on_end = client_on_end,
                                                .on_drain = client_on_drain,
                                                .on_closed = client_on_closed};

static void client_on_timer(struct io_timer *timer)
{
    struct client *client = CONTAINER_OF(timer, struct client, timer);
    struct worker *worker = client->worker;
    if (client->exchange != NULL)
        client->due_us = exchange_due(client->exchange);
    if (worker_now_us(worker) < client->due_us) {
        io_timer_set(worker->loop, &client->timer, client->due_us);
        return;
    }
    if (client->exchange != NULL) {
        exchange_on_deadline(client->exchange);
        return;
    }
    if (client->state == CLIENT_OPEN && client->head_started) {
        worker_count(worker, PROXY_WORKER_HEAD_TIMEOUTS);
        client_reject(client, 408, "request head took too long");
        return;
    }
    if (client->state == CLIENT_OPEN)
        worker_count(worker, PROXY_WORKER_IDLE_CLOSED);
    client_close(client, false);
}

// ---- accepting ----

static struct client *client_create(struct worker *worker)
{
    struct client *client = free_list_get(&worker->free_clients, sizeof *client);
    if (client == NULL)
        return NULL;
    memset(client, 0, sizeof *client);
    client->worker = worker;
    io_timer_init(&client->timer, client_on_timer);
    list_push_back(&worker->clients, &client->link);
    return client;
}

static void client_refuse(struct client *client)
{
    client->refused = true;
    client->worker->clients_refusing++;
    struct io_buf *buf = io_buf_get(client->worker->loop);
    if (buf != NULL)
        put_local(client, buf, 503, "too many connections", false, false);
    client_linger(client);
}

void client_accept(struct worker *worker, int handle, const struct io_addr *peer)
{
    worker_count(worker, PROXY_WORKER_ACCEPTED);
    bool refuse = worker->clients_open >= worker->proxy->clients_max;
    struct client *client = NULL;
    if (worker->phase == PHASE_SERVE && (!refuse || worker->clients_refusing < REFUSE_CLIENTS_MAX))
        client = client_create(worker);
    if (client == NULL || refuse)
        worker_count(worker, PROXY_WORKER_REFUSED);
    if (client == NULL) {
        io_handle_close(worker->loop, handle);
        return;
    }
    char text[IO_ADDR_TEXT_BYTES];
    io_addr_format_host(peer, text);
    client->address_len = (uint8_t)strnlen(text, sizeof client->address);
    memcpy(client->address, text, client->address_len);
    io_stream_adopt(worker->loop, &client->stream, handle, &CLIENT_OPS);
    if (refuse) {
        client_refuse(client);
        return;
    }
    worker->clients_open++;
    uint64_t idle_us = worker->table != NULL ? worker->table->client_idle_us : 60000000;
    client_due(client, worker_now_us(worker) + idle_us);
}
