// SPDX-License-Identifier: Apache-2.0
// supervise/policy: how soon the next process starts, when too many have died, and what silence is.
#include "daemon/supervise/policy.h"

#include "base/check.h"
#include "test.h"

static void live(struct policy *policy, uint64_t now_ms)
{
    policy_started(policy, now_ms);
    policy_ready(policy);
}

TEST(who_has_served_is_replaced_at_once)
{
    struct policy policy = {0};
    live(&policy, 1000);
    for (uint64_t now = 100000; now < 2000000; now += 100000) { // one now and then, for ever
        assert_int_equal(policy_died(&policy, now), 0);
        live(&policy, now);
    }
    assert_false(policy.careful);
    assert_int_equal(policy.deaths, 19);
}

TEST(who_never_served_is_waited_for_longer_and_longer)
{
    struct policy policy = {0};
    uint64_t now = 1000;
    static const uint64_t pauses[] = {100, 200, 400, 800, 1600, 3200, 5000, 5000};
    for (size_t i = 0; i < ARRAY_LEN(pauses); i++) {
        policy_started(&policy, now);
        assert_int_equal(policy_died(&policy, now += 10000), pauses[i]);
    }
    live(&policy, now);
    assert_int_equal(policy_died(&policy, now + 60000), 0);
    policy_started(&policy, now += 60000);
    assert_int_equal(policy_died(&policy, now + 20000), 100); // from the beginning again
}

TEST(the_eleventh_death_in_a_minute_makes_careful)
{
    struct policy policy = {0};
    uint64_t now = 5000;
    for (int i = 0; i < POLICY_DEATHS_MAX; i++) {
        live(&policy, now);
        assert_int_equal(policy_died(&policy, now += 5900), 0);
        assert_false(policy.careful);
    }
    live(&policy, now);
    assert_true(policy_died(&policy, now + 999) > 0); // the first of them is 54 s and 99 hundredths ago
    assert_true(policy.careful);
    live(&policy, now);
    (void)policy_died(&policy, now + 10000000);
    assert_true(policy.careful); // until a person starts the daemon again

    policy = (struct policy){0};
    now = 5000;
    for (int i = 0; i < 3 * POLICY_DEATHS_MAX; i++) { // ten in a minute are borne
        live(&policy, now);
        assert_int_equal(policy_died(&policy, now += 6000), 0);
    }
    assert_false(policy.careful);
}

TEST(only_watched_silence_counts)
{
    struct policy policy = {0};
    uint64_t now = 1000;
    live(&policy, now);
    policy_beat(&policy);
    for (int i = 0; i < 25; i++)
        assert_false(policy_hangs(&policy, now += 20, 500));
    assert_true(policy_hangs(&policy, now += 20, 500)); // 520 ms
    policy_beat(&policy);
    assert_false(policy_hangs(&policy, now += 20, 500));
    assert_false(policy_hangs(&policy, now += 3600000, 500)); // who slept an hour has watched nobody
    assert_int_equal(policy.silent_ms, 20 + POLICY_WATCHED_MS_MAX);
    policy_started(&policy, now += 100000); // between two processes nobody was silent
    assert_false(policy_hangs(&policy, now += 20, 500));
    assert_int_equal(policy.silent_ms, 20);
}

// Else a busy machine would kill each process before it is loaded, for ever.
TEST(who_is_being_loaded_has_more_time)
{
    struct policy policy = {0};
    uint64_t now = 1000;
    policy_started(&policy, now);
    for (int i = 0; i < POLICY_FIRST_SIGN_MS / 20; i++)
        assert_false(policy_hangs(&policy, now += 20, 250));
    assert_true(policy_hangs(&policy, now += 20, 250));
    assert_false(policy_hangs(&policy, now, 60000)); // a longer limit holds from the first
    policy_beat(&policy);
    for (int i = 0; i < 12; i++)
        assert_false(policy_hangs(&policy, now += 20, 250));
    assert_true(policy_hangs(&policy, now += 20, 250));
    policy_started(&policy, now += 20); // each process anew
    assert_false(policy_hangs(&policy, now += 100, 50));
}
