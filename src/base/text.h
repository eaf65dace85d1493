// SPDX-License-Identifier: Apache-2.0
// A bounded text builder over the caller's storage. It never overruns: what does not fit is cut and `cut` is
// set. The text is always NUL-terminated.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct text {
    char *data;
    size_t len;
    size_t cap; // bytes of data, the NUL included; at least 1
    bool cut;
};

static inline struct text text_over(char *storage, size_t cap)
{
    storage[0] = '\0';
    return (struct text){.data = storage, .len = 0, .cap = cap, .cut = false};
}

void text_add(struct text *text, struct slice piece);
void text_add_char(struct text *text, char c);
// A JSON string, quotes included, as json_out writes it. Needs at most six bytes for each byte, and two for
// the quotes.
void text_add_json(struct text *text, struct slice bytes);
__attribute__((format(printf, 2, 3))) void text_addf(struct text *text, const char *format, ...);
// Writes 12 431 for 12431: groups of three digits, split by a space.
void text_add_count(struct text *text, uint64_t value);

static inline struct slice text_slice(const struct text *text)
{
    return (struct slice){text->data, text->len};
}
