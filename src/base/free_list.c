// SPDX-License-Identifier: Apache-2.0
#include "base/free_list.h"

struct free_object {
    struct free_object *next;
};

void *free_list_get(struct free_list *list, size_t size)
{
    struct free_object *object = list->first;
    if (object == NULL)
        return heap_alloc(1, size);
    list->first = object->next;
    list->count--;
    return object;
}

void free_list_put(struct free_list *list, void *object)
{
    if (list->count >= FREE_LIST_OBJECTS_MAX) {
        heap_free(object);
        return;
    }
    struct free_object *freed = object;
    freed->next = list->first;
    list->first = freed;
    list->count++;
}

void free_list_clear(struct free_list *list)
{
    while (list->first != NULL) {
        struct free_object *object = list->first;
        list->first = object->next;
        heap_free(object);
    }
    list->count = 0;
}
