// SPDX-License-Identifier: Apache-2.0
// Between the parts of HTTP/2 towards origins (RFC 9113): connections, and what comes on them (session.c);
// requests out (session_request.c). Frames, header compression and windows are nghttp2's.
//
// An exchange speaks HTTP/1 to its upstream, whatever the origin speaks: here its bytes become a stream of
// HTTP/2, and what comes on that becomes the bytes of an answer of HTTP/1, so that one parser judges all.
//
// Within a callback of its connection a session is `busy`: what is found out waits in `fresh` and is told at
// its end. What is found out elsewhere waits for a timer, so that no call of an exchange ends that exchange.
#pragma once

#include "net/http/http2.h"
#include "net/proxy/proxy_private.h"
#include "net/server/http2_frames.h"

enum {
    SESSION_STREAMS_MAX = 100,           // at once, of one connection
    SESSION_STREAM_WINDOW = 1 << 18,     // of what an origin may send and no client has taken
    SESSION_CONNECTION_WINDOW = 1 << 20, // of what is on its way, in all streams of a connection
    SESSION_OUT_HIGH = IO_BUF_BYTES,     // with more on its way no further frame is made
    SESSION_SILENT_US = 1000000, // one that said nothing for so long, while a request waited, may be dead
};

struct session {
    struct upstream *carrier; // the connection
    struct pool *pool;
    struct list link;       // of the pool's sessions
    struct list streams;    // oldest first; those that are not begun wait
    struct list fresh;      // those of which something is to be told
    struct list over;       // whose exchange has left; freed when nobody looks at them any more
    struct io_timer timer;  // `fresh` is to be told, or it lies idle
    nghttp2_session *http2; // NULL: not connected yet
    struct io_chain out;
    struct io_buf *lines; // storage of the head that is coming
    struct http2_head head;
    struct session_stream *headed; // whose it is; NULL: nobody's
    struct http2_chatter chatter;
    uint64_t heard_us; // when bytes came last
    uint64_t idle_due_us;
    uint32_t stream_count, begun_count;
    uint32_t uses;
    bool open; // the origin's settings came
    bool busy;
    bool retiring; // takes no more streams
    bool goaway;   // the origin said so
    bool broken;   // nothing can be sent any more
};

struct session_stream {
    struct upstream upstream;
    struct list link, fresh;
    struct session *session;
    // The request.
    struct http1_body body; // reads what the exchange frames
    struct io_buf *storage; // for its trailers
    struct io_buf *kept;    // all that the exchange sent, while it could be sent again
    struct io_chain out;
    struct io_buf *trailers; // lines
    uint64_t sent;           // bytes of the body that were put into frames
    uint64_t begun_us;
    uint64_t taken_mark;
    uint32_t queued; // bytes in out
    int32_t id;      // 0: no head was sent
    bool begun;
    bool complete; // no more will be queued
    bool full;     // the exchange waits for it to drain
    // The answer, as the bytes of one of HTTP/1.
    struct io_chain in;
    struct io_buf *answer_trailers;
    uint64_t content_left;
    uint32_t unread; // bytes of bodies in `in`, or told while it was paused: without credit
    bool sized;      // content_left holds
    bool answered;   // the final head came
    bool closed;     // nghttp2 does not know it any more
    bool ended;      // nothing more comes, and `status` and `why` tell how that is
    enum status end; // CLOSED: in order. REFUSED: the origin did not begin with it. INVALID: it is broken.
                     // RESET. FULL: for want of buffers. UNSUPPORTED: it cannot be asked so
    const char *why;
};

static inline struct session_stream *session_stream_of(const struct upstream *upstream)
{
    return (struct session_stream *)((uintptr_t)upstream - offsetof(struct session_stream, upstream));
}

// ---- session.c

// Something is to be told of it.
void session_mark(struct session_stream *s);
// Nothing more comes on it.
void session_stream_end(struct session_stream *s, enum status end, const char *why);
// After an operation: sends what may be sent, unless a callback does that at its end.
void session_settle(struct session *session);
// Bytes that are on their way.
uint32_t session_out_bytes(const struct session *session);

// ---- session_request.c

// Bytes of the request as the exchange sends them (taken).
void session_request(struct session_stream *s, struct io_chain *bytes);
int session_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header, size_t len,
                      nghttp2_data_source *source, void *user);
