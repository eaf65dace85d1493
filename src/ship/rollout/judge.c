// SPDX-License-Identifier: Apache-2.0
// From evidence to E. Closed spans are in the bank; each evaluation adds the open ones in routing order to a
// copy of it and looks at every prefix.
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "ship/rollout/rollout_private.h"
#include "stats/plan.h"
#include "stats/real.h"

// Of alpha nine tenths are for the time of comparison, one for the soak.
static const double ALPHA_PART = 0.9;
// Of the shadow's alpha a half is for errors and latency, the other one for what differs.
static const double SHADOW_PART = 0.5;
// p99.9 has too few events to wait for.
enum { EDGES_PROVEN = 3 };
// Of what moving on may cost, two standard deviations of the lot over users are taken off first.
static const double LOT_ALLOWANCE = 2.0;

bool judge_check_on(const struct rollout *rollout, enum rollout_check_kind check)
{
    const struct rollout_spec *spec = &rollout->spec;
    if (rollout->shadow.on && check != CHECK_ERRORS && check != CHECK_LATENCY)
        return false; // what else differs between two answers is a path that differs
    switch (check) {
    case CHECK_ERRORS:
        return spec->errors.on;
    case CHECK_LATENCY: // without a baseline, which an operator may skip, there is nothing to compare with
        return spec->latency.on && rollout->yardstick.edges.requests > 0;
    case CHECK_THROUGHPUT:
        return spec->throughput.on;
    case CHECK_STATUSES:
        return spec->statuses.on;
    case CHECKS:
        break;
    }
    return false;
}

double judge_share(const struct rollout *rollout, enum rollout_check_kind check)
{
    const struct rollout_spec *spec = &rollout->spec;
    const double shares[CHECKS] = {
        [CHECK_ERRORS] = spec->errors.share,
        [CHECK_LATENCY] = spec->latency.share,
        [CHECK_THROUGHPUT] = spec->throughput.share,
        [CHECK_STATUSES] = spec->statuses.share,
    };
    return judge_check_on(rollout, check) ? shares[check] : 0.0;
}

double judge_bad_needed(const struct rollout *rollout)
{
    if (rollout->shadow.on)
        return -stats_ln(SHADOW_PART * rollout->spec.diff.alpha);
    return -stats_ln(ALPHA_PART * rollout->spec.alpha);
}

double judge_good_needed(const struct rollout *rollout, enum rollout_check_kind check)
{
    const struct rollout_spec *spec = &rollout->spec;
    // By budget half of beta is for the baseline's rate. By ratio errors may pass in two ways, each at half.
    bool ratio = check == CHECK_ERRORS && spec->errors.prove == ROLLOUT_PROVE_RATIO;
    bool halved = !ratio || spec->errors.negligible > 0.0;
    return stats_ln((halved ? 2.0 : 1.0) / spec->beta);
}

// ---- what a stage may cost ----

uint32_t judge_next_weight(const struct rollout *rollout)
{
    const struct rollout_spec *spec = &rollout->spec;
    for (uint32_t i = rollout->stage + 1; i < spec->stage_count; i++)
        if (spec->stages[i].kind == ROLLOUT_STAGE_WEIGHT)
            return spec->stages[i].weight;
    return rollout->weight;
}

bool judge_units_suffice(const struct rollout *rollout)
{
    return !rollout->spec.keyed || rollout->shadow.on ||
           (votes_units(rollout, ROLLOUT_ARM_CANARY) >= ROLLOUT_UNITS_MIN &&
            votes_units(rollout, evidence_baseline_arm(rollout)) >= ROLLOUT_UNITS_MIN);
}

static double rate_of(uint64_t events, uint64_t trials)
{
    return trials > 0 ? (double)events / (double)trials : 0.0;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

// Both budgets of statuses are one; the larger of the two rates stands for the mix.
static double usual_rate(const struct rollout *rollout, enum rollout_check_kind check)
{
    enum rollout_arm arm = evidence_baseline_arm(rollout);
    const struct rollout_sums *before = &rollout->before.all[arm], *shared = &rollout->shared.all[arm];
    uint64_t requests = before->completed + shared->completed;
    if (requests < ROLLOUT_RATE_TRIALS_MIN)
        return 0.0;
    if (check == CHECK_STATUSES)
        return larger(rate_of(before->redirects + shared->redirects, requests),
                      rate_of(before->client_errors + shared->client_errors, requests));
    if (check == CHECK_THROUGHPUT)
        return rate_of(requests - before->good - shared->good, requests);
    return rate_of(before->failed + shared->failed, requests);
}

// Chosen by what the baseline showed before the stage's first request: a choice made while looking would
// spend beta twice. Where much fails already, half of it is as fair a measure as the given share.
static void budgets_choose(struct rollout *rollout)
{
    const struct rollout_spec *spec = &rollout->spec;
    rollout->budget[CHECK_LATENCY] = spec->latency.budget;
    rollout->budget[CHECK_ERRORS] = larger(spec->errors.budget, 0.5 * usual_rate(rollout, CHECK_ERRORS));
    rollout->budget[CHECK_THROUGHPUT] =
        larger(spec->errors.budget, 0.5 * usual_rate(rollout, CHECK_THROUGHPUT));
    rollout->budget[CHECK_STATUSES] =
        larger(spec->statuses.budget, 0.5 * usual_rate(rollout, CHECK_STATUSES));
}

static double errors_margin_choose(const struct rollout *rollout)
{
    if (rollout->spec.errors.margin > 0.0)
        return rollout->spec.errors.margin;
    return usual_rate(rollout, CHECK_ERRORS) < 0.005 ? 1.5 : 1.25;
}

void judge_start(struct rollout *rollout)
{
    const struct rollout_check_errors *errors = &rollout->spec.errors;
    stats_ratio_grid_init(&rollout->grid_bad, STATS_RATIO_ABOVE, errors->on ? errors->worse : 1.0,
                          STATS_RATIO_STEP_MIN, STATS_RATIO_STEP_MAX);
    if (errors->on && errors->negligible > 0.0)
        stats_bernoulli_grid_init(&rollout->grid_negligible, STATS_BERNOULLI_BELOW, errors->negligible);
    rollout->errors_margin = 0.0;
}

void judge_stage_start(struct rollout *rollout)
{
    memset(rollout->good, 0, sizeof rollout->good);
    for (int check = 0; check < CHECKS; check++)
        rollout->judgement.log_good[check] = 0.0;
    budgets_choose(rollout);
    // Harm is of one weight: pooled over several, load and drift would not affect both arms alike.
    memset(rollout->bank.harm, 0, sizeof rollout->bank.harm);
    if (rollout->errors_margin > 0.0 && rollout->spec.evidence_cumulative)
        return;
    memset(&rollout->bank.good_errors, 0, sizeof rollout->bank.good_errors);
    memset(&rollout->bank.negligible, 0, sizeof rollout->bank.negligible);
    rollout->errors_margin = errors_margin_choose(rollout);
    stats_ratio_grid_init(&rollout->grid_good, STATS_RATIO_BELOW, rollout->errors_margin,
                          STATS_RATIO_STEP_MIN, STATS_RATIO_STEP_MAX);
    for (int i = 0; i < ROLLOUT_TERMS_KEPT; i++)
        rollout->terms[i].ready = false;
}

// ---- evaluation ----

static bool span_two_armed(const struct rollout_span *span)
{
    return span->weight > 0 && span->weight < ROLLOUT_WEIGHT_FULL;
}

void judge_close(struct rollout *rollout, const struct rollout_span *span, const struct rollout_facts *facts)
{
    if (span_two_armed(span))
        votes_add(rollout, span, facts, &rollout->bank);
}

uint32_t judge_lags(const struct rollout *rollout, uint64_t lags[ROLLOUT_PREFIXES_MAX])
{
    // Never let bytes from a journal make an age that overflows.
    uint64_t edge_ms = rollout->yardstick.edges.edge_us[ROLLOUT_EDGES - 1] / 1000;
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

static void keep_largest(double *kept, double value)
{
    *kept = value > *kept ? value : *kept;
}

double judge_shares(const struct rollout *rollout, double shares[CHECKS])
{
    double all = 0.0;
    for (int check = 0; check < CHECKS; check++)
        all += shares[check] = judge_share(rollout, (enum rollout_check_kind)check);
    return all;
}

// Everything at one prefix: all metrics of the mixture are taken at the same instant, because an average of
// e-processes is one only then. The bound is shared by the votes and the outage in equal parts.
static void look_bad(const struct rollout *rollout, const struct rollout_bank *bank,
                     struct rollout_judgement *judgement)
{
    double kernel_log[KERNELS] = {0.0};
    double check_log[CHECKS] = {0.0};
    double shares[CHECKS];
    for (int kernel = 0; kernel < KERNELS; kernel++)
        if (judge_check_on(rollout, votes_check_of(kernel)))
            kernel_log[kernel] = bank->log_e[kernel];
    check_log[CHECK_ERRORS] = kernel_log[KERNEL_ERRORS];
    check_log[CHECK_LATENCY] = stats_log_mean_exp(kernel_log + KERNEL_LATENCY, ROLLOUT_EDGES);
    check_log[CHECK_THROUGHPUT] = kernel_log[KERNEL_THROUGHPUT];
    check_log[CHECK_STATUSES] = stats_log_mean_exp(kernel_log + KERNEL_REDIRECTS, 2);
    if (!(judge_shares(rollout, shares) > 0.0)) { // an operator skipped the baseline of the only check
        judgement->log_bad = 0.0;
        return;
    }
    // Of a baseline without requests nothing is known, and a rollback says what it was compared with.
    bool compared = bank->seen.baseline_judged[KERNEL_ERRORS] > 0;
    double parts[2] = {
        stats_log_weighted_mean_exp(check_log, shares, CHECKS),
        rollout->spec.errors.on && compared ? bank->outage.log_e : 0.0,
    };
    double mixture = stats_log_mean_exp(parts, 2);
    if (!(mixture > judgement->log_bad))
        return;
    judgement->log_bad = mixture;
    judgement->log_outage = parts[1];
    judgement->seen = bank->seen;
    memcpy(judgement->log_bad_check, check_log, sizeof check_log);
    memcpy(judgement->log_bad_kernel, kernel_log, sizeof kernel_log);
    memcpy(judgement->seconds, bank->seconds, sizeof bank->seconds);
    memcpy(judgement->seconds_worse, bank->seconds_worse, sizeof bank->seconds_worse);
}

// What moving on may cost in the arm that moves: the budget is a share of all requests, and after the step
// the new version has `next` of them.
static double harm_allowed(const struct rollout *rollout, enum rollout_check_kind check,
                           const struct stats_harm_counts *counts)
{
    double next = (double)judge_next_weight(rollout) / ROLLOUT_WEIGHT_FULL;
    double rate = larger(rate_of(counts->canary_events, counts->canary_requests),
                         rate_of(counts->baseline_events, counts->baseline_requests));
    rate = larger(rate, rollout->budget[check]);
    double lot = votes_lot_spread(rollout, rate < 1.0 ? rate : 0.5);
    return rollout->budget[check] / next - LOT_ALLOWANCE * lot;
}

static double harm_log_e(const struct rollout *rollout, const struct rollout_bank *bank, int kernel)
{
    enum rollout_check_kind check = votes_check_of(kernel);
    const struct stats_harm_counts *counts = &bank->harm[kernel];
    double allowed = harm_allowed(rollout, check, counts);
    if (counts->canary_requests < ROLLOUT_JUDGED_MIN || counts->baseline_requests < ROLLOUT_JUDGED_MIN ||
        !(allowed > 0.0))
        return 0.0;
    // What looks worse than allowed has no evidence for it: the costly part is left out.
    double excess = rate_of(counts->canary_events, counts->canary_requests) -
                    rate_of(counts->baseline_events, counts->baseline_requests);
    return excess < allowed ? stats_harm_log_e(counts, allowed, rollout->spec.beta) : 0.0;
}

// The least of the check's kernels: each kind of harm must be shown to be affordable.
static double harm_of_check(const struct rollout *rollout, const struct rollout_bank *bank,
                            enum rollout_check_kind check)
{
    double least = (double)INFINITY;
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        if (votes_check_of(kernel) != check || kernel == KERNEL_LATENCY + EDGES_PROVEN)
            continue;
        double log_e = harm_log_e(rollout, bank, kernel);
        least = log_e < least ? log_e : least;
    }
    return least;
}

static void look_good(const struct rollout *rollout, const struct rollout_bank *bank,
                      struct rollout_judgement *judgement)
{
    const struct rollout_check_errors *errors = &rollout->spec.errors;
    bool ratio = errors->on && errors->prove == ROLLOUT_PROVE_RATIO;
    memcpy(judgement->harm, bank->harm, sizeof bank->harm);
    for (int i = 0; i < CHECKS; i++) {
        enum rollout_check_kind check = (enum rollout_check_kind)i;
        if (judge_check_on(rollout, check) && !rollout->good[check] && !(ratio && check == CHECK_ERRORS))
            keep_largest(&judgement->log_good[check], harm_of_check(rollout, bank, check));
    }
    if (!ratio)
        return;
    keep_largest(&judgement->log_good_ratio, stats_ratio_log_e(&bank->good_errors));
    if (errors->negligible > 0.0)
        keep_largest(&judgement->log_negligible, stats_bernoulli_log_e(&bank->negligible));
    keep_largest(&judgement->log_good[CHECK_ERRORS], judgement->log_good_ratio);
    keep_largest(&judgement->log_good[CHECK_ERRORS], judgement->log_negligible);
}

// One pass over the open spans.
struct judge_pass {
    struct rollout_bank bank;
    uint64_t looked_at; // the bank's changes at the last look
    bool good;          // promotion is looked at, too: once a second is often enough
};

static void pass_look(struct rollout *rollout, struct judge_pass *pass)
{
    if (pass->bank.changes == pass->looked_at)
        return;
    pass->looked_at = pass->bank.changes;
    look_bad(rollout, &pass->bank, &rollout->judgement);
    if (pass->good)
        look_good(rollout, &pass->bank, &rollout->judgement);
}

static void judgement_reset(struct rollout *rollout, bool good)
{
    static const double none = -1e300;
    struct rollout_judgement *judgement = &rollout->judgement;
    struct rollout_judgement before = *judgement;
    *judgement = (struct rollout_judgement){.log_bad = none, .log_good_ratio = none, .log_negligible = none};
    for (int check = 0; check < CHECKS; check++)
        judgement->log_good[check] = good && !rollout->good[check] ? none : before.log_good[check];
    if (good)
        return;
    memcpy(judgement->harm, before.harm, sizeof before.harm);
    judgement->log_good_ratio = before.log_good_ratio;
    judgement->log_negligible = before.log_negligible;
}

void judge_evaluate(struct rollout *rollout)
{
    uint64_t second = rollout->tick / ROLLOUT_SECOND_TICKS;
    struct judge_pass pass = {
        .bank = rollout->bank, .looked_at = UINT64_MAX, .good = second != rollout->good_second};
    rollout->good_second = second;
    judgement_reset(rollout, pass.good);
    uint64_t lags[ROLLOUT_PREFIXES_MAX];
    uint32_t prefixes = judge_lags(rollout, lags);
    uint32_t at = 0;
    for (uint32_t i = 0; i < rollout->span_count && at < prefixes; i++) {
        struct rollout_span *span = evidence_span(rollout, i);
        for (; at < prefixes && rollout->tick - span->tick < lags[at]; at++)
            pass_look(rollout, &pass);
        if (at >= prefixes || !span_two_armed(span))
            continue;
        struct rollout_facts facts;
        evidence_facts(rollout, span, IMPUTE_OPEN, &facts);
        votes_add(rollout, span, &facts, &pass.bank);
    }
    // The newest second votes once the clock has ended it.
    if ((pass.bank.second.second + 1) * ROLLOUT_SECOND_TICKS <= rollout->tick)
        votes_second_end(rollout, &pass.bank);
    pass_look(rollout, &pass);
}

// ---- what is still needed ----

// Canary requests for the whole stage, were the versions as they have shown themselves so far.
static double plan_of(const struct rollout *rollout, enum rollout_check_kind check)
{
    const struct rollout_spec *spec = &rollout->spec;
    double plan = 0.0;
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        if (votes_check_of(kernel) != check || kernel == KERNEL_LATENCY + EDGES_PROVEN)
            continue;
        const struct stats_harm_counts *counts = &rollout->judgement.harm[kernel];
        double rate = rate_of(counts->baseline_events, counts->baseline_requests);
        double seen =
            counts->canary_requests > 0 ? rate_of(counts->canary_events, counts->canary_requests) : rate;
        plan = larger(plan,
                      stats_plan_harm_requests(rate, seen, harm_allowed(rollout, check, counts), spec->beta));
    }
    if (check != CHECK_ERRORS || spec->errors.prove != ROLLOUT_PROVE_RATIO)
        return plan;
    double weight = rollout->shadow.on ? 0.5 : (double)rollout->weight / ROLLOUT_WEIGHT_FULL;
    double by_ratio = weight * stats_plan_ratio_requests(weight, usual_rate(rollout, CHECK_ERRORS), 1.0,
                                                         rollout->errors_margin, spec->beta / 2.0);
    const struct rollout_sums *canary = &rollout->in_stage.all[ROLLOUT_ARM_CANARY];
    double by_rate = stats_plan_negligible_requests(1.0, rate_of(canary->failed, canary->completed),
                                                    spec->errors.negligible, spec->beta / 2.0);
    return by_rate < by_ratio ? by_rate : by_ratio;
}

uint64_t judge_more_requests(const struct rollout *rollout, enum rollout_check_kind check)
{
    if (rollout->good[check])
        return 0;
    uint32_t weight = rollout->weight;
    bool compares = rollout->shadow.on || (weight > 0 && weight < ROLLOUT_WEIGHT_FULL);
    if (!compares || rollout->state == ROLLOUT_PENDING || !judge_units_suffice(rollout))
        return UINT64_MAX;
    double needed = judge_good_needed(rollout, check);
    double plan = plan_of(rollout, check);
    double left = plan * (needed + 1.0 - rollout->judgement.log_good[check]) / (needed + 1.0);
    uint32_t part = rollout->shadow.on ? rollout_spec_shadow(&rollout->spec)->shadow.share : weight;
    left = left * ROLLOUT_WEIGHT_FULL / (double)part;
    if (!(left < 1e15))
        return UINT64_MAX;
    return left > 1.0 ? (uint64_t)left : 1;
}
