// SPDX-License-Identifier: Apache-2.0
// The daemon put together: loop, proxy, journal, control, API, in the order that keeps promises: journal and
// replay first, the table with the weights in force, and only then listeners.
#pragma once

#include <stdio.h>

#include "daemon/api/api.h"
#include "daemon/cli/evaluation.h"
#include "ship/engine/engine.h"

struct cli_daemon_options {
    struct config *config;  // taken in every case
    struct engine_log *log; // borrowed
    uint32_t workers;       // 0: as the file says, or one per core
    enum io_kind io;        // AUTO: as the file says
    FILE *err;              // messages of a start that fails
};

struct cli_daemon {
    struct io_loop *loop; // the control loop: the caller's thread runs it
    struct journal *journal;
    struct proxy *proxy;
    struct engine *engine;
    struct api *api;
    struct cli_evaluation evaluation;
    uint32_t workers;
};

// CLI_EXIT_OK, or CLI_EXIT_START / CLI_EXIT_UNREADABLE after a message; then nothing is left behind, the
// config destroyed.
int cli_daemon_start(const struct cli_daemon_options *options, struct cli_daemon *daemon);
// Runs until a shutdown (engine_shutdown with cli_daemon_stopped as done) is over.
void cli_daemon_run(struct cli_daemon *daemon);
void cli_daemon_stopped(void *context); // context: the daemon
// After run.
void cli_daemon_end(struct cli_daemon *daemon);
// What to do about a status that something could not be started with.
const char *cli_start_advice(enum status status);
// Raises the limit of descriptors to what the system allows.
void cli_raise_descriptors(void);
