// SPDX-License-Identifier: Apache-2.0
// Who saw which variant for the first time today. What was told is remembered as a hash in a table of fixed
// size: a forgotten one is told again, so a reader must count keys, not lines. What did not fit the ring
// until somebody took from it is counted as lost.
#include <sys/random.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/utf8.h"
#include "flags/ofrep/ofrep_private.h"

enum { SEEN_WAYS = 4, SEEN_SETS = OFREP_EXPOSURES_SEEN / SEEN_WAYS };

static const int64_t DAY_MS = INT64_C(86400000);

struct ofrep_exposures {
    struct siphash_key key;
    uint64_t seen[SEEN_SETS][SEEN_WAYS]; // of the writer alone; 0: free; newest first
    pthread_mutex_t lock;                // of what follows
    uint32_t first;
    uint32_t count;
    uint64_t lost;
    struct ofrep_exposure ring[OFREP_EXPOSURES_RING];
};

struct ofrep_exposures *ofrep_exposures_create(void)
{
    struct ofrep_exposures *exposures = heap_alloc(1, sizeof *exposures);
    if (exposures == NULL)
        return NULL;
    if (getrandom(&exposures->key, sizeof exposures->key, 0) != (ssize_t)sizeof exposures->key)
        exposures->key = (struct siphash_key){0xbb67ae8584caa73b, 0x3c6ef372fe94f82b};
    CHECK(pthread_mutex_init(&exposures->lock, NULL) == 0);
    return exposures;
}

void ofrep_exposures_destroy(struct ofrep_exposures *exposures)
{
    if (exposures == NULL)
        return;
    pthread_mutex_destroy(&exposures->lock);
    heap_free(exposures);
}

// True when the hash was there; otherwise it is from now on.
static bool seen_before(struct ofrep_exposures *exposures, uint64_t hash)
{
    uint64_t *set = exposures->seen[hash % SEEN_SETS];
    uint32_t at = 0;
    while (at < SEEN_WAYS - 1 && set[at] != hash)
        at++;
    bool known = set[at] == hash;
    for (; at > 0; at--)
        set[at] = set[at - 1];
    set[0] = hash;
    return known;
}

static uint64_t hash_of(const struct ofrep_exposures *exposures, struct slice flag, struct slice variant,
                        struct slice key, int64_t day)
{
    uint64_t parts[4] = {siphash(exposures->key, flag.data, flag.len),
                         siphash(exposures->key, variant.data, variant.len),
                         siphash(exposures->key, key.data, key.len), (uint64_t)day};
    uint64_t hash = siphash(exposures->key, parts, sizeof parts);
    return hash == 0 ? 1 : hash;
}

void ofrep_exposures_note(struct ofrep_exposures *exposures, const struct flagset_snapshot *snapshot,
                          struct slice flag, struct slice variant, struct slice key, int64_t time_ms)
{
    if (seen_before(exposures, hash_of(exposures, flag, variant, key, time_ms / DAY_MS)))
        return;
    pthread_mutex_lock(&exposures->lock);
    if (exposures->count == OFREP_EXPOSURES_RING) {
        exposures->lost++;
    } else {
        uint32_t at = (exposures->first + exposures->count) % OFREP_EXPOSURES_RING;
        struct ofrep_exposure *exposure = &exposures->ring[at];
        exposure->time_ms = time_ms;
        exposure->set_version = snapshot->version;
        utf8_copy(exposure->flag, sizeof exposure->flag, flag);
        utf8_copy(exposure->variant, sizeof exposure->variant, variant);
        utf8_copy(exposure->key, sizeof exposure->key, key);
        exposures->count++;
    }
    pthread_mutex_unlock(&exposures->lock);
}

uint32_t ofrep_exposures_drain(struct ofrep_exposures *exposures, struct ofrep_exposure *out, uint32_t cap)
{
    pthread_mutex_lock(&exposures->lock);
    uint32_t n = exposures->count < cap ? exposures->count : cap;
    for (uint32_t i = 0; i < n; i++)
        out[i] = exposures->ring[(exposures->first + i) % OFREP_EXPOSURES_RING];
    exposures->first = (exposures->first + n) % OFREP_EXPOSURES_RING;
    exposures->count -= n;
    pthread_mutex_unlock(&exposures->lock);
    return n;
}

uint64_t ofrep_exposures_lost(struct ofrep_exposures *exposures)
{
    pthread_mutex_lock(&exposures->lock);
    uint64_t lost = exposures->lost;
    pthread_mutex_unlock(&exposures->lock);
    return lost;
}
