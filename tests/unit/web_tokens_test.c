// SPDX-License-Identifier: Apache-2.0
// tokens: what the file may say and who may write it; only the whole right secret opens; fresh tokens work
// and differ.
#include <sys/stat.h>
#include <unistd.h>

#include "base/heap.h"
#include "net/web/tokens.h"
#include "test.h"

// SHA-256 of "abc" (FIPS 180-4, the example of one block) and of the empty message.
#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static char path[] = "/tmp/sluice_tokens_XXXXXX";

static int make_file(void **state)
{
    int file = mkstemp(path);
    (void)state;
    return file < 0 ? 1 : close(file);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

ALL_TESTS(make_file, remove_file);

static void write_bytes(const char *bytes, size_t len)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0600), 0);
}

static enum status load(const char *text, struct tokens **tokens, struct fault *fault)
{
    write_bytes(text, strlen(text));
    return tokens_load(path, tokens, fault);
}

TEST(finds_by_the_whole_secret)
{
    struct tokens *tokens = NULL;
    struct fault fault = {.text = ""};
    assert_int_equal(load("# people\n\n  web\tread staging  " ABC "\r\nci server * " EMPTY, &tokens, &fault),
                     STATUS_OK);
    assert_string_equal(fault.text, "");
    const struct token *token = tokens_find(tokens, SLICE("abc"));
    assert_non_null(token);
    assert_string_equal(token->name, "web");
    assert_int_equal(token->kind, TOKEN_READ);
    assert_string_equal(token->environment, "staging");
    // An empty secret is none, even if somebody put its hash into the file.
    assert_null(tokens_find(tokens, SLICE("")));
    assert_null(tokens_find(tokens, SLICE("abd")));
    assert_null(tokens_find(tokens, SLICE("abc ")));
    assert_null(tokens_find(tokens, SLICE("ABC")));
    for (int i = 0; i < 5000; i++) {
        char guess[32];
        snprintf(guess, sizeof guess, "guess%d", i);
        assert_null(tokens_find(tokens, slice_of(guess)));
    }
    tokens_destroy(tokens);
    tokens_destroy(NULL);
}

TEST(bad_lines_are_named)
{
    static const struct {
        const char *text;
        enum status status;
        const char *place;
        const char *part;
    } cases[] = {
        {"a read * " ABC "\na read * " EMPTY "\n", STATUS_INVALID, ":2:", "name"},
        {"a read * " ABC "\nb read * " ABC "\n", STATUS_INVALID, ":2:", "same token"},
        {"\n\na write * " ABC "\n", STATUS_INVALID, ":3:", "'server'"},
        {"a\n", STATUS_INVALID, ":1:", "'server'"},
        {"a read\n", STATUS_INVALID, ":1:", "environment"},
        {"a read *\n", STATUS_INVALID, ":1:", "64"},
        {"a read * 1234\n", STATUS_INVALID, ":1:", "64"},
        {"a read * g" ABC "\n", STATUS_INVALID, ":1:", "64"},
        {"a read * " ABC " more\n", STATUS_INVALID, ":1:", "behind"},
        {"\x01 read * " ABC "\n", STATUS_INVALID, ":1:", "name"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa read * " ABC "\n", STATUS_INVALID,
         ":1:", "63"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tokens *tokens = NULL;
        struct fault fault = {.text = ""};
        assert_int_equal(load(cases[i].text, &tokens, &fault), cases[i].status);
        assert_null(tokens);
        if (strstr(fault.text, path) == NULL || strstr(fault.text, cases[i].place) == NULL ||
            strstr(fault.text, cases[i].part) == NULL)
            fail_msg("%s: %s", cases[i].text, fault.text);
    }
}

TEST(many)
{
    struct tokens *tokens = NULL;
    struct fault fault = {.text = ""};
    char *text = heap_alloc(TOKENS_MAX + 1, 100);
    size_t len = 0, most = 0;
    assert_non_null(text);
    for (int i = 0; i <= TOKENS_MAX; i++) {
        most = i == TOKENS_MAX ? len : most;
        len += (size_t)snprintf(text + len, 100, "t%d read * %064x\n", i, i);
    }
    write_bytes(text, most);
    assert_int_equal(tokens_load(path, &tokens, &fault), STATUS_OK);
    tokens_destroy(tokens);
    write_bytes(text, len);
    assert_int_equal(tokens_load(path, &tokens, &fault), STATUS_RANGE);
    assert_non_null(strstr(fault.text, ":1025:"));
    heap_free(text);
}

TEST(files)
{
    struct tokens *tokens = NULL;
    struct fault fault = {.text = ""};
    assert_int_equal(tokens_load("/nonexistent/tokens", &tokens, &fault), STATUS_NOT_FOUND);
    assert_non_null(strstr(fault.text, "no such file"));
    assert_int_equal(tokens_load("/", &tokens, &fault), STATUS_INVALID);
    static const mode_t open_modes[] = {0620, 0602, 0666};
    for (size_t i = 0; i < sizeof open_modes / sizeof open_modes[0]; i++) {
        write_bytes("", 0);
        assert_int_equal(chmod(path, open_modes[i]), 0);
        assert_int_equal(tokens_load(path, &tokens, &fault), STATUS_DENIED);
        assert_non_null(strstr(fault.text, "chmod 600"));
    }
    write_bytes("", 0);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(tokens_load(path, &tokens, &fault), STATUS_OK);
    tokens_destroy(tokens);
    heap_fail_after(0);
    tokens = NULL;
    assert_int_equal(tokens_load(path, &tokens, &fault), STATUS_NO_MEMORY);
    heap_fail_after(1);
    assert_int_equal(tokens_load(path, &tokens, &fault), STATUS_NO_MEMORY);
    heap_fail_after(-1);
    assert_null(tokens);
}

TEST(made_tokens_work)
{
    struct tokens *tokens = NULL;
    struct fault fault = {.text = ""};
    char line[400], first[TOKENS_SECRET_BYTES], second[TOKENS_SECRET_BYTES];
    assert_int_equal(tokens_make("ci", TOKEN_SERVER, "prod", first, line, sizeof line), STATUS_OK);
    assert_int_equal(strlen(first), 7 + 43);
    assert_int_equal(strncmp(first, "sluice_", 7), 0);
    assert_null(strstr(line, first + 7));
    assert_int_equal(load(line, &tokens, &fault), STATUS_OK);
    const struct token *token = tokens_find(tokens, slice_of(first));
    assert_non_null(token);
    assert_int_equal(token->kind, TOKEN_SERVER);
    assert_string_equal(token->environment, "prod");
    assert_int_equal(tokens_make("ci", TOKEN_READ, "*", second, line, sizeof line), STATUS_OK);
    assert_string_not_equal(first, second);
    assert_null(tokens_find(tokens, slice_of(second)));
    tokens_destroy(tokens);
    assert_int_equal(tokens_make("two words", TOKEN_READ, "*", second, line, sizeof line), STATUS_INVALID);
    assert_int_equal(tokens_make("#a", TOKEN_READ, "*", second, line, sizeof line), STATUS_INVALID);
    assert_int_equal(tokens_make("", TOKEN_READ, "*", second, line, sizeof line), STATUS_INVALID);
    assert_int_equal(tokens_make("a", TOKEN_READ, "", second, line, sizeof line), STATUS_INVALID);
    assert_int_equal(tokens_make("a", TOKEN_READ, "*", second, line, 20), STATUS_FULL);
    assert_int_equal(tokens_make("a", TOKEN_READ, "*", second, line, 0), STATUS_FULL);
}

static void expect_token(const char *authorization, const char *api_key, const char *wanted)
{
    struct slice got = tokens_of_fields(slice_of(authorization), slice_of(api_key));
    assert_true(slice_equal(got, slice_of(wanted)));
}

TEST(fields)
{
    expect_token("Bearer abc", "", "abc");
    expect_token("bearer  abc", "key", "abc");
    expect_token("Basic abc", "", "");
    expect_token("Basic abc", "key", "key");
    expect_token("Bearerabc", "", "");
    expect_token("Bearer", "", "");
    expect_token("Bearer ", "key", "key");
    expect_token("", "key", "key");
    expect_token("", "", "");
}
