// SPDX-License-Identifier: Apache-2.0
// Runs: what is compared, counted, told to the engine, kept and forgotten.
#include "base/check.h"
#include "base/heap.h"
#include "net/compress/compress.h"
#include "shadow_world.h"
#include "test.h"

static struct shadow *shadow;
static struct shadow_report *report;
static const struct shadow_rules rules = {
    .service = {"shop", 4}, .primary = {"v1", 2}, .candidate = {"v2", 2}};

static int set_up(void **state)
{
    const struct shadow_parts parts = {.key = {3, 4}};
    (void)state;
    return shadow_create(&parts, &shadow) == STATUS_OK && shadow_begin(shadow, 1, &rules) == STATUS_OK ? 0
                                                                                                       : 1;
}

static int tear_down(void **state)
{
    (void)state;
    shadow_world_gate(false);
    shadow_destroy(shadow);
    heap_free(report);
    report = NULL;
    return shadow_world_alive();
}
EACH_TEST(set_up, tear_down);

static const struct shadow_report *look(uint64_t run)
{
    shadow_wait(shadow);
    heap_free(report);
    report = NULL;
    assert_int_equal(shadow_report(shadow, run, &report), STATUS_OK);
    return report;
}

static const struct diff_judgement *judged(const char *path)
{
    for (uint32_t i = 0; i < report->judged_count; i++)
        if (strcmp(report->noise.rows[report->judged[i].row].path, path) == 0)
            return &report->judged[i];
    fail_msg("no row %s", path);
    return NULL;
}

static void take(const struct shadow_world_answer answers[3])
{
    shadow_take(shadow, shadow_world_seen(1, "/cart?id=7", answers));
}

TEST(what_differs_is_told_from_noise)
{
    char bodies[3][64];
    for (int i = 0; i < 300; i++) {
        for (int j = 0; j < 3; j++)
            snprintf(bodies[j], sizeof bodies[j], "{\"id\":%d,\"price\":%d}", i * 7 + j,
                     j == 1 && i % 10 == 0 ? 13 : 12);
        shadow_world_give(shadow, 1, bodies[0], bodies[1], i % 3 == 0 ? NULL : bodies[2]);
    }
    look(1);
    assert_int_equal(report->counts.sent, 300);
    assert_int_equal(report->counts.triples, 200);
    assert_int_equal(report->counts.pairs, 100);
    assert_int_equal(report->counts.differed, 300);
    assert_int_equal(judged("body.price")->verdict, DIFF_DIFFERENT);
    assert_int_equal(judged("body.id")->verdict, DIFF_NOISY);
    assert_int_equal(report->judged_count, 2);
    char words[SHADOW_WORDS_BYTES];
    shadow_report_words(report, judged("body.price"), words);
    assert_string_equal(words,
                        "v2 answers body.price otherwise in 10 % of 300 requests; of 200 that v1 was asked "
                        "twice, it differed from itself in none.");
    shadow_report_words(report, judged("body.id"), words);
    assert_string_equal(words,
                        "v2 answers body.id otherwise in all of 300 requests; of 200 that v1 was asked "
                        "twice, it differed from itself in 200: noise.");
    assert_int_equal(report->example_count, 2 * SHADOW_EXAMPLES_MAX);
    assert_string_equal(report->examples[0].target, "/cart?id=7");
    assert_true(report->last_ms - report->first_ms == 299);
}

TEST(an_answer_that_is_missing)
{
    take((struct shadow_world_answer[3]){{.json = NULL}, {.json = "1"}, {.json = "1"}});
    take((struct shadow_world_answer[3]){{.json = "1"}, {.json = NULL}, {.json = "1"}});
    take((struct shadow_world_answer[3]){
        {.json = "1", .cut = MIRROR_CUT_BROKEN}, {.json = "1"}, {.json = "1"}});
    take((struct shadow_world_answer[3]){{.json = "1"}, {.json = "1"}, {.json = NULL}});
    const struct shadow_counts *counts = &look(1)->counts;
    assert_int_equal(counts->uncompared[SHADOW_PRIMARY_FAILED], 2);
    assert_int_equal(counts->uncompared[SHADOW_CANDIDATE_FAILED], 1);
    assert_int_equal(counts->pairs, 1);
    assert_int_equal(counts->sent, 4);
    assert_int_equal(counts->candidate_ends[MIRROR_ANSWERED], 3);
    assert_int_equal(counts->candidate_ends[MIRROR_RESET], 1);
    assert_int_equal(counts->candidate_errors, 1);
    assert_int_equal(counts->primary_errors, 2);
}

// How the old version would have answered is not known, so neither is held against the other.
TEST(a_client_that_left)
{
    static struct rollout_shadow_row rows[ROLLOUT_SHADOW_ROWS_MAX];
    const struct shadow_world_answer answers[][3] = {
        {{.json = NULL}, {.json = "1"}},
        {{.json = "1", .cut = MIRROR_CUT_BROKEN}, {.json = "1", .status = 500}}};
    struct rollout_shadow_delta delta;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct mirror_seen *seen = shadow_world_seen(1, "/", answers[i]);
        seen->client_gone = true;
        shadow_take(shadow, seen);
    }
    shadow_world_give(shadow, 1, "1", "1", NULL);
    const struct shadow_counts *counts = &look(1)->counts;
    assert_int_equal(counts->sent, 3);
    assert_int_equal(counts->uncompared[SHADOW_CLIENT_GONE], 2);
    assert_int_equal(counts->uncompared[SHADOW_PRIMARY_FAILED], 0);
    assert_int_equal(counts->primary_errors, 0);
    assert_int_equal(counts->candidate_errors, 0);
    assert_true(shadow_delta(shadow, 1, rows, &delta));
    assert_true(delta.sent == 1 && delta.pairs == 1 && delta.uncompared == 0 &&
                delta.candidate_answered == 1);
}

TEST(errors_and_slow_answers)
{
    const struct shadow_statuses errors[] = {{418, 418}, {500, 503}};
    struct shadow_rules other = rules;
    other.errors = errors;
    other.error_count = 2;
    other.slow_candidate_us[0] = 100;
    other.slow_primary_us[0] = 90;
    other.slow_candidate_us[2] = 1000;
    other.slow_primary_us[2] = 1000;
    assert_int_equal(shadow_begin(shadow, 2, &other), STATUS_OK);
    const struct shadow_world_answer answers[][3] = {
        {{.json = "1", .status = 200, .wait_us = 90}, {.json = "1", .status = 418, .wait_us = 101}},
        {{.json = "1", .status = 500, .wait_us = 91}, {.json = "1", .status = 504, .wait_us = 100}},
        {{.json = "1", .status = 200, .wait_us = 95}, {.json = "1", .status = 200, .wait_us = 150}},
        {{.json = "1", .status = 200, .wait_us = 1}, {.json = "1", .status = 200, .wait_us = 2000}}};
    for (size_t i = 0; i < ARRAY_LEN(answers); i++)
        shadow_take(shadow, shadow_world_seen(2, "/", answers[i]));
    const struct shadow_counts *counts = &look(2)->counts;
    assert_int_equal(counts->candidate_errors, 1);
    assert_int_equal(counts->primary_errors, 1);
    assert_int_equal(counts->slow_candidate[0], 2);
    assert_int_equal(counts->slow_primary[0], 1);
    assert_int_equal(counts->slow_candidate[1], 0);
    assert_int_equal(counts->slow_candidate[2], 1);
    assert_int_equal(counts->slow_primary[2], 0);
}

static struct slice coded(enum http_codec codec, struct slice in, char *storage, size_t cap)
{
    struct compress_stream *stream;
    size_t written;
    assert_int_equal(compress_stream_create(codec, COMPRESS_FAST, in.len, &stream), STATUS_OK);
    assert_int_equal(compress_stream_run(stream, &in, COMPRESS_END, storage, cap, &written), STATUS_OK);
    compress_stream_destroy(stream);
    return (struct slice){storage, written};
}

TEST(bodies_are_decoded)
{
    char one[256], two[256];
    struct slice gzip = coded(HTTP_CODEC_GZIP, SLICE("{\"a\":1,\"b\":2}"), one, sizeof one);
    struct slice brotli = coded(HTTP_CODEC_BR, SLICE("{\"b\":3,\"a\":1}"), two, sizeof two);
    take((struct shadow_world_answer[3]){{.coded = gzip, .header = "Content-Encoding: gzip"},
                                         {.coded = brotli, .header = "Content-Encoding: br"},
                                         {.coded = gzip, .header = "content-encoding: gzip"}});
    look(1);
    assert_int_equal(report->judged_count, 2);
    assert_int_equal(judged("body.b")->row, 1);
    assert_int_equal(judged("header.content-encoding")->row, 0);
    assert_int_equal(report->counts.by_digest, 0);
}

// A part of a body does not tell of the rest, and a coded one not of what it holds.
TEST(bodies_that_are_not_at_hand)
{
    take((struct shadow_world_answer[3]){{.json = "[1", .cut = MIRROR_CUT_LIMIT, .digest = 7},
                                         {.json = "[1", .cut = MIRROR_CUT_LIMIT, .digest = 7},
                                         {.json = "[1", .cut = MIRROR_CUT_LIMIT, .digest = 7}});
    assert_int_equal(look(1)->judged_count, 0);
    assert_int_equal(report->counts.by_digest, 1);
    take((struct shadow_world_answer[3]){{.json = "[1", .cut = MIRROR_CUT_LIMIT, .digest = 7},
                                         {.json = "[1", .cut = MIRROR_CUT_LIMIT, .digest = 8}});
    look(1);
    assert_int_equal(report->noise.rows[judged("body")->row].kind, DIFF_BYTES);
    assert_string_equal(report->examples[0].primary, "2 bytes, digest 0000000000000007");
    take((struct shadow_world_answer[3]){{.json = "[1", .cut = MIRROR_CUT_LIMIT, .digest = 9},
                                         {.json = "[1,2]", .digest = 9}});
    take((struct shadow_world_answer[3]){{.json = "x", .digest = 5, .header = "Content-Encoding: compress"},
                                         {.json = "x", .digest = 5, .header = "Content-Encoding: compress"}});
    look(1);
    assert_int_equal(report->counts.by_digest, 4);
    assert_int_equal(report->judged_count, 1);
    assert_int_equal(report->noise.rows[0].alone, 2); // 2 bytes beside 5
}

TEST(a_full_queue_is_counted)
{
    enum { MORE = 3 };
    shadow_world_gate(true);
    shadow_world_give(shadow, 1, "1", "1", NULL);
    struct rollout_shadow_row rows[ROLLOUT_SHADOW_ROWS_MAX];
    struct rollout_shadow_delta delta;
    uint64_t pairs = 0;
    while (pairs == 0) // until the thread has taken it
        if (shadow_delta(shadow, 1, rows, &delta))
            pairs += delta.pairs;
    for (int i = 0; i < SHADOW_QUEUE_MAX; i++)
        shadow_world_give(shadow, 1, "1", "1", NULL);
    for (int i = 0; i < MORE; i++)
        shadow_world_give(shadow, 1, "1", "1", NULL);
    shadow_world_gate(false);
    const struct shadow_counts *counts = &look(1)->counts;
    assert_int_equal(counts->sent, SHADOW_QUEUE_MAX + 1 + MORE);
    assert_int_equal(counts->uncompared[SHADOW_QUEUE_FULL], MORE);
    assert_int_equal(counts->pairs, SHADOW_QUEUE_MAX + 1);
}

TEST(deltas_tell_what_is_new)
{
    static struct rollout_shadow_row rows[ROLLOUT_SHADOW_ROWS_MAX];
    struct rollout_shadow_delta delta;
    assert_false(shadow_delta(shadow, 1, rows, &delta));
    assert_false(shadow_delta(shadow, 99, rows, &delta));
    shadow_world_give(shadow, 1, "{\"a\":1}", "{\"a\":2}", "{\"a\":1}");
    shadow_world_give(shadow, 1, "{\"b\":1}", "{\"b\":2}", "{\"b\":3}");
    shadow_wait(shadow);
    assert_true(shadow_delta(shadow, 1, rows, &delta));
    assert_int_equal(delta.sent, 2);
    assert_int_equal(delta.triples, 2);
    assert_int_equal(delta.candidate_answered, 2);
    assert_int_equal(delta.row_count, 2);
    assert_true(rows[0].row == 0 && rows[0].rank == 1 && rows[0].candidate == 1 && rows[0].both == 0);
    assert_true(rows[1].row == 1 && rows[1].rank == 2 && rows[1].candidate == 0 && rows[1].both == 1);
    assert_false(shadow_delta(shadow, 1, rows, &delta));
    shadow_world_give(shadow, 1, "{\"b\":1}", "{\"b\":2}", NULL);
    shadow_world_give(shadow, 1, "1", NULL, NULL);
    shadow_wait(shadow);
    assert_true(shadow_delta(shadow, 1, rows, &delta));
    assert_true(delta.row_count == 1 && rows[0].row == 1 && rows[0].both == 1 && rows[0].alone == 1);
    assert_true(delta.pairs == 1 && delta.triples == 0 && delta.sent == 2 && delta.uncompared == 1);
    assert_true(delta.candidate_errors == 1 && delta.candidate_answered == 1);
}

// 80 paths that differ, of each part their own.
static void give_part(int part)
{
    static char primary[4096], candidate[4096];
    struct text a = text_over(primary, sizeof primary), b = text_over(candidate, sizeof candidate);
    text_addf(&a, "{\"x%d\":{\"z\":1", part);
    text_addf(&b, "{\"x%d\":{\"z\":1", part);
    for (int i = 0; i < 80; i++) {
        text_addf(&a, ",\"m%d\":1", i);
        text_addf(&b, ",\"m%d\":2", i);
    }
    text_addf(&a, "}}");
    text_addf(&b, "}}");
    shadow_world_give(shadow, 1, primary, candidate, NULL);
}

// More rows than one delta holds come with the next.
TEST(deltas_of_many_rows)
{
    static struct rollout_shadow_row rows[ROLLOUT_SHADOW_ROWS_MAX];
    struct rollout_shadow_delta delta;
    uint32_t told = 0;
    for (int part = 0; part < 5; part++)
        give_part(part);
    uint32_t count = look(1)->noise.row_count;
    assert_true(count > ROLLOUT_SHADOW_ROWS_MAX);
    while (shadow_delta(shadow, 1, rows, &delta)) {
        assert_true(delta.row_count <= ROLLOUT_SHADOW_ROWS_MAX);
        told += delta.row_count;
    }
    assert_int_equal(told, count);
}

// A stage in the shadow must not pass because noise left no place for what differs.
TEST(rows_that_always_change_keep_no_others_back)
{
    static struct rollout_shadow_row rows[ROLLOUT_SHADOW_ROWS_MAX];
    static bool told[DIFF_ROWS_MAX];
    struct rollout_shadow_delta delta;
    uint32_t count = 0;
    memset(told, 0, sizeof told);
    for (int round = 0; round < 3; round++) {
        for (int part = 0; part < 5; part++)
            give_part(part);
        shadow_wait(shadow);
        assert_true(shadow_delta(shadow, 1, rows, &delta));
        for (uint32_t i = 0; i < delta.row_count; i++) {
            count += !told[rows[i].row];
            told[rows[i].row] = true;
        }
    }
    assert_int_equal(count, look(1)->noise.row_count);
}

TEST(runs_side_by_side)
{
    struct shadow_rules other = rules;
    char name[16];
    uint64_t run;
    assert_int_equal(shadow_begin(shadow, 1, &rules), STATUS_EXISTS);
    for (uint64_t i = 2; i <= SHADOW_RUNS_MAX; i++) {
        snprintf(name, sizeof name, "shop%u", (unsigned)i);
        other.service = slice_of(name);
        assert_int_equal(shadow_begin(shadow, i, &other), STATUS_OK);
    }
    other.service = SLICE("late");
    assert_int_equal(shadow_begin(shadow, 100, &other), STATUS_FULL);
    for (uint64_t i = 1; i <= SHADOW_RUNS_MAX; i++)
        shadow_world_give(shadow, i, "1", i % 2 == 0 ? "2" : "1", NULL);
    for (uint64_t i = 1; i <= SHADOW_RUNS_MAX; i++)
        assert_int_equal(look(i)->counts.differed, i % 2 == 0);
    shadow_end(shadow, 3);
    shadow_world_give(shadow, 3, "1", "2", NULL);
    assert_true(look(3)->ended && report->counts.sent == 1);
    assert_true(shadow_find(shadow, SLICE("shop3"), SLICE(""), &run) && run == 3);
    other.rollout = SLICE("late-canary");
    assert_int_equal(shadow_begin(shadow, 100, &other), STATUS_OK);
    assert_false(shadow_find(shadow, SLICE("shop3"), SLICE(""), &run));
    assert_false(shadow_find(shadow, SLICE("late"), SLICE(""), &run));
    assert_true(shadow_find(shadow, SLICE(""), SLICE("late-canary"), &run) && run == 100);
    assert_int_equal(shadow_report(shadow, 3, &report), STATUS_NOT_FOUND);
}

// The next run of the same service takes over; the one before stays to be read.
TEST(the_next_run_of_a_service)
{
    uint64_t run;
    assert_int_equal(shadow_begin(shadow, 2, &rules), STATUS_OK);
    assert_true(shadow_find(shadow, SLICE("shop"), SLICE(""), &run) && run == 2);
    shadow_world_give(shadow, 1, "1", "1", NULL);
    assert_true(look(1)->ended && report->counts.sent == 0);
    assert_false(look(2)->ended);
}

TEST(a_run_takes_bounded_memory)
{
    assert_true(sizeof *report +
                    SHADOW_EXAMPLE_PATHS_MAX * SHADOW_EXAMPLES_MAX * sizeof(struct shadow_example) <
                2 << 20);
}

TEST(without_memory)
{
    const struct shadow_parts parts = {.key = {1, 2}};
    struct shadow *other;
    enum status status;
    long after = 0;
    do {
        heap_fail_after(after++);
        status = shadow_create(&parts, &other);
        heap_fail_after(-1);
    } while (status == STATUS_NO_MEMORY);
    assert_int_equal(after, 2);
    after = 0;
    do {
        heap_fail_after(after++);
        status = shadow_begin(other, 1, &rules);
        heap_fail_after(-1);
    } while (status == STATUS_NO_MEMORY);
    assert_true(status == STATUS_OK && after > 3);
    heap_fail_after(0);
    status = shadow_report(other, 1, &report);
    heap_fail_after(-1);
    assert_int_equal(status, STATUS_NO_MEMORY);
    shadow_destroy(other);
}
