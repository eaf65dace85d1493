// SPDX-License-Identifier: Apache-2.0
// `sluice serve FILE`: the daemon.
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "daemon/cli/cli_private.h"
#include "daemon/serve/serve.h"
#include "daemon/supervise/supervise.h"
#include "net/io/loop.h"

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

// ---- supervised ----

enum { HANG_MS = 2000, SERVE_ARGV_MAX = 16 };

static void add_option(const struct cli_call *call, const char *name, const char *word,
                       const char *argv[SERVE_ARGV_MAX], size_t *count)
{
    const char *value = cli_value(call, name);
    if (value == NULL)
        return;
    argv[(*count)++] = word;
    argv[(*count)++] = value;
}

static int supervise(const struct cli_call *call)
{
    const char *argv[SERVE_ARGV_MAX] = {"sluice", "serve", call->args[0]};
    const char *check_argv[] = {"sluice", "check", "--no-ask", call->args[0], NULL};
    size_t count = 3;
    add_option(call, "log", "--log", argv, &count);
    add_option(call, "workers", "--workers", argv, &count);
    add_option(call, "io", "--io", argv, &count);
    uint64_t hang_ms;
    if (cli_value_duration_ms(call, "hang-after", HANG_MS, &hang_ms) != STATUS_OK)
        return CLI_EXIT_USAGE;
    const char *format = cli_value(call, "log");
    struct log log;
    log_init(&log, call->err, format != NULL && strcmp(format, "json") == 0, LOG_INFO);
    serve_raise_descriptors();
    // exec takes arrays of strings that it does not change.
    return supervise_run(&(struct supervise_options){.argv = (char *const *)(uintptr_t)argv,
                                                     .check_argv = (char *const *)(uintptr_t)check_argv,
                                                     .hang_ms = hang_ms,
                                                     .log = &log});
}

// ---- the serving process ----

struct start {
    const struct cli_call *call;
    struct config *config;
    struct config_errors *errors;
    char *report;           // CONFIG_REPORT_BYTES_MAX
    bool supervised, stale; // stale: the file cannot be read any more, and what was read before is in force
    struct supervise_begin begin;
};

// Exit code; errors are told.
static int load(const struct start *start, struct config **config)
{
    enum status status = config_load(start->call->args[0], config, start->errors);
    if (status == STATUS_OK)
        return CLI_EXIT_OK;
    struct text text = text_over(start->report, CONFIG_REPORT_BYTES_MAX);
    config_errors_write(start->errors, &text);
    fprintf(start->call->err, "%s", start->report);
    return status == STATUS_INVALID ? CLI_EXIT_NO : CLI_EXIT_UNREADABLE;
}

// A supervised process is loaded long before it is told to begin, from the file as it was in force then. It
// takes the file as it is now, if that can be read.
static int join_supervisor(struct start *start)
{
    enum status status = supervise_join(&start->begin);
    if (status == STATUS_NOT_FOUND)
        return CLI_EXIT_OK;
    start->supervised = true;
    if (status != STATUS_OK)
        return CLI_EXIT_START;
    struct config *now;
    start->stale = load(start, &now) != CLI_EXIT_OK;
    if (start->stale)
        return CLI_EXIT_OK;
    config_destroy(start->config);
    start->config = now;
    return CLI_EXIT_OK;
}

static void say_begin(struct log *log, const struct start *start)
{
    const struct supervise_begin *begin = &start->begin;
    if (start->stale)
        log_write(log, LOG_ERROR,
                  "the file cannot be read any more: what it said when it was read last is in force",
                  LOG_FIELDS(LOG_TEXT("file", start->call->args[0])));
    if (begin->why[0] != '\0')
        log_write(log, LOG_WARN, "this process takes the place of one before",
                  LOG_FIELDS(LOG_TEXT("reason", begin->why), LOG_NUMBER("deaths", begin->deaths)));
    if (begin->careful)
        log_write(log, LOG_ERROR, "too many processes died: no rollout is moved forward", NULL, 0);
}

static int serve_config(const struct start *start, struct log *log, struct serve *serve)
{
    const struct cli_call *call = start->call;
    static const int codes[] = {[SERVE_OK] = CLI_EXIT_OK,
                                [SERVE_NO_START] = CLI_EXIT_START,
                                [SERVE_NO_JOURNAL] = CLI_EXIT_UNREADABLE};
    struct serve_options options = {.config = start->config,
                                    .log = log,
                                    .err = call->err,
                                    .begin = start->supervised ? &start->begin : NULL};
    double workers;
    if (!io_of(call, &options.io) || cli_value_number(call, "workers", 0, &workers) != STATUS_OK) {
        config_destroy(start->config);
        return CLI_EXIT_USAGE;
    }
    options.workers = (uint32_t)(workers < PROXY_WORKERS_MAX ? workers : PROXY_WORKERS_MAX);
    serve_raise_descriptors();
    return codes[serve_under_signals(serve, &options, call->args[0])];
}

// Takes the config.
static int serve_start_of(const struct start *start, struct serve *serve)
{
    const char *format = cli_value(start->call, "log");
    struct log log;
    if (format != NULL && strcmp(format, "json") != 0 && strcmp(format, "text") != 0) {
        fprintf(start->call->err, "sluice serve: --log is text or json, not \"%s\"\n", format);
        config_destroy(start->config);
        return CLI_EXIT_USAGE;
    }
    bool json = format != NULL ? strcmp(format, "json") == 0 : start->config->log.format == CONFIG_LOG_JSON;
    // The two enumerations name the same levels in the same order.
    log_init(&log, start->call->err, json, (enum log_level)start->config->log.level);
    say_begin(&log, start);
    return serve_config(start, &log, serve);
}

int cli_run_serve(const struct cli_call *call)
{
    if (cli_given(call, "supervise"))
        return supervise(call);
    struct start start = {.call = call,
                          .errors = heap_alloc(1, sizeof *start.errors),
                          .report = heap_alloc(1, CONFIG_REPORT_BYTES_MAX)};
    struct serve *serve = heap_alloc(1, sizeof *serve);
    int code = CLI_EXIT_START;
    if (start.errors != NULL && start.report != NULL && serve != NULL)
        code = load(&start, &start.config);
    if (code == CLI_EXIT_OK && (code = join_supervisor(&start)) != CLI_EXIT_OK)
        config_destroy(start.config);
    if (code == CLI_EXIT_OK)
        code = serve_start_of(&start, serve);
    heap_free(start.errors);
    heap_free(start.report);
    heap_free(serve);
    return code;
}
