// SPDX-License-Identifier: Apache-2.0
// Moves a flag from one variant to another: the set in force carries rings and share, and what the arms weigh
// is what that set splits by, not what the core wants already.
#include <string.h>

#include "base/heap.h"
#include "daemon/config/config.h"
#include "flags/set/flagset.h"
#include "net/proxy/table.h"
#include "ship/rollout/spec.h"
#include "ship/targets/targets_private.h"
#include "stats/histogram.h"

static bool is_of_flag(const struct engine_rollout *rollout)
{
    return rollout->route.run != 0 && rollout->route.spec.target == ROLLOUT_TARGET_FLAG;
}

static enum status ready(void *world, const struct rollout_spec *spec, struct fault *fault)
{
    return runtime_movable(((struct targets *)world)->runtime, spec->flag, spec->from, spec->to, fault);
}

static bool applies(const struct config *config, const char *name, const struct engine_route *route)
{
    const struct rollout_spec *run = &route->spec;
    const struct config_rollout *entry = config_rollout_find(config, name);
    if (route->run == 0 || entry == NULL || strcmp(entry->spec.flag, run->flag) != 0 ||
        strcmp(entry->spec.service, run->service) != 0)
        return false;
    bool same = strcmp(entry->spec.to, run->to) == 0 && strcmp(entry->spec.from, run->from) == 0;
    return !route->back && (route->active || same);
}

// ---- whether a file fits ----

// STATUS_CONFLICT when a ring of the specification is no segment of that file: *missing names it.
static enum status segments_fit(const struct config *config, const struct rollout_spec *spec,
                                const char **missing)
{
    struct slice text = slice_of(config->segments != NULL ? config->segments : "");
    struct flags_json_space space = {
        .node_cap = (uint32_t)text.len + 2, .char_cap = text.len + 1, .last_wins = true};
    space.nodes = heap_alloc(space.node_cap, sizeof *space.nodes);
    space.chars = heap_alloc(space.char_cap, 1);
    struct flags_json *root = NULL;
    struct flags_json_error fault;
    enum status status = space.nodes == NULL || space.chars == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK && text.len > 0)
        status = flags_json_parse(text, &space, &root, &fault);
    for (uint32_t i = 0; i < spec->stage_count && status == STATUS_OK; i++) {
        const struct rollout_stage *stage = &spec->stages[i];
        if (stage->kind == ROLLOUT_STAGE_SEGMENT &&
            (root == NULL || flags_json_member(root, slice_of(stage->segment)) == NULL)) {
            *missing = stage->segment;
            status = STATUS_CONFLICT;
        }
    }
    heap_free(space.nodes);
    heap_free(space.chars);
    return status;
}

// Without one of its rings the whole split would be void, and everybody back at `from` in the middle of it.
static enum status rings_fit(const struct config *config, const struct rollout_spec *spec,
                             struct fault *fault)
{
    const char *missing = "";
    bool rings = false;
    for (uint32_t i = 0; i < spec->stage_count; i++)
        rings |= spec->stages[i].kind == ROLLOUT_STAGE_SEGMENT;
    enum status status = rings ? segments_fit(config, spec, &missing) : STATUS_OK;
    if (status == STATUS_CONFLICT)
        return fault_set(fault, status,
                         "rollout %s of flag %s is under way and has segment %s as a ring: the file must "
                         "keep that segment until it is over (or abort it first)",
                         spec->name, spec->flag, missing);
    if (status != STATUS_OK)
        return fault_set(fault, status, "the segments cannot be read: %s", status_name(status));
    return STATUS_OK;
}

static enum status fits(const struct config *config, const char *name, const struct engine_route *route,
                        struct fault *fault)
{
    const struct rollout_spec *run = &route->spec;
    // It is over but for the requests under way; the tick sees it to its end.
    if (route->back)
        return STATUS_OK;
    if (applies(config, name, route))
        return rings_fit(config, run, fault);
    return fault_set(fault, STATUS_CONFLICT,
                     "rollout %s is moving flag %s from %s to %s, and the file does not fit: it must keep "
                     "that rollout with the same flag and service until it is over (or abort it first)",
                     name, run->flag, run->from, run->to);
}

// ---- splits ----

bool targets_flag_split(void *world, uint32_t *at, struct runtime_split *split)
{
    struct targets *targets = world;
    while (*at < engine_rollout_count(targets->engine)) {
        const struct engine_rollout *rollout = engine_rollout_at(targets->engine, (*at)++);
        const struct engine_route *route = &rollout->route;
        if (!is_of_flag(rollout) || !applies(engine_config(targets->engine), rollout->name, route))
            continue;
        *split = (struct runtime_split){.rollout = rollout->name,
                                        .flag = slice_of(route->spec.flag),
                                        .from = slice_of(route->spec.from),
                                        .to = slice_of(route->spec.to),
                                        .share = route->weight,
                                        .salt = {route->spec.salt[0], route->spec.salt[1]},
                                        .active = route->active};
        for (uint32_t i = 0; i < route->ring_stages && i < route->spec.stage_count; i++)
            if (route->spec.stages[i].kind == ROLLOUT_STAGE_SEGMENT && split->ring_count < FLAGS_RINGS_MAX)
                split->rings[split->ring_count++] = slice_of(route->spec.stages[i].segment);
        return true;
    }
    return false;
}

// The set that splits so comes a moment later, see targets_flag_changed.
static void apply(void *world)
{
    runtime_refresh(((struct targets *)world)->runtime);
}

// What a rollout's arms weigh is what the set in force splits by, not what the core wants already: a set may
// come between two changes, or split before what was changed beside is compiled.
void targets_flag_follow(struct targets *targets, const struct flagset_snapshot *snapshot)
{
    for (uint32_t i = 0; i < engine_rollout_count(targets->engine); i++) {
        struct engine_rollout *rollout = engine_rollout_at(targets->engine, i);
        uint32_t share = 0;
        if (!is_of_flag(rollout))
            continue;
        (void)flagset_snapshot_split(snapshot, slice_of(rollout->route.spec.flag), &share);
        if (share == rollout->split_weight && rollout->split_table != 0)
            continue;
        rollout->split_weight = share;
        rollout->split_table = snapshot->version;
    }
}

// Whether workers need the set.
static bool in_path(const struct config *config)
{
    for (uint32_t i = 0; i < config->service_count; i++) {
        const struct config_service_flags *flags = &config->services[i].flags;
        if (flags->header_count > 0 || flags->version[0] != '\0')
            return true;
    }
    for (uint32_t i = 0; i < config->rollout_count; i++) {
        const struct rollout_spec *spec = &config->rollouts[i].spec;
        if (spec->target == ROLLOUT_TARGET_FLAG && spec->source == ROLLOUT_SOURCE_REQUESTS)
            return true;
    }
    return false;
}

void targets_flag_changed(void *world, const struct flagset_snapshot *snapshot)
{
    struct targets *targets = world;
    targets_flag_follow(targets, snapshot);
    if (in_path(engine_config(targets->engine)))
        routing_publish_or_retry(targets->routing);
}

// ---- the routing table ----

static void release_set(void *context)
{
    flagset_snapshot_unref(context);
}

// The set is kept alive until no worker sees the table any more.
void targets_flag_table(void *world, const struct config *config, struct proxy_table_plan *plan)
{
    const struct flagset *set = runtime_flagset(((struct targets *)world)->runtime);
    if (set == NULL || !in_path(config))
        return;
    const struct flagset_snapshot *snapshot = flagset_current(set);
    plan->flags = &snapshot->all.set;
    plan->tallies = snapshot->tallies;
    plan->flags_release = release_set;
    plan->flags_context = (void *)(uintptr_t)flagset_snapshot_ref(snapshot);
}

static void plan(const struct engine_rollout *rollout, const struct config_rollout *entry, bool governs,
                 const struct config_service *service, struct proxy_service_plan *planned)
{
    (void)service;
    if (!governs)
        return;
    planned->arm_flag = entry->spec.flag;
    planned->weight = rollout->split_weight; // what the set in this table splits by
}

// Variants are no versions, even where they have the same names: their requests are in one histogram.
static bool latency(void *world, const struct rollout_spec *spec, const char *arm,
                    struct stats_histogram *seen, uint64_t *since)
{
    (void)world;
    (void)spec;
    (void)arm;
    (void)seen;
    (void)since;
    return false;
}

const struct engine_target targets_flag = {
    .ready = ready, .applies = applies, .fits = fits, .apply = apply, .plan = plan, .latency = latency};
