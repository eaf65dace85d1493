// SPDX-License-Identifier: Apache-2.0
// The journal's own storage, shared by its writing and its reading half.
#pragma once

#include <limits.h>
#include <sqlite3.h>

#include "base/siphash.h"
#include "ship/store/journal.h"

enum {
    JOURNAL_CHAIN_BYTES = 16,
    JOURNAL_APPLICATION_ID = 0x536c7563, // "Sluc"
    JOURNAL_FILE_MODE = 0600, // entries name people; SQLite gives the files beside it the same mode
    JOURNAL_LOG_PAGES = 1000, // the log is folded into the file beyond this
};

struct journal_head {
    uint64_t count;
    uint8_t chain[JOURNAL_CHAIN_BYTES];
};

struct journal {
    char path[PATH_MAX];
    enum journal_mode mode;
    sqlite3 *db;
    sqlite3_stmt *insert;
    sqlite3_stmt *update_head;
    int lock_fd;            // of the file beside the journal; -1 when reading
    int file_fd;            // of the journal, locked; -1 when reading
    uint64_t device, inode; // of the opened file, to notice when its path leads to another
    int log_pages;          // in the log beside the file after the last commit
    bool sync_failed;       // unsynced data may be gone from the disk although it still reads back
    bool in_transaction;
    bool lost;                   // SQLite was left in the middle: it is not called again
    struct journal_head head;    // committed
    struct journal_head pending; // the head with the entries of the open transaction
};

// ---- journal_guard.c
void journal_guard_init(void);
typedef enum status journal_call(struct journal *journal, void *argument, struct fault *fault);
// Makes the call, within which SQLite is used, on one thread and not one within another. STATUS_IO, now and
// for ever, when its index was cut short.
MUST_USE enum status journal_guard(struct journal *journal, journal_call *call, void *argument,
                                   struct fault *fault);

// Hash of an entry that follows `previous`.
void journal_chain_next(const uint8_t previous[JOURNAL_CHAIN_BYTES], const struct journal_entry *entry,
                        uint8_t next[JOURNAL_CHAIN_BYTES]);
// Fills the fault from SQLite's last error and returns its status; `doing` completes "cannot ... : ".
enum status journal_fail_sqlite(const struct journal *journal, const char *doing, struct fault *fault);
__attribute__((format(printf, 4, 5))) enum status journal_fail(enum status status, uint64_t seq,
                                                               struct fault *fault, const char *format, ...);
