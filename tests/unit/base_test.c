// SPDX-License-Identifier: Apache-2.0
// base: hash vectors, wire form, text, random numbers, lists, heap torture.
#include <errno.h>

#include "base/heap.h"
#include "base/list.h"
#include "base/rng.h"
#include "base/siphash.h"
#include "base/status.h"
#include "base/text.h"
#include "base/wire.h"
#include "test.h"

// Key 00..0f, inputs 00..n-1: first vectors of the SipHash paper's reference table.
TEST(siphash_vectors)
{
    struct siphash_key key = {0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};
    uint8_t in[15];
    for (uint8_t i = 0; i < 15; i++)
        in[i] = i;
    assert_int_equal(siphash(key, in, 0), 0x726fdb47dd0e0e31ULL);
    assert_int_equal(siphash(key, in, 1), 0x74f839c593dc67fdULL);
    assert_int_equal(siphash(key, in, 15), 0xa129ca6149be45e5ULL);
}

// Bytes in pieces have the tag of the whole, wherever they are cut.
TEST(siphash_in_pieces)
{
    struct siphash_key key = {0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};
    uint8_t in[27];
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)i;
    for (size_t first = 0; first <= sizeof in; first++)
        for (size_t second = first; second <= sizeof in; second++) {
            struct siphash_state hash;
            siphash_begin(&hash, key);
            siphash_add(&hash, in, first);
            siphash_add(&hash, in + first, second - first);
            siphash_add(&hash, in + second, sizeof in - second);
            assert_true(siphash_end(&hash) == siphash(key, in, sizeof in));
        }
}

TEST(wire_round_trip)
{
    uint8_t bytes[128];
    struct wire_writer w = {.data = bytes, .cap = sizeof bytes};
    wire_put_u64(&w, 0);
    wire_put_u64(&w, UINT64_MAX);
    wire_put_i64(&w, INT64_MIN);
    wire_put_i64(&w, -1);
    wire_put_double(&w, -0.1);
    wire_put_bytes(&w, SLICE("sluice"));
    assert_false(w.full);
    struct wire_reader r = {.data = bytes, .len = w.len};
    assert_int_equal(wire_get_u64(&r), 0);
    assert_true(wire_get_u64(&r) == UINT64_MAX);
    assert_true(wire_get_i64(&r) == INT64_MIN);
    assert_int_equal(wire_get_i64(&r), -1);
    assert_true(wire_get_double(&r) == -0.1);
    char name[8];
    wire_get_string(&r, name, sizeof name);
    assert_string_equal(name, "sluice");
    assert_true(wire_done(&r));
    for (size_t cut = 0; cut < w.len; cut++) {
        struct wire_reader short_reader = {.data = bytes, .len = cut};
        wire_get_u64(&short_reader);
        wire_get_u64(&short_reader);
        wire_get_i64(&short_reader);
        wire_get_i64(&short_reader);
        wire_get_double(&short_reader);
        wire_get_bytes(&short_reader);
        assert_true(short_reader.bad);
    }
}

TEST(wire_refuses)
{
    uint8_t small[3];
    struct wire_writer w = {.data = small, .cap = sizeof small};
    wire_put_bytes(&w, SLICE("four"));
    assert_true(w.full);
    const uint8_t endless[11] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct wire_reader r = {.data = endless, .len = sizeof endless};
    assert_int_equal(wire_get_u64(&r), 0);
    assert_true(r.bad);
    const uint8_t past_end[2] = {0x05, 'a'};
    struct wire_reader r2 = {.data = past_end, .len = sizeof past_end};
    assert_int_equal(wire_get_bytes(&r2).len, 0);
    assert_true(r2.bad);
}

TEST(json_text)
{
    char storage[64];
    struct text text = text_over(storage, sizeof storage);
    text_add_json(&text, SLICE("a\"b\\c\n\x1f\xc3\xa9"));
    assert_string_equal(storage, "\"a\\\"b\\\\c\\u000a\\u001f\xc3\xa9\"");
    assert_false(text.cut);
}

TEST(text)
{
    char storage[16];
    struct text text = text_over(storage, sizeof storage);
    text_add_count(&text, 1234567);
    assert_string_equal(storage, "1 234 567");
    text_addf(&text, " %s", "overflowing");
    assert_true(text.cut);
    assert_int_equal(text.len, 15);
    assert_int_equal(strlen(storage), 15);
}

TEST(rng_is_uniform_and_repeats)
{
    struct rng a, b;
    rng_init(&a, 7);
    rng_init(&b, 7);
    uint32_t counts[10] = {0};
    for (int i = 0; i < 100000; i++) {
        uint64_t x = rng_below(&a, 10);
        assert_int_equal(x, rng_below(&b, 10));
        counts[x]++;
    }
    for (int i = 0; i < 10; i++)
        assert_in_range(counts[i], 9600, 10400);
}

TEST(list)
{
    struct list head, other, a, b;
    list_init(&head);
    list_init(&other);
    list_push_back(&head, &a);
    list_push_back(&other, &b);
    list_append_all(&head, &other);
    assert_true(list_empty(&other));
    assert_ptr_equal(head.next, &a);
    assert_ptr_equal(head.prev, &b);
    list_remove(&a);
    list_remove(&b);
    assert_true(list_empty(&head));
}

TEST(heap_torture)
{
    heap_fail_after(1);
    void *first = heap_alloc(1, 8);
    assert_non_null(first);
    assert_null(heap_alloc(1, 8));
    assert_null(heap_strdup("x"));
    heap_fail_after(-1);
    heap_free(first);
}

TEST(status)
{
    for (int i = 0; i < STATUS_COUNT; i++)
        assert_string_not_equal(status_name((enum status)i), "unknown");
    assert_int_equal(status_of_errno(ENOSPC), STATUS_NO_SPACE);
    assert_int_equal(status_of_errno(EMFILE), STATUS_NO_FD);
    assert_int_equal(status_of_errno(987654), STATUS_IO);
}
