// SPDX-License-Identifier: Apache-2.0
// Between the parts of the server: life and timers (web.c), bytes in (request.c), bytes out (answer.c).
// A connection's answers are written behind each other into one buffer, `out`, which is handed to the stream
// when it is full or nothing is under way; so what waits is packed, however small its pieces.
#pragma once

#include "base/check.h"
#include "base/list.h"
#include "net/web/web.h"

enum {
    // Untaken answers beyond which no further request is read; and no stream kept when memory is short.
    WEB_UNSENT_BYTES_MAX = 65536,
    WEB_LINGER_MS = 2000,        // what the peer still sends after our end is read this long
    WEB_TURNED_AWAY_MAX = 64,    // connections beyond the limit that get an answer at once
    WEB_BODY_STEP_BYTES = 16384, // first size of a body's storage
    WEB_HEAD_BYTES = 512,        // of an answer's head, but for the handler's fields
    WEB_TYPE_BYTES_MAX = 128,
    WEB_FIELDS_BYTES_MAX = IO_BUF_BYTES - WEB_HEAD_BYTES,
    WEB_DATE_BYTES = 48,
};

enum web_state {
    WEB_IDLE,      // between requests
    WEB_REQUEST,   // a request has begun
    WEB_STREAM,    // open for web_stream_send
    WEB_FINISHING, // our end is told after what is queued
    WEB_CLOSING,
};

struct web_connection {
    struct io_stream stream;
    struct io_timer timer;
    struct web *web;
    struct list link;
    struct io_buf *held;  // received, not consumed
    struct io_buf *more;  // received behind held
    struct io_buf *out;   // written, not yet given to the stream
    uint64_t deadline_us; // the timer may be set earlier and is then moved
    uint64_t written;     // bytes given to the stream so far
    uint64_t taken_seen;  // of them taken, when the timer last looked
    uint32_t need;        // bytes of held that make the request whole; 0: not known
    uint32_t counted;     // of web->memory: unsent bytes

    // A request that does not fit a buffer.
    char *head; // copy, heap
    uint32_t head_len;
    char *body; // heap, grows with what comes
    uint32_t body_len;
    uint32_t body_cap; // counted in web->memory
    uint32_t body_max;
    struct http1_body framing;

    void *subject; // of a stream
    uint8_t state; // enum web_state
    bool in_body;
    bool continued; // 100 was sent for the present request
    bool keep_alive;
    bool say_keep_alive; // to HTTP/1.0 it must be said
    bool head_only;
    bool stalled; // paused until the peer takes its answers
    bool peer_ended;
    bool turned_away; // came beyond the limit
    bool opened;      // `closed` is due
    struct slice from_host;
    char from[IO_ADDR_TEXT_BYTES];
};

struct web {
    struct io_loop *loop;
    struct io_listener listener;
    struct web_handler handler;
    struct web_limits limits;
    struct list connections;
    struct web_stats stats;
    uint64_t memory; // bodies and unsent answers
    uint32_t turned_away;
    bool listening;
    int64_t date_s; // of date
    char date[WEB_DATE_BYTES];
    struct slice date_line;
    struct http_request parsed; // scratch
};

// ---- web.c

void web_connection_close(struct web_connection *c);
// Ends our direction after what is queued; what the peer sends is dropped until it ends or time is up.
void web_connection_finish(struct web_connection *c);
void web_deadline_set(struct web_connection *c, uint64_t ms);
// Drops what was received and the request in hand.
void web_input_drop(struct web_connection *c);

// ---- request.c

void web_take(struct web_connection *c, struct io_buf *buf);
// Answers what has been received, as far as it is whole and earlier answers are taken.
void web_consume(struct web_connection *c);

// ---- answer.c

// False: out of buffers, the connection was closed.
bool web_out_add(struct web_connection *c, struct slice bytes);
// Gives the stream what was written, unless something is under way: then when that has left.
void web_out_flush(struct web_connection *c, bool always);
bool web_answer_send(struct web_connection *c, const struct web_answer *answer);
// One sentence, then the end of the connection.
void web_refuse(struct web_connection *c, unsigned status, const char *sentence);
// Brings web->memory up to date.
void web_unsent_count(struct web_connection *c);

static inline uint32_t web_unsent(const struct web_connection *c)
{
    return io_stream_pending(&c->stream) + (c->out != NULL ? io_buf_len(c->out) : 0);
}
