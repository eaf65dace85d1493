// SPDX-License-Identifier: Apache-2.0
// The mirror's own storage. A copy belongs to its worker until the request is whole; then the request is the
// mirror's, and the primary's answer still the worker's, until that is over. Each hands over by one message.
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/check.h"
#include "base/rng.h"
#include "base/siphash.h"
#include "net/http/http1.h"
#include "net/mirror/mirror.h"

enum {
    MIRROR_RING = 2 * MIRROR_COPIES_MAX, // each copy says two things at most, so it is never full
    MIRROR_IDLE_MAX = 128,               // connections that wait for the next request
    MIRROR_IDLE_US = 2000000,            // as long; short, so that few of them are closed by their peers
    MIRROR_POLL_US = 1000,               // while there is something to do, the rings are looked at so often
    MIRROR_SENDING_BYTES = 4 * IO_BUF_BYTES,
};

// ---- plans ----

struct mirror_run {
    _Atomic uint32_t holds;
    uint32_t under_way, waiting; // of the mirror's thread
    _Atomic uint64_t selected, sent, compared, secondaries, secondaries_failed;
    _Atomic uint64_t dropped[MIRROR_DROPS];
    _Atomic uint64_t uncompared[MIRROR_UNCOMPAREDS];
};

static inline void mirror_count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

struct mirror_plan {
    _Atomic uint32_t holds;
    struct mirror_words words; // all that it points to lies behind it
    // Of a request to the candidate.
    struct http_field add[MIRROR_EDITS_MAX + 1];
    struct slice strip[MIRROR_EDITS_MAX + 1];
    uint32_t add_count, strip_count;
};

// ---- copies ----

// Bytes that grow.
struct mirror_bytes {
    char *data;
    size_t len, cap;
};
// Adds the run, as much of it as `most` bytes allow, and returns how much that was; *grown: by what the
// memory grew. It may be less when no memory, or no more of *left, is to be had.
size_t mirror_bytes_add(struct mirror_bytes *bytes, struct slice run, size_t most, size_t left,
                        size_t *grown);

// An answer while it comes. What `seen` says of it is written at its end.
struct mirror_taking {
    struct mirror_answer *answer;
    void *head; // fields and their text; NULL: none came
    struct mirror_bytes body;
    uint64_t came;
    bool digesting; // bytes were left out: the digest is made as they pass
    struct siphash_state digest;
};
// A copy of its fields. False without memory. *grown as above.
MUST_USE bool mirror_take_head(struct mirror_taking *taking, const struct http_response *response,
                               size_t *grown);
// A run of the body. At most `most` bytes are kept, and only while *left lasts.
void mirror_take_body(struct mirror_taking *taking, struct siphash_key key, struct slice run, size_t most,
                      size_t left, size_t *grown);
void mirror_take_end(struct mirror_taking *taking, struct siphash_key key);

struct mirror_connection;

// One target asked.
struct mirror_ask {
    struct mirror_copy *copy;
    const struct mirror_target *target;
    struct mirror_connection *connection; // NULL: not begun, or over
    struct mirror_taking taking;
    struct io_timer timer;
    struct io_buf *held; // part of the answer's head
    struct http1_body body;
    size_t sent;      // of the request's body
    uint64_t sent_us; // its last byte, 0: not yet
    bool candidate;   // or the secondary
    bool answering;   // its head came
    bool keep;        // the connection may be used again
    bool again;       // this is the second try
    bool ours;        // its end says nothing of the target: memory was lacking, or we end
};

struct mirror_copy {
    struct mirror_seen seen;
    struct mirror *mirror;
    struct mirror_plan *plan;
    uint32_t worker;
    // The worker's, then the mirror's.
    struct mirror_bytes request; // its head, then its body
    size_t head_len;
    void *request_fields;
    size_t worker_bytes; // that are accounted to the worker; of who owns the primary's answer
    bool requested;
    // The worker's until the answer is over.
    struct mirror_taking primary;
    enum mirror_over over;
    _Atomic bool given_up; // by the mirror: nobody needs the answer
    // The mirror's.
    struct list link; // of those that wait, or are asked
    enum http_method method;
    bool repeatable;
    bool dropped, primary_over, sent;
    uint8_t asking;      // asks that are not over
    size_t mirror_bytes; // of the answers that the mirror got
    struct mirror_ask candidate, secondary;
};

enum mirror_what { MIRROR_REQUESTED, MIRROR_OVER };
struct mirror_message {
    struct mirror_copy *copy;
    enum mirror_what what;
};

// Of one worker.
struct mirror_ring {
    _Alignas(64) _Atomic uint32_t head; // the worker's, as the next two
    uint32_t begun;                     // copies
    uint64_t taken;                     // bytes
    _Alignas(64) _Atomic uint32_t tail; // the mirror's, as the next two
    _Atomic uint32_t ended;
    _Atomic uint64_t given;
    struct mirror_message items[MIRROR_RING];
};

// ---- the mirror ----

struct mirror {
    struct mirror_parts parts;
    struct siphash_key key; // of digests
    size_t bytes_max;       // of one worker's copies
    struct rng rng;
    struct io_loop *loop; // NULL: not started
    pthread_t thread;
    bool threads;
    struct io_task wake;
    struct io_timer poll;
    _Atomic bool awake; // the task is posted, or the timer set
    _Atomic bool closing;
    struct list waiting, asked; // copies, first come, first served
    struct list idle;           // connections, newest first
    uint32_t idle_count;
    uint32_t connections;
    uint32_t under_way;
    size_t answer_bytes;
    char target[HTTP1_START_LINE_BYTES_MAX]; // scratch, as the next two
    struct http_request request;
    struct http_response response;
    struct mirror_ring *rings[];
};

// ---- ask.c
// Asks one of the target's endpoints. mirror_answered is called once, perhaps within it.
void mirror_ask_begin(struct mirror_ask *ask);
// Ends it, if it is not over.
void mirror_ask_cancel(struct mirror_ask *ask);
void mirror_idle_close(struct mirror *mirror);
// ---- mirror.c
void mirror_answered(struct mirror_ask *ask);
// ---- head.c: the request as a target gets it. STATUS_FULL, STATUS_INVALID: it cannot be written.
MUST_USE enum status mirror_head_write(struct mirror_ask *ask, struct io_buf *buf);
// Fills in what copy->seen tells of the request. INVALID, NO_MEMORY.
MUST_USE enum status mirror_head_show(struct mirror_copy *copy);
// ---- copy.c
void mirror_copy_free(struct mirror_copy *copy);
void mirror_ring_give(struct mirror *mirror, struct mirror_copy *copy);
