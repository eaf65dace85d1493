// SPDX-License-Identifier: Apache-2.0
// http: headers of the PROXY protocol, whole, in pieces, and what is none.
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "net/http/proxy_header.h"
#include "test.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define FOUR "\xcb\0q\7\xc0\0\2\1\x9c\x41\1\xbb" // 203.0.113.7 to 192.0.2.1, 40001 to 443
#define SIX                                                                                                  \
    " \1\r\xb8\0\0\0\0\0\0\0\0\0\0\0\7 \1\r\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x9c\x41\1\xbb" // 2001:db8::7, ::1

static struct http_proxy_header told;

// What every shorter part of it gives as well: more is awaited.
static void expect(const char *data, size_t len, const char *address, uint16_t port)
{
    char text[INET6_ADDRSTRLEN] = "nobody";
    size_t used = 0;
    for (size_t i = 0; i < len; i++)
        assert_int_equal(http_proxy_header_read(data, i, &told, &used), STATUS_AGAIN);
    assert_int_equal(http_proxy_header_read(data, len, &told, &used), STATUS_OK);
    assert_int_equal(used, len);
    if (told.family != HTTP_PROXY_NOBODY) {
        inet_ntop(told.family == HTTP_PROXY_IPV4 ? AF_INET : AF_INET6, told.address, text, sizeof text);
        assert_int_equal(told.port, port);
    }
    assert_string_equal(text, address);
}

static void refuse(const char *data, size_t len)
{
    size_t used = 0;
    if (http_proxy_header_read(data, len, &told, &used) != STATUS_INVALID)
        fail_msg("\"%.*s\" is no header", (int)len, data);
}

#define EXPECT(literal, address, port) expect(literal, sizeof(literal) - 1, address, port)
#define REFUSE(literal) refuse(literal, sizeof(literal) - 1)

TEST(version_1)
{
    EXPECT("PROXY TCP4 203.0.113.7 192.0.2.1 40001 443\r\n", "203.0.113.7", 40001);
    EXPECT("PROXY TCP6 2001:db8::7 2001:db8::1 0 65535\r\n", "2001:db8::7", 0);
    EXPECT("PROXY UNKNOWN\r\n", "nobody", 0);
    EXPECT("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "nobody", 0);
}

TEST(version_2)
{
    EXPECT(SIGNATURE "\x21\x11\0\x0c" FOUR, "203.0.113.7", 40001);
    EXPECT(SIGNATURE "\x21\x21\0\x24" SIX, "2001:db8::7", 40001);
    EXPECT(SIGNATURE "\x21\x11\0\x13" FOUR "\x04\0\4abcd", "203.0.113.7", 40001); // an extension is skipped
    EXPECT(SIGNATURE "\x20\x11\0\x0c" FOUR, "nobody", 0);                         // LOCAL: a check of health
    EXPECT(SIGNATURE "\x20\0\0\0", "nobody", 0);
    EXPECT(SIGNATURE "\x21\0\0\3abc", "nobody", 0);
    EXPECT(SIGNATURE "\x21\x31\0\3abc", "nobody", 0); // a unix socket
}

TEST(what_follows_is_left)
{
    static const char text[] =
        "PROXY TCP4 203.0.113.7 192.0.2.1 40001 443\r\nPROXY TCP4 6.6.6.6 6.6.6.6 1 1\r\n";
    size_t used = 0;
    assert_int_equal(http_proxy_header_read(text, sizeof text - 1, &told, &used), STATUS_OK);
    assert_int_equal(used, 44);
    assert_int_equal(told.address[0], 203);
}

TEST(no_headers)
{
    REFUSE("GET / HTTP/1.1\r\n");
    REFUSE("PROXX");
    REFUSE("proxy TCP4 203.0.113.7 192.0.2.1 40001 443\r\n");
    REFUSE("PROXY TCP4 203.0.113.7 192.0.2.1 40001 443\n");
    REFUSE("PROXY\r\n");
    REFUSE("PROXY \r\n");
    REFUSE("PROXY TCP4\r\n");
    REFUSE("PROXY TCP4 203.0.113.7 192.0.2.1 40001\r\n");
    REFUSE("PROXY TCP4 203.0.113.7 192.0.2.1 40001 443 1\r\n");
    REFUSE("PROXY TCP4  203.0.113.7 192.0.2.1 40001 443\r\n");
    REFUSE("PROXY TCP4 203.0.113.7 192.0.2.1 40001 65536\r\n");
    REFUSE("PROXY TCP4 203.0.113.7 192.0.2.1 040001 443\r\n");
    REFUSE("PROXY TCP4 203.0.113.7 192.0.2.1 -1 443\r\n");
    REFUSE("PROXY TCP4 203.0.113 192.0.2.1 40001 443\r\n");
    REFUSE("PROXY TCP4 203.0.113.7\0 192.0.2.1 40001 443\r\n");
    REFUSE("PROXY TCP4 2001:db8::7 2001:db8::1 40001 443\r\n");
    REFUSE("PROXY TCP6 203.0.113.7 192.0.2.1 40001 443\r\n");
    REFUSE("PROXY UDP4 203.0.113.7 192.0.2.1 40001 443\r\n");
    REFUSE(SIGNATURE "\x11"); // a version that is none
    REFUSE(SIGNATURE "\x22");
    REFUSE(SIGNATURE "\x21\x12\0\x0c" FOUR); // UDP
    REFUSE(SIGNATURE "\x21\x11\0\x0b" FOUR); // cut short
    REFUSE(SIGNATURE "\x21\x21\0\x0c" FOUR); // IPv6 with the addresses of IPv4
    REFUSE("\r\n\r\n\0\r\nQUIX");
}

TEST(what_is_written_is_read_back)
{
    static const struct http_proxy_header targets[] = {
        {.family = HTTP_PROXY_IPV4, .address = {192, 0, 2, 1}, .port = 443},
        {.family = HTTP_PROXY_IPV6, .address = {0x20, 0x01, 0x0d, 0xb8, [15] = 1}, .port = 443}};
    static const struct http_proxy_header clients[] = {
        {.family = HTTP_PROXY_IPV4, .address = {203, 0, 113, 7}, .port = 40001},
        {.family = HTTP_PROXY_IPV6, .address = {0x20, 0x01, 0x0d, 0xb8, [15] = 7}, .port = 40001}};
    char out[HTTP_PROXY_HEADER_V1_BYTES_MAX];
    for (unsigned version = 1; version <= 2; version++)
        for (int i = 0; i < 4; i++) {
            size_t len = http_proxy_header_write(version, &clients[i / 2], &targets[i % 2], out);
            expect(out, len, i / 2 == 0 ? "203.0.113.7" : "2001:db8::7", 40001);
        }
    size_t len = http_proxy_header_write(2, &clients[0], &targets[0], out);
    assert_int_equal(len, 28);
    assert_memory_equal(out, SIGNATURE "\x21\x11\0\x0c" FOUR, 28);
    len = http_proxy_header_write(1, &clients[0], &targets[0], out);
    assert_memory_equal(out, "PROXY TCP4 203.0.113.7 192.0.2.1 40001 443\r\n", len);
    len = http_proxy_header_write(1, &clients[1], &targets[0], out);
    assert_memory_equal(out, "PROXY TCP6 2001:db8::7 :: 40001 443\r\n", len);
    const struct http_proxy_header nobody = {.family = HTTP_PROXY_NOBODY};
    for (unsigned version = 1; version <= 2; version++) {
        len = http_proxy_header_write(version, &nobody, &targets[0], out);
        expect(out, len, "nobody", 0);
    }
}

TEST(lengths_are_bounded)
{
    char line[HTTP_PROXY_HEADER_V1_BYTES_MAX + 1];
    size_t used = 0;
    memset(line, 'x', sizeof line);
    memcpy(line, "PROXY UNKNOWN ", 14);
    memcpy(line + HTTP_PROXY_HEADER_V1_BYTES_MAX - 2, "\r\n", 2);
    assert_int_equal(http_proxy_header_read(line, HTTP_PROXY_HEADER_V1_BYTES_MAX, &told, &used), STATUS_OK);
    memcpy(line + HTTP_PROXY_HEADER_V1_BYTES_MAX - 2, "x\r\n", 3);
    assert_int_equal(http_proxy_header_read(line, HTTP_PROXY_HEADER_V1_BYTES_MAX - 1, &told, &used),
                     STATUS_AGAIN);
    refuse(line, sizeof line);
    REFUSE(SIGNATURE "\x21\x11\x3f\xf1");
    assert_int_equal(http_proxy_header_read(SIGNATURE "\x21\x11\x3f\xf0", 16, &told, &used), STATUS_AGAIN);
}
