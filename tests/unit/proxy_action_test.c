// SPDX-License-Identifier: Apache-2.0
// What routes do to requests and answers on their way, and what they answer by themselves.
#include "proxy_world.h"
#include "test.h"

static struct proxy_action_plan action;
static struct proxy_redirect_plan to;
static struct proxy_answer_plan fixed;

// One route to the service, or with `own` to none.
static struct world *world_of(struct proxy_route_plan route, bool own)
{
    struct world *w = world_create();
    w->routes[0] = route;
    w->routes[0].action = &action;
    w->routes[0].service = own ? PROXY_SERVICE_NONE : 0;
    world_publish(w);
    return w;
}

static struct world *world_acting(const char *path, enum proxy_path_kind kind)
{
    return world_of((struct proxy_route_plan){.path = path, .path_kind = kind}, false);
}

// The target that the origin got for this one.
static void expect_target(struct world *w, const char *target, const char *wanted)
{
    char text[512], line[512];
    struct peer *o = w->origins[0].peers[0];
    if (o != NULL)
        peer_clear(o);
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: shop\r\n\r\n", target);
    struct peer *c = world_ask(w, text);
    assert_true(peer_has(c, "200 OK"));
    snprintf(line, sizeof line, "GET %s HTTP/1.1\r\n", wanted);
    if (!peer_has(w->origins[0].peers[0], line))
        fail_msg("%s became %.60s", target, w->origins[0].peers[0]->got);
}

TEST(a_prefix_is_replaced)
{
    action = (struct proxy_action_plan){.path = "/v2"};
    struct world *w = world_acting("/api", PROXY_PATH_PREFIX);
    expect_target(w, "/api", "/v2");
    expect_target(w, "/api/", "/v2/");
    expect_target(w, "/api/x?a=/api", "/v2/x?a=/api");
    expect_target(w, "/api;v=1/x;w", "/v2/x;w");
    expect_target(w, "/x/../api//%41", "/v2/A");
    world_destroy(w);
    action.path = "/";
    w = world_acting("/api", PROXY_PATH_PREFIX);
    expect_target(w, "/api", "/");
    expect_target(w, "/api/x", "/x");
    world_destroy(w);
    action.path = "/all";
    w = world_acting(NULL, PROXY_PATH_PREFIX);
    expect_target(w, "/", "/all/");
    expect_target(w, "/x", "/all/x");
    world_destroy(w);
}

TEST(a_template_is_filled)
{
    action = (struct proxy_action_plan){.path = "/v2/{rest}/of/{id}"};
    struct world *w = world_acting("/orders/{id}/{rest...}", PROXY_PATH_TEMPLATE);
    expect_target(w, "/orders/5/a/b?q", "/v2/a/b/of/5?q");
    expect_target(w, "/orders/%2F%2f/", "/v2//of/%2F%2F");
    world_destroy(w);
}

// The origin sees the path that was matched, not another spelling of it.
TEST(written_routes_pass_the_normal_form_on)
{
    action = (struct proxy_action_plan){.name = "plain"};
    struct world *w = world_acting("/a", PROXY_PATH_PREFIX);
    expect_target(w, "/x/../a//b/%7e", "/a/b/~");
    expect_target(w, "/a;v=1", "/a;v=1");
    world_destroy(w);
}

// People who look for a request know what was asked, not what became of it.
TEST(logs_tell_what_was_asked)
{
    static const struct proxy_edit_plan EDITS[] = {{PROXY_EDIT_SET, "User-Agent", "sluice"},
                                                   {PROXY_EDIT_REMOVE, "Referer", NULL}};
    struct io_sim_config sim = {.seed = 1};
    struct proxy_config config = {.accesses = true};
    struct proxy_access seen[2];
    struct proxy_event event;
    action = (struct proxy_action_plan){
        .request = EDITS, .request_count = ARRAY_LEN(EDITS), .host = "inner.example", .path = "/orders"};
    struct world *w = world_create_with(&sim, &config);
    w->routes[0] = (struct proxy_route_plan){
        .path = "/api/{id}", .path_kind = PROXY_PATH_TEMPLATE, .action = &action, .service = 0};
    w->origins[0].reply = "HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n";
    world_publish(w);
    world_ask(w, "GET /api/5?q=1 HTTP/1.1\r\nHost: shop\r\nUser-Agent: curl\r\nReferer: here\r\n\r\n");
    assert_true(peer_has(w->origins[0].peers[0], "GET /orders?q=1 HTTP/1.1\r\nHost: inner.example\r\n"));
    assert_int_equal(proxy_accesses_take(w->proxy, seen, ARRAY_LEN(seen)), 1);
    assert_string_equal(seen[0].method, "GET");
    assert_string_equal(seen[0].target, "/api/5?q=1");
    assert_string_equal(seen[0].host, "shop");
    assert_string_equal(seen[0].agent, "curl");
    assert_string_equal(seen[0].referer, "here");
    assert_int_equal(proxy_events_take(w->proxy, &event, 1), 1);
    assert_string_equal(event.path, "/api/5");
    // The longest that is told, and one beyond; the next request has its own.
    char text[4096] = "GET /api/", target[PROXY_ACCESS_TARGET_BYTES];
    memset(text + 9, 'x', 1000);
    memcpy(target, text + 4, sizeof target - 1);
    target[sizeof target - 1] = '\0';
    snprintf(text + 1009, sizeof text - 1009, " HTTP/1.1\r\nHost: %0200d\r\nUser-Agent: %0400d\r\n\r\n", 1,
             2);
    world_ask(w, text);
    world_ask(w, "GET /api/6 HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_int_equal(proxy_accesses_take(w->proxy, seen, ARRAY_LEN(seen)), 2);
    assert_string_equal(seen[0].target, target);
    assert_int_equal(strlen(seen[0].agent), PROXY_ACCESS_FIELD_BYTES - 1);
    assert_string_equal(seen[1].target, "/api/6");
    assert_string_equal(seen[1].agent, "");
    world_destroy(w);
}

TEST(headers_of_requests)
{
    static const struct proxy_edit_plan EDITS[] = {
        {PROXY_EDIT_SET, "X-Set", "{id} {client} {host} {scheme} {{}}"},
        {PROXY_EDIT_ADD, "X-Add", "more"},
        {PROXY_EDIT_SET, "X-Both", "set"},
        {PROXY_EDIT_ADD, "X-Both", "added"},
        {PROXY_EDIT_REMOVE, "X-Gone", NULL},
    };
    action = (struct proxy_action_plan){
        .request = EDITS, .request_count = ARRAY_LEN(EDITS), .host = "Inner.example"};
    struct world *w = world_acting("/{id}", PROXY_PATH_TEMPLATE);
    struct peer *c = world_ask(
        w, "POST /5 HTTP/1.1\r\nHost: shop:8080\r\nX-Set: forged\r\nx_set: forged\r\n"
           "X-Both: forged\r\nX-Add: first\r\nX-GONE: 1\r\nX_Gone: 2\r\nTransfer-Encoding: chunked\r\n"
           "Trailer: x\r\n\r\n1\r\na\r\n0\r\nX-Gone: 3\r\nX-Set: 4\r\nX-Sum: 5\r\n\r\n");
    assert_true(peer_has(c, "200 OK"));
    struct peer *o = w->origins[0].peers[0];
    assert_true(peer_has(o, "POST /5 HTTP/1.1\r\nHost: inner.example\r\n"));
    assert_true(peer_has(o, "X-Forwarded-Host: shop:8080\r\n"));
    assert_true(peer_has(o, "X-Set: 5 "));
    assert_true(peer_has(o, " shop http {}\r\n"));
    assert_true(peer_has(o, "X-Add: first\r\n"));
    assert_true(peer_has(o, "X-Add: more\r\n"));
    assert_true(peer_has(o, "X-Both: set\r\nX-Both: added\r\n"));
    assert_int_equal(peer_count_of(o, "X-Both"), 2);
    assert_true(peer_has(o, "X-Sum: 5\r\n"));
    assert_false(peer_has(o, "forged"));
    assert_false(peer_has(o, "one: "));
    assert_false(peer_has(o, "ONE: "));
    assert_int_equal(peer_count_of(o, "X-Set"), 1);
    world_destroy(w);
}

TEST(headers_of_answers)
{
    static const struct proxy_edit_plan EDITS[] = {
        {PROXY_EDIT_SET, "Server", "ours"},
        {PROXY_EDIT_ADD, "Vary", "X-Beta"},
        {PROXY_EDIT_REMOVE, "X-Internal", NULL},
    };
    action = (struct proxy_action_plan){.response = EDITS, .response_count = ARRAY_LEN(EDITS)};
    struct world *w = world_acting(NULL, PROXY_PATH_PREFIX);
    w->origins[0].reply =
        "HTTP/1.1 200 OK\r\nServer: theirs\r\nX-Internal: 1\r\nVary: Accept\r\n"
        "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Internal: 2\r\nX-Sum: 3\r\n\r\n";
    struct peer *c = world_ask(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_true(peer_has(c, "Server: ours\r\n"));
    assert_true(peer_has(c, "Vary: Accept\r\n"));
    assert_true(peer_has(c, "Vary: X-Beta\r\n"));
    assert_true(peer_has(c, "X-Sum: 3\r\n"));
    assert_false(peer_has(c, "theirs"));
    assert_false(peer_has(c, "X-Internal"));
    world_destroy(w);
}

// A reload between request and answer changes nothing for it.
TEST(an_action_holds_to_the_end)
{
    static const struct proxy_edit_plan REMOVE = {PROXY_EDIT_REMOVE, "X-Internal", NULL};
    action = (struct proxy_action_plan){.response = &REMOVE, .response_count = 1};
    struct world *w = world_acting(NULL, PROXY_PATH_PREFIX);
    w->origins[0].reply = "";
    struct peer *c = world_ask(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    w->routes[0].action = NULL;
    world_publish(w);
    world_run(w, 100);
    peer_send(w->origins[0].peers[0], "HTTP/1.1 200 OK\r\nX-Internal: 1\r\nContent-Length: 0\r\n\r\n");
    world_run(w, 100);
    assert_true(peer_has(c, "200 OK"));
    assert_false(peer_has(c, "X-Internal"));
    world_destroy(w);
}

TEST(times_and_sizes_of_a_route)
{
    action = (struct proxy_action_plan){.first_byte_ms = 50, .body_bytes_max = 4};
    struct world *w = world_acting(NULL, PROXY_PATH_PREFIX);
    struct peer *c = world_ask(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\n");
    assert_true(peer_has(c, "413 "));
    c = world_ask(
        w, "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n");
    assert_true(peer_has(c, "413 "));
    c = world_ask(w, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nabcd");
    assert_true(peer_has(c, "200 OK"));
    w->origins[0].reply = "";
    c = world_ask(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    world_run(w, 100);
    assert_true(peer_has(c, "504 "));
    world_destroy(w);
}

TEST(retries_off)
{
    for (int off = 0; off < 2; off++) {
        action = (struct proxy_action_plan){.name = "r", .retry_off = off > 0};
        struct world *w = world_acting(NULL, PROXY_PATH_PREFIX);
        origin_unlisten(&w->origins[0]); // every attempt is a failed connect
        struct peer *c = world_ask(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
        world_run(w, 5000);
        assert_true(peer_has(c, "502 "));
        assert_int_equal(version_counter(w, 0, PROXY_VERSION_RETRIES) > 0, off == 0);
        world_destroy(w);
    }
}

// ---- answers of routes ----

static void expect_location(struct world *w, const char *target, const char *host, const char *wanted)
{
    char text[512], line[512];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, host);
    struct peer *c = world_ask(w, text);
    snprintf(line, sizeof line, "Location: %s\r\n", wanted);
    if (!peer_has(c, line))
        fail_msg("%s: %s", target, c->got);
    assert_int_equal(w->origins[0].accepted, 0);
}

TEST(redirects)
{
    action = (struct proxy_action_plan){.redirect = &to};
    to = (struct proxy_redirect_plan){.status = 301, .scheme = PROXY_SCHEME_HTTPS};
    struct world *w = world_of((struct proxy_route_plan){.path = NULL}, true);
    expect_location(w, "/a?b=c", "Shop.example:8080", "https://Shop.example/a?b=c");
    // A path never becomes a host.
    expect_location(w, "//evil.example/", "shop.example", "https://shop.example/evil.example/");
    expect_location(w, "/%2F/evil.example", "shop.example", "https://shop.example/%2F/evil.example");
    struct peer *c = world_ask(w, "HEAD / HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_true(peer_has(c, "301 Moved Permanently\r\n"));
    c = world_ask(w, "GET / HTTP/1.0\r\n\r\n");
    assert_true(peer_has(c, "400 "));
    world_destroy(w);
    to = (struct proxy_redirect_plan){.status = 308, .path = "/new/{rest}"};
    w = world_of((struct proxy_route_plan){.path = "/old/{rest...}", .path_kind = PROXY_PATH_TEMPLATE}, true);
    expect_location(w, "/old/a/b?q", "shop:8080", "http://shop:8080/new/a/b?q");
    expect_location(w, "/old//evil.example", "shop", "http://shop/new/evil.example");
    // Neither does it end a header.
    expect_location(w, "/old/a%0d%0aX-Evil:1", "shop", "http://shop/new/a%0D%0AX-Evil:1");
    c = world_ask(w, "GET /old/\\evil.example HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_true(peer_has(c, "400 "));
    c = world_ask(w, "GET /old/a HTTP/1.1\r\nHost: shop@evil.example\r\n\r\n");
    assert_true(peer_has(c, "400 "));
    world_destroy(w);
    to = (struct proxy_redirect_plan){.status = 302, .host = "other.example", .port = 444};
    w = world_of((struct proxy_route_plan){.path = "/a"}, true);
    expect_location(w, "/a/b", "shop:8080", "http://other.example:444/a/b");
    world_destroy(w);
}

TEST(fixed_answers)
{
    static const struct proxy_edit_plan HEADERS[] = {{PROXY_EDIT_ADD, "content-type", "application/json"},
                                                     {PROXY_EDIT_ADD, "X-Own", "1"}};
    action = (struct proxy_action_plan){.answer = &fixed};
    fixed = (struct proxy_answer_plan){.status = 503, .headers = HEADERS, .header_count = 2, .body = "{}"};
    struct world *w = world_of((struct proxy_route_plan){.path = NULL}, true);
    struct peer *c = world_ask(
        w, "GET / HTTP/1.1\r\nHost: h\r\n\r\nPOST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
    assert_int_equal(peer_count_of(c, "HTTP/1.1 503 Service Unavailable\r\n"), 2);
    assert_true(peer_has(c, "Content-Type: application/json\r\nContent-Length: 2\r\n"));
    assert_true(peer_has(c, "X-Own: 1\r\n"));
    assert_int_equal(worker_counter(w, PROXY_WORKER_LOCAL), 2);
    assert_int_equal(worker_counter(w, PROXY_WORKER_UNROUTED), 0);
    world_destroy(w);
    fixed = (struct proxy_answer_plan){.status = 204};
    w = world_of((struct proxy_route_plan){.path = NULL}, true);
    c = world_ask(w, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_true(peer_has(c, "HTTP/1.1 204 No Content\r\n"));
    world_destroy(w);
}

TEST(a_listener_that_redirects)
{
    struct world *w = world_create();
    w->plan.https_listeners = 1;
    world_publish(w);
    struct peer *c = world_ask(w, "POST /a?b HTTP/1.1\r\nHost: shop:80\r\n\r\n");
    assert_true(peer_has(c, "308 Permanent Redirect\r\n"));
    assert_true(peer_has(c, "Location: https://shop/a?b\r\n"));
    w->plan.https_listeners = 2; // another one
    world_publish(w);
    c = world_ask(w, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_true(peer_has(c, "200 OK"));
    // What a proxy of our own took by https is not sent in circles.
    w->plan.https_listeners = 1;
    w->plan.trusted_hops = 1;
    world_publish(w);
    c = world_ask(w, "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-Proto: https\r\n\r\n");
    assert_true(peer_has(c, "200 OK"));
    world_destroy(w);
}
