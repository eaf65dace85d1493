// SPDX-License-Identifier: Apache-2.0
// Rules over lists: membership, merging, missing keys, map and similar rules.
#include "flags/eval/flags_private.h"

static struct flags_value list_of(const struct flags_value *items, uint32_t count)
{
    return (struct flags_value){.kind = FLAGS_VALUE_LIST, .count = count, .items = items};
}

static bool text_contains(struct flags_run *run, struct slice text, struct slice part)
{
    if (!flags_run_charge(run, text.len / 64))
        return false;
    return part.len == 0 || memmem(text.data, text.len, part.data, part.len) != NULL;
}

static struct flags_value eval_in(struct flags_run *run, const struct flags_node *node,
                                  const struct flags_scope *scope)
{
    struct flags_value needle = flags_eval_argument(run, node, scope, 0);
    struct flags_value stack = flags_eval_argument(run, node, scope, 1);
    struct flags_value item;
    if (stack.kind == FLAGS_VALUE_STRING) {
        if (stack.count == 0)
            return flags_value_boolean(false);
        struct slice part = flags_value_text(run, &needle, SLICE("null"));
        return flags_value_boolean(text_contains(run, flags_value_slice(&stack), part));
    }
    uint32_t count;
    if (!flags_value_is_array(&stack, &count))
        return flags_value_boolean(false);
    struct flags_items items = flags_value_items(&stack);
    while (flags_run_charge(run, 1) && flags_items_next(&items, &item))
        if (flags_value_same(&needle, &item))
            return flags_value_boolean(true);
    return flags_value_boolean(false);
}

// A literal list of strings, sorted at compile time. Membership is by type too, so only strings can be
// members.
static struct flags_value eval_in_strings(struct flags_run *run, const struct flags_node *node,
                                          const struct flags_scope *scope)
{
    struct flags_value needle = flags_eval_argument(run, node, scope, 0);
    struct flags_node set = flags_node_of(run->image, flags_arguments(run, node) + 1);
    const struct flags_span *spans = flags_image_at(run->image, set.at);
    uint32_t low = 0;
    uint32_t high = set.count;
    if (needle.kind != FLAGS_VALUE_STRING)
        return flags_value_boolean(false);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order =
            flags_slice_order(flags_value_slice(&needle), flags_image_slice(run->image, spans[middle]));
        if (order == 0)
            return flags_value_boolean(true);
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return flags_value_boolean(false);
}

// The arguments as a list. `whole`: if the first argument is itself an array, that array is the list.
static bool arguments_list(struct flags_run *run, const struct flags_node *node,
                           const struct flags_scope *scope, bool whole, struct flags_value *list)
{
    uint32_t count;
    struct flags_value *items = flags_run_alloc(run, node->count * sizeof *items);
    if (items == NULL)
        return false;
    for (uint32_t i = 0; i < node->count; i++)
        items[i] = flags_eval_argument(run, node, scope, i);
    *list = list_of(items, node->count);
    if (whole && node->count > 0 && flags_value_is_array(&items[0], &count))
        *list = items[0];
    return run->fault == NULL;
}

static struct flags_value eval_merge(struct flags_run *run, const struct flags_node *node,
                                     const struct flags_scope *scope)
{
    struct flags_value all;
    struct flags_value item;
    size_t total = 0;
    uint32_t count;
    if (!arguments_list(run, node, scope, false, &all))
        return flags_value_null();
    for (uint32_t i = 0; i < all.count; i++)
        total += flags_value_is_array(&all.items[i], &count) ? count : 1;
    if (!flags_run_charge(run, total))
        return flags_value_null();
    struct flags_value *merged = flags_run_alloc(run, total * sizeof *merged);
    if (merged == NULL)
        return flags_value_null();
    uint32_t used = 0;
    for (uint32_t i = 0; i < all.count; i++) {
        if (!flags_value_is_array(&all.items[i], &count)) {
            merged[used++] = all.items[i];
            continue;
        }
        struct flags_items items = flags_value_items(&all.items[i]);
        while (flags_items_next(&items, &item))
            merged[used++] = item;
    }
    return list_of(merged, used);
}

// The names whose value is absent, null or the empty string.
static struct flags_value missing_of(struct flags_run *run, const struct flags_scope *scope,
                                     const struct flags_value *names)
{
    struct flags_value name;
    struct flags_items items = flags_value_items(names);
    struct flags_value *missing = flags_run_alloc(run, items.left * sizeof *missing);
    if (missing == NULL)
        return flags_value_null();
    uint32_t used = 0;
    while (flags_run_charge(run, 1) && flags_items_next(&items, &name)) {
        struct slice path = flags_value_text(run, &name, SLICE(""));
        struct flags_value value = flags_lookup_path(run, scope, path);
        if (value.kind == FLAGS_VALUE_NULL || (value.kind == FLAGS_VALUE_STRING && value.count == 0))
            missing[used++] = name;
    }
    return list_of(missing, used);
}

static struct flags_value eval_missing(struct flags_run *run, const struct flags_node *node,
                                       const struct flags_scope *scope)
{
    struct flags_value names;
    if (!arguments_list(run, node, scope, true, &names))
        return flags_value_null();
    return missing_of(run, scope, &names);
}

static struct flags_value eval_missing_some(struct flags_run *run, const struct flags_node *node,
                                            const struct flags_scope *scope)
{
    struct flags_value need = flags_eval_argument(run, node, scope, 0);
    struct flags_value names = flags_eval_argument(run, node, scope, 1);
    uint32_t count;
    if (!flags_value_is_array(&names, &count))
        return list_of(NULL, 0);
    struct flags_value missing = missing_of(run, scope, &names);
    double needed = flags_value_to_number(run, &need);
    return (double)(count - missing.count) >= needed ? list_of(NULL, 0) : missing;
}

static struct flags_value eval_map(struct flags_run *run, const struct flags_node *node,
                                   const struct flags_scope *scope)
{
    struct flags_value source = flags_eval_argument(run, node, scope, 0);
    struct flags_scope inner = {.kind = FLAGS_SCOPE_ITEM};
    uint32_t count;
    uint32_t used = 0;
    if (run->fault != NULL || !flags_value_is_array(&source, &count))
        return list_of(NULL, 0);
    struct flags_value *out = flags_run_alloc(run, count * sizeof *out);
    if (out == NULL)
        return flags_value_null();
    struct flags_items items = flags_value_items(&source);
    while (flags_run_charge(run, 1) && flags_items_next(&items, &inner.current)) {
        struct flags_value value = flags_eval_argument(run, node, &inner, 1);
        if (node->op == FLAGS_OP_MAP)
            out[used++] = value;
        else if (flags_value_truth(&value))
            out[used++] = inner.current;
    }
    return list_of(out, used);
}

static struct flags_value eval_reduce(struct flags_run *run, const struct flags_node *node,
                                      const struct flags_scope *scope)
{
    struct flags_value source = flags_eval_argument(run, node, scope, 0);
    struct flags_scope inner = {.kind = FLAGS_SCOPE_REDUCE};
    uint32_t count;
    inner.accumulator = flags_eval_argument(run, node, scope, 2);
    if (!flags_value_is_array(&source, &count))
        return inner.accumulator;
    struct flags_items items = flags_value_items(&source);
    while (flags_run_charge(run, 1) && flags_items_next(&items, &inner.current))
        inner.accumulator = flags_eval_argument(run, node, &inner, 1);
    return inner.accumulator;
}

static struct flags_value eval_quantifier(struct flags_run *run, const struct flags_node *node,
                                          const struct flags_scope *scope)
{
    struct flags_value source = flags_eval_argument(run, node, scope, 0);
    struct flags_scope inner = {.kind = FLAGS_SCOPE_ITEM};
    uint32_t count = 0;
    if (!flags_value_is_array(&source, &count) || count == 0)
        return flags_value_boolean(node->op == FLAGS_OP_NONE);
    struct flags_items items = flags_value_items(&source);
    while (flags_run_charge(run, 1) && flags_items_next(&items, &inner.current)) {
        struct flags_value value = flags_eval_argument(run, node, &inner, 1);
        if (flags_value_truth(&value) != (node->op == FLAGS_OP_ALL))
            return flags_value_boolean(node->op == FLAGS_OP_SOME);
    }
    return flags_value_boolean(node->op != FLAGS_OP_SOME);
}

struct flags_value flags_eval_list(struct flags_run *run, const struct flags_node *node,
                                   const struct flags_scope *scope)
{
    switch ((enum flags_op)node->op) {
    case FLAGS_OP_IN:
        return eval_in(run, node, scope);
    case FLAGS_OP_IN_STRINGS:
        return eval_in_strings(run, node, scope);
    case FLAGS_OP_MERGE:
        return eval_merge(run, node, scope);
    case FLAGS_OP_MISSING:
        return eval_missing(run, node, scope);
    case FLAGS_OP_MISSING_SOME:
        return eval_missing_some(run, node, scope);
    case FLAGS_OP_MAP:
    case FLAGS_OP_FILTER:
        return eval_map(run, node, scope);
    case FLAGS_OP_REDUCE:
        return eval_reduce(run, node, scope);
    case FLAGS_OP_ALL:
    case FLAGS_OP_NONE:
    case FLAGS_OP_SOME:
        return eval_quantifier(run, node, scope);
    default:
        return flags_run_fail(run, "unknown node in the image");
    }
}
