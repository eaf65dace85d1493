// SPDX-License-Identifier: Apache-2.0
// The event loop: completion-based, one per thread, with three faces (io_uring, epoll, simulated network).
// Only io_loop_turn blocks. Every callback is made by the loop's own turn, never from within another call.
// Only io_loop_post and io_loop_stop may be called from another thread.
//
// Ownership: a stream, listener or timer is the caller's storage, embedded in its own object. A buffer
// belongs to exactly one holder: on_data hands it over, io_stream_send and io_buf_put take it back.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/fault.h"
#include "base/list.h"
#include "base/status.h"

enum {
    IO_BUF_BYTES = 36864,        // payload of one buffer: a whole 32 KiB head and what the proxy adds to it
    IO_BUFS_MAX_DEFAULT = 16384, // per loop; beyond it recv waits and send answers STATUS_FULL
    IO_ADDR_TEXT_BYTES = 128,    // longest text io_addr_format writes, the NUL included
    IO_LISTEN_BACKLOG = 4096,
    IO_SEND_IOVECS_MAX = 16, // buffers gathered in one send
};

enum io_kind { IO_KIND_AUTO, IO_KIND_EPOLL, IO_KIND_URING, IO_KIND_SIM };

struct io_loop;
struct io_stream;
struct io_listener;

// ---- addresses ----

// An IPv4, IPv6 or unix-socket address.
struct io_addr {
    socklen_t len;
    union {
        struct sockaddr any;
        unsigned char bytes[112]; // sockaddr_un is the largest, 110 bytes
    };
};

// Parses "10.0.0.1:80", "[::1]:80" and "unix:/path". Never asks DNS. STATUS_INVALID on anything else.
MUST_USE enum status io_addr_parse(const char *text, struct io_addr *addr);
// An address alone, as "10.0.0.1" or "::1"; its port is 0. STATUS_INVALID on anything else.
MUST_USE enum status io_addr_parse_host(const char *text, size_t len, struct io_addr *addr);
// Also resolves "name:port" by getaddrinfo, which blocks, and takes the first address found: for commands
// only. The daemon follows names by net/names.
MUST_USE enum status io_addr_resolve(const char *text, struct io_addr *addr);
void io_addr_format(const struct io_addr *addr, char text[IO_ADDR_TEXT_BYTES]);
// The address without its port ("10.0.0.1", "::1", "unix:"), for X-Forwarded-For and certificates.
void io_addr_format_host(const struct io_addr *addr, char text[IO_ADDR_TEXT_BYTES]);
// The port of an IPv4 or IPv6 address.
uint16_t io_addr_port(const struct io_addr *addr);
void io_addr_set_port(struct io_addr *addr, uint16_t port);

// What one subscriber of the network holds of an address: that of IPv4, the first 64 bits of IPv6. False for
// unix sockets.
bool io_addr_site(const struct io_addr *addr, uint8_t site[8]);

// ---- buffers ----

// The bytes [start, end) of data are meaningful. Only the thread of its own loop may touch a buffer.
struct io_buf {
    struct io_buf *next; // the holder may use it to chain buffers
    struct io_loop *loop;
    uint32_t start;
    uint32_t end;
    uint16_t id; // private to the loop
    uint8_t data[IO_BUF_BYTES];
};

// An empty buffer, or NULL when the loop's limit is reached (counted in io_stats.bufs_refused).
MUST_USE struct io_buf *io_buf_get(struct io_loop *loop);
// Takes the buffer back. NULL is allowed.
void io_buf_put(struct io_buf *buf);

// Appends buf's bytes to *held and takes buf (*held NULL: buf becomes *held). STATUS_FULL when they do not
// fit into one buffer: *held stays as it was and buf is put back.
MUST_USE enum status io_buf_join(struct io_buf **held, struct io_buf *buf);

static inline uint32_t io_buf_len(const struct io_buf *buf)
{
    return buf->end - buf->start;
}

static inline uint32_t io_buf_room(const struct io_buf *buf)
{
    return IO_BUF_BYTES - buf->end;
}

// ---- loop ----

struct io_loop_config {
    enum io_kind kind; // AUTO probes io_uring and falls back to epoll
    uint32_t bufs_max; // 0: IO_BUFS_MAX_DEFAULT
};

struct io_stats {
    uint64_t turns;
    uint64_t accepts;
    uint64_t accept_failures; // EMFILE and the like; the connection was closed, not left hanging
    uint64_t bufs_refused;
    uint64_t bufs_in_use;
    uint64_t bytes_received;
    uint64_t bytes_sent;
};

// STATUS_UNSUPPORTED when the kind is not available here (io_uring forbidden), NO_MEMORY, NO_FD.
MUST_USE enum status io_loop_create(const struct io_loop_config *config, struct io_loop **loop);
// Close all its streams and listeners first.
void io_loop_destroy(struct io_loop *loop);
enum io_kind io_loop_kind(const struct io_loop *loop);
const char *io_kind_name(enum io_kind kind);
// True when this kernel and container allow io_uring; else the fault says what is missing.
bool io_uring_available(struct fault *fault);
const struct io_stats *io_loop_stats(const struct io_loop *loop);

// Monotonic microseconds, read once per turn; wall clock milliseconds since 1970.
uint64_t io_loop_now_us(const struct io_loop *loop);
int64_t io_loop_wall_ms(const struct io_loop *loop);
// Monotonic microseconds read now (for measuring inside a turn); virtual in the simulator.
uint64_t io_loop_clock_us(const struct io_loop *loop);

// One turn: wait at most max_wait_us (UINT64_MAX: until something happens), then run what completed.
MUST_USE enum status io_loop_turn(struct io_loop *loop, uint64_t max_wait_us);
// Turns until io_loop_stop; then returns.
void io_loop_run(struct io_loop *loop);
void io_loop_stop(struct io_loop *loop); // any thread
// Called at the start of every turn, after the clock is read. One hook per loop: the worker's quiet point.
void io_loop_set_turn_hook(struct io_loop *loop, void (*hook)(void *context), void *context);

// A task that any thread may post. It runs once, on the loop's thread. Its storage is the caller's and must
// stay until the task has run.
struct io_task {
    struct io_task *next;
    void (*run)(struct io_task *task);
};
void io_loop_post(struct io_loop *loop, struct io_task *task);
// Takes back a posted task; for the loop's own thread. False: it was not posted, or it is about to run in
// this very turn. Other posted tasks still run, each once.
bool io_loop_unpost(struct io_loop *loop, struct io_task *task);

// ---- timers ----

// Millisecond resolution, O(1) set and clear. A zeroed timer with `fire` set is ready for use.
struct io_timer {
    struct list link; // link.next == NULL or self: not set
    uint64_t deadline_us;
    void (*fire)(struct io_timer *timer);
};

void io_timer_init(struct io_timer *timer, void (*fire)(struct io_timer *timer));
// Sets or moves the timer to fire at or up to 1 ms after deadline_us (io_loop_now_us time).
void io_timer_set(struct io_loop *loop, struct io_timer *timer, uint64_t deadline_us);
void io_timer_clear(struct io_loop *loop, struct io_timer *timer);
bool io_timer_is_set(const struct io_timer *timer);

// ---- listeners ----

struct io_listener {
    struct io_loop *loop;
    int handle;
    uint8_t flags;    // private
    struct list link; // private
    // A new connection. Adopt the handle with io_stream_adopt or refuse it with io_handle_close.
    void (*on_accept)(struct io_listener *listener, int handle, const struct io_addr *peer);
    // Accepting failed (STATUS_NO_FD, ...); the loop goes on by itself after a pause.
    void (*on_failure)(struct io_listener *listener, enum status status);
};

// Opens, binds, listens and accepts from now on. reuse_port spreads connections over several loops'
// listeners. STATUS_IN_USE, DENIED, INVALID, NO_FD. Set on_accept before.
MUST_USE enum status io_listener_open(struct io_loop *loop, struct io_listener *listener,
                                      const struct io_addr *addr, bool reuse_port);
// Accepts beside `first`, an open listener of another loop that was opened with reuse_port, at its address. A
// unix socket has no such option: there both share one queue. Statuses as io_listener_open.
MUST_USE enum status io_listener_join(struct io_loop *loop, struct io_listener *listener,
                                      const struct io_listener *first);
// The address it is bound to (the port chosen when 0 was asked).
void io_listener_addr(const struct io_listener *listener, struct io_addr *addr);
// Accepts no more and frees the address, for good. What the kernel has accepted already is still told, until
// io_listener_close.
void io_listener_stop(struct io_listener *listener);
void io_listener_close(struct io_listener *listener);
void io_handle_close(struct io_loop *loop, int handle);

// ---- streams ----

struct io_stream_ops {
    // The connect has ended. When it failed, the owner must still call io_stream_close.
    void (*on_open)(struct io_stream *stream, enum status status);
    // Bytes came. The callee now owns buf and passes it to io_stream_send or io_buf_put, soon, because the
    // number of buffers is limited.
    void (*on_data)(struct io_stream *stream, struct io_buf *buf);
    // No more bytes will come: STATUS_CLOSED on an orderly end (the other direction may still be open), else
    // the failure. Failures of sending are reported here too. Called at most once with STATUS_CLOSED and at
    // most once with a failure, so twice when a peer ends and then resets. After a failure only on_closed
    // follows.
    void (*on_end)(struct io_stream *stream, enum status status);
    // All bytes given to io_stream_send have been handed to the kernel, after some of them had to wait.
    void (*on_drain)(struct io_stream *stream);
    // After io_stream_close: the storage may be used again. Nothing comes after it.
    void (*on_closed)(struct io_stream *stream);
};

// Keep this small: an idle keep-alive connection is one of these and its owner's object, together under 2
// KiB.
struct io_filter;
struct io_stream {
    struct io_loop *loop;
    const struct io_stream_ops *ops;
    struct io_filter *filter; // NULL: none; see filter.h
    struct list link;         // private: dirty or closing list of the loop
    struct io_buf *send_head; // private: queued to send
    struct io_buf *send_tail;
    struct io_buf *recv_held; // private: came while paused
    uint32_t send_pending;    // bytes queued or in flight
    uint32_t filter_pending;  // bytes that wait in the filter
    int handle;
    uint32_t flags;    // private
    uint16_t inflight; // private: operations the kernel still holds
    uint16_t deferred; // private: status to report from the next turn
};

// Wraps an accepted handle. Receiving starts at once unless paused in the same callback.
void io_stream_adopt(struct io_loop *loop, struct io_stream *stream, int handle,
                     const struct io_stream_ops *ops);
// Starts to connect. on_open reports the result, never from within this call, even if the failure is known at
// once.
void io_stream_connect(struct io_loop *loop, struct io_stream *stream, const struct io_addr *addr,
                       const struct io_stream_ops *ops);
// Queues a buffer and takes it. All that is queued within one callback leaves in one system call after it.
// Never fails: a broken stream drops the buffer, and on_end says why.
void io_stream_send(struct io_stream *stream, struct io_buf *buf);
// Bytes queued or in flight. A writer stops its source above a limit of its own and goes on at on_drain.
static inline uint32_t io_stream_pending(const struct io_stream *stream)
{
    return stream->send_pending + stream->filter_pending;
}
// Whether the peer still takes what was given: not all of it is acknowledged yet, and some was since *mark
// was last set by this call (0: never), or on_drain came. The kernel may hold megabytes, so a slow peer makes
// progress long before on_drain. Costs system calls: for timers.
bool io_stream_taking(const struct io_stream *stream, uint64_t *mark);
// Stops or restarts on_data (backpressure). While paused, an orderly end is not reported either.
void io_stream_pause(struct io_stream *stream);
void io_stream_resume(struct io_stream *stream);
// Sends what is queued, then ends our direction (FIN). Receiving goes on.
void io_stream_finish(struct io_stream *stream);
// Drops what is queued and closes. on_closed follows at the end of this turn or in a later one.
void io_stream_close(struct io_stream *stream);
// As io_stream_close, but with a reset to the peer: a response that was cut off must not look complete.
void io_stream_abort(struct io_stream *stream);
