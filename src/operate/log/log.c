// SPDX-License-Identifier: Apache-2.0
// Lines are built whole in a bounded buffer and written at once; what is too long is cut and ends in "...".
#include "operate/log/log.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/utf8.h"

static const char *const level_names[] = {"error", "warn", "info", "debug"};

static int64_t system_wall_ms(void *context)
{
    (void)context;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void log_init(struct log *log, FILE *stream, bool json, enum log_level level)
{
    *log = (struct log){.stream = stream, .json = json, .level = level, .wall_ms = system_wall_ms};
}

void log_time_write(int64_t wall_ms, struct text *text)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    char stamp[32];
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &parts);
    text_addf(text, "%s.%03dZ", stamp, (int)(wall_ms % 1000));
}

static void skip_blanks(struct slice *rest)
{
    while (rest->len > 0 && rest->data[0] == ' ')
        *rest = (struct slice){rest->data + 1, rest->len - 1};
}

// What acts on a terminal never reaches one. A message with several lines goes on behind a semicolon; in a
// field, whose lines may be anybody's, their ends are shown as bars. Within quotes a quote is shown as
// another one.
static void add_plain(struct text *line, const char *text, bool quoted)
{
    for (struct slice rest = slice_of(text); rest.len > 0;) {
        char first = rest.data[0];
        struct slice shown = utf8_shown_next(&rest);
        if (first == '\n' && !quoted)
            skip_blanks(&rest);
        if (first == '\n')
            text_add(line, quoted ? SLICE(" | ") : SLICE("; "));
        else
            text_add(line, first == '"' && quoted ? SLICE("'") : shown);
    }
}

static void add_plain_value(struct text *text, const char *value)
{
    bool quote = value[0] == '\0' || strpbrk(value, " \t\n\"=") != NULL;
    if (quote)
        text_add_char(text, '"');
    add_plain(text, value, true);
    if (quote)
        text_add_char(text, '"');
}

static void write_plain(struct text *line, int64_t wall_ms, enum log_level level, const char *message,
                        const struct log_field *fields, size_t field_count)
{
    log_time_write(wall_ms, line);
    text_addf(line, " %-5s ", level_names[level]);
    add_plain(line, message, false);
    for (size_t i = 0; i < field_count; i++) {
        text_addf(line, " %s=", fields[i].key);
        if (fields[i].text != NULL)
            add_plain_value(line, fields[i].text);
        else
            text_addf(line, "%" PRIu64, fields[i].number);
    }
}

static void write_json(struct text *line, int64_t wall_ms, enum log_level level, const char *message,
                       const struct log_field *fields, size_t field_count)
{
    text_add(line, SLICE("{\"time\":\""));
    log_time_write(wall_ms, line);
    text_addf(line, "\",\"level\":\"%s\",\"message\":", level_names[level]);
    text_add_json(line, slice_of(message));
    for (size_t i = 0; i < field_count; i++) {
        text_addf(line, ",\"%s\":", fields[i].key);
        if (fields[i].text != NULL)
            text_add_json(line, slice_of(fields[i].text));
        else
            text_addf(line, "%" PRIu64, fields[i].number);
    }
    text_add_char(line, '}');
}

void log_write(struct log *log, enum log_level level, const char *message, const struct log_field *fields,
               size_t field_count)
{
    if (level > log->level || log->stream == NULL)
        return;
    char storage[LOG_LINE_BYTES];
    struct text line = text_over(storage, sizeof storage);
    int64_t now_ms = log->wall_ms(log->context);
    if (log->json)
        write_json(&line, now_ms, level, message, fields, field_count);
    else
        write_plain(&line, now_ms, level, message, fields, field_count);
    // A JSON line cut in its middle would be no JSON: then the fields stay out, and the line says so.
    if (line.cut && log->json) {
        const struct log_field cut = LOG_TEXT("cut", "fields did not fit");
        char start[256];
        snprintf(start, sizeof start, "%s", message);
        line = text_over(storage, sizeof storage);
        write_json(&line, now_ms, level, start, &cut, 1);
    }
    log->lines++;
    fprintf(log->stream, "%s%s\n", storage, line.cut ? "..." : "");
    fflush(log->stream);
}

static void tell_held(struct log *log, struct log_repeat *repeat)
{
    if (repeat->held == 0)
        return;
    const struct log_field fields[] = {LOG_TEXT("event", repeat->message), LOG_NUMBER("count", repeat->held),
                                       LOG_TEXT("reason", repeat->why)};
    log_write(log, LOG_WARN, "more of the same, not written one by one", fields,
              repeat->why[0] != '\0' ? 3 : 2);
    repeat->held = 0;
}

static struct log_repeat *find_repeat(struct log *log, const char *message, const char *why, int64_t now_ms)
{
    struct log_repeat *oldest = &log->repeats[0];
    for (size_t i = 0; i < LOG_KINDS_MAX; i++) {
        struct log_repeat *repeat = &log->repeats[i];
        if (repeat->message != NULL && strcmp(repeat->message, message) == 0 && strcmp(repeat->why, why) == 0)
            return repeat;
        if (repeat->since_ms < oldest->since_ms)
            oldest = repeat;
    }
    tell_held(log, oldest);
    *oldest = (struct log_repeat){.message = message, .why = why, .since_ms = now_ms};
    return oldest;
}

void log_repeat_why(struct log *log, enum log_level level, const char *message, const char *why,
                    const struct log_field *fields, size_t field_count)
{
    if (level > log->level || log->stream == NULL)
        return;
    int64_t now_ms = log->wall_ms(log->context);
    struct log_repeat *repeat = find_repeat(log, message, why, now_ms);
    if (now_ms - repeat->since_ms >= LOG_WINDOW_MS) {
        tell_held(log, repeat);
        repeat->since_ms = now_ms;
        repeat->lines = 0;
    }
    if (repeat->lines >= LOG_WINDOW_LINES) {
        repeat->held++;
        log->lines_held++;
        return;
    }
    repeat->lines++;
    log_write(log, level, message, fields, field_count);
}

void log_repeat(struct log *log, enum log_level level, const char *message, const struct log_field *fields,
                size_t field_count)
{
    log_repeat_why(log, level, message, "", fields, field_count);
}

void log_flush(struct log *log, bool all)
{
    int64_t now_ms = log->wall_ms(log->context);
    for (size_t i = 0; i < LOG_KINDS_MAX; i++) {
        struct log_repeat *repeat = &log->repeats[i];
        if (repeat->message != NULL && (all || now_ms - repeat->since_ms >= LOG_WINDOW_MS))
            tell_held(log, repeat);
    }
}
