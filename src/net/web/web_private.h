// SPDX-License-Identifier: Apache-2.0
// Between the parts of the module: life and streams (web.c), requests and their bodies (request.c), answers
// (answer.c).
#pragma once

#include "base/check.h"
#include "net/server/server.h"
#include "net/web/web.h"

enum {
    WEB_UNSENT_BYTES_MAX = 65536, // a stream with more unsent is not kept when memory is short
    WEB_BODY_STEP_BYTES = 16384,  // first size of a body's storage
    WEB_HEAD_BYTES = 1024,        // of an answer's head, but for the handler's fields
    WEB_TYPE_BYTES_MAX = 128,
    WEB_FIELDS_BYTES_MAX = IO_BUF_BYTES - WEB_HEAD_BYTES,
    WEB_DATE_BYTES = 48,
};

// What a stream of the server has beyond one event: an open stream of ours, or a body that is being gathered.
struct web_connection {
    struct web *web;
    struct server_stream *stream; // NULL once it has ended
    bool open;                    // `opened` was or is being told

    // An open stream.
    struct list link; // of web->streams
    void *subject;
    struct io_task told; // `closed` comes from the loop

    // A body. All of it lies in buf if that has room; else each part is on the heap and body grows with what
    // comes.
    struct io_buf *buf;
    struct http_request *head; // a copy
    char *body;
    uint32_t body_len;
    uint32_t body_cap;
    uint32_t counted; // of web->memory
    uint32_t body_max;
};

struct web {
    struct server server;
    struct io_loop *loop;
    struct web_handler handler;
    struct web_limits limits;
    struct list streams;
    struct web_stats stats;          // without connections
    uint64_t memory;                 // of bodies
    uint32_t untold;                 // streams whose `closed` is due
    struct http_request *present;    // in the server's scratch, while a body is answered where it lies
    struct server_stream *answering; // the handler is being asked
    int64_t date_s;                  // of date
    char date[WEB_DATE_BYTES];
    struct slice date_value;
    struct http_response response; // scratch
};

static inline struct web *web_of(const struct server_stream *stream)
{
    return CONTAINER_OF(stream->server, struct web, server);
}

static inline uint64_t web_memory(const struct web *web)
{
    return web->memory + web->server.unsent;
}

// ---- web.c

// Makes an answered request an open stream.
void web_stream_begin(struct server_stream *stream, const struct web_answer *answer, bool head_only);
// The stream has ended, or is about to be ended by the caller: `closed` will be told.
void web_stream_leave(struct web_connection *c);

// ---- request.c

extern const struct server_handler WEB_HANDLER;

// ---- answer.c

// Head and body, without the end. False: out of buffers, the stream was reset.
MUST_USE bool web_answer_send(struct server_stream *stream, const struct web_answer *answer, bool head_only,
                              bool close);
// What follows the body of an answer that is trailed.
MUST_USE enum status web_trailers_send(struct server_stream *stream, struct slice lines);
// One sentence, then the end of the connection. Not counted.
void web_refuse(struct server_stream *stream, unsigned status, const char *sentence);
