// SPDX-License-Identifier: Apache-2.0
// Plans and what is counted of them: made by routing, held by tables and by copies on their way.
#include <string.h>

#include "base/heap.h"
#include "net/mirror/mirror_private.h"

// ---- counts ----

enum status mirror_run_create(struct mirror_run **run)
{
    struct mirror_run *made = heap_alloc(1, sizeof *made);
    if (made == NULL)
        return STATUS_NO_MEMORY;
    made->holds = 1;
    *run = made;
    return STATUS_OK;
}

struct mirror_run *mirror_run_share(struct mirror_run *run)
{
    atomic_fetch_add_explicit(&run->holds, 1, memory_order_relaxed);
    return run;
}

void mirror_run_release(struct mirror_run *run)
{
    if (run != NULL && atomic_fetch_sub_explicit(&run->holds, 1, memory_order_acq_rel) == 1)
        heap_free(run);
}

static uint64_t read_count(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void mirror_run_counts(const struct mirror_run *run, struct mirror_counts *counts)
{
    *counts = (struct mirror_counts){.selected = read_count(&run->selected),
                                     .sent = read_count(&run->sent),
                                     .compared = read_count(&run->compared),
                                     .secondaries = read_count(&run->secondaries),
                                     .secondaries_failed = read_count(&run->secondaries_failed)};
    for (size_t i = 0; i < MIRROR_DROPS; i++)
        counts->dropped[i] = read_count(&run->dropped[i]);
    for (size_t i = 0; i < MIRROR_UNCOMPAREDS; i++)
        counts->uncompared[i] = read_count(&run->uncompared[i]);
}

const char *mirror_drop_name(enum mirror_drop drop)
{
    static const char *const names[] = {
        [MIRROR_DROP_UNSAFE] = "unsafe",         [MIRROR_DROP_SHADOW] = "shadow",
        [MIRROR_DROP_UPGRADE] = "upgrade",       [MIRROR_DROP_TRAILERS] = "trailers",
        [MIRROR_DROP_UNFINISHED] = "unfinished", [MIRROR_DROP_TOO_LARGE] = "too_large",
        [MIRROR_DROP_MEMORY] = "memory",         [MIRROR_DROP_BUSY] = "busy",
        [MIRROR_DROP_NO_TARGET] = "no_target",   [MIRROR_DROP_ENDED] = "ended"};
    return names[drop];
}

const char *mirror_uncompared_name(enum mirror_uncompared reason)
{
    static const char *const names[] = {[MIRROR_UNCOMPARED_CLIENT_GONE] = "client_gone",
                                        [MIRROR_UNCOMPARED_PRIMARY_FAILED] = "primary_failed",
                                        [MIRROR_UNCOMPARED_CONNECT] = "connect",
                                        [MIRROR_UNCOMPARED_TLS] = "tls",
                                        [MIRROR_UNCOMPARED_TIMEOUT] = "timeout",
                                        [MIRROR_UNCOMPARED_RESET] = "reset",
                                        [MIRROR_UNCOMPARED_BROKEN] = "broken",
                                        [MIRROR_UNCOMPARED_OURS] = "ours",
                                        [MIRROR_UNCOMPARED_NO_READER] = "no_reader"};
    return names[reason];
}

// ---- plans ----

static size_t text_bytes(const struct mirror_words *words)
{
    size_t bytes = words->host.len + words->path.len;
    const struct mirror_target *const targets[] = {&words->candidate, &words->primary};
    for (size_t i = 0; i < ARRAY_LEN(targets); i++)
        for (uint32_t k = 0; k < targets[i]->endpoint_count; k++)
            bytes += targets[i]->endpoints[k].name.len + IO_ADDR_TEXT_BYTES;
    for (uint32_t i = 0; i < words->add_count; i++)
        bytes += words->add[i].name.len + words->add[i].value.len;
    for (uint32_t i = 0; i < words->strip_count; i++)
        bytes += words->strip[i].len;
    return bytes;
}

static struct slice keep(char **at, struct slice text)
{
    struct slice kept = {*at, text.len};
    if (text.len > 0)
        memcpy(*at, text.data, text.len);
    *at += text.len;
    return kept;
}

static void keep_target(struct mirror_target *target, struct mirror_endpoint **endpoints, char **text)
{
    const struct mirror_endpoint *from = target->endpoints;
    target->endpoints = *endpoints;
    if (target->client != NULL)
        target->client = tls_client_share(target->client);
    for (uint32_t i = 0; i < target->endpoint_count; i++) {
        char address[IO_ADDR_TEXT_BYTES];
        struct slice name = from[i].name;
        io_addr_format_host(&from[i].addr, address);
        CHECK(name.len < MIRROR_NAME_BYTES);
        if (name.len == 0 && from[i].addr.any.sa_family != AF_UNIX)
            name = slice_of(address);
        *(*endpoints)++ = (struct mirror_endpoint){.addr = from[i].addr, .name = keep(text, name)};
    }
}

// The mark comes first; what a client asked of our connection with it is not the mirror's to ask.
static void keep_headers(struct mirror_plan *plan, char **text)
{
    const struct mirror_words *words = &plan->words;
    plan->add[plan->add_count++] = (struct http_field){.name = SLICE("X-Sluice-Shadow"), .value = SLICE("1")};
    plan->strip[plan->strip_count++] = SLICE("expect");
    for (uint32_t i = 0; i < words->add_count; i++)
        plan->add[plan->add_count++] = (struct http_field){.name = keep(text, words->add[i].name),
                                                           .value = keep(text, words->add[i].value)};
    for (uint32_t i = 0; i < words->strip_count; i++)
        plan->strip[plan->strip_count++] = keep(text, words->strip[i]);
}

enum status mirror_plan_create(const struct mirror_words *words, struct mirror_plan **plan)
{
    uint32_t count = words->candidate.endpoint_count + words->primary.endpoint_count;
    CHECK(words->add_count <= MIRROR_EDITS_MAX && words->strip_count <= MIRROR_EDITS_MAX);
    size_t endpoints = count * sizeof(struct mirror_endpoint);
    struct mirror_plan *made = heap_alloc(1, sizeof *made + endpoints + text_bytes(words));
    if (made == NULL)
        return STATUS_NO_MEMORY;
    struct mirror_endpoint *endpoint = (struct mirror_endpoint *)(made + 1);
    char *text = (char *)endpoint + endpoints;
    made->holds = 1;
    made->words = *words;
    mirror_run_share(words->run);
    keep_target(&made->words.candidate, &endpoint, &text);
    keep_target(&made->words.primary, &endpoint, &text);
    made->words.host = keep(&text, words->host);
    made->words.path = keep(&text, words->path);
    keep_headers(made, &text);
    made->words.add = made->add;
    made->words.strip = made->strip;
    *plan = made;
    return STATUS_OK;
}

struct mirror_plan *mirror_plan_share(struct mirror_plan *plan)
{
    atomic_fetch_add_explicit(&plan->holds, 1, memory_order_relaxed);
    return plan;
}

void mirror_plan_release(struct mirror_plan *plan)
{
    if (plan == NULL || atomic_fetch_sub_explicit(&plan->holds, 1, memory_order_acq_rel) != 1)
        return;
    tls_client_destroy(plan->words.candidate.client);
    tls_client_destroy(plan->words.primary.client);
    mirror_run_release(plan->words.run);
    heap_free(plan);
}

uint32_t mirror_plan_part(const struct mirror_plan *plan)
{
    return plan->words.share;
}

static bool is_safe(uint8_t method)
{
    return method == HTTP_METHOD_GET || method == HTTP_METHOD_HEAD || method == HTTP_METHOD_OPTIONS;
}

enum mirror_drop mirror_plan_refuses(const struct mirror_plan *plan, const struct http_request *request)
{
    const struct http_fields *fields = &request->fields;
    if (!plan->words.unsafe && !is_safe(request->method_id))
        return MIRROR_DROP_UNSAFE;
    if (request->upgrade.len > 0)
        return MIRROR_DROP_UPGRADE;
    if ((fields->present >> HTTP_FIELD_X_SLUICE & 1) != 0 &&
        http_fields_find_name(fields, SLICE("x-sluice-shadow")) != NULL)
        return MIRROR_DROP_SHADOW;
    bool large = request->framing == HTTP_FRAMING_LENGTH && request->content_length > plan->words.body_bytes;
    return large ? MIRROR_DROP_TOO_LARGE : MIRROR_DROPS;
}
