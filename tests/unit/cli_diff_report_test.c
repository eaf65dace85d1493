// SPDX-License-Identifier: Apache-2.0
// cli: how the answers of two versions differ, in words, from the daemon's JSON.
#include "daemon/cli/diff.h"
#include "test.h"

#define COUNTS(compared, failed)                                                                             \
    "\"counts\":{\"sent\":12431,\"compared\":" compared ",\"with_secondary\":1240,\"candidate_errors\":12,"  \
    "\"primary_errors\":10,\"uncompared\":{\"primary_failed\":0,\"candidate_failed\":" failed                \
    ",\"queue_full\":0},\"candidate_ends\":{\"answered\":12400,\"timeout\":" failed "}}"
#define ROW(path, verdict, words, examples)                                                                  \
    "{\"path\":\"" path "\",\"verdict\":\"" verdict "\",\"words\":\"" words "\",\"examples\":[" examples "]}"
#define REPORT(counts, different, rows)                                                                      \
    "{\"service\":\"shop\",\"rollout\":null,\"primary\":\"v1\",\"candidate\":\"v2\"," counts                 \
    ",\"paths\":{\"different\":" different ",\"noisy\":0,\"undecided\":0},\"rows\":[" rows "]}"

// The output is in static storage.
static const char *print(int code, const char *json, const char *option, const char *other)
{
    static char kept[8192];
    char *text = NULL, *err_text = NULL;
    size_t len, err_len;
    const char *argv[] = {"sluice", "diff", "shop", option, other};
    struct cli_call call = {.out = open_memstream(&text, &len), .err = open_memstream(&err_text, &err_len)};
    bool help_asked;
    int argc = 3 + (option != NULL) + (other != NULL);
    assert_int_equal(cli_parse(argc, (char *const *)(uintptr_t)argv, call.err, &call, &help_asked),
                     STATUS_OK);
    json_t *report = json_loads(json, 0, NULL);
    assert_non_null(report);
    int got = diff_tell_report(&call, report);
    fclose(call.out);
    fclose(call.err);
    snprintf(kept, sizeof kept, "%s%s", text, err_text);
    assert_int_equal(got, code);
    json_decref(report);
    free(text);
    free(err_text);
    return kept;
}

TEST(differences_and_noise)
{
    static const char json[] = REPORT(
        COUNTS("12400", "31"), "1",
        ROW("body.price", "different", "v2 answers body.price otherwise.",
            "{\"method\":\"GET\",\"target\":\"/cart\",\"place\":\"3\",\"primary\":{\"value\":\"12\",\"status\":200,"
            "\"body_bytes\":1200,\"wait_us\":1500},\"candidate\":{\"value\":\"\",\"status\":201,\"body_bytes\":7,"
            "\"wait_us\":99}}") "," ROW("body.id", "noisy", "v2 answers body.id otherwise: noise.",
                                        "") "," ROW("body.t", "noisy", "v2 answers body.t otherwise: noise.",
                                                    ""));
    static const char counts[] =
        "shop: v2 beside v1. 12 400 of 12 431 mirrored requests compared; v1 was asked twice for 1 240.\n"
        "Not compared: 31 candidate_failed (v2: 31 timeout).\n"
        "Errors: v2 12, v1 10.\n"
        "\nDifferent:\n  v2 answers body.price otherwise.\n";
    char wanted[1024];
    snprintf(wanted, sizeof wanted,
             "%s\nNoise, because the old version differs from itself as well: body.id, body.t.\n", counts);
    assert_string_equal(print(CLI_EXIT_NO, json, NULL, NULL), wanted);
    snprintf(wanted, sizeof wanted,
             "%s    GET /cart, at item 3\n"
             "      v1: 12  (status 200, 1 200 bytes, 1.5 ms)\n"
             "      v2: nothing  (status 201, 7 bytes, 0.1 ms)\n"
             "\nNoise:\n  v2 answers body.id otherwise: noise.\n  v2 answers body.t otherwise: noise.\n",
             counts);
    assert_string_equal(print(CLI_EXIT_NO, json, "--path=*", "--examples"), wanted);
}

TEST(no_difference_is_told_from_no_comparison)
{
    static const char equal[] = REPORT(COUNTS("12400", "0"), "0", "");
    assert_string_equal(
        print(CLI_EXIT_OK, equal, NULL, NULL),
        "shop: v2 beside v1. 12 400 of 12 431 mirrored requests compared; v1 was asked twice for 1 240.\n"
        "Errors: v2 12, v1 10.\nNo difference.\n");
    static const char nothing[] = REPORT(COUNTS("0", "31"), "0", "");
    assert_non_null(strstr(print(CLI_EXIT_UNREADABLE, nothing, NULL, NULL), "nothing was compared yet"));
    print(CLI_EXIT_UNREADABLE, nothing, "--json", NULL);
    print(CLI_EXIT_OK, equal, "--json", NULL);
}

// What origins answer may not move the cursor.
TEST(hostile_words)
{
    static const char json[] = REPORT(COUNTS("1", "0"), "1", ROW("a", "different", "x\\u001b[2J\\ny", ""));
    assert_non_null(strstr(print(CLI_EXIT_NO, json, NULL, NULL), "  x?[2J?y\n"));
}
