// SPDX-License-Identifier: Apache-2.0
#include "ship/rollout/failures.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/siphash.h"
#include "base/utf8.h"

// For lookup only: whoever makes two names collide blurs a line that people read.
static const struct siphash_key KEY = {0, 0};

static uint64_t weight_of(const struct rollout_failure *failure)
{
    uint64_t weight = failure->before;
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        weight += failure->arms[arm];
    return weight;
}

// Its place, or the lightest one, made its own.
static struct rollout_failure *place_of(struct rollout_failure kept[ROLLOUT_FAILURES_KEPT], uint64_t hash,
                                        struct slice what)
{
    struct rollout_failure *lightest = &kept[0];
    for (int i = 0; i < ROLLOUT_FAILURES_KEPT; i++) {
        if (kept[i].hash == hash && kept[i].what[0] != '\0')
            return &kept[i];
        if (weight_of(&kept[i]) < weight_of(lightest))
            lightest = &kept[i];
    }
    uint64_t before = weight_of(lightest);
    *lightest =
        (struct rollout_failure){.hash = hash, .before = before < UINT32_MAX ? (uint32_t)before : UINT32_MAX};
    utf8_copy(lightest->what, sizeof lightest->what, what);
    return lightest;
}

static uint64_t hash_of(struct slice what)
{
    return siphash(KEY, what.data, what.len);
}

static void note_one(struct rollout_failure kept[ROLLOUT_FAILURES_KEPT], enum rollout_arm arm, uint64_t hash,
                     struct slice what)
{
    if (what.len > 0)
        place_of(kept, hash, what)->arms[arm]++;
}

void rollout_failures_note(struct rollout_failures *failures, enum rollout_failing kind, enum rollout_arm arm,
                           struct slice route, struct slice address)
{
    CHECK(kind < ROLLOUT_FAILINGS && arm < ROLLOUT_ARMS);
    struct rollout_failed *failed = &failures->kinds[kind];
    failed->arms[arm]++;
    note_one(failed->routes, arm, hash_of(route), route);
    uint64_t hash = hash_of(address);
    note_one(failed->addresses, arm, hash, address);
    if (arm == ROLLOUT_ARM_CANARY && address.len > 0)
        failed->seen[hash % ROLLOUT_FAILURES_BITS / 64] |= UINT64_C(1) << hash % 64;
}

static void merge_kept(struct rollout_failure into[ROLLOUT_FAILURES_KEPT],
                       const struct rollout_failure from[ROLLOUT_FAILURES_KEPT])
{
    for (int i = 0; i < ROLLOUT_FAILURES_KEPT; i++) {
        if (from[i].what[0] == '\0')
            continue;
        struct rollout_failure *place = place_of(into, from[i].hash, slice_of(from[i].what));
        for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
            place->arms[arm] += from[i].arms[arm];
    }
}

void rollout_failures_merge(struct rollout_failures *into, const struct rollout_failures *from)
{
    for (int kind = 0; kind < ROLLOUT_FAILINGS; kind++) {
        struct rollout_failed *a = &into->kinds[kind];
        const struct rollout_failed *b = &from->kinds[kind];
        for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
            a->arms[arm] += b->arms[arm];
        merge_kept(a->routes, b->routes);
        merge_kept(a->addresses, b->addresses);
        for (size_t i = 0; i < ARRAY_LEN(a->seen); i++)
            a->seen[i] |= b->seen[i];
    }
}

uint32_t rollout_failures_top(const struct rollout_failure kept[ROLLOUT_FAILURES_KEPT],
                              const struct rollout_failure *top[ROLLOUT_FAILURES_SHOWN])
{
    uint32_t count = 0;
    for (int i = 0; i < ROLLOUT_FAILURES_KEPT; i++) {
        uint32_t here = kept[i].arms[ROLLOUT_ARM_CANARY];
        uint32_t at = count;
        while (at > 0 && top[at - 1]->arms[ROLLOUT_ARM_CANARY] < here)
            at--;
        if (here == 0 || at == ROLLOUT_FAILURES_SHOWN)
            continue;
        count += count < ROLLOUT_FAILURES_SHOWN;
        for (uint32_t k = count - 1; k > at; k--)
            top[k] = top[k - 1];
        top[at] = &kept[i];
    }
    return count;
}

// Linear counting (Whang, Vander-Zanden, Taylor 1990): from the share of bits that no address has set. Those
// that are kept are known to be as many.
uint64_t rollout_failures_addresses(const struct rollout_failed *failed)
{
    int set = 0;
    uint64_t known = 0;
    for (int i = 0; i < ROLLOUT_FAILURES_KEPT; i++)
        known += failed->addresses[i].arms[ROLLOUT_ARM_CANARY] > 0;
    for (size_t i = 0; i < ARRAY_LEN(failed->seen); i++)
        set += __builtin_popcountll(failed->seen[i]);
    int clear = set < ROLLOUT_FAILURES_BITS ? ROLLOUT_FAILURES_BITS - set : 1;
    uint64_t about = (uint64_t)(0.5 - ROLLOUT_FAILURES_BITS * log((double)clear / ROLLOUT_FAILURES_BITS));
    return about > known ? about : known;
}

const char *rollout_failing_name(enum rollout_failing kind)
{
    static const char *const names[] = {"errors", "slow", "refused"};
    CHECK((unsigned)kind < ARRAY_LEN(names));
    return names[kind];
}

static void add_top(struct text *text, const struct rollout_failure kept[ROLLOUT_FAILURES_KEPT])
{
    const struct rollout_failure *top[ROLLOUT_FAILURES_SHOWN];
    uint32_t count = rollout_failures_top(kept, top);
    for (uint32_t i = 0; i < count && i < 3; i++)
        text_addf(text, "%s%s (%" PRIu32 ")", i > 0 ? ", " : "", top[i]->what,
                  top[i]->arms[ROLLOUT_ARM_CANARY]);
}

void rollout_failures_sentence(const struct rollout_failures *failures, enum rollout_failing kind,
                               const char *canary, const char *stable, struct text *text)
{
    static const char *const said[] = {"failed", "was slow", "answered 3xx or 4xx"};
    const struct rollout_failed *failed = &failures->kinds[kind];
    uint64_t count = failed->arms[ROLLOUT_ARM_CANARY];
    if (count == 0)
        return;
    text_addf(text, "%sWhere %s %s (%" PRIu64 "; %s %" PRIu64 "): ", text->len > 0 ? " " : "", canary,
              said[kind], count, stable, failed->arms[ROLLOUT_ARM_STABLE]);
    add_top(text, failed->routes);
    uint64_t addresses = rollout_failures_addresses(failed);
    text_addf(text, "; from %s%" PRIu64 " address%s: ", addresses > 100 ? "about " : "", addresses,
              addresses == 1 ? "" : "es");
    add_top(text, failed->addresses);
    text_add_char(text, '.');
}

void rollout_failures_words(const struct rollout_failures *failures, const char *check, const char *canary,
                            const char *stable, char text[ROLLOUT_FAILURES_TEXT_BYTES])
{
    bool slow = strncmp(check, "latency", 7) == 0, refused = strncmp(check, "statuses", 8) == 0;
    bool told[ROLLOUT_FAILINGS] = {
        [ROLLOUT_FAILING_ERRORS] = !slow && !refused,
        [ROLLOUT_FAILING_SLOW] = slow || strcmp(check, "throughput") == 0,
        [ROLLOUT_FAILING_REFUSED] = refused,
    };
    struct text words = text_over(text, ROLLOUT_FAILURES_TEXT_BYTES);
    for (int kind = 0; kind < ROLLOUT_FAILINGS; kind++)
        if (told[kind])
            rollout_failures_sentence(failures, kind, canary, stable, &words);
}
