// SPDX-License-Identifier: Apache-2.0
// Judges paths that differ by their counts alone: whoever has no table of paths (ship/rollout) judges by the
// very same rule as who has (noise.h, which says why it holds).
#pragma once

#include <stdint.h>

#include "stats/bernoulli.h"

enum diff_verdict {
    DIFF_UNDECIDED,
    DIFF_NOISY,     // shown: the candidate differs less than twice as often as the primary from itself
    DIFF_DIFFERENT, // shown: the candidate differs more often than the primary from itself
};

struct diff_judgement {
    uint32_t row; // index
    enum diff_verdict verdict;
    double log_e;      // ln of the evidence that the candidate differs more often, before weights
    double log_noisy;  // ln of the evidence that it differs less than twice as often
    double log_weight; // ln of the weight of its rank
};

// The tests of one row. `more`: of the requests where one of both differs, at most half are the candidate's.
// `less`: the candidate differs at least twice as often as the primary from itself. Let C, S and B be the
// chances that the candidate alone, the secondary alone, or both differ: C + B >= 2 (S + B). A bet at p = 2/3
// (1 - u) multiplies by 1 - u for each difference of the candidate and by 1 + 2u for each of the secondary,
// so by both where both differ; it gains -u (C - 2S - B) - 2 u^2 B on average, which is never above 0.
struct diff_tests {
    struct stats_bernoulli_grid more, less;
};

// In how many requests that were asked three times the candidate alone, the secondary alone, or both differ.
struct diff_counts {
    uint32_t rank; // from 1
    uint64_t both, candidate, secondary;
};

void diff_tests_init(struct diff_tests *tests);
// The evidence of one row; its verdict is diff_judge's.
struct diff_judgement diff_weigh(const struct diff_tests *tests, uint32_t row,
                                 const struct diff_counts *counts);
// Gives all rows that were weighed their verdicts. alpha bounds the false share among DIFF_DIFFERENT, beta
// the chance of a wrong DIFF_NOISY at one path; both in (0, 1) (CHECK). Ordered by verdict (different, noisy,
// undecided), then by evidence with its weight, then by row.
void diff_judge(struct diff_judgement *judgements, uint32_t count, double alpha, double beta);
// The fewest requests in which the candidate alone differs, at the first path and never the secondary, that
// make it different.
uint64_t diff_least(const struct diff_tests *tests, double alpha);
