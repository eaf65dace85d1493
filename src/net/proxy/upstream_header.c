// SPDX-License-Identifier: Apache-2.0
// Connections to endpoints that are told by a PROXY header whose they are. Each belongs to one client's
// connection: it serves that client's requests, and nobody else's ever.
#include <netinet/in.h>
#include <string.h>

#include "net/io/filter.h"
#include "net/proxy/proxy_private.h"

static void fill(const struct io_addr *addr, enum http_proxy_family *family, uint8_t bytes[16],
                 uint16_t *port)
{
    struct sockaddr_in in; // the port lies at the same place in both families
    struct sockaddr_in6 in6;
    *family = HTTP_PROXY_NOBODY;
    memcpy(&in, addr->bytes, sizeof in);
    memcpy(&in6, addr->bytes, sizeof in6);
    if (addr->any.sa_family == AF_INET) {
        *family = HTTP_PROXY_IPV4;
        memcpy(bytes, &in.sin_addr, 4);
    } else if (addr->any.sa_family == AF_INET6) {
        *family = HTTP_PROXY_IPV6;
        memcpy(bytes, &in6.sin6_addr, 16);
    } else {
        return;
    }
    *port = ntohs(in.sin_port);
}

// The address as far as it can be believed; the port is the connection's, and of no use where a proxy told
// us.
static struct http_proxy_header header_of(const struct exchange *exchange)
{
    struct http_proxy_header header = {.family = HTTP_PROXY_NOBODY};
    struct io_addr client, connection;
    if (io_addr_parse_host(exchange->client.data, exchange->client.len, &client) != STATUS_OK)
        return header;
    if (exchange->client.data != exchange->client_text &&
        server_peer(exchange->stream, &connection) == STATUS_OK)
        io_addr_set_port(&client, io_addr_port(&connection));
    fill(&client, &header.family, header.address, &header.port);
    return header;
}

static bool is_same(const struct http_proxy_header *a, const struct http_proxy_header *b)
{
    return a->family == b->family && a->port == b->port &&
           memcmp(a->address, b->address, sizeof a->address) == 0;
}

// Where the client's connection came to; what its listener is bound to.
static struct http_proxy_header target_of(const struct exchange *exchange)
{
    struct http_proxy_header target = {.family = HTTP_PROXY_NOBODY};
    struct io_addr listener;
    server_addr(exchange->stream->server, server_listener_number(exchange->stream), &listener);
    fill(&listener, &target.family, target.address, &target.port);
    return target;
}

struct upstream *upstream_header_idle(const struct exchange *exchange, struct pool *pool,
                                      const struct proxy_endpoint *endpoint)
{
    struct http_proxy_header header = header_of(exchange);
    for (struct list *link = pool->idle.next; link != &pool->idle; link = link->next) {
        struct upstream *upstream = CONTAINER_OF(link, struct upstream, link);
        if (is_same(&upstream->whose, &header))
            return upstream;
    }
    // A place that another client's connection holds idle.
    if (pool->open >= endpoint->connections_max && !list_empty(&pool->idle))
        upstream_close(CONTAINER_OF(pool->idle.prev, struct upstream, link));
    return NULL;
}

bool upstream_header_say(const struct exchange *exchange, struct upstream *upstream)
{
    struct http_proxy_header target = target_of(exchange);
    struct io_buf *buf = io_buf_get(exchange->worker->loop);
    if (buf == NULL)
        return false;
    upstream->whose = header_of(exchange);
    buf->end = (uint32_t)http_proxy_header_write(upstream->pool->header, &upstream->whose, &target,
                                                 (char *)buf->data);
    io_filter_send(&upstream->stream, buf); // before whatever encrypts the rest
    return true;
}
