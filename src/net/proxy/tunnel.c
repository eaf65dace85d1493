// SPDX-License-Identifier: Apache-2.0
// After 101: bytes both ways, unread, until both sides ended, one failed, or nothing came for too long.
#include "net/proxy/proxy_private.h"

static struct worker *worker_of(const struct exchange *exchange)
{
    return exchange->client->worker;
}

void tunnel_close(struct exchange *exchange, bool reset)
{
    struct client *client = exchange->client;
    worker_count(client->worker, PROXY_WORKER_TUNNELS_CLOSED);
    if (!reset) {
        exchange_end(exchange, false, false);
        return;
    }
    exchange->erred = false; // and whoever broke the tunnel, its request was served
    exchange_cut(exchange);
}

void tunnel_open(struct exchange *exchange, struct io_buf *rest)
{
    struct client *client = exchange->client;
    struct worker *worker = client->worker;
    exchange->status = 101;
    exchange->tunnel = true;
    worker_count(worker, PROXY_WORKER_ANSWERED);
    worker_count(worker, PROXY_WORKER_TUNNELS_OPENED);
    version_count(exchange->counts, PROXY_VERSION_UPGRADES, 1);
    exchange_complete(exchange, FATE_OK);
    exchange->answering = true;
    exchange->keep_client = false;
    exchange->activity_us = worker_now_us(worker);
    struct chain first = {rest, rest};
    chain_send(&first, &client->stream);
    client_due(client, exchange_due(exchange));
    // What the client sent behind its request, trusting the switch.
    struct chain early = {client->held, NULL};
    client->held = NULL;
    chain_send(&early, &exchange->upstream->stream);
    client_resume(client);
    if (client->ended)
        tunnel_client_ended(exchange);
}

void tunnel_client_data(struct exchange *exchange, struct io_buf *buf)
{
    exchange->activity_us = worker_now_us(worker_of(exchange));
    exchange->request.body.total += io_buf_len(buf);
    io_stream_send(&exchange->upstream->stream, buf);
    if (io_stream_pending(&exchange->upstream->stream) > SEND_HIGH_BYTES)
        client_pause(exchange->client);
}

void tunnel_upstream_data(struct exchange *exchange, struct io_buf *buf)
{
    exchange->activity_us = worker_now_us(worker_of(exchange));
    exchange->response.body.total += io_buf_len(buf);
    io_stream_send(&exchange->client->stream, buf);
    if (io_stream_pending(&exchange->client->stream) > SEND_HIGH_BYTES)
        upstream_pause(exchange->upstream);
}

void tunnel_client_ended(struct exchange *exchange)
{
    exchange->tunnel_client_ended = true;
    io_stream_finish(&exchange->upstream->stream);
    tunnel_upstream_drained(exchange);
}

void tunnel_upstream_ended(struct exchange *exchange)
{
    exchange->tunnel_upstream_ended = true;
    io_stream_finish(&exchange->client->stream);
    tunnel_upstream_drained(exchange);
}

// Over when both have ended and the origin has been given all; the client's last bytes are its linger's care.
void tunnel_upstream_drained(struct exchange *exchange)
{
    if (exchange->tunnel_client_ended && exchange->tunnel_upstream_ended &&
        io_stream_pending(&exchange->upstream->stream) == 0)
        tunnel_close(exchange, false);
    else
        client_resume(exchange->client);
}
