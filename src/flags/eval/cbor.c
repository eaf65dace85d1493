// SPDX-License-Identifier: Apache-2.0
// RFC 8949 deterministic encoding of JSON values, fed into the hash piece by piece: shortest heads, shortest
// floats that keep the value, whole numbers as integers, map keys in the order of their encodings.
#include <math.h>

#include "flags/eval/flags_private.h"

static void add_big_endian(struct flags_hash *hash, uint8_t first, uint64_t value, int bytes)
{
    char out[9] = {(char)first};
    for (int i = 0; i < bytes; i++)
        out[1 + i] = (char)(value >> (8 * (bytes - 1 - i)));
    flags_hash_add(hash, (struct slice){out, 1 + (size_t)bytes});
}

void flags_cbor_head(struct flags_hash *hash, enum flags_cbor_major major, uint64_t argument)
{
    uint8_t first = (uint8_t)(major << 5);
    if (argument < 24)
        add_big_endian(hash, (uint8_t)(first | argument), 0, 0);
    else if (argument <= UINT8_MAX)
        add_big_endian(hash, first | 24, argument, 1);
    else if (argument <= UINT16_MAX)
        add_big_endian(hash, first | 25, argument, 2);
    else if (argument <= UINT32_MAX)
        add_big_endian(hash, first | 26, argument, 4);
    else
        add_big_endian(hash, first | 27, argument, 8);
}

void flags_cbor_string(struct flags_hash *hash, struct slice s)
{
    flags_cbor_head(hash, FLAGS_CBOR_TEXT, s.len);
    flags_hash_add(hash, s);
}

// The half-precision bits of a float that has exactly such a value (RFC 8949 appendix D has the reverse).
static bool half_of(float value, uint16_t *half)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000;
    int exponent = (int)(bits >> 23 & 0xff) - 127;
    uint32_t mantissa = bits & 0x7fffff;
    if (exponent == 128) { // infinity; NaN in its one canonical form
        *half = (uint16_t)(mantissa != 0 ? 0x7e00 : (sign | 0x7c00));
        return true;
    }
    if (exponent >= -14 && exponent <= 15 && (mantissa & 0x1fff) == 0) {
        *half = (uint16_t)(sign | (uint32_t)(exponent + 15) << 10 | mantissa >> 13);
        return true;
    }
    // Subnormal halves are multiples of 2^-24: the full significand must end in enough zeros.
    uint32_t shift = (uint32_t)(-1 - exponent);
    uint32_t full = mantissa | 0x800000;
    if (exponent < -14 && exponent >= -24 && (full & ((1U << shift) - 1)) == 0) {
        *half = (uint16_t)(sign | full >> shift);
        return true;
    }
    return false;
}

void flags_cbor_number(struct flags_hash *hash, double number)
{
    double whole = trunc(number);
    if (whole >= 0 && whole == number && number < 18446744073709551616.0) {
        flags_cbor_head(hash, FLAGS_CBOR_UNSIGNED, (uint64_t)number);
        return;
    }
    if (whole < 0 && whole == number && number >= -18446744073709551616.0) {
        // The argument is -1 - number, in integers so that it cannot round. -2^64 is a case of its own, since
        // 2^64 does not fit.
        uint64_t argument = number == -18446744073709551616.0 ? UINT64_MAX : (uint64_t)-number - 1;
        flags_cbor_head(hash, FLAGS_CBOR_NEGATIVE, argument);
        return;
    }
    bool single = isnan(number) || isinf(number) || fabs(number) <= 0x1.fffffep127;
    float narrow = single ? (float)number : 0.0F;
    uint16_t half;
    if (single && (isnan(number) || (double)narrow == number)) {
        uint32_t bits;
        memcpy(&bits, &narrow, sizeof bits);
        if (half_of(narrow, &half))
            add_big_endian(hash, 0xf9, half, 2);
        else
            add_big_endian(hash, 0xfa, bits, 4);
        return;
    }
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    add_big_endian(hash, 0xfb, bits, 8);
}

static void sift(const struct flags_json **heap, uint32_t root, uint32_t count)
{
    for (uint32_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && flags_slice_order(heap[child]->key, heap[child + 1]->key) < 0)
            child++;
        if (flags_slice_order(heap[root]->key, heap[child]->key) >= 0)
            return;
        const struct flags_json *swap = heap[root];
        heap[root] = heap[child];
        heap[child] = swap;
    }
}

// Heapsort: in place, and quick also on input chosen to be slow.
static void sort_members(const struct flags_json **members, uint32_t count)
{
    for (uint32_t i = count / 2; i-- > 0;)
        sift(members, i, count);
    for (uint32_t end = count; end-- > 1;) {
        const struct flags_json *swap = members[0];
        members[0] = members[end];
        members[end] = swap;
        sift(members, 0, end);
    }
}

static void add_map(struct flags_run *run, struct flags_hash *hash, const struct flags_json *object)
{
    uint32_t count = object->count;
    const struct flags_json **members = flags_run_alloc(run, count * sizeof(*members));
    if (members == NULL || !flags_run_charge(run, count))
        return;
    uint32_t i = 0;
    for (const struct flags_json *member = object->first; member != NULL && i < count; member = member->next)
        members[i++] = member;
    sort_members(members, i);
    flags_cbor_head(hash, FLAGS_CBOR_MAP, i);
    for (uint32_t m = 0; m < i; m++) {
        struct flags_value value = flags_value_of_tree(members[m]);
        flags_cbor_string(hash, members[m]->key);
        flags_cbor_value(run, hash, &value);
    }
}

static void add_array(struct flags_run *run, struct flags_hash *hash, const struct flags_value *value,
                      uint32_t count)
{
    struct flags_items items = flags_value_items(value);
    struct flags_value item;
    flags_cbor_head(hash, FLAGS_CBOR_ARRAY, count);
    while (flags_run_charge(run, 1) && flags_items_next(&items, &item))
        flags_cbor_value(run, hash, &item);
}

void flags_cbor_value(struct flags_run *run, struct flags_hash *hash, const struct flags_value *value)
{
    enum { SIMPLE_FALSE = 20, SIMPLE_TRUE = 21, SIMPLE_NULL = 22 };
    uint32_t count;
    if (++run->depth > FLAGS_RULE_DEPTH_MAX + FLAGS_JSON_DEPTH_MAX) {
        flags_run_fail(run, "the bucketing value is nested too deeply");
        return;
    }
    if (value->kind == FLAGS_VALUE_NULL) {
        flags_cbor_head(hash, FLAGS_CBOR_SIMPLE, SIMPLE_NULL);
    } else if (value->kind == FLAGS_VALUE_BOOLEAN) {
        flags_cbor_head(hash, FLAGS_CBOR_SIMPLE, value->boolean ? SIMPLE_TRUE : SIMPLE_FALSE);
    } else if (value->kind == FLAGS_VALUE_NUMBER) {
        flags_cbor_number(hash, value->number);
    } else if (value->kind == FLAGS_VALUE_STRING) {
        if (flags_run_charge(run, value->count / 64))
            flags_cbor_string(hash, flags_value_slice(value));
    } else if (flags_value_is_array(value, &count)) {
        add_array(run, hash, value, count);
    } else {
        add_map(run, hash, value->tree);
    }
    run->depth--;
}
