// SPDX-License-Identifier: Apache-2.0
// `sluice flag token`: a fresh token, shown once, and the line of its hash for the file of tokens.
#include <string.h>

#include "daemon/cli/flag.h"
#include "net/web/tokens.h"

enum { LINE_BYTES = TOKENS_NAME_BYTES + TOKENS_ENVIRONMENT_BYTES + 128 };

static bool is_word(const char *text, size_t cap)
{
    size_t len = strcspn(text, " \t\r\n#");
    return len > 0 && len < cap && text[len] == '\0';
}

static int read_kind(const struct cli_call *call, enum token_kind *kind)
{
    const char *given = cli_value(call, "kind");
    *kind = given != NULL && strcmp(given, "server") == 0 ? TOKEN_SERVER : TOKEN_READ;
    if (given == NULL || strcmp(given, "server") == 0 || strcmp(given, "read") == 0)
        return CLI_EXIT_OK;
    fprintf(call->err,
            "sluice: --kind is read (evaluates flags) or server (also reads their definitions), not \"%s\"\n",
            cli_shown(given));
    return CLI_EXIT_USAGE;
}

int cli_run_flag_token(const struct cli_call *call)
{
    const char *name = cli_value(call, "name");
    const char *environment = cli_given(call, "environment") ? cli_value(call, "environment") : "*";
    char secret[TOKENS_SECRET_BYTES];
    char line[LINE_BYTES];
    enum token_kind kind;
    if (name == NULL) {
        fprintf(call->err,
                "sluice flag token: --name is missing: who will use the token, such as web-shop\n");
        return CLI_EXIT_USAGE;
    }
    if (!is_word(name, TOKENS_NAME_BYTES) || !is_word(environment, TOKENS_ENVIRONMENT_BYTES)) {
        fprintf(call->err, "sluice: --name and --environment are single words without '#'\n");
        return CLI_EXIT_USAGE;
    }
    int code = read_kind(call, &kind);
    if (code != CLI_EXIT_OK)
        return code;
    if (tokens_make(name, kind, environment, secret, line, sizeof line) != STATUS_OK) {
        fprintf(call->err, "sluice: the system gives no random bytes\n");
        return CLI_EXIT_UNREADABLE;
    }
    line[strcspn(line, "\n")] = '\0';
    if (cli_given(call, "json")) {
        json_t *result = json_pack("{s:s, s:s}", "token", secret, "line", line);
        cli_print_json(call->out, result);
        json_decref(result);
        return CLI_EXIT_OK;
    }
    fprintf(call->out, "The token, shown only now:\n  %s\nIts line for the file of `tokens`:\n  %s\n", secret,
            line);
    return CLI_EXIT_OK;
}
