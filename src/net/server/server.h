// SPDX-License-Identifier: Apache-2.0
// The one HTTP server. Below it are engines that speak to connections (HTTP/1, HTTP/2); above it are handlers
// that see requests and answers as streams, whatever carries them: the proxy, the admin API, the flags
// service, the load origin. One server runs on one loop and is touched by its thread only.
//
// A stream is one request and its answer. It begins with the event `request` (or `refused`) and ends exactly
// once: by server_end, server_reset or server_answer, or by the events `gone` and `refused`. After that
// neither side names it again. A connection of HTTP/1 has one stream at a time and answers strictly in order;
// handlers must not rely on it: a client may have many.
//
// Events come from the loop only, or within server_end and server_answer called from outside an event (the
// next request was waiting), never within another operation. Within an event every operation may be called,
// also those that end the stream.
//
// What an operation queues within an event leaves after it. Whoever writes from elsewhere (an origin's bytes
// came, a timer fired) calls server_flush behind it.
#pragma once

#include "base/free_list.h"
#include "base/list.h"
#include "base/rng.h"
#include "base/siphash.h"
#include "net/http/http1.h"
#include "net/io/chain.h"

enum {
    SERVER_LISTENERS_MAX = 16,
    SERVER_SITES = 16384,                  // addresses are told apart by a hash into so many
    SERVER_UNSENT_HIGH = 2 * IO_BUF_BYTES, // a stream with more unsent than that should be given no more;
                                           // no further request of its connection is read either
};

struct server;
struct connection;

// Part of the engine's own object.
struct server_stream {
    struct server *server;
    void *subject; // the handler's; NULL at the beginning
    // Private.
    struct connection *connection;
    uint64_t begun_us; // the first byte of its head was seen
    uint32_t at_hand;
    bool paused;
    bool half_closed;
};

enum server_refusal {
    SERVER_REFUSAL_MALFORMED, // no request could be made of what came
    SERVER_REFUSAL_LATE,      // its head took too long
    SERVER_REFUSAL_CROWDED,   // a connection beyond the limit
    SERVER_REFUSAL_BODY,      // the body of a request that was told is malformed
    SERVER_REFUSAL_STARVED,   // no buffer for what the body needs; the request was not told
    SERVER_REFUSAL_PROXY, // no PROXY header came, or not in time, of a peer that owes one: is not answered
};

enum server_note {
    SERVER_NOTE_ACCEPTED,
    SERVER_NOTE_CROWDED, // of the accepted, beyond the limit, told so or not
    SERVER_NOTE_CLOSED,  // of the accepted and not crowded, closed
    SERVER_NOTE_ACCEPT_FAILED,
    SERVER_NOTE_IDLE,     // closed without a request under way
    SERVER_NOTE_GAVE_WAY, // the same, for a new one when there were as many as may be
    // HTTP/2 only.
    SERVER_NOTE_STREAM, // a stream begins, whether it becomes a request or not
    SERVER_NOTE_STREAM_CLOSED,
    SERVER_NOTE_RESET_BY_CLIENT, // RST_STREAM came
    SERVER_NOTE_RESET,           // RST_STREAM was sent, other than behind a whole answer
    SERVER_NOTE_GOAWAY,          // was sent
    SERVER_NOTE_CALMED,          // a connection that costs too much ends
    SERVER_NOTES,
};

struct server_handler {
    // Whether a connection of that peer to the server's n-th listener must begin with a PROXY header
    // (net/http/proxy_header.h), which says whose it is. NULL: none must.
    bool (*proxied)(struct server *server, uint32_t listener, const struct io_addr *peer);
    // A connection of the server's n-th listener begins: puts TLS on its stream where it belongs. False: that
    // cannot be, and the connection is closed. NULL: none of its listeners has any.
    bool (*secure)(struct server *server, uint32_t listener, struct io_stream *stream);
    // Whether a connection of that listener speaks HTTP/2: asked after the handshake of TLS, or when a client
    // without TLS begins as one of HTTP/2 does (RFC 9113, 3.3). NULL: none does.
    bool (*http2)(struct server *server, uint32_t listener, const struct io_stream *stream);
    // The head has come. The request, and all it points to, is there until the event returns; where its whole
    // body lies behind it (server_at_hand), also within the event `data` that brings it. When framing is
    // NONE, or LENGTH of zero, the request is over with its head; else `data`, `ended` and `flush` follow.
    // Fields may be marked.
    void (*request)(struct server_stream *stream, struct http_request *request);
    // A run of the body, which lies in *buf. Whoever has use for the buffer, and only where the run is all
    // that it holds (run.len == io_buf_len), may take it by setting *buf to NULL.
    void (*data)(struct server_stream *stream, struct slice run, struct io_buf **buf);
    // The body is whole. trailers: NULL for none; they may be marked.
    void (*ended)(struct server_stream *stream, struct http_fields *trailers);
    // All of the body that had come was told, perhaps nothing: what was gathered may go on. NULL: nobody
    // asks.
    void (*flush)(struct server_stream *stream);
    // The client ended its side, orderly, after its whole request, or in a tunnel. It may still wait for the
    // answer. NULL: nobody asks.
    void (*half_closed)(struct server_stream *stream);
    // Most of what was queued has left (less than a buffer is still unsent): more may be written. NULL:
    // nobody asks.
    void (*drained)(struct server_stream *stream);
    // The time given by server_due has come. Ends the stream or calls server_due again.
    void (*due)(struct server_stream *stream);
    // The client is gone, or the server is closing. No operation may follow.
    void (*gone)(struct server_stream *stream);
    // Ends the stream (subject is NULL but for SERVER_REFUSAL_BODY). May be answered within the event, with
    // that status; the connection ends after it. Else it is closed. why is constant text.
    void (*refused)(struct server_stream *stream, enum server_refusal refusal, unsigned status,
                    const char *why);
    // For counting. NULL: nobody counts.
    void (*note)(struct server *server, enum server_note note);
};

// May be changed at any time.
struct server_limits {
    // Beyond it one that waits for its client gives way; if there is none, further ones are refused, or
    // closed unread when too many are being refused.
    uint32_t connections;
    uint32_t connections_per_site; // of one IPv4 address or IPv6 /64; further ones are refused; 0: no limit
    uint64_t head_us;              // from a head's first byte to its last
    uint64_t idle_us; // between requests; and without the client taking anything of what is unsent
    // After a request, the next one of any connection waits as long as that took: who asks much, on however
    // many connections, leaves half of the time of a loop with other duties, and a turn in between, to these.
    bool rests;
    uint64_t idle_spread_us; // between requests up to so much longer, by the connection: not all end at once
};

// Embedded in its owner's object, zeroed before server_init. All but limits is private.
struct server {
    struct server_limits limits;
    const struct server_handler *handler;
    struct http1_limits http1;
    struct io_loop *loop;
    struct list connections;
    uint32_t open;                // connections, without the crowded
    uint32_t turned_away;         // connections that are being refused
    uint64_t unsent;              // bytes queued on all of them
    uint32_t met;                 // connections, for the spread
    uint64_t rested_us;           // before it no request is taken up
    struct siphash_key site_key;  // the owner may set it
    uint16_t sites[SERVER_SITES]; // connections of each, without the crowded
    bool draining;
    uint32_t listener_count;
    struct server_listener {
        struct io_listener io;
        struct server *server;
    } listeners[SERVER_LISTENERS_MAX];
    struct free_list free_connections, free_streams;
    struct http_request request; // scratch
};

// ---- life ----

// handler is borrowed for the server's life. http1: NULL for the parser's defaults.
void server_init(struct server *server, const struct server_handler *handler,
                 const struct server_limits *limits, const struct http1_limits *http1);
// Listens on one more address of that loop, the same one each time. Statuses as io_listener_open.
MUST_USE enum status server_listen(struct server *server, struct io_loop *loop, const struct io_addr *addr,
                                   bool reuse_port);
// Listens on loop wherever `first`, a server of another loop opened with reuse_port, does.
MUST_USE enum status server_join(struct server *server, struct io_loop *loop, const struct server *first);
// The address that the n-th is bound to.
void server_addr(const struct server *server, uint32_t n, struct io_addr *addr);
void server_unlisten(struct server *server);
// No more connections; those that are idle are closed over a second, so that their clients do not all come
// back at once elsewhere; every further answer is its connection's last.
void server_drain(struct server *server, struct rng *rng);
// Closes everything; streams under way are told `gone`. Turn the loop until server_closed.
void server_close(struct server *server);
bool server_closed(const struct server *server);
void server_deinit(struct server *server);

// ---- the answer ----

// What we add to a head.
struct server_added {
    struct slice via; // pseudonym for Via; empty: none
    const struct http_field *fields;
    size_t field_count;
    bool close; // the connection ends with this answer, and the body, if its length is not known, with it
};

// A head: informational ones (1xx but 101) any number of times (dropped for clients of HTTP/1.0, which do not
// know them), then the final one. How the body is framed on the wire, and whether the connection persists, is
// the engine's affair: response->framing only says what is known of its length. An answer to HEAD has framing
// NONE. added: NULL for nothing. STATUS_FULL: no buffer. STATUS_INVALID: it does not fit one. Nothing was
// written then.
MUST_USE enum status server_head(struct server_stream *stream, const struct http_response *response,
                                 const struct server_added *added);
// Body bytes. buf: where they lie, taken (and *buf set to NULL) if they are all that it holds and copying
// them is not cheaper; NULL: elsewhere. Never refuses for being much: heed server_unsent. STATUS_FULL: no
// buffer; the answer cannot be completed, reset it.
MUST_USE enum status server_data(struct server_stream *stream, struct slice run, struct io_buf **buf);
// The body is whole; trailers that may be passed on, or NULL, go along if its length was not told.
// STATUS_FULL as server_data.
MUST_USE enum status server_data_end(struct server_stream *stream, const struct http_fields *trailers);
void server_flush(struct server_stream *stream);
// Ends the stream: all that was queued leaves. If the request is not over, what still comes of it is dropped
// and the connection ends.
void server_end(struct server_stream *stream);
// The answer must not look complete: in HTTP/1 the connection is reset, in HTTP/2 the stream.
void server_reset(struct server_stream *stream);
// Head, body and end at once. STATUS_FULL: no buffer, the stream was reset.
enum status server_answer(struct server_stream *stream, const struct http_answer *answer);

// 101 to a request that has `upgrade`: from now on `data` and server_data are bytes of the tunnel,
// `half_closed` is the client's end and server_half_close ours. *early: what the client sent behind its
// request (held, taken, may be NULL). Statuses as server_head.
MUST_USE enum status server_tunnel(struct server_stream *stream, const struct http_response *response,
                                   const struct server_added *added, struct io_buf **early);
void server_half_close(struct server_stream *stream);

// ---- asking ----

// In the event `request`: bytes of the body that lie behind its head, in one piece.
uint32_t server_at_hand(const struct server_stream *stream);
// Bytes queued of this and earlier answers of its connection.
uint32_t server_unsent(const struct server_stream *stream);
// As io_stream_taking: whether the client still takes what was sent.
bool server_taking(const struct server_stream *stream, uint64_t *mark);
// Whether the client has ended its side.
bool server_is_half_closed(const struct server_stream *stream);
// When the request's first byte was seen waiting.
uint64_t server_begun_us(const struct server_stream *stream);
// The client's address with its port, and without (brackets of IPv6 fall away): that of the connection's
// peer, or the one that its PROXY header tells.
const char *server_from(const struct server_stream *stream);
struct slice server_from_host(const struct server_stream *stream);
// Which of the server's listeners it came by.
uint32_t server_listener_number(const struct server_stream *stream);
// Its connection, to be asked only.
const struct io_stream *server_io(const struct server_stream *stream);
// Whether it came over TLS.
bool server_is_secure(const struct server_stream *stream);
// The same as io_addr_parse makes of it: STATUS_INVALID for a unix socket without a path.
MUST_USE enum status server_peer(const struct server_stream *stream, struct io_addr *addr);

// ---- flow and time ----

// Stops and restarts `data`. What has been received is still told. Restarting does nothing once the request
// is over: what comes then waits for the answer.
void server_pause(struct server_stream *stream);
void server_resume(struct server_stream *stream);
bool server_paused(const struct server_stream *stream);
// The event `due` comes at that time, or up to 1 ms later; UINT64_MAX: never. Cheap to call for a later time.
// Until it is called nothing limits the stream's time.
void server_due(struct server_stream *stream, uint64_t due_us);
