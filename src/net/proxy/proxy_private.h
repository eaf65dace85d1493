// SPDX-License-Identifier: Apache-2.0
// The worker and what it is made of. Everything here belongs to one worker's loop, but what is marked as
// shared.
//
//   client ── one connection of a client; reads heads, runs one exchange at a time, in order
//   exchange ─ one request and its answer; routed once, tried one or more times, completed exactly once
//   upstream ─ one connection to an endpoint; serves one exchange or lies idle in its pool
//   pool ──── one endpoint as this worker sees it
//
// No pointer into a table survives a turn: what an exchange needs later it copies, or looks up again by slot.
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/check.h"
#include "base/rng.h"
#include "base/text.h"
#include "net/http/http1.h"
#include "net/http/http1_write.h"
#include "net/proxy/proxy.h"
#include "net/proxy/sheet.h"
#include "net/proxy/table_private.h"

enum {
    SEND_HIGH_BYTES = 2 * IO_BUF_BYTES, // the source of a stream with more than that queued is paused
    COPY_MAX_BYTES = 4096,              // a shorter run of body is copied behind what is already to be sent
    HEAD_COPY_BYTES = 1024,             // longer heads are kept in a buffer for a second attempt
    LINGER_BYTES_MAX = 1 << 18,         // read and dropped after the last answer, so that the client sees it
    LINGER_US = 2000000,
    FREE_OBJECTS_MAX = 1024, // kept for reuse, per kind and worker
    REFUSE_CLIENTS_MAX = 64, // told "503" at one time beyond clients_max; further ones are just closed
    TRIED_MAX = 4,
    SKIP_US_MIN = 100000, // an endpoint that refused is passed over so long, doubling
    SKIP_DOUBLINGS_MAX = 6,
    CLIENT_ADDRESS_BYTES = 48,
    DRAIN_SPREAD_US = 1000000,
};

struct worker;
struct client;
struct exchange;
struct upstream;
struct pool;

// ---- chains of buffers ----

struct chain {
    struct io_buf *head;
    struct io_buf *tail;
};

void chain_push(struct chain *chain, struct io_buf *buf);
void chain_put(struct chain *chain);
// Gives all to the stream.
void chain_send(struct chain *chain, struct io_stream *stream);
// The tail when it has that much room, else a new buffer. NULL when there is none.
MUST_USE struct io_buf *chain_room(struct chain *chain, struct io_loop *loop, uint32_t bytes);
// Bytes of a message whose head is not complete yet: joins more to held so that they lie in one piece as far
// as one buffer goes. Takes both, returns the first of the chain.
MUST_USE struct io_buf *held_join(struct io_buf *held, struct io_buf *more);
// Moves bytes of the second buffer into the first. False when there is no second, or no room.
MUST_USE bool held_pull(struct io_buf *held);
// Drops n bytes from the front of the first buffer, and the buffer when it is empty.
MUST_USE struct io_buf *held_skip(struct io_buf *held, uint32_t n);

// One direction of an exchange.
struct body_relay {
    struct http1_body body;
    struct io_buf *trailers; // storage while a chunked body runs
    bool chunked_out;
    bool drop_trailers; // none go on
};

enum status body_relay_start(struct body_relay *relay, struct io_loop *loop, enum http_framing framing,
                             uint64_t content_length, const struct http1_limits *limits, bool chunked_out);
void body_relay_end(struct body_relay *relay);
// Takes the body bytes at the front of *in, framed anew, into out. *in becomes what is left (NULL: nothing).
// STATUS_OK (body.done may be set), INVALID for broken framing, FULL without buffers. flags: trailers that
// would pass for its fields do not go on; NULL: all do.
MUST_USE enum status body_relay_run(struct body_relay *relay, struct io_loop *loop, struct io_buf **in,
                                    struct chain *out, const struct proxy_service_flags *flags);
// The sender closed: completes an until-close body. STATUS_INVALID when the message is cut.
MUST_USE enum status body_relay_finish(struct body_relay *relay, struct io_loop *loop, struct chain *out);

// ---- client ----

enum client_state {
    CLIENT_OPEN,   // idle, reading a head, or in an exchange
    CLIENT_LINGER, // the last answer is on its way; what still comes is dropped
    CLIENT_CLOSED,
};

struct client {
    struct io_stream stream;
    struct io_timer timer;
    uint64_t due_us; // when the timer means it; it may be set earlier
    struct worker *worker;
    struct list link; // of the worker's clients
    struct exchange *exchange;
    struct io_buf *held; // received, not yet used
    uint32_t linger_bytes;
    uint8_t state;
    bool head_started; // a part of a head is held, its deadline runs
    bool paused;
    bool ended;   // the client sent its FIN
    bool running; // client_run is on the stack
    bool refused;
    uint8_t address_len;
    char address[CLIENT_ADDRESS_BYTES];
};

_Static_assert(sizeof(struct client) <= 512, "with its socket, an idle connection stays under 2 KiB");

void client_accept(struct worker *worker, int handle, const struct io_addr *peer);
void client_due(struct client *client, uint64_t due_us);
// Goes on with what is held: parses and begins exchanges as long as none is active.
void client_run(struct client *client);
// The exchange is over and freed; keep: the connection goes on.
void client_exchange_over(struct client *client, bool keep);
// Answers by ourselves. why is constant text. Returns whether the connection may go on: keep, and the answer
// was given (without a buffer it cannot be, and the next answer would be taken for it).
bool client_answer_local(struct client *client, unsigned status, const char *why, bool head_only, bool keep);
// Ends our side after what is queued and drops what still comes.
void client_linger(struct client *client);
void client_close(struct client *client, bool reset);
void client_pause(struct client *client);
void client_resume(struct client *client);
static inline struct slice client_address(const struct client *client)
{
    return (struct slice){client->address, client->address_len};
}

// ---- flags of a request ----

struct flag_answer {
    struct slice variant; // in the image; empty: none
    enum flags_arm arm;
    bool erred;
};

// Scratch of one request: its evaluation context and what its flags answered. Holds from
// request_flags_begin to the writing of the head, which is within one callback.
struct request_flags {
    bool counted; // evaluations go to the tallies
    bool ready;   // the context is built
    bool answered[PROXY_SERVICE_FLAGS_MAX];
    struct flag_answer answers[PROXY_SERVICE_FLAGS_MAX];
    struct flags_context context;
    struct flags_json nodes[PROXY_ATTRIBUTES_MAX + 1];
    struct http_field fields[PROXY_FLAG_HEADERS_MAX];
    char unit[16];
    char text[PROXY_FLAG_HEADERS_BYTES_MAX + 1];
    char scratch[FLAGS_SCRATCH_DEFAULT];
    uint64_t told[PROXY_SERVICES_MAX]; // the table by which the service's version flag was last complained of
};

// For services that have flags only; worker->request holds the head. counted: this is the first attempt.
void request_flags_begin(struct worker *worker, bool counted);
// The version that the version flag chooses, or NULL.
const struct proxy_version *request_flags_version(struct exchange *exchange,
                                                  const struct proxy_service *service);
// Where the arm flag's split puts the request; key is set unless NONE.
enum flags_arm request_flags_arm(struct exchange *exchange, const struct proxy_service *service,
                                 struct slice *key);
// Takes the client's own flag fields out of the request, then makes ours of at most room bytes, in
// worker->flags.fields. Returns their count.
size_t request_flags_fields(struct exchange *exchange, const struct proxy_service *service, size_t room);

// ---- exchange ----

enum attempt_error {
    ATTEMPT_5XX = PROXY_VERSION_ERROR_5XX,
    ATTEMPT_CONNECT = PROXY_VERSION_ERROR_CONNECT,
    ATTEMPT_TIMEOUT = PROXY_VERSION_ERROR_TIMEOUT,
    ATTEMPT_RESET = PROXY_VERSION_ERROR_RESET,
    ATTEMPT_BROKEN = PROXY_VERSION_ERROR_BROKEN,
    ATTEMPT_UNAVAILABLE = PROXY_VERSION_ERROR_UNAVAILABLE,
};

struct exchange {
    struct client *client;
    struct upstream *upstream; // NULL between attempts
    struct version_sheet *counts;
    struct sheet *sheet;
    uint64_t span;
    uint64_t unit_hash;
    uint64_t unit_cookie; // set_cookie: the unit to tell the client
    uint64_t started_us;  // routed
    uint64_t attempt_us;  // this attempt began
    uint64_t sent_us;     // the request's last byte was handed on
    uint64_t activity_us; // the last byte or drain either way
    uint64_t deadline_us; // good only within it, counted from started_us
    struct proxy_timeouts timeouts;
    struct body_relay request;
    struct body_relay response;
    struct chain pending;    // request bytes that wait for the connect
    struct io_buf *head_buf; // the kept head when it is too long for `head`
    uint32_t head_len;       // repeatable: bytes of the request's head as received
    uint16_t service;
    uint16_t version;
    uint16_t status; // the origin's, once known
    uint16_t tried[TRIED_MAX];
    uint8_t attempts;
    uint8_t place;  // where it counts: an arm, or SHEET_RING
    uint8_t method; // enum http_method
    bool keyed;     // the unit is more than this request
    bool event_counted;
    bool erred; // an attempt of it failed
    bool retrying;
    bool repeatable; // idempotent and without a body
    bool operator_sent;
    bool set_cookie;
    bool flag_fields; // the service that it was routed to sets some
    bool http10;
    bool keep_client;
    bool upgrade;
    bool request_done;
    bool upstream_keep; // the origin lets its connection live
    bool answering;     // the final head went to the client
    bool completed;     // counted
    bool tunnel;
    bool tunnel_client_ended, tunnel_upstream_ended;
    char head[HEAD_COPY_BYTES];
};

// Begins the exchange for worker->request, whose head is the first head_len bytes of client->held.
void exchange_begin(struct client *client, const struct proxy_service *service, uint32_t head_len);
// The request's unit. False when it has none and so stands for itself. *sticky is storage for it.
bool exchange_unit(struct exchange *exchange, const struct proxy_service *service, uint64_t *sticky,
                   struct slice *unit);
// More bytes of the request (taken).
void exchange_request_data(struct exchange *exchange, struct io_buf *buf);
void exchange_client_failed(struct exchange *exchange);
void exchange_client_drained(struct exchange *exchange);
void exchange_upstream_opened(struct exchange *exchange, enum status status);
void exchange_upstream_drained(struct exchange *exchange);
// The upstream ended before the answer was complete.
void exchange_upstream_ended(struct exchange *exchange, enum status status);
void exchange_on_deadline(struct exchange *exchange);
// The attempt failed: counts it, then tries again or gives up.
void exchange_attempt_failed(struct exchange *exchange, enum attempt_error error, const char *why);
// Counts an attempt's failure without ending it.
void exchange_count_error(struct exchange *exchange, enum attempt_error error, const char *why);
enum exchange_fate { FATE_OK, FATE_ERROR, FATE_ABORTED };
// Completes the accounting, once; later calls do nothing.
void exchange_complete(struct exchange *exchange, enum exchange_fate fate);
// Gives up the upstream (into its pool or closed), frees the exchange, tells the client.
void exchange_end(struct exchange *exchange, bool reuse_upstream, bool keep_client);
// As end, but the client's connection is reset: its answer must not look complete.
void exchange_cut(struct exchange *exchange);
// No buffer was to be had.
void exchange_starved(struct exchange *exchange);
uint64_t exchange_due(const struct exchange *exchange);

// response.c: bytes from the upstream (taken).
void response_data(struct exchange *exchange, struct io_buf *buf);
// The upstream ended in an orderly way while the answer's body was running.
void response_finish(struct exchange *exchange);
// tunnel.c
void tunnel_open(struct exchange *exchange, struct io_buf *rest);
void tunnel_client_data(struct exchange *exchange, struct io_buf *buf);
void tunnel_upstream_data(struct exchange *exchange, struct io_buf *buf);
void tunnel_client_ended(struct exchange *exchange);
void tunnel_upstream_ended(struct exchange *exchange);
void tunnel_upstream_drained(struct exchange *exchange);
void tunnel_close(struct exchange *exchange, bool reset);

// ---- upstream and pool ----

struct upstream {
    struct io_stream stream;
    struct pool *pool;
    struct exchange *exchange; // NULL: idle, or closing
    struct list link;          // of the worker's upstreams in use, or of the pool's idle ones
    struct io_buf *held;       // part of an answer's head
    uint64_t idle_since_us;
    uint32_t uses;
    bool connecting;
    bool closed;
    bool paused;
    bool answered; // a byte came for this exchange
};

struct pool {
    struct worker *worker;
    struct list idle; // newest first
    struct io_timer timer;
    struct list link; // of the worker's pools with idle connections
    uint64_t idle_max_us;
    uint64_t skip_until_us;
    uint64_t table; // the newest table that has this endpoint
    uint32_t failures;
    uint32_t active; // exchanges on it
    uint32_t open;   // connections
    uint16_t slot;
};

void pool_init(struct pool *pool, struct worker *worker, uint16_t slot);
// Chooses an endpoint of the version that the exchange has not tried yet, if it can be helped. NULL: none can
// take it.
const struct proxy_endpoint *pool_choose(struct exchange *exchange, const struct proxy_version *version);
// A connection of that endpoint for the exchange, reused or begun. NULL without memory.
struct upstream *upstream_take(struct exchange *exchange, const struct proxy_endpoint *endpoint);
// The exchange has no more use for it.
void upstream_give_back(struct upstream *upstream);
void upstream_close(struct upstream *upstream);
void upstream_pause(struct upstream *upstream);
void upstream_resume(struct upstream *upstream);
void pool_failed(struct pool *pool);
void pool_close_idle(struct pool *pool);

// ---- worker ----

struct service_load {
    uint32_t active;
    uint32_t retrying;
};

struct free_list {
    void *first;
    uint32_t count;
};

struct event_ring {
    _Alignas(64) _Atomic uint32_t head; // the worker's
    _Alignas(64) _Atomic uint32_t tail; // the reader's
    struct proxy_event events[PROXY_EVENTS];
};

struct listener {
    struct io_listener io;
    struct worker *worker;
};

enum worker_phase { PHASE_SERVE, PHASE_DRAIN, PHASE_STOP };

struct worker {
    struct proxy *proxy;
    struct io_loop *loop;
    const struct proxy_table *table; // in force since this turn's beginning
    uint32_t index;
    uint32_t clients_open;
    uint32_t clients_refusing;
    uint32_t upstreams_open;
    enum worker_phase phase;
    uint64_t tick;
    struct rng rng;
    struct list clients;
    struct list upstreams;  // in use
    struct list pools_idle; // with idle connections
    struct free_list free_clients, free_upstreams, free_exchanges;
    uint32_t listener_count;
    struct listener listeners[PROXY_LISTEN_MAX];
    struct io_task wake;
    pthread_t thread;
    // Shared with control, read-mostly or written here only.
    _Alignas(64) atomic_bool wake_pending;
    _Atomic bool stopped;
    _Alignas(64) _Atomic uint64_t acknowledged; // table version
    _Atomic uint64_t passed;                    // ticks before this one are over for this worker
    _Atomic uint64_t counters[PROXY_WORKER_COUNTERS];
    struct event_ring events;
    // Filled by control before the table that names the slot is published.
    struct version_sheet *versions[PROXY_VERSIONS_MAX];
    struct sheet *sheets[PROXY_SERVICES_MAX];
    struct pool *pools[PROXY_ENDPOINTS_MAX];
    struct service_load loads[PROXY_SERVICES_MAX];
    // Scratch of one callback.
    struct http1_request request;
    struct http1_response response;
    struct http_fields trailers;
    struct request_flags flags;
};

static inline void worker_count(struct worker *worker, enum proxy_worker_counter counter)
{
    sheet_add64(&worker->counters[counter], 1);
}

static inline uint64_t worker_now_us(const struct worker *worker)
{
    return io_loop_now_us(worker->loop);
}

MUST_USE enum status worker_listen(struct worker *worker);
void worker_begin(struct worker *worker);
void worker_deinit(struct worker *worker);
// Objects for reuse; NULL without memory. get gives zeroed memory only when fresh: the taker sets every
// field.
void *free_list_get(struct free_list *list, size_t size);
void free_list_put(struct free_list *list, void *object);
void free_list_clear(struct free_list *list);

struct event_where {
    uint16_t service, version, endpoint;
};
void worker_event(struct worker *worker, enum proxy_event_kind kind, unsigned status, const char *why,
                  struct slice client, struct event_where where);

// ---- proxy ----

struct proxy {
    _Atomic(const struct proxy_table *) table;
    _Atomic int phase; // enum worker_phase
    uint64_t epoch_us; // tick zero
    uint32_t worker_count;
    uint32_t clients_max;
    uint32_t bufs_max;
    uint32_t body_rate_min;
    enum io_kind io;
    struct http1_limits limits;
    uint32_t listen_count;
    struct io_addr listen[PROXY_LISTEN_MAX];
    bool running; // threads, or attached
    bool threads;
    struct proxy_table *newest;
    struct proxy_table *retired; // newest first
    struct sheet_seen *seen[PROXY_SERVICES_MAX];
    struct sheet_errors *errors;
    struct worker *workers[PROXY_WORKERS_MAX];
};
