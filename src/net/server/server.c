// SPDX-License-Identifier: Apache-2.0
// The server's life: listening, connections, their time and their ends. One timer per connection; it is not
// moved at each request but looks, when it fires, whether its deadline has moved.
#include "net/server/server.h"

#include <string.h>

#include "net/server/server_private.h"

enum { TAIL_ROOM_BYTES = 2048 }; // a buffer with less room than that does not wait for more

// ---- ends ----

void connection_due(struct connection *c, uint64_t due_us)
{
    c->due_us = due_us;
    if (!io_timer_is_set(&c->timer) || c->timer.deadline_us > due_us)
        io_timer_set(c->io.loop, &c->timer, due_us);
}

void connection_pause(struct connection *c)
{
    if (c->stream.paused)
        return;
    c->stream.paused = true;
    io_stream_pause(&c->io);
}

void connection_resume(struct connection *c)
{
    if (!c->stream.paused)
        return;
    c->stream.paused = false;
    io_stream_resume(&c->io);
}

static void put_input(struct connection *c)
{
    io_held_put(c->held);
    io_buf_put(c->trailers);
    c->held = NULL;
    c->trailers = NULL;
}

void connection_close(struct connection *c, bool reset)
{
    if (c->state == CONNECTION_CLOSED)
        return;
    CHECK(!c->active);
    c->state = CONNECTION_CLOSED;
    put_input(c);
    io_chain_put(&c->out);
    c->stream.server->unsent -= c->counted;
    c->counted = 0;
    io_timer_clear(c->io.loop, &c->timer);
    if (reset)
        io_stream_abort(&c->io);
    else
        io_stream_close(&c->io);
}

void connection_linger(struct connection *c)
{
    if (c->state != CONNECTION_OPEN)
        return;
    c->state = CONNECTION_LINGER;
    put_input(c);
    connection_flush(c, true);
    bool waits = io_stream_pending(&c->io) > 0;
    if (c->stream.half_closed && !waits) {
        connection_close(c, false);
        return;
    }
    io_stream_finish(&c->io);
    connection_resume(c);
    connection_due(c, connection_now_us(c) + (waits ? c->stream.server->limits.idle_us : LINGER_US));
}

uint64_t connection_idle_due_us(const struct connection *c)
{
    const struct server_limits *limits = &c->stream.server->limits;
    uint64_t longer_us = limits->idle_spread_us * c->spread >> 16;
    bool draining = c->stream.server->draining; // accepted by the kernel before
    return connection_now_us(c) + (draining ? DRAIN_GRACE_US : limits->idle_us + longer_us);
}

void connection_wait(struct connection *c)
{
    connection_due(c, connection_idle_due_us(c));
}

void connection_drop(struct connection *c, struct io_buf *buf)
{
    c->linger_bytes += io_buf_len(buf);
    io_buf_put(buf);
    if (c->state == CONNECTION_LINGER && c->linger_bytes > LINGER_BYTES_MAX)
        connection_close(c, false);
}

void connection_linger_drained(struct connection *c)
{
    if (c->state != CONNECTION_LINGER)
        return;
    if (c->stream.half_closed)
        connection_close(c, false);
    else
        connection_due(c, connection_now_us(c) + LINGER_US);
}

void connection_over(struct connection *c)
{
    const struct server *server = c->stream.server;
    c->active = false;
    io_buf_put(c->trailers);
    c->trailers = NULL;
    if (!c->keep || !c->request_done || server->draining)
        connection_linger(c);
    else
        connection_wait(c);
    if (c->busy)
        return;
    c->busy = true;
    connection_leave(c);
}

void connection_gone(struct connection *c)
{
    c->active = false;
    c->stream.server->handler->gone(&c->stream);
    connection_close(c, true);
}

void connection_refuse(struct connection *c, enum server_refusal refusal, unsigned status, const char *why)
{
    if (refusal != SERVER_REFUSAL_BODY) {
        c->stream.subject = NULL;
        c->active = true;
        c->request_done = false;
        c->http10 = false;
    }
    c->keep = false;
    c->stream.server->handler->refused(&c->stream, refusal, status, why);
    if (!c->active)
        return;
    c->active = false;
    connection_close(c, refusal == SERVER_REFUSAL_BODY);
}

static void note(struct server *server, enum server_note what)
{
    if (server->handler->note != NULL)
        server->handler->note(server, what);
}

void connection_note(const struct connection *c, enum server_note what)
{
    note(c->stream.server, what);
}

void connection_free(struct connection *c)
{
    struct server *server = c->stream.server;
    list_remove(&c->link);
    if (c->crowded) {
        server->turned_away--;
    } else {
        server->open--;
        if (c->site != SITE_NONE)
            server->sites[c->site]--;
        note(server, SERVER_NOTE_CLOSED);
    }
    free_list_put(&server->free_connections, c);
}

// ---- time ----

// A peer that still takes what we send is slow, not gone.
static bool takes_answers(struct connection *c)
{
    return io_stream_taking(&c->io, &c->taken_mark);
}

void connection_wait_over(struct connection *c)
{
    struct server *server = c->stream.server;
    if (c->rests) {
        c->rests = false;
        connection_due(c, c->head_started ? c->stream.begun_us + server->limits.head_us
                                          : connection_now_us(c) + server->limits.idle_us);
        return;
    }
    if (takes_answers(c)) {
        connection_due(c, connection_now_us(c) + server->limits.idle_us);
        return;
    }
    if (UNLIKELY(c->untold)) {
        connection_refuse(c, SERVER_REFUSAL_PROXY, 408, "no PROXY header came in time");
        return;
    }
    if (c->state == CONNECTION_OPEN && c->head_started && connection_unsent(c) == 0) {
        connection_refuse(c, SERVER_REFUSAL_LATE, 408, "request head took too long");
        return;
    }
    if (c->state == CONNECTION_OPEN)
        note(server, SERVER_NOTE_IDLE);
    connection_close(c, false);
}

static void on_timer(struct io_timer *timer)
{
    struct connection *c = CONTAINER_OF(timer, struct connection, timer);
    if (connection_now_us(c) < c->due_us) {
        io_timer_set(c->io.loop, timer, c->due_us);
        return;
    }
    c->busy = true;
    if (c->active)
        c->stream.server->handler->due(&c->stream);
    else
        connection_wait_over(c);
    connection_leave(c);
}

// ---- bytes out ----

static void count_unsent(struct connection *c)
{
    uint32_t unsent = connection_unsent(c);
    c->stream.server->unsent += unsent;
    c->stream.server->unsent -= c->counted;
    c->counted = unsent;
}

void connection_flush(struct connection *c, bool always)
{
    if (c->state == CONNECTION_CLOSED)
        return;
    always = always || io_stream_pending(&c->io) == 0;
    while (c->out.head != NULL) {
        struct io_buf *buf = c->out.head;
        struct io_buf *next = buf->next;
        if (next == NULL && !always && io_buf_room(buf) >= TAIL_ROOM_BYTES)
            break;
        io_stream_send(&c->io, buf);
        c->out.head = next;
    }
    if (c->out.head == NULL)
        c->out.tail = NULL;
    count_unsent(c);
}

// ---- accepting ----

// "10.0.0.1:80", "[::1]:80", "unix:...": what stands before the port.
void connection_belongs(struct connection *c, const struct io_addr *client)
{
    char text[IO_ADDR_TEXT_BYTES];
    io_addr_format(client, text);
    size_t len = strnlen(text, sizeof c->from - 1);
    memcpy(c->from, text, len);
    c->from[len] = '\0';
    const char *colon = strrchr(text, ':');
    size_t host = colon == NULL || strncmp(text, "unix:", 5) == 0 ? len : (size_t)(colon - text);
    bool brackets = text[0] == '[' && host > 2;
    c->host_start = brackets;
    c->host_len = (uint8_t)(brackets ? host - 2 : host);
}

static uint16_t site_of(const struct server *server, const struct io_addr *peer)
{
    uint8_t site[8];
    if (server->limits.connections_per_site == 0 || !io_addr_site(peer, site))
        return SITE_NONE;
    return (uint16_t)(siphash(server->site_key, site, sizeof site) % SERVER_SITES);
}

// Nothing of it is under way: it waits for a request, or drips a head.
static bool may_give_way(const struct connection *c)
{
    if (c->state != CONNECTION_OPEN || c->active || c->crowded || connection_unsent(c) > 0)
        return false;
    return c->held == NULL ||
           (c->head_started && connection_now_us(c) - c->stream.begun_us >= GIVE_WAY_HEAD_US);
}

// Closes the one that waits the longest of those that were not looked at for the longest time.
static bool give_way(struct server *server)
{
    struct connection *oldest = NULL;
    for (int i = 0; i < GIVE_WAY_LOOKS && !list_empty(&server->connections); i++) {
        struct connection *c = CONTAINER_OF(server->connections.next, struct connection, link);
        list_remove(&c->link);
        list_push_back(&server->connections, &c->link);
        if (may_give_way(c) && (oldest == NULL || c->due_us < oldest->due_us))
            oldest = c;
    }
    if (oldest == NULL)
        return false;
    note(server, SERVER_NOTE_GAVE_WAY);
    connection_close(oldest, false);
    return true;
}

static bool site_full(const struct server *server, uint16_t site)
{
    return site != SITE_NONE && server->sites[site] >= server->limits.connections_per_site;
}

static bool may_refuse(const struct server *server)
{
    uint32_t part = server->limits.connections / REFUSE_PART + 1;
    return server->turned_away < (part < REFUSE_MAX ? part : REFUSE_MAX);
}

static void turn_away(struct connection *c)
{
    connection_refuse(c, SERVER_REFUSAL_CROWDED, 503, "too many connections");
}

bool connection_enter(struct connection *c, const struct io_addr *client)
{
    struct server *server = c->stream.server;
    uint16_t site = site_of(server, client);
    if (!site_full(server, site)) {
        c->site = site;
        if (site != SITE_NONE)
            server->sites[site]++;
        return true;
    }
    note(server, SERVER_NOTE_CROWDED);
    c->crowded = true;
    server->open--;
    if (may_refuse(server))
        turn_away(c);
    else
        connection_close(c, false);
    server->turned_away++;
    return false;
}

bool connection_secure(struct connection *c)
{
    struct server *server = c->stream.server;
    if (server->handler->secure == NULL)
        return true;
    return server->handler->secure(server, c->listener, &c->io);
}

bool connection_may_http2(const struct connection *c)
{
    struct server *server = c->stream.server;
    return server->handler->http2 != NULL && server->handler->http2(server, c->listener, &c->io);
}

static void connection_begin(struct connection *c, const struct server_listener *listener, int handle,
                             const struct io_addr *peer, bool proxied, bool crowded)
{
    struct server *server = listener->server;
    memset(c, 0, sizeof *c);
    c->stream.server = server;
    c->stream.connection = c;
    c->engine = &HTTP1_ENGINE;
    c->crowded = crowded;
    c->listener = (uint8_t)(listener - server->listeners);
    c->site = SITE_NONE;
    c->spread = (uint16_t)(server->met++ * 40503u); // by the golden ratio: even, however many there are
    io_timer_init(&c->timer, on_timer);
    list_push_back(&server->connections, &c->link);
    connection_belongs(c, peer);
    io_stream_adopt(server->loop, &c->io, handle, &CONNECTION_OPS);
    c->untold = proxied && !crowded;
    bool goes_on = c->untold || connection_secure(c);
    // What comes first is a header that nobody reads: no handshake could succeed.
    goes_on = goes_on && !(crowded && proxied && c->io.filter != NULL);
    if (!crowded) {
        server->open++;
        if (!proxied)
            (void)connection_enter(c, peer); // on_accept has asked for room
        connection_wait(c);
        // A PROXY header and a handshake have as long as a head.
        if (c->untold || c->io.filter != NULL)
            connection_due(c, connection_now_us(c) + server->limits.head_us);
        if (!goes_on)
            connection_close(c, true);
        return;
    }
    server->turned_away++;
    if (!goes_on) {
        connection_close(c, true);
        return;
    }
    c->busy = true;
    turn_away(c);
    connection_leave(c);
}

// Whose a proxied connection is, is not known yet.
static bool is_crowded(struct server *server, const struct io_addr *peer, bool proxied)
{
    if (!proxied && site_full(server, site_of(server, peer)))
        return true;
    return server->open >= server->limits.connections && !give_way(server);
}

static void on_accept(struct io_listener *listener, int handle, const struct io_addr *peer)
{
    const struct server_listener *ours = CONTAINER_OF(listener, struct server_listener, io);
    struct server *server = ours->server;
    uint32_t number = (uint32_t)(ours - server->listeners);
    bool proxied = server->handler->proxied != NULL && server->handler->proxied(server, number, peer);
    bool crowded = is_crowded(server, peer, proxied);
    bool silent = crowded && !may_refuse(server);
    struct connection *c =
        silent ? NULL : free_list_get(&server->free_connections, sizeof(struct connection));
    note(server, SERVER_NOTE_ACCEPTED);
    if (c == NULL || crowded)
        note(server, SERVER_NOTE_CROWDED);
    if (c == NULL)
        io_handle_close(server->loop, handle);
    else
        connection_begin(c, ours, handle, peer, proxied, crowded);
}

static void on_accept_failure(struct io_listener *listener, enum status status)
{
    (void)status;
    note(CONTAINER_OF(listener, struct server_listener, io)->server, SERVER_NOTE_ACCEPT_FAILED);
}

// ---- life ----

void server_init(struct server *server, const struct server_handler *handler,
                 const struct server_limits *limits, const struct http1_limits *http1)
{
    server->handler = handler;
    server->limits = *limits;
    server->http1 = http1 != NULL ? *http1 : http1_limits_default;
    list_init(&server->connections);
}

static struct io_listener *next_listener(struct server *server, struct io_loop *loop)
{
    CHECK(server->listener_count < SERVER_LISTENERS_MAX);
    struct server_listener *listener = &server->listeners[server->listener_count];
    server->loop = loop;
    *listener = (struct server_listener){.server = server};
    listener->io.on_accept = on_accept;
    listener->io.on_failure = on_accept_failure;
    return &listener->io;
}

enum status server_listen(struct server *server, struct io_loop *loop, const struct io_addr *addr,
                          bool reuse_port)
{
    enum status status = io_listener_open(loop, next_listener(server, loop), addr, reuse_port);
    server->listener_count += status == STATUS_OK;
    return status;
}

enum status server_join(struct server *server, struct io_loop *loop, const struct server *first)
{
    for (uint32_t i = 0; i < first->listener_count; i++) {
        enum status status = io_listener_join(loop, next_listener(server, loop), &first->listeners[i].io);
        if (status != STATUS_OK)
            return status;
        server->listener_count++;
    }
    return STATUS_OK;
}

void server_addr(const struct server *server, uint32_t n, struct io_addr *addr)
{
    io_listener_addr(&server->listeners[n].io, addr);
}

void server_unlisten(struct server *server)
{
    for (uint32_t i = 0; i < server->listener_count; i++)
        io_listener_close(&server->listeners[i].io);
    server->listener_count = 0;
}

void server_drain(struct server *server, struct rng *rng)
{
    for (uint32_t i = 0; i < server->listener_count; i++)
        io_listener_stop(&server->listeners[i].io);
    server->draining = true;
    for (struct list *node = server->connections.next; node != &server->connections; node = node->next) {
        struct connection *c = CONTAINER_OF(node, struct connection, link);
        c->engine->drain(c, rng);
    }
}

void server_close(struct server *server)
{
    server_unlisten(server);
    for (struct list *node = server->connections.next; node != &server->connections; node = node->next) {
        struct connection *c = CONTAINER_OF(node, struct connection, link);
        c->engine->gone(c);
        connection_close(c, false);
    }
}

bool server_closed(const struct server *server)
{
    return server->listener_count == 0 && list_empty(&server->connections);
}

void server_deinit(struct server *server)
{
    CHECK(server_closed(server) && server->unsent == 0);
    free_list_clear(&server->free_connections);
    free_list_clear(&server->free_streams);
}

// ---- the answer: the engine's ----

enum status server_head(struct server_stream *stream, const struct http_response *response,
                        const struct server_added *added)
{
    return stream->connection->engine->head(stream, response, added);
}

enum status server_tunnel(struct server_stream *stream, const struct http_response *response,
                          const struct server_added *added, struct io_buf **early)
{
    return stream->connection->engine->tunnel(stream, response, added, early);
}

enum status server_data(struct server_stream *stream, struct slice run, struct io_buf **buf)
{
    return stream->connection->engine->data(stream, run, buf);
}

enum status server_data_end(struct server_stream *stream, const struct http_fields *trailers)
{
    return stream->connection->engine->data_end(stream, trailers);
}

enum status server_answer(struct server_stream *stream, const struct http_answer *answer)
{
    return stream->connection->engine->answer(stream, answer);
}

void server_flush(struct server_stream *stream)
{
    stream->connection->engine->flush(stream);
}

void server_half_close(struct server_stream *stream)
{
    stream->connection->engine->half_close(stream);
}

void server_end(struct server_stream *stream)
{
    stream->connection->engine->end(stream);
}

void server_reset(struct server_stream *stream)
{
    stream->connection->engine->reset(stream);
}

// ---- asking ----

uint32_t server_at_hand(const struct server_stream *stream)
{
    return stream->at_hand;
}

uint32_t server_unsent(const struct server_stream *stream)
{
    return stream->connection->engine->unsent(stream);
}

bool server_taking(const struct server_stream *stream, uint64_t *mark)
{
    return stream->connection->engine->taking(stream, mark);
}

bool server_is_half_closed(const struct server_stream *stream)
{
    return stream->half_closed;
}

uint64_t server_begun_us(const struct server_stream *stream)
{
    return stream->begun_us;
}

const char *server_from(const struct server_stream *stream)
{
    return stream->connection->from;
}

struct slice server_from_host(const struct server_stream *stream)
{
    const struct connection *c = stream->connection;
    return (struct slice){c->from + c->host_start, c->host_len};
}

uint32_t server_listener_number(const struct server_stream *stream)
{
    return connection_of(stream)->listener;
}

const struct io_stream *server_io(const struct server_stream *stream)
{
    return &stream->connection->io;
}

bool server_is_secure(const struct server_stream *stream)
{
    return stream->connection->io.filter != NULL;
}

enum status server_peer(const struct server_stream *stream, struct io_addr *addr)
{
    return io_addr_parse(stream->connection->from, addr);
}

// ---- flow and time ----

void server_pause(struct server_stream *stream)
{
    stream->connection->engine->pause(stream);
}

void server_resume(struct server_stream *stream)
{
    stream->connection->engine->resume(stream);
}

bool server_paused(const struct server_stream *stream)
{
    return stream->paused;
}

void server_due(struct server_stream *stream, uint64_t due_us)
{
    stream->connection->engine->due(stream, due_us);
}
