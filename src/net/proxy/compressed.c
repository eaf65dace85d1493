// SPDX-License-Identifier: Apache-2.0
// Answers that are compressed on their way to the client. Three bounds: so many at a time, so many bytes in
// one turn of the loop, and so long until what came has left. An answer that breaks off is dropped with its
// stream, so that no decoder takes it for whole.
#include "net/proxy/proxy_private.h"

struct compressed {
    struct exchange *exchange;
    struct compress_stream *stream;
    enum http_codec codec;
    struct io_timer flush; // set while the codec may hold bytes back
    struct io_buf *held;   // of the origin's, for a later turn
    struct list link;      // of those that wait; held is not NULL then
    bool its_turn;
};

static struct compressing *compressing_of(const struct exchange *exchange)
{
    return &exchange->worker->compressing;
}

static void count(struct exchange *exchange, enum proxy_worker_counter first, unsigned value, uint64_t n)
{
    sheet_add64(&exchange->worker->counters[first + value - 1], n);
}

// ---- the choice ----

void compressed_ask(struct exchange *exchange)
{
    exchange->asked = compress_asked_of(&exchange->worker->request->fields);
}

static void on_flush(struct io_timer *timer);

static struct compressed *begin(struct exchange *exchange, const struct compress_choice *choice,
                                uint64_t bytes)
{
    struct compressing *compressing = compressing_of(exchange);
    struct compressed *made = free_list_get(&compressing->free, sizeof *made);
    if (made == NULL)
        return NULL;
    *made = (struct compressed){.exchange = exchange, .codec = choice->codec};
    if (compress_stream_create(choice->codec, choice->level, bytes, &made->stream) != STATUS_OK) {
        free_list_put(&compressing->free, made);
        return NULL;
    }
    list_init(&made->link);
    io_timer_init(&made->flush, on_flush);
    compressing->streams++;
    return made;
}

// The answer to HEAD has the head of one that is compressed, and no body to compress.
static void settle(struct exchange *exchange, const struct http_response *response,
                   struct compress_choice *choice)
{
    uint64_t bytes = response->has_content_length ? response->content_length : UINT64_MAX;
    if (choice->codec == HTTP_CODEC_NONE || response->framing == HTTP_FRAMING_NONE)
        return;
    exchange->compressed = begin(exchange, choice, bytes);
    if (exchange->compressed != NULL)
        return;
    choice->codec = HTTP_CODEC_NONE;
    choice->plain = COMPRESS_PLAIN_BUSY;
}

void compressed_head(struct exchange *exchange, struct http_response *response, struct server_added *added)
{
    struct worker *worker = exchange->worker;
    struct compress_head head = {response, worker->action.fields, added->field_count};
    const struct compress_facts facts = {.settings = &exchange->action->compression,
                                         .asked = &exchange->asked,
                                         .head = &head,
                                         .busy = worker->compressing.streams >= COMPRESSED_STREAMS_MAX};
    struct text etag = text_over(worker->action.text, sizeof worker->action.text);
    struct compress_choice choice = compress_choose(&facts);
    _Static_assert(ARRAY_LEN(worker->action.fields) >= PROXY_EDITS_MAX + 1 + COMPRESS_ADDED_MAX, "room");
    settle(exchange, response, &choice);
    compress_head_edit(&head, &exchange->asked, &choice, &etag);
    added->field_count = head.added_count;
    if (choice.codec != HTTP_CODEC_NONE)
        count(exchange, PROXY_WORKER_COMPRESSED, choice.codec, 1);
    else
        count(exchange, PROXY_WORKER_PLAIN, choice.plain, 1);
}

// ---- the body ----

// Hands on all that the step writes.
static enum status run_step(struct exchange *exchange, struct slice in, enum compress_step step)
{
    struct compressed *compressed = exchange->compressed;
    struct compressing *compressing = compressing_of(exchange);
    enum status status;
    do {
        size_t written = 0;
        status = compress_stream_run(compressed->stream, &in, step, compressing->out, sizeof compressing->out,
                                     &written);
        struct slice run = {compressing->out, written};
        count(exchange, PROXY_WORKER_COMPRESSED_OUT, compressed->codec, written);
        if (written > 0 && server_data(exchange->stream, run, NULL) != STATUS_OK)
            return STATUS_FULL;
    } while (status == STATUS_AGAIN);
    return status == STATUS_OK ? STATUS_OK : STATUS_FULL;
}

enum status compressed_data(struct exchange *exchange, struct slice run)
{
    struct compressed *compressed = exchange->compressed;
    struct io_loop *loop = exchange->worker->loop;
    compressing_of(exchange)->spent += (uint32_t)run.len;
    count(exchange, PROXY_WORKER_COMPRESSED_IN, compressed->codec, run.len);
    if (!io_timer_is_set(&compressed->flush))
        io_timer_set(loop, &compressed->flush, io_loop_now_us(loop) + COMPRESSED_HOLD_US);
    return run_step(exchange, run, COMPRESS_GO_ON);
}

enum status compressed_end(struct exchange *exchange)
{
    // What waits behind the end belongs to no answer.
    if (exchange->compressed->held != NULL)
        exchange->upstream_keep = false;
    return run_step(exchange, (struct slice){NULL, 0}, COMPRESS_END);
}

static void on_flush(struct io_timer *timer)
{
    struct exchange *exchange = CONTAINER_OF(timer, struct compressed, flush)->exchange;
    if (run_step(exchange, (struct slice){NULL, 0}, COMPRESS_FLUSH) == STATUS_OK)
        response_flush(exchange);
    else
        exchange_starved(exchange);
}

void compressed_free(struct exchange *exchange)
{
    struct compressed *compressed = exchange->compressed;
    struct compressing *compressing = compressing_of(exchange);
    exchange->compressed = NULL;
    io_timer_clear(exchange->worker->loop, &compressed->flush);
    list_remove(&compressed->link);
    io_held_put(compressed->held);
    compress_stream_destroy(compressed->stream);
    free_list_put(&compressing->free, compressed);
    compressing->streams--;
    if (list_empty(&compressing->waiting))
        io_timer_clear(exchange->worker->loop, &compressing->next);
}

// ---- turns ----

static bool spent(struct worker *worker)
{
    struct compressing *compressing = &worker->compressing;
    uint64_t turn = io_loop_stats(worker->loop)->turns;
    if (turn != compressing->turn) {
        compressing->turn = turn;
        compressing->spent = 0;
    }
    return compressing->spent >= COMPRESSED_TURN_BYTES;
}

// At the end of those that wait.
static void put_off(struct worker *worker, struct compressed *compressed)
{
    struct compressing *compressing = &worker->compressing;
    list_remove(&compressed->link);
    list_push_back(&compressing->waiting, &compressed->link);
    io_timer_set(worker->loop, &compressing->next, worker_now_us(worker));
}

bool compressed_wait(struct exchange *exchange, struct io_buf *buf)
{
    struct compressed *compressed = exchange->compressed;
    const struct list *waiting = &exchange->worker->compressing.waiting;
    bool now = compressed->its_turn || (list_empty(waiting) && !spent(exchange->worker));
    compressed->its_turn = false;
    if (now)
        return false;
    struct io_buf **end = &compressed->held;
    while (*end != NULL)
        end = &(*end)->next;
    *end = buf;
    if (compressed->held == buf)
        put_off(exchange->worker, compressed);
    if (exchange->upstream != NULL)
        upstream_pause(exchange->upstream);
    return true;
}

bool compressed_waits(const struct exchange *exchange)
{
    return exchange->compressed->held != NULL;
}

// The first of those that wait gets its turn, with one buffer.
static void give_turn(struct worker *worker)
{
    struct compressed *compressed = CONTAINER_OF(worker->compressing.waiting.next, struct compressed, link);
    struct exchange *exchange = compressed->exchange;
    struct io_buf *buf = compressed->held;
    compressed->held = buf->next;
    buf->next = NULL;
    compressed->its_turn = true;
    list_remove(&compressed->link);
    if (compressed->held != NULL)
        put_off(worker, compressed);
    else if (exchange->upstream != NULL)
        upstream_resume(exchange->upstream);
    response_data(exchange, buf);
}

static void on_next(struct io_timer *timer)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, compressing.next);
    struct compressing *compressing = &worker->compressing;
    while (!list_empty(&compressing->waiting) && !spent(worker))
        give_turn(worker);
    if (!list_empty(&compressing->waiting))
        io_timer_set(worker->loop, timer, worker_now_us(worker));
}

void compressed_init(struct compressing *compressing)
{
    list_init(&compressing->waiting);
    io_timer_init(&compressing->next, on_next);
}
