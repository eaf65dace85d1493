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

uint32_t serve_clients_max(const struct serve *serve, uint32_t wanted)
{
    enum { EACH_WORKER = 16, OTHERS = 64 };
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return wanted;
    uint64_t all = limit.rlim_cur;
    uint64_t reserved = OTHERS + API_CONNECTIONS_MAX + (uint64_t)EACH_WORKER * serve->workers;
    if (reserved > all / 2)
        reserved = all / 2;
    uint64_t most = (all - reserved) / 2;
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
