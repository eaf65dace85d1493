// SPDX-License-Identifier: Apache-2.0
// The owner's side and the thread between: what is wanted goes to the thread under the lock, newest wins;
// what is known comes back as one immutable block, newest wins. The owner takes it when it likes.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "net/names/names_private.h"

enum { POLL_MS_MAX = 1000 };

struct order {
    char (*texts)[NAMES_TEXT_BYTES];
    struct names_text *wanted;
    uint32_t count;
    char servers[NAMES_SERVERS_BYTES];
};

struct names {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t told;
    int wake;
    // under the lock
    bool stop;
    bool settled;
    struct order *order;
    struct names_answers *ready;
    // the owner's
    struct names_answers *current;
    // the thread's, but its counters
    struct follower follower;
};

static void order_free(struct order *order)
{
    if (order == NULL)
        return;
    heap_free(order->texts);
    heap_free(order->wanted);
    heap_free(order);
}

// ---- the thread ----

static void hand_over(struct names *names)
{
    struct follower *follower = &names->follower;
    struct names_answers *told = follower->changed ? follow_tell(follower) : NULL;
    if (told != NULL)
        follower->changed = false;
    pthread_mutex_lock(&names->lock);
    struct names_answers *old = told != NULL ? names->ready : NULL;
    if (told != NULL)
        names->ready = told;
    names->settled = names->order == NULL && !follower->changed && follow_settled(follower);
    if (names->settled)
        pthread_cond_signal(&names->told);
    pthread_mutex_unlock(&names->lock);
    heap_free(old);
}

static void adopt(struct follower *follower, struct order *order)
{
    if (strcmp(follower->asker.servers, order->servers) != 0) {
        memcpy(follower->asker.servers, order->servers, sizeof order->servers);
        ask_close(&follower->asker);
    }
    follow_want(follower, order->texts, order->wanted, order->count);
    heap_free(order);
}

static void wait_for_signs(struct names *names, uint64_t next_us)
{
    struct asker *asker = &names->follower.asker;
    uint64_t now_us = names_now_us();
    int wait_ms = POLL_MS_MAX;
    if (next_us <= now_us)
        wait_ms = 0;
    else if (next_us - now_us < POLL_MS_MAX * 1000)
        wait_ms = (int)((next_us - now_us + 999) / 1000);
    struct pollfd fds[ASK_SOCKETS_MAX + 1];
    uint32_t count = asker->socket_count;
    memcpy(fds, asker->sockets, count * sizeof *fds);
    fds[count] = (struct pollfd){.fd = names->wake, .events = POLLIN};
    (void)poll(fds, count + 1, ask_wait_ms(asker, wait_ms));
    uint64_t woken;
    if (fds[count].revents != 0)
        (void)!read(names->wake, &woken, sizeof woken);
    ask_process(asker, fds, count);
}

static void *run(void *context)
{
    struct names *names = context;
    for (;;) {
        pthread_mutex_lock(&names->lock);
        bool stop = names->stop;
        struct order *order = names->order;
        names->order = NULL;
        pthread_mutex_unlock(&names->lock);
        if (stop) {
            order_free(order);
            return NULL;
        }
        if (order != NULL)
            adopt(&names->follower, order);
        uint64_t next_us = follow_ask(&names->follower, names_now_us());
        hand_over(names);
        wait_for_signs(names, next_us);
    }
}

// ---- beginning and end ----

static void wake(struct names *names)
{
    uint64_t one = 1;
    (void)!write(names->wake, &one, sizeof one);
}

static void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    CHECK(pthread_condattr_init(&attributes) == 0);
    CHECK(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(cond, &attributes) == 0);
    (void)pthread_condattr_destroy(&attributes);
}

static void names_free(struct names *names)
{
    follow_deinit(&names->follower);
    order_free(names->order);
    heap_free(names->ready);
    heap_free(names->current);
    (void)pthread_cond_destroy(&names->told);
    (void)pthread_mutex_destroy(&names->lock);
    (void)close(names->wake);
    heap_free(names);
    ares_library_cleanup();
}

enum status names_create(const struct names_config *config, struct names **out)
{
    struct names *names = heap_alloc(1, sizeof *names);
    uint64_t seed;
    if (names == NULL || ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
        heap_free(names);
        return STATUS_NO_MEMORY;
    }
    names->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (names->wake < 0) {
        heap_free(names);
        ares_library_cleanup();
        return STATUS_NO_FD;
    }
    CHECK(getrandom(&seed, sizeof seed, 0) == (ssize_t)sizeof seed);
    rng_init(&names->follower.rng, seed);
    names->follower.asker.resolv_conf = config->resolv_conf;
    CHECK(pthread_mutex_init(&names->lock, NULL) == 0);
    cond_init(&names->told);
    if (pthread_create(&names->thread, NULL, run, names) != 0) {
        names_free(names);
        return STATUS_NO_MEMORY;
    }
    *out = names;
    return STATUS_OK;
}

void names_destroy(struct names *names)
{
    if (names == NULL)
        return;
    pthread_mutex_lock(&names->lock);
    names->stop = true;
    pthread_mutex_unlock(&names->lock);
    wake(names);
    CHECK(pthread_join(names->thread, NULL) == 0);
    names_free(names);
}

// ---- what is wanted ----

static int compare_texts(const void *left, const void *right)
{
    return strcmp(left, right);
}

static enum status order_make(const char *const *texts, uint32_t count, const char *servers,
                              struct order **out)
{
    if (count > NAMES_MAX || strlen(servers) >= NAMES_SERVERS_BYTES)
        return STATUS_FULL;
    struct order *order = heap_alloc(1, sizeof *order);
    if (order == NULL)
        return STATUS_NO_MEMORY;
    order->texts = heap_alloc(count + 1, sizeof *order->texts);
    order->wanted = heap_alloc(count + 1, sizeof *order->wanted);
    if (order->texts == NULL || order->wanted == NULL) {
        order_free(order);
        return STATUS_NO_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++)
        snprintf(order->texts[i], NAMES_TEXT_BYTES, "%s", texts[i]);
    qsort(order->texts, count, sizeof *order->texts, compare_texts);
    for (uint32_t i = 0; i < count; i++) {
        const char *why;
        char *place = order->texts[order->count];
        bool again = order->count > 0 && strcmp(order->texts[order->count - 1], order->texts[i]) == 0;
        if (again || names_parse(order->texts[i], &order->wanted[order->count], &why) != STATUS_OK)
            continue;
        memmove(place, order->texts[i], NAMES_TEXT_BYTES);
        order->count++;
    }
    memcpy(order->servers, servers, strlen(servers) + 1);
    *out = order;
    return STATUS_OK;
}

enum status names_want(struct names *names, const char *const *texts, uint32_t count, const char *servers)
{
    struct order *order;
    enum status status = order_make(texts, count, servers, &order);
    if (status != STATUS_OK)
        return status;
    pthread_mutex_lock(&names->lock);
    struct order *old = names->order;
    names->order = order;
    names->settled = false;
    pthread_mutex_unlock(&names->lock);
    order_free(old);
    wake(names);
    return STATUS_OK;
}

void names_await(struct names *names, uint32_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&names->lock);
    while (!names->settled && pthread_cond_timedwait(&names->told, &names->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&names->lock);
}

// ---- what is known ----

static int compare_answers(const void *key, const void *item)
{
    return strcmp(key, ((const struct names_answer *)item)->text);
}

static const struct names_answer *find(const struct names_answers *answers, const char *text)
{
    if (answers == NULL)
        return NULL;
    return bsearch(text, answers->items, answers->count, sizeof *answers->items, compare_answers);
}

static void compare_with(struct names_answer *answer, const struct names_answer *before)
{
    bool same = before != NULL ? before->address_count == answer->address_count : answer->address_count == 0;
    for (uint32_t i = 0; same && i < answer->address_count; i++)
        same = before->addresses[i].len == answer->addresses[i].len &&
               memcmp(before->addresses[i].bytes, answer->addresses[i].bytes, answer->addresses[i].len) == 0;
    answer->before = before != NULL ? before->state : NAMES_WAITING;
    answer->moved = !same;
}

bool names_take(struct names *names)
{
    pthread_mutex_lock(&names->lock);
    struct names_answers *ready = names->ready;
    names->ready = NULL;
    pthread_mutex_unlock(&names->lock);
    if (ready == NULL)
        return false;
    for (uint32_t i = 0; i < ready->count; i++)
        compare_with(&ready->items[i], find(names->current, ready->items[i].text));
    heap_free(names->current);
    names->current = ready;
    return true;
}

const struct names_answers *names_answers(const struct names *names)
{
    static const struct names_answers NONE = {.count = 0};
    return names->current != NULL ? names->current : &NONE;
}

const struct names_answer *names_find(const struct names *names, const char *text)
{
    return find(names->current, text);
}

uint64_t names_lookups(const struct names *names, enum names_lookup result)
{
    return atomic_load_explicit(&names->follower.lookups[result], memory_order_relaxed);
}
