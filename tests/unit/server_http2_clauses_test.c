// SPDX-License-Identifier: Apache-2.0
// server, HTTP/2: each rule of RFC 9113, sections 4 to 6, about frames that must not come, as one row: the
// frame, and the error with which the connection or the stream must end. What is asked on other streams goes
// on where only a stream ends.
#include "server_http2_world.h"

EACH_TEST(set_up, tear_down);

enum before {
    NOTHING,
    OPEN,        // stream 1: its body is still to come
    HALF_CLOSED, // stream 1: all of the request has come
    TAKEN_BACK,  // stream 1: reset by the client
    ANSWERED,    // stream 1: over on both sides
    HEADING,     // stream 1: its head is not over
};

enum after {
    IGNORED,
    RESET,
    GONE,
};

struct clause {
    const char *rule;
    enum before before;
    uint8_t type, flags;
    int32_t id;
    uint32_t len;
    const char *payload; // NULL: zeros
    enum after after;
    uint32_t code;
};

#define TYPE(name_) NGHTTP2_##name_
#define CODE(name_) NGHTTP2_##name_##_ERROR
#define BYTES(text_) sizeof(text_) - 1, text_
#define ZEROS(count_) count_, NULL
#define PADDED NGHTTP2_FLAG_PADDED
#define END_HEADERS NGHTTP2_FLAG_END_HEADERS
#define ACK NGHTTP2_FLAG_ACK
#define GET_HEAD                                                                                             \
    "\x82\x86\x84\x41\x01"                                                                                   \
    "a" // the static table's GET, http and /, and an authority

static const struct clause CLAUSES[] = {
    {"4.1 an unknown frame", NOTHING, 0x77, 0xff, 5, BYTES("any"), IGNORED, 0},
    {"4.1 flags without a meaning", NOTHING, TYPE(PING), 0xfe, 0, ZEROS(8), IGNORED, 0},
    {"4.2 longer than was agreed", OPEN, TYPE(DATA), 0, 1, ZEROS(16385), GONE, CODE(FRAME_SIZE)},
    {"4.3 no HPACK", NOTHING, TYPE(HEADERS), END | END_HEADERS, 1, BYTES("\xff\xff\xff\xff\xff\xff"), GONE,
     CODE(COMPRESSION)},
    {"RFC 7541 2.3.3 an index past both tables", NOTHING, TYPE(HEADERS), END | END_HEADERS, 1, BYTES("\xc6"),
     GONE, CODE(COMPRESSION)},
    {"RFC 7541 6.1 the index 0", NOTHING, TYPE(HEADERS), END | END_HEADERS, 1, BYTES("\x80"), GONE,
     CODE(COMPRESSION)},
    {"RFC 7541 4.2 a size update behind a field", NOTHING, TYPE(HEADERS), END | END_HEADERS, 1,
     BYTES(GET_HEAD "\x20"), GONE, CODE(COMPRESSION)},
    {"RFC 7541 6.3 a size above the limit", NOTHING, TYPE(HEADERS), END | END_HEADERS, 1,
     BYTES("\x3f\xe2\x1f" GET_HEAD), GONE, CODE(COMPRESSION)},
    {"RFC 7541 5.2 padding of Huffman of twelve bits", NOTHING, TYPE(HEADERS), END | END_HEADERS, 1,
     BYTES(GET_HEAD "\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"), GONE, CODE(COMPRESSION)},

    {"5.1 DATA of an idle stream", NOTHING, TYPE(DATA), END, 1, BYTES("x"), GONE, CODE(PROTOCOL)},
    {"5.1 RST_STREAM of an idle stream", NOTHING, TYPE(RST_STREAM), 0, 1, ZEROS(4), GONE, CODE(PROTOCOL)},
    {"5.1 WINDOW_UPDATE of an idle stream", NOTHING, TYPE(WINDOW_UPDATE), 0, 1, BYTES("\0\0\0\1"), GONE,
     CODE(PROTOCOL)},
    {"5.1 CONTINUATION of an idle stream", NOTHING, TYPE(CONTINUATION), END_HEADERS, 1, BYTES(GET_HEAD), GONE,
     CODE(PROTOCOL)},
    {"5.1 DATA of a half-closed stream", HALF_CLOSED, TYPE(DATA), END, 1, BYTES("x"), GONE,
     NGHTTP2_STREAM_CLOSED},
    {"5.1 HEADERS of a half-closed stream", HALF_CLOSED, TYPE(HEADERS), END | END_HEADERS, 1, BYTES(GET_HEAD),
     GONE, NGHTTP2_STREAM_CLOSED},
    {"5.1 CONTINUATION of a half-closed stream", HALF_CLOSED, TYPE(CONTINUATION), END_HEADERS, 1,
     BYTES(GET_HEAD), GONE, CODE(PROTOCOL)},
    {"5.1 WINDOW_UPDATE of a half-closed stream", HALF_CLOSED, TYPE(WINDOW_UPDATE), 0, 1, BYTES("\0\0\0\1"),
     IGNORED, 0},
    {"5.1 RST_STREAM of a stream that is over", ANSWERED, TYPE(RST_STREAM), 0, 1, ZEROS(4), IGNORED, 0},
    {"5.1 WINDOW_UPDATE of a stream that is over", ANSWERED, TYPE(WINDOW_UPDATE), 0, 1, BYTES("\0\0\0\1"),
     IGNORED, 0},
    {"5.1 PRIORITY of a stream that is over", ANSWERED, TYPE(PRIORITY), 0, 1, ZEROS(5), IGNORED, 0},
    {"5.1 CONTINUATION of a stream that is over", ANSWERED, TYPE(CONTINUATION), END_HEADERS, 1,
     BYTES(GET_HEAD), GONE, CODE(PROTOCOL)},
    // These might end the connection as well (5.1): they may also have been on their way.
    {"5.1 DATA of a stream that was taken back", TAKEN_BACK, TYPE(DATA), END, 1, BYTES("x"), IGNORED, 0},
    {"5.1 HEADERS of a stream that is over", ANSWERED, TYPE(HEADERS), END | END_HEADERS, 1, BYTES(GET_HEAD),
     IGNORED, 0},
    {"5.1.1 a stream of the server's", NOTHING, TYPE(HEADERS), END | END_HEADERS, 2, BYTES(GET_HEAD), GONE,
     CODE(PROTOCOL)},

    {"6.1 DATA without a stream", NOTHING, TYPE(DATA), END, 0, BYTES("x"), GONE, CODE(PROTOCOL)},
    {"6.1 DATA with nothing but padding that is not there", OPEN, TYPE(DATA), PADDED, 1,
     BYTES("\x04"
           "abc"),
     GONE, CODE(PROTOCOL)},
    {"6.1 DATA without its padding's length", OPEN, TYPE(DATA), PADDED, 1, ZEROS(0), GONE, CODE(PROTOCOL)},
    {"6.2 HEADERS without a stream", NOTHING, TYPE(HEADERS), END | END_HEADERS, 0, BYTES(GET_HEAD), GONE,
     CODE(PROTOCOL)},
    {"6.2 HEADERS with more padding than bytes", NOTHING, TYPE(HEADERS), END | END_HEADERS | PADDED, 1,
     BYTES("\x20" GET_HEAD), GONE, CODE(PROTOCOL)},
    {"6.2 another frame within a head", HEADING, TYPE(PING), 0, 0, ZEROS(8), GONE, CODE(PROTOCOL)},
    {"6.2 another stream's frame within a head", HEADING, TYPE(HEADERS), END | END_HEADERS, 3,
     BYTES(GET_HEAD), GONE, CODE(PROTOCOL)},
    {"6.10 another stream's piece within a head", HEADING, TYPE(CONTINUATION), END_HEADERS, 3,
     BYTES(GET_HEAD), GONE, CODE(PROTOCOL)},
    {"5.5 an unknown frame within a head", HEADING, 0x77, 0, 1, BYTES("any"), GONE, CODE(PROTOCOL)},
    {"6.3 PRIORITY without a stream", NOTHING, TYPE(PRIORITY), 0, 0, ZEROS(5), GONE, CODE(PROTOCOL)},
    {"6.3 PRIORITY of another length", OPEN, TYPE(PRIORITY), 0, 1, ZEROS(4), GONE, CODE(FRAME_SIZE)},
    {"6.4 RST_STREAM without a stream", NOTHING, TYPE(RST_STREAM), 0, 0, ZEROS(4), GONE, CODE(PROTOCOL)},
    {"6.4 RST_STREAM of another length", OPEN, TYPE(RST_STREAM), 0, 1, ZEROS(3), GONE, CODE(FRAME_SIZE)},
    {"6.5 SETTINGS of a stream", NOTHING, TYPE(SETTINGS), 0, 1, ZEROS(0), GONE, CODE(PROTOCOL)},
    {"6.5 SETTINGS of another length", NOTHING, TYPE(SETTINGS), 0, 0, ZEROS(3), GONE, CODE(FRAME_SIZE)},
    {"6.5 an acknowledgement that says something", NOTHING, TYPE(SETTINGS), ACK, 0, ZEROS(6), GONE,
     CODE(FRAME_SIZE)},
    {"6.5.2 an unknown setting", NOTHING, TYPE(SETTINGS), 0, 0, BYTES("\x77\x77\0\0\0\1"), IGNORED, 0},
    {"6.5.2 ENABLE_PUSH of 2", NOTHING, TYPE(SETTINGS), 0, 0, BYTES("\0\2\0\0\0\2"), GONE, CODE(PROTOCOL)},
    {"6.5.2 a window above the most", NOTHING, TYPE(SETTINGS), 0, 0, BYTES("\0\4\x80\0\0\0"), GONE,
     CODE(FLOW_CONTROL)},
    {"6.5.2 frames below the least", NOTHING, TYPE(SETTINGS), 0, 0, BYTES("\0\5\0\0\x3f\xff"), GONE,
     CODE(PROTOCOL)},
    {"6.5.2 frames above the most", NOTHING, TYPE(SETTINGS), 0, 0, BYTES("\0\5\1\0\0\0"), GONE,
     CODE(PROTOCOL)},
    {"6.6 PUSH_PROMISE of a client", OPEN, TYPE(PUSH_PROMISE), END_HEADERS, 1, BYTES("\0\0\0\2" GET_HEAD),
     GONE, CODE(PROTOCOL)},
    {"6.7 PING of a stream", NOTHING, TYPE(PING), 0, 1, ZEROS(8), GONE, CODE(PROTOCOL)},
    {"6.7 PING of another length", NOTHING, TYPE(PING), 0, 0, ZEROS(7), GONE, CODE(FRAME_SIZE)},
    {"6.7 a PING that was answered", NOTHING, TYPE(PING), ACK, 0, ZEROS(8), IGNORED, 0},
    {"6.8 GOAWAY of a stream", NOTHING, TYPE(GOAWAY), 0, 1, ZEROS(8), GONE, CODE(PROTOCOL)},
    {"6.8 GOAWAY that is too short", NOTHING, TYPE(GOAWAY), 0, 0, ZEROS(7), GONE, CODE(FRAME_SIZE)},
    {"6.9 no step of the connection's window", NOTHING, TYPE(WINDOW_UPDATE), 0, 0, ZEROS(4), GONE,
     CODE(PROTOCOL)},
    {"6.9 no step of a stream's window", OPEN, TYPE(WINDOW_UPDATE), 0, 1, ZEROS(4), GONE, CODE(PROTOCOL)},
    {"6.9 WINDOW_UPDATE of another length", NOTHING, TYPE(WINDOW_UPDATE), 0, 0, ZEROS(3), GONE,
     CODE(FRAME_SIZE)},
    {"6.9.1 the connection's window above the most", NOTHING, TYPE(WINDOW_UPDATE), 0, 0,
     BYTES("\x7f\xff\xff\xff"), GONE, CODE(FLOW_CONTROL)},
    {"6.9.1 a stream's window above the most", OPEN, TYPE(WINDOW_UPDATE), 0, 1, BYTES("\x7f\xff\xff\xff"),
     RESET, CODE(FLOW_CONTROL)},
    {"6.10 CONTINUATION without a stream", NOTHING, TYPE(CONTINUATION), END_HEADERS, 0, BYTES(GET_HEAD), GONE,
     CODE(PROTOCOL)},
    {"6.10 CONTINUATION behind a whole head", OPEN, TYPE(CONTINUATION), END_HEADERS, 1, BYTES(GET_HEAD), GONE,
     CODE(PROTOCOL)},
};

static void begin(enum before before)
{
    greet();
    if (before == OPEN)
        post(1, "/open");
    else if (before == HALF_CLOSED || before == TAKEN_BACK)
        get(1, "/open");
    else if (before == ANSWERED)
        get(1, "/at-once");
    else if (before == HEADING)
        put_frame(NGHTTP2_HEADERS, END, 1, GET_HEAD, 1);
    flush();
    if (before == TAKEN_BACK)
        put_number(NGHTTP2_RST_STREAM, 1, NGHTTP2_CANCEL);
    flush();
}

static bool came(uint8_t type, size_t at, uint32_t code)
{
    for (uint32_t i = world.seen; i < world.frame_count; i++)
        if (world.frames[i].type == type)
            return number_of(world.frames[i].payload + at) == code;
    return false;
}

static bool goes_on(void)
{
    uint32_t count = world.frame_count;
    get(101, "/at-once");
    flush();
    for (uint32_t i = count; i < world.frame_count; i++)
        if (world.frames[i].type == NGHTTP2_DATA && world.frames[i].id == 101)
            return !world.ended;
    return false;
}

static bool keeps(const struct clause *clause)
{
    static const char zeros[16385];
    begin(clause->before);
    put_frame(clause->type, clause->flags, clause->id, clause->payload != NULL ? clause->payload : zeros,
              clause->len);
    flush();
    run_ms(100);
    if (clause->after == GONE)
        return came(NGHTTP2_GOAWAY, 4, clause->code) && world.ended;
    if (clause->after == RESET && !came(NGHTTP2_RST_STREAM, 0, clause->code))
        return false;
    return goes_on();
}

// What is still open is answered, as its handler would.
static void answer_rest(void)
{
    for (uint32_t i = 0; i < world.stream_count; i++)
        if (world.streams[i] != NULL)
            answer(world.streams[i], "rest");
    run_ms(10);
}

TEST(frames_that_must_not_come)
{
    uint32_t broken = 0;
    for (size_t i = 0; i < ARRAY_LEN(CLAUSES); i++) {
        assert_int_equal(tear_down(state), 0);
        assert_int_equal(set_up(state), 0);
        bool kept = keeps(&CLAUSES[i]);
        answer_rest();
        if (!kept)
            printf("not as RFC 9113 says: %s\n", CLAUSES[i].rule);
        broken += !kept;
    }
    assert_int_equal(broken, 0);
}

// 6.9.2: a change of the first window moves those of all streams. Past the most it ends the streams that it
// meets; the RFC would end the connection.
TEST(a_first_window_that_lifts_another_above_the_most)
{
    greet();
    post(1, "/open");
    put_number(NGHTTP2_WINDOW_UPDATE, 1, 0x7fff0000);
    put_setting(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0x7fffffff);
    flush();
    expect_rst(1, NGHTTP2_FLOW_CONTROL_ERROR);
    expect_trace("/open 0:gone ");
}

// 5.1.1: numbers only grow, and a later one closes those that were passed over.
TEST(a_request_of_a_number_passed_over_is_none)
{
    greet();
    get(5, "/at-once");
    flush();
    expect_answer(5);
    get(3, "/at-once");
    get(7, "/at-once");
    flush();
    expect_answer(7);
    expect_trace("/at-once /at-once ");
}
