// SPDX-License-Identifier: Apache-2.0
// The proxy: workers that accept, route, assign, forward and count. Everything here is for one engine
// thread; the workers share nothing with it but the table pointer (down), and the sheets and event rings
// (up). The very same worker runs on its own thread or, attached to a loop, inside a simulation.
#pragma once

#include "net/http/http1.h"
#include "net/io/loop.h"
#include "net/proxy/table.h"
#include "ship/rollout/evidence.h"
#include "ship/rollout/failures.h"
#include "stats/histogram.h"

enum {
    PROXY_WORKERS_MAX = 64,
    PROXY_LISTEN_MAX = 16,
    PROXY_CLIENTS_DEFAULT = 16384, // client connections per worker
    PROXY_EVENTS = 256,            // per worker, between two drains
    PROXY_EVENT_CLIENT_BYTES = 64,
    PROXY_EVENT_METHOD_BYTES = 16, // what is longer is cut
    PROXY_EVENT_HOST_BYTES = 64,
    PROXY_EVENT_PATH_BYTES = 160,
    PROXY_ACCESSES = 4096, // per worker, between two drains
    PROXY_ACCESS_TARGET_BYTES = 512,
    PROXY_ACCESS_FIELD_BYTES = 160,
    PROXY_REQUEST_ID_BYTES = 129, // a longer one is not kept
};

struct proxy;

struct proxy_config {
    enum io_kind io;              // AUTO, EPOLL or URING; unused when attached
    uint32_t workers;             // 1..PROXY_WORKERS_MAX
    const struct io_addr *listen; // borrowed for the call
    uint32_t listen_count;
    uint32_t listen_secure;            // a bit for each listener that speaks TLS alone, by the table's `tls`
    uint32_t clients_max;              // per worker; 0: PROXY_CLIENTS_DEFAULT. Beyond it idle ones give way
    uint32_t bufs_max;                 // per worker; 0: the loop's default
    const struct http1_limits *limits; // NULL: the parser's defaults
    uint64_t seed;                     // of per-request assignment; each worker draws its own stream
    bool accesses;                     // every request is kept for proxy_accesses_take
};

// Nothing runs yet. STATUS_INVALID, NO_MEMORY.
MUST_USE enum status proxy_create(const struct proxy_config *config, struct proxy **proxy);
// Opens loops and listeners (so a taken address is told here) and starts one thread per worker.
// STATUS_IN_USE, DENIED, UNSUPPORTED, NO_FD, NO_MEMORY; on failure nothing is left running and start may be
// tried again.
MUST_USE enum status proxy_start(struct proxy *proxy);
// Instead of start: runs one worker on the caller's loop (takes its turn hook) and listens there. Once per
// worker.
MUST_USE enum status proxy_attach(struct proxy *proxy, uint32_t worker, struct io_loop *loop);
// The address listener i of worker 0 is bound to (for port 0).
void proxy_listen_addr(const struct proxy *proxy, uint32_t i, struct io_addr *addr);

// Takes the table (on STATUS_OK only), makes it the one in force, wakes the workers. Each takes it up at the
// start of its next turn. Its version must be above every earlier one. NO_MEMORY: storage for a new slot
// could not be had; the old table stays in force and the new one is still the caller's.
MUST_USE enum status proxy_publish(struct proxy *proxy, struct proxy_table *table);
// What the newest table holds the certificate of the endpoint in that slot against; empty: its address.
struct slice proxy_endpoint_name(const struct proxy *proxy, uint16_t slot);
// The version every worker has taken up by now. 0: none yet.
uint64_t proxy_acknowledged(const struct proxy *proxy);
// Frees tables that no worker can still see. Publish and gather do it too.
void proxy_reclaim(struct proxy *proxy);

// Drain: no new connections, idle ones are closed, every answer says "Connection: close". Not to be undone.
void proxy_drain(struct proxy *proxy);
// For how many milliseconds a worker has not come round to what it is asked to do; now_ms: of any clock that
// only grows. Asks them all. From one thread, while the workers run.
uint64_t proxy_stalled_ms(struct proxy *proxy, uint64_t now_ms);
// Client connections that are still open, tunnels included.
uint64_t proxy_clients_open(const struct proxy *proxy);
// Ends everything that is left, stops and joins the threads. In attached mode call it between turns, then
// turn the loops until proxy_stopped. Idempotent.
void proxy_stop(struct proxy *proxy);
bool proxy_stopped(const struct proxy *proxy);
// After stop only.
void proxy_destroy(struct proxy *proxy);

// ---- evidence ----

// What changed in the spans of a service since the last call, summed over the workers, in routing order
// (tick, then table). Only spans of ticks that every worker has passed are told: such a span gets no more
// `routed`, only completions. A worker that sleeps is woken when a span waits for it and has passed by the
// next call, so evidence is at most one call late. Writes at most cap deltas; *more when cap cut it short
// (call again). Returns the count. Also lets go of spans that are complete or older than the deadline.
uint32_t proxy_gather_spans(struct proxy *proxy, uint16_t service, struct rollout_span_delta *out,
                            uint32_t cap, bool *more);
// The present tick on the clock of the spans.
uint64_t proxy_tick(const struct proxy *proxy);

struct proxy_sheet_losses {
    uint64_t routed_unspanned; // requests for which no span was free: not in any delta
    uint64_t completed_late;   // completions after their span was let go
    uint64_t pending_dropped;  // pending when their span was let go at its deadline (later in completed_late)
};
void proxy_gather_losses(const struct proxy *proxy, uint16_t service, struct proxy_sheet_losses *losses);

// Which requests of the present epoch failed, while a weight was shared out.
void proxy_failures(struct proxy *proxy, uint16_t service, struct rollout_failures *out);

// ---- counters ----

// Of one version, since its slot was given to it. Monotone. Identities at rest: requests = completed = 2xx to
// 5xx of the origin + both local + upgrades + those that got no status at all.
enum proxy_version_counter {
    PROXY_VERSION_REQUESTS,   // routed to it
    PROXY_VERSION_COMPLETED,  // of those, over: answered, failed or aborted
    PROXY_VERSION_FORCED,     // of the requests, sent here by an operator's header: never evidence
    PROXY_VERSION_FLAGGED,    // of the requests, sent here by the service's version flag
    PROXY_VERSION_ATTEMPTS,   // exchanges begun with an endpoint
    PROXY_VERSION_RETRIES,    // of the attempts, not the first of their request
    PROXY_VERSION_STATUS_1XX, // informational heads forwarded, 101 included
    PROXY_VERSION_STATUS_2XX,
    PROXY_VERSION_STATUS_3XX,
    PROXY_VERSION_STATUS_4XX,
    PROXY_VERSION_STATUS_5XX, // said by the origin, as the four above; all of them but 1XX end a request
    PROXY_VERSION_LOCAL_4XX,  // said by us in its place
    PROXY_VERSION_LOCAL_5XX,
    PROXY_VERSION_ERRORS, // failed attempts: the sum of the thirteen kinds below
    PROXY_VERSION_ERROR_5XX,
    PROXY_VERSION_ERROR_STATUS, // another status that its service calls an error
    PROXY_VERSION_ERROR_HEADER, // a header that does
    PROXY_VERSION_ERROR_GRPC,   // a status of gRPC, or none where there must be one
    PROXY_VERSION_ERROR_BODY,   // a text in the body
    PROXY_VERSION_ERROR_CONNECT,
    PROXY_VERSION_ERROR_TLS, // connected, but not securely: its certificate, its protocol, or ours was
                             // refused
    PROXY_VERSION_ERROR_TIMEOUT,
    PROXY_VERSION_ERROR_RESET,       // closed or reset before or within the answer
    PROXY_VERSION_ERROR_BROKEN,      // an answer that is no HTTP
    PROXY_VERSION_ERROR_UNAVAILABLE, // no endpoint could take it: the version answered 503
    PROXY_VERSION_ERROR_EJECTED,     // drawn for an endpoint that is out of use; another one served it
    PROXY_VERSION_ERROR_OPEN,        // its breaker took no more: answered 503, or the fallback served it
    PROXY_VERSION_ERROR_EVENTS,      // of the errors, first of their unit and window
    PROXY_VERSION_ABORTED,           // the client left before the end
    PROXY_VERSION_UNSEARCHED,        // answers whose body is encoded: no text was looked for in it
    PROXY_VERSION_GOOD,              // completed without error within the deadline
    PROXY_VERSION_FALLBACKS, // of the requests, served by the stable version: nothing had reached this one
    PROXY_VERSION_EJECTED_ANSWER, // endpoints ejected, by the last failure: an answer that is an error
    PROXY_VERSION_EJECTED_CONNECT,
    PROXY_VERSION_EJECTED_TIMEOUT,
    PROXY_VERSION_EJECTED_RESET,
    PROXY_VERSION_EJECTED_BROKEN,
    PROXY_VERSION_UPGRADES,  // tunnels opened
    PROXY_VERSION_BYTES_IN,  // request body bytes sent on
    PROXY_VERSION_BYTES_OUT, // response body bytes sent on
    PROXY_VERSION_COUNTERS
};
const char *proxy_version_counter_name(enum proxy_version_counter counter); // "requests", ...
// Sums over the workers. Counts of one reading may be a few requests apart. Slots never published give zeros.
void proxy_version_counts(const struct proxy *proxy, uint16_t version, uint64_t out[PROXY_VERSION_COUNTERS]);
// The version's latency, microseconds from routing to the origin's last byte, of completed requests that got
// an answer of the origin (errors included, aborts and tunnels not). *out is overwritten.
void proxy_version_latency(const struct proxy *proxy, uint16_t version, struct stats_histogram *out);

// Whether nothing counts into the version any more: the requests that were routed to it are over. Only for
// one that no table of a worker names (proxy_acknowledged).
bool proxy_version_over(const struct proxy *proxy, uint16_t version);
// Takes away what was counted under a slot, and its storage, before another name gets it. Of a version that
// is over; of a service all of whose versions are.
void proxy_version_forget(struct proxy *proxy, uint16_t version);
void proxy_service_forget(struct proxy *proxy, uint16_t service);

// Of one worker. Identities at rest: received = answered + aborted; over all workers and versions, answered =
// 2xx to 5xx of the origins + upgrades + local.
enum proxy_worker_counter {
    PROXY_WORKER_ACCEPTED,       // client connections
    PROXY_WORKER_REFUSED,        // of those, turned away: too many clients, or too many of one address
    PROXY_WORKER_CLIENTS_CLOSED, // accepted - refused - this = open now
    PROXY_WORKER_ACCEPT_FAILURES,
    PROXY_WORKER_PROXY_HEADERS_REFUSED, // connections of listed peers without a sound PROXY header
    PROXY_WORKER_RECEIVED,              // requests whose head, or whose fault, was seen
    PROXY_WORKER_ANSWERED,              // of those, with a final status, ours or the origin's
    PROXY_WORKER_ABORTED,               // of those, ended without a final status
    PROXY_WORKER_CUT,                   // of the answered, cut off within the body
    PROXY_WORKER_LOCAL,                 // of the answered, by an answer of our own: with 4xx, or
    PROXY_WORKER_LOCAL_5XX,
    PROXY_WORKER_REJECTED,        // of the local, because the request was malformed or too large
    PROXY_WORKER_UNROUTED,        // of the local, 404: no route
    PROXY_WORKER_UNAVAILABLE,     // of the local, 503
    PROXY_WORKER_BAD_GATEWAY,     // of the local, 502
    PROXY_WORKER_GATEWAY_TIMEOUT, // of the local, 504
    PROXY_WORKER_HEAD_TIMEOUTS,   // clients too slow with a head or a body (408)
    PROXY_WORKER_IDLE_CLOSED,     // keep-alive connections closed for idleness
    PROXY_WORKER_GAVE_WAY,        // connections that waited, closed for a new one at the limit
    PROXY_WORKER_HTTP2_REQUESTS,  // of the received, over HTTP/2
    PROXY_WORKER_HTTP2_STREAMS_OPENED,
    PROXY_WORKER_HTTP2_STREAMS_CLOSED,
    PROXY_WORKER_HTTP2_RESETS_BY_CLIENTS, // streams that clients broke off
    PROXY_WORKER_HTTP2_RESETS,            // streams that we broke off
    PROXY_WORKER_HTTP2_GOAWAYS,           // sent
    PROXY_WORKER_HTTP2_CALMED,            // connections ended for what they cost
    PROXY_WORKER_UPSTREAM_OPENED,         // connects begun
    PROXY_WORKER_UPSTREAM_CLOSED,
    PROXY_WORKER_UPSTREAM_REUSED, // attempts on a pooled connection
    PROXY_WORKER_RETRIES_DENIED,  // by the retry budget
    PROXY_WORKER_TUNNELS_OPENED,
    PROXY_WORKER_TUNNELS_CLOSED,
    PROXY_WORKER_DRAINED, // tunnels and answers ended because their version or endpoint had left
    PROXY_WORKER_EVENTS_DROPPED,
    PROXY_WORKER_ACCESSES_DROPPED,      // lines that the access log lacks: its reader was too slow
    PROXY_WORKER_FLAGS_LEFT_OUT,        // flags with a variant for which a request had no room
    PROXY_WORKER_FLAG_VERSIONS_UNKNOWN, // requests whose version flag named no version, or was in error
    // Answers of services that compress: for each codec, then for each reason why they stay as they are, in
    // the order of enum http_codec and enum compress_plain.
    PROXY_WORKER_COMPRESSED,
    PROXY_WORKER_NAMED = PROXY_WORKER_COMPRESSED, // those before have names
    PROXY_WORKER_COMPRESSED_LAST = PROXY_WORKER_COMPRESSED + HTTP_CODECS - 2,
    PROXY_WORKER_COMPRESSED_IN, // bytes of their bodies, for each codec: from the origin, and
    PROXY_WORKER_COMPRESSED_IN_LAST = PROXY_WORKER_COMPRESSED_IN + HTTP_CODECS - 2,
    PROXY_WORKER_COMPRESSED_OUT, // to the client
    PROXY_WORKER_COMPRESSED_OUT_LAST = PROXY_WORKER_COMPRESSED_OUT + HTTP_CODECS - 2,
    PROXY_WORKER_PLAIN,
    PROXY_WORKER_PLAIN_LAST = PROXY_WORKER_PLAIN + COMPRESS_PLAINS - 2,
    PROXY_WORKER_COUNTERS
};
const char *proxy_worker_counter_name(enum proxy_worker_counter counter);
uint32_t proxy_worker_count(const struct proxy *proxy);
void proxy_worker_counts(const struct proxy *proxy, uint32_t worker, uint64_t out[PROXY_WORKER_COUNTERS]);

// ---- protection of endpoints ----

enum proxy_endpoint_health {
    PROXY_ENDPOINT_HEALTHY,
    PROXY_ENDPOINT_UNHEALTHY, // by active checks: out of use, and what is drawn for it an error of its
                              // version
    PROXY_ENDPOINT_NEW,       // no check has passed yet: out of use, and no error
};

struct proxy_endpoint_view {
    enum proxy_endpoint_health health;
    uint32_t failures;     // in a row
    uint64_t out_until_us; // ejected until then, on the clock of the workers' loops; in the past: it is not
};

// What active checks say of the endpoint of that slot; in force for all workers at once.
void proxy_endpoint_health_set(struct proxy *proxy, uint16_t endpoint, enum proxy_endpoint_health health,
                               uint64_t now_us);
// The slot means a new endpoint: healthy, and nothing is known against it. Before a table has it.
void proxy_endpoint_begin(struct proxy *proxy, uint16_t endpoint, uint64_t now_us);
void proxy_endpoint_get(const struct proxy *proxy, uint16_t endpoint, struct proxy_endpoint_view *view);
enum breaker_phase proxy_breaker_phase(const struct proxy *proxy, uint16_t version);

// ---- events ----

enum proxy_event_kind {
    PROXY_EVENT_REJECTED, // a request refused for its form
    PROXY_EVENT_LOCAL,    // another answer of our own: 404, 413, 408, 503
    PROXY_EVENT_UPSTREAM, // an attempt failed
    PROXY_EVENT_STATUS,   // the origin's answer is an error
    PROXY_EVENT_CUT,      // a response broke off in its middle
    PROXY_EVENT_FLAG,     // the version flag says no version; told once per worker, service and table
};

// Something a log should tell. reason is constant text.
struct proxy_event {
    int64_t wall_ms;
    enum proxy_event_kind kind;
    uint16_t status;  // answered to the client; 0: none (a retry hid it, or too late for one)
    uint16_t service; // slots, PROXY_SLOT_NONE where not known
    uint16_t version;
    uint16_t endpoint;
    const char *reason;
    uint64_t elapsed_us; // since it was routed; 0: it was not
    char client[PROXY_EVENT_CLIENT_BYTES];
    // As the client sent it, without the query; empty: not known.
    char method[PROXY_EVENT_METHOD_BYTES];
    char host[PROXY_EVENT_HOST_BYTES];
    char path[PROXY_EVENT_PATH_BYTES];
};

// Moves up to cap events of all workers to out, oldest first within each worker. Returns the count.
uint32_t proxy_events_take(struct proxy *proxy, struct proxy_event *out, uint32_t cap);

// ---- every request ----

// One request that is over. Texts are as the client sent them, whatever its route makes of them for the
// service, cut where they are longer; empty: not known.
struct proxy_access {
    int64_t wall_ms;     // its end
    uint64_t elapsed_us; // since it was routed; 0: it was not
    uint64_t bytes;      // of the answer's body
    uint16_t status;     // 0: the client left before there was one
    char service[PROXY_NAME_BYTES];
    char version[PROXY_NAME_BYTES];
    char route[PROXY_NAME_BYTES]; // where its route has a name
    char client[PROXY_EVENT_CLIENT_BYTES];
    char method[PROXY_EVENT_METHOD_BYTES];
    char host[PROXY_EVENT_HOST_BYTES];
    char target[PROXY_ACCESS_TARGET_BYTES];
    char referer[PROXY_ACCESS_FIELD_BYTES];
    char agent[PROXY_ACCESS_FIELD_BYTES];
    char request_id[PROXY_REQUEST_ID_BYTES];
};

// As proxy_events_take; from one thread at a time, which may be another than the events'.
uint32_t proxy_accesses_take(struct proxy *proxy, struct proxy_access *out, uint32_t cap);
