// SPDX-License-Identifier: Apache-2.0
// Why the machine did what it did, in numbers and in one to three lines for people: both values, counts, the
// bound, since when, and for "undecided" what is missing. Texts are part of the effects and so of the replay.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "ship/rollout/rollout_private.h"
#include "stats/real.h"

// ---- pieces ----

static void add_clock(struct text *text, int64_t time_ms, bool with_ms)
{
    uint64_t in_day = (uint64_t)time_ms % 86400000;
    unsigned seconds = (unsigned)(in_day / 1000);
    text_addf(text, "%02u:%02u:%02u", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if (with_ms)
        text_addf(text, ".%03u", (unsigned)(in_day % 1000));
}

static void add_duration(struct text *text, uint64_t ms)
{
    uint64_t seconds = ms / 1000;
    if (ms < 10000)
        text_addf(text, "%.1f s", (double)ms / 1000.0);
    else if (seconds < 120)
        text_addf(text, "%u s", (unsigned)seconds);
    else if (seconds < 7200)
        text_addf(text, "%u min", (unsigned)(seconds / 60));
    else
        text_addf(text, "%u h %u min", (unsigned)(seconds / 3600), (unsigned)(seconds / 60 % 60));
}

// 0.31 % and 0.0031 %: three digits that say something.
static void add_percent(struct text *text, double share)
{
    double percent = share * 100.0;
    if (!(percent > 0.0))
        text_addf(text, "0 %%");
    else if (percent >= 10.0)
        text_addf(text, "%.1f %%", percent);
    else if (percent >= 0.1)
        text_addf(text, "%.2f %%", percent);
    else
        text_addf(text, "%.4f %%", percent);
}

static void add_weight(struct text *text, uint32_t weight)
{
    text_addf(text, "%g %%", (double)weight * 100.0 / ROLLOUT_WEIGHT_FULL);
}

static void add_rate(struct text *text, const char *arm, uint64_t events, uint64_t total)
{
    text_addf(text, "%s ", arm);
    if (total == 0) {
        text_addf(text, "no requests");
        return;
    }
    add_percent(text, (double)events / (double)total);
    text_addf(text, " (");
    text_add_count(text, events);
    text_addf(text, "/");
    text_add_count(text, total);
    text_addf(text, ")");
}

static void add_microseconds(struct text *text, uint64_t us)
{
    if (us < 10000)
        text_addf(text, "%.2f ms", (double)us / 1000.0);
    else if (us < 10000000)
        text_addf(text, "%.0f ms", (double)us / 1000.0);
    else
        text_addf(text, "%.1f s", (double)us / 1e6);
}

// "stage 2 of 6, 5 %"
static void add_stage(const struct rollout *rollout, struct text *text)
{
    text_addf(text, "stage %u of %u, ", rollout->stage + 1, rollout->spec.stage_count);
    if (rollout->shadow.on)
        text_addf(text, "in the shadow");
    else
        add_weight(text, rollout->weight);
}

void verdict_add_position(const struct rollout *rollout, struct text *text)
{
    text_addf(text, "%s", rollout_state_name(rollout->state));
    if (rollout->state == ROLLOUT_PENDING || rollout->state == ROLLOUT_BASELINE)
        return;
    text_addf(text, ", ");
    add_stage(rollout, text);
}

static const char *baseline_name(const struct rollout *rollout)
{
    return rollout->spec.control ? "control" : "stable";
}

static const char *const edge_names[ROLLOUT_EDGES] = {"p50", "p90", "p99", "p99.9"};

static void kernel_name(int kernel, char *storage, size_t cap)
{
    struct text text = text_over(storage, cap);
    if (kernel == KERNEL_ERRORS)
        text_addf(&text, "errors");
    else if (kernel == KERNEL_THROUGHPUT)
        text_addf(&text, "throughput");
    else if (kernel == KERNEL_REDIRECTS)
        text_addf(&text, "statuses 3xx");
    else if (kernel == KERNEL_CLIENT_ERRORS)
        text_addf(&text, "statuses 4xx");
    else
        text_addf(&text, "latency %s", edge_names[kernel - KERNEL_LATENCY]);
}

static struct text begin(const struct rollout *rollout, enum rollout_outcome outcome, const char *headline,
                         struct rollout_verdict *verdict)
{
    *verdict = (struct rollout_verdict){
        .outcome = outcome,
        .time_ms = rollout->now_ms,
        .evidence_since_ms = rollout->canary_since_ms,
        .stage = rollout->stage,
    };
    if (rollout->shadow.on)
        verdict->evidence_since_ms = rollout->stage_canary_since_ms;
    struct text text = text_over(verdict->text, sizeof verdict->text);
    text_addf(&text, "%s ", headline);
    add_clock(&text, rollout->now_ms, true);
    text_addf(&text, "  ");
    return text;
}

static void set_check(struct rollout_verdict *verdict, const char *name)
{
    struct text text = text_over(verdict->check, sizeof verdict->check);
    text_addf(&text, "%s", name);
}

// ---- rates ----

struct kernel_rates {
    uint64_t canary_events;
    uint64_t canary_total;
    uint64_t baseline_events;
    uint64_t baseline_total;
};

static bool is_latency(int kernel)
{
    return kernel >= KERNEL_LATENCY && kernel < KERNEL_LATENCY + ROLLOUT_EDGES;
}

// What voted, up to the prefix that decided.
static struct kernel_rates rates_voted(const struct rollout *rollout, int kernel)
{
    const struct rollout_pairs *seen = &rollout->judgement.seen;
    return (struct kernel_rates){
        .canary_events = seen->canary[kernel],
        .canary_total = seen->canary_judged[kernel],
        .baseline_events = seen->baseline[kernel],
        .baseline_total = seen->baseline_judged[kernel],
    };
}

// What the harm of the stage was reckoned from.
static struct kernel_rates rates_of_stage(const struct rollout *rollout, int kernel)
{
    const struct stats_harm_counts *harm = &rollout->judgement.harm[kernel];
    return (struct kernel_rates){
        .canary_events = harm->canary_events,
        .canary_total = harm->canary_requests,
        .baseline_events = harm->baseline_events,
        .baseline_total = harm->baseline_requests,
    };
}

static struct kernel_rates rates_of(const struct rollout *rollout, const struct rollout_totals *totals,
                                    int kernel)
{
    const struct rollout_sums *arms =
        is_latency(kernel) || kernel == KERNEL_THROUGHPUT ? totals->judged : totals->all;
    const struct rollout_sums *canary = &arms[ROLLOUT_ARM_CANARY];
    const struct rollout_sums *baseline = &arms[evidence_baseline_arm(rollout)];
    return (struct kernel_rates){
        .canary_events = evidence_events(canary, kernel),
        .canary_total = evidence_judged(canary),
        .baseline_events = evidence_events(baseline, kernel),
        .baseline_total = evidence_judged(baseline),
    };
}

// An outage counts errors before their second can vote.
static struct kernel_rates rates_of_outage(const struct rollout *rollout)
{
    const struct rollout_shadow *shadow = &rollout->shadow;
    if (!shadow->on)
        return rates_of(rollout, &rollout->shared, KERNEL_ERRORS);
    return (struct kernel_rates){.canary_events = shadow->candidate_errors,
                                 .canary_total = shadow->sent,
                                 .baseline_events = shadow->primary_errors,
                                 .baseline_total = shadow->sent};
}

static void set_rates(struct rollout_verdict *verdict, const struct kernel_rates *rates)
{
    verdict->canary_events = rates->canary_events;
    verdict->canary_total = rates->canary_total;
    verdict->baseline_events = rates->baseline_events;
    verdict->baseline_total = rates->baseline_total;
}

static void add_what(struct text *text, int kernel)
{
    char name[32];
    kernel_name(kernel, name, sizeof name);
    text_addf(text, "%s: ", name);
    if (kernel == KERNEL_THROUGHPUT)
        text_addf(text, "no good answer: ");
}

// "canary 0.31 % (12/3 870) vs stable ..."; of latency with the limit that holds for each.
static void add_comparison(const struct rollout *rollout, struct text *text, int kernel, bool promoting,
                           const struct kernel_rates *rates)
{
    const char *baseline = baseline_name(rollout);
    promoting = promoting && !rollout->shadow.on; // there is one count of slow answers, behind the later edge
    char canary_name[48] = "canary", other_name[48];
    snprintf(other_name, sizeof other_name, "%s", baseline);
    if (is_latency(kernel)) {
        const struct rollout_yardstick *by = &rollout->yardstick;
        int k = kernel - KERNEL_LATENCY;
        struct text name = text_over(canary_name, sizeof canary_name);
        text_addf(&name, "canary above ");
        add_microseconds(&name, promoting ? by->margin_us[k] : by->worse_us[k]);
        name = text_over(other_name, sizeof other_name);
        text_addf(&name, "%s above ", baseline);
        add_microseconds(&name, by->edges.edge_us[k]);
    }
    add_rate(text, canary_name, rates->canary_events, rates->canary_total);
    text_addf(text, " vs ");
    add_rate(text, other_name, rates->baseline_events, rates->baseline_total);
}

static void add_since_and_delay(const struct rollout *rollout, struct text *text, int64_t since_ms)
{
    text_addf(text, "; evidence since ");
    add_clock(text, since_ms, false);
    text_addf(text, " UTC");
    int64_t gap = rollout->now_ms - rollout->tick_before_ms;
    // Evidence is gathered at ticks: it sufficed after the last one that did not yet decide.
    if (rollout->tick_before_ms > 0 && gap >= 0)
        text_addf(text, "; decided within %.2f s of sufficing", (double)gap / 1000.0);
}

// ---- rollback ----

// The check that carries the mixture, and within latency the edge.
static int culprit_of(const struct rollout *rollout, const double log_kernel[KERNELS])
{
    static const double parts[CHECKS] = {
        [CHECK_ERRORS] = 1, [CHECK_LATENCY] = ROLLOUT_EDGES, [CHECK_THROUGHPUT] = 1, [CHECK_STATUSES] = 2};
    int culprit = -1;
    double best = 0.0;
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        enum rollout_check_kind check = votes_check_of(kernel);
        double share = judge_share(rollout, check);
        if (!(share > 0.0))
            continue;
        double value = log_kernel[kernel] + stats_ln(share / parts[check]);
        if (culprit < 0 || value > best) {
            culprit = kernel;
            best = value;
        }
    }
    CHECK(culprit >= 0);
    return culprit;
}

// What was asked: more than what is called material.
static void add_material(const struct rollout *rollout, struct text *text, int kernel)
{
    const struct rollout_spec *spec = &rollout->spec;
    double worse = spec->latency.worse, floor = 0.0;
    if (kernel == KERNEL_ERRORS) {
        worse = spec->errors.worse;
        floor = spec->errors.floor;
    } else if (kernel == KERNEL_THROUGHPUT) {
        worse = spec->throughput.margin;
        floor = spec->errors.floor;
    } else if (!is_latency(kernel)) {
        worse = spec->statuses.worse;
        floor = spec->statuses.floor;
    }
    text_addf(text, is_latency(kernel) ? "more than %g× as slow" : "more than %g×", worse);
    if (floor > 0.0) {
        text_addf(text, " and ");
        add_percent(text, floor);
    }
}

// How often equal versions go back, at most.
static void add_falsely(const struct rollout *rollout, struct text *text)
{
    const struct rollout_spec *spec = &rollout->spec;
    if (rollout->shadow.on)
        text_addf(text, "; at most %g %% of equal versions go back in the shadow", 100.0 * spec->diff.alpha);
    else
        text_addf(text, "; at most %g %% of rollouts of equal versions go back", 100.0 * spec->alpha);
}

void verdict_rolled_back(struct rollout *rollout, struct rollout_verdict *verdict)
{
    const struct rollout_judgement *judgement = &rollout->judgement;
    struct text text = begin(rollout, ROLLOUT_OUTCOME_ROLLED_BACK, "ROLLED BACK", verdict);
    double votes[CHECKS], shares[CHECKS];
    for (int check = 0; check < CHECKS; check++) {
        votes[check] = judgement->log_bad_check[check];
        shares[check] = judge_share(rollout, (enum rollout_check_kind)check);
    }
    bool outage = judgement->log_outage > stats_log_weighted_mean_exp(votes, shares, CHECKS);
    int kernel = outage ? KERNEL_ERRORS : culprit_of(rollout, judgement->log_bad_kernel);
    kernel_name(kernel, verdict->check, sizeof verdict->check);
    struct kernel_rates rates = outage ? rates_of_outage(rollout) : rates_voted(rollout, kernel);
    CHECK(rates.canary_total > 0 && rates.baseline_total > 0);
    set_rates(verdict, &rates);
    verdict->log_e = judgement->log_bad;
    verdict->log_e_needed = judge_bad_needed(rollout);
    verdict->ratio_low = kernel == KERNEL_ERRORS ? rollout->spec.errors.worse : 0.0;
    text_addf(&text, rollout->shadow.on ? "in the shadow, " : "");
    add_what(&text, kernel);
    add_comparison(rollout, &text, kernel, false, &rates);
    text_addf(&text, "\n  ");
    add_material(rollout, &text, kernel);
    if (outage)
        text_addf(&text, ", no good answer for more than a second");
    else
        text_addf(&text, " in %u of %u s, each one vote", judgement->seconds_worse[kernel],
                  judgement->seconds[kernel]);
    add_falsely(rollout, &text);
    add_since_and_delay(rollout, &text, verdict->evidence_since_ms);
}

// Of the first path: the one with the most evidence.
void verdict_different(const struct rollout *rollout, struct rollout_verdict *verdict)
{
    const struct rollout_shadow *shadow = &rollout->shadow;
    const struct diff_judgement *first = &shadow->judgements[0];
    const struct rollout_shadow_row *row = &shadow->rows[first->row];
    struct text text = begin(rollout, ROLLOUT_OUTCOME_ROLLED_BACK, "ROLLED BACK", verdict);
    set_check(verdict, "difference");
    verdict->canary_events = row->candidate;
    verdict->baseline_events = row->secondary;
    verdict->canary_total = verdict->baseline_total = shadow->triples;
    verdict->log_e = first->log_e + first->log_weight;
    verdict->log_e_needed = copies_needed(rollout) - stats_ln((double)shadow->different);
    text_addf(&text, "in the shadow, answers differ: path %u of %u: ", row->rank, shadow->path_count);
    add_rate(&text, "canary alone", row->candidate, shadow->triples);
    text_addf(&text, " vs ");
    add_rate(&text, "stable from itself", row->secondary, shadow->triples);
    text_addf(&text, "\n  %u path%s more than noise among ", shadow->different,
              shadow->different == 1 ? " is" : "s are");
    text_add_count(&text, shadow->triples);
    text_addf(&text, " requests asked three times");
    add_falsely(rollout, &text);
    add_since_and_delay(rollout, &text, verdict->evidence_since_ms);
}

void verdict_outage(const struct rollout *rollout, struct rollout_verdict *verdict)
{
    const struct rollout_alarm *alarm = &rollout->judgement.outage;
    struct text text = begin(rollout, ROLLOUT_OUTCOME_ROLLED_BACK, "ROLLED BACK", verdict);
    set_check(verdict, "outage");
    verdict->canary_events = alarm->row_failed;
    verdict->canary_total = alarm->row_judged;
    verdict->baseline_events = alarm->others_failed;
    verdict->baseline_total = alarm->others_judged;
    text_addf(&text, "outage: ");
    add_rate(&text, "canary failed", alarm->row_failed, alarm->row_judged);
    text_addf(&text, "\n  more than ");
    add_percent(&text, rollout->spec.outage);
    text_addf(&text, " in each of the last %u s", alarm->seconds);
    if (alarm->others_judged > 0) {
        text_addf(&text, ", of the last of which ");
        add_rate(&text, baseline_name(rollout), alarm->others_failed, alarm->others_judged);
    }
    text_addf(&text, ": a trigger, not a test");
    add_since_and_delay(rollout, &text, rollout->canary_since_ms);
}

void verdict_watch_alarm(struct rollout *rollout, struct rollout_verdict *verdict)
{
    const struct rollout_watch *watch = &rollout->watch;
    struct text text = begin(rollout, ROLLOUT_OUTCOME_ROLLED_BACK, "ROLLED BACK", verdict);
    int kernel = culprit_of(rollout, rollout->judgement.log_watch_kernel);
    kernel_name(kernel, verdict->check, sizeof verdict->check);
    struct kernel_rates rates = rates_of(rollout, &rollout->full, kernel);
    struct kernel_rates frozen = rates_of(rollout, &rollout->shared, kernel);
    rates.baseline_events = frozen.baseline_events;
    rates.baseline_total = frozen.baseline_total;
    set_rates(verdict, &rates);
    verdict->log_e = rollout->judgement.log_watch;
    verdict->log_e_needed = watch->threshold;
    verdict->evidence_since_ms = rollout->stage_canary_since_ms;
    add_what(&text, kernel);
    add_comparison(rollout, &text, kernel, false, &rates);
    text_addf(&text, " while it had traffic\n  in the soak at 100 %%: above the frozen ");
    add_percent(&text, watch->rate[kernel]);
    text_addf(&text, " in %llu of %llu s", (unsigned long long)watch->closed.seconds_bad[kernel],
              (unsigned long long)watch->closed.seconds);
    add_since_and_delay(rollout, &text, rollout->stage_canary_since_ms);
}

// ---- forward ----

// What was shown, in the words of whoever pays for it.
static void add_proof(const struct rollout *rollout, struct text *text, enum rollout_check_kind check,
                      uint32_t next)
{
    static const char *const harms[CHECKS] = {[CHECK_ERRORS] = "fail",
                                              [CHECK_LATENCY] = "are slow",
                                              [CHECK_THROUGHPUT] = "get no good answer",
                                              [CHECK_STATUSES] = "get such a status"};
    const struct rollout_spec *spec = &rollout->spec;
    double beta = spec->beta;
    bool ratio = check == CHECK_ERRORS && spec->errors.prove == ROLLOUT_PROVE_RATIO;
    if (ratio) {
        bool by_rate = rollout->judgement.log_negligible > rollout->judgement.log_good_ratio;
        beta = spec->errors.negligible > 0.0 ? beta / 2.0 : beta;
        text_addf(text, "; below ");
        if (by_rate)
            add_percent(text, spec->errors.negligible);
        else
            text_addf(text, "%g×", rollout->errors_margin);
    } else {
        text_addf(text, "; at ");
        add_weight(text, next);
        text_addf(text, " less than ");
        add_percent(text, rollout->budget[check]);
        text_addf(text, " of all more %s", harms[check]);
    }
    text_addf(text, ", %g %% sure", 100.0 * (1.0 - beta));
}

// The kernel of a check that its line speaks of: for latency the edge with the most evidence is p90 or p99 in
// most traffic; p90 has events enough to read.
static int kernel_shown(enum rollout_check_kind check)
{
    static const int shown[CHECKS] = {
        [CHECK_ERRORS] = KERNEL_ERRORS,
        [CHECK_LATENCY] = KERNEL_LATENCY + 1,
        [CHECK_THROUGHPUT] = KERNEL_THROUGHPUT,
        [CHECK_STATUSES] = KERNEL_CLIENT_ERRORS,
    };
    return shown[check];
}

static void add_check_line(const struct rollout *rollout, struct text *text, enum rollout_check_kind check)
{
    int kernel = kernel_shown(check);
    struct kernel_rates rates = rates_of_stage(rollout, kernel);
    text_addf(text, "\n  ");
    add_what(text, kernel);
    add_comparison(rollout, text, kernel, true, &rates);
}

// The check that stands for the gate in the verdict's fields, with its rates in this stage.
static void set_gate(const struct rollout *rollout, enum rollout_check_kind check,
                     struct rollout_verdict *verdict)
{
    struct kernel_rates rates = rates_of_stage(rollout, kernel_shown(check));
    set_rates(verdict, &rates);
    static const char *const names[CHECKS] = {"errors", "latency", "throughput", "statuses"};
    set_check(verdict, names[check]);
    verdict->log_e = rollout->judgement.log_good[check];
    verdict->log_e_needed = judge_good_needed(rollout, check);
}

// What was compared, what of it differed, and what would have been found.
static void add_shadow_line(const struct rollout *rollout, struct text *text)
{
    const struct rollout_shadow *shadow = &rollout->shadow;
    uint64_t compared = shadow->triples + shadow->pairs;
    if (!shadow->on)
        return;
    text_addf(text, "\n  %s in ", shadow->path_count == 0 ? "no difference" : "no difference beyond noise");
    text_add_count(text, compared);
    text_addf(text, " compared answers");
    if (shadow->path_count > 0)
        text_addf(text, " (%u path%s not always the same)", shadow->path_count,
                  shadow->path_count == 1 ? " is" : "s are");
    if (shadow->suspected > 0)
        text_addf(text, "; %u path%s suspected", shadow->suspected, shadow->suspected == 1 ? " is" : "s are");
    if (compared < rollout_spec_shadow(&rollout->spec)->shadow.compared) {
        text_addf(text, "; needs ");
        text_add_count(text, rollout_spec_shadow(&rollout->spec)->shadow.compared);
    }
    double found = copies_found(rollout);
    text_addf(text, "; one in ");
    if (found <= 1.0)
        add_percent(text, found);
    text_addf(text, found <= 1.0 ? " of them would have been found, 95 %% sure"
                                 : "every answer would not have been found yet");
}

void verdict_promoted(const struct rollout *rollout, struct rollout_verdict *verdict)
{
    struct text text = begin(rollout, ROLLOUT_OUTCOME_PROMOTED, "PROMOTED", verdict);
    verdict->evidence_since_ms = rollout->stage_canary_since_ms;
    add_stage(rollout, &text);
    text_addf(&text, ", passed on evidence since ");
    add_clock(&text, rollout->stage_canary_since_ms, false);
    text_addf(&text, " UTC");
    add_shadow_line(rollout, &text);
    bool first = true;
    uint32_t next = judge_next_weight(rollout);
    for (int i = 0; i < CHECKS; i++) {
        enum rollout_check_kind check = (enum rollout_check_kind)i;
        if (!judge_check_on(rollout, check))
            continue;
        add_check_line(rollout, &text, check);
        add_proof(rollout, &text, check, next);
        if (!first)
            continue;
        first = false;
        set_gate(rollout, check, verdict);
    }
}

static uint64_t two_digits(uint64_t value)
{
    uint64_t scale = 1;
    while (value / scale >= 100)
        scale *= 10;
    return (value + scale - 1) / scale * scale;
}

static void add_missing(const struct rollout *rollout, struct text *text, enum rollout_check_kind check)
{
    uint64_t more = judge_more_requests(rollout, check);
    if (more == 0) {
        text_addf(text, "; good");
        return;
    }
    if (more == UINT64_MAX) {
        text_addf(text, judge_units_suffice(rollout) ? "; not to be shown good as things stand"
                                                     : "; too few users in an arm to tell");
        return;
    }
    text_addf(text, "; needs about ");
    text_add_count(text, two_digits(more));
    text_addf(text, " more requests");
    uint64_t routed = 0;
    if (rollout->shadow.on)
        routed =
            rollout->shadow.sent * ROLLOUT_WEIGHT_FULL / rollout_spec_shadow(&rollout->spec)->shadow.share;
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        routed += rollout->stage_routed[arm];
    uint64_t elapsed = rollout->stage_awake_ms;
    if (routed == 0 || elapsed == 0)
        return;
    double ms = (double)more * (double)elapsed / (double)routed;
    if (ms < 1e13) {
        text_addf(text, ", about ");
        add_duration(text, (uint64_t)ms);
    }
}

void verdict_undecided(const struct rollout *rollout, const char *consequence,
                       struct rollout_verdict *verdict)
{
    struct text text = begin(rollout, ROLLOUT_OUTCOME_UNDECIDED, "UNDECIDED", verdict);
    add_stage(rollout, &text);
    text_addf(&text, ", after ");
    add_duration(&text, rollout->stage_awake_ms);
    text_addf(&text, ": %s", consequence);
    add_shadow_line(rollout, &text);
    bool first = true;
    for (int i = 0; i < CHECKS; i++) {
        enum rollout_check_kind check = (enum rollout_check_kind)i;
        if (!judge_check_on(rollout, check))
            continue;
        add_check_line(rollout, &text, check);
        add_missing(rollout, &text, check);
        if (rollout->good[check] || !first)
            continue;
        first = false;
        set_gate(rollout, check, verdict);
    }
}

void verdict_completed(const struct rollout *rollout, struct rollout_verdict *verdict)
{
    struct text text = begin(rollout, ROLLOUT_OUTCOME_COMPLETED, "COMPLETED", verdict);
    set_check(verdict, "soak");
    text_addf(&text, "%s at ", rollout->spec.to);
    add_weight(&text, rollout->weight);
    text_addf(&text, ", ");
    uint64_t routed = rollout->routed[ROLLOUT_ARM_CANARY];
    text_add_count(&text, routed);
    text_addf(&text, " requests since ");
    add_clock(&text, rollout->canary_since_ms, false);
    text_addf(&text, " UTC");
    const struct rollout_watch *watch = &rollout->watch;
    if (watch->on && judge_check_on(rollout, CHECK_ERRORS)) {
        struct kernel_rates rates = rates_of(rollout, &rollout->full, KERNEL_ERRORS);
        set_rates(verdict, &rates);
        text_addf(&text, "\n  soak without alarm: errors: ");
        add_rate(&text, "canary", rates.canary_events, rates.canary_total);
    }
    text_addf(&text, "\n  undo stays instant for ");
    add_duration(&text, rollout->spec.keep_ms);
}

void verdict_blocked(const struct rollout *rollout, struct rollout_verdict *verdict)
{
    struct text text = begin(rollout, ROLLOUT_OUTCOME_BLOCKED, "BLOCKED", verdict);
    set_check(verdict, "sample ratio");
    const uint64_t *routed = rollout->routed;
    verdict->log_e = stats_srm_log_e(&rollout->srm);
    verdict->log_e = verdict->log_e < 1e300 ? verdict->log_e : 1e300;
    verdict->log_e_needed = STATS_SRM_LOG_E_STOP;
    verdict->canary_total = routed[ROLLOUT_ARM_CANARY];
    verdict->baseline_total = routed[evidence_baseline_arm(rollout)];
    text_addf(&text, "sample ratio: requests are not spread over the versions as the weights say (stable ");
    text_add_count(&text, routed[ROLLOUT_ARM_STABLE]);
    text_addf(&text, ", canary ");
    text_add_count(&text, routed[ROLLOUT_ARM_CANARY]);
    if (rollout->spec.control) {
        text_addf(&text, ", control ");
        text_add_count(&text, routed[ROLLOUT_ARM_CONTROL]);
    }
    text_addf(&text, " in all, weight now ");
    add_weight(&text, rollout->weight);
    text_addf(
        &text,
        ")\n  odds of at least 1000 to 1 against chance: the assignment is broken, so no promotion is decided from "
        "it (a rollback still is); promote or abort by hand");
}

void verdict_operator(const struct rollout *rollout, const struct rollout_input *input, const char *what,
                      struct rollout_verdict *verdict)
{
    bool start = input->command.command == ROLLOUT_COMMAND_START;
    struct text text =
        begin(rollout, start ? ROLLOUT_OUTCOME_STARTED : ROLLOUT_OUTCOME_OPERATOR, what, verdict);
    set_check(verdict, "operator");
    size_t who = strnlen(input->command.who, sizeof input->command.who);
    size_t from = strnlen(input->command.from, sizeof input->command.from);
    text_addf(&text, "by ");
    text_add(&text, who > 0 ? (struct slice){input->command.who, who} : SLICE("an unnamed operator"));
    if (from > 0) {
        text_addf(&text, " from ");
        text_add(&text, (struct slice){input->command.from, from});
    }
    text_addf(&text, "; now ");
    verdict_add_position(rollout, &text);
}
