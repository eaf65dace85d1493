// SPDX-License-Identifier: Apache-2.0
// What stands between a stream's owner and its socket: encryption. Operations and events of the owner stay as
// loop.h tells them; what the owner sends waits in the filter until it leaves as something else. A stream
// without one pays one test of a pointer.
#pragma once

#include "net/io/loop.h"

struct io_filter_ops {
    // A connect has succeeded. The filter tells the owner on_open when it is ready itself (`opening` is set
    // till then; a failure before is told by on_open too).
    void (*opened)(struct io_stream *stream);
    // Bytes from the socket; takes buf.
    void (*received)(struct io_stream *stream, struct io_buf *buf);
    // The socket's end was seen.
    void (*ended)(struct io_stream *stream);
    // The owner has sent, or wants to finish: what is in `out` may be taken. Called before the socket's queue
    // leaves.
    void (*flush)(struct io_stream *stream);
    // The owner reads again, or a buffer is to be had again.
    void (*ready)(struct io_stream *stream);
    // The stream is over. Frees the filter.
    void (*closed)(struct io_filter *filter);
};

// Part of the filter's own object.
struct io_filter {
    const struct io_filter_ops *ops;
    struct io_buf *out_head, *out_tail; // as the owner gave them
    bool opening;                       // on_open is still owed to the owner
    bool finishing; // the owner has finished: after `out`, so does the filter, by io_filter_finish
    bool waiting;   // `ready` is wanted
};

// Right after io_stream_adopt or io_stream_connect, in the same callback; or on an accepted stream later,
// when nothing was sent yet: what the owner was told meanwhile, and is not its own, goes to the filter then.
void io_filter_put(struct io_stream *stream, struct io_filter *filter);
void io_filter_receive(struct io_stream *stream, struct io_buf *buf); // taken
// Bytes for the socket, taken.
void io_filter_send(struct io_stream *stream, struct io_buf *buf);
// What is queued for the socket is tried at once: the stream is about to be closed.
void io_filter_send_now(struct io_stream *stream);
void io_filter_finish(struct io_stream *stream);
// Takes the first buffer of `out`. NULL: there is none.
struct io_buf *io_filter_take(struct io_stream *stream);
// As the face of the loop tells them to a stream without a filter.
void io_filter_tell_open(struct io_stream *stream);
void io_filter_tell_data(struct io_stream *stream, struct io_buf *buf);
void io_filter_tell_end(struct io_stream *stream);
// What is queued for the socket is tried once more, so that the peer may learn why.
void io_filter_tell_failure(struct io_stream *stream, enum status status);
bool io_filter_paused(const struct io_stream *stream); // no data may be told
bool io_filter_dead(const struct io_stream *stream);   // closed or failed: nothing may be told
// No buffer was to be had: `ready` is called when there is one.
void io_filter_starved(struct io_stream *stream);
