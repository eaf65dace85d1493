// SPDX-License-Identifier: Apache-2.0
// The routing table: what matches first, what a plan may not say, operators' networks.
#include "base/check.h"
#include "base/heap.h"
#include "net/proxy/table_private.h"
#include "test.h"

static struct proxy_endpoint_plan endpoint;
static struct proxy_version_plan versions[4];
static struct proxy_service_plan services[4];
static struct proxy_table_plan plan;

static void plan_reset(void)
{
    static const char *const NAMES[] = {"a", "b", "c", "d"};
    endpoint = (struct proxy_endpoint_plan){.slot = 0};
    for (uint16_t i = 0; i < 4; i++) {
        versions[i] = (struct proxy_version_plan){.slot = i, .name = "v1"};
        services[i] = (struct proxy_service_plan){.slot = i,
                                                  .name = NAMES[i],
                                                  .versions = &versions[i],
                                                  .version_count = 1,
                                                  .canary = PROXY_VERSION_NONE,
                                                  .control = PROXY_VERSION_NONE};
    }
    versions[0].endpoints = &endpoint;
    versions[0].endpoint_count = 1;
    plan = (struct proxy_table_plan){.version = 1, .services = services, .service_count = 4};
}

TEST(most_specific_wins)
{
    static const struct proxy_route_plan ROUTES[] = {
        {NULL, NULL, 0},
        {"*.example", "/", 1},
        {"*.shop.example", "/", 2},
        {"www.shop.example", "/cart", 3},
        {NULL, "/api/", 1},
        {NULL, "/./%61pi/v2", 2},
    };
    static const struct {
        const char *host, *path;
        uint16_t slot;
    } CASES[] = {
        {"other", "/", 0},
        {"", "/x", 0},
        {"a.example", "/", 1},
        {"example", "/", 0},
        {"A.Shop.EXAMPLE", "/", 2},
        {"xshop.example", "/", 1},
        {"www.shop.example", "/cart", 3},
        {"www.shop.example", "/cart/1", 3},
        {"www.shop.example", "/carts", 2}, // falls through to a less specific host
        {"other", "/api", 1},
        {"other", "/api/", 1},
        {"other", "/apis", 0},
        {"other", "/api/v2/x", 2},
        {"other", "/api/v22", 1},
        {"other", "*", 0},
        {"www.shop.example.", "/cart", 3},
        {"a.example.", "/", 1},
        {"other", "/%61pi", 1},
        {"other", "/x/../api/%76%32", 2},
        {"other", "/api/../apis", 0},
        {"other", "/api/v2/..", 1},
        {"other", "/api/v2/%2e%2E/", 1},
        {"other", "/./api/./v2/.", 2},
        {"other", "/../../api", 1},
        {"other", "/api%2Fv2", 0}, // an escaped slash is no slash
        {"other", "/%", 0},
        {"other", "/.../api", 0},
    };
    plan_reset();
    plan.routes = ROUTES;
    plan.route_count = ARRAY_LEN(ROUTES);
    struct proxy_table *table;
    const char *why;
    assert_int_equal(proxy_table_build(&plan, &table, &why), STATUS_OK);
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        assert_int_equal(proxy_table_route(table, slice_of(CASES[i].host), slice_of(CASES[i].path)),
                         CASES[i].slot);
    proxy_table_destroy(table);
    plan.route_count = 0;
    assert_int_equal(proxy_table_build(&plan, &table, &why), STATUS_OK);
    assert_int_equal(proxy_table_route(table, SLICE("h"), SLICE("/")), PROXY_SLOT_NONE);
    proxy_table_destroy(table);
}

static void expect_invalid(void)
{
    struct proxy_table *table = NULL;
    const char *why = NULL;
    assert_int_equal(proxy_table_build(&plan, &table, &why), STATUS_INVALID);
    assert_null(table);
    assert_non_null(why);
    plan_reset();
}

TEST(bad_plans)
{
    plan_reset();
    services[1].slot = 0;
    expect_invalid();
    services[1].slot = PROXY_SERVICES_MAX;
    expect_invalid();
    versions[2].slot = 1;
    expect_invalid();
    services[0].stable = 1;
    expect_invalid();
    services[0].stable = PROXY_VERSION_NONE;
    expect_invalid();
    services[0].weight = 1;
    expect_invalid();
    services[0].canary = 0;
    services[0].weight = ROLLOUT_WEIGHT_FULL + 1;
    expect_invalid();
    services[0].unit = PROXY_UNIT_COOKIE;
    expect_invalid();
    services[0].unit = PROXY_UNIT_HEADER;
    services[0].unit_name = "a b";
    expect_invalid();
    versions[1].endpoints = &endpoint;
    versions[1].endpoint_count = 1;
    expect_invalid();
    struct proxy_route_plan routes[2] = {{"h", "/a", 0}, {"H", "/a/", 1}};
    plan.routes = routes;
    plan.route_count = 2;
    expect_invalid();
    routes[0].path = "a";
    plan.routes = routes;
    plan.route_count = 1;
    expect_invalid();
    routes[0] = (struct proxy_route_plan){NULL, NULL, 4};
    plan.routes = routes;
    plan.route_count = 1;
    expect_invalid();
}

static bool operator_has(const char *network, const char *addr)
{
    struct proxy_network parsed;
    struct io_addr peer;
    assert_int_equal(proxy_network_parse(network, &parsed), STATUS_OK);
    assert_int_equal(io_addr_parse(addr, &peer), STATUS_OK);
    plan_reset();
    plan.operators = &parsed;
    plan.operator_count = 1;
    struct proxy_table *table;
    const char *why;
    assert_int_equal(proxy_table_build(&plan, &table, &why), STATUS_OK);
    bool has = proxy_table_operator(table, &peer);
    proxy_table_destroy(table);
    return has;
}

TEST(networks)
{
    assert_true(operator_has("10.0.0.0/8", "10.255.1.2:80"));
    assert_false(operator_has("10.0.0.0/8", "11.0.0.1:80"));
    assert_true(operator_has("10.1.2.128/25", "10.1.2.129:80"));
    assert_false(operator_has("10.1.2.128/25", "10.1.2.127:80"));
    assert_true(operator_has("10.0.0.0/8", "[::ffff:10.0.0.1]:80"));
    assert_true(operator_has("::1", "[::1]:80"));
    assert_false(operator_has("::1", "127.0.0.1:80"));
    assert_true(operator_has("0.0.0.0/0", "1.2.3.4:80"));
    assert_false(operator_has("0.0.0.0/0", "[::1]:80"));
    assert_false(operator_has("0.0.0.0/0", "unix:/run/x"));
    static const char *const BAD[] = {"",       "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/8x",
                                      "::/129", "x",           "10.0.0/8"};
    struct proxy_network parsed;
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++)
        assert_int_equal(proxy_network_parse(BAD[i], &parsed), STATUS_INVALID);
}

TEST(out_of_memory)
{
    plan_reset();
    struct proxy_table *table = NULL;
    const char *why;
    heap_fail_after(0);
    assert_int_equal(proxy_table_build(&plan, &table, &why), STATUS_NO_MEMORY);
    heap_fail_after(-1);
    assert_null(table);
}
