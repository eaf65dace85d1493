// SPDX-License-Identifier: Apache-2.0
// HTTP/2 towards origins, whose frames are made by hand, so that an origin also says what none should: what
// clients get, what is counted, what is sent again, and what a hostile origin is cut off for.
#include "proxy_world.h"
#include "test.h"

static const char GET[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
static const char POST[] = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";

enum { DATA, HEADERS, RST_STREAM = 3, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, ENDS = END_STREAM | END_HEADERS };
enum { CANCEL = 8, PREFACE_BYTES = 24, FRAME_HEADER_BYTES = 9 };

// ---- an origin by hand ----

struct frame {
    uint32_t len, id;
    uint8_t kind, flags;
    const uint8_t *payload;
};

// What the origin does with the n-th request, counted from 1, over all its connections.
static void (*answer)(struct peer *peer, uint32_t id, uint32_t nth);
static struct frame last_reset; // that came
static uint8_t last_reset_code;

static void say(struct peer *peer, uint8_t kind, uint8_t flags, uint32_t id, const void *payload, size_t len)
{
    uint8_t head[FRAME_HEADER_BYTES] = {
        (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len, kind, flags, 0, 0,
        (uint8_t)(id >> 8),   (uint8_t)id};
    peer_send_bytes(peer, (const char *)head, sizeof head);
    peer_send_bytes(peer, payload, len);
}

#define SAY(peer, kind, flags, id, text) say((peer), (kind), (flags), (id), (text), sizeof(text) - 1)

// ":status: 200" is the eighth entry of the static table.
#define OK_HEAD "\x88"
#define FIELD(name_len, name, value_len, value) "\0" name_len name value_len value

static void say_hello(struct peer *peer, uint32_t id)
{
    SAY(peer, HEADERS, END_HEADERS, id, OK_HEAD);
    SAY(peer, DATA, END_STREAM, id, "hello");
}

static void answer_hello(struct peer *peer, uint32_t id, uint32_t nth)
{
    (void)nth;
    say_hello(peer, id);
}

static bool next_frame(struct peer *peer, struct frame *frame)
{
    const uint8_t *at = (const uint8_t *)peer->got + peer->used;
    if (peer->len - peer->used < FRAME_HEADER_BYTES)
        return false;
    frame->len = (uint32_t)at[0] << 16 | (uint32_t)at[1] << 8 | at[2];
    frame->kind = at[3];
    frame->flags = at[4];
    frame->id = (uint32_t)at[7] << 8 | at[8];
    frame->payload = at + FRAME_HEADER_BYTES;
    if (peer->len - peer->used < FRAME_HEADER_BYTES + frame->len)
        return false;
    peer->used += FRAME_HEADER_BYTES + frame->len;
    return true;
}

static const char *settings = "";
static size_t settings_len;

static void serve(struct peer *peer)
{
    struct frame frame;
    if (peer->used == 0 && peer->len >= PREFACE_BYTES) {
        peer->used = PREFACE_BYTES;
        say(peer, SETTINGS, 0, 0, settings, settings_len);
    }
    while (peer->used > 0 && next_frame(peer, &frame)) {
        if (frame.kind == SETTINGS && (frame.flags & ACK) == 0)
            SAY(peer, SETTINGS, ACK, 0, "");
        if (frame.kind == RST_STREAM) {
            last_reset = frame;
            last_reset_code = frame.payload[3];
        }
        if ((frame.kind == HEADERS || frame.kind == DATA) && (frame.flags & END_STREAM) != 0)
            answer(peer, frame.id, ++peer->origin->requests);
    }
}

static struct world *world_of_http2(void (*with)(struct peer *peer, uint32_t id, uint32_t nth))
{
    struct world *w = world_create();
    answer = with;
    settings_len = 0;
    last_reset = (struct frame){0};
    w->origins[0].serve = serve;
    w->versions[0].http2 = true;
    world_publish(w);
    return w;
}

static uint64_t counted(const struct world *w, enum proxy_version_counter counter)
{
    return version_counter(w, 0, counter);
}

// ---- answers ----

TEST(requests_share_a_connection)
{
    struct world *w = world_of_http2(answer_hello);
    struct peer *one = world_connect(w), *two = world_connect(w);
    peer_send(one, POST);
    peer_send(two, GET);
    world_run(w, 1000);
    assert_true(peer_has(one, "HTTP/1.1 200 OK\r\n") && peer_has(one, "5\r\nhello\r\n0\r\n\r\n"));
    assert_true(peer_has(two, "Via: 2 "));
    peer_clear(two);
    peer_send(two, GET);
    world_run(w, 1000);
    assert_true(peer_has(two, "hello"));
    assert_int_equal(w->origins[0].accepted, 1);
    assert_int_equal(counted(w, PROXY_VERSION_STATUS_2XX), 3);
    world_destroy(w);
}

static void answer_with_trailers(struct peer *peer, uint32_t id, uint32_t nth)
{
    (void)nth;
    SAY(peer, HEADERS, END_HEADERS, id, OK_HEAD FIELD("\x0e", "content-length", "\1", "2"));
    SAY(peer, DATA, 0, id, "hi");
    SAY(peer, HEADERS, ENDS, id, FIELD("\5", "x-sum", "\1", "7"));
}

TEST(a_client_of_http1_gets_a_sized_body_without_trailers)
{
    struct world *w = world_of_http2(answer_with_trailers);
    const struct peer *c = world_ask(w, GET);
    assert_true(peer_has(c, "Content-Length: 2\r\n") && peer_has(c, "\r\n\r\nhi"));
    world_destroy(w);
}

static void answer_early_hints(struct peer *peer, uint32_t id, uint32_t nth)
{
    (void)nth;
    SAY(peer, HEADERS, END_HEADERS, id, FIELD("\7", ":status", "\3", "103"));
    SAY(peer, HEADERS, ENDS, id, OK_HEAD);
}

TEST(informational_heads_come_before_the_final_one)
{
    struct world *w = world_of_http2(answer_early_hints);
    const struct peer *c = world_ask(w, GET);
    assert_true(peer_has(c, "HTTP/1.1 103 Early Hints\r\n") && peer_has(c, "HTTP/1.1 200 OK\r\n"));
    assert_true(peer_has(c, "Content-Length: 0\r\n"));
    world_destroy(w);
}

// ---- what is sent again ----

static void refuse_first(struct peer *peer, uint32_t id, uint32_t nth)
{
    if (nth == 1)
        SAY(peer, RST_STREAM, 0, id, "\0\0\0\7");
    else
        say_hello(peer, id);
}

TEST(a_refused_request_is_sent_again_with_its_body)
{
    struct world *w = world_of_http2(refuse_first);
    const struct peer *c = world_ask(w, POST);
    assert_true(peer_has(c, "hello"));
    assert_int_equal(w->origins[0].requests, 2);
    assert_int_equal(counted(w, PROXY_VERSION_RETRIES), 1);
    assert_int_equal(w->origins[0].accepted, 1);
    world_destroy(w);
}

static void reset_always(struct peer *peer, uint32_t id, uint32_t nth)
{
    (void)nth;
    SAY(peer, RST_STREAM, 0, id, "\0\0\0\2");
}

TEST(a_request_that_was_begun_is_not_sent_again)
{
    struct world *w = world_of_http2(reset_always);
    const struct peer *c = world_ask(w, POST);
    assert_true(peer_has(c, "502 Bad Gateway"));
    assert_int_equal(w->origins[0].requests, 1);
    assert_int_equal(counted(w, PROXY_VERSION_ERROR_RESET), 1);
    world_destroy(w);
}

static void leave_first(struct peer *peer, uint32_t id, uint32_t nth)
{
    if (nth == 1)
        SAY(peer, GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0");
    else
        say_hello(peer, id);
}

TEST(a_goaway_fails_no_request)
{
    struct world *w = world_of_http2(leave_first);
    const struct peer *c = world_ask(w, POST);
    assert_true(peer_has(c, "hello"));
    assert_int_equal(w->origins[0].accepted, 2);
    assert_int_equal(counted(w, PROXY_VERSION_ERRORS), 0);
    world_destroy(w);
}

static void leave_always(struct peer *peer, uint32_t id, uint32_t nth)
{
    (void)id;
    (void)nth;
    SAY(peer, GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0");
}

TEST(an_origin_that_always_leaves_is_an_error)
{
    struct world *w = world_of_http2(leave_always);
    const struct peer *c = world_ask(w, POST);
    assert_true(peer_has(c, "502 Bad Gateway"));
    assert_true(w->origins[0].requests <= 4);
    assert_true(counted(w, PROXY_VERSION_ERROR_RESET) > 0);
    world_destroy(w);
}

static void answer_never(struct peer *peer, uint32_t id, uint32_t nth)
{
    (void)peer;
    (void)id;
    (void)nth;
}

TEST(a_client_that_leaves_cancels_its_stream_only)
{
    struct world *w = world_of_http2(answer_never);
    struct peer *c = world_ask(w, GET);
    io_stream_abort(&c->stream);
    c->closed = true;
    world_run(w, 1000);
    assert_int_equal(last_reset.id, 1);
    assert_int_equal(last_reset_code, CANCEL);
    assert_true(!w->origins[0].peers[0]->ended);
    world_destroy(w);
}

TEST(streams_run_out_and_another_connection_is_opened)
{
    struct world *w = world_of_http2(answer_never);
    settings = "\0\3\0\0\0\1"; // MAX_CONCURRENT_STREAMS: 1
    settings_len = 6;
    (void)world_ask(w, GET);
    (void)world_ask(w, GET);
    assert_int_equal(w->origins[0].accepted, 2);
    assert_int_equal(w->origins[0].requests, 2);
    for (int i = 0; i < 5; i++) // at once, before the origin has said how many it takes
        peer_send(world_connect(w), GET);
    world_run(w, 1000);
    assert_int_equal(w->origins[0].requests, 7);
    assert_int_equal(counted(w, PROXY_VERSION_ERRORS), 0);
    world_destroy(w);
}

static void say_nothing(struct peer *peer)
{
    (void)peer;
}

// A long body waits for a connection that then takes another request only; it moves to one that is open.
TEST(a_body_that_was_held_back_goes_on_elsewhere)
{
    static char body[200000];
    struct world *w = world_of_http2(answer_never);
    struct origin *origin = &w->origins[0];
    settings = "\0\3\0\0\0\1\0\4\0\4\0\0"; // MAX_CONCURRENT_STREAMS: 1, INITIAL_WINDOW_SIZE: 262144
    settings_len = 12;
    (void)world_ask(w, GET);
    SAY(origin->peers[0], WINDOW_UPDATE, 0, 0, "\0\4\0\0");
    origin->serve = say_nothing;
    peer_send(world_connect(w), GET);
    world_run(w, 10);
    struct peer *c = world_connect(w);
    peer_send(c, "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n");
    memset(body, 'x', sizeof body);
    peer_send_bytes(c, body, sizeof body);
    world_run(w, 10);
    assert_int_equal(origin->accepted, 2);
    origin->serve = serve;
    answer = answer_hello;
    say_hello(origin->peers[0], 1);
    world_run(w, 10);
    serve(origin->peers[1]);
    world_run(w, 1000);
    assert_true(peer_has(c, "hello"));
    assert_int_equal(origin->accepted, 2);
    world_destroy(w);
}

// ---- origins that break the rules ----

static const char *bad_head, *bad_body;
static size_t bad_head_len, bad_body_len;

static void answer_badly(struct peer *peer, uint32_t id, uint32_t nth)
{
    (void)nth;
    say(peer, HEADERS, bad_body_len > 0 ? END_HEADERS : ENDS, id, bad_head, bad_head_len);
    if (bad_body_len > 0)
        say(peer, DATA, END_STREAM, id, bad_body, bad_body_len);
}

#define BAD(head, body) head, sizeof(head) - 1, body, sizeof(body) - 1

TEST(malformed_answers_are_broken_ones)
{
    static const struct {
        const char *head;
        size_t head_len;
        const char *body;
        size_t body_len;
    } CASES[] = {
        {BAD(FIELD("\1", "a", "\1", "b"), "")},             // no status
        {BAD(OK_HEAD OK_HEAD, "")},                         // two of them
        {BAD(FIELD("\7", ":status", "\6", "200 OK"), "")},  // no number
        {BAD(FIELD("\7", ":status", "\3", "101"), "")},     // unknown in HTTP/2
        {BAD(FIELD("\7", ":status", "\3", "103"), "")},     // informational, and the end
        {BAD(OK_HEAD FIELD("\1", "A", "\1", "b"), "")},     // a capital letter
        {BAD(OK_HEAD FIELD("\1", "a", "\3", "b\nc"), "")},  // a control character
        {BAD(OK_HEAD FIELD("\5", ":path", "\1", "/"), "")}, // of requests
        {BAD(OK_HEAD FIELD("\1", "a", "\1", "b") FIELD("\7", ":status", "\3", "200"), "")}, // behind a field
        {BAD(OK_HEAD FIELD("\x0a", "connection", "\5", "close"), "")},                      // of HTTP/1
        {BAD(OK_HEAD FIELD("\x11", "transfer-encoding", "\7", "chunked"), "")},             // as well
        {BAD(OK_HEAD FIELD("\x0e", "content-length", "\1", "x"), "hello")},                 // no length
        {BAD(OK_HEAD FIELD("\x0e", "content-length", "\1", "9"), "")}, // without its body
        {BAD(OK_HEAD FIELD("\x0e", "content-length", "\1", "6")        // two of them, for the parser
             FIELD("\x0e", "content-length", "\1", "5"),
             "hello")},
    };
    struct world *w = world_of_http2(answer_badly);
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        bad_head = CASES[i].head;
        bad_head_len = CASES[i].head_len;
        bad_body = CASES[i].body;
        bad_body_len = CASES[i].body_len;
        const struct peer *c = world_ask(w, GET);
        assert_true(peer_has(c, "HTTP/1.1 502 Bad Gateway\r\n"));
        assert_int_equal(counted(w, PROXY_VERSION_ERROR_BROKEN), i + 1);
    }
    assert_int_equal(w->origins[0].accepted, 1); // each harms its own stream only
    world_destroy(w);
}

TEST(a_body_of_another_length_breaks_off)
{
    struct world *w = world_of_http2(answer_badly);
    static const char *const BODIES[] = {"hi", "hello!"};
    bad_head = OK_HEAD FIELD("\x0e", "content-length", "\1", "5");
    bad_head_len = sizeof(OK_HEAD FIELD("\x0e", "content-length", "\1", "5")) - 1;
    for (size_t i = 0; i < ARRAY_LEN(BODIES); i++) {
        bad_body = BODIES[i];
        bad_body_len = strlen(BODIES[i]);
        const struct peer *c = world_ask(w, GET);
        assert_true(c->reset);
        assert_int_equal(counted(w, PROXY_VERSION_ERROR_BROKEN), i + 1);
    }
    world_destroy(w);
}

TEST(an_origin_of_http1_is_told_apart)
{
    struct world *w = world_of_http2(answer_hello);
    w->origins[0].serve = NULL;
    w->origins[0].reply = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    const struct peer *c = world_ask(w, POST);
    assert_true(peer_has(c, "the origin does not speak HTTP/2"));
    assert_true(counted(w, PROXY_VERSION_ERROR_CONNECT) > 0);
    world_destroy(w);
}

static void flood(struct peer *peer, uint32_t id, uint32_t nth)
{
    (void)id;
    (void)nth;
    for (int i = 0; i < 3000; i++)
        SAY(peer, PING, 0, 0, "12345678");
}

TEST(an_origin_that_floods_is_cut_off)
{
    struct world *w = world_of_http2(flood);
    const struct peer *c = world_ask(w, POST);
    assert_true(peer_has(c, "502 Bad Gateway"));
    assert_true(w->origins[0].peers[0]->ended);
    world_destroy(w);
}

TEST(a_push_ends_the_connection)
{
    struct world *w = world_of_http2(answer_badly);
    answer = answer_never;
    struct peer *c = world_ask(w, POST);
    SAY(w->origins[0].peers[0], PUSH_PROMISE, END_HEADERS, 1, "\0\0\0\2\x82\x86\x84");
    world_run(w, 1000);
    assert_true(peer_has(c, "502 Bad Gateway"));
    world_destroy(w);
}

TEST(an_upgrade_is_answered_in_words)
{
    struct world *w = world_of_http2(answer_hello);
    const struct peer *c =
        world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_true(peer_has(c, "502 Bad Gateway") && peer_has(c, "requests are not upgraded"));
    assert_int_equal(counted(w, PROXY_VERSION_ERRORS), 0);
    world_destroy(w);
}

TEST(a_connection_that_does_not_begin_gets_no_further_request)
{
    struct world *w = world_of_http2(answer_hello);
    w->origins[0].serve = say_nothing;
    const struct peer *c = world_ask(w, POST);
    world_run(w, 16000);
    assert_true(peer_has(c, "502 Bad Gateway"));
    w->origins[0].serve = serve;
    assert_true(peer_has(world_ask(w, GET), "hello"));
    world_destroy(w);
}

TEST(a_silent_connection_gets_no_further_request)
{
    struct world *w = world_of_http2(answer_never);
    const struct peer *c = world_ask(w, POST);
    world_run(w, 16000);
    assert_true(peer_has(c, "504"));
    answer = answer_hello;
    assert_true(peer_has(world_ask(w, GET), "hello"));
    assert_int_equal(w->origins[0].accepted, 2);
    world_destroy(w);
}
