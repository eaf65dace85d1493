// SPDX-License-Identifier: Apache-2.0
// The runtime's own storage. changes.c takes what operators want, over.c makes what lies over the sources,
// sources.c reads what the file names, runtime.c lives.
#pragma once

#include "flags/eval/image.h"
#include "flags/runtime/overlay.h"

enum { RUNTIME_RETIRED_SETS = 4 };

struct runtime {
    struct runtime_parts parts;
    struct flagset *set; // NULL: the file has no flags
    struct usage *usage;
    struct runtime_overlay overlay; // from the journal; there also without a set
    struct list watchers;
    uint64_t change;      // newest one handed to the set
    uint64_t definitions; // the overlay's, when they were handed over last
    bool handed_over;
    bool draining;
    uint64_t usage_due_us;
    uint64_t told[FLAGSET_PROBLEMS_MAX]; // hashes of the problems logged last
    uint32_t told_count;
    // Sets whose counts go to usage, referenced: the one in force, and those it replaced lately.
    const struct flagset_snapshot *counted;
    struct runtime_retired {
        const struct flagset_snapshot *set;
        uint64_t until_us;
    } retired[RUNTIME_RETIRED_SETS];
    uint32_t retired_count;
};

// ---- over.c

// All that stands over the sources now.
struct runtime_over {
    char *json; // heap
    size_t len;
    struct flags_patch *patches; // heap; their slices borrow from the overlay and the splits
    uint32_t patch_count;
    struct runtime_split *splits; // heap
};
// definitions: json too, else only what patches them.
MUST_USE enum status runtime_over_make(const struct runtime *runtime, bool definitions,
                                       struct runtime_over *over);
void runtime_over_free(struct runtime_over *over);
// The split that drives the flag now; false: none.
bool runtime_split_find(const struct runtime *runtime, struct slice key, struct runtime_split *split);

// ---- sources.c

_Static_assert(CONFIG_FLAG_SOURCES_MAX + 1 <= FLAGSET_SOURCES_MAX,
               "a set has room for all sources and `define`");

struct runtime_sources {
    struct flagset_source items[CONFIG_FLAG_SOURCES_MAX + 1];
    uint32_t count;
    char *define;
};
// Heap; NULL: no memory.
struct runtime_sources *runtime_sources_make(const struct config *config);
void runtime_sources_free(struct runtime_sources *sources); // NULL is allowed
struct slice runtime_segments(const struct config *config);
enum status runtime_problems_fault(const struct fault *problems, uint32_t count, enum status status,
                                   struct fault *fault);
bool runtime_variant_exists(const struct flags_image *set, struct slice key, const char *variant);
