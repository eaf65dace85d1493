// SPDX-License-Identifier: Apache-2.0
#include "ship/diff/noise.h"

#include <inttypes.h>

#include "ship/diff/noise_private.h"
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

uint32_t diff_noise_judge(const struct diff_noise *noise, double alpha, double beta,
                          struct diff_judgement judgements[DIFF_ROWS_MAX])
{
    struct diff_tests tests;
    diff_tests_init(&tests);
    for (uint32_t i = 0; i < noise->row_count; i++) {
        const struct diff_row *row = &noise->rows[i];
        const struct diff_counts counts = {row->rank, row->both, row->candidate, row->secondary};
        judgements[i] = diff_weigh(&tests, i, &counts);
    }
    diff_judge(judgements, noise->row_count, alpha, beta);
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
