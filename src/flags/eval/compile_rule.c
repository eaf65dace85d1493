// SPDX-License-Identifier: Apache-2.0
// From the JSON of a targeting rule to nodes: operators become codes, paths are split, lists of strings
// sorted, $ref becomes an offset. A fault in a rule concerns only that rule's flag: it is noted and the walk
// goes on, so that one pass reports all faults.
#include <math.h>

#include "base/check.h"
#include "flags/eval/flags_private.h"

enum {
    NESTING_MAX = 512,   // of compile calls, evaluators within evaluators included
    ANY = 255,           // no upper limit of arguments
    STRINGS_SORT_MIN = 4 // shorter lists are not worth a table
};

// The shape of arguments that the published schema asks for.
enum shape { SHAPE_LIST, SHAPE_UNARY, SHAPE_FREE };

struct operation {
    const char *name;
    uint8_t op;
    uint8_t least;
    uint8_t most;
    uint8_t shape;
};

static const struct operation OPERATIONS[] = {
    {"if", FLAGS_OP_IF, 1, ANY, SHAPE_LIST},
    {"?:", FLAGS_OP_IF, 1, ANY, SHAPE_LIST},
    {"and", FLAGS_OP_AND, 1, ANY, SHAPE_LIST},
    {"or", FLAGS_OP_OR, 1, ANY, SHAPE_LIST},
    {"!", FLAGS_OP_NOT, 1, 1, SHAPE_UNARY},
    {"!!", FLAGS_OP_TRUTH, 1, 1, SHAPE_UNARY},
    {"==", FLAGS_OP_EQUAL, 2, 2, SHAPE_LIST},
    {"!=", FLAGS_OP_NOT_EQUAL, 2, 2, SHAPE_LIST},
    {"===", FLAGS_OP_SAME, 2, 2, SHAPE_LIST},
    {"!==", FLAGS_OP_NOT_SAME, 2, 2, SHAPE_LIST},
    {"<", FLAGS_OP_LESS, 2, 3, SHAPE_LIST},
    {"<=", FLAGS_OP_LESS_EQUAL, 2, 3, SHAPE_LIST},
    {">", FLAGS_OP_GREATER, 2, 2, SHAPE_LIST},
    {">=", FLAGS_OP_GREATER_EQUAL, 2, 2, SHAPE_LIST},
    {"+", FLAGS_OP_ADD, 1, ANY, SHAPE_LIST},
    {"-", FLAGS_OP_SUBTRACT, 1, ANY, SHAPE_LIST},
    {"*", FLAGS_OP_MULTIPLY, 2, ANY, SHAPE_LIST},
    {"/", FLAGS_OP_DIVIDE, 2, 2, SHAPE_LIST},
    {"%", FLAGS_OP_MODULO, 2, 2, SHAPE_LIST},
    {"max", FLAGS_OP_MAX, 1, ANY, SHAPE_LIST},
    {"min", FLAGS_OP_MIN, 1, ANY, SHAPE_LIST},
    {"cat", FLAGS_OP_CAT, 1, ANY, SHAPE_LIST},
    {"substr", FLAGS_OP_SUBSTR, 2, 3, SHAPE_LIST},
    {"in", FLAGS_OP_IN, 2, 2, SHAPE_LIST},
    {"merge", FLAGS_OP_MERGE, 1, ANY, SHAPE_LIST},
    {"missing", FLAGS_OP_MISSING, 0, ANY, SHAPE_LIST},
    {"missing_some", FLAGS_OP_MISSING_SOME, 2, 2, SHAPE_LIST},
    {"map", FLAGS_OP_MAP, 2, 2, SHAPE_LIST},
    {"filter", FLAGS_OP_FILTER, 2, 2, SHAPE_LIST},
    {"reduce", FLAGS_OP_REDUCE, 3, 3, SHAPE_LIST},
    {"all", FLAGS_OP_ALL, 2, 2, SHAPE_LIST},
    {"none", FLAGS_OP_NONE, 2, 2, SHAPE_LIST},
    {"some", FLAGS_OP_SOME, 2, 2, SHAPE_LIST},
    {"starts_with", FLAGS_OP_STARTS_WITH, 2, 2, SHAPE_LIST},
    {"ends_with", FLAGS_OP_ENDS_WITH, 2, 2, SHAPE_LIST},
    {"sem_ver", FLAGS_OP_SEM_VER, 3, 3, SHAPE_LIST},
    {"fractional", FLAGS_OP_FRACTIONAL, 1, ANY, SHAPE_LIST},
    {"var", FLAGS_OP_VAR, 0, ANY, SHAPE_FREE},
};

// Notes a fault that makes the rule's flag answer PARSE_ERROR. A shared segment with such a fault is refused.
static void rule_fault(struct flags_compiler *c, const char *message, const struct flags_json *where,
                       struct slice subject)
{
    if (c->rule_fault == NULL)
        c->rule_fault = message;
    bool refuse = c->options.strict || c->document == FLAGS_DOCUMENTS_MAX;
    flags_compile_problem(c, refuse ? FLAGS_ERROR : FLAGS_FAULT, message, where, subject);
}

// Notes a departure from the schema that evaluation tolerates: the operator yields null or ignores the
// argument.
static void rule_remark(struct flags_compiler *c, const char *message, const struct flags_json *where,
                        struct slice subject)
{
    flags_compile_problem(c, c->options.strict ? FLAGS_ERROR : FLAGS_WARNING, message, where, subject);
}

static void compile_node(struct flags_compiler *c, const struct flags_json *tree, uint32_t slot,
                         uint32_t depth);

static void set_node(struct flags_compiler *c, uint32_t slot, struct flags_node node)
{
    struct flags_code code = {.op = node.op, .detail = node.detail, .count = FLAGS_COUNT_WIDE, .at = node.at};
    if (node.count >= FLAGS_COUNT_WIDE) {
        struct flags_span wide = {node.at, node.count};
        code.at = flags_write_reserve(c, sizeof wide, 4);
        if (c->status == STATUS_OK)
            memcpy(c->out + code.at, &wide, sizeof wide);
    } else {
        code.count = (uint16_t)node.count;
    }
    if (c->status == STATUS_OK)
        memcpy(c->out + slot, &code, sizeof code);
}

static uint32_t reserve_nodes(struct flags_compiler *c, uint64_t count)
{
    return flags_write_reserve(c, count * sizeof(struct flags_code), 4);
}

static uint32_t node_at(uint32_t first, uint32_t i)
{
    return first + i * (uint32_t)sizeof(struct flags_code);
}

static void set_number(struct flags_compiler *c, uint32_t slot, double number)
{
    // Minus zero is a number of its own.
    bool whole = number == trunc(number) && !(number == 0 && signbit(number));
    if (whole && number >= INT32_MIN && number <= INT32_MAX) {
        set_node(c, slot, (struct flags_node){.op = FLAGS_OP_INTEGER, .at = (uint32_t)(int32_t)number});
        return;
    }
    uint32_t at = flags_write_reserve(c, sizeof number, 8);
    if (c->status == STATUS_OK)
        memcpy(c->out + at, &number, sizeof number);
    set_node(c, slot, (struct flags_node){.op = FLAGS_OP_NUMBER, .at = at});
}

static void compile_string(struct flags_compiler *c, struct slice text, uint32_t slot)
{
    struct flags_span span = flags_write_bytes(c, text);
    set_node(c, slot, (struct flags_node){.op = FLAGS_OP_STRING, .count = span.len, .at = span.at});
}

// Children of an array, or the single argument where an operator was given no array.
static void compile_children(struct flags_compiler *c, enum flags_op op, const struct flags_json *value,
                             bool single, uint32_t slot, uint32_t depth)
{
    uint32_t count = single ? 1 : value->count;
    uint32_t first = reserve_nodes(c, count);
    if (c->status != STATUS_OK)
        return;
    set_node(c, slot, (struct flags_node){.op = (uint8_t)op, .count = count, .at = first});
    const struct flags_json *child = single ? value : value->first;
    for (uint32_t i = 0; i < count && c->status == STATUS_OK; i++, child = child->next)
        compile_node(c, child, node_at(first, i), depth + 1);
}

// Variables

static uint32_t write_path(struct flags_compiler *c, struct slice path, uint32_t count)
{
    uint32_t at = flags_write_reserve(c, count * sizeof(struct flags_span), 4);
    size_t begin = 0;
    for (uint32_t i = 0; i < count && c->status == STATUS_OK; i++) {
        const char *dot = memchr(path.data + begin, '.', path.len - begin);
        size_t end = dot != NULL ? (size_t)(dot - path.data) : path.len;
        struct flags_span span = flags_write_bytes(c, (struct slice){path.data + begin, end - begin});
        if (c->status == STATUS_OK)
            memcpy(c->out + at + i * sizeof span, &span, sizeof span);
        begin = end + 1;
    }
    return at;
}

static void compile_path(struct flags_compiler *c, struct slice path, uint32_t slot)
{
    uint32_t count = path.len > 0;
    for (size_t i = 0; i < path.len; i++)
        count += path.data[i] == '.';
    uint8_t op = FLAGS_OP_VAR;
    if (slice_equal(path, SLICE("targetingKey")))
        op = FLAGS_OP_VAR_TARGETING_KEY;
    else if (slice_equal(path, SLICE("$flagd.flagKey")))
        op = FLAGS_OP_VAR_FLAG_KEY;
    else if (slice_equal(path, SLICE("$flagd.timestamp")))
        op = FLAGS_OP_VAR_TIMESTAMP;
    size_t cached = flags_hash_of(path, 2) % FLAGS_INTERN_SLOTS;
    struct flags_span text = c->paths[cached].text;
    if (text.len != path.len || memcmp(c->out + text.at, path.data, path.len) != 0) {
        text = flags_write_bytes(c, path);
        uint32_t segments = write_path(c, path, count);
        if (c->status != STATUS_OK)
            return;
        c->paths[cached].text = text;
        c->paths[cached].segments = segments;
    }
    uint32_t at = c->paths[cached].segments;
    bool plain = count > 0 && !slice_starts_with(path, SLICE("$flagd")) &&
                 !slice_starts_with(path, SLICE("targetingKey"));
    set_node(c, slot, (struct flags_node){.op = op, .detail = plain, .count = count, .at = at});
}

static void check_path(struct flags_compiler *c, const struct flags_json *name)
{
    static const struct slice PREFIX = {"$flagd.", 7};
    if (name->kind == FLAGS_JSON_STRING && slice_starts_with(name->text, PREFIX) &&
        !slice_equal(name->text, SLICE("$flagd.timestamp")) &&
        !slice_equal(name->text, SLICE("$flagd.flagKey")))
        rule_remark(c, "only $flagd.flagKey and $flagd.timestamp exist", name, name->text);
}

static void compile_var_name(struct flags_compiler *c, const struct flags_json *name, uint32_t slot,
                             uint32_t depth)
{
    check_path(c, name);
    if (name->kind == FLAGS_JSON_STRING || (name->kind == FLAGS_JSON_NUMBER && name->integral))
        compile_path(c, name->text, slot);
    else if (name->kind == FLAGS_JSON_NULL)
        compile_path(c, SLICE(""), slot);
    else
        compile_children(c, FLAGS_OP_VAR_DYNAMIC, name, true, slot, depth);
}

static void compile_var(struct flags_compiler *c, const struct flags_json *value, uint32_t slot,
                        uint32_t depth)
{
    if (value->kind != FLAGS_JSON_ARRAY) {
        compile_var_name(c, value, slot, depth);
        return;
    }
    if (value->count == 0) {
        compile_path(c, SLICE(""), slot);
        return;
    }
    if (value->count == 1) {
        compile_var_name(c, value->first, slot, depth);
        return;
    }
    uint32_t pair = reserve_nodes(c, 2);
    if (c->status != STATUS_OK)
        return;
    set_node(c, slot, (struct flags_node){.op = FLAGS_OP_VAR_DEFAULT, .count = 2, .at = pair});
    compile_var_name(c, value->first, pair, depth + 1);
    compile_node(c, value->first->next, node_at(pair, 1), depth + 1);
}

// Membership in a literal list of strings

static bool strings_only(const struct flags_json *list)
{
    if (list->kind != FLAGS_JSON_ARRAY || list->count < STRINGS_SORT_MIN)
        return false;
    for (const struct flags_json *item = list->first; item != NULL; item = item->next)
        if (item->kind != FLAGS_JSON_STRING)
            return false;
    return true;
}

static void compile_in(struct flags_compiler *c, const struct flags_json *value, uint32_t slot,
                       uint32_t depth)
{
    const struct flags_json *list =
        value->kind == FLAGS_JSON_ARRAY && value->count == 2 ? value->first->next : NULL;
    if (list == NULL || !strings_only(list)) {
        compile_children(c, FLAGS_OP_IN, value, value->kind != FLAGS_JSON_ARRAY, slot, depth);
        return;
    }
    uint32_t pair = reserve_nodes(c, 2);
    uint32_t spans = flags_write_reserve(c, (uint64_t)list->count * sizeof(struct flags_span), 4);
    uint32_t i = 0;
    for (const struct flags_json *item = list->first; item != NULL && c->status == STATUS_OK;
         item = item->next, i++) {
        struct flags_span span = flags_write_bytes(c, item->text);
        if (c->status == STATUS_OK)
            memcpy(c->out + spans + i * sizeof span, &span, sizeof span);
    }
    if (c->status != STATUS_OK)
        return;
    flags_write_sort_spans(c->out, spans, list->count, sizeof(struct flags_span));
    set_node(c, slot, (struct flags_node){.op = FLAGS_OP_IN_STRINGS, .count = 2, .at = pair});
    set_node(c, node_at(pair, 1),
             (struct flags_node){.op = FLAGS_OP_STRINGS, .count = list->count, .at = spans});
    compile_node(c, value->first, pair, depth + 1);
}

// Fractional

static bool is_rule(const struct flags_json *tree)
{
    return tree->kind == FLAGS_JSON_OBJECT && tree->count == 1;
}

static bool check_bucket(struct flags_compiler *c, const struct flags_json *bucket)
{
    if (bucket->kind != FLAGS_JSON_ARRAY || bucket->count < 1 || bucket->count > 2) {
        rule_remark(c, "a bucket of fractional is [variant] or [variant, weight]", bucket, SLICE(""));
        return false;
    }
    const struct flags_json *weight = bucket->first->next;
    if (weight == NULL || is_rule(weight))
        return true;
    if (weight->kind != FLAGS_JSON_NUMBER) {
        rule_remark(c, "a weight is a whole number or a rule", weight, SLICE(""));
        return false;
    }
    if (weight->number < 0 || weight->number != trunc(weight->number))
        rule_remark(c, "a weight is a whole number, not below zero", weight, SLICE(""));
    return true;
}

// The sum of the weights when all are constants, else 0. When the sum is too large the operator yields null.
static uint32_t constant_total(struct flags_compiler *c, const struct flags_json *bucket)
{
    double total = 0;
    const struct flags_json *where = bucket;
    for (; bucket != NULL; bucket = bucket->next) {
        const struct flags_json *weight = bucket->first->next;
        if (weight != NULL && weight->kind != FLAGS_JSON_NUMBER)
            return 0;
        double number = weight == NULL ? 1 : weight->number;
        total += number > 0 ? (double)(uint64_t)(number < 1e15 ? number : 1e15) : 0;
    }
    if (total <= FLAGS_WEIGHT_TOTAL_MAX)
        return (uint32_t)total;
    rule_remark(c, "the weights add up to more than 2147483647", where, SLICE(""));
    return 0;
}

static void compile_buckets(struct flags_compiler *c, const struct flags_json *bucket, uint32_t first,
                            uint32_t depth)
{
    for (uint32_t i = 1; bucket != NULL && c->status == STATUS_OK; bucket = bucket->next, i += 2) {
        const struct flags_json *weight = bucket->first->next;
        compile_node(c, bucket->first, node_at(first, i), depth + 1);
        if (weight == NULL)
            set_number(c, node_at(first, i + 1), 1);
        else
            compile_node(c, weight, node_at(first, i + 1), depth + 1);
    }
}

static void compile_fractional(struct flags_compiler *c, const struct flags_json *value, uint32_t slot,
                               uint32_t depth)
{
    const struct flags_json *bucket = value->kind == FLAGS_JSON_ARRAY ? value->first : NULL;
    bool has_value = bucket != NULL && bucket->kind != FLAGS_JSON_ARRAY;
    bool well = bucket != NULL;
    if (!well)
        rule_remark(c, "fractional takes a list of buckets", value, SLICE("fractional"));
    if (has_value) {
        if (!is_rule(bucket))
            rule_remark(c, "the bucketing value is not a rule", bucket, SLICE("fractional"));
        bucket = bucket->next;
    }
    for (const struct flags_json *b = bucket; b != NULL; b = b->next)
        well = check_bucket(c, b) && well;
    set_node(c, slot, (struct flags_node){.op = FLAGS_OP_NULL});
    if (!well || bucket == NULL)
        return;
    uint32_t count = value->count - has_value;
    uint32_t total = constant_total(c, bucket);
    uint32_t total_at = flags_write_reserve(c, sizeof total, 4);
    uint32_t first = reserve_nodes(c, 1 + 2 * (uint64_t)count);
    if (c->status == STATUS_OK)
        memcpy(c->out + total_at, &total, sizeof total);
    set_node(c, slot,
             (struct flags_node){
                 .op = FLAGS_OP_FRACTIONAL, .detail = has_value, .count = 1 + 2 * count, .at = first});
    if (has_value)
        compile_node(c, value->first, first, depth + 1);
    else
        c->rule_bits |= FLAGS_BIT_USES_KEY;
    compile_buckets(c, bucket, first, depth);
}

// What the schema and the operators demand of arguments

static void check_affix(struct flags_compiler *c, const struct flags_json *value, struct slice name)
{
    if (value->kind != FLAGS_JSON_ARRAY)
        return;
    for (const struct flags_json *argument = value->first; argument != NULL; argument = argument->next)
        if (argument->kind != FLAGS_JSON_STRING && !is_rule(argument))
            rule_remark(c, "the operator takes strings", argument, name);
}

static void check_version(struct flags_compiler *c, const struct flags_json *argument)
{
    bool constant = argument->kind == FLAGS_JSON_STRING;
    bool var = is_rule(argument) && slice_equal(argument->first->key, SLICE("var"));
    if (constant ? !flags_sem_ver_valid(argument->text, !c->options.strict) : !var)
        rule_remark(c, "not a semantic version (or a var)", argument, SLICE("sem_ver"));
}

static void check_sem_ver(struct flags_compiler *c, const struct flags_json *value)
{
    if (value->kind != FLAGS_JSON_ARRAY || value->count != 3)
        return;
    const struct flags_json *op = value->first->next;
    check_version(c, value->first);
    check_version(c, op->next);
    if (op->kind != FLAGS_JSON_STRING || !flags_sem_ver_op_known(op->text))
        rule_remark(c, "not one of = != < <= > >= ~ ^", op, SLICE("sem_ver"));
}

static void check_names(struct flags_compiler *c, const struct flags_json *list, struct slice name)
{
    if (!c->options.strict || list == NULL)
        return;
    if (list->kind != FLAGS_JSON_ARRAY) {
        rule_remark(c, "the operator takes a list of names", list, name);
        return;
    }
    for (const struct flags_json *item = list->first; item != NULL; item = item->next)
        if (item->kind != FLAGS_JSON_STRING)
            rule_remark(c, "the operator takes names", item, name);
}

static void check_arguments(struct flags_compiler *c, const struct operation *operation,
                            const struct flags_json *value)
{
    struct slice name = slice_of(operation->name);
    bool list = value->kind == FLAGS_JSON_ARRAY;
    uint32_t count = list ? value->count : 1;
    if (count < operation->least || (count > operation->most && operation->most != ANY))
        rule_remark(c, "wrong number of arguments", value, name);
    if (c->options.strict && operation->shape == SHAPE_LIST && !list)
        rule_remark(c, "the operator takes a list of arguments", value, name);
    if (c->options.strict && operation->name[0] == '?')
        rule_remark(c, "not in the published schema: write if", value, name);
    switch ((enum flags_op)operation->op) {
    case FLAGS_OP_STARTS_WITH:
    case FLAGS_OP_ENDS_WITH:
        check_affix(c, value, name);
        break;
    case FLAGS_OP_SEM_VER:
        check_sem_ver(c, value);
        break;
    case FLAGS_OP_MISSING:
        check_names(c, value, name);
        break;
    case FLAGS_OP_MISSING_SOME:
        check_names(c, list && value->count == 2 ? value->first->next : NULL, name);
        break;
    default:
        break;
    }
}

// References

enum { EVALUATOR_NEW, EVALUATOR_OPEN, EVALUATOR_DONE, EVALUATOR_FAULTY };

// Compiles an evaluator unless that was done; this may happen while another evaluator is being compiled.
static void compile_evaluator(struct flags_compiler *c, uint32_t at)
{
    struct flags_image_evaluator *evaluator = flags_write_at(c, at);
    if (evaluator->state != EVALUATOR_NEW)
        return;
    const char *outer_fault = c->rule_fault;
    uint32_t outer_deepest = c->deepest;
    uint8_t outer_bits = c->rule_bits;
    evaluator->state = EVALUATOR_OPEN;
    uint32_t node = flags_compile_rule(c, &c->scratch->nodes[evaluator->node]);
    if (c->status == STATUS_OK) {
        evaluator->node = node;
        evaluator->depth = (uint16_t)c->deepest;
        evaluator->bits = c->rule_bits;
        evaluator->state = c->rule_fault != NULL ? EVALUATOR_FAULTY : EVALUATOR_DONE;
    }
    c->rule_fault = outer_fault;
    c->deepest = outer_deepest;
    c->rule_bits = outer_bits;
}

// A document's own evaluators come before shared segments, and those before evaluators of other documents;
// among these the last document's counts.
static uint32_t find_evaluator(struct flags_compiler *c, struct slice name)
{
    uint32_t at = flags_find_name(c->out, c->evaluators, name);
    if (at == 0)
        at = flags_find_name(c->out, c->segments, name);
    for (uint32_t i = c->bundle->document_count; i-- > 0 && at == 0;)
        at = flags_find_name(c->out, c->documents[i].evaluators, name);
    return at;
}

static void compile_ref(struct flags_compiler *c, const struct flags_json *name, uint32_t slot,
                        uint32_t depth)
{
    if (name->kind != FLAGS_JSON_STRING) {
        rule_fault(c, "$ref names an evaluator by a string", name, SLICE("$ref"));
        return;
    }
    uint32_t at = find_evaluator(c, name->text);
    if (at == 0) {
        rule_fault(c, "$ref names no evaluator", name, name->text);
        return;
    }
    const struct flags_image_evaluator *evaluator = flags_write_at(c, at);
    if (evaluator->state == EVALUATOR_OPEN) {
        rule_fault(c, "$ref leads back to itself", name, name->text);
        return;
    }
    compile_evaluator(c, at);
    if (c->status != STATUS_OK)
        return;
    if (evaluator->state == EVALUATOR_FAULTY)
        rule_fault(c, "$ref names an evaluator with a fault", name, name->text);
    uint32_t reached = depth + 1 + evaluator->depth;
    if (reached > FLAGS_RULE_DEPTH_MAX)
        rule_fault(c, "the rule is nested too deeply", name, name->text);
    c->deepest = reached > c->deepest ? reached : c->deepest;
    c->rule_bits |= evaluator->bits;
    set_node(c, slot, (struct flags_node){.op = FLAGS_OP_REF, .at = at});
}

void flags_compile_evaluators(struct flags_compiler *c, const struct flags_json *tree)
{
    uint32_t count = tree->count;
    uint32_t record = sizeof(struct flags_image_evaluator);
    uint32_t table = flags_write_reserve(c, (uint64_t)count * record, 4);
    uint32_t names = flags_write_reserve(c, (uint64_t)count * sizeof(struct flags_image_name), 4);
    uint32_t i = 0;
    for (const struct flags_json *t = tree->first; t != NULL && c->status == STATUS_OK; t = t->next, i++) {
        struct flags_image_name name = {flags_write_bytes(c, t->key), table + i * record};
        struct flags_image_evaluator evaluator = {.name = name.name,
                                                  .node = (uint32_t)(t - c->scratch->nodes)};
        if (c->status != STATUS_OK)
            return;
        memcpy(c->out + name.evaluator, &evaluator, sizeof evaluator);
        memcpy(c->out + names + i * sizeof name, &name, sizeof name);
    }
    if (c->status != STATUS_OK)
        return;
    flags_write_sort_spans(c->out, names, count, sizeof(struct flags_image_name));
    c->evaluators = (struct flags_names){names, count};
    for (i = 0; i < count && c->status == STATUS_OK; i++)
        compile_evaluator(c, table + i * record);
}

// Rules

static void compile_operation(struct flags_compiler *c, const struct flags_json *rule, uint32_t slot,
                              uint32_t depth)
{
    const struct flags_json *value = rule->first;
    const struct operation *operation = NULL;
    for (size_t i = 0; i < ARRAY_LEN(OPERATIONS) && operation == NULL; i++)
        if (slice_equal(value->key, slice_of(OPERATIONS[i].name)))
            operation = &OPERATIONS[i];
    if (operation == NULL) {
        rule_fault(c, "unknown operator", rule, value->key);
        return;
    }
    check_arguments(c, operation, value);
    switch ((enum flags_op)operation->op) {
    case FLAGS_OP_VAR:
        compile_var(c, value, slot, depth);
        return;
    case FLAGS_OP_IN:
        compile_in(c, value, slot, depth);
        return;
    case FLAGS_OP_FRACTIONAL:
        compile_fractional(c, value, slot, depth);
        return;
    default:
        compile_children(c, (enum flags_op)operation->op, value, value->kind != FLAGS_JSON_ARRAY, slot,
                         depth);
        return;
    }
}

static void compile_object(struct flags_compiler *c, const struct flags_json *tree, uint32_t slot,
                           uint32_t depth)
{
    set_node(c, slot, (struct flags_node){.op = FLAGS_OP_FAULTY});
    if (tree->count != 1)
        rule_fault(c, "a rule has exactly one operator", tree, SLICE(""));
    else if (slice_equal(tree->first->key, SLICE("$ref")))
        compile_ref(c, tree->first, slot, depth);
    else
        compile_operation(c, tree, slot, depth);
}

static void compile_node(struct flags_compiler *c, const struct flags_json *tree, uint32_t slot,
                         uint32_t depth)
{
    static const uint8_t CONSTANTS[] = {[FLAGS_JSON_NULL] = FLAGS_OP_NULL,
                                        [FLAGS_JSON_FALSE] = FLAGS_OP_FALSE,
                                        [FLAGS_JSON_TRUE] = FLAGS_OP_TRUE};
    if (c->status != STATUS_OK)
        return;
    c->deepest = depth > c->deepest ? depth : c->deepest;
    if (depth > FLAGS_RULE_DEPTH_MAX || c->nesting >= NESTING_MAX) {
        rule_fault(c, "the rule is nested too deeply", tree, SLICE(""));
        set_node(c, slot, (struct flags_node){.op = FLAGS_OP_FAULTY});
        return;
    }
    switch ((enum flags_json_kind)tree->kind) {
    case FLAGS_JSON_NULL:
    case FLAGS_JSON_FALSE:
    case FLAGS_JSON_TRUE:
        set_node(c, slot, (struct flags_node){.op = CONSTANTS[tree->kind]});
        return;
    case FLAGS_JSON_NUMBER:
        set_number(c, slot, tree->number);
        return;
    case FLAGS_JSON_STRING:
        compile_string(c, tree->text, slot);
        return;
    case FLAGS_JSON_ARRAY:
        c->nesting++;
        compile_children(c, FLAGS_OP_ARRAY, tree, false, slot, depth);
        c->nesting--;
        return;
    default:
        c->nesting++;
        compile_object(c, tree, slot, depth);
        c->nesting--;
        return;
    }
}

uint32_t flags_compile_rule(struct flags_compiler *c, const struct flags_json *tree)
{
    uint32_t root = reserve_nodes(c, 1);
    c->rule_fault = NULL;
    c->deepest = 0;
    c->rule_bits = 0;
    if (root == 0)
        return 0;
    compile_node(c, tree, root, 0);
    return c->status == STATUS_OK ? root : 0;
}
