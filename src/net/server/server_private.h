// SPDX-License-Identifier: Apache-2.0
// Between the parts of the server: life and time (server.c), bytes in (http1.c), bytes out (answer.c).
//
// A connection waits, reads a head, or has one stream. Events are told only while it is `busy`: in a callback
// of its own. The end of every such callback (connection_leave) goes on with what is held and sends what was
// written; nothing else does, so that handlers may end streams wherever they like.
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

struct connection {
    struct server_stream stream; // the one stream, while `active`
    struct io_stream io;
    struct io_timer timer; // may be set earlier than due_us and is then moved: the wheel is rarely touched
    uint64_t due_us;
    struct list link;        // of the server's connections
    struct io_buf *held;     // received, not yet used
    struct io_chain out;     // written, not yet given to io
    struct io_buf *trailers; // storage while a chunked body runs
    struct http1_body body;
    uint64_t begun_us;   // the first byte of a head was seen
    uint64_t taken_mark; // of io_stream_taking, when the timer last looked
    uint32_t counted;    // of server->unsent
    uint32_t at_hand;
    uint32_t linger_bytes;
    uint8_t state;     // enum connection_state
    bool active;       // a stream is under way
    bool busy;         // in a callback
    bool head_started; // a part of a head is held, its deadline runs
    bool paused;
    bool ended; // the client sent its FIN
    bool rests; // until the timer
    bool crowded;
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

static inline struct connection *connection_of(struct server_stream *stream)
{
    return CONTAINER_OF(stream, struct connection, stream);
}

static inline const struct connection *connection_seen(const struct server_stream *stream)
{
    return (const struct connection *)(const void *)((const char *)stream -
                                                     offsetof(struct connection, stream));
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
// Ends our side after what is queued and drops what still comes.
void connection_linger(struct connection *c);
// The stream was ended by its handler.
void connection_over(struct connection *c);
// Ends the stream with the event `gone`.
void connection_gone(struct connection *c);
// Ends the stream, or what would have become one, with the event `refused`.
void connection_refuse(struct connection *c, enum server_refusal refusal, unsigned status, const char *why);
void connection_free(struct connection *c);

// ---- http1.c

// The end of a callback: goes on with what is held, sends what was written.
void connection_leave(struct connection *c);

// ---- answer.c

// Gives io what was written. What does not fill a buffer waits while something is under way, unless always:
// so that what follows shares its buffer.
void connection_flush(struct connection *c, bool always);

// The same where mostly there is nothing to do.
static inline void connection_flush_some(struct connection *c)
{
    if (c->out.head != NULL || c->counted != io_stream_pending(&c->io))
        connection_flush(c, false);
}
