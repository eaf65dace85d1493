// SPDX-License-Identifier: Apache-2.0
// Evidence about a flag that its users send: each event is one use of the flag by one targeting key, and how
// it ended. Which arm the key is in is asked of the set in force; ring members are in none.
#pragma once

#include "control/control.h"
#include "flags/evaluate.h"

struct control_event {
    struct slice flag;
    const struct flags_context *context;
    bool error;
    bool has_latency;
    uint64_t latency_us;
};

enum control_event_outcome {
    CONTROL_EVENT_COUNTED,  // in the arm of its key
    CONTROL_EVENT_RING,     // counted for the kill switch alone: a ring is not compared
    CONTROL_EVENT_NO_ARM,   // no targeting key, or the flag's rules gave something else
    CONTROL_EVENT_UNWANTED, // no rollout under way takes events of this flag
    CONTROL_EVENT_LOST,     // more spans than fit between two ticks: counted as lost
};

enum control_event_outcome control_flag_event(struct control *control, const struct control_event *event);
