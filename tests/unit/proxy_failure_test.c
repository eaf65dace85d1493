// SPDX-License-Identifier: Apache-2.0
// The request path when something is wrong: malformed requests, origins that refuse, stall, lie or die,
// clients that stall or leave. Each case says what the client sees, what is counted against the version, and
// what is tried again.
#include "proxy_world.h"
#include "test.h"

static const char GET[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

TEST(malformed_is_answered_and_closed)
{
    static const struct {
        const char *text;
        const char *status;
    } CASES[] = {
        {"GET / HTTP/1.1\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", "400"},
        {"GET / HTTP/1.1\nHost: h\n\n", "400"},
        {"GET / HTTP/1.1\r\nHost : h\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", "400"},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         "400"},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "400"},
        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello", "400"},
        {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, x\r\n\r\n", "400"},
        {"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
        {"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", "501"},
        {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"},
        {"POST / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n", "417"},
    };
    struct world *w = world_create();
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct peer *c = world_connect(w);
        peer_send(c, CASES[i].text);
        peer_send(c, GET); // what a smuggler would have answered
        world_run(w, 500);
        assert_true(strncmp(c->got + 9, CASES[i].status, 3) == 0);
        assert_int_equal(peer_count_of(c, "Content-Type: "), 1);
        assert_true(peer_has(c, "Connection: close"));
        assert_true(c->ended && !c->reset);
    }
    assert_int_equal(w->origins[0].accepted, 0);
    assert_int_equal(worker_counter(w, PROXY_WORKER_REJECTED), ARRAY_LEN(CASES));
    struct proxy_event events[32];
    assert_int_equal(proxy_events_take(w->proxy, events, 32), ARRAY_LEN(CASES));
    assert_int_equal(events[0].kind, PROXY_EVENT_REJECTED);
    assert_int_equal(events[0].status, 400);
    assert_int_equal(proxy_events_take(w->proxy, events, 32), 0);
    world_destroy(w);
}

// What is told of a request: whose it was, what it asked, and how it ended.
TEST(told_of_requests)
{
    struct world *w = world_create();
    struct proxy_event events[4];
    w->origins[0].reply = "HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n";
    world_ask(
        w,
        "POST /cart?token=secret HTTP/1.1\r\nUser-Agent: x\r\nHost: shop.example\r\nContent-Length: 2\r\n\r\nhi");
    assert_int_equal(proxy_events_take(w->proxy, events, 4), 1);
    assert_int_equal(events[0].kind, PROXY_EVENT_STATUS);
    assert_int_equal(events[0].status, 503);
    assert_string_equal(events[0].method, "POST");
    assert_string_equal(events[0].host, "shop.example");
    assert_string_equal(events[0].path, "/cart"); // what stands in a query is nobody's business here
    // A head longer than what is kept of it: the beginning is enough.
    char text[4096] = "POST /long HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nX-Long: ";
    size_t len = strlen(text);
    memset(text + len, 'x', 2000);
    snprintf(text + len + 2000, sizeof text - len - 2000, "\r\n\r\n");
    world_ask(w, text);
    assert_int_equal(proxy_events_take(w->proxy, events, 4), 1);
    assert_string_equal(events[0].path, "/long");
    // Nobody asked for a line of every request.
    struct proxy_access access;
    assert_int_equal(proxy_accesses_take(w->proxy, &access, 1), 0);
    world_destroy(w);
}

TEST(smuggling_in_a_body)
{
    struct world *w = world_create();
    w->origins[0].reply = ""; // waits for the body
    struct peer *c = world_ask(w, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    peer_send(c, "5\r\nhelloX\r\nGET /evil HTTP/1.1\r\nHost: h\r\n\r\n");
    world_run(w, 100);
    assert_true(peer_has(c, "HTTP/1.1 400"));
    assert_false(peer_has(w->origins[0].peers[0], "evil"));
    assert_true(w->origins[0].peers[0]->closed);
    // The client's fault: nothing against the version.
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), 0);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ABORTED), 1);
    world_destroy(w);
}

TEST(bodies_and_heads_too_large)
{
    struct world *w = world_create();
    w->service.body_bytes_max = 100;
    w->origins[0].reply = "";
    world_publish(w);
    struct peer *c = world_ask(w, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 101\r\n\r\n");
    assert_true(peer_has(c, "HTTP/1.1 413"));
    assert_int_equal(w->origins[0].accepted, 0);
    char text[512] = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n80\r\n";
    memset(text + strlen(text), 'x', 128);
    c = world_ask(w, text);
    assert_true(peer_has(c, "HTTP/1.1 413"));
    char *head = heap_alloc(1, 40000);
    assert_non_null(head);
    strcat(head, "GET / HTTP/1.1\r\nHost: h\r\n");
    for (int i = 0; i < 6; i++) {
        strcat(head, "X: ");
        memset(head + strlen(head), 'y', 6000);
        strcat(head, "\r\n");
    }
    c = world_ask(w, head);
    assert_true(peer_has(c, "HTTP/1.1 431"));
    heap_free(head);
    world_destroy(w);
}

TEST(refused_goes_to_another_endpoint)
{
    struct world *w = world_create();
    struct proxy_endpoint_plan two[2] = {w->endpoints[0], w->endpoints[2]};
    two[1].slot = 10;
    w->versions[0].endpoints = two;
    w->versions[0].endpoint_count = 2;
    world_publish(w);
    origin_unlisten(&w->origins[0]);
    // Also with a body: no byte of it has left.
    w->origins[2].reply = HELLO;
    for (int i = 0; i < 20; i++) {
        struct peer *c =
            world_ask(w, i % 2 ? GET : "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
        assert_true(peer_has(c, "200 OK"));
        peer_close(c);
        w->origins[2].peers[0]->used = w->origins[2].peers[0]->len;
    }
    uint64_t errors = version_counter(w, 0, PROXY_VERSION_ERROR_CONNECT);
    assert_true(errors > 0);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_RETRIES), errors);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_STATUS_2XX), 20);
    // It is passed over for a growing while, not asked each time.
    assert_in_range(errors, 1, 9);
    world_destroy(w);
}

TEST(nobody_there)
{
    struct world *w = world_create();
    origin_unlisten(&w->origins[0]);
    struct peer *c = world_ask(w, GET);
    assert_true(peer_has(c, "HTTP/1.1 502"));
    assert_false(c->ended);
    w->versions[0].endpoint_count = 0;
    world_publish(w);
    peer_send(c, GET);
    world_run(w, 100);
    assert_true(peer_has(c, "HTTP/1.1 503"));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_UNAVAILABLE), 1);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_GOOD), 0);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_LOCAL_5XX), 2);
    world_destroy(w);
}

// Answers the first request of a connection and dies at the second without a word.
static void serve_once_then_die(struct peer *peer)
{
    if (strstr(peer->got + peer->used, "\r\n\r\n") == NULL)
        return;
    peer->used = peer->len;
    if (peer->requests++ == 0)
        peer_send(peer, HELLO);
    else
        peer_close(peer);
}

TEST(dead_pooled_connection)
{
    struct world *w = world_create();
    w->origins[0].serve = serve_once_then_die;
    struct peer *c = world_ask(w, GET);
    peer_send(c, GET);
    world_run(w, 100);
    // The second attempt had a new connection.
    assert_int_equal(peer_count_of(c, "200 OK"), 2);
    assert_int_equal(w->origins[0].accepted, 2);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_RETRIES), 1);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_RESET), 1);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ATTEMPTS), 3);
    // Also a head too long to be copied.
    char text[3100] = "GET / HTTP/1.1\r\nHost: h\r\nX: ";
    memset(text + strlen(text), 'y', 3000);
    strcat(text, "\r\n\r\n");
    peer_send(c, text);
    world_run(w, 100);
    assert_int_equal(peer_count_of(c, "200 OK"), 3);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_RETRIES), 2);
    // A POST is never sent twice.
    peer_send(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    world_run(w, 100);
    assert_true(peer_has(c, "HTTP/1.1 502"));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_RETRIES), 2);
    world_destroy(w);
}

TEST(idle_death_is_noticed)
{
    struct world *w = world_create();
    struct peer *c = world_ask(w, GET);
    peer_close(w->origins[0].peers[0]); // while it lies in the pool
    world_run(w, 100);
    peer_send(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    world_run(w, 100);
    assert_int_equal(peer_count_of(c, "200 OK"), 2);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), 0);
    // One that talks unasked is closed, too.
    peer_send(w->origins[0].peers[1], HELLO);
    world_run(w, 100);
    assert_true(w->origins[0].peers[1]->closed);
    // And one that grew too old.
    peer_send(c, GET);
    world_run(w, 100);
    assert_false(w->origins[0].peers[2]->closed);
    world_run(w, 31000);
    assert_true(w->origins[0].peers[2]->closed);
    world_destroy(w);
}

static void serve_nothing(struct peer *peer)
{
    (void)peer;
}

// Dead connections found by many requests at once: only so many are tried again.
TEST(retry_budget)
{
    struct world *w = world_create();
    w->origins[0].serve = serve_once_then_die;
    w->service.retry.budget_min = 2;
    world_publish(w);
    struct peer *c[10];
    for (int i = 0; i < 10; i++) {
        c[i] = world_connect(w);
        peer_send(c[i], GET);
    }
    world_run(w, 100);
    w->origins[0].serve = serve_nothing;
    for (int i = 0; i < 10; i++)
        peer_send(c[i], GET);
    world_run(w, 5);
    for (int i = 0; i < 10; i++)
        peer_close(w->origins[0].peers[i]);
    world_run(w, 100);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_RESET), 10);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_RETRIES), 2);
    assert_int_equal(worker_counter(w, PROXY_WORKER_RETRIES_DENIED), 8);
    world_run(w, 20000);
    world_destroy(w);
}

TEST(no_first_byte)
{
    struct world *w = world_create();
    w->origins[0].serve = serve_nothing;
    w->service.timeouts.first_byte_ms = 3000;
    world_publish(w);
    struct peer *c = world_connect(w);
    peer_send(c, GET);
    world_run(w, 2900);
    assert_int_equal(c->len, 0);
    world_run(w, 300);
    assert_true(peer_has(c, "HTTP/1.1 504"));
    assert_false(c->ended);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_TIMEOUT), 1);
    assert_true(w->origins[0].peers[0]->closed);
    world_destroy(w);
}

TEST(total_time)
{
    struct world *w = world_create();
    w->origins[0].reply = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart";
    w->service.timeouts.total_ms = 2000;
    world_publish(w);
    struct peer *c = world_connect(w);
    peer_send(c, GET);
    world_run(w, 2500);
    assert_true(peer_has(c, "part") && c->reset);
    world_destroy(w);
}

TEST(answer_breaks_off)
{
    static const char *const REPLIES[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nnonsense\r\n",
    };
    struct world *w = world_create();
    for (size_t i = 0; i < ARRAY_LEN(REPLIES); i++) {
        w->origins[0].reply = REPLIES[i];
        struct peer *c = world_ask(w, GET);
        if (i < 2)
            peer_close(w->origins[0].peers[i]);
        world_run(w, 100);
        // Never an end that looks like the answer's own.
        assert_true(c->reset);
        assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), i + 1);
    }
    assert_int_equal(worker_counter(w, PROXY_WORKER_CUT), 3);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_RESET), 2);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_BROKEN), 1);
    // A body that stalls ends after the idle time.
    w->origins[0].reply = REPLIES[0];
    struct peer *c = world_ask(w, GET);
    world_run(w, 28000);
    assert_false(c->reset);
    world_run(w, 3000);
    assert_true(c->reset);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_TIMEOUT), 1);
    world_destroy(w);
}

TEST(no_http_at_all)
{
    static const char *const REPLIES[] = {
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    };
    struct world *w = world_create();
    for (size_t i = 0; i < ARRAY_LEN(REPLIES); i++) {
        w->origins[0].reply = REPLIES[i];
        struct peer *c = world_ask(w, GET);
        assert_true(peer_has(c, "HTTP/1.1 502"));
        assert_false(c->ended);
        assert_true(w->origins[0].peers[i]->closed);
    }
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_BROKEN), ARRAY_LEN(REPLIES));
    world_destroy(w);
}

// Bytes behind an answer must never answer the next request.
TEST(answer_with_a_tail)
{
    struct world *w = world_create();
    w->origins[0].reply =
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    struct peer *c = world_ask(w, GET);
    peer_send(c, GET);
    world_run(w, 100);
    assert_int_equal(peer_count_of(c, "hello"), 2);
    assert_false(peer_has(c, "evil"));
    assert_int_equal(w->origins[0].accepted, 2);
    world_destroy(w);
}

TEST(origin_errors_count)
{
    struct world *w = world_create();
    w->origins[0].reply = "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";
    struct peer *c = world_ask(w, GET);
    assert_true(peer_has(c, "503 Busy") && peer_has(c, "busy"));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_5XX), 1);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_STATUS_5XX), 1);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_GOOD), 0);
    assert_int_equal(worker_counter(w, PROXY_WORKER_LOCAL), 0);
    // A redirect or a client error is the origin's good right.
    w->origins[0].reply = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    peer_send(c, GET);
    world_run(w, 100);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), 1);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_GOOD), 1);
    world_destroy(w);
}

TEST(slow_heads)
{
    struct world *w = world_create();
    struct peer *c = world_connect(w);
    struct peer *idle = world_connect(w);
    // One byte a second does not move the deadline.
    for (int i = 0; i < 9; i++) {
        peer_send_bytes(c, GET + i, 1);
        world_run(w, 1000);
        assert_false(c->ended);
    }
    world_run(w, 2000);
    assert_true(peer_has(c, "HTTP/1.1 408") && c->ended);
    // Balancers keep theirs for a minute: a connection must not end just as one sends on it.
    world_run(w, 60000);
    assert_false(idle->ended);
    world_run(w, 15000);
    assert_true(idle->ended && idle->len == 0);
    assert_int_equal(worker_counter(w, PROXY_WORKER_HEAD_TIMEOUTS), 1);
    assert_int_equal(worker_counter(w, PROXY_WORKER_IDLE_CLOSED), 1);
    world_destroy(w);
}

TEST(slow_bodies)
{
    struct world *w = world_create();
    w->origins[0].serve = serve_nothing;
    struct peer *c = world_ask(w, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n");
    // A byte every ten seconds is below the least rate, though never idle for long.
    for (int i = 0; i < 6 && c->len == 0; i++) {
        peer_send(c, "x");
        world_run(w, 10000);
    }
    assert_true(peer_has(c, "HTTP/1.1 408") && c->ended);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), 0);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ABORTED), 1);
    world_destroy(w);
}

// A piece each second and a half, and soon after the whole rest.
static void read_slowly(struct world *w, struct peer *peer, int times)
{
    peer->slow = true;
    for (int i = 0; i < times && !peer->ended; i++) {
        io_stream_resume(&peer->stream);
        world_run(w, 1500);
    }
    peer->slow = false;
    io_stream_resume(&peer->stream);
    world_run(w, 1000);
}

static void serve_after_upload(struct peer *peer)
{
    if (peer->len > 700000 && peer->requests++ == 0)
        peer_send(peer, HELLO);
}

static char *text_of(const char *head, size_t body)
{
    char *text = heap_alloc(1, strlen(head) + body + 1);
    assert_non_null(text);
    memset(text, 'x', strlen(head) + body);
    memcpy(text, head, strlen(head));
    return text;
}

// As many cookies as browsers send pass both ways.
TEST(large_heads)
{
    struct world *w = world_create();
    char *request = text_of("GET / HTTP/1.1\r\nHost: h\r\nCookie: ", 30000);
    struct peer *c = world_connect(w);
    peer_send(c, request);
    for (int i = 0; i < 100; i++)
        peer_send(c, "\r\nX-A: 1");
    peer_send(c, "\r\n\r\n");
    world_run(w, 1000);
    assert_true(peer_has(c, "200 OK"));
    char *reply = text_of("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: ", 32000);
    char *whole = heap_alloc(1, strlen(reply) + 5);
    sprintf(whole, "%s\r\n\r\n", reply);
    w->origins[0].reply = whole;
    c = world_ask(w, GET);
    assert_true(c->len > 32000 && peer_has(c, "200 OK"));
    heap_free(request);
    heap_free(reply);
    heap_free(whole);
    world_destroy(w);
}

// Whoever takes bytes steadily is not idle, even if what waits for it is long never all gone.
TEST(slow_readers_get_all)
{
    struct world *w = world_create();
    char *reply = text_of("HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n", 900000);
    w->origins[0].reply = reply;
    w->service.timeouts.idle_ms = 2000;
    w->service.timeouts.first_byte_ms = 2000;
    world_publish(w);
    struct peer *c = world_connect(w);
    io_stream_pause(&c->stream);
    peer_send(c, GET);
    read_slowly(w, c, 30);
    assert_false(c->reset);
    assert_true(c->len > 900000);
    char *request = text_of("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 700000\r\n\r\n", 700000);
    struct peer *o = w->origins[0].peers[0];
    peer_clear(c);
    peer_clear(o);
    w->origins[0].serve = serve_after_upload;
    io_stream_pause(&o->stream);
    peer_send(c, request);
    read_slowly(w, o, 30);
    assert_true(peer_has(c, "200 OK"));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), 0);
    // And who takes nothing is let go.
    peer_clear(c);
    w->origins[0].serve = NULL;
    io_stream_pause(&c->stream);
    peer_send(c, GET);
    world_run(w, 8000);
    assert_int_equal(worker_counter(w, PROXY_WORKER_CUT), 1);
    io_stream_resume(&c->stream);
    world_run(w, 1000);
    assert_true(c->reset);
    heap_free(reply);
    heap_free(request);
    world_destroy(w);
}

TEST(client_leaves)
{
    struct world *w = world_create();
    w->origins[0].serve = serve_nothing;
    struct peer *c = world_ask(w, GET);
    io_stream_abort(&c->stream);
    c->closed = true;
    world_run(w, 100);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ABORTED), 1);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_COMPLETED), 1);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), 0);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_GOOD), 0);
    assert_true(w->origins[0].peers[0]->closed);
    assert_int_equal(worker_counter(w, PROXY_WORKER_ABORTED), 1);
    world_destroy(w);
}

TEST(too_many_clients)
{
    struct io_sim_config sim = {.seed = 1, .latency_us_min = 100, .latency_us_max = 200};
    struct proxy_config config = {.clients_max = 3};
    struct world *w = world_create_with(&sim, &config);
    struct peer *c[3];
    w->origins[0].serve = serve_nothing;
    for (int i = 0; i < 3; i++)
        c[i] = world_ask(w, GET);
    struct peer *late = world_ask(w, GET);
    assert_true(peer_has(late, "HTTP/1.1 503") && late->ended);
    assert_int_equal(worker_counter(w, PROXY_WORKER_REFUSED), 1);
    w->origins[0].serve = NULL;
    io_stream_abort(&c[0]->stream);
    c[0]->closed = true;
    world_run(w, 100);
    struct peer *idle = world_ask(w, GET);
    assert_true(peer_has(idle, "200 OK"));
    // Who only waits gives way.
    assert_true(peer_has(world_ask(w, GET), "200 OK"));
    assert_true(idle->ended && !idle->reset && !c[1]->ended);
    assert_int_equal(worker_counter(w, PROXY_WORKER_GAVE_WAY), 1);
    world_destroy(w);
}

TEST(one_address_takes_not_all)
{
    struct world *w = world_create();
    w->plan.clients_per_site = 2;
    world_publish(w);
    struct peer *c = world_ask(w, GET);
    assert_true(peer_has(c, "200 OK") && peer_has(world_ask(w, GET), "200 OK"));
    struct peer *late = world_ask(w, GET);
    assert_true(peer_has(late, "HTTP/1.1 503") && late->ended);
    peer_close(c);
    world_run(w, 100);
    assert_true(peer_has(world_ask(w, GET), "200 OK"));
    world_destroy(w);
}

// What clients do to us is not the version's doing: bodies that drip hold no connection to it, and a limit of
// ours is no failure of it.
TEST(dripping_bodies_cost_the_version_nothing)
{
    struct world *w = world_create();
    w->endpoints[0].connections_max = 2;
    world_publish(w);
    struct peer *drip[20];
    for (int i = 0; i < 20; i++)
        drip[i] = world_ask(w, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nx");
    assert_int_equal(w->origins[0].accepted, 0);
    assert_true(peer_has(world_ask(w, GET), "200 OK"));
    for (int s = 0; s < 60; s++) {
        for (int i = 0; i < 20; i++)
            if (!drip[i]->ended)
                peer_send(drip[i], "x");
        world_run(w, 1000);
    }
    for (int i = 0; i < 20; i++)
        assert_true(peer_has(drip[i], "HTTP/1.1 408") && drip[i]->ended);
    w->origins[0].serve = serve_nothing;
    world_ask(w, GET);
    world_ask(w, GET);
    assert_true(peer_has(world_ask(w, GET), "HTTP/1.1 503"));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), 0);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ABORTED), 21);
    world_destroy(w);
}

// A client that we hold back, because its origin reads slowly, need not keep up its rate.
TEST(who_is_held_back_is_not_slow)
{
    struct world *w = world_create();
    w->plan.body_rate_min = 1000000;
    w->service.timeouts.idle_ms = 2000;
    world_publish(w);
    char *request = text_of("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 700000\r\n\r\n", 700000);
    w->origins[0].serve = serve_after_upload;
    peer_send(world_connect(w), request);
    while (w->origins[0].accepted == 0)
        world_run(w, 1);
    read_slowly(w, w->origins[0].peers[0], 30);
    assert_true(peer_has(w->peers[0], "200 OK"));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), 0);
    heap_free(request);
    world_destroy(w);
}

TEST(drain_and_stop)
{
    struct world *w = world_create();
    struct peer *idle = world_ask(w, GET);
    w->origins[0].serve = serve_nothing;
    struct peer *busy = world_ask(w, GET);
    proxy_drain(w->proxy);
    world_run(w, 2000);
    assert_true(idle->ended && !idle->reset);
    assert_false(busy->ended);
    struct peer *late = world_ask(w, GET);
    assert_false(late->open);
    peer_send(w->origins[0].peers[0], HELLO);
    world_run(w, 3000);
    assert_true(peer_has(busy, "Connection: close") && peer_has(busy, "hello") && busy->ended);
    assert_int_equal(proxy_clients_open(w->proxy), 0);
    world_destroy(w);
}
