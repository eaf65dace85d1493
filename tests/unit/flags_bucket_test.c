// SPDX-License-Identifier: Apache-2.0
// flags: the hash against its published values, and what bucketing promises: fair shares, no key that moves
// while the shares stay, growth that only ever moves keys to the growing variant.
#include <math.h>

#include "flags/eval/flags_private.h"
#include "flags_fixture.h"
#include "test.h"

enum { KEYS = 1000000, SOME_KEYS = 20000 };

TEST(hash)
{
    // Preimages found for the flagd testbed, and the usual check values of MurmurHash3_x86_32.
    assert_int_equal(flags_hash_of(SLICE("ejOoVL"), 0), 0);
    assert_int_equal(flags_hash_of(SLICE("bY9fO-"), 0), 1);
    assert_int_equal(flags_hash_of(SLICE("SI7p-"), 0), 2147483647U);
    assert_int_equal(flags_hash_of(SLICE("6LvT0"), 0), 2147483648U);
    assert_int_equal(flags_hash_of(SLICE("ceQdGm"), 0), 4294967295U);
    assert_int_equal(flags_hash_of(SLICE(""), 1), 0x514e28b7U);
    assert_int_equal(flags_hash_of(SLICE("\xff\xff\xff\xff"), 0), 0x76293b50U);
    // However the bytes are cut, the hash is one.
    struct slice text = SLICE("the quick brown fox jumps over");
    for (size_t a = 0; a <= text.len; a++) {
        for (size_t b = a; b <= text.len; b++) {
            struct flags_hash hash;
            flags_hash_init(&hash, 7);
            flags_hash_add(&hash, (struct slice){text.data, a});
            flags_hash_add(&hash, (struct slice){text.data + a, b - a});
            flags_hash_add(&hash, (struct slice){text.data + b, text.len - b});
            assert_int_equal(flags_hash_end(&hash), flags_hash_of(text, 7));
        }
    }
}

TEST(scale)
{
    assert_int_equal(flags_bucket_scale(0, 100), 0);
    assert_int_equal(flags_bucket_scale(UINT32_MAX, 100), 99);
    assert_int_equal(flags_bucket_scale(UINT32_MAX, FLAGS_WEIGHT_TOTAL_MAX), FLAGS_WEIGHT_TOTAL_MAX - 1);
    assert_int_equal(flags_bucket_scale(0x80000000U, 100), 50);
    assert_int_equal(flags_bucket_scale(0x7fffffffU, 100), 49);
    assert_true(flags_bucket_percent(0x7fffffffU) == 100.0);
    assert_true(flags_bucket_percent(0xffffffffU) == flags_bucket_percent(1));
}

// RFC 8949 appendix A, and the edges of what is an integer. The encoder feeds the hash, so hashes are
// compared.
TEST(cbor)
{
    static const struct {
        double number;
        const char *bytes;
        size_t len;
    } CASES[] = {
        {0, "\x00", 1},
        {-0.0, "\x00", 1},
        {10, "\x0a", 1},
        {23, "\x17", 1},
        {24, "\x18\x18", 2},
        {100, "\x18\x64", 2},
        {1000, "\x19\x03\xe8", 3},
        {1000000, "\x1a\x00\x0f\x42\x40", 5},
        {1000000000000, "\x1b\x00\x00\x00\xe8\xd4\xa5\x10\x00", 9},
        {18446744073709549568.0, "\x1b\xff\xff\xff\xff\xff\xff\xf8\x00", 9},
        {18446744073709551616.0, "\xfa\x5f\x80\x00\x00", 5},
        {-1, "\x20", 1},
        {-10, "\x29", 1},
        {-100, "\x38\x63", 2},
        {-1000, "\x39\x03\xe7", 3},
        {-18446744073709551616.0, "\x3b\xff\xff\xff\xff\xff\xff\xff\xff", 9},
        {1.1, "\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a", 9},
        {1.5, "\xf9\x3e\x00", 3},
        {3.4028234663852886e+38, "\xfa\x7f\x7f\xff\xff", 5},
        {1.0e+300, "\xfb\x7e\x37\xe4\x3c\x88\x00\x75\x9c", 9},
        {5.960464477539063e-8, "\xf9\x00\x01", 3},
        {0.00006103515625, "\xf9\x04\x00", 3},
        {0.000030517578125, "\xf9\x02\x00", 3},
        {-4.1, "\xfb\xc0\x10\x66\x66\x66\x66\x66\x66", 9},
        {(double)INFINITY, "\xf9\x7c\x00", 3},
        {(double)NAN, "\xf9\x7e\x00", 3},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct flags_hash hash;
        flags_hash_init(&hash, 0);
        flags_cbor_number(&hash, CASES[i].number);
        assert_int_equal(hash.len, CASES[i].len);
        assert_int_equal(flags_hash_end(&hash),
                         flags_hash_of((struct slice){CASES[i].bytes, CASES[i].len}, 0));
    }
    static const size_t LENGTHS[] = {0, 23, 24, 255, 256};
    static char text[256];
    for (size_t i = 0; i < ARRAY_LEN(LENGTHS); i++) {
        struct flags_hash hash;
        flags_hash_init(&hash, 0);
        flags_cbor_string(&hash, (struct slice){text, LENGTHS[i]});
        size_t head = LENGTHS[i] < 24 ? 1 : LENGTHS[i] < 256 ? 2 : 3;
        assert_int_equal(hash.len, head + LENGTHS[i]);
    }
}

static uint32_t place(uint32_t i)
{
    char key[16];
    int len = snprintf(key, sizeof key, "user-%u", i);
    return flags_bucket_of_key(SLICE("checkout-v2"), (struct slice){key, (size_t)len}, FLAGS_SHARE_TOTAL);
}

// Counts of a million keys in shares of very different size. Chi-square with 6 degrees of freedom
// passes 27.86 with probability 1e-4; the keys are fixed, so the test cannot fail by chance.
TEST(fair)
{
    static const uint32_t ENDS[] = {100, 1100, 6100, 16100, 41100, 70000, FLAGS_SHARE_TOTAL};
    uint32_t counts[ARRAY_LEN(ENDS)] = {0};
    double chi_square = 0;
    uint32_t begin = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        size_t bucket = 0;
        uint32_t at = place(i);
        while (at >= ENDS[bucket])
            bucket++;
        counts[bucket]++;
    }
    for (size_t b = 0; b < ARRAY_LEN(ENDS); b++) {
        double expected = (double)KEYS * (ENDS[b] - begin) / FLAGS_SHARE_TOTAL;
        chi_square += ((double)counts[b] - expected) * ((double)counts[b] - expected) / expected;
        begin = ENDS[b];
    }
    printf("chi-square %.2f, 6 degrees of freedom\n", chi_square);
    assert_true(chi_square < 27.86);
}

static void compile_share(uint32_t share)
{
    char rest[160];
    snprintf(rest, sizeof rest, "\"targeting\":{\"fractional\":[[\"on\",%u],[\"off\",%u]]}", share,
             FLAGS_SHARE_TOTAL - share);
    assert_int_equal(fixture_compile_flag(&fixture, rest), STATUS_OK);
    assert_int_equal(fixture.problem_count, 0);
}

// The evaluator on a rule whose growing variant comes first: the share is the rule's, growth moves keys one
// way, a return to a share returns exactly its keys.
TEST(monotone)
{
    static const uint32_t SHARES[] = {0, 1, 1000, 5000, 5000, 25000, 50000, 99999, 100000, 5000};
    static bool on[SOME_KEYS];
    static bool at_5000[SOME_KEYS];
    uint32_t before = 0;
    for (size_t s = 0; s < ARRAY_LEN(SHARES); s++) {
        uint32_t count = 0;
        compile_share(SHARES[s]);
        for (uint32_t i = 0; i < SOME_KEYS; i++) {
            char key[16];
            int len = snprintf(key, sizeof key, "user-%u", i);
            struct flags_context context = {.has_targeting_key = true, .targeting_key = {key, (size_t)len}};
            struct flags_result result = fixture_evaluate(&fixture, "f", FLAGS_BOOLEAN, &context);
            assert_int_equal(result.reason, FLAGS_REASON_TARGETING_MATCH);
            uint32_t at = flags_bucket_of_key(SLICE("f"), context.targeting_key, FLAGS_SHARE_TOTAL);
            assert_int_equal(result.boolean, at < SHARES[s]);
            if (s > 0 && SHARES[s] >= before)
                assert_true(!on[i] || result.boolean);
            if (s > 0 && SHARES[s] <= before)
                assert_true(on[i] || !result.boolean);
            on[i] = result.boolean;
            if (SHARES[s] == 5000 && s == 3)
                at_5000[i] = on[i];
            if (SHARES[s] == 5000 && s > 3)
                assert_int_equal(at_5000[i], on[i]);
            count += on[i];
        }
        before = SHARES[s];
        double share = (double)count / SOME_KEYS - (double)SHARES[s] / FLAGS_SHARE_TOTAL;
        assert_true(share < 0.015 && share > -0.015);
    }
}
