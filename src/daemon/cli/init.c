// SPDX-License-Identifier: Apache-2.0
// `sluice init`: a first file from three addresses, asked for on a terminal or given as options. What is
// written is what config_load accepts; a file that is there stays as it is.
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "daemon/cli/cli_private.h"
#include "daemon/cli/shown.h"
#include "daemon/config/config.h"

enum { INIT_FILE_BYTES = 4096, INIT_ANSWER_BYTES = 256, INIT_TRIES_MAX = 5 };

static const struct question {
    const char *option;
    const char *asks;
    const char *host; // what goes before an answer that is a port alone
    const char *fallback;
} questions[] = {
    {"listen", "Where do clients connect?", "0.0.0.0", "0.0.0.0:8080"},
    {"stable", "Where does the version that runs today answer?", "127.0.0.1", "127.0.0.1:9001"},
    {"next", "Where does the new version answer?", "127.0.0.1", "127.0.0.1:9002"},
};
enum { QUESTIONS = ARRAY_LEN(questions) };

// One load of the text as it would be.
struct draft {
    char answers[QUESTIONS][INIT_ANSWER_BYTES];
    char text[INIT_FILE_BYTES];
    struct config_errors errors;
};

static void compose(struct draft *draft, const char *path)
{
    static const char start[] = "rollout start v2";
    size_t named = strlen("check ") + strlen(path);
    int width = (int)(named > strlen(start) ? named : strlen(start));
    struct text text = text_over(draft->text, sizeof draft->text);
    text_addf(&text,
              "# Written by sluice init. Every word is explained in docs/guide/configuration.md.\n"
              "#\n"
              "#   sluice check %-*s      what would happen, and how long it takes\n"
              "#   sluice serve %-*s      the daemon\n"
              "#   sluice %-*s      off it goes\n"
              "#   sluice %-*s      after a change of this file\n",
              width - 6, path, width - 6, path, width, start, width, "reload");
    text_addf(&text,
              "\n# Where clients connect.\n"
              "listen: [\"%s\"]\n"
              "# Decisions and what they rested on; beside this file.\n"
              "journal: sluice.db\n"
              "services:\n"
              "  app:\n"
              "    versions:\n"
              "      v1: [\"%s\"] # what runs today; further endpoints behind a comma\n"
              "      v2: [\"%s\"] # what is to be shipped\n"
              "    stable: v1\n"
              "    # unit: {cookie: session}      # whoever has this cookie stays on one version\n",
              draft->answers[0], draft->answers[1], draft->answers[2]);
    text_addf(
        &text,
        "rollouts:\n"
        "  v2:\n"
        "    service: app\n"
        "    to: v2\n"
        "    # Fast, for a first try. Without this line: six stages of ten minutes and more, and an hour's "
        "soak.\n"
        "    stages: [{weight: 5%%, for: 30s}, {weight: 25%%, for: 30s}, {weight: 50%%, for: 30s}, "
        "{weight: 100%%, soak: 2m, for: 30s}]\n");
    CHECK(!text.cut);
}

// Whether the file would be accepted; else says why not.
static bool fits(const struct cli_call *call, struct draft *draft, const char *answer)
{
    struct config *config = NULL;
    // Nothing that could end the quotes it stands in.
    if (strpbrk(answer, "\"\\ \t\r\n#") != NULL) {
        fprintf(call->err, "sluice init: \"%s\" is not an address\n", cli_shown(answer));
        return false;
    }
    compose(draft, "FILE");
    enum status status = config_load_text("FILE", slice_of(draft->text), &config, &draft->errors);
    config_destroy(config);
    if (status != STATUS_OK)
        fprintf(call->err, "sluice init: %s\n",
                draft->errors.count > 0 ? cli_shown(draft->errors.items[0].message) : status_name(status));
    return status == STATUS_OK;
}

static bool is_port(const char *answer)
{
    return answer[0] != '\0' && answer[strspn(answer, "0123456789")] == '\0';
}

// Takes the answer, NULL or "": the fallback. False: it is no address, which was said.
static bool take(const struct cli_call *call, struct draft *draft, size_t i, const char *answer)
{
    char *kept = draft->answers[i];
    if (answer == NULL || answer[0] == '\0')
        answer = questions[i].fallback;
    if (strlen(answer) + 16 > INIT_ANSWER_BYTES) {
        fprintf(call->err, "sluice init: this address is too long\n");
        return false;
    }
    snprintf(kept, INIT_ANSWER_BYTES, "%s%s%s", is_port(answer) ? questions[i].host : "",
             is_port(answer) ? ":" : "", answer);
    if (fits(call, draft, answer))
        return true;
    snprintf(kept, INIT_ANSWER_BYTES, "%s", questions[i].fallback);
    return false;
}

static bool ask(const struct cli_call *call, struct draft *draft, size_t i)
{
    char line[INIT_ANSWER_BYTES * 2];
    for (int tries = 0; tries < INIT_TRIES_MAX; tries++) {
        fprintf(call->err, "%s [%s] ", questions[i].asks, questions[i].fallback);
        fflush(call->err);
        if (fgets(line, sizeof line, stdin) == NULL)
            return false;
        size_t len = strlen(line);
        while (len > 0 && isspace((unsigned char)line[len - 1]))
            line[--len] = '\0';
        if (take(call, draft, i, line))
            return true;
    }
    return false;
}

static int answer_all(const struct cli_call *call, struct draft *draft)
{
    bool person = isatty(STDIN_FILENO) == 1;
    for (size_t i = 0; i < QUESTIONS; i++)
        snprintf(draft->answers[i], INIT_ANSWER_BYTES, "%s", questions[i].fallback);
    for (size_t i = 0; i < QUESTIONS; i++) {
        const char *given = cli_value(call, questions[i].option);
        if (given == NULL && person) {
            if (!ask(call, draft, i)) {
                fprintf(call->err, "Nothing was written.\n");
                return CLI_EXIT_NO;
            }
        } else if (!take(call, draft, i, given)) {
            return CLI_EXIT_USAGE;
        }
        if (given == NULL && !person)
            fprintf(call->err, "--%s is %s: this is no terminal, so nobody was asked\n", questions[i].option,
                    draft->answers[i]);
    }
    return CLI_EXIT_OK;
}

static int write_file(const struct cli_call *call, const char *text, const char *path)
{
    FILE *file = fopen(path, cli_given(call, "force") ? "w" : "wx");
    if (file == NULL && errno == EEXIST) {
        fprintf(call->err, "sluice init: %s exists already and was left as it is; --force writes over it\n",
                cli_shown(path));
        return CLI_EXIT_NO;
    }
    bool written = file != NULL && fputs(text, file) >= 0;
    if (file != NULL)
        written = fclose(file) == 0 && written;
    if (!written) {
        fprintf(call->err, "sluice init: %s cannot be written: %s\n", cli_shown(path), strerror(errno));
        return CLI_EXIT_UNREADABLE;
    }
    fprintf(call->out, "Wrote %s. Next:\n  sluice check %s\n  sluice serve %s\n  sluice rollout start v2\n",
            cli_shown(path), cli_shown(path), cli_shown(path));
    return CLI_EXIT_OK;
}

int cli_run_init(const struct cli_call *call)
{
    const char *path = call->arg_count > 0 ? call->args[0] : "sluice.yaml";
    // Before the questions, not after them.
    if (!cli_given(call, "force") && access(path, F_OK) == 0)
        return write_file(call, "", path);
    struct draft *draft = heap_alloc(1, sizeof *draft);
    if (draft == NULL) {
        fprintf(call->err, "sluice init: no memory is left\n");
        return CLI_EXIT_UNREADABLE;
    }
    int code = answer_all(call, draft);
    if (code == CLI_EXIT_OK) {
        compose(draft, strlen(path) < 64 ? path : "FILE");
        code = write_file(call, draft->text, path);
    }
    heap_free(draft);
    return code;
}
