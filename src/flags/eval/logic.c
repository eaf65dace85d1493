// SPDX-License-Identifier: Apache-2.0
// Evaluates compiled rules: control, comparison, arithmetic and variables. The first fault is kept and every
// later value is null. Depth and steps are bounded, so no rule and no context can occupy a thread for long.
#include <math.h>

#include "base/check.h"
#include "flags/eval/flags_private.h"

static const char *op_name(enum flags_op op)
{
    static const char *const NAMES[FLAGS_OP_COUNT] = {
        [FLAGS_OP_IF] = "if",    [FLAGS_OP_AND] = "and", [FLAGS_OP_OR] = "or",
        [FLAGS_OP_REF] = "$ref", [FLAGS_OP_VAR] = "var", [FLAGS_OP_FRACTIONAL] = "fractional",
    };
    return op < FLAGS_OP_COUNT && NAMES[op] != NULL ? NAMES[op] : "rule";
}

static void trace(struct flags_run *run, const struct flags_node *node, uint32_t argument)
{
    if (run->path != NULL)
        text_addf(run->path, ".%s[%u]", op_name((enum flags_op)node->op), argument);
}

// Variables

static struct flags_value scope_root(const struct flags_run *run, const struct flags_scope *scope)
{
    if (scope->kind == FLAGS_SCOPE_CONTEXT)
        return flags_value_of_tree(run->context->tree);
    // The pair {current, accumulator} of reduce is not a value itself; only its members are.
    return scope->kind == FLAGS_SCOPE_ITEM ? scope->current : flags_value_null();
}

// Follows one segment of a path. Members are searched one by one, so a huge object costs steps.
static struct flags_value step_into(struct flags_run *run, const struct flags_value *value,
                                    struct slice segment)
{
    enum { MEMBERS_PER_STEP = 16 };
    struct flags_items items = flags_value_items(value);
    if (!flags_run_charge(run, items.left / MEMBERS_PER_STEP))
        return flags_value_null();
    return flags_value_step(value, segment);
}

// The first segment of a path. Values that a rule injects into the context hide members of the same name.
static struct flags_value first_step(struct flags_run *run, const struct flags_scope *scope,
                                     struct slice segment)
{
    if (scope->kind == FLAGS_SCOPE_REDUCE) {
        if (slice_equal(segment, SLICE("current")))
            return scope->current;
        return slice_equal(segment, SLICE("accumulator")) ? scope->accumulator : flags_value_null();
    }
    if (scope->kind == FLAGS_SCOPE_CONTEXT && run->context->has_targeting_key &&
        slice_equal(segment, SLICE("targetingKey")))
        return flags_value_string(run->context->targeting_key);
    struct flags_value root = scope_root(run, scope);
    return step_into(run, &root, segment);
}

static struct flags_value injected(struct flags_run *run, struct slice name)
{
    if (slice_equal(name, SLICE("flagKey")))
        return flags_value_string(run->flag_key);
    if (slice_equal(name, SLICE("timestamp")))
        return flags_value_number((double)run->context->time_s);
    return flags_value_null();
}

// The common case: a path through objects only, so a plain walk over members. NULL when the path leaves the
// tree or meets an array; then the general way decides.
static const struct flags_json *plain_member(const struct flags_run *run, const struct flags_node *node)
{
    enum { MEMBERS_MAX = 64 }; // with more, use the general way, which counts them as steps
    const struct flags_span *path = flags_image_at(run->image, node->at);
    const struct flags_json *tree = run->context->tree;
    for (uint32_t i = 0; i < node->count && tree != NULL; i++) {
        const char *name = (const char *)run->image + path[i].at;
        const struct flags_json *member =
            tree->kind == FLAGS_JSON_OBJECT && tree->count <= MEMBERS_MAX ? tree->first : NULL;
        while (member != NULL &&
               (member->key.len != path[i].len || !flags_bytes_equal(member->key.data, name, path[i].len)))
            member = member->next;
        tree = member;
    }
    return tree;
}

static __attribute__((noinline)) struct flags_value
eval_var(struct flags_run *run, const struct flags_node *node, const struct flags_scope *scope)
{
    if (scope->kind == FLAGS_SCOPE_CONTEXT) {
        if (node->op == FLAGS_OP_VAR_FLAG_KEY)
            return flags_value_string(run->flag_key);
        if (node->op == FLAGS_OP_VAR_TIMESTAMP)
            return flags_value_number((double)run->context->time_s);
        if (node->op == FLAGS_OP_VAR_TARGETING_KEY && run->context->has_targeting_key)
            return flags_value_string(run->context->targeting_key);
    }
    if (scope->kind == FLAGS_SCOPE_CONTEXT && node->detail == 1) {
        const struct flags_json *tree = plain_member(run, node);
        if (tree != NULL)
            return flags_value_of_tree(tree);
    }
    const struct flags_span *path = flags_image_at(run->image, node->at);
    if (node->count == 0)
        return scope_root(run, scope);
    struct flags_value value = first_step(run, scope, flags_image_slice(run->image, path[0]));
    for (uint32_t i = 1; i < node->count; i++)
        value = step_into(run, &value, flags_image_slice(run->image, path[i]));
    return value;
}

struct flags_value flags_lookup_path(struct flags_run *run, const struct flags_scope *scope,
                                     struct slice path)
{
    struct flags_value value = flags_value_null();
    bool first = true;
    if (path.len == 0)
        return scope_root(run, scope);
    if (scope->kind == FLAGS_SCOPE_CONTEXT && slice_starts_with(path, SLICE("$flagd.")))
        return injected(run, (struct slice){path.data + 7, path.len - 7});
    for (size_t begin = 0; begin <= path.len && flags_run_charge(run, 1); first = false) {
        const char *dot = memchr(path.data + begin, '.', path.len - begin);
        size_t end = dot != NULL ? (size_t)(dot - path.data) : path.len;
        struct slice segment = {path.data + begin, end - begin};
        value = first ? first_step(run, scope, segment) : step_into(run, &value, segment);
        begin = end + 1;
    }
    return value;
}

static struct flags_value eval_var_dynamic(struct flags_run *run, const struct flags_node *node,
                                           const struct flags_scope *scope)
{
    struct flags_value name = flags_eval_argument(run, node, scope, 0);
    return flags_lookup_path(run, scope, flags_value_text(run, &name, SLICE("")));
}

static struct flags_value eval_var_default(struct flags_run *run, const struct flags_node *node,
                                           const struct flags_scope *scope)
{
    struct flags_value value = flags_eval_argument(run, node, scope, 0);
    return value.kind != FLAGS_VALUE_NULL ? value : flags_eval_argument(run, node, scope, 1);
}

// Control

static struct flags_value eval_if(struct flags_run *run, const struct flags_node *node,
                                  const struct flags_scope *scope, bool decides)
{
    const struct flags_code *arguments = flags_arguments(run, node);
    uint32_t i = 0;
    for (; i + 1 < node->count; i += 2) {
        struct flags_value condition = flags_eval(run, &arguments[i], scope, false);
        if (run->fault != NULL)
            return flags_value_null();
        if (flags_value_holds(&condition)) {
            i++;
            break;
        }
    }
    if (i >= node->count)
        return flags_value_null();
    if (decides)
        trace(run, node, i);
    return flags_eval(run, &arguments[i], scope, decides);
}

// `and` gives its first false argument, `or` its first true one; otherwise both give the last.
static struct flags_value eval_junction(struct flags_run *run, const struct flags_node *node,
                                        const struct flags_scope *scope, bool decides)
{
    struct flags_value value = flags_value_null();
    for (uint32_t i = 0; i < node->count; i++) {
        value = flags_eval_argument(run, node, scope, i);
        bool stop = flags_value_holds(&value) == (node->op == FLAGS_OP_OR);
        if (decides && (stop || i + 1 == node->count))
            trace(run, node, i);
        if (stop)
            break;
    }
    return value;
}

static struct flags_value eval_array(struct flags_run *run, const struct flags_node *node,
                                     const struct flags_scope *scope)
{
    struct flags_value *items = flags_run_alloc(run, node->count * sizeof *items);
    if (items == NULL)
        return flags_value_null();
    for (uint32_t i = 0; i < node->count; i++)
        items[i] = flags_eval_argument(run, node, scope, i);
    return (struct flags_value){.kind = FLAGS_VALUE_LIST, .count = node->count, .items = items};
}

// Comparison

static bool ordered(struct flags_run *run, enum flags_op op, const struct flags_value *a,
                    const struct flags_value *b)
{
    if (a->kind == FLAGS_VALUE_STRING && b->kind == FLAGS_VALUE_STRING) {
        size_t shared = a->count < b->count ? a->count : b->count;
        int order = shared > 0 ? memcmp(a->data, b->data, shared) : 0;
        if (order == 0)
            order = a->count < b->count ? -1 : a->count > b->count;
        return op == FLAGS_OP_LESS            ? order < 0
               : op == FLAGS_OP_LESS_EQUAL    ? order <= 0
               : op == FLAGS_OP_GREATER_EQUAL ? order >= 0
                                              : order > 0;
    }
    double left = flags_value_to_number(run, a);
    double right = flags_value_to_number(run, b);
    return op == FLAGS_OP_LESS            ? left < right
           : op == FLAGS_OP_LESS_EQUAL    ? left <= right
           : op == FLAGS_OP_GREATER_EQUAL ? left >= right
                                          : left > right;
}

static struct flags_value eval_ordered(struct flags_run *run, const struct flags_node *node,
                                       const struct flags_scope *scope)
{
    if (node->count < 2)
        return flags_value_boolean(false);
    struct flags_value a = flags_eval_argument(run, node, scope, 0);
    struct flags_value b = flags_eval_argument(run, node, scope, 1);
    bool holds = ordered(run, (enum flags_op)node->op, &a, &b);
    bool between = node->op == FLAGS_OP_LESS || node->op == FLAGS_OP_LESS_EQUAL;
    if (holds && between && node->count > 2) {
        struct flags_value upper = flags_eval_argument(run, node, scope, 2);
        holds = ordered(run, (enum flags_op)node->op, &b, &upper);
    }
    return flags_value_boolean(holds);
}

static struct flags_value eval_equality(struct flags_run *run, const struct flags_node *node,
                                        const struct flags_scope *scope)
{
    struct flags_value a = flags_eval_argument(run, node, scope, 0);
    struct flags_value b = flags_eval_argument(run, node, scope, 1);
    bool loose = node->op == FLAGS_OP_EQUAL || node->op == FLAGS_OP_NOT_EQUAL;
    bool wanted = node->op == FLAGS_OP_EQUAL || node->op == FLAGS_OP_SAME;
    bool equal = loose ? flags_value_equal(run, &a, &b) : flags_value_same(&a, &b);
    return flags_value_boolean(equal == wanted);
}

// Arithmetic

static struct flags_value eval_fold(struct flags_run *run, const struct flags_node *node,
                                    const struct flags_scope *scope)
{
    double total = node->op == FLAGS_OP_MULTIPLY ? 1 : 0;
    for (uint32_t i = 0; i < node->count; i++) {
        struct flags_value value = flags_eval_argument(run, node, scope, i);
        double number = flags_value_to_number(run, &value);
        switch (node->op) {
        case FLAGS_OP_ADD:
            total += number;
            break;
        case FLAGS_OP_MULTIPLY:
            total *= number;
            break;
        case FLAGS_OP_MAX:
            total = i == 0 || number > total || isnan(number) ? number : total;
            break;
        default:
            total = i == 0 || number < total || isnan(number) ? number : total;
            break;
        }
        if (isnan(total))
            break;
    }
    bool extreme = node->op == FLAGS_OP_MAX || node->op == FLAGS_OP_MIN;
    return extreme && node->count == 0 ? flags_value_null() : flags_value_number(total);
}

static struct flags_value eval_pair(struct flags_run *run, const struct flags_node *node,
                                    const struct flags_scope *scope)
{
    struct flags_value a = flags_eval_argument(run, node, scope, 0);
    struct flags_value b = flags_eval_argument(run, node, scope, 1);
    double left = flags_value_to_number(run, &a);
    if (node->count < 2)
        return flags_value_number(node->op == FLAGS_OP_SUBTRACT && node->count == 1 ? -left : (double)NAN);
    double right = flags_value_to_number(run, &b);
    if (node->op == FLAGS_OP_SUBTRACT)
        return flags_value_number(left - right);
    if (node->op == FLAGS_OP_MODULO)
        return flags_value_number(fmod(left, right));
    // Division by zero gives what IEEE 754 says, as in JavaScript; written out because C leaves it undefined.
    if (right == 0)
        return flags_value_number(left == 0 || isnan(left)              ? (double)NAN
                                  : (left > 0) == (signbit(right) == 0) ? (double)INFINITY
                                                                        : -(double)INFINITY);
    return flags_value_number(left / right);
}

static struct flags_value eval_ref(struct flags_run *run, const struct flags_node *node,
                                   const struct flags_scope *scope, bool decides)
{
    const struct flags_image_evaluator *evaluator = flags_image_at(run->image, node->at);
    if (decides && run->path != NULL) {
        text_addf(run->path, ".$ref(");
        text_add(run->path, flags_image_slice(run->image, evaluator->name));
        text_add_char(run->path, ')');
    }
    return flags_eval(run, flags_image_at(run->image, evaluator->node), scope, decides);
}

static struct flags_value eval_not(struct flags_run *run, const struct flags_node *node,
                                   const struct flags_scope *scope)
{
    struct flags_value value = flags_eval_argument(run, node, scope, 0);
    return flags_value_boolean(flags_value_holds(&value) == (node->op == FLAGS_OP_TRUTH));
}

static struct flags_value eval_operator(struct flags_run *run, const struct flags_node *node,
                                        const struct flags_scope *scope, bool decides)
{
    switch ((enum flags_op)node->op) {
    case FLAGS_OP_ARRAY:
        return eval_array(run, node, scope);
    case FLAGS_OP_VAR_DYNAMIC:
        return eval_var_dynamic(run, node, scope);
    case FLAGS_OP_VAR_DEFAULT:
        return eval_var_default(run, node, scope);
    case FLAGS_OP_REF:
        return eval_ref(run, node, scope, decides);
    case FLAGS_OP_IF:
        return eval_if(run, node, scope, decides);
    case FLAGS_OP_AND:
    case FLAGS_OP_OR:
        return eval_junction(run, node, scope, decides);
    case FLAGS_OP_NOT:
    case FLAGS_OP_TRUTH:
        return eval_not(run, node, scope);
    case FLAGS_OP_EQUAL:
    case FLAGS_OP_NOT_EQUAL:
    case FLAGS_OP_SAME:
    case FLAGS_OP_NOT_SAME:
        return eval_equality(run, node, scope);
    case FLAGS_OP_LESS:
    case FLAGS_OP_LESS_EQUAL:
    case FLAGS_OP_GREATER:
    case FLAGS_OP_GREATER_EQUAL:
        return eval_ordered(run, node, scope);
    case FLAGS_OP_ADD:
    case FLAGS_OP_MULTIPLY:
    case FLAGS_OP_MAX:
    case FLAGS_OP_MIN:
        return eval_fold(run, node, scope);
    case FLAGS_OP_SUBTRACT:
    case FLAGS_OP_DIVIDE:
    case FLAGS_OP_MODULO:
        return eval_pair(run, node, scope);
    case FLAGS_OP_CAT:
    case FLAGS_OP_SUBSTR:
    case FLAGS_OP_STARTS_WITH:
    case FLAGS_OP_ENDS_WITH:
        return flags_eval_text(run, node, scope);
    case FLAGS_OP_SEM_VER:
        return flags_eval_sem_ver(run, node, scope);
    case FLAGS_OP_FRACTIONAL:
        return flags_eval_fractional(run, node, scope, decides);
    case FLAGS_OP_FAULTY:
        return flags_run_fail(run, "the rule could not be compiled");
    default:
        return flags_eval_list(run, node, scope);
    }
}

// A function apart from flags_eval, so that constants and variables, the most frequent nodes, need no large
// stack frame.
static __attribute__((noinline)) struct flags_value
eval_rule(struct flags_run *run, const struct flags_node *node, const struct flags_scope *scope, bool decides)
{
    if (run->depth >= FLAGS_RULE_DEPTH_MAX)
        return flags_run_fail(run, "the rule is nested too deeply");
    run->depth++;
    struct flags_value value = eval_operator(run, node, scope, decides);
    run->depth--;
    return run->fault == NULL ? value : flags_value_null();
}

static double number_at(const struct flags_run *run, uint32_t at)
{
    const double *number = flags_image_at(run->image, at);
    return *number;
}

struct flags_value flags_eval(struct flags_run *run, const struct flags_code *code,
                              const struct flags_scope *scope, bool decides)
{
    struct flags_node node = flags_node_of(run->image, code);
    if (!flags_run_charge(run, 1))
        return flags_value_null();
    switch ((enum flags_op)node.op) {
    case FLAGS_OP_NULL:
        return flags_value_null();
    case FLAGS_OP_FALSE:
    case FLAGS_OP_TRUE:
        return flags_value_boolean(node.op == FLAGS_OP_TRUE);
    case FLAGS_OP_INTEGER:
        return flags_value_number((double)(int32_t)node.at);
    case FLAGS_OP_NUMBER:
        return flags_value_number(number_at(run, node.at));
    case FLAGS_OP_STRING:
        return flags_value_string((struct slice){flags_image_at(run->image, node.at), node.count});
    case FLAGS_OP_VAR:
    case FLAGS_OP_VAR_TARGETING_KEY:
    case FLAGS_OP_VAR_FLAG_KEY:
    case FLAGS_OP_VAR_TIMESTAMP:
        return eval_var(run, &node, scope);
    default:
        break;
    }
    return eval_rule(run, &node, scope, decides);
}
