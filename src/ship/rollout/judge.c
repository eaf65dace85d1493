// SPDX-License-Identifier: Apache-2.0
// From spans to E. Closed spans are in the bank; each evaluation adds the open ones in routing order to a
// copy of it and looks at every prefix. Spans of one weight are added up first: the kernel needs only their
// counts.
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "ship/rollout/rollout_private.h"
#include "stats/effect.h"
#include "stats/plan.h"
#include "stats/real.h"

static enum rollout_check_kind check_of(int kernel)
{
    if (kernel == KERNEL_ERRORS)
        return CHECK_ERRORS;
    return kernel == KERNEL_THROUGHPUT ? CHECK_THROUGHPUT : CHECK_LATENCY;
}

bool judge_check_on(const struct rollout *rollout, enum rollout_check_kind check)
{
    if (check == CHECK_ERRORS)
        return rollout->spec.errors.on;
    return check == CHECK_LATENCY ? rollout->spec.latency.on : rollout->spec.throughput.on;
}

double judge_share(const struct rollout *rollout, enum rollout_check_kind check)
{
    if (!judge_check_on(rollout, check))
        return 0.0;
    if (check == CHECK_ERRORS)
        return rollout->spec.errors.share;
    return check == CHECK_LATENCY ? rollout->spec.latency.share : rollout->spec.throughput.share;
}

double judge_good_needed(const struct rollout *rollout, enum rollout_check_kind check)
{
    // Errors may pass in two ways, each at half of beta.
    bool halved = check == CHECK_ERRORS && rollout->spec.errors.negligible > 0.0;
    return stats_ln((halved ? 2.0 : 1.0) / rollout->spec.beta);
}

// ---- grids ----

static double step_min(int check)
{
    return check == CHECK_THROUGHPUT ? STATS_RATIO_STEP_MIN_THROUGHPUT : STATS_RATIO_STEP_MIN;
}

static void grid_make(struct stats_ratio_grid *grid, enum stats_ratio_side side, double null_ratio, int check)
{
    stats_ratio_grid_init(grid, side, null_ratio, step_min(check), STATS_RATIO_STEP_MAX);
}

void judge_start(struct rollout *rollout)
{
    const struct rollout_spec *spec = &rollout->spec;
    double worse = spec->errors.on ? spec->errors.worse : 1.0;
    double throughput_margin = spec->throughput.on ? spec->throughput.margin : 1.0;
    grid_make(&rollout->grid_bad[CHECK_ERRORS], STATS_RATIO_ABOVE, worse, CHECK_ERRORS);
    grid_make(&rollout->grid_bad[CHECK_LATENCY], STATS_RATIO_ABOVE, 1.0, CHECK_LATENCY);
    grid_make(&rollout->grid_bad[CHECK_THROUGHPUT], STATS_RATIO_BELOW, 1.0, CHECK_THROUGHPUT);
    grid_make(&rollout->grid_good[CHECK_LATENCY], STATS_RATIO_BELOW, 1.0, CHECK_LATENCY);
    grid_make(&rollout->grid_good[CHECK_THROUGHPUT], STATS_RATIO_ABOVE, 1.0 / throughput_margin,
              CHECK_THROUGHPUT);
    if (spec->errors.on && spec->errors.negligible > 0.0)
        stats_bernoulli_grid_init(&rollout->grid_negligible, STATS_BERNOULLI_BELOW, spec->errors.negligible);
    rollout->errors_margin = 0.0;
}

// R1 is chosen by what the baseline showed before the stage's first request: a choice made while looking
// would spend beta twice.
static double choose_errors_margin(const struct rollout *rollout)
{
    if (rollout->spec.errors.on && rollout->spec.errors.margin > 0.0)
        return rollout->spec.errors.margin;
    int arm = evidence_baseline_arm(rollout);
    uint64_t events = rollout->before.all[arm].error_events + rollout->shared.all[arm].error_events;
    uint64_t requests = rollout->before.all[arm].completed + rollout->shared.all[arm].completed;
    bool rare = requests >= ROLLOUT_RATE_TRIALS_MIN && (double)events < 0.005 * (double)requests;
    return rare ? 1.5 : 1.25;
}

void judge_stage_start(struct rollout *rollout)
{
    memset(rollout->good, 0, sizeof rollout->good);
    for (int check = 0; check < CHECKS; check++)
        rollout->judgement.log_good[check] = 0.0;
    bool first = !(rollout->errors_margin > 0.0);
    if (!first && rollout->spec.evidence_cumulative)
        return;
    memset(rollout->bank.good, 0, sizeof rollout->bank.good);
    memset(&rollout->bank.negligible, 0, sizeof rollout->bank.negligible);
    double margin = choose_errors_margin(rollout);
    if (!first && margin >= rollout->errors_margin && margin <= rollout->errors_margin)
        return;
    rollout->errors_margin = margin;
    grid_make(&rollout->grid_good[CHECK_ERRORS], STATS_RATIO_BELOW, margin, CHECK_ERRORS);
    for (int i = 0; i < ROLLOUT_TERMS_KEPT; i++)
        rollout->terms[i].ready = false;
    for (uint32_t i = 0; i < rollout->span_count; i++)
        evidence_span(rollout, i)->terms.ready = false;
}

// ---- terms ----

static void terms_make(const struct rollout *rollout, uint64_t canary, uint64_t baseline,
                       struct rollout_terms *terms)
{
    double all = (double)canary + (double)baseline;
    double weight = canary > 0 && baseline > 0 ? (double)canary / all : 0.0;
    terms->ready = true;
    terms->canary = canary;
    terms->baseline = baseline;
    for (int check = 0; check < CHECKS; check++) {
        if (!judge_check_on(rollout, (enum rollout_check_kind)check))
            continue;
        stats_ratio_terms_init(&rollout->grid_bad[check], weight, &terms->bad[check]);
        stats_ratio_terms_init(&rollout->grid_good[check], weight, &terms->good[check]);
    }
}

static const struct rollout_terms *terms_nominal(struct rollout *rollout, uint32_t weight, uint32_t pair)
{
    uint64_t baseline = rollout->spec.control ? pair : ROLLOUT_WEIGHT_FULL - weight - pair;
    for (int i = 0; i < ROLLOUT_TERMS_KEPT; i++) {
        const struct rollout_terms *terms = &rollout->terms[i];
        if (terms->ready && terms->canary == weight && terms->baseline == baseline)
            return terms;
    }
    struct rollout_terms *terms = &rollout->terms[rollout->terms_next];
    rollout->terms_next = (rollout->terms_next + 1) % ROLLOUT_TERMS_KEPT;
    terms_make(rollout, weight, baseline, terms);
    return terms;
}

// With a unit, users are assigned and not requests, so a heavy user makes an arm's share of requests differ
// from its weight, and the nominal weight would turn a difference in volume into a difference in rates. Given
// that n_c of a span's n requests went to the canary, and both versions alike, its S events are spread like a
// sample without replacement: S_c is hypergeometric with mean S·n_c/n. The kernel's factor e^(g·S_c - S·toll)
// is convex in S_c, and a sample without replacement has no larger mean of a convex function than one with
// replacement (Hoeffding 1963, theorem 4), for which the mean is 1 at w = n_c/n and R = 1. So the bound
// stays. (For nulls other than 1 this is exact only in the limit of rare events.)
static const struct rollout_terms *span_terms(struct rollout *rollout, struct rollout_span *span)
{
    if (!rollout->spec.keyed)
        return terms_nominal(rollout, span->weight, span->weight_control);
    uint64_t canary = span->arms[ROLLOUT_ARM_CANARY].routed;
    uint64_t baseline = span->arms[evidence_baseline_arm(rollout)].routed;
    if (!span->terms.ready || span->terms.canary != canary || span->terms.baseline != baseline)
        terms_make(rollout, canary, baseline, &span->terms);
    return &span->terms;
}

// ---- the bank ----

static bool span_two_armed(const struct rollout_span *span)
{
    return span->weight > 0 && span->weight < ROLLOUT_WEIGHT_FULL;
}

static bool span_for_good(const struct rollout *rollout, const struct rollout_span *span)
{
    return rollout->spec.evidence_cumulative || span->stage == rollout->stage;
}

static void bank_add(const struct rollout *rollout, const struct rollout_terms *terms,
                     const struct rollout_facts *facts, bool for_good, struct rollout_bank *bank)
{
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        enum rollout_check_kind check = check_of(kernel);
        if (!judge_check_on(rollout, check))
            continue;
        stats_ratio_add_terms(&rollout->grid_bad[check], &terms->bad[check], &bank->bad[kernel],
                              facts->bad.canary[kernel], facts->bad.baseline[kernel]);
        if (for_good)
            stats_ratio_add_terms(&rollout->grid_good[check], &terms->good[check], &bank->good[kernel],
                                  facts->good.canary[kernel], facts->good.baseline[kernel]);
    }
    if (for_good && rollout->spec.errors.on && rollout->spec.errors.negligible > 0.0)
        stats_bernoulli_add(&rollout->grid_negligible, &bank->negligible, facts->trials, facts->failures);
}

static void tally_add(struct rollout *rollout, const struct rollout_span *span,
                      const struct rollout_facts *facts)
{
    struct rollout_tally *tally = NULL;
    for (uint32_t i = 0; i < rollout->tally_count; i++)
        if (rollout->tallies[i].weight == span->weight &&
            rollout->tallies[i].weight_control == span->weight_control)
            tally = &rollout->tallies[i];
    if (tally == NULL) {
        if (rollout->tally_count == ROLLOUT_TALLIES_MAX)
            return; // more weights than stages: only the text's factor is less sharp
        tally = &rollout->tallies[rollout->tally_count++];
        *tally = (struct rollout_tally){.weight = span->weight, .weight_control = span->weight_control};
    }
    tally->routed_canary += span->arms[ROLLOUT_ARM_CANARY].routed;
    tally->routed_baseline += span->arms[evidence_baseline_arm(rollout)].routed;
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        tally->bad.canary[kernel] += facts->bad.canary[kernel];
        tally->bad.baseline[kernel] += facts->bad.baseline[kernel];
    }
}

void judge_close(struct rollout *rollout, struct rollout_span *span, const struct rollout_facts *facts)
{
    if (!span_two_armed(span))
        return;
    const struct rollout_terms *terms = span_terms(rollout, span);
    bank_add(rollout, terms, facts, span_for_good(rollout, span), &rollout->bank);
    tally_add(rollout, span, facts);
}

// ---- evaluation ----

uint32_t judge_lags(const struct rollout *rollout, uint64_t lags[ROLLOUT_PREFIXES_MAX])
{
    // Never let bytes from a journal make an age that overflows.
    uint64_t edge_ms = rollout->edges.edge_us[ROLLOUT_EDGES - 1] / 1000;
    edge_ms = edge_ms < rollout->spec.deadline_ms ? edge_ms : rollout->spec.deadline_ms;
    const uint64_t lags_ms[ROLLOUT_PREFIXES_MAX - 1] = {rollout->spec.deadline_ms, 5000, 1000, edge_ms, 0};
    for (uint32_t i = 0; i < ROLLOUT_PREFIXES_MAX - 1; i++) {
        // A request routed at the end of its tick is one tick younger than its span.
        uint64_t lag = lags_ms[i] / ROLLOUT_TICK_MS + 2;
        uint32_t at = i;
        for (; at > 0 && lags[at - 1] < lag; at--)
            lags[at] = lags[at - 1];
        lags[at] = lag;
    }
    lags[ROLLOUT_PREFIXES_MAX - 1] = 0; // all there is
    return ROLLOUT_PREFIXES_MAX;
}

// What one pass over the open spans carries along.
struct judge_pass {
    struct rollout_bank bank;
    struct rollout_facts group; // of spans with the same terms, not yet in the bank
    const struct rollout_terms *terms;
    uint32_t weight;
    uint32_t weight_control;
    bool for_good;
    bool grouped; // the group holds something
    bool changed; // the bank changed since the last look
};

static void facts_merge(struct rollout_facts *into, const struct rollout_facts *from)
{
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        into->bad.canary[kernel] += from->bad.canary[kernel];
        into->bad.baseline[kernel] += from->bad.baseline[kernel];
        into->good.canary[kernel] += from->good.canary[kernel];
        into->good.baseline[kernel] += from->good.baseline[kernel];
    }
    into->trials += from->trials;
    into->failures += from->failures;
}

static void pass_flush(const struct rollout *rollout, struct judge_pass *pass)
{
    if (!pass->grouped)
        return;
    bank_add(rollout, pass->terms, &pass->group, pass->for_good, &pass->bank);
    pass->grouped = false;
    pass->changed = true;
}

static void pass_add(struct rollout *rollout, struct rollout_span *span, struct judge_pass *pass)
{
    if (!span_two_armed(span))
        return;
    struct rollout_facts facts;
    evidence_facts(rollout, span, IMPUTE_OPEN, &facts);
    bool for_good = span_for_good(rollout, span);
    if (pass->grouped && !rollout->spec.keyed && pass->for_good == for_good && pass->weight == span->weight &&
        pass->weight_control == span->weight_control) {
        facts_merge(&pass->group, &facts);
        return;
    }
    // The flush comes first: making new terms may take the place of the group's.
    pass_flush(rollout, pass);
    pass->terms = span_terms(rollout, span);
    pass->group = facts;
    pass->weight = span->weight;
    pass->weight_control = span->weight_control;
    pass->for_good = for_good;
    pass->grouped = true;
}

static double latency_log_e(const double log_e[KERNELS])
{
    return stats_log_mean_exp(log_e + KERNEL_LATENCY, ROLLOUT_EDGES);
}

// Everything at one prefix: all metrics of the mixture are taken at the same instant, because an average of
// e-processes is one only then.
static void look_bad(const struct rollout *rollout, const struct rollout_bank *bank, uint32_t prefix_spans,
                     struct rollout_judgement *judgement)
{
    double kernel_log[KERNELS] = {0.0};
    double check_log[CHECKS] = {0.0};
    double shares[CHECKS];
    for (int kernel = 0; kernel < KERNELS; kernel++)
        if (judge_check_on(rollout, check_of(kernel)))
            kernel_log[kernel] = stats_ratio_log_e(&bank->bad[kernel]);
    check_log[CHECK_ERRORS] = kernel_log[KERNEL_ERRORS];
    check_log[CHECK_LATENCY] = latency_log_e(kernel_log);
    check_log[CHECK_THROUGHPUT] = kernel_log[KERNEL_THROUGHPUT];
    for (int check = 0; check < CHECKS; check++)
        shares[check] = judge_share(rollout, (enum rollout_check_kind)check);
    double mixture = stats_log_weighted_mean_exp(check_log, shares, CHECKS);
    if (!(mixture > judgement->log_bad))
        return;
    judgement->log_bad = mixture;
    judgement->prefix_spans = prefix_spans;
    memcpy(judgement->log_bad_check, check_log, sizeof check_log);
    memcpy(judgement->log_bad_kernel, kernel_log, sizeof kernel_log);
}

static void keep_largest(double *kept, double value)
{
    *kept = value > *kept ? value : *kept;
}

static void look_good(const struct rollout *rollout, const struct rollout_bank *bank,
                      struct rollout_judgement *judgement)
{
    const struct rollout_spec *spec = &rollout->spec;
    double log_e[KERNELS] = {0.0};
    for (int kernel = 0; kernel < KERNELS; kernel++)
        if (judge_check_on(rollout, check_of(kernel)))
            log_e[kernel] = stats_ratio_log_e(&bank->good[kernel]);
    keep_largest(&judgement->log_good_ratio, log_e[KERNEL_ERRORS]);
    if (spec->errors.on && spec->errors.negligible > 0.0)
        keep_largest(&judgement->log_negligible, stats_bernoulli_log_e(&bank->negligible));
    keep_largest(&judgement->log_good[CHECK_ERRORS], judgement->log_good_ratio);
    keep_largest(&judgement->log_good[CHECK_ERRORS], judgement->log_negligible);
    keep_largest(&judgement->log_good[CHECK_LATENCY], latency_log_e(log_e));
    keep_largest(&judgement->log_good[CHECK_THROUGHPUT], log_e[KERNEL_THROUGHPUT]);
}

static void pass_look(struct rollout *rollout, struct judge_pass *pass, uint32_t prefix_spans)
{
    pass_flush(rollout, pass);
    if (!pass->changed)
        return;
    pass->changed = false;
    look_bad(rollout, &pass->bank, prefix_spans, &rollout->judgement);
    look_good(rollout, &pass->bank, &rollout->judgement);
}

void judge_evaluate(struct rollout *rollout)
{
    static const double none = -1e300;
    struct judge_pass pass = {.bank = rollout->bank, .changed = true};
    struct rollout_judgement *judgement = &rollout->judgement;
    *judgement = (struct rollout_judgement){
        .log_bad = none,
        .log_good = {none, none, none},
        .log_good_ratio = none,
        .log_negligible = none,
    };
    uint64_t lags[ROLLOUT_PREFIXES_MAX];
    uint32_t prefixes = judge_lags(rollout, lags);
    uint32_t at = 0;
    for (uint32_t i = 0; i < rollout->span_count && at < prefixes; i++) {
        struct rollout_span *span = evidence_span(rollout, i);
        for (; at < prefixes && rollout->tick - span->tick < lags[at]; at++)
            pass_look(rollout, &pass, i);
        if (at < prefixes)
            pass_add(rollout, span, &pass);
    }
    if (at < prefixes)
        pass_look(rollout, &pass, rollout->span_count);
}

// ---- sizes of effects, and what is still needed ----

double judge_ratio_bound(struct rollout *rollout, int kernel)
{
    struct rollout_tally tallies[ROLLOUT_TALLIES_MAX];
    uint32_t count = rollout->tally_count;
    memcpy(tallies, rollout->tallies, sizeof tallies);
    // Borrow the table of tallies for the open spans of the prefix, then put it back.
    for (uint32_t i = 0; i < rollout->judgement.prefix_spans && i < rollout->span_count; i++) {
        const struct rollout_span *span = evidence_span(rollout, i);
        struct rollout_facts facts;
        evidence_facts(rollout, span, IMPUTE_OPEN, &facts);
        if (span_two_armed(span))
            tally_add(rollout, span, &facts);
    }
    struct stats_effect_segment segments[ROLLOUT_TALLIES_MAX];
    for (uint32_t i = 0; i < rollout->tally_count; i++) {
        const struct rollout_tally *tally = &rollout->tallies[i];
        double canary = rollout->spec.keyed ? (double)tally->routed_canary : (double)tally->weight;
        double baseline = rollout->spec.keyed ? (double)tally->routed_baseline
                          : rollout->spec.control
                              ? (double)tally->weight_control
                              : (double)(ROLLOUT_WEIGHT_FULL - tally->weight - tally->weight_control);
        segments[i] = (struct stats_effect_segment){
            .weight = canary + baseline > 0.0 ? canary / (canary + baseline) : 0.0,
            .canary_events = tally->bad.canary[kernel],
            .baseline_events = tally->bad.baseline[kernel],
        };
    }
    double bound =
        kernel == KERNEL_THROUGHPUT
            ? stats_effect_upper(segments, rollout->tally_count, STATS_RATIO_STEP_MIN_THROUGHPUT,
                                 rollout->spec.alpha)
            : stats_effect_lower(segments, rollout->tally_count, STATS_RATIO_STEP_MIN, rollout->spec.alpha);
    rollout->tally_count = count;
    memcpy(rollout->tallies, tallies, sizeof tallies);
    return bound;
}

static double rate_of(uint64_t events, uint64_t trials)
{
    return trials > 0 ? (double)events / (double)trials : 0.0;
}

// Requests of the whole stage by the plan, were the versions alike (errors, throughput) or as they have shown
// themselves so far (latency).
static double plan_of(const struct rollout *rollout, enum rollout_check_kind check, double weight,
                      double beta)
{
    const struct rollout_spec *spec = &rollout->spec;
    int arm = evidence_baseline_arm(rollout);
    const struct rollout_sums *baseline = &rollout->shared.judged[arm];
    const struct rollout_sums *canary = &rollout->shared.judged[ROLLOUT_ARM_CANARY];
    const struct rollout_sums *in_stage = &rollout->in_stage.all[ROLLOUT_ARM_CANARY];
    if (check == CHECK_THROUGHPUT)
        return stats_plan_ratio_requests(weight, rate_of(baseline->good, baseline->completed), 1.0,
                                         1.0 / spec->throughput.margin, beta);
    if (check == CHECK_ERRORS) {
        uint64_t events = rollout->before.all[arm].error_events + rollout->shared.all[arm].error_events;
        uint64_t requests = rollout->before.all[arm].completed + rollout->shared.all[arm].completed;
        double by_ratio =
            stats_plan_ratio_requests(weight, rate_of(events, requests), 1.0, rollout->errors_margin, beta);
        double by_rate = stats_plan_negligible_requests(
            weight, rate_of(in_stage->errors, in_stage->completed), spec->errors.negligible, beta);
        return by_rate < by_ratio ? by_rate : by_ratio;
    }
    double best = (double)INFINITY;
    for (int k = 0; k < ROLLOUT_EDGES && canary->completed >= 100; k++) {
        double rate = rate_of(baseline->slow[k], baseline->completed);
        double slower = rate_of(canary->slow_margin[k], canary->completed);
        if (!(rate > 0.0) || slower >= rate)
            continue;
        double plan = stats_plan_ratio_requests(weight, rate, slower / rate, 1.0, beta / ROLLOUT_EDGES);
        best = plan < best ? plan : best;
    }
    return best;
}

uint64_t judge_more_requests(const struct rollout *rollout, enum rollout_check_kind check)
{
    if (rollout->good[check])
        return 0;
    uint32_t weight = rollout->weight;
    uint64_t pair = ROLLOUT_WEIGHT_FULL - weight;
    if (rollout->spec.control) // the control arm is as large as the canary, as far as there is room
        pair = pair < weight ? pair : weight;
    if (weight == 0 || weight == ROLLOUT_WEIGHT_FULL || rollout->state == ROLLOUT_PENDING)
        return UINT64_MAX;
    double needed = judge_good_needed(rollout, check);
    double beta = check == CHECK_ERRORS ? rollout->spec.beta / 2.0 : rollout->spec.beta;
    double plan = plan_of(rollout, check, (double)weight / ((double)weight + (double)pair), beta);
    double left = plan * (needed + 1.0 - rollout->judgement.log_good[check]) / (needed + 1.0);
    if (rollout->spec.control)
        left = left * ROLLOUT_WEIGHT_FULL / ((double)weight + (double)pair);
    if (!(left < 1e15))
        return UINT64_MAX;
    return left > 1.0 ? (uint64_t)left : 1;
}
