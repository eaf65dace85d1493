// SPDX-License-Identifier: Apache-2.0
// One evaluation of one flag: no allocation, no clock, bounded in depth, steps and scratch. Every outcome
// that is not a plain match says why. Passing a bound is an error GENERAL, never a crash and never a silent
// default.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/text.h"
#include "flags/eval/image.h"
#include "flags/eval/json.h"

enum {
    FLAGS_STEPS_MAX = 100000,     // rule nodes, array items and 64-byte pieces of text
    FLAGS_SCRATCH_DEFAULT = 16384 // enough for ordinary rules; holds results of cat, lists, sorted maps
};

// The words are OpenFeature's (specification, "Resolution reason" and "Error code").
enum flags_reason {
    FLAGS_REASON_STATIC,
    FLAGS_REASON_TARGETING_MATCH,
    FLAGS_REASON_DEFAULT,
    FLAGS_REASON_SPLIT, // the split of a rollout decided
    FLAGS_REASON_DISABLED,
    FLAGS_REASON_ERROR,
};
enum flags_error {
    FLAGS_ERROR_NONE,
    FLAGS_ERROR_FLAG_NOT_FOUND,
    FLAGS_ERROR_TYPE_MISMATCH,
    FLAGS_ERROR_PARSE_ERROR,
    FLAGS_ERROR_TARGETING_KEY_MISSING,
    FLAGS_ERROR_INVALID_CONTEXT,
    FLAGS_ERROR_GENERAL,
};
const char *flags_reason_name(enum flags_reason reason); // "STATIC", ...
const char *flags_error_name(enum flags_error error);    // "FLAG_NOT_FOUND", ...; "" for none

struct flags_context {
    const struct flags_json *tree; // an object (parse it with last_wins), or NULL for an empty one
    // The targeting key: this one if has_targeting_key, else the tree's member "targetingKey".
    bool has_targeting_key;
    struct slice targeting_key;
    // Without a key, a flag that buckets or targets by it answers TARGETING_KEY_MISSING when this is set.
    // Otherwise such a rule yields null, as in flagd, so the default variant answers, with a note.
    bool key_required;
    uint64_t time_s; // $flagd.timestamp, and the clock of schedules
};

struct flags_scratch {
    void *data; // any alignment
    size_t cap;
};

// Where a rollout's split put the key. Members of rings have the new variant, but were not drawn at random.
enum flags_arm { FLAGS_ARM_NONE, FLAGS_ARM_FROM, FLAGS_ARM_TO, FLAGS_ARM_RING };

struct flags_result {
    bool has_value;       // false: the caller's own default answers (DISABLED, ERROR, no default variant)
    enum flags_type type; // of the value: BOOLEAN, STRING, FLOAT or OBJECT
    bool boolean;
    double number;
    struct slice text;    // STRING: its bytes; OBJECT: its JSON
    struct slice json;    // the value as JSON text, for every type
    struct slice variant; // empty when none
    enum flags_reason reason;
    enum flags_error error;
    enum flags_arm arm;
    uint32_t counter;        // the counter of this outcome (tally.h)
    struct slice error_text; // why, for people; empty without error
    struct slice note;       // what else decided ("outside its schedule"), or empty
    struct slice
        metadata; // the flag's over the set's (of an unknown flag the set's): a JSON object, or empty
};

// Slices of the result borrow from the image (`note` and `error_text` from the image or constants), never
// from scratch or context. `type` is the type that the caller expects; FLAGS_ANY accepts all.
void flags_evaluate(const struct flags_image *set, struct slice key, enum flags_type type,
                    const struct flags_context *context, struct flags_scratch scratch,
                    struct flags_result *result);

// The type by the word of people and protocols: any, boolean, string, integer, float or number, object.
// STATUS_NOT_FOUND for another word.
MUST_USE enum status flags_type_read(struct slice word, enum flags_type *type);

// The number of a result as an integer, exactly as it was written. False when it does not fit.
bool flags_result_integer(const struct flags_result *result, int64_t *out);

// As flags_evaluate. Also adds to `path` which part of the flag decided, such as
// "targeting.if[2].fractional[1]" (the argument taken of each rule, counted from 0), "targets", "schedule",
// "prerequisites[0]", "kill", "rollout.ring[0]" or "rollout.split".
void flags_explain(const struct flags_image *set, struct slice key, enum flags_type type,
                   const struct flags_context *context, struct flags_scratch scratch,
                   struct flags_result *result, struct text *path);

// Whether the context is in a shared segment of the set, which means that the segment's rule is true. The
// rule sees the segment's name as $flagd.flagKey; a fractional in it has the set's default generation. A rule
// that passes a bound matches nobody. False: there is no such segment.
bool flags_segment_matches(const struct flags_image *set, struct slice name,
                           const struct flags_context *context, struct flags_scratch scratch, bool *matches);
