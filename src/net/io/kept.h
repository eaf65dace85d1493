// SPDX-License-Identifier: Apache-2.0
// Listening sockets that outlive their process. Another process holds them too and hands them to the next one
// that serves, so that clients who connect in between wait in the backlog and are not refused. Off until
// io_kept_begin; then every listener of the real faces takes the held socket of its address where there is
// one. For the start of a process, from one thread at a time.
#pragma once

#include "net/io/loop.h"

enum { IO_KEPT_MAX = 1024 };

struct io_kept {
    struct io_addr wanted; // as the listener was asked for: the port may be 0
    int fd;
};

void io_kept_begin(void);
// A socket from the process before. Taken in every case; STATUS_FULL closes it.
MUST_USE enum status io_kept_hold(const struct io_kept *kept);
// Whether a socket is held for that address which no listener has taken yet.
bool io_kept_waits(const struct io_addr *wanted);
// Closes what no listener took, and tells what is in use: borrowed, until the next call.
const struct io_kept *io_kept_end(uint32_t *count);

// ---- for the faces ----

// The held socket of that address, -1: none. It is the caller's then.
int io_kept_take(const struct io_addr *wanted);
// A listener has opened a socket of its own.
void io_kept_opened(const struct io_addr *wanted, int fd);
