// SPDX-License-Identifier: Apache-2.0
// malloc behind one interface, with a hook by which tests make allocations fail.
#include "base/heap.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { HEAP_ALIGNMENT = 64 };

static _Atomic long fail_after = -1;

static int heap_refuses(void)
{
    if (atomic_load_explicit(&fail_after, memory_order_relaxed) < 0)
        return 0;
    long left = atomic_load(&fail_after);
    if (left == 0)
        return 1;
    atomic_store(&fail_after, left - 1);
    return 0;
}

void heap_fail_after(long after)
{
    atomic_store(&fail_after, after);
}

void *heap_alloc(size_t count, size_t size)
{
    if (heap_refuses())
        return NULL;
    return calloc(count, size);
}

void *heap_alloc_aligned(size_t size)
{
    if (heap_refuses())
        return NULL;
    size_t rounded = (size + HEAP_ALIGNMENT - 1) & ~(size_t)(HEAP_ALIGNMENT - 1);
    void *block = aligned_alloc(HEAP_ALIGNMENT, rounded);
    if (block != NULL)
        memset(block, 0, rounded);
    return block;
}

void *heap_resize(void *block, size_t size)
{
    if (heap_refuses())
        return NULL;
    return realloc(block, size);
}

char *heap_strdup(const char *text)
{
    return heap_strndup(text, strlen(text));
}

char *heap_strndup(const char *text, size_t len)
{
    char *copy = heap_alloc(len + 1, 1);
    if (copy != NULL)
        memcpy(copy, text, len);
    return copy;
}

void heap_free(void *block)
{
    free(block);
}
