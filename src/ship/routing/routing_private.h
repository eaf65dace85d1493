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
    ROUTING_RATE_TICKS = 50,   // window of the rates shown: 5 s
    ROUTING_BUCKETS = 4096,    // that endpoint slots are found by
    ROUTING_KEEP_TICKS = 6000, // a version that left the file is shown for 10 min, if nobody needs its slot
};

// By what a slot is held.
struct routing_hold {
    uint64_t table;     // the newest one that was published with it
    uint64_t build;     // the newest one that it was planned for
    uint64_t left_tick; // of the first table without it
};

struct routing_slot {
    struct routing_hold hold;
    uint64_t given;              // the build that gave it to its name
    uint16_t service;            // of a version: the slot of its service; else PROXY_SLOT_NONE
    char name[PROXY_NAME_BYTES]; // empty: nobody's
};

// All of services, or of versions.
struct routing_slots {
    struct routing_slot *items; // [max]
    uint32_t count, max;
    // Whether every worker has left it, and no request counts into it any more.
    bool (*is_over)(const struct routing *routing, uint32_t place, uint64_t acknowledged);
    void (*forget)(struct routing *routing, uint32_t place);
};

struct routing_endpoint_slot {
    struct routing_hold hold;
    uint16_t version;
    uint16_t next; // of the same bucket; PROXY_SLOT_NONE: the last one
    char address[IO_ADDR_TEXT_BYTES];
    struct io_addr addr;
};

struct routing_service {
    uint32_t ring[ROUTING_RATE_TICKS];
    uint64_t sum;
    uint64_t requests_before;
    uint64_t requests_forgotten; // of versions that left
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
    bool table_dirty;        // a publish failed: try again each tick
    bool names_moved;        // addresses came or left: a table is due
    struct names *names;     // NULL: no file had a name yet
    uint64_t names_left_out; // addresses that found no room in the newest table
    struct proxy_tls *tls;   // of secure listeners; NULL: there are none
    struct tls_tickets *tickets;
    struct tls_counts tls_counts;
    uint64_t tls_seen; // what their files looked like
    uint32_t listener_count;
    char listeners[CONFIG_LISTEN_MAX][NAMES_TEXT_BYTES]; // as the file of the start words them
    bool ack_awaited;
    uint64_t published_us;
    uint64_t builds;
    uint64_t ticks;
    uint32_t rate_at;
    struct routing_slots service_slots;
    struct routing_slots version_slots;
    uint64_t forgotten_4xx, forgotten_5xx;        // answers of our own for versions that are forgotten
    struct routing_endpoint_slot *endpoint_slots; // [PROXY_ENDPOINTS_MAX]
    uint32_t endpoint_slot_count;
    uint32_t endpoint_slot_at;                  // where the search for one to give again goes on
    uint16_t endpoint_buckets[ROUTING_BUCKETS]; // the first of each; PROXY_SLOT_NONE
    struct routing_service *services;           // [PROXY_SERVICES_MAX]
    struct rollout_span_delta *unused;          // [ROUTING_UNUSED_SPANS]: what is drained
    struct stats_histogram *histogram;          // scratch
};

enum { ROUTING_UNUSED_SPANS = 1024 };

// ---- slots.c: PROXY_SLOT_NONE: none of that name, or none left to give
MUST_USE enum status routing_slots_init(struct routing *routing); // NO_MEMORY
void routing_slots_deinit(struct routing *routing);
// Given for the table that is being made; one that was left goes to another name when every worker has taken
// up a table without it and its last request is over, the one that was left first before others.
uint16_t routing_service_slot(const struct routing *routing, const char *service);
uint16_t routing_service_slot_give(struct routing *routing, const char *service);
uint16_t routing_version_slot_give(struct routing *routing, uint16_t service, const char *version);
// *again: it was given for that table already.
uint16_t routing_endpoint_slot_give(struct routing *routing, uint16_t version, const struct io_addr *addr,
                                    bool *again);
// The table that was made is in force as this version.
void routing_slots_published(struct routing *routing, uint64_t table);
void routing_slots_tick(struct routing *routing); // forgets what left long ago

// ---- traffic.c
// At most so many, in steps of 32.
void routing_events_tell(struct routing *routing, uint32_t most);

// ---- names.c
// Follows the names of this file; at the start waits a moment for their first answers.
MUST_USE enum status routing_names_follow(struct routing *routing, const struct config *config,
                                          struct fault *fault);
// Takes what is known by now and tells what changed.
void routing_names_take(struct routing *routing);
void routing_names_metrics(const struct routing *routing, struct metrics_writer *writer);

// ---- tls.c
// Reads the certificates of this file; those in force stay when they cannot be used, but at the start.
MUST_USE enum status routing_tls_load(struct routing *routing, const struct config *config,
                                      struct fault *fault);
// A bit for each listener without TLS that is to speak no HTTP/2.
uint32_t routing_listen_http1(const struct routing *routing);
void routing_tls_tick(struct routing *routing); // takes files that have changed
void routing_tls_deinit(struct routing *routing);
void routing_tls_metrics(const struct routing *routing, struct metrics_writer *writer);

// ---- compression.c
// types: storage for as many as the file names.
struct compress_settings routing_compression_of(const struct config_compression *from, struct slice *types);
void routing_compression_metrics(const struct routing *routing, struct metrics_writer *writer);

// ---- routes.c
// The routes of a file, as long as it is there.
struct routing_routes {
    struct proxy_route_plan *routes;
    struct proxy_action_plan *actions;
    struct proxy_redirect_plan *redirects;
    struct proxy_answer_plan *answers;
    struct proxy_condition_plan *conditions;
    struct proxy_edit_plan *edits;
    const char **methods;
    struct slice *types;
    uint32_t route_count, action_count, condition_count, edit_count, method_count, type_count;
};
// To be freed also when memory ran out.
MUST_USE enum status routing_routes_plan(const struct config *config, struct routing_routes *routes);
void routing_routes_free(struct routing_routes *routes);
// A bit for each listener that redirects to https.
uint32_t routing_https_listeners(const struct routing *routing);

// ---- table.c
MUST_USE enum status routing_table_make(struct routing *routing, struct proxy_table **table,
                                        struct fault *fault);
