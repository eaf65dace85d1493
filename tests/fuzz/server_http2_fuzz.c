// SPDX-License-Identifier: Apache-2.0
// Any bytes behind the preface of HTTP/2, in pieces over a simulated network: every stream that begins ends
// once, what is held stays within its bounds, the connection ends, and nothing of it is left. The first byte
// of the input decides the pieces and what the handler does.
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/io/sim.h"
#include "net/server/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES_MAX = 65536, BODY_BYTES = 50000, HELD_BYTES_MAX = 1 << 25, PIECE_GAP_US = 400 };

static struct {
    struct server server;
    struct io_stream client;
    bool ended, closed;
    uint8_t habit;
    uint64_t begun, over;
    struct http_response response;
} world;

// ---- the handler: streams are answered at once, later, in two parts, or not at all ----

static void finish(struct server_stream *stream)
{
    world.over++;
    stream->subject = NULL;
}

static void answer(struct server_stream *stream)
{
    const struct http_answer small = {.status = 200, .body = SLICE("ok")};
    finish(stream);
    (void)server_answer(stream, &small);
}

static void answer_long(struct server_stream *stream)
{
    static const char body[BODY_BYTES];
    world.response = (struct http_response){.status = 200, .framing = HTTP_FRAMING_CHUNKED};
    CHECK(server_head(stream, &world.response, NULL) == STATUS_OK);
    CHECK(server_data(stream, (struct slice){body, sizeof body}, NULL) == STATUS_OK);
    CHECK(server_data_end(stream, NULL) == STATUS_OK);
    finish(stream);
    server_end(stream);
}

static void on_request(struct server_stream *stream, struct http_request *request)
{
    world.begun++;
    stream->subject = &world;
    // What a handler may read is all there.
    for (uint32_t i = 0; i < request->fields.count; i++)
        CHECK(http_token_valid(request->fields.items[i].name) &&
              http_value_valid(request->fields.items[i].value));
    CHECK(request->http2 && request->path.len > 0 && request->host.len > 0);
    unsigned habit = (world.habit + request->path.len) % 5;
    if (habit == 0)
        answer(stream);
    else if (habit == 1)
        server_pause(stream);
    else if (habit == 2)
        server_due(stream, io_loop_now_us(stream->server->loop) + 1000);
    else if (habit == 3)
        answer_long(stream);
}

static void on_data(struct server_stream *stream, struct slice run, struct io_buf **buf)
{
    CHECK(stream->subject == &world && run.len > 0);
    CHECK((const uint8_t *)run.data >= (*buf)->data &&
          (const uint8_t *)run.data + run.len <= (*buf)->data + (*buf)->end);
}

static void on_ended(struct server_stream *stream, struct http_fields *trailers)
{
    CHECK(stream->subject == &world && (trailers == NULL || trailers->count > 0));
    answer(stream);
}

static void on_due(struct server_stream *stream)
{
    CHECK(stream->subject == &world);
    finish(stream);
    server_reset(stream);
}

static void on_gone(struct server_stream *stream)
{
    CHECK(stream->subject == &world);
    finish(stream);
}

static void on_refused(struct server_stream *stream, enum server_refusal refusal, unsigned status,
                       const char *why)
{
    CHECK(status >= 400 && status < 600 && why != NULL);
    if (refusal == SERVER_REFUSAL_BODY)
        finish(stream);
    const struct http_answer small = {.status = status, .close = true};
    if (world.habit % 2 == 0)
        (void)server_answer(stream, &small);
}

static bool on_http2(struct server *server, uint32_t listener, const struct io_stream *stream)
{
    (void)server;
    (void)listener;
    (void)stream;
    return true;
}

static const struct server_handler HANDLER = {.http2 = on_http2,
                                              .request = on_request,
                                              .data = on_data,
                                              .ended = on_ended,
                                              .due = on_due,
                                              .gone = on_gone,
                                              .refused = on_refused};

// ---- the client ----

static void client_on_open(struct io_stream *stream, enum status status)
{
    (void)stream;
    CHECK(status == STATUS_OK);
}

static void client_on_data(struct io_stream *stream, struct io_buf *buf)
{
    (void)stream;
    io_buf_put(buf);
}

static void client_on_end(struct io_stream *stream, enum status status)
{
    (void)status;
    world.ended = true;
    io_stream_close(stream);
}

static void client_on_closed(struct io_stream *stream)
{
    (void)stream;
    world.closed = true;
}

static const struct io_stream_ops OPS = {.on_open = client_on_open,
                                         .on_data = client_on_data,
                                         .on_end = client_on_end,
                                         .on_closed = client_on_closed};

static void send_piece(struct io_loop *loop, const void *data, size_t len)
{
    const uint8_t *at = data;
    while (len > 0 && !world.ended) {
        struct io_buf *buf = io_buf_get(loop);
        size_t n = len < IO_BUF_BYTES ? len : IO_BUF_BYTES;
        CHECK(buf != NULL);
        memcpy(buf->data, at, n);
        buf->end = (uint32_t)n;
        io_stream_send(&world.client, buf);
        at += n;
        len -= n;
    }
}

static void run(struct io_sim *sim, const struct io_loop *server, uint64_t us)
{
    io_sim_run(sim, io_sim_now_us(sim) + us);
    CHECK(io_loop_stats(server)->bufs_in_use * IO_BUF_BYTES <= HELD_BYTES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    static const struct io_sim_config CONFIG = {.seed = 1, .latency_us_min = 50, .latency_us_max = 100};
    static const struct server_limits LIMITS = {.connections = 2, .head_us = 1000000, .idle_us = 2000000};
    struct io_sim *sim;
    struct io_loop *server, *client;
    struct io_addr addr;
    if (size < 1 || size > INPUT_BYTES_MAX)
        return 0;
    memset(&world, 0, sizeof world);
    world.habit = data[0];
    CHECK(io_addr_parse("127.0.0.1:80", &addr) == STATUS_OK);
    CHECK(io_sim_create(&CONFIG, &sim) == STATUS_OK);
    CHECK(io_sim_loop_create(sim, &server) == STATUS_OK && io_sim_loop_create(sim, &client) == STATUS_OK);
    server_init(&world.server, &HANDLER, &LIMITS, NULL);
    CHECK(server_listen(&world.server, server, &addr, false) == STATUS_OK);
    io_stream_connect(client, &world.client, &addr, &OPS);
    send_piece(client, PREFACE, sizeof PREFACE - 1);
    unsigned pieces = 1 + data[0] % 7;
    for (unsigned i = 0; i < pieces; i++) {
        size_t from = (size - 1) * i / pieces, to = (size - 1) * (i + 1) / pieces;
        send_piece(client, data + 1 + from, to - from);
        run(sim, server, PIECE_GAP_US);
    }
    run(sim, server, 20000000);
    if (!world.ended)
        io_stream_finish(&world.client);
    run(sim, server, 20000000);
    server_close(&world.server);
    run(sim, server, 10000);
    CHECK(world.closed && server_closed(&world.server) && world.begun == world.over);
    CHECK(io_loop_stats(server)->bufs_in_use == 0);
    server_deinit(&world.server);
    io_loop_destroy(server);
    io_loop_destroy(client);
    io_sim_destroy(sim);
    return 0;
}
