// SPDX-License-Identifier: Apache-2.0
#include "io/io_private.h"

bool io_uring_available(const char **why)
{
    *why = "not built in";
    return false;
}

enum status io_uring_create(uint32_t bufs_max, struct io_loop **loop)
{
    (void)bufs_max;
    (void)loop;
    return STATUS_UNSUPPORTED;
}
