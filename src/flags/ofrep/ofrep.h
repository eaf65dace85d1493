// SPDX-License-Identifier: Apache-2.0
// Flag evaluation over HTTP: OFREP (OpenFeature Remote Evaluation Protocol 0.3), and flagd's evaluation
// services (flagd.evaluation.v1 and .v2) and sync service over gRPC and in Connect's JSON form, on threads of
// their own, so that evaluation never waits for the engine and the engine never for it. Reads immutable
// snapshots only.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/status.h"
#include "flags/set/flagset.h"
#include "net/io/loop.h"
#include "net/web/tokens.h"
#include "net/web/web.h"

enum {
    OFREP_THREADS_MAX = 16,
    OFREP_CONNECTIONS_MAX = 10000,     // per thread, unless descriptors are few
    OFREP_CONTEXT_BYTES_MAX = 1 << 20, // larger request bodies are answered 413
    OFREP_CONTEXT_NODES_MAX = 65536,   // values; so many are always taken, far more never
    OFREP_KEY_BYTES_MAX = 1024,
    OFREP_EXPOSURES_RING = 8192,    // per thread, between two takes; beyond it they are counted as lost
    OFREP_EXPOSURES_SEEN = 1 << 17, // per thread: how many (flag, variant, key) are remembered as told
};

struct ofrep;

struct ofrep_config {
    struct io_addr addr;
    uint32_t threads;      // 1..OFREP_THREADS_MAX
    uint32_t first_reader; // thread i counts in the snapshot's tally first_reader + i
    enum io_kind io;
    uint32_t connections;    // of each thread; 0: OFREP_CONNECTIONS_MAX
    const char *tokens;      // file, or NULL: no token is asked for
    uint32_t rate;           // requests per second and client address (or token), 0: no limit; beyond it 429
    uint32_t burst;          // 0: as rate
    const char *cors_origin; // Access-Control-Allow-Origin for browser SDKs: an origin, "*", or NULL: none
    // In force from the first answer on (referenced by ofrep); NULL: PROVIDER_NOT_READY until the first
    // publish.
    const struct flagset_snapshot *snapshot;
    bool exposures;      // gather them for ofrep_exposures_take
    bool strict_reasons; // OFREP says only reasons of the published schema: UNKNOWN instead of DEFAULT
};

// Opens the listener and starts the threads. Without a snapshot they answer PROVIDER_NOT_READY (503).
// The fault says what is wrong with the tokens; its text is empty when something else is.
MUST_USE enum status ofrep_start(const struct ofrep_config *config, struct ofrep **ofrep,
                                 struct fault *fault);
void ofrep_addr(const struct ofrep *ofrep, struct io_addr *addr);
// The snapshot in force from now on (referenced by ofrep). Streams are told. From one thread only.
void ofrep_publish(struct ofrep *ofrep, const struct flagset_snapshot *snapshot);
// Reads the token file again; a bad file changes nothing.
MUST_USE enum status ofrep_reload_tokens(struct ofrep *ofrep, const char *path, struct fault *fault);
// Closes all connections, ends the threads, frees everything.
void ofrep_stop(struct ofrep *ofrep);

struct ofrep_stats {
    uint64_t requests, refused, unauthorized, limited; // since the start
    uint64_t evaluations, errors;
    uint64_t exposures_lost;
    uint32_t connections, streams;
};
void ofrep_stats_get(const struct ofrep *ofrep, struct ofrep_stats *stats);

// A key saw a variant for the first time today (or since much else was seen). Single evaluations only: a bulk
// evaluation does not mean that somebody looked.
struct ofrep_exposure {
    int64_t time_ms;
    uint64_t set_version;
    char flag[128]; // cut when longer
    char variant[64];
    char key[256];
};
uint32_t ofrep_exposures_take(struct ofrep *ofrep, struct ofrep_exposure *out, uint32_t cap);
