// SPDX-License-Identifier: Apache-2.0
// Why something could not be done. The same struct carries a reason from where it is found to the person who
// reads it.
#pragma once

#include <stdint.h>

#include "base/status.h"

enum { FAULT_TEXT_BYTES = 1600 };

struct fault {
    enum status status;
    uint32_t line, column;       // position in the file or document named by the text, from 1; 0: none
    uint64_t entry;              // number of the journal entry concerned; 0: none
    char text[FAULT_TEXT_BYTES]; // whole sentences for people
};

// Writes the reason and returns the status, so that a function can end with this call. A text that does not
// fit is cut. Line, column and entry become 0.
__attribute__((format(printf, 3, 4))) enum status fault_set(struct fault *fault, enum status status,
                                                            const char *format, ...);
