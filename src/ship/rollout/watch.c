// SPDX-License-Identifier: Apache-2.0
// The watch at 100 %: e-CUSUMs of the canary's rates against the baseline's, frozen when it last had traffic.
//
// A CUSUM starts again at each step, so the threshold 1/alpha would bound only its average run length and a
// soak of an hour (36 000 steps) would be sure to alarm. M_t is at most the Shiryaev-Roberts sum, whose mean
// under the null is at most t, so the threshold N/alpha bounds a false alarm within N steps by alpha.
#include "base/check.h"
#include "ship/rollout/rollout_private.h"
#include "stats/real.h"

enum { WATCH_BISECTIONS = 50 };

// Of alpha, the watch of the soak takes a tenth (half of it for the frozen rates): the whole rollout, shift
// and soak together, stays within 1.1 alpha, and the price is a threshold higher by ln 10.
#define WATCH_ALPHA_PART 0.1
#define WATCH_SECONDS_BAD 0.2    // the null: at most this share of seconds is bad
#define WATCH_SECOND_CHANCE 0.05 // a second is bad when chance explains it less often than this
#define WATCH_RATE_MIN 1e-6
#define WATCH_RATE_MAX 0.9

// Chernoff: of n trials with rate p, P(rate seen <= q) <= e^(-n·KL(q || p)) for q < p.
double watch_rate_upper(uint64_t events, uint64_t trials, double delta)
{
    if (trials == 0 || events >= trials)
        return 1.0;
    double seen = (double)events / (double)trials;
    double budget = -stats_ln(delta) / (double)trials;
    double low = seen;
    double high = 1.0 - 1e-12;
    for (int i = 0; i < WATCH_BISECTIONS; i++) {
        double p = 0.5 * (low + high);
        double divergence = (1.0 - seen) * stats_ln((1.0 - seen) / (1.0 - p));
        if (events > 0)
            divergence += seen * stats_ln(seen / p);
        if (divergence < budget)
            low = p;
        else
            high = p;
    }
    return high;
}

static double alpha_of_watch(const struct rollout *rollout)
{
    return rollout->spec.alpha * WATCH_ALPHA_PART / 2.0;
}

// A pending baseline request counts as an event: a frozen rate that is too high only makes the watch milder.
static double frozen_rate(const struct rollout *rollout, int kernel, double delta)
{
    static const double tails[ROLLOUT_EDGES] = {0.5, 0.1, 0.01, 0.001};
    int arm = evidence_baseline_arm(rollout);
    const struct rollout_sums *before = &rollout->before.all[arm];
    const struct rollout_sums *shared = &rollout->shared.all[arm];
    const struct rollout_sums *judged = &rollout->shared.judged[arm];
    uint64_t routed = before->routed + shared->routed;
    uint64_t pending = evidence_pending(before) + evidence_pending(shared);
    if (kernel == KERNEL_ERRORS)
        return rollout->errors_margin *
               watch_rate_upper(before->error_events + shared->error_events + pending, routed, delta);
    if (kernel == KERNEL_THROUGHPUT) {
        uint64_t good = before->good + shared->good;
        return watch_rate_upper(routed > good ? routed - good : 0, routed, delta);
    }
    int k = kernel - KERNEL_LATENCY;
    if (judged->routed >= ROLLOUT_RATE_TRIALS_MIN)
        return watch_rate_upper(judged->slow[k] + evidence_pending(judged), judged->routed, delta);
    // No concurrent baseline: the edges themselves say which share of their sample lay above them.
    if (rollout->edges.requests == 0)
        return 1.0;
    return watch_rate_upper((uint64_t)(tails[k] * (double)rollout->edges.requests), rollout->edges.requests,
                            delta);
}

static void set_threshold(struct rollout *rollout)
{
    struct rollout_watch *watch = &rollout->watch;
    double alpha = alpha_of_watch(rollout);
    // A soak that was paused lasts longer than planned: each doubling of the steps gets half of what the last
    // had.
    for (uint32_t i = 0; i < watch->extensions; i++)
        alpha *= 0.5;
    watch->threshold = stats_ecusum_threshold(watch->steps_max, alpha);
}

void watch_start(struct rollout *rollout)
{
    struct rollout_watch *watch = &rollout->watch;
    const struct rollout_stage *stage = &rollout->spec.stages[rollout->stage];
    *watch = (struct rollout_watch){.on = true};
    uint64_t soak_ms = stage->soak_ms > stage->min_ms ? stage->soak_ms : stage->min_ms;
    watch->steps_max = soak_ms / ROLLOUT_TICK_MS + 1;
    set_threshold(rollout);
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        enum rollout_check_kind check = kernel == KERNEL_ERRORS       ? CHECK_ERRORS
                                        : kernel == KERNEL_THROUGHPUT ? CHECK_THROUGHPUT
                                                                      : CHECK_LATENCY;
        if (!judge_check_on(rollout, check))
            continue;
        double rate = frozen_rate(rollout, kernel, alpha_of_watch(rollout) / KERNELS);
        rate = rate > WATCH_RATE_MIN ? rate : WATCH_RATE_MIN;
        watch->rate[kernel] = rate;
        watch->kernel_on[kernel] = rate <= WATCH_RATE_MAX;
        if (watch->kernel_on[kernel] && kernel == KERNEL_ERRORS)
            stats_bernoulli_grid_init(&watch->errors_grid, STATS_BERNOULLI_ABOVE, rate);
    }
    stats_bernoulli_grid_init(&watch->seconds_grid, STATS_BERNOULLI_ABOVE, WATCH_SECONDS_BAD);
}

// Chernoff again: n trials at rate p show q > p or more with probability at most e^(-n·KL(q || p)).
static bool second_is_bad(uint64_t trials, uint64_t events, double rate)
{
    double n = (double)trials;
    double seen = events < trials ? (double)events / n : 1.0;
    if (seen <= rate)
        return false;
    double divergence = seen * stats_ln(seen / rate);
    if (seen < 1.0)
        divergence += (1.0 - seen) * stats_ln((1.0 - seen) / (1.0 - rate));
    return n * divergence >= -stats_ln(WATCH_SECOND_CHANCE);
}

// The second is over: one trial for each kernel that is judged by seconds.
static void second_end(const struct rollout_watch *watch, struct rollout_watch_track *track)
{
    if (track->trials == 0)
        return;
    track->seconds++;
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        if (!watch->kernel_on[kernel] || kernel == KERNEL_ERRORS)
            continue;
        bool bad = second_is_bad(track->trials, track->events[kernel], watch->rate[kernel]);
        track->seconds_bad[kernel] += bad;
        stats_ecusum_add(&watch->seconds_grid, &track->ecusum[kernel], 1, bad);
    }
    track->trials = 0;
    for (int kernel = 0; kernel < KERNELS; kernel++)
        track->events[kernel] = 0;
}

// A request without an outcome is no event as long as its time lasts, and one afterwards.
static void watch_step(const struct rollout_watch *watch, const struct rollout_span *span,
                       enum rollout_imputing imputing, struct rollout_watch_track *track)
{
    const struct rollout_sums *canary = &span->arms[ROLLOUT_ARM_CANARY];
    uint64_t pending = evidence_pending(canary);
    uint64_t late = imputing == IMPUTE_TIMED_OUT ? pending : 0;
    uint64_t second = span->tick / (1000 / ROLLOUT_TICK_MS);
    if (watch->kernel_on[KERNEL_ERRORS])
        stats_ecusum_add(&watch->errors_grid, &track->ecusum[KERNEL_ERRORS], canary->routed,
                         canary->error_events + late);
    if (second != track->second)
        second_end(watch, track);
    track->second = second;
    if (span->warm)
        return;
    track->trials += canary->routed;
    for (int k = 0; k < ROLLOUT_EDGES; k++)
        track->events[KERNEL_LATENCY + k] += canary->slow_margin[k] + late;
    uint64_t not_bad = canary->good + pending;
    track->events[KERNEL_THROUGHPUT] += (canary->routed > not_bad ? canary->routed - not_bad : 0) + late;
}

static bool span_watched(const struct rollout_span *span)
{
    return span->weight == ROLLOUT_WEIGHT_FULL && span->arms[ROLLOUT_ARM_CANARY].routed > 0;
}

void watch_close(struct rollout *rollout, const struct rollout_span *span, enum rollout_imputing imputing)
{
    struct rollout_watch *watch = &rollout->watch;
    if (!watch->on || !span_watched(span))
        return;
    watch_step(watch, span, imputing, &watch->closed);
    watch->steps++;
    if (watch->steps < watch->steps_max)
        return;
    watch->steps_max *= 2;
    watch->extensions++;
    set_threshold(rollout);
}

static void watch_look(struct rollout *rollout, const struct rollout_watch_track *track)
{
    double log_m[KERNELS] = {0.0};
    double checks[CHECKS];
    double shares[CHECKS];
    for (int kernel = 0; kernel < KERNELS; kernel++)
        log_m[kernel] = stats_ecusum_log_m(&track->ecusum[kernel]);
    checks[CHECK_ERRORS] = log_m[KERNEL_ERRORS];
    checks[CHECK_LATENCY] = stats_log_mean_exp(log_m + KERNEL_LATENCY, ROLLOUT_EDGES);
    checks[CHECK_THROUGHPUT] = log_m[KERNEL_THROUGHPUT];
    for (int check = 0; check < CHECKS; check++)
        shares[check] = judge_share(rollout, (enum rollout_check_kind)check);
    double mixture = stats_log_weighted_mean_exp(checks, shares, CHECKS);
    struct rollout_judgement *judgement = &rollout->judgement;
    if (!(mixture > judgement->log_watch))
        return;
    judgement->log_watch = mixture;
    for (int kernel = 0; kernel < KERNELS; kernel++)
        judgement->log_watch_kernel[kernel] = log_m[kernel];
}

bool watch_evaluate(struct rollout *rollout)
{
    struct rollout_watch *watch = &rollout->watch;
    if (!watch->on)
        return false;
    rollout->judgement.log_watch = -1e300;
    struct rollout_watch_track track = watch->closed;
    uint64_t lags[ROLLOUT_PREFIXES_MAX];
    uint32_t prefixes = judge_lags(rollout, lags);
    uint32_t at = 0;
    for (uint32_t i = 0; i < rollout->span_count && at < prefixes; i++) {
        const struct rollout_span *span = evidence_span(rollout, i);
        for (; at < prefixes && rollout->tick - span->tick < lags[at]; at++)
            watch_look(rollout, &track);
        if (at < prefixes && span_watched(span))
            watch_step(watch, span, IMPUTE_OPEN, &track);
    }
    if (at < prefixes)
        watch_look(rollout, &track);
    return rollout->judgement.log_watch >= watch->threshold;
}
