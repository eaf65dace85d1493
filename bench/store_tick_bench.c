// SPDX-License-Identifier: Apache-2.0
// One hour of a rollout's evidence at 20 000 requests per second, in compressed time: each tick is encoded,
// written to the journal, and stepped through the core, as the engine thread does. Prints journal size and
// tick time.
//     store_tick_bench [--ticks N] [--rate N] [--keyed] [--path FILE]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/heap.h"
#include "base/rng.h"
#include "ship/rollout/rollout.h"
#include "ship/store/journal.h"

enum { LAGS = 12 };

// Share of requests that complete within k ticks after their own: most at once, a thin tail to 1.1 s.
static const double DONE_BY[LAGS] = {0.95,  0.975, 0.985,  0.990, 0.993,  0.995,
                                     0.997, 0.998, 0.9985, 0.999, 0.9995, 1.0};

struct bench {
    struct rng rng;
    uint64_t ticks;
    uint32_t rate;
    bool keyed;
    const char *path;
    struct rollout *rollout;
    struct journal *journal;
    uint32_t routed[LAGS][2]; // of the last ticks, by age
    uint32_t done[LAGS][2];
    struct rollout_span_delta spans[LAGS];
    uint8_t *wire;
    uint64_t bytes;
    double *tick_us;
};

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static uint32_t jitter(struct bench *b, double mean)
{
    double value = mean + (rng_double(&b->rng) - 0.5) * 2.0 * (mean > 100 ? 10 : 0);
    return value > 0 ? (uint32_t)value : 0;
}

static void count(struct bench *b, struct rollout_counts *c, uint32_t n, bool canary)
{
    static const double SLOW[ROLLOUT_EDGES] = {0.5, 0.1, 0.01, 0.001};
    c->completed += n;
    for (int k = 0; k < ROLLOUT_EDGES; k++) {
        double share = n * SLOW[k];
        uint32_t events = (uint32_t)share + (rng_double(&b->rng) < share - (uint32_t)share);
        c->slow[k] += events;
        c->slow_margin[k] += canary ? (uint32_t)(events * 0.9) : events;
    }
    uint32_t errors = rng_double(&b->rng) < n * 0.0005;
    c->errors += errors;
    c->error_events += errors;
    c->good += n - errors;
}

static uint32_t make_spans(struct bench *b, uint64_t tick, uint32_t weight)
{
    memmove(b->routed[1], b->routed[0], sizeof b->routed - sizeof b->routed[0]);
    memmove(b->done[1], b->done[0], sizeof b->done - sizeof b->done[0]);
    uint32_t per_tick = b->rate * ROLLOUT_TICK_MS / 1000;
    b->routed[0][1] = jitter(b, per_tick * (double)weight / ROLLOUT_WEIGHT_FULL);
    b->routed[0][0] = per_tick - b->routed[0][1];
    b->done[0][0] = b->done[0][1] = 0;
    uint32_t n = 0;
    for (int age = LAGS - 1; age >= 0; age--) {
        if (tick < (uint64_t)age || b->routed[age][0] == 0)
            continue;
        struct rollout_span_delta *span = &b->spans[n++];
        *span = (struct rollout_span_delta){.tick = tick - (uint64_t)age, .table = 1, .weight = weight};
        for (int arm = 0; arm < 2; arm++) {
            uint32_t due = (uint32_t)(b->routed[age][arm] * DONE_BY[age]) - b->done[age][arm];
            span->arms[arm].routed = age == 0 ? b->routed[0][arm] : 0;
            span->arms[arm].units = span->arms[arm].routed;
            count(b, &span->arms[arm], due, arm == ROLLOUT_ARM_CANARY);
            b->done[age][arm] += due;
        }
    }
    return n;
}

static void die(const char *what, const struct fault *problem)
{
    fprintf(stderr, "store_tick_bench: %s: %s\n", what, problem->text);
    exit(1);
}

static void append(struct bench *b, enum journal_kind kind, struct slice payload, int64_t time_ms,
                   enum journal_sync sync)
{
    struct fault problem;
    struct journal_entry entry = {
        .time_ms = time_ms, .kind = kind, .run = 1, .subject = "bench", .payload = payload};
    if (journal_begin(b->journal, sync, &problem) != STATUS_OK ||
        journal_append(b->journal, &entry, NULL, &problem) != STATUS_OK ||
        journal_commit(b->journal, &problem) != STATUS_OK)
        die("journal", &problem);
}

static void feed(struct bench *b, const struct rollout_input *input, struct rollout_effects *effects)
{
    struct wire_writer w = {.data = b->wire, .cap = ROLLOUT_INPUT_WIRE_BYTES_MAX};
    rollout_input_encode(input, &w);
    b->bytes += w.len;
    append(b, JOURNAL_INPUT, (struct slice){(const char *)b->wire, w.len}, input->time_ms,
           JOURNAL_SYNC_NORMAL);
    rollout_step(b->rollout, input, effects);
    if (!effects->changed && !effects->has_verdict)
        return;
    w = (struct wire_writer){.data = b->wire, .cap = ROLLOUT_INPUT_WIRE_BYTES_MAX};
    rollout_effects_encode(effects, &w);
    append(b, JOURNAL_DECISION, (struct slice){(const char *)b->wire, w.len}, input->time_ms,
           JOURNAL_SYNC_FULL);
}

static void begin_rollout(struct bench *b, int64_t start_ms)
{
    static struct rollout_spec spec;
    static struct rollout_effects effects;
    rollout_spec_init(&spec);
    snprintf(spec.name, sizeof spec.name, "bench");
    snprintf(spec.service, sizeof spec.service, "s");
    snprintf(spec.from, sizeof spec.from, "v1");
    snprintf(spec.to, sizeof spec.to, "v2");
    rollout_spec_default_stages(&spec);
    for (uint32_t i = 0; i < spec.stage_count; i++)
        spec.stages[i].min_ms = 10 * 60 * 1000;
    spec.throughput.on = true;
    spec.errors.share = spec.latency.share = spec.throughput.share = 1.0 / 3;
    spec.keyed = b->keyed;
    struct rollout_input input = {.kind = ROLLOUT_INPUT_SPEC, .time_ms = start_ms, .spec = &spec};
    feed(b, &input, &effects);
    input = (struct rollout_input){
        .kind = ROLLOUT_INPUT_COMMAND, .time_ms = start_ms, .command = {.command = ROLLOUT_COMMAND_START}};
    feed(b, &input, &effects);
    input = (struct rollout_input){
        .kind = ROLLOUT_INPUT_EDGES, .time_ms = start_ms, .edges = {100000, {5000, 20000, 90000, 400000}}};
    feed(b, &input, &effects);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void run(struct bench *b)
{
    const int64_t start_ms = 1700000000000;
    struct rollout_view view;
    struct rollout_effects effects;
    begin_rollout(b, start_ms);
    for (uint64_t tick = 0; tick < b->ticks; tick++) {
        rollout_view_get(b->rollout, &view);
        uint32_t n = make_spans(b, tick, view.weight);
        struct rollout_input input = {.kind = ROLLOUT_INPUT_TICK,
                                      .time_ms = start_ms + (int64_t)(tick + 1) * ROLLOUT_TICK_MS,
                                      .tick = {.tick = tick, .span_count = n, .spans = b->spans}};
        double begin = now_us();
        feed(b, &input, &effects);
        b->tick_us[tick] = now_us() - begin;
        if (isatty(2) && tick % 1000 == 0)
            fprintf(stderr, "\r%llu of %llu ticks", (unsigned long long)tick, (unsigned long long)b->ticks);
    }
    rollout_view_get(b->rollout, &view);
    qsort(b->tick_us, b->ticks, sizeof *b->tick_us, compare);
    double file = (double)journal_bytes(b->journal);
    printf("| ticks | requests/s | assignment | tick µs p50 | p99 | max | bytes per tick | journal MiB | MiB "
           "per hour | state at the end |\n"
           "|---|---|---|---|---|---|---|---|---|---|\n"
           "| %llu | %u | %s | %.0f | %.0f | %.0f | %.0f | %.1f | %.1f | %s, stage %u |\n",
           (unsigned long long)b->ticks, b->rate, b->keyed ? "by unit" : "per request",
           b->tick_us[b->ticks / 2], b->tick_us[b->ticks * 99 / 100], b->tick_us[b->ticks - 1],
           (double)b->bytes / (double)b->ticks, file / 1048576.0,
           file / 1048576.0 * 36000.0 / (double)b->ticks, rollout_state_name(view.state), view.stage);
}

int main(int argc, char **argv)
{
    struct bench b = {.ticks = 36000, .rate = 20000};
    char path[64] = "/tmp/sluice-tick-XXXXXX";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--keyed") == 0)
            b.keyed = true;
        else if (strcmp(argv[i], "--ticks") == 0 && i + 1 < argc)
            b.ticks = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--rate") == 0 && i + 1 < argc)
            b.rate = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--path") == 0 && i + 1 < argc)
            b.path = argv[++i];
        else
            return fprintf(stderr,
                           "usage: store_tick_bench [--ticks N] [--rate N] [--keyed] [--path FILE]\n"),
                   2;
    }
    if (b.path == NULL) {
        close(mkstemp(path));
        unlink(path);
        b.path = path;
    }
    struct fault problem;
    rng_init(&b.rng, 1);
    b.rollout = heap_alloc(1, rollout_size());
    b.wire = heap_alloc(1, ROLLOUT_INPUT_WIRE_BYTES_MAX);
    b.tick_us = heap_alloc(b.ticks, sizeof *b.tick_us);
    if (b.ticks == 0 || b.rollout == NULL || b.wire == NULL || b.tick_us == NULL)
        return 1;
    if (journal_open(b.path, JOURNAL_WRITE, &b.journal, &problem) != STATUS_OK)
        die("open", &problem);
    rollout_init(b.rollout);
    run(&b);
    journal_close(b.journal);
    if (b.path == path) {
        static const char *const ENDS[] = {"", "-wal", "-shm", ".lock"};
        for (int i = 0; i < 4; i++) {
            char name[96];
            snprintf(name, sizeof name, "%s%s", path, ENDS[i]);
            unlink(name);
        }
    }
    heap_free(b.rollout);
    heap_free(b.wire);
    heap_free(b.tick_us);
    return 0;
}
