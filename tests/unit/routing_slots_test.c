// SPDX-License-Identifier: Apache-2.0
// Slots of endpoints: the same address keeps its own, and one is given again only when every worker has left
// it.
#include <arpa/inet.h>
#include <netinet/in.h>

#include "net/proxy/proxy_private.h"
#include "ship/routing/routing_private.h"
#include "test.h"

static struct proxy *proxy;
static struct io_loop *loop;
static struct routing *routing;

static int set_up(void **state)
{
    const struct io_loop_config loop_config = {.kind = IO_KIND_EPOLL, .bufs_max = 16};
    struct io_addr listen;
    (void)state;
    assert_int_equal(io_addr_parse("127.0.0.1:0", &listen), STATUS_OK);
    const struct proxy_config config = {.workers = 2, .listen = &listen, .listen_count = 1};
    assert_int_equal(proxy_create(&config, &proxy), STATUS_OK);
    assert_int_equal(io_loop_create(&loop_config, &loop), STATUS_OK);
    const struct routing_parts parts = {.loop = loop, .proxy = proxy};
    assert_int_equal(routing_create(&parts, &routing), STATUS_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    routing_destroy(routing);
    io_loop_destroy(loop);
    proxy_destroy(proxy);
    return 0;
}
EACH_TEST(set_up, tear_down);

static uint16_t give(uint16_t version, uint32_t address, bool *again)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(address)};
    struct io_addr addr = {.len = sizeof in};
    memcpy(addr.bytes, &in, sizeof in);
    return routing_endpoint_slot_give(routing, version, &addr, again);
}

// A table of so many addresses, published as `table`.
static void publish(uint64_t table, uint32_t first, uint32_t count)
{
    bool again;
    routing->builds++;
    for (uint32_t i = 0; i < count; i++)
        assert_int_not_equal(give(1, first + i, &again), PROXY_SLOT_NONE);
    routing_slots_published(routing, table);
}

static void acknowledge(uint32_t worker, uint64_t table)
{
    atomic_store(&proxy->workers[worker]->acknowledged, table);
}

TEST(an_address_keeps_its_slot_and_counts_once_in_a_table)
{
    bool again;
    routing->builds++;
    uint16_t slot = give(1, 7, &again);
    assert_false(again);
    assert_int_equal(give(1, 7, &again), slot);
    assert_true(again);
    assert_int_not_equal(give(2, 7, &again), slot);
    assert_false(again);
    routing_slots_published(routing, 1);
    routing->builds++;
    assert_int_equal(give(1, 7, &again), slot);
    assert_false(again);
    assert_string_equal(routing->endpoint_slots[slot].address, "0.0.0.7:80");
}

TEST(a_slot_is_given_again_only_when_every_worker_has_left_it)
{
    bool again;
    publish(1, 0, PROXY_TABLE_ENDPOINTS_MAX);
    publish(2, PROXY_TABLE_ENDPOINTS_MAX, PROXY_TABLE_ENDPOINTS_MAX);
    routing->builds++;
    assert_int_equal(give(1, 1 << 20, &again), PROXY_SLOT_NONE);
    acknowledge(0, 2);
    acknowledge(1, 1); // still in the first table
    assert_int_equal(give(1, 1 << 20, &again), PROXY_SLOT_NONE);
    acknowledge(1, 2);
    uint16_t slot = give(1, 1 << 20, &again);
    assert_true(slot < PROXY_TABLE_ENDPOINTS_MAX);
    assert_false(again);
    for (uint32_t i = 1; i < PROXY_TABLE_ENDPOINTS_MAX; i++)
        assert_int_not_equal(give(1, (1 << 20) + i, &again), PROXY_SLOT_NONE);
    assert_int_equal(give(1, 1 << 21, &again),
                     PROXY_SLOT_NONE); // the rest is of this table and the one before
}

TEST(addresses_come_and_go_for_ever)
{
    for (uint64_t table = 1; table <= 40; table++) {
        publish(table, (uint32_t)table * PROXY_TABLE_ENDPOINTS_MAX, PROXY_TABLE_ENDPOINTS_MAX);
        acknowledge(0, table);
        acknowledge(1, table);
    }
    bool again;
    uint16_t slot = give(1, 40 * PROXY_TABLE_ENDPOINTS_MAX, &again);
    routing->builds++;
    assert_int_equal(give(1, 40 * PROXY_TABLE_ENDPOINTS_MAX, &again), slot);
}
