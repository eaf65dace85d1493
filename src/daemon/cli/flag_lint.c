// SPDX-License-Identifier: Apache-2.0
// `sluice flag lint FILE...`: every problem of files of flags, with its place; needs no daemon, but tells
// with --stale which of the flags nobody uses.
#include <string.h>

#include "base/heap.h"
#include "daemon/cli/flag.h"

struct lint {
    const struct cli_call *call;
    struct slice segments;
    json_t *stale; // key: why; NULL: not asked
    json_t *all;   // of --json
    size_t errors, warnings, flags;
};

static void add_json(struct lint *lint, const struct flag_file *file, bool error, uint32_t line,
                     uint32_t column, struct slice key, const char *message, struct slice subject)
{
    json_t *entry =
        json_pack("{s:s, s:s, s:i, s:i, s:s}", "file", file->name, "severity", error ? "error" : "warning",
                  "line", (int)line, "column", (int)column, "message", message);
    json_object_set_new(entry, "flag", key.len > 0 ? json_stringn(key.data, key.len) : json_null());
    json_object_set_new(entry, "subject",
                        subject.len > 0 ? json_stringn(subject.data, subject.len) : json_null());
    json_array_append_new(lint->all, entry);
}

static void say_problem(struct lint *lint, const struct flag_file *file, const struct flags_finding *problem)
{
    bool error = problem->severity == FLAGS_ERROR;
    lint->errors += error;
    lint->warnings += !error;
    if (lint->all != NULL)
        add_json(lint, file, error, problem->line, problem->column, problem->key, problem->message,
                 problem->subject);
    else
        flag_problem_print(lint->call->out, file, problem, 0);
}

// Flags of the file that the daemon calls stale.
static void say_stale(struct lint *lint, const struct flag_file *file, const struct flags_image *set)
{
    struct flags_info info;
    uint32_t cursor = 0;
    while (flags_image_next(set, &cursor, &info)) {
        char key[1024], message[1200];
        struct text text = text_over(key, sizeof key);
        uint32_t line, column;
        text_add(&text, info.key);
        const char *why = json_string_value(json_object_get(lint->stale, key));
        if (why == NULL)
            continue;
        const char *what = strcmp(why, "unused") == 0 ? "not evaluated for 30 days"
                                                      : "one variant for everybody for 30 days";
        lint->warnings++;
        flags_json_position((struct slice){file->text, file->len}, info.at, &line, &column);
        snprintf(message, sizeof message, "warning: flag \"%s\": stale: %s; it can go from the code",
                 cli_shown(key), what);
        if (lint->all != NULL)
            add_json(lint, file, false, line, column, info.key, what, (struct slice){"", 0});
        else
            flag_place_print(lint->call->out, file, line, column, message);
    }
}

static int lint_file(struct lint *lint, const char *name)
{
    struct flag_file file;
    struct flag_compiled compiled;
    int code = flag_file_read(lint->call, name, &file);
    if (code != CLI_EXIT_OK)
        return code;
    enum status status = flag_compile(&file, lint->segments, FLAG_CHECK_LINT, &compiled);
    if (status != STATUS_OK) {
        fprintf(lint->call->err, "sluice: %s cannot be checked: %s\n", name,
                status == STATUS_FULL ? "it is too large" : "no memory is left");
        flag_file_free(&file);
        return CLI_EXIT_UNREADABLE;
    }
    for (size_t i = 0; i < compiled.kept; i++)
        say_problem(lint, &file, &compiled.problems[i]);
    if (compiled.problem_count > compiled.kept) {
        lint->errors += compiled.problem_count - compiled.kept;
        fprintf(lint->call->err, "and %zu more in %s\n", compiled.problem_count - compiled.kept, file.name);
    }
    if (!compiled.valid && lint->errors == 0)
        lint->errors++;
    if (compiled.valid) {
        lint->flags += flags_image_flag_count(&compiled.set);
        if (lint->stale != NULL)
            say_stale(lint, &file, &compiled.set);
    }
    flag_compiled_free(&compiled);
    flag_file_free(&file);
    return CLI_EXIT_OK;
}

// All stale flags of the running daemon, page by page.
static int read_stale(const struct cli_call *call, json_t *stale)
{
    struct cli_client *client = NULL;
    char path[FLAG_PATH_BYTES] = "/v1/flags?stale=1&limit=1000";
    int code = cli_client_of(call, &client);
    while (code == CLI_EXIT_OK) {
        json_t *answer = NULL;
        code = cli_get(call, client, path, &answer);
        const json_t *flags = json_object_get(answer, "flags");
        for (size_t i = 0; i < json_array_size(flags); i++) {
            const json_t *flag = json_array_get(flags, i);
            const char *key = json_string_value(json_object_get(flag, "key"));
            if (key != NULL)
                json_object_set(stale, key, json_object_get(flag, "stale"));
        }
        const char *next = json_string_value(json_object_get(answer, "next"));
        bool more = next != NULL;
        if (more)
            flag_after_path("/v1/flags?stale=1&limit=1000&after=", next, path);
        json_decref(answer);
        if (!more)
            break;
    }
    cli_client_close(client);
    return code;
}

static int lint_end(const struct lint *lint)
{
    const struct cli_call *call = lint->call;
    if (lint->all != NULL) {
        json_t *result = json_pack("{s:I, s:I, s:I, s:O}", "flags", (json_int_t)lint->flags, "errors",
                                   (json_int_t)lint->errors, "warnings", (json_int_t)lint->warnings,
                                   "problems", lint->all);
        cli_print_json(call->out, result);
        json_decref(result);
    } else if (lint->errors + lint->warnings == 0) {
        fprintf(call->out, "%zu flag%s, nothing wrong\n", lint->flags, lint->flags == 1 ? "" : "s");
    } else {
        fprintf(call->out, "%zu error%s, %zu warning%s\n", lint->errors, lint->errors == 1 ? "" : "s",
                lint->warnings, lint->warnings == 1 ? "" : "s");
    }
    return lint->errors > 0 ? CLI_EXIT_NO : CLI_EXIT_OK;
}

int cli_run_flag_lint(const struct cli_call *call)
{
    struct lint lint = {.call = call};
    char *segments = NULL;
    int code = flag_segments_read(call, &segments);
    lint.segments = segments != NULL ? slice_of(segments) : (struct slice){"", 0};
    lint.all = cli_given(call, "json") ? json_array() : NULL;
    lint.stale = cli_given(call, "stale") ? json_object() : NULL;
    if (code == CLI_EXIT_OK && lint.stale != NULL)
        code = read_stale(call, lint.stale);
    for (size_t i = 0; code == CLI_EXIT_OK && i < call->arg_count; i++)
        code = lint_file(&lint, call->args[i]);
    if (code == CLI_EXIT_OK)
        code = lint_end(&lint);
    json_decref(lint.all);
    json_decref(lint.stale);
    heap_free(segments);
    return code;
}
