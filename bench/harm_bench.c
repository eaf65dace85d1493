// SPDX-License-Identifier: Apache-2.0
// What a bad version costs its users until it is taken back, within an hour from its first request: our rule
// with the checks of the default file against two others as they are found in the field, over a grid of
// regressions and rates. The plan is the same for all: 5, 25, 50 and 100 %, at least ten minutes each. Every
// process stalls 0.2 s a minute.
//   threshold     every minute the canary alone: above 1 % errors, or p99 above twice the usual; the third
//   such
//                 minute of a stage takes it back
//   Mann-Whitney  per stage ten values of a minute each, canary against stable, errors and the share of slow
//                 requests; taken back when the 98 % confidence interval of a shift lies above a quarter of
//                 its estimate (Mann and Whitney 1947; Hodges and Lehmann 1963 for the interval)
// A request is hurt when it fails or is slower than the usual p99 and would not have been with the old
// version: counted as its expectation, so that only decisions add noise.
//   harm_bench [ROLLOUTS]   per cell, 40 by default
#include <stdio.h>

#include "noise_run.h"

enum { MINUTE = 600, HOUR = 36000, STAGES = 4, POINTS = 10 };
enum { OURS, THRESHOLD, MANN_WHITNEY, JUDGES };
static const char *const judges[JUDGES] = {"ours", "threshold", "Mann-Whitney"};
static const uint32_t percents[STAGES] = {5, 25, 50, 100};

struct result {
    double hurt; // requests
    double seconds;
    bool back, whole; // taken back; reached 100 %
};

static double excess(const struct noise_model *model, const struct rollout_edges *usual)
{
    if (model->dead || model->hung)
        return 1.0;
    double slow = noise_tail((double)usual->edge_us[2], 1.0);
    double factor = model->canary_slow > 0.0 ? model->canary_slow : 1.0;
    return model->canary_errors + noise_tail((double)usual->edge_us[2], factor) - slow;
}

static struct result run_ours(struct run *run, const struct noise_model *model, uint64_t seed)
{
    struct result result = {0};
    struct rollout_spec spec;
    run_spec(&spec, percents, STAGES, POINTS * 60, 3600);
    for (uint32_t i = 0; i < STAGES; i++)
        spec.stages[i].horizon_ms = 3600 * 1000;
    run_begin(run, &spec);
    noise_begin(&run->noise, model, seed);
    struct rollout_edges usual;
    noise_edges(&usual);
    double each = excess(model, &usual);
    while (!run_ended(run) && (run->shifted_tick == 0 || run->tick < run->shifted_tick + HOUR)) {
        double share = run->weight / (double)ROLLOUT_WEIGHT_FULL;
        run_tick(run);
        result.hurt += share * model->rate * 0.1 * each;
    }
    result.back = run_is_back(run);
    result.whole = run->weight == ROLLOUT_WEIGHT_FULL;
    result.seconds = (double)(run->tick - run->shifted_tick) / 10.0;
    if (run->effects.to == ROLLOUT_COMPLETED && run->tick < run->shifted_tick + HOUR)
        result.hurt += (double)(run->shifted_tick + HOUR - run->tick) * model->rate * 0.1 * each;
    return result;
}

// ---- the others ----

struct minute {
    double routed[2], failed[2], slow[2]; // stable, canary
    double double_slow;                   // of the canary, beyond twice the usual p99
};

static double share_of(double part, double whole)
{
    return whole > 0.0 ? part / whole : 0.0;
}

static bool minute_fails(const struct minute *m)
{
    return share_of(m->failed[1], m->routed[1]) > 0.01 || share_of(m->double_slow, m->routed[1]) > 0.01;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

// The canary's values lie above the stable's.
static bool shifted_up(const double *canary, const double *stable, int n)
{
    double differences[POINTS * POINTS];
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++)
            differences[i * n + k] = canary[i] - stable[k];
    qsort(differences, (size_t)(n * n), sizeof differences[0], by_value);
    double middle = n * n / 2.0, spread = sqrt(n * n * (2.0 * n + 1.0) / 12.0);
    int low = (int)floor(middle - 2.3263478740408408 * spread); // 98 %, both sides
    if (low < 0)
        return false;
    double estimate = 0.5 * (differences[n * n / 2 - 1] + differences[n * n / 2]);
    return differences[low] > 0.25 * fabs(estimate);
}

static bool stage_fails(const struct minute minutes[POINTS])
{
    double canary[2][POINTS], stable[2][POINTS];
    for (int i = 0; i < POINTS; i++) {
        const struct minute *m = &minutes[i];
        canary[0][i] = share_of(m->failed[1], m->routed[1]);
        stable[0][i] = share_of(m->failed[0], m->routed[0]);
        canary[1][i] = share_of(m->slow[1], m->routed[1]);
        stable[1][i] = share_of(m->slow[0], m->routed[0]);
    }
    return shifted_up(canary[0], stable[0], POINTS) || shifted_up(canary[1], stable[1], POINTS);
}

static void minute_add(struct minute *m, const struct noise *noise)
{
    static const int arms[2] = {ROLLOUT_ARM_STABLE, ROLLOUT_ARM_CANARY};
    for (int a = 0; a < 2; a++) {
        m->routed[a] += noise->now[arms[a]].routed;
        m->failed[a] += noise->now[arms[a]].failed;
        m->slow[a] += noise->now[arms[a]].slow_margin[2];
    }
    m->double_slow += noise->now[ROLLOUT_ARM_CANARY].slow[2];
    for (uint32_t i = 0; i < noise->held_count; i++) { // they end in a time-out, or late
        int a = noise->held[i].arm == ROLLOUT_ARM_CANARY;
        const struct noise_counts *counts = &noise->held[i].counts;
        m->routed[a] += counts->routed;
        m->failed[a] += noise->model.hung ? counts->routed : counts->failed;
        m->slow[a] += counts->slow_margin[2];
        m->double_slow += a == 1 ? counts->slow[2] : 0;
    }
}

static struct result run_other(struct run *run, int judge, const struct noise_model *model, uint64_t seed)
{
    static struct minute minutes[POINTS];
    struct result result = {0};
    struct noise *noise = &run->noise;
    noise_begin(noise, model, seed);
    noise_edges(&noise->by.edges);
    for (int k = 0; k < ROLLOUT_EDGES; k++) {
        noise->by.worse_us[k] = 2 * noise->by.edges.edge_us[k];
        noise->by.margin_us[k] = noise->by.edges.edge_us[k];
    }
    double each = excess(model, &noise->by.edges);
    int stage = 0, minute = 0, failed = 0;
    uint32_t ticks = 0;
    for (; ticks < HOUR && !result.back; ticks++) {
        double share = percents[stage] / 100.0;
        if (ticks % MINUTE == 0)
            minutes[minute] = (struct minute){.double_slow = 0.0};
        noise_tick(noise,
                   (double[ROLLOUT_ARMS]){[ROLLOUT_ARM_STABLE] = 1.0 - share, [ROLLOUT_ARM_CANARY] = share});
        minute_add(&minutes[minute], noise);
        result.hurt += share * model->rate * 0.1 * each;
        if (ticks % MINUTE != MINUTE - 1 || stage == STAGES - 1)
            continue;
        failed += judge == THRESHOLD && minute_fails(&minutes[minute]);
        minute++;
        bool over = minute == POINTS;
        result.back = failed == 3 || (over && judge == MANN_WHITNEY && stage_fails(minutes));
        stage += over;
        minute = over ? 0 : minute;
        failed = over ? 0 : failed;
    }
    result.whole = !result.back && stage == STAGES - 1;
    result.seconds = ticks / 10.0;
    return result;
}

// ---- the grid ----

static const struct noise_model cells[] = {
    {.name = "identical"},
    {.name = "errors 0.1 -> 0.5 %", .canary_errors = 0.004},
    {.name = "errors 0.1 -> 1 %", .canary_errors = 0.009},
    {.name = "errors 0.1 -> 3 %", .canary_errors = 0.029},
    {.name = "errors 0.1 -> 10 %", .canary_errors = 0.099},
    {.name = "half of the requests fail", .canary_errors = 0.5},
    {.name = "every request fails", .dead = true},
    {.name = "every request hangs", .hung = true},
    {.name = "latency +50 %", .canary_slow = 1.5},
    {.name = "latency +100 %", .canary_slow = 2.0},
    {.name = "latency x 5", .canary_slow = 5.0},
};

static void cell(struct run *run, const struct noise_model *kind, double rate, int rollouts)
{
    struct noise_model model = *kind;
    model.rate = rate;
    model.errors = 0.001;
    model.stall = (struct noise_event){60, 0.2, false};
    printf("| %s | %g/s |", kind->name, rate);
    for (int judge = 0; judge < JUDGES; judge++) {
        double hurt = 0.0, seconds = 0.0;
        int back = 0, whole = 0;
        for (int i = 0; i < rollouts; i++) {
            uint64_t seed = 0x4a2u + 86028121u * (uint64_t)i;
            struct result r =
                judge == OURS ? run_ours(run, &model, seed) : run_other(run, judge, &model, seed);
            hurt += r.hurt / rollouts;
            seconds += r.back ? r.seconds : 0.0;
            back += r.back;
            whole += r.whole;
        }
        printf(" %.0f | %d/%d/%d | %.0f |", hurt, back, rollouts - back - whole, whole,
               back > 0 ? seconds / back : 0.0);
        fflush(stdout);
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    int rollouts = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 40;
    rollouts = rollouts > 0 ? rollouts : 1;
    static struct run run;
    printf("| new version | rate |");
    for (int judge = 0; judge < JUDGES; judge++)
        printf(" %s: hurt, mean | back/held/whole | s to back |", judges[judge]);
    printf("\n|---|---|---|---|---|---|---|---|---|---|---|\n");
    static const double rates[] = {20, 100, 1000};
    for (size_t c = 0; c < ARRAY_LEN(cells); c++)
        for (size_t r = 0; r < ARRAY_LEN(rates); r++)
            cell(&run, &cells[c], rates[r], rollouts);
    free(run.rollout);
    return 0;
}
