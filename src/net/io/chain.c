// SPDX-License-Identifier: Apache-2.0
// Chains of buffers. Bytes are moved only when they must lie together in one buffer.
#include "net/io/chain.h"

#include <string.h>

#include "base/check.h"

void io_chain_push(struct io_chain *chain, struct io_buf *buf)
{
    buf->next = NULL;
    if (chain->tail == NULL)
        chain->head = buf;
    else
        chain->tail->next = buf;
    chain->tail = buf;
}

void io_chain_put(struct io_chain *chain)
{
    while (chain->head != NULL) {
        struct io_buf *next = chain->head->next;
        io_buf_put(chain->head);
        chain->head = next;
    }
    chain->tail = NULL;
}

void io_chain_send(struct io_chain *chain, struct io_stream *stream)
{
    while (chain->head != NULL) {
        struct io_buf *next = chain->head->next;
        io_stream_send(stream, chain->head);
        chain->head = next;
    }
    chain->tail = NULL;
}

struct io_buf *io_chain_room(struct io_chain *chain, struct io_loop *loop, uint32_t bytes)
{
    if (chain->tail != NULL && io_buf_room(chain->tail) >= bytes)
        return chain->tail;
    struct io_buf *buf = io_buf_get(loop);
    if (LIKELY(buf != NULL))
        io_chain_push(chain, buf);
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

// Appends bytes of *more to buf. *more becomes NULL when none of them are left.
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

struct io_buf *io_held_join(struct io_buf *held, struct io_buf *more)
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

bool io_held_pull(struct io_buf *held)
{
    if (held->next == NULL)
        return false;
    buf_compact(held);
    if (io_buf_room(held) == 0)
        return false;
    buf_fill(held, &held->next);
    return true;
}

struct io_buf *io_held_skip(struct io_buf *held, uint32_t n)
{
    CHECK(held != NULL && io_buf_len(held) >= n);
    held->start += n;
    if (io_buf_len(held) > 0)
        return held;
    struct io_buf *next = held->next;
    io_buf_put(held);
    return next;
}

void io_held_put(struct io_buf *held)
{
    struct io_chain chain = {held, NULL};
    io_chain_put(&chain);
}
