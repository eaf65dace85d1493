// SPDX-License-Identifier: Apache-2.0
// Words that lead back, given to the journal because no daemon answers. The journal's lock says whether one
// lives all the same; then nothing is written beside it.
#include <string.h>
#include <unistd.h>

#include "daemon/cli/client.h"
#include "daemon/cli/shown.h"
#include "daemon/cli/view.h"
#include "flags/runtime/runtime.h"
#include "ship/engine/offline.h"

static int say(const struct cli_call *call, enum status status, const struct fault *fault)
{
    FILE *out = status == STATUS_EXISTS ? call->out : call->err;
    fprintf(out, "sluice: ");
    cli_print_told(out, fault->text);
    fputc('\n', out);
    if (status == STATUS_EXISTS)
        return CLI_EXIT_OK;
    if (status == STATUS_IN_USE) {
        fprintf(
            call->err,
            "A daemon that does not answer here lives and holds the journal, so nothing was written. Try its own "
            "address (--admin). If it hangs, end that process and give this command again.\n");
        return CLI_EXIT_UNREACHABLE;
    }
    return status == STATUS_NOT_FOUND || status == STATUS_CONFLICT || status == STATUS_INVALID
               ? CLI_EXIT_NO
               : CLI_EXIT_UNREADABLE;
}

// CLI_EXIT_OK when no daemon holds the journal; it stays locked until it is closed.
static int take_journal(const struct cli_call *call, struct engine_offline *offline)
{
    struct fault fault;
    const char *path = cli_given(call, "journal") ? cli_value(call, "journal") : NULL;
    if (path == NULL)
        return CLI_EXIT_UNREACHABLE;
    if (access(path, F_OK) != 0) { // opening for writing would make one
        fprintf(call->err, "sluice: there is no journal %s, so there is nothing to take back\n",
                cli_shown(path));
        return CLI_EXIT_NO;
    }
    enum status status = journal_open(path, JOURNAL_WRITE, &offline->journal, &fault);
    if (status != STATUS_OK) {
        int code = say(call, status, &fault);
        return code == CLI_EXIT_NO ? CLI_EXIT_UNREADABLE : code;
    }
    offline->now_ms = cli_now_ms();
    return CLI_EXIT_OK;
}

static void print_done(const struct cli_call *call, const char *text)
{
    if (cli_given(call, "json")) {
        json_t *json = json_pack("{s:s, s:s}", "journal", cli_value(call, "journal"), "text", text);
        cli_print_json(call->out, json);
        json_decref(json);
        return;
    }
    fprintf(
        call->out,
        "No daemon holds the journal %s: written there. It counts from the next start of the daemon.\n%s\n",
        cli_shown(cli_value(call, "journal")), cli_told(text));
}

int cli_offline_rollout(const struct cli_call *call)
{
    struct engine_offline offline;
    static struct rollout_verdict verdict;
    struct fault fault;
    enum rollout_command command;
    char who[ROLLOUT_WHO_BYTES];
    if (!cli_offers(call, "journal") ||
        rollout_command_parse(slice_of(call->command->verb), &command) != STATUS_OK)
        return CLI_EXIT_UNREACHABLE;
    int code = take_journal(call, &offline);
    if (code != CLI_EXIT_OK)
        return code;
    cli_who(call, who, sizeof who);
    enum status status = engine_offline_command(&offline, call->args[0], command, who, &verdict, &fault);
    journal_close(offline.journal);
    if (status != STATUS_OK)
        return say(call, status, &fault);
    print_done(call, verdict.text);
    return CLI_EXIT_OK;
}

int cli_offline_flag_off(const struct cli_call *call)
{
    struct engine_offline offline;
    struct fault fault;
    uint64_t seq;
    char who[ROLLOUT_WHO_BYTES], text[400];
    int code = take_journal(call, &offline);
    if (code != CLI_EXIT_OK)
        return code;
    cli_who(call, who, sizeof who);
    const struct runtime_change change = {.op = RUNTIME_OFF,
                                          .key = call->args[0],
                                          .variant = cli_value(call, "variant"),
                                          .who = who,
                                          .from = ENGINE_OFFLINE_FROM};
    enum status status = runtime_change_append(&change, engine_offline_append, &offline, &seq, &fault);
    journal_close(offline.journal);
    if (status != STATUS_OK)
        return say(call, status, &fault);
    snprintf(
        text, sizeof text,
        "%s: off, by %s. Whether there is such a flag or variant shows only when the daemon has read its flags.",
        call->args[0], who);
    print_done(call, text);
    return CLI_EXIT_OK;
}
