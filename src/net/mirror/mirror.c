// SPDX-License-Identifier: Apache-2.0
// The mirror's thread: takes what workers hand over, asks within bounds, and hands on what was answered. A
// copy is over when its asks are and the primary's answer is: then it is counted, once, and leaves.
#include "net/mirror/mirror.h"

#include "base/heap.h"
#include "net/mirror/mirror_private.h"

enum { LOOP_BUFS = 4096 };

// ---- the end of a copy ----

// What the client got; false: no answer that says anything of the version.
static bool primary_end(struct mirror_copy *copy)
{
    struct mirror_answer *answer = &copy->seen.primary;
    bool head = copy->primary.head != NULL;
    answer->end = head ? MIRROR_ANSWERED : MIRROR_RESET;
    if (head && copy->over != MIRROR_OVER_WHOLE)
        answer->cut = MIRROR_CUT_BROKEN;
    mirror_take_end(&copy->primary, copy->mirror->key);
    return head && copy->over == MIRROR_OVER_WHOLE;
}

static bool is_ours(const struct mirror_copy *copy)
{
    return copy->candidate.ours || (copy->over == MIRROR_OVER_WHOLE && copy->primary.head == NULL);
}

static _Atomic uint64_t *counter_of(const struct mirror_copy *copy, bool primary)
{
    struct mirror_run *run = copy->plan->words.run;
    enum mirror_end end = copy->seen.candidate.end;
    bool gone = copy->seen.client_gone;
    if (is_ours(copy))
        return &run->uncompared[MIRROR_UNCOMPARED_OURS];
    if (!primary)
        return &run->uncompared[gone ? MIRROR_UNCOMPARED_CLIENT_GONE : MIRROR_UNCOMPARED_PRIMARY_FAILED];
    if (end != MIRROR_ANSWERED)
        return &run->uncompared[MIRROR_UNCOMPARED_CONNECT + (end - MIRROR_CONNECT)];
    return copy->mirror->parts.seen == NULL ? &run->uncompared[MIRROR_UNCOMPARED_NO_READER] : &run->compared;
}

static void tell(struct mirror_copy *copy)
{
    struct mirror *mirror = copy->mirror;
    struct mirror_seen *seen = &copy->seen;
    mirror_take_end(&copy->candidate.taking, mirror->key);
    mirror_take_end(&copy->secondary.taking, mirror->key);
    seen->client_gone = copy->over == MIRROR_OVER_CLIENT_GONE;
    mirror_count(counter_of(copy, primary_end(copy)));
    if (seen->has_secondary && (copy->secondary.ours || seen->secondary.end != MIRROR_ANSWERED)) {
        mirror_count(&copy->plan->words.run->secondaries_failed);
        seen->has_secondary = false;
    }
    if (mirror->parts.seen == NULL || is_ours(copy))
        mirror_copy_free(copy);
    else
        mirror->parts.seen(mirror->parts.context, seen);
}

static void settle(struct mirror_copy *copy)
{
    struct mirror *mirror = copy->mirror;
    if (!copy->primary_over || copy->asking > 0 || !list_empty(&copy->link))
        return;
    mirror->answer_bytes -= copy->mirror_bytes;
    mirror_ring_give(mirror, copy);
    if (copy->dropped)
        mirror_copy_free(copy);
    else
        tell(copy);
}

static void drop(struct mirror_copy *copy, enum mirror_drop reason)
{
    mirror_refuse(copy->plan, reason);
    copy->dropped = true;
    atomic_store_explicit(&copy->given_up, true, memory_order_relaxed);
    settle(copy);
}

// ---- asking ----

// One look after the other while there is something to do. Who finds `awake` false sets it and wakes us, so
// that there is either a task on its way or the timer set, never both.
static void look_again(struct mirror *mirror)
{
    io_timer_set(mirror->loop, &mirror->poll, io_loop_now_us(mirror->loop) + MIRROR_POLL_US);
}

// There is something to do, perhaps while nobody looks.
static void look_soon(struct mirror *mirror)
{
    if (!atomic_exchange_explicit(&mirror->awake, true, memory_order_seq_cst))
        look_again(mirror);
}

static bool may_ask(const struct mirror_copy *copy)
{
    const struct mirror_words *words = &copy->plan->words;
    return words->run->under_way < words->concurrent && copy->mirror->under_way < MIRROR_UNDER_WAY_MAX;
}

static void ask_over(struct mirror_copy *copy);

// Candidate and secondary side by side, begun in random order: neither is always the first to be asked.
static void ask(struct mirror_copy *copy)
{
    struct mirror *mirror = copy->mirror;
    const struct mirror_words *words = &copy->plan->words;
    bool secondary =
        words->primary.endpoint_count > 0 && rng_below(&mirror->rng, MIRROR_SHARE_FULL) < words->secondary;
    bool first = secondary && rng_below(&mirror->rng, 2) == 0;
    mirror_count(&words->run->sent);
    words->run->under_way++;
    mirror->under_way++;
    list_push_back(&mirror->asked, &copy->link);
    copy->candidate = (struct mirror_ask){
        .copy = copy, .target = &words->candidate, .taking.answer = &copy->seen.candidate, .candidate = true};
    copy->secondary =
        (struct mirror_ask){.copy = copy, .target = &words->primary, .taking.answer = &copy->seen.secondary};
    copy->seen.has_secondary = secondary;
    copy->asking = secondary ? 3 : 2; // one more until all have begun
    if (secondary)
        mirror_count(&words->run->secondaries);
    if (first)
        mirror_ask_begin(&copy->secondary);
    mirror_ask_begin(&copy->candidate);
    if (secondary && !first)
        mirror_ask_begin(&copy->secondary);
    ask_over(copy);
}

static void ask_waiting(struct mirror *mirror)
{
    struct list *next;
    for (struct list *link = mirror->waiting.next; link != &mirror->waiting; link = next) {
        struct mirror_copy *copy = CONTAINER_OF(link, struct mirror_copy, link);
        next = link->next;
        if (!may_ask(copy))
            continue;
        list_remove(&copy->link);
        copy->plan->words.run->waiting--;
        ask(copy);
    }
}

static void ask_over(struct mirror_copy *copy)
{
    struct mirror *mirror = copy->mirror;
    if (--copy->asking > 0)
        return;
    copy->plan->words.run->under_way--;
    mirror->under_way--;
    list_remove(&copy->link);
    settle(copy);
    if (!list_empty(&mirror->waiting))
        look_soon(mirror);
}

void mirror_answered(struct mirror_ask *ask)
{
    ask_over(ask->copy);
}

// ---- what workers hand over ----

static void on_requested(struct mirror_copy *copy)
{
    struct mirror_run *run = copy->plan->words.run;
    enum status status = mirror_head_show(copy);
    if (copy->mirror->closing)
        drop(copy, MIRROR_DROP_ENDED);
    else if (status != STATUS_OK)
        drop(copy, status == STATUS_NO_MEMORY ? MIRROR_DROP_MEMORY : MIRROR_DROP_TOO_LARGE);
    else if (copy->plan->words.candidate.endpoint_count == 0)
        drop(copy, MIRROR_DROP_NO_TARGET);
    else if (may_ask(copy))
        ask(copy);
    else if (run->waiting >= copy->plan->words.concurrent)
        drop(copy, MIRROR_DROP_BUSY);
    else {
        run->waiting++;
        list_push_back(&copy->mirror->waiting, &copy->link);
    }
}

static bool take_all(struct mirror_ring *ring)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_seq_cst);
    for (uint32_t at = tail; at != head; at++) {
        struct mirror_message message = ring->items[at % MIRROR_RING];
        atomic_store_explicit(&ring->tail, at + 1, memory_order_release);
        if (message.what == MIRROR_REQUESTED) {
            on_requested(message.copy);
        } else {
            message.copy->primary_over = true;
            settle(message.copy);
        }
    }
    return head != tail;
}

static void end_all(struct mirror *mirror)
{
    while (!list_empty(&mirror->waiting)) {
        struct mirror_copy *copy = CONTAINER_OF(mirror->waiting.next, struct mirror_copy, link);
        list_remove(&copy->link);
        copy->plan->words.run->waiting--;
        drop(copy, MIRROR_DROP_ENDED);
    }
    while (!list_empty(&mirror->asked)) {
        struct mirror_copy *copy = CONTAINER_OF(mirror->asked.next, struct mirror_copy, link);
        copy->asking++;
        mirror_ask_cancel(&copy->candidate);
        mirror_ask_cancel(&copy->secondary);
        ask_over(copy);
    }
    mirror_idle_close(mirror);
}

// Whether there was anything to do.
static bool drain(struct mirror *mirror)
{
    bool busy = false;
    for (uint32_t i = 0; i < mirror->parts.workers; i++)
        busy |= take_all(mirror->rings[i]);
    ask_waiting(mirror);
    if (atomic_load_explicit(&mirror->closing, memory_order_acquire))
        end_all(mirror);
    return busy;
}

static void on_poll(struct io_timer *timer)
{
    struct mirror *mirror = CONTAINER_OF(timer, struct mirror, poll);
    if (drain(mirror)) {
        look_again(mirror);
        return;
    }
    atomic_store_explicit(&mirror->awake, false, memory_order_seq_cst);
    if (drain(mirror))
        look_soon(mirror);
}

static void on_wake(struct io_task *task)
{
    struct mirror *mirror = CONTAINER_OF(task, struct mirror, wake);
    (void)drain(mirror);
    look_again(mirror);
}

// ---- its life ----

enum status mirror_create(const struct mirror_parts *parts, struct mirror **mirror)
{
    struct mirror *made = heap_alloc(1, sizeof *made + parts->workers * sizeof made->rings[0]);
    bool whole = made != NULL;
    if (whole)
        made->parts = *parts;
    for (uint32_t i = 0; whole && i < parts->workers; i++) {
        made->rings[i] = heap_alloc_aligned((sizeof *made->rings[i] + 63) & ~(size_t)63);
        whole = made->rings[i] != NULL;
    }
    if (!whole) {
        mirror_destroy(made);
        return STATUS_NO_MEMORY;
    }
    uint64_t seed = parts->seed;
    made->key = (struct siphash_key){rng_splitmix(&seed), rng_splitmix(&seed)};
    made->bytes_max = MIRROR_BYTES_MAX / parts->workers;
    rng_init(&made->rng, rng_splitmix(&seed));
    made->wake.run = on_wake;
    io_timer_init(&made->poll, on_poll);
    list_init(&made->waiting);
    list_init(&made->asked);
    list_init(&made->idle);
    *mirror = made;
    return STATUS_OK;
}

static void *thread_main(void *context)
{
    struct mirror *mirror = context;
    while (!mirror_closed(mirror) && io_loop_turn(mirror->loop, UINT64_MAX) == STATUS_OK)
        ;
    return NULL;
}

enum status mirror_start(struct mirror *mirror)
{
    const struct io_loop_config config = {.kind = IO_KIND_EPOLL, .bufs_max = LOOP_BUFS};
    if (mirror->loop != NULL)
        return STATUS_OK;
    struct io_loop *loop;
    enum status status = io_loop_create(&config, &loop);
    if (status != STATUS_OK)
        return status;
    mirror->loop = loop;
    mirror->threads = pthread_create(&mirror->thread, NULL, thread_main, mirror) == 0;
    if (mirror->threads)
        return STATUS_OK;
    io_loop_destroy(loop);
    mirror->loop = NULL;
    return STATUS_NO_MEMORY;
}

void mirror_attach(struct mirror *mirror, struct io_loop *loop)
{
    mirror->loop = loop;
}

void mirror_close(struct mirror *mirror)
{
    atomic_store_explicit(&mirror->closing, true, memory_order_release);
    if (mirror->loop != NULL && !atomic_exchange_explicit(&mirror->awake, true, memory_order_seq_cst))
        io_loop_post(mirror->loop, &mirror->wake);
}

bool mirror_closed(const struct mirror *mirror)
{
    return mirror->loop == NULL ||
           (atomic_load_explicit(&mirror->closing, memory_order_acquire) &&
            !atomic_load_explicit(&mirror->awake, memory_order_acquire) && mirror->connections == 0);
}

void mirror_destroy(struct mirror *mirror)
{
    if (mirror == NULL)
        return;
    if (mirror->threads) {
        mirror_close(mirror);
        pthread_join(mirror->thread, NULL);
        io_loop_destroy(mirror->loop);
    }
    for (uint32_t i = 0; i < mirror->parts.workers; i++)
        heap_free(mirror->rings[i]);
    heap_free(mirror);
}
