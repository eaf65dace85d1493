// SPDX-License-Identifier: Apache-2.0
// Evidence from the requests that the proxy routed to the service of the run.
#include <string.h>

#include "daemon/config/config.h"
#include "net/proxy/proxy.h"
#include "ship/rollout/evidence.h"
#include "ship/targets/targets_private.h"
#include "stats/histogram.h"

// A rollout that rolls back may have lost its entry, or its service, with another file: then the service's
// requests are another's, and time alone has to end it.
static uint32_t gather(void *world, struct engine_rollout *rollout,
                       struct rollout_span_delta spans[ROLLOUT_TICK_SPANS_MAX], uint64_t *lost, bool *more)
{
    struct targets *targets = world;
    const char *service = rollout->route.spec.service;
    const struct config_rollout *entry = config_rollout_of_service(engine_config(targets->engine), service);
    if (entry == NULL || strcmp(entry->spec.name, rollout->name) != 0)
        return 0;
    return routing_gather(targets->routing, service, spans, ROLLOUT_TICK_SPANS_MAX, lost, more);
}

// The stable version: what a rollout of versions comes from, and where the requests of a flag's go anyway.
static void baseline(void *world, const struct engine_rollout *rollout, struct stats_histogram *seen)
{
    struct targets *targets = world;
    uint16_t slot = routing_stable_slot(targets->routing, rollout->route.spec.service);
    if (slot != PROXY_SLOT_NONE)
        proxy_version_latency(targets->proxy, slot, seen);
}

static void failures(void *world, const struct engine_rollout *rollout, struct rollout_failures *out)
{
    struct targets *targets = world;
    routing_failures_get(targets->routing, rollout->route.spec.service, out);
}

const struct engine_source targets_requests = {.gather = gather, .baseline = baseline, .failures = failures};
