// SPDX-License-Identifier: Apache-2.0
// Endpoints that are out of use, ejection, the breaker and the fallback in the request path, at exact times;
// and what of it is an error of which version.
#include "proxy_world.h"

#include "net/proxy/protect.h"

static const char GET[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
static const char FAILS[] = "HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n";

static struct world *w;
static struct proxy_protection rules;
static uint64_t served[ORIGINS_MAX];

static void serve(struct peer *peer)
{
    char *end;
    while ((end = strstr(peer->got + peer->used, "\r\n\r\n")) != NULL) {
        peer->used = (size_t)(end + 4 - peer->got);
        served[peer->origin - w->origins]++;
        if (peer->origin->reply != NULL) // else it hangs
            peer_send(peer, peer->origin->reply);
    }
}

// v1 has the first two origins, v2 the others.
static int set_up(void **state)
{
    (void)state;
    w = world_create();
    rules = (struct proxy_protection){.panic = 50000};
    memset(served, 0, sizeof served);
    for (int i = 0; i < ORIGINS_MAX; i++)
        w->origins[i].serve = serve;
    for (int i = 0; i < 2; i++) {
        w->versions[i].endpoints = &w->endpoints[2 * i];
        w->versions[i].endpoint_count = 2;
    }
    w->service.version_count = 2;
    w->service.protection = &rules;
    world_publish(w);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    world_destroy(w);
    return 0;
}
EACH_TEST(set_up, tear_down);

// One client that asks n times, one after the other. Returns how many were answered 200.
static uint32_t ask_paused(int n, uint64_t pause_ms)
{
    struct peer *client = world_connect(w);
    for (int i = 0; i < n; i++) {
        peer_send(client, GET);
        world_run(w, pause_ms);
    }
    return peer_count_of(client, "HTTP/1.1 200");
}

static uint32_t ask(int n)
{
    return ask_paused(n, 5);
}

static void set_health(uint16_t endpoint, enum proxy_endpoint_health health)
{
    proxy_endpoint_health_set(w->proxy, endpoint, health, io_sim_now_us(w->sim));
}

static bool is_out(uint16_t endpoint)
{
    struct proxy_endpoint_view view;
    proxy_endpoint_get(w->proxy, endpoint, &view);
    return view.health != PROXY_ENDPOINT_HEALTHY || view.out_until_us > io_sim_now_us(w->sim);
}

static uint64_t errors_of(uint16_t version, enum proxy_version_counter kind)
{
    return version_counter(w, version, kind);
}

// ---- in use and out ----

TEST(an_unhealthy_endpoint_gets_nothing_and_its_draws_are_errors_of_the_version)
{
    rules.panic = 25000;
    world_publish(w);
    set_health(0, PROXY_ENDPOINT_UNHEALTHY);
    assert_int_equal(ask(400), 400);
    assert_int_equal(served[0], 0);
    assert_int_equal(served[1], 400);
    uint64_t drawn = errors_of(0, PROXY_VERSION_ERROR_EJECTED);
    assert_in_range(drawn, 160, 240); // half of them, by lot
    assert_int_equal(errors_of(0, PROXY_VERSION_ERRORS), drawn);
    assert_int_equal(errors_of(0, PROXY_VERSION_ATTEMPTS), 400); // nothing was tried in vain
    set_health(0, PROXY_ENDPOINT_HEALTHY);
    assert_int_equal(ask(100), 100);
    assert_int_equal(errors_of(0, PROXY_VERSION_ERROR_EJECTED), drawn);
    assert_true(served[0] > 20);
}

TEST(a_new_endpoint_waits_for_its_checks_and_is_no_error)
{
    set_health(0, PROXY_ENDPOINT_NEW);
    assert_int_equal(ask(100), 100);
    assert_int_equal(served[0], 0);
    assert_int_equal(errors_of(0, PROXY_VERSION_ERRORS), 0);
}

TEST(when_too_few_are_in_use_all_are)
{
    rules.panic = 51000; // of two, one is too few
    world_publish(w);
    set_health(0, PROXY_ENDPOINT_UNHEALTHY);
    assert_int_equal(ask(100), 100);
    assert_true(served[0] > 20 && served[1] > 20);
    assert_int_equal(errors_of(0, PROXY_VERSION_ERRORS), 0); // each got what was drawn for it
    rules.panic = 50000;
    world_publish(w);
    served[0] = 0;
    assert_int_equal(ask(100), 100);
    assert_int_equal(served[0], 0);
}

TEST(without_panic_a_version_with_none_in_use_is_unavailable)
{
    rules.panic = 0;
    world_publish(w);
    set_health(0, PROXY_ENDPOINT_UNHEALTHY);
    set_health(1, PROXY_ENDPOINT_UNHEALTHY);
    struct peer *client = world_ask(w, GET);
    assert_true(peer_has(client, "HTTP/1.1 503"));
    assert_true(peer_has(client, "no endpoint is available"));
    assert_int_equal(errors_of(0, PROXY_VERSION_ERROR_UNAVAILABLE), 1);
    assert_int_equal(served[0] + served[1], 0);
}

// ---- ejection ----

static void eject_rules(void)
{
    rules.panic = 0;
    rules.outlier = (struct proxy_outlier){
        .consecutive = 5, .ejection_ms = 30000, .ejection_ms_max = 300000, .at_most = 10000};
    world_publish(w);
}

// Asks until it is out. Returns the time of its last failure to within a millisecond.
static uint64_t ask_until_out(uint16_t endpoint)
{
    for (int i = 0; i < 1000 && !is_out(endpoint); i++)
        ask_paused(1, 1);
    assert_true(is_out(endpoint));
    return io_sim_now_us(w->sim);
}

static void run_until(uint64_t at_us)
{
    world_run(w, (at_us - io_sim_now_us(w->sim)) / 1000);
}

static uint64_t out_until(uint16_t endpoint)
{
    struct proxy_endpoint_view view;
    proxy_endpoint_get(w->proxy, endpoint, &view);
    return view.out_until_us;
}

TEST(so_many_failures_in_a_row_eject)
{
    eject_rules();
    w->origins[0].reply = FAILS;
    uint64_t at_us = ask_until_out(0);
    assert_int_equal(served[0], 5);
    assert_in_range(out_until(0), at_us + 29990000, at_us + 30000000);
    assert_int_equal(errors_of(0, PROXY_VERSION_EJECTED_ANSWER), 1);
    assert_int_equal(errors_of(0, PROXY_VERSION_ERROR_5XX), 5);
    assert_int_equal(ask(50), 50);
    assert_int_equal(served[0], 5);
    assert_true(errors_of(0, PROXY_VERSION_ERROR_EJECTED) > 10);
}

TEST(a_good_answer_between_ends_the_row)
{
    eject_rules();
    for (int round = 0; round < 4; round++) {
        w->origins[0].reply = FAILS;
        for (uint64_t want = served[0] + 4; served[0] < want;)
            ask_paused(1, 5);
        w->origins[0].reply = HELLO;
        for (uint64_t want = served[0] + 1; served[0] < want;)
            ask_paused(1, 5);
    }
    assert_false(is_out(0));
    assert_true(errors_of(0, PROXY_VERSION_ERROR_5XX) == 16);
}

TEST(it_comes_back_in_time_and_one_failure_takes_it_out_for_longer)
{
    eject_rules();
    w->origins[0].reply = FAILS;
    ask_until_out(0);
    uint64_t back_us = out_until(0);
    run_until(back_us - 100000);
    ask_paused(20, 1);
    assert_int_equal(served[0], 5);
    run_until(back_us + 1000);
    uint64_t again_us = ask_until_out(0);
    assert_int_equal(served[0], 6);
    assert_in_range(out_until(0), again_us + 59990000, again_us + 60000000);
    w->origins[0].reply = HELLO;
    run_until(out_until(0) + 1000);
    while (served[0] < 7)
        ask_paused(1, 5);
    w->origins[0].reply = FAILS; // it was shown to be well: five again, but still in the row
    ask_until_out(0);
    assert_int_equal(served[0], 12);
    assert_true(out_until(0) > io_sim_now_us(w->sim) + 89000000);
}

TEST(lengths_of_ejections)
{
    const struct proxy_outlier outlier = {.ejection_ms = 1000, .ejection_ms_max = 3500};
    assert_int_equal(protect_ejection_us(&outlier, 1), 1000000);
    assert_int_equal(protect_ejection_us(&outlier, 3), 3000000);
    assert_int_equal(protect_ejection_us(&outlier, 4), 3500000);
    assert_int_equal(protect_ejection_us(&outlier, UINT32_MAX), 3500000);
    assert_int_equal(protect_ejection_nth(&outlier, 0, 0, 7000000), 1);
    assert_int_equal(protect_ejection_nth(&outlier, 2, 10000000, 11999999), 3);
    assert_int_equal(protect_ejection_nth(&outlier, 2, 10000000, 12000000), 1);
}

TEST(so_many_may_be_out)
{
    const struct proxy_outlier tenth = {.at_most = 10000}, none = {.at_most = 0};
    assert_int_equal(protect_ejections_max(&tenth, 1), 0);
    assert_int_equal(protect_ejections_max(&tenth, 2), 1);
    assert_int_equal(protect_ejections_max(&tenth, 19), 1);
    assert_int_equal(protect_ejections_max(&tenth, 20), 2);
    assert_int_equal(protect_ejections_max(&none, 100), 1);
}

TEST(when_all_fail_only_so_many_go)
{
    eject_rules();
    w->origins[0].reply = w->origins[1].reply = FAILS;
    ask(100);
    assert_true(is_out(0) != is_out(1));
    assert_int_equal(errors_of(0, PROXY_VERSION_EJECTED_ANSWER), 1);
}

TEST(refused_connections_hangs_and_resets_eject_as_well)
{
    eject_rules();
    rules.outlier.consecutive = 1;
    rules.outlier.ejection_ms = 1000;
    w->service.timeouts.first_byte_ms = 100;
    w->service.retry.off = true;
    world_publish(w);
    origin_unlisten(&w->origins[0]);
    ask_until_out(0);
    assert_int_equal(errors_of(0, PROXY_VERSION_EJECTED_CONNECT), 1);
    origin_listen(&w->origins[0]);
    world_run(w, 5000);
    w->origins[0].reply = NULL;
    for (int i = 0; i < 100 && !is_out(0); i++)
        ask_paused(1, 200);
    assert_int_equal(errors_of(0, PROXY_VERSION_EJECTED_TIMEOUT), 1);
    world_run(w, 10000);
    w->origins[0].reply = "SSH-2.0\r\n\r\n";
    for (int i = 0; i < 100 && !is_out(0); i++)
        ask_paused(1, 20);
    assert_int_equal(errors_of(0, PROXY_VERSION_EJECTED_BROKEN), 1);
}

// ---- slow start ----

TEST(ramp)
{
    assert_int_equal(protect_ramp(0, 10000), 100);
    assert_int_equal(protect_ramp(1000000, 10000), 100);
    assert_int_equal(protect_ramp(5000000, 10000), 500);
    assert_int_equal(protect_ramp(9999999, 10000), 999);
    assert_int_equal(protect_ramp(10000000, 10000), 1000);
    assert_int_equal(protect_ramp(0, 0), 1000);
}

TEST(one_that_is_back_takes_its_part_slowly)
{
    rules.slow_start_ms = 10000;
    world_publish(w);
    world_run(w, 20000);
    set_health(0, PROXY_ENDPOINT_UNHEALTHY);
    set_health(0, PROXY_ENDPOINT_HEALTHY);
    uint64_t from_us = io_sim_now_us(w->sim);
    ask_paused(200, 5); // the first second: a tenth of its draws
    assert_in_range(served[0], 1, 30);
    run_until(from_us + 10000000);
    served[0] = 0;
    ask_paused(200, 5);
    assert_in_range(served[0], 70, 130);
}

// ---- the breaker ----

static void breaker_rules(void)
{
    rules.breaker = (struct breaker_rule){
        .errors = 50000, .requests_min = 20, .window_ms = 10000, .open_ms = 5000, .probes = 3};
    world_publish(w);
}

TEST(an_open_breaker_answers_at_once)
{
    breaker_rules();
    w->origins[0].reply = w->origins[1].reply = FAILS;
    ask(20);
    assert_int_equal(proxy_breaker_phase(w->proxy, 0), BREAKER_OPEN);
    struct peer *client = world_connect(w);
    peer_send(client, GET);
    world_run(w, 5);
    assert_true(peer_has(client, "HTTP/1.1 503"));
    assert_true(peer_has(client, "\r\nRetry-After: 5\r\n"));
    assert_true(peer_has(client, "the version's breaker is open"));
    assert_int_equal(served[0] + served[1], 20);
    assert_int_equal(errors_of(0, PROXY_VERSION_ERROR_OPEN), 1);
    assert_int_equal(errors_of(0, PROXY_VERSION_ERRORS), 21);
    w->origins[0].reply = w->origins[1].reply = HELLO;
    world_run(w, 5000);
    assert_int_equal(ask(10), 10);
    assert_int_equal(proxy_breaker_phase(w->proxy, 0), BREAKER_CLOSED);
}

TEST(half_open_lets_only_the_probes_through)
{
    breaker_rules();
    w->origins[0].reply = w->origins[1].reply = FAILS;
    ask(20);
    world_run(w, 5000);
    w->origins[0].reply = w->origins[1].reply = NULL;
    served[0] = served[1] = 0;
    for (int i = 0; i < 8; i++)
        peer_send(world_connect(w), GET);
    world_run(w, 50);
    assert_int_equal(proxy_breaker_phase(w->proxy, 0), BREAKER_HALF_OPEN);
    assert_int_equal(served[0] + served[1], 3);
    assert_int_equal(errors_of(0, PROXY_VERSION_ERROR_OPEN), 5);
}

static void leave(struct peer *client)
{
    client->closed = true;
    io_stream_abort(&client->stream);
}

TEST(probes_of_clients_that_leave_are_given_again)
{
    breaker_rules();
    w->origins[0].reply = w->origins[1].reply = FAILS;
    ask(20);
    world_run(w, 5000);
    w->origins[0].reply = w->origins[1].reply = NULL;
    struct peer *clients[3];
    for (int i = 0; i < 3; i++) {
        clients[i] = world_connect(w);
        peer_send(clients[i], GET);
    }
    world_run(w, 50);
    for (int i = 0; i < 3; i++)
        leave(clients[i]);
    world_run(w, 50);
    assert_int_equal(proxy_breaker_phase(w->proxy, 0), BREAKER_HALF_OPEN);
    w->origins[0].reply = w->origins[1].reply = HELLO;
    assert_int_equal(ask(3), 3);
    assert_int_equal(proxy_breaker_phase(w->proxy, 0), BREAKER_CLOSED);
}

TEST(more_requests_than_allowed_are_refused)
{
    rules.requests_max = 2;
    world_publish(w);
    w->origins[0].reply = w->origins[1].reply = NULL;
    struct peer *clients[2];
    for (int i = 0; i < 2; i++) {
        clients[i] = world_connect(w);
        peer_send(clients[i], GET);
    }
    world_run(w, 50);
    struct peer *third = world_ask(w, GET);
    assert_true(peer_has(third, "HTTP/1.1 503"));
    assert_true(peer_has(third, "\r\nRetry-After: 1\r\n"));
    assert_int_equal(errors_of(0, PROXY_VERSION_ERROR_OPEN), 1);
    leave(clients[0]);
    world_run(w, 50);
    w->origins[0].reply = w->origins[1].reply = HELLO;
    assert_int_equal(ask(20), 20); // the places of those that are over are free
}

// ---- evidence and the fallback ----

struct sums {
    uint64_t routed, completed, errors;
};

static struct sums canary_sums(void)
{
    struct sums sums = {0};
    struct rollout_span_delta out[64];
    for (int round = 0; round < 5; round++) {
        bool more = true;
        while (more) {
            uint32_t told = proxy_gather_spans(w->proxy, 0, out, ARRAY_LEN(out), &more);
            for (uint32_t i = 0; i < told; i++) {
                sums.routed += out[i].arms[ROLLOUT_ARM_CANARY].routed;
                sums.completed += out[i].arms[ROLLOUT_ARM_CANARY].completed;
                sums.errors += out[i].arms[ROLLOUT_ARM_CANARY].errors;
            }
        }
        world_run(w, 100);
    }
    return sums;
}

static void canary_gets_all(void)
{
    w->service.weight = ROLLOUT_WEIGHT_FULL;
    w->service.epoch = 1;
    world_publish(w);
}

TEST(an_endpoint_that_is_out_is_evidence_against_the_canary_and_its_share_stays)
{
    rules.panic = 25000;
    canary_gets_all();
    set_health(2, PROXY_ENDPOINT_UNHEALTHY);
    assert_int_equal(ask(200), 200);
    struct sums sums = canary_sums();
    assert_int_equal(sums.routed, 200);
    assert_int_equal(sums.completed, 200);
    assert_int_equal(sums.errors, errors_of(1, PROXY_VERSION_ERROR_EJECTED));
    assert_in_range(sums.errors, 70, 130);
    assert_int_equal(served[3], 200);
    assert_int_equal(served[0] + served[1], 0); // nothing of it went to the stable version
}

TEST(what_could_not_be_connected_falls_back_and_is_an_error_of_the_canary)
{
    rules.fallback = true;
    canary_gets_all();
    origin_unlisten(&w->origins[2]);
    origin_unlisten(&w->origins[3]);
    assert_int_equal(ask(50), 50);
    assert_int_equal(served[0] + served[1], 50);
    struct sums sums = canary_sums();
    assert_int_equal(sums.routed, 50);
    assert_int_equal(sums.completed, 50);
    assert_true(sums.errors >= 50);
    assert_int_equal(errors_of(1, PROXY_VERSION_FALLBACKS), 50);
    assert_int_equal(errors_of(1, PROXY_VERSION_REQUESTS), 50);
    assert_int_equal(errors_of(0, PROXY_VERSION_REQUESTS), 0); // the request stays the canary's
    struct peer *client = world_ask(w, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi");
    assert_true(peer_has(client, "HTTP/1.1 200")); // nothing of it had been sent
}

// What the canary's endpoints have used up is not the stable version's.
TEST(who_falls_back_has_all_attempts_again)
{
    rules.fallback = true;
    w->service.retry.attempts_max = 2;
    canary_gets_all();
    for (int i = 0; i < ORIGINS_MAX; i++)
        if (i != 1)
            origin_unlisten(&w->origins[i]);
    assert_int_equal(ask(50), 50);
    assert_int_equal(served[1], 50);
}

static void serve_whole(struct peer *peer)
{
    if (memmem(peer->got, peer->len, "the end", 7) == NULL)
        return;
    served[peer->origin - w->origins]++;
    peer_send(peer, HELLO);
}

// The client is stopped while no endpoint takes its body, and must go on with one that is connected already.
TEST(a_long_body_falls_back_to_a_connection_that_is_open)
{
    enum { LONG = 400000 };
    static const char head[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 400000\r\n\r\n";
    rules.fallback = true;
    w->versions[0].endpoint_count = 1;
    world_publish(w);
    assert_int_equal(ask(1), 1);
    canary_gets_all();
    origin_unlisten(&w->origins[2]);
    origin_unlisten(&w->origins[3]);
    w->origins[0].serve = serve_whole;
    char *body = malloc(LONG);
    memset(body, 'x', LONG);
    memcpy(body + LONG - 7, "the end", 7);
    struct peer *client = world_connect(w);
    peer_send(client, head);
    peer_send_bytes(client, body, LONG);
    world_run(w, 1000);
    free(body);
    assert_true(peer_has(client, "HTTP/1.1 200"));
    assert_int_equal(served[0], 2);
    assert_int_equal(w->origins[0].accepted, 1);
}

TEST(an_open_breaker_falls_back)
{
    rules.fallback = true;
    breaker_rules();
    canary_gets_all();
    w->origins[2].reply = w->origins[3].reply = FAILS;
    assert_int_equal(ask(20), 0); // they were sent: never a second time
    assert_int_equal(ask(10), 10);
    assert_int_equal(errors_of(1, PROXY_VERSION_ERROR_OPEN), 10);
    assert_int_equal(errors_of(1, PROXY_VERSION_FALLBACKS), 10);
    assert_int_equal(proxy_breaker_phase(w->proxy, 0), BREAKER_CLOSED);
    assert_int_equal(canary_sums().errors, 30);
}

// Whoever reads of the refusal is sent to no endpoint of the other version.
TEST(who_falls_back_to_an_open_breaker_met_no_endpoint_there)
{
    struct proxy_event events[64];
    rules.fallback = true;
    breaker_rules();
    w->origins[0].reply = w->origins[1].reply = FAILS;
    ask(20);
    assert_int_equal(proxy_breaker_phase(w->proxy, 0), BREAKER_OPEN);
    origin_unlisten(&w->origins[2]);
    origin_unlisten(&w->origins[3]);
    canary_gets_all();
    (void)proxy_events_take(w->proxy, events, ARRAY_LEN(events));
    struct peer *client = world_connect(w);
    peer_send(client, GET);
    world_run(w, 50);
    assert_true(peer_has(client, "HTTP/1.1 503") && peer_has(client, "\r\nRetry-After: "));
    uint32_t told = proxy_events_take(w->proxy, events, ARRAY_LEN(events));
    assert_in_range(told, 2, ARRAY_LEN(events));
    assert_int_equal(events[0].version, 1);
    assert_int_not_equal(events[0].endpoint, PROXY_SLOT_NONE);
    assert_int_equal(events[told - 1].kind, PROXY_EVENT_LOCAL);
    assert_int_equal(events[told - 1].status, 503);
    assert_int_equal(events[told - 1].version, 0);
    assert_int_equal(events[told - 1].endpoint, PROXY_SLOT_NONE);
}

TEST(no_fallback_unasked_nor_from_the_stable_version_nor_for_operators)
{
    canary_gets_all();
    origin_unlisten(&w->origins[2]);
    origin_unlisten(&w->origins[3]);
    assert_true(peer_has(world_ask(w, GET), "HTTP/1.1 502"));
    static const struct proxy_network everywhere = {.bits = 0};
    rules.fallback = true;
    w->plan.operators = &everywhere;
    w->plan.operator_count = 1;
    world_publish(w);
    struct peer *client = world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\nX-Sluice-Version: v2\r\n\r\n");
    assert_true(peer_has(client, "HTTP/1.1 502"));
    w->service.weight = 0;
    origin_unlisten(&w->origins[0]);
    origin_unlisten(&w->origins[1]);
    world_publish(w);
    assert_true(peer_has(world_ask(w, GET), "HTTP/1.1 502"));
    assert_int_equal(errors_of(0, PROXY_VERSION_FALLBACKS) + errors_of(1, PROXY_VERSION_FALLBACKS), 0);
}

// ---- endpoints that come and go ----

TEST(a_slot_that_means_another_endpoint_begins_anew)
{
    eject_rules();
    w->origins[0].reply = FAILS;
    ask_until_out(0);
    set_health(0, PROXY_ENDPOINT_UNHEALTHY);
    proxy_endpoint_begin(w->proxy, 0, io_sim_now_us(w->sim));
    assert_false(is_out(0));
    struct proxy_endpoint_view view;
    proxy_endpoint_get(w->proxy, 0, &view);
    assert_int_equal(view.failures, 0);
}

TEST(plans_that_make_no_sense_are_refused)
{
    struct proxy_table *table;
    struct fault why;
    w->plan.version++;
    rules.panic = 101000;
    assert_int_equal(proxy_table_build(&w->plan, &table, &why), STATUS_INVALID);
    rules.panic = 50000;
    rules.breaker = (struct breaker_rule){.errors = 50000, .window_ms = 1000, .open_ms = 1, .probes = 0};
    assert_int_equal(proxy_table_build(&w->plan, &table, &why), STATUS_INVALID);
}

TEST(what_had_reached_the_canary_does_not_fall_back)
{
    rules.fallback = true;
    w->service.timeouts.first_byte_ms = 100;
    canary_gets_all();
    w->origins[2].reply = w->origins[3].reply = NULL;
    assert_true(peer_has(world_ask(w, GET), "HTTP/1.1 504"));
    assert_int_equal(served[2] + served[3], 1);
    assert_int_equal(served[0] + served[1], 0);
}
