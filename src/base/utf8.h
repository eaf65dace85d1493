// SPDX-License-Identifier: Apache-2.0
// UTF-8 (RFC 3629): which bytes are a character, and where a text may be cut.
#pragma once

#include "base/slice.h"

size_t utf8_length_beyond_ascii(struct slice text);

// Length of the well-formed character at the start; 0 when there is none (section 4).
static inline size_t utf8_length(struct slice text)
{
    return text.len > 0 && (unsigned char)text.data[0] < 0x80 ? 1 : utf8_length_beyond_ascii(text);
}

// The bytes of a code point (a lone surrogate is put down like one), and how many they are.
size_t utf8_put(uint32_t code, char out[4]);
// What four hexadecimal digits spell, as behind \u in JSON; -1: they are none.
int utf8_unit(const char digits[4]);
bool utf8_valid(struct slice text);
// The longest prefix of at most `most` bytes that does not end within a character.
struct slice utf8_cut(struct slice text, size_t most);
// Copies as many whole characters as fit, and a NUL.
void utf8_copy(char *out, size_t cap, struct slice text);
// True for a character (as utf8_length found it) that is not shown but acts on a terminal or on the text
// around it: C0 and C1 controls, DEL, the line breaks U+2028 and U+2029, and the marks that change the
// direction of writing.
bool utf8_acts(struct slice character);
// Takes the next character off a text that is not empty, as a terminal may see it: "?" for one that acts and
// for a byte that belongs to none.
struct slice utf8_shown_next(struct slice *rest);
