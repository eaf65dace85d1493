// SPDX-License-Identifier: Apache-2.0
// server: what a handler is told, in which order, and what the client gets of its answers. The handler writes
// down each event; what it does follows from the path.
#include "base/check.h"
#include "base/text.h"
#include "net/io/sim.h"
#include "net/server/server.h"
#include "test.h"

enum { GOT_BYTES = 1 << 20, TRACE_BYTES = 4096 };

struct talker {
    struct io_stream stream;
    char got[GOT_BYTES];
    size_t len;
    bool ended, reset, closed;
};

static struct {
    struct io_sim *sim;
    struct io_loop *client_loop, *server_loop;
    struct server server;
    struct server_stream *stream; // of the last request
    struct talker talker;
    uint64_t body_bytes, taken_bufs;
    uint32_t notes[SERVER_NOTES];
    char trace_bytes[TRACE_BYTES];
    struct text trace;
    struct http_response response;
} world;

static void tell(const char *word)
{
    text_addf(&world.trace, "%s ", word);
}

// ---- the handler ----

static void send_head(struct server_stream *stream, uint16_t status, uint8_t framing, uint64_t length)
{
    world.response.status = status;
    world.response.reason = http_reason_phrase(status);
    world.response.framing = framing;
    world.response.content_length = length;
    world.response.has_content_length = framing == HTTP_FRAMING_LENGTH;
    world.response.fields.count = 0;
    assert_int_equal(server_head(stream, &world.response, NULL), STATUS_OK);
}

static void answer(struct server_stream *stream, const char *body)
{
    const struct http_answer small = {.status = 200, .body = slice_of(body)};
    assert_int_equal(server_answer(stream, &small), STATUS_OK);
}

static void on_request(struct server_stream *stream, struct http_request *request)
{
    assert_null(stream->subject);
    stream->subject = &world;
    world.stream = stream;
    text_addf(&world.trace, "%.*s ", (int)request->path.len, request->path.data);
    if (slice_equal(request->path, SLICE("/at-once")))
        answer(stream, "at once");
    if (slice_equal(request->path, SLICE("/early")))
        send_head(stream, 103, HTTP_FRAMING_NONE, 0);
    if (slice_equal(request->path, SLICE("/paused")))
        server_pause(stream);
}

static void on_data(struct server_stream *stream, struct slice run, struct io_buf **buf)
{
    (void)stream;
    if (world.body_bytes == 0)
        tell("data");
    for (size_t i = 0; i < run.len; i++)
        assert_int_equal(run.data[i], "0123456789"[(world.body_bytes + i) % 10]);
    world.body_bytes += run.len;
    assert_true((const uint8_t *)run.data >= (*buf)->data && run.len <= io_buf_len(*buf));
    if (run.len == io_buf_len(*buf)) {
        io_buf_put(*buf);
        *buf = NULL;
        world.taken_bufs++;
    }
}

static void on_ended(struct server_stream *stream, struct http_fields *trailers)
{
    (void)stream;
    tell(trailers != NULL ? "ended+trailers" : "ended");
    if (trailers != NULL)
        assert_true(slice_equal(trailers->items[0].value, SLICE("sum")));
}

static void on_half_closed(struct server_stream *stream)
{
    (void)stream;
    tell("half-closed");
}

static void on_due(struct server_stream *stream)
{
    tell("due");
    answer(stream, "late");
}

static void on_gone(struct server_stream *stream)
{
    assert_ptr_equal(stream->subject, &world);
    world.stream = NULL;
    tell("gone");
}

static void on_refused(struct server_stream *stream, enum server_refusal refusal, unsigned status,
                       const char *why)
{
    static const char *const words[] = {"malformed", "late", "crowded", "body", "starved"};
    text_addf(&world.trace, "%s:%u ", words[refusal], status);
    assert_int_equal(stream->subject != NULL, refusal == SERVER_REFUSAL_BODY);
    const struct http_answer small = {.status = status, .body = slice_of(why)};
    if (refusal != SERVER_REFUSAL_CROWDED)
        assert_int_equal(server_answer(stream, &small), STATUS_OK);
}

static void on_note(struct server *server, enum server_note note)
{
    assert_ptr_equal(server, &world.server);
    world.notes[note]++;
}

static const struct server_handler HANDLER = {.request = on_request,
                                              .data = on_data,
                                              .ended = on_ended,
                                              .half_closed = on_half_closed,
                                              .due = on_due,
                                              .gone = on_gone,
                                              .refused = on_refused,
                                              .note = on_note};

// ---- the client ----

static void talker_on_data(struct io_stream *stream, struct io_buf *buf)
{
    (void)stream;
    struct talker *talker = &world.talker;
    assert_true(talker->len + io_buf_len(buf) < GOT_BYTES);
    memcpy(talker->got + talker->len, buf->data + buf->start, io_buf_len(buf));
    talker->len += io_buf_len(buf);
    talker->got[talker->len] = '\0';
    io_buf_put(buf);
}

static void talker_on_open(struct io_stream *stream, enum status status)
{
    (void)stream;
    assert_int_equal(status, STATUS_OK);
}

static void talker_on_end(struct io_stream *stream, enum status status)
{
    (void)stream;
    world.talker.ended = true;
    world.talker.reset = status != STATUS_CLOSED;
}

static void talker_on_closed(struct io_stream *stream)
{
    (void)stream;
    world.talker.closed = true;
}

static const struct io_stream_ops TALKER_OPS = {.on_open = talker_on_open,
                                                .on_data = talker_on_data,
                                                .on_end = talker_on_end,
                                                .on_closed = talker_on_closed};

static void run_ms(uint64_t ms)
{
    io_sim_run(world.sim, io_sim_now_us(world.sim) + ms * 1000);
}

static void say_bytes(const char *bytes, size_t len)
{
    while (len > 0) {
        struct io_buf *buf = io_buf_get(world.client_loop);
        assert_non_null(buf);
        size_t n = len < IO_BUF_BYTES ? len : IO_BUF_BYTES;
        memcpy(buf->data, bytes, n);
        buf->end = (uint32_t)n;
        io_stream_send(&world.talker.stream, buf);
        bytes += n;
        len -= n;
    }
    run_ms(10);
}

static void say(const char *text)
{
    say_bytes(text, strlen(text));
}

static void say_digits(size_t len)
{
    char digits[1000];
    for (size_t i = 0; i < sizeof digits; i++)
        digits[i] = "0123456789"[i % 10];
    for (; len >= sizeof digits; len -= sizeof digits)
        say_bytes(digits, sizeof digits);
    say_bytes(digits, len);
}

// What the handler was told since the last time.
static void expect_trace(const char *wanted)
{
    assert_string_equal(world.trace_bytes, wanted);
    world.trace = text_over(world.trace_bytes, sizeof world.trace_bytes);
    world.trace_bytes[0] = '\0';
}

static void expect_got(const char *part)
{
    if (strstr(world.talker.got, part) == NULL)
        fail_msg("no \"%s\" in\n%s", part, world.talker.got);
}

static int set_up(void **state)
{
    static const struct io_sim_config sim = {.seed = 1, .latency_us_min = 50, .latency_us_max = 200};
    static const struct server_limits limits = {.connections = 2, .head_us = 1000000, .idle_us = 5000000};
    struct io_addr addr;
    (void)state;
    memset(&world, 0, sizeof world);
    world.trace = text_over(world.trace_bytes, sizeof world.trace_bytes);
    assert_int_equal(io_sim_create(&sim, &world.sim), STATUS_OK);
    assert_int_equal(io_sim_loop_create(world.sim, &world.client_loop), STATUS_OK);
    assert_int_equal(io_sim_loop_create(world.sim, &world.server_loop), STATUS_OK);
    assert_int_equal(io_addr_parse("127.0.0.1:80", &addr), STATUS_OK);
    server_init(&world.server, &HANDLER, &limits, NULL);
    assert_int_equal(server_listen(&world.server, world.server_loop, &addr, false), STATUS_OK);
    io_stream_connect(world.client_loop, &world.talker.stream, &addr, &TALKER_OPS);
    run_ms(10);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!world.talker.closed)
        io_stream_close(&world.talker.stream);
    server_close(&world.server);
    run_ms(100);
    assert_true(server_closed(&world.server));
    assert_true(world.talker.closed);
    assert_int_equal(io_loop_stats(world.server_loop)->bufs_in_use, 0);
    assert_int_equal(world.notes[SERVER_NOTE_ACCEPTED],
                     world.notes[SERVER_NOTE_CROWDED] + world.notes[SERVER_NOTE_CLOSED]);
    server_deinit(&world.server);
    io_loop_destroy(world.client_loop);
    io_loop_destroy(world.server_loop);
    io_sim_destroy(world.sim);
    return 0;
}

EACH_TEST(set_up, tear_down);

// ---- order ----

TEST(pipelined_requests_are_told_one_by_one)
{
    say("GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n"
        "POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n012");
    expect_trace("/a ");
    answer(world.stream, "first");
    expect_trace("/b ");
    answer(world.stream, "second");
    expect_trace("/c data ended ");
    answer(world.stream, "third");
    run_ms(10);
    expect_got("\r\n\r\nfirstHTTP/1.1 200");
    expect_got("\r\n\r\nsecondHTTP/1.1 200");
    expect_got("\r\n\r\nthird");
    assert_int_equal(io_loop_stats(world.server_loop)->bufs_in_use, 0);
}

TEST(answers_within_the_event)
{
    uint32_t answers = 0;
    for (int i = 0; i < 50; i++)
        say("GET /at-once HTTP/1.1\r\nHost: a\r\n\r\n");
    for (const char *at = world.talker.got; (at = strstr(at, "\r\n\r\nat once")) != NULL; at++)
        answers++;
    assert_int_equal(answers, 50);
    assert_false(world.talker.ended);
}

// However many requests came at once, the loop turns between them, and none is lost.
TEST(rests_leave_turns_to_others)
{
    world.server.limits.rests = true;
    char burst[50 * 40] = "";
    for (int i = 0; i < 50; i++)
        strcat(burst, "GET /at-once HTTP/1.1\r\nHost: a\r\n\r\n");
    uint64_t turns = io_loop_stats(world.server_loop)->turns;
    say(burst);
    run_ms(200);
    uint32_t answers = 0;
    for (const char *at = world.talker.got; (at = strstr(at, "\r\n\r\nat once")) != NULL; at++)
        answers++;
    assert_int_equal(answers, 50);
    assert_true(io_loop_stats(world.server_loop)->turns - turns >= 50);
    say("GET /at-once HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(world.notes[SERVER_NOTE_IDLE], 0);
    run_ms(6000);
    assert_int_equal(world.notes[SERVER_NOTE_IDLE], 1);
}

// The last request of one connection holds up the first of another, else many of these would share no turn
// out.
TEST(rests_bind_every_connection)
{
    world.server.limits.rests = true;
    world.server.rested_us = io_sim_now_us(world.sim) + 300000;
    say("GET /at-once HTTP/1.1\r\nHost: a\r\n\r\n");
    run_ms(200);
    expect_trace("");
    run_ms(100);
    expect_trace("/at-once ");
    expect_got("\r\n\r\nat once");
}

// Who drips a head gains no time by having to wait for a turn.
TEST(a_head_that_rests_is_late_in_time)
{
    world.server.limits.rests = true;
    say("GET /at-once HTTP/1.1\r\n");
    run_ms(500);
    world.server.rested_us = io_sim_now_us(world.sim) + 300000;
    say("Host:");
    run_ms(600);
    expect_trace("late:408 ");
}

// ---- bodies ----

TEST(bodies_come_whole_however_they_are_cut)
{
    say("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    expect_trace("/a ");
    say_digits(100000);
    expect_trace("data ended ");
    assert_int_equal(world.body_bytes, 100000);
    assert_true(world.taken_bufs > 0);
    answer(world.stream, "");
    world.body_bytes = 0;
    say("POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56");
    say("789\r\n0\r\nX-Check: sum\r\n\r\n");
    expect_trace("/b data ended+trailers ");
    assert_int_equal(world.body_bytes, 10);
    answer(world.stream, "");
}

// Who waited for its turn was not read from; its body must be, when the turn has come.
TEST(a_body_behind_a_pipelined_request_comes_after_its_head)
{
    say("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    say("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n");
    expect_trace("/a ");
    answer(world.stream, "first");
    run_ms(10);
    expect_trace("/b ");
    say_digits(20000);
    run_ms(100);
    expect_trace("data ended ");
    assert_int_equal(world.body_bytes, 20000);
    answer(world.stream, "");
}

TEST(a_broken_body_ends_the_stream_with_one_answer)
{
    say("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n0\r\nzz");
    expect_trace("/a data body:400 ");
    expect_got("HTTP/1.1 400");
    expect_got("Connection: close");
    assert_true(world.talker.ended && !world.talker.reset);
}

TEST(paused_bodies_wait)
{
    say("POST /paused HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n");
    say_digits(20000);
    assert_int_equal(world.body_bytes, 0);
    server_resume(world.stream);
    run_ms(100);
    assert_int_equal(world.body_bytes, 20000);
    expect_trace("/paused data ended ");
    answer(world.stream, "");
}

// ---- answers ----

TEST(framing_is_the_engines)
{
    say("GET /early HTTP/1.1\r\nHost: a\r\n\r\n");
    send_head(world.stream, 200, HTTP_FRAMING_UNTIL_CLOSE, 0);
    assert_int_equal(server_data(world.stream, SLICE("body"), NULL), STATUS_OK);
    assert_int_equal(server_data_end(world.stream, NULL), STATUS_OK);
    server_end(world.stream);
    run_ms(10);
    expect_got("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
               "4\r\nbody\r\n0\r\n\r\n");
    say("GET /early HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    world.talker.len = 0;
    send_head(world.stream, 200, HTTP_FRAMING_CHUNKED, 0);
    assert_int_equal(server_data(world.stream, SLICE("body"), NULL), STATUS_OK);
    assert_int_equal(server_data_end(world.stream, NULL), STATUS_OK);
    server_end(world.stream);
    run_ms(10);
    assert_string_equal(world.talker.got, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbody");
    assert_true(world.talker.ended && !world.talker.reset);
}

TEST(an_answer_before_the_requests_end_is_the_last)
{
    say("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n0123");
    answer(world.stream, "enough");
    say("more of it, which nobody reads");
    expect_got("Connection: close\r\n\r\nenough");
    assert_true(world.talker.ended && !world.talker.reset);
    expect_trace("/a data ");
}

TEST(reset_is_seen)
{
    say("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    send_head(world.stream, 200, HTTP_FRAMING_LENGTH, 100);
    server_reset(world.stream);
    run_ms(10);
    assert_true(world.talker.reset);
    expect_trace("/a ");
}

TEST(unsent_bytes_are_counted_until_they_are_taken)
{
    static const char big[300000];
    say("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    io_stream_pause(&world.talker.stream);
    send_head(world.stream, 200, HTTP_FRAMING_LENGTH, sizeof big);
    assert_int_equal(server_data(world.stream, (struct slice){big, sizeof big}, NULL), STATUS_OK);
    server_flush(world.stream);
    assert_true(world.server.unsent > 100000);
    assert_int_equal(server_unsent(world.stream), world.server.unsent);
    server_end(world.stream);
    io_stream_resume(&world.talker.stream);
    run_ms(1000);
    assert_int_equal(world.server.unsent, 0);
    assert_true(world.talker.len > sizeof big);
}

// ---- ends ----

TEST(a_half_closed_client_gets_its_answer)
{
    say("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    io_stream_finish(&world.talker.stream);
    run_ms(10);
    expect_trace("/a half-closed ");
    assert_true(server_is_half_closed(world.stream));
    answer(world.stream, "still");
    run_ms(10);
    expect_got("still");
    assert_true(world.talker.ended && !world.talker.reset);
}

TEST(gone_is_told_once)
{
    say("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n0");
    io_stream_abort(&world.talker.stream);
    run_ms(10);
    expect_trace("/a data gone ");
    server_close(&world.server);
    expect_trace("");
}

TEST(closing_tells_those_under_way)
{
    say("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    server_close(&world.server);
    expect_trace("/a gone ");
}

TEST(drained_connections_end_with_their_answer)
{
    struct rng rng;
    rng_init(&rng, 1);
    say("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    server_drain(&world.server, &rng);
    run_ms(2000);
    answer(world.stream, "last");
    run_ms(10);
    expect_got("Connection: close\r\n\r\nlast");
    assert_true(world.talker.ended);
    expect_trace("/a ");
}

TEST(idle_connections_are_drained)
{
    struct rng rng;
    rng_init(&rng, 1);
    server_drain(&world.server, &rng);
    run_ms(1600);
    assert_true(world.talker.ended && !world.talker.reset);
    assert_int_equal(world.notes[SERVER_NOTE_IDLE], 1);
}

// Who had just connected, or sends again over a kept connection, has half a second for it and is told to go.
TEST(a_request_that_meets_a_drain_is_answered)
{
    struct rng rng;
    rng_init(&rng, 1);
    server_drain(&world.server, &rng);
    run_ms(490);
    assert_false(world.talker.ended);
    say("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    answer(world.stream, "last");
    run_ms(10);
    expect_got("Connection: close\r\n\r\nlast");
    assert_true(world.talker.ended);
    expect_trace("/a ");
}

// ---- time ----

TEST(a_stream_has_no_time_but_its_own)
{
    say("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    run_ms(60000);
    expect_trace("/a ");
    server_due(world.stream, io_loop_now_us(world.server_loop) + 2000000);
    run_ms(1990);
    expect_trace("");
    run_ms(20);
    expect_trace("due ");
    expect_got("late");
}

// Never before the limit, and not all at once.
TEST(idle_times_are_spread)
{
    world.server.limits.idle_spread_us = 4000000;
    struct io_addr addr;
    server_addr(&world.server, 0, &addr);
    say("GET /at-once HTTP/1.1\r\nHost: a\r\n\r\n");
    static struct io_stream other;
    static const struct io_stream_ops quiet = {.on_open = talker_on_open};
    io_stream_connect(world.client_loop, &other, &addr, &quiet);
    run_ms(10);
    // The talker is the first: it idles no longer than the limit, the second six tenths of the spread.
    run_ms(4970);
    assert_int_equal(world.notes[SERVER_NOTE_IDLE], 0);
    run_ms(100);
    assert_int_equal(world.notes[SERVER_NOTE_IDLE], 1);
    run_ms(2300);
    assert_int_equal(world.notes[SERVER_NOTE_IDLE], 1);
    run_ms(200);
    assert_int_equal(world.notes[SERVER_NOTE_IDLE], 2);
    io_stream_close(&other);
    run_ms(100);
}

TEST(a_slow_head_is_refused)
{
    say("GET /a HTTP/1.1\r\n");
    run_ms(900);
    say("Host: a\r\n");
    run_ms(200);
    expect_trace("late:408 ");
    expect_got("HTTP/1.1 408");
}

// ---- tunnels ----

TEST(tunnel)
{
    struct io_buf *early = NULL;
    say("GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: digits\r\n\r\n01");
    world.response = (struct http_response){.status = 101,
                                            .reason = SLICE("Switching Protocols"),
                                            .upgrade = SLICE("digits"),
                                            .framing = HTTP_FRAMING_NONE};
    assert_int_equal(server_tunnel(world.stream, &world.response, NULL, &early), STATUS_OK);
    assert_non_null(early);
    assert_int_equal(io_buf_len(early), 2);
    io_held_put(early);
    say("0123456789");
    assert_int_equal(world.body_bytes, 10);
    assert_int_equal(server_data(world.stream, SLICE("raw bytes"), NULL), STATUS_OK);
    server_half_close(world.stream);
    run_ms(10);
    expect_got("Upgrade: digits\r\n\r\nraw bytes");
    assert_true(world.talker.ended);
    say("0123456789");
    assert_int_equal(world.body_bytes, 20);
    io_stream_finish(&world.talker.stream);
    run_ms(10);
    expect_trace("/a data half-closed ");
    server_end(world.stream);
}
