// SPDX-License-Identifier: Apache-2.0
#include "net/io/kept.h"

#include <string.h>
#include <unistd.h>

#include "base/check.h"

enum kept_state { KEPT_NONE, KEPT_HELD, KEPT_USED };

// A process has one set of listening sockets, as it has one table of descriptors.
static struct {
    bool on;
    uint32_t count;
    struct io_kept sockets[IO_KEPT_MAX];
    enum kept_state states[IO_KEPT_MAX];
} all;

static bool same_addr(const struct io_addr *a, const struct io_addr *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

static bool put(const struct io_kept *kept, enum kept_state state)
{
    if (all.count == IO_KEPT_MAX)
        return false;
    all.states[all.count] = state;
    all.sockets[all.count++] = *kept;
    return true;
}

void io_kept_begin(void)
{
    CHECK(all.count == 0);
    all.on = true;
}

enum status io_kept_hold(const struct io_kept *kept)
{
    CHECK(all.on && kept->fd >= 0);
    if (put(kept, KEPT_HELD))
        return STATUS_OK;
    close(kept->fd);
    return STATUS_FULL;
}

static struct io_kept *find_held(const struct io_addr *wanted)
{
    for (uint32_t i = 0; i < all.count; i++)
        if (all.states[i] == KEPT_HELD && same_addr(&all.sockets[i].wanted, wanted))
            return &all.sockets[i];
    return NULL;
}

bool io_kept_waits(const struct io_addr *wanted)
{
    return find_held(wanted) != NULL;
}

int io_kept_take(const struct io_addr *wanted)
{
    struct io_kept *kept = find_held(wanted);
    if (kept == NULL)
        return -1;
    all.states[kept - all.sockets] = KEPT_USED;
    return kept->fd;
}

void io_kept_opened(const struct io_addr *wanted, int fd)
{
    if (all.on)
        (void)put(&(struct io_kept){*wanted, fd}, KEPT_USED); // no room: it ends with its process
}

const struct io_kept *io_kept_end(uint32_t *count)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < all.count; i++) {
        if (all.states[i] == KEPT_HELD)
            close(all.sockets[i].fd);
        else
            all.sockets[used++] = all.sockets[i];
    }
    all.on = false;
    all.count = 0;
    *count = used;
    return all.sockets;
}
