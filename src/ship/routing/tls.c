// SPDX-License-Identifier: Apache-2.0
// What secure listeners answer with, and what versions with TLS are asked with, from the file: read at each
// reload, and when a file of it has changed. What cannot be used changes nothing: the certificates that are
// in force stay.
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

static enum status make(struct routing *routing, const struct config *config, struct routing_origins *origins,
                        struct proxy_tls **made, struct fault *fault)
{
    struct plans *plans = heap_alloc(1, sizeof *plans);
    if (plans == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    for (uint32_t i = 0; i < routing->listener_count; i++) {
        const struct config_listener *listener = listener_of(config, routing->listeners[i], true);
        if (listener != NULL)
            plan_listener(plans, i, listener);
    }
    if (routing->state.table_version == 0) {
        keep_usable(routing, plans);
        routing_origins_keep_usable(routing, origins);
    }
    struct proxy_tls_plan plan = {.listeners = plans->secure,
                                  .listener_count = routing->listener_count,
                                  .workers = proxy_worker_count(routing->proxy),
                                  .before = routing->tls,
                                  .tickets = routing->tickets,
                                  .client_counts = &routing->tls_counts,
                                  .origin_counts = &routing->origin_counts};
    plan.origins = routing_origins_plans(origins, &plan.origin_count);
    enum status status = proxy_tls_create(&plan, made, fault);
    heap_free(plans);
    return status;
}

static enum status check_listeners(const struct config *config, struct plans *plans,
                                   struct tls_tickets *tickets, struct fault *fault)
{
    struct tls_counts counts = {0};
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < config->listen_count && status == STATUS_OK; i++) {
        struct tls_server *server;
        if (!config->listen[i].secure)
            continue;
        plan_listener(plans, i, &config->listen[i]);
        status = tls_server_create(plans->secure[i], tickets, &counts, &server, fault);
        if (status == STATUS_OK)
            tls_server_destroy(server);
    }
    return status;
}

enum status routing_tls_check(const struct config *config, struct fault *fault)
{
    struct tls_tickets *tickets = NULL;
    struct routing_origins *origins = NULL;
    struct plans *plans = heap_alloc(1, sizeof *plans);
    enum status status = fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    if (plans != NULL && tls_tickets_create(&tickets) == STATUS_OK &&
        routing_origins_gather(config, &origins) == STATUS_OK)
        status = check_listeners(config, plans, tickets, fault);
    if (status == STATUS_OK)
        status = routing_origins_check(origins, fault);
    routing_origins_free(origins);
    tls_tickets_destroy(tickets);
    heap_free(plans);
    return status;
}

// ---- files that change ----

static uint64_t mix(uint64_t sum, uint64_t value)
{
    return (sum ^ value) * UINT64_C(0x9e3779b97f4a7c15) + (sum >> 31);
}

uint64_t routing_file_mark(uint64_t sum, const char *path)
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
    return routing_file_mark(
        routing_file_mark(routing_file_mark(sum, certificate->certificate), certificate->key),
        certificate->ocsp);
}

static uint64_t look(const struct config *config, const struct routing_origins *origins)
{
    uint64_t sum = routing_origins_mark(origins);
    for (uint32_t i = 0; i < config->listen_count; i++) {
        const struct config_tls *tls = &config->listen[i].tls;
        if (!config->listen[i].secure)
            continue;
        sum = routing_file_mark(mix_certificate(sum, &tls->first), tls->client_ca);
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

static bool any_secure(const struct config *config, const struct routing_origins *origins)
{
    uint32_t count;
    (void)routing_origins_plans(origins, &count);
    for (uint32_t i = 0; i < config->listen_count; i++)
        count += config->listen[i].secure;
    return count > 0;
}

static enum status load(struct routing *routing, const struct config *config, struct routing_origins *origins,
                        struct fault *fault)
{
    if (routing->tls == NULL && !any_secure(config, origins))
        return STATUS_OK;
    if (routing->tickets == NULL && tls_tickets_create(&routing->tickets) != STATUS_OK)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    uint64_t seen = look(config, origins);
    struct proxy_tls *made;
    enum status status = make(routing, config, origins, &made, fault);
    if (status != STATUS_OK)
        return status;
    proxy_tls_release(routing->tls);
    routing->tls = made;
    routing->tls_seen = seen;
    return STATUS_OK;
}

enum status routing_tls_load(struct routing *routing, const struct config *config, struct fault *fault)
{
    struct routing_origins *origins;
    if (routing->state.table_version == 0 && routing->listener_count == 0)
        remember_listeners(routing, config);
    if (routing_origins_gather(config, &origins) != STATUS_OK)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    enum status status = load(routing, config, origins, fault);
    routing_origins_free(origins);
    return status;
}

// False: they look as they did, or nobody could look.
static bool files_changed(struct routing *routing)
{
    struct routing_origins *origins;
    uint64_t before = routing->tls_seen;
    if (routing_origins_gather(routing->config, &origins) != STATUS_OK)
        return false;
    routing->tls_seen = look(routing->config, origins);
    routing_origins_free(origins);
    return routing->tls_seen != before;
}

void routing_tls_tick(struct routing *routing)
{
    if (routing->tls == NULL || routing->config == NULL || routing->ticks % LOOK_TICKS != 0)
        return;
    // What is seen now is told once; a file that is still being written changes again.
    if (!files_changed(routing))
        return;
    struct fault fault;
    if (routing_tls_load(routing, routing->config, &fault) == STATUS_OK) {
        log_write(routing->parts.log, LOG_INFO, "new certificates are in force",
                  LOG_FIELDS(LOG_NUMBER("changed", 1)));
        routing_publish_or_retry(routing);
        return;
    }
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
    "Connections of clients that failed by TLS: by protocol (no TLS, no version or cipher in common), the "
    "client's certificate (expired, name, issuer, revoked; certificate: missing, or for another reason), "
    "refused (by the client, mostly ours), cut (without a word) or unfinished (gone within the handshake).");
METRICS_FAMILY(origin_handshakes, COUNTER, "origin_tls_handshakes_total",
               "Handshakes with origins that succeeded.");
METRICS_FAMILY(
    origin_failures, COUNTER, "origin_tls_failures_total",
    "Connections to origins that failed by TLS, by the same reasons; the certificate is the origin's.");
METRICS_FAMILY(expires, GAUGE, "tls_certificate_expires_seconds",
               "When the first of our certificates in force ends, seconds since 1970; 0: there is none.");

static void write_counts(struct metrics_writer *writer, const struct metrics_family *good,
                         const struct metrics_family *bad, const struct tls_counts *counts)
{
    static const char *const versions[TLS_VERSIONS] = {"1.2", "1.3"};
    metrics_open(writer, good);
    for (int i = 0; i < TLS_VERSIONS * 2; i++) {
        struct metrics_label labels[] = {metrics_label_of("version", versions[i / 2]),
                                         metrics_label_of("resumed", i % 2 == 0 ? "no" : "yes")};
        metrics_count(writer, labels, 2, atomic_load(&counts->handshakes[i / 2][i % 2]));
    }
    metrics_open(writer, bad);
    for (int i = 0; i < TLS_FAILURES; i++)
        metrics_count(
            writer,
            (struct metrics_label[]){metrics_label_of("reason", tls_failure_name((enum tls_failure)i))}, 1,
            atomic_load(&counts->failures[i]));
}

void routing_tls_metrics(const struct routing *routing, struct metrics_writer *writer)
{
    if (routing->tls == NULL)
        return;
    write_counts(writer, &handshakes, &failures, &routing->tls_counts);
    write_counts(writer, &origin_handshakes, &origin_failures, &routing->origin_counts);
    metrics_one_value(writer, &expires, (double)proxy_tls_expires_ms(routing->tls) / 1e3);
}
