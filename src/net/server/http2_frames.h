// SPDX-License-Identifier: Apache-2.0
// What both ends of HTTP/2 have in common, that towards clients and that towards origins: the memory of
// nghttp2, frames into buffers, and the count of what is of no use.
#pragma once

#include <nghttp2/nghttp2.h>

#include "net/http/message.h"
#include "net/io/chain.h"

enum { HTTP2_FRAME_HEADER_BYTES = 9 };

// Memory from base/heap.
nghttp2_mem http2_memory(void);

// What http2.h has parsed already is not judged by nghttp2 again, windows are opened by us, and streams that
// are over are forgotten. NULL without memory.
nghttp2_option *http2_options(void);

// Appends bytes. False without buffers.
MUST_USE bool http2_put_frame(struct io_chain *out, struct io_loop *loop, const uint8_t *bytes, size_t len);
// Appends a DATA frame: its header, then len bytes off the front of `from`. False without a buffer.
MUST_USE bool http2_put_data(struct io_chain *out, struct io_loop *loop, const uint8_t *header,
                             struct io_chain *from, size_t len);

// A field as nghttp2 takes it, which only reads both texts; they must stay until it has.
nghttp2_nv http2_field(struct slice name, struct slice value);

// What is at hand of a body that is sent.
struct http2_outgoing {
    uint32_t queued;               // bytes
    bool complete;                 // no more will be
    const struct io_buf *trailers; // lines of HTTP/1.1, each with its CRLF; NULL: none follow it
};
// How much of it goes into the next frame of at most len bytes, as nghttp2 asks for it; trailers are
// submitted behind the last. NGHTTP2_ERR_DEFERRED: nothing is at hand.
ssize_t http2_next_data(nghttp2_session *session, int32_t id, const struct http2_outgoing *body, size_t len,
                        uint32_t *flags);
// Such lines of the trailers that may go on; *lines NULL: there are none. STATUS_FULL without a buffer.
MUST_USE enum status http2_keep_trailers(struct io_loop *loop, const struct http_fields *trailers,
                                         struct io_buf **lines);

// ---- what a peer may cost ----

enum {
    HTTP2_CHATTER_MAX = 1000,       // frames without use beyond what is earned:
    HTTP2_CHATTER_PER_SECOND = 100, // by time,
    HTTP2_CHATTER_PER_HEAD = 100,   // by a message that began,
    HTTP2_CHATTER_PER_FRAME = 10,   // by a frame of its body
};

struct http2_chatter {
    uint64_t since_us; // when it was counted last
    uint32_t count;
};

// One more. False: that is too many.
MUST_USE bool http2_chatter_count(struct http2_chatter *chatter, uint64_t now_us);
void http2_chatter_earn(struct http2_chatter *chatter, uint32_t earned);
