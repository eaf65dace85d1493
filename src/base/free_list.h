// SPDX-License-Identifier: Apache-2.0
// Keeps objects of one size for reuse, up to a number, for objects that each request or connection needs.
#pragma once

#include <stdint.h>

#include "base/heap.h"

enum { FREE_LIST_OBJECTS_MAX = 1024 };

struct free_list { // all bytes zero: an empty list
    void *first;
    uint32_t count;
};

// NULL when there is no memory. An object is only zeroed when fresh from the heap: the caller sets every
// field.
MUST_USE void *free_list_get(struct free_list *list, size_t size);
void free_list_put(struct free_list *list, void *object);
// Frees the kept objects.
void free_list_clear(struct free_list *list);
