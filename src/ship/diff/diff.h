// SPDX-License-Identifier: Apache-2.0
// Compares what two versions answered to one request. Status, headers and body become paths
// ("body.items[].price"); each path and kind of difference is one finding, with how often it occurred and
// the first two values. Equal values are told by a keyed 64-bit hash: two different ones pass for equal once
// in 2^64. Time is linear in both answers, memory is the caller's.
//
// JSON (RFC 8259): members in any order; numbers by value, however large; strings after their escapes.
// Items of arrays are paired by an id where each has its own, else by equal values and what lies between.
// Text: by lines. gRPC: fields of messages by number; a field that may be a message is compared as bytes,
// because bytes alone do not tell. All else: by bytes. Bodies come without Content-Encoding.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/siphash.h"
#include "base/slice.h"
#include "base/status.h"
#include "base/text.h"
#include "ship/diff/class.h"

enum {
    DIFF_FINDINGS_MAX = 128,
    DIFF_PATH_BYTES = 208,  // a longer path ends with "…" and stands for all below it
    DIFF_VALUE_BYTES = 96,  // longer values are cut around their difference
    DIFF_PLACE_BYTES = 48,  // "3,0": the items of the arrays on the path; a longer one ends with "…"
    DIFF_DEPTH_MAX = 10000, // JSON nested deeper is compared as bytes
    DIFF_HEADERS_MAX = 256, // further ones are not compared, which a note says
    DIFF_WORDS_BYTES = 640,
    DIFF_NODE_BYTES = 80, // of the space, for each value of both bodies
};

enum diff_cut {
    DIFF_WHOLE,
    DIFF_CUT_LIMIT,  // more came than was kept
    DIFF_CUT_BROKEN, // the connection ended, or was reset, within the body
    DIFF_CUT_TIME,   // the deadline passed within the body
};

struct diff_header {
    struct slice name, value;
};

// What one version answered. It borrows all.
struct diff_answer {
    uint16_t status;
    uint32_t header_count;
    const struct diff_header *headers;
    struct slice body; // decoded
    enum diff_cut cut;
    // Where both are cut at the limit: of all that came, equal for equal bodies. They are compared by these.
    uint64_t bytes, digest;
};

// In findings "first" is the answer given first (the primary), "second" the other one.
enum diff_kind {
    DIFF_ADDED,    // only the second has it
    DIFF_MISSING,  // only the first has it
    DIFF_TYPE,     // number, string, ...: the type differs
    DIFF_VALUE,    // the value differs
    DIFF_ORDER,    // an array has the same items in another order
    DIFF_SPELLING, // a number is equal in value and written otherwise; only if the recipe asks
    DIFF_STATUS,   // status codes differ
    DIFF_BYTES,    // bodies differ, and were compared by bytes alone
    DIFF_CUT,      // one body is whole, or was cut for another reason
    DIFF_KINDS
};

// A path left out, by its template. '*' stands for any run of characters, so "body.*.updated" is that member
// at any depth below the root, and "body.cache*" all that begins so.
struct diff_ignore {
    struct slice path;
    struct slice reason; // for people
};

// What matters. All zeros but the key: everything but fields of the connection, Date, Age and Content-Length.
struct diff_recipe {
    const struct slice *headers; // the names that matter; NULL: all but those named above
    uint32_t header_count;
    const struct diff_ignore *ignores;
    uint32_t ignore_count;
    uint32_t ignored_classes; // bits 1 << enum diff_class: differences within one such class are left out
    bool spelling;            // tell numbers written otherwise
    int64_t now_ms;    // when the request came, since 1970; 0: not known. Two values that both tell a moment
                       // within five minutes of it are clocks: their difference is left out
    uint32_t body_max; // bytes of each body that are read for values; a larger one is compared by
                       // bytes; 0: UINT32_MAX
    struct siphash_key key; // random, so that nobody can make unequal values that pass for equal
};

struct diff_finding {
    char path[DIFF_PATH_BYTES];
    char place[DIFF_PLACE_BYTES]; // where it was first, in the first answer, or the second if added
    char first[DIFF_VALUE_BYTES], second[DIFF_VALUE_BYTES]; // UTF-8; empty: there is none
    uint64_t path_hash;
    uint32_t count; // occurrences in this comparison
    enum diff_kind kind;
    enum diff_class class; // of all pairs of values found here, if it is one
};

enum diff_reader {
    DIFF_READER_NONE,
    DIFF_READER_BYTES,
    DIFF_READER_JSON,
    DIFF_READER_TEXT,
    DIFF_READER_GRPC
};

// Bits of diff_comparison.notes: what a reader of the findings must know.
enum {
    DIFF_NOTE_UNREADABLE = 1 << 0, // a body does not keep the rules of its media type; `fault` says where
    DIFF_NOTE_DUPLICATE = 1 << 1,  // an object has two members of one name; they were paired in their order
    DIFF_NOTE_NOT_UTF8 = 1 << 2,   // a JSON string is not Unicode; it was compared as bytes
    DIFF_NOTE_TOO_DEEP = 1 << 3,   // beyond DIFF_DEPTH_MAX: compared as bytes
    DIFF_NOTE_TOO_LARGE = 1 << 4,  // beyond body_max or the space: compared as bytes
    DIFF_NOTE_CUT = 1 << 5,        // a body was cut: what came was compared as bytes
    DIFF_NOTE_MEDIA = 1 << 6,      // the media types call for different readers: compared as bytes
    DIFF_NOTE_HEADERS = 1 << 7,    // more than DIFF_HEADERS_MAX headers
    DIFF_NOTES = 8
};

// The result, in the caller's storage; diff_compare writes all of it. A body of the same bytes is equal
// whatever its type, and is not read: no notes on it.
struct diff_comparison {
    uint32_t count; // findings; in one order for one pair of answers
    uint32_t notes;
    uint64_t ignored; // occurrences that the recipe left out
    uint64_t beyond;  // occurrences of findings that had no place: more than DIFF_FINDINGS_MAX
    enum diff_reader reader;
    struct {
        const char *what; // constant: "expected ',' or '}'"; NULL: none
        uint32_t at;      // byte of the body
        bool second;      // which answer
    } fault;
    struct diff_finding findings[DIFF_FINDINGS_MAX];
};

// Scratch memory of the caller, aligned to 8 bytes, reused from one comparison to the next. Each value of
// both bodies needs DIFF_NODE_BYTES; where it does not suffice, bodies are compared as bytes.
struct diff_space {
    void *memory;
    size_t bytes;
};

// True when nothing differs that the recipe asks for.
bool diff_compare(const struct diff_recipe *recipe, const struct diff_answer *first,
                  const struct diff_answer *second, struct diff_space space,
                  struct diff_comparison *comparison);

// Whether a path is one of the pattern's, in which '*' stands for any run of characters.
bool diff_path_fits(struct slice pattern, struct slice path);
// How a body of that Content-Type is read.
enum diff_reader diff_reader_of(struct slice media_type);
const char *diff_kind_name(enum diff_kind kind); // "added", "missing", ...
// A note in words, for one bit.
const char *diff_note_words(uint32_t note);
// "body.items[].price: was 12, is 13; 3 times, first at item 0"
void diff_finding_words(const struct diff_finding *finding, char words[DIFF_WORDS_BYTES]);
