// SPDX-License-Identifier: Apache-2.0
// Monte Carlo of the decision kernel against its reference figures: mean total requests to a rollback, false
// alarms under continuous looking, and the traps of weights and clusters. Deterministic given --seed; --short
// takes a tenth of the replications. Prints Markdown; exits 1 when a figure is out. Stopping is checked after
// every event by a product-form copy of the kernel; at every stop stats_ratio_log_e must agree with it, or
// the run ends.
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/rng.h"
#include "stats/plan.h"
#include "stats/ratio.h"
#include "stats/real.h"

enum { EVENTS_MAX = 2000000, EDGES = 4 };

static const double EDGE_TAIL[EDGES] = {0.5, 0.1, 0.01, 0.001};
static const double EDGE_Z[EDGES] = {0.0, 1.2815515655446004, 2.3263478740408408, 3.0902323061678132};

struct bench {
    uint64_t seed;
    uint32_t divisor; // of the replications: 1 in full, 10 in short runs
    uint32_t rows;
    uint32_t out;
};

struct estimate {
    double mean;
    double standard_error;
    double planned; // what stats_plan says; 0 if it does not apply
};

// ---- the kernel in product form ----

struct product {
    struct stats_ratio_grid grid;
    struct stats_ratio_terms terms;
    double on_canary[STATS_RATIO_ALTERNATIVES];
    double on_baseline[STATS_RATIO_ALTERNATIVES];
};

struct product_state {
    double e[STATS_RATIO_ALTERNATIVES];
    uint64_t canary;
    uint64_t baseline;
};

static void product_init(struct product *product, enum stats_ratio_side side, double step_min, double weight)
{
    stats_ratio_grid_init(&product->grid, side, 1.0, step_min, STATS_RATIO_STEP_MAX);
    stats_ratio_terms_init(&product->grid, weight, &product->terms);
    for (int j = 0; j < STATS_RATIO_ALTERNATIVES; j++) {
        product->on_canary[j] = stats_exp(product->grid.step[j] - product->terms.toll[j]);
        product->on_baseline[j] = stats_exp(-product->terms.toll[j]);
    }
}

static void product_start(struct product_state *state)
{
    for (int j = 0; j < STATS_RATIO_ALTERNATIVES; j++)
        state->e[j] = 1.0 / STATS_RATIO_ALTERNATIVES;
    state->canary = state->baseline = 0;
}

// Multiplies `count` equal events in and returns E. The floor keeps hopeless alternatives out of the
// denormals.
static double product_event(const struct product *product, struct product_state *state, bool canary,
                            uint64_t count)
{
    const double *factor = canary ? product->on_canary : product->on_baseline;
    *(canary ? &state->canary : &state->baseline) += count;
    double sum = 0.0;
    for (uint64_t i = 0; i < count; i++) {
        sum = 0.0;
        for (int j = 0; j < STATS_RATIO_ALTERNATIVES; j++) {
            double e = state->e[j] * factor[j];
            state->e[j] = e > 1e-250 ? e : 1e-250;
            sum += state->e[j];
        }
    }
    return sum;
}

static double product_value(const struct product_state *state)
{
    double sum = 0.0;
    for (int j = 0; j < STATS_RATIO_ALTERNATIVES; j++)
        sum += state->e[j];
    return sum;
}

// The module's own answer for the same counts.
static void product_check(const struct product *product, const struct product_state *state)
{
    struct stats_ratio_state own = {.ll = {0}};
    stats_ratio_add_terms(&product->grid, &product->terms, &own, state->canary, state->baseline);
    CHECK(fabs(stats_ratio_log_e(&own) - stats_ln(product_value(state))) < 1e-7);
}

// ---- sampling ----

static double uniform_open(struct rng *rng)
{
    return 1.0 - rng_double(rng);
}

// Requests up to and including the next success of probability p.
static uint64_t geometric(struct rng *rng, double p)
{
    return p >= 1.0 ? 1 : 1 + (uint64_t)(log(uniform_open(rng)) / log1p(-p));
}

static struct estimate summarise(double sum, double sum_of_squares, uint32_t count)
{
    double mean = sum / count;
    double variance = (sum_of_squares / count - mean * mean) * count / (count - 1.0);
    return (struct estimate){.mean = mean, .standard_error = sqrt(variance > 0 ? variance / count : 0)};
}

static struct estimate share(uint64_t hits, uint32_t count)
{
    double p = (double)hits / count;
    return (struct estimate){.mean = p, .standard_error = sqrt(p * (1.0 - p) / count)};
}

// ---- stopping times ----

struct arms {
    double weight;
    double base_rate;
    double canary_rate;
    double alpha;
    bool good_events;    // completions: fewer on the canary is what is bad
    uint32_t look_every; // events between two looks at E
    bool count_events;   // the answer in events instead of requests routed
};

// Mean of total requests (both arms) until a look finds E >= 1/alpha.
static struct estimate requests_to_stop(const struct arms *arms, uint64_t seed, uint32_t replications)
{
    struct rng rng;
    struct product product;
    struct product_state state;
    rng_init(&rng, seed);
    product_init(&product, arms->good_events ? STATS_RATIO_BELOW : STATS_RATIO_ABOVE,
                 arms->good_events ? STATS_RATIO_STEP_MIN_THROUGHPUT : STATS_RATIO_STEP_MIN, arms->weight);
    double rate = arms->weight * arms->canary_rate + (1.0 - arms->weight) * arms->base_rate;
    double on_canary = arms->weight * arms->canary_rate / rate;
    double sum = 0.0;
    double squares = 0.0;
    for (uint32_t r = 0; r < replications; r++) {
        double requests = 0.0;
        double e = 0.0;
        product_start(&state);
        for (uint32_t i = 0; e < 1.0 / arms->alpha || i % arms->look_every != 0; i++) {
            requests += arms->count_events ? 1.0 : (double)geometric(&rng, rate);
            e = product_event(&product, &state, rng_double(&rng) < on_canary, 1);
            CHECK(i < EVENTS_MAX);
        }
        product_check(&product, &state);
        sum += requests;
        squares += requests * requests;
    }
    struct estimate estimate = summarise(sum, squares, replications);
    estimate.planned = stats_plan_ratio_requests(arms->weight, arms->base_rate,
                                                 arms->canary_rate / arms->base_rate, 1.0, arms->alpha);
    if (arms->count_events)
        estimate.planned *= rate;
    return estimate;
}

static void latency_tails(double slowdown, double sigma, double *tails)
{
    for (int k = 0; k < EDGES; k++)
        tails[k] = 0.5 * erfc((EDGE_Z[k] - log(slowdown) / sigma) / sqrt(2.0));
}

// Every latency of the canary is slowdown times the baseline's; E is the mean of the kernels at the four
// edges.
static struct estimate latency_to_stop(double weight, double slowdown, double alpha, uint32_t look_every,
                                       uint64_t seed, uint32_t replications)
{
    struct rng rng;
    struct product product;
    struct product_state states[EDGES];
    double tails[EDGES];
    rng_init(&rng, seed);
    product_init(&product, STATS_RATIO_ABOVE, STATS_RATIO_STEP_MIN, weight);
    latency_tails(slowdown, 1.0, tails);
    double sum = 0.0;
    double squares = 0.0;
    for (uint32_t r = 0; r < replications; r++) {
        uint32_t requests = 0;
        double e[EDGES] = {1.0, 1.0, 1.0, 1.0};
        for (int k = 0; k < EDGES; k++)
            product_start(&states[k]);
        while (e[0] + e[1] + e[2] + e[3] < EDGES / alpha || requests % look_every != 0) {
            bool canary = rng_double(&rng) < weight;
            double slowness = rng_double(&rng);
            const double *tail = canary ? tails : EDGE_TAIL;
            requests++;
            for (int k = 0; k < EDGES && slowness < tail[k]; k++)
                e[k] = product_event(&product, &states[k], canary, 1);
            CHECK(requests < EVENTS_MAX);
        }
        for (int k = 0; k < EDGES; k++)
            product_check(&product, &states[k]);
        sum += requests;
        squares += (double)requests * requests;
    }
    struct estimate estimate = summarise(sum, squares, replications);
    return estimate;
}

// ---- false alarms ----

// Share of runs in which E reaches 1/alpha at any of `events` events although R = 1. Each event comes as a
// cluster of `cluster` equal ones (1: independent).
static struct estimate false_alarms(double weight, double alpha, uint32_t events, uint32_t cluster,
                                    uint64_t seed, uint32_t replications)
{
    struct rng rng;
    struct product product;
    struct product_state state;
    rng_init(&rng, seed);
    product_init(&product, STATS_RATIO_ABOVE, STATS_RATIO_STEP_MIN, weight);
    uint64_t alarms = 0;
    for (uint32_t r = 0; r < replications; r++) {
        double e = 0.0;
        product_start(&state);
        for (uint32_t i = 0; i < events && e < 1.0 / alpha; i += cluster)
            e = product_event(&product, &state, rng_double(&rng) < weight, cluster);
        product_check(&product, &state);
        alarms += e >= 1.0 / alpha;
    }
    return share(alarms, replications);
}

// Two-sided z-test at 5 % on the same counts, looked at 100 times in 5 000 events.
static struct estimate peeking_z_test(uint64_t seed, uint32_t replications)
{
    struct rng rng;
    rng_init(&rng, seed);
    uint64_t alarms = 0;
    for (uint32_t r = 0; r < replications; r++) {
        bool alarm = false;
        double balance = 0.0;
        for (uint32_t i = 1; i <= 5000; i++) {
            balance += rng_next(&rng) >> 63 ? 1.0 : -1.0;
            alarm = alarm || (i % 50 == 0 && fabs(balance) > 1.959963984540054 * sqrt(i));
        }
        alarms += alarm;
    }
    return share(alarms, replications);
}

// A ramp 1, 5, 10, 25, 50 %, 40 spans of 2 000 requests each, R = 1 throughout, while the error rate that
// both arms share rises from 0.5 to 2.5 % (time of day). pooled: totals of events judged with the total share
// of requests.
static struct estimate ramp_alarms(bool pooled, uint64_t seed, uint32_t replications)
{
    static const double RAMP[] = {0.01, 0.05, 0.10, 0.25, 0.50};
    struct rng rng;
    struct stats_ratio_grid grid;
    rng_init(&rng, seed);
    stats_ratio_grid_init(&grid, STATS_RATIO_ABOVE, 1.0, STATS_RATIO_STEP_MIN, STATS_RATIO_STEP_MAX);
    uint64_t alarms = 0;
    for (uint32_t r = 0; r < replications; r++) {
        struct stats_ratio_state state = {.ll = {0}};
        uint64_t total_canary = 0;
        uint64_t total_baseline = 0;
        double weight_sum = 0.0;
        bool alarm = false;
        for (uint32_t span = 0; span < 200 && !alarm; span++) {
            double weight = RAMP[span / 40];
            double rate = 0.005 + 0.020 * span / 199.0;
            uint64_t counts[2] = {0, 0};
            for (uint64_t at = geometric(&rng, rate); at <= 2000; at += geometric(&rng, rate))
                counts[rng_double(&rng) < weight]++;
            total_canary += counts[1];
            total_baseline += counts[0];
            weight_sum += weight;
            if (pooled) {
                state = (struct stats_ratio_state){.ll = {0}};
                stats_ratio_add(&grid, &state, weight_sum / (span + 1), total_canary, total_baseline);
            } else {
                stats_ratio_add(&grid, &state, weight, counts[1], counts[0]);
            }
            alarm = stats_ratio_log_e(&state) >= 4.605170185988091;
        }
        alarms += alarm;
    }
    return share(alarms, replications);
}

// Both arms fail 2 % of 200 requests per second each; a canary failure shows within its tick of 100 ms, a
// baseline failure only as a timeout 5 s later. One minute, E looked at every tick. by_completion: counts as
// they become known. Otherwise by routing tick, where a pending baseline request counts as a failure, so that
// every prefix is complete.
static struct estimate timeout_alarms(bool by_completion, uint64_t seed, uint32_t replications)
{
    enum { TICKS = 600, LATE = 50, REQUESTS = 40 };
    struct rng rng;
    struct stats_ratio_grid grid;
    struct stats_ratio_terms terms;
    rng_init(&rng, seed);
    stats_ratio_grid_init(&grid, STATS_RATIO_ABOVE, 1.0, STATS_RATIO_STEP_MIN, STATS_RATIO_STEP_MAX);
    stats_ratio_terms_init(&grid, 0.5, &terms);
    uint64_t alarms = 0;
    for (uint32_t r = 0; r < replications; r++) {
        struct stats_ratio_state state = {.ll = {0}};
        uint64_t baseline[TICKS] = {0};
        bool alarm = false;
        for (int tick = 0; tick < TICKS && !alarm; tick++) {
            uint64_t canary = 0;
            for (uint64_t at = geometric(&rng, 0.02); at <= REQUESTS; at += geometric(&rng, 0.02))
                *(rng_next(&rng) >> 63 ? &canary : &baseline[tick]) += 1;
            int seen = by_completion ? tick - LATE : tick;
            stats_ratio_add_terms(&grid, &terms, &state, canary, seen >= 0 ? baseline[seen] : 0);
            alarm = stats_ratio_log_e(&state) >= 4.605170185988091;
        }
        alarms += alarm;
    }
    return share(alarms, replications);
}

// ---- the table ----

static void print_row(struct bench *bench, const char *what, double reference, struct estimate measured,
                      uint32_t replications, bool pass)
{
    bench->rows++;
    bench->out += !pass;
    printf("| %s | %.4g | %.4g | %.2g | %+.1f %% | ", what, reference, measured.mean, measured.standard_error,
           100.0 * (measured.mean / reference - 1.0));
    if (measured.planned > 0.0)
        printf("%.4g", measured.planned);
    printf(" | %u | %s |\n", replications, pass ? "PASS" : "FAIL");
    fflush(stdout);
}

// Within 10 %; a short run may also differ by three standard errors of its own.
static void row_within_tenth(struct bench *bench, const char *what, double reference,
                             struct estimate measured, uint32_t replications)
{
    double allowed = 0.10 * reference;
    if (bench->divisor > 1 && 3.0 * measured.standard_error > allowed)
        allowed = 3.0 * measured.standard_error;
    print_row(bench, what, reference, measured, replications, fabs(measured.mean - reference) <= allowed);
}

// A figure without a reference: shown, never judged.
static void row_shown(struct bench *bench, const char *what, struct estimate measured, uint32_t replications)
{
    bench->rows++;
    printf("| %s | | %.4g | %.2g | | ", what, measured.mean, measured.standard_error);
    if (measured.planned > 0.0)
        printf("%.4g", measured.planned);
    printf(" | %u | |\n", replications);
    fflush(stdout);
}

static void row_between(struct bench *bench, const char *what, double reference, struct estimate measured,
                        uint32_t replications, double low, double high)
{
    print_row(bench, what, reference, measured, replications, measured.mean >= low && measured.mean <= high);
}

static uint64_t next_seed(const struct bench *bench)
{
    uint64_t mixed = bench->seed + 1000003ull * (bench->rows + 1);
    return rng_splitmix(&mixed);
}

static void bench_errors(struct bench *bench)
{
    static const struct {
        const char *name;
        double base_rate;
        double canary_rate;
        double reference[3]; // w = .5, .1, .05
    } CASES[] = {
        {"errors .1 → .2 %", 0.001, 0.002, {67300, 174000, 328000}},
        {"errors .1 → .5 %", 0.001, 0.005, {8000, 18900, 34900}},
        {"errors 1 → 2 %", 0.01, 0.02, {6700, 17300, 33100}},
        {"errors 1 → 5 %", 0.01, 0.05, {804, 1900, 3400}},
        {"errors 1 → 50 %", 0.01, 0.50, {42, 84, 148}},
    };
    static const double WEIGHTS[] = {0.5, 0.1, 0.05};
    uint32_t replications = 10000 / bench->divisor;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        for (size_t k = 0; k < ARRAY_LEN(WEIGHTS); k++) {
            char name[96];
            struct arms arms = {WEIGHTS[k], CASES[i].base_rate, CASES[i].canary_rate, 0.01, false, 1, false};
            snprintf(name, sizeof name, "%s, w=%g", CASES[i].name, WEIGHTS[k]);
            row_within_tenth(bench, name, CASES[i].reference[k],
                             requests_to_stop(&arms, next_seed(bench), replications), replications);
        }
    }
}

// The reference counts completed requests, looked at after every 20; below it the same in requests routed,
// looked at after every one.
static void bench_completions(struct bench *bench)
{
    static const struct {
        double weight;
        double canary_rate;
        double reference;
    } CASES[] = {{0.5, 0.9, 4600}, {0.5, 0.5, 123}, {0.1, 0.9, 12600}, {0.1, 0.5, 430}};
    uint32_t replications = 5000 / bench->divisor;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        char name[96];
        struct arms arms = {CASES[i].weight, 1.0, CASES[i].canary_rate, 0.01, true, 20, true};
        int percent = (int)(100.5 - 100.0 * arms.canary_rate);
        snprintf(name, sizeof name, "completions −%d %%, w=%g (completed, look every 20)", percent,
                 arms.weight);
        row_within_tenth(bench, name, CASES[i].reference,
                         requests_to_stop(&arms, next_seed(bench), replications), replications);
        arms.look_every = 1;
        arms.count_events = false;
        row_shown(bench, "– the same, requests routed, look at every one",
                  requests_to_stop(&arms, next_seed(bench), replications), replications);
    }
}

// The reference looks after every 100 requests: one tick of 100 ms at 1 000 requests per second.
static void bench_latencies(struct bench *bench)
{
    static const struct {
        double weight;
        double slowdown;
        double reference;
    } CASES[] = {{0.5, 1.25, 3000}, {0.5, 1.5, 930},  {0.5, 2.0, 380},
                 {0.1, 1.25, 7800}, {0.1, 1.5, 2400}, {0.1, 2.0, 790}};
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        char name[96];
        uint32_t replications = 5000 / bench->divisor;
        double weight = CASES[i].weight;
        double slowdown = CASES[i].slowdown;
        snprintf(name, sizeof name, "all latencies %+.0f %%, w=%g (look every 100)", 100.0 * (slowdown - 1.0),
                 weight);
        row_within_tenth(bench, name, CASES[i].reference,
                         latency_to_stop(weight, slowdown, 0.01, 100, next_seed(bench), replications),
                         replications);
        row_shown(bench, "– the same, look at every one",
                  latency_to_stop(weight, slowdown, 0.01, 1, next_seed(bench), replications), replications);
    }
}

// The references are simulations themselves, of unknown size: judged within 10 % and three standard errors of
// ours together. What matters, the bound alpha, is a row of its own.
static void bench_false_alarms(struct bench *bench)
{
    static const struct {
        double alpha;
        double reference;
    } CASES[] = {{0.01, 0.0095}, {0.05, 0.042}};
    uint32_t many = 100000 / bench->divisor;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        char name[96];
        double alpha = CASES[i].alpha;
        struct estimate alarms = false_alarms(0.5, alpha, 5000, 1, next_seed(bench), many);
        snprintf(name, sizeof name, "false alarms, α=%g, 5 000 events, w=.5", alpha);
        double allowed = 0.10 * CASES[i].reference + 3.0 * alarms.standard_error;
        row_between(bench, name, CASES[i].reference, alarms, many, CASES[i].reference - allowed,
                    CASES[i].reference + allowed);
        row_between(bench, "– the same against its bound α (one-sided, 3 standard errors)", alpha, alarms,
                    many, 0.0, alpha + 3.0 * alarms.standard_error);
    }
    uint32_t few = 20000 / bench->divisor;
    row_within_tenth(bench, "z-test at 5 % looked at 100 times", 0.37, peeking_z_test(next_seed(bench), few),
                     few);
}

static void bench_traps(struct bench *bench)
{
    uint32_t few = 2000 / bench->divisor;
    uint32_t many = 10000 / bench->divisor;
    row_between(bench, "trap: pooled totals while the weight ramps", 1.0,
                ramp_alarms(true, next_seed(bench), few), few, 0.99, 1.0);
    double bound = bench->divisor > 1 ? 0.02 : 0.01;
    row_between(bench, "guard: evidence per span, same ramp (bound)", 0.01,
                ramp_alarms(false, next_seed(bench), many), many, 0.0, bound);
    row_between(bench, "trap: baseline times out 5 s late, read as completed", 0.996,
                timeout_alarms(true, next_seed(bench), few), few, 0.90, 1.0);
    row_between(bench, "guard: the same by routing tick, pending imputed (bound)", 0.01,
                timeout_alarms(false, next_seed(bench), many), many, 0.0, bound);
    static const uint32_t CLUSTERS[] = {3, 10, 30};
    for (size_t i = 0; i < ARRAY_LEN(CLUSTERS); i++) {
        char name[96];
        snprintf(name, sizeof name, "trap: errors in clusters of %u, 5 000 events", CLUSTERS[i]);
        row_shown(bench, name, false_alarms(0.5, 0.01, 5000, CLUSTERS[i], next_seed(bench), few), few);
    }
}

// Minutes at 100 requests per second, half on the canary, errors .1 → .5 %.
static void bench_minutes(struct bench *bench)
{
    static const double ALPHAS[] = {0.01, 0.001};
    uint32_t replications = 5000 / bench->divisor;
    for (size_t i = 0; i < ARRAY_LEN(ALPHAS); i++) {
        char name[96];
        struct arms arms = {0.5, 0.001, 0.005, ALPHAS[i], false, 1, false};
        struct estimate estimate = requests_to_stop(&arms, next_seed(bench), replications);
        estimate.mean /= 6000.0;
        estimate.standard_error /= 6000.0;
        estimate.planned /= 6000.0;
        snprintf(name, sizeof name, "minutes to decide .1 → .5 %% at 100 per second, w=.5, α=%g", ALPHAS[i]);
        row_shown(bench, name, estimate, replications);
    }
}

int main(int argc, char **argv)
{
    struct bench bench = {.seed = 20261121, .divisor = 1};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--short") == 0) {
            bench.divisor = 10;
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            bench.seed = strtoull(argv[++i], NULL, 10);
        } else {
            fprintf(stderr, "usage: %s [--short] [--seed NUMBER]\n", argv[0]);
            return 2;
        }
    }
    printf("| figure | reference | measured | standard error | difference | plan says | replications | |\n");
    printf("|---|---|---|---|---|---|---|---|\n");
    bench_errors(&bench);
    bench_latencies(&bench);
    bench_completions(&bench);
    bench_false_alarms(&bench);
    bench_traps(&bench);
    bench_minutes(&bench);
    printf("\nseed %llu, %u figures, %u out\n", (unsigned long long)bench.seed, bench.rows, bench.out);
    return bench.out > 0;
}
