// SPDX-License-Identifier: Apache-2.0
// proxy: who a client is: PROXY headers of listed peers, proxies that are believed, and what strangers say.
#include "proxy_world.h"

static struct world *w;
static const struct proxy_header_peers EVERYBODY = {.listener = 0, .network = {.bits = 0}};

static int set_up(void **state)
{
    (void)state;
    w = world_create();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    world_destroy(w);
    return 0;
}

EACH_TEST(set_up, tear_down);

static void want_headers(void)
{
    w->plan.header_peers = &EVERYBODY;
    w->plan.header_peer_count = 1;
    world_publish(w);
}

#define TOLD "PROXY TCP4 203.0.113.7 192.0.2.1 40001 443\r\n"
#define REQUEST "GET / HTTP/1.1\r\nHost: shop\r\n\r\n"

static void expect_at_origin(const char *line)
{
    const struct origin *origin = &w->origins[0];
    assert_true(origin->accepted > 0);
    if (!peer_has(origin->peers[0], line))
        fail_msg("no \"%s\" in\n%s", line, origin->peers[0]->got);
}

// ---- PROXY headers ----

TEST(the_told_address_is_the_clients)
{
    want_headers();
    struct peer *c = world_ask(w, TOLD REQUEST);
    assert_true(peer_has(c, "hello"));
    expect_at_origin("X-Forwarded-For: 203.0.113.7\r\n");
    peer_send(c, "GET /again HTTP/1.1\r\nHost: shop\r\n\r\n");
    world_run(w, 100);
    assert_int_equal(peer_count_of(c, "hello"), 2);
    assert_int_equal(peer_count_of(w->origins[0].peers[0], "X-Forwarded-For: 203.0.113.7\r\n"), 2);
}

TEST(a_header_in_pieces)
{
    static const char text[] = TOLD REQUEST;
    want_headers();
    struct peer *c = world_connect(w);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        peer_send_bytes(c, text + i, 1);
        world_run(w, 5);
    }
    world_run(w, 100);
    assert_true(peer_has(c, "hello"));
    expect_at_origin("X-Forwarded-For: 203.0.113.7\r\n");
}

TEST(a_header_for_nobody_keeps_the_peers_address)
{
    want_headers();
    struct peer *c = world_ask(w, "PROXY UNKNOWN\r\n" REQUEST);
    assert_true(peer_has(c, "hello"));
    expect_at_origin("X-Forwarded-For: ");
    assert_false(peer_has(w->origins[0].peers[0], "203.0.113.7"));
}

static void expect_refused(const char *text)
{
    uint64_t before = worker_counter(w, PROXY_WORKER_PROXY_HEADERS_REFUSED);
    struct peer *c = world_ask(w, text);
    assert_true(c->ended);
    assert_int_equal(c->len, 0);
    assert_int_equal(worker_counter(w, PROXY_WORKER_PROXY_HEADERS_REFUSED), before + 1);
    assert_int_equal(w->origins[0].accepted, 0);
}

TEST(a_listed_peer_must_send_one)
{
    want_headers();
    expect_refused(REQUEST);
    expect_refused("PROXY TCP4 203.0.113.7\r\n" REQUEST);
    expect_refused("PROXY UNKNOWN 0123456789012345678901234567890123456789012345678901234567890123456789"
                   "0123456789012345678901234567890123456789");
    struct proxy_event event;
    assert_int_equal(proxy_events_take(w->proxy, &event, 1), 1);
    assert_int_equal(event.kind, PROXY_EVENT_REJECTED);
    assert_string_equal(event.reason, "malformed PROXY header");
}

TEST(a_header_has_the_time_of_a_head)
{
    w->plan.client_head_ms = 2000;
    want_headers();
    struct peer *silent = world_connect(w), *slow = world_connect(w);
    peer_send(slow, "PROXY TCP4 203");
    world_run(w, 1900);
    assert_false(silent->ended || slow->ended);
    world_run(w, 200);
    assert_true(silent->ended && slow->ended);
    assert_int_equal(silent->len + slow->len, 0);
    assert_int_equal(worker_counter(w, PROXY_WORKER_PROXY_HEADERS_REFUSED), 2);
}

TEST(a_second_header_is_a_bad_request)
{
    want_headers();
    struct peer *c = world_ask(w, TOLD "PROXY TCP4 6.6.6.6 192.0.2.1 1 443\r\n" REQUEST);
    assert_true(peer_has(c, "HTTP/1.1 400 "));
    assert_true(c->ended);
    assert_int_equal(w->origins[0].accepted, 0);
}

TEST(a_strangers_header_is_a_bad_request)
{
    static const char v2[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0q\7\xc0\0\2\1\x9c\x41\1\xbb" REQUEST;
    struct proxy_header_peers other = {.listener = 0, .network = {.bytes = {192, 0, 2, 99}, .bits = 32}};
    w->plan.header_peers = &other;
    w->plan.header_peer_count = 1;
    world_publish(w);
    struct peer *c = world_ask(w, TOLD REQUEST);
    assert_true(peer_has(c, "HTTP/1.1 400 "));
    assert_true(c->ended);
    c = world_connect(w);
    peer_send_bytes(c, v2, sizeof v2 - 1);
    world_run(w, 1000);
    assert_true(peer_has(c, "HTTP/1.1 400 "));
    assert_true(c->ended);
    assert_int_equal(w->origins[0].accepted, 0);
    assert_int_equal(worker_counter(w, PROXY_WORKER_REJECTED), 2);
    assert_true(peer_has(world_ask(w, REQUEST), "hello"));
}

// Behind one proxy each client has a share of its own.
TEST(limits_are_the_told_clients)
{
    w->plan.clients_per_site = 2;
    want_headers();
    for (int i = 0; i < 2; i++)
        assert_true(peer_has(world_ask(w, TOLD REQUEST), "hello"));
    struct peer *c = world_ask(w, TOLD REQUEST);
    assert_true(peer_has(c, "HTTP/1.1 503 "));
    assert_true(c->ended);
    assert_int_equal(worker_counter(w, PROXY_WORKER_REFUSED), 1);
    assert_true(peer_has(world_ask(w, "PROXY TCP4 203.0.113.8 192.0.2.1 40001 443\r\n" REQUEST), "hello"));
    peer_close(w->peers[0]);
    world_run(w, 100);
    assert_true(peer_has(world_ask(w, TOLD REQUEST), "hello"));
}

TEST(operators_are_known_by_the_told_address)
{
    static const struct proxy_network operators = {.bytes = {203, 0, 113, 0}, .bits = 24};
    w->plan.operators = &operators;
    w->plan.operator_count = 1;
    want_headers();
    world_ask(w, TOLD "GET / HTTP/1.1\r\nHost: shop\r\nX-Sluice-Version: v2\r\n\r\n");
    assert_int_equal(w->origins[1].requests + w->origins[1].accepted > 0, 1);
    world_ask(w, "PROXY TCP4 198.51.100.1 192.0.2.1 1 443\r\n"
                 "GET / HTTP/1.1\r\nHost: shop\r\nX-Sluice-Version: v2\r\n\r\n");
    assert_int_equal(version_counter(w, 1, PROXY_VERSION_REQUESTS), 1);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_REQUESTS), 1);
}
