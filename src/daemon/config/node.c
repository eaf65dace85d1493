// SPDX-License-Identifier: Apache-2.0
// YAML text to nodes, by libyaml's events. Everything is bounded: depth, children, and nodes counted with
// aliases expanded, so that a small file cannot become a large tree. Tags, merge keys and second documents
// are refused.
#include <yaml.h>

#include "base/check.h"
#include "base/utf8.h"
#include "daemon/config/config_private.h"

struct anchor {
    struct anchor *next;
    const char *name;
    struct config_node *node;
};

struct builder {
    struct config_reader *reader;
    yaml_parser_t *parser;
    struct anchor *anchors; // newest first
    uint16_t file;
};

bool config_node_is_null(const struct config_node *node)
{
    if (node->kind != CONFIG_NODE_SCALAR || !node->plain)
        return false;
    return node->text.len == 0 || slice_equal(node->text, SLICE("~")) ||
           slice_equal(node->text, SLICE("null"));
}

struct config_entry *config_node_find(const struct config_node *node, const char *word)
{
    if (node == NULL || node->kind != CONFIG_NODE_MAP)
        return NULL;
    struct slice wanted = slice_of(word);
    struct config_entry *entry = node->first;
    for (uint32_t i = 0; i < node->count; i++, entry = entry->next)
        if (slice_equal(entry->key->text, wanted))
            return entry;
    return NULL;
}

const struct config_node *config_node_get(const struct config_node *node, const char *word)
{
    struct config_entry *entry = config_node_find(node, word);
    return entry == NULL ? NULL : entry->value;
}

bool config_given(const struct config_node *node, const char *word)
{
    return config_node_get(node, word) != NULL;
}

const struct config_node *config_place(const struct config_node *node, const char *word)
{
    const struct config_node *value = config_node_get(node, word);
    return value != NULL ? value : node;
}

bool config_node_append(struct config_reader *reader, struct config_node *node, struct config_node *key,
                        struct config_node *value)
{
    struct config_entry *entry = config_arena_alloc(&reader->arena, sizeof *entry);
    if (entry == NULL) {
        reader->no_memory = true;
        return false;
    }
    entry->key = key;
    entry->value = value;
    if (node->last != NULL)
        node->last->next = entry;
    if (node->first == NULL)
        node->first = entry;
    node->last = entry;
    node->count++;
    if (node->height <= value->height)
        node->height = value->height + 1;
    return true;
}

// ---- characters ----

static bool is_control(const unsigned char *at, size_t bytes)
{
    if (bytes == 1)
        return (at[0] < 0x20 && at[0] != '\t' && at[0] != '\n' && at[0] != '\r') || at[0] == 0x7f;
    // C1 controls, and the line breaks that only some readers know.
    return (bytes == 2 && at[0] == 0xc2 && at[1] < 0xa0) ||
           (bytes == 3 && at[0] == 0xe2 && at[1] == 0x80 && (at[2] == 0xa8 || at[2] == 0xa9));
}

// Says where the first character is that no configuration file has.
static bool characters_are_good(struct config_reader *reader, uint16_t file, struct slice text)
{
    const unsigned char *bytes = (const unsigned char *)text.data;
    uint32_t line = 1, column = 1;
    for (size_t i = 0; i < text.len;) {
        size_t length = utf8_length((struct slice){text.data + i, text.len - i});
        if (length == 0) {
            config_error_mark(reader, file, line, column,
                              "byte 0x%02x is not valid UTF-8; save the file as UTF-8", bytes[i]);
            return false;
        }
        if (is_control(bytes + i, length)) {
            config_error_mark(reader, file, line, column,
                              "a control character (byte 0x%02x) has no place here", bytes[i]);
            return false;
        }
        column = bytes[i] == '\n' ? 1 : column + 1;
        line += bytes[i] == '\n';
        i += length;
    }
    return true;
}

// ---- building ----

static enum status no_memory(struct builder *builder)
{
    builder->reader->no_memory = true;
    return STATUS_NO_MEMORY;
}

static enum status refuse(struct builder *builder, yaml_mark_t mark, const char *message)
{
    config_error_mark(builder->reader, builder->file, (uint32_t)mark.line + 1, (uint32_t)mark.column + 1,
                      "%s", message);
    return STATUS_INVALID;
}

static bool tab_stands_at(const struct builder *builder, yaml_mark_t mark)
{
    struct slice text = builder->reader->sources.items[builder->file].text;
    const char *at = text.data;
    const char *end = text.data + text.len;
    for (size_t line = 0; line < mark.line && at != NULL; line++) {
        at = memchr(at, '\n', (size_t)(end - at));
        at = at == NULL ? NULL : at + 1;
    }
    for (; at != NULL && at < end && *at != '\n'; at++) {
        if (*at == '\t')
            return true;
        if (*at != ' ')
            return false;
    }
    return false;
}

// Our words for the parser's commonest complaints; its own for the rest.
static const char *parser_words(const char *problem)
{
    static const struct {
        const char *theirs;
        const char *ours;
    } words[] = {
        {"mapping values are not allowed in this context",
         "a ':' does not fit here; is the line above cut short, or a text with ': ' not in quotes?"},
        {"did not find expected key",
         "a word does not stand under its neighbours; words of one section begin in the same column"},
        {"could not find expected ':'", "a ':' is missing after this word"},
        {"did not find expected ',' or ']'", "this list is not closed: a ',' or ']' was expected"},
        {"did not find expected ',' or '}'", "this mapping is not closed: a ',' or '}' was expected"},
        {"did not find expected '-' indicator",
         "an item of this list does not begin with '- ' in its column"},
        {"found unexpected end of stream", "the file ends inside quotes"},
        {"found character that cannot start any token",
         "this character cannot begin a value; put it in quotes"},
        {"found undefined tag handle", "tags (!name) are not used here"},
        {"block sequence entries are not allowed in this context",
         "a list cannot begin in the same line as its word"},
    };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (problem != NULL && strcmp(problem, words[i].theirs) == 0)
            return words[i].ours;
    return problem == NULL ? "this is not YAML" : problem;
}

static enum status parser_failed(struct builder *builder)
{
    const yaml_parser_t *parser = builder->parser;
    if (parser->error == YAML_MEMORY_ERROR)
        return no_memory(builder);
    yaml_mark_t mark = parser->problem_mark;
    if (parser->error == YAML_SCANNER_ERROR && tab_stands_at(builder, mark))
        return refuse(builder, mark,
                      "a tab stands before this line's text; YAML is indented with spaces only");
    return refuse(builder, mark, parser_words(parser->problem));
}

static enum status next_event(struct builder *builder, yaml_event_t *event)
{
    if (yaml_parser_parse(builder->parser, event) == 0)
        return parser_failed(builder);
    return STATUS_OK;
}

static enum status node_create(struct builder *builder, const yaml_event_t *event, struct config_node **node)
{
    if (++builder->reader->nodes > CONFIG_NODES_MAX)
        return refuse(builder, event->start_mark, "the configuration holds too many values");
    struct config_node *fresh = config_arena_alloc(&builder->reader->arena, sizeof *fresh);
    if (fresh == NULL)
        return no_memory(builder);
    fresh->file = builder->file;
    fresh->line = (uint32_t)event->start_mark.line + 1;
    fresh->column = (uint32_t)event->start_mark.column + 1;
    *node = fresh;
    return STATUS_OK;
}

static char *arena_copy(struct builder *builder, const char *text, size_t len)
{
    char *copy = config_arena_alloc(&builder->reader->arena, len + 1);
    if (copy == NULL)
        builder->reader->no_memory = true;
    else
        memcpy(copy, text, len);
    return copy;
}

static enum status anchor_keep(struct builder *builder, const yaml_char_t *name, struct config_node *node)
{
    if (name == NULL)
        return STATUS_OK;
    struct anchor *anchor = config_arena_alloc(&builder->reader->arena, sizeof *anchor);
    const char *text = (const char *)name;
    if (anchor == NULL || (anchor->name = arena_copy(builder, text, strlen(text))) == NULL)
        return no_memory(builder);
    anchor->node = node;
    anchor->next = builder->anchors;
    builder->anchors = anchor;
    return STATUS_OK;
}

static enum status alias_follow(struct builder *builder, const yaml_event_t *event, uint32_t depth,
                                struct config_node **node)
{
    const struct anchor *anchor = builder->anchors;
    while (anchor != NULL && strcmp(anchor->name, (const char *)event->data.alias.anchor) != 0)
        anchor = anchor->next;
    if (anchor == NULL)
        return refuse(builder, event->start_mark, "no anchor (&name) of this name stands before this alias");
    if (anchor->node->weight == 0)
        return refuse(builder, event->start_mark, "this alias stands inside what it refers to");
    if (depth + anchor->node->height > CONFIG_DEPTH_MAX)
        return refuse(builder, event->start_mark, "this is nested too deeply");
    builder->reader->nodes += anchor->node->weight;
    if (builder->reader->nodes > CONFIG_NODES_MAX)
        return refuse(builder, event->start_mark, "the aliases up to here stand for too many values");
    *node = anchor->node;
    return STATUS_OK;
}

static enum status scalar_build(struct builder *builder, const yaml_event_t *event, struct config_node **node)
{
    struct config_node *fresh;
    enum status status = node_create(builder, event, &fresh);
    if (status != STATUS_OK)
        return status;
    const char *value = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    if (memchr(value, '\0', len) != NULL)
        return refuse(builder, event->start_mark, "a NUL character has no place here");
    fresh->kind = CONFIG_NODE_SCALAR;
    fresh->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    fresh->weight = 1;
    fresh->text = (struct slice){arena_copy(builder, value, len), len};
    if (fresh->text.data == NULL)
        return STATUS_NO_MEMORY;
    *node = fresh;
    return anchor_keep(builder, event->data.scalar.anchor, fresh);
}

static enum status node_build(struct builder *builder, const yaml_event_t *event, uint32_t depth,
                              struct config_node **node);

// The node that begins with the next event; *node stays NULL at the end of the collection.
static enum status child_build(struct builder *builder, uint32_t depth, struct config_node **node)
{
    DEFER(yaml_event_delete) yaml_event_t event = {0};
    enum status status = next_event(builder, &event);
    if (status != STATUS_OK)
        return status;
    if (event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT)
        return STATUS_OK;
    return node_build(builder, &event, depth, node);
}

// A key must be one new word. Refused ones are reported and their value is dropped by the caller.
static bool key_is_good(struct builder *builder, const struct config_node *map, const struct config_node *key)
{
    struct config_reader *reader = builder->reader;
    if (key->kind != CONFIG_NODE_SCALAR) {
        config_error_at(reader, key, "a word was expected here, not a %s",
                        key->kind == CONFIG_NODE_LIST ? "list" : "mapping");
        return false;
    }
    if (key->plain && slice_equal(key->text, SLICE("<<"))) {
        config_error_at(reader, key,
                        "merge keys (<<) are not used here; write the words out, or use an alias (*name)");
        return false;
    }
    const struct config_entry *earlier = config_node_find(map, key->text.data);
    if (earlier == NULL)
        return true;
    config_error_at(reader, key, "'%s' is given twice here; it is first given in line %u",
                    config_show(key->text).text, earlier->key->line);
    return false;
}

static enum status collection_fill(struct builder *builder, uint32_t depth, struct config_node *node)
{
    for (;;) {
        struct config_node *key = NULL, *value = NULL;
        enum status status = child_build(builder, depth, node->kind == CONFIG_NODE_MAP ? &key : &value);
        if (status != STATUS_OK || (key == NULL && value == NULL))
            return status;
        if (key != NULL && (status = child_build(builder, depth, &value)) != STATUS_OK)
            return status;
        if (key != NULL && !key_is_good(builder, node, key))
            continue;
        if (node->count == CONFIG_CHILDREN_MAX) {
            config_error_at(builder->reader, key != NULL ? key : value, "more than %d entries in one place",
                            CONFIG_CHILDREN_MAX);
            return STATUS_INVALID;
        }
        if (!config_node_append(builder->reader, node, key, value))
            return STATUS_NO_MEMORY;
    }
}

static uint32_t collection_weight(const struct config_node *node)
{
    uint32_t weight = 1;
    const struct config_entry *entry = node->first;
    for (uint32_t i = 0; i < node->count; i++, entry = entry->next)
        weight += entry->value->weight + (entry->key != NULL ? 1 : 0);
    return weight;
}

static enum status collection_build(struct builder *builder, const yaml_event_t *event, uint32_t depth,
                                    struct config_node **node)
{
    if (depth == CONFIG_DEPTH_MAX)
        return refuse(builder, event->start_mark, "this is nested too deeply");
    struct config_node *fresh;
    enum status status = node_create(builder, event, &fresh);
    if (status != STATUS_OK)
        return status;
    bool list = event->type == YAML_SEQUENCE_START_EVENT;
    fresh->kind = list ? CONFIG_NODE_LIST : CONFIG_NODE_MAP;
    status = anchor_keep(builder, list ? event->data.sequence_start.anchor : event->data.mapping_start.anchor,
                         fresh);
    if (status == STATUS_OK)
        status = collection_fill(builder, depth + 1, fresh);
    if (status != STATUS_OK)
        return status;
    fresh->weight = collection_weight(fresh);
    *node = fresh;
    return STATUS_OK;
}

static const yaml_char_t *event_tag(const yaml_event_t *event)
{
    if (event->type == YAML_SCALAR_EVENT)
        return event->data.scalar.tag;
    return event->type == YAML_SEQUENCE_START_EVENT ? event->data.sequence_start.tag
                                                    : event->data.mapping_start.tag;
}

static enum status node_build(struct builder *builder, const yaml_event_t *event, uint32_t depth,
                              struct config_node **node)
{
    if (event->type == YAML_ALIAS_EVENT)
        return alias_follow(builder, event, depth, node);
    if (event_tag(event) != NULL)
        return refuse(builder, event->start_mark, "tags (!name) are not used here");
    if (event->type == YAML_SCALAR_EVENT)
        return scalar_build(builder, event, node);
    return collection_build(builder, event, depth, node);
}

// Stream start, document start, one node, document end, stream end; an empty stream has no document.
static enum status document_build(struct builder *builder, struct config_node **root)
{
    bool open = false;
    for (;;) {
        DEFER(yaml_event_delete) yaml_event_t event = {0};
        enum status status = next_event(builder, &event);
        if (status != STATUS_OK || event.type == YAML_STREAM_END_EVENT)
            return status;
        if (event.type == YAML_STREAM_START_EVENT || event.type == YAML_DOCUMENT_END_EVENT)
            continue;
        if (event.type == YAML_DOCUMENT_START_EVENT) {
            if (open)
                return refuse(builder, event.start_mark,
                              "a second document begins here; one file holds one document");
            open = true;
            continue;
        }
        status = node_build(builder, &event, 0, root);
        if (status != STATUS_OK)
            return status;
    }
}

enum status config_nodes_parse(struct config_reader *reader, uint16_t file, struct config_node **root)
{
    struct slice text = reader->sources.items[file].text;
    if (slice_starts_with(text, SLICE("\xef\xbb\xbf"))) {
        text.data += 3;
        text.len -= 3;
    }
    if (!characters_are_good(reader, file, text))
        return STATUS_INVALID;
    yaml_parser_t parser;
    if (yaml_parser_initialize(&parser) == 0) {
        reader->no_memory = true;
        return STATUS_NO_MEMORY;
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.data, text.len);
    struct builder builder = {.reader = reader, .parser = &parser, .file = file};
    struct config_node *built = NULL;
    enum status status = document_build(&builder, &built);
    yaml_parser_delete(&parser);
    if (status != STATUS_OK)
        return status;
    bool empty = built == NULL || (built->kind == CONFIG_NODE_SCALAR && config_node_is_null(built));
    *root = empty ? NULL : built;
    return STATUS_OK;
}
