// SPDX-License-Identifier: Apache-2.0
// What one evaluation of the evidence costs: 300 spans × 6 metrics × 2 directions, with the weight constant
// (terms shared) and with another weight in every span; and one recorded value. Medians of nine, CPU time of
// this thread.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "base/rng.h"
#include "stats/histogram.h"
#include "stats/ratio.h"

enum { SPANS = 300, METRICS = 6, SIDES = 2, ROUNDS = 50, REPEATS = 9, VALUES = 4000000 };

static struct stats_ratio_grid grids[SIDES];
static uint64_t counts[SPANS][METRICS][2];
static struct stats_histogram histogram;
static volatile double sink;

static double cpu_us(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

// One tick: everything from the spans' counts to the twelve ln E. weight_step 0 keeps the weight constant.
static void evaluate(double weight_step)
{
    struct stats_ratio_state states[SIDES][METRICS] = {0};
    struct stats_ratio_terms terms[SIDES] = {0};
    for (int span = 0; span < SPANS; span++) {
        double weight = 0.05 + weight_step * span;
        for (int side = 0; side < SIDES; side++) {
            if (span == 0 || weight > terms[side].weight)
                stats_ratio_terms_init(&grids[side], weight, &terms[side]);
            for (int m = 0; m < METRICS; m++)
                stats_ratio_add_terms(&grids[side], &terms[side], &states[side][m], counts[span][m][0],
                                      counts[span][m][1]);
        }
    }
    for (int side = 0; side < SIDES; side++) {
        for (int m = 0; m < METRICS; m++)
            sink = stats_ratio_log_e(&states[side][m]);
    }
}

static double tick_us(double weight_step)
{
    double start = cpu_us();
    for (int i = 0; i < ROUNDS; i++)
        evaluate(weight_step);
    return (cpu_us() - start) / ROUNDS;
}

static double record_ns(void)
{
    struct rng rng;
    rng_init(&rng, 1);
    double start = cpu_us();
    for (int i = 0; i < VALUES; i++)
        stats_histogram_record(&histogram, rng_next(&rng) >> 44);
    return (cpu_us() - start) * 1e3 / VALUES;
}

static int compare(const void *a, const void *b)
{
    const double *left = a;
    const double *right = b;
    return (*left > *right) - (*left < *right);
}

static double median(double *values)
{
    qsort(values, REPEATS, sizeof values[0], compare);
    return values[REPEATS / 2];
}

int main(void)
{
    struct rng rng;
    double constant[REPEATS];
    double changing[REPEATS];
    double record[REPEATS];
    rng_init(&rng, 2);
    for (int i = 0; i < SPANS * METRICS * 2; i++)
        (&counts[0][0][0])[i] = rng_below(&rng, 40);
    stats_ratio_grid_init(&grids[0], STATS_RATIO_ABOVE, 1.0, STATS_RATIO_STEP_MIN, STATS_RATIO_STEP_MAX);
    stats_ratio_grid_init(&grids[1], STATS_RATIO_BELOW, 1.25, STATS_RATIO_STEP_MIN, STATS_RATIO_STEP_MAX);
    for (int i = 0; i < REPEATS; i++) {
        constant[i] = tick_us(0.0);
        changing[i] = tick_us(0.003);
        record[i] = record_ns();
    }
    printf("| what | median of %d |\n|---|---|\n", REPEATS);
    printf("| evaluation, 300 spans × 6 metrics × 2 directions, one weight | %.0f µs |\n", median(constant));
    printf("| the same, another weight in every span | %.0f µs |\n", median(changing));
    printf("| histogram record, random value drawn within | %.1f ns |\n", median(record));
    return 0;
}
