// SPDX-License-Identifier: Apache-2.0
// What a rollout needs of the proxy: the split it was told, evidence that adds up, tables that come and go
// under load without a request lost, identities under every fault the simulated network has.
#include "proxy_world.h"
#include "test.h"

static const char GET[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

struct totals {
    struct rollout_counts arms[ROLLOUT_ARMS];
    uint64_t spans;
};

static void gather(struct world *w, struct totals *totals)
{
    struct rollout_span_delta out[16];
    bool more = true;
    while (more) {
        uint32_t told = proxy_gather_spans(w->proxy, 0, out, ARRAY_LEN(out), &more);
        totals->spans += told;
        for (uint32_t i = 0; i < told; i++)
            for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
                totals->arms[arm].routed += out[i].arms[arm].routed;
                totals->arms[arm].completed += out[i].arms[arm].completed;
                totals->arms[arm].excused += out[i].arms[arm].excused;
                totals->arms[arm].errors += out[i].arms[arm].errors;
                totals->arms[arm].error_events += out[i].arms[arm].error_events;
                totals->arms[arm].good += out[i].arms[arm].good;
                totals->arms[arm].units += out[i].arms[arm].units;
            }
    }
}

static void gather_all(struct world *w, struct totals *totals)
{
    for (int i = 0; i < 5; i++) { // the first ones wake the worker, which sleeps
        gather(w, totals);
        world_run(w, 100);
    }
}

TEST(split_follows_the_weight)
{
    struct world *w = world_create();
    w->service.weight = 25000;
    w->service.control = 2;
    w->service.weight_control = 25000;
    w->origins[1].reply = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";
    world_publish(w);
    struct peer *c = world_connect(w);
    for (int i = 0; i < 2000; i++) {
        peer_send(c, GET);
        world_run(w, 2);
        c->len = 0;
        for (int k = 0; k < 3; k++)
            for (uint32_t p = 0; p < w->origins[k].accepted; p++)
                peer_clear(w->origins[k].peers[p]);
    }
    struct totals totals = {0};
    gather_all(w, &totals);
    assert_true(totals.spans >= 40);
    uint64_t sum = 0;
    for (uint16_t arm = 0; arm < ROLLOUT_ARMS; arm++) {
        const struct rollout_counts *counts = &totals.arms[arm];
        assert_int_equal(counts->routed, version_counter(w, arm, PROXY_VERSION_REQUESTS));
        assert_int_equal(counts->completed, counts->routed);
        assert_int_equal(counts->units, counts->routed);
        assert_int_equal(counts->good, version_counter(w, arm, PROXY_VERSION_GOOD));
        assert_int_equal(counts->errors, version_counter(w, arm, PROXY_VERSION_ERRORS));
        sum += counts->routed;
    }
    assert_int_equal(sum, 2000);
    assert_in_range(totals.arms[ROLLOUT_ARM_CANARY].routed, 420, 580);
    assert_in_range(totals.arms[ROLLOUT_ARM_CONTROL].routed, 420, 580);
    assert_int_equal(totals.arms[ROLLOUT_ARM_CANARY].errors, totals.arms[ROLLOUT_ARM_CANARY].routed);
    assert_int_equal(totals.arms[ROLLOUT_ARM_CANARY].good, 0);
    assert_int_equal(totals.arms[ROLLOUT_ARM_STABLE].good, totals.arms[ROLLOUT_ARM_STABLE].routed);
    struct stats_histogram latency;
    proxy_version_latency(w->proxy, 1, &latency);
    assert_int_equal(latency.count, totals.arms[ROLLOUT_ARM_CANARY].routed);
    assert_in_range(stats_histogram_quantile(&latency, 0.5), 200, 1000);
    world_destroy(w);
}

// Which requests failed is known by route and address, only while a weight is shared out, and only of one
// epoch.
TEST(failures_are_named)
{
    struct world *w = world_create();
    w->plan.trusted_hops = 1;
    w->service.weight = 0;
    w->origins[0].reply = w->origins[1].reply = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";
    world_publish(w);
    struct peer *c = world_connect(w);
    static const char POST[] = "POST /v2/orders/17/items?token=secret HTTP/1.1\r\nHost: h\r\n"
                               "X-Forwarded-For: 203.0.113.9, 192.0.2.8\r\nContent-Length: 0\r\n\r\n";
    peer_send(c, POST);
    world_run(w, 10);
    struct rollout_failures *failures = heap_alloc(1, sizeof *failures);
    proxy_failures(w->proxy, 0, failures);
    assert_int_equal(failures->kinds[ROLLOUT_FAILING_ERRORS].arms[ROLLOUT_ARM_STABLE], 0);
    w->service.weight = 100000;
    w->service.epoch = 7;
    world_publish(w);
    peer_send(c, POST);
    peer_send(c, POST);
    world_run(w, 10);
    proxy_failures(w->proxy, 0, failures);
    const struct rollout_failed *failed = &failures->kinds[ROLLOUT_FAILING_ERRORS];
    assert_int_equal(failed->arms[ROLLOUT_ARM_CANARY], 2);
    const struct rollout_failure *top[ROLLOUT_FAILURES_SHOWN];
    assert_int_equal(rollout_failures_top(failed->routes, top), 1);
    assert_string_equal(top[0]->what, "POST /v2/orders/{}/items 500");
    assert_int_equal(rollout_failures_top(failed->addresses, top), 1);
    assert_string_equal(top[0]->what, "192.0.2.8");
    w->origins[1].reply = "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n";
    w->service.yardstick.edges.requests = 1;
    w->service.yardstick.worse_us[2] = 1;
    w->service.epoch = 8;
    world_publish(w);
    peer_send(c, "GET /a/very-long-segment-that-is-no-word/b/c/d/e/f/g HTTP/1.1\r\nHost: h\r\n\r\n");
    world_run(w, 10);
    proxy_failures(w->proxy, 0, failures);
    assert_int_equal(failures->kinds[ROLLOUT_FAILING_ERRORS].arms[ROLLOUT_ARM_CANARY], 0); // of the old epoch
    assert_int_equal(rollout_failures_top(failures->kinds[ROLLOUT_FAILING_REFUSED].routes, top), 1);
    assert_string_equal(top[0]->what, "GET /a/{}/b/c/d/... 401");
    assert_int_equal(rollout_failures_top(failures->kinds[ROLLOUT_FAILING_SLOW].routes, top), 1);
    assert_string_equal(top[0]->what, "GET /a/{}/b/c/d/...");
    heap_free(failures);
    world_destroy(w);
}

// The route that is noted of a request for that target, which fails in the canary's arm.
static void expect_route(struct world *w, const char *target, const char *expected)
{
    char request[256], what[ROLLOUT_FAILURE_BYTES];
    w->service.epoch++;
    world_publish(w);
    struct peer *c = world_connect(w);
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", target);
    peer_send(c, request);
    world_run(w, 10);
    struct rollout_failures *failures = heap_alloc(1, sizeof *failures);
    const struct rollout_failure *top[ROLLOUT_FAILURES_SHOWN];
    proxy_failures(w->proxy, 0, failures);
    assert_int_equal(rollout_failures_top(failures->kinds[ROLLOUT_FAILING_ERRORS].routes, top), 1);
    snprintf(what, sizeof what, "GET %s 500", expected);
    assert_string_equal(top[0]->what, what);
    heap_free(failures);
}

static struct world *world_that_fails(void)
{
    struct world *w = world_create();
    w->service.weight = 100000;
    w->origins[1].reply = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";
    return w;
}

TEST(words_of_paths_are_noted_and_tokens_are_not)
{
    static const char *const words[] = {"/orders/line-items/construct",
                                        "/shop.CartService/GetItem",
                                        "/api/v1/css",
                                        "/api2/oauth2/v12",
                                        "/checkoutV2/orders-v3",
                                        "/static/index.html",
                                        "/authentication/Users",
                                        "/facade",
                                        "/"};
    static const char *const tokens[] = {
        "dGhpc2lzc2VjcmV0",     // base64
        "aBcDeFgHiJkL",         // letters of both cases
        "AbCdEfGh",             //
        "deadbeef",             // hex, letters alone
        "c0ffee",               // and with digits
        "JBSWYDPEHPKPXP",       // base32
        "k3j9x",                // digits between letters
        "qwrtpsdfgh",           // no vowels
        "user=ann",             //
        "a+b",                  //
        "reset-9f8a7b6c",       // behind a word
        "ann@shop.example",     //
        "sk_live_xBkQzTrWpLmN", //
        "2026-11-28",           //
        "v12345",               //
        "v123",                 // no number of a version
        "user17",               // an id behind a name
        "u7",                   //
        "cafe7",                // hex that ends in a digit
        "xkqz4",                // no vowel
        "translations4",        // too long
        "aBcDV2",               // letters of both cases, with a version
        "%61bc",                //
    };
    struct world *w = world_that_fails();
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        expect_route(w, words[i], words[i]);
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
        char target[64];
        snprintf(target, sizeof target, "/reset/%s/now?%s", tokens[i], tokens[i]);
        expect_route(w, target, "/reset/{}/now");
    }
    world_destroy(w);
}

TEST(no_path_is_noted_where_the_file_says_so)
{
    struct world *w = world_that_fails();
    w->plan.paths_untold = true;
    expect_route(w, "/orders/17", "/...");
    world_destroy(w);
}

TEST(units_stay_and_count_once)
{
    struct world *w = world_create();
    w->service.weight = 50000;
    w->service.unit = PROXY_UNIT_COOKIE;
    w->service.unit_name = "sid";
    w->service.yardstick.error_window_us = 10000000;
    w->origins[1].reply = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";
    world_publish(w);
    struct peer *c = world_connect(w);
    for (int round = 0; round < 4; round++) {
        for (int user = 0; user < 40; user++) {
            char text[128];
            snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: h\r\nCookie: a=b; sid=u%d\r\n\r\n", user);
            peer_send(c, text);
            world_run(w, 2);
        }
        world_run(w, 1000);
    }
    struct totals totals = {0};
    gather_all(w, &totals);
    const struct rollout_counts *canary = &totals.arms[ROLLOUT_ARM_CANARY];
    assert_int_equal(canary->routed + totals.arms[ROLLOUT_ARM_STABLE].routed, 160);
    assert_int_equal(canary->units + totals.arms[ROLLOUT_ARM_STABLE].units, 40);
    // Each of the canary's users came four times, failed four times, and is one event.
    assert_int_equal(canary->routed, canary->units * 4);
    assert_int_equal(canary->errors, canary->routed);
    assert_int_equal(canary->error_events, canary->units);
    // After the window it counts again.
    world_run(w, 10000);
    for (int user = 0; user < 40; user++) {
        char text[128];
        snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: h\r\nCookie: sid=u%d\r\n\r\n", user);
        peer_send(c, text);
        world_run(w, 2);
    }
    gather_all(w, &totals);
    assert_int_equal(canary->error_events, canary->units * 2);
    world_destroy(w);
}

TEST(sticky_cookie)
{
    struct world *w = world_create();
    w->service.weight = 50000;
    w->service.unit = PROXY_UNIT_STICKY;
    w->service.unit_name = "lane";
    w->service.epoch = 1;
    w->origins[1].reply = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary";
    world_publish(w);
    for (int i = 0; i < 20; i++) {
        struct peer *c = world_ask(w, GET);
        char *set = strstr(c->got, "Set-Cookie: lane=");
        assert_non_null(set);
        char text[256];
        snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: h\r\nCookie: lane=%.50s\r\n\r\n", set + 17);
        bool canary = peer_has(c, "canary");
        for (int k = 0; k < 5; k++) {
            peer_clear(c);
            peer_send(c, text);
            world_run(w, 10);
            assert_int_equal(peer_has(c, "canary"), canary);
            assert_false(peer_has(c, "Set-Cookie"));
        }
        // A forged one is replaced.
        peer_clear(c);
        char *mac = strstr(text, "\r\n\r\n") - 1;
        *mac = *mac == '0' ? '1' : '0';
        peer_send(c, text);
        world_run(w, 10);
        assert_true(peer_has(c, "Set-Cookie: lane="));
        peer_close(c);
    }
    world_destroy(w);
}

TEST(forced_version)
{
    struct world *w = world_create();
    w->origins[2].reply = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npreview";
    struct peer *c = world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\nX-Sluice-Version: v3\r\n\r\n");
    // Nobody is an operator yet.
    assert_true(peer_has(c, "hello"));
    assert_false(peer_has(w->origins[0].peers[0], "X-Sluice"));
    static const struct proxy_network everywhere[2] = {{.bits = 0}, {.bytes = {203, 0, 113}, .bits = 24}};
    w->plan.operators = &everywhere[1];
    w->plan.operator_count = 1;
    world_publish(w);
    c = world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\nX-Sluice-Version: v3\r\n\r\n");
    assert_true(peer_has(c, "hello"));
    w->plan.operators = &everywhere[0];
    world_publish(w);
    c = world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\nX-Sluice-Version: v3\r\n\r\n");
    assert_true(peer_has(c, "preview"));
    assert_int_equal(version_counter(w, 2, PROXY_VERSION_FORCED), 1);
    c = world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\nX-Sluice-Version: nonsense\r\n\r\n");
    assert_true(peer_has(c, "hello"));
    // What was not drawn by lot is no evidence.
    struct totals totals = {0};
    gather_all(w, &totals);
    assert_int_equal(totals.arms[ROLLOUT_ARM_STABLE].routed, 3);
    world_destroy(w);
}

TEST(endpoint_goes_away)
{
    struct world *w = world_create();
    struct peer *c = world_ask(w, GET);
    assert_false(w->origins[0].peers[0]->closed);
    // Same version, other endpoint: the idle connection to the old one is closed, the new one is used.
    struct proxy_endpoint_plan other = w->endpoints[3];
    other.slot = 20;
    w->versions[0].endpoints = &other;
    world_publish(w);
    world_run(w, 10);
    assert_true(w->origins[0].peers[0]->closed);
    peer_send(c, GET);
    world_run(w, 100);
    assert_int_equal(w->origins[3].accepted, 1);
    // A change of weight alone keeps the pool.
    w->service.weight = 1;
    world_publish(w);
    world_run(w, 10);
    assert_false(w->origins[3].peers[0]->closed);
    // The service goes away under a running request: it ends as it began.
    w->origins[3].reply = "";
    peer_clear(c);
    peer_send(c, GET);
    world_run(w, 100);
    w->plan.service_count = 0;
    w->plan.route_count = 0;
    world_publish(w);
    peer_send(w->origins[3].peers[0], HELLO);
    world_run(w, 100);
    assert_true(peer_has(c, "hello"));
    peer_send(c, GET);
    world_run(w, 100);
    assert_true(peer_has(c, "HTTP/1.1 404"));
    world_destroy(w);
}

// A slot that comes back may mean another address: a connection to the old one must not serve it.
TEST(slots_come_back_clean)
{
    struct world *w = world_create();
    w->origins[0].reply = "";
    struct peer *c = world_ask(w, GET);
    struct proxy_endpoint_plan mine = w->endpoints[0], other = w->endpoints[3];
    other.slot = 20;
    w->versions[0].endpoints = &other;
    world_publish(w);
    mine.addr = w->origins[2].addr;
    w->versions[0].endpoints = &mine;
    world_publish(w);
    peer_send(w->origins[0].peers[0], HELLO);
    world_run(w, 100);
    assert_true(peer_has(c, "hello"));
    peer_send(c, GET);
    world_run(w, 100);
    assert_int_equal(peer_count_of(c, "hello"), 2);
    assert_int_equal(w->origins[2].accepted, 1);
    world_destroy(w);
}

static void serve_without_end(struct peer *peer)
{
    if (strstr(peer->got, "Upgrade: echo") != NULL)
        peer_send(peer, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    else if (strstr(peer->got, "/events") != NULL)
        peer_send(peer, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
}

// A version that was taken back serves nobody beyond the time it is given, whatever was under way.
TEST(long_streams_leave_with_their_version)
{
    struct world *w = world_create();
    w->origins[1].serve = serve_without_end;
    w->service.weight = ROLLOUT_WEIGHT_FULL;
    world_publish(w);
    struct peer *socket =
        world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    struct peer *events = world_ask(w, "GET /events HTTP/1.1\r\nHost: h\r\n\r\n");
    struct peer *silent = world_ask(w, "GET /silent HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_true(peer_has(socket, "101 Switching") && peer_has(events, "data: 1"));
    w->service.weight = 0;
    w->service.canary_leaves = true;
    w->service.canary_leave_ms = 2000;
    world_publish(w);
    world_run(w, 1900);
    assert_false(socket->ended || events->ended || silent->len > 0);
    world_run(w, 200);
    assert_true(socket->ended && !socket->reset);
    assert_true(events->reset); // it must not look complete
    assert_true(peer_has(silent, "HTTP/1.1 503"));
    assert_int_equal(worker_counter(w, PROXY_WORKER_DRAINED), 3);
    assert_int_equal(version_counter(w, 1, PROXY_VERSION_ERRORS), 0);
    world_destroy(w);
}

// The first version leaves under requests of every kind. Each of them holds its slot until it has counted its
// last; then the slot is as if nobody had ever had it.
TEST(a_version_is_over_with_its_last_request)
{
    struct world *w = world_create();
    w->origins[0].serve = serve_without_end;
    w->plan.drain_ms = 600000;
    world_publish(w);
    struct peer *socket =
        world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    struct peer *events = world_ask(w, "GET /events HTTP/1.1\r\nHost: h\r\n\r\n");
    struct peer *left = world_ask(w, "GET /silent HTTP/1.1\r\nHost: h\r\n\r\n");
    struct peer *slow = world_ask(w, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
    w->service.versions = &w->versions[1];
    w->service.version_count = 3;
    w->service.canary = PROXY_VERSION_NONE;
    world_publish(w);
    assert_true(peer_has(world_ask(w, GET), "hello"));
    assert_false(proxy_version_over(w->proxy, 0));
    peer_close(left);
    world_run(w, 100);
    assert_false(proxy_version_over(w->proxy, 0));
    peer_close(w->origins[0].peers[1]);
    world_run(w, 100);
    assert_true(peer_has(events, "\r\n0\r\n\r\n"));
    assert_false(proxy_version_over(w->proxy, 0));
    world_run(w, 40000);
    assert_true(peer_has(slow, "HTTP/1.1 408"));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_COMPLETED), 4);
    assert_false(proxy_version_over(w->proxy, 0)); // the tunnel runs on
    uint64_t bytes = version_counter(w, 0, PROXY_VERSION_BYTES_OUT);
    peer_send(w->origins[0].peers[0], "pong");
    world_run(w, 100);
    peer_close(socket);
    world_run(w, 100);
    assert_true(proxy_version_over(w->proxy, 0));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_BYTES_OUT), bytes + 4);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_REQUESTS), 4);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_LOCAL_4XX), 1);
    assert_int_equal(version_counter(w, 1, PROXY_VERSION_REQUESTS), 1);
    world_check_identities(w);

    uint64_t answers = worker_counter(w, PROXY_WORKER_ANSWERED);
    world_forget_version(w, 0);
    w->versions[0].name = "v9";
    w->versions[0].endpoints = &w->endpoints[2];
    w->service.versions = w->versions;
    w->service.version_count = 1;
    world_publish(w);
    for (int k = 0; k < PROXY_VERSION_COUNTERS; k++)
        assert_int_equal(version_counter(w, 0, (enum proxy_version_counter)k), 0);
    assert_true(peer_has(world_ask(w, GET), "hello"));
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_REQUESTS), 1);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_STATUS_2XX), 1);
    assert_int_equal(worker_counter(w, PROXY_WORKER_ANSWERED), answers + 1);
    struct stats_histogram latency;
    proxy_version_latency(w->proxy, 0, &latency);
    assert_int_equal(latency.count, 1);
    world_destroy(w);
}

// A service's slot begins with no span, no unit and no failure of the one that had it.
TEST(a_service_leaves_nothing_in_its_slot)
{
    struct world *w = world_create();
    static const char ASK[] = "GET / HTTP/1.1\r\nHost: h\r\nCookie: sid=ann\r\n\r\n";
    w->service.weight = 50000;
    w->service.unit = PROXY_UNIT_COOKIE;
    w->service.unit_name = "sid";
    w->origins[0].reply = w->origins[1].reply = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";
    world_publish(w);
    world_ask(w, ASK);
    w->plan.service_count = w->plan.route_count = 0;
    world_publish(w);
    for (uint16_t i = 0; i < ORIGINS_MAX; i++)
        world_forget_version(w, i);
    proxy_service_forget(w->proxy, 0);
    w->plan.service_count = w->plan.route_count = 1;
    w->service.name = "cart";
    world_publish(w);
    struct rollout_failures *failures = heap_alloc(1, sizeof *failures);
    proxy_failures(w->proxy, 0, failures);
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        assert_int_equal(failures->kinds[ROLLOUT_FAILING_ERRORS].arms[arm], 0);
    heap_free(failures);
    world_ask(w, ASK);
    struct totals totals = {0};
    gather_all(w, &totals);
    uint64_t routed = 0, units = 0;
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
        routed += totals.arms[arm].routed;
        units += totals.arms[arm].units;
    }
    assert_int_equal(routed, 1);
    assert_int_equal(units, 1); // ann is new here
    world_destroy(w);
}

TEST(long_streams_leave_with_their_endpoint)
{
    struct world *w = world_create();
    w->origins[0].serve = serve_without_end;
    w->plan.drain_ms = 3000;
    struct peer *socket =
        world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    world_publish(w);
    world_run(w, 10000);
    assert_false(socket->ended);
    struct proxy_endpoint_plan other = w->endpoints[3];
    other.slot = 20;
    w->versions[0].endpoints = &other;
    world_publish(w);
    world_run(w, 2900);
    assert_false(socket->ended);
    world_run(w, 200);
    assert_true(socket->ended && !socket->reset);
    world_destroy(w);
}

// A thousand changes of weight under load: every answer comes, none is wrong.
TEST(thousand_tables)
{
    struct world *w = world_create();
    struct peer *c[20];
    for (int i = 0; i < 20; i++)
        c[i] = world_connect(w);
    struct totals totals = {0};
    for (uint32_t k = 0; k < 1000; k++) {
        for (int i = 0; i < 20; i++)
            if ((k + (uint32_t)i) % 3 == 0) {
                peer_send(c[i], GET);
                c[i]->requests++;
            }
        w->service.weight = k * 7919 % (ROLLOUT_WEIGHT_FULL + 1);
        world_publish(w);
        if (k % 10 == 0)
            gather(w, &totals);
    }
    world_run(w, 1000);
    gather_all(w, &totals);
    uint32_t sent = 0;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(peer_count_of(c[i], "HTTP/1.1 200"), c[i]->requests);
        sent += c[i]->requests;
    }
    assert_int_equal(totals.arms[0].routed + totals.arms[1].routed, sent);
    assert_int_equal(totals.arms[0].good + totals.arms[1].good, sent);
    assert_int_equal(totals.arms[0].errors + totals.arms[1].errors, 0);
    world_destroy(w);
}

static void serve_moods(struct peer *peer)
{
    char *end;
    while (!peer->closed && (end = strstr(peer->got + peer->used, "\r\n\r\n")) != NULL) {
        peer->used = (size_t)(end + 4 - peer->got);
        switch (peer->origin->requests++ * 2654435761u >> 28) {
        case 0:
            peer_close(peer);
            break;
        case 1:
            peer_send(peer, "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno");
            break;
        case 2:
            peer_send(peer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
            break;
        case 3:
            peer_send(peer, "nonsense\r\n\r\n");
            break;
        case 4:
            peer_send(peer, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort");
            break;
        case 5:
            break; // silence
        default:
            peer_send(peer, HELLO);
        }
    }
}

static uint64_t storm(uint64_t seed)
{
    struct io_sim_config sim = {.seed = seed,
                                .latency_us_min = 50,
                                .latency_us_max = 20000,
                                .stall_ppm = 5000,
                                .stall_us_max = 3000000,
                                .reset_ppm = 4000,
                                .refuse_ppm = 30000,
                                .fragment_ppm = 200000};
    struct proxy_config config = {0};
    struct world *w = world_create_with(&sim, &config);
    w->service.weight = 30000;
    w->service.timeouts = (struct proxy_timeouts){.first_byte_ms = 1000, .idle_ms = 1000};
    for (int i = 0; i < ORIGINS_MAX; i++)
        w->origins[i].serve = serve_moods;
    world_publish(w);
    struct totals totals = {0};
    for (uint32_t k = 0; k < 200; k++) {
        struct peer *c = world_connect(w);
        switch ((k * 2654435761u + seed) % 6) {
        case 0:
            peer_send(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n");
            peer_send(c, "abcd");
            peer_send(c, GET);
            break;
        case 1:
            peer_send(c,
                      "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n");
            break;
        case 2:
            peer_send(c, "GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n");
            break;
        default:
            for (int i = 0; i < 5; i++)
                peer_send(c, GET);
        }
        world_run(w, 30);
        if (k % 16 == 7 && !c->closed) {
            io_stream_abort(&c->stream);
            c->closed = true;
        }
        if (k % 20 == 0)
            world_publish(w);
        gather(w, &totals);
    }
    world_run(w, 90000);
    gather_all(w, &totals);
    world_check_identities(w);
    for (int arm = 0; arm < 2; arm++) {
        // Who left before he had sent all, or sent it while the table changed, is evidence of nothing.
        uint64_t requests = version_counter(w, (uint16_t)arm, PROXY_VERSION_REQUESTS);
        assert_in_range(totals.arms[arm].routed, requests * 8 / 10, requests);
        assert_int_equal(totals.arms[arm].completed + totals.arms[arm].excused, totals.arms[arm].routed);
        assert_true(totals.arms[arm].errors <= version_counter(w, (uint16_t)arm, PROXY_VERSION_ERRORS));
        // An answer counts as it begins, whatever its body does later.
        assert_true(totals.arms[arm].good >= version_counter(w, (uint16_t)arm, PROXY_VERSION_GOOD) * 8 / 10);
        assert_true(totals.arms[arm].errors > 0);
    }
    uint64_t hash = io_sim_trace_hash(w->sim);
    assert_true(worker_counter(w, PROXY_WORKER_CUT) > 0);
    world_destroy(w);
    return hash;
}

TEST(identities_hold_in_a_storm)
{
    for (uint64_t seed = 1; seed <= 20; seed++)
        assert_true(storm(seed) == storm(seed));
}

// The n-th allocation fails, for every n until none does: a status, and nothing is left behind.
TEST(torture_creation)
{
    struct world *w = world_create();
    for (long n = 0;; n++) {
        struct proxy_config config = {.workers = 2};
        struct proxy *proxy;
        heap_fail_after(n);
        enum status status = proxy_create(&config, &proxy);
        heap_fail_after(-1);
        if (status == STATUS_OK) {
            proxy_destroy(proxy);
            assert_true(n >= 3);
            break;
        }
        assert_int_equal(status, STATUS_NO_MEMORY);
    }
    // A table whose slots have no room stays the caller's, and the old one in force.
    struct proxy_table *table;
    struct fault why;
    w->plan.version = ++w->table_version;
    w->service.slot = 9;
    assert_int_equal(proxy_table_build(&w->plan, &table, &why), STATUS_OK);
    heap_fail_after(0);
    assert_int_equal(proxy_publish(w->proxy, table), STATUS_NO_MEMORY);
    heap_fail_after(-1);
    assert_true(peer_has(world_ask(w, GET), "200 OK"));
    assert_int_equal(proxy_publish(w->proxy, table), STATUS_OK);
    world_destroy(w);
}

// The time in which we wait for the client is nobody's, and a body that streams for long has been answered.
TEST(latency_is_the_origins_alone)
{
    struct world *w = world_create();
    w->service.weight = 0;
    w->service.yardstick.edges =
        (struct rollout_edges){.requests = 1000, .edge_us = {50000, 60000, 70000, 80000}};
    for (int k = 0; k < ROLLOUT_EDGES; k++)
        w->service.yardstick.worse_us[k] = w->service.yardstick.margin_us[k] = 100000;
    world_publish(w);
    struct peer *c = world_connect(w);
    peer_send(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\na");
    world_run(w, 1500);
    struct totals totals = {0};
    gather_all(w, &totals);
    assert_int_equal(totals.arms[ROLLOUT_ARM_STABLE].routed, 0); // not before it is sent
    peer_send(c, "bcd");
    world_run(w, 1500);
    gather_all(w, &totals);
    const struct rollout_counts *stable = &totals.arms[ROLLOUT_ARM_STABLE];
    assert_int_equal(stable->routed, 1);
    assert_int_equal(stable->completed, 1);
    assert_int_equal(stable->good, 1);
    struct stats_histogram latency;
    proxy_version_latency(w->proxy, 0, &latency);
    assert_int_equal(latency.count, 1);
    assert_true(latency.sum < 50000);
    world_destroy(w);
}
