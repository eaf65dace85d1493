// SPDX-License-Identifier: Apache-2.0
// Assignment: the share is what was asked, nobody moves without need, cookies are ours or nobody's.
#include "base/check.h"
#include "binomial.h"
#include "net/proxy/assign.h"
#include "test.h"

enum { UNITS = 1000000 };

static const struct siphash_key SALT = {11, 12};

static struct slice unit_name(uint32_t i, char text[32])
{
    return (struct slice){text, (size_t)snprintf(text, 32, "user-%u", i)};
}

TEST(shares_are_binomial)
{
    static const uint32_t WEIGHTS[] = {1, 100, 1000, 5000, 50000, 99000};
    uint32_t counts[ARRAY_LEN(WEIGHTS)] = {0}, control[ARRAY_LEN(WEIGHTS)] = {0};
    for (uint32_t i = 0; i < UNITS; i++) {
        char text[32];
        uint32_t bucket = assign_bucket(SALT, unit_name(i, text));
        assert_true(bucket < ROLLOUT_WEIGHT_FULL);
        for (size_t k = 0; k < ARRAY_LEN(WEIGHTS); k++) {
            uint32_t w = WEIGHTS[k], other = w < ROLLOUT_WEIGHT_FULL - w ? w : ROLLOUT_WEIGHT_FULL - w;
            enum rollout_arm arm = assign_arm(bucket, w, other);
            counts[k] += arm == ROLLOUT_ARM_CANARY;
            control[k] += arm == ROLLOUT_ARM_CONTROL;
        }
    }
    for (size_t k = 0; k < ARRAY_LEN(WEIGHTS); k++) {
        double p = WEIGHTS[k] / (double)ROLLOUT_WEIGHT_FULL;
        assert_true(binomial_fits(UNITS, p, counts[k]));
        double q = p < 0.5 ? p : 1 - p;
        assert_true(binomial_fits(UNITS, q, control[k]));
    }
}

TEST(growth_is_monotone)
{
    static const uint32_t STEPS[] = {0, 1000, 5000, 3000, 3000, 25000, 50000, 10000, 100000, 0};
    for (uint32_t i = 0; i < 100000; i++) {
        char text[32];
        uint32_t bucket = assign_bucket(SALT, unit_name(i, text));
        assert_int_equal(bucket, assign_bucket(SALT, unit_name(i, text)));
        for (size_t k = 1; k < ARRAY_LEN(STEPS); k++) {
            enum rollout_arm before = assign_arm(bucket, STEPS[k - 1], 0),
                             after = assign_arm(bucket, STEPS[k], 0);
            if (STEPS[k] >= STEPS[k - 1])
                assert_false(before == ROLLOUT_ARM_CANARY && after != ROLLOUT_ARM_CANARY);
            if (STEPS[k] <= STEPS[k - 1])
                assert_false(before != ROLLOUT_ARM_CANARY && after == ROLLOUT_ARM_CANARY);
        }
        // With a control arm beside it, the three never trade but with stable.
        enum rollout_arm small = assign_arm(bucket, 5000, 5000), large = assign_arm(bucket, 25000, 25000);
        if (small != ROLLOUT_ARM_STABLE)
            assert_int_equal(small, large);
    }
}

TEST(salts_are_independent)
{
    uint32_t both = 0;
    for (uint32_t i = 0; i < UNITS; i++) {
        char text[32];
        struct slice unit = unit_name(i, text);
        both +=
            assign_bucket(SALT, unit) < 10000 && assign_bucket((struct siphash_key){13, 14}, unit) < 10000;
    }
    assert_in_range(both, 9600, 10400);
}

TEST(cookies)
{
    struct siphash_key key = {5, 6};
    char text[ASSIGN_COOKIE_BYTES];
    uint64_t unit = 1;
    assign_cookie_write(key, 0x123456789abcdef0, 7, text);
    struct slice cookie = {text, sizeof text};
    assert_int_equal(assign_cookie_read(key, 7, cookie, &unit), STATUS_OK);
    assert_true(unit == 0x123456789abcdef0);
    assert_int_equal(assign_cookie_read(key, 8, cookie, &unit), STATUS_MISMATCH);
    assert_int_equal(assign_cookie_read((struct siphash_key){5, 7}, 7, cookie, &unit), STATUS_INVALID);
    for (size_t i = 0; i < sizeof text; i++) {
        char was = text[i];
        text[i] = was == '0' ? '1' : '0';
        assert_int_not_equal(assign_cookie_read(key, 7, cookie, &unit), STATUS_OK);
        text[i] = was;
    }
    assert_int_equal(assign_cookie_read(key, 7, (struct slice){text, sizeof text - 1}, &unit),
                     STATUS_INVALID);
}

static void expect_network(const char *address, const char *expected)
{
    char out[2 * ASSIGN_NETWORK_BYTES];
    struct slice network = assign_network(slice_of(address), out);
    if (!slice_equal(network, slice_of(expected)))
        fail_msg("%s: %.*s", address, (int)network.len, network.data);
}

TEST(a_client_is_its_network)
{
    expect_network("192.0.2.7", "192.0.2.7");
    expect_network("2001:db8:1:2:3:4:5:6", "20010db800010002");
    expect_network("2001:db8:1:2::6", "20010db800010002");
    expect_network("2001:db8::6", "20010db800000000");
    expect_network("2600::7:a:b:c:d", "2600000000000007");
    expect_network("2600:0:0:7::5", "2600000000000007");
    expect_network("::1", "0000000000000000");
    expect_network("not:an:address", "not:an:address");
    expect_network("", "");
    expect_network("1:1111111111111111111111111111111111111111111111111111111",
                   "1:1111111111111111111111111111111111111111111111111111111");
}
