// SPDX-License-Identifier: Apache-2.0
// Flag evaluation for others: the server on its own threads gets every set that is in force, and what keys
// saw of variants goes to a file.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "daemon/config/config.h"
#include "daemon/serve/serve_private.h"
#include "flags/runtime/runtime.h"
#include "flags/set/flagset.h"
#include "net/io/loop.h"
#include "operate/log/log.h"
#include "operate/metrics/exposition.h"
#include "ship/engine/engine.h"

enum {
    EXPOSURES_EVERY_MS = 250,
    EXPOSURES_AT_ONCE = 256,
    EXPOSURE_BYTES_MAX = 4096, // of one line: every byte may need six
};

// ---- exposures ----

static void json_text(struct text *out, const char *key, const char *value)
{
    text_addf(out, ",\"%s\":", key);
    text_add_json(out, slice_of(value));
}

static void exposure_write(struct text *out, const struct ofrep_exposure *exposure)
{
    char time[40];
    struct text stamp = text_over(time, sizeof time);
    log_time_write(exposure->time_ms, &stamp);
    text_addf(out, "{\"time\":\"%s\"", time);
    json_text(out, "flag", exposure->flag);
    json_text(out, "variant", exposure->variant);
    json_text(out, "targetingKey", exposure->key);
    text_addf(out, ",\"set\":%llu}\n", (unsigned long long)exposure->set_version);
}

bool serve_append(int file, struct slice text)
{
    off_t end = lseek(file, 0, SEEK_END);
    while (text.len > 0) {
        ssize_t wrote = write(file, text.data, text.len);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0) {
            if (end >= 0)
                (void)!ftruncate(file, end);
            return false;
        }
        text = (struct slice){text.data + wrote, text.len - (size_t)wrote};
    }
    return true;
}

static void exposures_drain(struct serve *serve)
{
    struct serve_evaluation *evaluation = &serve->evaluation;
    static struct ofrep_exposure exposures[EXPOSURES_AT_ONCE]; // one server per process
    for (;;) {
        uint32_t count = ofrep_exposures_take(evaluation->ofrep, exposures, EXPOSURES_AT_ONCE);
        if (count == 0)
            return;
        struct text out = text_over(evaluation->text, (size_t)EXPOSURES_AT_ONCE * EXPOSURE_BYTES_MAX);
        for (uint32_t i = 0; i < count; i++)
            exposure_write(&out, &exposures[i]);
        if (serve_append(evaluation->exposures, text_slice(&out)))
            continue;
        evaluation->lost += count;
        log_repeat(serve->options.log, LOG_ERROR, "exposures cannot be written and are lost", NULL, 0);
    }
}

static void on_timer(struct io_timer *timer)
{
    struct serve *serve = CONTAINER_OF(timer, struct serve, evaluation.timer);
    exposures_drain(serve);
    io_timer_set(serve->loop, timer, io_loop_now_us(serve->loop) + (uint64_t)EXPOSURES_EVERY_MS * 1000);
}

static enum serve_outcome exposures_open(struct serve_evaluation *evaluation, const char *path, FILE *err)
{
    evaluation->exposures = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (evaluation->exposures < 0) {
        fprintf(err, "sluice: the file of exposures %s cannot be opened: %s\n", path, strerror(errno));
        return SERVE_NO_START;
    }
    evaluation->text = heap_alloc(EXPOSURES_AT_ONCE, EXPOSURE_BYTES_MAX);
    if (evaluation->text != NULL)
        return SERVE_OK;
    fprintf(err, "sluice: no memory is left\n");
    return SERVE_NO_START;
}

// ---- metrics ----

METRICS_FAMILY(requests, COUNTER, "evaluation_requests_total", "Requests to the evaluation server.");
METRICS_FAMILY(refused, COUNTER, "evaluation_refused_total",
               "Of them refused: malformed, unauthorised, too many, too large.");
METRICS_FAMILY(evaluations, COUNTER, "evaluation_evaluations_total",
               "Evaluations answered; a bulk request counts one per flag.");
METRICS_FAMILY(errors, COUNTER, "evaluation_errors_total", "Of them ended in an error.");
METRICS_FAMILY(connections, GAUGE, "evaluation_connections", "Connections open now.");
METRICS_FAMILY(streams, GAUGE, "evaluation_streams", "Event streams open now.");
METRICS_FAMILY(exposures_lost, COUNTER, "evaluation_exposures_lost_total",
               "Exposures that could not be kept.");

static void write_metrics(struct engine_metric_source *source, struct metrics_writer *writer)
{
    struct serve_evaluation *evaluation = CONTAINER_OF(source, struct serve_evaluation, metrics);
    static const char *const reasons[] = {"malformed", "unauthorized", "limited"};
    struct ofrep_stats stats;
    ofrep_stats_get(evaluation->ofrep, &stats);
    const uint64_t counts[] = {stats.refused, stats.unauthorized, stats.limited};
    metrics_one_count(writer, &requests, stats.requests);
    metrics_open(writer, &refused);
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        struct metrics_label label = {"why", slice_of(reasons[i])};
        metrics_count(writer, &label, 1, counts[i]);
    }
    metrics_one_count(writer, &evaluations, stats.evaluations);
    metrics_one_count(writer, &errors, stats.errors);
    metrics_one_count(writer, &connections, stats.connections);
    metrics_one_count(writer, &streams, stats.streams);
    metrics_one_count(writer, &exposures_lost, stats.exposures_lost + evaluation->lost);
}

// ---- life ----

static void on_changed(struct runtime_watcher *watcher, const struct flagset_snapshot *snapshot)
{
    ofrep_publish(CONTAINER_OF(watcher, struct serve_evaluation, watcher)->ofrep, snapshot);
}

static enum serve_outcome server_start(struct serve *serve, const struct config_flags *flags,
                                       const struct flagset_snapshot *snapshot)
{
    struct serve_evaluation *evaluation = &serve->evaluation;
    FILE *err = serve->options.err;
    struct fault fault = {.text = ""};
    struct ofrep_config config = {
        .addr = flags->listen.addr,
        .threads = flags->threads,
        .first_reader = serve->workers, // their tallies come first
        .io = IO_KIND_EPOLL,
        .connections = serve->room.evaluation,
        .snapshot = snapshot,
        .tokens = flags->tokens[0] != '\0' ? flags->tokens : NULL,
        .rate = flags->rate,
        .burst = flags->burst,
        .cors_origin = flags->cors[0] != '\0' ? flags->cors : NULL,
        .exposures = evaluation->exposures >= 0,
    };
    enum status status = ofrep_start(&config, &evaluation->ofrep, &fault);
    if (status == STATUS_OK)
        return SERVE_OK;
    if (fault.text[0] != '\0')
        fprintf(err, "sluice: %s\n", fault.text);
    else
        fprintf(err, "sluice: cannot listen on %s (flags.listen): %s\n", flags->listen.text,
                serve_advice(status));
    return SERVE_NO_START;
}

static enum serve_outcome evaluation_open(struct serve *serve)
{
    const struct config_flags *flags = &engine_config(serve->engine)->flags;
    struct serve_evaluation *evaluation = &serve->evaluation;
    struct runtime *runtime = serve->targets->runtime;
    FILE *err = serve->options.err;
    if (runtime_flagset(runtime) == NULL || flags->listen.text[0] == '\0')
        return SERVE_OK;
    if (flags->exposures[0] != '\0' && exposures_open(evaluation, flags->exposures, err) != SERVE_OK)
        return SERVE_NO_START;
    if (server_start(serve, flags, flagset_current(runtime_flagset(runtime))) != SERVE_OK)
        return SERVE_NO_START;
    evaluation->watcher.changed = on_changed;
    runtime_watch(runtime, &evaluation->watcher);
    evaluation->metrics.write = write_metrics;
    engine_metric_source_add(serve->engine, &evaluation->metrics);
    io_timer_init(&evaluation->timer, on_timer);
    if (evaluation->exposures >= 0)
        io_timer_set(serve->loop, &evaluation->timer, io_loop_now_us(serve->loop));
    return SERVE_OK;
}

bool serve_evaluation_addr(const struct serve *serve, struct io_addr *addr)
{
    if (serve->evaluation.ofrep == NULL)
        return false;
    ofrep_addr(serve->evaluation.ofrep, addr);
    return true;
}

// Whoever moves the file away gets a new one with a reload.
static void exposures_reopen(struct serve *serve, const char *path)
{
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (file < 0) {
        log_write(serve->options.log, LOG_ERROR,
                  "the file of exposures cannot be opened again; the one that is open stays",
                  LOG_FIELDS(LOG_TEXT("file", path), LOG_TEXT("why", strerror(errno))));
        return;
    }
    exposures_drain(serve);
    close(serve->evaluation.exposures);
    serve->evaluation.exposures = file;
}

// The file of tokens is read again, that of exposures opened again.
static void evaluation_reload(struct serve *serve)
{
    const struct config_flags *flags = &engine_config(serve->engine)->flags;
    struct serve_evaluation *evaluation = &serve->evaluation;
    struct fault fault = {.text = ""};
    if (evaluation->exposures >= 0 && flags->exposures[0] != '\0')
        exposures_reopen(serve, flags->exposures);
    if (evaluation->ofrep == NULL || flags->tokens[0] == '\0')
        return;
    if (ofrep_reload_tokens(evaluation->ofrep, flags->tokens, &fault) != STATUS_OK)
        log_write(serve->options.log, LOG_ERROR, "the tokens cannot be read again; those known so far stay",
                  LOG_FIELDS(LOG_TEXT("why", fault.text)));
}

static void evaluation_close(struct serve *serve)
{
    struct serve_evaluation *evaluation = &serve->evaluation;
    if (evaluation->ofrep != NULL) {
        runtime_unwatch(&evaluation->watcher);
        engine_metric_source_remove(&evaluation->metrics);
        io_timer_clear(serve->loop, &evaluation->timer);
        if (evaluation->exposures >= 0)
            exposures_drain(serve);
        ofrep_stop(evaluation->ofrep);
    }
    if (evaluation->exposures > 0)
        close(evaluation->exposures);
    heap_free(evaluation->text);
    *evaluation = (struct serve_evaluation){.exposures = -1};
}

const struct serve_part serve_evaluation_part = {"evaluation", evaluation_open, evaluation_reload,
                                                 evaluation_close};
