// SPDX-License-Identifier: Apache-2.0
// What a supervisor does about its serving process: a step function of state, event and time. No clock, no
// process: the caller has those. Times are milliseconds of any clock that only grows.
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    POLICY_DEATHS_MAX = 10, // more within POLICY_WITHIN_MS, and no decision is taken any more
    POLICY_WITHIN_MS = 60000,
    POLICY_PAUSE_FIRST_MS = 100, // before the second start that got nowhere, then twice as long each time
    POLICY_PAUSE_MAX_MS = 5000,
    // The most that one look at the clock adds to a silence: who was stopped himself has watched nobody.
    POLICY_WATCHED_MS_MAX = 100,
    // A process that is being loaded has nobody yet who could give a sign: on a busy machine that takes its
    // time.
    POLICY_FIRST_SIGN_MS = 10000,
};

struct policy {
    uint64_t deaths_ms[POLICY_DEATHS_MAX]; // when the latest were, a ring
    uint32_t deaths;                       // all of them
    uint32_t futile;                       // starts in a row that were never ready
    bool ready;                            // the present process has been
    bool signs;                            // the present process has given one
    bool careful;                          // it takes no decisions: too many deaths
    uint64_t silent_ms;                    // watched time without a sign of life
    uint64_t seen_ms;                      // the latest look at the clock
};

// A process was started.
void policy_started(struct policy *policy, uint64_t now_ms);
// It serves.
void policy_ready(struct policy *policy);
// It gave a sign of life.
void policy_beat(struct policy *policy);
// Time passed. Whether the process has been silent for longer than limit_ms, or before its first sign for
// longer than POLICY_FIRST_SIGN_MS if that is more: then it is to be killed.
bool policy_hangs(struct policy *policy, uint64_t now_ms, uint64_t limit_ms);
// It died. Returns for how many milliseconds to wait before the next start.
uint64_t policy_died(struct policy *policy, uint64_t now_ms);
