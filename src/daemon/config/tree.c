// SPDX-License-Identifier: Apache-2.0
// A part of the file that is not ours to understand, as JSON text: flag definitions and segment rules. Every
// value stands in the text at the line and column where it stood in the file, so that whoever reads the JSON
// names places that the user finds.
#include <stdlib.h>
#include <string.h>

#include "base/heap.h"
#include "base/json_out.h"
#include "daemon/config/config_private.h"

enum { TREE_BYTES_MAX = 32 * 1024 * 1024, TREE_NUMBER_BYTES = 64 };

// Counts always, writes while there is room.
struct tree_writer {
    char *out;
    size_t cap, len;
    uint32_t line, column;
};

static void put(struct tree_writer *writer, char c)
{
    if (writer->len < writer->cap)
        writer->out[writer->len] = c;
    writer->len++;
    writer->column++;
    if (c == '\n') {
        writer->line++;
        writer->column = 1;
    }
}

static void put_all(struct tree_writer *writer, struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        put(writer, text.data[i]);
}

// What an alias stands for comes from further up and is written where it is used.
static void place(struct tree_writer *writer, const struct config_node *node)
{
    while (writer->line < node->line)
        put(writer, '\n');
    while (writer->line == node->line && writer->column < node->column)
        put(writer, ' ');
}

static void put_string(struct tree_writer *writer, struct slice text)
{
    char storage[JSON_ESCAPE_BYTES];
    struct slice piece;
    put(writer, '"');
    while (json_piece(&text, false, storage, &piece))
        put_all(writer, piece);
    put(writer, '"');
}

static struct slice take_digits(struct slice text)
{
    while (text.len > 0 && text.data[0] >= '0' && text.data[0] <= '9')
        text = (struct slice){text.data + 1, text.len - 1};
    return text;
}

// RFC 8259 section 6.
static bool is_json_number(struct slice text)
{
    if (text.len > 0 && text.data[0] == '-')
        text = (struct slice){text.data + 1, text.len - 1};
    struct slice rest = take_digits(text);
    if (rest.len == text.len || (text.data[0] == '0' && text.len - rest.len > 1))
        return false;
    if (rest.len > 0 && rest.data[0] == '.') {
        struct slice after = take_digits((struct slice){rest.data + 1, rest.len - 1});
        if (after.len == rest.len - 1)
            return false;
        rest = after;
    }
    if (rest.len > 0 && (rest.data[0] == 'e' || rest.data[0] == 'E')) {
        rest = (struct slice){rest.data + 1, rest.len - 1};
        if (rest.len > 0 && (rest.data[0] == '+' || rest.data[0] == '-'))
            rest = (struct slice){rest.data + 1, rest.len - 1};
        struct slice after = take_digits(rest);
        return after.len == 0 && rest.len > 0;
    }
    return rest.len == 0;
}

// YAML also writes +1, .5 and 0x1f. True and the number as JSON has it.
static bool other_number(struct slice text, char out[TREE_NUMBER_BYTES], struct text *written)
{
    if (text.len == 0 || text.len >= TREE_NUMBER_BYTES || strchr("+-.0123456789", text.data[0]) == NULL)
        return false;
    char *end;
    double number = strtod(text.data, &end);
    if (end != text.data + text.len || !(number - number == 0.0))
        return false;
    *written = text_over(out, TREE_NUMBER_BYTES);
    text_addf(written, "%.17g", number);
    return true;
}

static void put_scalar(struct tree_writer *writer, const struct config_node *node)
{
    char number[TREE_NUMBER_BYTES];
    struct text written;
    if (config_node_is_null(node))
        put_all(writer, SLICE("null"));
    else if (!node->plain)
        put_string(writer, node->text);
    else if (slice_equal(node->text, SLICE("true")) || slice_equal(node->text, SLICE("false")) ||
             is_json_number(node->text))
        put_all(writer, node->text);
    else if (other_number(node->text, number, &written))
        put_all(writer, (struct slice){written.data, written.len});
    else
        put_string(writer, node->text);
}

// Depth is bounded by the reader of nodes (CONFIG_DEPTH_MAX).
static void put_node(struct tree_writer *writer, const struct config_node *node)
{
    place(writer, node);
    if (node->kind == CONFIG_NODE_SCALAR) {
        put_scalar(writer, node);
        return;
    }
    bool map = node->kind == CONFIG_NODE_MAP;
    put(writer, map ? '{' : '[');
    const struct config_entry *entry = node->first;
    for (uint32_t i = 0; i < node->count; i++, entry = entry->next) {
        if (i > 0)
            put(writer, ',');
        if (map) {
            place(writer, entry->key);
            put_string(writer, entry->key->text);
            put(writer, ':');
        }
        put_node(writer, entry->value);
    }
    put(writer, map ? '}' : ']');
}

void config_tree_read(struct config_reader *reader, const struct config_word *word,
                      const struct config_node *node, void *target)
{
    if (config_node_is_null(node))
        return;
    if (node->kind != CONFIG_NODE_MAP) {
        config_error_at(reader, node, "'%s' wants names, each with its words beneath", word->word);
        return;
    }
    struct tree_writer writer = {.line = 1, .column = 1};
    put_node(&writer, node);
    if (writer.len > TREE_BYTES_MAX) {
        config_error_at(reader, node, "'%s' is larger than %d MiB with its aliases written out", word->word,
                        TREE_BYTES_MAX >> 20);
        return;
    }
    char *text = heap_alloc(writer.len + 1, 1);
    if (text == NULL) {
        reader->no_memory = true;
        return;
    }
    writer = (struct tree_writer){.out = text, .cap = writer.len, .line = 1, .column = 1};
    put_node(&writer, node);
    memcpy(target, &text, sizeof text);
}
