// SPDX-License-Identifier: Apache-2.0
// A client of HTTP/2 that makes its frames by hand, and a handler that writes down each event; what it does
// follows from the path. Both over a simulated network.
#pragma once

#include <nghttp2/nghttp2.h>

#include "base/check.h"
#include "base/text.h"
#include "net/io/sim.h"
#include "net/server/server.h"
#include "test.h"

enum {
    GOT_BYTES = 1 << 23,
    TRACE_BYTES = 1 << 16,
    FRAMES_MAX = 8192,
    BLOCK_BYTES = 1 << 17,
    STREAMS_MAX = 256,
    HEAD_TEXT_BYTES = 4096,
    STREAM_WINDOW = 1 << 18, // what the server gives, as its SETTINGS and its first WINDOW_UPDATE say
    CONNECTION_WINDOW = 1 << 20,
};

struct frame {
    uint32_t len;
    uint8_t type, flags;
    int32_t id;
    const uint8_t *payload;
};

static struct {
    struct io_sim *sim;
    struct io_loop *client_loop, *server_loop;
    struct server server;
    struct io_stream client;
    bool ended, reset, closed, refuses, http1, flushes;
    uint8_t *got;
    size_t len, parsed;
    struct frame frames[FRAMES_MAX];
    uint32_t frame_count, seen;
    nghttp2_hd_deflater *deflater;
    nghttp2_hd_inflater *inflater;
    uint8_t out[2 * BLOCK_BYTES];
    size_t out_len;
    struct server_stream *streams[STREAMS_MAX]; // in the order of their requests; NULL: over
    uint32_t stream_count;
    uint64_t body_bytes;
    uint32_t notes[SERVER_NOTES];
    char trace_bytes[TRACE_BYTES];
    struct text trace;
    struct http_response response;
} world;

// ---- the handler ----

static inline int index_of(const struct server_stream *stream)
{
    return (int)((uintptr_t)stream->subject - 1);
}

static inline void over(struct server_stream *stream)
{
    world.streams[index_of(stream)] = NULL;
}

static inline void send_head(struct server_stream *stream, uint16_t status, uint8_t framing, uint64_t length)
{
    world.response.status = status;
    world.response.framing = framing;
    world.response.content_length = length;
    world.response.has_content_length = framing == HTTP_FRAMING_LENGTH;
    world.response.fields.count = 0;
    world.response.fields.present = 0;
    assert_int_equal(server_head(stream, &world.response, NULL), STATUS_OK);
}

static inline void answer(struct server_stream *stream, const char *body)
{
    const struct http_answer small = {.status = 200, .body = slice_of(body)};
    over(stream);
    assert_int_equal(server_answer(stream, &small), STATUS_OK);
}

static inline void end(struct server_stream *stream)
{
    assert_int_equal(server_data_end(stream, NULL), STATUS_OK);
    over(stream);
    server_end(stream);
}

static inline void on_request(struct server_stream *stream, struct http_request *request)
{
    assert_null(stream->subject);
    assert_int_equal(request->http2, !world.http1);
    stream->subject = (void *)(uintptr_t)(world.stream_count + 1);
    world.streams[world.stream_count++] = stream;
    text_addf(&world.trace, "%.*s ", (int)request->path.len, request->path.data);
    if (slice_equal(request->path, SLICE("/at-once")))
        answer(stream, "at once");
    if (slice_equal(request->path, SLICE("/early")))
        send_head(stream, 103, HTTP_FRAMING_NONE, 0);
    if (slice_equal(request->path, SLICE("/paused")))
        server_pause(stream);
    if (slice_equal(request->path, SLICE("/due")))
        server_due(stream, io_sim_now_us(world.sim) + 300000);
}

static inline void on_data(struct server_stream *stream, struct slice run, struct io_buf **buf)
{
    assert_true((const uint8_t *)run.data >= (*buf)->data && run.len <= io_buf_len(*buf));
    text_addf(&world.trace, "%d:data:%zu ", index_of(stream), run.len);
    world.body_bytes += run.len;
    if (run.len == io_buf_len(*buf)) {
        io_buf_put(*buf);
        *buf = NULL;
    }
}

static inline void on_ended(struct server_stream *stream, struct http_fields *trailers)
{
    text_addf(&world.trace, "%d:ended", index_of(stream));
    if (trailers != NULL)
        text_addf(&world.trace, "+%.*s=%.*s", (int)trailers->items[0].name.len, trailers->items[0].name.data,
                  (int)trailers->items[0].value.len, trailers->items[0].value.data);
    text_addf(&world.trace, " ");
}

static inline void on_flush(struct server_stream *stream)
{
    if (world.flushes)
        text_addf(&world.trace, "%d:flush ", index_of(stream));
}

static inline void on_half_closed(struct server_stream *stream)
{
    text_addf(&world.trace, "%d:half-closed ", index_of(stream));
}

static inline void on_drained(struct server_stream *stream)
{
    text_addf(&world.trace, "%d:drained ", index_of(stream));
}

static inline void on_due(struct server_stream *stream)
{
    text_addf(&world.trace, "%d:due ", index_of(stream));
    answer(stream, "late");
}

static inline void on_gone(struct server_stream *stream)
{
    text_addf(&world.trace, "%d:gone ", index_of(stream));
    over(stream);
}

static inline void on_refused(struct server_stream *stream, enum server_refusal refusal, unsigned status,
                              const char *why)
{
    static const char *const words[] = {"malformed", "late", "crowded", "body", "starved"};
    text_addf(&world.trace, "%s:%u ", words[refusal], status);
    assert_int_equal(stream->subject != NULL, refusal == SERVER_REFUSAL_BODY);
    if (refusal == SERVER_REFUSAL_BODY)
        over(stream);
    const struct http_answer small = {.status = status, .body = slice_of(why), .close = true};
    assert_int_equal(server_answer(stream, &small), STATUS_OK);
}

static inline void on_note(struct server *server, enum server_note note)
{
    (void)server;
    world.notes[note]++;
}

static inline bool on_http2(struct server *server, uint32_t listener, const struct io_stream *stream)
{
    (void)server;
    (void)stream;
    assert_int_equal(listener, 0);
    return !world.refuses;
}

static const struct server_handler HANDLER = {.http2 = on_http2,
                                              .request = on_request,
                                              .data = on_data,
                                              .ended = on_ended,
                                              .flush = on_flush,
                                              .half_closed = on_half_closed,
                                              .drained = on_drained,
                                              .due = on_due,
                                              .gone = on_gone,
                                              .refused = on_refused,
                                              .note = on_note};

// ---- the client: bytes ----

static inline void parse_frames(void)
{
    while (world.len - world.parsed >= 9) {
        const uint8_t *at = world.got + world.parsed;
        uint32_t len = (uint32_t)at[0] << 16 | (uint32_t)at[1] << 8 | at[2];
        if (world.len - world.parsed < 9 + len)
            return;
        assert_true(world.frame_count < FRAMES_MAX);
        uint32_t id = (uint32_t)at[5] << 24 | (uint32_t)at[6] << 16 | (uint32_t)at[7] << 8 | at[8];
        world.frames[world.frame_count++] =
            (struct frame){.len = len, .type = at[3], .flags = at[4], .id = (int32_t)id, .payload = at + 9};
        world.parsed += 9 + len;
    }
}

static inline void client_on_data(struct io_stream *stream, struct io_buf *buf)
{
    (void)stream;
    assert_true(world.len + io_buf_len(buf) < GOT_BYTES);
    memcpy(world.got + world.len, buf->data + buf->start, io_buf_len(buf));
    world.len += io_buf_len(buf);
    io_buf_put(buf);
    parse_frames();
}

static inline void client_on_open(struct io_stream *stream, enum status status)
{
    (void)stream;
    assert_int_equal(status, STATUS_OK);
}

static inline void client_on_end(struct io_stream *stream, enum status status)
{
    (void)stream;
    world.ended = true;
    world.reset = status != STATUS_CLOSED;
}

static inline void client_on_closed(struct io_stream *stream)
{
    (void)stream;
    world.closed = true;
}

static const struct io_stream_ops CLIENT_OPS = {.on_open = client_on_open,
                                                .on_data = client_on_data,
                                                .on_end = client_on_end,
                                                .on_closed = client_on_closed};

static inline void run_ms(uint64_t ms)
{
    io_sim_run(world.sim, io_sim_now_us(world.sim) + ms * 1000);
}

static inline void say_some(const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    while (len > 0) {
        struct io_buf *buf = io_buf_get(world.client_loop);
        assert_non_null(buf);
        size_t n = len < IO_BUF_BYTES ? len : IO_BUF_BYTES;
        memcpy(buf->data, at, n);
        buf->end = (uint32_t)n;
        io_stream_send(&world.client, buf);
        at += n;
        len -= n;
    }
}

// Sends all frames that were made.
static inline void send_ms(uint64_t ms)
{
    say_some(world.out, world.out_len);
    world.out_len = 0;
    run_ms(ms);
}

static inline void flush(void)
{
    send_ms(10);
}

// ---- the client: frames ----

static inline void put(const void *bytes, size_t len)
{
    assert_true(world.out_len + len <= sizeof world.out);
    if (len > 0)
        memcpy(world.out + world.out_len, bytes, len);
    world.out_len += len;
}

static inline void put_frame(uint8_t type, uint8_t flags, int32_t id, const void *payload, size_t len)
{
    uint32_t n = (uint32_t)len, i = (uint32_t)id;
    const uint8_t header[9] = {(uint8_t)(n >> 16), (uint8_t)(n >> 8),  (uint8_t)n,        type,      flags,
                               (uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
    put(header, sizeof header);
    put(payload, len);
}

static inline void put_number(uint8_t type, int32_t id, uint32_t number)
{
    const uint8_t payload[4] = {(uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8),
                                (uint8_t)number};
    put_frame(type, 0, id, payload, sizeof payload);
}

static inline void put_setting(uint16_t id, uint32_t value)
{
    const uint8_t payload[6] = {(uint8_t)(id >> 8),     (uint8_t)id,           (uint8_t)(value >> 24),
                                (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    put_frame(NGHTTP2_SETTINGS, 0, 0, payload, sizeof payload);
}

// "name|value" each, NULL ends them; compressed into block.
static inline size_t deflate(const char *const *fields, uint8_t *block)
{
    static nghttp2_nv items[1024];
    size_t count = 0;
    for (; fields[count] != NULL; count++) {
        const char *bar = strchr(fields[count], '|');
        assert_non_null(bar);
        items[count] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)fields[count],
                                    .namelen = (size_t)(bar - fields[count]),
                                    .value = (uint8_t *)(uintptr_t)(bar + 1),
                                    .valuelen = strlen(bar + 1)};
    }
    ssize_t len = nghttp2_hd_deflate_hd(world.deflater, block, BLOCK_BYTES, items, count);
    assert_true(len >= 0);
    return (size_t)len;
}

static inline void put_headers(int32_t id, uint8_t flags, const char *const *fields)
{
    static uint8_t block[BLOCK_BYTES];
    size_t len = deflate(fields, block);
    const uint8_t *at = block;
    uint8_t type = NGHTTP2_HEADERS;
    for (; len > 16384; len -= 16384, at += 16384, type = NGHTTP2_CONTINUATION, flags = 0)
        put_frame(type, flags, id, at, 16384);
    put_frame(type, flags | NGHTTP2_FLAG_END_HEADERS, id, at, len);
}

#define FIELDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define REQUEST(method_, path_) ":method|" method_, ":scheme|http", ":authority|a.example", ":path|" path_
#define END NGHTTP2_FLAG_END_STREAM

static inline void get(int32_t id, const char *path)
{
    char field[128];
    snprintf(field, sizeof field, ":path|%s", path);
    put_headers(id, END, FIELDS(":method|GET", ":scheme|http", ":authority|a.example", field));
}

static inline void post(int32_t id, const char *path)
{
    char field[128];
    snprintf(field, sizeof field, ":path|%s", path);
    put_headers(id, 0, FIELDS(":method|POST", ":scheme|http", ":authority|a.example", field));
}

static inline void put_data(int32_t id, uint8_t flags, size_t len)
{
    static const uint8_t bytes[16384];
    put_frame(NGHTTP2_DATA, flags, id, bytes, len);
}

// ---- what came ----

// The next frame of that type after those that were looked for; the ones between are passed over.
static const struct frame *next(uint8_t type)
{
    while (world.seen < world.frame_count)
        if (world.frames[world.seen++].type == type)
            return &world.frames[world.seen - 1];
    fail_msg("no frame of type %u came", type);
    return NULL;
}

static inline uint32_t number_of(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline void expect_rst(int32_t id, uint32_t code)
{
    const struct frame *frame = next(NGHTTP2_RST_STREAM);
    assert_int_equal(frame->id, id);
    assert_int_equal(number_of(frame->payload), code);
}

static inline void expect_goaway(uint32_t last, uint32_t code)
{
    const struct frame *frame = next(NGHTTP2_GOAWAY);
    assert_int_equal(number_of(frame->payload), last);
    assert_int_equal(number_of(frame->payload + 4), code);
}

// The next head, as "name: value" with "; " between.
static inline void expect_head(int32_t id, uint8_t flags, const char *wanted)
{
    static char storage[HEAD_TEXT_BYTES];
    const struct frame *frame = next(NGHTTP2_HEADERS);
    struct text text = text_over(storage, sizeof storage);
    const uint8_t *at = frame->payload;
    size_t left = frame->len;
    for (int flag = 0; (flag & NGHTTP2_HD_INFLATE_FINAL) == 0;) {
        nghttp2_nv field;
        ssize_t n = nghttp2_hd_inflate_hd2(world.inflater, &field, &flag, at, left, 1);
        assert_true(n >= 0);
        at += n;
        left -= (size_t)n;
        if ((flag & NGHTTP2_HD_INFLATE_EMIT) != 0)
            text_addf(&text, "%s%.*s: %.*s", text.len > 0 ? "; " : "", (int)field.namelen, field.name,
                      (int)field.valuelen, field.value);
    }
    nghttp2_hd_inflate_end_headers(world.inflater);
    assert_int_equal(frame->id, id);
    assert_int_equal(frame->flags, flags | NGHTTP2_FLAG_END_HEADERS);
    assert_string_equal(storage, wanted);
}

static inline void expect_data(int32_t id, uint8_t flags, const char *wanted)
{
    const struct frame *frame = next(NGHTTP2_DATA);
    assert_int_equal(frame->id, id);
    assert_int_equal(frame->flags, flags);
    assert_int_equal(frame->len, strlen(wanted));
    assert_memory_equal(frame->payload, wanted, frame->len);
}

#define ANSWER_HEAD(length_) ":status: 200; content-type: text/plain; charset=utf-8; content-length: " length_

static inline void expect_answer(int32_t id)
{
    expect_head(id, 0, ANSWER_HEAD("7"));
    expect_data(id, END, "at once");
}

static inline uint64_t data_bytes(int32_t id)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < world.frame_count; i++)
        if (world.frames[i].type == NGHTTP2_DATA && world.frames[i].id == id)
            bytes += world.frames[i].len;
    return bytes;
}

static inline uint64_t window_given(int32_t id)
{
    uint64_t given = 0;
    for (uint32_t i = 0; i < world.frame_count; i++)
        if (world.frames[i].type == NGHTTP2_WINDOW_UPDATE && world.frames[i].id == id)
            given += number_of(world.frames[i].payload);
    return given;
}

// What the handler was told since the last time.
static inline void expect_trace(const char *wanted)
{
    assert_string_equal(world.trace_bytes, wanted);
    world.trace = text_over(world.trace_bytes, sizeof world.trace_bytes);
    world.trace_bytes[0] = '\0';
}

// ---- life ----

static inline void greet(void)
{
    put(NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    put_frame(NGHTTP2_SETTINGS, 0, 0, NULL, 0);
    flush();
    put_frame(NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0);
    flush();
    assert_int_equal(next(NGHTTP2_SETTINGS)->flags, 0);
    assert_int_equal(next(NGHTTP2_SETTINGS)->flags, NGHTTP2_FLAG_ACK);
}

static inline int set_up(void **state)
{
    static const struct io_sim_config sim = {.seed = 1, .latency_us_min = 50, .latency_us_max = 200};
    static const struct server_limits limits = {.connections = 2, .head_us = 1000000, .idle_us = 5000000};
    struct io_addr addr;
    (void)state;
    memset(&world, 0, sizeof world);
    world.trace = text_over(world.trace_bytes, sizeof world.trace_bytes);
    world.got = malloc(GOT_BYTES);
    assert_int_equal(nghttp2_hd_deflate_new(&world.deflater, 4096), 0);
    assert_int_equal(nghttp2_hd_inflate_new(&world.inflater), 0);
    assert_int_equal(io_sim_create(&sim, &world.sim), STATUS_OK);
    assert_int_equal(io_sim_loop_create(world.sim, &world.client_loop), STATUS_OK);
    assert_int_equal(io_sim_loop_create(world.sim, &world.server_loop), STATUS_OK);
    assert_int_equal(io_addr_parse("127.0.0.1:80", &addr), STATUS_OK);
    server_init(&world.server, &HANDLER, &limits, NULL);
    assert_int_equal(server_listen(&world.server, world.server_loop, &addr, false), STATUS_OK);
    io_stream_connect(world.client_loop, &world.client, &addr, &CLIENT_OPS);
    run_ms(10);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    if (!world.closed)
        io_stream_close(&world.client);
    server_close(&world.server);
    run_ms(100);
    assert_true(server_closed(&world.server));
    assert_true(world.closed);
    for (uint32_t i = 0; i < world.stream_count; i++)
        assert_null(world.streams[i]);
    assert_int_equal(io_loop_stats(world.server_loop)->bufs_in_use, 0);
    assert_int_equal(world.notes[SERVER_NOTE_ACCEPTED],
                     world.notes[SERVER_NOTE_CROWDED] + world.notes[SERVER_NOTE_CLOSED]);
    server_deinit(&world.server);
    io_loop_destroy(world.client_loop);
    io_loop_destroy(world.server_loop);
    io_sim_destroy(world.sim);
    nghttp2_hd_deflate_del(world.deflater);
    nghttp2_hd_inflate_del(world.inflater);
    free(world.got);
    return 0;
}
