// SPDX-License-Identifier: Apache-2.0
// The machine's inside. evidence.c keeps spans and sums, judge.c asks the kernels, watch.c guards the soak,
// verdict.c says why, machine.c hands what one gives to the next and moves. None calls back.
#pragma once

#include "base/slice.h"
#include "ship/rollout/rollout.h"
#include "stats/bernoulli.h"
#include "stats/ecusum.h"
#include "stats/ratio.h"
#include "stats/srm.h"

// One kernel each: errors, the four latency edges, good responses.
enum {
    KERNEL_ERRORS,
    KERNEL_LATENCY,
    KERNEL_THROUGHPUT = KERNEL_LATENCY + ROLLOUT_EDGES,
    KERNELS,
};
enum rollout_check_kind { CHECK_ERRORS, CHECK_LATENCY, CHECK_THROUGHPUT, CHECKS };

enum {
    ROLLOUT_TALLIES_MAX = ROLLOUT_STAGES_MAX + 1, // weights told apart for the size of an effect
    ROLLOUT_TERMS_KEPT = 4,                       // nominal weights whose terms are kept ready
    ROLLOUT_SETTLE_TICKS = 10,      // a complete span younger than this is still kept open for late counts
    ROLLOUT_DRAIN_MS_MIN = 300,     // workers take up the table of a rollback within this
    ROLLOUT_RATE_TRIALS_MIN = 1000, // fewer say nothing about a small rate
    ROLLOUT_PREFIXES_MAX = 6,
    ROLLOUT_STAGE_NONE = 0xffffffff,
};
// The last millisecond of the year 9999: no sum of times below overflows.
#define ROLLOUT_TIME_MS_MAX INT64_C(253402300799999)

// struct rollout_counts, summed.
struct rollout_sums {
    uint64_t routed;
    uint64_t completed;
    uint64_t errors;
    uint64_t error_events;
    uint64_t slow[ROLLOUT_EDGES];
    uint64_t slow_margin[ROLLOUT_EDGES];
    uint64_t good;
};

// Events per kernel on both sides of the comparison.
struct rollout_pairs {
    uint64_t canary[KERNELS];
    uint64_t baseline[KERNELS];
};

// All that one span, or several of one weight, tell the kernels; requests without an outcome imputed.
struct rollout_facts {
    struct rollout_pairs bad;  // against the alarm
    struct rollout_pairs good; // against the promotion
    uint64_t trials;           // the canary's requests and failures, for the negligible test
    uint64_t failures;
};

// How requests without an outcome count.
enum rollout_imputing {
    IMPUTE_OPEN,      // unknown yet: against the alarm, against the promotion
    IMPUTE_TIMED_OUT, // their time is over: failed, slow and not good, on either arm
};

// What an event of a span pays, for the three grids of each direction.
struct rollout_terms {
    bool ready;
    uint64_t canary; // what the weight was made from: nominal weights, or routed counts when keyed
    uint64_t baseline;
    struct stats_ratio_terms bad[CHECKS];
    struct stats_ratio_terms good[CHECKS];
};

struct rollout_span {
    uint64_t tick;
    uint64_t table;
    uint32_t weight;
    uint32_t weight_control;
    uint32_t stage; // the stage it belongs to, or ROLLOUT_STAGE_NONE
    bool warm;      // within the warm-up: only errors count
    struct rollout_sums arms[ROLLOUT_ARMS];
    struct rollout_terms terms; // keyed only
};

// Evidence so far, one state per kernel and direction.
struct rollout_bank {
    struct stats_ratio_state bad[KERNELS];
    struct stats_ratio_state good[KERNELS];
    struct stats_bernoulli_state negligible;
};

// Closed spans of one weight, to say how large an effect is.
struct rollout_tally {
    uint32_t weight;
    uint32_t weight_control;
    uint64_t routed_canary;
    uint64_t routed_baseline;
    struct rollout_pairs bad;
};

// Plain totals for people and for the frozen rates. Latency and throughput count only in `judged`.
struct rollout_totals {
    struct rollout_sums all[ROLLOUT_ARMS];
    struct rollout_sums judged[ROLLOUT_ARMS];
};

struct rollout_judgement {
    double log_bad; // the mixture at the prefix where it is largest
    double log_bad_check[CHECKS];
    double log_bad_kernel[KERNELS];
    uint32_t prefix_spans;   // open spans in that prefix
    double log_good[CHECKS]; // each the largest over the prefixes
    double log_good_ratio;   // of errors, by ratio
    double log_negligible;   // of errors, by the canary's own rate
    double log_watch;        // the soak's mixture
    double log_watch_kernel[KERNELS];
};

// Where the watch stands: one e-CUSUM per kernel. Errors count one by one; for latency and throughput the
// second is the trial, because slowness comes in bursts.
struct rollout_watch_track {
    struct stats_ecusum ecusum[KERNELS];
    uint64_t second; // being filled
    uint64_t trials; // requests in it
    uint64_t events[KERNELS];
    uint64_t seconds; // complete ones with requests
    uint64_t seconds_bad[KERNELS];
};

struct rollout_watch {
    bool on;
    bool kernel_on[KERNELS];
    double rate[KERNELS]; // p0
    uint64_t steps_max;
    uint64_t steps;
    uint32_t extensions; // how often the soak outlasted its plan
    double threshold;
    struct stats_bernoulli_grid errors_grid;
    struct stats_bernoulli_grid seconds_grid;
    struct rollout_watch_track closed;
};

struct rollout {
    bool has_spec;
    struct rollout_spec spec;
    enum rollout_state state;
    enum rollout_state paused_from;
    uint32_t stage;
    uint32_t ring_stages; // the segments among so many first stages are in force; 0 once it goes back
    uint32_t weight;
    int64_t now_ms;
    int64_t tick_before_ms; // time of the TICK before the present one
    int64_t started_ms;
    int64_t stage_since_ms;
    int64_t state_since_ms;
    int64_t stage_paused_ms; // of the time since stage_since_ms
    int64_t canary_since_ms; // first canary request seen; 0: none yet
    int64_t stage_canary_since_ms;
    struct rollout_edges edges;
    struct rollout_verdict last;

    // evidence
    uint64_t tick;
    bool has_closed; // names up to and including (closed_tick, closed_table) are closed
    uint64_t closed_tick;
    uint64_t closed_table;
    uint64_t spans_lost;
    uint64_t spans_ignored;
    uint32_t baseline_count;
    uint32_t span_first; // ring
    uint32_t span_count;
    struct rollout_span spans[ROLLOUT_SPANS_OPEN_MAX];
    uint64_t routed[ROLLOUT_ARMS];
    uint64_t stage_routed[ROLLOUT_ARMS];
    struct rollout_totals before; // weight zero
    struct rollout_totals shared; // both arms have traffic
    struct rollout_totals full;   // weight 100 %
    struct rollout_totals in_stage;
    uint32_t tally_count;
    struct rollout_tally tallies[ROLLOUT_TALLIES_MAX];
    struct stats_srm srm;
    bool blocked;

    // kernels
    struct stats_ratio_grid grid_bad[CHECKS];
    struct stats_ratio_grid grid_good[CHECKS];
    struct stats_bernoulli_grid grid_negligible;
    double errors_margin; // R1 in force
    uint32_t terms_next;
    struct rollout_terms terms[ROLLOUT_TERMS_KEPT];
    struct rollout_bank bank; // closed spans
    bool good[CHECKS];        // has had enough in this stage
    struct rollout_judgement judgement;
    struct rollout_watch watch;
};

// ---- evidence.c ----

static inline struct rollout_span *evidence_span(struct rollout *rollout, uint32_t i)
{
    return &rollout->spans[(rollout->span_first + i) % ROLLOUT_SPANS_OPEN_MAX];
}
enum rollout_arm evidence_baseline_arm(const struct rollout *rollout);
static inline uint64_t evidence_pending(const struct rollout_sums *arm)
{
    return arm->routed > arm->completed ? arm->routed - arm->completed : 0;
}
// Forgets all evidence; spans routed before the present tick never count again.
void evidence_reset(struct rollout *rollout);
// Starts what a stage counts for itself.
void evidence_stage_reset(struct rollout *rollout);
// Whether the delta opens a span for which the oldest must be taken out first.
bool evidence_lacks_room(struct rollout *rollout, const struct rollout_span_delta *delta);
void evidence_add(struct rollout *rollout, const struct rollout_span_delta *delta);
// Both take the oldest span out: it is closed, and stays readable until a span is opened. `over`: if it is
// complete and settled, or older than the deadline; else NULL.
struct rollout_span *evidence_take_oldest(struct rollout *rollout);
struct rollout_span *evidence_take_over(struct rollout *rollout);
bool evidence_complete(const struct rollout_span *span); // no request of it is pending
// Of a process that is gone: its open spans, and its ticks.
void evidence_forget_open(struct rollout *rollout);
void evidence_facts(const struct rollout *rollout, const struct rollout_span *span,
                    enum rollout_imputing imputing, struct rollout_facts *facts);
uint64_t evidence_canary_pending(struct rollout *rollout);

// ---- judge.c ----

// Builds the grids that last for the run, and those of a stage (whose margin may depend on evidence before
// it).
void judge_start(struct rollout *rollout);
void judge_stage_start(struct rollout *rollout);
// Adds a span that will not change any more.
void judge_close(struct rollout *rollout, struct rollout_span *span, const struct rollout_facts *facts);
void judge_evaluate(struct rollout *rollout);
double judge_good_needed(const struct rollout *rollout, enum rollout_check_kind check);
bool judge_check_on(const struct rollout *rollout, enum rollout_check_kind check);
double judge_share(const struct rollout *rollout, enum rollout_check_kind check);
// Ends of the prefixes as ages in ticks, oldest first. Returns how many.
uint32_t judge_lags(const struct rollout *rollout, uint64_t lags[ROLLOUT_PREFIXES_MAX]);
// The bound on the ratio that holds at spec.alpha for a kernel at the judged prefix: from below, for
// throughput from above.
double judge_ratio_bound(struct rollout *rollout, int kernel);
// Requests (all arms) still needed to promote by this check, UINT64_MAX: unknown.
uint64_t judge_more_requests(const struct rollout *rollout, enum rollout_check_kind check);

// ---- watch.c ----

// Freezes the baseline's rates for the soak of the present stage.
void watch_start(struct rollout *rollout);
void watch_close(struct rollout *rollout, const struct rollout_span *span, enum rollout_imputing imputing);
// Sets the judgement's watch part. True: the alarm is reached.
bool watch_evaluate(struct rollout *rollout);
// Upper bound on a rate of which `events` of `trials` were seen, wrong with probability at most delta.
double watch_rate_upper(uint64_t events, uint64_t trials, double delta);

// ---- verdict.c ----

// Each fills a verdict: number fields and text.
void verdict_operator(const struct rollout *rollout, const struct rollout_input *input, const char *what,
                      struct rollout_verdict *verdict);
void verdict_rolled_back(struct rollout *rollout, struct rollout_verdict *verdict);
void verdict_watch_alarm(struct rollout *rollout, struct rollout_verdict *verdict);
// stage is the one that was passed; the machine has already moved on.
void verdict_promoted(const struct rollout *rollout, uint32_t stage, uint32_t weight_before,
                      struct rollout_verdict *verdict);
void verdict_undecided(const struct rollout *rollout, const char *consequence,
                       struct rollout_verdict *verdict);
void verdict_completed(const struct rollout *rollout, struct rollout_verdict *verdict);
void verdict_blocked(const struct rollout *rollout, struct rollout_verdict *verdict);
// "Shifting, stage 2 of 6, 5 %"
struct text;
void verdict_add_position(const struct rollout *rollout, struct text *text);
