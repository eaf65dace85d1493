// SPDX-License-Identifier: Apache-2.0
// A web server and its clients in the simulated network: clients send the given bytes and collect what comes
// back.
#pragma once

#include "base/check.h"
#include "base/heap.h"
#include "net/io/sim.h"
#include "net/web/web.h"
#include "test.h"

enum { WORLD_ANSWER_BYTES = 1 << 22, WORLD_STREAMS = 8, WORLD_SPARE = 32, WORLD_BIG_BYTES = 1500000 };

struct client {
    struct io_stream stream;
    struct io_loop *loop;
    char *answer; // what came, NUL-terminated; grows as it must
    size_t len, cap;
    bool open, ended, broken, closed, deaf;
};

struct world {
    struct io_sim *sim;
    struct io_loop *server_loop;
    struct io_loop *client_loop;
    struct web *web;
    struct io_addr addr;
    // What the handler saw.
    uint32_t handled, opened, closed, closed_unborn;
    struct web_connection *streams[WORLD_STREAMS];
    char echo[1 << 21];
    char big[WORLD_BIG_BYTES];
};

// ---- clients ----

static void client_on_open(struct io_stream *stream, enum status status)
{
    struct client *client = CONTAINER_OF(stream, struct client, stream);
    client->open = status == STATUS_OK;
    if (client->open && client->deaf)
        io_stream_pause(stream);
    if (status == STATUS_OK)
        return;
    client->broken = true;
    io_stream_close(stream);
}

// Storage of clients that have left, for the next ones: fresh pages cost more than all else in a storm.
static struct {
    char *answer;
    size_t cap;
} spare[WORLD_SPARE];
static size_t spare_count;

static void client_reserve(struct client *client, size_t bytes)
{
    CHECK(bytes <= WORLD_ANSWER_BYTES);
    if (bytes <= client->cap)
        return;
    while (client->cap < bytes)
        client->cap = client->cap > 0 ? client->cap * 8 : 1024;
    client->answer = realloc(client->answer, client->cap);
    CHECK(client->answer != NULL);
}

static inline void client_release(struct client *client)
{
    if (spare_count == WORLD_SPARE) {
        free(client->answer);
    } else {
        spare[spare_count].answer = client->answer;
        spare[spare_count++].cap = client->cap;
    }
    client->answer = NULL;
}

static void client_on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct client *client = CONTAINER_OF(stream, struct client, stream);
    client_reserve(client, client->len + io_buf_len(buf) + 1);
    memcpy(client->answer + client->len, buf->data + buf->start, io_buf_len(buf));
    client->len += io_buf_len(buf);
    client->answer[client->len] = '\0';
    io_buf_put(buf);
}

static void client_on_end(struct io_stream *stream, enum status status)
{
    struct client *client = CONTAINER_OF(stream, struct client, stream);
    client->ended = true;
    client->broken = client->broken || status != STATUS_CLOSED;
    io_stream_close(stream);
}

static void client_on_closed(struct io_stream *stream)
{
    CONTAINER_OF(stream, struct client, stream)->closed = true;
}

static const struct io_stream_ops CLIENT_OPS = {.on_open = client_on_open,
                                                .on_data = client_on_data,
                                                .on_end = client_on_end,
                                                .on_closed = client_on_closed};

static inline void run_ms(struct world *world, uint64_t ms)
{
    io_sim_run(world->sim, io_sim_now_us(world->sim) + ms * 1000);
}

static inline void client_begin(struct world *world, struct client *client)
{
    *client = (struct client){.loop = world->client_loop};
    if (spare_count > 0) {
        client->answer = spare[--spare_count].answer;
        client->cap = spare[spare_count].cap;
    }
    client_reserve(client, 1);
    client->answer[0] = '\0';
    io_stream_connect(world->client_loop, &client->stream, &world->addr, &CLIENT_OPS);
}

static inline void client_send(struct client *client, const char *bytes, size_t len)
{
    while (len > 0 && !client->ended) {
        struct io_buf *buf = io_buf_get(client->loop);
        CHECK(buf != NULL);
        size_t n = len < IO_BUF_BYTES ? len : IO_BUF_BYTES;
        memcpy(buf->data, bytes, n);
        buf->end = (uint32_t)n;
        io_stream_send(&client->stream, buf);
        bytes += n;
        len -= n;
    }
}

static inline void client_say(struct client *client, const char *text)
{
    client_send(client, text, strlen(text));
}

static inline void client_end(struct world *world, struct client *client)
{
    if (!client->ended && !client->closed)
        io_stream_close(&client->stream);
    for (int i = 0; i < 1000 && !client->closed; i++)
        run_ms(world, 1);
    assert_true(client->closed);
    client_release(client);
}

static inline uint32_t count_of(const struct client *client, const char *part)
{
    uint32_t count = 0;
    size_t len = strlen(part);
    for (size_t i = 0; i + len <= client->len; i++)
        count += memcmp(client->answer + i, part, len) == 0;
    return count;
}

static inline bool answer_begins(const struct client *client, const char *text)
{
    return strncmp(client->answer, text, strlen(text)) == 0;
}

// ---- the server ----

// "/echo" returns the body; "/big" WORLD_BIG_BYTES; "/none" 204, "/same" 304, "/empty" 200 without a body;
// "/stream" a stream; anything else its own path.
// Of requests for /worded: as an answer with trailers.
static bool world_refuse(void *context, const struct web_request *request, unsigned status,
                         const char *sentence, struct web_answer *answer)
{
    (void)context;
    CHECK(status >= 400 && sentence[0] != '\0');
    answer->status = 200;
    answer->content_type = "application/grpc";
    answer->trailed = true;
    answer->trailers = status == 413 ? SLICE("grpc-status: 8\r\n") : SLICE("grpc-status: 4\r\n");
    return slice_equal(request->path, SLICE("/worded"));
}

static void world_handle(void *context, const struct web_request *request, struct web_answer *answer)
{
    struct world *world = context;
    world->handled++;
    answer->status = 200;
    answer->content_type = "text/plain";
    answer->fields = SLICE("X-Test: yes\r\n");
    if (slice_equal(request->path, SLICE("/echo"))) {
        CHECK(request->body.len <= sizeof world->echo);
        if (request->body.len > 0)
            memcpy(world->echo, request->body.data, request->body.len);
        answer->body = (struct slice){world->echo, request->body.len};
    } else if (slice_equal(request->path, SLICE("/big"))) {
        answer->body = (struct slice){world->big, sizeof world->big};
    } else if (slice_equal(request->path, SLICE("/none"))) {
        answer->status = 204;
        answer->body = SLICE("must not be seen");
    } else if (slice_equal(request->path, SLICE("/same"))) {
        answer->status = 304;
        answer->fields = SLICE("ETag: \"1\"\r\n");
        answer->body = SLICE("must not be seen");
    } else if (slice_equal(request->path, SLICE("/empty"))) {
        answer->content_type = NULL;
    } else if (slice_equal(request->path, SLICE("/trailed")) || slice_equal(request->path, SLICE("/bare"))) {
        answer->trailed = true;
        answer->trailers = SLICE("grpc-status: 7\r\ngrpc-message: no\r\n");
        answer->body = slice_equal(request->path, SLICE("/bare")) ? SLICE("") : request->path;
    } else if (slice_equal(request->path, SLICE("/stream"))) {
        answer->stream = true;
        answer->content_type = "text/event-stream";
        answer->body = SLICE("begin\n");
        answer->subject = world;
    } else {
        answer->body = request->path;
    }
}

static uint32_t world_body_max(void *context, const struct web_request *request)
{
    (void)context;
    return slice_equal(request->path, SLICE("/echo")) ? UINT32_MAX : 1000;
}

static void world_opened(void *context, struct web_connection *connection, void *subject)
{
    struct world *world = context;
    CHECK(subject == world);
    CHECK(world->opened < WORLD_STREAMS);
    world->streams[world->opened++] = connection;
}

static void world_closed(void *context, struct web_connection *connection, void *subject)
{
    struct world *world = context;
    CHECK(subject == world);
    world->closed += connection != NULL;
    world->closed_unborn += connection == NULL;
}

static inline void world_up(struct world *world, const struct io_sim_config *sim,
                            const struct web_limits *limits)
{
    struct io_addr any;
    const struct web_handler handler = {.context = world,
                                        .refuse = world_refuse,
                                        .handle = world_handle,
                                        .body_bytes_max = world_body_max,
                                        .opened = world_opened,
                                        .closed = world_closed};
    memset(world, 0, sizeof *world);
    memset(world->big, 'b', sizeof world->big);
    assert_int_equal(io_sim_create(sim, &world->sim), STATUS_OK);
    assert_int_equal(io_sim_loop_create(world->sim, &world->server_loop), STATUS_OK);
    assert_int_equal(io_sim_loop_create(world->sim, &world->client_loop), STATUS_OK);
    assert_int_equal(io_addr_parse("127.0.0.1:0", &any), STATUS_OK);
    assert_int_equal(
        web_create(world->server_loop, &(struct web_place){.addr = &any}, &handler, limits, &world->web),
        STATUS_OK);
    web_addr(world->web, &world->addr);
}

static inline void world_down(struct world *world)
{
    web_close(world->web);
    for (int i = 0; i < 1000 && !web_closed(world->web); i++)
        run_ms(world, 1);
    assert_true(web_closed(world->web));
    web_destroy(world->web);
    assert_int_equal(io_loop_stats(world->server_loop)->bufs_in_use, 0);
    run_ms(world, 1000);
    io_loop_destroy(world->server_loop);
    io_loop_destroy(world->client_loop);
    io_sim_destroy(world->sim);
    assert_int_equal(world->opened, world->closed);
}

static const struct io_sim_config WORLD_CALM = {
    .seed = 1, .latency_us_min = 50, .latency_us_max = 200, .wall_start_ms = 784111777000};
