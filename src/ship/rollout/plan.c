// SPDX-License-Identifier: Apache-2.0
// The plan printed before a rollout: stats/plan.h asked once per stage and check.
#include "ship/rollout/plan.h"

#include <math.h>

#include "ship/rollout/rollout.h"
#include "stats/plan.h"
#include "stats/vote.h"

// Votes have a quarter of the shadow's alpha, and .45 of the rollout's.
static const double SHADOW_ALPHA = 0.25 / 0.45;

static double clamp(double value, double low, double high)
{
    if (!(value > low))
        return low;
    return value < high ? value : high;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

// Without a baseline arm of its own the canary is compared with all the rest; with a control arm only with
// that, so that requests of the two are a part of all.
struct plan_split {
    double weight;
    double part;
};

static struct plan_split split_of(const struct rollout_spec *spec, uint32_t weight)
{
    double share = (double)weight / ROLLOUT_WEIGHT_FULL;
    if (!spec->control)
        return (struct plan_split){.weight = share, .part = 1.0};
    double control = smaller(share, 1.0 - share);
    return (struct plan_split){.weight = share / (share + control), .part = share + control};
}

static double harm_requests(double rate, double canary_rate, double allowed, double beta)
{
    // The machine asks for so many on either side before it believes anything.
    static const double judged_min = 100.0;
    return larger(judged_min, stats_plan_harm_requests(rate, canary_rate, allowed, beta));
}

// Moving on costs what the new version does worse, in the share that it has then.
static void plan_promotion(const struct rollout_spec *spec, const struct rollout_plan_traffic *traffic,
                           struct plan_split split, struct rollout_plan_stage *stage)
{
    double part = split.weight * split.part, next = (double)stage->next / ROLLOUT_WEIGHT_FULL;
    double errors = traffic->error_rate;
    double budget = larger(spec->errors.budget, 0.5 * errors);
    if (spec->errors.on && spec->errors.prove == ROLLOUT_PROVE_BUDGET) {
        stage->promote_errors = harm_requests(errors, errors, budget / next, spec->beta) / part;
    } else if (spec->errors.on) {
        double margin = spec->errors.margin > 0.0 ? spec->errors.margin : errors < 0.005 ? 1.5 : 1.25;
        double beta = spec->errors.negligible > 0.0 ? spec->beta / 2.0 : spec->beta;
        double by_ratio = stats_plan_ratio_requests(split.weight, errors, 1.0, margin, beta);
        double by_rate = stats_plan_negligible_requests(split.weight, errors, spec->errors.negligible, beta);
        stage->promote_errors = smaller(by_ratio, by_rate) / split.part;
    }
    for (int k = 0; spec->latency.on && k < 3; k++) {
        double slow = stats_plan_latency_share(k, 1.0, traffic->latency_sigma);
        double past = stats_plan_latency_share(k, 1.0 / spec->latency.margin, traffic->latency_sigma);
        stage->promote_latency =
            larger(stage->promote_latency,
                   harm_requests(slow, past, spec->latency.budget / next, spec->beta) / part);
    }
    if (spec->throughput.on)
        stage->promote_throughput = harm_requests(errors, errors, budget / next, spec->beta) / part;
    stage->promote = larger(stage->promote_errors, larger(stage->promote_latency, stage->promote_throughput));
}

// A check decides alone when its E reaches the whole's bound over its share of the mixture.
static void plan_detection(const struct rollout_spec *spec, const struct rollout_plan_traffic *traffic,
                           struct plan_split split, struct rollout_plan_stage *stage)
{
    double all = traffic->requests_per_second * split.part;
    double canary = all * split.weight, baseline = all - canary;
    if (!(all > 0.0))
        return;
    struct stats_vote_rule errors = {.worse = spec->errors.worse, .floor = spec->errors.floor};
    double bad = smaller(1.0, traffic->error_rate + traffic->error_added);
    double alpha = 0.45 * spec->alpha;
    if (spec->errors.on)
        stage->detect_errors_ms =
            1000.0 * stats_plan_vote_seconds(&errors, canary, baseline, traffic->error_rate, bad,
                                             alpha * spec->errors.share);
    struct stats_vote_rule latency = {.worse = 1.0, .floor = 0.0};
    stage->detect_latency_ms = spec->latency.on ? (double)INFINITY : 0.0;
    for (int k = 0; spec->latency.on && k < ROLLOUT_EDGES; k++) {
        double slow = stats_plan_latency_share(k, 1.0, traffic->latency_sigma);
        double slower =
            stats_plan_latency_share(k, traffic->slowdown / spec->latency.worse, traffic->latency_sigma);
        stage->detect_latency_ms =
            smaller(stage->detect_latency_ms,
                    1000.0 * stats_plan_vote_seconds(&latency, canary, baseline, slow, slower,
                                                     alpha * spec->latency.share / ROLLOUT_EDGES));
    }
}

static void plan_times(const struct rollout_stage *stage, double requests_per_second,
                       struct rollout_plan_stage *planned)
{
    if (stage->weight == ROLLOUT_WEIGHT_FULL) {
        planned->promote_ms = (double)stage->soak_ms;
        return;
    }
    double per_ms = requests_per_second / 1000.0;
    if (!(per_ms > 0.0))
        return;
    planned->promote_ms = larger((double)stage->min_ms, planned->promote / per_ms);
    planned->beyond_horizon = stage->horizon_ms > 0 && planned->promote_ms > (double)stage->horizon_ms;
}

static uint32_t next_weight(const struct rollout_spec *spec, uint32_t stage)
{
    for (uint32_t i = stage + 1; i < spec->stage_count; i++)
        if (spec->stages[i].kind == ROLLOUT_STAGE_WEIGHT)
            return spec->stages[i].weight;
    return spec->stages[stage].weight;
}

// In the shadow both versions answer each copy, so that of what is mirrored each has all.
static void plan_shadow(const struct rollout_spec *spec, const struct rollout_plan_traffic *traffic,
                        uint32_t i, struct rollout_plan_stage *planned)
{
    const struct rollout_stage *stage = &spec->stages[i];
    double share = (double)stage->shadow.share / ROLLOUT_WEIGHT_FULL;
    double triples = (double)stage->shadow.secondary / ROLLOUT_WEIGHT_FULL;
    struct plan_split split = {.weight = 0.5, .part = 2.0 * share};
    struct rollout_spec judged = *spec;
    judged.throughput.on = false;
    judged.alpha = SHADOW_ALPHA * spec->diff.alpha;
    planned->next = next_weight(spec, i);
    plan_promotion(&judged, traffic, split, planned);
    plan_detection(&judged, traffic, split, planned);
    // The machine wants so many asked three times before it believes anything.
    double compared = larger((double)stage->shadow.compared, 100.0 / triples);
    planned->promote = larger(planned->promote, compared / share);
    planned->found = rollout_shadow_found(spec, planned->promote * share * triples);
}

static void plan_stage(const struct rollout_spec *spec, const struct rollout_plan_traffic *traffic,
                       uint32_t i, struct rollout_plan *plan)
{
    const struct rollout_stage *stage = &spec->stages[i];
    struct rollout_plan_stage *planned = &plan->stages[i];
    planned->weight = stage->weight;
    planned->next = next_weight(spec, i);
    if (stage->kind == ROLLOUT_STAGE_SHADOW) {
        plan_shadow(spec, traffic, i, planned);
    } else if (stage->weight < ROLLOUT_WEIGHT_FULL) {
        struct plan_split split = split_of(spec, stage->weight);
        plan_promotion(spec, traffic, split, planned);
        plan_detection(spec, traffic, split, planned);
    } else {
        planned->detect_errors_ms = (double)INFINITY;
        planned->detect_latency_ms = (double)INFINITY;
    }
    if (stage->weight < ROLLOUT_WEIGHT_FULL && stage->horizon_ms > 0)
        plan->rate_least = larger(plan->rate_least, planned->promote / ((double)stage->horizon_ms / 1000.0));
    plan_times(stage, traffic->requests_per_second, planned);
}

void rollout_plan_make(const struct rollout_spec *spec, const struct rollout_plan_traffic *given,
                       struct rollout_plan *plan)
{
    struct rollout_plan_traffic traffic = {
        .requests_per_second = clamp(given->requests_per_second, 0.0, 1e9),
        .error_rate = clamp(given->error_rate, 0.0, 0.999),
        .error_added = given->error_added > 0.0 ? clamp(given->error_added, 1e-6, 1.0) : 0.01,
        .slowdown = clamp(given->slowdown, 1.0, 1e6),
        .latency_sigma = given->latency_sigma > 0.0 ? clamp(given->latency_sigma, 0.01, 10.0) : 1.0,
    };
    *plan = (struct rollout_plan){.stage_count = spec->stage_count};
    uint32_t weight = 0;
    for (uint32_t i = 0; i < spec->stage_count; i++) {
        const struct rollout_stage *stage = &spec->stages[i];
        plan->stages[i] = (struct rollout_plan_stage){.kind = stage->kind, .weight = weight};
        if (stage->kind == ROLLOUT_STAGE_WEIGHT) {
            weight = stage->weight;
            plan_stage(spec, &traffic, i, plan);
        } else if (stage->kind == ROLLOUT_STAGE_SHADOW) {
            plan_stage(spec, &traffic, i, plan);
        } else if (stage->kind == ROLLOUT_STAGE_SEGMENT) {
            plan->stages[i].promote_ms = (double)stage->min_ms;
        }
        plan->promote_ms += plan->stages[i].promote_ms;
    }
    if (!(traffic.requests_per_second > 0.0))
        plan->promote_ms = 0.0;
}
