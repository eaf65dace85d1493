// SPDX-License-Identifier: Apache-2.0
// Wires control's sets to the evaluation server, and the server's exposures to their file.
#include "daemon/cli/evaluation.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "daemon/cli/cli.h"
#include "daemon/cli/daemon.h"
#include "operate/metrics/exposition.h"

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
    engine_time_write(exposure->time_ms, &stamp);
    text_addf(out, "{\"time\":\"%s\"", time);
    json_text(out, "flag", exposure->flag);
    json_text(out, "variant", exposure->variant);
    json_text(out, "targetingKey", exposure->key);
    text_addf(out, ",\"set\":%llu}\n", (unsigned long long)exposure->set_version);
}

// Whole lines or none: a line cut by a full disk would spoil the next one too.
static bool append(int file, struct slice text)
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

static void exposures_drain(struct cli_evaluation *evaluation)
{
    static struct ofrep_exposure exposures[EXPOSURES_AT_ONCE]; // one server per process
    for (;;) {
        uint32_t count = ofrep_exposures_take(evaluation->ofrep, exposures, EXPOSURES_AT_ONCE);
        if (count == 0)
            return;
        struct text out = text_over(evaluation->text, (size_t)EXPOSURES_AT_ONCE * EXPOSURE_BYTES_MAX);
        for (uint32_t i = 0; i < count; i++)
            exposure_write(&out, &exposures[i]);
        if (append(evaluation->exposures, text_slice(&out)))
            continue;
        evaluation->lost += count;
        engine_log_repeat(engine_log_of(evaluation->engine), ENGINE_LOG_ERROR,
                          "exposures cannot be written and are lost", NULL, 0);
    }
}

static void on_timer(struct io_timer *timer)
{
    struct cli_evaluation *evaluation = CONTAINER_OF(timer, struct cli_evaluation, timer);
    struct io_loop *loop = engine_loop(evaluation->engine);
    exposures_drain(evaluation);
    io_timer_set(loop, timer, io_loop_now_us(loop) + (uint64_t)EXPOSURES_EVERY_MS * 1000);
}

static int exposures_open(struct cli_evaluation *evaluation, const char *path, FILE *err)
{
    evaluation->exposures = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (evaluation->exposures < 0) {
        fprintf(err, "sluice: the file of exposures %s cannot be opened: %s\n", path, strerror(errno));
        return CLI_EXIT_START;
    }
    evaluation->text = heap_alloc(EXPOSURES_AT_ONCE, EXPOSURE_BYTES_MAX);
    if (evaluation->text != NULL)
        return CLI_EXIT_OK;
    fprintf(err, "sluice: no memory is left\n");
    return CLI_EXIT_START;
}

// ---- metrics ----

#define FAMILY(id, type, suffix, says)                                                                       \
    static const struct metrics_family id = {"sluice_evaluation_" suffix, METRICS_##type, says}

FAMILY(requests, COUNTER, "requests_total", "Requests to the evaluation server.");
FAMILY(refused, COUNTER, "refused_total", "Of them refused: malformed, unauthorised, too many, too large.");
FAMILY(evaluations, COUNTER, "evaluations_total",
       "Evaluations answered; a bulk request counts one per flag.");
FAMILY(errors, COUNTER, "errors_total", "Of them ended in an error.");
FAMILY(connections, GAUGE, "connections", "Connections open now.");
FAMILY(streams, GAUGE, "streams", "Event streams open now.");
FAMILY(exposures_lost, COUNTER, "exposures_lost_total", "Exposures that could not be kept.");

static void one(struct metrics_writer *writer, const struct metrics_family *family, uint64_t value)
{
    metrics_open(writer, family);
    metrics_count(writer, NULL, 0, value);
}

static void write_metrics(struct engine_metric_source *source, struct metrics_writer *writer)
{
    struct cli_evaluation *evaluation = CONTAINER_OF(source, struct cli_evaluation, metrics);
    static const char *const reasons[] = {"malformed", "unauthorized", "limited"};
    struct ofrep_stats stats;
    ofrep_stats_get(evaluation->ofrep, &stats);
    const uint64_t counts[] = {stats.refused, stats.unauthorized, stats.limited};
    one(writer, &requests, stats.requests);
    metrics_open(writer, &refused);
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        struct metrics_label label = {"why", slice_of(reasons[i])};
        metrics_count(writer, &label, 1, counts[i]);
    }
    one(writer, &evaluations, stats.evaluations);
    one(writer, &errors, stats.errors);
    one(writer, &connections, stats.connections);
    one(writer, &streams, stats.streams);
    one(writer, &exposures_lost, stats.exposures_lost + evaluation->lost);
}

// ---- life ----

static void on_changed(struct engine_flags_watcher *watcher, const struct flagset_snapshot *snapshot)
{
    ofrep_publish(CONTAINER_OF(watcher, struct cli_evaluation, watcher)->ofrep, snapshot);
}

static int server_start(struct cli_evaluation *evaluation, const struct config_flags *flags,
                        uint32_t first_reader, enum io_kind io, FILE *err)
{
    char fault[TOKENS_FAULT_BYTES] = "";
    struct ofrep_config config = {
        .addr = flags->listen.addr,
        .threads = flags->threads,
        .first_reader = first_reader,
        .io = io,
        .tokens = flags->tokens[0] != '\0' ? flags->tokens : NULL,
        .rate = flags->rate,
        .burst = flags->burst,
        .cors_origin = flags->cors[0] != '\0' ? flags->cors : NULL,
        .exposures = evaluation->exposures >= 0,
    };
    enum status status = ofrep_start(&config, &evaluation->ofrep, fault);
    if (status == STATUS_OK)
        return CLI_EXIT_OK;
    if (fault[0] != '\0')
        fprintf(err, "sluice: %s\n", fault);
    else
        fprintf(err, "sluice: cannot listen on %s (flags.listen): %s\n", flags->listen.text,
                cli_start_advice(status));
    return CLI_EXIT_START;
}

int cli_evaluation_start(struct cli_evaluation *evaluation, struct engine *engine, uint32_t first_reader,
                         enum io_kind io, FILE *err)
{
    const struct config_flags *flags = &engine_config(engine)->flags;
    *evaluation = (struct cli_evaluation){.engine = engine, .exposures = -1};
    if (engine_flagset(engine) == NULL || flags->listen.text[0] == '\0')
        return CLI_EXIT_OK;
    if (flags->exposures[0] != '\0' && exposures_open(evaluation, flags->exposures, err) != CLI_EXIT_OK)
        return CLI_EXIT_START;
    if (server_start(evaluation, flags, first_reader, io, err) != CLI_EXIT_OK)
        return CLI_EXIT_START;
    ofrep_publish(evaluation->ofrep, flagset_current(engine_flagset(engine)));
    evaluation->watcher.changed = on_changed;
    engine_flags_watch(engine, &evaluation->watcher);
    evaluation->metrics.write = write_metrics;
    engine_metric_source_add(engine, &evaluation->metrics);
    io_timer_init(&evaluation->timer, on_timer);
    if (evaluation->exposures >= 0)
        io_timer_set(engine_loop(engine), &evaluation->timer, io_loop_now_us(engine_loop(engine)));
    return CLI_EXIT_OK;
}

bool cli_evaluation_addr(const struct cli_evaluation *evaluation, struct io_addr *addr)
{
    if (evaluation->ofrep == NULL)
        return false;
    ofrep_addr(evaluation->ofrep, addr);
    return true;
}

// Whoever moves the file away gets a new one with a reload.
static void exposures_reopen(struct cli_evaluation *evaluation, const char *path)
{
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (file < 0) {
        engine_log_write(engine_log_of(evaluation->engine), ENGINE_LOG_ERROR,
                         "the file of exposures cannot be opened again; the one that is open stays",
                         ENGINE_FIELDS(ENGINE_TEXT("file", path), ENGINE_TEXT("why", strerror(errno))));
        return;
    }
    exposures_drain(evaluation);
    close(evaluation->exposures);
    evaluation->exposures = file;
}

void cli_evaluation_reload(struct cli_evaluation *evaluation)
{
    const struct config_flags *flags = &engine_config(evaluation->engine)->flags;
    char fault[TOKENS_FAULT_BYTES] = "";
    if (evaluation->exposures >= 0 && flags->exposures[0] != '\0')
        exposures_reopen(evaluation, flags->exposures);
    if (evaluation->ofrep == NULL || flags->tokens[0] == '\0')
        return;
    if (ofrep_reload_tokens(evaluation->ofrep, flags->tokens, fault) != STATUS_OK)
        engine_log_write(engine_log_of(evaluation->engine), ENGINE_LOG_ERROR,
                         "the tokens cannot be read again; those known so far stay",
                         ENGINE_FIELDS(ENGINE_TEXT("why", fault)));
}

void cli_evaluation_stop(struct cli_evaluation *evaluation)
{
    if (evaluation->ofrep != NULL) {
        engine_flags_unwatch(&evaluation->watcher);
        engine_metric_source_remove(&evaluation->metrics);
        io_timer_clear(engine_loop(evaluation->engine), &evaluation->timer);
        if (evaluation->exposures >= 0)
            exposures_drain(evaluation);
        ofrep_stop(evaluation->ofrep);
    }
    if (evaluation->exposures > 0)
        close(evaluation->exposures);
    heap_free(evaluation->text);
    *evaluation = (struct cli_evaluation){.exposures = -1};
}
