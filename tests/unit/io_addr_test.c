// SPDX-License-Identifier: Apache-2.0
// Addresses: what is written comes back, what is not an address is refused.
#include "base/check.h"
#include "net/io/io_private.h"
#include "test.h"

TEST(round_trip)
{
    static const char *const TEXTS[][2] = {
        {"127.0.0.1:80", "127.0.0.1"},
        {"0.0.0.0:0", "0.0.0.0"},
        {"255.255.255.255:65535", "255.255.255.255"},
        {"[::1]:8080", "::1"},
        {"[fe80::1:2]:1", "fe80::1:2"},
        {"unix:/run/a b.sock", "unix:"},
    };
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++) {
        struct io_addr addr, resolved;
        char text[IO_ADDR_TEXT_BYTES];
        assert_int_equal(io_addr_parse(TEXTS[i][0], &addr), STATUS_OK);
        io_addr_format(&addr, text);
        assert_string_equal(text, TEXTS[i][0]);
        io_addr_format_host(&addr, text);
        assert_string_equal(text, TEXTS[i][1]);
        assert_int_equal(io_addr_resolve(TEXTS[i][0], &resolved), STATUS_OK);
        assert_memory_equal(&addr, &resolved, sizeof addr);
    }
}

TEST(refused)
{
    static const char *const TEXTS[] = {
        "",         ":80",           "127.0.0.1",        "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1",
        "1.2.3:80", "127.0.0.1:8 0", "127.0.0.1:080000", "name:80",    "::1:80",          "[::1]",
        "[::1]80",  "[]:80",         "[127.0.0.1]:80",   "unix:",      "[::1:80",         "1.2.3.4:+5",
    };
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++) {
        struct io_addr addr = {.len = 77};
        assert_int_equal(io_addr_parse(TEXTS[i], &addr), STATUS_INVALID);
        assert_int_equal(addr.len, 77);
    }
    char long_path[256] = "unix:/";
    memset(long_path + 6, 'x', sizeof long_path - 7);
    struct io_addr addr;
    assert_int_equal(io_addr_parse(long_path, &addr), STATUS_INVALID);
}

TEST(resolve)
{
    struct io_addr addr;
    char text[IO_ADDR_TEXT_BYTES];
    assert_int_equal(io_addr_resolve("localhost:81", &addr), STATUS_OK);
    io_addr_format(&addr, text);
    assert_true(strcmp(text, "127.0.0.1:81") == 0 || strcmp(text, "[::1]:81") == 0);
    assert_int_equal(io_addr_resolve("localhost", &addr), STATUS_INVALID);
    assert_int_equal(io_addr_resolve("localhost:http", &addr), STATUS_INVALID);
    assert_int_equal(io_addr_resolve("unix:", &addr), STATUS_INVALID);
}

TEST(reaches)
{
    struct io_addr any, one, other, port;
    assert_int_equal(io_addr_parse("0.0.0.0:80", &any), STATUS_OK);
    assert_int_equal(io_addr_parse("10.0.0.1:80", &one), STATUS_OK);
    assert_int_equal(io_addr_parse("10.0.0.2:80", &other), STATUS_OK);
    assert_int_equal(io_addr_parse("10.0.0.1:81", &port), STATUS_OK);
    assert_true(io_addr_reaches(&one, &any));
    assert_true(io_addr_reaches(&one, &one));
    assert_false(io_addr_reaches(&one, &other));
    assert_false(io_addr_reaches(&port, &one));
    assert_false(io_addr_reaches(&port, &any));
}
