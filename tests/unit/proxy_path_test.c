// SPDX-License-Identifier: Apache-2.0
// The request path on sound input: what reaches the origin, what comes back, in which order and framing.
#include "proxy_world.h"
#include "test.h"

TEST(keep_alive_and_rewriting)
{
    struct world *w = world_create();
    struct peer *c =
        world_ask(w, "GET /a HTTP/1.1\r\nHost: shop\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Keep: 2\r\n"
                     "X-Forwarded-For: 6.6.6.6\r\n\r\n");
    assert_true(peer_has(c, "HTTP/1.1 200 OK\r\n"));
    assert_true(peer_has(c, "\r\n\r\nhello"));
    assert_true(peer_has(c, "Via: 1.1 sluice"));
    struct peer *o = w->origins[0].peers[0];
    assert_true(strncmp(o->got, "GET /a HTTP/1.1\r\nHost: shop\r\n", 29) == 0);
    assert_true(peer_has(o, "X-Keep: 2"));
    assert_false(peer_has(o, "X-Hop"));
    assert_false(peer_has(o, "6.6.6.6"));
    assert_true(peer_has(o, "X-Forwarded-For: "));
    peer_send(c, "GET /b HTTP/1.1\r\nHost: shop\r\n\r\n");
    world_run(w, 1000);
    assert_int_equal(peer_count_of(c, "hello"), 2);
    assert_int_equal(w->origins[0].accepted, 1);
    assert_int_equal(worker_counter(w, PROXY_WORKER_UPSTREAM_REUSED), 1);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_GOOD), 2);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_STATUS_2XX), 2);
    world_destroy(w);
}

static void serve_path(struct peer *peer)
{
    char *end;
    while ((end = strstr(peer->got + peer->used, "\r\n\r\n")) != NULL) {
        char reply[128];
        char path[32] = "";
        sscanf(peer->got + peer->used, "%*s %31s", path);
        snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(path), path);
        peer->used = (size_t)(end + 4 - peer->got);
        peer_send(peer, reply);
    }
}

TEST(pipelining_in_order)
{
    struct world *w = world_create();
    w->origins[0].serve = serve_path;
    w->routes[0].path = "/in";
    world_publish(w);
    char text[4096] = "";
    for (int i = 0; i < 20; i++) {
        char one[128];
        snprintf(one, sizeof one, "GET /%s/%02d HTTP/1.1\r\nHost: h\r\n\r\n", i % 3 == 2 ? "out" : "in", i);
        strncat(text, one, sizeof text - strlen(text) - 1);
    }
    struct peer *c = world_connect(w);
    // In two pieces that cut a head.
    peer_send_bytes(c, text, 333);
    world_run(w, 50);
    peer_send(c, text + 333);
    world_run(w, 1000);
    const char *at = c->got;
    for (int i = 0; i < 20; i++) {
        char want[32];
        snprintf(want, sizeof want, i % 3 == 2 ? "404 no route" : "/in/%02d", i);
        at = strstr(at, want);
        assert_non_null(at);
        at += strlen(want);
    }
    assert_int_equal(worker_counter(w, PROXY_WORKER_RECEIVED), 20);
    assert_int_equal(worker_counter(w, PROXY_WORKER_UNROUTED), 6);
    assert_int_equal(io_loop_stats(w->proxy_loop)->bufs_in_use, 0);
    world_destroy(w);
}

static void serve_after_trailer(struct peer *peer)
{
    if (strstr(peer->got + peer->used, "X-Sum: 7\r\n\r\n") != NULL)
        peer_send(peer, HELLO);
}

TEST(request_bodies)
{
    struct world *w = world_create();
    struct peer *c = world_ask(w, "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789"
                                  "GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    struct peer *o = w->origins[0].peers[0];
    assert_true(peer_has(o, "\r\n\r\n0123456789GET /next HTTP/1.1\r\n"));
    assert_int_equal(peer_count_of(c, "hello"), 2);
    peer_clear(o);
    w->origins[0].serve = serve_after_trailer;
    // Chunked, byte by byte, with an extension and a trailer: framed anew, the trailer stays one.
    const char *text = "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                       "3;a=b\r\nabc\r\n004\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\n";
    for (const char *at = text; *at != '\0'; at++) {
        peer_send_bytes(c, at, 1);
        world_run(w, 1);
    }
    world_run(w, 1000);
    assert_true(peer_has(o, "Transfer-Encoding: chunked\r\n"));
    assert_true(peer_has(o, "0\r\nX-Sum: 7\r\n\r\n"));
    assert_false(peer_has(o, "a=b"));
    assert_false(peer_has(o, "Content-Length"));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_BYTES_IN), 17);
    world_destroy(w);
}

TEST(response_framings)
{
    struct world *w = world_create();
    struct origin *o = &w->origins[0];
    o->reply = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n "
               "world\r\n0\r\nX-T: 1\r\n\r\n";
    struct peer *c = world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_true(peer_has(c, "5\r\nhello\r\n6\r\n world\r\n0\r\nX-T: 1\r\n\r\n"));
    assert_false(c->ended);
    // To an HTTP/1.0 client: no chunks, ends with the connection.
    struct peer *old = world_ask(w, "GET / HTTP/1.0\r\n\r\n");
    assert_true(peer_has(old, "\r\n\r\nhello world"));
    assert_false(peer_has(old, "chunked"));
    assert_true(old->ended && !old->reset);
    // HEAD and 304 have lengths but no body, and the connection goes on.
    o->reply = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n";
    peer_clear(c);
    peer_send(c, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    world_run(w, 100);
    assert_true(peer_has(c, "Content-Length: 999\r\n"));
    o->reply = "HTTP/1.1 304 Not Modified\r\n\r\n";
    peer_send(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    world_run(w, 100);
    o->reply = "HTTP/1.1 204 No Content\r\n\r\n";
    peer_send(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    world_run(w, 100);
    assert_true(peer_has(c, "304 Not Modified") && peer_has(c, "204 No Content"));
    // HTTP/1.0 keep-alive, said aloud.
    o->reply = HELLO;
    old = world_ask(w, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_true(peer_has(old, "keep-alive"));
    assert_false(old->ended);
    world_destroy(w);
}

static void serve_until_close(struct peer *peer)
{
    if (!peer_has(peer, "\r\n\r\n"))
        return;
    peer_send(peer, "HTTP/1.1 200 OK\r\n\r\nall of it");
    io_stream_finish(&peer->stream);
}

TEST(until_close_becomes_chunked)
{
    struct world *w = world_create();
    w->origins[0].serve = serve_until_close;
    struct peer *c = world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_true(peer_has(c, "Transfer-Encoding: chunked"));
    assert_true(peer_has(c, "9\r\nall of it\r\n0\r\n\r\n"));
    assert_false(c->ended);
    struct peer *old = world_ask(w, "GET / HTTP/1.0\r\n\r\n");
    assert_true(peer_has(old, "\r\n\r\nall of it"));
    assert_true(old->ended && !old->reset);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), 0);
    world_destroy(w);
}

static void serve_continue(struct peer *peer)
{
    if (peer->requests == 0 && peer_has(peer, "\r\n\r\n")) {
        peer->requests = 1;
        peer_send(peer, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
    }
    if (peer_has(peer, "\r\n\r\nbody!"))
        peer_send(peer, HELLO);
}

TEST(informational_answers)
{
    struct world *w = world_create();
    w->origins[0].serve = serve_continue;
    struct peer *c =
        world_ask(w, "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_true(peer_has(w->origins[0].peers[0], "Expect: 100-continue"));
    assert_true(peer_has(c, "HTTP/1.1 100 Continue\r\n"));
    assert_true(peer_has(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n"));
    assert_false(peer_has(c, "200 OK"));
    peer_send(c, "body!");
    world_run(w, 100);
    assert_true(peer_has(c, "200 OK"));
    assert_false(c->ended);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_STATUS_1XX), 2);
    world_destroy(w);
}

static void serve_early(struct peer *peer)
{
    if (peer->requests == 0 && peer_has(peer, "\r\n\r\n")) {
        peer->requests = 1;
        peer_send(peer, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    }
}

TEST(early_answer_closes_both)
{
    struct world *w = world_create();
    w->origins[0].serve = serve_early;
    struct peer *c = world_ask(w, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nsome");
    assert_true(peer_has(c, "403 Forbidden") && peer_has(c, "Connection: close"));
    assert_true(c->ended && !c->reset);
    assert_true(w->origins[0].peers[0]->closed);
    // The client goes on sending; it is listened to for a while and not reset.
    peer_send(c, "more of the body");
    world_run(w, 100);
    assert_false(c->reset);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), 0);
    world_destroy(w);
}

static void serve_tunnel(struct peer *peer)
{
    if (peer->requests == 0) {
        if (!peer_has(peer, "\r\n\r\n"))
            return;
        peer->requests = 1;
        peer_send(peer,
                  "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nready.");
        peer->used = (size_t)(strstr(peer->got, "\r\n\r\n") + 4 - peer->got);
    }
    if (peer->len > peer->used) {
        peer_send_bytes(peer, peer->got + peer->used, peer->len - peer->used);
        peer->used = peer->len;
    }
}

TEST(upgrade_becomes_tunnel)
{
    struct world *w = world_create();
    w->origins[0].serve = serve_tunnel;
    struct peer *c =
        world_ask(w, "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly.");
    assert_true(peer_has(c, "101 Switching") && peer_has(c, "Upgrade: echo"));
    assert_true(peer_has(c, "\r\n\r\nready.early."));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_COMPLETED), 1);
    for (int i = 0; i < 50; i++) {
        peer_send(c, "ping-pong ");
        world_run(w, 1000);
    }
    assert_int_equal(peer_count_of(c, "ping-pong "), 50);
    // The client ends its side; what it sent last still comes back.
    peer_send(c, "last");
    io_stream_finish(&c->stream);
    world_run(w, 100);
    assert_true(peer_has(c, "last"));
    assert_true(c->ended && !c->reset);
    assert_int_equal(worker_counter(w, PROXY_WORKER_TUNNELS_CLOSED), 1);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_UPGRADES), 1);
    world_destroy(w);
}

// Origins refuse an empty Host.
TEST(a_request_without_host_gets_one)
{
    struct world *w = world_create();
    world_ask(w, "GET /health HTTP/1.0\r\n\r\n");
    assert_true(peer_has(w->origins[0].peers[0], "GET /health HTTP/1.1\r\nHost: 10.0.0.1:80\r\n"));
    w->plan.route_count = 2;
    w->routes[1] = (struct proxy_route_plan){.host = "shop.example"};
    world_publish(w);
    world_ask(w, "GET /health HTTP/1.0\r\n\r\n");
    assert_true(peer_has(w->origins[0].peers[0], "Host: shop.example\r\n"));
    assert_false(peer_has(w->origins[0].peers[0], "X-Forwarded-Host"));
    world_destroy(w);
}

static void serve_odd_tunnel(struct peer *peer)
{
    if (peer->used == 0)
        peer_send(peer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nContent-Length: 0\r\n\r\n");
    else
        peer_send_bytes(peer, peer->got + peer->used, peer->len - peer->used);
    peer->used = peer->len;
}

// A client that says that its handshake has no body, an origin that does not name Upgrade in Connection.
TEST(odd_handshakes)
{
    struct world *w = world_create();
    w->origins[0].serve = serve_odd_tunnel;
    struct peer *c = world_ask(
        w,
        "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\nContent-Length: 0\r\n\r\n");
    assert_true(peer_has(c, "101 Switching") && peer_has(c, "Connection: upgrade\r\nUpgrade: echo"));
    peer_send(c, "ping");
    world_run(w, 100);
    assert_true(peer_has(c, "\r\n\r\nping"));
    peer_close(c);
    world_destroy(w);
}

TEST(odd_answers)
{
    static const struct {
        const char *reply, *wanted;
    } cases[] = {
        {"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
         "Connection: upgrade\r\nUpgrade: websocket\r\n"},
        {"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "204 No Content\r\nVia"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 ; a = b\r\nhi\r\n0 \r\n\r\n",
         "2\r\nhi\r\n0\r\n\r\n"},
        {"HTTP/1.1 700 Odd\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 700 Odd"},
    };
    struct world *w = world_create();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        w->origins[0].reply = cases[i].reply;
        struct peer *c = world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        if (!peer_has(c, cases[i].wanted))
            fail_msg("case %zu: %s", i, c->got);
        w->origins[0].reply = HELLO;
        peer_send(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        world_run(w, 100);
        assert_int_equal(peer_count_of(c, "hello"), 1);
    }
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_STATUS_5XX), 1);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), 1);
    world_destroy(w);
}

TEST(upgrade_declined)
{
    struct world *w = world_create();
    struct peer *c =
        world_ask(w, "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_true(peer_has(c, "200 OK"));
    assert_false(c->ended);
    world_destroy(w);
}

static char *big_text(const char *head, size_t body)
{
    char *text = heap_alloc(1, strlen(head) + body + 1);
    assert_non_null(text);
    size_t len = strlen(head);
    memcpy(text, head, len);
    for (size_t i = 0; i < body; i++)
        text[len + i] = (char)('a' + (i * 7 + i / 251) % 26);
    return text;
}

static void serve_after_upload(struct peer *peer)
{
    if (peer->len > 900000 + 100 && peer->requests++ == 0)
        peer_send(peer, HELLO);
}

// A client that does not read holds the origin back; the proxy keeps no more than its named limit.
TEST(backpressure_both_ways)
{
    enum { BODY = 900000 };
    struct world *w = world_create();
    char *reply = big_text("HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n", BODY);
    w->origins[0].reply = reply;
    struct peer *c = world_connect(w);
    io_stream_pause(&c->stream);
    peer_send(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    for (int i = 0; i < 200; i++) {
        world_run(w, 10);
        assert_true(io_loop_stats(w->proxy_loop)->bufs_in_use < 24);
    }
    io_stream_resume(&c->stream);
    world_run(w, 5000);
    assert_int_equal(c->len, strlen(strstr(reply, "\r\n\r\n") + 4) +
                                 (size_t)(strstr(c->got, "\r\n\r\n") + 4 - c->got));
    assert_memory_equal(strstr(c->got, "\r\n\r\n"), strstr(reply, "\r\n\r\n"), BODY + 4);
    char *request = big_text("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n", BODY);
    struct peer *o = w->origins[0].peers[0];
    peer_clear(o);
    w->origins[0].serve = serve_after_upload;
    io_stream_pause(&o->stream);
    peer_send(c, request);
    for (int i = 0; i < 200; i++) {
        world_run(w, 10);
        assert_true(io_loop_stats(w->proxy_loop)->bufs_in_use < 24);
    }
    io_stream_resume(&o->stream);
    world_run(w, 5000);
    assert_memory_equal(strstr(o->got, "\r\n\r\n"), strstr(request, "\r\n\r\n"), BODY + 4);
    assert_true(peer_has(c, "hello"));
    heap_free(reply);
    heap_free(request);
    world_destroy(w);
}

TEST(idle_costs_no_buffer)
{
    struct world *w = world_create();
    for (int i = 0; i < 100; i++)
        peer_send(world_connect(w), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    world_run(w, 1000);
    assert_int_equal(proxy_clients_open(w->proxy), 100);
    assert_int_equal(io_loop_stats(w->proxy_loop)->bufs_in_use, 0);
    world_destroy(w);
}

// A client may end its side after its request and still get the answer.
TEST(half_closed_client)
{
    struct world *w = world_create();
    struct peer *c = world_connect(w);
    peer_send(c, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
    io_stream_finish(&c->stream);
    world_run(w, 1000);
    assert_int_equal(peer_count_of(c, "hello"), 2);
    assert_true(c->ended && !c->reset);
    world_destroy(w);
}

// A listener that is to be secure closes what it cannot encrypt; it never serves in the clear.
TEST(a_secure_listener_never_serves_in_the_clear)
{
    struct io_sim_config sim = {.seed = 3, .latency_us_min = 20, .latency_us_max = 200};
    struct proxy_config config = {.listen_secure = 1};
    struct world *w = world_create_with(&sim, &config);
    struct peer *c = world_connect(w);
    peer_send(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    world_run(w, 50);
    assert_int_equal(c->len, 0);
    assert_int_equal(worker_counter(w, PROXY_WORKER_ACCEPTED), 1);
    assert_int_equal(worker_counter(w, PROXY_WORKER_CLIENTS_CLOSED), 1);
    assert_int_equal(worker_counter(w, PROXY_WORKER_RECEIVED), 0);
    world_destroy(w);
}
