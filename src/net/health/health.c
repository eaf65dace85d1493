// SPDX-License-Identifier: Apache-2.0
// One check after the other for each endpoint: pause, wait for a free place, connect, ask, judge, close. An
// endpoint that is no longer followed is freed when its connection is closed. What this machine lacks
// (descriptors, buffers) says nothing about an endpoint and changes nothing.
#include "net/health/health.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/rng.h"
#include "net/http/http1.h"
#include "net/http/proxy_header.h"
#include "net/io/filter.h"

enum phase { PHASE_PAUSE, PHASE_WAIT, PHASE_ASK, PHASE_CLOSE };

struct item {
    struct health *health;
    struct io_stream stream;
    struct io_timer timer; // PAUSE: the next check begins; ASK: its time is over
    struct list link;      // WAIT: of the health's waiting ones
    struct io_buf *held;   // what has come of the answer's head
    enum phase phase;
    bool left; // no longer followed
    uint64_t follow;
    uint64_t begun_us;
    uint16_t slot;
    struct io_addr addr;
    bool secure;
    uint8_t header;
    struct tls_client *client;
    struct tls_resume resume;
    char name[HEALTH_HOST_BYTES];
    struct health_rule rule;
    struct health_state state;
};

struct health {
    struct health_parts parts;
    struct rng rng;
    struct list waiting; // first come, first served
    uint32_t under_way;  // ASK or CLOSE
    uint64_t follow;
    struct http_response response; // scratch
    struct item *items[];          // by slot
};

static void begin(struct item *item);

// ---- results ----

static void tell(const struct item *item)
{
    item->health->parts.changed(item->health->parts.context, item->slot, &item->state);
}

// why NULL: the check passed.
static void judge(struct item *item, const char *why)
{
    struct health_state *state = &item->state;
    bool passed = why == NULL;
    state->checked = true;
    state->why = why;
    if (passed)
        state->passed++;
    else
        state->failed++;
    if (passed == state->healthy) {
        state->in_a_row = 0;
        return;
    }
    if (++state->in_a_row < (passed ? item->rule.rise : item->rule.fall))
        return;
    state->in_a_row = 0;
    state->healthy = passed;
    tell(item);
}

static void finish(struct item *item)
{
    struct io_loop *loop = item->health->parts.loop;
    item->phase = PHASE_CLOSE;
    io_timer_clear(loop, &item->timer);
    io_buf_put(item->held);
    item->held = NULL;
    tls_say_end(&item->stream);
    io_stream_close(&item->stream);
}

// What TLS says of it comes first.
static void end(struct item *item, const char *why)
{
    const char *tls = tls_why(&item->stream);
    if (why != NULL && tls[0] != '\0')
        why = tls;
    judge(item, why);
    finish(item);
}

// ---- the beat ----

static uint64_t spread_us(struct health *health, const struct item *item)
{
    uint64_t every_us = (uint64_t)item->rule.every_ms * 1000;
    uint64_t part_us = every_us * HEALTH_SPREAD_PERCENT / 100;
    return every_us - part_us + rng_below(&health->rng, 2 * part_us + 1);
}

static void pause_until(struct item *item, uint64_t at_us)
{
    item->phase = PHASE_PAUSE;
    io_timer_set(item->health->parts.loop, &item->timer, at_us);
}

static void begin_or_wait(struct item *item)
{
    if (item->health->under_way < HEALTH_UNDER_WAY_MAX) {
        begin(item);
        return;
    }
    item->phase = PHASE_WAIT;
    list_push_back(&item->health->waiting, &item->link);
}

static void begin_waiting(struct health *health)
{
    while (!list_empty(&health->waiting) && health->under_way < HEALTH_UNDER_WAY_MAX) {
        struct item *item = CONTAINER_OF(health->waiting.next, struct item, link);
        list_remove(&item->link);
        begin(item);
    }
}

static void on_timer(struct io_timer *timer)
{
    struct item *item = CONTAINER_OF(timer, struct item, timer);
    if (item->phase == PHASE_PAUSE)
        begin_or_wait(item);
    else
        end(item, tls_shaking(&item->stream) ? "the TLS handshake took too long" : "it took too long");
}

// ---- the connection ----

static struct item *item_of(struct io_stream *stream)
{
    return CONTAINER_OF(stream, struct item, stream);
}

// For whom the check is.
static const char *host_of(const struct item *item, char address[IO_ADDR_TEXT_BYTES])
{
    io_addr_format(&item->addr, address);
    if (item->rule.host[0] != '\0')
        return item->rule.host;
    if (item->name[0] != '\0')
        return item->name;
    return item->addr.any.sa_family == AF_UNIX ? "localhost" : address;
}

static void ask(struct item *item)
{
    char address[IO_ADDR_TEXT_BYTES];
    struct io_buf *buf = io_buf_get(item->health->parts.loop);
    if (buf == NULL) {
        finish(item);
        return;
    }
    int len = snprintf((char *)buf->data, IO_BUF_BYTES,
                       "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: sluice-health\r\nAccept: */*\r\n"
                       "Connection: close\r\n\r\n",
                       item->rule.path, host_of(item, address));
    buf->end = (uint32_t)len;
    io_stream_send(&item->stream, buf);
}

// All that a check by TCP wants. A header still leaves: who waits for one would take us for somebody broken.
static void opened(struct item *item)
{
    io_filter_send_now(&item->stream);
    end(item, NULL);
}

static void on_open(struct io_stream *stream, enum status status)
{
    struct item *item = item_of(stream);
    if (item->phase == PHASE_CLOSE)
        return;
    bool ours = status == STATUS_NO_FD || status == STATUS_NO_MEMORY;
    if (ours)
        finish(item);
    else if (status != STATUS_OK)
        end(item, "it cannot be connected to");
    else if (!item->rule.tcp)
        ask(item);
    else
        opened(item);
}

// AGAIN: more of the head must come.
static enum status read_status(struct item *item, uint16_t *answered)
{
    struct io_buf *buf = item->held;
    struct http_response *response = &item->health->response;
    for (;;) {
        size_t len;
        enum http1_reject reject;
        enum status status = http1_response_parse((char *)buf->data + buf->start, io_buf_len(buf), NULL,
                                                  HTTP_METHOD_GET, response, &len, &reject);
        if (status != STATUS_OK)
            return status;
        *answered = response->status;
        if (!response->informational)
            return STATUS_OK;
        buf->start += (uint32_t)len;
    }
}

static void on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct item *item = item_of(stream);
    if (item->phase == PHASE_CLOSE || item->rule.tcp) {
        io_buf_put(buf);
        return;
    }
    uint16_t answered = 0;
    enum status status = io_buf_join(&item->held, buf);
    if (status == STATUS_OK)
        status = read_status(item, &answered);
    if (status == STATUS_AGAIN)
        return;
    item->state.status = status == STATUS_OK ? answered : 0;
    bool good = answered >= item->rule.status_first && answered <= item->rule.status_last;
    end(item, status != STATUS_OK ? "its answer is no HTTP" : good ? NULL : "it answered another status");
}

static void on_end(struct io_stream *stream, enum status status)
{
    (void)status;
    if (item_of(stream)->phase == PHASE_ASK)
        end(item_of(stream), "it closed without an answer");
}

static void item_free(struct item *item)
{
    tls_client_destroy(item->client);
    tls_resume_forget(&item->resume);
    heap_free(item);
}

static void on_closed(struct io_stream *stream)
{
    struct item *item = item_of(stream);
    struct health *health = item->health;
    uint64_t now_us = io_loop_now_us(health->parts.loop);
    health->under_way--;
    if (item->left) {
        item_free(item);
    } else {
        uint64_t next_us = item->begun_us + spread_us(health, item);
        pause_until(item, next_us > now_us ? next_us : now_us);
    }
    begin_waiting(health);
}

static const struct io_stream_ops STREAM_OPS = {
    .on_open = on_open, .on_data = on_data, .on_end = on_end, .on_closed = on_closed};

// Memory that we lack says nothing about the endpoint.
static void secure(struct item *item)
{
    char address[IO_ADDR_TEXT_BYTES];
    struct slice name = slice_of(item->name);
    if (item->client == NULL) {
        end(item, "the files of its 'tls' cannot be used");
        return;
    }
    io_addr_format_host(&item->addr, address);
    if (name.len == 0 && item->addr.any.sa_family != AF_UNIX)
        name = slice_of(address);
    if (tls_connect(item->client, &item->stream, name, &item->resume) != STATUS_OK)
        finish(item);
}

// Before TLS: the check is nobody's but our own.
static void say_header(struct item *item)
{
    static const struct http_proxy_header nobody = {.family = HTTP_PROXY_NOBODY};
    struct io_buf *buf = io_buf_get(item->health->parts.loop);
    if (buf == NULL) {
        finish(item);
        return;
    }
    buf->end = (uint32_t)http_proxy_header_write(item->header, &nobody, &nobody, (char *)buf->data);
    io_filter_send(&item->stream, buf);
}

static void begin(struct item *item)
{
    struct health *health = item->health;
    health->under_way++;
    item->phase = PHASE_ASK;
    item->begun_us = io_loop_now_us(health->parts.loop);
    item->state.status = 0;
    io_timer_set(health->parts.loop, &item->timer, item->begun_us + (uint64_t)item->rule.timeout_ms * 1000);
    io_stream_connect(health->parts.loop, &item->stream, &item->addr, &STREAM_OPS);
    if (item->secure)
        secure(item);
    if (item->header != 0 && item->phase == PHASE_ASK)
        say_header(item);
}

// ---- who is followed ----

static void leave(struct item *item)
{
    struct health *health = item->health;
    health->items[item->slot] = NULL;
    item->left = true;
    io_timer_clear(health->parts.loop, &item->timer);
    if (item->phase == PHASE_WAIT)
        list_remove(&item->link);
    if (item->phase == PHASE_ASK)
        finish(item);
    else if (item->phase != PHASE_CLOSE)
        item_free(item);
}

static bool same_address(const struct io_addr *a, const struct io_addr *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

static struct item *enter(struct health *health, const struct health_endpoint *endpoint)
{
    struct item *item = heap_alloc(1, sizeof *item);
    if (item == NULL)
        return NULL;
    item->health = health;
    item->slot = endpoint->slot;
    item->addr = endpoint->addr;
    item->rule = *endpoint->rule;
    item->state.healthy = !item->rule.unhealthy_first;
    list_init(&item->link);
    io_timer_init(&item->timer, on_timer);
    health->items[item->slot] = item;
    uint64_t wait_us = rng_below(&health->rng, (uint64_t)item->rule.every_ms * 1000);
    pause_until(item, io_loop_now_us(health->parts.loop) + wait_us);
    if (!item->state.healthy)
        tell(item);
    return item;
}

static void item_speak(struct item *item, const struct health_endpoint *endpoint)
{
    struct tls_client *before = item->client;
    item->secure = endpoint->secure;
    item->header = endpoint->header;
    item->client = endpoint->client != NULL ? tls_client_share(endpoint->client) : NULL;
    tls_client_destroy(before);
    CHECK(endpoint->name.len < sizeof item->name);
    if (endpoint->name.len > 0)
        memcpy(item->name, endpoint->name.data, endpoint->name.len);
    item->name[endpoint->name.len] = '\0';
}

enum status health_follow(struct health *health, const struct health_endpoint *endpoints, uint32_t count)
{
    enum status status = STATUS_OK;
    health->follow++;
    for (uint32_t i = 0; i < count; i++) {
        CHECK(endpoints[i].slot < health->parts.slots);
        struct item *item = health->items[endpoints[i].slot];
        if (item != NULL && !same_address(&item->addr, &endpoints[i].addr)) {
            leave(item);
            item = NULL;
        }
        if (item == NULL)
            item = enter(health, &endpoints[i]);
        if (item == NULL) {
            status = STATUS_NO_MEMORY;
            continue;
        }
        item->rule = *endpoints[i].rule;
        item_speak(item, &endpoints[i]);
        item->follow = health->follow;
    }
    for (uint16_t slot = 0; slot < health->parts.slots; slot++)
        if (health->items[slot] != NULL && health->items[slot]->follow != health->follow)
            leave(health->items[slot]);
    return status;
}

const struct health_state *health_of(const struct health *health, uint16_t slot)
{
    return health->items[slot] == NULL ? NULL : &health->items[slot]->state;
}

enum status health_create(const struct health_parts *parts, struct health **health)
{
    struct health *made = heap_alloc(1, sizeof *made + parts->slots * sizeof made->items[0]);
    if (made == NULL)
        return STATUS_NO_MEMORY;
    made->parts = *parts;
    list_init(&made->waiting);
    rng_init(&made->rng, parts->seed);
    *health = made;
    return STATUS_OK;
}

void health_close(struct health *health)
{
    for (uint16_t slot = 0; slot < health->parts.slots; slot++)
        if (health->items[slot] != NULL)
            leave(health->items[slot]);
}

bool health_closed(const struct health *health)
{
    return health->under_way == 0;
}

void health_destroy(struct health *health)
{
    CHECK(health == NULL || health_closed(health));
    heap_free(health);
}
