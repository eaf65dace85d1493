// SPDX-License-Identifier: Apache-2.0
// Requests to origins of HTTP/2: the head that was written for an origin of HTTP/1 becomes fields, and what
// frames the body is taken off again.
#include <string.h>

#include "base/check.h"
#include "net/proxy/session_private.h"

enum { REQUEST_FIELDS_MAX = HTTP_FIELDS_MAX + PROXY_EDITS_MAX + PROXY_FLAG_HEADERS_MAX + 32 };

// ---- the head ----

struct request_head {
    nghttp2_nv fields[REQUEST_FIELDS_MAX];
    size_t count;
    struct slice method, path, host;
    uint64_t length;
    uint8_t framing; // enum http_framing
};

// Cuts what stands before the mark off the front; the head was written by us, so it has one.
static struct slice cut(struct slice *rest, struct slice mark)
{
    const char *at = memmem(rest->data, rest->len, mark.data, mark.len);
    CHECK(at != NULL);
    struct slice before = {rest->data, (size_t)(at - rest->data)};
    rest->data += before.len + mark.len;
    rest->len -= before.len + mark.len;
    return before;
}

static bool put(struct request_head *head, struct slice name, struct slice value)
{
    if (head->count == REQUEST_FIELDS_MAX)
        return false;
    head->fields[head->count++] = http2_field(name, value);
    return true;
}

// RFC 9113, 8.2: names are in small letters. They are ours to change.
static void make_small(struct slice name)
{
    char *at = (char *)(uintptr_t)name.data;
    for (size_t i = 0; i < name.len; i++)
        if (at[i] >= 'A' && at[i] <= 'Z')
            at[i] |= 0x20;
}

// False: there are too many.
static bool put_line(struct request_head *head, struct slice name, struct slice value)
{
    make_small(name);
    switch (http_field_id_of(name)) {
    case HTTP_FIELD_HOST:
        head->host = value;
        return true;
    case HTTP_FIELD_CONTENT_LENGTH:
        head->framing = HTTP_FRAMING_LENGTH;
        if (http_content_length_read(value, &head->length) != HTTP1_REJECT_NONE)
            return false;
        break;
    case HTTP_FIELD_TRANSFER_ENCODING:
        head->framing = HTTP_FRAMING_CHUNKED;
        return true;
    case HTTP_FIELD_CONNECTION: // RFC 9113, 8.2.2
    case HTTP_FIELD_UPGRADE:
    case HTTP_FIELD_KEEP_ALIVE:
    case HTTP_FIELD_PROXY_CONNECTION:
        return true;
    default:
        break;
    }
    return put(head, name, value);
}

enum { PSEUDO_FIELDS = 4 };

// False: it has too many fields.
static bool read_head(struct request_head *head, struct slice text, bool secure)
{
    *head = (struct request_head){.count = PSEUDO_FIELDS, .framing = HTTP_FRAMING_NONE};
    head->method = cut(&text, SLICE(" "));
    head->path = cut(&text, SLICE(" "));
    (void)cut(&text, SLICE("\r\n"));
    while (text.len > 0) {
        struct slice name = cut(&text, SLICE(": "));
        if (!put_line(head, name, cut(&text, SLICE("\r\n"))))
            return false;
    }
    head->fields[0] = http2_field(SLICE(":method"), head->method);
    head->fields[1] = http2_field(SLICE(":scheme"), secure ? SLICE("https") : SLICE("http"));
    head->fields[2] = http2_field(SLICE(":authority"), head->host);
    head->fields[3] = http2_field(SLICE(":path"), head->path);
    return true;
}

static ssize_t read_body(nghttp2_session *http2, int32_t id, uint8_t *to, size_t len, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
    (void)to;
    (void)source;
    struct session_stream *s = nghttp2_session_get_stream_user_data(http2, id);
    if (session_out_bytes(user) >= SESSION_OUT_HIGH)
        return NGHTTP2_ERR_PAUSE;
    if (s == NULL)
        return NGHTTP2_ERR_DEFERRED;
    const struct http2_outgoing body = {s->queued, s->complete, s->trailers};
    return http2_next_data(http2, id, &body, len, flags);
}

int session_send_data(nghttp2_session *http2, nghttp2_frame *frame, const uint8_t *header, size_t len,
                      nghttp2_data_source *source, void *user)
{
    (void)source;
    struct session *session = user;
    struct session_stream *s = nghttp2_session_get_stream_user_data(http2, frame->hd.stream_id);
    if (s == NULL || !http2_put_data(&session->out, session->pool->worker->loop, header, &s->out, len))
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    s->queued -= (uint32_t)len;
    s->sent += len;
    if (s->full && s->queued <= SEND_HIGH_BYTES / 2)
        session_mark(s);
    return 0;
}

// The whole head lies in one buffer, as it was written.
static enum status begin(struct session_stream *s, struct io_buf **buf)
{
    struct session *session = s->session;
    struct worker *worker = session->pool->worker;
    struct request_head head;
    struct slice text = {(char *)(*buf)->data + (*buf)->start, io_buf_len(*buf)};
    struct slice lines = cut(&text, SLICE("\r\n\r\n"));
    lines.len += 2;
    if (!read_head(&head, lines, session->pool->secure))
        return STATUS_FULL;
    if (server_frame_begin(&s->body, &s->storage, worker->loop, (enum http_framing)head.framing, head.length,
                           &worker->proxy->limits) != STATUS_OK)
        return STATUS_FULL;
    s->complete = s->body.done;
    const nghttp2_data_provider body = {.source.ptr = NULL, .read_callback = read_body};
    s->id =
        nghttp2_submit_request(session->http2, NULL, head.fields, head.count, s->complete ? NULL : &body, s);
    if (s->id < 0)
        return STATUS_FULL;
    *buf = io_held_skip(*buf, (uint32_t)lines.len + 2);
    return STATUS_OK;
}

// ---- the body ----

static enum status complete(struct session_stream *s)
{
    struct http_fields storage;
    const struct http_fields *trailers = server_frame_trailers(&s->body, &storage);
    s->complete = true;
    return trailers == NULL ? STATUS_OK
                            : http2_keep_trailers(s->session->pool->worker->loop, trailers, &s->trailers);
}

static enum status take_body(struct session_stream *s, struct io_buf **buf)
{
    struct io_loop *loop = s->session->pool->worker->loop;
    while (*buf != NULL && !s->body.done) {
        size_t used = 0;
        struct slice run = {NULL, 0};
        enum status status =
            http1_body_next(&s->body, (char *)(*buf)->data + (*buf)->start, io_buf_len(*buf), &used, &run);
        if (status != STATUS_OK && status != STATUS_AGAIN)
            return status;
        if (run.len > 0 && server_frame_run(&s->out, loop, false, run, buf) != STATUS_OK)
            return STATUS_FULL;
        s->queued += (uint32_t)run.len;
        if (*buf != NULL)
            *buf = io_held_skip(*buf, (uint32_t)used);
    }
    return s->body.done && !s->complete ? complete(s) : STATUS_OK;
}

// A short request is kept until the origin has begun with it: it may refuse that.
static void keep(struct session_stream *s, const struct io_buf *buf)
{
    const struct worker *worker = s->session->pool->worker;
    bool plenty = io_loop_stats(worker->loop)->bufs_in_use <= worker->proxy->bufs_max / 2;
    if (s->id == 0 && plenty)
        s->kept = io_buf_get(worker->loop);
    if (s->kept == NULL)
        return;
    uint32_t len = io_buf_len(buf);
    if (len > io_buf_room(s->kept)) {
        io_buf_put(s->kept);
        s->kept = NULL;
        return;
    }
    memcpy(s->kept->data + s->kept->end, buf->data + buf->start, len);
    s->kept->end += len;
}

static enum status take(struct session_stream *s, struct io_buf **buf)
{
    enum status status = s->id == 0 ? begin(s, buf) : STATUS_OK;
    return status == STATUS_OK ? take_body(s, buf) : status;
}

void session_request(struct session_stream *s, struct io_chain *bytes)
{
    while (bytes->head != NULL) {
        struct io_buf *buf = bytes->head;
        bytes->head = buf->next;
        buf->next = NULL;
        keep(s, buf);
        if (!s->ended && take(s, &buf) != STATUS_OK)
            session_stream_end(s, STATUS_FULL, "out of buffers");
        io_buf_put(buf);
    }
    bytes->tail = NULL;
    if (s->id > 0 && !s->closed)
        (void)nghttp2_session_resume_data(s->session->http2, s->id); // fails where it was not held back
    session_settle(s->session);
}
