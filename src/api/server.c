// SPDX-License-Identifier: Apache-2.0
// The API's server: connections on the control loop, one request at a time each, bodies in bounded storage,
// event streams. A connection without a request holds no buffer. Slow peers are let go by timers and by what
// they leave unread.
#include <stdio.h>
#include <string.h>

#include "api/api_private.h"
#include "base/check.h"
#include "base/heap.h"
#include "http/http1.h"
#include "http/http1_write.h"

struct connection {
    struct io_stream stream;
    struct io_timer timer;
    struct api *api;
    struct list link;
    struct io_buf *held;
    struct http1_body body;
    char *body_bytes; // API_BODY_BYTES_MAX, heap, while a body is read
    size_t body_len;
    struct api_request request; // slices into `head`
    char *head;                 // copy of the request's head, heap, while a body is read
    bool in_body;
    bool keep_alive;
    bool head_only;
    bool streaming; // server-sent events
    bool finishing;
    bool closing;
    char subject[ROLLOUT_NAME_BYTES];
    uint64_t event_id;
    char from[IO_ADDR_TEXT_BYTES];
};

struct api {
    struct control *control;
    struct io_loop *loop;
    struct io_listener listener;
    struct io_timer progress;
    struct control_watcher watcher;
    struct list connections;
    uint32_t open;
    uint32_t subscribers;
    uint64_t heartbeat_us; // when the next one is due
    bool listening;
    struct http1_request parsed; // scratch
};

static void consume(struct connection *c);

// ---- connections ----

static void drop_request(struct connection *c)
{
    heap_free(c->head);
    heap_free(c->body_bytes);
    c->head = NULL;
    c->body_bytes = NULL;
    c->in_body = false;
}

static void close_connection(struct connection *c)
{
    if (c->closing)
        return;
    c->closing = true;
    c->api->subscribers -= c->streaming;
    io_timer_clear(c->api->loop, &c->timer);
    io_buf_put(c->held);
    c->held = NULL;
    drop_request(c);
    io_stream_close(&c->stream);
}

static void on_timer(struct io_timer *timer)
{
    close_connection(CONTAINER_OF(timer, struct connection, timer));
}

static void set_timer(struct connection *c, uint64_t ms)
{
    io_timer_set(c->api->loop, &c->timer, io_loop_now_us(c->api->loop) + ms * 1000);
}

// ---- sending ----

// Copies bytes into buffers and queues them; false when buffers ran out and the connection was closed.
static bool send_bytes(struct connection *c, const char *bytes, size_t len)
{
    while (len > 0) {
        struct io_buf *buf = io_buf_get(c->api->loop);
        if (buf == NULL) {
            close_connection(c);
            return false;
        }
        size_t n = len < IO_BUF_BYTES ? len : IO_BUF_BYTES;
        memcpy(buf->data, bytes, n);
        buf->end = (uint32_t)n;
        io_stream_send(&c->stream, buf);
        bytes += n;
        len -= n;
    }
    return true;
}

// Head and body apart, because a body may be larger than a buffer.
static bool send_answer(struct connection *c, const struct api_answer *answer)
{
    char head[512];
    struct text text = text_over(head, sizeof head);
    struct slice phrase = http_reason_phrase(answer->status);
    text_addf(&text, "HTTP/1.1 %u " SLICE_FMT "\r\n", answer->status, SLICE_ARG(phrase));
    text_addf(&text, "Content-Type: %s\r\n",
              answer->content_type != NULL ? answer->content_type : "text/plain");
    text_add(&text, SLICE("Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"));
    if (answer->allow != NULL)
        text_addf(&text, "Allow: %s\r\n", answer->allow);
    if (answer->stream == API_STREAM_NONE)
        text_addf(&text, "Content-Length: %zu\r\n", answer->body_len);
    if (!c->keep_alive)
        text_add(&text, SLICE("Connection: close\r\n"));
    text_add(&text, SLICE("\r\n"));
    CHECK(!text.cut);
    if (!send_bytes(c, head, text.len))
        return false;
    return c->head_only || send_bytes(c, answer->body, answer->body_len);
}

// After the last answer: our direction ends, what the peer still sends is read and dropped until it closes.
static void finish(struct connection *c)
{
    c->finishing = true;
    io_stream_finish(&c->stream);
    set_timer(c, 2000);
}

// ---- event streams ----

static void send_event(struct connection *c, const char *type, json_t *data)
{
    size_t len = 0;
    char *json = api_json_text(data, &len);
    if (json == NULL)
        return;
    char line[96];
    int n =
        snprintf(line, sizeof line, "id: %llu\nevent: %s\ndata: ", (unsigned long long)++c->event_id, type);
    if (send_bytes(c, line, (size_t)n) && send_bytes(c, json, len) && send_bytes(c, "\n\n", 2) &&
        io_stream_pending(&c->stream) > API_PENDING_BYTES_MAX)
        close_connection(c);
    heap_free(json);
}

static void send_state(struct connection *c, const char *type)
{
    int index = control_rollout_find(c->api->control, c->subject);
    if (index < 0)
        close_connection(c);
    else
        send_event(c, type, api_json_rollout(c->api->control, (uint32_t)index));
}

static void begin_stream(struct connection *c, const struct api_answer *answer)
{
    static const struct api_answer BUSY = {.status = 503, .content_type = "text/plain"};
    if (c->api->subscribers == API_SUBSCRIBERS_MAX) {
        (void)send_answer(c, &BUSY);
        finish(c);
        return;
    }
    c->keep_alive = false;
    if (!send_answer(c, answer))
        return;
    if (c->head_only) {
        finish(c);
        return;
    }
    c->streaming = true;
    c->api->subscribers++;
    memcpy(c->subject, answer->subject, sizeof c->subject);
    io_timer_clear(c->api->loop, &c->timer);
    send_state(c, "state");
}

static void on_decided(struct control_watcher *watcher, const char *name,
                       const struct control_decision *decision)
{
    struct api *api = CONTAINER_OF(watcher, struct api, watcher);
    for (struct list *node = api->connections.next; node != &api->connections; node = node->next) {
        struct connection *c = CONTAINER_OF(node, struct connection, link);
        if (!c->closing && c->streaming && strcmp(c->subject, name) == 0)
            send_event(c, "decision", api_json_decision(name, decision));
    }
}

// Each second the present state of every watched rollout; between them a comment that keeps middleboxes
// awake.
static void on_progress(struct io_timer *timer)
{
    struct api *api = CONTAINER_OF(timer, struct api, progress);
    uint64_t now = io_loop_now_us(api->loop);
    bool beat = now >= api->heartbeat_us;
    for (struct list *node = api->connections.next; node != &api->connections; node = node->next) {
        struct connection *c = CONTAINER_OF(node, struct connection, link);
        if (!c->closing && c->streaming && beat)
            (void)send_bytes(c, ": still here\n\n", 14);
        if (!c->closing && c->streaming)
            send_state(c, "state");
    }
    if (beat)
        api->heartbeat_us = now + (uint64_t)API_HEARTBEAT_MS * 1000;
    io_timer_set(api->loop, &api->progress, now + (uint64_t)API_PROGRESS_MS * 1000);
}

// ---- requests ----

static void refuse(struct connection *c, unsigned status, const char *sentence)
{
    struct api_answer answer = {.status = status, .content_type = "text/plain", .body_len = strlen(sentence)};
    c->keep_alive = false;
    c->head_only = false;
    char copy[160];
    snprintf(copy, sizeof copy, "%s", sentence);
    answer.body = copy;
    if (send_answer(c, &answer))
        finish(c);
}

static void answer_request(struct connection *c)
{
    struct api_answer answer;
    c->request.body = (struct slice){c->body_bytes != NULL ? c->body_bytes : "", c->body_len};
    c->request.from = c->from;
    api_handle(c->api->control, &c->request, &answer);
    drop_request(c);
    set_timer(c, API_IDLE_MS_MAX);
    if (answer.stream == API_STREAM_EVENTS)
        begin_stream(c, &answer);
    else if (send_answer(c, &answer) && !c->keep_alive)
        finish(c);
    heap_free(answer.body);
}

static void note_request(struct connection *c)
{
    const struct http1_request *r = &c->api->parsed;
    const struct http_field *origin = http_fields_find(&r->fields, HTTP_FIELD_ORIGIN);
    const struct http_field *site = http_fields_find_name(&r->fields, SLICE("sec-fetch-site"));
    const struct http_field *who = http_fields_find_name(&r->fields, SLICE("x-sluice-who"));
    bool foreign = site != NULL && !slice_equal(site->value, SLICE("same-origin")) &&
                   !slice_equal(site->value, SLICE("none"));
    c->request = (struct api_request){
        .method = r->method,
        .path = r->path,
        .query = r->query,
        .host = r->authority,
        .who = who != NULL ? who->value : (struct slice){"", 0},
        .cross_site = origin != NULL || foreign,
    };
    c->keep_alive = r->keep_alive;
    c->head_only = r->method_id == HTTP_METHOD_HEAD;
    http1_body_init(&c->body, (enum http_framing)r->framing, r->content_length, NULL, NULL, 0);
    c->body_len = 0;
}

static bool send_continue(struct connection *c)
{
    static const char LINE[] = "HTTP/1.1 100 Continue\r\n\r\n";
    return send_bytes(c, LINE, sizeof LINE - 1);
}

// Reads a head. The head is copied when a body follows, because the buffer moves on.
static bool read_head(struct connection *c)
{
    struct http1_request *r = &c->api->parsed;
    size_t len = 0;
    enum http1_reject why;
    const char *data = (const char *)c->held->data + c->held->start;
    size_t have = io_buf_len(c->held);
    enum status status = http1_request_parse(data, have, NULL, r, &len, &why);
    if (status == STATUS_AGAIN)
        return false;
    if (status != STATUS_OK) {
        refuse(c, http1_reject_status(why), http1_reject_text(why));
        return false;
    }
    c->head = heap_alloc(1, len);
    c->body_bytes = r->framing != HTTP_FRAMING_NONE ? heap_alloc(1, API_BODY_BYTES_MAX) : NULL;
    if (c->head == NULL || (r->framing != HTTP_FRAMING_NONE && c->body_bytes == NULL)) {
        refuse(c, 503, "no memory\n");
        return false;
    }
    memcpy(c->head, data, len);
    // The copy parses as the original did; its slices live as long as the request.
    status = http1_request_parse(c->head, len, NULL, r, &len, &why);
    CHECK(status == STATUS_OK);
    c->held->start += (uint32_t)len;
    note_request(c);
    c->in_body = true;
    set_timer(c, API_REQUEST_MS_MAX);
    return !r->expect_continue || send_continue(c);
}

// True when the body is whole.
static bool read_body(struct connection *c)
{
    while (!c->body.done) {
        size_t used = 0;
        struct slice payload = {"", 0};
        enum status status = http1_body_next(&c->body, (const char *)c->held->data + c->held->start,
                                             io_buf_len(c->held), &used, &payload);
        if (status != STATUS_OK && status != STATUS_AGAIN) {
            refuse(c, http1_reject_status((enum http1_reject)c->body.reject),
                   "the body's framing is broken\n");
            return false;
        }
        if (payload.len > API_BODY_BYTES_MAX - c->body_len) {
            refuse(c, 413, "the body is too large\n");
            return false;
        }
        if (payload.len > 0)
            memcpy(c->body_bytes + c->body_len, payload.data, payload.len);
        c->body_len += payload.len;
        c->held->start += (uint32_t)used;
        if (status == STATUS_AGAIN)
            return false;
    }
    return true;
}

static bool ready_for_more(const struct connection *c)
{
    return c->held != NULL && !c->closing && !c->finishing && !c->streaming;
}

static void consume(struct connection *c)
{
    while (ready_for_more(c) && io_buf_len(c->held) + (c->in_body ? 1 : 0) > 0) {
        if (!c->in_body && !read_head(c))
            break;
        if (!read_body(c))
            break;
        answer_request(c);
    }
    if (c->held != NULL && (c->finishing || c->streaming || io_buf_len(c->held) == 0)) {
        io_buf_put(c->held);
        c->held = NULL;
    }
}

// ---- the stream's events ----

static void on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct connection *c = CONTAINER_OF(stream, struct connection, stream);
    if (c->closing || c->finishing || c->streaming) {
        io_buf_put(buf);
        return;
    }
    if (c->held == NULL && !c->in_body)
        set_timer(c, API_REQUEST_MS_MAX);
    if (io_buf_join(&c->held, buf) != STATUS_OK) {
        refuse(c, 431, "the head is too large\n");
        return;
    }
    consume(c);
}

static void on_end(struct io_stream *stream, enum status status)
{
    (void)status;
    close_connection(CONTAINER_OF(stream, struct connection, stream));
}

static void on_closed(struct io_stream *stream)
{
    struct connection *c = CONTAINER_OF(stream, struct connection, stream);
    list_remove(&c->link);
    c->api->open--;
    heap_free(c);
}

static void on_open(struct io_stream *stream, enum status status)
{
    (void)stream;
    (void)status;
}

static const struct io_stream_ops STREAM_OPS = {
    .on_open = on_open, .on_data = on_data, .on_end = on_end, .on_closed = on_closed};

static void on_accept(struct io_listener *listener, int handle, const struct io_addr *peer)
{
    struct api *api = CONTAINER_OF(listener, struct api, listener);
    struct connection *c = api->open < API_CONNECTIONS_MAX ? heap_alloc(1, sizeof *c) : NULL;
    if (c == NULL) {
        io_handle_close(api->loop, handle);
        return;
    }
    c->api = api;
    api->open++;
    io_addr_format(peer, c->from);
    io_timer_init(&c->timer, on_timer);
    list_push_back(&api->connections, &c->link);
    io_stream_adopt(api->loop, &c->stream, handle, &STREAM_OPS);
    set_timer(c, API_IDLE_MS_MAX);
}

// ---- life ----

enum status api_create(struct control *control, const struct io_addr *addr, struct api **out)
{
    struct api *api = heap_alloc(1, sizeof *api);
    if (api == NULL)
        return STATUS_NO_MEMORY;
    api->control = control;
    api->loop = control_loop(control);
    list_init(&api->connections);
    api->listener.on_accept = on_accept;
    enum status status = io_listener_open(api->loop, &api->listener, addr, false);
    if (status != STATUS_OK) {
        heap_free(api);
        return status;
    }
    api->listening = true;
    api->watcher.decided = on_decided;
    control_watch(control, &api->watcher);
    io_timer_init(&api->progress, on_progress);
    io_timer_set(api->loop, &api->progress, io_loop_now_us(api->loop) + (uint64_t)API_PROGRESS_MS * 1000);
    *out = api;
    return STATUS_OK;
}

void api_addr(const struct api *api, struct io_addr *addr)
{
    io_listener_addr(&api->listener, addr);
}

void api_close(struct api *api)
{
    if (!api->listening)
        return;
    api->listening = false;
    io_listener_close(&api->listener);
    io_timer_clear(api->loop, &api->progress);
    control_unwatch(&api->watcher);
    for (struct list *node = api->connections.next; node != &api->connections; node = node->next)
        close_connection(CONTAINER_OF(node, struct connection, link));
}

bool api_closed(const struct api *api)
{
    return !api->listening && api->open == 0;
}

void api_destroy(struct api *api)
{
    CHECK(api_closed(api));
    heap_free(api);
}
