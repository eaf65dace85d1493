// SPDX-License-Identifier: Apache-2.0
// Templates of paths: segments that are given, and segments that are named: "/orders/{id}/items". The last
// one may be all that follows: "/files/{rest...}". Texts that are made of them name them in the same way, and
// say "{{" and "}}" for braces.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/text.h"

enum {
    HTTP_CAPTURES_MAX = 12,       // names of one request: of its template, and what else a text may name
    HTTP_TEMPLATE_NAMES_MAX = 8,  // in one template
    HTTP_TEMPLATE_NAME_BYTES = 32 // lower-case letters, digits and '_'
};

struct http_capture {
    struct slice name, value;
};

struct http_captures {
    uint32_t count;
    struct http_capture items[HTTP_CAPTURES_MAX];
};

// NULL, or what is wrong with it, at that byte. A template begins with '/'.
const char *http_template_check(struct slice text, size_t *at);
// How specific a sound template is: segments first, then bytes that are given; less when its end is open.
uint32_t http_template_rank(struct slice text);
// Whether the normal path is one of the sound template. A named segment has at least one byte, what follows
// may be empty; parameters of segments (";v=1") are not compared. captures: NULL, or what is added to.
bool http_template_match(struct slice text, struct slice path, struct http_captures *captures);
// Adds the names of a sound template, without values.
void http_template_names(struct slice text, struct http_captures *captures);

// NULL, or what is wrong with a text that names these captures, at that byte.
const char *http_text_check(struct slice text, const struct http_captures *known, size_t *at);
// Writes the sound text with the values of what it names.
void http_text_expand(struct slice text, const struct http_captures *captures, struct text *out);
