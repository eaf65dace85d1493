// SPDX-License-Identifier: Apache-2.0
// Traffic with the noise of real services: processes that stall, bursts of errors in one process or in all,
// drift, a version that is slow while it warms up, balancing that shuns a stalled endpoint, users with
// habits. One tick of 100 ms at a time, as counts of requests whose outcome is known at once and of requests
// that hang till a stall is over. Latency is lognormal, median 5 ms, sigma 0.6.
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/rng.h"
#include "ship/rollout/rollout.h"
#include "stats/histogram.h"

enum { NOISE_ENDPOINTS = 12, NOISE_HELD = 64 };
static const double noise_log_median = 8.517193191416238; // ln 5000 us
static const double noise_sigma = 0.6;

// Something that happens every so often (exponential gaps) and lasts a while (fixed, or lognormal with sigma
// 1).
struct noise_event {
    double every_s, length_s;
    bool lognormal;
};

struct noise_model {
    const char *name;
    double rate;                            // requests per second
    int stable_endpoints, canary_endpoints; // 0: 1
    double errors;
    struct noise_event stall;        // of one process: its requests wait till the end
    struct noise_event shared_stall; // of all at once
    struct noise_event burst;        // of one process: its requests fail
    struct noise_event shared_burst;
    double canary_stalls; // this many times as often; 0: 1
    bool shun;            // a stalled endpoint of stable gets no requests while another is well
    bool drift;           // rate, errors and latency move together over ten minutes
    double warm_s;        // the canary begins at twice the latency
    bool control;         // the baseline is a control arm with as many endpoints as the canary
    // What makes the canary a bad version.
    double canary_errors; // added
    double canary_slow;   // factor; 0: 1
    double canary_tail;   // factor for one request in twenty; 0: 1
    bool dead, hung;
};

struct noise_state {
    double until_s, next_s;
};

struct noise_counts {
    uint32_t routed, failed;
    uint32_t slow[ROLLOUT_EDGES], slow_margin[ROLLOUT_EDGES];
};

// Requests that hang till a stall ends.
struct noise_held {
    uint64_t known_tick;
    int arm;
    struct noise_counts counts;
};

struct noise {
    struct noise_model model;
    struct rng rng;
    struct rollout_yardstick by;
    struct noise_state stalls[ROLLOUT_ARMS][NOISE_ENDPOINTS], bursts[ROLLOUT_ARMS][NOISE_ENDPOINTS];
    struct noise_state shared_stall, shared_burst;
    uint64_t tick;
    double canary_since_s; // below 0: no traffic yet
    struct noise_counts now[ROLLOUT_ARMS];
    uint32_t held_count;
    struct noise_held held[NOISE_HELD]; // begun in this tick
};

// ---- draws ----

static inline double noise_normal(struct rng *rng)
{
    double u = 1.0 - rng_double(rng), v = rng_double(rng);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

// By halving the mean until inversion is quick: exact.
static inline uint32_t noise_poisson(struct rng *rng, double mean)
{
    if (!(mean > 0.0))
        return 0;
    if (mean > 16.0)
        return noise_poisson(rng, 0.5 * mean) + noise_poisson(rng, 0.5 * mean);
    double p = exp(-mean), sum = p, u = rng_double(rng);
    uint32_t n = 0;
    while (u > sum && n < 200) {
        n++;
        p *= mean / n;
        sum += p;
    }
    return n;
}

static inline uint32_t noise_binomial(struct rng *rng, uint32_t n, double p)
{
    if (p >= 1.0)
        return n;
    uint32_t hits = 0;
    double step = p > 0.0 ? log1p(-p) : 0.0;
    for (double at = 0.0; p > 0.0;) { // leaps from hit to hit
        at += 1.0 + floor(log(1.0 - rng_double(rng)) / step);
        if (at > n)
            break;
        hits++;
    }
    return hits;
}

static inline double noise_base_us(struct rng *rng)
{
    return exp(noise_log_median + noise_sigma * noise_normal(rng));
}

static inline double noise_tail(double limit_us, double factor)
{
    return 0.5 * erfc((log(limit_us / factor) - noise_log_median) / noise_sigma / sqrt(2.0));
}

// ---- events ----

static inline void noise_event_seed(struct rng *rng, const struct noise_event *event, double often,
                                    struct noise_state *state)
{
    state->until_s = -1.0;
    state->next_s =
        event->every_s > 0.0 ? -event->every_s / often * log(1.0 - rng_double(rng)) : (double)INFINITY;
}

// Whether it is on at some time within [from, from + 0.1); it lasts until state->until_s.
static inline bool noise_event_on(struct rng *rng, const struct noise_event *event, double often,
                                  double from_s, struct noise_state *state)
{
    if (state->next_s < from_s + 0.1 && state->until_s <= from_s) {
        double length_s = event->lognormal ? event->length_s * exp(noise_normal(rng)) : event->length_s;
        state->until_s = state->next_s + length_s;
        state->next_s = state->until_s - event->every_s / often * log(1.0 - rng_double(rng));
    }
    return state->until_s > from_s;
}

// ---- a tick ----

static inline int noise_endpoints(const struct noise_model *model, int arm)
{
    int n = arm == ROLLOUT_ARM_STABLE ? model->stable_endpoints : model->canary_endpoints;
    return n > 0 ? n : 1;
}

// The edges of an ordinary service of that latency: identical for all runs, as from a long look at it.
static inline void noise_edges(struct rollout_edges *edges)
{
    static const double z[ROLLOUT_EDGES] = {0.0, 1.2815515655446004, 2.3263478740408408, 3.0902323061678132};
    edges->requests = 10000;
    for (int k = 0; k < ROLLOUT_EDGES; k++)
        edges->edge_us[k] = (uint64_t)exp(noise_log_median + noise_sigma * z[k]);
}

static inline void noise_begin(struct noise *noise, const struct noise_model *model, uint64_t seed)
{
    memset(noise, 0, sizeof *noise);
    noise->model = *model;
    noise->canary_since_s = -1.0;
    rng_init(&noise->rng, seed);
    double canary_often = model->canary_stalls > 0.0 ? model->canary_stalls : 1.0;
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        for (int e = 0; e < noise_endpoints(model, arm); e++) {
            noise_event_seed(&noise->rng, &model->stall, arm == ROLLOUT_ARM_CANARY ? canary_often : 1.0,
                             &noise->stalls[arm][e]);
            noise_event_seed(&noise->rng, &model->burst, 1.0, &noise->bursts[arm][e]);
        }
    noise_event_seed(&noise->rng, &model->shared_stall, 1.0, &noise->shared_stall);
    noise_event_seed(&noise->rng, &model->shared_burst, 1.0, &noise->shared_burst);
}

static inline const uint64_t *noise_limits(const struct noise *noise, int arm)
{
    return arm == ROLLOUT_ARM_CANARY ? noise->by.worse_us : noise->by.edges.edge_us;
}

static inline void noise_count_one(const struct noise *noise, int arm, double latency_us,
                                   struct noise_counts *counts)
{
    const uint64_t *limits = noise_limits(noise, arm);
    for (int k = 0; k < ROLLOUT_EDGES; k++) {
        counts->slow[k] += latency_us > (double)limits[k];
        counts->slow_margin[k] += latency_us > (double)noise->by.margin_us[k];
    }
}

// n requests that come evenly within [from, to) and wait till `end`.
static inline void noise_stalled(struct noise *noise, int arm, uint32_t n, double from_s, double to_s,
                                 double end_s, double factor, double errors)
{
    struct noise_held held = {
        .known_tick = (uint64_t)ceil(end_s * 10.0), .arm = arm, .counts = {.routed = n}};
    for (uint32_t i = 0; i < n; i++) {
        double at_s = from_s + (to_s - from_s) * rng_double(&noise->rng);
        noise_count_one(noise, arm, factor * noise_base_us(&noise->rng) + 1e6 * (end_s - at_s), &held.counts);
    }
    held.counts.failed = noise_binomial(&noise->rng, n, errors);
    if (n > 0 && noise->held_count < NOISE_HELD)
        noise->held[noise->held_count++] = held;
}

// Requests without a stall, drawn by how many lie beyond each limit.
static inline void noise_clean(struct noise *noise, int arm, double mean, double factor, double errors)
{
    struct noise_counts *counts = &noise->now[arm];
    const uint64_t *limits = noise_limits(noise, arm);
    uint32_t n = noise_poisson(&noise->rng, mean);
    uint32_t past = n;
    double before = 1.0,
           tail_share = noise->model.canary_tail > 0.0 && arm == ROLLOUT_ARM_CANARY ? 0.05 : 0.0;
    counts->routed += n;
    counts->failed += noise_binomial(&noise->rng, n, errors);
    for (int k = 0; k < ROLLOUT_EDGES; k++) {
        double p = (1.0 - tail_share) * noise_tail((double)limits[k], factor);
        double margin = (1.0 - tail_share) * noise_tail((double)noise->by.margin_us[k], factor);
        if (tail_share > 0.0) {
            p += tail_share * noise_tail((double)limits[k], factor * noise->model.canary_tail);
            margin +=
                tail_share * noise_tail((double)noise->by.margin_us[k], factor * noise->model.canary_tail);
        }
        past = noise_binomial(&noise->rng, past, p / before);
        before = p;
        counts->slow[k] += past;
        // The two limits of the canary are mostly one.
        counts->slow_margin[k] +=
            margin >= p ? past : noise_binomial(&noise->rng, past, p > 0.0 ? margin / p : 0.0);
    }
}

static inline void noise_endpoint(struct noise *noise, int arm, int endpoint, double rate, double factor,
                                  double errors)
{
    const struct noise_model *model = &noise->model;
    double from_s = (double)noise->tick * 0.1;
    double often = arm == ROLLOUT_ARM_CANARY && model->canary_stalls > 0.0 ? model->canary_stalls : 1.0;
    struct noise_state *stall = &noise->stalls[arm][endpoint], *burst = &noise->bursts[arm][endpoint];
    bool failing = noise_event_on(&noise->rng, &model->burst, 1.0, from_s, burst) ||
                   noise->shared_burst.until_s > from_s;
    bool was = stall->until_s > from_s;
    double until_s = noise_event_on(&noise->rng, &model->stall, often, from_s, stall) ? stall->until_s : -1.0;
    until_s = noise->shared_stall.until_s > until_s ? noise->shared_stall.until_s : until_s;
    if (arm == ROLLOUT_ARM_CANARY && model->dead) {
        uint32_t n = noise_poisson(&noise->rng, 0.1 * rate);
        noise->now[arm].routed += n;
        noise->now[arm].failed += n;
        return;
    }
    if (arm == ROLLOUT_ARM_CANARY && model->hung) {
        noise_stalled(noise, arm, noise_poisson(&noise->rng, 0.1 * rate), from_s, from_s + 0.1,
                      from_s + 1000.0, factor, 0.0);
        return;
    }
    double share = failing ? 1.0 : errors;
    if (until_s <= from_s) {
        noise_clean(noise, arm, 0.1 * rate, factor, share);
        return;
    }
    double to_s = until_s < from_s + 0.1 ? until_s : from_s + 0.1;
    bool shunned = model->shun && arm == ROLLOUT_ARM_STABLE && noise_endpoints(model, arm) > 1;
    // What is in flight as a stall begins hangs too, wherever the next requests go.
    if (!was)
        noise_stalled(noise, arm, noise_poisson(&noise->rng, rate * 0.006), from_s, from_s, until_s, factor,
                      share);
    if (!shunned)
        noise_stalled(noise, arm, noise_poisson(&noise->rng, rate * (to_s - from_s)), from_s, to_s, until_s,
                      factor, share);
    noise_clean(noise, arm, rate * (from_s + 0.1 - to_s), factor, share);
}

// Draws one tick: fills now[] and held[].
static inline void noise_tick(struct noise *noise, const double weights[ROLLOUT_ARMS])
{
    const struct noise_model *model = &noise->model;
    double now_s = (double)noise->tick * 0.1, rate = model->rate, errors = model->errors, factor = 1.0;
    memset(noise->now, 0, sizeof noise->now);
    noise->held_count = 0;
    if (model->drift) {
        double wave = 0.5 - 0.5 * cos(6.283185307179586 * now_s / 600.0);
        rate *= 0.5 + wave;
        errors *= 1.0 + 9.0 * wave;
        factor = 1.0 + 0.5 * wave;
    }
    (void)noise_event_on(&noise->rng, &model->shared_stall, 1.0, now_s, &noise->shared_stall);
    (void)noise_event_on(&noise->rng, &model->shared_burst, 1.0, now_s, &noise->shared_burst);
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
        int endpoints = noise_endpoints(model, arm);
        double arm_factor = factor, arm_errors = errors;
        if (weights[arm] > 0.0 && arm == ROLLOUT_ARM_CANARY) {
            noise->canary_since_s = noise->canary_since_s < 0.0 ? now_s : noise->canary_since_s;
            double warm = model->warm_s > 0.0 ? (now_s - noise->canary_since_s) / model->warm_s : 1.0;
            arm_factor *= warm < 1.0 ? 2.0 - warm : 1.0;
            arm_factor *= model->canary_slow > 0.0 ? model->canary_slow : 1.0;
            arm_errors += model->canary_errors;
        }
        for (int e = 0; e < endpoints && weights[arm] > 0.0; e++)
            noise_endpoint(noise, arm, e, rate * weights[arm] / endpoints, arm_factor, arm_errors);
    }
    noise->tick++;
}
