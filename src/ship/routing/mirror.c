// SPDX-License-Identifier: Apache-2.0
// Mirrored traffic: from the file's words and the endpoints of a table that is being made to the service's
// plan, and what Prometheus reads of it.
#include "net/mirror/mirror.h"

#include "base/check.h"
#include "base/heap.h"
#include "operate/metrics/exposition.h"
#include "ship/routing/routing_private.h"

// ---- the plan ----

struct plan_scratch {
    struct mirror_endpoint candidate[PROXY_VERSION_ENDPOINTS_MAX], primary[PROXY_VERSION_ENDPOINTS_MAX];
    struct http_field add[2 * CONFIG_EDITS_MAX];
    struct slice strip[2 * CONFIG_EDITS_MAX];
};
_Static_assert((int)PROXY_VERSION_ENDPOINTS_MAX <= (int)MIRROR_ENDPOINTS_MAX, "all endpoints of a version");
_Static_assert(2 * CONFIG_EDITS_MAX <= (int)MIRROR_EDITS_MAX, "all edits of a file");

static struct mirror_target target_of(const struct routing *routing, const struct proxy_version_plan *version,
                                      struct mirror_endpoint *endpoints)
{
    struct mirror_target target = {.endpoints = endpoints,
                                   .endpoint_count = version->endpoint_count,
                                   .secure = version->secure,
                                   .header = version->header};
    for (uint32_t i = 0; i < version->endpoint_count; i++)
        endpoints[i] =
            (struct mirror_endpoint){.addr = version->endpoints[i].addr, .name = version->endpoints[i].name};
    if (version->secure)
        target.client = proxy_tls_client(routing->tls, proxy_worker_count(routing->proxy), version->origin);
    return target;
}

static void edits_of(const struct config_edits *edits, struct plan_scratch *scratch,
                     struct mirror_words *words)
{
    const struct config_header_value *const lists[] = {edits->set, edits->add};
    const uint32_t counts[] = {edits->set_count, edits->add_count};
    for (size_t k = 0; k < ARRAY_LEN(lists); k++)
        for (uint32_t i = 0; i < counts[k]; i++)
            scratch->add[words->add_count++] =
                (struct http_field){.name = slice_of(lists[k][i].name), .value = slice_of(lists[k][i].value)};
    for (uint32_t i = 0; i < edits->set_count; i++)
        scratch->strip[words->strip_count++] = slice_of(edits->set[i].name);
    for (uint32_t i = 0; i < edits->remove_count; i++)
        scratch->strip[words->strip_count++] = slice_of(edits->remove[i]);
    words->add = scratch->add;
    words->strip = scratch->strip;
}

static enum status make_plan(const struct routing *routing, const struct config_mirror *mirror,
                             struct mirror_run *run, const struct proxy_version_plan *candidate,
                             struct proxy_service_plan *plan)
{
    struct plan_scratch *scratch = heap_alloc(1, sizeof *scratch);
    if (scratch == NULL)
        return STATUS_NO_MEMORY;
    struct mirror_words words = {
        .run = run,
        .candidate = target_of(routing, candidate, scratch->candidate),
        .primary = target_of(routing, &plan->versions[plan->stable], scratch->primary),
        .share = mirror->share,
        .secondary = mirror->secondary,
        .unsafe = mirror->unsafe,
        .timeout_ms = (uint32_t)mirror->timeout_ms,
        .concurrent = mirror->concurrent,
        .body_bytes = (uint32_t)mirror->body_bytes,
        .host = slice_of(mirror->host),
        .path = slice_of(mirror->path),
    };
    edits_of(&mirror->headers, scratch, &words);
    enum status status = mirror_plan_create(&words, &plan->mirror);
    heap_free(scratch);
    return status;
}

void routing_mirror_plan(struct routing *routing, const struct config_service *service,
                         struct proxy_service_plan *plan)
{
    struct mirror *mirror = proxy_mirror(routing->proxy);
    int32_t to =
        service->mirror.given ? routing_version_index(service, service->mirror.to) : PROXY_VERSION_NONE;
    // The candidate may have been promoted since: then there is nothing to compare it with.
    if (mirror == NULL || to == PROXY_VERSION_NONE || to == plan->stable)
        return;
    struct mirror_run **run = &routing->services[plan->slot].mirror;
    enum status status = mirror_start(mirror);
    if (status == STATUS_OK && *run == NULL)
        status = mirror_run_create(ROUTING_MIRROR_RUNS + plan->slot, run);
    if (status == STATUS_OK)
        status = make_plan(routing, &service->mirror, *run, &plan->versions[to], plan);
    if (status != STATUS_OK)
        log_write(routing->parts.log, LOG_ERROR, "a service's requests cannot be mirrored",
                  LOG_FIELDS(LOG_TEXT("service", service->name), LOG_TEXT("problem", status_name(status))));
}

// ---- telling ----

METRICS_FAMILY(selected, COUNTER, "mirror_selected_total",
               "Requests that a mirror's share drew. selected = sent + dropped, when none is under way.");
METRICS_FAMILY(sent, COUNTER, "mirror_sent_total",
               "Of those, sent to the candidate. sent = compared + uncompared, when none is under way.");
METRICS_FAMILY(dropped, COUNTER, "mirror_dropped_total", "Selected requests that were not sent, by reason.");
METRICS_FAMILY(compared, COUNTER, "mirror_compared_total",
               "Of the sent, both answers came and were handed on for comparing.");
METRICS_FAMILY(uncompared, COUNTER, "mirror_uncompared_total",
               "Of the sent, there is nothing to compare, by reason.");
METRICS_FAMILY(secondaries, COUNTER, "mirror_secondary_total",
               "Of the sent, asked of the stable version once more, by whether it answered.");

struct reading {
    struct metrics_label labels[2];
    struct mirror_counts counts;
};

static bool next(const struct routing *routing, uint32_t *slot, struct reading *reading)
{
    while (*slot < routing->service_slots.count && routing->services[*slot].mirror == NULL)
        ++*slot;
    if (*slot == routing->service_slots.count)
        return false;
    reading->labels[0] = metrics_label_of("service", routing->service_slots.items[*slot].name);
    mirror_run_counts(routing->services[*slot].mirror, &reading->counts);
    return true;
}

static void write_family(const struct routing *routing, struct metrics_writer *writer,
                         const struct metrics_family *family, size_t offset)
{
    struct reading reading;
    metrics_open(writer, family);
    for (uint32_t slot = 0; next(routing, &slot, &reading); slot++)
        metrics_count(writer, reading.labels, 1, *(uint64_t *)((char *)&reading.counts + offset));
}

void routing_mirror_metrics(const struct routing *routing, struct metrics_writer *writer)
{
    struct reading reading;
    write_family(routing, writer, &selected, offsetof(struct mirror_counts, selected));
    write_family(routing, writer, &sent, offsetof(struct mirror_counts, sent));
    metrics_open(writer, &dropped);
    for (uint32_t slot = 0; next(routing, &slot, &reading); slot++)
        for (int i = 0; i < MIRROR_DROPS; i++) {
            reading.labels[1] = metrics_label_of("reason", mirror_drop_name((enum mirror_drop)i));
            metrics_count(writer, reading.labels, 2, reading.counts.dropped[i]);
        }
    write_family(routing, writer, &compared, offsetof(struct mirror_counts, compared));
    metrics_open(writer, &uncompared);
    for (uint32_t slot = 0; next(routing, &slot, &reading); slot++)
        for (int i = 0; i < MIRROR_UNCOMPAREDS; i++) {
            reading.labels[1] = metrics_label_of("reason", mirror_uncompared_name((enum mirror_uncompared)i));
            metrics_count(writer, reading.labels, 2, reading.counts.uncompared[i]);
        }
    metrics_open(writer, &secondaries);
    for (uint32_t slot = 0; next(routing, &slot, &reading); slot++) {
        uint64_t failed = reading.counts.secondaries_failed, asked = reading.counts.secondaries;
        reading.labels[1] = metrics_label_of("answered", "yes");
        metrics_count(writer, reading.labels, 2, asked > failed ? asked - failed : 0);
        reading.labels[1] = metrics_label_of("answered", "no");
        metrics_count(writer, reading.labels, 2, failed);
    }
}
