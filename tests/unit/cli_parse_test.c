// SPDX-License-Identifier: Apache-2.0
// cli: command lines, messages with the nearest word, exit codes; help, man page and completions name every
// command.
#include <unistd.h>

#include "daemon/cli/cli_private.h"
#include "test.h"

struct outcome {
    int code;
    char *out;
    char *err;
};

// Cuts a line at its blanks into argv; words is the storage.
static int cut(const char *line, char words[512], char *argv[32])
{
    int argc = 0;
    snprintf(words, 512, "%s", line);
    for (char *word = words; word != NULL && *word != '\0';) {
        argv[argc++] = strsep(&word, " ");
    }
    return argc;
}

static struct outcome run(const char *line)
{
    char words[512];
    char *argv[32] = {0};
    int argc = cut(line, words, argv);
    struct outcome outcome;
    size_t out_len, err_len;
    FILE *out = open_memstream(&outcome.out, &out_len);
    FILE *err = open_memstream(&outcome.err, &err_len);
    outcome.code = cli_main(argc, argv, out, err);
    fclose(out);
    fclose(err);
    return outcome;
}

static void expect(const char *line, int code, const char *in_out, const char *in_err)
{
    struct outcome outcome = run(line);
    if (outcome.code != code || strstr(outcome.out, in_out) == NULL || strstr(outcome.err, in_err) == NULL)
        fail_msg("%s: exit %d\nout: %s\nerr: %s", line, outcome.code, outcome.out, outcome.err);
    free(outcome.out);
    free(outcome.err);
}

TEST(wrong_lines)
{
    expect("sluice", 2, "", "Usage:");
    expect("sluice rolout start x", 2, "", "did you mean \"rollout\"?");
    expect("sluice rollout strat x", 2, "", "did you mean \"start\"?");
    expect("sluice rollout", 2, "", "needs one of: start watch");
    expect("sluice serve", 2, "", "FILE is missing");
    expect("sluice serve a b", 2, "", "\"b\" is one argument too many");
    expect("sluice serve --lgo json a", 2, "", "did you mean \"--log\"?");
    expect("sluice serve --log", 2, "", "needs a value");
    expect("sluice status --json=1", 2, "", "takes no value");
    expect("sluice status -z", 2, "", "there is no option \"-z\"");
    expect("sluice load -r fast http://127.0.0.1:1/", 2, "", "wants a positive number");
    expect("sluice load -d 3parsecs http://127.0.0.1:1/", 2, "", "wants a duration");
    expect("sluice load https://127.0.0.1:1/", 2, "", "https is not spoken");
    expect("sluice rollout start ../../metrics", 2, "", "cannot be the name");
}

TEST(right_lines)
{
    expect("sluice --version", 0, "sluice ", "");
    expect("sluice version", 0, "sluice ", "");
    expect("sluice --help", 0, "sluice demo", "");
    expect("sluice help rollout", 0, "abort", "");
    expect("sluice rollout --help", 0, "abort", "");
    expect("sluice help rollout abort", 0, "Does not ask", "");
    expect("sluice rollout abort -h", 0, "Does not ask", "");
    expect("sluice help serv", 2, "", "did you mean \"serve\"?");
    expect("sluice completion tcsh", 2, "", "bash, zsh or fish");
}

TEST(options_in_any_order)
{
    char words[512];
    char *argv[32] = {0};
    int argc = cut("sluice load -r 5 URL --duration=2m --poisson", words, argv);
    struct cli_call call = {.out = stdout, .err = stderr};
    bool help = false;
    assert_int_equal(cli_parse(argc, argv, stderr, &call, &help), STATUS_OK);
    assert_string_equal(call.args[0], "URL");
    double rate;
    uint64_t duration_ms;
    assert_int_equal(cli_value_number(&call, "rate", 100, &rate), STATUS_OK);
    assert_true(rate > 4.99 && rate < 5.01);
    assert_int_equal(cli_value_duration_ms(&call, "duration", 1, &duration_ms), STATUS_OK);
    assert_int_equal(duration_ms, 120000);
    assert_true(cli_given(&call, "poisson"));
    assert_false(cli_given(&call, "json"));
    assert_int_equal(cli_value_duration_ms(&call, "timeout", 77, &duration_ms), STATUS_OK);
    assert_int_equal(duration_ms, 77);
    argc = cut("sluice serve -- --odd-name", words, argv);
    struct cli_call serve = {.out = stdout, .err = stderr};
    assert_int_equal(cli_parse(argc, argv, stderr, &serve, &help), STATUS_OK);
    assert_string_equal(serve.args[0], "--odd-name");
}

// Whatever is generated from the table names every command and option.
TEST(generated_texts_are_whole)
{
    static const char *const lines[] = {"sluice man", "sluice completion bash", "sluice completion zsh",
                                        "sluice completion fish"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct outcome outcome = run(lines[i]);
        assert_int_equal(outcome.code, 0);
        for (const struct cli_command *c = cli_commands; c->group != NULL; c++) {
            assert_non_null(strstr(outcome.out, c->group));
            if (c->verb != NULL)
                assert_non_null(strstr(outcome.out, c->verb));
        }
        free(outcome.out);
        free(outcome.err);
    }
}

TEST(table_is_sound)
{
    for (const struct cli_command *c = cli_commands; c->group != NULL; c++) {
        assert_non_null(c->run);
        assert_true(strlen(c->summary) > 10);
        size_t options = 0;
        for (const struct cli_option *o = c->options; o != NULL && o->name != NULL; o++, options++)
            for (const struct cli_option *p = c->options; p != o; p++) {
                assert_string_not_equal(p->name, o->name);
                assert_true(p->letter == 0 || p->letter != o->letter);
            }
        assert_true(options < CLI_OPTIONS_MAX);
    }
}

TEST(unreachable_daemon)
{
    expect("sluice status --admin 127.0.0.1:1", 3, "", "no daemon answers at 127.0.0.1:1");
    expect("sluice rollout abort x -a 127.0.0.1:1", 3, "", "sluice serve FILE");
}

TEST(malformed_admin_address)
{
    static const char *const wrong[] = {
        "nonsense",      "127.0.0.1",         ":9440", "127.0.0.1:0", "127.0.0.1:99999",
        "127.0.0.1:94x", "127.0.0.1:9440/v1", "unix:"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char line[96];
        snprintf(line, sizeof line, "sluice status -a %s", wrong[i]);
        expect(line, 2, "", "is not an admin address; such as 127.0.0.1:9440");
    }
    expect("sluice status -a unix:/nonexistent", 3, "", "no daemon answers at unix:/nonexistent");
    expect("sluice status -a http://127.0.0.1:1", 3, "", "no daemon answers");
}

// Where a command wants a name, the files of the directory are no answer.
TEST(completions_of_files)
{
    struct outcome bash = run("sluice completion bash");
    assert_non_null(strstr(bash.out, "\"serve \"*) files=1 words="));
    assert_non_null(strstr(bash.out, "\"flag import\"*) files=1 words="));
    assert_non_null(strstr(bash.out, "\"rollout abort\"*) words="));
    assert_non_null(strstr(bash.out, "\"flag off\"*) words="));
    struct outcome fish = run("sluice completion fish");
    assert_non_null(strstr(fish.out, "complete -c sluice -f\n"));
    assert_non_null(strstr(fish.out, "'__fish_seen_subcommand_from serve' -F"));
    assert_null(strstr(fish.out, "__fish_seen_subcommand_from abort' -F"));
    free(bash.out);
    free(bash.err);
    free(fish.out);
    free(fish.err);
}

TEST(files)
{
    expect("sluice serve /nonexistent/x.yaml", 4, "", "/nonexistent/x.yaml");
    expect("sluice check /nonexistent/x.yaml", 4, "", "/nonexistent/x.yaml");
    expect("sluice replay /nonexistent/x.db", 4, "", "/nonexistent/x.db");
    char path[64], line[160];
    snprintf(path, sizeof path, "/tmp/cli_parse_%d.yaml", (int)getpid());
    snprintf(line, sizeof line, "sluice init --listen 8080 --stable 9001 --next 9002 %s", path);
    expect(line, 0, "Wrote", "");
    expect(line, 1, "", "exists already and was left as it is");
    snprintf(line, sizeof line, "sluice check --no-ask --rate 200 --error-rate 0.2%% %s", path);
    expect(line, 0, "at 200 requests per second with 0.2 % errors", "");
    snprintf(line, sizeof line, "sluice check --error-rate lots %s", path);
    expect(line, 2, "", "wants a share such as 0.2%");
    FILE *file = fopen(path, "w");
    fputs("listen: [127.0.0.1:80]\nservces: {}\n", file);
    fclose(file);
    snprintf(line, sizeof line, "sluice check %s", path);
    expect(line, 1, "", ":2:1:");
    unlink(path);
}
