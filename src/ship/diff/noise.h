// SPDX-License-Identifier: Apache-2.0
// Which differences are more than noise. The primary is asked twice for some requests; the second answer is
// the secondary. A path at which the primary differs from itself is noisy; a path at which the candidate
// differs more often than that is different.
//
// Per path and kind, a request with all three answers counts once: both differ from the primary, or the
// candidate alone, or the secondary alone. If the candidate is no noisier than the primary, then of those
// where exactly one differs at most half are the candidate's: a Bernoulli test, anytime-valid
// (stats/bernoulli.h), that pairs each request with itself and so needs nothing about traffic. Requests
// without a secondary are counted, and are no evidence.
//
// Over paths the false discovery rate is at most alpha, whenever it is looked at and however the paths depend
// on each other: e-BH (Wang and Ramdas 2022, "False discovery rate control with e-values") with weights that
// sum to 1 over all paths that may ever come. The j-th path that differs has the weight 1 / (B (b + 1) (b +
// 2)), B = 2^b the greatest power of two that is at most j. One of k discoveries has weight times E of at
// least 1 / (alpha k), so the expected share of false ones is at most alpha times the sum of the weights.
#pragma once

#include "base/wire.h"
#include "ship/diff/diff.h"
#include "ship/diff/judge.h"

enum {
    DIFF_ROWS_MAX = 1024 + DIFF_KINDS, // one for each kind is kept for paths that have no row of their own
    DIFF_PREFIXES_MAX = 4096,
    DIFF_FOLDED_MAX = 256,
    DIFF_CHILDREN_MAX = 100, // more names that differ below one path are one path: "body.users{*}.age"
    DIFF_NOISE_BYTES = DIFF_ROWS_MAX * (DIFF_PATH_BYTES + 64) + DIFF_FOLDED_MAX * 10 + 128,
    DIFF_NOISE_WORDS_BYTES = 640,
};

struct diff_row {
    char path[DIFF_PATH_BYTES];
    enum diff_kind kind;
    uint32_t rank;      // from 1, in the order in which rows came
    uint32_t folded;    // rows that were put into this one
    uint64_t both;      // requests: candidate and secondary differ from the primary
    uint64_t candidate; // requests: the candidate alone differs
    uint64_t secondary; // requests: the secondary alone differs
    uint64_t alone;     // requests without a secondary: the candidate differs
    uint64_t earlier;   // requests of folded rows; no evidence, because one request may have been in several
    enum diff_class class; // of all values seen, if it is one
};

// Plain data without pointers; all zeros is "nothing seen yet". Large: not for a stack.
struct diff_noise {
    uint64_t triples; // requests with all three answers
    uint64_t pairs;   // requests without a secondary
    uint64_t beyond;  // occurrences that comparisons had no place for: their requests may be counted wrongly
    uint64_t crowded; // requests times paths that were counted to "(other paths)"
    uint32_t row_count, rank_count, folded_count, prefix_count;
    struct diff_row rows[DIFF_ROWS_MAX]; // by rank
    uint64_t hashes[DIFF_ROWS_MAX];      // of path and kind
    uint64_t folded[DIFF_FOLDED_MAX];    // hashes of paths below which names are one
    struct diff_prefix {
        uint64_t hash;     // of a path of which rows' paths are longer
        uint32_t children; // names below it
    } prefixes[DIFF_PREFIXES_MAX];
};

// Takes one request: the candidate against the primary, and the secondary against the primary (NULL: was not
// asked).
void diff_noise_add(struct diff_noise *noise, const struct diff_comparison *candidate,
                    const struct diff_comparison *secondary);

// The row that a finding of an added comparison was counted to.
struct diff_row *diff_noise_row(struct diff_noise *noise, const struct diff_finding *finding);

// Judges all rows, as diff_judge says. Returns how many there are.
uint32_t diff_noise_judge(const struct diff_noise *noise, double alpha, double beta,
                          struct diff_judgement judgements[DIFF_ROWS_MAX]);

const char *diff_verdict_name(enum diff_verdict verdict); // "undecided", "noisy", "different"
// Why, in a sentence or two.
void diff_noise_words(const struct diff_noise *noise, const struct diff_judgement *judgement,
                      char words[DIFF_NOISE_WORDS_BYTES]);

// For a journal: at most DIFF_NOISE_BYTES. What was written gives the same judgements when it is read.
void diff_noise_put(const struct diff_noise *noise, struct wire_writer *writer);
// STATUS_CORRUPT when the bytes are not what diff_noise_put writes; *noise is then not to be used.
MUST_USE enum status diff_noise_get(struct wire_reader *reader, struct diff_noise *noise);
