// SPDX-License-Identifier: Apache-2.0
// The machine's inside. evidence.c keeps spans and sums, judge.c asks the kernels, shadow.c judges what
// mirrored requests showed, watch.c guards the soak, verdict.c says why, machine.c hands what one gives to
// the next and moves. None calls back.
#pragma once

#include "base/slice.h"
#include "ship/diff/judge.h"
#include "ship/diff/noise.h"
#include "ship/rollout/rollout.h"
#include "stats/bernoulli.h"
#include "stats/ecusum.h"
#include "stats/harm.h"
#include "stats/ratio.h"
#include "stats/srm.h"
#include "stats/vote.h"

// One kernel for each kind of bad event: errors, the four latency edges, responses that are not good, and two
// classes of statuses that a broken version gives in place of answers.
enum {
    KERNEL_ERRORS,
    KERNEL_LATENCY,
    KERNEL_THROUGHPUT = KERNEL_LATENCY + ROLLOUT_EDGES,
    KERNEL_REDIRECTS,
    KERNEL_CLIENT_ERRORS,
    KERNELS,
};
enum rollout_check_kind { CHECK_ERRORS, CHECK_LATENCY, CHECK_THROUGHPUT, CHECK_STATUSES, CHECKS };

enum {
    ROLLOUT_TERMS_KEPT = 4,         // nominal weights whose terms are kept ready
    ROLLOUT_SETTLE_TICKS = 10,      // a complete span younger than this is still kept open for late counts
    ROLLOUT_DRAIN_MS_MIN = 300,     // workers take up the table of a rollback within this
    ROLLOUT_RATE_TRIALS_MIN = 1000, // fewer say nothing about a small rate
    ROLLOUT_PREFIXES_MAX = 6,
    ROLLOUT_STAGE_NONE = 0xffffffff,
    ROLLOUT_SECOND_TICKS = 1000 / ROLLOUT_TICK_MS,
    ROLLOUT_QUIET_MS = 10000, // time without a canary request counts as watched up to this
    ROLLOUT_UNITS_MIN = 10,   // fewer users in an arm are not worth a promotion
    ROLLOUT_JUDGED_MIN = 100, // nor are fewer requests
};
// The last millisecond of the year 9999: no sum of times below overflows.
#define ROLLOUT_TIME_MS_MAX INT64_C(253402300799999)

// struct rollout_counts, summed.
struct rollout_sums {
    uint64_t routed;
    uint64_t excused;
    uint64_t completed;
    uint64_t errors;
    uint64_t error_events;
    uint64_t failed;
    uint64_t slow[ROLLOUT_EDGES];
    uint64_t slow_margin[ROLLOUT_EDGES];
    uint64_t good;
    uint64_t redirects;
    uint64_t client_errors;
    uint64_t unit_squares;
};

// Bad events per kernel on both sides of the comparison, and the requests they are among.
struct rollout_pairs {
    uint64_t canary_judged[KERNELS];
    uint64_t baseline_judged[KERNELS];
    uint64_t canary[KERNELS];
    uint64_t baseline[KERNELS];
};

// All that one span, or several of one weight, tell; requests without an outcome imputed.
struct rollout_facts {
    struct rollout_pairs bad;  // against the alarm
    struct rollout_pairs good; // against the promotion
    uint64_t error_events;     // of the canary with what is pending, for the proof by ratio
};

// How requests without an outcome count.
enum rollout_imputing {
    IMPUTE_OPEN,      // unknown yet: against the alarm, against the promotion
    IMPUTE_TIMED_OUT, // their time is over: failed, slow and not good, on either arm
};

// What an error of a span pays, in both directions.
struct rollout_terms {
    bool ready;
    uint64_t canary; // nominal weights
    uint64_t baseline;
    struct stats_ratio_terms bad;
    struct stats_ratio_terms good;
};

struct rollout_span {
    uint64_t tick;
    uint64_t table;
    uint32_t weight;
    uint32_t weight_control;
    uint32_t stage;       // the stage it belongs to, or ROLLOUT_STAGE_NONE
    bool warm;            // within the warm-up: only errors and statuses count
    float rates[KERNELS]; // of the baseline, as known when the span was opened
    struct rollout_sums arms[ROLLOUT_ARMS];
};

// A second that is being filled from its spans.
struct rollout_second {
    bool filled; // holds something
    bool mixed;  // the weight changed within it: it says nothing
    uint64_t second;
    uint32_t weight;
    uint32_t weight_control;
    uint32_t stage;
    float rates[KERNELS];
    struct rollout_facts facts;
};

// A run of answers of which none was good.
struct rollout_outage {
    bool out;
    uint64_t since_tick;
    struct stats_ratio_state errors; // of what was routed in outages, each one's first second left out
    double log_e;
};

// Whether most requests of an arm were bad events in the newest tick.
struct rollout_burst {
    bool canary, baseline;
    bool left_out; // the tick is, of its second
};

// Evidence so far.
struct rollout_bank {
    struct rollout_second second;
    uint64_t burst_tick; // that the bursts tell of
    struct rollout_burst bursts[KERNELS];
    struct stats_vote_state votes[KERNELS];
    double log_e[KERNELS];                                 // of the votes
    uint64_t changes;                                      // so often something was added that E rests on
    uint64_t usual_judged[KERNELS], usual_events[KERNELS]; // of the baseline, in every second
    struct rollout_pairs seen;                             // in the seconds that voted, for people
    uint32_t seconds[KERNELS];                             // that voted
    uint32_t seconds_worse[KERNELS];
    struct rollout_outage outage;
    // Of the stage: seconds in which the baseline had no burst.
    struct stats_harm_counts harm[KERNELS];
    struct stats_ratio_state good_errors; // for the proof by ratio
    struct stats_bernoulli_state negligible;
};

// Plain totals for people and for the frozen rates. Latency and throughput count only in `judged`.
struct rollout_totals {
    struct rollout_sums all[ROLLOUT_ARMS];
    struct rollout_sums judged[ROLLOUT_ARMS];
};

// The outage trigger: seconds in a row in which most canary requests failed and most others did not.
struct rollout_alarm {
    uint64_t second; // being filled, at 100 % or not
    bool full;
    uint64_t judged, failed; // of the canary
    uint64_t others_judged, others_failed;
    uint32_t seconds;                // in a row
    uint64_t row_judged, row_failed; // of the canary in them
};

struct rollout_judgement {
    double log_bad; // the mixture at the prefix where it is largest
    double log_bad_check[CHECKS];
    double log_bad_kernel[KERNELS];
    double log_outage;
    struct rollout_pairs seen; // at that prefix
    uint32_t seconds[KERNELS];
    uint32_t seconds_worse[KERNELS];
    struct stats_harm_counts harm[KERNELS]; // at the newest prefix in which promotion was looked at
    double log_good[CHECKS];                // each the largest over the prefixes
    double log_good_ratio;                  // of errors, by ratio
    double log_negligible;                  // of errors, by the canary's own rate
    double log_watch;                       // the soak's mixture
    double log_watch_kernel[KERNELS];
    struct rollout_alarm outage;
};

// Where the watch stands: one e-CUSUM per kernel, whose trials are seconds, because failures and slowness
// come in bursts.
struct rollout_watch_track {
    struct stats_ecusum ecusum[KERNELS];
    uint64_t second;      // being filled
    uint64_t trials;      // requests in it
    uint64_t trials_cool; // of those, routed after the warm-up
    uint64_t events[KERNELS];
    uint64_t seconds; // complete ones with requests
    uint64_t seconds_bad[KERNELS];
};

struct rollout_watch {
    bool on;
    bool kernel_on[KERNELS];
    double rate[KERNELS]; // p0
    uint64_t seconds_max; // that the threshold is made for
    uint32_t extensions;  // how often the soak outlasted its plan
    double threshold;
    struct stats_bernoulli_grid seconds_grid;
    struct rollout_watch_track closed;
};

// The stage in the shadow. Its errors and latency are votes and harm in the run's bank, as if each pair of
// answers were a request of either arm; the bank is emptied before the first live request counts.
struct rollout_shadow {
    bool on;       // the run stands in it
    bool has_been; // the run stood in it, and what follows tells how it ended
    struct diff_tests tests;
    uint32_t restarts; // of the differ: it has forgotten its paths so often
    uint64_t sent, uncompared, dropped, candidate_answered, candidate_errors, primary_errors;
    uint64_t triples, pairs;                         // since the differ began
    uint32_t path_count;                             // of rows that are there
    struct rollout_shadow_row rows[DIFF_ROWS_MAX];   // by the differ's index; rank 0: none
    struct diff_judgement judgements[DIFF_ROWS_MAX]; // of the rows that are there, the strongest first
    uint32_t different, noisy;
    uint32_t suspected; // not yet different, and too strong to go on
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
    int64_t redefined_ms;
    bool clock_runs;           // time is counted from the last tick on; not before a run's first one
    uint64_t stage_awake_ms;   // of the stage, while the process ran and nothing was paused
    uint64_t stage_watched_ms; // of that, with canary traffic
    uint64_t state_awake_ms;
    uint64_t quiet_ms; // since the last tick with a canary request
    uint64_t canary_awake_ms;
    int64_t canary_since_ms; // first canary request seen; 0: none yet
    int64_t stage_canary_since_ms;
    struct rollout_yardstick yardstick; // with the edges
    struct rollout_verdict last;

    // evidence
    uint64_t tick;
    bool has_closed; // names up to and including (closed_tick, closed_table) are closed
    uint64_t closed_tick;
    uint64_t closed_table;
    uint64_t table_first; // requests routed by earlier ones were counted by another definition of errors
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
    struct stats_srm srm;
    uint32_t srm_restarts; // of the test
    bool blocked;

    // kernels
    struct stats_ratio_grid grid_bad;  // of errors, in an outage
    struct stats_ratio_grid grid_good; // of errors, for the proof by ratio
    struct stats_bernoulli_grid grid_negligible;
    double errors_margin;  // R1 in force
    double budget[CHECKS]; // share of all requests that moving on may cost, in force for the stage
    uint32_t terms_next;
    struct rollout_terms terms[ROLLOUT_TERMS_KEPT];
    struct rollout_bank bank; // closed spans
    uint64_t good_second;     // the second in which promotion was looked at last
    bool good[CHECKS];        // has had enough in this stage
    struct rollout_judgement judgement;
    struct rollout_watch watch;
    struct rollout_alarm alarm; // of closed spans
    struct rollout_shadow shadow;
};

// ---- evidence.c ----

static inline struct rollout_span *evidence_span(struct rollout *rollout, uint32_t i)
{
    return &rollout->spans[(rollout->span_first + i) % ROLLOUT_SPANS_OPEN_MAX];
}
enum rollout_arm evidence_baseline_arm(const struct rollout *rollout);
static inline uint64_t evidence_judged(const struct rollout_sums *arm)
{
    return arm->routed > arm->excused ? arm->routed - arm->excused : 0;
}
static inline uint64_t evidence_pending(const struct rollout_sums *arm)
{
    uint64_t done = arm->completed + arm->excused;
    return arm->routed > done ? arm->routed - done : 0;
}
// Forgets all evidence; spans routed before the present tick never count again.
void evidence_reset(struct rollout *rollout);
// Forgets what was counted by another definition of errors than that of the tables from `table` on. What does
// not rest on it stays: edges, warm-up, the sample ratio.
void evidence_redefine(struct rollout *rollout, uint64_t table);
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
// A process has begun that knows no unit: the sample ratio of users is tested afresh.
void evidence_strangers(struct rollout *rollout);
void evidence_facts(const struct rollout *rollout, const struct rollout_span *span,
                    enum rollout_imputing imputing, struct rollout_facts *facts);
uint64_t evidence_canary_pending(struct rollout *rollout);
// Bad events of the kernel that are known, as the alarm counts them.
uint64_t evidence_events(const struct rollout_sums *sums, int kernel);

// What is usual for the baseline, from answers known now: it sets how large a difference of a second is
// usual. A rate learnt later, or from requests imputed, could be moved by what the second holds.
void evidence_rates(const struct rollout *rollout, float rates[KERNELS]);
// Freezes the edges, and with them what is slow.
void evidence_edges_set(struct rollout *rollout, const struct rollout_edges *edges);

// ---- votes.c ----

enum rollout_check_kind votes_check_of(int kernel);
// Adds a span, in routing order, to what the seconds before it said. A second votes when a later span, or the
// clock (votes_second_end), ends it.
void votes_add(struct rollout *rollout, const struct rollout_span *span, const struct rollout_facts *facts,
               struct rollout_bank *bank);
void votes_second_end(const struct rollout *rollout, struct rollout_bank *bank);
// Requests of an arm as if each came from a user of its own: n for assignment by request, else (sum n_u)^2 /
// sum n_u^2, at most n.
double votes_units(const struct rollout *rollout, enum rollout_arm arm);
// Standard deviation of the difference of the arms' rates that the lot over users alone makes, at most, where
// the rate is `rate`; 0 for assignment by request.
double votes_lot_spread(const struct rollout *rollout, double rate);

// ---- judge.c ----

// Builds the grids that last for the run, and those of a stage (whose margin and budget may depend on
// evidence before it).
void judge_start(struct rollout *rollout);
void judge_stage_start(struct rollout *rollout);
// Adds a span that will not change any more.
void judge_close(struct rollout *rollout, const struct rollout_span *span, const struct rollout_facts *facts);
void judge_evaluate(struct rollout *rollout);
double judge_bad_needed(const struct rollout *rollout);
double judge_good_needed(const struct rollout *rollout, enum rollout_check_kind check);
bool judge_check_on(const struct rollout *rollout, enum rollout_check_kind check);
double judge_share(const struct rollout *rollout, enum rollout_check_kind check);
double judge_shares(const struct rollout *rollout, double shares[CHECKS]); // returns their sum
// The weight that passing the present stage leads to; the present one after the last.
uint32_t judge_next_weight(const struct rollout *rollout);
// Whether each arm has users enough to tell anything of users.
bool judge_units_suffice(const struct rollout *rollout);
// Ends of the prefixes as ages in ticks, oldest first. Returns how many.
uint32_t judge_lags(const struct rollout *rollout, uint64_t lags[ROLLOUT_PREFIXES_MAX]);
// Requests (all arms) still needed to promote by this check, UINT64_MAX: unknown.
uint64_t judge_more_requests(const struct rollout *rollout, enum rollout_check_kind check);

// ---- shadow.c ----

void copies_begin(struct rollout *rollout);
void copies_take(struct rollout *rollout, const struct rollout_shadow_delta *delta);
// The differ begins afresh: its paths, and what was compared, are forgotten.
void copies_restart(struct rollout *rollout);
void copies_end(struct rollout *rollout);
// ln of the weighted evidence that calls a path different.
double copies_needed(const struct rollout *rollout);
// Requests enough were compared, and no path differs or is suspected to.
bool copies_good(const struct rollout *rollout);
// The share of answers that a path must differ in to be found, 95 % sure, by what was compared; above 1:
// nothing would have been found.
double copies_found(const struct rollout *rollout);

// ---- watch.c ----

// Freezes the baseline's rates for the soak of the present stage.
void watch_start(struct rollout *rollout);
void watch_close(struct rollout *rollout, const struct rollout_span *span, enum rollout_imputing imputing);
// Sets the judgement's watch part. True: the alarm is reached.
bool watch_evaluate(struct rollout *rollout);
// The outage trigger: adds a closed span; whether it fires with the open ones.
void watch_outage_close(struct rollout *rollout, const struct rollout_span *span);
bool watch_outage(struct rollout *rollout);

// ---- verdict.c ----

// Each fills a verdict: number fields and text.
void verdict_operator(const struct rollout *rollout, const struct rollout_input *input, const char *what,
                      struct rollout_verdict *verdict);
void verdict_rolled_back(struct rollout *rollout, struct rollout_verdict *verdict);
void verdict_watch_alarm(struct rollout *rollout, struct rollout_verdict *verdict);
// A path of the comparison differs.
void verdict_different(const struct rollout *rollout, struct rollout_verdict *verdict);
void verdict_outage(const struct rollout *rollout, struct rollout_verdict *verdict);
// The machine still stands in the stage that was passed.
void verdict_promoted(const struct rollout *rollout, struct rollout_verdict *verdict);
void verdict_undecided(const struct rollout *rollout, const char *consequence,
                       struct rollout_verdict *verdict);
void verdict_completed(const struct rollout *rollout, struct rollout_verdict *verdict);
void verdict_blocked(const struct rollout *rollout, struct rollout_verdict *verdict);
// "Shifting, stage 2 of 6, 5 %"
struct text;
void verdict_add_position(const struct rollout *rollout, struct text *text);
