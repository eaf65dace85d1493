// SPDX-License-Identifier: Apache-2.0
// A script of commits on a journal above a disk that can lose power or refuse, and what must be read back
// after it.
#pragma once

#include <unistd.h>

#include "base/check.h"
#include "folder.h"
#include "ship/store/fault_vfs.h"
#include "ship/store/journal.h"
#include "test.h"

static char folder[FOLDER_PATH_BYTES];
static char path[96];
static struct fault problem;

static const char *const ENDS[] = {"", "-wal", "-shm", "-journal", ".lock", ".new", ".new-journal"};

static inline void remove_files(void)
{
    for (size_t i = 0; i < ARRAY_LEN(ENDS); i++) {
        char name[128];
        snprintf(name, sizeof name, "%s%s", path, ENDS[i]);
        unlink(name);
    }
}

static inline int setup(void **state)
{
    (void)state;
    folder_make(folder);
    snprintf(path, sizeof path, "%s/j.db", folder);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    fault_vfs_remove();
    folder_remove(folder);
    return 0;
}

// ---- the script ----

struct script {
    int entries;
    int per_commit;
    size_t bytes; // of a payload
};

struct progress {
    uint64_t reported; // entries in commits that were reported good
    uint64_t durable;  // of them, those a full commit covers
    bool opened;
    bool finished;
};

static char payload_bytes[64 * 1024];

// An entry's content follows from its number, so that a reader can tell a wrong one.
static inline struct slice payload_of(uint64_t seq, size_t bytes)
{
    size_t len = bytes / 2 + (seq * 37) % (bytes / 2 + 1);
    memset(payload_bytes, (int)('a' + seq % 26), len);
    return (struct slice){payload_bytes, len};
}

static inline enum status commit_some(struct journal *journal, const struct script *script,
                                      enum journal_sync sync)
{
    enum status status = journal_begin(journal, sync, &problem);
    for (int i = 0; i < script->per_commit && status == STATUS_OK; i++) {
        uint64_t seq = journal_count(journal) + 1 + (uint64_t)i;
        struct journal_entry entry = {.time_ms = (int64_t)seq * 100,
                                      .kind = sync == JOURNAL_SYNC_FULL ? JOURNAL_DECISION : JOURNAL_INPUT,
                                      .run = 1,
                                      .subject = "shop",
                                      .payload = payload_of(seq, script->bytes)};
        status = journal_append(journal, &entry, NULL, &problem);
    }
    return status == STATUS_OK ? journal_commit(journal, &problem) : status;
}

// Appends until `until` entries are there or something fails.
static inline void run_part(const struct script *script, uint64_t until, struct progress *progress)
{
    struct journal *journal = NULL;
    if (journal_open(path, JOURNAL_WRITE, &journal, &problem) != STATUS_OK)
        return;
    progress->opened = true;
    enum status status = STATUS_OK;
    for (int commit = 1; journal_count(journal) < until && status == STATUS_OK; commit++) {
        enum journal_sync sync = commit % 4 == 0 ? JOURNAL_SYNC_FULL : JOURNAL_SYNC_NORMAL;
        status = commit_some(journal, script, sync);
        if (status != STATUS_OK)
            break;
        progress->reported = journal_count(journal);
        if (sync == JOURNAL_SYNC_FULL)
            progress->durable = progress->reported;
    }
    journal_close(journal);
    progress->finished = status == STATUS_OK;
}

// Two lives of a daemon on one journal.
static inline struct progress run_script(const struct script *script)
{
    struct progress progress = {0};
    run_part(script, (uint64_t)script->entries / 2, &progress);
    if (!progress.finished)
        return progress;
    progress.finished = false;
    run_part(script, (uint64_t)script->entries, &progress);
    return progress;
}

// Reads all and checks each content; fails the test on anything but a sound journal.
static inline uint64_t read_back(const struct script *script, const char *when)
{
    struct journal *journal = NULL;
    if (journal_open(path, JOURNAL_WRITE, &journal, &problem) != STATUS_OK)
        fail_msg("%s: %s", when, problem.text);
    struct journal_cursor *cursor = NULL;
    assert_int_equal(journal_cursor_open(journal, &cursor, &problem), STATUS_OK);
    struct journal_entry entry;
    uint64_t count = 0;
    enum status status;
    while ((status = journal_cursor_next(cursor, &entry, &problem)) == STATUS_OK) {
        struct slice expected = payload_of(++count, script->bytes);
        if (entry.seq != count || !slice_equal(entry.payload, expected))
            fail_msg("%s: entry %llu has another content", when, (unsigned long long)count);
    }
    journal_cursor_close(cursor);
    if (status != STATUS_NOT_FOUND)
        fail_msg("%s: %s", when, problem.text);
    // And it goes on from there.
    assert_int_equal(commit_some(journal, script, JOURNAL_SYNC_FULL), STATUS_OK);
    assert_int_equal(journal_count(journal), count + (uint64_t)script->per_commit);
    journal_close(journal);
    return count;
}
