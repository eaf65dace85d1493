// SPDX-License-Identifier: Apache-2.0
// What one worker has counted. Each sheet has one writer (its worker) and one reader (the engine); nobody
// waits for anybody. All fields are relaxed atomics but two: `head` is released after a span's header is
// written, and `completed` is released after the details of the outcome. The reader takes `completed` first:
// so what it sees as completed has all its details, and what it sees in error may still look pending, never
// the other way round, which keeps the imputation of pending requests on the safe side.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/proxy/proxy.h"
#include "net/proxy/table_private.h"

enum {
    SHEET_SPANS = ROLLOUT_SPANS_OPEN_MAX, // a power of two
    SHEET_SLACK_TICKS = 20,               // a span is kept so long after its deadline
    SHEET_SEEN_BITS = 1 << 20,            // of first sightings, per service
    // Where a request counts: in its arm, or in the ring, which is none.
    SHEET_RING = ROLLOUT_ARMS,
    SHEET_PLACES,
    SHEET_ERROR_WAYS = 4,
    SHEET_ERROR_SETS = 4096,
};
#define SHEET_SPAN_NONE UINT64_MAX

struct sheet_counts {
    _Atomic uint32_t routed;
    _Atomic uint32_t completed;
    _Atomic uint32_t errors;
    _Atomic uint32_t error_events;
    _Atomic uint32_t slow[ROLLOUT_EDGES];
    _Atomic uint32_t slow_margin[ROLLOUT_EDGES];
    _Atomic uint32_t good;
    _Atomic uint32_t units;
    _Atomic uint32_t excused; // like completed
    _Atomic uint32_t failed;
    _Atomic uint32_t redirects;
    _Atomic uint32_t client_errors;
    _Atomic uint32_t unit_squares;
};

// The header is constant from the span's opening to its release. The yardstick is that of the table the
// requests were routed by.
struct sheet_span {
    uint64_t tick;
    uint64_t table;
    uint32_t weight;
    uint32_t weight_control;
    struct rollout_yardstick yardstick;
    struct sheet_counts places[SHEET_PLACES];
};

// One service of one worker: a ring of spans, named by an ever-growing sequence number. The writer opens at
// head, the reader lets go at tail; a ring that is full opens nothing and counts what it could not span.
struct sheet {
    _Alignas(64) _Atomic uint64_t head;
    _Atomic uint64_t unspanned;
    _Atomic uint64_t late;
    _Alignas(64) _Atomic uint64_t tail;
    _Atomic uint64_t pending_dropped;
    struct rollout_counts seen[SHEET_SPANS][SHEET_PLACES]; // the reader's: told so far
    struct sheet_span spans[SHEET_SPANS];
};

static inline void sheet_add32(_Atomic uint32_t *counter, uint32_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void sheet_add64(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

// ---- the writer ----

// Counts a routed request in the span of (tick, table->version) and returns that span's number,
// SHEET_SPAN_NONE when the ring is full. Ticks and table versions never go back.
uint64_t sheet_route(struct sheet *sheet, uint64_t tick, uint64_t table, const struct proxy_service *service,
                     uint32_t place, bool unit_first);
// An attempt failed. event: it is the first of its unit in its window.
void sheet_error(struct sheet *sheet, uint64_t span, uint32_t place, bool event);

struct sheet_outcome {
    uint64_t elapsed_us;
    uint16_t status; // of the answer; 0: none
    bool ok;         // answered and not in error: good if within the deadline
    bool failed;     // an attempt was in error
    bool measured;   // elapsed_us is the origin's doing and may be called slow
    bool aborted;    // the client left: how long the answer would have taken is not known
};
// The request's fate is known: exactly once for each sheet_route. Returns whether it was good. An
// aborted one is excused, unless it had waited longer than any limit when the client left.
bool sheet_complete(struct sheet *sheet, uint64_t span, uint32_t place, const struct sheet_outcome *outcome);

// ---- the reader ----

// Gathers one service over its workers' sheets (NULL where a worker has none). watermark: spans of earlier
// ticks get no more routed. *held: a span waits for the watermark.
uint32_t sheet_gather(struct sheet *const *sheets, uint32_t count, uint64_t watermark, uint64_t tick_now,
                      struct rollout_span_delta *out, uint32_t cap, bool *more, bool *held);

// ---- shared between workers ----

// The exceptions to "nothing shared": first sightings of units (written once per unit) and first errors
// (touched on errors only). Both are lock-free and approximate by design: a bitmap without room errs by not
// counting a unit, equally in every arm; a full set forgets its oldest unit, whose next error then counts
// again.
struct sheet_seen {
    _Atomic uint64_t words[SHEET_SEEN_BITS / 64];
};
bool sheet_unit_first(struct sheet_seen *seen, uint64_t unit_hash);
void sheet_seen_clear(struct sheet_seen *seen);

struct sheet_errors {
    _Atomic uint64_t
        slots[SHEET_ERROR_SETS][SHEET_ERROR_WAYS]; // 40 bits of the hash, 24 of the tick; 0: empty
};
// Whether this is the unit's first error in window_ticks (0: ever). Remembers it if so.
bool sheet_error_first(struct sheet_errors *errors, uint64_t unit_hash, uint64_t tick, uint64_t window_ticks);

// ---- cumulative, per version ----

struct version_sheet {
    _Atomic uint64_t counters[PROXY_VERSION_COUNTERS];
    _Atomic uint64_t latency_count;
    _Atomic uint64_t latency_sum;
    _Atomic uint32_t latency[STATS_HISTOGRAM_BUCKETS];
};

static inline void version_count(struct version_sheet *sheet, enum proxy_version_counter counter, uint64_t n)
{
    sheet_add64(&sheet->counters[counter], n);
}
void version_latency_record(struct version_sheet *sheet, uint64_t latency_us);
void version_latency_add_to(struct version_sheet *sheet, struct stats_histogram *histogram);
