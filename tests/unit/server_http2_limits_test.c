// SPDX-License-Identifier: Apache-2.0
// server, HTTP/2: windows, limits, floods, time, and the connection's end, clause by clause of RFC 9113.
#include "server_http2_world.h"

EACH_TEST(set_up, tear_down);

// ---- 5.2, 6.9: flow control ----

static void write_much(struct server_stream *stream, size_t len)
{
    static const char bytes[16384] = {'x'};
    for (size_t n; len > 0; len -= n) {
        n = len < sizeof bytes ? len : sizeof bytes;
        assert_int_equal(server_data(stream, (struct slice){bytes, n}, NULL), STATUS_OK);
    }
    server_flush(stream);
}

// A stream whose window is shut keeps its own answer back, and no other.
TEST(a_slow_stream_holds_up_no_other)
{
    greet();
    put_setting(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1000);
    put_number(NGHTTP2_WINDOW_UPDATE, 0, 1 << 20);
    get(1, "/slow");
    get(3, "/other");
    flush();
    struct server_stream *slow = world.streams[0];
    send_head(slow, 200, HTTP_FRAMING_CHUNKED, 0);
    write_much(slow, 100000);
    run_ms(10);
    assert_int_equal(data_bytes(1), 1000);
    assert_int_equal(server_unsent(slow), 99000);
    answer(world.streams[1], "at once");
    run_ms(10);
    expect_head(1, 0, ":status: 200");
    expect_answer(3);
    expect_trace("/slow /other ");
    put_number(NGHTTP2_WINDOW_UPDATE, 1, 95000);
    flush();
    assert_int_equal(data_bytes(1), 96000);
    expect_trace("0:drained ");
    end(slow);
    put_number(NGHTTP2_WINDOW_UPDATE, 1, 95000);
    flush();
    assert_int_equal(data_bytes(1), 100000);
}

// A window may even become negative (6.9.2), and a window of the connection holds all its streams.
TEST(windows_are_kept_to)
{
    greet();
    get(1, "/");
    flush();
    struct server_stream *stream = world.streams[0];
    send_head(stream, 200, HTTP_FRAMING_CHUNKED, 0);
    write_much(stream, 60000);
    run_ms(10);
    assert_int_equal(data_bytes(1), 60000);
    put_setting(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 50000);
    flush();
    write_much(stream, 60000);
    run_ms(10);
    assert_int_equal(data_bytes(1), 60000);
    put_number(NGHTTP2_WINDOW_UPDATE, 1, 1 << 20);
    flush();
    assert_int_equal(data_bytes(1), 65535);
    put_number(NGHTTP2_WINDOW_UPDATE, 0, 1 << 20);
    flush();
    assert_int_equal(data_bytes(1), 120000);
    end(stream);
}

// What the handler does not take, the client may not send: at most its windows are buffered.
TEST(a_paused_body_shuts_its_window)
{
    greet();
    post(1, "/paused");
    post(3, "/");
    for (int i = 0; i < 4; i++) {
        put_data(1, 0, 16384);
        put_data(3, 0, 16384);
    }
    flush();
    for (int i = 0; i < 12; i++) {
        put_data(1, 0, 16384);
        flush();
    }
    assert_int_equal(window_given(1), 0);
    server_resume(world.streams[0]);
    run_ms(10);
    assert_true(window_given(1) >= STREAM_WINDOW / 2);
    put_data(1, END, 0);
    put_data(3, END, 0);
    flush();
    answer(world.streams[0], "at once");
    answer(world.streams[1], "at once");
}

// 6.9.1: more than the window is an error, of the stream.
TEST(a_client_that_ignores_its_window_is_stopped)
{
    greet();
    post(1, "/paused");
    for (int i = 0; i < STREAM_WINDOW / 16384; i++) {
        put_data(1, 0, 16384);
        flush();
    }
    put_data(1, 0, 1);
    flush();
    expect_rst(1, NGHTTP2_FLOW_CONTROL_ERROR);
    assert_null(world.streams[0]);
    assert_in_range(world.body_bytes, STREAM_WINDOW, STREAM_WINDOW + 1);
}

// Streams that are held back, and those that broke off, take nothing of the connection's window.
TEST(paused_bodies_hold_up_no_other)
{
    greet();
    for (int32_t id = 1; id < 40; id += 2) {
        post(id, "/paused");
        for (int i = 0; i < 8; i++)
            put_data(id, 0, 16384);
        send_ms(1);
        if (id % 4 == 1)
            put_number(NGHTTP2_RST_STREAM, id, NGHTTP2_CANCEL);
        send_ms(1);
    }
    assert_int_equal(world.body_bytes, 20 * 8 * 16384);
    assert_false(world.ended);
    assert_true(window_given(0) >= world.body_bytes - CONNECTION_WINDOW / 2);
}

TEST(nobody_takes_what_is_left_of_an_answer)
{
    greet();
    put_setting(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 10);
    get(1, "/");
    flush();
    struct server_stream *stream = world.streams[0];
    send_head(stream, 200, HTTP_FRAMING_LENGTH, 100);
    write_much(stream, 100);
    end(stream);
    run_ms(4000);
    assert_int_equal(data_bytes(1), 10);
    run_ms(8000);
    expect_rst(1, NGHTTP2_CANCEL);
    assert_int_equal(world.server.unsent, 0);
}

// ---- limits ----

// 5.1.2.
TEST(streams_are_limited)
{
    greet();
    for (int32_t i = 0; i < 100; i++)
        get(2 * i + 1, "/");
    flush();
    assert_int_equal(world.stream_count, 100);
    get(201, "/");
    flush();
    assert_int_equal(world.stream_count, 100);
    assert_true(world.ended || next(NGHTTP2_RST_STREAM)->id == 201);
}

// 10.5.1: as long as a head of HTTP/1 may be.
TEST(a_head_that_is_too_long_is_431)
{
    static char field[5000];
    snprintf(field, sizeof field, "x|%04000d", 0);
    greet();
    put_headers(1, END,
                FIELDS(REQUEST("GET", "/"), field, field, field, field, field, field, field, field, field));
    get(3, "/at-once");
    flush();
    expect_trace("malformed:431 /at-once ");
}

static void put_many_continuations(int count)
{
    static uint8_t block[BLOCK_BYTES];
    size_t len = deflate(FIELDS(REQUEST("GET", "/")), block);
    put_frame(NGHTTP2_HEADERS, END, 1, block, len);
    for (int i = 0; i < count; i++)
        put_frame(NGHTTP2_CONTINUATION, 0, 1, NULL, 0);
}

// 10.5 (CVE-2024-27316): a head in endless pieces.
TEST(continuations_are_bounded)
{
    greet();
    put_many_continuations(2000);
    flush();
    assert_true(world.ended);
    expect_trace("");
}

TEST(a_head_in_pieces_is_read)
{
    static uint8_t block[BLOCK_BYTES];
    greet();
    size_t len = deflate(FIELDS(REQUEST("GET", "/at-once")), block);
    put_frame(NGHTTP2_HEADERS, END, 1, block, 3);
    put_frame(NGHTTP2_CONTINUATION, 0, 1, block + 3, 2);
    put_frame(NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1, block + 5, len - 5);
    flush();
    expect_answer(1);
}

TEST(a_head_that_takes_too_long_ends_the_connection)
{
    greet();
    put_many_continuations(1);
    flush();
    run_ms(1100);
    expect_trace("late:408 ");
    expect_goaway(1, NGHTTP2_NO_ERROR);
    assert_true(world.ended);
}

// CVE-2023-44487: requests that are taken back at once. Served ones earn others.
TEST(rapid_resets_are_calmed)
{
    greet();
    int32_t id = 1;
    for (; id < 2 * 5000 && !world.ended; id += 2) {
        get(id, "/");
        put_number(NGHTTP2_RST_STREAM, id, NGHTTP2_CANCEL);
        if (id % 32 == 1)
            flush();
    }
    assert_true(world.ended);
    assert_in_range(world.stream_count, 200, 240);
    expect_goaway((uint32_t)(2 * world.stream_count - 1), NGHTTP2_ENHANCE_YOUR_CALM);
}

TEST(a_client_that_is_served_may_take_back_some)
{
    greet();
    for (int32_t id = 1; id < 2 * 2000; id += 4) {
        get(id, "/");
        put_number(NGHTTP2_RST_STREAM, id, NGHTTP2_CANCEL);
        get(id + 2, "/at-once");
        send_ms(1);
        world.stream_count = 0;
    }
    assert_false(world.ended);
}

// Resets that the client has us send are no better (CVE-2025-8671).
TEST(resets_that_we_send_are_calmed_too)
{
    greet();
    for (int32_t id = 1; id < 2 * 5000 && !world.ended; id += 2) {
        get(id, "/");
        put_number(NGHTTP2_WINDOW_UPDATE, id, 0x7fffffff);
        if (id % 32 == 1)
            flush();
    }
    assert_true(world.ended);
    assert_in_range(world.stream_count, 200, 240);
}

static void expect_calmed(uint8_t type, uint8_t flags, int32_t id, size_t len)
{
    static const uint8_t payload[8] = {0, 0, 0, 0, 1};
    greet();
    post(1, "/");
    flush();
    for (int i = 0; i < 4000 && !world.ended; i++) {
        put_frame(type, flags, id, payload, len);
        if (i % 64 == 0)
            send_ms(1);
    }
    assert_true(world.ended);
    expect_goaway(1, NGHTTP2_ENHANCE_YOUR_CALM);
}

// 10.5: frames that ask for nothing.
TEST(pings_are_bounded)
{
    expect_calmed(NGHTTP2_PING, 0, 0, 8);
}

TEST(settings_are_bounded)
{
    expect_calmed(NGHTTP2_SETTINGS, 0, 0, 0);
}

TEST(empty_data_is_bounded)
{
    expect_calmed(NGHTTP2_DATA, 0, 1, 0);
}

TEST(priorities_are_bounded)
{
    expect_calmed(NGHTTP2_PRIORITY, 0, 1, 5);
}

TEST(window_updates_are_bounded)
{
    static const uint8_t one[4] = {0, 0, 0, 1};
    greet();
    post(1, "/");
    for (int i = 0; i < 4000 && !world.ended; i++) {
        put_frame(NGHTTP2_WINDOW_UPDATE, 0, 0, one, sizeof one);
        if (i % 64 == 0)
            send_ms(1);
    }
    expect_goaway(1, NGHTTP2_ENHANCE_YOUR_CALM);
}

// Who asks for its life every ten seconds may do so for ever.
TEST(a_ping_now_and_then_is_answered)
{
    static const uint8_t payload[8];
    greet();
    get(1, "/");
    for (int i = 0; i < 3000; i++) {
        put_frame(NGHTTP2_PING, 0, 0, payload, sizeof payload);
        send_ms(10000);
    }
    assert_false(world.ended);
    answer(world.streams[0], "at once");
    run_ms(10);
    expect_answer(1);
}

// ---- life ----

TEST(an_idle_connection_is_closed)
{
    static const uint8_t payload[8];
    greet();
    get(1, "/at-once");
    flush();
    run_ms(4000);
    assert_false(world.ended);
    put_frame(NGHTTP2_PING, 0, 0, payload, sizeof payload); // is no request
    send_ms(1500);
    expect_goaway(1, NGHTTP2_NO_ERROR);
    assert_true(world.ended);
    assert_int_equal(world.notes[SERVER_NOTE_IDLE], 1);
}

// 6.8: first that no stream will be taken any more, after a round trip which was the last.
TEST(draining_says_so_twice)
{
    struct rng rng;
    rng_init(&rng, 1);
    greet();
    get(1, "/");
    flush();
    server_drain(&world.server, &rng);
    run_ms(1100);
    expect_goaway(0x7fffffff, NGHTTP2_NO_ERROR);
    const struct frame *ping = next(NGHTTP2_PING);
    get(3, "/at-once"); // was on its way
    put_frame(NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, ping->payload, 8);
    flush();
    expect_head(3, 0, ANSWER_HEAD("7"));
    expect_goaway(3, NGHTTP2_NO_ERROR);
    expect_data(3, END, "at once");
    get(5, "/at-once"); // is not served any more
    flush();
    assert_false(world.ended);
    answer(world.streams[0], "at once");
    run_ms(10);
    expect_answer(1);
    assert_true(world.ended);
    expect_trace("/ /at-once ");
}

TEST(draining_does_not_wait_for_a_silent_client)
{
    struct rng rng;
    rng_init(&rng, 1);
    greet();
    server_drain(&world.server, &rng);
    run_ms(2200);
    expect_goaway(0x7fffffff, NGHTTP2_NO_ERROR);
    expect_goaway(0, NGHTTP2_NO_ERROR);
    assert_true(world.ended);
}

TEST(closing_tells_all_streams)
{
    greet();
    get(1, "/a");
    get(3, "/b");
    flush();
    server_close(&world.server);
    expect_trace("/a /b 0:gone 1:gone ");
}

TEST(a_connection_that_waits_holds_no_buffer)
{
    greet();
    get(1, "/at-once");
    flush();
    assert_int_equal(io_loop_stats(world.server_loop)->bufs_in_use, 0);
}
