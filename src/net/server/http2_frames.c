// SPDX-License-Identifier: Apache-2.0
#include "net/server/http2_frames.h"

#include <string.h>

#include "base/heap.h"
#include "net/http/http1.h"
#include "net/server/frame.h"

// ---- memory and options ----

static void *mem_alloc(size_t size, void *user)
{
    (void)user;
    return heap_resize(NULL, size); // not zeroed
}

static void *mem_alloc_many(size_t count, size_t size, void *user)
{
    (void)user;
    return heap_alloc(count, size);
}

static void *mem_resize(void *block, size_t size, void *user)
{
    (void)user;
    return heap_resize(block, size);
}

static void mem_free(void *block, void *user)
{
    (void)user;
    heap_free(block);
}

nghttp2_mem http2_memory(void)
{
    return (nghttp2_mem){NULL, mem_alloc, mem_free, mem_alloc_many, mem_resize};
}

nghttp2_option *http2_options(void)
{
    nghttp2_option *options;
    if (nghttp2_option_new(&options) != 0)
        return NULL;
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_http_messaging(options, 1); // judged by http2.h, which can also answer
    nghttp2_option_set_no_closed_streams(options, 1);
    return options;
}

// ---- frames into buffers ----

static void put_bytes(struct io_buf *buf, const void *bytes, size_t len)
{
    memcpy(buf->data + buf->end, bytes, len);
    buf->end += (uint32_t)len;
}

bool http2_put_frame(struct io_chain *out, struct io_loop *loop, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        struct io_buf *buf = io_chain_room(out, loop, 1);
        if (buf == NULL)
            return false;
        size_t n = len < io_buf_room(buf) ? len : io_buf_room(buf);
        put_bytes(buf, bytes, n);
        bytes += n;
        len -= n;
    }
    return true;
}

bool http2_put_data(struct io_chain *out, struct io_loop *loop, const uint8_t *header, struct io_chain *from,
                    size_t len)
{
    struct io_buf *to = io_chain_room(out, loop, (uint32_t)len + HTTP2_FRAME_HEADER_BYTES);
    if (to == NULL)
        return false;
    put_bytes(to, header, HTTP2_FRAME_HEADER_BYTES);
    while (len > 0) {
        struct io_buf *first = from->head;
        uint32_t n = len < io_buf_len(first) ? (uint32_t)len : io_buf_len(first);
        put_bytes(to, first->data + first->start, n);
        from->head = io_held_skip(first, n);
        len -= n;
    }
    if (from->head == NULL)
        from->tail = NULL;
    return true;
}

nghttp2_nv http2_field(struct slice name, struct slice value)
{
    static const uint8_t EMPTY[1] = {0};
    return (nghttp2_nv){
        .name = (uint8_t *)(uintptr_t)name.data,
        .namelen = name.len,
        .value = (uint8_t *)(uintptr_t)(value.len > 0 ? (const uint8_t *)value.data : EMPTY),
        .valuelen = value.len,
    };
}

// ---- trailers ----

static int submit_trailers(nghttp2_session *session, int32_t id, const struct io_buf *lines)
{
    struct http_fields kept;
    nghttp2_nv fields[HTTP_FIELDS_MAX];
    const struct http1_body body = {.done = true,
                                    .framing = HTTP_FRAMING_CHUNKED,
                                    .trailers = (char *)(uintptr_t)(lines->data + lines->start),
                                    .trailers_len = io_buf_len(lines)};
    if (http1_body_trailers(&body, &kept) != STATUS_OK)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    for (uint32_t i = 0; i < kept.count; i++)
        fields[i] = http2_field(kept.items[i].name, kept.items[i].value);
    return nghttp2_submit_trailer(session, id, fields, kept.count);
}

ssize_t http2_next_data(nghttp2_session *session, int32_t id, const struct http2_outgoing *body, size_t len,
                        uint32_t *flags)
{
    if (body->queued == 0 && !body->complete)
        return NGHTTP2_ERR_DEFERRED;
    uint32_t n = body->queued < len ? body->queued : (uint32_t)len;
    if (n > 0)
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (!body->complete || n < body->queued)
        return n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (body->trailers == NULL)
        return n;
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    int failure = submit_trailers(session, id, body->trailers);
    return failure == 0 ? (ssize_t)n : failure;
}

enum status http2_keep_trailers(struct io_loop *loop, const struct http_fields *trailers,
                                struct io_buf **lines)
{
    struct io_chain chain = {NULL, NULL};
    *lines = NULL;
    if (server_frame_last(&chain, loop, trailers) != STATUS_OK)
        return STATUS_FULL;
    // Its lines, without the size before them and the empty line behind.
    chain.head->start += 3;
    chain.head->end -= 2;
    if (io_buf_len(chain.head) == 0)
        io_chain_put(&chain);
    *lines = chain.head;
    return STATUS_OK;
}

// ---- what a peer may cost ----

bool http2_chatter_count(struct http2_chatter *chatter, uint64_t now_us)
{
    uint64_t earned = (now_us - chatter->since_us) * HTTP2_CHATTER_PER_SECOND / 1000000;
    if (earned > 0) {
        http2_chatter_earn(chatter, earned < UINT32_MAX ? (uint32_t)earned : UINT32_MAX);
        chatter->since_us = now_us;
    }
    return ++chatter->count <= HTTP2_CHATTER_MAX;
}

void http2_chatter_earn(struct http2_chatter *chatter, uint32_t earned)
{
    chatter->count -= earned < chatter->count ? earned : chatter->count;
}
