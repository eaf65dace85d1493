// SPDX-License-Identifier: Apache-2.0
// One request and its answer: routed once, tried once or more, completed exactly once. Invariant: every
// sheet_route has its sheet_complete, and every counted request its PROXY_VERSION_COMPLETED, whatever way the
// exchange ends.
#include "net/proxy/assign.h"
#include "net/proxy/balance.h"
#include "net/proxy/protect.h"

static struct worker *worker_of(const struct exchange *exchange)
{
    return exchange->worker;
}

const struct proxy_service *exchange_service(const struct exchange *exchange)
{
    const struct proxy_table *table = worker_of(exchange)->table;
    return table == NULL ? NULL : table->by_slot[exchange->service];
}

static struct event_where exchange_where(const struct exchange *exchange)
{
    bool asked = exchange->attempts > exchange->canary_attempts;
    uint16_t endpoint = asked ? exchange->tried[(exchange->attempts - 1) % TRIED_MAX] : PROXY_SLOT_NONE;
    return (struct event_where){exchange->service, exchange->version, endpoint};
}

void exchange_event(struct exchange *exchange, enum proxy_event_kind kind, unsigned status, const char *why)
{
    struct asked asked = asked_of_exchange(exchange);
    worker_event(worker_of(exchange), kind, status, why, exchange->client, exchange_where(exchange), &asked,
                 worker_now_us(worker_of(exchange)) - exchange->started_us);
}

// ---- assignment ----

// A version an operator asked for by name. NULL: none asked for, not believed, or unknown.
static const struct proxy_version *forced_version(struct exchange *exchange,
                                                  const struct proxy_service *service)
{
    struct worker *worker = worker_of(exchange);
    const struct http_fields *fields = &worker->request->fields;
    if (LIKELY((fields->present >> HTTP_FIELD_X_SLUICE & 1) == 0) || worker->table->operator_count == 0)
        return NULL;
    const struct http_field *field = http_fields_find_name(fields, SLICE("x-sluice-version"));
    struct io_addr peer;
    if (field == NULL || server_peer(exchange->stream, &peer) != STATUS_OK)
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
    if (http_cookie_find(&worker->request->fields, service->unit_name, &value) == STATUS_OK &&
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
    const struct http_fields *fields = &worker->request->fields;
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
        *unit = assign_network(exchange->client, worker->network);
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

// Makes the request evidence of that arm, or of the ring, from when the client has sent it all: the time
// before is nobody's.
static inline void enter_arm(struct exchange *exchange, const struct proxy_service *service, uint32_t place)
{
    exchange->place = (uint8_t)place;
    exchange->in_arm = true;
    exchange->epoch = service->epoch;
    exchange->weight = service->weight;
    exchange->weight_control = service->weight_control;
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
        request_flags_begin(worker);
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

// What happens now may be counted now, as long as the split is the one that the request was drawn by.
static inline bool same_split(const struct exchange *exchange, const struct proxy_service *service)
{
    return service != NULL && service->epoch == exchange->epoch && service->weight == exchange->weight &&
           service->weight_control == exchange->weight_control;
}

// Counts the request in its arm. One whose body came in while the weights changed is evidence of nothing.
static inline void evidence_begin(struct exchange *exchange)
{
    struct worker *worker = worker_of(exchange);
    if (exchange->entered || !exchange->in_arm)
        return;
    exchange->entered = true;
    const struct proxy_service *service = exchange_service(exchange);
    if (UNLIKELY(!same_split(exchange, service)))
        return;
    struct sheet_sighting sighting = {.first = true, .judged = true};
    if (exchange->keyed)
        sighting = sheet_unit_see(worker->proxy->units[exchange->service], exchange->unit_hash, worker->tick);
    exchange->span = sheet_route(exchange->sheet, worker->tick, worker->table->version, service,
                                 exchange->place, &sighting);
}

// From the request's last byte to the answer's first. An answer that came before the request was sent has
// waited for nobody.
static uint64_t waited_us(const struct exchange *exchange)
{
    return exchange->request_done ? worker_now_us(worker_of(exchange)) - exchange->sent_us : 0;
}

static inline void evidence_tell(struct exchange *exchange, enum exchange_fate fate)
{
    if (exchange->told)
        return;
    evidence_begin(exchange);
    exchange->told = true;
    if (exchange->span == SHEET_SPAN_NONE)
        return;
    bool held = exchange->hold_until_us != 0;
    if (UNLIKELY(held) && fate == FATE_ABORTED)
        fate = FATE_OK; // it had answered before the client left
    struct sheet_outcome outcome = {.elapsed_us = held ? exchange->hold_waited_us : waited_us(exchange),
                                    .status = exchange->faulty ? 0 : exchange->status,
                                    .ok = fate == FATE_OK && !exchange->faulty,
                                    .failed = exchange->erred,
                                    .measured = exchange->request_done && !exchange->fallen_back,
                                    .aborted = fate == FATE_ABORTED};
    (void)sheet_complete(exchange->sheet, exchange->span, exchange->place, &outcome);
    const struct proxy_service *service = exchange_service(exchange);
    if (UNLIKELY(exchange->weight > 0) && service != NULL)
        failing_answered(exchange, &service->yardstick, outcome.measured ? outcome.elapsed_us : 0);
}

void exchange_answered(struct exchange *exchange)
{
    if (!exchange->faulty)
        balance_measured(exchange, waited_us(exchange));
    if (!exchange->tunnel && !exchange->fallen_back)
        version_latency_record(exchange->counts, waited_us(exchange));
    if (LIKELY(!exchange->watch.open)) {
        evidence_tell(exchange, FATE_OK);
        return;
    }
    exchange->hold_waited_us = waited_us(exchange);
    exchange->hold_until_us = worker_now_us(worker_of(exchange)) + HOLD_US_MAX;
    server_due(exchange->stream, exchange_due(exchange));
}

void exchange_settle(struct exchange *exchange)
{
    if (exchange->hold_until_us == 0)
        return;
    evidence_tell(exchange, FATE_OK);
    exchange->hold_until_us = 0;
}

void exchange_count_error(struct exchange *exchange, enum attempt_error error, const char *why)
{
    struct worker *worker = worker_of(exchange);
    const struct proxy_service *service = exchange_service(exchange);
    bool event = !exchange->event_counted;
    evidence_begin(exchange);
    if (event && exchange->keyed) {
        uint64_t window_us = service == NULL ? 0 : service->yardstick.error_window_us;
        uint64_t tick_us = ROLLOUT_TICK_MS * 1000;
        struct sheet_units *units = worker->proxy->units[exchange->service];
        event =
            exchange->span != SHEET_SPAN_NONE &&
            sheet_unit_erred(units, exchange->unit_hash, worker->tick, (window_us + tick_us - 1) / tick_us);
    }
    exchange->event_counted = true;
    if (!exchange->erred)
        failing_error(exchange, error);
    exchange->erred = true;
    if (UNLIKELY(exchange->admitted))
        protect_failed(exchange, error);
    version_count(exchange->counts, PROXY_VERSION_ERRORS, 1);
    version_count(exchange->counts, (enum proxy_version_counter)error, 1);
    if (event)
        version_count(exchange->counts, PROXY_VERSION_ERROR_EVENTS, 1);
    if (LIKELY(!exchange->told))
        sheet_error(exchange->sheet, exchange->span, exchange->place, event);
    else if (exchange->span != SHEET_SPAN_NONE && same_split(exchange, service))
        sheet_broke_off(exchange->sheet, worker->tick, worker->table->version, service, exchange->place,
                        event);
    bool answered = error <= ATTEMPT_BODY;
    exchange_event(exchange, answered ? PROXY_EVENT_STATUS : PROXY_EVENT_UPSTREAM,
                   answered ? exchange->status : 0, why);
}

void exchange_complete(struct exchange *exchange, enum exchange_fate fate)
{
    if (exchange->completed)
        return;
    exchange->completed = true;
    if (UNLIKELY(exchange->admitted))
        protect_release(exchange, fate);
    evidence_tell(exchange, fate);
    uint64_t elapsed_us = worker_now_us(worker_of(exchange)) - exchange->started_us;
    bool good = fate == FATE_OK && !exchange->faulty && elapsed_us <= exchange->deadline_us;
    if (good)
        version_count(exchange->counts, PROXY_VERSION_GOOD, 1);
    if (fate == FATE_ABORTED)
        version_count(exchange->counts, PROXY_VERSION_ABORTED, 1);
    version_count(exchange->counts, PROXY_VERSION_COMPLETED, 1);
}

// ---- the end ----

// Whoever frees it counts nothing more but what the answer of our own needs, and then has it leave its
// version.
static void exchange_free(struct exchange *exchange)
{
    struct worker *worker = worker_of(exchange);
    CHECK(exchange->completed && exchange->upstream == NULL);
    if (UNLIKELY(worker->access != NULL))
        access_tell_exchange(exchange);
    struct service_load *load = &worker->loads[exchange->service];
    load->active--;
    if (exchange->retrying)
        load->retrying--;
    version_count(exchange->counts, PROXY_VERSION_BYTES_IN, exchange->request_bytes);
    version_count(exchange->counts, PROXY_VERSION_BYTES_OUT, exchange->response.total);
    if (UNLIKELY(exchange->asked_head != NULL))
        asked_drop(exchange);
    io_buf_put(exchange->head_buf);
    io_buf_put(exchange->response_trailers);
    io_chain_put(&exchange->pending);
    if (UNLIKELY(exchange->compressed != NULL))
        compressed_free(exchange);
    if (UNLIKELY(exchange->mirrored != NULL))
        mirrored_over(exchange, false);
    if (UNLIKELY(exchange->action != NULL))
        proxy_action_release(exchange->action);
    free_list_put(&worker->free_exchanges, exchange);
}

static void exchange_leave(struct exchange *exchange)
{
    struct version_sheet *counts = exchange->counts;
    exchange_free(exchange);
    version_leave(counts);
}

void exchange_drop_upstream(struct exchange *exchange, bool reuse)
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

void exchange_end(struct exchange *exchange, bool reuse_upstream)
{
    struct server_stream *stream = exchange->stream;
    exchange_drop_upstream(exchange, reuse_upstream);
    exchange_leave(exchange);
    server_end(stream);
}

// Ends without the answer's end.
static void exchange_abandon(struct exchange *exchange)
{
    struct worker *worker = worker_of(exchange);
    if (!exchange->tunnel)
        worker_count(worker, exchange->answering ? PROXY_WORKER_CUT : PROXY_WORKER_ABORTED);
    if (exchange->answering && exchange->erred)
        exchange_event(exchange, PROXY_EVENT_CUT, 0, "the answer broke off");
    exchange_drop_upstream(exchange, false);
    exchange_leave(exchange);
}

void exchange_cut(struct exchange *exchange)
{
    struct server_stream *stream = exchange->stream;
    exchange_abandon(exchange);
    server_reset(stream);
}

void exchange_answer_later(struct exchange *exchange, unsigned status, const char *why, uint32_t retry_s)
{
    struct server_stream *stream = exchange->stream;
    bool head_only = exchange->method == HTTP_METHOD_HEAD;
    bool close = exchange->close;
    exchange_event(exchange, PROXY_EVENT_LOCAL, status, why);
    struct version_sheet *counts = exchange->counts;
    exchange_drop_upstream(exchange, false);
    exchange->status = (uint16_t)status; // what the client gets
    exchange_free(exchange);
    if (client_answer(stream, status, why, head_only, close, retry_s))
        version_count(counts, status < 500 ? PROXY_VERSION_LOCAL_4XX : PROXY_VERSION_LOCAL_5XX, 1);
    version_leave(counts);
}

void exchange_answer(struct exchange *exchange, unsigned status, const char *why)
{
    exchange_answer_later(exchange, status, why, 0);
}

void exchange_starved(struct exchange *exchange)
{
    exchange_complete(exchange, FATE_ABORTED);
    if (exchange->answering)
        exchange_cut(exchange);
    else
        exchange_answer(exchange, 503, "out of buffers");
}

void exchange_client_gone(struct exchange *exchange)
{
    if (exchange->tunnel)
        tunnel_gone(exchange);
    else
        exchange_complete(exchange, FATE_ABORTED);
    exchange_abandon(exchange);
}

// ---- sending the request ----

// A client of HTTP/1.0 need not say for whom its request is; origins want to know. It is for the service: its
// name in the routes, or where it answers.
static struct slice default_host(const struct exchange *exchange, const struct proxy_service *service,
                                 char text[IO_ADDR_TEXT_BYTES])
{
    const struct proxy_table *table = worker_of(exchange)->table;
    const struct proxy_version *version = proxy_service_version(service, exchange->version);
    for (uint32_t i = 0; i < table->route_count; i++)
        if (table->routes[i].service == service && table->routes[i].kind == PROXY_HOST_EXACT)
            return table->routes[i].host;
    if (version->listed_count == 0 || version->endpoints[0].addr.any.sa_family == AF_UNIX)
        return SLICE("localhost");
    io_addr_format(&version->endpoints[0].addr, text);
    return slice_of(text);
}

static enum status write_head(struct exchange *exchange, const struct proxy_service *service)
{
    struct worker *worker = worker_of(exchange);
    const struct http_request *request = worker->request;
    struct http1_forward forward = {.via = worker->table->via,
                                    .peer_address = exchange->from,
                                    .protocol =
                                        server_is_secure(exchange->stream) ? SLICE("https") : SLICE("http"),
                                    .trusted = worker->table->trusts,
                                    .trusted_hops = worker->hops,
                                    .forwarded = worker->table->forwarded,
                                    .keep_sluice = exchange->operator_sent,
                                    .upgrade = exchange->upgrade};
    char host[IO_ADDR_TEXT_BYTES];
    if (UNLIKELY(request->authority.len == 0))
        forward.host_replace = default_host(exchange, service, host);
    if (UNLIKELY(worker->route->written) && action_forward(exchange, worker->route, &forward) != STATUS_OK)
        return STATUS_FULL;
    struct io_buf *buf = io_buf_get(worker->loop);
    if (buf == NULL)
        return STATUS_NO_MEMORY;
    if (UNLIKELY(service->flags != NULL)) {
        size_t bound = http1_request_head_bound(request, &forward);
        size_t room = bound < IO_BUF_BYTES ? IO_BUF_BYTES - bound : 0;
        size_t count = request_flags_fields(exchange, service, room);
        action_add_fields(worker, &forward, worker->flags.fields, count);
    }
    struct http1_writer writer = http1_writer_over((char *)buf->data, IO_BUF_BYTES);
    enum status status = http1_write_request_head(&writer, request, &forward);
    if (status != STATUS_OK) {
        io_buf_put(buf);
        return status;
    }
    buf->end = (uint32_t)writer.len;
    io_chain_push(&exchange->pending, buf);
    return STATUS_OK;
}

static void request_sent(struct exchange *exchange)
{
    exchange->request_done = true;
    exchange->sent_us = worker_now_us(worker_of(exchange));
    if (UNLIKELY(exchange->mirrored != NULL))
        mirrored_request_sent(exchange);
    evidence_begin(exchange);
}

void exchange_send_pending(struct exchange *exchange)
{
    struct upstream *upstream = exchange->upstream;
    if (upstream == NULL || upstream->connecting) {
        uint64_t waiting = 0;
        for (const struct io_buf *buf = exchange->pending.head; buf != NULL; buf = buf->next)
            waiting += io_buf_len(buf);
        if (waiting > SEND_HIGH_BYTES)
            server_pause(exchange->stream);
        return;
    }
    upstream_send(upstream, &exchange->pending);
    if (upstream_unsent(upstream) > SEND_HIGH_BYTES && !exchange->request_done)
        server_pause(exchange->stream);
}

void exchange_request_refused(struct exchange *exchange, unsigned status, const char *why)
{
    exchange_complete(exchange, FATE_ABORTED);
    worker_count(worker_of(exchange), PROXY_WORKER_REJECTED);
    exchange->close = true;
    if (exchange->answering)
        exchange_cut(exchange);
    else
        exchange_answer(exchange, status, why);
}

void exchange_request_data(struct exchange *exchange, struct slice run, struct io_buf **buf)
{
    if (exchange->tunnel) {
        tunnel_client_data(exchange, *buf);
        *buf = NULL;
        return;
    }
    struct worker *worker = worker_of(exchange);
    const struct proxy_service *service = exchange_service(exchange);
    exchange->activity_us = worker_now_us(worker);
    exchange->request_bytes += run.len;
    if (UNLIKELY(exchange->mirrored != NULL))
        mirrored_request_data(exchange, run);
    if (service != NULL && exchange->request_bytes > body_bytes_max(service, exchange->action))
        exchange_request_refused(exchange, 413, "request body too large");
    else if (server_frame_run(&exchange->pending, worker->loop, exchange->request_chunked, run, buf) !=
             STATUS_OK)
        exchange_starved(exchange);
}

// What stands in a trailer some origins take for a header.
static void mark_forged(struct http_fields *fields, const struct proxy_service_flags *flags)
{
    for (uint32_t i = 0; flags != NULL && i < fields->count; i++)
        if (table_flags_forged(flags, fields->items[i].name))
            fields->items[i].marks |= HTTP_FIELD_HOP;
}

void exchange_request_ended(struct exchange *exchange, struct http_fields *trailers)
{
    const struct proxy_service *service = exchange_service(exchange);
    if (UNLIKELY(exchange->mirrored != NULL))
        mirrored_request_ended(exchange, trailers);
    // Without the service nobody knows which names to keep out.
    bool unknown = exchange->flag_fields && (service == NULL || service->flags == NULL);
    if (unknown)
        trailers = NULL;
    if (trailers != NULL)
        mark_forged(trailers, service == NULL ? NULL : service->flags);
    if (trailers != NULL)
        identity_trailers(worker_of(exchange), trailers);
    action_request_trailers(exchange, trailers);
    if (exchange->request_chunked &&
        server_frame_last(&exchange->pending, worker_of(exchange)->loop, trailers) != STATUS_OK)
        exchange_starved(exchange);
    else
        request_sent(exchange);
}

void exchange_let_client_on(struct exchange *exchange)
{
    if (exchange->request_done || !server_paused(exchange->stream))
        return;
    exchange->rate_from_us = worker_now_us(worker_of(exchange));
    exchange->rate_from_bytes = exchange->request_bytes;
    server_resume(exchange->stream);
}

void exchange_client_drained(struct exchange *exchange)
{
    exchange->activity_us = worker_now_us(worker_of(exchange));
    if (exchange->upstream != NULL && !(exchange->compressed != NULL && compressed_waits(exchange)))
        upstream_resume(exchange->upstream);
}

void exchange_upstream_drained(struct exchange *exchange)
{
    exchange->activity_us = worker_now_us(worker_of(exchange));
    if (exchange->tunnel)
        tunnel_upstream_drained(exchange);
    else
        exchange_let_client_on(exchange);
}

// ---- beginning ----

static struct exchange *exchange_create(struct server_stream *stream, const struct proxy_service *service)
{
    struct worker *worker = CONTAINER_OF(stream->server, struct worker, server);
    const struct http_request *request = worker->request;
    struct exchange *exchange = free_list_get(&worker->free_exchanges, sizeof *exchange);
    if (exchange == NULL)
        return NULL;
    // The body and the head are the largest parts; response_final and keep_head set them.
    memset(exchange, 0, offsetof(struct exchange, response));
    exchange->response.total = 0;
    exchange->worker = worker;
    exchange->stream = stream;
    identity_keep(exchange);
    exchange->started_us = worker_now_us(worker);
    exchange->activity_us = exchange->started_us;
    exchange->rate_from_us = exchange->started_us;
    exchange->deadline_us = service->yardstick.deadline_us;
    exchange->timeouts = service->timeouts;
    exchange->defined = service->errors != NULL;
    if (UNLIKELY(worker->route->action != NULL))
        action_hold(exchange, worker->route->action);
    if (UNLIKELY(worker->route->written))
        asked_keep(exchange);
    exchange->service = service->slot;
    exchange->method = request->method_id;
    exchange->upgrade = request->upgrade.len > 0;
    exchange->request_chunked = request->framing == HTTP_FRAMING_CHUNKED;
    exchange->gathers = request->framing == HTTP_FRAMING_LENGTH &&
                        request->content_length <= GATHER_BYTES_MAX && !request->expect_continue;
    exchange->repeatable = request->framing == HTTP_FRAMING_NONE && request->upgrade.len == 0 &&
                           http_method_idempotent((enum http_method)request->method_id);
    stream->subject = exchange;
    return exchange;
}

// Keeps the head of a request that may be sent twice, and of others what the log may tell. The buffer is not
// held for it: requests that wait would keep buffers from the answers, and warm ones from the cache.
static void keep_head(struct exchange *exchange)
{
    struct worker *worker = worker_of(exchange);
    const struct io_buf *written = exchange->pending.head;
    uint32_t len = io_buf_len(written);
    char *to = exchange->head;
    if (UNLIKELY(len > HEAD_COPY_BYTES)) {
        bool plenty = io_loop_stats(worker->loop)->bufs_in_use <= worker->proxy->bufs_max / 2;
        exchange->head_buf = plenty && exchange->repeatable ? io_buf_get(worker->loop) : NULL;
        exchange->repeatable = exchange->head_buf != NULL;
        if (exchange->repeatable)
            to = (char *)exchange->head_buf->data;
        else
            len = HEAD_COPY_BYTES;
    }
    memcpy(to, written->data + written->start, len);
    exchange->head_len = len;
}

void exchange_begin(struct server_stream *stream, const struct proxy_service *service)
{
    struct worker *worker = CONTAINER_OF(stream->server, struct worker, server);
    const struct http_request *request = worker->request;
    struct exchange *exchange = exchange_create(stream, service);
    if (UNLIKELY(exchange == NULL)) {
        client_answer(stream, 503, "out of memory", request->method_id == HTTP_METHOD_HEAD, true, 0);
        return;
    }
    (void)exchange_route(exchange, service);
    if (UNLIKELY(service->hash != NULL))
        balance_take_key(exchange, service);
    if (UNLIKELY(write_head(exchange, service) != STATUS_OK)) {
        exchange->close = true;
        exchange_starved(exchange);
        return;
    }
    keep_head(exchange);
    if (UNLIKELY(service->mirror != NULL))
        mirrored_begin(exchange, service);
    if (request->framing == HTTP_FRAMING_CHUNKED || request->content_length > 0)
        return; // the body follows
    request_sent(exchange);
    exchange_attempt(exchange);
}
