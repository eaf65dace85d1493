// SPDX-License-Identifier: Apache-2.0
// Entries stand sorted by key; a change replaces, adds or removes one.
#include "flags/runtime/overlay.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"

enum { RUNTIME_OVERLAY_WIRE_VERSION = 1 };

static int key_order(struct slice a, struct slice b)
{
    size_t shared = a.len < b.len ? a.len : b.len;
    int order = shared == 0 ? 0 : memcmp(a.data, b.data, shared);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

// Where the key stands or would stand.
static uint32_t place_of(const struct runtime_overlay *overlay, struct slice key, bool *there)
{
    uint32_t low = 0, high = overlay->count;
    *there = false;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = key_order(slice_of(overlay->entries[middle].key), key);
        if (order == 0) {
            *there = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct runtime_overlay_entry *runtime_overlay_find(const struct runtime_overlay *overlay,
                                                         struct slice key)
{
    bool there;
    uint32_t at = place_of(overlay, key, &there);
    return there ? &overlay->entries[at] : NULL;
}

static void entry_free(struct runtime_overlay_entry *entry)
{
    heap_free(entry->key);
    heap_free(entry->definition);
}

void runtime_overlay_deinit(struct runtime_overlay *overlay)
{
    for (uint32_t i = 0; i < overlay->count; i++)
        entry_free(&overlay->entries[i]);
    heap_free(overlay->entries);
    heap_free(overlay->history);
    *overlay = (struct runtime_overlay){.count = 0};
}

enum status runtime_overlay_room(struct runtime_overlay *overlay, const struct runtime_change *change)
{
    if (overlay->history == NULL)
        overlay->history = heap_alloc(RUNTIME_CHANGES_KEPT, sizeof *overlay->history);
    if (overlay->history == NULL)
        return STATUS_NO_MEMORY;
    const struct runtime_overlay_entry *entry = runtime_overlay_find(overlay, slice_of(change->key));
    size_t others = overlay->definition_bytes - (entry != NULL ? entry->definition_len : 0);
    if (change->op == RUNTIME_SET && change->definition.len > RUNTIME_OVERLAY_BYTES_MAX - others)
        return STATUS_FULL;
    if (entry != NULL || change->op == RUNTIME_UNSET)
        return STATUS_OK;
    if (overlay->count == RUNTIME_OVERLAY_MAX)
        return STATUS_FULL;
    if (overlay->count < overlay->cap)
        return STATUS_OK;
    uint32_t cap = overlay->cap == 0 ? 64 : overlay->cap * 2;
    struct runtime_overlay_entry *grown = heap_resize(overlay->entries, cap * sizeof *grown);
    if (grown == NULL)
        return STATUS_NO_MEMORY;
    overlay->entries = grown;
    overlay->cap = cap;
    return STATUS_OK;
}

static void remember(struct runtime_overlay *overlay, const struct runtime_change *change, uint64_t seq,
                     int64_t time_ms)
{
    struct runtime_entry *entry = &overlay->history[overlay->changes++ % RUNTIME_CHANGES_KEPT];
    *entry =
        (struct runtime_entry){.number = overlay->changes, .seq = seq, .time_ms = time_ms, .op = change->op};
    snprintf(entry->key, sizeof entry->key, "%s", change->key);
    snprintf(entry->variant, sizeof entry->variant, "%s", change->variant != NULL ? change->variant : "");
    snprintf(entry->who, sizeof entry->who, "%s", change->who);
    snprintf(entry->from, sizeof entry->from, "%s", change->from);
}

static void remove_at(struct runtime_overlay *overlay, uint32_t at)
{
    overlay->definition_bytes -= overlay->entries[at].definition_len;
    overlay->definitions += overlay->entries[at].definition != NULL;
    entry_free(&overlay->entries[at]);
    memmove(&overlay->entries[at], &overlay->entries[at + 1],
            (overlay->count - at - 1) * sizeof *overlay->entries);
    overlay->count--;
}

static enum status insert_at(struct runtime_overlay *overlay, uint32_t at, const char *key)
{
    char *copy = heap_strdup(key);
    if (copy == NULL)
        return STATUS_NO_MEMORY;
    memmove(&overlay->entries[at + 1], &overlay->entries[at],
            (overlay->count - at) * sizeof *overlay->entries);
    overlay->entries[at] = (struct runtime_overlay_entry){.key = copy};
    overlay->count++;
    return STATUS_OK;
}

static enum status entry_change(struct runtime_overlay *overlay, struct runtime_overlay_entry *entry,
                                const struct runtime_change *change)
{
    char *definition;
    switch (change->op) {
    case RUNTIME_SET:
        definition = heap_strndup(change->definition.data, change->definition.len);
        if (definition == NULL)
            return STATUS_NO_MEMORY;
        heap_free(entry->definition);
        entry->definition = definition;
        overlay->definitions++;
        overlay->definition_bytes += change->definition.len - entry->definition_len;
        entry->definition_len = change->definition.len;
        return STATUS_OK;
    case RUNTIME_ON:
        entry->state = FLAGS_PATCH_ENABLED;
        entry->killed = false;
        return STATUS_OK;
    case RUNTIME_OFF:
        entry->killed = true;
        snprintf(entry->kill_variant, sizeof entry->kill_variant, "%s",
                 change->variant != NULL ? change->variant : "");
        return STATUS_OK;
    case RUNTIME_UNSET:
        break;
    }
    return STATUS_OK;
}

enum status runtime_overlay_take(struct runtime_overlay *overlay, const struct runtime_change *change,
                                 uint64_t seq, int64_t time_ms)
{
    bool there;
    uint32_t at = place_of(overlay, slice_of(change->key), &there);
    enum status status = STATUS_OK;
    if (change->op == RUNTIME_UNSET) {
        if (there)
            remove_at(overlay, at);
    } else {
        if (!there)
            status = insert_at(overlay, at, change->key);
        if (status == STATUS_OK)
            status = entry_change(overlay, &overlay->entries[at], change);
    }
    if (status == STATUS_OK)
        remember(overlay, change, seq, time_ms);
    return status;
}

// ---- the document ----

enum status runtime_overlay_document(const struct runtime_overlay *overlay, char **json, size_t *len)
{
    size_t cap = 32;
    for (uint32_t i = 0; i < overlay->count; i++)
        cap += overlay->entries[i].definition_len + strlen(overlay->entries[i].key) * 6 + 8;
    char *storage = heap_alloc(cap, 1);
    if (storage == NULL)
        return STATUS_NO_MEMORY;
    struct text text = text_over(storage, cap);
    text_add(&text, SLICE("{\"flags\":{"));
    bool first = true;
    for (uint32_t i = 0; i < overlay->count; i++) {
        const struct runtime_overlay_entry *entry = &overlay->entries[i];
        if (entry->definition == NULL)
            continue;
        // Each on a line of its own, so that a fault's line tells the flag.
        text_add(&text, first ? SLICE("\n") : SLICE(",\n"));
        first = false;
        text_add_json(&text, slice_of(entry->key));
        text_add_char(&text, ':');
        text_add(&text, (struct slice){entry->definition, entry->definition_len});
    }
    text_add(&text, SLICE("}}"));
    CHECK(!text.cut);
    *json = storage;
    *len = text.len;
    return STATUS_OK;
}

// ---- the journal's form ----

void runtime_overlay_encode(const struct runtime_change *change, struct wire_writer *writer)
{
    wire_put_u64(writer, RUNTIME_OVERLAY_WIRE_VERSION);
    wire_put_u64(writer, change->op);
    wire_put_bytes(writer, slice_of(change->key));
    wire_put_bytes(writer, change->op == RUNTIME_SET ? change->definition : (struct slice){"", 0});
    wire_put_bytes(writer, slice_of(change->variant != NULL ? change->variant : ""));
    wire_put_bytes(writer, slice_of(change->who));
    wire_put_bytes(writer, slice_of(change->from));
}

enum status runtime_overlay_decode(struct slice payload, struct runtime_overlay_texts *texts,
                                   struct runtime_change *change)
{
    struct wire_reader reader = {.data = (const uint8_t *)payload.data, .len = payload.len};
    uint64_t version = wire_get_u64(&reader);
    uint64_t op = wire_get_u64(&reader);
    wire_get_string(&reader, texts->key, sizeof texts->key);
    struct slice definition = wire_get_bytes(&reader);
    wire_get_string(&reader, texts->variant, sizeof texts->variant);
    wire_get_string(&reader, texts->who, sizeof texts->who);
    wire_get_string(&reader, texts->from, sizeof texts->from);
    if (version > RUNTIME_OVERLAY_WIRE_VERSION)
        return STATUS_UNSUPPORTED;
    if (!wire_done(&reader) || version != RUNTIME_OVERLAY_WIRE_VERSION || op > RUNTIME_UNSET ||
        texts->key[0] == '\0')
        return STATUS_CORRUPT;
    *change = (struct runtime_change){.op = (enum runtime_op)op,
                                      .key = texts->key,
                                      .definition = definition,
                                      .variant = texts->variant,
                                      .who = texts->who,
                                      .from = texts->from};
    return STATUS_OK;
}
