// SPDX-License-Identifier: Apache-2.0
#include "ship/diff/noise.h"

#include <inttypes.h>

#include "ship/diff/noise_private.h"
#include "stats/bernoulli.h"
#include "stats/real.h"

// What differs in one request, per row.
enum { OF_CANDIDATE = 1, OF_SECONDARY = 2 };

#define SHOWN_LOG_MAX 23.0 // "once in 9 744 803 446 times" is enough

static void make_rows(struct diff_noise *noise, const struct diff_comparison *comparison)
{
    noise->beyond += comparison->beyond;
    for (uint32_t i = 0; i < comparison->count; i++)
        diff_noise_make_row(noise, &comparison->findings[i]);
}

static void mark_rows(struct diff_noise *noise, const struct diff_comparison *comparison,
                      uint8_t marks[DIFF_ROWS_MAX], uint8_t mark)
{
    for (uint32_t i = 0; i < comparison->count; i++) {
        struct diff_row *row = diff_noise_row(noise, &comparison->findings[i]);
        CHECK(row != NULL);
        marks[row - noise->rows] |= mark;
        if (row->class != comparison->findings[i].class)
            row->class = DIFF_CLASS_NONE;
        noise->crowded += row->path[0] == '(';
    }
}

void diff_noise_add(struct diff_noise *noise, const struct diff_comparison *candidate,
                    const struct diff_comparison *secondary)
{
    uint8_t marks[DIFF_ROWS_MAX] = {0};
    *(secondary != NULL ? &noise->triples : &noise->pairs) += 1;
    make_rows(noise, candidate);
    if (secondary != NULL)
        make_rows(noise, secondary);
    mark_rows(noise, candidate, marks, OF_CANDIDATE);
    if (secondary != NULL)
        mark_rows(noise, secondary, marks, OF_SECONDARY);
    for (uint32_t i = 0; i < noise->row_count; i++) {
        struct diff_row *row = &noise->rows[i];
        if (marks[i] == 0)
            continue;
        *(secondary == NULL          ? &row->alone
          : marks[i] == OF_CANDIDATE ? &row->candidate
          : marks[i] == OF_SECONDARY ? &row->secondary
                                     : &row->both) += 1;
    }
}

// The tests of one row. `more`: of the requests where one of both differs, at most half are the candidate's.
// `less`: the candidate differs at least twice as often as the primary from itself. Let C, S and B be the
// chances that the candidate alone, the secondary alone, or both differ: C + B >= 2 (S + B). A bet at p = 2/3
// (1 - u) multiplies by 1 - u for each difference of the candidate and by 1 + 2u for each of the secondary,
// so by both where both differ; it gains -u (C - 2S - B) - 2 u^2 B on average, which is never above 0.
struct tests {
    struct stats_bernoulli_grid more, less;
};

static double log_e_of(const struct stats_bernoulli_grid *grid, uint64_t trials, uint64_t events)
{
    struct stats_bernoulli_state state = {0};
    stats_bernoulli_add(grid, &state, trials, events);
    return stats_bernoulli_log_e(&state);
}

static double log_weight(uint32_t rank)
{
    uint32_t b = 31 - (uint32_t)__builtin_clz(rank);
    return -stats_ln((double)(UINT32_C(1) << b) * (b + 1) * (b + 2));
}

static int compare(const struct diff_noise *noise, const struct diff_judgement *a,
                   const struct diff_judgement *b)
{
    double score_a = a->log_e + log_weight(noise->rows[a->row].rank);
    double score_b = b->log_e + log_weight(noise->rows[b->row].rank);
    if (a->verdict != b->verdict)
        return a->verdict > b->verdict ? -1 : 1;
    if (score_a > score_b || score_a < score_b)
        return score_a > score_b ? -1 : 1;
    return a->row < b->row ? -1 : 1;
}

static void sift(const struct diff_noise *noise, struct diff_judgement *heap, uint32_t at, uint32_t count)
{
    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && compare(noise, &heap[child], &heap[child + 1]) < 0;
        if (compare(noise, &heap[at], &heap[child]) >= 0)
            return;
        struct diff_judgement swapped = heap[at];
        heap[at] = heap[child];
        heap[child] = swapped;
    }
}

// By heapsort.
static void sort(const struct diff_noise *noise, struct diff_judgement *judgements, uint32_t count)
{
    for (uint32_t i = count / 2; i > 0; i--)
        sift(noise, judgements, i - 1, count);
    for (uint32_t left = count; left > 1; left--) {
        struct diff_judgement last = judgements[left - 1];
        judgements[left - 1] = judgements[0];
        judgements[0] = last;
        sift(noise, judgements, 0, left - 1);
    }
}

// e-BH: the k strongest, for the largest k such that all of them reach 1 / (alpha k).
static uint32_t discoveries(const struct diff_noise *noise, const struct diff_judgement *sorted,
                            uint32_t count, double alpha)
{
    for (uint32_t k = count; k > 0; k--) {
        const struct diff_judgement *weakest = &sorted[k - 1];
        if (weakest->log_e + log_weight(noise->rows[weakest->row].rank) >= -stats_ln(alpha * k))
            return k;
    }
    return 0;
}

uint32_t diff_noise_judge(const struct diff_noise *noise, double alpha, double beta,
                          struct diff_judgement judgements[DIFF_ROWS_MAX])
{
    struct tests tests;
    CHECK(alpha > 0 && alpha < 1 && beta > 0 && beta < 1);
    stats_bernoulli_grid_init(&tests.more, STATS_BERNOULLI_ABOVE, 0.5);
    stats_bernoulli_grid_init(&tests.less, STATS_BERNOULLI_BELOW, 2.0 / 3.0);
    for (uint32_t i = 0; i < noise->row_count; i++) {
        const struct diff_row *row = &noise->rows[i];
        uint64_t single = row->candidate + row->secondary;
        judgements[i] = (struct diff_judgement){
            .row = i,
            .log_e = log_e_of(&tests.more, single, row->candidate),
            .log_noisy = log_e_of(&tests.less, single + 2 * row->both, row->candidate + row->both),
        };
    }
    sort(noise, judgements, noise->row_count);
    uint32_t found = discoveries(noise, judgements, noise->row_count, alpha);
    for (uint32_t i = 0; i < noise->row_count; i++)
        judgements[i].verdict = i < found                                    ? DIFF_DIFFERENT
                                : judgements[i].log_noisy >= -stats_ln(beta) ? DIFF_NOISY
                                                                             : DIFF_UNDECIDED;
    sort(noise, judgements, noise->row_count);
    return noise->row_count;
}

const char *diff_verdict_name(enum diff_verdict verdict)
{
    static const char *const NAMES[] = {"undecided", "noisy", "different"};
    CHECK((unsigned)verdict < ARRAY_LEN(NAMES));
    return NAMES[verdict];
}

void diff_noise_words(const struct diff_noise *noise, const struct diff_judgement *judgement,
                      char words[DIFF_NOISE_WORDS_BYTES])
{
    CHECK(judgement->row < noise->row_count);
    const struct diff_row *row = &noise->rows[judgement->row];
    struct text text = text_over(words, DIFF_NOISE_WORDS_BYTES);
    text_addf(&text, "%s (%s): %s. Of ", row->path, diff_kind_name(row->kind),
              diff_verdict_name(judgement->verdict));
    text_add_count(&text, noise->triples);
    text_addf(&text, " request%s asked three times, the new version alone differed in ",
              noise->triples == 1 ? "" : "s");
    text_add_count(&text, row->candidate);
    text_addf(&text, ", the old one alone from itself in ");
    text_add_count(&text, row->secondary);
    text_addf(&text, ", both in ");
    text_add_count(&text, row->both);
    if (judgement->verdict == DIFF_DIFFERENT) {
        text_addf(&text, ": chance alone does that at most once in ");
        text_add_count(
            &text, (uint64_t)stats_exp(judgement->log_e < SHOWN_LOG_MAX ? judgement->log_e : SHOWN_LOG_MAX));
        text_addf(&text, " times.");
    } else if (judgement->verdict == DIFF_NOISY)
        text_addf(&text, ": it differs from itself, and the new version less than twice as often.");
    else // undecided
        text_addf(&text, row->candidate > row->secondary ? ": too few to tell from chance."
                                                         : ": nothing speaks against the new version.");
    if (row->alone + row->earlier > 0) {
        text_addf(&text, " Seen in ");
        text_add_count(&text, row->alone + row->earlier);
        text_addf(&text, " more that are no evidence.");
    }
    if (row->class != DIFF_CLASS_NONE)
        text_addf(&text, " All values are of the class %s.", diff_class_name(row->class));
}
