// SPDX-License-Identifier: Apache-2.0
// Bodies into buffers as HTTP/1 frames them, for the server's answers and for requests to origins. Long runs
// are handed on in the buffer they came in; short ones are copied behind what is to be sent anyway, so that
// one send takes both.
#pragma once

#include "net/http/http1.h"
#include "net/io/chain.h"

// A run of body bytes. buf as in server_data. STATUS_FULL without buffers.
MUST_USE enum status server_frame_run(struct io_chain *out, struct io_loop *loop, bool chunked,
                                      struct slice run, struct io_buf **buf);
// The last chunk, with the trailers that may go on (NULL: none).
MUST_USE enum status server_frame_last(struct io_chain *out, struct io_loop *loop,
                                       const struct http_fields *trailers);
// Starts to read a body. *trailers: a buffer for them while a chunked one runs, put back by the caller (NULL
// is allowed). STATUS_FULL without one.
MUST_USE enum status server_frame_begin(struct http1_body *body, struct io_buf **trailers,
                                        struct io_loop *loop, enum http_framing framing,
                                        uint64_t content_length, const struct http1_limits *limits);
// What a whole body had of trailers that may go on; NULL: none. storage: for them.
MUST_USE struct http_fields *server_frame_trailers(const struct http1_body *body,
                                                   struct http_fields *storage);
