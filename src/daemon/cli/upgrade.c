// SPDX-License-Identifier: Apache-2.0
// `sluice upgrade`: the binary that is installed now in the place of the one that serves, and how that went.
#include <time.h>

#include "daemon/cli/client.h"
#include "daemon/cli/shown.h"
#include "daemon/supervise/supervise.h"

enum {
    LOOK_MS = 100,
    // A check of the file, letting go of the listeners, a trial (daemon/supervise/supervisor.c), and the one
    // before once more.
    UPGRADE_MS = 70000,
};

struct seen {
    uint64_t process, refused;
    bool upgraded;
    char why[CHANNEL_TEXT_BYTES], refusal[CHANNEL_TEXT_BYTES], version[64];
};

static void keep_text(char *kept, size_t cap, const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    (void)snprintf(kept, cap, "%s", text != NULL ? text : "");
}

static void read_status(const json_t *status, struct seen *seen)
{
    const json_t *supervisor = json_object_get(status, "supervisor");
    seen->process = (uint64_t)json_integer_value(json_object_get(status, "process"));
    seen->refused = (uint64_t)json_integer_value(json_object_get(supervisor, "upgrades_refused"));
    seen->upgraded = json_is_true(json_object_get(supervisor, "upgraded"));
    keep_text(seen->why, sizeof seen->why, supervisor, "why");
    keep_text(seen->refusal, sizeof seen->refusal, supervisor, "refusal");
    keep_text(seen->version, sizeof seen->version, status, "version");
}

// Between two processes nobody answers: what fails is asked again.
static bool look(struct cli_client *client, struct seen *seen)
{
    json_t *status = NULL;
    unsigned http = 0;
    bool told = cli_client_get(client, "/v1/status", &http, &status) == STATUS_OK && http == 200;
    if (told)
        read_status(status, seen);
    json_decref(status);
    return told;
}

static int say_outcome(const struct cli_call *call, const struct seen *seen, bool refused)
{
    if (refused) {
        fprintf(call->err, "sluice: nothing changed: %s\n", cli_told(seen->refusal));
        return CLI_EXIT_NO;
    }
    if (!seen->upgraded) {
        fprintf(call->err, "sluice: the binary from before serves on: %s\n", cli_told(seen->why));
        return CLI_EXIT_NO;
    }
    fprintf(call->out, "Version %s serves, as process %llu.\n", cli_told(seen->version),
            (unsigned long long)seen->process);
    return CLI_EXIT_OK;
}

static int await(const struct cli_call *call, struct cli_client *client, const struct seen *before)
{
    static const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    for (int waited_ms = 0; waited_ms < UPGRADE_MS; waited_ms += LOOK_MS) {
        struct seen now;
        nanosleep(&pause, NULL);
        if (!look(client, &now))
            continue;
        bool refused = now.process == before->process && now.refused != before->refused;
        if (refused || now.process != before->process)
            return say_outcome(call, &now, refused);
    }
    fprintf(call->err, "sluice: no outcome within a minute; the daemon's log has what it did\n");
    return CLI_EXIT_UNREACHABLE;
}

int cli_run_upgrade(const struct cli_call *call)
{
    struct cli_client *client;
    json_t *status = NULL, *answer = NULL;
    struct seen before;
    int code = cli_client_of(call, &client);
    if (code != CLI_EXIT_OK)
        return code;
    code = cli_get(call, client, "/v1/status", &status);
    if (code == CLI_EXIT_OK) {
        read_status(status, &before);
        code = cli_send(call, client, "POST", "/v1/upgrade", SLICE("{}"), &answer);
    }
    json_decref(status);
    json_decref(answer);
    if (code == CLI_EXIT_OK)
        code = await(call, client, &before);
    cli_client_close(client);
    return code;
}
