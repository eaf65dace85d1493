// SPDX-License-Identifier: Apache-2.0
// What operators laid over flags at runtime: definitions and switches by key, and the list of who changed
// what. A fold over the journal's flag entries: the same entries give the same overlay.
#pragma once

#include "base/wire.h"
#include "ship/engine/flags.h"
#include "ship/store/journal.h"

struct engine_overlay_entry {
    char *key;        // heap
    char *definition; // heap JSON, or NULL
    size_t definition_len;
    enum flags_patch_state state;
    bool killed;
    char kill_variant[ROLLOUT_NAME_BYTES];
};

struct engine_overlay {
    struct engine_overlay_entry *entries; // sorted by key
    uint32_t count, cap;
    size_t definition_bytes;           // of all
    struct engine_flag_entry *history; // ring of ENGINE_FLAG_CHANGES_KEPT
    uint64_t changes;                  // made altogether; number of the newest
};

void engine_overlay_deinit(struct engine_overlay *overlay);
const struct engine_overlay_entry *engine_overlay_find(const struct engine_overlay *overlay,
                                                       struct slice key);
// STATUS_FULL, NO_MEMORY: the change cannot be kept; nothing changed. Called before the journal is asked.
MUST_USE enum status engine_overlay_room(struct engine_overlay *overlay,
                                         const struct engine_flag_change *change);
// Takes the change. After engine_overlay_room it cannot fail but for memory of the definition.
MUST_USE enum status engine_overlay_take(struct engine_overlay *overlay,
                                         const struct engine_flag_change *change, uint64_t seq,
                                         int64_t time_ms);
// The changed definitions as one flagd document: heap text. STATUS_NO_MEMORY.
MUST_USE enum status engine_overlay_document(const struct engine_overlay *overlay, char **json, size_t *len);

// The journal's form of a change. A decoded change borrows the payload and the texts given.
enum { ENGINE_OVERLAY_WIRE_BYTES_MAX = ENGINE_FLAG_DEFINITION_BYTES + 2048 };
struct engine_overlay_texts {
    char key[ENGINE_FLAG_KEY_BYTES];
    char variant[ROLLOUT_NAME_BYTES];
    char who[ROLLOUT_WHO_BYTES];
    char from[IO_ADDR_TEXT_BYTES];
};
void engine_overlay_encode(const struct engine_flag_change *change, struct wire_writer *writer);
MUST_USE enum status engine_overlay_decode(struct slice payload, struct engine_overlay_texts *texts,
                                           struct engine_flag_change *change);
