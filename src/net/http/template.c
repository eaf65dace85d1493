// SPDX-License-Identifier: Apache-2.0
// Templates of paths and texts made of their captures. They are read as they are written, each time: both are
// short, and nothing has to be kept beside them.
#include "net/http/template.h"

#include "base/check.h"

// The next segment behind a '/', without it. False at the end.
static bool segment_next(struct slice *rest, struct slice *segment)
{
    if (rest->len == 0)
        return false;
    size_t end = 1;
    while (end < rest->len && rest->data[end] != '/')
        end++;
    *segment = (struct slice){rest->data + 1, end - 1};
    *rest = (struct slice){rest->data + end, rest->len - end};
    return true;
}

static bool is_named(struct slice segment)
{
    return segment.len > 0 && segment.data[0] == '{';
}

// Of a named segment that is sound.
static struct slice name_of(struct slice segment, bool *open)
{
    struct slice name = {segment.data + 1, segment.len - 2};
    *open = name.len > 3 && memcmp(name.data + name.len - 3, "...", 3) == 0;
    if (*open)
        name.len -= 3;
    return name;
}

static const struct http_capture *capture_find(const struct http_captures *captures, struct slice name)
{
    for (uint32_t i = 0; i < captures->count; i++)
        if (slice_equal(captures->items[i].name, name))
            return &captures->items[i];
    return NULL;
}

static void capture_add(struct http_captures *captures, struct slice name, struct slice value)
{
    CHECK(captures->count < HTTP_CAPTURES_MAX);
    captures->items[captures->count++] = (struct http_capture){name, value};
}

// ---- checking ----

static bool name_is_sound(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
            return false;
    }
    return name.len > 0 && name.len < HTTP_TEMPLATE_NAME_BYTES;
}

static const char *segment_check(struct slice segment, bool last, struct http_captures *names)
{
    bool open;
    if (!is_named(segment)) {
        bool brace = memchr(segment.data, '{', segment.len) || memchr(segment.data, '}', segment.len);
        return brace ? "a name in braces is a whole segment, such as /{id}/" : NULL;
    }
    if (segment.len < 2 || segment.data[segment.len - 1] != '}')
        return "a name in braces is a whole segment, such as /{id}/";
    struct slice name = name_of(segment, &open);
    if (!name_is_sound(name))
        return "a name has 1 to 31 lower-case letters, digits or underscores";
    if (open && !last)
        return "what takes all that follows, {name...}, is the last segment";
    if (capture_find(names, name) != NULL)
        return "a name stands in a template once";
    if (names->count == HTTP_TEMPLATE_NAMES_MAX)
        return "a template has at most 8 names";
    capture_add(names, name, SLICE(""));
    return NULL;
}

const char *http_template_check(struct slice text, size_t *at)
{
    struct http_captures names = {.count = 0};
    struct slice rest = text, segment;
    *at = 0;
    if (text.len == 0 || text.data[0] != '/')
        return "a template begins with '/'";
    while (segment_next(&rest, &segment)) {
        const char *why = segment_check(segment, rest.len == 0, &names);
        *at = (size_t)(segment.data - text.data);
        if (why != NULL)
            return why;
        if (segment.len == 0 && rest.len > 0)
            return "a segment is empty";
    }
    return NULL;
}

void http_template_names(struct slice text, struct http_captures *captures)
{
    struct slice segment;
    bool open;
    while (segment_next(&text, &segment))
        if (is_named(segment))
            capture_add(captures, name_of(segment, &open), SLICE(""));
}

uint32_t http_template_rank(struct slice text)
{
    uint32_t segments = 0, given = 0;
    struct slice segment;
    bool open = false;
    while (segment_next(&text, &segment)) {
        segments++;
        if (is_named(segment))
            (void)name_of(segment, &open);
        else
            given += (uint32_t)segment.len;
    }
    return segments << 17 | given << 1 | !open;
}

// ---- matching ----

// Without its parameters.
static struct slice bare(struct slice segment)
{
    const char *end = memchr(segment.data, ';', segment.len);
    return end == NULL ? segment : (struct slice){segment.data, (size_t)(end - segment.data)};
}

bool http_template_match(struct slice text, struct slice path, struct http_captures *captures)
{
    struct slice wanted, got, before = path;
    while (segment_next(&text, &wanted)) {
        bool open = false;
        before = path;
        if (!segment_next(&path, &got))
            return false;
        struct slice name = is_named(wanted) ? name_of(wanted, &open) : wanted;
        if (open)
            got = (struct slice){before.data + 1, before.len - 1};
        bool equal = is_named(wanted) ? open || bare(got).len > 0
                                      : slice_equal(got, wanted) || slice_equal(bare(got), wanted);
        if (!equal)
            return false;
        if (is_named(wanted) && captures != NULL)
            capture_add(captures, name, got);
        if (open)
            return true;
    }
    return path.len == 0;
}

// ---- texts ----

// Takes one piece off the front: bytes as they are, or a name. False at the end. A name without its end is
// given with *sound false.
static bool piece_next(struct slice *rest, struct slice *piece, bool *named, bool *sound)
{
    if (rest->len == 0)
        return false;
    char first = rest->data[0];
    bool brace = first == '{' || first == '}';
    bool twice = brace && rest->len > 1 && rest->data[1] == first;
    size_t taken = twice ? 2 : 1;
    *named = false;
    *sound = twice || first != '}';
    *piece = (struct slice){rest->data, 1};
    if (first == '{' && !twice) {
        const char *end = memchr(rest->data, '}', rest->len);
        *named = true;
        *sound = end != NULL;
        taken = end == NULL ? rest->len : (size_t)(end - rest->data) + 1;
        *piece = (struct slice){rest->data + 1, taken > 2 ? taken - 2 : 0};
    } else if (!brace) {
        while (taken < rest->len && rest->data[taken] != '{' && rest->data[taken] != '}')
            taken++;
        piece->len = taken;
    }
    *rest = (struct slice){rest->data + taken, rest->len - taken};
    return true;
}

const char *http_text_check(struct slice text, const struct http_captures *known, size_t *at)
{
    struct slice rest = text, piece;
    bool named, sound;
    for (;;) {
        *at = (size_t)(rest.data - text.data);
        if (!piece_next(&rest, &piece, &named, &sound))
            return NULL;
        if (!sound)
            return "a brace stands alone; '{{' and '}}' are braces themselves";
        if (named && capture_find(known, piece) == NULL)
            return "it names what is not known here";
    }
}

void http_text_expand(struct slice text, const struct http_captures *captures, struct text *out)
{
    struct slice piece;
    bool named, sound;
    while (piece_next(&text, &piece, &named, &sound)) {
        const struct http_capture *capture = named ? capture_find(captures, piece) : NULL;
        CHECK(sound && (!named || capture != NULL));
        text_add(out, named ? capture->value : piece);
    }
}
