// SPDX-License-Identifier: Apache-2.0
// Addresses as text: "10.0.0.1:80", "[::1]:80", "unix:/path".
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "net/io/io_private.h"

enum { HOST_BYTES = 256, PORT_DIGITS_MAX = 5 };

_Static_assert(sizeof(struct sockaddr_un) <= sizeof(((struct io_addr *)0)->bytes), "room for a unix address");
_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) + sizeof "unix:" <= IO_ADDR_TEXT_BYTES,
               "room for text");

static enum status parse_port(const char *text, in_port_t *port)
{
    uint32_t value = 0;
    size_t digits = strlen(text);
    if (digits == 0 || digits > PORT_DIGITS_MAX)
        return STATUS_INVALID;
    for (size_t i = 0; i < digits; i++) {
        if (text[i] < '0' || text[i] > '9')
            return STATUS_INVALID;
        value = value * 10 + (uint32_t)(text[i] - '0');
    }
    if (value > UINT16_MAX)
        return STATUS_INVALID;
    *port = htons((uint16_t)value);
    return STATUS_OK;
}

// Cuts "host:port" or "[host]:port"; *port points into text.
static enum status cut_host(const char *text, char host[HOST_BYTES], const char **port)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL)
        return STATUS_INVALID;
    const char *start = text;
    const char *end = colon;
    if (*text == '[') {
        if (colon == text || colon[-1] != ']')
            return STATUS_INVALID;
        start++;
        end--;
    }
    size_t len = (size_t)(end - start);
    if (len == 0 || len >= HOST_BYTES || (*text != '[' && memchr(start, ':', len) != NULL))
        return STATUS_INVALID;
    memcpy(host, start, len);
    host[len] = '\0';
    *port = colon + 1;
    return STATUS_OK;
}

static enum status parse_unix(const char *path, struct io_addr *addr)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof un.sun_path)
        return STATUS_INVALID;
    memcpy(un.sun_path, path, len);
    memset(addr, 0, sizeof *addr);
    memcpy(addr->bytes, &un, sizeof un);
    addr->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    return STATUS_OK;
}

// port in network order.
static enum status parse_literal(const char *host, bool ipv6, in_port_t port, struct io_addr *addr)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = port};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = port};
    if (inet_pton(ipv6 ? AF_INET6 : AF_INET, host, ipv6 ? (void *)&in6.sin6_addr : (void *)&in.sin_addr) != 1)
        return STATUS_INVALID;
    memset(addr, 0, sizeof *addr);
    addr->len = ipv6 ? sizeof in6 : sizeof in;
    memcpy(addr->bytes, ipv6 ? (void *)&in6 : (void *)&in, addr->len);
    return STATUS_OK;
}

enum status io_addr_parse_host(const char *text, size_t len, struct io_addr *addr)
{
    char host[INET6_ADDRSTRLEN];
    if (len >= sizeof host)
        return STATUS_INVALID;
    memcpy(host, text, len);
    host[len] = '\0';
    return parse_literal(host, memchr(host, ':', len) != NULL, 0, addr);
}

enum status io_addr_parse(const char *text, struct io_addr *addr)
{
    char host[HOST_BYTES];
    const char *port_text;
    in_port_t port;
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, addr);
    if (cut_host(text, host, &port_text) != STATUS_OK || parse_port(port_text, &port) != STATUS_OK)
        return STATUS_INVALID;
    return parse_literal(host, *text == '[', port, addr);
}

static enum status status_of_lookup(int error)
{
    if (error == EAI_MEMORY)
        return STATUS_NO_MEMORY;
    return error == EAI_AGAIN ? STATUS_TIMEOUT : STATUS_UNREACHABLE;
}

enum status io_addr_resolve(const char *text, struct io_addr *addr)
{
    char host[HOST_BYTES];
    const char *port_text;
    in_port_t port;
    if (io_addr_parse(text, addr) == STATUS_OK)
        return STATUS_OK;
    if (strncmp(text, "unix:", 5) == 0 || *text == '[' || cut_host(text, host, &port_text) != STATUS_OK ||
        parse_port(port_text, &port) != STATUS_OK)
        return STATUS_INVALID;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found;
    int error = getaddrinfo(host, port_text, &hints, &found);
    if (error != 0)
        return status_of_lookup(error);
    memset(addr, 0, sizeof *addr);
    CHECK(found->ai_addrlen <= sizeof addr->bytes);
    addr->len = found->ai_addrlen;
    memcpy(addr->bytes, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return STATUS_OK;
}

uint16_t io_addr_port(const struct io_addr *addr)
{
    struct sockaddr_in in; // the port lies at the same place in both families
    memcpy(&in, addr->bytes, sizeof in);
    return ntohs(in.sin_port);
}

void io_addr_set_port(struct io_addr *addr, uint16_t port)
{
    struct sockaddr_in in;
    memcpy(&in, addr->bytes, sizeof in);
    in.sin_port = htons(port);
    memcpy(addr->bytes, &in, sizeof in);
}

static void format_unix(const struct io_addr *addr, char text[IO_ADDR_TEXT_BYTES])
{
    struct sockaddr_un un = {0};
    memcpy(&un, addr->bytes, sizeof un);
    size_t path_len = addr->len > offsetof(struct sockaddr_un, sun_path)
                          ? strnlen(un.sun_path, addr->len - offsetof(struct sockaddr_un, sun_path))
                          : 0;
    snprintf(text, IO_ADDR_TEXT_BYTES, "unix:%.*s", (int)path_len, un.sun_path);
}

void io_addr_format_host(const struct io_addr *addr, char text[IO_ADDR_TEXT_BYTES])
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    switch (addr->any.sa_family) {
    case AF_INET:
        memcpy(&in, addr->bytes, sizeof in);
        inet_ntop(AF_INET, &in.sin_addr, text, IO_ADDR_TEXT_BYTES);
        return;
    case AF_INET6:
        memcpy(&in6, addr->bytes, sizeof in6);
        inet_ntop(AF_INET6, &in6.sin6_addr, text, IO_ADDR_TEXT_BYTES);
        return;
    default:
        snprintf(text, IO_ADDR_TEXT_BYTES, "unix:");
    }
}

void io_addr_format(const struct io_addr *addr, char text[IO_ADDR_TEXT_BYTES])
{
    char host[IO_ADDR_TEXT_BYTES];
    if (addr->any.sa_family == AF_UNIX) {
        format_unix(addr, text);
        return;
    }
    io_addr_format_host(addr, host);
    snprintf(text, IO_ADDR_TEXT_BYTES, addr->any.sa_family == AF_INET6 ? "[%.100s]:%u" : "%.100s:%u", host,
             (unsigned)io_addr_port(addr));
}

static bool addr_is_any(const struct io_addr *addr)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    if (addr->any.sa_family == AF_INET) {
        memcpy(&in, addr->bytes, sizeof in);
        return in.sin_addr.s_addr == INADDR_ANY;
    }
    memcpy(&in6, addr->bytes, sizeof in6);
    return memcmp(&in6.sin6_addr, &in6addr_any, sizeof in6addr_any) == 0;
}

bool io_addr_reaches(const struct io_addr *wanted, const struct io_addr *listening)
{
    if (listening->any.sa_family != wanted->any.sa_family)
        return false;
    bool same = listening->len == wanted->len && memcmp(listening->bytes, wanted->bytes, wanted->len) == 0;
    if (wanted->any.sa_family == AF_UNIX)
        return same;
    return same || (io_addr_port(listening) == io_addr_port(wanted) && addr_is_any(listening));
}

bool io_addr_site(const struct io_addr *addr, uint8_t site[8])
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    memset(site, 0, 8);
    if (addr->any.sa_family == AF_INET) {
        memcpy(&in, addr->bytes, sizeof in);
        memcpy(site, &in.sin_addr, 4);
    } else if (addr->any.sa_family == AF_INET6) {
        memcpy(&in6, addr->bytes, sizeof in6);
        bool is_mapped = memcmp(&in6.sin6_addr, mapped, sizeof mapped) == 0;
        memcpy(site, in6.sin6_addr.s6_addr + (is_mapped ? 12 : 0), is_mapped ? 4 : 8);
    } else {
        return false;
    }
    return true;
}
