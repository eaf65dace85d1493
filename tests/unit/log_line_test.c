// SPDX-License-Identifier: Apache-2.0
// log: lines in both forms, hostile bytes, long messages, and repetition that is counted.
#include <jansson.h>

#include "operate/log/log.h"
#include "test.h"

static char *written;
static size_t written_len;
static int64_t now_ms;

static int64_t clock_of_test(void *context)
{
    (void)context;
    return now_ms;
}

static void open_log(struct log *log, bool json)
{
    FILE *stream = open_memstream(&written, &written_len);
    assert_non_null(stream);
    log_init(log, stream, json, LOG_INFO);
    log->wall_ms = clock_of_test;
    now_ms = 1795259051882;
}

static void close_log(struct log *log)
{
    fclose(log->stream);
    free(written);
}

TEST(plain)
{
    struct log log;
    open_log(&log, false);
    log_write(
        &log, LOG_WARN, "ROLLED BACK\n  by evidence",
        LOG_FIELDS(LOG_TEXT("rollout", "ship"), LOG_TEXT("said", "a \"b\"\033[31m"), LOG_NUMBER("stage", 2)));
    assert_string_equal(written, "2026-11-21T11:04:11.882Z warn  ROLLED BACK; by evidence rollout=ship "
                                 "said=\"a 'b'?[31m\" stage=2\n");
    log_write(&log, LOG_DEBUG, "below the level", NULL, 0);
    assert_int_equal(log.lines, 1);
    close_log(&log);
}

// Names come from files and from other people: C1 controls, marks that turn the direction of writing and
// broken bytes are no better than C0 controls.
TEST(plain_acts_on_no_terminal)
{
    struct log log;
    open_log(&log, false);
    log_write(&log, LOG_INFO,
              "a\xc2\x9b"
              "31mb",
              LOG_FIELDS(LOG_TEXT("flag", "\xe2\x80\xaetxt"), LOG_TEXT("who", "Zo\xc3\xab\xff")));
    assert_string_equal(written, "2026-11-21T11:04:11.882Z info  a?31mb flag=?txt who=Zo\xc3\xab?\n");
    close_log(&log);
}

TEST(json_is_json)
{
    struct log log;
    char long_text[4000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    const char *const values[] = {"plain", "\"\\\n\t\001", long_text};
    for (size_t i = 0; i < 3; i++) {
        open_log(&log, true);
        log_write(&log, LOG_ERROR, values[i], LOG_FIELDS(LOG_TEXT("key", values[i]), LOG_NUMBER("n", 7)));
        json_error_t error;
        json_t *line = json_loads(written, 0, &error);
        if (line == NULL)
            fail_msg("%s in %s", error.text, written);
        assert_string_equal(json_string_value(json_object_get(line, "level")), "error");
        if (i < 2)
            assert_string_equal(json_string_value(json_object_get(line, "key")), values[i]);
        json_decref(line);
        close_log(&log);
    }
}

static size_t count_lines(void)
{
    size_t lines = 0;
    for (const char *p = written; *p != '\0'; p++)
        lines += *p == '\n';
    return lines;
}

TEST(repetition_is_counted)
{
    struct log log;
    open_log(&log, false);
    for (int i = 0; i < 1000; i++)
        log_repeat(&log, LOG_WARN, "attempt failed", NULL, 0);
    assert_int_equal(count_lines(), LOG_WINDOW_LINES);
    assert_int_equal(log.lines_held, 1000 - LOG_WINDOW_LINES);
    log_flush(&log, false);
    assert_int_equal(count_lines(), LOG_WINDOW_LINES);
    now_ms += LOG_WINDOW_MS;
    log_flush(&log, false);
    assert_int_equal(count_lines(), LOG_WINDOW_LINES + 1);
    assert_non_null(strstr(written, "count=995"));
    log_repeat(&log, LOG_WARN, "attempt failed", NULL, 0);
    assert_int_equal(count_lines(), LOG_WINDOW_LINES + 2);
    close_log(&log);
}

// A flood of one kind hides no other, where it is said why.
TEST(reasons_are_told_apart)
{
    struct log log;
    open_log(&log, false);
    for (int i = 0; i < 100; i++)
        log_repeat_why(&log, LOG_WARN, "attempt failed", "refused", NULL, 0);
    log_repeat_why(&log, LOG_WARN, "attempt failed", "expired", NULL, 0);
    assert_int_equal(count_lines(), LOG_WINDOW_LINES + 1);
    log_flush(&log, true);
    assert_non_null(strstr(written, "count=95 reason=refused"));
    assert_null(strstr(written, "reason=expired"));
    close_log(&log);
}
