// SPDX-License-Identifier: Apache-2.0
// Token buckets in a table of fixed size. A full bucket says nothing that an absent one does not, so the
// bucket that has rested longest is the one to replace: a flood of addresses can make us forget, never grow.
#include <pthread.h>
#include <sys/random.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/ofrep/ofrep_private.h"

struct bucket {
    uint64_t who;     // hash of the name; 0: free
    uint64_t seen_us; // when it was last filled
    double left;      // requests
};

struct ofrep_limit {
    struct siphash_key key;
    double rate_per_us;
    double burst;
    pthread_mutex_t locks[OFREP_LIMIT_LOCKS];
    struct bucket buckets[OFREP_LIMIT_SETS][OFREP_LIMIT_WAYS];
};

struct ofrep_limit *ofrep_limit_create(uint32_t rate, uint32_t burst)
{
    struct ofrep_limit *limit = heap_alloc(1, sizeof *limit);
    if (limit == NULL)
        return NULL;
    limit->rate_per_us = (double)rate / 1e6;
    limit->burst = (double)(burst == 0 ? rate : burst);
    // Without random bytes the table could be aimed at, nothing worse.
    if (getrandom(&limit->key, sizeof limit->key, 0) != (ssize_t)sizeof limit->key)
        limit->key = (struct siphash_key){0x9e3779b97f4a7c15, 0x6a09e667f3bcc909};
    for (uint32_t i = 0; i < OFREP_LIMIT_LOCKS; i++)
        CHECK(pthread_mutex_init(&limit->locks[i], NULL) == 0);
    return limit;
}

void ofrep_limit_destroy(struct ofrep_limit *limit)
{
    if (limit == NULL)
        return;
    for (uint32_t i = 0; i < OFREP_LIMIT_LOCKS; i++)
        pthread_mutex_destroy(&limit->locks[i]);
    heap_free(limit);
}

static struct bucket *bucket_of(struct ofrep_limit *limit, struct bucket *set, uint64_t who, uint64_t now_us)
{
    struct bucket *oldest = &set[0];
    for (uint32_t i = 0; i < OFREP_LIMIT_WAYS; i++) {
        if (set[i].who == who)
            return &set[i];
        if (set[i].seen_us < oldest->seen_us)
            oldest = &set[i];
    }
    *oldest = (struct bucket){.who = who, .seen_us = now_us, .left = limit->burst};
    return oldest;
}

bool ofrep_limit_take(struct ofrep_limit *limit, struct slice who, uint64_t now_us, uint32_t *wait_s)
{
    uint64_t hash = siphash(limit->key, who.data, who.len) | 1;
    uint64_t set = (hash >> 1) % OFREP_LIMIT_SETS;
    pthread_mutex_t *lock = &limit->locks[set % OFREP_LIMIT_LOCKS];
    pthread_mutex_lock(lock);
    struct bucket *bucket = bucket_of(limit, limit->buckets[set], hash, now_us);
    // The loops' clocks differ by a turn: time never runs backwards here.
    if (now_us > bucket->seen_us) {
        bucket->left += (double)(now_us - bucket->seen_us) * limit->rate_per_us;
        bucket->seen_us = now_us;
    }
    if (bucket->left > limit->burst)
        bucket->left = limit->burst;
    bool allowed = bucket->left >= 1;
    double missing = 1 - bucket->left;
    if (allowed)
        bucket->left -= 1;
    pthread_mutex_unlock(lock);
    if (!allowed)
        *wait_s = 1 + (uint32_t)(missing / limit->rate_per_us / 1e6);
    return allowed;
}
