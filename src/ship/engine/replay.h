// SPDX-License-Identifier: Apache-2.0
// Derives every decision of a journal again: each recorded input goes through the core, each recorded
// decision must equal, to the bit, what the core says. Stops at the first difference.
#pragma once

#include "base/text.h"
#include "ship/engine/record.h"
#include "ship/engine/stable.h"
#include "ship/store/journal.h"

enum { ENGINE_DIFFERENCE_BYTES = 1024 };

// A decision that the last input gave and the journal does not hold: the process died between the two.
struct engine_owed {
    struct engine_record *record;
    struct rollout_effects effects;
};

struct engine_replay {
    // Set both before the run: takes the entries that are no rollout's; NULL: they are passed over. CORRUPT
    // or UNSUPPORTED ends the replay with the entry's number, anything else means that there was no room.
    enum status (*fold)(void *context, const struct journal_entry *entry);
    void *fold_context;
    struct engine_record *records[ENGINE_ROLLOUTS_MAX];
    uint32_t record_count;
    uint64_t entries;
    uint64_t inputs;
    uint64_t decisions; // recorded, and found equal
    uint64_t foreign;   // recorded under a rule that this version no longer has, and taken as they stand
    uint64_t forgotten; // finished rollouts that made room for others: not among the records
    uint32_t processes; // daemons that wrote
    int64_t first_ms, last_ms;
    struct engine_owed owed[ENGINE_ROLLOUTS_MAX];
    uint32_t owed_count;
    struct engine_stables stables;
    // The first difference.
    bool differs;
    uint64_t difference_seq;
    char difference_subject[ROLLOUT_NAME_BYTES];
    char recorded[ENGINE_DIFFERENCE_BYTES];
    char derived[ENGINE_DIFFERENCE_BYTES];
};

// STATUS_OK with differs telling the outcome; a journal that cannot be read gives its own status and problem.
// *replay is large: the caller's heap. Call engine_replay_deinit in every case.
MUST_USE enum status engine_replay_run(struct journal *journal, struct engine_replay *replay,
                                       struct fault *fault);
void engine_replay_deinit(struct engine_replay *replay);
// NULL: none of that name.
struct engine_record *engine_replay_find(struct engine_replay *replay, const char *name);
