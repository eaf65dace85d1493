// SPDX-License-Identifier: Apache-2.0
// What the engine thread pays for deciding: one hour of ticks at 20 000 requests per second, with all three
// checks on. Prints time per tick and bytes of the encoded input, then the worst case: 300 spans held open.
#include <stdio.h>
#include <time.h>

#include "../tests/rollout_sim.h"

enum { TICKS = 36000, HELD_TICKS = 2000 };

struct measure {
    uint32_t count;
    uint64_t bytes;
    uint64_t bytes_max;
    uint64_t ns[TICKS];
};
static struct measure measure;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return (*x > *y) - (*x < *y);
}

static void report(const char *title)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < measure.count; i++)
        sum += measure.ns[i];
    qsort(measure.ns, measure.count, sizeof measure.ns[0], by_size);
    printf("%-34s %6u ticks: mean %6.1f us, p50 %6.1f, p99 %6.1f, max %6.1f; input %4.0f bytes, at most %u\n",
           title, measure.count, (double)sum / measure.count / 1e3,
           (double)measure.ns[measure.count / 2] / 1e3, (double)measure.ns[measure.count * 99 / 100] / 1e3,
           (double)measure.ns[measure.count - 1] / 1e3, (double)measure.bytes / measure.count,
           (unsigned)measure.bytes_max);
}

// One tick of traffic as sim_tick makes it, with the machine's step timed alone.
static void record(void *context, const struct rollout_input *input)
{
    static uint8_t bytes[ROLLOUT_INPUT_WIRE_BYTES_MAX];
    struct wire_writer writer = {.data = bytes, .cap = sizeof bytes};
    rollout_input_encode(input, &writer);
    measure.bytes += writer.len;
    measure.bytes_max = writer.len > measure.bytes_max ? writer.len : measure.bytes_max;
    // The step is pure: time it on a copy of the machine's state, which the real step then repeats.
    struct sim *sim = context;
    static struct rollout *twin;
    if (twin == NULL)
        twin = malloc(rollout_size());
    CHECK(twin != NULL);
    memcpy(twin, sim->rollout, rollout_size());
    struct rollout_effects effects;
    uint64_t begin = now_ns();
    rollout_step(twin, input, &effects);
    measure.ns[measure.count++ % TICKS] = now_ns() - begin;
}

static void run(const char *title, bool keyed, int error_delay, uint32_t per_tick, uint32_t ticks)
{
    static const uint32_t percents[] = {10, 50};
    struct rollout_spec spec;
    sim_spec(&spec, percents, 2, 1800000, 0);
    spec.throughput = (struct rollout_check_throughput){.on = true, .share = 0.3, .margin = 1.1};
    spec.keyed = keyed;
    spec.alpha = 1e-9; // the bench must not end early
    struct sim *sim = sim_create(&spec, 1, per_tick);
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        sim->arms[arm] = (struct sim_arm){.error_rate = 0.002, .error_delay = error_delay, .slowdown = 1.0};
    sim->delay_longest = 299;
    sim_start(sim);
    for (int i = 0; i < 400; i++)
        sim_tick(sim);
    memset(&measure, 0, sizeof measure);
    sim->hook = record;
    sim->context = sim;
    for (uint32_t i = 0; i < ticks; i++)
        sim_tick(sim);
    CHECK((sim_back & (1u << sim->effects.to)) == 0);
    report(title);
    sim_destroy(sim);
}

int main(int argc, char **argv)
{
    uint32_t ticks = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : TICKS;
    ticks = ticks > 0 && ticks < TICKS ? ticks : TICKS;
    printf("state of one rollout: %zu bytes\n", rollout_size());
    run("an hour at 20 000 rps", false, 2, 2000, ticks);
    run("300 spans held open", false, 5, 2000, HELD_TICKS);
    run("300 spans held open, keyed", true, 5, 2000, HELD_TICKS);
    return 0;
}
