// SPDX-License-Identifier: Apache-2.0
// Help, manual page and completions, all from the table.
#include <string.h>

#include "base/check.h"
#include "daemon/cli/cli_private.h"
#include "daemon/config/config.h"

static void words_of(const struct cli_command *command, char words[64])
{
    snprintf(words, 64, "%s%s%s", command->group, command->verb != NULL ? " " : "",
             command->verb != NULL ? command->verb : "");
}

static bool first_of_group(const struct cli_command *command)
{
    return command == cli_commands || strcmp(command[-1].group, command->group) != 0;
}

static bool same_args(const struct cli_command *first)
{
    for (const struct cli_command *c = first; c->group != NULL && strcmp(c->group, first->group) == 0; c++)
        if (strcmp(c->args, first->args) != 0)
            return false;
    return true;
}

// Wraps at 78 columns.
static void print_wrapped(FILE *out, const char *text, const char *indent)
{
    size_t column = 0;
    for (const char *p = text; *p != '\0';) {
        size_t len = strcspn(p, " ");
        if (column > 0 && column + len + 1 > 76) {
            fputc('\n', out);
            column = 0;
        }
        column += (size_t)fprintf(out, "%s%.*s", column == 0 ? indent : " ", (int)len, p);
        p += len + strspn(p + len, " ");
    }
    fputc('\n', out);
}

void cli_help_all(FILE *out)
{
    fprintf(out, "sluice ships new versions by evidence, and takes bad ones back by itself.\n\nUsage:\n");
    for (const struct cli_command *c = cli_commands; c->group != NULL; c++) {
        if (c->verb != NULL && !first_of_group(c))
            continue;
        if (c->verb == NULL) {
            char usage[64];
            snprintf(usage, sizeof usage, "%s %s", c->group, c->args);
            fprintf(out, "  sluice %-22s %s\n", usage, c->summary);
            continue;
        }
        fprintf(out, "  sluice %s ", c->group);
        for (const struct cli_command *v = c; v->group != NULL && strcmp(v->group, c->group) == 0; v++)
            fprintf(out, "%s%s", v == c ? "" : "|", v->verb);
        fprintf(out, " %s\n", same_args(c) ? c->args : "...");
    }
    fprintf(out, "\nBegin with \"sluice demo\". \"sluice help COMMAND\" tells more of each.\n");
}

void cli_help_group(FILE *out, const char *group)
{
    int width = 0;
    for (const struct cli_command *c = cli_commands; c->group != NULL; c++)
        if (strcmp(c->group, group) == 0 && (int)strlen(c->args) > width)
            width = (int)strlen(c->args);
    fprintf(out, "Usage:\n");
    for (const struct cli_command *c = cli_commands; c->group != NULL; c++)
        if (strcmp(c->group, group) == 0)
            fprintf(out, "  sluice %s %-8s %-*s %s\n", c->group, c->verb != NULL ? c->verb : "", width,
                    c->args, c->summary);
    fprintf(out, "\n\"sluice help %s VERB\" tells more of each.\n", group);
}

static void print_options(FILE *out, const struct cli_command *command)
{
    fprintf(out, "\nOptions:\n");
    for (const struct cli_option *o = command->options; o != NULL && o->name != NULL; o++) {
        char left[48];
        char letter[8] = "    ";
        if (o->letter != 0)
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, o->value != NULL ? " " : "",
                 o->value != NULL ? o->value : "");
        fprintf(out, "  %-26s %s\n", left, o->help);
    }
    fprintf(out, "  %-26s %s\n", "-h, --help", "this text");
}

void cli_help_command(FILE *out, const struct cli_command *command)
{
    char words[64];
    words_of(command, words);
    fprintf(out, "sluice %s: %s\n\nUsage:\n  sluice %s%s%s%s\n", words, command->summary, words,
            command->options != NULL ? " [options]" : "", command->args[0] != '\0' ? " " : "", command->args);
    if (command->details[0] != '\0') {
        fputc('\n', out);
        print_wrapped(out, command->details, "");
    }
    print_options(out, command);
    if (command->examples != NULL)
        fprintf(out, "\nExamples:\n");
    for (const struct cli_example *e = command->examples; e != NULL && e->line != NULL; e++)
        fprintf(out, "  %s\n      %s\n", e->line, e->says);
    if (command->exits != NULL)
        fprintf(out, "\nExit codes:\n");
    for (const struct cli_exit_note *e = command->exits; e != NULL && e->says != NULL; e++)
        fprintf(out, "  %-3d %s\n", e->code, e->says);
    if (command->exits != NULL)
        fprintf(out, "  %-3d %s\n", CLI_EXIT_USAGE, "a wrong command line");
}

int cli_run_help(const struct cli_call *call)
{
    if (call->arg_count == 0) {
        cli_help_all(call->out);
        return CLI_EXIT_OK;
    }
    const char *known[64];
    size_t count = 0;
    bool group_only = call->arg_count == 1;
    for (const struct cli_command *c = cli_commands; c->group != NULL; c++) {
        if (first_of_group(c) && count < 64)
            known[count++] = c->group;
        if (strcmp(c->group, call->args[0]) != 0)
            continue;
        if (group_only && c->verb != NULL) {
            cli_help_group(call->out, c->group);
            return CLI_EXIT_OK;
        }
        if (c->verb == NULL || strcmp(c->verb, call->args[1]) == 0) {
            cli_help_command(call->out, c);
            return CLI_EXIT_OK;
        }
    }
    const char *nearest = config_nearest(slice_of(call->args[0]), known, count);
    fprintf(call->err, "sluice help: there is no command \"%s%s%s\"", call->args[0], group_only ? "" : " ",
            group_only ? "" : call->args[1]);
    if (nearest != NULL)
        fprintf(call->err, "; did you mean \"%s\"?", nearest);
    fputc('\n', call->err);
    return CLI_EXIT_USAGE;
}

int cli_run_version(const struct cli_call *call)
{
    fprintf(call->out, "sluice %s\n", SLUICE_VERSION);
    return CLI_EXIT_OK;
}

// ---- manual page ----

// A line that troff must not take for a request.
static void man_text(FILE *out, const char *text)
{
    if (text[0] == '.' || text[0] == '\'')
        fputs("\\&", out);
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '-')
            fputs("\\-", out);
        else if (*p == '\\')
            fputs("\\e", out);
        else
            fputc(*p, out);
    }
    fputc('\n', out);
}

static void print_man(FILE *out)
{
    fprintf(out, ".TH SLUICE 1 \"\" \"sluice %s\" \"User Commands\"\n.SH NAME\n", SLUICE_VERSION);
    fprintf(out, "sluice \\- ships new versions by evidence, and takes bad ones back\n.SH SYNOPSIS\n");
    fprintf(out, ".B sluice\n.I COMMAND\n[options] [arguments]\n.SH COMMANDS\n");
    for (const struct cli_command *c = cli_commands; c->group != NULL; c++) {
        char words[64];
        words_of(c, words);
        fprintf(out, ".SS sluice %s %s\n", words, c->args);
        man_text(out, c->summary);
        if (c->details[0] != '\0') {
            fprintf(out, ".PP\n");
            man_text(out, c->details);
        }
        for (const struct cli_option *o = c->options; o != NULL && o->name != NULL; o++) {
            fprintf(out, ".TP\n\\fB\\-\\-%s\\fR %s\n", o->name, o->value != NULL ? o->value : "");
            man_text(out, o->help);
        }
        for (const struct cli_example *e = c->examples; e != NULL && e->line != NULL; e++) {
            fprintf(out, ".TP\n.B ");
            man_text(out, e->line);
            man_text(out, e->says);
        }
        for (const struct cli_exit_note *e = c->exits; e != NULL && e->says != NULL; e++) {
            fprintf(out, ".TP\nexit %d\n", e->code);
            man_text(out, e->says);
        }
    }
}

int cli_run_man(const struct cli_call *call)
{
    print_man(call->out);
    return CLI_EXIT_OK;
}

// ---- completion ----

static void print_groups(FILE *out, const char *separator)
{
    for (const struct cli_command *c = cli_commands; c->group != NULL; c++)
        if (first_of_group(c))
            fprintf(out, "%s%s", c == cli_commands ? "" : separator, c->group);
}

static void print_verbs(FILE *out, const char *group)
{
    bool first = true;
    for (const struct cli_command *c = cli_commands; c->group != NULL; c++) {
        if (c->verb == NULL || strcmp(c->group, group) != 0)
            continue;
        fprintf(out, "%s%s", first ? "" : " ", c->verb);
        first = false;
    }
}

// Whether files may follow: as an argument, or as what an option wants.
static bool takes_files(const struct cli_command *command)
{
    static const char *const words[] = {"FILE", "JOURNAL", "DEFINITION"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strstr(command->args, words[i]) != NULL)
            return true;
    for (const struct cli_option *o = command->options; o != NULL && o->name != NULL; o++)
        if (o->value != NULL && (strcmp(o->value, "FILE") == 0 || strcmp(o->value, "LOG") == 0))
            return true;
    return false;
}

// The words that may stand for its argument, where they are known beforehand.
static void print_arguments(FILE *out, const struct cli_command *command)
{
    if (strcmp(command->args, "SHELL") == 0)
        fprintf(out, "bash zsh fish");
    else if (strncmp(command->args, "COMMAND", 7) == 0)
        print_groups(out, " ");
}

static void bash_completion(FILE *out)
{
    fprintf(out, "_sluice() {\n    local cur=${COMP_WORDS[COMP_CWORD]} words= files=\n"
                 "    case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n");
    for (const struct cli_command *c = cli_commands; c->group != NULL; c++) {
        fprintf(out, "    \"%s %s\"*) %swords=\"", c->group, c->verb != NULL ? c->verb : "",
                takes_files(c) ? "files=1 " : "");
        for (const struct cli_option *o = c->options; o != NULL && o->name != NULL; o++)
            fprintf(out, "--%s ", o->name);
        fprintf(out, "--help ");
        print_arguments(out, c);
        fprintf(out, "\" ;;\n");
    }
    fprintf(out, "    esac\n    if [ \"$COMP_CWORD\" -eq 1 ]; then words=\"");
    print_groups(out, " ");
    fprintf(out, "\"; fi\n");
    for (const struct cli_command *c = cli_commands; c->group != NULL; c++) {
        if (c->verb == NULL || !first_of_group(c))
            continue;
        fprintf(out, "    if [ \"$COMP_CWORD\" -eq 2 ] && [ \"${COMP_WORDS[1]}\" = %s ]; then words=\"",
                c->group);
        print_verbs(out, c->group);
        fprintf(out, "\"; fi\n");
    }
    fprintf(out, "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                 "    if [ -n \"$files\" ]; then COMPREPLY+=($(compgen -f -- \"$cur\")); fi\n}\n"
                 "complete -F _sluice sluice\n");
}

static void zsh_completion(FILE *out)
{
    fprintf(out, "#compdef sluice\n_sluice() {\n    if (( CURRENT == 2 )); then compadd ");
    print_groups(out, " ");
    fprintf(out, "; return; fi\n");
    for (const struct cli_command *c = cli_commands; c->group != NULL; c++) {
        if (c->verb == NULL || !first_of_group(c))
            continue;
        fprintf(out, "    if (( CURRENT == 3 )) && [[ $words[2] == %s ]]; then compadd ", c->group);
        print_verbs(out, c->group);
        fprintf(out, "; return; fi\n");
    }
    fprintf(out, "    case \"$words[2] $words[3]\" in\n");
    for (const struct cli_command *c = cli_commands; c->group != NULL; c++) {
        fprintf(out, "    \"%s %s\"*) compadd -- ", c->group, c->verb != NULL ? c->verb : "");
        for (const struct cli_option *o = c->options; o != NULL && o->name != NULL; o++)
            fprintf(out, "--%s ", o->name);
        fprintf(out, "--help ");
        print_arguments(out, c);
        fprintf(out, "%s ;;\n", takes_files(c) ? "; _files" : "");
    }
    // Found on the path of functions, it is called by its file; read by hand, it must be made known.
    fprintf(
        out,
        "    esac\n}\nif [[ $funcstack[1] == _sluice ]]; then _sluice \"$@\"; else compdef _sluice sluice; fi\n");
}

static void fish_quoted(FILE *out, const char *text)
{
    fputc('\'', out);
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '\'' || *p == '\\')
            fputc('\\', out);
        fputc(*p, out);
    }
    fputc('\'', out);
}

static void fish_when(FILE *out, const struct cli_command *c)
{
    fprintf(out, "complete -c sluice -n '__fish_seen_subcommand_from %s%s%s'", c->group,
            c->verb != NULL ? "; and __fish_seen_subcommand_from " : "", c->verb != NULL ? c->verb : "");
}

static void fish_word(FILE *out, const struct cli_command *c)
{
    if (first_of_group(c))
        fprintf(out, "complete -c sluice -n __fish_use_subcommand -f -a %s", c->group);
    if (first_of_group(c) && c->verb != NULL)
        fputc('\n', out);
    if (c->verb != NULL) {
        fprintf(out,
                "complete -c sluice -n '__fish_seen_subcommand_from %s; and not __fish_seen_subcommand_from ",
                c->group);
        print_verbs(out, c->group);
        fprintf(out, "' -f -a %s", c->verb);
    }
    fprintf(out, " -d ");
    fish_quoted(out, c->summary);
    fputc('\n', out);
}

static void fish_completion(FILE *out)
{
    fprintf(out, "complete -c sluice -f\ncomplete -c sluice -l help -d 'what a command does'\n");
    for (const struct cli_command *c = cli_commands; c->group != NULL; c++) {
        fish_word(out, c);
        fish_when(out, c);
        fprintf(out, "%s -a '", takes_files(c) ? " -F" : " -f");
        print_arguments(out, c);
        fprintf(out, "'\n");
        for (const struct cli_option *o = c->options; o != NULL && o->name != NULL; o++) {
            fish_when(out, c);
            fprintf(out, " -l %s%s -d ", o->name, o->value != NULL ? " -r" : "");
            fish_quoted(out, o->help);
            fputc('\n', out);
        }
    }
}

static enum status print_completion(FILE *out, const char *shell)
{
    if (strcmp(shell, "bash") == 0)
        bash_completion(out);
    else if (strcmp(shell, "zsh") == 0)
        zsh_completion(out);
    else if (strcmp(shell, "fish") == 0)
        fish_completion(out);
    else
        return STATUS_NOT_FOUND;
    return STATUS_OK;
}

int cli_run_completion(const struct cli_call *call)
{
    if (print_completion(call->out, call->args[0]) == STATUS_OK)
        return CLI_EXIT_OK;
    fprintf(call->err, "sluice completion: bash, zsh or fish, not \"%s\"\n", call->args[0]);
    return CLI_EXIT_USAGE;
}
