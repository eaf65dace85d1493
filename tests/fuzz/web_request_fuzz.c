// SPDX-License-Identifier: Apache-2.0
// Any bytes to the web server, once whole and once in pieces over a simulated network: the answers are the
// same, the connection ends, and nothing of it is left. The first byte of the input decides the pieces.
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/io/sim.h"
#include "net/web/web.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES_MAX = 65536, ANSWER_BYTES_MAX = 1 << 21, PIECES_MAX = 24, PIECE_GAP_US = 400 };

struct talk {
    struct io_stream stream;
    char *answer;
    size_t len;
    bool ended, closed;
};

static char answers[2][ANSWER_BYTES_MAX];

static void on_open(struct io_stream *stream, enum status status)
{
    (void)stream;
    CHECK(status == STATUS_OK);
}

static void on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct talk *talk = CONTAINER_OF(stream, struct talk, stream);
    CHECK(talk->len + io_buf_len(buf) <= ANSWER_BYTES_MAX);
    memcpy(talk->answer + talk->len, buf->data + buf->start, io_buf_len(buf));
    talk->len += io_buf_len(buf);
    io_buf_put(buf);
}

static void on_end(struct io_stream *stream, enum status status)
{
    (void)status;
    CONTAINER_OF(stream, struct talk, stream)->ended = true;
    io_stream_close(stream);
}

static void on_closed(struct io_stream *stream)
{
    CONTAINER_OF(stream, struct talk, stream)->closed = true;
}

static const struct io_stream_ops OPS = {
    .on_open = on_open, .on_data = on_data, .on_end = on_end, .on_closed = on_closed};

static void handle(void *context, const struct web_request *request, struct web_answer *answer)
{
    static char echo[INPUT_BYTES_MAX];
    (void)context;
    CHECK(request->body.len <= sizeof echo);
    // Every byte handed out is read.
    memcpy(echo, request->body.data, request->body.len);
    answer->status = request->path.len % 5 == 0 ? 204 : 200;
    answer->content_type = "text/plain";
    answer->body = (struct slice){echo, request->body.len};
    answer->stream = slice_equal(request->path, SLICE("/s"));
}

static void opened(void *context, struct web_connection *connection, void *subject)
{
    (void)context;
    (void)subject;
    (void)web_stream_send(connection, SLICE("event"));
    web_stream_end(connection);
}

static void send_piece(struct talk *talk, struct io_loop *loop, const uint8_t *data, size_t len)
{
    while (len > 0 && !talk->ended) {
        struct io_buf *buf = io_buf_get(loop);
        size_t n = len < IO_BUF_BYTES ? len : IO_BUF_BYTES;
        CHECK(buf != NULL);
        memcpy(buf->data, data, n);
        buf->end = (uint32_t)n;
        io_stream_send(&talk->stream, buf);
        data += n;
        len -= n;
    }
}

static void run(struct io_sim *sim, uint64_t us)
{
    io_sim_run(sim, io_sim_now_us(sim) + us);
}

// Returns the length of the answers, written to `answer`.
static size_t converse(const uint8_t *data, size_t size, unsigned pieces, char *answer)
{
    static const struct io_sim_config CONFIG = {
        .seed = 1, .latency_us_min = 50, .latency_us_max = 100, .wall_start_ms = 784111777000};
    static const struct web_handler HANDLER = {.handle = handle, .opened = opened};
    static const struct web_limits LIMITS = {.body_bytes = 40000};
    struct io_sim *sim;
    struct io_loop *server, *client;
    struct web *web;
    struct io_addr addr;
    struct talk talk = {.answer = answer};
    CHECK(io_addr_parse("127.0.0.1:0", &addr) == STATUS_OK);
    CHECK(io_sim_create(&CONFIG, &sim) == STATUS_OK);
    CHECK(io_sim_loop_create(sim, &server) == STATUS_OK && io_sim_loop_create(sim, &client) == STATUS_OK);
    CHECK(web_create(server, &(struct web_place){.addr = &addr}, &HANDLER, &LIMITS, &web) == STATUS_OK);
    web_addr(web, &addr);
    io_stream_connect(client, &talk.stream, &addr, &OPS);
    for (unsigned i = 0; i < pieces; i++) {
        size_t from = size * i / pieces, to = size * (i + 1) / pieces;
        send_piece(&talk, client, data + from, to - from);
        run(sim, PIECE_GAP_US);
    }
    run(sim, 100000);
    if (!talk.ended)
        io_stream_finish(&talk.stream);
    run(sim, 20000000);
    CHECK(talk.ended && talk.closed);
    struct web_stats stats;
    web_stats_get(web, &stats);
    CHECK(stats.connections == 0 && stats.streams == 0);
    CHECK(io_loop_stats(server)->bufs_in_use == 0);
    web_close(web);
    run(sim, 1000);
    web_destroy(web); // checks that no memory is held
    io_loop_destroy(server);
    io_loop_destroy(client);
    io_sim_destroy(sim);
    return talk.len;
}

// Whether 100 is sent depends on when the body comes.
static size_t without_continue(char *answer, size_t len)
{
    static const char LINE[] = "HTTP/1.1 100 Continue\r\n\r\n";
    size_t kept = 0;
    for (size_t i = 0; i < len;) {
        if (len - i >= sizeof LINE - 1 && memcmp(answer + i, LINE, sizeof LINE - 1) == 0)
            i += sizeof LINE - 1;
        else
            answer[kept++] = answer[i++];
    }
    return kept;
}

// Which of several faults is found first depends on how much was seen: only that a refusal came is compared.
static size_t until_refusal(const char *answer, size_t len)
{
    static const char LINE[] = "HTTP/1.1 ";
    for (size_t i = 0; i + sizeof LINE <= len; i++)
        if (memcmp(answer + i, LINE, sizeof LINE - 1) == 0 && answer[i + sizeof LINE - 1] >= '4')
            return i + sizeof LINE - 1;
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > INPUT_BYTES_MAX)
        return 0;
    unsigned pieces = 2 + data[0] % (PIECES_MAX - 1);
    size_t whole = converse(data + 1, size - 1, 1, answers[0]);
    size_t cut = converse(data + 1, size - 1, pieces, answers[1]);
    whole = until_refusal(answers[0], without_continue(answers[0], whole));
    cut = until_refusal(answers[1], without_continue(answers[1], cut));
    CHECK(whole == cut && memcmp(answers[0], answers[1], whole) == 0);
    return 0;
}
