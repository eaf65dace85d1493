// SPDX-License-Identifier: Apache-2.0
// Converts flag exports of other systems to a flagd file. A part that does not map is never dropped silently:
// each one becomes a finding with the flag it concerns.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"

enum convert_format { CONVERT_AUTO, CONVERT_FLAGD, CONVERT_LAUNCHDARKLY, CONVERT_UNLEASH };

struct convert_finding {
    bool lost;      // not mapped; false: mapped, but it behaves a little differently
    char flag[128]; // empty: the whole export
    char text[256]; // what is concerned, and what the flag does instead
};

struct convert_result {
    char *json; // flagd file, pretty-printed; heap, freed by convert_result_free
    size_t len;
    uint32_t flag_count;
    struct convert_finding *findings; // heap
    uint32_t finding_count;
};

struct convert_options {
    enum convert_format format;
    const char *environment; // of exports with several; NULL: the only one; when there are several,
                             // STATUS_INVALID lists them
};

// STATUS_INVALID with one finding that says what is wrong (with line and column if known), NO_MEMORY, RANGE
// (too large). Free the result in every case.
MUST_USE enum status convert_flags(struct slice source, const struct convert_options *options,
                                   struct convert_result *result);
void convert_result_free(struct convert_result *result);
const char *convert_format_name(enum convert_format format);
