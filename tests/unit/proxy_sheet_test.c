// SPDX-License-Identifier: Apache-2.0
// Sheets: every request in the span it was routed in, nothing told twice, nothing lost without being counted.
#include "base/check.h"
#include "base/heap.h"
#include "base/rng.h"
#include "net/proxy/sheet.h"
#include "test.h"

static struct proxy_service service = {
    .weight = 10000,
    .yardstick = {.deadline_us = 1000000,
                  .edges = {.requests = 10000, .edge_us = {1000, 2000, 3000, 4000}},
                  .worse_us = {1000, 2000, 3000, 4000},
                  .margin_us = {1250, 2500, 3750, 5000}},
};

static const struct sheet_sighting own = {.first = true, .judged = true}, known = {.judged = true};

static struct sheet *sheet_create(void)
{
    struct sheet *sheet = heap_alloc_aligned((sizeof *sheet + 63) & ~(size_t)63);
    assert_non_null(sheet);
    return sheet;
}

static uint32_t gather(struct sheet *sheet, uint64_t watermark, struct rollout_span_delta *out)
{
    bool more, held;
    return sheet_gather(&sheet, 1, watermark, watermark, out, 64, &more, &held);
}

TEST(completion_goes_to_the_routing_tick)
{
    struct sheet *sheet = sheet_create();
    struct rollout_span_delta out[64];
    struct sheet_outcome slow = {.elapsed_us = 2600, .ok = true, .measured = true};
    uint64_t first = sheet_route(sheet, 5, 1, &service, ROLLOUT_ARM_CANARY, &own);
    uint64_t second = sheet_route(sheet, 6, 1, &service, ROLLOUT_ARM_STABLE, &known);
    uint64_t third = sheet_route(sheet, 6, 2, &service, ROLLOUT_ARM_STABLE, &known);
    assert_true(first != second && second != third);
    // Nothing of a tick that is not over.
    assert_int_equal(gather(sheet, 5, out), 0);
    assert_int_equal(gather(sheet, 7, out), 3);
    assert_int_equal(out[0].tick, 5);
    assert_int_equal(out[0].weight, 10000);
    assert_int_equal(out[0].arms[ROLLOUT_ARM_CANARY].routed, 1);
    assert_int_equal(out[0].arms[ROLLOUT_ARM_CANARY].units, 1);
    assert_int_equal(out[1].tick, 6);
    assert_int_equal(out[1].table, 1);
    assert_int_equal(out[2].table, 2);
    assert_true(sheet_complete(sheet, first, ROLLOUT_ARM_CANARY, &slow));
    assert_int_equal(gather(sheet, 7, out), 1);
    assert_int_equal(out[0].tick, 5);
    const struct rollout_counts *canary = &out[0].arms[ROLLOUT_ARM_CANARY];
    assert_int_equal(canary->routed, 0);
    assert_int_equal(canary->completed, 1);
    assert_int_equal(canary->good, 1);
    assert_int_equal(canary->slow[0], 1);
    assert_int_equal(canary->slow[1], 1);
    assert_int_equal(canary->slow[2], 0);
    assert_int_equal(canary->slow_margin[1], 1);
    assert_int_equal(canary->slow_margin[2], 0);
    assert_int_equal(gather(sheet, 7, out), 0);
    heap_free(sheet);
}

TEST(the_canary_has_its_room)
{
    struct sheet *sheet = sheet_create();
    struct rollout_span_delta out[64];
    struct proxy_service slacked = service;
    memcpy(slacked.yardstick.worse_us, (uint64_t[]){1500, 2500, 3500, 4500},
           sizeof slacked.yardstick.worse_us);
    struct sheet_outcome near = {.elapsed_us = 2400, .ok = true, .measured = true};
    uint64_t canary = sheet_route(sheet, 1, 1, &slacked, ROLLOUT_ARM_CANARY, &own);
    uint64_t stable = sheet_route(sheet, 1, 1, &slacked, ROLLOUT_ARM_STABLE, &own);
    assert_true(sheet_complete(sheet, canary, ROLLOUT_ARM_CANARY, &near));
    assert_true(sheet_complete(sheet, stable, ROLLOUT_ARM_STABLE, &near));
    assert_int_equal(gather(sheet, 2, out), 1);
    assert_int_equal(out[0].arms[ROLLOUT_ARM_STABLE].slow[1], 1);
    assert_int_equal(out[0].arms[ROLLOUT_ARM_CANARY].slow[1], 0);
    assert_int_equal(out[0].arms[ROLLOUT_ARM_CANARY].slow[0], 1);
    heap_free(sheet);
}

TEST(good_only_within_the_deadline)
{
    struct sheet *sheet = sheet_create();
    struct rollout_span_delta out[64];
    struct sheet_outcome late = {.elapsed_us = 1000001, .ok = true, .measured = true};
    struct sheet_outcome failed = {.elapsed_us = 10, .status = 503, .measured = true, .failed = true};
    struct sheet_outcome aborted = {.elapsed_us = 900, .measured = true, .aborted = true};
    uint64_t span = sheet_route(sheet, 1, 1, &service, ROLLOUT_ARM_STABLE, &own);
    for (int i = 0; i < 2; i++)
        assert_true(sheet_route(sheet, 1, 1, &service, ROLLOUT_ARM_STABLE, &own) == span);
    assert_false(sheet_complete(sheet, span, ROLLOUT_ARM_STABLE, &late));
    sheet_error(sheet, span, ROLLOUT_ARM_STABLE, true);
    sheet_error(sheet, span, ROLLOUT_ARM_STABLE, false);
    assert_false(sheet_complete(sheet, span, ROLLOUT_ARM_STABLE, &failed));
    assert_false(sheet_complete(sheet, span, ROLLOUT_ARM_STABLE, &aborted));
    assert_int_equal(gather(sheet, 2, out), 1);
    const struct rollout_counts *stable = &out[0].arms[ROLLOUT_ARM_STABLE];
    assert_int_equal(stable->routed, 3);
    assert_int_equal(stable->completed, 2);
    assert_int_equal(stable->excused, 1); // who leaves early hides how long it would have taken
    assert_int_equal(stable->failed, 1);
    assert_int_equal(stable->good, 0);
    assert_int_equal(stable->errors, 2);
    assert_int_equal(stable->error_events, 1);
    assert_int_equal(stable->slow[3], 1); // the late one
    heap_free(sheet);
}

// A client that waited longer than any limit before it left has shown how slow the version is.
TEST(who_leaves_late_counts_as_slow)
{
    struct sheet *sheet = sheet_create();
    struct rollout_span_delta out[64];
    struct sheet_outcome left = {.elapsed_us = 900000, .measured = true, .aborted = true};
    struct sheet_outcome uploading = {.elapsed_us = 900000, .aborted = true};
    uint64_t span = sheet_route(sheet, 1, 1, &service, ROLLOUT_ARM_STABLE, &own);
    (void)sheet_route(sheet, 1, 1, &service, ROLLOUT_ARM_STABLE, &own);
    assert_false(sheet_complete(sheet, span, ROLLOUT_ARM_STABLE, &left));
    assert_false(sheet_complete(sheet, span, ROLLOUT_ARM_STABLE, &uploading));
    assert_int_equal(gather(sheet, 2, out), 1);
    const struct rollout_counts *stable = &out[0].arms[ROLLOUT_ARM_STABLE];
    assert_int_equal(stable->completed, 1);
    assert_int_equal(stable->slow[3], 1);
    assert_int_equal(stable->excused, 1);
    heap_free(sheet);
}

TEST(classes_of_statuses_are_counted)
{
    struct sheet *sheet = sheet_create();
    struct rollout_span_delta out[64];
    static const uint16_t statuses[] = {200, 302, 304, 401, 404, 499, 503};
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        struct sheet_outcome outcome = {.elapsed_us = 1, .status = statuses[i], .ok = true, .measured = true};
        uint64_t span = sheet_route(sheet, 1, 1, &service, ROLLOUT_ARM_CANARY, &own);
        (void)sheet_complete(sheet, span, ROLLOUT_ARM_CANARY, &outcome);
    }
    assert_int_equal(gather(sheet, 2, out), 1);
    assert_int_equal(out[0].arms[ROLLOUT_ARM_CANARY].redirects, 2);
    assert_int_equal(out[0].arms[ROLLOUT_ARM_CANARY].client_errors, 3);
    heap_free(sheet);
}

TEST(spans_are_let_go)
{
    struct sheet *sheet = sheet_create();
    struct rollout_span_delta out[64];
    struct sheet_outcome ok = {.elapsed_us = 10, .ok = true, .measured = true};
    uint64_t hanging = sheet_route(sheet, 1, 1, &service, ROLLOUT_ARM_STABLE, &own);
    assert_int_equal(gather(sheet, 2, out), 1);
    assert_int_equal(gather(sheet, 1 + 10 + SHEET_SLACK_TICKS - 1, out), 0);
    assert_int_equal(atomic_load(&sheet->tail), 0);
    assert_int_equal(gather(sheet, 1 + 10 + SHEET_SLACK_TICKS, out), 0);
    assert_int_equal(atomic_load(&sheet->tail), 1);
    assert_int_equal(atomic_load(&sheet->pending_dropped), 1);
    (void)sheet_complete(sheet, hanging, ROLLOUT_ARM_STABLE, &ok);
    assert_int_equal(atomic_load(&sheet->late), 1);
    // Nobody gathers: the ring fills, and what does not fit is counted.
    for (uint64_t tick = 100; tick < 100 + SHEET_SPANS; tick++)
        assert_true(sheet_route(sheet, tick, 1, &service, ROLLOUT_ARM_STABLE, &own) != SHEET_SPAN_NONE);
    assert_true(sheet_route(sheet, 5000, 1, &service, ROLLOUT_ARM_STABLE, &own) == SHEET_SPAN_NONE);
    assert_int_equal(atomic_load(&sheet->unspanned), 1);
    assert_false(sheet_complete(sheet, SHEET_SPAN_NONE, ROLLOUT_ARM_STABLE, &ok));
    heap_free(sheet);
}

// Two workers, random work: the deltas add up to what was counted, in order, whatever the cap.
// Long because one random run is set up, driven and checked in one place.
TEST(deltas_add_up)
{
    struct sheet *sheets[2] = {sheet_create(), sheet_create()};
    struct rng rng;
    rng_init(&rng, 3);
    struct {
        uint64_t span;
        uint32_t worker;
        enum rollout_arm arm;
    } pending[512];
    uint32_t n = 0;
    struct rollout_counts want[ROLLOUT_ARMS] = {0}, got[ROLLOUT_ARMS] = {0};
    struct sheet_outcome ok = {.elapsed_us = 10, .ok = true, .measured = true};
    for (uint64_t tick = 1; tick < 3000; tick++) {
        for (uint64_t i = rng_below(&rng, 6); i > 0 && n < 512; i--) {
            uint32_t worker = (uint32_t)rng_below(&rng, 2);
            enum rollout_arm arm = (enum rollout_arm)rng_below(&rng, ROLLOUT_ARMS);
            pending[n].span = sheet_route(sheets[worker], tick, 1 + tick / 7, &service, arm, &own);
            pending[n].worker = worker;
            pending[n++].arm = arm;
            want[arm].routed++;
        }
        for (uint64_t i = rng_below(&rng, 6); i > 0 && n > 0; i--) {
            uint32_t k = (uint32_t)rng_below(&rng, n);
            (void)sheet_complete(sheets[pending[k].worker], pending[k].span, pending[k].arm, &ok);
            want[pending[k].arm].completed++;
            pending[k] = pending[--n];
        }
        if (rng_below(&rng, 4) != 0)
            continue;
        struct rollout_span_delta out[3];
        bool more = true, held;
        uint64_t last = 0;
        while (more) {
            uint32_t told = sheet_gather(sheets, 2, tick, tick, out, 3, &more, &held);
            for (uint32_t i = 0; i < told; i++) {
                assert_true(out[i].tick > last && out[i].tick < tick);
                last = out[i].tick;
                for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
                    got[arm].routed += out[i].arms[arm].routed;
                    got[arm].completed += out[i].arms[arm].completed;
                }
            }
        }
    }
    while (n-- > 0) {
        (void)sheet_complete(sheets[pending[n].worker], pending[n].span, pending[n].arm, &ok);
        want[pending[n].arm].completed++;
    }
    struct rollout_span_delta out[64];
    bool more = true, held;
    while (more) {
        uint32_t told = sheet_gather(sheets, 2, UINT64_MAX, 3000, out, 64, &more, &held);
        for (uint32_t i = 0; i < told; i++)
            for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
                got[arm].routed += out[i].arms[arm].routed;
                got[arm].completed += out[i].arms[arm].completed;
            }
    }
    uint64_t late = 0, dropped = 0;
    for (int i = 0; i < 2; i++) {
        late += sheets[i]->late;
        dropped += sheets[i]->pending_dropped;
    }
    assert_int_equal(late, dropped);
    uint64_t completed_want = 0, completed_got = 0;
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
        assert_int_equal(got[arm].routed, want[arm].routed);
        completed_want += want[arm].completed;
        completed_got += got[arm].completed;
    }
    assert_int_equal(completed_got + late, completed_want);
    assert_false(held);
    heap_free(sheets[0]);
    heap_free(sheets[1]);
}

TEST(a_units_part_is_bounded)
{
    struct sheet_units *units = heap_alloc_aligned(sizeof *units);
    assert_non_null(units);
    uint64_t unit = 0x1234567890abcdef, other = unit ^ (UINT64_C(1) << 60);
    struct sheet_sighting seen = sheet_unit_see(units, unit, 100);
    assert_true(seen.first && seen.judged);
    assert_int_equal(seen.squares, 1);
    // The same second, however often; then the next, by its growing square.
    for (int i = 0; i < 3; i++) {
        seen = sheet_unit_see(units, unit, 101 + (uint64_t)i);
        assert_false(seen.first || seen.judged);
        assert_int_equal(seen.squares, 0);
    }
    seen = sheet_unit_see(units, unit, 110);
    assert_true(seen.judged && !seen.first);
    assert_int_equal(seen.squares, 3);
    assert_int_equal(sheet_unit_see(units, unit, 125).squares, 5);
    assert_true(sheet_unit_see(units, other, 125).first);
    // Its first error counts, and after a window one again.
    assert_true(sheet_unit_erred(units, unit, 100, 50));
    assert_false(sheet_unit_erred(units, unit, 101, 50));
    assert_true(sheet_unit_erred(units, other, 101, 50));
    assert_false(sheet_unit_erred(units, unit, 149, 50));
    assert_true(sheet_unit_erred(units, unit, 150, 50));
    assert_false(sheet_unit_erred(units, unit, 100000, 0));
    sheet_units_clear(units);
    assert_true(sheet_unit_see(units, unit, 126).first);
    heap_free(units);
}

static uint64_t judged_of(struct sheet_units *units, const uint64_t *hashes, int count, uint64_t tick)
{
    uint64_t judged = 0;
    for (int i = 0; i < count; i++)
        judged += sheet_unit_see(units, hashes[i], tick).judged;
    return judged;
}

// One that asks each second beside a hundred that ask now and then is soon judged rarely; where all ask
// alike, all are judged.
TEST(a_busy_unit_is_judged_rarely)
{
    struct sheet_units *units = heap_alloc_aligned(sizeof *units);
    assert_non_null(units);
    struct rng rng;
    uint64_t busy = 12345, others[100], tick = 0, judged = 0;
    rng_init(&rng, 5);
    for (int i = 0; i < 100; i++)
        others[i] = rng_next(&rng);
    for (int second = 0; second < 320; second++, tick += 10) {
        if (second % 40 == 0)
            assert_int_equal(judged_of(units, others, 100, tick), 100);
        struct sheet_sighting seen = sheet_unit_see(units, busy, tick);
        judged += seen.judged;
        assert_true(seen.judged == (seen.squares > 0));
    }
    assert_in_range(judged, SHEET_UNIT_PART + 320 / SHEET_UNIT_THIN - 1,
                    SHEET_UNIT_PART + 320 / SHEET_UNIT_THIN + 1);
    sheet_units_clear(units);
    for (int second = 0; second < 100; second++)
        assert_int_equal(judged_of(units, others, 100, tick += 10), 100);
    heap_free(units);
}

// Units that come once, however many, take nobody out of the evidence for good.
TEST(who_comes_once_silences_nobody)
{
    struct sheet_units *units = heap_alloc_aligned(sizeof *units);
    assert_non_null(units);
    struct rng rng;
    uint64_t users[200], tick = 0, judged = 0;
    rng_init(&rng, 7);
    for (int i = 0; i < 200; i++)
        users[i] = rng_next(&rng);
    for (int i = 0; i < 10; i++)
        assert_int_equal(judged_of(units, users, 200, tick += 50), 200);
    for (int i = 0; i < 40000; i++)
        (void)sheet_unit_see(units, rng_next(&rng), tick);
    for (int i = 0; i < 200; i++)
        judged += judged_of(units, users, 200, tick += 50);
    assert_true(judged >= 200 * 200 / SHEET_UNIT_THIN);
    for (int i = 0; i < 20; i++) // as many requests as those have had: all is as before
        assert_int_equal(judged_of(units, users, 200, tick += 50), 200);
    heap_free(units);
}

// More units than there is room for: those without are judged in nothing, and none of the others is
// forgotten.
TEST(a_full_table_forgets_nobody)
{
    struct sheet_units *units = heap_alloc_aligned(sizeof *units);
    assert_non_null(units);
    struct rng rng;
    uint64_t hash[3];
    rng_init(&rng, 3);
    for (int i = 0; i < 3; i++) {
        hash[i] = rng_next(&rng);
        assert_true(sheet_unit_erred(units, hash[i], 1, 0));
    }
    uint32_t without = 0;
    for (uint32_t i = 0; i < 2 * SHEET_UNITS; i++) {
        struct sheet_sighting seen = sheet_unit_see(units, rng_next(&rng), 1);
        assert_true(seen.judged);
        without += !seen.first;
    }
    assert_true(without > SHEET_UNITS / 2);
    for (int i = 0; i < 3; i++)
        assert_false(sheet_unit_erred(units, hash[i], 1000, 0));
    uint32_t events = 0;
    for (int i = 0; i < 1000; i++)
        events += sheet_unit_erred(units, rng_next(&rng), 1, 0);
    assert_true(events < 500);
    heap_free(units);
}

TEST(who_is_not_judged_is_excused)
{
    struct sheet *sheet = sheet_create();
    struct rollout_span_delta out[64];
    static const struct sheet_sighting crowd = {.first = false, .judged = false};
    assert_true(sheet_route(sheet, 1, 1, &service, ROLLOUT_ARM_CANARY, &crowd) == SHEET_SPAN_NONE);
    assert_int_equal(gather(sheet, 2, out), 1);
    assert_int_equal(out[0].arms[ROLLOUT_ARM_CANARY].routed, 1);
    assert_int_equal(out[0].arms[ROLLOUT_ARM_CANARY].excused, 1);
    heap_free(sheet);
}

// An answer that begins and then breaks off is answered, and failed.
TEST(an_answer_that_breaks_off)
{
    struct sheet *sheet = sheet_create();
    struct rollout_span_delta out[64];
    struct sheet_outcome fine = {.elapsed_us = 1, .status = 200, .ok = true, .measured = true};
    uint64_t span = sheet_route(sheet, 1, 1, &service, ROLLOUT_ARM_CANARY, &own);
    assert_true(sheet_complete(sheet, span, ROLLOUT_ARM_CANARY, &fine));
    assert_int_equal(gather(sheet, 2, out), 1);
    assert_int_equal(out[0].arms[ROLLOUT_ARM_CANARY].completed, 1);
    // Its span may be gone by then: the moment's takes it.
    sheet_broke_off(sheet, 50, 1, &service, ROLLOUT_ARM_CANARY, true);
    assert_int_equal(gather(sheet, 51, out), 1);
    assert_int_equal(out[0].tick, 50);
    const struct rollout_counts *canary = &out[0].arms[ROLLOUT_ARM_CANARY];
    assert_int_equal(canary->routed, 0);
    assert_int_equal(canary->error_events, 1);
    assert_int_equal(canary->failed, 1);
    heap_free(sheet);
}
