// SPDX-License-Identifier: Apache-2.0
// The attempts of an exchange: an endpoint is chosen, a connection to it taken up, and what fails is tried
// again where that does no harm.
#include "net/proxy/protect.h"

// ---- failures and retries ----

static bool retry_within_budget(struct exchange *exchange, const struct proxy_service *service)
{
    struct worker *worker = exchange->worker;
    struct service_load *load = &worker->loads[exchange->service];
    if (exchange->retrying)
        return true; // it holds its place already
    uint32_t allowed = (uint32_t)((uint64_t)load->active * service->retry.budget_percent / 100);
    if (allowed < service->retry.budget_min)
        allowed = service->retry.budget_min;
    if (load->retrying >= allowed) {
        worker_count(worker, PROXY_WORKER_RETRIES_DENIED);
        return false;
    }
    exchange->retrying = true;
    load->retrying++;
    return true;
}

// A request may be sent again when no byte of it has left, or when a pooled connection was found dead before
// a byte of the answer came and the request can be repeated without harm.
static bool retry_allowed(struct exchange *exchange, enum attempt_error error)
{
    const struct proxy_service *service = exchange_service(exchange);
    const struct upstream *upstream = exchange->upstream;
    if (exchange->action != NULL && exchange->action->retry_off)
        return false;
    uint32_t made = exchange->attempts - exchange->canary_attempts;
    if (service == NULL || service->retry.off || made >= service->retry.attempts_max)
        return false;
    bool unsent = upstream != NULL && upstream->connecting;
    bool found_dead = error == ATTEMPT_RESET && upstream != NULL && upstream->uses > 1 && !upstream->answered;
    if (!unsent && !(found_dead && exchange->repeatable))
        return false;
    return retry_within_budget(exchange, service);
}

// No byte of the request has left by this attempt.
static bool reached_nobody(const struct exchange *exchange, enum attempt_error error)
{
    const struct upstream *upstream = exchange->upstream;
    return upstream != NULL ? upstream->connecting : error == ATTEMPT_UNAVAILABLE || error == ATTEMPT_TLS;
}

static unsigned error_status(enum attempt_error error)
{
    if (error == ATTEMPT_TIMEOUT)
        return 504;
    return error == ATTEMPT_UNAVAILABLE ? 503 : 502;
}

void exchange_attempt_failed(struct exchange *exchange, enum attempt_error error, const char *why)
{
    exchange_count_error(exchange, error, why);
    if (exchange->answering) {
        exchange_complete(exchange, FATE_ERROR);
        exchange_cut(exchange);
        return;
    }
    bool again = retry_allowed(exchange, error);
    bool unsent = reached_nobody(exchange, error);
    exchange_drop_upstream(exchange, false);
    if (again) {
        version_count(exchange->counts, PROXY_VERSION_RETRIES, 1);
        exchange_attempt(exchange);
        return;
    }
    if (unsent && protect_fall_back(exchange)) {
        exchange_attempt(exchange);
        return;
    }
    exchange_complete(exchange, FATE_ERROR);
    // What is amiss with its certificate is for operators to know.
    exchange_answer(exchange, error_status(error),
                    error == ATTEMPT_TLS ? "no secure connection to the origin" : why);
}

void exchange_upstream_ended(struct exchange *exchange, enum status status)
{
    if (exchange->tunnel) {
        if (status == STATUS_CLOSED)
            tunnel_upstream_ended(exchange);
        else
            tunnel_close(exchange, true);
        return;
    }
    if (exchange->answering && status == STATUS_CLOSED) {
        response_finish(exchange);
        return;
    }
    const struct upstream *upstream = exchange->upstream;
    const char *why = tls_why(upstream_wire(upstream));
    if (why[0] == '\0')
        why = status == STATUS_CLOSED ? "the origin closed without an answer"
                                      : "the origin reset the connection";
    // In TLS 1.3 an origin refuses our certificate only when the handshake is over for us.
    bool refused = status == STATUS_DENIED && upstream->uses == 1 && !upstream->answered;
    exchange_attempt_failed(exchange, refused ? ATTEMPT_TLS : ATTEMPT_RESET, why);
}

// ---- attempts ----

// The kept head, for an attempt after the first.
static enum status write_again(struct exchange *exchange)
{
    struct io_buf *buf = io_buf_get(exchange->worker->loop);
    if (buf == NULL)
        return STATUS_NO_MEMORY;
    memcpy(buf->data, exchange->head_buf != NULL ? (char *)exchange->head_buf->data : exchange->head,
           exchange->head_len);
    buf->end = exchange->head_len;
    io_chain_push(&exchange->pending, buf);
    return STATUS_OK;
}

// A version without endpoints, or with none in use, fails. One whose endpoints have all the connections that
// we allow does not: that is a limit of ours, and says nothing about it.
static void no_endpoint(struct exchange *exchange, const struct proxy_version *version)
{
    if (version == NULL || protect_none_in_use(exchange->worker, version)) {
        exchange_attempt_failed(exchange, ATTEMPT_UNAVAILABLE, "no endpoint is available");
        return;
    }
    exchange_complete(exchange, FATE_ABORTED);
    exchange_answer(exchange, 503, "all endpoints have as many connections as allowed");
}

static void no_upstream(struct exchange *exchange, const struct pool *pool)
{
    if (pool->secure && pool->client == NULL)
        exchange_attempt_failed(exchange, ATTEMPT_TLS, "the files of its 'tls' cannot be used");
    else
        exchange_starved(exchange);
}

void exchange_not_connected(struct exchange *exchange, const char *plain, const char *shaking)
{
    const struct io_stream *stream = upstream_wire(exchange->upstream);
    const char *why = tls_why(stream);
    if (why[0] == '\0' && tls_shaking(stream))
        why = shaking;
    exchange_attempt_failed(exchange, why[0] != '\0' ? ATTEMPT_TLS : ATTEMPT_CONNECT,
                            why[0] != '\0' ? why : plain);
}

// A protected version may refuse a request before an endpoint is asked. False: the exchange is over, or
// begins again with another version.
static bool admit(struct exchange *exchange, const struct proxy_version *version)
{
    const char *why;
    uint64_t retry_ms;
    if (exchange->admitted || protect_admit(exchange, version, &why, &retry_ms))
        return true;
    exchange_count_error(exchange, ATTEMPT_OPEN, why);
    if (protect_fall_back(exchange)) {
        exchange_attempt(exchange);
        return false;
    }
    exchange_complete(exchange, FATE_ERROR);
    exchange_answer_later(exchange, 503, why, (uint32_t)((retry_ms + 999) / 1000));
    return false;
}

// NULL: it has left. The slot is held for the version that it was assigned to, not for the one it fell back
// to, which must be the stable one still.
static const struct proxy_version *version_of(const struct exchange *exchange)
{
    const struct proxy_service *service = exchange_service(exchange);
    const struct proxy_version *version =
        service == NULL ? NULL : proxy_service_version(service, exchange->version);
    bool other = exchange->fallen_back && version != NULL && version != service->arms[ROLLOUT_ARM_STABLE];
    return UNLIKELY(other) ? NULL : version;
}

// A client that was held back while an earlier attempt had no connection goes on with one that takes it all.
static void let_on_again(struct exchange *exchange)
{
    const struct upstream *upstream = exchange->upstream;
    if (UNLIKELY(!exchange->request_done) && !upstream->connecting &&
        upstream_unsent(upstream) <= SEND_HIGH_BYTES)
        exchange_let_client_on(exchange);
}

void exchange_attempt(struct exchange *exchange)
{
    struct worker *worker = exchange->worker;
    const struct proxy_version *version = version_of(exchange);
    if (UNLIKELY(version != NULL && version->protection != NULL) && !admit(exchange, version))
        return;
    const struct proxy_endpoint *endpoint = version == NULL ? NULL : pool_choose(exchange, version);
    if (UNLIKELY(endpoint == NULL)) {
        no_endpoint(exchange, version);
        return;
    }
    if (exchange->pending.head == NULL && exchange->attempts > 0 && write_again(exchange) != STATUS_OK) {
        exchange_starved(exchange);
        return;
    }
    exchange->outlied = false;
    exchange->tried[exchange->attempts % TRIED_MAX] = endpoint->slot;
    exchange->attempts++;
    version_count(exchange->counts, PROXY_VERSION_ATTEMPTS, 1);
    exchange->attempt_us = worker_now_us(worker);
    exchange->upstream = upstream_take(exchange, endpoint);
    if (exchange->upstream == NULL) {
        no_upstream(exchange, worker->pools[endpoint->slot]);
        return;
    }
    if (exchange->upstream->connecting) // the turn may have begun long ago: that is not the origin's time
        exchange->attempt_us = io_loop_clock_us(worker->loop);
    exchange_send_pending(exchange);
    let_on_again(exchange);
    server_due(exchange->stream, exchange_due(exchange));
}

void exchange_upstream_opened(struct exchange *exchange, enum status status)
{
    if (status != STATUS_OK) {
        exchange_not_connected(exchange, "cannot connect to the origin",
                               "the origin reset the connection within the TLS handshake");
        return;
    }
    uint64_t now_us = worker_now_us(exchange->worker);
    exchange->activity_us = now_us;
    if (exchange->request_done)
        exchange->sent_us = now_us;
    exchange_send_pending(exchange);
    exchange_let_client_on(exchange);
    server_due(exchange->stream, exchange_due(exchange));
}

// Who sends a short body slowly takes no endpoint's connection for it, as long as there are buffers.
static bool gathers(const struct exchange *exchange)
{
    const struct worker *worker = exchange->worker;
    return exchange->gathers && !exchange->request_done && exchange->attempts == 0 &&
           io_loop_stats(worker->loop)->bufs_in_use <= worker->proxy->bufs_max / 2;
}

void exchange_request_flush(struct exchange *exchange)
{
    if (UNLIKELY(gathers(exchange))) {
        server_due(exchange->stream, exchange_due(exchange));
        return;
    }
    // The first attempt is made here: it may fail at once, and the connection can only go on if the request
    // was read to the end.
    if (exchange->attempts == 0)
        exchange_attempt(exchange);
    else
        exchange_send_pending(exchange);
}
