// SPDX-License-Identifier: Apache-2.0
// Connections to endpoints and their pools. An idle connection that says or ends anything is dead.
#include "base/heap.h"
#include "net/proxy/balance.h"
#include "net/proxy/protect.h"

static struct upstream *upstream_of(struct io_stream *stream)
{
    return CONTAINER_OF(stream, struct upstream, stream);
}

// ---- pools ----

static void pool_on_timer(struct io_timer *timer)
{
    struct pool *pool = CONTAINER_OF(timer, struct pool, timer);
    uint64_t now_us = worker_now_us(pool->worker);
    while (!list_empty(&pool->idle)) {
        struct upstream *oldest = CONTAINER_OF(pool->idle.prev, struct upstream, link);
        if (oldest->idle_since_us + pool->idle_max_us > now_us) {
            io_timer_set(pool->worker->loop, &pool->timer, oldest->idle_since_us + pool->idle_max_us);
            return;
        }
        upstream_close(oldest);
    }
}

void pool_init(struct pool *pool, struct worker *worker, uint16_t slot)
{
    pool->worker = worker;
    pool->slot = slot;
    list_init(&pool->idle);
    list_init(&pool->link);
    list_init(&pool->sessions);
    io_timer_init(&pool->timer, pool_on_timer);
}

void pool_destroy(struct pool *pool)
{
    if (pool == NULL)
        return;
    tls_resume_forget(&pool->resume);
    heap_free(pool);
}

void pool_renew(struct pool *pool)
{
    pool->generation++;
    pool->failures = 0;
    pool->skip_until_us = 0;
    pool->measured = 0;
    pool->http1 = false;
}

void pool_close_idle(struct pool *pool)
{
    while (!list_empty(&pool->idle))
        upstream_close(CONTAINER_OF(pool->idle.next, struct upstream, link));
    session_retire_all(pool);
}

void pool_speak(struct pool *pool, bool secure, bool http2, struct tls_client *client)
{
    if (UNLIKELY(pool->secure != secure || pool->http2 != http2 || pool->client != client))
        pool_close_idle(pool);
    pool->secure = secure;
    pool->http2 = http2;
    pool->client = client;
}

void upstream_failed(struct upstream *upstream)
{
    struct pool *pool = upstream->pool;
    if (UNLIKELY(upstream->session != NULL))
        session_retire(upstream);
    if (upstream->generation != pool->generation)
        return; // that was another address
    uint32_t doublings = pool->failures < SKIP_DOUBLINGS_MAX ? pool->failures : SKIP_DOUBLINGS_MAX;
    pool->failures++;
    pool->skip_until_us = worker_now_us(pool->worker) + ((uint64_t)SKIP_US_MIN << doublings);
}

static bool was_tried(const struct exchange *exchange, uint16_t slot)
{
    uint32_t n = exchange->attempts < TRIED_MAX ? exchange->attempts : TRIED_MAX;
    for (uint32_t i = 0; i < n; i++)
        if (exchange->tried[i] == slot)
            return true;
    return false;
}

// What is to become a tunnel goes by a connection of HTTP/1, where TLS lets us agree on that.
static bool goes_by_session(const struct exchange *exchange, const struct pool *pool)
{
    return UNLIKELY(pool->http2) && !(exchange->upgrade && pool->secure);
}

bool pool_has_room(const struct exchange *exchange, const struct proxy_endpoint *endpoint)
{
    const struct pool *pool = exchange->worker->pools[endpoint->slot];
    return pool->open < endpoint->connections_max || !list_empty(&pool->idle) ||
           (goes_by_session(exchange, pool) && session_has_room(pool));
}

static bool is_eligible(const struct exchange *exchange, const struct proxy_endpoint *endpoint)
{
    const struct worker *worker = exchange->worker;
    const struct pool *pool = worker->pools[endpoint->slot];
    return pool_has_room(exchange, endpoint) && pool->skip_until_us <= worker_now_us(worker) &&
           !was_tried(exchange, endpoint->slot);
}

bool pool_eligible(const struct exchange *exchange, const struct proxy_endpoint *endpoint)
{
    return is_eligible(exchange, endpoint);
}

// The first eligible one from a random place on, near ones first; failing that, one with room, whatever is
// known against it.
static const struct proxy_endpoint *choose_by_search(const struct exchange *exchange,
                                                     const struct proxy_version *version, uint32_t from)
{
    const struct proxy_endpoint *with_room = NULL;
    for (uint32_t i = 0; i < version->endpoint_count; i++) {
        uint32_t near = version->near_count;
        const struct proxy_endpoint *endpoint = &version->endpoints[i < near ? (from + i) % near : i];
        if (is_eligible(exchange, endpoint))
            return endpoint;
        if (with_room == NULL && pool_has_room(exchange, endpoint))
            with_room = endpoint;
    }
    return with_room;
}

static bool is_usable(void *context, const struct proxy_endpoint *endpoint)
{
    return is_eligible(context, endpoint);
}

static const struct proxy_endpoint *choose_by_key(struct exchange *exchange,
                                                  const struct proxy_version *version)
{
    const struct proxy_endpoint *best = balance_by_key(version, exchange->hash, is_usable, exchange);
    return best != NULL ? best : choose_by_search(exchange, version, 0);
}

const struct proxy_endpoint *pool_choose(struct exchange *exchange, const struct proxy_version *version)
{
    struct worker *worker = exchange->worker;
    if (UNLIKELY(version->protection != NULL))
        return protect_choose(exchange, version);
    if (UNLIKELY(exchange->hashed))
        return choose_by_key(exchange, version);
    if (version->near_count <= 1)
        return choose_by_search(exchange, version, 0);
    struct balance_pair pair = balance_draw(version, version->near_count, &worker->rng);
    const struct proxy_endpoint *a = &version->endpoints[pair.first], *b = &version->endpoints[pair.second];
    bool a_eligible = is_eligible(exchange, a), b_eligible = is_eligible(exchange, b);
    if (a_eligible && b_eligible)
        return balance_of_two(worker, a, b);
    if (a_eligible || b_eligible)
        return a_eligible ? a : b;
    return choose_by_search(exchange, version, pair.first);
}

// ---- connections ----

void upstream_use(struct upstream *upstream, struct exchange *exchange)
{
    struct pool *pool = upstream->pool;
    upstream->exchange = exchange;
    upstream->uses++;
    upstream->answered = false;
    list_push_back(&pool->worker->upstreams, &upstream->link);
    pool->active++;
}

// Its own name, or its address without the port.
static struct slice certified_name(const struct proxy_endpoint *endpoint, char text[IO_ADDR_TEXT_BYTES])
{
    if (endpoint->name.len > 0 || endpoint->addr.any.sa_family == AF_UNIX)
        return endpoint->name;
    io_addr_format_host(&endpoint->addr, text);
    return slice_of(text);
}

static enum status secure(struct upstream *upstream, const struct proxy_endpoint *endpoint)
{
    struct pool *pool = upstream->pool;
    char text[IO_ADDR_TEXT_BYTES];
    upstream->client = pool->client;
    return tls_connect(pool->client, &upstream->stream, certified_name(endpoint, text), &pool->resume);
}

struct upstream *upstream_connect(struct pool *pool, const struct proxy_endpoint *endpoint)
{
    struct worker *worker = pool->worker;
    if (UNLIKELY(pool->secure && pool->client == NULL))
        return NULL;
    struct upstream *upstream = free_list_get(&worker->free_upstreams, sizeof *upstream);
    if (upstream == NULL)
        return NULL;
    memset(upstream, 0, sizeof *upstream);
    upstream->pool = pool;
    upstream->generation = pool->generation;
    upstream->connecting = true;
    list_init(&upstream->link);
    pool->open++;
    worker->upstreams_open++;
    worker_count(worker, PROXY_WORKER_UPSTREAM_OPENED);
    io_stream_connect(worker->loop, &upstream->stream, &endpoint->addr, &upstream_ops);
    if (UNLIKELY(pool->secure) && secure(upstream, endpoint) != STATUS_OK) {
        upstream_close(upstream);
        return NULL;
    }
    return upstream;
}

// An idle connection that may serve the exchange.
static struct upstream *idle_for(const struct exchange *exchange, struct pool *pool,
                                 const struct proxy_endpoint *endpoint)
{
    if (UNLIKELY(pool->header != endpoint->header)) {
        pool_close_idle(pool);
        pool->header = endpoint->header;
    }
    if (UNLIKELY(pool->header != 0))
        return upstream_header_idle(exchange, pool, endpoint);
    return list_empty(&pool->idle) ? NULL : CONTAINER_OF(pool->idle.next, struct upstream, link);
}

struct upstream *upstream_take(struct exchange *exchange, const struct proxy_endpoint *endpoint)
{
    struct worker *worker = exchange->worker;
    struct pool *pool = worker->pools[endpoint->slot];
    struct upstream *upstream = idle_for(exchange, pool, endpoint);
    pool->idle_max_us = (uint64_t)exchange->timeouts.pool_idle_ms * 1000;
    if (LIKELY(upstream != NULL)) {
        list_remove(&upstream->link);
        worker_count(worker, PROXY_WORKER_UPSTREAM_REUSED);
    } else if (goes_by_session(exchange, pool)) {
        return session_take(exchange, pool, endpoint);
    } else {
        upstream = upstream_connect(pool, endpoint);
        if (upstream == NULL)
            return NULL;
        upstream->header = pool->header;
        if (UNLIKELY(pool->header != 0) && !upstream_header_say(exchange, upstream)) {
            upstream_close(upstream);
            return NULL;
        }
    }
    upstream_use(upstream, exchange);
    return upstream;
}

static void upstream_release(struct upstream *upstream)
{
    if (upstream->exchange == NULL)
        return;
    upstream->exchange = NULL;
    upstream->pool->active--;
}

void upstream_close(struct upstream *upstream)
{
    if (upstream->closed)
        return;
    upstream_release(upstream);
    list_remove(&upstream->link);
    upstream->closed = true;
    io_held_put(upstream->held);
    upstream->held = NULL;
    if (UNLIKELY(upstream->session != NULL)) {
        session_leave(upstream);
        return;
    }
    if (UNLIKELY(upstream->client != NULL))
        tls_say_end(&upstream->stream);
    io_stream_close(&upstream->stream);
}

void upstream_give_back(struct upstream *upstream)
{
    struct pool *pool = upstream->pool;
    struct worker *worker = pool->worker;
    bool endpoint_gone = worker->table == NULL || pool->table != worker->table->version ||
                         upstream->generation != pool->generation || upstream->client != pool->client ||
                         upstream->header != pool->header;
    if (UNLIKELY(endpoint_gone || upstream->session != NULL || worker->phase != PHASE_SERVE ||
                 upstream->held != NULL)) {
        upstream_close(upstream);
        return;
    }
    upstream_release(upstream);
    upstream_resume(upstream);
    list_remove(&upstream->link);
    upstream->idle_since_us = worker_now_us(worker);
    list_push_front(&pool->idle, &upstream->link);
    if (UNLIKELY(list_empty(&pool->link)))
        list_push_back(&worker->pools_idle, &pool->link);
    if (UNLIKELY(!io_timer_is_set(&pool->timer)))
        io_timer_set(worker->loop, &pool->timer, upstream->idle_since_us + pool->idle_max_us);
}

void upstream_pause(struct upstream *upstream)
{
    if (upstream->paused)
        return;
    upstream->paused = true;
    if (LIKELY(upstream->session == NULL))
        io_stream_pause(&upstream->stream);
}

void upstream_resume(struct upstream *upstream)
{
    if (!upstream->paused)
        return;
    upstream->paused = false;
    if (LIKELY(upstream->session == NULL))
        io_stream_resume(&upstream->stream);
    else
        session_resume(upstream);
}

// ---- the stream ----

static void upstream_on_open(struct io_stream *stream, enum status status)
{
    struct upstream *upstream = upstream_of(stream);
    upstream->connecting = status != STATUS_OK;
    if (status != STATUS_OK)
        upstream_failed(upstream);
    else if (upstream->generation == upstream->pool->generation)
        upstream->pool->failures = 0;
    if (upstream->exchange != NULL)
        exchange_upstream_opened(upstream->exchange, status);
    else
        upstream_close(upstream);
}

static void upstream_on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct upstream *upstream = upstream_of(stream);
    buf->next = NULL;
    struct exchange *exchange = upstream->exchange;
    if (UNLIKELY(exchange == NULL)) {
        io_buf_put(buf);
        upstream_close(upstream); // nobody asked: it must not be taken for the answer to a later request
        return;
    }
    upstream->answered = true;
    if (UNLIKELY(exchange->tunnel))
        tunnel_upstream_data(exchange, buf);
    else
        response_data(exchange, buf);
}

static void upstream_on_end(struct io_stream *stream, enum status status)
{
    struct upstream *upstream = upstream_of(stream);
    if (upstream->exchange != NULL)
        exchange_upstream_ended(upstream->exchange, status);
    else
        upstream_close(upstream);
}

static void upstream_on_drain(struct io_stream *stream)
{
    struct upstream *upstream = upstream_of(stream);
    if (upstream->exchange != NULL)
        exchange_upstream_drained(upstream->exchange);
}

static void upstream_on_closed(struct io_stream *stream)
{
    struct upstream *upstream = upstream_of(stream);
    struct worker *worker = upstream->pool->worker;
    upstream->pool->open--;
    worker->upstreams_open--;
    worker_count(worker, PROXY_WORKER_UPSTREAM_CLOSED);
    free_list_put(&worker->free_upstreams, upstream);
}

const struct io_stream_ops upstream_ops = {.on_open = upstream_on_open,
                                           .on_data = upstream_on_data,
                                           .on_end = upstream_on_end,
                                           .on_drain = upstream_on_drain,
                                           .on_closed = upstream_on_closed};
