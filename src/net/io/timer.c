// SPDX-License-Identifier: Apache-2.0
// Hierarchical timing wheel (Varghese and Lauck 1987, scheme 7) with 1 ms ticks. A timer sits at the level of
// the highest six-bit digit in which its tick differs from the wheel's, so the first occupied slot, counted
// from the lowest level, is always the next to expire. Invariant: no occupied slot lies at or before the
// wheel's own digit.
#include "net/io/io_private.h"

enum { DIGIT_BITS = 6, TICK_BITS_MAX = IO_WHEEL_LEVELS * DIGIT_BITS };

void io_wheel_init(struct io_wheel *wheel, uint64_t now_us)
{
    wheel->tick = now_us / IO_TICK_US;
    list_init(&wheel->due);
    for (int level = 0; level < IO_WHEEL_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (int slot = 0; slot < IO_WHEEL_SLOTS; slot++)
            list_init(&wheel->slots[level][slot]);
    }
}

static uint64_t timer_tick(const struct io_timer *timer)
{
    const uint64_t last = (1ULL << TICK_BITS_MAX) - 1;
    uint64_t tick = timer->deadline_us / IO_TICK_US + (timer->deadline_us % IO_TICK_US != 0);
    return tick < last ? tick : last;
}

void io_wheel_insert(struct io_wheel *wheel, struct io_timer *timer)
{
    uint64_t tick = timer_tick(timer);
    if (tick <= wheel->tick) {
        list_push_back(&wheel->due, &timer->link);
        return;
    }
    unsigned level = (63u - (unsigned)__builtin_clzll(tick ^ wheel->tick)) / DIGIT_BITS;
    unsigned slot = (unsigned)(tick >> (level * DIGIT_BITS)) % IO_WHEEL_SLOTS;
    wheel->occupied[level] |= 1ULL << slot;
    list_push_back(&wheel->slots[level][slot], &timer->link);
}

// Finds the next occupied slot: its first tick, or UINT64_MAX. Clears stale bits on the way.
static uint64_t wheel_next(struct io_wheel *wheel, unsigned *level, unsigned *slot)
{
    for (unsigned l = 0; l < IO_WHEEL_LEVELS; l++) {
        unsigned digit = (unsigned)(wheel->tick >> (l * DIGIT_BITS)) % IO_WHEEL_SLOTS;
        uint64_t later = wheel->occupied[l] & ~((2ULL << digit) - 1);
        for (; later != 0; later &= later - 1) {
            unsigned s = (unsigned)__builtin_ctzll(later);
            if (list_empty(&wheel->slots[l][s])) {
                wheel->occupied[l] &= ~(1ULL << s);
                continue;
            }
            *level = l;
            *slot = s;
            uint64_t upper = wheel->tick >> (l * DIGIT_BITS) >> DIGIT_BITS << DIGIT_BITS;
            return (upper | s) << (l * DIGIT_BITS);
        }
    }
    return UINT64_MAX;
}

uint64_t io_wheel_next_us(struct io_wheel *wheel)
{
    unsigned level, slot;
    if (!list_empty(&wheel->due))
        return 0;
    uint64_t tick = wheel_next(wheel, &level, &slot);
    return tick == UINT64_MAX ? UINT64_MAX : tick * IO_TICK_US;
}

static void wheel_expire_slot(struct io_wheel *wheel, unsigned level, unsigned slot)
{
    struct list moved;
    list_init(&moved);
    list_append_all(&moved, &wheel->slots[level][slot]);
    wheel->occupied[level] &= ~(1ULL << slot);
    while (!list_empty(&moved)) {
        struct io_timer *timer = CONTAINER_OF(moved.next, struct io_timer, link);
        list_remove(&timer->link);
        io_wheel_insert(wheel, timer);
    }
}

void io_wheel_advance(struct io_wheel *wheel, uint64_t now_us)
{
    uint64_t target = now_us / IO_TICK_US;
    while (wheel->tick < target) {
        unsigned level = 0, slot = 0;
        uint64_t next = wheel_next(wheel, &level, &slot);
        if (next > target) {
            wheel->tick = target;
            return;
        }
        wheel->tick = next;
        wheel_expire_slot(wheel, level, slot);
    }
}

void io_timer_init(struct io_timer *timer, void (*fire)(struct io_timer *timer))
{
    list_init(&timer->link);
    timer->deadline_us = 0;
    timer->fire = fire;
}

bool io_timer_is_set(const struct io_timer *timer)
{
    return timer->link.next != NULL && timer->link.next != &timer->link;
}

void io_timer_set(struct io_loop *loop, struct io_timer *timer, uint64_t deadline_us)
{
    if (io_timer_is_set(timer))
        list_remove(&timer->link);
    timer->deadline_us = deadline_us;
    io_wheel_insert(&loop->wheel, timer);
}

void io_timer_clear(struct io_loop *loop, struct io_timer *timer)
{
    (void)loop;
    if (io_timer_is_set(timer))
        list_remove(&timer->link);
}
