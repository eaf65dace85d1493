// SPDX-License-Identifier: Apache-2.0
// The way back: heads parsed where they were received, written anew, bodies framed anew. What is not a sound
// HTTP answer is never passed on as one, and one that breaks off ends in a reset.
#include "net/proxy/assign.h"
#include "net/proxy/proxy_private.h"

static struct worker *worker_of(const struct exchange *exchange)
{
    return exchange->worker;
}

void response_flush(struct exchange *exchange)
{
    server_flush(exchange->stream);
    if (UNLIKELY(server_unsent(exchange->stream) > SERVER_UNSENT_HIGH) && exchange->upstream != NULL)
        upstream_pause(exchange->upstream);
}

// ---- what the answer is ----

static void count_outcome(struct exchange *exchange, enum outcome outcome)
{
    static const struct {
        enum attempt_error error;
        const char *why;
    } kinds[] = {
        [OUTCOME_STATUS] = {ATTEMPT_STATUS, "the origin answered a status that counts as an error"},
        [OUTCOME_HEADER] = {ATTEMPT_HEADER, "the origin's answer has a header that counts as an error"},
        [OUTCOME_GRPC] = {ATTEMPT_GRPC, "the origin's gRPC status counts as an error, or is missing"},
        [OUTCOME_BODY] = {ATTEMPT_BODY, "the origin's body has the text that counts as an error"},
    };
    if (outcome == OUTCOME_FINE)
        return;
    exchange->faulty = true;
    if (outcome == OUTCOME_STATUS && exchange->status >= 500)
        exchange_count_error(exchange, ATTEMPT_5XX, "the origin answered 5xx");
    else
        exchange_count_error(exchange, kinds[outcome].error, kinds[outcome].why);
}

// The definition in force. A service that had none when the request came keeps to the default.
static const struct proxy_errors *errors_of(const struct exchange *exchange)
{
    const struct proxy_table *table = worker_of(exchange)->table;
    const struct proxy_service *service = table == NULL ? NULL : table->by_slot[exchange->service];
    bool defined = exchange->defined && service != NULL && service->errors != NULL;
    return defined ? service->errors : &outcome_default;
}

// Not inlined: off the path of answers that are no errors by their status, where nothing else is asked.
__attribute__((noinline)) static void judge_head(struct exchange *exchange)
{
    const struct http_response *response = &worker_of(exchange)->response;
    count_outcome(exchange, outcome_of_head(errors_of(exchange), response, &exchange->watch));
    if (exchange->watch.unsearched)
        version_count(exchange->counts, PROXY_VERSION_UNSEARCHED, 1);
}

// A definition that changed meanwhile says nothing of an answer that began under another.
static const struct proxy_errors *errors_watched(struct exchange *exchange)
{
    const struct proxy_errors *errors = errors_of(exchange);
    if (errors->id == exchange->watch.definition)
        return errors;
    exchange->watch.open = false;
    exchange_settle(exchange);
    return NULL;
}

__attribute__((noinline)) static void judge_run(struct exchange *exchange, struct slice run)
{
    const struct proxy_errors *errors = errors_watched(exchange);
    if (errors == NULL)
        return;
    count_outcome(exchange, outcome_of_run(errors, run, &exchange->watch));
    if (!exchange->watch.open)
        exchange_settle(exchange);
}

__attribute__((noinline)) static void judge_end(struct exchange *exchange)
{
    const struct proxy_errors *errors = errors_watched(exchange);
    if (errors == NULL)
        return;
    struct http_fields storage;
    const struct http_fields *trailers = server_frame_trailers(&exchange->response, &storage);
    count_outcome(exchange, outcome_of_end(errors, trailers, &exchange->watch));
    exchange_settle(exchange);
}

// ---- the end of an answer ----

// Whether the connection may serve another request: both messages are over and nobody said otherwise.
static bool upstream_reusable(const struct exchange *exchange, const struct io_buf *rest)
{
    return exchange->upstream_keep && exchange->request_done && rest == NULL;
}

// rest: bytes behind the answer (taken), which nobody asked for.
static void response_complete(struct exchange *exchange, struct io_buf *rest)
{
    bool reuse = upstream_reusable(exchange, rest);
    io_buf_put(rest);
    if (UNLIKELY(exchange->mirrored != NULL))
        mirrored_over(exchange, true);
    if (UNLIKELY(exchange->watch.open))
        judge_end(exchange);
    exchange_complete(exchange, exchange->faulty ? FATE_ERROR : FATE_OK);
    exchange_end(exchange, reuse);
}

// Not inlined: few answers have trailers, and the list of them is large.
__attribute__((noinline)) static enum status end_with_trailers(struct exchange *exchange)
{
    struct http_fields storage;
    struct http_fields *trailers = server_frame_trailers(&exchange->response, &storage);
    if (trailers != NULL)
        action_response_trailers(exchange, trailers);
    if (trailers != NULL && exchange->compressed != NULL)
        compress_trailers_edit(trailers);
    return server_data_end(exchange->stream, trailers);
}

static inline enum status end_body(struct exchange *exchange)
{
    if (UNLIKELY(exchange->compressed != NULL) && compressed_end(exchange) != STATUS_OK)
        return STATUS_FULL;
    if (UNLIKELY(exchange->response.trailers_len > 0))
        return end_with_trailers(exchange);
    return server_data_end(exchange->stream, NULL);
}

static inline enum status send_run(struct exchange *exchange, struct slice run, struct io_buf **in)
{
    if (UNLIKELY(exchange->compressed != NULL))
        return compressed_data(exchange, run);
    return server_data(exchange->stream, run, in);
}

// Passes body bytes on. *in becomes what is left of it (NULL: nothing). INVALID for broken framing, FULL
// without buffers.
static enum status relay_body(struct exchange *exchange, struct io_buf **in)
{
    struct http1_body *body = &exchange->response;
    while (*in != NULL && !body->done) {
        size_t used = 0;
        struct slice run = {NULL, 0};
        enum status status =
            http1_body_next(body, (char *)(*in)->data + (*in)->start, io_buf_len(*in), &used, &run);
        if (UNLIKELY(status != STATUS_OK && status != STATUS_AGAIN))
            return STATUS_INVALID;
        if (UNLIKELY(exchange->watch.open))
            judge_run(exchange, run);
        if (UNLIKELY(exchange->mirrored != NULL))
            mirrored_data(exchange, run);
        if (run.len > 0 && send_run(exchange, run, in) != STATUS_OK)
            return STATUS_FULL;
        if (*in != NULL)
            *in = io_held_skip(*in, (uint32_t)used);
    }
    return body->done ? end_body(exchange) : STATUS_OK;
}

static void response_body(struct exchange *exchange, struct io_buf *buf)
{
    if (UNLIKELY(exchange->compressed != NULL) && compressed_wait(exchange, buf))
        return;
    exchange->activity_us = worker_now_us(worker_of(exchange));
    enum status status = relay_body(exchange, &buf);
    if (LIKELY(status == STATUS_OK)) {
        if (exchange->response.done)
            response_complete(exchange, buf);
        else
            response_flush(exchange);
        return;
    }
    io_buf_put(buf);
    if (status == STATUS_FULL)
        exchange_starved(exchange);
    else
        exchange_attempt_failed(exchange, ATTEMPT_BROKEN, "the origin's body is broken");
}

void response_finish(struct exchange *exchange)
{
    if (http1_body_finish(&exchange->response) != STATUS_OK) {
        exchange_attempt_failed(exchange, ATTEMPT_RESET, "the origin closed within its answer");
        return;
    }
    exchange->upstream_keep = false;
    if (end_body(exchange) != STATUS_OK)
        exchange_starved(exchange);
    else
        response_complete(exchange, NULL);
}

void response_trailers(struct exchange *exchange, struct io_buf *lines)
{
    io_buf_put(exchange->response_trailers);
    exchange->response_trailers = lines;
    exchange->response.trailers = (char *)lines->data + lines->start;
    exchange->response.trailers_len = io_buf_len(lines);
}

// ---- heads ----

enum { COOKIE_TEXT_BYTES = 1024 + ASSIGN_COOKIE_BYTES + 64 };

// "Set-Cookie" for a unit of ours. False when none is due.
static bool sticky_field(const struct exchange *exchange, struct text *storage, struct http_field *field)
{
    const struct proxy_table *table = worker_of(exchange)->table;
    const struct proxy_service *service = table == NULL ? NULL : table->by_slot[exchange->service];
    if (LIKELY(!exchange->set_cookie) || service == NULL)
        return false;
    char value[ASSIGN_COOKIE_BYTES];
    assign_cookie_write(service->cookie_key, exchange->unit_cookie, service->epoch, value);
    text_add(storage, service->unit_name);
    text_add_char(storage, '=');
    text_add(storage, (struct slice){value, sizeof value});
    text_add(storage, SLICE("; Path=/; HttpOnly; SameSite=Lax"));
    *field = (struct http_field){.name = SLICE("Set-Cookie"), .value = text_slice(storage)};
    return !storage->cut;
}

// What is added to a head; storage and cookie are for a field of ours.
static struct server_added added_of(const struct exchange *exchange, struct text *storage,
                                    struct http_field *cookie)
{
    const struct worker *worker = worker_of(exchange);
    struct server_added added = {.via = worker->table != NULL ? worker->table->via : SLICE("")};
    if (worker->response.status >= 200 && sticky_field(exchange, storage, cookie)) {
        added.fields = cookie;
        added.field_count = 1;
    }
    return added;
}

static enum status write_head(struct exchange *exchange)
{
    char storage[COOKIE_TEXT_BYTES];
    struct text text = text_over(storage, sizeof storage);
    struct http_field cookie;
    struct server_added added = added_of(exchange, &text, &cookie);
    struct http_response *response = &worker_of(exchange)->response;
    if (UNLIKELY(exchange->action != NULL) && response->status >= 200)
        action_response(exchange, response, &added);
    return server_head(exchange->stream, response, &added);
}

static void head_refused(struct exchange *exchange, enum status status)
{
    if (status == STATUS_FULL)
        exchange_starved(exchange);
    else
        exchange_attempt_failed(exchange, ATTEMPT_BROKEN, "the origin's head is too large");
}

// 100, 102, 103. False when the exchange is over.
static bool response_informational(struct exchange *exchange)
{
    version_count(exchange->counts, PROXY_VERSION_STATUS_1XX, 1);
    enum status status = write_head(exchange);
    if (status != STATUS_OK) {
        head_refused(exchange, status);
        return false;
    }
    response_flush(exchange);
    return true;
}

// 101: what follows is not HTTP. Only for a client that asked for it.
static void response_switch(struct exchange *exchange, struct io_buf *rest)
{
    const struct worker *worker = worker_of(exchange);
    const struct server_added added = {.via = worker->table != NULL ? worker->table->via : SLICE("")};
    struct io_buf *early = NULL;
    enum status status = STATUS_INVALID;
    if (exchange->upgrade)
        status = server_tunnel(exchange->stream, &worker->response, &added, &early);
    if (status != STATUS_OK) {
        io_buf_put(rest);
        if (status == STATUS_FULL)
            exchange_starved(exchange);
        else
            exchange_attempt_failed(exchange, ATTEMPT_BROKEN, "the origin switched protocols unasked");
        return;
    }
    version_count(exchange->counts, PROXY_VERSION_STATUS_1XX, 1);
    tunnel_open(exchange, early, rest);
}

static enum proxy_version_counter status_counter(unsigned status)
{
    unsigned class = status < 600 ? status / 100 : 5;
    return (enum proxy_version_counter)(PROXY_VERSION_STATUS_1XX + (class - 1));
}

// rest: what came behind the head (taken).
static void response_final(struct exchange *exchange, struct io_buf *rest)
{
    struct worker *worker = worker_of(exchange);
    const struct http_response *response = &worker->response;
    if (UNLIKELY(exchange->mirrored != NULL))
        mirrored_answer(exchange);
    // A stream of HTTP/2 ends by itself, and its length is held against what came there.
    enum http_framing framing =
        UNLIKELY(response->http2) ? HTTP_FRAMING_UNTIL_CLOSE : (enum http_framing)response->framing;
    enum status status = server_frame_begin(&exchange->response, &exchange->response_trailers, worker->loop,
                                            framing, response->content_length, &worker->proxy->limits);
    if (LIKELY(status == STATUS_OK))
        status = write_head(exchange);
    if (UNLIKELY(status != STATUS_OK)) {
        io_buf_put(rest);
        head_refused(exchange, status);
        return;
    }
    exchange->response.blanks = true; // it is framed anew, so no one behind us can read it otherwise
    exchange->status = response->status;
    exchange->upstream_keep = response->keep_alive;
    exchange->answering = true;
    worker_count(worker, PROXY_WORKER_ANSWERED);
    version_count(exchange->counts, status_counter(response->status), 1);
    if (UNLIKELY(exchange->defined || response->status >= 500 || outcome_is_grpc(&response->fields)))
        judge_head(exchange);
    exchange_answered(exchange);
    if (!exchange->response.done) {
        response_body(exchange, rest);
        return;
    }
    if (LIKELY(io_buf_len(rest) == 0)) {
        io_buf_put(rest);
        rest = NULL;
    }
    response_complete(exchange, rest);
}

// The first head of what is held. AGAIN: not complete. Anything else but OK has ended the attempt.
static enum status response_parse(struct exchange *exchange, struct io_buf *buf, size_t *head_len)
{
    struct worker *worker = worker_of(exchange);
    enum http1_reject why;
    enum status status;
    do {
        status = http1_response_parse((char *)buf->data + buf->start, io_buf_len(buf), &worker->proxy->limits,
                                      (enum http_method)exchange->method, &worker->response, head_len, &why);
    } while (status == STATUS_AGAIN && io_held_pull(buf));
    worker->response.http2 = exchange->upstream->session != NULL;
    if (UNLIKELY(worker->response.http2) && status == STATUS_OK)
        worker->response.reason = http_reason_phrase(worker->response.status);
    if (UNLIKELY(status != STATUS_OK && status != STATUS_AGAIN))
        exchange_attempt_failed(exchange, ATTEMPT_BROKEN, http1_reject_text(why));
    return status;
}

// A head after which the exchange's next state takes the bytes. Further buffers wait with the upstream, which
// is closed with them if it comes to its end before they are used: they would belong to no request.
static void response_turn(struct exchange *exchange, struct io_buf *buf, size_t head_len)
{
    struct upstream *upstream = exchange->upstream;
    bool switched = worker_of(exchange)->response.status == 101;
    upstream->held = buf->next;
    buf->next = NULL;
    buf->start += (uint32_t)head_len;
    if (switched)
        response_switch(exchange, buf);
    else
        response_final(exchange, buf);
    while (!upstream->closed && upstream->held != NULL) {
        struct io_buf *more = upstream->held;
        upstream->held = more->next;
        more->next = NULL;
        if (exchange->tunnel)
            tunnel_upstream_data(exchange, more);
        else
            response_data(exchange, more);
    }
}

// Heads until the final one. upstream->held is what has come.
static void response_heads(struct exchange *exchange)
{
    struct upstream *upstream = exchange->upstream;
    while (upstream->held != NULL) {
        struct io_buf *buf = upstream->held;
        size_t head_len;
        if (response_parse(exchange, buf, &head_len) != STATUS_OK)
            return;
        if (!worker_of(exchange)->response.informational) {
            response_turn(exchange, buf, head_len);
            return;
        }
        if (!response_informational(exchange))
            return;
        upstream->held = io_held_skip(buf, (uint32_t)head_len);
    }
}

void response_data(struct exchange *exchange, struct io_buf *buf)
{
    if (exchange->answering) {
        response_body(exchange, buf);
        return;
    }
    exchange->upstream->held = io_held_join(exchange->upstream->held, buf);
    response_heads(exchange);
}
