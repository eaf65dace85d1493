// SPDX-License-Identifier: Apache-2.0
// Conditions of LaunchDarkly: clauses and segments. A clause matches when any value of the attribute (which
// may be a list) matches any value of the clause; without the attribute it does not match, negated or not.
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "flags/convert/convert_private.h"

enum { SEGMENT_DEPTH_MAX = 12, PATH_BYTES = 512 };

bool ld_is_user(const char *kind)
{
    return kind == NULL || kind[0] == '\0' || strcmp(kind, "user") == 0;
}

bool ld_each(const json_t *container, size_t *at, const char **key, const json_t **value)
{
    if (json_is_array(container)) {
        *value = json_array_get(container, *at);
        *key = convert_text(*value, "key");
        return (*at)++ < json_array_size(container);
    }
    json_t *object = (json_t *)(uintptr_t)container;
    void *iterator =
        *at == 0 ? json_object_iter(object) : json_object_iter_next(object, (void *)(uintptr_t)*at);
    if (iterator == NULL)
        return false;
    *at = (size_t)(uintptr_t)iterator;
    *key = json_object_iter_key(iterator);
    *value = json_object_iter_value(iterator);
    return true;
}

void ld_index(struct convert_run *run, const char *name, const json_t *container)
{
    json_t *index = json_object();
    size_t at = 0;
    const char *key;
    const json_t *value;
    while (ld_each(container, &at, &key, &value))
        if (key != NULL && json_object_get(index, key) == NULL)
            json_object_set(index, key, (json_t *)(uintptr_t)value);
    json_object_set_new(run->index, name, index);
}

// One segment of a path. A dot in it would make it two segments for the evaluator, and a number behind
// another segment would point into a list, which it does not there.
static bool add_step(struct text *path, const char *step, size_t len)
{
    if (len == 0 || memchr(step, '.', len) != NULL || (path->len == 0 && step[0] == '$'))
        return false;
    if (path->len > 0 && strspn(step, "0123456789") >= len)
        return false;
    if (path->len > 0)
        text_add_char(path, '.');
    text_add(path, (struct slice){step, len});
    return !path->cut;
}

// The next step of an attribute, unescaped; *rest moves behind it. False when it is malformed or too long.
static bool take_step(const char **rest, char *step, size_t cap)
{
    size_t len = 0;
    while (**rest != '\0' && **rest != '/' && len + 1 < cap) {
        char c = *(*rest)++;
        if (c == '~' && **rest != '0' && **rest != '1')
            return false;
        if (c == '~')
            c = *(*rest)++ == '1' ? '/' : '~';
        step[len++] = c;
    }
    step[len] = '\0';
    return len > 0 && len + 1 < cap;
}

// False where it is not given; but nobody is not anonymous, and somebody is who has a key.
static json_t *anonymous(const char *kind)
{
    char key[PATH_BYTES];
    char path[PATH_BYTES];
    bool user = ld_is_user(kind);
    snprintf(key, sizeof key, "%s%s", user ? "targetingKey" : kind, user ? "" : ".key");
    snprintf(path, sizeof path, "%s%sanonymous", user ? "" : kind, user ? "" : ".");
    return json_pack("{s:[{s:[{s:s},n]},{s:[s,b]},n]}", "if", "!=", "var", key, "var", path, 0);
}

json_t *ld_attribute(const char *kind, const char *attribute)
{
    char storage[PATH_BYTES];
    char step[PATH_BYTES];
    struct text path = text_over(storage, sizeof storage);
    // Only clauses that name a kind use paths; in older clauses a slash is part of the name.
    if (attribute == NULL || (!ld_is_user(kind) && !add_step(&path, kind, strlen(kind))))
        return NULL;
    bool is_path = kind != NULL && kind[0] != '\0' && attribute[0] == '/';
    const char *rest = attribute + is_path;
    if (is_path && !take_step(&rest, step, sizeof step))
        return NULL;
    const char *name = is_path ? step : attribute;
    bool whole = !is_path || *rest == '\0';
    if (whole && strcmp(name, "kind") == 0)
        return NULL;
    if (whole && strcmp(name, "anonymous") == 0)
        return anonymous(kind);
    if (whole && ld_is_user(kind) && strcmp(name, "key") == 0)
        return convert_var("targetingKey");
    if (!add_step(&path, name, strlen(name)))
        return NULL;
    while (!whole && *rest == '/') {
        rest++;
        if (!take_step(&rest, step, sizeof step) || !add_step(&path, step, strlen(step)))
            return NULL;
    }
    return convert_var(storage);
}

json_t *ld_drawable(const json_t *value)
{
    json_t *rest = convert_op2("%", json_deep_copy(value), json_integer(1));
    json_t *whole = convert_and(convert_is_number(value), convert_op2("===", rest, json_integer(0)));
    return convert_or(convert_is_text(value), whole);
}

json_t *ld_keys(const json_t *value, const json_t *keys)
{
    if (json_array_size(keys) == 0)
        return json_false();
    return convert_op2("in", json_deep_copy(value), json_deep_copy(keys));
}

static json_t *unknown(struct convert_run *run, bool assume, bool *exact, const char *what, const char *name)
{
    *exact = false;
    convert_find(run, CONVERT_LOST, "%s (%s) has no equivalent here", what, name != NULL ? name : "");
    return json_boolean(assume);
}

static json_t *test_number(const char *op, const json_t *x, const json_t *value)
{
    if (!json_is_number(value))
        return json_false();
    return convert_and(convert_is_number(x), convert_op2(op, json_deep_copy(x), json_deep_copy(value)));
}

// Attributes compared with a time may be numbers (converted to comparisons) or text (which no rule can read).
static json_t *test_time(struct convert_run *run, const char *op, const json_t *x, const json_t *value,
                         bool assume, bool *exact)
{
    double time_ms;
    if (!convert_time(value, &time_ms))
        return json_false();
    json_t *wanted = json_integer((json_int_t)time_ms);
    json_t *test = convert_and(convert_is_number(x), convert_op2(op, json_deep_copy(x), wanted));
    json_t *text = unknown(run, assume, exact, "a time that the context gives as text, not milliseconds", op);
    return convert_or(test, convert_and(text, convert_is_text(x)));
}

// Only text is a version there, without a leading v. Fewer parts with a tail (2-rc), or spaces around
// it, make one there and none here: such a context counts as an unknown one.
static json_t *test_version(struct convert_run *run, const char *op, const json_t *x, const json_t *value,
                            bool assume)
{
    char version[256];
    char text[256];
    const char *written = json_string_value(value);
    // Spaces around a version do not count there, but only a whole one may begin with them.
    size_t spaces = written != NULL ? strspn(written, " ") : 0;
    size_t len = written != NULL ? strlen(written + spaces) : sizeof text;
    while (len > 0 && len < sizeof text && written[spaces + len - 1] == ' ')
        len--;
    if (len >= sizeof text)
        return json_false();
    memcpy(text, written + spaces, len);
    text[len] = '\0';
    if (!convert_version(text, spaces == 0, version, sizeof version))
        return json_false();
    convert_find(
        run, CONVERT_DIFFERS,
        "a version of fewer than three parts with a tail (2-rc), or with spaces around it, matches nothing here");
    json_t *first = json_pack("{s:[O,i,i]}", "substr", x, 0, 1);
    json_t *plain = convert_not(convert_op2("in", first, json_pack("[s,s]", "v", "V")));
    json_t *test = json_pack("{s:[O,s,s]}", "sem_ver", x, op, version);
    if (assume) {
        json_t *known = json_pack("{s:[O,s,O]}", "sem_ver", x, "=", x);
        json_t *tail = convert_or(convert_op2("in", json_string("-"), json_deep_copy(x)),
                                  convert_op2("in", json_string(" "), json_deep_copy(x)));
        test = convert_or(test, convert_and(convert_not(known), tail));
    }
    return convert_and(convert_is_text(x), convert_and(plain, test));
}

static json_t *test_text(const char *op, const json_t *x, const json_t *value)
{
    if (!json_is_string(value))
        return json_false();
    json_t *text = json_deep_copy(value);
    json_t *subject = json_deep_copy(x);
    if (strcmp(op, "in") != 0)
        return convert_op2(op, subject, text);
    if (json_string_length(value) > 0)
        return convert_op2("in", text, subject);
    json_decref(text);
    json_decref(subject);
    return convert_is_text(x);
}

static json_t *test_pattern(struct convert_run *run, const json_t *x, const json_t *value, bool assume,
                            bool *exact)
{
    if (!json_is_string(value))
        return json_false();
    json_t *test = convert_pattern(json_string_value(value), x);
    if (test != NULL)
        return test;
    return unknown(run, assume, exact, "a regular expression", json_string_value(value));
}

struct operation {
    const char *name;
    json_t *(*test)(const char *op, const json_t *x, const json_t *value);
    const char *op;
};

static const struct operation OPERATIONS[] = {
    {"startsWith", test_text, "starts_with"},
    {"endsWith", test_text, "ends_with"},
    {"contains", test_text, "in"},
    {"lessThan", test_number, "<"},
    {"lessThanOrEqual", test_number, "<="},
    {"greaterThan", test_number, ">"},
    {"greaterThanOrEqual", test_number, ">="},
};

static const struct {
    const char *name;
    const char *op;
} VERSIONS[] = {{"semVerEqual", "="}, {"semVerLessThan", "<"}, {"semVerGreaterThan", ">"}};

static json_t *test(struct convert_run *run, const char *op, const json_t *x, const json_t *value,
                    bool assume, bool *exact)
{
    if (op != NULL && strcmp(op, "before") == 0)
        return test_time(run, "<", x, value, assume, exact);
    if (op != NULL && strcmp(op, "after") == 0)
        return test_time(run, ">", x, value, assume, exact);
    if (op != NULL && strcmp(op, "matches") == 0)
        return test_pattern(run, x, value, assume, exact);
    for (size_t i = 0; op != NULL && i < sizeof OPERATIONS / sizeof OPERATIONS[0]; i++)
        if (strcmp(op, OPERATIONS[i].name) == 0)
            return OPERATIONS[i].test(OPERATIONS[i].op, x, value);
    for (size_t i = 0; op != NULL && i < sizeof VERSIONS / sizeof VERSIONS[0]; i++)
        if (strcmp(op, VERSIONS[i].name) == 0)
            return test_version(run, VERSIONS[i].op, x, value, assume);
    return unknown(run, assume, exact, "an operator", op);
}

// Membership is by type too. null is in no list, and lists and objects equal nothing here.
static json_t *test_in(struct convert_run *run, const json_t *x, const json_t *values, bool assume,
                       bool *exact)
{
    json_t *plain = json_array();
    json_t *rest = json_false();
    size_t i;
    json_t *value;
    json_array_foreach((json_t *)(uintptr_t)values, i, value)
    {
        if (json_is_array(value) || json_is_object(value))
            rest = unknown(run, assume, exact, "a list or an object among the values", "in");
        else if (!json_is_null(value))
            json_array_append(plain, value);
    }
    json_t *test = convert_or(ld_keys(x, plain), rest);
    json_decref(plain);
    return test;
}

static json_t *test_all(struct convert_run *run, const char *op, const json_t *x, const json_t *values,
                        bool assume, bool *exact)
{
    json_t *any = json_false();
    size_t i;
    json_t *value;
    if (op != NULL && strcmp(op, "in") == 0)
        return test_in(run, x, values, assume, exact);
    if (json_array_size(values) == 0)
        return any;
    json_array_foreach((json_t *)(uintptr_t)values, i, value) any =
        convert_or(any, test(run, op, x, value, assume, exact));
    return any;
}

static json_t *segment_reference(struct convert_run *run, const char *key, bool assume, bool *exact);

static json_t *segment_clause(struct convert_run *run, const json_t *values, bool assume, bool *exact)
{
    json_t *any = json_false();
    size_t i;
    json_t *value;
    json_array_foreach((json_t *)(uintptr_t)values, i, value)
    {
        if (json_is_string(value))
            any = convert_or(any, segment_reference(run, json_string_value(value), assume, exact));
    }
    return any;
}

static json_t *clause(struct convert_run *run, const json_t *clause, bool assume, bool *exact)
{
    const char *op = convert_text(clause, "op");
    const char *attribute = convert_text(clause, "attribute");
    const char *kind = convert_text(clause, "contextKind");
    const json_t *values = convert_list(clause, "values");
    bool negate = convert_flagged(clause, "negate");
    bool inner = assume != negate;
    if (op != NULL && strcmp(op, "segmentMatch") == 0) {
        json_t *any = segment_clause(run, values, inner, exact);
        return negate ? convert_not(any) : any;
    }
    json_t *value = ld_attribute(kind, attribute);
    if (value == NULL)
        return unknown(run, assume, exact, "an attribute", attribute);
    if (!ld_is_user(kind))
        convert_find(run, CONVERT_DIFFERS,
                     "attributes of kind %.60s are read from the context's member of that name", kind);
    // The key is one text.
    bool single =
        convert_text(value, "var") != NULL && strcmp(convert_text(value, "var"), "targetingKey") == 0;
    json_t *item = single ? json_incref(value) : convert_var("");
    json_t *any = test_all(run, op, item, values, inner, exact);
    json_decref(item);
    if (!json_is_boolean(any) && !single)
        any = convert_op2("some", convert_op1("merge", json_incref(value)), any);
    if (negate)
        any = convert_not(any);
    if (negate || json_is_true(any))
        any = convert_and(convert_present(value), any);
    json_decref(value);
    return any;
}

json_t *ld_clauses(struct convert_run *run, const json_t *clauses, bool assume, bool *exact)
{
    json_t *all = json_true();
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)(uintptr_t)clauses, i, item) all =
        convert_and(all, clause(run, item, assume, exact));
    return all;
}

// ---- segments ----

static json_t *in_contexts(const json_t *lists, bool assume, bool *exact)
{
    json_t *any = json_false();
    size_t i;
    json_t *list;
    json_array_foreach((json_t *)(uintptr_t)lists, i, list)
    {
        json_t *key = ld_attribute(convert_text(list, "contextKind"), "key");
        *exact = *exact && key != NULL;
        any =
            convert_or(any, key != NULL ? ld_keys(key, convert_list(list, "values")) : json_boolean(assume));
        json_decref(key);
    }
    return any;
}

static json_t *segment_rule(struct convert_run *run, const char *segment, const json_t *rule, bool assume,
                            bool *exact)
{
    json_t *all = ld_clauses(run, convert_list(rule, "clauses"), assume, exact);
    const json_t *weight = json_object_get(rule, "weight");
    const char *kind = convert_text(rule, "rolloutContextKind");
    const char *by = convert_text(rule, "bucketBy");
    char prefix[PATH_BYTES];
    if (!json_is_number(weight))
        return all;
    json_t *value = ld_attribute(kind, by != NULL && by[0] != '\0' ? by : "key");
    if (value == NULL)
        return convert_and(all, unknown(run, assume, exact, "a share of a segment, by attribute", by));
    convert_find(run, CONVERT_DIFFERS, "a share of segment %.60s has other members, as many", segment);
    snprintf(prefix, sizeof prefix, "%.400s:", segment);
    double number = json_number_value(weight);
    int64_t share = number > 0 ? (int64_t)(number < CONVERT_SHARE_TOTAL ? number : CONVERT_SHARE_TOTAL) : 0;
    json_t *drawable = ld_drawable(value);
    json_t *drawn = convert_and(json_deep_copy(drawable), convert_share(prefix, json_incref(value), share));
    // Who has no attribute that a share can be drawn by is in the segment there.
    drawable = convert_not(drawable);
    if (!ld_is_user(kind))
        drawable = convert_and(convert_present(value), drawable);
    if (share > 0)
        drawn = convert_or(drawable, drawn);
    else
        json_decref(drawable);
    json_decref(value);
    return convert_and(all, drawn);
}

static json_t *segment_rules(struct convert_run *run, const char *key, const json_t *segment, bool assume,
                             bool *exact)
{
    json_t *user = convert_var("targetingKey");
    json_t *out = convert_or(ld_keys(user, convert_list(segment, "excluded")),
                             in_contexts(convert_list(segment, "excludedContexts"), !assume, exact));
    json_t *rules = json_false();
    size_t i;
    json_t *rule;
    json_array_foreach((json_t *)(uintptr_t)convert_list(segment, "rules"), i, rule) rules =
        convert_or(rules, segment_rule(run, key, rule, assume, exact));
    json_t *in = convert_or(ld_keys(user, convert_list(segment, "included")),
                            in_contexts(convert_list(segment, "includedContexts"), assume, exact));
    json_decref(user);
    if (convert_flagged(segment, "unbounded")) {
        json_decref(in);
        in = unknown(run, assume, exact, "a segment whose members are not in the export", key);
    }
    return convert_or(in, convert_and(convert_not(out), rules));
}

static const json_t *find_segment(const struct convert_run *run, const char *key)
{
    return json_object_get(json_object_get(run->index, "segments"), key);
}

// The evaluator's name. A segment has one for what is known, and one that takes unknown parts as a match.
static void evaluator_name(const char *key, bool wide, char *out, size_t cap)
{
    snprintf(out, cap, "%ssegment %s", wide ? "wide " : "", key);
}

// False: the segment leads back to itself, or is nested too deeply.
static bool make_segment(struct convert_run *run, const char *key, const json_t *segment, bool wide,
                         const char *name)
{
    const json_t *made = json_object_get(run->evaluators, name);
    if (made != NULL)
        return !json_is_null(made);
    if (run->depth >= SEGMENT_DEPTH_MAX)
        return false;
    bool exact = true;
    json_object_set_new(run->evaluators, name, json_null());
    run->depth++;
    json_t *rule = segment_rules(run, key, segment, wide, &exact);
    run->depth--;
    if (json_is_boolean(rule)) // an evaluator is a rule
        rule = convert_op1("!!", rule);
    if (rule == NULL)
        run->no_memory = true;
    if (!exact)
        json_object_set_new(run->inexact, key, json_true());
    json_object_set_new(run->evaluators, name, rule != NULL ? rule : json_object());
    return true;
}

static json_t *segment_reference(struct convert_run *run, const char *key, bool assume, bool *exact)
{
    char name[PATH_BYTES];
    const json_t *segment = find_segment(run, key);
    if (segment == NULL || strlen(key) > PATH_BYTES - 32)
        return unknown(run, assume, exact, "a segment that the export does not hold", key);
    evaluator_name(key, false, name, sizeof name);
    if (!make_segment(run, key, segment, false, name))
        return unknown(run, assume, exact, "a segment within itself, or too deep", key);
    if (json_object_get(run->inexact, key) != NULL) {
        *exact = false;
        convert_find(run, CONVERT_LOST, "segment %.80s holds something that has no equivalent here", key);
        evaluator_name(key, assume, name, sizeof name);
        if (!make_segment(run, key, segment, assume, name))
            return json_boolean(assume);
    }
    return json_pack("{s:s}", "$ref", name);
}

void ld_segments(struct convert_run *run)
{
    size_t at = 0;
    const char *key;
    const json_t *segment;
    ld_index(run, "segments", json_object_get(run->source, "segments"));
    while (ld_each(json_object_get(run->source, "segments"), &at, &key, &segment)) {
        bool exact = true;
        if (key != NULL && !convert_flagged(segment, "deleted"))
            json_decref(segment_reference(run, key, false, &exact));
    }
}
