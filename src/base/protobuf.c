// SPDX-License-Identifier: Apache-2.0
#include "base/protobuf.h"

enum { GROUP_BEGIN = 3, GROUP_END = 4 }; // types of fields that hold none

// ---- reading ----

static uint64_t fail(struct protobuf_reader *reader)
{
    reader->bad = true;
    reader->rest.len = 0;
    return 0;
}

static struct slice take(struct protobuf_reader *reader, uint64_t len)
{
    if (len > reader->rest.len) {
        fail(reader);
        return (struct slice){"", 0};
    }
    struct slice bytes = {reader->rest.data, (size_t)len};
    reader->rest = (struct slice){bytes.data + bytes.len, reader->rest.len - bytes.len};
    return bytes;
}

// "Base 128 Varints": the low seven bits first, all but the last byte with the high bit; what is beyond 64
// bits is dropped.
static uint64_t take_varint(struct protobuf_reader *reader)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < PROTOBUF_VARINT_BYTES && i < reader->rest.len; i++) {
        unsigned char byte = (unsigned char)reader->rest.data[i];
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            (void)take(reader, i + 1);
            return value;
        }
    }
    return fail(reader);
}

static uint64_t take_fixed(struct protobuf_reader *reader, unsigned bytes)
{
    struct slice taken = take(reader, bytes);
    uint64_t value = 0;
    for (unsigned i = 0; i < taken.len; i++)
        value |= (uint64_t)(unsigned char)taken.data[i] << (8 * i);
    return value;
}

static void take_value(struct protobuf_reader *reader, struct protobuf_field *field, unsigned type)
{
    field->type = type;
    field->value = 0;
    field->bytes = (struct slice){"", 0};
    if (type == PROTOBUF_VARINT)
        field->value = take_varint(reader);
    else if (type == PROTOBUF_FIXED64)
        field->value = take_fixed(reader, 8);
    else if (type == PROTOBUF_BYTES)
        field->bytes = take(reader, take_varint(reader));
    else if (type == PROTOBUF_FIXED32)
        field->value = take_fixed(reader, 4);
    else
        fail(reader);
}

// The number and type that a field begins with.
static unsigned take_tag(struct protobuf_reader *reader, uint32_t *number)
{
    uint64_t tag = take_varint(reader);
    if (tag >> 3 == 0 || tag >> 3 > PROTOBUF_NUMBER_MAX)
        fail(reader);
    *number = (uint32_t)(tag >> 3 & PROTOBUF_NUMBER_MAX);
    return tag & 7;
}

// "Groups": up to the end that has the number of the beginning.
static void skip_group(struct protobuf_reader *reader, uint32_t number)
{
    uint32_t open[PROTOBUF_GROUPS_MAX] = {number};
    size_t depth = 1;
    struct protobuf_field field;
    while (depth > 0 && !reader->bad) {
        unsigned type = take_tag(reader, &field.number);
        if (type == GROUP_BEGIN && depth < PROTOBUF_GROUPS_MAX)
            open[depth++] = field.number;
        else if (type == GROUP_END && open[depth - 1] == field.number)
            depth--;
        else
            take_value(reader, &field, type);
    }
}

bool protobuf_next(struct protobuf_reader *reader, struct protobuf_field *field)
{
    while (reader->rest.len > 0) {
        unsigned type = take_tag(reader, &field->number);
        if (type != GROUP_BEGIN) {
            take_value(reader, field, type);
            return !reader->bad;
        }
        skip_group(reader, field->number);
    }
    return false;
}

double protobuf_double(const struct protobuf_field *field)
{
    double number;
    memcpy(&number, &field->value, sizeof number);
    return number;
}

// ---- writing ----

static size_t write_varint(char bytes[PROTOBUF_VARINT_BYTES], uint64_t value)
{
    size_t len = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[len++] = (char)(value | 0x80);
    bytes[len++] = (char)value;
    return len;
}

static void put_varint(struct json_out *out, uint64_t value)
{
    char bytes[PROTOBUF_VARINT_BYTES];
    json_out_bytes(out, (struct slice){bytes, write_varint(bytes, value)});
}

static void put_tag(struct json_out *out, uint32_t number, enum protobuf_type type)
{
    put_varint(out, (uint64_t)number << 3 | type);
}

void protobuf_put_varint(struct json_out *out, uint32_t number, uint64_t value)
{
    put_tag(out, number, PROTOBUF_VARINT);
    put_varint(out, value);
}

void protobuf_put_double(struct json_out *out, uint32_t number, double value)
{
    uint64_t bits;
    char bytes[sizeof bits];
    memcpy(&bits, &value, sizeof bits);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(bits >> (8 * i));
    put_tag(out, number, PROTOBUF_FIXED64);
    json_out_bytes(out, (struct slice){bytes, sizeof bytes});
}

void protobuf_put_bytes(struct json_out *out, uint32_t number, struct slice bytes)
{
    put_tag(out, number, PROTOBUF_BYTES);
    put_varint(out, bytes.len);
    json_out_bytes(out, bytes);
}

// One byte is kept for the length, which most have room in.
size_t protobuf_open(struct json_out *out, uint32_t number)
{
    put_tag(out, number, PROTOBUF_BYTES);
    json_out_bytes(out, (struct slice){"\0", 1});
    return out->len;
}

void protobuf_close(struct json_out *out, size_t begin)
{
    char length[PROTOBUF_VARINT_BYTES];
    size_t len = out->len - begin;
    if (out->status != STATUS_OK)
        return;
    size_t more = write_varint(length, len) - 1;
    if (more > out->cap - out->len && !json_out_grow(out, more))
        return;
    memmove(out->data + begin + more, out->data + begin, len);
    memcpy(out->data + begin - 1, length, more + 1);
    out->len += more;
}
