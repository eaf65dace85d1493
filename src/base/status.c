// SPDX-License-Identifier: Apache-2.0
// Names of statuses and their mapping from errno.
#include "base/status.h"

#include <errno.h>

static const char *const NAMES[STATUS_COUNT] = {
    [STATUS_OK] = "ok",
    [STATUS_AGAIN] = "again",
    [STATUS_FULL] = "full",
    [STATUS_INVALID] = "invalid",
    [STATUS_RANGE] = "out of range",
    [STATUS_NOT_FOUND] = "not found",
    [STATUS_EXISTS] = "exists",
    [STATUS_CONFLICT] = "conflict",
    [STATUS_CORRUPT] = "corrupt",
    [STATUS_MISMATCH] = "mismatch",
    [STATUS_IO] = "i/o error",
    [STATUS_NO_SPACE] = "no space",
    [STATUS_NO_MEMORY] = "no memory",
    [STATUS_NO_FD] = "no file descriptors",
    [STATUS_IN_USE] = "in use",
    [STATUS_DENIED] = "denied",
    [STATUS_UNSUPPORTED] = "unsupported",
    [STATUS_CLOSED] = "closed",
    [STATUS_REFUSED] = "refused",
    [STATUS_RESET] = "reset",
    [STATUS_UNREACHABLE] = "unreachable",
    [STATUS_TIMEOUT] = "timeout",
    [STATUS_CANCELLED] = "cancelled",
};

const char *status_name(enum status status)
{
    if ((unsigned)status >= STATUS_COUNT)
        return "unknown";
    return NAMES[status];
}

enum status status_of_errno(int error_number)
{
    switch (error_number) {
    case 0:
        return STATUS_OK;
    case EAGAIN:
    case EINPROGRESS:
    case EINTR:
        return STATUS_AGAIN;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return STATUS_NO_SPACE;
    case ENOMEM:
    case ENOBUFS:
        return STATUS_NO_MEMORY;
    case EMFILE:
    case ENFILE:
        return STATUS_NO_FD;
    case EADDRINUSE:
    case EBUSY:
        return STATUS_IN_USE;
    case EACCES:
    case EPERM:
        return STATUS_DENIED;
    case ECONNREFUSED:
        return STATUS_REFUSED;
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
        return STATUS_RESET;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EADDRNOTAVAIL:
    case ENOENT:
        return STATUS_UNREACHABLE;
    case ETIMEDOUT:
        return STATUS_TIMEOUT;
    case ECANCELED:
        return STATUS_CANCELLED;
    case EEXIST:
        return STATUS_EXISTS;
    case EINVAL:
        return STATUS_INVALID;
    case ENOSYS:
    case EOPNOTSUPP:
        return STATUS_UNSUPPORTED;
    default:
        return STATUS_IO;
    }
}
