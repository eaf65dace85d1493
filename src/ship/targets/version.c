// SPDX-License-Identifier: Apache-2.0
// Moves requests of a service from one version to another: the routing table carries the weight.
#include <string.h>

#include "daemon/config/config.h"
#include "net/proxy/proxy.h"
#include "net/proxy/table.h"
#include "ship/rollout/spec.h"
#include "ship/targets/targets_private.h"
#include "stats/histogram.h"

static enum status ready(void *world, const struct rollout_spec *spec, struct fault *fault)
{
    const struct engine *engine = ((struct targets *)world)->engine;
    const struct config_service *service = config_service_find(engine_config(engine), spec->service);
    if (strcmp(spec->from, spec->to) == 0)
        return fault_set(fault, STATUS_CONFLICT,
                         "cannot start: version %s is the stable one of service %s already", spec->to,
                         spec->service);
    if (spec->control && service != NULL && strcmp(spec->from, service->stable) != 0)
        return fault_set(fault, STATUS_CONFLICT,
                         "cannot start: the control endpoints of service %s belong to `stable: %s`, and its "
                         "stable version is %s; let the file say so",
                         spec->service, service->stable, spec->from);
    return STATUS_OK;
}

// The entry comes from the version that is stable under that file (engine_stable_fill).
static bool applies(const struct config *config, const char *name, const struct engine_route *route)
{
    const struct rollout_spec *run = &route->spec;
    const struct config_service *service = config_service_find(config, run->service);
    const struct config_rollout *entry = config_rollout_find(config, name);
    if (service == NULL || entry == NULL || strcmp(entry->spec.service, run->service) != 0)
        return false;
    return strcmp(entry->spec.from, run->from) == 0 && config_version_find(service, run->to) != NULL &&
           (route->active || strcmp(entry->spec.to, run->to) == 0);
}

static enum status fits(const struct config *config, const char *name, const struct engine_route *route,
                        struct fault *fault)
{
    const struct rollout_spec *run = &route->spec;
    // It is over but for the requests under way; the tick sees it to its end.
    if (route->back || applies(config, name, route))
        return STATUS_OK;
    return fault_set(
        fault, STATUS_CONFLICT,
        "rollout %s is under way from %s to %s of service %s, and the file does not fit: it "
        "must keep that rollout, both versions, and its word `stable` until it is over (or abort "
        "it first)",
        name, run->from, run->to, run->service);
}

static void apply(void *world)
{
    routing_publish_or_retry(((struct targets *)world)->routing);
}

static void plan(const struct engine_rollout *rollout, const struct config_rollout *entry, bool governs,
                 const struct config_service *service, struct proxy_service_plan *planned)
{
    const struct engine_route *route = &rollout->route;
    planned->canary = routing_version_index(service, governs ? route->spec.to : entry->spec.to);
    if (planned->canary == planned->stable)
        planned->canary = PROXY_VERSION_NONE; // it is complete
    if (!governs)
        return;
    planned->weight = route->weight;
    planned->canary_leaves = route->back && planned->canary != PROXY_VERSION_NONE;
    planned->canary_leave_ms =
        (uint32_t)(route->spec.drain_ms < UINT32_MAX ? route->spec.drain_ms : UINT32_MAX);
    planned->weight_control = route->spec.control && route->weight < ROLLOUT_WEIGHT_FULL ? route->weight : 0;
}

static bool latency(void *world, const struct rollout_spec *spec, const char *arm,
                    struct stats_histogram *seen, uint64_t *since)
{
    struct targets *targets = world;
    uint16_t slot = routing_version_slot(targets->routing, spec->service, arm);
    if (slot == PROXY_SLOT_NONE)
        return false;
    proxy_version_latency(targets->proxy, slot, seen);
    *since = routing_version_given(targets->routing, slot);
    return true;
}

const struct engine_target targets_version = {
    .ready = ready, .applies = applies, .fits = fits, .apply = apply, .plan = plan, .latency = latency};
