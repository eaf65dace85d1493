// SPDX-License-Identifier: Apache-2.0
// Traffic sent a second time, off the path of requests. Workers copy requests and the answers that clients
// get; a thread of the mirror's own sends each copy to the candidate, and some also to the primary version
// once more (the secondary), and hands on what was answered. What it cannot take is dropped and counted;
// clients never wait for it.
//
// Identities, when nothing is under way: selected = sent + all dropped; sent = compared + all uncompared.
#pragma once

#include "base/slice.h"
#include "base/status.h"
#include "net/http/message.h"
#include "net/io/loop.h"
#include "net/mirror/seen.h"
#include "net/tls/tls.h"

enum {
    MIRROR_COPIES_MAX = 1024,         // of one worker, from selecting to the last answer
    MIRROR_BYTES_MAX = 67108864,      // of all copies, shared evenly among the workers; as much again of the
                                      // answers that the mirror gets
    MIRROR_UNDER_WAY_MAX = 1024,      // requests being answered at the same time, of all plans
    MIRROR_CONCURRENT_MAX = 512,      // of one plan
    MIRROR_BODY_BYTES_MAX = 1048576,  // that a plan may keep of a body
    MIRROR_READ_BYTES_MAX = 16777216, // of an answer's body; then its connection is closed
    MIRROR_EDITS_MAX = 32,            // headers that one plan adds, and takes out
    MIRROR_ENDPOINTS_MAX = 512,
    MIRROR_NAME_BYTES = 256,
    MIRROR_SHARE_FULL = 100000,
};

// ---- counts ----

enum mirror_drop {
    MIRROR_DROP_UNSAFE,     // its method may change something, and the plan does not allow that
    MIRROR_DROP_SHADOW,     // it is a mirrored one itself
    MIRROR_DROP_UPGRADE,    // another protocol follows
    MIRROR_DROP_TRAILERS,   // it has some
    MIRROR_DROP_UNFINISHED, // the client, or we, ended it before it was whole
    MIRROR_DROP_TOO_LARGE,
    MIRROR_DROP_MEMORY,    // the copies take all that they may
    MIRROR_DROP_BUSY,      // as many are under way, and wait, as may
    MIRROR_DROP_NO_TARGET, // the candidate has no endpoint
    MIRROR_DROP_ENDED,     // we end
    MIRROR_DROPS
};
const char *mirror_drop_name(enum mirror_drop drop); // "unsafe", ...

enum mirror_uncompared {
    MIRROR_UNCOMPARED_CLIENT_GONE,
    MIRROR_UNCOMPARED_PRIMARY_FAILED,
    MIRROR_UNCOMPARED_CONNECT, // these five: the candidate, as enum mirror_end
    MIRROR_UNCOMPARED_TLS,
    MIRROR_UNCOMPARED_TIMEOUT,
    MIRROR_UNCOMPARED_RESET,
    MIRROR_UNCOMPARED_BROKEN,
    MIRROR_UNCOMPARED_OURS, // memory to ask or to read was lacking, or we end
    MIRROR_UNCOMPARED_NO_READER,
    MIRROR_UNCOMPAREDS
};
const char *mirror_uncompared_name(enum mirror_uncompared reason);

struct mirror_counts {
    uint64_t selected, sent, compared;
    uint64_t secondaries, secondaries_failed; // of the sent: asked, and not answered
    uint64_t dropped[MIRROR_DROPS];
    uint64_t uncompared[MIRROR_UNCOMPAREDS];
};

// What is counted, over all plans that are made for it. Held by each; from any thread.
struct mirror_run;
MUST_USE enum status mirror_run_create(struct mirror_run **run); // NO_MEMORY
struct mirror_run *mirror_run_share(struct mirror_run *run);
void mirror_run_release(struct mirror_run *run); // NULL is allowed
void mirror_run_counts(const struct mirror_run *run, struct mirror_counts *counts);

// ---- plans ----

struct mirror_endpoint {
    struct io_addr addr;
    struct slice name; // that its certificate must have; empty: its address
};

struct mirror_target {
    const struct mirror_endpoint *endpoints;
    uint32_t endpoint_count;   // at most MIRROR_ENDPOINTS_MAX; 0: nobody can be asked
    bool secure;               // by TLS alone
    struct tls_client *client; // of the mirror's thread, shared; NULL and secure: none can be used
    uint8_t header;            // version of the PROXY header that begins connections, for nobody; 0: none
};

// All is borrowed for the call.
struct mirror_words {
    uint64_t number; // told with what is seen
    struct mirror_run *run;
    struct mirror_target candidate, primary;
    uint32_t share;      // of units, or of requests without one, in 1/MIRROR_SHARE_FULL
    uint32_t secondary;  // of the mirrored, as well
    bool unsafe;         // methods beside GET, HEAD and OPTIONS too
    uint32_t timeout_ms; // of one asking, its connect included
    uint32_t concurrent; // under way at the same time, and as many wait
    uint32_t body_bytes; // longer requests are dropped, longer answers kept up to it
    // Of the request to the candidate.
    struct slice host, path;         // path: put before the request's own. Empty: as the primary's
    const struct http_field *add;    // fields with these names and values
    const struct slice *strip;       // names of what is taken out first; '-' and '_' are the same
    uint32_t add_count, strip_count; // at most MIRROR_EDITS_MAX each
};

// Immutable, counted by its holders: tables, and requests on their way.
struct mirror_plan;
MUST_USE enum status mirror_plan_create(const struct mirror_words *words, struct mirror_plan **plan);
struct mirror_plan *mirror_plan_share(struct mirror_plan *plan);
void mirror_plan_release(struct mirror_plan *plan);        // NULL is allowed
uint32_t mirror_plan_part(const struct mirror_plan *plan); // its share
// Why a selected request is not copied, as far as its head tells. MIRROR_DROPS: it is.
enum mirror_drop mirror_plan_refuses(const struct mirror_plan *plan, const struct http_request *request);

// ---- the mirror ----

struct mirror;

struct mirror_parts {
    uint32_t workers;
    uint64_t seed; // secret: draws who is asked a second time, and keys digests
    // Gets every request that was sent, but those of MIRROR_UNCOMPARED_OURS, on the mirror's thread, and owns
    // it. NULL: nobody looks.
    void (*seen)(void *context, struct mirror_seen *seen);
    void *context;
};

MUST_USE enum status mirror_create(const struct mirror_parts *parts, struct mirror **mirror);
// Before the first plan is published: the thread runs from then on. Does nothing when it runs.
MUST_USE enum status mirror_start(struct mirror *mirror);
// Instead of start: on the caller's loop.
void mirror_attach(struct mirror *mirror, struct io_loop *loop);
// When no worker copies any more. Ends all that is under way; an attached one is turned until mirror_closed.
void mirror_close(struct mirror *mirror);
bool mirror_closed(const struct mirror *mirror);
void mirror_destroy(struct mirror *mirror); // NULL is allowed; closes first

// ---- for workers: one request and its answer. Each worker has its own number. ----

struct mirror_copy;

// Counts a request as selected, and as dropped for that reason.
void mirror_select(struct mirror_plan *plan);
void mirror_refuse(struct mirror_plan *plan, enum mirror_drop reason);

// A selected request is copied: its head as the primary gets it, in HTTP/1. NULL: it is dropped, and counted
// so. A copy is over with mirror_copy_drop or mirror_copy_over, once.
struct mirror_copy *mirror_copy_begin(struct mirror *mirror, uint32_t worker, struct mirror_plan *plan,
                                      struct slice head, int64_t time_ms);
// The rest of the request. False: it is dropped.
bool mirror_copy_request(struct mirror_copy *copy, struct slice run);
// Before the request was whole.
void mirror_copy_drop(struct mirror_copy *copy, enum mirror_drop reason);
// The request is whole; what follows is of the primary's answer.
void mirror_copy_requested(struct mirror_copy *copy);
bool mirror_copy_is_requested(const struct mirror_copy *copy);
void mirror_copy_answer(struct mirror_copy *copy, const struct http_response *response, uint64_t wait_us);
void mirror_copy_body(struct mirror_copy *copy, struct slice run);
enum mirror_over { MIRROR_OVER_WHOLE, MIRROR_OVER_CLIENT_GONE, MIRROR_OVER_FAILED };
void mirror_copy_over(struct mirror_copy *copy, enum mirror_over over);
