// SPDX-License-Identifier: Apache-2.0
// An operator's word while no daemon runs: it is written into the journal as the daemon would have written
// it, so that the next start folds it before the first request.
#pragma once

#include "ship/rollout/rollout.h"
#include "ship/store/journal.h"

// Where such a word comes from, as the journal has it.
#define ENGINE_OFFLINE_FROM "the journal, while no daemon ran"

struct engine_offline {
    struct journal *journal; // open for writing
    int64_t now_ms;          // wall clock
};

// abort, pause or undo of a rollout's latest run. All of it is one durable
// transaction: on failure nothing was written. STATUS_OK with the verdict. NOT_FOUND: the journal has no such
// rollout. EXISTS: it is so already. CONFLICT: refused. MISMATCH: its decisions cannot be derived again. Else
// what the journal says.
MUST_USE enum status engine_offline_command(const struct engine_offline *offline, const char *name,
                                            enum rollout_command command, const char *who,
                                            struct rollout_verdict *verdict, struct fault *fault);
// A flag's change, as runtime_change_append wants it; context: a struct engine_offline.
MUST_USE enum status engine_offline_append(void *context, const char *key, struct slice payload, bool safe,
                                           uint64_t *seq, struct fault *fault);
