// SPDX-License-Identifier: Apache-2.0
// One line per event: time, level, text, key=value; or one JSON object per line. What repeats fast is written
// a few times per window and counted, and the count is written: nothing is lost in silence.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/slice.h"
#include "base/text.h"

enum {
    LOG_KINDS_MAX = 64, // repeating messages that are told apart
    LOG_WINDOW_MS = 10000,
    LOG_WINDOW_LINES = 5, // of one repeating message in a window
    LOG_LINE_BYTES = 2048,
};

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct log_field {
    const char *key;
    const char *text; // NULL: number
    uint64_t number;
};

struct log_repeat {
    const char *message;
    const char *why;
    int64_t since_ms;
    uint64_t lines;
    uint64_t held;
};

struct log {
    FILE *stream; // NULL: silent
    enum log_level level;
    bool json;
    int64_t (*wall_ms)(void *context);
    void *context;
    struct log_repeat repeats[LOG_KINDS_MAX];
    uint64_t lines;
    uint64_t lines_held; // counted instead of written
};

#define LOG_TEXT(name, value) ((struct log_field){.key = (name), .text = (value)})
#define LOG_NUMBER(name, value) ((struct log_field){.key = (name), .number = (value)})
#define LOG_FIELDS(...)                                                                                      \
    (const struct log_field[]){__VA_ARGS__},                                                                 \
        sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field)

// The clock is the system's until wall_ms is replaced (a simulation does).
void log_init(struct log *log, FILE *stream, bool json, enum log_level level);
// message is a sentence; line ends in it (a verdict has some) become "; " in the plain form.
void log_write(struct log *log, enum log_level level, const char *message, const struct log_field *fields,
               size_t field_count);
// The same for what may repeat fast; message must be constant text, and so must why, by which messages are
// told apart besides ("" where there is nothing to tell).
void log_repeat_why(struct log *log, enum log_level level, const char *message, const char *why,
                    const struct log_field *fields, size_t field_count);
void log_repeat(struct log *log, enum log_level level, const char *message, const struct log_field *fields,
                size_t field_count);
// Writes the counts of windows that are over (all, when `all`).
void log_flush(struct log *log, bool all);
// "2026-11-21T14:03:02.118Z"
void log_time_write(int64_t wall_ms, struct text *text);
