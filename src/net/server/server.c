// SPDX-License-Identifier: Apache-2.0
// The server's life: listening, connections, their time and their ends. One timer per connection; it is not
// moved at each request but looks, when it fires, whether its deadline has moved.
#include "net/server/server.h"

#include <string.h>

#include "net/server/server_private.h"

// ---- ends ----

void connection_due(struct connection *c, uint64_t due_us)
{
    c->due_us = due_us;
    if (!io_timer_is_set(&c->timer) || c->timer.deadline_us > due_us)
        io_timer_set(c->io.loop, &c->timer, due_us);
}

void connection_pause(struct connection *c)
{
    if (c->paused)
        return;
    c->paused = true;
    io_stream_pause(&c->io);
}

void connection_resume(struct connection *c)
{
    if (!c->paused)
        return;
    c->paused = false;
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
    if (c->ended && !waits) {
        connection_close(c, false);
        return;
    }
    io_stream_finish(&c->io);
    connection_resume(c);
    connection_due(c, connection_now_us(c) + (waits ? c->stream.server->limits.idle_us : LINGER_US));
}

static void wait_for_request(struct connection *c)
{
    const struct server_limits *limits = &c->stream.server->limits;
    uint64_t longer_us = limits->idle_spread_us * c->spread >> 16;
    bool draining = c->stream.server->draining; // accepted by the kernel before
    connection_due(c, connection_now_us(c) + (draining ? DRAIN_GRACE_US : limits->idle_us + longer_us));
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
        wait_for_request(c);
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

static void wait_is_over(struct connection *c)
{
    struct server *server = c->stream.server;
    if (c->rests) {
        c->rests = false;
        connection_due(c, c->head_started ? c->begun_us + server->limits.head_us
                                          : connection_now_us(c) + server->limits.idle_us);
        return;
    }
    if (takes_answers(c)) {
        connection_due(c, connection_now_us(c) + server->limits.idle_us);
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
        wait_is_over(c);
    connection_leave(c);
}

// ---- accepting ----

// "10.0.0.1:80", "[::1]:80", "unix:...": what stands before the port.
static void set_from(struct connection *c, const struct io_addr *peer)
{
    char text[IO_ADDR_TEXT_BYTES];
    io_addr_format(peer, text);
    size_t len = strnlen(text, sizeof c->from - 1);
    memcpy(c->from, text, len);
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
    return c->held == NULL || (c->head_started && connection_now_us(c) - c->begun_us >= GIVE_WAY_HEAD_US);
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

// Whether the connection may go on.
static bool make_secure(struct connection *c, const struct server_listener *listener)
{
    struct server *server = c->stream.server;
    if (server->handler->secure == NULL)
        return true;
    return server->handler->secure(server, (uint32_t)(listener - server->listeners), &c->io);
}

static void connection_begin(struct connection *c, const struct server_listener *listener, int handle,
                             const struct io_addr *peer, bool crowded)
{
    struct server *server = listener->server;
    memset(c, 0, sizeof *c);
    c->stream.server = server;
    c->crowded = crowded;
    c->site = SITE_NONE;
    c->spread = (uint16_t)(server->met++ * 40503u); // by the golden ratio: even, however many there are
    io_timer_init(&c->timer, on_timer);
    list_push_back(&server->connections, &c->link);
    set_from(c, peer);
    io_stream_adopt(server->loop, &c->io, handle, &CONNECTION_OPS);
    bool goes_on = make_secure(c, listener);
    if (!crowded) {
        server->open++;
        c->site = site_of(server, peer);
        if (c->site != SITE_NONE)
            server->sites[c->site]++;
        wait_for_request(c);
        // A handshake has as long as a head.
        if (c->io.filter != NULL)
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
    connection_refuse(c, SERVER_REFUSAL_CROWDED, 503, "too many connections");
    connection_leave(c);
}

static bool is_crowded(struct server *server, const struct io_addr *peer)
{
    uint16_t site = site_of(server, peer);
    if (site != SITE_NONE && server->sites[site] >= server->limits.connections_per_site)
        return true;
    return server->open >= server->limits.connections && !give_way(server);
}

static bool may_refuse(const struct server *server)
{
    uint32_t part = server->limits.connections / REFUSE_PART + 1;
    return server->turned_away < (part < REFUSE_MAX ? part : REFUSE_MAX);
}

static void on_accept(struct io_listener *listener, int handle, const struct io_addr *peer)
{
    const struct server_listener *ours = CONTAINER_OF(listener, struct server_listener, io);
    struct server *server = ours->server;
    bool crowded = is_crowded(server, peer);
    bool silent = crowded && !may_refuse(server);
    struct connection *c =
        silent ? NULL : free_list_get(&server->free_connections, sizeof(struct connection));
    note(server, SERVER_NOTE_ACCEPTED);
    if (c == NULL || crowded)
        note(server, SERVER_NOTE_CROWDED);
    if (c == NULL)
        io_handle_close(server->loop, handle);
    else
        connection_begin(c, ours, handle, peer, crowded);
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
        if (c->state == CONNECTION_OPEN && !c->active && c->held == NULL)
            connection_due(c, connection_now_us(c) + DRAIN_GRACE_US + rng_below(rng, DRAIN_SPREAD_US));
    }
}

void server_close(struct server *server)
{
    server_unlisten(server);
    for (struct list *node = server->connections.next; node != &server->connections; node = node->next) {
        struct connection *c = CONTAINER_OF(node, struct connection, link);
        if (c->active)
            connection_gone(c);
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
}

// ---- asking ----

uint32_t server_at_hand(const struct server_stream *stream)
{
    return connection_seen(stream)->at_hand;
}

uint32_t server_unsent(const struct server_stream *stream)
{
    return connection_unsent(connection_seen(stream));
}

bool server_taking(const struct server_stream *stream, uint64_t *mark)
{
    return io_stream_taking(&connection_seen(stream)->io, mark);
}

bool server_is_half_closed(const struct server_stream *stream)
{
    return connection_seen(stream)->ended;
}

uint64_t server_begun_us(const struct server_stream *stream)
{
    return connection_seen(stream)->begun_us;
}

const char *server_from(const struct server_stream *stream)
{
    return connection_seen(stream)->from;
}

struct slice server_from_host(const struct server_stream *stream)
{
    const struct connection *c = connection_seen(stream);
    return (struct slice){c->from + c->host_start, c->host_len};
}

bool server_is_secure(const struct server_stream *stream)
{
    return connection_seen(stream)->io.filter != NULL;
}

enum status server_peer(const struct server_stream *stream, struct io_addr *addr)
{
    return io_stream_peer(&connection_seen(stream)->io, addr);
}

// ---- flow and time ----

void server_pause(struct server_stream *stream)
{
    connection_pause(connection_of(stream));
}

void server_resume(struct server_stream *stream)
{
    struct connection *c = connection_of(stream);
    if (!c->request_done || c->tunnel)
        connection_resume(c);
}

bool server_paused(const struct server_stream *stream)
{
    return connection_seen(stream)->paused;
}

void server_due(struct server_stream *stream, uint64_t due_us)
{
    connection_due(connection_of(stream), due_us);
}
