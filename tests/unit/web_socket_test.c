// SPDX-License-Identifier: Apache-2.0
// web over real sockets, on both faces of the loop: common requests touch no heap; when memory is refused a
// request is answered or its connection closed, and nothing leaks.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/heap.h"
#include "net/web/web.h"
#include "test.h"

struct server {
    struct io_loop *loop;
    struct web *web;
    struct io_addr addr;
    char from[IO_ADDR_TEXT_BYTES], from_host[IO_ADDR_TEXT_BYTES];
    char answer[1 << 17];
    size_t len;
};

static struct server server;

static void handle(void *context, const struct web_request *request, struct web_answer *answer)
{
    struct server *self = context;
    static char echo[1 << 16];
    snprintf(self->from, sizeof self->from, "%s", request->from);
    snprintf(self->from_host, sizeof self->from_host, SLICE_FMT, SLICE_ARG(request->from_host));
    memcpy(echo, request->body.data, request->body.len);
    answer->status = 200;
    answer->content_type = "application/json";
    answer->body = (struct slice){echo, request->body.len};
}

static void server_up(enum io_kind kind, const char *addr)
{
    const struct io_loop_config config = {.kind = kind};
    const struct web_handler handler = {.context = &server, .handle = handle};
    const struct web_limits limits = {.body_bytes = 1 << 16};
    struct io_addr any;
    memset(&server, 0, sizeof server);
    assert_int_equal(io_loop_create(&config, &server.loop), STATUS_OK);
    assert_int_equal(io_addr_parse(addr, &any), STATUS_OK);
    assert_int_equal(
        web_create(server.loop, &(struct web_place){.addr = &any}, &handler, &limits, &server.web),
        STATUS_OK);
    web_addr(server.web, &server.addr);
}

static void server_down(void)
{
    web_close(server.web);
    while (!web_closed(server.web))
        assert_int_equal(io_loop_turn(server.loop, 1000), STATUS_OK);
    web_destroy(server.web);
    assert_int_equal(io_loop_stats(server.loop)->bufs_in_use, 0);
    io_loop_destroy(server.loop);
}

static int dial(void)
{
    int handle_of_socket = socket(server.addr.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(handle_of_socket, &server.addr.any, server.addr.len), 0);
    int on = 1;
    assert_int_equal(setsockopt(handle_of_socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    assert_int_equal(fcntl(handle_of_socket, F_SETFL, O_NONBLOCK), 0);
    return handle_of_socket;
}

// Sends and gathers until `until` comes (true) or the server closes.
static bool talk(int to, const char *bytes, size_t len, const char *until)
{
    size_t sent = 0;
    uint64_t until_us = io_loop_clock_us(server.loop) + 5000000;
    server.len = 0;
    server.answer[0] = '\0';
    while (io_loop_clock_us(server.loop) < until_us) {
        ssize_t n = sent < len ? send(to, bytes + sent, len - sent, MSG_NOSIGNAL) : 0;
        sent += n > 0 ? (size_t)n : 0;
        assert_int_equal(io_loop_turn(server.loop, 1000), STATUS_OK);
        n = recv(to, server.answer + server.len, sizeof server.answer - server.len - 1, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return false;
        server.len += n > 0 ? (size_t)n : 0;
        server.answer[server.len] = '\0';
        if (strstr(server.answer, until) != NULL)
            return true;
    }
    fail_msg("no answer: %.200s", server.answer);
    return false;
}

static bool available(enum io_kind kind)
{
    struct fault why;
    if (kind != IO_KIND_URING || io_uring_available(&why))
        return true;
    printf("SKIPPED: io_uring: %s\n", why.text);
    return false;
}

TEST(no_heap)
{
    static const enum io_kind kinds[] = {IO_KIND_EPOLL, IO_KIND_URING};
    static const char request[] = "POST /ofrep/v1/evaluate/flags/a HTTP/1.1\r\nHost: localhost\r\n"
                                  "Content-Length: 9\r\n\r\n{\"a\": 12}";
    static const char twice[] = "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
                                "POST /b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nlast";
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (!available(kinds[i]))
            continue;
        server_up(kinds[i], "127.0.0.1:0");
        int to = dial();
        assert_true(talk(to, request, sizeof request - 1, "{\"a\": 12}"));
        heap_fail_after(0);
        for (int k = 0; k < 200; k++) {
            assert_true(talk(to, request, sizeof request - 1, "{\"a\": 12}"));
            assert_true(talk(to, twice, sizeof twice - 1, "last"));
            // Cut within the head and within the body.
            size_t cut = (size_t)k % (sizeof request - 2) + 1;
            assert_int_equal(send(to, request, cut, MSG_NOSIGNAL), cut);
            assert_int_equal(io_loop_turn(server.loop, 1000), STATUS_OK);
            assert_true(talk(to, request + cut, sizeof request - 1 - cut, "{\"a\": 12}"));
        }
        heap_fail_after(-1);
        assert_string_equal(server.from_host, "127.0.0.1");
        assert_int_equal(strncmp(server.from, "127.0.0.1:", 10), 0);
        close(to);
        server_down();
    }
}

TEST(ipv6)
{
    struct io_addr any;
    int probe = socket(AF_INET6, SOCK_STREAM, 0);
    assert_int_equal(io_addr_parse("[::1]:0", &any), STATUS_OK);
    bool usable = probe >= 0 && bind(probe, &any.any, any.len) == 0;
    close(probe);
    if (!usable) {
        printf("SKIPPED: no IPv6 here\n");
        skip();
    }
    server_up(IO_KIND_EPOLL, "[::1]:0");
    int to = dial();
    assert_true(talk(to, "GET / HTTP/1.0\r\n\r\n", 18, "\r\n\r\n"));
    assert_string_equal(server.from_host, "::1");
    close(to);
    server_down();
}

TEST(refused_memory)
{
    static char request[64000];
    int head =
        snprintf(request, sizeof request, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n");
    memset(request + head, 'x', 50000);
    request[head + 49999] = '!';
    bool whole = false;
    for (long n = 0; !whole; n++) {
        assert_true(n < 50);
        server_up(IO_KIND_EPOLL, "127.0.0.1:0");
        // Buffers are there already: without one the loop only waits.
        int before = dial();
        assert_true(talk(before, request, (size_t)head + 50000, "!"));
        int to = dial();
        heap_fail_after(n);
        bool answered = talk(to, request, (size_t)head + 50000, "\r\n\r\n");
        heap_fail_after(-1);
        whole = answered && strncmp(server.answer, "HTTP/1.1 200", 12) == 0;
        if (answered && !whole)
            assert_int_equal(strncmp(server.answer, "HTTP/1.1 503", 12), 0);
        close(to);
        close(before);
        server_down();
    }
}
