// SPDX-License-Identifier: Apache-2.0
// A whole rollout of the real core over noise.h: each tick's counts are given to it, and its weight to the
// next tick.
#pragma once

#include <stdlib.h>

#include "noise.h"

enum { RUN_HELD_MAX = 8192, RUN_SPANS_MAX = 512 };

struct held {
    uint64_t known_tick, tick, table;
    uint32_t weight, weight_control;
    int arm;
    struct noise_counts counts;
};

struct run {
    struct rollout *rollout;
    struct rollout_effects effects;
    struct noise noise;
    uint64_t tick, table;
    uint32_t weight, weight_control;
    uint64_t shifted_tick;  // of the first canary request
    uint32_t promoted_from; // weight of the latest stage passed by evidence
    uint32_t held_count;
    struct held held[RUN_HELD_MAX];
    struct rollout_span_delta deltas[RUN_SPANS_MAX];
};

// ---- a rollout over noise ----

static inline void run_step(struct run *run, const struct rollout_input *input)
{
    rollout_step(run->rollout, input, &run->effects);
    CHECK(run->effects.refused == STATUS_OK);
    if (run->effects.has_verdict && run->effects.verdict.outcome == ROLLOUT_OUTCOME_PROMOTED)
        run->promoted_from = run->weight;
    if (!run->effects.publish || run->effects.weight == run->weight)
        return;
    run->weight = run->effects.weight;
    uint32_t left = ROLLOUT_WEIGHT_FULL - run->weight;
    bool control = rollout_spec_of(run->rollout)->control;
    run->weight_control = !control ? 0 : left < run->weight ? left : run->weight;
    run->table++;
}

static inline void run_begin(struct run *run, const struct rollout_spec *spec)
{
    struct rollout *kept = run->rollout;
    memset(run, 0, sizeof *run);
    run->rollout = kept != NULL ? kept : malloc(rollout_size());
    CHECK(run->rollout != NULL);
    rollout_init(run->rollout);
    run_step(run, &(struct rollout_input){.kind = ROLLOUT_INPUT_SPEC, .spec = spec});
    run_step(run, &(struct rollout_input){.kind = ROLLOUT_INPUT_COMMAND});
    if (!spec->latency.on)
        return;
    struct rollout_input input = {.kind = ROLLOUT_INPUT_EDGES};
    noise_edges(&input.edges);
    run_step(run, &input);
}

static inline void run_add(struct rollout_span_delta *delta, int arm, const struct noise_counts *counts,
                           bool routed)
{
    struct rollout_counts *to = &delta->arms[arm];
    to->routed += routed ? counts->routed : 0;
    to->units = to->routed;
    to->completed += counts->routed;
    to->errors += counts->failed;
    to->error_events += counts->failed;
    to->failed += counts->failed;
    to->good += counts->routed - counts->failed;
    for (int k = 0; k < ROLLOUT_EDGES; k++) {
        to->slow[k] += counts->slow[k];
        to->slow_margin[k] += counts->slow_margin[k];
    }
}

static inline void run_give(struct run *run, uint32_t count)
{
    struct rollout_input input = {.kind = ROLLOUT_INPUT_TICK,
                                  .time_ms = (int64_t)run->tick * ROLLOUT_TICK_MS};
    input.tick.tick = run->tick;
    input.tick.spans = run->deltas;
    input.tick.span_count = count;
    run_step(run, &input);
}

static inline void run_tick(struct run *run)
{
    double full = ROLLOUT_WEIGHT_FULL;
    double weights[ROLLOUT_ARMS] = {
        [ROLLOUT_ARM_CANARY] = run->weight / full, [ROLLOUT_ARM_CONTROL] = run->weight_control / full};
    weights[ROLLOUT_ARM_STABLE] = 1.0 - weights[ROLLOUT_ARM_CANARY] - weights[ROLLOUT_ARM_CONTROL];
    rollout_yardstick_get(run->rollout, &run->noise.by);
    noise_tick(&run->noise, weights);
    run->shifted_tick = run->shifted_tick == 0 && run->weight > 0 ? run->tick : run->shifted_tick;
    struct rollout_span_delta *now = &run->deltas[0];
    *now = (struct rollout_span_delta){
        .tick = run->tick, .table = run->table, .weight = run->weight, .weight_control = run->weight_control};
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        run_add(now, arm, &run->noise.now[arm], true);
    for (uint32_t i = 0; i < run->noise.held_count && run->held_count < RUN_HELD_MAX; i++) {
        const struct noise_held *from = &run->noise.held[i];
        now->arms[from->arm].routed += from->counts.routed;
        run->held[run->held_count++] = (struct held){.known_tick = from->known_tick,
                                                     .tick = run->tick,
                                                     .table = run->table,
                                                     .weight = run->weight,
                                                     .weight_control = run->weight_control,
                                                     .arm = from->arm,
                                                     .counts = from->counts};
    }
    uint32_t count = 1;
    run->tick++;
    for (uint32_t i = 0; i < run->held_count && count < RUN_SPANS_MAX;) {
        struct held *held = &run->held[i];
        if (held->known_tick > run->tick) {
            i++;
            continue;
        }
        run->deltas[count] = (struct rollout_span_delta){.tick = held->tick,
                                                         .table = held->table,
                                                         .weight = held->weight,
                                                         .weight_control = held->weight_control};
        run_add(&run->deltas[count++], held->arm, &held->counts, false);
        *held = run->held[--run->held_count];
    }
    run_give(run, count);
}

static inline bool run_ended(const struct run *run)
{
    enum rollout_state state = run->effects.to;
    return state == ROLLOUT_ROLLING_BACK || state == ROLLOUT_ROLLED_BACK || state == ROLLOUT_COMPLETED;
}

static inline bool run_is_back(const struct run *run)
{
    return run->effects.to == ROLLOUT_ROLLING_BACK || run->effects.to == ROLLOUT_ROLLED_BACK;
}

static inline void run_spec(struct rollout_spec *spec, const uint32_t *percents, uint32_t stages,
                            uint32_t stage_s, uint32_t soak_s)
{
    rollout_spec_init(spec);
    memcpy(spec->name, "shop-v2", 8);
    memcpy(spec->service, "shop", 5);
    memcpy(spec->from, "v1", 3);
    memcpy(spec->to, "v2", 3);
    spec->warmup_ms = 0;
    spec->stage_count = stages;
    for (uint32_t i = 0; i < stages; i++)
        spec->stages[i] = (struct rollout_stage){.kind = ROLLOUT_STAGE_WEIGHT,
                                                 .weight = percents[i] * 1000,
                                                 .min_ms = stage_s * 1000,
                                                 .horizon_ms = stage_s * 1000,
                                                 .soak_ms = soak_s * 1000};
}
