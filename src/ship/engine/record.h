// SPDX-License-Identifier: Apache-2.0
// One rollout's record: its core, the sums people look at, and its latest decisions. The running daemon and
// the replay of a journal feed records through the very same call, so both arrive at the same record.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ship/rollout/failures.h"
#include "ship/rollout/rollout.h"

enum {
    ENGINE_ROLLOUTS_MAX = 1024,
    ENGINE_FINISHED_MAX = 64, // of those, that are over and in no file: each has a core of its own
    ENGINE_HISTORY = 64,      // decisions kept for people; all of them are in the journal
};

struct engine_arm_sum {
    uint64_t routed;
    uint64_t completed;
    uint64_t failed; // of the completed, with an error, be it one that a retry hid
    uint64_t errors; // attempts
};

struct engine_decision {
    uint64_t seq;    // its number in the journal; 0: not written yet
    int64_t time_ms; // of its entry
    uint32_t run;
    struct rollout_effects effects;
    char failures[ROLLOUT_FAILURES_TEXT_BYTES]; // which requests it saw fail, in words; empty: not told
};

// A run that another rule of decision began. Its decisions are taken as they were recorded.
struct engine_foreign {
    bool on;
    uint32_t rule;
    struct rollout_spec spec; // upgraded
    struct rollout_takeover stood;
};

struct engine_record {
    char name[ROLLOUT_NAME_BYTES];
    struct rollout *core;
    uint32_t run;     // 0: never started
    uint64_t run_seq; // journal number of the run's SPEC
    int64_t run_ms;
    struct engine_arm_sum arms[ROLLOUT_ARMS]; // of this run
    uint64_t inputs;
    uint64_t decisions;
    uint64_t spans;
    uint64_t history_count; // ever; the last ENGINE_HISTORY are kept
    struct engine_decision *history;
    struct engine_foreign foreign;
};

// STATUS_NO_MEMORY.
MUST_USE enum status engine_record_create(const char *name, struct engine_record **made);
// NULL is allowed.
void engine_record_destroy(struct engine_record *record);
// Steps the core and sums. A SPEC begins run `run`. True when the effects must be journalled as a decision.
bool engine_record_step(struct engine_record *record, const struct rollout_input *input, uint32_t run,
                        uint64_t seq, struct rollout_effects *effects);
// Takes a recorded decision of a foreign run; time_ms: of its entry.
void engine_record_follow(struct engine_record *record, const struct rollout_effects *effects,
                          int64_t time_ms);
// The input that lets a foreign run go on under the present rule.
struct rollout_input engine_record_takeover(const struct engine_record *record, int64_t time_ms);
// Keeps a decision for people; time_ms: of its entry.
void engine_record_remember(struct engine_record *record, uint64_t seq, int64_t time_ms,
                            const struct rollout_effects *effects);
// Says of the newest decision which requests it saw fail.
void engine_record_failures(struct engine_record *record, struct slice words);
// The i-th newest decision (0: the newest), or NULL.
const struct engine_decision *engine_record_decision(const struct engine_record *record, uint64_t i);
bool engine_record_active(const struct engine_record *record); // started and not final
