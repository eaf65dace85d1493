// SPDX-License-Identifier: Apache-2.0
// What a start needs of the system, and what to do when it does not get it.
#include <sys/resource.h>

#include "daemon/serve/serve_private.h"

void serve_raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)!setrlimit(RLIMIT_NOFILE, &limit); // best effort: the old limit is shown in the metrics
}

const char *serve_advice(enum status status)
{
    switch (status) {
    case STATUS_IN_USE:
        return "another process uses that address; `ss -ltnp` shows which";
    case STATUS_DENIED:
        return "this user may not; ports below 1024 need CAP_NET_BIND_SERVICE";
    case STATUS_NO_FD:
        return "no file descriptors are left; raise the limit (ulimit -n, or LimitNOFILE= of the unit)";
    case STATUS_UNSUPPORTED:
        return "this event loop is not available here; use --io auto";
    case STATUS_NO_MEMORY:
        return "no memory is left";
    default:
        return status_name(status);
    }
}

enum {
    EACH_WORKER = 80, // of its own, and of clients that it turns away
    OTHERS = 64,      // journal, log, sources of flags
    ADMIN_PART = 8,   // of all descriptors, at most that part for the admin address
    FLAGS_PART = 4,   // and for the flags address
};

static uint32_t at_most(uint64_t part, uint32_t wanted)
{
    return part < wanted ? (uint32_t)(part > 0 ? part : 1) : wanted;
}

static uint32_t clients_of(const struct serve *serve, uint64_t all, uint64_t taken, uint32_t wanted)
{
    uint64_t most = (all - (taken < all / 2 ? taken : all / 2)) / 2; // each may need a connection upstream
    if (wanted <= most)
        return wanted;
    log_write(
        serve->options.log, LOG_WARN,
        "limits.connections is lowered to what the limit of descriptors allows; raise it (ulimit -n, or "
        "LimitNOFILE= of the unit)",
        LOG_FIELDS(LOG_NUMBER("wanted", wanted), LOG_NUMBER("connections", most),
                   LOG_NUMBER("descriptors", all)));
    return most > 0 ? (uint32_t)most : 1;
}

struct serve_room serve_room(const struct serve *serve, const struct config *config)
{
    const struct config_flags *flags = &config->flags;
    struct serve_room room = {.clients = config->limits.connections,
                              .admin = API_CONNECTIONS_MAX,
                              .evaluation = OFREP_CONNECTIONS_MAX};
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return room;
    uint64_t all = limit.rlim_cur;
    room.admin = at_most(all / ADMIN_PART, room.admin);
    uint64_t taken = OTHERS + room.admin + (uint64_t)EACH_WORKER * serve->workers;
    if (flags->listen.text[0] != '\0') {
        room.evaluation = at_most(all / FLAGS_PART / flags->threads, room.evaluation);
        taken += (uint64_t)room.evaluation * flags->threads;
    }
    room.clients = clients_of(serve, all, taken, room.clients);
    return room;
}
