// SPDX-License-Identifier: Apache-2.0
// Evidence from the requests that the proxy routed to the service of the run.
#include <string.h>

#include "base/heap.h"
#include "base/utf8.h"
#include "daemon/config/config.h"
#include "net/proxy/proxy.h"
#include "ship/rollout/evidence.h"
#include "ship/shadow/shadow.h"
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

static bool shadow(void *world, const struct engine_rollout *rollout,
                   struct rollout_shadow_row rows[ROLLOUT_SHADOW_ROWS_MAX],
                   struct rollout_shadow_delta *delta)
{
    struct targets *targets = world;
    const struct engine_route *route = &rollout->route;
    uint64_t number = routing_shadow_number(targets->routing, route->spec.service, route->run_seq);
    if (number == 0 || targets->shadow == NULL)
        return false;
    *delta = (struct rollout_shadow_delta){.rows = rows};
    bool seen = shadow_delta(targets->shadow, number, rows, delta);
    delta->dropped = routing_shadow_dropped(targets->routing, route->spec.service);
    return seen || delta->dropped > 0;
}

// The path with the most evidence.
static void differences(void *world, const struct engine_rollout *rollout,
                        char words[ROLLOUT_FAILURES_TEXT_BYTES])
{
    struct targets *targets = world;
    const struct engine_route *route = &rollout->route;
    uint64_t number = routing_shadow_number(targets->routing, route->spec.service, route->run_seq);
    struct shadow_report *report;
    char told[SHADOW_WORDS_BYTES];
    if (number == 0 || targets->shadow == NULL ||
        shadow_report(targets->shadow, number, &report) != STATUS_OK)
        return;
    if (report->judged_count > 0) {
        shadow_report_words(report, &report->judged[0], told);
        utf8_copy(words, ROLLOUT_FAILURES_TEXT_BYTES, slice_of(told));
    }
    heap_free(report);
}

const struct engine_source targets_requests = {.gather = gather,
                                               .baseline = baseline,
                                               .shadow = shadow,
                                               .differences = differences,
                                               .failures = failures};
