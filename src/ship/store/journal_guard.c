// SPDX-License-Identifier: Apache-2.0
// SQLite maps the index of its log, the file -shm beside the journal. Whoever cuts that file short under a
// running process makes the next look at it a bus error. It is taken here: what SQLite was doing is left
// where it was, as if the process had died there, which a journal outlives; this journal is lost until a
// restart, and all else goes on.
#include <setjmp.h>
#include <signal.h>

#include "ship/store/journal_private.h"

static _Thread_local sigjmp_buf way_out;
static _Thread_local volatile sig_atomic_t guarded;
static struct sigaction before;
static sqlite3 *volatile left; // in the middle: it cannot be freed, and a checker of leaks should find it

static void on_bus_error(int number)
{
    if (guarded)
        siglongjmp(way_out, 1);
    sigaction(number, &before, NULL); // none of ours: the access is made again, and ends as it would have
}

void journal_guard_init(void)
{
    // Not blocked within its handler, which does not return.
    const struct sigaction action = {.sa_handler = on_bus_error, .sa_flags = SA_NODEFER};
    struct sigaction now;
    if (sigaction(SIGBUS, NULL, &now) != 0 || now.sa_handler == on_bus_error)
        return;
    before = now;
    (void)sigaction(SIGBUS, &action, NULL);
}

static enum status tell_lost(const struct journal *journal, struct fault *fault)
{
    return journal_fail(STATUS_IO, 0, fault,
                        "the file %s-shm was cut short while in use, so the journal cannot be used any more: "
                        "restart to go on",
                        journal->path);
}

enum status journal_guard(struct journal *journal, journal_call *call, void *argument, struct fault *fault)
{
    if (journal->lost)
        return tell_lost(journal, fault);
    if (sigsetjmp(way_out, 0) != 0) {
        guarded = 0;
        journal->lost = true;
        left = journal->db;
        journal->in_transaction = false;
        return tell_lost(journal, fault);
    }
    guarded = 1;
    enum status status = call(journal, argument, fault);
    guarded = 0;
    return status;
}
