// SPDX-License-Identifier: Apache-2.0
// `sluice serve FILE`: the daemon under its signals. One small thread waits for signals and posts them to the
// control loop, which alone acts on them.
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "daemon/cli/cli_private.h"
#include "daemon/cli/daemon.h"

enum { SERVE_DRAIN_MS_MAX = 30000 };

struct serve {
    struct cli_daemon daemon;
    struct engine_log log;
    const char *path;
    FILE *err;
    sigset_t signals;
    pthread_t thread;
    struct io_task stop_task;
    struct io_task reload_task;
    atomic_bool stop_posted;
    atomic_bool reload_posted;
    atomic_bool over;
};

static uint64_t drain_ms_of(const struct serve *serve)
{
    uint64_t drain_ms = engine_config(serve->daemon.engine)->timeouts.drain_ms;
    return drain_ms < SERVE_DRAIN_MS_MAX ? drain_ms : SERVE_DRAIN_MS_MAX;
}

static void on_stop(struct io_task *task)
{
    struct serve *serve = CONTAINER_OF(task, struct serve, stop_task);
    atomic_store(&serve->stop_posted, false);
    engine_shutdown(serve->daemon.engine, drain_ms_of(serve), cli_daemon_stopped, &serve->daemon);
}

struct reload_scratch {
    struct config_errors errors;
    struct fault fault;
    char report[CONFIG_REPORT_BYTES_MAX];
};

static void reload(struct serve *serve, struct reload_scratch *scratch)
{
    struct config *config;
    enum status status = config_load(serve->path, &config, &scratch->errors);
    if (status != STATUS_OK) {
        struct text report = text_over(scratch->report, sizeof scratch->report);
        config_errors_write(&scratch->errors, &report);
        engine_log_write(&serve->log, ENGINE_LOG_ERROR, "the file is not valid and changes nothing",
                         ENGINE_FIELDS(ENGINE_TEXT("file", serve->path), ENGINE_TEXT("errors", report.data)));
        return;
    }
    status = engine_reload(serve->daemon.engine, config, &scratch->fault);
    if (status == STATUS_OK) {
        cli_evaluation_reload(&serve->daemon.evaluation);
        return;
    }
    config_destroy(config);
    engine_log_write(
        &serve->log, ENGINE_LOG_ERROR, "the file cannot be put in force and changes nothing",
        ENGINE_FIELDS(ENGINE_TEXT("file", serve->path), ENGINE_TEXT("why", scratch->fault.text)));
}

static void on_reload(struct io_task *task)
{
    struct serve *serve = CONTAINER_OF(task, struct serve, reload_task);
    atomic_store(&serve->reload_posted, false);
    struct reload_scratch *scratch = heap_alloc(1, sizeof *scratch);
    if (scratch != NULL)
        reload(serve, scratch);
    heap_free(scratch);
}

// A task's storage is the loop's until it has run, so a signal that comes twice meanwhile counts once.
static void post_once(struct serve *serve, atomic_bool *posted, struct io_task *task)
{
    if (!atomic_exchange(posted, true))
        io_loop_post(serve->daemon.loop, task);
}

static void *wait_for_signals(void *context)
{
    struct serve *serve = context;
    for (;;) {
        int number = 0;
        if (sigwait(&serve->signals, &number) != 0 || atomic_load(&serve->over))
            return NULL;
        if (number == SIGHUP)
            post_once(serve, &serve->reload_posted, &serve->reload_task);
        else if (number != SIGUSR1)
            post_once(serve, &serve->stop_posted, &serve->stop_task);
    }
}

static bool io_of(const struct cli_call *call, enum io_kind *io)
{
    static const struct {
        const char *word;
        enum io_kind kind;
    } kinds[] = {{"auto", IO_KIND_AUTO}, {"epoll", IO_KIND_EPOLL}, {"uring", IO_KIND_URING}};
    const char *word = cli_value(call, "io");
    *io = IO_KIND_AUTO;
    if (word == NULL)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(word, kinds[i].word) == 0) {
            *io = kinds[i].kind;
            return true;
        }
    }
    fprintf(call->err, "sluice serve: --io is auto, epoll or uring, not \"%s\"\n", word);
    return false;
}

static void say_started(struct serve *serve)
{
    const struct config *config = engine_config(serve->daemon.engine);
    char listening[IO_ADDR_TEXT_BYTES * 4];
    struct text text = text_over(listening, sizeof listening);
    for (uint32_t i = 0; i < config->listen_count; i++) {
        struct io_addr addr;
        char one[IO_ADDR_TEXT_BYTES];
        proxy_listen_addr(serve->daemon.proxy, i, &addr);
        io_addr_format(&addr, one);
        text_addf(&text, "%s%s", i > 0 ? "," : "", one);
    }
    struct io_addr admin;
    char admin_text[IO_ADDR_TEXT_BYTES];
    api_addr(serve->daemon.api, &admin);
    io_addr_format(&admin, admin_text);
    struct io_addr flags;
    char flags_text[IO_ADDR_TEXT_BYTES] = "";
    if (cli_evaluation_addr(&serve->daemon.evaluation, &flags))
        io_addr_format(&flags, flags_text);
    engine_log_write(&serve->log, ENGINE_LOG_INFO, "serving",
                     ENGINE_FIELDS(ENGINE_TEXT("version", SLUICE_VERSION), ENGINE_TEXT("listen", listening),
                                   ENGINE_TEXT("admin", admin_text), ENGINE_TEXT("flags", flags_text),
                                   ENGINE_NUMBER("workers", serve->daemon.workers),
                                   ENGINE_TEXT("journal", config->journal)));
}

static int serve_config(const struct cli_call *call, struct serve *serve, struct config *config)
{
    struct cli_daemon_options options = {.config = config, .log = &serve->log, .err = call->err};
    double workers;
    if (!io_of(call, &options.io) || cli_value_number(call, "workers", 0, &workers) != STATUS_OK) {
        config_destroy(config);
        return CLI_EXIT_USAGE;
    }
    options.workers = (uint32_t)(workers < PROXY_WORKERS_MAX ? workers : PROXY_WORKERS_MAX);
    cli_raise_descriptors();
    sigemptyset(&serve->signals);
    sigaddset(&serve->signals, SIGTERM);
    sigaddset(&serve->signals, SIGINT);
    sigaddset(&serve->signals, SIGHUP);
    sigaddset(&serve->signals, SIGUSR1); // ends the thread
    pthread_sigmask(SIG_BLOCK, &serve->signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    int code = cli_daemon_start(&options, &serve->daemon);
    if (code != CLI_EXIT_OK)
        return code;
    serve->stop_task.run = on_stop;
    serve->reload_task.run = on_reload;
    CHECK(pthread_create(&serve->thread, NULL, wait_for_signals, serve) == 0);
    say_started(serve);
    cli_daemon_run(&serve->daemon);
    atomic_store(&serve->over, true);
    pthread_kill(serve->thread, SIGUSR1);
    pthread_join(serve->thread, NULL);
    cli_daemon_end(&serve->daemon);
    engine_log_write(&serve->log, ENGINE_LOG_INFO,
                     "stopped; the journal is closed and the next start goes on from it", NULL, 0);
    return CLI_EXIT_OK;
}

int cli_run_serve(const struct cli_call *call)
{
    struct config_errors *errors = heap_alloc(1, sizeof *errors);
    char *report = heap_alloc(1, CONFIG_REPORT_BYTES_MAX);
    struct serve *serve = heap_alloc(1, sizeof *serve);
    struct config *config = NULL;
    int code = CLI_EXIT_START;
    if (errors != NULL && report != NULL && serve != NULL) {
        enum status status = config_load(call->args[0], &config, errors);
        struct text text = text_over(report, CONFIG_REPORT_BYTES_MAX);
        config_errors_write(errors, &text);
        code = status == STATUS_OK        ? CLI_EXIT_OK
               : status == STATUS_INVALID ? CLI_EXIT_NO
                                          : CLI_EXIT_UNREADABLE;
        if (code != CLI_EXIT_OK)
            fprintf(call->err, "%s", report);
    }
    const char *format = cli_value(call, "log");
    if (code == CLI_EXIT_OK && format != NULL && strcmp(format, "json") != 0 && strcmp(format, "text") != 0) {
        fprintf(call->err, "sluice serve: --log is text or json, not \"%s\"\n", format);
        config_destroy(config);
        code = CLI_EXIT_USAGE;
    }
    if (code == CLI_EXIT_OK) {
        bool json = format != NULL ? strcmp(format, "json") == 0 : config->log.format == CONFIG_LOG_JSON;
        // The two enumerations name the same levels in the same order.
        engine_log_init(&serve->log, call->err, json, (enum engine_log_level)config->log.level);
        serve->path = call->args[0];
        code = serve_config(call, serve, config);
    }
    heap_free(errors);
    heap_free(report);
    heap_free(serve);
    return code;
}
