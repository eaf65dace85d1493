// SPDX-License-Identifier: Apache-2.0
// The writing half of the journal: opening, locking, transactions. A transaction that fails leaves no trace.
// An entry whose commit was reported survives a crash of the process and, with full sync, a crash of the
// machine.
#include "ship/store/journal_private.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/text.h"
#include "base/wire.h"

// This key is fixed and public: the chain detects accidents and clumsy edits. It is not a signature.
static const struct siphash_key CHAIN_KEYS[2] = {{0x536c75696365206aULL, 0x6f75726e616c2031ULL},
                                                 {0x656e747269657320ULL, 0x6c696e6b65642032ULL}};

enum status journal_fail(enum status status, uint64_t seq, struct fault *fault, const char *format, ...)
{
    fault->status = status;
    fault->entry = seq;
    va_list args;
    va_start(args, format);
    vsnprintf(fault->text, sizeof fault->text, format, args);
    va_end(args);
    return status;
}

static enum status status_of_sqlite(const struct journal *journal, int code)
{
    switch (code & 0xff) {
    case SQLITE_FULL:
        return STATUS_NO_SPACE;
    case SQLITE_NOMEM:
        return STATUS_NO_MEMORY;
    case SQLITE_NOTADB:
        return STATUS_INVALID;
    case SQLITE_CORRUPT:
        return STATUS_CORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return STATUS_IN_USE;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return STATUS_DENIED;
    case SQLITE_IOERR: {
        // SQLite reports a short write on a full disk or file limit as an I/O error; errno knows better.
        enum status status = status_of_errno(sqlite3_system_errno(journal->db));
        return status == STATUS_NO_SPACE ? STATUS_NO_SPACE : STATUS_IO;
    }
    default:
        return STATUS_IO;
    }
}

enum status journal_fail_sqlite(const struct journal *journal, const char *doing, struct fault *fault)
{
    int code = sqlite3_extended_errcode(journal->db);
    enum status status = status_of_sqlite(journal, code);
    int system = sqlite3_system_errno(journal->db);
    return journal_fail(status, 0, fault, "cannot %s the journal %s: %s%s%s", doing, journal->path,
                        sqlite3_errmsg(journal->db), system != 0 ? ": " : "",
                        system != 0 ? strerror(system) : "");
}

void journal_chain_next(const uint8_t previous[JOURNAL_CHAIN_BYTES], const struct journal_entry *entry,
                        uint8_t next[JOURNAL_CHAIN_BYTES])
{
    uint8_t frame[JOURNAL_CHAIN_BYTES + JOURNAL_SUBJECT_BYTES + 64];
    struct wire_writer w = {.data = frame, .cap = sizeof frame};
    wire_put_bytes(&w, (struct slice){(const char *)previous, JOURNAL_CHAIN_BYTES});
    wire_put_u64(&w, entry->seq);
    wire_put_i64(&w, entry->time_ms);
    wire_put_u64(&w, (uint64_t)entry->kind);
    wire_put_u64(&w, entry->run);
    wire_put_bytes(&w, slice_of(entry->subject));
    wire_put_u64(&w, entry->payload.len);
    CHECK(!w.full);
    for (int half = 0; half < 2; half++) {
        struct siphash_state hash;
        siphash_begin(&hash, CHAIN_KEYS[half]);
        siphash_add(&hash, frame, w.len);
        siphash_add(&hash, entry->payload.data, entry->payload.len);
        uint64_t tag = siphash_end(&hash);
        memcpy(next + 8 * half, &tag, 8);
    }
}

static bool run_sql(struct journal *journal, const char *sql)
{
    return sqlite3_exec(journal->db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

static enum status roll_back(struct journal *journal, void *unused, struct fault *fault)
{
    (void)unused;
    (void)fault;
    // SQLite may have rolled back by itself already, for example when the disk is full.
    if (journal->in_transaction && sqlite3_get_autocommit(journal->db) == 0)
        (void)run_sql(journal, "ROLLBACK");
    journal->in_transaction = false;
    return STATUS_OK;
}

static int64_t pragma_value(struct journal *journal, const char *sql, bool *ok)
{
    sqlite3_stmt *statement = NULL;
    int64_t value = 0;
    *ok = sqlite3_prepare_v2(journal->db, sql, -1, &statement, NULL) == SQLITE_OK &&
          sqlite3_step(statement) == SQLITE_ROW;
    if (*ok)
        value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return value;
}

// ---- opening ----

// One writer: an advisory lock on a file beside the journal, which holds the writer's process id.
static enum status take_lock(struct journal *journal, struct fault *fault)
{
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s.lock", journal->path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, JOURNAL_FILE_MODE);
    if (fd < 0)
        return journal_fail(status_of_errno(errno), 0, fault, "cannot open the journal's lock %s: %s", path,
                            strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        char owner[32] = "?";
        ssize_t n = pread(fd, owner, sizeof owner - 1, 0);
        owner[n > 0 ? n : 1] = '\0';
        owner[strcspn(owner, "\n")] = '\0';
        close(fd);
        return journal_fail(STATUS_IN_USE, 0, fault,
                            "the journal %s is in use by process %s; one daemon writes a journal",
                            journal->path, owner);
    }
    char self[32];
    int n = snprintf(self, sizeof self, "%ld\n", (long)getpid());
    // Only informs the process that is refused; the lock itself does not depend on it.
    if (ftruncate(fd, 0) != 0 || pwrite(fd, self, (size_t)n, 0) != n)
        (void)0;
    journal->lock_fd = fd;
    return STATUS_OK;
}

// The file itself is locked too, because a link gives it a second name with another lock beside it. SQLite's
// own locks are of another kind, so the two do not meet.
static enum status take_file_lock(struct journal *journal, struct fault *fault)
{
    int fd = open(journal->path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return journal_fail(status_of_errno(errno), 0, fault, "cannot open the journal %s: %s", journal->path,
                            strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return journal_fail(STATUS_IN_USE, 0, fault,
                            "the journal %s is in use under another name; one daemon writes a journal",
                            journal->path);
    }
    journal->file_fd = fd;
    return STATUS_OK;
}

// Checks what is at the path before SQLite touches it; *fresh when there is nothing.
static enum status look_at_file(struct journal *journal, bool *fresh, struct fault *fault)
{
    struct stat info;
    *fresh = false;
    if (stat(journal->path, &info) != 0) {
        if (errno != ENOENT)
            return journal_fail(status_of_errno(errno), 0, fault, "cannot look at the journal %s: %s",
                                journal->path, strerror(errno));
        if (journal->mode == JOURNAL_READ)
            return journal_fail(STATUS_NOT_FOUND, 0, fault, "there is no journal %s", journal->path);
        *fresh = true;
        return STATUS_OK;
    }
    if (!S_ISREG(info.st_mode))
        return journal_fail(STATUS_INVALID, 0, fault, "%s is not a file, so it is no journal", journal->path);
    if (info.st_size == 0)
        return journal_fail(STATUS_INVALID, 0, fault,
                            "%s is empty, so it is no journal; remove it to begin a new one", journal->path);
    if (access(journal->path, journal->mode == JOURNAL_WRITE ? R_OK | W_OK : R_OK) != 0)
        return journal_fail(STATUS_DENIED, 0, fault, "no permission to %s the journal %s",
                            journal->mode == JOURNAL_WRITE ? "write" : "read", journal->path);
    return STATUS_OK;
}

static enum status open_database(struct journal *journal, const char *path, int flags, struct fault *fault)
{
    if (sqlite3_open_v2(path, &journal->db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return journal->db != NULL
                   ? journal_fail_sqlite(journal, "open", fault)
                   : journal_fail(STATUS_NO_MEMORY, 0, fault, "no memory to open the journal");
    sqlite3_extended_result_codes(journal->db, 1);
    sqlite3_busy_timeout(journal->db, JOURNAL_BUSY_MS);
    return STATUS_OK;
}

static enum status create_schema(struct journal *journal, struct fault *fault)
{
    char sql[900];
    snprintf(sql, sizeof sql,
             "PRAGMA synchronous=FULL; BEGIN IMMEDIATE; PRAGMA application_id=%d; PRAGMA user_version=%d;"
             "CREATE TABLE journal_entries(seq INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, "
             "kind INTEGER NOT NULL, subject TEXT NOT NULL, run INTEGER NOT NULL, payload BLOB NOT NULL, "
             "chain BLOB NOT NULL) STRICT;"
             "CREATE TABLE journal_head(id INTEGER PRIMARY KEY CHECK(id = 1), count INTEGER NOT NULL, "
             "chain BLOB NOT NULL) STRICT;"
             "INSERT INTO journal_head VALUES(1, 0, zeroblob(%d)); COMMIT;",
             JOURNAL_APPLICATION_ID, JOURNAL_SCHEMA_VERSION, JOURNAL_CHAIN_BYTES);
    return run_sql(journal, sql) ? STATUS_OK : journal_fail_sqlite(journal, "create", fault);
}

static enum status move_into_place(const struct journal *journal, const char *made, struct fault *fault)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", journal->path);
    int fd = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    // Unlike a rename, a link never replaces a file that somebody else put there meanwhile.
    bool moved = fd >= 0 && chmod(made, JOURNAL_FILE_MODE) == 0 && link(made, journal->path) == 0 &&
                 unlink(made) == 0 && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    return moved ? STATUS_OK
                 : journal_fail(status_of_errno(error), 0, fault,
                                "cannot put the new journal %s in place: %s", journal->path, strerror(error));
}

// A new journal is made under another name. So a start that dies or finds no room leaves nothing at the path
// that would keep the next start from making one. The lock is held.
static enum status create_file(struct journal *journal, struct fault *fault)
{
    char made[PATH_MAX + 8];
    char rest[PATH_MAX + 16];
    snprintf(made, sizeof made, "%s.new", journal->path);
    snprintf(rest, sizeof rest, "%s.new-journal", journal->path);
    unlink(rest); // leftovers of a start that died
    unlink(made);
    enum status status = open_database(journal, made, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, fault);
    if (status == STATUS_OK)
        status = create_schema(journal, fault);
    sqlite3_close(journal->db);
    journal->db = NULL;
    if (status == STATUS_OK)
        return move_into_place(journal, made, fault);
    unlink(made);
    return status;
}

static enum status check_identity(struct journal *journal, struct fault *fault)
{
    bool ok;
    int64_t application = pragma_value(journal, "PRAGMA application_id", &ok);
    if (!ok) {
        enum status status = journal_fail_sqlite(journal, "read", fault);
        if (status == STATUS_INVALID)
            return journal_fail(status, 0, fault,
                                "%s is not a database, so it is no journal of Sluice; it was left as it is",
                                journal->path);
        return status;
    }
    if (application != JOURNAL_APPLICATION_ID)
        return journal_fail(
            STATUS_INVALID, 0, fault,
            "%s is a database of another program, not a journal of Sluice; it was left as it is",
            journal->path);
    int64_t version = pragma_value(journal, "PRAGMA user_version", &ok);
    if (!ok)
        return journal_fail_sqlite(journal, "read", fault);
    if (version > JOURNAL_SCHEMA_VERSION)
        return journal_fail(STATUS_UNSUPPORTED, 0, fault,
                            "the journal %s has version %lld, this program reads up to %d: use a newer one",
                            journal->path, (long long)version, JOURNAL_SCHEMA_VERSION);
    return STATUS_OK;
}

static enum status read_head(struct journal *journal, struct fault *fault)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(journal->db, "SELECT count, chain FROM journal_head WHERE id = 1", -1, &statement,
                           NULL) != SQLITE_OK)
        return journal_fail_sqlite(journal, "read", fault);
    enum status status = STATUS_OK;
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW && sqlite3_column_bytes(statement, 1) == JOURNAL_CHAIN_BYTES) {
        journal->head.count = (uint64_t)sqlite3_column_int64(statement, 0);
        memcpy(journal->head.chain, sqlite3_column_blob(statement, 1), JOURNAL_CHAIN_BYTES);
    } else if (code == SQLITE_ROW || code == SQLITE_DONE) {
        status =
            journal_fail(STATUS_CORRUPT, 0, fault, "the journal %s has lost its head record", journal->path);
    } else {
        status = journal_fail_sqlite(journal, "read", fault);
    }
    sqlite3_finalize(statement);
    return status;
}

// The last entry must be the one that the head names; otherwise rows were lost or added by hand.
static enum status check_tail(struct journal *journal, struct fault *fault)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(journal->db, "SELECT seq, chain FROM journal_entries ORDER BY seq DESC LIMIT 1",
                           -1, &statement, NULL) != SQLITE_OK)
        return journal_fail_sqlite(journal, "read", fault);
    enum status status = STATUS_OK;
    uint64_t last = 0;
    uint8_t chain[JOURNAL_CHAIN_BYTES] = {0};
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        last = (uint64_t)sqlite3_column_int64(statement, 0);
        if (sqlite3_column_bytes(statement, 1) == JOURNAL_CHAIN_BYTES)
            memcpy(chain, sqlite3_column_blob(statement, 1), JOURNAL_CHAIN_BYTES);
    } else if (code != SQLITE_DONE) {
        status = journal_fail_sqlite(journal, "read", fault);
    }
    sqlite3_finalize(statement);
    if (status != STATUS_OK)
        return status;
    if (last != journal->head.count)
        return journal_fail(
            STATUS_CORRUPT, last + 1, fault,
            "the journal %s is cut short or grown by another hand: it says %llu entries, the last is %llu",
            journal->path, (unsigned long long)journal->head.count, (unsigned long long)last);
    if (memcmp(chain, journal->head.chain, JOURNAL_CHAIN_BYTES) != 0)
        return journal_fail(STATUS_CORRUPT, last, fault,
                            "entry %llu of the journal %s does not match the head", (unsigned long long)last,
                            journal->path);
    return STATUS_OK;
}

static int note_log_pages(void *context, sqlite3 *db, const char *schema, int pages)
{
    (void)db;
    (void)schema;
    ((struct journal *)context)->log_pages = pages;
    return SQLITE_OK;
}

static enum status prepare_writing(struct journal *journal, struct fault *fault)
{
    struct stat info;
    if (stat(journal->path, &info) != 0)
        return journal_fail(status_of_errno(errno), 0, fault, "cannot look at the journal %s: %s",
                            journal->path, strerror(errno));
    journal->device = info.st_dev;
    journal->inode = info.st_ino;
    // journal_commit folds the log beside the file into it and cuts it back to 4 MiB, so that it stays
    // bounded. SQLite's own hook is not used because it hides its failures.
    if (!run_sql(journal, "PRAGMA journal_mode=WAL; PRAGMA journal_size_limit=4194304;"))
        return journal_fail_sqlite(journal, "prepare", fault);
    sqlite3_wal_hook(journal->db, note_log_pages, journal);
    if (sqlite3_prepare_v3(journal->db, "INSERT INTO journal_entries VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)", -1,
                           SQLITE_PREPARE_PERSISTENT, &journal->insert, NULL) != SQLITE_OK ||
        sqlite3_prepare_v3(journal->db, "UPDATE journal_head SET count = ?1, chain = ?2 WHERE id = 1", -1,
                           SQLITE_PREPARE_PERSISTENT, &journal->update_head, NULL) != SQLITE_OK)
        return journal_fail_sqlite(journal, "prepare", fault);
    return STATUS_OK;
}

// Reads head and last entry from one snapshot, so that a commit by the daemon in between does not look like
// damage.
static enum status check_ends(struct journal *journal, struct fault *fault)
{
    if (!run_sql(journal, "BEGIN"))
        return journal_fail_sqlite(journal, "read", fault);
    enum status status = read_head(journal, fault);
    if (status == STATUS_OK)
        status = check_tail(journal, fault);
    if (sqlite3_get_autocommit(journal->db) == 0)
        (void)run_sql(journal, "COMMIT");
    return status;
}

// A journal where we may not write, and whose log is empty, is opened as immutable: SQLite would otherwise
// want to create its shared-memory file beside it.
static bool reads_as_it_stands(const struct journal *journal)
{
    char log[PATH_MAX + 8];
    char folder[PATH_MAX];
    struct stat info;
    snprintf(log, sizeof log, "%s-wal", journal->path);
    snprintf(folder, sizeof folder, "%s", journal->path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL)
        snprintf(folder, sizeof folder, ".");
    else
        slash[slash == folder ? 1 : 0] = '\0';
    bool writable = access(journal->path, W_OK) == 0 && access(folder, W_OK) == 0;
    return !writable && (stat(log, &info) != 0 || info.st_size == 0);
}

static enum status open_for_reading(struct journal *journal, struct fault *fault)
{
    if (!reads_as_it_stands(journal))
        return open_database(journal, journal->path, SQLITE_OPEN_READONLY, fault);
    char uri[3 * PATH_MAX + 32];
    struct text text = text_over(uri, sizeof uri);
    text_add(&text, SLICE("file:"));
    for (const char *c = journal->path; *c != '\0'; c++) {
        bool plain =
            *c != '%' && *c != '?' && *c != '#' && (unsigned char)*c > 0x20 && (unsigned char)*c < 0x7f;
        text_addf(&text, plain ? "%c" : "%%%02X", (unsigned char)*c);
    }
    text_add(&text, SLICE("?immutable=1"));
    CHECK(!text.cut);
    return open_database(journal, uri, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, fault);
}

static enum status open_steps(struct journal *journal, void *unused, struct fault *fault)
{
    (void)unused;
    bool fresh;
    enum status status = look_at_file(journal, &fresh, fault);
    if (status == STATUS_OK && journal->mode == JOURNAL_WRITE)
        status = take_lock(journal, fault);
    if (status == STATUS_OK && fresh)
        status = create_file(journal, fault);
    if (status == STATUS_OK && journal->mode == JOURNAL_WRITE)
        status = take_file_lock(journal, fault);
    if (status == STATUS_OK)
        status = journal->mode == JOURNAL_WRITE
                     ? open_database(journal, journal->path, SQLITE_OPEN_READWRITE, fault)
                     : open_for_reading(journal, fault);
    if (status == STATUS_OK)
        status = check_identity(journal, fault);
    if (status == STATUS_OK)
        status = check_ends(journal, fault);
    if (status == STATUS_OK && journal->mode == JOURNAL_WRITE)
        status = prepare_writing(journal, fault);
    return status;
}

enum status journal_open(const char *path, enum journal_mode mode, struct journal **out, struct fault *fault)
{
    *fault = (struct fault){0};
    if (strlen(path) >= PATH_MAX)
        return journal_fail(STATUS_INVALID, 0, fault, "the journal's path is too long");
    struct journal *journal = heap_alloc(1, sizeof *journal);
    if (journal == NULL)
        return journal_fail(STATUS_NO_MEMORY, 0, fault, "no memory to open the journal");
    journal->lock_fd = -1;
    journal->file_fd = -1;
    journal->mode = mode;
    memcpy(journal->path, path, strlen(path) + 1);
    journal_guard_init();
    enum status status = journal_guard(journal, open_steps, NULL, fault);
    if (status != STATUS_OK) {
        journal_close(journal);
        return status;
    }
    *out = journal;
    return STATUS_OK;
}

static enum status close_database(struct journal *journal, void *unused, struct fault *fault)
{
    (void)roll_back(journal, unused, fault);
    sqlite3_finalize(journal->insert);
    sqlite3_finalize(journal->update_head);
    sqlite3_close(journal->db);
    return STATUS_OK;
}

void journal_close(struct journal *journal)
{
    struct fault fault;
    if (journal == NULL)
        return;
    (void)!journal_guard(journal, close_database, NULL, &fault);
    if (journal->file_fd >= 0)
        close(journal->file_fd); // after SQLite, whose locks end with any descriptor of the file
    if (journal->lock_fd >= 0)
        close(journal->lock_fd);
    heap_free(journal);
}

// ---- transactions ----

// After a failed sync the system may have dropped data that it could not write, although the data still reads
// back; a later sync that succeeds proves nothing about them. So everything is written once more, into the
// file itself, and the log is begun anew, before another commit may count.
static bool write_again(struct journal *journal)
{
    if (!journal->sync_failed)
        return true;
    if (sqlite3_wal_checkpoint_v2(journal->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) != SQLITE_OK)
        return false;
    journal->sync_failed = false;
    return true;
}

static void note_sync_failure(struct journal *journal)
{
    int code = sqlite3_extended_errcode(journal->db);
    if (code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC)
        journal->sync_failed = true;
}

// Folds the log into the file. A failure affects no commit; the next attempt may succeed.
static void fold_log(struct journal *journal)
{
    if (journal->log_pages >= JOURNAL_LOG_PAGES &&
        sqlite3_wal_checkpoint_v2(journal->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) != SQLITE_OK)
        note_sync_failure(journal);
}

// SQLite would go on writing into a removed file, where nobody could find the entries again.
static enum status check_place(const struct journal *journal, struct fault *fault)
{
    struct stat info;
    if (stat(journal->path, &info) == 0 && info.st_dev == journal->device && info.st_ino == journal->inode)
        return STATUS_OK;
    return journal_fail(STATUS_NOT_FOUND, 0, fault,
                        "the journal %s was removed or replaced while in use: put it back or restart",
                        journal->path);
}

static enum status begin(struct journal *journal, void *sync, struct fault *fault)
{
    enum status place = check_place(journal, fault);
    if (place != STATUS_OK)
        return place;
    const char *level = *(const enum journal_sync *)sync == JOURNAL_SYNC_FULL ? "PRAGMA synchronous=FULL"
                                                                              : "PRAGMA synchronous=NORMAL";
    if (!run_sql(journal, level) || !write_again(journal) || !run_sql(journal, "BEGIN IMMEDIATE"))
        return journal_fail_sqlite(journal, "write", fault);
    journal->in_transaction = true;
    journal->pending = journal->head;
    return STATUS_OK;
}

enum status journal_begin(struct journal *journal, enum journal_sync sync, struct fault *fault)
{
    CHECK(journal->mode == JOURNAL_WRITE && !journal->in_transaction);
    return journal_guard(journal, begin, &sync, fault);
}

void journal_rollback(struct journal *journal)
{
    struct fault fault;
    (void)!journal_guard(journal, roll_back, NULL, &fault);
}

struct append {
    const struct journal_entry *entry;
    uint64_t *seq;
};

static enum status append(struct journal *journal, void *argument, struct fault *fault)
{
    const struct journal_entry *entry = ((const struct append *)argument)->entry;
    uint64_t *seq = ((const struct append *)argument)->seq;
    if (entry->payload.len > JOURNAL_PAYLOAD_BYTES_MAX) {
        (void)roll_back(journal, NULL, NULL);
        return journal_fail(STATUS_FULL, 0, fault, "an entry of %zu bytes is too large for the journal",
                            entry->payload.len);
    }
    struct journal_entry numbered = *entry;
    uint8_t chain[JOURNAL_CHAIN_BYTES];
    numbered.seq = journal->pending.count + 1;
    journal_chain_next(journal->pending.chain, &numbered, chain);
    sqlite3_stmt *s = journal->insert;
    sqlite3_bind_int64(s, 1, (int64_t)numbered.seq);
    sqlite3_bind_int64(s, 2, numbered.time_ms);
    sqlite3_bind_int(s, 3, (int)numbered.kind);
    sqlite3_bind_text(s, 4, numbered.subject, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 5, numbered.run);
    // An empty blob must not become NULL.
    sqlite3_bind_blob64(s, 6, numbered.payload.len > 0 ? numbered.payload.data : "", numbered.payload.len,
                        SQLITE_STATIC);
    sqlite3_bind_blob(s, 7, chain, sizeof chain, SQLITE_STATIC);
    int code = sqlite3_step(s);
    if (code != SQLITE_DONE) {
        enum status status = journal_fail_sqlite(journal, "write", fault);
        sqlite3_reset(s);
        (void)roll_back(journal, NULL, NULL);
        return status;
    }
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    journal->pending.count = numbered.seq;
    memcpy(journal->pending.chain, chain, sizeof chain);
    if (seq != NULL)
        *seq = numbered.seq;
    return STATUS_OK;
}

enum status journal_append(struct journal *journal, const struct journal_entry *entry, uint64_t *seq,
                           struct fault *fault)
{
    CHECK(journal->in_transaction);
    struct append argument = {entry, seq};
    return journal_guard(journal, append, &argument, fault);
}

static enum status commit(struct journal *journal, void *unused, struct fault *fault)
{
    (void)unused;
    sqlite3_stmt *s = journal->update_head;
    sqlite3_bind_int64(s, 1, (int64_t)journal->pending.count);
    sqlite3_bind_blob(s, 2, journal->pending.chain, JOURNAL_CHAIN_BYTES, SQLITE_STATIC);
    bool ok = sqlite3_step(s) == SQLITE_DONE;
    if (!ok || !(sqlite3_reset(s), run_sql(journal, "COMMIT"))) {
        enum status status = journal_fail_sqlite(journal, "write", fault);
        note_sync_failure(journal);
        sqlite3_reset(s);
        (void)roll_back(journal, NULL, NULL);
        return status;
    }
    journal->in_transaction = false;
    journal->head = journal->pending;
    fold_log(journal);
    return STATUS_OK;
}

enum status journal_commit(struct journal *journal, struct fault *fault)
{
    CHECK(journal->in_transaction);
    return journal_guard(journal, commit, NULL, fault);
}

uint64_t journal_count(const struct journal *journal)
{
    return journal->head.count;
}

const char *journal_path(const struct journal *journal)
{
    return journal->path;
}

uint64_t journal_bytes(const struct journal *journal)
{
    char log[PATH_MAX + 8];
    struct stat info;
    uint64_t bytes = stat(journal->path, &info) == 0 ? (uint64_t)info.st_size : 0;
    snprintf(log, sizeof log, "%s-wal", journal->path);
    return bytes + (stat(log, &info) == 0 ? (uint64_t)info.st_size : 0);
}
