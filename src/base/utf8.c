// SPDX-License-Identifier: Apache-2.0
#include "base/utf8.h"

size_t utf8_length_beyond_ascii(struct slice text)
{
    const unsigned char *bytes = (const unsigned char *)text.data;
    if (text.len == 0 || bytes[0] < 0xc2 || bytes[0] > 0xf4)
        return 0;
    unsigned char a = bytes[0];
    size_t need = a < 0xe0 ? 2 : a < 0xf0 ? 3 : 4;
    if (text.len < need)
        return 0;
    unsigned char low = a == 0xe0 ? 0xa0 : a == 0xf0 ? 0x90 : 0x80;
    unsigned char high = a == 0xed ? 0x9f : a == 0xf4 ? 0x8f : 0xbf;
    if (bytes[1] < low || bytes[1] > high)
        return 0;
    for (size_t i = 2; i < need; i++)
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    return need;
}

size_t utf8_put(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)((0xf00 >> len) | code);
    return len;
}

int utf8_unit(const char digits[4])
{
    int value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = slice_hex_value(digits[i]);
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

bool utf8_valid(struct slice text)
{
    for (size_t at = 0; at < text.len;) {
        size_t n = utf8_length((struct slice){text.data + at, text.len - at});
        if (n == 0)
            return false;
        at += n;
    }
    return true;
}

struct slice utf8_cut(struct slice text, size_t most)
{
    size_t len = text.len < most ? text.len : most;
    while (len < text.len && len > 0 && ((unsigned char)text.data[len] & 0xc0) == 0x80)
        len--;
    return (struct slice){text.data, len};
}

void utf8_copy(char *out, size_t cap, struct slice text)
{
    struct slice fits = utf8_cut(text, cap - 1);
    memcpy(out, fits.data, fits.len);
    out[fits.len] = '\0';
}

bool utf8_acts(struct slice character)
{
    const unsigned char *c = (const unsigned char *)character.data;
    if (character.len == 1)
        return c[0] < 0x20 || c[0] == 0x7f;
    if (character.len == 2)
        return (c[0] == 0xc2 && c[1] < 0xa0) || (c[0] == 0xd8 && c[1] == 0x9c);
    if (character.len != 3 || c[0] != 0xe2)
        return false;
    return c[1] == 0x80 ? c[2] == 0x8e || c[2] == 0x8f || (c[2] >= 0xa8 && c[2] <= 0xae)
                        : c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9;
}

struct slice utf8_shown_next(struct slice *rest)
{
    size_t len = utf8_length(*rest);
    struct slice character = {rest->data, len};
    *rest = (struct slice){rest->data + (len > 0 ? len : 1), rest->len - (len > 0 ? len : 1)};
    return len == 0 || utf8_acts(character) ? SLICE("?") : character;
}
