// SPDX-License-Identifier: Apache-2.0
// Expected sample sizes by Wald's approximation. Shown to people before a rollout; no verdict depends on
// them.
#include "stats/plan.h"

#include <math.h>

#include "base/check.h"
#include "stats/real.h"
#include "stats/vote.h"

// The standard normal's quantiles at the four frozen latency edges p50, p90, p99, p99.9.
static const double PLAN_EDGE_Z[] = {0.0, 1.2815515655446004, 2.3263478740408408, 3.0902323061678132};

// KL divergence of Bernoulli(p) from Bernoulli(q), 0 <= p <= 1, 0 < q < 1.
static double plan_divergence(double p, double q)
{
    double divergence = 0.0;
    if (p > 0.0)
        divergence += p * stats_ln(p / q);
    if (p < 1.0)
        divergence += (1.0 - p) * stats_ln((1.0 - p) / (1.0 - q));
    return divergence;
}

static double plan_observations(double p, double q, double alpha)
{
    CHECK(alpha > 0.0 && alpha < 1.0);
    double divergence = plan_divergence(p, q);
    if (!(divergence > 1e-15))
        return (double)INFINITY;
    return (1.0 - stats_ln(alpha)) / divergence;
}

static double plan_share(double weight, double ratio)
{
    return weight * ratio / (weight * ratio + 1.0 - weight);
}

double stats_plan_ratio_events(double weight, double true_ratio, double null_ratio, double alpha)
{
    if (!(weight > 0.0 && weight < 1.0) || !(true_ratio >= 0.0) || !(null_ratio > 0.0))
        return (double)INFINITY;
    return plan_observations(plan_share(weight, true_ratio), plan_share(weight, null_ratio), alpha);
}

double stats_plan_ratio_requests(double weight, double base_rate, double true_ratio, double null_ratio,
                                 double alpha)
{
    if (!(base_rate > 0.0))
        return (double)INFINITY;
    double canary_rate = base_rate * true_ratio;
    canary_rate = canary_rate > 1.0 ? 1.0 : canary_rate;
    double events = stats_plan_ratio_events(weight, canary_rate / base_rate, null_ratio, alpha);
    return events / (weight * canary_rate + (1.0 - weight) * base_rate);
}

static double plan_normal_tail(double z)
{
    return 0.5 * erfc(z * 0.70710678118654752440);
}

double stats_plan_latency_share(int edge, double slowdown, double sigma)
{
    CHECK(edge >= 0 && edge < 4 && slowdown > 0.0 && sigma > 0.0);
    return plan_normal_tail(PLAN_EDGE_Z[edge] - stats_ln(slowdown) / sigma);
}

double stats_plan_negligible_requests(double weight, double canary_rate, double negligible, double alpha)
{
    if (!(weight > 0.0) || !(canary_rate >= 0.0 && canary_rate < negligible && negligible < 1.0))
        return (double)INFINITY;
    return plan_observations(canary_rate, negligible, alpha) / weight;
}

double stats_plan_harm_requests(double baseline_rate, double canary_rate, double allowed, double beta)
{
    double null_rate = 0.85 * baseline_rate + allowed;
    if (!(allowed > 0.0) || !(canary_rate >= 0.0 && canary_rate < null_rate))
        return (double)INFINITY;
    if (null_rate >= 1.0)
        return 0.0;
    return plan_observations(canary_rate, null_rate, 0.5 * beta);
}

double stats_plan_vote_seconds(const struct stats_vote_rule *rule, double canary_per_s, double baseline_per_s,
                               double baseline_rate, double canary_rate, double alpha)
{
    CHECK(alpha > 0.0 && alpha < 1.0);
    if (!(canary_per_s > 0.0) || !(baseline_per_s > 0.0))
        return (double)INFINITY;
    // A second without a canary request has no vote.
    double voting = canary_per_s < 1.0 ? canary_per_s : 1.0;
    double routed = canary_per_s < 1.0 ? 1.0 : canary_per_s;
    double q = routed / baseline_per_s;
    double mean = routed * (canary_rate - rule->worse * baseline_rate - rule->floor);
    double variance = routed * (canary_rate * (1.0 - canary_rate) +
                                rule->worse * rule->worse * q * baseline_rate * (1.0 - baseline_rate));
    double scale =
        2.0 * sqrt(baseline_rate * (1.0 - baseline_rate) * routed * (1.0 + rule->worse * rule->worse * q));
    scale = fmax(fmax(1.0, q), scale);
    double best = 0.0;
    static const double bets[] = {0.06, 0.2, 0.5, 0.9};
    // Three points with the mean and the spread of a second, each clipped as a vote is.
    double spread = sqrt(1.5 * variance);
    for (size_t i = 0; i < ARRAY_LEN(bets) && mean > 0.0; i++) {
        double growth = 0.0;
        for (int point = -1; point <= 1; point++) {
            double z = fmax(-1.0, fmin(fmin(1.0, 1.0 / q), (mean + point * spread) / scale));
            growth += stats_ln(1.0 + bets[i] * z) / 3.0;
        }
        best = fmax(best, growth);
    }
    if (!(best > 0.0))
        return (double)INFINITY;
    return (stats_ln(4.0 / alpha)) / best / voting;
}
