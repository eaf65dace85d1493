// SPDX-License-Identifier: Apache-2.0
// Flag exports of other systems to a flagd file. What does not map is never dropped in silence: each such
// part is a finding with the flag it concerns.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"

enum convert_format { CONVERT_AUTO, CONVERT_FLAGD, CONVERT_LAUNCHDARKLY, CONVERT_UNLEASH };

struct convert_finding {
    bool lost;      // false: mapped, but it behaves a little differently
    char flag[128]; // empty: the whole export
    char text[256]; // what, and what the flag does instead
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
    const char
        *environment; // of exports that hold several; NULL: the only one, else STATUS_INVALID names them
};

// STATUS_INVALID with one finding that says what is wrong (line and column where there is one), NO_MEMORY,
// RANGE (too large). The result is always to be freed.
MUST_USE enum status convert_flags(struct slice source, const struct convert_options *options,
                                   struct convert_result *result);
void convert_result_free(struct convert_result *result);
const char *convert_format_name(enum convert_format format);
