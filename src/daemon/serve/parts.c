// SPDX-License-Identifier: Apache-2.0
// The parts of the daemon, each with what it opens, follows and closes. Every way a start can fail ends in
// one sentence that says what to do.
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/check.h"
#include "daemon/config/config.h"
#include "daemon/serve/serve_private.h"
#include "net/http/http1.h"
#include "net/io/kept.h"
#include "net/io/loop.h"
#include "net/mirror/mirror.h"
#include "net/proxy/proxy.h"
#include "ship/engine/engine.h"
#include "ship/routing/routing.h"
#include "ship/shadow/shadow.h"
#include "ship/store/journal.h"

// ---- the loop ----

// The engine's loop has little to do: epoll everywhere keeps io_uring's memory for the workers.
static enum serve_outcome loop_open(struct serve *serve)
{
    struct io_loop_config config = {.kind = IO_KIND_EPOLL, .bufs_max = 1024};
    enum status status = io_loop_create(&config, &serve->loop);
    if (status == STATUS_OK)
        return SERVE_OK;
    fprintf(serve->options.err, "sluice: the engine's loop cannot be set up: %s\n", serve_advice(status));
    return SERVE_NO_START;
}

static void loop_close(struct serve *serve)
{
    if (serve->loop != NULL)
        io_loop_destroy(serve->loop);
}

static const struct serve_part loop_part = {"loop", loop_open, NULL, loop_close};

// ---- the proxy ----

static uint32_t cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : count > PROXY_WORKERS_MAX ? PROXY_WORKERS_MAX : (uint32_t)count;
}

// Nobody can guess it: arms are drawn from it.
static uint64_t secret_draw(void)
{
    uint64_t secret;
    CHECK(getrandom(&secret, sizeof secret, 0) == (ssize_t)sizeof secret);
    return secret;
}

// Both have a thread only when a file asks for it.
static enum status mirror_open(struct serve *serve)
{
    const struct shadow_parts shadow = {.key = {secret_draw(), secret_draw()}};
    enum status status = shadow_create(&shadow, &serve->shadow);
    if (status != STATUS_OK)
        return status;
    const struct mirror_parts mirror = {
        .workers = serve->workers, .seed = secret_draw(), .seen = shadow_take, .context = serve->shadow};
    return mirror_create(&mirror, &serve->mirror);
}

static enum serve_outcome proxy_open(struct serve *serve)
{
    const struct config *config = serve->options.config;
    struct io_addr listen[PROXY_LISTEN_MAX];
    struct http1_limits limits = http1_limits_default;
    limits.head_bytes_max = (uint32_t)config->limits.head_bytes;
    limits.fields_max = config->limits.head_fields;
    limits.query_raw = config->limits.query_raw;
    struct proxy_config proxy = {
        .limits = &limits,
        .io = serve->options.io != IO_KIND_AUTO ? serve->options.io : config->io,
        .workers = serve->options.workers != 0 ? serve->options.workers : config->workers,
        .listen = listen,
        .listen_count = config->listen_count,
        .seed = secret_draw(),
        .accesses = config->log.access[0] != '\0',
    };
    for (uint32_t i = 0; i < config->listen_count; i++) {
        listen[i] = config->listen[i].address.addr;
        proxy.listen_secure |= (uint32_t)config->listen[i].secure << i;
    }
    if (proxy.workers == 0)
        proxy.workers = cores();
    if (proxy.workers > PROXY_WORKERS_MAX)
        proxy.workers = PROXY_WORKERS_MAX;
    serve->workers = proxy.workers;
    enum status status = mirror_open(serve);
    proxy.mirror = serve->mirror;
    serve->room = serve_room(serve, config);
    proxy.clients_max = (serve->room.clients + proxy.workers - 1) / proxy.workers;
    if (status == STATUS_OK)
        status = proxy_create(&proxy, &serve->proxy);
    if (status == STATUS_OK)
        return SERVE_OK;
    fprintf(serve->options.err, "sluice: the proxy cannot be set up: %s\n", serve_advice(status));
    return SERVE_NO_START;
}

// No worker runs any more; the engine counts for its TLS.
static void mirror_end(struct serve *serve)
{
    mirror_destroy(serve->mirror);
    serve->mirror = NULL;
}

static void proxy_close(struct serve *serve)
{
    if (serve->proxy != NULL)
        proxy_stop(serve->proxy);
    mirror_end(serve);
    shadow_destroy(serve->shadow);
    if (serve->proxy == NULL)
        return;
    proxy_destroy(serve->proxy);
}

static const struct serve_part proxy_part = {"proxy", proxy_open, NULL, proxy_close};

// ---- the journal ----

static enum serve_outcome store_open(struct serve *serve)
{
    struct fault fault;
    enum status status = journal_open(serve->options.config->journal, JOURNAL_WRITE, &serve->journal, &fault);
    if (status == STATUS_OK)
        return SERVE_OK;
    fprintf(serve->options.err, "sluice: %s\n", fault.text);
    if (status == STATUS_IN_USE)
        fprintf(serve->options.err, "Is another sluice running with the same file?\n");
    return SERVE_NO_JOURNAL;
}

static void store_close(struct serve *serve)
{
    journal_close(serve->journal);
    serve->journal = NULL;
}

const struct serve_part serve_journal_part = {"journal", store_open, NULL, store_close};

// ---- the engine and what it moves ----

static enum serve_outcome engine_open(struct serve *serve)
{
    struct targets_parts parts = {.config = serve->options.config,
                                  .loop = serve->loop,
                                  .proxy = serve->proxy,
                                  .journal = serve->journal,
                                  .log = serve->options.log,
                                  .shadow = serve->shadow,
                                  .secret = {secret_draw(), secret_draw()},
                                  .workers = serve->workers,
                                  .flag_readers = serve->options.config->flags.threads};
    struct fault fault;
    if (targets_create(&parts, &serve->targets, &fault) == STATUS_OK) {
        serve->engine = serve->targets->engine;
        if (serve->options.begin != NULL && serve->options.begin->careful)
            engine_be_careful(serve->engine);
        return SERVE_OK;
    }
    fprintf(serve->options.err, "sluice: %s\n", fault.text);
    return SERVE_NO_START;
}

static void engine_close(struct serve *serve)
{
    mirror_end(serve);
    targets_destroy(serve->targets);
}

static const struct serve_part engine_part = {"engine", engine_open, NULL, engine_close};

// ---- the API ----

static enum status ask_upgrade(void *context)
{
    (void)context;
    return supervise_upgrade();
}

static void describe_supervisor(void *context, struct api_supervisor *supervisor)
{
    const struct serve *serve = context;
    const struct supervise_begin *begin = serve->options.begin;
    _Static_assert(sizeof begin->why == sizeof supervisor->why, "the same texts");
    *supervisor = (struct api_supervisor){.present = begin != NULL};
    if (begin == NULL)
        return;
    supervisor->upgraded = begin->upgraded;
    supervisor->deaths = begin->deaths;
    memcpy(supervisor->why, begin->why, sizeof supervisor->why);
    supervisor->refused = supervise_refused(supervisor->refusal);
}

static enum status report_diff(void *context, struct slice service, struct slice rollout,
                               struct shadow_report **report)
{
    const struct serve *serve = context;
    uint64_t run;
    return shadow_find(serve->shadow, service, rollout, &run) ? shadow_report(serve->shadow, run, report)
                                                              : STATUS_NOT_FOUND;
}

static enum serve_outcome admin_open(struct serve *serve)
{
    const struct config *config = engine_config(serve->engine);
    serve->program = (struct api_program){serve, serve_reload, ask_upgrade, describe_supervisor, report_diff};
    enum status status =
        api_create(serve->engine, &config->admin.addr, serve->room.admin, &serve->program, &serve->api);
    if (status == STATUS_OK)
        return SERVE_OK;
    fprintf(serve->options.err, "sluice: cannot listen on the admin address %s: %s\n", config->admin.text,
            serve_advice(status));
    return SERVE_NO_START;
}

static void admin_close(struct serve *serve)
{
    if (serve->api == NULL)
        return;
    api_close(serve->api);
    while (!api_closed(serve->api))
        if (io_loop_turn(serve->loop, 10000) != STATUS_OK)
            break;
    api_destroy(serve->api);
    serve->api = NULL;
}

const struct serve_part serve_api_part = {"api", admin_open, NULL, admin_close};

// ---- the listeners ----

// The workers' listeners share their port among themselves, and the kernel would share it with another daemon
// of the same user just as silently. Binding once without sharing tells whether somebody is there.
static enum status address_free(const struct io_addr *addr)
{
    if (addr->any.sa_family != AF_INET && addr->any.sa_family != AF_INET6)
        return STATUS_OK;
    int handle = socket(addr->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (handle < 0)
        return status_of_errno(errno);
    const int on = 1;
    if (addr->any.sa_family == AF_INET6)
        (void)!setsockopt(handle, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    (void)!setsockopt(handle, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    enum status status = bind(handle, &addr->any, addr->len) == 0 ? STATUS_OK : status_of_errno(errno);
    close(handle);
    return status;
}

static enum status addresses_free(const struct config *config)
{
    for (uint32_t i = 0; i < config->listen_count; i++) {
        const struct io_addr *addr = &config->listen[i].address.addr;
        enum status status = io_kept_waits(addr) ? STATUS_OK : address_free(addr);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum serve_outcome doors_open(struct serve *serve)
{
    const struct config *config = engine_config(serve->engine);
    enum status status = addresses_free(config);
    if (status == STATUS_OK)
        status = proxy_start(serve->proxy);
    if (status == STATUS_OK) {
        routing_set_listening(serve->targets->routing, true);
        engine_start(serve->engine);
        return SERVE_OK;
    }
    fprintf(serve->options.err, "sluice: cannot listen on");
    for (uint32_t i = 0; i < config->listen_count; i++)
        fprintf(serve->options.err, "%s %s", i > 0 ? "," : "", config->listen[i].address.text);
    fprintf(serve->options.err, ": %s\n", serve_advice(status));
    return SERVE_NO_START;
}

// Nobody may count any more when evaluation and engine go.
static void doors_close(struct serve *serve)
{
    if (serve->proxy != NULL)
        proxy_stop(serve->proxy);
}

static const struct serve_part doors_part = {"listeners", doors_open, NULL, doors_close};

const struct serve_part *const serve_parts[] = {&loop_part,         &proxy_part,     &serve_journal_part,
                                                &engine_part,       &serve_api_part, &serve_evaluation_part,
                                                &serve_access_part, &doors_part,     NULL};
