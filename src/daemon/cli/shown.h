// SPDX-License-Identifier: Apache-2.0
// Text from outside (the daemon, files, journals) on its way to a terminal. Nothing in it may move the
// cursor, begin a line that looks like one of ours, or turn the direction of writing: such characters become
// '?', and so do bytes that are no UTF-8. In JSON they become escapes, so that it says what it said.
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "base/slice.h"

// What is given back by the first three is from a ring of static storage, good for the next eight calls.
const char *cli_shown(const char *text); // a name: one line
const char *cli_told(const char *text);  // sentences: a line may break where the next one is indented
// cli_shown of a member; "" when it is no string.
const char *cli_word(const json_t *object, const char *name);
// Lines of our own that quote others.
void cli_print_report(FILE *out, const char *text);
void cli_print_told(FILE *out, const char *text); // as cli_told, of any length

// A document as it is, and one indented with a line's end.
void cli_print_json_text(FILE *out, struct slice json);
void cli_print_json(FILE *out, const json_t *json);
// A value as compact JSON, cut to cap.
void cli_json_text(const json_t *value, char *text, size_t cap);
// The text of a document on the heap; NULL when memory ran out or it is no JSON.
char *cli_json_dump(const json_t *json, size_t flags);
