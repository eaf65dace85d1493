// SPDX-License-Identifier: Apache-2.0
// What lies over the sources: definitions, switches, and the splits of rollouts; one patch per flag.
#include "base/heap.h"
#include "flags/eval/image.h"
#include "flags/runtime/runtime_private.h"

bool runtime_split_find(const struct runtime *runtime, struct slice key, struct runtime_split *split)
{
    for (uint32_t at = 0; runtime->parts.split(runtime->parts.context, &at, split);)
        if (slice_equal(split->flag, key))
            return true;
    return false;
}

static enum status splits_make(const struct runtime *runtime, struct runtime_over *over, uint32_t *count)
{
    struct runtime_split split;
    uint32_t room = 1;
    for (uint32_t at = 0; runtime->parts.split(runtime->parts.context, &at, &split);)
        room++;
    over->splits = heap_alloc(room, sizeof *over->splits);
    *count = 0;
    if (over->splits == NULL)
        return STATUS_NO_MEMORY;
    for (uint32_t at = 0; runtime->parts.split(runtime->parts.context, &at, &over->splits[*count]);)
        (*count)++;
    return STATUS_OK;
}

static const struct runtime_split *split_of(const struct runtime_split *splits, uint32_t count,
                                            struct slice key)
{
    for (uint32_t i = 0; i < count; i++)
        if (slice_equal(splits[i].flag, key))
            return &splits[i];
    return NULL;
}

static void patch_split(struct flags_patch *patch, const struct runtime_split *split)
{
    patch->split = true;
    patch->split_from = split->from;
    patch->split_to = split->to;
    patch->split_share = split->share;
    patch->split_salt = split->salt;
    patch->ring_count = split->ring_count;
    for (uint32_t i = 0; i < split->ring_count; i++)
        patch->rings[i] = split->rings[i];
}

// One patch per key: switches first, then splits of flags that have none yet.
static uint32_t patches_make(const struct runtime_overlay *overlay, const struct runtime_split *splits,
                             uint32_t split_count, struct flags_patch *patches)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < overlay->count; i++) {
        const struct runtime_overlay_entry *entry = &overlay->entries[i];
        const struct runtime_split *split = split_of(splits, split_count, slice_of(entry->key));
        if (entry->state == FLAGS_PATCH_AS_IS && !entry->killed && split == NULL)
            continue;
        struct flags_patch *patch = &patches[count++];
        *patch = (struct flags_patch){.key = slice_of(entry->key),
                                      .state = entry->state,
                                      .kill = entry->killed,
                                      .kill_variant = slice_of(entry->kill_variant)};
        if (split != NULL)
            patch_split(patch, split);
    }
    for (uint32_t i = 0; i < split_count; i++) {
        struct slice key = splits[i].flag;
        if (split_of(splits, split_count, key) != &splits[i] || runtime_overlay_find(overlay, key) != NULL)
            continue;
        struct flags_patch *patch = &patches[count++];
        *patch = (struct flags_patch){.key = key};
        patch_split(patch, &splits[i]);
    }
    return count;
}

enum status runtime_over_make(const struct runtime *runtime, bool definitions, struct runtime_over *over)
{
    const struct runtime_overlay *overlay = &runtime->overlay;
    uint32_t split_count;
    *over = (struct runtime_over){.json = NULL};
    if (splits_make(runtime, over, &split_count) != STATUS_OK)
        return STATUS_NO_MEMORY;
    over->patches = heap_alloc(overlay->count + split_count + 1, sizeof *over->patches);
    if (over->patches == NULL)
        return STATUS_NO_MEMORY;
    over->patch_count = patches_make(overlay, over->splits, split_count, over->patches);
    return definitions ? runtime_overlay_document(overlay, &over->json, &over->len) : STATUS_OK;
}

void runtime_over_free(struct runtime_over *over)
{
    heap_free(over->json);
    heap_free(over->patches);
    heap_free(over->splits);
}
