// SPDX-License-Identifier: Apache-2.0
// A small HTTP/1.1 origin for the demo and for tests: answers every request after a drawn delay, with a drawn
// share of errors, and misbehaves on request. An X-Request-Id is sent back in the answer. Runs on any loop,
// simulated ones included.
#pragma once

#include <stdint.h>

#include "net/io/loop.h"

struct http_request;

enum load_origin_behaviour {
    LOAD_ORIGIN_ANSWERS, // as the other options say
    LOAD_ORIGIN_REFUSES, // closes every connection at once
    LOAD_ORIGIN_GARBAGE, // answers with bytes that are not HTTP
    LOAD_ORIGIN_STALLS,  // never answers
    LOAD_ORIGIN_CUTS,    // resets in the middle of the body
};

struct load_origin_options {
    const char *version;  // sent as X-Version; borrowed as long as the origin lives
    uint32_t latency_us;  // median of a lognormal delay; 0: at once
    double latency_sigma; // of its logarithm
    double tail_share;    // of requests whose delay is multiplied
    double tail_factor;
    double error_share;  // of requests answered 500
    uint32_t body_bytes; // of a good answer, at most 16 KiB
    enum load_origin_behaviour behaviour;
    uint64_t seed;
    // Told every request head when it has come; NULL: nobody.
    void (*seen)(void *context, const struct http_request *request);
    void *seen_context;
};

struct load_origin_counts {
    uint64_t connections;
    uint64_t requests;
    uint64_t answers;
    uint64_t errors;          // of the answers, 500s
    uint64_t refused;         // connections beyond the limit, or refused on purpose
    uint64_t malformed;       // requests that were not HTTP
    uint64_t last_request_us; // loop time of the newest request
};

enum { LOAD_ORIGIN_CONNECTIONS_MAX = 4096, LOAD_ORIGIN_BODY_BYTES_MAX = 16384 };

struct load_origin;

// Listens on addr (port 0: any). STATUS_IN_USE and the like from the listener, NO_MEMORY.
MUST_USE enum status load_origin_create(struct io_loop *loop, const struct io_addr *addr,
                                        const struct load_origin_options *options,
                                        struct load_origin **origin);
void load_origin_addr(const struct load_origin *origin, struct io_addr *addr);
// On the loop's own thread only.
void load_origin_set(struct load_origin *origin, const struct load_origin_options *options);
const struct load_origin_counts *load_origin_counts(const struct load_origin *origin);
// Closes everything; turn the loop until load_origin_closed, then destroy.
void load_origin_close(struct load_origin *origin);
bool load_origin_closed(const struct load_origin *origin);
void load_origin_destroy(struct load_origin *origin);
