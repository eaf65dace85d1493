// SPDX-License-Identifier: Apache-2.0
// The wire format of Protocol Buffers (protobuf.dev, "Encoding"): a reader over borrowed bytes, which needs
// no memory, and a writer into memory that grows. What a field means is the caller's affair: it takes those
// whose number and type it knows, the last of them, and leaves out all others.
#pragma once

#include "base/json_out.h"

enum {
    PROTOBUF_VARINT_BYTES = 10, // at most
    PROTOBUF_GROUPS_MAX = 32,   // of the groups that lie in each other and are left out
    PROTOBUF_NUMBER_MAX = (1 << 29) - 1,
};

enum protobuf_type { PROTOBUF_VARINT, PROTOBUF_FIXED64, PROTOBUF_BYTES, PROTOBUF_FIXED32 = 5 };

struct protobuf_field {
    uint32_t number;
    enum protobuf_type type;
    uint64_t value;     // VARINT, FIXED64 and FIXED32: its bits
    struct slice bytes; // BYTES: borrowed
};

struct protobuf_reader {
    struct slice rest; // of the message
    bool bad;          // it is no message; set once, and nothing more is read
};

// The next field. False at the end, and when `bad` is set. Groups are left out.
bool protobuf_next(struct protobuf_reader *reader, struct protobuf_field *field);
double protobuf_double(const struct protobuf_field *field); // of FIXED64

void protobuf_put_varint(struct json_out *out, uint32_t number, uint64_t value);
void protobuf_put_double(struct json_out *out, uint32_t number, double value);
void protobuf_put_bytes(struct json_out *out, uint32_t number, struct slice bytes);
// A message within a message: its fields are put between open and close, which gets what open gave.
size_t protobuf_open(struct json_out *out, uint32_t number);
void protobuf_close(struct json_out *out, size_t begin);
