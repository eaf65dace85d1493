// SPDX-License-Identifier: Apache-2.0
// The worker and what it is made of. Everything here belongs to one worker's loop, but what is marked as
// shared.
//
//   client ── what the server (net/server) tells of requests; each that has a route becomes an exchange
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
#include "net/http/proxy_header.h"
#include "net/io/chain.h"
#include "net/proxy/assign.h"
#include "net/proxy/outcome.h"
#include "net/proxy/proxy.h"
#include "net/proxy/sheet.h"
#include "net/proxy/table_private.h"
#include "net/server/frame.h"
#include "net/server/server.h"

enum {
    SEND_HIGH_BYTES = 2 * IO_BUF_BYTES, // the source of a stream with more than that queued is paused
    GATHER_BYTES_MAX = 16384,
    HOLD_US_MAX = 1000000,  // an answer that is looked at is judged then, by what was seen of it
    HEAD_COPY_BYTES = 1280, // longer heads are kept in a buffer for a second attempt
    TRIED_MAX = 4,
    CLIENT_BYTES = 48,            // an address; what is told as one and is longer is cut
    CERTIFICATE_BYTES_MAX = 4096, // all that a request tells of its client's certificate
    SKIP_US_MIN = 100000,         // an endpoint that refused is passed over so long, doubling
    SKIP_DOUBLINGS_MAX = 6,
};

struct worker;
struct exchange;
struct upstream;
struct pool;

// ---- client ----

extern const struct server_handler CLIENT_HANDLER;

// Answers by ourselves and counts it. why is constant text. Ends the stream. False: no answer could be made.
// retry_s: in so many seconds it is worth asking again; 0: nothing is said.
bool client_answer(struct server_stream *stream, unsigned status, const char *why, bool head_only, bool close,
                   uint32_t retry_s);

// The same for an answer that says more.
bool client_answer_made(struct server_stream *stream, const struct http_answer *answer);

// ---- flags of a request ----

struct flag_answer {
    struct slice variant; // in the image; empty: none
    enum flags_arm arm;
    bool erred;
};

// Scratch of one request: its evaluation context and what its flags answered. Holds from
// request_flags_begin to the writing of the head, which is within one callback.
struct request_flags {
    bool ready; // the context is built
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

// A value of worker->request, in UTF-8. False: it has none.
bool request_attribute(const struct exchange *exchange, const struct proxy_attribute *attribute,
                       struct slice *value);
// For services that have flags only; worker->request holds the head.
void request_flags_begin(struct worker *worker);
// The version that the version flag chooses, or NULL.
const struct proxy_version *request_flags_version(struct exchange *exchange,
                                                  const struct proxy_service *service);
// Where the arm flag's split puts the request; key is set unless NONE.
enum flags_arm request_flags_arm(struct exchange *exchange, const struct proxy_service *service,
                                 struct slice *key);
// Takes the client's own flag fields out of the request, then makes ours of at most room bytes, in
// worker->flags.fields. Returns their count.
size_t request_flags_fields(struct exchange *exchange, const struct proxy_service *service, size_t room);

// ---- identity.c: whose a request is

// Before a request of a table with `identity` is looked at: what strangers say of clients goes, and what
// services are told comes. NULL, or why it cannot be told, as the text of a 431.
const char *identity_settle(struct server_stream *stream, struct http_request *request);
// The client of worker->request, borrowed from it or from the stream.
struct slice identity_client(const struct server_stream *stream);
// Keeps what the exchange needs when the request is gone.
void identity_keep(struct exchange *exchange);
// What stands in a trailer some origins take for a header.
void identity_trailers(const struct worker *worker, struct http_fields *trailers);

// ---- action.c: what the request's route does, where it does more than to lead to a service ----

// Scratch of one callback.
struct action_scratch {
    struct http_field fields[PROXY_EDITS_MAX + PROXY_FLAG_HEADERS_MAX + 1];
    char path[HTTP1_START_LINE_BYTES_MAX];
    char text[2 * HTTP1_START_LINE_BYTES_MAX];
};

// The exchange holds it until its end, and has its times.
void action_hold(struct exchange *exchange, struct proxy_action *action);
// What the service of a written route gets. STATUS_FULL: it would be too long.
MUST_USE enum status action_forward(struct exchange *exchange, const struct proxy_route *route,
                                    struct http1_forward *forward);
// More fields behind those of the route.
void action_add_fields(struct worker *worker, struct http1_forward *forward, const struct http_field *fields,
                       size_t count);
void action_request_trailers(const struct exchange *exchange, struct http_fields *trailers);
// For exchanges with an action.
void action_response(struct exchange *exchange, struct http_response *response, struct server_added *added);
void action_response_trailers(const struct exchange *exchange, struct http_fields *trailers);
// Answers by ourselves what has a route without a service, or came in the clear where it should not.
void action_answer(struct server_stream *stream, const struct proxy_route *route);
void action_redirect_https(struct server_stream *stream);

// ---- compressed.c: answers that are compressed on their way ----

enum {
    COMPRESSED_STREAMS_MAX = 64,    // of one worker; further answers stay as they are
    COMPRESSED_TURN_BYTES = 131072, // of bodies that a worker compresses in one turn of its loop, ...
                                    // beyond what is at hand in one buffer; more waits for the next
    COMPRESSED_HOLD_US = 10000,     // bytes that came are with the client, or on their way, after it
    COMPRESSED_OUT_BYTES = 16384,
};

// Of one worker.
struct compressing {
    uint32_t streams;
    uint32_t spent; // bytes, in that turn
    uint64_t turn;
    struct list waiting; // for the next
    struct io_timer next;
    struct free_list free;
    char out[COMPRESSED_OUT_BYTES]; // scratch
};

void compressed_init(struct compressing *compressing);
// Notes what the client accepts; the exchange has its action.
void compressed_ask(struct exchange *exchange);
// The final head, with all that else is added to it: makes it that of a compressed answer, or not.
void compressed_head(struct exchange *exchange, struct http_response *response, struct server_added *added);
// The rest is for exchanges whose answer is compressed.
// Whether the bytes wait (taken) until others have had their turn.
bool compressed_wait(struct exchange *exchange, struct io_buf *buf);
bool compressed_waits(const struct exchange *exchange);
// A run of the body, and its end. Statuses as server_data.
MUST_USE enum status compressed_data(struct exchange *exchange, struct slice run);
MUST_USE enum status compressed_end(struct exchange *exchange);
void compressed_free(struct exchange *exchange);

// ---- mirrored.c: requests that are sent a second time ----

// For services with a plan: selects, and copies the head as written.
void mirrored_begin(struct exchange *exchange, const struct proxy_service *service);
// The rest is for exchanges with a copy. A run of the request's body; its trailers; its end.
void mirrored_request_data(struct exchange *exchange, struct slice run);
void mirrored_request_ended(struct exchange *exchange, const struct http_fields *trailers);
void mirrored_request_sent(struct exchange *exchange);
// The answer's head (worker->response) before anybody edits it, and runs of its body.
void mirrored_answer(struct exchange *exchange);
void mirrored_data(struct exchange *exchange, struct slice run);
// whole: the answer was.
void mirrored_over(struct exchange *exchange, bool whole);

// ---- exchange ----

// More bytes of a request's body than that are refused.
static inline uint64_t body_bytes_max(const struct proxy_service *service, const struct proxy_action *action)
{
    return action != NULL && action->body_bytes_max != 0 ? action->body_bytes_max : service->body_bytes_max;
}

enum attempt_error {
    ATTEMPT_5XX = PROXY_VERSION_ERROR_5XX,
    ATTEMPT_STATUS = PROXY_VERSION_ERROR_STATUS,
    ATTEMPT_HEADER = PROXY_VERSION_ERROR_HEADER,
    ATTEMPT_GRPC = PROXY_VERSION_ERROR_GRPC,
    ATTEMPT_BODY = PROXY_VERSION_ERROR_BODY, // the last that an answer says
    ATTEMPT_CONNECT = PROXY_VERSION_ERROR_CONNECT,
    ATTEMPT_TLS = PROXY_VERSION_ERROR_TLS,
    ATTEMPT_TIMEOUT = PROXY_VERSION_ERROR_TIMEOUT,
    ATTEMPT_RESET = PROXY_VERSION_ERROR_RESET,
    ATTEMPT_BROKEN = PROXY_VERSION_ERROR_BROKEN,
    ATTEMPT_UNAVAILABLE = PROXY_VERSION_ERROR_UNAVAILABLE,
    ATTEMPT_EJECTED = PROXY_VERSION_ERROR_EJECTED,
    ATTEMPT_OPEN = PROXY_VERSION_ERROR_OPEN,
};

struct exchange {
    struct worker *worker;
    struct server_stream *stream;
    struct upstream *upstream; // NULL between attempts
    struct slice from;         // the connection's client: its text
    struct slice client;       // whose the request is, as far as can be believed
    struct version_sheet *counts;
    struct sheet *sheet;
    uint64_t epoch; // that it was routed in, and by which weights
    uint32_t weight, weight_control;
    uint64_t span;
    uint64_t unit_hash;
    uint64_t hash;        // hashed: of what picks its endpoint
    uint64_t unit_cookie; // set_cookie: the unit to tell the client
    uint64_t started_us;  // routed
    uint64_t attempt_us;  // this attempt began
    uint64_t sent_us;     // the request's last byte was handed on
    uint64_t activity_us; // the last byte or drain either way, or progress that a look at due time found
    uint64_t client_mark, upstream_mark; // of io_stream_taking
    uint64_t leave_us;                   // it ends then: what serves it has left; 0: not so
    uint64_t deadline_us;                // good only within it, counted from started_us
    uint64_t hold_until_us;     // its outcome waits for more of the answer until then; 0: it does not
    uint64_t hold_waited_us;    // how long the answer took to begin, meanwhile
    struct outcome_watch watch; // what of the answer is still to be looked at
    struct proxy_timeouts timeouts;
    uint64_t request_bytes;                 // of its body, so far
    uint64_t rate_from_us, rate_from_bytes; // the client's rate counts from there: it was held back before
    struct proxy_action *action;            // of its route, held; NULL: none
    struct compress_asked asked;            // where the action compresses
    struct compressed *compressed;          // the answer's; NULL: it is not
    struct mirror_copy *mirrored;           // NULL: it is not sent a second time
    struct io_buf *response_trailers;       // storage while a chunked answer runs
    struct io_chain pending;                // request bytes that wait for the connect
    struct asked_head *asked_head;          // where that is not what its service gets; NULL: the kept head is
    struct io_buf *head_buf;                // the kept head when it is too long for `head`
    uint32_t head_len;                      // bytes kept of the head as written; repeatable: all
    uint16_t service;
    uint16_t version;
    uint16_t status; // the origin's, once known
    uint16_t tried[TRIED_MAX];
    uint8_t attempts;
    uint8_t canary_attempts; // of them, before it fell back
    uint8_t place;           // where it counts: an arm, or SHEET_RING
    uint8_t method;          // enum http_method
    bool hashed;             // its service spreads by a value that it has
    bool keyed;              // the unit is more than this request
    bool in_arm;             // it is evidence of `place`, once the client has sent it all
    bool entered;            // it is counted there
    bool told;               // so is its outcome
    bool event_counted;
    bool erred;   // an attempt of it failed
    bool faulty;  // the answer itself is an error
    bool defined; // its service says by itself what one is
    bool retrying;
    bool repeatable; // idempotent and without a body
    bool operator_sent;
    bool set_cookie;
    bool flag_fields; // the service that it was routed to sets some
    bool close;       // an answer of our own is the connection's last
    bool upgrade;
    bool request_chunked;
    bool request_done;
    bool gathers;       // a short body is awaited before an endpoint is asked
    bool upstream_keep; // the origin lets its connection live
    bool admitted;      // its version is protected, and has a part in it that is not over
    bool limited;       // it counts among the version's requests under way
    bool probe;         // of its version's breaker
    bool outlied;       // the attempt's failure is counted against its endpoint
    bool moved;         // once to another connection, for the first one was leaving
    bool fallen_back;   // nothing reached the canary: the stable version serves it
    bool answering;     // the final head went to the client
    bool completed;     // counted
    bool tunnel;
    bool tunnel_client_ended, tunnel_upstream_ended;
    uint8_t request_id_len;
    struct http1_body response;
    char head[HEAD_COPY_BYTES];
    char request_id[PROXY_REQUEST_ID_BYTES];
    char client_text[CLIENT_BYTES];
};

// Begins the exchange for worker->request, by worker->route.
void exchange_begin(struct server_stream *stream, const struct proxy_service *service);
// The request's unit. False when it has none and so stands for itself. *sticky is storage for it.
bool exchange_unit(struct exchange *exchange, const struct proxy_service *service, uint64_t *sticky,
                   struct slice *unit);
// The request's body, as the server tells it.
void exchange_request_data(struct exchange *exchange, struct slice run, struct io_buf **buf);
void exchange_request_ended(struct exchange *exchange, struct http_fields *trailers);
void exchange_request_flush(struct exchange *exchange);
void exchange_request_refused(struct exchange *exchange, unsigned status, const char *why);
void exchange_client_gone(struct exchange *exchange);
void exchange_client_drained(struct exchange *exchange);
void exchange_upstream_opened(struct exchange *exchange, enum status status);
void exchange_upstream_drained(struct exchange *exchange);
// The upstream ended before the answer was complete.
void exchange_upstream_ended(struct exchange *exchange, enum status status);
// The time set for the stream has come; what is waited for may have moved its own since.
void exchange_on_due(struct exchange *exchange);
// What is pending goes to the upstream, or waits until it is connected: until then no byte has left.
void exchange_send_pending(struct exchange *exchange);
// The client may send again, where it was held back.
void exchange_let_client_on(struct exchange *exchange);
// What the table in force says of the exchange's service; NULL when it has gone.
const struct proxy_service *exchange_service(const struct exchange *exchange);
void exchange_event(struct exchange *exchange, enum proxy_event_kind kind, unsigned status, const char *why);

// ---- attempt.c ----

// Takes up a connection to one of the version's endpoints and sends what is pending.
void exchange_attempt(struct exchange *exchange);
// The attempt failed: counts it, then tries again or gives up.
void exchange_attempt_failed(struct exchange *exchange, enum attempt_error error, const char *why);
// Counts an attempt's failure without ending it.
void exchange_count_error(struct exchange *exchange, enum attempt_error error, const char *why);
enum exchange_fate { FATE_OK, FATE_ERROR, FATE_ABORTED };
// The answer begins: tells the evidence how long it took and what it is, or, while exchange->watch is open,
// holds that for at most HOLD_US_MAX. Whatever the body does later, the version has answered; that a body
// breaks off is counted as an error then.
void exchange_answered(struct exchange *exchange);
// Ends the hold, if there is one.
void exchange_settle(struct exchange *exchange);
// Completes the accounting, once; later calls do nothing.
void exchange_complete(struct exchange *exchange, enum exchange_fate fate);
// Gives up the upstream (into its pool or closed), frees the exchange, ends the stream.
void exchange_end(struct exchange *exchange, bool reuse_upstream);
// As end, but the stream is reset: its answer must not look complete.
void exchange_cut(struct exchange *exchange);
// Answers for the origin, and ends the exchange.
void exchange_answer(struct exchange *exchange, unsigned status, const char *why);
// The same; retry_s as in client_answer.
void exchange_answer_later(struct exchange *exchange, unsigned status, const char *why, uint32_t retry_s);
// Into its pool, or closed; it may have none.
void exchange_drop_upstream(struct exchange *exchange, bool reuse);
// A connection that could not be had, and why; `shaking`: within its handshake, where TLS alone may know
// more.
void exchange_not_connected(struct exchange *exchange, const char *plain, const char *shaking);
// No buffer was to be had.
void exchange_starved(struct exchange *exchange);
uint64_t exchange_due(const struct exchange *exchange);

// response.c: sends to the client, and holds the origin back while the client does not keep up.
void response_flush(struct exchange *exchange);
// Bytes from the upstream (taken).
void response_data(struct exchange *exchange, struct io_buf *buf);
// The upstream ended in an orderly way while the answer's body was running.
void response_finish(struct exchange *exchange);
// The trailers of the answer that then finishes, as lines (taken).
void response_trailers(struct exchange *exchange, struct io_buf *lines);
// tunnel.c
// early: what the client sent behind its request; rest: what the origin sent behind its head. Both taken.
void tunnel_open(struct exchange *exchange, struct io_buf *early, struct io_buf *rest);
void tunnel_client_data(struct exchange *exchange, struct io_buf *buf);
void tunnel_upstream_data(struct exchange *exchange, struct io_buf *buf);
void tunnel_client_ended(struct exchange *exchange);
void tunnel_upstream_ended(struct exchange *exchange);
void tunnel_upstream_drained(struct exchange *exchange);
void tunnel_close(struct exchange *exchange, bool reset);
// Counts the end of a tunnel whose client is gone.
void tunnel_gone(struct exchange *exchange);

// ---- upstream and pool ----

struct upstream {
    struct io_stream stream;
    struct pool *pool;
    struct exchange *exchange;       // NULL: idle, or closing
    struct list link;                // of the worker's upstreams in use, or of the pool's idle ones
    struct io_buf *held;             // part of an answer's head
    const struct tls_client *client; // that it was begun with; NULL: in the clear
    struct session
        *session; // it is a stream of that, not a connection, and `stream` is not used; NULL: HTTP/1
    struct session *carries; // it is the connection of that
    uint64_t idle_since_us;
    uint32_t uses;
    uint32_t generation;            // of its pool, when it was begun
    uint8_t header;                 // version of the PROXY header that it began with; 0: none
    struct http_proxy_header whose; // as that told
    bool connecting; // until it is open, and still so when that failed: no byte of a request has left
    bool closed;
    bool paused;
    bool answered; // a byte came for this exchange
};

struct pool {
    struct worker *worker;
    struct list sessions; // connections of HTTP/2
    struct list idle;     // newest first
    struct io_timer timer;
    struct list link; // of the worker's pools with idle connections
    uint64_t idle_max_us;
    uint64_t skip_until_us;
    uint64_t latency_us;  // of good answers, averaged with the newest counting most
    uint64_t measured_us; // when the last of them was measured
    uint32_t measured;    // how many of them, as far as that matters
    uint64_t table;       // the newest table that has this endpoint
    uint32_t generation;  // grows when the slot comes back: it may then mean another address
    uint32_t failures;
    uint32_t active; // exchanges on it
    uint32_t open;   // connections
    uint16_t slot;
    bool secure;               // by TLS alone
    bool http2;                // by HTTP/2; secure: where the origin agrees
    bool http1;                // http2: it agreed to HTTP/1.1 when it was asked last
    struct tls_client *client; // of the table in force; NULL and secure: none can be used
    struct tls_resume resume;
    uint8_t header; // of its endpoint
};

// How the endpoint is spoken to from now on. Idle connections that were begun otherwise are closed.
void pool_speak(struct pool *pool, bool secure, bool http2, struct tls_client *client);
// The slot comes back, perhaps as another address: nothing is known against it.
void pool_renew(struct pool *pool);
void pool_init(struct pool *pool, struct worker *worker, uint16_t slot);
void pool_destroy(struct pool *pool); // NULL is allowed; after its streams
// Chooses an endpoint of the version that the exchange has not tried yet, if it can be helped. NULL: none can
// take it.
const struct proxy_endpoint *pool_choose(struct exchange *exchange, const struct proxy_version *version);
// Whether a connection to it may be used or begun; and whether nothing is known against it besides.
bool pool_has_room(const struct exchange *exchange, const struct proxy_endpoint *endpoint);
bool pool_eligible(const struct exchange *exchange, const struct proxy_endpoint *endpoint);
// A connection of that endpoint for the exchange, reused or begun. NULL without memory.
struct upstream *upstream_take(struct exchange *exchange, const struct proxy_endpoint *endpoint);
// The exchange has no more use for it.
void upstream_give_back(struct upstream *upstream);
void upstream_close(struct upstream *upstream);
void upstream_pause(struct upstream *upstream);
void upstream_resume(struct upstream *upstream);
// Its endpoint is passed over for a while.
void upstream_failed(struct upstream *upstream);
void pool_close_idle(struct pool *pool);
// Begins a connection. NULL: no memory, or no way to speak to it that can be used.
struct upstream *upstream_connect(struct pool *pool, const struct proxy_endpoint *endpoint);
void upstream_use(struct upstream *upstream, struct exchange *exchange);
extern const struct io_stream_ops upstream_ops;

// ---- session.c: HTTP/2 towards origins, where pool->http2 is set ----

// Whether one of its connections takes another request.
bool session_has_room(const struct pool *pool);
// A stream for the exchange, of a connection that has room or is begun. NULL without memory, or connections.
struct upstream *session_take(struct exchange *exchange, struct pool *pool,
                              const struct proxy_endpoint *endpoint);
// None takes another request, and each ends with its last one.
void session_retire_all(struct pool *pool);
// The rest is for upstreams that are streams. Bytes as they would go to an origin of HTTP/1 (taken).
void session_send(struct upstream *upstream, struct io_chain *bytes);
uint32_t session_unsent(const struct upstream *upstream);
bool session_taking(struct upstream *upstream, uint64_t *mark); // as io_stream_taking
void session_resume(struct upstream *upstream);
void session_leave(struct upstream *upstream);
// Its connection takes no further request: who comes next begins another one.
void session_retire(struct upstream *upstream);
// The connection below the stream.
const struct io_stream *session_wire(const struct upstream *upstream);

static inline void upstream_send(struct upstream *upstream, struct io_chain *bytes)
{
    if (LIKELY(upstream->session == NULL))
        io_chain_send(bytes, &upstream->stream);
    else
        session_send(upstream, bytes);
}

static inline uint32_t upstream_unsent(const struct upstream *upstream)
{
    return LIKELY(upstream->session == NULL) ? io_stream_pending(&upstream->stream)
                                             : session_unsent(upstream);
}

static inline const struct io_stream *upstream_wire(const struct upstream *upstream)
{
    return LIKELY(upstream->session == NULL) ? &upstream->stream : session_wire(upstream);
}

// ---- upstream_header.c: where pool->header is not 0

// An idle connection that is this client's. NULL: there is none, and room for one was made.
struct upstream *upstream_header_idle(const struct exchange *exchange, struct pool *pool,
                                      const struct proxy_endpoint *endpoint);
// Queues the header of a connection that was begun for the exchange. False without a buffer.
MUST_USE bool upstream_header_say(const struct exchange *exchange, struct upstream *upstream);

// ---- worker ----

struct service_load {
    uint32_t active;
    uint32_t retrying;
};

struct event_ring {
    _Alignas(64) _Atomic uint32_t head; // the worker's
    _Alignas(64) _Atomic uint32_t tail; // the reader's
    struct proxy_event events[PROXY_EVENTS];
};

// failing.c
struct failing {
    pthread_mutex_t lock; // the worker never waits for it
    struct rollout_failures seen;
};

struct access_ring {
    _Alignas(64) _Atomic uint32_t head; // the worker's
    _Alignas(64) _Atomic uint32_t tail; // the reader's
    struct proxy_access items[PROXY_ACCESSES];
};

enum worker_phase { PHASE_SERVE, PHASE_DRAIN, PHASE_STOP };

struct worker {
    struct proxy *proxy;
    struct io_loop *loop;
    const struct proxy_table *table; // in force since this turn's beginning
    uint32_t index;
    uint32_t upstreams_open;
    enum worker_phase phase;
    uint64_t tick;
    struct rng rng;
    struct server server;
    struct list upstreams;  // in use
    struct list pools_idle; // with idle connections
    struct free_list free_upstreams, free_exchanges, free_asked, free_session_streams;
    struct io_task wake;
    uint64_t asked_ms; // proxy_stalled_ms
    pthread_t thread;
    // Shared with control, read-mostly or written here only.
    _Alignas(64) atomic_bool wake_pending;
    _Atomic bool stopped;
    _Alignas(64) _Atomic uint64_t acknowledged; // table version
    _Atomic uint64_t passed;                    // ticks before this one are over for this worker
    _Atomic uint64_t counters[PROXY_WORKER_COUNTERS];
    struct event_ring events;
    struct access_ring *access; // NULL: nobody asks
    // Filled by control before the table that names the slot is published.
    struct version_sheet *versions[PROXY_VERSIONS_MAX];
    struct sheet *sheets[PROXY_SERVICES_MAX];
    struct failing *failing[PROXY_SERVICES_MAX];
    struct pool *pools[PROXY_ENDPOINTS_MAX];
    struct service_load loads[PROXY_SERVICES_MAX];
    // Scratch of one callback.
    char network[2 * ASSIGN_NETWORK_BYTES];
    struct http_request *request;
    const struct proxy_route *route; // the request's
    uint32_t hops;                   // entries of its X-Forwarded-For that are believed
    struct slice request_id;         // empty: none is given
    char request_id_text[32];
    char certificate_text[CERTIFICATE_BYTES_MAX];
    struct http_response response;
    struct request_flags flags;
    struct action_scratch action;
    struct compressing compressing;
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

// What a client asked; slices of the request or of what is kept of it. Empty: not known.
struct asked {
    struct slice method, target, host, referer, agent, request_id;
};
struct event_where {
    uint16_t service, version, endpoint;
};
// asked NULL: not known; elapsed_us as in struct proxy_event.
void worker_event(struct worker *worker, enum proxy_event_kind kind, unsigned status, const char *why,
                  struct slice client, struct event_where where, const struct asked *asked,
                  uint64_t elapsed_us);

// ---- access.c

struct asked asked_of_request(const struct worker *worker); // of worker->request
// Keeps what the exchange's client asked, before its route writes another target or other fields.
void asked_keep(struct exchange *exchange);
void asked_drop(struct exchange *exchange);
// From what was kept, good as long as the exchange.
struct asked asked_of_exchange(const struct exchange *exchange);
void asked_copy(struct slice from, char *to, size_t cap);
// One line of the access log; only where worker->access is. The second for an exchange that ends now.
// route: its name.
void access_tell(struct worker *worker, unsigned status, struct slice client, const struct asked *asked,
                 struct slice route);
void access_tell_exchange(struct exchange *exchange);

// ---- failing.c: which requests of a run failed, for people

// An attempt of the request failed, the first one.
void failing_error(const struct exchange *exchange, enum attempt_error error);
// Its outcome is known: whether it was slow, or answered 3xx or 4xx.
void failing_answered(const struct exchange *exchange, const struct rollout_yardstick *by,
                      uint64_t waited_us);
void failing_forget(struct proxy *proxy, uint16_t service);

// ---- proxy ----

struct proxy {
    _Atomic(const struct proxy_table *) table;
    _Atomic int phase; // enum worker_phase
    uint64_t epoch_us; // tick zero
    uint32_t worker_count;
    uint32_t clients_max;
    uint32_t bufs_max;
    enum io_kind io;
    struct http1_limits limits;
    uint32_t listen_count;
    struct io_addr listen[PROXY_LISTEN_MAX];
    uint32_t listen_secure; // a bit for each
    struct mirror *mirror;  // NULL: none
    bool running;           // threads, or attached
    bool threads;
    struct proxy_table *newest;
    struct proxy_table *retired;                   // newest first
    struct sheet_units *units[PROXY_SERVICES_MAX]; // NULL: never needed
    struct worker *workers[PROXY_WORKERS_MAX];
    struct endpoint_state *endpoint_states; // [PROXY_ENDPOINTS_MAX], shared by the workers
    struct version_state *version_states;   // [PROXY_VERSIONS_MAX], as well
};
