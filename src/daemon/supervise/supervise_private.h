// SPDX-License-Identifier: Apache-2.0
// What both ends share, and the processes that the parent starts.
#pragma once

#include <sys/types.h>

#include "daemon/supervise/supervise.h"

// Holds the number of the channel's descriptor in a serving process.
#define SUPERVISE_VARIABLE "SLUICE_SUPERVISOR"

// ---- spawn.c
// The running program's own file; stays the same when another is put in its place.
MUST_USE enum status spawn_own_program(int *program);
// The file that the running program was started from, as it is now.
MUST_USE enum status spawn_program_at(const char *path, int *program);
// Starts a serving process of that program with the other end of a new channel.
MUST_USE enum status spawn_serving(int program, char *const *argv, int *channel, pid_t *pid);
// Starts it, silent, for the sake of its exit code.
MUST_USE enum status spawn_check(int program, char *const *argv, pid_t *pid);
