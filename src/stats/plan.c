// SPDX-License-Identifier: Apache-2.0
// Expected sample sizes by Wald's approximation. Shown to people before a rollout; no verdict depends on
// them.
#include "stats/plan.h"

#include <math.h>

#include "base/check.h"
#include "stats/real.h"

// The standard normal's quantiles at the four frozen latency edges p50, p90, p99, p99.9.
static const double PLAN_EDGE_Z[] = {0.0, 1.2815515655446004, 2.3263478740408408, 3.0902323061678132};
static const double PLAN_EDGE_TAIL[] = {0.5, 0.1, 0.01, 0.001};

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

// Smallest plan over the four edges when the canary's tails are those of a lognormal shifted by log_shift;
// the mean of four kernels reaches 1/alpha at the latest when one of them reaches 4/alpha.
static double plan_latency(double weight, double log_shift, double sigma, double null_ratio, double alpha)
{
    CHECK(sigma > 0.0);
    double best = (double)INFINITY;
    for (int i = 0; i < 4; i++) {
        double tail = plan_normal_tail(PLAN_EDGE_Z[i] - log_shift / sigma);
        double ratio = tail / PLAN_EDGE_TAIL[i];
        double requests =
            stats_plan_ratio_requests(weight, PLAN_EDGE_TAIL[i], ratio, null_ratio, alpha / 4.0);
        best = requests < best ? requests : best;
    }
    return best;
}

double stats_plan_latency_requests(double weight, double slowdown, double sigma, double alpha)
{
    if (!(slowdown > 1.0))
        return (double)INFINITY;
    return plan_latency(weight, stats_ln(slowdown), sigma, 1.0, alpha);
}

double stats_plan_latency_good_requests(double weight, double margin, double sigma, double null_ratio,
                                        double alpha)
{
    if (!(margin >= 1.0))
        return (double)INFINITY;
    return plan_latency(weight, -stats_ln(margin), sigma, null_ratio, alpha);
}

double stats_plan_negligible_requests(double weight, double canary_rate, double negligible, double alpha)
{
    if (!(weight > 0.0) || !(canary_rate >= 0.0 && canary_rate < negligible && negligible < 1.0))
        return (double)INFINITY;
    return plan_observations(canary_rate, negligible, alpha) / weight;
}
