// SPDX-License-Identifier: Apache-2.0
// Which changed words wait for a restart: two loads are compared by the tables of words.
#include "base/check.h"
#include "daemon/config/config_private.h"

// What goes through one comparison.
struct telling {
    void (*tell)(void *context, const char *word);
    void *context;
};

static bool sections_equal(const struct config_section *section, const char *a, const char *b);

// Addresses and networks begin with their text.
static bool is_text(enum config_kind kind)
{
    return kind <= CONFIG_KIND_PATH || (kind >= CONFIG_KIND_LISTEN && kind <= CONFIG_KIND_NETWORK);
}

static bool trees_equal(const char *a, const char *b)
{
    const char *x, *y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x == NULL || y == NULL ? x == y : strcmp(x, y) == 0;
}

// What is not given is all zero, and nothing else is.
static bool is_filled(const char *value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (value[i] != 0)
            return true;
    return false;
}

static bool values_equal(const struct config_word *word, const char *a, const char *b)
{
    if (word->kind == CONFIG_KIND_SECTION)
        return (!word->optional || is_filled(a, word->size) == is_filled(b, word->size)) &&
               sections_equal(word->section, a, b);
    if (word->kind == CONFIG_KIND_TREE)
        return trees_equal(a, b);
    return is_text(word->kind) ? strcmp(a, b) == 0 : memcmp(a, b, word->size) == 0;
}

static bool lists_equal(const struct config_word *word, const char *a, const char *b)
{
    uint32_t count, other;
    a = config_elements(word, a, &count);
    b = config_elements(word, b, &other);
    bool equal = count == other;
    for (uint32_t i = 0; i < count && equal; i++, a += word->size, b += word->size) {
        equal = word->section != NULL ? sections_equal(word->section, a, b) : values_equal(word->item, a, b);
        // Every named struct begins with its name.
        equal = equal && (word->kind != CONFIG_KIND_MAP || strcmp(a, b) == 0);
    }
    return equal;
}

// a and b are the structs that hold the word's value.
static bool words_equal(const struct config_word *word, const char *a, const char *b)
{
    if (word->kind == CONFIG_KIND_LATER || word->live)
        return true;
    if (word->kind == CONFIG_KIND_LIST || word->kind == CONFIG_KIND_MAP)
        return lists_equal(word, a, b);
    return values_equal(word, a + word->offset, b + word->offset);
}

static bool sections_equal(const struct config_section *section, const char *a, const char *b)
{
    bool equal = memcmp(a + section->choice_offset, b + section->choice_offset, section->choice_size) == 0;
    for (size_t i = 0; i < section->word_count && equal; i++)
        equal = words_equal(&section->words[i], a, b);
    return equal;
}

static bool is_on(const struct config_word *word, const char *target)
{
    return is_filled(target + word->offset, word->size);
}

static bool must_restart(const struct config_word *word, const char *was, const char *now)
{
    switch (word->restart) {
    case CONFIG_RESTART_CHANGED:
    case CONFIG_RESTART_WITH_LAST:
        return !words_equal(word, was, now);
    case CONFIG_RESTART_ON_OFF:
        return is_on(word, was) != is_on(word, now);
    case CONFIG_RESTART_REMOVED:
        return is_on(word, was) && !is_on(word, now);
    case CONFIG_RESTART_NO:
        break;
    }
    return false;
}

static void section_compare(const struct config_section *section, const char *above, const char *was,
                            const char *now, const struct telling *telling)
{
    for (size_t i = 0; i < section->word_count; i++) {
        const struct config_word *word = &section->words[i];
        char path[CONFIG_MESSAGE_BYTES];
        struct text text = text_over(path, sizeof path);
        text_addf(&text, "%s%s", above, word->word);
        bool must = must_restart(word, was, now);
        while (i + 1 < section->word_count && section->words[i + 1].restart == CONFIG_RESTART_WITH_LAST)
            must |= must_restart(&section->words[++i], was, now);
        if (must)
            telling->tell(telling->context, path);
        text_add_char(&text, '.');
        if (word->kind == CONFIG_KIND_SECTION)
            section_compare(word->section, path, was + word->offset, now + word->offset, telling);
    }
}

void config_restarts(const struct config *was, const struct config *now,
                     void (*tell)(void *context, const char *word), void *context)
{
    const struct telling telling = {tell, context};
    section_compare(&config_root_section, "", (const char *)was, (const char *)now, &telling);
}
