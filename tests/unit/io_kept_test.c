// SPDX-License-Identifier: Apache-2.0
// io/kept: sockets of the process before are taken once each, by the address that was asked for; the rest is
// closed, and what is in use is told.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/io/kept.h"
#include "test.h"

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static struct io_kept socket_for(const char *text)
{
    struct io_kept kept = {.fd = socket(AF_INET, SOCK_STREAM, 0)};
    assert_true(kept.fd >= 0);
    assert_int_equal(io_addr_parse(text, &kept.wanted), STATUS_OK);
    return kept;
}

TEST(held_sockets_are_taken_and_told)
{
    struct io_kept a1 = socket_for("127.0.0.1:1"), a2 = socket_for("127.0.0.1:1"),
                   b = socket_for("127.0.0.1:2"), c = socket_for("127.0.0.1:3");
    uint32_t count;
    io_kept_opened(&c.wanted, c.fd); // not begun: nobody asks
    (void)io_kept_end(&count);
    assert_int_equal(count, 0);

    io_kept_begin();
    assert_int_equal(io_kept_hold(&a1), STATUS_OK);
    assert_int_equal(io_kept_hold(&b), STATUS_OK);
    assert_int_equal(io_kept_hold(&a2), STATUS_OK);
    assert_true(io_kept_waits(&a1.wanted));
    assert_false(io_kept_waits(&c.wanted));
    assert_int_equal(io_kept_take(&a1.wanted), a1.fd);
    assert_int_equal(io_kept_take(&a1.wanted), a2.fd);
    assert_int_equal(io_kept_take(&a1.wanted), -1);
    assert_int_equal(io_kept_take(&c.wanted), -1);
    io_kept_opened(&c.wanted, c.fd);
    const struct io_kept *used = io_kept_end(&count);
    assert_int_equal(count, 3);
    assert_int_equal(used[0].fd, a1.fd);
    assert_int_equal(used[1].fd, a2.fd);
    assert_int_equal(used[2].fd, c.fd);
    assert_false(is_open(b.fd));
    assert_true(is_open(a1.fd) && is_open(a2.fd) && is_open(c.fd));
    assert_int_equal(io_kept_take(&a1.wanted), -1);
    close(a1.fd);
    close(a2.fd);
    close(c.fd);
}

// A listener takes the socket that is held for it, whatever its loop; one of another address opens its own.
TEST(listeners_take_held_sockets)
{
    struct io_loop_config config = {.kind = IO_KIND_EPOLL, .bufs_max = 16};
    struct io_loop *loop;
    struct io_kept kept = socket_for("127.0.0.1:0");
    assert_int_equal(bind(kept.fd, &kept.wanted.any, kept.wanted.len), 0);
    assert_int_equal(listen(kept.fd, 8), 0);
    assert_int_equal(io_loop_create(&config, &loop), STATUS_OK);
    struct io_listener first = {.handle = -1}, second = {.handle = -1};
    io_kept_begin();
    assert_int_equal(io_kept_hold(&kept), STATUS_OK);
    assert_int_equal(io_listener_open(loop, &first, &kept.wanted, false), STATUS_OK);
    assert_int_equal(io_listener_open(loop, &second, &kept.wanted, false), STATUS_OK);
    assert_int_equal(first.handle, kept.fd);
    assert_int_not_equal(second.handle, kept.fd);
    uint32_t count;
    const struct io_kept *used = io_kept_end(&count);
    assert_int_equal(count, 2);
    assert_int_equal(used[1].fd, second.handle);
    io_listener_close(&first);
    io_listener_close(&second);
    io_loop_destroy(loop);
}
