// SPDX-License-Identifier: Apache-2.0
// Evaluation contexts: a tree in the form the evaluator reads, in chunks of memory from the caller or the
// heap. A chunk never moves, so nodes may point at each other.
#include <math.h>
#include <stdalign.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/utf8.h"
#include "flags/library/library_private.h"

enum { CHUNK_BYTES = 4096, CHUNK_ALIGN = 8 };

struct library_chunk {
    struct library_chunk *next;
    size_t used;
    size_t cap;
    alignas(CHUNK_ALIGN) char bytes[];
};

struct sluice_flags_context *sluice_flags_context_init(void *storage, size_t size)
{
    uintptr_t at = ((uintptr_t)storage + CHUNK_ALIGN - 1) & ~(uintptr_t)(CHUNK_ALIGN - 1);
    size_t needed =
        at - (uintptr_t)storage + sizeof(struct sluice_flags_context) + sizeof(struct library_chunk);
    if (storage == NULL || size < needed)
        return NULL;
    struct sluice_flags_context *context = (struct sluice_flags_context *)at;
    struct library_chunk *chunk = (struct library_chunk *)(context + 1);
    *context = (struct sluice_flags_context){.first = chunk};
    chunk->next = NULL;
    chunk->cap = size - needed;
    sluice_flags_context_clear(context);
    return context;
}

struct sluice_flags_context *sluice_flags_context_create(void)
{
    void *block = heap_alloc(1, CHUNK_BYTES);
    if (block == NULL)
        return NULL;
    struct sluice_flags_context *context = sluice_flags_context_init(block, CHUNK_BYTES);
    CHECK((void *)context == block);
    context->on_heap = true;
    return context;
}

void sluice_flags_context_destroy(struct sluice_flags_context *context)
{
    if (context == NULL || !context->on_heap)
        return;
    struct library_chunk *chunk = context->first->next; // the first chunk is part of the context's own block
    while (chunk != NULL) {
        struct library_chunk *next = chunk->next;
        heap_free(chunk);
        chunk = next;
    }
    heap_free(context);
}

void sluice_flags_context_clear(struct sluice_flags_context *context)
{
    context->tree = (struct flags_json){.kind = FLAGS_JSON_OBJECT};
    context->last = NULL;
    context->has_key = false;
    context->broken = false;
    context->chunk = context->first;
    context->chunk->used = 0;
}

static struct library_chunk *grow(struct sluice_flags_context *context, size_t size)
{
    struct library_chunk *chunk = context->chunk->next;
    size_t cap = size > CHUNK_BYTES ? size : CHUNK_BYTES;
    if (chunk != NULL && chunk->cap >= size) {
        chunk->used = 0;
        return chunk;
    }
    if (!context->on_heap || size > SIZE_MAX / 2 || (chunk = heap_alloc(1, sizeof *chunk + cap)) == NULL)
        return NULL;
    chunk->cap = cap;
    chunk->next = context->chunk->next;
    context->chunk->next = chunk;
    return chunk;
}

static void *take(struct sluice_flags_context *context, size_t size)
{
    size = (size + CHUNK_ALIGN - 1) & ~(size_t)(CHUNK_ALIGN - 1);
    if (size > context->chunk->cap - context->chunk->used) {
        struct library_chunk *chunk = grow(context, size);
        if (chunk == NULL)
            return NULL;
        context->chunk = chunk;
    }
    void *block = context->chunk->bytes + context->chunk->used;
    context->chunk->used += size;
    return block;
}

static bool copy(struct sluice_flags_context *context, struct slice text, struct slice *out)
{
    char *block = take(context, text.len + 1);
    if (block == NULL)
        return false;
    if (text.len > 0)
        memcpy(block, text.data, text.len);
    *out = (struct slice){block, text.len};
    return true;
}

static bool is_text(const char *text)
{
    return text != NULL && utf8_valid(slice_of(text));
}

// The node of that name, or a new one not yet in the tree.
static struct flags_json *node_for(struct sluice_flags_context *context, const char *name)
{
    struct slice key = slice_of(name);
    for (struct flags_json *node = context->tree.first; node != NULL; node = node->next)
        if (slice_equal(node->key, key))
            return node;
    if (context->tree.count == SLUICE_FLAGS_CONTEXT_ATTRIBUTES_MAX)
        return NULL;
    struct flags_json *node = take(context, sizeof *node);
    if (node == NULL)
        return NULL;
    *node = (struct flags_json){0};
    return copy(context, key, &node->key) ? node : NULL;
}

// Sets all of it or nothing. A failed attempt gives back what it took, and the context remembers that it is
// incomplete.
static bool put(struct sluice_flags_context *context, const char *name, const struct flags_json *value,
                struct library_mark mark)
{
    struct flags_json *node = value != NULL && is_text(name) ? node_for(context, name) : NULL;
    if (node == NULL) {
        context->chunk = mark.chunk;
        context->chunk->used = mark.used;
        context->broken = true;
        return false;
    }
    bool fresh = node != context->last && node->next == NULL;
    struct slice key = node->key;
    struct flags_json *next = node->next;
    *node = *value;
    node->key = key;
    node->next = next;
    if (!fresh)
        return true;
    if (context->last == NULL)
        context->tree.first = node;
    else
        context->last->next = node;
    context->last = node;
    context->tree.count++;
    return true;
}

static struct library_mark mark_of(const struct sluice_flags_context *context)
{
    return (struct library_mark){context->chunk, context->chunk->used};
}

bool sluice_flags_context_set_targeting_key(struct sluice_flags_context *context, const char *key)
{
    struct library_mark mark = mark_of(context);
    if (!is_text(key) || !copy(context, slice_of(key), &context->key))
        return put(context, NULL, NULL, mark);
    context->has_key = true;
    return true;
}

bool sluice_flags_context_set_string(struct sluice_flags_context *context, const char *name,
                                     const char *value)
{
    struct library_mark mark = mark_of(context);
    struct flags_json node = {.kind = FLAGS_JSON_STRING};
    bool good = is_text(value) && copy(context, slice_of(value), &node.text);
    return put(context, name, good ? &node : NULL, mark);
}

bool sluice_flags_context_set_number(struct sluice_flags_context *context, const char *name, double value)
{
    struct library_mark mark = mark_of(context);
    struct flags_json node = {.kind = FLAGS_JSON_NUMBER, .number = value, .integral = value == trunc(value)};
    return put(context, name, isfinite(value) ? &node : NULL, mark);
}

bool sluice_flags_context_set_boolean(struct sluice_flags_context *context, const char *name, bool value)
{
    struct flags_json node = {.kind = value ? FLAGS_JSON_TRUE : FLAGS_JSON_FALSE};
    return put(context, name, &node, mark_of(context));
}

// Every value of a document is the first or follows a comma or an opening bracket. Half as many nodes again
// are what the reader needs to find repeated names.
static size_t node_bound(struct slice json)
{
    size_t count = 1;
    for (size_t i = 0; i < json.len; i++)
        count += json.data[i] == ',' || json.data[i] == '[' || json.data[i] == '{';
    return count + count / 2 + 1;
}

static struct flags_json *parse(struct sluice_flags_context *context, struct slice json)
{
    struct flags_json *root;
    struct flags_json_error fault;
    struct slice own;
    size_t nodes = node_bound(json);
    if (nodes > UINT32_MAX || !copy(context, json, &own))
        return NULL;
    struct flags_json_space space = {
        .nodes = take(context, nodes * sizeof(struct flags_json)),
        .node_cap = (uint32_t)nodes,
        .chars = take(context, json.len + 1),
        .char_cap = json.len + 1,
        .last_wins = true,
    };
    if (space.nodes == NULL || space.chars == NULL)
        return NULL;
    return flags_json_parse(own, &space, &root, &fault) == STATUS_OK ? root : NULL;
}

bool sluice_flags_context_set_json(struct sluice_flags_context *context, const char *name, const char *json)
{
    struct library_mark mark = mark_of(context);
    return put(context, name, json != NULL ? parse(context, slice_of(json)) : NULL, mark);
}
