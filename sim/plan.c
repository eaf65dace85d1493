// SPDX-License-Identifier: Apache-2.0
// Drawing a plan from its seed. Each kind of fault is off in half of the seeds, and heavy in some.
#include "plan.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/rng.h"

enum { SECOND_US = 1000000, PPM_PERCENT = 10000 };

struct streams {
    struct rng setting, network, daemon, origins, disk, clock, commands;
};

const char *plan_nature_name(enum plan_nature nature)
{
    static const char *const names[PLAN_NATURES] = {
        [PLAN_GOOD] = "good",           [PLAN_FEW_ERRORS] = "2 % errors",
        [PLAN_SLOW_TAIL] = "slow tail", [PLAN_MANY_ERRORS] = "30 % errors",
        [PLAN_REFUSES] = "refuses",     [PLAN_GARBAGE] = "garbage",
        [PLAN_STALLS] = "stalls",       [PLAN_CUTS] = "cuts",
    };
    return names[nature];
}

bool plan_nature_is_bad(enum plan_nature nature)
{
    return nature >= PLAN_MANY_ERRORS;
}

const char *plan_service_name(uint32_t service)
{
    return service == 0 ? "shop" : "blog";
}

const char *plan_rollout_name(uint32_t service)
{
    return service == 0 ? "ship" : "print";
}

const char *plan_event_name(enum plan_event_kind kind)
{
    static const char *const names[PLAN_EVENT_KINDS] = {
        [PLAN_DAEMON_CRASH] = "daemon crash",
        [PLAN_ORIGIN_CRASH] = "origin crash",
        [PLAN_DISK_FULL] = "disk full",
        [PLAN_SYNC_FAILS] = "sync fails",
        [PLAN_COMMAND] = "command",
        [PLAN_CLOCK_STEP] = "clock step",
        [PLAN_RELOAD] = "reload",
        [PLAN_NETWORK_FAULTS] = "network faults",
        [PLAN_CRASH_IN_COMMAND] = "crash in command",
        [PLAN_FULL_IN_COMMAND] = "disk full in command",
        [PLAN_ORIGIN_TURNS] = "origin turns",
        [PLAN_RESTART] = "restart",
    };
    return names[kind];
}

static bool chance(struct rng *rng, uint64_t percent)
{
    return rng_below(rng, 100) < percent;
}

static uint64_t between(struct rng *rng, uint64_t low, uint64_t high)
{
    return low + rng_below(rng, high - low + 1);
}

static struct plan_event *add(struct plan *plan, struct rng *rng, enum plan_event_kind kind)
{
    CHECK(plan->event_count < PLAN_EVENTS_MAX);
    struct plan_event *event = &plan->events[plan->event_count++];
    *event = (struct plan_event){.kind = kind, .at_us = between(rng, SECOND_US, plan->safety_us - 1)};
    return event;
}

// ---- each stream ----

static void draw_setting(struct plan *plan, struct rng *rng)
{
    static const uint32_t percents[] = {5, 10, 20, 50};
    plan->workers = (uint32_t)between(rng, 1, 3);
    plan->services = chance(rng, 40) ? 2 : 1;
    plan->keyed = chance(rng, 40);
    plan->control_arm = chance(rng, 30);
    plan->latency_check = chance(rng, 50);
    plan->throughput_check = chance(rng, 20);
    plan->approve = chance(rng, 20);
    plan->start_auto = chance(rng, 50);
    plan->cumulative = chance(rng, 25);
    plan->undecided = (enum rollout_undecided)rng_below(rng, 3);
    plan->first_percent = percents[rng_below(rng, ARRAY_LEN(percents))];
    plan->rate = (double)between(rng, 150, 350);
    plan->body_bytes = chance(rng, 30) ? (uint32_t)between(rng, 2000, 16000) : (uint32_t)between(rng, 0, 600);
    plan->latency_us = (uint32_t)between(rng, 500, 15000);
    plan->stable_errors = chance(rng, 50) ? 0.0 : 0.004;
    // Good versions are the common case, as in life.
    plan->nature = chance(rng, 40) ? PLAN_GOOD : (enum plan_nature)rng_below(rng, PLAN_NATURES);
    plan->safety_us = between(rng, 8, 16) * SECOND_US;
    plan->calm = chance(rng, 25);
}

static uint32_t ppm(struct rng *rng, uint64_t light_max, uint64_t heavy_max)
{
    bool off = chance(rng, 40);
    bool heavy = chance(rng, 25);
    uint64_t value = rng_below(rng, (heavy ? heavy_max : light_max) + 1);
    return off ? 0 : (uint32_t)value;
}

static void draw_network(struct plan *plan, struct rng *rng)
{
    struct io_sim_config *network = &plan->network;
    *network = (struct io_sim_config){
        .latency_us_min = 50,
        .latency_us_max = between(rng, 60, 2000),
        .fragment_ppm = ppm(rng, 5 * PPM_PERCENT, 40 * PPM_PERCENT), // no fault: bytes come as they come
        .wall_start_ms = 1795000000000,
    };
    bool on = chance(rng, 50) && !plan->calm;
    network->stall_ppm = ppm(rng, 1000, 5 * PPM_PERCENT);
    network->stall_us_max = between(rng, 1000, 1500000);
    network->reset_ppm = ppm(rng, 500, PPM_PERCENT);
    network->refuse_ppm = ppm(rng, 2 * PPM_PERCENT, 30 * PPM_PERCENT);
    plan->network_faults = on && (network->stall_ppm | network->reset_ppm | network->refuse_ppm) != 0;
    if (plan->network_faults)
        add(plan, rng, PLAN_NETWORK_FAULTS)->down_us = between(rng, SECOND_US, plan->safety_us);
}

static void draw_daemon(struct plan *plan, struct rng *rng)
{
    plan->daemon_ends = chance(rng, 50) && !plan->calm;
    uint64_t count = plan->daemon_ends ? between(rng, 1, chance(rng, 20) ? 6 : 2) : 0;
    for (uint64_t i = 0; i < count; i++) {
        struct plan_event *event = add(plan, rng, PLAN_DAEMON_CRASH);
        event->count = chance(rng, 30) ? 0 : between(rng, 1, 80);
        event->down_us = chance(rng, 50) ? between(rng, 1, 200000) : between(rng, 1, 2 * SECOND_US);
        event->silent = chance(rng, 30);
        event->keep = (enum fault_vfs_keep)rng_below(rng, 3);
    }
    for (uint64_t i = chance(rng, 30) ? between(rng, 1, 3) : 0; i > 0; i--)
        add(plan, rng, PLAN_RELOAD);
    if (!chance(rng, 15) || plan->calm)
        return;
    plan->daemon_ends = true;
    add(plan, rng, PLAN_RESTART)->down_us = between(rng, 1, SECOND_US);
}

static void draw_origins(struct plan *plan, struct rng *rng)
{
    plan->origin_faults = chance(rng, 35) && !plan->calm;
    uint64_t count = plan->origin_faults ? between(rng, 1, 2) : 0;
    for (uint64_t i = 0; i < count; i++) {
        struct plan_event *event = add(plan, rng, PLAN_ORIGIN_CRASH);
        event->count = rng_below(rng, plan->control_arm ? PLAN_ORIGINS : PLAN_CONTROL);
        event->down_us = between(rng, 1000, 3 * SECOND_US);
        event->silent = chance(rng, 30);
    }
    if (!chance(rng, 15) || plan->calm)
        return;
    plan->origin_faults = true;
    struct plan_event *event = add(plan, rng, PLAN_ORIGIN_TURNS);
    event->count = rng_below(rng, PLAN_CONTROL);
    event->down_us = between(rng, 1000, 3 * SECOND_US);
    event->behaviour = (enum load_origin_behaviour)rng_below(rng, LOAD_ORIGIN_CUTS + 1);
}

static void draw_disk(struct plan *plan, struct rng *rng)
{
    plan->disk_faults = chance(rng, 45);
    uint64_t count = plan->disk_faults ? between(rng, 1, 3) : 0;
    for (uint64_t i = 0; i < count; i++) {
        bool full = chance(rng, 50);
        struct plan_event *event = add(plan, rng, full ? PLAN_DISK_FULL : PLAN_SYNC_FAILS);
        event->down_us = between(rng, 1000, 4 * SECOND_US);
        event->count = between(rng, 1, 4);
    }
}

// Faults that hit while a command is being written down.
static void draw_in_command(struct plan *plan, struct rng *rng)
{
    uint64_t count = chance(rng, 35) ? between(rng, 1, 3) : 0;
    for (uint64_t i = 0; i < count; i++) {
        bool crash = chance(rng, 50) && !plan->calm;
        struct plan_event *event = add(plan, rng, crash ? PLAN_CRASH_IN_COMMAND : PLAN_FULL_IN_COMMAND);
        static const enum rollout_command commands[] = {ROLLOUT_COMMAND_PROMOTE, ROLLOUT_COMMAND_ABORT,
                                                        ROLLOUT_COMMAND_PAUSE, ROLLOUT_COMMAND_START};
        event->command = commands[rng_below(rng, ARRAY_LEN(commands))];
        event->service = (uint32_t)rng_below(rng, plan->services);
        event->count = between(rng, 1, 24);
        event->down_us = between(rng, 1000, 3 * SECOND_US);
        event->silent = chance(rng, 30);
        event->keep = (enum fault_vfs_keep)rng_below(rng, 3);
        plan->daemon_ends |= crash;
        plan->disk_faults |= !crash;
    }
}

static void draw_first_start(struct plan *plan, struct rng *rng)
{
    if (!chance(rng, 20) || plan->calm)
        return;
    plan->daemon_ends = true;
    plan->first_start = (struct plan_event){.kind = PLAN_DAEMON_CRASH,
                                            .count = between(rng, 1, 60),
                                            .down_us = between(rng, 1, SECOND_US),
                                            .keep = (enum fault_vfs_keep)rng_below(rng, 3)};
}

static void draw_clock(struct plan *plan, struct rng *rng)
{
    plan->clock_steps = chance(rng, 15);
    if (plan->clock_steps)
        add(plan, rng, PLAN_CLOCK_STEP)->step_ms = (int64_t)between(rng, 0, 23000) - 3000;
}

static void draw_commands(struct plan *plan, struct rng *rng)
{
    plan->commands = chance(rng, 50);
    uint64_t count = plan->commands ? between(rng, 1, chance(rng, 20) ? 20 : 4) : 0;
    for (uint64_t i = 0; i < count; i++) {
        struct plan_event *event = add(plan, rng, PLAN_COMMAND);
        event->command = (enum rollout_command)rng_below(rng, ROLLOUT_COMMANDS);
        event->service = (uint32_t)rng_below(rng, plan->services);
    }
    if (plan->start_auto)
        return;
    for (uint32_t i = 0; i < plan->services; i++) {
        struct plan_event *start = add(plan, rng, PLAN_COMMAND);
        start->command = ROLLOUT_COMMAND_START;
        start->service = i;
        start->at_us = between(rng, 100000, SECOND_US);
    }
}

static int by_time(const void *a, const void *b)
{
    const struct plan_event *left = a, *right = b;
    if (left->at_us != right->at_us)
        return left->at_us < right->at_us ? -1 : 1;
    return (int)left->kind - (int)right->kind;
}

void plan_draw(uint64_t seed, struct plan *plan)
{
    struct streams streams;
    struct rng *const each[] = {&streams.setting, &streams.network, &streams.daemon,  &streams.origins,
                                &streams.disk,    &streams.clock,   &streams.commands};
    uint64_t state = seed;
    for (size_t i = 0; i < ARRAY_LEN(each); i++)
        rng_init(each[i], rng_splitmix(&state));
    *plan = (struct plan){.seed = seed};
    draw_setting(plan, &streams.setting);
    draw_network(plan, &streams.network);
    draw_daemon(plan, &streams.daemon);
    draw_origins(plan, &streams.origins);
    draw_disk(plan, &streams.disk);
    draw_in_command(plan, &streams.disk);
    draw_first_start(plan, &streams.disk);
    draw_clock(plan, &streams.clock);
    draw_commands(plan, &streams.commands);
    plan->network.seed = rng_splitmix(&state);
    qsort(plan->events, plan->event_count, sizeof plan->events[0], by_time);
}

bool plan_is_clean(const struct plan *plan)
{
    return !plan->network_faults && !plan->daemon_ends && !plan->origin_faults;
}

// ---- what follows from it ----

static void yaml_service(const struct plan *plan, uint32_t service, struct text *text)
{
    text_addf(text, "  %s:\n    routes: [{path: /%s}]\n", plan_service_name(service),
              plan_service_name(service));
    text_addf(text, "    versions: {v1: [10.0.0.1:80], v2: [10.0.0.2:80]}\n    stable: v1\n");
    if (plan->keyed)
        text_addf(text, "    unit: {cookie: sid}\n");
    if (plan->control_arm)
        text_addf(text, "    control: {endpoints: [10.0.0.3:80]}\n");
}

static void yaml_rollout(const struct plan *plan, uint32_t service, struct text *text)
{
    static const char *const undecided[] = {"hold", "rollback", "proceed"};
    text_addf(text, "  %s:\n    service: %s\n    to: v2\n    start: %s\n", plan_rollout_name(service),
              plan_service_name(service), plan->start_auto ? "auto" : "manual");
    text_addf(text, "    stages:\n      - {weight: %u%%, for: 1s, horizon: 12s}\n", plan->first_percent);
    if (plan->approve)
        text_addf(text, "      - approve: {by: sre}\n");
    if (plan->first_percent < 50)
        text_addf(text, "      - {weight: 50%%, for: 1s, horizon: 12s}\n");
    text_addf(text, "      - {weight: 100%%, for: 1s, horizon: 12s, soak: 2s}\n    checks:\n");
    text_addf(text, "      errors: {negligible: 5%%%s}\n", plan->keyed ? ", window: 2s" : "");
    if (plan->latency_check)
        text_addf(text, "      latency: {margin: 3, baseline: 300}\n");
    else
        text_addf(text, "      latency: off\n");
    if (plan->throughput_check)
        text_addf(text, "      throughput: {margin: 2}\n");
    text_addf(text, "    undecided: %s\n    evidence: %s\n", undecided[plan->undecided],
              plan->cumulative ? "cumulative" : "stage");
    text_addf(text, "    warmup: 500ms\n    deadline: 3s\n    drain: 4s\n");
}

void plan_yaml(const struct plan *plan, const char *journal, struct text *text)
{
    text_addf(text, "workers: %u\njournal: \"%s\"\nlisten: [10.0.0.9:80]\n", plan->workers, journal);
    text_addf(text, "timeouts: {connect: 500ms, first_byte: 1s, idle: 2s, client_head: 5s}\nservices:\n");
    for (uint32_t i = 0; i < plan->services; i++)
        yaml_service(plan, i, text);
    text_addf(text, "rollouts:\n");
    for (uint32_t i = 0; i < plan->services; i++)
        yaml_rollout(plan, i, text);
    CHECK(!text->cut);
}

void plan_origin(const struct plan *plan, enum plan_origin which, struct load_origin_options *options)
{
    *options = (struct load_origin_options){
        .version = which == PLAN_CANARY ? "v2" : "v1",
        .latency_us = plan->latency_us,
        .latency_sigma = 0.4,
        .error_share = plan->stable_errors,
        .body_bytes = plan->body_bytes,
        .behaviour = LOAD_ORIGIN_ANSWERS,
        .seed = plan->seed * PLAN_ORIGINS + which,
    };
    if (which != PLAN_CANARY)
        return;
    switch (plan->nature) {
    case PLAN_FEW_ERRORS:
        options->error_share = 0.02;
        break;
    case PLAN_SLOW_TAIL:
        options->tail_share = 0.2;
        options->tail_factor = 20.0;
        break;
    case PLAN_MANY_ERRORS:
        options->error_share = 0.3;
        break;
    case PLAN_REFUSES:
        options->behaviour = LOAD_ORIGIN_REFUSES;
        break;
    case PLAN_GARBAGE:
        options->behaviour = LOAD_ORIGIN_GARBAGE;
        break;
    case PLAN_STALLS:
        options->behaviour = LOAD_ORIGIN_STALLS;
        break;
    case PLAN_CUTS:
        options->behaviour = LOAD_ORIGIN_CUTS;
        break;
    default:
        break;
    }
}

enum load_origin_behaviour plan_behaviour(const struct plan *plan, enum plan_origin which)
{
    struct load_origin_options options;
    plan_origin(plan, which, &options);
    return options.behaviour;
}

static void event_print(const struct plan_event *event, FILE *out)
{
    fprintf(out, "  %8.3f s  %s", (double)event->at_us / SECOND_US, plan_event_name(event->kind));
    switch (event->kind) {
    case PLAN_DAEMON_CRASH:
        fprintf(out, " after %" PRIu64 " disk operations, keep %d%s", event->count, event->keep,
                event->silent ? ", silent" : "");
        break;
    case PLAN_ORIGIN_CRASH:
        fprintf(out, " %" PRIu64 "%s", event->count, event->silent ? ", silent" : "");
        break;
    case PLAN_CRASH_IN_COMMAND:
    case PLAN_FULL_IN_COMMAND:
        fprintf(out, " %s of %s at operation %" PRIu64 ", keep %d%s", rollout_command_name(event->command),
                plan_rollout_name(event->service), event->count, event->keep,
                event->silent ? ", silent" : "");
        break;
    case PLAN_ORIGIN_TURNS:
        fprintf(out, ": %" PRIu64 " to behaviour %d", event->count, event->behaviour);
        break;
    case PLAN_COMMAND:
        fprintf(out, " %s of %s", rollout_command_name(event->command), plan_rollout_name(event->service));
        break;
    case PLAN_CLOCK_STEP:
        fprintf(out, " %" PRId64 " ms", event->step_ms);
        break;
    case PLAN_SYNC_FAILS:
        fprintf(out, " at sync %" PRIu64, event->count);
        break;
    default:
        break;
    }
    if (event->down_us > 0)
        fprintf(out, ", for %.3f s", (double)event->down_us / SECOND_US);
    fprintf(out, "\n");
}

void plan_print(const struct plan *plan, FILE *out)
{
    fprintf(out,
            "seed %" PRIu64 ": v2 %s; %u workers, %u services, %.0f requests/s, %u B, "
            "first stage %u %%%s%s%s%s%s%s%s, undecided %d\n",
            plan->seed, plan_nature_name(plan->nature), plan->workers, plan->services, plan->rate,
            plan->body_bytes, plan->first_percent, plan->keyed ? ", keyed" : "",
            plan->control_arm ? ", control arm" : "", plan->latency_check ? ", latency" : "",
            plan->throughput_check ? ", throughput" : "", plan->approve ? ", approval" : "",
            plan->start_auto ? ", auto" : "", plan->cumulative ? ", cumulative" : "", plan->undecided);
    fprintf(out,
            "  network: stall %u ppm up to %" PRIu64 " us, reset %u ppm, refuse %u ppm, fragment %u ppm%s\n",
            plan->network.stall_ppm, plan->network.stall_us_max, plan->network.reset_ppm,
            plan->network.refuse_ppm, plan->network.fragment_ppm,
            plan->network_faults ? "" : " (stall, reset and refuse off)");
    if (plan->first_start.count > 0)
        event_print(&plan->first_start, out);
    for (uint32_t i = 0; i < plan->event_count; i++)
        event_print(&plan->events[i], out);
}
