// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/check.h"
#include "ship/diff/noise.h"

#define DIFF_OTHER_PATHS "(other paths)"

// Makes a row for the finding if it has none, or the one for other paths of its kind. Rows may move.
void diff_noise_make_row(struct diff_noise *noise, const struct diff_finding *finding);
// Counts again which names are in use below which prefixes.
void diff_noise_note_rows(struct diff_noise *noise);
// Adds a row as it is.
void diff_noise_take_row(struct diff_noise *noise, const struct diff_row *row);
