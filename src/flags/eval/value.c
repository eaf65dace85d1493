// SPDX-License-Identifier: Apache-2.0
// Values of an evaluation and their conversions. The rules are ECMAScript's (ECMA-262 sections 7.1 and 7.2),
// because JSON Logic is defined by what JavaScript does, except that an empty array is false.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "flags/eval/flags_private.h"

struct flags_value flags_value_of_tree(const struct flags_json *tree)
{
    if (tree == NULL)
        return flags_value_null();
    switch (tree->kind) {
    case FLAGS_JSON_NULL:
        return flags_value_null();
    case FLAGS_JSON_FALSE:
    case FLAGS_JSON_TRUE:
        return flags_value_boolean(tree->kind == FLAGS_JSON_TRUE);
    case FLAGS_JSON_NUMBER:
        return flags_value_number(tree->number);
    case FLAGS_JSON_STRING:
        return flags_value_string(tree->text);
    default:
        return (struct flags_value){.kind = FLAGS_VALUE_TREE, .tree = tree};
    }
}

bool flags_value_is_array(const struct flags_value *value, uint32_t *count)
{
    if (value->kind == FLAGS_VALUE_LIST) {
        *count = value->count;
        return true;
    }
    if (value->kind != FLAGS_VALUE_TREE || value->tree->kind != FLAGS_JSON_ARRAY)
        return false;
    *count = value->tree->count;
    return true;
}

struct flags_items flags_value_items(const struct flags_value *value)
{
    struct flags_items items = {0};
    if (value->kind == FLAGS_VALUE_LIST)
        items = (struct flags_items){.next_value = value->items, .left = value->count};
    else if (value->kind == FLAGS_VALUE_TREE)
        items = (struct flags_items){.next_tree = value->tree->first, .left = value->tree->count};
    return items;
}

bool flags_items_next(struct flags_items *items, struct flags_value *value)
{
    if (items->left == 0)
        return false;
    items->left--;
    if (items->next_value != NULL) {
        *value = *items->next_value++;
        return true;
    }
    *value = flags_value_of_tree(items->next_tree);
    if (items->next_tree != NULL)
        items->next_tree = items->next_tree->next;
    return true;
}

// An array index as written: digits only, no leading zero. False for anything else.
static bool index_of(struct slice segment, uint32_t *index)
{
    uint32_t value = 0;
    if (segment.len == 0 || segment.len > 9 || (segment.len > 1 && segment.data[0] == '0'))
        return false;
    for (size_t i = 0; i < segment.len; i++) {
        if (segment.data[i] < '0' || segment.data[i] > '9')
            return false;
        value = value * 10 + (uint32_t)(segment.data[i] - '0');
    }
    *index = value;
    return true;
}

struct flags_value flags_value_step(const struct flags_value *value, struct slice segment)
{
    uint32_t index;
    if (value->kind == FLAGS_VALUE_TREE && value->tree->kind == FLAGS_JSON_OBJECT)
        return flags_value_of_tree(flags_json_member(value->tree, segment));
    if (value->kind != FLAGS_VALUE_LIST && value->kind != FLAGS_VALUE_TREE)
        return flags_value_null();
    if (!index_of(segment, &index))
        return flags_value_null();
    struct flags_items items = flags_value_items(value);
    struct flags_value item = flags_value_null();
    if (index >= items.left)
        return item;
    for (uint32_t i = 0; i <= index; i++)
        (void)flags_items_next(&items, &item);
    return item;
}

bool flags_value_truth(const struct flags_value *value)
{
    uint32_t count;
    switch (value->kind) {
    case FLAGS_VALUE_NULL:
        return false;
    case FLAGS_VALUE_BOOLEAN:
        return value->boolean;
    case FLAGS_VALUE_NUMBER:
        return value->number != 0 && !isnan(value->number);
    case FLAGS_VALUE_STRING:
        return value->count > 0;
    default:
        return !flags_value_is_array(value, &count) || count > 0;
    }
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// Number(text) of JavaScript: all of the text, ignoring space around it. NaN when it is not a decimal number.
static double number_of_text(struct slice text)
{
    char copy[FLAGS_JSON_NUMBER_BYTES_MAX + 1];
    while (text.len > 0 && is_space(text.data[0]))
        text = (struct slice){text.data + 1, text.len - 1};
    while (text.len > 0 && is_space(text.data[text.len - 1]))
        text.len--;
    if (text.len == 0)
        return 0;
    if (text.len > FLAGS_JSON_NUMBER_BYTES_MAX)
        return (double)NAN;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        // Keeps "inf", "nan" and hexadecimal, which the C library accepts, out.
        if (!(c >= '0' && c <= '9') && c != '+' && c != '-' && c != '.' && c != 'e' && c != 'E')
            return (double)NAN;
    }
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    char *end;
    double number = strtod(copy, &end);
    return end == copy + text.len ? number : (double)NAN;
}

double flags_value_to_number(struct flags_run *run, const struct flags_value *value)
{
    uint32_t count;
    switch (value->kind) {
    case FLAGS_VALUE_NULL:
        return 0;
    case FLAGS_VALUE_BOOLEAN:
        return value->boolean ? 1 : 0;
    case FLAGS_VALUE_NUMBER:
        return value->number;
    case FLAGS_VALUE_STRING:
        return number_of_text(flags_value_slice(value));
    default:
        break;
    }
    if (!flags_value_is_array(value, &count))
        return (double)NAN;
    return number_of_text(flags_value_text(run, value, SLICE("")));
}

// Number::toString (ECMA-262 section 6.1.6.1.20) from the digits and n, the position of the point after them.
static size_t layout_digits(const char *digits, int k, int n, char *out)
{
    enum { PLAIN_MAX = 21, ZEROS_MAX = -6 };
    if (n > ZEROS_MAX && n <= PLAIN_MAX) {
        size_t len = 0;
        if (n <= 0) {
            out[len++] = '0';
            out[len++] = '.';
            for (int i = n; i < 0; i++)
                out[len++] = '0';
        }
        for (int i = 0; i < (k > n ? k : n); i++) {
            if (i == n && n > 0)
                out[len++] = '.';
            out[len++] = i < k ? digits[i] : '0';
        }
        return len;
    }
    return (size_t)snprintf(out, FLAGS_NUMBER_TEXT_MAX - 1, "%c%s%.*se%+d", digits[0], k > 1 ? "." : "",
                            k - 1, digits + 1, n - 1);
}

static size_t small_integer_text(int64_t value, char *out)
{
    char reversed[20];
    size_t count = 0;
    size_t len = 0;
    bool negative = value < 0;
    uint64_t rest = negative ? (uint64_t)-value : (uint64_t)value;
    do {
        reversed[count++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (negative)
        out[len++] = '-';
    while (count > 0)
        out[len++] = reversed[--count];
    return len;
}

size_t flags_number_text(double number, char out[FLAGS_NUMBER_TEXT_MAX])
{
    char text[40];
    char digits[20] = {0};
    size_t len = 0;
    int precision = 0;
    if (isnan(number) || isinf(number))
        return (size_t)snprintf(out, FLAGS_NUMBER_TEXT_MAX, "%s",
                                isnan(number) ? "NaN" : (number > 0 ? "Infinity" : "-Infinity"));
    if (fabs(number) < 1e15 && number == trunc(number))
        return small_integer_text((int64_t)number, out);
    if (number < 0)
        out[len++] = '-';
    // The fewest digits from which the same number is read back: at most 17.
    do
        snprintf(text, sizeof text, "%.*e", precision, fabs(number));
    while (strtod(text, NULL) != fabs(number) && ++precision < 17);
    int k = 0;
    const char *at = text;
    for (; *at != '\0' && *at != 'e'; at++)
        if (*at != '.' && k < 18)
            digits[k++] = *at;
    int exponent = *at == 'e' ? (int)strtol(at + 1, NULL, 10) : 0;
    return len + layout_digits(digits, k, exponent + 1, out + len);
}

// Appends to the text being built at the end of the scratch.
static bool append(struct flags_run *run, struct slice piece)
{
    if (piece.len > run->scratch.cap - run->scratch_used || run->scratch.data == NULL) {
        flags_run_fail(run, "the evaluation needs more scratch than it was given");
        return false;
    }
    if (!flags_run_charge(run, 1 + piece.len / 64))
        return false;
    memcpy((char *)run->scratch.data + run->scratch_used, piece.data, piece.len);
    run->scratch_used += piece.len;
    return true;
}

static void append_value(struct flags_run *run, const struct flags_value *value, struct slice null_text)
{
    char number[FLAGS_NUMBER_TEXT_MAX];
    struct flags_value item;
    uint32_t count;
    bool first = true;
    switch (value->kind) {
    case FLAGS_VALUE_NULL:
        append(run, null_text);
        return;
    case FLAGS_VALUE_BOOLEAN:
        append(run, value->boolean ? SLICE("true") : SLICE("false"));
        return;
    case FLAGS_VALUE_NUMBER:
        append(run, (struct slice){number, flags_number_text(value->number, number)});
        return;
    case FLAGS_VALUE_STRING:
        append(run, flags_value_slice(value));
        return;
    default:
        break;
    }
    if (!flags_value_is_array(value, &count)) {
        append(run, SLICE("[object Object]"));
        return;
    }
    if (++run->depth > FLAGS_RULE_DEPTH_MAX + FLAGS_JSON_DEPTH_MAX)
        flags_run_fail(run, "a value is nested too deeply");
    for (struct flags_items items = flags_value_items(value);
         run->fault == NULL && flags_items_next(&items, &item); first = false)
        if (first || append(run, SLICE(",")))
            append_value(run, &item, SLICE(""));
    run->depth--;
}

struct slice flags_value_text(struct flags_run *run, const struct flags_value *value, struct slice null_text)
{
    if (value->kind == FLAGS_VALUE_STRING)
        return flags_value_slice(value);
    size_t begin = run->scratch_used;
    append_value(run, value, null_text);
    if (run->fault != NULL)
        return (struct slice){"", 0};
    return (struct slice){(const char *)run->scratch.data + begin, run->scratch_used - begin};
}

bool flags_value_same(const struct flags_value *a, const struct flags_value *b)
{
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case FLAGS_VALUE_NULL:
        return true;
    case FLAGS_VALUE_BOOLEAN:
        return a->boolean == b->boolean;
    case FLAGS_VALUE_NUMBER:
        return a->number == b->number;
    case FLAGS_VALUE_STRING:
        return flags_slice_same(flags_value_slice(a), flags_value_slice(b));
    case FLAGS_VALUE_LIST:
        return a->items == b->items && a->count == b->count;
    default:
        return a->tree == b->tree;
    }
}

bool flags_value_equal(struct flags_run *run, const struct flags_value *a, const struct flags_value *b)
{
    bool a_compound = a->kind == FLAGS_VALUE_LIST || a->kind == FLAGS_VALUE_TREE;
    bool b_compound = b->kind == FLAGS_VALUE_LIST || b->kind == FLAGS_VALUE_TREE;
    if (a->kind == b->kind || (a_compound && b_compound))
        return flags_value_same(a, b);
    if (a->kind == FLAGS_VALUE_NULL || b->kind == FLAGS_VALUE_NULL)
        return false;
    // A list or object is compared with a string as text, everything else as numbers.
    if ((a_compound && b->kind == FLAGS_VALUE_STRING) || (b_compound && a->kind == FLAGS_VALUE_STRING)) {
        struct slice left = flags_value_text(run, a, SLICE(""));
        struct slice right = flags_value_text(run, b, SLICE(""));
        return run->fault == NULL && slice_equal(left, right);
    }
    return flags_value_to_number(run, a) == flags_value_to_number(run, b);
}
