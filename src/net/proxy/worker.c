// SPDX-License-Identifier: Apache-2.0
// A worker's own affairs: its quiet point, where it takes up a new table and a new phase, its listeners and
// its event ring.
#include <string.h>

#include "base/heap.h"
#include "net/proxy/proxy_private.h"

// ---- events ----

void worker_event(struct worker *worker, enum proxy_event_kind kind, unsigned status, const char *why,
                  struct slice client, struct event_where where, const struct asked *asked,
                  uint64_t elapsed_us)
{
    static const struct asked UNKNOWN = {.method = {"", 0}};
    struct event_ring *ring = &worker->events;
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head - atomic_load_explicit(&ring->tail, memory_order_acquire) >= PROXY_EVENTS) {
        worker_count(worker, PROXY_WORKER_EVENTS_DROPPED);
        return;
    }
    struct proxy_event *event = &ring->events[head % PROXY_EVENTS];
    event->wall_ms = io_loop_wall_ms(worker->loop);
    event->kind = kind;
    event->status = (uint16_t)status;
    event->service = where.service;
    event->version = where.version;
    event->endpoint = where.endpoint;
    event->reason = why;
    event->elapsed_us = elapsed_us;
    if (asked == NULL)
        asked = &UNKNOWN;
    asked_copy(client, event->client, sizeof event->client);
    asked_copy(asked->method, event->method, sizeof event->method);
    asked_copy(asked->host, event->host, sizeof event->host);
    asked_copy(asked->target, event->path, sizeof event->path);
    event->path[strcspn(event->path, "?")] = '\0';
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
}

// ---- the quiet point ----

static void mark_version(struct worker *worker, const struct proxy_table *table,
                         const struct proxy_version *version, uint64_t before)
{
    struct tls_client *client =
        version->secure ? proxy_tls_client(table->tls, worker->index, version->origin) : NULL;
    for (uint32_t k = 0; k < version->listed_count; k++) {
        struct pool *pool = worker->pools[version->endpoints[k].slot];
        if (pool->table != before)
            pool_renew(pool);
        pool->table = table->version;
        pool_speak(pool, version->secure, version->http2, client);
    }
}

// before: the table that was in force until now; 0: none.
static void mark_endpoints(struct worker *worker, const struct proxy_table *table, uint64_t before)
{
    for (uint32_t i = 0; i < table->service_count; i++) {
        const struct proxy_service *service = &table->services[i];
        for (uint32_t j = 0; j < service->version_count; j++)
            mark_version(worker, table, &service->versions[j], before);
    }
}

// Connections to endpoints that the table no longer has are not kept.
static void close_strangers(struct worker *worker, uint64_t table)
{
    struct list *next;
    for (struct list *link = worker->pools_idle.next; link != &worker->pools_idle; link = next) {
        next = link->next;
        struct pool *pool = CONTAINER_OF(link, struct pool, link);
        if (pool->table != table)
            pool_close_idle(pool);
        if (list_empty(&pool->idle) && list_empty(&pool->sessions))
            list_remove(&pool->link);
    }
}

// Long streams and tunnels do not keep a version that was taken back, or an endpoint that is gone, for ever.
static void see_off(struct worker *worker, const struct proxy_table *table)
{
    for (struct list *link = worker->upstreams.next; link != &worker->upstreams; link = link->next) {
        const struct upstream *upstream = CONTAINER_OF(link, struct upstream, link);
        struct exchange *exchange = upstream->exchange;
        if (exchange == NULL)
            continue;
        const struct proxy_service *service = table->by_slot[exchange->service];
        bool gone =
            upstream->pool->table != table->version || upstream->pool->generation != upstream->generation;
        bool back = !gone && service != NULL && service->canary_leaves &&
                    service->arms[ROLLOUT_ARM_CANARY]->slot == exchange->version;
        if (!gone && !back) {
            exchange->leave_us = 0;
        } else if (exchange->leave_us == 0) {
            exchange->leave_us = worker_now_us(worker) + (gone ? table->drain_us : service->canary_leave_us);
            server_due(exchange->stream, exchange_due(exchange));
        }
    }
}

static void worker_adopt(struct worker *worker, const struct proxy_table *table)
{
    uint64_t before = worker->table != NULL ? worker->table->version : 0;
    worker->table = table;
    worker->server.limits.head_us = table->client_head_us;
    worker->server.limits.connections_per_site = table->clients_per_site;
    worker->server.limits.idle_us = table->client_idle_us;
    worker->server.limits.idle_spread_us = table->client_idle_us / 8;
    mark_endpoints(worker, table, before);
    close_strangers(worker, table->version);
    see_off(worker, table);
    atomic_store_explicit(&worker->acknowledged, table->version, memory_order_release);
}

static void close_pools(struct worker *worker)
{
    for (struct list *link = worker->pools_idle.next; link != &worker->pools_idle; link = link->next)
        pool_close_idle(CONTAINER_OF(link, struct pool, link));
}

// Between callbacks: no pointer into the old table is held anywhere.
static void worker_quiet(void *context)
{
    struct worker *worker = context;
    struct proxy *proxy = worker->proxy;
    uint64_t now_us = worker_now_us(worker);
    uint64_t tick = now_us < proxy->epoch_us ? 0 : (now_us - proxy->epoch_us) / (ROLLOUT_TICK_MS * 1000);
    if (tick > worker->tick) {
        worker->tick = tick;
        atomic_store_explicit(&worker->passed, tick, memory_order_release);
    }
    const struct proxy_table *table = atomic_load_explicit(&proxy->table, memory_order_acquire);
    if (UNLIKELY(table != worker->table))
        worker_adopt(worker, table);
    enum worker_phase phase = (enum worker_phase)atomic_load_explicit(&proxy->phase, memory_order_acquire);
    if (LIKELY(phase == worker->phase))
        return;
    worker->phase = phase;
    if (phase == PHASE_DRAIN)
        server_drain(&worker->server, &worker->rng);
    else
        server_close(&worker->server);
    close_pools(worker);
}

static void worker_on_wake(struct io_task *task)
{
    struct worker *worker = CONTAINER_OF(task, struct worker, wake);
    atomic_store_explicit(&worker->wake_pending, false, memory_order_release);
    // The turn may have passed its quiet point before we were posted.
    worker_quiet(worker);
}

// ---- listeners ----

enum status worker_listen(struct worker *worker)
{
    struct proxy *proxy = worker->proxy;
    const struct server *first = &proxy->workers[0]->server;
    enum status status = STATUS_OK;
    if (first->listener_count > 0)
        status = server_join(&worker->server, worker->loop, first);
    for (uint32_t i = 0; i < proxy->listen_count && first == &worker->server && status == STATUS_OK; i++) {
        status = server_listen(&worker->server, worker->loop, &proxy->listen[i], true);
        if (status == STATUS_OK)
            server_addr(&worker->server, i, &proxy->listen[i]); // port 0 is chosen
    }
    if (status != STATUS_OK)
        server_unlisten(&worker->server);
    return status;
}

void worker_begin(struct worker *worker)
{
    worker->wake.run = worker_on_wake;
    compressed_init(&worker->compressing);
    io_loop_set_turn_hook(worker->loop, worker_quiet, worker);
}

void worker_deinit(struct worker *worker)
{
    server_deinit(&worker->server);
    heap_free(worker->access);
    free_list_clear(&worker->free_upstreams);
    free_list_clear(&worker->free_exchanges);
    free_list_clear(&worker->free_session_streams);
    free_list_clear(&worker->free_asked);
    free_list_clear(&worker->compressing.free);
    for (size_t i = 0; i < ARRAY_LEN(worker->versions); i++)
        heap_free(worker->versions[i]);
    for (size_t i = 0; i < ARRAY_LEN(worker->sheets); i++)
        heap_free(worker->sheets[i]);
    for (size_t i = 0; i < ARRAY_LEN(worker->failing); i++)
        heap_free(worker->failing[i]);
    for (size_t i = 0; i < ARRAY_LEN(worker->pools); i++)
        pool_destroy(worker->pools[i]);
}
