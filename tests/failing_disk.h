// SPDX-License-Identifier: Apache-2.0
// The disk of a test that fails on purpose (ship/store/fault_vfs.h) is well again after it, also when the
// test failed: EACH_TEST(NULL, disk_heals).
#pragma once

#include "ship/store/fault_vfs.h"

static inline int disk_heals(void **state)
{
    (void)state;
    fault_vfs_remove();
    return 0;
}
