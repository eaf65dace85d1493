// SPDX-License-Identifier: Apache-2.0
// Reads exports, which may hold anything, and builds flags. No function fails on a value of an unexpected
// kind: it is treated as if it were missing.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "flags/convert/convert_private.h"

const char *convert_text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

bool convert_flagged(const json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}

const json_t *convert_list(const json_t *object, const char *name)
{
    const json_t *list = json_object_get(object, name);
    return json_is_array(list) ? list : NULL;
}

double convert_number(const json_t *value, bool *is)
{
    const char *text = json_string_value(value);
    *is = json_is_number(value);
    if (text == NULL)
        return json_number_value(value);
    char *end;
    double number = strtod(text, &end);
    *is = end != text && *end == '\0' && strspn(text, "+-.0123456789eE") == strlen(text) && isfinite(number);
    return *is ? number : 0;
}

// Days from 1970-01-01 in the Gregorian calendar, years counted from March.
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    int64_t y = month > 2 ? year : year - 1;
    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * ((month + 9) % 12) + 2) / 5 + day - 1 - 719468;
}

static bool all_digits(const char *text, size_t count)
{
    return strspn(text, "0123456789") >= count;
}

static bool take_zone(const char *text, double *offset_s)
{
    *offset_s = 0;
    if (strcmp(text, "Z") == 0 || strcmp(text, "z") == 0)
        return true;
    if (strlen(text) != 6 || (text[0] != '+' && text[0] != '-') || text[3] != ':' ||
        !all_digits(text + 1, 2) || !all_digits(text + 4, 2))
        return false;
    long minutes = strtol(text + 1, NULL, 10) * 60 + strtol(text + 4, NULL, 10);
    *offset_s = (text[0] == '-' ? -60.0 : 60.0) * (double)minutes;
    return true;
}

static bool text_time(const char *text, double *time_ms)
{
    static const char SHAPE[] = "0000-00-00T00:00:00";
    double fraction = 0;
    double offset_s;
    for (size_t i = 0; i < sizeof SHAPE - 1; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        bool match = SHAPE[i] == '0' ? digit : text[i] == SHAPE[i] || (SHAPE[i] == 'T' && text[i] == 't');
        if (!match)
            return false;
    }
    long month = strtol(text + 5, NULL, 10);
    long day = strtol(text + 8, NULL, 10);
    const char *rest = text + sizeof SHAPE - 1;
    if (*rest == '.') {
        size_t len = strspn(rest + 1, "0123456789");
        double scale = 1;
        for (size_t i = 1; i <= len && i <= 9; i++)
            fraction += (rest[i] - '0') * (scale /= 10);
        rest += len + 1;
    }
    if (month < 1 || month > 12 || day < 1 || day > 31 || !take_zone(rest, &offset_s))
        return false;
    double seconds =
        (double)(days_of(strtol(text, NULL, 10), month, day) * 86400 + strtol(text + 11, NULL, 10) * 3600 +
                 strtol(text + 14, NULL, 10) * 60 + strtol(text + 17, NULL, 10));
    *time_ms = floor((seconds - offset_s + fraction) * 1000 + 0.5);
    return true;
}

bool convert_time(const json_t *value, double *time_ms)
{
    if (json_is_string(value))
        return text_time(json_string_value(value), time_ms);
    if (!json_is_number(value))
        return false;
    *time_ms = json_number_value(value);
    return true;
}

void convert_chain_add(struct convert_chain *chain, json_t *condition, json_t *answer)
{
    if (chain->closed || json_is_false(condition)) {
        json_decref(condition);
        json_decref(answer);
        return;
    }
    if (chain->arguments == NULL)
        chain->arguments = json_array();
    chain->closed = json_is_true(condition);
    if (chain->closed)
        json_decref(condition);
    else
        json_array_append_new(chain->arguments, condition);
    json_array_append_new(chain->arguments, answer);
}

json_t *convert_chain_end(struct convert_chain *chain, json_t *otherwise)
{
    if (chain->closed)
        json_decref(otherwise);
    else if (chain->arguments == NULL)
        return otherwise;
    else if (otherwise != NULL)
        json_array_append_new(chain->arguments, otherwise);
    json_t *rule = json_array_size(chain->arguments) == 1 ? json_incref(json_array_get(chain->arguments, 0))
                                                          : json_pack("{s:O}", "if", chain->arguments);
    json_decref(chain->arguments);
    chain->arguments = NULL;
    return rule;
}

static json_t *member(json_t *object, const char *name, json_t *(*make)(void))
{
    json_t *found = json_object_get(object, name);
    if (found == NULL) {
        json_object_set_new(object, name, make());
        found = json_object_get(object, name);
    }
    return found;
}

json_t *convert_extension(json_t *flag)
{
    return member(flag, "x-sluice", json_object);
}

void convert_metadata(json_t *flag, const char *name, json_t *value)
{
    json_object_set_new(member(flag, "metadata", json_object), name, value);
}

void convert_metadata_text(json_t *flag, const char *name, const char *value)
{
    if (value != NULL && value[0] != '\0')
        convert_metadata(flag, name, json_string(value));
}

void convert_kill(json_t *flag, const char *variant)
{
    json_object_set_new(flag, "state", json_string("DISABLED"));
    if (variant != NULL)
        json_object_set_new(convert_extension(flag), "kill", json_string(variant));
    else
        json_object_del(json_object_get(flag, "x-sluice"), "kill");
}

void convert_require(struct convert_run *run, json_t *flag, const char *key, const char *variant)
{
    json_t *list = member(convert_extension(flag), "prerequisites", json_array);
    if (json_array_append_new(list, json_pack("{s:s,s:s}", "flag", key, "variant", variant)) != 0)
        run->no_memory = true;
}

static void find_names(struct convert_run *run, const char *what, const json_t *environments)
{
    char storage[160];
    struct text names = text_over(storage, sizeof storage);
    const char *name;
    json_t *unused;
    json_object_foreach((json_t *)(uintptr_t)environments, name, unused)
        text_addf(&names, "%s%s", names.len > 0 ? ", " : "", name);
    convert_find(run, CONVERT_LOST, "%s: %s", what, storage);
}

bool convert_choose(struct convert_run *run, const json_t *environments)
{
    const char *wanted = run->options->environment;
    if (wanted == NULL && json_object_size(environments) > 1) {
        find_names(run, "the export holds several environments, one must be named", environments);
        return false;
    }
    if (wanted != NULL && json_object_size(environments) > 0 &&
        json_object_get(environments, wanted) == NULL) {
        find_names(run, "the export does not hold the environment named, but", environments);
        return false;
    }
    run->name = wanted;
    if (wanted == NULL && json_object_size(environments) == 1)
        run->name = json_object_iter_key(json_object_iter((json_t *)(uintptr_t)environments));
    return true;
}
