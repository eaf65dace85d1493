// SPDX-License-Identifier: Apache-2.0
// One request and its answer: routed once, tried once or more, completed exactly once. Invariant: every
// sheet_route has its sheet_complete, and every counted request its PROXY_VERSION_COMPLETED, whatever way the
// exchange ends.
#include "net/proxy/assign.h"
#include "net/proxy/proxy_private.h"

static struct worker *worker_of(const struct exchange *exchange)
{
    return exchange->client->worker;
}

static void exchange_attempt(struct exchange *exchange);

// What the table in force says of the exchange's service; NULL when it has gone.
static const struct proxy_service *exchange_service(const struct exchange *exchange)
{
    const struct proxy_table *table = worker_of(exchange)->table;
    return table == NULL ? NULL : table->by_slot[exchange->service];
}

static struct event_where exchange_where(const struct exchange *exchange)
{
    uint16_t endpoint =
        exchange->attempts == 0 ? PROXY_SLOT_NONE : exchange->tried[(exchange->attempts - 1) % TRIED_MAX];
    return (struct event_where){exchange->service, exchange->version, endpoint};
}

// ---- assignment ----

// A version an operator asked for by name. NULL: none asked for, not believed, or unknown.
static const struct proxy_version *forced_version(struct exchange *exchange,
                                                  const struct proxy_service *service)
{
    struct worker *worker = worker_of(exchange);
    struct http_fields *fields = &worker->request.fields;
    if (LIKELY((fields->present >> HTTP_FIELD_X_SLUICE & 1) == 0) || worker->table->operator_count == 0)
        return NULL;
    const struct http_field *field = http_fields_find_name(fields, SLICE("x-sluice-version"));
    struct io_addr peer;
    if (field == NULL || io_stream_peer(&exchange->client->stream, &peer) != STATUS_OK)
        return NULL;
    if (!proxy_table_operator(worker->table, &peer))
        return NULL;
    exchange->operator_sent = true;
    return proxy_service_version_named(service, field->value);
}

// Our own cookie: its unit if it is valid and of this epoch, else a new one, which the answer will carry.
static uint64_t sticky_unit(struct exchange *exchange, const struct proxy_service *service)
{
    struct worker *worker = worker_of(exchange);
    struct slice value;
    uint64_t unit;
    if (http_cookie_find(&worker->request.fields, service->unit_name, &value) == STATUS_OK &&
        assign_cookie_read(service->cookie_key, service->epoch, value, &unit) == STATUS_OK)
        return unit;
    if (exchange->set_cookie)
        return exchange->unit_cookie; // drawn already, for the flags
    exchange->set_cookie = true;
    exchange->unit_cookie = rng_next(&worker->rng);
    return exchange->unit_cookie;
}

static inline bool unit_of(struct exchange *exchange, const struct proxy_service *service, uint64_t *sticky,
                           struct slice *unit)
{
    struct worker *worker = worker_of(exchange);
    const struct http_fields *fields = &worker->request.fields;
    const struct http_field *field;
    switch (service->unit) {
    case PROXY_UNIT_REQUEST:
        return false;
    case PROXY_UNIT_HEADER:
        field = http_fields_find_name(fields, service->unit_name);
        if (field != NULL)
            *unit = field->value;
        return field != NULL && field->value.len > 0;
    case PROXY_UNIT_COOKIE:
        return http_cookie_find(fields, service->unit_name, unit) == STATUS_OK && unit->len > 0;
    case PROXY_UNIT_ADDRESS:
        *unit = http_client_address(fields, worker->table->trusted_hops, client_address(exchange->client));
        return unit->len > 0;
    case PROXY_UNIT_STICKY:
        *sticky = sticky_unit(exchange, service);
        *unit = (struct slice){(const char *)sticky, sizeof *sticky};
        return true;
    }
    return false;
}

bool exchange_unit(struct exchange *exchange, const struct proxy_service *service, uint64_t *sticky,
                   struct slice *unit)
{
    return unit_of(exchange, service, sticky, unit);
}

// Names the unit for the once-per-unit counts. Returns its hash.
static inline uint64_t set_unit(struct exchange *exchange, const struct proxy_service *service,
                                struct slice unit)
{
    uint64_t hash = siphash(service->salt, unit.data, unit.len);
    uint64_t mix = service->epoch ^ (uint64_t)service->slot << 48;
    exchange->unit_hash = hash ^ rng_splitmix(&mix);
    return hash;
}

static enum rollout_arm assign(struct exchange *exchange, const struct proxy_service *service)
{
    struct worker *worker = worker_of(exchange);
    struct slice unit;
    uint64_t sticky;
    uint32_t bucket;
    exchange->keyed = unit_of(exchange, service, &sticky, &unit);
    if (exchange->keyed) {
        bucket = assign_bucket_of_hash(set_unit(exchange, service, unit));
    } else if (service->weight == 0 && service->weight_control == 0) {
        return ROLLOUT_ARM_STABLE;
    } else {
        bucket = assign_bucket_random(&worker->rng);
    }
    return assign_arm(bucket, service->weight, service->weight_control);
}

// Makes the request evidence of that arm, or counts it in the ring.
static inline void enter_arm(struct exchange *exchange, const struct proxy_service *service, uint32_t place)
{
    struct worker *worker = worker_of(exchange);
    exchange->place = (uint8_t)place;
    bool first = true;
    if (exchange->keyed)
        first = sheet_unit_first(worker->proxy->seen[service->slot], exchange->unit_hash);
    exchange->span =
        sheet_route(exchange->sheet, worker->tick, worker->table->version, service, place, first);
}

static const struct proxy_version *route_by_lot(struct exchange *exchange,
                                                const struct proxy_service *service)
{
    enum rollout_arm arm = assign(exchange, service);
    enter_arm(exchange, service, arm);
    return service->arms[arm];
}

// A rollout of a flag moves no request: the arm is what the flag's split made of the targeting key. That is
// drawn by lot even where the same flag then chooses the version.
static void enter_split_arm(struct exchange *exchange, const struct proxy_service *service)
{
    struct slice key;
    enum flags_arm arm = request_flags_arm(exchange, service, &key);
    if (arm == FLAGS_ARM_NONE)
        return;
    exchange->keyed = true;
    (void)set_unit(exchange, service, key);
    static const uint8_t places[] = {[FLAGS_ARM_FROM] = ROLLOUT_ARM_STABLE,
                                     [FLAGS_ARM_TO] = ROLLOUT_ARM_CANARY,
                                     [FLAGS_ARM_RING] = SHEET_RING};
    enter_arm(exchange, service, places[arm]);
}

// Not inlined: it is off the path of services without flags.
__attribute__((noinline)) static const struct proxy_version *
route_by_flags(struct exchange *exchange, const struct proxy_service *service)
{
    const struct proxy_version *version = request_flags_version(exchange, service);
    bool flagged = version != NULL;
    bool split = service->flags->arm_flag != PROXY_FLAG_NONE;
    if (split)
        enter_split_arm(exchange, service);
    if (!flagged)
        return split ? service->arms[ROLLOUT_ARM_STABLE] : route_by_lot(exchange, service);
    version_count(worker_of(exchange)->versions[version->slot], PROXY_VERSION_FLAGGED, 1);
    return version;
}

// Settles version and arm and counts the request as routed.
static const struct proxy_version *exchange_route(struct exchange *exchange,
                                                  const struct proxy_service *service)
{
    struct worker *worker = worker_of(exchange);
    const struct proxy_version *version = forced_version(exchange, service);
    exchange->span = SHEET_SPAN_NONE;
    exchange->sheet = worker->sheets[service->slot];
    if (UNLIKELY(service->flags != NULL)) {
        request_flags_begin(worker, true);
        exchange->flag_fields = service->flags->header_count > 0;
    }
    if (UNLIKELY(version != NULL))
        version_count(worker->versions[version->slot], PROXY_VERSION_FORCED, 1);
    else if (UNLIKELY(service->flags != NULL))
        version = route_by_flags(exchange, service);
    else
        version = route_by_lot(exchange, service);
    exchange->counts = worker->versions[version->slot];
    exchange->version = version->slot;
    version_count(exchange->counts, PROXY_VERSION_REQUESTS, 1);
    worker->loads[service->slot].active++;
    return version;
}

// ---- accounting ----

void exchange_count_error(struct exchange *exchange, enum attempt_error error, const char *why)
{
    struct worker *worker = worker_of(exchange);
    const struct proxy_service *service = exchange_service(exchange);
    bool event = !exchange->event_counted;
    if (event && exchange->keyed) {
        uint64_t window_us = service == NULL ? 0 : service->yardstick.error_window_us;
        uint64_t tick_us = ROLLOUT_TICK_MS * 1000;
        event = sheet_error_first(worker->proxy->errors, exchange->unit_hash, worker->tick,
                                  (window_us + tick_us - 1) / tick_us);
    }
    exchange->event_counted = true;
    exchange->erred = true;
    version_count(exchange->counts, PROXY_VERSION_ERRORS, 1);
    version_count(exchange->counts, (enum proxy_version_counter)error, 1);
    if (event)
        version_count(exchange->counts, PROXY_VERSION_ERROR_EVENTS, 1);
    sheet_error(exchange->sheet, exchange->span, exchange->place, event);
    if (error != ATTEMPT_5XX)
        worker_event(worker, PROXY_EVENT_UPSTREAM, 0, why, client_address(exchange->client),
                     exchange_where(exchange));
}

void exchange_complete(struct exchange *exchange, enum exchange_fate fate)
{
    if (exchange->completed)
        return;
    exchange->completed = true;
    uint64_t elapsed_us = worker_now_us(worker_of(exchange)) - exchange->started_us;
    // A client that left early was at least kept waiting so long, unless it was itself what was waited for.
    struct sheet_outcome outcome = {.elapsed_us = elapsed_us,
                                    .ok = fate == FATE_OK && exchange->status < 500,
                                    .measured = fate != FATE_ABORTED || exchange->request_done};
    bool good = outcome.ok && elapsed_us <= exchange->deadline_us;
    if (exchange->span != SHEET_SPAN_NONE)
        (void)sheet_complete(exchange->sheet, exchange->span, exchange->place, &outcome);
    if (good)
        version_count(exchange->counts, PROXY_VERSION_GOOD, 1);
    if (fate == FATE_ABORTED)
        version_count(exchange->counts, PROXY_VERSION_ABORTED, 1);
    else if (exchange->answering && !exchange->tunnel)
        version_latency_record(exchange->counts, elapsed_us);
    version_count(exchange->counts, PROXY_VERSION_COMPLETED, 1);
}

// ---- the end ----

static void exchange_free(struct exchange *exchange)
{
    struct worker *worker = worker_of(exchange);
    CHECK(exchange->completed && exchange->upstream == NULL);
    struct service_load *load = &worker->loads[exchange->service];
    load->active--;
    if (exchange->retrying)
        load->retrying--;
    version_count(exchange->counts, PROXY_VERSION_BYTES_IN, exchange->request.body.total);
    version_count(exchange->counts, PROXY_VERSION_BYTES_OUT, exchange->response.body.total);
    io_buf_put(exchange->head_buf);
    body_relay_end(&exchange->request);
    body_relay_end(&exchange->response);
    chain_put(&exchange->pending);
    free_list_put(&worker->free_exchanges, exchange);
}

static void exchange_drop_upstream(struct exchange *exchange, bool reuse)
{
    struct upstream *upstream = exchange->upstream;
    if (upstream == NULL)
        return;
    exchange->upstream = NULL;
    if (reuse)
        upstream_give_back(upstream);
    else
        upstream_close(upstream);
}

void exchange_end(struct exchange *exchange, bool reuse_upstream, bool keep_client)
{
    struct client *client = exchange->client;
    exchange_drop_upstream(exchange, reuse_upstream);
    exchange_free(exchange);
    client_exchange_over(client, keep_client);
}

void exchange_cut(struct exchange *exchange)
{
    struct client *client = exchange->client;
    struct worker *worker = client->worker;
    if (!exchange->tunnel)
        worker_count(worker, exchange->answering ? PROXY_WORKER_CUT : PROXY_WORKER_ABORTED);
    if (exchange->answering && exchange->erred)
        worker_event(worker, PROXY_EVENT_CUT, 0, "the answer broke off", client_address(client),
                     exchange_where(exchange));
    exchange_drop_upstream(exchange, false);
    exchange_free(exchange);
    client->exchange = NULL;
    client_close(client, true);
}

// Answers for the origin. The client's connection goes on if its request was read to the end.
static void exchange_answer(struct exchange *exchange, unsigned status, const char *why)
{
    struct client *client = exchange->client;
    bool keep = exchange->keep_client && exchange->request_done && !exchange->http10;
    worker_event(client->worker, PROXY_EVENT_LOCAL, (uint16_t)status, why, client_address(client),
                 exchange_where(exchange));
    keep = client_answer_local(client, status, why, exchange->method == HTTP_METHOD_HEAD, keep);
    exchange_end(exchange, false, keep);
}

void exchange_starved(struct exchange *exchange)
{
    exchange_complete(exchange, FATE_ABORTED);
    if (exchange->answering)
        exchange_cut(exchange);
    else
        exchange_answer(exchange, 503, "out of buffers");
}

void exchange_client_failed(struct exchange *exchange)
{
    if (exchange->tunnel) {
        tunnel_close(exchange, true);
        return;
    }
    exchange_complete(exchange, FATE_ABORTED);
    exchange_cut(exchange);
}

// ---- failures and retries ----

static bool retry_within_budget(struct exchange *exchange, const struct proxy_service *service)
{
    struct worker *worker = worker_of(exchange);
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
    if (service == NULL || service->retry.off || exchange->attempts >= service->retry.attempts_max)
        return false;
    bool unsent = error == ATTEMPT_CONNECT;
    bool found_dead = error == ATTEMPT_RESET && upstream != NULL && upstream->uses > 1 && !upstream->answered;
    if (!unsent && !(found_dead && exchange->repeatable))
        return false;
    return retry_within_budget(exchange, service);
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
    exchange_drop_upstream(exchange, false);
    if (again) {
        version_count(exchange->counts, PROXY_VERSION_RETRIES, 1);
        exchange_attempt(exchange);
        return;
    }
    exchange_complete(exchange, FATE_ERROR);
    exchange_answer(exchange, error_status(error), why);
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
    exchange_attempt_failed(exchange, ATTEMPT_RESET,
                            status == STATUS_CLOSED ? "the origin closed without an answer"
                                                    : "the origin reset the connection");
}

// ---- sending the request ----

static enum status write_head(struct exchange *exchange, const struct proxy_service *service,
                              struct chain *out)
{
    struct worker *worker = worker_of(exchange);
    const struct http1_request *request = &worker->request;
    struct http1_forward forward = {.via = worker->table->via,
                                    .peer_address = client_address(exchange->client),
                                    .protocol = SLICE("http"),
                                    .trusted_hops = worker->table->trusted_hops,
                                    .keep_sluice = exchange->operator_sent,
                                    .upgrade = exchange->upgrade};
    struct io_buf *buf = io_buf_get(worker->loop);
    if (buf == NULL)
        return STATUS_NO_MEMORY;
    if (UNLIKELY(service->flags != NULL)) {
        size_t bound = http1_request_head_bound(request, &forward);
        size_t room = bound < IO_BUF_BYTES ? IO_BUF_BYTES - bound : 0;
        forward.add_count = request_flags_fields(exchange, service, room);
        forward.add = worker->flags.fields;
    }
    struct http1_writer writer = http1_writer_over((char *)buf->data, IO_BUF_BYTES);
    enum status status = http1_write_request_head(&writer, request, &forward);
    if (status != STATUS_OK) {
        io_buf_put(buf);
        return status;
    }
    buf->end = (uint32_t)writer.len;
    chain_push(out, buf);
    return STATUS_OK;
}

static void request_sent(struct exchange *exchange)
{
    exchange->request_done = true;
    exchange->sent_us = worker_now_us(worker_of(exchange));
}

// What is ready goes to the upstream, or waits until it is connected: until then no byte has left.
static void send_pending(struct exchange *exchange)
{
    struct upstream *upstream = exchange->upstream;
    if (upstream == NULL || upstream->connecting) {
        uint64_t waiting = 0;
        for (const struct io_buf *buf = exchange->pending.head; buf != NULL; buf = buf->next)
            waiting += io_buf_len(buf);
        if (waiting > SEND_HIGH_BYTES)
            client_pause(exchange->client);
        return;
    }
    chain_send(&exchange->pending, &upstream->stream);
    if (io_stream_pending(&upstream->stream) > SEND_HIGH_BYTES && !exchange->request_done)
        client_pause(exchange->client);
}

// Body bytes of the request, from what came behind the head or later. Takes buf; what follows the request is
// held.
static void request_body(struct exchange *exchange, struct io_buf *buf)
{
    struct client *client = exchange->client;
    exchange->activity_us = worker_now_us(client->worker);
    const struct proxy_service *service = exchange_service(exchange);
    // Without the service nobody knows which names to keep out.
    exchange->request.drop_trailers = exchange->flag_fields && (service == NULL || service->flags == NULL);
    enum status status = body_relay_run(&exchange->request, client->worker->loop, &buf, &exchange->pending,
                                        service == NULL ? NULL : service->flags);
    bool too_large = service != NULL && exchange->request.body.total > service->body_bytes_max;
    if (status == STATUS_OK && !too_large) {
        if (exchange->request.body.done) {
            request_sent(exchange);
            client->held = buf;
            if (buf != NULL)
                client_pause(client);
        }
        send_pending(exchange);
        return;
    }
    io_buf_put(buf);
    if (status == STATUS_FULL) {
        exchange_starved(exchange);
        return;
    }
    exchange_complete(exchange, FATE_ABORTED);
    worker_count(client->worker, PROXY_WORKER_REJECTED);
    exchange->keep_client = false;
    if (exchange->answering)
        exchange_cut(exchange);
    else if (too_large)
        exchange_answer(exchange, 413, "request body too large");
    else
        exchange_answer(exchange, http1_reject_status((enum http1_reject)exchange->request.body.reject),
                        http1_reject_text((enum http1_reject)exchange->request.body.reject));
}

void exchange_request_data(struct exchange *exchange, struct io_buf *buf)
{
    if (exchange->tunnel)
        tunnel_client_data(exchange, buf);
    else
        request_body(exchange, buf);
}

void exchange_client_drained(struct exchange *exchange)
{
    exchange->activity_us = worker_now_us(worker_of(exchange));
    if (exchange->upstream != NULL)
        upstream_resume(exchange->upstream);
}

void exchange_upstream_drained(struct exchange *exchange)
{
    exchange->activity_us = worker_now_us(worker_of(exchange));
    if (exchange->tunnel)
        tunnel_upstream_drained(exchange);
    else if (!exchange->request_done)
        client_resume(exchange->client);
}

// ---- attempts ----

// Reads the kept head again, for an attempt after the first.
static enum status parse_again(struct exchange *exchange)
{
    struct worker *worker = worker_of(exchange);
    const char *head = exchange->head_buf != NULL ? (char *)exchange->head_buf->data : exchange->head;
    size_t head_len;
    enum http1_reject why;
    return http1_request_parse(head, exchange->head_len, &worker->proxy->limits, &worker->request, &head_len,
                               &why);
}

// Takes up a connection to one of the version's endpoints and sends what is pending.
static void exchange_attempt(struct exchange *exchange)
{
    struct worker *worker = worker_of(exchange);
    const struct proxy_service *service = exchange_service(exchange);
    const struct proxy_version *version =
        service == NULL ? NULL : proxy_service_version(service, exchange->version);
    const struct proxy_endpoint *endpoint = version == NULL ? NULL : pool_choose(exchange, version);
    if (UNLIKELY(endpoint == NULL)) {
        exchange_attempt_failed(exchange, ATTEMPT_UNAVAILABLE, "no endpoint is available");
        return;
    }
    if (exchange->pending.head == NULL && exchange->attempts > 0) {
        enum status status = parse_again(exchange);
        CHECK(status == STATUS_OK);
        if (UNLIKELY(service->flags != NULL))
            request_flags_begin(worker, false);
        if (write_head(exchange, service, &exchange->pending) != STATUS_OK) {
            exchange_starved(exchange);
            return;
        }
    }
    exchange->tried[exchange->attempts % TRIED_MAX] = endpoint->slot;
    exchange->attempts++;
    version_count(exchange->counts, PROXY_VERSION_ATTEMPTS, 1);
    exchange->attempt_us = worker_now_us(worker);
    exchange->upstream = upstream_take(exchange, endpoint);
    if (exchange->upstream == NULL) {
        exchange_starved(exchange);
        return;
    }
    send_pending(exchange);
    client_due(exchange->client, exchange_due(exchange));
}

void exchange_upstream_opened(struct exchange *exchange, enum status status)
{
    if (status != STATUS_OK) {
        exchange_attempt_failed(exchange, ATTEMPT_CONNECT, "cannot connect to the origin");
        return;
    }
    uint64_t now_us = worker_now_us(worker_of(exchange));
    exchange->activity_us = now_us;
    if (exchange->request_done)
        exchange->sent_us = now_us;
    send_pending(exchange);
    if (!exchange->request_done)
        client_resume(exchange->client);
    client_due(exchange->client, exchange_due(exchange));
}

// ---- beginning ----

static struct exchange *exchange_create(struct client *client, const struct proxy_service *service)
{
    struct worker *worker = client->worker;
    const struct http1_request *request = &worker->request;
    struct exchange *exchange = free_list_get(&worker->free_exchanges, sizeof *exchange);
    if (exchange == NULL)
        return NULL;
    // The bodies and the head are the largest parts; body_relay_start and keep_head set them.
    memset(exchange, 0, offsetof(struct exchange, request));
    memset(&exchange->pending, 0, offsetof(struct exchange, head) - offsetof(struct exchange, pending));
    exchange->client = client;
    exchange->request.trailers = NULL;
    exchange->response.trailers = NULL;
    exchange->request.drop_trailers = false;
    exchange->response.drop_trailers = false;
    exchange->request.body.total = 0;
    exchange->response.body.total = 0;
    exchange->started_us = worker_now_us(worker);
    exchange->activity_us = exchange->started_us;
    exchange->deadline_us = service->yardstick.deadline_us;
    exchange->timeouts = service->timeouts;
    exchange->service = service->slot;
    exchange->method = request->method_id;
    exchange->http10 = request->version_minor == 0;
    exchange->keep_client = request->keep_alive;
    exchange->upgrade = request->upgrade.len > 0;
    exchange->repeatable = request->framing == HTTP_FRAMING_NONE && request->upgrade.len == 0 &&
                           http_method_idempotent((enum http_method)request->method_id);
    client->exchange = exchange;
    return exchange;
}

// The rest of the first buffer after the head is the body's beginning.
static void begin_body(struct exchange *exchange, uint32_t head_len)
{
    struct client *client = exchange->client;
    struct io_buf *held = client->held;
    struct io_buf *rest = held->next;
    held->next = NULL;
    client->held = NULL;
    held = held_skip(held, head_len);
    if (held != NULL)
        request_body(exchange, held);
    // Further buffers were received before anybody asked for them; each goes the way of new data.
    while (rest != NULL) {
        struct io_buf *next = rest->next;
        rest->next = NULL;
        if (client->exchange == exchange && !exchange->request_done)
            request_body(exchange, rest);
        else if (client->state == CLIENT_OPEN)
            client->held = held_join(client->held, rest);
        else
            io_buf_put(rest);
        rest = next;
    }
}

// Keeps the head of a request that may be sent twice. The received buffer is not held for it: requests that
// wait would keep buffers from the answers, and warm ones from the cache.
static void keep_head(struct exchange *exchange, uint32_t head_len)
{
    struct worker *worker = worker_of(exchange);
    const struct io_buf *held = exchange->client->held;
    char *to = exchange->head;
    if (!exchange->repeatable)
        return;
    if (UNLIKELY(head_len > HEAD_COPY_BYTES)) {
        bool plenty = io_loop_stats(worker->loop)->bufs_in_use <= worker->proxy->bufs_max / 2;
        exchange->head_buf = plenty ? io_buf_get(worker->loop) : NULL;
        exchange->repeatable = exchange->head_buf != NULL;
        if (!exchange->repeatable)
            return;
        to = (char *)exchange->head_buf->data;
    }
    memcpy(to, held->data + held->start, head_len);
    exchange->head_len = head_len;
}

void exchange_begin(struct client *client, const struct proxy_service *service, uint32_t head_len)
{
    struct worker *worker = client->worker;
    const struct http1_request *request = &worker->request;
    struct exchange *exchange = exchange_create(client, service);
    if (UNLIKELY(exchange == NULL)) {
        (void)client_answer_local(client, 503, "out of memory", request->method_id == HTTP_METHOD_HEAD,
                                  false);
        client_linger(client);
        return;
    }
    (void)exchange_route(exchange, service);
    enum status status = write_head(exchange, service, &exchange->pending);
    if (LIKELY(status == STATUS_OK))
        status = body_relay_start(&exchange->request, worker->loop, (enum http_framing)request->framing,
                                  request->content_length, &worker->proxy->limits,
                                  request->framing == HTTP_FRAMING_CHUNKED);
    if (UNLIKELY(status != STATUS_OK)) {
        exchange->keep_client = false;
        exchange_starved(exchange);
        return;
    }
    if (exchange->request.body.done) {
        keep_head(exchange, head_len);
        client->held = held_skip(client->held, head_len);
        request_sent(exchange);
    } else {
        // Counted before the body moves: an attempt may fail at once and end all this.
        begin_body(exchange, head_len);
        if (client->exchange != exchange)
            return;
    }
    exchange_attempt(exchange);
}

// ---- deadlines ----

static uint64_t after_ms(uint64_t since_us, uint32_t ms)
{
    return since_us + (uint64_t)ms * 1000;
}

// A body must not pause longer than the idle time, and must keep up the least rate once that time is over.
static uint64_t body_due(const struct exchange *exchange)
{
    uint64_t idle_us = after_ms(exchange->activity_us, exchange->timeouts.idle_ms);
    uint64_t earned_us = exchange->request.body.total * 1000000 / worker_of(exchange)->proxy->body_rate_min;
    uint64_t rate_us = after_ms(exchange->started_us, exchange->timeouts.idle_ms) + earned_us;
    return rate_us < idle_us ? rate_us : idle_us;
}

uint64_t exchange_due(const struct exchange *exchange)
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

// The client is what is waited for: it does not send its body, or does not take the answer.
static bool client_stalls(const struct exchange *exchange)
{
    if (exchange->answering)
        return io_stream_pending(&exchange->client->stream) > 0;
    return !exchange->request_done && !exchange->client->paused;
}

void exchange_on_deadline(struct exchange *exchange)
{
    struct client *client = exchange->client;
    if (exchange->tunnel) {
        tunnel_close(exchange, false);
        return;
    }
    if (exchange->upstream != NULL && exchange->upstream->connecting) {
        pool_failed(exchange->upstream->pool);
        exchange_attempt_failed(exchange, ATTEMPT_CONNECT, "connecting took too long");
        return;
    }
    if (!client_stalls(exchange)) {
        exchange_attempt_failed(exchange, ATTEMPT_TIMEOUT, "the origin took too long");
        return;
    }
    worker_count(client->worker, PROXY_WORKER_HEAD_TIMEOUTS);
    exchange_complete(exchange, FATE_ABORTED);
    exchange->keep_client = false;
    if (exchange->answering)
        exchange_cut(exchange);
    else
        exchange_answer(exchange, 408, "request body took too long");
}
