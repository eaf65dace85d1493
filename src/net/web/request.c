// SPDX-License-Identifier: Apache-2.0
// Bytes in. A request that fits a receive buffer is answered where it lies; only a body that does not, or one
// in chunks, is gathered on the heap, in storage that grows with what really comes.
#include <string.h>

#include "base/heap.h"
#include "net/web/web_private.h"

enum step {
    STEP_ON,   // answered, or refused: the state says
    STEP_MORE, // bytes are missing
};

static bool reads(const struct web_connection *c)
{
    return c->state == WEB_IDLE || c->state == WEB_REQUEST;
}

// Moves what it can from `more` behind `held`. False when there is nothing.
static bool pull(struct web_connection *c)
{
    struct io_buf *held = c->held;
    struct io_buf *more = c->more;
    if (more == NULL)
        return false;
    if (held == NULL || io_buf_len(held) == 0) {
        io_buf_put(held);
        c->held = more;
        c->more = NULL;
        return true;
    }
    uint32_t have = io_buf_len(held);
    if (held->start > 0)
        memmove(held->data, held->data + held->start, have);
    held->start = 0;
    held->end = have;
    // A head is refused and a body gathered before a buffer is full.
    CHECK(io_buf_room(held) > 0);
    uint32_t n = io_buf_len(more) < io_buf_room(held) ? io_buf_len(more) : io_buf_room(held);
    memcpy(held->data + have, more->data + more->start, n);
    held->end += n;
    more->start += n;
    if (io_buf_len(more) == 0) {
        io_buf_put(more);
        c->more = NULL;
    }
    return true;
}

// ---- answering ----

// Of a page of another origin, as browsers say it (Fetch, "Sec-Fetch-Site"; RFC 6454 7).
static bool is_cross_site(const struct http_fields *fields)
{
    if (http_fields_find(fields, HTTP_FIELD_ORIGIN) != NULL)
        return true;
    const struct http_field *site = http_fields_find_name(fields, SLICE("sec-fetch-site"));
    return site != NULL && !slice_equal(site->value, SLICE("same-origin")) &&
           !slice_equal(site->value, SLICE("none"));
}

static struct web_request request_of(const struct web_connection *c)
{
    const struct http_request *r = &c->web->parsed;
    return (struct web_request){
        .method = r->method,
        .path = r->path,
        .query = r->query.data != NULL ? r->query : (struct slice){"", 0},
        .body = {"", 0},
        .host = r->authority,
        .fields = &r->fields,
        .cross_site = is_cross_site(&r->fields),
        .from = c->from,
        .from_host = c->from_host,
        .now_us = io_loop_now_us(c->web->loop),
        .wall_ms = io_loop_wall_ms(c->web->loop),
    };
}

static void tell_closed(struct web_connection *c, void *subject)
{
    if (c->web->handler.closed != NULL)
        c->web->handler.closed(c->web->handler.context, NULL, subject);
}

static void begin_stream(struct web_connection *c, const struct web_answer *answer)
{
    struct web *web = c->web;
    if (web->stats.streams >= web->limits.streams) {
        web_refuse(c, 503, "too many streams are open\n");
        tell_closed(c, answer->subject);
        return;
    }
    c->keep_alive = false;
    if (!web_answer_send(c, answer) || c->head_only) {
        web_connection_finish(c);
        tell_closed(c, answer->subject);
        return;
    }
    web_input_drop(c);
    c->state = WEB_STREAM;
    c->opened = true;
    c->subject = answer->subject;
    web->stats.streams++;
    io_timer_clear(web->loop, &c->timer);
    web_out_flush(c, false);
    if (web->handler.opened != NULL)
        web->handler.opened(web->handler.context, c, answer->subject);
}

static void answer_request(struct web_connection *c, const struct web_request *request)
{
    struct web *web = c->web;
    struct web_answer answer = {0};
    if (UNLIKELY(web->memory > web->limits.memory_bytes)) {
        web_refuse(c, 503, "too much is under way; try again soon\n");
        return;
    }
    c->need = 0;
    c->continued = false;
    web->stats.requests++;
    web->handler.handle(web->handler.context, request, &answer);
    c->state = c->state == WEB_REQUEST ? WEB_IDLE : c->state;
    web_deadline_set(c, web->limits.idle_ms);
    if (UNLIKELY(c->state == WEB_CLOSING)) {
        if (answer.stream)
            tell_closed(c, answer.subject);
    } else if (UNLIKELY(answer.stream)) {
        begin_stream(c, &answer);
    } else if (web_answer_send(c, &answer) && !c->keep_alive) {
        web_connection_finish(c);
    }
    heap_free(answer.release);
}

// The request's bytes stay where they are until it is answered.
static void answer_in_place(struct web_connection *c, const struct web_request *request, uint32_t bytes)
{
    answer_request(c, request);
    if (c->held != NULL)
        c->held->start += bytes;
}

// ---- bodies on the heap ----

static void forget_body(struct web_connection *c)
{
    c->web->memory -= c->body_cap;
    heap_free(c->head);
    heap_free(c->body);
    c->head = NULL;
    c->body = NULL;
    c->body_len = 0;
    c->body_cap = 0;
    c->in_body = false;
}

void web_input_drop(struct web_connection *c)
{
    io_buf_put(c->held);
    io_buf_put(c->more);
    c->held = NULL;
    c->more = NULL;
    c->need = 0;
    forget_body(c);
}

// Room for that much more of the body, at most body_max in all.
static bool body_grow(struct web_connection *c, size_t bytes)
{
    struct web *web = c->web;
    size_t wanted = c->body_len + bytes;
    if (wanted <= c->body_cap)
        return true;
    size_t cap = c->body_cap > 0 ? (size_t)c->body_cap * 2 : WEB_BODY_STEP_BYTES;
    cap = cap < wanted ? wanted : cap;
    cap = cap > c->body_max ? c->body_max : cap;
    size_t growth = cap - c->body_cap;
    if (web->memory + growth > web->limits.memory_bytes)
        return false;
    char *body = heap_resize(c->body, cap);
    if (body == NULL)
        return false;
    c->body = body;
    c->body_cap = (uint32_t)cap;
    web->memory += growth;
    return true;
}

static bool body_keep(struct web_connection *c, struct slice payload)
{
    if (payload.len > c->body_max - c->body_len) {
        web_refuse(c, 413, "the body is too large\n");
        return false;
    }
    if (!body_grow(c, payload.len)) {
        web_refuse(c, 503, "no memory for the body; try again soon\n");
        return false;
    }
    if (payload.len > 0)
        memcpy(c->body + c->body_len, payload.data, payload.len);
    c->body_len += (uint32_t)payload.len;
    return true;
}

// The head is copied, because its buffer moves on; it parses as it did.
static enum step begin_body(struct web_connection *c, size_t head_len)
{
    const struct http_request *r = &c->web->parsed;
    c->head = heap_alloc(1, head_len);
    if (c->head == NULL) {
        web_refuse(c, 503, "no memory for the body; try again soon\n");
        return STEP_ON;
    }
    memcpy(c->head, c->held->data + c->held->start, head_len);
    c->head_len = (uint32_t)head_len;
    c->held->start += (uint32_t)head_len;
    if (r->framing == HTTP_FRAMING_LENGTH)
        c->body_max = (uint32_t)r->content_length; // storage need not be larger
    http1_body_init(&c->framing, (enum http_framing)r->framing, r->content_length, NULL, NULL, 0);
    c->in_body = true;
    return STEP_ON;
}

static void answer_gathered(struct web_connection *c)
{
    size_t len;
    enum http1_reject why;
    enum status status = http1_request_parse(c->head, c->head_len, NULL, &c->web->parsed, &len, &why);
    CHECK(status == STATUS_OK);
    struct web_request request = request_of(c);
    if (c->body_len > 0)
        request.body = (struct slice){c->body, c->body_len};
    answer_request(c, &request);
    forget_body(c);
}

static enum step read_body(struct web_connection *c)
{
    while (!c->framing.done) {
        size_t used = 0;
        struct slice payload = {"", 0};
        struct io_buf *held = c->held;
        enum status status = http1_body_next(&c->framing, (const char *)held->data + held->start,
                                             io_buf_len(held), &used, &payload);
        if (status != STATUS_OK && status != STATUS_AGAIN) {
            web_refuse(c, http1_reject_status((enum http1_reject)c->framing.reject),
                       "the body's framing is broken\n");
            return STEP_ON;
        }
        if (!body_keep(c, payload))
            return STEP_ON;
        held->start += (uint32_t)used;
        if (status == STATUS_AGAIN)
            return STEP_MORE;
    }
    answer_gathered(c);
    return STEP_ON;
}

// ---- heads ----

static uint32_t body_limit(const struct web_connection *c, const struct web_request *request)
{
    const struct web *web = c->web;
    uint32_t limit = web->limits.body_bytes;
    if (web->handler.body_bytes_max == NULL)
        return limit;
    uint32_t own = web->handler.body_bytes_max(web->handler.context, request);
    return own < limit ? own : limit;
}

// A request with a body; its head is parsed. In place when all of it fits a buffer.
static enum step read_with_body(struct web_connection *c, struct web_request *request, size_t head_len)
{
    const struct http_request *r = &c->web->parsed;
    bool sized = r->framing == HTTP_FRAMING_LENGTH;
    c->body_max = body_limit(c, request);
    if (sized && r->content_length > c->body_max) {
        web_refuse(c, 413, "the body is too large\n");
        return STEP_ON;
    }
    size_t have = io_buf_len(c->held) - head_len;
    bool whole = sized && r->content_length <= have;
    if (!whole && have == 0 && r->expect_continue && !c->continued) {
        c->continued = true;
        if (!web_out_add(c, SLICE("HTTP/1.1 100 Continue\r\n\r\n")))
            return STEP_ON;
    }
    if (!sized || head_len + r->content_length > IO_BUF_BYTES)
        return begin_body(c, head_len);
    uint32_t need = (uint32_t)(head_len + r->content_length);
    if (!whole) {
        c->need = need;
        return STEP_MORE;
    }
    const char *body = (const char *)c->held->data + c->held->start + head_len;
    request->body = (struct slice){body, (size_t)r->content_length};
    answer_in_place(c, request, need);
    return STEP_ON;
}

static enum step read_request(struct web_connection *c)
{
    struct http_request *r = &c->web->parsed;
    size_t head_len = 0;
    enum http1_reject why;
    if (io_buf_len(c->held) < c->need)
        return STEP_MORE;
    enum status status = http1_request_parse((const char *)c->held->data + c->held->start,
                                             io_buf_len(c->held), NULL, r, &head_len, &why);
    if (status == STATUS_AGAIN)
        return STEP_MORE;
    if (UNLIKELY(status != STATUS_OK)) {
        web_refuse(c, http1_reject_status(why), http1_reject_text(why));
        return STEP_ON;
    }
    c->keep_alive = r->keep_alive;
    c->say_keep_alive = r->version_minor == 0;
    c->head_only = r->method_id == HTTP_METHOD_HEAD;
    struct web_request request = request_of(c);
    if (r->framing != HTTP_FRAMING_NONE)
        return read_with_body(c, &request, head_len);
    answer_in_place(c, &request, (uint32_t)head_len);
    return STEP_ON;
}

// ---- the loop ----

// The peer does not take its answers: it is not listened to until it does.
static void stall(struct web_connection *c)
{
    c->stalled = true;
    io_stream_pause(&c->stream);
    web_deadline_set(c, c->web->limits.idle_ms);
}

static bool has_input(struct web_connection *c)
{
    return (c->held != NULL && io_buf_len(c->held) > 0) || pull(c);
}

static void settle(struct web_connection *c)
{
    if (c->held != NULL && io_buf_len(c->held) == 0) {
        io_buf_put(c->held);
        c->held = NULL;
    }
    if ((c->held != NULL || c->in_body) && c->state == WEB_IDLE && !c->stalled) {
        c->state = WEB_REQUEST;
        web_deadline_set(c, c->web->limits.request_ms);
    }
}

void web_consume(struct web_connection *c)
{
    while (reads(c) && has_input(c)) {
        if (UNLIKELY(web_unsent(c) >= WEB_UNSENT_BYTES_MAX)) {
            stall(c);
            break;
        }
        enum step step = c->in_body ? read_body(c) : read_request(c);
        if (step == STEP_MORE && io_buf_len(c->held) > 0 && !pull(c))
            break;
    }
    if (c->state == WEB_CLOSING)
        return;
    settle(c);
    web_out_flush(c, false);
    web_unsent_count(c);
}

void web_take(struct web_connection *c, struct io_buf *buf)
{
    CHECK(c->more == NULL);
    c->more = buf;
    web_consume(c);
}
