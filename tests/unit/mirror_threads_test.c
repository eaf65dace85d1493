// SPDX-License-Identifier: Apache-2.0
// The mirror's own thread beside real workers: whatever they hand over, and when, is taken and counted.
#include <pthread.h>
#include <time.h>

#include "net/mirror/mirror.h"
#include "test.h"

enum { WORKERS = 3, REQUESTS = 20000 };

static struct mirror *mirror;
static struct mirror_plan *plan;

static void rest(long ns)
{
    const struct timespec time = {.tv_nsec = ns};
    nanosleep(&time, NULL);
}

// In bursts, so that the mirror falls asleep between them.
static void *work(void *context)
{
    uint32_t worker = *(uint32_t *)context;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        mirror_select(plan);
        struct mirror_copy *copy =
            mirror_copy_begin(mirror, worker, plan, SLICE("POST / HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
        if (copy != NULL && mirror_copy_request(copy, SLICE("body"))) {
            mirror_copy_requested(copy);
            mirror_copy_over(copy, i % 2 == 0 ? MIRROR_OVER_WHOLE : MIRROR_OVER_CLIENT_GONE);
        }
        if (i % 500 == 0)
            rest(3000000);
    }
    return NULL;
}

static uint64_t dropped(const struct mirror_run *run)
{
    struct mirror_counts counts;
    uint64_t all = 0;
    mirror_run_counts(run, &counts);
    for (int i = 0; i < MIRROR_DROPS; i++)
        all += counts.dropped[i];
    assert_int_equal(counts.sent, 0);
    return all;
}

TEST(nothing_is_lost_between_threads)
{
    const struct mirror_parts parts = {.workers = WORKERS, .seed = 1};
    struct mirror_run *run;
    pthread_t threads[WORKERS];
    uint32_t numbers[WORKERS];
    assert_int_equal(mirror_run_create(&run), STATUS_OK);
    const struct mirror_words words = {.run = run, .concurrent = 1, .timeout_ms = 1000, .body_bytes = 100};
    assert_int_equal(mirror_plan_create(&words, &plan), STATUS_OK); // nobody can be asked
    assert_int_equal(mirror_create(&parts, &mirror), STATUS_OK);
    assert_int_equal(mirror_start(mirror), STATUS_OK);
    for (uint32_t i = 0; i < WORKERS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, work, &numbers[i]), 0);
    }
    for (uint32_t i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 5000 && dropped(run) < WORKERS * REQUESTS;
         i++) // it is woken, without another request
        rest(1000000);
    assert_int_equal(dropped(run), WORKERS * REQUESTS);
    mirror_destroy(mirror);
    mirror_plan_release(plan);
    mirror_run_release(run);
}
