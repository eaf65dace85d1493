// SPDX-License-Identifier: Apache-2.0
// Rules over text: cat, substr, starts_with, ends_with.
#include <math.h>

#include "flags/eval/flags_private.h"

static struct flags_value eval_cat(struct flags_run *run, const struct flags_node *node,
                                   const struct flags_scope *scope)
{
    struct flags_value *values = flags_run_alloc(run, node->count * sizeof *values);
    if (values == NULL)
        return flags_value_null();
    size_t total = 0;
    for (uint32_t i = 0; i < node->count; i++) {
        struct flags_value value = flags_eval_argument(run, node, scope, i);
        values[i] = flags_value_string(flags_value_text(run, &value, SLICE("")));
        total += values[i].count;
    }
    char *out = flags_run_alloc(run, total);
    if (out == NULL || !flags_run_charge(run, total / 64))
        return flags_value_null();
    size_t at = 0;
    for (uint32_t i = 0; i < node->count; at += values[i++].count)
        memcpy(out + at, values[i].data, values[i].count);
    return flags_value_string((struct slice){out, total});
}

// Byte offset of the n-th code point.
static size_t offset_of(struct slice text, size_t n)
{
    size_t at = 0;
    for (; n > 0 && at < text.len; n--) {
        at++;
        while (at < text.len && ((unsigned char)text.data[at] & 0xc0) == 0x80)
            at++;
    }
    return at;
}

static double clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

// Positions count code points. A negative start counts from the end; a negative length leaves out that many
// code points at the end.
static struct flags_value eval_substr(struct flags_run *run, const struct flags_node *node,
                                      const struct flags_scope *scope)
{
    struct flags_value source = flags_eval_argument(run, node, scope, 0);
    struct flags_value from = flags_eval_argument(run, node, scope, 1);
    struct flags_value length = flags_eval_argument(run, node, scope, 2);
    struct slice text = flags_value_text(run, &source, SLICE("null"));
    if (!flags_run_charge(run, text.len / 64))
        return flags_value_null();
    double points = 0;
    for (size_t i = 0; i < text.len; i++)
        points += ((unsigned char)text.data[i] & 0xc0) != 0x80;
    double begin = trunc(flags_value_to_number(run, &from));
    begin = isnan(begin) ? 0 : clamp(begin < 0 ? points + begin : begin, 0, points);
    double take = points - begin;
    if (node->count > 2 && length.kind != FLAGS_VALUE_NULL) {
        double wanted = trunc(flags_value_to_number(run, &length));
        take = isnan(wanted) ? 0 : clamp(wanted < 0 ? take + wanted : wanted, 0, take);
    }
    size_t begin_at = offset_of(text, (size_t)begin);
    struct slice rest = {text.data + begin_at, text.len - begin_at};
    rest.len = offset_of(rest, (size_t)take);
    return flags_value_string(rest);
}

// Null rather than false when an argument is not a string, so that the default variant answers and not a
// variant that happens to be named "false".
static struct flags_value eval_affix(struct flags_run *run, const struct flags_node *node,
                                     const struct flags_scope *scope)
{
    if (node->count != 2)
        return flags_value_null();
    struct flags_value text = flags_eval_argument(run, node, scope, 0);
    struct flags_value affix = flags_eval_argument(run, node, scope, 1);
    if (text.kind != FLAGS_VALUE_STRING || affix.kind != FLAGS_VALUE_STRING) {
        run->note = "starts_with or ends_with got something that is no string";
        return flags_value_null();
    }
    if (affix.count > text.count)
        return flags_value_boolean(false);
    size_t at = node->op == FLAGS_OP_ENDS_WITH ? text.count - affix.count : 0;
    return flags_value_boolean(affix.count == 0 || memcmp(text.data + at, affix.data, affix.count) == 0);
}

struct flags_value flags_eval_text(struct flags_run *run, const struct flags_node *node,
                                   const struct flags_scope *scope)
{
    switch ((enum flags_op)node->op) {
    case FLAGS_OP_CAT:
        return eval_cat(run, node, scope);
    case FLAGS_OP_SUBSTR:
        return eval_substr(run, node, scope);
    default:
        return eval_affix(run, node, scope);
    }
}
