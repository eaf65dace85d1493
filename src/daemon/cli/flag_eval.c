// SPDX-License-Identifier: Apache-2.0
// `sluice flag eval`: what somebody gets, and which rule decided. By the daemon, or offline from a file.
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/heap.h"
#include "daemon/cli/flag.h"
#include "daemon/config/config.h"
#include "flags/runtime/runtime.h"

// ---- the context ----

static int load_context(const struct cli_call *call, json_t **context)
{
    const char *given = cli_value(call, "context");
    struct flag_file file = {0};
    json_error_t error;
    if (given == NULL) {
        *context = json_object();
        return CLI_EXIT_OK;
    }
    if (given[0] == '@') {
        int code = flag_file_read(call, given + 1, &file);
        if (code != CLI_EXIT_OK)
            return code;
        *context = json_loadb(file.text, file.len, JSON_ALLOW_NUL, &error);
        flag_file_free(&file);
    } else {
        *context = json_loads(given, JSON_ALLOW_NUL, &error);
    }
    if (json_is_object(*context))
        return CLI_EXIT_OK;
    if (*context == NULL)
        fprintf(call->err, "sluice: --context is no JSON object: line %d, column %d: %s\n", error.line,
                error.column, cli_shown(error.text));
    else
        fprintf(call->err, "sluice: --context is an object such as {\"plan\": \"beta\"}, or @FILE\n");
    json_decref(*context);
    return CLI_EXIT_USAGE;
}

// --context as an object with --key in it.
static int read_context(const struct cli_call *call, json_t **context)
{
    const char *key = cli_value(call, "key");
    int code = load_context(call, context);
    if (code != CLI_EXIT_OK || key == NULL)
        return code;
    json_t *target = json_string(key);
    if (target != NULL && json_object_set_new(*context, "targetingKey", target) == 0)
        return CLI_EXIT_OK;
    fprintf(call->err, "sluice: --key is no UTF-8\n");
    json_decref(*context);
    return CLI_EXIT_USAGE;
}

// ---- offline ----

static int type_of(const struct cli_call *call, enum flags_type *type)
{
    const char *given = cli_value(call, "type");
    *type = FLAGS_ANY;
    if (given == NULL || flags_type_read(slice_of(given), type) == STATUS_OK)
        return CLI_EXIT_OK;
    fprintf(call->err, "sluice: --type is boolean, string, integer, float, object or any, not \"%s\"\n",
            cli_shown(given));
    return CLI_EXIT_USAGE;
}

static void set_slice(json_t *object, const char *name, struct slice text)
{
    json_object_set_new(object, name, text.len > 0 ? json_stringn(text.data, text.len) : json_null());
}

static json_t *result_json(const struct flags_result *result, const struct text *path)
{
    json_t *value = result->has_value ? json_loadb(result->json.data, result->json.len,
                                                   JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL)
                                      : NULL;
    json_t *json =
        json_pack("{s:b, s:s}", "has_value", result->has_value, "reason", flags_reason_name(result->reason));
    json_object_set_new(json, "value", value != NULL ? value : json_null());
    set_slice(json, "variant", result->variant);
    set_slice(json, "error", slice_of(flags_error_name(result->error)));
    set_slice(json, "error_text", result->error_text);
    set_slice(json, "note", result->note);
    set_slice(json, "path", text_slice(path));
    return json;
}

// Parses the context for the evaluator; NULL when memory ran out.
static const struct flags_json *context_tree(const char *text, size_t len, struct flags_json_space *space)
{
    uint32_t cap = (uint32_t)(len / 2 + 2);
    struct flags_json *root = NULL;
    struct flags_json_error fault;
    *space = (struct flags_json_space){.nodes = heap_alloc(cap, sizeof *space->nodes),
                                       .node_cap = cap,
                                       .chars = heap_alloc(len + 1, 1),
                                       .char_cap = len,
                                       .last_wins = true};
    if (space->nodes == NULL || space->chars == NULL ||
        flags_json_parse((struct slice){text, len}, space, &root, &fault) != STATUS_OK)
        return NULL;
    return root;
}

static int say_unknown(const struct cli_call *call, const struct flags_image *set, const char *file)
{
    enum { KNOWN_MAX = 500 };
    const char *known[KNOWN_MAX];
    size_t count = 0;
    uint32_t cursor = 0;
    struct flags_info info;
    while (count < KNOWN_MAX && flags_image_next(set, &cursor, &info)) {
        char *copy = heap_strndup(info.key.data, info.key.len);
        if (copy != NULL)
            known[count++] = copy;
    }
    const char *nearest = count > 0 ? config_nearest(slice_of(call->args[0]), known, count) : NULL;
    fprintf(call->err, "sluice: there is no flag \"%s\" in %s", cli_shown(call->args[0]), file);
    if (nearest != NULL)
        fprintf(call->err, "; did you mean \"%s\"?", cli_shown(nearest));
    fprintf(call->err, "\n");
    for (size_t i = 0; i < count; i++)
        heap_free((void *)(uintptr_t)known[i]);
    return CLI_EXIT_NO;
}

static json_t *evaluate(const struct cli_call *call, const struct flags_image *set, enum flags_type type,
                        const json_t *context)
{
    static char scratch[FLAGS_SCRATCH_DEFAULT];
    char storage[FLAG_PATH_BYTES];
    struct text path = text_over(storage, sizeof storage);
    struct flags_json_space space = {0};
    char *text = cli_json_dump(context, JSON_COMPACT);
    const struct flags_json *tree = text != NULL ? context_tree(text, strlen(text), &space) : NULL;
    json_t *json = NULL;
    if (tree != NULL) {
        struct flags_context where = {.tree = tree, .key_required = true, .time_s = (uint64_t)time(NULL)};
        struct flags_result result;
        flags_explain(set, slice_of(call->args[0]), type, &where,
                      (struct flags_scratch){scratch, sizeof scratch}, &result, &path);
        json = result_json(&result, &path);
    } else {
        fprintf(call->err, "sluice: the context is nested too deeply, or no memory is left\n");
    }
    heap_free(text);
    heap_free(space.nodes);
    heap_free(space.chars);
    return json;
}

static void print_errors(const struct cli_call *call, const struct flag_file *file,
                         const struct flag_compiled *compiled)
{
    for (size_t i = 0; i < compiled->kept; i++)
        if (compiled->problems[i].severity == FLAGS_ERROR)
            flag_problem_print(call->err, file, &compiled->problems[i], 0);
}

// The definition of the flag as the file has it, for showing the rule.
static json_t *definition_in(const struct flag_file *file, const char *key)
{
    json_t *root = json_loadb(file->text, file->len, JSON_ALLOW_NUL, NULL);
    const json_t *flags = json_object_get(root, "flags");
    json_t *found = json_is_object(flags) ? json_object_get(flags, key) : NULL;
    for (size_t i = 0; i < json_array_size(flags); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(flags, i), "key"));
        if (name != NULL && strcmp(name, key) == 0)
            found = json_array_get(flags, i);
    }
    json_incref(found);
    json_decref(root);
    return found;
}

static int eval_file(const struct cli_call *call, const json_t *context, json_t **result, json_t **definition)
{
    struct flag_file file;
    struct flag_compiled compiled;
    enum flags_type type;
    char *segments = NULL;
    int code = type_of(call, &type);
    if (code == CLI_EXIT_OK)
        code = flag_segments_read(call, &segments);
    if (code == CLI_EXIT_OK)
        code = flag_file_read(call, cli_value(call, "file"), &file);
    if (code != CLI_EXIT_OK) {
        heap_free(segments);
        return code;
    }
    struct slice rules = segments != NULL ? slice_of(segments) : (struct slice){"", 0};
    struct flags_info info;
    if (flag_compile(&file, rules, FLAG_CHECK_WHOLE, &compiled) != STATUS_OK) {
        fprintf(call->err, "sluice: %s is too large\n", file.name);
        code = CLI_EXIT_UNREADABLE;
    } else if (!compiled.valid) {
        print_errors(call, &file, &compiled);
        code = CLI_EXIT_NO;
    } else if (!flags_image_find(&compiled.set, slice_of(call->args[0]), &info)) {
        code = say_unknown(call, &compiled.set, file.name);
    } else {
        *result = evaluate(call, &compiled.set, type, context);
        *definition = definition_in(&file, call->args[0]);
        code = *result != NULL ? CLI_EXIT_OK : CLI_EXIT_UNREADABLE;
    }
    flag_compiled_free(&compiled);
    flag_file_free(&file);
    heap_free(segments);
    return code;
}

// ---- by the daemon ----

static int eval_daemon(const struct cli_call *call, json_t *context, json_t **result, json_t **definition)
{
    struct cli_client *client = NULL;
    enum flags_type type;
    char path[FLAG_PATH_BYTES];
    int code = type_of(call, &type);
    if (code == CLI_EXIT_OK)
        code = flag_open_client(call, &client);
    if (code != CLI_EXIT_OK)
        return code;
    json_t *body = json_pack("{s:O}", "context", context);
    if (cli_given(call, "type"))
        json_object_set_new(body, "type", json_string(cli_value(call, "type")));
    char *text = cli_json_dump(body, JSON_COMPACT);
    flag_path(call->args[0], "/eval", path);
    code = text != NULL ? cli_send(call, client, "POST", path, slice_of(text), result) : CLI_EXIT_UNREADABLE;
    json_t *shown = NULL;
    unsigned http = 0;
    flag_path(call->args[0], "", path);
    if (code == CLI_EXIT_OK && cli_client_get(client, path, &http, &shown) == STATUS_OK) {
        *definition = json_incref(json_object_get(shown, "definition"));
        json_decref(shown);
    }
    heap_free(text);
    json_decref(body);
    cli_client_close(client);
    return code;
}

// ---- what decided ----

static void print_rule(const struct cli_call *call, const char *word, const json_t *rule)
{
    char text[400];
    if (rule == NULL)
        return;
    cli_json_text(rule, text, sizeof text);
    fprintf(call->out, "    %-8s %s\n", cli_shown(word), text);
}

// One step of the path: the argument at index of the operator, and what a person wants to know of it.
static const json_t *print_step(const struct cli_call *call, const json_t *rule, const char *op, size_t index)
{
    const json_t *arguments = json_object_get(rule, op);
    const json_t *first = json_is_array(arguments) ? json_array_get(arguments, 0) : arguments;
    if (strcmp(op, "fractional") == 0) {
        size_t skip = json_is_array(first) ? 0 : 1;
        if (skip == 1)
            print_rule(call, "split by", first);
        print_rule(call, "bucket", json_array_get(arguments, index + skip));
        return NULL;
    }
    const json_t *taken = json_is_array(arguments) ? json_array_get(arguments, index) : first;
    if (strcmp(op, "if") == 0 && index % 2 == 1)
        print_rule(call, "because", json_array_get(arguments, index - 1));
    else if (strcmp(op, "if") == 0)
        fprintf(call->out, "    %-8s (none of the conditions held)\n", "else");
    else
        print_rule(call, op, taken);
    return taken;
}

// Walks "targeting.if[1].fractional[0]" over the definition.
static void print_trail(const struct cli_call *call, const json_t *definition, const char *path)
{
    const json_t *rule = json_object_get(definition, "targeting");
    const char *at = strchr(path, '.');
    if (strncmp(path, "targeting", 9) != 0) {
        char word[64];
        snprintf(word, sizeof word, "%.*s", (int)strcspn(path, ".["), path);
        print_rule(call, "rule", json_object_get(json_object_get(definition, "x-sluice"), word));
        return;
    }
    while (at != NULL && json_is_object(rule)) {
        char op[64];
        size_t len = strcspn(at + 1, "[.");
        if (at[1 + len] != '[' || len >= sizeof op)
            return;
        memcpy(op, at + 1, len);
        op[len] = '\0';
        rule = print_step(call, rule, op, strtoul(at + len + 2, NULL, 10));
        at = strchr(at + len + 2, '.');
    }
}

static void print_result(const struct cli_call *call, const json_t *result, const json_t *definition)
{
    char value[1000];
    const char *variant = json_string_value(json_object_get(result, "variant"));
    const char *path = json_string_value(json_object_get(result, "path"));
    cli_json_text(json_object_get(result, "value"), value, sizeof value);
    if (json_is_true(json_object_get(result, "has_value")))
        fprintf(call->out, "%s = %s", cli_shown(call->args[0]), value);
    else
        fprintf(call->out, "%s: the default in the caller's code", cli_shown(call->args[0]));
    if (variant != NULL)
        fprintf(call->out, "   (variant \"%s\")", cli_shown(variant));
    fprintf(call->out, "\n  reason     %s\n", cli_word(result, "reason"));
    if (json_is_string(json_object_get(result, "error")))
        fprintf(call->out, "  error      %s: %s%s\n", cli_word(result, "error"),
                cli_word(result, "error_text"),
                strcmp(cli_word(result, "error"), "TARGETING_KEY_MISSING") == 0 ? " (--key KEY)" : "");
    if (json_is_string(json_object_get(result, "note")))
        fprintf(call->out, "  note       %s\n", cli_word(result, "note"));
    if (path == NULL)
        return;
    fprintf(call->out, "  decided by %s\n", cli_shown(path));
    print_trail(call, definition, path);
}

int cli_run_flag_eval(const struct cli_call *call)
{
    json_t *result = NULL;
    json_t *definition = NULL;
    json_t *context = NULL;
    int code = read_context(call, &context);
    if (code != CLI_EXIT_OK)
        return code;
    code = cli_given(call, "file") ? eval_file(call, context, &result, &definition)
                                   : eval_daemon(call, context, &result, &definition);
    if (code == CLI_EXIT_OK && cli_given(call, "json"))
        cli_print_json(call->out, result);
    else if (code == CLI_EXIT_OK)
        print_result(call, result, definition);
    if (code == CLI_EXIT_OK && json_is_string(json_object_get(result, "error")))
        code = CLI_EXIT_NO;
    json_decref(result);
    json_decref(definition);
    json_decref(context);
    return code;
}
