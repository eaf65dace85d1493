// SPDX-License-Identifier: Apache-2.0
// After 101: bytes both ways, unread, until both sides ended, one failed, or nothing came for too long.
#include "net/proxy/proxy_private.h"

void tunnel_gone(struct exchange *exchange)
{
    worker_count(exchange->worker, PROXY_WORKER_TUNNELS_CLOSED);
    exchange->erred = false; // whoever broke the tunnel, its request was served
}

void tunnel_close(struct exchange *exchange, bool reset)
{
    if (reset) {
        tunnel_gone(exchange);
        exchange_cut(exchange);
        return;
    }
    worker_count(exchange->worker, PROXY_WORKER_TUNNELS_CLOSED);
    exchange_end(exchange, false);
}

static void send_to_upstream(struct exchange *exchange, struct io_buf *buf)
{
    struct io_stream *upstream = &exchange->upstream->stream;
    exchange->request_bytes += io_buf_len(buf);
    io_stream_send(upstream, buf);
    if (io_stream_pending(upstream) > SEND_HIGH_BYTES)
        server_pause(exchange->stream);
}

void tunnel_open(struct exchange *exchange, struct io_buf *early, struct io_buf *rest)
{
    struct worker *worker = exchange->worker;
    exchange->status = 101;
    exchange->tunnel = true;
    worker_count(worker, PROXY_WORKER_ANSWERED);
    worker_count(worker, PROXY_WORKER_TUNNELS_OPENED);
    version_count(exchange->counts, PROXY_VERSION_UPGRADES, 1);
    exchange_complete(exchange, FATE_OK);
    exchange->answering = true;
    exchange->activity_us = worker_now_us(worker);
    server_due(exchange->stream, exchange_due(exchange));
    struct io_chain trusting = {early, NULL}; // the client sent it behind its request
    io_chain_send(&trusting, &exchange->upstream->stream);
    if (server_is_half_closed(exchange->stream))
        tunnel_client_ended(exchange);
    tunnel_upstream_data(exchange, rest);
}

void tunnel_client_data(struct exchange *exchange, struct io_buf *buf)
{
    exchange->activity_us = worker_now_us(exchange->worker);
    send_to_upstream(exchange, buf);
}

void tunnel_upstream_data(struct exchange *exchange, struct io_buf *buf)
{
    exchange->activity_us = worker_now_us(exchange->worker);
    exchange->response.total += io_buf_len(buf);
    struct slice run = {(char *)buf->data + buf->start, io_buf_len(buf)};
    enum status status = run.len > 0 ? server_data(exchange->stream, run, &buf) : STATUS_OK;
    io_buf_put(buf);
    if (status != STATUS_OK) {
        tunnel_close(exchange, true);
        return;
    }
    server_flush(exchange->stream);
    if (server_unsent(exchange->stream) > SERVER_UNSENT_HIGH)
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
    server_half_close(exchange->stream);
    tunnel_upstream_drained(exchange);
}

// Over when both have ended and the origin has been given all; the client's last bytes are its linger's care.
void tunnel_upstream_drained(struct exchange *exchange)
{
    if (exchange->tunnel_client_ended && exchange->tunnel_upstream_ended &&
        io_stream_pending(&exchange->upstream->stream) == 0)
        tunnel_close(exchange, false);
    else
        server_resume(exchange->stream);
}
