// SPDX-License-Identifier: Apache-2.0
// Why something could not be done: the one carrier of reasons, from where it is found to who reads it.
#pragma once

#include <stdint.h>

#include "base/status.h"

enum { FAULT_TEXT_BYTES = 1600 };

struct fault {
    enum status status;
    uint32_t line, column;       // in the file or document that the text names; from 1, 0: none
    uint64_t entry;              // number of the journal's entry concerned; 0: none
    char text[FAULT_TEXT_BYTES]; // whole sentences for people
};

// Writes the reason and gives the status back, so that a function can end with it. A text that does not fit
// is cut. Line, column and entry become 0.
__attribute__((format(printf, 3, 4))) enum status fault_set(struct fault *fault, enum status status,
                                                            const char *format, ...);
