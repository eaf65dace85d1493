// SPDX-License-Identifier: Apache-2.0
// Requests with their whole bodies, and answers, over the server on one event loop, for everything that
// Sluice answers by itself: the admin API and flag evaluation. Bodies in bounded storage, streams that stay
// open. Slow peers are let go by timers and by what they leave unread.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"
#include "net/http/http1.h"
#include "net/io/loop.h"

struct web;
struct web_connection;

struct web_request {
    struct slice method;
    struct slice path;  // as sent: still percent-encoded
    struct slice query; // without '?'
    struct slice body;
    struct slice host;
    const struct http_fields *fields;
    bool http2;             // what answers it can have trailers
    bool cross_site;        // sent by a page of another origin
    const char *from;       // the peer's address, with its port
    struct slice from_host; // and without
    uint64_t begun_us;      // its first byte was seen; the loop's clock
    uint64_t now_us;        // the loop's clock
    int64_t wall_ms;
};

struct web_answer {
    unsigned status;
    const char *content_type; // constant; NULL: no body, no Content-Type
    struct slice
        fields;        // further field lines, each ended by CRLF; borrowed until the handler is called again
    struct slice body; // borrowed likewise; copied to buffers before the server goes on
    bool trailed;      // its length is not told, and trailers follow; without a body they are in its head
    struct slice trailers; // as `fields`; those of a stream are given at its end
    void *release;         // heap memory to free once the body was copied, or NULL
    bool stream;           // keep the connection open after the body (close-delimited): `opened` is called
    void *subject;         // stream: given to `opened`
};

struct web_handler {
    void *context;
    // Answers one request. Never fails: what goes wrong is an answer. The answer comes zeroed.
    void (*handle)(void *context, const struct web_request *request, struct web_answer *answer);
    // Words the refusal of a request that never came whole, with that status or another. False: one sentence
    // as text will do. NULL: it always does.
    bool (*refuse)(void *context, const struct web_request *request, unsigned status, const char *sentence,
                   struct web_answer *answer);
    // The largest body this request (all there but its body) may have, at most limits.body_bytes; NULL: that.
    uint32_t (*body_bytes_max)(void *context, const struct web_request *request);
    // Streams; NULL when the handler never answers with one. Each subject is given to `closed` exactly once,
    // from the loop, never from within a call of web_stream_*; after it the connection is gone. A stream that
    // does not come about (the limit, HEAD, a client already gone) is told by `closed` alone, connection
    // NULL.
    void (*opened)(void *context, struct web_connection *connection, void *subject);
    void (*closed)(void *context, struct web_connection *connection, void *subject);
};

struct web_limits {         // zero: the default
    uint32_t connections;   // 256; some further ones are answered 503, then closed unread
    uint32_t streams;       // 64
    uint32_t body_bytes;    // 8 KiB; larger bodies are answered 413
    uint32_t pending_bytes; // 256 KiB; a stream that lags further behind is let go
    uint32_t request_ms;    // 10 s from a request's first byte to its last
    uint32_t idle_ms;       // 60 s
    bool rests;             // as server_limits.rests: for a loop with other duties
    uint64_t memory_bytes;  // of request bodies and untaken answers held at once; 64 MiB; beyond it 503
};

// Where it listens.
struct web_place {
    const struct io_addr *addr;
    bool reuse_port;          // others will be created beside it
    const struct web *beside; // instead of both: where that one, of another loop, listens
};

// Listens and answers from now on. Statuses as io_listener_open, and NO_MEMORY.
MUST_USE enum status web_create(struct io_loop *loop, const struct web_place *place,
                                const struct web_handler *handler, const struct web_limits *limits,
                                struct web **web);
void web_addr(const struct web *web, struct io_addr *addr); // the address it is bound to
// Closes everything; turn the loop until web_closed, then destroy.
void web_close(struct web *web);
bool web_closed(const struct web *web);
void web_destroy(struct web *web);

struct web_stats {
    uint64_t requests;
    uint64_t refused;     // malformed, too large, too slow, too many
    uint32_t connections; // open now
    uint32_t streams;
};
void web_stats_get(const struct web *web, struct web_stats *stats);

// ---- streams ----

// Sends bytes (copied). False: the connection was or is being closed (too far behind, gone). Best one call
// per event: what follows while the first is under way leaves with the next send.
bool web_stream_send(struct web_connection *connection, struct slice bytes);
void web_stream_end(struct web_connection *connection); // sends what is queued, then closes
// The same for an answer that is trailed.
void web_stream_end_trailed(struct web_connection *connection, struct slice trailers);

// ---- addresses ----

// Percent-decodes (RFC 3986 2.1); '+' stays. Not NUL-terminated, and may hold NUL. STATUS_INVALID for a
// broken escape, STATUS_FULL when it is longer than cap.
MUST_USE enum status web_path_decode(struct slice raw, char *out, size_t cap, size_t *len);
// The first parameter of that name (compared as sent), decoded as forms are: '+' is a space. "a" without '='
// is empty. STATUS_NOT_FOUND, INVALID, FULL.
MUST_USE enum status web_query_find(struct slice query, struct slice name, char *out, size_t cap,
                                    size_t *len);
