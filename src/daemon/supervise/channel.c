// SPDX-License-Identifier: Apache-2.0
#include "daemon/supervise/channel.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHANNEL_SEND_MS = 1000 };

union channel_control {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr aligned;
};

enum status channel_create(int fds[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0)
        return STATUS_OK;
    return status_of_errno(errno);
}

static bool wait_for(int channel, short what, int wait_ms)
{
    struct pollfd poll_fd = {.fd = channel, .events = what};
    int found;
    do
        found = poll(&poll_fd, 1, wait_ms);
    while (found < 0 && errno == EINTR);
    return found > 0;
}

enum status channel_send(int channel, const struct channel_message *message, int fd)
{
    struct iovec part = {(void *)(uintptr_t)message, sizeof *message};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    union channel_control control;
    if (fd >= 0) {
        memset(&control, 0, sizeof control);
        header.msg_control = control.bytes;
        header.msg_controllen = sizeof control.bytes;
        struct cmsghdr *first = CMSG_FIRSTHDR(&header);
        *first = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
        memcpy(CMSG_DATA(first), &fd, sizeof fd);
    }
    for (;;) {
        if (sendmsg(channel, &header, MSG_NOSIGNAL) >= 0)
            return STATUS_OK;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return STATUS_CLOSED;
        if (!wait_for(channel, POLLOUT, CHANNEL_SEND_MS))
            return STATUS_TIMEOUT;
    }
}

static int descriptor_of(struct msghdr *header)
{
    int fd = -1;
    struct cmsghdr *first = CMSG_FIRSTHDR(header);
    if (first != NULL && first->cmsg_level == SOL_SOCKET && first->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(first), sizeof fd);
    return fd;
}

enum status channel_receive(int channel, int wait_ms, struct channel_message *message, int *fd)
{
    struct iovec part = {message, sizeof *message};
    union channel_control control;
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes};
    *fd = -1;
    if (!wait_for(channel, POLLIN, wait_ms))
        return STATUS_TIMEOUT;
    memset(message, 0, sizeof *message);
    ssize_t got = recvmsg(channel, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return STATUS_TIMEOUT;
    if (got <= 0)
        return STATUS_CLOSED;
    *fd = descriptor_of(&header);
    message->text[sizeof message->text - 1] = '\0';
    return STATUS_OK;
}
