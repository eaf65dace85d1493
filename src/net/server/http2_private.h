// SPDX-License-Identifier: Apache-2.0
// Between the parts of the engine of HTTP/2 (RFC 9113): frames in, life and time (http2.c), answers out
// (http2_answer.c). Frames, header compression and windows are nghttp2's; what a request is, what each side
// may ask of us, and every limit are ours.
//
// nghttp2 tells what came within a callback of the connection, which is `busy` then; its end (http2_leave)
// tells what is left to tell and sends. Operations from elsewhere send at once, and never tell: what they
// find out waits for a timer.
#pragma once

#include "net/http/http2.h"
#include "net/server/http2_frames.h"
#include "net/server/server_private.h"

enum {
    HTTP2_STREAMS_MAX = 100,           // at once, of one connection
    HTTP2_STREAM_WINDOW = 1 << 18,     // of what a client may send and we have not passed on
    HTTP2_CONNECTION_WINDOW = 1 << 20, // of what is on its way, in all streams of a connection
    HTTP2_OUT_HIGH = IO_BUF_BYTES,     // with more on its way no further frame is made
    HTTP2_RESETS_MAX =
        2 * HTTP2_STREAMS_MAX, // streams broken off by the client beyond those that were served
    HTTP2_DRAIN_US = 1000000,  // after the first GOAWAY, when the client is silent
};

enum http2_drain {
    HTTP2_DRAIN_NONE,
    HTTP2_DRAIN_DUE,       // the first GOAWAY waits for its time
    HTTP2_DRAIN_ANNOUNCED, // no stream is refused yet: some may be on their way
    HTTP2_DRAIN_LAST,      // the last stream is named
};

// What a connection has beyond that of HTTP/1.
struct http2 {
    struct connection *connection;
    nghttp2_session *session;
    struct list streams;
    struct list fresh;            // streams of which something was told: `flush` is due
    uint32_t stream_count;        // known to the session
    uint32_t full_count;          // streams whose handler waits for `drained`
    struct io_buf *input;         // being read, in a callback
    struct io_buf *lines, *aside; // storage of the head that is coming
    struct http2_stream *headed;  // whose it is; NULL: nobody's, it is dropped
    struct http2_head head;
    uint64_t head_due_us, idle_due_us, drain_due_us;
    struct http2_chatter chatter;
    uint32_t resets, served;
    uint32_t serial; // of keys
    uint8_t drain;   // enum http2_drain
    bool calmed;     // it costs too much, and ends
    bool broken;     // nothing can be sent any more
};

struct http2_stream {
    struct server_stream stream;
    struct http2 *http2;
    struct list link;
    struct list fresh;
    struct io_timer timer; // as that of a connection
    uint64_t due_us;
    struct io_chain out;            // of the answer's body, until the client's windows let it go
    struct io_buf *trailers;        // of the answer: lines
    struct io_buf *early;           // of a tunnel that is not open yet
    uint64_t content_left;          // of the request's body, when sized
    uint64_t sent;                  // bytes of the body that were put into frames
    uint64_t sent_mark, taken_mark; // when somebody asked last whether the client takes them
    uint32_t queued;                // bytes in out
    uint32_t withheld; // bytes told while the handler had paused: the client gets no credit for them
    int32_t id;
    bool active;        // the handler's: it has not ended, nor been told that it has
    bool request_done;  // told to the handler
    bool request_ended; // END_STREAM came
    bool sized;
    bool opens; // may become a tunnel
    bool tunnel;
    bool answered; // its final head was made
    bool complete; // no more will be queued
    bool end_sent;
    bool full;   // `drained` is owed
    bool closed; // the session does not know it any more
};

static inline struct http2_stream *http2_stream_of(const struct server_stream *stream)
{
    return (struct http2_stream *)((uintptr_t)stream - offsetof(struct http2_stream, stream));
}

// ---- http2.c

// The connection speaks HTTP/2 from its first byte. False without memory.
MUST_USE bool http2_begin(struct connection *c);
// What has been held (taken) is the beginning of HTTP/2.
void http2_take_over(struct connection *c);
// After an operation: sends what may be sent, unless a callback does that at its end.
void http2_settle(struct http2 *h);
void http2_stream_due(struct http2_stream *s, uint64_t due_us);
// The handler has ended the stream.
void http2_stream_over(struct http2_stream *s);
void http2_stream_reset(struct http2_stream *s, uint32_t code);
void http2_stream_free(struct http2_stream *s);

// ---- http2_answer.c

extern const struct server_engine HTTP2_ENGINE;

// Makes frames of what is queued and gives them to io, as far as both windows and the socket allow.
void http2_pump(struct http2 *h);
void http2_drop_queue(struct http2_stream *s);
int http2_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header, size_t len,
                    nghttp2_data_source *source, void *user);
