// SPDX-License-Identifier: Apache-2.0
// Tokens: a file of lines `name kind environment sha256-hex` ('#' begins a comment). Only hashes are kept; a
// token is shown once, when it is made. Looked up in constant time per token of the file.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/slice.h"
#include "base/status.h"

enum {
    TOKENS_MAX = 1024,
    TOKENS_NAME_BYTES = 64,
    TOKENS_ENVIRONMENT_BYTES = 128,
    TOKENS_SECRET_BYTES = 64, // text of a fresh token, the NUL included
};

enum token_kind {
    TOKEN_READ,   // evaluates flags; sees no definition
    TOKEN_SERVER, // evaluates, and reads definitions (sync, export)
};

struct token {
    char name[TOKENS_NAME_BYTES];
    enum token_kind kind;
    char environment[TOKENS_ENVIRONMENT_BYTES]; // a flagSetId; "*": all
    uint8_t hash[32];                           // SHA-256 of the token
};

struct tokens;

// STATUS_INVALID with file:line: what in fault; NOT_FOUND, DENIED (also when others than the owner may write
// it), NO_MEMORY, RANGE.
MUST_USE enum status tokens_load(const char *path, struct tokens **tokens, struct fault *fault);
void tokens_destroy(struct tokens *tokens); // NULL is allowed
// The token's entry, or NULL.
const struct token *tokens_find(const struct tokens *tokens, struct slice secret);
// The value of Authorization: Bearer, or of X-API-Key, or empty.
struct slice tokens_of_fields(struct slice authorization, struct slice api_key);
// A fresh token ("sluice_" and 43 letters of 256 random bits) and its line for the file, without its LF.
// STATUS_INVALID for a name or environment that a line cannot hold, FULL for a short line_cap.
MUST_USE enum status tokens_make(const char *name, enum token_kind kind, const char *environment,
                                 char secret[TOKENS_SECRET_BYTES], char *line, uint32_t line_cap);
