// SPDX-License-Identifier: Apache-2.0
// Appending to an image that is being compiled. Once something did not fit, the status stays STATUS_FULL and
// every later append returns 0. Short texts that occur often are stored once, as far as a small cache
// remembers them.
#include "base/json_out.h"
#include "flags/eval/flags_private.h"

void *flags_write_at(struct flags_compiler *c, uint32_t at)
{
    return c->out + at;
}

uint32_t flags_write_reserve(struct flags_compiler *c, uint64_t size, uint32_t align)
{
    uint64_t at = ((uint64_t)c->used + align - 1) / align * align;
    if (c->status != STATUS_OK)
        return 0;
    if (at + size > c->cap) {
        c->status = STATUS_FULL;
        return 0;
    }
    memset(c->out + c->used, 0, (size_t)(at + size - c->used));
    c->used = (uint32_t)(at + size);
    return (uint32_t)at;
}

void flags_write_raw(struct flags_compiler *c, struct slice bytes)
{
    uint32_t at = flags_write_reserve(c, bytes.len, 1);
    if (at != 0 && bytes.len > 0)
        memcpy(c->out + at, bytes.data, bytes.len);
}

struct flags_span flags_write_bytes(struct flags_compiler *c, struct slice bytes)
{
    enum { INTERNED_LEN_MAX = 128 };
    struct flags_span *known = NULL;
    if (bytes.len == 0)
        return (struct flags_span){0};
    if (bytes.len <= INTERNED_LEN_MAX) {
        known = &c->interned[flags_hash_of(bytes, 1) % FLAGS_INTERN_SLOTS];
        if (known->len == bytes.len && memcmp(c->out + known->at, bytes.data, bytes.len) == 0)
            return *known;
    }
    struct flags_span span = {flags_write_reserve(c, bytes.len, 1), (uint32_t)bytes.len};
    if (span.at == 0)
        return (struct flags_span){0};
    memcpy(c->out + span.at, bytes.data, bytes.len);
    if (known != NULL)
        *known = span;
    return span;
}

struct flags_span flags_write_json_string(struct flags_compiler *c, struct slice bytes)
{
    char storage[JSON_ESCAPE_BYTES];
    struct slice piece;
    uint32_t begin = c->used;
    flags_write_raw(c, SLICE("\""));
    while (json_piece(&bytes, false, storage, &piece))
        flags_write_raw(c, piece);
    flags_write_raw(c, SLICE("\""));
    return c->status == STATUS_OK ? (struct flags_span){begin, c->used - begin} : (struct flags_span){0};
}

// The records sorted here begin with a span, which is their key.
static int order_at(const uint8_t *base, uint32_t at, uint32_t size, uint32_t i, uint32_t j)
{
    const struct flags_span *a = flags_image_at(base, at + i * size);
    const struct flags_span *b = flags_image_at(base, at + j * size);
    return flags_slice_order(flags_image_slice(base, *a), flags_image_slice(base, *b));
}

static void swap_at(uint8_t *base, uint32_t at, uint32_t size, uint32_t i, uint32_t j)
{
    for (uint32_t b = 0; b < size; b++) {
        uint8_t byte = base[at + i * size + b];
        base[at + i * size + b] = base[at + j * size + b];
        base[at + j * size + b] = byte;
    }
}

static void sift(uint8_t *base, uint32_t at, uint32_t size, uint32_t root, uint32_t count)
{
    for (uint32_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && order_at(base, at, size, child, child + 1) < 0)
            child++;
        if (order_at(base, at, size, root, child) >= 0)
            return;
        swap_at(base, at, size, root, child);
    }
}

void flags_write_sort_spans(uint8_t *base, uint32_t at, uint32_t count, uint32_t size)
{
    for (uint32_t i = count / 2; i-- > 0;)
        sift(base, at, size, i, count);
    for (uint32_t end = count; end-- > 1;) {
        swap_at(base, at, size, 0, end);
        sift(base, at, size, 0, end);
    }
}
