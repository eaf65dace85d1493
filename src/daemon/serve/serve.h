// SPDX-License-Identifier: Apache-2.0
// The daemon put together of its parts (parts.c), under its signals (signals.c), with another file
// (reload.c). The order of the parts keeps promises: journal and replay first, then the table with the
// weights in force, and only then listeners.
#pragma once

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#include "daemon/api/api.h"
#include "daemon/config/config.h"
#include "daemon/supervise/supervise.h"
#include "flags/ofrep/ofrep.h"
#include "flags/runtime/runtime.h"
#include "net/io/loop.h"
#include "operate/log/log.h"
#include "ship/engine/engine.h"
#include "ship/targets/targets.h"

enum serve_outcome {
    SERVE_OK,
    SERVE_NO_START,   // a message was written
    SERVE_NO_JOURNAL, // the same: the journal cannot be read
};

struct serve_options {
    struct config *config;               // taken in every case
    struct log *log;                     // borrowed
    uint32_t workers;                    // 0: as the file says, or one per core
    enum io_kind io;                     // AUTO: as the file says
    FILE *err;                           // messages of a start that fails
    const struct supervise_begin *begin; // by supervise_join, borrowed; NULL: nobody supervises
};

// Evaluation for others, on threads of its own.
struct serve_evaluation {
    struct ofrep *ofrep; // NULL: the file has no `flags.listen`
    struct runtime_watcher watcher;
    struct engine_metric_source metrics;
    struct io_timer timer;
    int exposures; // descriptor, -1: none
    char *text;    // lines on their way to it
    uint64_t lost; // lines that could not be written
};

struct serve_access;

// How many may be connected at once, so that a crowd at one address leaves the others their descriptors.
struct serve_room {
    uint32_t clients;    // of services, in all workers
    uint32_t admin;      // at the admin address
    uint32_t evaluation; // at the flags address, of each of its threads
};

struct serve {
    struct serve_options options;
    struct io_loop *loop; // the engine's: the caller's thread runs it
    struct journal *journal;
    struct proxy *proxy;
    struct mirror *mirror;
    struct shadow *shadow;
    struct targets *targets;
    struct engine *engine; // of targets
    struct api *api;
    struct api_program program;
    struct serve_evaluation evaluation;
    struct serve_access *access; // NULL: the file has no `log.access`
    char access_path[CONFIG_PATH_BYTES];
    uint32_t workers;
    struct serve_room room;
    // signals
    const char *path; // of the file, read again when asked to; NULL: there is none
    sigset_t signals;
    pthread_t thread;
    struct io_task stop_task;
    struct io_task reload_task;
    struct io_task retire_task;
    atomic_bool stop_posted;
    atomic_bool reload_posted;
    atomic_bool retire_posted;
    atomic_bool over;
};

// SERVE_OK, or what went wrong after a message; then nothing is left behind, the config destroyed.
enum serve_outcome serve_start(struct serve *serve, const struct serve_options *options);
// Runs until a shutdown (engine_shutdown with serve_stopped as done) is over.
void serve_run(struct serve *serve);
void serve_stopped(void *context); // context: the daemon
// After run.
void serve_end(struct serve *serve);
// Start, run and end under signals: SIGTERM and SIGINT end it, SIGHUP reads the file at path again, as
// POST /v1/reload does.
enum serve_outcome serve_under_signals(struct serve *serve, const struct serve_options *options,
                                       const char *path);
// Raises the limit of descriptors to what the system allows.
void serve_raise_descriptors(void);
