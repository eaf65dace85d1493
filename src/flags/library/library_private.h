// SPDX-License-Identifier: Apache-2.0
// What the parts of the library share.
//
// How a set is read while another takes its place. An evaluation adds itself to one of the two counters of
// its stripe (one cache line per group of threads), reads the pointer to the set, and takes itself off again.
// The publisher first exchanges the pointer. An evaluation that may still read the old set was counted before
// that, so nobody reads it any more once each counter of every stripe has been zero at least once after the
// exchange. There are two counters so that new evaluations use one while the other drains. The cost is two
// atomic additions to a line that other processors rarely touch: no lock, no retry, no registration of
// threads, no system call.
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"
#include "flags/eval/evaluate.h"
#include "flags/eval/image.h"
#include "flags/library/sluice_flags.h"
#include "flags/share/share.h"

enum {
    LIBRARY_STRIPES = 64,
    LIBRARY_LINE_BYTES = 64,
    LIBRARY_TICK_MS = 20, // between looks for a new set
    LIBRARY_LOOK_TICKS =
        25, // between looks that need system calls: does the writer live, is it the same file
    LIBRARY_SOURCE_BYTES_MAX = 256 << 20,
};

// ---- context ----

struct library_chunk;
struct library_mark {
    struct library_chunk *chunk;
    size_t used;
};

struct sluice_flags_context {
    struct flags_json tree;
    struct flags_json *last;
    struct slice key;
    bool has_key;
    bool broken;
    bool on_heap;
    struct library_chunk *first;
    struct library_chunk *chunk; // where new nodes are taken from
};

// ---- sets in force ----

struct library_set {
    struct flags_image set;
    _Atomic uint32_t
        holds; // ending a hold only counts down: dropping a set takes system calls, so reclaim does it
    uint64_t generation;
    struct share_mapping mapping; // of a shared set
    void *image;                  // of a compiled set
    struct library_set *next;     // next of the sets that wait to be dropped
};

struct library_stripe {
    _Alignas(LIBRARY_LINE_BYTES) _Atomic uint64_t inside[2];
};

struct library_guard {
    _Atomic uint64_t *inside;
    struct library_set *set; // NULL: none yet
};

// ---- provider ----

struct library_file {
    struct slice source; // the source as read last; a heap block of its own
    uint64_t device, inode;
    int64_t size, changed_ns;
    bool looked;
    struct flags_json_space space;
};

struct library_handler {
    sluice_flags_handler *call;
    void *data;
};

struct sluice_flags_provider {
    struct library_stripe stripes[LIBRARY_STRIPES];
    _Alignas(LIBRARY_LINE_BYTES) _Atomic(struct library_set *) set;
    _Atomic uint32_t phase;
    _Atomic uint32_t state; // enum sluice_flags_state
    _Atomic int64_t time_s;
    _Atomic uint64_t generation;
    _Atomic uint32_t hook_count;
    struct sluice_flags_hook hooks[SLUICE_FLAGS_HOOKS_MAX];
    bool key_required;
    char path[SLUICE_FLAGS_PATH_BYTES];
    bool is_file;

    pthread_mutex_t turn; // held while looking for a new set; guards all below
    struct share_reader *reader;
    struct library_file file;
    struct library_set *draining; // waiting for evaluations that may read them
    struct library_set *retired;  // waiting until they may drain
    struct library_set *held;     // drained, but holds may still read them
    bool flipped;                 // one of the two counters has drained
    uint32_t tick;
    bool unwritten; // shared: no writer lives
    bool bad;       // the newest content is refused
    struct library_handler handlers[SLUICE_FLAGS_HANDLERS_MAX];
    uint32_t handler_count;

    pthread_mutex_t telling; // guards problem
    char problem[SLUICE_FLAGS_PROBLEM_BYTES];

    pthread_t thread;
    bool has_thread;
    pthread_mutex_t sleep;
    pthread_cond_t wake;
    bool ending;
};

struct library_guard library_enter(struct sluice_flags_provider *provider);
void library_leave(struct library_guard guard);
// Takes the set and puts it in force. The previous set is dropped when nobody reads it. Under `turn`.
void library_put(struct sluice_flags_provider *provider, struct library_set *set);
// Drops sets that nobody reads any more; never waits. Under `turn`.
void library_reclaim(struct sluice_flags_provider *provider);

// Looks for a new set, once, under `turn`. STATUS_OK with a set; AGAIN: nothing new; any other status: the
// new content is bad, and `problem` says why.
enum status library_look_shared(struct sluice_flags_provider *provider, struct library_set **set,
                                char problem[SLUICE_FLAGS_PROBLEM_BYTES]);
enum status library_look_file(struct sluice_flags_provider *provider, struct library_set **set,
                              char problem[SLUICE_FLAGS_PROBLEM_BYTES]);
void library_file_deinit(struct library_file *file);
int64_t library_wall_ns(void);
