// SPDX-License-Identifier: Apache-2.0
// Start and end of the daemon. Every way it can fail ends in one sentence that says what to do.
#include "daemon/cli/daemon.h"

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/heap.h"
#include "base/siphash.h"
#include "daemon/cli/cli.h"

void cli_raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)!setrlimit(RLIMIT_NOFILE, &limit); // best effort: the old limit is shown in the metrics
}

static uint32_t cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : count > PROXY_WORKERS_MAX ? PROXY_WORKERS_MAX : (uint32_t)count;
}

const char *cli_start_advice(enum status status)
{
    switch (status) {
    case STATUS_IN_USE:
        return "another process uses that address; `ss -ltnp` shows which";
    case STATUS_DENIED:
        return "this user may not; ports below 1024 need CAP_NET_BIND_SERVICE";
    case STATUS_NO_FD:
        return "no file descriptors are left; raise the limit (ulimit -n, or LimitNOFILE= of the unit)";
    case STATUS_UNSUPPORTED:
        return "this event loop is not available here; use --io auto";
    case STATUS_NO_MEMORY:
        return "no memory is left";
    default:
        return status_name(status);
    }
}

static void say_listen(const struct config *config, enum status status, FILE *err)
{
    fprintf(err, "sluice: cannot listen on");
    for (uint32_t i = 0; i < config->listen_count; i++)
        fprintf(err, "%s %s", i > 0 ? "," : "", config->listen[i].text);
    fprintf(err, ": %s\n", cli_start_advice(status));
}

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
        enum status status = address_free(&config->listen[i].addr);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static uint64_t seed_now(const struct io_loop *loop)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const struct siphash_key key = {(uint64_t)now.tv_nsec, io_loop_clock_us(loop)};
    return siphash(key, &now, sizeof now);
}

static int make_proxy(const struct cli_daemon_options *options, struct cli_daemon *daemon)
{
    const struct config *config = options->config;
    struct io_addr listen[PROXY_LISTEN_MAX];
    struct proxy_config proxy = {
        .io = options->io != IO_KIND_AUTO ? options->io : config->io,
        .workers = options->workers != 0 ? options->workers : config->workers,
        .listen = listen,
        .listen_count = config->listen_count,
        .seed = seed_now(daemon->loop),
    };
    for (uint32_t i = 0; i < config->listen_count; i++)
        listen[i] = config->listen[i].addr;
    if (proxy.workers == 0)
        proxy.workers = cores();
    if (proxy.workers > PROXY_WORKERS_MAX)
        proxy.workers = PROXY_WORKERS_MAX;
    daemon->workers = proxy.workers;
    if (config->limits.connections > 0)
        proxy.clients_max = (uint32_t)((config->limits.connections + proxy.workers - 1) / proxy.workers);
    enum status status = proxy_create(&proxy, &daemon->proxy);
    if (status == STATUS_OK)
        return CLI_EXIT_OK;
    fprintf(options->err, "sluice: the proxy cannot be set up: %s\n", cli_start_advice(status));
    return CLI_EXIT_START;
}

static int open_journal(const struct cli_daemon_options *options, struct cli_daemon *daemon)
{
    struct fault problem;
    enum status status = journal_open(options->config->journal, JOURNAL_WRITE, &daemon->journal, &problem);
    if (status == STATUS_OK)
        return CLI_EXIT_OK;
    fprintf(options->err, "sluice: %s\n", problem.text);
    if (status == STATUS_IN_USE)
        fprintf(options->err, "Is another sluice running with the same file?\n");
    return CLI_EXIT_UNREADABLE;
}

static int make_control(const struct cli_daemon_options *options, struct cli_daemon *daemon)
{
    struct engine_parts parts = {.config = options->config,
                                 .loop = daemon->loop,
                                 .proxy = daemon->proxy,
                                 .journal = daemon->journal,
                                 .log = options->log,
                                 .workers = daemon->workers,
                                 .flag_readers = options->config->flags.threads};
    struct fault *fault = heap_alloc(1, sizeof *fault);
    enum status status = fault != NULL ? engine_create(&parts, &daemon->engine, fault) : STATUS_NO_MEMORY;
    if (status != STATUS_OK)
        fprintf(options->err, "sluice: %s\n", fault != NULL ? fault->text : "no memory is left");
    heap_free(fault);
    return status == STATUS_OK ? CLI_EXIT_OK : CLI_EXIT_START;
}

static int open_doors(const struct cli_daemon_options *options, struct cli_daemon *daemon)
{
    const struct config *config = options->config;
    enum status status = api_create(daemon->engine, &config->admin.addr, &daemon->api);
    if (status != STATUS_OK) {
        fprintf(options->err, "sluice: cannot listen on the admin address %s: %s\n", config->admin.text,
                cli_start_advice(status));
        return CLI_EXIT_START;
    }
    if (cli_evaluation_start(&daemon->evaluation, daemon->engine, daemon->workers, IO_KIND_EPOLL,
                             options->err) != CLI_EXIT_OK)
        return CLI_EXIT_START;
    status = addresses_free(config);
    if (status == STATUS_OK)
        status = proxy_start(daemon->proxy);
    if (status != STATUS_OK) {
        say_listen(config, status, options->err);
        return CLI_EXIT_START;
    }
    engine_set_listening(daemon->engine, true);
    engine_start(daemon->engine);
    return CLI_EXIT_OK;
}

// Everything that cli_daemon_start may have made; the config stays the caller's unless control took it.
static void take_apart(struct cli_daemon *daemon)
{
    if (daemon->api != NULL) {
        api_close(daemon->api);
        while (!api_closed(daemon->api))
            if (io_loop_turn(daemon->loop, 10000) != STATUS_OK)
                break;
        api_destroy(daemon->api);
    }
    cli_evaluation_stop(&daemon->evaluation);
    if (daemon->proxy != NULL)
        proxy_stop(daemon->proxy);
    engine_destroy(daemon->engine);
    if (daemon->proxy != NULL)
        proxy_destroy(daemon->proxy);
    journal_close(daemon->journal);
    if (daemon->loop != NULL)
        io_loop_destroy(daemon->loop);
    *daemon = (struct cli_daemon){.loop = NULL};
}

int cli_daemon_start(const struct cli_daemon_options *options, struct cli_daemon *daemon)
{
    *daemon = (struct cli_daemon){.evaluation = {.exposures = -1}};
    // The control loop has little to do: epoll everywhere keeps io_uring's memory for the workers.
    struct io_loop_config loop = {.kind = IO_KIND_EPOLL, .bufs_max = 1024};
    enum status status = io_loop_create(&loop, &daemon->loop);
    if (status != STATUS_OK) {
        fprintf(options->err, "sluice: the control loop cannot be set up: %s\n", cli_start_advice(status));
        return CLI_EXIT_START;
    }
    int code = make_proxy(options, daemon);
    if (code == CLI_EXIT_OK)
        code = open_journal(options, daemon);
    if (code == CLI_EXIT_OK)
        code = make_control(options, daemon);
    if (code == CLI_EXIT_OK)
        code = open_doors(options, daemon);
    if (code == CLI_EXIT_OK)
        return code;
    // Control took the config; without control it is still the caller's to destroy.
    bool config_is_ours = daemon->engine == NULL;
    take_apart(daemon);
    if (config_is_ours)
        config_destroy(options->config);
    return code;
}

void cli_daemon_run(struct cli_daemon *daemon)
{
    io_loop_run(daemon->loop);
}

void cli_daemon_stopped(void *context)
{
    struct cli_daemon *daemon = context;
    io_loop_stop(daemon->loop);
}

void cli_daemon_end(struct cli_daemon *daemon)
{
    take_apart(daemon);
}
