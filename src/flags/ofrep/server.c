// SPDX-License-Identifier: Apache-2.0
// The threads: each has a loop, a listener on the shared address and a core. What is in force (snapshot,
// tokens) lies in one place under a lock; a change posts a task to every thread, which takes it up. When the
// last one has, a second task lets the streams know.
#include <pthread.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/ofrep/ofrep_private.h"

enum { REQUEST_MS = 10000, IDLE_MS = 120000, LOOK_US = 500000 };

// Tokens as the threads share them.
struct token_set {
    _Atomic uint32_t references;
    struct tokens *tokens;
};

struct ofrep_thread {
    struct ofrep *ofrep;
    uint32_t reader; // in the snapshots' tallies
    pthread_t thread;
    struct io_loop *loop;
    struct web *web;
    struct ofrep_core core;
    struct token_set *tokens;
    struct io_task take;
    struct io_task tell;
    struct io_task stop;
    _Atomic bool take_posted;
    _Atomic bool tell_posted;
    _Atomic uint64_t generation; // taken up
    bool stopping;               // of the thread itself
    bool closing;                // everything is
    struct io_timer look;
    uint64_t beat_us; // when streams next hear a heartbeat
    _Atomic uint64_t refused;
    _Atomic uint32_t connections;
    _Atomic uint32_t streams;
};

struct ofrep {
    pthread_mutex_t lock; // of the three below
    const struct flagset_snapshot *snapshot;
    struct token_set *tokens; // NULL: none asked for
    uint64_t generation;
    _Atomic uint64_t told; // generation that streams may know of
    struct ofrep_limit *limit;
    struct io_addr addr;
    uint32_t thread_count;
    uint32_t started;
    struct ofrep_thread threads[];
};

// ---- tokens ----

static struct token_set *token_set_create(struct tokens *tokens)
{
    struct token_set *set = heap_alloc(1, sizeof *set);
    if (set == NULL)
        return NULL;
    set->tokens = tokens;
    atomic_store(&set->references, 1);
    return set;
}

static struct token_set *token_set_ref(struct token_set *set)
{
    if (set != NULL)
        atomic_fetch_add(&set->references, 1);
    return set;
}

static void token_set_unref(struct token_set *set)
{
    if (set == NULL || atomic_fetch_sub(&set->references, 1) != 1)
        return;
    tokens_destroy(set->tokens);
    heap_free(set);
}

// ---- taking up what is in force ----

static void post_once(struct ofrep_thread *thread, struct io_task *task, _Atomic bool *posted)
{
    if (!atomic_exchange(posted, true))
        io_loop_post(thread->loop, task);
}

// The generation that every thread has.
static uint64_t common_generation(struct ofrep *ofrep)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < ofrep->thread_count; i++) {
        uint64_t generation = atomic_load(&ofrep->threads[i].generation);
        least = generation < least ? generation : least;
    }
    return least;
}

static void announce(struct ofrep *ofrep)
{
    uint64_t common = common_generation(ofrep);
    uint64_t told = atomic_load(&ofrep->told);
    while (told < common && !atomic_compare_exchange_weak(&ofrep->told, &told, common))
        ;
    if (told >= common)
        return;
    for (uint32_t i = 0; i < ofrep->thread_count; i++)
        post_once(&ofrep->threads[i], &ofrep->threads[i].tell, &ofrep->threads[i].tell_posted);
}

static void set_snapshot(struct ofrep_thread *thread, const struct flagset_snapshot *snapshot)
{
    struct ofrep_core *core = &thread->core;
    flagset_snapshot_unref(core->snapshot);
    core->snapshot = snapshot;
    core->tally = NULL;
    if (snapshot != NULL && thread->reader < snapshot->reader_count)
        core->tally = &snapshot->tallies[thread->reader];
}

static void on_take(struct io_task *task)
{
    struct ofrep_thread *thread = CONTAINER_OF(task, struct ofrep_thread, take);
    struct ofrep *ofrep = thread->ofrep;
    atomic_store(&thread->take_posted, false);
    if (thread->stopping)
        return;
    pthread_mutex_lock(&ofrep->lock);
    const struct flagset_snapshot *snapshot =
        ofrep->snapshot != NULL ? flagset_snapshot_ref(ofrep->snapshot) : NULL;
    struct token_set *tokens = token_set_ref(ofrep->tokens);
    uint64_t generation = ofrep->generation;
    pthread_mutex_unlock(&ofrep->lock);
    set_snapshot(thread, snapshot);
    bool others = tokens != thread->tokens;
    token_set_unref(thread->tokens);
    thread->tokens = tokens;
    thread->core.tokens = tokens != NULL ? tokens->tokens : NULL;
    if (others)
        ofrep_streams_end(&thread->core);
    atomic_store(&thread->generation, generation);
    announce(ofrep);
}

static void on_tell(struct io_task *task)
{
    struct ofrep_thread *thread = CONTAINER_OF(task, struct ofrep_thread, tell);
    atomic_store(&thread->tell_posted, false);
    if (!thread->stopping)
        ofrep_streams_tell(&thread->core, io_loop_wall_ms(thread->loop));
}

// ---- a thread's life ----

static void on_look(struct io_timer *timer)
{
    struct ofrep_thread *thread = CONTAINER_OF(timer, struct ofrep_thread, look);
    uint64_t now_us = io_loop_now_us(thread->loop);
    struct web_stats stats;
    web_stats_get(thread->web, &stats);
    atomic_store_explicit(&thread->refused, stats.refused, memory_order_relaxed);
    atomic_store_explicit(&thread->connections, stats.connections, memory_order_relaxed);
    atomic_store_explicit(&thread->streams, stats.streams, memory_order_relaxed);
    ofrep_streams_tell_time(&thread->core, io_loop_wall_ms(thread->loop));
    ofrep_streams_due(&thread->core, now_us);
    if (now_us >= thread->beat_us) {
        thread->beat_us = now_us + (uint64_t)OFREP_HEARTBEAT_MS * 1000;
        ofrep_streams_beat(&thread->core);
    }
    io_timer_set(thread->loop, timer, now_us + LOOK_US);
}

static void on_stop(struct io_task *task)
{
    struct ofrep_thread *thread = CONTAINER_OF(task, struct ofrep_thread, stop);
    if (!thread->stopping) {
        // What ends the streams leaves with this turn.
        thread->stopping = true;
        io_timer_clear(thread->loop, &thread->look);
        ofrep_streams_end(&thread->core);
        io_loop_post(thread->loop, task);
        return;
    }
    web_close(thread->web);
    thread->closing = true;
}

static void *thread_main(void *argument)
{
    struct ofrep_thread *thread = argument;
    thread->beat_us = io_loop_now_us(thread->loop) + (uint64_t)OFREP_HEARTBEAT_MS * 1000;
    io_timer_set(thread->loop, &thread->look, io_loop_now_us(thread->loop));
    while (!thread->closing || !web_closed(thread->web))
        if (io_loop_turn(thread->loop, UINT64_MAX) != STATUS_OK)
            continue; // cut short by a signal
    return NULL;
}

// ---- the handler ----

static void on_request(void *context, const struct web_request *request, struct web_answer *answer)
{
    struct ofrep_thread *thread = context;
    ofrep_core_answer(&thread->core, request, answer);
}

static bool on_refused(void *context, const struct web_request *request, unsigned status,
                       const char *sentence, struct web_answer *answer)
{
    struct ofrep_thread *thread = context;
    return ofrep_core_refuse(&thread->core, request, status, sentence, answer);
}

static void on_opened(void *context, struct web_connection *connection, void *subject)
{
    struct ofrep_thread *thread = context;
    ofrep_stream_opened(&thread->core, connection, subject);
}

static void on_closed(void *context, struct web_connection *connection, void *subject)
{
    struct ofrep_thread *thread = context;
    (void)connection;
    ofrep_stream_closed(&thread->core, subject);
}

// ---- start and stop ----

static enum status thread_init(struct ofrep *ofrep, struct ofrep_thread *thread,
                               const struct ofrep_config *config, uint32_t index)
{
    struct io_loop_config loop = {.kind = config->io};
    struct web_handler handler = {.context = thread,
                                  .handle = on_request,
                                  .refuse = on_refused,
                                  .opened = on_opened,
                                  .closed = on_closed};
    struct web_limits limits = {
        .connections = config->connections > 0 ? config->connections : OFREP_CONNECTIONS_MAX,
        .streams = OFREP_STREAMS_MAX,
        .body_bytes = OFREP_CONTEXT_BYTES_MAX,
        .pending_bytes = OFREP_ANSWER_BYTES_MAX,
        .request_ms = REQUEST_MS,
        .idle_ms = IDLE_MS,
    };
    const struct web_place place = {.addr = &config->addr,
                                    .reuse_port = config->threads > 1,
                                    .beside = index > 0 ? ofrep->threads[0].web : NULL};
    thread->ofrep = ofrep;
    thread->reader = config->first_reader + index;
    thread->take.run = on_take;
    thread->tell.run = on_tell;
    thread->stop.run = on_stop;
    io_timer_init(&thread->look, on_look);
    thread->tokens = token_set_ref(ofrep->tokens);
    enum status status = ofrep_core_init(&thread->core, config);
    if (status != STATUS_OK)
        return status;
    thread->core.limit = ofrep->limit;
    thread->core.tokens = thread->tokens != NULL ? thread->tokens->tokens : NULL;
    status = io_loop_create(&loop, &thread->loop);
    if (status == STATUS_OK)
        status = web_create(thread->loop, &place, &handler, &limits, &thread->web);
    if (status == STATUS_OK && index == 0)
        web_addr(thread->web, &ofrep->addr);
    return status;
}

// After its thread ended, or when none was started.
static void thread_deinit(struct ofrep_thread *thread, bool ran)
{
    if (thread->web != NULL && !ran) {
        web_close(thread->web);
        while (!web_closed(thread->web))
            (void)!io_loop_turn(thread->loop, 10000);
    }
    if (thread->web != NULL)
        web_destroy(thread->web);
    if (thread->loop != NULL)
        io_loop_destroy(thread->loop);
    flagset_snapshot_unref(thread->core.snapshot);
    flagset_snapshot_unref(thread->core.told);
    token_set_unref(thread->tokens);
    if (thread->core.body.data != NULL)
        ofrep_core_deinit(&thread->core);
}

static void destroy(struct ofrep *ofrep)
{
    for (uint32_t i = 0; i < ofrep->started; i++)
        io_loop_post(ofrep->threads[i].loop, &ofrep->threads[i].stop);
    for (uint32_t i = 0; i < ofrep->started; i++)
        CHECK(pthread_join(ofrep->threads[i].thread, NULL) == 0);
    for (uint32_t i = 0; i < ofrep->thread_count; i++)
        thread_deinit(&ofrep->threads[i], i < ofrep->started);
    flagset_snapshot_unref(ofrep->snapshot);
    token_set_unref(ofrep->tokens);
    ofrep_limit_destroy(ofrep->limit);
    pthread_mutex_destroy(&ofrep->lock);
    heap_free(ofrep);
}

static enum status load_tokens(const char *path, struct token_set **set, struct fault *fault)
{
    struct tokens *tokens;
    enum status status = tokens_load(path, &tokens, fault);
    if (status != STATUS_OK)
        return status;
    *set = token_set_create(tokens);
    if (*set != NULL)
        return STATUS_OK;
    tokens_destroy(tokens);
    return STATUS_NO_MEMORY;
}

static enum status prepare(struct ofrep *ofrep, const struct ofrep_config *config, struct fault *fault)
{
    if (config->rate > 0) {
        ofrep->limit = ofrep_limit_create(config->rate, config->burst);
        if (ofrep->limit == NULL)
            return STATUS_NO_MEMORY;
    }
    enum status status =
        config->tokens != NULL ? load_tokens(config->tokens, &ofrep->tokens, fault) : STATUS_OK;
    for (uint32_t i = 0; i < config->threads && status == STATUS_OK; i++) {
        ofrep->thread_count = i + 1;
        status = thread_init(ofrep, &ofrep->threads[i], config, i);
    }
    if (config->snapshot != NULL)
        ofrep->snapshot = flagset_snapshot_ref(config->snapshot);
    for (uint32_t i = 0; i < config->threads && status == STATUS_OK; i++) {
        if (ofrep->snapshot != NULL) {
            set_snapshot(&ofrep->threads[i], flagset_snapshot_ref(ofrep->snapshot));
            ofrep->threads[i].core.told = flagset_snapshot_ref(ofrep->snapshot); // nobody was told of another
        }
        if (pthread_create(&ofrep->threads[i].thread, NULL, thread_main, &ofrep->threads[i]) != 0)
            status = STATUS_NO_MEMORY;
        else
            ofrep->started = i + 1;
    }
    return status;
}

enum status ofrep_start(const struct ofrep_config *config, struct ofrep **ofrep, struct fault *fault)
{
    fault->text[0] = '\0';
    if (config->threads < 1 || config->threads > OFREP_THREADS_MAX)
        return STATUS_RANGE;
    struct ofrep *made =
        heap_alloc_aligned(sizeof *made + (size_t)config->threads * sizeof(struct ofrep_thread));
    if (made == NULL)
        return STATUS_NO_MEMORY;
    CHECK(pthread_mutex_init(&made->lock, NULL) == 0);
    enum status status = prepare(made, config, fault);
    if (status != STATUS_OK) {
        destroy(made);
        return status;
    }
    *ofrep = made;
    return STATUS_OK;
}

void ofrep_stop(struct ofrep *ofrep)
{
    if (ofrep != NULL)
        destroy(ofrep);
}

void ofrep_addr(const struct ofrep *ofrep, struct io_addr *addr)
{
    *addr = ofrep->addr;
}

static void post_take(struct ofrep *ofrep)
{
    for (uint32_t i = 0; i < ofrep->thread_count; i++)
        post_once(&ofrep->threads[i], &ofrep->threads[i].take, &ofrep->threads[i].take_posted);
}

void ofrep_publish(struct ofrep *ofrep, const struct flagset_snapshot *snapshot)
{
    pthread_mutex_lock(&ofrep->lock);
    const struct flagset_snapshot *before = ofrep->snapshot;
    ofrep->snapshot = flagset_snapshot_ref(snapshot);
    ofrep->generation++;
    pthread_mutex_unlock(&ofrep->lock);
    flagset_snapshot_unref(before);
    post_take(ofrep);
}

enum status ofrep_reload_tokens(struct ofrep *ofrep, const char *path, struct fault *fault)
{
    struct token_set *set = NULL;
    enum status status = path != NULL ? load_tokens(path, &set, fault) : STATUS_OK;
    if (status != STATUS_OK)
        return status;
    pthread_mutex_lock(&ofrep->lock);
    struct token_set *before = ofrep->tokens;
    ofrep->tokens = set;
    ofrep->generation++;
    pthread_mutex_unlock(&ofrep->lock);
    token_set_unref(before);
    post_take(ofrep);
    return STATUS_OK;
}

// ---- reading ----

void ofrep_stats_get(const struct ofrep *ofrep, struct ofrep_stats *stats)
{
    *stats = (struct ofrep_stats){0};
    for (uint32_t i = 0; i < ofrep->thread_count; i++) {
        const struct ofrep_thread *thread = &ofrep->threads[i];
        const struct ofrep_counts *counts = &thread->core.counts;
        stats->requests += atomic_load_explicit(&counts->requests, memory_order_relaxed);
        stats->unauthorized += atomic_load_explicit(&counts->unauthorized, memory_order_relaxed);
        stats->limited += atomic_load_explicit(&counts->limited, memory_order_relaxed);
        stats->evaluations += atomic_load_explicit(&counts->evaluations, memory_order_relaxed);
        stats->errors += atomic_load_explicit(&counts->errors, memory_order_relaxed);
        stats->refused += atomic_load_explicit(&thread->refused, memory_order_relaxed);
        stats->connections += atomic_load_explicit(&thread->connections, memory_order_relaxed);
        stats->streams += atomic_load_explicit(&thread->streams, memory_order_relaxed);
        if (thread->core.exposures != NULL)
            stats->exposures_lost += ofrep_exposures_lost(thread->core.exposures);
    }
}

uint32_t ofrep_exposures_take(struct ofrep *ofrep, struct ofrep_exposure *out, uint32_t cap)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < ofrep->thread_count && n < cap; i++)
        if (ofrep->threads[i].core.exposures != NULL)
            n += ofrep_exposures_drain(ofrep->threads[i].core.exposures, out + n, cap - n);
    return n;
}
