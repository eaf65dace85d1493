// SPDX-License-Identifier: Apache-2.0
// The loop on io_uring: one system call per turn submits what the last turn asked for and waits. Receives are
// multishot from a ring of provided buffers; sends go out at once where the socket takes them, else through
// the ring. Invariant: while the kernel holds an operation of a stream (inflight), neither its storage nor
// its queued buffers nor its descriptor are given up.
#include "net/io/io_private.h"

#ifdef SLUICE_HAVE_URING

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/heap.h"

enum {
    SQ_ENTRIES = 1024,
    CQ_ENTRIES = 8192,
    BUF_RING_ENTRIES = 512, // a power of two
    BUF_RING_FIRST = 32,    // provided at first; doubled whenever the kernel found the ring empty
    BUF_RING_SHARE = 4,     // the ring never holds more than this part of all buffers
    SCRATCH_ENTRIES = 64,
    BUF_RING_BYTES = BUF_RING_ENTRIES * sizeof(struct io_uring_buf),
    BUF_GROUP = 0,
};

// The operation of a completion, in the low bits of its user data; the rest points to its object.
enum operation {
    OPERATION_RECEIVE,
    OPERATION_SEND,
    OPERATION_CONNECT,
    OPERATION_WATCH, // for an error after the orderly end
    OPERATION_ACCEPT,
    OPERATION_WAKE,
    OPERATION_NONE, // nobody needs the result
    OPERATION_MASK = 7,
};

// What a queue entry points to; it must stay until the entry is submitted.
union scratch {
    struct {
        struct msghdr header;
        struct iovec parts[IO_SEND_IOVECS_MAX];
    } message;
    struct io_addr addr;
};

// It outlives its listener until the kernel has let go of it.
struct acceptor {
    struct list link;
    struct io_listener *listener; // NULL once closed
    bool armed;
};

struct uring {
    struct io_loop base;
    struct io_uring ring;
    struct io_uring_buf_ring *buf_ring;
    uint32_t provided; // buffers the kernel may fill
    uint32_t provide_target;
    uint32_t scratch_used;
    bool ring_made;
    bool running; // enabled, and bound to the thread that runs it
    int wake_fd;
    uint64_t wake_value;
    struct list acceptors;
    struct list cancelling; // closed streams with operations that the kernel still holds
    union scratch scratch[SCRATCH_ENTRIES];
};

static struct uring *uring_of(struct io_loop *loop)
{
    return CONTAINER_OF(loop, struct uring, base);
}

// ---- submitting ----

static void uring_start(struct uring *uring);
static int ring_enable(struct io_uring *ring);

static void uring_submit(struct uring *uring)
{
    uring_start(uring);
    // On EBUSY and EAGAIN the entries stay in the queue; the callers look again.
    (void)io_uring_submit(&uring->ring);
    if (io_uring_sq_ready(&uring->ring) == 0)
        uring->scratch_used = 0;
}

static struct io_uring_sqe *uring_entry(struct uring *uring)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&uring->ring);
    for (int i = 0; UNLIKELY(entry == NULL); i++) {
        CHECK(i < 1000); // the kernel takes entries unless completions overflow without end
        uring_submit(uring);
        entry = io_uring_get_sqe(&uring->ring);
    }
    return entry;
}

static union scratch *uring_scratch(struct uring *uring)
{
    for (int i = 0; uring->scratch_used == SCRATCH_ENTRIES; i++) {
        CHECK(i < 1000);
        uring_submit(uring);
    }
    return &uring->scratch[uring->scratch_used++];
}

static void entry_tag(struct io_uring_sqe *entry, const void *object, enum operation operation)
{
    entry->user_data = (uint64_t)(uintptr_t)object | operation;
}

// ---- provided buffers ----

static void uring_provide(struct uring *uring)
{
    struct io_loop *loop = &uring->base;
    int added = 0;
    while (uring->provided < uring->provide_target) {
        struct io_buf *buf = io_buf_get(loop);
        if (buf == NULL) {
            loop->stats.bufs_refused--; // the ring wanted one in advance: nobody was refused
            break;
        }
        loop->stats.bufs_in_use--; // it waits in the ring and holds nothing
        io_uring_buf_ring_add(uring->buf_ring, buf->data, IO_BUF_BYTES, buf->id,
                              io_uring_buf_ring_mask(BUF_RING_ENTRIES), added++);
        uring->provided++;
    }
    if (added > 0)
        io_uring_buf_ring_advance(uring->buf_ring, added);
}

static struct io_buf *uring_take_buf(struct uring *uring, uint32_t flags, int len)
{
    struct io_buf *buf = io_loop_buf(&uring->base, flags >> IORING_CQE_BUFFER_SHIFT);
    uring->provided--;
    uring->base.stats.bufs_in_use++;
    buf->next = NULL;
    buf->start = 0;
    buf->end = (uint32_t)len;
    return buf;
}

static void uring_grow_target(struct uring *uring)
{
    uint32_t limit = uring->base.bufs_max / BUF_RING_SHARE;
    if (limit > BUF_RING_ENTRIES)
        limit = BUF_RING_ENTRIES;
    if (limit == 0)
        limit = 1;
    uint32_t wanted = uring->provide_target == 0 ? BUF_RING_FIRST : uring->provide_target * 2;
    uring->provide_target = wanted < limit ? wanted : limit;
}

// ---- receiving ----

static bool stream_may_receive(const struct io_stream *stream)
{
    return (stream->flags & (IO_STREAM_PAUSED | IO_STREAM_EOF | IO_STREAM_BROKEN | IO_STREAM_CLOSED |
                             IO_STREAM_CONNECTING | IO_STREAM_RECEIVING)) == 0;
}

static void stream_arm_receive(struct io_stream *stream)
{
    if (!stream_may_receive(stream))
        return;
    struct io_uring_sqe *entry = uring_entry(uring_of(stream->loop));
    io_uring_prep_recv_multishot(entry, stream->handle, NULL, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = BUF_GROUP;
    entry_tag(entry, stream, OPERATION_RECEIVE);
    stream->flags |= IO_STREAM_RECEIVING;
    stream->inflight++;
}

static void stream_stop_receive(struct io_stream *stream)
{
    if ((stream->flags & (IO_STREAM_RECEIVING | IO_STREAM_STOPPING)) != IO_STREAM_RECEIVING)
        return;
    struct io_uring_sqe *entry = uring_entry(uring_of(stream->loop));
    io_uring_prep_cancel64(entry, (uint64_t)(uintptr_t)stream | OPERATION_RECEIVE, 0);
    entry_tag(entry, NULL, OPERATION_NONE);
    stream->flags |= IO_STREAM_STOPPING;
}

static void stream_hold(struct io_stream *stream, struct io_buf *buf)
{
    struct io_buf **tail = &stream->recv_held;
    while (*tail != NULL)
        tail = &(*tail)->next;
    *tail = buf;
}

// After the peer's orderly end no receive is armed; this watches for errors of the connection instead.
static void stream_watch_error(struct io_stream *stream)
{
    if (io_stream_dead(stream))
        return;
    struct io_uring_sqe *entry = uring_entry(uring_of(stream->loop));
    io_uring_prep_poll_add(entry, stream->handle, POLLERR);
    entry_tag(entry, stream, OPERATION_WATCH);
    stream->inflight++;
}

// Delivers what was held back, then the end if it came.
static void stream_deliver(struct io_stream *stream)
{
    while (stream->recv_held != NULL && (stream->flags & IO_STREAM_PAUSED) == 0 && !io_stream_dead(stream)) {
        struct io_buf *buf = stream->recv_held;
        stream->recv_held = buf->next;
        buf->next = NULL;
        io_stream_tell_data(stream, buf);
        io_loop_flush(stream->loop);
    }
    if ((stream->flags & (IO_STREAM_EOF | IO_STREAM_PAUSED | IO_STREAM_ENDED)) != IO_STREAM_EOF ||
        stream->recv_held != NULL)
        return;
    io_stream_tell_closed_by_peer(stream);
    io_loop_flush(stream->loop);
    stream_watch_error(stream);
}

static void stream_fail(struct io_stream *stream, int error)
{
    stream_deliver(stream);
    if ((stream->flags & IO_STREAM_SENDING) == 0)
        io_stream_drop_queue(stream);
    io_stream_tell_failure(stream, status_of_errno(error));
    io_loop_flush(stream->loop);
}

static void on_received(struct uring *uring, struct io_stream *stream, struct io_buf *buf)
{
    if (UNLIKELY(io_stream_dead(stream))) {
        io_buf_put(buf);
        return;
    }
    if (UNLIKELY((stream->flags & IO_STREAM_PAUSED) || stream->recv_held != NULL)) {
        stream_hold(stream, buf);
        if (stream->flags & IO_STREAM_PAUSED)
            stream_stop_receive(stream);
        return;
    }
    io_stream_tell_data(stream, buf);
    io_loop_flush(&uring->base);
}

static void on_receive_ended(struct uring *uring, struct io_stream *stream, int result)
{
    switch (result) {
    case 0:
        stream->flags |= IO_STREAM_EOF;
        stream_deliver(stream);
        return;
    case -ENOBUFS:
        uring_grow_target(uring);
        uring_provide(uring);
        if (uring->provided == 0) {
            uring->base.stats.bufs_refused++;
            io_stream_mark_starved(stream);
            return;
        }
        stream_arm_receive(stream);
        return;
    case -ECANCELED:
    case -EINTR:
    case -EAGAIN:
        stream_arm_receive(stream);
        return;
    default:
        stream_fail(stream, -result);
    }
}

static void stream_let_go(struct io_stream *stream);

static void complete_receive(struct uring *uring, struct io_stream *stream, int result, uint32_t flags)
{
    bool closed_before = (stream->flags & IO_STREAM_CLOSED) != 0;
    if ((flags & IORING_CQE_F_MORE) == 0) {
        stream->flags &= ~(uint32_t)(IO_STREAM_RECEIVING | IO_STREAM_STOPPING);
        stream->inflight--;
    }
    if (LIKELY(flags & IORING_CQE_F_BUFFER)) {
        struct io_buf *buf = uring_take_buf(uring, flags, result > 0 ? result : 0);
        if (LIKELY(result > 0))
            on_received(uring, stream, buf);
        else
            io_buf_put(buf);
    }
    if (LIKELY(flags & IORING_CQE_F_MORE))
        return;
    if (closed_before)
        stream_let_go(stream);
    else if (result > 0)
        stream_arm_receive(stream);
    else if (!io_stream_dead(stream))
        on_receive_ended(uring, stream, result);
}

// ---- sending ----

static void stream_prepare_send(struct uring *uring, struct io_stream *stream)
{
    // Without MSG_WAITALL: a short send must be seen, for it is progress (io_stream_taking).
    const int flags = MSG_NOSIGNAL;
    struct io_buf *buf = stream->send_head;
    if (LIKELY(buf->next == NULL)) {
        struct io_uring_sqe *entry = uring_entry(uring);
        io_uring_prep_send(entry, stream->handle, buf->data + buf->start, io_buf_len(buf), flags);
        entry_tag(entry, stream, OPERATION_SEND);
        return;
    }
    union scratch *scratch = uring_scratch(uring);
    memset(&scratch->message.header, 0, sizeof scratch->message.header);
    scratch->message.header.msg_iov = scratch->message.parts;
    size_t count = 0;
    for (; buf != NULL && count < IO_SEND_IOVECS_MAX; buf = buf->next)
        scratch->message.parts[count++] = (struct iovec){buf->data + buf->start, io_buf_len(buf)};
    scratch->message.header.msg_iovlen = count;
    struct io_uring_sqe *entry = uring_entry(uring);
    io_uring_prep_sendmsg(entry, stream->handle, &scratch->message.header, (unsigned)flags);
    entry_tag(entry, stream, OPERATION_SEND);
}

// Sends without blocking, at once: that costs no more than a queue entry and its completion, and the buffer
// is free again while it is in the cache. What the socket refuses, also an error, goes through the ring.
static void uring_send_now(struct io_stream *stream)
{
    ssize_t n = io_socket_send(stream);
    if (n <= 0)
        return;
    io_stream_consume(stream, (size_t)n);
    if (stream->send_head == NULL)
        io_stream_tell_drain(stream);
}

static void uring_flush(struct io_stream *stream)
{
    if (io_stream_dead(stream) || (stream->flags & (IO_STREAM_CONNECTING | IO_STREAM_SENDING)))
        return;
    if (stream->send_head != NULL) {
        uring_send_now(stream);
        if (io_stream_dead(stream))
            return;
    }
    if (stream->send_head != NULL) {
        if (stream->flags & IO_STREAM_DIRTY)
            return; // on_drain queued more: the flush comes back to this stream
        stream_prepare_send(uring_of(stream->loop), stream);
        stream->flags |= IO_STREAM_SENDING;
        stream->inflight++;
        return;
    }
    if ((stream->flags & (IO_STREAM_FINISH | IO_STREAM_FINISHED)) == IO_STREAM_FINISH) {
        stream->flags |= IO_STREAM_FINISHED;
        // A failure here is the peer's reset, which the receive tells.
        (void)shutdown(stream->handle, SHUT_WR);
    }
}

static void complete_send(struct io_stream *stream, int result)
{
    stream->flags &= ~(uint32_t)IO_STREAM_SENDING;
    stream->inflight--;
    if (UNLIKELY(stream->flags & IO_STREAM_CLOSED)) {
        stream_let_go(stream);
        return;
    }
    if (UNLIKELY(stream->flags & IO_STREAM_BROKEN)) {
        io_stream_drop_queue(stream);
        return;
    }
    if (UNLIKELY(result < 0 && result != -EAGAIN && result != -EINTR)) {
        stream_fail(stream, -result);
        return;
    }
    if (result > 0)
        io_stream_consume(stream, (size_t)result);
    if (stream->send_head == NULL)
        io_stream_tell_drain(stream);
    if (stream->send_head != NULL || (stream->flags & IO_STREAM_FINISH))
        io_stream_mark_dirty(stream);
    io_loop_flush(stream->loop);
}

// ---- opening and closing ----

static void uring_defer_failure(struct io_stream *stream, enum status status)
{
    stream->deferred = (uint16_t)status;
    stream->flags |= IO_STREAM_FAILING;
    io_stream_mark_ready(stream);
}

static void uring_adopt(struct io_stream *stream)
{
    io_stream_mark_ready(stream); // armed at the end of the turn, so that a pause comes first
}

static void uring_connect(struct io_stream *stream, const struct io_addr *addr)
{
    struct uring *uring = uring_of(stream->loop);
    enum status status = io_socket_open(addr, &stream->handle);
    if (status != STATUS_OK) {
        uring_defer_failure(stream, status);
        return;
    }
    union scratch *scratch = uring_scratch(uring);
    scratch->addr = *addr;
    struct io_uring_sqe *entry = uring_entry(uring);
    io_uring_prep_connect(entry, stream->handle, &scratch->addr.any, addr->len);
    entry_tag(entry, stream, OPERATION_CONNECT);
    stream->inflight++;
}

static void complete_connect(struct io_stream *stream, int result)
{
    stream->inflight--;
    if (stream->flags & IO_STREAM_CLOSED) {
        stream_let_go(stream);
        return;
    }
    if (result == -EAGAIN)
        result = -ECONNREFUSED; // a unix socket's backlog is full
    enum status status = status_of_errno(-result);
    if (status != STATUS_OK)
        io_stream_drop_queue(stream);
    io_stream_tell_open(stream, status);
    if (status == STATUS_OK && !io_stream_dead(stream))
        io_stream_mark_ready(stream);
    io_loop_flush(stream->loop);
}

static void complete_watch(struct io_stream *stream)
{
    stream->inflight--;
    if (stream->flags & IO_STREAM_CLOSED) {
        stream_let_go(stream);
        return;
    }
    int error = io_stream_dead(stream) ? 0 : io_socket_error(stream->handle);
    if (error != 0)
        stream_fail(stream, error);
}

static void uring_ready(struct io_stream *stream)
{
    if (stream->flags & IO_STREAM_FAILING) {
        io_stream_drop_queue(stream);
        io_stream_tell_failure(stream, (enum status)stream->deferred);
        return;
    }
    stream_deliver(stream);
    uring_provide(uring_of(stream->loop));
    stream_arm_receive(stream);
}

static void uring_resume(struct io_stream *stream)
{
    if (stream->recv_held != NULL || (stream->flags & IO_STREAM_EOF) || stream_may_receive(stream))
        io_stream_mark_ready(stream);
}

// All operations of a closed stream are done: its storage goes back to the owner at the end of the turn.
static void stream_let_go(struct io_stream *stream)
{
    if (stream->inflight > 0)
        return;
    list_remove(&stream->link);
    io_socket_close(stream->handle, (stream->flags & IO_STREAM_ABORT) != 0);
    stream->handle = -1;
    io_stream_retire(stream);
}

static void uring_close(struct io_stream *stream)
{
    struct uring *uring = uring_of(stream->loop);
    if (stream->inflight == 0) {
        stream_let_go(stream);
        return;
    }
    list_push_back(&uring->cancelling, &stream->link);
    struct io_uring_sqe *entry = uring_entry(uring);
    io_uring_prep_cancel_fd(entry, stream->handle, IORING_ASYNC_CANCEL_ALL);
    entry_tag(entry, NULL, OPERATION_NONE);
}

// ---- listeners ----

static void acceptor_arm(struct uring *uring, struct acceptor *acceptor)
{
    struct io_listener *listener = acceptor->listener;
    if (listener == NULL || acceptor->armed ||
        (listener->flags & (IO_LISTENER_PAUSED | IO_LISTENER_STOPPED)) != 0)
        return;
    struct io_uring_sqe *entry = uring_entry(uring);
    io_uring_prep_multishot_accept(entry, listener->handle, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    entry_tag(entry, acceptor, OPERATION_ACCEPT);
    acceptor->armed = true;
}

static void acceptor_free(struct acceptor *acceptor)
{
    list_remove(&acceptor->link);
    heap_free(acceptor);
}

static void on_accepted(struct acceptor *acceptor, int fd)
{
    struct io_listener *listener = acceptor->listener;
    struct io_addr peer = {.len = sizeof peer.bytes};
    // A connection that died meanwhile has no peer address, and needs no service either.
    if (listener == NULL || getpeername(fd, &peer.any, &peer.len) != 0) {
        close(fd);
        return;
    }
    listener->loop->stats.accepts++;
    listener->on_accept(listener, fd, &peer);
}

static void complete_accept(struct uring *uring, struct acceptor *acceptor, int result, uint32_t flags)
{
    if ((flags & IORING_CQE_F_MORE) == 0)
        acceptor->armed = false;
    if (result >= 0)
        on_accepted(acceptor, result);
    else if (acceptor->listener != NULL && !(acceptor->listener->flags & IO_LISTENER_STOPPED) &&
             result != -EAGAIN && result != -ECANCELED && !io_socket_accept_error_passes(-result))
        io_socket_shed(acceptor->listener, -result);
    io_loop_flush(&uring->base);
    if (acceptor->armed)
        return;
    if (acceptor->listener == NULL)
        acceptor_free(acceptor);
    else
        acceptor_arm(uring, acceptor);
}

static enum status uring_listen(struct io_listener *listener, const struct io_addr *addr, bool reuse_port)
{
    struct uring *uring = uring_of(listener->loop);
    struct acceptor *acceptor = heap_alloc(1, sizeof *acceptor);
    int fd;
    if (acceptor == NULL)
        return STATUS_NO_MEMORY;
    enum status status = io_socket_listen(listener, addr, reuse_port, &fd);
    if (status != STATUS_OK) {
        heap_free(acceptor);
        return status;
    }
    listener->handle = fd;
    acceptor->listener = listener;
    list_push_back(&uring->acceptors, &acceptor->link);
    if (uring->running)
        acceptor_arm(uring, acceptor); // otherwise when the loop's thread starts it
    return STATUS_OK;
}

static struct acceptor *acceptor_of(const struct io_listener *listener)
{
    struct uring *uring = uring_of(listener->loop);
    for (struct list *node = uring->acceptors.next; node != &uring->acceptors; node = node->next) {
        struct acceptor *acceptor = CONTAINER_OF(node, struct acceptor, link);
        if (acceptor->listener == listener)
            return acceptor;
    }
    check_failed("a listener has its acceptor", __FILE__, __LINE__);
}

static void uring_listener_resume(struct io_listener *listener)
{
    acceptor_arm(uring_of(listener->loop), acceptor_of(listener));
}

static void uring_listener_stop(struct io_listener *listener)
{
    struct uring *uring = uring_of(listener->loop);
    struct acceptor *acceptor = acceptor_of(listener);
    if (acceptor->armed) {
        struct io_uring_sqe *entry = uring_entry(uring);
        io_uring_prep_cancel64(entry, (uint64_t)(uintptr_t)acceptor | OPERATION_ACCEPT, 0);
        entry_tag(entry, NULL, OPERATION_NONE);
        // A system call of its own, because the address must be free when this returns, and because it is
        // rare.
        (void)io_uring_submit_and_get_events(&uring->ring);
        if (io_uring_sq_ready(&uring->ring) == 0)
            uring->scratch_used = 0;
    }
    close(listener->handle);
}

static void uring_listener_forget(struct io_listener *listener)
{
    struct acceptor *acceptor = acceptor_of(listener);
    acceptor->listener = NULL;
    if (!acceptor->armed)
        acceptor_free(acceptor);
}

// ---- the turn ----

static void uring_arm_wake(struct uring *uring)
{
    struct io_uring_sqe *entry = uring_entry(uring);
    io_uring_prep_read(entry, uring->wake_fd, &uring->wake_value, sizeof uring->wake_value, 0);
    entry_tag(entry, NULL, OPERATION_WAKE);
}

// The ring belongs to the thread that first turns or submits, which need not be the thread that made the
// loop.
static void uring_start(struct uring *uring)
{
    if (LIKELY(uring->running))
        return;
    uring->running = true;
    CHECK(ring_enable(&uring->ring) == 0);
    (void)io_uring_register_ring_fd(&uring->ring); // makes system calls faster; not needed
    uring_arm_wake(uring);
    for (struct list *node = uring->acceptors.next; node != &uring->acceptors; node = node->next)
        acceptor_arm(uring, CONTAINER_OF(node, struct acceptor, link));
}

static void uring_complete(struct uring *uring, uint64_t user_data, int result, uint32_t flags)
{
    void *object = (void *)(uintptr_t)(user_data & ~(uint64_t)OPERATION_MASK); // NOLINT
    switch ((enum operation)(user_data & OPERATION_MASK)) {
    case OPERATION_RECEIVE:
        complete_receive(uring, object, result, flags);
        return;
    case OPERATION_SEND:
        complete_send(object, result);
        return;
    case OPERATION_CONNECT:
        complete_connect(object, result);
        return;
    case OPERATION_WATCH:
        complete_watch(object);
        return;
    case OPERATION_ACCEPT:
        complete_accept(uring, object, result, flags);
        return;
    case OPERATION_WAKE:
        uring_arm_wake(uring);
        return;
    default:
        return;
    }
}

static void uring_dispatch(struct uring *uring)
{
    struct io_uring_cqe *completion;
    unsigned head, count = 0;
    io_uring_for_each_cqe(&uring->ring, head, completion)
    {
        uring_complete(uring, completion->user_data, completion->res, completion->flags);
        count++;
    }
    io_uring_cq_advance(&uring->ring, count);
}

static int uring_wait(struct uring *uring, uint64_t wait_us)
{
    struct io_uring_cqe *first;
    struct __kernel_timespec timeout = {.tv_sec = (long long)(wait_us / 1000000),
                                        .tv_nsec = (long long)(wait_us % 1000000) * 1000};
    if (wait_us == 0)
        return io_uring_submit_and_get_events(&uring->ring);
    if (wait_us == UINT64_MAX)
        return io_uring_submit_and_wait(&uring->ring, 1);
    return io_uring_submit_and_wait_timeout(&uring->ring, &first, 1, &timeout, NULL);
}

static enum status uring_turn(struct io_loop *loop, uint64_t max_wait_us)
{
    struct uring *uring = uring_of(loop);
    uring_start(uring);
    uint64_t wait_us = io_loop_wait_us(loop, max_wait_us);
    // What is submitted only now could not end yet. Without a wait its end is seen by the next turn.
    bool fresh = wait_us == 0 && io_uring_sq_ready(&uring->ring) > 0;
    int error = uring_wait(uring, wait_us);
    if (error < 0 && error != -ETIME && error != -EINTR && error != -EBUSY && error != -EAGAIN)
        return status_of_errno(-error);
    if (io_uring_sq_ready(&uring->ring) == 0)
        uring->scratch_used = 0;
    loop->events_left = fresh || io_uring_cq_has_overflow(&uring->ring);
    io_loop_begin(loop, io_socket_clock_us());
    uring_dispatch(uring);
    io_loop_end(loop);
    uring_provide(uring);
    return STATUS_OK;
}

static void uring_wake(struct io_loop *loop)
{
    uint64_t one = 1;
    ssize_t n = write(uring_of(loop)->wake_fd, &one, sizeof one); // fails only after 2^64 posts
    (void)n;
}

static uint64_t uring_clock_us(const struct io_loop *loop)
{
    (void)loop;
    return io_socket_clock_us();
}

// ---- creation ----

static void uring_destroy(struct io_loop *loop)
{
    struct uring *uring = uring_of(loop);
    CHECK(loop->streams_open == 0 && loop->listeners_open == 0);
    if (uring->ring_made)
        io_uring_queue_exit(&uring->ring);
    while (!list_empty(&uring->cancelling)) {
        struct io_stream *stream = CONTAINER_OF(uring->cancelling.next, struct io_stream, link);
        list_remove(&stream->link);
        io_socket_close(stream->handle, (stream->flags & IO_STREAM_ABORT) != 0);
    }
    while (!list_empty(&uring->acceptors))
        acceptor_free(CONTAINER_OF(uring->acceptors.next, struct acceptor, link));
    if (uring->wake_fd >= 0)
        close(uring->wake_fd);
    if (loop->reserve_fd >= 0)
        close(loop->reserve_fd);
    if (uring->buf_ring != NULL)
        munmap(uring->buf_ring, BUF_RING_BYTES);
    io_loop_deinit(loop);
    heap_free(uring);
}

static const struct io_face URING_FACE = {
    .kind = IO_KIND_URING,
    .destroy = uring_destroy,
    .turn = uring_turn,
    .wake = uring_wake,
    .clock_us = uring_clock_us,
    .adopt = uring_adopt,
    .connect = uring_connect,
    .flush = uring_flush,
    .ready = uring_ready,
    .resume = uring_resume,
    .close = uring_close,
    .taken = io_socket_taken,
    .listen = uring_listen,
    .listener_addr = io_socket_listener_addr,
    .listener_resume = uring_listener_resume,
    .listener_stop = uring_listener_stop,
    .listener_forget = uring_listener_forget,
    .handle_close = io_socket_handle_close,
};

// Does what io_uring_enable_rings does, which the library of Debian 12 declares but does not export.
static int ring_enable(struct io_uring *ring)
{
    return io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

// Tries the flags of newer kernels first.
static int ring_make(struct io_uring *ring, unsigned entries)
{
    static const unsigned WISHES[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
        IORING_SETUP_COOP_TASKRUN,
        0,
    };
    int error = 0;
    for (size_t i = 0; i < ARRAY_LEN(WISHES); i++) {
        struct io_uring_params params = {.flags = WISHES[i] | IORING_SETUP_R_DISABLED |
                                                  IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
                                         .cq_entries = entries * (CQ_ENTRIES / SQ_ENTRIES)};
        error = io_uring_queue_init_params(entries, ring, &params);
        if (error != -EINVAL)
            return error;
    }
    return error;
}

static int buf_ring_register(struct io_uring *ring, struct io_uring_buf_ring *buf_ring, unsigned entries)
{
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)buf_ring, .ring_entries = entries, .bgid = BUF_GROUP};
    int error = io_uring_register_buf_ring(ring, &registration, 0);
    if (error == 0)
        io_uring_buf_ring_init(buf_ring);
    return error;
}

static enum status uring_set_up(struct uring *uring)
{
    // Whole pages, as the kernel wants them.
    void *block = mmap(NULL, BUF_RING_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED)
        return STATUS_NO_MEMORY;
    uring->buf_ring = block;
    uring->wake_fd = eventfd(0, EFD_CLOEXEC);
    uring->base.reserve_fd = io_socket_reserve();
    if (uring->wake_fd < 0 || uring->base.reserve_fd < 0)
        return STATUS_NO_FD;
    int error = ring_make(&uring->ring, SQ_ENTRIES);
    if (error != 0)
        return error == -EPERM || error == -ENOSYS ? STATUS_UNSUPPORTED : status_of_errno(-error);
    uring->ring_made = true;
    error = buf_ring_register(&uring->ring, uring->buf_ring, BUF_RING_ENTRIES);
    if (error != 0)
        return error == -EINVAL ? STATUS_UNSUPPORTED : status_of_errno(-error);
    uring_grow_target(uring);
    uring_provide(uring);
    return STATUS_OK;
}

enum status io_uring_create(uint32_t bufs_max, struct io_loop **loop)
{
    struct fault why;
    if (!io_uring_available(&why))
        return STATUS_UNSUPPORTED;
    struct uring *uring = heap_alloc_aligned(sizeof *uring);
    if (uring == NULL)
        return STATUS_NO_MEMORY;
    uring->wake_fd = -1;
    list_init(&uring->acceptors);
    list_init(&uring->cancelling);
    enum status status = io_loop_init(&uring->base, &URING_FACE, bufs_max, io_socket_clock_us());
    if (status != STATUS_OK) {
        heap_free(uring);
        return status;
    }
    status = uring_set_up(uring);
    if (status != STATUS_OK) {
        uring_destroy(&uring->base);
        return status;
    }
    *loop = &uring->base;
    return STATUS_OK;
}

// ---- is io_uring available ----

// Tries a multishot receive from a provided buffer on a ring of its own, because no flag or opcode tells
// whether the kernel has it.
static const char *probe_receive(struct io_uring *ring, uint8_t *buffer, unsigned len, const int sockets[2])
{
    struct io_uring_sqe *entry = io_uring_get_sqe(ring);
    struct io_uring_cqe *completion;
    io_uring_prep_recv_multishot(entry, sockets[0], NULL, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = BUF_GROUP;
    if (write(sockets[1], "x", 1) != 1 || io_uring_submit_and_wait(ring, 1) < 0)
        return "io_uring_enter is refused";
    if (io_uring_peek_cqe(ring, &completion) != 0)
        return "no completion came";
    bool works =
        completion->res == 1 && (completion->flags & IORING_CQE_F_MORE) && len > 0 && buffer[0] == 'x';
    return works ? NULL : "no multishot receive (Linux 6.0)";
}

static const char *probe_ring(struct io_uring *ring, const int sockets[2])
{
    const size_t page = 4096;
    uint8_t *block = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED)
        return "no memory";
    struct io_uring_buf_ring *buf_ring = (struct io_uring_buf_ring *)(void *)block;
    const char *why = "no provided buffer rings (Linux 5.19)";
    if (buf_ring_register(ring, buf_ring, 1) == 0) {
        io_uring_buf_ring_add(buf_ring, block + page, (unsigned)page, 0, 0, 0);
        io_uring_buf_ring_advance(buf_ring, 1);
        why = ring_enable(ring) == 0 ? probe_receive(ring, block + page, (unsigned)page, sockets)
                                     : "the ring cannot be enabled";
        (void)io_uring_unregister_buf_ring(ring, BUF_GROUP);
    }
    munmap(block, 2 * page);
    return why;
}

static const char *probe(void)
{
    struct io_uring ring;
    int sockets[2];
    int error = ring_make(&ring, 8);
    if (error == -EPERM || error == -EACCES)
        return "forbidden (kernel.io_uring_disabled or a container's filter)";
    if (error != 0)
        return error == -ENOSYS ? "not in this kernel" : "io_uring_setup failed";
    const char *why = "no descriptors";
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0) {
        why = probe_ring(&ring, sockets);
        close(sockets[0]);
        close(sockets[1]);
    }
    io_uring_queue_exit(&ring);
    return why;
}

static const char *probed_why;

static void probe_once(void)
{
    probed_why = probe();
}

bool io_uring_available(struct fault *fault)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, probe_once);
    if (probed_why != NULL)
        (void)fault_set(fault, STATUS_UNSUPPORTED, "%s", probed_why);
    return probed_why == NULL;
}

#else

bool io_uring_available(struct fault *fault)
{
    (void)fault_set(fault, STATUS_UNSUPPORTED, "built without liburing");
    return false;
}

enum status io_uring_create(uint32_t bufs_max, struct io_loop **loop)
{
    (void)bufs_max;
    (void)loop;
    return STATUS_UNSUPPORTED;
}

#endif
