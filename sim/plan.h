// SPDX-License-Identifier: Apache-2.0
// What one seed means: the daemon's setting, the new version's nature, which faults there are and when. Every
// kind is drawn from its own stream of random numbers, so that one more crash does not move the disk's
// faults.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/text.h"
#include "net/io/sim.h"
#include "operate/load/origin.h"
#include "ship/rollout/rollout.h"
#include "ship/store/fault_vfs.h"

enum {
    PLAN_EVENTS_MAX = 64,
    PLAN_YAML_BYTES = 4096,
    PLAN_SESSIONS = 600, // of keyed units; also the length of the list of requests
    PLAN_SERVICES_MAX = 2,
};

// What the new version is like.
enum plan_nature {
    PLAN_GOOD,
    PLAN_FEW_ERRORS, // 2 %: neither clearly good nor clearly bad
    PLAN_SLOW_TAIL,
    PLAN_MANY_ERRORS, // 30 %
    PLAN_REFUSES,
    PLAN_GARBAGE,
    PLAN_STALLS,
    PLAN_CUTS,
    PLAN_NATURES
};
const char *plan_nature_name(enum plan_nature nature);
// So bad that it must be taken back.
bool plan_nature_is_bad(enum plan_nature nature);

enum plan_origin { PLAN_STABLE, PLAN_CANARY, PLAN_CONTROL, PLAN_ORIGINS };

enum plan_event_kind {
    PLAN_DAEMON_CRASH,     // after `count` more operations on the disk, at once if 0
    PLAN_ORIGIN_CRASH,     // origin `count`; back after down_us
    PLAN_DISK_FULL,        // for down_us
    PLAN_SYNC_FAILS,       // the count-th sync from now
    PLAN_COMMAND,          // command
    PLAN_CLOCK_STEP,       // by step_ms
    PLAN_RELOAD,           // the same file again
    PLAN_NETWORK_FAULTS,   // for down_us
    PLAN_CRASH_IN_COMMAND, // the power goes before operation `count` of writing command down
    PLAN_FULL_IN_COMMAND,  // the disk is full from write `count` of writing command down, for down_us
    PLAN_ORIGIN_TURNS,     // origin `count` behaves as `behaviour` for down_us
    PLAN_RESTART,          // in good order
    PLAN_EVENT_KINDS
};
const char *plan_service_name(uint32_t service);
const char *plan_rollout_name(uint32_t service); // of that service
const char *plan_event_name(enum plan_event_kind kind);

struct plan_event {
    uint64_t at_us;
    enum plan_event_kind kind;
    uint64_t count;
    uint64_t down_us;
    int64_t step_ms;
    bool silent; // the machine goes, and tells nobody
    enum fault_vfs_keep keep;
    enum rollout_command command;
    uint32_t service; // of the command
    enum load_origin_behaviour behaviour;
};

struct plan {
    uint64_t seed;
    uint32_t workers;
    uint32_t services;
    bool keyed, control_arm, latency_check, throughput_check, approve, start_auto, cumulative;
    enum rollout_undecided undecided;
    uint32_t first_percent;
    double rate;
    uint32_t body_bytes;
    uint32_t latency_us;
    double stable_errors; // share of the stable version's answers that are 500
    enum plan_nature nature;
    bool calm;                    // no fault that clients could see, but the new version's
    uint64_t safety_us;           // length of the first phase
    struct io_sim_config network; // with the faults of the first phase
    bool network_faults;
    bool daemon_ends, origin_faults, disk_faults, clock_steps, commands;
    struct plan_event first_start; // count > 0: the power goes before that operation of the first start
    uint32_t event_count;
    struct plan_event events[PLAN_EVENTS_MAX]; // by time
};

void plan_draw(uint64_t seed, struct plan *plan);
// The file the daemon runs with.
void plan_yaml(const struct plan *plan, const char *journal, struct text *text);
// How that origin behaves, when it runs.
void plan_origin(const struct plan *plan, enum plan_origin which, struct load_origin_options *options);
enum load_origin_behaviour plan_behaviour(const struct plan *plan, enum plan_origin which);
void plan_print(const struct plan *plan, FILE *out);
// No fault reaches clients but those the new version makes.
bool plan_is_clean(const struct plan *plan);
