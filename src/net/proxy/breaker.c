// SPDX-License-Identifier: Apache-2.0
// Each change of the state is one compare-and-swap of one word; whoever loses looks again. Probes that never
// come back do not hold it half-open for ever: after `open_ms` others are given.
#include "net/proxy/breaker.h"

#include "base/check.h"

// state: 2 bits phase, 7 bits probes given, 7 bits probes that passed, 48 bits milliseconds.
struct word {
    enum breaker_phase phase;
    uint32_t given, passed;
    uint64_t until_ms;
};

static struct word unpack(uint64_t state)
{
    return (struct word){.phase = (enum breaker_phase)(state & 3),
                         .given = (uint32_t)(state >> 2 & 127),
                         .passed = (uint32_t)(state >> 9 & 127),
                         .until_ms = state >> 16};
}

static uint64_t pack(struct word word)
{
    return (uint64_t)word.phase | (uint64_t)word.given << 2 | (uint64_t)word.passed << 9 |
           word.until_ms << 16;
}

static bool change(struct breaker *breaker, uint64_t *seen, struct word to)
{
    return atomic_compare_exchange_strong_explicit(&breaker->state, seen, pack(to), memory_order_relaxed,
                                                   memory_order_relaxed);
}

// ---- the window: 24 bits which part of time, 20 bits requests, 20 bits errors ----

enum { COUNT_MAX = (1 << 20) - 1 };

static uint64_t part_number(const struct breaker_rule *rule, uint64_t now_us)
{
    return (now_us / ((uint64_t)rule->window_ms * 1000 / BREAKER_PARTS)) & 0xffffff;
}

static uint64_t part_of(uint64_t number, uint64_t requests, uint64_t errors)
{
    return number << 40 | requests << 20 | errors;
}

static void count(struct breaker *breaker, uint64_t number, bool failed)
{
    _Atomic uint64_t *part = &breaker->parts[number % BREAKER_PARTS];
    uint64_t seen = atomic_load_explicit(part, memory_order_relaxed), to;
    do {
        uint64_t requests = seen >> 20 & COUNT_MAX, errors = seen & COUNT_MAX;
        if (seen >> 40 != number)
            requests = errors = 0;
        if (requests == COUNT_MAX) {
            requests /= 2; // the share stays
            errors /= 2;
        }
        to = part_of(number, requests + 1, errors + failed);
    } while (
        !atomic_compare_exchange_weak_explicit(part, &seen, to, memory_order_relaxed, memory_order_relaxed));
}

static bool too_many(const struct breaker *breaker, const struct breaker_rule *rule, uint64_t number)
{
    uint64_t requests = 0, errors = 0;
    for (int i = 0; i < BREAKER_PARTS; i++) {
        uint64_t part = atomic_load_explicit(&breaker->parts[i], memory_order_relaxed);
        if (((number - (part >> 40)) & 0xffffff) >= BREAKER_PARTS)
            continue;
        requests += part >> 20 & COUNT_MAX;
        errors += part & COUNT_MAX;
    }
    return requests >= rule->requests_min && errors * BREAKER_FULL >= requests * rule->errors;
}

static void forget(struct breaker *breaker)
{
    for (int i = 0; i < BREAKER_PARTS; i++)
        atomic_store_explicit(&breaker->parts[i], 0, memory_order_relaxed);
}

// ---- the state ----

static void open_now(struct breaker *breaker, const struct breaker_rule *rule, uint64_t *seen,
                     uint64_t now_us)
{
    if (change(breaker, seen,
               (struct word){.phase = BREAKER_OPEN, .until_ms = now_us / 1000 + rule->open_ms}))
        atomic_fetch_add_explicit(&breaker->opened, 1, memory_order_relaxed);
}

enum breaker_pass breaker_ask(struct breaker *breaker, const struct breaker_rule *rule, uint64_t now_us,
                              uint64_t *retry_ms)
{
    uint64_t now_ms = now_us / 1000;
    uint64_t seen = atomic_load_explicit(&breaker->state, memory_order_relaxed);
    for (;;) {
        struct word word = unpack(seen);
        if (word.phase == BREAKER_CLOSED || rule->errors == 0)
            return BREAKER_PASS;
        bool more = word.phase == BREAKER_HALF_OPEN && word.given < rule->probes;
        bool anew = word.until_ms <= now_ms;
        if (!more && !anew) {
            *retry_ms = word.until_ms - now_ms;
            return BREAKER_REFUSE;
        }
        if (more)
            word.given++;
        else
            word = (struct word){.phase = BREAKER_HALF_OPEN, .given = 1, .until_ms = now_ms + rule->open_ms};
        if (change(breaker, &seen, word))
            return BREAKER_PROBE;
    }
}

static void probe_told(struct breaker *breaker, const struct breaker_rule *rule, uint64_t now_us, bool failed)
{
    uint64_t seen = atomic_load_explicit(&breaker->state, memory_order_relaxed);
    for (;;) {
        struct word word = unpack(seen);
        if (word.phase != BREAKER_HALF_OPEN)
            return;
        if (failed) {
            open_now(breaker, rule, &seen, now_us);
            return;
        }
        word.passed++;
        bool all = word.passed >= rule->probes;
        if (all)
            forget(breaker);
        if (change(breaker, &seen, all ? (struct word){.phase = BREAKER_CLOSED} : word))
            return;
    }
}

void breaker_told(struct breaker *breaker, const struct breaker_rule *rule, uint64_t now_us,
                  enum breaker_pass pass, bool failed)
{
    if (rule->errors == 0)
        return;
    if (pass == BREAKER_PROBE) {
        probe_told(breaker, rule, now_us, failed);
        return;
    }
    uint64_t seen = atomic_load_explicit(&breaker->state, memory_order_relaxed);
    if (unpack(seen).phase != BREAKER_CLOSED)
        return; // it was let through before
    uint64_t number = part_number(rule, now_us);
    count(breaker, number, failed);
    if (failed && too_many(breaker, rule, number))
        open_now(breaker, rule, &seen, now_us);
}

void breaker_untold(struct breaker *breaker, enum breaker_pass pass)
{
    uint64_t seen = atomic_load_explicit(&breaker->state, memory_order_relaxed);
    struct word word;
    do {
        word = unpack(seen);
        if (pass != BREAKER_PROBE || word.phase != BREAKER_HALF_OPEN || word.given == word.passed)
            return;
        word.given--;
    } while (!change(breaker, &seen, word));
}

void breaker_forget(struct breaker *breaker)
{
    forget(breaker);
    atomic_store_explicit(&breaker->state, 0, memory_order_relaxed);
}

enum breaker_phase breaker_phase(const struct breaker *breaker)
{
    return unpack(atomic_load_explicit(&breaker->state, memory_order_relaxed)).phase;
}
