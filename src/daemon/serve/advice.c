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
