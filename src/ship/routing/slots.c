// SPDX-License-Identifier: Apache-2.0
// Slots are given out once per name, so that counters and pools outlive every change. Only those of endpoints
// are given again, when no worker can have a table with the old one any more.
#include <stdio.h>
#include <string.h>

#include "base/siphash.h"
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

static uint16_t *endpoint_bucket(struct routing *routing, uint16_t version, const struct io_addr *addr)
{
    static const struct siphash_key KEY = {1, 2};
    return &routing->endpoint_buckets[(siphash(KEY, addr->bytes, addr->len) + version) % ROUTING_BUCKETS];
}

// A fresh one, or one that every worker has left behind. The search goes round, so that one that was left
// just now is given last: what is still told of it has then been told.
static uint16_t endpoint_slot_free(struct routing *routing)
{
    if (routing->endpoint_slot_count < PROXY_ENDPOINTS_MAX)
        return (uint16_t)routing->endpoint_slot_count++;
    uint64_t acknowledged = proxy_acknowledged(routing->proxy);
    for (uint32_t i = 0; i < PROXY_ENDPOINTS_MAX; i++) {
        uint16_t place = (uint16_t)(routing->endpoint_slot_at++ % PROXY_ENDPOINTS_MAX);
        const struct routing_endpoint_slot *slot = &routing->endpoint_slots[place];
        if (slot->build == routing->builds || slot->table >= acknowledged)
            continue;
        uint16_t *link = endpoint_bucket(routing, slot->version, &slot->addr);
        while (*link != place)
            link = &routing->endpoint_slots[*link].next;
        *link = slot->next;
        return place;
    }
    return PROXY_SLOT_NONE;
}

uint16_t routing_endpoint_slot_give(struct routing *routing, uint16_t version, const struct io_addr *addr,
                                    bool *again)
{
    uint16_t *bucket = endpoint_bucket(routing, version, addr);
    for (uint16_t place = *bucket; place != PROXY_SLOT_NONE; place = routing->endpoint_slots[place].next) {
        struct routing_endpoint_slot *slot = &routing->endpoint_slots[place];
        if (slot->version != version || slot->addr.len != addr->len ||
            memcmp(slot->addr.bytes, addr->bytes, addr->len) != 0)
            continue;
        *again = slot->build == routing->builds;
        slot->build = routing->builds;
        return place;
    }
    uint16_t place = endpoint_slot_free(routing);
    *again = false;
    if (place == PROXY_SLOT_NONE)
        return place;
    struct routing_endpoint_slot *fresh = &routing->endpoint_slots[place];
    *fresh = (struct routing_endpoint_slot){
        .version = version, .build = routing->builds, .next = *bucket, .addr = *addr};
    io_addr_format(addr, fresh->address);
    proxy_endpoint_begin(routing->proxy, place, io_loop_clock_us(routing->parts.loop));
    *bucket = place;
    return place;
}

void routing_slots_published(struct routing *routing, uint64_t table)
{
    for (uint32_t i = 0; i < routing->endpoint_slot_count; i++)
        if (routing->endpoint_slots[i].build == routing->builds)
            routing->endpoint_slots[i].table = table;
}
