// SPDX-License-Identifier: Apache-2.0
// `sluice load URL`: options onto the open-loop generator, and its totals for people or as JSON.
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/heap.h"
#include "daemon/cli/cli_private.h"
#include "daemon/cli/shown.h"
#include "daemon/serve/serve.h"
#include "net/io/loop.h"
#include "operate/load/load.h"
#include "stats/histogram.h"

enum { LOAD_LOG_BYTES_MAX = 256 * 1024 * 1024 };

struct load_target {
    char address[320]; // host:port
    char host[256];
    char path[LOAD_PATH_BYTES_MAX];
};

static volatile sig_atomic_t load_interrupted;

static void on_interrupt(int number)
{
    (void)number;
    load_interrupted = 1;
}

// "http://host:port/path", "host:port" and "unix:/path" are understood.
static enum status read_url(const struct cli_call *call, struct load_target *target)
{
    const char *url = call->args[0];
    if (strncmp(url, "https://", 8) == 0) {
        fprintf(call->err, "sluice load: https is not spoken yet; name the plain port\n");
        return STATUS_UNSUPPORTED;
    }
    if (strncmp(url, "unix:", 5) == 0) {
        snprintf(target->address, sizeof target->address, "%s", url);
        snprintf(target->host, sizeof target->host, "localhost");
        snprintf(target->path, sizeof target->path, "/");
        return STATUS_OK;
    }
    const char *host = strncmp(url, "http://", 7) == 0 ? url + 7 : url;
    size_t len = strcspn(host, "/");
    if (len == 0 || len >= sizeof target->host || strlen(host + len) >= sizeof target->path) {
        fprintf(call->err, "sluice load: \"%s\" is not a URL like http://127.0.0.1:8080/path\n", url);
        return STATUS_INVALID;
    }
    memcpy(target->host, host, len);
    target->host[len] = '\0';
    snprintf(target->path, sizeof target->path, "%s", host[len] == '/' ? host + len : "/");
    const char *colon = strrchr(target->host, ':');
    bool has_port = colon != NULL && strchr(colon, ']') == NULL;
    snprintf(target->address, sizeof target->address, "%s%s", target->host, has_port ? "" : ":80");
    return STATUS_OK;
}

static enum status read_file(const struct cli_call *call, const char *path, char **bytes, size_t *len)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(call->err, "sluice load: %s cannot be opened\n", path);
        return STATUS_NOT_FOUND;
    }
    char *storage = heap_alloc(1, LOAD_LOG_BYTES_MAX);
    size_t got = storage != NULL ? fread(storage, 1, LOAD_LOG_BYTES_MAX, file) : 0;
    bool whole = storage != NULL && feof(file) != 0 && ferror(file) == 0;
    fclose(file);
    if (!whole) {
        fprintf(call->err, "sluice load: %s cannot be read, or is larger than %d MiB\n", path,
                LOAD_LOG_BYTES_MAX / 1048576);
        heap_free(storage);
        return STATUS_FULL;
    }
    *bytes = storage;
    *len = got;
    return STATUS_OK;
}

static enum status read_log(const struct cli_call *call, struct load_log *log)
{
    char *bytes;
    size_t len;
    enum status status = read_file(call, cli_value(call, "replay"), &bytes, &len);
    if (status != STATUS_OK)
        return status;
    status = load_log_parse((struct slice){bytes, len}, log);
    heap_free(bytes);
    if (status != STATUS_OK) {
        fprintf(call->err, "sluice load: %s has no line in combined format that could be sent\n",
                cli_value(call, "replay"));
        return status;
    }
    fprintf(call->err,
            "%u requests from the log; left out: %u not in its format, %u writing methods, %u targets\n",
            log->count, log->skipped_malformed, log->skipped_method, log->skipped_target);
    return STATUS_OK;
}

static void print_totals(FILE *out, const struct load_totals *totals, double seconds)
{
    fprintf(out, "%" PRIu64 " requests in %.1f s (%.1f per second), %" PRIu64 " answered, %" PRIu64 " failed",
            totals->scheduled, seconds, (double)totals->scheduled / seconds, totals->answers, totals->failed);
    for (int i = 0; i < LOAD_FAILURES; i++)
        if (totals->failures[i] > 0)
            fprintf(out, ", %s %" PRIu64, load_failure_name((enum load_failure)i), totals->failures[i]);
    fprintf(out,
            "\nlatency from the scheduled moment: p50 %.2f ms, p90 %.2f, p99 %.2f, p99.9 %.2f, max %.2f\n",
            (double)stats_histogram_quantile(&totals->latency_us, 0.5) / 1e3,
            (double)stats_histogram_quantile(&totals->latency_us, 0.9) / 1e3,
            (double)stats_histogram_quantile(&totals->latency_us, 0.99) / 1e3,
            (double)stats_histogram_quantile(&totals->latency_us, 0.999) / 1e3,
            (double)stats_histogram_quantile(&totals->latency_us, 1.0) / 1e3);
    for (uint32_t i = 0; i < totals->version_count; i++)
        if (totals->versions[i].name[0] != '\0')
            fprintf(out, "version %s: %" PRIu64 " answers, %" PRIu64 " of them errors\n",
                    cli_shown(totals->versions[i].name), totals->versions[i].answers,
                    totals->versions[i].errors);
    if (totals->behind_us_max > 10000)
        fprintf(out, "note: the generator itself was up to %.1f ms behind its schedule\n",
                (double)totals->behind_us_max / 1e3);
}

static void print_totals_json(FILE *out, const struct load_totals *totals, double seconds)
{
    json_t *failures = json_object();
    for (int i = 0; i < LOAD_FAILURES; i++)
        json_object_set_new(failures, load_failure_name((enum load_failure)i),
                            json_integer((json_int_t)totals->failures[i]));
    json_t *body =
        json_pack("{s:f, s:I, s:I, s:I, s:o, s:{s:f, s:f, s:f, s:f}, s:f}", "seconds", seconds, "scheduled",
                  (json_int_t)totals->scheduled, "answers", (json_int_t)totals->answers, "failed",
                  (json_int_t)totals->failed, "failures", failures, "latency_ms", "p50",
                  (double)stats_histogram_quantile(&totals->latency_us, 0.5) / 1e3, "p90",
                  (double)stats_histogram_quantile(&totals->latency_us, 0.9) / 1e3, "p99",
                  (double)stats_histogram_quantile(&totals->latency_us, 0.99) / 1e3, "p999",
                  (double)stats_histogram_quantile(&totals->latency_us, 0.999) / 1e3, "behind_ms_max",
                  (double)totals->behind_us_max / 1e3);
    cli_print_json(out, body);
    json_decref(body);
}

static int run_load(const struct cli_call *call, const struct load_config *config)
{
    struct io_loop *loop;
    struct load *load;
    struct io_loop_config loop_config = {.kind = IO_KIND_EPOLL};
    if (io_loop_create(&loop_config, &loop) != STATUS_OK) {
        fprintf(call->err, "sluice load: no event loop can be made\n");
        return CLI_EXIT_NO;
    }
    enum status status = load_create(loop, config, &load);
    if (status != STATUS_OK) {
        fprintf(call->err, "sluice load: cannot start: %s\n", status_name(status));
        io_loop_destroy(loop);
        return CLI_EXIT_NO;
    }
    struct sigaction interrupt = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGTERM, &interrupt, NULL);
    uint64_t began_us = io_loop_clock_us(loop);
    bool stopped = false;
    while (!load_done(load)) {
        (void)!io_loop_turn(loop, 100000); // a turn cut short by a signal is no failure
        if (load_interrupted && !stopped) {
            stopped = true;
            load_stop(load);
        }
    }
    double seconds = (double)(io_loop_clock_us(loop) - began_us) / 1e6;
    const struct load_totals *totals = load_totals(load);
    if (cli_given(call, "json"))
        print_totals_json(call->out, totals, seconds);
    else
        print_totals(call->out, totals, seconds);
    int code = totals->failed > 0 ? CLI_EXIT_NO : CLI_EXIT_OK;
    load_close(load);
    while (!load_closed(load))
        (void)!io_loop_turn(loop, 10000);
    load_destroy(load);
    io_loop_destroy(loop);
    return code;
}

static enum status read_numbers(const struct cli_call *call, struct load_config *config)
{
    uint64_t duration_ms, timeout_ms;
    double connections;
    enum status status = cli_value_number(call, "rate", 100, &config->rate);
    if (status == STATUS_OK)
        status = cli_value_number(call, "rate-end", 0, &config->rate_end);
    if (status == STATUS_OK)
        status = cli_value_number(call, "connections", 0, &connections);
    if (status == STATUS_OK)
        status = cli_value_duration_ms(call, "duration", 10000, &duration_ms);
    if (status == STATUS_OK)
        status = cli_value_duration_ms(call, "timeout", 30000, &timeout_ms);
    if (status != STATUS_OK)
        return status;
    config->connections_max = (uint32_t)(connections < 65536 ? connections : 65536);
    config->duration_us = duration_ms * 1000;
    config->timeout_us = timeout_ms * 1000;
    return STATUS_OK;
}

// "Name: value", cut into storage.
static enum status read_header(const struct cli_call *call, char *storage, size_t cap,
                               struct load_header *header)
{
    const char *line = cli_value(call, "header");
    const char *colon = strchr(line, ':');
    if (colon == NULL || colon == line || strlen(line) >= cap || strpbrk(line, "\r\n") != NULL) {
        fprintf(call->err, "sluice load: --header wants \"Name: value\", not \"%s\"\n", line);
        return STATUS_INVALID;
    }
    snprintf(storage, cap, "%s", line);
    storage[colon - line] = '\0';
    header->name = storage;
    header->value = storage + (colon - line) + 1 + strspn(colon + 1, " ");
    return STATUS_OK;
}

static int load_target_run(const struct cli_call *call, struct load_target *target)
{
    struct load_config config = {.poisson = cli_given(call, "poisson"), .seed = (uint64_t)getpid()};
    struct load_request request = {.method = "GET", .path = target->path};
    struct load_log log = {.count = 0};
    struct load_header header;
    char header_text[1024];
    if (read_numbers(call, &config) != STATUS_OK)
        return CLI_EXIT_USAGE;
    if (cli_given(call, "header")) {
        if (read_header(call, header_text, sizeof header_text, &header) != STATUS_OK)
            return CLI_EXIT_USAGE;
        config.headers = &header;
        config.header_count = 1;
    }
    if (io_addr_resolve(target->address, &config.to) != STATUS_OK) {
        fprintf(call->err, "sluice load: %s cannot be resolved\n", target->address);
        return CLI_EXIT_NO;
    }
    config.host = cli_given(call, "host") ? cli_value(call, "host") : target->host;
    config.requests = &request;
    config.request_count = 1;
    if (cli_given(call, "replay")) {
        if (read_log(call, &log) != STATUS_OK)
            return CLI_EXIT_UNREADABLE;
        config.requests = log.requests;
        config.request_count = log.count;
    }
    serve_raise_descriptors();
    signal(SIGPIPE, SIG_IGN);
    int code = run_load(call, &config);
    if (cli_given(call, "replay"))
        load_log_free(&log);
    return code;
}

int cli_run_load(const struct cli_call *call)
{
    struct load_target *target = heap_alloc(1, sizeof *target);
    int code = CLI_EXIT_NO;
    if (target != NULL)
        code = read_url(call, target) == STATUS_OK ? load_target_run(call, target) : CLI_EXIT_USAGE;
    heap_free(target);
    return code;
}
