// SPDX-License-Identifier: Apache-2.0
// The frame of the commands: what a row of the table is and what a command's function receives.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/slice.h"
#include "base/status.h"
#include "daemon/cli/cli.h"

enum {
    CLI_OPTIONS_MAX = 24,
    CLI_ARGS_MAX = 256,
    CLI_REPEATED_MAX = 64,
};

struct cli_call;

struct cli_option {
    const char *name;  // without dashes; NULL ends a list
    char letter;       // 0: none
    const char *value; // what follows ("ADDR"); NULL: a switch; "LINE..." may be given several times
    const char *help;
};

struct cli_example {
    const char *line; // NULL ends a list
    const char *says;
};

struct cli_exit_note {
    int code;
    const char *says; // NULL ends a list
};

struct cli_command {
    const char *group; // first word; NULL ends the table
    const char *verb;  // second word, or NULL
    const char *args;  // "FILE", "NAME", ""; a word that ends in "?" may be left out, "..." is any number
    const char *summary;
    const char *details; // paragraphs, may be ""
    const struct cli_option *options;
    const struct cli_example *examples;
    const struct cli_exit_note *exits;
    int (*run)(const struct cli_call *call);
};

// One call, parsed. Values are indexed as the command's options; a switch that was given has the value "".
struct cli_call {
    const struct cli_command *command;
    const char *values[CLI_OPTIONS_MAX];
    const char *repeated[CLI_REPEATED_MAX]; // of the one option that may be given several times
    size_t repeated_count;
    const char *args[CLI_ARGS_MAX];
    size_t arg_count;
    FILE *out;
    FILE *err;
};

extern const struct cli_command cli_commands[];

// ---- parse.c
// Finds the command and cuts options and arguments; on anything but STATUS_OK a message has gone to err.
MUST_USE enum status cli_parse(int argc, char *const *argv, FILE *err, struct cli_call *call,
                               bool *help_asked);

// ---- call.c
// The value of an option by its name (CHECK: it must be in the command's list), or NULL when not given.
const char *cli_value(const struct cli_call *call, const char *name);
bool cli_given(const struct cli_call *call, const char *name);
// Whether the call's command has an option of that name.
bool cli_offers(const struct cli_call *call, const char *name);
// A positive number, or fallback when not given; STATUS_INVALID with a message on anything else.
MUST_USE enum status cli_value_number(const struct cli_call *call, const char *name, double fallback,
                                      double *number);
// "10s", "500ms", "2m", "1h"; STATUS_INVALID with a message.
MUST_USE enum status cli_value_duration_ms(const struct cli_call *call, const char *name,
                                           uint64_t fallback_ms, uint64_t *duration_ms);

// ---- help.c
void cli_help_all(FILE *out);
void cli_help_group(FILE *out, const char *group);
void cli_help_command(FILE *out, const struct cli_command *command);

// ---- the commands
int cli_run_help(const struct cli_call *call);
int cli_run_version(const struct cli_call *call);
int cli_run_completion(const struct cli_call *call);
int cli_run_man(const struct cli_call *call);
int cli_run_init(const struct cli_call *call);
int cli_run_certificate(const struct cli_call *call);
int cli_run_serve(const struct cli_call *call);
int cli_run_reload(const struct cli_call *call);
int cli_run_upgrade(const struct cli_call *call);
int cli_run_check(const struct cli_call *call);
int cli_run_status(const struct cli_call *call);
int cli_run_rollout_command(const struct cli_call *call);
int cli_run_rollout_watch(const struct cli_call *call);
int cli_run_rollout_explain(const struct cli_call *call);
int cli_run_rollout_history(const struct cli_call *call);
int cli_run_endpoints(const struct cli_call *call);
int cli_run_replay(const struct cli_call *call);
int cli_run_diff(const struct cli_call *call);
int cli_run_load(const struct cli_call *call);
int cli_run_demo(const struct cli_call *call);
int cli_run_flag_list(const struct cli_call *call);
int cli_run_flag_show(const struct cli_call *call);
int cli_run_flag_set(const struct cli_call *call);
int cli_run_flag_off(const struct cli_call *call);
int cli_run_flag_on(const struct cli_call *call);
int cli_run_flag_unset(const struct cli_call *call);
int cli_run_flag_eval(const struct cli_call *call);
int cli_run_flag_history(const struct cli_call *call);
int cli_run_flag_import(const struct cli_call *call);
int cli_run_flag_export(const struct cli_call *call);
int cli_run_flag_lint(const struct cli_call *call);
int cli_run_flag_token(const struct cli_call *call);
