// SPDX-License-Identifier: Apache-2.0
// Conditions of Unleash: strategies, their constraints and segments. A feature is on when any strategy is on,
// so every condition turns something on, and an unknown one counts as false (below a negation as true).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "flags/convert/convert_private.h"

enum { PREFIX_BYTES = 300 };
static const char SPACES[] = " \t\r\n\v\f";

// NULL when the context cannot name the field.
static json_t *field_value(const char *name)
{
    if (name == NULL || name[0] == '\0' || strchr(name, '.') != NULL || name[0] == '$' || strlen(name) > 200)
        return NULL;
    return convert_var(strcmp(name, "userId") == 0 ? "targetingKey" : name);
}

// Fields that Unleash itself defines are text; properties are compared as text, whatever they are.
static json_t *field_text(const char *name)
{
    static const char *const TEXTS[] = {"userId", "sessionId", "appName", "environment", "remoteAddress"};
    json_t *field = field_value(name);
    for (size_t i = 0; field != NULL && i < sizeof TEXTS / sizeof TEXTS[0]; i++)
        if (strcmp(name, TEXTS[i]) == 0)
            return field;
    return field != NULL ? convert_op1("cat", field) : NULL;
}

static json_t *unknown(struct convert_run *run, bool assume, const char *what, const char *name)
{
    convert_find(run, CONVERT_LOST, "%s (%s) has no equivalent here: it does not turn the flag on", what,
                 name != NULL ? name : "");
    return json_boolean(assume);
}

// ---- constraints ----

// A text without surrounding spaces; other values as they are. NULL for none.
static json_t *trim(const json_t *value)
{
    const char *text = json_string_value(value);
    size_t begin = text != NULL ? strspn(text, SPACES) : 0;
    size_t end = text != NULL ? strlen(text) : 0;
    while (end > begin && strchr(SPACES, text[end - 1]) != NULL)
        end--;
    return text != NULL ? json_stringn(text + begin, end - begin) : json_deep_copy(value);
}

// Values without surrounding spaces; those that are empty as they stand are left out.
static json_t *clean(const json_t *values)
{
    json_t *list = json_array();
    size_t i;
    json_t *value;
    json_array_foreach((json_t *)(uintptr_t)values, i, value)
    {
        if (json_string_length(value) > 0)
            json_array_append_new(list, trim(value));
    }
    return list;
}

static json_t *is_in(json_t *value, json_t *values)
{
    if (json_array_size(values) > 0)
        return convert_op2("in", value, values);
    json_decref(value);
    json_decref(values);
    return json_false();
}

// A test of a field that holds for nobody who lacks it.
static json_t *if_present(const char *field, json_t *test)
{
    json_t *value = field_value(field);
    json_t *present = convert_present(value);
    json_decref(value);
    return convert_and(present, test);
}

json_t *unleash_in(const char *field, const json_t *values, bool exact, bool *known)
{
    json_t *value = field_text(field);
    *known = value != NULL;
    json_t *list = exact ? json_deep_copy(values) : clean(values);
    if (*known)
        return if_present(field, is_in(value, list != NULL ? list : json_array()));
    json_decref(list);
    return json_false();
}

static bool has_case(const char *text)
{
    for (; *text != '\0'; text++)
        if ((*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') || (unsigned char)*text >= 0x80)
            return true;
    return false;
}

static json_t *any_text(struct convert_run *run, const char *op, json_t *value, const json_t *constraint,
                        bool assume)
{
    bool either_case = convert_flagged(constraint, "caseInsensitive");
    json_t *values = clean(convert_list(constraint, "values"));
    json_t *any = json_false();
    size_t i;
    json_t *item;
    json_array_foreach(values, i, item)
    {
        if (json_string_length(item) == 0)
            any = convert_or(any, json_true()); // in every text, also in an empty one
        else if (either_case && has_case(json_string_value(item)))
            any = convert_or(any, unknown(run, assume, "comparing without regard to case", op));
        else if (strcmp(op, "in") == 0)
            any = convert_or(any, convert_op2(op, json_incref(item), json_deep_copy(value)));
        else
            any = convert_or(any, convert_op2(op, json_deep_copy(value), json_incref(item)));
    }
    json_decref(values);
    json_decref(value);
    return any;
}

// JavaScript's other forms of a number.
static bool odd_number(const char *text)
{
    const char *digits = text + strspn(text, "+-");
    bool based = text[0] == '0' && text[1] != '\0' && strchr("xXoObB", text[1]) != NULL;
    return based || strncmp(digits, "Infinity", 8) == 0;
}

// Both sides are numbers as JavaScript reads them from text, as comparing a text with a number does here too.
static json_t *compare_number(struct convert_run *run, const char *op, const char *field,
                              const json_t *constraint, bool assume)
{
    json_t *trimmed = trim(json_object_get(constraint, "value"));
    const char *text = json_string_value(trimmed);
    bool is = false;
    double number = convert_number(trimmed, &is);
    json_t *test = json_false();
    if (text != NULL && odd_number(text))
        test = unknown(run, assume, "a number in this form", text);
    else if (is || (text != NULL && text[0] == '\0'))
        test = if_present(field, convert_op2(op, field_text(field), json_real(number)));
    json_decref(trimmed);
    return test;
}

static json_t *compare_time(struct convert_run *run, const char *op, const char *field,
                            const json_t *constraint, bool assume)
{
    double time_ms;
    if (strcmp(field, "currentTime") != 0)
        return unknown(run, assume, "a time in the context", field);
    if (!convert_time(json_object_get(constraint, "value"), &time_ms))
        return json_false();
    convert_find(run, CONVERT_DIFFERS, "the current time is that of the clock here, in whole seconds");
    return convert_op2(op, convert_var("$flagd.timestamp"), json_integer((json_int_t)floor(time_ms / 1000)));
}

// Fewer parts than three are no version there, but here. They can be read as a number, and a version cannot.
static json_t *is_whole(const json_t *value)
{
    return convert_not(convert_op2(">=", convert_op1("cat", json_deep_copy(value)), json_integer(0)));
}

static json_t *compare_version(struct convert_run *run, const char *op, const char *field,
                               const json_t *constraint, bool assume)
{
    char version[256];
    json_t *trimmed = trim(json_object_get(constraint, "value"));
    const char *text = json_string_value(trimmed);
    text = text != NULL && text[0] == 'v' ? text + 1 : text;
    bool is = text != NULL && convert_version(text, false, version, sizeof version);
    json_decref(trimmed);
    if (!is)
        return json_false();
    convert_find(run, CONVERT_FALLS, "a version with spaces around it matches nothing here");
    json_t *value = field_value(field);
    json_t *first = json_pack("{s:[O,i,i]}", "substr", value, 0, 1);
    json_t *plain = convert_not(convert_op2("in", first, json_pack("[s,s]", "v", "V")));
    json_t *test = convert_and(convert_and(plain, is_whole(value)),
                               json_pack("{s:[O,s,s]}", "sem_ver", value, op, version));
    if (assume)
        test =
            convert_or(test, convert_op2("in", json_string(" "), convert_op1("cat", json_deep_copy(value))));
    json_decref(value);
    return test;
}

static json_t *match_pattern(struct convert_run *run, const char *field, const json_t *constraint,
                             bool assume)
{
    const char *pattern = convert_text(constraint, "value");
    json_t *value = field_text(field);
    bool plain = pattern != NULL && !(convert_flagged(constraint, "caseInsensitive") && has_case(pattern));
    json_t *test = plain ? convert_pattern(pattern, value) : NULL;
    json_decref(value);
    return if_present(field, test != NULL ? test : unknown(run, assume, "a regular expression", pattern));
}

enum family { TEXT, NUMBER, TIME, VERSION };

static const struct operation {
    const char *name;
    const char *op;
    enum family family;
} OPERATIONS[] = {
    {"STR_CONTAINS", "in", TEXT},
    {"STR_STARTS_WITH", "starts_with", TEXT},
    {"STR_ENDS_WITH", "ends_with", TEXT},
    {"NUM_EQ", "==", NUMBER},
    {"NUM_GT", ">", NUMBER},
    {"NUM_GTE", ">=", NUMBER},
    {"NUM_LT", "<", NUMBER},
    {"NUM_LTE", "<=", NUMBER},
    {"DATE_AFTER", ">", TIME},
    {"DATE_BEFORE", "<", TIME},
    {"SEMVER_EQ", "=", VERSION},
    {"SEMVER_GT", ">", VERSION},
    {"SEMVER_LT", "<", VERSION},
    {"SEMVER_GTE", ">=", VERSION},
    {"SEMVER_LTE", "<=", VERSION},
};

static json_t *operate(struct convert_run *run, const struct operation *operation, const char *field,
                       const json_t *constraint, bool assume)
{
    switch (operation->family) {
    case TEXT:
        return if_present(field, any_text(run, operation->op, field_text(field), constraint, assume));
    case NUMBER:
        return compare_number(run, operation->op, field, constraint, assume);
    case TIME:
        return compare_time(run, operation->op, field, constraint, assume);
    default:
        return compare_version(run, operation->op, field, constraint, assume);
    }
}

static json_t *constraint(struct convert_run *run, const json_t *constraint, bool assume)
{
    const char *field = convert_text(constraint, "contextName");
    const char *name = convert_text(constraint, "operator");
    bool inverted = convert_flagged(constraint, "inverted");
    bool inner = assume != inverted;
    json_t *probe = field_value(field);
    bool known = probe != NULL && name != NULL;
    json_t *test = NULL;
    json_decref(probe);
    if (!known)
        return unknown(run, assume, "a constraint", field);
    // IN and NOT_IN are one test and its opposite.
    if (strcmp(name, "IN") == 0 || strcmp(name, "NOT_IN") == 0)
        test = unleash_in(field, convert_list(constraint, "values"), false, &known);
    else if (strcmp(name, "REGEX") == 0)
        test = match_pattern(run, field, constraint, inner);
    for (size_t i = 0; test == NULL && i < sizeof OPERATIONS / sizeof OPERATIONS[0]; i++)
        if (strcmp(name, OPERATIONS[i].name) == 0)
            test = operate(run, &OPERATIONS[i], field, constraint, inner);
    if (test == NULL)
        return unknown(run, assume, "an operator", name);
    return inverted != (strcmp(name, "NOT_IN") == 0) ? convert_not(test) : test;
}

static json_t *constraints(struct convert_run *run, const json_t *list)
{
    json_t *all = json_true();
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)(uintptr_t)list, i, item)
    {
        all = convert_and(all, constraint(run, item, false));
    }
    return all;
}

static json_t *segment(struct convert_run *run, const json_t *id)
{
    size_t i;
    json_t *found;
    json_array_foreach((json_t *)(uintptr_t)convert_list(run->source, "segments"), i, found)
    {
        if (json_equal(json_object_get(found, "id"), id) && convert_list(found, "constraints") != NULL)
            return constraints(run, convert_list(found, "constraints"));
    }
    return unknown(run, false, "a segment whose constraints the export does not hold", NULL);
}

// ---- strategies ----

static int64_t share_of(const json_t *parameters, const char *name)
{
    bool is;
    double percent = convert_number(json_object_get(parameters, name), &is);
    // There a value falls on one of a hundred whole numbers.
    if (!is || percent < 1)
        return 0;
    return percent >= 100 ? CONVERT_SHARE_TOTAL : (int64_t)percent * (CONVERT_SHARE_TOTAL / 100);
}

json_t *unleash_sticky(const char *stickiness)
{
    if (stickiness == NULL || stickiness[0] == '\0' || strcmp(stickiness, "default") == 0 ||
        strcmp(stickiness, "random") == 0)
        return json_pack("{s:[{s:s},{s:s}]}", "or", "var", "targetingKey", "var", "sessionId");
    return field_value(stickiness);
}

// Someone without the value to draw by is not in the share, except when the draw may be random and the share
// is 100 %.
static json_t *rollout(struct convert_run *run, const char *group, const char *stickiness, int64_t share)
{
    char prefix[PREFIX_BYTES];
    bool may_be_random = stickiness == NULL || stickiness[0] == '\0' || strcmp(stickiness, "default") == 0 ||
                         strcmp(stickiness, "random") == 0;
    if (share == 0)
        return json_false();
    if (share == CONVERT_SHARE_TOTAL && may_be_random)
        return json_true();
    json_t *value = unleash_sticky(stickiness);
    if (value == NULL)
        return unknown(run, false, "a percentage by a field", stickiness);
    if (stickiness != NULL && strcmp(stickiness, "random") == 0)
        convert_find(run, CONVERT_DIFFERS,
                     "a percentage drawn at random each time is drawn once per targeting key here");
    else if (share < CONVERT_SHARE_TOTAL)
        convert_find(run, CONVERT_DIFFERS, "percentages keep their shares, not their members");
    snprintf(prefix, sizeof prefix, "%.250s:", group);
    // Empty is as good as missing.
    json_t *present =
        convert_and(convert_present(value),
                    convert_op2("!=", convert_op1("cat", json_deep_copy(value)), json_string("")));
    return convert_and(present, convert_share(prefix, value, share));
}

// The parts between commas, without the spaces around the commas. Those at both ends of the list count.
static json_t *split(const char *list)
{
    json_t *values = json_array();
    bool more = list != NULL && *list != '\0';
    while (more) {
        size_t len = strcspn(list, ",");
        size_t end = len;
        more = list[len] == ',';
        while (more && end > 0 && strchr(SPACES, list[end - 1]) != NULL)
            end--;
        json_array_append_new(values, json_stringn(list, end));
        list += len + more;
        list += more ? strspn(list, SPACES) : 0;
    }
    return values;
}

// When the mask of a network ends between two numbers of a dotted address, the network is a prefix of its
// text.
static json_t *network(struct convert_run *run, const char *entry)
{
    char prefix[32] = "";
    const char *slash = strchr(entry, '/');
    long bits = strtol(slash + 1, NULL, 10);
    size_t dots = bits == 8 || bits == 16 || bits == 24 ? (size_t)bits / 8 : 0;
    size_t len = 0;
    while (len < (size_t)(slash - entry) && dots > 0)
        dots -= entry[len++] == '.';
    if (len == 0 || dots > 0 || len >= sizeof prefix ||
        strspn(entry, "0123456789.") != (size_t)(slash - entry))
        return unknown(run, false, "a network", entry);
    memcpy(prefix, entry, len);
    return convert_op2("starts_with", convert_var("remoteAddress"), json_string(prefix));
}

static json_t *addresses(struct convert_run *run, const char *list)
{
    json_t *all = split(list);
    json_t *plain = json_array();
    json_t *any = json_false();
    size_t i;
    json_t *entry;
    json_array_foreach(all, i, entry)
    {
        if (strchr(json_string_value(entry), '/') != NULL)
            any = convert_or(any, network(run, json_string_value(entry)));
        else
            json_array_append(plain, entry);
    }
    json_decref(all);
    return convert_or(is_in(convert_var("remoteAddress"), plain), any);
}

static json_t *decide(struct convert_run *run, const char *name, const json_t *parameters,
                      const char *feature)
{
    const char *group = convert_text(parameters, "groupId");
    int64_t share = share_of(parameters, "percentage");
    if (group == NULL || group[0] == '\0')
        group = feature;
    if (strcmp(name, "default") == 0)
        return json_true();
    if (strcmp(name, "userWithId") == 0)
        return is_in(convert_var("targetingKey"), split(convert_text(parameters, "userIds")));
    if (strcmp(name, "gradualRolloutUserId") == 0)
        return rollout(run, group, "userId", share);
    if (strcmp(name, "gradualRolloutSessionId") == 0)
        return rollout(run, group, "sessionId", share);
    if (strcmp(name, "gradualRolloutRandom") == 0)
        return rollout(run, feature, "random", share);
    if (strcmp(name, "flexibleRollout") == 0)
        return rollout(run, group, convert_text(parameters, "stickiness"), share_of(parameters, "rollout"));
    if (strcmp(name, "remoteAddress") == 0)
        return addresses(run, convert_text(parameters, "IPs"));
    return unknown(run, false, "a strategy", name);
}

json_t *unleash_strategy(struct convert_run *run, const json_t *strategy, const char *feature)
{
    const char *name = convert_text(strategy, "name");
    json_t *all = constraints(run, convert_list(strategy, "constraints"));
    size_t i;
    json_t *id;
    json_array_foreach((json_t *)(uintptr_t)convert_list(strategy, "segments"), i, id) all =
        convert_and(all, segment(run, id));
    return convert_and(
        all, decide(run, name != NULL ? name : "", json_object_get(strategy, "parameters"), feature));
}
