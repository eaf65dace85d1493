// SPDX-License-Identifier: Apache-2.0
// web, bytes in: pipelining, every fragmentation, bodies of every kind and size, refusals.
#include "test.h"
#include "web_world.h"

static struct world world;

static void expect_only(struct client *client, const char *request, const char *status, const char *part)
{
    client_begin(&world, client);
    client_say(client, request);
    run_ms(&world, 100);
    if (!answer_begins(client, status) || strstr(client->answer, part) == NULL)
        fail_msg("%s\ngot\n%.400s", request, client->answer);
}

TEST(kinds_of_answers)
{
    struct client client;
    world_up(&world, &WORLD_CALM, NULL);
    expect_only(&client, "GET /path HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\n", "\r\n\r\n/path");
    assert_non_null(strstr(client.answer, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
    assert_non_null(strstr(client.answer, "X-Test: yes\r\n"));
    assert_null(strstr(client.answer, "Connection"));
    assert_false(client.ended);
    client_end(&world, &client);
    expect_only(&client, "HEAD /path HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200", "Content-Length: 5\r\n");
    assert_string_equal(strstr(client.answer, "\r\n\r\n"), "\r\n\r\n");
    client_end(&world, &client);
    expect_only(&client, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 204 No Content\r\n", "X-Test");
    assert_null(strstr(client.answer, "Content-"));
    assert_null(strstr(client.answer, "must"));
    client_end(&world, &client);
    expect_only(&client, "GET /same HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 304", "ETag: \"1\"");
    assert_null(strstr(client.answer, "must"));
    client_end(&world, &client);
    expect_only(&client, "GET /empty HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200", "Content-Length: 0\r\n");
    assert_null(strstr(client.answer, "Content-Type"));
    client_end(&world, &client);
    world_down(&world);
}

// Trailers behind a body, and in the head where there is none.
TEST(trailers)
{
    struct client client;
    world_up(&world, &WORLD_CALM, NULL);
    expect_only(&client, "GET /trailed HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\n",
                "\r\n\r\n8\r\n/trailed\r\n0\r\ngrpc-status: 7\r\ngrpc-message: no\r\n\r\n");
    assert_non_null(strstr(client.answer, "Transfer-Encoding: chunked\r\n"));
    assert_null(strstr(client.answer, "Content-Length"));
    client_end(&world, &client);
    expect_only(&client, "GET /bare HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\n",
                "grpc-status: 7\r\ngrpc-message: no\r\n");
    assert_string_equal(strstr(client.answer, "\r\n\r\n"), "\r\n\r\n");
    client_end(&world, &client);
    world_down(&world);
}

// What is refused before the handler gets it may still have its words.
TEST(worded_refusals)
{
    static char chunked[20100];
    struct client client;
    int len = snprintf(chunked, sizeof chunked,
                       "POST /worded HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4e20\r\n");
    memset(chunked + len, 'x', 20000);
    world_up(&world, &WORLD_CALM, NULL);
    expect_only(&client, "POST /worded HTTP/1.1\r\nHost: a\r\nContent-Length: 99000000\r\n\r\n",
                "HTTP/1.1 200", "grpc-status: 8\r\n");
    client_end(&world, &client);
    expect_only(&client, chunked, "HTTP/1.1 200", "grpc-status: 8\r\n");
    client_end(&world, &client);
    expect_only(&client, "POST /other HTTP/1.1\r\nHost: a\r\nContent-Length: 99000000\r\n\r\n",
                "HTTP/1.1 413", "the body is too large\n");
    client_end(&world, &client);
    world_down(&world);
}

TEST(persistence)
{
    static const struct {
        const char *request;
        const char *connection;
        bool ends;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "Connection: close\r\n", true},
        {"GET / HTTP/1.0\r\n\r\n", "Connection: close\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "Connection: keep-alive\r\n", false},
    };
    struct client client;
    world_up(&world, &WORLD_CALM, NULL);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        expect_only(&client, cases[i].request, "HTTP/1.1 200", cases[i].connection);
        assert_int_equal(client.ended, cases[i].ends);
        assert_false(client.broken);
        client_end(&world, &client);
    }
    world_down(&world);
}

// Answers come whole and in order, however many requests are in a buffer and wherever buffers end.
TEST(pipelining)
{
    enum { REQUESTS = 3000 };
    struct client client;
    char request[128];
    world_up(&world, &WORLD_CALM, NULL);
    client_begin(&world, &client);
    for (int i = 0; i < REQUESTS; i++) {
        int body = i % 7;
        snprintf(request, sizeof request, "POST %s%04d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%.*s",
                 "/n", i, body, body, "1234567");
        client_say(&client, request);
    }
    run_ms(&world, 2000);
    assert_int_equal(world.handled, REQUESTS);
    assert_int_equal(count_of(&client, "HTTP/1.1 200 OK"), REQUESTS);
    const char *at = client.answer;
    for (int i = 0; i < REQUESTS; i++) {
        snprintf(request, sizeof request, "\r\n\r\n/n%04d", i);
        at = strstr(at, "\r\n\r\n");
        assert_non_null(at);
        assert_int_equal(strncmp(at, request, strlen(request)), 0);
        at += 4;
    }
    client_end(&world, &client);
    world_down(&world);
}

// Small answers share buffers: a burst costs few sends.
TEST(batches_are_packed)
{
    struct client client;
    char burst[8192] = "";
    world_up(&world, &WORLD_CALM, NULL);
    client_begin(&world, &client);
    run_ms(&world, 5);
    for (int i = 0; i < 100; i++)
        strncat(burst, "GET /p HTTP/1.1\r\nHost: a\r\n\r\n", sizeof burst - strlen(burst) - 1);
    client_say(&client, burst);
    uint64_t most = 0;
    for (int i = 0; i < 500; i++) {
        assert_int_equal(io_loop_turn(world.server_loop, 20), STATUS_OK);
        uint64_t used = io_loop_stats(world.server_loop)->bufs_in_use;
        most = used > most ? used : most;
    }
    assert_int_equal(count_of(&client, "HTTP/1.1 200 OK"), 100);
    assert_true(most <= 3);
    client_end(&world, &client);
    world_down(&world);
}

static void split_at_every_byte(const char *request, const char *wanted)
{
    size_t len = strlen(request);
    for (size_t cut = 1; cut < len; cut++) {
        struct client client;
        client_begin(&world, &client);
        client_send(&client, request, cut);
        run_ms(&world, 2);
        client_send(&client, request + cut, len - cut);
        run_ms(&world, 2);
        if (count_of(&client, "HTTP/1.1 200") != 2 || strstr(client.answer, wanted) == NULL)
            fail_msg("cut at %zu: %s", cut, client.answer);
        client_end(&world, &client);
    }
}

TEST(split_anywhere)
{
    world_up(&world, &WORLD_CALM, NULL);
    split_at_every_byte("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world"
                        "GET /next HTTP/1.1\r\nHost: a\r\n\r\n",
                        "\r\n\r\nhello worldHTTP/1.1 200");
    split_at_every_byte("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "6\r\nhello \r\n5;x=1\r\nworld\r\n0\r\nTrailer: 1\r\n\r\n"
                        "GET /next HTTP/1.1\r\nHost: a\r\n\r\n",
                        "\r\n\r\nhello worldHTTP/1.1 200");
    world_down(&world);
}

TEST(byte_by_byte)
{
    static const char request[] = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nbytes";
    struct client client;
    world_up(&world, &WORLD_CALM, NULL);
    client_begin(&world, &client);
    for (size_t i = 0; i < sizeof request - 1; i++) {
        client_send(&client, request + i, 1);
        run_ms(&world, 3);
    }
    assert_int_equal(count_of(&client, "\r\n\r\nbytes"), 1);
    client_end(&world, &client);
    world_down(&world);
}

// ---- large bodies ----

static char large[(1 << 20) + 1024];

static void send_large(struct client *client, size_t len, bool chunked)
{
    char line[128];
    for (size_t i = 0; i < len; i++)
        large[i] = (char)('a' + (i * 7 + i / 251) % 26);
    client_begin(&world, client);
    if (chunked) {
        client_say(client, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (size_t at = 0; at < len; at += 30000) {
            size_t n = len - at < 30000 ? len - at : 30000;
            snprintf(line, sizeof line, "%zx\r\n", n);
            client_say(client, line);
            client_send(client, large + at, n);
            client_say(client, "\r\n");
        }
        client_say(client, "0\r\n\r\n");
    } else {
        snprintf(line, sizeof line, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", len);
        client_say(client, line);
        client_send(client, large, len);
    }
    run_ms(&world, 5000);
}

TEST(large_bodies)
{
    static const size_t sizes[] = {
        1, 1000, 20000, IO_BUF_BYTES - 80, IO_BUF_BYTES - 1, IO_BUF_BYTES, IO_BUF_BYTES + 1, 100000, 1 << 20};
    static const struct web_limits limits = {.body_bytes = 1 << 20};
    struct io_sim_config shaky = WORLD_CALM;
    shaky.fragment_ppm = 500000;
    world_up(&world, &shaky, &limits);
    for (size_t i = 0; i < 2 * ARRAY_LEN(sizes); i++) {
        struct client client;
        size_t len = sizes[i / 2];
        send_large(&client, len, i % 2 == 1);
        const char *body = strstr(client.answer, "\r\n\r\n");
        assert_true(answer_begins(&client, "HTTP/1.1 200"));
        assert_non_null(body);
        assert_int_equal(client.len - (size_t)(body + 4 - client.answer), len);
        assert_memory_equal(body + 4, large, len);
        client_end(&world, &client);
    }
    world_down(&world);
}

TEST(too_large)
{
    static const struct web_limits limits = {.body_bytes = 50000};
    struct client client;
    world_up(&world, &WORLD_CALM, &limits);
    for (int chunked = 0; chunked < 2; chunked++) {
        send_large(&client, 50001, chunked);
        assert_true(answer_begins(&client, "HTTP/1.1 413"));
        assert_true(client.ended && !client.broken);
        client_end(&world, &client);
        send_large(&client, 50000, chunked);
        assert_true(answer_begins(&client, "HTTP/1.1 200"));
        client_end(&world, &client);
    }
    assert_int_equal(world.handled, 2);
    // Elsewhere the handler allows less.
    expect_only(&client, "POST /other HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", "HTTP/1.1 413",
                "Connection: close");
    client_end(&world, &client);
    world_down(&world);
}

// What is announced costs nothing; what is sent is counted, and given back.
TEST(memory_is_bounded)
{
    static const struct web_limits limits = {.body_bytes = 1 << 20, .memory_bytes = 200000};
    static const char head[] = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 150000\r\n\r\n";
    struct client first, second, third;
    world_up(&world, &WORLD_CALM, &limits);
    client_begin(&world, &first);
    client_say(&first, head);
    client_send(&first, large, 140000);
    run_ms(&world, 100);
    client_begin(&world, &second);
    client_say(&second, head);
    client_send(&second, large, 140000);
    run_ms(&world, 100);
    assert_int_equal(first.len, 0);
    assert_true(answer_begins(&second, "HTTP/1.1 503"));
    client_end(&world, &second);
    client_send(&first, large, 10000);
    run_ms(&world, 100);
    assert_true(answer_begins(&first, "HTTP/1.1 200"));
    client_end(&world, &first);
    client_begin(&world, &third);
    client_say(&third, head);
    client_send(&third, large, 150000);
    run_ms(&world, 100);
    assert_true(answer_begins(&third, "HTTP/1.1 200"));
    client_end(&world, &third);
    world_down(&world);
}

TEST(expect_continue)
{
    static const struct web_limits limits = {.body_bytes = 50000};
    static const size_t sizes[] = {5, 40000};
    struct client client;
    char head[128];
    world_up(&world, &WORLD_CALM, &limits);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        snprintf(head, sizeof head,
                 "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %zu\r\n\r\n",
                 sizes[i]);
        client_begin(&world, &client);
        client_say(&client, head);
        run_ms(&world, 10);
        assert_string_equal(client.answer, "HTTP/1.1 100 Continue\r\n\r\n");
        client_send(&client, large, 2);
        run_ms(&world, 10);
        client_send(&client, large + 2, sizes[i] - 2);
        run_ms(&world, 100);
        assert_int_equal(count_of(&client, "100 Continue"), 1);
        assert_int_equal(count_of(&client, "HTTP/1.1 200 OK"), 1);
        client_end(&world, &client);
    }
    // A body that would be refused is not asked for.
    expect_only(&client,
                "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 50001\r\n\r\n",
                "HTTP/1.1 413", "close");
    assert_int_equal(count_of(&client, "100 Continue"), 0);
    client_end(&world, &client);
    world_down(&world);
}

TEST(refusals)
{
    static const struct {
        const char *request;
        const char *status;
    } cases[] = {
        {"garbage\r\n\r\n", "HTTP/1.1 400"},
        {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},
        {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "HTTP/1.1 505"},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
         "HTTP/1.1 400"},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "HTTP/1.1 400"},
        {"GET / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n", "HTTP/1.1 417"},
    };
    struct client client;
    struct web_stats stats;
    world_up(&world, &WORLD_CALM, NULL);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        expect_only(&client, cases[i].request, cases[i].status, "Connection: close\r\n");
        assert_true(client.ended && !client.broken);
        client_end(&world, &client);
    }
    // A head without end; what is sent further is read, so that the answer is not lost to a reset.
    client_begin(&world, &client);
    client_say(&client, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 3000; i++)
        client_say(&client, "X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
    run_ms(&world, 200);
    assert_true(answer_begins(&client, "HTTP/1.1 431"));
    assert_true(client.ended && !client.broken);
    client_end(&world, &client);
    web_stats_get(world.web, &stats);
    assert_int_equal(stats.refused, ARRAY_LEN(cases) + 1);
    assert_int_equal(stats.requests, 0);
    assert_int_equal(world.handled, 0);
    world_down(&world);
}

// Half-closing after a request is how simple tools ask; the answer still comes.
TEST(half_close)
{
    struct client client;
    world_up(&world, &WORLD_CALM, NULL);
    client_begin(&world, &client);
    client_say(&client, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    io_stream_finish(&client.stream);
    run_ms(&world, 1000);
    assert_true(answer_begins(&client, "HTTP/1.1 200"));
    assert_true(client.len > WORLD_BIG_BYTES);
    assert_true(client.ended && !client.broken);
    client_end(&world, &client);
    world_down(&world);
}

// ---- addresses ----

TEST(decoding)
{
    char out[8];
    size_t len = 99;
    assert_int_equal(web_path_decode(SLICE("a%2Fb+c"), out, sizeof out, &len), STATUS_OK);
    assert_int_equal(len, 5);
    assert_memory_equal(out, "a/b+c", 5);
    assert_int_equal(web_path_decode(SLICE("%e2%82%AC"), out, 3, &len), STATUS_OK);
    assert_memory_equal(out, "\xe2\x82\xac", 3);
    assert_int_equal(web_path_decode(SLICE("%00"), out, 1, &len), STATUS_OK);
    assert_int_equal(len, 1);
    assert_int_equal(web_path_decode(SLICE("abc"), out, 2, &len), STATUS_FULL);
    assert_int_equal(web_path_decode(SLICE("%"), out, 8, &len), STATUS_INVALID);
    assert_int_equal(web_path_decode(SLICE("%4"), out, 8, &len), STATUS_INVALID);
    assert_int_equal(web_path_decode(SLICE("%4g"), out, 8, &len), STATUS_INVALID);
    assert_int_equal(web_path_decode(SLICE(""), out, 0, &len), STATUS_OK);
    assert_int_equal(len, 0);
    struct slice query = SLICE("x=1&name=a+b%21&flag&name=2");
    assert_int_equal(web_query_find(query, SLICE("name"), out, sizeof out, &len), STATUS_OK);
    assert_int_equal(len, 4);
    assert_memory_equal(out, "a b!", 4);
    assert_int_equal(web_query_find(query, SLICE("flag"), out, sizeof out, &len), STATUS_OK);
    assert_int_equal(len, 0);
    assert_int_equal(web_query_find(query, SLICE("nam"), out, sizeof out, &len), STATUS_NOT_FOUND);
    assert_int_equal(web_query_find(SLICE(""), SLICE("x"), out, sizeof out, &len), STATUS_NOT_FOUND);
    assert_int_equal(web_query_find(query, SLICE("name"), out, 3, &len), STATUS_FULL);
}
