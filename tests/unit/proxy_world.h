// SPDX-License-Identifier: Apache-2.0
// A world for tests of the proxy: scripted clients and origins around one attached worker, all in virtual
// time. Each file that includes it has one of its own.
#pragma once

#include "base/check.h"
#include "base/heap.h"
#include "net/io/sim.h"
#include "net/proxy/proxy.h"
#include "test.h"

enum { PEER_BYTES = 1 << 20, ORIGINS_MAX = 4, PEERS_MAX = 256 };

// One end that the test plays: a client's connection, or an origin's.
struct peer {
    struct io_stream stream;
    struct origin *origin;
    char *got; // grows as it must: a connection costs what was said on it
    size_t len, cap;
    size_t used; // origin: bytes of requests answered already
    bool open, ended, reset, closed;
    bool slow; // pauses after each read
    uint32_t requests;
};

struct origin {
    struct io_listener listener;
    struct world *world;
    struct io_addr addr;
    const char *reply;                // to every request head seen
    void (*serve)(struct peer *peer); // instead; called at each data
    struct tls_server *tls;           // NULL: in the clear
    uint32_t accepted;
    uint32_t requests;
    struct peer *peers[PEERS_MAX];
    bool listening;
};

struct world {
    struct io_sim *sim;
    struct io_loop *client_loop, *origin_loop, *proxy_loop;
    struct proxy *proxy;
    struct io_addr addr;
    struct origin origins[ORIGINS_MAX];
    struct peer *peers[PEERS_MAX];
    uint32_t peer_count;
    uint64_t table_version;
    uint64_t forgotten; // answers of versions that were forgotten
    // The plan the next publish makes a table of. Version i has origin i as its endpoint, until changed.
    struct proxy_endpoint_plan endpoints[ORIGINS_MAX];
    struct proxy_version_plan versions[ORIGINS_MAX];
    struct proxy_service_plan service;
    struct proxy_route_plan routes[4];
    struct proxy_table_plan plan;
};

static const char HELLO[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

// ---- ends ----

static void peer_send_bytes(struct peer *peer, const char *data, size_t len)
{
    while (len > 0) {
        struct io_buf *buf = io_buf_get(peer->stream.loop);
        assert_non_null(buf);
        size_t n = len < IO_BUF_BYTES ? len : IO_BUF_BYTES;
        memcpy(buf->data, data, n);
        buf->end = (uint32_t)n;
        io_stream_send(&peer->stream, buf);
        data += n;
        len -= n;
    }
}

static inline void peer_send(struct peer *peer, const char *text)
{
    peer_send_bytes(peer, text, strlen(text));
}

static inline bool peer_has(const struct peer *peer, const char *text)
{
    return strstr(peer->got, text) != NULL;
}

static inline uint32_t peer_count_of(const struct peer *peer, const char *text)
{
    uint32_t n = 0;
    for (const char *at = peer->got; (at = strstr(at, text)) != NULL; at++)
        n++;
    return n;
}

static inline void peer_clear(struct peer *peer)
{
    peer->len = 0;
    peer->used = 0;
    peer->got[0] = '\0';
}

static void peer_close(struct peer *peer)
{
    if (!peer->closed)
        io_stream_close(&peer->stream);
    peer->closed = true;
}

static void origin_serve_default(struct peer *peer)
{
    struct origin *origin = peer->origin;
    char *end;
    while ((end = strstr(peer->got + peer->used, "\r\n\r\n")) != NULL) {
        peer->used = (size_t)(end + 4 - peer->got);
        peer_send(peer, origin->reply);
    }
}

static void peer_reserve(struct peer *peer, size_t bytes)
{
    assert_true(bytes <= PEER_BYTES);
    if (bytes <= peer->cap)
        return;
    while (peer->cap < bytes)
        peer->cap = peer->cap > 0 ? peer->cap * 2 : 1024;
    peer->got = realloc(peer->got, peer->cap);
    assert_non_null(peer->got);
}

static void peer_on_open(struct io_stream *stream, enum status status)
{
    struct peer *peer = CONTAINER_OF(stream, struct peer, stream);
    peer->open = status == STATUS_OK;
    if (status != STATUS_OK) {
        peer->reset = true;
        peer_close(peer);
    }
}

static void peer_on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct peer *peer = CONTAINER_OF(stream, struct peer, stream);
    peer_reserve(peer, peer->len + io_buf_len(buf) + 1);
    memcpy(peer->got + peer->len, buf->data + buf->start, io_buf_len(buf));
    peer->len += io_buf_len(buf);
    peer->got[peer->len] = '\0';
    io_buf_put(buf);
    if (peer->slow)
        io_stream_pause(stream);
    if (peer->origin == NULL)
        return;
    if (peer->origin->serve != NULL)
        peer->origin->serve(peer);
    else
        origin_serve_default(peer);
}

static void peer_on_end(struct io_stream *stream, enum status status)
{
    struct peer *peer = CONTAINER_OF(stream, struct peer, stream);
    peer->ended = true;
    if (status != STATUS_CLOSED)
        peer->reset = true;
    if (peer->origin != NULL || status != STATUS_CLOSED)
        peer_close(peer);
}

static const struct io_stream_ops PEER_OPS = {
    .on_open = peer_on_open, .on_data = peer_on_data, .on_end = peer_on_end};

static struct peer *peer_create(void)
{
    struct peer *peer = heap_alloc(1, sizeof *peer);
    assert_non_null(peer);
    peer_reserve(peer, 1);
    peer->got[0] = '\0';
    return peer;
}

static void origin_on_accept(struct io_listener *listener, int handle, const struct io_addr *from)
{
    (void)from;
    struct origin *origin = CONTAINER_OF(listener, struct origin, listener);
    struct peer *peer = peer_create();
    peer->origin = origin;
    peer->open = true;
    assert_true(origin->accepted < PEERS_MAX);
    origin->peers[origin->accepted++] = peer;
    io_stream_adopt(listener->loop, &peer->stream, handle, &PEER_OPS);
    if (origin->tls != NULL)
        assert_int_equal(tls_accept(origin->tls, &peer->stream), STATUS_OK);
}

// ---- the world ----

static inline void world_run(struct world *world, uint64_t ms)
{
    io_sim_run(world->sim, io_sim_now_us(world->sim) + ms * 1000);
}

static inline struct peer *world_connect(struct world *world)
{
    struct peer *peer = peer_create();
    assert_true(world->peer_count < PEERS_MAX);
    world->peers[world->peer_count++] = peer;
    io_stream_connect(world->client_loop, &peer->stream, &world->addr, &PEER_OPS);
    return peer;
}

// Connects, sends and lets a second pass.
static inline struct peer *world_ask(struct world *world, const char *text)
{
    struct peer *peer = world_connect(world);
    peer_send(peer, text);
    world_run(world, 1000);
    return peer;
}

static inline void world_publish(struct world *world)
{
    struct proxy_table *table;
    struct fault why;
    world->plan.version = ++world->table_version;
    enum status status = proxy_table_build(&world->plan, &table, &why);
    if (status != STATUS_OK)
        print_message("table: %s\n", why.text);
    assert_int_equal(status, STATUS_OK);
    assert_int_equal(proxy_publish(world->proxy, table), STATUS_OK);
    world_run(world, 10);
    assert_true(proxy_acknowledged(world->proxy) == world->table_version);
}

static inline void origin_listen(struct origin *origin)
{
    origin->listener.on_accept = origin_on_accept;
    assert_int_equal(io_listener_open(origin->world->origin_loop, &origin->listener, &origin->addr, false),
                     STATUS_OK);
    origin->listening = true;
}

static inline void origin_unlisten(struct origin *origin)
{
    io_listener_close(&origin->listener);
    origin->listening = false;
}

static void world_plan(struct world *world)
{
    static const char *const NAMES[] = {"v1", "v2", "v3", "v4"};
    for (uint16_t i = 0; i < ORIGINS_MAX; i++) {
        world->endpoints[i] = (struct proxy_endpoint_plan){.slot = i, .addr = world->origins[i].addr};
        world->versions[i] = (struct proxy_version_plan){
            .slot = i, .name = NAMES[i], .endpoints = &world->endpoints[i], .endpoint_count = 1};
    }
    world->service = (struct proxy_service_plan){.name = "shop",
                                                 .versions = world->versions,
                                                 .version_count = ORIGINS_MAX,
                                                 .canary = 1,
                                                 .control = PROXY_VERSION_NONE,
                                                 .salt = {1, 2},
                                                 .cookie_key = {3, 4}};
    world->plan = (struct proxy_table_plan){
        .services = &world->service, .service_count = 1, .routes = world->routes, .route_count = 1};
}

static struct world *world_create_with(const struct io_sim_config *sim, const struct proxy_config *config)
{
    struct world *world = heap_alloc(1, sizeof *world);
    assert_non_null(world);
    assert_int_equal(io_sim_create(sim, &world->sim), STATUS_OK);
    assert_int_equal(io_sim_loop_create(world->sim, &world->client_loop), STATUS_OK);
    assert_int_equal(io_sim_loop_create(world->sim, &world->origin_loop), STATUS_OK);
    assert_int_equal(io_sim_loop_create(world->sim, &world->proxy_loop), STATUS_OK);
    for (int i = 0; i < ORIGINS_MAX; i++) {
        char text[32];
        snprintf(text, sizeof text, "10.0.0.%d:80", i + 1);
        world->origins[i].world = world;
        world->origins[i].reply = HELLO;
        assert_int_equal(io_addr_parse(text, &world->origins[i].addr), STATUS_OK);
        origin_listen(&world->origins[i]);
    }
    assert_int_equal(io_addr_parse("10.1.0.1:8080", &world->addr), STATUS_OK);
    struct proxy_config mine = *config;
    mine.workers = 1;
    mine.listen = &world->addr;
    mine.listen_count = 1;
    mine.seed = 7;
    assert_int_equal(proxy_create(&mine, &world->proxy), STATUS_OK);
    assert_int_equal(proxy_attach(world->proxy, 0, world->proxy_loop), STATUS_OK);
    world_plan(world);
    world_publish(world);
    return world;
}

static inline struct world *world_create(void)
{
    struct io_sim_config sim = {.seed = 1, .latency_us_min = 100, .latency_us_max = 200};
    struct proxy_config config = {0};
    return world_create_with(&sim, &config);
}

static inline uint64_t worker_counter(const struct world *world, enum proxy_worker_counter counter)
{
    uint64_t counts[PROXY_WORKER_COUNTERS];
    proxy_worker_counts(world->proxy, 0, counts);
    return counts[counter];
}

static inline uint64_t version_counter(const struct world *world, uint16_t version,
                                       enum proxy_version_counter counter)
{
    uint64_t counts[PROXY_VERSION_COUNTERS];
    proxy_version_counts(world->proxy, version, counts);
    return counts[counter];
}

static inline uint64_t answers_of(const uint64_t counts[PROXY_VERSION_COUNTERS])
{
    uint64_t answers = counts[PROXY_VERSION_UPGRADES];
    for (int k = PROXY_VERSION_STATUS_2XX; k <= PROXY_VERSION_STATUS_5XX; k++)
        answers += counts[k];
    return answers;
}

static inline void world_forget_version(struct world *world, uint16_t version)
{
    uint64_t counts[PROXY_VERSION_COUNTERS];
    proxy_version_counts(world->proxy, version, counts);
    world->forgotten += answers_of(counts);
    proxy_version_forget(world->proxy, version);
}

// What must hold whenever no request is under way.
static inline void world_check_identities(const struct world *world)
{
    assert_int_equal(worker_counter(world, PROXY_WORKER_RECEIVED),
                     worker_counter(world, PROXY_WORKER_ANSWERED) +
                         worker_counter(world, PROXY_WORKER_ABORTED));
    assert_int_equal(worker_counter(world, PROXY_WORKER_TUNNELS_OPENED),
                     worker_counter(world, PROXY_WORKER_TUNNELS_CLOSED));
    uint64_t statuses = worker_counter(world, PROXY_WORKER_LOCAL) + world->forgotten, local = 0;
    for (uint16_t i = 0; i < ORIGINS_MAX; i++) {
        uint64_t c[PROXY_VERSION_COUNTERS];
        proxy_version_counts(world->proxy, i, c);
        statuses += answers_of(c);
        local += c[PROXY_VERSION_LOCAL_4XX] + c[PROXY_VERSION_LOCAL_5XX];
        assert_int_equal(c[PROXY_VERSION_REQUESTS], c[PROXY_VERSION_COMPLETED]);
        assert_true(proxy_version_over(world->proxy, i));
        uint64_t errors = 0;
        for (int k = PROXY_VERSION_ERROR_5XX; k <= PROXY_VERSION_ERROR_OPEN; k++)
            errors += c[k];
        assert_int_equal(c[PROXY_VERSION_ERRORS], errors);
    }
    assert_int_equal(worker_counter(world, PROXY_WORKER_ANSWERED), statuses);
    assert_true(local <= worker_counter(world, PROXY_WORKER_LOCAL));
}

static inline void world_stop(struct world *world)
{
    proxy_stop(world->proxy);
    for (int i = 0; i < 100 && !proxy_stopped(world->proxy); i++)
        world_run(world, 100);
    assert_true(proxy_stopped(world->proxy));
    assert_int_equal(io_loop_stats(world->proxy_loop)->bufs_in_use, 0);
    assert_int_equal(proxy_clients_open(world->proxy), 0);
    assert_int_equal(worker_counter(world, PROXY_WORKER_UPSTREAM_OPENED),
                     worker_counter(world, PROXY_WORKER_UPSTREAM_CLOSED));
    world_check_identities(world);
}

static inline void peer_free(struct peer *peer)
{
    free(peer->got);
    heap_free(peer);
}

static inline void world_destroy(struct world *world)
{
    world_stop(world);
    for (uint32_t i = 0; i < world->peer_count; i++)
        peer_close(world->peers[i]);
    for (int i = 0; i < ORIGINS_MAX; i++) {
        if (world->origins[i].listening)
            io_listener_close(&world->origins[i].listener);
        for (uint32_t k = 0; k < world->origins[i].accepted; k++)
            peer_close(world->origins[i].peers[k]);
    }
    world_run(world, 1000);
    proxy_destroy(world->proxy);
    io_loop_destroy(world->client_loop);
    io_loop_destroy(world->origin_loop);
    io_loop_destroy(world->proxy_loop);
    io_sim_destroy(world->sim);
    for (uint32_t i = 0; i < world->peer_count; i++)
        peer_free(world->peers[i]);
    for (int i = 0; i < ORIGINS_MAX; i++)
        for (uint32_t k = 0; k < world->origins[i].accepted; k++)
            peer_free(world->origins[i].peers[k]);
    heap_free(world);
}
