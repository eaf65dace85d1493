// SPDX-License-Identifier: Apache-2.0
// Entry: finds the command and runs it; help and version in all the spellings people try.
#include "daemon/cli/cli.h"

#include <string.h>

#include "daemon/cli/cli_private.h"

static const char *command_alias(const char *word)
{
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return "help";
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
        return "version";
    return word;
}

int cli_main(int argc, char *const *argv, FILE *out, FILE *err)
{
    if (argc < 2) {
        cli_help_all(err);
        return CLI_EXIT_USAGE;
    }
    struct cli_call call = {.out = out, .err = err};
    bool help_asked = false;
    // The words are only read; the copy lets the first one be replaced by what it means.
    enum { WORDS_MAX = CLI_ARGS_MAX + CLI_OPTIONS_MAX * 2 + 4 };
    char *words[WORDS_MAX];
    if (argc > WORDS_MAX) {
        fprintf(err, "sluice: too many arguments\n");
        return CLI_EXIT_USAGE;
    }
    memcpy(words, argv, (size_t)argc * sizeof words[0]);
    char alias[64];
    snprintf(alias, sizeof alias, "%s", command_alias(argv[1]));
    words[1] = alias;
    enum status status = cli_parse(argc, words, err, &call, &help_asked);
    if (status != STATUS_OK)
        return CLI_EXIT_USAGE;
    if (help_asked && call.command == NULL) {
        cli_help_group(out, call.args[0]);
        return CLI_EXIT_OK;
    }
    if (help_asked) {
        cli_help_command(out, call.command);
        return CLI_EXIT_OK;
    }
    return call.command->run(&call);
}
