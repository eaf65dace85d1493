// SPDX-License-Identifier: Apache-2.0
// The journal: an append-only chain of inputs and decisions in one SQLite file. Every entry carries a keyed
// hash over the previous hash and itself, and a head record, written in the same transaction, counts the
// entries. So an edit, a deletion, a reordering or a truncation is found and named. One writer, any number of
// readers.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/slice.h"
#include "base/status.h"

enum {
    JOURNAL_SUBJECT_BYTES = 64, // the NUL included
    JOURNAL_PAYLOAD_BYTES_MAX = 1024 * 1024,
    JOURNAL_SCHEMA_VERSION = 1,
    JOURNAL_BUSY_MS = 2000, // how long to wait for a reader's lock
};

enum journal_kind {
    JOURNAL_PROCESS = 1,  // a daemon started; payload: its version as text
    JOURNAL_INPUT = 2,    // payload: rollout_input_encode
    JOURNAL_DECISION = 3, // payload: rollout_effects_encode
    JOURNAL_NOTE = 4,   // for people only; payload: text; of a rollout: which requests its decision saw fail
    JOURNAL_FLAG = 5,   // a flag was changed; subject: its key (cut), payload: runtime_overlay_encode
    JOURNAL_STABLE = 6, // the file's `stable` was edited; subject: the service, payload: engine_stable_edit
    JOURNAL_FORGOTTEN = 7, // a finished rollout made room for another; subject: its name, payload: empty
};

enum journal_mode {
    JOURNAL_WRITE, // created when there is none, for its owner's eyes only; locks out every other writer, by
                   // whatever name
    JOURNAL_READ,  // must exist; a daemon may be writing it
};

// What a commit must survive before it counts.
enum journal_sync {
    JOURNAL_SYNC_NORMAL, // survives the death of the process
    JOURNAL_SYNC_FULL,   // survives the death of the machine, and so does everything before it
};

struct journal;

struct journal_entry {
    uint64_t seq;    // from 1, given by append
    int64_t time_ms; // wall clock
    enum journal_kind kind;
    uint32_t run;                        // of the subject, from 1; 0 where there is none
    char subject[JOURNAL_SUBJECT_BYTES]; // rollout name, what the kind says, or empty
    struct slice payload;                // borrowed
};

// Opens and checks the file: NOT_FOUND, DENIED, IN_USE (another writer), INVALID (not a journal of Sluice; it
// is left as it is), UNSUPPORTED (written by a newer version), CORRUPT (pages, head or last entry), NO_SPACE,
// IO. The whole chain is verified by reading it with a cursor.
MUST_USE enum status journal_open(const char *path, enum journal_mode mode, struct journal **journal,
                                  struct fault *fault);
// NULL is allowed. An open transaction is rolled back.
void journal_close(struct journal *journal);

// One transaction: begin, append any number, commit; `sync` says how durable the commit is. A failure
// anywhere rolls the whole transaction back and leaves the journal as it was, so it may be tried again later;
// `fault` says why.
MUST_USE enum status journal_begin(struct journal *journal, enum journal_sync sync, struct fault *fault);
// entry->seq is ignored; the number given is stored in *seq when seq is not NULL.
MUST_USE enum status journal_append(struct journal *journal, const struct journal_entry *entry, uint64_t *seq,
                                    struct fault *fault);
MUST_USE enum status journal_commit(struct journal *journal, struct fault *fault);
void journal_rollback(struct journal *journal);

uint64_t journal_count(const struct journal *journal); // entries committed
uint64_t journal_bytes(const struct journal *journal); // of the file and the log beside it, on disk
const char *journal_path(const struct journal *journal);

// Reads entries in order, verifying the chain on the way. Begins at the first entry.
struct journal_cursor;
MUST_USE enum status journal_cursor_open(struct journal *journal, struct journal_cursor **cursor,
                                         struct fault *fault);
// STATUS_OK with the entry (payload valid until the next call), STATUS_NOT_FOUND after the last one,
// STATUS_CORRUPT where the chain breaks or the file ends early.
MUST_USE enum status journal_cursor_next(struct journal_cursor *cursor, struct journal_entry *entry,
                                         struct fault *fault);
void journal_cursor_close(struct journal_cursor *cursor);
