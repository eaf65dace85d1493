// SPDX-License-Identifier: Apache-2.0
// The compiled table as the workers read it. All pointers lead into the table's one allocation.
#pragma once

#include "base/check.h"
#include "net/http/template.h"
#include "net/proxy/table.h"

struct proxy_endpoint {
    struct io_addr addr;
    uint32_t connections_max;
    uint16_t slot;
    struct slice name; // empty: its address
    uint8_t header;    // version of the PROXY header; 0: none
    uint32_t weight;   // at least 1; of a drained one it says nothing
    uint32_t before;   // weights of those that stand before it, together
    uint64_t hash;     // of its address
};

struct proxy_version {
    const struct proxy_endpoint *endpoints; // near ones first, drained ones last
    uint32_t endpoint_count;                // that may be drawn
    uint32_t near_count;                    // of them; all of them where none is near
    uint32_t listed_count;                  // with the drained ones
    uint16_t slot;
    uint16_t origin;
    bool secure;
    bool weighted; // those that may be drawn have different weights
    bool http2;
    const struct proxy_protection *protection; // the service's; NULL: none
    char name[PROXY_NAME_BYTES];
};

enum {
    PROXY_SERVICE_FLAGS_MAX = PROXY_HEADER_FLAGS_MAX + 2, // the version flag and the arm flag too
    PROXY_FLAG_NONE = 0xff,
};

struct proxy_attribute {
    struct slice name;
    struct slice source;
    enum proxy_attribute_kind kind;
};

struct proxy_flag {
    struct slice key;
    struct slice member; // the key as a dictionary writes it
};

struct proxy_flag_header {
    struct slice name;
    uint32_t flag_count;
    uint8_t flags[PROXY_HEADER_FLAGS_MAX]; // indices into the service's flags
};

// What a service has to do with flags.
struct proxy_service_flags {
    const struct proxy_attribute *key; // NULL: the unit
    const struct proxy_attribute *attributes;
    const struct proxy_flag *flags; // each once
    const struct proxy_flag_header *headers;
    uint32_t attribute_count;
    uint32_t flag_count;
    uint32_t header_count;
    uint8_t version_flag; // index, or PROXY_FLAG_NONE
    uint8_t arm_flag;
};

struct proxy_error_header {
    struct slice name, value;
    bool any; // whatever its value is
};

struct proxy_errors {
    uint64_t statuses[PROXY_STATUS_WORDS]; // bit status - PROXY_STATUS_FIRST
    const struct proxy_error_header *headers;
    struct slice text;
    const uint16_t *borders; // see outcome.c
    uint64_t id;             // of what it says
    uint32_t header_count;
    uint32_t grpc;
    uint32_t within;
};

struct proxy_service {
    const struct proxy_version *versions;
    uint32_t version_count;
    const struct proxy_version *arms[ROLLOUT_ARMS]; // NULL where there is none
    bool canary_leaves;
    uint32_t weight;
    uint32_t weight_control; // clipped
    uint64_t canary_leave_us;
    uint64_t epoch;
    struct siphash_key salt;
    enum proxy_unit_kind unit;
    struct slice unit_name;
    struct siphash_key cookie_key;
    struct rollout_yardstick yardstick; // edges that count nothing are UINT64_MAX
    struct proxy_timeouts timeouts;
    struct proxy_retry retry;
    const struct proxy_protection *protection; // NULL: none
    uint64_t body_bytes_max;                   // UINT64_MAX: no limit
    const struct proxy_service_flags *flags;   // NULL: nothing to do with any
    const struct proxy_attribute *hash;        // what picks the endpoint; NULL: nothing does
    const struct proxy_errors *errors;         // NULL: outcome_default
    struct mirror_plan *mirror;                // held; NULL: nothing is sent a second time
    uint16_t slot;
    char name[PROXY_NAME_BYTES];
};

struct proxy_condition {
    struct slice name, value;
    enum proxy_condition_kind kind;
};

struct proxy_conditions {
    enum proxy_scheme scheme;
    uint32_t method_count, header_count, query_count;
    const struct slice *methods;
    const struct proxy_condition *headers, *query;
};

struct proxy_edit {
    enum proxy_edit_kind kind;
    struct slice name, value;
};

struct proxy_redirect {
    uint16_t status; // 0: none
    uint16_t port;
    enum proxy_scheme scheme;
    struct slice host, path;
};

// Of one allocation of its own, held by the table and by each request on its way.
struct proxy_action {
    _Atomic uint32_t holds;
    struct slice name;
    struct slice path, host; // len 0: as they are
    const struct proxy_edit *request, *response, *headers;
    uint32_t request_count, response_count, header_count;
    uint32_t first_byte_ms, idle_ms, total_ms; // 0: as the service has it
    bool retry_off, mirror_off;
    uint64_t body_bytes_max; // 0: as the service has it
    struct compress_settings compression;
    struct proxy_redirect redirect;
    uint16_t answer; // status; 0: none
    struct slice body;
};

struct proxy_route {
    enum proxy_host_kind kind;
    struct slice host;                   // lower case; of a suffix, from its dot on
    struct slice path;                   // normal; a prefix without a last '/', which is empty for every path
    const struct proxy_service *service; // NULL: its action answers
    enum proxy_path_kind path_kind;
    uint32_t plan;                             // its index there
    const struct proxy_conditions *conditions; // NULL: none
    struct proxy_action *action;               // NULL: none
    bool written;                              // more than a host and a prefix that leads to a service
};

struct proxy_certificate {
    uint32_t listener;
    enum tls_peer value;
    struct slice field;
};

struct proxy_table {
    struct proxy_table *retired_next; // proxy.c's list of tables waiting to be freed
    uint64_t version;
    struct proxy_tls *tls;
    uint32_t service_count;
    uint32_t route_count;
    uint32_t operator_count;
    uint32_t header_peer_count;
    uint32_t trusted_hops;
    uint32_t proxy_count;
    uint32_t certificate_count;
    bool trusts; // proxies before us: a number of them, or networks
    bool forwarded;
    bool identity; // identity_settle has something to do
    enum proxy_id_kept request_id_kept;
    struct slice request_id; // its field; empty: none
    const struct proxy_certificate *certificates;
    bool by_path; // a route asks for one
    bool paths_untold;
    bool written; // a route is more than a host and a prefix, or a listener redirects
    uint32_t https_listeners;
    uint64_t drain_us;
    uint32_t clients_per_site;
    uint32_t listen_http1;
    uint32_t body_rate_min;
    uint64_t client_head_us;
    uint64_t client_idle_us;
    struct slice via;
    struct flags_image flags; // image NULL: none
    struct flags_tally *tallies;
    void (*flags_release)(void *context);
    void *flags_context;
    struct proxy_service *services;
    struct proxy_route *routes; // most specific first
    const struct proxy_header_peers *header_peers;
    struct proxy_network operators[PROXY_NETWORKS_MAX], proxies[PROXY_NETWORKS_MAX];
    const struct proxy_service *by_slot[PROXY_SERVICES_MAX];
};

// ---- carving one allocation ----

struct table_carve {
    char *at;
    char *end;
};

static inline size_t table_carve_bytes(size_t count, size_t size)
{
    return (count * size + 15) & ~(size_t)15;
}

static inline void *table_carve(struct table_carve *from, size_t count, size_t size)
{
    size_t bytes = table_carve_bytes(count, size);
    CHECK(bytes <= (size_t)(from->end - from->at));
    void *piece = from->at;
    from->at += bytes;
    return piece;
}

static inline size_t table_text_bytes(const char *text)
{
    return text == NULL ? 0 : table_carve_bytes(strlen(text), 1);
}

static inline struct slice table_carve_slice(struct table_carve *from, struct slice text)
{
    if (text.len == 0)
        return (struct slice){"", 0};
    char *copy = table_carve(from, text.len, 1);
    memcpy(copy, text.data, text.len);
    return (struct slice){copy, text.len};
}

static inline struct slice table_carve_text(struct table_carve *from, const char *text, bool lower)
{
    if (text == NULL)
        return (struct slice){NULL, 0};
    size_t len = strlen(text);
    char *copy = table_carve(from, len, 1);
    for (size_t i = 0; i < len; i++)
        copy[i] = lower ? slice_lower_char(text[i]) : text[i];
    return (struct slice){copy, len};
}

// ---- table_flags.c: the part of a service that has to do with flags ----

// NULL, or what is wrong with it.
const char *table_flags_check(const struct proxy_service_plan *plan);
// At most what compiling it carves.
size_t table_flags_bytes(const struct proxy_service_plan *plan);
// NULL when the service has to do with no flag.
const struct proxy_service_flags *table_flags_compile(struct table_carve *from,
                                                      const struct proxy_service_plan *plan);
// Of a single attribute, likewise.
const char *table_attribute_check(const struct proxy_attribute_plan *plan);
size_t table_attribute_bytes(const struct proxy_attribute_plan *plan); // NULL is allowed
void table_attribute_compile(struct table_carve *from, const struct proxy_attribute_plan *plan,
                             struct proxy_attribute *attribute);
// Whether a field of that name would pass for one of the service's flag fields (http_field_alike).
bool table_flags_forged(const struct proxy_service_flags *flags, struct slice name);

// ---- table_route.c: what a route asks for beside host and path

// NULL, or what is wrong with it.
const char *table_route_check(const struct proxy_route_plan *plan);
size_t table_conditions_bytes(const struct proxy_route_plan *plan);
// NULL when there are none.
const struct proxy_conditions *table_conditions_compile(struct table_carve *from,
                                                        const struct proxy_route_plan *plan);
uint32_t table_conditions_count(const struct proxy_conditions *conditions);
bool table_conditions_hold(const struct proxy_conditions *conditions, const struct http_request *request,
                           enum proxy_scheme scheme);

// ---- table_action.c

// NULL, or what is wrong with it.
const char *table_action_check(const struct proxy_route_plan *plan);
// Whether it does more than to compress answers, which has nothing to do with what the service gets.
bool table_action_written(const struct proxy_action_plan *plan);
// NULL without memory.
struct proxy_action *table_action_make(const struct proxy_action_plan *plan);
void proxy_action_release(struct proxy_action *action); // NULL is allowed
// Path and query that the service of a written route gets. "*" stays.
void table_action_target(const struct proxy_route *route, const struct http_request *request,
                         struct text *out);
// Where the client is sent, always with scheme and host, so that no path can become one. route NULL: the path
// stays. False: nowhere, as the request has no host, or out is too small.
bool table_action_location(const struct proxy_redirect *redirect, const struct proxy_route *route,
                           const struct http_request *request, enum proxy_scheme scheme, struct text *out);
// Adds what the template of the route makes of the normal path of the request.
void table_action_captures(const struct proxy_route *route, struct slice path,
                           struct http_captures *captures);

// ---- finding ----

// The route for a request, or NULL; of a table without written routes.
const struct proxy_route *proxy_table_find(const struct proxy_table *table, struct slice host,
                                           struct slice path);
// The same of any table.
const struct proxy_route *proxy_table_find_written(const struct proxy_table *table,
                                                   const struct http_request *request, bool secure);
// By which the client came; a proxy of our own that stands before us is believed.
enum proxy_scheme proxy_table_scheme(const struct proxy_table *table, const struct http_request *request,
                                     bool secure);
// The version of that slot, or NULL when the table has it no more.
const struct proxy_version *proxy_service_version(const struct proxy_service *service, uint16_t version_slot);
const struct proxy_version *proxy_service_version_named(const struct proxy_service *service,
                                                        struct slice name);
// What the certificate of the endpoint in that slot must be for; empty: its address, or no such endpoint.
struct slice proxy_table_endpoint_name(const struct proxy_table *table, uint16_t slot);
// Whether a connection of that peer to that listener must begin with a PROXY header.
bool proxy_table_header_peer(const struct proxy_table *table, uint32_t listener, const struct io_addr *peer);
// Whether the address is a proxy's that is believed by its network.
bool proxy_table_proxy(const struct proxy_table *table, const struct io_addr *addr);
// Whether the address belongs to an operator's network.
bool proxy_table_operator(const struct proxy_table *table, const struct io_addr *addr);
