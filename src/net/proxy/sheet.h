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
    // Where a request counts: in its arm, or in the ring, which is none.
    SHEET_RING = ROLLOUT_ARMS,
    SHEET_PLACES,
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

// What a request is to its unit. Without a unit each request is one for itself: first and judged.
struct sheet_sighting {
    bool first;       // of the unit
    bool judged;      // the unit's first request of its second and within its part, so it counts
    bool no_room;     // the table is full: judged as if it came this once
    uint32_t squares; // growth of the square of the unit's judged requests
};

// Counts a routed request in the span of (tick, table->version) and returns that span's number,
// SHEET_SPAN_NONE when the ring is full. Ticks and table versions never go back.
uint64_t sheet_route(struct sheet *sheet, uint64_t tick, uint64_t table, const struct proxy_service *service,
                     uint32_t place, const struct sheet_sighting *sighting);
// A request of which no one is judged has no outcome to tell: the number is not to be completed.
// An attempt failed. event: it is the first of its unit in its window.
void sheet_error(struct sheet *sheet, uint64_t span, uint32_t place, bool event);

struct sheet_outcome {
    uint64_t elapsed_us;
    uint16_t status; // of the answer; 0: none, or it is an error and counts as nothing else
    bool ok;         // answered and not in error: good if within the deadline
    bool failed;     // an attempt was in error
    bool measured;   // elapsed_us is the origin's doing and may be called slow
    bool aborted;    // the client left: how long the answer would have taken is not known
};
// An answer that had begun broke off: that counts in the span of the moment, because its own may be let go.
void sheet_broke_off(struct sheet *sheet, uint64_t tick, uint64_t table, const struct proxy_service *service,
                     uint32_t place, bool event);
// The request's fate is known: exactly once for each sheet_route. Returns whether it was good. An
// aborted one is excused, unless it had waited longer than any limit when the client left.
bool sheet_complete(struct sheet *sheet, uint64_t span, uint32_t place, const struct sheet_outcome *outcome);

// ---- the reader ----

// Gathers one service over its workers' sheets (NULL where a worker has none). watermark: spans of earlier
// ticks get no more routed. *held: a span waits for the watermark.
uint32_t sheet_gather(struct sheet *const *sheets, uint32_t count, uint64_t watermark, uint64_t tick_now,
                      struct rollout_span_delta *out, uint32_t cap, bool *more, bool *held);

// ---- shared between workers ----

// The exception to "nothing shared": what is known of each unit of a service in the present epoch (or, of a
// flag's rollout that events judge, of each key in the present run), so that one unit's part in the evidence
// is bounded, whoever serves it: one judged request in a second; and of a unit that has been seen in
// SHEET_UNIT_PART seconds, and in SHEET_UNIT_TIMES as many as is usual, one second in SHEET_UNIT_THIN. Else a
// handful of busy users keeps the arms from ever being alike. Usual is the mean over seconds, not over units,
// so that many who come once do not make the others look busy.
// Lock-free; nothing is pushed out: a unit that finds no room is judged each time, and its errors are no
// events, equally in every arm.
enum { SHEET_UNITS = 1 << 16, SHEET_UNIT_PROBES = 32 };
enum { SHEET_UNIT_PART = 8, SHEET_UNIT_TIMES = 2, SHEET_UNIT_THIN = 16 };
struct sheet_unit {
    _Atomic uint64_t key;     // 0: empty
    _Atomic uint64_t state;   // see sheet.c
    _Atomic uint64_t seconds; // in which it was seen
};
struct sheet_units {
    _Atomic uint64_t seconds; // of all units
    _Atomic uint64_t squares; // sum of the squares of each one's
    struct sheet_unit slots[SHEET_UNITS];
};

// A request of the unit at that tick.
struct sheet_sighting sheet_unit_see(struct sheet_units *units, uint64_t unit_hash, uint64_t tick);
// Whether this is the unit's first error in window_ticks (0: ever). Remembers it if so. False without room.
bool sheet_unit_erred(struct sheet_units *units, uint64_t unit_hash, uint64_t tick, uint64_t window_ticks);
void sheet_units_clear(struct sheet_units *units);

// ---- cumulative, per version ----

struct version_sheet {
    _Atomic uint64_t counters[PROXY_VERSION_COUNTERS];
    _Atomic uint64_t left; // of its requests: those that count nothing any more
    _Atomic uint64_t latency_count;
    _Atomic uint64_t latency_sum;
    _Atomic uint32_t latency[STATS_HISTOGRAM_BUCKETS];
};

static inline void version_count(struct version_sheet *sheet, enum proxy_version_counter counter, uint64_t n)
{
    sheet_add64(&sheet->counters[counter], n);
}
// The last that a request does with the sheet: whoever sees it may take the sheet away.
static inline void version_leave(struct version_sheet *sheet)
{
    uint64_t left = atomic_load_explicit(&sheet->left, memory_order_relaxed);
    atomic_store_explicit(&sheet->left, left + 1, memory_order_release);
}
void version_latency_record(struct version_sheet *sheet, uint64_t latency_us);
void version_latency_add_to(struct version_sheet *sheet, struct stats_histogram *histogram);
