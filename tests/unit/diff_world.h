// SPDX-License-Identifier: Apache-2.0
// Two bodies, compared, and the findings as lines: "kind path [place] first | second xN (class)".
#pragma once

#include "ship/diff/diff.h"

enum { WORLD_SPACE_BYTES = 4 << 20, WORLD_LINES_BYTES = 1 << 16 };

// `space` of so many bytes; 0: WORLD_SPACE_BYTES.
struct diff_world {
    struct diff_recipe recipe;
    size_t space;
    struct diff_comparison found;
    char lines[WORLD_LINES_BYTES];
};

// Fills `found` and `lines`; returns the lines.
const char *diff_world_answers(struct diff_world *world, const struct diff_answer *first,
                               const struct diff_answer *second);
const char *diff_world_bodies(struct diff_world *world, const char *media_type, struct slice first,
                              struct slice second);
const char *diff_world_json(struct diff_world *world, const char *first, const char *second);
