// SPDX-License-Identifier: Apache-2.0
// The events of a simulated world: a binary heap by time, then by a drawn tie, then by order of arrival.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct sim_end;
struct sim_loop;

enum event_kind {
    EVENT_NONE, // taken back
    EVENT_TURN,
    EVENT_TIMER,
    EVENT_CONNECT, // arrives at the listener
    EVENT_OPENED,  // the answer arrives at the client
    EVENT_DATA,
    EVENT_FIN,
    EVENT_RESET,
    EVENT_WINDOW, // the peer has read
};

struct segment {
    struct segment *next;
    uint32_t start;
    uint32_t end;
    uint8_t data[];
};

struct sim_event {
    uint64_t time_us;
    uint64_t tie;      // drawn: which of two events at one time comes first
    uint64_t sequence; // set by sim_events_push
    enum event_kind kind;
    enum status status;
    uint32_t bytes;
    struct sim_end *end;
    struct sim_loop *loop;
    struct segment *segment;
};

// Starts with all bytes zero. At the end the owner frees `heap`.
struct sim_events {
    struct sim_event *heap;
    size_t count;
    size_t room;
    uint64_t next_sequence;
};

void sim_events_push(struct sim_events *events, struct sim_event event);
// The earliest event; there must be at least one.
struct sim_event sim_events_pop(struct sim_events *events);
