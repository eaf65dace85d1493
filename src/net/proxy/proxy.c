// SPDX-License-Identifier: Apache-2.0
// The engine thread's side: creating and ending workers, publishing tables and freeing old ones, gathering
// what was counted. Storage for a slot is made here, before the table that names it is published.
#include "net/proxy/proxy.h"

#include "base/heap.h"
#include "net/proxy/protect.h"

// ---- creating ----

static struct worker *worker_create(struct proxy *proxy, uint32_t index, uint64_t seed)
{
    struct worker *worker = heap_alloc_aligned((sizeof *worker + 63) & ~(size_t)63);
    if (worker == NULL)
        return NULL;
    worker->proxy = proxy;
    worker->index = index;
    const struct server_limits limits = {
        .connections = proxy->clients_max, .head_us = 10000000, .idle_us = 75000000};
    server_init(&worker->server, &CLIENT_HANDLER, &limits, &proxy->limits);
    list_init(&worker->upstreams);
    list_init(&worker->pools_idle);
    rng_init(&worker->rng, seed);
    worker->server.site_key = (struct siphash_key){seed, ~seed};
    return worker;
}

static void proxy_config_take(struct proxy *proxy, const struct proxy_config *config)
{
    proxy->io = config->io;
    proxy->clients_max = config->clients_max != 0 ? config->clients_max : PROXY_CLIENTS_DEFAULT;
    proxy->bufs_max = config->bufs_max != 0 ? config->bufs_max : IO_BUFS_MAX_DEFAULT;
    proxy->limits = config->limits != NULL ? *config->limits : http1_limits_default;
    proxy->listen_count = config->listen_count;
    for (uint32_t i = 0; i < config->listen_count; i++)
        proxy->listen[i] = config->listen[i];
    proxy->listen_secure = config->listen_secure;
    proxy->mirror = config->mirror;
}

static bool make_accesses(struct worker *worker)
{
    worker->access = heap_alloc_aligned(sizeof *worker->access);
    return worker->access != NULL;
}

enum status proxy_create(const struct proxy_config *config, struct proxy **proxy)
{
    if (config->workers == 0 || config->workers > PROXY_WORKERS_MAX ||
        config->listen_count > PROXY_LISTEN_MAX)
        return STATUS_INVALID;
    struct proxy *made = heap_alloc(1, sizeof *made);
    if (made == NULL)
        return STATUS_NO_MEMORY;
    proxy_config_take(made, config);
    made->endpoint_states = heap_alloc(PROXY_ENDPOINTS_MAX, sizeof *made->endpoint_states);
    made->version_states = heap_alloc(PROXY_VERSIONS_MAX, sizeof *made->version_states);
    uint64_t seed = config->seed;
    bool whole = made->endpoint_states != NULL && made->version_states != NULL;
    for (uint32_t i = 0; i < config->workers && whole; i++) {
        made->workers[i] = worker_create(made, i, rng_splitmix(&seed));
        whole = made->workers[i] != NULL && (!config->accesses || make_accesses(made->workers[i]));
        made->worker_count += made->workers[i] != NULL;
    }
    if (!whole) {
        proxy_destroy(made);
        return STATUS_NO_MEMORY;
    }
    *proxy = made;
    return STATUS_OK;
}

// ---- starting ----

static bool worker_is_empty(const struct worker *worker)
{
    return worker->phase == PHASE_STOP && server_closed(&worker->server) && worker->upstreams_open == 0;
}

static void *worker_main(void *context)
{
    struct worker *worker = context;
    // The first turn does not wait: it takes up the table that was published before the start.
    for (uint64_t wait_us = 0; !worker_is_empty(worker); wait_us = UINT64_MAX)
        if (io_loop_turn(worker->loop, wait_us) != STATUS_OK)
            break;
    return NULL;
}

static void loops_destroy(struct proxy *proxy)
{
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        struct worker *worker = proxy->workers[i];
        server_unlisten(&worker->server);
        io_loop_destroy(worker->loop);
        worker->loop = NULL;
    }
}

static enum status loops_create(struct proxy *proxy)
{
    const struct io_loop_config config = {.kind = proxy->io, .bufs_max = proxy->bufs_max};
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        struct worker *worker = proxy->workers[i];
        enum status status = io_loop_create(&config, &worker->loop);
        if (status == STATUS_OK)
            status = worker_listen(worker);
        if (status != STATUS_OK)
            return status;
        worker_begin(worker);
    }
    return STATUS_OK;
}

static void wake(struct worker *worker)
{
    if (worker->loop != NULL && !atomic_exchange_explicit(&worker->wake_pending, true, memory_order_acq_rel))
        io_loop_post(worker->loop, &worker->wake);
}

uint64_t proxy_stalled_ms(struct proxy *proxy, uint64_t now_ms)
{
    uint64_t longest = 0;
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        struct worker *worker = proxy->workers[i];
        if (!atomic_load_explicit(&worker->wake_pending, memory_order_acquire))
            worker->asked_ms = now_ms;
        else if (now_ms - worker->asked_ms > longest)
            longest = now_ms - worker->asked_ms;
        wake(worker);
    }
    return longest;
}

static void join(struct proxy *proxy, uint32_t count)
{
    atomic_store_explicit(&proxy->phase, PHASE_STOP, memory_order_release);
    for (uint32_t i = 0; i < count; i++)
        wake(proxy->workers[i]);
    for (uint32_t i = 0; i < count; i++)
        pthread_join(proxy->workers[i]->thread, NULL);
}

enum status proxy_start(struct proxy *proxy)
{
    CHECK(!proxy->running);
    enum status status = loops_create(proxy);
    if (status != STATUS_OK) {
        loops_destroy(proxy);
        return status;
    }
    proxy->epoch_us = io_loop_clock_us(proxy->workers[0]->loop);
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        struct worker *worker = proxy->workers[i];
        if (pthread_create(&worker->thread, NULL, worker_main, worker) == 0)
            continue;
        join(proxy, i);
        loops_destroy(proxy);
        atomic_store_explicit(&proxy->phase, PHASE_SERVE, memory_order_relaxed);
        for (uint32_t k = 0; k < i; k++)
            proxy->workers[k]->phase = PHASE_SERVE;
        return STATUS_NO_MEMORY;
    }
    proxy->running = true;
    proxy->threads = true;
    return STATUS_OK;
}

enum status proxy_attach(struct proxy *proxy, uint32_t index, struct io_loop *loop)
{
    CHECK(!proxy->threads && index < proxy->worker_count && proxy->workers[index]->loop == NULL);
    struct worker *worker = proxy->workers[index];
    worker->loop = loop;
    enum status status = worker_listen(worker);
    if (status != STATUS_OK) {
        worker->loop = NULL;
        return status;
    }
    if (!proxy->running)
        proxy->epoch_us = io_loop_clock_us(loop);
    proxy->running = true;
    worker_begin(worker);
    wake(worker);
    return STATUS_OK;
}

struct mirror *proxy_mirror(const struct proxy *proxy)
{
    return proxy->mirror;
}

void proxy_listen_addr(const struct proxy *proxy, uint32_t i, struct io_addr *addr)
{
    CHECK(i < proxy->listen_count);
    *addr = proxy->listen[i];
}

// ---- ending ----

static void proxy_phase(struct proxy *proxy, enum worker_phase phase)
{
    if (atomic_load_explicit(&proxy->phase, memory_order_relaxed) >= (int)phase)
        return;
    atomic_store_explicit(&proxy->phase, phase, memory_order_release);
    for (uint32_t i = 0; i < proxy->worker_count; i++)
        wake(proxy->workers[i]);
}

void proxy_drain(struct proxy *proxy)
{
    proxy_phase(proxy, PHASE_DRAIN);
}

void proxy_stop(struct proxy *proxy)
{
    if (proxy->threads) {
        join(proxy, proxy->worker_count);
        loops_destroy(proxy);
        proxy->threads = false;
        proxy->running = false;
        return;
    }
    proxy_phase(proxy, PHASE_STOP);
}

bool proxy_stopped(const struct proxy *proxy)
{
    if (proxy->threads)
        return false;
    for (uint32_t i = 0; i < proxy->worker_count; i++)
        if (proxy->workers[i]->loop != NULL && !worker_is_empty(proxy->workers[i]))
            return false;
    return true;
}

void proxy_destroy(struct proxy *proxy)
{
    if (proxy == NULL)
        return;
    CHECK(proxy_stopped(proxy));
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        struct worker *worker = proxy->workers[i];
        if (worker->loop != NULL) // an attached loop stays its owner's
            io_loop_set_turn_hook(worker->loop, NULL, NULL);
        worker_deinit(worker);
        heap_free(worker);
    }
    heap_free(proxy->endpoint_states);
    heap_free(proxy->version_states);
    for (size_t i = 0; i < ARRAY_LEN(proxy->units); i++)
        heap_free(proxy->units[i]);
    while (proxy->retired != NULL) {
        struct proxy_table *table = proxy->retired;
        proxy->retired = table->retired_next;
        proxy_table_destroy(table);
    }
    proxy_table_destroy(proxy->newest);
    heap_free(proxy);
}

// ---- tables ----

static bool make_room(void **place, size_t size)
{
    if (*place == NULL)
        *place = heap_alloc_aligned((size + 63) & ~(size_t)63);
    return *place != NULL;
}

static bool make_version(struct worker *worker, const struct proxy_version *version)
{
    if (!make_room((void **)&worker->versions[version->slot], sizeof(struct version_sheet)))
        return false;
    for (uint32_t i = 0; i < version->listed_count; i++) {
        uint16_t slot = version->endpoints[i].slot;
        bool fresh = worker->pools[slot] == NULL;
        if (!make_room((void **)&worker->pools[slot], sizeof(struct pool)))
            return false;
        if (fresh)
            pool_init(worker->pools[slot], worker, slot);
    }
    return true;
}

// Requests of other services stand for themselves.
static bool service_has_units(const struct proxy_service *service)
{
    return service->unit != PROXY_UNIT_REQUEST || service->flags != NULL;
}

static bool make_failing(struct failing **place)
{
    if (*place != NULL)
        return true;
    *place = heap_alloc(1, sizeof **place);
    if (*place == NULL)
        return false;
    pthread_mutex_init(&(*place)->lock, NULL);
    return true;
}

static bool make_service(struct proxy *proxy, const struct proxy_service *service)
{
    if (service_has_units(service) &&
        !make_room((void **)&proxy->units[service->slot], sizeof(struct sheet_units)))
        return false;
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        struct worker *worker = proxy->workers[i];
        if (!make_room((void **)&worker->sheets[service->slot], sizeof(struct sheet)) ||
            !make_failing(&worker->failing[service->slot]))
            return false;
        for (uint32_t j = 0; j < service->version_count; j++)
            if (!make_version(worker, &service->versions[j]))
                return false;
    }
    return true;
}

// A new epoch sees every unit anew. Workers may still mark a few units of the old one: they then go
// uncounted.
static void forget_units(struct proxy *proxy, const struct proxy_table *table)
{
    for (uint32_t i = 0; i < table->service_count; i++) {
        const struct proxy_service *now = &table->services[i];
        const struct proxy_service *before = proxy->newest == NULL ? NULL : proxy->newest->by_slot[now->slot];
        if (before == NULL || before->epoch == now->epoch)
            continue;
        failing_forget(proxy, now->slot);
        if (proxy->units[now->slot] != NULL)
            sheet_units_clear(proxy->units[now->slot]);
    }
}

enum status proxy_publish(struct proxy *proxy, struct proxy_table *table)
{
    CHECK(proxy->newest == NULL || table->version > proxy->newest->version);
    for (uint32_t i = 0; i < table->service_count; i++)
        if (!make_service(proxy, &table->services[i]))
            return STATUS_NO_MEMORY;
    forget_units(proxy, table);
    if (proxy->newest != NULL) {
        proxy->newest->retired_next = proxy->retired;
        proxy->retired = proxy->newest;
    }
    proxy->newest = table;
    atomic_store_explicit(&proxy->table, table, memory_order_release);
    for (uint32_t i = 0; i < proxy->worker_count; i++)
        wake(proxy->workers[i]);
    proxy_reclaim(proxy);
    return STATUS_OK;
}

struct slice proxy_endpoint_name(const struct proxy *proxy, uint16_t slot)
{
    return proxy_table_endpoint_name(proxy->newest, slot);
}

uint64_t proxy_acknowledged(const struct proxy *proxy)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        uint64_t version = atomic_load_explicit(&proxy->workers[i]->acknowledged, memory_order_acquire);
        if (version < least)
            least = version;
    }
    return least;
}

void proxy_reclaim(struct proxy *proxy)
{
    // A table is unseen once every worker has taken up a newer one. The list is newest first.
    uint64_t least = proxy_acknowledged(proxy);
    struct proxy_table **place = &proxy->retired;
    while (*place != NULL && (*place)->version >= least)
        place = &(*place)->retired_next;
    struct proxy_table *unseen = *place;
    *place = NULL;
    while (unseen != NULL) {
        struct proxy_table *next = unseen->retired_next;
        proxy_table_destroy(unseen);
        unseen = next;
    }
}

// ---- evidence ----

uint64_t proxy_tick(const struct proxy *proxy)
{
    const struct io_loop *loop = proxy->workers[0]->loop;
    if (loop == NULL)
        return proxy->workers[0]->tick;
    uint64_t now_us = io_loop_clock_us(loop);
    return now_us < proxy->epoch_us ? 0 : (now_us - proxy->epoch_us) / (ROLLOUT_TICK_MS * 1000);
}

// Ticks before this one are over for every worker.
static uint64_t watermark(const struct proxy *proxy)
{
    if (proxy_stopped(proxy))
        return UINT64_MAX;
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        uint64_t passed = atomic_load_explicit(&proxy->workers[i]->passed, memory_order_acquire);
        if (passed < least)
            least = passed;
    }
    return least;
}

static void wake_sleepers(struct proxy *proxy, uint64_t tick)
{
    for (uint32_t i = 0; i < proxy->worker_count; i++)
        if (atomic_load_explicit(&proxy->workers[i]->passed, memory_order_relaxed) < tick)
            wake(proxy->workers[i]);
}

uint32_t proxy_gather_spans(struct proxy *proxy, uint16_t service, struct rollout_span_delta *out,
                            uint32_t cap, bool *more)
{
    CHECK(service < PROXY_SERVICES_MAX);
    struct sheet *sheets[PROXY_WORKERS_MAX];
    for (uint32_t i = 0; i < proxy->worker_count; i++)
        sheets[i] = proxy->workers[i]->sheets[service];
    bool held;
    uint64_t tick = proxy_tick(proxy);
    uint32_t told = sheet_gather(sheets, proxy->worker_count, watermark(proxy), tick, out, cap, more, &held);
    if (held)
        wake_sleepers(proxy, tick);
    proxy_reclaim(proxy);
    return told;
}

void proxy_gather_losses(const struct proxy *proxy, uint16_t service, struct proxy_sheet_losses *losses)
{
    struct proxy_sheet_losses sum = {0};
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        const struct sheet *sheet = proxy->workers[i]->sheets[service];
        if (sheet == NULL)
            continue;
        sum.routed_unspanned += atomic_load_explicit(&sheet->unspanned, memory_order_relaxed);
        sum.completed_late += atomic_load_explicit(&sheet->late, memory_order_relaxed);
        sum.pending_dropped += atomic_load_explicit(&sheet->pending_dropped, memory_order_relaxed);
    }
    *losses = sum;
}

// ---- counters ----

void proxy_version_counts(const struct proxy *proxy, uint16_t version, uint64_t out[PROXY_VERSION_COUNTERS])
{
    CHECK(version < PROXY_VERSIONS_MAX);
    for (int k = 0; k < PROXY_VERSION_COUNTERS; k++)
        out[k] = 0;
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        const struct version_sheet *sheet = proxy->workers[i]->versions[version];
        for (int k = 0; sheet != NULL && k < PROXY_VERSION_COUNTERS; k++)
            out[k] += atomic_load_explicit(&sheet->counters[k], memory_order_relaxed);
    }
}

void proxy_version_latency(const struct proxy *proxy, uint16_t version, struct stats_histogram *out)
{
    CHECK(version < PROXY_VERSIONS_MAX);
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < proxy->worker_count; i++)
        if (proxy->workers[i]->versions[version] != NULL)
            version_latency_add_to(proxy->workers[i]->versions[version], out);
}

// ---- slots that are given again ----

bool proxy_version_over(const struct proxy *proxy, uint16_t version)
{
    CHECK(version < PROXY_VERSIONS_MAX);
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        const struct version_sheet *sheet = proxy->workers[i]->versions[version];
        if (sheet == NULL)
            continue;
        uint64_t left = atomic_load_explicit(&sheet->left, memory_order_acquire);
        if (left != atomic_load_explicit(&sheet->counters[PROXY_VERSION_REQUESTS], memory_order_relaxed))
            return false;
    }
    return true;
}

void proxy_version_forget(struct proxy *proxy, uint16_t version)
{
    CHECK(proxy_version_over(proxy, version));
    protect_forget(proxy, version);
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        heap_free(proxy->workers[i]->versions[version]);
        proxy->workers[i]->versions[version] = NULL;
    }
}

void proxy_service_forget(struct proxy *proxy, uint16_t service)
{
    CHECK(service < PROXY_SERVICES_MAX);
    heap_free(proxy->units[service]);
    proxy->units[service] = NULL;
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        struct worker *worker = proxy->workers[i];
        heap_free(worker->sheets[service]);
        heap_free(worker->failing[service]);
        worker->sheets[service] = NULL;
        worker->failing[service] = NULL;
    }
}

// ---- workers ----

uint32_t proxy_worker_count(const struct proxy *proxy)
{
    return proxy->worker_count;
}

void proxy_worker_counts(const struct proxy *proxy, uint32_t worker, uint64_t out[PROXY_WORKER_COUNTERS])
{
    CHECK(worker < proxy->worker_count);
    for (int k = 0; k < PROXY_WORKER_COUNTERS; k++)
        out[k] = atomic_load_explicit(&proxy->workers[worker]->counters[k], memory_order_relaxed);
}

uint64_t proxy_clients_open(const struct proxy *proxy)
{
    uint64_t open = 0;
    for (uint32_t i = 0; i < proxy->worker_count; i++) {
        uint64_t counts[PROXY_WORKER_COUNTERS];
        proxy_worker_counts(proxy, i, counts);
        // The counters go on while they are read: closed may already be ahead of accepted.
        uint64_t gone = counts[PROXY_WORKER_REFUSED] + counts[PROXY_WORKER_CLIENTS_CLOSED];
        open += counts[PROXY_WORKER_ACCEPTED] > gone ? counts[PROXY_WORKER_ACCEPTED] - gone : 0;
    }
    return open;
}

// ---- events ----

static uint32_t ring_take(struct event_ring *ring, struct proxy_event *out, uint32_t cap)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    uint32_t taken = 0;
    while (tail != head && taken < cap)
        out[taken++] = ring->events[tail++ % PROXY_EVENTS];
    atomic_store_explicit(&ring->tail, tail, memory_order_release);
    return taken;
}

uint32_t proxy_events_take(struct proxy *proxy, struct proxy_event *out, uint32_t cap)
{
    uint32_t taken = 0;
    for (uint32_t i = 0; i < proxy->worker_count; i++)
        taken += ring_take(&proxy->workers[i]->events, out + taken, cap - taken);
    return taken;
}
