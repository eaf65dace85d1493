// SPDX-License-Identifier: Apache-2.0
// A service's mirror from one table to the next: when comparing begins anew, and whose the drops are.
#include <string.h>

#include "net/proxy/proxy_private.h"
#include "ship/routing/routing_private.h"
#include "test.h"

static struct mirror *mirror;
static struct proxy *proxy;
static struct io_loop *loop;
static struct routing *routing;
static struct log log_of_events;
static struct rollout_spec spec;
static uint64_t run; // that is in the shadow; 0: none
static struct config_version versions[] = {{.name = "v1"}, {.name = "v2"}};
static const struct proxy_version_plan plans[] = {{.name = "v1"}, {.name = "v2"}};
static struct config_service service;

static bool shadowed(void *context, const struct config_service *of, struct routing_shadow *shadow)
{
    (void)context;
    (void)of;
    *shadow = (struct routing_shadow){.run = run, .rollout = "ship", .spec = &spec};
    return run != 0;
}

static int set_up(void **state)
{
    static const struct config file;
    const struct io_loop_config loop_config = {.kind = IO_KIND_EPOLL, .bufs_max = 16};
    const struct mirror_parts mirror_parts = {.workers = 1};
    struct io_addr listen;
    (void)state;
    assert_int_equal(io_addr_parse("127.0.0.1:0", &listen), STATUS_OK);
    assert_int_equal(mirror_create(&mirror_parts, &mirror), STATUS_OK);
    const struct proxy_config config = {.workers = 1, .listen = &listen, .listen_count = 1, .mirror = mirror};
    assert_int_equal(proxy_create(&config, &proxy), STATUS_OK);
    assert_int_equal(io_loop_create(&loop_config, &loop), STATUS_OK);
    log_init(&log_of_events, stderr, false, LOG_ERROR);
    const struct routing_parts parts = {
        .config = &file, .loop = loop, .proxy = proxy, .log = &log_of_events, .shadowed = shadowed};
    assert_int_equal(routing_create(&parts, &routing), STATUS_OK);
    rollout_spec_init(&spec);
    rollout_spec_default_stages(&spec);
    spec.stages[0].kind = ROLLOUT_STAGE_SHADOW;
    snprintf(spec.to, sizeof spec.to, "v2");
    run = 0;
    service = (struct config_service){.name = "shop", .versions = versions, .version_count = 2};
    service.mirror = (struct config_mirror){.given = true, .to = "v2", .concurrent = 1};
    service.errors.status_count = 1;
    service.errors.statuses[0] = (struct config_status_range){500, 599};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    routing_destroy(routing);
    io_loop_destroy(loop);
    proxy_destroy(proxy);
    mirror_destroy(mirror);
    return 0;
}
EACH_TEST(set_up, tear_down);

// Plans the service for a table, in which the mirror drops so many requests. The number of the comparing.
static uint64_t plan_and_drop(uint32_t drops)
{
    struct proxy_service_plan plan = {.name = "shop",
                                      .versions = plans,
                                      .version_count = 2,
                                      .slot = routing_service_slot_give(routing, "shop")};
    routing_mirror_plan(routing, &service, &plan);
    assert_non_null(plan.mirror);
    for (uint32_t i = 0; i < drops; i++)
        mirror_refuse(plan.mirror, MIRROR_DROP_BUSY);
    mirror_plan_release(plan.mirror);
    return routing->services[plan.slot].mirror_number;
}

// As a run in the shadow does, which tells its differ's new beginning from the words of the file.
TEST(comparing_begins_anew_with_each_change_of_what_is_an_error)
{
    uint64_t number = plan_and_drop(0);
    assert_int_equal(plan_and_drop(0), number);
    service.errors.given = true; // the same words, written out
    assert_int_equal(plan_and_drop(0), number);
    service.errors.grpc[service.errors.grpc_count++] = 13;
    uint64_t next = plan_and_drop(0);
    assert_int_not_equal(next, number);
    service.errors.statuses[0].first = 400;
    assert_int_not_equal(plan_and_drop(0), next);
}

TEST(a_run_is_not_told_of_drops_before_it)
{
    plan_and_drop(5);
    run = 7;
    uint64_t number = plan_and_drop(2);
    assert_int_equal(routing_shadow_number(routing, "shop", 7), number);
    assert_int_equal(routing_shadow_dropped(routing, "shop"), 2);
    assert_int_equal(routing_shadow_dropped(routing, "shop"), 0);
    run = 0;
    plan_and_drop(0);
    assert_int_equal(routing_shadow_number(routing, "shop", 7), 0);
}
