// SPDX-License-Identifier: Apache-2.0
// rollout/failures: the heaviest are found among a crowd, sums over workers, how many addresses, the words.
#include <stdio.h>

#include "base/heap.h"
#include "base/rng.h"
#include "ship/rollout/failures.h"
#include "test.h"

static void note(struct rollout_failures *failures, enum rollout_failing kind, enum rollout_arm arm,
                 const char *route, const char *address)
{
    rollout_failures_note(failures, kind, arm, slice_of(route), slice_of(address));
}

// Two workers see a route that makes a tenth of the failures among thousands that come once.
TEST(the_heaviest_are_found_in_a_crowd)
{
    struct rollout_failures *workers = heap_alloc(3, sizeof *workers);
    struct rng rng;
    rng_init(&rng, 7);
    char route[64], address[64];
    for (int i = 0; i < 20000; i++) {
        snprintf(route, sizeof route, "GET /scan/x%d 404", i);
        snprintf(address, sizeof address, "10.0.%d.%d", i / 256 % 4, i % 256);
        bool heavy = rng_below(&rng, 10) == 0;
        note(&workers[i % 2], ROLLOUT_FAILING_ERRORS, ROLLOUT_ARM_CANARY, heavy ? "POST /cart 500" : route,
             heavy ? "192.0.2.1" : address);
    }
    rollout_failures_merge(&workers[2], &workers[0]);
    rollout_failures_merge(&workers[2], &workers[1]);
    const struct rollout_failed *failed = &workers[2].kinds[ROLLOUT_FAILING_ERRORS];
    assert_int_equal(failed->arms[ROLLOUT_ARM_CANARY], 20000);
    const struct rollout_failure *top[ROLLOUT_FAILURES_SHOWN];
    assert_true(rollout_failures_top(failed->routes, top) > 0);
    assert_string_equal(top[0]->what, "POST /cart 500");
    // What it had before it got its place is missing, and no more than that.
    assert_in_range(top[0]->arms[ROLLOUT_ARM_CANARY], 1700, 2200);
    assert_true(rollout_failures_top(failed->addresses, top) > 0);
    assert_string_equal(top[0]->what, "192.0.2.1");
    assert_in_range(rollout_failures_addresses(failed), 900, 1150); // 1 024 and one
    heap_free(workers);
}

TEST(few_addresses_are_told_exactly)
{
    struct rollout_failures *failures = heap_alloc(1, sizeof *failures);
    assert_int_equal(rollout_failures_addresses(&failures->kinds[0]), 0);
    for (uint64_t n = 1; n <= 12; n++) {
        char address[64];
        snprintf(address, sizeof address, "192.0.2.%d", (int)n);
        note(failures, ROLLOUT_FAILING_SLOW, ROLLOUT_ARM_CANARY, "GET /", address);
        note(failures, ROLLOUT_FAILING_SLOW, ROLLOUT_ARM_STABLE, "GET /", "198.51.100.1"); // not the canary's
        assert_int_equal(rollout_failures_addresses(&failures->kinds[ROLLOUT_FAILING_SLOW]), n);
    }
    heap_free(failures);
}

TEST(words_name_routes_and_addresses)
{
    struct rollout_failures *failures = heap_alloc(1, sizeof *failures);
    char text[ROLLOUT_FAILURES_TEXT_BYTES];
    rollout_failures_words(failures, "errors", "v2", "v1", text);
    assert_string_equal(text, "");
    for (int i = 0; i < 9; i++)
        note(failures, ROLLOUT_FAILING_ERRORS, ROLLOUT_ARM_CANARY,
             i < 6 ? "POST /cart 500" : "GET / (time-out)", i < 8 ? "192.0.2.1" : "192.0.2.9");
    note(failures, ROLLOUT_FAILING_ERRORS, ROLLOUT_ARM_STABLE, "GET / (time-out)", "192.0.2.7");
    note(failures, ROLLOUT_FAILING_SLOW, ROLLOUT_ARM_CANARY, "GET /slow", "192.0.2.1");
    note(failures, ROLLOUT_FAILING_REFUSED, ROLLOUT_ARM_CANARY, "GET /x 401", "192.0.2.1");
    rollout_failures_words(failures, "errors", "v2", "v1", text);
    assert_string_equal(
        text, "Where v2 failed (9; v1 1): POST /cart 500 (6), GET / (time-out) (3); from 2 addresses: "
              "192.0.2.1 (8), 192.0.2.9 (1).");
    rollout_failures_words(failures, "latency p99", "v2", "v1", text);
    assert_string_equal(text, "Where v2 was slow (1; v1 0): GET /slow (1); from 1 address: 192.0.2.1 (1).");
    rollout_failures_words(failures, "statuses 4xx", "v2", "v1", text);
    assert_string_equal(
        text, "Where v2 answered 3xx or 4xx (1; v1 0): GET /x 401 (1); from 1 address: 192.0.2.1 (1).");
    rollout_failures_words(failures, "throughput", "v2", "v1", text);
    assert_non_null(strstr(text, "Where v2 failed"));
    assert_non_null(strstr(text, "Where v2 was slow"));
    heap_free(failures);
}

// Names of any length, empty ones, and one bucket hit for ever.
TEST(hostile_names_are_cut)
{
    struct rollout_failures *failures = heap_alloc(1, sizeof *failures);
    char name[400];
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    for (int i = 0; i < 300; i++) {
        name[i % 300] = (char)(0x80 + i % 100); // no UTF-8
        note(failures, ROLLOUT_FAILING_ERRORS, ROLLOUT_ARM_CANARY, name, name);
        note(failures, ROLLOUT_FAILING_ERRORS, ROLLOUT_ARM_CANARY, "", "");
    }
    char text[ROLLOUT_FAILURES_TEXT_BYTES];
    rollout_failures_words(failures, "errors", name, name, text);
    assert_true(strlen(text) < ROLLOUT_FAILURES_TEXT_BYTES);
    const struct rollout_failure *top[ROLLOUT_FAILURES_SHOWN];
    uint32_t count = rollout_failures_top(failures->kinds[0].routes, top);
    for (uint32_t i = 0; i < count; i++)
        assert_true(strlen(top[i]->what) < ROLLOUT_FAILURE_BYTES);
    heap_free(failures);
}
