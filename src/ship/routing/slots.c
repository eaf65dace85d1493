// SPDX-License-Identifier: Apache-2.0
// Slots are given out once per name, so that counters and pools outlive every change. Only those of endpoints
// are given again, when no worker can have a table with the old one any more.
#include <stdio.h>
#include <string.h>

#include "ship/routing/routing_private.h"

uint16_t routing_service_slot(const struct routing *routing, const char *service)
{
    for (uint32_t i = 0; i < routing->service_slot_count; i++)
        if (strcmp(routing->service_slots[i], service) == 0)
            return (uint16_t)i;
    return PROXY_SLOT_NONE;
}

static uint16_t version_slot_find(const struct routing *routing, uint16_t service, const char *version)
{
    for (uint32_t i = 0; i < routing->version_slot_count; i++) {
        const struct routing_version_slot *slot = &routing->version_slots[i];
        if (slot->service == service && strcmp(slot->name, version) == 0)
            return (uint16_t)i;
    }
    return PROXY_SLOT_NONE;
}

uint16_t routing_version_slot(const struct routing *routing, const char *service, const char *version)
{
    uint16_t slot = routing_service_slot(routing, service);
    return slot == PROXY_SLOT_NONE ? slot : version_slot_find(routing, slot, version);
}

uint16_t routing_service_slot_give(struct routing *routing, const char *service)
{
    uint16_t slot = routing_service_slot(routing, service);
    if (slot != PROXY_SLOT_NONE || routing->service_slot_count == PROXY_SERVICES_MAX)
        return slot;
    snprintf(routing->service_slots[routing->service_slot_count], PROXY_NAME_BYTES, "%s", service);
    return (uint16_t)routing->service_slot_count++;
}

uint16_t routing_version_slot_give(struct routing *routing, uint16_t service, const char *version)
{
    uint16_t slot = version_slot_find(routing, service, version);
    if (slot != PROXY_SLOT_NONE || routing->version_slot_count == PROXY_VERSIONS_MAX)
        return slot;
    struct routing_version_slot *fresh = &routing->version_slots[routing->version_slot_count];
    fresh->service = service;
    snprintf(fresh->name, sizeof fresh->name, "%s", version);
    return (uint16_t)routing->version_slot_count++;
}

// A fresh one, or one that every worker has left behind.
static uint16_t endpoint_slot_free(struct routing *routing)
{
    if (routing->endpoint_slot_count < PROXY_ENDPOINTS_MAX)
        return (uint16_t)routing->endpoint_slot_count++;
    uint64_t acknowledged = proxy_acknowledged(routing->proxy);
    for (uint32_t i = 0; i < routing->endpoint_slot_count; i++)
        if (routing->endpoint_slots[i].table < acknowledged)
            return (uint16_t)i;
    return PROXY_SLOT_NONE;
}

uint16_t routing_endpoint_slot_give(struct routing *routing, uint16_t version, const char *address)
{
    uint64_t table = routing->health.table_version + 1;
    for (uint32_t i = 0; i < routing->endpoint_slot_count; i++) {
        struct routing_endpoint_slot *slot = &routing->endpoint_slots[i];
        if (slot->version != version || strcmp(slot->address, address) != 0)
            continue;
        slot->table = table;
        return (uint16_t)i;
    }
    uint16_t place = endpoint_slot_free(routing);
    if (place == PROXY_SLOT_NONE)
        return place;
    struct routing_endpoint_slot *fresh = &routing->endpoint_slots[place];
    *fresh = (struct routing_endpoint_slot){.version = version, .table = table};
    snprintf(fresh->address, sizeof fresh->address, "%s", address);
    return place;
}
