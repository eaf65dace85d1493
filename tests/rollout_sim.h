// SPDX-License-Identifier: Apache-2.0
// A small service for the rollout's tests and benches: seeded requests on two arms, each with an error rate,
// a latency and a delay until its outcome is known, given to a machine tick by tick as the engine would.
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/rng.h"
#include "ship/rollout/rollout.h"

enum { SIM_RING = 512, SIM_DELAYS = 6 };
static const uint32_t sim_delay_ticks[SIM_DELAYS] = {0, 1, 2, 5, 10, 150};

struct sim_arm {
    double error_rate;
    int error_delay; // index into sim_delay_ticks
    double slowdown; // every answer takes this many times the baseline's
    double lost;     // share of good answers that come too late to count as good
};

struct sim_span {
    uint64_t tick;
    uint64_t table;
    uint32_t weight;
    struct rollout_counts known[SIM_DELAYS][ROLLOUT_ARMS]; // by the delay after which they are known
};

struct sim {
    struct rollout *rollout;
    struct rng rng;
    struct sim_arm arms[ROLLOUT_ARMS];
    double tails[ROLLOUT_ARMS][ROLLOUT_EDGES];
    double tails_margin[ROLLOUT_ARMS][ROLLOUT_EDGES];
    uint32_t per_tick;      // requests
    uint32_t delay_longest; // ticks, of the last of sim_delay_ticks
    uint64_t tick;
    uint64_t table;
    uint32_t weight;
    int64_t time_ms;
    uint64_t requests;
    struct sim_span spans[SIM_RING];
    struct rollout_effects effects;
    struct rollout_span_delta deltas[SIM_DELAYS];
    // Sees every input before the machine does (recording, timing); may be NULL.
    void (*hook)(void *context, const struct rollout_input *input);
    void *context;
};

static inline struct sim *sim_create(const struct rollout_spec *spec, uint64_t seed, uint32_t per_tick)
{
    struct sim *sim = calloc(1, sizeof *sim);
    CHECK(sim != NULL);
    sim->rollout = malloc(rollout_size());
    CHECK(sim->rollout != NULL);
    rollout_init(sim->rollout);
    rng_init(&sim->rng, seed);
    sim->per_tick = per_tick;
    sim->delay_longest = sim_delay_ticks[SIM_DELAYS - 1];
    sim->time_ms = 1760000000000;
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        sim->arms[arm] = (struct sim_arm){.slowdown = 1.0};
    struct rollout_input input = {.kind = ROLLOUT_INPUT_SPEC, .time_ms = sim->time_ms, .spec = spec};
    rollout_step(sim->rollout, &input, &sim->effects);
    CHECK(sim->effects.refused == STATUS_OK);
    return sim;
}

static inline void sim_destroy(struct sim *sim)
{
    free(sim->rollout);
    free(sim);
}

static inline void sim_step(struct sim *sim, const struct rollout_input *input)
{
    if (sim->hook != NULL)
        sim->hook(sim->context, input);
    rollout_step(sim->rollout, input, &sim->effects);
    if (sim->effects.publish && sim->effects.weight != sim->weight) {
        sim->weight = sim->effects.weight;
        sim->table++;
    }
}

static inline void sim_command(struct sim *sim, enum rollout_command command)
{
    struct rollout_input input = {.kind = ROLLOUT_INPUT_COMMAND, .time_ms = sim->time_ms};
    input.command.command = command;
    memcpy(input.command.who, "tester", 7);
    sim_step(sim, &input);
}

// From now on the arm's answers take `slowdown` times the baseline's. Latency is lognormal with sigma 1.
static inline void sim_slow_down(struct sim *sim, enum rollout_arm arm, double slowdown)
{
    static const double z[ROLLOUT_EDGES] = {0.0, 1.2815515655446004, 2.3263478740408408, 3.0902323061678132};
    const struct rollout_check_latency *latency = &rollout_spec_of(sim->rollout)->latency;
    double margin = log(latency->margin);
    double worse = arm == ROLLOUT_ARM_CANARY ? log(latency->worse) : 0.0;
    double shift = log(slowdown);
    sim->arms[arm].slowdown = slowdown;
    for (int k = 0; k < ROLLOUT_EDGES; k++) {
        sim->tails[arm][k] = 0.5 * erfc((z[k] + worse - shift) / sqrt(2.0));
        sim->tails_margin[arm][k] = 0.5 * erfc((z[k] + margin - shift) / sqrt(2.0));
    }
}

// Starts, and gives edges if the machine waits for them.
static inline void sim_start(struct sim *sim)
{
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        sim_slow_down(sim, (enum rollout_arm)arm, sim->arms[arm].slowdown);
    sim_command(sim, ROLLOUT_COMMAND_START);
    CHECK(sim->effects.refused == STATUS_OK);
    if (sim->effects.to != ROLLOUT_BASELINE)
        return;
    struct rollout_input input = {.kind = ROLLOUT_INPUT_EDGES,
                                  .time_ms = sim->time_ms,
                                  .edges = {.requests = 10000, .edge_us = {50000, 180000, 512000, 1100000}}};
    sim_step(sim, &input);
}

static inline void sim_request(struct sim *sim, struct sim_span *span)
{
    int arm =
        rng_below(&sim->rng, ROLLOUT_WEIGHT_FULL) < span->weight ? ROLLOUT_ARM_CANARY : ROLLOUT_ARM_STABLE;
    const struct sim_arm *kind = &sim->arms[arm];
    sim->requests++;
    span->known[0][arm].routed++;
    if (rng_double(&sim->rng) < kind->error_rate) {
        struct rollout_counts *counts = &span->known[kind->error_delay][arm];
        counts->completed++;
        counts->errors++;
        counts->error_events++;
        counts->failed++;
        return;
    }
    double u = rng_double(&sim->rng);
    const double *tails = sim->tails[arm];
    int delay = u < tails[3] ? 4 : u < tails[2] ? 2 : u < tails[1] ? 1 : 0;
    struct rollout_counts *counts = &span->known[delay][arm];
    counts->completed++;
    counts->good += !(kind->lost > 0.0) || rng_double(&sim->rng) >= kind->lost;
    for (int k = 0; k < ROLLOUT_EDGES; k++) {
        counts->slow[k] += u < tails[k];
        counts->slow_margin[k] += u < sim->tails_margin[arm][k];
    }
}

// One tick of traffic, then one TICK input with the outcomes that became known in it.
static inline void sim_tick(struct sim *sim)
{
    sim->tick++;
    sim->time_ms += ROLLOUT_TICK_MS;
    struct sim_span *span = &sim->spans[sim->tick % SIM_RING];
    *span = (struct sim_span){.tick = sim->tick, .table = sim->table, .weight = sim->weight};
    for (uint32_t i = 0; i < sim->per_tick; i++)
        sim_request(sim, span);
    uint32_t count = 0;
    for (int d = SIM_DELAYS - 1; d >= 0; d--) {
        uint32_t delay = d == SIM_DELAYS - 1 ? sim->delay_longest : sim_delay_ticks[d];
        if (sim->tick <= delay)
            continue;
        const struct sim_span *from = &sim->spans[(sim->tick - delay) % SIM_RING];
        static const struct rollout_counts nothing[ROLLOUT_ARMS];
        if (from->tick != sim->tick - delay || memcmp(from->known[d], nothing, sizeof nothing) == 0)
            continue;
        struct rollout_span_delta *delta = &sim->deltas[count++];
        *delta =
            (struct rollout_span_delta){.tick = from->tick, .table = from->table, .weight = from->weight};
        memcpy(delta->arms, from->known[d], sizeof delta->arms);
    }
    struct rollout_input input = {.kind = ROLLOUT_INPUT_TICK, .time_ms = sim->time_ms};
    input.tick.tick = sim->tick + 1;
    input.tick.span_count = count;
    input.tick.spans = sim->deltas;
    sim_step(sim, &input);
}

// Runs ticks until one of the states in the mask is reached. False: not within ticks_max.
static inline bool sim_until(struct sim *sim, uint32_t state_mask, uint64_t ticks_max)
{
    for (uint64_t i = 0; i < ticks_max; i++) {
        sim_tick(sim);
        if ((state_mask & (1u << sim->effects.to)) != 0)
            return true;
    }
    return false;
}

static const uint32_t sim_back = 1u << ROLLOUT_ROLLING_BACK | 1u << ROLLOUT_ROLLED_BACK;
static const uint32_t sim_end =
    1u << ROLLOUT_ROLLING_BACK | 1u << ROLLOUT_ROLLED_BACK | 1u << ROLLOUT_COMPLETED;

// A spec with names and weights in percent, each stage of min_ms; the soak as long as soak_ms.
static inline void sim_spec(struct rollout_spec *spec, const uint32_t *percents, uint32_t count,
                            uint64_t min_ms, uint64_t soak_ms)
{
    rollout_spec_init(spec);
    memcpy(spec->name, "shop-v2", 8);
    memcpy(spec->service, "shop", 5);
    memcpy(spec->from, "v1", 3);
    memcpy(spec->to, "v2", 3);
    spec->warmup_ms = 0;
    spec->stage_count = count;
    for (uint32_t i = 0; i < count; i++)
        spec->stages[i] = (struct rollout_stage){.kind = ROLLOUT_STAGE_WEIGHT,
                                                 .weight = percents[i] * 1000,
                                                 .min_ms = min_ms,
                                                 .horizon_ms = 3600000,
                                                 .soak_ms = soak_ms};
}
