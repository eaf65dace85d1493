// SPDX-License-Identifier: Apache-2.0
// What Prometheus reads of routing: versions, workers, the table. Durations are the exact histograms cut at
// classic bounds: a bound counts what lies surely below it.
#include <math.h>
#include <stdio.h>

#include "base/check.h"
#include "operate/metrics/exposition.h"
#include "ship/routing/routing_private.h"
#include "stats/histogram.h"

METRICS_FAMILY(requests, COUNTER, "requests_total",
               "Answers by version, class of their status, and who gave them: the origin, or sluice in its "
               "place. Without a version: requests that were routed nowhere.");
METRICS_FAMILY(routed, COUNTER, "routed_total", "Requests routed to a version.");
METRICS_FAMILY(completed, COUNTER, "completed_total",
               "Routed requests that are over: answered, failed or aborted.");
METRICS_FAMILY(forced, COUNTER, "forced_total",
               "Requests sent to a version by an operator's header; never evidence.");
METRICS_FAMILY(flagged, COUNTER, "flagged_total", "Requests that a flag sent to a version; never evidence.");
METRICS_FAMILY(in_flight, GAUGE, "in_flight_requests", "Requests routed to a version and not over yet.");
METRICS_FAMILY(duration, HISTOGRAM, "request_duration_seconds",
               "From routing to the last byte of the origin's answer, completed requests with an answer.");
METRICS_FAMILY(attempts, COUNTER, "attempts_total", "Exchanges begun with an endpoint.");
METRICS_FAMILY(retries, COUNTER, "retries_total", "Attempts after the first of their request.");
METRICS_FAMILY(failures, COUNTER, "upstream_failures_total", "Failed attempts by reason.");
METRICS_FAMILY(ejections, COUNTER, "ejections_total",
               "Endpoints taken out of use because attempts in a row failed, by the last failure.");
METRICS_FAMILY(fallbacks, COUNTER, "fallbacks_total",
               "Requests of a new version that reached nobody and were served by the stable one.");
METRICS_FAMILY(error_events, COUNTER, "error_events_total",
               "Failed attempts that were the first of their unit.");
METRICS_FAMILY(aborted, COUNTER, "aborted_total", "Requests whose client left before the end.");
METRICS_FAMILY(unsearched, COUNTER, "unsearched_bodies_total",
               "Answers whose body is encoded, so that no text was looked for in it (errors.body).");
METRICS_FAMILY(good, COUNTER, "good_total", "Requests completed without error within the deadline.");
METRICS_FAMILY(upgrades, COUNTER, "upgrades_total", "Connections upgraded to a tunnel.");
METRICS_FAMILY(bytes, COUNTER, "body_bytes_total", "Body bytes passed on, by direction.");
METRICS_FAMILY(worker_events, COUNTER, "worker_events_total",
               "What each worker counted: connections, answers of its own, pools.");
METRICS_FAMILY(clients, GAUGE, "client_connections", "Client connections open now, tunnels included.");
METRICS_FAMILY(lost, COUNTER, "evidence_lost_total",
               "Requests missing from the evidence of a service, by reason.");
METRICS_FAMILY(table_version, GAUGE, "table_version", "Version of the routing table in force.");
METRICS_FAMILY(table_acknowledged, GAUGE, "table_acknowledged_version", "Version every worker has taken up.");
METRICS_FAMILY(table_switch, GAUGE, "table_switch_seconds",
               "From the last publish until every worker had taken the table up.");
METRICS_FAMILY(table_switch_max, GAUGE, "table_switch_max_seconds", "The longest such time since the start.");
METRICS_FAMILY(table_build, GAUGE, "table_build_seconds",
               "Time it took to build and publish the last table.");

// ---- versions ----

struct version_reading {
    struct metrics_label labels[4]; // service, version, and two free
    uint64_t counts[PROXY_VERSION_COUNTERS];
};

// The first version in that slot or behind it, into *slot. False: there is none.
static bool next_version(const struct routing *routing, uint32_t *slot, struct version_reading *reading)
{
    const struct routing_slots *versions = &routing->version_slots;
    while (*slot < versions->count && versions->items[*slot].name[0] == '\0')
        ++*slot;
    if (*slot == versions->count)
        return false;
    const struct routing_slot *version = &versions->items[*slot];
    reading->labels[0] = metrics_label_of("service", routing->service_slots.items[version->service].name);
    reading->labels[1] = metrics_label_of("version", version->name);
    proxy_version_counts(routing->proxy, (uint16_t)*slot, reading->counts);
    return true;
}

static void version_family(const struct routing *routing, struct metrics_writer *w,
                           const struct metrics_family *family, enum proxy_version_counter counter)
{
    metrics_open(w, family);
    struct version_reading reading;
    for (uint32_t slot = 0; next_version(routing, &slot, &reading); slot++) {
        metrics_count(w, reading.labels, 2, reading.counts[counter]);
    }
}

struct labelled_counter {
    const char *value;
    enum proxy_version_counter counter;
};

static void version_labelled(const struct routing *routing, struct metrics_writer *w,
                             const struct metrics_family *family, const char *name,
                             const struct labelled_counter *counters, size_t count)
{
    metrics_open(w, family);
    struct version_reading reading;
    for (uint32_t slot = 0; next_version(routing, &slot, &reading); slot++) {
        for (size_t i = 0; i < count; i++) {
            reading.labels[2] = metrics_label_of(name, counters[i].value);
            metrics_count(w, reading.labels, 3, reading.counts[counters[i].counter]);
        }
    }
}

// What the workers answered by themselves, without what stands with a version.
static void write_unrouted(struct metrics_writer *w, const struct routing *routing, uint64_t routed_4xx,
                           uint64_t routed_5xx)
{
    uint64_t local = 0, local_5xx = 0;
    for (uint32_t worker = 0; worker < proxy_worker_count(routing->proxy); worker++) {
        uint64_t counts[PROXY_WORKER_COUNTERS];
        proxy_worker_counts(routing->proxy, worker, counts);
        local += counts[PROXY_WORKER_LOCAL];
        local_5xx += counts[PROXY_WORKER_LOCAL_5XX];
    }
    struct metrics_label labels[] = {metrics_label_of("service", ""), metrics_label_of("version", ""),
                                     metrics_label_of("class", "4xx"), metrics_label_of("by", "sluice")};
    // The counts are read a moment apart: below zero means none.
    uint64_t all_4xx = local > local_5xx ? local - local_5xx : 0;
    metrics_count(w, labels, 4, all_4xx > routed_4xx ? all_4xx - routed_4xx : 0);
    labels[2] = metrics_label_of("class", "5xx");
    metrics_count(w, labels, 4, local_5xx > routed_5xx ? local_5xx - routed_5xx : 0);
}

static void write_requests(const struct routing *routing, struct metrics_writer *w)
{
    static const struct {
        struct labelled_counter class;
        const char *by;
    } rows[] = {{{"1xx", PROXY_VERSION_STATUS_1XX}, "origin"}, {{"2xx", PROXY_VERSION_STATUS_2XX}, "origin"},
                {{"3xx", PROXY_VERSION_STATUS_3XX}, "origin"}, {{"4xx", PROXY_VERSION_STATUS_4XX}, "origin"},
                {{"5xx", PROXY_VERSION_STATUS_5XX}, "origin"}, {{"4xx", PROXY_VERSION_LOCAL_4XX}, "sluice"},
                {{"5xx", PROXY_VERSION_LOCAL_5XX}, "sluice"}};
    uint64_t local_4xx = routing->forgotten_4xx, local_5xx = routing->forgotten_5xx;
    metrics_open(w, &requests);
    struct version_reading reading;
    for (uint32_t slot = 0; next_version(routing, &slot, &reading); slot++) {
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            reading.labels[2] = metrics_label_of("class", rows[i].class.value);
            reading.labels[3] = metrics_label_of("by", rows[i].by);
            metrics_count(w, reading.labels, 4, reading.counts[rows[i].class.counter]);
        }
        local_4xx += reading.counts[PROXY_VERSION_LOCAL_4XX];
        local_5xx += reading.counts[PROXY_VERSION_LOCAL_5XX];
    }
    write_unrouted(w, routing, local_4xx, local_5xx);
}

static void write_durations(const struct routing *routing, struct metrics_writer *w)
{
    static const double bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                    0.25,   0.5,   1,      2.5,   5,    10,    30};
    metrics_open(w, &duration);
    struct version_reading reading;
    for (uint32_t slot = 0; next_version(routing, &slot, &reading); slot++) {
        const struct stats_histogram *seen = routing->histogram;
        proxy_version_latency(routing->proxy, (uint16_t)slot, routing->histogram);
        uint64_t cumulative[ARRAY_LEN(bounds)];
        uint64_t whole = 0;
        for (uint32_t i = 0; i < STATS_HISTOGRAM_BUCKETS; i++)
            whole += seen->buckets[i];
        for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
            uint64_t edge = stats_histogram_edge_scale((uint64_t)(bounds[i] * 1e6), 1.0);
            cumulative[i] = whole - stats_histogram_count_above(seen, edge);
        }
        struct metrics_buckets buckets = {ARRAY_LEN(bounds), bounds, cumulative, whole,
                                          metrics_seconds(seen->sum)};
        metrics_histogram(w, reading.labels, 2, &buckets);
    }
}

static void write_versions(const struct routing *routing, struct metrics_writer *w)
{
    static const struct labelled_counter reasons[] = {{"5xx", PROXY_VERSION_ERROR_5XX},
                                                      {"status", PROXY_VERSION_ERROR_STATUS},
                                                      {"header", PROXY_VERSION_ERROR_HEADER},
                                                      {"grpc", PROXY_VERSION_ERROR_GRPC},
                                                      {"body", PROXY_VERSION_ERROR_BODY},
                                                      {"connect", PROXY_VERSION_ERROR_CONNECT},
                                                      {"tls", PROXY_VERSION_ERROR_TLS},
                                                      {"timeout", PROXY_VERSION_ERROR_TIMEOUT},
                                                      {"reset", PROXY_VERSION_ERROR_RESET},
                                                      {"broken", PROXY_VERSION_ERROR_BROKEN},
                                                      {"unavailable", PROXY_VERSION_ERROR_UNAVAILABLE},
                                                      {"ejected", PROXY_VERSION_ERROR_EJECTED},
                                                      {"breaker", PROXY_VERSION_ERROR_OPEN}};
    static const struct labelled_counter ejected[] = {{"answer", PROXY_VERSION_EJECTED_ANSWER},
                                                      {"connect", PROXY_VERSION_EJECTED_CONNECT},
                                                      {"timeout", PROXY_VERSION_EJECTED_TIMEOUT},
                                                      {"reset", PROXY_VERSION_EJECTED_RESET},
                                                      {"broken", PROXY_VERSION_EJECTED_BROKEN}};
    static const struct labelled_counter directions[] = {{"in", PROXY_VERSION_BYTES_IN},
                                                         {"out", PROXY_VERSION_BYTES_OUT}};
    write_requests(routing, w);
    version_family(routing, w, &routed, PROXY_VERSION_REQUESTS);
    version_family(routing, w, &completed, PROXY_VERSION_COMPLETED);
    metrics_open(w, &in_flight);
    struct version_reading reading;
    for (uint32_t slot = 0; next_version(routing, &slot, &reading); slot++) {
        // The two counts are read a moment apart: below zero means none.
        uint64_t over = reading.counts[PROXY_VERSION_COMPLETED];
        uint64_t all = reading.counts[PROXY_VERSION_REQUESTS];
        metrics_count(w, reading.labels, 2, all > over ? all - over : 0);
    }
    write_durations(routing, w);
    version_family(routing, w, &forced, PROXY_VERSION_FORCED);
    version_family(routing, w, &flagged, PROXY_VERSION_FLAGGED);
    version_family(routing, w, &attempts, PROXY_VERSION_ATTEMPTS);
    version_family(routing, w, &retries, PROXY_VERSION_RETRIES);
    version_labelled(routing, w, &failures, "reason", reasons, ARRAY_LEN(reasons));
    version_labelled(routing, w, &ejections, "reason", ejected, ARRAY_LEN(ejected));
    version_family(routing, w, &fallbacks, PROXY_VERSION_FALLBACKS);
    version_family(routing, w, &error_events, PROXY_VERSION_ERROR_EVENTS);
    version_family(routing, w, &aborted, PROXY_VERSION_ABORTED);
    version_family(routing, w, &unsearched, PROXY_VERSION_UNSEARCHED);
    version_family(routing, w, &good, PROXY_VERSION_GOOD);
    version_family(routing, w, &upgrades, PROXY_VERSION_UPGRADES);
    version_labelled(routing, w, &bytes, "direction", directions, ARRAY_LEN(directions));
}

static void write_workers(const struct routing *routing, struct metrics_writer *w)
{
    metrics_open(w, &worker_events);
    for (uint32_t worker = 0; worker < proxy_worker_count(routing->proxy); worker++) {
        uint64_t counts[PROXY_WORKER_COUNTERS];
        proxy_worker_counts(routing->proxy, worker, counts);
        char number[12];
        snprintf(number, sizeof number, "%u", worker);
        for (int i = 0; i < PROXY_WORKER_NAMED; i++) {
            struct metrics_label labels[] = {
                metrics_label_of("worker", number),
                metrics_label_of("event", proxy_worker_counter_name((enum proxy_worker_counter)i))};
            metrics_count(w, labels, 2, counts[i]);
        }
    }
    metrics_one_value(w, &clients, (double)proxy_clients_open(routing->proxy));
    metrics_open(w, &lost);
    for (uint32_t slot = 0; slot < routing->service_slots.count; slot++) {
        const char *service = routing->service_slots.items[slot].name;
        struct proxy_sheet_losses losses;
        if (service[0] == '\0')
            continue;
        proxy_gather_losses(routing->proxy, (uint16_t)slot, &losses);
        struct metrics_label labels[] = {metrics_label_of("service", service),
                                         metrics_label_of("reason", "no_span")};
        metrics_count(w, labels, 2, losses.routed_unspanned);
        labels[1] = metrics_label_of("reason", "late");
        metrics_count(w, labels, 2, losses.completed_late);
        labels[1] = metrics_label_of("reason", "dropped_pending");
        metrics_count(w, labels, 2, losses.pending_dropped);
    }
}

// ---- the table ----

static void write_table(const struct routing *routing, struct metrics_writer *w)
{
    struct routing_state state;
    routing_state_get(routing, &state);
    metrics_one_value(w, &table_version, (double)state.table_version);
    metrics_one_value(w, &table_acknowledged, (double)state.table_acknowledged);
    metrics_one_value(w, &table_switch, metrics_seconds(state.table_switch_us));
    metrics_one_value(w, &table_switch_max, metrics_seconds(state.table_switch_us_max));
    metrics_one_value(w, &table_build, metrics_seconds(state.table_build_us));
}

void routing_metrics_write(const struct routing *routing, struct metrics_writer *writer)
{
    write_table(routing, writer);
    routing_names_metrics(routing, writer);
    routing_lists_metrics(routing, writer);
    routing_health_metrics(routing, writer);
    routing_tls_metrics(routing, writer);
    write_workers(routing, writer);
    write_versions(routing, writer);
    routing_compression_metrics(routing, writer);
    routing_mirror_metrics(routing, writer);
}
