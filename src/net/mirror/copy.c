// SPDX-License-Identifier: Apache-2.0
// The workers' side: what passes is copied within bounds and handed over by a ring of one writer and one
// reader. No lock; the mirror's thread is woken at most once in MIRROR_POLL_US. A copy is memory of the heap,
// which another thread frees.
#include <string.h>

#include "base/heap.h"
#include "net/mirror/mirror_private.h"

// ---- bytes ----

static bool grow(struct mirror_bytes *bytes, size_t need, size_t most, size_t left, size_t *grown)
{
    size_t cap = bytes->cap > 0 ? bytes->cap : 512;
    while (cap < need)
        cap *= 2;
    cap = cap > most ? most : cap;
    if (cap <= bytes->cap)
        return true;
    char *data = cap - bytes->cap <= left ? heap_resize(bytes->data, cap) : NULL;
    if (data == NULL)
        return false;
    *grown += cap - bytes->cap;
    bytes->data = data;
    bytes->cap = cap;
    return true;
}

size_t mirror_bytes_add(struct mirror_bytes *bytes, struct slice run, size_t most, size_t left, size_t *grown)
{
    size_t room = most > bytes->len ? most - bytes->len : 0;
    size_t take = run.len < room ? run.len : room;
    if (take == 0 || !grow(bytes, bytes->len + take, most, left, grown))
        return 0;
    memcpy(bytes->data + bytes->len, run.data, take);
    bytes->len += take;
    return take;
}

// ---- answers ----

static char *keep(char *to, struct slice *text)
{
    if (text->len > 0)
        memcpy(to, text->data, text->len);
    text->data = to;
    return to + text->len;
}

bool mirror_take_head(struct mirror_taking *taking, const struct http_response *response, size_t *grown)
{
    const struct http_fields *from = &response->fields;
    size_t bytes = 0;
    for (uint32_t i = 0; i < from->count; i++)
        bytes += sizeof from->items[i] + from->items[i].name.len + from->items[i].value.len;
    struct http_field *fields = heap_alloc(1, bytes + 1);
    if (fields == NULL)
        return false;
    char *text = (char *)(fields + from->count);
    for (uint32_t i = 0; i < from->count; i++) {
        fields[i] = from->items[i];
        fields[i].marks &= (uint16_t)~HTTP_FIELD_CONTIGUOUS;
        text = keep(text, &fields[i].name);
        text = keep(text, &fields[i].value);
    }
    *grown += bytes;
    taking->head = fields;
    taking->answer->status = response->status;
    taking->answer->fields = fields;
    taking->answer->field_count = from->count;
    return true;
}

void mirror_take_body(struct mirror_taking *taking, struct siphash_key key, struct slice run, size_t most,
                      size_t left, size_t *grown)
{
    taking->came += run.len;
    if (!taking->digesting) {
        size_t taken = mirror_bytes_add(&taking->body, run, most, left, grown);
        if (taken == run.len)
            return;
        taking->digesting = true;
        taking->answer->cut = MIRROR_CUT_LIMIT;
        siphash_begin(&taking->digest, key);
        siphash_add(&taking->digest, taking->body.data, taking->body.len);
        run = (struct slice){run.data + taken, run.len - taken};
    }
    siphash_add(&taking->digest, run.data, run.len);
}

void mirror_take_end(struct mirror_taking *taking, struct siphash_key key)
{
    struct mirror_answer *answer = taking->answer;
    answer->body = (struct slice){taking->body.data != NULL ? taking->body.data : "", taking->body.len};
    answer->body_bytes = taking->came;
    answer->digest =
        taking->digesting ? siphash_end(&taking->digest) : siphash(key, answer->body.data, answer->body.len);
}

// ---- the ring ----

static struct mirror_ring *ring_of(const struct mirror_copy *copy)
{
    return copy->mirror->rings[copy->worker];
}

static size_t room(const struct mirror *mirror, const struct mirror_ring *ring)
{
    uint64_t held = ring->taken - atomic_load_explicit(&ring->given, memory_order_acquire);
    return held < mirror->bytes_max ? mirror->bytes_max - (size_t)held : 0;
}

static void account(struct mirror_copy *copy, size_t grown)
{
    copy->worker_bytes += grown;
    ring_of(copy)->taken += grown;
}

static void hand_over(struct mirror_copy *copy, enum mirror_what what)
{
    struct mirror *mirror = copy->mirror;
    struct mirror_ring *ring = ring_of(copy);
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    CHECK(head - atomic_load_explicit(&ring->tail, memory_order_acquire) < MIRROR_RING);
    ring->items[head % MIRROR_RING] = (struct mirror_message){copy, what};
    atomic_store_explicit(&ring->head, head + 1, memory_order_seq_cst);
    if (!atomic_load_explicit(&mirror->awake, memory_order_seq_cst) &&
        !atomic_exchange_explicit(&mirror->awake, true, memory_order_seq_cst))
        io_loop_post(mirror->loop, &mirror->wake);
}

void mirror_ring_give(struct mirror *mirror, struct mirror_copy *copy)
{
    struct mirror_ring *ring = mirror->rings[copy->worker];
    atomic_fetch_add_explicit(&ring->given, copy->worker_bytes, memory_order_release);
    atomic_fetch_add_explicit(&ring->ended, 1, memory_order_release);
}

// ---- copies ----

void mirror_select(struct mirror_plan *plan)
{
    mirror_count(&plan->words.run->selected);
}

void mirror_refuse(struct mirror_plan *plan, enum mirror_drop reason)
{
    mirror_count(&plan->words.run->dropped[reason]);
}

static void answer_free(struct mirror_taking *taking)
{
    heap_free(taking->head);
    heap_free(taking->body.data);
}

void mirror_copy_free(struct mirror_copy *copy)
{
    answer_free(&copy->primary);
    answer_free(&copy->candidate.taking);
    answer_free(&copy->secondary.taking);
    heap_free(copy->request.data);
    heap_free(copy->request_fields);
    mirror_plan_release(copy->plan);
    heap_free(copy);
}

void mirror_seen_free(struct mirror_seen *seen)
{
    if (seen != NULL)
        mirror_copy_free(CONTAINER_OF(seen, struct mirror_copy, seen));
}

static struct mirror_copy *copy_make(struct mirror *mirror, struct mirror_plan *plan)
{
    struct mirror_copy *copy = heap_alloc(1, sizeof *copy);
    if (copy == NULL)
        return NULL;
    copy->mirror = mirror;
    copy->plan = mirror_plan_share(plan);
    copy->primary.answer = &copy->seen.primary;
    copy->candidate.taking.answer = &copy->seen.candidate;
    copy->secondary.taking.answer = &copy->seen.secondary;
    list_init(&copy->link);
    return copy;
}

struct mirror_copy *mirror_copy_begin(struct mirror *mirror, uint32_t worker, struct mirror_plan *plan,
                                      struct slice head, int64_t time_ms)
{
    struct mirror_ring *ring = mirror->rings[worker];
    if (ring->begun - atomic_load_explicit(&ring->ended, memory_order_acquire) >= MIRROR_COPIES_MAX) {
        mirror_refuse(plan, MIRROR_DROP_BUSY);
        return NULL;
    }
    size_t left = room(mirror, ring);
    struct mirror_copy *copy = left > sizeof *copy ? copy_make(mirror, plan) : NULL;
    size_t grown = sizeof *copy;
    if (copy == NULL || mirror_bytes_add(&copy->request, head, head.len, left - grown, &grown) != head.len) {
        if (copy != NULL)
            mirror_copy_free(copy);
        mirror_refuse(plan, MIRROR_DROP_MEMORY);
        return NULL;
    }
    copy->worker = worker;
    copy->head_len = head.len;
    copy->seen.run = plan->words.number;
    copy->seen.time_ms = time_ms;
    ring->begun++;
    account(copy, grown);
    return copy;
}

void mirror_copy_drop(struct mirror_copy *copy, enum mirror_drop reason)
{
    struct mirror_ring *ring = ring_of(copy);
    CHECK(!copy->requested);
    ring->begun--;
    ring->taken -= copy->worker_bytes;
    mirror_refuse(copy->plan, reason);
    mirror_copy_free(copy);
}

bool mirror_copy_request(struct mirror_copy *copy, struct slice run)
{
    size_t most = copy->head_len + copy->plan->words.body_bytes;
    size_t grown = 0;
    bool fits = copy->request.len + run.len <= most;
    bool taken = fits && mirror_bytes_add(&copy->request, run, most, room(copy->mirror, ring_of(copy)),
                                          &grown) == run.len;
    account(copy, grown);
    if (!taken)
        mirror_copy_drop(copy, fits ? MIRROR_DROP_MEMORY : MIRROR_DROP_TOO_LARGE);
    return taken;
}

void mirror_copy_requested(struct mirror_copy *copy)
{
    copy->requested = true;
    hand_over(copy, MIRROR_REQUESTED);
}

bool mirror_copy_is_requested(const struct mirror_copy *copy)
{
    return copy->requested;
}

// Whether anything of the answer is to be copied still.
static bool wanted(const struct mirror_copy *copy)
{
    return copy->requested && !atomic_load_explicit(&copy->given_up, memory_order_relaxed);
}

void mirror_copy_answer(struct mirror_copy *copy, const struct http_response *response, uint64_t wait_us)
{
    size_t grown = 0;
    if (!wanted(copy))
        return;
    copy->seen.primary.wait_us = wait_us;
    // A head is at most as long as a buffer: that is not asked of the bytes that are left.
    (void)!mirror_take_head(&copy->primary, response, &grown);
    account(copy, grown);
}

void mirror_copy_body(struct mirror_copy *copy, struct slice run)
{
    size_t grown = 0;
    if (!wanted(copy) || copy->primary.head == NULL || run.len == 0)
        return;
    mirror_take_body(&copy->primary, copy->mirror->key, run, copy->plan->words.body_bytes,
                     room(copy->mirror, ring_of(copy)), &grown);
    account(copy, grown);
}

void mirror_copy_over(struct mirror_copy *copy, enum mirror_over over)
{
    if (!copy->requested) {
        mirror_copy_drop(copy, MIRROR_DROP_UNFINISHED);
        return;
    }
    copy->over = over;
    hand_over(copy, MIRROR_OVER);
}
