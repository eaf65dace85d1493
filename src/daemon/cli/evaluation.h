// SPDX-License-Identifier: Apache-2.0
// Flag evaluation for others, beside the daemon: the server on its own threads gets every set that control
// puts in force, and what keys saw of variants goes to a file.
#pragma once

#include <stdio.h>

#include "flags/ofrep/ofrep.h"
#include "ship/engine/flags.h"

struct cli_evaluation {
    struct engine *engine;
    struct ofrep *ofrep;
    struct engine_flags_watcher watcher;
    struct engine_metric_source metrics;
    struct io_timer timer;
    int exposures; // descriptor, -1: none
    char *text;    // lines on their way to it
    uint64_t lost; // lines that could not be written
};

// Does nothing when the file says no `flags.listen`. CLI_EXIT_OK, or CLI_EXIT_START after a message.
// first_reader: the first tally of a snapshot that nobody else counts in.
int cli_evaluation_start(struct cli_evaluation *evaluation, struct engine *engine, uint32_t first_reader,
                         enum io_kind io, FILE *err);
// Whether it was started; then its address.
bool cli_evaluation_addr(const struct cli_evaluation *evaluation, struct io_addr *addr);
// Reads the file of tokens again and opens that of exposures again (a reload).
void cli_evaluation_reload(struct cli_evaluation *evaluation);
// Before control is destroyed. Allowed when nothing was started.
void cli_evaluation_stop(struct cli_evaluation *evaluation);
