// SPDX-License-Identifier: Apache-2.0
// Counts of evaluations per flag and variant. One writer, any number of readers: relaxed atomics, one store
// per evaluation, no lock. The caller owns the storage.
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "base/check.h"
#include "flags/eval/evaluate.h"

struct flags_tally {
    _Atomic uint64_t *counts; // [flags_image_counter_count]
    uint32_t count;
};

static inline void flags_tally_note(struct flags_tally *tally, const struct flags_result *result)
{
    if (UNLIKELY(result->counter >= tally->count))
        return;
    _Atomic uint64_t *at = &tally->counts[result->counter];
    atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + 1, memory_order_relaxed);
}

static inline uint64_t flags_tally_read(const struct flags_tally *tally, uint32_t counter)
{
    return counter < tally->count ? atomic_load_explicit(&tally->counts[counter], memory_order_relaxed) : 0;
}
