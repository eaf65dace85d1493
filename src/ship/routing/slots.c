// SPDX-License-Identifier: Apache-2.0
// A slot is its name's as long as a table has it, and after that until another name needs it: so counters and
// pools outlive every change and a short absence. It is given again when no worker can have a table with it
// any more, and no request counts into it. Runs speak of versions by name, and a file must keep those of a
// run under way.
#include <stdio.h>
#include <string.h>

#include "base/heap.h"
#include "base/siphash.h"
#include "ship/routing/routing_private.h"

// Whether every worker has taken up a table without it, and the one that is being made does not need it.
static bool is_left(const struct routing *routing, const struct routing_hold *hold, uint64_t acknowledged)
{
    return hold->build != routing->builds && hold->table < acknowledged;
}

// ---- names ----

static uint16_t slot_find(const struct routing_slots *slots, uint16_t service, const char *name)
{
    for (uint32_t i = 0; i < slots->count; i++)
        if (slots->items[i].service == service && strcmp(slots->items[i].name, name) == 0)
            return (uint16_t)i;
    return PROXY_SLOT_NONE;
}

// A fresh one, or the one that was left first.
static uint16_t slot_free(struct routing *routing, struct routing_slots *slots)
{
    if (slots->count < slots->max)
        return (uint16_t)slots->count++;
    uint64_t acknowledged = proxy_acknowledged(routing->proxy);
    uint64_t first = UINT64_MAX;
    uint16_t place = PROXY_SLOT_NONE;
    for (uint32_t i = 0; i < slots->max; i++) {
        uint64_t table = slots->items[i].hold.table;
        if (table >= first || !slots->is_over(routing, i, acknowledged))
            continue;
        first = table;
        place = (uint16_t)i;
    }
    if (place != PROXY_SLOT_NONE)
        slots->forget(routing, place);
    return place;
}

static uint16_t slot_give(struct routing *routing, struct routing_slots *slots, uint16_t service,
                          const char *name)
{
    uint16_t place = slot_find(slots, service, name);
    bool fresh = place == PROXY_SLOT_NONE;
    if (fresh)
        place = slot_free(routing, slots);
    if (place == PROXY_SLOT_NONE)
        return place;
    struct routing_slot *slot = &slots->items[place];
    if (fresh) {
        slot->given = routing->builds;
        slot->service = service;
        snprintf(slot->name, sizeof slot->name, "%s", name);
    }
    slot->hold.build = routing->builds;
    return place;
}

uint16_t routing_service_slot(const struct routing *routing, const char *service)
{
    return slot_find(&routing->service_slots, PROXY_SLOT_NONE, service);
}

uint16_t routing_version_slot(const struct routing *routing, const char *service, const char *version)
{
    uint16_t slot = routing_service_slot(routing, service);
    return slot == PROXY_SLOT_NONE ? slot : slot_find(&routing->version_slots, slot, version);
}

uint64_t routing_version_given(const struct routing *routing, uint16_t slot)
{
    return routing->version_slots.items[slot].given;
}

uint16_t routing_service_slot_give(struct routing *routing, const char *service)
{
    return slot_give(routing, &routing->service_slots, PROXY_SLOT_NONE, service);
}

uint16_t routing_version_slot_give(struct routing *routing, uint16_t service, const char *version)
{
    return slot_give(routing, &routing->version_slots, service, version);
}

// ---- what is over ----

static bool version_is_over(const struct routing *routing, uint32_t place, uint64_t acknowledged)
{
    return is_left(routing, &routing->version_slots.items[place].hold, acknowledged) &&
           proxy_version_over(routing->proxy, (uint16_t)place);
}

// Sums that have its counts keep them.
static void version_forget(struct routing *routing, uint32_t place)
{
    struct routing_slot *slot = &routing->version_slots.items[place];
    if (slot->name[0] == '\0')
        return;
    uint64_t counts[PROXY_VERSION_COUNTERS];
    proxy_version_counts(routing->proxy, (uint16_t)place, counts);
    routing->services[slot->service].requests_forgotten += counts[PROXY_VERSION_REQUESTS];
    routing->forgotten_4xx += counts[PROXY_VERSION_LOCAL_4XX];
    routing->forgotten_5xx += counts[PROXY_VERSION_LOCAL_5XX];
    // All that are there, while it has its name.
    routing_events_tell(routing, proxy_worker_count(routing->proxy) * PROXY_EVENTS);
    proxy_version_forget(routing->proxy, (uint16_t)place);
    *slot = (struct routing_slot){.service = PROXY_SLOT_NONE};
}

// Every request of a service is one of a version.
static bool service_is_over(const struct routing *routing, uint32_t place, uint64_t acknowledged)
{
    const struct routing_slots *versions = &routing->version_slots;
    if (!is_left(routing, &routing->service_slots.items[place].hold, acknowledged))
        return false;
    for (uint32_t i = 0; i < versions->count; i++)
        if (versions->items[i].service == place && !version_is_over(routing, i, acknowledged))
            return false;
    return true;
}

static void service_forget(struct routing *routing, uint32_t place)
{
    for (uint32_t i = 0; i < routing->version_slots.count; i++)
        if (routing->version_slots.items[i].service == place)
            version_forget(routing, i);
    proxy_service_forget(routing->proxy, (uint16_t)place);
    routing_mirror_end(routing, (uint16_t)place);
    mirror_run_release(routing->services[place].mirror);
    routing->services[place] = (struct routing_service){.sum = 0};
    routing->service_slots.items[place] = (struct routing_slot){.service = PROXY_SLOT_NONE};
}

static void forget_old(struct routing *routing, struct routing_slots *slots)
{
    uint64_t acknowledged = proxy_acknowledged(routing->proxy);
    for (uint32_t i = 0; i < slots->count; i++) {
        const struct routing_slot *slot = &slots->items[i];
        bool old = routing->ticks - slot->hold.left_tick >= ROUTING_KEEP_TICKS;
        if (slot->name[0] != '\0' && old && slots->is_over(routing, i, acknowledged))
            slots->forget(routing, i);
    }
}

void routing_slots_tick(struct routing *routing)
{
    forget_old(routing, &routing->service_slots);
    forget_old(routing, &routing->version_slots);
}

enum status routing_slots_init(struct routing *routing)
{
    routing->service_slots =
        (struct routing_slots){.items = heap_alloc(PROXY_SERVICES_MAX, sizeof(struct routing_slot)),
                               .max = PROXY_SERVICES_MAX,
                               .is_over = service_is_over,
                               .forget = service_forget};
    routing->version_slots =
        (struct routing_slots){.items = heap_alloc(PROXY_VERSIONS_MAX, sizeof(struct routing_slot)),
                               .max = PROXY_VERSIONS_MAX,
                               .is_over = version_is_over,
                               .forget = version_forget};
    routing->endpoint_slots = heap_alloc(PROXY_ENDPOINTS_MAX, sizeof *routing->endpoint_slots);
    memset(routing->endpoint_buckets, 0xff, sizeof routing->endpoint_buckets); // PROXY_SLOT_NONE
    bool whole = routing->service_slots.items != NULL && routing->version_slots.items != NULL &&
                 routing->endpoint_slots != NULL;
    return whole ? STATUS_OK : STATUS_NO_MEMORY;
}

void routing_slots_deinit(struct routing *routing)
{
    heap_free(routing->service_slots.items);
    heap_free(routing->version_slots.items);
    heap_free(routing->endpoint_slots);
}

// ---- endpoints ----

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
        if (!is_left(routing, &slot->hold, acknowledged))
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
        *again = slot->hold.build == routing->builds;
        slot->hold.build = routing->builds;
        return place;
    }
    uint16_t place = endpoint_slot_free(routing);
    *again = false;
    if (place == PROXY_SLOT_NONE)
        return place;
    struct routing_endpoint_slot *fresh = &routing->endpoint_slots[place];
    *fresh = (struct routing_endpoint_slot){
        .version = version, .hold.build = routing->builds, .next = *bucket, .addr = *addr};
    io_addr_format(addr, fresh->address);
    proxy_endpoint_begin(routing->proxy, place, io_loop_clock_us(routing->parts.loop));
    *bucket = place;
    return place;
}

// ---- tables ----

static void hold_published(const struct routing *routing, struct routing_hold *hold, uint64_t table)
{
    if (hold->build == routing->builds)
        hold->table = table;
    else if (hold->table + 1 == table)
        hold->left_tick = routing->ticks;
}

void routing_slots_published(struct routing *routing, uint64_t table)
{
    for (uint32_t i = 0; i < routing->service_slots.count; i++)
        hold_published(routing, &routing->service_slots.items[i].hold, table);
    for (uint32_t i = 0; i < routing->version_slots.count; i++)
        hold_published(routing, &routing->version_slots.items[i].hold, table);
    for (uint32_t i = 0; i < routing->endpoint_slot_count; i++)
        hold_published(routing, &routing->endpoint_slots[i].hold, table);
}
