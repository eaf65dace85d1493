// SPDX-License-Identifier: Apache-2.0
// Routing's own storage. routing.c publishes what table.c makes with the slots of slots.c; traffic.c and
// metrics.c read what the proxy counted under them.
#pragma once

#include "ship/rollout/evidence.h"
#include "ship/routing/routing.h"
#include "stats/histogram.h"

enum {
    ROUTING_ACK_CHECK_MS = 1,
    ROUTING_EVENTS_PER_TICK = 256,
    ROUTING_GATHERS_PER_TICK = 8,
    ROUTING_RATE_TICKS = 50, // window of the rates shown: 5 s
};

struct routing_version_slot {
    uint16_t service;
    char name[PROXY_NAME_BYTES];
};

struct routing_endpoint_slot {
    uint16_t version;
    uint64_t table; // the newest one that was made with it
    bool asked;
    bool resolved; // addr is what the name meant when the file was read
    char address[IO_ADDR_TEXT_BYTES];
    struct io_addr addr;
};

struct routing_service {
    uint32_t ring[ROUTING_RATE_TICKS];
    uint64_t sum;
    uint64_t requests_before;
    uint64_t losses_told;
    bool gathered;   // in this tick
    uint16_t stable; // slot of the version that is stable by the newest table
};

struct routing {
    struct routing_parts parts;
    struct proxy *proxy;
    const struct config *config; // in force
    struct routing_health health;
    struct io_timer ack_timer;
    bool table_dirty; // a publish failed: try again each tick
    bool names_fresh; // the file is being read: names are asked for again
    bool ack_awaited;
    uint64_t published_us;
    uint64_t ticks;
    uint32_t rate_at;
    char (*service_slots)[PROXY_NAME_BYTES]; // [PROXY_SERVICES_MAX]
    uint32_t service_slot_count;
    struct routing_version_slot *version_slots; // [PROXY_VERSIONS_MAX]
    uint32_t version_slot_count;
    struct routing_endpoint_slot *endpoint_slots; // [PROXY_ENDPOINTS_MAX]
    uint32_t endpoint_slot_count;
    struct routing_service *services;  // [PROXY_SERVICES_MAX]
    struct rollout_span_delta *unused; // [ROUTING_UNUSED_SPANS]: what is drained
    struct stats_histogram *histogram; // scratch
};

enum { ROUTING_UNUSED_SPANS = 1024 };

// ---- slots.c: PROXY_SLOT_NONE: none of that name, or none left to give
uint16_t routing_service_slot(const struct routing *routing, const char *service);
uint16_t routing_service_slot_give(struct routing *routing, const char *service);
uint16_t routing_version_slot_give(struct routing *routing, uint16_t service, const char *version);
uint16_t routing_endpoint_slot_give(struct routing *routing, uint16_t version, const char *address);

// ---- table.c
MUST_USE enum status routing_table_make(struct routing *routing, struct proxy_table **table,
                                        struct fault *fault);
