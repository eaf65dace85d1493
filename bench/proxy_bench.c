// SPDX-License-Identifier: Apache-2.0
// The proxy alone, with one service and a table made from flags, for measuring what a proxied request costs.
//
//     proxy_bench --io epoll|uring --listen ADDRESS --to ADDRESS[,ADDRESS] [--weight 10%] [--threads N]
//
// The first address is the stable version, the second the canary. Ends, and prints its counters, at end of
// input.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "net/proxy/proxy.h"

static _Noreturn void usage(void)
{
    fprintf(stderr,
            "usage: proxy_bench --io epoll|uring --listen ADDRESS --to ADDRESS[,ADDRESS] [--weight 10%%] "
            "[--threads N]\n");
    exit(2);
}

static void must(const char *what, enum status status)
{
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "proxy_bench: %s: %s\n", what, status_name(status));
    exit(1);
}

struct options {
    enum io_kind io;
    struct io_addr listen;
    struct io_addr to[2];
    uint32_t to_count;
    uint32_t weight;
    uint32_t threads;
};

static void parse_to(char *text, struct options *options)
{
    for (char *piece = strtok(text, ","); piece != NULL; piece = strtok(NULL, ",")) {
        if (options->to_count == ARRAY_LEN(options->to))
            usage();
        must(piece, io_addr_parse(piece, &options->to[options->to_count++]));
    }
}

static struct options parse(int count, char **arguments)
{
    struct options options = {.threads = 1};
    for (int i = 1; i + 1 < count; i += 2) {
        const char *name = arguments[i];
        char *value = arguments[i + 1];
        if (strcmp(name, "--io") == 0)
            options.io = strcmp(value, "uring") == 0 ? IO_KIND_URING : IO_KIND_EPOLL;
        else if (strcmp(name, "--listen") == 0)
            must(value, io_addr_parse(value, &options.listen));
        else if (strcmp(name, "--to") == 0)
            parse_to(value, &options);
        else if (strcmp(name, "--weight") == 0)
            options.weight = (uint32_t)(strtod(value, NULL) * 1000);
        else if (strcmp(name, "--threads") == 0)
            options.threads = (uint32_t)strtoul(value, NULL, 10);
        else
            usage();
    }
    if (count % 2 == 0 || options.listen.len == 0 || options.to_count == 0)
        usage();
    return options;
}

static struct proxy_table *make_table(const struct options *options)
{
    struct proxy_endpoint_plan endpoints[2];
    struct proxy_version_plan versions[2];
    for (uint32_t i = 0; i < options->to_count; i++) {
        endpoints[i] = (struct proxy_endpoint_plan){.slot = (uint16_t)i, .addr = options->to[i]};
        versions[i] = (struct proxy_version_plan){.slot = (uint16_t)i,
                                                  .name = i == 0 ? "v1" : "v2",
                                                  .endpoints = &endpoints[i],
                                                  .endpoint_count = 1};
    }
    struct proxy_service_plan service = {.name = "bench",
                                         .versions = versions,
                                         .version_count = options->to_count,
                                         .canary = options->to_count == 2 ? 1 : PROXY_VERSION_NONE,
                                         .control = PROXY_VERSION_NONE,
                                         .weight = options->to_count == 2 ? options->weight : 0};
    struct proxy_route_plan route = {0};
    struct proxy_table_plan plan = {
        .version = 1, .services = &service, .service_count = 1, .routes = &route, .route_count = 1};
    struct proxy_table *table;
    struct fault why;
    must("table", proxy_table_build(&plan, &table, &why));
    return table;
}

static void print_counts(const struct proxy *proxy, uint32_t versions)
{
    uint64_t worker[PROXY_WORKER_COUNTERS], version[PROXY_VERSION_COUNTERS];
    for (uint32_t i = 0; i < proxy_worker_count(proxy); i++) {
        proxy_worker_counts(proxy, i, worker);
        printf("worker %u:", i);
        for (int k = 0; k < PROXY_WORKER_NAMED; k++)
            if (worker[k] != 0)
                printf(" %s=%llu", proxy_worker_counter_name((enum proxy_worker_counter)k),
                       (unsigned long long)worker[k]);
        printf("\n");
    }
    for (uint16_t i = 0; i < versions; i++) {
        proxy_version_counts(proxy, i, version);
        printf("version %u:", i);
        for (int k = 0; k < PROXY_VERSION_COUNTERS; k++)
            if (version[k] != 0)
                printf(" %s=%llu", proxy_version_counter_name((enum proxy_version_counter)k),
                       (unsigned long long)version[k]);
        printf("\n");
    }
}

int main(int count, char **arguments)
{
    struct options options = parse(count, arguments);
    struct proxy_config config = {.io = options.io,
                                  .workers = options.threads,
                                  .listen = &options.listen,
                                  .listen_count = 1,
                                  .seed = (uint64_t)time(NULL)};
    struct proxy *proxy;
    must("create", proxy_create(&config, &proxy));
    must("publish", proxy_publish(proxy, make_table(&options)));
    must("start", proxy_start(proxy));
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    proxy_stop(proxy);
    print_counts(proxy, options.to_count);
    proxy_destroy(proxy);
    return 0;
}
