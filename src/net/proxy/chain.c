// SPDX-License-Identifier: Apache-2.0
// Chains of buffers, and one direction of a body: bytes in under one framing, out under ours. Long runs are
// handed on in the buffer they came in; short ones are copied behind what is to be sent anyway, so that one
// send takes both.
#include "net/proxy/proxy_private.h"

void chain_push(struct chain *chain, struct io_buf *buf)
{
    buf->next = NULL;
    if (chain->tail == NULL)
        chain->head = buf;
    else
        chain->tail->next = buf;
    chain->tail = buf;
}

void chain_put(struct chain *chain)
{
    while (chain->head != NULL) {
        struct io_buf *next = chain->head->next;
        io_buf_put(chain->head);
        chain->head = next;
    }
    chain->tail = NULL;
}

void chain_send(struct chain *chain, struct io_stream *stream)
{
    while (chain->head != NULL) {
        struct io_buf *next = chain->head->next;
        io_stream_send(stream, chain->head);
        chain->head = next;
    }
    chain->tail = NULL;
}

struct io_buf *chain_room(struct chain *chain, struct io_loop *loop, uint32_t bytes)
{
    if (chain->tail != NULL && io_buf_room(chain->tail) >= bytes)
        return chain->tail;
    struct io_buf *buf = io_buf_get(loop);
    if (LIKELY(buf != NULL))
        chain_push(chain, buf);
    return buf;
}

static void buf_compact(struct io_buf *buf)
{
    if (buf->start == 0)
        return;
    memmove(buf->data, buf->data + buf->start, io_buf_len(buf));
    buf->end -= buf->start;
    buf->start = 0;
}

// Moves bytes from *more behind those of buf. *more becomes NULL when nothing of it is left.
static void buf_fill(struct io_buf *buf, struct io_buf **more)
{
    struct io_buf *from = *more;
    uint32_t n = io_buf_len(from) < io_buf_room(buf) ? io_buf_len(from) : io_buf_room(buf);
    memcpy(buf->data + buf->end, from->data + from->start, n);
    buf->end += n;
    from->start += n;
    if (io_buf_len(from) > 0)
        return;
    *more = from->next;
    io_buf_put(from);
}

struct io_buf *held_join(struct io_buf *held, struct io_buf *more)
{
    more->next = NULL;
    if (held == NULL)
        return more;
    struct io_buf *last = held;
    while (last->next != NULL)
        last = last->next;
    if (last == held)
        buf_compact(held);
    buf_fill(last, &more);
    last->next = more;
    return held;
}

bool held_pull(struct io_buf *held)
{
    if (held->next == NULL)
        return false;
    buf_compact(held);
    if (io_buf_room(held) == 0)
        return false;
    buf_fill(held, &held->next);
    return true;
}

struct io_buf *held_skip(struct io_buf *held, uint32_t n)
{
    CHECK(held != NULL && io_buf_len(held) >= n);
    held->start += n;
    if (io_buf_len(held) > 0)
        return held;
    struct io_buf *next = held->next;
    io_buf_put(held);
    return next;
}

// ---- bodies ----

enum status body_relay_start(struct body_relay *relay, struct io_loop *loop, enum http_framing framing,
                             uint64_t content_length, const struct http1_limits *limits, bool chunked_out)
{
    relay->trailers = NULL;
    relay->chunked_out = chunked_out;
    if (framing == HTTP_FRAMING_CHUNKED) {
        relay->trailers = io_buf_get(loop);
        if (relay->trailers == NULL)
            return STATUS_FULL;
    }
    _Static_assert(IO_BUF_BYTES >= HTTP1_TRAILER_BYTES_MAX, "a buffer holds every trailer");
    http1_body_init(&relay->body, framing, content_length, limits,
                    relay->trailers == NULL ? NULL : (char *)relay->trailers->data, HTTP1_TRAILER_BYTES_MAX);
    return STATUS_OK;
}

void body_relay_end(struct body_relay *relay)
{
    io_buf_put(relay->trailers);
    relay->trailers = NULL;
}

static enum status put_chunks(struct chain *out, struct io_loop *loop, struct slice payload)
{
    const uint32_t overhead = HTTP1_CHUNK_HEADER_BYTES_MAX + 2;
    while (payload.len > 0) {
        uint32_t want = payload.len < COPY_MAX_BYTES ? (uint32_t)payload.len : COPY_MAX_BYTES;
        struct io_buf *buf = chain_room(out, loop, want + overhead);
        if (buf == NULL)
            return STATUS_FULL;
        struct http1_writer writer = http1_writer_over((char *)buf->data + buf->end, io_buf_room(buf));
        size_t room = io_buf_room(buf) - overhead;
        struct slice piece = {payload.data, payload.len < room ? payload.len : room};
        if (http1_write_chunk(&writer, piece) != STATUS_OK)
            return STATUS_FULL;
        buf->end += (uint32_t)writer.len;
        payload.data += piece.len;
        payload.len -= piece.len;
    }
    return STATUS_OK;
}

// What stands in a trailer some origins take for a header.
static void mark_forged(struct http_fields *fields, const struct proxy_service_flags *flags)
{
    for (uint32_t i = 0; flags != NULL && i < fields->count; i++)
        if (table_flags_forged(flags, fields->items[i].name))
            fields->items[i].marks |= HTTP_FIELD_HOP;
}

static enum status put_last_chunk(struct body_relay *relay, struct io_loop *loop, struct chain *out,
                                  const struct proxy_service_flags *flags)
{
    struct http_fields fields;
    const struct http_fields *trailers = NULL;
    if (relay->body.framing == HTTP_FRAMING_CHUNKED && relay->body.trailers_len > 0 &&
        !relay->drop_trailers && http1_body_trailers(&relay->body, &fields) == STATUS_OK) {
        mark_forged(&fields, flags);
        trailers = &fields;
    }
    struct io_buf *buf = chain_room(out, loop, trailers == NULL ? 5 : HTTP1_TRAILER_BYTES_MAX + 1024);
    if (buf == NULL)
        return STATUS_FULL;
    struct http1_writer writer = http1_writer_over((char *)buf->data + buf->end, io_buf_room(buf));
    if (http1_write_last_chunk(&writer, trailers) != STATUS_OK)
        return STATUS_FULL;
    buf->end += (uint32_t)writer.len;
    return STATUS_OK;
}

static void put_bytes(struct io_buf *buf, struct slice bytes)
{
    memcpy(buf->data + buf->end, bytes.data, bytes.len);
    buf->end += (uint32_t)bytes.len;
}

// A run of unframed bytes of *in. Hands the buffer over when the run is all of it and long.
static enum status put_plain(struct chain *out, struct io_loop *loop, struct io_buf **in,
                             struct slice payload)
{
    bool whole = payload.len == io_buf_len(*in);
    bool fits = out->tail != NULL && io_buf_room(out->tail) >= payload.len;
    if (whole && !(fits && payload.len <= COPY_MAX_BYTES)) {
        chain_push(out, *in);
        *in = NULL;
        return STATUS_OK;
    }
    struct io_buf *buf = chain_room(out, loop, (uint32_t)payload.len);
    if (buf == NULL)
        return STATUS_FULL;
    put_bytes(buf, payload);
    return STATUS_OK;
}

enum status body_relay_run(struct body_relay *relay, struct io_loop *loop, struct io_buf **in,
                           struct chain *out, const struct proxy_service_flags *flags)
{
    while (*in != NULL && !relay->body.done) {
        struct io_buf *buf = *in;
        size_t consumed = 0;
        struct slice payload = {NULL, 0};
        enum status status = http1_body_next(&relay->body, (char *)buf->data + buf->start, io_buf_len(buf),
                                             &consumed, &payload);
        if (status != STATUS_OK && status != STATUS_AGAIN)
            return STATUS_INVALID;
        if (payload.len > 0) {
            status = relay->chunked_out ? put_chunks(out, loop, payload) : put_plain(out, loop, in, payload);
            if (status != STATUS_OK)
                return status;
        }
        if (*in != NULL)
            *in = held_skip(buf, (uint32_t)consumed);
    }
    if (relay->body.done && relay->chunked_out)
        return put_last_chunk(relay, loop, out, flags);
    return STATUS_OK;
}

enum status body_relay_finish(struct body_relay *relay, struct io_loop *loop, struct chain *out)
{
    if (http1_body_finish(&relay->body) != STATUS_OK)
        return STATUS_INVALID;
    return relay->chunked_out ? put_last_chunk(relay, loop, out, NULL) : STATUS_OK;
}
