// SPDX-License-Identifier: Apache-2.0
// Connections of HTTP/2 to origins: when one is begun, how many requests it takes, and what becomes of them
// when it ends. What an origin may cost is bounded: heads by length, bodies by windows, what is of no use by
// a count that answers earn back.
#include "net/proxy/session_private.h"

#include <string.h>

#include "base/heap.h"

static uint64_t now_of(const struct session *session)
{
    return worker_now_us(session->pool->worker);
}

static void set_timer(struct session *session, uint64_t due_us)
{
    io_timer_set(session->pool->worker->loop, &session->timer, due_us);
}

// ---- out ----

uint32_t session_out_bytes(const struct session *session)
{
    uint32_t bytes = io_stream_pending(&session->carrier->stream);
    for (const struct io_buf *buf = session->out.head; buf != NULL; buf = buf->next)
        bytes += io_buf_len(buf);
    return bytes;
}

static void pump(struct session *session)
{
    const uint8_t *bytes;
    ssize_t len = 0;
    if (session->http2 == NULL || session->broken || session->carrier->closed)
        return;
    while (session_out_bytes(session) < SESSION_OUT_HIGH &&
           (len = nghttp2_session_mem_send(session->http2, &bytes)) > 0)
        if (!http2_put_frame(&session->out, session->pool->worker->loop, bytes, (size_t)len))
            len = NGHTTP2_ERR_NOMEM;
    session->broken = len < 0;
    io_chain_send(&session->out, &session->carrier->stream);
}

static bool is_over(const struct session *session)
{
    return session->broken || (session->http2 != NULL && nghttp2_session_want_read(session->http2) == 0 &&
                               nghttp2_session_want_write(session->http2) == 0);
}

void session_settle(struct session *session)
{
    if (session->busy || session->carrier->closed)
        return;
    pump(session);
    if (is_over(session) || !list_empty(&session->fresh))
        set_timer(session, now_of(session));
}

// ---- streams ----

void session_mark(struct session_stream *s)
{
    if (list_empty(&s->fresh))
        list_push_back(&s->session->fresh, &s->fresh);
}

void session_stream_end(struct session_stream *s, enum status end, const char *why)
{
    if (s->ended)
        return;
    s->ended = true;
    s->end = end;
    s->why = why;
    session_mark(s);
}

static uint32_t streams_max(const struct session *session)
{
    uint32_t theirs =
        nghttp2_session_get_remote_settings(session->http2, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    return theirs < SESSION_STREAMS_MAX ? theirs : SESSION_STREAMS_MAX;
}

// Its endpoint, or the way to speak to it, is another one by now.
static bool is_stale(const struct session *session)
{
    const struct pool *pool = session->pool;
    const struct worker *worker = pool->worker;
    return session->carrier->generation != pool->generation || session->carrier->client != pool->client ||
           !pool->http2 || worker->table == NULL || pool->table != worker->table->version;
}

static bool takes_one(const struct session *session)
{
    if (session->retiring || session->broken || session->carrier->closed || is_stale(session))
        return false;
    if (!session->open) // with an origin that spoke HTTP/1.1 before, each begins a connection of its own
        return session->stream_count < (session->pool->http1 ? 1 : SESSION_STREAMS_MAX);
    return session->stream_count < streams_max(session) &&
           nghttp2_session_check_request_allowed(session->http2) != 0;
}

static struct session *session_with_room(const struct pool *pool)
{
    for (struct list *link = pool->sessions.next; link != &pool->sessions; link = link->next) {
        struct session *session = CONTAINER_OF(link, struct session, link);
        if (takes_one(session))
            return session;
    }
    return NULL;
}

bool session_has_room(const struct pool *pool)
{
    return session_with_room(pool) != NULL;
}

static void free_over(struct session *session)
{
    while (!list_empty(&session->over)) {
        struct session_stream *s = CONTAINER_OF(session->over.next, struct session_stream, link);
        list_remove(&s->link);
        free_list_put(&session->pool->worker->free_session_streams, s);
    }
}

static struct upstream *stream_add(struct session *session, struct exchange *exchange)
{
    struct worker *worker = exchange->worker;
    if (!session->busy)
        free_over(session);
    struct session_stream *s = free_list_get(&worker->free_session_streams, sizeof *s);
    if (s == NULL)
        return NULL;
    memset(s, 0, sizeof *s);
    s->session = session;
    s->upstream.session = session;
    s->upstream.pool = session->pool;
    s->upstream.generation = session->carrier->generation;
    s->upstream.uses = session->uses++;
    s->upstream.connecting = true;
    s->begun_us = now_of(session);
    list_init(&s->fresh);
    list_init(&s->upstream.link);
    list_push_back(&session->streams, &s->link);
    session->stream_count++;
    upstream_use(&s->upstream, exchange);
    if (exchange->upgrade)
        session_stream_end(s, STATUS_UNSUPPORTED,
                           "its origin speaks HTTP/2, where requests are not upgraded");
    if (session->open) {
        s->upstream.connecting = false;
        s->begun = true;
        session->begun_count++;
    }
    return &s->upstream;
}

static void lies_idle(struct session *session)
{
    if (session->retiring || is_stale(session) || session->pool->worker->phase != PHASE_SERVE)
        session->idle_due_us = now_of(session);
    else
        session->idle_due_us = now_of(session) + session->pool->idle_max_us;
    set_timer(session, session->idle_due_us);
}

// The storage stays until nobody looks at it any more.
static void stream_remove(struct session_stream *s)
{
    struct session *session = s->session;
    list_remove(&s->link);
    list_remove(&s->fresh);
    list_push_back(&session->over, &s->link);
    session->stream_count--;
    session->begun_count -= s->begun;
    if (session->headed == s)
        session->headed = NULL;
    io_chain_put(&s->in);
    io_chain_put(&s->out);
    io_buf_put(s->kept);
    io_buf_put(s->storage);
    io_buf_put(s->trailers);
    io_buf_put(s->answer_trailers);
    if (session->stream_count == 0)
        lies_idle(session);
}

void session_leave(struct upstream *upstream)
{
    struct session_stream *s = session_stream_of(upstream);
    struct session *session = s->session;
    if (s->id > 0 && !s->closed) {
        (void)nghttp2_session_set_stream_user_data(session->http2, s->id, NULL);
        (void)nghttp2_submit_rst_stream(session->http2, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
    }
    // It may be gone without a word: who comes next gets another connection.
    uint64_t since_us = session->heard_us > s->begun_us ? session->heard_us : s->begun_us;
    bool silent = !upstream->answered && now_of(session) - since_us >= SESSION_SILENT_US;
    session->retiring = session->retiring || (silent && s->begun);
    stream_remove(s);
    session_settle(session);
}

uint32_t session_unsent(const struct upstream *upstream)
{
    return session_stream_of(upstream)->queued;
}

void session_send(struct upstream *upstream, struct io_chain *bytes)
{
    struct session_stream *s = session_stream_of(upstream);
    session_request(s, bytes);
    s->full = s->full || s->queued > SEND_HIGH_BYTES;
}

bool session_taking(struct upstream *upstream, uint64_t *mark)
{
    struct session_stream *s = session_stream_of(upstream);
    bool moved = s->queued > 0 && s->sent != *mark;
    *mark = s->sent;
    bool taken = s->queued == 0 && io_stream_taking(&s->session->carrier->stream, &s->taken_mark);
    return moved || taken;
}

const struct io_stream *session_wire(const struct upstream *upstream)
{
    return &upstream->session->carrier->stream;
}

void session_resume(struct upstream *upstream)
{
    struct session_stream *s = session_stream_of(upstream);
    session_mark(s);
    session_settle(s->session);
}

void session_retire(struct upstream *upstream)
{
    upstream->session->retiring = true;
}

// ---- telling ----

// The request goes to another connection, as if it had not been sent on this one.
static void move_on(struct exchange *exchange)
{
    exchange->moved = true;
    exchange->attempts--;
    exchange_drop_upstream(exchange, false);
    exchange_attempt(exchange);
}

// It may be sent again whatever it is: the origin says that it did not begin with it (RFC 9113, 8.7).
static void tell_refused(struct session_stream *s)
{
    struct exchange *exchange = s->upstream.exchange;
    bool whole = s->kept != NULL && !s->upstream.answered;
    if (whole) {
        io_chain_put(&exchange->pending);
        io_chain_push(&exchange->pending, s->kept);
        s->kept = NULL;
        s->upstream.connecting = true; // no byte of it counts as sent
    }
    if (whole && s->session->goaway && !exchange->moved)
        move_on(exchange);
    else
        exchange_attempt_failed(exchange, ATTEMPT_RESET, s->why);
}

static void tell_closed(struct session_stream *s)
{
    struct exchange *exchange = s->upstream.exchange;
    if (s->answer_trailers != NULL && exchange->answering)
        response_trailers(exchange, s->answer_trailers);
    else
        io_buf_put(s->answer_trailers);
    s->answer_trailers = NULL;
    exchange_upstream_ended(exchange, STATUS_CLOSED);
}

static void tell_end(struct session_stream *s)
{
    struct exchange *exchange = s->upstream.exchange;
    bool cut = exchange->compressed != NULL && compressed_waits(exchange); // it is too late to wait for it
    if (s->end == STATUS_UNSUPPORTED) {
        exchange_complete(exchange, FATE_ABORTED);
        exchange_answer(exchange, 502, s->why);
    } else if (!s->begun) {
        exchange_not_connected(exchange, s->why, "the origin reset the connection within the TLS handshake");
    } else if (s->end == STATUS_REFUSED) {
        tell_refused(s);
    } else if (s->end == STATUS_FULL) {
        exchange_starved(exchange);
    } else if (s->end == STATUS_CLOSED && !cut) {
        tell_closed(s);
    } else {
        exchange_attempt_failed(exchange, s->end == STATUS_INVALID ? ATTEMPT_BROKEN : ATTEMPT_RESET, s->why);
    }
}

static void give_credit(struct session_stream *s)
{
    if (s->unread > 0 && !s->closed)
        (void)nghttp2_session_consume_stream(s->session->http2, s->id, s->unread);
    s->unread = 0;
}

// all: whatever holds it back, for nothing can be told later.
static void tell(struct session_stream *s, bool all)
{
    struct upstream *upstream = &s->upstream;
    if (s->full && s->queued <= SEND_HIGH_BYTES / 2) {
        s->full = false;
        exchange_upstream_drained(upstream->exchange);
    }
    while (!upstream->closed && s->in.head != NULL && (all || !upstream->paused)) {
        struct io_buf *buf = s->in.head;
        s->in.head = buf->next;
        buf->next = NULL;
        upstream->answered = true;
        response_data(upstream->exchange, buf);
    }
    if (upstream->closed || s->in.head != NULL)
        return;
    s->in.tail = NULL;
    if (!upstream->paused)
        give_credit(s);
    if (s->ended && (all || !upstream->paused))
        tell_end(s);
}

static void begin_waiting(struct session *session)
{
    struct list *next;
    for (struct list *link = session->streams.next; session->open && link != &session->streams; link = next) {
        struct session_stream *s = CONTAINER_OF(link, struct session_stream, link);
        next = link->next;
        if (s->begun || s->ended)
            continue;
        if (session->begun_count >= streams_max(session)) { // the origin takes fewer than was hoped for
            move_on(s->upstream.exchange);
        } else {
            s->begun = true;
            session->begun_count++;
            s->upstream.connecting = false;
            exchange_upstream_opened(s->upstream.exchange, STATUS_OK);
        }
        next = session->streams.next; // the list may be another one now
    }
}

static void tell_all(struct session *session, bool all)
{
    while (!list_empty(&session->fresh)) {
        struct session_stream *s = CONTAINER_OF(session->fresh.next, struct session_stream, fresh);
        list_remove(&s->fresh);
        tell(s, all);
    }
}

// ---- the end of a connection ----

static void session_fail(struct session *session, const char *why)
{
    session->busy = true;
    if (!session->open && !session->retiring)
        upstream_failed(session->carrier);
    session->retiring = true;
    for (struct list *link = session->streams.next; link != &session->streams; link = link->next) {
        struct session_stream *s = CONTAINER_OF(link, struct session_stream, link);
        s->closed = true;
        session_stream_end(s, STATUS_RESET, why);
        session_mark(s);
    }
    tell_all(session, true);
    session->busy = false;
    list_remove(&session->link);
    upstream_close(session->carrier);
}

static const char *why_over(const struct session *session)
{
    const char *why = tls_why(&session->carrier->stream);
    if (why[0] != '\0')
        return why;
    return session->open ? "the origin broke the rules of HTTP/2" : "the origin does not speak HTTP/2";
}

static void leave(struct session *session)
{
    begin_waiting(session);
    tell_all(session, false);
    pump(session);
    session->busy = false;
    if (is_over(session))
        session_fail(session, why_over(session));
    else if (session->retiring && session->stream_count == 0)
        session_fail(session, "");
    else if (!list_empty(&session->fresh))
        set_timer(session, now_of(session));
    free_over(session);
}

static void on_timer(struct io_timer *timer)
{
    struct session *session = CONTAINER_OF(timer, struct session, timer);
    if (session->stream_count == 0 && now_of(session) >= session->idle_due_us) {
        session_fail(session, "");
        return;
    }
    session->busy = true;
    leave(session);
    if (!session->carrier->closed && session->stream_count == 0 && !io_timer_is_set(timer))
        set_timer(session, session->idle_due_us);
}

void session_retire_all(struct pool *pool)
{
    struct list *next;
    for (struct list *link = pool->sessions.next; link != &pool->sessions; link = next) {
        struct session *session = CONTAINER_OF(link, struct session, link);
        next = link->next;
        session->retiring = true;
        if (session->stream_count == 0 && !session->busy)
            session_fail(session, "");
    }
}

// ---- what comes: heads ----

static void too_costly(struct session *session)
{
    (void)nghttp2_session_terminate_session(session->http2, NGHTTP2_ENHANCE_YOUR_CALM);
}

static void count_chatter(struct session *session)
{
    if (!http2_chatter_count(&session->chatter, now_of(session)))
        too_costly(session);
}

static void malformed(struct session_stream *s, const char *why)
{
    if (!s->closed)
        (void)nghttp2_submit_rst_stream(s->session->http2, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_PROTOCOL_ERROR);
    session_stream_end(s, STATUS_INVALID, why);
}

static int on_begin_headers(nghttp2_session *http2, const nghttp2_frame *frame, void *user)
{
    _Static_assert((int)IO_BUF_BYTES >= (int)HTTP2_HEAD_BYTES, "a buffer holds what a head is written to");
    struct session *session = user;
    const struct worker *worker = session->pool->worker;
    struct session_stream *s = nghttp2_session_get_stream_user_data(http2, frame->hd.stream_id);
    session->headed = NULL;
    if (s == NULL || s->ended)
        return 0;
    if (session->lines == NULL)
        session->lines = io_buf_get(worker->loop);
    if (session->lines == NULL) {
        session_stream_end(s, STATUS_FULL, "out of buffers");
        return 0;
    }
    session->headed = s;
    if (s->answered)
        http2_head_init(&session->head, (char *)session->lines->data, NULL, &worker->proxy->limits);
    else
        http2_head_init_answer(&session->head, (char *)session->lines->data, &worker->proxy->limits);
    return 0;
}

static int on_header(nghttp2_session *http2, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *user)
{
    (void)http2;
    (void)frame;
    (void)flags;
    struct session *session = user;
    if (session->headed != NULL)
        http2_head_add(&session->head, (struct slice){(const char *)name, name_len},
                       (struct slice){(const char *)value, value_len});
    return 0;
}

static struct io_buf *take_lines(struct session *session)
{
    struct io_buf *lines = session->lines;
    lines->start = 0;
    lines->end = session->head.lines_len;
    session->lines = NULL;
    return lines;
}

static void take_head(struct session *session, struct session_stream *s, bool ended)
{
    unsigned status;
    enum http1_reject why;
    enum http_method method = (enum http_method)s->upstream.exchange->method;
    if (http2_head_answer(&session->head, ended, method, &status, &why) != STATUS_OK) {
        malformed(s, http1_reject_text(why));
        return;
    }
    if (status < 200)
        count_chatter(session);
    else
        http2_chatter_earn(&session->chatter, HTTP2_CHATTER_PER_HEAD);
    bool bodiless = method == HTTP_METHOD_HEAD || status == 204 || status == 304;
    s->answered = status >= 200;
    s->sized = bodiless || session->head.sized;
    s->content_left = bodiless ? 0 : session->head.length;
    io_buf_put(s->kept);
    s->kept = NULL;
    io_chain_push(&s->in, take_lines(session));
    session_mark(s);
}

static void take_trailers(struct session *session, struct session_stream *s, bool ended)
{
    struct http_fields trailers;
    enum http1_reject why = HTTP2_REJECT_PSEUDO;
    if (!ended || http2_head_trailers(&session->head, &trailers, &why) != STATUS_OK)
        malformed(s, http1_reject_text(why));
    else if (session->head.lines_len > 0)
        s->answer_trailers = take_lines(session);
}

static void end_stream(struct session_stream *s)
{
    if (s->sized && s->content_left > 0)
        malformed(s, http1_reject_text(HTTP2_REJECT_LENGTH));
    else
        session_stream_end(s, STATUS_CLOSED, "");
}

static void end_head(struct session *session, const nghttp2_frame *frame)
{
    struct session_stream *s = session->headed;
    bool ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    session->headed = NULL;
    if (s == NULL)
        return;
    if (s->answered)
        take_trailers(session, s, ended);
    else
        take_head(session, s, ended);
    if (ended)
        end_stream(s);
}

// ---- what comes: bodies and frames ----

static int on_data_chunk(nghttp2_session *http2, uint8_t flags, int32_t id, const uint8_t *bytes, size_t len,
                         void *user)
{
    (void)flags;
    struct session *session = user;
    struct session_stream *s = nghttp2_session_get_stream_user_data(http2, id);
    // The connection's window is given back at once: what one stream holds back holds up no other.
    (void)nghttp2_session_consume_connection(http2, len);
    if (s == NULL || s->ended)
        return 0;
    http2_chatter_earn(&session->chatter, HTTP2_CHATTER_PER_FRAME);
    if (!s->answered || (s->sized && len > s->content_left)) {
        malformed(s, http1_reject_text(s->answered ? HTTP2_REJECT_LENGTH : HTTP2_REJECT_PSEUDO));
        return 0;
    }
    s->content_left -= s->sized ? len : 0;
    s->unread += (uint32_t)len;
    if (!http2_put_frame(&s->in, session->pool->worker->loop, bytes, len))
        session_stream_end(s, STATUS_FULL, "out of buffers");
    session_mark(s);
    return 0;
}

static void settings_came(struct session *session)
{
    struct upstream *carrier = session->carrier;
    if (session->open)
        return;
    session->open = true;
    carrier->connecting = false;
    session->pool->http1 = false;
    if (carrier->generation == session->pool->generation)
        session->pool->failures = 0;
}

static int on_begin_frame(nghttp2_session *http2, const nghttp2_frame_hd *header, void *user)
{
    (void)http2;
    bool of_use = header->type == NGHTTP2_HEADERS || (header->type == NGHTTP2_DATA && header->length > 0);
    if (!of_use)
        count_chatter(user);
    return 0;
}

static int on_frame_recv(nghttp2_session *http2, const nghttp2_frame *frame, void *user)
{
    struct session *session = user;
    bool ack = (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0;
    struct session_stream *s;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        end_head(session, frame);
        break;
    case NGHTTP2_DATA:
        s = nghttp2_session_get_stream_user_data(http2, frame->hd.stream_id);
        if (s != NULL && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
            end_stream(s);
        break;
    case NGHTTP2_SETTINGS:
        if (!ack)
            settings_came(session);
        break;
    case NGHTTP2_GOAWAY:
        session->goaway = session->retiring = true;
        break;
    case NGHTTP2_PUSH_PROMISE: // we have said that we take none
        (void)nghttp2_session_terminate_session(http2, NGHTTP2_PROTOCOL_ERROR);
        break;
    default:
        break;
    }
    return 0;
}

static int on_invalid_frame(nghttp2_session *http2, const nghttp2_frame *frame, int error, void *user)
{
    (void)http2;
    (void)frame;
    (void)error;
    count_chatter(user);
    return 0;
}

static int on_stream_close(nghttp2_session *http2, int32_t id, uint32_t code, void *user)
{
    (void)user;
    struct session_stream *s = nghttp2_session_get_stream_user_data(http2, id);
    if (s == NULL)
        return 0;
    s->closed = true;
    s->upstream.uses = 1; // the connection is well: it was not found dead
    if (code == NGHTTP2_REFUSED_STREAM && !s->answered)
        session_stream_end(s, STATUS_REFUSED, "the origin refused the request");
    else
        session_stream_end(s, STATUS_RESET, "the origin reset the stream");
    return 0;
}

// ---- the connection's events ----

static struct session *session_of_io(struct io_stream *stream)
{
    return CONTAINER_OF(stream, struct upstream, stream)->carries;
}

static nghttp2_session_callbacks *make_callbacks(void)
{
    nghttp2_session_callbacks *callbacks;
    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        return NULL;
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, session_send_data);
    return callbacks;
}

static bool make_http2(struct session *session)
{
    nghttp2_mem memory = http2_memory();
    nghttp2_session_callbacks *callbacks = make_callbacks();
    nghttp2_option *options = http2_options();
    bool made = callbacks != NULL && options != NULL &&
                nghttp2_session_client_new3(&session->http2, callbacks, session, options, &memory) == 0;
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(options);
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, SESSION_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, session->pool->worker->proxy->limits.head_bytes_max},
    };
    return made &&
           nghttp2_submit_settings(session->http2, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) == 0 &&
           nghttp2_session_set_local_window_size(session->http2, NGHTTP2_FLAG_NONE, 0,
                                                 SESSION_CONNECTION_WINDOW) == 0;
}

// The origin agreed to HTTP/1.1: the first request goes on there, and each of the others begins its own.
static void fall_back(struct session *session)
{
    struct upstream *carrier = session->carrier;
    struct pool *pool = session->pool;
    pool->http1 = true;
    session->busy = true;
    session->retiring = true;
    struct exchange *first = NULL;
    while (!list_empty(&session->streams)) {
        struct session_stream *s = CONTAINER_OF(session->streams.next, struct session_stream, link);
        struct exchange *exchange = s->upstream.exchange;
        if (first != NULL) {
            move_on(exchange);
            continue;
        }
        first = exchange;
        exchange_drop_upstream(exchange, false);
        exchange->upstream = carrier;
        upstream_use(carrier, exchange);
    }
    session->busy = false;
    list_remove(&session->link);
    io_timer_clear(pool->worker->loop, &session->timer);
    free_over(session);
    heap_free(session);
    carrier->carries = NULL;
    carrier->stream.ops = &upstream_ops;
    if (first == NULL)
        upstream_close(carrier);
    else
        upstream_ops.on_open(&carrier->stream, STATUS_OK);
}

static void on_open(struct io_stream *stream, enum status status)
{
    struct session *session = session_of_io(stream);
    struct tls_info info;
    if (status != STATUS_OK) {
        session_fail(session, "cannot connect to the origin");
        return;
    }
    if (session->pool->secure && (!tls_info_get(stream, &info) || strcmp(info.protocol, "h2") != 0)) {
        fall_back(session);
        return;
    }
    if (!make_http2(session)) {
        session_fail(session, "out of memory");
        return;
    }
    session->chatter.since_us = now_of(session);
    pump(session);
}

static void on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct session *session = session_of_io(stream);
    buf->next = NULL;
    session->busy = true;
    session->heard_us = now_of(session);
    ssize_t used = session->http2 == NULL
                       ? -1
                       : nghttp2_session_mem_recv(session->http2, buf->data + buf->start, io_buf_len(buf));
    io_buf_put(buf);
    if (used < 0)
        session->broken = true;
    leave(session);
}

static void on_end(struct io_stream *stream, enum status status)
{
    struct session *session = session_of_io(stream);
    const char *why = tls_why(stream);
    if (why[0] == '\0')
        why =
            status == STATUS_CLOSED ? "the origin closed the connection" : "the origin reset the connection";
    session_fail(session, why);
}

static void on_drain(struct io_stream *stream)
{
    struct session *session = session_of_io(stream);
    session->busy = true;
    leave(session);
}

static void on_closed(struct io_stream *stream)
{
    struct session *session = session_of_io(stream);
    CHECK(list_empty(&session->streams));
    io_timer_clear(session->pool->worker->loop, &session->timer);
    free_over(session);
    io_chain_put(&session->out);
    io_buf_put(session->lines);
    nghttp2_session_del(session->http2);
    heap_free(session);
    upstream_ops.on_closed(stream);
}

static const struct io_stream_ops SESSION_OPS = {
    .on_open = on_open, .on_data = on_data, .on_end = on_end, .on_drain = on_drain, .on_closed = on_closed};

// ---- taking one ----

static struct session *session_begin(struct pool *pool, const struct proxy_endpoint *endpoint)
{
    static const char *const protocols[] = {"h2", "http/1.1", NULL};
    struct session *session = heap_alloc(1, sizeof *session);
    if (session == NULL)
        return NULL;
    struct upstream *carrier = upstream_connect(pool, endpoint);
    if (carrier == NULL) {
        heap_free(session);
        return NULL;
    }
    session->carrier = carrier;
    session->pool = pool;
    list_init(&session->streams);
    list_init(&session->fresh);
    list_init(&session->over);
    list_push_back(&pool->sessions, &session->link);
    io_timer_init(&session->timer, on_timer);
    carrier->carries = session;
    carrier->stream.ops = &SESSION_OPS;
    if (pool->secure && tls_offer(&carrier->stream, protocols) != STATUS_OK) {
        session_fail(session, "out of memory");
        return NULL;
    }
    if (list_empty(&pool->link))
        list_push_back(&pool->worker->pools_idle, &pool->link);
    return session;
}

struct upstream *session_take(struct exchange *exchange, struct pool *pool,
                              const struct proxy_endpoint *endpoint)
{
    struct session *session = session_with_room(pool);
    if (session != NULL)
        worker_count(pool->worker, PROXY_WORKER_UPSTREAM_REUSED);
    else if (pool->open < endpoint->connections_max)
        session = session_begin(pool, endpoint);
    return session == NULL ? NULL : stream_add(session, exchange);
}
