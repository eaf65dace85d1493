// SPDX-License-Identifier: Apache-2.0
// What a supervisor and its serving process tell each other: datagrams over a pair of unix sockets, some with
// a descriptor. Both are of this program, perhaps of two versions of it: words and layout only grow.
#pragma once

#include "base/status.h"
#include "net/io/loop.h"

enum channel_word {
    // to the serving process
    CHANNEL_SOCKET = 1, // a listening socket of the process before; also from it: one that it listens on
    CHANNEL_BEGIN,  // no more of them: serve. number: deaths so far; careful: take no decisions; text: why it
                    // is started
    CHANNEL_RETIRE, // give up listeners and journal, serve what is connected, end
    // from it
    CHANNEL_READY,    // it serves, and has told all its sockets
    CHANNEL_BEAT,     // a sign of life. number: for how many milliseconds a worker has not moved
    CHANNEL_RETIRED,  // listeners and journal are free
    CHANNEL_RELOADED, // it has read the file again: a process that was loaded before is of the old one
    CHANNEL_UPGRADE,  // somebody asks for the binary that is installed now
    // to the serving process
    CHANNEL_REFUSED, // no other binary takes its place. text: why
    // from it
    CHANNEL_LOADED, // it has read the file, and waits for sockets
};

enum { CHANNEL_TEXT_BYTES = 160 };

struct channel_message {
    uint32_t word;
    uint32_t number;
    uint32_t careful;
    struct io_addr addr; // CHANNEL_SOCKET: what was listened on
    char text[CHANNEL_TEXT_BYTES];
    uint32_t upgraded; // CHANNEL_BEGIN: it is the first of another binary
};

// fds[0] is the supervisor's, fds[1] the serving process's; both close on exec.
MUST_USE enum status channel_create(int fds[2]);
// fd: -1, or a descriptor to go along (still the caller's). Waits for room for a second at most. CLOSED,
// TIMEOUT.
MUST_USE enum status channel_send(int channel, const struct channel_message *message, int fd);
// One message, *fd -1 or its descriptor (the caller's). Waits for wait_ms at most (-1:
// for ever): TIMEOUT, else CLOSED.
MUST_USE enum status channel_receive(int channel, int wait_ms, struct channel_message *message, int *fd);
