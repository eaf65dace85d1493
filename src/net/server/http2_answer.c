// SPDX-License-Identifier: Apache-2.0
// Answers of HTTP/2 out. A body waits in its stream until the client's windows and the socket take it, so
// what one client does not take of one stream holds up no other.
#include "base/text.h"
#include "net/http/http1_write.h"
#include "net/server/http2_private.h"

enum {
    FIELDS_MAX = HTTP_FIELDS_MAX + 16,
    DECIMAL_BYTES = 20,
    ANSWER_ROOM_BYTES = 36000, // of a head, names and values: as much as HTTP/1 can answer
};

// ---- frames into buffers ----

static void unqueue(struct http2_stream *s, uint32_t bytes)
{
    s->queued -= bytes;
    s->stream.server->unsent -= bytes;
}

int http2_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header, size_t len,
                    nghttp2_data_source *source, void *user)
{
    (void)session;
    (void)frame;
    struct http2 *h = user;
    struct connection *c = h->connection;
    struct http2_stream *s = source->ptr;
    if (!http2_put_data(&c->out, c->io.loop, header, &s->out, len))
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    unqueue(s, (uint32_t)len);
    s->sent += len;
    return 0;
}

void http2_drop_queue(struct http2_stream *s)
{
    io_chain_put(&s->out);
    unqueue(s, s->queued);
    io_buf_put(s->trailers);
    s->trailers = NULL;
}

void http2_pump(struct http2 *h)
{
    struct connection *c = h->connection;
    const uint8_t *bytes;
    ssize_t len = 0;
    if (h->broken || c->state == CONNECTION_CLOSED)
        return;
    while (connection_unsent(c) < HTTP2_OUT_HIGH && (len = nghttp2_session_mem_send(h->session, &bytes)) > 0)
        if (!http2_put_frame(&c->out, c->io.loop, bytes, (size_t)len))
            len = NGHTTP2_ERR_NOMEM;
    h->broken = len < 0;
    connection_flush(c, true);
}

// ---- heads ----

struct fields {
    nghttp2_nv items[FIELDS_MAX];
    size_t count;
    size_t bytes;
    char number[DECIMAL_BYTES];
    char status[3];
};

static void put_field(struct fields *fields, struct slice name, struct slice value)
{
    CHECK(fields->count < FIELDS_MAX);
    fields->items[fields->count++] = http2_field(name, value);
    fields->bytes += name.len + value.len;
}

// In decimal, at the end of its storage.
static struct slice number_in(char *storage, size_t size, uint64_t number)
{
    size_t at = size;
    do {
        storage[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return (struct slice){storage + at, size - at};
}

static void put_status(struct fields *fields, unsigned status)
{
    fields->count = 0;
    fields->bytes = 0;
    put_field(fields, SLICE(":status"), number_in(fields->status, sizeof fields->status, status));
}

static void put_length(struct fields *fields, uint64_t length)
{
    put_field(fields, SLICE("content-length"), number_in(fields->number, sizeof fields->number, length));
}

// What an answer of HTTP/1 says of its connection, or what is said anew.
static bool goes_on(const struct http_field *field, bool tunnel)
{
    bool ours = field->id == HTTP_FIELD_CONTENT_LENGTH || field->id == HTTP_FIELD_X_SLUICE;
    return (field->marks & HTTP_FIELD_HOP) == 0 && !ours &&
           !(tunnel && slice_equal_nocase(field->name, SLICE("sec-websocket-accept")));
}

// False: it has too many fields.
static bool put_head(struct fields *fields, const struct http_response *response, unsigned status,
                     const struct server_added *added)
{
    bool tunnel = response->status == 101;
    put_status(fields, status);
    if (response->fields.count + (added != NULL ? added->field_count : 0) + 3 > FIELDS_MAX)
        return false;
    for (uint32_t i = 0; i < response->fields.count; i++)
        if (goes_on(&response->fields.items[i], tunnel))
            put_field(fields, response->fields.items[i].name, response->fields.items[i].value);
    bool sized = response->framing == HTTP_FRAMING_LENGTH ||
                 (response->framing == HTTP_FRAMING_NONE && response->has_content_length);
    if (sized && status >= 200 && status != 204)
        put_length(fields, response->content_length);
    for (size_t i = 0; added != NULL && i < added->field_count; i++)
        put_field(fields, added->fields[i].name, added->fields[i].value);
    return true;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t len, uint32_t *flags,
                         nghttp2_data_source *source, void *user);

// bodiless: the head is the whole answer.
static enum status submit(struct http2_stream *s, const struct fields *fields, bool bodiless)
{
    const nghttp2_data_provider body = {.source.ptr = s, .read_callback = read_body};
    if (fields->bytes > ANSWER_ROOM_BYTES)
        return STATUS_INVALID;
    if (s->closed)
        return STATUS_OK;
    if (nghttp2_submit_response(s->http2->session, s->id, fields->items, fields->count,
                                bodiless ? NULL : &body) != 0)
        return STATUS_FULL;
    s->answered = true;
    s->complete = bodiless;
    return STATUS_OK;
}

// "Via" of the answer, by what it came over.
static enum status submit_head(struct http2_stream *s, struct fields *fields,
                               const struct http_response *response, const struct server_added *added,
                               bool bodiless)
{
    char via[256];
    struct text text = text_over(via, sizeof via);
    if (added != NULL && added->via.len > 0) {
        if (response->http2)
            text_add(&text, SLICE("2 "));
        else
            text_add(&text, response->version_minor > 0 ? SLICE("1.1 ") : SLICE("1.0 "));
        text_add(&text, added->via);
        put_field(fields, SLICE("via"), text_slice(&text));
    }
    if (response->status >= 200 || response->status == 101)
        return submit(s, fields, bodiless);
    if (s->closed)
        return STATUS_OK;
    int failure = nghttp2_submit_headers(s->http2->session, NGHTTP2_FLAG_NONE, s->id, NULL, fields->items,
                                         fields->count, NULL);
    return failure == 0 ? STATUS_OK : STATUS_FULL;
}

static enum status http2_head(struct server_stream *stream, const struct http_response *response,
                              const struct server_added *added)
{
    struct http2_stream *s = http2_stream_of(stream);
    struct fields fields;
    if (!put_head(&fields, response, response->status, added))
        return STATUS_INVALID;
    bool empty = response->framing == HTTP_FRAMING_LENGTH && response->content_length == 0;
    return submit_head(s, &fields, response, added, empty || response->framing == HTTP_FRAMING_NONE);
}

static void http2_resume(struct server_stream *stream);

// RFC 8441, 5: the answer is 200, and the stream is the tunnel.
static enum status http2_tunnel(struct server_stream *stream, const struct http_response *response,
                                const struct server_added *added, struct io_buf **early)
{
    struct http2_stream *s = http2_stream_of(stream);
    struct fields fields;
    if (!put_head(&fields, response, 200, added))
        return STATUS_INVALID;
    enum status status = submit_head(s, &fields, response, added, false);
    if (status != STATUS_OK)
        return status;
    s->tunnel = true;
    *early = s->early;
    s->early = NULL;
    http2_resume(stream);
    return STATUS_OK;
}

// ---- bodies ----

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t len, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
    (void)to;
    const struct http2 *h = user;
    const struct http2_stream *s = source->ptr;
    if (connection_unsent(h->connection) >= HTTP2_OUT_HIGH)
        return NGHTTP2_ERR_PAUSE;
    const struct http2_outgoing body = {s->queued, s->complete, s->trailers};
    return http2_next_data(session, id, &body, len, flags);
}

// More is queued, or nothing more will be.
static void go_on(struct http2_stream *s)
{
    if (!s->closed)
        (void)nghttp2_session_resume_data(s->http2->session, s->id); // fails where it was not held back
}

// Well before its handler would stop writing (SERVER_UNSENT_HIGH).
static void mark_full(struct http2_stream *s)
{
    if (s->full || s->queued + connection_unsent(s->stream.connection) <= SERVER_UNSENT_HIGH / 2)
        return;
    s->full = true;
    s->http2->full_count++;
}

static enum status http2_data(struct server_stream *stream, struct slice run, struct io_buf **buf)
{
    struct http2_stream *s = http2_stream_of(stream);
    uint32_t len = (uint32_t)run.len;
    if (s->closed)
        return STATUS_OK;
    enum status status = server_frame_run(&s->out, stream->server->loop, false, run, buf);
    if (status != STATUS_OK)
        return status;
    s->queued += len;
    stream->server->unsent += len;
    mark_full(s);
    go_on(s);
    return STATUS_OK;
}

static enum status http2_data_end(struct server_stream *stream, const struct http_fields *trailers)
{
    struct http2_stream *s = http2_stream_of(stream);
    if (trailers != NULL && !s->complete && !s->closed &&
        http2_keep_trailers(stream->server->loop, trailers, &s->trailers) != STATUS_OK)
        return STATUS_FULL;
    s->complete = true;
    go_on(s);
    return STATUS_OK;
}

static void http2_flush(struct server_stream *stream)
{
    http2_settle(http2_stream_of(stream)->http2);
}

static void http2_half_close(struct server_stream *stream)
{
    struct http2_stream *s = http2_stream_of(stream);
    s->complete = true;
    go_on(s);
    http2_settle(s->http2);
}

// ---- ends ----

static void http2_end(struct server_stream *stream)
{
    struct http2_stream *s = http2_stream_of(stream);
    s->complete = true;
    go_on(s);
    http2_stream_over(s);
}

static void http2_reset(struct server_stream *stream)
{
    struct http2_stream *s = http2_stream_of(stream);
    http2_drop_queue(s);
    http2_stream_reset(s, NGHTTP2_INTERNAL_ERROR);
    http2_stream_over(s);
}

static enum status queue_answer(struct http2_stream *s, const struct http_answer *answer)
{
    struct fields fields;
    bool bodiless = answer->status < 200 || answer->status == 204 || answer->status == 304;
    bool body = !bodiless && !answer->head_only && answer->body.len > 0;
    put_status(&fields, answer->status);
    if (!bodiless) {
        put_field(&fields, SLICE("content-type"),
                  answer->content_type.len > 0 ? answer->content_type : SLICE("text/plain; charset=utf-8"));
        put_length(&fields, answer->body.len);
    }
    for (size_t i = 0; i < answer->add_count; i++)
        put_field(&fields, answer->add[i].name, answer->add[i].value);
    enum status status = submit(s, &fields, !body);
    return status == STATUS_OK && body ? http2_data(&s->stream, answer->body, NULL) : status;
}

static enum status http2_answer(struct server_stream *stream, const struct http_answer *answer)
{
    enum status status = queue_answer(http2_stream_of(stream), answer);
    if (status != STATUS_OK)
        http2_reset(stream);
    else
        http2_end(stream);
    return status;
}

// ---- asking, flow and time ----

static uint32_t http2_unsent(const struct server_stream *stream)
{
    const struct http2_stream *s = http2_stream_of(stream);
    return s->queued + connection_unsent(s->stream.connection);
}

static bool http2_taking(const struct server_stream *stream, uint64_t *mark)
{
    struct http2_stream *s = http2_stream_of(stream);
    bool moved = s->sent != *mark;
    *mark = s->sent;
    // What its windows let go is the connection's, and shares its fate.
    bool taken = s->queued == 0 && io_stream_taking(&stream->connection->io, &s->taken_mark);
    return moved || taken;
}

static void http2_pause(struct server_stream *stream)
{
    stream->paused = true;
}

static void http2_resume(struct server_stream *stream)
{
    struct http2_stream *s = http2_stream_of(stream);
    uint32_t withheld = s->withheld;
    stream->paused = false;
    if (withheld == 0 || s->closed)
        return;
    s->withheld = 0;
    (void)nghttp2_session_consume_stream(s->http2->session, s->id, withheld);
    http2_settle(s->http2);
}

static void http2_due(struct server_stream *stream, uint64_t due_us)
{
    http2_stream_due(http2_stream_of(stream), due_us);
}

static void http2_drain(struct connection *c, struct rng *rng)
{
    struct http2 *h = c->http2;
    if (c->state != CONNECTION_OPEN || h->drain != HTTP2_DRAIN_NONE)
        return;
    h->drain = HTTP2_DRAIN_DUE;
    h->drain_due_us = connection_now_us(c) + rng_below(rng, DRAIN_SPREAD_US);
    connection_due(c, h->drain_due_us);
}

static void http2_gone(struct connection *c)
{
    struct http2 *h = c->http2;
    for (struct list *node = h->streams.next; node != &h->streams; node = node->next) {
        struct http2_stream *s = CONTAINER_OF(node, struct http2_stream, link);
        http2_drop_queue(s);
        if (!s->active)
            continue;
        s->active = false;
        s->closed = true;
        c->stream.server->handler->gone(&s->stream);
    }
    c->active = false;
}

const struct server_engine HTTP2_ENGINE = {.head = http2_head,
                                           .tunnel = http2_tunnel,
                                           .data = http2_data,
                                           .data_end = http2_data_end,
                                           .answer = http2_answer,
                                           .flush = http2_flush,
                                           .half_close = http2_half_close,
                                           .end = http2_end,
                                           .reset = http2_reset,
                                           .unsent = http2_unsent,
                                           .taking = http2_taking,
                                           .pause = http2_pause,
                                           .resume = http2_resume,
                                           .due = http2_due,
                                           .drain = http2_drain,
                                           .gone = http2_gone};
