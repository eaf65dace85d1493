// SPDX-License-Identifier: Apache-2.0
// The breaker of one version, shared by all workers without a lock. Closed: requests pass and their outcomes
// are counted over a sliding window. Open: none passes until `open_ms` is over. Half-open: a few probes pass;
// when all of them are answered well it closes, and the first that is not opens it again. Pure: time is
// given.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    BREAKER_PARTS = 10, // of the window; the oldest falls out as a whole
    BREAKER_PROBES_MAX = 100,
    BREAKER_FULL = 100000, // 100 %, in thousandths of a percent
};

struct breaker_rule {
    uint32_t errors; // thousandths of a percent of the window's requests, reached: it opens; 0: it never does
    uint32_t requests_min; // in the window before anything is said
    uint32_t window_ms;    // at least BREAKER_PARTS
    uint32_t open_ms;      // at least 1
    uint32_t probes;       // 1..BREAKER_PROBES_MAX
};

enum breaker_phase { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

// Zeroed it is closed.
struct breaker {
    _Atomic uint64_t state;                // phase, probes given and answered well, and until when
    _Atomic uint64_t parts[BREAKER_PARTS]; // which part of time, requests, errors
    _Atomic uint64_t opened;               // times
};

enum breaker_pass { BREAKER_PASS, BREAKER_PROBE, BREAKER_REFUSE };

// May a request go on? REFUSE: *retry_ms is when it is worth asking again, at least 1. Whoever got PASS or
// PROBE calls breaker_told or, when the request has no outcome, breaker_untold, once.
enum breaker_pass breaker_ask(struct breaker *breaker, const struct breaker_rule *rule, uint64_t now_us,
                              uint64_t *retry_ms);
void breaker_told(struct breaker *breaker, const struct breaker_rule *rule, uint64_t now_us,
                  enum breaker_pass pass, bool failed);
// Its probe, if it was one, may be given again.
void breaker_untold(struct breaker *breaker, enum breaker_pass pass);
// Closed again, with nothing counted.
void breaker_forget(struct breaker *breaker);
enum breaker_phase breaker_phase(const struct breaker *breaker);
