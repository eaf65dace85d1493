// SPDX-License-Identifier: Apache-2.0
// The table of flags and its file. An entry keeps its index while the table lives, so a snapshot's flags are
// matched by key once and by index ever after. A freed place is reused only by a snapshot newer than all that
// knew its old owner.
#pragma once

#include "flags/set/usage.h"

enum {
    USAGE_OUTCOME_NONE = 255,    // not evaluated yet, or several lately
    USAGE_OUTCOME_DEFAULT = 254, // no variant: the caller's default
};

struct usage_variant {
    char *name; // heap
    uint64_t evaluations;
};

struct usage_entry {
    char *key; // heap; NULL: a free place
    uint32_t key_len;
    uint8_t variant_count;
    uint8_t outcome; // the only variant that answered lately (index), or one of the above
    uint64_t hash;
    uint64_t version;               // the newest snapshot that has the flag; 0: only the file had it
    struct usage_variant *variants; // [USAGE_VARIANTS_MAX], NULL until one answered
    uint64_t other;                 // evaluations of variants that have no place
    uint64_t evaluations, defaulted, errors;
    int64_t first_seen_ms, last_evaluated_ms, one_variant_since_ms;
    int64_t active_watched_ms; // the watch clock when it was last evaluated, or first seen
    int64_t one_watched_ms;    // the watch clock when one variant began to answer alone
    int64_t gone_watched_ms;   // the watch clock when it left the set; -1: it is there
};

// What was read from one snapshot.
struct usage_plan {
    uint64_t version;
    int64_t gathered_ms;
    uint32_t flag_count;
    uint32_t counter_count;
    struct usage_place {
        uint32_t entry; // UINT32_MAX: not remembered
        uint32_t first_counter;
        uint32_t variant_count;
    } * places;
    uint64_t *last; // [counter_count], sums over readers
    uint64_t *sums; // the same, of the gather under way
};

struct usage {
    char *path; // NULL: nothing is kept
    struct usage_entry *entries;
    uint32_t entry_count; // places in use and free, from the first
    uint32_t entry_cap;
    uint32_t *free_places;
    uint32_t free_count;
    uint32_t *table; // index + 1 of an entry; 0: empty; open addressing
    uint32_t table_cap;
    struct usage_plan plans[USAGE_SNAPSHOTS_MAX];
    uint32_t plan_count;
    uint64_t newest;    // the newest version gathered
    uint64_t forgotten; // snapshots up to this version are gathered only while they have a plan
    uint64_t unknown, unremembered;
    int64_t now_ms;     // of the last gather (or save of the file)
    int64_t watched_ms; // the watch clock: how long counts have been gathered
    int64_t saved_ms;
};

// Index of the entry of this key, made when missing; UINT32_MAX when there is no room or memory.
uint32_t usage_entry_make(struct usage *usage, struct slice key);
uint32_t usage_entry_find(const struct usage *usage, struct slice key);
// Index of the variant's place, USAGE_VARIANTS_MAX when it has none.
uint8_t usage_variant_slot(struct usage_entry *entry, struct slice name);
// Empties the table.

// The file (usage_file.c). STATUS_NOT_FOUND, CORRUPT, IO, NO_MEMORY.
MUST_USE enum status usage_file_read(struct usage *usage);
MUST_USE enum status usage_file_write(const struct usage *usage);
MUST_USE enum status usage_file_set_aside(const struct usage *usage); // renamed to "<path>.damaged"
