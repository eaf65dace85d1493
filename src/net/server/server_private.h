// SPDX-License-Identifier: Apache-2.0
// Between the parts of the server: life and time (server.c), and an engine for each protocol: HTTP/1 with
// bytes in (http1.c) and bytes out (http1_answer.c), HTTP/2 with http2.c and http2_answer.c. What a proxy of
// TCP says before either (proxied.c).
//
// A connection of HTTP/1 waits, reads a head, or has one stream. Events are told only while it is `busy`: in
// a callback of its own. The end of every such callback (connection_leave) goes on with what is held and
// sends what was written; nothing else does, so that handlers may end streams wherever they like.
#pragma once

#include "base/check.h"
#include "net/server/frame.h"
#include "net/server/server.h"

enum {
    // Read and dropped after the last answer, so that a client that is still sending sees it. Time ends it
    // sooner.
    LINGER_BYTES_MAX = 1 << 26,
    LINGER_US = 2000000,
    // Told "503" at one time beyond the limit, at most that part of it; further ones are just closed. Each
    // holds a descriptor until it has left.
    REFUSE_MAX = 64,
    REFUSE_PART = 8,
    // A request that comes within that time after all is still answered, and its client told to go.
    DRAIN_GRACE_US = 500000,
    DRAIN_SPREAD_US = 1000000,
    GIVE_WAY_LOOKS = 64,        // connections looked at for one that may go
    GIVE_WAY_HEAD_US = 1000000, // a head that takes longer is no request under way
    SITE_NONE = SERVER_SITES,
    FROM_BYTES = 64, // "[v6 address]:port" at most; a longer path of a socket is cut
};

enum connection_state {
    CONNECTION_OPEN,
    CONNECTION_LINGER, // the last answer is on its way; what still comes is dropped
    CONNECTION_CLOSED,
};

// What the operations of a stream do, by the protocol of its connection. Contracts as in server.h.
struct server_engine {
    enum status (*head)(struct server_stream *stream, const struct http_response *response,
                        const struct server_added *added);
    enum status (*tunnel)(struct server_stream *stream, const struct http_response *response,
                          const struct server_added *added, struct io_buf **early);
    enum status (*data)(struct server_stream *stream, struct slice run, struct io_buf **buf);
    enum status (*data_end)(struct server_stream *stream, const struct http_fields *trailers);
    enum status (*answer)(struct server_stream *stream, const struct http_answer *answer);
    void (*flush)(struct server_stream *stream);
    void (*half_close)(struct server_stream *stream);
    void (*end)(struct server_stream *stream);
    void (*reset)(struct server_stream *stream);
    uint32_t (*unsent)(const struct server_stream *stream);
    bool (*taking)(const struct server_stream *stream, uint64_t *mark);
    void (*pause)(struct server_stream *stream);
    void (*resume)(struct server_stream *stream);
    void (*due)(struct server_stream *stream, uint64_t due_us);
    // The server drains. rng: when one that is idle closes.
    void (*drain)(struct connection *c, struct rng *rng);
    // Every stream ends with the event `gone`.
    void (*gone)(struct connection *c);
};

struct connection {
    struct server_stream stream; // HTTP/1: the one stream, while `active`
    const struct server_engine *engine;
    struct io_stream io;
    struct io_timer timer; // may be set earlier than due_us and is then moved: the wheel is rarely touched
    uint64_t due_us;
    struct list link;        // of the server's connections
    struct io_buf *held;     // received, not yet used
    struct io_chain out;     // written, not yet given to io
    struct io_buf *trailers; // storage while a chunked body runs
    struct http2 *http2;     // NULL: HTTP/1
    struct http1_body body;
    uint64_t taken_mark; // of io_stream_taking, when the timer last looked
    uint32_t counted;    // of server->unsent
    uint32_t linger_bytes;
    uint8_t state;     // enum connection_state
    bool active;       // a stream is under way
    bool busy;         // in a callback
    bool head_started; // a part of a head is held, its deadline runs
    bool rests;        // until the timer
    bool crowded;
    bool settled;     // HTTP/1 is what it speaks
    bool untold;      // its PROXY header is awaited
    uint8_t listener; // its number
    // Of the present stream.
    bool request_done;
    bool keep; // the connection may serve another request after it
    bool http10;
    bool chunked; // the answer's body goes in chunks
    bool tunnel;
    uint16_t site;                // in server->sites, or SITE_NONE
    uint16_t spread;              // where it stands in the spread of idle times
    uint8_t host_start, host_len; // in from
    char from[FROM_BYTES];
};

_Static_assert(sizeof(struct connection) <= 512, "with its socket, an idle connection stays under 2 KiB");

static inline struct connection *connection_of(const struct server_stream *stream)
{
    return stream->connection;
}

static inline uint64_t connection_now_us(const struct connection *c)
{
    return io_loop_now_us(c->io.loop);
}

static inline uint32_t connection_unsent(const struct connection *c)
{
    uint32_t unsent = io_stream_pending(&c->io);
    for (const struct io_buf *buf = c->out.head; buf != NULL; buf = buf->next)
        unsent += io_buf_len(buf);
    return unsent;
}

// ---- server.c

extern const struct io_stream_ops CONNECTION_OPS; // http1.c

void connection_due(struct connection *c, uint64_t due_us);
void connection_pause(struct connection *c);
void connection_resume(struct connection *c);
void connection_close(struct connection *c, bool reset);
// Until when it may wait for a request from now on.
uint64_t connection_idle_due_us(const struct connection *c);
// Its time is over without a stream under way.
void connection_wait_over(struct connection *c);
// What comes while it lingers.
void connection_drop(struct connection *c, struct io_buf *buf);
// It lingers, and all that was queued has left.
void connection_linger_drained(struct connection *c);
void connection_note(const struct connection *c, enum server_note what);
// Whose it is from now on.
void connection_belongs(struct connection *c, const struct io_addr *client);
// Counts it for its client. False: of that one there are as many as may be, and it ends.
bool connection_enter(struct connection *c, const struct io_addr *client);
// Puts TLS on it where it belongs. False: that cannot be.
bool connection_secure(struct connection *c);
// From when it may have a request: until when it must.
void connection_wait(struct connection *c);
// Whether the handler lets it speak HTTP/2.
bool connection_may_http2(const struct connection *c);
// Ends our side after what is queued and drops what still comes.
void connection_linger(struct connection *c);
// The stream was ended by its handler.
void connection_over(struct connection *c);
// Ends the stream with the event `gone`.
void connection_gone(struct connection *c);
// Ends the stream, or what would have become one, with the event `refused`.
void connection_refuse(struct connection *c, enum server_refusal refusal, unsigned status, const char *why);
void connection_free(struct connection *c);

// Gives io what was written. What does not fill a buffer waits while something is under way, unless always:
// so that what follows shares its buffer.
void connection_flush(struct connection *c, bool always);

// The same where mostly there is nothing to do.
static inline void connection_flush_some(struct connection *c)
{
    if (c->out.head != NULL || c->counted != io_stream_pending(&c->io))
        connection_flush(c, false);
}

// ---- proxied.c

// Bytes of a connection whose PROXY header is awaited; takes buf.
void connection_hear(struct connection *c, struct io_buf *buf);

// ---- http1.c

// The end of a callback: goes on with what is held, sends what was written.
void connection_leave(struct connection *c);

// ---- http1_answer.c

extern const struct server_engine HTTP1_ENGINE;
