// SPDX-License-Identifier: Apache-2.0
// What the operator asked for: one rollout as the file says it, with every default filled in.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/slice.h"
#include "base/status.h"
#include "base/wire.h"
#include "ship/rollout/evidence.h"

enum {
    ROLLOUT_NAME_BYTES = 64, // names of rollouts, services, versions, people; the NUL included
    ROLLOUT_STAGES_MAX = 32,
    ROLLOUT_RINGS_MAX = 8, // segments of one rollout
    ROLLOUT_IGNORES_MAX = 16,
    ROLLOUT_IGNORE_BYTES = 128,
    ROLLOUT_SPEC_WIRE_BYTES_MAX = 16384,
};

enum rollout_stage_kind {
    ROLLOUT_STAGE_WEIGHT,  // a share of live traffic
    ROLLOUT_STAGE_APPROVE, // wait for a person
    ROLLOUT_STAGE_SEGMENT, // of a flag: a ring gets the new variant, for min_ms without a comparison
    ROLLOUT_STAGE_SHADOW,  // of a version: it answers copies of requests, and nobody gets its answers
};

// What a rollout moves.
enum rollout_target {
    ROLLOUT_TARGET_VERSION, // requests of a service, from one version to another
    ROLLOUT_TARGET_FLAG,    // a flag, from one variant to another
    ROLLOUT_TARGETS
};

// Where its evidence comes from.
enum rollout_source {
    ROLLOUT_SOURCE_REQUESTS, // the proxy's requests to a service
    ROLLOUT_SOURCE_EVENTS,   // what users of a flag tell
    ROLLOUT_SOURCES
};

enum rollout_undecided { ROLLOUT_UNDECIDED_HOLD, ROLLOUT_UNDECIDED_ROLLBACK, ROLLOUT_UNDECIDED_PROCEED };

// How a stage in the shadow asks.
struct rollout_shadow_rules {
    uint32_t share;     // of the service's requests that are mirrored, 1..ROLLOUT_WEIGHT_FULL
    uint32_t secondary; // of those, asked of the old version once more: only they are evidence of differences
    uint64_t compared;  // never promoted before so many requests were compared
    uint64_t timeout_ms; // of a mirrored request
    bool unsafe;         // mirrors methods that change something, too
};

// A path of answers that is not compared, by its template (struct diff_ignore).
struct rollout_ignore {
    char path[ROLLOUT_IGNORE_BYTES];
    char reason[ROLLOUT_IGNORE_BYTES]; // for people
};

// How the answers to mirrored requests are compared and judged.
struct rollout_diff_rules {
    double alpha; // bound on a false rollback in the shadow: a half for what differs, a half for errors and
                  // latency
    uint32_t ignore_count;
    struct rollout_ignore ignores[ROLLOUT_IGNORES_MAX];
};

struct rollout_stage {
    enum rollout_stage_kind kind;
    uint32_t weight;     // WEIGHT: canary share, 1..ROLLOUT_WEIGHT_FULL
    uint64_t min_ms;     // WEIGHT, SHADOW: `for`, never promoted before
    uint64_t horizon_ms; // WEIGHT, SHADOW: after this without evidence the undecided policy applies
    uint64_t soak_ms;    // WEIGHT at 100 %: how long the watch goes on before completion
    char segment[ROLLOUT_NAME_BYTES];   // SEGMENT: whose members are the ring
    char by[ROLLOUT_NAME_BYTES];        // APPROVE: the `who` that may, exactly; empty: any approver
    struct rollout_shadow_rules shadow; // SHADOW
};

// How decisions follow from evidence. A journal names the rule of each run: what another rule decided is
// history, and this program does not derive it again.
enum {
    ROLLOUT_RULE_REQUESTS = 1, // each request counted for itself; gone
    ROLLOUT_RULE_SECONDS = 2,  // each second is one vote, a stage is passed by what moving on can cost; gone
    ROLLOUT_RULE_STALLS = 3,   // as 2; a second in which the baseline stalls or fails proves nothing, and
                               // bounds close in on a rate
    ROLLOUT_RULE = ROLLOUT_RULE_STALLS,
};

enum rollout_prove {
    ROLLOUT_PROVE_BUDGET, // what moving on may cost
    ROLLOUT_PROVE_RATIO,  // below `margin` times the baseline's rate, at every stage alike
};

struct rollout_check_errors {
    bool on;
    double share;             // v: its part of the rollback mixture
    double worse;             // rolled back above worse times the baseline's rate plus floor
    double floor;             // in errors per request
    enum rollout_prove prove; // what promotes
    double budget;            // BUDGET: share of all requests that may fail more because of one step
    double margin;            // RATIO: R1; 0: 1.25, or 1.5 when the baseline's rate is under 0.5 %
    double negligible;        // RATIO: rate under which the canary's errors do not matter; 0: off
    uint64_t window_ms;       // a unit's second error within it does not count; 0: the whole rollout
};

struct rollout_check_latency {
    bool on;
    double share;
    double worse;  // rolled back: canary slower than worse*T more often than the baseline is slower than T
    double margin; // promoted: canary slower than margin*T against baseline slower than T
    double budget; // share of all requests that may be slow more because of one step
    uint64_t baseline_requests; // sample before the edges are frozen, default 10 000
    uint64_t slack_ms;          // the canary counts as slow only this long past an edge: no user feels less
};

struct rollout_check_throughput {
    bool on;
    double share;
    double margin; // promoted when the ratio of good responses is shown to be above 1 / margin
};

// Answers of a class that users take for broken: 3xx and 4xx, each compared for itself.
struct rollout_check_statuses {
    bool on;
    double share;
    double worse;
    double floor;
    double budget;
};

struct rollout_spec {
    char name[ROLLOUT_NAME_BYTES];
    enum rollout_target target; // both are what the two names below say, see rollout_spec_classify
    enum rollout_source source;
    char flag[ROLLOUT_NAME_BYTES];    // FLAG: its key; else empty
    char service[ROLLOUT_NAME_BYTES]; // VERSION: whose; REQUESTS: of whom; else empty
    char from[ROLLOUT_NAME_BYTES];    // the stable version, or the variant given today
    char to[ROLLOUT_NAME_BYTES];      // the canary version, or the variant to come
    uint32_t rule;                    // of decision, see above
    uint64_t
        salt[2]; // of the run, drawn as it starts: nobody can reckon beforehand who gets what. Zeros: none
    uint64_t errors_id; // stands for what counted as an error of the service when the run began; 0: unknown
    uint32_t stage_count;
    struct rollout_stage stages[ROLLOUT_STAGES_MAX];
    struct rollout_diff_rules diff; // of the stage SHADOW, of which there is at most one
    struct rollout_check_errors errors;
    struct rollout_check_latency latency;
    struct rollout_check_throughput throughput;
    struct rollout_check_statuses statuses;
    double outage; // trigger: more than this share fails in each of three seconds; 0: off
    double alpha;  // bound on a false rollback over the whole rollout, default 0.01
    double beta;   // bound on a false promotion per stage, default 0.05
    enum rollout_undecided undecided;
    bool evidence_cumulative; // of a proof by ratio: kept across stages; harm is of one stage
    bool keyed;               // assignment is by unit, not per request: the measured share is the weight
    bool control;             // the baseline is the control arm
    bool start_auto;          // starts when the daemon starts
    uint64_t warmup_ms;       // canary's first time, whose latency and throughput are not counted
    uint64_t deadline_ms;     // a request still pending after it is decided as timed out, default 30 s
    uint64_t drain_ms;        // how long a rollback waits for requests in flight
    uint64_t keep_ms;         // after completion, how long undo stays instant
};

// Fills every field but names and stages with its default.
void rollout_spec_init(struct rollout_spec *spec);
// The stage in the shadow, or NULL.
const struct rollout_stage *rollout_spec_shadow(const struct rollout_spec *spec);
// Puts the default stages: 1, 5, 10, 25, 50, 100 %.
void rollout_spec_default_stages(struct rollout_spec *spec);
// Sets target and source by the names that are given: a file, and a journal, say what is moved by naming it.
void rollout_spec_classify(struct rollout_spec *spec);
// Puts a specification of an older rule under the present one: what it did not say is as by default.
void rollout_spec_upgrade(struct rollout_spec *spec);
// Whether the machine can run it: STATUS_INVALID with a sentence. Weights must grow from stage to stage,
// nothing comes after 100 %, nothing is in the shadow once a weight stands, a horizon is at least its minimum
// time. `share`s need not sum to 1.
MUST_USE enum status rollout_spec_check(const struct rollout_spec *spec, struct fault *fault);
// Decoding finds malformed bytes (STATUS_CORRUPT) and bytes of a later version (STATUS_UNSUPPORTED); whether
// the result can run is rollout_spec_check's question.
void rollout_spec_encode(const struct rollout_spec *spec, struct wire_writer *writer);
MUST_USE enum status rollout_spec_decode(struct wire_reader *reader, struct rollout_spec *spec);
