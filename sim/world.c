// SPDX-License-Identifier: Apache-2.0
// The world's clock and its events.
#include "world.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "net/io/io_private.h"

enum { SETTLE_US = 12000000, CLIENT_TIMEOUT_US = 8000000, CRASH_LATEST_US = 1500000 };

const char *world_count_name(enum world_count count)
{
    static const char *const names[WORLD_COUNTS] = {
        [WORLD_DAEMON_CRASHES] = "daemon crashes",
        [WORLD_SILENT_CRASHES] = "silent crashes",
        [WORLD_CRASHES_IN_JOURNAL] = "crashes within a journal write",
        [WORLD_CRASHES_IN_START] = "crashes while starting",
        [WORLD_POWER_LOSSES] = "power losses",
        [WORLD_OWED_AT_RESTART] = "decisions owed at restart",
        [WORLD_STARTS_REFUSED] = "starts refused by the disk",
        [WORLD_ORIGIN_CRASHES] = "origin crashes",
        [WORLD_DISK_FAILURES] = "disk operations refused",
        [WORLD_JOURNAL_FAILURES] = "journal failures",
        [WORLD_COMMANDS_OBEYED] = "commands obeyed",
        [WORLD_COMMANDS_REFUSED] = "commands refused",
        [WORLD_RELOADS] = "reloads",
        [WORLD_RESTARTS] = "restarts in good order",
        [WORLD_ORIGIN_TURNS] = "origins that changed their ways",
        [WORLD_CLOCK_STEPS] = "clock steps",
        [WORLD_STALLS] = "network stalls",
        [WORLD_RESETS] = "network resets",
        [WORLD_REFUSALS] = "network refusals",
        [WORLD_FRAGMENTS] = "fragments",
        [WORLD_REQUESTS] = "requests",
        [WORLD_DECISIONS] = "decisions",
        [WORLD_COMPLETED] = "rollouts completed",
        [WORLD_ROLLED_BACK] = "rollouts rolled back",
        [WORLD_CLEAN_RUNS] = "seeds without faults that clients may see",
        [WORLD_EVIDENCE_WHOLE] = "rollouts whose evidence was counted again",
        [WORLD_GOOD_RUNS] = "good runs without a fault",
        [WORLD_FALSE_ALARMS] = "false alarms in them",
    };
    return names[count];
}

uint64_t world_now_us(const struct world *world)
{
    return io_sim_now_us(world->sim);
}

void world_fail(struct world *world, const char *format, ...)
{
    char text[WORLD_FAILURE_BYTES - 40];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    world_say(world, "VIOLATION: %s", text);
    if (world->result->failed)
        return;
    world->result->failed = true;
    snprintf(world->result->failure, sizeof world->result->failure, "at %.3f s: %s",
             (double)world_now_us(world) / 1e6, text);
}

void world_say(struct world *world, const char *format, ...)
{
    if (world->verbose == NULL)
        return;
    fprintf(world->verbose, "%9.3f  ", (double)world_now_us(world) / 1e6);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(world->verbose, format, arguments);
    va_end(arguments);
    fputc('\n', world->verbose);
}

void world_count_up(struct world *world, enum world_count count, uint64_t n)
{
    world->result->counts[count] += n;
}

// ---- making and ending ----

static void make_folder(struct world *world)
{
    const char *parent = getenv("TMPDIR");
    if (parent == NULL)
        parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(world->folder, sizeof world->folder, "%s/sluice-sim-XXXXXX", parent);
    CHECK(mkdtemp(world->folder) != NULL);
    CHECK(strlen(world->folder) + 16 < sizeof world->path);
    snprintf(world->path, sizeof world->path, "%.200s/journal.db", world->folder);
}

static void remove_folder(const struct world *world)
{
    DIR *folder = opendir(world->folder);
    CHECK(folder != NULL);
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL)
        if (entry->d_name[0] != '.')
            CHECK(unlinkat(dirfd(folder), entry->d_name, 0) == 0);
    closedir(folder);
    CHECK(rmdir(world->folder) == 0);
}

// One in seven is a POST, which must never be sent twice.
static void make_requests(struct world *world)
{
    world->requests = heap_alloc(PLAN_SESSIONS, sizeof *world->requests);
    world->names = heap_alloc((size_t)PLAN_SESSIONS * 2, sizeof *world->names);
    CHECK(world->requests != NULL && world->names != NULL);
    for (uint32_t i = 0; i < PLAN_SESSIONS; i++) {
        char *path = world->names[2 * i], *session = world->names[2 * i + 1];
        const char *service = plan_service_name(i % world->plan.services);
        snprintf(path, sizeof world->names[0], "/%s/item/%u", service, i);
        snprintf(session, sizeof world->names[0], "user%u", i * 7919 % PLAN_SESSIONS);
        world->requests[i] =
            (struct load_request){.method = i % 7 == 3 ? "POST" : "GET", .path = path, .session = session};
    }
}

void world_create(struct world *world, uint64_t seed, struct world_result *result, FILE *verbose)
{
    *world = (struct world){.result = result, .verbose = verbose};
    *result = (struct world_result){.failed = false};
    plan_draw(seed, &world->plan);
    world_count_up(world, WORLD_CLEAN_RUNS, plan_is_clean(&world->plan));
    make_folder(world);
    make_requests(world);
    world->sightings = heap_alloc(WORLD_SIGHTINGS, sizeof *world->sightings);
    world->room = heap_alloc(1, sizeof *world->room);
    CHECK(world->sightings != NULL && world->room != NULL);
    CHECK(fault_vfs_install() == STATUS_OK);
    struct io_sim_config network = world->plan.network;
    network.stall_ppm = network.reset_ppm = network.refuse_ppm = 0; // until their event
    CHECK(io_sim_create(&network, &world->sim) == STATUS_OK);
    CHECK(io_sim_loop_create(world->sim, &world->load_loop) == STATUS_OK);
    for (int i = 0; i < PLAN_ORIGINS; i++)
        world_origin_start(world, (enum plan_origin)i);
    if (world->plan.first_start.count > 0) {
        world->daemon.crash = world->plan.first_start;
        world->daemon.crash_us = CRASH_LATEST_US;
        world_disk_apply(world, world->plan.first_start.count);
    }
    world_daemon_start(world);
}

static void load_free(struct world *world)
{
    if (world->load == NULL)
        return;
    load_close(world->load);
    for (int i = 0; i < 1000 && !load_closed(world->load); i++)
        io_sim_run(world->sim, world_now_us(world) + WORLD_SLICE_US);
    CHECK(load_closed(world->load));
    load_destroy(world->load);
    world->load = NULL;
}

void world_destroy(struct world *world)
{
    const struct plan_event how = {.keep = FAULT_VFS_KEEP_ALL};
    const struct io_sim_faults *faults = io_sim_faults(world->sim);
    world_count_up(world, WORLD_STALLS, faults->stalls);
    world_count_up(world, WORLD_RESETS, faults->resets);
    world_count_up(world, WORLD_REFUSALS, faults->refusals);
    world_count_up(world, WORLD_FRAGMENTS, faults->fragments);
    world->result->trace_hash = io_sim_trace_hash(world->sim);
    world->stopping = true;
    if (world->daemon.up)
        world_daemon_crash(world, &how);
    load_free(world);
    for (int i = 0; i < PLAN_ORIGINS; i++)
        if (world->origins[i].origin != NULL)
            world_origin_crash(world, (enum plan_origin)i, false);
    io_loop_destroy(world->load_loop);
    io_sim_destroy(world->sim);
    fault_vfs_remove();
    remove_folder(world);
    heap_free(world->requests);
    heap_free(world->names);
    heap_free(world->sightings);
    heap_free(world->room);
}

// ---- events ----

static void step_clock(struct world *world, int64_t step_ms)
{
    world->clock_step_ms += step_ms;
    world_count_up(world, WORLD_CLOCK_STEPS, 1);
    if (!world->daemon.up)
        return;
    world->daemon.loop->wall_offset_ms += step_ms;
    for (uint32_t i = 0; i < world->plan.workers; i++)
        world->daemon.loops[i]->wall_offset_ms += step_ms;
}

static void reload(struct world *world)
{
    char yaml[PLAN_YAML_BYTES];
    struct text text = text_over(yaml, sizeof yaml);
    plan_yaml(&world->plan, world->path, &text);
    static struct config_errors errors;
    struct config *config;
    static struct fault fault;
    if (!world->daemon.up)
        return;
    CHECK(config_load_text("sim.yaml", text_slice(&text), &config, &errors) == STATUS_OK);
    enum status status = engine_reload(world->daemon.engine, config, &fault);
    world_count_up(world, WORLD_RELOADS, 1);
    if (status == STATUS_OK)
        return;
    config_destroy(config);
    world_fail(world, "the same file was refused when read again: %s", fault.text);
}

static void begin_crash(struct world *world, const struct plan_event *event)
{
    struct world_daemon *daemon = &world->daemon;
    if (!daemon->up || daemon->crash_us != 0)
        return;
    daemon->crash = *event;
    daemon->crash_us = world_now_us(world) + (event->count == 0 ? 0 : CRASH_LATEST_US);
    if (event->count != 0)
        world_disk_apply(world, event->count);
}

static void turn_origin(struct world *world, const struct plan_event *event)
{
    struct world_origin *host = &world->origins[event->count];
    if (host->origin == NULL)
        return;
    host->turned_us = world_now_us(world) + event->down_us;
    world_origin_set(world, (enum plan_origin)event->count, event->behaviour);
    world_count_up(world, WORLD_ORIGIN_TURNS, 1);
}

// The daemon ends in good order under load, and comes back.
static void restart(struct world *world, const struct plan_event *event)
{
    const struct plan_event how = {.keep = FAULT_VFS_KEEP_ALL};
    if (!world->daemon.up || world->daemon.crash_us != 0)
        return;
    world_stop(world);
    if (world->result->failed)
        return;
    world_check_accounts(world);
    world_check_closed(world);
    world_daemon_crash(world, &how); // only its remains
    world->stopping = world->stopped = false;
    world->daemon.back_us = world_now_us(world) + event->down_us;
    world_count_up(world, WORLD_RESTARTS, 1);
}

static void run_event(struct world *world, const struct plan_event *event)
{
    uint64_t now_us = world_now_us(world);
    world_say(world, "-- %s", plan_event_name(event->kind));
    switch (event->kind) {
    case PLAN_DAEMON_CRASH:
        begin_crash(world, event);
        break;
    case PLAN_ORIGIN_CRASH:
        if (world->origins[event->count].origin == NULL)
            break;
        world_origin_crash(world, (enum plan_origin)event->count, event->silent);
        world->origins[event->count].back_us = now_us + event->down_us;
        world_count_up(world, WORLD_ORIGIN_CRASHES, 1);
        break;
    case PLAN_DISK_FULL:
    case PLAN_FULL_IN_COMMAND:
        world->disk_full_until_us = now_us + event->down_us;
        world->disk_full_from = event->kind == PLAN_DISK_FULL ? 1 : event->count;
        world_disk_apply(world, 0);
        if (event->kind == PLAN_FULL_IN_COMMAND)
            (void)world_command(world, event->service, event->command);
        break;
    case PLAN_CRASH_IN_COMMAND:
        begin_crash(world, event);
        (void)world_command(world, event->service, event->command);
        break;
    case PLAN_ORIGIN_TURNS:
        turn_origin(world, event);
        break;
    case PLAN_RESTART:
        restart(world, event);
        break;
    case PLAN_SYNC_FAILS:
        world->sync_fails_at = event->count;
        world_disk_apply(world, 0);
        break;
    case PLAN_COMMAND:
        (void)world_command(world, event->service, event->command);
        break;
    case PLAN_CLOCK_STEP:
        step_clock(world, event->step_ms);
        break;
    case PLAN_RELOAD:
        reload(world);
        break;
    case PLAN_NETWORK_FAULTS:
        world->network_until_us = now_us + event->down_us;
        io_sim_set_faults(world->sim, &world->plan.network);
        break;
    case PLAN_EVENT_KINDS:
        break;
    }
}

static void network_heal(struct world *world)
{
    struct io_sim_config quiet = {.fragment_ppm = world->plan.network.fragment_ppm};
    io_sim_set_faults(world->sim, &quiet);
    world->network_until_us = 0;
}

// What is due by itself: ends of faults, crashes, restarts.
static void run_due(struct world *world)
{
    uint64_t now_us = world_now_us(world);
    struct world_daemon *daemon = &world->daemon;
    if (world->network_until_us != 0 && now_us >= world->network_until_us)
        network_heal(world);
    if (world->disk_full_until_us != 0 && now_us >= world->disk_full_until_us) {
        world->disk_full_until_us = 0;
        world_disk_apply(world, 0);
    }
    if (daemon->up && daemon->crash_us != 0 && (now_us >= daemon->crash_us || fault_vfs_counts_get().off)) {
        world_daemon_crash(world, &daemon->crash);
        daemon->back_us = now_us + daemon->crash.down_us;
    }
    if (!daemon->up && !world->stopped && daemon->back_us != 0 && now_us >= daemon->back_us)
        world_daemon_start(world);
    for (int i = 0; i < PLAN_ORIGINS; i++) {
        struct world_origin *host = &world->origins[i];
        if (host->origin == NULL && now_us >= host->back_us)
            world_origin_start(world, (enum plan_origin)i);
        if (host->turned_us != 0 && now_us >= host->turned_us)
            world_origin_set(world, (enum plan_origin)i, plan_behaviour(&world->plan, (enum plan_origin)i));
    }
}

void world_run(struct world *world, uint64_t until_us)
{
    while (world_now_us(world) < until_us && !world->result->failed) {
        uint64_t now_us = world_now_us(world);
        while (world->next_event < world->plan.event_count &&
               world->plan.events[world->next_event].at_us <= now_us)
            run_event(world, &world->plan.events[world->next_event++]);
        run_due(world);
        io_sim_run(world->sim, now_us + WORLD_SLICE_US);
        world_observe(world);
    }
}

void world_heal(struct world *world)
{
    uint64_t now_us = world_now_us(world);
    network_heal(world);
    world->next_event = world->plan.event_count;
    world->disk_full_until_us = 0;
    world->sync_fails_at = 0;
    // A crash that has begun in the disk still comes; one that has not is called off.
    if (fault_vfs_counts_get().off)
        world->daemon.crash_us = now_us;
    else
        world->daemon.crash_us = 0;
    if (world->daemon.crash_us == 0)
        world_disk_apply(world, 0);
    for (int i = 0; i < PLAN_ORIGINS; i++)
        world->origins[i].back_us = world->origins[i].turned_us = now_us;
    world->daemon.crash.down_us = 0;
    if (!world->daemon.up)
        world->daemon.back_us = now_us;
}

// ---- clients and operators ----

void world_load_begin(struct world *world, double rate, uint64_t duration_us)
{
    CHECK(world->load == NULL);
    struct load_config config = {
        .host = "shop.example",
        .requests = world->requests,
        .request_count = PLAN_SESSIONS,
        .rate = rate,
        .poisson = true,
        .duration_us = duration_us,
        .timeout_us = CLIENT_TIMEOUT_US,
        .connections_max = 256,
        .seed = world->plan.seed * 31 + world->loads_begun++,
    };
    CHECK(io_addr_parse("10.0.0.9:80", &config.to) == STATUS_OK);
    CHECK(load_create(world->load_loop, &config, &world->load) == STATUS_OK);
}

void world_load_end(struct world *world)
{
    if (world->load == NULL)
        return;
    load_stop(world->load);
    uint64_t until_us = world_now_us(world) + SETTLE_US;
    while (!load_done(world->load) && world_now_us(world) < until_us && !world->result->failed)
        world_run(world, world_now_us(world) + WORLD_SLICE_US);
    if (!load_done(world->load))
        world_fail(world, "%" PRIu64 " requests are still pending after every timeout",
                   load_totals(world->load)->pending);
    world_check_load(world, load_totals(world->load));
    world_count_up(world, WORLD_REQUESTS, load_totals(world->load)->scheduled);
    load_free(world);
}

enum status world_command(struct world *world, uint32_t service, enum rollout_command command)
{
    if (!world->daemon.up)
        return STATUS_CLOSED;
    static struct fault fault;
    fault.text[0] = '\0';
    enum status status =
        engine_command(world->daemon.engine, plan_rollout_name(service), command, "sre", "10.0.0.77", &fault);
    world_count_up(world, status == STATUS_OK ? WORLD_COMMANDS_OBEYED : WORLD_COMMANDS_REFUSED, 1);
    world_say(world, "-- %s %s: %s %s", rollout_command_name(command), plan_rollout_name(service),
              status_name(status), status == STATUS_OK ? "" : fault.text);
    return status;
}

void world_view(struct world *world, uint32_t service, struct rollout_view *view, uint32_t *run)
{
    *view = (struct rollout_view){.state = ROLLOUT_PENDING};
    *run = 0;
    if (!world->daemon.up)
        return;
    int index = engine_view_find(world->daemon.engine, plan_rollout_name(service));
    CHECK(index >= 0);
    static struct engine_view rollout;
    engine_view_get(world->daemon.engine, (uint32_t)index, &rollout);
    *view = rollout.view;
    *run = rollout.run;
}

static void on_drained(void *context)
{
    struct world *world = context;
    world->stopped = true;
}

void world_stop(struct world *world)
{
    world->stopping = true;
    engine_shutdown(world->daemon.engine, 3000, on_drained, world);
    uint64_t until_us = world_now_us(world) + SETTLE_US;
    while (world_now_us(world) < until_us && !(world->stopped && proxy_stopped(world->daemon.proxy)))
        io_sim_run(world->sim, world_now_us(world) + WORLD_SLICE_US);
    if (!world->stopped || !proxy_stopped(world->daemon.proxy))
        world_fail(world, "the daemon did not stop");
}
