// SPDX-License-Identifier: Apache-2.0
// store: power lost before every single operation of a scripted run, with unsynced sectors kept, lost or
// torn; a disk that is full at every write and a sync that fails at every sync. What a full commit reported
// is there.
#include <signal.h>
#include <sys/wait.h>
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

static void remove_files(void)
{
    for (size_t i = 0; i < ARRAY_LEN(ENDS); i++) {
        char name[128];
        snprintf(name, sizeof name, "%s%s", path, ENDS[i]);
        unlink(name);
    }
}

static int setup(void **state)
{
    (void)state;
    folder_make(folder);
    snprintf(path, sizeof path, "%s/j.db", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fault_vfs_remove();
    folder_remove(folder);
    return 0;
}

EACH_TEST(setup, teardown);

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
static struct slice payload_of(uint64_t seq, size_t bytes)
{
    size_t len = bytes / 2 + (seq * 37) % (bytes / 2 + 1);
    memset(payload_bytes, (int)('a' + seq % 26), len);
    return (struct slice){payload_bytes, len};
}

static enum status commit_some(struct journal *journal, const struct script *script, enum journal_sync sync)
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
static void run_part(const struct script *script, uint64_t until, struct progress *progress)
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
static struct progress run_script(const struct script *script)
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
static uint64_t read_back(const struct script *script, const char *when)
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

// ---- power ----

static void one_crash(const struct script *script, uint64_t off_at, enum fault_vfs_keep keep, bool *went_off)
{
    remove_files();
    char when[96];
    snprintf(when, sizeof when, "power off at operation %llu, keep %d", (unsigned long long)off_at,
             (int)keep);
    assert_int_equal(fault_vfs_install(), STATUS_OK);
    // The file is made while the power is on: a first start that loses it has nothing to keep.
    struct progress first = {0};
    run_part(script, (uint64_t)script->per_commit * 4, &first);
    assert_true(first.finished);
    fault_vfs_set(&(struct fault_vfs_plan){.off_at = off_at});
    struct progress progress = run_script(script);
    if (progress.durable < first.durable)
        progress.durable = first.durable;
    *went_off = fault_vfs_counts_get().off;
    assert_int_equal(fault_vfs_crash(keep, off_at * 3 + (uint64_t)keep), STATUS_OK);
    fault_vfs_remove();
    char name[128];
    snprintf(name, sizeof name, "%s-shm", path);
    unlink(name); // memory of the machine that went off
    uint64_t count = read_back(script, when);
    if (count < progress.durable)
        fail_msg("%s: %llu entries were durable, %llu are there", when, (unsigned long long)progress.durable,
                 (unsigned long long)count);
    if (count > progress.reported + (uint64_t)script->per_commit && progress.reported >= first.reported)
        fail_msg("%s: %llu entries were reported, %llu are there", when,
                 (unsigned long long)progress.reported, (unsigned long long)count);
}

TEST(power_lost_before_every_operation)
{
    static const struct script SMALL = {.entries = 60, .per_commit = 2, .bytes = 900};
    int points = 0;
    for (int keep = FAULT_VFS_KEEP_NONE; keep <= FAULT_VFS_KEEP_RANDOM; keep++) {
        bool went_off = true;
        for (uint64_t at = 1; went_off; at++, points++)
            one_crash(&SMALL, at, (enum fault_vfs_keep)keep, &went_off);
    }
    print_message("%d losses of power\n", points);
    assert_true(points > 300);
}

// Large enough that the log is folded into the file several times on the way.
TEST(power_lost_around_checkpoints)
{
    static const struct script LARGE = {.entries = 280, .per_commit = 2, .bytes = 60000};
    int points = 0;
    bool went_off = true;
    for (uint64_t at = 997; went_off; at += 997, points++)
        one_crash(&LARGE, at, FAULT_VFS_KEEP_RANDOM, &went_off);
    print_message("%d losses of power\n", points);
    assert_true(points > 5);
}

// A first start that loses power, or finds the disk full, never keeps the next one from making the journal.
TEST(first_start_lost)
{
    static const struct script SMALL = {.entries = 2, .per_commit = 2, .bytes = 100};
    for (int fault = 0; fault < 4; fault++) {
        bool failed = true;
        for (uint64_t at = 1; failed; at++) {
            remove_files();
            assert_int_equal(fault_vfs_install(), STATUS_OK);
            struct fault_vfs_plan plan = {.off_at = at};
            if (fault == 3)
                plan = (struct fault_vfs_plan){.write_fails_from = at, .write_fails_count = 1000};
            fault_vfs_set(&plan);
            struct journal *journal = NULL;
            if (journal_open(path, JOURNAL_WRITE, &journal, &problem) == STATUS_OK)
                journal_close(journal);
            failed = fault_vfs_counts_get().failed > 0;
            if (fault < 3)
                assert_int_equal(fault_vfs_crash((enum fault_vfs_keep)fault, at), STATUS_OK);
            fault_vfs_remove();
            char name[128];
            snprintf(name, sizeof name, "%s-shm", path);
            unlink(name);
            assert_int_equal(read_back(&SMALL, "after a first start that failed"), 0);
        }
    }
}

// ---- a disk that refuses ----

TEST(disk_full_at_every_write)
{
    static const struct script SMALL = {.entries = 40, .per_commit = 2, .bytes = 900};
    bool refused = true;
    for (uint64_t at = 1; refused; at++) {
        remove_files();
        assert_int_equal(fault_vfs_install(), STATUS_OK);
        struct journal *journal = NULL;
        assert_int_equal(journal_open(path, JOURNAL_WRITE, &journal, &problem), STATUS_OK);
        fault_vfs_set(&(struct fault_vfs_plan){.write_fails_from = at, .write_fails_count = 3});
        for (int commit = 1; journal_count(journal) < (uint64_t)SMALL.entries; commit++) {
            uint64_t before = journal_count(journal);
            enum status status =
                commit_some(journal, &SMALL, commit % 4 == 0 ? JOURNAL_SYNC_FULL : JOURNAL_SYNC_NORMAL);
            assert_true(status == STATUS_OK || status == STATUS_NO_SPACE);
            assert_int_equal(journal_count(journal), before + (status == STATUS_OK ? 2 : 0));
            assert_true(commit < 100); // with room again it goes on
        }
        refused = fault_vfs_counts_get().failed > 0;
        fault_vfs_set(&(struct fault_vfs_plan){0});
        journal_close(journal);
        fault_vfs_remove();
        assert_int_equal(read_back(&SMALL, "after the disk was full"), SMALL.entries);
    }
}

// A failed sync may have lost what came before it although it still reads back. What a later full commit
// reports must nevertheless be on the disk, everything before it included.
TEST(sync_fails_at_every_sync)
{
    static const struct script SMALL = {.entries = 40, .per_commit = 2, .bytes = 900};
    bool failed = true;
    for (uint64_t at = 1; failed; at++) {
        remove_files();
        char when[64];
        snprintf(when, sizeof when, "after sync %llu failed", (unsigned long long)at);
        assert_int_equal(fault_vfs_install(), STATUS_OK);
        struct journal *journal = NULL;
        assert_int_equal(journal_open(path, JOURNAL_WRITE, &journal, &problem), STATUS_OK);
        fault_vfs_set(&(struct fault_vfs_plan){.sync_fails_at = at});
        uint64_t durable = 0;
        for (int commit = 1; journal_count(journal) < (uint64_t)SMALL.entries; commit++) {
            enum journal_sync sync = commit % 4 == 0 ? JOURNAL_SYNC_FULL : JOURNAL_SYNC_NORMAL;
            if (commit_some(journal, &SMALL, sync) == STATUS_OK && sync == JOURNAL_SYNC_FULL)
                durable = journal_count(journal);
            assert_true(commit < 100);
        }
        struct fault_vfs_counts counts = fault_vfs_counts_get();
        failed = counts.failed > 0;
        // The machine dies before the close: operations from here on reach nothing.
        fault_vfs_set(&(struct fault_vfs_plan){.off_at = 1});
        journal_close(journal);
        assert_int_equal(fault_vfs_crash(FAULT_VFS_KEEP_NONE, at), STATUS_OK);
        fault_vfs_remove();
        char name[128];
        snprintf(name, sizeof name, "%s-shm", path);
        unlink(name);
        uint64_t count = read_back(&SMALL, when);
        if (count < durable)
            fail_msg("%s: %llu entries were durable, %llu are there", when, (unsigned long long)durable,
                     (unsigned long long)count);
    }
}

TEST(removed_file_is_noticed)
{
    static const struct script SMALL = {.entries = 4, .per_commit = 2, .bytes = 100};
    struct journal *journal = NULL;
    assert_int_equal(journal_open(path, JOURNAL_WRITE, &journal, &problem), STATUS_OK);
    assert_int_equal(commit_some(journal, &SMALL, JOURNAL_SYNC_FULL), STATUS_OK);
    char aside[128];
    snprintf(aside, sizeof aside, "%s.aside", path);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(commit_some(journal, &SMALL, JOURNAL_SYNC_NORMAL), STATUS_NOT_FOUND);
    assert_non_null(strstr(problem.text, "removed or replaced"));
    assert_int_equal(rename(aside, path), 0);
    assert_int_equal(commit_some(journal, &SMALL, JOURNAL_SYNC_NORMAL), STATUS_OK);
    journal_close(journal);
    assert_int_equal(read_back(&SMALL, "after it was put back"), 4);
}

// ---- beside a writer ----

// A reader that opens while the daemon commits never takes the commit for damage.
TEST(readers_beside_a_busy_writer)
{
    static const struct script SMALL = {.entries = 1 << 30, .per_commit = 2, .bytes = 100};
    struct journal *first = NULL;
    assert_int_equal(journal_open(path, JOURNAL_WRITE, &first, &problem), STATUS_OK);
    journal_close(first);
    pid_t child = fork();
    if (child == 0) {
        struct progress progress = {0};
        run_part(&SMALL, (uint64_t)SMALL.entries, &progress);
        _exit(1);
    }
    enum status status = STATUS_OK;
    int opened = 0;
    for (; opened < 400 && status == STATUS_OK; opened++) {
        struct journal *reader = NULL;
        status = journal_open(path, JOURNAL_READ, &reader, &problem);
        if (status == STATUS_OK)
            journal_close(reader);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    if (status != STATUS_OK)
        fail_msg("reader %d: %s: %s", opened, status_name(status), problem.text);
}
