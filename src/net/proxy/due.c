// SPDX-License-Identifier: Apache-2.0
// Deadlines of an exchange: when its time is over, by what it waits for, and what becomes of it then.
#include "net/proxy/proxy_private.h"

static uint64_t after_ms(uint64_t since_us, uint32_t ms)
{
    return since_us + (uint64_t)ms * 1000;
}

// A body must not pause longer than the idle time, and must keep up the least rate once that time is over,
// unless we hold it back.
static uint64_t body_due(const struct exchange *exchange)
{
    uint64_t idle_us = after_ms(exchange->activity_us, exchange->timeouts.idle_ms);
    if (server_paused(exchange->stream))
        return idle_us;
    uint64_t bytes = exchange->request_bytes - exchange->rate_from_bytes;
    uint64_t earned_us = bytes * 1000000 / exchange->worker->table->body_rate_min;
    uint64_t rate_us = after_ms(exchange->rate_from_us, exchange->timeouts.idle_ms) + earned_us;
    return rate_us < idle_us ? rate_us : idle_us;
}

static uint64_t due_without_leaving(const struct exchange *exchange)
{
    const struct proxy_timeouts *timeouts = &exchange->timeouts;
    uint64_t due_us;
    if (exchange->tunnel)
        return after_ms(exchange->activity_us, timeouts->tunnel_ms);
    if (exchange->upstream != NULL && exchange->upstream->connecting)
        due_us = after_ms(exchange->attempt_us, timeouts->connect_ms);
    else if (exchange->answering)
        due_us = after_ms(exchange->activity_us, timeouts->idle_ms);
    else if (!exchange->request_done)
        due_us = body_due(exchange);
    else
        due_us = after_ms(exchange->sent_us, timeouts->first_byte_ms);
    uint64_t total_us = after_ms(exchange->started_us, timeouts->total_ms);
    return timeouts->total_ms != 0 && total_us < due_us ? total_us : due_us;
}

uint64_t exchange_due(const struct exchange *exchange)
{
    uint64_t due_us = due_without_leaving(exchange);
    if (UNLIKELY(exchange->hold_until_us != 0) && exchange->hold_until_us < due_us)
        due_us = exchange->hold_until_us;
    return UNLIKELY(exchange->leave_us != 0) && exchange->leave_us < due_us ? exchange->leave_us : due_us;
}

// What serves it has left, and its time to end by itself is over.
static void leave(struct exchange *exchange)
{
    worker_count(exchange->worker, PROXY_WORKER_DRAINED);
    if (exchange->tunnel) {
        tunnel_close(exchange, false);
        return;
    }
    exchange_complete(exchange, FATE_ABORTED);
    if (exchange->answering)
        exchange_cut(exchange);
    else
        exchange_answer(exchange, 503, "its version was taken back");
}

// The client is what is waited for: it does not send its body, or does not take the answer.
static bool client_stalls(const struct exchange *exchange)
{
    if (exchange->answering)
        return server_unsent(exchange->stream) > 0;
    return !exchange->request_done && !server_paused(exchange->stream);
}

static bool upstream_taking(struct upstream *upstream, uint64_t *mark)
{
    return LIKELY(upstream->session == NULL) ? io_stream_taking(&upstream->stream, mark)
                                             : session_taking(upstream, mark);
}

// Who still takes what the kernel was given is slow, not gone.
static void note_progress(struct exchange *exchange)
{
    uint64_t now_us = worker_now_us(exchange->worker);
    struct upstream *upstream = exchange->upstream;
    bool client = server_taking(exchange->stream, &exchange->client_mark);
    bool origin = upstream != NULL && upstream_taking(upstream, &exchange->upstream_mark);
    if (client || origin)
        exchange->activity_us = now_us;
    if (origin && exchange->request_done)
        exchange->sent_us = now_us;
}

void exchange_on_due(struct exchange *exchange)
{
    note_progress(exchange);
    if (exchange->hold_until_us != 0 && worker_now_us(exchange->worker) >= exchange->hold_until_us)
        exchange_settle(exchange);
    uint64_t due_us = exchange_due(exchange);
    if (worker_now_us(exchange->worker) < due_us) {
        server_due(exchange->stream, due_us);
        return;
    }
    if (exchange->leave_us != 0 && exchange->leave_us <= due_us) {
        leave(exchange);
        return;
    }
    if (exchange->tunnel) {
        tunnel_close(exchange, false);
        return;
    }
    if (exchange->upstream != NULL && exchange->upstream->connecting) {
        upstream_failed(exchange->upstream);
        exchange_not_connected(exchange, "connecting took too long", "the TLS handshake took too long");
        return;
    }
    if (!client_stalls(exchange)) {
        exchange_attempt_failed(exchange, ATTEMPT_TIMEOUT, "the origin took too long");
        return;
    }
    worker_count(exchange->worker, PROXY_WORKER_HEAD_TIMEOUTS);
    exchange_complete(exchange, FATE_ABORTED);
    exchange->close = true;
    if (exchange->answering)
        exchange_cut(exchange);
    else
        exchange_answer(exchange, 408, "request body took too long");
}
