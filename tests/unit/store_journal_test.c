// SPDX-License-Identifier: Apache-2.0
// store: what was committed comes back in order; every change, cut or foreign file is named; a failed
// transaction leaves no trace.
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/rng.h"
#include "folder.h"
#include "ship/store/journal.h"
#include "test.h"

struct place {
    char folder[FOLDER_PATH_BYTES];
    char path[96];
};

static int setup(void **state)
{
    struct place *place = test_malloc(sizeof *place);
    folder_make(place->folder);
    snprintf(place->path, sizeof place->path, "%s/j.db", place->folder);
    *state = place;
    return 0;
}

static int teardown(void **state)
{
    struct place *place = *state;
    folder_remove(place->folder);
    test_free(place);
    return 0;
}

EACH_TEST(setup, teardown);

static struct fault problem;

static struct journal *open_for(const char *path, enum journal_mode mode)
{
    struct journal *journal = NULL;
    enum status status = journal_open(path, mode, &journal, &problem);
    if (status != STATUS_OK)
        fail_msg("open: %s", problem.text);
    return journal;
}

static enum status add(struct journal *journal, const char *subject, struct slice payload,
                       enum journal_sync sync)
{
    struct journal_entry entry = {.time_ms = 1000, .kind = JOURNAL_INPUT, .run = 1, .payload = payload};
    snprintf(entry.subject, sizeof entry.subject, "%s", subject);
    enum status status = journal_begin(journal, sync, &problem);
    if (status == STATUS_OK)
        status = journal_append(journal, &entry, NULL, &problem);
    if (status == STATUS_OK)
        status = journal_commit(journal, &problem);
    return status;
}

static enum status fill(const char *path, int count, size_t bytes)
{
    struct journal *journal = open_for(path, JOURNAL_WRITE);
    char payload[4096];
    enum status status = STATUS_OK;
    for (int i = 0; i < count && status == STATUS_OK; i++) {
        memset(payload, 'a' + i % 26, sizeof payload);
        status = add(journal, i % 2 == 0 ? "even" : "odd", (struct slice){payload, bytes},
                     i % 5 == 0 ? JOURNAL_SYNC_FULL : JOURNAL_SYNC_NORMAL);
    }
    journal_close(journal);
    return status;
}

// Reads all; returns the last status and how many entries came before it.
static enum status read_all(const char *path, uint64_t *count)
{
    struct journal *journal = NULL;
    *count = 0;
    enum status status = journal_open(path, JOURNAL_READ, &journal, &problem);
    if (status != STATUS_OK)
        return status;
    struct journal_cursor *cursor = NULL;
    status = journal_cursor_open(journal, &cursor, &problem);
    struct journal_entry entry;
    while (status == STATUS_OK) {
        status = journal_cursor_next(cursor, &entry, &problem);
        if (status == STATUS_OK)
            assert_int_equal(entry.seq, ++*count);
    }
    journal_cursor_close(cursor);
    journal_close(journal);
    return status;
}

TEST(round_trip)
{
    struct place *place = *state;
    struct journal *journal = open_for(place->path, JOURNAL_WRITE);
    assert_int_equal(journal_begin(journal, JOURNAL_SYNC_FULL, &problem), STATUS_OK);
    struct journal_entry entry = {
        .time_ms = -5, .kind = JOURNAL_DECISION, .run = 7, .subject = "shop-v2", .payload = {"a\0b", 3}};
    uint64_t seq = 0;
    assert_int_equal(journal_append(journal, &entry, &seq, &problem), STATUS_OK);
    assert_int_equal(seq, 1);
    entry.payload = (struct slice){"", 0};
    assert_int_equal(journal_append(journal, &entry, &seq, &problem), STATUS_OK);
    assert_int_equal(journal_count(journal), 0); // not before the commit
    assert_int_equal(journal_commit(journal, &problem), STATUS_OK);
    assert_int_equal(journal_count(journal), 2);
    assert_true(journal_bytes(journal) > 4096);
    // A reader beside the writer.
    struct journal *reader = open_for(place->path, JOURNAL_READ);
    struct journal_cursor *cursor = NULL;
    assert_int_equal(journal_cursor_open(reader, &cursor, &problem), STATUS_OK);
    struct journal_entry back;
    assert_int_equal(journal_cursor_next(cursor, &back, &problem), STATUS_OK);
    assert_int_equal(back.time_ms, -5);
    assert_int_equal(back.kind, JOURNAL_DECISION);
    assert_int_equal(back.run, 7);
    assert_string_equal(back.subject, "shop-v2");
    assert_int_equal(back.payload.len, 3);
    assert_memory_equal(back.payload.data, "a\0b", 3);
    // What the writer adds while the cursor reads is no damage.
    assert_int_equal(add(journal, "later", SLICE("x"), JOURNAL_SYNC_NORMAL), STATUS_OK);
    assert_int_equal(journal_cursor_next(cursor, &back, &problem), STATUS_OK);
    assert_int_equal(back.payload.len, 0);
    assert_int_equal(journal_cursor_next(cursor, &back, &problem), STATUS_NOT_FOUND);
    journal_cursor_close(cursor);
    journal_close(reader);
    journal_close(journal);
    uint64_t count;
    assert_int_equal(read_all(place->path, &count), STATUS_NOT_FOUND);
    assert_int_equal(count, 3);
}

TEST(rollback_leaves_no_trace)
{
    struct place *place = *state;
    struct journal *journal = open_for(place->path, JOURNAL_WRITE);
    assert_int_equal(add(journal, "a", SLICE("1"), JOURNAL_SYNC_FULL), STATUS_OK);
    assert_int_equal(journal_begin(journal, JOURNAL_SYNC_NORMAL, &problem), STATUS_OK);
    struct journal_entry entry = {.kind = JOURNAL_INPUT, .payload = {"2", 1}};
    assert_int_equal(journal_append(journal, &entry, NULL, &problem), STATUS_OK);
    journal_rollback(journal);
    assert_int_equal(add(journal, "a", SLICE("3"), JOURNAL_SYNC_NORMAL), STATUS_OK);
    assert_int_equal(journal_begin(journal, JOURNAL_SYNC_NORMAL, &problem), STATUS_OK);
    entry.payload.len = JOURNAL_PAYLOAD_BYTES_MAX + 1;
    assert_int_equal(journal_append(journal, &entry, NULL, &problem), STATUS_FULL);
    assert_int_equal(add(journal, "a", SLICE("4"), JOURNAL_SYNC_NORMAL), STATUS_OK);
    journal_close(journal);
    uint64_t count;
    assert_int_equal(read_all(place->path, &count), STATUS_NOT_FOUND);
    assert_int_equal(count, 3);
}

static void run_on(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    char *error = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &error) != SQLITE_OK)
        fail_msg("%s: %s", sql, error);
    sqlite3_close(db);
}

TEST(edits_are_named)
{
    struct place *place = *state;
    static const struct {
        const char *sql;
        uint64_t seq;
    } EDITS[] = {
        {"UPDATE journal_entries SET payload = x'00' WHERE seq = 4", 4},
        {"UPDATE journal_entries SET time_ms = time_ms + 1 WHERE seq = 5", 5},
        {"UPDATE journal_entries SET subject = 'odd' WHERE seq = 1", 1},
        {"UPDATE journal_entries SET run = 2 WHERE seq = 2", 2},
        {"UPDATE journal_entries SET kind = 3 WHERE seq = 3", 3},
        {"DELETE FROM journal_entries WHERE seq = 6", 6},
        {"DELETE FROM journal_entries WHERE seq > 8", 9},
        {"DELETE FROM journal_entries", 1},
        {"UPDATE journal_entries SET seq = 99 WHERE seq = 2; UPDATE journal_entries SET seq = 2 WHERE seq = "
         "3;"
         "UPDATE journal_entries SET seq = 3 WHERE seq = 99",
         2},
        {"INSERT INTO journal_entries SELECT 11, time_ms, kind, subject, run, payload, chain FROM "
         "journal_entries WHERE seq = 10",
         0},
        {"DELETE FROM journal_entries WHERE seq > 8; UPDATE journal_head SET count = 8", 8},
        {"DELETE FROM journal_head", 0},
    };
    for (size_t i = 0; i < sizeof EDITS / sizeof EDITS[0]; i++) {
        unlink(place->path);
        assert_int_equal(fill(place->path, 10, 20), STATUS_OK);
        run_on(place->path, EDITS[i].sql);
        uint64_t count;
        enum status status = read_all(place->path, &count);
        if (status != STATUS_CORRUPT || (EDITS[i].seq != 0 && problem.entry != EDITS[i].seq))
            fail_msg("%s: status %s, seq %llu: %s", EDITS[i].sql, status_name(status),
                     (unsigned long long)problem.entry, problem.text);
    }
}

static size_t read_file(const char *path, uint8_t *bytes, size_t cap)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(bytes, 1, cap, file);
    fclose(file);
    return n;
}

static void write_file(const char *path, const uint8_t *bytes, size_t len)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    fclose(file);
}

// Cut at many sizes and flipped at many places: reading never gives the full count in silence unless the
// bytes that matter are untouched (a flip may hit unused space of a page; then every entry must still
// verify).
TEST(damage_is_never_silent)
{
    struct place *place = *state;
    static uint8_t whole[1 << 20], changed[1 << 20];
    char copy[160];
    snprintf(copy, sizeof copy, "%s.copy", place->path);
    assert_int_equal(fill(place->path, 60, 700), STATUS_OK);
    size_t len = read_file(place->path, whole, sizeof whole);
    assert_true(len > 40000);
    uint64_t count;
    for (size_t cut = 0; cut < len; cut += 509) {
        write_file(copy, whole, cut);
        enum status status = read_all(copy, &count);
        if (status == STATUS_NOT_FOUND || status == STATUS_OK)
            fail_msg("cut to %zu of %zu bytes was not noticed", cut, len);
        assert_true(strlen(problem.text) > 10);
    }
    struct rng rng;
    rng_init(&rng, 5);
    int noticed = 0;
    for (int i = 0; i < 300; i++) {
        memcpy(changed, whole, len);
        changed[rng_below(&rng, len)] ^= (uint8_t)(1 + rng_below(&rng, 255));
        write_file(copy, changed, len);
        enum status status = read_all(copy, &count);
        if (status == STATUS_NOT_FOUND)
            assert_int_equal(count, 60);
        else
            noticed++;
    }
    assert_true(noticed > 200);
}

TEST(foreign_files)
{
    struct place *place = *state;
    struct journal *journal = NULL;
    assert_int_equal(journal_open(place->path, JOURNAL_READ, &journal, &problem), STATUS_NOT_FOUND);
    write_file(place->path, (const uint8_t *)"", 0);
    assert_int_equal(journal_open(place->path, JOURNAL_WRITE, &journal, &problem), STATUS_INVALID);
    static const uint8_t diary[4096] = "dear diary";
    write_file(place->path, diary, sizeof diary);
    assert_int_equal(journal_open(place->path, JOURNAL_WRITE, &journal, &problem), STATUS_INVALID);
    uint8_t after[8192];
    assert_int_equal(read_file(place->path, after, sizeof after), sizeof diary);
    assert_memory_equal(after, diary, sizeof diary);
    unlink(place->path);
    run_on(place->path, "CREATE TABLE accounts(name TEXT)");
    assert_int_equal(journal_open(place->path, JOURNAL_WRITE, &journal, &problem), STATUS_INVALID);
    assert_non_null(strstr(problem.text, "another program"));
    unlink(place->path);
    assert_int_equal(fill(place->path, 1, 1), STATUS_OK);
    run_on(place->path, "PRAGMA user_version = 99");
    assert_int_equal(journal_open(place->path, JOURNAL_WRITE, &journal, &problem), STATUS_UNSUPPORTED);
    unlink(place->path);
    assert_int_equal(mkdir(place->path, 0755), 0);
    assert_int_equal(journal_open(place->path, JOURNAL_WRITE, &journal, &problem), STATUS_INVALID);
    assert_int_equal(journal_open("/nonexistent/folder/j.db", JOURNAL_WRITE, &journal, &problem),
                     STATUS_UNREACHABLE);
}

TEST(one_writer)
{
    struct place *place = *state;
    struct journal *first = open_for(place->path, JOURNAL_WRITE);
    struct journal *second = NULL;
    char self[32];
    snprintf(self, sizeof self, "process %ld", (long)getpid());
    assert_int_equal(journal_open(place->path, JOURNAL_WRITE, &second, &problem), STATUS_IN_USE);
    assert_non_null(strstr(problem.text, self));
    journal_close(first);
    journal_close(open_for(place->path, JOURNAL_WRITE));
}

// Two names of one file have two files of SQLite's log beside them, so a second writer would destroy the
// first one's.
TEST(one_writer_by_any_name)
{
    struct place *place = *state;
    struct journal *first = open_for(place->path, JOURNAL_WRITE);
    struct journal *second = NULL;
    char other[128];
    snprintf(other, sizeof other, "%s/other.db", place->folder);
    for (int hard = 0; hard < 2; hard++) {
        assert_int_equal(hard ? link(place->path, other) : symlink(place->path, other), 0);
        assert_int_equal(journal_open(other, JOURNAL_WRITE, &second, &problem), STATUS_IN_USE);
        assert_non_null(strstr(problem.text, "under another name"));
        assert_int_equal(unlink(other), 0);
    }
    assert_int_equal(add(first, "shop", SLICE("x"), JOURNAL_SYNC_FULL), STATUS_OK);
    journal_close(first);
    assert_int_equal(symlink(place->path, other), 0);
    journal_close(open_for(other, JOURNAL_WRITE));
    snprintf(other, sizeof other, "%s/other.db.lock", place->folder);
    assert_int_equal(unlink(other), 0);
    snprintf(other, sizeof other, "%s/other.db", place->folder);
    assert_int_equal(unlink(other), 0);
}

// Whatever the umask: entries name people.
TEST(only_its_owner_reads_it)
{
    struct place *place = *state;
    mode_t mask = umask(0);
    struct journal *journal = open_for(place->path, JOURNAL_WRITE);
    assert_int_equal(add(journal, "shop", SLICE("x"), JOURNAL_SYNC_FULL), STATUS_OK);
    static const char *const ENDS[] = {"", "-wal", "-shm", ".lock"};
    for (size_t i = 0; i < ARRAY_LEN(ENDS); i++) {
        char name[128];
        struct stat info;
        snprintf(name, sizeof name, "%s%s", place->path, ENDS[i]);
        assert_int_equal(stat(name, &info), 0);
        assert_int_equal(info.st_mode & 07777, 0600);
    }
    journal_close(journal);
    umask(mask);
}

// A limit on the size of files stands for the full disk.
TEST(disk_full_and_room_again)
{
    struct place *place = *state;
    signal(SIGXFSZ, SIG_IGN);
    struct journal *journal = open_for(place->path, JOURNAL_WRITE);
    struct rlimit old;
    getrlimit(RLIMIT_FSIZE, &old);
    struct rlimit small = {.rlim_cur = 256 * 1024, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    char payload[4096];
    memset(payload, 'x', sizeof payload);
    uint64_t good = 0;
    enum status status = STATUS_OK;
    while (good < 1000 && status == STATUS_OK) {
        status = add(journal, "s", (struct slice){payload, sizeof payload}, JOURNAL_SYNC_FULL);
        good += status == STATUS_OK;
    }
    setrlimit(RLIMIT_FSIZE, &old);
    // A file limit is told as a failed write; a full disk as no space.
    if (status != STATUS_NO_SPACE && status != STATUS_IO)
        fail_msg("%s: %s", status_name(status), problem.text);
    print_message("%s\n", problem.text);
    assert_true(good > 10 && good < 1000);
    assert_int_equal(journal_count(journal), good);
    assert_int_equal(add(journal, "s", SLICE("room again"), JOURNAL_SYNC_FULL), STATUS_OK);
    journal_close(journal);
    uint64_t count;
    assert_int_equal(read_all(place->path, &count), STATUS_NOT_FOUND);
    assert_int_equal(count, good + 1);
}

// kill -9 in the middle of writing: what a commit reported is there, and the chain is whole.
TEST(killed_writer)
{
    struct place *place = *state;
    for (int round = 0; round < 8; round++) {
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        pid_t child = fork();
        if (child == 0) {
            struct journal *journal = NULL;
            struct fault p;
            if (journal_open(place->path, JOURNAL_WRITE, &journal, &p) != STATUS_OK)
                _exit(1);
            for (;;) {
                uint64_t seq = journal_count(journal) + 1;
                if (add(journal, "k", SLICE("some evidence"),
                        seq % 7 == 0 ? JOURNAL_SYNC_FULL : JOURNAL_SYNC_NORMAL) != STATUS_OK)
                    _exit(2);
                if (write(pipes[1], &seq, sizeof seq) != sizeof seq)
                    _exit(3);
            }
        }
        close(pipes[1]);
        uint64_t reported = 0, seq;
        for (int i = 0; i < 40 + 13 * round && read(pipes[0], &seq, sizeof seq) == sizeof seq; i++)
            reported = seq;
        kill(child, SIGKILL);
        while (read(pipes[0], &seq, sizeof seq) == sizeof seq)
            reported = seq;
        close(pipes[0]);
        int wait_status;
        waitpid(child, &wait_status, 0);
        assert_true(WIFSIGNALED(wait_status));
        uint64_t count;
        assert_int_equal(read_all(place->path, &count), STATUS_NOT_FOUND);
        assert_in_range(count, reported, reported + 1);
    }
}

TEST(torture_allocations)
{
    struct place *place = *state;
    for (long n = 0;; n++) {
        struct journal *journal = NULL;
        heap_fail_after(n);
        enum status status = journal_open(place->path, JOURNAL_WRITE, &journal, &problem);
        heap_fail_after(-1);
        if (status == STATUS_OK) {
            journal_close(journal);
            assert_true(n >= 1);
            return;
        }
        assert_int_equal(status, STATUS_NO_MEMORY);
    }
}

// The process in which the index is cut: the journal is lost to it, and nothing else is. Returns what went
// wrong.
static int use_cut_index(const char *path, off_t left, bool within)
{
    char index[128];
    struct journal *journal = NULL;
    struct journal_entry entry = {.kind = JOURNAL_INPUT, .subject = "cut"};
    snprintf(index, sizeof index, "%s-shm", path);
    if (journal_open(path, JOURNAL_WRITE, &journal, &problem) != STATUS_OK)
        return 1;
    if (add(journal, "first", SLICE("x"), JOURNAL_SYNC_FULL) != STATUS_OK ||
        add(journal, "second", SLICE("y"), JOURNAL_SYNC_NORMAL) != STATUS_OK)
        return 2;
    uint64_t count = journal_count(journal);
    if (within && (journal_begin(journal, JOURNAL_SYNC_FULL, &problem) != STATUS_OK ||
                   journal_append(journal, &entry, NULL, &problem) != STATUS_OK))
        return 3;
    if (truncate(index, left) != 0)
        return 4;
    enum status status =
        within ? journal_commit(journal, &problem) : add(journal, "third", SLICE("z"), JOURNAL_SYNC_FULL);
    if (status != STATUS_IO || strstr(problem.text, "-shm was cut short") == NULL)
        return 5;
    if (truncate(index, 32768) != 0) // whole again, but what was done with it is not
        return 4;
    if (add(journal, "fourth", SLICE("z"), JOURNAL_SYNC_FULL) != STATUS_IO || journal_count(journal) != count)
        return 6;
    journal_rollback(journal);
    journal_close(journal);
    return 0;
}

TEST(an_index_that_is_cut_ends_no_process_and_loses_no_entry)
{
    struct place *place = *state;
    static const struct {
        off_t left;
        bool within;
    } cuts[] = {{0, false}, {0, true}, {4096, false}, {4096, true}};
    uint64_t before = 0;
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(use_cut_index(place->path, cuts[i].left, cuts[i].within));
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFEXITED(how));
        assert_int_equal(WEXITSTATUS(how), 0);
        uint64_t count;
        assert_int_equal(read_all(place->path, &count), STATUS_NOT_FOUND);
        assert_in_range(count, before + 2, before + 3); // what was under way may have reached the disk
        before = count;
    }
    assert_int_equal(fill(place->path, 1, 10), STATUS_OK);
}
