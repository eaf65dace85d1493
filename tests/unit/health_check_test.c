// SPDX-License-Identifier: Apache-2.0
// Active checks in virtual time: what passes, what fails and when, how often, how many at once, and what
// becomes of endpoints that come and go.
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "net/health/health.h"
#include "net/io/sim.h"
#include "test.h"

enum { SLOTS = 256, CONNECTIONS = 4096, LATENCY_US = 100 };

static const char GOOD[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

struct connection {
    struct io_stream stream;
    bool closed;
};

static struct io_sim *sim;
static struct io_loop *loop, *origin_loop;
static struct io_listener listener;
static struct io_addr origin;
static struct connection *connections;
static uint32_t connected, open_now, open_most;
static const char *reply; // NULL: it hangs; empty: it closes
static char asked[16384]; // since a connection last came
static size_t asked_len;
static struct health *health;
static uint32_t changes;
static uint64_t changed_us;
static uint16_t changed_slot;
static struct health_state changed;

// ---- the origin ----

static void send_text(struct io_stream *stream, const char *text)
{
    struct io_buf *buf = io_buf_get(stream->loop);
    assert_non_null(buf);
    memcpy(buf->data, text, strlen(text));
    buf->end = (uint32_t)strlen(text);
    io_stream_send(stream, buf);
}

static void origin_close(struct connection *connection)
{
    if (connection->closed)
        return;
    connection->closed = true;
    open_now--;
    io_stream_close(&connection->stream);
}

static void on_data(struct io_stream *stream, struct io_buf *buf)
{
    assert_true(asked_len + io_buf_len(buf) < sizeof asked);
    memcpy(asked + asked_len, buf->data + buf->start, io_buf_len(buf));
    asked_len += io_buf_len(buf);
    asked[asked_len] = '\0';
    io_buf_put(buf);
    if (memmem(asked, asked_len, "GET ", 4) == NULL)
        return;
    if (reply != NULL && reply[0] == '\0')
        origin_close(CONTAINER_OF(stream, struct connection, stream));
    else if (reply != NULL)
        send_text(stream, reply);
}

static void on_end(struct io_stream *stream, enum status status)
{
    (void)status;
    origin_close(CONTAINER_OF(stream, struct connection, stream));
}

static const struct io_stream_ops ORIGIN_OPS = {.on_data = on_data, .on_end = on_end};

static void on_accept(struct io_listener *at, int handle, const struct io_addr *from)
{
    (void)from;
    assert_true(connected < CONNECTIONS);
    struct connection *connection = &connections[connected++];
    asked_len = 0;
    asked[0] = '\0';
    open_now++;
    open_most = open_now > open_most ? open_now : open_most;
    io_stream_adopt(at->loop, &connection->stream, handle, &ORIGIN_OPS);
}

// ---- the world ----

static void on_change(void *context, uint16_t slot, const struct health_state *state)
{
    (void)context;
    changes++;
    changed_us = io_sim_now_us(sim);
    changed_slot = slot;
    changed = *state;
}

static void run_ms(uint64_t ms)
{
    io_sim_run(sim, io_sim_now_us(sim) + ms * 1000);
}

static int set_up(void **state)
{
    const struct io_sim_config config = {
        .seed = 3, .latency_us_min = LATENCY_US, .latency_us_max = LATENCY_US};
    (void)state;
    connections = calloc(CONNECTIONS, sizeof *connections);
    assert_int_equal(io_sim_create(&config, &sim), STATUS_OK);
    assert_int_equal(io_sim_loop_create(sim, &loop), STATUS_OK);
    assert_int_equal(io_sim_loop_create(sim, &origin_loop), STATUS_OK);
    assert_int_equal(io_addr_parse("10.0.0.1:80", &origin), STATUS_OK);
    listener.on_accept = on_accept;
    assert_int_equal(io_listener_open(origin_loop, &listener, &origin, false), STATUS_OK);
    const struct health_parts parts = {.loop = loop, .slots = SLOTS, .seed = 5, .changed = on_change};
    assert_int_equal(health_create(&parts, &health), STATUS_OK);
    connected = open_now = open_most = changes = 0;
    reply = GOOD;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    health_close(health);
    for (int i = 0; i < 10 && !health_closed(health); i++)
        run_ms(10);
    assert_true(health_closed(health));
    health_destroy(health);
    for (uint32_t i = 0; i < connected; i++)
        origin_close(&connections[i]);
    io_listener_close(&listener);
    run_ms(10);
    assert_int_equal(io_loop_stats(loop)->bufs_in_use, 0);
    io_loop_destroy(loop);
    io_loop_destroy(origin_loop);
    io_sim_destroy(sim);
    free(connections);
    return 0;
}
EACH_TEST(set_up, tear_down);

static struct health_rule rule_of(void)
{
    return (struct health_rule){.path = "/healthz",
                                .status_first = 200,
                                .status_last = 299,
                                .every_ms = 1000,
                                .timeout_ms = 300,
                                .rise = 2,
                                .fall = 3};
}

static void follow_one(const struct health_rule *rule)
{
    const struct health_endpoint endpoint = {.slot = 7, .addr = origin, .rule = rule};
    assert_int_equal(health_follow(health, &endpoint, 1), STATUS_OK);
}

static void run_until_checked(uint64_t passed, uint64_t failed)
{
    for (int i = 0; i < 100000; i++) {
        const struct health_state *state = health_of(health, 7);
        if (state->passed >= passed && state->failed >= failed)
            return;
        run_ms(1);
    }
    fail();
}

// ---- tests ----

TEST(asks_as_the_rule_says)
{
    struct health_rule rule = rule_of();
    follow_one(&rule);
    run_ms(1001);
    assert_string_equal(asked, "GET /healthz HTTP/1.1\r\nHost: 10.0.0.1:80\r\nUser-Agent: sluice-health\r\n"
                               "Accept: */*\r\nConnection: close\r\n\r\n");
    assert_int_equal(health_of(health, 7)->status, 200);
    snprintf(rule.host, sizeof rule.host, "shop.example");
    follow_one(&rule);
    run_ms(1200);
    assert_non_null(strstr(asked, "\r\nHost: shop.example\r\n"));
    assert_int_equal(changes, 0);
}

static void follow_told(const struct health_rule *rule, uint8_t header)
{
    const struct health_endpoint endpoint = {.slot = 7, .addr = origin, .rule = rule, .header = header};
    assert_int_equal(health_follow(health, &endpoint, 1), STATUS_OK);
}

// "PROXY UNKNOWN", or LOCAL: the check is for no client.
TEST(a_proxy_header_comes_first)
{
    static const char local[] = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET /healthz HTTP/1.1\r\n";
    static const char unknown[] = "PROXY UNKNOWN\r\nGET /healthz HTTP/1.1\r\n";
    struct health_rule rule = rule_of();
    follow_told(&rule, 1);
    run_until_checked(1, 0);
    assert_memory_equal(asked, unknown, sizeof unknown - 1);
    follow_told(&rule, 2);
    run_until_checked(2, 0);
    assert_memory_equal(asked, local, sizeof local - 1);
    rule.tcp = true;
    follow_told(&rule, 1);
    run_until_checked(3, 0);
    run_ms(10);
    assert_string_equal(asked, "PROXY UNKNOWN\r\n");
    follow_told(&rule, 0);
    run_until_checked(4, 0);
    run_ms(10);
    assert_string_equal(asked, "");
    assert_int_equal(health_of(health, 7)->failed, 0);
}

TEST(answers)
{
    static const struct {
        const char *reply;
        const char *why; // NULL: passes
    } CASES[] = {
        {GOOD, NULL},
        {"HTTP/1.1 299 x\r\n\r\n", NULL},
        {"HTTP/1.1 103 x\r\nLink: a\r\n\r\nHTTP/1.1 204 x\r\n\r\n", NULL},
        {"HTTP/1.1 301 x\r\nContent-Length: 0\r\n\r\n", "it answered another status"},
        {"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", "it answered another status"},
        {"SSH-2.0-OpenSSH\r\n\r\n", "its answer is no HTTP"},
        {"HTTP/1.1 200 OK\r\nContent-", "it took too long"},
        {NULL, "it took too long"},
        {"", "it closed without an answer"},
    };
    struct health_rule rule = rule_of();
    rule.fall = rule.rise = 1;
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        reply = GOOD;
        follow_one(&rule);
        run_until_checked(1, 0);
        reply = CASES[i].reply;
        run_ms(1500);
        const struct health_state *known = health_of(health, 7);
        assert_int_equal(known->healthy, CASES[i].why == NULL);
        if (CASES[i].why == NULL)
            assert_null(known->why);
        else
            assert_string_equal(known->why, CASES[i].why);
        assert_int_equal(health_follow(health, NULL, 0), STATUS_OK);
        assert_null(health_of(health, 7));
        run_ms(10);
    }
}

TEST(only_a_row_of_results_changes_what_is_known)
{
    const struct health_rule rule = rule_of();
    follow_one(&rule);
    run_until_checked(1, 0);
    reply = "";
    run_until_checked(1, 2);
    reply = GOOD; // two failures are no three
    run_until_checked(2, 2);
    assert_int_equal(changes, 0);
    reply = "";
    run_until_checked(2, 4);
    assert_int_equal(changes, 0);
    run_until_checked(2, 5);
    assert_int_equal(changes, 1);
    assert_int_equal(changed_slot, 7);
    assert_false(changed.healthy);
    assert_string_equal(changed.why, "it closed without an answer");
    reply = GOOD;
    run_until_checked(3, 5);
    assert_int_equal(changes, 1);
    run_until_checked(4, 5);
    assert_int_equal(changes, 2);
    assert_true(changed.healthy);
}

// From the first failure possible to the third: two pauses of 0.9 to 1.1 s, and the time of the last check.
TEST(a_hanging_endpoint_is_known_in_time)
{
    const struct health_rule rule = rule_of();
    reply = NULL;
    follow_one(&rule);
    run_until_checked(0, 1);
    uint64_t first_us = io_sim_now_us(sim);
    run_until_checked(0, 3);
    assert_int_equal(changes, 1);
    assert_true(changed_us - first_us >= 1800000 && changed_us - first_us <= 2202000);
    assert_int_equal(connected, 3);
}

TEST(a_refused_connection_fails_and_one_that_opens_is_enough_for_tcp)
{
    struct health_rule rule = rule_of();
    rule.tcp = true;
    rule.fall = 1;
    reply = NULL;
    follow_one(&rule);
    run_until_checked(3, 0);
    assert_int_equal(health_of(health, 7)->failed, 0);
    io_listener_close(&listener);
    run_until_checked(3, 1);
    assert_string_equal(health_of(health, 7)->why, "it cannot be connected to");
    assert_false(changed.healthy);
    assert_int_equal(io_listener_open(origin_loop, &listener, &origin, false), STATUS_OK);
}

TEST(one_that_begins_unhealthy_is_told_before_anything_else)
{
    struct health_rule rule = rule_of();
    rule.unhealthy_first = true;
    follow_one(&rule);
    assert_int_equal(changes, 1);
    assert_false(changed.healthy || changed.checked);
    run_until_checked(1, 0);
    assert_int_equal(changes, 1);
    run_until_checked(2, 0);
    assert_int_equal(changes, 2);
    assert_true(changed.healthy);
}

TEST(another_address_begins_anew_and_another_rule_does_not)
{
    struct health_rule rule = rule_of();
    follow_one(&rule);
    run_until_checked(2, 0);
    rule.every_ms = 500;
    follow_one(&rule);
    assert_int_equal(health_of(health, 7)->passed, 2);
    struct io_addr before = origin;
    assert_int_equal(io_addr_parse("10.0.0.2:80", &origin), STATUS_OK);
    follow_one(&rule);
    assert_false(health_of(health, 7)->checked);
    origin = before;
}

TEST(many_that_hang_are_checked_a_bounded_number_at_a_time)
{
    struct health_rule rule = rule_of();
    static struct health_endpoint endpoints[SLOTS];
    for (uint16_t i = 0; i < SLOTS; i++)
        endpoints[i] = (struct health_endpoint){.slot = i, .addr = origin, .rule = &rule};
    reply = NULL;
    assert_int_equal(health_follow(health, endpoints, SLOTS), STATUS_OK);
    run_ms(4000);
    // The origin learns of an end a moment after the next check has begun.
    assert_in_range(open_most, HEALTH_UNDER_WAY_MAX, HEALTH_UNDER_WAY_MAX + 8);
    for (uint16_t i = 0; i < SLOTS; i++)
        assert_true(health_of(health, i)->failed >= 2);                       // nobody starves
    assert_int_equal(health_follow(health, endpoints, SLOTS / 2), STATUS_OK); // some leave in mid-check
    run_ms(1000);
    assert_null(health_of(health, SLOTS - 1));
    assert_non_null(health_of(health, 0));
}

TEST(checks_of_endpoints_spread_over_time)
{
    struct health_rule rule = rule_of();
    static struct health_endpoint endpoints[SLOTS];
    for (uint16_t i = 0; i < SLOTS; i++)
        endpoints[i] = (struct health_endpoint){.slot = i, .addr = origin, .rule = &rule};
    assert_int_equal(health_follow(health, endpoints, SLOTS), STATUS_OK);
    for (int tenth = 2; tenth <= 9; tenth++) {
        run_ms(tenth == 2 ? 200 : 100);
        assert_in_range(connected, (uint32_t)(tenth * SLOTS / 10 - 30), (uint32_t)(tenth * SLOTS / 10 + 30));
    }
}
