// SPDX-License-Identifier: Apache-2.0
// Reading a set while another takes its place; library_private.h explains why this is correct.
#include <sys/mman.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/library/library_private.h"

// The number of this thread's stripe, from 1. This TLS model avoids calls into the dynamic loader, which may
// allocate.
static _Thread_local uint32_t own_stripe __attribute__((tls_model("initial-exec")));
static _Atomic uint32_t stripes_given;

static struct library_stripe *stripe_of(struct sluice_flags_provider *provider)
{
    if (UNLIKELY(own_stripe == 0))
        own_stripe = 1 + atomic_fetch_add_explicit(&stripes_given, 1, memory_order_relaxed) % LIBRARY_STRIPES;
    return &provider->stripes[own_stripe - 1];
}

struct library_guard library_enter(struct sluice_flags_provider *provider)
{
    uint32_t phase = atomic_load_explicit(&provider->phase, memory_order_relaxed);
    _Atomic uint64_t *inside = &stripe_of(provider)->inside[phase];
    // Sequentially consistent on both sides: either the publisher sees this count, or we see its new set.
    atomic_fetch_add_explicit(inside, 1, memory_order_seq_cst);
    return (struct library_guard){inside, atomic_load_explicit(&provider->set, memory_order_seq_cst)};
}

void library_leave(struct library_guard guard)
{
    atomic_fetch_sub_explicit(guard.inside, 1, memory_order_release);
}

static void drop(struct library_set *set)
{
    share_mapping_drop(&set->mapping);
    heap_free(set->image);
    heap_free(set);
}

void library_put(struct sluice_flags_provider *provider, struct library_set *set)
{
    struct library_set *old = atomic_exchange_explicit(&provider->set, set, memory_order_seq_cst);
    if (old == NULL)
        return;
    old->next = provider->retired;
    provider->retired = old;
}

static bool drained(struct sluice_flags_provider *provider, uint32_t phase)
{
    for (uint32_t i = 0; i < LIBRARY_STRIPES; i++)
        if (atomic_load_explicit(&provider->stripes[i].inside[phase], memory_order_seq_cst) != 0)
            return false;
    return true;
}

// Moves the drained sets to those that only holds may still read.
static void drain(struct sluice_flags_provider *provider)
{
    uint32_t phase = atomic_load_explicit(&provider->phase, memory_order_relaxed);
    if (!provider->flipped) {
        // These readers chose this counter before the others moved to the next one, but counted themselves
        // only now.
        if (!drained(provider, 1 - phase))
            return;
        phase = 1 - phase;
        atomic_store_explicit(&provider->phase, phase, memory_order_seq_cst);
        provider->flipped = true;
    }
    if (!drained(provider, 1 - phase))
        return;
    while (provider->draining != NULL) {
        struct library_set *set = provider->draining;
        provider->draining = set->next;
        set->next = provider->held;
        provider->held = set;
    }
}

void library_reclaim(struct sluice_flags_provider *provider)
{
    if (provider->draining == NULL) {
        provider->draining = provider->retired;
        provider->retired = NULL;
        provider->flipped = false;
    }
    if (provider->draining != NULL)
        drain(provider);
    // No hold can begin on a drained set, so a count of zero is final.
    for (struct library_set **at = &provider->held; *at != NULL;) {
        struct library_set *set = *at;
        bool free = atomic_load_explicit(&set->holds, memory_order_acquire) == 0;
        if (free) {
            *at = set->next;
            drop(set);
        } else {
            at = &set->next;
        }
    }
}
