// SPDX-License-Identifier: Apache-2.0
// metrics: exposition of counters, gauges and histograms, escaping, limits; read back by a strict reader and,
// where it is installed, by promtool.
#include <math.h>

#include "exposition_check.h"
#include "operate/metrics/exposition.h"
#include "test.h"

static const struct metrics_family requests = {"demo_requests_total", METRICS_COUNTER,
                                               "Requests.\nWith \\ in it."};
static const struct metrics_family level = {"demo_level", METRICS_GAUGE, "A level."};
static const struct metrics_family duration = {"demo_duration_seconds", METRICS_HISTOGRAM, "A duration."};

static struct exposition checker;

static void write_all(struct metrics_writer *w)
{
    metrics_open(w, &requests);
    struct metrics_label labels[] = {{"service", SLICE("check\"out\\\n")}, {"class", SLICE("2xx")}};
    metrics_count(w, labels, 2, UINT64_MAX);
    labels[1].value = SLICE("5xx");
    metrics_count(w, labels, 2, 0);
    metrics_open(w, &level);
    metrics_value(w, NULL, 0, -0.5);
    metrics_open(w, &duration);
    const double upper[] = {0.005, 0.01, 1};
    const uint64_t cumulative[] = {1, 1, 7};
    struct metrics_buckets buckets = {3, upper, cumulative, 9, 12.25};
    metrics_histogram(w, labels, 1, &buckets);
    metrics_histogram(w, NULL, 0, &buckets);
}

TEST(exact_text)
{
    char storage[2048];
    struct metrics_writer w;
    metrics_writer_init(&w, storage, sizeof storage - 1);
    write_all(&w);
    struct slice text;
    assert_int_equal(metrics_finish(&w, &text), STATUS_OK);
    storage[text.len] = '\0';
    static const char head[] =
        "# HELP demo_requests_total Requests.\\nWith \\\\ in it.\n"
        "# TYPE demo_requests_total counter\n"
        "demo_requests_total{service=\"check\\\"out\\\\\\n\",class=\"2xx\"} 18446744073709551615\n"
        "demo_requests_total{service=\"check\\\"out\\\\\\n\",class=\"5xx\"} 0\n"
        "# HELP demo_level A level.\n"
        "# TYPE demo_level gauge\n"
        "demo_level -0.5\n"
        "# HELP demo_duration_seconds A duration.\n"
        "# TYPE demo_duration_seconds histogram\n"
        "demo_duration_seconds_bucket{service=\"check\\\"out\\\\\\n\",le=\"0.005\"} 1\n";
    assert_memory_equal(storage, head, sizeof head - 1);
    assert_non_null(strstr(storage, "demo_duration_seconds_bucket{le=\"+Inf\"} 9\n"
                                    "demo_duration_seconds_sum 12.25\ndemo_duration_seconds_count 9\n"));
    assert_true(exposition_check(&checker, storage));
}

TEST(special_numbers)
{
    char storage[512];
    struct metrics_writer w;
    metrics_writer_init(&w, storage, sizeof storage - 1);
    metrics_open(&w, &level);
    struct metrics_label label = {"k", SLICE("a")};
    metrics_value(&w, &label, 1, (double)NAN);
    label.value = SLICE("b");
    metrics_value(&w, &label, 1, (double)INFINITY);
    label.value = SLICE("c");
    metrics_value(&w, &label, 1, -(double)INFINITY);
    storage[w.len] = '\0';
    assert_non_null(strstr(storage, "{k=\"a\"} NaN\n"));
    assert_non_null(strstr(storage, "{k=\"b\"} +Inf\n"));
    assert_non_null(strstr(storage, "{k=\"c\"} -Inf\n"));
}

// Whatever the room, only whole lines and whole histograms stand, and the lack of room is told.
TEST(every_cut)
{
    char whole[2048];
    struct metrics_writer w;
    metrics_writer_init(&w, whole, sizeof whole - 1);
    write_all(&w);
    size_t total = w.len;
    for (size_t cap = 0; cap < total; cap++) {
        char *storage = malloc(cap + 1);
        metrics_writer_init(&w, storage, cap);
        write_all(&w);
        struct slice text = SLICE("untouched");
        assert_int_equal(metrics_finish(&w, &text), STATUS_FULL);
        assert_int_equal(text.len, 9);
        storage[w.len] = '\0';
        if (!exposition_check(&checker, storage))
            fail_msg("cap %zu: %s", cap, checker.error);
        free(storage);
    }
}

TEST(checker_refuses)
{
    static const char *const bad[] = {
        "x 1\n",
        "# HELP x h\n# TYPE x counter\nx 1",
        "# HELP x h\n# TYPE x counter\nx -1\n",
        "# HELP x h\n# TYPE x counter\nx{a=\"b} 1\n",
        "# HELP x h\n# TYPE x counter\nx{a=\"\\q\"} 1\n",
        "# HELP x h\n# TYPE x gauge\nx 1\nx 1\n",
        "# HELP x h\n# HELP x h\n",
        "# HELP x h\n# TYPE x histogram\nx_bucket{le=\"1\"} 2\nx_bucket{le=\"+Inf\"} 1\n",
        "# HELP x h\n# TYPE x histogram\nx_bucket{le=\"+Inf\"} 1\nx_sum 1\nx_count 2\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(exposition_check(&checker, bad[i]));
}

TEST(promtool)
{
    if (system("command -v promtool >/dev/null 2>&1") != 0) {
        printf("SKIPPED: promtool is not installed\n");
        skip();
    }
    char storage[2048];
    struct metrics_writer w;
    metrics_writer_init(&w, storage, sizeof storage);
    write_all(&w);
    FILE *pipe = popen("promtool check metrics", "w");
    assert_non_null(pipe);
    assert_int_equal(fwrite(storage, 1, w.len, pipe), w.len);
    assert_int_equal(pclose(pipe), 0);
}
