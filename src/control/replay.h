// SPDX-License-Identifier: Apache-2.0
// Derives every decision of a journal again: each recorded input goes through the core, each recorded
// decision must equal, to the bit, what the core says. Stops at the first difference.
#pragma once

#include "base/text.h"
#include "control/case.h"
#include "store/journal.h"

enum { CONTROL_DIFFERENCE_BYTES = 1024 };

// A decision that the last input gave and the journal does not hold: the process died between the two.
struct control_owed {
    struct control_case *record;
    struct rollout_effects effects;
};

struct control_overlay;

struct control_replay {
    struct control_overlay
        *overlay; // set before the run: takes the changes of flags; NULL: they are only read
    uint64_t flag_changes;
    struct control_case *cases[CONTROL_CASES_MAX];
    uint32_t case_count;
    uint64_t entries;
    uint64_t inputs;
    uint64_t decisions; // recorded, and found equal
    uint32_t processes; // daemons that wrote
    int64_t first_ms, last_ms;
    struct control_owed owed[CONTROL_CASES_MAX];
    uint32_t owed_count;
    // The first difference.
    bool differs;
    uint64_t difference_seq;
    char difference_subject[ROLLOUT_NAME_BYTES];
    char recorded[CONTROL_DIFFERENCE_BYTES];
    char derived[CONTROL_DIFFERENCE_BYTES];
};

// STATUS_OK with differs telling the outcome; a journal that cannot be read gives its own status and problem.
// *replay is large: the caller's heap. Call control_replay_deinit in every case.
MUST_USE enum status control_replay_run(struct journal *journal, struct control_replay *replay,
                                        struct journal_problem *problem);
void control_replay_deinit(struct control_replay *replay);
// NULL: none of that name.
struct control_case *control_replay_find(struct control_replay *replay, const char *name);
// One line for people: "Shifting -> RollingBack, stage 2, weight 0 %, ...".
void control_effects_write(const struct rollout_effects *effects, struct text *text);
