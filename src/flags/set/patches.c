// SPDX-License-Identifier: Apache-2.0
// A copy of patches that owns its text.
#include "flags/set/flagset_private.h"

static size_t patch_bytes(const struct flags_patch *patch)
{
    size_t bytes = patch->key.len + patch->kill_variant.len + patch->split_from.len + patch->split_to.len;
    for (uint32_t r = 0; r < patch->ring_count; r++)
        bytes += patch->rings[r].len;
    return bytes;
}

static void move_text(struct slice *slice, char **at)
{
    if (slice->len > 0)
        memcpy(*at, slice->data, slice->len);
    slice->data = *at;
    *at += slice->len;
}

enum status flagset_patches_create(const struct flags_patch *patches, uint32_t count,
                                   struct flagset_patches **out)
{
    size_t bytes = 1;
    for (uint32_t i = 0; i < count; i++) {
        if (patches[i].ring_count > FLAGS_RINGS_MAX)
            return STATUS_RANGE;
        bytes += patch_bytes(&patches[i]);
    }
    struct flagset_patches *copy = heap_alloc(1, sizeof *copy);
    if (copy == NULL)
        return STATUS_NO_MEMORY;
    copy->references = 1;
    copy->count = count;
    copy->patches = heap_alloc(count + 1, sizeof *copy->patches);
    copy->text = heap_alloc(bytes, 1);
    if (copy->patches == NULL || copy->text == NULL) {
        flagset_patches_unref(copy);
        return STATUS_NO_MEMORY;
    }
    char *at = copy->text;
    for (uint32_t i = 0; i < count; i++) {
        struct flags_patch *patch = &copy->patches[i];
        *patch = patches[i];
        move_text(&patch->key, &at);
        move_text(&patch->kill_variant, &at);
        move_text(&patch->split_from, &at);
        move_text(&patch->split_to, &at);
        for (uint32_t r = 0; r < patch->ring_count; r++)
            move_text(&patch->rings[r], &at);
    }
    *out = copy;
    return STATUS_OK;
}

struct flagset_patches *flagset_patches_ref(struct flagset_patches *patches)
{
    if (patches != NULL)
        atomic_fetch_add_explicit(&patches->references, 1, memory_order_relaxed);
    return patches;
}

void flagset_patches_unref(struct flagset_patches *patches)
{
    if (patches == NULL || atomic_fetch_sub_explicit(&patches->references, 1, memory_order_acq_rel) != 1)
        return;
    heap_free(patches->patches);
    heap_free(patches->text);
    heap_free(patches);
}

const struct flags_patch *flagset_patches_find(const struct flagset_patches *patches, struct slice key)
{
    for (uint32_t i = 0; patches != NULL && i < patches->count; i++)
        if (slice_equal(patches->patches[i].key, key))
            return &patches->patches[i];
    return NULL;
}
