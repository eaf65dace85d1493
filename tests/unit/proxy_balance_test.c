// SPDX-License-Identifier: Apache-2.0
// Which endpoint of a version a request goes to: shares by weight, keys that stay, near ones first, busy and
// slow ones less.
#include "binomial.h"
#include "proxy_world.h"

#include "net/proxy/balance.h"

enum { MANY = 8, DRAWS = 200000, KEYS = 100000 };

static const char GET[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

static struct world *w;
static struct proxy_protection rules;

static int set_up(void **state)
{
    (void)state;
    w = world_create();
    rules = (struct proxy_protection){.panic = 50000};
    w->service.canary = PROXY_VERSION_NONE;
    w->service.version_count = 1;
    w->versions[0].endpoint_count = ORIGINS_MAX;
    for (int i = 0; i < ORIGINS_MAX; i++)
        w->origins[i].reply = HELLO;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    world_destroy(w);
    return 0;
}
EACH_TEST(set_up, tear_down);

// ---- one version's endpoints, without a proxy ----

struct bench {
    struct proxy_table *table;
    const struct proxy_version *version;
};

static void bench_make(struct bench *bench, struct proxy_endpoint_plan *endpoints, uint32_t count)
{
    struct proxy_version_plan version = {.name = "v1", .endpoints = endpoints, .endpoint_count = count};
    struct proxy_service_plan service = {.name = "s",
                                         .versions = &version,
                                         .version_count = 1,
                                         .canary = PROXY_VERSION_NONE,
                                         .control = PROXY_VERSION_NONE};
    struct proxy_table_plan plan = {.version = 1, .services = &service, .service_count = 1};
    struct fault why;
    assert_int_equal(proxy_table_build(&plan, &bench->table, &why), STATUS_OK);
    bench->version = &bench->table->services[0].versions[0];
}

static void plan_many(struct proxy_endpoint_plan endpoints[MANY])
{
    for (uint16_t i = 0; i < MANY; i++) {
        char text[32];
        snprintf(text, sizeof text, "10.0.1.%d:80", i + 1);
        endpoints[i] = (struct proxy_endpoint_plan){.slot = i};
        assert_int_equal(io_addr_parse(text, &endpoints[i].addr), STATUS_OK);
    }
}

TEST(draws_are_by_weight)
{
    static const uint32_t WEIGHTS[MANY] = {3, 1, 1, 10, 1, 100, 1, 0};
    struct proxy_endpoint_plan endpoints[MANY];
    uint32_t firsts[MANY] = {0}, all = 0;
    struct bench bench;
    struct rng rng;
    plan_many(endpoints);
    for (int i = 0; i < MANY; i++) {
        endpoints[i].weight = WEIGHTS[i];
        endpoints[i].drained = WEIGHTS[i] == 0;
        all += WEIGHTS[i];
    }
    bench_make(&bench, endpoints, MANY);
    assert_int_equal(bench.version->endpoint_count, MANY - 1);
    assert_int_equal(bench.version->listed_count, MANY);
    rng_init(&rng, 1);
    for (int n = 0; n < DRAWS; n++) {
        struct balance_pair pair = balance_draw(bench.version, MANY - 1, &rng);
        assert_true(pair.first != pair.second && pair.second < MANY - 1);
        firsts[pair.first]++;
    }
    for (int i = 0; i < MANY - 1; i++)
        assert_true(binomial_fits(DRAWS, WEIGHTS[i] / (double)all, firsts[i]));
    proxy_table_destroy(bench.table);
}

// With two endpoints both are drawn each time: the first is what the weight says.
TEST(a_pair_is_both)
{
    struct proxy_endpoint_plan endpoints[MANY];
    struct bench bench;
    struct rng rng;
    uint32_t first = 0;
    plan_many(endpoints);
    endpoints[0].weight = 9;
    bench_make(&bench, endpoints, 2);
    rng_init(&rng, 2);
    for (int n = 0; n < DRAWS; n++) {
        struct balance_pair pair = balance_draw(bench.version, 2, &rng);
        assert_int_equal(pair.first + pair.second, 1);
        first += pair.first == 0;
    }
    assert_true(binomial_fits(DRAWS, 0.9, first));
    proxy_table_destroy(bench.table);
}

static uint64_t key_of(uint32_t i)
{
    uint64_t state = i;
    return rng_splitmix(&state);
}

static uint16_t slot_of(const struct bench *bench, uint32_t key)
{
    return balance_by_key(bench->version, key_of(key), NULL, NULL)->slot;
}

TEST(a_new_endpoint_takes_its_part_and_moves_nothing_else)
{
    struct proxy_endpoint_plan endpoints[MANY];
    struct bench before, after;
    uint32_t moved = 0, counts[MANY] = {0};
    plan_many(endpoints);
    bench_make(&before, endpoints, MANY - 1);
    bench_make(&after, endpoints, MANY);
    for (uint32_t i = 0; i < KEYS; i++) {
        uint16_t was = slot_of(&before, i), is = slot_of(&after, i);
        assert_true(is == was || is == MANY - 1);
        moved += is != was;
        counts[was]++;
    }
    assert_true(binomial_fits(KEYS, 1.0 / MANY, moved));
    for (int i = 0; i < MANY - 1; i++)
        assert_true(binomial_fits(KEYS, 1.0 / (MANY - 1), counts[i]));
    proxy_table_destroy(before.table);
    proxy_table_destroy(after.table);
}

TEST(keys_are_by_weight)
{
    struct proxy_endpoint_plan endpoints[MANY];
    struct bench before, after;
    uint32_t counts[MANY] = {0}, moved = 0;
    plan_many(endpoints);
    for (uint32_t i = 0; i < MANY; i++)
        endpoints[i].weight = i + 1;
    bench_make(&before, endpoints, MANY);
    endpoints[0].weight = 4;
    bench_make(&after, endpoints, MANY);
    for (uint32_t i = 0; i < KEYS; i++) {
        uint16_t was = slot_of(&before, i), is = slot_of(&after, i);
        assert_true(is == was || is == 0); // who weighs more takes from others and gives to nobody
        counts[was]++;
        moved += is != was;
    }
    for (uint32_t i = 0; i < MANY; i++)
        assert_true(binomial_fits(KEYS, (i + 1) / 36.0, counts[i]));
    assert_true(binomial_fits(KEYS, 4 / 39.0, counts[0] + moved));
    proxy_table_destroy(before.table);
    proxy_table_destroy(after.table);
}

static bool is_not_third(void *context, const struct proxy_endpoint *endpoint)
{
    (void)context;
    return endpoint->slot != 2;
}

TEST(keys_of_one_that_is_out_are_spread_over_the_others)
{
    struct proxy_endpoint_plan endpoints[MANY];
    struct bench bench;
    uint32_t counts[MANY] = {0}, spread = 0;
    plan_many(endpoints);
    bench_make(&bench, endpoints, MANY);
    for (uint32_t i = 0; i < KEYS; i++) {
        uint16_t was = slot_of(&bench, i);
        uint16_t is = balance_by_key(bench.version, key_of(i), is_not_third, NULL)->slot;
        assert_true(was == 2 ? is != 2 : is == was);
        spread += was == 2;
        counts[is] += was == 2;
    }
    for (int i = 0; i < MANY; i++)
        assert_true(i == 2 ? counts[i] == 0 : binomial_fits(spread, 1.0 / (MANY - 1), counts[i]));
    proxy_table_destroy(bench.table);
}

// ---- in the path of requests ----

static void count_heads(struct peer *peer)
{
    peer->origin->requests++;
    peer_send(peer, HELLO);
}

static void hang(struct peer *peer)
{
    peer->origin->requests++;
}

static void serve_all(void (*serve)(struct peer *peer))
{
    for (int i = 0; i < ORIGINS_MAX; i++) {
        w->origins[i].serve = serve;
        w->origins[i].requests = 0;
    }
}

static void ask(int n, const char *request)
{
    struct peer *client = world_connect(w);
    for (int i = 0; i < n; i++) {
        peer_send(client, request);
        world_run(w, 5);
    }
    assert_int_equal(peer_count_of(client, "HTTP/1.1 200"), n);
    peer_close(client);
}

TEST(requests_are_spread_by_weight)
{
    serve_all(count_heads);
    w->versions[0].endpoint_count = 2;
    w->endpoints[0].weight = 3;
    world_publish(w);
    ask(4000, GET);
    assert_true(binomial_fits(4000, 0.75, w->origins[0].requests));
    assert_int_equal(w->origins[0].requests + w->origins[1].requests, 4000);
}

// Twenty requests are under way at once: three of four are where the weight says.
TEST(what_is_under_way_is_by_weight)
{
    serve_all(hang);
    w->versions[0].endpoint_count = 2;
    w->endpoints[0].weight = 3;
    world_publish(w);
    for (int i = 0; i < 20; i++) {
        peer_send(world_connect(w), GET);
        world_run(w, 5);
    }
    assert_int_equal(w->origins[0].requests, 15);
    assert_int_equal(w->origins[1].requests, 5);
}

TEST(a_tunnel_is_under_way)
{
    serve_all(count_heads);
    w->versions[0].endpoint_count = 2;
    w->versions[0].endpoints = &w->endpoints[0];
    w->endpoints[1].drained = true;
    world_publish(w);
    w->origins[0].serve = NULL;
    w->origins[0].reply = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    struct peer *tunnel =
        world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert_true(peer_has(tunnel, "HTTP/1.1 101"));
    w->endpoints[1].drained = false;
    world_publish(w);
    ask(50, GET);
    assert_int_equal(w->origins[1].requests, 50);
}

TEST(a_drained_endpoint_gets_no_request_and_ends_what_it_has)
{
    serve_all(hang);
    w->plan.drain_ms = 1000;
    w->versions[0].endpoint_count = 2;
    w->endpoints[1].drained = true;
    world_publish(w);
    struct peer *client = world_ask(w, GET);
    assert_int_equal(w->origins[0].requests, 1);
    w->endpoints[0].drained = true;
    w->endpoints[1].drained = false;
    world_publish(w);
    serve_all(count_heads);
    ask(50, GET);
    assert_int_equal(w->origins[1].requests, 50);
    world_run(w, 5000); // by then it would have been cut off, had its endpoint left the table
    peer_send(w->origins[0].peers[0], HELLO);
    world_run(w, 5);
    assert_true(peer_has(client, "HTTP/1.1 200"));
}

TEST(a_version_that_is_drained_altogether_answers_503)
{
    w->versions[0].endpoint_count = 1;
    w->endpoints[0].drained = true;
    world_publish(w);
    assert_true(peer_has(world_ask(w, GET), "HTTP/1.1 503"));
    w->service.protection = &rules;
    world_publish(w);
    assert_true(peer_has(world_ask(w, GET), "HTTP/1.1 503"));
}

static uint32_t last_of(uint32_t before[ORIGINS_MAX])
{
    uint32_t found = ORIGINS_MAX;
    for (uint32_t i = 0; i < ORIGINS_MAX; i++) {
        if (w->origins[i].requests != before[i])
            found = i;
        before[i] = w->origins[i].requests;
    }
    return found;
}

static const char *request_of(int user, char text[128])
{
    snprintf(text, 128, "GET / HTTP/1.1\r\nHost: h\r\nX-User: %d\r\n\r\n", user);
    return text;
}

static void hash_by_user(void)
{
    static const struct proxy_attribute_plan hash = {.kind = PROXY_ATTRIBUTE_HEADER, .source = "X-User"};
    w->service.hash = &hash;
    serve_all(count_heads);
    world_publish(w);
}

// Users go where they went, with and without protection; those of one that is out go elsewhere meanwhile.
TEST(a_user_stays_at_one_endpoint)
{
    enum { USERS = 40 };
    uint32_t before[ORIGINS_MAX] = {0}, homes[USERS];
    char text[128];
    hash_by_user();
    for (int user = 0; user < USERS; user++) {
        ask(1, request_of(user, text));
        homes[user] = last_of(before);
    }
    w->service.protection = &rules;
    world_publish(w);
    for (int user = 0; user < USERS; user++) {
        ask(1, request_of(user, text));
        assert_int_equal(last_of(before), homes[user]);
    }
    proxy_endpoint_health_set(w->proxy, 1, PROXY_ENDPOINT_UNHEALTHY, io_sim_now_us(w->sim));
    uint32_t errors = 0;
    for (int user = 0; user < USERS; user++) {
        ask(1, request_of(user, text));
        uint32_t at = last_of(before);
        assert_true(homes[user] == 1 ? at != 1 : at == homes[user]);
        errors += homes[user] == 1;
    }
    // What was for the one that is out are errors of the version, as everywhere.
    assert_true(errors > 0);
    assert_int_equal(version_counter(w, 0, PROXY_VERSION_ERROR_EJECTED), errors);
}

TEST(a_request_without_the_value_goes_anywhere)
{
    hash_by_user();
    ask(200, GET);
    for (int i = 0; i < ORIGINS_MAX; i++)
        assert_true(w->origins[i].requests > 0);
}

static void make_near(bool protected)
{
    serve_all(count_heads);
    w->endpoints[1].near = w->endpoints[3].near = true;
    w->service.protection = protected ? &rules : NULL;
    world_publish(w);
}

TEST(near_endpoints_come_first)
{
    for (int protected = 0; protected < 2; protected ++) {
        make_near(protected);
        ask(100, GET);
        assert_int_equal(w->origins[1].requests + w->origins[3].requests, 100);
        assert_true(w->origins[1].requests > 0 && w->origins[3].requests > 0);
    }
}

// One of two is half of them, which is enough; with none in use the others take part.
TEST(all_endpoints_while_too_few_near_ones_are_in_use)
{
    make_near(true);
    proxy_endpoint_health_set(w->proxy, 1, PROXY_ENDPOINT_UNHEALTHY, io_sim_now_us(w->sim));
    ask(100, GET);
    assert_int_equal(w->origins[3].requests, 100);
    proxy_endpoint_health_set(w->proxy, 3, PROXY_ENDPOINT_UNHEALTHY, io_sim_now_us(w->sim));
    ask(100, GET);
    assert_true(w->origins[0].requests > 0 && w->origins[2].requests > 0);
    assert_int_equal(w->origins[3].requests, 100);
}

TEST(another_answers_when_no_near_one_can_be_reached)
{
    make_near(false);
    origin_unlisten(&w->origins[1]);
    origin_unlisten(&w->origins[3]);
    ask(20, GET);
    assert_int_equal(w->origins[0].requests + w->origins[2].requests, 20);
}

// Asks once; the first endpoint answers after so long, the other at once.
static void ask_once(uint64_t first_ms)
{
    struct peer *client = world_connect(w);
    uint32_t before = w->origins[0].requests;
    peer_send(client, GET);
    world_run(w, first_ms);
    if (w->origins[0].requests > before)
        peer_send(w->origins[0].peers[0], HELLO);
    world_run(w, 5);
    assert_true(peer_has(client, "HTTP/1.1 200"));
    peer_close(client);
}

// Once it is known to be slow it gets nothing while the other is as idle, until what is known is old.
TEST(a_slow_endpoint_waits_until_it_is_forgotten)
{
    serve_all(count_heads);
    w->origins[0].serve = hang;
    w->versions[0].endpoint_count = 2;
    world_publish(w);
    for (int i = 0; i < 60; i++)
        ask_once(50);
    uint32_t known = w->origins[0].requests;
    assert_true(known >= BALANCE_ANSWERS && known < 30);
    for (int i = 0; i < 20; i++)
        ask_once(50);
    assert_int_equal(w->origins[0].requests, known);
    for (int i = 0; i < 20; i++) {
        world_run(w, 1000);
        ask_once(50);
    }
    assert_true(w->origins[0].requests > known);
}

// Less than twice as slow is chance.
TEST(a_little_slower_is_as_good)
{
    serve_all(hang);
    w->versions[0].endpoint_count = 2;
    world_publish(w);
    for (int i = 0; i < 200; i++) {
        struct peer *client = world_connect(w);
        uint32_t before = w->origins[0].requests;
        peer_send(client, GET);
        world_run(w, 10);
        bool first = w->origins[0].requests > before;
        world_run(w, first ? 8 : 0);
        peer_send(w->origins[!first].peers[0], HELLO);
        world_run(w, 5);
        peer_close(client);
    }
    assert_true(binomial_fits(200, 0.5, w->origins[0].requests));
}

// The first endpoint takes a request and drops it after a second; the other then answers at once.
TEST(what_another_endpoint_wasted_is_not_measured)
{
    struct pool *const *pools = w->proxy->workers[0]->pools;
    serve_all(count_heads);
    w->versions[0].endpoint_count = 2;
    world_publish(w);
    ask(20, GET); // both have connections that were used
    w->origins[0].serve = hang;
    for (int i = 0; i < 40; i++) {
        struct peer *client = world_connect(w);
        uint32_t before = w->origins[0].requests;
        peer_send(client, GET);
        world_run(w, 1000);
        for (uint32_t k = 0; w->origins[0].requests > before && k < w->origins[0].accepted; k++)
            peer_close(w->origins[0].peers[k]);
        world_run(w, 100);
        assert_true(peer_has(client, "HTTP/1.1 200"));
        if (w->origins[0].requests > before)
            break;
    }
    assert_true(version_counter(w, 0, PROXY_VERSION_RETRIES) == 1);
    assert_true(pools[1]->latency_us < 10000);
}
