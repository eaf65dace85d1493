// SPDX-License-Identifier: Apache-2.0
// The compiled table as the workers read it. All pointers lead into the table's one allocation.
#pragma once

#include "base/check.h"
#include "net/proxy/table.h"

struct proxy_endpoint {
    struct io_addr addr;
    uint32_t connections_max;
    uint16_t slot;
};

struct proxy_version {
    const struct proxy_endpoint *endpoints;
    uint32_t endpoint_count;
    uint16_t slot;
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
    const struct proxy_errors *errors;         // NULL: outcome_default
    uint16_t slot;
    char name[PROXY_NAME_BYTES];
};

struct proxy_route {
    enum proxy_host_kind kind;
    struct slice host; // lower case; of a suffix, from its dot on
    struct slice path; // without a last '/'; empty: every path
    const struct proxy_service *service;
};

struct proxy_table {
    struct proxy_table *retired_next; // proxy.c's list of tables waiting to be freed
    uint64_t version;
    struct proxy_tls *tls;
    uint32_t service_count;
    uint32_t route_count;
    uint32_t operator_count;
    uint32_t trusted_hops;
    bool by_path; // a route asks for one
    uint64_t drain_us;
    uint32_t clients_per_site;
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
    struct proxy_network operators[PROXY_NETWORKS_MAX];
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
// Whether a field of that name would pass for one of the service's flag fields: ASCII case and '-' or '_' do
// not matter, as gateways that make variables of fields have it.
bool table_flags_forged(const struct proxy_service_flags *flags, struct slice name);

// ---- finding ----

// The service for a request, or NULL.
const struct proxy_service *proxy_table_find(const struct proxy_table *table, struct slice host,
                                             struct slice path);
// The version of that slot, or NULL when the table has it no more.
const struct proxy_version *proxy_service_version(const struct proxy_service *service, uint16_t version_slot);
const struct proxy_version *proxy_service_version_named(const struct proxy_service *service,
                                                        struct slice name);
// Whether the address belongs to an operator's network.
bool proxy_table_operator(const struct proxy_table *table, const struct io_addr *addr);
