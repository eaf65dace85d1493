// SPDX-License-Identifier: Apache-2.0
// One request and its answer: routed once, tried once or more, completed exactly once. Invariant: every
// sheet_route has its sheet_complete, and every counted request its PROXY_VERSION_COMPLETED, whatever way the
// exchange ends.
#include "net/proxy/assign.h"
#include "net/proxy/protect.h"

static struct worker *worker_of(const struct exchange *exchange)
{
    return exchange->worker;
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
    bool asked = exchange->attempts > exchange->canary_attempts;
    uint16_t endpoint = asked ? exchange->tried[(exchange->attempts - 1) % TRIED_MAX] : PROXY_SLOT_NONE;
    return (struct event_where){exchange->service, exchange->version, endpoint};
}

static void exchange_event(struct exchange *exchange, enum proxy_event_kind kind, unsigned status,
                           const char *why)
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

// Answers for the origin; retry_s as in client_answer.
static void exchange_answer_later(struct exchange *exchange, unsigned status, const char *why,
                                  uint32_t retry_s)
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
    const char *why = tls_why(&upstream->stream);
    if (why[0] == '\0')
        why = status == STATUS_CLOSED ? "the origin closed without an answer"
                                      : "the origin reset the connection";
    // In TLS 1.3 an origin refuses our certificate only when the handshake is over for us.
    bool refused = status == STATUS_DENIED && upstream->uses == 1 && !upstream->answered;
    exchange_attempt_failed(exchange, refused ? ATTEMPT_TLS : ATTEMPT_RESET, why);
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
    if (version->endpoint_count == 0 || version->endpoints[0].addr.any.sa_family == AF_UNIX)
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

// What is ready goes to the upstream, or waits until it is connected: until then no byte has left.
static void send_pending(struct exchange *exchange)
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
    io_chain_send(&exchange->pending, &upstream->stream);
    if (io_stream_pending(&upstream->stream) > SEND_HIGH_BYTES && !exchange->request_done)
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

static void let_client_on(struct exchange *exchange)
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
        let_client_on(exchange);
}

// ---- attempts ----

// The kept head, for an attempt after the first.
static enum status write_again(struct exchange *exchange)
{
    struct io_buf *buf = io_buf_get(worker_of(exchange)->loop);
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
    if (version == NULL || protect_none_in_use(worker_of(exchange), version)) {
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
    const struct io_stream *stream = &exchange->upstream->stream;
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

// Takes up a connection to one of the version's endpoints and sends what is pending.
static void exchange_attempt(struct exchange *exchange)
{
    struct worker *worker = worker_of(exchange);
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
    send_pending(exchange);
    server_due(exchange->stream, exchange_due(exchange));
}

void exchange_upstream_opened(struct exchange *exchange, enum status status)
{
    if (status != STATUS_OK) {
        exchange_not_connected(exchange, "cannot connect to the origin",
                               "the origin reset the connection within the TLS handshake");
        return;
    }
    uint64_t now_us = worker_now_us(worker_of(exchange));
    exchange->activity_us = now_us;
    if (exchange->request_done)
        exchange->sent_us = now_us;
    send_pending(exchange);
    let_client_on(exchange);
    server_due(exchange->stream, exchange_due(exchange));
}

// Who sends a short body slowly takes no endpoint's connection for it, as long as there are buffers.
static bool gathers(const struct exchange *exchange)
{
    const struct worker *worker = worker_of(exchange);
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
        send_pending(exchange);
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
