// SPDX-License-Identifier: Apache-2.0
#include "net/proxy/secure.h"

#include "base/check.h"
#include "base/heap.h"
#include "net/proxy/proxy_private.h"

struct origin {
    uint64_t key, files;
    struct tls_client *clients[PROXY_WORKERS_MAX + 1]; // NULL: cannot be used. The last is the mirror's
};

struct proxy_tls {
    atomic_uint holders;
    uint32_t listeners, workers, origin_count;
    int64_t expires_ms;
    struct origin *origins;
    struct tls_server *servers[]; // of each worker, one for each listener; NULL: none
};

static void note_end(struct proxy_tls *tls, int64_t end_ms)
{
    if (end_ms != 0 && (tls->expires_ms == 0 || end_ms < tls->expires_ms))
        tls->expires_ms = end_ms;
}

// ---- listeners ----

static enum status make_servers(struct proxy_tls *tls, const struct proxy_tls_plan *plan, struct fault *fault)
{
    for (uint32_t i = 0; i < tls->listeners * tls->workers; i++) {
        const struct tls_server_config *config = plan->listeners[i % tls->listeners];
        struct tls_server *had = proxy_tls_server(plan->before, i / tls->listeners, i % tls->listeners);
        enum status status = STATUS_OK;
        if (config != NULL)
            status = tls_server_create(config, plan->tickets, plan->client_counts, &tls->servers[i], fault);
        else if (had != NULL)
            tls->servers[i] = tls_server_share(had);
        if (status != STATUS_OK)
            return status;
        if (tls->servers[i] != NULL)
            note_end(tls, tls_server_expires_ms(tls->servers[i]));
    }
    return STATUS_OK;
}

// ---- origins ----

static const struct origin *origin_find(const struct proxy_tls *tls, uint64_t key)
{
    for (uint32_t i = 0; tls != NULL && i < tls->origin_count; i++)
        if (tls->origins[i].key == key)
            return &tls->origins[i];
    return NULL;
}

static enum status make_client(const struct proxy_tls_plan *plan, const struct proxy_origin_plan *origin,
                               uint32_t worker, struct tls_client **made, struct fault *fault)
{
    const struct origin *had = origin_find(plan->before, origin->key);
    bool same = had != NULL && had->files == origin->files && had->clients[worker] != NULL;
    if (!same)
        return tls_client_create(origin->config, plan->origin_counts, made, fault);
    *made = tls_client_share(had->clients[worker]);
    return STATUS_OK;
}

static enum status make_clients(struct proxy_tls *tls, const struct proxy_tls_plan *plan, struct fault *fault)
{
    CHECK(plan->origin_count < PROXY_ORIGIN_NONE);
    tls->origins = plan->origin_count > 0 ? heap_alloc(plan->origin_count, sizeof *tls->origins) : NULL;
    if (tls->origins == NULL && plan->origin_count > 0)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    tls->origin_count = plan->origin_count;
    for (uint32_t i = 0; i < plan->origin_count; i++) {
        const struct proxy_origin_plan *from = &plan->origins[i];
        struct origin *origin = &tls->origins[i];
        origin->key = from->key;
        origin->files = from->files;
        for (uint32_t worker = 0; worker <= plan->workers && from->config != NULL; worker++) {
            enum status status = make_client(plan, from, worker, &origin->clients[worker], fault);
            if (status != STATUS_OK)
                return status;
            note_end(tls, tls_client_expires_ms(origin->clients[worker]));
        }
    }
    return STATUS_OK;
}

// ---- all of it ----

enum status proxy_tls_create(const struct proxy_tls_plan *plan, struct proxy_tls **made, struct fault *fault)
{
    CHECK(plan->workers <= PROXY_WORKERS_MAX);
    size_t servers = (size_t)plan->listener_count * plan->workers;
    struct proxy_tls *tls = heap_alloc(1, sizeof *tls + servers * sizeof tls->servers[0]);
    if (tls == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    tls->holders = 1;
    tls->listeners = plan->listener_count;
    tls->workers = plan->workers;
    enum status status = make_servers(tls, plan, fault);
    if (status == STATUS_OK)
        status = make_clients(tls, plan, fault);
    if (status == STATUS_OK)
        *made = tls;
    else
        proxy_tls_release(tls);
    return status;
}

void proxy_tls_hold(struct proxy_tls *tls)
{
    if (tls != NULL)
        atomic_fetch_add_explicit(&tls->holders, 1, memory_order_relaxed);
}

void proxy_tls_release(struct proxy_tls *tls)
{
    if (tls == NULL || atomic_fetch_sub_explicit(&tls->holders, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < tls->listeners * tls->workers; i++)
        tls_server_destroy(tls->servers[i]);
    for (uint32_t i = 0; i < tls->origin_count; i++)
        for (uint32_t worker = 0; worker <= tls->workers; worker++)
            tls_client_destroy(tls->origins[i].clients[worker]);
    heap_free(tls->origins);
    heap_free(tls);
}

int64_t proxy_tls_expires_ms(const struct proxy_tls *tls)
{
    return tls->expires_ms;
}

struct tls_server *proxy_tls_server(const struct proxy_tls *tls, uint32_t worker, uint32_t listener)
{
    bool known = tls != NULL && worker < tls->workers && listener < tls->listeners;
    return known ? tls->servers[worker * tls->listeners + listener] : NULL;
}

uint16_t proxy_tls_origin(const struct proxy_tls *tls, uint64_t key)
{
    const struct origin *origin = origin_find(tls, key);
    return origin != NULL ? (uint16_t)(origin - tls->origins) : PROXY_ORIGIN_NONE;
}

struct tls_client *proxy_tls_client(const struct proxy_tls *tls, uint32_t worker, uint16_t origin)
{
    bool known = tls != NULL && worker <= tls->workers && origin < tls->origin_count;
    return known ? tls->origins[origin].clients[worker] : NULL;
}
