// SPDX-License-Identifier: Apache-2.0
// What the parts of the converter share. Trees are jansson's. Functions that return a tree return a new
// reference and take over the references they are given. NULL (no memory) passes through to the end, where
// the run is given up.
//
// Safety: a condition that cannot be converted is unknown. The caller that builds it says what an unknown
// counts as (`assume`): false where the rule turns something on, true where it turns something off, and the
// reverse below a negation. So the result never turns on what was off.
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "flags/convert/convert.h"

enum {
    CONVERT_SOURCE_BYTES_MAX = 64 << 20,
    CONVERT_FINDINGS_MAX = 10000, // one more says how many were left out
    CONVERT_SHARE_TOTAL = 100000, // weights resolve to 0.001 %
    CONVERT_PREREQUISITES_MAX = 16,
};

struct convert_run {
    const struct convert_options *options;
    struct convert_result *result;
    json_t *source;         // borrowed
    json_t *flags;          // of the output: key -> flag
    json_t *evaluators;     // of the output
    const char *flag;       // the flag that findings are about; "" for the export
    const char *name;       // of the environment taken; NULL: the export has none
    uint32_t finding_room;  // allocated
    uint32_t finding_count; // all, also those left out
    uint32_t depth;         // nesting of segments, now
    json_t *inexact;        // names of segments with an unknown condition
    json_t *unsure;         // keys of flags with something lost (true), or that fall to off (false)
    json_t *index;          // lists of the source by key: {"list": {key: row or [rows]}}
    bool falls_to_off;      // a flag with something lost is off where it would not be
    bool no_memory;
};

// ---- findings (finding.c) ----
enum convert_loss {
    CONVERT_DIFFERS,
    CONVERT_FALLS,   // differs, for odd values: off where it would be on
    CONVERT_LOST,    // somebody may get another variant: flags that ask for this one are not sure of it
    CONVERT_CHANGED, // everybody gets the same variant, but its value has another form
};
__attribute__((format(printf, 3, 4))) void convert_find(struct convert_run *run, enum convert_loss loss,
                                                        const char *format, ...);

// ---- reading (tree.c) ----
// Members of any JSON value; a member that is missing or of another kind reads as empty, 0 or NULL.
const char *convert_text(const json_t *object, const char *name); // NULL when it is no string
bool convert_flagged(const json_t *object, const char *name);
const json_t *convert_list(const json_t *object, const char *name); // an array or NULL
double convert_number(const json_t *value, bool *is);               // a number, or a string that is one
// RFC 3339, or a number of milliseconds since 1970; false when it is neither.
bool convert_time(const json_t *value, double *time_ms);

// ---- rules (logic.c) ----
json_t *convert_op1(const char *op, json_t *a);
json_t *convert_op2(const char *op, json_t *a, json_t *b);
json_t *convert_var(const char *path);
json_t *convert_and(json_t *a, json_t *b); // constants are folded
json_t *convert_or(json_t *a, json_t *b);
json_t *convert_not(json_t *a);
json_t *convert_present(const json_t *value);   // is not null
json_t *convert_is_text(const json_t *value);   // is a string
json_t *convert_is_number(const json_t *value); // is a number
// Whether a share (of CONVERT_SHARE_TOTAL) of all values, drawn by prefix and value, holds this value.
json_t *convert_share(const char *prefix, json_t *value, int64_t share);
// {"fractional": [{"cat": [prefix, value]}, buckets...]}; buckets is an array of [name, weight].
json_t *convert_fractional(const char *prefix, json_t *value, const json_t *buckets);
// Converts a pattern without wildcards to a comparison of `value`; NULL when the pattern has more.
json_t *convert_pattern(const char *pattern, const json_t *value);
// A version with missing parts filled in; false when it is none. cap at least 64.
bool convert_version(const char *text, bool partial, char *out, size_t cap);

// ---- building flags (tree.c) ----
// Builds the chain of an "if": a condition, its answer, and the rest. A condition that is always true ends
// it.
struct convert_chain {
    json_t *arguments;
    bool closed;
};
void convert_chain_add(struct convert_chain *chain, json_t *condition, json_t *answer);
// The rule; a plain string when there is no condition; NULL when there is no rule at all. `otherwise` may be
// NULL.
json_t *convert_chain_end(struct convert_chain *chain, json_t *otherwise);
json_t *convert_extension(json_t *flag); // its "x-sluice", borrowed, made when missing
void convert_metadata_text(json_t *flag, const char *name, const char *value);
void convert_metadata(json_t *flag, const char *name, json_t *value);
// Makes the flag answer `variant` (NULL: the caller's default) until somebody switches it on. Disabled, so
// that it is off for programs that know no kill; its rules stay.
void convert_kill(json_t *flag, const char *variant);
void convert_require(struct convert_run *run, json_t *flag, const char *key, const char *variant);
// Chooses run->name among the environments. False: it reported INVALID.
bool convert_choose(struct convert_run *run, const json_t *environments);

// ---- formats ----
bool convert_launchdarkly(struct convert_run *run);
bool convert_unleash(struct convert_run *run);

// A rule's condition (launchdarkly_clause.c). *exact becomes false when a part of it is unknown.
json_t *ld_clauses(struct convert_run *run, const json_t *clauses, bool assume, bool *exact);
json_t *ld_keys(const json_t *value,
                const json_t *keys); // true for a value among the keys; takes over the value
// The place in the context of an attribute of a kind; NULL when it cannot be named there.
json_t *ld_attribute(const char *kind, const char *attribute);
bool ld_is_user(const char *kind);
json_t *ld_drawable(const json_t *value); // whether a share can be drawn by it: text or a whole number
// Walks the members or items of the container: *key is the member's name or the item's own "key". False at
// the end.
bool ld_each(const json_t *container, size_t *at, const char **key, const json_t **value);
void ld_index(struct convert_run *run, const char *name,
              const json_t *container); // of items with one key the first counts
void ld_segments(struct convert_run *run);

// The condition of one strategy (unleash_strategy.c); an unknown part is false.
json_t *unleash_strategy(struct convert_run *run, const json_t *strategy, const char *feature);
json_t *unleash_sticky(const char *stickiness); // the value to draw by
// exact: values count as they are written, with spaces.
json_t *unleash_in(const char *field, const json_t *values, bool exact, bool *known);

// ---- the end (finish.c) ----
// Removes prerequisites that lead nowhere, in a circle or too far. Then compiles the output strictly, and
// sets flags to "off" until it compiles.
enum status convert_finish(struct convert_run *run);
// Compiles; on success *count is the number of flags. Otherwise *culprit is the key of a faulty flag (a new
// reference), or NULL when unknown.
enum status convert_compile(struct slice json, uint32_t *count, json_t **culprit, char *problem, size_t cap);
enum status convert_print(struct convert_run *run, json_t *set);
