// SPDX-License-Identifier: Apache-2.0
// What is told of single requests: what the client asked, read from a head that the exchange keeps, and the
// ring of the access log. Where a route writes requests anew, a short head of what came is kept beside the
// one that the service gets; else nothing here is touched for a request that nobody asks about.
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "net/proxy/proxy_private.h"

// ---- what was asked ----

struct asked_head {
    size_t len;
    char text[PROXY_EVENT_METHOD_BYTES + PROXY_ACCESS_TARGET_BYTES + PROXY_EVENT_HOST_BYTES +
              2 * PROXY_ACCESS_FIELD_BYTES + 64]; // and the names between them
};

static struct slice next_line(struct slice *rest)
{
    const char *end = memmem(rest->data, rest->len, "\r\n", 2);
    struct slice line = {rest->data, end != NULL ? (size_t)(end - rest->data) : rest->len};
    size_t taken = line.len + (end != NULL ? 2 : 0);
    *rest = (struct slice){rest->data + taken, rest->len - taken};
    return line;
}

static struct slice next_word(struct slice *line)
{
    const char *end = memchr(line->data, ' ', line->len);
    struct slice word = {line->data, end != NULL ? (size_t)(end - line->data) : line->len};
    size_t taken = word.len + (end != NULL ? 1 : 0);
    *line = (struct slice){line->data + taken, line->len - taken};
    return word;
}

static void take_field(struct slice line, struct slice name, struct slice *value)
{
    if (line.len <= name.len || !slice_equal_nocase((struct slice){line.data, name.len}, name))
        return;
    *value = (struct slice){line.data + name.len, line.len - name.len};
    while (value->len > 0 && value->data[0] == ' ')
        *value = (struct slice){value->data + 1, value->len - 1};
}

static struct slice kept_head(const struct exchange *exchange)
{
    if (exchange->asked_head != NULL)
        return (struct slice){exchange->asked_head->text, exchange->asked_head->len};
    const char *head = exchange->head_buf != NULL ? (const char *)exchange->head_buf->data : exchange->head;
    return (struct slice){head, exchange->head_len};
}

struct asked asked_of_exchange(const struct exchange *exchange)
{
    struct asked asked = {.method = {"", 0}, .request_id = {exchange->request_id, exchange->request_id_len}};
    struct slice rest = kept_head(exchange);
    if (rest.len == 0)
        return asked;
    struct slice first = next_line(&rest);
    asked.method = next_word(&first);
    asked.target = next_word(&first);
    while (rest.len > 0) {
        struct slice line = next_line(&rest);
        take_field(line, SLICE("host:"), &asked.host);
        take_field(line, SLICE("referer:"), &asked.referer);
        take_field(line, SLICE("user-agent:"), &asked.agent);
    }
    return asked;
}

static struct slice field_of(const struct http_request *request, struct slice name)
{
    const struct http_field *field = http_fields_find_name(&request->fields, name);
    return field != NULL ? field->value : (struct slice){"", 0};
}

struct asked asked_of_request(const struct worker *worker)
{
    const struct http_request *request = worker->request;
    return (struct asked){.request_id = worker->request_id,
                          .method = request->method,
                          .target = request->target,
                          .host = request->authority,
                          .referer = field_of(request, SLICE("referer")),
                          .agent = field_of(request, SLICE("user-agent"))};
}

// As much of a value as can be told.
static void add(struct text *text, struct slice before, struct slice value, size_t cap)
{
    text_add(text, before);
    text_add(text, (struct slice){value.data, value.len < cap ? value.len : cap});
}

void asked_keep(struct exchange *exchange)
{
    struct worker *worker = exchange->worker;
    struct asked_head *kept = free_list_get(&worker->free_asked, sizeof *kept);
    if (kept == NULL)
        return; // what its service gets is told
    struct asked asked = asked_of_request(worker);
    struct text text = text_over(kept->text, sizeof kept->text);
    add(&text, SLICE(""), asked.method, PROXY_EVENT_METHOD_BYTES);
    add(&text, SLICE(" "), asked.target, PROXY_ACCESS_TARGET_BYTES);
    add(&text, SLICE("\r\nhost:"), asked.host, PROXY_EVENT_HOST_BYTES);
    add(&text, SLICE("\r\nreferer:"), asked.referer, PROXY_ACCESS_FIELD_BYTES);
    add(&text, SLICE("\r\nuser-agent:"), asked.agent, PROXY_ACCESS_FIELD_BYTES);
    CHECK(!text.cut);
    kept->len = text.len;
    exchange->asked_head = kept;
}

void asked_drop(struct exchange *exchange)
{
    free_list_put(&exchange->worker->free_asked, exchange->asked_head);
    exchange->asked_head = NULL;
}

void asked_copy(struct slice from, char *to, size_t cap)
{
    struct text text = text_over(to, cap);
    text_add(&text, from);
}

// ---- the ring of the access log ----

static struct proxy_access *ring_next(struct worker *worker)
{
    struct access_ring *ring = worker->access;
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head - atomic_load_explicit(&ring->tail, memory_order_acquire) < PROXY_ACCESSES)
        return &ring->items[head % PROXY_ACCESSES];
    worker_count(worker, PROXY_WORKER_ACCESSES_DROPPED);
    return NULL;
}

static void ring_push(struct worker *worker)
{
    struct access_ring *ring = worker->access;
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
}

static void fill(struct worker *worker, struct proxy_access *access, unsigned status, struct slice client,
                 const struct asked *asked)
{
    access->wall_ms = io_loop_wall_ms(worker->loop);
    access->elapsed_us = 0;
    access->bytes = 0;
    access->status = (uint16_t)status;
    access->service[0] = access->version[0] = access->route[0] = '\0';
    asked_copy(client, access->client, sizeof access->client);
    asked_copy(asked->method, access->method, sizeof access->method);
    asked_copy(asked->host, access->host, sizeof access->host);
    asked_copy(asked->target, access->target, sizeof access->target);
    asked_copy(asked->referer, access->referer, sizeof access->referer);
    asked_copy(asked->agent, access->agent, sizeof access->agent);
    asked_copy(asked->request_id, access->request_id, sizeof access->request_id);
}

void access_tell(struct worker *worker, unsigned status, struct slice client, const struct asked *asked,
                 struct slice route)
{
    struct proxy_access *access = ring_next(worker);
    if (access == NULL)
        return;
    fill(worker, access, status, client, asked);
    asked_copy(route, access->route, sizeof access->route);
    ring_push(worker);
}

void access_tell_exchange(struct exchange *exchange)
{
    struct worker *worker = exchange->worker;
    struct proxy_access *access = ring_next(worker);
    if (access == NULL)
        return;
    struct asked asked = asked_of_exchange(exchange);
    fill(worker, access, exchange->status, exchange->client, &asked);
    access->elapsed_us = worker_now_us(worker) - exchange->started_us;
    access->bytes = exchange->response.total;
    const struct proxy_service *service = worker->table->by_slot[exchange->service];
    const struct proxy_version *version =
        service != NULL ? proxy_service_version(service, exchange->version) : NULL;
    if (service != NULL)
        asked_copy(slice_of(service->name), access->service, sizeof access->service);
    if (exchange->action != NULL)
        asked_copy(exchange->action->name, access->route, sizeof access->route);
    if (version != NULL)
        asked_copy(slice_of(version->name), access->version, sizeof access->version);
    ring_push(worker);
}

static uint32_t ring_take(struct access_ring *ring, struct proxy_access *out, uint32_t cap)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    uint32_t taken = 0;
    while (tail != head && taken < cap)
        out[taken++] = ring->items[tail++ % PROXY_ACCESSES];
    atomic_store_explicit(&ring->tail, tail, memory_order_release);
    return taken;
}

uint32_t proxy_accesses_take(struct proxy *proxy, struct proxy_access *out, uint32_t cap)
{
    uint32_t taken = 0;
    for (uint32_t i = 0; i < proxy->worker_count; i++)
        if (proxy->workers[i]->access != NULL)
            taken += ring_take(proxy->workers[i]->access, out + taken, cap - taken);
    return taken;
}
