// SPDX-License-Identifier: Apache-2.0
// A small parent that owns the listening sockets and one serving process, so that what kills, hangs or
// replaces that process refuses no connection: clients wait in the backlog until the next one serves, which
// goes on from the journal. The parent reads no file and no request.
#pragma once

#include "base/status.h"
#include "daemon/supervise/channel.h"
#include "operate/log/log.h"

// ---- the parent ----

struct supervise_options {
    char *const *argv;       // of the serving process, ended by NULL; it is this program
    char *const *check_argv; // run by another binary before it may serve: exit code 0
    uint64_t hang_ms;        // silent for longer, and the serving process is killed
    struct log *log;
};

enum { SUPERVISE_EXIT_START = 5 };

// Starts the serving process, again and again (one is always kept ready, so that the next need not be
// loaded), until one of SIGTERM and SIGINT, which it is told. SIGHUP is passed on. SIGUSR2: the program's
// file is started in its place; if that does not serve, the one before is. Returns the exit code of the
// serving process, or SUPERVISE_EXIT_START. Blocks those signals for good.
int supervise_run(const struct supervise_options *options);

// ---- the serving process ----

struct supervise_begin {
    uint32_t deaths; // of serving processes before this one
    bool careful;    // there were too many of them: take no decisions
    bool upgraded;   // this is the first process of another binary
    char why[CHANNEL_TEXT_BYTES];
};

// Joins the parent that started this process, takes its sockets (io/kept.h) and gives it signs of life from
// now on. NOT_FOUND: there is none; CLOSED: it has gone.
MUST_USE enum status supervise_join(struct supervise_begin *begin);

struct supervise_watch {
    void *context;
    // Called on a thread of its own:
    uint64_t (*stalled_ms)(void *context); // for how long a worker has not moved
    void (*retire)(void *context);         // give up listeners and journal, then call supervise_retired
    void (*end)(void *context);            // the parent has gone: end as on SIGTERM
};

// This process serves: tells the parent. Once, after supervise_join; the watch is borrowed until
// supervise_leave.
void supervise_serving(const struct supervise_watch *watch);
void supervise_retired(void);
// The file was read again and is in force. Nothing without a parent.
void supervise_reloaded(void);
// Asks the parent for the binary that is installed now, as SIGUSR2 does. NOT_FOUND: there is no parent.
MUST_USE enum status supervise_upgrade(void);
// How often that was refused since this process began, and why the last time ("": never). Any thread.
uint32_t supervise_refused(char why[CHANNEL_TEXT_BYTES]);
// No more signs of life: call before what the watch looks at goes.
void supervise_leave(void);
