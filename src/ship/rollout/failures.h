// SPDX-License-Identifier: Apache-2.0
// Which requests failed, for people: by route and by address, per arm. No decision rests on it. It takes the
// heaviest of each without knowing them before (Metwally, Agrawal, El Abbadi 2005, "Efficient computation of
// frequent and top-k elements in data streams", section 3.1): a newcomer takes the place of the lightest, and
// what is then counted of it is at most that one's count too low.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/text.h"
#include "ship/rollout/evidence.h"

enum rollout_failing {
    ROLLOUT_FAILING_ERRORS,
    ROLLOUT_FAILING_SLOW,    // beyond the last of the limits that the arm's requests are counted against
    ROLLOUT_FAILING_REFUSED, // answered 3xx or 4xx
    ROLLOUT_FAILINGS
};

enum {
    ROLLOUT_FAILURES_KEPT = 16,
    ROLLOUT_FAILURES_SHOWN = 5,
    ROLLOUT_FAILURE_BYTES = 80,
    ROLLOUT_FAILURES_TEXT_BYTES = 512,
    ROLLOUT_FAILURES_BITS = 1024, // to tell how many addresses there were: up to a few thousand
};

struct rollout_failure {
    char what[ROLLOUT_FAILURE_BYTES]; // empty: none
    uint64_t hash;
    uint32_t arms[ROLLOUT_ARMS]; // requests since it has this place
    uint32_t before;             // what the place was worth when it took it: at most so many are missing
};

struct rollout_failed {
    uint64_t arms[ROLLOUT_ARMS]; // requests
    struct rollout_failure routes[ROLLOUT_FAILURES_KEPT];
    struct rollout_failure addresses[ROLLOUT_FAILURES_KEPT];
    uint64_t seen[ROLLOUT_FAILURES_BITS / 64]; // of addresses in the canary's arm, by their hash
};

struct rollout_failures {
    struct rollout_failed kinds[ROLLOUT_FAILINGS];
};

// One request. Longer names are cut.
void rollout_failures_note(struct rollout_failures *failures, enum rollout_failing kind, enum rollout_arm arm,
                           struct slice route, struct slice address);
void rollout_failures_merge(struct rollout_failures *into, const struct rollout_failures *from);
// The heaviest in the canary's arm first; those never seen there are left out. Returns how many.
uint32_t rollout_failures_top(const struct rollout_failure kept[ROLLOUT_FAILURES_KEPT],
                              const struct rollout_failure *top[ROLLOUT_FAILURES_SHOWN]);
// How many addresses the canary's failed requests came from, about.
uint64_t rollout_failures_addresses(const struct rollout_failed *failed);
const char *rollout_failing_name(enum rollout_failing kind); // "errors", "slow", "refused"
// A sentence about one kind: how many, where, from how many addresses. Adds nothing when none was in the
// canary's arm.
void rollout_failures_sentence(const struct rollout_failures *failures, enum rollout_failing kind,
                               const char *canary, const char *stable, struct text *text);
// What a verdict about that check (struct rollout_verdict) is to be seen with, in a sentence or two. Empty
// when nothing failed in the canary's arm.
void rollout_failures_words(const struct rollout_failures *failures, const char *check, const char *canary,
                            const char *stable, char text[ROLLOUT_FAILURES_TEXT_BYTES]);
