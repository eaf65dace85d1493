// SPDX-License-Identifier: Apache-2.0
// The life of a provider: opening, looking for a new set, reporting it, closing. One thread at a time looks
// (`turn`). What evaluations read is changed by single atomic stores.
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/library/library_private.h"

static int64_t mono_ns(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void lock(pthread_mutex_t *mutex)
{
    CHECK(pthread_mutex_lock(mutex) == 0);
}

static void unlock(pthread_mutex_t *mutex)
{
    CHECK(pthread_mutex_unlock(mutex) == 0);
}

// ---- events ----

static void tell(struct sluice_flags_provider *provider, enum sluice_flags_event event)
{
    for (uint32_t i = 0; i < provider->handler_count; i++)
        provider->handlers[i].call(provider->handlers[i].data, provider, event, provider->problem);
}

static void tell_state(struct sluice_flags_provider *provider, enum sluice_flags_state state)
{
    if (state == SLUICE_FLAGS_READY)
        tell(provider, SLUICE_FLAGS_EVENT_READY);
    else if (state == SLUICE_FLAGS_STALE)
        tell(provider, SLUICE_FLAGS_EVENT_STALE);
    else if (state == SLUICE_FLAGS_FAILED)
        tell(provider, SLUICE_FLAGS_EVENT_ERROR);
}

bool sluice_flags_add_handler(struct sluice_flags_provider *provider, sluice_flags_handler *handler,
                              void *data)
{
    lock(&provider->turn);
    bool room = provider->handler_count < SLUICE_FLAGS_HANDLERS_MAX;
    if (room) {
        provider->handlers[provider->handler_count++] = (struct library_handler){handler, data};
        enum sluice_flags_state state = sluice_flags_state(provider);
        if (state == SLUICE_FLAGS_READY)
            handler(data, provider, SLUICE_FLAGS_EVENT_READY, "");
        else if (state == SLUICE_FLAGS_STALE)
            handler(data, provider, SLUICE_FLAGS_EVENT_STALE, provider->problem);
        else if (state == SLUICE_FLAGS_FAILED)
            handler(data, provider, SLUICE_FLAGS_EVENT_ERROR, provider->problem);
    }
    unlock(&provider->turn);
    return room;
}

bool sluice_flags_add_hook(struct sluice_flags_provider *provider, const struct sluice_flags_hook *hook)
{
    lock(&provider->turn);
    uint32_t count = atomic_load_explicit(&provider->hook_count, memory_order_relaxed);
    bool room = count < SLUICE_FLAGS_HOOKS_MAX;
    if (room) {
        provider->hooks[count] = *hook;
        // Evaluations that see the new count also see the hook.
        atomic_store_explicit(&provider->hook_count, count + 1, memory_order_release);
    }
    unlock(&provider->turn);
    return room;
}

// ---- looking for news ----

static void set_problem(struct sluice_flags_provider *provider, const char *problem)
{
    lock(&provider->telling);
    (void)snprintf(provider->problem, sizeof provider->problem, "%s", problem);
    unlock(&provider->telling);
}

static enum sluice_flags_state state_now(const struct sluice_flags_provider *provider)
{
    bool doubtful = provider->bad || provider->unwritten;
    if (atomic_load_explicit(&provider->generation, memory_order_relaxed) == 0)
        return provider->bad ? SLUICE_FLAGS_FAILED : SLUICE_FLAGS_NOT_READY;
    return doubtful ? SLUICE_FLAGS_STALE : SLUICE_FLAGS_READY;
}

static void put_in_force(struct sluice_flags_provider *provider, struct library_set *set)
{
    set->generation = atomic_load_explicit(&provider->generation, memory_order_relaxed) + 1;
    library_put(provider, set);
    atomic_store_explicit(&provider->generation, set->generation, memory_order_release);
}

static bool look(struct sluice_flags_provider *provider)
{
    char problem[SLUICE_FLAGS_PROBLEM_BYTES] = "";
    struct library_set *set = NULL;
    enum sluice_flags_state before = sluice_flags_state(provider);
    enum status status = provider->is_file ? library_look_file(provider, &set, problem)
                                           : library_look_shared(provider, &set, problem);
    if (status == STATUS_OK)
        put_in_force(provider, set);
    if (status != STATUS_AGAIN)
        provider->bad = status != STATUS_OK;
    enum sluice_flags_state now = state_now(provider);
    if (now == SLUICE_FLAGS_READY)
        set_problem(provider, "");
    else if (problem[0] != '\0')
        set_problem(provider, problem);
    atomic_store_explicit(&provider->state, (uint32_t)now, memory_order_release);
    if (status == STATUS_OK && set->generation > 1)
        tell(provider, SLUICE_FLAGS_EVENT_CONFIGURATION_CHANGED);
    if (now != before)
        tell_state(provider, now);
    return status == STATUS_OK;
}

bool sluice_flags_poll(struct sluice_flags_provider *provider)
{
    lock(&provider->turn);
    atomic_store_explicit(&provider->time_s, library_wall_ns() / 1000000000, memory_order_relaxed);
    bool news = look(provider);
    library_reclaim(provider);
    unlock(&provider->turn);
    return news;
}

static void *run(void *context)
{
    struct sluice_flags_provider *provider = context;
    lock(&provider->sleep);
    while (!provider->ending) {
        int64_t until = mono_ns() + (int64_t)LIBRARY_TICK_MS * 1000000;
        struct timespec deadline = {until / 1000000000, until % 1000000000};
        (void)pthread_cond_timedwait(&provider->wake, &provider->sleep, &deadline);
        if (provider->ending)
            break;
        unlock(&provider->sleep);
        (void)sluice_flags_poll(provider);
        lock(&provider->sleep);
    }
    unlock(&provider->sleep);
    return NULL;
}

// ---- opening and closing ----

static bool start_thread(struct sluice_flags_provider *provider)
{
    sigset_t all;
    sigset_t before;
    // Signals sent to the program are not handled by this thread.
    (void)sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    provider->has_thread = pthread_create(&provider->thread, NULL, run, provider) == 0;
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    return provider->has_thread;
}

static void init_waiting(struct sluice_flags_provider *provider)
{
    pthread_condattr_t attributes;
    CHECK(pthread_mutex_init(&provider->turn, NULL) == 0);
    CHECK(pthread_mutex_init(&provider->telling, NULL) == 0);
    CHECK(pthread_mutex_init(&provider->sleep, NULL) == 0);
    CHECK(pthread_condattr_init(&attributes) == 0);
    CHECK(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(&provider->wake, &attributes) == 0);
    CHECK(pthread_condattr_destroy(&attributes) == 0);
}

static enum sluice_flags_error open_provider(const char *path, bool is_file,
                                             const struct sluice_flags_options *options,
                                             struct sluice_flags_provider **out)
{
    struct sluice_flags_options chosen = options != NULL ? *options : (struct sluice_flags_options){0};
    if (path == NULL || path[0] == '\0' || strlen(path) >= SLUICE_FLAGS_PATH_BYTES)
        return SLUICE_FLAGS_ERROR_GENERAL;
    struct sluice_flags_provider *provider = heap_alloc_aligned(sizeof *provider);
    if (provider == NULL)
        return SLUICE_FLAGS_ERROR_GENERAL;
    (void)snprintf(provider->path, sizeof provider->path, "%s", path);
    provider->is_file = is_file;
    provider->key_required = !chosen.targeting_key_optional;
    init_waiting(provider);
    (void)sluice_flags_poll(provider);
    if (!chosen.no_thread && !start_thread(provider)) {
        sluice_flags_close(provider);
        return SLUICE_FLAGS_ERROR_GENERAL;
    }
    *out = provider;
    return SLUICE_FLAGS_ERROR_NONE;
}

enum sluice_flags_error sluice_flags_open_shared(const char *directory,
                                                 const struct sluice_flags_options *options,
                                                 struct sluice_flags_provider **provider)
{
    return open_provider(directory, false, options, provider);
}

enum sluice_flags_error sluice_flags_open_file(const char *path, const struct sluice_flags_options *options,
                                               struct sluice_flags_provider **provider)
{
    return open_provider(path, true, options, provider);
}

static void stop_thread(struct sluice_flags_provider *provider)
{
    if (!provider->has_thread)
        return;
    lock(&provider->sleep);
    provider->ending = true;
    CHECK(pthread_cond_signal(&provider->wake) == 0);
    unlock(&provider->sleep);
    CHECK(pthread_join(provider->thread, NULL) == 0);
}

void sluice_flags_close(struct sluice_flags_provider *provider)
{
    if (provider == NULL)
        return;
    stop_thread(provider);
    library_put(provider, NULL);
    // Nobody evaluates any more: the first call drops the sets that were draining, the second those that
    // waited.
    library_reclaim(provider);
    library_reclaim(provider);
    CHECK(provider->draining == NULL && provider->retired == NULL && provider->held == NULL);
    if (provider->reader != NULL)
        share_reader_close(provider->reader);
    library_file_deinit(&provider->file);
    (void)pthread_mutex_destroy(&provider->turn);
    (void)pthread_mutex_destroy(&provider->telling);
    (void)pthread_mutex_destroy(&provider->sleep);
    (void)pthread_cond_destroy(&provider->wake);
    heap_free(provider);
}

// ---- what may be asked ----

enum sluice_flags_state sluice_flags_state(const struct sluice_flags_provider *provider)
{
    return (enum sluice_flags_state)atomic_load_explicit(&provider->state, memory_order_acquire);
}

uint64_t sluice_flags_generation(const struct sluice_flags_provider *provider)
{
    return atomic_load_explicit(&provider->generation, memory_order_acquire);
}

enum sluice_flags_state sluice_flags_wait(struct sluice_flags_provider *provider, unsigned timeout_ms)
{
    int64_t deadline = mono_ns() + (int64_t)timeout_ms * 1000000;
    for (;;) {
        enum sluice_flags_state state = sluice_flags_state(provider);
        if (state == SLUICE_FLAGS_READY || state == SLUICE_FLAGS_STALE || mono_ns() >= deadline)
            return state;
        (void)nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        if (!provider->has_thread)
            (void)sluice_flags_poll(provider);
    }
}

size_t sluice_flags_problem(struct sluice_flags_provider *provider, char *out, size_t cap)
{
    lock(&provider->telling);
    size_t len = strlen(provider->problem);
    if (cap > 0)
        (void)snprintf(out, cap, "%s", provider->problem);
    unlock(&provider->telling);
    return len;
}
