// SPDX-License-Identifier: Apache-2.0
// cli: `sluice diff`, in words and as JSON.
#include <unistd.h>

#include "daemon/cli/cli.h"
#include "test.h"

static char paths[2][64];

static void put(int i, const char *ending, const char *text)
{
    snprintf(paths[i], sizeof paths[i], "/tmp/cli_diff_%d_%d%s", (int)getpid(), i, ending);
    FILE *file = fopen(paths[i], "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

// `more`: further words, or NULL. The output is in static storage.
static const char *diff(int code, const char *more, const char *value, const char *in_err)
{
    static char kept[8192];
    char words[6][64] = {"sluice", "diff"};
    char *argv[6] = {words[0], words[1], paths[0], paths[1], words[2], words[3]};
    char *out_text = NULL, *err_text = NULL;
    size_t out_len, err_len;
    FILE *out = open_memstream(&out_text, &out_len), *err = open_memstream(&err_text, &err_len);
    int argc = 4 + (more != NULL) + (value != NULL);
    snprintf(words[2], sizeof words[2], "%s", more != NULL ? more : "");
    snprintf(words[3], sizeof words[3], "%s", value != NULL ? value : "");
    int got = cli_main(argc, argv, out, err);
    fclose(out);
    fclose(err);
    snprintf(kept, sizeof kept, "%s", out_text);
    if (got != code || strstr(err_text, in_err) == NULL)
        fail_msg("exit %d\nout: %s\nerr: %s", got, out_text, err_text);
    free(out_text);
    free(err_text);
    for (int i = 0; i < 2; i++)
        (void)unlink(paths[i]);
    return kept;
}

static const char OLD[] = "{\"items\":[{\"id\":1,\"price\":12},{\"id\":2,\"price\":3}],\"t\":\"2024-01-02\"}";
static const char NEW[] =
    "{\"t\":\"2024-01-03\",\"items\":[{\"id\":1,\"price\":13},{\"id\":2,\"price\":3.0}]}";

TEST(differences_are_told_in_words)
{
    put(0, ".json", OLD);
    put(1, ".json", NEW);
    assert_string_equal(diff(1, NULL, NULL, ""), "body.items[].price: was 12, is 13; at item 0\n"
                                                 "body.t: was 2024-01-02, is 2024-01-03 (time)\n");
    put(0, ".json", OLD);
    put(1, ".json", NEW);
    assert_string_equal(diff(1, "--ignore", "*.t", ""),
                        "body.items[].price: was 12, is 13; at item 0\n1 left out by --ignore\n");
    put(0, ".json", OLD);
    put(1, ".json", NEW);
    assert_non_null(strstr(diff(1, "--spelling", NULL, ""), "written otherwise: was 3, is 3.0; at item 1"));
    put(0, ".json", OLD);
    put(1, ".json", OLD);
    assert_string_equal(diff(0, NULL, NULL, ""), "no difference\n");
}

TEST(differences_are_told_as_json)
{
    put(0, ".json", OLD);
    put(1, ".json", NEW);
    const char *out = diff(1, "--json", NULL, "");
    assert_non_null(strstr(out, "\"equal\": false"));
    assert_non_null(strstr(out, "\"path\": \"body.items[].price\""));
    assert_non_null(strstr(out, "\"class\": \"time\""));
}

TEST(options_of_the_other_kind)
{
    (void)diff(2, "--path", "body.*",
               "--path goes with the name of a service or rollout, not with two files");
    (void)diff(2, "--examples", NULL, "--examples goes with the name");
}

TEST(how_files_are_read)
{
    put(0, "", " [1,2]"); // by its first byte
    put(1, "", "[1, 3]");
    assert_string_equal(diff(1, NULL, NULL, ""), "body[]: was 2, is 3; at item 1\n");
    put(0, ".txt", "[1,2]\n");
    put(1, ".txt", "[1, 2]\n");
    assert_string_equal(diff(1, NULL, NULL, ""), "body[]: was [1,2], is [1, 2]; at item 0\n");
    put(0, ".txt", "[1,2]\n");
    put(1, ".txt", "[1, 2]\n");
    assert_string_equal(diff(0, "--type", "text/json", ""), "no difference\n");
    put(0, ".json", "[1,2]");
    put(1, ".json", "[1,2");
    assert_memory_equal(diff(1, NULL, NULL, "expected ',' or ']'"), "body: was 5 bytes, digest ", 26);
    put(0, ".json", "[1,2]");
    put(1, ".json", "");
    assert_string_equal(diff(1, NULL, NULL, ""), "body: missing, was [1,2]\n");
}

TEST(a_file_that_is_not_there)
{
    put(0, ".json", "[]");
    put(1, ".json", "[]");
    (void)unlink(paths[1]);
    assert_string_equal(diff(4, NULL, NULL, "cannot be read"), "");
}
