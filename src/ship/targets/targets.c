// SPDX-License-Identifier: Apache-2.0
// The engine put together with what it does not know.
#include "ship/targets/targets.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/siphash.h"
#include "daemon/config/config.h"
#include "flags/set/flagset.h"
#include "net/proxy/proxy.h"
#include "net/proxy/table.h"
#include "operate/log/log.h"
#include "operate/metrics/exposition.h"
#include "ship/store/journal.h"
#include "ship/targets/targets_private.h"

static const struct engine_target *const all_targets[ROLLOUT_TARGETS] = {
    [ROLLOUT_TARGET_VERSION] = &targets_version, [ROLLOUT_TARGET_FLAG] = &targets_flag};
static const struct engine_source *const all_sources[ROLLOUT_SOURCES] = {
    [ROLLOUT_SOURCE_REQUESTS] = &targets_requests, [ROLLOUT_SOURCE_EVENTS] = &targets_events};

// ---- what a service's run wants of the routing table ----

// Assignment is drawn anew for every run, and is the same through all of one run, restarts included. Runs of
// an older rule have no salt of their own: theirs follows from their names.
static struct siphash_key salt_of(const char *service, const char *rollout, const struct engine_route *route)
{
    if (route != NULL && (route->spec.salt[0] | route->spec.salt[1]) != 0)
        return (struct siphash_key){route->spec.salt[0], route->spec.salt[1]};
    uint32_t run = route != NULL ? route->run : 0;
    char seed[2 * ROLLOUT_NAME_BYTES + 32];
    int len = snprintf(seed, sizeof seed, "%s/%s/%u", service, rollout, run);
    const struct siphash_key key0 = {0x736c75696365206bULL, 0x30};
    const struct siphash_key key1 = {0x736c75696365206bULL, 0x31};
    return (struct siphash_key){siphash(key0, seed, (size_t)len), siphash(key1, seed, (size_t)len)};
}

static void govern(void *world, const struct config_service *service, struct proxy_service_plan *plan)
{
    static const struct engine_rollout nobody;
    struct targets *targets = world;
    const struct config *config = routing_config(targets->routing);
    const struct config_rollout *entry = config_rollout_of_service(config, service->name);
    const char *name = entry != NULL ? entry->spec.name : "";
    const struct engine_rollout *rollout = engine_rollout_find(targets->engine, name);
    rollout = rollout != NULL ? rollout : &nobody;
    const struct engine_route *route = &rollout->route;
    bool applies =
        entry != NULL && route->run != 0 && all_targets[route->spec.target]->applies(config, name, route);
    plan->stable =
        routing_version_index(service, engine_stable_version(engine_stables_of(targets->engine), service));
    plan->salt = salt_of(service->name, applies ? name : "", applies ? route : NULL);
    if (entry != NULL)
        all_targets[entry->spec.target]->plan(rollout, entry, applies, service, plan);
    if (!applies)
        return;
    plan->epoch = route->run_seq * 2 + (route->back ? 1 : 0);
    plan->yardstick = route->yardstick;
}

// ---- the journal's entries that are no rollout's ----

static enum status fold(void *world, const struct journal_entry *entry)
{
    if (entry->kind == JOURNAL_ENDPOINTS)
        return routing_override_fold(((struct targets *)world)->routing, entry->time_ms, entry->payload);
    return runtime_fold(((struct targets *)world)->runtime, entry->seq, entry->time_ms, entry->payload);
}

static enum status append_change(void *world, const char *key, struct slice payload, bool safe, uint64_t *seq,
                                 struct fault *fault)
{
    return engine_journal_append(((struct targets *)world)->engine, JOURNAL_FLAG, key, payload, safe, seq,
                                 fault);
}

enum status targets_endpoints_change(struct targets *targets, const struct routing_override *change,
                                     struct fault *fault)
{
    enum { ROOM = 64 + 3 * ROLLOUT_NAME_BYTES };
    enum status status = routing_override_check(targets->routing, change, fault);
    if (status != STATUS_OK)
        return status;
    struct wire_writer writer = {.data = heap_alloc(change->list.len + ROOM, 1),
                                 .cap = change->list.len + ROOM};
    if (writer.data == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    routing_override_encode(change, &writer);
    CHECK(!writer.full);
    struct slice payload = {(const char *)writer.data, writer.len};
    status = engine_journal_append(targets->engine, JOURNAL_ENDPOINTS, change->service, payload, false, NULL,
                                   fault);
    if (status == STATUS_OK)
        status = routing_override_take(targets->routing, engine_wall_ms(targets->engine), payload, fault);
    heap_free(writer.data);
    return status;
}

// ---- what stands around the engine ----

static enum status host_open(void *world, struct engine *engine, struct fault *fault)
{
    struct targets *targets = world;
    targets->engine = engine;
    enum status status = runtime_open(targets->runtime, engine_config(engine), fault);
    const struct flagset *set = runtime_flagset(targets->runtime);
    if (status == STATUS_OK && set != NULL)
        targets_flag_follow(targets, flagset_current(set));
    return status;
}

static enum status host_accept(void *world, const struct config *config, struct fault *fault)
{
    struct targets *targets = world;
    return runtime_acceptable(targets->runtime, engine_config(targets->engine), config, fault);
}

static enum status host_publish(void *world, bool fresh, struct fault *fault)
{
    struct targets *targets = world;
    return routing_publish(targets->routing, engine_config(targets->engine), fresh, fault);
}

static void host_reloaded(void *world)
{
    struct targets *targets = world;
    runtime_reload(targets->runtime, engine_config(targets->engine));
}

static uint64_t host_tick(const void *world)
{
    return proxy_tick(((const struct targets *)world)->proxy);
}

static void host_tick_began(void *world)
{
    routing_tick_began(((struct targets *)world)->routing);
}

static void host_tick_over(void *world)
{
    struct targets *targets = world;
    struct engine_health health;
    engine_health_get(targets->engine, &health);
    routing_tick_over(targets->routing, !health.journal_failing);
    runtime_tick(targets->runtime);
    log_flush(engine_log_of(targets->engine), false);
}

static void host_drain(void *world)
{
    struct targets *targets = world;
    runtime_drain(targets->runtime);
    proxy_drain(targets->proxy);
}

static uint64_t host_open_count(const void *world)
{
    return proxy_clients_open(((const struct targets *)world)->proxy);
}

static uint64_t host_table_version(const void *world)
{
    struct routing_state state;
    routing_state_get(((const struct targets *)world)->routing, &state);
    return state.table_version;
}

static void host_stop(void *world)
{
    proxy_stop(((struct targets *)world)->proxy);
}

static const struct engine_host host = {.fold = fold,
                                        .open = host_open,
                                        .accept = host_accept,
                                        .publish = host_publish,
                                        .reloaded = host_reloaded,
                                        .tick = host_tick,
                                        .tick_began = host_tick_began,
                                        .tick_over = host_tick_over,
                                        .drain = host_drain,
                                        .open_count = host_open_count,
                                        .table_version = host_table_version,
                                        .stop = host_stop};

// ---- metrics ----

static void write_routing(struct engine_metric_source *source, struct metrics_writer *writer)
{
    routing_metrics_write(CONTAINER_OF(source, struct targets, routing_metrics)->routing, writer);
}

static void write_runtime(struct engine_metric_source *source, struct metrics_writer *writer)
{
    runtime_metrics_write(CONTAINER_OF(source, struct targets, runtime_metrics)->runtime, writer);
}

// ---- life ----

static enum status put_together(const struct targets_parts *parts, struct targets *made, struct fault *fault)
{
    const struct routing_parts routing = {.config = parts->config,
                                          .loop = parts->loop,
                                          .proxy = parts->proxy,
                                          .log = parts->log,
                                          .govern = govern,
                                          .flags = targets_flag_table,
                                          .context = made};
    const struct runtime_parts runtime = {.loop = parts->loop,
                                          .log = parts->log,
                                          .journal_path = journal_path(parts->journal),
                                          .readers = parts->workers + parts->flag_readers,
                                          .append = append_change,
                                          .split = targets_flag_split,
                                          .changed = targets_flag_changed,
                                          .context = made};
    made->proxy = parts->proxy;
    if (routing_create(&routing, &made->routing) != STATUS_OK ||
        runtime_create(&runtime, &made->runtime) != STATUS_OK)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    const struct engine_parts engine = {.config = parts->config,
                                        .secret = {parts->secret[0], parts->secret[1]},
                                        .loop = parts->loop,
                                        .journal = parts->journal,
                                        .log = parts->log,
                                        .host = &host,
                                        .targets = all_targets,
                                        .sources = all_sources,
                                        .world = made};
    enum status status = engine_create(&engine, &made->engine, fault);
    if (status != STATUS_OK) {
        made->engine = NULL; // it is gone
        return status;
    }
    made->routing_metrics.write = write_routing;
    made->runtime_metrics.write = write_runtime;
    engine_metric_source_add(made->engine, &made->routing_metrics);
    engine_metric_source_add(made->engine, &made->runtime_metrics);
    return STATUS_OK;
}

enum status targets_create(const struct targets_parts *parts, struct targets **targets, struct fault *fault)
{
    struct targets *made = heap_alloc(1, sizeof *made);
    if (made == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    enum status status = put_together(parts, made, fault);
    if (status == STATUS_OK)
        *targets = made;
    else
        targets_destroy(made);
    return status;
}

void targets_destroy(struct targets *targets)
{
    if (targets == NULL)
        return;
    runtime_destroy(targets->runtime);
    engine_destroy(targets->engine);
    routing_destroy(targets->routing);
    heap_free(targets);
}
