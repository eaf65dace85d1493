// SPDX-License-Identifier: Apache-2.0
// A faulty disk under SQLite, for tests and the simulator. It passes everything on to the system's files,
// fails the writes and syncs it is told to, and remembers what was never synced. So it can simulate a loss of
// power, after which each unsynced sector is on the disk or not, as a seed decides. One per process; not for
// threads.
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
    // This sync fails with an I/O error, and the writes that it should have made durable never reach the
    // disk, although they still read back. This is how Linux behaves.
    uint64_t sync_fails_at;
    // The power goes off before this operation (write, sync or deletion): it and all later ones fail, and
    // nothing reaches the disk any more.
    uint64_t off_at;
};

struct fault_vfs_counts {
    uint64_t writes, syncs, operations; // since fault_vfs_set
    uint64_t failed;
    bool off;
};

// Registers the shim as SQLite's default VFS. STATUS_CONFLICT when it is registered already.
MUST_USE enum status fault_vfs_install(void);
// Close all databases first. Forgets everything.
void fault_vfs_remove(void);
void fault_vfs_set(const struct fault_vfs_plan *plan);
struct fault_vfs_counts fault_vfs_counts_get(void);

enum fault_vfs_keep {
    FAULT_VFS_KEEP_NONE, // what was not synced: nothing of it is on the disk
    FAULT_VFS_KEEP_ALL,
    FAULT_VFS_KEEP_RANDOM, // each sector by itself: torn and reordered writes
};
// The power is back: rewrites every file seen with the content that the disk holds. Close all databases
// first.
MUST_USE enum status fault_vfs_crash(enum fault_vfs_keep keep, uint64_t seed);
