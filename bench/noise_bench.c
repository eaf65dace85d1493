// SPDX-License-Identifier: Apache-2.0
// Verdicts under noise: whole rollouts of identical versions under many kinds of it (taken back: at most
// alpha), how soon bad versions leave, how seldom they arrive, users with habits. Exits 1 when a bound is
// missed.
//   noise_bench [ROLLOUTS [PART]]   per model, 2000 by default; fewer are a smoke test of the same checks
//   PART: bad, promotion, alike, users; all by default
#include <stdio.h>
#include <stdlib.h>

#include "noise_run.h"

static int failures;

// Largest true share that so few of n would be seen with, 19 times of 20 (Clopper and Pearson 1934).
static double upper_95(int hits, int n)
{
    double low = 0.0, high = 1.0;
    for (int i = 0; i < 60; i++) {
        double p = 0.5 * (low + high), term = exp(n * log1p(-p)), sum = term;
        for (int k = 1; k <= hits; k++) {
            term *= (double)(n - k + 1) / k * p / (1.0 - p);
            sum += term;
        }
        if (sum > 0.05)
            low = p;
        else
            high = p;
    }
    return high;
}

static void verdict_on(bool ok)
{
    printf("%s\n", ok ? "" : "   MISSED");
    failures += !ok;
    fflush(stdout);
}

// ---- identical versions ----

static const struct noise_model alike[] = {
    {.name = "independent, 1000/s", .rate = 1000},
    {.name = "independent, 5000/s", .rate = 5000},
    {.name = "stall 1 s every 10 s, 50/s", .rate = 50, .stall = {10, 1, false}},
    {.name = "stall 1 s every 10 s, 1000/s", .rate = 1000, .stall = {10, 1, false}},
    {.name = "stall 1 s every 10 s, 5000/s", .rate = 5000, .stall = {10, 1, false}},
    {.name = "stall lognormal 0.2 s every 10 s", .rate = 5000, .stall = {10, 0.2, true}},
    {.name = "stall 0.2 s every 60 s", .rate = 1000, .stall = {60, 0.2, false}},
    {.name = "stall 1 s every 60 s", .rate = 1000, .stall = {60, 1, false}},
    {.name = "all stall 0.5 s every 20 s", .rate = 1000, .shared_stall = {20, 0.5, false}},
    {.name = "errors 0.3 s every 10 s", .rate = 1000, .burst = {10, 0.3, false}},
    {.name = "errors 0.3 s every 60 s", .rate = 1000, .burst = {60, 0.3, false}},
    {.name = "errors 0.3 s every 600 s", .rate = 1000, .burst = {600, 0.3, false}},
    {.name = "all err 0.3 s every 60 s", .rate = 1000, .shared_burst = {60, 0.3, false}},
    {.name = "warm-up 2 x over 60 s", .rate = 1000, .warm_s = 60},
    {.name = "drift of rate, errors, latency", .rate = 1000, .drift = true},
    {.name = "3 endpoints shun, control arm",
     .rate = 1000,
     .stall = {10, 1, false},
     .stable_endpoints = 3,
     .shun = true,
     .control = true},
    {.name = "all of it together",
     .rate = 1000,
     .stall = {60, 0.2, true},
     .shared_stall = {60, 0.2, false},
     .burst = {600, 0.3, false},
     .shared_burst = {300, 0.3, false},
     .drift = true},
};

static void false_rollbacks(struct run *run, int rollouts)
{
    static const uint32_t percents[] = {1, 5, 25, 50, 100};
    printf("identical versions, five stages of a minute whatever the evidence, then a soak of two\n");
    for (size_t m = 0; m < ARRAY_LEN(alike); m++) {
        struct noise_model model = alike[m];
        model.errors = model.errors > 0.0 ? model.errors : 0.001;
        int back = 0;
        char check[32] = "";
        for (int i = 0; i < rollouts; i++) {
            struct rollout_spec spec;
            run_spec(&spec, percents, 5, 60, 120);
            spec.undecided = ROLLOUT_UNDECIDED_PROCEED;
            spec.control = model.control;
            spec.warmup_ms = model.warm_s > 0.0 ? 30000 : 0;
            run_begin(run, &spec);
            noise_begin(&run->noise, &model, 0x51u + 7919u * (uint64_t)i + (m << 32));
            while (!run_ended(run) && run->tick < 6000)
                run_tick(run);
            back += run_is_back(run);
            if (run_is_back(run))
                memcpy(check, run->effects.verdict.check, sizeof check);
        }
        double most = upper_95(back, rollouts);
        printf("  %-36s %5d of %d taken back, at most %.2f %% (95 %%) %s", model.name, back, rollouts,
               100 * most, check);
        // A short run can only show that the bound is not plainly broken.
        verdict_on(rollouts >= 1000 ? most <= 0.01 : back <= 1 + rollouts / 50);
    }
}

// ---- bad versions ----

struct bad {
    struct noise_model model;
    double worse;  // of latency; 0: as by default
    double most_s; // the median's bound
};

static const struct bad bads[] = {
    {{.name = "every request fails", .rate = 1000, .dead = true}, 0, 2},
    {{.name = "every request fails, 50/s", .rate = 50, .dead = true}, 0, 16},
    {{.name = "every request hangs", .rate = 1000, .hung = true}, 0, 29},
    {{.name = "half of the requests fail", .rate = 1000, .canary_errors = 0.5}, 0, 16},
    {{.name = "10 % of the requests fail", .rate = 1000, .canary_errors = 0.1}, 0, 24},
    {{.name = "errors 0.1 -> 0.5 %", .rate = 1000, .canary_errors = 0.004}, 0, 128},
    {{.name = "latency +100 %", .rate = 1000, .canary_slow = 2.0}, 0, 24},
    {{.name = "latency +100 %, worse: 1", .rate = 1000, .canary_slow = 2.0}, 1, 16},
    {{.name = "latency +25 %, worse: 1", .rate = 1000, .canary_slow = 1.25}, 1, 82},
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void delays(struct run *run, int rollouts)
{
    printf("bad versions, stages of a minute from 1 %% on whatever the evidence: seconds until taken back\n");
    static const uint32_t percents[] = {1, 5, 25, 50};
    int count = rollouts < 100 ? 15 : 101;
    double *seconds = calloc((size_t)count, sizeof *seconds);
    CHECK(seconds != NULL);
    for (size_t b = 0; b < ARRAY_LEN(bads); b++) {
        struct noise_model model = bads[b].model;
        model.errors = 0.001;
        for (int i = 0; i < count; i++) {
            struct rollout_spec spec;
            run_spec(&spec, percents, 4, 60, 0);
            spec.undecided = ROLLOUT_UNDECIDED_PROCEED;
            spec.latency.worse = bads[b].worse > 0.0 ? bads[b].worse : spec.latency.worse;
            run_begin(run, &spec);
            noise_begin(&run->noise, &model, 0xbadu + 104729u * (uint64_t)i);
            while (!run_ended(run) && run->tick < 6000)
                run_tick(run);
            seconds[i] = (double)(run->tick - run->shifted_tick) / 10.0;
        }
        qsort(seconds, (size_t)count, sizeof *seconds, by_value);
        double median = seconds[count / 2];
        printf("  %-36s median %6.1f s, p90 %6.1f s (at most %g s)", model.name, median,
               seconds[count * 9 / 10], bads[b].most_s);
        verdict_on(median <= bads[b].most_s);
    }
    free(seconds);
}

// Rollback is switched off: whether a version that costs just more than the budget is passed on.
static void false_promotions(struct run *run, int rollouts)
{
    static const struct noise_model models[] = {
        {.name = "errors at the edge of the budget", .rate = 1000, .canary_errors = 0.002},
        {.name = "errors at it, stalls of 1 s",
         .rate = 1000,
         .canary_errors = 0.002,
         .stall = {60, 1, false}},
        {.name = "latency +30 %, stalls of 1 s", .rate = 1000, .canary_slow = 1.3, .stall = {60, 1, false}},
        {.name = "one in twenty takes 5 x as long", .rate = 1000, .canary_tail = 5.0},
    };
    static const uint32_t percents[] = {50, 100};
    printf("versions that cost more than the last step may: passed on from 50 %%\n");
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        int passed = 0;
        struct noise_model model = models[m];
        model.errors = 0.001;
        for (int i = 0; i < rollouts; i++) {
            struct rollout_spec spec;
            run_spec(&spec, percents, 2, 60, 0);
            spec.alpha = 1e-9;
            run_begin(run, &spec);
            noise_begin(&run->noise, &model, 0xfau + 15485863u * (uint64_t)i);
            while (run->effects.to == ROLLOUT_SHIFTING && run->tick < 620)
                run_tick(run);
            passed += run->promoted_from == 50000;
        }
        double most = upper_95(passed, rollouts);
        printf("  %-36s %5d of %d passed, at most %.2f %% (95 %%; beta is 5 %%)", model.name, passed,
               rollouts, 100 * most);
        verdict_on(rollouts >= 1000 ? most <= 0.05 : passed <= 2 + rollouts / 12);
    }
}

// ---- users ----

enum { USERS_MAX = 4096 };

// How users send, and what they meet in either version alike.
struct users {
    const char *name;
    uint32_t count;
    double zipf;        // exponent of how unevenly they send
    double heavy;       // share of all requests that the first user sends beside that
    uint32_t slow_each; // every so many-th user is always slow; 0: none
    uint32_t fail_each; // always fails
};

static const struct users habits[] = {
    {"2000 users alike", 2000, 0.0, 0.0, 0, 0},
    {"2000 users, Zipf", 2000, 1.0, 0.0, 0, 0},
    {"a bot with a fifth of all", 2000, 1.0, 0.2, 0, 0},
    {"every 50th user is always slow, Zipf", 2000, 1.0, 0.0, 50, 0},
    {"one slow user with a twentieth", 2000, 0.0, 0.05, 100000, 0},
    {"every 50th user always fails, Zipf", 2000, 1.0, 0.0, 0, 50},
    {"4000 users, a few hundred fail", 4000, 0.5, 0.0, 0, 13},
};

struct user {
    double until; // cumulative share of the requests
    uint32_t bucket;
    uint64_t second; // last judged in it, plus one
    uint32_t judged;
    bool seen, erred;
};

static void users_draw(const struct users *kind, struct rng *rng, struct user *users)
{
    double sum = 0.0;
    for (uint32_t i = 0; i < kind->count; i++) {
        sum += pow(i + 1.0, -kind->zipf);
        users[i] = (struct user){.until = sum, .bucket = rng_below(rng, ROLLOUT_WEIGHT_FULL)};
    }
    for (uint32_t i = 0; i < kind->count; i++)
        users[i].until = kind->heavy + (1.0 - kind->heavy) * users[i].until / sum;
}

static struct user *user_pick(const struct users *kind, struct rng *rng, struct user *users)
{
    double u = rng_double(rng);
    uint32_t low = 0, high = kind->count - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (users[middle].until < u)
            low = middle + 1;
        else
            high = middle;
    }
    return &users[low];
}

// As the proxy counts: a unit's first request of a second is judged, its first error of the run is an event.
static void user_asks(struct run *run, const struct users *kind, struct user *users,
                      struct rollout_span_delta *now)
{
    struct rng *rng = &run->noise.rng;
    struct user *user = user_pick(kind, rng, users);
    uint32_t index = (uint32_t)(user - users);
    int arm = user->bucket < run->weight ? ROLLOUT_ARM_CANARY : ROLLOUT_ARM_STABLE;
    struct rollout_counts *counts = &now->arms[arm];
    bool slow = kind->slow_each > 0 && index % kind->slow_each == 0;
    bool fails = (kind->fail_each > 0 && index % kind->fail_each == 0) || rng_double(rng) < 0.001;
    counts->routed++;
    counts->units += !user->seen;
    user->seen = true;
    counts->errors += fails;
    if (user->second == run->tick / 10 + 1) {
        counts->excused++;
        return;
    }
    user->second = run->tick / 10 + 1;
    counts->unit_squares += 2 * user->judged++ + 1;
    counts->completed++;
    counts->failed += fails;
    counts->good += !fails;
    if (fails && !user->erred) {
        counts->error_events++;
        user->erred = true;
    }
    struct noise_counts latency = {.routed = 1};
    noise_count_one(&run->noise, arm, noise_base_us(rng) * (slow ? 8.0 : 1.0), &latency);
    for (int k = 0; k < ROLLOUT_EDGES; k++) {
        counts->slow[k] += latency.slow[k];
        counts->slow_margin[k] += latency.slow_margin[k];
    }
}

static void by_user(struct run *run, int rollouts)
{
    static const uint32_t percents[] = {5, 25, 50, 100};
    static struct user users[USERS_MAX];
    printf("identical versions, traffic of users (300/s), each in one arm\n");
    for (size_t m = 0; m < ARRAY_LEN(habits); m++) {
        int back = 0;
        char check[32] = "";
        for (int i = 0; i < rollouts; i++) {
            struct rollout_spec spec;
            run_spec(&spec, percents, 4, 60, 60);
            spec.undecided = ROLLOUT_UNDECIDED_PROCEED;
            spec.keyed = true;
            run_begin(run, &spec);
            rng_init(&run->noise.rng, 0x115e5u + 32452843u * (uint64_t)i);
            users_draw(&habits[m], &run->noise.rng, users);
            while (!run_ended(run) && run->tick < 4000) {
                struct rollout_span_delta *now = &run->deltas[0];
                *now = (struct rollout_span_delta){
                    .tick = run->tick, .table = run->table, .weight = run->weight};
                rollout_yardstick_get(run->rollout, &run->noise.by);
                for (uint32_t n = noise_poisson(&run->noise.rng, 30.0); n > 0; n--)
                    user_asks(run, &habits[m], users, now);
                run->tick++;
                run_give(run, 1);
            }
            back += run_is_back(run);
            if (run_is_back(run))
                memcpy(check, run->effects.verdict.check, sizeof check);
        }
        double most = upper_95(back, rollouts);
        printf("  %-36s %5d of %d taken back, at most %.2f %% (95 %%) %s", habits[m].name, back, rollouts,
               100 * most, check);
        verdict_on(rollouts >= 1000 ? most <= 0.01 : back <= 1 + rollouts / 50);
    }
}

int main(int argc, char **argv)
{
    int rollouts = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 2000;
    rollouts = rollouts > 0 ? rollouts : 1;
    const char *only = argc > 2 ? argv[2] : NULL;
    static struct run run;
    static const struct {
        const char *name;
        void (*measure)(struct run *run, int rollouts);
    } parts[] = {
        {"bad", delays}, {"promotion", false_promotions}, {"alike", false_rollbacks}, {"users", by_user}};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (only == NULL || strcmp(only, parts[i].name) == 0)
            parts[i].measure(&run, rollouts);
    free(run.rollout);
    if (failures > 0)
        printf("%d bound%s missed\n", failures, failures == 1 ? "" : "s");
    return failures > 0;
}
