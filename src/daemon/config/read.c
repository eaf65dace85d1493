// SPDX-License-Identifier: Apache-2.0
// Reads nodes into structs by the table: finds words, refuses unknown ones, fills what is omitted, makes room
// for lists. What a single value may look like is in scalar.c, what several owe each other in their section's
// file.
#include "base/check.h"
#include "base/heap.h"
#include "daemon/config/config_private.h"

enum { KNOWN_WORDS_MAX = 64 };

static void *target_at(void *base, size_t offset)
{
    return (char *)base + offset;
}

static void *pointer_load(const void *slot)
{
    void *pointer;
    memcpy(&pointer, slot, sizeof pointer);
    return pointer;
}

const struct config_word *config_section_word(const struct config_section *section, struct slice word)
{
    for (size_t i = 0; i < section->word_count; i++)
        if (slice_equal(slice_of(section->words[i].word), word))
            return &section->words[i];
    return NULL;
}

// "checks.errors of rollout 'checkout-v2'", "'admin'", "the file".
static void write_scope(const struct config_scope *scope, struct text *text)
{
    if (scope->up == NULL) {
        text_add(text, SLICE("the file"));
        return;
    }
    text_add(text, slice_of(scope->section->title));
    if (scope->name != NULL)
        text_addf(text, " '%s'", config_show(slice_of(scope->name)).text);
    if (scope->up->up != NULL) {
        text_add(text, SLICE(" of "));
        write_scope(scope->up, text);
    }
}

static void unknown_word(struct config_reader *reader, const struct config_scope *scope,
                         const struct config_node *key)
{
    char message[CONFIG_MESSAGE_BYTES];
    struct text text = text_over(message, sizeof message);
    const char *known[KNOWN_WORDS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < scope->section->word_count && count < KNOWN_WORDS_MAX; i++)
        if (scope->section->words[i].kind != CONFIG_KIND_LATER)
            known[count++] = scope->section->words[i].word;
    text_addf(&text, "unknown word '%s' in ", config_show(key->text).text);
    write_scope(scope, &text);
    config_hint_known(&text, key->text, known, count);
    config_error_at(reader, key, "%s", message);
}

static void refuse_unknown(struct config_reader *reader, const struct config_scope *scope,
                           const struct config_node *node)
{
    const struct config_entry *entry = node->first;
    for (uint32_t i = 0; i < node->count; i++, entry = entry->next) {
        const struct config_word *word = config_section_word(scope->section, entry->key->text);
        if (word == NULL)
            unknown_word(reader, scope, entry->key);
        else if (word->kind == CONFIG_KIND_LATER)
            config_error_at(reader, entry->key, "%s not in this version yet", word->help);
    }
}

// ---- lists ----

static bool count_is_good(struct config_reader *reader, const struct config_word *word,
                          const struct config_node *node)
{
    if (node->count < word->min) {
        config_error_at(reader, node, "'%s' is empty; it needs at least %u", word->word, (unsigned)word->min);
        return false;
    }
    if (node->count > word->max) {
        config_error_at(reader, node, "'%s' has %u entries; at most %u are possible", word->word, node->count,
                        (unsigned)word->max);
        return false;
    }
    return true;
}

// Room for the elements: in the struct itself, or on the heap, zeroed.
static char *elements_make(struct config_reader *reader, const struct config_word *word, uint32_t count,
                           void *target)
{
    void *slot = target_at(target, word->offset);
    if (word->in_place) {
        memset(slot, 0, word->size * word->max);
    } else if (count > 0) {
        void *elements = heap_alloc(count, word->size);
        if (elements == NULL) {
            reader->no_memory = true;
            return NULL;
        }
        memcpy(slot, &elements, sizeof elements);
    }
    memcpy(target_at(target, word->count_offset), &count, sizeof count);
    return word->in_place ? slot : pointer_load(slot);
}

static void element_name_read(struct config_reader *reader, const struct config_node *key, void *element)
{
    // Every named struct begins with its name.
    static const struct config_word name = {
        .word = "name", .kind = CONFIG_KIND_NAME, .size = CONFIG_NAME_BYTES};
    config_scalar_read(reader, &name, key, element);
}

static void list_read(struct config_reader *reader, const struct config_scope *scope,
                      const struct config_word *word, const struct config_node *node, void *target)
{
    bool map = word->kind == CONFIG_KIND_MAP;
    // A word whose entries are all commented out.
    if (config_node_is_null(node) && word->min == 0)
        return;
    if (config_node_is_null(node) || node->kind != (map ? CONFIG_NODE_MAP : CONFIG_NODE_LIST)) {
        config_error_at(reader, node,
                        map ? "'%s' wants names, each with its words beneath"
                            : "'%s' wants a list, such as [a, b] or lines that begin with '- '",
                        word->word);
        return;
    }
    if (!count_is_good(reader, word, node))
        return;
    char *element = elements_make(reader, word, node->count, target);
    const struct config_entry *entry = node->first;
    for (uint32_t i = 0; i < node->count && element != NULL;
         i++, entry = entry->next, element += word->size) {
        struct config_scope inner = {.up = scope, .section = word->section};
        if (map) {
            inner.name = entry->key->text.data;
            element_name_read(reader, entry->key, element);
        }
        if (word->section != NULL)
            config_section_read(reader, &inner, word->section, entry->value, element);
        else
            config_scalar_read(reader, word->item, entry->value, element);
    }
}

// ---- words ----

static void word_read(struct config_reader *reader, const struct config_scope *scope,
                      const struct config_word *word, const struct config_node *node, void *target)
{
    void *place = target_at(target, word->offset);
    if (word->kind == CONFIG_KIND_LIST || word->kind == CONFIG_KIND_MAP) {
        list_read(reader, scope, word, node, target);
        return;
    }
    if (word->kind == CONFIG_KIND_TREE) {
        config_tree_read(reader, word, node, place);
        return;
    }
    if (word->kind == CONFIG_KIND_SECTION) {
        struct config_scope inner = {.up = scope, .section = word->section};
        config_section_read(reader, &inner, word->section, node, place);
        return;
    }
    config_scalar_read(reader, word, node, place);
}

static void fallback_read(struct config_reader *reader, const struct config_word *word, void *place)
{
    struct config_node node = {.kind = CONFIG_NODE_SCALAR, .plain = true, .text = slice_of(word->fallback)};
    config_scalar_read(reader, word, &node, place);
}

// A mistyped word has been told; that the right one is missing would be told of the same letters.
bool config_is_mistyped(const struct config_section *section, const struct config_node *node,
                        const char *word)
{
    const struct config_entry *entry = node->first;
    for (uint32_t i = 0; node->kind == CONFIG_NODE_MAP && i < node->count; i++, entry = entry->next)
        if (config_section_word(section, entry->key->text) == NULL &&
            config_nearest(entry->key->text, &word, 1) != NULL)
            return true;
    return false;
}

static void word_omitted(struct config_reader *reader, const struct config_scope *scope,
                         const struct config_word *word, const struct config_node *node, void *target)
{
    if (word->kind == CONFIG_KIND_SECTION && !word->optional) {
        struct config_scope inner = {.up = scope, .section = word->section};
        config_section_read(reader, &inner, word->section, NULL, target_at(target, word->offset));
        return;
    }
    bool excused = word->unless != NULL && config_node_get(node, word->unless) != NULL;
    if (word->required && !excused && node != NULL) {
        if (config_is_mistyped(scope->section, node, word->word))
            return;
        char message[CONFIG_MESSAGE_BYTES];
        struct text text = text_over(message, sizeof message);
        write_scope(scope, &text);
        config_error_at(reader, node, "%s lacks the word '%s': %s", message, word->word, word->help);
        return;
    }
    if (word->fallback != NULL && word->kind < CONFIG_KIND_SECTION && !scope->section->prepared)
        fallback_read(reader, word, target_at(target, word->offset));
}

static bool choice_taken(const struct config_section *section, const struct config_node *node, void *target)
{
    if (section->choices == NULL || node->kind != CONFIG_NODE_SCALAR)
        return false;
    for (const struct config_choice *choice = section->choices; choice->word != NULL; choice++) {
        if (!slice_equal(slice_of(choice->word), node->text))
            continue;
        void *place = target_at(target, section->choice_offset);
        if (section->choice_size == sizeof(bool))
            *(bool *)place = choice->value != 0;
        else
            memcpy(place, &choice->value, sizeof choice->value);
        return true;
    }
    return false;
}

static void section_refused(struct config_reader *reader, const struct config_scope *scope,
                            const struct config_node *node)
{
    char message[CONFIG_MESSAGE_BYTES];
    struct text text = text_over(message, sizeof message);
    write_scope(scope, &text);
    text_add(&text, SLICE(" wants words beneath it"));
    for (const struct config_choice *choice = scope->section->choices; choice != NULL && choice->word != NULL;
         choice++)
        text_addf(&text, ", or '%s'", choice->word);
    if (node->kind == CONFIG_NODE_SCALAR)
        text_addf(&text, ", not '%s'", config_show(node->text).text);
    else
        text_add(&text, SLICE(", not a list"));
    text_addf(&text, "; known: %s", scope->section->words[0].word);
    for (size_t i = 1; i < scope->section->word_count; i++)
        if (scope->section->words[i].kind != CONFIG_KIND_LATER)
            text_addf(&text, ", %s", scope->section->words[i].word);
    config_error_at(reader, node, "%s", message);
}

void config_section_read(struct config_reader *reader, const struct config_scope *scope,
                         const struct config_section *section, const struct config_node *node, void *target)
{
    const struct config_node *bare = NULL; // the value that stands for the word `shorthand`
    if (section->prepare != NULL)
        section->prepare(reader, target);
    bool map = node != NULL && node->kind == CONFIG_NODE_MAP;
    if (map)
        refuse_unknown(reader, scope, node);
    else if (node != NULL && !config_node_is_null(node) && !choice_taken(section, node, target)) {
        if (section->shorthand == NULL) {
            section_refused(reader, scope, node);
            return;
        }
        bare = node;
    }
    for (size_t i = 0; i < section->word_count && !reader->no_memory; i++) {
        const struct config_word *word = &section->words[i];
        const struct config_node *value = config_node_get(node, word->word);
        if (bare != NULL && strcmp(word->word, section->shorthand) == 0)
            value = bare;
        if (word->kind == CONFIG_KIND_LATER)
            continue;
        if (value != NULL)
            word_read(reader, scope, word, value, target);
        else
            word_omitted(reader, scope, word, node, target);
    }
    if (section->finish != NULL && !reader->no_memory)
        section->finish(reader, node, target);
}

void config_section_fallbacks(struct config_reader *reader, const struct config_section *section,
                              void *target)
{
    for (size_t i = 0; i < section->word_count; i++) {
        const struct config_word *word = &section->words[i];
        if (word->kind == CONFIG_KIND_SECTION)
            config_section_fallbacks(reader, word->section, target_at(target, word->offset));
        else if (word->fallback != NULL && word->kind < CONFIG_KIND_SECTION)
            fallback_read(reader, word, target_at(target, word->offset));
    }
}

// ---- freeing ----

const char *config_elements(const struct config_word *word, const void *target, uint32_t *count)
{
    const char *slot = (const char *)target + word->offset;
    memcpy(count, (const char *)target + word->count_offset, sizeof *count);
    return word->in_place ? slot : pointer_load(slot);
}

static void list_free(const struct config_word *word, void *target)
{
    uint32_t count;
    char *elements = (char *)(uintptr_t)config_elements(word, target, &count);
    for (uint32_t i = 0; i < count && elements != NULL && word->section != NULL; i++)
        config_section_free(word->section, elements + i * word->size);
    if (!word->in_place)
        heap_free(elements);
}

void config_section_free(const struct config_section *section, void *target)
{
    for (size_t i = 0; i < section->word_count; i++) {
        const struct config_word *word = &section->words[i];
        if (word->kind == CONFIG_KIND_LIST || word->kind == CONFIG_KIND_MAP)
            list_free(word, target);
        else if (word->kind == CONFIG_KIND_TREE)
            heap_free(pointer_load(target_at(target, word->offset)));
        else if (word->kind == CONFIG_KIND_SECTION)
            config_section_free(word->section, target_at(target, word->offset));
    }
}
