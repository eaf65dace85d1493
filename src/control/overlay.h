// SPDX-License-Identifier: Apache-2.0
// What operators laid over flags at runtime: definitions and switches by key, and the list of who changed
// what. A fold over the journal's flag entries: the same entries give the same overlay.
#pragma once

#include "base/wire.h"
#include "control/flags.h"
#include "store/journal.h"

struct control_overlay_entry {
    char *key;        // heap
    char *definition; // heap JSON, or NULL
    size_t definition_len;
    enum flags_patch_state state;
    bool killed;
    char kill_variant[ROLLOUT_NAME_BYTES];
};

struct control_overlay {
    struct control_overlay_entry *entries; // sorted by key
    uint32_t count, cap;
    size_t definition_bytes;            // of all
    struct control_flag_entry *history; // ring of CONTROL_FLAG_CHANGES_KEPT
    uint64_t changes;                   // made altogether; number of the newest
};

void control_overlay_deinit(struct control_overlay *overlay);
const struct control_overlay_entry *control_overlay_find(const struct control_overlay *overlay,
                                                         struct slice key);
// STATUS_FULL, NO_MEMORY: the change cannot be kept; nothing changed. Called before the journal is asked.
MUST_USE enum status control_overlay_room(struct control_overlay *overlay,
                                          const struct control_flag_change *change);
// Takes the change. After control_overlay_room it cannot fail but for memory of the definition.
MUST_USE enum status control_overlay_take(struct control_overlay *overlay,
                                          const struct control_flag_change *change, uint64_t seq,
                                          int64_t time_ms);
// The changed definitions as one flagd document: heap text. STATUS_NO_MEMORY.
MUST_USE enum status control_overlay_document(const struct control_overlay *overlay, char **json,
                                              size_t *len);

// The journal's form of a change. A decoded change borrows the payload and the texts given.
enum { CONTROL_OVERLAY_WIRE_BYTES_MAX = CONTROL_FLAG_DEFINITION_BYTES + 2048 };
struct control_overlay_texts {
    char key[CONTROL_FLAG_KEY_BYTES];
    char variant[ROLLOUT_NAME_BYTES];
    char who[ROLLOUT_WHO_BYTES];
    char from[IO_ADDR_TEXT_BYTES];
};
void control_overlay_encode(const struct control_flag_change *change, struct wire_writer *writer);
MUST_USE enum status control_overlay_decode(struct slice payload, struct control_overlay_texts *texts,
                                            struct control_flag_change *change);
