// SPDX-License-Identifier: Apache-2.0
// Mirrored traffic: from the file's words and the endpoints of a table that is being made to the service's
// plan, and what Prometheus reads of it.
#include "net/mirror/mirror.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/siphash.h"
#include "operate/metrics/exposition.h"
#include "ship/diff/diff.h"
#include "ship/routing/routing_private.h"

// ---- the plan ----

struct plan_scratch {
    struct mirror_endpoint candidate[PROXY_VERSION_ENDPOINTS_MAX], primary[PROXY_VERSION_ENDPOINTS_MAX];
    struct http_field add[2 * CONFIG_EDITS_MAX];
    struct slice strip[2 * CONFIG_EDITS_MAX];
};
_Static_assert((int)PROXY_VERSION_ENDPOINTS_MAX <= (int)MIRROR_ENDPOINTS_MAX, "all endpoints of a version");
_Static_assert(2 * CONFIG_EDITS_MAX <= (int)MIRROR_EDITS_MAX, "all edits of a file");
_Static_assert((int)CONFIG_ERROR_STATUSES_MAX <= (int)SHADOW_STATUSES_MAX, "all errors of a service");

static struct mirror_target target_of(const struct routing *routing, const struct proxy_version_plan *version,
                                      struct mirror_endpoint *endpoints)
{
    bool other = version->http2 && !version->secure; // copies go in HTTP/1.1
    struct mirror_target target = {.endpoints = endpoints,
                                   .endpoint_count = other ? 0 : version->endpoint_count,
                                   .secure = version->secure,
                                   .header = version->header};
    for (uint32_t i = 0; i < target.endpoint_count; i++)
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
        .number = routing->services[plan->slot].mirror_number,
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

// ---- who compares ----

void routing_mirror_end(struct routing *routing, uint16_t service)
{
    struct routing_service *own = &routing->services[service];
    if (own->mirror_number != 0 && routing->parts.shadow != NULL)
        shadow_end(routing->parts.shadow, own->mirror_number);
    own->mirror_number = 0;
}

// What a table that is being made wants of one service's requests.
struct mirror_wish {
    const struct config_mirror *words;
    bool of_run; // a rollout's stage in the shadow asks, not the file's mirror
    struct routing_shadow run;
};

static uint32_t ignores_of(const struct rollout_diff_rules *diff,
                           struct diff_ignore ignores[ROLLOUT_IGNORES_MAX])
{
    for (uint32_t i = 0; i < diff->ignore_count; i++)
        ignores[i] = (struct diff_ignore){.path = slice_of(diff->ignores[i].path),
                                          .reason = slice_of(diff->ignores[i].reason)};
    return diff->ignore_count;
}

static enum status begin_comparing(struct routing *routing, const struct config_service *service,
                                   const struct mirror_wish *wish, struct routing_service *own)
{
    struct shadow_statuses errors[SHADOW_STATUSES_MAX];
    struct diff_ignore ignores[ROLLOUT_IGNORES_MAX];
    struct shadow_rules rules = {.service = slice_of(service->name),
                                 .primary = slice_of(own->mirror_primary),
                                 .candidate = slice_of(own->mirror_candidate),
                                 .recipe = {.ignores = ignores},
                                 .errors = errors};
    const struct config_service_errors *said = &service->errors;
    for (uint32_t i = 0; said->given && i < said->status_count; i++)
        errors[rules.error_count++] =
            (struct shadow_statuses){said->statuses[i].first, said->statuses[i].last};
    if (wish->of_run) {
        const struct rollout_yardstick *by = &wish->run.yardstick;
        rules.rollout = slice_of(wish->run.rollout);
        rules.recipe.ignore_count = ignores_of(&wish->run.spec->diff, ignores);
        rules.alpha = rollout_shadow_alpha(wish->run.spec);
        rules.beta = wish->run.spec->beta;
        memcpy(rules.slow_candidate_us, by->worse_us, sizeof rules.slow_candidate_us);
        memcpy(rules.slow_primary_us, by->edges.edge_us, sizeof rules.slow_primary_us);
    }
    return shadow_begin(routing->parts.shadow, own->mirror_number, &rules);
}

// Of all its words: whenever a run in the shadow gathers its evidence afresh (ship/engine/adopt.c), and only
// then.
static uint64_t errors_hash(const struct config_service_errors *errors)
{
    static const struct siphash_key key = {0, 0};
    char line[CONFIG_ERROR_LINE_BYTES];
    struct text text = text_over(line, sizeof line);
    config_service_errors_write(errors, &text);
    return siphash(key, line, strlen(line));
}

static uint64_t dropped_in_all(const struct routing_service *own)
{
    struct mirror_counts counts;
    uint64_t dropped = 0;
    if (own->mirror == NULL)
        return 0;
    mirror_run_counts(own->mirror, &counts);
    for (int i = 0; i < MIRROR_DROPS; i++)
        dropped += counts.dropped[i];
    return dropped;
}

// Other versions, another run and other errors are compared anew.
static enum status compare(struct routing *routing, const struct config_service *service,
                           const struct proxy_service_plan *plan, const struct mirror_wish *wish)
{
    struct routing_service *own = &routing->services[plan->slot];
    const char *primary = plan->versions[plan->stable].name, *to = wish->words->to;
    uint64_t run = wish->of_run ? wish->run.run : 0, errors = errors_hash(&service->errors);
    bool same = strcmp(own->mirror_primary, primary) == 0 && strcmp(own->mirror_candidate, to) == 0 &&
                own->mirror_for == run && own->mirror_errors == errors;
    if (own->mirror_number != 0 && same)
        return STATUS_OK;
    routing_mirror_end(routing, plan->slot);
    own->mirror_number = ROUTING_MIRROR_RUNS + ++routing->mirror_runs;
    own->mirror_for = run;
    own->mirror_errors = errors;
    own->mirror_dropped = dropped_in_all(own); // by whoever asked before
    snprintf(own->mirror_primary, sizeof own->mirror_primary, "%s", primary);
    snprintf(own->mirror_candidate, sizeof own->mirror_candidate, "%s", to);
    if (routing->parts.shadow == NULL)
        return STATUS_OK;
    enum status status = begin_comparing(routing, service, wish, own);
    if (status != STATUS_OK)
        own->mirror_number = 0; // tried again with the next table
    return status;
}

// The words of a run's stage, as the file's mirror would have them.
static struct config_mirror words_of(const struct rollout_spec *spec)
{
    const struct rollout_shadow_rules *rules = &rollout_spec_shadow(spec)->shadow;
    struct config_mirror words = {.given = true,
                                  .share = rules->share,
                                  .secondary = rules->secondary,
                                  .unsafe = rules->unsafe,
                                  .timeout_ms = rules->timeout_ms,
                                  .concurrent = CONFIG_MIRROR_CONCURRENT,
                                  .body_bytes = CONFIG_MIRROR_BODY_BYTES};
    snprintf(words.to, sizeof words.to, "%s", spec->to);
    return words;
}

void routing_mirror_plan(struct routing *routing, const struct config_service *service,
                         struct proxy_service_plan *plan)
{
    struct mirror *mirror = proxy_mirror(routing->proxy);
    const struct routing_parts *parts = &routing->parts;
    struct config_mirror of_run;
    struct mirror_wish wish = {.words = &service->mirror};
    wish.of_run = parts->shadowed != NULL && parts->shadowed(parts->context, service, &wish.run);
    if (wish.of_run) {
        of_run = words_of(wish.run.spec);
        wish.words = &of_run;
    }
    int32_t to = wish.words->given ? routing_version_index(service, wish.words->to) : PROXY_VERSION_NONE;
    // The candidate may have been promoted since: then there is nothing to compare it with.
    if (mirror == NULL || to == PROXY_VERSION_NONE || to == plan->stable) {
        routing_mirror_end(routing, plan->slot);
        return;
    }
    struct mirror_run **run = &routing->services[plan->slot].mirror;
    enum status status = mirror_start(mirror);
    if (status == STATUS_OK && *run == NULL)
        status = mirror_run_create(run);
    if (status == STATUS_OK)
        status = compare(routing, service, plan, &wish);
    if (status == STATUS_OK)
        status = make_plan(routing, wish.words, *run, &plan->versions[to], plan);
    if (status != STATUS_OK)
        log_write(routing->parts.log, LOG_ERROR, "a service's requests cannot be mirrored",
                  LOG_FIELDS(LOG_TEXT("service", service->name), LOG_TEXT("problem", status_name(status))));
}

uint64_t routing_shadow_number(const struct routing *routing, const char *service, uint64_t run)
{
    uint16_t slot = routing_service_slot(routing, service);
    if (slot == PROXY_SLOT_NONE || run == 0 || routing->services[slot].mirror_for != run)
        return 0;
    return routing->services[slot].mirror_number;
}

uint64_t routing_shadow_dropped(struct routing *routing, const char *service)
{
    uint16_t slot = routing_service_slot(routing, service);
    if (slot == PROXY_SLOT_NONE)
        return 0;
    struct routing_service *own = &routing->services[slot];
    uint64_t before = own->mirror_dropped;
    own->mirror_dropped = dropped_in_all(own);
    return own->mirror_dropped - before;
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
