// SPDX-License-Identifier: Apache-2.0
// Bounded text building; formatting is the C library's vsnprintf.
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/json_out.h"

void text_add(struct text *text, struct slice piece)
{
    size_t room = text->cap - 1 - text->len;
    size_t n = piece.len;
    if (n > room) {
        n = room;
        text->cut = true;
    }
    if (n > 0)
        memcpy(text->data + text->len, piece.data, n);
    text->len += n;
    text->data[text->len] = '\0';
}

void text_add_char(struct text *text, char c)
{
    text_add(text, (struct slice){&c, 1});
}

void text_add_json(struct text *text, struct slice bytes)
{
    char storage[JSON_ESCAPE_BYTES];
    struct slice piece;
    text_add_char(text, '"');
    while (json_piece(&bytes, false, storage, &piece))
        text_add(text, piece);
    text_add_char(text, '"');
}

void text_addf(struct text *text, const char *format, ...)
{
    size_t room = text->cap - text->len;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text->data + text->len, room, format, args);
    va_end(args);
    if (n < 0)
        return;
    if ((size_t)n >= room) {
        text->len = text->cap - 1;
        text->cut = true;
        return;
    }
    text->len += (size_t)n;
}

void text_add_count(struct text *text, uint64_t value)
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            text_add_char(text, ' ');
        text_add_char(text, digits[i]);
    }
}
