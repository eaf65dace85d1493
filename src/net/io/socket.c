// SPDX-License-Identifier: Apache-2.0
// Socket calls of both real faces: opening, listening, closing, shedding.
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "net/io/io_private.h"
#include "net/io/kept.h"

uint64_t io_socket_clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void set_option(int fd, int level, int option)
{
    int on = 1;
    // A refused option costs speed, not correctness.
    (void)setsockopt(fd, level, option, &on, sizeof on);
}

enum status io_socket_open(const struct io_addr *addr, int *fd)
{
    int opened = socket(addr->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (opened < 0)
        return status_of_errno(errno);
    // Accepted sockets inherit it from their listener.
    if (addr->any.sa_family != AF_UNIX)
        set_option(opened, IPPROTO_TCP, TCP_NODELAY);
    *fd = opened;
    return STATUS_OK;
}

// Removes the file of a unix socket if nobody listens on it, because its process died.
static bool remove_stale_unix(const struct io_addr *addr)
{
    struct sockaddr_un un;
    struct stat info;
    memcpy(&un, addr->bytes, sizeof un);
    if (lstat(un.sun_path, &info) != 0 || !S_ISSOCK(info.st_mode))
        return false;
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return false;
    bool stale = connect(probe, &addr->any, addr->len) != 0 && errno == ECONNREFUSED;
    close(probe);
    return stale && unlink(un.sun_path) == 0;
}

static int bind_socket(int fd, const struct io_addr *addr)
{
    if (bind(fd, &addr->any, addr->len) == 0)
        return 0;
    if (errno != EADDRINUSE || addr->any.sa_family != AF_UNIX)
        return errno;
    if (!remove_stale_unix(addr))
        return EADDRINUSE;
    return bind(fd, &addr->any, addr->len) == 0 ? 0 : errno;
}

static enum status share_socket(int shared, int *fd)
{
    int opened = fcntl(shared, F_DUPFD_CLOEXEC, 0);
    if (opened < 0)
        return status_of_errno(errno);
    *fd = opened;
    return STATUS_OK;
}

// A socket of its own.
static enum status listen_anew(const struct io_addr *addr, bool reuse_port, int *fd)
{
    int opened = -1;
    enum status status = io_socket_open(addr, &opened);
    if (status != STATUS_OK)
        return status;
    if (addr->any.sa_family != AF_UNIX) {
        set_option(opened, SOL_SOCKET, SO_REUSEADDR);
        if (reuse_port)
            set_option(opened, SOL_SOCKET, SO_REUSEPORT);
    }
    int error = bind_socket(opened, addr);
    if (error == 0 && listen(opened, IO_LISTEN_BACKLOG) != 0)
        error = errno;
    if (error != 0) {
        close(opened);
        return status_of_errno(error);
    }
    *fd = opened;
    io_kept_opened(addr, opened);
    return STATUS_OK;
}

enum status io_socket_listen(const struct io_listener *listener, const struct io_addr *addr, bool reuse_port,
                             int *fd)
{
    if (listener->handle >= 0)
        return share_socket(listener->handle, fd);
    int kept = io_kept_take(addr);
    if (kept < 0)
        return listen_anew(addr, reuse_port, fd);
    *fd = kept;
    return STATUS_OK;
}

void io_socket_taken(const struct io_stream *stream, uint64_t *waiting, uint64_t *mark)
{
    int unacknowledged = 0;
    if (ioctl(stream->handle, SIOCOUTQ, &unacknowledged) == 0)
        *waiting = (uint64_t)unacknowledged;
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    // A unix socket only tells what its peer has left unread. When that is filled up again, less is queued.
    if (getsockopt(stream->handle, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
        *mark = info.tcpi_bytes_acked;
    else
        *mark = *waiting + ((uint64_t)stream->send_pending << 32);
}

void io_socket_listener_addr(const struct io_listener *listener, struct io_addr *addr)
{
    memset(addr, 0, sizeof *addr);
    addr->len = sizeof addr->bytes;
    CHECK(getsockname(listener->handle, &addr->any, &addr->len) == 0);
}

void io_socket_handle_close(struct io_loop *loop, int handle)
{
    (void)loop;
    close(handle);
}

void io_socket_close(int fd, bool reset)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    if (fd < 0)
        return;
    if (reset)
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close(fd);
}

int io_socket_error(int fd)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        return errno;
    return error;
}

int io_socket_reserve(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

bool io_socket_accept_error_passes(int error_number)
{
    switch (error_number) {
    case ECONNABORTED:
    case EINTR:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return true;
    default:
        return false;
    }
}

void io_socket_shed(struct io_listener *listener, int error_number)
{
    struct io_loop *loop = listener->loop;
    for (int i = 0; i < IO_ACCEPT_BATCH && loop->reserve_fd >= 0; i++) {
        close(loop->reserve_fd);
        int fd = accept4(listener->handle, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            close(fd);
        loop->reserve_fd = io_socket_reserve();
        if (fd < 0)
            break;
        loop->stats.accept_failures++;
    }
    if (loop->reserve_fd < 0)
        loop->stats.accept_failures++; // the connection stays in the backlog until descriptors are free again
    io_listener_pause(listener);
    io_listener_tell_failure(listener, status_of_errno(error_number));
}

ssize_t io_socket_send(const struct io_stream *stream)
{
    struct io_buf *buf = stream->send_head;
    if (LIKELY(buf->next == NULL))
        return send(stream->handle, buf->data + buf->start, io_buf_len(buf), MSG_NOSIGNAL | MSG_DONTWAIT);
    struct iovec parts[IO_SEND_IOVECS_MAX];
    struct msghdr message = {.msg_iov = parts};
    for (; buf != NULL && message.msg_iovlen < IO_SEND_IOVECS_MAX; buf = buf->next)
        parts[message.msg_iovlen++] = (struct iovec){buf->data + buf->start, io_buf_len(buf)};
    return sendmsg(stream->handle, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}
