// SPDX-License-Identifier: Apache-2.0
// store: a first start that loses power at every operation; a disk that is full at every write and a sync
// that fails at every sync; readers beside a writer. What a full commit reported is there.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store_script.h"
#include "test.h"

EACH_TEST(setup, teardown);

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
