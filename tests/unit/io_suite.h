// SPDX-License-Identifier: Apache-2.0
// IO_TEST(name) { ... }: what holds on one face of the loop holds on all.
#pragma once

#include "net/io/loop.h"
#include "net/io/sim.h"
#include "test.h"

enum { WAIT_US = 20000, TURNS_MAX = 2000000, SECOND_US = 1000000 };

static enum io_kind kind_under_test;
static struct io_sim *world;

static inline struct io_loop *loop_make(uint32_t bufs_max)
{
    struct io_loop *loop = NULL;
    if (kind_under_test == IO_KIND_SIM) {
        struct io_sim_config config = {.seed = 11, .latency_us_min = 20, .latency_us_max = 200};
        assert_int_equal(io_sim_create(&config, &world), STATUS_OK);
        assert_int_equal(io_sim_loop_create(world, &loop), STATUS_OK);
        return loop;
    }
    struct io_loop_config config = {.kind = kind_under_test, .bufs_max = bufs_max};
    assert_int_equal(io_loop_create(&config, &loop), STATUS_OK);
    assert_int_equal(io_loop_kind(loop), kind_under_test);
    return loop;
}

static inline void loop_unmake(struct io_loop *loop)
{
    assert_int_equal(io_loop_stats(loop)->bufs_in_use, 0);
    io_loop_destroy(loop);
    io_sim_destroy(world);
    world = NULL;
}

// Turns until *done is at least `count`; fails the test rather than hang.
static inline void run_until(struct io_loop *loop, const uint64_t *done, uint64_t count)
{
    uint64_t start_us = io_loop_clock_us(loop);
    for (int i = 0; i < TURNS_MAX && *done < count; i++) {
        assert_int_equal(io_loop_turn(loop, WAIT_US), STATUS_OK);
        assert_true(io_loop_clock_us(loop) - start_us < 60 * SECOND_US);
    }
    assert_true(*done >= count);
}

static inline void run_for(struct io_loop *loop, uint64_t duration_us)
{
    uint64_t until_us = io_loop_clock_us(loop) + duration_us;
    while (io_loop_clock_us(loop) < until_us)
        assert_int_equal(io_loop_turn(loop, until_us - io_loop_clock_us(loop)), STATUS_OK);
}

static inline void use_kind(enum io_kind kind)
{
    struct fault why;
    if (kind == IO_KIND_URING && !io_uring_available(&why)) {
        printf("SKIPPED: io_uring is not available here: %s\n", why.text);
        skip();
    }
    kind_under_test = kind;
}

// One body, a test for each face of the loop.
#define IO_TEST(name)                                                                                        \
    static void io_##name(void);                                                                             \
    TEST(name##_on_epoll)                                                                                    \
    {                                                                                                        \
        use_kind(IO_KIND_EPOLL);                                                                             \
        io_##name();                                                                                         \
    }                                                                                                        \
    TEST(name##_on_sim)                                                                                      \
    {                                                                                                        \
        use_kind(IO_KIND_SIM);                                                                               \
        io_##name();                                                                                         \
    }                                                                                                        \
    TEST(name##_on_uring)                                                                                    \
    {                                                                                                        \
        use_kind(IO_KIND_URING);                                                                             \
        io_##name();                                                                                         \
    }                                                                                                        \
    static void io_##name(void)
