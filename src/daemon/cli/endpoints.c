// SPDX-License-Identifier: Apache-2.0
// `sluice endpoints`: the endpoints of a service's versions, and what an operator changes of them. A change
// reads the list that is in force and sends it as a whole.
#include <string.h>

#include "base/heap.h"
#include "daemon/cli/client.h"
#include "daemon/cli/shown.h"
#include "daemon/cli/view.h"

enum { PATH_BYTES = 256 };

static bool is_verb(const struct cli_call *call, const char *verb)
{
    return strcmp(call->command->verb, verb) == 0;
}

// The version that is meant; NULL: none, which has been told.
static json_t *version_of(const struct cli_call *call, const json_t *answer)
{
    json_t *versions = json_object_get(answer, "versions");
    const char *wanted = cli_value(call, "version");
    if (wanted == NULL && json_array_size(versions) == 1)
        return json_array_get(versions, 0);
    for (size_t i = 0; wanted != NULL && i < json_array_size(versions); i++)
        if (strcmp(cli_word(json_array_get(versions, i), "version"), wanted) == 0)
            return json_array_get(versions, i);
    fprintf(call->err, wanted == NULL ? "sluice: which version? Say --version\n"
                                      : "sluice: the service has no such version\n");
    return NULL;
}

static size_t find(const json_t *endpoints, const char *address)
{
    size_t at = 0;
    while (at < json_array_size(endpoints) &&
           strcmp(cli_word(json_array_get(endpoints, at), "address"), address) != 0)
        at++;
    return at;
}

// False: it cannot be changed so, which has been told.
static bool change_one(const struct cli_call *call, json_t *endpoints, const char *address, json_int_t weight)
{
    size_t at = find(endpoints, address);
    bool there = at < json_array_size(endpoints);
    if (!there && !is_verb(call, "add")) {
        fprintf(call->err, "sluice: %s is no endpoint of this version\n", cli_shown(address));
        return false;
    }
    if (is_verb(call, "remove"))
        return json_array_remove(endpoints, at) == 0;
    if (!there)
        return json_array_append_new(endpoints,
                                     json_pack("{s:s, s:I}", "address", address, "weight", weight)) == 0;
    return json_object_set_new(json_array_get(endpoints, at), "weight", json_integer(weight)) == 0;
}

static void print_versions(const struct cli_call *call, const json_t *answer)
{
    const json_t *versions = json_object_get(answer, "versions");
    for (size_t i = 0; i < json_array_size(versions); i++) {
        const json_t *version = json_array_get(versions, i);
        const json_t *endpoints = json_object_get(version, "endpoints");
        bool changed = strcmp(cli_word(version, "source"), "operator") == 0;
        fprintf(call->out, "%s", cli_word(version, "version"));
        if (changed)
            fprintf(call->out, "  (changed by %s, over what the file says)", cli_word(version, "who"));
        fprintf(call->out, "\n");
        for (size_t k = 0; k < json_array_size(endpoints); k++) {
            const json_t *endpoint = json_array_get(endpoints, k);
            json_int_t weight = json_integer_value(json_object_get(endpoint, "weight"));
            fprintf(call->out, "  %s", cli_word(endpoint, "address"));
            if (weight == 0)
                fprintf(call->out, "  drained");
            else if (weight != 1)
                fprintf(call->out, "  weight %lld", (long long)weight);
            fprintf(call->out, "\n");
        }
    }
}

static int send_list(const struct cli_call *call, struct cli_client *client, const char *path,
                     json_t *version, json_t **answer)
{
    char *body = cli_json_dump(json_object_get(version, "endpoints"), JSON_COMPACT);
    if (body == NULL)
        return CLI_EXIT_UNREADABLE;
    int code = cli_send(call, client, "PUT", path, slice_of(body), answer);
    heap_free(body);
    return code;
}

// Puts the answer to the change in place of *answer.
static int change(const struct cli_call *call, struct cli_client *client, json_t **answer)
{
    char path[PATH_BYTES];
    double weight = 1;
    json_t *version = version_of(call, *answer), *changed = NULL;
    if (version == NULL)
        return CLI_EXIT_NO;
    if (is_verb(call, "add") && cli_value_number(call, "weight", 1, &weight) != STATUS_OK)
        return CLI_EXIT_USAGE;
    if (is_verb(call, "drain"))
        weight = 0;
    for (size_t i = 1; i < call->arg_count; i++)
        if (!change_one(call, json_object_get(version, "endpoints"), call->args[i], (json_int_t)weight))
            return CLI_EXIT_NO;
    snprintf(path, sizeof path, "/v1/services/%.63s/endpoints?version=%.63s", call->args[0],
             cli_word(version, "version"));
    int code = is_verb(call, "reset") ? cli_send(call, client, "DELETE", path, SLICE(""), &changed)
                                      : send_list(call, client, path, version, &changed);
    if (code == CLI_EXIT_OK) {
        json_decref(*answer);
        *answer = changed;
    }
    return code;
}

int cli_run_endpoints(const struct cli_call *call)
{
    struct cli_client *client;
    json_t *answer = NULL;
    char path[PATH_BYTES];
    int code = cli_client_of(call, &client);
    if (code != CLI_EXIT_OK)
        return code;
    snprintf(path, sizeof path, "/v1/services/%.63s/endpoints", call->args[0]);
    code = cli_get(call, client, path, &answer);
    if (code == CLI_EXIT_OK && !is_verb(call, "list"))
        code = change(call, client, &answer);
    if (code == CLI_EXIT_OK && cli_given(call, "json"))
        cli_print_json(call->out, answer);
    else if (code == CLI_EXIT_OK)
        print_versions(call, answer);
    json_decref(answer);
    cli_client_close(client);
    return code;
}
