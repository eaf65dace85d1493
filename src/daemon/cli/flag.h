// SPDX-License-Identifier: Apache-2.0
// Between the commands about flags: their addresses, reading files of flags.
#pragma once

#include "base/text.h"
#include "daemon/cli/client.h"
#include "daemon/cli/shown.h"
#include "flags/eval/evaluate.h"

enum {
    FLAG_PATH_BYTES = 1024,
    FLAG_FILE_BYTES_MAX = 256 * 1024 * 1024,
    FLAG_WAIT_MS_MAX = 5000, // for a change to be in force
    FLAG_WAIT_POLL_MS = 20,
};

// ---- flag.c

// The client of a call whose first argument, if any, is a flag's key. On anything but CLI_EXIT_OK a message
// has been printed.
int flag_open_client(const struct cli_call *call, struct cli_client **client);
// "/v1/flags/KEY" with the key percent-encoded, and tail.
void flag_path(const char *key, const char *tail, char path[FLAG_PATH_BYTES]);
// start and the encoded key: the next page of a list.
void flag_after_path(const char *start, const char *key, char path[FLAG_PATH_BYTES]);

// ---- flag_file.c

struct flag_file {
    const char *name; // for people
    char *text;       // heap
    size_t len;
};
// name "-": standard input. On anything but CLI_EXIT_OK a message has been printed.
int flag_file_read(const struct cli_call *call, const char *name, struct flag_file *file);
void flag_file_free(struct flag_file *file);
// Writes beside the place and renames, so that a half-written file is never read.
int flag_file_write(const struct cli_call *call, const char *name, struct slice text);

enum { FLAG_PROBLEMS_MAX = 200 };

struct flag_compiled {
    void *image;
    struct flags_image set;
    bool valid; // the set can be used
    struct flags_finding *problems;
    size_t problem_count; // all; at most FLAG_PROBLEMS_MAX are kept
    size_t kept;
    struct flags_json *nodes;
    char *chars;
};
// As a daemon reads a whole file; as one flag of a set that is elsewhere; with all that the schema demands.
enum flag_check { FLAG_CHECK_WHOLE, FLAG_CHECK_PART, FLAG_CHECK_LINT };
// segments: JSON object, or empty. STATUS_OK also when the file is refused: `valid` says; NO_MEMORY, FULL.
MUST_USE enum status flag_compile(const struct flag_file *file, struct slice segments, enum flag_check check,
                                  struct flag_compiled *compiled);
void flag_compiled_free(struct flag_compiled *compiled);
// "file:line:column: error: ..." with the source line and a caret. skip: bytes of the first line that are not
// the user's.
void flag_problem_print(FILE *out, const struct flag_file *file, const struct flags_finding *problem,
                        uint32_t skip);
// The place alone, with the line and a caret.
void flag_place_print(FILE *out, const struct flag_file *file, uint32_t line, uint32_t column,
                      const char *message);
// The segments of the configuration file that --segments names, on the heap, or NULL without the option.
int flag_segments_read(const struct cli_call *call, char **segments);

// ---- flag_change.c

// *took_ms: how long it took, or -1 when it was not in force after FLAG_WAIT_MS_MAX.
int flag_wait(const struct cli_call *call, struct cli_client *client, json_int_t change, int64_t *took_ms);
// " (in force)" and the line's end.
void flag_print_force(const struct cli_call *call, int64_t took_ms);
