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
#include "base/text.h"
#include "flags/eval/image.h"
#include "flags/eval/tally.h"
#include "net/compress/compress.h"
#include "net/http/message.h"
#include "net/io/loop.h"
#include "net/mirror/mirror.h"
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
    PROXY_CERTIFICATES_MAX = 64,
    PROXY_HEADER_PEERS_MAX = 16 * PROXY_NETWORKS_MAX,
    PROXY_VERSION_ENDPOINTS_MAX = 512, // of one version
    PROXY_SERVICE_VERSIONS_MAX = 16,   // of one service
    PROXY_WEIGHT_MAX = 1000,           // of one endpoint
    PROXY_NAME_BYTES = 64,             // names, the NUL included
    PROXY_SLOT_NONE = 0xffff,
    PROXY_VERSION_NONE = -1,
    PROXY_METHODS_MAX = 16,             // of one route
    PROXY_CONDITIONS_MAX = 16,          // of one route on headers, and as many on the query
    PROXY_EDITS_MAX = 32,               // of one route on the request's headers, and as many on the answer's
    PROXY_RULE_TEXT_MAX = 1024,         // of one value in a route, the NUL included
    PROXY_BODY_TEXT_MAX = 4097,         // of one fixed body, the NUL included
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

enum proxy_path_kind {
    PROXY_PATH_PREFIX, // on a segment boundary: "/a" holds "/a" and "/a/b", not "/ab"
    PROXY_PATH_EXACT,
    PROXY_PATH_TEMPLATE, // net/http/template.h
};

enum proxy_scheme { PROXY_SCHEME_ANY, PROXY_SCHEME_HTTP, PROXY_SCHEME_HTTPS };

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
    struct slice name;        // what its certificate must be for, with `secure`; empty: its address
    uint32_t weight;          // how often it is drawn beside the others of its version; 0: 1
    bool drained;             // never drawn; what it has under way goes on
    bool near;                // drawn before others while enough near ones are in use
};

struct proxy_version_plan {
    uint16_t slot; // index of its counters and histogram
    const char *name;
    const struct proxy_endpoint_plan *endpoints;
    uint32_t endpoint_count;
    bool secure;     // spoken to by TLS alone
    uint16_t origin; // secure: in which way, an index of the table's `tls`. One that cannot be used fails
    uint8_t header;  // version of the PROXY header that tells its endpoints of the client; 0: none
    bool http2;      // spoken to by HTTP/2; secure: where its endpoints agree. Never with a header
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
    uint32_t attempts_max;   // for each version that it is sent to, 0: PROXY_ATTEMPTS_DEFAULT
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
    struct mirror_plan *mirror; // of what the stable version answers; the table holds it. NULL: none
    // Requests with the same value of it go to the same endpoint of their version; weights hold, near ones
    // are not preferred. NULL: to one of two that are drawn. `name` is ignored.
    const struct proxy_attribute_plan *hash;
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

// ---- routes ----

enum proxy_condition_kind { PROXY_IS, PROXY_BEGINS, PROXY_PRESENT, PROXY_ABSENT };

// On a header or a query parameter. Of several of one name, one that is so is enough; ABSENT: there is none.
// Names of headers in any case; of the query names and values are compared without their escapes.
struct proxy_condition_plan {
    const char *name;
    enum proxy_condition_kind kind;
    const char *value; // IS, BEGINS
};

enum proxy_edit_kind { PROXY_EDIT_SET, PROXY_EDIT_ADD, PROXY_EDIT_REMOVE };

// Names that are HTTP's or the proxy's own (http_field_reserved) are refused. SET and REMOVE take out what
// came under the name, '-' and '_' being the same, trailers too.
struct proxy_edit_plan {
    enum proxy_edit_kind kind;
    const char *name;
    const char
        *value; // SET, ADD; of a request it may name {client}, {host}, {scheme} and the path's captures
};

// Where it does not say, the request's own. The query stays.
struct proxy_redirect_plan {
    uint16_t status; // 301, 302, 303, 307 or 308
    enum proxy_scheme scheme;
    const char *host; // without it the request's, which must have one
    uint16_t port;
    const char *path; // as proxy_action_plan.path
};

struct proxy_answer_plan {
    uint16_t status; // 200..599
    const struct proxy_edit_plan *headers;
    uint32_t header_count;
    const char *body; // NULL: none
};

// What a route does with its requests. What it says holds for a request to its end, whatever table comes.
struct proxy_action_plan {
    const char *name; // of the route, for the access log; NULL: none
    // What the service gets in place of the path: of a prefix, of that prefix; else of the whole path, made
    // of the template's captures. NULL: the normal form of what was asked.
    const char *path;
    const char *host;
    const struct proxy_edit_plan *request, *response;
    uint32_t request_count, response_count;
    uint32_t first_byte_ms, idle_ms, total_ms; // 0: as the service has it
    bool retry_off, mirror_off;
    uint64_t body_bytes_max;                    // 0: as the service has it
    struct compress_settings compression;       // of the service's answers
    const struct proxy_redirect_plan *redirect; // these two: without a service
    const struct proxy_answer_plan *answer;
};

#define PROXY_SERVICE_NONE UINT32_MAX

struct proxy_route_plan {
    const char *host; // NULL or "*": any; "*.name": suffix; else exact. ASCII case does not matter
    const char *path; // NULL or "/" as a prefix: all
    uint32_t service; // index into services, or PROXY_SERVICE_NONE with a redirect or an answer
    enum proxy_path_kind path_kind;
    enum proxy_scheme scheme;                           // by which the request came
    const char *const *methods;                         // one of them; none: any
    const struct proxy_condition_plan *headers, *query; // all of them
    uint32_t method_count, header_count, query_count;
    const struct proxy_action_plan *action; // NULL: nothing but what the service says
};

// An operator's network, e.g. 10.0.0.0/8 or fd00::/8. IPv4 addresses are also found in mapped form.
struct proxy_network {
    uint8_t bytes[16]; // the first 4 for IPv4
    uint8_t bits;
    bool ipv6;
};

// Whose request ids are kept; others get a new one.
enum proxy_id_kept { PROXY_ID_NOBODYS, PROXY_ID_PROXIES, PROXY_ID_ANYBODYS };

// A field that tells services of the certificate of the listener's client. From clients it comes to nobody,
// whatever listener they use.
struct proxy_certificate_plan {
    uint32_t listener;
    const char *field;
    enum tls_peer value;
};

// Peers of a listener whose connections must begin with a PROXY header.
struct proxy_header_peers {
    uint32_t listener;
    struct proxy_network network;
};

struct proxy_table_plan {
    uint64_t version;      // grows with every table
    struct proxy_tls *tls; // for secure listeners and versions; the table holds it. NULL: nothing
    uint32_t listen_http1; // a bit for each listener without TLS that speaks no HTTP/2
    const struct proxy_service_plan *services;
    uint32_t service_count;
    const struct proxy_route_plan *routes;
    uint32_t route_count;
    const struct proxy_network *operators; // X-Sluice-Version is honoured from these peers only
    uint32_t operator_count;
    const struct proxy_header_peers *header_peers;
    uint32_t header_peer_count; // at most PROXY_HEADER_PEERS_MAX
    uint32_t trusted_hops;      // proxies before us whose X-Forwarded-For entries are believed
    // Their networks: then only such peers are believed, and of X-Forwarded-For all from the right up to the
    // first address that is none of theirs, at most trusted_hops entries where that is not 0.
    const struct proxy_network *proxies;
    uint32_t proxy_count;   // at most PROXY_NETWORKS_MAX
    bool forwarded;         // services get Forwarded (RFC 7239) as well
    const char *request_id; // the field that names a request; NULL: none
    enum proxy_id_kept request_id_kept;
    const struct proxy_certificate_plan *certificates;
    uint32_t certificate_count; // at most PROXY_CERTIFICATES_MAX
    uint32_t https_listeners;   // a bit for each: what comes there in the clear is redirected to https
    uint32_t client_head_ms;    // from the first byte of a head to its end; 0: 10 s
    uint32_t client_idle_ms;    // keep-alive without a request, and up to an eighth longer; 0: 75 s
    uint32_t drain_ms;          // exchanges with endpoints that the table has no more end after it; 0: 30 s
    uint32_t clients_per_site;  // connections of one IPv4 address or IPv6 /64, per worker; 0: no limit
    bool paths_untold;          // of requests that failed: noted without their paths
    uint32_t body_rate_min;     // bytes per second that a sending client must reach beyond idle_ms; 0: 500
    const char *via;            // our pseudonym in Via; NULL: "sluice", "": none
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

// The service slot a GET for host (lower or upper case, no port) and path goes to, or PROXY_SLOT_NONE.
uint16_t proxy_table_route(const struct proxy_table *table, struct slice host, struct slice path);

// Of two routes that match, the first of these that differs decides: an exact host before a suffix before
// any; a longer suffix; an exact path before a template before a prefix; a longer prefix, a template of more
// segments, then with more of them given, then with a closed end; more conditions (methods and scheme count
// as one each); the place in the plan. Hosts are compared without a final dot, paths in their normal form
// (http_path_normal) and without the parameters of segments; a path without such a form has no route
// where paths are asked for.
//
// All routes that match, as indices into the plan's, best first; returns their count, at most cap.
uint32_t proxy_table_matches(const struct proxy_table *table, const struct http_request *request, bool secure,
                             uint32_t *plans, uint32_t cap);
// Why the route of the first index comes before that of the second, in words.
const char *proxy_table_why(const struct proxy_table *table, uint32_t first, uint32_t second);
// What the route does to the request: the target and host that its service gets, or where the client is sent.
// False: it does not fit.
bool proxy_table_outcome(const struct proxy_table *table, uint32_t plan, const struct http_request *request,
                         bool secure, struct text *target, struct text *host);
