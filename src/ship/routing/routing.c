// SPDX-License-Identifier: Apache-2.0
// Publishing: one table after the other, each awaited until every worker has taken it up.
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "ship/routing/routing_private.h"

static void on_ack_check(struct io_timer *timer)
{
    struct routing *routing = CONTAINER_OF(timer, struct routing, ack_timer);
    struct io_loop *loop = routing->parts.loop;
    struct routing_state *state = &routing->state;
    if (!routing->ack_awaited)
        return;
    state->table_acknowledged = proxy_acknowledged(routing->proxy);
    if (state->table_acknowledged < state->table_version) {
        // Before the start nobody acknowledges: then the tick-long pause is enough.
        uint64_t pause_ms = state->listening ? ROUTING_ACK_CHECK_MS : ROLLOUT_TICK_MS;
        io_timer_set(loop, timer, io_loop_now_us(loop) + pause_ms * 1000);
        return;
    }
    routing->ack_awaited = false;
    routing->parts.taken_up(routing->parts.context);
    if (!state->listening)
        return;
    state->table_switch_us = io_loop_clock_us(loop) - routing->published_us;
    if (state->table_switch_us > state->table_switch_us_max)
        state->table_switch_us_max = state->table_switch_us;
    log_write(routing->parts.log, LOG_DEBUG, "every worker has taken up the routing table",
              LOG_FIELDS(LOG_NUMBER("table", state->table_version),
                         LOG_NUMBER("switch_us", state->table_switch_us)));
}

enum status routing_create(const struct routing_parts *parts, struct routing **routing)
{
    struct routing *made = heap_alloc(1, sizeof *made);
    if (made == NULL)
        return STATUS_NO_MEMORY;
    made->parts = *parts;
    made->proxy = parts->proxy;
    made->config = parts->config;
    io_timer_init(&made->ack_timer, on_ack_check);
    enum status status = routing_slots_init(made);
    made->services = heap_alloc(PROXY_SERVICES_MAX, sizeof *made->services);
    made->unused = heap_alloc(ROUTING_UNUSED_SPANS, sizeof *made->unused);
    made->histogram = heap_alloc(1, sizeof *made->histogram);
    if (status == STATUS_OK && made->services != NULL && made->unused != NULL && made->histogram != NULL) {
        *routing = made;
        return STATUS_OK;
    }
    routing_destroy(made);
    return STATUS_NO_MEMORY;
}

void routing_destroy(struct routing *routing)
{
    if (routing == NULL)
        return;
    io_timer_clear(routing->parts.loop, &routing->ack_timer);
    names_destroy(routing->names);
    routing_lists_free(routing->lists);
    routing_overrides_free(routing);
    routing_health_deinit(routing);
    routing_tls_deinit(routing);
    routing_slots_deinit(routing);
    for (uint32_t i = 0; routing->services != NULL && i < PROXY_SERVICES_MAX; i++)
        mirror_run_release(routing->services[i].mirror);
    heap_free(routing->services);
    heap_free(routing->unused);
    heap_free(routing->histogram);
    heap_free(routing);
}

static enum status publish(struct routing *routing, struct fault *fault)
{
    struct io_loop *loop = routing->parts.loop;
    uint64_t before_us = io_loop_clock_us(loop);
    struct proxy_table *table = NULL;
    enum status status = routing_table_make(routing, &table, fault);
    if (status != STATUS_OK)
        return status;
    status = proxy_publish(routing->proxy, table);
    if (status != STATUS_OK) {
        proxy_table_destroy(table);
        return fault_set(fault, status, "the routing table was not taken (%s)", status_name(status));
    }
    routing->state.table_version++;
    routing->names_moved = false;
    routing_slots_published(routing, routing->state.table_version);
    routing->published_us = io_loop_clock_us(loop);
    routing->state.table_build_us = routing->published_us - before_us;
    routing->ack_awaited = true;
    io_timer_set(loop, &routing->ack_timer, io_loop_now_us(loop) + ROUTING_ACK_CHECK_MS * 1000);
    return STATUS_OK;
}

enum status routing_publish(struct routing *routing, const struct config *config, bool fresh,
                            struct fault *fault)
{
    const struct config *before = routing->config;
    struct proxy_tls *tls_before = routing->tls;
    struct routing_lists *lists = NULL, *lists_before = routing->lists;
    struct fault other;
    proxy_tls_hold(tls_before);
    // At a start, what a run of before wants comes first: with certificates and names it is as good as any.
    fresh |= routing->state.table_version == 0;
    enum status status = fresh ? routing_tls_load(routing, config, fault) : STATUS_OK;
    if (status == STATUS_OK && fresh && (status = routing_lists_read(routing, config, &lists)) != STATUS_OK)
        fault_set(fault, status, "no memory left for lists of endpoints");
    if (lists != NULL)
        routing->lists = lists;
    if (status == STATUS_OK && fresh)
        status = routing_names_follow(routing, config, fault);
    bool followed = status == STATUS_OK;
    if (followed) {
        routing->config = config;
        status = publish(routing, fault);
    }
    if (status == STATUS_OK) {
        proxy_tls_release(tls_before);
        if (lists != NULL)
            routing_lists_free(lists_before);
        return status;
    }
    routing_lists_free(lists);
    routing->lists = lists_before;
    proxy_tls_release(routing->tls);
    routing->tls = tls_before;
    routing->config = before;
    if (!followed)
        return status;
    if (fresh) // without memory the new names stay followed, which does no harm
        (void)!routing_names_follow(routing, before, &other);
    return status;
}

void routing_publish_or_retry(struct routing *routing)
{
    struct fault fault;
    enum status status = routing_publish(routing, routing->config, false, &fault);
    routing->table_dirty = status != STATUS_OK;
    if (status != STATUS_OK)
        log_write(routing->parts.log, LOG_ERROR,
                  "the routing table could not be replaced; tried again at every tick",
                  LOG_FIELDS(LOG_TEXT("problem", fault.text)));
}

void routing_state_get(const struct routing *routing, struct routing_state *state)
{
    *state = routing->state;
    state->table_acknowledged = proxy_acknowledged(routing->proxy);
}

void routing_set_listening(struct routing *routing, bool listening)
{
    routing->state.listening = listening;
}

const struct config *routing_config(const struct routing *routing)
{
    return routing->config;
}
