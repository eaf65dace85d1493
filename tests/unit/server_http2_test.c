// SPDX-License-Identifier: Apache-2.0
// server, HTTP/2: what the handler is told and what the client gets, clause by clause of RFC 9113.
#include "server_http2_world.h"

EACH_TEST(set_up, tear_down);

// ---- 3.4: the preface ----

TEST(a_preface_in_pieces_begins_it)
{
    put("PRI * HT", 8);
    flush();
    put("TP/2.0\r\n\r\nSM\r\n\r\n", 16);
    put_frame(NGHTTP2_SETTINGS, 0, 0, NULL, 0);
    get(1, "/at-once");
    flush();
    const struct frame *settings = next(NGHTTP2_SETTINGS);
    assert_int_equal(settings->len, 4 * 6);
    assert_int_equal(number_of(settings->payload + 2), 100);
    assert_int_equal(number_of(settings->payload + 8), STREAM_WINDOW);
    assert_int_equal(number_of(settings->payload + 14), HTTP1_HEAD_BYTES_MAX);
    expect_answer(1);
    assert_int_equal(window_given(0), CONNECTION_WINDOW - 65535);
    expect_trace("/at-once ");
}

TEST(a_preface_with_another_end_is_no_http2)
{
    put("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 24);
    flush();
    expect_goaway(0, NGHTTP2_PROTOCOL_ERROR);
    assert_true(world.ended);
}

TEST(a_preface_that_no_settings_follow_ends_it)
{
    put(NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    get(1, "/");
    flush();
    expect_goaway(0, NGHTTP2_PROTOCOL_ERROR);
    expect_trace("");
}

TEST(where_http2_is_not_spoken_its_preface_is_refused)
{
    world.refuses = true;
    put(NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    flush();
    expect_trace("malformed:505 ");
}

TEST(a_preface_after_a_request_is_refused)
{
    static const char first[] = "GET /at-once HTTP/1.1\r\nHost: a\r\n\r\n";
    world.http1 = true;
    put(first, sizeof first - 1);
    flush();
    put(NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    flush();
    expect_trace("/at-once malformed:505 ");
}

// ---- streams ----

TEST(streams_are_answered_in_any_order)
{
    greet();
    get(1, "/a");
    get(3, "/b");
    get(5, "/c");
    flush();
    expect_trace("/a /b /c ");
    answer(world.streams[1], "second");
    run_ms(10);
    expect_head(3, 0, ANSWER_HEAD("6"));
    expect_data(3, END, "second");
    answer(world.streams[2], "third");
    answer(world.streams[0], "first");
    run_ms(10);
    expect_head(5, 0, ANSWER_HEAD("5"));
    expect_data(5, END, "third");
    expect_head(1, 0, ANSWER_HEAD("5"));
    expect_data(1, END, "first");
}

// 8.1: informational heads, then the final one, then the body, then trailers.
TEST(an_answer_has_all_its_parts)
{
    struct http_fields trailers = {.count = 0};
    greet();
    get(1, "/early");
    flush();
    expect_head(1, 0, ":status: 103");
    struct server_stream *stream = world.streams[0];
    send_head(stream, 200, HTTP_FRAMING_CHUNKED, 0);
    assert_int_equal(server_data(stream, SLICE("body"), NULL), STATUS_OK);
    server_flush(stream);
    run_ms(10);
    expect_head(1, 0, ":status: 200");
    expect_data(1, 0, "body");
    assert_int_equal(http_fields_add(&trailers, SLICE("Sum"), SLICE("12")), STATUS_OK);
    assert_int_equal(http_fields_add(&trailers, SLICE("Content-Length"), SLICE("4")), STATUS_OK);
    assert_int_equal(server_data_end(stream, &trailers), STATUS_OK);
    over(stream);
    server_end(stream);
    run_ms(10);
    expect_head(1, END, "sum: 12");
}

// 8.1.1: an answer without a body ends with its head. 8.2.2: nothing in it speaks of a connection.
TEST(a_bodiless_answer_ends_with_its_head)
{
    greet();
    get(1, "/");
    flush();
    struct server_stream *stream = world.streams[0];
    send_head(stream, 304, HTTP_FRAMING_NONE, 0);
    end(stream);
    run_ms(10);
    expect_head(1, END, ":status: 304");
    put_headers(3, END, FIELDS(REQUEST("HEAD", "/")));
    flush();
    stream = world.streams[1];
    struct http_fields *fields = &world.response.fields;
    world.response = (struct http_response){
        .status = 200, .framing = HTTP_FRAMING_NONE, .has_content_length = true, .content_length = 7};
    assert_int_equal(http_fields_add(fields, SLICE("Connection"), SLICE("close")), STATUS_OK);
    assert_int_equal(http_fields_add(fields, SLICE("Keep-Alive"), SLICE("5")), STATUS_OK);
    assert_int_equal(http_fields_add(fields, SLICE("Transfer-Encoding"), SLICE("chunked")), STATUS_OK);
    assert_int_equal(http_fields_add(fields, SLICE("X-Kept"), SLICE("Yes")), STATUS_OK);
    assert_int_equal(server_head(stream, &world.response, NULL), STATUS_OK);
    end(stream);
    run_ms(10);
    expect_head(3, END, ":status: 200; x-kept: Yes; content-length: 7");
}

TEST(a_body_is_told_with_its_end)
{
    greet();
    post(1, "/");
    put_data(1, 0, 100);
    put_data(1, END, 50);
    flush();
    expect_trace("/ 0:data:100 0:data:50 0:ended ");
    answer(world.streams[0], "at once");
    run_ms(10);
    expect_answer(1);
}

// Once behind all that came in one piece, whatever it was: what a handler gathered goes on then.
TEST(a_body_is_flushed_behind_what_came)
{
    greet();
    world.flushes = true;
    post(1, "/");
    flush();
    put_data(1, 0, 100);
    put_data(1, 0, 50);
    flush();
    put_data(1, END, 0);
    flush();
    expect_trace("/ 0:flush 0:data:100 0:data:50 0:flush 0:ended 0:flush ");
    answer(world.streams[0], "at once");
}

// 6.1: padding is no body, but counts for the windows, which are given back for it.
TEST(padding_is_dropped)
{
    uint8_t payload[200] = {99};
    greet();
    post(1, "/");
    for (int i = 0; i < 2000; i++) {
        put_frame(NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, payload, sizeof payload);
        if (i % 100 == 0)
            flush();
    }
    put_data(1, END, 0);
    flush();
    assert_int_equal(world.body_bytes, 2000 * 100);
    assert_true(window_given(1) >= 2000 * 200 - STREAM_WINDOW);
    answer(world.streams[0], "at once");
}

TEST(trailers_are_told)
{
    greet();
    post(1, "/");
    put_data(1, 0, 10);
    put_headers(1, END, FIELDS("sum|12"));
    flush();
    expect_trace("/ 0:data:10 0:ended+sum=12 ");
    answer(world.streams[0], "at once");
}

// 8.1: trailers end the stream, and have no pseudo-fields.
TEST(malformed_trailers_are_refused)
{
    greet();
    post(1, "/");
    put_headers(1, 0, FIELDS("sum|12"));
    flush();
    expect_trace("/ body:400 ");
    post(3, "/");
    put_headers(3, END, FIELDS(":path|/x"));
    flush();
    expect_trace("/ body:400 ");
}

// 8.1.1: Content-Length against the sum of DATA.
TEST(a_body_of_another_length_is_refused)
{
    greet();
    put_headers(1, 0, FIELDS(REQUEST("POST", "/long"), "content-length|5"));
    put_data(1, END, 6);
    put_headers(3, 0, FIELDS(REQUEST("POST", "/short"), "content-length|5"));
    put_data(3, END, 4);
    put_headers(5, 0, FIELDS(REQUEST("POST", "/right"), "content-length|5"));
    put_data(5, 0, 2);
    put_data(5, END, 3);
    put_headers(7, END, FIELDS(REQUEST("POST", "/none"), "content-length|5"));
    flush();
    expect_trace("/long body:400 /short 1:data:4 body:400 /right 2:data:2 2:data:3 2:ended malformed:400 ");
    answer(world.streams[2], "at once");
}

// 8.1.1: what is malformed is answered, and is no request.
TEST(a_malformed_request_is_answered)
{
    greet();
    put_headers(1, END, FIELDS(":method|GET", ":scheme|http", ":path|/"));
    put_headers(3, END, FIELDS(REQUEST("GET", "/"), "x|a\r\nhost: b"));
    put_headers(5, END, FIELDS(REQUEST("GET", "/"), "transfer-encoding|chunked"));
    put_headers(7, END, FIELDS(":method|CONNECT", ":authority|a:443"));
    put_headers(9, END, FIELDS(REQUEST("GET", "/"), "x| leading"));
    get(11, "/at-once");
    flush();
    expect_trace("malformed:400 malformed:400 malformed:400 malformed:501 malformed:400 /at-once ");
    expect_head(1, 0, ":status: 400; content-type: text/plain; charset=utf-8; content-length: 32");
}

// 8.1: an answer may come before the request's end; what is left of it is asked not to be sent.
TEST(an_early_answer_stops_the_request)
{
    greet();
    post(1, "/at-once");
    flush();
    expect_answer(1);
    expect_rst(1, NGHTTP2_NO_ERROR);
    put_data(1, 0, 1000);
    get(3, "/at-once");
    flush();
    expect_answer(3);
    expect_trace("/at-once /at-once ");
}

TEST(a_reset_is_the_clients_leaving)
{
    greet();
    get(1, "/");
    flush();
    put_number(NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
    flush();
    expect_trace("/ 0:gone ");
    get(3, "/at-once");
    flush();
    expect_answer(3);
}

TEST(a_reset_answer_is_no_whole_one)
{
    greet();
    get(1, "/");
    flush();
    struct server_stream *stream = world.streams[0];
    send_head(stream, 200, HTTP_FRAMING_CHUNKED, 0);
    assert_int_equal(server_data(stream, SLICE("half"), NULL), STATUS_OK);
    server_flush(stream);
    over(stream);
    server_reset(stream);
    run_ms(10);
    expect_head(1, 0, ":status: 200");
    expect_rst(1, NGHTTP2_INTERNAL_ERROR);
    assert_false(world.ended);
}

TEST(a_client_that_leaves_takes_all_its_streams)
{
    greet();
    get(1, "/a");
    get(3, "/b");
    flush();
    io_stream_finish(&world.client);
    run_ms(10);
    expect_trace("/a /b 0:gone 1:gone ");
    assert_true(world.ended);
}

TEST(a_stream_has_its_own_time)
{
    greet();
    get(1, "/due");
    get(3, "/");
    flush();
    run_ms(400);
    expect_trace("/due / 0:due ");
    expect_head(1, 0, ANSWER_HEAD("4"));
    answer(world.streams[1], "at once");
}

// ---- RFC 8441: tunnels ----

static void open_tunnel(void)
{
    greet();
    put_headers(1, 0,
                FIELDS(":method|CONNECT", ":protocol|websocket", ":scheme|http", ":authority|a.example",
                       ":path|/chat"));
    put_data(1, 0, 5);
    flush();
    expect_trace("/chat ");
    world.response = (struct http_response){.status = 101, .framing = HTTP_FRAMING_NONE};
    assert_int_equal(http_fields_add(&world.response.fields, SLICE("Sec-WebSocket-Accept"), SLICE("x")),
                     STATUS_OK);
    assert_int_equal(http_fields_add(&world.response.fields, SLICE("Upgrade"), SLICE("websocket")),
                     STATUS_OK);
    struct io_buf *early = NULL;
    assert_int_equal(server_tunnel(world.streams[0], &world.response, NULL, &early), STATUS_OK);
    assert_int_equal(io_buf_len(early), 5);
    io_buf_put(early);
}

TEST(an_extended_connect_becomes_a_tunnel)
{
    open_tunnel();
    assert_int_equal(server_data(world.streams[0], SLICE("hello"), NULL), STATUS_OK);
    server_flush(world.streams[0]);
    put_data(1, 0, 7);
    flush();
    expect_head(1, 0, ":status: 200");
    expect_data(1, 0, "hello");
    expect_trace("0:data:7 ");
    put_data(1, END, 0);
    flush();
    expect_trace("0:half-closed ");
    assert_true(server_is_half_closed(world.streams[0]));
    server_half_close(world.streams[0]);
    run_ms(10);
    expect_data(1, END, "");
    run_ms(100);
    expect_trace(""); // both sides have ended, and the handler ends the stream
    struct server_stream *stream = world.streams[0];
    over(stream);
    server_end(stream);
    get(3, "/at-once");
    flush();
    expect_answer(3);
}

TEST(a_tunnel_that_is_not_opened_is_answered)
{
    greet();
    put_headers(1, 0,
                FIELDS(":method|CONNECT", ":protocol|websocket", ":scheme|http", ":authority|a.example",
                       ":path|/chat"));
    put_data(1, 0, 5);
    flush();
    answer(world.streams[0], "at once");
    run_ms(10);
    expect_answer(1);
    expect_rst(1, NGHTTP2_NO_ERROR);
}
