// SPDX-License-Identifier: Apache-2.0
// The compiled table as the workers read it. All pointers lead into the table's one allocation.
#pragma once

#include "proxy/table.h"

struct proxy_endpoint {
    struct io_addr addr;
    uint32_t connections_max;
    uint16_t slot;
};

struct proxy_version {
    const struct proxy_endpoint *endpoints;
    uint32_t endpoint_count;
    uint16_t slot;
    char name[PROXY_NAME_BYTES];
};

struct proxy_service {
    const struct proxy_version *versions;
    uint32_t version_count;
    const struct proxy_version *arms[ROLLOUT_ARMS]; // NULL where there is none
    uint32_t weight;
    uint32_t weight_control; // clipped
    uint64_t epoch;
    struct siphash_key salt;
    enum proxy_unit_kind unit;
    struct slice unit_name;
    struct siphash_key cookie_key;
    struct rollout_edges edges;
    uint64_t edge_margin_us[ROLLOUT_EDGES];
    uint64_t edge_slack_us;
    uint64_t deadline_us;
    uint64_t error_window_us; // 0: within the epoch
    struct proxy_timeouts timeouts;
    struct proxy_retry retry;
    uint64_t body_bytes_max; // UINT64_MAX: no limit
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
    uint32_t service_count;
    uint32_t route_count;
    uint32_t operator_count;
    uint32_t trusted_hops;
    uint64_t client_head_us;
    uint64_t client_idle_us;
    struct slice via;
    struct proxy_service *services;
    struct proxy_route *routes; // most specific first
    struct proxy_network operators[PROXY_NETWORKS_MAX];
    const struct proxy_service *by_slot[PROXY_SERVICES_MAX];
};

// The service for a request, or NULL.
const struct proxy_service *proxy_table_find(const struct proxy_table *table, struct slice host,
                                             struct slice path);
// The version of that slot, or NULL when the table has it no more.
const struct proxy_version *proxy_service_version(const struct proxy_service *service, uint16_t version_slot);
const struct proxy_version *proxy_service_version_named(const struct proxy_service *service,
                                                        struct slice name);
// Whether the address belongs to an operator's network.
bool proxy_table_operator(const struct proxy_table *table, const struct io_addr *addr);
