// SPDX-License-Identifier: Apache-2.0
// Answers out. A head is written straight into a buffer, its body behind it; answers to pipelined requests
// share buffers.
#include "net/http/http1_write.h"
#include "net/server/server_private.h"

enum { TAIL_ROOM_BYTES = 2048 }; // a buffer with less room than that does not wait for more

static void count_unsent(struct connection *c)
{
    uint32_t unsent = connection_unsent(c);
    c->stream.server->unsent += unsent;
    c->stream.server->unsent -= c->counted;
    c->counted = unsent;
}

void connection_flush(struct connection *c, bool always)
{
    if (c->state == CONNECTION_CLOSED)
        return;
    always = always || io_stream_pending(&c->io) == 0;
    while (c->out.head != NULL) {
        struct io_buf *buf = c->out.head;
        struct io_buf *next = buf->next;
        if (next == NULL && !always && io_buf_room(buf) >= TAIL_ROOM_BYTES)
            break;
        io_stream_send(&c->io, buf);
        c->out.head = next;
    }
    if (c->out.head == NULL)
        c->out.tail = NULL;
    count_unsent(c);
}

void server_flush(struct server_stream *stream)
{
    struct connection *c = connection_of(stream);
    if (!c->busy)
        connection_flush(c, false);
}

// ---- heads ----

// Writes behind what is written already, else into a new buffer. The writer must write all or nothing.
struct head_writer {
    const struct http_response *response;
    const struct http1_forward *forward;
    const struct http_answer *answer; // instead of both
};

static enum status write_in(struct io_buf *buf, const struct head_writer *what)
{
    struct http1_writer writer = http1_writer_over((char *)buf->data + buf->end, io_buf_room(buf));
    enum status status = what->answer != NULL
                             ? http1_write_local(&writer, what->answer)
                             : http1_write_response_head(&writer, what->response, what->forward);
    if (status == STATUS_OK)
        buf->end += (uint32_t)writer.len;
    return status;
}

static enum status write_head(struct connection *c, const struct head_writer *what)
{
    if (c->out.tail != NULL && write_in(c->out.tail, what) == STATUS_OK)
        return STATUS_OK;
    struct io_buf *buf = io_buf_get(c->io.loop);
    if (UNLIKELY(buf == NULL))
        return STATUS_FULL;
    if (UNLIKELY(write_in(buf, what) != STATUS_OK)) {
        io_buf_put(buf);
        return STATUS_INVALID;
    }
    io_chain_push(&c->out, buf);
    return STATUS_OK;
}

// How the body goes to this client, and what becomes of the connection.
static bool settle_framing(const struct connection *c, const struct http_response *response, bool close,
                           struct http1_forward *forward)
{
    uint8_t framing = response->framing;
    if (framing == HTTP_FRAMING_CHUNKED || framing == HTTP_FRAMING_UNTIL_CLOSE)
        framing = c->http10 || close ? HTTP_FRAMING_UNTIL_CLOSE : HTTP_FRAMING_CHUNKED;
    forward->framing = framing;
    forward->content_length = response->content_length;
    bool keep = c->keep && !close && framing != HTTP_FRAMING_UNTIL_CLOSE && c->request_done &&
                !c->stream.server->draining;
    if (!keep)
        forward->connection = HTTP1_CONNECTION_CLOSE;
    else if (c->http10)
        forward->connection = HTTP1_CONNECTION_KEEP_ALIVE;
    return keep;
}

static struct http1_forward forward_of(const struct server_added *added)
{
    if (added == NULL)
        return (struct http1_forward){0};
    return (struct http1_forward){.via = added->via, .add = added->fields, .add_count = added->field_count};
}

enum status server_head(struct server_stream *stream, const struct http_response *response,
                        const struct server_added *added)
{
    struct connection *c = connection_of(stream);
    struct http1_forward forward = forward_of(added);
    const struct head_writer what = {.response = response, .forward = &forward};
    if (UNLIKELY(response->status < 200))
        return c->http10 ? STATUS_OK : write_head(c, &what);
    bool keep = settle_framing(c, response, added != NULL && added->close, &forward);
    forward.upgrade = response->status == 426;
    enum status status = write_head(c, &what);
    if (UNLIKELY(status != STATUS_OK))
        return status;
    c->keep = keep;
    c->chunked = forward.framing == HTTP_FRAMING_CHUNKED;
    return STATUS_OK;
}

enum status server_tunnel(struct server_stream *stream, const struct http_response *response,
                          const struct server_added *added, struct io_buf **early)
{
    struct connection *c = connection_of(stream);
    struct http1_forward forward = forward_of(added);
    const struct head_writer what = {.response = response, .forward = &forward};
    forward.upgrade = true;
    enum status status = write_head(c, &what);
    if (status != STATUS_OK)
        return status;
    c->keep = false;
    c->chunked = false;
    c->tunnel = true;
    *early = c->held;
    c->held = NULL;
    connection_resume(c);
    return STATUS_OK;
}

// ---- bodies and ends ----

enum status server_data(struct server_stream *stream, struct slice run, struct io_buf **buf)
{
    struct connection *c = connection_of(stream);
    return server_frame_run(&c->out, c->io.loop, c->chunked, run, buf);
}

enum status server_data_end(struct server_stream *stream, const struct http_fields *trailers)
{
    struct connection *c = connection_of(stream);
    return c->chunked ? server_frame_last(&c->out, c->io.loop, trailers) : STATUS_OK;
}

void server_half_close(struct server_stream *stream)
{
    struct connection *c = connection_of(stream);
    connection_flush(c, true);
    io_stream_finish(&c->io);
}

void server_end(struct server_stream *stream)
{
    connection_over(connection_of(stream));
}

void server_reset(struct server_stream *stream)
{
    struct connection *c = connection_of(stream);
    c->active = false;
    connection_close(c, true);
}

enum status server_answer(struct server_stream *stream, const struct http_answer *answer)
{
    struct connection *c = connection_of(stream);
    struct http_answer mine = *answer;
    // http1_write_local has no word for a client of HTTP/1.0 that would stay.
    c->keep = c->keep && !answer->close && c->request_done && !c->http10 && !c->stream.server->draining;
    mine.close = !c->keep;
    const struct head_writer what = {.answer = &mine};
    enum status status = write_head(c, &what);
    if (UNLIKELY(status != STATUS_OK))
        server_reset(stream);
    else
        server_end(stream);
    return status;
}
