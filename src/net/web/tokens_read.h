// SPDX-License-Identifier: Apache-2.0
// The grammar of the token file, apart from files and secrets, so that it can be fuzzed.
#pragma once

#include "net/web/tokens.h"

// Takes the first line off, without its LF or CRLF.
struct slice tokens_line_next(struct slice *rest);
// STATUS_NOT_FOUND for an empty line or a comment; STATUS_INVALID with the reason.
MUST_USE enum status tokens_line_read(struct slice line, struct token *token, struct fault *fault);
// Not empty, shorter than cap, visible ASCII without blanks.
bool tokens_word_valid(struct slice word, size_t cap);
