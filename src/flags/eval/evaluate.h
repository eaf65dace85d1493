// SPDX-License-Identifier: Apache-2.0
// One evaluation of one flag: no allocation, no clock, bounded in depth, steps and scratch. Every outcome
// that is not a plain match says why; passing a bound is an error GENERAL, never a crash and never a silent
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
    FLAGS_STEPS_MAX = 100000,     // rule nodes, array items and 64-byte stretches looked at
    FLAGS_SCRATCH_DEFAULT = 16384 // bytes that do for ordinary rules; small cat results, lists, sorted maps
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
    // Without a key, a flag that buckets or targets by it is TARGETING_KEY_MISSING. When false such a rule
    // yields null, as in flagd, and the default variant answers, with a note.
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
    uint32_t counter;        // which counter of the set this outcome is (tally.h)
    struct slice error_text; // why, for people; empty without error
    struct slice note;       // what else decided ("outside its schedule"); may be empty
    struct slice
        metadata; // the flag's over the set's (of an unknown flag the set's): a JSON object, or empty
};

// Slices of the result borrow from the image, except `note`, `error_text` (image or constants) — nothing
// borrows from scratch or context. type is what the caller expects, FLAGS_ANY to take whatever there is.
void flags_evaluate(const struct flags_image *set, struct slice key, enum flags_type type,
                    const struct flags_context *context, struct flags_scratch scratch,
                    struct flags_result *result);

// The same with the path that decided, such as "targeting.if[2].fractional[1]", added to path: the argument
// of each rule that was taken, counted from 0, or "targets", "schedule", "prerequisites[0]", "kill",
// "rollout.ring[0]", "rollout.split".
void flags_explain(const struct flags_image *set, struct slice key, enum flags_type type,
                   const struct flags_context *context, struct flags_scratch scratch,
                   struct flags_result *result, struct text *path);

// Whether the context is in a shared segment of the set: whether its rule is true. The rule sees the
// segment's name as $flagd.flagKey, and a fractional in it is of the set's default generation. A rule that
// passes a bound matches nobody. False: no such segment.
bool flags_segment_matches(const struct flags_image *set, struct slice name,
                           const struct flags_context *context, struct flags_scratch scratch, bool *matches);
