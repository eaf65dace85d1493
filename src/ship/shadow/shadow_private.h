// SPDX-License-Identifier: Apache-2.0
// Runs, and what compares for them.
#pragma once

#include <pthread.h>

#include "base/check.h"
#include "net/compress/compress.h"
#include "ship/shadow/shadow.h"

enum { SHADOW_SPACE_BYTES = 16 << 20 }; // of values of two bodies

struct shadow_examples {
    uint32_t rank; // 0: free
    uint32_t count;
    struct shadow_example items[SHADOW_EXAMPLES_MAX];
};

// The rules do not change while a run is kept. All else is under the lock.
struct shadow_run {
    uint64_t number;
    uint64_t order; // of beginning
    bool running;
    uint32_t pins; // who reads the rules without the lock: a run with pins is not forgotten
    struct shadow_rules rules;
    void *words; // what the rules point to
    int64_t first_ms, last_ms;
    struct shadow_counts counts;
    struct diff_noise noise;
    struct shadow_examples *examples[SHADOW_EXAMPLE_PATHS_MAX];
    // What deltas have told.
    struct shadow_counts told;
    struct rollout_shadow_row told_rows[DIFF_ROWS_MAX];
    uint32_t told_up_to; // the row that the next delta begins at
};

// One answer, read for comparing.
struct shadow_side {
    struct diff_answer answer;
    struct diff_header headers[HTTP_FIELDS_MAX];
    struct compress_decoded decoded;
};

// The thread's own.
struct shadow_work {
    struct shadow_side primary, candidate, secondary;
    struct diff_comparison of_candidate, of_secondary;
    struct diff_space space;
};

// ---- compare.c
struct shadow_outcome {
    bool compared, triple, by_digest;
    enum shadow_uncompared reason; // where it was not compared
};
struct shadow_outcome shadow_compare(struct shadow_work *work, const struct diff_recipe *recipe,
                                     const struct mirror_seen *seen);
// Counts all that needs no comparing.
void shadow_count(const struct shadow_rules *rules, const struct mirror_seen *seen,
                  struct shadow_counts *counts);

// ---- rules.c
MUST_USE enum status shadow_rules_copy(const struct shadow_rules *rules, struct siphash_key key,
                                       struct shadow_run *run);

// ---- example.c
// Keeps what differed in the candidate's answer as examples, where there is place.
void shadow_examples_keep(struct shadow_run *run, const struct mirror_seen *seen,
                          const struct diff_comparison *found);
void shadow_examples_free(struct shadow_run *run);
