// SPDX-License-Identifier: Apache-2.0
// base: the wire format of Protocol Buffers, byte for byte as its description has it ("Encoding").
#include "base/heap.h"
#include "base/protobuf.h"
#include "test.h"

static struct json_out out;

static int setup(void **state)
{
    (void)state;
    out = (struct json_out){.max = 1 << 20};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    json_out_free(&out);
    return 0;
}

ALL_TESTS(setup, teardown);

static void assert_written(const char *bytes, size_t len)
{
    assert_int_equal(out.status, STATUS_OK);
    assert_int_equal(out.len, len);
    assert_memory_equal(out.data, bytes, len);
    json_out_reset(&out);
}
#define ASSERT_WRITTEN(literal) assert_written((literal), sizeof(literal) - 1)

// The examples of the description: 150 in field 1, "testing" in field 2, and 150 as a message in field 3.
TEST(writing)
{
    protobuf_put_varint(&out, 1, 150);
    ASSERT_WRITTEN("\x08\x96\x01");
    protobuf_put_bytes(&out, 2, SLICE("testing"));
    ASSERT_WRITTEN("\x12\x07testing");
    size_t begin = protobuf_open(&out, 3);
    protobuf_put_varint(&out, 1, 150);
    protobuf_close(&out, begin);
    ASSERT_WRITTEN("\x1a\x03\x08\x96\x01");
    protobuf_put_varint(&out, 1, (uint64_t)-2);
    ASSERT_WRITTEN("\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    protobuf_put_varint(&out, 16, 0);
    ASSERT_WRITTEN("\x80\x01\x00");
    protobuf_put_double(&out, 2, -0.5);
    ASSERT_WRITTEN("\x11\x00\x00\x00\x00\x00\x00\xe0\xbf");
    begin = protobuf_open(&out, 1);
    protobuf_close(&out, begin);
    ASSERT_WRITTEN("\x0a\x00");
}

// Lengths of one, two and three bytes, and what is beyond the bound.
TEST(long_messages)
{
    static const struct {
        size_t len;
        const char *length;
    } CASES[] = {{127, "\x7f"}, {128, "\x80\x01"}, {16383, "\xff\x7f"}, {16384, "\x80\x80\x01"}};
    static char bytes[16384];
    memset(bytes, 'x', sizeof bytes);
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        size_t outer = protobuf_open(&out, 1);
        json_out_bytes(&out, (struct slice){bytes, CASES[i].len});
        protobuf_close(&out, outer);
        size_t length = strlen(CASES[i].length);
        assert_int_equal(out.len, 1 + length + CASES[i].len);
        assert_memory_equal(out.data + 1, CASES[i].length, length);
        assert_memory_equal(out.data + 1 + length, bytes, CASES[i].len);
        json_out_reset(&out);
    }
    struct json_out small = {.max = 130};
    size_t begin = protobuf_open(&small, 1);
    json_out_bytes(&small, (struct slice){bytes, 128});
    protobuf_close(&small, begin);
    assert_int_equal(small.status, STATUS_FULL);
    json_out_free(&small);
}

static struct protobuf_reader reader_of(struct slice bytes)
{
    return (struct protobuf_reader){.rest = bytes};
}

TEST(reading)
{
    struct protobuf_reader reader = reader_of(SLICE("\x08\x96\x01\x12\x03"
                                                    "abc\x19\x00\x00\x00\x00\x00\x00\xe0\xbf"
                                                    "\xa5\x01\x01\x02\x03\x04\x22\x00"
                                                    "\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"));
    struct protobuf_field field;
    assert_true(protobuf_next(&reader, &field));
    assert_true(field.number == 1 && field.type == PROTOBUF_VARINT && field.value == 150);
    assert_true(protobuf_next(&reader, &field));
    assert_true(field.number == 2 && field.type == PROTOBUF_BYTES && slice_equal(field.bytes, SLICE("abc")));
    assert_true(protobuf_next(&reader, &field));
    assert_true(field.number == 3 && field.type == PROTOBUF_FIXED64 && protobuf_double(&field) == -0.5);
    assert_true(protobuf_next(&reader, &field));
    assert_true(field.number == 20 && field.type == PROTOBUF_FIXED32 && field.value == 0x04030201);
    assert_true(protobuf_next(&reader, &field));
    assert_true(field.number == 4 && field.type == PROTOBUF_BYTES && field.bytes.len == 0);
    // What is beyond 64 bits is dropped.
    assert_true(protobuf_next(&reader, &field));
    assert_true(field.number == 5 && field.value == UINT64_MAX);
    assert_false(protobuf_next(&reader, &field));
    assert_false(reader.bad);
}

// Groups are left out whole, also one within the other.
TEST(groups)
{
    struct protobuf_reader reader = reader_of(SLICE("\x0b\x08\x01\x13\x1a\x01z\x14\x0c\x08\x07"));
    struct protobuf_field field;
    assert_true(protobuf_next(&reader, &field));
    assert_true(field.number == 1 && field.value == 7);
    assert_false(protobuf_next(&reader, &field));
    assert_false(reader.bad);
    char deep[2 * PROTOBUF_GROUPS_MAX + 2];
    for (unsigned depth = PROTOBUF_GROUPS_MAX; depth <= PROTOBUF_GROUPS_MAX + 1; depth++) {
        memset(deep, 0x0b, depth);
        memset(deep + depth, 0x0c, depth);
        reader = reader_of((struct slice){deep, (size_t)depth * 2});
        assert_false(protobuf_next(&reader, &field));
        assert_int_equal(reader.bad, depth > PROTOBUF_GROUPS_MAX);
    }
}

static void assert_bad(struct slice bytes)
{
    // On the heap, so that a look beyond the end is seen.
    char *copy = heap_strndup(bytes.data, bytes.len);
    char *exact = heap_alloc(1, bytes.len);
    memcpy(exact, copy, bytes.len);
    heap_free(copy);
    struct protobuf_reader reader = reader_of((struct slice){exact, bytes.len});
    struct protobuf_field field;
    assert_false(protobuf_next(&reader, &field));
    assert_true(reader.bad);
    assert_false(protobuf_next(&reader, &field));
    heap_free(exact);
}

TEST(broken)
{
    assert_bad(SLICE("\x08"));                                             // a number that is not there
    assert_bad(SLICE("\x08\x80"));                                         // one that goes on
    assert_bad(SLICE("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")); // one of eleven bytes
    assert_bad(SLICE("\x0a\x04"
                     "abc"));                                           // bytes that are not all there
    assert_bad(SLICE("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x")); // 2^64 - 1 of them
    assert_bad(SLICE("\x09\x00\x00\x00\x00\x00\x00\x00"));              // seven of eight bytes
    assert_bad(SLICE("\x0d\x00\x00\x00"));                              // three of four
    assert_bad(SLICE("\x00\x00"));                                      // field 0
    assert_bad(SLICE("\x80\x80\x80\x80\x10\x00"));                      // field 2^29
    assert_bad(SLICE("\x0e\x00"));                                      // types that are none
    assert_bad(SLICE("\x0f\x00"));
    assert_bad(SLICE("\x0c"));             // the end of no group
    assert_bad(SLICE("\x0b"));             // a group without an end
    assert_bad(SLICE("\x0b\x14\x08\x01")); // with another's
}
