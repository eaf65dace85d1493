// SPDX-License-Identifier: Apache-2.0
// Ends a process whose own invariant is broken.
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

noreturn void check_failed(const char *expression, const char *file, int line)
{
    fprintf(stderr, "sluice: invariant broken: %s (%s:%d)\n", expression, file, line);
    fflush(stderr);
    abort();
}
