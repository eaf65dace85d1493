// SPDX-License-Identifier: Apache-2.0
// `sluice flag import` and `export`: files of other systems become flagd files, or flags of the running
// daemon. What does not map is said; what would be overwritten is said before it is.
#include <string.h>
#include <unistd.h>

#include "base/heap.h"
#include "daemon/cli/flag.h"
#include "flags/convert/convert.h"
#include "flags/runtime/runtime.h"

enum {
    PART_FLAGS_MAX = 25,
    PART_BYTES_MAX = 768 * 1024,
    EVALUATOR_DEPTH_MAX = 32,
    CHAIN_MAX = 32,
    NAMED_MAX = 20
};

// ---- converting ----

static int read_format(const struct cli_call *call, enum convert_format *format)
{
    static const enum convert_format formats[] = {CONVERT_AUTO, CONVERT_FLAGD, CONVERT_LAUNCHDARKLY,
                                                  CONVERT_UNLEASH};
    const char *given = cli_value(call, "from");
    *format = CONVERT_AUTO;
    for (size_t i = 0; i < sizeof formats / sizeof formats[0] && given != NULL; i++) {
        *format = formats[i];
        if (strcmp(given, convert_format_name(formats[i])) == 0)
            return CLI_EXIT_OK;
    }
    if (given == NULL)
        return CLI_EXIT_OK;
    fprintf(call->err, "sluice: --from is launchdarkly, unleash or flagd, not \"%s\"\n", cli_shown(given));
    return CLI_EXIT_USAGE;
}

// On standard error, so that the file can go to standard output.
static uint32_t say_findings(const struct cli_call *call, const struct convert_result *result)
{
    uint32_t lost = 0;
    for (uint32_t i = 0; i < result->finding_count; i++) {
        const struct convert_finding *finding = &result->findings[i];
        lost += finding->lost;
        fprintf(call->err, "%-8s %s%s%s\n", finding->lost ? "LOST" : "differs", cli_shown(finding->flag),
                finding->flag[0] != '\0' ? ": " : "", cli_shown(finding->text));
    }
    if (result->finding_count > 0)
        fprintf(call->err, "%u flag%s, %u part%s lost, %u that differ%s\n", result->flag_count,
                result->flag_count == 1 ? "" : "s", lost, lost == 1 ? "" : "s", result->finding_count - lost,
                result->finding_count - lost == 1 ? "s" : "");
    return lost;
}

static int say_unconverted(const struct cli_call *call, const struct flag_file *file, enum status status,
                           const struct convert_result *result)
{
    const char *why = result->finding_count > 0    ? cli_shown(result->findings[0].text)
                      : status == STATUS_NO_MEMORY ? "no memory is left"
                      : status == STATUS_RANGE     ? "it is too large"
                                                   : "it is not in a form that is known";
    fprintf(call->err, "sluice: %s cannot be imported: %s%s\n", file->name, why,
            strstr(why, "environment") != NULL ? " (--environment NAME)" : "");
    return status == STATUS_NO_MEMORY ? CLI_EXIT_UNREADABLE : CLI_EXIT_NO;
}

// ---- applying ----

// Replaces {"$ref": name} by the evaluator itself: a flag that is set alone has no file around it.
static json_t *inline_refs(json_t *rule, const json_t *evaluators, int depth)
{
    const char *name = json_string_value(json_object_get(rule, "$ref"));
    json_t *target = name != NULL ? json_object_get(evaluators, name) : NULL;
    const char *member;
    json_t *value;
    size_t i;
    if (depth > EVALUATOR_DEPTH_MAX || (json_object_size(rule) == 1 && name != NULL && target == NULL))
        return json_incref(rule);
    if (target != NULL)
        return inline_refs(target, evaluators, depth + 1);
    if (json_is_object(rule)) {
        json_t *copy = json_object();
        json_object_foreach(rule, member, value)
            json_object_set_new(copy, member, inline_refs(value, evaluators, depth));
        return copy;
    }
    if (!json_is_array(rule))
        return json_incref(rule);
    json_t *copy = json_array();
    json_array_foreach(rule, i, value) json_array_append_new(copy, inline_refs(value, evaluators, depth));
    return copy;
}

// What the file says about all of its flags at once cannot be set with a single one.
static int read_flags(const struct cli_call *call, const struct convert_result *result, json_t **flags)
{
    json_t *root = json_loadb(result->json, result->len, JSON_ALLOW_NUL, NULL);
    json_t *all = json_object_get(root, "flags");
    const json_t *evaluators = json_object_get(root, "$evaluators");
    const json_t *settings = json_object_get(root, "x-sluice");
    const char *key;
    json_t *flag;
    json_int_t generation = json_integer_value(json_object_get(settings, "fractional"));
    if (!json_is_object(all) || (generation != 0 && generation != 3)) {
        fprintf(
            call->err, "sluice: %s\n",
            json_is_object(all)
                ? "this file buckets by an older generation of \"fractional\"; flags set one by one use the "
                  "newest and would move users. Name the file as a source instead"
                : "there are no flags in it");
        json_decref(root);
        return CLI_EXIT_NO;
    }
    *flags = json_object();
    json_object_foreach(all, key, flag)
    {
        json_t *copy = json_copy(flag);
        json_t *targeting = json_object_get(copy, "targeting");
        if (targeting != NULL)
            json_object_set_new(copy, "targeting", inline_refs(targeting, evaluators, 0));
        json_object_set_new(*flags, key, copy);
    }
    json_decref(root);
    return CLI_EXIT_OK;
}

// Names of those flags that the daemon has already.
static int find_existing(const struct cli_call *call, struct cli_client *client, const json_t *flags,
                         json_t *existing)
{
    char path[FLAG_PATH_BYTES] = "/v1/flags?limit=1000";
    int code = CLI_EXIT_OK;
    for (bool more = true; more && code == CLI_EXIT_OK;) {
        json_t *answer = NULL;
        code = cli_get(call, client, path, &answer);
        const json_t *page = json_object_get(answer, "flags");
        for (size_t i = 0; i < json_array_size(page); i++) {
            json_t *key = json_object_get(json_array_get(page, i), "key");
            if (json_is_string(key) && json_object_get(flags, json_string_value(key)) != NULL)
                json_array_append(existing, key);
        }
        const char *next = json_string_value(json_object_get(answer, "next"));
        more = next != NULL;
        if (more)
            flag_after_path("/v1/flags?limit=1000&after=", next, path);
        json_decref(answer);
    }
    return code;
}

static bool sure(const struct cli_call *call, const json_t *flags, const json_t *existing)
{
    size_t count = json_array_size(existing);
    fprintf(call->err, "%zu flag%s will be set at runtime", json_object_size(flags),
            json_object_size(flags) == 1 ? "" : "s");
    if (count > 0)
        fprintf(call->err, "; %zu of them exist%s already and will be as the import says:", count,
                count == 1 ? "s" : "");
    for (size_t i = 0; i < count && i < NAMED_MAX; i++)
        fprintf(call->err, " %s", cli_shown(json_string_value(json_array_get(existing, i))));
    fprintf(call->err, "%s\n", count > NAMED_MAX ? " ..." : "");
    if (cli_given(call, "yes"))
        return true;
    if (isatty(STDIN_FILENO) != 1)
        fprintf(call->err, "Nothing was done: say --yes to do it.\n");
    else if (cli_ask_person(call, "Set them?"))
        return true;
    else
        fprintf(call->err, "Nothing was done.\n");
    return false;
}

// What a flag asks for comes before it, so that no part needs one that comes later. `seen` ends circles; a
// chain that is too long is refused where it is checked.
static void put_in_order(json_t *flags, const char *key, uint32_t depth, json_t *seen, json_t *ordered)
{
    json_t *flag = json_object_get(flags, key);
    size_t i;
    json_t *asked;
    if (flag == NULL || json_object_get(seen, key) != NULL || depth > CHAIN_MAX)
        return;
    json_object_set_new(seen, key, json_true());
    json_array_foreach(json_object_get(json_object_get(flag, "x-sluice"), "prerequisites"), i, asked)
    {
        const char *name = json_string_value(json_object_get(asked, "flag"));
        if (name != NULL)
            put_in_order(flags, name, depth + 1, seen, ordered);
    }
    json_object_set(ordered, key, flag);
}

static json_t *in_order(json_t *flags)
{
    json_t *ordered = json_object();
    json_t *seen = json_object();
    const char *key;
    json_t *flag;
    json_object_foreach(flags, key, flag)
    {
        put_in_order(flags, key, 0, seen, ordered);
    }
    json_decref(seen);
    return ordered;
}

static int send_part(const struct cli_call *call, struct cli_client *client, json_t *part, json_int_t *change)
{
    json_t *body = json_pack("{s:O}", "flags", part);
    char *text = cli_json_dump(body, JSON_COMPACT);
    json_t *answer = NULL;
    int code = text != NULL ? cli_send(call, client, "POST", "/v1/flags", slice_of(text), &answer)
                            : CLI_EXIT_UNREADABLE;
    if (code == CLI_EXIT_OK)
        *change = json_integer_value(json_object_get(answer, "change"));
    json_decref(answer);
    heap_free(text);
    json_decref(body);
    return code;
}

static int send_all(const struct cli_call *call, struct cli_client *client, json_t *flags, json_int_t *change)
{
    json_t *part = json_object();
    json_t *ordered = in_order(flags);
    size_t bytes = 0;
    size_t sent = 0;
    int code = CLI_EXIT_OK;
    const char *key;
    json_t *flag;
    json_object_foreach(ordered, key, flag)
    {
        size_t size = json_dumpb(flag, NULL, 0, JSON_COMPACT) + strlen(key) + 8;
        bool full = json_object_size(part) == PART_FLAGS_MAX ||
                    (bytes + size > PART_BYTES_MAX && json_object_size(part) > 0);
        if (full && code == CLI_EXIT_OK) {
            code = send_part(call, client, part, change);
            sent += code == CLI_EXIT_OK ? json_object_size(part) : 0;
            json_object_clear(part);
            bytes = 0;
        }
        json_object_set(part, key, flag);
        bytes += size;
    }
    if (code == CLI_EXIT_OK)
        code = send_part(call, client, part, change);
    json_decref(part);
    json_decref(ordered);
    if (code != CLI_EXIT_OK && sent > 0)
        fprintf(call->err, "sluice: %zu flags before them are set already\n", sent);
    return code;
}

static int apply(const struct cli_call *call, const struct convert_result *result)
{
    struct cli_client *client = NULL;
    json_t *flags = NULL;
    json_t *existing = json_array();
    json_int_t change = 0;
    int64_t took_ms = -1;
    int code = cli_client_of(call, &client);
    if (code == CLI_EXIT_OK)
        code = read_flags(call, result, &flags);
    if (code == CLI_EXIT_OK)
        code = find_existing(call, client, flags, existing);
    if (code == CLI_EXIT_OK && !sure(call, flags, existing))
        code = CLI_EXIT_NO;
    else if (code == CLI_EXIT_OK)
        code = send_all(call, client, flags, &change);
    bool sent = code == CLI_EXIT_OK && change > 0;
    if (sent)
        code = flag_wait(call, client, change, &took_ms);
    if (sent && code == CLI_EXIT_OK && cli_given(call, "json")) {
        json_t *done = json_pack("{s:I, s:I, s:b}", "set", (json_int_t)json_object_size(flags), "change",
                                 change, "in_force", took_ms >= 0);
        cli_print_json(call->out, done);
        json_decref(done);
    } else if (sent && code == CLI_EXIT_OK) {
        fprintf(call->out, "%zu flag%s set", json_object_size(flags),
                json_object_size(flags) == 1 ? "" : "s");
        flag_print_force(call, took_ms);
    }
    json_decref(flags);
    json_decref(existing);
    cli_client_close(client);
    return sent && code == CLI_EXIT_OK && took_ms < 0 ? CLI_EXIT_NO : code;
}

static int write_out(const struct cli_call *call, struct slice text)
{
    const char *name = cli_value(call, "output");
    if (name != NULL && strcmp(name, "-") != 0)
        return flag_file_write(call, name, text);
    bool ended = text.len > 0 && text.data[text.len - 1] == '\n';
    cli_print_json_text(call->out, text);
    if (!ended)
        fputc('\n', call->out);
    if (fflush(call->out) == 0)
        return CLI_EXIT_OK;
    fprintf(call->err, "sluice: the output cannot be written\n");
    return CLI_EXIT_UNREADABLE;
}

int cli_run_flag_import(const struct cli_call *call)
{
    struct convert_options options = {.environment = cli_value(call, "environment")};
    struct convert_result result = {0};
    struct flag_file file;
    int code = read_format(call, &options.format);
    if (code == CLI_EXIT_OK)
        code = flag_file_read(call, call->args[0], &file);
    if (code != CLI_EXIT_OK)
        return code;
    enum status status = convert_flags((struct slice){file.text, file.len}, &options, &result);
    if (status != STATUS_OK) {
        code = say_unconverted(call, &file, status, &result);
    } else {
        uint32_t lost = say_findings(call, &result);
        if (lost > 0 && cli_given(call, "strict")) {
            fprintf(call->err, "Nothing was done: --strict allows no loss.\n");
            code = CLI_EXIT_NO;
        }
        if (code == CLI_EXIT_OK && (!cli_given(call, "apply") || cli_given(call, "output")))
            code = write_out(call, (struct slice){result.json, result.len});
        if (code == CLI_EXIT_OK && cli_given(call, "apply"))
            code = apply(call, &result);
    }
    convert_result_free(&result);
    flag_file_free(&file);
    return code;
}

// ---- export ----

int cli_run_flag_export(const struct cli_call *call)
{
    struct cli_client *client = NULL;
    json_t *answer = NULL;
    int code = flag_open_client(call, &client);
    if (code == CLI_EXIT_OK)
        code = cli_get(call, client, "/v1/flags?export=1", &answer);
    if (code == CLI_EXIT_OK)
        code = write_out(call, cli_client_body(client));
    if (code == CLI_EXIT_OK && cli_value(call, "output") != NULL &&
        strcmp(cli_value(call, "output"), "-") != 0)
        fprintf(call->err, "%zu flags written to %s\n", json_object_size(json_object_get(answer, "flags")),
                cli_value(call, "output"));
    json_decref(answer);
    cli_client_close(client);
    return code;
}
