// SPDX-License-Identifier: Apache-2.0
// From spans to seconds: each second is at most one vote for each kind of bad event (stats/vote.h), a part of
// the harm counts of its stage, and, while no answer is good, evidence of an outage.
#include <string.h>

#include "base/check.h"
#include "ship/rollout/rollout_private.h"

// Two standard deviations and more of what the lot over users may do are never held against a version.
static const double LOT_GUARD = 4.0;
// A second of the baseline is a burst when its events exceed so many times what is usual, and chance besides.
static const double BURST_TIMES = 3.0;
static const double BURST_GUARD = 4.0;
static const double BURST_LEAST = 3.0;
// A burst that ends within so many ticks of the second after it began is one vote.
enum { BURST_TICKS = 5 };
// What is usual so often (the p50 edge) cannot be so many times as often: there a burst is that far towards
// all.
static const double BURST_RATE_MAX = 0.2;
static const double BURST_PART = 0.25;

enum rollout_check_kind votes_check_of(int kernel)
{
    if (kernel == KERNEL_ERRORS)
        return CHECK_ERRORS;
    if (kernel == KERNEL_THROUGHPUT)
        return CHECK_THROUGHPUT;
    return kernel < KERNEL_THROUGHPUT ? CHECK_LATENCY : CHECK_STATUSES;
}

// ---- users ----

double votes_units(const struct rollout *rollout, enum rollout_arm arm)
{
    const struct rollout_sums *sums = &rollout->shared.all[arm];
    double judged = (double)(evidence_judged(sums));
    double squares = (double)sums->unit_squares;
    return rollout->spec.keyed && squares > judged ? judged * judged / squares : judged;
}

// In the shadow there is no lot: both versions answer the same requests.
static bool lot_over_users(const struct rollout *rollout)
{
    return rollout->spec.keyed && !rollout->shadow.on;
}

double votes_lot_spread(const struct rollout *rollout, double rate)
{
    if (!lot_over_users(rollout))
        return 0.0;
    double canary = votes_units(rollout, ROLLOUT_ARM_CANARY);
    double baseline = votes_units(rollout, evidence_baseline_arm(rollout));
    if (!(canary >= 1.0) || !(baseline >= 1.0))
        return 1.0;
    return __builtin_sqrt(rate * (1.0 - rate) * (1.0 / canary + 1.0 / baseline));
}

// What the lot may do to the difference of the arms, never held against a version: several deviations of it,
// and the one user of the largest weight that there can be, who is in one arm and slow for ever.
static double lot_floor(const struct rollout *rollout, double rate)
{
    if (!lot_over_users(rollout))
        return 0.0;
    double spread = LOT_GUARD * votes_lot_spread(rollout, rate);
    double users = votes_units(rollout, ROLLOUT_ARM_CANARY);
    double largest = users >= 1.0 ? __builtin_sqrt(1.0 / users) : 1.0;
    return spread > largest ? spread : largest;
}

// ---- a second's vote ----

// Of latency the edge is already later for the canary (struct rollout_yardstick), so its factor is 1.
static struct stats_vote_rule rule_of(const struct rollout *rollout, int kernel, double rate)
{
    const struct rollout_spec *spec = &rollout->spec;
    struct stats_vote_rule rule = {.worse = 1.0, .floor = 0.0};
    switch (votes_check_of(kernel)) {
    case CHECK_ERRORS:
        rule = (struct stats_vote_rule){.worse = spec->errors.worse, .floor = spec->errors.floor};
        if (spec->errors.window_ms == 0)
            return rule; // a user counts once: the lot is in the test itself
        break;
    case CHECK_THROUGHPUT:
        rule = (struct stats_vote_rule){.worse = spec->throughput.margin, .floor = spec->errors.floor};
        break;
    case CHECK_STATUSES:
        rule = (struct stats_vote_rule){.worse = spec->statuses.worse, .floor = spec->statuses.floor};
        break;
    case CHECK_LATENCY:
    case CHECKS:
        break;
    }
    rule.floor += lot_floor(rollout, rate);
    return rule;
}

static double nominal_q(const struct rollout *rollout, const struct rollout_second *second)
{
    double baseline = rollout->spec.control
                          ? (double)second->weight_control
                          : (double)(ROLLOUT_WEIGHT_FULL - second->weight - second->weight_control);
    return baseline > 0.0 ? (double)second->weight / baseline : 0.0;
}

// The baseline's rate over all of the run's seconds.
static double usual_rate(const struct rollout_bank *bank, int kernel)
{
    uint64_t judged = bank->usual_judged[kernel], events = bank->usual_events[kernel];
    return judged > 0 ? (double)(events < judged ? events : judged) / (double)judged : 0.0;
}

static void vote(const struct rollout *rollout, const struct rollout_second *second, int kernel,
                 struct rollout_bank *bank)
{
    const struct rollout_pairs *bad = &second->facts.bad;
    if (bad->canary_judged[kernel] == 0 || bad->baseline_judged[kernel] == 0)
        return;
    struct stats_vote_second counts = {
        .canary_routed = bad->canary_judged[kernel],
        .baseline_routed = bad->baseline_judged[kernel],
        .canary_events = bad->canary[kernel],
        .baseline_events = bad->baseline[kernel],
        // Whom the lot gave an error is counted once, whatever he sends: the weights say what chance does.
        .q = kernel == KERNEL_ERRORS && lot_over_users(rollout) ? nominal_q(rollout, second) : 0.0,
        .rate = (double)second->rates[kernel],
    };
    double usual = usual_rate(bank, kernel);
    struct stats_vote_rule rule = rule_of(rollout, kernel, usual > counts.rate ? usual : counts.rate);
    double z = stats_vote_z(&rule, &counts);
    stats_vote_add(&bank->votes[kernel], z);
    bank->log_e[kernel] = stats_vote_log_e(&bank->votes[kernel]);
    bank->seconds[kernel]++;
    bank->seconds_worse[kernel] += z > 0.0;
    bank->seen.canary_judged[kernel] += counts.canary_routed;
    bank->seen.baseline_judged[kernel] += counts.baseline_routed;
    bank->seen.canary[kernel] += counts.canary_events;
    bank->seen.baseline[kernel] += counts.baseline_events;
}

// ---- harm ----

static bool for_good(const struct rollout *rollout, uint32_t stage)
{
    return rollout->spec.evidence_cumulative || stage == rollout->stage;
}

// A burst of the baseline makes the canary look good beside it, so its second proves nothing good. A burst is
// several times what is usual for the baseline in this run, and beyond chance. To leave seconds out by what
// the baseline did can only make the baseline look better.
static bool is_burst(const struct rollout_bank *bank, int kernel, uint64_t judged, uint64_t events)
{
    double usual = usual_rate(bank, kernel), expected = (double)judged * usual;
    if (usual >= BURST_RATE_MAX)
        return (double)events > expected + BURST_PART * ((double)judged - expected) + BURST_LEAST;
    return (double)events > BURST_TIMES * expected + BURST_GUARD * __builtin_sqrt(expected) + BURST_LEAST;
}

static void harm_add(const struct rollout_second *second, int kernel, bool stage, struct rollout_bank *bank)
{
    const struct rollout_pairs *good = &second->facts.good;
    struct stats_harm_counts *harm = &bank->harm[kernel];
    bool burst = is_burst(bank, kernel, good->baseline_judged[kernel], good->baseline[kernel]);
    bank->usual_judged[kernel] += good->baseline_judged[kernel];
    bank->usual_events[kernel] += good->baseline[kernel];
    if (burst || !stage)
        return;
    harm->canary_requests += good->canary_judged[kernel];
    harm->canary_events += good->canary[kernel];
    harm->baseline_requests += good->baseline_judged[kernel];
    harm->baseline_events += good->baseline[kernel];
}

void votes_second_end(const struct rollout *rollout, struct rollout_bank *bank)
{
    const struct rollout_second *second = &bank->second;
    bool stage = second->stage == rollout->stage;
    bank->changes++;
    for (int kernel = 0; kernel < KERNELS && second->filled && !second->mixed; kernel++) {
        if (!judge_check_on(rollout, votes_check_of(kernel)))
            continue;
        vote(rollout, second, kernel, bank);
        harm_add(second, kernel, stage, bank);
    }
    bank->second = (struct rollout_second){.filled = false};
}

// ---- spans ----

static void pairs_add(struct rollout_pairs *into, const struct rollout_pairs *from,
                      const bool left_out[KERNELS])
{
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        if (left_out[kernel])
            continue;
        into->canary_judged[kernel] += from->canary_judged[kernel];
        into->baseline_judged[kernel] += from->baseline_judged[kernel];
        into->canary[kernel] += from->canary[kernel];
        into->baseline[kernel] += from->baseline[kernel];
    }
}

static const struct rollout_terms *terms_of(struct rollout *rollout, const struct rollout_span *span)
{
    uint64_t baseline = rollout->spec.control ? span->weight_control
                                              : ROLLOUT_WEIGHT_FULL - span->weight - span->weight_control;
    for (int i = 0; i < ROLLOUT_TERMS_KEPT; i++) {
        const struct rollout_terms *terms = &rollout->terms[i];
        if (terms->ready && terms->canary == span->weight && terms->baseline == baseline)
            return terms;
    }
    struct rollout_terms *terms = &rollout->terms[rollout->terms_next];
    rollout->terms_next = (rollout->terms_next + 1) % ROLLOUT_TERMS_KEPT;
    *terms = (struct rollout_terms){.ready = true, .canary = span->weight, .baseline = baseline};
    double weight = baseline > 0 ? (double)span->weight / (double)(span->weight + baseline) : 0.0;
    stats_ratio_terms_init(&rollout->grid_bad, weight, &terms->bad);
    stats_ratio_terms_init(&rollout->grid_good, weight, &terms->good);
    return terms;
}

// While no answer of the canary is good for more than a second, its errors are no burst any more and count
// one by one. The product runs on from outage to outage: a fresh start at each would not keep its bound.
static void outage_add(const struct rollout *rollout, const struct rollout_span *span,
                       const struct rollout_terms *terms, const struct rollout_facts *facts,
                       struct rollout_bank *bank)
{
    struct rollout_outage *outage = &bank->outage;
    const struct rollout_sums *canary = &span->arms[ROLLOUT_ARM_CANARY];
    bool counts = outage->out && span->tick >= outage->since_tick + ROLLOUT_SECOND_TICKS;
    if (canary->good > 0) {
        outage->out = false;
    } else if (canary->completed > 0 && !outage->out) {
        outage->out = true;
        outage->since_tick = span->tick;
    }
    if (!counts) // as it stood before this span: what it holds must not decide whether it counts
        return;
    stats_ratio_add_terms(&rollout->grid_bad, &terms->bad, &outage->errors, facts->bad.canary[KERNEL_ERRORS],
                          facts->bad.baseline[KERNEL_ERRORS]);
    outage->log_e = stats_ratio_log_e(&outage->errors);
    bank->changes++;
}

// A short burst that lies across the end of a second would be two votes. What goes on of it in the first
// ticks of the next second is left out of that, for both arms.
static void bursts_follow(const struct rollout_span *span, const struct rollout_pairs *bad,
                          struct rollout_bank *bank, bool left_out[KERNELS])
{
    bool close = span->tick <= bank->burst_tick + 1;
    uint64_t at = span->tick % ROLLOUT_SECOND_TICKS;
    bank->burst_tick = span->tick;
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        struct rollout_burst *burst = &bank->bursts[kernel], before = *burst;
        bool rare = (double)span->rates[kernel] < BURST_RATE_MAX;
        burst->canary = rare && 2 * bad->canary[kernel] > bad->canary_judged[kernel];
        burst->baseline = rare && 2 * bad->baseline[kernel] > bad->baseline_judged[kernel];
        bool goes_on = (before.canary && burst->canary) || (before.baseline && burst->baseline);
        burst->left_out = close && goes_on && (at == 0 || (at < BURST_TICKS && before.left_out));
        left_out[kernel] = burst->left_out;
    }
}

static void second_fill(const struct rollout_span *span, const struct rollout_facts *facts,
                        struct rollout_bank *bank)
{
    struct rollout_second *second = &bank->second;
    bool left_out[KERNELS];
    bursts_follow(span, &facts->bad, bank, left_out);
    if (!second->filled) {
        *second = (struct rollout_second){
            .filled = true,
            .second = span->tick / ROLLOUT_SECOND_TICKS,
            .weight = span->weight,
            .weight_control = span->weight_control,
            .stage = span->stage,
        };
        memcpy(second->rates, span->rates, sizeof second->rates);
    }
    second->mixed |= second->weight != span->weight || second->weight_control != span->weight_control;
    pairs_add(&second->facts.bad, &facts->bad, left_out);
    static const bool none[KERNELS];
    pairs_add(&second->facts.good, &facts->good, none);
}

void votes_add(struct rollout *rollout, const struct rollout_span *span, const struct rollout_facts *facts,
               struct rollout_bank *bank)
{
    if (bank->second.filled && bank->second.second != span->tick / ROLLOUT_SECOND_TICKS)
        votes_second_end(rollout, bank);
    second_fill(span, facts, bank);
    if (!rollout->spec.errors.on)
        return;
    const struct rollout_terms *terms = terms_of(rollout, span);
    outage_add(rollout, span, terms, facts, bank);
    if (rollout->spec.errors.prove != ROLLOUT_PROVE_RATIO || !for_good(rollout, span->stage))
        return;
    bank->changes++;
    stats_ratio_add_terms(&rollout->grid_good, &terms->good, &bank->good_errors, facts->error_events,
                          facts->good.baseline[KERNEL_ERRORS]);
    if (rollout->spec.errors.negligible > 0.0)
        stats_bernoulli_add(&rollout->grid_negligible, &bank->negligible,
                            facts->good.canary_judged[KERNEL_ERRORS], facts->good.canary[KERNEL_ERRORS]);
}
