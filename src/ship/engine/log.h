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
    ENGINE_LOG_KINDS_MAX = 64, // repeating messages that are told apart
    ENGINE_LOG_WINDOW_MS = 10000,
    ENGINE_LOG_WINDOW_LINES = 5, // of one repeating message in a window
    ENGINE_LOG_LINE_BYTES = 2048,
};

enum engine_log_level { ENGINE_LOG_ERROR, ENGINE_LOG_WARN, ENGINE_LOG_INFO, ENGINE_LOG_DEBUG };

struct engine_log_field {
    const char *key;
    const char *text; // NULL: number
    uint64_t number;
};

struct engine_log_repeat {
    const char *message;
    int64_t since_ms;
    uint64_t lines;
    uint64_t held;
};

struct engine_log {
    FILE *stream; // NULL: silent
    enum engine_log_level level;
    bool json;
    int64_t (*wall_ms)(void *context);
    void *context;
    struct engine_log_repeat repeats[ENGINE_LOG_KINDS_MAX];
    uint64_t lines;
    uint64_t lines_held; // counted instead of written
};

#define ENGINE_TEXT(name, value) ((struct engine_log_field){.key = (name), .text = (value)})
#define ENGINE_NUMBER(name, value) ((struct engine_log_field){.key = (name), .number = (value)})
#define ENGINE_FIELDS(...)                                                                                   \
    (const struct engine_log_field[]){__VA_ARGS__},                                                          \
        sizeof((const struct engine_log_field[]){__VA_ARGS__}) / sizeof(struct engine_log_field)

// The clock is the system's until wall_ms is replaced (a simulation does).
void engine_log_init(struct engine_log *log, FILE *stream, bool json, enum engine_log_level level);
// message is a sentence; line ends in it (a verdict has some) become " | " in the plain form.
void engine_log_write(struct engine_log *log, enum engine_log_level level, const char *message,
                      const struct engine_log_field *fields, size_t field_count);
// The same for what may repeat fast; message must be constant text.
void engine_log_repeat(struct engine_log *log, enum engine_log_level level, const char *message,
                       const struct engine_log_field *fields, size_t field_count);
// Writes the counts of windows that are over (all, when `all`).
void engine_log_flush(struct engine_log *log, bool all);
// "2026-11-21T14:03:02.118Z"
void engine_time_write(int64_t wall_ms, struct text *text);
