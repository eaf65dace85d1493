// SPDX-License-Identifier: Apache-2.0
// The only door to the heap. Pure modules never call it. The torture hook fails the n-th allocation.
#pragma once

#include <stddef.h>

#include "base/status.h"

// Zeroed memory, or NULL when the system (or the torture hook) refuses.
MUST_USE void *heap_alloc(size_t count, size_t size);
// Zeroed, aligned to 64 bytes: for what one thread writes and another reads.
MUST_USE void *heap_alloc_aligned(size_t size);
// Resizes without zeroing the new tail; NULL leaves the old block as it was.
MUST_USE void *heap_resize(void *block, size_t size);
// Copies a NUL-terminated string.
MUST_USE char *heap_strdup(const char *text);
MUST_USE char *heap_strndup(const char *text, size_t len);
void heap_free(void *block);

// Makes the allocation after `after` more succeed last: that one and all later return NULL. -1 switches it
// off.
void heap_fail_after(long after);
