// SPDX-License-Identifier: Apache-2.0
// Flags as the daemon has them: list, show, history.
#include "daemon/cli/flag.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/heap.h"
#include "base/utf8.h"
#include "daemon/cli/view.h"
#include "flags/runtime/runtime.h"

// ---- asking ----

int flag_open_client(const struct cli_call *call, struct cli_client **client)
{
    size_t len = call->arg_count > 0 ? strlen(call->args[0]) : 1;
    bool valid = call->arg_count == 0 || utf8_valid((struct slice){call->args[0], len});
    if (len == 0 || len >= RUNTIME_KEY_BYTES || !valid) {
        fprintf(call->err, "sluice: a flag's key is 1 to %d bytes of UTF-8\n", RUNTIME_KEY_BYTES - 1);
        return CLI_EXIT_USAGE;
    }
    return cli_client_of(call, client);
}

static void add_encoded(struct text *text, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~";
    for (; *word != '\0'; word++) {
        if (strchr(plain, *word) != NULL)
            text_add_char(text, *word);
        else
            text_addf(text, "%%%02X", (unsigned)(unsigned char)*word);
    }
}

void flag_path(const char *key, const char *tail, char path[FLAG_PATH_BYTES])
{
    struct text text = text_over(path, FLAG_PATH_BYTES);
    text_addf(&text, "/v1/flags/");
    add_encoded(&text, key);
    text_addf(&text, "%s", tail);
}

void flag_after_path(const char *start, const char *key, char path[FLAG_PATH_BYTES])
{
    struct text text = text_over(path, FLAG_PATH_BYTES);
    text_addf(&text, "%s", start);
    add_encoded(&text, key);
}

// ---- printing ----

static json_int_t number_of(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static void print_count(FILE *out, json_int_t count)
{
    char storage[32];
    struct text text = text_over(storage, sizeof storage);
    text_add_count(&text, (uint64_t)(count > 0 ? count : 0));
    fprintf(out, "%s", storage);
}

// What is wrong with the set as a whole: said before everything else, because nothing below is what the files
// say then.
static void print_set_problems(const struct cli_call *call, const json_t *answer)
{
    const json_t *sources = json_object_get(answer, "sources");
    const json_t *problems = json_object_get(answer, "problems");
    bool refused = json_is_true(json_object_get(answer, "refused"));
    if (refused)
        fprintf(call->err, "REFUSED: the newest content is not in force; what was good before goes on:\n");
    for (size_t i = 0; i < json_array_size(problems); i++) {
        const json_t *problem = json_array_get(problems, i);
        bool error = json_is_true(json_object_get(problem, "error"));
        fprintf(call->err, "  %s: %s\n", error ? "error" : "warning", cli_word(problem, "text"));
    }
    for (size_t i = 0; i < json_array_size(sources); i++) {
        const json_t *source = json_array_get(sources, i);
        if (!json_is_true(json_object_get(source, "good")))
            fprintf(call->err, "SOURCE %s is not up to date: %s\n", cli_word(source, "name"),
                    cli_word(source, "problem"));
    }
}

// ---- list ----

static const char *state_of(const json_t *flag)
{
    if (json_is_string(json_object_get(flag, "fault")))
        return "BROKEN";
    if (json_is_true(json_object_get(flag, "killed")))
        return "KILLED";
    return json_is_true(json_object_get(flag, "enabled")) ? "on" : "off";
}

// "set at runtime", "driven by rollout x", "stale: ...", one after the other.
static void notes_of(const json_t *flag, struct text *out)
{
    const json_t *overlay = json_object_get(flag, "overlay");
    const char *switched = json_string_value(json_object_get(overlay, "switched"));
    const char *variant = json_string_value(json_object_get(flag, "kill_variant"));
    const char *stale = json_string_value(json_object_get(flag, "stale"));
    const char *start = "";
    if (json_is_true(json_object_get(overlay, "defined"))) {
        text_addf(out, "set at runtime");
        start = "; ";
    }
    if (switched != NULL) {
        text_addf(out, "%sswitched %s at runtime", start, cli_shown(switched));
        if (variant != NULL)
            text_addf(out, " (\"%s\" for everybody)", cli_shown(variant));
        start = "; ";
    }
    if (json_is_string(json_object_get(flag, "rollout"))) {
        text_addf(out, "%sdriven by rollout %s", start, cli_word(flag, "rollout"));
        start = "; ";
    }
    if (stale != NULL) {
        text_addf(out, "%sstale: %s", start,
                  strcmp(stale, "unused") == 0 ? "not evaluated for 30 days" : "one variant for 30 days");
        start = "; ";
    }
    if (json_is_string(json_object_get(flag, "fault")))
        text_addf(out, "%s%s", start, cli_word(flag, "fault"));
}

static int widest(const json_t *flags, const char *member, int least)
{
    int width = least;
    for (size_t i = 0; i < json_array_size(flags); i++) {
        int len = (int)strlen(cli_word(json_array_get(flags, i), member));
        width = len > width ? len : width;
    }
    return width < 48 ? width : 48;
}

static void print_flags(const struct cli_call *call, const json_t *flags, bool first)
{
    FILE *out = call->out;
    struct cli_style style = cli_style_of(out);
    int key_width = widest(flags, "key", 16);
    int source_width = widest(flags, "source", 8);
    if (first)
        fprintf(out, "%-*s  %-6s  %-14s  %-7s  %13s  SOURCE\n", key_width, "FLAG", "STATE", "DEFAULT", "TYPE",
                "EVALUATIONS");
    for (size_t i = 0; i < json_array_size(flags); i++) {
        const json_t *flag = json_array_get(flags, i);
        const char *state = state_of(flag);
        bool bad = state[0] >= 'A' && state[0] <= 'Z';
        char count[32], notes[1024];
        struct text text = text_over(count, sizeof count);
        struct text note = text_over(notes, sizeof notes);
        if (json_is_integer(json_object_get(flag, "evaluations")))
            text_add_count(&text, (uint64_t)number_of(flag, "evaluations"));
        else
            text_addf(&text, "-");
        notes_of(flag, &note);
        const char *initial = cli_word(flag, "default_variant");
        fprintf(out, "%-*s  %s%-6s%s  %-14s  %-7s  %13s  %-*s%s%s\n", key_width, cli_word(flag, "key"),
                style.colour && bad ? "\033[31m" : "", state, style.colour && bad ? "\033[0m" : "",
                initial[0] != '\0' ? initial : "(caller's)", cli_word(flag, "type"), count,
                notes[0] != '\0' ? source_width : 0, cli_word(flag, "source"), notes[0] != '\0' ? "  " : "",
                notes);
    }
}

static void list_path(const struct cli_call *call, const char *after, char path[FLAG_PATH_BYTES * 2])
{
    struct text text = text_over(path, FLAG_PATH_BYTES * 2);
    text_addf(&text, "/v1/flags?limit=1000%s%s", cli_given(call, "stale") ? "&stale=1" : "",
              cli_given(call, "changed") ? "&changed=1" : "");
    if (call->arg_count > 0) {
        text_addf(&text, "&contains=");
        add_encoded(&text, call->args[0]);
    }
    if (after != NULL) {
        text_addf(&text, "&after=");
        add_encoded(&text, after);
    }
}

static void print_list_end(const struct cli_call *call, const json_t *answer, size_t shown)
{
    bool narrowed = call->arg_count > 0 || cli_given(call, "stale") || cli_given(call, "changed");
    if (shown == 0 && narrowed)
        fprintf(call->out, "No flag is like that (of ");
    else
        fprintf(call->out, "%s%zu flag%s (", shown > 0 ? "\n" : "", shown, shown == 1 ? "" : "s");
    if (narrowed) {
        print_count(call->out, number_of(answer, "count"));
        fprintf(call->out, "%s, ", shown > 0 ? " in all" : "");
    }
    fprintf(call->out, "set version %" JSON_INTEGER_FORMAT ")\n", number_of(answer, "version"));
    json_int_t unknown = number_of(answer, "unknown_evaluations");
    if (unknown > 0) {
        print_count(call->out, unknown);
        fprintf(call->out, " evaluations asked for flags that are not here.\n");
    }
}

int cli_run_flag_list(const struct cli_call *call)
{
    struct cli_client *client;
    char path[FLAG_PATH_BYTES * 2];
    char after[RUNTIME_KEY_BYTES] = "";
    json_t *all = json_array();
    json_t *answer = NULL;
    size_t shown = 0;
    int code = flag_open_client(call, &client);
    for (bool first = true; code == CLI_EXIT_OK; first = false) {
        json_decref(answer);
        list_path(call, first ? NULL : after, path);
        code = cli_get(call, client, path, &answer);
        if (code != CLI_EXIT_OK)
            break;
        json_t *flags = json_object_get(answer, "flags");
        const char *next = json_string_value(json_object_get(answer, "next"));
        if (first && !cli_given(call, "json"))
            print_set_problems(call, answer);
        if (cli_given(call, "json"))
            json_array_extend(all, flags);
        else if (json_array_size(flags) > 0)
            print_flags(call, flags, first);
        shown += json_array_size(flags);
        if (next == NULL)
            break;
        snprintf(after, sizeof after, "%s", next);
    }
    if (code == CLI_EXIT_OK && cli_given(call, "json")) {
        json_object_set(answer, "flags", all);
        json_object_del(answer, "next");
        cli_print_json(call->out, answer);
    } else if (code == CLI_EXIT_OK) {
        print_list_end(call, answer, shown);
    }
    json_decref(answer);
    json_decref(all);
    cli_client_close(client);
    return code;
}

// ---- show ----

static void print_ago(FILE *out, json_int_t time_ms)
{
    char storage[64];
    struct text text = text_over(storage, sizeof storage);
    if (time_ms == 0) {
        fprintf(out, "never");
        return;
    }
    cli_span_write(cli_now_ms() - time_ms, &text);
    fprintf(out, "%s ago", storage);
}

static void print_variants(const struct cli_call *call, const json_t *flag)
{
    const json_t *variants = json_object_get(flag, "variants");
    const char *initial = json_string_value(json_object_get(flag, "default_variant"));
    char value[200];
    for (size_t i = 0; i < json_array_size(variants); i++) {
        const json_t *variant = json_array_get(variants, i);
        const char *name = json_string_value(json_object_get(variant, "name"));
        cli_json_text(json_object_get(variant, "value"), value, sizeof value);
        fprintf(call->out, "  %-10s %s = %s   (", i == 0 ? "variants" : "", cli_word(variant, "name"), value);
        print_count(call->out, number_of(variant, "evaluations"));
        fprintf(call->out, " evaluations%s)\n",
                initial != NULL && name != NULL && strcmp(initial, name) == 0 ? ", the default" : "");
    }
    if (initial == NULL)
        fprintf(call->out, "  %-10s none: callers get their own\n", "default");
}

static void print_use(const struct cli_call *call, const json_t *usage)
{
    if (!json_is_object(usage))
        return;
    fprintf(call->out, "  %-10s ", "used");
    print_count(call->out, number_of(usage, "evaluations"));
    fprintf(call->out, " times since the daemon started (");
    print_count(call->out, number_of(usage, "without_variant"));
    fprintf(call->out, " without a variant, ");
    print_count(call->out, number_of(usage, "errors"));
    fprintf(call->out, " in error), last ");
    print_ago(call->out, number_of(usage, "last_evaluated_ms"));
    fprintf(call->out, "\n");
}

static void print_flag(const struct cli_call *call, const json_t *flag)
{
    FILE *out = call->out;
    char notes[1024], value[400];
    struct text text = text_over(notes, sizeof notes);
    notes_of(flag, &text);
    fprintf(out, "%s: %s, %s\n", cli_word(flag, "key"), cli_word(flag, "type"), state_of(flag));
    print_variants(call, flag);
    fprintf(out, "  %-10s %s\n", "source", cli_word(flag, "source"));
    if (notes[0] != '\0')
        fprintf(out, "  %-10s %s\n", "note", notes);
    print_use(call, json_object_get(flag, "usage"));
    if (json_object_size(json_object_get(flag, "metadata")) > 0) {
        cli_json_text(json_object_get(flag, "metadata"), value, sizeof value);
        fprintf(out, "  %-10s %s\n", "metadata", value);
    }
    const json_t *problems = json_object_get(flag, "problems");
    for (size_t i = 0; i < json_array_size(problems); i++)
        fprintf(out, "  %-10s %s\n", "problem", cli_word(json_array_get(problems, i), "text"));
    if (json_is_object(json_object_get(flag, "definition"))) {
        fprintf(out, "\n");
        cli_print_json(out, json_object_get(flag, "definition"));
    }
}

int cli_run_flag_show(const struct cli_call *call)
{
    struct cli_client *client = NULL;
    char path[FLAG_PATH_BYTES];
    json_t *answer = NULL;
    int code = flag_open_client(call, &client);
    if (code == CLI_EXIT_OK) {
        flag_path(call->args[0], "", path);
        code = cli_get(call, client, path, &answer);
    }
    if (code == CLI_EXIT_OK && cli_given(call, "json"))
        cli_print_json(call->out, answer);
    else if (code == CLI_EXIT_OK)
        print_flag(call, answer);
    json_decref(answer);
    cli_client_close(client);
    return code;
}

// ---- history ----

static void print_change(const struct cli_call *call, const json_t *change)
{
    time_t seconds = (time_t)(number_of(change, "time_ms") / 1000);
    const char *variant = json_string_value(json_object_get(change, "variant"));
    struct tm parts;
    char stamp[32] = "";
    if (localtime_r(&seconds, &parts) != NULL)
        (void)strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S", &parts);
    fprintf(call->out, "%6" JSON_INTEGER_FORMAT "  %s  %-5s  %s", number_of(change, "number"), stamp,
            cli_word(change, "op"), cli_word(change, "key"));
    if (variant != NULL)
        fprintf(call->out, " (\"%s\" for everybody)", cli_shown(variant));
    fprintf(call->out, "  by %s from %s\n", cli_word(change, "who"), cli_word(change, "from"));
}

int cli_run_flag_history(const struct cli_call *call)
{
    struct cli_client *client = NULL;
    char path[FLAG_PATH_BYTES] = "/v1/flags?history=1&limit=1000";
    json_t *answer = NULL;
    int code = flag_open_client(call, &client);
    if (code == CLI_EXIT_OK) {
        if (call->arg_count > 0)
            flag_path(call->args[0], "/history?limit=1000", path);
        code = cli_get(call, client, path, &answer);
    }
    const json_t *changes = json_object_get(answer, "changes");
    if (code == CLI_EXIT_OK && cli_given(call, "json")) {
        cli_print_json(call->out, answer);
    } else if (code == CLI_EXIT_OK) {
        if (number_of(answer, "older") > 0)
            fprintf(call->out, "(%" JSON_INTEGER_FORMAT " older changes are not shown)\n",
                    number_of(answer, "older"));
        for (size_t i = 0; i < json_array_size(changes); i++)
            print_change(call, json_array_get(changes, i));
        if (json_array_size(changes) == 0)
            fprintf(call->out, "Nothing has been changed at runtime.\n");
    }
    json_decref(answer);
    cli_client_close(client);
    return code;
}
