// SPDX-License-Identifier: Apache-2.0
// Errors as people read them: place, one line of what is wrong, the source line and a caret under the place.
// A place is reported once however often an alias leads there.
#include <stdarg.h>
#include <stdio.h>

#include "daemon/config/config_private.h"

enum {
    EXCERPT_CHARACTERS = 72, // of the source line; what is longer is cut around the place
    EXCERPT_BEFORE = 48,     // characters kept before the place in a cut line
};

static size_t character_bytes(const char *at, const char *end)
{
    size_t bytes = 1;
    while (at + bytes < end && ((unsigned char)at[bytes] & 0xc0) == 0x80)
        bytes++;
    return bytes;
}

static struct slice line_of(struct slice source, uint32_t line)
{
    const char *at = source.data;
    const char *end = source.data + source.len;
    for (uint32_t i = 1; i < line; i++) {
        const char *feed = memchr(at, '\n', (size_t)(end - at));
        if (feed == NULL)
            return (struct slice){end, 0};
        at = feed + 1;
    }
    const char *feed = memchr(at, '\n', (size_t)(end - at));
    size_t len = (size_t)((feed == NULL ? end : feed) - at);
    if (len > 0 && at[len - 1] == '\r')
        len--;
    return (struct slice){at, len};
}

// Control and broken bytes become one visible character each, so that the caret stays under its place.
static void excerpt_character(struct text *text, const char *at, size_t bytes)
{
    unsigned char first = (unsigned char)at[0];
    if (first == '\t')
        text_add_char(text, ' ');
    else if (first < 0x20 || first == 0x7f || (bytes == 1 && first >= 0x80) || bytes > 4)
        text_add_char(text, '?');
    else
        text_add(text, (struct slice){at, bytes});
}

static void excerpt_fill(struct config_error *error, struct slice line)
{
    struct text text = text_over(error->excerpt, sizeof error->excerpt);
    uint32_t place = error->position.column - 1;
    uint32_t skip = place > EXCERPT_CHARACTERS - 8 ? place - EXCERPT_BEFORE : 0;
    const char *end = line.data + line.len;
    uint32_t index = 0;
    for (const char *at = line.data; at < end && index < skip + EXCERPT_CHARACTERS; index++) {
        size_t bytes = character_bytes(at, end);
        if (index >= skip && text.len + 5 < text.cap)
            excerpt_character(&text, at, bytes);
        at += bytes;
    }
    error->caret = place - skip;
    while (text.len > 0 && text.data[text.len - 1] == ' ' && text.len > error->caret)
        text.data[--text.len] = '\0';
    // A place past the end of a blank or cut line has nothing to point at.
    if (text.len == 0 || error->caret > text.len)
        error->excerpt[0] = '\0';
}

static bool same_error(const struct config_error *a, const struct config_error *b)
{
    return a->position.line == b->position.line && a->position.column == b->position.column &&
           strcmp(a->position.file, b->position.file) == 0 && strcmp(a->message, b->message) == 0;
}

static void error_keep(struct config_errors *errors, const struct config_error *error)
{
    for (uint32_t i = 0; i < errors->count; i++)
        if (same_error(&errors->items[i], error))
            return;
    if (errors->count == CONFIG_ERRORS_MAX) {
        errors->dropped++;
        return;
    }
    errors->items[errors->count++] = *error;
}

__attribute__((format(printf, 5, 0))) static void error_add(struct config_reader *reader, uint16_t file,
                                                            uint32_t line, uint32_t column,
                                                            const char *format, va_list arguments)
{
    struct config_error error = {.position = {.line = line, .column = column}};
    const struct config_source *source = &reader->sources.items[file];
    struct text name = text_over(error.position.file, sizeof error.position.file);
    text_add(&name, slice_of(source->name));
    vsnprintf(error.message, sizeof error.message, format, arguments);
    if (line > 0 && column > 0 && source->text.data != NULL)
        excerpt_fill(&error, line_of(source->text, line));
    error_keep(reader->errors, &error);
}

void config_error_mark(struct config_reader *reader, uint16_t file, uint32_t line, uint32_t column,
                       const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    error_add(reader, file, line, column, format, arguments);
    va_end(arguments);
}

void config_error_at(struct config_reader *reader, const struct config_node *node, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    error_add(reader, node->file, node->line, node->column, format, arguments);
    va_end(arguments);
}

struct config_position config_position_of(const struct config_reader *reader, const struct config_node *node)
{
    struct config_position position = {.line = node->line, .column = node->column};
    memcpy(position.file, reader->sources.items[node->file].name, sizeof position.file);
    return position;
}

static bool comes_before(const struct config_position *a, const struct config_position *b)
{
    int order = strcmp(a->file, b->file);
    if (order != 0)
        return order < 0;
    return a->line != b->line ? a->line < b->line : a->column < b->column;
}

void config_errors_sort(struct config_errors *errors)
{
    for (uint32_t i = 1; i < errors->count; i++) {
        struct config_error moving = errors->items[i];
        uint32_t place = i;
        for (; place > 0 && comes_before(&moving.position, &errors->items[place - 1].position); place--)
            errors->items[place] = errors->items[place - 1];
        errors->items[place] = moving;
    }
}

static void error_write(const struct config_error *error, struct text *text)
{
    text_add(text, slice_of(error->position.file));
    if (error->position.line > 0)
        text_addf(text, ":%u:%u", error->position.line, error->position.column);
    text_addf(text, ": %s\n", error->message);
    if (error->excerpt[0] == '\0')
        return;
    text_addf(text, "  %5u | %s\n", error->position.line, error->excerpt);
    text_addf(text, "        | %*s^\n", (int)error->caret, "");
}

void config_errors_write(const struct config_errors *errors, struct text *text)
{
    for (uint32_t i = 0; i < errors->count; i++)
        error_write(&errors->items[i], text);
    if (errors->dropped > 0)
        text_addf(text, "and %u more\n", errors->dropped);
}

struct config_shown config_show(struct slice shown)
{
    struct config_shown result;
    struct text text = text_over(result.text, sizeof result.text);
    const char *end = shown.data + shown.len;
    for (const char *at = shown.data; at < end;) {
        size_t bytes = character_bytes(at, end);
        if (text.len + bytes + 4 > text.cap - 1) {
            text_add(&text, SLICE("..."));
            break;
        }
        excerpt_character(&text, at, bytes);
        at += bytes;
    }
    return result;
}
