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
    enum breaker_phase told;     // of a version: what the log says
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
    bool told_ejected; // the log says so
};

struct routing_service {
    uint32_t ring[ROUTING_RATE_TICKS];
    uint64_t sum;
    uint64_t requests_before;
    uint64_t requests_forgotten; // of versions that left
    uint64_t losses_told;
    bool gathered;   // in this tick
    uint16_t stable; // slot of the version that is stable by the newest table
    // Of the mirror that the file asks for.
    struct mirror_run *mirror; // what it counts; NULL: there never was one
    uint64_t mirror_number;    // of the comparing that goes on; 0: none
    char mirror_primary[PROXY_NAME_BYTES], mirror_candidate[PROXY_NAME_BYTES]; // which it compares
    uint64_t mirror_for;     // the run in the shadow that asked for it; 0: the file's mirror
    uint64_t mirror_errors;  // stands for what it counts as errors
    uint64_t mirror_dropped; // as told last
};

struct routing {
    struct routing_parts parts;
    struct proxy *proxy;
    const struct config *config; // in force
    struct routing_state state;
    struct io_timer ack_timer;
    bool table_dirty;                   // a publish failed: try again each tick
    bool names_moved;                   // addresses of names or lists came or left: a table is due
    struct names *names;                // NULL: no file had a name yet
    uint64_t names_left_out;            // addresses that found no room in the newest table
    struct routing_override *overrides; // by operators; the lists are on the heap
    uint32_t override_count;
    struct routing_lists
        *lists;            // files with endpoints, and what operators gave; NULL: nothing was published yet
    struct health *checks; // active ones; NULL: no file asked for any yet
    bool protects;         // a service of the newest table is protected
    struct proxy_tls *tls; // of secure listeners and versions; NULL: there are none
    struct tls_tickets *tickets;
    struct tls_counts tls_counts;    // of listeners
    struct tls_counts origin_counts; // of versions
    uint64_t tls_seen;               // what their files looked like
    uint32_t listener_count;
    char listeners[CONFIG_LISTEN_MAX][NAMES_TEXT_BYTES]; // as the file of the start words them
    bool ack_awaited;
    uint64_t published_us;
    uint64_t builds;
    uint64_t mirror_runs; // that began
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

enum { ROUTING_UNUSED_SPANS = 1024, ROUTING_LIST_PROBLEM_BYTES = 512 };

// Comparings for mirrors that the file asks for have numbers above it, those of rollouts below.
#define ROUTING_MIRROR_RUNS (1ULL << 62)

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

// ---- lists.c
// Reads the lists of this file, one after the other; what is wrong with one is told, and its last good
// endpoints stay. NO_MEMORY.
MUST_USE enum status routing_lists_read(struct routing *routing, const struct config *config,
                                        struct routing_lists **made);
void routing_lists_free(struct routing_lists *lists); // NULL is allowed
// Reads them again for the file in force, and publishes. NO_MEMORY: nothing has changed.
MUST_USE enum status routing_lists_renew(struct routing *routing, struct fault *fault);
// Whether the list would be good for the version: INVALID, FULL, NO_MEMORY.
MUST_USE enum status routing_lists_try(const struct routing *routing, const struct config_version *version,
                                       struct slice list, struct fault *fault);
void routing_lists_tick(struct routing *routing); // takes files that have changed
void routing_lists_metrics(const struct routing *routing, struct metrics_writer *writer);

// ---- overrides.c
void routing_overrides_free(struct routing *routing);

// ---- health.c
// What protects the service's endpoints; NULL: nothing. *storage is for what is told.
const struct proxy_protection *routing_protection(const struct config_service *service,
                                                  struct proxy_protection *storage);
// Checks the endpoints of these services, which are the file's in order, and no others.
MUST_USE enum status routing_health_follow(struct routing *routing, const struct proxy_service_plan *plans);
void routing_health_tick(struct routing *routing); // tells what was ejected or opened
void routing_health_deinit(struct routing *routing);
void routing_health_metrics(const struct routing *routing, struct metrics_writer *writer);

// ---- tls.c
// The listener of the file at that address; NULL when the file has it no more.
const struct config_listener *routing_listener(const struct config *config, const char *address);
// Reads the certificates of this file; those in force stay when they cannot be used, but at the start.
MUST_USE enum status routing_tls_load(struct routing *routing, const struct config *config,
                                      struct fault *fault);
// A bit for each listener without TLS that is to speak no HTTP/2.
uint32_t routing_listen_http1(const struct routing *routing);
// Adds to a sum how a file looks; an empty path is none.
uint64_t routing_file_mark(uint64_t sum, const char *path);
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

// ---- origins.c
struct routing_origins;
// Each way in which the file's versions are spoken to, once. NO_MEMORY.
MUST_USE enum status routing_origins_gather(const struct config *config, struct routing_origins **made);
void routing_origins_free(struct routing_origins *origins); // NULL is allowed
const struct proxy_origin_plan *routing_origins_plans(const struct routing_origins *origins, uint32_t *count);
uint64_t routing_origins_mark(const struct routing_origins *origins); // how their files look
MUST_USE enum status routing_origins_check(const struct routing_origins *origins, struct fault *fault);
// Leaves those out that cannot be used, and says so.
void routing_origins_keep_usable(const struct routing *routing, struct routing_origins *origins);
// Alike for words that are alike, but for the name that is asked for.
uint64_t routing_origin_key(const struct config_origin *origin);

// ---- mirror.c
// The service's mirror compares no more.
void routing_mirror_end(struct routing *routing, uint16_t service);
// Gives the service's plan, whose versions are complete, what its mirror wants; to be released by the caller.
// A failure is logged, and nothing is mirrored.
void routing_mirror_plan(struct routing *routing, const struct config_service *service,
                         struct proxy_service_plan *plan);
void routing_mirror_metrics(const struct routing *routing, struct metrics_writer *writer);

// ---- identity.c
// What a table plan borrows.
struct routing_identity {
    struct proxy_network operators[PROXY_NETWORKS_MAX], proxies[PROXY_NETWORKS_MAX];
    struct proxy_certificate_plan certificates[PROXY_CERTIFICATES_MAX];
    uint32_t certificate_count;
    struct proxy_header_peers *header_peers; // [PROXY_HEADER_PEERS_MAX]
    uint32_t header_peer_count;
};
// To be freed also when memory ran out.
MUST_USE enum status routing_identity_plan(const struct routing *routing, struct routing_identity *identity,
                                           struct proxy_table_plan *plan);
void routing_identity_free(struct routing_identity *identity);

// ---- table.c
MUST_USE enum status routing_table_make(struct routing *routing, struct proxy_table **table,
                                        struct fault *fault);
