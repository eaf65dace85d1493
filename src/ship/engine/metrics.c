// SPDX-License-Identifier: Apache-2.0
// Everything Prometheus reads, from one table of families. Durations are the exact histograms cut at classic
// bounds: a bound counts what lies surely below it.
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "operate/metrics/exposition.h"
#include "ship/engine/engine_private.h"

#define FAMILY(id, type, suffix, says)                                                                       \
    static const struct metrics_family id = {"sluice_" suffix, METRICS_##type, says}

FAMILY(build_info, GAUGE, "build_info", "Always 1; the labels tell version and event loop.");
FAMILY(start_time, GAUGE, "start_time_seconds", "When the daemon began, in seconds since 1970.");
FAMILY(requests, COUNTER, "requests_total", "Answers of the origin by version and class of their status.");
FAMILY(routed, COUNTER, "routed_total", "Requests routed to a version.");
FAMILY(completed, COUNTER, "completed_total", "Routed requests that are over: answered, failed or aborted.");
FAMILY(forced, COUNTER, "forced_total",
       "Requests sent to a version by an operator's header; never evidence.");
FAMILY(flagged, COUNTER, "flagged_total", "Requests that a flag sent to a version; never evidence.");
FAMILY(in_flight, GAUGE, "in_flight_requests", "Requests routed to a version and not over yet.");
FAMILY(duration, HISTOGRAM, "request_duration_seconds",
       "From routing to the last byte of the origin's answer, completed requests with an answer.");
FAMILY(attempts, COUNTER, "attempts_total", "Exchanges begun with an endpoint.");
FAMILY(retries, COUNTER, "retries_total", "Attempts after the first of their request.");
FAMILY(failures, COUNTER, "upstream_failures_total", "Failed attempts by reason.");
FAMILY(error_events, COUNTER, "error_events_total", "Failed attempts that were the first of their unit.");
FAMILY(aborted, COUNTER, "aborted_total", "Requests whose client left before the end.");
FAMILY(good, COUNTER, "good_total", "Requests completed without error within the deadline.");
FAMILY(upgrades, COUNTER, "upgrades_total", "Connections upgraded to a tunnel.");
FAMILY(bytes, COUNTER, "body_bytes_total", "Body bytes passed on, by direction.");
FAMILY(worker_events, COUNTER, "worker_events_total",
       "What each worker counted: connections, answers of its own, pools.");
FAMILY(clients, GAUGE, "client_connections", "Client connections open now, tunnels included.");
FAMILY(lost, COUNTER, "evidence_lost_total", "Requests missing from the evidence of a service, by reason.");
FAMILY(table_version, GAUGE, "table_version", "Version of the routing table in force.");
FAMILY(table_acknowledged, GAUGE, "table_acknowledged_version", "Version every worker has taken up.");
FAMILY(table_switch, GAUGE, "table_switch_seconds",
       "From the last publish until every worker had taken the table up.");
FAMILY(table_switch_max, GAUGE, "table_switch_max_seconds", "The longest such time since the start.");
FAMILY(table_build, GAUGE, "table_build_seconds", "Time it took to build and publish the last table.");
FAMILY(ticks, COUNTER, "ticks_total", "Ticks of the control thread.");
FAMILY(ticks_late, COUNTER, "ticks_late_total", "Ticks that began more than a tick late.");
FAMILY(tick_time, GAUGE, "tick_seconds", "Time the last tick took.");
FAMILY(tick_time_max, GAUGE, "tick_max_seconds", "The longest tick since the start.");
FAMILY(journal_entries, GAUGE, "journal_entries", "Entries in the journal.");
FAMILY(journal_size, GAUGE, "journal_bytes", "Size of the journal on disk.");
FAMILY(journal_failures, COUNTER, "journal_failures_total", "Writes to the journal that failed.");
FAMILY(journal_failing, GAUGE, "journal_failing",
       "1 while the journal cannot be written and decisions stand.");
FAMILY(rollout_state, GAUGE, "rollout_state", "1 for the state a rollout is in, 0 for the others.");
FAMILY(rollout_stage, GAUGE, "rollout_stage", "Stage a rollout is in, from 1; 0: not started.");
FAMILY(rollout_weight, GAUGE, "rollout_weight_ratio", "The canary's share that is wanted, 0 to 1.");
FAMILY(rollout_share, GAUGE, "rollout_share_ratio",
       "The canary's share measured in the present stage, 0 to 1.");
FAMILY(rollout_bad, GAUGE, "rollout_evidence_bad", "ln E against the canary; rollback at the needed value.");
FAMILY(rollout_bad_needed, GAUGE, "rollout_evidence_bad_needed", "ln E at which a rollout is taken back.");
FAMILY(rollout_good, GAUGE, "rollout_evidence_good", "ln E for the canary, by check.");
FAMILY(rollout_good_needed, GAUGE, "rollout_evidence_good_needed", "ln E at which a check passes.");
FAMILY(rollout_srm, GAUGE, "rollout_evidence_sample_ratio", "ln E that the split is not what it should be.");
FAMILY(rollout_blocked, GAUGE, "rollout_blocked", "1 while the sample ratio withholds every verdict.");
FAMILY(rollout_decisions, COUNTER, "rollout_decisions_total", "Decisions of a rollout, all runs.");
FAMILY(log_lines, COUNTER, "log_lines_total", "Log lines written.");
FAMILY(log_held, COUNTER, "log_lines_held_total",
       "Repeating log lines that were counted instead of written.");

#define PROCESS(id, type, name, says) static const struct metrics_family id = {name, METRICS_##type, says}

PROCESS(process_cpu, COUNTER, "process_cpu_seconds_total", "User and system CPU time.");
PROCESS(process_memory, GAUGE, "process_resident_memory_bytes", "Resident memory.");
PROCESS(process_fds_max, GAUGE, "process_max_fds", "Limit of open file descriptors.");

static struct metrics_label label(const char *name, const char *value)
{
    return (struct metrics_label){name, slice_of(value)};
}

static double seconds(uint64_t us)
{
    return (double)us / 1e6;
}

static void one(struct metrics_writer *w, const struct metrics_family *family, double value)
{
    metrics_open(w, family);
    metrics_value(w, NULL, 0, value);
}

static void one_count(struct metrics_writer *w, const struct metrics_family *family, uint64_t value)
{
    metrics_open(w, family);
    metrics_count(w, NULL, 0, value);
}

// ---- versions ----

struct version_reading {
    struct metrics_label labels[3]; // service, version, and one free
    uint64_t counts[PROXY_VERSION_COUNTERS];
};

static void read_version(const struct engine *engine, uint32_t slot, struct version_reading *reading)
{
    const struct engine_version_slot *version = &engine->version_slots[slot];
    reading->labels[0] = label("service", engine->service_slots[version->service]);
    reading->labels[1] = label("version", version->name);
    proxy_version_counts(engine->proxy, (uint16_t)slot, reading->counts);
}

static void version_family(const struct engine *engine, struct metrics_writer *w,
                           const struct metrics_family *family, enum proxy_version_counter counter)
{
    metrics_open(w, family);
    for (uint32_t slot = 0; slot < engine->version_slot_count; slot++) {
        struct version_reading reading;
        read_version(engine, slot, &reading);
        metrics_count(w, reading.labels, 2, reading.counts[counter]);
    }
}

struct labelled_counter {
    const char *value;
    enum proxy_version_counter counter;
};

static void version_labelled(const struct engine *engine, struct metrics_writer *w,
                             const struct metrics_family *family, const char *name,
                             const struct labelled_counter *counters, size_t count)
{
    metrics_open(w, family);
    for (uint32_t slot = 0; slot < engine->version_slot_count; slot++) {
        struct version_reading reading;
        read_version(engine, slot, &reading);
        for (size_t i = 0; i < count; i++) {
            reading.labels[2] = label(name, counters[i].value);
            metrics_count(w, reading.labels, 3, reading.counts[counters[i].counter]);
        }
    }
}

static void write_durations(const struct engine *engine, struct metrics_writer *w)
{
    static const double bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                    0.25,   0.5,   1,      2.5,   5,    10,    30};
    metrics_open(w, &duration);
    for (uint32_t slot = 0; slot < engine->version_slot_count; slot++) {
        struct version_reading reading;
        read_version(engine, slot, &reading);
        const struct stats_histogram *seen = engine->histogram;
        proxy_version_latency(engine->proxy, (uint16_t)slot, engine->histogram);
        uint64_t cumulative[ARRAY_LEN(bounds)];
        uint64_t whole = 0;
        for (uint32_t i = 0; i < STATS_HISTOGRAM_BUCKETS; i++)
            whole += seen->buckets[i];
        for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
            uint64_t edge = stats_histogram_edge_scale((uint64_t)(bounds[i] * 1e6), 1.0);
            cumulative[i] = whole - stats_histogram_count_above(seen, edge);
        }
        struct metrics_buckets buckets = {ARRAY_LEN(bounds), bounds, cumulative, whole, seconds(seen->sum)};
        metrics_histogram(w, reading.labels, 2, &buckets);
    }
}

static void write_versions(const struct engine *engine, struct metrics_writer *w)
{
    static const struct labelled_counter classes[] = {{"1xx", PROXY_VERSION_STATUS_1XX},
                                                      {"2xx", PROXY_VERSION_STATUS_2XX},
                                                      {"3xx", PROXY_VERSION_STATUS_3XX},
                                                      {"4xx", PROXY_VERSION_STATUS_4XX},
                                                      {"5xx", PROXY_VERSION_STATUS_5XX}};
    static const struct labelled_counter reasons[] = {
        {"5xx", PROXY_VERSION_ERROR_5XX},         {"connect", PROXY_VERSION_ERROR_CONNECT},
        {"timeout", PROXY_VERSION_ERROR_TIMEOUT}, {"reset", PROXY_VERSION_ERROR_RESET},
        {"broken", PROXY_VERSION_ERROR_BROKEN},   {"unavailable", PROXY_VERSION_ERROR_UNAVAILABLE}};
    static const struct labelled_counter directions[] = {{"in", PROXY_VERSION_BYTES_IN},
                                                         {"out", PROXY_VERSION_BYTES_OUT}};
    version_labelled(engine, w, &requests, "class", classes, ARRAY_LEN(classes));
    version_family(engine, w, &routed, PROXY_VERSION_REQUESTS);
    version_family(engine, w, &completed, PROXY_VERSION_COMPLETED);
    metrics_open(w, &in_flight);
    for (uint32_t slot = 0; slot < engine->version_slot_count; slot++) {
        struct version_reading reading;
        read_version(engine, slot, &reading);
        // The two counts are read a moment apart: below zero means none.
        uint64_t over = reading.counts[PROXY_VERSION_COMPLETED];
        uint64_t all = reading.counts[PROXY_VERSION_REQUESTS];
        metrics_count(w, reading.labels, 2, all > over ? all - over : 0);
    }
    write_durations(engine, w);
    version_family(engine, w, &forced, PROXY_VERSION_FORCED);
    version_family(engine, w, &flagged, PROXY_VERSION_FLAGGED);
    version_family(engine, w, &attempts, PROXY_VERSION_ATTEMPTS);
    version_family(engine, w, &retries, PROXY_VERSION_RETRIES);
    version_labelled(engine, w, &failures, "reason", reasons, ARRAY_LEN(reasons));
    version_family(engine, w, &error_events, PROXY_VERSION_ERROR_EVENTS);
    version_family(engine, w, &aborted, PROXY_VERSION_ABORTED);
    version_family(engine, w, &good, PROXY_VERSION_GOOD);
    version_family(engine, w, &upgrades, PROXY_VERSION_UPGRADES);
    version_labelled(engine, w, &bytes, "direction", directions, ARRAY_LEN(directions));
}

static void write_workers(const struct engine *engine, struct metrics_writer *w)
{
    metrics_open(w, &worker_events);
    for (uint32_t worker = 0; worker < proxy_worker_count(engine->proxy); worker++) {
        uint64_t counts[PROXY_WORKER_COUNTERS];
        proxy_worker_counts(engine->proxy, worker, counts);
        char number[12];
        snprintf(number, sizeof number, "%u", worker);
        for (int i = 0; i < PROXY_WORKER_COUNTERS; i++) {
            struct metrics_label labels[] = {
                label("worker", number),
                label("event", proxy_worker_counter_name((enum proxy_worker_counter)i))};
            metrics_count(w, labels, 2, counts[i]);
        }
    }
    one(w, &clients, (double)proxy_clients_open(engine->proxy));
    metrics_open(w, &lost);
    for (uint32_t slot = 0; slot < engine->service_slot_count; slot++) {
        struct proxy_sheet_losses losses;
        proxy_gather_losses(engine->proxy, (uint16_t)slot, &losses);
        struct metrics_label labels[] = {label("service", engine->service_slots[slot]),
                                         label("reason", "no_span")};
        metrics_count(w, labels, 2, losses.routed_unspanned);
        labels[1] = label("reason", "late");
        metrics_count(w, labels, 2, losses.completed_late);
        labels[1] = label("reason", "dropped_pending");
        metrics_count(w, labels, 2, losses.pending_dropped);
    }
}

// ---- control itself ----

static void write_health(const struct engine *engine, struct metrics_writer *w)
{
    struct engine_health health;
    engine_health_get(engine, &health);
    one(w, &start_time, (double)health.started_ms / 1000.0);
    one(w, &table_version, (double)health.table_version);
    one(w, &table_acknowledged, (double)health.table_acknowledged);
    one(w, &table_switch, seconds(health.table_switch_us));
    one(w, &table_switch_max, seconds(health.table_switch_us_max));
    one(w, &table_build, seconds(health.table_build_us));
    one_count(w, &ticks, health.ticks);
    one_count(w, &ticks_late, health.ticks_late);
    one(w, &tick_time, seconds(health.tick_us));
    one(w, &tick_time_max, seconds(health.tick_us_max));
    one(w, &journal_entries, (double)health.journal_entries);
    one(w, &journal_size, (double)health.journal_bytes);
    one_count(w, &journal_failures, health.journal_failures);
    one(w, &journal_failing, health.journal_failing ? 1 : 0);
    one_count(w, &log_lines, engine->log->lines);
    one_count(w, &log_held, engine->log->lines_held);
}

static void write_process(const struct engine *engine, struct metrics_writer *w)
{
    metrics_open(w, &build_info);
    struct metrics_label labels[] = {label("version", SLUICE_VERSION),
                                     label("io", io_kind_name(io_loop_kind(engine->loop)))};
    metrics_value(w, labels, 2, 1);
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        metrics_open(w, &process_cpu);
        metrics_value(w, NULL, 0,
                      (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                          (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        one(w, &process_fds_max, (double)limit.rlim_cur);
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm == NULL)
        return;
    unsigned long long total = 0, resident = 0;
    if (fscanf(statm, "%llu %llu", &total, &resident) == 2)
        one(w, &process_memory, (double)resident * (double)sysconf(_SC_PAGESIZE));
    fclose(statm);
}

// ---- rollouts ----

// What one gauge shows of a rollout.
typedef double rollout_reading(const struct engine_rollout *rollout);

static double read_stage(const struct engine_rollout *rollout)
{
    return rollout->view.started_ms == 0 ? 0 : rollout->view.stage + 1;
}

static double read_weight(const struct engine_rollout *rollout)
{
    return (double)rollout->view.weight / ROLLOUT_WEIGHT_FULL;
}

static double read_share(const struct engine_rollout *rollout)
{
    return rollout->arms[ROLLOUT_ARM_CANARY].share;
}

static double read_bad(const struct engine_rollout *rollout)
{
    return rollout->view.log_e_bad;
}

static double read_bad_needed(const struct engine_rollout *rollout)
{
    return rollout->view.log_e_bad_needed;
}

static double read_srm(const struct engine_rollout *rollout)
{
    return rollout->view.log_e_srm;
}

static double read_blocked(const struct engine_rollout *rollout)
{
    return rollout->view.blocked ? 1 : 0;
}

static double read_decisions(const struct engine_rollout *rollout)
{
    return rollout->record != NULL ? (double)rollout->record->decisions : 0;
}

static void rollout_family(struct engine *engine, struct metrics_writer *w,
                           const struct metrics_family *family, rollout_reading *read)
{
    metrics_open(w, family);
    for (uint32_t i = 0; i < engine_rollout_count(engine); i++) {
        struct engine_rollout rollout;
        engine_rollout_get(engine, i, &rollout);
        struct metrics_label labels[] = {label("rollout", rollout.name),
                                         label("service", rollout.spec->service)};
        metrics_value(w, labels, 2, read(&rollout));
    }
}

static void write_states(struct engine *engine, struct metrics_writer *w)
{
    metrics_open(w, &rollout_state);
    for (uint32_t i = 0; i < engine_rollout_count(engine); i++) {
        struct engine_rollout rollout;
        engine_rollout_get(engine, i, &rollout);
        for (int state = 0; state < ROLLOUT_STATES; state++) {
            struct metrics_label labels[] = {label("rollout", rollout.name),
                                             label("service", rollout.spec->service),
                                             label("state", rollout_state_name((enum rollout_state)state))};
            metrics_value(w, labels, 3, (int)rollout.view.state == state ? 1 : 0);
        }
    }
}

static void write_checks(struct engine *engine, struct metrics_writer *w, bool needed)
{
    metrics_open(w, needed ? &rollout_good_needed : &rollout_good);
    for (uint32_t i = 0; i < engine_rollout_count(engine); i++) {
        struct engine_rollout rollout;
        engine_rollout_get(engine, i, &rollout);
        for (uint32_t c = 0; c < rollout.view.check_count; c++) {
            const struct rollout_check_view *check = &rollout.view.checks[c];
            struct metrics_label labels[] = {label("rollout", rollout.name),
                                             label("service", rollout.spec->service),
                                             label("check", check->name)};
            metrics_value(w, labels, 3, needed ? check->log_e_good_needed : check->log_e_good);
        }
    }
}

static void write_rollouts(struct engine *engine, struct metrics_writer *w)
{
    write_states(engine, w);
    rollout_family(engine, w, &rollout_stage, read_stage);
    rollout_family(engine, w, &rollout_weight, read_weight);
    rollout_family(engine, w, &rollout_share, read_share);
    rollout_family(engine, w, &rollout_bad, read_bad);
    rollout_family(engine, w, &rollout_bad_needed, read_bad_needed);
    write_checks(engine, w, false);
    write_checks(engine, w, true);
    rollout_family(engine, w, &rollout_srm, read_srm);
    rollout_family(engine, w, &rollout_blocked, read_blocked);
    rollout_family(engine, w, &rollout_decisions, read_decisions);
}

enum status engine_metrics_write(struct engine *engine, char *storage, size_t cap, struct slice *text)
{
    struct metrics_writer writer;
    metrics_writer_init(&writer, storage, cap);
    write_process(engine, &writer);
    write_health(engine, &writer);
    write_workers(engine, &writer);
    write_versions(engine, &writer);
    write_rollouts(engine, &writer);
    engine_metrics_flags(engine, &writer);
    for (struct list *link = engine->metric_sources.next; link != &engine->metric_sources;
         link = link->next) {
        struct engine_metric_source *source = CONTAINER_OF(link, struct engine_metric_source, link);
        source->write(source, &writer);
    }
    return metrics_finish(&writer, text);
}
