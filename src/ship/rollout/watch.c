// SPDX-License-Identifier: Apache-2.0
// The watch at 100 %: e-CUSUMs of the canary's rates against the baseline's, frozen when it last had traffic.
//
// A CUSUM starts again at each step, so the threshold 1/alpha would bound only its average run length and a
// soak of an hour (3 600 seconds) would be sure to alarm. M_t is at most the Shiryaev-Roberts sum, whose mean
// under the null is at most t, so the threshold N/alpha bounds a false alarm within N steps by alpha.
#include <string.h>

#include "base/check.h"
#include "ship/rollout/rollout_private.h"
#include "stats/real.h"

enum { WATCH_BISECTIONS = 50 };

// Of alpha, the watch of the soak takes a tenth (half of it for the frozen rates); the price is a threshold
// higher by ln 10.
#define WATCH_ALPHA_PART 0.1
#define WATCH_SECONDS_BAD 0.2    // the null: at most this share of seconds is bad
#define WATCH_SECOND_CHANCE 0.05 // a second is bad when chance explains it less often than this
#define WATCH_RATE_MIN 1e-6
#define WATCH_RATE_MAX 0.9
#define WATCH_RATE_UNKNOWN 0.05 // errors that no service is content with, where nobody saw the old version

// Chernoff: of n trials with rate p, P(rate seen <= q) <= e^(-n·KL(q || p)) for q < p.
static double rate_upper(uint64_t events, uint64_t trials, double delta)
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
    uint64_t judged_all = evidence_judged(before) + evidence_judged(shared);
    uint64_t pending = evidence_pending(before) + evidence_pending(shared);
    const struct rollout_spec *spec = &rollout->spec;
    switch (kernel) {
    case KERNEL_ERRORS:
        if (judged_all == 0)
            return WATCH_RATE_UNKNOWN;
        return spec->errors.worse *
                   rate_upper(before->error_events + shared->error_events + pending, judged_all, delta) +
               spec->errors.floor;
    case KERNEL_THROUGHPUT: {
        uint64_t good = before->good + shared->good;
        return rate_upper(judged_all > good ? judged_all - good : 0, judged_all, delta);
    }
    case KERNEL_REDIRECTS:
    case KERNEL_CLIENT_ERRORS: {
        uint64_t seen = evidence_events(before, kernel) + evidence_events(shared, kernel);
        return spec->statuses.worse * rate_upper(seen, judged_all, delta) + spec->statuses.floor;
    }
    default:
        break;
    }
    int k = kernel - KERNEL_LATENCY;
    uint64_t trials = evidence_judged(judged);
    if (trials >= ROLLOUT_RATE_TRIALS_MIN)
        return rate_upper(judged->slow[k] + evidence_pending(judged), trials, delta);
    // No concurrent baseline: the edges themselves say which share of their sample lay above them.
    if (rollout->yardstick.edges.requests == 0)
        return 1.0;
    return rate_upper((uint64_t)(tails[k] * (double)rollout->yardstick.edges.requests),
                      rollout->yardstick.edges.requests, delta);
}

static void set_threshold(struct rollout *rollout)
{
    struct rollout_watch *watch = &rollout->watch;
    double alpha = alpha_of_watch(rollout);
    // A soak that was paused lasts longer than planned: each doubling of the seconds gets half of what the
    // last had.
    for (uint32_t i = 0; i < watch->extensions; i++)
        alpha *= 0.5;
    watch->threshold = stats_ecusum_threshold(watch->seconds_max, alpha);
}

void watch_start(struct rollout *rollout)
{
    struct rollout_watch *watch = &rollout->watch;
    const struct rollout_stage *stage = &rollout->spec.stages[rollout->stage];
    *watch = (struct rollout_watch){.on = true};
    watch->seconds_max = stage->soak_ms / 1000 + 1;
    set_threshold(rollout);
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        if (!judge_check_on(rollout, votes_check_of(kernel)))
            continue;
        double rate = frozen_rate(rollout, kernel, alpha_of_watch(rollout) / KERNELS);
        rate = rate > WATCH_RATE_MIN ? rate : WATCH_RATE_MIN;
        watch->rate[kernel] = rate;
        watch->kernel_on[kernel] = rate <= WATCH_RATE_MAX;
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

static bool is_cold_kernel(int kernel)
{
    enum rollout_check_kind check = votes_check_of(kernel);
    return check == CHECK_LATENCY || check == CHECK_THROUGHPUT;
}

// The second is over: one trial for each kernel.
static void second_end(const struct rollout_watch *watch, struct rollout_watch_track *track)
{
    if (track->trials == 0)
        return;
    track->seconds++;
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        uint64_t trials = is_cold_kernel(kernel) ? track->trials_cool : track->trials;
        if (!watch->kernel_on[kernel] || trials == 0)
            continue;
        bool bad = second_is_bad(trials, track->events[kernel], watch->rate[kernel]);
        track->seconds_bad[kernel] += bad;
        stats_ecusum_add(&watch->seconds_grid, &track->ecusum[kernel], 1, bad);
    }
    track->trials = track->trials_cool = 0;
    memset(track->events, 0, sizeof track->events);
}

// A request without an outcome is no event as long as its time lasts, and one afterwards.
static void watch_step(const struct rollout *rollout, const struct rollout_span *span,
                       enum rollout_imputing imputing, struct rollout_watch_track *track)
{
    const struct rollout_watch *watch = &rollout->watch;
    uint64_t second = span->tick / ROLLOUT_SECOND_TICKS;
    if (second != track->second)
        second_end(watch, track);
    track->second = second;
    struct rollout_facts facts;
    evidence_facts(rollout, span, imputing, &facts);
    const struct rollout_sums *canary = &span->arms[ROLLOUT_ARM_CANARY];
    uint64_t judged = evidence_judged(canary);
    track->trials += judged;
    track->trials_cool += span->warm ? 0 : judged;
    for (int kernel = 0; kernel < KERNELS; kernel++)
        track->events[kernel] += facts.bad.canary[kernel];
}

static bool span_watched(const struct rollout_span *span)
{
    return span->weight == ROLLOUT_WEIGHT_FULL && evidence_judged(&span->arms[ROLLOUT_ARM_CANARY]) > 0;
}

void watch_close(struct rollout *rollout, const struct rollout_span *span, enum rollout_imputing imputing)
{
    struct rollout_watch *watch = &rollout->watch;
    if (!watch->on || !span_watched(span))
        return;
    watch_step(rollout, span, imputing, &watch->closed);
    if (watch->closed.seconds < watch->seconds_max)
        return;
    watch->seconds_max *= 2;
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
    checks[CHECK_STATUSES] = stats_log_mean_exp(log_m + KERNEL_REDIRECTS, 2);
    if (!(judge_shares(rollout, shares) > 0.0))
        return;
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
            watch_step(rollout, span, IMPUTE_OPEN, &track);
    }
    if (at < prefixes)
        watch_look(rollout, &track);
    return rollout->judgement.log_watch >= watch->threshold;
}

// ---- the outage trigger ----

// An operator's rule, no test: most of what the new version was asked failed, in every one of the last
// seconds, while the baseline was well. It is faster than any evidence of which a second is one vote can be.
enum {
    ALARM_SECONDS = 3,
    ALARM_FAILED_MIN = 10,
    ALARM_GAP_S = 2,
    ALARM_SHARED_PART = 5, // a fifth of the baseline's failed too: it is what both stand on
};

static bool alarm_fires(const struct rollout_alarm *alarm)
{
    return alarm->seconds >= ALARM_SECONDS && alarm->row_failed >= ALARM_FAILED_MIN;
}

static void alarm_second_end(const struct rollout *rollout, struct rollout_alarm *alarm)
{
    bool failed = (double)alarm->failed > rollout->spec.outage * (double)alarm->judged;
    bool shared = !alarm->full && ALARM_SHARED_PART * alarm->others_failed >= alarm->others_judged;
    // Without requests of the baseline nobody knows whether it is well: such a second is none.
    if (alarm->judged == 0 || (!alarm->full && alarm->others_judged == 0) || alarm_fires(alarm))
        return;
    alarm->seconds = failed && !shared ? alarm->seconds + 1 : 0;
    alarm->row_judged = alarm->seconds > 0 ? alarm->row_judged + alarm->judged : 0;
    alarm->row_failed = alarm->seconds > 0 ? alarm->row_failed + alarm->failed : 0;
}

static void alarm_add(const struct rollout *rollout, const struct rollout_span *span,
                      struct rollout_alarm *alarm)
{
    if (span->weight == 0)
        return;
    uint64_t second = span->tick / ROLLOUT_SECOND_TICKS;
    if (second != alarm->second) {
        alarm_second_end(rollout, alarm);
        if (second > alarm->second + ALARM_GAP_S && !alarm_fires(alarm))
            alarm->seconds = 0;
        alarm->second = second;
        alarm->judged = alarm->failed = alarm->others_judged = alarm->others_failed = 0;
    }
    const struct rollout_sums *canary = &span->arms[ROLLOUT_ARM_CANARY];
    const struct rollout_sums *others = &span->arms[evidence_baseline_arm(rollout)];
    alarm->full = span->weight == ROLLOUT_WEIGHT_FULL;
    alarm->judged += evidence_judged(canary);
    alarm->failed += canary->failed; // a user once a second, not once for all
    alarm->others_judged += evidence_judged(others);
    alarm->others_failed += others->failed;
}

void watch_outage_close(struct rollout *rollout, const struct rollout_span *span)
{
    alarm_add(rollout, span, &rollout->alarm);
}

bool watch_outage(struct rollout *rollout)
{
    if (!(rollout->spec.outage > 0.0) || !rollout->spec.errors.on)
        return false;
    struct rollout_alarm alarm = rollout->alarm;
    for (uint32_t i = 0; i < rollout->span_count; i++)
        alarm_add(rollout, evidence_span(rollout, i), &alarm);
    if ((alarm.second + 1) * ROLLOUT_SECOND_TICKS <= rollout->tick)
        alarm_second_end(rollout, &alarm);
    rollout->judgement.outage = alarm;
    return alarm_fires(&alarm);
}
