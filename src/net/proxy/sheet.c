// SPDX-License-Identifier: Apache-2.0
// Sheets: see sheet.h for who writes what and in which order.
#include "net/proxy/sheet.h"

#include "base/check.h"

_Static_assert((SHEET_SPANS & (SHEET_SPANS - 1)) == 0, "slots are found by masking");

static struct sheet_span *span_at(struct sheet *sheet, uint64_t number)
{
    return &sheet->spans[number & (SHEET_SPANS - 1)];
}

// ---- the writer ----

static void span_open(struct sheet_span *span, uint64_t tick, uint64_t table,
                      const struct proxy_service *service)
{
    span->tick = tick;
    span->table = table;
    span->weight = service->weight;
    span->weight_control = service->weight_control;
    span->yardstick = service->yardstick;
    _Static_assert(sizeof span->places % sizeof(_Atomic uint32_t) == 0, "nothing but counters");
    _Atomic uint32_t *counters = (_Atomic uint32_t *)span->places;
    for (size_t i = 0; i < SHEET_PLACES * (sizeof(struct sheet_counts) / sizeof(_Atomic uint32_t)); i++)
        atomic_store_explicit(&counters[i], 0, memory_order_relaxed);
}

// The newest span if it has that name, else a new one.
static uint64_t span_for(struct sheet *sheet, uint64_t tick, uint64_t table,
                         const struct proxy_service *service)
{
    uint64_t head = atomic_load_explicit(&sheet->head, memory_order_relaxed);
    if (LIKELY(head > 0)) {
        const struct sheet_span *newest = span_at(sheet, head - 1);
        // A span that is complete may have been let go already: then its slot is still ours, but nobody reads
        // it.
        if (newest->tick == tick && newest->table == table &&
            head - 1 >= atomic_load_explicit(&sheet->tail, memory_order_relaxed))
            return head - 1;
    }
    if (head - atomic_load_explicit(&sheet->tail, memory_order_acquire) >= SHEET_SPANS)
        return SHEET_SPAN_NONE;
    span_open(span_at(sheet, head), tick, table, service);
    atomic_store_explicit(&sheet->head, head + 1, memory_order_release);
    return head;
}

static void add_release(_Atomic uint32_t *counter)
{
    uint32_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + 1, memory_order_release);
}

uint64_t sheet_route(struct sheet *sheet, uint64_t tick, uint64_t table, const struct proxy_service *service,
                     uint32_t place, const struct sheet_sighting *sighting)
{
    uint64_t number = span_for(sheet, tick, table, service);
    if (UNLIKELY(number == SHEET_SPAN_NONE)) {
        sheet_add64(&sheet->unspanned, 1);
        return SHEET_SPAN_NONE;
    }
    struct sheet_counts *counts = &span_at(sheet, number)->places[place];
    sheet_add32(&counts->routed, 1);
    if (sighting->first)
        sheet_add32(&counts->units, 1);
    if (sighting->squares > 0)
        sheet_add32(&counts->unit_squares, sighting->squares);
    if (LIKELY(sighting->judged))
        return number;
    add_release(&counts->excused);
    return SHEET_SPAN_NONE;
}

// The span a completion goes to, NULL when it has none or was let go.
static struct sheet_span *span_alive(struct sheet *sheet, uint64_t number)
{
    if (number == SHEET_SPAN_NONE || number < atomic_load_explicit(&sheet->tail, memory_order_relaxed))
        return NULL;
    return span_at(sheet, number);
}

void sheet_error(struct sheet *sheet, uint64_t number, uint32_t place, bool event)
{
    struct sheet_span *span = span_alive(sheet, number);
    if (span == NULL)
        return;
    sheet_add32(&span->places[place].errors, 1);
    if (event)
        sheet_add32(&span->places[place].error_events, 1);
}

void sheet_broke_off(struct sheet *sheet, uint64_t tick, uint64_t table, const struct proxy_service *service,
                     uint32_t place, bool event)
{
    uint64_t number = span_for(sheet, tick, table, service);
    if (number == SHEET_SPAN_NONE) {
        sheet_add64(&sheet->unspanned, 1);
        return;
    }
    sheet_error(sheet, number, place, event);
    sheet_add32(&span_at(sheet, number)->places[place].failed, 1);
}

// Against the edges of the baseline the canary has room: a difference that nobody minds is no regression.
static const uint64_t *limits_of(const struct rollout_yardstick *by, uint32_t place)
{
    return place == ROLLOUT_ARM_CANARY ? by->worse_us : by->edges.edge_us;
}

static void count_slow(const struct rollout_yardstick *by, struct sheet_counts *counts, uint32_t place,
                       uint64_t elapsed_us)
{
    const uint64_t *limits = limits_of(by, place);
    for (int k = 0; k < ROLLOUT_EDGES; k++) {
        if (elapsed_us > limits[k])
            sheet_add32(&counts->slow[k], 1);
        if (elapsed_us > by->margin_us[k])
            sheet_add32(&counts->slow_margin[k], 1);
    }
}

// Whoever leaves early hides how slow the version is; whoever left after every limit has shown it.
static bool is_excused(const struct rollout_yardstick *by, uint32_t place,
                       const struct sheet_outcome *outcome)
{
    if (!outcome->aborted || outcome->failed)
        return false;
    return !outcome->measured || outcome->elapsed_us <= limits_of(by, place)[ROLLOUT_EDGES - 1] ||
           outcome->elapsed_us <= by->margin_us[ROLLOUT_EDGES - 1];
}

bool sheet_complete(struct sheet *sheet, uint64_t number, uint32_t place, const struct sheet_outcome *outcome)
{
    struct sheet_span *span = span_alive(sheet, number);
    if (UNLIKELY(span == NULL)) {
        if (number != SHEET_SPAN_NONE)
            sheet_add64(&sheet->late, 1);
        return false;
    }
    struct sheet_counts *counts = &span->places[place];
    if (is_excused(&span->yardstick, place, outcome)) {
        add_release(&counts->excused);
        return false;
    }
    if (outcome->measured)
        count_slow(&span->yardstick, counts, place, outcome->elapsed_us);
    bool good = outcome->ok && outcome->elapsed_us <= span->yardstick.deadline_us;
    if (good)
        sheet_add32(&counts->good, 1);
    if (outcome->failed)
        sheet_add32(&counts->failed, 1);
    if (outcome->status / 100 == 3)
        sheet_add32(&counts->redirects, 1);
    if (outcome->status / 100 == 4)
        sheet_add32(&counts->client_errors, 1);
    add_release(&counts->completed);
    return good;
}

// ---- the reader ----

static uint32_t load32(const _Atomic uint32_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static struct rollout_counts counts_read(const struct sheet_counts *counts)
{
    struct rollout_counts now;
    // First: whatever is seen as completed has its details written.
    now.completed = atomic_load_explicit(&counts->completed, memory_order_acquire);
    now.excused = atomic_load_explicit(&counts->excused, memory_order_acquire);
    now.errors = load32(&counts->errors);
    now.error_events = load32(&counts->error_events);
    for (int k = 0; k < ROLLOUT_EDGES; k++) {
        now.slow[k] = load32(&counts->slow[k]);
        now.slow_margin[k] = load32(&counts->slow_margin[k]);
    }
    now.good = load32(&counts->good);
    now.units = load32(&counts->units);
    now.failed = load32(&counts->failed);
    now.redirects = load32(&counts->redirects);
    now.client_errors = load32(&counts->client_errors);
    now.unit_squares = load32(&counts->unit_squares);
    now.routed = load32(&counts->routed);
    return now;
}

// into += now - seen, member by member. True when anything changed.
static bool counts_add_change(struct rollout_counts *into, const struct rollout_counts *now,
                              const struct rollout_counts *seen)
{
    _Static_assert(sizeof(struct rollout_counts) % sizeof(uint32_t) == 0, "nothing but uint32_t");
    uint32_t *sum = (uint32_t *)into;
    const uint32_t *a = (const uint32_t *)now, *b = (const uint32_t *)seen;
    uint32_t changed = 0;
    for (size_t i = 0; i < sizeof *into / sizeof *sum; i++) {
        sum[i] += a[i] - b[i];
        changed |= a[i] ^ b[i];
    }
    return changed != 0;
}

static bool span_read(struct sheet *sheet, uint64_t number, struct rollout_span_delta *delta)
{
    const struct sheet_span *span = span_at(sheet, number);
    struct rollout_counts *seen = sheet->seen[number & (SHEET_SPANS - 1)];
    bool changed = false;
    delta->weight = span->weight;
    delta->weight_control = span->weight_control;
    for (int place = 0; place < SHEET_PLACES; place++) {
        struct rollout_counts now = counts_read(&span->places[place]);
        struct rollout_counts *into = place == SHEET_RING ? &delta->ring : &delta->arms[place];
        changed |= counts_add_change(into, &now, &seen[place]);
        seen[place] = now;
    }
    return changed;
}

static bool name_before(const struct sheet_span *span, uint64_t tick, uint64_t table)
{
    return span->tick < tick || (span->tick == tick && span->table < table);
}

struct gather {
    struct sheet *const *sheets;
    uint32_t count;
    uint64_t watermark;
    uint64_t cursor[PROXY_WORKERS_MAX]; // next span to tell
    uint64_t head[PROXY_WORKERS_MAX];
};

static void gather_start(struct gather *gather)
{
    for (uint32_t i = 0; i < gather->count; i++) {
        struct sheet *sheet = gather->sheets[i];
        gather->cursor[i] = sheet == NULL ? 0 : atomic_load_explicit(&sheet->tail, memory_order_relaxed);
        gather->head[i] = sheet == NULL ? 0 : atomic_load_explicit(&sheet->head, memory_order_acquire);
    }
}

// The earliest name that any worker has yet to tell. False when none is left before the watermark.
static bool gather_next(const struct gather *gather, struct rollout_span_delta *delta)
{
    bool found = false;
    for (uint32_t i = 0; i < gather->count; i++) {
        if (gather->cursor[i] >= gather->head[i])
            continue;
        const struct sheet_span *span = span_at(gather->sheets[i], gather->cursor[i]);
        if (span->tick >= gather->watermark || (found && !name_before(span, delta->tick, delta->table)))
            continue;
        *delta = (struct rollout_span_delta){.tick = span->tick, .table = span->table};
        found = true;
    }
    return found;
}

static bool gather_span(struct gather *gather, struct rollout_span_delta *delta)
{
    bool changed = false;
    for (uint32_t i = 0; i < gather->count; i++) {
        while (gather->cursor[i] < gather->head[i]) {
            const struct sheet_span *span = span_at(gather->sheets[i], gather->cursor[i]);
            if (span->tick != delta->tick || span->table != delta->table)
                break;
            changed |= span_read(gather->sheets[i], gather->cursor[i]++, delta);
        }
    }
    return changed;
}

static uint32_t span_pending(const struct rollout_counts *seen)
{
    uint32_t pending = 0;
    for (int place = 0; place < SHEET_PLACES; place++)
        pending += seen[place].routed - seen[place].completed - seen[place].excused;
    return pending;
}

// Lets go of the oldest spans that were told in full: complete, or past their deadline.
static void sheet_release(struct sheet *sheet, uint64_t told, uint64_t tick_now)
{
    uint64_t tail = atomic_load_explicit(&sheet->tail, memory_order_relaxed);
    for (; tail < told; tail++) {
        const struct sheet_span *span = span_at(sheet, tail);
        struct rollout_counts *seen = sheet->seen[tail & (SHEET_SPANS - 1)];
        uint32_t pending = span_pending(seen);
        uint64_t ticks = span->yardstick.deadline_us / (ROLLOUT_TICK_MS * 1000) + SHEET_SLACK_TICKS;
        if (pending > 0 && tick_now < span->tick + ticks)
            break;
        sheet_add64(&sheet->pending_dropped, pending);
        memset(seen, 0, sizeof sheet->seen[0]);
    }
    atomic_store_explicit(&sheet->tail, tail, memory_order_release);
}

uint32_t sheet_gather(struct sheet *const *sheets, uint32_t count, uint64_t watermark, uint64_t tick_now,
                      struct rollout_span_delta *out, uint32_t cap, bool *more, bool *held)
{
    CHECK(count <= PROXY_WORKERS_MAX);
    struct gather gather = {.sheets = sheets, .count = count, .watermark = watermark};
    gather_start(&gather);
    struct rollout_span_delta delta;
    uint32_t told = 0;
    bool left;
    while ((left = gather_next(&gather, &delta)) && told < cap)
        if (gather_span(&gather, &delta))
            out[told++] = delta;
    *more = left;
    *held = false;
    for (uint32_t i = 0; i < count; i++) {
        if (sheets[i] == NULL)
            continue;
        *held |= gather.cursor[i] < gather.head[i];
        sheet_release(sheets[i], gather.cursor[i], tick_now);
    }
    return told;
}

// ---- shared ----

// The state of a unit: the second in which it was seen last plus one (22 bits, round after 48 days), how
// many were judged (16 bits, at most), the tick of the error that counts plus one (26 bits, round after 77
// days).
enum { UNIT_SECOND_BITS = 22, UNIT_JUDGED_BITS = 16, UNIT_ERROR_BITS = 26 };
_Static_assert(UNIT_SECOND_BITS + UNIT_JUDGED_BITS + UNIT_ERROR_BITS == 64, "one word");

struct unit_state {
    uint64_t second, judged, error;
};

static uint64_t low_bits(uint64_t value, int bits)
{
    return value & ((UINT64_C(1) << bits) - 1);
}

static struct unit_state unit_unpack(uint64_t word)
{
    return (struct unit_state){.second = low_bits(word, UNIT_SECOND_BITS),
                               .judged = low_bits(word >> UNIT_SECOND_BITS, UNIT_JUDGED_BITS),
                               .error = word >> (UNIT_SECOND_BITS + UNIT_JUDGED_BITS)};
}

static uint64_t unit_pack(const struct unit_state *state)
{
    return state->second | state->judged << UNIT_SECOND_BITS |
           state->error << (UNIT_SECOND_BITS + UNIT_JUDGED_BITS);
}

// Never 0, which is "nothing".
static uint64_t stamp(uint64_t value, int bits)
{
    uint64_t low = low_bits(value + 1, bits);
    return low > 0 ? low : 1;
}

// The unit's slot, made when there is none. NULL: no room.
static struct sheet_unit *unit_find(struct sheet_units *units, uint64_t unit_hash, bool *made)
{
    uint64_t key = unit_hash | 1;
    *made = false;
    for (uint64_t i = 0; i < SHEET_UNIT_PROBES; i++) {
        struct sheet_unit *slot = &units->slots[((unit_hash >> 1) + i) % SHEET_UNITS];
        uint64_t held = atomic_load_explicit(&slot->key, memory_order_relaxed);
        if (held == 0 && atomic_compare_exchange_strong_explicit(&slot->key, &held, key, memory_order_relaxed,
                                                                 memory_order_relaxed)) {
            *made = true;
            return slot;
        }
        if (held == key)
            return slot;
    }
    return NULL;
}

static uint64_t read64(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

// Whether a unit that was seen in so many seconds is much busier than is usual.
static bool is_busy(const struct sheet_units *units, uint64_t seconds)
{
    return seconds >= SHEET_UNIT_PART && (double)seconds * (double)read64(&units->seconds) >=
                                             SHEET_UNIT_TIMES * (double)read64(&units->squares);
}

static void unit_seen(struct sheet_units *units, struct sheet_unit *slot, uint64_t seconds)
{
    atomic_store_explicit(&slot->seconds, seconds + 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&units->seconds, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&units->squares, 2 * seconds + 1, memory_order_relaxed);
}

struct sheet_sighting sheet_unit_see(struct sheet_units *units, uint64_t unit_hash, uint64_t tick)
{
    struct sheet_sighting sighting = {.first = false};
    struct sheet_unit *slot = unit_find(units, unit_hash, &sighting.first);
    if (slot == NULL) // judged as if it came this once: else the busiest services would be seen least
        return (struct sheet_sighting){.judged = true, .no_room = true, .squares = 1};
    uint64_t second = stamp(tick / (1000 / ROLLOUT_TICK_MS), UNIT_SECOND_BITS);
    uint64_t word = read64(&slot->state);
    struct unit_state state, next;
    uint64_t seconds;
    bool judged;
    do {
        next = state = unit_unpack(word);
        if (state.second == second)
            return sighting;
        seconds = read64(&slot->seconds);
        judged = !is_busy(units, seconds) || seconds % SHEET_UNIT_THIN == 0;
        next.second = second;
        if (judged && state.judged < (UINT64_C(1) << UNIT_JUDGED_BITS) - 1)
            next.judged++;
    } while (!atomic_compare_exchange_weak_explicit(&slot->state, &word, unit_pack(&next),
                                                    memory_order_relaxed, memory_order_relaxed));
    unit_seen(units, slot, seconds);
    sighting.judged = judged;
    sighting.squares = judged ? (uint32_t)(2 * state.judged + 1) : 0;
    return sighting;
}

bool sheet_unit_erred(struct sheet_units *units, uint64_t unit_hash, uint64_t tick, uint64_t window_ticks)
{
    bool made;
    struct sheet_unit *slot = unit_find(units, unit_hash, &made);
    if (slot == NULL)
        return false;
    uint64_t now = stamp(tick, UNIT_ERROR_BITS);
    uint64_t word = atomic_load_explicit(&slot->state, memory_order_relaxed);
    for (;;) {
        struct unit_state state = unit_unpack(word);
        bool within = window_ticks == 0 || low_bits(now - state.error, UNIT_ERROR_BITS) < window_ticks;
        if (state.error != 0 && within)
            return false;
        state.error = now;
        if (atomic_compare_exchange_weak_explicit(&slot->state, &word, unit_pack(&state),
                                                  memory_order_relaxed, memory_order_relaxed))
            return true;
    }
}

void sheet_units_clear(struct sheet_units *units)
{
    atomic_store_explicit(&units->seconds, 0, memory_order_relaxed);
    atomic_store_explicit(&units->squares, 0, memory_order_relaxed);
    for (size_t i = 0; i < SHEET_UNITS; i++) {
        atomic_store_explicit(&units->slots[i].key, 0, memory_order_relaxed);
        atomic_store_explicit(&units->slots[i].state, 0, memory_order_relaxed);
        atomic_store_explicit(&units->slots[i].seconds, 0, memory_order_relaxed);
    }
}

// ---- versions ----

void version_latency_record(struct version_sheet *sheet, uint64_t latency_us)
{
    sheet_add64(&sheet->latency_count, 1);
    sheet_add64(&sheet->latency_sum, latency_us);
    sheet_add32(&sheet->latency[stats_histogram_index(latency_us)], 1);
}

void version_latency_add_to(struct version_sheet *sheet, struct stats_histogram *histogram)
{
    // The buckets are read one by one while the worker goes on: count is made from them, so that it is their
    // sum.
    histogram->sum += atomic_load_explicit(&sheet->latency_sum, memory_order_relaxed);
    for (uint32_t i = 0; i < STATS_HISTOGRAM_BUCKETS; i++) {
        uint32_t n = atomic_load_explicit(&sheet->latency[i], memory_order_relaxed);
        histogram->buckets[i] += n;
        histogram->count += n;
    }
}
