// SPDX-License-Identifier: Apache-2.0
// Which version of a service is stable. The file says one; the version that a completed rollout promoted is
// stable all the same, until somebody says otherwise: an edit of that word, a later rollout, or an undo. It
// is folded from the journal's decisions, and from the entries that tell of edits, so that the running daemon
// and a replay come to the same.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/wire.h"
#include "daemon/config/config.h"
#include "ship/engine/record.h"
#include "ship/store/journal.h"

// Of a service that a rollout has moved, or tried to.
struct engine_stable {
    char service[ROLLOUT_NAME_BYTES];
    char version[ROLLOUT_NAME_BYTES]; // where decisions left it
    char word[ROLLOUT_NAME_BYTES];    // the file's `stable` that the version stands over
    char rollout[ROLLOUT_NAME_BYTES]; // whose decision left it there; empty: nobody moved it yet
    bool undone;                      // by taking back what it had promoted
    int64_t since_ms;                 // of that decision
};

struct engine_stables {
    uint32_t count;
    struct engine_stable items[ENGINE_ROLLOUTS_MAX]; // one more than fits takes the place of the oldest
};

// Takes a decision that is in the journal; the record has stepped. True when the service's stable version
// moved.
bool engine_stable_fold(struct engine_stables *stables, const struct engine_record *record,
                        const struct rollout_effects *effects);
// The payload of an entry that tells of an edit (JOURNAL_STABLE), and what takes it: CORRUPT, UNSUPPORTED.
void engine_stable_edit(const char *word, struct wire_writer *writer);
MUST_USE enum status engine_stable_fold_edit(struct engine_stables *stables,
                                             const struct journal_entry *entry);
// NULL: no rollout of that service ever started.
const struct engine_stable *engine_stable_find(const struct engine_stables *stables, const char *service);
// What stands over the file's word; NULL: that word counts.
const struct engine_stable *engine_stable_over(const struct engine_stables *stables,
                                               const struct config_service *service);
// The stable version by name: lives as long as both.
const char *engine_stable_version(const struct engine_stables *stables, const struct config_service *service);
// Lets every rollout of a version in the file come from the version that is stable.
void engine_stable_fill(const struct engine_stables *stables, struct config *config);
