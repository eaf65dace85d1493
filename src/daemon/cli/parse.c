// SPDX-License-Identifier: Apache-2.0
// From argv to a call: the command by its one or two words, then options and arguments in any order.
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "daemon/cli/cli_private.h"
#include "daemon/config/config.h"

enum { CLI_WORDS_MAX = 64 };

static void suggest(FILE *err, const char *word, const char *const *known, size_t known_count)
{
    const char *nearest = config_nearest(slice_of(word), known, known_count);
    if (nearest != NULL)
        fprintf(err, "; did you mean \"%s\"?", nearest);
    fputc('\n', err);
}

// The words that may stand where word stood: groups, or the verbs of a group.
static size_t known_words(const char *group, const char *known[CLI_WORDS_MAX])
{
    size_t count = 0;
    for (const struct cli_command *c = cli_commands; c->group != NULL && count < CLI_WORDS_MAX; c++) {
        if (group != NULL && strcmp(c->group, group) == 0 && c->verb != NULL)
            known[count++] = c->verb;
        if (group == NULL && (count == 0 || strcmp(known[count - 1], c->group) != 0))
            known[count++] = c->group;
    }
    return count;
}

static const struct cli_command *find_command(const char *group, const char *verb)
{
    for (const struct cli_command *c = cli_commands; c->group != NULL; c++)
        if (strcmp(c->group, group) == 0 && (c->verb == NULL || (verb != NULL && strcmp(c->verb, verb) == 0)))
            return c;
    return NULL;
}

static bool group_exists(const char *group)
{
    for (const struct cli_command *c = cli_commands; c->group != NULL; c++)
        if (strcmp(c->group, group) == 0)
            return true;
    return false;
}

static enum status no_such_command(FILE *err, const char *group, const char *verb)
{
    const char *known[CLI_WORDS_MAX];
    if (!group_exists(group)) {
        fprintf(err, "sluice: there is no command \"%s\"", group);
        suggest(err, group, known, known_words(NULL, known));
        fprintf(err, "Try \"sluice help\".\n");
        return STATUS_NOT_FOUND;
    }
    if (verb == NULL) {
        fprintf(err, "sluice: \"%s\" needs one of:", group);
        size_t count = known_words(group, known);
        for (size_t i = 0; i < count; i++)
            fprintf(err, " %s", known[i]);
        fprintf(err, "\nTry \"sluice help %s\".\n", group);
        return STATUS_INVALID;
    }
    fprintf(err, "sluice: there is no command \"%s %s\"", group, verb);
    suggest(err, verb, known, known_words(group, known));
    fprintf(err, "Try \"sluice help %s\".\n", group);
    return STATUS_NOT_FOUND;
}

static const char *command_words(const struct cli_command *command, char words[64])
{
    snprintf(words, 64, "%s%s%s", command->group, command->verb != NULL ? " " : "",
             command->verb != NULL ? command->verb : "");
    return words;
}

static int find_option(const struct cli_command *command, const char *name, size_t len, char letter)
{
    for (int i = 0; command->options != NULL && command->options[i].name != NULL; i++) {
        const struct cli_option *option = &command->options[i];
        if (letter != 0 ? option->letter == letter
                        : strlen(option->name) == len && memcmp(option->name, name, len) == 0)
            return i;
    }
    return -1;
}

static enum status no_such_option(const struct cli_command *command, const char *word, FILE *err)
{
    const char *known[CLI_OPTIONS_MAX];
    size_t count = 0;
    for (int i = 0; command->options != NULL && command->options[i].name != NULL; i++)
        known[count++] = command->options[i].name;
    char words[64];
    fprintf(err, "sluice %s: there is no option \"%s\"", command_words(command, words), word);
    const char *bare = word + strspn(word, "-");
    const char *nearest = config_nearest((struct slice){bare, strcspn(bare, "=")}, known, count);
    if (nearest != NULL)
        fprintf(err, "; did you mean \"--%s\"?", nearest);
    fprintf(err, "\nTry \"sluice help %s\".\n", words);
    return STATUS_INVALID;
}

static enum status take_again(struct cli_call *call, int option)
{
    if (call->repeated_count == CLI_REPEATED_MAX) {
        fprintf(call->err, "sluice: --%s is given more than %d times\n", call->command->options[option].name,
                CLI_REPEATED_MAX);
        return STATUS_FULL;
    }
    call->repeated[call->repeated_count++] = call->values[option];
    return STATUS_OK;
}

// Takes the option at argv[*at]; moves *at over a value that stands by itself.
static enum status take_option(int argc, char *const *argv, int *at, struct cli_call *call)
{
    const char *word = argv[*at];
    bool is_long = word[1] == '-';
    const char *name = is_long ? word + 2 : NULL;
    size_t len = is_long ? strcspn(name, "=") : 0;
    int i = is_long           ? find_option(call->command, name, len, 0)
            : word[2] == '\0' ? find_option(call->command, NULL, 0, word[1])
                              : -1;
    if (i < 0)
        return no_such_option(call->command, word, call->err);
    const struct cli_option *option = &call->command->options[i];
    const char *inline_value = is_long && name[len] == '=' ? name + len + 1 : NULL;
    if (option->value == NULL && inline_value != NULL) {
        fprintf(call->err, "sluice: --%s takes no value\n", option->name);
        return STATUS_INVALID;
    }
    if (option->value == NULL) {
        call->values[i] = "";
        return STATUS_OK;
    }
    if (inline_value == NULL && *at + 1 >= argc) {
        fprintf(call->err, "sluice: --%s needs a value: --%s %s\n", option->name, option->name,
                option->value);
        return STATUS_INVALID;
    }
    call->values[i] = inline_value != NULL ? inline_value : argv[++*at];
    return strstr(option->value, "...") != NULL ? take_again(call, i) : STATUS_OK;
}

// How many arguments the command takes, at least and at most.
static void arity(const struct cli_command *command, size_t *least, size_t *most)
{
    *least = 0;
    *most = 0;
    for (const char *p = command->args; *p != '\0';) {
        size_t len = strcspn(p, " ");
        bool many = len > 3 && memcmp(p + len - 3, "...", 3) == 0;
        *most += many ? CLI_ARGS_MAX : 1;
        *least += p[len - 1] == '?' ? 0 : 1;
        p += len + strspn(p + len, " ");
    }
}

static enum status check_arity(const struct cli_call *call)
{
    size_t least, most;
    arity(call->command, &least, &most);
    char words[64];
    command_words(call->command, words);
    if (call->arg_count < least) {
        fprintf(call->err, "sluice %s: %s is missing\nUsage: sluice %s %s\n", words, call->command->args,
                words, call->command->args);
        return STATUS_INVALID;
    }
    if (call->arg_count > most) {
        fprintf(call->err, "sluice %s: \"%s\" is one argument too many\nTry \"sluice help %s\".\n", words,
                call->args[most], words);
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static enum status parse_rest(int argc, char *const *argv, int at, struct cli_call *call, bool *help_asked)
{
    bool options_end = false;
    for (; at < argc; at++) {
        const char *word = argv[at];
        if (!options_end && strcmp(word, "--") == 0) {
            options_end = true;
            continue;
        }
        if (!options_end && is_help(word)) {
            *help_asked = true;
            return STATUS_OK;
        }
        if (!options_end && word[0] == '-' && word[1] != '\0') {
            enum status status = take_option(argc, argv, &at, call);
            if (status != STATUS_OK)
                return status;
            continue;
        }
        if (call->arg_count == CLI_ARGS_MAX) {
            fprintf(call->err, "sluice: too many arguments\n");
            return STATUS_FULL;
        }
        call->args[call->arg_count++] = word;
    }
    return check_arity(call);
}

enum status cli_parse(int argc, char *const *argv, FILE *err, struct cli_call *call, bool *help_asked)
{
    CHECK(argc >= 2);
    const char *group = argv[1];
    const char *verb = argc > 2 && argv[2][0] != '-' ? argv[2] : NULL;
    if (argc > 2 && verb == NULL && is_help(argv[2]) && find_command(group, NULL) == NULL &&
        group_exists(group)) {
        *help_asked = true;
        call->command = NULL;
        call->args[0] = group;
        return STATUS_OK;
    }
    const struct cli_command *command = find_command(group, verb);
    if (command == NULL)
        return no_such_command(err, group, verb);
    call->command = command;
    call->err = err;
    return parse_rest(argc, argv, command->verb != NULL ? 3 : 2, call, help_asked);
}
