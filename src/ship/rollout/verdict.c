// SPDX-License-Identifier: Apache-2.0
// Why the machine did what it did, in numbers and in one to three lines for people: both values, counts, the
// bound, since when, and for "undecided" what is missing. Texts are part of the effects and so of the replay.
#include <math.h>
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

void verdict_add_position(const struct rollout *rollout, struct text *text)
{
    text_addf(text, "%s", rollout_state_name(rollout->state));
    if (rollout->state == ROLLOUT_PENDING || rollout->state == ROLLOUT_BASELINE)
        return;
    text_addf(text, ", stage %u of %u, ", rollout->stage + 1, rollout->spec.stage_count);
    add_weight(text, rollout->weight);
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

static uint64_t events_of(const struct rollout_sums *sums, int kernel, bool margin)
{
    if (kernel == KERNEL_ERRORS)
        return sums->error_events;
    if (kernel == KERNEL_THROUGHPUT)
        return sums->good;
    return margin ? sums->slow_margin[kernel - KERNEL_LATENCY] : sums->slow[kernel - KERNEL_LATENCY];
}

// margin: the canary against margin times the edge, as the gate of promotion does.
static struct kernel_rates rates_of(const struct rollout *rollout, const struct rollout_totals *totals,
                                    int kernel, bool margin)
{
    const struct rollout_sums *arms = kernel == KERNEL_ERRORS ? totals->all : totals->judged;
    const struct rollout_sums *canary = &arms[ROLLOUT_ARM_CANARY];
    const struct rollout_sums *baseline = &arms[evidence_baseline_arm(rollout)];
    return (struct kernel_rates){
        .canary_events = events_of(canary, kernel, margin),
        .canary_total = canary->completed,
        .baseline_events = events_of(baseline, kernel, false),
        .baseline_total = baseline->completed,
    };
}

static void set_rates(struct rollout_verdict *verdict, const struct kernel_rates *rates)
{
    verdict->canary_events = rates->canary_events;
    verdict->canary_total = rates->canary_total;
    verdict->baseline_events = rates->baseline_events;
    verdict->baseline_total = rates->baseline_total;
}

static void add_what(const struct rollout *rollout, struct text *text, int kernel)
{
    char name[32];
    kernel_name(kernel, name, sizeof name);
    text_addf(text, "%s: ", name);
    if (kernel == KERNEL_THROUGHPUT)
        text_addf(text, "good answers ");
    if (kernel >= KERNEL_LATENCY && kernel < KERNEL_LATENCY + ROLLOUT_EDGES) {
        text_addf(text, "slower than ");
        add_microseconds(text, rollout->edges.edge_us[kernel - KERNEL_LATENCY]);
        text_addf(text, ": ");
    }
}

static void add_comparison(const struct rollout *rollout, struct text *text, const struct kernel_rates *rates)
{
    add_rate(text, "canary", rates->canary_events, rates->canary_total);
    text_addf(text, " vs ");
    add_rate(text, baseline_name(rollout), rates->baseline_events, rates->baseline_total);
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
    int culprit = -1;
    double best = 0.0;
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        enum rollout_check_kind check = kernel == KERNEL_ERRORS       ? CHECK_ERRORS
                                        : kernel == KERNEL_THROUGHPUT ? CHECK_THROUGHPUT
                                                                      : CHECK_LATENCY;
        double share = judge_share(rollout, check);
        if (!(share > 0.0))
            continue;
        double parts = check == CHECK_LATENCY ? (double)ROLLOUT_EDGES : 1.0;
        double value = log_kernel[kernel] + stats_ln(share / parts);
        if (culprit < 0 || value > best) {
            culprit = kernel;
            best = value;
        }
    }
    CHECK(culprit >= 0);
    return culprit;
}

// Rounded towards 1, so that what is printed was shown.
static void add_factor(struct text *text, double bound, int kernel, double alpha)
{
    double sure = 100.0 * (1.0 - alpha);
    if (kernel == KERNEL_THROUGHPUT && bound < 1.0)
        text_addf(text, "at most %.2f× as many", ceil(bound * 100.0) / 100.0);
    else if (kernel != KERNEL_THROUGHPUT && bound >= 10.0)
        text_addf(text, "at least %.0f× worse", floor(bound));
    else if (kernel != KERNEL_THROUGHPUT && bound >= 1.1)
        text_addf(text, "at least %.1f× worse", floor(bound * 10.0) / 10.0);
    else
        text_addf(text, "worse");
    text_addf(text, ", %g %% sure at any time", sure);
}

void verdict_rolled_back(struct rollout *rollout, struct rollout_verdict *verdict)
{
    const struct rollout_judgement *judgement = &rollout->judgement;
    struct text text = begin(rollout, ROLLOUT_OUTCOME_ROLLED_BACK, "ROLLED BACK", verdict);
    int kernel = culprit_of(rollout, judgement->log_bad_kernel);
    kernel_name(kernel, verdict->check, sizeof verdict->check);
    struct kernel_rates rates = rates_of(rollout, &rollout->shared, kernel, false);
    set_rates(verdict, &rates);
    verdict->log_e = judgement->log_bad;
    verdict->log_e_needed = -stats_ln(rollout->spec.alpha);
    verdict->ratio_low = judge_ratio_bound(rollout, kernel);
    if (!(verdict->ratio_low < 1e9))
        verdict->ratio_low = 0.0;
    add_what(rollout, &text, kernel);
    add_comparison(rollout, &text, &rates);
    if (kernel >= KERNEL_LATENCY && kernel < KERNEL_LATENCY + ROLLOUT_EDGES &&
        rollout->spec.latency.slack_ms > 0)
        text_addf(&text, " (the canary's %llu ms of slack taken off)",
                  (unsigned long long)rollout->spec.latency.slack_ms);
    text_addf(&text, "\n  ");
    add_factor(&text, verdict->ratio_low, kernel, rollout->spec.alpha);
    add_since_and_delay(rollout, &text, rollout->canary_since_ms);
}

void verdict_watch_alarm(struct rollout *rollout, struct rollout_verdict *verdict)
{
    const struct rollout_watch *watch = &rollout->watch;
    struct text text = begin(rollout, ROLLOUT_OUTCOME_ROLLED_BACK, "ROLLED BACK", verdict);
    int kernel = culprit_of(rollout, rollout->judgement.log_watch_kernel);
    kernel_name(kernel, verdict->check, sizeof verdict->check);
    struct kernel_rates rates = rates_of(rollout, &rollout->full, kernel, true);
    struct kernel_rates frozen = rates_of(rollout, &rollout->shared, kernel, false);
    rates.baseline_events = frozen.baseline_events;
    rates.baseline_total = frozen.baseline_total;
    set_rates(verdict, &rates);
    verdict->log_e = rollout->judgement.log_watch;
    verdict->log_e_needed = watch->threshold;
    verdict->evidence_since_ms = rollout->stage_canary_since_ms;
    add_what(rollout, &text, kernel);
    add_comparison(rollout, &text, &rates);
    text_addf(&text, " while it had traffic\n  in the soak at 100 %%: ");
    text_addf(&text, kernel == KERNEL_THROUGHPUT ? "not good" : "rate");
    text_addf(&text, " above the frozen ");
    add_percent(&text, watch->rate[kernel]);
    if (kernel != KERNEL_ERRORS)
        text_addf(&text, " in %llu of %llu s", (unsigned long long)watch->closed.seconds_bad[kernel],
                  (unsigned long long)watch->closed.seconds);
    add_since_and_delay(rollout, &text, rollout->stage_canary_since_ms);
}

// ---- forward ----

static void add_proof(const struct rollout *rollout, struct text *text, enum rollout_check_kind check)
{
    double beta = rollout->spec.beta;
    bool by_rate =
        check == CHECK_ERRORS && rollout->judgement.log_negligible > rollout->judgement.log_good_ratio;
    if (check == CHECK_ERRORS && rollout->spec.errors.negligible > 0.0)
        beta /= 2.0;
    if (by_rate) {
        text_addf(text, "; below ");
        add_percent(text, rollout->spec.errors.negligible);
    } else if (check == CHECK_ERRORS) {
        text_addf(text, "; below %g×", rollout->errors_margin);
    } else if (check == CHECK_LATENCY) {
        text_addf(text, "; less than %g× slower", rollout->spec.latency.margin);
    } else {
        text_addf(text, "; at least 1/%g as many", rollout->spec.throughput.margin);
    }
    text_addf(text, ", %g %% sure", 100.0 * (1.0 - beta));
}

// The kernel of a check that its line speaks of: for latency the edge with the most evidence is p90 or p99 in
// most traffic; p90 has events enough to read.
static int kernel_shown(enum rollout_check_kind check)
{
    static const int shown[CHECKS] = {KERNEL_ERRORS, KERNEL_LATENCY + 1, KERNEL_THROUGHPUT};
    return shown[check];
}

static void add_check_line(const struct rollout *rollout, struct text *text, enum rollout_check_kind check)
{
    int kernel = kernel_shown(check);
    struct kernel_rates rates = rates_of(rollout, &rollout->in_stage, kernel, false);
    text_addf(text, check == CHECK_THROUGHPUT && text->len > 0 ? "; " : "\n  ");
    add_what(rollout, text, kernel);
    add_comparison(rollout, text, &rates);
}

// The check that stands for the gate in the verdict's fields, with its rates in this stage.
static void set_gate(const struct rollout *rollout, enum rollout_check_kind check,
                     struct rollout_verdict *verdict)
{
    struct kernel_rates rates = rates_of(rollout, &rollout->in_stage, kernel_shown(check), false);
    set_rates(verdict, &rates);
    set_check(verdict, check == CHECK_ERRORS ? "errors" : check == CHECK_LATENCY ? "latency" : "throughput");
    verdict->log_e = rollout->judgement.log_good[check];
    verdict->log_e_needed = judge_good_needed(rollout, check);
}

void verdict_promoted(const struct rollout *rollout, uint32_t stage, uint32_t weight_before,
                      struct rollout_verdict *verdict)
{
    struct text text = begin(rollout, ROLLOUT_OUTCOME_PROMOTED, "PROMOTED", verdict);
    verdict->stage = stage;
    verdict->evidence_since_ms = rollout->stage_canary_since_ms;
    text_addf(&text, "stage %u of %u, ", stage + 1, rollout->spec.stage_count);
    add_weight(&text, weight_before);
    text_addf(&text, ", passed on evidence since ");
    add_clock(&text, rollout->stage_canary_since_ms, false);
    text_addf(&text, " UTC");
    bool first = true;
    for (int i = 0; i < CHECKS; i++) {
        enum rollout_check_kind check = (enum rollout_check_kind)i;
        if (!judge_check_on(rollout, check))
            continue;
        add_check_line(rollout, &text, check);
        add_proof(rollout, &text, check);
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
        text_addf(text, "; not to be shown good as things stand");
        return;
    }
    text_addf(text, "; needs about ");
    text_add_count(text, two_digits(more));
    text_addf(text, " more requests");
    uint64_t routed = 0;
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        routed += rollout->stage_routed[arm];
    int64_t elapsed = rollout->now_ms - rollout->stage_since_ms;
    if (routed == 0 || elapsed <= 0)
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
    text_addf(&text, "stage %u of %u, ", rollout->stage + 1, rollout->spec.stage_count);
    add_weight(&text, rollout->weight);
    text_addf(&text, ", after ");
    add_duration(&text, (uint64_t)(rollout->now_ms - rollout->stage_since_ms));
    text_addf(&text, ": %s", consequence);
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
        struct kernel_rates rates = rates_of(rollout, &rollout->full, KERNEL_ERRORS, false);
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
        ")\n  odds of at least 1000 to 1 against chance: the assignment is broken, so neither promotion nor "
        "rollback is decided from it; promote or abort by hand");
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
