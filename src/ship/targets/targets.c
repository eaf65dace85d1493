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

// The service's rollout in the file that is being put in force, and what is of it in the engine; its run may
// not govern.
struct of_service {
    const struct config_rollout *entry; // NULL: none
    const char *name;
    const struct engine_rollout *rollout;
    bool applies;
};

static struct of_service rollout_of(const struct targets *targets, const struct config_service *service)
{
    static const struct engine_rollout nobody;
    const struct config *config = routing_config(targets->routing);
    struct of_service of = {.entry = config_rollout_of_service(config, service->name), .name = ""};
    if (of.entry != NULL)
        of.name = of.entry->spec.name;
    of.rollout = engine_rollout_find(targets->engine, of.name);
    of.rollout = of.rollout != NULL ? of.rollout : &nobody;
    const struct engine_route *route = &of.rollout->route;
    of.applies = of.entry != NULL && route->run != 0 &&
                 all_targets[route->spec.target]->applies(config, of.name, route);
    return of;
}

static bool shadowed(void *world, const struct config_service *service, struct routing_shadow *shadow)
{
    const struct of_service of = rollout_of(world, service);
    const struct engine_route *route = &of.rollout->route;
    if (!of.applies || !route->shadow)
        return false;
    *shadow = (struct routing_shadow){
        .run = route->run_seq, .rollout = of.name, .spec = &route->spec, .yardstick = route->yardstick};
    return true;
}

static void govern(void *world, const struct config_service *service, struct proxy_service_plan *plan)
{
    struct targets *targets = world;
    const struct of_service of = rollout_of(targets, service);
    const struct engine_route *route = &of.rollout->route;
    plan->stable =
        routing_version_index(service, engine_stable_version(engine_stables_of(targets->engine), service));
    plan->salt = salt_of(service->name, of.applies ? of.name : "", of.applies ? route : NULL);
    if (of.entry != NULL)
        all_targets[of.entry->spec.target]->plan(of.rollout, of.entry, of.applies, service, plan);
    if (!of.applies)
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

static void taken_up(void *world)
{
    struct targets *targets = world;
    if (targets->engine != NULL)
        engine_taken_up(targets->engine);
}

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
                                          .shadow = parts->shadow,
                                          .govern = govern,
                                          .shadowed = shadowed,
                                          .flags = targets_flag_table,
                                          .taken_up = taken_up,
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
    made->shadow = parts->shadow;
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
