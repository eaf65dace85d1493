// SPDX-License-Identifier: Apache-2.0
// Requests: the module as a handler of the server. A body that came whole with its head is answered where it
// lies. Any other is gathered: in a buffer if it fits one with its head, else on the heap, in storage that
// grows with what really comes.
#include <string.h>

#include "base/heap.h"
#include "net/web/web_private.h"

static void refuse(struct server_stream *stream, unsigned status, const char *sentence)
{
    web_of(stream)->stats.refused++;
    web_refuse(stream, status, sentence);
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

static struct web_request request_of(struct server_stream *stream, const struct http_request *r)
{
    const struct web *web = web_of(stream);
    return (struct web_request){
        .method = r->method,
        .path = r->path,
        .query = r->query.data != NULL ? r->query : (struct slice){"", 0},
        .body = {"", 0},
        .host = r->authority,
        .fields = &r->fields,
        .http2 = r->http2,
        .cross_site = is_cross_site(&r->fields),
        .from = server_from(stream),
        .from_host = server_from_host(stream),
        .begun_us = server_begun_us(stream),
        .now_us = io_loop_now_us(web->loop),
        .wall_ms = io_loop_wall_ms(web->loop),
    };
}

// In the words of the handler, where it has some.
static void refuse_request(struct server_stream *stream, const struct web_request *request, unsigned status,
                           const char *sentence)
{
    struct web *web = web_of(stream);
    struct web_answer answer = {0};
    if (web->handler.refuse == NULL ||
        !web->handler.refuse(web->handler.context, request, status, sentence, &answer)) {
        refuse(stream, status, sentence);
        return;
    }
    web->stats.refused++;
    if (web_answer_send(stream, &answer, false, true))
        server_end(stream);
}

static void answer(struct server_stream *stream, const struct web_request *request, bool head_only)
{
    struct web *web = web_of(stream);
    struct web_answer answer = {0};
    if (UNLIKELY(web_memory(web) > web->limits.memory_bytes)) {
        refuse_request(stream, request, 503, "too much is under way; try again soon\n");
        return;
    }
    web->stats.requests++;
    web->answering = stream;
    web->handler.handle(web->handler.context, request, &answer);
    bool gone = web->answering == NULL; // the handler closed the server
    web->answering = NULL;
    if (UNLIKELY(answer.stream && gone)) {
        if (web->handler.closed != NULL)
            web->handler.closed(web->handler.context, NULL, answer.subject);
    } else if (UNLIKELY(answer.stream)) {
        web_stream_begin(stream, &answer, head_only);
    } else if (!gone && web_answer_send(stream, &answer, head_only, false)) {
        server_end(stream);
    }
    heap_free(answer.release);
}

// ---- bodies ----

static void forget(struct web_connection *c)
{
    c->web->memory -= c->counted;
    if (c->buf != NULL) {
        io_buf_put(c->buf); // c itself lies in it
        return;
    }
    heap_free(c->head);
    heap_free(c->body);
    heap_free(c);
}

static char *align(void *at)
{
    return (char *)(((uintptr_t)at + _Alignof(max_align_t) - 1) & ~(uintptr_t)(_Alignof(max_align_t) - 1));
}

// Everything in one buffer, which is no larger than the one the request would have waited in. NULL: too
// large, or no buffer.
static struct web_connection *gather_in_buf(struct web *web, const struct http_request *r)
{
    const size_t object = (sizeof(struct web_connection) + 15) & ~(size_t)15;
    size_t head = http_request_copy_bytes(r);
    if (r->framing != HTTP_FRAMING_LENGTH ||
        head + r->content_length > IO_BUF_BYTES - object - _Alignof(max_align_t))
        return NULL;
    struct io_buf *buf = io_buf_get(web->loop);
    if (buf == NULL)
        return NULL;
    char *at = align(buf->data);
    struct web_connection *c = (struct web_connection *)(void *)at;
    *c = (struct web_connection){.buf = buf, .body = at + object + head};
    c->head = http_request_copy(r, at + object);
    c->body_cap = (uint32_t)r->content_length;
    return c;
}

static struct web_connection *gather_on_heap(const struct http_request *r)
{
    struct web_connection *c = heap_alloc(1, sizeof *c);
    void *head = c != NULL ? heap_alloc(1, http_request_copy_bytes(r)) : NULL;
    if (head == NULL) {
        heap_free(c);
        return NULL;
    }
    c->head = http_request_copy(r, head);
    return c;
}

static struct web_connection *gather(struct server_stream *stream, const struct http_request *r,
                                     uint32_t body_max)
{
    struct web *web = web_of(stream);
    struct web_connection *c = gather_in_buf(web, r);
    if (c == NULL)
        c = gather_on_heap(r);
    if (c == NULL)
        return NULL;
    c->web = web;
    c->stream = stream;
    // Storage need not be larger than what was announced.
    c->body_max = r->framing == HTTP_FRAMING_LENGTH ? (uint32_t)r->content_length : body_max;
    return c;
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
    if (web_memory(web) + growth > web->limits.memory_bytes)
        return false;
    char *body = heap_resize(c->body, cap);
    if (body == NULL)
        return false;
    c->body = body;
    c->body_cap = (uint32_t)cap;
    c->counted += (uint32_t)growth;
    web->memory += growth;
    return true;
}

static void refuse_gathered(struct web_connection *c, unsigned status, const char *sentence)
{
    struct server_stream *stream = c->stream;
    struct web_request request = request_of(stream, c->head);
    stream->subject = NULL;
    refuse_request(stream, &request, status, sentence);
    forget(c);
}

static void body_keep(struct web_connection *c, struct slice run)
{
    if (run.len > c->body_max - c->body_len) {
        refuse_gathered(c, 413, "the body is too large\n");
        return;
    }
    if (!body_grow(c, run.len)) {
        refuse_gathered(c, 503, "no memory for the body; try again soon\n");
        return;
    }
    memcpy(c->body + c->body_len, run.data, run.len);
    c->body_len += (uint32_t)run.len;
}

static uint32_t body_limit(const struct web *web, const struct web_request *request)
{
    uint32_t limit = web->limits.body_bytes;
    if (web->handler.body_bytes_max == NULL)
        return limit;
    uint32_t own = web->handler.body_bytes_max(web->handler.context, request);
    return own < limit ? own : limit;
}

static bool send_continue(struct server_stream *stream)
{
    struct http_response *response = &web_of(stream)->response;
    response->status = 100;
    response->reason = http_reason_phrase(100);
    response->framing = HTTP_FRAMING_NONE;
    response->has_content_length = false;
    response->fields.count = 0;
    return server_head(stream, response, NULL) == STATUS_OK;
}

static void begin_body(struct server_stream *stream, struct http_request *r)
{
    struct web *web = web_of(stream);
    struct web_request request = request_of(stream, r);
    uint32_t at_hand = server_at_hand(stream);
    uint32_t limit = body_limit(web, &request);
    bool sized = r->framing == HTTP_FRAMING_LENGTH;
    if (sized && r->content_length > limit) {
        refuse_request(stream, &request, 413, "the body is too large\n");
        return;
    }
    if (sized && r->content_length <= at_hand) {
        web->present = r;
        return;
    }
    stream->subject = gather(stream, r, limit);
    if (stream->subject == NULL) {
        refuse_request(stream, &request, 503, "no memory for the body; try again soon\n");
        return;
    }
    server_due(stream, server_begun_us(stream) + (uint64_t)web->limits.request_ms * 1000);
    if (at_hand == 0 && r->expect_continue && !send_continue(stream))
        refuse_gathered(stream->subject, 503, "no memory for the body; try again soon\n");
}

// ---- the server's events ----

static void on_request(struct server_stream *stream, struct http_request *r)
{
    if (r->framing == HTTP_FRAMING_CHUNKED || r->content_length > 0) {
        begin_body(stream, r);
        return;
    }
    struct web_request request = request_of(stream, r);
    answer(stream, &request, r->method_id == HTTP_METHOD_HEAD);
}

static void on_data(struct server_stream *stream, struct slice run, struct io_buf **buf)
{
    (void)buf;
    if (stream->subject != NULL) {
        body_keep(stream->subject, run);
        return;
    }
    const struct http_request *r = web_of(stream)->present;
    struct web_request request = request_of(stream, r);
    request.body = run;
    answer(stream, &request, r->method_id == HTTP_METHOD_HEAD);
}

static void on_ended(struct server_stream *stream, struct http_fields *trailers)
{
    (void)trailers;
    struct web_connection *c = stream->subject;
    if (c->open) // answered where its body lay, and a stream since
        return;
    struct web_request request = request_of(stream, c->head);
    if (c->body_len > 0)
        request.body = (struct slice){c->body, c->body_len};
    stream->subject = NULL;
    answer(stream, &request, c->head->method_id == HTTP_METHOD_HEAD);
    forget(c);
}

// Of an open stream: every other has been answered by then. Who is subscribed is not left waiting.
static void on_half_closed(struct server_stream *stream)
{
    web_stream_leave(stream->subject);
    server_end(stream);
}

// Of a request whose body is gathered: nothing else has a time.
static void on_due(struct server_stream *stream)
{
    CHECK(!((const struct web_connection *)stream->subject)->open);
    refuse_gathered(stream->subject, 408, "the request took too long\n");
}

static void on_gone(struct server_stream *stream)
{
    struct web *web = web_of(stream);
    struct web_connection *c = stream->subject;
    if (web->answering == stream)
        web->answering = NULL;
    else if (c->open)
        web_stream_leave(c);
    else
        forget(c);
}

static void on_refused(struct server_stream *stream, enum server_refusal refusal, unsigned status,
                       const char *why)
{
    switch (refusal) {
    case SERVER_REFUSAL_CROWDED: // counted with those that are not told
        web_refuse(stream, status, "too many connections\n");
        return;
    case SERVER_REFUSAL_BODY:
        refuse_gathered(stream->subject, status, "the body's framing is broken\n");
        return;
    case SERVER_REFUSAL_STARVED:
        refuse(stream, status, "no memory for the body; try again soon\n");
        return;
    case SERVER_REFUSAL_LATE:
        refuse(stream, status, "the request took too long\n");
        return;
    case SERVER_REFUSAL_MALFORMED:
        refuse(stream, status, why);
        return;
    case SERVER_REFUSAL_PROXY: // none is asked for
        return;
    }
}

// Whose loop decides first has clients take turns, request by request; that is HTTP/1's.
static bool on_http2(struct server *server, uint32_t listener, const struct io_stream *stream)
{
    (void)listener;
    (void)stream;
    return !server->limits.rests;
}

static void on_note(struct server *server, enum server_note note)
{
    if (note == SERVER_NOTE_CROWDED)
        CONTAINER_OF(server, struct web, server)->stats.refused++;
}

const struct server_handler WEB_HANDLER = {.http2 = on_http2,
                                           .request = on_request,
                                           .data = on_data,
                                           .ended = on_ended,
                                           .half_closed = on_half_closed,
                                           .due = on_due,
                                           .gone = on_gone,
                                           .refused = on_refused,
                                           .note = on_note};
