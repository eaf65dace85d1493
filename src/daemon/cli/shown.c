// SPDX-License-Identifier: Apache-2.0
#include "daemon/cli/shown.h"

#include <string.h>

#include "base/heap.h"
#include "base/text.h"
#include "base/utf8.h"

// ---- text ----

// At which line breaks a text may break.
enum breaks { BREAKS_NONE, BREAKS_INDENTED, BREAKS_ALL };

// The next character as it may be shown.
static struct slice next_shown(struct slice *rest, enum breaks breaks)
{
    bool breaks_line = (breaks == BREAKS_ALL && slice_starts_with(*rest, SLICE("\n"))) ||
                       (breaks == BREAKS_INDENTED && slice_starts_with(*rest, SLICE("\n  ")));
    if (!breaks_line)
        return utf8_shown_next(rest);
    *rest = (struct slice){rest->data + 1, rest->len - 1};
    return SLICE("\n");
}

static const char *clean(const char *text, enum breaks breaks)
{
    enum { RING = 8, BYTES = 2048 };
    static char ring[RING][BYTES];
    static unsigned at;
    struct text out = text_over(ring[at++ % RING], BYTES);
    struct slice rest = slice_of(text);
    while (rest.len > 0 && out.len < BYTES - 4)
        text_add(&out, next_shown(&rest, breaks));
    return out.data;
}

const char *cli_shown(const char *text)
{
    return clean(text, BREAKS_NONE);
}

const char *cli_told(const char *text)
{
    return clean(text, BREAKS_INDENTED);
}

const char *cli_word(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return cli_shown(text != NULL ? text : "");
}

static void print_clean(FILE *out, const char *text, enum breaks breaks)
{
    for (struct slice rest = slice_of(text); rest.len > 0;) {
        struct slice shown = next_shown(&rest, breaks);
        fwrite(shown.data, 1, shown.len, out);
    }
}

void cli_print_report(FILE *out, const char *text)
{
    print_clean(out, text, BREAKS_ALL);
}

void cli_print_told(FILE *out, const char *text)
{
    print_clean(out, text, BREAKS_INDENTED);
}

// ---- JSON ----

// What acts stands in a string (then an escape says the same), or is white space between values.
static struct slice next_json(struct slice *rest, char escape[8])
{
    size_t len = utf8_length(*rest);
    struct slice character = {rest->data, len};
    const unsigned char *c = (const unsigned char *)rest->data;
    if (len == 0 || !utf8_acts(character) || c[0] == '\n')
        return next_shown(rest, BREAKS_ALL);
    *rest = (struct slice){rest->data + len, rest->len - len};
    if (c[0] < 0x20)
        return SLICE(" ");
    unsigned code = len == 1   ? c[0]
                    : len == 2 ? (c[0] & 0x1fU) << 6 | (c[1] & 0x3fU)
                               : (c[0] & 0x0fU) << 12 | (c[1] & 0x3fU) << 6 | (c[2] & 0x3fU);
    return (struct slice){escape, (size_t)snprintf(escape, 8, "\\u%04x", code & 0xffff)};
}

void cli_print_json_text(FILE *out, struct slice json)
{
    char escape[8];
    while (json.len > 0) {
        struct slice shown = next_json(&json, escape);
        fwrite(shown.data, 1, shown.len, out);
    }
}

char *cli_json_dump(const json_t *json, size_t flags)
{
    size_t size = json != NULL ? json_dumpb(json, NULL, 0, flags) : 0;
    char *text = size > 0 ? heap_alloc(size + 1, 1) : NULL;
    if (text != NULL)
        (void)json_dumpb(json, text, size, flags);
    return text;
}

void cli_print_json(FILE *out, const json_t *json)
{
    char *text = cli_json_dump(json, JSON_INDENT(2));
    if (text != NULL)
        cli_print_json_text(out, slice_of(text));
    fputc('\n', out);
    heap_free(text);
}

void cli_json_text(const json_t *value, char *text, size_t cap)
{
    char *whole = cli_json_dump(value, JSON_COMPACT | JSON_ENCODE_ANY);
    struct text out = text_over(text, cap);
    struct slice rest = slice_of(whole != NULL ? whole : "");
    char escape[8];
    while (rest.len > 0 && !out.cut) {
        struct slice shown = next_json(&rest, escape);
        if (out.len + shown.len + 3 > cap - 1 && rest.len > 0) {
            text_add(&out, SLICE("..."));
            break;
        }
        text_add(&out, shown);
    }
    heap_free(whole);
}
