// SPDX-License-Identifier: Apache-2.0
// One line of the token file: `name kind environment sha256-hex`, split by blanks.
#include "net/web/tokens_read.h"

#include <string.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct slice tokens_line_next(struct slice *rest)
{
    const char *cut = memchr(rest->data, '\n', rest->len);
    struct slice line = {rest->data, cut != NULL ? (size_t)(cut - rest->data) : rest->len};
    size_t used = line.len + (cut != NULL);
    *rest = (struct slice){rest->data + used, rest->len - used};
    line.len -= line.len > 0 && line.data[line.len - 1] == '\r';
    return line;
}

static struct slice word_next(struct slice *rest)
{
    while (rest->len > 0 && is_blank(rest->data[0]))
        *rest = (struct slice){rest->data + 1, rest->len - 1};
    struct slice word = {rest->data, 0};
    while (word.len < rest->len && !is_blank(rest->data[word.len]))
        word.len++;
    *rest = (struct slice){rest->data + word.len, rest->len - word.len};
    return word;
}

bool tokens_word_valid(struct slice word, size_t cap)
{
    for (size_t i = 0; i < word.len; i++)
        if (word.data[i] <= 0x20 || word.data[i] >= 0x7f)
            return false;
    return word.len > 0 && word.len < cap;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = slice_lower_char(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hash_read(struct slice word, uint8_t hash[32])
{
    if (word.len != 64)
        return false;
    for (size_t i = 0; i < 32; i++) {
        int high = digit_of(word.data[2 * i]), low = digit_of(word.data[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        hash[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

static bool kind_read(struct slice word, enum token_kind *kind)
{
    *kind = slice_equal(word, SLICE("server")) ? TOKEN_SERVER : TOKEN_READ;
    return *kind == TOKEN_SERVER || slice_equal(word, SLICE("read"));
}

enum status tokens_line_read(struct slice line, struct token *token, struct fault *fault)
{
    struct token found = {0};
    struct slice name = word_next(&line);
    struct slice kind = word_next(&line);
    struct slice environment = word_next(&line);
    struct slice hash = word_next(&line);
    if (name.len == 0 || name.data[0] == '#')
        return STATUS_NOT_FOUND;
    const char *why = NULL;
    if (!tokens_word_valid(name, sizeof found.name))
        why = "the name is longer than 63 characters or holds other than visible ASCII";
    else if (!kind_read(kind, &found.kind))
        why = "after the name comes 'read' or 'server'";
    else if (!tokens_word_valid(environment, sizeof found.environment))
        why = "after the kind comes an environment of at most 127 visible characters, or '*'";
    else if (!hash_read(hash, found.hash))
        why = "after the environment come the 64 hexadecimal digits of the token's SHA-256";
    else if (word_next(&line).len > 0)
        why = "something stands behind the hash";
    if (why != NULL)
        return fault_set(fault, STATUS_INVALID, "%s", why);
    memcpy(found.name, name.data, name.len);
    memcpy(found.environment, environment.data, environment.len);
    *token = found;
    return STATUS_OK;
}
