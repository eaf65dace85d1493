// SPDX-License-Identifier: Apache-2.0
// The heap of a simulated world's events.
#include <stdbool.h>

#include "base/check.h"
#include "base/heap.h"
#include "net/io/sim_private.h"

enum { EVENTS_FIRST = 256 };

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    if (a->time_us != b->time_us)
        return a->time_us < b->time_us;
    return a->tie != b->tie ? a->tie < b->tie : a->sequence < b->sequence;
}

static void sift_up(struct sim_events *events, size_t i)
{
    struct sim_event event = events->heap[i];
    for (; i > 0 && event_before(&event, &events->heap[(i - 1) / 2]); i = (i - 1) / 2)
        events->heap[i] = events->heap[(i - 1) / 2];
    events->heap[i] = event;
}

static void sift_down(struct sim_events *events)
{
    struct sim_event event = events->heap[0];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= events->count)
            break;
        if (child + 1 < events->count && event_before(&events->heap[child + 1], &events->heap[child]))
            child++;
        if (!event_before(&events->heap[child], &event))
            break;
        events->heap[i] = events->heap[child];
        i = child;
    }
    events->heap[i] = event;
}

void sim_events_push(struct sim_events *events, struct sim_event event)
{
    if (events->count == events->room) {
        size_t room = events->room == 0 ? EVENTS_FIRST : events->room * 2;
        struct sim_event *grown = heap_resize(events->heap, room * sizeof *grown);
        CHECK(grown != NULL);
        events->heap = grown;
        events->room = room;
    }
    event.sequence = events->next_sequence++;
    events->heap[events->count] = event;
    sift_up(events, events->count++);
}

struct sim_event sim_events_pop(struct sim_events *events)
{
    struct sim_event event = events->heap[0];
    events->heap[0] = events->heap[--events->count];
    if (events->count > 0)
        sift_down(events);
    return event;
}
