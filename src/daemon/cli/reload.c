// SPDX-License-Identifier: Apache-2.0
// `sluice reload`: the daemon's file once more, and how that went.
#include "daemon/cli/client.h"
#include "daemon/cli/shown.h"

static void say_in_force(const struct cli_call *call, const json_t *answer)
{
    const char *told = json_string_value(json_object_get(answer, "told"));
    fprintf(call->out, "The file is in force.\n");
    if (told != NULL && told[0] != '\0')
        fprintf(call->out, "%s\n", cli_told(told));
}

int cli_run_reload(const struct cli_call *call)
{
    struct cli_client *client;
    json_t *answer = NULL;
    int code = cli_client_of(call, &client);
    if (code != CLI_EXIT_OK)
        return code;
    code = cli_send(call, client, "POST", "/v1/reload", SLICE("{}"), &answer);
    if (code == CLI_EXIT_OK && cli_given(call, "json"))
        cli_print_json(call->out, answer);
    else if (code == CLI_EXIT_OK)
        say_in_force(call, answer);
    json_decref(answer);
    cli_client_close(client);
    return code;
}
