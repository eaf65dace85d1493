// SPDX-License-Identifier: Apache-2.0
// A faulty disk under SQLite, for tests and the simulator: passes everything on to the system's files, fails
// the writes and syncs it is told to, and remembers what was never synced, so that a loss of power can be
// played: each unsynced sector is then on the disk or not, as a seed decides. One at a time in a process; not
// for threads.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum {
    FAULT_VFS_FILES_MAX = 16,
    FAULT_VFS_SECTOR_BYTES = 512, // written whole or not at all; bytes beside a write are never harmed
};

struct fault_vfs_plan {
    // Counted from fault_vfs_set on; 0: never. A write is a write or a truncation of any file.
    uint64_t write_fails_from;  // this write and the next ones fail with "no space"
    uint64_t write_fails_count; // that many
    uint64_t sync_fails_at; // this sync fails with an I/O error, and what it was to make durable is lost to
                            // the disk although it still reads back, as Linux does it
    uint64_t off_at;        // power goes before this operation (write, sync or deletion): nothing reaches the
                            // disk from here on, and all of them fail
};

struct fault_vfs_counts {
    uint64_t writes, syncs, operations; // since fault_vfs_set
    uint64_t failed;
    bool off;
};

// Registers it as SQLite's default VFS. STATUS_CONFLICT when it is already there.
MUST_USE enum status fault_vfs_install(void);
// All databases must be closed. Forgets everything.
void fault_vfs_remove(void);
void fault_vfs_set(const struct fault_vfs_plan *plan);
struct fault_vfs_counts fault_vfs_counts_get(void);

enum fault_vfs_keep {
    FAULT_VFS_KEEP_NONE, // of what was not synced
    FAULT_VFS_KEEP_ALL,
    FAULT_VFS_KEEP_RANDOM, // each sector by itself: torn and reordered writes
};
// Power is back: rewrites every file it has seen as the disk holds it. All databases must be closed.
MUST_USE enum status fault_vfs_crash(enum fault_vfs_keep keep, uint64_t seed);
