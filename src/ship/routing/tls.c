// SPDX-License-Identifier: Apache-2.0
// What secure listeners answer with, from the file: read at each reload, and when a file of it has changed.
// What cannot be used changes nothing: the certificates that are in force stay.
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/heap.h"
#include "net/tls/tls.h"
#include "operate/log/log.h"
#include "operate/metrics/exposition.h"
#include "ship/routing/routing_private.h"

enum { LOOK_TICKS = 10 }; // how often files are looked at: 1 s

struct plans {
    struct tls_server_config configs[CONFIG_LISTEN_MAX];
    const struct tls_server_config *secure[CONFIG_LISTEN_MAX]; // NULL: without TLS
    struct tls_identity identities[CONFIG_LISTEN_MAX][CONFIG_CERTIFICATES_MAX + 1];
};

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static struct tls_identity identity_of(const struct config_certificate *from)
{
    return (struct tls_identity){from->certificate, from->key, or_null(from->ocsp)};
}

static void plan_listener(struct plans *plans, uint32_t i, const struct config_listener *listener)
{
    static const char *const protocols[] = {"h2", "http/1.1", NULL};
    const struct config_tls *tls = &listener->tls;
    plans->identities[i][0] = identity_of(&tls->first);
    for (uint32_t k = 0; k < tls->more_count; k++)
        plans->identities[i][k + 1] = identity_of(&tls->more[k]);
    plans->configs[i] =
        (struct tls_server_config){.identities = plans->identities[i],
                                   .identity_count = tls->more_count + 1,
                                   .version_min = tls->version_min == CONFIG_TLS_1_3 ? TLS_1_3 : TLS_1_2,
                                   .ciphers = or_null(tls->ciphers),
                                   .client_ca = or_null(tls->client_ca),
                                   .client_required = tls->client_required,
                                   .alpn = listener->http2 ? protocols : protocols + 1};
    plans->secure[i] = &plans->configs[i];
}

const struct config_listener *routing_listener(const struct config *config, const char *address)
{
    for (uint32_t i = 0; i < config->listen_count; i++)
        if (strcmp(config->listen[i].address.text, address) == 0)
            return &config->listen[i];
    return NULL;
}

// NULL also when it is not with TLS in the file (or not without it): such a change waits for a restart, and
// what it has now stays.
static const struct config_listener *listener_of(const struct config *config, const char *address,
                                                 bool secure)
{
    const struct config_listener *listener = routing_listener(config, address);
    return listener != NULL && listener->secure == secure ? listener : NULL;
}

uint32_t routing_listen_http1(const struct routing *routing)
{
    uint32_t mask = 0;
    for (uint32_t i = 0; i < routing->listener_count; i++) {
        const struct config_listener *listener = listener_of(routing->config, routing->listeners[i], false);
        mask |= (uint32_t)(listener != NULL && !listener->http2) << i;
    }
    return mask;
}

// Drops what cannot be used; at the start the other listeners are to serve all the same.
static void keep_usable(const struct routing *routing, struct plans *plans)
{
    for (uint32_t i = 0; i < routing->listener_count; i++) {
        struct tls_counts counts = {0};
        struct tls_server *server;
        struct fault fault;
        if (plans->secure[i] == NULL ||
            tls_server_create(plans->secure[i], routing->tickets, &counts, &server, &fault) == STATUS_OK) {
            if (plans->secure[i] != NULL)
                tls_server_destroy(server);
            continue;
        }
        plans->secure[i] = NULL;
        log_write(
            routing->parts.log, LOG_ERROR,
            "a listener's certificate cannot be used: its connections are closed until the file is mended",
            LOG_FIELDS(LOG_TEXT("listen", routing->listeners[i]), LOG_TEXT("problem", fault.text)));
    }
}

static enum status make(struct routing *routing, const struct config *config, struct proxy_tls **made,
                        struct fault *fault)
{
    struct plans *plans = heap_alloc(1, sizeof *plans);
    if (plans == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    for (uint32_t i = 0; i < routing->listener_count; i++) {
        const struct config_listener *listener = listener_of(config, routing->listeners[i], true);
        if (listener != NULL)
            plan_listener(plans, i, listener);
    }
    if (routing->health.table_version == 0)
        keep_usable(routing, plans);
    enum status status =
        proxy_tls_create(plans->secure, routing->listener_count, proxy_worker_count(routing->proxy),
                         routing->tls, routing->tickets, &routing->tls_counts, made, fault);
    heap_free(plans);
    return status;
}

enum status routing_tls_check(const struct config *config, struct fault *fault)
{
    struct tls_tickets *tickets;
    struct tls_counts counts = {0};
    struct plans *plans = heap_alloc(1, sizeof *plans);
    enum status status = tls_tickets_create(&tickets);
    if (plans == NULL || status != STATUS_OK) {
        heap_free(plans);
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    }
    for (uint32_t i = 0; i < config->listen_count && status == STATUS_OK; i++) {
        struct tls_server *server;
        if (!config->listen[i].secure)
            continue;
        plan_listener(plans, i, &config->listen[i]);
        status = tls_server_create(plans->secure[i], tickets, &counts, &server, fault);
        if (status == STATUS_OK)
            tls_server_destroy(server);
    }
    tls_tickets_destroy(tickets);
    heap_free(plans);
    return status;
}

// ---- files that change ----

static uint64_t mix(uint64_t sum, uint64_t value)
{
    return (sum ^ value) * UINT64_C(0x9e3779b97f4a7c15) + (sum >> 31);
}

static uint64_t mix_file(uint64_t sum, const char *path)
{
    struct stat info;
    if (path[0] == '\0' || stat(path, &info) != 0)
        return mix(sum, 1);
    sum = mix(sum, (uint64_t)info.st_ino);
    sum = mix(sum, (uint64_t)info.st_size);
    return mix(mix(sum, (uint64_t)info.st_mtim.tv_sec), (uint64_t)info.st_mtim.tv_nsec);
}

static uint64_t mix_certificate(uint64_t sum, const struct config_certificate *certificate)
{
    return mix_file(mix_file(mix_file(sum, certificate->certificate), certificate->key), certificate->ocsp);
}

static uint64_t look(const struct config *config)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < config->listen_count; i++) {
        const struct config_tls *tls = &config->listen[i].tls;
        if (!config->listen[i].secure)
            continue;
        sum = mix_file(mix_certificate(sum, &tls->first), tls->client_ca);
        for (uint32_t k = 0; k < tls->more_count; k++)
            sum = mix_certificate(sum, &tls->more[k]);
    }
    return sum;
}

// ---- in force ----

// Those of the start: others are opened by a restart alone.
static void remember_listeners(struct routing *routing, const struct config *config)
{
    for (; routing->listener_count < config->listen_count; routing->listener_count++)
        snprintf(routing->listeners[routing->listener_count], sizeof routing->listeners[0], "%s",
                 config->listen[routing->listener_count].address.text);
}

static bool any_secure(const struct config *config)
{
    for (uint32_t i = 0; i < config->listen_count; i++)
        if (config->listen[i].secure)
            return true;
    return false;
}

enum status routing_tls_load(struct routing *routing, const struct config *config, struct fault *fault)
{
    if (routing->health.table_version == 0 && routing->listener_count == 0)
        remember_listeners(routing, config);
    if (routing->tls == NULL && !any_secure(config))
        return STATUS_OK;
    if (routing->tickets == NULL && tls_tickets_create(&routing->tickets) != STATUS_OK)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    uint64_t seen = look(config);
    struct proxy_tls *made;
    enum status status = make(routing, config, &made, fault);
    if (status != STATUS_OK)
        return status;
    proxy_tls_release(routing->tls);
    routing->tls = made;
    routing->tls_seen = seen;
    return STATUS_OK;
}

void routing_tls_tick(struct routing *routing)
{
    if (routing->tls == NULL || routing->config == NULL || routing->ticks % LOOK_TICKS != 0)
        return;
    uint64_t seen = look(routing->config);
    if (seen == routing->tls_seen)
        return;
    struct fault fault;
    if (routing_tls_load(routing, routing->config, &fault) == STATUS_OK) {
        log_write(routing->parts.log, LOG_INFO, "new certificates are in force",
                  LOG_FIELDS(LOG_NUMBER("changed", 1)));
        routing_publish_or_retry(routing);
        return;
    }
    routing->tls_seen = seen; // said once; a file that is still being written changes again
    log_write(routing->parts.log, LOG_ERROR,
              "certificates have changed and cannot be used: the old ones stay",
              LOG_FIELDS(LOG_TEXT("problem", fault.text)));
}

void routing_tls_deinit(struct routing *routing)
{
    proxy_tls_release(routing->tls);
    tls_tickets_destroy(routing->tickets);
}

METRICS_FAMILY(handshakes, COUNTER, "tls_handshakes_total", "Handshakes with clients that succeeded.");
METRICS_FAMILY(
    failures, COUNTER, "tls_failures_total",
    "Connections of clients that failed by TLS: by protocol (no TLS, no version or cipher in common), "
    "certificate (the client's), refused (by the client, mostly ours) or cut (without a word).");
METRICS_FAMILY(expires, GAUGE, "tls_certificate_expires_seconds",
               "When the first of the certificates in force ends, seconds since 1970.");

void routing_tls_metrics(const struct routing *routing, struct metrics_writer *writer)
{
    static const char *const versions[TLS_VERSIONS] = {"1.2", "1.3"};
    if (routing->tls == NULL)
        return;
    metrics_open(writer, &handshakes);
    for (int i = 0; i < TLS_VERSIONS * 2; i++) {
        struct metrics_label labels[] = {metrics_label_of("version", versions[i / 2]),
                                         metrics_label_of("resumed", i % 2 == 0 ? "no" : "yes")};
        metrics_count(writer, labels, 2, atomic_load(&routing->tls_counts.handshakes[i / 2][i % 2]));
    }
    metrics_open(writer, &failures);
    for (int i = 0; i < TLS_FAILURES; i++)
        metrics_count(
            writer,
            (struct metrics_label[]){metrics_label_of("reason", tls_failure_name((enum tls_failure)i))}, 1,
            atomic_load(&routing->tls_counts.failures[i]));
    metrics_one_value(writer, &expires, (double)proxy_tls_expires_ms(routing->tls) / 1e3);
}
