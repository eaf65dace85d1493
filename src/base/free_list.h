// SPDX-License-Identifier: Apache-2.0
// Objects of one size kept for reuse, up to a number: what comes and goes at every request or connection.
#pragma once

#include <stdint.h>

#include "base/heap.h"

enum { FREE_LIST_OBJECTS_MAX = 1024 };

struct free_list { // zeroed: empty
    void *first;
    uint32_t count;
};

// NULL without memory. Zeroed only when fresh from the heap: the taker sets every field.
MUST_USE void *free_list_get(struct free_list *list, size_t size);
void free_list_put(struct free_list *list, void *object);
// Frees what is kept.
void free_list_clear(struct free_list *list);
