// SPDX-License-Identifier: Apache-2.0
// What a rollout can move and what it can be judged by, and the engine put together with them: routing, flags
// at runtime, the targets and the sources of evidence. Belongs to the engine's thread.
#pragma once

#include "daemon/config/config.h"
#include "flags/eval/evaluate.h"
#include "flags/runtime/runtime.h"
#include "operate/log/log.h"
#include "ship/engine/engine.h"
#include "ship/routing/routing.h"

// The engine's world.
struct targets {
    struct engine *engine;
    struct proxy *proxy;
    struct routing *routing;
    struct runtime *runtime;
    struct shadow *shadow; // NULL: none
    struct engine_metric_source routing_metrics;
    struct engine_metric_source runtime_metrics;
};

struct targets_parts {
    struct config *config;   // taken on success
    struct io_loop *loop;    // borrowed, as all that follows
    struct proxy *proxy;     // created, not started yet
    struct journal *journal; // open for writing
    struct log *log;
    struct shadow *shadow; // NULL: what is mirrored is not compared
    uint64_t secret[2];    // see struct engine_parts
    uint32_t workers;      // of the proxy: each counts evaluations of flags of its own
    uint32_t flag_readers; // other threads that do (FLAGSET_READERS_MAX together)
};

// As engine_create; on failure nothing is kept.
MUST_USE enum status targets_create(const struct targets_parts *parts, struct targets **targets,
                                    struct fault *fault);
void targets_destroy(struct targets *targets); // as engine_destroy; NULL is allowed

// Checks a change of endpoints by an operator, journals it, and puts it in force: the answers of
// routing_override_check and engine_journal_append.
MUST_USE enum status targets_endpoints_change(struct targets *targets, const struct routing_override *change,
                                              struct fault *fault);

static inline struct targets *targets_of(const struct engine *engine)
{
    return engine_world(engine);
}

// ---- events: evidence that users of a flag send ----

// One use of the flag by one targeting key, and how it ended. Which arm the key is in is asked of the set in
// force; ring members are in none.
struct targets_event {
    struct slice flag;
    const struct flags_context *context;
    bool error;
    bool has_latency;
    uint64_t latency_us;
};

enum targets_event_outcome {
    TARGETS_EVENT_COUNTED,  // in the arm of its key
    TARGETS_EVENT_RING,     // counted for the kill switch alone: a ring is not compared
    TARGETS_EVENT_NO_ARM,   // no targeting key, or the flag's rules gave something else
    TARGETS_EVENT_UNWANTED, // no rollout under way takes events of this flag
    TARGETS_EVENT_EXCUSED,  // its key had a judged event in the same second
    TARGETS_EVENT_LOST,     // more spans than fit between two ticks: counted as lost
};

enum targets_event_outcome targets_event_count(struct engine *engine, const struct targets_event *event);
