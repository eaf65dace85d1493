// SPDX-License-Identifier: Apache-2.0
// Mirrored requests as the mirror hands them on, each one block, with JSON answers.
#pragma once

#include "ship/shadow/shadow.h"

struct shadow_world_answer {
    const char *json;   // NULL: not answered (MIRROR_RESET), or no secondary
    unsigned status;    // 0: 200
    const char *header; // "name: value"; NULL: none but Content-Type
    struct slice coded; // in the place of json
    enum mirror_cut cut;
    uint64_t digest;
    uint64_t wait_us;
};

struct mirror_seen *
shadow_world_seen(uint64_t run, const char *target,
                  const struct shadow_world_answer answers[3]); // primary, candidate, secondary
// Those that are not freed yet, of all threads.
int shadow_world_alive(void);
// While closed, freeing waits, but for the thread that closed it.
void shadow_world_gate(bool closed);
// Gives JSON of the three to the run.
void shadow_world_give(struct shadow *shadow, uint64_t run, const char *primary, const char *candidate,
                       const char *secondary);
