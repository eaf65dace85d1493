// SPDX-License-Identifier: Apache-2.0
// Checking one flag before it is kept.
#include "flagset/flagset_private.h"

enum status flagset_check_flag(const struct flagset *set, struct slice key, struct slice definition,
                               struct flagset_problem *problem)
{
    (void)set;
    (void)key;
    (void)definition;
    (void)problem;
    return STATUS_OK;
}
