// SPDX-License-Identifier: Apache-2.0
// Written routes: which of several wins, whatever their order; what conditions ask for; what no plan may say.
#include "base/check.h"
#include "base/heap.h"
#include "base/rng.h"
#include "net/http/http1.h"
#include "net/proxy/table_private.h"
#include "test.h"

enum { ROUTES_MAX = 64 };

static struct proxy_version_plan version = {.slot = 0, .name = "v1"};
static struct proxy_service_plan service;
static struct proxy_route_plan routes[ROUTES_MAX];
static struct proxy_table_plan plan;
static struct http_request request;
static char head[2048];

static void reset(void)
{
    service = (struct proxy_service_plan){.name = "a",
                                          .versions = &version,
                                          .version_count = 1,
                                          .canary = PROXY_VERSION_NONE,
                                          .control = PROXY_VERSION_NONE};
    plan = (struct proxy_table_plan){
        .version = 1, .services = &service, .service_count = 1, .routes = routes, .route_count = 0};
}

static void add(struct proxy_route_plan route)
{
    routes[plan.route_count++] = route;
}

static struct proxy_table *built(void)
{
    struct proxy_table *table = NULL;
    struct fault why = {.text = ""};
    if (proxy_table_build(&plan, &table, &why) != STATUS_OK)
        fail_msg("%s", why.text);
    return table;
}

// fields: lines with their ends, or "".
static void ask(const char *method, const char *host, const char *target, const char *fields)
{
    size_t len;
    enum http1_reject why;
    snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", method, target, host, fields);
    assert_int_equal(http1_request_parse(head, strlen(head), NULL, &request, &len, &why), STATUS_OK);
}

static int winner(const struct proxy_table *table, bool secure)
{
    const struct proxy_route *route = proxy_table_find_written(table, &request, secure);
    uint32_t first;
    uint32_t count = proxy_table_matches(table, &request, secure, &first, 1);
    assert_int_equal(count, route != NULL);
    assert_true(route == NULL || route->plan == first);
    return route == NULL ? -1 : (int)route->plan;
}

static int asked(const struct proxy_table *table, const char *host, const char *target)
{
    ask("GET", host, target, "");
    return winner(table, false);
}

// ---- precedence ----

// In their order: each is before all that follow, and "/orders/5/items?a=1" with x: 1 at a.shop.example has
// them all but the hosts of others.
static const struct proxy_condition_plan WITH_X = {"x", PROXY_IS, "1"}, WITH_A = {"a", PROXY_PRESENT, NULL};
static const char *const GET[] = {"GET"};
static const struct proxy_route_plan ORDERED[] = {
    {.host = "a.shop.example",
     .path = "/orders/5/items",
     .path_kind = PROXY_PATH_EXACT,
     .headers = &WITH_X,
     .header_count = 1},
    {.host = "a.shop.example", .path = "/orders/5/items", .path_kind = PROXY_PATH_EXACT},
    {.host = "a.shop.example",
     .path = "/orders/{id}/items",
     .path_kind = PROXY_PATH_TEMPLATE,
     .headers = &WITH_X,
     .header_count = 1},
    {.host = "a.shop.example", .path = "/orders/{id}/items", .path_kind = PROXY_PATH_TEMPLATE},
    {.host = "a.shop.example", .path = "/orders/{id}/{what}", .path_kind = PROXY_PATH_TEMPLATE},
    {.host = "a.shop.example", .path = "/{a}/{b}/{c}", .path_kind = PROXY_PATH_TEMPLATE},
    {.host = "a.shop.example", .path = "/{a}/{b}/{c...}", .path_kind = PROXY_PATH_TEMPLATE},
    {.host = "a.shop.example", .path = "/orders/5/items"},
    {.host = "a.shop.example",
     .path = "/orders/5",
     .headers = &WITH_X,
     .header_count = 1,
     .query = &WITH_A,
     .query_count = 1,
     .methods = GET,
     .method_count = 1,
     .scheme = PROXY_SCHEME_HTTP},
    {.host = "a.shop.example",
     .path = "/orders/5",
     .headers = &WITH_X,
     .header_count = 1,
     .query = &WITH_A,
     .query_count = 1,
     .methods = GET,
     .method_count = 1},
    {.host = "a.shop.example",
     .path = "/orders/5",
     .headers = &WITH_X,
     .header_count = 1,
     .query = &WITH_A,
     .query_count = 1},
    {.host = "a.shop.example", .path = "/orders/5", .headers = &WITH_X, .header_count = 1},
    {.host = "a.shop.example", .path = "/orders/5"},
    {.host = "a.shop.example", .path = "/orders"},
    {.host = "*.shop.example", .path = "/orders/5/items", .path_kind = PROXY_PATH_EXACT},
    {.host = "*.shop.example", .path = "/orders"},
    {.host = "*.example", .path = "/orders/5/items", .path_kind = PROXY_PATH_EXACT},
    {.host = "*.example"},
    {.path = "/orders/5/items", .path_kind = PROXY_PATH_EXACT},
    {.headers = &WITH_X, .header_count = 1},
    {.path = NULL},
};

TEST(one_total_order)
{
    ask("GET", "a.shop.example", "/orders/5/items?a=1", "x: 1\r\n");
    for (size_t from = 0; from < ARRAY_LEN(ORDERED); from++) {
        reset();
        for (size_t i = ARRAY_LEN(ORDERED); i > from; i--)
            add(ORDERED[i - 1]);
        struct proxy_table *table = built();
        uint32_t plans[ROUTES_MAX];
        uint32_t count = proxy_table_matches(table, &request, false, plans, ROUTES_MAX);
        assert_int_equal(count, plan.route_count);
        for (uint32_t i = 0; i < count; i++)
            assert_int_equal(plans[i], count - 1 - i);
        assert_int_equal(winner(table, false), (int)count - 1);
        proxy_table_destroy(table);
    }
}

TEST(why_in_words)
{
    static const struct {
        size_t first, second;
        const char *why;
    } CASES[] = {
        {0, 1, "it has more conditions"}, {1, 3, "its kind of path is more exact"},
        {4, 5, "its path is longer"},     {13, 14, "its host is more exact"},
        {15, 17, "its host is longer"},
    };
    reset();
    for (size_t i = 0; i < ARRAY_LEN(ORDERED); i++)
        add(ORDERED[i]);
    add((struct proxy_route_plan){.query = &WITH_A, .query_count = 1});
    struct proxy_table *table = built();
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        assert_string_equal(proxy_table_why(table, (uint32_t)CASES[i].first, (uint32_t)CASES[i].second),
                            CASES[i].why);
    assert_string_equal(proxy_table_why(table, 19, 21), "it stands earlier");
    proxy_table_destroy(table);
}

// Any routes in any order: the best route is the same one, and only where nothing but the place in the plan
// differs that place decides.
TEST(order_in_the_plan_decides_last)
{
    static const char *const HOSTS[] = {NULL, "a.b.c", "*.b.c", "*.c"};
    static const char *const PATHS[] = {"/", "/x", "/x/y", "/x/{b}", "/{a}/y", "/{a}/{b...}"};
    static const struct proxy_condition_plan CONDITIONS[] = {{"h", PROXY_PRESENT, NULL},
                                                             {"g", PROXY_PRESENT, NULL}};
    struct rng rng;
    rng_init(&rng, 20);
    for (int round = 0; round < 400; round++) {
        struct proxy_route_plan drawn[12];
        for (size_t i = 0; i < ARRAY_LEN(drawn); i++) {
            size_t path = rng_next(&rng) % ARRAY_LEN(PATHS);
            bool template = strchr(PATHS[path], '{') != NULL;
            uint64_t count = rng_next(&rng) % 3;
            drawn[i] = (struct proxy_route_plan){.host = HOSTS[rng_next(&rng) % ARRAY_LEN(HOSTS)],
                                                 .path = PATHS[path],
                                                 .path_kind = template                 ? PROXY_PATH_TEMPLATE
                                                              : rng_next(&rng) % 2 > 0 ? PROXY_PATH_EXACT
                                                                                       : PROXY_PATH_PREFIX,
                                                 .headers = &CONDITIONS[count == 1 ? rng_next(&rng) % 2 : 0],
                                                 .header_count = (uint32_t)count};
        }
        const struct proxy_route_plan *best = NULL;
        ask("GET", "a.b.c", "/x/y", "h: 1\r\ng: 1\r\n");
        for (int turn = 0; turn < 4; turn++) {
            reset();
            for (size_t i = 0; i < ARRAY_LEN(drawn); i++) {
                size_t other = i + rng_next(&rng) % (ARRAY_LEN(drawn) - i);
                struct proxy_route_plan kept = drawn[i];
                drawn[i] = drawn[other];
                drawn[other] = kept;
            }
            for (size_t i = 0; i < ARRAY_LEN(drawn); i++) {
                bool twice = false; // plain ones are refused
                for (uint32_t j = 0; j < plan.route_count; j++)
                    twice |= routes[j].host == drawn[i].host && routes[j].path == drawn[i].path &&
                             routes[j].path_kind == drawn[i].path_kind &&
                             routes[j].header_count == drawn[i].header_count;
                if (!twice)
                    add(drawn[i]);
            }
            struct proxy_table *table = built();
            int won = winner(table, false);
            static struct proxy_route_plan first;
            if (best == NULL && won >= 0) {
                first = routes[won];
                best = &first;
            } else if (best != NULL) {
                assert_true(won >= 0);
                assert_ptr_equal(routes[won].host, best->host);
                assert_int_equal(routes[won].path_kind, best->path_kind);
                assert_int_equal(routes[won].header_count, best->header_count);
                if (best->path_kind == PROXY_PATH_TEMPLATE) // those of one rank are equal
                    assert_int_equal(http_template_rank(slice_of(routes[won].path)),
                                     http_template_rank(slice_of(best->path)));
                else
                    assert_ptr_equal(routes[won].path, best->path);
            }
            proxy_table_destroy(table);
        }
    }
}

// ---- conditions ----

TEST(exact_paths_and_templates)
{
    reset();
    add((struct proxy_route_plan){.path = "/a", .path_kind = PROXY_PATH_EXACT});
    add((struct proxy_route_plan){.path = "/a/{id}", .path_kind = PROXY_PATH_TEMPLATE});
    add((struct proxy_route_plan){.path = "/f/{rest...}", .path_kind = PROXY_PATH_TEMPLATE});
    struct proxy_table *table = built();
    static const struct {
        const char *target;
        int winner;
    } CASES[] = {
        {"/a", 0},          {"/%61", 0},    {"//a", 0},       {"/x/../a", 0}, {"/a;v=1", 0},
        {"/a?b", 0},        {"/a/", -1},    {"/A", -1},       {"/a/5", 1},    {"/a//5", 1},
        {"/a;v/5;w=2", 1},  {"/a/5/", -1},  {"/f/", 2},       {"/f/x/y", 2},  {"/f", -1},
        {"/a/%2e%2e/a", 0}, {"/..;/a", -1}, {"/x//../a", -1}, {"/a%2F5", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        if (asked(table, "h", CASES[i].target) != CASES[i].winner)
            fail_msg("%s", CASES[i].target);
    proxy_table_destroy(table);
}

static bool holds(struct proxy_route_plan route, const char *method, const char *target, const char *fields)
{
    reset();
    add(route);
    struct proxy_table *table = built();
    ask(method, "h", target, fields);
    bool matches = winner(table, false) == 0;
    proxy_table_destroy(table);
    return matches;
}

TEST(methods_and_headers)
{
    static const char *const METHODS[] = {"GET", "PURGE"};
    const struct proxy_route_plan by_method = {.methods = METHODS, .method_count = 2};
    assert_true(holds(by_method, "GET", "/", ""));
    assert_true(holds(by_method, "PURGE", "/", ""));
    assert_false(holds(by_method, "HEAD", "/", ""));
    assert_false(holds(by_method, "get", "/", ""));
    static const struct {
        struct proxy_condition_plan condition;
        const char *fields;
        bool holds;
    } CASES[] = {
        {{"X-Plan", PROXY_IS, "gold"}, "x-plan: gold\r\n", true},
        {{"X-Plan", PROXY_IS, "gold"}, "x-plan: Gold\r\n", false},
        {{"X-Plan", PROXY_IS, "gold"}, "x-plan: silver\r\nX-PLAN: gold\r\n", true},
        {{"X-Plan", PROXY_IS, "gold"}, "", false},
        {{"X-Plan", PROXY_BEGINS, "go"}, "x-plan: gold\r\n", true},
        {{"X-Plan", PROXY_BEGINS, "go"}, "x-plan: ago\r\n", false},
        {{"X-Plan", PROXY_PRESENT, NULL}, "x-plan:\r\n", true},
        {{"X-Plan", PROXY_PRESENT, NULL}, "x-plans: 1\r\n", false},
        {{"X-Plan", PROXY_ABSENT, NULL}, "x-plans: 1\r\n", true},
        {{"X-Plan", PROXY_ABSENT, NULL}, "x-other: 1\r\nx-plan:\r\n", false},
        {{"Cookie", PROXY_BEGINS, "a"}, "Cookie: a=1\r\n", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        const struct proxy_route_plan route = {.headers = &CASES[i].condition, .header_count = 1};
        assert_int_equal(holds(route, "GET", "/", CASES[i].fields), CASES[i].holds);
    }
}

TEST(queries_without_their_escapes)
{
    static const struct {
        struct proxy_condition_plan condition;
        const char *target;
        bool holds;
    } CASES[] = {
        {{"debug", PROXY_IS, "1"}, "/?debug=1", true},
        {{"debug", PROXY_IS, "1"}, "/?a=2&debug=1&b", true},
        {{"debug", PROXY_IS, "1"}, "/?d%65bug=%31", true},
        {{"debug", PROXY_IS, "1"}, "/?debug=2&debug=1", true},
        {{"debug", PROXY_IS, "1"}, "/?debug=12", false},
        {{"debug", PROXY_IS, "1"}, "/?xdebug=1", false},
        {{"debug", PROXY_IS, "1"}, "/debug=1", false},
        {{"q", PROXY_IS, "a b"}, "/?q=a+b", true},
        {{"q", PROXY_IS, "a b"}, "/?q=a%20b", true},
        {{"q", PROXY_BEGINS, "a"}, "/?q=%61%", true},
        {{"q", PROXY_BEGINS, "a"}, "/?q=", false},
        {{"q", PROXY_PRESENT, NULL}, "/?q", true},
        {{"q", PROXY_PRESENT, NULL}, "/?", false},
        {{"q", PROXY_ABSENT, NULL}, "/?qq=1", true},
        {{"q", PROXY_ABSENT, NULL}, "/?x&%71=", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        const struct proxy_route_plan route = {.query = &CASES[i].condition, .query_count = 1};
        if (holds(route, "GET", CASES[i].target, "") != CASES[i].holds)
            fail_msg("%s", CASES[i].target);
    }
}

TEST(schemes)
{
    reset();
    add((struct proxy_route_plan){.scheme = PROXY_SCHEME_HTTPS});
    add((struct proxy_route_plan){.path = NULL});
    struct proxy_table *table = built();
    ask("GET", "h", "/", "X-Forwarded-Proto: https\r\n");
    assert_int_equal(winner(table, true), 0);
    assert_int_equal(winner(table, false), 1); // nobody is believed
    proxy_table_destroy(table);
    plan.trusted_hops = 1;
    table = built();
    assert_int_equal(winner(table, false), 0);
    proxy_table_destroy(table);
}

// ---- what no plan may say ----

static bool refused(struct proxy_route_plan route)
{
    struct proxy_table *table = NULL;
    struct fault why;
    reset();
    add(route);
    enum status status = proxy_table_build(&plan, &table, &why);
    proxy_table_destroy(table);
    return status == STATUS_INVALID;
}

static bool edit_refused(const char *name, const char *value)
{
    const struct proxy_edit_plan edit = {PROXY_EDIT_SET, name, value};
    const struct proxy_action_plan request_side = {.request = &edit, .request_count = 1};
    const struct proxy_action_plan response_side = {.response = &edit, .response_count = 1};
    bool both = refused((struct proxy_route_plan){.action = &request_side});
    return refused((struct proxy_route_plan){.action = &response_side}) && both;
}

TEST(bad_routes)
{
    static const struct proxy_redirect_plan GOOD = {.status = 301, .path = "/x"},
                                            BAD_STATUS = {.status = 300},
                                            BAD_PATH = {.status = 301, .path = "x"},
                                            BAD_NAME = {.status = 301, .path = "/{id}"},
                                            BAD_HOST = {.status = 301, .host = "a b"};
    static const struct proxy_answer_plan ANSWER = {.status = 200}, INFORMATIONAL = {.status = 101};
    static const char *const NO_METHOD[] = {"G T"};
    const struct proxy_action_plan redirect = {.redirect = &GOOD},
                                   both = {.redirect = &GOOD, .answer = &ANSWER}, none = {.name = "x"},
                                   answer = {.answer = &ANSWER};
    const uint32_t own = PROXY_SERVICE_NONE;
    assert_false(refused((struct proxy_route_plan){.service = own, .action = &redirect}));
    assert_false(refused((struct proxy_route_plan){.service = own, .action = &answer}));
    assert_true(refused((struct proxy_route_plan){.service = own}));
    assert_true(refused((struct proxy_route_plan){.service = own, .action = &none}));
    assert_true(refused((struct proxy_route_plan){.service = own, .action = &both}));
    assert_true(refused((struct proxy_route_plan){.service = 0, .action = &redirect}));
    assert_true(refused((struct proxy_route_plan){.path = "/{a", .path_kind = PROXY_PATH_TEMPLATE}));
    assert_true(refused((struct proxy_route_plan){.path_kind = PROXY_PATH_EXACT}));
    assert_true(refused((struct proxy_route_plan){.methods = NO_METHOD, .method_count = 1}));
    const struct proxy_redirect_plan *const bad[] = {&BAD_STATUS, &BAD_PATH, &BAD_NAME, &BAD_HOST};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const struct proxy_action_plan action = {.redirect = bad[i]};
        assert_true(refused((struct proxy_route_plan){.service = own, .action = &action}));
    }
    const struct proxy_action_plan informational = {.answer = &INFORMATIONAL};
    assert_true(refused((struct proxy_route_plan){.service = own, .action = &informational}));
    assert_true(edit_refused("Transfer-Encoding", "chunked"));
    assert_true(edit_refused("content_length", "1"));
    assert_true(edit_refused("X-Forwarded-For", "1.1.1.1"));
    assert_true(edit_refused("a b", "1"));
    assert_true(edit_refused("X-A", "a\r\nX-B: 1"));
    assert_true(edit_refused("X-A", NULL));
    assert_false(edit_refused("X-A", "1"));
}

TEST(an_action_outlives_its_table)
{
    const struct proxy_action_plan named = {.name = "named", .retry_off = true};
    reset();
    add((struct proxy_route_plan){.action = &named});
    struct proxy_table *table = built();
    ask("GET", "h", "/", "");
    struct proxy_action *action = proxy_table_find_written(table, &request, false)->action;
    action->holds++;
    proxy_table_destroy(table);
    assert_true(slice_equal(action->name, SLICE("named")));
    proxy_action_release(action);
}

TEST(out_of_memory)
{
    const struct proxy_action_plan named = {.name = "named"};
    struct proxy_table *table = NULL;
    struct fault why;
    reset();
    add((struct proxy_route_plan){.path = "/a", .action = &named});
    add((struct proxy_route_plan){.path = "/b", .action = &named});
    for (long n = 0; n < 3; n++) {
        heap_fail_after(n);
        assert_int_equal(proxy_table_build(&plan, &table, &why), STATUS_NO_MEMORY);
        heap_fail_after(-1);
    }
    assert_null(table);
}
