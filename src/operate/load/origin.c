// SPDX-License-Identifier: Apache-2.0
// The small origin: answers every request after a drawn delay. Never blocks, and holds at most
// LOAD_ORIGIN_CONNECTIONS_MAX connections.
#include "operate/load/origin.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/rng.h"
#include "net/server/server.h"

enum { REQUEST_ID_BYTES = 64 };

// A request that has come and is not answered yet: the subject of its stream.
struct asked {
    char request_id[REQUEST_ID_BYTES]; // X-Request-Id to send back; empty: none, or too long
    uint32_t request_id_len;
    bool fail; // it will be a 500
    bool head_only;
};

struct load_origin {
    struct server server;
    struct io_loop *loop;
    struct load_origin_options options;
    struct load_origin_counts counts;
    struct rng rng;
    struct free_list free_asked;
    struct http_response response; // scratch
};

static struct load_origin *origin_of(const struct server_stream *stream)
{
    return CONTAINER_OF(stream->server, struct load_origin, server);
}

// ---- what to answer ----

// Standard normal by Box and Muller; the second number of the pair is not used.
static double draw_normal(struct rng *rng)
{
    double u = 1.0 - rng_double(rng);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * rng_double(rng));
}

static uint64_t draw_delay_us(struct load_origin *origin)
{
    const struct load_origin_options *o = &origin->options;
    if (o->latency_us == 0)
        return 0;
    double delay = (double)o->latency_us * exp(o->latency_sigma * draw_normal(&origin->rng));
    if (rng_double(&origin->rng) < o->tail_share)
        delay *= o->tail_factor;
    return (uint64_t)fmin(delay, 60e6);
}

static void send_answer(struct server_stream *stream, const struct asked *asked)
{
    static const char FILL[LOAD_ORIGIN_BODY_BYTES_MAX] = {0};
    const struct load_origin *origin = origin_of(stream);
    const struct http_field fields[] = {
        {.name = SLICE("X-Version"), .value = slice_of(origin->options.version)},
        {.name = SLICE("X-Request-Id"), .value = {asked->request_id, asked->request_id_len}},
    };
    const struct http_answer answer = {
        .status = asked->fail ? 500 : 200,
        .body = asked->fail ? SLICE("it broke\n") : (struct slice){FILL, origin->options.body_bytes},
        .add = fields,
        .add_count = asked->request_id_len > 0 ? 2 : 1,
        .head_only = asked->head_only,
    };
    (void)server_answer(stream, &answer); // without a buffer it was reset
}

// A head, some of the body that it announces, and the end of the connection.
static void send_part(struct server_stream *stream, unsigned status, const char *reason)
{
    static const char PART[1024] = {0};
    struct load_origin *origin = origin_of(stream);
    const struct server_added added = {.close = true};
    origin->response = (struct http_response){.status = (uint16_t)status,
                                              .reason = slice_of(reason),
                                              .framing = HTTP_FRAMING_LENGTH,
                                              .has_content_length = true,
                                              .content_length = sizeof PART + 1};
    if (server_head(stream, &origin->response, &added) != STATUS_OK ||
        server_data(stream, (struct slice){PART, sizeof PART}, NULL) != STATUS_OK)
        server_reset(stream);
    else
        server_end(stream);
}

static void answer(struct server_stream *stream)
{
    struct load_origin *origin = origin_of(stream);
    struct asked *asked = stream->subject;
    switch (origin->options.behaviour) {
    case LOAD_ORIGIN_STALLS:
        server_due(stream, UINT64_MAX);
        return;
    case LOAD_ORIGIN_GARBAGE:
        send_part(stream, 1000, "what did you expect"); // no status has four digits
        break;
    case LOAD_ORIGIN_REFUSES:
        server_reset(stream);
        break;
    case LOAD_ORIGIN_CUTS:
        origin->counts.answers++;
        send_part(stream, 200, "OK");
        break;
    case LOAD_ORIGIN_ANSWERS:
        origin->counts.answers++;
        origin->counts.errors += asked->fail;
        send_answer(stream, asked);
        break;
    }
    free_list_put(&origin->free_asked, asked);
}

static void request_complete(struct server_stream *stream)
{
    struct load_origin *origin = origin_of(stream);
    struct asked *asked = stream->subject;
    uint64_t delay = draw_delay_us(origin);
    asked->fail = rng_double(&origin->rng) < origin->options.error_share;
    if (delay == 0)
        answer(stream);
    else
        server_due(stream, io_loop_now_us(origin->loop) + delay);
}

// ---- the server's events ----

static void on_request(struct server_stream *stream, struct http_request *request)
{
    struct load_origin *origin = origin_of(stream);
    struct asked *asked = free_list_get(&origin->free_asked, sizeof *asked);
    if (asked == NULL) {
        server_reset(stream);
        return;
    }
    origin->counts.requests++;
    origin->counts.last_request_us = io_loop_now_us(origin->loop);
    *asked = (struct asked){.head_only = request->method_id == HTTP_METHOD_HEAD};
    const struct http_field *id = http_fields_find_name(&request->fields, SLICE("x-request-id"));
    if (id != NULL && id->value.len <= sizeof asked->request_id) {
        memcpy(asked->request_id, id->value.data, id->value.len);
        asked->request_id_len = (uint32_t)id->value.len;
    }
    if (origin->options.seen != NULL)
        origin->options.seen(origin->options.seen_context, request);
    stream->subject = asked;
    if (request->framing != HTTP_FRAMING_CHUNKED && request->content_length == 0)
        request_complete(stream);
}

static void on_data(struct server_stream *stream, struct slice run, struct io_buf **buf)
{
    (void)stream;
    (void)run;
    (void)buf;
}

static void on_ended(struct server_stream *stream, struct http_fields *trailers)
{
    (void)trailers;
    request_complete(stream);
}

static void on_gone(struct server_stream *stream)
{
    free_list_put(&origin_of(stream)->free_asked, stream->subject);
}

// Nothing is answered: the connection is closed.
static void on_refused(struct server_stream *stream, enum server_refusal refusal, unsigned status,
                       const char *why)
{
    (void)status;
    (void)why;
    struct load_origin *origin = origin_of(stream);
    origin->counts.malformed += refusal == SERVER_REFUSAL_MALFORMED || refusal == SERVER_REFUSAL_BODY;
    if (refusal == SERVER_REFUSAL_BODY)
        on_gone(stream);
}

static void on_note(struct server *server, enum server_note note)
{
    struct load_origin *origin = CONTAINER_OF(server, struct load_origin, server);
    origin->counts.connections += note == SERVER_NOTE_ACCEPTED;
    origin->counts.connections -= note == SERVER_NOTE_CROWDED;
    origin->counts.refused += note == SERVER_NOTE_CROWDED || note == SERVER_NOTE_ACCEPT_FAILED;
}

static const struct server_handler HANDLER = {.request = on_request,
                                              .data = on_data,
                                              .ended = on_ended,
                                              .due = answer,
                                              .gone = on_gone,
                                              .refused = on_refused,
                                              .note = on_note};

// ---- life ----

enum status load_origin_create(struct io_loop *loop, const struct io_addr *addr,
                               const struct load_origin_options *options, struct load_origin **out)
{
    static const struct server_limits LIMITS = {.head_us = 3600000000, .idle_us = 3600000000};
    struct load_origin *origin = heap_alloc(1, sizeof *origin);
    if (origin == NULL)
        return STATUS_NO_MEMORY;
    origin->loop = loop;
    rng_init(&origin->rng, options->seed);
    server_init(&origin->server, &HANDLER, &LIMITS, NULL);
    load_origin_set(origin, options);
    enum status status = server_listen(&origin->server, loop, addr, false);
    if (status != STATUS_OK) {
        heap_free(origin);
        return status;
    }
    *out = origin;
    return STATUS_OK;
}

void load_origin_addr(const struct load_origin *origin, struct io_addr *addr)
{
    server_addr(&origin->server, 0, addr);
}

void load_origin_set(struct load_origin *origin, const struct load_origin_options *options)
{
    bool refuses = options->behaviour == LOAD_ORIGIN_REFUSES;
    origin->options = *options;
    if (origin->options.body_bytes > LOAD_ORIGIN_BODY_BYTES_MAX)
        origin->options.body_bytes = LOAD_ORIGIN_BODY_BYTES_MAX;
    origin->server.limits.connections = refuses ? 0 : LOAD_ORIGIN_CONNECTIONS_MAX;
}

const struct load_origin_counts *load_origin_counts(const struct load_origin *origin)
{
    return &origin->counts;
}

void load_origin_close(struct load_origin *origin)
{
    server_close(&origin->server);
}

bool load_origin_closed(const struct load_origin *origin)
{
    return server_closed(&origin->server);
}

void load_origin_destroy(struct load_origin *origin)
{
    CHECK(load_origin_closed(origin));
    free_list_clear(&origin->free_asked);
    server_deinit(&origin->server);
    heap_free(origin);
}
