// SPDX-License-Identifier: Apache-2.0
// Changes of flags: set, on, off, unset. A command ends when its change is in force, or says that it is not
// yet.
#include <string.h>
#include <unistd.h>

#include "base/heap.h"
#include "daemon/cli/flag.h"
#include "daemon/cli/view.h"
#include "daemon/config/config.h"
#include "flags/runtime/runtime.h"

// ---- in force ----

int flag_wait(const struct cli_call *call, struct cli_client *client, json_int_t change, int64_t *took_ms)
{
    int64_t began_ms = cli_now_ms();
    int code = CLI_EXIT_OK;
    *took_ms = -1;
    while (code == CLI_EXIT_OK) {
        json_t *answer = NULL;
        code = cli_get(call, client, "/v1/flags?limit=0", &answer);
        bool done = json_integer_value(json_object_get(answer, "change")) >= change;
        json_decref(answer);
        int64_t now_ms = cli_now_ms();
        if (code == CLI_EXIT_OK && done) {
            *took_ms = now_ms - began_ms;
            return code;
        }
        if (now_ms - began_ms > FLAG_WAIT_MS_MAX)
            return code;
        usleep(FLAG_WAIT_POLL_MS * 1000);
    }
    return code;
}

void flag_print_force(const struct cli_call *call, int64_t took_ms)
{
    if (took_ms >= 0)
        fprintf(call->out, "  (in force)\n");
    else
        fprintf(call->out,
                "\nIt is in the journal, but not in force after %d s: \"sluice flag list\" tells what stands "
                "in its way.\n",
                FLAG_WAIT_MS_MAX / 1000);
}

// Sends a change and waits until it is in force. On CLI_EXIT_OK *answer is the caller's.
static int send_change(const struct cli_call *call, struct cli_client *client, const char *method,
                       const char *tail, struct slice body, json_t **answer, int64_t *took_ms)
{
    char path[FLAG_PATH_BYTES];
    flag_path(call->args[0], tail, path);
    *answer = NULL;
    *took_ms = -1;
    int code = cli_send(call, client, method, path, body, answer);
    if (code == CLI_EXIT_OK)
        code = flag_wait(call, client, json_integer_value(json_object_get(*answer, "change")), took_ms);
    if (code == CLI_EXIT_OK)
        json_object_set_new(*answer, "in_force", json_boolean(*took_ms >= 0));
    return code;
}

// Sends a change, waits until it is in force, and says so after the sentence given.
static int change_flag(const struct cli_call *call, struct cli_client *client, const char *method,
                       const char *tail, struct slice body, const char *sentence)
{
    json_t *answer;
    int64_t took_ms;
    int code = send_change(call, client, method, tail, body, &answer, &took_ms);
    if (code == CLI_EXIT_OK && cli_given(call, "json")) {
        cli_print_json(call->out, answer);
    } else if (code == CLI_EXIT_OK) {
        fprintf(call->out, "%s: %s", cli_shown(call->args[0]), sentence);
        flag_print_force(call, took_ms);
    }
    json_decref(answer);
    return code == CLI_EXIT_OK && took_ms < 0 ? CLI_EXIT_NO : code;
}

// ---- on, off ----

int cli_run_flag_on(const struct cli_call *call)
{
    struct cli_client *client = NULL;
    int code = flag_open_client(call, &client);
    if (code == CLI_EXIT_OK)
        code = change_flag(call, client, "POST", "/on", SLICE("{}"), "on; its own rules decide");
    cli_client_close(client);
    return code;
}

static void print_gets(const struct cli_call *call, const char *who, const json_t *what)
{
    const char *variant = json_string_value(json_object_get(what, "kill_variant"));
    if (variant != NULL)
        fprintf(call->out, "%s gets \"%s\"", who, cli_shown(variant));
    else
        fprintf(call->out, "%s gets the default in the caller's own code", who);
}

// What the flag gives now that it is off, and to whom: each set of flags may define it otherwise.
static void print_off(const struct cli_call *call, const json_t *flag, int64_t took_ms)
{
    size_t i;
    json_t *other;
    fprintf(call->out, "%s: off", cli_shown(call->args[0]));
    if (took_ms >= 0)
        print_gets(call, "; everybody", flag);
    flag_print_force(call, took_ms);
    json_array_foreach(json_object_get(flag, "elsewhere"), i, other)
    {
        char who[FLAG_PATH_BYTES];
        snprintf(who, sizeof who, "  but who asks with %s", cli_word(other, "selector"));
        print_gets(call, who, other);
        fputc('\n', call->out);
    }
}

static int switch_off(const struct cli_call *call, struct cli_client *client, struct slice body)
{
    char path[FLAG_PATH_BYTES];
    json_t *answer, *flag = NULL;
    int64_t took_ms;
    int code = send_change(call, client, "POST", "/off", body, &answer, &took_ms);
    flag_path(call->args[0], "", path);
    if (code == CLI_EXIT_OK)
        code = cli_get(call, client, path, &flag);
    if (code == CLI_EXIT_OK && cli_given(call, "json")) {
        json_object_set(answer, "kill_variant", json_object_get(flag, "kill_variant"));
        json_object_set(answer, "elsewhere", json_object_get(flag, "elsewhere"));
        cli_print_json(call->out, answer);
    } else if (code == CLI_EXIT_OK) {
        print_off(call, flag, took_ms);
    }
    json_decref(flag);
    json_decref(answer);
    return code == CLI_EXIT_OK && took_ms < 0 ? CLI_EXIT_NO : code;
}

int cli_run_flag_off(const struct cli_call *call)
{
    const char *variant = cli_value(call, "variant");
    struct cli_client *client = NULL;
    int code = flag_open_client(call, &client);
    if (code != CLI_EXIT_OK)
        return code;
    json_t *body = variant != NULL ? json_pack("{s:s}", "variant", variant) : json_object();
    char *text = cli_json_dump(body, JSON_COMPACT);
    json_decref(body);
    if (text == NULL) {
        fprintf(call->err, "sluice: \"%s\" cannot be the name of a variant\n", cli_shown(variant));
        code = CLI_EXIT_USAGE;
    } else {
        code = switch_off(call, client, slice_of(text));
    }
    heap_free(text);
    cli_client_close(client);
    return code == CLI_EXIT_UNREACHABLE ? cli_offline_flag_off(call) : code;
}

// ---- set ----

// The definition is checked here first, so that what is wrong is shown in its own file with a caret; the
// daemon checks it again beside everything it depends on.
static int check_definition(const struct cli_call *call, const struct flag_file *file)
{
    static const char HEAD[] = "{\"flags\":{\"f\":";
    static const char TAIL[] = "}}";
    size_t len = sizeof HEAD - 1 + file->len + sizeof TAIL - 1;
    struct flag_file whole = {.name = file->name, .text = heap_alloc(len + 1, 1), .len = len};
    struct flag_compiled compiled;
    if (whole.text == NULL)
        return CLI_EXIT_UNREADABLE;
    memcpy(whole.text, HEAD, sizeof HEAD - 1);
    memcpy(whole.text + sizeof HEAD - 1, file->text, file->len);
    memcpy(whole.text + sizeof HEAD - 1 + file->len, TAIL, sizeof TAIL - 1);
    enum status status = flag_compile(&whole, (struct slice){"", 0}, FLAG_CHECK_PART, &compiled);
    int code = CLI_EXIT_OK;
    whole.len -= sizeof TAIL - 1; // what is not the user's is not shown
    if (status == STATUS_OK && !compiled.valid) {
        code = CLI_EXIT_NO;
        for (size_t i = 0; i < compiled.kept; i++)
            if (compiled.problems[i].severity == FLAGS_ERROR)
                flag_problem_print(call->err, &whole, &compiled.problems[i], sizeof HEAD - 1);
    }
    if (status == STATUS_OK)
        flag_compiled_free(&compiled);
    heap_free(whole.text);
    return code;
}

// People give the whole file where one flag is wanted.
static void hint_many(const struct cli_call *call, const struct flag_file *file)
{
    json_t *root = json_loadb(file->text, file->len, JSON_ALLOW_NUL, NULL);
    if (json_object_get(root, "flags") != NULL)
        fprintf(call->err,
                "This is a file of several flags: \"sluice flag import %s --apply\" sets them all.\n",
                file->name);
    json_decref(root);
}

static int set_from_file(const struct cli_call *call, struct cli_client *client)
{
    struct flag_file file;
    int code = flag_file_read(call, call->args[1], &file);
    if (code != CLI_EXIT_OK)
        return code;
    code = check_definition(call, &file);
    if (code == CLI_EXIT_NO)
        hint_many(call, &file);
    if (code == CLI_EXIT_OK)
        code = change_flag(call, client, "PUT", "", (struct slice){file.text, file.len}, "set");
    flag_file_free(&file);
    return code;
}

static int unknown_variant(const struct cli_call *call, const json_t *variants, const char *wanted)
{
    const char *known[64];
    size_t count = 0;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)variants, name, value)
    {
        (void)value;
        if (count < ARRAY_LEN(known))
            known[count++] = name;
    }
    const char *nearest = count > 0 ? config_nearest(slice_of(wanted), known, count) : NULL;
    fprintf(call->err, "sluice: flag \"%s\" has no variant \"%s\"", cli_shown(call->args[0]),
            cli_shown(wanted));
    if (nearest != NULL)
        fprintf(call->err, "; did you mean \"%s\"?\n", cli_shown(nearest));
    else
        fprintf(call->err, "\n");
    return CLI_EXIT_NO;
}

// The definition as it is, with another default variant.
static int set_default(const struct cli_call *call, struct cli_client *client, const char *variant)
{
    char path[FLAG_PATH_BYTES], sentence[400];
    json_t *answer = NULL;
    flag_path(call->args[0], "", path);
    int code = cli_get(call, client, path, &answer);
    if (code != CLI_EXIT_OK)
        return code;
    json_t *definition = json_object_get(answer, "definition");
    const json_t *variants = json_object_get(definition, "variants");
    if (json_object_get(variants, variant) == NULL) {
        code = unknown_variant(call, variants, variant);
    } else {
        json_object_set_new(definition, "defaultVariant", json_string(variant));
        char *text = cli_json_dump(definition, JSON_COMPACT);
        snprintf(sentence, sizeof sentence, "set; by default \"%s\"%s", cli_shown(variant),
                 json_object_get(definition, "targeting") != NULL ? ", where its targeting says nothing else"
                                                                  : "");
        code = text != NULL ? change_flag(call, client, "PUT", "", slice_of(text), sentence)
                            : CLI_EXIT_UNREADABLE;
        heap_free(text);
    }
    json_decref(answer);
    return code;
}

int cli_run_flag_set(const struct cli_call *call)
{
    const char *variant = cli_value(call, "default");
    struct cli_client *client = NULL;
    if ((call->arg_count == 2) == (variant != NULL)) {
        fprintf(
            call->err,
            "sluice flag set: give either a file with the definition (\"-\": standard input) or --default "
            "VARIANT\nTry \"sluice help flag set\".\n");
        return CLI_EXIT_USAGE;
    }
    int code = flag_open_client(call, &client);
    if (code == CLI_EXIT_OK)
        code = variant != NULL ? set_default(call, client, variant) : set_from_file(call, client);
    cli_client_close(client);
    return code;
}

// ---- unset ----

// What is left of the flag once nothing stands over it.
static void print_left(const struct cli_call *call, struct cli_client *client)
{
    char path[FLAG_PATH_BYTES];
    json_t *answer = NULL;
    unsigned http = 0;
    flag_path(call->args[0], "", path);
    if (cli_client_get(client, path, &http, &answer) != STATUS_OK)
        return;
    if (http == 404)
        fprintf(call->out, "No source has it: it is gone, and callers get the default in their own code.\n");
    else if (http == 200)
        fprintf(call->out, "Now as %s says.\n", cli_word(answer, "source"));
    json_decref(answer);
}

static bool sure(const struct cli_call *call, struct cli_client *client, int *code)
{
    char path[FLAG_PATH_BYTES], question[600];
    json_t *answer = NULL;
    flag_path(call->args[0], "", path);
    *code = cli_get(call, client, path, &answer);
    if (*code != CLI_EXIT_OK)
        return false;
    bool defined = json_is_true(json_object_get(json_object_get(answer, "overlay"), "defined"));
    json_decref(answer);
    if (!defined || cli_given(call, "yes") || isatty(STDIN_FILENO) != 1)
        return true;
    snprintf(question, sizeof question, "Take away the definition of %s that was set at runtime?",
             cli_shown(call->args[0]));
    if (cli_ask_person(call, question))
        return true;
    fprintf(call->err, "Nothing was done.\n");
    *code = CLI_EXIT_NO;
    return false;
}

int cli_run_flag_unset(const struct cli_call *call)
{
    struct cli_client *client = NULL;
    int code = flag_open_client(call, &client);
    if (code == CLI_EXIT_OK && sure(call, client, &code)) {
        code = change_flag(call, client, "DELETE", "", (struct slice){NULL, 0},
                           "what was changed at runtime is taken away");
        if (code == CLI_EXIT_OK && !cli_given(call, "json"))
            print_left(call, client);
    }
    cli_client_close(client);
    return code;
}
