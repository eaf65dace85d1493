// SPDX-License-Identifier: Apache-2.0
// Any bytes as a token file's lines: what is taken says the same again when it is written and read back.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "net/web/tokens_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_same_again(const struct token *token)
{
    char line[400];
    struct token again;
    struct fault why;
    int n = snprintf(line, sizeof line, "%s %s %s ", token->name,
                     token->kind == TOKEN_SERVER ? "server" : "read", token->environment);
    CHECK(n > 0 && (size_t)n + 65 < sizeof line);
    for (size_t i = 0; i < sizeof token->hash; i++)
        snprintf(line + n + 2 * i, 3, "%02x", token->hash[i]);
    CHECK(tokens_line_read(slice_of(line), &again, &why) == STATUS_OK);
    CHECK(strcmp(again.name, token->name) == 0 && strcmp(again.environment, token->environment) == 0);
    CHECK(again.kind == token->kind && memcmp(again.hash, token->hash, sizeof again.hash) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = {(const char *)data, size};
    while (rest.len > 0) {
        struct token token;
        struct fault why = {0};
        size_t before = rest.len;
        enum status status = tokens_line_read(tokens_line_next(&rest), &token, &why);
        CHECK(rest.len < before);
        CHECK((status == STATUS_INVALID) == (why.text[0] != '\0'));
        if (status == STATUS_OK)
            expect_same_again(&token);
    }
    return 0;
}
