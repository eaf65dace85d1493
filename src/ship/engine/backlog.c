// SPDX-License-Identifier: Apache-2.0
// Entries that took effect before the journal could hold them, in their order. Only the safe direction may
// run ahead like this: what goes back, stops or is switched off. Bounded: the last part is kept for people's
// words and for decisions.
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "ship/engine/engine_private.h"

enum {
    BACKLOG_BYTES_MAX = 16 << 20,
    BACKLOG_BYTES_URGENT = 1 << 20, // of those, for what is urgent alone
    BACKLOG_PER_COMMIT = 512,
};

struct backlog_entry {
    struct list link;
    struct journal_entry entry; // its payload stands behind it
    char payload[];
};

void engine_backlog_init(struct engine_backlog *backlog)
{
    *backlog = (struct engine_backlog){.bytes = 0};
    list_init(&backlog->entries);
}

static void drop_first(struct engine_backlog *backlog)
{
    struct backlog_entry *first = CONTAINER_OF(backlog->entries.next, struct backlog_entry, link);
    list_remove(&first->link);
    backlog->bytes -= sizeof *first + first->entry.payload.len;
    backlog->count--;
    heap_free(first);
}

void engine_backlog_deinit(struct engine_backlog *backlog)
{
    while (!list_empty(&backlog->entries))
        drop_first(backlog);
}

bool engine_backlog_has_room(const struct engine_backlog *backlog)
{
    return backlog->bytes + ROLLOUT_INPUT_WIRE_BYTES_MAX < BACKLOG_BYTES_MAX - BACKLOG_BYTES_URGENT;
}

enum status engine_backlog_push(struct engine_backlog *backlog, const struct journal_entry *entry,
                                bool urgent)
{
    uint64_t bytes = sizeof(struct backlog_entry) + entry->payload.len;
    if (backlog->bytes + bytes > (urgent ? BACKLOG_BYTES_MAX : BACKLOG_BYTES_MAX - BACKLOG_BYTES_URGENT))
        return STATUS_FULL;
    struct backlog_entry *made = heap_alloc(1, bytes);
    if (made == NULL)
        return STATUS_NO_MEMORY;
    made->entry = *entry;
    memcpy(made->payload, entry->payload.data, entry->payload.len);
    made->entry.payload.data = made->payload;
    list_push_back(&backlog->entries, &made->link);
    backlog->bytes += bytes;
    backlog->count++;
    return STATUS_OK;
}

static enum status write_some(struct engine_backlog *backlog, struct journal *journal, struct fault *fault)
{
    uint32_t written = 0;
    enum status status = journal_begin(journal, JOURNAL_SYNC_FULL, fault);
    for (struct list *link = backlog->entries.next;
         status == STATUS_OK && link != &backlog->entries && written < BACKLOG_PER_COMMIT;
         link = link->next) {
        status = journal_append(journal, &CONTAINER_OF(link, struct backlog_entry, link)->entry, NULL, fault);
        written++;
    }
    if (status == STATUS_OK)
        status = journal_commit(journal, fault);
    for (; status == STATUS_OK && written > 0; written--)
        drop_first(backlog);
    return status;
}

enum status engine_backlog_write(struct engine_backlog *backlog, struct journal *journal, struct fault *fault)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !list_empty(&backlog->entries))
        status = write_some(backlog, journal, fault);
    return status;
}
