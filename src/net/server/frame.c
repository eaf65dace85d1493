// SPDX-License-Identifier: Apache-2.0
// Runs of body bytes into chains of buffers.
#include "net/server/frame.h"

#include <string.h>

#include "base/check.h"
#include "net/http/http1_write.h"

enum {
    COPY_MAX_BYTES = 4096, // a shorter run is copied behind what is already to be sent
    CHUNK_OVERHEAD = HTTP1_CHUNK_HEADER_BYTES_MAX + 2,
    LAST_CHUNK_BYTES = 5,
};

static enum status put_chunks(struct io_chain *out, struct io_loop *loop, struct slice run)
{
    while (run.len > 0) {
        uint32_t want = run.len < COPY_MAX_BYTES ? (uint32_t)run.len : COPY_MAX_BYTES;
        struct io_buf *buf = io_chain_room(out, loop, want + CHUNK_OVERHEAD);
        if (buf == NULL)
            return STATUS_FULL;
        struct http1_writer writer = http1_writer_over((char *)buf->data + buf->end, io_buf_room(buf));
        size_t room = io_buf_room(buf) - CHUNK_OVERHEAD;
        struct slice piece = {run.data, run.len < room ? run.len : room};
        if (http1_write_chunk(&writer, piece) != STATUS_OK)
            return STATUS_FULL;
        buf->end += (uint32_t)writer.len;
        run.data += piece.len;
        run.len -= piece.len;
    }
    return STATUS_OK;
}

static void put_bytes(struct io_buf *buf, struct slice bytes)
{
    memcpy(buf->data + buf->end, bytes.data, bytes.len);
    buf->end += (uint32_t)bytes.len;
}

static enum status put_copy(struct io_chain *out, struct io_loop *loop, struct slice run)
{
    while (run.len > 0) {
        struct io_buf *buf = io_chain_room(out, loop, 1);
        if (buf == NULL)
            return STATUS_FULL;
        size_t n = run.len < io_buf_room(buf) ? run.len : io_buf_room(buf);
        put_bytes(buf, (struct slice){run.data, n});
        run.data += n;
        run.len -= n;
    }
    return STATUS_OK;
}

enum status server_frame_run(struct io_chain *out, struct io_loop *loop, bool chunked, struct slice run,
                             struct io_buf **buf)
{
    if (chunked)
        return put_chunks(out, loop, run);
    if (LIKELY(run.len <= COPY_MAX_BYTES && out->tail != NULL && io_buf_room(out->tail) >= run.len)) {
        put_bytes(out->tail, run);
        return STATUS_OK;
    }
    if (buf == NULL || run.len != io_buf_len(*buf))
        return put_copy(out, loop, run);
    io_chain_push(out, *buf);
    *buf = NULL;
    return STATUS_OK;
}

enum status server_frame_last(struct io_chain *out, struct io_loop *loop, const struct http_fields *trailers)
{
    uint32_t bytes = trailers == NULL ? LAST_CHUNK_BYTES : HTTP1_TRAILER_BYTES_MAX + 1024;
    struct io_buf *buf = io_chain_room(out, loop, bytes);
    if (buf == NULL)
        return STATUS_FULL;
    struct http1_writer writer = http1_writer_over((char *)buf->data + buf->end, io_buf_room(buf));
    if (http1_write_last_chunk(&writer, trailers) != STATUS_OK)
        return STATUS_FULL;
    buf->end += (uint32_t)writer.len;
    return STATUS_OK;
}

enum status server_frame_begin(struct http1_body *body, struct io_buf **trailers, struct io_loop *loop,
                               enum http_framing framing, uint64_t content_length,
                               const struct http1_limits *limits)
{
    _Static_assert(IO_BUF_BYTES >= HTTP1_TRAILER_BYTES_MAX, "a buffer holds every trailer");
    struct io_buf *storage = framing == HTTP_FRAMING_CHUNKED ? io_buf_get(loop) : NULL;
    *trailers = storage;
    if (framing == HTTP_FRAMING_CHUNKED && storage == NULL)
        return STATUS_FULL;
    http1_body_init(body, framing, content_length, limits, storage == NULL ? NULL : (char *)storage->data,
                    HTTP1_TRAILER_BYTES_MAX);
    return STATUS_OK;
}

struct http_fields *server_frame_trailers(const struct http1_body *body, struct http_fields *storage)
{
    return body->trailers_len > 0 && http1_body_trailers(body, storage) == STATUS_OK ? storage : NULL;
}
