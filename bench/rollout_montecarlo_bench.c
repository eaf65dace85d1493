// SPDX-License-Identifier: Apache-2.0
// Whole rollouts, looked at ten times a second: how often a version that is no worse is taken back (at most
// alpha, 1 %), and how soon a bad one leaves, with every part of the machine in between.
#include <stdio.h>

#include "../tests/rollout_sim.h"

static const uint32_t ramp[] = {1, 5, 10, 25, 50, 100};
enum { STAGE_MS = 8000, SOAK_MS = 15000, RAMP_TICKS = 5 * STAGE_MS / 100 + SOAK_MS / 100 + 50 };

// A rollout whose stages go on at their horizon whatever the evidence, so that each is long and has every
// stage.
static void spec_ramp(struct rollout_spec *spec)
{
    sim_spec(spec, ramp, 6, STAGE_MS, SOAK_MS);
    spec->throughput = (struct rollout_check_throughput){.on = true, .share = 0.25, .margin = 1.1};
    spec->undecided = ROLLOUT_UNDECIDED_PROCEED;
    for (uint32_t i = 0; i < spec->stage_count; i++)
        spec->stages[i].horizon_ms = STAGE_MS;
}

static void false_rollbacks(const char *title, int rollouts, double error_rate, int stable_delay,
                            int canary_delay, bool keyed)
{
    int back = 0;
    int completed = 0;
    uint64_t requests = 0;
    uint64_t looks = 0;
    for (int i = 0; i < rollouts; i++) {
        struct rollout_spec spec;
        spec_ramp(&spec);
        spec.keyed = keyed;
        struct sim *sim = sim_create(&spec, 77000 + (uint64_t)i, 100);
        sim->arms[ROLLOUT_ARM_STABLE] =
            (struct sim_arm){.error_rate = error_rate, .error_delay = stable_delay, .slowdown = 1.0};
        sim->arms[ROLLOUT_ARM_CANARY] =
            (struct sim_arm){.error_rate = error_rate, .error_delay = canary_delay, .slowdown = 1.0};
        sim_start(sim);
        (void)sim_until(sim, sim_end, RAMP_TICKS);
        back += (sim_back & (1u << sim->effects.to)) != 0;
        completed += sim->effects.to == ROLLOUT_COMPLETED;
        requests += sim->requests;
        looks += sim->tick;
        sim_destroy(sim);
    }
    printf("%-46s %5d rollouts: %3d taken back (%.2f %%), %d completed; %.0f requests, %.0f looks each\n",
           title, rollouts, back, 100.0 * back / rollouts, completed, (double)requests / rollouts,
           (double)looks / rollouts);
    fflush(stdout);
}

static void detection(const char *title, uint32_t percent, uint32_t per_tick, struct sim_arm stable,
                      struct sim_arm canary)
{
    enum { ROLLOUTS = 40 };
    uint64_t ticks = 0;
    uint64_t requests = 0;
    int missed = 0;
    for (int i = 0; i < ROLLOUTS; i++) {
        struct rollout_spec spec;
        sim_spec(&spec, &percent, 1, 3600000, 0);
        struct sim *sim = sim_create(&spec, 1000 + (uint64_t)i, per_tick);
        sim->arms[ROLLOUT_ARM_STABLE] = stable;
        sim->arms[ROLLOUT_ARM_CANARY] = canary;
        sim_start(sim);
        missed += !sim_until(sim, sim_back, 6000);
        ticks += sim->tick;
        requests += sim->requests;
        sim_destroy(sim);
    }
    printf("%-46s weight %2u %%, %5u rps: %6.1f s, %8.0f requests on average, %d of %d not within 10 min\n",
           title, percent, per_tick * 10, (double)ticks / ROLLOUTS / 10.0, (double)requests / ROLLOUTS,
           missed, ROLLOUTS);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int rollouts = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1500;
    false_rollbacks("alike, 1 % errors", rollouts, 0.01, 0, 0, false);
    false_rollbacks("alike, 5 % errors", rollouts, 0.05, 0, 0, false);
    false_rollbacks("alike, 1 % errors, keyed", rollouts, 0.01, 0, 0, true);
    false_rollbacks("1 % errors, canary fast, baseline 15 s late", rollouts / 4, 0.01, 5, 0, false);
    struct sim_arm fine = {.error_rate = 0.001, .slowdown = 1.0};
    struct sim_arm slow = {.error_rate = 0.001, .slowdown = 1.25};
    struct sim_arm slower = {.error_rate = 0.001, .slowdown = 2.0};
    struct sim_arm bad = {.error_rate = 0.005, .slowdown = 1.0};
    struct sim_arm dead = {.error_rate = 1.0, .slowdown = 1.0};
    detection("errors .1 -> .5 %", 50, 100, fine, bad);
    detection("errors .1 -> .5 %", 10, 100, fine, bad);
    detection("every request fails", 1, 100, fine, dead);
    detection("every request fails", 1, 2000, fine, dead);
    detection("every request fails", 50, 10, fine, dead);
    detection("all latencies +25 %", 50, 100, fine, slow);
    detection("all latencies +100 %", 50, 100, fine, slower);
    return 0;
}
