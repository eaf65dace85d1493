// SPDX-License-Identifier: Apache-2.0
#include "shadow_world.h"

#include <pthread.h>

#include "base/check.h"
#include "base/heap.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static int alive;
static bool closed;
static pthread_t closer;

struct block {
    struct mirror_seen seen;
    struct http_field fields[3][2];
    char *bodies[3];
};

// In the place of the mirror's own.
void mirror_seen_free(struct mirror_seen *seen)
{
    pthread_mutex_lock(&lock);
    while (closed && !pthread_equal(closer, pthread_self()))
        pthread_cond_wait(&opened, &lock);
    alive--;
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < 3; i++)
        heap_free(((struct block *)seen)->bodies[i]);
    heap_free(seen);
}

int shadow_world_alive(void)
{
    pthread_mutex_lock(&lock);
    int count = alive;
    pthread_mutex_unlock(&lock);
    return count;
}

void shadow_world_gate(bool close)
{
    pthread_mutex_lock(&lock);
    closed = close;
    closer = pthread_self();
    pthread_cond_broadcast(&opened);
    pthread_mutex_unlock(&lock);
}

static void answer(struct block *block, int which, struct mirror_answer *to,
                   const struct shadow_world_answer *from)
{
    struct http_field *fields = block->fields[which];
    struct slice body = from->coded.len > 0 ? from->coded : slice_of(from->json != NULL ? from->json : "");
    block->bodies[which] = heap_strndup(body.data, body.len);
    CHECK(block->bodies[which] != NULL);
    body.data = block->bodies[which];
    fields[0] = (struct http_field){.name = SLICE("Content-Type"), .value = SLICE("application/json")};
    *to = (struct mirror_answer){.end = from->json == NULL && from->coded.len == 0 ? MIRROR_RESET
                                                                                   : MIRROR_ANSWERED,
                                 .cut = from->cut,
                                 .status = (uint16_t)(from->status > 0 ? from->status : 200),
                                 .field_count = 1,
                                 .fields = fields,
                                 .body = body,
                                 .body_bytes = body.len,
                                 .digest = from->digest,
                                 .wait_us = from->wait_us};
    if (from->header == NULL)
        return;
    const char *colon = strchr(from->header, ':');
    CHECK(colon != NULL);
    fields[1] = (struct http_field){.name = {from->header, (size_t)(colon - from->header)},
                                    .value = slice_of(colon + 2)};
    to->field_count = 2;
}

struct mirror_seen *shadow_world_seen(uint64_t run, const char *target,
                                      const struct shadow_world_answer answers[3])
{
    static int64_t time_ms = 1800000000000;
    struct block *block = heap_alloc(1, sizeof *block);
    CHECK(block != NULL);
    block->seen = (struct mirror_seen){.run = run,
                                       .time_ms = ++time_ms,
                                       .method = SLICE("GET"),
                                       .target = slice_of(target),
                                       .authority = SLICE("shop.test"),
                                       .has_secondary = answers[2].json != NULL || answers[2].coded.len > 0};
    answer(block, 0, &block->seen.primary, &answers[0]);
    answer(block, 1, &block->seen.candidate, &answers[1]);
    answer(block, 2, &block->seen.secondary, &answers[2]);
    pthread_mutex_lock(&lock);
    alive++;
    pthread_mutex_unlock(&lock);
    return &block->seen;
}

void shadow_world_give(struct shadow *shadow, uint64_t run, const char *primary, const char *candidate,
                       const char *secondary)
{
    const struct shadow_world_answer answers[3] = {
        {.json = primary}, {.json = candidate}, {.json = secondary}};
    shadow_take(shadow, shadow_world_seen(run, "/cart?id=7", answers));
}
