// SPDX-License-Identifier: Apache-2.0
// The generator: a schedule of arrivals, a queue of requests that wait for a connection, and a bounded set of
// kept-alive connections. A timer sends the requests that are due each millisecond. Latency counts from the
// scheduled moment.
#include "operate/load/load.h"

#include <math.h>
#include <stdio.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/rng.h"
#include "net/http/http1.h"
#include "net/http/http1_write.h"

enum { STEP_US = 1000, TIMEOUT_US_DEFAULT = 30000000, RATE_MAX = 1000000 };

// A request that has been scheduled and not yet ended.
struct order {
    uint64_t scheduled_us;
    uint32_t request;
    bool retried;
};

struct connection {
    struct io_stream stream;
    struct io_timer timeout;
    struct load *load;
    struct list link; // free, idle or busy list
    struct io_buf *held;
    struct http1_body body;
    struct order order;
    uint32_t version;    // index into totals.versions, LOAD_VERSIONS_MAX: none
    uint64_t request_id; // as sent
    uint16_t status;
    bool busy;  // a request is under way
    bool fresh; // no answer yet on this connection
    bool open;  // connected
    bool in_body;
    bool any_byte; // of the present answer a byte has come
    bool keep_alive;
    bool closing;
};

struct load {
    struct io_loop *loop;
    struct load_config config;
    struct io_timer step;
    struct rng rng;
    uint64_t start_us;
    uint64_t next_us; // when the next request is due
    uint64_t end_us;
    uint32_t next_request;
    bool scheduling;
    bool closed;
    struct connection *connections;
    uint32_t connections_open;
    struct list free, idle, busy;
    struct order *queue; // ring of LOAD_QUEUE_MAX
    uint32_t queue_at, queue_count;
    struct load_totals totals;
    struct http_response response; // scratch
    char host[IO_ADDR_TEXT_BYTES];
};

static void dispatch(struct load *load);

const char *load_failure_name(enum load_failure failure)
{
    static const char *const NAMES[LOAD_FAILURES] = {
        [LOAD_FAILED_CONNECT] = "connect", [LOAD_FAILED_RESET] = "reset", [LOAD_FAILED_TIMEOUT] = "timeout",
        [LOAD_FAILED_FRAMING] = "framing", [LOAD_FAILED_SHED] = "shed",   [LOAD_FAILED_STATUS] = "status",
    };
    CHECK((unsigned)failure < LOAD_FAILURES);
    return NAMES[failure];
}

// ---- outcomes ----

static void count_failure(struct load *load, enum load_failure failure)
{
    load->totals.failed++;
    load->totals.failures[failure]++;
    if (failure != LOAD_FAILED_STATUS)
        load->totals.pending--;
}

static uint32_t version_index(struct load *load, struct slice name)
{
    struct load_totals *t = &load->totals;
    if (name.len >= LOAD_NAME_BYTES)
        name.len = LOAD_NAME_BYTES - 1;
    for (uint32_t i = 0; i < t->version_count; i++)
        if (slice_equal(slice_of(t->versions[i].name), name))
            return i;
    if (t->version_count == LOAD_VERSIONS_MAX)
        return LOAD_VERSIONS_MAX;
    memcpy(t->versions[t->version_count].name, name.data, name.len);
    return t->version_count++;
}

static void count_answer(struct connection *c)
{
    struct load *load = c->load;
    struct load_totals *t = &load->totals;
    uint64_t now = io_loop_clock_us(load->loop);
    bool failed = c->status >= 500;
    t->answers++;
    t->pending--;
    t->status[c->status / 100]++;
    if (failed)
        count_failure(load, LOAD_FAILED_STATUS);
    if (c->version < LOAD_VERSIONS_MAX) {
        t->versions[c->version].answers++;
        t->versions[c->version].errors += failed;
    }
    stats_histogram_record(&t->latency_us, now > c->order.scheduled_us ? now - c->order.scheduled_us : 0);
}

// ---- connections ----

static void close_connection(struct connection *c)
{
    if (c->closing)
        return;
    c->closing = true;
    c->busy = false;
    io_timer_clear(c->load->loop, &c->timeout);
    io_buf_put(c->held);
    c->held = NULL;
    list_remove(&c->link);
    io_stream_close(&c->stream);
}

static bool queue_push(struct load *load, struct order order)
{
    if (load->queue_count == LOAD_QUEUE_MAX)
        return false;
    load->queue[(load->queue_at + load->queue_count++) % LOAD_QUEUE_MAX] = order;
    return true;
}

// Ends the request under way with a failure and closes the connection. When the server had closed a reused
// connection before it saw a byte, the request is sent once more, as every client library does.
static void fail_order(struct connection *c, enum load_failure failure)
{
    struct load *load = c->load;
    struct order order = c->order;
    bool again = failure == LOAD_FAILED_RESET && !c->fresh && !c->any_byte && !order.retried;
    close_connection(c);
    order.retried = true;
    if (again && queue_push(load, order)) {
        load->totals.retried++;
        return;
    }
    count_failure(load, failure);
}

static void add_header(struct http1_writer *w, const char *name, const char *value)
{
    if (value != NULL)
        w->len += (size_t)snprintf(w->data + w->len, w->cap - w->len, "%s: %s\r\n", name, value);
}

static void send_order(struct connection *c)
{
    struct load *load = c->load;
    const struct load_request *request = &load->config.requests[c->order.request];
    struct io_buf *buf = io_buf_get(load->loop);
    if (buf == NULL) {
        fail_order(c, LOAD_FAILED_SHED);
        return;
    }
    struct http1_writer w = http1_writer_over((char *)buf->data, IO_BUF_BYTES);
    w.len = (size_t)snprintf(w.data, w.cap, "%s %s HTTP/1.1\r\n", request->method, request->path);
    bool host = false;
    for (uint32_t i = 0; i < load->config.header_count; i++) {
        host |= slice_equal_nocase(slice_of(load->config.headers[i].name), SLICE("host"));
        add_header(&w, load->config.headers[i].name, load->config.headers[i].value);
    }
    if (!host)
        add_header(&w, "Host", load->config.host != NULL ? load->config.host : load->host);
    add_header(&w, "User-Agent", request->agent);
    if (request->session != NULL)
        w.len += (size_t)snprintf(w.data + w.len, w.cap - w.len, "Cookie: sid=%s\r\n", request->session);
    c->request_id = rng_next(&load->rng);
    w.len += (size_t)snprintf(w.data + w.len, w.cap - w.len, "X-Request-Id: %016llx\r\n\r\n",
                              (unsigned long long)c->request_id);
    CHECK(w.len < w.cap); // load_create has checked the parts
    buf->end = (uint32_t)w.len;
    c->any_byte = false;
    c->in_body = false;
    io_stream_send(&c->stream, buf);
}

static const struct io_stream_ops STREAM_OPS;

static bool open_connection(struct load *load, struct order order)
{
    if (list_empty(&load->free))
        return false;
    struct connection *c = CONTAINER_OF(load->free.next, struct connection, link);
    list_remove(&c->link);
    list_push_back(&load->busy, &c->link);
    c->order = order;
    c->busy = true;
    c->fresh = true;
    c->open = false;
    c->closing = false;
    c->any_byte = false;
    load->connections_open++;
    load->totals.connections_opened++;
    io_timer_set(load->loop, &c->timeout, order.scheduled_us + load->config.timeout_us);
    io_stream_connect(load->loop, &c->stream, &load->config.to, &STREAM_OPS);
    return true;
}

static bool start_order(struct load *load, struct order order)
{
    if (list_empty(&load->idle))
        return open_connection(load, order);
    // Uses the last used connection first, so that the server can let surplus ones expire.
    struct connection *c = CONTAINER_OF(load->idle.prev, struct connection, link);
    list_remove(&c->link);
    list_push_back(&load->busy, &c->link);
    c->order = order;
    c->busy = true;
    io_timer_set(load->loop, &c->timeout, order.scheduled_us + load->config.timeout_us);
    send_order(c);
    return true;
}

static void dispatch(struct load *load)
{
    while (load->queue_count > 0 && start_order(load, load->queue[load->queue_at])) {
        load->queue_at = (load->queue_at + 1) % LOAD_QUEUE_MAX;
        load->queue_count--;
    }
}

// ---- answers ----

static void answer_complete(struct connection *c)
{
    count_answer(c);
    c->busy = false;
    c->fresh = false;
    io_timer_clear(c->load->loop, &c->timeout);
    bool leftover = c->held != NULL && io_buf_len(c->held) > 0;
    if (!c->keep_alive || leftover) {
        close_connection(c);
        return;
    }
    io_buf_put(c->held);
    c->held = NULL;
    list_remove(&c->link);
    list_push_back(&c->load->idle, &c->link);
    dispatch(c->load);
}

// Reads a final head from the held bytes. False: more bytes are needed, or the request failed.
static bool read_head(struct connection *c)
{
    struct load *load = c->load;
    const struct load_request *request = &load->config.requests[c->order.request];
    enum http_method method = strcmp(request->method, "HEAD") == 0 ? HTTP_METHOD_HEAD : HTTP_METHOD_GET;
    struct http_response *r = &load->response;
    do {
        size_t head = 0;
        enum http1_reject why;
        enum status status = http1_response_parse((const char *)c->held->data + c->held->start,
                                                  io_buf_len(c->held), NULL, method, r, &head, &why);
        if (status == STATUS_AGAIN)
            return false;
        if (status != STATUS_OK) {
            fail_order(c, LOAD_FAILED_FRAMING);
            return false;
        }
        c->held->start += (uint32_t)head;
    } while (r->informational);
    const char *name = load->config.version_header;
    const struct http_field *version = http_fields_find_name(&r->fields, slice_of(name));
    const struct http_field *id = http_fields_find_name(&r->fields, SLICE("x-request-id"));
    char wanted[17];
    snprintf(wanted, sizeof wanted, "%016llx", (unsigned long long)c->request_id);
    if (id != NULL && !slice_equal(id->value, slice_of(wanted)))
        load->totals.mismatched++;
    c->version = version_index(load, version != NULL ? version->value : (struct slice){"", 0});
    c->status = r->status;
    c->keep_alive = r->keep_alive;
    http1_body_init(&c->body, (enum http_framing)r->framing, r->content_length, NULL, NULL, 0);
    c->in_body = true;
    return true;
}

static void read_answer(struct connection *c)
{
    if (!c->in_body && !read_head(c))
        return;
    while (!c->body.done) {
        size_t used = 0;
        struct slice payload;
        enum status status = http1_body_next(&c->body, (const char *)c->held->data + c->held->start,
                                             io_buf_len(c->held), &used, &payload);
        if (status != STATUS_OK && status != STATUS_AGAIN) {
            fail_order(c, LOAD_FAILED_FRAMING);
            return;
        }
        c->held->start += (uint32_t)used;
        if (status == STATUS_AGAIN)
            return;
    }
    answer_complete(c);
}

static void on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct connection *c = CONTAINER_OF(stream, struct connection, stream);
    c->load->totals.bytes_received += io_buf_len(buf);
    if (c->closing) {
        io_buf_put(buf);
        return;
    }
    if (!c->busy) { // an answer without a request
        io_buf_put(buf);
        close_connection(c);
        return;
    }
    c->any_byte = true;
    if (c->held != NULL && io_buf_len(c->held) == 0) {
        io_buf_put(c->held);
        c->held = NULL;
    }
    if (io_buf_join(&c->held, buf) != STATUS_OK) { // a head larger than a buffer
        fail_order(c, LOAD_FAILED_FRAMING);
        return;
    }
    read_answer(c);
}

static void on_end(struct io_stream *stream, enum status status)
{
    struct connection *c = CONTAINER_OF(stream, struct connection, stream);
    if (c->closing)
        return;
    if (!c->busy) {
        close_connection(c);
        return;
    }
    if (status == STATUS_CLOSED && c->in_body && http1_body_finish(&c->body) == STATUS_OK) {
        c->keep_alive = false;
        answer_complete(c);
        return;
    }
    fail_order(c, c->open ? LOAD_FAILED_RESET : LOAD_FAILED_CONNECT);
    dispatch(c->load);
}

static void on_open(struct io_stream *stream, enum status status)
{
    struct connection *c = CONTAINER_OF(stream, struct connection, stream);
    if (c->closing)
        return;
    if (status != STATUS_OK) {
        fail_order(c, LOAD_FAILED_CONNECT);
        return;
    }
    c->open = true;
    send_order(c);
}

static void on_drain(struct io_stream *stream)
{
    (void)stream;
}

static void on_closed(struct io_stream *stream)
{
    struct connection *c = CONTAINER_OF(stream, struct connection, stream);
    struct load *load = c->load;
    load->connections_open--;
    list_push_back(&load->free, &c->link);
    if (!load->closed)
        dispatch(load);
}

static const struct io_stream_ops STREAM_OPS = {
    .on_open = on_open, .on_data = on_data, .on_end = on_end, .on_drain = on_drain, .on_closed = on_closed};

static void on_timeout(struct io_timer *timer)
{
    struct connection *c = CONTAINER_OF(timer, struct connection, timeout);
    if (c->busy && !c->closing)
        fail_order(c, LOAD_FAILED_TIMEOUT);
}

// ---- the schedule ----

static double rate_now(const struct load *load)
{
    const struct load_config *k = &load->config;
    if (k->rate_end <= 0.0 || k->duration_us == 0)
        return k->rate;
    double part = fmin(1.0, (double)(load->next_us - load->start_us) / (double)k->duration_us);
    return k->rate + (k->rate_end - k->rate) * part;
}

static uint64_t next_gap_us(struct load *load)
{
    double gap = 1e6 / rate_now(load);
    if (load->config.poisson)
        gap *= -log(1.0 - rng_double(&load->rng));
    // Rounds the gap up or down at random, so that the average rate is exact for any gap.
    uint64_t whole = (uint64_t)gap;
    return whole + (rng_double(&load->rng) < gap - (double)whole);
}

static void schedule_one(struct load *load)
{
    struct order order = {.scheduled_us = load->next_us, .request = load->next_request};
    load->next_request = (load->next_request + 1) % load->config.request_count;
    load->totals.scheduled++;
    load->totals.pending++;
    if (load->queue_count == 0 && start_order(load, order))
        return;
    if (!queue_push(load, order))
        count_failure(load, LOAD_FAILED_SHED);
}

// Fails the requests that have waited for a connection until their time was up.
static void expire_queue(struct load *load, uint64_t now)
{
    while (load->queue_count > 0 &&
           load->queue[load->queue_at].scheduled_us + load->config.timeout_us <= now) {
        load->queue_at = (load->queue_at + 1) % LOAD_QUEUE_MAX;
        load->queue_count--;
        count_failure(load, LOAD_FAILED_TIMEOUT);
    }
}

static void on_step(struct io_timer *timer)
{
    struct load *load = CONTAINER_OF(timer, struct load, step);
    uint64_t now = io_loop_clock_us(load->loop);
    if (load->scheduling && now > load->next_us && now - load->next_us > load->totals.behind_us_max)
        load->totals.behind_us_max = now - load->next_us;
    while (load->scheduling && load->next_us <= now) {
        if (load->next_us >= load->end_us) {
            load->scheduling = false;
            break;
        }
        schedule_one(load);
        load->next_us += next_gap_us(load);
    }
    expire_queue(load, now);
    io_timer_set(load->loop, &load->step, io_loop_now_us(load->loop) + STEP_US);
}

// ---- life ----

static const struct load_request ANY_REQUEST = {.method = "GET", .path = "/"};

static void free_parts(struct load *load)
{
    heap_free(load->connections);
    heap_free(load->queue);
    heap_free(load);
}

static bool head_fits(const struct load_config *k)
{
    size_t fixed = 512;
    for (uint32_t i = 0; i < k->header_count; i++)
        fixed += strlen(k->headers[i].name) + strlen(k->headers[i].value) + 4;
    for (uint32_t i = 0; i < k->request_count; i++) {
        const struct load_request *r = &k->requests[i];
        size_t own = strlen(r->method) + strlen(r->path) + (r->agent != NULL ? strlen(r->agent) : 0) +
                     (r->session != NULL ? strlen(r->session) : 0);
        if (fixed + own > HTTP1_HEAD_BYTES_MAX)
            return false;
    }
    return true;
}

static void fill_defaults(struct load_config *k)
{
    if (k->requests == NULL || k->request_count == 0) {
        k->requests = &ANY_REQUEST;
        k->request_count = 1;
    }
    if (k->connections_max == 0)
        k->connections_max = LOAD_CONNECTIONS_DEFAULT;
    if (k->timeout_us == 0)
        k->timeout_us = TIMEOUT_US_DEFAULT;
    if (k->version_header == NULL)
        k->version_header = "x-version";
}

enum status load_create(struct io_loop *loop, const struct load_config *config, struct load **out)
{
    if (!(config->rate > 0.0 && config->rate <= RATE_MAX) ||
        !(config->rate_end >= 0.0 && config->rate_end <= RATE_MAX))
        return STATUS_RANGE;
    struct load_config k = *config;
    fill_defaults(&k);
    if (!head_fits(&k))
        return STATUS_RANGE;
    struct load *load = heap_alloc(1, sizeof *load);
    if (load == NULL)
        return STATUS_NO_MEMORY;
    load->loop = loop;
    load->config = k;
    load->connections = heap_alloc(k.connections_max, sizeof *load->connections);
    load->queue = heap_alloc(LOAD_QUEUE_MAX, sizeof *load->queue);
    if (load->connections == NULL || load->queue == NULL) {
        free_parts(load);
        return STATUS_NO_MEMORY;
    }
    list_init(&load->free);
    list_init(&load->idle);
    list_init(&load->busy);
    for (uint32_t i = 0; i < k.connections_max; i++) {
        load->connections[i].load = load;
        io_timer_init(&load->connections[i].timeout, on_timeout);
        list_push_back(&load->free, &load->connections[i].link);
    }
    rng_init(&load->rng, k.seed);
    io_addr_format(&k.to, load->host);
    load->start_us = load->next_us = io_loop_clock_us(loop);
    load->end_us = load->start_us + k.duration_us;
    load->scheduling = true;
    io_timer_init(&load->step, on_step);
    io_timer_set(loop, &load->step, io_loop_now_us(loop) + STEP_US);
    *out = load;
    return STATUS_OK;
}

void load_stop(struct load *load)
{
    load->scheduling = false;
}

bool load_done(const struct load *load)
{
    return !load->scheduling && load->totals.pending == 0;
}

const struct load_totals *load_totals(const struct load *load)
{
    return &load->totals;
}

void load_close(struct load *load)
{
    load->scheduling = false;
    load->closed = true;
    io_timer_clear(load->loop, &load->step);
    load->queue_count = 0;
    while (!list_empty(&load->busy))
        close_connection(CONTAINER_OF(load->busy.next, struct connection, link));
    while (!list_empty(&load->idle))
        close_connection(CONTAINER_OF(load->idle.next, struct connection, link));
}

bool load_closed(const struct load *load)
{
    return load->closed && load->connections_open == 0;
}

void load_destroy(struct load *load)
{
    CHECK(load_closed(load));
    free_parts(load);
}
