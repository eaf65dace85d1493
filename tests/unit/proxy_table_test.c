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

#define ROUTE(host_, path_, service_)                                                                        \
    {                                                                                                        \
        .host = (host_), .path = (path_), .service = (service_)                                              \
    }

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
        ROUTE(NULL, NULL, 0),
        ROUTE("*.example", "/", 1),
        ROUTE("*.shop.example", "/", 2),
        ROUTE("www.shop.example", "/cart", 3),
        ROUTE(NULL, "/api/", 1),
        ROUTE(NULL, "/./%61pi/v2", 2),
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
        {"other", "//api", 1}, // slashes that follow each other are one, as many origins have it
        {"other", "/api//v2/", 2},
        {"other", "/api;v=1/v2", 2}, // parameters of a segment are not compared
        {"other", "/apis;/api", 0},
        {"other", "/x/..;/api", PROXY_SLOT_NONE}, // what servers read in two ways
        {"other", "/x//../api", PROXY_SLOT_NONE},
        {"other", "/;/api", PROXY_SLOT_NONE},
    };
    plan_reset();
    plan.routes = ROUTES;
    plan.route_count = ARRAY_LEN(ROUTES);
    struct proxy_table *table;
    struct fault why;
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
    struct fault why;
    assert_int_equal(proxy_table_build(&plan, &table, &why), STATUS_INVALID);
    assert_null(table);
    assert_int_equal(why.status, STATUS_INVALID);
    assert_true(why.text[0] != '\0');
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
    struct proxy_route_plan routes[2] = {ROUTE("h", "/a", 0), ROUTE("H", "/a/", 1)};
    plan.routes = routes;
    plan.route_count = 2;
    expect_invalid();
    routes[0].path = "a";
    plan.routes = routes;
    plan.route_count = 1;
    expect_invalid();
    routes[0] = (struct proxy_route_plan)ROUTE(NULL, NULL, 4);
    plan.routes = routes;
    plan.route_count = 1;
    expect_invalid();
}

static bool operator_has(struct proxy_network network, const char *addr)
{
    struct io_addr peer;
    assert_int_equal(io_addr_parse(addr, &peer), STATUS_OK);
    plan_reset();
    plan.operators = &network;
    plan.operator_count = 1;
    struct proxy_table *table;
    struct fault problem;
    assert_int_equal(proxy_table_build(&plan, &table, &problem), STATUS_OK);
    bool has = proxy_table_operator(table, &peer);
    proxy_table_destroy(table);
    return has;
}

TEST(networks)
{
    static const struct proxy_network TEN = {.bytes = {10}, .bits = 8};
    static const struct proxy_network HALF = {.bytes = {10, 1, 2, 128}, .bits = 25};
    static const struct proxy_network SELF = {.bytes = {[15] = 1}, .bits = 128, .ipv6 = true};
    static const struct proxy_network ALL = {.bits = 0};
    assert_true(operator_has(TEN, "10.255.1.2:80"));
    assert_false(operator_has(TEN, "11.0.0.1:80"));
    assert_true(operator_has(HALF, "10.1.2.129:80"));
    assert_false(operator_has(HALF, "10.1.2.127:80"));
    assert_true(operator_has(TEN, "[::ffff:10.0.0.1]:80"));
    assert_true(operator_has(SELF, "[::1]:80"));
    assert_false(operator_has(SELF, "127.0.0.1:80"));
    assert_true(operator_has(ALL, "1.2.3.4:80"));
    assert_false(operator_has(ALL, "[::1]:80"));
    assert_false(operator_has(ALL, "unix:/run/x"));
}

TEST(out_of_memory)
{
    plan_reset();
    struct proxy_table *table = NULL;
    struct fault why;
    heap_fail_after(0);
    assert_int_equal(proxy_table_build(&plan, &table, &why), STATUS_NO_MEMORY);
    heap_fail_after(-1);
    assert_null(table);
}
