// SPDX-License-Identifier: Apache-2.0
// Usage of flags: evaluations per flag and variant since the start, when each flag was last evaluated, and
// which flags are stale (for 30 days not evaluated, or always the same variant). Gathers the tallies of
// snapshots, and keeps a small file, so that the thirty days survive a restart. For one thread.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "flags/set/flagset.h"

enum {
    USAGE_FLAGS_MAX = 200000,
    USAGE_KEY_BYTES = 256,   // flags with longer keys are counted, not remembered
    USAGE_VARIANTS_MAX = 16, // per flag; all others are counted together as "(other)"
    USAGE_STALE_DAYS = 30,
    USAGE_SNAPSHOTS_MAX = 32, // gathered from at the same time
    USAGE_GAP_MS_MAX =
        60 * 60 * 1000, // after a longer pause without a gather, the days of that pause do not count
};

// Days only count while counts are gathered: a machine that was off for a month makes no flag stale, nor does
// a clock that jumps.
enum usage_stale {
    USAGE_LIVE,
    USAGE_UNUSED,      // not evaluated for 30 days (and known for that long)
    USAGE_ONE_VARIANT, // evaluated, but one variant (or none) answered for 30 days
};

struct usage_flag {
    const char *key;
    uint64_t evaluations; // since the start of the process
    uint64_t defaulted;   // evaluations among them without a variant
    uint64_t errors;
    uint32_t variant_count; // number of variants that answered
    struct {
        const char *name;
        uint64_t evaluations;
    } variants[USAGE_VARIANTS_MAX + 1];
    int64_t first_seen_ms;        // when the flag was first in a set
    int64_t last_evaluated_ms;    // 0: never
    int64_t one_variant_since_ms; // since when only one variant answered; 0: several did lately, or none
    enum usage_stale stale;
};

struct usage;
// path: the file. A missing file counts as empty; a damaged one is renamed and *damaged is STATUS_CORRUPT.
// path NULL: nothing is kept.
MUST_USE enum status usage_open(const char *path, int64_t now_ms, struct usage **usage, bool *damaged);
// Adds what was counted since the last gather of this snapshot. Call it about once a second. After a snapshot
// was replaced, its readers may still count for a moment: gather it until nobody else references it, or for a
// second; later counts may be lost. The version identifies a snapshot.
void usage_gather(struct usage *usage, const struct flagset_snapshot *snapshot, int64_t now_ms);
// The flags of the newest snapshot gathered. Their pointers are valid until the next gather or save.
bool usage_get(const struct usage *usage, struct slice key, int64_t now_ms, struct usage_flag *flag);
// Walks all flags: *cursor begins at 0. False at the end.
bool usage_next(const struct usage *usage, uint32_t *cursor, int64_t now_ms, struct usage_flag *flag);
uint64_t usage_unknown(const struct usage *usage); // evaluations of flags that are not there
// Evaluations of flags that are not remembered, because the key is too long or the table is full.
uint64_t usage_unremembered(const struct usage *usage);
// Writes the file (atomically) when a minute has passed since the last write; `now`: always.
MUST_USE enum status usage_save(struct usage *usage, int64_t now_ms, bool now);
void usage_close(struct usage *usage);
