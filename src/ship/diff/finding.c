// SPDX-License-Identifier: Apache-2.0
// Where differences go: what the recipe leaves out is counted, the rest is gathered by path and kind.
#include <inttypes.h>

#include "base/utf8.h"
#include "ship/diff/diff_private.h"

enum { BEFORE_BYTES = 16 }; // shown of what two long values have in common, before their difference

bool diff_path_fits(struct slice pattern, struct slice path)
{
    size_t p = 0, t = 0, star = SIZE_MAX, from = 0;
    while (t < path.len) {
        if (p < pattern.len && pattern.data[p] == '*') {
            star = p++;
            from = t;
        } else if (p < pattern.len && pattern.data[p] == path.data[t]) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++from;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.data[p] == '*')
        p++;
    return p == pattern.len;
}

static bool is_left_out(const struct diff_recipe *recipe, struct slice path, enum diff_class class)
{
    if ((recipe->ignored_classes & ~1U & 1U << class) != 0)
        return true;
    for (uint32_t i = 0; i < recipe->ignore_count; i++)
        if (diff_path_fits(recipe->ignores[i].path, path))
            return true;
    return false;
}

static size_t common_prefix(struct slice a, struct slice b)
{
    size_t i = 0;
    while (i < a.len && i < b.len && a.data[i] == b.data[i])
        i++;
    return i;
}

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (slice_lower_char(c) >= 'a' && slice_lower_char(c) <= 'z') ||
           (c != '\0' && strchr("-_.:+%=", c) != NULL);
}

// The words in which both differ, without the quotes, spaces and slashes around.
static void narrow(struct slice *a, struct slice *b)
{
    size_t begin = common_prefix(*a, *b), end = 0;
    while (begin > 0 && is_word(a->data[begin - 1]))
        begin--;
    while (end < a->len - begin && end < b->len - begin &&
           a->data[a->len - 1 - end] == b->data[b->len - 1 - end])
        end++;
    while (end > 0 && is_word(a->data[a->len - end]))
        end--;
    *a = (struct slice){a->data + begin, a->len - begin - end};
    *b = (struct slice){b->data + begin, b->len - begin - end};
}

static enum diff_class class_of_both(struct slice a, struct slice b)
{
    enum diff_class class = diff_class_of(a);
    if (class != DIFF_CLASS_NONE && class == diff_class_of(b))
        return class;
    narrow(&a, &b);
    class = diff_class_of(a);
    return class == diff_class_of(b) ? class : DIFF_CLASS_NONE;
}

// From a little before the difference on, as much as there is room for.
static void show(char out[DIFF_VALUE_BYTES], struct slice value, size_t common)
{
    struct slice ellipsis = SLICE("…");
    struct text text = text_over(out, DIFF_VALUE_BYTES);
    if (value.len >= DIFF_VALUE_BYTES && common > BEFORE_BYTES) {
        size_t skip = common - BEFORE_BYTES;
        while (skip > 0 && ((unsigned char)value.data[skip] & 0xc0) == 0x80)
            skip--;
        value = (struct slice){value.data + skip, value.len - skip};
        if (skip > 0)
            text_add(&text, ellipsis);
    }
    while (value.len > 0) {
        struct slice next = utf8_shown_next(&value);
        if (text.len + next.len + (value.len > 0 ? ellipsis.len : 0) >= DIFF_VALUE_BYTES) {
            text_add(&text, ellipsis);
            return;
        }
        text_add(&text, next);
    }
}

static struct diff_finding *find(struct diff_comparison *comparison, uint64_t hash, enum diff_kind kind,
                                 struct slice path)
{
    for (uint32_t i = 0; i < comparison->count; i++) {
        struct diff_finding *finding = &comparison->findings[i];
        if (finding->path_hash == hash && finding->kind == kind && slice_equal(slice_of(finding->path), path))
            return finding;
    }
    return NULL;
}

struct diff_finding *diff_sink_add(const struct diff_sink *sink, struct slice path, enum diff_kind kind,
                                   struct slice first, struct slice second)
{
    struct diff_comparison *comparison = sink->comparison;
    enum diff_class class = kind == DIFF_VALUE ? class_of_both(first, second) : DIFF_CLASS_NONE;
    path = utf8_cut(path, DIFF_PATH_BYTES - 1);
    bool clocks = sink->recipe->now_ms != 0 && kind == DIFF_VALUE && class != DIFF_CLASS_NONE &&
                  diff_is_now(first, class, sink->recipe->now_ms) &&
                  diff_is_now(second, class, sink->recipe->now_ms);
    if (clocks || is_left_out(sink->recipe, path, class)) {
        comparison->ignored++;
        return NULL;
    }
    uint64_t hash = siphash(sink->recipe->key, path.data, path.len);
    struct diff_finding *finding = find(comparison, hash, kind, path);
    if (finding != NULL) {
        finding->count += finding->count < UINT32_MAX;
        finding->class = finding->class == class ? class : DIFF_CLASS_NONE;
        return NULL;
    }
    if (comparison->count == DIFF_FINDINGS_MAX) {
        comparison->beyond++;
        return NULL;
    }
    finding = &comparison->findings[comparison->count++];
    *finding = (struct diff_finding){.path_hash = hash, .count = 1, .kind = kind, .class = class};
    utf8_copy(finding->path, sizeof finding->path, path);
    size_t common = first.len > 0 && second.len > 0 ? common_prefix(first, second) : 0;
    show(finding->first, first, common);
    show(finding->second, second, common);
    return finding;
}

const char *diff_kind_name(enum diff_kind kind)
{
    static const char *const NAMES[DIFF_KINDS] = {"added",    "missing", "type",  "value", "order",
                                                  "spelling", "status",  "bytes", "cut"};
    CHECK((unsigned)kind < DIFF_KINDS);
    return NAMES[kind];
}

const char *diff_note_words(uint32_t note)
{
    static const char *const WORDS[DIFF_NOTES] = {
        "a body does not keep the rules of its media type: bodies were compared as bytes",
        "an object has several members of one name: they were paired in their order",
        "a string is not Unicode: it was compared as bytes",
        "a body is nested too deep: bodies were compared as bytes",
        "a body is too large to be read: bodies were compared as bytes",
        "a body was cut: what came of both was compared as bytes",
        "the media types differ: bodies were compared as bytes",
        "an answer has too many headers: those beyond the limit were not compared",
    };
    CHECK(note != 0 && (note & (note - 1)) == 0 && note < 1U << DIFF_NOTES);
    return WORDS[__builtin_ctz(note)];
}

void diff_finding_words(const struct diff_finding *finding, char words[DIFF_WORDS_BYTES])
{
    struct text text = text_over(words, DIFF_WORDS_BYTES);
    text_addf(&text, "%s: ", finding->path);
    switch (finding->kind) {
    case DIFF_ADDED:
        text_addf(&text, "new, %s", finding->second);
        break;
    case DIFF_MISSING:
        text_addf(&text, "missing, was %s", finding->first);
        break;
    case DIFF_ORDER:
        text_addf(&text, "the same items in another order");
        break;
    case DIFF_TYPE:
        text_addf(&text, "of another type: was %s, is %s", finding->first, finding->second);
        break;
    case DIFF_SPELLING:
        text_addf(&text, "an equal number written otherwise: was %s, is %s", finding->first, finding->second);
        break;
    default:
        text_addf(&text, "was %s, is %s", finding->first, finding->second);
    }
    if (finding->class != DIFF_CLASS_NONE)
        text_addf(&text, " (%s)", diff_class_name(finding->class));
    if (finding->count > 1)
        text_addf(&text, "; %" PRIu32 " times", finding->count);
    if (finding->place[0] != '\0')
        text_addf(&text, "%s at item %s", finding->count > 1 ? ", first" : ";", finding->place);
}
