// SPDX-License-Identifier: Apache-2.0
// Answers that are compressed on their way: what arrives, when it arrives, and what happens when there is
// more than is done at a time, or an end that is none.
#include <zlib.h>

#include "base/rng.h"
#include "net/proxy/proxy_private.h"
#include "proxy_world.h"

#define ASK "GET / HTTP/1.1\r\nHost: shop\r\nAccept-Encoding: gzip\r\n\r\n"
enum { BODY_MAX = 400000 };

static char body[BODY_MAX], decoded[BODY_MAX + 1];
static size_t body_bytes; // that origins send
static size_t told_bytes; // that they say they will
static const char *other; // lines of their heads
static const char *type = "text/html";

static struct world *world_compressing(const struct compress_settings *more)
{
    static const struct slice types[] = {{"text/*", 6}};
    static struct proxy_action_plan action;
    struct world *w = world_create();
    action = (struct proxy_action_plan){.compression = *more};
    action.compression.types = types;
    action.compression.type_count = ARRAY_LEN(types);
    w->routes[0].action = &action;
    world_publish(w);
    return w;
}

static const struct compress_settings by_gzip = {
    .codecs = {HTTP_CODEC_GZIP}, .codec_count = 1, .bytes_min = 100};

// Not much shorter when compressed.
static void make_body(size_t bytes)
{
    struct rng rng;
    rng_init(&rng, 5);
    for (size_t i = 0; i < bytes; i++)
        body[i] = (char)('a' + rng_next(&rng) % 16);
    body_bytes = told_bytes = bytes;
    other = "";
    type = "text/html";
}

static void serve(struct peer *peer)
{
    char head[512];
    char *end;
    while ((end = strstr(peer->got + peer->used, "\r\n\r\n")) != NULL) {
        peer->used = (size_t)(end + 4 - peer->got);
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n",
                 type, told_bytes, other);
        peer_send(peer, head);
        peer_send_bytes(peer, body, body_bytes);
    }
}

static struct world *world_serving(size_t bytes)
{
    make_body(bytes);
    struct world *w = world_compressing(&by_gzip);
    w->origins[0].serve = serve;
    return w;
}

// ---- what a client makes of it ----

// Takes the chunks apart where they lie, as far as they are whole. Returns the length of what they hold.
static size_t dechunk(char *at, size_t len, bool *whole)
{
    size_t made = 0, used = 0;
    *whole = false;
    while (used < len) {
        char *line_end = memmem(at + used, len - used, "\r\n", 2);
        if (line_end == NULL)
            break;
        size_t chunk = strtoul(at + used, NULL, 16);
        size_t start = (size_t)(line_end + 2 - at);
        *whole = chunk == 0;
        if (chunk == 0 || len - start < chunk + 2)
            break;
        memmove(at + made, at + start, chunk);
        made += chunk;
        used = start + chunk + 2;
    }
    return made;
}

// The body that a client has decoded by now, into `decoded`. *whole: gzip's end was there.
static size_t gunzip(char *coded, size_t len, bool *whole)
{
    z_stream z = {.next_in = (Bytef *)coded, .avail_in = (uInt)len, .next_out = (Bytef *)decoded};
    z.avail_out = sizeof decoded;
    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    int result = len > 0 ? inflate(&z, Z_SYNC_FLUSH) : Z_OK;
    assert_true(result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR);
    *whole = result == Z_STREAM_END;
    (void)inflateEnd(&z);
    return sizeof decoded - z.avail_out;
}

static size_t read_body(const struct peer *c, bool *whole)
{
    static char copy[PEER_BYTES];
    const char *start = strstr(c->got, "\r\n\r\n");
    *whole = false;
    if (start == NULL)
        return 0;
    size_t len = c->len - (size_t)(start + 4 - c->got);
    memcpy(copy, start + 4, len);
    bool chunks_end = true;
    if (peer_has(c, "Transfer-Encoding: chunked\r\n"))
        len = dechunk(copy, len, &chunks_end);
    size_t bytes = gunzip(copy, len, whole);
    assert_true(!*whole || chunks_end);
    return bytes;
}

static void expect_body(const struct peer *c)
{
    bool whole;
    assert_true(peer_has(c, "Content-Encoding: gzip\r\n"));
    assert_true(peer_has(c, "Vary: Accept-Encoding\r\n"));
    assert_false(peer_has(c, "Content-Length:"));
    assert_int_equal(read_body(c, &whole), body_bytes);
    assert_true(whole);
    assert_memory_equal(decoded, body, body_bytes);
}

static uint64_t plain(const struct world *w, enum compress_plain reason)
{
    return worker_counter(w, (enum proxy_worker_counter)(PROXY_WORKER_PLAIN + reason - 1));
}

// ---- tests ----

TEST(an_answer_is_compressed)
{
    struct world *w = world_serving(50000);
    struct peer *c = world_ask(w, ASK);
    expect_body(c);
    assert_int_equal(worker_counter(w, PROXY_WORKER_COMPRESSED), 1);
    assert_int_equal(worker_counter(w, PROXY_WORKER_COMPRESSED_IN), 50000);
    uint64_t out = worker_counter(w, PROXY_WORKER_COMPRESSED_OUT);
    assert_true(out > 20000 && out < 35000);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_BYTES_OUT), 50000);
    // The connection goes on, and so does the origin's.
    peer_clear(c);
    peer_send(c, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    world_run(w, 1000);
    assert_true(peer_has(c, "Content-Length: 50000\r\n"));
    assert_true(peer_has(c, "Vary: Accept-Encoding\r\n"));
    assert_int_equal(plain(w, COMPRESS_PLAIN_NOT_ACCEPTED), 1);
    assert_int_equal(w->origins[0].accepted, 1);
    world_destroy(w);
}

TEST(what_the_service_gets_is_as_without)
{
    struct world *w = world_serving(500);
    struct peer *c =
        world_ask(w, "GET //a/../%41?x HTTP/1.1\r\nHost: shop\r\nAccept-Encoding: gzip;q=1, x\r\n\r\n");
    assert_true(peer_has(c, "Content-Encoding: gzip"));
    assert_true(peer_has(w->origins[0].peers[0], "GET //a/../%41?x HTTP/1.1\r\n"));
    assert_true(peer_has(w->origins[0].peers[0], "Accept-Encoding: gzip;q=1, x\r\n"));
    world_destroy(w);
}

TEST(older_clients_get_it_until_the_connection_ends)
{
    struct world *w = world_serving(50000);
    struct peer *c = world_ask(w, "GET / HTTP/1.0\r\nHost: shop\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_false(peer_has(c, "Transfer-Encoding"));
    assert_true(peer_has(c, "Connection: close\r\n"));
    expect_body(c);
    assert_true(c->ended && !c->reset);
    world_destroy(w);
}

TEST(head_is_answered_as_get_is)
{
    struct world *w = world_serving(0);
    told_bytes = 50000;
    other = "ETag: \"v1\"\r\n";
    struct peer *c = world_ask(w, "HEAD / HTTP/1.1\r\nHost: shop\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_true(peer_has(c, "Content-Encoding: gzip\r\n"));
    assert_true(peer_has(c, "ETag: W/\"v1\"\r\n"));
    assert_true(peer_has(c, "Vary: Accept-Encoding\r\n"));
    assert_false(peer_has(c, "Content-Length"));
    assert_true(strcmp(c->got + c->len - 4, "\r\n\r\n") == 0);
    assert_int_equal(worker_counter(w, PROXY_WORKER_COMPRESSED_OUT), 0);
    world_destroy(w);
}

// ---- time ----

// Says as much as one write of a slow origin.
static void trickle(struct world *w, size_t from, size_t bytes)
{
    char chunk[64];
    snprintf(chunk, sizeof chunk, "%zx\r\n", bytes);
    peer_send(w->origins[0].peers[0], chunk);
    peer_send_bytes(w->origins[0].peers[0], body + from, bytes);
    peer_send(w->origins[0].peers[0], "\r\n");
}

static struct world *world_trickling(struct peer **c)
{
    make_body(1000);
    struct world *w = world_compressing(&by_gzip);
    w->origins[0].reply = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n";
    *c = world_ask(w, ASK);
    return w;
}

TEST(slow_bytes_are_not_held_back)
{
    struct peer *c;
    bool whole;
    struct world *w = world_trickling(&c);
    assert_true(peer_has(c, "Content-Encoding: gzip\r\n")); // the head waits for nothing
    for (size_t i = 0; i < 3; i++) {
        trickle(w, i * 100, 100);
        world_run(w, COMPRESSED_HOLD_US / 1000 - 2);
        assert_int_equal(read_body(c, &whole), i * 100);
        world_run(w, 5); // a timer may be late by one, and bytes are on their way
        assert_int_equal(read_body(c, &whole), i * 100 + 100);
        assert_memory_equal(decoded, body, i * 100 + 100);
        assert_false(whole);
        world_run(w, 700);
    }
    peer_send(w->origins[0].peers[0], "0\r\nContent-Digest: sha-256=:eA==:\r\nServer-Timing: db\r\n\r\n");
    world_run(w, 100);
    assert_int_equal(read_body(c, &whole), 300);
    assert_true(whole);
    static const char end[] = "\r\n0\r\nServer-Timing: db\r\n\r\n";
    assert_memory_equal(c->got + c->len - strlen(end), end, strlen(end));
    world_destroy(w);
}

TEST(events_pass_at_once)
{
    struct world *w = world_serving(500);
    type = "text/event-stream";
    told_bytes = 5000;
    struct peer *c = world_connect(w);
    peer_send(c, ASK);
    world_run(w, 4);
    assert_non_null(memmem(c->got, c->len, body, 500));
    assert_int_equal(plain(w, COMPRESS_PLAIN_TYPE), 1);
    world_destroy(w);
}

// ---- ends that are none ----

TEST(a_body_that_breaks_off_never_looks_whole)
{
    for (int reset = 0; reset < 2; reset++) {
        struct world *w = world_serving(30000);
        bool whole;
        told_bytes = 30001;
        struct peer *c = world_ask(w, ASK);
        if (reset == 1)
            io_stream_abort(&w->origins[0].peers[0]->stream);
        else
            io_stream_close(&w->origins[0].peers[0]->stream);
        w->origins[0].peers[0]->closed = true;
        world_run(w, 1000);
        assert_true(c->reset);
        assert_int_equal(read_body(c, &whole), 30000);
        assert_false(whole);
        assert_int_equal(worker_counter(w, PROXY_WORKER_CUT), 1);
        world_destroy(w);
    }
}

TEST(a_malformed_body_never_looks_whole)
{
    struct peer *c;
    bool whole;
    struct world *w = world_trickling(&c);
    trickle(w, 0, 100);
    peer_send(w->origins[0].peers[0], "no chunk\r\n");
    world_run(w, 100);
    assert_true(c->reset);
    (void)read_body(c, &whole);
    assert_false(whole);
    world_destroy(w);
}

TEST(clients_that_leave)
{
    struct world *w = world_serving(BODY_MAX);
    struct peer *peers[8];
    for (size_t i = 0; i < ARRAY_LEN(peers); i++) {
        peers[i] = world_connect(w);
        peer_send(peers[i], ASK);
    }
    world_run(w, 2);
    for (size_t i = 0; i < ARRAY_LEN(peers); i++)
        peer_close(peers[i]);
    world_run(w, 1000);
    world_destroy(w); // with no buffer in use
}

// ---- beside other words of the file ----

TEST(definitions_of_errors_look_at_the_origins_answer)
{
    struct world *w = world_serving(20000);
    static char text[17];
    static const struct proxy_error_header_plan header = {.name = "Content-Digest"};
    memcpy(text, body + 5000, sizeof text - 1);
    const struct proxy_errors_plan by_text = {.text = text, .within = 65536};
    const struct proxy_errors_plan by_header = {.headers = &header, .header_count = 1};
    w->service.errors = &by_text;
    world_publish(w);
    expect_body(world_ask(w, ASK));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_BODY), 1);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_UNSEARCHED), 0);
    w->service.errors = &by_header;
    world_publish(w);
    other = "Content-Digest: x=:AA==:\r\n"; // the client does not get it
    const struct peer *c = world_ask(w, ASK);
    expect_body(c);
    assert_false(peer_has(c, "Content-Digest"));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_HEADER), 1);
    world_destroy(w);
}

TEST(what_falls_back_is_compressed_once)
{
    struct world *w = world_serving(20000);
    const struct proxy_protection rules = {.panic = 50000, .fallback = true};
    w->service.protection = &rules;
    w->service.weight = ROLLOUT_WEIGHT_FULL;
    w->service.epoch = 1;
    origin_unlisten(&w->origins[1]);
    world_publish(w);
    expect_body(world_ask(w, ASK));
    assert_int_equal(version_counter(w, 1, PROXY_VERSION_FALLBACKS), 1);
    assert_int_equal(worker_counter(w, PROXY_WORKER_COMPRESSED + HTTP_CODEC_GZIP - 1), 1);
    assert_int_equal(worker_counter(w, PROXY_WORKER_COMPRESSED_IN + HTTP_CODEC_GZIP - 1), body_bytes);
    world_destroy(w);
}

TEST(answers_of_our_own_stay_plain)
{
    struct compress_settings all = by_gzip;
    all.bytes_min = 0;
    make_body(300);
    struct world *w = world_compressing(&all);
    origin_unlisten(&w->origins[0]);
    const struct peer *c = world_ask(w, ASK);
    assert_true(peer_has(c, "HTTP/1.1 502") && peer_has(c, "cannot connect to the origin"));
    assert_false(peer_has(c, "Content-Encoding") || peer_has(c, "Vary"));
    world_destroy(w);
}

TEST(fields_that_a_route_sets_are_the_answers)
{
    static const struct proxy_edit_plan edits[] = {{PROXY_EDIT_SET, "ETag", "\"ours\""},
                                                   {PROXY_EDIT_SET, "Vary", "Origin"},
                                                   {PROXY_EDIT_SET, "Content-Encoding", "x-ours"}};
    struct world *w = world_serving(20000);
    struct proxy_action_plan action = *w->routes[0].action;
    other = "ETag: \"theirs\"\r\n";
    action.response = edits;
    action.response_count = 2;
    w->routes[0].action = &action;
    world_publish(w);
    const struct peer *c = world_ask(w, ASK);
    expect_body(c);
    assert_true(peer_has(c, "ETag: W/\"ours\"\r\n") && peer_has(c, "Vary: Origin\r\n"));
    assert_int_equal(peer_count_of(c, "ETag"), 1);
    action.response_count = 3; // now it is encoded, the route says
    world_publish(w);
    c = world_ask(w, ASK);
    assert_true(peer_has(c, "Content-Encoding: x-ours\r\n") && peer_has(c, "Content-Length: 20000\r\n"));
    assert_true(peer_has(c, "ETag: \"ours\"\r\n") && !peer_has(c, "gzip"));
    assert_int_equal(plain(w, COMPRESS_PLAIN_ENCODED), 1);
    world_destroy(w);
}

// ---- more than is done at a time ----

static void expect_identity(const struct peer *c)
{
    assert_true(peer_has(c, "Content-Length: 300\r\n"));
    assert_non_null(memmem(c->got, c->len, body, body_bytes));
}

TEST(so_many_at_a_time)
{
    struct world *w = world_serving(200);
    struct peer *peers[COMPRESSED_STREAMS_MAX];
    told_bytes = 300; // they go on
    for (size_t i = 0; i < ARRAY_LEN(peers); i++) {
        peers[i] = world_connect(w);
        peer_send(peers[i], ASK);
    }
    world_run(w, 1000);
    assert_int_equal(worker_counter(w, PROXY_WORKER_COMPRESSED), COMPRESSED_STREAMS_MAX);
    struct peer *c = world_ask(w, ASK);
    expect_identity(c);
    assert_true(peer_has(c, "Vary: Accept-Encoding\r\n"));
    assert_int_equal(plain(w, COMPRESS_PLAIN_BUSY), 1);
    io_stream_abort(&peers[7]->stream);
    peers[7]->closed = true;
    world_run(w, 100);
    c = world_ask(w, ASK);
    assert_true(peer_has(c, "Content-Encoding: gzip\r\n"));
    world_destroy(w);
}

static struct compressing *compressing_of(const struct world *w)
{
    return &w->proxy->workers[0]->compressing;
}

// Lets that many steps of 10 us pass, in most of which others have used the worker's turn up.
static bool run_short_of_turns(struct world *w, int steps)
{
    const struct io_stats *stats = io_loop_stats(w->proxy_loop);
    struct compressing *compressing = compressing_of(w);
    bool waited = false;
    for (int i = 0; i < steps; i++) {
        uint64_t turns = stats->turns, in = worker_counter(w, PROXY_WORKER_COMPRESSED_IN);
        bool used_up = i % 8 != 0;
        compressing->turn = turns + 1;
        compressing->spent = used_up ? COMPRESSED_TURN_BYTES : 0;
        io_sim_run(w->sim, io_sim_now_us(w->sim) + 10);
        if (used_up && stats->turns == turns + 1)
            assert_int_equal(worker_counter(w, PROXY_WORKER_COMPRESSED_IN), in);
        waited |= !list_empty(&compressing->waiting);
    }
    return waited;
}

// No turn of the loop compresses more than its share, all get theirs, and nothing is lost by it.
TEST(so_much_in_one_turn)
{
    struct world *w = world_serving(BODY_MAX);
    struct peer *peers[8];
    for (size_t i = 0; i < ARRAY_LEN(peers); i++) {
        peers[i] = world_connect(w);
        peer_send(peers[i], ASK);
    }
    assert_true(run_short_of_turns(w, 40000));
    world_run(w, 1000);
    for (size_t i = 0; i < ARRAY_LEN(peers); i++)
        expect_body(peers[i]);
    world_destroy(w);
}

static void serve_and_leave(struct peer *peer)
{
    peer_send(peer, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n");
    peer_send_bytes(peer, body, body_bytes);
    io_stream_finish(&peer->stream);
}

// The origin's end does not overtake what waits for a turn.
TEST(the_end_waits_too)
{
    struct world *w = world_serving(BODY_MAX);
    w->origins[0].serve = serve_and_leave;
    struct rng rng;
    rng_init(&rng, 9);
    for (size_t i = 0; i < BODY_MAX; i++)
        body[i] = (char)rng_next(&rng); // so that clients have as much to take
    struct peer *c = world_connect(w);
    c->slow = true;
    peer_send(c, ASK);
    for (int i = 0; i < 400; i++) {
        (void)run_short_of_turns(w, 40 + i % 17);
        io_stream_resume(&c->stream);
    }
    world_run(w, 1000);
    expect_body(c);
    world_destroy(w);
}

// A slow client holds its origin back, and what waits is bounded.
TEST(slow_clients)
{
    struct world *w = world_serving(BODY_MAX);
    struct peer *c = world_connect(w);
    c->slow = true;
    peer_send(c, ASK);
    for (int i = 0; i < 200; i++) {
        world_run(w, 50);
        assert_true(io_loop_stats(w->proxy_loop)->bufs_in_use < 16);
        io_stream_resume(&c->stream);
    }
    expect_body(c);
    world_destroy(w);
}
