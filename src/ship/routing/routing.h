// SPDX-License-Identifier: Apache-2.0
// Between the file and the proxy: the routing table is made of what the file says of services and of what
// their runs want (which others tell), published, and awaited; what the proxy counts is read by the names of
// the file. Belongs to the engine's thread.
#pragma once

#include "base/fault.h"
#include "base/wire.h"
#include "daemon/config/config.h"
#include "net/io/loop.h"
#include "net/names/names.h"
#include "net/proxy/proxy.h"
#include "operate/log/log.h"
#include "ship/rollout/evidence.h"
#include "ship/rollout/rollout.h"
#include "ship/shadow/shadow.h"

struct routing;
struct metrics_writer;

enum { ROUTING_NAMES_AWAIT_MS = 2000 };

// What a run in the shadow wants compared.
struct routing_shadow {
    uint64_t run;                    // journal number of its beginning
    const char *rollout;             // its name
    const struct rollout_spec *spec; // with a stage in the shadow; both live as long as what the run decided
    struct rollout_yardstick yardstick;
};

struct routing_parts {
    const struct config *config; // the first, in force as soon as anything is published
    struct io_loop *loop;
    struct proxy *proxy;
    struct log *log;
    struct shadow *shadow; // compares what mirrors see; NULL: nobody does
    // Puts into a service's plan what its run wants.
    void (*govern)(void *context, const struct config_service *service, struct proxy_service_plan *plan);
    // Whether a run of the service is in the shadow. NULL: none ever is.
    bool (*shadowed)(void *context, const struct config_service *service, struct routing_shadow *shadow);
    // Puts into a table's plan the flags that its services evaluate.
    void (*flags)(void *context, const struct config *config, struct proxy_table_plan *plan);
    // Every worker has taken up the newest table.
    void (*taken_up)(void *context);
    void *context;
};

MUST_USE enum status routing_create(const struct routing_parts *parts, struct routing **routing);
void routing_destroy(struct routing *routing); // NULL is allowed
// Whether the certificates of that file can be used. As tls_server_create.
MUST_USE enum status routing_tls_check(const struct config *config, struct fault *fault);
// Builds a table and publishes it; on failure the one before stays. The file is borrowed until the next one.
// fresh: its names are followed from now on. The first time that waits for their first answers, at most
// ROUTING_NAMES_AWAIT_MS; later nothing waits for a name.
MUST_USE enum status routing_publish(struct routing *routing, const struct config *config, bool fresh,
                                     struct fault *fault);
// The same with the file in force; a failure is logged, and tried again at every tick.
void routing_publish_or_retry(struct routing *routing);

// What a service's requests told since the last call: spans, and in *lost those that no span could take. As
// proxy_gather_spans.
uint32_t routing_gather(struct routing *routing, const char *service, struct rollout_span_delta *spans,
                        uint32_t cap, uint64_t *lost, bool *more);
// Of the comparing that a run in the shadow asked for, for struct shadow; 0: it does not go on.
uint64_t routing_shadow_number(const struct routing *routing, const char *service, uint64_t run);
// Requests that the service's mirror dropped since this was asked last.
uint64_t routing_shadow_dropped(struct routing *routing, const char *service);
// Which of the service's requests failed; nothing when there is no such service.
void routing_failures_get(const struct routing *routing, const char *service, struct rollout_failures *out);
void routing_tick_began(struct routing *routing);
// Tells the proxy's events. With drain, takes out of the proxy what no gather took in this tick: no run needs
// it.
void routing_tick_over(struct routing *routing, bool drain);

const struct config *routing_config(const struct routing *routing); // being put in force, or in force
// The slot that a service's version counts under; PROXY_SLOT_NONE when there is none.
uint16_t routing_version_slot(const struct routing *routing, const char *service, const char *version);
// Another number when that slot, and the counts under it, were given anew, to this name or another.
uint64_t routing_version_given(const struct routing *routing, uint16_t slot);

// Its place among the service's versions in a plan; PROXY_VERSION_NONE.
int32_t routing_version_index(const struct config_service *service, const char *version);

// What one service's requests are measured by, for metrics and plans.
struct routing_traffic {
    double requests_per_second; // last 5 s, all versions
    double error_rate;          // of the stable version, since it got its slot
    uint64_t requests;
};
// The slot of the version that is stable; PROXY_SLOT_NONE when there is no such service.
uint16_t routing_stable_slot(const struct routing *routing, const char *service);
void routing_traffic_get(const struct routing *routing, const char *service, struct routing_traffic *traffic);

// ---- endpoints that an operator gave a version at runtime, in place of the file's ----

enum { ROUTING_OVERRIDE_BYTES_MAX = 65536 };

struct routing_override {
    char service[CONFIG_NAME_BYTES], version[CONFIG_NAME_BYTES];
    char who[ROLLOUT_WHO_BYTES];
    int64_t time_ms;   // when it was journalled
    struct slice list; // as a file of endpoints has it; empty: the file's count again
};
// NULL: the version has the file's.
const struct routing_override *routing_override_find(const struct routing *routing, const char *service,
                                                     const char *version);
// Whether it can be put in force: NOT_FOUND (no such version, or nothing to take back), INVALID, FULL.
MUST_USE enum status routing_override_check(const struct routing *routing,
                                            const struct routing_override *change, struct fault *fault);
// The payload of its entry, at most the list's length and a few names; and what takes it: CORRUPT,
// UNSUPPORTED, NO_MEMORY, FULL. `take` besides puts it in force.
void routing_override_encode(const struct routing_override *change, struct wire_writer *writer);
MUST_USE enum status routing_override_readable(struct slice payload); // CORRUPT, UNSUPPORTED
MUST_USE enum status routing_override_fold(struct routing *routing, int64_t time_ms, struct slice payload);
MUST_USE enum status routing_override_take(struct routing *routing, int64_t time_ms, struct slice payload,
                                           struct fault *fault);

// Of a file with a version's endpoints; borrowed until the next tick or publish.
enum routing_list_state { ROUTING_LIST_GOOD, ROUTING_LIST_BAD, ROUTING_LIST_MISSING, ROUTING_LIST_STATES };
struct routing_list {
    const char *service, *version, *file;
    enum routing_list_state state;
    const char *problem;     // empty when it is good
    uint32_t endpoint_count; // in force: of the last good list
};
uint32_t routing_lists_count(const struct routing *routing);
struct routing_list routing_list_get(const struct routing *routing, uint32_t index);
const char *routing_list_state_name(enum routing_list_state state);
// The endpoints of a version, by the file or by its list.
const struct config_endpoint *routing_listed(const struct routing *routing,
                                             const struct config_service *service,
                                             const struct config_version *version, uint32_t *count);

// What is known of one endpoint of a service that protects them.
struct routing_endpoint {
    char address[IO_ADDR_TEXT_BYTES];
    bool in_use;
    bool healthy; // by active checks, or not checked
    bool ejected;
    const char *why; // the last check failed; NULL: it did not
};
// Up to cap of them, by the newest table. Returns the count; 0 for a service without protection.
uint32_t routing_endpoints(const struct routing *routing, const char *service, const char *version,
                           struct routing_endpoint *out, uint32_t cap);
// "closed", "open" or "half-open".
const char *routing_breaker(const struct routing *routing, const char *service, const char *version);

struct routing_state {
    uint64_t table_version;
    uint64_t table_acknowledged;
    uint64_t table_switch_us; // from the last publish until every worker had taken it up
    uint64_t table_switch_us_max;
    uint64_t table_build_us;
    bool listening;
};
void routing_state_get(const struct routing *routing, struct routing_state *state);
// The proxy has its listeners open (set by whoever opened them).
void routing_set_listening(struct routing *routing, bool listening);
// What is known of the names in the file; its times are of the loop's clock.
const struct names_answers *routing_names(const struct routing *routing);
void routing_metrics_write(const struct routing *routing, struct metrics_writer *writer);

// ---- asking a file where its requests go ----

// A table of its routes alone, for proxy_table_matches; the caller's. INVALID, NO_MEMORY.
MUST_USE enum status routing_routes_table(const struct config *config, struct proxy_table **table,
                                          struct fault *fault);
// The route of the file behind an index of that table, or of any that is made of it.
struct routing_route {
    const struct config_route *route;
    const struct config_service *service; // NULL: own is set
    const struct config_own_route *own;
};
struct routing_route routing_route_of(const struct config *config, uint32_t plan);