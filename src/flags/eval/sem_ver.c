// SPDX-License-Identifier: Apache-2.0
// Semantic versions (semver.org 2.0.0): parsing, order (clause 11), and the operators of sem_ver. A leading v
// and a missing minor or patch are accepted; numbers are compared as strings of digits, so none overflows.
#include "flags/eval/flags_private.h"

struct version {
    struct slice number[3]; // digits
    struct slice prerelease;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool take_number(struct slice *rest, struct slice *number)
{
    size_t len = 0;
    while (len < rest->len && is_digit(rest->data[len]))
        len++;
    if (len == 0 || (len > 1 && rest->data[0] == '0'))
        return false;
    *number = (struct slice){rest->data, len};
    *rest = (struct slice){rest->data + len, rest->len - len};
    return true;
}

// Dot-separated identifiers of letters, digits and hyphens, none empty. In a pre-release, unlike in build
// metadata, numeric ones have no leading zeros.
static bool identifiers_valid(struct slice all, bool numbers_strict)
{
    size_t begin = 0;
    bool digits = true;
    for (size_t i = 0; i <= all.len; i++) {
        char c = i < all.len ? all.data[i] : '.';
        if (c == '.') {
            if (i == begin || (numbers_strict && digits && i - begin > 1 && all.data[begin] == '0'))
                return false;
            begin = i + 1;
            digits = true;
            continue;
        }
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
        if (!letter && !is_digit(c))
            return false;
        digits = digits && !letter;
    }
    return true;
}

static bool take_tail(struct slice rest, struct version *version)
{
    const char *plus = rest.len > 0 ? memchr(rest.data, '+', rest.len) : NULL;
    if (plus != NULL) {
        size_t at = (size_t)(plus - rest.data);
        if (!identifiers_valid((struct slice){plus + 1, rest.len - at - 1}, false))
            return false;
        rest.len = at;
    }
    if (rest.len == 0)
        return true;
    version->prerelease = (struct slice){rest.data + 1, rest.len - 1};
    return rest.data[0] == '-' && identifiers_valid(version->prerelease, true);
}

static bool parse(struct slice text, bool partial, struct version *version)
{
    struct slice rest = text;
    *version = (struct version){.number = {SLICE("0"), SLICE("0"), SLICE("0")}, .prerelease = {"", 0}};
    if (partial && rest.len > 0 && (rest.data[0] == 'v' || rest.data[0] == 'V'))
        rest = (struct slice){rest.data + 1, rest.len - 1};
    for (int i = 0; i < 3; i++) {
        if (i > 0) {
            if (rest.len == 0)
                return partial;
            if (rest.data[0] != '.')
                return false;
            rest = (struct slice){rest.data + 1, rest.len - 1};
        }
        if (!take_number(&rest, &version->number[i]))
            return false;
    }
    return take_tail(rest, version);
}

bool flags_sem_ver_valid(struct slice version, bool partial)
{
    struct version parsed;
    return parse(version, partial, &parsed);
}

static struct slice take_identifier(struct slice *rest)
{
    const char *dot = memchr(rest->data, '.', rest->len);
    size_t len = dot != NULL ? (size_t)(dot - rest->data) : rest->len;
    struct slice identifier = {rest->data, len};
    size_t used = dot != NULL ? len + 1 : len;
    *rest = (struct slice){rest->data + used, rest->len - used};
    return identifier;
}

static bool is_numeric(struct slice identifier)
{
    for (size_t i = 0; i < identifier.len; i++)
        if (!is_digit(identifier.data[i]))
            return false;
    return true;
}

static int order_identifiers(struct slice a, struct slice b)
{
    bool a_numeric = is_numeric(a);
    bool b_numeric = is_numeric(b);
    if (a_numeric && b_numeric)
        return flags_slice_order(a, b);
    if (a_numeric != b_numeric)
        return a_numeric ? -1 : 1;
    size_t shared = a.len < b.len ? a.len : b.len;
    int order = memcmp(a.data, b.data, shared);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

// A version with a pre-release comes before the same version without.
static int order_prereleases(struct slice a, struct slice b)
{
    if (a.len == 0 || b.len == 0)
        return (a.len == 0) - (b.len == 0);
    while (a.len > 0 && b.len > 0) {
        int order = order_identifiers(take_identifier(&a), take_identifier(&b));
        if (order != 0)
            return order;
    }
    return (a.len > 0) - (b.len > 0);
}

static int order_versions(const struct version *a, const struct version *b, int parts)
{
    for (int i = 0; i < 3 && i < parts; i++) {
        int order = flags_slice_order(a->number[i], b->number[i]);
        if (order != 0)
            return order;
    }
    return parts > 3 ? order_prereleases(a->prerelease, b->prerelease) : 0;
}

enum { WHOLE = 4, MAJOR_MINOR = 2, MAJOR = 1 };

bool flags_sem_ver_op_known(struct slice op)
{
    // One of < > = ~ ^ alone, or one of ! < > followed by =.
    if (op.len == 1)
        return op.data[0] != '\0' && strchr("<>=~^", op.data[0]) != NULL;
    return op.len == 2 && op.data[1] == '=' && (op.data[0] == '!' || op.data[0] == '<' || op.data[0] == '>');
}

bool flags_sem_ver_compare(struct slice a, struct slice op, struct slice b, bool *result)
{
    struct version left;
    struct version right;
    if (!flags_sem_ver_op_known(op) || !parse(a, true, &left) || !parse(b, true, &right))
        return false;
    int order = order_versions(&left, &right, WHOLE);
    bool or_equal = op.len == 2;
    switch (op.data[0]) {
    case '=':
        *result = order == 0;
        break;
    case '!':
        *result = order != 0;
        break;
    case '<':
        *result = order < 0 || (or_equal && order == 0);
        break;
    case '>':
        *result = order > 0 || (or_equal && order == 0);
        break;
    case '~':
        *result = order_versions(&left, &right, MAJOR_MINOR) == 0;
        break;
    default:
        *result = order_versions(&left, &right, MAJOR) == 0;
        break;
    }
    return true;
}

// A number counts as the version that JavaScript would write: 1.2 is "1.2".
static bool version_text(const struct flags_value *value, char number[FLAGS_NUMBER_TEXT_MAX],
                         struct slice *text)
{
    if (value->kind == FLAGS_VALUE_STRING)
        *text = flags_value_slice(value);
    else if (value->kind == FLAGS_VALUE_NUMBER)
        *text = (struct slice){number, flags_number_text(value->number, number)};
    else
        return false;
    return true;
}

struct flags_value flags_eval_sem_ver(struct flags_run *run, const struct flags_node *node,
                                      const struct flags_scope *scope)
{
    char numbers[2][FLAGS_NUMBER_TEXT_MAX];
    struct slice left;
    struct slice right;
    bool holds;
    if (node->count != 3)
        return flags_value_null();
    struct flags_value a = flags_eval_argument(run, node, scope, 0);
    struct flags_value op = flags_eval_argument(run, node, scope, 1);
    struct flags_value b = flags_eval_argument(run, node, scope, 2);
    if (op.kind != FLAGS_VALUE_STRING || !version_text(&a, numbers[0], &left) ||
        !version_text(&b, numbers[1], &right) || !flags_run_charge(run, (left.len + right.len) / 64) ||
        !flags_sem_ver_compare(left, flags_value_slice(&op), right, &holds)) {
        run->note = "sem_ver got something that is no version or no operator";
        return flags_value_null();
    }
    return flags_value_boolean(holds);
}
