// SPDX-License-Identifier: Apache-2.0
// The breaker alone, at exact times.
#include "base/check.h"
#include "net/proxy/breaker.h"
#include "test.h"

static const struct breaker_rule RULE = {
    .errors = 50000, .requests_min = 20, .window_ms = 10000, .open_ms = 5000, .probes = 3};
static const uint64_t SECOND = 1000000;

static struct breaker breaker;
static uint64_t retry_ms;

static int set_up(void **state)
{
    (void)state;
    breaker = (struct breaker){0};
    retry_ms = 0;
    return 0;
}
EACH_TEST(set_up, NULL);

static enum breaker_pass ask(uint64_t now_us)
{
    return breaker_ask(&breaker, &RULE, now_us, &retry_ms);
}

static void tell(uint64_t now_us, int requests, int failed)
{
    for (int i = 0; i < requests; i++) {
        enum breaker_pass pass = ask(now_us);
        assert_int_not_equal(pass, BREAKER_REFUSE);
        breaker_told(&breaker, &RULE, now_us, pass, i >= requests - failed);
    }
}

static void open_it(uint64_t now_us)
{
    tell(now_us, 20, 20);
    assert_int_equal(breaker_phase(&breaker), BREAKER_OPEN);
}

TEST(opens_at_its_share_and_not_before_there_are_enough)
{
    tell(100 * SECOND, 19, 19);
    assert_int_equal(breaker_phase(&breaker), BREAKER_CLOSED);
    tell(100 * SECOND, 1, 1);
    assert_int_equal(breaker_phase(&breaker), BREAKER_OPEN);
    set_up(NULL);
    tell(100 * SECOND, 21, 10);
    assert_int_equal(breaker_phase(&breaker), BREAKER_CLOSED);
    tell(100 * SECOND, 1, 1); // 11 of 22
    assert_int_equal(breaker_phase(&breaker), BREAKER_OPEN);
    assert_int_equal(breaker.opened, 1);
}

TEST(the_window_slides)
{
    tell(100 * SECOND, 19, 19);
    tell(110 * SECOND, 10, 10); // the first nineteen have just fallen out
    tell(111 * SECOND, 9, 9);
    assert_int_equal(breaker_phase(&breaker), BREAKER_CLOSED);
    tell(119 * SECOND + 999999, 1, 1); // the second are still in
    assert_int_equal(breaker_phase(&breaker), BREAKER_OPEN);
    set_up(NULL);
    tell(100 * SECOND, 19, 19);
    tell(125 * SECOND, 1, 1); // in another part of the window
    assert_int_equal(breaker_phase(&breaker), BREAKER_CLOSED);
}

TEST(open_refuses_until_its_time_and_says_when)
{
    open_it(100 * SECOND);
    assert_int_equal(ask(100 * SECOND), BREAKER_REFUSE);
    assert_int_equal(retry_ms, 5000);
    assert_int_equal(ask(105 * SECOND - 1000), BREAKER_REFUSE);
    assert_int_equal(retry_ms, 1);
    assert_int_equal(ask(105 * SECOND), BREAKER_PROBE);
    assert_int_equal(breaker_phase(&breaker), BREAKER_HALF_OPEN);
}

TEST(half_open_gives_its_probes_and_closes_when_all_pass)
{
    open_it(100 * SECOND);
    for (uint32_t i = 0; i < RULE.probes; i++)
        assert_int_equal(ask(105 * SECOND), BREAKER_PROBE);
    assert_int_equal(ask(105 * SECOND), BREAKER_REFUSE);
    breaker_told(&breaker, &RULE, 105 * SECOND, BREAKER_PROBE, false);
    breaker_told(&breaker, &RULE, 105 * SECOND, BREAKER_PROBE, false);
    assert_int_equal(breaker_phase(&breaker), BREAKER_HALF_OPEN);
    assert_int_equal(ask(105 * SECOND), BREAKER_REFUSE);
    breaker_told(&breaker, &RULE, 105 * SECOND, BREAKER_PROBE, false);
    assert_int_equal(breaker_phase(&breaker), BREAKER_CLOSED);
    tell(105 * SECOND, 19, 19); // what opened it is forgotten
    assert_int_equal(breaker_phase(&breaker), BREAKER_CLOSED);
}

TEST(one_failed_probe_opens_again)
{
    open_it(100 * SECOND);
    assert_int_equal(ask(105 * SECOND), BREAKER_PROBE);
    assert_int_equal(ask(105 * SECOND), BREAKER_PROBE);
    breaker_told(&breaker, &RULE, 106 * SECOND, BREAKER_PROBE, true);
    assert_int_equal(breaker_phase(&breaker), BREAKER_OPEN);
    assert_int_equal(breaker.opened, 2);
    breaker_told(&breaker, &RULE, 106 * SECOND, BREAKER_PROBE, false); // the other one comes too late
    assert_int_equal(ask(111 * SECOND - 1000), BREAKER_REFUSE);
    assert_int_equal(ask(111 * SECOND), BREAKER_PROBE);
}

TEST(probes_without_an_outcome_are_given_again)
{
    open_it(100 * SECOND);
    for (uint32_t i = 0; i < RULE.probes; i++)
        assert_int_equal(ask(105 * SECOND), BREAKER_PROBE);
    breaker_untold(&breaker, BREAKER_PROBE);
    assert_int_equal(ask(105 * SECOND), BREAKER_PROBE);
    assert_int_equal(ask(110 * SECOND - 1000), BREAKER_REFUSE);
    assert_int_equal(ask(110 * SECOND), BREAKER_PROBE); // those that hang are given up
}

TEST(requests_let_through_before_it_opened_say_nothing)
{
    enum breaker_pass before = ask(100 * SECOND);
    open_it(100 * SECOND);
    assert_int_equal(ask(105 * SECOND), BREAKER_PROBE);
    breaker_told(&breaker, &RULE, 105 * SECOND, before, true);
    assert_int_equal(breaker_phase(&breaker), BREAKER_HALF_OPEN);
}

TEST(counts_that_are_full_keep_the_share)
{
    for (int i = 0; i < 3 << 19; i++)
        breaker_told(&breaker, &RULE, 100 * SECOND, BREAKER_PASS, i % 4 == 0);
    assert_int_equal(breaker_phase(&breaker), BREAKER_CLOSED);
    uint64_t part = breaker.parts[100 % BREAKER_PARTS];
    double share = (double)(part & 0xfffff) / (double)(part >> 20 & 0xfffff);
    assert_true(share > 0.24 && share < 0.26);
}

TEST(without_a_share_it_never_opens)
{
    const struct breaker_rule never = {.probes = 1, .open_ms = 1, .window_ms = 1000};
    for (int i = 0; i < 100; i++)
        breaker_told(&breaker, &never, SECOND, BREAKER_PASS, true);
    assert_int_equal(breaker_ask(&breaker, &never, SECOND, &retry_ms), BREAKER_PASS);
}
