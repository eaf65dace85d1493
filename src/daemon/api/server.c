// SPDX-License-Identifier: Apache-2.0
// The API's server half: what a request is to the handlers, what their answers are to the web server, and the
// event streams of rollouts.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "daemon/api/api_private.h"
#include "net/web/web.h"
#include "ship/engine/engine.h"
#include "ship/engine/record.h"

enum { FIELDS_BYTES = 160, EVENT_LINE_BYTES = 96 };

// One reader of a rollout's events: the subject of a stream.
struct subscriber {
    struct list link;
    struct web_connection *connection;
    uint64_t event_id;
    char rollout[ROLLOUT_NAME_BYTES];
};

struct api {
    struct engine *engine;
    const struct api_program *program;
    struct web *web;
    struct io_loop *loop;
    struct io_timer progress;
    struct engine_watcher watcher;
    struct list subscribers;
    uint64_t heartbeat_us; // when the next one is due
    bool open;
    char fields[FIELDS_BYTES]; // of the present answer
};

// ---- event streams ----

static struct json_out event_begin(struct subscriber *s, const char *type)
{
    char line[EVENT_LINE_BYTES];
    struct json_out out = {0};
    int n =
        snprintf(line, sizeof line, "id: %llu\nevent: %s\ndata: ", (unsigned long long)++s->event_id, type);
    json_out_bytes(&out, (struct slice){line, (size_t)n});
    return out;
}

static void event_send(struct subscriber *s, struct json_out *out)
{
    JSON_OUT(out, "\n\n");
    if (out->status == STATUS_OK)
        (void)web_stream_send(s->connection, json_out_slice(out));
    json_out_free(out);
}

static void send_state(struct api *api, struct subscriber *s)
{
    int index = engine_view_find(api->engine, s->rollout);
    if (index < 0) {
        web_stream_end(s->connection);
        return;
    }
    struct json_out out = event_begin(s, "state");
    api_write_rollout(&out, NULL, api->engine, (uint32_t)index);
    event_send(s, &out);
}

static void on_opened(void *context, struct web_connection *connection, void *subject)
{
    struct api *api = context;
    struct subscriber *s = subject;
    s->connection = connection;
    list_push_back(&api->subscribers, &s->link);
    send_state(api, s);
}

static void on_closed(void *context, struct web_connection *connection, void *subject)
{
    struct subscriber *s = subject;
    (void)context;
    (void)connection;
    list_remove(&s->link);
    heap_free(s);
}

static void on_decided(struct engine_watcher *watcher, const char *name,
                       const struct engine_decision *decision)
{
    struct api *api = CONTAINER_OF(watcher, struct api, watcher);
    for (struct list *node = api->subscribers.next; node != &api->subscribers; node = node->next) {
        struct subscriber *s = CONTAINER_OF(node, struct subscriber, link);
        if (strcmp(s->rollout, name) != 0)
            continue;
        struct json_out out = event_begin(s, "decision");
        api_write_decision(&out, name, decision);
        event_send(s, &out);
    }
}

// Each second the present state of every watched rollout; between them a comment that keeps middleboxes
// awake.
static void on_progress(struct io_timer *timer)
{
    struct api *api = CONTAINER_OF(timer, struct api, progress);
    uint64_t now = io_loop_now_us(api->loop);
    bool beat = now >= api->heartbeat_us;
    for (struct list *node = api->subscribers.next; node != &api->subscribers; node = node->next) {
        struct subscriber *s = CONTAINER_OF(node, struct subscriber, link);
        if (beat)
            (void)web_stream_send(s->connection, SLICE(": still here\n\n"));
        send_state(api, s);
    }
    if (beat)
        api->heartbeat_us = now + (uint64_t)API_HEARTBEAT_MS * 1000;
    io_timer_set(api->loop, &api->progress, now + (uint64_t)API_PROGRESS_MS * 1000);
}

// ---- requests ----

// Nothing of the API may be kept by caches or taken for another type than it says.
static struct slice fields_of(struct api *api, const struct api_call *call)
{
    struct text text = text_over(api->fields, sizeof api->fields);
    text_add(&text, SLICE("Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"));
    if (call->allow[0] != '\0')
        text_addf(&text, "Allow: %s\r\n", call->allow);
    CHECK(!text.cut);
    return text_slice(&text);
}

static void answer_stream(const struct api_call *call, struct web_answer *answer)
{
    struct subscriber *s = heap_alloc(1, sizeof *s);
    if (s == NULL) {
        answer->status = 503;
        return;
    }
    list_init(&s->link);
    memcpy(s->rollout, call->subject, sizeof s->rollout);
    answer->stream = true;
    answer->subject = s;
}

static void on_request(void *context, const struct web_request *request, struct web_answer *answer)
{
    struct api *api = context;
    const struct http_field *who = http_fields_find_name(request->fields, SLICE("x-sluice-who"));
    struct api_call call = {
        .engine = api->engine,
        .program = api->program,
        .method = request->method,
        .path = request->path,
        .query = request->query,
        .body = request->body,
        .host = request->host,
        .who = who != NULL ? who->value : (struct slice){"", 0},
        .cross_site = request->cross_site,
        .from = request->from,
    };
    api_handle(&call);
    answer->status = call.status;
    answer->content_type = call.content_type != NULL ? call.content_type : "application/json";
    answer->fields = fields_of(api, &call);
    answer->body = json_out_slice(&call.out);
    answer->release = call.out.data;
    if (call.subject[0] != '\0')
        answer_stream(&call, answer);
}

static uint32_t body_bytes_max(void *context, const struct web_request *request)
{
    (void)context;
    return api_body_bytes_max(request->path);
}

// ---- life ----

enum status api_create(struct engine *engine, const struct io_addr *addr, uint32_t connections,
                       const struct api_program *program, struct api **out)
{
    const struct web_limits limits = {.rests = true, // the engine's loop decides first
                                      .connections = connections,
                                      .streams = API_SUBSCRIBERS_MAX,
                                      .body_bytes = API_FLAGS_BODY_BYTES_MAX,
                                      .pending_bytes = API_PENDING_BYTES_MAX,
                                      .request_ms = API_REQUEST_MS_MAX,
                                      .idle_ms = API_IDLE_MS_MAX};
    struct api *api = heap_alloc(1, sizeof *api);
    if (api == NULL)
        return STATUS_NO_MEMORY;
    const struct web_handler handler = {.context = api,
                                        .handle = on_request,
                                        .body_bytes_max = body_bytes_max,
                                        .opened = on_opened,
                                        .closed = on_closed};
    api->engine = engine;
    api->program = program;
    api->loop = engine_loop(engine);
    list_init(&api->subscribers);
    enum status status =
        web_create(api->loop, &(struct web_place){.addr = addr}, &handler, &limits, &api->web);
    if (status != STATUS_OK) {
        heap_free(api);
        return status;
    }
    api->open = true;
    api->watcher.decided = on_decided;
    engine_watch(engine, &api->watcher);
    io_timer_init(&api->progress, on_progress);
    io_timer_set(api->loop, &api->progress, io_loop_now_us(api->loop) + (uint64_t)API_PROGRESS_MS * 1000);
    *out = api;
    return STATUS_OK;
}

void api_addr(const struct api *api, struct io_addr *addr)
{
    web_addr(api->web, addr);
}

void api_close(struct api *api)
{
    if (!api->open)
        return;
    api->open = false;
    io_timer_clear(api->loop, &api->progress);
    engine_unwatch(&api->watcher);
    web_close(api->web);
}

bool api_closed(const struct api *api)
{
    return !api->open && web_closed(api->web);
}

void api_destroy(struct api *api)
{
    CHECK(api_closed(api));
    web_destroy(api->web);
    heap_free(api);
}
