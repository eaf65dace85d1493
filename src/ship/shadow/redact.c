// SPDX-License-Identifier: Apache-2.0
// What must not be kept or shown is left out by its place (a pattern, or what everybody keeps secret) or by
// its looks. Of a value that holds others, and of a path that was cut, all is left out that a pattern may lie
// in.
#include "base/check.h"
#include "base/text.h"
#include "ship/shadow/shadow.h"

#define REDACTED SLICE("(redacted)")

static bool is_token(enum diff_class class)
{
    return class == DIFF_CLASS_JWT || class == DIFF_CLASS_HEX || class == DIFF_CLASS_TOKEN;
}

// Whether what the pattern names may lie below the path.
static bool may_lie_below(struct slice pattern, struct slice path)
{
    const char *star = memchr(pattern.data, '*', pattern.len);
    size_t fixed = star != NULL ? (size_t)(star - pattern.data) : pattern.len;
    if (fixed > path.len)
        return slice_starts_with(pattern, path);
    return star != NULL && slice_starts_with(path, (struct slice){pattern.data, fixed});
}

static bool holds_others(struct slice value)
{
    return value.len > 0 && (value.data[0] == '{' || value.data[0] == '[' || value.data[0] == '\xe2');
}

static bool is_secret(const struct shadow_redaction *redaction, struct slice path, struct slice value)
{
    static const struct slice always[] = {{"header.authorization", 20},
                                          {"header.proxy-authorization", 26},
                                          {"header.cookie", 13},
                                          {"header.set-cookie", 17}};
    struct slice ellipsis = SLICE("…");
    for (size_t i = 0; i < ARRAY_LEN(always); i++)
        if (slice_equal_nocase(always[i], path))
            return true;
    bool cut = path.len > ellipsis.len &&
               memcmp(path.data + path.len - ellipsis.len, ellipsis.data, ellipsis.len) == 0;
    struct slice begin = {path.data, path.len - (cut ? ellipsis.len : 0)};
    for (uint32_t i = 0; i < redaction->count; i++)
        if (diff_path_fits(redaction->patterns[i], path) ||
            ((cut || holds_others(value)) && may_lie_below(redaction->patterns[i], begin)))
            return true;
    return false;
}

static bool in_run(char c, bool slash)
{
    return (c >= '0' && c <= '9') || (slice_lower_char(c) >= 'a' && slice_lower_char(c) <= 'z') ||
           (c == '/' && slash) || (c != '\0' && strchr("-_+=.~", c) != NULL);
}

// Copies the text but for runs of characters that look like tokens. Returns whether there were some.
static bool scrub(struct slice text, bool slash, struct text *shown)
{
    bool found = false;
    for (size_t at = 0; at < text.len;) {
        size_t end = at;
        while (end < text.len && in_run(text.data[end], slash))
            end++;
        struct slice run = {text.data + at, end > at ? end - at : 1};
        bool token = end > at && is_token(diff_class_of(run));
        text_add(shown, token ? REDACTED : run);
        found |= token;
        at += run.len;
    }
    return found;
}

void shadow_redact_value(const struct shadow_redaction *redaction, struct slice path, enum diff_class class,
                         struct slice value, struct text *shown)
{
    if (value.len > 0 && (is_token(class) || is_secret(redaction, path, value)))
        text_add(shown, REDACTED);
    else
        (void)scrub(value, true, shown);
}

static bool is_secret_parameter(const struct shadow_redaction *redaction, struct slice name)
{
    static const char *const always[] = {"key",       "token",  "secret",    "password", "passwd",
                                         "signature", "apikey", "sessionid", "sig",      "code"};
    static const char *const endings[] = {"token", "secret", "password", "_key", "-key", "signature", "_sid"};
    char path[DIFF_PATH_BYTES];
    struct text text = text_over(path, sizeof path);
    for (size_t i = 0; i < ARRAY_LEN(always); i++)
        if (slice_equal_nocase(name, slice_of(always[i])))
            return true;
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        size_t len = strlen(endings[i]);
        if (name.len >= len &&
            slice_equal_nocase((struct slice){name.data + name.len - len, len}, slice_of(endings[i])))
            return true;
    }
    text_add(&text, SLICE("query."));
    text_add(&text, name);
    for (uint32_t i = 0; i < redaction->count; i++)
        if (diff_path_fits(redaction->patterns[i], text_slice(&text)))
            return true;
    return text.cut ||
           (name.len > 0 && memchr(name.data, '%', name.len) != NULL); // written so as not to be known
}

// A value of which a part looks like a token is left out as a whole.
static void redact_parameter(const struct shadow_redaction *redaction, struct slice parameter,
                             struct text *shown)
{
    const char *equals = memchr(parameter.data, '=', parameter.len);
    size_t name_len = equals != NULL ? (size_t)(equals - parameter.data) : parameter.len;
    struct slice name = {parameter.data, name_len};
    size_t begin = shown->len + name_len + 1;
    if (equals == NULL) {
        (void)scrub(parameter, false, shown);
        return;
    }
    struct slice value = {equals + 1, parameter.len - name_len - 1};
    text_add(shown, name);
    text_add_char(shown, '=');
    bool secret = value.len > 0 && is_secret_parameter(redaction, name);
    if ((secret || scrub(value, false, shown)) && begin <= shown->len) {
        shown->len = begin;
        text_add(shown, REDACTED);
    }
}

void shadow_redact_target(const struct shadow_redaction *redaction, struct slice target, struct text *shown)
{
    const char *mark = memchr(target.data, '?', target.len);
    size_t path_len = mark != NULL ? (size_t)(mark - target.data) : target.len;
    (void)scrub((struct slice){target.data, path_len}, false, shown);
    struct slice rest = {target.data + path_len, target.len - path_len};
    while (rest.len > 0) {
        text_add(shown, (struct slice){rest.data, 1}); // '?', then '&'
        rest = (struct slice){rest.data + 1, rest.len - 1};
        const char *end = memchr(rest.data, '&', rest.len);
        size_t len = end != NULL ? (size_t)(end - rest.data) : rest.len;
        redact_parameter(redaction, (struct slice){rest.data, len}, shown);
        rest = (struct slice){rest.data + len, rest.len - len};
    }
}
