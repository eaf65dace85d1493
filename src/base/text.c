// SPDX-License-Identifier: Apache-2.0
// Bounded text building; formatting is the C library's vsnprintf.
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>

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
    static const char hex[] = "0123456789abcdef";
    text_add_char(text, '"');
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char c = (unsigned char)bytes.data[i];
        if (c < 0x20) {
            text_add(text, SLICE("\\u00"));
            text_add_char(text, hex[c >> 4]);
            text_add_char(text, hex[c & 15]);
            continue;
        }
        if (c == '"' || c == '\\')
            text_add_char(text, '\\');
        text_add_char(text, (char)c);
    }
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
