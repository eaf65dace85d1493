// SPDX-License-Identifier: Apache-2.0
// JSON text into a buffer that grows to a bound and is kept for the next answer.
#include <stdio.h>

#include "base/check.h"
#include "base/heap.h"
#include "flags/ofrep/ofrep_private.h"

enum status ofrep_writer_init(struct ofrep_writer *writer)
{
    char *data = heap_alloc(OFREP_ANSWER_BYTES, 1);
    if (data == NULL)
        return STATUS_NO_MEMORY;
    *writer = (struct ofrep_writer){.data = data, .cap = OFREP_ANSWER_BYTES};
    return STATUS_OK;
}

void ofrep_writer_deinit(struct ofrep_writer *writer)
{
    heap_free(writer->data);
    *writer = (struct ofrep_writer){0};
}

void ofrep_writer_reset(struct ofrep_writer *writer)
{
    writer->len = 0;
    writer->full = false;
}

// After a failure nothing more is taken, so that a later small piece does not hide the gap.
bool ofrep_writer_grow(struct ofrep_writer *writer, size_t more)
{
    size_t cap = writer->cap;
    if (writer->full || more > OFREP_ANSWER_BYTES_MAX - writer->len) {
        writer->full = true;
        return false;
    }
    while (cap - writer->len < more)
        cap *= 2;
    char *data = heap_resize(writer->data, cap);
    if (data == NULL) {
        writer->full = true;
        return false;
    }
    writer->data = data;
    writer->cap = cap;
    return true;
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

// Length of the UTF-8 sequence at the start of bytes, 0 when it is none.
static size_t sequence_len(struct slice bytes)
{
    unsigned char lead = (unsigned char)bytes.data[0];
    size_t len = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0x80)
        return 1;
    if (bytes.len < len || !flags_utf8_valid((struct slice){bytes.data, len}))
        return 0;
    return len;
}

static void put_escaped(struct ofrep_writer *writer, unsigned char c)
{
    char text[8];
    switch (c) {
    case '"':
        OFREP_PUT(writer, "\\\"");
        return;
    case '\\':
        OFREP_PUT(writer, "\\\\");
        return;
    case '\n':
        OFREP_PUT(writer, "\\n");
        return;
    case '\t':
        OFREP_PUT(writer, "\\t");
        return;
    case '\r':
        OFREP_PUT(writer, "\\r");
        return;
    default:
        snprintf(text, sizeof text, "\\u%04x", c);
        ofrep_put(writer, (struct slice){text, 6});
    }
}

void ofrep_put_string(struct ofrep_writer *writer, struct slice text)
{
    size_t at = 0;
    OFREP_PUT(writer, "\"");
    while (at < text.len) {
        size_t start = at;
        while (at < text.len && is_plain((unsigned char)text.data[at]))
            at++;
        if (at > start)
            ofrep_put(writer, (struct slice){text.data + start, at - start});
        if (at == text.len)
            break;
        unsigned char c = (unsigned char)text.data[at];
        size_t len = c < 0x80 ? 1 : sequence_len((struct slice){text.data + at, text.len - at});
        if (c < 0x80)
            put_escaped(writer, c);
        else if (len == 0)
            OFREP_PUT(writer, "\xef\xbf\xbd");
        else
            ofrep_put(writer, (struct slice){text.data + at, len});
        at += len == 0 ? 1 : len;
    }
    OFREP_PUT(writer, "\"");
}

void ofrep_put_number(struct ofrep_writer *writer, int64_t value)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%lld", (long long)value);
    ofrep_put(writer, (struct slice){text, (size_t)len});
}
