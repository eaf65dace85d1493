// SPDX-License-Identifier: Apache-2.0
// What mirrored requests were answered, compared off the path of requests: each candidate with its primary,
// and the secondary with it as well, so that noise is told from what is different (ship/diff). Per run it
// keeps counts, the table of paths that differ, and up to five examples for each; no bodies.
//
// A thread of its own takes requests from a bounded queue; what it cannot take is counted. Identity, when the
// queue is empty: sent = triples + pairs + all uncompared. Functions may be called from any thread.
#pragma once

#include "base/json_out.h"
#include "base/wire.h"
#include "net/mirror/seen.h"
#include "ship/diff/noise.h"
#include "ship/rollout/shadow.h"

enum {
    SHADOW_RUNS_MAX = 16, // that are kept; one that ended is forgotten for a new one
    SHADOW_QUEUE_MAX = 1024,
    SHADOW_QUEUE_BYTES_MAX = 64 << 20, // of bodies
    SHADOW_BODY_BYTES_MAX = 4 << 20,   // of one body, decoded; larger ones are compared by digest
    SHADOW_EXAMPLES_MAX = 5,           // of one path
    SHADOW_EXAMPLE_PATHS_MAX = 256,    // of one run, that have examples
    SHADOW_STATUSES_MAX = 32,
    SHADOW_PATTERNS_MAX = 64,
    SHADOW_NAME_BYTES = 64,
    SHADOW_METHOD_BYTES = 16,
    SHADOW_TARGET_BYTES = 256,
};

// ---- redaction: what must not be kept or shown ----

// Patterns of paths in which '*' stands for any run of characters: "header.x-session", "query.email",
// "body.user.email", "body.*.iban". Always: Authorization, Proxy-Authorization, Cookie, Set-Cookie;
// parameters that are called as secrets are; and all that looks like a token (class.h: jwt, hex, token).
struct shadow_redaction {
    const struct slice *patterns;
    uint32_t count;
};

// A value of that path as it may be shown.
void shadow_redact_value(const struct shadow_redaction *redaction, struct slice path, enum diff_class class,
                         struct slice value, struct text *shown);
// Path and query of a request.
void shadow_redact_target(const struct shadow_redaction *redaction, struct slice target, struct text *shown);

// ---- runs ----

struct shadow_statuses {
    uint16_t first, last; // both in it
};

// All is copied.
struct shadow_rules {
    struct slice service;
    struct slice rollout;            // empty: the mirror of the service itself
    struct slice primary, candidate; // names of the versions, for people
    struct diff_recipe recipe;       // its key is not used: there is one of the process
    struct shadow_redaction redaction;
    const struct shadow_statuses *errors; // statuses that are errors; none: 500 to 599
    uint32_t error_count;                 // at most SHADOW_STATUSES_MAX
    // Microseconds to an answer's first byte, above which it is slow. 0: no such edge.
    uint64_t slow_candidate_us[ROLLOUT_SHADOW_EDGES], slow_primary_us[ROLLOUT_SHADOW_EDGES];
    double alpha, beta; // diff_noise_judge's; 0: 0.01 and 0.05
};

enum shadow_uncompared {
    SHADOW_CLIENT_GONE,    // says nothing of either version: nothing else is counted of such a request
    SHADOW_PRIMARY_FAILED, // no whole answer to compare with
    SHADOW_CANDIDATE_FAILED,
    SHADOW_QUEUE_FULL,
    SHADOW_UNCOMPAREDS
};
const char *shadow_uncompared_name(enum shadow_uncompared reason); // "client_gone", ...

struct shadow_counts { // of requests; only uint64_t
    uint64_t sent;
    uint64_t triples, pairs; // compared: with a secondary, and without
    uint64_t uncompared[SHADOW_UNCOMPAREDS];
    uint64_t differed;                         // compared: the candidate differed
    uint64_t candidate_ends[MIRROR_ENDS];      // of requests whose client stayed: how its asking ended
    uint64_t candidate_errors, primary_errors; // no answer, an error's status, or an answer that broke off
    // Slower than edge k, and the other one was not.
    uint64_t slow_candidate[ROLLOUT_SHADOW_EDGES], slow_primary[ROLLOUT_SHADOW_EDGES];
    uint64_t by_digest; // compared, at least one of their bodies by its digest: too large, or not decoded
    uint64_t examples_refused; // for whose path there was no place
};

struct shadow;

struct shadow_parts {
    struct siphash_key key; // secret
};

// NO_MEMORY. The thread begins with the first run.
MUST_USE enum status shadow_create(const struct shadow_parts *parts, struct shadow **shadow);
// What waits is not compared any more. NULL is allowed.
void shadow_destroy(struct shadow *shadow);
// Owns what was seen. One of a run that is not known, or over, is freed. For struct mirror_parts.
void shadow_take(void *shadow, struct mirror_seen *seen);
// Waits until all that was taken before is compared.
void shadow_wait(struct shadow *shadow);

// The number is the run's for ever. A run of the same service and rollout ends. EXISTS; INVALID: too many
// patterns or statuses; FULL: SHADOW_RUNS_MAX go on; NO_MEMORY.
MUST_USE enum status shadow_begin(struct shadow *shadow, uint64_t run, const struct shadow_rules *rules);
void shadow_end(struct shadow *shadow, uint64_t run);
// The last run of a rollout, or of a service's own mirror (rollout empty). False: none is kept.
bool shadow_find(struct shadow *shadow, struct slice service, struct slice rollout, uint64_t *run);

// What is new since the last delta, for the engine's tick. What the mirror dropped is the mirror's to tell.
// False: nothing.
bool shadow_delta(struct shadow *shadow, uint64_t run,
                  struct rollout_shadow_row rows[ROLLOUT_SHADOW_ROWS_MAX],
                  struct rollout_shadow_delta *delta);

// ---- reports ----

struct shadow_example {
    uint32_t rank;  // of its row
    uint32_t count; // occurrences in this pair of answers
    int64_t time_ms;
    uint16_t primary_status, candidate_status;
    uint64_t primary_bytes, candidate_bytes; // of the bodies as they came
    uint64_t primary_us, candidate_us;
    char method[SHADOW_METHOD_BYTES];
    char target[SHADOW_TARGET_BYTES]; // these three are redacted
    char primary[DIFF_VALUE_BYTES], candidate[DIFF_VALUE_BYTES];
    char place[DIFF_PLACE_BYTES];
};

// A copy, for people. For heap_free.
struct shadow_report {
    char service[SHADOW_NAME_BYTES], rollout[SHADOW_NAME_BYTES];
    char primary[SHADOW_NAME_BYTES], candidate[SHADOW_NAME_BYTES];
    uint64_t run;
    bool ended;
    int64_t first_ms, last_ms; // of the requests; 0: none
    struct shadow_counts counts;
    struct diff_noise noise;
    struct diff_judgement judged[DIFF_ROWS_MAX];
    uint32_t judged_count;
    uint32_t example_count;
    struct shadow_example examples[];
};

// NOT_FOUND, NO_MEMORY.
MUST_USE enum status shadow_report(struct shadow *shadow, uint64_t run, struct shadow_report **report);
// As the API answers it. path: a pattern of the paths that are told; empty: all.
void shadow_report_write(const struct shadow_report *report, struct slice path, struct json_out *out);

enum { SHADOW_WORDS_BYTES = 768 };
// "v2 answers body.price otherwise in 0.8 % of 12 400 requests; ..."
void shadow_report_words(const struct shadow_report *report, const struct diff_judgement *judged,
                         char words[SHADOW_WORDS_BYTES]);
// An example as an object of JSON.
void shadow_example_write(const struct shadow_example *example, const char *member, struct json_out *out);
