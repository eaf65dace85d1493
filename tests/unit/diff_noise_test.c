// SPDX-License-Identifier: Apache-2.0
// Noise and difference: counts, folding, verdicts, and how often verdicts are wrong.
#include <inttypes.h>
#include <math.h>

#include "base/check.h"
#include "base/rng.h"
#include "ship/diff/noise.h"
#include "test.h"

static struct diff_noise noise;
static struct diff_judgement judged[DIFF_ROWS_MAX];

static int set_up(void **state)
{
    (void)state;
    memset(&noise, 0, sizeof noise);
    return 0;
}
EACH_TEST(set_up, NULL);

// A comparison that found these paths, separated by spaces.
static struct diff_comparison *found(struct diff_comparison *comparison, const char *paths)
{
    memset(comparison, 0, offsetof(struct diff_comparison, findings));
    while (*paths != '\0') {
        size_t len = strcspn(paths, " ");
        struct diff_finding *finding = &comparison->findings[comparison->count++];
        *finding = (struct diff_finding){.kind = DIFF_VALUE, .count = 1};
        assert_true(len < sizeof finding->path);
        memcpy(finding->path, paths, len);
        paths += len + (paths[len] == ' ');
    }
    return comparison;
}

static void triple(const char *candidate, const char *secondary)
{
    static struct diff_comparison a, b;
    diff_noise_add(&noise, found(&a, candidate), secondary != NULL ? found(&b, secondary) : NULL);
}

static const struct diff_row *row_of(const char *path)
{
    for (uint32_t i = 0; i < noise.row_count; i++)
        if (strcmp(noise.rows[i].path, path) == 0)
            return &noise.rows[i];
    fail_msg("no row %s", path);
    return NULL;
}

static enum diff_verdict verdict_of(const char *path)
{
    uint32_t count = diff_noise_judge(&noise, 0.01, 0.05, judged);
    for (uint32_t i = 0; i < count; i++)
        if (&noise.rows[judged[i].row] == row_of(path))
            return judged[i].verdict;
    fail_msg("no judgement of %s", path);
    return DIFF_UNDECIDED;
}

TEST(each_request_counts_once_per_path)
{
    triple("body.a body.b", "body.b body.c");
    triple("body.a body.b", "body.b");
    triple("", "");
    triple("body.a", NULL);
    assert_int_equal(noise.triples, 3);
    assert_int_equal(noise.pairs, 1);
    assert_int_equal(noise.row_count, 3);
    const struct diff_row *a = row_of("body.a"), *b = row_of("body.b"), *c = row_of("body.c");
    assert_true(a->candidate == 2 && a->both == 0 && a->secondary == 0 && a->alone == 1 && a->rank == 1);
    assert_true(b->candidate == 0 && b->both == 2 && b->secondary == 0 && b->alone == 0 && b->rank == 2);
    assert_true(c->candidate == 0 && c->both == 0 && c->secondary == 1 && c->alone == 0 && c->rank == 3);
}

TEST(a_difference_is_told_from_noise)
{
    for (int i = 0; i < 60; i++)
        triple(i % 3 == 0 ? "body.id body.price" : "body.id", "body.id");
    assert_int_equal(verdict_of("body.price"), DIFF_DIFFERENT);
    assert_int_equal(verdict_of("body.id"), DIFF_NOISY);
    triple("body.new", "");
    assert_int_equal(verdict_of("body.new"), DIFF_UNDECIDED);
    assert_string_equal(noise.rows[judged[0].row].path, "body.price");
    assert_string_equal(noise.rows[judged[1].row].path, "body.id");
    char words[DIFF_NOISE_WORDS_BYTES];
    diff_noise_words(&noise, &judged[0], words);
    assert_non_null(
        strstr(words, "body.price (value): different. Of 61 requests asked three times, the new version "
                      "alone differed in 20, the old one alone from itself in 0, both in 0: chance alone "
                      "does that at most once in "));
    diff_noise_words(&noise, &judged[1], words);
    assert_string_equal(
        words, "body.id (value): noisy. Of 61 requests asked three times, the new version alone "
               "differed in 0, the old one alone from itself in 0, both in 60: it differs from itself, "
               "and the new version less than twice as often.");
    diff_noise_words(&noise, &judged[2], words);
    assert_string_equal(
        words, "body.new (value): undecided. Of 61 requests asked three times, the new version alone "
               "differed in 1, the old one alone from itself in 0, both in 0: too few to tell from "
               "chance.");
}

TEST(words_name_the_class_and_what_is_no_evidence)
{
    static struct diff_comparison one;
    char words[DIFF_NOISE_WORDS_BYTES];
    found(&one, "body.at")->findings[0].class = DIFF_CLASS_EPOCH;
    diff_noise_add(&noise, &one, NULL);
    diff_noise_add(&noise, &one, &one);
    (void)diff_noise_judge(&noise, 0.01, 0.05, judged);
    diff_noise_words(&noise, &judged[0], words);
    assert_string_equal(
        words, "body.at (value): undecided. Of 1 request asked three times, the new version alone "
               "differed in 0, the old one alone from itself in 0, both in 1: nothing speaks against "
               "the new version. Seen in 1 more that are no evidence. All values are of the class "
               "epoch.");
    diff_noise_add(&noise, found(&one, "body.at"), NULL);
    assert_int_equal(row_of("body.at")->class, DIFF_CLASS_NONE);
}

TEST(requests_without_a_secondary_are_no_evidence)
{
    for (int i = 0; i < 1000; i++)
        triple("body.a", NULL);
    assert_int_equal(verdict_of("body.a"), DIFF_UNDECIDED);
    assert_true(fabs(judged[0].log_e) < 1e-12);
    assert_int_equal(row_of("body.a")->alone, 1000);
}

// ln E of n requests in which the candidate alone differs, by hand: the mean over the grid of (2 p_j)^n.
TEST(evidence_is_the_mean_over_the_grid)
{
    for (int i = 0; i < 10; i++)
        triple("body.a", "");
    (void)diff_noise_judge(&noise, 0.01, 0.05, judged);
    double sum = 0;
    for (int j = 0; j < 24; j++) {
        double step = 0.01 * pow(350.0, j / 23.0);
        sum += pow(2.0 / (1.0 + exp(-step)), 10);
    }
    assert_true(fabs(judged[0].log_e - log(sum / 24)) < 1e-9);
}

TEST(later_paths_need_more_evidence)
{
    char path[64];
    for (int i = 0; i < 90; i++) {
        snprintf(path, sizeof path, "body.p%d.x", i);
        triple(path, path);
    }
    uint64_t needed[2] = {0};
    for (int i = 0; i < 2; i++) {
        const char *name = i == 0 ? "body.p0.x" : "body.p89.x";
        while (verdict_of(name) != DIFF_DIFFERENT) {
            triple(name, "");
            needed[i]++;
        }
        memset(&noise.rows[i == 0 ? 0 : 89].candidate, 0, sizeof(uint64_t));
    }
    assert_int_equal(needed[0], 12); // 2 / 0.01
    assert_int_equal(needed[1], 24); // 64 * 7 * 8 / 0.01
}

TEST(names_beyond_the_limit_are_one_path)
{
    char path[64];
    for (int i = 0; i <= DIFF_CHILDREN_MAX + 20; i++) {
        snprintf(path, sizeof path, "body.users.u%c%c.age", 'a' + i / 26, 'a' + i % 26);
        triple(path, "");
        triple("body.fixed", "");
    }
    assert_int_equal(noise.row_count, 2);
    const struct diff_row *users = row_of("body.users{*}.age"), *fixed = row_of("body.fixed");
    assert_int_equal(fixed->candidate, DIFF_CHILDREN_MAX + 21);
    assert_int_equal(users->candidate + users->earlier, DIFF_CHILDREN_MAX + 21);
    assert_int_equal(users->folded, DIFF_CHILDREN_MAX);
    assert_int_equal(users->candidate, 22); // of the first row, and of all that came after folding
    assert_int_equal(users->rank, 1);
}

TEST(quoted_names_fold_too)
{
    char path[64];
    for (int i = 0; i <= DIFF_CHILDREN_MAX; i++) {
        snprintf(path, sizeof path, "body[\"].[\\\"%d\"][]", i);
        triple(path, "");
    }
    assert_int_equal(noise.row_count, 1);
    assert_int_equal(row_of("body{*}[]")->folded, DIFF_CHILDREN_MAX);
}

TEST(paths_without_end_are_counted_and_none_is_lost)
{
    enum { PATHS = 100000 }; // of each of two kinds: many names below one path, and below each of sixty
    char brackets[2 * 60 + 1];
    for (size_t i = 0; i < sizeof brackets; i++)
        brackets[i] = i + 1 == sizeof brackets ? '\0' : i % 2 == 0 ? '[' : ']';
    for (int i = 0; i < PATHS; i++) {
        static struct diff_comparison one;
        memset(&one, 0, offsetof(struct diff_comparison, findings));
        one.count = 2;
        one.findings[0] = one.findings[1] = (struct diff_finding){.kind = DIFF_VALUE, .count = 1};
        snprintf(one.findings[0].path, DIFF_PATH_BYTES, "body.m%d.x", i);
        snprintf(one.findings[1].path, DIFF_PATH_BYTES, "body.list%.*s.n%d", 2 * (i % 60), brackets, i);
        diff_noise_add(&noise, &one, NULL);
    }
    assert_true(noise.row_count <= DIFF_ROWS_MAX && noise.prefix_count <= DIFF_PREFIXES_MAX);
    uint64_t counted = 0;
    for (uint32_t i = 0; i < noise.row_count; i++)
        counted += noise.rows[i].alone + noise.rows[i].earlier;
    assert_int_equal(counted, 2 * PATHS);
    assert_int_equal(noise.pairs, PATHS);
}

TEST(rows_that_find_no_place_share_one)
{
    char path[DIFF_PATH_BYTES];
    uint32_t paths = 0;
    // Few names below each path, so that nothing folds.
    for (int i = 0; i < 30; i++)
        for (int j = 0; j < 30; j++)
            for (int k = 0; k < 2; k++, paths++) {
                snprintf(path, sizeof path, "body.a%d.b%d.c%d", i, j, k);
                triple(path, NULL);
            }
    assert_int_equal(noise.row_count, DIFF_ROWS_MAX - DIFF_KINDS + 1);
    const struct diff_row *other = row_of("(other paths)");
    assert_int_equal(other->alone, paths - (DIFF_ROWS_MAX - DIFF_KINDS));
    assert_int_equal(noise.crowded, other->alone);
}

TEST(what_is_written_is_read_again)
{
    static uint8_t bytes[DIFF_NOISE_BYTES];
    static struct diff_noise again;
    static struct diff_judgement judged_again[DIFF_ROWS_MAX];
    struct rng rng;
    char path[64];
    rng_init(&rng, 7);
    for (int i = 0; i < 3000; i++) {
        snprintf(path, sizeof path, "body.m%" PRIu64 ".x%" PRIu64, rng_below(&rng, 4), rng_below(&rng, 300));
        triple(rng_below(&rng, 2) ? path : "body.q", rng_below(&rng, 3) ? path : "");
    }
    assert_int_equal(noise.folded_count, 4);
    struct wire_writer writer = {.data = bytes, .cap = sizeof bytes};
    diff_noise_put(&noise, &writer);
    assert_false(writer.full);
    struct wire_reader reader = {.data = bytes, .len = writer.len};
    assert_int_equal(diff_noise_get(&reader, &again), STATUS_OK);
    assert_true(wire_done(&reader));
    uint32_t count = diff_noise_judge(&noise, 0.01, 0.05, judged);
    assert_int_equal(diff_noise_judge(&again, 0.01, 0.05, judged_again), count);
    for (uint32_t i = 0; i < count; i++)
        assert_true(judged[i].row == judged_again[i].row && judged[i].verdict == judged_again[i].verdict);
    static uint8_t second[DIFF_NOISE_BYTES];
    struct wire_writer rewriter = {.data = second, .cap = sizeof second};
    diff_noise_put(&again, &rewriter);
    assert_int_equal(rewriter.len, writer.len);
    assert_memory_equal(second, bytes, writer.len);
    static struct diff_comparison next;
    diff_noise_add(&noise, found(&next, "body.m1.x7 body.q body.m9.x1"), NULL);
    diff_noise_add(&again, &next, NULL);
    assert_int_equal(again.row_count, noise.row_count);
    assert_memory_equal(again.rows, noise.rows, noise.row_count * sizeof noise.rows[0]);
    for (size_t len = 0; len < writer.len; len += 1 + len / 8) {
        reader = (struct wire_reader){.data = bytes, .len = len};
        assert_int_equal(diff_noise_get(&reader, &again), STATUS_CORRUPT);
    }
}

// Twenty paths, each with a rate of its own at which an answer of either version differs from the primary's;
// half of them always differ together.
static void simulate(struct rng *rng, uint32_t requests, double regression)
{
    for (uint32_t n = 0; n < requests; n++) {
        char storage[2][512];
        struct text paths[2] = {text_over(storage[0], 512), text_over(storage[1], 512)};
        for (int i = 0; i < 20; i++) {
            double rate = i < 4 ? 1.0 : 0.3 / (i - 3);
            bool together = i % 2 == 0 && rng_double(rng) < rate;
            for (int side = 0; side < 2; side++)
                if (i % 2 == 0 ? together : rng_double(rng) < rate)
                    text_addf(&paths[side], "body.p%d ", i);
        }
        if (rng_double(rng) < regression)
            text_addf(&paths[0], "body.price ");
        triple(storage[0], storage[1]);
    }
}

TEST(identical_versions_are_rarely_called_different)
{
    uint32_t runs_wrong = 0;
    for (uint64_t run = 0; run < 100; run++) {
        struct rng rng;
        memset(&noise, 0, sizeof noise);
        rng_init(&rng, run + 1);
        bool wrong = false;
        for (int look = 0; look < 10; look++) { // after each hundred requests
            simulate(&rng, 100, 0);
            (void)diff_noise_judge(&noise, 0.01, 0.05, judged);
            wrong = wrong || judged[0].verdict == DIFF_DIFFERENT;
        }
        runs_wrong += wrong;
    }
    assert_true(runs_wrong <= 3); // one is expected at most; more than three has a chance of 2 %
}

TEST(one_regression_in_a_hundred_answers_is_found)
{
    uint64_t needed = 0;
    for (uint64_t run = 0; run < 10; run++) {
        struct rng rng;
        memset(&noise, 0, sizeof noise);
        rng_init(&rng, run + 1000);
        triple("body.price", "body.price"); // so that there is a row
        do
            simulate(&rng, 50, 0.01);
        while (verdict_of("body.price") != DIFF_DIFFERENT && noise.triples < 10000);
        needed += noise.triples;
        assert_int_equal(verdict_of("body.p0"), DIFF_NOISY);
    }
    assert_in_range(needed / 10, 1000, 2000);
}
