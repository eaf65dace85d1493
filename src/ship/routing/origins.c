// SPDX-License-Identifier: Apache-2.0
// How versions with `tls` are spoken to, from the file: versions whose words are alike share one way.
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/siphash.h"
#include "ship/routing/routing_private.h"

struct routing_origins {
    uint32_t count;
    struct proxy_origin_plan plans[CONFIG_ALL_VERSIONS_MAX];
    struct tls_client_config configs[CONFIG_ALL_VERSIONS_MAX];
};

// ---- which there are ----

uint64_t routing_origin_key(const struct config_origin *origin)
{
    const char *const texts[] = {origin->ca, origin->certificate, origin->key, origin->ciphers};
    const uint8_t bits[] = {origin->verify, origin->version_min == CONFIG_TLS_1_3};
    struct siphash_state state;
    siphash_begin(&state, (struct siphash_key){0x6f7269, 0x67696e});
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        siphash_add(&state, texts[i], strlen(texts[i]) + 1);
    siphash_add(&state, bits, sizeof bits);
    return siphash_end(&state);
}

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static uint64_t files_of(const struct config_origin *origin)
{
    uint64_t mark = routing_file_mark(0, origin->ca);
    return routing_file_mark(routing_file_mark(mark, origin->certificate), origin->key);
}

static void add(struct routing_origins *origins, const struct config_origin *origin)
{
    static const char *const protocols[] = {"http/1.1", NULL};
    uint64_t key = routing_origin_key(origin);
    if (origin->speech != CONFIG_SPEECH_TLS)
        return;
    for (uint32_t i = 0; i < origins->count; i++)
        if (origins->plans[i].key == key)
            return;
    uint32_t at = origins->count++;
    origins->configs[at] =
        (struct tls_client_config){.verify = origin->verify,
                                   .ca = or_null(origin->ca),
                                   .certificate = or_null(origin->certificate),
                                   .key = or_null(origin->key),
                                   .version_min = origin->version_min == CONFIG_TLS_1_3 ? TLS_1_3 : TLS_1_2,
                                   .ciphers = or_null(origin->ciphers),
                                   .alpn = protocols};
    origins->plans[at] =
        (struct proxy_origin_plan){.key = key, .files = files_of(origin), .config = &origins->configs[at]};
}

enum status routing_origins_gather(const struct config *config, struct routing_origins **made)
{
    struct routing_origins *origins = heap_alloc(1, sizeof *origins);
    if (origins == NULL)
        return STATUS_NO_MEMORY;
    for (uint32_t i = 0; i < config->service_count; i++) {
        const struct config_service *service = &config->services[i];
        for (uint32_t k = 0; k < service->version_count; k++)
            add(origins, &service->versions[k].origin);
        if (service->control_endpoint_count > 0)
            add(origins, &service->control_origin);
    }
    *made = origins;
    return STATUS_OK;
}

void routing_origins_free(struct routing_origins *origins)
{
    heap_free(origins);
}

const struct proxy_origin_plan *routing_origins_plans(const struct routing_origins *origins, uint32_t *count)
{
    *count = origins->count;
    return origins->plans;
}

uint64_t routing_origins_mark(const struct routing_origins *origins)
{
    uint64_t mark = 0;
    for (uint32_t i = 0; i < origins->count; i++)
        mark = mark * 31 + origins->plans[i].files;
    return mark;
}

// ---- whether they can be used ----

static enum status try_one(const struct tls_client_config *config, struct fault *fault)
{
    struct tls_counts counts = {0};
    struct tls_client *client;
    enum status status = tls_client_create(config, &counts, &client, fault);
    if (status == STATUS_OK)
        tls_client_destroy(client);
    return status;
}

enum status routing_origins_check(const struct routing_origins *origins, struct fault *fault)
{
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < origins->count && status == STATUS_OK; i++)
        status = try_one(&origins->configs[i], fault);
    return status;
}

void routing_origins_keep_usable(const struct routing *routing, struct routing_origins *origins)
{
    for (uint32_t i = 0; i < origins->count; i++) {
        struct fault fault;
        if (try_one(&origins->configs[i], &fault) == STATUS_OK)
            continue;
        origins->plans[i].config = NULL;
        log_write(routing->parts.log, LOG_ERROR,
                  "the files of a version's 'tls' cannot be used: its requests fail until they are mended",
                  LOG_FIELDS(LOG_TEXT("problem", fault.text)));
    }
}
