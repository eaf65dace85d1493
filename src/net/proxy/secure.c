// SPDX-License-Identifier: Apache-2.0
#include "net/proxy/secure.h"

#include "base/heap.h"
#include "net/proxy/proxy_private.h"

struct proxy_tls {
    atomic_uint holders;
    uint32_t listeners, workers;
    int64_t expires_ms;
    struct tls_server *servers[]; // of each worker, one for each listener; NULL: none
};

static enum status make_all(struct proxy_tls *tls, const struct tls_server_config *const *configs,
                            const struct proxy_tls *before, struct tls_tickets *tickets,
                            struct tls_counts *counts, struct fault *fault)
{
    for (uint32_t i = 0; i < tls->listeners * tls->workers; i++) {
        const struct tls_server_config *config = configs[i % tls->listeners];
        struct tls_server *had = proxy_tls_server(before, i / tls->listeners, i % tls->listeners);
        enum status status = STATUS_OK;
        if (config != NULL)
            status = tls_server_create(config, tickets, counts, &tls->servers[i], fault);
        else if (had != NULL)
            tls->servers[i] = tls_server_share(had);
        if (status != STATUS_OK)
            return status;
        if (tls->servers[i] == NULL)
            continue;
        int64_t end = tls_server_expires_ms(tls->servers[i]);
        tls->expires_ms = tls->expires_ms == 0 || end < tls->expires_ms ? end : tls->expires_ms;
    }
    return STATUS_OK;
}

enum status proxy_tls_create(const struct tls_server_config *const *configs, uint32_t listeners,
                             uint32_t workers, const struct proxy_tls *before, struct tls_tickets *tickets,
                             struct tls_counts *counts, struct proxy_tls **made, struct fault *fault)
{
    struct proxy_tls *tls = heap_alloc(1, sizeof *tls + listeners * workers * sizeof tls->servers[0]);
    if (tls == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    tls->holders = 1;
    tls->listeners = listeners;
    tls->workers = workers;
    enum status status = make_all(tls, configs, before, tickets, counts, fault);
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
