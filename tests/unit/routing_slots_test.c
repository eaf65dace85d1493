// SPDX-License-Identifier: Apache-2.0
// Slots: the same name, or address, keeps its own, and one is given again only when every worker has left it
// and no request counts into it.
#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/heap.h"
#include "net/proxy/proxy_private.h"
#include "ship/routing/routing_private.h"
#include "test.h"

static struct proxy *proxy;
static struct io_loop *loop;
static struct routing *routing;
static struct log log_of_events;
static char *logged;
static size_t logged_len;
static FILE *log_stream;

static int set_up(void **state)
{
    const struct io_loop_config loop_config = {.kind = IO_KIND_EPOLL, .bufs_max = 16};
    struct io_addr listen;
    (void)state;
    assert_int_equal(io_addr_parse("127.0.0.1:0", &listen), STATUS_OK);
    const struct proxy_config config = {.workers = 2, .listen = &listen, .listen_count = 1};
    assert_int_equal(proxy_create(&config, &proxy), STATUS_OK);
    assert_int_equal(io_loop_create(&loop_config, &loop), STATUS_OK);
    static const struct config file = {.log.requests = CONFIG_LOG_REQUESTS_ERRORS};
    log_stream = open_memstream(&logged, &logged_len);
    log_init(&log_of_events, log_stream, false, LOG_INFO);
    const struct routing_parts parts = {.config = &file, .loop = loop, .proxy = proxy, .log = &log_of_events};
    assert_int_equal(routing_create(&parts, &routing), STATUS_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    routing_destroy(routing);
    io_loop_destroy(loop);
    proxy_destroy(proxy);
    fclose(log_stream);
    free(logged);
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

// ---- versions and services ----

static uint16_t give_version(const char *service, const char *version)
{
    return routing_version_slot_give(routing, routing_service_slot_give(routing, service), version);
}

// A table of that service with so many versions, published; every worker that takes it up has `taken` set.
static void publish_versions(uint64_t table, const char *service, uint32_t first, uint32_t count, bool taken)
{
    routing->builds++;
    for (uint32_t i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof name, "v%u", first + i);
        assert_int_not_equal(give_version(service, name), PROXY_SLOT_NONE);
    }
    routing_slots_published(routing, table);
    for (uint32_t i = 0; i < 2 && taken; i++)
        acknowledge(i, table);
}

// A worker has routed so many requests to the version, and so many of them are over.
static void count_requests(uint32_t worker, uint16_t version, uint64_t requests, uint64_t left)
{
    struct version_sheet **sheet = &proxy->workers[worker]->versions[version];
    if (*sheet == NULL)
        *sheet = heap_alloc_aligned(sizeof **sheet);
    assert_non_null(*sheet);
    atomic_store(&(*sheet)->counters[PROXY_VERSION_REQUESTS], requests);
    atomic_store(&(*sheet)->counters[PROXY_VERSION_LOCAL_5XX], 2);
    atomic_store(&(*sheet)->left, left);
}

static uint64_t requests_of(uint16_t version)
{
    uint64_t counts[PROXY_VERSION_COUNTERS];
    proxy_version_counts(proxy, version, counts);
    return counts[PROXY_VERSION_REQUESTS];
}

TEST(a_version_keeps_its_slot_over_an_absence)
{
    publish_versions(1, "shop", 1, 2, true);
    uint16_t slot = routing_version_slot(routing, "shop", "v1");
    uint64_t given = routing_version_given(routing, slot);
    count_requests(0, slot, 7, 7);
    for (uint64_t table = 2; table < 50; table++)
        publish_versions(table, "shop", (uint32_t)table * 10, 10, true);
    publish_versions(50, "shop", 1, 1, true);
    assert_int_equal(routing_version_slot(routing, "shop", "v1"), slot);
    assert_int_equal(requests_of(slot), 7);
    assert_int_equal(routing_version_given(routing, slot), given);
    assert_int_equal(routing_version_slot(routing, "other", "v1"), PROXY_SLOT_NONE);
}

TEST(a_version_gives_its_slot_when_every_worker_has_left_it)
{
    publish_versions(1, "shop", 0, PROXY_VERSIONS_MAX, true);
    publish_versions(2, "shop", 0, 1, false);
    routing->builds++;
    assert_int_equal(give_version("shop", "fresh"), PROXY_SLOT_NONE);
    acknowledge(0, 2);
    assert_int_equal(give_version("shop", "fresh"), PROXY_SLOT_NONE); // worker 1 may still route by table 1
    acknowledge(1, 2);
    assert_int_not_equal(give_version("shop", "fresh"), PROXY_SLOT_NONE);
    assert_int_equal(routing_version_slot(routing, "shop", "v1"), PROXY_SLOT_NONE);
    // Table 2 has v0, the one that is being made has the fresh ones: the others are free.
    for (uint32_t i = 2; i < PROXY_VERSIONS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "w%u", i);
        assert_int_not_equal(give_version("shop", name), PROXY_SLOT_NONE);
    }
    assert_int_equal(give_version("shop", "more"), PROXY_SLOT_NONE);
    assert_int_equal(routing_version_slot(routing, "shop", "v0"), 0);
}

TEST(the_version_that_left_first_gives_its_slot_first)
{
    publish_versions(1, "shop", 0, PROXY_VERSIONS_MAX, true);
    publish_versions(2, "shop", 0, 10, true);
    publish_versions(3, "shop", 0, 5, true);
    routing->builds++;
    for (uint32_t i = 10; i < PROXY_VERSIONS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "w%u", i);
        assert_in_range(give_version("shop", name), 10, PROXY_VERSIONS_MAX - 1);
    }
    assert_in_range(give_version("shop", "x"), 5, 9);
}

TEST(a_version_gives_its_slot_when_its_last_request_is_over)
{
    publish_versions(1, "shop", 0, PROXY_VERSIONS_MAX, true);
    for (uint16_t i = 0; i < PROXY_VERSIONS_MAX; i++)
        count_requests(1, i, 4, 3);
    publish_versions(2, "shop", 0, 1, true);
    routing->builds++;
    assert_int_equal(give_version("shop", "fresh"), PROXY_SLOT_NONE);
    count_requests(1, 5, 4, 4);
    assert_int_equal(give_version("shop", "fresh"), 5);
    assert_int_equal(requests_of(5), 0);
    assert_int_equal(routing_version_given(routing, 5), routing->builds);
    // What sums have of the old one stays in them.
    uint16_t service = routing_service_slot(routing, "shop");
    assert_int_equal(routing->services[service].requests_forgotten, 4);
    assert_int_equal(routing->forgotten_5xx, 2);
}

TEST(an_event_is_told_under_the_name_that_it_is_of)
{
    publish_versions(1, "shop", 0, PROXY_VERSIONS_MAX, true);
    publish_versions(2, "shop", 0, 1, true);
    struct event_ring *ring = &proxy->workers[0]->events;
    ring->events[0] = (struct proxy_event){.kind = PROXY_EVENT_STATUS,
                                           .status = 500,
                                           .version = 1,
                                           .endpoint = PROXY_SLOT_NONE,
                                           .reason = "the origin answered 5xx"};
    atomic_store(&ring->head, 1);
    routing->builds++;
    assert_int_equal(give_version("shop", "fresh"), 1);
    fflush(log_stream);
    assert_non_null(strstr(logged, "service=shop version=v1 "));
}

TEST(a_service_gives_its_slot_when_its_versions_are_over)
{
    char name[16];
    for (uint32_t i = 0; i < PROXY_SERVICES_MAX; i++) {
        snprintf(name, sizeof name, "s%u", i);
        assert_int_not_equal(give_version(name, "v1"), PROXY_SLOT_NONE);
        count_requests(0, (uint16_t)i, 3, 2);
    }
    routing_slots_published(routing, 1);
    publish_versions(2, "s9", 1, 1, true);
    routing->builds++;
    assert_int_equal(routing_service_slot_give(routing, "fresh"), PROXY_SLOT_NONE);
    count_requests(0, 7, 3, 3);
    routing->services[7].losses_told = 5;
    proxy->workers[1]->sheets[7] = heap_alloc_aligned(sizeof(struct sheet));
    uint16_t slot = routing_service_slot_give(routing, "fresh");
    assert_int_equal(slot, 7);
    assert_null(proxy->workers[1]->sheets[7]);
    assert_int_equal(routing->services[7].losses_told, 0);
    assert_int_equal(routing_service_slot(routing, "s7"), PROXY_SLOT_NONE);
    // Its version went with it, and is not the new service's.
    uint16_t version = routing_version_slot_give(routing, slot, "v1");
    assert_int_equal(requests_of(version), 0);
    assert_int_equal(routing_service_slot_give(routing, "fresher"), PROXY_SLOT_NONE);
}

TEST(what_left_long_ago_is_forgotten)
{
    publish_versions(1, "shop", 0, 3, true);
    count_requests(0, 1, 9, 8);
    publish_versions(2, "cart", 0, 1, true);
    for (int i = 0; i < ROUTING_KEEP_TICKS; i++) {
        routing_slots_tick(routing);
        assert_int_equal(routing_version_slot(routing, "shop", "v2"), 2);
        routing->ticks++;
    }
    routing_slots_tick(routing);
    assert_int_equal(routing_version_slot(routing, "shop", "v2"), PROXY_SLOT_NONE);
    assert_int_equal(routing_version_slot(routing, "shop", "v1"), 1); // a request of it is open
    count_requests(0, 1, 9, 9);
    routing_slots_tick(routing);
    assert_int_equal(routing_service_slot(routing, "shop"), PROXY_SLOT_NONE);
    assert_int_equal(routing_version_slot(routing, "cart", "v0"), 3);
}
