// SPDX-License-Identifier: Apache-2.0
// What every face of the loop shares: buffers, the work lists, begin and end of a turn, posting, and the
// dispatch to the face. Invariant: callbacks are only made from within a turn, and on_closed only at the end
// of a turn, after every event of that turn was dispatched. So no event can refer to storage that has been
// used again.
#include <string.h>
#include <time.h>

#include "base/heap.h"
#include "net/io/io_private.h"

#define BUF_IS_FREE UINT32_MAX // in buf->start

enum { WALL_REREAD_US = 100000, STARVED_RETRY_US = 10000 };

// ---- buffers ----

static bool bufs_grow(struct io_loop *loop)
{
    uint32_t want = loop->bufs_max - loop->bufs_allocated;
    if (want > IO_SLAB_BUFS)
        want = IO_SLAB_BUFS;
    struct io_buf *slab = want == 0 ? NULL : heap_alloc(want, sizeof *slab);
    if (slab == NULL)
        return false;
    loop->slabs[loop->bufs_allocated / IO_SLAB_BUFS] = slab;
    for (uint32_t i = want; i-- > 0;) {
        slab[i].loop = loop;
        slab[i].id = (uint16_t)(loop->bufs_allocated + i);
        slab[i].start = BUF_IS_FREE;
        slab[i].next = loop->bufs_free;
        loop->bufs_free = &slab[i];
    }
    loop->bufs_allocated += want;
    return true;
}

struct io_buf *io_buf_get(struct io_loop *loop)
{
    if (UNLIKELY(loop->bufs_free == NULL) && !bufs_grow(loop)) {
        loop->stats.bufs_refused++;
        return NULL;
    }
    struct io_buf *buf = loop->bufs_free;
    loop->bufs_free = buf->next;
    buf->next = NULL;
    buf->start = 0;
    buf->end = 0;
    loop->stats.bufs_in_use++;
    return buf;
}

void io_buf_put(struct io_buf *buf)
{
    if (buf == NULL)
        return;
    struct io_loop *loop = buf->loop;
    CHECK(buf->start != BUF_IS_FREE);
    buf->start = BUF_IS_FREE;
    buf->next = loop->bufs_free;
    loop->bufs_free = buf;
    loop->stats.bufs_in_use--;
}

enum status io_buf_join(struct io_buf **held, struct io_buf *buf)
{
    struct io_buf *into = *held;
    if (into == NULL) {
        *held = buf;
        return STATUS_OK;
    }
    uint32_t have = io_buf_len(into);
    memmove(into->data, into->data + into->start, have);
    into->start = 0;
    into->end = have;
    uint32_t more = io_buf_len(buf);
    bool fits = more <= io_buf_room(into);
    if (fits) {
        memcpy(into->data + have, buf->data + buf->start, more);
        into->end += more;
    }
    io_buf_put(buf);
    return fits ? STATUS_OK : STATUS_FULL;
}

// ---- work lists ----

static struct io_stream *first_stream(struct list *head)
{
    return CONTAINER_OF(head->next, struct io_stream, link);
}

// Puts a stream on the list that its flags ask for: dirty goes before ready, ready before starved.
static void stream_place(struct io_stream *stream)
{
    struct io_loop *loop = stream->loop;
    list_remove(&stream->link);
    if (stream->flags & IO_STREAM_DIRTY)
        list_push_back(&loop->dirty, &stream->link);
    else if (stream->flags & IO_STREAM_READY)
        list_push_back(&loop->ready, &stream->link);
    else if (stream->flags & IO_STREAM_STARVED)
        list_push_back(&loop->starved, &stream->link);
}

static void stream_mark(struct io_stream *stream, uint32_t flag)
{
    if (stream->flags & (flag | IO_STREAM_CLOSED))
        return;
    stream->flags |= flag;
    stream_place(stream);
}

void io_stream_mark_dirty(struct io_stream *stream)
{
    stream_mark(stream, IO_STREAM_DIRTY);
}

void io_stream_mark_ready(struct io_stream *stream)
{
    stream_mark(stream, IO_STREAM_READY);
}

void io_stream_mark_starved(struct io_stream *stream)
{
    stream_mark(stream, IO_STREAM_STARVED);
}

void io_loop_run_dirty(struct io_loop *loop)
{
    for (int pass = 0; pass < IO_FLUSH_PASSES_MAX && !list_empty(&loop->dirty); pass++) {
        struct list batch;
        list_init(&batch);
        list_append_all(&batch, &loop->dirty);
        while (!list_empty(&batch)) {
            struct io_stream *stream = first_stream(&batch);
            stream->flags &= ~(uint32_t)IO_STREAM_DIRTY;
            stream_place(stream);
            if (UNLIKELY(stream->filter != NULL))
                stream->filter->ops->flush(stream);
            if ((stream->flags & IO_STREAM_CLOSED) == 0)
                loop->face->flush(stream);
        }
    }
}

static void run_ready(struct io_loop *loop)
{
    struct list batch;
    list_init(&batch);
    list_append_all(&batch, &loop->ready);
    while (!list_empty(&batch)) {
        struct io_stream *stream = first_stream(&batch);
        stream->flags &= ~(uint32_t)IO_STREAM_READY;
        stream_place(stream);
        if (UNLIKELY(stream->filter != NULL && stream->filter->waiting)) {
            stream->filter->waiting = false;
            stream->filter->ops->ready(stream);
        }
        if ((stream->flags & IO_STREAM_CLOSED) == 0)
            loop->face->ready(stream);
        io_loop_flush(loop);
    }
}

// Lets every starved stream try again. One that still finds no buffer puts itself back on the list.
static void feed_starved(struct io_loop *loop)
{
    while (!list_empty(&loop->starved)) {
        struct io_stream *stream = first_stream(&loop->starved);
        stream->flags &= ~(uint32_t)IO_STREAM_STARVED;
        io_stream_mark_ready(stream);
    }
}

static void retry_starved(struct io_timer *timer)
{
    feed_starved(CONTAINER_OF(timer, struct io_loop, starved_retry));
}

// Below the limit it was the heap that refused. Then perhaps nobody holds a buffer whose return would wake
// the starved streams, so a timer does.
static void run_starved(struct io_loop *loop)
{
    if (loop->bufs_free != NULL)
        feed_starved(loop);
    else if (loop->bufs_allocated < loop->bufs_max && !io_timer_is_set(&loop->starved_retry))
        io_timer_set(loop, &loop->starved_retry, loop->now_us + STARVED_RETRY_US);
}

static void drop_chain(struct io_buf *buf)
{
    while (buf != NULL) {
        struct io_buf *next = buf->next;
        io_buf_put(buf);
        buf = next;
    }
}

static void filter_drop(struct io_stream *stream)
{
    struct io_filter *filter = stream->filter;
    stream->filter = NULL;
    drop_chain(filter->out_head);
    filter->ops->closed(filter);
}

static void run_closing(struct io_loop *loop)
{
    struct list batch;
    list_init(&batch);
    list_append_all(&batch, &loop->closing);
    while (!list_empty(&batch)) {
        struct io_stream *stream = first_stream(&batch);
        list_remove(&stream->link);
        if (UNLIKELY(stream->filter != NULL))
            filter_drop(stream);
        stream->loop = NULL;
        if (stream->ops->on_closed != NULL)
            stream->ops->on_closed(stream);
    }
}

// What has happened already comes before the timer that waits for it in vain, also when it is more than one
// turn takes. A loop that is never done with its events still gets to its timers.
static bool timers_wait(struct io_loop *loop)
{
    loop->timers_put_off =
        loop->events_left && loop->timers_put_off < IO_TIMERS_PUT_OFF_MAX ? loop->timers_put_off + 1 : 0;
    return loop->timers_put_off > 0;
}

static void run_timers(struct io_loop *loop)
{
    if (UNLIKELY(timers_wait(loop)))
        return;
    io_wheel_advance(&loop->wheel, loop->now_us);
    if (LIKELY(list_empty(&loop->wheel.due)))
        return;
    struct list batch;
    list_init(&batch);
    list_append_all(&batch, &loop->wheel.due);
    while (!list_empty(&batch)) {
        struct io_timer *timer = CONTAINER_OF(batch.next, struct io_timer, link);
        list_remove(&timer->link);
        timer->fire(timer);
        io_loop_flush(loop);
    }
}

static void run_posted(struct io_loop *loop)
{
    if (LIKELY(atomic_load_explicit(&loop->posted, memory_order_relaxed) == NULL))
        return;
    struct io_task *newest = atomic_exchange_explicit(&loop->posted, NULL, memory_order_acquire);
    struct io_task *oldest = NULL;
    while (newest != NULL) {
        struct io_task *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct io_task *task = oldest;
        oldest = task->next;
        task->run(task);
        io_loop_flush(loop);
    }
}

// ---- the turn ----

static bool loop_has_work(const struct io_loop *loop)
{
    return !list_empty(&loop->dirty) || !list_empty(&loop->ready) || !list_empty(&loop->closing) ||
           (!list_empty(&loop->starved) && loop->bufs_free != NULL) || atomic_load(&loop->posted) != NULL ||
           atomic_load(&loop->stop) != 0;
}

uint64_t io_loop_wait_us(struct io_loop *loop, uint64_t max_wait_us)
{
    // Pairs with loop_wake in the single order of all these operations: either the poster sees that this
    // thread sleeps, or this thread sees what was posted.
    atomic_store(&loop->sleeping, 1);
    if (loop_has_work(loop))
        return 0;
    uint64_t next_us = io_wheel_next_us(&loop->wheel);
    if (next_us == UINT64_MAX)
        return max_wait_us;
    uint64_t now_us = loop->face->clock_us(loop);
    uint64_t wait_us = next_us > now_us ? next_us - now_us : 0;
    return wait_us < max_wait_us ? wait_us : max_wait_us;
}

static int64_t wall_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void io_loop_begin(struct io_loop *loop, uint64_t now_us)
{
    atomic_store_explicit(&loop->sleeping, 0, memory_order_relaxed);
    loop->now_us = now_us;
    loop->stats.turns++;
    if (now_us - loop->wall_read_us >= WALL_REREAD_US && loop->face->kind != IO_KIND_SIM) {
        loop->wall_read_us = now_us;
        loop->wall_offset_ms = wall_clock_ms() - (int64_t)(now_us / 1000);
    }
    if (loop->hook != NULL)
        loop->hook(loop->hook_context);
}

void io_loop_end(struct io_loop *loop)
{
    io_loop_flush(loop);
    run_timers(loop);
    run_posted(loop);
    if (UNLIKELY(!list_empty(&loop->starved)))
        run_starved(loop);
    if (!list_empty(&loop->ready))
        run_ready(loop);
    if (!list_empty(&loop->closing))
        run_closing(loop);
}

enum status io_loop_turn(struct io_loop *loop, uint64_t max_wait_us)
{
    return loop->face->turn(loop, max_wait_us);
}

void io_loop_run(struct io_loop *loop)
{
    while (atomic_load_explicit(&loop->stop, memory_order_acquire) == 0)
        if (io_loop_turn(loop, UINT64_MAX) != STATUS_OK)
            return;
    atomic_store_explicit(&loop->stop, 0, memory_order_relaxed);
}

static void loop_wake(struct io_loop *loop)
{
    if (atomic_load(&loop->sleeping) != 0 && atomic_exchange(&loop->sleeping, 0) != 0)
        loop->face->wake(loop);
}

void io_loop_stop(struct io_loop *loop)
{
    atomic_store(&loop->stop, 1);
    loop_wake(loop);
}

void io_loop_post(struct io_loop *loop, struct io_task *task)
{
    struct io_task *newest = atomic_load_explicit(&loop->posted, memory_order_relaxed);
    do {
        task->next = newest;
    } while (!atomic_compare_exchange_weak_explicit(&loop->posted, &newest, task, memory_order_seq_cst,
                                                    memory_order_relaxed));
    loop_wake(loop);
}

bool io_loop_unpost(struct io_loop *loop, struct io_task *task)
{
    struct io_task *newest = atomic_exchange_explicit(&loop->posted, NULL, memory_order_acquire);
    struct io_task *oldest = NULL;
    bool found = false;
    while (newest != NULL) {
        struct io_task *next = newest->next;
        if (newest == task) {
            found = true;
        } else {
            newest->next = oldest;
            oldest = newest;
        }
        newest = next;
    }
    while (oldest != NULL) {
        struct io_task *next = oldest->next;
        io_loop_post(loop, oldest);
        oldest = next;
    }
    return found;
}

void io_loop_set_turn_hook(struct io_loop *loop, void (*hook)(void *context), void *context)
{
    loop->hook = hook;
    loop->hook_context = context;
}

uint64_t io_loop_now_us(const struct io_loop *loop)
{
    return loop->now_us;
}

uint64_t io_loop_clock_us(const struct io_loop *loop)
{
    return loop->face->clock_us(loop);
}

int64_t io_loop_wall_ms(const struct io_loop *loop)
{
    return (int64_t)(loop->now_us / 1000) + loop->wall_offset_ms;
}

const struct io_stats *io_loop_stats(const struct io_loop *loop)
{
    return &loop->stats;
}

enum io_kind io_loop_kind(const struct io_loop *loop)
{
    return loop->face->kind;
}

const char *io_kind_name(enum io_kind kind)
{
    static const char *const NAMES[] = {"auto", "epoll", "io_uring", "sim"};
    return (unsigned)kind < ARRAY_LEN(NAMES) ? NAMES[kind] : "unknown";
}

// ---- creation ----

static void resume_listeners(struct io_timer *timer)
{
    struct io_loop *loop = CONTAINER_OF(timer, struct io_loop, accept_pause);
    if (loop->reserve_fd < 0 && loop->face->kind != IO_KIND_SIM)
        loop->reserve_fd = io_socket_reserve();
    while (!list_empty(&loop->listeners_paused)) {
        struct io_listener *listener = CONTAINER_OF(loop->listeners_paused.next, struct io_listener, link);
        list_remove(&listener->link);
        listener->flags &= (uint8_t)~IO_LISTENER_PAUSED;
        loop->face->listener_resume(listener);
    }
}

enum status io_loop_init(struct io_loop *loop, const struct io_face *face, uint32_t bufs_max, uint64_t now_us)
{
    if (bufs_max == 0)
        bufs_max = IO_BUFS_MAX_DEFAULT;
    if (bufs_max > IO_BUFS_LIMIT)
        return STATUS_RANGE;
    loop->slabs = heap_alloc((bufs_max + IO_SLAB_BUFS - 1) / IO_SLAB_BUFS, sizeof(void *));
    if (loop->slabs == NULL)
        return STATUS_NO_MEMORY;
    loop->face = face;
    loop->bufs_max = bufs_max;
    loop->now_us = now_us;
    loop->reserve_fd = -1;
    if (face->kind != IO_KIND_SIM)
        loop->wall_offset_ms = wall_clock_ms() - (int64_t)(now_us / 1000);
    loop->wall_read_us = now_us;
    list_init(&loop->dirty);
    list_init(&loop->ready);
    list_init(&loop->starved);
    list_init(&loop->closing);
    list_init(&loop->listeners_paused);
    io_wheel_init(&loop->wheel, now_us);
    io_timer_init(&loop->accept_pause, resume_listeners);
    io_timer_init(&loop->starved_retry, retry_starved);
    return STATUS_OK;
}

void io_loop_deinit(struct io_loop *loop)
{
    if (loop->slabs == NULL)
        return;
    for (uint32_t i = 0; i * IO_SLAB_BUFS < loop->bufs_allocated; i++)
        heap_free(loop->slabs[i]);
    heap_free(loop->slabs);
    loop->slabs = NULL;
}

enum status io_loop_create(const struct io_loop_config *config, struct io_loop **loop)
{
    struct fault why;
    if (config->bufs_max > IO_BUFS_LIMIT)
        return STATUS_RANGE;
    switch (config->kind) {
    case IO_KIND_EPOLL:
        return io_epoll_create(config->bufs_max, loop);
    case IO_KIND_URING:
        return io_uring_create(config->bufs_max, loop);
    case IO_KIND_AUTO:
        if (io_uring_available(&why) && io_uring_create(config->bufs_max, loop) == STATUS_OK)
            return STATUS_OK;
        return io_epoll_create(config->bufs_max, loop);
    case IO_KIND_SIM:
        break; // only a simulated world makes these: io_sim_loop_create
    }
    return STATUS_UNSUPPORTED;
}

void io_loop_destroy(struct io_loop *loop)
{
    if (loop != NULL)
        loop->face->destroy(loop);
}

// ---- listeners ----

static enum status listener_open(struct io_loop *loop, struct io_listener *listener,
                                 const struct io_addr *addr, bool reuse_port, int shared)
{
    listener->loop = loop;
    listener->handle = shared;
    listener->flags = 0;
    list_init(&listener->link);
    enum status status = loop->face->listen(listener, addr, reuse_port);
    if (status == STATUS_OK)
        loop->listeners_open++;
    return status;
}

enum status io_listener_open(struct io_loop *loop, struct io_listener *listener, const struct io_addr *addr,
                             bool reuse_port)
{
    return listener_open(loop, listener, addr, reuse_port, -1);
}

enum status io_listener_join(struct io_loop *loop, struct io_listener *listener,
                             const struct io_listener *first)
{
    struct io_addr addr;
    io_listener_addr(first, &addr);
    return listener_open(loop, listener, &addr, true, addr.any.sa_family == AF_UNIX ? first->handle : -1);
}

void io_listener_addr(const struct io_listener *listener, struct io_addr *addr)
{
    listener->loop->face->listener_addr(listener, addr);
}

void io_listener_stop(struct io_listener *listener)
{
    if (listener->flags & IO_LISTENER_STOPPED)
        return;
    list_remove(&listener->link);
    listener->flags |= IO_LISTENER_STOPPED;
    listener->loop->face->listener_stop(listener);
    listener->handle = -1;
}

void io_listener_close(struct io_listener *listener)
{
    io_listener_stop(listener);
    if (listener->loop->face->listener_forget != NULL)
        listener->loop->face->listener_forget(listener);
    listener->loop->listeners_open--;
}

void io_listener_pause(struct io_listener *listener)
{
    struct io_loop *loop = listener->loop;
    if (listener->flags & IO_LISTENER_PAUSED)
        return;
    listener->flags |= IO_LISTENER_PAUSED;
    list_push_back(&loop->listeners_paused, &listener->link);
    if (!io_timer_is_set(&loop->accept_pause))
        io_timer_set(loop, &loop->accept_pause, loop->now_us + IO_ACCEPT_PAUSE_US);
}

void io_listener_tell_failure(struct io_listener *listener, enum status status)
{
    if (listener->on_failure != NULL)
        listener->on_failure(listener, status);
}

void io_handle_close(struct io_loop *loop, int handle)
{
    loop->face->handle_close(loop, handle);
}

// ---- streams ----

static void stream_init(struct io_loop *loop, struct io_stream *stream, const struct io_stream_ops *ops)
{
    memset(stream, 0, sizeof *stream);
    stream->loop = loop;
    stream->ops = ops;
    stream->handle = -1;
    list_init(&stream->link);
    loop->streams_open++;
}

void io_stream_adopt(struct io_loop *loop, struct io_stream *stream, int handle,
                     const struct io_stream_ops *ops)
{
    stream_init(loop, stream, ops);
    stream->handle = handle;
    stream->flags = IO_STREAM_WRITABLE;
    loop->face->adopt(stream);
}

void io_stream_connect(struct io_loop *loop, struct io_stream *stream, const struct io_addr *addr,
                       const struct io_stream_ops *ops)
{
    stream_init(loop, stream, ops);
    stream->flags = IO_STREAM_CONNECTING;
    loop->face->connect(stream, addr);
}

static void queue_push(struct io_buf **head, struct io_buf **tail, struct io_buf *buf)
{
    buf->next = NULL;
    if (*tail == NULL)
        *head = buf;
    else
        (*tail)->next = buf;
    *tail = buf;
}

void io_stream_send(struct io_stream *stream, struct io_buf *buf)
{
    struct io_filter *filter = stream->filter;
    if (UNLIKELY(io_stream_dead(stream) || io_buf_len(buf) == 0)) {
        io_buf_put(buf);
        return;
    }
    if (UNLIKELY(filter != NULL)) {
        CHECK(!filter->finishing);
        stream->filter_pending += io_buf_len(buf);
        queue_push(&filter->out_head, &filter->out_tail, buf);
        io_stream_mark_dirty(stream);
        return;
    }
    CHECK((stream->flags & IO_STREAM_FINISH) == 0);
    stream->send_pending += io_buf_len(buf);
    queue_push(&stream->send_head, &stream->send_tail, buf);
    io_stream_mark_dirty(stream);
}

void io_stream_consume(struct io_stream *stream, size_t n)
{
    CHECK(n <= stream->send_pending);
    stream->send_pending -= (uint32_t)n;
    stream->loop->stats.bytes_sent += n;
    while (n > 0) {
        struct io_buf *buf = stream->send_head;
        CHECK(buf != NULL);
        uint32_t len = io_buf_len(buf);
        if (n < len) {
            buf->start += (uint32_t)n;
            return;
        }
        n -= len;
        stream->send_head = buf->next;
        if (buf->next == NULL)
            stream->send_tail = NULL;
        io_buf_put(buf);
    }
}

void io_stream_drop_queue(struct io_stream *stream)
{
    struct io_buf *queue = stream->send_head;
    stream->send_head = NULL;
    stream->send_tail = NULL;
    stream->send_pending = 0;
    drop_chain(queue);
}

void io_stream_pause(struct io_stream *stream)
{
    stream->flags |= IO_STREAM_PAUSED;
}

void io_stream_resume(struct io_stream *stream)
{
    if ((stream->flags & IO_STREAM_PAUSED) == 0)
        return;
    stream->flags &= ~(uint32_t)IO_STREAM_PAUSED;
    if (io_stream_dead(stream))
        return;
    if (UNLIKELY(stream->filter != NULL && stream->filter->waiting))
        io_stream_mark_ready(stream);
    stream->loop->face->resume(stream);
}

void io_stream_finish(struct io_stream *stream)
{
    if (io_stream_dead(stream) || (stream->flags & IO_STREAM_FINISH))
        return;
    if (UNLIKELY(stream->filter != NULL))
        stream->filter->finishing = true;
    else
        stream->flags |= IO_STREAM_FINISH;
    io_stream_mark_dirty(stream);
}

void io_stream_close(struct io_stream *stream)
{
    if (stream->flags & IO_STREAM_CLOSED)
        return;
    stream->flags |= IO_STREAM_CLOSED;
    stream->flags &= ~(uint32_t)(IO_STREAM_DIRTY | IO_STREAM_READY | IO_STREAM_STARVED);
    stream->loop->streams_open--;
    list_remove(&stream->link);
    drop_chain(stream->recv_held);
    stream->recv_held = NULL;
    stream->loop->face->close(stream);
}

void io_stream_abort(struct io_stream *stream)
{
    stream->flags |= IO_STREAM_ABORT;
    io_stream_close(stream);
}

void io_stream_retire(struct io_stream *stream)
{
    struct io_loop *loop = stream->loop;
    io_stream_drop_queue(stream);
    list_push_back(&loop->closing, &stream->link);
}

bool io_stream_taking(const struct io_stream *stream, uint64_t *mark)
{
    uint64_t waiting = 0, now = *mark;
    if (io_stream_dead(stream) || (stream->flags & IO_STREAM_CONNECTING))
        return false;
    stream->loop->face->taken(stream, &waiting, &now);
    bool taking = now != *mark && waiting + stream->send_pending > 0;
    *mark = now;
    return taking;
}

// ---- telling the owner ----

void io_stream_tell_data(struct io_stream *stream, struct io_buf *buf)
{
    stream->loop->stats.bytes_received += io_buf_len(buf);
    if (UNLIKELY(stream->filter != NULL))
        stream->filter->ops->received(stream, buf);
    else
        stream->ops->on_data(stream, buf);
}

// All that was queued is handed to the kernel, after some of it had to wait.
void io_stream_tell_drain(struct io_stream *stream)
{
    bool more = stream->filter != NULL && (stream->filter->out_head != NULL || stream->filter->opening);
    if (!more && stream->ops->on_drain != NULL)
        stream->ops->on_drain(stream);
}

void io_stream_tell_closed_by_peer(struct io_stream *stream)
{
    if (stream->flags & (IO_STREAM_ENDED | IO_STREAM_BROKEN | IO_STREAM_CLOSED))
        return;
    if (UNLIKELY(stream->filter != NULL)) {
        stream->filter->ops->ended(stream);
        return;
    }
    stream->flags |= IO_STREAM_ENDED;
    if (stream->ops->on_end != NULL)
        stream->ops->on_end(stream, STATUS_CLOSED);
}

void io_stream_tell_failure(struct io_stream *stream, enum status status)
{
    if (io_stream_dead(stream))
        return;
    stream->flags |= IO_STREAM_BROKEN;
    bool opening = stream->filter != NULL && stream->filter->opening;
    if ((stream->flags & IO_STREAM_CONNECTING) || opening) {
        stream->flags &= ~(uint32_t)IO_STREAM_CONNECTING;
        if (opening)
            stream->filter->opening = false;
        stream->ops->on_open(stream, status);
        return;
    }
    if (stream->ops->on_end != NULL)
        stream->ops->on_end(stream, status);
}

void io_stream_tell_open(struct io_stream *stream, enum status status)
{
    if (status != STATUS_OK) {
        io_stream_tell_failure(stream, status);
        return;
    }
    stream->flags &= ~(uint32_t)IO_STREAM_CONNECTING;
    stream->flags |= IO_STREAM_WRITABLE;
    if (stream->send_head != NULL || (stream->flags & IO_STREAM_FINISH))
        io_stream_mark_dirty(stream);
    if (UNLIKELY(stream->filter != NULL))
        stream->filter->ops->opened(stream);
    else
        stream->ops->on_open(stream, STATUS_OK);
}

// ---- filters ----

void io_filter_put(struct io_stream *stream, struct io_filter *filter)
{
    CHECK(stream->filter == NULL && stream->send_head == NULL && !io_stream_dead(stream));
    stream->filter = filter;
    filter->opening = (stream->flags & (IO_STREAM_CONNECTING | IO_STREAM_OPENING)) != 0;
}

void io_filter_receive(struct io_stream *stream, struct io_buf *buf)
{
    if (io_stream_dead(stream))
        io_buf_put(buf);
    else
        stream->filter->ops->received(stream, buf);
}

void io_filter_send(struct io_stream *stream, struct io_buf *buf)
{
    if (io_stream_dead(stream) || io_buf_len(buf) == 0) {
        io_buf_put(buf);
        return;
    }
    stream->send_pending += io_buf_len(buf);
    queue_push(&stream->send_head, &stream->send_tail, buf);
    io_stream_mark_dirty(stream);
}

void io_filter_finish(struct io_stream *stream)
{
    stream->flags |= IO_STREAM_FINISH;
    io_stream_mark_dirty(stream);
}

struct io_buf *io_filter_take(struct io_stream *stream)
{
    struct io_filter *filter = stream->filter;
    struct io_buf *buf = filter->out_head;
    if (buf == NULL)
        return NULL;
    filter->out_head = buf->next;
    if (buf->next == NULL)
        filter->out_tail = NULL;
    buf->next = NULL;
    stream->filter_pending -= io_buf_len(buf);
    return buf;
}

void io_filter_tell_open(struct io_stream *stream)
{
    if (!stream->filter->opening)
        return;
    stream->filter->opening = false;
    stream->ops->on_open(stream, STATUS_OK);
}

void io_filter_tell_data(struct io_stream *stream, struct io_buf *buf)
{
    stream->ops->on_data(stream, buf);
}

void io_filter_tell_end(struct io_stream *stream)
{
    if (stream->flags & (IO_STREAM_ENDED | IO_STREAM_BROKEN | IO_STREAM_CLOSED))
        return;
    stream->flags |= IO_STREAM_ENDED;
    if (stream->ops->on_end != NULL)
        stream->ops->on_end(stream, STATUS_CLOSED);
}

void io_filter_send_now(struct io_stream *stream)
{
    if (!io_stream_dead(stream) && stream->send_head != NULL)
        stream->loop->face->flush(stream);
}

void io_filter_tell_failure(struct io_stream *stream, enum status status)
{
    io_filter_send_now(stream);
    io_stream_tell_failure(stream, status);
}

bool io_filter_paused(const struct io_stream *stream)
{
    return (stream->flags & IO_STREAM_PAUSED) != 0;
}

bool io_filter_dead(const struct io_stream *stream)
{
    return io_stream_dead(stream);
}

void io_filter_starved(struct io_stream *stream)
{
    stream->filter->waiting = true;
    io_stream_mark_starved(stream);
}
