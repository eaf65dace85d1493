// SPDX-License-Identifier: Apache-2.0
// The loop on epoll: edge-triggered, each connection registered once for everything, so that a request costs
// its receives and sends and a share of one epoll_wait. Invariant: after an edge, READABLE stays set until a
// receive came back short or empty, so no edge is lost and no receive is tried in vain.
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/heap.h"
#include "net/io/io_private.h"

enum {
    EVENTS_MAX = 512,
    READS_PER_EVENT = 4, // full buffers taken from one stream before the others have their turn
};

// What an event's pointer refers to, in its lowest bit (the pointers are aligned).
enum { REF_STREAM = 0, REF_LISTENER = 1 };

struct io_epoll {
    struct io_loop base;
    int fd;
    int wake_fd;
    int events_count;
    int events_next;
    bool wait_by_ms; // no epoll_pwait2 here
    struct epoll_event events[EVENTS_MAX];
};

static struct io_epoll *epoll_of(struct io_loop *loop)
{
    return CONTAINER_OF(loop, struct io_epoll, base);
}

static enum status epoll_register(struct io_loop *loop, int operation, int fd, uint32_t events,
                                  uint64_t reference)
{
    struct epoll_event event = {.events = events, .data.u64 = reference};
    if (epoll_ctl(epoll_of(loop)->fd, operation, fd, &event) != 0)
        return status_of_errno(errno);
    return STATUS_OK;
}

static uint64_t listener_reference(const struct io_listener *listener)
{
    return (uint64_t)(uintptr_t)listener | REF_LISTENER;
}

// ---- receiving ----

// One receive. True when more may be waiting and the owner still wants it.
static bool epoll_receive_once(struct io_stream *stream)
{
    struct io_buf *buf = io_buf_get(stream->loop);
    if (UNLIKELY(buf == NULL)) {
        io_stream_mark_starved(stream);
        return false;
    }
    ssize_t n = recv(stream->handle, buf->data, IO_BUF_BYTES, 0);
    if (LIKELY(n > 0)) {
        // A short read emptied the socket, and new bytes make a new edge. But a peer's end that was already
        // seen makes no further edge.
        if (n < IO_BUF_BYTES && (stream->flags & IO_STREAM_EOF) == 0)
            stream->flags &= ~(uint32_t)IO_STREAM_READABLE;
        buf->end = (uint32_t)n;
        io_stream_tell_data(stream, buf);
        io_loop_flush(stream->loop);
        return (stream->flags & (IO_STREAM_READABLE | IO_STREAM_PAUSED | IO_STREAM_CLOSED |
                                 IO_STREAM_BROKEN)) == IO_STREAM_READABLE;
    }
    int error = errno;
    io_buf_put(buf);
    if (n < 0 && error == EINTR)
        return true;
    stream->flags &= ~(uint32_t)IO_STREAM_READABLE;
    if (n == 0)
        io_stream_tell_closed_by_peer(stream);
    else if (error != EAGAIN)
        io_stream_tell_failure(stream, status_of_errno(error));
    io_loop_flush(stream->loop);
    return false;
}

static void epoll_receive(struct io_stream *stream)
{
    for (int i = 0; i < READS_PER_EVENT; i++)
        if (!epoll_receive_once(stream))
            return;
    io_stream_mark_ready(stream);
}

static bool epoll_wants_receive(const struct io_stream *stream)
{
    const uint32_t mask = IO_STREAM_READABLE | IO_STREAM_PAUSED | IO_STREAM_ENDED | IO_STREAM_BROKEN |
                          IO_STREAM_CLOSED | IO_STREAM_CONNECTING;
    return (stream->flags & mask) == IO_STREAM_READABLE;
}

// ---- sending ----

// Sends until the queue is empty (true) or the socket refuses.
static bool epoll_send_queue(struct io_stream *stream)
{
    while (stream->send_head != NULL) {
        ssize_t n = io_socket_send(stream);
        if (LIKELY(n >= 0)) {
            io_stream_consume(stream, (size_t)n);
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN) {
            stream->flags &= ~(uint32_t)IO_STREAM_WRITABLE;
            return false;
        }
        enum status status = status_of_errno(errno);
        io_stream_drop_queue(stream);
        io_stream_tell_failure(stream, status);
        return false;
    }
    return true;
}

static void epoll_flush(struct io_stream *stream)
{
    if (io_stream_dead(stream) || (stream->flags & IO_STREAM_WRITABLE) == 0)
        return;
    bool had_queue = stream->send_head != NULL;
    if (!epoll_send_queue(stream))
        return;
    if ((stream->flags & (IO_STREAM_FINISH | IO_STREAM_FINISHED)) == IO_STREAM_FINISH) {
        stream->flags |= IO_STREAM_FINISHED;
        // This fails only when the peer has reset the connection, which the next event reports.
        (void)shutdown(stream->handle, SHUT_WR);
    }
    if (had_queue)
        io_stream_tell_drain(stream);
}

// ---- events ----

static void epoll_fail(struct io_stream *stream, int error)
{
    io_stream_drop_queue(stream);
    io_stream_tell_failure(stream, status_of_errno(error));
}

// An error that no receive will report, because the stream is paused or its peer has ended in order.
static void epoll_on_error(struct io_stream *stream)
{
    if (epoll_wants_receive(stream) || io_stream_dead(stream))
        return;
    int error = io_socket_error(stream->handle);
    if (error != 0)
        epoll_fail(stream, error);
}

static void epoll_on_stream(struct io_stream *stream, uint32_t events)
{
    // A callback earlier in this batch closed the stream.
    if (UNLIKELY(io_stream_dead(stream)))
        return;
    if (UNLIKELY(stream->flags & IO_STREAM_CONNECTING)) {
        io_stream_tell_open(stream, status_of_errno(io_socket_error(stream->handle)));
        io_loop_flush(stream->loop);
        if (io_stream_dead(stream))
            return;
    }
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        stream->flags |= IO_STREAM_EOF | IO_STREAM_READABLE;
    if (events & EPOLLIN)
        stream->flags |= IO_STREAM_READABLE;
    if ((events & EPOLLOUT) && (stream->flags & IO_STREAM_WRITABLE) == 0) {
        stream->flags |= IO_STREAM_WRITABLE;
        io_stream_mark_dirty(stream);
    }
    if (epoll_wants_receive(stream))
        epoll_receive(stream);
    if (UNLIKELY(events & EPOLLERR))
        epoll_on_error(stream);
    io_loop_flush(stream->loop);
}

static void epoll_shed(struct io_listener *listener, int error)
{
    // The registration is level-triggered: no events until the pause of io_listener_pause is over.
    (void)epoll_register(listener->loop, EPOLL_CTL_MOD, listener->handle, 0, listener_reference(listener));
    io_socket_shed(listener, error);
}

static void epoll_on_listener(struct io_listener *listener)
{
    struct io_epoll *epoll = epoll_of(listener->loop);
    struct io_loop *loop = &epoll->base;
    int here = epoll->events_next;
    for (int i = 0; i < IO_ACCEPT_BATCH; i++) {
        struct io_addr peer = {.len = sizeof peer.bytes};
        int fd = accept4(listener->handle, &peer.any, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno != EAGAIN && !io_socket_accept_error_passes(errno))
                epoll_shed(listener, errno);
            return;
        }
        loop->stats.accepts++;
        listener->on_accept(listener, fd, &peer);
        io_loop_flush(loop);
        // The callback may have closed the listener, whose storage is then no longer ours to look at.
        if (epoll->events[here - 1].data.u64 == 0)
            return;
    }
}

static void epoll_dispatch(struct io_epoll *epoll)
{
    for (epoll->events_next = 0; epoll->events_next < epoll->events_count;) {
        struct epoll_event *event = &epoll->events[epoll->events_next++];
        uint64_t reference = event->data.u64;
        if (reference == 0)
            continue; // the wake-up, or a listener closed in this batch
        if (LIKELY((reference & 1) == REF_STREAM))
            epoll_on_stream((struct io_stream *)(uintptr_t)reference, event->events);
        else
            epoll_on_listener((struct io_listener *)(uintptr_t)(reference & ~1ULL));
    }
    epoll->events_count = 0;
}

static int epoll_wait_events(struct io_epoll *epoll, uint64_t wait_us)
{
    if (LIKELY(!epoll->wait_by_ms)) {
        struct timespec timeout = {.tv_sec = (time_t)(wait_us / 1000000),
                                   .tv_nsec = (long)(wait_us % 1000000) * 1000};
        int n =
            epoll_pwait2(epoll->fd, epoll->events, EVENTS_MAX, wait_us == UINT64_MAX ? NULL : &timeout, NULL);
        if (n >= 0 || errno != ENOSYS)
            return n;
        epoll->wait_by_ms = true;
    }
    int timeout_ms = wait_us >= 1000000000 ? 1000000 : (int)((wait_us + 999) / 1000);
    return epoll_wait(epoll->fd, epoll->events, EVENTS_MAX, wait_us == UINT64_MAX ? -1 : timeout_ms);
}

static enum status epoll_turn(struct io_loop *loop, uint64_t max_wait_us)
{
    struct io_epoll *epoll = epoll_of(loop);
    int n = epoll_wait_events(epoll, io_loop_wait_us(loop, max_wait_us));
    if (n < 0 && errno != EINTR)
        return status_of_errno(errno);
    epoll->events_count = n < 0 ? 0 : n;
    loop->events_left = n == EVENTS_MAX;
    io_loop_begin(loop, io_socket_clock_us());
    epoll_dispatch(epoll);
    io_loop_end(loop);
    return STATUS_OK;
}

// ---- streams ----

static enum status epoll_watch(struct io_stream *stream)
{
    return epoll_register(stream->loop, EPOLL_CTL_ADD, stream->handle,
                          EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                          (uint64_t)(uintptr_t)stream | REF_STREAM);
}

static void epoll_defer_failure(struct io_stream *stream, enum status status)
{
    stream->deferred = (uint16_t)status;
    stream->flags |= IO_STREAM_FAILING;
    io_stream_mark_ready(stream);
}

static void epoll_adopt(struct io_stream *stream)
{
    enum status status = epoll_watch(stream);
    if (status != STATUS_OK)
        epoll_defer_failure(stream, status);
}

static void epoll_connect(struct io_stream *stream, const struct io_addr *addr)
{
    enum status status = io_socket_open(addr, &stream->handle);
    if (status != STATUS_OK) {
        epoll_defer_failure(stream, status);
        return;
    }
    int error = connect(stream->handle, &addr->any, addr->len) == 0 ? 0 : errno;
    if (error == EAGAIN)
        error = ECONNREFUSED; // a unix socket's backlog is full
    if (error != 0 && error != EINPROGRESS)
        status = status_of_errno(error);
    // The next event reports how the connect ended, also when it has ended already.
    if (status == STATUS_OK)
        status = epoll_watch(stream);
    if (status != STATUS_OK)
        epoll_defer_failure(stream, status);
}

static void epoll_ready(struct io_stream *stream)
{
    if (stream->flags & IO_STREAM_FAILING) {
        io_stream_drop_queue(stream);
        io_stream_tell_failure(stream, (enum status)stream->deferred);
        return;
    }
    if (epoll_wants_receive(stream))
        epoll_receive(stream);
}

static void epoll_resume(struct io_stream *stream)
{
    if (epoll_wants_receive(stream))
        io_stream_mark_ready(stream);
}

static void epoll_close(struct io_stream *stream)
{
    io_socket_close(stream->handle, (stream->flags & IO_STREAM_ABORT) != 0);
    stream->handle = -1;
    io_stream_retire(stream);
}

// ---- listeners ----

static enum status epoll_listen(struct io_listener *listener, const struct io_addr *addr, bool reuse_port)
{
    int fd;
    enum status status = io_socket_listen(listener, addr, reuse_port, &fd);
    if (status != STATUS_OK)
        return status;
    status = epoll_register(listener->loop, EPOLL_CTL_ADD, fd, EPOLLIN, listener_reference(listener));
    if (status != STATUS_OK) {
        close(fd);
        return status;
    }
    listener->handle = fd;
    return STATUS_OK;
}

static void epoll_listener_resume(struct io_listener *listener)
{
    (void)epoll_register(listener->loop, EPOLL_CTL_MOD, listener->handle, EPOLLIN,
                         listener_reference(listener));
}

static void epoll_listener_stop(struct io_listener *listener)
{
    struct io_epoll *epoll = epoll_of(listener->loop);
    // Closing alone would not end the registration of a socket that others share.
    (void)epoll_ctl(epoll->fd, EPOLL_CTL_DEL, listener->handle, NULL);
    close(listener->handle);
    for (int i = 0; i < epoll->events_count; i++)
        if (epoll->events[i].data.u64 == listener_reference(listener)) {
            epoll->events[i].data.u64 = 0;
        }
}

// ---- the loop ----

static void epoll_wake(struct io_loop *loop)
{
    // Edge-triggered: each write wakes the loop again and nobody needs to read. It can only fail after 2^64
    // posts.
    uint64_t one = 1;
    ssize_t n = write(epoll_of(loop)->wake_fd, &one, sizeof one);
    (void)n;
}

static uint64_t epoll_clock_us(const struct io_loop *loop)
{
    (void)loop;
    return io_socket_clock_us();
}

static void epoll_destroy(struct io_loop *loop)
{
    struct io_epoll *epoll = epoll_of(loop);
    CHECK(loop->streams_open == 0 && loop->listeners_open == 0);
    if (epoll->fd >= 0)
        close(epoll->fd);
    if (epoll->wake_fd >= 0)
        close(epoll->wake_fd);
    if (loop->reserve_fd >= 0)
        close(loop->reserve_fd);
    io_loop_deinit(loop);
    heap_free(epoll);
}

static const struct io_face EPOLL_FACE = {
    .kind = IO_KIND_EPOLL,
    .destroy = epoll_destroy,
    .turn = epoll_turn,
    .wake = epoll_wake,
    .clock_us = epoll_clock_us,
    .adopt = epoll_adopt,
    .connect = epoll_connect,
    .flush = epoll_flush,
    .ready = epoll_ready,
    .resume = epoll_resume,
    .close = epoll_close,
    .taken = io_socket_taken,
    .listen = epoll_listen,
    .listener_addr = io_socket_listener_addr,
    .listener_resume = epoll_listener_resume,
    .listener_stop = epoll_listener_stop,
    .handle_close = io_socket_handle_close,
};

enum status io_epoll_create(uint32_t bufs_max, struct io_loop **loop)
{
    struct io_epoll *epoll = heap_alloc_aligned(sizeof *epoll);
    if (epoll == NULL)
        return STATUS_NO_MEMORY;
    epoll->fd = -1;
    epoll->wake_fd = -1;
    enum status status = io_loop_init(&epoll->base, &EPOLL_FACE, bufs_max, io_socket_clock_us());
    if (status != STATUS_OK) {
        heap_free(epoll);
        return status;
    }
    epoll->fd = epoll_create1(EPOLL_CLOEXEC);
    epoll->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    epoll->base.reserve_fd = io_socket_reserve();
    if (epoll->fd < 0 || epoll->wake_fd < 0 || epoll->base.reserve_fd < 0)
        status = STATUS_NO_FD;
    else
        status = epoll_register(&epoll->base, EPOLL_CTL_ADD, epoll->wake_fd, EPOLLIN | EPOLLET, 0);
    if (status != STATUS_OK) {
        epoll_destroy(&epoll->base);
        return status;
    }
    *loop = &epoll->base;
    return STATUS_OK;
}
