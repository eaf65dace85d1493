// SPDX-License-Identifier: Apache-2.0
// The reading half of the journal: entries in order, each verified against the previous one. Nothing is
// skipped: at the first entry that does not fit, reading ends with its number.
#include <stdio.h>
#include <string.h>

#include "base/heap.h"
#include "ship/store/journal_private.h"

struct journal_cursor {
    struct journal *journal;
    sqlite3_stmt *select;
    uint64_t seq;   // last one given
    uint64_t until; // how many entries the head named when the cursor was opened
    uint8_t chain[JOURNAL_CHAIN_BYTES];
};

// One read transaction around head and entries, so that a daemon that goes on writing does not look like
// damage.
static enum status begin_reading(struct journal *journal, void *argument, struct fault *fault)
{
    struct journal_cursor *cursor = argument;
    static const char SQL[] =
        "SELECT e.seq, e.time_ms, e.kind, e.subject, e.run, e.payload, e.chain, h.count FROM journal_head h "
        "LEFT JOIN journal_entries e ORDER BY e.seq";
    if (sqlite3_prepare_v2(journal->db, SQL, -1, &cursor->select, NULL) != SQLITE_OK)
        return journal_fail_sqlite(journal, "read", fault);
    return STATUS_OK;
}

enum status journal_cursor_open(struct journal *journal, struct journal_cursor **out, struct fault *fault)
{
    struct journal_cursor *cursor = heap_alloc(1, sizeof *cursor);
    if (cursor == NULL)
        return journal_fail(STATUS_NO_MEMORY, 0, fault, "no memory to read the journal");
    cursor->journal = journal;
    cursor->until = UINT64_MAX;
    enum status status = journal_guard(journal, begin_reading, cursor, fault);
    if (status != STATUS_OK) {
        journal_cursor_close(cursor);
        return status;
    }
    *out = cursor;
    return STATUS_OK;
}

static enum status end_reading(struct journal *journal, void *cursor, struct fault *fault)
{
    (void)journal;
    (void)fault;
    sqlite3_finalize(((struct journal_cursor *)cursor)->select);
    return STATUS_OK;
}

void journal_cursor_close(struct journal_cursor *cursor)
{
    struct fault fault;
    if (cursor == NULL)
        return;
    (void)!journal_guard(cursor->journal, end_reading, cursor, &fault);
    heap_free(cursor);
}

static enum status at_end(struct journal_cursor *cursor, struct fault *fault)
{
    if (cursor->until == UINT64_MAX)
        return journal_fail(STATUS_CORRUPT, 0, fault, "the journal %s has lost its head record",
                            cursor->journal->path);
    if (cursor->seq < cursor->until)
        return journal_fail(STATUS_CORRUPT, cursor->seq + 1, fault,
                            "the journal %s is cut short: it says %llu entries, entry %llu is missing",
                            cursor->journal->path, (unsigned long long)cursor->until,
                            (unsigned long long)cursor->seq + 1);
    return STATUS_NOT_FOUND;
}

static enum status read_row(struct journal_cursor *cursor, struct journal_entry *entry, struct fault *fault)
{
    sqlite3_stmt *s = cursor->select;
    struct journal_entry e = {
        .seq = (uint64_t)sqlite3_column_int64(s, 0),
        .time_ms = sqlite3_column_int64(s, 1),
        .kind = (enum journal_kind)sqlite3_column_int(s, 2),
        .run = (uint32_t)sqlite3_column_int64(s, 4),
    };
    const char *subject = (const char *)sqlite3_column_text(s, 3);
    size_t subject_len = (size_t)sqlite3_column_bytes(s, 3);
    const void *payload = sqlite3_column_blob(s, 5);
    e.payload = (struct slice){payload != NULL ? payload : "", (size_t)sqlite3_column_bytes(s, 5)};
    if (e.seq != cursor->seq + 1 || e.seq > cursor->until)
        return journal_fail(STATUS_CORRUPT, cursor->seq + 1, fault,
                            "entry %llu of the journal %s is missing: %llu follows %llu",
                            (unsigned long long)cursor->seq + 1, cursor->journal->path,
                            (unsigned long long)e.seq, (unsigned long long)cursor->seq);
    uint8_t chain[JOURNAL_CHAIN_BYTES];
    bool shaped = subject != NULL && subject_len < sizeof e.subject &&
                  e.payload.len <= JOURNAL_PAYLOAD_BYTES_MAX &&
                  sqlite3_column_bytes(s, 6) == JOURNAL_CHAIN_BYTES;
    if (shaped) {
        memcpy(e.subject, subject, subject_len);
        journal_chain_next(cursor->chain, &e, chain);
    }
    if (!shaped || memcmp(chain, sqlite3_column_blob(s, 6), sizeof chain) != 0)
        return journal_fail(STATUS_CORRUPT, e.seq, fault,
                            "entry %llu of the journal %s was changed: it does not match its chain",
                            (unsigned long long)e.seq, cursor->journal->path);
    memcpy(cursor->chain, chain, sizeof chain);
    cursor->seq = e.seq;
    *entry = e;
    return STATUS_OK;
}

struct next {
    struct journal_cursor *cursor;
    struct journal_entry *entry;
};

static enum status next(struct journal *journal, void *argument, struct fault *fault)
{
    (void)journal;
    struct journal_cursor *cursor = ((const struct next *)argument)->cursor;
    struct journal_entry *entry = ((const struct next *)argument)->entry;
    int code = sqlite3_step(cursor->select);
    if (code == SQLITE_DONE)
        return at_end(cursor, fault);
    if (code != SQLITE_ROW) {
        enum status status = journal_fail_sqlite(cursor->journal, "read", fault);
        fault->entry = cursor->seq + 1;
        return status;
    }
    cursor->until = (uint64_t)sqlite3_column_int64(cursor->select, 7);
    if (sqlite3_column_type(cursor->select, 0) == SQLITE_NULL)
        return at_end(cursor, fault); // a head without any entry
    return read_row(cursor, entry, fault);
}

enum status journal_cursor_next(struct journal_cursor *cursor, struct journal_entry *entry,
                                struct fault *fault)
{
    struct next argument = {cursor, entry};
    return journal_guard(cursor->journal, next, &argument, fault);
}
