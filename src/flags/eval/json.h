// SPDX-License-Identifier: Apache-2.0
// A strict JSON reader (RFC 8259) into the caller's nodes: flag sets, contexts and request bodies. No heap,
// bounded depth, well-formed UTF-8 only, duplicate member names refused, errors with their byte offset.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"

enum {
    FLAGS_JSON_DEPTH_MAX = 64,
    FLAGS_JSON_NUMBER_BYTES_MAX = 128, // a longer number is refused
};

enum flags_json_kind {
    FLAGS_JSON_NULL,
    FLAGS_JSON_FALSE,
    FLAGS_JSON_TRUE,
    FLAGS_JSON_NUMBER,
    FLAGS_JSON_STRING,
    FLAGS_JSON_ARRAY,
    FLAGS_JSON_OBJECT,
};

// Children are reached by first and next, both NULL-terminated. A tree may also be built by hand (a context
// from key-value pairs).
struct flags_json {
    uint8_t kind;
    bool integral;     // NUMBER: written without fraction and exponent
    uint32_t count;    // ARRAY, OBJECT: children
    struct slice key;  // the member's name, unescaped, when the parent is an object
    struct slice text; // STRING: unescaped bytes; else the value as it was written
    double number;
    struct flags_json *first;
    struct flags_json *next;
};

// The caller's storage for one or more parses; reset by setting both counts to zero.
struct flags_json_space {
    struct flags_json *nodes;
    uint32_t node_count;
    uint32_t node_cap;
    char *chars; // for strings with escapes; the length of the source always suffices
    size_t char_count;
    size_t char_cap;
    // Keep the last of two members with one name, as the JSON readers of clients do, from which evaluation
    // contexts come. Otherwise a repeated name is refused. An object of more than 256 members needs, for a
    // moment, up to a quarter more nodes for this.
    bool last_wins;
};

// How many nodes suffice for a text of so many values. It includes the table on unused nodes by which
// repeated names in large objects are found: fewer than four entries of four bytes for each member.
static inline uint64_t flags_json_node_need(uint64_t values)
{
    return values + values * 16 / sizeof(struct flags_json) + 1;
}

struct flags_json_error {
    size_t at;        // byte offset in the source
    const char *what; // constant sentence part: "expected ',' or '}'"
};

// Parses a whole document. The tree borrows source and space. STATUS_INVALID with *fault, STATUS_FULL when
// the space is too small.
MUST_USE enum status flags_json_parse(struct slice source, struct flags_json_space *space,
                                      struct flags_json **root, struct flags_json_error *fault);

// Walks the members of an object (or items of an array) without building nodes for them, for documents that
// are too large to be one tree. Begin with the text of the container; each step gives the validated text of
// the next member's value.
struct flags_json_walk {
    struct slice source;
    size_t at;
    bool object;
    bool done;
};
MUST_USE enum status flags_json_walk_begin(struct slice container, struct flags_json_walk *walk,
                                           struct flags_json_error *fault);
// STATUS_OK with key (raw: still escaped, without quotes; empty in arrays) and value; STATUS_NOT_FOUND at the
// end. Offsets in the error count from the container's first byte.
MUST_USE enum status flags_json_walk_next(struct flags_json_walk *walk, struct slice *key,
                                          struct slice *value, struct flags_json_error *fault);
// The same step, building the value's tree in space. STATUS_FULL when it does not fit; the walk then stays
// before the member, so that the step may be repeated with more space.
MUST_USE enum status flags_json_walk_tree(struct flags_json_walk *walk, struct flags_json_space *space,
                                          struct slice *key, struct flags_json **node,
                                          struct flags_json_error *fault);
// Unescapes a raw string body into out[cap].
MUST_USE enum status flags_json_unescape(struct slice raw, char *out, size_t cap, size_t *len);

// A member of an object by name, or NULL.
const struct flags_json *flags_json_member(const struct flags_json *object, struct slice key);
// Line and column (both from 1, columns in bytes) of an offset.
void flags_json_position(struct slice source, size_t at, uint32_t *line, uint32_t *column);
