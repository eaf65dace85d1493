// SPDX-License-Identifier: Apache-2.0
// Writes JSON as text, piece by piece, into memory that grows. All strings that leave the program as JSON are
// written here, by one rule: each byte that is not UTF-8 becomes U+FFFD; control characters,
// DEL among them, '"' and '\' are escaped; nothing else is.
#pragma once

#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"
#include "base/status.h"

// All bytes zero: an empty text without a bound. After a failure nothing more is added until the reset, so a
// text never has gaps.
struct json_out {
    char *data; // heap
    size_t len, cap;
    size_t max;         // bytes; 0: limited only by memory
    enum status status; // FULL or NO_MEMORY: the text is incomplete and must not be used
    bool comma;         // a comma must come before the next member or item
};

void json_out_free(struct json_out *out);
void json_out_reset(struct json_out *out);                    // keeps the memory
bool json_out_grow(struct json_out *out, size_t more);        // room for so many bytes more
void json_out_quote(struct json_out *out, struct slice text); // a string, without comma

// Adds bytes as they are, without a comma.
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

// Takes the next piece off the body of a string: either bytes that need no escape, or one escape, which is
// written to storage. False at the end. brief:
// , \r and \t are written with letters; otherwise with numbers, like every other control character.
enum { JSON_ESCAPE_BYTES = 6 };
bool json_piece(struct slice *rest, bool brief, char storage[JSON_ESCAPE_BYTES], struct slice *piece);
