// SPDX-License-Identifier: Apache-2.0
// Bounded binary reading and writing for journal payloads and messages: LEB128 varints, zigzag for signed,
// IEEE-754 doubles as eight little-endian bytes, length-prefixed bytes. Errors stick, so one test at the end
// is enough.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"

struct wire_writer {
    uint8_t *data;
    size_t len;
    size_t cap;
    bool full; // set when something did not fit; nothing is written past cap
};

struct wire_reader {
    const uint8_t *data;
    size_t len;
    size_t at;
    bool bad; // set at the first truncated or malformed item; later reads give zero
};

void wire_put_u64(struct wire_writer *w, uint64_t value);
void wire_put_i64(struct wire_writer *w, int64_t value);
void wire_put_double(struct wire_writer *w, double value);
void wire_put_bytes(struct wire_writer *w, struct slice bytes);

uint64_t wire_get_u64(struct wire_reader *r);
int64_t wire_get_i64(struct wire_reader *r);
double wire_get_double(struct wire_reader *r);
// Borrows from the reader's data.
struct slice wire_get_bytes(struct wire_reader *r);
// Reads a length-prefixed string into storage[cap] and terminates it. A string that is too long sets `bad`.
void wire_get_string(struct wire_reader *r, char *storage, size_t cap);
// True when all bytes were read and none was bad.
bool wire_done(const struct wire_reader *r);
