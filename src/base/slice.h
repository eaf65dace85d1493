// SPDX-License-Identifier: Apache-2.0
// A borrowed run of bytes. It owns nothing and is not NUL-terminated.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *data;
    size_t len;
};

#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})
#define SLICE_FMT "%.*s"
#define SLICE_ARG(s) (int)(s).len, (s).data

static inline struct slice slice_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline char slice_lower_char(char c)
{
    return (c >= 'A' && c <= 'Z') ? (char)(c + 32) : c;
}

// -1: no hexadecimal digit.
static inline int slice_hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = slice_lower_char(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// ASCII case-insensitive equality (RFC 9110 5.1 field names).
static inline bool slice_equal_nocase(struct slice a, struct slice b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (slice_lower_char(a.data[i]) != slice_lower_char(b.data[i]))
            return false;
    return true;
}

static inline bool slice_starts_with(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && memcmp(s.data, prefix.data, prefix.len) == 0;
}
