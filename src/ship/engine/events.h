// SPDX-License-Identifier: Apache-2.0
// Evidence about a flag that its users send: each event is one use of the flag by one targeting key, and how
// it ended. Which arm the key is in is asked of the set in force; ring members are in none.
#pragma once

#include "flags/eval/evaluate.h"
#include "ship/engine/engine.h"

struct engine_event {
    struct slice flag;
    const struct flags_context *context;
    bool error;
    bool has_latency;
    uint64_t latency_us;
};

enum engine_event_outcome {
    ENGINE_EVENT_COUNTED,  // in the arm of its key
    ENGINE_EVENT_RING,     // counted for the kill switch alone: a ring is not compared
    ENGINE_EVENT_NO_ARM,   // no targeting key, or the flag's rules gave something else
    ENGINE_EVENT_UNWANTED, // no rollout under way takes events of this flag
    ENGINE_EVENT_LOST,     // more spans than fit between two ticks: counted as lost
};

enum engine_event_outcome engine_flag_event(struct engine *engine, const struct engine_event *event);
