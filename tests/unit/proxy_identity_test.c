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

// ---- proxies that are believed by their networks

static const struct proxy_network PROXIES[] = {{.bytes = {203, 0, 113, 0}, .bits = 24},
                                               {.bytes = {0x20, 0x01, 0x0d, 0xb8}, .bits = 32, .ipv6 = true}};

static void want_proxies(void)
{
    w->plan.proxies = PROXIES;
    w->plan.proxy_count = ARRAY_LEN(PROXIES);
    want_headers();
}

// What the origin gets of a request with these fields; the peer is as the PROXY header tells.
static const char *told_to_origin(const char *header, const char *fields)
{
    char text[1024];
    snprintf(text, sizeof text, "%sGET / HTTP/1.1\r\nHost: shop\r\n%s\r\n", header, fields);
    struct peer *origin = w->origins[0].accepted > 0 ? w->origins[0].peers[0] : NULL;
    if (origin != NULL)
        peer_clear(origin);
    struct peer *c = world_ask(w, text);
    assert_true(peer_has(c, "hello"));
    return w->origins[0].peers[0]->got;
}

static void expect_in(const char *got, const char *line)
{
    if (strstr(got, line) == NULL)
        fail_msg("no \"%s\" in\n%s", line, got);
}

static void expect_not_in(const char *got, const char *part)
{
    if (strcasestr(got, part) != NULL)
        fail_msg("\"%s\" in\n%s", part, got);
}

TEST(of_a_proxy_the_first_stranger_from_the_right_is_the_client)
{
    static const char *const cases[][2] = {
        {"X-Forwarded-For: 6.6.6.6, 198.51.100.9\r\n", "198.51.100.9, 203.0.113.7"},
        {"X-Forwarded-For: 6.6.6.6, 198.51.100.9, 203.0.113.8\r\n", "198.51.100.9, 203.0.113.8, 203.0.113.7"},
        {"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 198.51.100.9\r\nX-Forwarded-For: [2001:db8::5]:99\r\n",
         "198.51.100.9, [2001:db8::5]:99, 203.0.113.7"},
        {"X-Forwarded-For: 203.0.113.9, 203.0.113.8\r\n", "203.0.113.9, 203.0.113.8, 203.0.113.7"},
        {"X-Forwarded-For: 6.6.6.6, unknown\r\n", "203.0.113.7"},
        {"X-Forwarded-For: 6.6.6.6, x, 203.0.113.8\r\n", "203.0.113.8, 203.0.113.7"},
        {"X-Forwarded-For: ,,\r\n", "203.0.113.7"},
        {"", "203.0.113.7"},
    };
    want_proxies();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char wanted[160];
        snprintf(wanted, sizeof wanted, "X-Forwarded-For: %s\r\n", cases[i][1]);
        expect_in(told_to_origin(TOLD, cases[i][0]), wanted);
    }
    expect_in(
        told_to_origin(TOLD, "X-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\nX-Real-IP: 1.2.3.4\r\n"),
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\nX-Real-IP: 1.2.3.4\r\n");
}

TEST(a_number_of_proxies_is_the_most_that_is_believed)
{
    w->plan.trusted_hops = 2;
    want_proxies();
    expect_in(told_to_origin(TOLD, "X-Forwarded-For: 198.51.100.9, 203.0.113.9, 203.0.113.8\r\n"),
              "X-Forwarded-For: 203.0.113.9, 203.0.113.8, 203.0.113.7\r\n");
}

TEST(what_strangers_forward_is_replaced)
{
    want_proxies();
    const char *got =
        told_to_origin("PROXY TCP4 198.51.100.9 192.0.2.1 40001 443\r\n",
                       "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 203.0.113.1\r\nX-Real-IP: 6.6.6.6\r\n"
                       "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\n"
                       "X-Forwarded-Port: 1\r\nX-Other: 1\r\n");
    expect_in(got, "X-Other: 1\r\nX-Forwarded-For: 198.51.100.9\r\nX-Forwarded-Proto: http\r\n");
    expect_not_in(got, "6.6.6.6");
    expect_not_in(got, "evil");
    expect_not_in(got, "Forwarded-Port");
}

// The unit by address: all requests of one client go one way, whatever else they say.
TEST(strangers_cannot_choose_their_unit)
{
    w->service.unit = PROXY_UNIT_ADDRESS;
    w->service.weight = 50000;
    w->service.epoch = 1;
    want_proxies();
    for (int i = 0; i < 40; i++) {
        char text[300];
        snprintf(
            text, sizeof text,
            "PROXY TCP4 198.51.100.9 192.0.2.1 4%d 443\r\nGET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 6.6.6.%d\r\n\r\n",
            i, i);
        peer_close(world_ask(w, text));
    }
    uint64_t stable = version_counter(w, 0, PROXY_VERSION_REQUESTS),
             canary = version_counter(w, 1, PROXY_VERSION_REQUESTS);
    assert_int_equal(stable + canary, 40);
    assert_true(stable == 0 || canary == 0);
    for (int i = 0; i < 40; i++) {
        char text[300];
        snprintf(text, sizeof text, TOLD "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 6.6.6.%d\r\n\r\n",
                 i);
        peer_close(world_ask(w, text));
    }
    assert_true(version_counter(w, 0, PROXY_VERSION_REQUESTS) > stable);
    assert_true(version_counter(w, 1, PROXY_VERSION_REQUESTS) > canary);
}

TEST(forwarded_is_sent_where_it_is_wanted)
{
    w->plan.forwarded = true;
    want_headers();
    expect_in(told_to_origin(TOLD, ""), "Forwarded: for=203.0.113.7;by=_sluice;proto=http;host=\"shop\"\r\n");
    expect_in(told_to_origin("PROXY TCP6 2001:db8::7 2001:db8::1 1 443\r\n", "Forwarded: for=6.6.6.6\r\n"),
              "Forwarded: for=\"[2001:db8::7]\";by=_sluice;proto=http;host=\"shop\"\r\n");
    expect_not_in(w->origins[0].peers[0]->got, "6.6.6.6");
}

// ---- names of requests

static void want_ids(enum proxy_id_kept kept)
{
    w->plan.request_id = "X-Request-Id";
    w->plan.request_id_kept = kept;
    want_proxies();
}

static const char *id_of(const char *got)
{
    static char id[160];
    const char *at = strstr(got, "X-Request-Id: ");
    assert_non_null(at);
    assert_null(strcasestr(at + 14, "request"));
    snprintf(id, sizeof id, "%.*s", (int)strcspn(at + 14, "\r"), at + 14);
    return id;
}

TEST(each_request_gets_an_id_of_its_own)
{
    char first[160];
    want_ids(PROXY_ID_NOBODYS);
    snprintf(first, sizeof first, "%s", id_of(told_to_origin(TOLD, "")));
    assert_int_equal(strlen(first), 32);
    assert_int_equal(strspn(first, "0123456789abcdef"), 32);
    const char *second = id_of(told_to_origin(TOLD, "x-request-id: mine\r\nX_Request_Id: mine\r\n"));
    assert_int_equal(strlen(second), 32);
    assert_string_not_equal(first, second);
    expect_not_in(w->origins[0].peers[0]->got, "mine");
    // What comes from us is no client's to call off.
    assert_int_equal(strlen(id_of(told_to_origin(TOLD, "Connection: X-Request-Id\r\n"))), 32);
}

TEST(ids_of_proxies_are_kept_where_it_says_so)
{
    want_ids(PROXY_ID_PROXIES);
    assert_string_equal(id_of(told_to_origin(TOLD, "X-Request-Id: Root=1-67:a/b\r\n")), "Root=1-67:a/b");
    assert_int_equal(
        strlen(id_of(told_to_origin("PROXY TCP4 198.51.100.9 192.0.2.1 1 2\r\n", "X-Request-Id: mine\r\n"))),
        32);
}

TEST(ids_that_are_none_are_replaced)
{
    char fields[300], longest[129];
    want_ids(PROXY_ID_ANYBODYS);
    memset(longest, 'x', 128);
    longest[128] = '\0';
    snprintf(fields, sizeof fields, "X-Request-Id: %s\r\n", longest);
    assert_string_equal(id_of(told_to_origin(TOLD, fields)), longest);
    snprintf(fields, sizeof fields, "X-Request-Id: %sx\r\n", longest);
    assert_int_equal(strlen(id_of(told_to_origin(TOLD, fields))), 32);
    static const char *const none[] = {"X-Request-Id: a b\r\n", "X-Request-Id:\r\n",
                                       "X-Request-Id: \"a\"\r\n", "X-Request-Id: a\r\nX-Request-Id: a\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(none); i++)
        assert_int_equal(strlen(id_of(told_to_origin(TOLD, none[i]))), 32);
}

// The trace is its owners': whatever it is, it goes on as it came (W3C Trace Context, 3.2 leaves that to
// those who take part).
TEST(traces_pass_untouched)
{
    static const char sound[] = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
                                "tracestate: a=1,b=2\r\ntracestate: c=3\r\n";
    static const char odd[] = "traceparent: ff-malformed\r\ntraceparent: 00-0-0-0\r\nTraceParent: \r\n";
    want_ids(PROXY_ID_ANYBODYS);
    expect_in(told_to_origin(TOLD, sound), sound);
    const char *got = told_to_origin(TOLD, odd);
    expect_in(got, "traceparent: ff-malformed\r\ntraceparent: 00-0-0-0\r\nTraceParent: \r\n");
    expect_not_in(got, "tracestate");
    expect_not_in(told_to_origin(TOLD, ""), "trace");
}

// ---- origins that are told by PROXY headers

#define OTHER "PROXY TCP4 203.0.113.8 192.0.2.1 40002 443\r\n"

TEST(a_connection_to_an_origin_is_one_clients)
{
    w->versions[0].header = 1;
    want_headers();
    struct peer *one = world_ask(w, TOLD REQUEST), *other = world_ask(w, OTHER REQUEST);
    for (int i = 0; i < 3; i++) {
        peer_send(one, REQUEST);
        peer_send(other, REQUEST);
        world_run(w, 100);
    }
    assert_int_equal(peer_count_of(one, "hello"), 4);
    assert_int_equal(peer_count_of(other, "hello"), 4);
    assert_int_equal(w->origins[0].accepted, 2);
    static const char *const heads[] = {"PROXY TCP4 203.0.113.7 10.1.0.1 40001 8080\r\nGET / HTTP/1.1\r\n",
                                        "PROXY TCP4 203.0.113.8 10.1.0.1 40002 8080\r\nGET / HTTP/1.1\r\n"};
    for (int i = 0; i < 2; i++) {
        const struct peer *origin = w->origins[0].peers[i];
        assert_memory_equal(origin->got, heads[i], strlen(heads[i]));
        assert_int_equal(peer_count_of(origin, "PROXY"), 1);
        assert_int_equal(peer_count_of(origin, i == 0 ? "X-Forwarded-For: 203.0.113.7\r\n"
                                                      : "X-Forwarded-For: 203.0.113.8\r\n"),
                         4);
    }
}

// The same address, another connection: ports tell clients apart, so they must not be another's.
TEST(connections_to_origins_are_told_apart_by_ports)
{
    w->versions[0].header = 1;
    want_headers();
    world_ask(w, TOLD REQUEST);
    world_ask(w, "PROXY TCP4 203.0.113.7 192.0.2.1 40009 443\r\n" REQUEST);
    assert_int_equal(w->origins[0].accepted, 2);
    assert_true(peer_has(w->origins[0].peers[1], "PROXY TCP4 203.0.113.7 10.1.0.1 40009 8080\r\n"));
}

TEST(an_idle_connection_of_another_client_gives_way)
{
    w->versions[0].header = 1;
    w->endpoints[0].connections_max = 1;
    want_headers();
    assert_true(peer_has(world_ask(w, TOLD REQUEST), "hello"));
    assert_true(peer_has(world_ask(w, OTHER REQUEST), "hello"));
    assert_int_equal(w->origins[0].accepted, 2);
    assert_true(w->origins[0].peers[0]->ended);
}

TEST(what_a_proxy_told_is_told_on)
{
    w->versions[0].header = 1;
    want_proxies();
    told_to_origin(TOLD, "X-Forwarded-For: 2001:db9::9\r\n");
    assert_true(peer_has(w->origins[0].peers[0], "PROXY TCP6 2001:db9::9 :: 0 8080\r\n"));
}

// A connection from before the word was in the file has told nothing.
TEST(old_connections_are_not_taken_for_told_ones)
{
    want_headers();
    world_ask(w, TOLD REQUEST);
    w->versions[0].header = 1;
    world_publish(w);
    world_ask(w, TOLD REQUEST);
    assert_int_equal(w->origins[0].accepted, 2);
    assert_true(peer_has(w->origins[0].peers[1], "PROXY TCP4 203.0.113.7 "));
    w->versions[0].header = 0;
    world_publish(w);
    world_ask(w, TOLD REQUEST);
    assert_int_equal(w->origins[0].accepted, 3);
    assert_false(peer_has(w->origins[0].peers[2], "PROXY"));
}
