// SPDX-License-Identifier: Apache-2.0
// A run's report as people read it: counts with both identities, and a sentence for each path that differs.
#include "ship/shadow/shadow_private.h"

const char *shadow_uncompared_name(enum shadow_uncompared reason)
{
    static const char *const names[SHADOW_UNCOMPAREDS] = {"client_gone", "primary_failed", "candidate_failed",
                                                          "queue_full"};
    CHECK((unsigned)reason < SHADOW_UNCOMPAREDS);
    return names[reason];
}

static const char *end_name(enum mirror_end end)
{
    static const char *const names[MIRROR_ENDS] = {"answered", "connect", "tls",
                                                   "timeout",  "reset",   "broken"};
    return names[end];
}

// ---- sentences ----

static uint64_t differing(const struct diff_row *row)
{
    return row->both + row->candidate + row->alone + row->earlier;
}

static void add_share(struct text *text, uint64_t part, uint64_t whole)
{
    double percent = whole > 0 ? 100.0 * (double)part / (double)whole : 0.0;
    if (part >= whole)
        text_addf(text, "all");
    else
        text_addf(text, percent >= 10 ? "%.0f %%" : percent >= 0.1 ? "%.1f %%" : "%.2g %%", percent);
    text_addf(text, " of ");
    text_add_count(text, whole);
    text_addf(text, whole == 1 ? " request" : " requests");
}

static void add_claim(struct text *text, const struct shadow_report *report, const struct diff_row *row)
{
    static const struct {
        const char *before, *after;
    } CLAIMS[DIFF_KINDS] = {
        [DIFF_ADDED] = {"adds ", ""},
        [DIFF_MISSING] = {"leaves out ", ""},
        [DIFF_TYPE] = {"answers ", " with another type"},
        [DIFF_VALUE] = {"answers ", " otherwise"},
        [DIFF_ORDER] = {"orders ", " otherwise"},
        [DIFF_SPELLING] = {"writes the number ", " otherwise"},
        [DIFF_STATUS] = {"answers with another ", ""},
        [DIFF_BYTES] = {"answers with other bytes in the ", ""},
        [DIFF_CUT] = {"ends the ", " otherwise"},
    };
    text_addf(text, "%s %s%s%s in ", report->candidate, CLAIMS[row->kind].before, row->path,
              CLAIMS[row->kind].after);
    add_share(text, differing(row), report->counts.triples + report->counts.pairs);
}

static void add_noise(struct text *text, const struct shadow_report *report, const struct diff_row *row)
{
    if (report->noise.triples == 0) {
        text_addf(text, "; %s was never asked twice, so noise is not known", report->primary);
        return;
    }
    text_addf(text, "; of ");
    text_add_count(text, report->noise.triples);
    text_addf(text, " that %s was asked twice, it differed from itself in ", report->primary);
    if (row->both + row->secondary == 0)
        text_addf(text, "none");
    else
        text_add_count(text, row->both + row->secondary);
}

void shadow_report_words(const struct shadow_report *report, const struct diff_judgement *judged,
                         char words[SHADOW_WORDS_BYTES])
{
    const struct diff_row *row = &report->noise.rows[judged->row];
    struct text text = text_over(words, SHADOW_WORDS_BYTES);
    add_claim(&text, report, row);
    add_noise(&text, report, row);
    if (judged->verdict == DIFF_DIFFERENT)
        text_addf(&text, ".");
    else if (judged->verdict == DIFF_NOISY)
        text_addf(&text, ": noise.");
    else if (row->candidate > row->secondary || report->noise.triples == 0)
        text_addf(&text, ": too few to tell from chance.");
    else
        text_addf(&text, ": nothing speaks against %s.", report->candidate);
    if (row->class != DIFF_CLASS_NONE)
        text_addf(&text, " All values are of the class %s.", diff_class_name(row->class));
}

// ---- JSON ----

static void write_uncompared(struct json_out *out, const struct shadow_counts *counts)
{
    json_out_open(out, "uncompared", '{');
    for (int i = 0; i < SHADOW_UNCOMPAREDS; i++)
        json_out_count(out, shadow_uncompared_name(i), counts->uncompared[i]);
    json_out_close(out, '}');
    json_out_open(out, "candidate_ends", '{');
    for (int i = 0; i < MIRROR_ENDS; i++)
        json_out_count(out, end_name(i), counts->candidate_ends[i]);
    json_out_close(out, '}');
}

static void write_slow(struct json_out *out, const char *member, const uint64_t slow[ROLLOUT_SHADOW_EDGES])
{
    json_out_open(out, member, '[');
    for (int k = 0; k < ROLLOUT_SHADOW_EDGES; k++)
        json_out_count(out, NULL, slow[k]);
    json_out_close(out, ']');
}

static void write_counts(struct json_out *out, const struct shadow_counts *counts)
{
    json_out_open(out, "counts", '{');
    json_out_count(out, "sent", counts->sent);
    json_out_count(out, "compared", counts->triples + counts->pairs);
    json_out_count(out, "with_secondary", counts->triples);
    json_out_count(out, "differed", counts->differed);
    json_out_count(out, "by_digest", counts->by_digest);
    write_uncompared(out, counts);
    json_out_count(out, "candidate_errors", counts->candidate_errors);
    json_out_count(out, "primary_errors", counts->primary_errors);
    write_slow(out, "slow_candidate", counts->slow_candidate);
    write_slow(out, "slow_primary", counts->slow_primary);
    json_out_count(out, "examples_refused", counts->examples_refused);
    json_out_close(out, '}');
}

static void write_examples(struct json_out *out, const struct shadow_report *report, uint32_t rank)
{
    json_out_open(out, "examples", '[');
    for (uint32_t i = 0; i < report->example_count; i++)
        if (report->examples[i].rank == rank)
            shadow_example_write(&report->examples[i], NULL, out);
    json_out_close(out, ']');
}

static void write_row(struct json_out *out, const struct shadow_report *report,
                      const struct diff_judgement *judged)
{
    const struct diff_row *row = &report->noise.rows[judged->row];
    uint64_t compared = report->counts.triples + report->counts.pairs;
    char words[SHADOW_WORDS_BYTES];
    shadow_report_words(report, judged, words);
    json_out_open(out, NULL, '{');
    json_out_text(out, "path", row->path);
    json_out_text(out, "kind", diff_kind_name(row->kind));
    json_out_text(out, "verdict", diff_verdict_name(judged->verdict));
    json_out_text(out, "words", words);
    json_out_text(out, "class", diff_class_name(row->class));
    json_out_count(out, "requests", differing(row));
    json_out_real(out, "share", compared > 0 ? (double)differing(row) / (double)compared : 0.0);
    json_out_count(out, "candidate_alone", row->candidate);
    json_out_count(out, "secondary_alone", row->secondary);
    json_out_count(out, "both", row->both);
    json_out_count(out, "without_secondary", row->alone);
    json_out_count(out, "folded", row->folded);
    json_out_real(out, "log_e", judged->log_e);
    json_out_real(out, "log_e_noisy", judged->log_noisy);
    write_examples(out, report, row->rank);
    json_out_close(out, '}');
}

void shadow_report_write(const struct shadow_report *report, struct slice path, struct json_out *out)
{
    uint32_t verdicts[DIFF_DIFFERENT + 1] = {0};
    for (uint32_t i = 0; i < report->judged_count; i++)
        verdicts[report->judged[i].verdict]++;
    json_out_open(out, NULL, '{');
    json_out_text(out, "service", report->service);
    json_out_text(out, "rollout", report->rollout[0] != '\0' ? report->rollout : NULL);
    json_out_text(out, "primary", report->primary);
    json_out_text(out, "candidate", report->candidate);
    json_out_count(out, "run", report->run);
    json_out_bool(out, "ended", report->ended);
    json_out_time(out, "first_ms", report->first_ms);
    json_out_time(out, "last_ms", report->last_ms);
    write_counts(out, &report->counts);
    json_out_open(out, "paths", '{');
    for (int verdict = DIFF_DIFFERENT; verdict >= 0; verdict--)
        json_out_count(out, diff_verdict_name(verdict), verdicts[verdict]);
    json_out_close(out, '}');
    json_out_open(out, "rows", '[');
    for (uint32_t i = 0; i < report->judged_count; i++)
        if (path.len == 0 || diff_path_fits(path, slice_of(report->noise.rows[report->judged[i].row].path)))
            write_row(out, report, &report->judged[i]);
    json_out_close(out, ']');
    json_out_close(out, '}');
}
