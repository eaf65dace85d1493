// SPDX-License-Identifier: Apache-2.0
// The engine of HTTP/2: what nghttp2 makes of the bytes becomes events of streams. What a client may cost is
// bounded here: heads by length and time, bodies by windows, streams by number, what is broken off and what
// is of no use by a count that served requests earn back (CVE-2023-44487 and its kin).
#include "net/server/http2_private.h"

#include "base/heap.h"

static struct http2_stream *stream_by_id(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static const struct server_handler *handler_of(const struct http2 *h)
{
    return h->connection->stream.server->handler;
}

// ---- time ----

static void set_due(struct http2 *h)
{
    uint64_t due_us = h->head_due_us < h->idle_due_us ? h->head_due_us : h->idle_due_us;
    due_us = h->drain_due_us < due_us ? h->drain_due_us : due_us;
    if (due_us == UINT64_MAX)
        h->connection->due_us = due_us;
    else
        connection_due(h->connection, due_us);
}

void http2_stream_due(struct http2_stream *s, uint64_t due_us)
{
    s->due_us = due_us;
    if (due_us != UINT64_MAX && (!io_timer_is_set(&s->timer) || s->timer.deadline_us > due_us))
        io_timer_set(s->stream.server->loop, &s->timer, due_us);
}

// ---- streams ----

static void on_stream_timer(struct io_timer *timer);

static void put_head_storage(struct http2 *h)
{
    io_buf_put(h->lines);
    io_buf_put(h->aside);
    h->lines = NULL;
    h->aside = NULL;
    h->headed = NULL;
    h->head_due_us = UINT64_MAX;
}

static struct http2_stream *stream_create(struct http2 *h, int32_t id)
{
    struct connection *c = h->connection;
    struct server *server = c->stream.server;
    struct http2_stream *s = free_list_get(&server->free_streams, sizeof *s);
    if (s == NULL)
        return NULL;
    memset(s, 0, sizeof *s);
    s->stream.server = server;
    s->stream.connection = c;
    s->stream.begun_us = connection_now_us(c);
    s->http2 = h;
    s->id = id;
    list_init(&s->fresh);
    io_timer_init(&s->timer, on_stream_timer);
    s->due_us = UINT64_MAX;
    list_push_back(&h->streams, &s->link);
    h->stream_count++;
    h->idle_due_us = UINT64_MAX;
    c->active = true;
    connection_note(c, SERVER_NOTE_STREAM);
    return s;
}

void http2_stream_free(struct http2_stream *s)
{
    struct http2 *h = s->http2;
    struct connection *c = h->connection;
    if (h->headed == s)
        put_head_storage(h);
    http2_drop_queue(s);
    io_held_put(s->early);
    io_timer_clear(s->stream.server->loop, &s->timer);
    list_remove(&s->link);
    list_remove(&s->fresh);
    h->full_count -= s->full;
    h->stream_count--;
    connection_note(c, SERVER_NOTE_STREAM_CLOSED);
    free_list_put(&s->stream.server->free_streams, s);
    if (h->stream_count > 0 || c->state == CONNECTION_CLOSED)
        return;
    c->active = false;
    h->idle_due_us = connection_idle_due_us(c);
}

// Its handler is told, once, that the client is gone.
static void tell_gone(struct http2_stream *s)
{
    s->active = false;
    handler_of(s->http2)->gone(&s->stream);
    http2_stream_free(s);
}

void http2_stream_reset(struct http2_stream *s, uint32_t code)
{
    if (!s->closed)
        (void)nghttp2_submit_rst_stream(s->http2->session, NGHTTP2_FLAG_NONE, s->id, code);
}

void http2_stream_over(struct http2_stream *s)
{
    struct http2 *h = s->http2;
    s->active = false;
    if (s->closed) {
        http2_stream_free(s);
        return;
    }
    // What is still to come of the request is not wanted (RFC 9113, 8.1).
    if (s->end_sent && !s->request_ended)
        http2_stream_reset(s, NGHTTP2_NO_ERROR);
    http2_stream_due(s, connection_now_us(h->connection) + s->stream.server->limits.idle_us);
    http2_settle(h);
}

// Ends the stream, or what would have become one, with the event `refused`.
static void refuse(struct http2_stream *s, enum server_refusal refusal, unsigned status, const char *why)
{
    if (refusal != SERVER_REFUSAL_BODY) {
        s->stream.subject = NULL;
        s->active = true;
    }
    handler_of(s->http2)->refused(&s->stream, refusal, status, why);
    if (!s->active)
        return;
    http2_stream_reset(s, NGHTTP2_PROTOCOL_ERROR);
    http2_stream_over(s);
}

static void refuse_body(struct http2_stream *s, enum http1_reject why)
{
    refuse(s, SERVER_REFUSAL_BODY, http1_reject_status(why), http1_reject_text(why));
}

// ---- what a client may cost ----

static void calm(struct http2 *h)
{
    if (!h->calmed)
        connection_note(h->connection, SERVER_NOTE_CALMED);
    h->calmed = true;
    (void)nghttp2_session_terminate_session(h->session, NGHTTP2_ENHANCE_YOUR_CALM);
}

// A frame that asks for nothing. Time earns some, so does what is asked and answered.
static void count_chatter(struct http2 *h)
{
    if (!http2_chatter_count(&h->chatter, connection_now_us(h->connection)))
        calm(h);
}

// Streams that end without having been served cost us work that the client did not wait for.
static void count_end(struct http2 *h, const struct http2_stream *s)
{
    if (s->end_sent)
        h->served++;
    else if (++h->resets > HTTP2_RESETS_MAX + h->served)
        calm(h);
}

// ---- heads ----

static int take_head_storage(struct http2 *h)
{
    struct connection *c = h->connection;
    if (h->lines == NULL)
        h->lines = io_buf_get(c->io.loop);
    if (h->aside == NULL)
        h->aside = io_buf_get(c->io.loop);
    return h->lines != NULL && h->aside != NULL ? 0 : -1;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    _Static_assert((int)IO_BUF_BYTES >= (int)HTTP2_HEAD_BYTES, "a buffer holds what a head is written to");
    struct http2 *h = user;
    struct connection *c = h->connection;
    bool request = frame->headers.cat == NGHTTP2_HCAT_REQUEST;
    struct http2_stream *s =
        request ? stream_create(h, frame->hd.stream_id) : stream_by_id(session, frame->hd.stream_id);
    if (request && s == NULL)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (request)
        (void)nghttp2_session_set_stream_user_data(session, s->id, s);
    if (!request && s != NULL && !s->active)
        s = NULL;
    h->head_due_us = connection_now_us(c) + c->stream.server->limits.head_us;
    h->headed = s;
    if (s == NULL)
        return 0;
    if (take_head_storage(h) != 0) {
        put_head_storage(h);
        refuse(s, request ? SERVER_REFUSAL_STARVED : SERVER_REFUSAL_BODY, 503, "out of buffers");
        return 0;
    }
    http2_head_init(&h->head, (char *)h->lines->data, request ? (char *)h->aside->data : NULL,
                    &c->stream.server->http1);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags, void *user)
{
    (void)session;
    (void)frame;
    (void)flags;
    struct http2 *h = user;
    if (h->headed != NULL)
        http2_head_add(&h->head, (struct slice){(const char *)name, name_len},
                       (struct slice){(const char *)value, value_len});
    return 0;
}

static void put_base64(char *to, const uint8_t *bytes, size_t len)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < len; i += 3) {
        uint32_t word = (uint32_t)bytes[i] << 16;
        word |= i + 1 < len ? (uint32_t)bytes[i + 1] << 8 : 0;
        word |= i + 2 < len ? bytes[i + 2] : 0;
        *to++ = DIGITS[word >> 18];
        *to++ = DIGITS[word >> 12 & 63];
        *to++ = i + 1 < len ? DIGITS[word >> 6 & 63] : '=';
        *to++ = i + 2 < len ? DIGITS[word & 63] : '=';
    }
}

// For a WebSocket (RFC 6455, 4.1): proves nothing between us and the origin, but is asked for.
static void make_key(struct http2 *h, char key[HTTP2_KEY_BYTES])
{
    const struct connection *c = h->connection;
    uint64_t words[2] = {connection_now_us(c), (uint64_t)h->serial++ << 16 | c->spread};
    words[0] = siphash(c->stream.server->site_key, words, sizeof words);
    words[1] = siphash(c->stream.server->site_key, words, sizeof words);
    uint8_t bytes[sizeof words];
    memcpy(bytes, words, sizeof bytes);
    put_base64(key, bytes, sizeof bytes);
}

// Something of its body was told, or may be.
static void owe_flush(struct http2_stream *s)
{
    if (list_empty(&s->fresh))
        list_push_back(&s->http2->fresh, &s->fresh);
}

static void tell_request(struct http2 *h, struct http2_stream *s, bool ended)
{
    struct server *server = s->stream.server;
    struct http_request *request = &server->request;
    char key[HTTP2_KEY_BYTES];
    enum http1_reject why;
    s->request_ended = ended;
    if (http2_head_opens(&h->head))
        make_key(h, key);
    if (http2_head_request(&h->head, ended, (struct slice){key, sizeof key}, request, &why) != STATUS_OK) {
        refuse(s, SERVER_REFUSAL_MALFORMED, http1_reject_status(why), http1_reject_text(why));
        return;
    }
    http2_chatter_earn(&h->chatter, HTTP2_CHATTER_PER_HEAD);
    s->active = true;
    s->opens = request->upgrade.len > 0;
    s->sized = request->framing == HTTP_FRAMING_LENGTH;
    s->content_left = request->content_length;
    s->request_done = request->framing == HTTP_FRAMING_NONE || (s->sized && s->content_left == 0);
    if (!s->request_done)
        owe_flush(s);
    server->handler->request(&s->stream, request);
}

static void tell_end(struct http2_stream *s, struct http_fields *trailers)
{
    if (s->sized && s->content_left > 0) {
        refuse_body(s, HTTP2_REJECT_LENGTH);
        return;
    }
    s->request_done = true;
    owe_flush(s);
    handler_of(s->http2)->ended(&s->stream, trailers);
}

static void tell_trailers(struct http2 *h, struct http2_stream *s, bool ended)
{
    struct http_fields trailers;
    enum http1_reject why = HTTP2_REJECT_PSEUDO;
    s->request_ended = ended;
    if (s->opens) {
        refuse_body(s, HTTP2_REJECT_PSEUDO);
        return;
    }
    if (s->request_done)
        return;
    // A second head, if not the last word, is no trailer (RFC 9113, 8.1).
    if (!ended || http2_head_trailers(&h->head, &trailers, &why) != STATUS_OK)
        refuse_body(s, why);
    else
        tell_end(s, trailers.count > 0 ? &trailers : NULL);
}

static void end_head(struct http2 *h, const nghttp2_frame *frame)
{
    struct http2_stream *s = h->headed;
    bool ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (s != NULL && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        tell_request(h, s, ended);
    else if (s != NULL && s->active)
        tell_trailers(h, s, ended);
    put_head_storage(h);
}

// ---- bodies ----

// Bytes of a tunnel go on in buffers of their own. False: out of buffers.
static bool copy_run(struct io_loop *loop, struct slice run, struct io_chain *to)
{
    while (run.len > 0) {
        struct io_buf *buf = io_chain_room(to, loop, 1);
        if (buf == NULL)
            return false;
        size_t n = run.len < io_buf_room(buf) ? run.len : io_buf_room(buf);
        memcpy(buf->data + buf->end, run.data, n);
        buf->end += (uint32_t)n;
        run = (struct slice){run.data + n, run.len - n};
    }
    return true;
}

static void lose(struct http2_stream *s)
{
    http2_stream_reset(s, NGHTTP2_INTERNAL_ERROR);
}

static void tell_tunnel(struct http2_stream *s, struct slice run)
{
    struct io_chain chain = {NULL, NULL};
    if (!copy_run(s->stream.server->loop, run, &chain))
        lose(s);
    while (chain.head != NULL && s->active) {
        struct io_buf *buf = chain.head;
        chain.head = buf->next;
        buf->next = NULL;
        struct slice piece = {(char *)buf->data + buf->start, io_buf_len(buf)};
        handler_of(s->http2)->data(&s->stream, piece, &buf);
        io_buf_put(buf);
    }
    io_held_put(chain.head);
}

static void keep_early(struct http2_stream *s, struct slice run)
{
    struct io_chain chain = {s->early, s->early};
    while (chain.tail != NULL && chain.tail->next != NULL)
        chain.tail = chain.tail->next;
    if (!copy_run(s->stream.server->loop, run, &chain))
        lose(s);
    s->early = chain.head;
}

static void tell_data(struct http2 *h, struct http2_stream *s, struct slice run)
{
    if (s->tunnel) {
        tell_tunnel(s, run);
    } else if (s->opens) {
        keep_early(s, run);
    } else if (s->sized && run.len > s->content_left) {
        refuse_body(s, HTTP2_REJECT_LENGTH);
    } else if (!s->request_done) {
        s->content_left -= s->sized ? run.len : 0;
        owe_flush(s);
        handler_of(h)->data(&s->stream, run, &h->input);
    }
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                         size_t len, void *user)
{
    (void)flags;
    struct http2 *h = user;
    struct http2_stream *s = stream_by_id(session, id);
    if (s != NULL && s->active)
        tell_data(h, s, (struct slice){(const char *)bytes, len});
    if (h->connection->state != CONNECTION_OPEN)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    // The connection's window is given back at once: what one stream holds back holds up no other.
    (void)nghttp2_session_consume_connection(session, len);
    if (s != NULL && s->active && (s->stream.paused || (s->opens && !s->tunnel)))
        s->withheld += (uint32_t)len;
    else if (s != NULL && s->active)
        (void)nghttp2_session_consume_stream(session, id, len);
    return 0;
}

static void end_data(struct http2 *h, const nghttp2_frame *frame)
{
    struct http2_stream *s = stream_by_id(h->session, frame->hd.stream_id);
    const struct server_handler *handler = handler_of(h);
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0 || s == NULL)
        return;
    s->request_ended = true;
    if (!s->active)
        return;
    if (s->opens)
        s->stream.half_closed = true;
    if (s->tunnel && handler->half_closed != NULL)
        handler->half_closed(&s->stream);
    else if (!s->request_done)
        tell_end(s, NULL);
}

// ---- frames ----

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *header, void *user)
{
    (void)session;
    struct http2 *h = user;
    bool of_use = header->type == NGHTTP2_HEADERS || (header->type == NGHTTP2_DATA && header->length > 0);
    if (!of_use)
        count_chatter(h);
    return 0;
}

static void announce_last(struct http2 *h)
{
    h->drain = HTTP2_DRAIN_LAST;
    h->drain_due_us = UINT64_MAX;
    (void)nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                                nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR, NULL,
                                0);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)session;
    struct http2 *h = user;
    if (frame->hd.type == NGHTTP2_RST_STREAM)
        connection_note(h->connection, SERVER_NOTE_RESET_BY_CLIENT);
    if (frame->hd.type == NGHTTP2_HEADERS)
        end_head(h, frame);
    else if (frame->hd.type == NGHTTP2_DATA)
        end_data(h, frame);
    else if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 &&
             h->drain == HTTP2_DRAIN_ANNOUNCED)
        announce_last(h);
    return h->connection->state == CONNECTION_OPEN ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error, void *user)
{
    (void)session;
    (void)frame;
    (void)error;
    count_chatter(user);
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct http2 *h = user;
    if (frame->hd.type == NGHTTP2_DATA)
        http2_chatter_earn(&h->chatter, HTTP2_CHATTER_PER_FRAME);
    if (frame->hd.type == NGHTTP2_GOAWAY)
        connection_note(h->connection, SERVER_NOTE_GOAWAY);
    if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != NGHTTP2_NO_ERROR)
        connection_note(h->connection, SERVER_NOTE_RESET);
    // Its answer says that all that was sent before the client knew has come.
    if (frame->hd.type == NGHTTP2_GOAWAY && h->drain == HTTP2_DRAIN_ANNOUNCED)
        (void)nghttp2_submit_ping(session, NGHTTP2_FLAG_NONE, NULL);
    if ((frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) ||
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
        return 0;
    struct http2_stream *s = stream_by_id(session, frame->hd.stream_id);
    if (s == NULL)
        return 0;
    s->end_sent = true;
    if (!s->active && !s->request_ended)
        http2_stream_reset(s, NGHTTP2_NO_ERROR);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    (void)code;
    struct http2 *h = user;
    struct http2_stream *s = stream_by_id(session, id);
    if (s == NULL)
        return 0;
    s->closed = true;
    count_end(h, s);
    http2_drop_queue(s);
    bool whole = s->end_sent && s->request_ended; // its handler is about to end it
    if (!s->active)
        http2_stream_free(s);
    else if (!whole && h->connection->busy)
        tell_gone(s);
    else if (!whole)
        http2_stream_due(s, connection_now_us(h->connection));
    return 0;
}

// ---- the end of a callback ----

static void tell_flush(struct http2 *h)
{
    const struct server_handler *handler = handler_of(h);
    while (!list_empty(&h->fresh)) {
        struct http2_stream *s = CONTAINER_OF(h->fresh.next, struct http2_stream, fresh);
        list_remove(&s->fresh);
        if (s->active && handler->flush != NULL)
            handler->flush(&s->stream);
    }
}

static void tell_drained(struct http2 *h)
{
    const struct server_handler *handler = handler_of(h);
    struct list *next;
    for (struct list *node = h->streams.next; node != &h->streams; node = next) {
        struct http2_stream *s = CONTAINER_OF(node, struct http2_stream, link);
        next = node->next;
        if (!s->full || s->queued > IO_BUF_BYTES / 4)
            continue;
        s->full = false;
        h->full_count--;
        if (s->active && handler->drained != NULL)
            handler->drained(&s->stream);
    }
}

static bool is_over(struct http2 *h)
{
    bool drained = h->drain == HTTP2_DRAIN_LAST && h->stream_count == 0;
    bool silent = nghttp2_session_want_read(h->session) == 0 || drained;
    return h->broken || (silent && nghttp2_session_want_write(h->session) == 0);
}

static void finish(struct http2 *h)
{
    struct connection *c = h->connection;
    HTTP2_ENGINE.gone(c);
    if (h->broken)
        connection_close(c, true);
    else
        connection_linger(c);
}

static void leave(struct http2 *h)
{
    struct connection *c = h->connection;
    if (c->state == CONNECTION_OPEN) {
        tell_flush(h);
        http2_pump(h);
        if (h->full_count > 0) {
            tell_drained(h);
            http2_pump(h);
        }
    }
    if (c->state == CONNECTION_OPEN && is_over(h)) {
        finish(h);
    } else if (c->state == CONNECTION_OPEN) {
        set_due(h);
        // What answers to a client that does not read is not piled up: then it is not read either.
        if (nghttp2_session_get_outbound_queue_size(h->session) > 2 * HTTP2_STREAMS_MAX)
            connection_pause(c);
        else
            connection_resume(c);
    }
    c->busy = false;
}

void http2_settle(struct http2 *h)
{
    struct connection *c = h->connection;
    if (c->busy || c->state != CONNECTION_OPEN)
        return;
    http2_pump(h);
    set_due(h);
    if (is_over(h))
        connection_due(c, connection_now_us(c));
}

// ---- time is over ----

static void on_stream_timer(struct io_timer *timer)
{
    struct http2_stream *s = CONTAINER_OF(timer, struct http2_stream, timer);
    struct http2 *h = s->http2;
    struct connection *c = h->connection;
    if (c->state != CONNECTION_OPEN || s->due_us == UINT64_MAX)
        return;
    uint64_t now_us = connection_now_us(c);
    if (now_us < s->due_us) {
        io_timer_set(c->io.loop, timer, s->due_us);
        return;
    }
    c->busy = true;
    if (s->active && s->closed && !(s->end_sent && s->request_ended))
        tell_gone(s);
    else if (s->active)
        handler_of(h)->due(&s->stream);
    else if (HTTP2_ENGINE.taking(&s->stream, &s->sent_mark))
        http2_stream_due(s, now_us + c->stream.server->limits.idle_us);
    else
        http2_stream_reset(s, NGHTTP2_CANCEL);
    leave(h);
}

// The head that did not come to its end keeps all others from coming.
static void head_is_late(struct http2 *h)
{
    struct http2_stream *s = h->headed;
    bool request = s != NULL && !s->active;
    put_head_storage(h);
    if (request)
        refuse(s, SERVER_REFUSAL_LATE, 408, "request head took too long");
    http2_pump(h);
    (void)nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
}

static void drain_on(struct http2 *h, uint64_t now_us)
{
    if (h->drain == HTTP2_DRAIN_ANNOUNCED) {
        announce_last(h);
        return;
    }
    h->drain = HTTP2_DRAIN_ANNOUNCED;
    h->drain_due_us = now_us + HTTP2_DRAIN_US;
    (void)nghttp2_submit_shutdown_notice(h->session);
}

static void idle_is_over(struct http2 *h, uint64_t now_us)
{
    struct connection *c = h->connection;
    struct server *server = c->stream.server;
    if (io_stream_taking(&c->io, &c->taken_mark)) {
        h->idle_due_us = now_us + server->limits.idle_us;
        return;
    }
    connection_note(c, SERVER_NOTE_IDLE);
    h->idle_due_us = UINT64_MAX;
    (void)nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
}

static void on_timer(struct io_timer *timer)
{
    struct connection *c = CONTAINER_OF(timer, struct connection, timer);
    struct http2 *h = c->http2;
    uint64_t now_us = connection_now_us(c);
    if (now_us < c->due_us) {
        if (c->due_us != UINT64_MAX)
            io_timer_set(c->io.loop, timer, c->due_us);
        return;
    }
    c->busy = true;
    if (c->state != CONNECTION_OPEN)
        connection_wait_over(c);
    else if (now_us >= h->head_due_us)
        head_is_late(h);
    else if (now_us >= h->drain_due_us)
        drain_on(h, now_us);
    else if (now_us >= h->idle_due_us)
        idle_is_over(h, now_us);
    leave(h);
}

// ---- the connection's events ----

static struct connection *connection_of_io(struct io_stream *stream)
{
    return CONTAINER_OF(stream, struct connection, io);
}

static void on_open(struct io_stream *stream, enum status status)
{
    (void)stream;
    (void)status;
}

static void read_buf(struct http2 *h, struct io_buf *buf)
{
    const struct connection *c = h->connection;
    buf->next = NULL;
    h->input = buf;
    ssize_t used = nghttp2_session_mem_recv(h->session, buf->data + buf->start, io_buf_len(buf));
    io_buf_put(h->input);
    h->input = NULL;
    if (used < 0 && c->state == CONNECTION_OPEN)
        (void)nghttp2_session_terminate_session(h->session, NGHTTP2_PROTOCOL_ERROR);
}

static void on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct connection *c = connection_of_io(stream);
    if (c->state != CONNECTION_OPEN) {
        connection_drop(c, buf);
        return;
    }
    c->busy = true;
    read_buf(c->http2, buf);
    leave(c->http2);
}

// Without the client's side nothing can go on: windows would not open again.
static void on_end(struct io_stream *stream, enum status status)
{
    struct connection *c = connection_of_io(stream);
    c->stream.half_closed = true;
    if (c->state == CONNECTION_CLOSED ||
        (c->state == CONNECTION_LINGER && status == STATUS_CLOSED && connection_unsent(c) > 0))
        return;
    c->busy = true;
    HTTP2_ENGINE.gone(c);
    connection_close(c, false);
    c->busy = false;
}

static void on_drain(struct io_stream *stream)
{
    struct connection *c = connection_of_io(stream);
    c->busy = true;
    if (c->state == CONNECTION_OPEN)
        connection_flush(c, true);
    else
        connection_linger_drained(c);
    leave(c->http2);
}

static void on_closed(struct io_stream *stream)
{
    struct connection *c = connection_of_io(stream);
    struct http2 *h = c->http2;
    while (!list_empty(&h->streams))
        http2_stream_free(CONTAINER_OF(h->streams.next, struct http2_stream, link));
    put_head_storage(h);
    nghttp2_session_del(h->session);
    heap_free(h);
    connection_free(c);
}

static const struct io_stream_ops OPS = {
    .on_open = on_open, .on_data = on_data, .on_end = on_end, .on_drain = on_drain, .on_closed = on_closed};

// ---- the beginning ----

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
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, http2_send_data);
    return callbacks;
}

static bool make_session(struct http2 *h)
{
    nghttp2_mem memory = http2_memory();
    nghttp2_session_callbacks *callbacks = make_callbacks();
    nghttp2_option *options = http2_options();
    bool made = callbacks != NULL && options != NULL &&
                nghttp2_session_server_new3(&h->session, callbacks, h, options, &memory) == 0;
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(options);
    return made;
}

static bool submit_settings(struct http2 *h)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, HTTP2_STREAMS_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, h->connection->stream.server->http1.head_bytes_max},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
    };
    return nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) == 0 &&
           nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, HTTP2_CONNECTION_WINDOW) ==
               0;
}

bool http2_begin(struct connection *c)
{
    struct http2 *h = heap_alloc(1, sizeof *h);
    if (h == NULL)
        return false;
    h->connection = c;
    list_init(&h->streams);
    list_init(&h->fresh);
    h->head_due_us = UINT64_MAX;
    h->drain_due_us = UINT64_MAX;
    // Behind a handshake, the first request must come within the time of both.
    h->idle_due_us = c->io.filter != NULL ? c->due_us : connection_idle_due_us(c);
    h->chatter.since_us = connection_now_us(c);
    if (!make_session(h) || !submit_settings(h)) {
        nghttp2_session_del(h->session);
        heap_free(h);
        return false;
    }
    c->http2 = h;
    c->engine = &HTTP2_ENGINE;
    c->io.ops = &OPS;
    c->timer.fire = on_timer;
    http2_settle(h);
    return true;
}

void http2_take_over(struct connection *c)
{
    struct io_buf *held = c->held;
    c->held = NULL;
    if (!http2_begin(c)) {
        io_held_put(held);
        connection_close(c, true);
        return;
    }
    while (held != NULL) {
        struct io_buf *next = held->next;
        if (c->state == CONNECTION_OPEN)
            read_buf(c->http2, held);
        else
            io_buf_put(held);
        held = next;
    }
    leave(c->http2);
}
