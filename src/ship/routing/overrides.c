// SPDX-License-Identifier: Apache-2.0
// Endpoints that operators gave versions at runtime. They are folded from the journal, hold over what the
// file says, and wait for versions that the file does not have just now.
#include <stdio.h>
#include <string.h>

#include "base/heap.h"
#include "ship/routing/routing_private.h"

enum { FORM = 1, OVERRIDES_MAX = CONFIG_ALL_VERSIONS_MAX };

static struct routing_override *find(const struct routing *routing, const char *service, const char *version)
{
    for (uint32_t i = 0; i < routing->override_count; i++)
        if (strcmp(routing->overrides[i].service, service) == 0 &&
            strcmp(routing->overrides[i].version, version) == 0)
            return &routing->overrides[i];
    return NULL;
}

const struct routing_override *routing_override_find(const struct routing *routing, const char *service,
                                                     const char *version)
{
    return find(routing, service, version);
}

static void list_free(const struct routing_override *override)
{
    heap_free((void *)(uintptr_t) override->list.data);
}

void routing_overrides_free(struct routing *routing)
{
    for (uint32_t i = 0; i < routing->override_count; i++)
        list_free(&routing->overrides[i]);
    heap_free(routing->overrides);
}

// ---- the journal ----

void routing_override_encode(const struct routing_override *change, struct wire_writer *writer)
{
    wire_put_u64(writer, FORM);
    wire_put_bytes(writer, slice_of(change->service));
    wire_put_bytes(writer, slice_of(change->version));
    wire_put_bytes(writer, slice_of(change->who));
    wire_put_bytes(writer, change->list);
}

static enum status decode(struct slice payload, struct routing_override *change)
{
    struct wire_reader reader = {.data = (const uint8_t *)payload.data, .len = payload.len};
    uint64_t form = wire_get_u64(&reader);
    if (!reader.bad && form > FORM)
        return STATUS_UNSUPPORTED;
    wire_get_string(&reader, change->service, sizeof change->service);
    wire_get_string(&reader, change->version, sizeof change->version);
    wire_get_string(&reader, change->who, sizeof change->who);
    change->list = wire_get_bytes(&reader);
    return wire_done(&reader) && form == FORM && change->service[0] != '\0' ? STATUS_OK : STATUS_CORRUPT;
}

enum status routing_override_readable(struct slice payload)
{
    struct routing_override change;
    return decode(payload, &change);
}

static void take_back(struct routing *routing, struct routing_override *override)
{
    list_free(override);
    *override = routing->overrides[--routing->override_count];
}

static struct routing_override *find_or_make(struct routing *routing, const struct routing_override *change)
{
    struct routing_override *override = find(routing, change->service, change->version);
    if (override == NULL && routing->overrides == NULL)
        routing->overrides = heap_alloc(OVERRIDES_MAX, sizeof *routing->overrides);
    if (override == NULL && routing->overrides != NULL && routing->override_count < OVERRIDES_MAX)
        override = &routing->overrides[routing->override_count++];
    return override;
}

enum status routing_override_fold(struct routing *routing, int64_t time_ms, struct slice payload)
{
    struct routing_override change;
    enum status status = decode(payload, &change);
    struct routing_override *override =
        status == STATUS_OK ? find(routing, change.service, change.version) : NULL;
    if (status == STATUS_OK && change.list.len == 0) {
        if (override != NULL)
            take_back(routing, override);
        return STATUS_OK;
    }
    char *list = status == STATUS_OK ? heap_alloc(change.list.len, 1) : NULL;
    override = list != NULL ? find_or_make(routing, &change) : NULL;
    if (override == NULL) {
        heap_free(list);
        return status == STATUS_OK ? STATUS_NO_MEMORY : status;
    }
    memcpy(list, change.list.data, change.list.len);
    list_free(override);
    *override = change;
    override->list = (struct slice){list, change.list.len};
    override->time_ms = time_ms;
    return STATUS_OK;
}

// ---- changing ----

enum status routing_override_check(const struct routing *routing, const struct routing_override *change,
                                   struct fault *fault)
{
    const struct config_service *service = config_service_find(routing->config, change->service);
    const struct config_version *version =
        service != NULL ? config_version_find(service, change->version) : NULL;
    const struct routing_override *before = find(routing, change->service, change->version);
    if (change->list.len == 0 && before != NULL)
        return STATUS_OK; // also of a version that the file has no more
    if (version == NULL)
        return fault_set(fault, STATUS_NOT_FOUND,
                         service == NULL ? "there is no service '%s'" : "service '%s' has no version '%s'",
                         change->service, change->version);
    if (change->list.len == 0)
        return fault_set(fault, STATUS_NOT_FOUND, "the endpoints of '%s' are the file's already",
                         change->version);
    if (change->list.len > ROUTING_OVERRIDE_BYTES_MAX)
        return fault_set(fault, STATUS_FULL, "a list may have %d bytes", ROUTING_OVERRIDE_BYTES_MAX);
    if (before == NULL && routing->override_count == OVERRIDES_MAX)
        return fault_set(fault, STATUS_FULL, "the endpoints of %d versions were changed already",
                         OVERRIDES_MAX);
    return routing_lists_try(routing, version, change->list, fault);
}

enum status routing_override_take(struct routing *routing, int64_t time_ms, struct slice payload,
                                  struct fault *fault)
{
    enum status status = routing_override_fold(routing, time_ms, payload);
    if (status != STATUS_OK)
        return fault_set(fault, status, "it is journalled, and in force after a restart: %s",
                         status_name(status));
    return routing_lists_renew(routing, fault);
}
