// SPDX-License-Identifier: Apache-2.0
// Rules in JSON Logic, built from small parts. Constant conditions are folded, so that what was always true
// in the source is plainly so here.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flags/convert/convert_private.h"

json_t *convert_op1(const char *op, json_t *a)
{
    return json_pack("{s:[o]}", op, a);
}

json_t *convert_op2(const char *op, json_t *a, json_t *b)
{
    if (a == NULL || b == NULL) {
        json_decref(a);
        json_decref(b);
        return NULL;
    }
    return json_pack("{s:[o,o]}", op, a, b);
}

json_t *convert_var(const char *path)
{
    return json_pack("{s:s}", "var", path);
}

// Adds b to a's list when a is already of this operator.
static json_t *join(const char *op, json_t *a, json_t *b)
{
    json_t *list = json_object_get(a, op);
    if (list == NULL || json_object_size(a) != 1 || !json_is_array(list))
        return convert_op2(op, a, b);
    if (json_array_append_new(list, b) == 0)
        return a;
    json_decref(a);
    return NULL;
}

static json_t *combine(const char *op, bool neutral, json_t *a, json_t *b)
{
    if (a == NULL || b == NULL)
        return convert_op2(op, a, b);
    if (json_is_boolean(a)) {
        json_t *kept = json_is_true(a) == neutral ? b : a;
        json_decref(kept == a ? b : a);
        return kept;
    }
    if (json_is_boolean(b)) {
        json_t *kept = json_is_true(b) == neutral ? a : b;
        json_decref(kept == a ? b : a);
        return kept;
    }
    return join(op, a, b);
}

json_t *convert_and(json_t *a, json_t *b)
{
    return combine("and", true, a, b);
}

json_t *convert_or(json_t *a, json_t *b)
{
    return combine("or", false, a, b);
}

json_t *convert_not(json_t *a)
{
    if (!json_is_boolean(a))
        return convert_op1("!", a);
    bool was = json_is_true(a);
    json_decref(a);
    return json_boolean(!was);
}

json_t *convert_present(const json_t *value)
{
    return convert_op2("!=", json_deep_copy(value), json_null());
}

json_t *convert_is_text(const json_t *value)
{
    return convert_op2("===", convert_op1("cat", json_deep_copy(value)), json_deep_copy(value));
}

json_t *convert_is_number(const json_t *value)
{
    return convert_op2("===", convert_op1("+", json_deep_copy(value)), json_deep_copy(value));
}

json_t *convert_fractional(const char *prefix, json_t *value, const json_t *buckets)
{
    json_t *list = json_pack("[{s:[s,o]}]", "cat", prefix, value);
    if (list != NULL && json_array_extend(list, (json_t *)(uintptr_t)buckets) == 0)
        return json_pack("{s:o}", "fractional", list);
    json_decref(list);
    return NULL;
}

json_t *convert_share(const char *prefix, json_t *value, int64_t share)
{
    if (share <= 0 || share >= CONVERT_SHARE_TOTAL) {
        json_decref(value);
        return json_boolean(share > 0);
    }
    json_t *buckets =
        json_pack("[[s,I],[s,I]]", "in", (json_int_t)share, "out", (json_int_t)(CONVERT_SHARE_TOTAL - share));
    json_t *drawn = convert_fractional(prefix, value, buckets);
    json_decref(buckets);
    return convert_op2("===", drawn, json_string("in"));
}

// Copies a pattern whose characters all stand for themselves. False at the first that has a special meaning.
static bool plain_pattern(const char *pattern, size_t len, char *out)
{
    static const char SPECIAL[] = ".^$*+?()[]{}|";
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        char c = pattern[i];
        if (strchr(SPECIAL, c) != NULL)
            return false;
        if (c == '\\') {
            // A backslash before punctuation removes its special meaning; before letters and digits it gives
            // them one.
            if (++i >= len || (strchr(SPECIAL, pattern[i]) == NULL && strchr("\\/-", pattern[i]) == NULL))
                return false;
            c = pattern[i];
        }
        out[used++] = c;
    }
    out[used] = '\0';
    return true;
}

json_t *convert_pattern(const char *pattern, const json_t *value)
{
    char literal[256];
    size_t len = strlen(pattern);
    if (len >= sizeof literal)
        return NULL;
    bool front = len > 0 && pattern[0] == '^';
    bool back = len > front && pattern[len - 1] == '$' && (len < 2 || pattern[len - 2] != '\\');
    if (!plain_pattern(pattern + front, len - front - back, literal))
        return NULL;
    json_t *text = json_string(literal);
    if (front && back)
        return convert_op2("===", json_deep_copy(value), text);
    if (literal[0] == '\0') {
        json_decref(text);
        return convert_is_text(value);
    }
    if (front || back)
        return convert_op2(front ? "starts_with" : "ends_with", json_deep_copy(value), text);
    return convert_and(convert_is_text(value), convert_op2("in", text, json_deep_copy(value)));
}

static size_t take_digits(const char *text)
{
    size_t len = strspn(text, "0123456789");
    return len == 0 || len > 9 || (len > 1 && text[0] == '0') ? 0 : len;
}

// Identifiers of letters, digits and hyphens between dots, none empty, numeric ones without leading zeros.
static bool tail_valid(const char *text, bool numbers_strict)
{
    for (;;) {
        size_t len = strspn(text, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-");
        size_t digits = strspn(text, "0123456789");
        if (len == 0 || (numbers_strict && digits == len && len > 1 && text[0] == '0'))
            return false;
        if (text[len] == '\0')
            return true;
        if (text[len] != '.')
            return false;
        text += len + 1;
    }
}

bool convert_version(const char *text, bool partial, char *out, size_t cap)
{
    unsigned long part[3] = {0, 0, 0};
    for (int i = 0; i < 3; i++) {
        size_t len = take_digits(text);
        if (len == 0)
            return false;
        part[i] = strtoul(text, NULL, 10);
        text += len;
        if (i < 2 && *text == '.')
            text++;
        else if (i < 2 && !partial)
            return false;
        else
            break;
    }
    // Build metadata does not count in comparisons.
    const char *plus = strchr(text, '+');
    size_t len = plus != NULL ? (size_t)(plus - text) : strlen(text);
    char tail[128];
    if (len >= sizeof tail || (plus != NULL && !tail_valid(plus + 1, false)))
        return false;
    memcpy(tail, text, len);
    tail[len] = '\0';
    if (len > 0 && (tail[0] != '-' || !tail_valid(tail + 1, true)))
        return false;
    int written = snprintf(out, cap, "%lu.%lu.%lu%s", part[0], part[1], part[2], tail);
    return written > 0 && (size_t)written < cap;
}
