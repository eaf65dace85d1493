// SPDX-License-Identifier: Apache-2.0
// Requests that are sent a second time (net/mirror): which are selected, and what of them and of their
// answers is copied as it passes. An exchange without a copy pays a test of a pointer; one with a copy never
// waits for it.
#include "net/proxy/proxy_private.h"

// A unit is mirrored with all its requests or with none, as long as its service's epoch lasts.
static bool drawn(struct exchange *exchange, const struct mirror_plan *plan)
{
    uint64_t draw = exchange->unit_hash ^ 0x6d6972726f72;
    uint32_t share = mirror_plan_part(plan);
    if (!exchange->keyed)
        return rng_below(&exchange->worker->rng, MIRROR_SHARE_FULL) < share;
    return ((unsigned __int128)rng_splitmix(&draw) * MIRROR_SHARE_FULL) >> 64 < share;
}

void mirrored_begin(struct exchange *exchange, const struct proxy_service *service)
{
    struct worker *worker = exchange->worker;
    struct mirror_plan *plan = service->mirror;
    const struct io_buf *head = exchange->pending.head;
    bool off = exchange->action != NULL && exchange->action->mirror_off;
    // What another version answers is no answer of the primary.
    if (off || exchange->version != service->arms[ROLLOUT_ARM_STABLE]->slot || !drawn(exchange, plan))
        return;
    mirror_select(plan);
    enum mirror_drop reason = mirror_plan_refuses(plan, worker->request);
    if (reason != MIRROR_DROPS) {
        mirror_refuse(plan, reason);
        return;
    }
    struct slice bytes = {(const char *)head->data + head->start, io_buf_len(head)};
    exchange->mirrored =
        mirror_copy_begin(worker->proxy->mirror, worker->index, plan, bytes, io_loop_wall_ms(worker->loop));
}

void mirrored_request_data(struct exchange *exchange, struct slice run)
{
    if (!mirror_copy_request(exchange->mirrored, run))
        exchange->mirrored = NULL;
}

void mirrored_request_ended(struct exchange *exchange, const struct http_fields *trailers)
{
    if (trailers == NULL || trailers->count == 0)
        return;
    mirror_copy_drop(exchange->mirrored, MIRROR_DROP_TRAILERS);
    exchange->mirrored = NULL;
}

void mirrored_request_sent(struct exchange *exchange)
{
    mirror_copy_requested(exchange->mirrored);
}

void mirrored_answer(struct exchange *exchange)
{
    uint64_t now_us = worker_now_us(exchange->worker);
    mirror_copy_answer(exchange->mirrored, &exchange->worker->response,
                       exchange->request_done ? now_us - exchange->sent_us : 0);
}

void mirrored_data(struct exchange *exchange, struct slice run)
{
    mirror_copy_body(exchange->mirrored, run);
}

void mirrored_over(struct exchange *exchange, bool whole)
{
    enum mirror_over over = exchange->erred ? MIRROR_OVER_FAILED : MIRROR_OVER_CLIENT_GONE;
    mirror_copy_over(exchange->mirrored, whole ? MIRROR_OVER_WHOLE : over);
    exchange->mirrored = NULL;
}
