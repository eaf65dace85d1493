// SPDX-License-Identifier: Apache-2.0
// The rollout machine: evidence and commands in, effects out. Pure: time is in the input, storage is the
// caller's, and equal inputs give equal effects to the bit, on which the journal's replay rests.
//
//     Pending → Baseline → Shadow, Segment → Shifting(k) ⇄ Paused, AwaitingApproval, Undecided → Soaking →
//     Completed and from any of them RollingBack → RolledBack
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"
#include "ship/rollout/evidence.h"
#include "ship/rollout/shadow.h"
#include "ship/rollout/spec.h"

enum rollout_state {
    ROLLOUT_PENDING,           // known, not started: no canary traffic
    ROLLOUT_BASELINE,          // started, measuring the baseline's latency edges
    ROLLOUT_SHIFTING,          // a weight stage is in force
    ROLLOUT_AWAITING_APPROVAL, // the last weight stands until a person answers
    ROLLOUT_PAUSED,            // the weight stands; nothing moves forward, rollback still may
    ROLLOUT_UNDECIDED,         // the horizon passed without evidence; held
    ROLLOUT_SOAKING,           // at 100 %, watched
    ROLLOUT_COMPLETED,
    ROLLOUT_ROLLING_BACK, // weight is zero; waiting for the requests in flight
    ROLLOUT_ROLLED_BACK,
    ROLLOUT_SEGMENT, // a ring has the new variant of a flag; nothing is compared
    ROLLOUT_SHADOW,  // the new version answers copies of requests. Last: states are journalled
    ROLLOUT_STATES
};

enum rollout_command {
    ROLLOUT_COMMAND_START,
    ROLLOUT_COMMAND_PAUSE,
    ROLLOUT_COMMAND_RESUME,
    ROLLOUT_COMMAND_PROMOTE, // to the next stage without waiting for evidence
    ROLLOUT_COMMAND_ABORT,   // back to zero
    ROLLOUT_COMMAND_UNDO,    // after completion (within keep) or in soak: back to the old version
    ROLLOUT_COMMAND_APPROVE,
    ROLLOUT_COMMANDS
};

enum rollout_input_kind {
    ROLLOUT_INPUT_SPEC,    // first input of every run: what to do. Taken in PENDING, COMPLETED, ROLLED_BACK
    ROLLOUT_INPUT_COMMAND, // an operator's word
    ROLLOUT_INPUT_EDGES,   // the baseline's edges, frozen by control
    ROLLOUT_INPUT_TICK,    // time passed, perhaps with evidence
    // The process restarted; ticks and tables count from zero again. Of the spans still open, those are
    // counted up to and including the first that has requests pending (imputed); later ones are forgotten. In
    // the shadow the differ knows no path any more: what was compared counts from zero again.
    ROLLOUT_INPUT_RESUMED,
    // A run that another rule of decision began: it goes on where it stands, with evidence gathered afresh.
    ROLLOUT_INPUT_TAKEOVER,
    // What counts as an error is another from some table on: evidence and the stage's time begin afresh, and
    // no request that an earlier table routed counts any more.
    ROLLOUT_INPUT_REDEFINED,
    ROLLOUT_INPUTS
};

enum {
    ROLLOUT_TICK_SPANS_MAX = 1024,
    ROLLOUT_VERDICT_TEXT_BYTES = 1024,
    ROLLOUT_WHO_BYTES = 64,
    ROLLOUT_INPUT_WIRE_BYTES_MAX = 512 * 1024,
};

enum rollout_outcome {
    ROLLOUT_OUTCOME_NONE,
    ROLLOUT_OUTCOME_STARTED,
    ROLLOUT_OUTCOME_PROMOTED,    // evidence moved it forward
    ROLLOUT_OUTCOME_ROLLED_BACK, // evidence took it back
    ROLLOUT_OUTCOME_UNDECIDED,   // the horizon passed
    ROLLOUT_OUTCOME_OPERATOR,    // a person moved it
    ROLLOUT_OUTCOME_COMPLETED,
    ROLLOUT_OUTCOME_BLOCKED, // the sample ratio broke: promotion is withheld
    ROLLOUT_OUTCOMES
};

// A decision and all it rested on. The text is for people, one to three lines.
struct rollout_verdict {
    enum rollout_outcome outcome;
    int64_t time_ms;
    int64_t evidence_since_ms;
    uint32_t stage;
    char check[32]; // "errors", "latency p99", "throughput", "sample ratio", "operator", ...
    double log_e;   // the mixture's or the check's ln E at the decision
    double log_e_needed;
    double ratio_low; // the ratio that is exceeded at that confidence; 0 when there is none
    uint64_t canary_events, canary_total, baseline_events, baseline_total;
    char text[ROLLOUT_VERDICT_TEXT_BYTES];
};

// Where a run of another rule stood.
struct rollout_takeover {
    const struct rollout_spec *spec; // under the present rule
    enum rollout_state state;
    enum rollout_state paused_from; // PAUSED
    uint32_t stage;
    uint32_t weight;
    int64_t started_ms;
    int64_t state_since_ms;
    struct rollout_edges edges;
    struct rollout_verdict last;
};

struct rollout_input {
    enum rollout_input_kind kind;
    int64_t time_ms; // wall clock, milliseconds since 1970; never runs backwards (the core clamps)
    union {
        const struct rollout_spec *spec;
        struct {
            enum rollout_command command;
            char who[ROLLOUT_WHO_BYTES];  // token name or user
            char from[ROLLOUT_WHO_BYTES]; // address
        } command;
        struct rollout_edges edges;
        struct {
            bool strangers; // the new process knows no unit yet: all are seen for the first time once more
            uint64_t errors_id; // as in the spec, of now: when it differs, as REDEFINED too. 0: unknown
        } resumed;
        struct {
            uint64_t errors_id;
            uint64_t table; // the first that counts by it
        } redefined;
        struct {
            uint64_t tick;        // the present tick; one below an earlier one means a restart (as RESUMED)
            uint64_t slept_ticks; // of the ticks since the last TICK, those in which this process did not run
            bool hold;            // the journal cannot be written: nothing moves forward
            uint64_t spans_lost;  // spans overwritten before they could be gathered, since the last TICK
            uint32_t
                baseline_count; // requests in control's baseline histogram, for the text (BASELINE state)
            uint32_t span_count;
            const struct rollout_span_delta *spans;
            const struct rollout_shadow_delta *shadow; // NULL: nothing
        } tick;
        struct rollout_takeover takeover;
    };
};

// What the world must now do, in this order, after input and effects are in the journal.
struct rollout_effects {
    bool changed; // state, stage or weight differ from before: worth a journal entry and a notice
    bool publish; // the routing table must carry `weight`, and mirror or not, now
    enum rollout_state from;
    enum rollout_state to;
    uint32_t stage;
    uint32_t weight;
    bool has_verdict;
    struct rollout_verdict verdict;
    enum status refused; // COMMAND and SPEC: STATUS_OK, or the reason in refused_text (CONFLICT; DENIED for
                         // an approval that is another's; INVALID for a spec that cannot run)
    char refused_text[160];
};

// The machine's own state: about 1.7 megabytes, the caller's storage, no pointers inside.
struct rollout;
size_t rollout_size(void);
void rollout_init(struct rollout *rollout);
// Any input is safe in any state: what does not fit is refused (COMMAND, SPEC) or ignored and counted. The
// machine starts only by a START command (`start_auto` is control's business). A last stage below 100 %
// completes with its weight standing.
void rollout_step(struct rollout *rollout, const struct rollout_input *input,
                  struct rollout_effects *effects);
// How long after its last input the machine wants a tick even without evidence, in milliseconds that the
// process runs; UINT64_MAX: not before evidence comes.
uint64_t rollout_wait_ms(const struct rollout *rollout);

// Where a decoded input keeps what it points to.
struct rollout_input_room {
    struct rollout_spec spec;
    struct rollout_span_delta spans[ROLLOUT_TICK_SPANS_MAX];
    struct rollout_shadow_delta shadow;
    struct rollout_shadow_row rows[ROLLOUT_SHADOW_ROWS_MAX];
};

// Wire forms for the journal. What is decoded borrows *room.
// Decoding says STATUS_CORRUPT of malformed bytes, STATUS_UNSUPPORTED of a form that a later version writes.
void rollout_input_encode(const struct rollout_input *input, struct wire_writer *writer);
MUST_USE enum status rollout_input_decode(struct wire_reader *reader, struct rollout_input_room *room,
                                          struct rollout_input *input);
void rollout_effects_encode(const struct rollout_effects *effects, struct wire_writer *writer);
MUST_USE enum status rollout_effects_decode(struct wire_reader *reader, struct rollout_effects *effects);
// True when both are the same to the bit (compares wire forms).
bool rollout_effects_equal(const struct rollout_effects *a, const struct rollout_effects *b);

// ---- a view for status, API and the live terminal ----

struct rollout_check_view {
    char name[16];     // "errors", "latency", "throughput", "statuses"
    double log_e_bad;  // largest over the prefixes, now
    double log_e_good; // of the gate in this stage; the better of ratio and negligible for errors
    double log_e_good_needed;
    bool good; // has had enough evidence in this stage
    uint64_t canary_events, canary_total, baseline_events, baseline_total; // that voted, in whole seconds
    uint64_t more_requests; // estimate of what is still needed to promote, in all arms; 0: none, UINT64_MAX:
                            // unknown
};

// What the stage in the shadow showed so far, or in the end.
struct rollout_shadow_view {
    bool on;       // requests are to be mirrored
    bool has_been; // the run stands in that stage, or stood in it
    uint64_t sent, uncompared, dropped, candidate_answered, candidate_errors, primary_errors;
    uint64_t compared, compared_needed;
    uint64_t triples;    // of the compared, those asked three times: only they tell what differs
    uint32_t paths;      // at which an answer differed
    uint32_t different;  // of those, more often than the old version from itself
    uint32_t noisy;      // shown to be noise
    uint32_t suspected;  // too much to go on, too little to go back
    double log_e;        // of the strongest path, with its weight; 0: no path
    double log_e_needed; // calls it different
    double found;        // share of answers that a path must differ in to be found, 95 % sure; above 1: none
};

struct rollout_view {
    enum rollout_state state;
    uint32_t stage;       // index into the spec's stages
    uint32_t ring_stages; // the segments among so many first stages are in force
    uint32_t weight;      // wanted now
    int64_t started_ms;   // 0: not started
    int64_t stage_since_ms;
    int64_t state_since_ms;
    int64_t redefined_ms;                // when REDEFINED last began evidence afresh in this run; 0: never
    uint64_t stage_watched_ms;           // of the stage: what its minimum time and its soak are measured in
    uint64_t quiet_ms;                   // since the last canary request, while the process ran
    uint64_t routed[ROLLOUT_ARMS];       // whole rollout
    uint64_t stage_routed[ROLLOUT_ARMS]; // this stage: the measured split
    struct rollout_counts pending;       // unused fields zero; `routed - completed` of open spans, canary arm
    double log_e_bad;                    // the rollback mixture, now
    double log_e_bad_needed;             // ln(1/alpha)
    double log_e_srm;
    bool blocked; // promotion, by the sample ratio
    struct rollout_edges edges;
    uint64_t spans_lost;     // as told by TICK
    uint64_t spans_ignored;  // deltas that came for a span already closed, or broke the contract
    uint32_t baseline_count; // as told by the last TICK, of latency.baseline_requests
    struct rollout_shadow_view shadow;
    uint32_t check_count;
    struct rollout_check_view checks[4];
    struct rollout_verdict last; // outcome NONE: no verdict yet
};

// The share of answers that a path must differ in to be found among so many requests asked three times, 95 %
// sure, by a differ that was not begun again; above 1: none is.
double rollout_shadow_found(const struct rollout_spec *spec, double triples);
// What calls a path of the first table different: diff_judge's alpha.
double rollout_shadow_alpha(const struct rollout_spec *spec);
const struct rollout_spec *rollout_spec_of(const struct rollout *rollout);
void rollout_yardstick_get(const struct rollout *rollout, struct rollout_yardstick *yardstick);
void rollout_view_get(const struct rollout *rollout, struct rollout_view *view);

const char *rollout_state_name(enum rollout_state state);       // "Pending", "Shifting", ...
const char *rollout_command_name(enum rollout_command command); // "start", ...
MUST_USE enum status rollout_command_parse(struct slice word, enum rollout_command *command);
const char *rollout_outcome_name(enum rollout_outcome outcome);
// True for COMPLETED and ROLLED_BACK.
bool rollout_state_is_final(enum rollout_state state);
