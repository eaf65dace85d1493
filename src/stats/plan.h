// SPDX-License-Identifier: Apache-2.0
// How many events and requests a decision needs, before anything starts: Wald's approximation
// E[events] ~ (ln(1/alpha) + 1) / KL(theta1 || theta0), theta = wR / (wR + 1 - w); the "+ 1" pays for the
// mixture. Against simulation of the kernel the figures stay within a factor of 1.5 for decisions of 20
// events and more (tested); very fast decisions (a handful of events) take up to 2.5 times the plan, because
// events come whole. "Requests" are totals of both arms. INFINITY: never decided.
#pragma once

// Expected events until the kernel with null_ratio rejects, when the true ratio is true_ratio. For rollback
// true_ratio > null_ratio (side ABOVE) or, for throughput, < (side BELOW); for "good enough" true_ratio = 1
// and null_ratio = R1. Returns INFINITY if both are equal or weight is not inside (0, 1). Which side is meant
// follows from which of the two is larger. 0 < alpha < 1 (CHECK).
double stats_plan_ratio_events(double weight, double true_ratio, double null_ratio, double alpha);

// The same in requests; base_rate is the baseline's events per request (0..1, 1 for completions per request).
// The canary's rate is base_rate·true_ratio, at most 1.
double stats_plan_ratio_requests(double weight, double base_rate, double true_ratio, double null_ratio,
                                 double alpha);

// Share of latencies beyond the frozen edge (0..3: p50, p90, p99, p99.9) when all are `slowdown` times as
// long and lognormal with the given sigma (1 is usual for services).
double stats_plan_latency_share(int edge, double slowdown, double sigma);

// Canary requests until the one-sample test shows that its rate is below `negligible`, when it truly is
// canary_rate (0 allowed), divided by weight: total requests. INFINITY when canary_rate >= negligible.
double stats_plan_negligible_requests(double weight, double canary_rate, double negligible, double alpha);

// Canary requests until stats_harm_log_e shows "canary rate < baseline rate + allowed" at 1 - beta, when the
// canary's true rate is canary_rate and the baseline's is known to within 15 %. INFINITY when it is not below
// that at all; 0 < beta < 1 (CHECK).
double stats_plan_harm_requests(double baseline_rate, double canary_rate, double allowed, double beta);

// Seconds until votes (stats/vote.h) reject at alpha, when each second holds so many judged requests of both
// arms. Approximated by a second's mean and spread. INFINITY when the canary is not worse than the rule says.
struct stats_vote_rule;
double stats_plan_vote_seconds(const struct stats_vote_rule *rule, double canary_per_s, double baseline_per_s,
                               double baseline_rate, double canary_rate, double alpha);
