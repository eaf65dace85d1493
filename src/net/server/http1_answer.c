// SPDX-License-Identifier: Apache-2.0
// Answers of HTTP/1 out. A head is written straight into a buffer, its body behind it; answers to pipelined
// requests share buffers.
#include "net/http/http1_write.h"
#include "net/server/server_private.h"

static void http1_flush(struct server_stream *stream)
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

static enum status http1_head(struct server_stream *stream, const struct http_response *response,
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

static enum status http1_tunnel(struct server_stream *stream, const struct http_response *response,
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

static enum status http1_data(struct server_stream *stream, struct slice run, struct io_buf **buf)
{
    struct connection *c = connection_of(stream);
    return server_frame_run(&c->out, c->io.loop, c->chunked, run, buf);
}

static enum status http1_data_end(struct server_stream *stream, const struct http_fields *trailers)
{
    struct connection *c = connection_of(stream);
    return c->chunked ? server_frame_last(&c->out, c->io.loop, trailers) : STATUS_OK;
}

static void http1_half_close(struct server_stream *stream)
{
    struct connection *c = connection_of(stream);
    connection_flush(c, true);
    io_stream_finish(&c->io);
}

static void http1_end(struct server_stream *stream)
{
    connection_over(connection_of(stream));
}

static void http1_reset(struct server_stream *stream)
{
    struct connection *c = connection_of(stream);
    c->active = false;
    connection_close(c, true);
}

static enum status http1_answer(struct server_stream *stream, const struct http_answer *answer)
{
    struct connection *c = connection_of(stream);
    struct http_answer mine = *answer;
    // http1_write_local has no word for a client of HTTP/1.0 that would stay.
    c->keep = c->keep && !answer->close && c->request_done && !c->http10 && !c->stream.server->draining;
    mine.close = !c->keep;
    const struct head_writer what = {.answer = &mine};
    enum status status = write_head(c, &what);
    if (UNLIKELY(status != STATUS_OK))
        http1_reset(stream);
    else
        http1_end(stream);
    return status;
}

// ---- asking, flow and time ----

static uint32_t http1_unsent(const struct server_stream *stream)
{
    return connection_unsent(connection_of(stream));
}

static bool http1_taking(const struct server_stream *stream, uint64_t *mark)
{
    return io_stream_taking(&connection_of(stream)->io, mark);
}

static void http1_pause(struct server_stream *stream)
{
    connection_pause(connection_of(stream));
}

static void http1_resume(struct server_stream *stream)
{
    struct connection *c = connection_of(stream);
    if (!c->request_done || c->tunnel)
        connection_resume(c);
}

static void http1_due(struct server_stream *stream, uint64_t due_us)
{
    connection_due(connection_of(stream), due_us);
}

// ---- the connection's end ----

static void http1_drain(struct connection *c, struct rng *rng)
{
    // One that owes a PROXY header was opened for a request that comes behind it: it has its time.
    if (c->state == CONNECTION_OPEN && !c->active && c->held == NULL && !c->untold)
        connection_due(c, connection_now_us(c) + DRAIN_GRACE_US + rng_below(rng, DRAIN_SPREAD_US));
}

static void http1_gone(struct connection *c)
{
    if (c->active)
        connection_gone(c);
}

const struct server_engine HTTP1_ENGINE = {.head = http1_head,
                                           .tunnel = http1_tunnel,
                                           .data = http1_data,
                                           .data_end = http1_data_end,
                                           .answer = http1_answer,
                                           .flush = http1_flush,
                                           .half_close = http1_half_close,
                                           .end = http1_end,
                                           .reset = http1_reset,
                                           .unsent = http1_unsent,
                                           .taking = http1_taking,
                                           .pause = http1_pause,
                                           .resume = http1_resume,
                                           .due = http1_due,
                                           .drain = http1_drain,
                                           .gone = http1_gone};
