// SPDX-License-Identifier: Apache-2.0
#include "ship/diff/judge.h"

#include "base/check.h"
#include "stats/real.h"

void diff_tests_init(struct diff_tests *tests)
{
    stats_bernoulli_grid_init(&tests->more, STATS_BERNOULLI_ABOVE, 0.5);
    stats_bernoulli_grid_init(&tests->less, STATS_BERNOULLI_BELOW, 2.0 / 3.0);
}

static double log_e_of(const struct stats_bernoulli_grid *grid, uint64_t trials, uint64_t events)
{
    struct stats_bernoulli_state state = {0};
    stats_bernoulli_add(grid, &state, trials, events);
    return stats_bernoulli_log_e(&state);
}

static double log_weight_of(uint32_t rank)
{
    CHECK(rank > 0);
    uint32_t b = 31 - (uint32_t)__builtin_clz(rank);
    return -stats_ln((double)(UINT32_C(1) << b) * (b + 1) * (b + 2));
}

struct diff_judgement diff_weigh(const struct diff_tests *tests, uint32_t row,
                                 const struct diff_counts *counts)
{
    uint64_t single = counts->candidate + counts->secondary;
    return (struct diff_judgement){
        .row = row,
        .log_e = log_e_of(&tests->more, single, counts->candidate),
        .log_noisy = log_e_of(&tests->less, single + 2 * counts->both, counts->candidate + counts->both),
        .log_weight = log_weight_of(counts->rank),
    };
}

// ---- order ----

static int compare(const struct diff_judgement *a, const struct diff_judgement *b)
{
    double score_a = a->log_e + a->log_weight, score_b = b->log_e + b->log_weight;
    if (a->verdict != b->verdict)
        return a->verdict > b->verdict ? -1 : 1;
    if (score_a > score_b || score_a < score_b)
        return score_a > score_b ? -1 : 1;
    return a->row < b->row ? -1 : 1;
}

static void sift(struct diff_judgement *heap, uint32_t at, uint32_t count)
{
    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && compare(&heap[child], &heap[child + 1]) < 0;
        if (compare(&heap[at], &heap[child]) >= 0)
            return;
        struct diff_judgement swapped = heap[at];
        heap[at] = heap[child];
        heap[child] = swapped;
    }
}

// By heapsort.
static void sort(struct diff_judgement *judgements, uint32_t count)
{
    for (uint32_t i = count / 2; i > 0; i--)
        sift(judgements, i - 1, count);
    for (uint32_t left = count; left > 1; left--) {
        struct diff_judgement last = judgements[left - 1];
        judgements[left - 1] = judgements[0];
        judgements[0] = last;
        sift(judgements, 0, left - 1);
    }
}

// ---- verdicts ----

// e-BH: the k strongest, for the largest k such that all of them reach 1 / (alpha k).
static uint32_t discoveries(const struct diff_judgement *sorted, uint32_t count, double alpha)
{
    for (uint32_t k = count; k > 0; k--) {
        const struct diff_judgement *weakest = &sorted[k - 1];
        if (weakest->log_e + weakest->log_weight >= -stats_ln(alpha * k))
            return k;
    }
    return 0;
}

void diff_judge(struct diff_judgement *judgements, uint32_t count, double alpha, double beta)
{
    CHECK(alpha > 0 && alpha < 1 && beta > 0 && beta < 1);
    for (uint32_t i = 0; i < count; i++)
        judgements[i].verdict = DIFF_UNDECIDED;
    sort(judgements, count);
    uint32_t found = discoveries(judgements, count, alpha);
    for (uint32_t i = 0; i < count; i++)
        judgements[i].verdict = i < found                                    ? DIFF_DIFFERENT
                                : judgements[i].log_noisy >= -stats_ln(beta) ? DIFF_NOISY
                                                                             : DIFF_UNDECIDED;
    sort(judgements, count);
}

uint64_t diff_least(const struct diff_tests *tests, double alpha)
{
    CHECK(alpha > 0 && alpha < 1);
    uint64_t least = 1;
    while (log_e_of(&tests->more, least, least) + log_weight_of(1) < -stats_ln(alpha))
        least++;
    return least;
}
