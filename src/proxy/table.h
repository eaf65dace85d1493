// SPDX-License-Identifier: Apache-2.0
// The routing table: everything a worker needs to know about where a request goes, immutable once built.
// Control builds one from a plan and publishes it; workers read it through one pointer and never hold on to
// it across two turns of their loop, so that it can be freed once every worker has acknowledged a newer one.
//
// Slots are small numbers that control gives out and keeps for the life of the process: counters, histograms
// and connection pools hang on them, so that a weight change or a reload moves nothing else.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/siphash.h"
#include "base/slice.h"
#include "base/status.h"
#include "io/loop.h"
#include "rollout/evidence.h"

enum {
    PROXY_SERVICES_MAX = 256,   // service slots
    PROXY_VERSIONS_MAX = 1024,  // version slots
    PROXY_ENDPOINTS_MAX = 4096, // endpoint slots
    PROXY_ROUTES_MAX = 4096,
    PROXY_NETWORKS_MAX = 64,
    PROXY_VERSION_ENDPOINTS_MAX = 512, // of one version
    PROXY_SERVICE_VERSIONS_MAX = 16,   // of one service
    PROXY_NAME_BYTES = 64,             // names, the NUL included
    PROXY_SLOT_NONE = 0xffff,
    PROXY_VERSION_NONE = -1,
};

enum proxy_host_kind {
    PROXY_HOST_ANY,    // every host, also none
    PROXY_HOST_EXACT,  // "shop.example"
    PROXY_HOST_SUFFIX, // "*.shop.example": one or more labels before it
};

enum proxy_unit_kind {
    PROXY_UNIT_REQUEST, // each request on its own
    PROXY_UNIT_HEADER,  // value of a named field
    PROXY_UNIT_COOKIE,  // value of a named cookie
    PROXY_UNIT_ADDRESS, // the client's address, as far as trusted hops let it be believed
    PROXY_UNIT_STICKY,  // a signed cookie of our own, set on the first answer
};

// ---- the plan: what control fills in. All pointers are borrowed for the call to proxy_table_build only.
// ----

struct proxy_endpoint_plan {
    uint16_t slot; // stable for one address within one version
    struct io_addr addr;
    uint32_t connections_max; // per worker, 0: PROXY_CONNECTIONS_DEFAULT
};

struct proxy_version_plan {
    uint16_t slot; // index of its counters and histogram
    const char *name;
    const struct proxy_endpoint_plan *endpoints;
    uint32_t endpoint_count;
};

struct proxy_timeouts {
    uint32_t connect_ms;    // 2 s
    uint32_t first_byte_ms; // from the request's last byte sent on (or its head, if the body stalls) to an
                            // answer: 15 s
    uint32_t idle_ms;       // without a byte of the response, or of the request from the client: 30 s
    uint32_t total_ms;      // from routing to the last byte; 0: off
    uint32_t tunnel_ms;     // an upgraded connection without a byte either way: 1 h
    uint32_t
        pool_idle_ms; // an unused upstream connection is closed after it: 30 s, below the origin's own limit
};

struct proxy_retry {
    bool off;
    uint32_t attempts_max;   // in all, 0: PROXY_ATTEMPTS_DEFAULT
    uint32_t budget_percent; // of the worker's active requests of this service, 0: 20
    uint32_t budget_min;     // 0: 3
};

struct proxy_service_plan {
    uint16_t slot; // index of its span sheet
    const char *name;
    const struct proxy_version_plan *versions;
    uint32_t version_count;
    // Indices into versions; PROXY_VERSION_NONE where there is none. The control arm is a version of its own
    // slot whose endpoints run the stable code, freshly started.
    int32_t stable;
    int32_t canary;
    int32_t control;
    uint32_t weight; // the canary's share, 0..ROLLOUT_WEIGHT_FULL
    uint32_t
        weight_control; // 0 without a control arm; clipped to what the canary and the stable version leave
    uint64_t epoch;     // grows with every rollout of this service and with its rollback
    struct siphash_key salt; // of assignment; constant over the rollout, or users would move
    enum proxy_unit_kind unit;
    const char *unit_name; // field or cookie name for HEADER, COOKIE; cookie name for STICKY (NULL: "sluice")
    struct siphash_key cookie_key; // signs STICKY cookies
    // Evidence. Zero edges count nothing.
    struct rollout_edges edges;
    uint64_t edge_margin_us[ROLLOUT_EDGES]; // margin times edge k
    uint64_t edge_slack_us;                 // the canary is slow only this long past an edge
    uint32_t deadline_ms;           // a response is good only within it; spans are kept that long. 0: 30 s
    uint32_t error_window_ms;       // a unit's second error within it is no event; 0: within the epoch
    struct proxy_timeouts timeouts; // zero members (but total_ms): the defaults above
    struct proxy_retry retry;
    uint64_t body_bytes_max; // larger request bodies get 413; 0: no limit
};

struct proxy_route_plan {
    const char *host; // NULL or "*": any; "*.name": suffix; else exact. ASCII case does not matter
    const char *path; // prefix on a segment boundary: "/a" holds "/a" and "/a/b", not "/ab". NULL or "/": all
    uint32_t service; // index into services
};

// An operator's network, e.g. 10.0.0.0/8 or fd00::/8. IPv4 addresses are also found in mapped form.
struct proxy_network {
    uint8_t bytes[16]; // the first 4 for IPv4
    uint8_t bits;
    bool ipv6;
};
// "10.0.0.0/8", "::1", "unix" is not a network. STATUS_INVALID when malformed or when bits below the prefix
// are set.
MUST_USE enum status proxy_network_parse(const char *text, struct proxy_network *network);

struct proxy_table_plan {
    uint64_t version; // grows with every table
    const struct proxy_service_plan *services;
    uint32_t service_count;
    const struct proxy_route_plan *routes;
    uint32_t route_count;
    const struct proxy_network *operators; // X-Sluice-Version is honoured from these peers only
    uint32_t operator_count;
    uint32_t trusted_hops;   // proxies before us whose X-Forwarded-For entries are believed
    uint32_t client_head_ms; // from the first byte of a head to its end; 0: 10 s
    uint32_t client_idle_ms; // keep-alive without a request; 0: 60 s
    const char *via;         // our pseudonym in Via; NULL: "sluice", "": none
};

enum {
    PROXY_CONNECTIONS_DEFAULT = 1024,
    PROXY_ATTEMPTS_DEFAULT = 3,
};

// ---- the table ----

struct proxy_table; // read through proxy_private.h by the workers

// Compiles a plan into one allocation. STATUS_INVALID with a constant sentence in *why (names twice, slots
// out of range or used twice, arms out of range, a route to no service), STATUS_FULL over a limit above,
// NO_MEMORY.
MUST_USE enum status proxy_table_build(const struct proxy_table_plan *plan, struct proxy_table **table,
                                       const char **why);
void proxy_table_destroy(struct proxy_table *table);
uint64_t proxy_table_version(const struct proxy_table *table);

// The service slot a request for host (lower or upper case, no port) and path goes to, or PROXY_SLOT_NONE.
// The most specific host that has a matching path wins (exact, longest suffix, any); within it the longest
// path.
uint16_t proxy_table_route(const struct proxy_table *table, struct slice host, struct slice path);
