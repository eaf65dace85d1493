// SPDX-License-Identifier: Apache-2.0
// cli: commands about flags that need no daemon: lint with places and carets, offline evaluation with the
// rule that decided, import, tokens; and what every one of them says to a wrong line.
#include <unistd.h>

#include "daemon/cli/cli_private.h"
#include "net/web/tokens.h"
#include "test.h"

struct outcome {
    int code;
    char *out;
    char *err;
};

// Words end with NULL; "@" stands for the path of the test's file.
static char path[256];

static int remove_file(void **state)
{
    (void)state;
    (void)unlink(path);
    return 0;
}

ALL_TESTS(NULL, remove_file);

static struct outcome run(const char *const *words)
{
    char *argv[32] = {0};
    char lint[300];
    int argc = 0;
    snprintf(lint, sizeof lint, "@%s", path);
    for (; words[argc] != NULL; argc++) {
        const char *word = words[argc];
        word = strcmp(word, "@") == 0 ? path : strcmp(word, "@@") == 0 ? lint : word;
        argv[argc] = strdup(word);
    }
    struct outcome outcome;
    size_t out_len, err_len;
    FILE *out = open_memstream(&outcome.out, &out_len);
    FILE *err = open_memstream(&outcome.err, &err_len);
    outcome.code = cli_main(argc, argv, out, err);
    fclose(out);
    fclose(err);
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    return outcome;
}

static void expect(const char *const *words, int code, const char *in_out, const char *in_err)
{
    struct outcome outcome = run(words);
    if (outcome.code != code || strstr(outcome.out, in_out) == NULL || strstr(outcome.err, in_err) == NULL)
        fail_msg("%s %s: exit %d\nout: %s\nerr: %s", words[1], words[2], outcome.code, outcome.out,
                 outcome.err);
    free(outcome.out);
    free(outcome.err);
}
#define EXPECT(code, in_out, in_err, ...)                                                                    \
    expect((const char *const[]){"sluice", "flag", __VA_ARGS__, NULL}, code, in_out, in_err)

static void put(const char *text)
{
    snprintf(path, sizeof path, "/tmp/cli_flag_%d.json", (int)getpid());
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static const char GOOD[] =
    "{\"flags\": {\n"
    "  \"fresh\": {\"state\": \"ENABLED\", \"variants\": {\"on\": true, \"off\": false},\n"
    "    \"defaultVariant\": \"off\",\n"
    "    \"targeting\": {\"if\": [{\"==\": [{\"var\": \"plan\"}, \"beta\"]},\n"
    "      {\"fractional\": [[\"on\", 100], [\"off\", 0]]}, {\"==\": [{\"var\": \"plan\"}, \"old\"]}, "
    "\"off\"]},\n"
    "    \"x-sluice\": {\"targets\": {\"on\": [\"ann\"]}}},\n"
    "  \"banner\": {\"state\": \"ENABLED\", \"variants\": {\"red\": \"#f00\"}, \"defaultVariant\": \"red\"}\n"
    "}}\n";

TEST(lint)
{
    put(GOOD);
    EXPECT(0, "2 flags, nothing wrong", "", "lint", "@");
    EXPECT(0, "4 flags, nothing wrong", "", "lint", "@", "@");
    put("{\"flags\": {\n\t\"b\\u00e9\": {\"state\": \"ENABLED\", \"variants\": {\"\u00e9\": true, \"n\": "
        "\"no\"}, "
        "\"defaultVariant\": \"n\"}}}\n");
    EXPECT(1, ":2:65: error: ", "", "lint", "@");
    EXPECT(1, "1 error, 0 warnings", "", "lint", "@");
    EXPECT(1, "\"line\": 2", "", "lint", "--json", "@");
    put("{\"flags\": {\"f\": {\"state\": \"ENABLED\", \"variants\": {\"on\": true}, \"defaultVariant\": "
        "\"on\",\n"
        "\"targeting\": {\"iff\": [true, \"on\"]}}}}");
    EXPECT(1, "did you mean \"if\"?", "", "lint", "@");
    EXPECT(1, "      2 | \"targeting\": {\"iff\"", "", "lint", "@");
    put("{\"flags\": {\"f\": }}");
    EXPECT(1, ":1:17: error", "", "lint", "@");
    EXPECT(4, "", "cannot be read", "lint", "/nonexistent/flags.json");
    EXPECT(2, "", "FILE... is missing", "lint");
}

// The caret stands under its place, whatever bytes stand before it.
TEST(caret)
{
    put("{\"flags\": {\"\u00e9\u00e9\": {\"state\": \"ON\", \"variants\": {\"on\": true}, "
        "\"defaultVariant\": \"on\"}}}\n");
    struct outcome outcome = run((const char *const[]){"sluice", "flag", "lint", "@", NULL});
    const char *source = strstr(outcome.out, " | {");
    const char *caret = strchr(outcome.out, '^');
    assert_non_null(source);
    assert_non_null(caret);
    const char *line = caret;
    while (line[-1] != '\n')
        line--;
    // Characters, not bytes, up to the caret.
    const char *at = source;
    while (at[-1] != '\n')
        at--;
    for (ptrdiff_t i = 0; i < caret - line; i++)
        for (at++; ((unsigned char)*at & 0xc0) == 0x80;)
            at++;
    if (strncmp(at, "ON\"", 3) != 0)
        fail_msg("the caret is under %.10s\n%s", at, outcome.out);
    free(outcome.out);
    free(outcome.err);
}

// What a file holds must not move the cursor of whoever looks at it.
TEST(no_escapes)
{
    put("{\"flags\": {\"\\u001b[2J\": {\"state\": \"ENABLED\", \"variants\": {\"on\": true}, "
        "\"defaultVariant\": "
        "\"\\u001b[2J\"}}}");
    struct outcome outcome = run((const char *const[]){"sluice", "flag", "lint", "@", NULL});
    assert_int_equal(outcome.code, 1);
    assert_non_null(strstr(outcome.out, "names no variant"));
    assert_null(strchr(outcome.out, '\033'));
    free(outcome.out);
    free(outcome.err);
}

TEST(eval)
{
    put(GOOD);
    EXPECT(0, "fresh = true   (variant \"on\")", "", "eval", "fresh", "-f", "@", "-k", "ann");
    EXPECT(0, "rule     {\"on\":[\"ann\"]}", "", "eval", "fresh", "-f", "@", "-k", "ann");
    EXPECT(0, "bucket   [\"on\",100]", "", "eval", "fresh", "-f", "@", "-k", "u", "-c",
           "{\"plan\":\"beta\"}");
    EXPECT(0, "because  {\"==\":[{\"var\":\"plan\"},\"beta\"]}", "", "eval", "fresh", "-f", "@", "-k", "u",
           "-c", "{\"plan\":\"beta\"}");
    EXPECT(0, "because  {\"==\":[{\"var\":\"plan\"},\"old\"]}", "", "eval", "fresh", "-f", "@", "-k", "u",
           "-c", "{\"plan\":\"old\"}");
    EXPECT(1, "TARGETING_KEY_MISSING: the flag needs a targeting key (--key KEY)", "", "eval", "fresh", "-f",
           "@");
    EXPECT(0, "\"variant\": \"red\"", "", "eval", "banner", "-f", "@", "--json");
    EXPECT(1, "TYPE_MISMATCH", "", "eval", "banner", "-f", "@", "--type", "boolean");
    EXPECT(1, "", "did you mean \"banner\"?", "eval", "baner", "-f", "@");
    EXPECT(2, "", "not \"bool\"", "eval", "banner", "-f", "@", "--type", "bool");
    EXPECT(2, "", "line 1, column 2", "eval", "banner", "-f", "@", "-c", "{x");
    EXPECT(2, "", "an object such as", "eval", "banner", "-f", "@", "-c", "[1]");
    EXPECT(4, "", "cannot be read", "eval", "banner", "-f", "@", "-c", "@/nonexistent/context");
    EXPECT(4, "", "cannot be read", "eval", "banner", "-f", "/nonexistent/flags.json");
    put("{\"flags\": {\"f\": {\"state\": \"ENABLED\", \"variants\": {\"on\": 1}, \"defaultVariant\": "
        "\"of\"}}}");
    EXPECT(1, "", "defaultVariant names no variant", "eval", "f", "-f", "@");
}

// A context of any shape ends in an answer or a message.
TEST(eval_hostile)
{
    static char deep[4000];
    put(GOOD);
    memset(deep, '[', 1500);
    memset(deep + 1500, ']', 1500);
    char context[4100];
    snprintf(context, sizeof context, "{\"a\": %s}", deep);
    EXPECT(4, "", "nested too deeply", "eval", "fresh", "-f", "@", "-c", context);
    EXPECT(0, "fresh = ", "", "eval", "fresh", "-f", "@", "-k", "u", "-c",
           "{\"plan\": \"\\u0000\\ud83d\\ude00\"}");
}

TEST(token)
{
    struct outcome outcome =
        run((const char *const[]){"sluice", "flag", "token", "-n", "web", "-k", "server", "-e", "eu", NULL});
    assert_int_equal(outcome.code, 0);
    const char *secret = strstr(outcome.out, "sluice_");
    const char *line = strstr(outcome.out, "web server eu ");
    assert_non_null(secret);
    assert_non_null(line);
    // The line alone opens the file; the token opens the line.
    snprintf(path, sizeof path, "/tmp/cli_flag_%d.tokens", (int)getpid());
    FILE *file = fopen(path, "w");
    fprintf(file, "%.*s\n", (int)strcspn(line, "\n"), line);
    fclose(file);
    struct tokens *tokens = NULL;
    struct fault fault = {.text = ""};
    assert_int_equal(tokens_load(path, &tokens, &fault), STATUS_OK);
    const struct token *token = tokens_find(tokens, (struct slice){secret, strcspn(secret, "\n")});
    assert_non_null(token);
    assert_int_equal(token->kind, TOKEN_SERVER);
    assert_string_equal(token->environment, "eu");
    tokens_destroy(tokens);
    unlink(path);
    assert_null(strstr(line, secret));
    free(outcome.out);
    free(outcome.err);
    EXPECT(2, "", "--name is missing", "token");
    EXPECT(2, "", "not \"admin\"", "token", "-n", "a", "-k", "admin");
    EXPECT(2, "", "single words", "token", "-n", "two words");
}

TEST(import)
{
    put(GOOD);
    EXPECT(0, "\"banner\"", "", "import", "--from", "flagd", "@");
    EXPECT(2, "", "not \"split\"", "import", "--from", "split", "@");
    EXPECT(4, "", "cannot be read", "import", "/nonexistent/export.json");
    put("{\"flags\": 7}");
    EXPECT(1, "", "cannot be imported", "import", "@");
    put(GOOD);
    EXPECT(3, "", "no daemon answers", "import", "--apply", "--yes", "-a", "127.0.0.1:1", "@");
}

TEST(wrong_lines)
{
    EXPECT(2, "", "did you mean \"list\"?", "lsit");
    EXPECT(2, "", "give either", "set", "a");
    EXPECT(2, "", "give either", "set", "a", "f.json", "--default", "on");
    EXPECT(2, "", "a flag's key is", "show", "");
    EXPECT(3, "", "no daemon answers at 127.0.0.1:1", "list", "-a", "127.0.0.1:1");
    EXPECT(3, "", "no daemon answers at 127.0.0.1:1", "off", "x", "-a", "127.0.0.1:1");
    EXPECT(0, "Does not ask", "", "off", "--help");
    put("{\"state\": \"ENABLED\", \"variants\": {\"on\": true}, \"defaultVariant\": \"off\"}");
    // What is wrong with a definition is said before anybody is asked, at its own place.
    EXPECT(1, "", ":1:67: error: defaultVariant names no variant", "set", "x", "@", "-a", "127.0.0.1:1");
}
