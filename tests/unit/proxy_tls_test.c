// SPDX-License-Identifier: Apache-2.0
// Origins behind TLS, in virtual time: who is believed, what a failure is counted as and whether it is tried
// again, how long a handshake may take, pools when the way to speak changes, ends with and without a word.
#include "folder.h"
#include "net/proxy/secure.h"
#include "proxy_world.h"

static const char GET[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

static struct {
    char folder[FOLDER_PATH_BYTES];
    struct tls_tickets *tickets;
    struct tls_counts origins, served;
    struct proxy_tls *tls;
    struct tls_server *good, *other;
} secure;

static const char *file(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", secure.folder, name);
    return path;
}

static const char *const *agreeable; // what origins agree to by ALPN; NULL: to nothing

static struct tls_server *serve(const char *stem, const char *const *names)
{
    char certificate[32], key[32];
    struct fault fault;
    struct tls_server *made;
    snprintf(certificate, sizeof certificate, "%s.pem", stem);
    snprintf(key, sizeof key, "%s.key", stem);
    assert_int_equal(tls_self_signed(names, 30, file(certificate), file(key), &fault), STATUS_OK);
    struct tls_identity identity = {file(certificate), file(key), NULL};
    assert_int_equal(
        tls_server_create(
            &(struct tls_server_config){.identities = &identity, .identity_count = 1, .alpn = agreeable},
            secure.tickets, &secure.served, &made, &fault),
        STATUS_OK);
    return made;
}

// One way to speak to origins: the issuer good.pem is believed. mark: how its file looks.
static void speak(struct world *w, uint64_t mark)
{
    struct fault fault;
    struct tls_client_config config = {.verify = true, .ca = file("good.pem")};
    struct proxy_origin_plan origin = {.key = 7, .files = mark, .config = &config};
    struct proxy_tls *before = secure.tls;
    struct proxy_tls_plan plan = {.origins = &origin,
                                  .origin_count = 1,
                                  .workers = 1,
                                  .before = before,
                                  .tickets = secure.tickets,
                                  .client_counts = &secure.served,
                                  .origin_counts = &secure.origins};
    assert_int_equal(proxy_tls_create(&plan, &secure.tls, &fault), STATUS_OK);
    proxy_tls_release(before);
    w->plan.tls = secure.tls;
}

static void secure_begin(void)
{
    memset(&secure, 0, sizeof secure);
    folder_make(secure.folder);
    assert_int_equal(tls_tickets_create(&secure.tickets), STATUS_OK);
    secure.good = serve("good", (const char *const[]){"shop.example", "10.0.0.1", NULL});
}

static struct world *secure_world(void)
{
    secure_begin();
    secure.other = serve("other", (const char *const[]){"shop.example", NULL});
    struct world *w = world_create();
    w->origins[0].tls = secure.good;
    w->versions[0].secure = true;
    speak(w, 1);
    world_publish(w);
    return w;
}

static void secure_destroy(struct world *w)
{
    world_destroy(w);
    proxy_tls_release(secure.tls);
    tls_server_destroy(secure.good);
    tls_server_destroy(secure.other);
    tls_tickets_destroy(secure.tickets);
    folder_remove(secure.folder);
}

static void assert_failed(struct world *w, const struct peer *client, const char *why, uint64_t attempts)
{
    struct proxy_event event;
    assert_true(peer_has(client, "HTTP/1.1 502"));
    assert_true(peer_has(client, "no secure connection to the origin"));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_TLS), attempts);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), attempts);
    assert_int_equal(proxy_events_take(w->proxy, &event, 1), 1);
    assert_int_equal(event.kind, PROXY_EVENT_UPSTREAM);
    assert_string_equal(event.reason, why);
}

TEST(connections_are_kept)
{
    struct world *w = secure_world();
    for (int i = 0; i < 3; i++)
        assert_true(peer_has(world_ask(w, GET), "hello"));
    assert_int_equal(w->origins[0].accepted, 1);
    assert_int_equal(secure.origins.handshakes[TLS_1_3][0], 1);
    // An idle one is closed with a word: the origin knows that it was no cut.
    world_run(w, 40000);
    assert_true(w->origins[0].peers[0]->ended && !w->origins[0].peers[0]->reset);
    // The next one resumes.
    assert_true(peer_has(world_ask(w, GET), "hello"));
    assert_int_equal(secure.origins.handshakes[TLS_1_3][1], 1);
    secure_destroy(w);
}

TEST(the_name_is_the_endpoints)
{
    struct world *w = secure_world();
    w->endpoints[0].name = SLICE("shop.example");
    world_publish(w);
    assert_true(peer_has(world_ask(w, GET), "hello"));
    // 10.0.0.2, for which there is no certificate.
    struct proxy_endpoint_plan elsewhere = {.slot = 9, .addr = w->origins[1].addr};
    w->versions[0].endpoints = &elsewhere;
    w->origins[1].tls = secure.good;
    world_publish(w);
    assert_failed(w, world_ask(w, GET), "the peer's certificate is for another address", 3);
    secure_destroy(w);
}

TEST(strangers_are_refused)
{
    struct world *w = secure_world();
    w->origins[0].tls = secure.other;
    assert_failed(w, world_ask(w, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"),
                  "the peer's certificate signs itself, and is not among those believed", 3);
    assert_int_equal(secure.origins.failures[TLS_FAILURE_ISSUER], 3);
    // No byte of a request was sent.
    for (uint32_t i = 0; i < w->origins[0].accepted; i++)
        assert_int_equal(w->origins[0].peers[i]->len, 0);
    secure_destroy(w);
}

// A canary whose handshake fails, or that cannot be spoken to at all, was told nothing of the request.
TEST(what_could_not_be_secured_falls_back)
{
    static const struct proxy_protection rules = {.fallback = true};
    struct world *w = secure_world();
    w->versions[0].secure = false;
    w->origins[0].tls = NULL;
    w->versions[1].secure = true;
    w->origins[1].tls = secure.other;
    w->service.protection = &rules;
    w->service.weight = ROLLOUT_WEIGHT_FULL;
    w->service.epoch = 1;
    world_publish(w);
    assert_true(peer_has(world_ask(w, GET), "HTTP/1.1 200"));
    assert_int_equal(version_counter(w, 1, PROXY_VERSION_ERROR_TLS), 3);
    assert_int_equal(version_counter(w, 1, PROXY_VERSION_FALLBACKS), 1);
    w->versions[1].origin = PROXY_ORIGIN_NONE; // its files cannot be used
    world_publish(w);
    assert_true(peer_has(world_ask(w, GET), "HTTP/1.1 200"));
    assert_int_equal(version_counter(w, 1, PROXY_VERSION_ERROR_TLS), 4);
    assert_int_equal(version_counter(w, 1, PROXY_VERSION_FALLBACKS), 2);
    assert_int_equal(w->origins[0].accepted, 1);
    secure_destroy(w);
}

TEST(in_the_clear_is_refused)
{
    struct world *w = secure_world();
    w->origins[0].tls = NULL;
    w->origins[0].serve = NULL;
    w->origins[0].reply = "";
    struct peer *client = world_connect(w);
    peer_send(client, GET);
    world_run(w, 100);
    peer_send(w->origins[0].peers[0], "HTTP/1.1 400 Bad Request\r\n\r\n");
    world_run(w, 100);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_TLS), 1);
    assert_int_equal(secure.origins.failures[TLS_FAILURE_PROTOCOL], 1);
    assert_false(peer_has(client, "400"));
    struct proxy_event event;
    assert_int_equal(proxy_events_take(w->proxy, &event, 1), 1);
    assert_string_equal(event.reason, "the peer does not speak TLS");
    secure_destroy(w);
}

// The time to connect is that of the handshake too.
TEST(a_handshake_takes_too_long)
{
    struct world *w = secure_world();
    w->origins[0].tls = NULL;
    w->origins[0].reply = "";
    w->service.timeouts.connect_ms = 500;
    w->service.retry.off = true;
    world_publish(w);
    struct peer *client = world_connect(w);
    peer_send(client, GET);
    world_run(w, 490);
    assert_int_equal(client->len, 0);
    world_run(w, 50);
    assert_failed(w, client, "the TLS handshake took too long", 1);
    world_run(w, 100);
    assert_int_equal(secure.origins.failures[TLS_FAILURE_UNFINISHED], 1);
    // Where nobody is there at all it is no matter of TLS.
    origin_unlisten(&w->origins[0]);
    client = world_ask(w, GET);
    assert_true(peer_has(client, "cannot connect to the origin"));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_CONNECT), 1);
    secure_destroy(w);
}

TEST(a_reset_within_the_handshake)
{
    struct world *w = secure_world();
    w->origins[0].tls = NULL;
    w->origins[0].reply = "";
    w->service.retry.off = true;
    world_publish(w);
    struct peer *client = world_connect(w);
    peer_send(client, GET);
    world_run(w, 100);
    io_stream_abort(&w->origins[0].peers[0]->stream);
    w->origins[0].peers[0]->closed = true;
    world_run(w, 100);
    assert_failed(w, client, "the origin reset the connection within the TLS handshake", 1);
    secure_destroy(w);
}

// Without any issuer to believe nobody is asked, least of all in the clear.
TEST(never_in_the_clear)
{
    struct world *w = secure_world();
    proxy_tls_release(secure.tls);
    struct fault fault;
    struct proxy_origin_plan origin = {.key = 7, .config = NULL};
    struct proxy_tls_plan plan = {.origins = &origin, .origin_count = 1, .workers = 1};
    assert_int_equal(proxy_tls_create(&plan, &secure.tls, &fault), STATUS_OK);
    assert_int_equal(proxy_tls_origin(secure.tls, 8), PROXY_ORIGIN_NONE);
    w->plan.tls = secure.tls;
    w->origins[0].tls = NULL;
    world_publish(w);
    assert_failed(w, world_ask(w, GET), "the files of its 'tls' cannot be used", 1);
    assert_int_equal(w->origins[0].accepted, 0);
    secure_destroy(w);
}

// What was begun in another way is used up, but never used again.
TEST(another_way_to_speak)
{
    struct world *w = secure_world();
    w->origins[0].reply = ""; // answered below
    struct peer *under_way = world_ask(w, GET);
    speak(w, 1); // as before: the connection stays
    world_publish(w);
    struct tls_client *same = proxy_tls_client(secure.tls, 0, 0);
    speak(w, 2); // its file has changed
    assert_ptr_not_equal(proxy_tls_client(secure.tls, 0, 0), same);
    world_publish(w);
    peer_send(w->origins[0].peers[0], HELLO);
    world_run(w, 100);
    assert_true(peer_has(under_way, "hello"));
    assert_true(w->origins[0].peers[0]->ended);
    w->origins[0].reply = HELLO;
    assert_true(peer_has(world_ask(w, GET), "hello"));
    assert_int_equal(w->origins[0].accepted, 2);
    assert_int_equal(secure.origins.handshakes[TLS_1_3][0], 2); // nor is its session resumed
    // Idle ones are closed at once, also when it is in the clear from now on, and back.
    w->versions[0].secure = false;
    world_publish(w);
    assert_true(w->origins[0].peers[1]->ended);
    w->origins[0].tls = NULL;
    assert_true(peer_has(world_ask(w, GET), "hello"));
    w->versions[0].secure = true;
    w->origins[0].tls = secure.good;
    world_publish(w);
    assert_true(w->origins[0].peers[2]->ended);
    assert_true(peer_has(world_ask(w, GET), "hello"));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), 0);
    secure_destroy(w);
}

static void answer_and_end(struct peer *peer)
{
    peer_send(peer, "HTTP/1.1 200 OK\r\n\r\nto the end");
    io_stream_finish(&peer->stream);
}

static void answer_and_cut(struct peer *peer)
{
    peer_send(peer, "HTTP/1.1 200 OK\r\n\r\nto the en");
}

TEST(a_body_to_the_end)
{
    struct world *w = secure_world();
    w->origins[0].serve = answer_and_end;
    struct peer *client = world_ask(w, GET);
    assert_true(peer_has(client, "to the end") && peer_has(client, "\r\n0\r\n"));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERRORS), 0);
    w->origins[0].serve = answer_and_cut;
    client = world_ask(w, GET);
    peer_close(w->origins[0].peers[1]); // the end of the connection, without a word of TLS
    world_run(w, 100);
    assert_true(peer_has(client, "to the en") && !peer_has(client, "\r\n0\r\n") && client->reset);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_RESET), 1);
    secure_destroy(w);
}

static void switch_and_echo(struct peer *peer)
{
    if (peer->used == 0)
        peer_send(peer, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    else
        peer_send(peer, peer->got + peer->used);
    peer->used = peer->len;
}

TEST(tunnels)
{
    struct world *w = secure_world();
    w->origins[0].serve = switch_and_echo;
    struct peer *client =
        world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert_true(peer_has(client, "101"));
    peer_send(client, "there and back");
    world_run(w, 100);
    assert_true(peer_has(client, "there and back"));
    speak(w, 2); // new files leave it alone
    world_publish(w);
    peer_send(client, "again");
    world_run(w, 100);
    assert_true(peer_has(client, "again"));
    io_stream_finish(&client->stream);
    world_run(w, 100);
    assert_true(w->origins[0].peers[0]->ended && !w->origins[0].peers[0]->reset);
    secure_destroy(w);
}

// HTTP/2, of which it says its settings only, or what is to become a tunnel.
static void begin_either(struct peer *peer)
{
    static const char SETTINGS[] = "\0\0\0\4\0\0\0\0\0";
    if (strncmp(peer->got, "PRI ", 4) != 0)
        switch_and_echo(peer);
    else if (peer->used == 0)
        peer_send_bytes(peer, SETTINGS, sizeof SETTINGS - 1);
    peer->used = peer->len;
}

// A connection of HTTP/2 that takes more requests is no room for what needs one of its own.
TEST(tunnels_keep_to_the_connections_beside_http2)
{
    static const char UPGRADE[] = "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    agreeable = (const char *const[]){"h2", "http/1.1", NULL};
    struct world *w = secure_world();
    agreeable = NULL;
    w->origins[0].serve = begin_either;
    w->versions[0].http2 = true;
    w->endpoints[0].connections_max = 2;
    world_publish(w);
    (void)world_ask(w, GET);
    assert_true(peer_has(world_ask(w, UPGRADE), "101"));
    assert_int_equal(w->origins[0].accepted, 2);
    assert_true(peer_has(world_ask(w, UPGRADE), "as many connections as allowed"));
    assert_int_equal(w->origins[0].accepted, 2);
    secure_destroy(w);
}

// ---- listeners

// A header that is not read for want of room is no broken handshake.
TEST(a_crowd_behind_proxy_headers_is_no_failure_of_tls)
{
    static const char told[] = "PROXY TCP4 203.0.113.7 192.0.2.1 40001 443\r\n";
    const struct io_sim_config sim = {.seed = 1, .latency_us_min = 100, .latency_us_max = 200};
    const struct proxy_config config = {.listen_secure = 1, .clients_max = 1};
    const struct proxy_header_peers everybody = {.listener = 0, .network = {.bits = 0}};
    struct fault fault;
    secure_begin();
    struct tls_identity identity = {file("good.pem"), file("good.key"), NULL};
    const struct tls_server_config listener = {.identities = &identity, .identity_count = 1};
    const struct tls_server_config *const listeners[] = {&listener};
    const struct proxy_tls_plan plan = {.listeners = listeners,
                                        .listener_count = 1,
                                        .workers = 1,
                                        .tickets = secure.tickets,
                                        .client_counts = &secure.served,
                                        .origin_counts = &secure.origins};
    assert_int_equal(proxy_tls_create(&plan, &secure.tls, &fault), STATUS_OK);
    struct world *w = world_create_with(&sim, &config);
    w->plan.tls = secure.tls;
    w->plan.header_peers = &everybody;
    w->plan.header_peer_count = 1;
    world_publish(w);
    struct peer *first = world_connect(w);
    peer_send(first, "PROXY "); // keeps its place
    world_run(w, 10);
    struct peer *second = world_ask(w, told);
    assert_true(second->ended && second->len == 0);
    assert_int_equal(worker_counter(w, PROXY_WORKER_REFUSED), 1);
    for (int i = 0; i < TLS_FAILURES; i++)
        assert_int_equal(secure.served.failures[i], 0);
    secure_destroy(w);
}
