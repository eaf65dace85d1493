// SPDX-License-Identifier: Apache-2.0
// The simulated world: virtual time, hosts and a virtual network behind net/io/loop.h, driven by one seed.
// Loops of one world run in one thread, in an order the seed decides. Faults come from the options, drawn
// from streams of random numbers independent of each other, so that switching one fault off leaves the others
// where they were.
#pragma once

#include <stdint.h>

#include "net/io/loop.h"

struct io_sim;

struct io_sim_config {
    uint64_t seed;
    uint64_t latency_us_min; // one-way delay of a segment
    uint64_t latency_us_max;
    // Probabilities per event, in millionths.
    uint32_t stall_ppm; // a segment is held for up to stall_us_max (a loss and its retransmission)
    uint64_t stall_us_max;
    uint32_t reset_ppm;    // the connection is reset instead of delivering
    uint32_t refuse_ppm;   // a connect is refused
    uint32_t fragment_ppm; // a delivery is cut at a random byte
    int64_t wall_start_ms; // wall clock at virtual time zero
};

MUST_USE enum status io_sim_create(const struct io_sim_config *config, struct io_sim **sim);
void io_sim_destroy(struct io_sim *sim);
// A loop that lives in this world. Addresses are ordinary io_addr; every loop shares one address space.
MUST_USE enum status io_sim_loop_create(struct io_sim *sim, struct io_loop **loop);
// Crashes the owner of a loop: its connections are reset (or, with `silent`, never answer again), its
// listeners vanish, and its timers and tasks never fire. The loop can then only be destroyed.
void io_sim_loop_crash(struct io_loop *loop, bool silent);
// Lets the owner of a crashed loop free its objects: runs what was posted and closed on the loop, without any
// effect on the world. Then the loop can be destroyed.
void io_sim_loop_bury(struct io_loop *loop);
// Takes the faults (probabilities and stall_us_max) from config from now on; all else stays.
void io_sim_set_faults(struct io_sim *sim, const struct io_sim_config *config);
// Runs until virtual time has passed until_us, or nothing is left to do. Returns the number of events run.
uint64_t io_sim_run(struct io_sim *sim, uint64_t until_us);
uint64_t io_sim_now_us(const struct io_sim *sim);
// A running hash over every event (time, kind, stream, bytes): equal seeds give equal hashes.
uint64_t io_sim_trace_hash(const struct io_sim *sim);
// Faults injected so far, for tests that must know that faults occurred.
struct io_sim_faults {
    uint64_t stalls, resets, refusals, fragments;
};
const struct io_sim_faults *io_sim_faults(const struct io_sim *sim);
