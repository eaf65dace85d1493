// SPDX-License-Identifier: Apache-2.0
// web, ends and limits: slow senders, readers that do not read, crowds, streams and how they end.
#include "test.h"
#include "web_world.h"

static struct world world;

static struct web_stats stats_now(void)
{
    struct web_stats stats;
    web_stats_get(world.web, &stats);
    return stats;
}

// ---- time ----

TEST(slow_request)
{
    static const struct web_limits limits = {.request_ms = 1000, .idle_ms = 5000};
    struct client client;
    world_up(&world, &WORLD_CALM, &limits);
    client_begin(&world, &client);
    for (int i = 0; i < 9; i++) {
        client_send(&client, &"GET / HTTP/1.1\r\n"[i], 1);
        run_ms(&world, 100);
        assert_int_equal(client.len, 0);
    }
    run_ms(&world, 200);
    assert_true(answer_begins(&client, "HTTP/1.1 408 Request Timeout\r\n"));
    assert_true(client.ended && !client.broken);
    client_end(&world, &client);
    // A body that stops, in place and on the heap.
    for (int large = 0; large < 2; large++) {
        client_begin(&world, &client);
        client_say(&client, large
                                ? "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na"
                                : "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
        run_ms(&world, 900);
        assert_int_equal(client.len, 0);
        run_ms(&world, 200);
        assert_true(answer_begins(&client, "HTTP/1.1 408"));
        client_end(&world, &client);
    }
    assert_int_equal(world.handled, 0);
    world_down(&world);
}

// Silence between requests ends the connection without a word, after idle_ms and not before; each request
// begins it anew.
TEST(idle)
{
    static const struct web_limits limits = {.request_ms = 1000, .idle_ms = 5000};
    struct client client;
    world_up(&world, &WORLD_CALM, &limits);
    client_begin(&world, &client);
    for (int i = 1; i < 4; i++) {
        run_ms(&world, 4900);
        assert_false(client.ended);
        client_say(&client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        run_ms(&world, 20);
        assert_int_equal(count_of(&client, "HTTP/1.1 200"), i);
    }
    assert_int_equal(io_loop_stats(world.server_loop)->bufs_in_use, 0);
    run_ms(&world, 4900);
    assert_false(client.ended);
    run_ms(&world, 200);
    assert_true(client.ended && !client.broken);
    assert_int_equal(stats_now().refused, 0);
    client_end(&world, &client);
    world_down(&world);
}

// ---- readers that do not read ----

static void deaf_begin(struct client *client)
{
    client_begin(&world, client);
    client->deaf = true;
    run_ms(&world, 10);
}

// However much is asked, little is held; what is taken later is all there.
TEST(untaken_answers_stop_requests)
{
    enum { REQUESTS = 30000 };
    static const char request[] = "GET /small HTTP/1.1\r\nHost: a\r\n\r\n";
    struct client client;
    world_up(&world, &WORLD_CALM, NULL);
    deaf_begin(&client);
    char *burst = heap_alloc(REQUESTS, sizeof request);
    assert_non_null(burst);
    for (int i = 0; i < REQUESTS; i++)
        memcpy(burst + (size_t)i * (sizeof request - 1), request, sizeof request - 1);
    client_send(&client, burst, REQUESTS * (sizeof request - 1));
    heap_free(burst);
    run_ms(&world, 3000);
    assert_int_equal(client.len, 0);
    assert_true(world.handled < REQUESTS / 2);
    // What is held: the untaken answers, two buffers being filled, two of requests.
    uint64_t held = io_loop_stats(world.server_loop)->bufs_in_use;
    if (held > 65536 / IO_BUF_BYTES + 5)
        fail_msg("%llu buffers", (unsigned long long)held);
    io_stream_resume(&client.stream);
    run_ms(&world, 20000);
    assert_int_equal(world.handled, REQUESTS);
    assert_int_equal(count_of(&client, "HTTP/1.1 200 OK"), REQUESTS);
    client_end(&world, &client);
    world_down(&world);
}

TEST(deaf_reader_is_let_go)
{
    static const struct web_limits limits = {.idle_ms = 5000};
    struct client client;
    world_up(&world, &WORLD_CALM, &limits);
    deaf_begin(&client);
    for (int i = 0; i < 10; i++)
        client_say(&client, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    run_ms(&world, 4000);
    assert_int_equal(stats_now().connections, 1);
    run_ms(&world, 8000);
    assert_int_equal(stats_now().connections, 0);
    assert_int_equal(io_loop_stats(world.server_loop)->bufs_in_use, 0);
    client_end(&world, &client);
    world_down(&world);
}

// Reading slowly is not deafness: an answer may take much longer than idle_ms.
TEST(slow_reader_gets_its_answer)
{
    static const struct web_limits limits = {.idle_ms = 2000};
    struct client client;
    world_up(&world, &WORLD_CALM, &limits);
    deaf_begin(&client);
    client_say(&client, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    client_say(&client, "GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    for (int i = 0; i < 200 && !client.ended; i++) {
        run_ms(&world, 1500);
        io_stream_resume(&client.stream);
        run_ms(&world, 1);
        io_stream_pause(&client.stream);
    }
    assert_int_equal(count_of(&client, "HTTP/1.1 200 OK"), 2);
    assert_true(client.len > 2 * WORLD_BIG_BYTES);
    assert_true(client.ended && !client.broken);
    client_end(&world, &client);
    world_down(&world);
}

// After a refusal what the peer still sends is read for a while: a reset could overtake the answer.
TEST(linger)
{
    struct client client;
    world_up(&world, &WORLD_CALM, NULL);
    deaf_begin(&client);
    client_say(&client, "garbage\r\n\r\n");
    run_ms(&world, 1500);
    assert_int_equal(stats_now().connections, 1);
    run_ms(&world, 1500);
    assert_int_equal(stats_now().connections, 0);
    io_stream_resume(&client.stream);
    run_ms(&world, 10);
    assert_true(answer_begins(&client, "HTTP/1.1 400"));
    client_end(&world, &client);
    world_down(&world);
}

// ---- crowds ----

TEST(crowd)
{
    enum { LIMIT = 10, CROWD = 100 };
    static const struct web_limits limits = {.connections = LIMIT};
    static struct client clients[CROWD];
    uint32_t served = 0, turned_away = 0, silent = 0;
    world_up(&world, &WORLD_CALM, &limits);
    for (int i = 0; i < CROWD; i++) {
        client_begin(&world, &clients[i]);
        client_say(&clients[i], "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n");
        run_ms(&world, 1);
    }
    run_ms(&world, 100);
    for (int i = 0; i < LIMIT; i++)
        client_say(&clients[i], "x");
    run_ms(&world, 100);
    for (int i = 0; i < CROWD; i++) {
        served += answer_begins(&clients[i], "HTTP/1.1 200");
        turned_away += answer_begins(&clients[i], "HTTP/1.1 503");
        silent += clients[i].len == 0 && clients[i].ended;
    }
    assert_int_equal(served, LIMIT);
    assert_int_equal(served + turned_away + silent, CROWD);
    assert_true(turned_away >= 60);
    assert_int_equal(stats_now().refused, CROWD - LIMIT);
    for (int i = 0; i < CROWD; i++)
        client_end(&world, &clients[i]);
    // Room again.
    run_ms(&world, 3000);
    assert_int_equal(stats_now().connections, 0);
    client_begin(&world, &clients[0]);
    client_say(&clients[0], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    run_ms(&world, 10);
    assert_true(answer_begins(&clients[0], "HTTP/1.1 200"));
    client_end(&world, &clients[0]);
    world_down(&world);
}

// Who only holds a connection, or drips a head, gives way to who asks something.
TEST(a_waiting_crowd_gives_way)
{
    enum { LIMIT = 10 };
    static const struct web_limits limits = {.connections = LIMIT};
    static struct client clients[3 * LIMIT], asking;
    world_up(&world, &WORLD_CALM, &limits);
    for (int i = 0; i < 3 * LIMIT; i++) {
        client_begin(&world, &clients[i]);
        if (i % 2 == 0)
            client_say(&clients[i], "GET / HTTP/1.1\r\n");
        run_ms(&world, 1100);
    }
    client_begin(&world, &asking);
    client_say(&asking, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    run_ms(&world, 10);
    assert_true(answer_begins(&asking, "HTTP/1.1 200"));
    assert_int_equal(stats_now().connections, LIMIT);
    assert_false(clients[3 * LIMIT - 1].ended);
    assert_true(clients[0].ended);
    for (int i = 0; i < 3 * LIMIT; i++)
        client_end(&world, &clients[i]);
    client_end(&world, &asking);
    world_down(&world);
}

// ---- streams ----

static void stream_begin(struct client *client)
{
    client_begin(&world, client);
    client_say(client, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    run_ms(&world, 10);
}

TEST(stream)
{
    struct client client;
    static const struct web_limits limits = {.idle_ms = 1000, .request_ms = 500};
    world_up(&world, &WORLD_CALM, &limits);
    stream_begin(&client);
    assert_true(answer_begins(&client, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(client.answer, "Connection: close\r\n"));
    assert_null(strstr(client.answer, "Content-Length"));
    assert_non_null(strstr(client.answer, "\r\n\r\nbegin\n"));
    assert_int_equal(stats_now().streams, 1);
    run_ms(&world, 60000);
    assert_false(client.ended);
    for (int i = 0; i < 3; i++)
        assert_true(web_stream_send(world.streams[0], SLICE("event\n")));
    run_ms(&world, 10);
    assert_non_null(strstr(client.answer, "event\nevent\nevent\n"));
    assert_int_equal(io_loop_stats(world.server_loop)->bufs_in_use, 0);
    assert_true(web_stream_send(world.streams[0], SLICE("last\n")));
    web_stream_end(world.streams[0]);
    assert_false(web_stream_send(world.streams[0], SLICE("late\n")));
    run_ms(&world, 10);
    assert_non_null(strstr(client.answer, "last\n"));
    assert_null(strstr(client.answer, "late\n"));
    assert_true(client.ended && !client.broken);
    assert_int_equal(world.closed, 1);
    assert_int_equal(stats_now().streams, 0);
    client_end(&world, &client);
    world_down(&world);
}

// The body came with the head: the stream is there before the request's end is told.
TEST(stream_by_post)
{
    struct client client;
    world_up(&world, &WORLD_CALM, NULL);
    client_begin(&world, &client);
    client_say(&client, "POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
    run_ms(&world, 10);
    assert_int_equal(world.opened, 1);
    assert_true(web_stream_send(world.streams[0], SLICE("event\n")));
    run_ms(&world, 10);
    assert_non_null(strstr(client.answer, "\r\n\r\nbegin\nevent\n"));
    client_end(&world, &client);
    world_down(&world);
}

// The time of the request that opened it is over when the stream begins.
TEST(stream_by_post_in_two_packets_outlives_the_request_time)
{
    struct client client;
    world_up(&world, &WORLD_CALM, NULL);
    client_begin(&world, &client);
    client_say(&client, "POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
    run_ms(&world, 200);
    client_say(&client, "{}");
    run_ms(&world, 30000);
    assert_int_equal(world.opened, 1);
    assert_int_equal(world.closed, 0);
    assert_null(strstr(client.answer, " 408 "));
    assert_true(web_stream_send(world.streams[0], SLICE("event\n")));
    run_ms(&world, 10);
    assert_non_null(strstr(client.answer, "\r\n\r\nbegin\nevent\n"));
    client_end(&world, &client);
    world_down(&world);
}

TEST(stream_client_leaves)
{
    struct client client;
    world_up(&world, &WORLD_CALM, NULL);
    stream_begin(&client);
    client_end(&world, &client);
    run_ms(&world, 10);
    assert_int_equal(world.closed, 1);
    assert_int_equal(stats_now().streams, 0);
    assert_int_equal(stats_now().connections, 0);
    world_down(&world);
}

TEST(stream_beyond_limit_and_head)
{
    static const struct web_limits limits = {.streams = 1};
    struct client first, second, third;
    world_up(&world, &WORLD_CALM, &limits);
    stream_begin(&first);
    stream_begin(&second);
    assert_true(answer_begins(&second, "HTTP/1.1 503"));
    assert_true(second.ended);
    assert_int_equal(world.opened, 1);
    assert_int_equal(world.closed_unborn, 1);
    client_end(&world, &first);
    client_begin(&world, &third);
    client_say(&third, "HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    run_ms(&world, 10);
    assert_true(answer_begins(&third, "HTTP/1.1 200"));
    assert_null(strstr(third.answer, "begin"));
    assert_true(third.ended);
    assert_int_equal(world.opened, 1);
    assert_int_equal(world.closed_unborn, 2);
    client_end(&world, &second);
    client_end(&world, &third);
    world_down(&world);
}

// A subscriber that lags is let go at its limit; until then small events do not cost a buffer each.
TEST(stream_that_lags)
{
    static const struct web_limits limits = {.pending_bytes = 100000};
    struct client client;
    bool going = true;
    uint32_t sent = 0;
    uint64_t most = 0;
    world_up(&world, &WORLD_CALM, &limits);
    deaf_begin(&client);
    client_say(&client, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    run_ms(&world, 10);
    assert_int_equal(world.opened, 1);
    for (; going && sent < 1000000; sent++) {
        going = web_stream_send(world.streams[0], SLICE("0123456789"));
        if (sent % 100 == 0)
            run_ms(&world, 1);
        uint64_t used = io_loop_stats(world.server_loop)->bufs_in_use;
        most = used > most ? used : most;
    }
    assert_false(going);
    assert_true(sent > 10000);
    assert_true(most <= 100000 / IO_BUF_BYTES + 3);
    assert_int_equal(world.closed, 0); // from the loop, not from within
    run_ms(&world, 10);
    assert_int_equal(world.closed, 1);
    assert_int_equal(stats_now().connections, 0);
    client_end(&world, &client);
    world_down(&world);
}

// Many that lag a little less than that: together they have a limit too, and who keeps up feels nothing of
// it.
TEST(streams_that_lag)
{
    enum { DEAF = 6, EVENT = 100000, MEMORY = 300000 };
    static const struct web_limits limits = {.pending_bytes = 1 << 20, .memory_bytes = MEMORY};
    static struct client clients[DEAF + 1];
    static char event[EVENT];
    uint32_t kept = 0;
    memset(event, 'x', sizeof event);
    world_up(&world, &WORLD_CALM, &limits);
    for (int i = 0; i < DEAF; i++) {
        deaf_begin(&clients[i]);
        client_say(&clients[i], "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
        run_ms(&world, 10);
    }
    stream_begin(&clients[DEAF]);
    assert_int_equal(world.opened, DEAF + 1);
    for (int round = 0; round < 4; round++)
        for (int i = 0; i < DEAF; i++)
            kept += web_stream_send(world.streams[i], (struct slice){event, sizeof event});
    assert_true(kept >= 2);
    assert_true(kept <= MEMORY / EVENT + DEAF);
    assert_true(io_loop_stats(world.server_loop)->bufs_in_use <=
                (MEMORY + 2 * EVENT) / IO_BUF_BYTES + DEAF + 1);
    assert_true(web_stream_send(world.streams[DEAF], SLICE("event\n")));
    run_ms(&world, 10);
    assert_true(stats_now().connections < DEAF + 1);
    assert_true(stats_now().connections >= 1);
    for (int i = 0; i <= DEAF; i++)
        client_end(&world, &clients[i]);
    world_down(&world);
}

TEST(close_during_streams)
{
    static struct client clients[3];
    world_up(&world, &WORLD_CALM, NULL);
    for (int i = 0; i < 3; i++)
        stream_begin(&clients[i]);
    assert_int_equal(world.opened, 3);
    web_close(world.web);
    assert_false(web_stream_send(world.streams[1], SLICE("x")));
    run_ms(&world, 10);
    assert_true(web_closed(world.web));
    assert_int_equal(world.closed, 3);
    for (int i = 0; i < 3; i++) {
        assert_true(clients[i].ended);
        client_end(&world, &clients[i]);
    }
    world_down(&world);
}

// ---- storms ----

// Any network and any moment of leaving: all is given back (world_down looks).
TEST(faulty_networks)
{
    enum { CLIENTS = 20 };
    static const char *const requests[] = {
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /big HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789GET /stream HTTP/1.1\r\nHost: "
        "a\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /big "
        "HTTP/1.0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\npart",
        "GET /none HTTP/1.1\r\nHost: a\r\n\r\nbroken\r\n\r\n",
    };
    static struct client clients[CLIENTS];
    static const struct web_limits limits = {.connections = 12, .streams = 3, .body_bytes = 100000};
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct io_sim_config config = WORLD_CALM;
        config.seed = seed;
        config.fragment_ppm = seed % 2 ? 400000 : 0;
        config.reset_ppm = seed % 3 ? 20000 : 0;
        config.stall_ppm = seed % 5 ? 50000 : 0;
        config.stall_us_max = 3000000;
        world_up(&world, &config, &limits);
        for (uint64_t i = 0; i < CLIENTS; i++) {
            client_begin(&world, &clients[i]);
            client_say(&clients[i], requests[(i + seed) % ARRAY_LEN(requests)]);
            run_ms(&world, (seed * 7 + i * 13) % 5);
        }
        run_ms(&world, seed * 37 % 2000);
        for (int i = 0; i < CLIENTS; i += 2)
            client_end(&world, &clients[i]);
        run_ms(&world, 10000);
        for (int i = 1; i < CLIENTS; i += 2)
            client_end(&world, &clients[i]);
        world_down(&world);
    }
}
