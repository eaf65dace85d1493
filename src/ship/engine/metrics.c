// SPDX-License-Identifier: Apache-2.0
// What Prometheus reads: the process, the engine and its rollouts, then what others have to tell.
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "operate/metrics/exposition.h"
#include "ship/engine/engine_private.h"

METRICS_FAMILY(build_info, GAUGE, "build_info", "Always 1; the labels tell version and event loop.");
METRICS_FAMILY(start_time, GAUGE, "start_time_seconds", "When the daemon began, in seconds since 1970.");
METRICS_FAMILY(ticks, COUNTER, "ticks_total", "Ticks of the engine thread.");
METRICS_FAMILY(ticks_late, COUNTER, "ticks_late_total", "Ticks that began more than a tick late.");
METRICS_FAMILY(tick_time, GAUGE, "tick_seconds", "Time the last tick took.");
METRICS_FAMILY(tick_time_max, GAUGE, "tick_max_seconds", "The longest tick since the start.");
METRICS_FAMILY(delay, GAUGE, "decision_delay_seconds",
               "How late the last tick began: decisions are late by that.");
METRICS_FAMILY(delay_max, GAUGE, "decision_delay_max_seconds", "The longest such delay since the start.");
METRICS_FAMILY(decision, HISTOGRAM, "decision_seconds",
               "From when a tick was due until every worker had taken up what it decided.");
METRICS_FAMILY(journal_entries, GAUGE, "journal_entries", "Entries in the journal.");
METRICS_FAMILY(journal_size, GAUGE, "journal_bytes", "Size of the journal on disk.");
METRICS_FAMILY(journal_waiting, GAUGE, "journal_waiting_entries",
               "Entries that took effect before the journal could hold them.");
METRICS_FAMILY(journal_failures, COUNTER, "journal_failures_total", "Writes to the journal that failed.");
METRICS_FAMILY(journal_failing, GAUGE, "journal_failing",
               "1 while the journal cannot be written and decisions stand.");
METRICS_FAMILY(rollout_state, GAUGE, "rollout_state", "1 for the state a rollout is in, 0 for the others.");
METRICS_FAMILY(rollout_stage, GAUGE, "rollout_stage", "Stage a rollout is in, from 1; 0: not started.");
METRICS_FAMILY(rollout_weight, GAUGE, "rollout_weight_ratio", "The canary's share that is wanted, 0 to 1.");
METRICS_FAMILY(rollout_share, GAUGE, "rollout_share_ratio",
               "The canary's share measured in the present stage, 0 to 1.");
METRICS_FAMILY(rollout_bad, GAUGE, "rollout_evidence_bad",
               "ln E against the canary; rollback at the needed value.");
METRICS_FAMILY(rollout_bad_needed, GAUGE, "rollout_evidence_bad_needed",
               "ln E at which a rollout is taken back.");
METRICS_FAMILY(rollout_good, GAUGE, "rollout_evidence_good", "ln E for the canary, by check.");
METRICS_FAMILY(rollout_good_needed, GAUGE, "rollout_evidence_good_needed", "ln E at which a check passes.");
METRICS_FAMILY(rollout_srm, GAUGE, "rollout_evidence_sample_ratio",
               "ln E that the split is not what it should be.");
METRICS_FAMILY(rollout_blocked, GAUGE, "rollout_blocked",
               "1 while the sample ratio withholds every verdict.");
METRICS_FAMILY(rollout_decisions, COUNTER, "rollout_decisions_total", "Decisions of a rollout, all runs.");
METRICS_FAMILY(log_lines, COUNTER, "log_lines_total", "Log lines written.");
METRICS_FAMILY(log_held, COUNTER, "log_lines_held_total",
               "Repeating log lines that were counted instead of written.");

#define PROCESS(id, type, name, says) static const struct metrics_family id = {name, METRICS_##type, says}

PROCESS(process_cpu, COUNTER, "process_cpu_seconds_total", "User and system CPU time.");
PROCESS(process_memory, GAUGE, "process_resident_memory_bytes", "Resident memory.");
PROCESS(process_fds_max, GAUGE, "process_max_fds", "Limit of open file descriptors.");

// ---- the engine itself ----

static void write_decisions(const struct engine_health *health, struct metrics_writer *w)
{
    double upper[ENGINE_DECISION_BUCKETS];
    uint64_t cumulative[ENGINE_DECISION_BUCKETS];
    uint64_t sum = 0;
    for (uint32_t i = 0; i < ENGINE_DECISION_BUCKETS; i++) {
        upper[i] = engine_decision_ms[i] / 1000.0;
        cumulative[i] = sum += health->decisions[i];
    }
    metrics_open(w, &decision);
    metrics_histogram(w, NULL, 0,
                      &(struct metrics_buckets){.bucket_count = ENGINE_DECISION_BUCKETS,
                                                .upper = upper,
                                                .cumulative = cumulative,
                                                .count = health->decisions_count,
                                                .sum = metrics_seconds(health->decisions_us)});
}

static void write_health(const struct engine *engine, struct metrics_writer *w)
{
    struct engine_health health;
    engine_health_get(engine, &health);
    metrics_one_value(w, &start_time, (double)health.started_ms / 1000.0);
    metrics_one_count(w, &ticks, health.ticks);
    metrics_one_count(w, &ticks_late, health.ticks_late);
    metrics_one_value(w, &tick_time, metrics_seconds(health.tick_us));
    metrics_one_value(w, &tick_time_max, metrics_seconds(health.tick_us_max));
    metrics_one_value(w, &delay, metrics_seconds(health.delay_us));
    metrics_one_value(w, &delay_max, metrics_seconds(health.delay_us_max));
    write_decisions(&health, w);
    metrics_one_value(w, &journal_entries, (double)health.journal_entries);
    metrics_one_value(w, &journal_size, (double)health.journal_bytes);
    metrics_one_value(w, &journal_waiting, (double)health.journal_waiting);
    metrics_one_count(w, &journal_failures, health.journal_failures);
    metrics_one_value(w, &journal_failing, health.journal_failing ? 1 : 0);
    metrics_one_count(w, &log_lines, engine->log->lines);
    metrics_one_count(w, &log_held, engine->log->lines_held);
}

static void write_process(const struct engine *engine, struct metrics_writer *w)
{
    metrics_open(w, &build_info);
    struct metrics_label labels[] = {metrics_label_of("version", SLUICE_VERSION),
                                     metrics_label_of("io", io_kind_name(io_loop_kind(engine->loop)))};
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
        metrics_one_value(w, &process_fds_max, (double)limit.rlim_cur);
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm == NULL)
        return;
    unsigned long long total = 0, resident = 0;
    if (fscanf(statm, "%llu %llu", &total, &resident) == 2)
        metrics_one_value(w, &process_memory, (double)resident * (double)sysconf(_SC_PAGESIZE));
    fclose(statm);
}

// ---- rollouts ----

// What one gauge shows of a rollout.
typedef double rollout_reading(const struct engine_view *rollout);

static double read_stage(const struct engine_view *rollout)
{
    return rollout->view.started_ms == 0 ? 0 : rollout->view.stage + 1;
}

static double read_weight(const struct engine_view *rollout)
{
    return (double)rollout->view.weight / ROLLOUT_WEIGHT_FULL;
}

static double read_share(const struct engine_view *rollout)
{
    return rollout->arms[ROLLOUT_ARM_CANARY].share;
}

static double read_bad(const struct engine_view *rollout)
{
    return rollout->view.log_e_bad;
}

static double read_bad_needed(const struct engine_view *rollout)
{
    return rollout->view.log_e_bad_needed;
}

static double read_srm(const struct engine_view *rollout)
{
    return rollout->view.log_e_srm;
}

static double read_blocked(const struct engine_view *rollout)
{
    return rollout->view.blocked ? 1 : 0;
}

static double read_decisions(const struct engine_view *rollout)
{
    return rollout->record != NULL ? (double)rollout->record->decisions : 0;
}

static void rollout_family(struct engine *engine, struct metrics_writer *w,
                           const struct metrics_family *family, rollout_reading *read)
{
    metrics_open(w, family);
    for (uint32_t i = 0; i < engine_rollout_count(engine); i++) {
        struct engine_view rollout;
        engine_view_get(engine, i, &rollout);
        struct metrics_label labels[] = {metrics_label_of("rollout", rollout.name),
                                         metrics_label_of("service", rollout.spec->service)};
        metrics_value(w, labels, 2, read(&rollout));
    }
}

static void write_states(struct engine *engine, struct metrics_writer *w)
{
    metrics_open(w, &rollout_state);
    for (uint32_t i = 0; i < engine_rollout_count(engine); i++) {
        struct engine_view rollout;
        engine_view_get(engine, i, &rollout);
        for (int state = 0; state < ROLLOUT_STATES; state++) {
            struct metrics_label labels[] = {
                metrics_label_of("rollout", rollout.name), metrics_label_of("service", rollout.spec->service),
                metrics_label_of("state", rollout_state_name((enum rollout_state)state))};
            metrics_value(w, labels, 3, (int)rollout.view.state == state ? 1 : 0);
        }
    }
}

static void write_checks(struct engine *engine, struct metrics_writer *w, bool needed)
{
    metrics_open(w, needed ? &rollout_good_needed : &rollout_good);
    for (uint32_t i = 0; i < engine_rollout_count(engine); i++) {
        struct engine_view rollout;
        engine_view_get(engine, i, &rollout);
        for (uint32_t c = 0; c < rollout.view.check_count; c++) {
            const struct rollout_check_view *check = &rollout.view.checks[c];
            struct metrics_label labels[] = {metrics_label_of("rollout", rollout.name),
                                             metrics_label_of("service", rollout.spec->service),
                                             metrics_label_of("check", check->name)};
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
    write_rollouts(engine, &writer);
    for (struct list *link = engine->metric_sources.next; link != &engine->metric_sources;
         link = link->next) {
        struct engine_metric_source *source = CONTAINER_OF(link, struct engine_metric_source, link);
        source->write(source, &writer);
    }
    return metrics_finish(&writer, text);
}
