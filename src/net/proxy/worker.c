// SPDX-License-Identifier: Apache-2.0
// A worker's own affairs: its quiet point, where it takes up a new table and a new phase, its listeners, its
// event ring and the objects it keeps for reuse.
#include "base/heap.h"
#include "net/proxy/proxy_private.h"

// ---- objects for reuse ----

struct free_object {
    struct free_object *next;
};

void *free_list_get(struct free_list *list, size_t size)
{
    struct free_object *object = list->first;
    if (object == NULL)
        return heap_alloc(1, size);
    list->first = object->next;
    list->count--;
    return object;
}

void free_list_put(struct free_list *list, void *object)
{
    if (list->count >= FREE_OBJECTS_MAX) {
        heap_free(object);
        return;
    }
    struct free_object *freed = object;
    freed->next = list->first;
    list->first = freed;
    list->count++;
}

void free_list_clear(struct free_list *list)
{
    while (list->first != NULL) {
        struct free_object *object = list->first;
        list->first = object->next;
        heap_free(object);
    }
    list->count = 0;
}

// ---- events ----

void worker_event(struct worker *worker, enum proxy_event_kind kind, unsigned status, const char *why,
                  struct slice client, struct event_where where)
{
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
    struct text text = text_over(event->client, sizeof event->client);
    text_add(&text, client);
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
}

// ---- the quiet point ----

static void mark_endpoints(struct worker *worker, const struct proxy_table *table)
{
    for (uint32_t i = 0; i < table->service_count; i++) {
        const struct proxy_service *service = &table->services[i];
        for (uint32_t j = 0; j < service->version_count; j++)
            for (uint32_t k = 0; k < service->versions[j].endpoint_count; k++)
                worker->pools[service->versions[j].endpoints[k].slot]->table = table->version;
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
        if (list_empty(&pool->idle))
            list_remove(&pool->link);
    }
}

static void worker_adopt(struct worker *worker, const struct proxy_table *table)
{
    worker->table = table;
    mark_endpoints(worker, table);
    close_strangers(worker, table->version);
    atomic_store_explicit(&worker->acknowledged, table->version, memory_order_release);
}

static void close_listeners(struct worker *worker)
{
    for (uint32_t i = 0; i < worker->listener_count; i++)
        io_listener_close(&worker->listeners[i].io);
    worker->listener_count = 0;
}

static void close_pools(struct worker *worker)
{
    for (struct list *link = worker->pools_idle.next; link != &worker->pools_idle; link = link->next)
        pool_close_idle(CONTAINER_OF(link, struct pool, link));
}

// Idle connections are closed over a second, so that their clients do not all come back at once elsewhere.
static void worker_drain(struct worker *worker)
{
    close_listeners(worker);
    close_pools(worker);
    uint64_t now_us = worker_now_us(worker);
    for (struct list *link = worker->clients.next; link != &worker->clients; link = link->next) {
        struct client *client = CONTAINER_OF(link, struct client, link);
        if (client->state == CLIENT_OPEN && client->exchange == NULL && client->held == NULL)
            client_due(client, now_us + rng_below(&worker->rng, DRAIN_SPREAD_US));
    }
}

static void worker_end(struct worker *worker)
{
    close_listeners(worker);
    for (struct list *link = worker->clients.next; link != &worker->clients; link = link->next) {
        struct client *client = CONTAINER_OF(link, struct client, link);
        if (client->exchange != NULL)
            exchange_client_failed(client->exchange);
        client_close(client, false);
    }
    close_pools(worker);
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
        worker_drain(worker);
    else
        worker_end(worker);
}

static void worker_on_wake(struct io_task *task)
{
    struct worker *worker = CONTAINER_OF(task, struct worker, wake);
    atomic_store_explicit(&worker->wake_pending, false, memory_order_release);
    // The turn may have passed its quiet point before we were posted.
    worker_quiet(worker);
}

// ---- listeners ----

static void on_accept(struct io_listener *listener, int handle, const struct io_addr *peer)
{
    client_accept(CONTAINER_OF(listener, struct listener, io)->worker, handle, peer);
}

static void on_accept_failure(struct io_listener *listener, enum status status)
{
    (void)status;
    worker_count(CONTAINER_OF(listener, struct listener, io)->worker, PROXY_WORKER_ACCEPT_FAILURES);
}

enum status worker_listen(struct worker *worker)
{
    struct proxy *proxy = worker->proxy;
    for (uint32_t i = 0; i < proxy->listen_count; i++) {
        struct io_listener *listener = &worker->listeners[i].io;
        worker->listeners[i].worker = worker;
        listener->on_accept = on_accept;
        listener->on_failure = on_accept_failure;
        enum status status = io_listener_open(worker->loop, listener, &proxy->listen[i], true);
        if (status != STATUS_OK) {
            close_listeners(worker);
            return status;
        }
        worker->listener_count++;
        // Port 0 is chosen once; the other workers join it.
        io_listener_addr(listener, &proxy->listen[i]);
    }
    return STATUS_OK;
}

void worker_begin(struct worker *worker)
{
    worker->wake.run = worker_on_wake;
    io_loop_set_turn_hook(worker->loop, worker_quiet, worker);
}

void worker_deinit(struct worker *worker)
{
    free_list_clear(&worker->free_clients);
    free_list_clear(&worker->free_upstreams);
    free_list_clear(&worker->free_exchanges);
    for (size_t i = 0; i < ARRAY_LEN(worker->versions); i++)
        heap_free(worker->versions[i]);
    for (size_t i = 0; i < ARRAY_LEN(worker->sheets); i++)
        heap_free(worker->sheets[i]);
    for (size_t i = 0; i < ARRAY_LEN(worker->pools); i++)
        heap_free(worker->pools[i]);
}
