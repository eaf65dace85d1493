// SPDX-License-Identifier: Apache-2.0
// The plan printed before a rollout: stats/plan.h asked once per stage and check.
#include "ship/rollout/plan.h"

#include <math.h>

#include "stats/plan.h"

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

static void plan_promotion(const struct rollout_spec *spec, const struct rollout_plan_traffic *traffic,
                           struct plan_split split, struct rollout_plan_stage *stage)
{
    double w = split.weight;
    if (spec->errors.on) {
        double margin = spec->errors.margin > 0.0     ? spec->errors.margin
                        : traffic->error_rate < 0.005 ? 1.5
                                                      : 1.25;
        double beta = spec->errors.negligible > 0.0 ? spec->beta / 2.0 : spec->beta;
        double by_ratio = stats_plan_ratio_requests(w, traffic->error_rate, 1.0, margin, beta);
        double by_rate =
            stats_plan_negligible_requests(w, traffic->error_rate, spec->errors.negligible, beta);
        stage->promote_errors = smaller(by_ratio, by_rate) / split.part;
    }
    if (spec->latency.on)
        stage->promote_latency = stats_plan_latency_good_requests(w, spec->latency.margin,
                                                                  traffic->latency_sigma, 1.0, spec->beta) /
                                 split.part;
    if (spec->throughput.on)
        stage->promote_throughput = stats_plan_ratio_requests(w, 1.0 - traffic->error_rate, 1.0,
                                                              1.0 / spec->throughput.margin, spec->beta) /
                                    split.part;
    stage->promote = larger(stage->promote_errors, larger(stage->promote_latency, stage->promote_throughput));
}

// A check decides alone when its E reaches the whole's bound over its share of the mixture.
static void plan_detection(const struct rollout_spec *spec, const struct rollout_plan_traffic *traffic,
                           struct plan_split split, struct rollout_plan_stage *stage)
{
    double shares = (spec->errors.on ? spec->errors.share : 0.0) +
                    (spec->latency.on ? spec->latency.share : 0.0) +
                    (spec->throughput.on ? spec->throughput.share : 0.0);
    if (spec->errors.on)
        stage->detect_errors =
            stats_plan_ratio_requests(split.weight, traffic->error_rate, traffic->error_factor,
                                      spec->errors.worse, spec->alpha * spec->errors.share / shares) /
            split.part;
    if (spec->latency.on)
        stage->detect_latency =
            stats_plan_latency_requests(split.weight, traffic->slowdown, traffic->latency_sigma,
                                        spec->alpha * spec->latency.share / shares) /
            split.part;
}

static void plan_times(const struct rollout_stage *stage, double requests_per_second,
                       struct rollout_plan_stage *planned)
{
    double per_ms = requests_per_second / 1000.0;
    if (stage->weight == ROLLOUT_WEIGHT_FULL) {
        planned->promote_ms = larger((double)stage->min_ms, (double)stage->soak_ms);
        return;
    }
    if (!(per_ms > 0.0))
        return;
    planned->promote_ms = larger((double)stage->min_ms, planned->promote / per_ms);
    planned->detect_errors_ms = planned->detect_errors / per_ms;
    planned->detect_latency_ms = planned->detect_latency / per_ms;
    planned->beyond_horizon = stage->horizon_ms > 0 && planned->promote_ms > (double)stage->horizon_ms;
}

void rollout_plan_make(const struct rollout_spec *spec, const struct rollout_plan_traffic *given,
                       struct rollout_plan *plan)
{
    struct rollout_plan_traffic traffic = {
        .requests_per_second = clamp(given->requests_per_second, 0.0, 1e9),
        .error_rate = clamp(given->error_rate, 0.0, 0.999),
        .error_factor = clamp(given->error_factor, 1.0, 1e6),
        .slowdown = clamp(given->slowdown, 1.0, 1e6),
        .latency_sigma = given->latency_sigma > 0.0 ? clamp(given->latency_sigma, 0.01, 10.0) : 1.0,
    };
    *plan = (struct rollout_plan){.stage_count = spec->stage_count};
    uint32_t weight = 0;
    bool known = traffic.requests_per_second > 0.0;
    for (uint32_t i = 0; i < spec->stage_count; i++) {
        const struct rollout_stage *stage = &spec->stages[i];
        struct rollout_plan_stage *planned = &plan->stages[i];
        *planned = (struct rollout_plan_stage){.kind = stage->kind, .weight = weight};
        if (stage->kind == ROLLOUT_STAGE_APPROVE)
            continue;
        if (stage->kind == ROLLOUT_STAGE_SEGMENT) {
            planned->promote_ms = (double)stage->min_ms;
            plan->promote_ms += planned->promote_ms;
            continue;
        }
        weight = stage->weight;
        planned->weight = weight;
        if (weight < ROLLOUT_WEIGHT_FULL) {
            struct plan_split split = split_of(spec, weight);
            plan_promotion(spec, &traffic, split, planned);
            plan_detection(spec, &traffic, split, planned);
        } else {
            planned->detect_errors = (double)INFINITY;
            planned->detect_latency = (double)INFINITY;
        }
        plan_times(stage, traffic.requests_per_second, planned);
        plan->promote_ms += planned->promote_ms;
    }
    if (!known)
        plan->promote_ms = 0.0;
}
