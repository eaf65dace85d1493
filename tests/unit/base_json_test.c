// SPDX-License-Identifier: Apache-2.0
// base: UTF-8 and JSON as text: what is escaped, what is replaced, where a text is cut, how numbers are
// written, what a bound does; everything that comes out is read again by another reader.
#include <jansson.h>
#include <math.h>

#include "base/heap.h"
#include "base/json_out.h"
#include "base/rng.h"
#include "base/text.h"
#include "base/utf8.h"
#include "test.h"

static struct json_out out;

static const char *text_of(void)
{
    json_out_bytes(&out, (struct slice){"", 1});
    out.len--;
    return out.data;
}

static void assert_quoted(struct slice text, const char *wanted)
{
    json_out_reset(&out);
    json_out_quote(&out, text);
    assert_string_equal(text_of(), wanted);
}

TEST(strings)
{
    assert_quoted(SLICE(""), "\"\"");
    assert_quoted(SLICE("a\"b\\c/"), "\"a\\\"b\\\\c/\"");
    assert_quoted(SLICE("\n\r\t\b\f\x1f\x7f"), "\"\\n\\r\\t\\u0008\\u000c\\u001f\\u007f\"");
    assert_quoted(SLICE("a\0b"), "\"a\\u0000b\"");
    assert_quoted(SLICE("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
    // Each byte that is no part of a character becomes one replacement; what is good around it stays.
    assert_quoted(SLICE("r\xe9mi"), "\"r\xef\xbf\xbdmi\"");
    assert_quoted(SLICE("\xc3"), "\"\xef\xbf\xbd\"");
    assert_quoted(SLICE("\xed\xa0\x80x"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx\"");
    assert_quoted(SLICE("\xc3\xa9\xff\xc3\xa9"), "\"\xc3\xa9\xef\xbf\xbd\xc3\xa9\"");
    // A bounded text takes the same pieces, with the control characters by number.
    char storage[64];
    struct text text = text_over(storage, sizeof storage);
    text_add_json(&text, SLICE("\n\xff\""));
    assert_string_equal(storage, "\"\\u000a\xef\xbf\xbd\\\"\"");
}

// Whatever the bytes, jansson (another reader) takes the string.
TEST(any_bytes)
{
    struct rng rng;
    rng_init(&rng, 7);
    for (int round = 0; round < 20000; round++) {
        char bytes[12];
        size_t len = rng_below(&rng, sizeof bytes + 1);
        for (size_t i = 0; i < len; i++)
            bytes[i] = (char)(rng_below(&rng, 4) > 0 ? 0x80 + rng_below(&rng, 0x80) : rng_below(&rng, 0x80));
        struct slice text = {bytes, len};
        json_out_reset(&out);
        json_out_quote(&out, text);
        json_t *read = json_loadb(out.data, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(read);
        bool same = json_string_length(read) == len && memcmp(json_string_value(read), bytes, len) == 0;
        assert_int_equal(same, utf8_valid(text));
        json_decref(read);
    }
}

TEST(members)
{
    json_out_reset(&out);
    json_out_open(&out, NULL, '{');
    json_out_text(&out, "a", "x");
    json_out_text(&out, "b", NULL);
    json_out_open(&out, "c", '[');
    json_out_integer(&out, NULL, INT64_MIN);
    json_out_count(&out, NULL, UINT64_MAX);
    json_out_bool(&out, NULL, true);
    json_out_open(&out, NULL, '{');
    json_out_close(&out, '}');
    json_out_close(&out, ']');
    json_out_time(&out, "d", 0);
    json_out_raw(&out, "e", SLICE("[1]"));
    json_out_close(&out, '}');
    assert_string_equal(text_of(),
                        "{\"a\":\"x\",\"b\":null,\"c\":[-9223372036854775808,9223372036854775807,true,"
                        "{}],\"d\":null,\"e\":[1]}");
}

static void assert_real(double number)
{
    char wanted[64];
    json_t *real = json_real(number);
    size_t len = json_dumpb(real, wanted, sizeof wanted - 1, JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
    wanted[len] = '\0';
    json_decref(real);
    json_out_reset(&out);
    json_out_real(&out, NULL, number);
    assert_string_equal(text_of(), wanted);
}

// As jansson writes them with 12 digits, which is how the API's clients know them.
TEST(reals)
{
    static const double some[] = {0,     -0.0,           1,    -1,   0.1,    0.5,     100,      1e11,
                                  1e12,  1e15,           1e20, 1e-4, 1e-5,   1.5e300, 1.5e-300, 1e100,
                                  1e-10, 123456789012.5, 0.25, 3e9,  1 / 3., 2e-7,    1e9,      -2.5e10};
    for (size_t i = 0; i < ARRAY_LEN(some); i++)
        assert_real(some[i]);
    struct rng rng;
    rng_init(&rng, 3);
    for (int i = 0; i < 20000; i++)
        assert_real(ldexp((double)(rng_next(&rng) >> 11), (int)rng_below(&rng, 200) - 150));
    json_out_reset(&out);
    json_out_real(&out, "x", (double)NAN);
    json_out_real(&out, "y", (double)INFINITY);
    assert_string_equal(text_of(), "\"x\":null,\"y\":null");
}

TEST(bounds)
{
    struct json_out small = {.max = 5000};
    for (int i = 0; i < 1000; i++)
        json_out_text(&small, NULL, "0123456789");
    assert_int_equal(small.status, STATUS_FULL);
    assert_true(small.len <= 5000 && small.cap <= 5000);
    json_out_reset(&small);
    json_out_bool(&small, NULL, true);
    assert_int_equal(small.status, STATUS_OK);
    assert_int_equal(small.len, 4);
    json_out_free(&small);
    heap_fail_after(0);
    json_out_bool(&small, NULL, true);
    heap_fail_after(-1);
    assert_int_equal(small.status, STATUS_NO_MEMORY);
    json_out_bool(&small, NULL, true);
    assert_int_equal(small.len, 0);
    json_out_free(&small);
}

TEST(cuts)
{
    static const struct slice text = SLICE("a\xe2\x82\xac z");
    static const size_t lens[] = {0, 1, 1, 1, 4, 5, 6, 6};
    char copy[4];
    for (size_t most = 0; most < ARRAY_LEN(lens); most++)
        assert_int_equal(utf8_cut(text, most).len, lens[most]);
    utf8_copy(copy, sizeof copy, text);
    assert_string_equal(copy, "a");
    utf8_copy(copy, sizeof copy, SLICE("abc"));
    assert_string_equal(copy, "abc");
}

TEST(acting_characters)
{
    static const char *const act[] = {
        "\x01",         "\x1b",         "\r",           "\n",           "\x7f",         "\xc2\x80",
        "\xc2\x9b",     "\xc2\x9f",     "\xd8\x9c",     "\xe2\x80\x8e", "\xe2\x80\x8f", "\xe2\x80\xa8",
        "\xe2\x80\xa9", "\xe2\x80\xaa", "\xe2\x80\xae", "\xe2\x81\xa6", "\xe2\x81\xa9"};
    static const char *const show[] = {" ",
                                       "~",
                                       "\xc2\xa0",
                                       "\xc3\xa9",
                                       "\xe2\x80\x8d",
                                       "\xe2\x80\xa7",
                                       "\xe2\x80\xaf",
                                       "\xe2\x81\xa5",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < ARRAY_LEN(act); i++)
        assert_true(utf8_acts(slice_of(act[i])));
    for (size_t i = 0; i < ARRAY_LEN(show); i++)
        assert_false(utf8_acts(slice_of(show[i])));
}

static int tear_down(void **state)
{
    (void)state;
    json_out_free(&out);
    return 0;
}

ALL_TESTS(NULL, tear_down);
