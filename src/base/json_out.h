// SPDX-License-Identifier: Apache-2.0
// JSON written as text, piece by piece, into memory that grows. One policy for all strings that leave the
// program as JSON: bytes that are no UTF-8 become U+FFFD each, the control characters of RFC 8259 and '"' and
// '\' are escaped, nothing else is.
#pragma once

#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"
#include "base/status.h"

// Zero is an empty text without a bound. After a failure nothing more is taken, so that a gap cannot hide.
struct json_out {
    char *data; // heap
    size_t len, cap;
    size_t max;         // bytes; 0: as memory allows
    enum status status; // FULL, NO_MEMORY: what is here is worthless
    bool comma;         // the next member or item needs one
};

void json_out_free(struct json_out *out);
void json_out_reset(struct json_out *out);                    // keeps the memory
bool json_out_grow(struct json_out *out, size_t more);        // room for so many bytes more
void json_out_quote(struct json_out *out, struct slice text); // a string, without comma

// Bytes as they are, without comma.
static inline void json_out_bytes(struct json_out *out, struct slice bytes)
{
    if (UNLIKELY(out->cap - out->len < bytes.len) && !json_out_grow(out, bytes.len))
        return;
    if (bytes.len > 0)
        memcpy(out->data + out->len, bytes.data, bytes.len);
    out->len += bytes.len;
}
#define JSON_OUT(out, literal) json_out_bytes((out), SLICE(literal))

static inline struct slice json_out_slice(const struct json_out *out)
{
    return (struct slice){out->data != NULL ? out->data : "", out->len};
}

// Members of an object, or items of an array (name NULL). The name is a plain word.
void json_out_open(struct json_out *out, const char *name, char bracket);
void json_out_close(struct json_out *out, char bracket);
void json_out_raw(struct json_out *out, const char *name, struct slice json);
void json_out_null(struct json_out *out, const char *name);
void json_out_bool(struct json_out *out, const char *name, bool yes);
void json_out_string(struct json_out *out, const char *name, struct slice text);
void json_out_text(struct json_out *out, const char *name, const char *text); // NULL: null
void json_out_integer(struct json_out *out, const char *name, int64_t number);
void json_out_count(struct json_out *out, const char *name, uint64_t count); // at most INT64_MAX
void json_out_time(struct json_out *out, const char *name, int64_t time_ms); // 0: null
void json_out_real(struct json_out *out, const char *name, double number);   // 12 digits; not finite: null

// The next piece of a string's body: a stretch of what stays as it is, or one escape, which is put into
// storage. False at the end. brief: \n, \r and \t by their letters; else, as every other control, by number.
enum { JSON_ESCAPE_BYTES = 6 };
bool json_piece(struct slice *rest, bool brief, char storage[JSON_ESCAPE_BYTES], struct slice *piece);
