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
    CONTROL_LOG_KINDS_MAX = 64, // repeating messages that are told apart
    CONTROL_LOG_WINDOW_MS = 10000,
    CONTROL_LOG_WINDOW_LINES = 5, // of one repeating message in a window
    CONTROL_LOG_LINE_BYTES = 2048,
};

enum control_log_level { CONTROL_LOG_ERROR, CONTROL_LOG_WARN, CONTROL_LOG_INFO, CONTROL_LOG_DEBUG };

struct control_log_field {
    const char *key;
    const char *text; // NULL: number
    uint64_t number;
};

struct control_log_repeat {
    const char *message;
    int64_t since_ms;
    uint64_t lines;
    uint64_t held;
};

struct control_log {
    FILE *stream; // NULL: silent
    enum control_log_level level;
    bool json;
    int64_t (*wall_ms)(void *context);
    void *context;
    struct control_log_repeat repeats[CONTROL_LOG_KINDS_MAX];
    uint64_t lines;
    uint64_t lines_held; // counted instead of written
};

#define CONTROL_TEXT(name, value) ((struct control_log_field){.key = (name), .text = (value)})
#define CONTROL_NUMBER(name, value) ((struct control_log_field){.key = (name), .number = (value)})
#define CONTROL_FIELDS(...)                                                                                  \
    (const struct control_log_field[]){__VA_ARGS__},                                                         \
        sizeof((const struct control_log_field[]){__VA_ARGS__}) / sizeof(struct control_log_field)

// The clock is the system's until wall_ms is replaced (a simulation does).
void control_log_init(struct control_log *log, FILE *stream, bool json, enum control_log_level level);
// message is a sentence; line ends in it (a verdict has some) become " | " in the plain form.
void control_log_write(struct control_log *log, enum control_log_level level, const char *message,
                       const struct control_log_field *fields, size_t field_count);
// The same for what may repeat fast; message must be constant text.
void control_log_repeat(struct control_log *log, enum control_log_level level, const char *message,
                        const struct control_log_field *fields, size_t field_count);
// Writes the counts of windows that are over (all, when `all`).
void control_log_flush(struct control_log *log, bool all);
// "2026-11-21T14:03:02.118Z"
void control_time_write(int64_t wall_ms, struct text *text);
