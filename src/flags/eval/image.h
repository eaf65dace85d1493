// SPDX-License-Identifier: Apache-2.0
// A flag set compiled from flagd files into one read-only image: without pointers (offsets of 32 bits),
// checksummed, the same bytes for the same source, so that any number of processes may map it. The evaluator
// (evaluate.h) works on the image alone and allocates nothing.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/siphash.h"
#include "base/slice.h"
#include "base/status.h"
#include "flags/eval/json.h"

enum {
    FLAGS_IMAGE_VERSION = 3,
    FLAGS_IMAGE_ALIGN = 8,        // of the memory given to compile and open
    FLAGS_RULE_DEPTH_MAX = 96,    // nesting of a rule, with each $ref followed
    FLAGS_PREREQUISITES_MAX = 16, // of one flag; also the length of the longest chain
    FLAGS_VARIANTS_MAX = 4096,    // of one flag
};

// How the fractional operator maps a bucketing value to a share. See bucket.h.
enum flags_generation { FLAGS_GENERATION_1 = 1, FLAGS_GENERATION_2 = 2, FLAGS_GENERATION_3 = 3 };

enum flags_severity {
    FLAGS_WARNING,
    FLAGS_FAULT, // its flag answers PARSE_ERROR
    FLAGS_ERROR, // the set is refused
};

// Something wrong in the source. line and column count from 1, columns in bytes.
struct flags_finding {
    enum flags_severity severity;
    uint32_t document; // index in the bundle; FLAGS_DOCUMENTS_MAX: the segments, or a patch (line 0)
    uint32_t line;
    uint32_t column;
    const char *message; // a constant sentence part
    // The flag's key, or empty; borrowed from source or image. Escapes stay as in the source, except in
    // findings about prerequisites.
    struct slice key;
    struct slice subject; // the operator, variant or name at fault, or empty; borrowed from source or scratch
};

struct flags_compile_options {
    // The generation of a set that does not choose one ("x-sluice": {"fractional": 1|2|3}); 0: the newest.
    uint8_t default_generation;
    // For lint: targeting faults and departures from the published JSON Schema become errors. A file whose
    // "$schema" names flags.json must then not use the array form (flagd.json allows it).
    bool strict;
};

// Compiles the map or array form. Structural faults refuse the whole set: STATUS_INVALID. With a targeting
// fault the flag alone answers PARSE_ERROR or, where flagd says so, the operator yields null, with a warning.
// STATUS_FULL: cap is too small (about three times the source suffices), or the image would pass 4 GiB.
// STATUS_NO_MEMORY: scratch is too small for the largest flag or for "$evaluators" (64 Ki nodes are enough
// for nearly all sets; scratch->chars needs the unescaped length of the strings that hold escapes). out must
// be aligned to FLAGS_IMAGE_ALIGN; its bytes are undefined on failure. *problem_count is always set and
// counts all problems, stored or not.
//
// Under "x-sluice" a set may hold {"fractional": generation}, a flag:
//   "kill": true | "variant"            answers that variant at once, as DISABLED, whatever the state; with
//                                       true the variant that is false, and without one the caller's default
//   "schedule": {"from": t, "until": t} targeting and targets apply only in [from, until); Unix seconds or
//                                       RFC 3339; outside, the default variant
//   "targets": {"variant": ["key"...]}  these targeting keys get that variant, before any rule
//   "prerequisites": [{"flag", "variant"}...]  unless each of those flags answers so, the default variant
MUST_USE enum status flags_compile(struct slice json, const struct flags_compile_options *options,
                                   struct flags_json_space *scratch, void *out, size_t cap, size_t *len,
                                   struct flags_finding *problems, size_t problem_cap, size_t *problem_count);

// ---- a set made of several documents ----

enum {
    FLAGS_DOCUMENTS_MAX = 256,
    FLAGS_RINGS_MAX = 8,
};

// A flagd file. Its metadata and its "x-sluice" settings concern only its own flags. A "$ref" is looked up in
// its own "$evaluators", then among the segments, then in the other documents, beginning with the last.
struct flags_bundle_document {
    struct slice json;
    const char *name; // for people: a path or an address; borrowed
};

enum flags_patch_state { FLAGS_PATCH_AS_IS, FLAGS_PATCH_ENABLED, FLAGS_PATCH_DISABLED };

// A change that an operator or a rollout makes to a flag, whichever document the flag came from. Its parts
// stand alone: what names a flag, variant or segment that does not exist is a warning, and the rest counts. A
// kill always counts: without the variant it names it answers as "kill": true.
struct flags_patch {
    struct slice key;
    enum flags_patch_state state; // ENABLED also lifts a kill from the file
    bool kill;                    // as "kill" in the file, and before the state
    struct slice kill_variant;    // empty: as "kill": true
    // The split of a rollout, of those who get `split_from` by targeting or default: members of a ring get
    // `split_to`, and so do `split_share` of FLAGS_SHARE_TOTAL of all others. Salt and targeting key decide
    // (flags_bucket_of_split), so under one salt nobody moves while the share stays, and a growing share
    // moves nobody back. Individual targets, kills, prerequisites and schedules are not split, nor is anybody
    // without a targeting key. flags_segment_matches says who is a member of a ring.
    bool split;
    struct slice split_from, split_to; // names of variants
    uint32_t split_share;
    struct siphash_key split_salt; // of the rollout's run
    uint32_t ring_count;
    struct slice rings[FLAGS_RINGS_MAX]; // names of segments
};

struct flags_bundle {
    // When two have a flag of one key, the later document's is taken.
    const struct flags_bundle_document *documents;
    uint32_t document_count;
    // JSON object of names and rules. Every document may "$ref" them (its own evaluators come first), and
    // rings name them; empty: none. A fault in one refuses the bundle.
    struct slice segments;
    const struct flags_patch *patches;
    uint32_t patch_count; // one per key; a second one is a warning and changes nothing
    // Of a larger set: prerequisites that cannot be met for want of the rest are faults of their flags alone.
    bool part;
};

// As flags_compile, for many documents at once; problems say in which document they are. Prerequisites are
// looked up in the merged set. STATUS_RANGE above FLAGS_DOCUMENTS_MAX; STATUS_NO_MEMORY also when the
// segments are too many for the scratch. A flag that a later document overrides still takes room in the
// image. The set's metadata is that of the last document that has some.
MUST_USE enum status flags_bundle_compile(const struct flags_bundle *bundle,
                                          const struct flags_compile_options *options,
                                          struct flags_json_space *scratch, void *out, size_t cap,
                                          size_t *len, struct flags_finding *problems, size_t problem_cap,
                                          size_t *problem_count);

// An image that was opened; borrows its bytes.
struct flags_image {
    const uint8_t *image;
    uint32_t len;
};

enum { FLAGS_PATCH_BYTES_MAX = 64 }; // what a patch adds to an image at most

// Patches an image that was compiled without any, by copying it: the same bytes as compiling the bundle with
// these patches, at the cost of a copy and a checksum. STATUS_FULL: the image did not fit, and cap is below
// base->len + count * FLAGS_PATCH_BYTES_MAX. STATUS_CONFLICT: the base has patches already. Problems are
// warnings, as when compiling. out must be aligned to FLAGS_IMAGE_ALIGN and must not overlap the base.
MUST_USE enum status flags_image_patch(const struct flags_image *base, const struct flags_patch *patches,
                                       uint32_t count, void *out, size_t cap, size_t *len,
                                       struct flags_finding *problems, size_t problem_cap,
                                       size_t *problem_count);

// STATUS_CORRUPT unless magic, version, length and checksum are right. The checksum guards against damage,
// not against somebody who can write the image.
MUST_USE enum status flags_image_open(const void *image, size_t len, struct flags_image *set);

// Counters of a set (tally.h): 0 counts unknown flags; each flag has variant_count + 2 from its
// first_counter: the variants, then "no variant", then errors.
uint32_t flags_image_counter_count(const struct flags_image *set);
uint32_t flags_image_flag_count(const struct flags_image *set);
// The generation of the last document. The flags of each document follow their own document's generation.
enum flags_generation flags_image_generation(const struct flags_image *set);
// Changes whenever the source changes in a way that matters, so it can serve as an entity tag.
uint64_t flags_image_checksum(const struct flags_image *set);
// The set's metadata as a JSON object, or empty.
struct slice flags_image_metadata(const struct flags_image *set);

enum flags_type { FLAGS_ANY, FLAGS_BOOLEAN, FLAGS_STRING, FLAGS_INTEGER, FLAGS_FLOAT, FLAGS_OBJECT };

// What the file says about one flag.
struct flags_info {
    struct slice key;
    enum flags_type type; // BOOLEAN, STRING, FLOAT (any number) or OBJECT
    bool enabled;
    bool has_targeting;
    bool has_targets;
    bool has_schedule;
    bool killed;
    bool split;
    uint32_t document;      // index in the bundle
    uint32_t at;            // byte offset in that document of its member (or list item)
    uint32_t first_counter; // see flags_image_counter_count
    uint32_t variant_count;
    uint32_t prerequisite_count;
    struct slice default_variant; // empty: the caller's default
    struct slice kill_variant;    // when killed; empty: the caller's default
    struct slice fault;           // why it answers PARSE_ERROR, or empty
    struct slice metadata;        // of set and flag merged, a JSON object, or empty
    int64_t from_s;               // of its schedule, Unix time; INT64_MIN: open
    int64_t until_s;              // INT64_MAX: open
};

// Walks all flags in the order of the documents: *cursor begins at 0. False at the end.
bool flags_image_next(const struct flags_image *set, uint32_t *cursor, struct flags_info *info);
bool flags_image_find(const struct flags_image *set, struct slice key, struct flags_info *info);
// The i-th variant's name and its value as JSON text; false when there is none.
bool flags_image_variant_get(const struct flags_image *set, struct slice key, uint32_t i, struct slice *name,
                             struct slice *json);
