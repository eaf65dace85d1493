// SPDX-License-Identifier: Apache-2.0
// The simulated face: a heap of events in virtual time, connections as pairs of ends with an inbox and a
// bounded window each. Invariants: nothing depends on an address in memory, on real time or on real
// randomness; the segments of one direction arrive in the order they were sent. When the world itself gets no
// memory, the process aborts: the world is part of a test, not of the product.
#include "net/io/sim.h"

#include <string.h>

#include "base/heap.h"
#include "base/rng.h"
#include "base/siphash.h"
#include "net/io/io_private.h"
#include "net/io/sim_private.h"

enum {
    WINDOW_BYTES = 262144, // sent and not yet read by the peer, per direction
    SEGMENT_BYTES_MAX = 16384,
    READS_PER_EVENT = 4,
    HANDLES_FIRST = 256,
    PORT_FIRST = 20000,
    CLIENT_PORT_FIRST = 40000,
    MILLION = 1000000,
};

// One end of a connection. It is freed when the owner, the peer and all events have let go of it.
struct sim_end {
    struct list link; // in the world's list of ends
    uint64_t id;
    uint32_t references;
    struct io_sim *sim;
    struct sim_loop *loop; // NULL once destroyed
    struct io_stream *stream;
    struct sim_end *peer;
    struct io_addr local_addr;
    struct io_addr peer_addr;
    struct segment *inbox_head;
    struct segment *inbox_tail;
    uint32_t unread_by_peer; // bytes this end has sent and the peer has not read
    uint64_t read_by_peer;
    uint64_t last_arrival_us; // of the last segment this end sent
    int handle;
    bool fin_arrived;
    bool closed; // by its owner
    bool silent; // its owner crashed without closing it
};

struct sim_listener {
    struct list link;
    struct io_listener *listener;
    struct sim_loop *loop;
    struct io_addr addr;
    int handle;
    bool reuse_port;
    bool silent; // its owner crashed without closing it: connects hang
};

struct sim_loop {
    struct io_loop base;
    struct io_sim *sim;
    struct list link;
    uint64_t id;
    uint64_t timer_at_us; // when the only valid timer event is due; UINT64_MAX: there is none
    bool turn_scheduled;
    bool crashed;
};

struct io_sim {
    struct io_sim_config config;
    uint64_t now_us;
    uint64_t trace;
    uint64_t next_id;
    int next_handle;
    uint16_t next_port;
    uint16_t next_client_port;
    struct io_sim_faults faults;
    struct rng rng_latency, rng_stall, rng_reset, rng_refuse, rng_fragment, rng_order;
    struct list loops;
    struct list listeners;
    struct list ends;
    struct sim_end **handles; // by handle; NULL where the end is gone
    size_t handles_room;
    struct sim_events events;
};

static struct sim_loop *sim_loop_of(struct io_loop *loop)
{
    return CONTAINER_OF(loop, struct sim_loop, base);
}

static void trace_add(struct io_sim *sim, uint64_t value)
{
    uint64_t state = sim->trace ^ value;
    sim->trace = rng_splitmix(&state);
}

// ---- events ----

static void event_push(struct io_sim *sim, struct sim_event event)
{
    event.tie = rng_next(&sim->rng_order);
    if (event.end != NULL)
        event.end->references++;
    sim_events_push(&sim->events, event);
}

// ---- faults: each kind draws from random numbers of its own ----

static bool fault_hits(struct rng *rng, uint32_t ppm, uint64_t *counter)
{
    bool hit = rng_below(rng, MILLION) < ppm;
    *counter += hit;
    return hit;
}

static uint64_t draw_latency(struct io_sim *sim)
{
    uint64_t spread = sim->config.latency_us_max - sim->config.latency_us_min;
    return sim->config.latency_us_min + rng_below(&sim->rng_latency, spread + 1);
}

// ---- ends ----

static void handle_remember(struct io_sim *sim, struct sim_end *end)
{
    size_t handle = (size_t)end->handle;
    if (handle >= sim->handles_room) {
        size_t room = handle < HANDLES_FIRST ? HANDLES_FIRST : handle * 2;
        struct sim_end **grown = heap_resize(sim->handles, room * sizeof(void *));
        CHECK(grown != NULL);
        memset(grown + sim->handles_room, 0, (room - sim->handles_room) * sizeof(void *));
        sim->handles = grown;
        sim->handles_room = room;
    }
    sim->handles[handle] = end;
}

static struct sim_end *end_create(struct io_sim *sim, struct sim_loop *loop)
{
    struct sim_end *end = heap_alloc(1, sizeof *end);
    CHECK(end != NULL);
    end->sim = sim;
    end->loop = loop;
    end->id = sim->next_id++;
    end->handle = sim->next_handle++;
    end->references = 1; // the owner's reference, given up when it closes
    list_push_back(&sim->ends, &end->link);
    handle_remember(sim, end);
    return end;
}

static void inbox_drop(struct sim_end *end)
{
    while (end->inbox_head != NULL) {
        struct segment *segment = end->inbox_head;
        end->inbox_head = segment->next;
        heap_free(segment);
    }
    end->inbox_tail = NULL;
}

static void end_release(struct sim_end *end)
{
    CHECK(end->references > 0);
    if (--end->references > 0)
        return;
    inbox_drop(end);
    list_remove(&end->link);
    end->sim->handles[end->handle] = NULL;
    struct sim_end *peer = end->peer;
    if (peer != NULL) {
        peer->peer = NULL;
        end->peer = NULL;
    }
    heap_free(end);
}

static struct sim_end *end_find(const struct io_sim *sim, int handle)
{
    return handle > 0 && (size_t)handle < sim->handles_room ? sim->handles[handle] : NULL;
}

static struct sim_end *end_of(const struct io_stream *stream)
{
    struct sim_end *end = end_find(sim_loop_of(stream->loop)->sim, stream->handle);
    CHECK(end != NULL);
    return end;
}

// Sends an event to the peer, behind whatever this end has sent before.
static void end_send(struct sim_end *end, struct sim_event event, uint64_t extra_us)
{
    struct io_sim *sim = end->sim;
    if (end->peer == NULL)
        return;
    uint64_t arrival_us = sim->now_us + draw_latency(sim) + extra_us;
    if (arrival_us <= end->last_arrival_us)
        arrival_us = end->last_arrival_us + 1;
    end->last_arrival_us = arrival_us;
    event.time_us = arrival_us;
    event.end = end->peer;
    event_push(sim, event);
}

static void end_reset_both(struct sim_end *end)
{
    struct sim_event event = {.kind = EVENT_RESET, .status = STATUS_RESET};
    end_send(end, event, 0);
    if (end->peer != NULL)
        end_send(end->peer, event, 0);
}

// Sends bytes of the queue as one segment and returns how many; 0 when a fault ended the connection instead.
static uint32_t end_send_segment(struct sim_end *end, const struct io_buf *buf)
{
    struct io_sim *sim = end->sim;
    uint32_t len = io_buf_len(buf);
    uint32_t room = WINDOW_BYTES - end->unread_by_peer;
    len = len < SEGMENT_BYTES_MAX ? len : SEGMENT_BYTES_MAX;
    len = len < room ? len : room;
    uint64_t extra_us = 0;
    if (fault_hits(&sim->rng_stall, sim->config.stall_ppm, &sim->faults.stalls))
        extra_us = rng_below(&sim->rng_stall, sim->config.stall_us_max + 1);
    if (fault_hits(&sim->rng_reset, sim->config.reset_ppm, &sim->faults.resets)) {
        end_reset_both(end);
        return 0;
    }
    struct segment *segment = heap_alloc(1, sizeof *segment + len);
    CHECK(segment != NULL);
    segment->end = len;
    memcpy(segment->data, buf->data + buf->start, len);
    end->unread_by_peer += len;
    if (end->peer == NULL) {
        heap_free(segment);
        return len;
    }
    end_send(end, (struct sim_event){.kind = EVENT_DATA, .segment = segment}, extra_us);
    return len;
}

static void end_close(struct sim_end *end, bool reset)
{
    if (end->closed)
        return;
    end->closed = true;
    end->stream = NULL;
    bool unread = end->inbox_head != NULL;
    inbox_drop(end);
    if (!end->silent)
        end_send(
            end,
            (struct sim_event){.kind = reset || unread ? EVENT_RESET : EVENT_FIN, .status = STATUS_RESET}, 0);
    // An end stays as long as its peer may still send to it.
    if (end->peer != NULL)
        end_release(end->peer);
    end_release(end);
}

// ---- reading ----

static uint32_t inbox_take(struct sim_end *end, uint8_t *data, uint32_t room)
{
    uint32_t taken = 0;
    while (end->inbox_head != NULL && taken < room) {
        struct segment *segment = end->inbox_head;
        uint32_t part = segment->end - segment->start;
        part = part < room - taken ? part : room - taken;
        memcpy(data + taken, segment->data + segment->start, part);
        segment->start += part;
        taken += part;
        if (segment->start < segment->end)
            break;
        end->inbox_head = segment->next;
        if (segment->next == NULL)
            end->inbox_tail = NULL;
        heap_free(segment);
    }
    return taken;
}

static bool stream_wants_data(const struct io_stream *stream)
{
    return (stream->flags & (IO_STREAM_PAUSED | IO_STREAM_CONNECTING | IO_STREAM_ENDED | IO_STREAM_BROKEN |
                             IO_STREAM_CLOSED)) == 0;
}

static void end_read(struct sim_end *end, struct io_stream *stream)
{
    for (int i = 0; stream_wants_data(stream) && end->inbox_head != NULL; i++) {
        if (i == READS_PER_EVENT) {
            io_stream_mark_ready(stream);
            return;
        }
        struct io_buf *buf = io_buf_get(stream->loop);
        if (buf == NULL) {
            io_stream_mark_starved(stream);
            return;
        }
        buf->end = inbox_take(end, buf->data, IO_BUF_BYTES);
        end_send(end, (struct sim_event){.kind = EVENT_WINDOW, .bytes = buf->end}, 0);
        io_stream_tell_data(stream, buf);
        io_loop_flush(stream->loop);
    }
    if (end->fin_arrived && end->inbox_head == NULL && end->loop != NULL && stream_wants_data(stream))
        io_stream_tell_closed_by_peer(stream);
}

static void end_deliver(struct sim_end *end)
{
    end->references++; // a callback may close it, or crash its loop
    end_read(end, end->stream);
    end_release(end);
}

// ---- what arrives ----

// The listener that a connect reaches; when several share one address, the seed chooses.
static struct sim_listener *listener_for(struct io_sim *sim, const struct io_addr *addr)
{
    struct sim_listener *chosen = NULL;
    uint64_t matching = 0;
    for (struct list *node = sim->listeners.next; node != &sim->listeners; node = node->next) {
        struct sim_listener *listener = CONTAINER_OF(node, struct sim_listener, link);
        if (!io_addr_reaches(addr, &listener->addr))
            continue;
        matching++;
        if (matching == 1 || rng_below(&sim->rng_order, matching) == 0)
            chosen = listener;
    }
    return chosen;
}

static void client_addr(struct io_sim *sim, const struct io_addr *server, struct io_addr *addr)
{
    char text[IO_ADDR_TEXT_BYTES] = "127.0.0.1:1";
    if (server->any.sa_family == AF_UNIX) {
        memset(addr, 0, sizeof *addr);
        addr->any.sa_family = AF_UNIX;
        addr->len = sizeof addr->any.sa_family;
        return;
    }
    if (server->any.sa_family == AF_INET6)
        memcpy(text, "[::1]:1", sizeof "[::1]:1");
    CHECK(io_addr_parse(text, addr) == STATUS_OK);
    io_addr_set_port(addr, sim->next_client_port++);
}

static void answer_connect(struct sim_end *client, enum status status)
{
    struct io_sim *sim = client->sim;
    struct sim_event event = {
        .kind = EVENT_OPENED, .status = status, .end = client, .time_us = sim->now_us + draw_latency(sim)};
    if (client->peer != NULL)
        client->peer->last_arrival_us = event.time_us; // nothing may overtake it
    event_push(sim, event);
}

static void on_connect(struct sim_end *client, struct sim_listener *target)
{
    struct io_sim *sim = client->sim;
    struct sim_end *server = end_create(sim, target->loop);
    server->local_addr = client->peer_addr;
    server->peer_addr = client->local_addr;
    server->peer = client;
    client->peer = server;
    client->references++;
    server->references++;
    answer_connect(client, STATUS_OK);
    target->loop->base.stats.accepts++;
    target->listener->on_accept(target->listener, server->handle, &server->peer_addr);
}

static void on_opened(struct sim_end *client, enum status status)
{
    if (client->stream == NULL)
        return;
    struct io_stream *stream = client->stream;
    io_stream_tell_open(stream, status);
    io_loop_flush(stream->loop);
    if (client->stream != NULL)
        end_deliver(client);
}

static void on_data(struct sim_end *end, struct segment *segment)
{
    struct io_sim *sim = end->sim;
    if (end->closed) {
        heap_free(segment);
        end_send(end, (struct sim_event){.kind = EVENT_RESET, .status = STATUS_RESET}, 0);
        return;
    }
    if (end->inbox_tail == NULL)
        end->inbox_head = segment;
    else
        end->inbox_tail->next = segment;
    end->inbox_tail = segment;
    trace_add(sim, siphash((struct siphash_key){1, 2}, segment->data, segment->end));
    if (end->stream != NULL)
        end_deliver(end);
}

static void on_reset(struct sim_end *end, enum status status)
{
    inbox_drop(end);
    if (end->stream == NULL) {
        end->fin_arrived = true; // not adopted yet: the owner will find the end then
        return;
    }
    io_stream_drop_queue(end->stream);
    io_stream_tell_failure(end->stream, status);
}

static void on_window(struct sim_end *end, uint32_t bytes)
{
    CHECK(bytes <= end->unread_by_peer);
    end->unread_by_peer -= bytes;
    end->read_by_peer += bytes;
    if (end->stream != NULL && end->stream->send_head != NULL)
        io_stream_mark_dirty(end->stream);
}

// ---- running the world ----

static bool loop_has_work(const struct io_loop *loop)
{
    return !list_empty(&loop->dirty) || !list_empty(&loop->ready) || !list_empty(&loop->closing) ||
           (!list_empty(&loop->starved) && loop->bufs_free != NULL) || atomic_load(&loop->posted) != NULL;
}

static void loop_schedule_turn(struct sim_loop *loop)
{
    if (loop->turn_scheduled || loop->crashed)
        return;
    loop->turn_scheduled = true;
    event_push(loop->sim,
               (struct sim_event){.kind = EVENT_TURN, .loop = loop, .time_us = loop->sim->now_us + 1});
}

// Makes sure that there is an event for each thing the loop has to do without any from outside.
static void loop_schedule(struct sim_loop *loop)
{
    struct io_sim *sim = loop->sim;
    if (loop->crashed)
        return;
    if (loop_has_work(&loop->base))
        loop_schedule_turn(loop);
    uint64_t next_us = io_wheel_next_us(&loop->base.wheel);
    if (next_us == UINT64_MAX || next_us == loop->timer_at_us)
        return;
    if (next_us <= sim->now_us)
        next_us = sim->now_us + 1;
    if (next_us >= loop->timer_at_us && loop->timer_at_us > sim->now_us)
        return; // an earlier timer event will call this again
    loop->timer_at_us = next_us;
    event_push(sim, (struct sim_event){.kind = EVENT_TIMER, .loop = loop, .time_us = next_us});
}

static void end_dispatch(const struct sim_event *event)
{
    switch (event->kind) {
    case EVENT_OPENED:
        on_opened(event->end, event->status);
        return;
    case EVENT_DATA:
        on_data(event->end, event->segment);
        return;
    case EVENT_FIN:
        event->end->fin_arrived = true;
        if (event->end->stream != NULL)
            end_deliver(event->end);
        return;
    case EVENT_RESET:
        on_reset(event->end, event->status);
        return;
    case EVENT_WINDOW:
        on_window(event->end, event->bytes);
        return;
    default:
        CHECK(false);
    }
}

// Cuts a delivery at a random byte: the rest follows a microsecond later, before anything sent after it.
static void maybe_fragment(struct io_sim *sim, struct sim_event *event)
{
    uint32_t len = event->segment->end - event->segment->start;
    if (!fault_hits(&sim->rng_fragment, len > 1 ? sim->config.fragment_ppm : 0, &sim->faults.fragments))
        return;
    uint32_t cut = 1 + (uint32_t)rng_below(&sim->rng_fragment, len - 1);
    struct segment *rest = heap_alloc(1, sizeof *rest + len - cut);
    CHECK(rest != NULL);
    rest->end = len - cut;
    memcpy(rest->data, event->segment->data + cut, len - cut);
    event->segment->end = cut;
    struct sim_event later = *event;
    later.segment = rest;
    event_push(sim, later);
}

// A connect arrives: finds the listener, whose loop then has the turn. NULL: none.
static struct sim_listener *connect_target(const struct sim_event *event)
{
    CHECK(event->end != NULL);
    struct io_sim *sim = event->end->sim;
    struct sim_end *client = event->end;
    if (client->closed)
        return NULL;
    struct sim_listener *target = listener_for(sim, &client->peer_addr);
    bool refused = fault_hits(&sim->rng_refuse, sim->config.refuse_ppm, &sim->faults.refusals);
    if (target != NULL && target->silent)
        return NULL;
    if (target != NULL && !refused)
        return target;
    answer_connect(client, client->peer_addr.any.sa_family == AF_UNIX && !refused ? STATUS_UNREACHABLE
                                                                                  : STATUS_REFUSED);
    return NULL;
}

static void event_run(struct io_sim *sim, struct sim_event *event)
{
    struct sim_listener *target = NULL;
    struct sim_loop *loop = event->end != NULL ? event->end->loop : event->loop;
    trace_add(sim, event->time_us ^ ((uint64_t)event->kind << 56));
    trace_add(sim, event->end != NULL ? event->end->id : event->loop->id);
    if (event->kind == EVENT_CONNECT) {
        target = connect_target(event);
        if (target == NULL)
            return;
        loop = target->loop;
    }
    if (event->kind == EVENT_DATA)
        maybe_fragment(sim, event);
    if (loop == NULL || loop->crashed || event->kind == EVENT_NONE) {
        // Nobody is there. A crash told the peers when it happened; a silent crash never tells.
        heap_free(event->segment);
        return;
    }
    io_loop_begin(&loop->base, sim->now_us);
    if (event->kind == EVENT_CONNECT)
        on_connect(event->end, target);
    else if (event->end != NULL)
        end_dispatch(event);
    if (!loop->crashed)
        io_loop_end(&loop->base);
    atomic_store(&loop->base.sleeping, 1);
    loop_schedule(loop);
}

// Events of a loop that mean nothing any more: superseded timers, and what a destroyed loop left behind.
static bool event_is_stale(const struct sim_event *event)
{
    if (event->kind == EVENT_NONE)
        return true;
    if (event->kind != EVENT_TIMER)
        return false;
    return event->loop->timer_at_us != event->time_us;
}

// Runs the next event at or before until_us. False when there is none; the time is then until_us.
static bool sim_step(struct io_sim *sim, uint64_t until_us)
{
    while (sim->events.count > 0 && sim->events.heap[0].time_us <= until_us) {
        struct sim_event event = sim_events_pop(&sim->events);
        if (event_is_stale(&event))
            continue;
        sim->now_us = event.time_us > sim->now_us ? event.time_us : sim->now_us;
        if (event.kind == EVENT_TIMER)
            event.loop->timer_at_us = UINT64_MAX;
        if (event.kind == EVENT_TURN)
            event.loop->turn_scheduled = false;
        event_run(sim, &event);
        if (event.end != NULL)
            end_release(event.end);
        return true;
    }
    if (until_us != UINT64_MAX && until_us > sim->now_us)
        sim->now_us = until_us;
    return false;
}

static void sim_schedule_all(struct io_sim *sim)
{
    for (struct list *node = sim->loops.next; node != &sim->loops; node = node->next)
        loop_schedule(CONTAINER_OF(node, struct sim_loop, link));
}

static void sim_tell_time(struct io_sim *sim)
{
    for (struct list *node = sim->loops.next; node != &sim->loops; node = node->next)
        CONTAINER_OF(node, struct sim_loop, link)->base.now_us = sim->now_us;
}

uint64_t io_sim_run(struct io_sim *sim, uint64_t until_us)
{
    uint64_t count = 0;
    sim_schedule_all(sim);
    while (sim_step(sim, until_us))
        count++;
    sim_tell_time(sim);
    return count;
}

static enum status sim_turn(struct io_loop *loop, uint64_t max_wait_us)
{
    struct io_sim *sim = sim_loop_of(loop)->sim;
    uint64_t until_us = max_wait_us > UINT64_MAX - sim->now_us ? UINT64_MAX : sim->now_us + max_wait_us;
    sim_schedule_all(sim);
    bool ran = sim_step(sim, until_us);
    sim_tell_time(sim);
    // NOT_FOUND: the caller would wait for ever, because nothing will happen in this world any more.
    return ran || until_us != UINT64_MAX ? STATUS_OK : STATUS_NOT_FOUND;
}

// ---- the face ----

static void sim_wake(struct io_loop *loop)
{
    loop_schedule_turn(sim_loop_of(loop));
}

static uint64_t sim_clock_us(const struct io_loop *loop)
{
    const struct sim_loop *sim_loop = (const void *)loop; // base is its first member
    return sim_loop->sim->now_us;
}

static void sim_adopt(struct io_stream *stream)
{
    if (sim_loop_of(stream->loop)->crashed)
        return;
    struct sim_end *end = end_of(stream);
    end->stream = stream;
    if (end->inbox_head != NULL || end->fin_arrived)
        io_stream_mark_ready(stream);
}

static void sim_connect(struct io_stream *stream, const struct io_addr *addr)
{
    struct sim_loop *loop = sim_loop_of(stream->loop);
    struct io_sim *sim = loop->sim;
    if (loop->crashed)
        return;
    struct sim_end *end = end_create(sim, loop);
    end->stream = stream;
    end->peer_addr = *addr;
    client_addr(sim, addr, &end->local_addr);
    stream->handle = end->handle;
    event_push(sim, (struct sim_event){
                        .kind = EVENT_CONNECT, .end = end, .time_us = sim->now_us + draw_latency(sim)});
}

static void sim_flush(struct io_stream *stream)
{
    struct sim_loop *loop = sim_loop_of(stream->loop);
    if (io_stream_dead(stream) || loop->crashed || (stream->flags & IO_STREAM_CONNECTING))
        return;
    struct sim_end *end = end_of(stream);
    bool had_queue = stream->send_head != NULL;
    while (stream->send_head != NULL) {
        if (end->unread_by_peer >= WINDOW_BYTES)
            return;
        uint32_t sent = end_send_segment(end, stream->send_head);
        if (sent == 0) {
            io_stream_drop_queue(stream); // the peer learns of it by a reset
            return;
        }
        io_stream_consume(stream, sent);
    }
    if ((stream->flags & (IO_STREAM_FINISH | IO_STREAM_FINISHED)) == IO_STREAM_FINISH) {
        stream->flags |= IO_STREAM_FINISHED;
        end_send(end, (struct sim_event){.kind = EVENT_FIN}, 0);
    }
    if (had_queue)
        io_stream_tell_drain(stream);
}

static void sim_ready(struct io_stream *stream)
{
    if (!sim_loop_of(stream->loop)->crashed)
        end_deliver(end_of(stream));
}

static void sim_resume(struct io_stream *stream)
{
    io_stream_mark_ready(stream);
}

static void sim_close(struct io_stream *stream)
{
    if (!sim_loop_of(stream->loop)->crashed)
        end_close(end_of(stream), (stream->flags & IO_STREAM_ABORT) != 0);
    stream->handle = -1;
    io_stream_retire(stream);
}

static void sim_taken(const struct io_stream *stream, uint64_t *waiting, uint64_t *mark)
{
    if (sim_loop_of(stream->loop)->crashed)
        return;
    *waiting = end_of(stream)->unread_by_peer;
    *mark = end_of(stream)->read_by_peer;
}

static enum status sim_listen(struct io_listener *listener, const struct io_addr *addr, bool reuse_port)
{
    struct sim_loop *loop = sim_loop_of(listener->loop);
    struct io_sim *sim = loop->sim;
    struct io_addr bound = *addr;
    if (addr->any.sa_family != AF_UNIX && io_addr_port(addr) == 0)
        io_addr_set_port(&bound, sim->next_port++);
    for (struct list *node = sim->listeners.next, *next; node != &sim->listeners; node = next) {
        struct sim_listener *other = CONTAINER_OF(node, struct sim_listener, link);
        next = node->next;
        if (!io_addr_reaches(&bound, &other->addr) || (reuse_port && other->reuse_port && !other->silent))
            continue;
        if (!other->silent)
            return STATUS_IN_USE;
        // The host crashed silently: another one takes its address.
        list_remove(&other->link);
        heap_free(other);
    }
    struct sim_listener *record = heap_alloc(1, sizeof *record);
    if (record == NULL)
        return STATUS_NO_MEMORY;
    record->listener = listener;
    record->loop = loop;
    record->addr = bound;
    record->reuse_port = reuse_port;
    record->handle = sim->next_handle++;
    listener->handle = record->handle;
    list_push_back(&sim->listeners, &record->link);
    return STATUS_OK;
}

static struct sim_listener *record_of(const struct io_listener *listener)
{
    struct io_sim *sim = sim_loop_of(listener->loop)->sim;
    for (struct list *node = sim->listeners.next; node != &sim->listeners; node = node->next) {
        struct sim_listener *record = CONTAINER_OF(node, struct sim_listener, link);
        if (record->handle == listener->handle)
            return record;
    }
    CHECK(false);
}

static void sim_listener_addr(const struct io_listener *listener, struct io_addr *addr)
{
    *addr = record_of(listener)->addr;
}

static void sim_listener_resume(struct io_listener *listener)
{
    (void)listener; // a simulated listener is never paused: descriptors do not run out
}

static void sim_listener_stop(struct io_listener *listener)
{
    if (sim_loop_of(listener->loop)->crashed)
        return; // it vanished in the crash
    struct sim_listener *record = record_of(listener);
    list_remove(&record->link);
    heap_free(record);
}

static void sim_handle_close(struct io_loop *loop, int handle)
{
    struct sim_end *end = end_find(sim_loop_of(loop)->sim, handle);
    CHECK(end != NULL && end->stream == NULL);
    end_close(end, false);
}

static struct sim_end *end_at(struct list *node)
{
    return CONTAINER_OF(node, struct sim_end, link);
}

// Closes what a loop leaves in its world when it crashes or is destroyed. All ends are held meanwhile,
// because closing one may free another.
static void sim_loop_detach(struct sim_loop *loop, bool silent)
{
    struct io_sim *sim = loop->sim;
    for (struct list *node = sim->ends.next; node != &sim->ends; node = node->next)
        end_at(node)->references++;
    for (struct list *node = sim->ends.next; node != &sim->ends; node = node->next) {
        struct sim_end *end = end_at(node);
        if (end->loop != loop)
            continue;
        end->loop = NULL;
        end->silent = silent;
        end_close(end, true);
    }
    for (struct list *node = sim->ends.next, *next; node != &sim->ends; node = next) {
        next = node->next;
        end_release(end_at(node));
    }
    for (struct list *node = sim->listeners.next, *next; node != &sim->listeners; node = next) {
        struct sim_listener *record = CONTAINER_OF(node, struct sim_listener, link);
        next = node->next;
        if (record->loop != loop)
            continue;
        record->silent = silent;
        record->loop = NULL;
        if (silent)
            continue;
        list_remove(&record->link);
        heap_free(record);
    }
}

void io_sim_loop_crash(struct io_loop *base, bool silent)
{
    struct sim_loop *loop = sim_loop_of(base);
    if (loop->crashed)
        return;
    trace_add(loop->sim, loop->id ^ 0xc0ffee);
    loop->crashed = true;
    sim_loop_detach(loop, silent);
}

void io_sim_loop_bury(struct io_loop *base)
{
    struct sim_loop *loop = sim_loop_of(base);
    CHECK(loop->crashed);
    while (loop_has_work(base)) {
        io_loop_begin(base, loop->sim->now_us);
        io_loop_end(base);
    }
}

static void sim_destroy(struct io_loop *base)
{
    struct sim_loop *loop = sim_loop_of(base);
    struct io_sim *sim = loop->sim;
    CHECK(loop->crashed || (base->streams_open == 0 && base->listeners_open == 0));
    sim_loop_detach(loop, false);
    for (size_t i = 0; i < sim->events.count; i++)
        if (sim->events.heap[i].loop == loop)
            sim->events.heap[i].kind = EVENT_NONE;
    list_remove(&loop->link);
    io_loop_deinit(base);
    heap_free(loop);
}

static const struct io_face SIM_FACE = {
    .kind = IO_KIND_SIM,
    .destroy = sim_destroy,
    .turn = sim_turn,
    .wake = sim_wake,
    .clock_us = sim_clock_us,
    .adopt = sim_adopt,
    .connect = sim_connect,
    .flush = sim_flush,
    .ready = sim_ready,
    .resume = sim_resume,
    .close = sim_close,
    .taken = sim_taken,
    .listen = sim_listen,
    .listener_addr = sim_listener_addr,
    .listener_resume = sim_listener_resume,
    .listener_stop = sim_listener_stop,
    .handle_close = sim_handle_close,
};

// ---- the world ----

enum status io_sim_create(const struct io_sim_config *config, struct io_sim **sim)
{
    if (config->latency_us_max < config->latency_us_min)
        return STATUS_INVALID;
    struct io_sim *world = heap_alloc(1, sizeof *world);
    if (world == NULL)
        return STATUS_NO_MEMORY;
    world->config = *config;
    world->next_id = 1;
    world->next_handle = 1;
    world->next_port = PORT_FIRST;
    world->next_client_port = CLIENT_PORT_FIRST;
    struct rng *const streams[] = {&world->rng_latency, &world->rng_stall,    &world->rng_reset,
                                   &world->rng_refuse,  &world->rng_fragment, &world->rng_order};
    uint64_t seed = config->seed;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++)
        rng_init(streams[i], rng_splitmix(&seed));
    list_init(&world->loops);
    list_init(&world->listeners);
    list_init(&world->ends);
    *sim = world;
    return STATUS_OK;
}

void io_sim_destroy(struct io_sim *sim)
{
    if (sim == NULL)
        return;
    CHECK(list_empty(&sim->loops));
    for (size_t i = 0; i < sim->events.count; i++)
        heap_free(sim->events.heap[i].segment);
    while (!list_empty(&sim->ends)) {
        struct sim_end *end = CONTAINER_OF(sim->ends.next, struct sim_end, link);
        end->references = 1;
        end_release(end);
    }
    while (!list_empty(&sim->listeners)) {
        struct sim_listener *record = CONTAINER_OF(sim->listeners.next, struct sim_listener, link);
        list_remove(&record->link);
        heap_free(record);
    }
    heap_free(sim->handles);
    heap_free(sim->events.heap);
    heap_free(sim);
}

void io_sim_set_faults(struct io_sim *sim, const struct io_sim_config *config)
{
    sim->config.stall_ppm = config->stall_ppm;
    sim->config.stall_us_max = config->stall_us_max;
    sim->config.reset_ppm = config->reset_ppm;
    sim->config.refuse_ppm = config->refuse_ppm;
    sim->config.fragment_ppm = config->fragment_ppm;
}

enum status io_sim_loop_create(struct io_sim *sim, struct io_loop **loop)
{
    struct sim_loop *created = heap_alloc_aligned(sizeof *created);
    if (created == NULL)
        return STATUS_NO_MEMORY;
    enum status status = io_loop_init(&created->base, &SIM_FACE, 0, sim->now_us);
    if (status != STATUS_OK) {
        heap_free(created);
        return status;
    }
    created->sim = sim;
    created->id = sim->next_id++;
    created->timer_at_us = UINT64_MAX;
    created->base.wall_offset_ms = sim->config.wall_start_ms;
    atomic_store(&created->base.sleeping, 1);
    list_push_back(&sim->loops, &created->link);
    *loop = &created->base;
    return STATUS_OK;
}

uint64_t io_sim_now_us(const struct io_sim *sim)
{
    return sim->now_us;
}

uint64_t io_sim_trace_hash(const struct io_sim *sim)
{
    return sim->trace;
}

const struct io_sim_faults *io_sim_faults(const struct io_sim *sim)
{
    return &sim->faults;
}
