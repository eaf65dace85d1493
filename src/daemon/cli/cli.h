// SPDX-License-Identifier: Apache-2.0
// The commands. Everything about them (arguments, options, help, examples, exit codes, completion, man page)
// comes from one table in daemon/cli/table.c.
#pragma once

#include <stdio.h>

// Exit codes, the same for all commands; the table's help repeats them where they matter.
enum cli_exit {
    CLI_EXIT_OK = 0,
    CLI_EXIT_NO = 1,           // a clear no: invalid file, refused command, difference found, load failed
    CLI_EXIT_USAGE = 2,        // unknown command or option, missing or surplus argument
    CLI_EXIT_UNREACHABLE = 3,  // the daemon does not answer
    CLI_EXIT_UNREADABLE = 4,   // a file or journal cannot be read or is damaged
    CLI_EXIT_START = 5,        // the daemon could not start (port in use, journal, descriptors)
    CLI_EXIT_WAITING = 10,     // status: something waits for a person
    CLI_EXIT_ROLLED_BACK = 11, // status, watch: the last run was taken back
    CLI_EXIT_JOURNAL = 12,     // status: the journal fails, decisions stand still
};

// Runs the command in argv; returns the exit code. Messages go to out and err.
int cli_main(int argc, char *const *argv, FILE *out, FILE *err);
