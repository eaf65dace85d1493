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

// Requests until the four averaged latency kernels reject, when every latency of the canary is slowdown times
// the baseline's and latencies are lognormal with the given sigma (1 is usual for services). margin is 1 for
// rollback (H0: R <= 1) and ignored then; see stats_plan_latency_good_requests for promotion. slowdown > 1.
double stats_plan_latency_requests(double weight, double slowdown, double sigma, double alpha);

// Requests until every one of "canary slower than margin·T against baseline slower than T" is shown to be no
// more frequent (H0: R >= null_ratio) on average over the four edges, when the two versions are equally fast.
double stats_plan_latency_good_requests(double weight, double margin, double sigma, double null_ratio,
                                        double alpha);

// Canary requests until the one-sample test shows that its rate is below `negligible`, when it truly is
// canary_rate (0 allowed), divided by weight: total requests. INFINITY when canary_rate >= negligible.
double stats_plan_negligible_requests(double weight, double canary_rate, double negligible, double alpha);
