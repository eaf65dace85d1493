// SPDX-License-Identifier: Apache-2.0
// What the three implementations of the event loop (its faces) share: the loop object, the table of functions
// that each face fills in, and the work lists. A stream is on at most one list at a time; its flags say what
// it waits for.
#pragma once

#include <stdatomic.h>
#include <sys/types.h>

#include "base/check.h"
#include "net/io/filter.h"
#include "net/io/loop.h"

enum {
    IO_SLAB_BUFS = 16,        // buffers allocated together
    IO_BUFS_LIMIT = 65535,    // a buffer's id has 16 bits
    IO_FLUSH_PASSES_MAX = 16, // most rounds of flushing after one callback
    IO_ACCEPT_BATCH = 64,     // connections taken, or shed, from one listener at a time
    IO_ACCEPT_PAUSE_US = 100000,
    IO_TIMERS_PUT_OFF_MAX = 16, // turns in a row whose timers wait for events that are there already
    IO_TICK_US = 1000,
    IO_WHEEL_LEVELS = 8,
    IO_WHEEL_SLOTS = 64,
};

// Flags of a stream.
enum {
    IO_STREAM_CONNECTING = 1u << 0,
    IO_STREAM_READABLE = 1u << 1, // unread bytes may wait in the kernel
    IO_STREAM_WRITABLE = 1u << 2, // the last send was not refused
    IO_STREAM_PAUSED = 1u << 3,
    IO_STREAM_FINISH = 1u << 4,     // send our FIN once the queue is empty
    IO_STREAM_FINISHED = 1u << 5,   // our FIN was sent
    IO_STREAM_ENDED = 1u << 6,      // the owner was told of the peer's orderly end
    IO_STREAM_BROKEN = 1u << 7,     // failed: nothing is sent or received any more
    IO_STREAM_CLOSED = 1u << 8,     // closed by the owner
    IO_STREAM_EOF = 1u << 9,        // the peer's end was seen; the owner may not know yet
    IO_STREAM_DIRTY = 1u << 10,     // on the dirty list
    IO_STREAM_READY = 1u << 11,     // wants to be on the ready list
    IO_STREAM_STARVED = 1u << 12,   // wants to be on the list of those waiting for a buffer
    IO_STREAM_OPENING = 1u << 13,   // on_open is due, with the deferred status
    IO_STREAM_FAILING = 1u << 14,   // on_end is due, with the deferred status
    IO_STREAM_RECEIVING = 1u << 15, // io_uring: a receive is armed
    IO_STREAM_SENDING = 1u << 16,   // io_uring: a send is in flight
    IO_STREAM_STOPPING = 1u << 17,  // io_uring: the receive is being cancelled
    IO_STREAM_ABORT = 1u << 18,     // close with a reset
};

enum { IO_LISTENER_PAUSED = 1, IO_LISTENER_STOPPED = 2 };

// Timers, sorted by the highest six-bit digit in which their tick differs from the present tick (1 ms).
struct io_wheel {
    uint64_t tick;
    uint64_t occupied[IO_WHEEL_LEVELS]; // a set bit may be stale (the slot was cleared), never missing
    struct list slots[IO_WHEEL_LEVELS][IO_WHEEL_SLOTS];
    struct list due;
};

void io_wheel_init(struct io_wheel *wheel, uint64_t now_us);
void io_wheel_insert(struct io_wheel *wheel, struct io_timer *timer);
// Moves the wheel to now_us. The expired timers are then on wheel->due, in order.
void io_wheel_advance(struct io_wheel *wheel, uint64_t now_us);
// A time not later than the next expiry; UINT64_MAX when no timer is set.
uint64_t io_wheel_next_us(struct io_wheel *wheel);

struct io_face {
    enum io_kind kind;
    void (*destroy)(struct io_loop *loop);
    enum status (*turn)(struct io_loop *loop, uint64_t max_wait_us);
    void (*wake)(struct io_loop *loop); // any thread
    uint64_t (*clock_us)(const struct io_loop *loop);
    void (*adopt)(struct io_stream *stream);
    void (*connect)(struct io_stream *stream, const struct io_addr *addr);
    void (*flush)(struct io_stream *stream); // stream is dirty: send the queue, then FIN if asked
    void (*ready)(struct io_stream *stream); // stream is ready: do whatever else is due
    void (*resume)(struct io_stream *stream);
    void (*close)(struct io_stream *stream); // the queue is already dropped; must lead to io_stream_retire
    // *waiting: bytes given to the kernel that the peer has not acknowledged; *mark changes whenever it has.
    void (*taken)(const struct io_stream *stream, uint64_t *waiting, uint64_t *mark);
    // listener->handle: -1, or what another listener of that address is open on, to be shared.
    enum status (*listen)(struct io_listener *listener, const struct io_addr *addr, bool reuse_port);
    void (*listener_addr)(const struct io_listener *listener, struct io_addr *addr);
    void (*listener_resume)(struct io_listener *listener);
    void (*listener_stop)(struct io_listener *listener);
    void (*listener_forget)(struct io_listener *listener); // after stop; NULL: nothing is left of it then
    void (*handle_close)(struct io_loop *loop, int handle);
};

struct io_loop {
    const struct io_face *face;
    uint64_t now_us;
    int64_t wall_offset_ms;
    uint64_t wall_read_us;
    struct io_stats stats;
    struct list dirty;
    struct list ready;
    struct list starved;
    struct list closing;
    struct list listeners_paused;
    struct io_buf *bufs_free;
    struct io_buf **slabs;
    uint32_t bufs_allocated;
    uint32_t bufs_max;
    uint32_t streams_open;
    uint32_t listeners_open;
    void (*hook)(void *context);
    void *hook_context;
    struct io_timer accept_pause;
    struct io_timer starved_retry;
    struct io_wheel wheel;
    bool events_left;        // the face has, or may have, more events than it took in this turn
    uint32_t timers_put_off; // turns in a row
    int reserve_fd;          // closed for a moment to shed a connection when no descriptor is left
    _Alignas(64) _Atomic(struct io_task *) posted;
    atomic_int sleeping;
    atomic_int stop;
};

// ---- loop.c, for the faces ----

MUST_USE enum status io_loop_init(struct io_loop *loop, const struct io_face *face, uint32_t bufs_max,
                                  uint64_t now_us);
void io_loop_deinit(struct io_loop *loop);
// How long to wait: 0 when something is due. Tells posting threads that the loop sleeps, until io_loop_begin.
uint64_t io_loop_wait_us(struct io_loop *loop, uint64_t max_wait_us);
// Begin and end of a turn; in between the face dispatches its events.
void io_loop_begin(struct io_loop *loop, uint64_t now_us);
void io_loop_end(struct io_loop *loop);
void io_loop_run_dirty(struct io_loop *loop);

static inline void io_loop_flush(struct io_loop *loop)
{
    if (!list_empty(&loop->dirty))
        io_loop_run_dirty(loop);
}

void io_stream_mark_dirty(struct io_stream *stream);
void io_stream_mark_ready(struct io_stream *stream);
void io_stream_mark_starved(struct io_stream *stream);
void io_stream_drop_queue(struct io_stream *stream);
// n bytes of the queue were sent.
void io_stream_consume(struct io_stream *stream, size_t n);
// Call the owner back and update the flags. A failure is told once and drops the queue.
void io_stream_tell_data(struct io_stream *stream, struct io_buf *buf);
void io_stream_tell_drain(struct io_stream *stream);
void io_stream_tell_closed_by_peer(struct io_stream *stream);
void io_stream_tell_failure(struct io_stream *stream, enum status status);
void io_stream_tell_open(struct io_stream *stream, enum status status);
// Nothing refers to the stream any more: on_closed is called at the end of the turn.
void io_stream_retire(struct io_stream *stream);

static inline bool io_stream_dead(const struct io_stream *stream)
{
    return (stream->flags & (IO_STREAM_CLOSED | IO_STREAM_BROKEN)) != 0;
}

static inline struct io_buf *io_loop_buf(const struct io_loop *loop, uint32_t id)
{
    return &loop->slabs[id / IO_SLAB_BUFS][id % IO_SLAB_BUFS];
}

void io_listener_tell_failure(struct io_listener *listener, enum status status);
// Pauses the listener for IO_ACCEPT_PAUSE_US; then face->listener_resume is called.
void io_listener_pause(struct io_listener *listener);

// ---- addr.c: internet addresses only, except io_addr_reaches ----

// Whether a connect to the address `wanted` arrives at a listener bound to `listening`.
bool io_addr_reaches(const struct io_addr *wanted, const struct io_addr *listening);

// ---- socket.c: socket calls of both real faces ----

uint64_t io_socket_clock_us(void);
// The socket for a listener; see io_face.listen.
MUST_USE enum status io_socket_listen(const struct io_listener *listener, const struct io_addr *addr,
                                      bool reuse_port, int *fd);
MUST_USE enum status io_socket_open(const struct io_addr *addr, int *fd);
void io_socket_taken(const struct io_stream *stream, uint64_t *waiting, uint64_t *mark);
void io_socket_listener_addr(const struct io_listener *listener, struct io_addr *addr);
void io_socket_handle_close(struct io_loop *loop, int handle);
// Closes with a reset when asked.
void io_socket_close(int fd, bool reset);
int io_socket_error(int fd);
// Sends the head of the queue, up to IO_SEND_IOVECS_MAX buffers, without waiting. Returns as send(2) does.
ssize_t io_socket_send(const struct io_stream *stream);
int io_socket_reserve(void);
// True for an accept error that concerns only that one connection (ECONNABORTED and the like).
bool io_socket_accept_error_passes(int error_number);
// No descriptor was left: with the help of the reserve, accepts and closes the connections that wait at the
// listener, then pauses it.
void io_socket_shed(struct io_listener *listener, int error_number);

// ---- the faces ----

enum status io_epoll_create(uint32_t bufs_max, struct io_loop **loop);
enum status io_uring_create(uint32_t bufs_max, struct io_loop **loop);
