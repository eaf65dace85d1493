// SPDX-License-Identifier: Apache-2.0
// Open-loop load: requests leave on a schedule, whatever the server does, and latency counts from the
// scheduled moment, so that a stall shows fully (no coordinated omission). Runs on any loop, also a simulated
// one.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "net/io/loop.h"
#include "stats/histogram.h"

enum {
    LOAD_CONNECTIONS_DEFAULT = 512,
    LOAD_QUEUE_MAX = 65536, // requests that wait for a connection; any more fail as `shed`
    LOAD_VERSIONS_MAX = 8,
    LOAD_NAME_BYTES = 64,
    LOAD_REQUESTS_MAX = 1 << 20,
    LOAD_PATH_BYTES_MAX = 4096,
};

// One request of the list. At the end of the list the generator starts again at its beginning.
struct load_request {
    const char *method;
    const char *path;
    const char *agent;   // NULL: none
    const char *session; // value of the cookie sid; NULL: none
};

struct load_header {
    const char *name;
    const char *value;
};

struct load_config {
    struct io_addr to;
    const char *host;                    // Host field; NULL: the address
    const struct load_request *requests; // borrowed for the run; NULL: GET /
    uint32_t request_count;
    const struct load_header *headers; // sent with every request; borrowed for the run
    uint32_t header_count;
    double rate;     // requests per second
    double rate_end; // grows or falls to this over the run; 0: constant
    bool poisson;    // random gaps instead of equal ones
    uint64_t duration_us;
    uint64_t timeout_us;        // of one request from its scheduled moment; 0: 30 s
    uint32_t connections_max;   // 0: LOAD_CONNECTIONS_DEFAULT
    const char *version_header; // the header by which a server names its version; NULL: "x-version"
    uint64_t seed;
};

enum load_failure {
    LOAD_FAILED_CONNECT,
    LOAD_FAILED_RESET, // connection ended within an answer, or before it twice
    LOAD_FAILED_TIMEOUT,
    LOAD_FAILED_FRAMING, // the answer was not HTTP
    LOAD_FAILED_SHED,    // the queue was full
    LOAD_FAILED_STATUS,  // answered with 5xx
    LOAD_FAILURES
};
const char *load_failure_name(enum load_failure failure);

struct load_version_totals {
    char name[LOAD_NAME_BYTES]; // value of the version header; "" for answers without one
    uint64_t answers;
    uint64_t errors; // 5xx
};

// scheduled = answers + failed - failures[STATUS] + pending
struct load_totals {
    uint64_t scheduled;
    uint64_t answers;
    uint64_t failed; // the sum of failures[]
    uint64_t failures[LOAD_FAILURES];
    uint64_t status[6]; // answers by first digit; [0] unused
    uint64_t pending;
    uint64_t mismatched; // answers with the X-Request-Id of another request
    uint64_t retried;    // sent again because a reused connection ended before any byte came
    uint64_t connections_opened;
    uint64_t bytes_received;
    uint64_t behind_us_max; // the longest time by which the generator itself was late
    uint32_t version_count;
    struct load_version_totals versions[LOAD_VERSIONS_MAX];
    struct stats_histogram latency_us; // of answers
};

struct load;

// Starts at once. STATUS_RANGE for an impossible rate, NO_MEMORY.
MUST_USE enum status load_create(struct io_loop *loop, const struct load_config *config, struct load **load);
// Schedules nothing more; pending requests may end until their timeout.
void load_stop(struct load *load);
// True when the schedule is over and nothing is pending.
bool load_done(const struct load *load);
const struct load_totals *load_totals(const struct load *load);
// Closes everything; turn the loop until load_closed, then destroy.
void load_close(struct load *load);
bool load_closed(const struct load *load);
void load_destroy(struct load *load);

// ---- requests from an access log in combined format ----

struct load_log {
    struct load_request *requests;
    uint32_t count;
    uint32_t skipped_malformed; // lines that are not log lines
    uint32_t skipped_method;    // other than GET, HEAD, OPTIONS: a replay must not write
    uint32_t skipped_target;    // longer than LOAD_PATH_BYTES_MAX, or not a path of visible ASCII
    char *storage;
};

// Reads lines like: 1.2.3.4 - - [time] "GET /path HTTP/1.1" 200 123 "referer" "agent". The client's address
// becomes the session. STATUS_INVALID when no line could be used.
MUST_USE enum status load_log_parse(struct slice text, struct load_log *log);
void load_log_free(struct load_log *log);
