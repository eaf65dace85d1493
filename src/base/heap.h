// SPDX-License-Identifier: Apache-2.0
// The only access to the heap; pure modules never use it. Tests make the n-th allocation fail with
// heap_fail_after.
#pragma once

#include <stddef.h>

#include "base/status.h"

// Zeroed memory, or NULL when the system (or a test's hook) refuses.
MUST_USE void *heap_alloc(size_t count, size_t size);
// Zeroed memory aligned to 64 bytes, for data that one thread writes and another reads.
MUST_USE void *heap_alloc_aligned(size_t size);
// Resizes without zeroing the new tail; NULL leaves the old block as it was.
MUST_USE void *heap_resize(void *block, size_t size);
// Copies a NUL-terminated string.
MUST_USE char *heap_strdup(const char *text);
MUST_USE char *heap_strndup(const char *text, size_t len);
void heap_free(void *block);

// After `after` more allocations have succeeded, all later ones return NULL. -1 switches this off.
void heap_fail_after(long after);
