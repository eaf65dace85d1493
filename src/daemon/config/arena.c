// SPDX-License-Identifier: Apache-2.0
// The memory of one load: blocks that are freed together.
#include <stdalign.h>
#include <stddef.h>

#include "base/heap.h"
#include "daemon/config/config_private.h"

enum { ARENA_BLOCK_BYTES = 64 * 1024 };

struct config_arena_block {
    struct config_arena_block *next;
    size_t cap;
    alignas(max_align_t) unsigned char data[];
};

static bool arena_grow(struct config_arena *arena, size_t size)
{
    size_t cap = size > ARENA_BLOCK_BYTES ? size : ARENA_BLOCK_BYTES;
    struct config_arena_block *block = heap_alloc(1, sizeof *block + cap);
    if (block == NULL)
        return false;
    block->next = arena->blocks;
    block->cap = cap;
    arena->blocks = block;
    arena->used = 0;
    return true;
}

void *config_arena_alloc(struct config_arena *arena, size_t size)
{
    size_t rounded = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    bool fits = arena->blocks != NULL && rounded <= arena->blocks->cap - arena->used;
    if (!fits && !arena_grow(arena, rounded))
        return NULL;
    void *piece = arena->blocks->data + arena->used;
    arena->used += rounded;
    return piece;
}

void config_arena_free(struct config_arena *arena)
{
    while (arena->blocks != NULL) {
        struct config_arena_block *next = arena->blocks->next;
        heap_free(arena->blocks);
        arena->blocks = next;
    }
    arena->used = 0;
}
