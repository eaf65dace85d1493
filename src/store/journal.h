// SPDX-License-Identifier: Apache-2.0
// The journal: an append-only sequence of inputs and decisions in one SQLite file (WAL). It is the truth from
// which everything else is derived again. Entries are linked by a chain of hashes, so that an edited,
// removed, moved or cut-off entry is found and named; a head file beside the database says how far it was
// made durable. One process writes, any number read meanwhile. A journal object belongs to one thread at a
// time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"

enum {
    JOURNAL_CHAIN_BYTES = 16,
    JOURNAL_SUBJECT_BYTES_MAX = 63,
    JOURNAL_PAYLOAD_BYTES_MAX = 1024 * 1024,
    JOURNAL_BATCH_ENTRIES_MAX = 1024,
    JOURNAL_BATCH_BYTES_MAX = 4 * 1024 * 1024, // payload and subjects of one batch
    JOURNAL_PROBLEM_BYTES = 320,
    JOURNAL_PATH_BYTES_MAX = 1024,
    JOURNAL_WAL_BYTES_MAX = 16 * 1024 * 1024, // the log beside the database is cut back to this
};

// What an entry is. Values are stored: never renumber, only add.
enum journal_kind {
    JOURNAL_PROCESS_START = 1, // subject empty; payload: version and process facts
    JOURNAL_CONFIG = 2,        // subject empty or a service; payload: the configuration as read
    JOURNAL_INPUT = 3,         // subject: rollout; payload: rollout_input_encode
    JOURNAL_DECISION = 4,      // subject: rollout; payload: rollout_effects_encode
    JOURNAL_COMMAND = 5, // an operator's word that is no rollout input (flag set, reload); payload: text
    JOURNAL_NOTE = 6,    // for people; payload: text
    JOURNAL_KIND_END
};
const char *journal_kind_name(enum journal_kind kind); // "input", "decision", ...; "unknown"

enum journal_sync {
    JOURNAL_SYNC_NORMAL, // survives the process's death, perhaps not the machine's
    JOURNAL_SYNC_FULL,   // on the disk before commit returns, and everything committed before it too
};

struct journal_entry {
    uint64_t seq;    // 1, 2, 3, ... without a gap; given by the journal (ignored by journal_append)
    int64_t time_ms; // wall clock as the caller saw it
    enum journal_kind kind;
    uint32_t run;                       // which run of the subject's rollout, counted by the caller
    struct slice subject;               // rollout's name, at most JOURNAL_SUBJECT_BYTES_MAX; may be empty
    struct slice payload;               // at most JOURNAL_PAYLOAD_BYTES_MAX; may be empty
    uint8_t chain[JOURNAL_CHAIN_BYTES]; // given by the journal (ignored by journal_append)
};

// What is wrong, for people: one or two sentences that say what was found, where, and what may be done.
struct journal_problem {
    enum status status;
    uint64_t seq;      // entry concerned, 0: none
    uint64_t expected; // truncated: entries that must be there
    uint64_t found;    // truncated: entries that are there
    int pid;           // STATUS_IN_USE: the holder, 0: not known
    char text[JOURNAL_PROBLEM_BYTES];
};

enum journal_mode {
    JOURNAL_CREATE,   // open for writing; made when there is no such file (never in place of an empty or
                      // foreign one)
    JOURNAL_EXISTING, // open for writing; must be there
    JOURNAL_READONLY, // beside a writer or without one
};

struct journal;

struct journal_options {
    enum journal_mode mode;
    bool verify;      // read and check every entry now (journal_verify); else only the ends
    bool unlocked;    // tests and simulator: no lock on the file, no watch over its name
    const char *vfs;  // name of a registered SQLite VFS, NULL: the system's files
    uint32_t busy_ms; // how long a reader waits for the writer, 0: 2000
    int64_t now_ms;   // wall clock, noted when a journal is made
};

// Opens the journal at path. On failure problem->status is the returned status:
//   STATUS_NOT_FOUND    no such file (or its directory)
//   STATUS_EXISTS       a file of another kind is there: not a database, another program's, a directory,
//   empty STATUS_UNSUPPORTED  written by a newer version STATUS_CORRUPT      a page or an entry does not
//   check out, or entries are missing (expected, found) STATUS_IN_USE       another process writes to it
//   (pid) STATUS_DENIED, STATUS_NO_SPACE, STATUS_IO, STATUS_NO_MEMORY, STATUS_NO_FD, STATUS_RANGE (path too
//   long)
MUST_USE enum status journal_open(const char *path, const struct journal_options *options,
                                  struct journal **out, struct journal_problem *problem);
// Makes everything durable and closes. What was appended but not committed is dropped. NULL is allowed.
// Readers of the same file in this process should be closed before the writer.
void journal_close(struct journal *journal);

struct journal_info {
    uint64_t last_seq;    // last committed entry, 0: none. Readers: as of the last look
    uint64_t durable_seq; // last entry known to be on the disk
    uint64_t pending;     // entries appended and not yet committed
    int64_t created_ms;
    bool head_known; // a head file was found: a missing end would have been seen
    uint64_t commits, commits_failed;
};
void journal_info_get(struct journal *journal, struct journal_info *info);
const char *journal_path(const struct journal *journal);

// ---- writing: append any number, then commit them as one transaction ----

// Copies the entry into the open batch; *seq (may be NULL) is its number if the batch is committed. Nothing
// is written yet. STATUS_FULL when the batch is full (commit it), STATUS_RANGE when a length is over its
// maximum, STATUS_INVALID for an unknown kind or a reader's journal, STATUS_NO_MEMORY.
MUST_USE enum status journal_append(struct journal *journal, const struct journal_entry *entry,
                                    uint64_t *seq);
// Commits the batch in one transaction; nothing to do is STATUS_OK (with FULL what came before becomes
// durable). On failure (NO_SPACE, IO, DENIED, NOT_FOUND: the file was removed or replaced, CONFLICT: somebody
// else wrote, CORRUPT) none of it counts as committed and the batch stays: commit again later, or abandon it.
// After a failed FULL commit the batch may nevertheless be found after a crash: it was written, not
// confirmed.
MUST_USE enum status journal_commit(struct journal *journal, enum journal_sync sync,
                                    struct journal_problem *problem);
void journal_abandon(struct journal *journal);
// Append and commit one entry together with the batch open so far; on failure the batch is as it was before.
MUST_USE enum status journal_append_now(struct journal *journal, const struct journal_entry *entry,
                                        enum journal_sync sync, struct journal_problem *problem);

// ---- reading ----

// A cursor walks one snapshot of the committed entries in order and checks each link of the chain on its way,
// entries of other subjects included; at the end it checks that it has come to the head.
struct journal_cursor;

struct journal_cursor_options {
    uint64_t from_seq;    // first entry wanted; 0 and 1: all
    struct slice subject; // only entries of this subject; data NULL: of all
};

// One cursor per journal object at a time (STATUS_CONFLICT), and no commit while it is open
// (STATUS_CONFLICT). A reader beside the daemon opens its own journal object.
MUST_USE enum status journal_cursor_open(struct journal *journal,
                                         const struct journal_cursor_options *options,
                                         struct journal_cursor **cursor, struct journal_problem *problem);
// STATUS_OK: *entry is the next one, its slices valid until the next call. STATUS_CLOSED: the end, all
// checked. STATUS_CORRUPT: problem names the entry; nothing after it is given out. Others: IO, IN_USE,
// NO_MEMORY.
MUST_USE enum status journal_cursor_next(struct journal_cursor *cursor, struct journal_entry *entry,
                                         struct journal_problem *problem);
void journal_cursor_close(struct journal_cursor *cursor); // NULL is allowed

// Walks everything. STATUS_OK with *entries (may be NULL) counted, or as journal_cursor_next.
MUST_USE enum status journal_verify(struct journal *journal, uint64_t *entries,
                                    struct journal_problem *problem);

// The link after `previous` (JOURNAL_CHAIN_BYTES) for that entry: SipHash-2-4 under two fixed keys over the
// previous link, number, time, kind, run, subject and the payload's own hash. It finds damage and careless
// edits; it is no signature: who can write the file can also compute it.
void journal_chain_next(const uint8_t previous[JOURNAL_CHAIN_BYTES], const struct journal_entry *entry,
                        uint8_t chain[JOURNAL_CHAIN_BYTES]);
