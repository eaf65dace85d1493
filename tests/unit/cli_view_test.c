// SPDX-License-Identifier: Apache-2.0
// cli: the live view is read from JSON and drawn inside any terminal size, with colours only where they are
// wanted.
#include "base/check.h"
#include "daemon/cli/view.h"
#include "test.h"

static const char JSON[] =
    "{\"name\":\"shop-v2\",\"service\":\"shop\",\"from\":\"v1\",\"to\":\"v2\",\"run\":2,\"state\":"
    "\"Shifting\","
    "\"stage\":2,\"stage_count\":4,\"stages\":[{\"kind\":\"weight\",\"weight\":0.05,\"for_ms\":1000,\"soak_"
    "ms\":0},"
    "{\"kind\":\"weight\",\"weight\":0.25,\"for_ms\":60000,\"soak_ms\":0},{\"kind\":\"approve\",\"by\":"
    "\"ann\"},"
    "{\"kind\":\"weight\",\"weight\":1.0,\"for_ms\":0,\"soak_ms\":1000}],"
    "\"weight\":{\"wanted\":0.25,\"measured\":0.2512,\"stage_requests\":1000,\"stage_canary\":251},"
    "\"started_ms\":1000,\"stage_since_ms\":100000,\"state_since_ms\":100000,"
    "\"arms\":{\"stable\":{\"version\":\"v1\",\"requests\":12431,\"errors\":12,\"error_rate\":0.00097,"
    "\"requests_per_second\":842.1,\"share\":0.75,\"latency_ms\":{\"count\":12000,\"p50\":1.2,\"p90\":3.4,"
    "\"p99\":12.1,"
    "\"p999\":140.0}},\"canary\":{\"version\":\"v2\",\"requests\":1381,\"errors\":0,\"error_rate\":0,"
    "\"requests_per_second\":93.5,\"share\":0.25,\"latency_ms\":{\"count\":0}},\"control\":null},"
    "\"evidence\":{\"rollback\":{\"log_e\":1.2,\"log_e_needed\":4.6},\"sample_ratio\":{\"log_e\":0,"
    "\"blocked\":false},"
    "\"checks\":[{\"name\":\"errors\",\"log_e_good\":1.5,\"log_e_good_needed\":3.7,\"good\":false,\"more_"
    "requests\":5320},"
    "{\"name\":\"latency\",\"log_e_good\":9,\"log_e_good_needed\":3.0,\"good\":true,\"more_requests\":0}]},"
    "\"verdict\":{\"outcome\":\"promoted\",\"text\":\"PROMOTED by evidence\\n  errors "
    "fine\\u001b[31m\",\"time_ms\":5}}";

static void read_view(struct cli_view *view)
{
    json_error_t error;
    json_t *json = json_loads(JSON, 0, &error);
    if (json == NULL)
        fail_msg("%s", error.text);
    assert_int_equal(cli_view_read(json, view), STATUS_OK);
    json_decref(json);
}

static bool stable_line(const char *service, char *line, size_t cap)
{
    json_error_t error;
    json_t *json = json_loads(service, 0, &error);
    struct text text = text_over(line, cap);
    bool told = cli_view_stable(json, &text);
    json_decref(json);
    return told;
}

TEST(stable_version)
{
    char line[300];
    assert_int_equal(setenv("TZ", "UTC", 1), 0);
    assert_false(
        stable_line("{\"name\":\"shop\",\"stable\":\"v1\",\"stable_in_file\":\"v1\",\"stable_by\":null}",
                    line, sizeof line));
    assert_true(stable_line("{\"name\":\"shop\",\"stable\":\"v2\",\"stable_in_file\":\"v1\",\"stable_by\":"
                            "{\"rollout\":\"shop-v2\",\"undone\":false,\"since_ms\":86400000}}",
                            line, sizeof line));
    assert_string_equal(line,
                        "service shop: stable: v1 in the file; v2 since 1970-01-02 00:00:00, promoted by "
                        "rollout shop-v2");
    assert_true(stable_line("{\"name\":\"shop\",\"stable\":\"v1\",\"stable_in_file\":\"v2\",\"stable_by\":"
                            "{\"rollout\":\"shop-v2\",\"undone\":true,\"since_ms\":86400000}}",
                            line, sizeof line));
    assert_string_equal(line,
                        "service shop: stable: v2 in the file; v1 since 1970-01-02 00:00:00, by the undo of "
                        "rollout shop-v2");
}

TEST(read)
{
    struct cli_view view;
    read_view(&view);
    assert_int_equal(view.stage_count, 4);
    assert_true(view.stage_weights[2] < 0);
    assert_int_equal(view.stage_for_ms, 60000);
    assert_int_equal(view.arms[0].requests, 12431);
    assert_false(view.arms[1].has_latency);
    assert_false(view.arms[2].present);
    assert_false(cli_view_final(&view));
    assert_false(cli_view_waits(&view));
    json_t *nothing = json_object();
    assert_int_equal(cli_view_read(nothing, &view), STATUS_INVALID);
    json_decref(nothing);
}

TEST(frame_shows_what_matters)
{
    static const char *const shown[] = {
        "shop-v2",  "v1 -> v2",        "Shifting", "stage 2 of 4",    "[25%]",      "approve",
        "25.120 %", "12 431",          "842.1",    "ln E 1.2 of 4.6", "5 320 more", "shown to be good enough",
        "PROMOTED", "at least another"};
    struct cli_view view;
    char frame[CLI_VIEW_FRAME_BYTES];
    struct text text = text_over(frame, sizeof frame);
    struct cli_style style = {.columns = 80, .rows = 24};
    read_view(&view);
    cli_view_draw(&view, 110000, &style, &text);
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++)
        if (strstr(frame, shown[i]) == NULL)
            fail_msg("\"%s\" is not in\n%s", shown[i], frame);
    assert_null(strchr(frame, '\033')); // no colour was asked for, and none comes in by a verdict
}

static size_t columns_of(const char *line, size_t len)
{
    size_t columns = 0;
    for (size_t i = 0; i < len; i++) {
        if (line[i] == '\033') {
            i += strcspn(line + i, "m");
            continue;
        }
        columns += ((unsigned char)line[i] & 0xc0) != 0x80;
    }
    return columns;
}

TEST(every_size_holds_the_frame)
{
    static char frame[CLI_VIEW_FRAME_BYTES];
    struct cli_view view;
    read_view(&view);
    for (uint32_t columns = 1; columns <= 240; columns += 7) {
        for (uint32_t rows = 1; rows <= 60; rows += 5) {
            for (int kind = 0; kind < 4; kind++) {
                struct cli_style style = {columns, rows, (kind & 1) != 0, (kind & 2) != 0};
                struct text text = text_over(frame, sizeof frame);
                cli_view_draw(&view, 110000, &style, &text);
                assert_false(text.cut);
                uint32_t lines = 0;
                for (const char *p = frame; *p != '\0'; lines++) {
                    size_t len = strcspn(p, "\n");
                    assert_in_range(columns_of(p, len), 0, columns);
                    p += len + 1;
                }
                assert_in_range(lines, 0, rows);
            }
        }
    }
}

// Names as long as the file allows.
static void lengthen(struct cli_view *view)
{
    memset(view->name, 'n', sizeof view->name - 1);
    memset(view->service, 's', sizeof view->service - 1);
    memset(view->arms[0].version, 'v', sizeof view->arms[0].version - 1);
}

static void assert_has(const char *frame, const char *const parts[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strstr(frame, parts[i]) == NULL)
            fail_msg("\"%s\" is not in\n%s", parts[i], frame);
}

TEST(long_names_push_nothing_off)
{
    static const char *const shown[] = {"Shifting", "stage 2 of 4, 10 s", "25.000 %", "ms p50", "12.1",
                                        "0.10%"};
    static char frame[CLI_VIEW_FRAME_BYTES];
    struct cli_view view;
    read_view(&view);
    lengthen(&view);
    for (uint32_t columns = 60; columns <= 120; columns += 20) {
        struct cli_style style = {columns, 24, false, true};
        struct text text = text_over(frame, sizeof frame);
        cli_view_draw(&view, 110000, &style, &text);
        assert_has(frame, shown, ARRAY_LEN(shown));
        assert_non_null(strstr(frame, "…"));
        text = text_over(frame, sizeof frame);
        cli_view_row(&view, 110000, &style, &text);
        assert_has(frame, (const char *const[]){"nnn… ", "Shifting", "2/4", "25 %", "10 s"}, 5);
        assert_in_range(columns_of(frame, strlen(frame) - 1), 50, columns);
    }
    // Names that fit alone, but not with the state behind them.
    struct cli_style style = {60, 24, false, true};
    struct text text = text_over(frame, sizeof frame);
    read_view(&view);
    snprintf(view.name, sizeof view.name, "checkout-of-the-european-shop-2026-11");
    cli_view_draw(&view, 110000, &style, &text);
    assert_has(frame, (const char *const[]){view.name, "v1 → v2\n Shifting   stage 2 of 4, 10 s"}, 2);
}

// Heads and rows end in the same columns, however wide.
TEST(rows_stand_below_their_heads)
{
    char heads[512], row[512];
    struct cli_view view;
    read_view(&view);
    view.arms[1].has_latency = true;
    for (uint32_t columns = 60; columns <= 200; columns += 20) {
        struct cli_style style = {columns, 1, false, true};
        struct text text = text_over(heads, sizeof heads);
        cli_view_row_heads(&style, &text);
        text = text_over(row, sizeof row);
        cli_view_row(&view, 110000, &style, &text);
        assert_int_equal(columns_of(heads, strlen(heads)), columns_of(row, strlen(row)));
        assert_int_equal(strstr(heads, "STATE") - heads, strstr(row, "Shifting") - row);
        assert_int_equal(strstr(row, " ms") != NULL, strstr(heads, "P99") != NULL);
    }
}

TEST(states_that_need_a_word)
{
    static char frame[CLI_VIEW_FRAME_BYTES];
    struct cli_style style = {80, 24, false, true};
    struct cli_view view;
    read_view(&view);
    snprintf(view.state, sizeof view.state, "Baseline");
    struct text text = text_over(frame, sizeof frame);
    cli_view_draw(&view, 110000, &style, &text);
    assert_has(frame, (const char *const[]){"Baseline: measuring how fast v1 is, before v2 gets"}, 1);
    // The canary's first time, and not a later stage's.
    read_view(&view);
    view.warmup_ms = 30000;
    text = text_over(frame, sizeof frame);
    cli_view_draw(&view, 110000, &style, &text);
    assert_null(strstr(frame, "Warming up"));
    view.stage = 1;
    text = text_over(frame, sizeof frame);
    cli_view_draw(&view, 110000, &style, &text);
    assert_has(frame, (const char *const[]){"Warming up: v2 is new to its traffic", "only in 20 s"}, 2);
    // A ring is no share.
    snprintf(view.state, sizeof view.state, "Segment");
    snprintf(view.stage_rings[0], sizeof view.stage_rings[0], "staff");
    text = text_over(frame, sizeof frame);
    cli_view_draw(&view, 110000, &style, &text);
    assert_has(frame, (const char *const[]){"[(staff)]", "staff: its members have v2, all others v1"}, 2);
    assert_null(strstr(frame, "wanted"));
    // Whoever is told that it went back is told what to do.
    read_view(&view);
    snprintf(view.state, sizeof view.state, "RolledBack");
    text = text_over(frame, sizeof frame);
    cli_view_draw(&view, 110000, &style, &text);
    assert_has(frame, (const char *const[]){"All traffic is on v1. With a mended v2 in place:"}, 1);
    // What is old says so, and its time stands still.
    read_view(&view);
    view.stale_since_ms = 110000;
    text = text_over(frame, sizeof frame);
    cli_view_draw(&view, 170000, &style, &text);
    assert_has(frame, (const char *const[]){"NO ANSWER from the daemon for 1 min 0 s", "stage 2 of 4, 10 s"},
               2);
}

TEST(spans)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {-5, "0 s"}, {59999, "59 s"}, {60000, "1 min 0 s"}, {3600000, "1 h 0 min"}, {90000000, "1 d 1 h"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char storage[32];
        struct text text = text_over(storage, sizeof storage);
        cli_span_write(cases[i].ms, &text);
        assert_string_equal(storage, cases[i].text);
    }
}
