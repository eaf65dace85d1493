// SPDX-License-Identifier: Apache-2.0
// The turn: timers, posted tasks, stopping, the hook, the clocks; the same on every face of the loop.
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/rng.h"
#include "io_suite.h"
#include "net/io/io_private.h"
#include "test.h"

// ---- timers ----

struct alarm {
    struct io_timer timer;
    struct io_loop *loop;
    uint64_t fired_us;
    uint64_t *count;
    uint64_t order;
    struct alarm *clears;
    uint64_t period_us;
};

static void alarm_fire(struct io_timer *timer)
{
    struct alarm *alarm = CONTAINER_OF(timer, struct alarm, timer);
    assert_false(io_timer_is_set(timer));
    alarm->fired_us = io_loop_now_us(alarm->loop);
    alarm->order = ++*alarm->count;
    if (alarm->clears != NULL)
        io_timer_clear(alarm->loop, &alarm->clears->timer);
    if (alarm->period_us != 0)
        io_timer_set(alarm->loop, timer, timer->deadline_us + alarm->period_us);
}

IO_TEST(timers_order)
{
    enum { COUNT = 300 };
    static struct alarm alarms[COUNT];
    struct io_loop *loop = loop_make(0);
    uint64_t fired = 0;
    uint64_t start_us = io_loop_now_us(loop);
    memset(alarms, 0, sizeof alarms);
    for (uint64_t i = 0; i < COUNT; i++) {
        alarms[i].loop = loop;
        alarms[i].count = &fired;
        io_timer_init(&alarms[i].timer, alarm_fire);
        io_timer_set(loop, &alarms[i].timer, start_us + (i * 7919 % COUNT) * 1000 + 1000);
    }
    run_until(loop, &fired, COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_true(alarms[i].fired_us >= alarms[i].timer.deadline_us);
        if (kind_under_test == IO_KIND_SIM)
            assert_true(alarms[i].fired_us <= alarms[i].timer.deadline_us + 1000);
        for (int k = 0; k < COUNT; k++)
            if (alarms[i].timer.deadline_us + 1000 <= alarms[k].timer.deadline_us)
                assert_true(alarms[i].order < alarms[k].order);
    }
    loop_unmake(loop);
}

// ---- timers and events ----

enum { CONNECTS = 600 }; // more than one turn of epoll takes

static uint64_t opened, closed;

static void on_open(struct io_stream *stream, enum status status)
{
    (void)stream;
    assert_int_equal(status, STATUS_OK);
    opened++;
}

static void on_closed(struct io_stream *stream)
{
    (void)stream;
    closed++;
}

struct give_up {
    struct io_timer timer;
    uint64_t fired, opened;
};

static void give_up(struct io_timer *timer)
{
    struct give_up *waits = CONTAINER_OF(timer, struct give_up, timer);
    waits->fired++;
    waits->opened = opened;
}

// A turn that lasts longer than the timer: what the kernel has finished meanwhile is told before it fires.
static void events_come_before_timers(void)
{
    static struct io_stream streams[CONNECTS];
    static const struct io_stream_ops ops = {.on_open = on_open, .on_closed = on_closed};
    struct io_addr addr;
    struct io_loop *loop = loop_make(0);
    struct give_up waits = {.fired = 0};
    assert_int_equal(io_addr_parse("127.0.0.1:0", &addr), STATUS_OK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, &addr.any, addr.len), 0);
    assert_int_equal(listen(listener, 4 * CONNECTS), 0);
    assert_int_equal(getsockname(listener, &addr.any, &addr.len), 0);
    opened = closed = 0;
    memset(streams, 0, sizeof streams);
    for (int i = 0; i < CONNECTS; i++)
        io_stream_connect(loop, &streams[i], &addr, &ops);
    io_timer_init(&waits.timer, give_up);
    io_timer_set(loop, &waits.timer, io_loop_now_us(loop) + 5000);
    usleep(50000);
    run_until(loop, &waits.fired, 1);
    assert_int_equal(waits.opened, CONNECTS);
    for (int i = 0; i < CONNECTS; i++)
        io_stream_close(&streams[i]);
    run_until(loop, &closed, CONNECTS);
    close(listener);
    loop_unmake(loop);
}

TEST(events_come_before_timers_on_epoll)
{
    use_kind(IO_KIND_EPOLL);
    events_come_before_timers();
}

TEST(events_come_before_timers_on_uring)
{
    use_kind(IO_KIND_URING);
    events_come_before_timers();
}

IO_TEST(timers_clear_and_move)
{
    struct io_loop *loop = loop_make(0);
    uint64_t fired = 0;
    struct alarm a = {
        .loop = loop, .count = &fired, .timer = {.fire = alarm_fire}}; // zeroed is ready for use
    struct alarm b = a, c = a, d = a;
    uint64_t now_us = io_loop_now_us(loop);
    assert_false(io_timer_is_set(&a.timer));
    io_timer_clear(loop, &a.timer);
    a.clears = &b; // both due in one turn: b must not fire
    io_timer_set(loop, &a.timer, now_us + 5000);
    io_timer_set(loop, &b.timer, now_us + 5000);
    io_timer_set(loop, &c.timer, now_us + 3000);
    assert_true(io_timer_is_set(&c.timer));
    io_timer_clear(loop, &c.timer);
    assert_false(io_timer_is_set(&c.timer));
    io_timer_set(loop, &d.timer, now_us + 1000);
    io_timer_set(loop, &d.timer, now_us + 15000); // moved
    io_timer_set(loop, &c.timer, 0);              // long past: fires in the next turn
    run_until(loop, &fired, 1);
    assert_int_equal(c.order, 1);
    run_until(loop, &fired, 3);
    assert_int_equal(a.order, 2);
    assert_int_equal(b.order, 0);
    assert_int_equal(d.order, 3);
    assert_true(d.fired_us >= now_us + 15000);
    run_for(loop, 5000);
    assert_int_equal(fired, 3);
    loop_unmake(loop);
}

IO_TEST(timers_periodic)
{
    struct io_loop *loop = loop_make(0);
    uint64_t fired = 0;
    struct alarm a = {.loop = loop, .count = &fired, .timer = {.fire = alarm_fire}, .period_us = 2000};
    uint64_t start_us = io_loop_now_us(loop);
    io_timer_set(loop, &a.timer, start_us + 2000);
    run_until(loop, &fired, 20);
    assert_true(io_loop_now_us(loop) >= start_us + 40000);
    assert_true(a.timer.deadline_us == start_us + 42000);
    io_timer_clear(loop, &a.timer);
    loop_unmake(loop);
}

// The wheel against a plain array: random deadlines near and far, moved and cleared at random, time in leaps.
static struct io_wheel wheel;

IO_TEST(wheel_against_a_model)
{
    enum { TIMERS = 200, STEPS = 20000 };
    static struct io_timer timers[TIMERS];
    static uint64_t model[TIMERS]; // deadline, 0: not set
    struct rng rng;
    rng_init(&rng, 5);
    uint64_t now_us = 123456789;
    memset(model, 0, sizeof model);
    io_wheel_init(&wheel, now_us);
    for (int i = 0; i < TIMERS; i++)
        io_timer_init(&timers[i], NULL);
    for (int step = 0; step < STEPS; step++) {
        uint64_t i = rng_below(&rng, TIMERS);
        if (io_timer_is_set(&timers[i]))
            list_remove(&timers[i].link);
        model[i] = 0;
        if (rng_below(&rng, 3) > 0) {
            timers[i].deadline_us = now_us + rng_below(&rng, 1ULL << rng_below(&rng, 42));
            model[i] = timers[i].deadline_us;
            io_wheel_insert(&wheel, &timers[i]);
        }
        if (rng_below(&rng, 4) > 0)
            continue;
        uint64_t earliest = UINT64_MAX;
        for (int k = 0; k < TIMERS; k++)
            if (model[k] != 0 && model[k] < earliest)
                earliest = model[k];
        // Never later than the tick in which the earliest is due, or its sleep would make it late.
        uint64_t next_us = io_wheel_next_us(&wheel);
        assert_true(earliest == UINT64_MAX ||
                    next_us <= (earliest + IO_TICK_US - 1) / IO_TICK_US * IO_TICK_US);
        now_us += rng_below(&rng, 1ULL << rng_below(&rng, 34));
        io_wheel_advance(&wheel, now_us);
        uint64_t last_tick = 0;
        while (!list_empty(&wheel.due)) {
            struct io_timer *timer = CONTAINER_OF(wheel.due.next, struct io_timer, link);
            uint64_t tick = (timer->deadline_us + IO_TICK_US - 1) / IO_TICK_US;
            assert_true(timer->deadline_us <= now_us);
            assert_true(tick >= last_tick || tick * IO_TICK_US <= now_us);
            last_tick = tick;
            assert_true(model[timer - timers] == timer->deadline_us);
            model[timer - timers] = 0;
            list_remove(&timer->link);
        }
        for (int k = 0; k < TIMERS; k++)
            assert_true(model[k] == 0 || model[k] + IO_TICK_US > now_us);
    }
}

// ---- posting ----

struct posted {
    struct io_task task;
    uint64_t *count;
    struct io_loop *loop;
    bool stop;
};

static void posted_run(struct io_task *task)
{
    struct posted *posted = CONTAINER_OF(task, struct posted, task);
    ++*posted->count;
    if (posted->stop)
        io_loop_stop(posted->loop);
}

enum { POSTS = 2000 };

struct poster {
    struct io_loop *loop;
    struct posted tasks[POSTS];
};

static void *poster_main(void *argument)
{
    struct poster *poster = argument;
    for (int i = 0; i < POSTS; i++) {
        io_loop_post(poster->loop, &poster->tasks[i].task);
        if (i % 100 == 0)
            usleep(100); // let the loop fall asleep now and then
    }
    return NULL;
}

IO_TEST(post_from_threads)
{
    if (kind_under_test == IO_KIND_SIM)
        skip(); // one thread is the point of it
    static struct poster posters[2];
    pthread_t threads[2];
    uint64_t ran = 0;
    struct io_loop *loop = loop_make(0);
    memset(posters, 0, sizeof posters);
    for (int t = 0; t < 2; t++) {
        posters[t].loop = loop;
        for (int i = 0; i < POSTS; i++)
            posters[t].tasks[i] = (struct posted){.task = {.run = posted_run}, .count = &ran, .loop = loop};
        assert_int_equal(pthread_create(&threads[t], NULL, poster_main, &posters[t]), 0);
    }
    // Waits without a limit: a lost wake-up would hang here.
    while (ran < 2 * POSTS)
        assert_int_equal(io_loop_turn(loop, UINT64_MAX), STATUS_OK);
    for (int t = 0; t < 2; t++)
        pthread_join(threads[t], NULL);
    loop_unmake(loop);
}

IO_TEST(run_and_stop)
{
    struct io_loop *loop = loop_make(0);
    uint64_t ran = 0;
    struct posted last = {.task = {.run = posted_run}, .count = &ran, .loop = loop, .stop = true};
    io_loop_post(loop, &last.task);
    io_loop_run(loop);
    assert_int_equal(ran, 1);
    io_loop_post(loop, &last.task); // and again
    io_loop_run(loop);
    assert_int_equal(ran, 2);
    loop_unmake(loop);
}

static void count_turn(void *context)
{
    ++*(uint64_t *)context;
}

IO_TEST(turn_hook_and_clocks)
{
    struct io_loop *loop = loop_make(0);
    uint64_t turns = 0;
    io_loop_set_turn_hook(loop, count_turn, &turns);
    int64_t wall_ms = io_loop_wall_ms(loop);
    uint64_t start_us = io_loop_now_us(loop);
    run_for(loop, 12000);
    assert_true(kind_under_test == IO_KIND_SIM || turns >= 1);
    assert_true(io_loop_clock_us(loop) >= start_us + 12000);
    assert_true(io_loop_wall_ms(loop) >= wall_ms);
    loop_unmake(loop);
}
