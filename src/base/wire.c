// SPDX-License-Identifier: Apache-2.0
// Varint wire form. A varint longer than ten bytes, or with bits past the 64th, is bad.
#include "base/wire.h"

static void put_byte(struct wire_writer *w, uint8_t byte)
{
    if (w->len >= w->cap) {
        w->full = true;
        return;
    }
    w->data[w->len++] = byte;
}

void wire_put_u64(struct wire_writer *w, uint64_t value)
{
    while (value >= 0x80) {
        put_byte(w, (uint8_t)(value | 0x80));
        value >>= 7;
    }
    put_byte(w, (uint8_t)value);
}

void wire_put_i64(struct wire_writer *w, int64_t value)
{
    wire_put_u64(w, ((uint64_t)value << 1) ^ (uint64_t)(value >> 63));
}

void wire_put_double(struct wire_writer *w, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    for (int i = 0; i < 8; i++)
        put_byte(w, (uint8_t)(bits >> (8 * i)));
}

void wire_put_bytes(struct wire_writer *w, struct slice bytes)
{
    wire_put_u64(w, bytes.len);
    if (w->full || bytes.len > w->cap - w->len) {
        w->full = true;
        return;
    }
    if (bytes.len > 0)
        memcpy(w->data + w->len, bytes.data, bytes.len);
    w->len += bytes.len;
}

static uint8_t get_byte(struct wire_reader *r)
{
    if (r->bad || r->at >= r->len) {
        r->bad = true;
        return 0;
    }
    return r->data[r->at++];
}

uint64_t wire_get_u64(struct wire_reader *r)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t byte = get_byte(r);
        if (shift == 63 && byte > 1)
            break;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return r->bad ? 0 : value;
    }
    r->bad = true;
    return 0;
}

int64_t wire_get_i64(struct wire_reader *r)
{
    uint64_t raw = wire_get_u64(r);
    return (int64_t)(raw >> 1) ^ -(int64_t)(raw & 1);
}

double wire_get_double(struct wire_reader *r)
{
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++)
        bits |= (uint64_t)get_byte(r) << (8 * i);
    double value = 0;
    if (!r->bad)
        memcpy(&value, &bits, sizeof value);
    return value;
}

struct slice wire_get_bytes(struct wire_reader *r)
{
    uint64_t len = wire_get_u64(r);
    if (r->bad || len > r->len - r->at) {
        r->bad = true;
        return (struct slice){"", 0};
    }
    struct slice bytes = {(const char *)r->data + r->at, (size_t)len};
    r->at += (size_t)len;
    return bytes;
}

void wire_get_string(struct wire_reader *r, char *storage, size_t cap)
{
    struct slice bytes = wire_get_bytes(r);
    if (bytes.len >= cap || (bytes.len > 0 && memchr(bytes.data, 0, bytes.len) != NULL)) {
        r->bad = true;
        bytes.len = 0;
    }
    memcpy(storage, bytes.data, bytes.len);
    storage[bytes.len] = '\0';
}

bool wire_done(const struct wire_reader *r)
{
    return !r->bad && r->at == r->len;
}
