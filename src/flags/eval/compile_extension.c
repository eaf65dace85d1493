// SPDX-License-Identifier: Apache-2.0
// What Sluice adds to a flagd file under "x-sluice": the hash generation of a set; kill switch, schedule,
// individual targets and prerequisites of a flag. Only Sluice defines these words, so an unknown one is a
// structural fault.
#include <math.h>

#include "base/check.h"
#include "flags/eval/flags_private.h"

static void error(struct flags_compiler *c, const char *message, const struct flags_json *where,
                  struct slice subject)
{
    flags_compile_problem(c, FLAGS_ERROR, message, where, subject);
}

static bool known_members(struct flags_compiler *c, const struct flags_json *tree, const char *const *names,
                          size_t count)
{
    bool all = true;
    if (tree->kind != FLAGS_JSON_OBJECT) {
        error(c, "expected an object", tree, tree->key);
        return false;
    }
    for (const struct flags_json *m = tree->first; m != NULL; m = m->next) {
        bool known = false;
        for (size_t i = 0; i < count; i++)
            known = known || slice_equal(m->key, slice_of(names[i]));
        if (!known)
            error(c, "unknown setting under x-sluice", m, m->key);
        all = all && known;
    }
    return all;
}

void flags_compile_settings(struct flags_compiler *c, const struct flags_json *tree)
{
    static const char *const NAMES[] = {"fractional"};
    if (tree == NULL || !known_members(c, tree, NAMES, ARRAY_LEN(NAMES)))
        return;
    const struct flags_json *generation = flags_json_member(tree, SLICE("fractional"));
    if (generation == NULL)
        return;
    bool known = generation->kind == FLAGS_JSON_NUMBER &&
                 (generation->number == 1 || generation->number == 2 || generation->number == 3);
    if (known)
        c->generation = (uint8_t)generation->number;
    else
        error(c, "the generations of fractional are 1, 2 and 3", generation, SLICE(""));
}

// Schedules

static bool take_digits(struct slice *rest, size_t count, int64_t *value)
{
    int64_t sum = 0;
    if (rest->len < count)
        return false;
    for (size_t i = 0; i < count; i++) {
        char digit = rest->data[i];
        if (digit < '0' || digit > '9')
            return false;
        sum = sum * 10 + (digit - '0');
    }
    *rest = (struct slice){rest->data + count, rest->len - count};
    *value = sum;
    return true;
}

static bool take_char(struct slice *rest, char c)
{
    if (rest->len == 0 || rest->data[0] != c)
        return false;
    *rest = (struct slice){rest->data + 1, rest->len - 1};
    return true;
}

// Days from 1970-01-01 in the proleptic Gregorian calendar, counted in years that begin in March.
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    int64_t march_year = month > 2 ? year : year - 1;
    int64_t march_month = (month + 9) % 12;
    int64_t era_days = 365 * march_year + march_year / 4 - march_year / 100 + march_year / 400;
    return era_days + (153 * march_month + 2) / 5 + day - 1 - 719468;
}

static int64_t month_days(int64_t year, int64_t month)
{
    static const uint8_t DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return DAYS[month - 1] + (month == 2 && leap);
}

static bool take_offset(struct slice *rest, int64_t *offset_s)
{
    int64_t hours;
    int64_t minutes;
    *offset_s = 0;
    if (take_char(rest, 'Z') || take_char(rest, 'z'))
        return rest->len == 0;
    bool east = rest->len > 0 && rest->data[0] == '+';
    if (!take_char(rest, '+') && !take_char(rest, '-'))
        return false;
    if (!take_digits(rest, 2, &hours) || !take_char(rest, ':') || !take_digits(rest, 2, &minutes))
        return false;
    *offset_s = (hours * 60 + minutes) * (east ? 60 : -60);
    return hours < 24 && minutes < 60 && rest->len == 0;
}

// RFC 3339 date-time in whole seconds; a leap second counts as the second before it.
static bool parse_time(struct slice text, int64_t *time_s)
{
    int64_t part[6];
    int64_t offset_s;
    static const char BEHIND[] = "--T::";
    for (int i = 0; i < 6; i++) {
        if (!take_digits(&text, i == 0 ? 4 : 2, &part[i]))
            return false;
        if (i < 5 && !take_char(&text, BEHIND[i]) &&
            !(i == 2 && (take_char(&text, 't') || take_char(&text, ' '))))
            return false;
    }
    if (part[1] < 1 || part[1] > 12 || part[2] < 1 || part[2] > month_days(part[0], part[1]) ||
        part[3] > 23 || part[4] > 59 || part[5] > 60 || !take_offset(&text, &offset_s))
        return false;
    int64_t second = part[5] == 60 ? 59 : part[5];
    *time_s = days_of(part[0], part[1], part[2]) * 86400 + part[3] * 3600 + part[4] * 60 + second - offset_s;
    return true;
}

static void compile_time(struct flags_compiler *c, const struct flags_json *value, int64_t *time_s)
{
    static const double SECONDS_MAX = 1e11; // in the year 5138; such a number counts milliseconds
    bool number = value != NULL && value->kind == FLAGS_JSON_NUMBER && value->integral;
    if (value == NULL)
        return;
    if (number && fabs(value->number) < SECONDS_MAX)
        *time_s = (int64_t)value->number;
    else if (number)
        error(c, "a time is in Unix seconds, and this counts milliseconds", value, value->key);
    else if (value->kind != FLAGS_JSON_STRING || !parse_time(value->text, time_s))
        error(c, "a time is in Unix seconds or as in \"2026-11-21T09:00:00Z\"", value, value->key);
}

static void compile_schedule(struct flags_compiler *c, const struct flags_json *tree,
                             struct flags_image_extension *extension)
{
    static const char *const NAMES[] = {"from", "until"};
    if (tree == NULL || !known_members(c, tree, NAMES, ARRAY_LEN(NAMES)))
        return;
    compile_time(c, flags_json_member(tree, SLICE("from")), &extension->from_s);
    compile_time(c, flags_json_member(tree, SLICE("until")), &extension->until_s);
    if (extension->from_s >= extension->until_s)
        error(c, "the schedule ends before it begins", tree, SLICE(""));
}

// Kill switch and targets

static void compile_kill(struct flags_compiler *c, const struct flags_json *tree,
                         struct flags_image_flag *flag)
{
    if (tree == NULL || tree->kind == FLAGS_JSON_FALSE)
        return;
    flag->bits |= FLAGS_BIT_KILLED;
    flag->kill_variant = flags_off_variant(c->out, flag);
    if (tree->kind == FLAGS_JSON_TRUE)
        return;
    if (tree->kind != FLAGS_JSON_STRING) {
        error(c, "kill is true, false or a variant", tree, SLICE(""));
        return;
    }
    flag->kill_variant = flags_find_variant(c->out, flag, tree->text);
    if (flag->kill_variant == FLAGS_NO_VARIANT)
        error(c, "kill names no variant", tree, tree->text);
}

// Counts the keys and checks the shape.
static uint64_t count_targets(struct flags_compiler *c, const struct flags_json *tree, uint32_t flag_at)
{
    uint64_t count = 0;
    if (tree->kind != FLAGS_JSON_OBJECT) {
        error(c, "targets are lists of keys by variant", tree, SLICE(""));
        return 0;
    }
    for (const struct flags_json *list = tree->first; list != NULL; list = list->next) {
        if (flags_find_variant(c->out, flags_write_at(c, flag_at), list->key) == FLAGS_NO_VARIANT)
            error(c, "targets name no variant", list, list->key);
        if (list->kind != FLAGS_JSON_ARRAY)
            error(c, "targets are lists of keys by variant", list, list->key);
        for (const struct flags_json *key = list->first; key != NULL; key = key->next, count++)
            if (key->kind != FLAGS_JSON_STRING)
                error(c, "a target is a targeting key", key, list->key);
    }
    return count;
}

static void compile_targets(struct flags_compiler *c, const struct flags_json *tree, uint32_t flag_at,
                            struct flags_image_extension *extension)
{
    size_t errors_before = c->findings.error_count;
    uint64_t count = tree != NULL ? count_targets(c, tree, flag_at) : 0;
    if (count == 0 || c->findings.error_count > errors_before)
        return;
    uint32_t at = flags_write_reserve(c, count * sizeof(struct flags_image_target), 4);
    uint32_t i = 0;
    for (const struct flags_json *list = tree->first; list != NULL; list = list->next) {
        uint32_t variant = flags_find_variant(c->out, flags_write_at(c, flag_at), list->key);
        for (const struct flags_json *key = list->first; key != NULL && c->status == STATUS_OK;
             key = key->next) {
            struct flags_image_target target = {flags_write_bytes(c, key->text), variant};
            if (c->status == STATUS_OK)
                memcpy(c->out + at + i++ * sizeof target, &target, sizeof target);
        }
    }
    if (c->status != STATUS_OK)
        return;
    flags_write_sort_spans(c->out, at, i, sizeof(struct flags_image_target));
    const struct flags_image_target *targets = flags_write_at(c, at);
    for (uint32_t k = 1; k < i; k++) {
        struct slice key = flags_image_slice(c->out, targets[k].key);
        if (slice_equal(flags_image_slice(c->out, targets[k - 1].key), key))
            error(c, "a key stands twice among the targets", tree, key);
    }
    extension->targets = at;
    extension->target_count = i;
}

// Prerequisites

static void compile_prerequisite(struct flags_compiler *c, const struct flags_json *tree, uint32_t at)
{
    static const char *const NAMES[] = {"flag", "variant"};
    if (!known_members(c, tree, NAMES, ARRAY_LEN(NAMES)))
        return;
    const struct flags_json *flag = flags_json_member(tree, SLICE("flag"));
    const struct flags_json *variant = flags_json_member(tree, SLICE("variant"));
    if (flag == NULL || flag->kind != FLAGS_JSON_STRING || variant == NULL ||
        variant->kind != FLAGS_JSON_STRING) {
        error(c, "a prerequisite names a flag and a variant", tree, SLICE(""));
        return;
    }
    struct flags_image_prerequisite prerequisite = {
        .key = flags_write_bytes(c, flag->text),
        .variant_name = flags_write_bytes(c, variant->text),
    };
    if (c->status == STATUS_OK)
        memcpy(c->out + at, &prerequisite, sizeof prerequisite);
}

static void compile_prerequisite_list(struct flags_compiler *c, const struct flags_json *tree,
                                      struct flags_image_extension *extension)
{
    if (tree == NULL)
        return;
    if (tree->kind != FLAGS_JSON_ARRAY || tree->count > FLAGS_PREREQUISITES_MAX) {
        error(c, "prerequisites are a list of at most 16", tree, SLICE(""));
        return;
    }
    uint32_t at = flags_write_reserve(c, tree->count * sizeof(struct flags_image_prerequisite), 4);
    uint32_t i = 0;
    for (const struct flags_json *p = tree->first; p != NULL && c->status == STATUS_OK; p = p->next)
        compile_prerequisite(c, p, at + i++ * (uint32_t)sizeof(struct flags_image_prerequisite));
    extension->prerequisites = at;
    extension->prerequisite_count = i;
}

void flags_compile_extension(struct flags_compiler *c, const struct flags_json *tree, uint32_t flag_at)
{
    static const char *const NAMES[] = {"kill", "schedule", "targets", "prerequisites"};
    struct flags_image_extension extension = {.from_s = INT64_MIN, .until_s = INT64_MAX};
    if (!known_members(c, tree, NAMES, ARRAY_LEN(NAMES)))
        return;
    const struct flags_json *schedule = flags_json_member(tree, SLICE("schedule"));
    compile_kill(c, flags_json_member(tree, SLICE("kill")), flags_write_at(c, flag_at));
    compile_schedule(c, schedule, &extension);
    compile_targets(c, flags_json_member(tree, SLICE("targets")), flag_at, &extension);
    compile_prerequisite_list(c, flags_json_member(tree, SLICE("prerequisites")), &extension);
    // A kill alone makes no flag depend on its context.
    if (schedule == NULL && extension.target_count == 0 && extension.prerequisite_count == 0)
        return;
    uint32_t at = flags_write_reserve(c, sizeof extension, 8);
    if (c->status != STATUS_OK)
        return;
    memcpy(c->out + at, &extension, sizeof extension);
    struct flags_image_flag *flag = flags_write_at(c, flag_at);
    flag->extension = at;
    if (schedule != NULL)
        flag->bits |= FLAGS_BIT_SCHEDULE;
    if (extension.target_count > 0)
        flag->bits |= FLAGS_BIT_USES_KEY;
}

// Problems of a flag that are only found when all flags are known. In a part of a set they are the flag's
// own: without its prerequisites nothing else of it may answer.
static void say(struct flags_compiler *c, struct flags_image_flag *flag, const char *message,
                struct slice subject)
{
    bool part = c->bundle->part;
    c->flag_key = flags_image_slice(c->out, flag->key);
    flags_compile_problem_at(c, part ? FLAGS_FAULT : FLAGS_ERROR, message, flag->source_at, subject);
    c->flag_key = (struct slice){"", 0};
    if (!part)
        return;
    flag->fault = flags_write_bytes(c, slice_of(message));
    flag->extension = 0;
}

static void resolve(struct flags_compiler *c, struct flags_image_flag *flag,
                    struct flags_image_prerequisite *p)
{
    struct slice key = flags_image_slice(c->out, p->key);
    const struct flags_image_flag *needed = flags_find_key(c->out, key);
    if (needed == NULL) {
        say(c, flag, "a prerequisite names no flag", key);
        return;
    }
    struct slice name = flags_image_slice(c->out, p->variant_name);
    p->flag = (uint32_t)((const uint8_t *)needed - c->out);
    p->variant = flags_find_variant(c->out, needed, name);
    if (p->variant == FLAGS_NO_VARIANT)
        say(c, flag, "a prerequisite names no variant", name);
}

// Depth-first; the recursion ends at the longest chain allowed. False after a problem was reported.
static bool measure_chain(struct flags_compiler *c, uint32_t flag_at, uint32_t above)
{
    enum { OPEN = 255 };
    struct flags_image_flag *flag = flags_write_at(c, flag_at);
    const char *fault = NULL;
    if (flag->mark == OPEN)
        fault = "the prerequisites lead back to the flag";
    else if (above > FLAGS_PREREQUISITES_MAX ||
             (flag->mark != 0 && flag->mark != OPEN && above + flag->mark - 1 > FLAGS_PREREQUISITES_MAX))
        fault = "the chain of prerequisites is too long";
    if (fault != NULL) {
        flags_compile_enter(c, flag->document);
        say(c, flag, fault, (struct slice){"", 0});
        return c->bundle->part;
    }
    if (flag->mark != 0 && flag->mark != OPEN)
        return true;
    uint32_t longest = 0;
    flag->mark = OPEN;
    const struct flags_image_extension *extension = flags_write_at(c, flag->extension);
    const struct flags_image_prerequisite *list = flags_write_at(c, extension->prerequisites);
    uint32_t count = flag->extension != 0 ? extension->prerequisite_count : 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!measure_chain(c, list[i].flag, above + 1))
            return false;
        const struct flags_image_flag *needed = flags_write_at(c, list[i].flag);
        longest = needed->mark > longest && needed->mark != OPEN ? needed->mark : longest;
    }
    flag->mark = (uint8_t)(longest + 1);
    return true;
}

void flags_compile_prerequisites(struct flags_compiler *c)
{
    struct flags_image_flag *flag;
    for (uint32_t at = c->first_flag; at != 0; at = flag->next) {
        flag = flags_write_at(c, at);
        if (flag->extension == 0)
            continue;
        flags_compile_enter(c, flag->document);
        const struct flags_image_extension *extension = flags_write_at(c, flag->extension);
        struct flags_image_prerequisite *list = flags_write_at(c, extension->prerequisites);
        for (uint32_t i = 0; i < extension->prerequisite_count; i++)
            resolve(c, flag, &list[i]);
    }
    if (c->findings.error_count > 0)
        return;
    for (uint32_t at = c->first_flag; at != 0; at = flag->next) {
        flag = flags_write_at(c, at);
        if (!measure_chain(c, at, 0))
            return;
    }
}
