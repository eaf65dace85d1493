// SPDX-License-Identifier: Apache-2.0
// The machines of the world: how they start, and how they die.
#include <inttypes.h>

#include "base/check.h"
#include "base/rng.h"
#include "net/io/io_private.h"
#include "world.h"

enum { RESTART_US = 500000 };

// ---- disk ----

// Puts the disk's faults in force. off_after: the power goes before that many more operations; 0: it stays.
void world_disk_apply(struct world *world, uint64_t off_after)
{
    uint64_t failed = fault_vfs_counts_get().failed;
    world_count_up(world, WORLD_DISK_FAILURES, failed);
    bool off = fault_vfs_counts_get().off;
    struct fault_vfs_plan plan = {
        .write_fails_from = world->disk_full_until_us != 0 ? world->disk_full_from : 0,
        .write_fails_count = UINT64_MAX / 2,
        .sync_fails_at = world->sync_fails_at,
        .off_at = off ? 1 : off_after,
    };
    world->sync_fails_at = 0;  // told once
    world->disk_full_from = 1; // counting begins anew with the next plan
    if (off_after == 0 && world->daemon.crash_us != 0 && world->daemon.crash.count != 0 && !off)
        plan.off_at = world->daemon.crash.count; // the crash that is under way stays
    fault_vfs_set(&plan);
}

static void disk_crash(struct world *world, const struct plan_event *how)
{
    struct fault_vfs_counts counts = fault_vfs_counts_get();
    if (counts.off)
        world_count_up(world, WORLD_CRASHES_IN_JOURNAL, 1);
    else
        world_disk_apply(world, 1);
    journal_close(world->daemon.journal);
    world->daemon.journal = NULL;
    if (how->keep != FAULT_VFS_KEEP_ALL)
        world_count_up(world, WORLD_POWER_LOSSES, 1);
    uint64_t seed = world->plan.seed * 1000 + world->daemon.starts;
    CHECK(fault_vfs_crash(how->keep, seed) == STATUS_OK);
    world->daemon.crash_us = 0;
    world_disk_apply(world, 0);
}

// ---- the daemon ----

static void note_journal_failures(struct world *world)
{
    struct engine_health health;
    engine_health_get(world->daemon.engine, &health);
    world_count_up(world, WORLD_JOURNAL_FAILURES, health.journal_failures);
}

void world_daemon_crash(struct world *world, const struct plan_event *how)
{
    struct world_daemon *daemon = &world->daemon;
    CHECK(daemon->up);
    world_say(world, "-- the daemon is gone%s", how->silent ? ", silently" : "");
    world_count_up(world, WORLD_DAEMON_CRASHES, !world->stopping);
    world_count_up(world, WORLD_SILENT_CRASHES, how->silent);
    note_journal_failures(world);
    for (uint32_t i = 0; i < world->plan.workers; i++)
        io_sim_loop_crash(daemon->loops[i], how->silent);
    io_sim_loop_crash(daemon->loop, how->silent);
    disk_crash(world, how);
    targets_destroy(daemon->targets);
    daemon->targets = NULL;
    daemon->engine = NULL;
    proxy_stop(daemon->proxy);
    for (uint32_t i = 0; i < world->plan.workers; i++)
        io_sim_loop_bury(daemon->loops[i]);
    proxy_destroy(daemon->proxy);
    daemon->proxy = NULL;
    for (uint32_t i = 0; i < world->plan.workers; i++)
        io_loop_destroy(daemon->loops[i]);
    io_sim_loop_bury(daemon->loop);
    io_loop_destroy(daemon->loop);
    daemon->up = false;
}

static int64_t wall_ms(void *context)
{
    const struct world *world = context;
    return world->plan.network.wall_start_ms + (int64_t)(world_now_us(world) / 1000) + world->clock_step_ms;
}

static void make_loops(struct world *world)
{
    struct world_daemon *daemon = &world->daemon;
    for (uint32_t i = 0; i < world->plan.workers; i++) {
        CHECK(io_sim_loop_create(world->sim, &daemon->loops[i]) == STATUS_OK);
        daemon->loops[i]->wall_offset_ms += world->clock_step_ms;
    }
    CHECK(io_sim_loop_create(world->sim, &daemon->loop) == STATUS_OK);
    daemon->loop->wall_offset_ms += world->clock_step_ms;
}

static void make_proxy(struct world *world, const struct config *config)
{
    uint64_t seed = world->plan.seed * 77 + world->daemon.starts;
    struct proxy_config options = {.workers = world->plan.workers,
                                   .listen = &config->listen[0].address.addr,
                                   .listen_count = 1,
                                   .seed = seed};
    CHECK(proxy_create(&options, &world->daemon.proxy) == STATUS_OK);
}

static void give_up_start(struct world *world, struct config *config)
{
    struct world_daemon *daemon = &world->daemon;
    world_count_up(world, WORLD_STARTS_REFUSED, 1);
    journal_close(daemon->journal);
    daemon->journal = NULL;
    if (fault_vfs_counts_get().off) { // the power went while it started
        world_count_up(world, WORLD_CRASHES_IN_START, 1);
        CHECK(fault_vfs_crash(daemon->crash.keep, world->plan.seed * 1000 + daemon->starts) == STATUS_OK);
        daemon->crash_us = 0;
        world_disk_apply(world, 0);
    }
    config_destroy(config);
    proxy_stop(daemon->proxy);
    proxy_destroy(daemon->proxy);
    daemon->proxy = NULL;
    for (uint32_t i = 0; i < world->plan.workers; i++)
        io_loop_destroy(daemon->loops[i]);
    io_loop_destroy(daemon->loop);
    daemon->back_us = world_now_us(world) + RESTART_US;
}

// A start may fail only when the disk refuses.
static bool disk_refused(const struct world *world, enum status status)
{
    bool faulty = world->disk_full_until_us != 0 || fault_vfs_counts_get().failed > 0;
    return faulty && (status == STATUS_NO_SPACE || status == STATUS_IO);
}

static enum status open_journal(struct world *world, struct world_expected *expected)
{
    struct fault problem;
    enum status status = journal_open(world->path, JOURNAL_WRITE, &world->daemon.journal, &problem);
    if (status != STATUS_OK && !disk_refused(world, status))
        world_fail(world, "the journal does not open (%s): %s", status_name(status), problem.text);
    if (status == STATUS_OK)
        world_replay(world, world->daemon.journal, expected);
    return status;
}

static enum status make_control(struct world *world, struct config *config)
{
    struct world_daemon *daemon = &world->daemon;
    log_init(&daemon->log, world->verbose, false, LOG_INFO);
    daemon->log.wall_ms = wall_ms;
    daemon->log.context = world;
    struct targets_parts parts = {.config = config,
                                  .loop = daemon->loop,
                                  .proxy = daemon->proxy,
                                  .journal = daemon->journal,
                                  .log = &daemon->log};
    static struct fault fault;
    enum status status = targets_create(&parts, &daemon->targets, &fault);
    if (status == STATUS_OK)
        daemon->engine = daemon->targets->engine;
    if (status != STATUS_OK && !disk_refused(world, status))
        world_fail(world, "control does not start (%s): %s", status_name(status), fault.text);
    return status;
}

static void open_doors(struct world *world)
{
    struct world_daemon *daemon = &world->daemon;
    daemon->watcher.decided = world_decided;
    engine_watch(daemon->engine, &daemon->watcher);
    for (uint32_t i = 0; i < world->plan.workers; i++)
        CHECK(proxy_attach(daemon->proxy, i, daemon->loops[i]) == STATUS_OK);
    routing_set_listening(daemon->targets->routing, true);
    daemon->up = true;
    daemon->back_us = 0;
    world_observe_start(world);
    engine_start(daemon->engine);
}

void world_daemon_start(struct world *world)
{
    struct world_daemon *daemon = &world->daemon;
    world_say(world, "-- the daemon starts");
    daemon->starts++;
    char yaml[PLAN_YAML_BYTES];
    struct text text = text_over(yaml, sizeof yaml);
    plan_yaml(&world->plan, world->path, &text);
    static struct config_errors errors;
    struct config *config;
    if (config_load_text("sim.yaml", text_slice(&text), &config, &errors) != STATUS_OK) {
        world_fail(world, "the file is bad: %s", errors.items[0].message);
        return;
    }
    make_loops(world);
    make_proxy(world, config);
    struct world_expected expected = {.weights = {0}};
    if (open_journal(world, &expected) != STATUS_OK || world->result->failed ||
        make_control(world, config) != STATUS_OK) {
        give_up_start(world, config);
        return;
    }
    uint32_t weights[PLAN_SERVICES_MAX] = {0};
    uint64_t version;
    bool has_table = world_table(world, weights, &version);
    for (uint32_t i = 0; i < world->plan.services; i++)
        if (!has_table || weights[i] != expected.weights[i])
            world_fail(world, "after the start the table's weight of %s is %u, the journal's %u",
                       plan_rollout_name(i), weights[i], expected.weights[i]);
    open_doors(world);
}

// ---- origins ----

static void origin_options(struct world *world, enum plan_origin which, struct load_origin_options *options)
{
    plan_origin(&world->plan, which, options);
    options->seed += world_now_us(world);
    options->seen = world_seen;
    options->seen_context = &world->origins[which];
}

void world_origin_set(struct world *world, enum plan_origin which, enum load_origin_behaviour behaviour)
{
    struct world_origin *host = &world->origins[which];
    struct load_origin_options options;
    origin_options(world, which, &options);
    if (behaviour == options.behaviour)
        host->turned_us = 0;
    options.behaviour = behaviour;
    if (host->origin != NULL)
        load_origin_set(host->origin, &options);
}

void world_origin_start(struct world *world, enum plan_origin which)
{
    struct world_origin *host = &world->origins[which];
    static const char *const addresses[] = {"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"};
    struct load_origin_options options;
    origin_options(world, which, &options);
    host->world = world;
    host->bit = 1u << which;
    CHECK(io_addr_parse(addresses[which], &host->addr) == STATUS_OK);
    CHECK(io_sim_loop_create(world->sim, &host->loop) == STATUS_OK);
    CHECK(load_origin_create(host->loop, &host->addr, &options, &host->origin) == STATUS_OK);
}

void world_origin_crash(struct world *world, enum plan_origin which, bool silent)
{
    struct world_origin *host = &world->origins[which];
    const struct load_origin_counts *counts = load_origin_counts(host->origin);
    host->past.requests += counts->requests;
    host->past.answers += counts->answers;
    host->past.errors += counts->errors;
    io_sim_loop_crash(host->loop, silent);
    load_origin_close(host->origin);
    io_sim_loop_bury(host->loop);
    load_origin_destroy(host->origin);
    io_loop_destroy(host->loop);
    host->origin = NULL;
    host->loop = NULL;
    (void)world;
}
