// SPDX-License-Identifier: Apache-2.0
// The access log: a thread of its own takes what the workers keep of each request and writes one line of it.
// A slow disk holds up this thread alone; what the rings have no room for meanwhile is counted, and so is
// what cannot be written.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "daemon/config/config.h"
#include "daemon/serve/serve_private.h"
#include "net/proxy/proxy.h"
#include "operate/log/log.h"
#include "operate/metrics/exposition.h"
#include "ship/engine/engine.h"

enum {
    ACCESS_EVERY_MS = 50,
    ACCESS_AT_ONCE = 64,
    ACCESS_LINE_BYTES_MAX = 8192, // every byte may need six
    ACCESS_TELL_MS = 1000,        // between two looks whether lines were lost
};

struct serve_access {
    struct serve *serve;
    pthread_t thread;
    bool started;
    atomic_bool over;
    atomic_bool reopen;
    _Atomic uint64_t lost; // lines that could not be written
    uint64_t lost_told;
    int file;
    bool json;
    struct io_timer timer;
    struct engine_metric_source metrics;
    struct proxy_access taken[ACCESS_AT_ONCE];
    char text[ACCESS_AT_ONCE * ACCESS_LINE_BYTES_MAX];
};

// ---- lines ----

// Between quotes: what could end them, or acts, goes as \xNN.
static void add_quoted(struct text *out, const char *text)
{
    text_add_char(out, '"');
    if (text[0] == '\0')
        text_add_char(out, '-');
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
        if (*at < 0x20 || *at == '"' || *at == '\\' || *at >= 0x7f)
            text_addf(out, "\\x%02x", *at);
        else
            text_add_char(out, (char)*at);
    }
    text_add_char(out, '"');
}

static unsigned status_of(const struct proxy_access *access)
{
    return access->status != 0 ? access->status : 499;
}

static const char *or_dash(const char *text)
{
    return text[0] != '\0' ? text : "-";
}

// The combined format of other servers, and behind it what is ours.
static void add_combined(struct text *out, const struct proxy_access *access)
{
    char stamp[40], request[PROXY_EVENT_METHOD_BYTES + PROXY_ACCESS_TARGET_BYTES + 16];
    time_t seconds = (time_t)(access->wall_ms / 1000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    strftime(stamp, sizeof stamp, "%d/%b/%Y:%H:%M:%S +0000", &parts);
    snprintf(request, sizeof request, "%s %s HTTP/1.1", access->method, access->target);
    text_addf(out, "%s - - [%s] ", or_dash(access->client), stamp);
    add_quoted(out, access->method[0] != '\0' ? request : "");
    text_addf(out, " %u %" PRIu64 " ", status_of(access), access->bytes);
    add_quoted(out, access->referer);
    text_add_char(out, ' ');
    add_quoted(out, access->agent);
    text_add_char(out, ' ');
    add_quoted(out, access->host);
    text_addf(out, " %s %s %.3f", or_dash(access->service), or_dash(access->version),
              (double)access->elapsed_us / 1000);
    if (access->request_id[0] != '\0')
        text_addf(out, " %s", access->request_id);
    text_add_char(out, '\n');
}

static void add_member(struct text *out, const char *name, const char *value)
{
    text_addf(out, ",\"%s\":", name);
    text_add_json(out, slice_of(value));
}

static void add_json(struct text *out, const struct proxy_access *access)
{
    text_addf(out, "{\"time\":\"");
    log_time_write(access->wall_ms, out);
    text_addf(out, "\",\"status\":%u,\"ms\":%.3f,\"bytes\":%" PRIu64, status_of(access),
              (double)access->elapsed_us / 1000, access->bytes);
    add_member(out, "client", access->client);
    add_member(out, "method", access->method);
    add_member(out, "host", access->host);
    add_member(out, "path", access->target);
    add_member(out, "service", access->service);
    add_member(out, "version", access->version);
    add_member(out, "route", access->route);
    add_member(out, "referer", access->referer);
    add_member(out, "agent", access->agent);
    if (access->request_id[0] != '\0')
        add_member(out, "request_id", access->request_id);
    text_addf(out, "}\n");
}

// ---- the thread ----

static int file_open(const char *path)
{
    if (strcmp(path, "-") == 0)
        return fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

// The file that it is now may have been moved away. Until another can be opened, the old one is written on.
static void file_reopen(struct serve_access *access)
{
    int file = file_open(access->serve->access_path);
    if (file < 0)
        return;
    close(access->file);
    access->file = file;
}

static uint32_t drain(struct serve_access *access)
{
    uint32_t count = proxy_accesses_take(access->serve->proxy, access->taken, ACCESS_AT_ONCE);
    struct text out = text_over(access->text, sizeof access->text);
    for (uint32_t i = 0; i < count; i++) {
        if (access->json)
            add_json(&out, &access->taken[i]);
        else
            add_combined(&out, &access->taken[i]);
    }
    if (count > 0 && !serve_append(access->file, text_slice(&out)))
        atomic_fetch_add(&access->lost, count);
    return count;
}

static void *run(void *context)
{
    struct serve_access *access = context;
    const struct timespec pause = {.tv_nsec = (long)ACCESS_EVERY_MS * 1000000};
    for (;;) {
        bool over = atomic_load(&access->over); // before the last look
        if (atomic_exchange(&access->reopen, false))
            file_reopen(access);
        while (drain(access) > 0)
            continue;
        if (over)
            return NULL;
        nanosleep(&pause, NULL);
    }
}

// ---- what is lost ----

METRICS_FAMILY(lost_family, COUNTER, "access_log_lost_total",
               "Lines of the access log that could not be written.");

static void write_metrics(struct engine_metric_source *source, struct metrics_writer *writer)
{
    struct serve_access *access = CONTAINER_OF(source, struct serve_access, metrics);
    metrics_one_count(writer, &lost_family, atomic_load(&access->lost));
}

static void on_timer(struct io_timer *timer)
{
    struct serve_access *access = CONTAINER_OF(timer, struct serve_access, timer);
    struct serve *serve = access->serve;
    uint64_t lost = atomic_load(&access->lost);
    if (lost > access->lost_told)
        log_repeat(serve->options.log, LOG_ERROR, "lines of the access log cannot be written and are lost",
                   LOG_FIELDS(LOG_NUMBER("lines", lost - access->lost_told)));
    access->lost_told = lost;
    io_timer_set(serve->loop, timer, io_loop_now_us(serve->loop) + (uint64_t)ACCESS_TELL_MS * 1000);
}

// ---- the part ----

static enum serve_outcome access_open(struct serve *serve)
{
    const struct config *config = engine_config(serve->engine);
    if (config->log.access[0] == '\0')
        return SERVE_OK;
    struct serve_access *access = heap_alloc(1, sizeof *access);
    if (access == NULL) {
        fprintf(serve->options.err, "sluice: no memory is left\n");
        return SERVE_NO_START;
    }
    serve->access = access;
    access->serve = serve;
    access->json = config->log.format == CONFIG_LOG_JSON;
    snprintf(serve->access_path, sizeof serve->access_path, "%s", config->log.access);
    access->file = file_open(serve->access_path);
    if (access->file < 0) {
        fprintf(serve->options.err, "sluice: the access log %s cannot be opened: %s\n", serve->access_path,
                strerror(errno));
        return SERVE_NO_START;
    }
    access->started = pthread_create(&access->thread, NULL, run, access) == 0;
    if (!access->started) {
        fprintf(serve->options.err, "sluice: the thread of the access log cannot be started\n");
        return SERVE_NO_START;
    }
    access->metrics.write = write_metrics;
    engine_metric_source_add(serve->engine, &access->metrics);
    io_timer_init(&access->timer, on_timer);
    on_timer(&access->timer);
    return SERVE_OK;
}

static void access_reload(struct serve *serve)
{
    if (serve->access != NULL)
        atomic_store(&serve->access->reopen, true);
}

static void access_close(struct serve *serve)
{
    struct serve_access *access = serve->access;
    if (access == NULL)
        return;
    atomic_store(&access->over, true);
    if (access->started) {
        pthread_join(access->thread, NULL);
        engine_metric_source_remove(&access->metrics);
        io_timer_clear(serve->loop, &access->timer);
    }
    if (access->file >= 0)
        close(access->file);
    heap_free(access);
    serve->access = NULL;
}

const struct serve_part serve_access_part = {"access log", access_open, access_reload, access_close};
