// SPDX-License-Identifier: Apache-2.0
// Chains of buffers, linked by `next`: bytes collected to be sent, or received bytes that are not used yet
// ("held"; NULL: none).
#pragma once

#include "net/io/loop.h"

struct io_chain {
    struct io_buf *head;
    struct io_buf *tail;
};

void io_chain_push(struct io_chain *chain, struct io_buf *buf);
// Puts all buffers back.
void io_chain_put(struct io_chain *chain);
// Gives all buffers to the stream.
void io_chain_send(struct io_chain *chain, struct io_stream *stream);
// The last buffer when it has that much room, else a new one. NULL when there is none.
MUST_USE struct io_buf *io_chain_room(struct io_chain *chain, struct io_loop *loop, uint32_t bytes);

// For a message whose head is not complete yet: appends more to held so that as much as possible lies in one
// buffer. Takes both and returns the first buffer of the chain.
MUST_USE struct io_buf *io_held_join(struct io_buf *held, struct io_buf *more);
// Moves bytes of the second buffer into the first. False when there is no second, or no room.
MUST_USE bool io_held_pull(struct io_buf *held);
// Drops n bytes from the front of the first buffer, and the buffer when it is empty.
MUST_USE struct io_buf *io_held_skip(struct io_buf *held, uint32_t n);
void io_held_put(struct io_buf *held);
