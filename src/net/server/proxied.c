// SPDX-License-Identifier: Apache-2.0
// The PROXY header before all else that a connection says: who its client is. Until it has come the
// connection has neither TLS nor a protocol, and counts for nobody's share.
#include "net/http/proxy_header.h"

#include <netinet/in.h>
#include <string.h>

#include "net/io/filter.h"
#include "net/server/server_private.h"

static struct io_addr address_of(const struct http_proxy_header *header)
{
    struct io_addr addr;
    memset(&addr, 0, sizeof addr);
    if (header->family == HTTP_PROXY_IPV4) {
        struct sockaddr_in in = {.sin_family = AF_INET};
        memcpy(&in.sin_addr, header->address, sizeof in.sin_addr);
        memcpy(addr.bytes, &in, sizeof in);
        addr.len = sizeof in;
    } else {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
        memcpy(&in6.sin6_addr, header->address, sizeof in6.sin6_addr);
        memcpy(addr.bytes, &in6, sizeof in6);
        addr.len = sizeof in6;
    }
    io_addr_set_port(&addr, header->port);
    return addr;
}

// What stands behind the header is TLS, or the first request.
static void go_on(struct connection *c, struct io_buf *rest)
{
    if (c->io.filter == NULL && c->state == CONNECTION_OPEN)
        c->held = rest;
    else if (c->io.filter == NULL)
        io_held_put(rest);
    connection_leave(c);
    while (c->io.filter != NULL && rest != NULL) {
        struct io_buf *next = rest->next;
        io_filter_receive(&c->io, rest);
        rest = next;
    }
}

static void connection_told(struct connection *c, const struct http_proxy_header *header, uint32_t header_len)
{
    struct io_buf *rest = io_held_skip(c->held, header_len);
    c->held = NULL;
    c->head_started = false;
    c->untold = false;
    if (!connection_secure(c)) {
        connection_close(c, true);
    } else {
        // The time of a header is also that of the handshake behind it.
        if (c->io.filter == NULL)
            connection_wait(c);
        if (header->family != HTTP_PROXY_NOBODY) {
            struct io_addr client = address_of(header);
            connection_belongs(c, &client);
            (void)connection_enter(c, &client);
        }
    }
    go_on(c, rest);
}

void connection_hear(struct connection *c, struct io_buf *buf)
{
    struct http_proxy_header header;
    size_t header_len;
    enum status status;
    c->held = io_held_join(c->held, buf);
    do {
        status = http_proxy_header_read((const char *)c->held->data + c->held->start, io_buf_len(c->held),
                                        &header, &header_len);
    } while (status == STATUS_AGAIN && io_held_pull(c->held));
    if (status == STATUS_AGAIN) {
        if (!c->head_started)
            c->stream.begun_us = connection_now_us(c);
        c->head_started = true;
        return;
    }
    c->busy = true;
    if (status == STATUS_OK) {
        connection_told(c, &header, (uint32_t)header_len);
        return;
    }
    connection_refuse(c, SERVER_REFUSAL_PROXY, 400, "malformed PROXY header");
    connection_leave(c);
}
