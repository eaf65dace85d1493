// SPDX-License-Identifier: Apache-2.0
// The routing table: everything a worker needs to know about where a request goes, immutable once built.
// The engine thread builds one from a plan and publishes it; workers read it through one pointer and never
// hold on to it across two turns of their loop, so that it can be freed once every worker has acknowledged a
// newer one.
//
// Slots are small numbers that routing gives out: counters, histograms and connection pools hang on them, so
// that a weight change or a reload moves nothing else. A slot may mean another service, version or endpoint
// once every worker has taken up a table without it; of a version and its service not before the last request
// that was routed to it is over.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/siphash.h"
#include "base/slice.h"
#include "base/status.h"
#include "flags/eval/image.h"
#include "flags/eval/tally.h"
#include "net/io/loop.h"
#include "net/proxy/breaker.h"
#include "net/proxy/secure.h"
#include "ship/rollout/evidence.h"

enum {
    PROXY_SERVICES_MAX = 256,         // service slots
    PROXY_VERSIONS_MAX = 1024,        // version slots
    PROXY_TABLE_ENDPOINTS_MAX = 4096, // of one table
    PROXY_ENDPOINTS_MAX =
        2 * PROXY_TABLE_ENDPOINTS_MAX, // endpoint slots: a table and the one before may share none
    PROXY_ROUTES_MAX = 4096,
    PROXY_NETWORKS_MAX = 64,
    PROXY_VERSION_ENDPOINTS_MAX = 512, // of one version
    PROXY_SERVICE_VERSIONS_MAX = 16,   // of one service
    PROXY_NAME_BYTES = 64,             // names, the NUL included
    PROXY_SLOT_NONE = 0xffff,
    PROXY_VERSION_NONE = -1,
    PROXY_ATTRIBUTES_MAX = 32,          // of one service's evaluation context
    PROXY_FLAG_HEADERS_MAX = 8,         // of one service
    PROXY_HEADER_FLAGS_MAX = 64,        // in all of a service's flag fields together
    PROXY_FLAG_HEADERS_BYTES_MAX = 4096 // of one request: all its flag fields, names included
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

// ---- the plan: what routing fills in. All pointers are borrowed for the call to proxy_table_build only.
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

// ---- protection of endpoints ----

// An endpoint is ejected when so many attempts in a row failed. It comes back by itself; until an answer
// shows that it is well, one failure ejects it again. The n-th ejection in a row lasts n times as long, and a
// row ends when the endpoint has been back for as long as it was last out.
struct proxy_outlier {
    uint32_t consecutive; // 0: none is ejected
    uint32_t ejection_ms;
    uint32_t ejection_ms_max;
    uint32_t at_most; // of the version's endpoints, but one where there are two
};

// All counts are of each version by itself, over all workers. Shares are in thousandths of a percent.
struct proxy_protection {
    uint32_t panic;              // with a smaller share of endpoints in use, all are used; 0: never
    uint32_t slow_start_ms;      // one that is new or back takes its full part only after it; 0: at once
    uint32_t requests_max;       // under way at once; 0: no limit
    struct breaker_rule breaker; // errors 0: it never opens
    struct proxy_outlier outlier;
    bool fallback; // a canary's request that could not be connected is served by the stable version
};

// ---- what counts as an error of a version ----

enum {
    PROXY_STATUS_FIRST = 200, // statuses that a definition may name: from here to 599
    PROXY_STATUS_WORDS = 7,   // of 64 statuses each
    PROXY_ERROR_TEXT_BYTES_MAX = 256,
    PROXY_ERROR_WITHIN_MAX = 1 << 20,
    PROXY_GRPC_CODES = 17,
};
// gRPC's codes that say that the server, not the caller, is at fault, as bits: unknown (an exception),
// deadline exceeded, unimplemented, internal, unavailable and data loss. The others answer what was asked.
#define PROXY_GRPC_SERVER_FAULTS (1u << 2 | 1u << 4 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 15)

struct proxy_status_range {
    uint16_t first, last; // both in it; what is above 599 counts as 599
};

struct proxy_error_header_plan {
    const char *name;  // ASCII case does not matter
    const char *value; // NULL: whatever it is
};

// All of it together: an answer is an error when any of these says so. An attempt without an answer always
// is.
struct proxy_errors_plan {
    const struct proxy_status_range *statuses;
    uint32_t status_count;
    const struct proxy_error_header_plan *headers;
    uint32_t header_count;
    const char *text; // its body has these bytes; NULL: no body is looked at
    uint32_t within;  // bytes of the body that are looked at, at least as many as the text has
    uint32_t grpc;    // bits of gRPC's codes
};

// ---- flags in the path of a service's requests ----
//
// A worker evaluates on its own thread, without a lock and without allocation: the image lies behind the
// table. It builds one evaluation context per request, of slices of the request, and evaluates (and tallies)
// each flag at most once per request. A later attempt of the same request evaluates again by the table then
// in force, and counts nothing again.

enum proxy_attribute_kind {
    PROXY_ATTRIBUTE_HEADER, // the first field of that name
    PROXY_ATTRIBUTE_COOKIE,
    PROXY_ATTRIBUTE_ADDRESS, // the client's, as far as trusted hops let it be believed
    PROXY_ATTRIBUTE_METHOD,
    PROXY_ATTRIBUTE_HOST, // without the port, as sent
    PROXY_ATTRIBUTE_PATH, // without the query, as sent
};

// A member of the evaluation context, always a string. One that the request does not have, or that is not
// well-formed UTF-8, is left out.
struct proxy_attribute_plan {
    const char *name; // of the member; no two alike, not "targetingKey". Ignored in `key`
    enum proxy_attribute_kind kind;
    const char *source; // HEADER, COOKIE: the field's or cookie's name; else ignored
};

// A field of the forwarded request: a dictionary of structured fields (RFC 9651 3.2), `X-Flags: banner=on,
// theme="2 cols"`. A member's key is the flag's. Bytes that such a key may not hold are written as '*' and
// two lower-case hexadecimal digits, so is '*' itself, and so is a first byte that is no lower-case letter:
// "newBanner" is "new*42anner". Its value is the name of the variant: a token, or else a string, or else (not
// printable ASCII) a display string. Flags without a variant (unknown, disabled, in error) are left out, and
// so is what does not fit; a field without members is not sent. What a client sends under the name of the
// field, as a header or as a trailer, '-' and '_' being the same, never goes on.
struct proxy_flag_header_plan {
    const char *name;         // no field that HTTP, or the proxy itself, has a use for
    const char *const *flags; // keys, each once
    uint32_t flag_count;
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
    bool canary_leaves; // it was taken back: what is under way on it ends after that time
    uint32_t canary_leave_ms;
    uint32_t weight; // the canary's share, 0..ROLLOUT_WEIGHT_FULL
    uint32_t
        weight_control; // 0 without a control arm; clipped to what the canary and the stable version leave
    uint64_t epoch;     // grows with every rollout of this service and with its rollback
    struct siphash_key salt; // of assignment; constant over the rollout, or users would move
    enum proxy_unit_kind unit;
    const char *unit_name; // field or cookie name for HEADER, COOKIE; cookie name for STICKY (NULL: "sluice")
    struct siphash_key cookie_key; // signs STICKY cookies
    // Evidence. Zero edges count nothing; spans are kept as long as the deadline, 0: 30 s; an error window of
    // 0: the epoch.
    struct rollout_yardstick yardstick;
    struct proxy_timeouts timeouts; // zero members (but total_ms): the defaults above
    struct proxy_retry retry;
    const struct proxy_protection *protection; // NULL: none
    uint64_t body_bytes_max;                   // larger request bodies get 413; 0: no limit
    const struct proxy_errors_plan *errors;    // NULL: 5xx, and PROXY_GRPC_SERVER_FAULTS
    // Flags. The targeting key; NULL: the service's unit (REQUEST: none; STICKY: the cookie's unit as 16
    // hexadecimal digits, which a new epoch draws anew).
    const struct proxy_attribute_plan *key;
    const struct proxy_attribute_plan *attributes;
    uint32_t attribute_count;
    const struct proxy_flag_header_plan *flag_headers;
    uint32_t flag_header_count;
    // Its variant's name is the version a request goes to, after an operator's wish and before the split.
    // Whom it places was not drawn by lot: counted as PROXY_VERSION_FLAGGED, never evidence of a rollout of
    // versions. Any other variant, or none: the request goes the usual way. NULL: none.
    const char *version_flag;
    // The flag that a rollout of kind flag moves. The arm of a request is where the flag's split puts its
    // targeting key (FROM: stable, TO: canary), units are targeting keys, and `weight` is the split's share
    // and moves no request: each goes where version_flag says, or to `stable`. Requests that the split did
    // not draw (no key, a ring, a target, a kill), and operators' forced ones, are in no arm. `canary` may
    // be PROXY_VERSION_NONE, weight_control must be 0. NULL: none.
    const char *arm_flag;
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

struct proxy_table_plan {
    uint64_t version;      // grows with every table
    struct proxy_tls *tls; // what secure listeners answer with; the table holds it. NULL: nothing
    const struct proxy_service_plan *services;
    uint32_t service_count;
    const struct proxy_route_plan *routes;
    uint32_t route_count;
    const struct proxy_network *operators; // X-Sluice-Version is honoured from these peers only
    uint32_t operator_count;
    uint32_t trusted_hops;     // proxies before us whose X-Forwarded-For entries are believed
    uint32_t client_head_ms;   // from the first byte of a head to its end; 0: 10 s
    uint32_t client_idle_ms;   // keep-alive without a request, and up to an eighth longer; 0: 75 s
    uint32_t drain_ms;         // exchanges with endpoints that the table has no more end after it; 0: 30 s
    uint32_t clients_per_site; // connections of one IPv4 address or IPv6 /64, per worker; 0: no limit
    uint32_t body_rate_min;    // bytes per second that a sending client must reach beyond idle_ms; 0: 500
    const char *via;           // our pseudonym in Via; NULL: "sluice", "": none
    // The flags that services evaluate; schedules and $flagd.timestamp follow the workers' wall clock. NULL:
    // none; then flag fields stay away (forged ones too), and version and arm flags say nothing.
    const struct flags_image *flags; // the view is copied, the image is not: it must live until the release
    struct flags_tally *tallies;     // NULL, or one for each worker of the proxy, alive until the release
    // Called exactly once, on the thread that destroys the table (control's), when no worker can see it any
    // more. NULL: nobody is told. When building fails it is not called: everything stays the caller's. When
    // publishing fails the table is still the caller's, and its destruction calls it.
    void (*flags_release)(void *context);
    void *flags_context;
};

enum {
    PROXY_CONNECTIONS_DEFAULT = 1024,
    PROXY_ATTEMPTS_DEFAULT = 3,
};

// ---- the table ----

struct proxy_table; // read through proxy_private.h by the workers

// Compiles a plan into one allocation. STATUS_INVALID (names twice, slots out of range or used twice, arms
// out of range, a route to no service), STATUS_FULL over a limit above, NO_MEMORY.
MUST_USE enum status proxy_table_build(const struct proxy_table_plan *plan, struct proxy_table **table,
                                       struct fault *fault);
void proxy_table_destroy(struct proxy_table *table);

// The service slot a request for host (lower or upper case, no port) and path goes to, or PROXY_SLOT_NONE.
// The most specific host that has a matching path wins (exact, longest suffix, any); within it the longest
// path. Hosts are compared without a final dot, paths in their one form (http_path_normal).
uint16_t proxy_table_route(const struct proxy_table *table, struct slice host, struct slice path);
