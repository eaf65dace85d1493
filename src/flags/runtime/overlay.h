// SPDX-License-Identifier: Apache-2.0
// What operators laid over flags at runtime: definitions and switches by key, and the list of who changed
// what. A fold over the journal's flag entries: the same entries give the same overlay.
#pragma once

#include "base/wire.h"
#include "flags/eval/image.h"
#include "flags/runtime/runtime.h"

struct runtime_overlay_entry {
    char *key;        // heap
    char *definition; // heap JSON, or NULL
    size_t definition_len;
    enum flags_patch_state state;
    bool killed;
    char kill_variant[RUNTIME_NAME_BYTES];
};

struct runtime_overlay {
    struct runtime_overlay_entry *entries; // sorted by key
    uint32_t count, cap;
    size_t definition_bytes;       // of all
    uint64_t definitions;          // grows with every change of one
    struct runtime_entry *history; // ring of RUNTIME_CHANGES_KEPT
    uint64_t changes;              // made altogether; number of the newest
};

void runtime_overlay_deinit(struct runtime_overlay *overlay);
const struct runtime_overlay_entry *runtime_overlay_find(const struct runtime_overlay *overlay,
                                                         struct slice key);
// STATUS_FULL, NO_MEMORY: the change cannot be kept; nothing changed. Called before the journal is asked.
MUST_USE enum status runtime_overlay_room(struct runtime_overlay *overlay,
                                          const struct runtime_change *change);
// Takes the change. After runtime_overlay_room it cannot fail but for memory of the definition.
MUST_USE enum status runtime_overlay_take(struct runtime_overlay *overlay,
                                          const struct runtime_change *change, uint64_t seq, int64_t time_ms);
// The changed definitions as one flagd document: heap text. STATUS_NO_MEMORY.
MUST_USE enum status runtime_overlay_document(const struct runtime_overlay *overlay, char **json,
                                              size_t *len);

// The journal's form of a change. A decoded change borrows the payload and the texts given.
enum { RUNTIME_OVERLAY_WIRE_BYTES_MAX = RUNTIME_DEFINITION_BYTES + 2048 };
struct runtime_overlay_texts {
    char key[RUNTIME_KEY_BYTES];
    char variant[RUNTIME_NAME_BYTES];
    char who[RUNTIME_NAME_BYTES];
    char from[IO_ADDR_TEXT_BYTES];
};
void runtime_overlay_encode(const struct runtime_change *change, struct wire_writer *writer);
MUST_USE enum status runtime_overlay_decode(struct slice payload, struct runtime_overlay_texts *texts,
                                            struct runtime_change *change);
