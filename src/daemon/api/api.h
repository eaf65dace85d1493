// SPDX-License-Identifier: Apache-2.0
// The admin API: JSON over HTTP/1.1 on one address, for the command line, scripts, dashboards and Prometheus.
// Runs on the engine's loop; answers from what the engine keeps, never from the request path. Bounded in
// connections, in bytes and in time.
#pragma once

#include "base/text.h"
#include "net/io/loop.h"
#include "ship/shadow/shadow.h"
#include "ship/targets/targets.h"

enum {
    API_CONNECTIONS_MAX = 256,          // unless descriptors are few
    API_SUBSCRIBERS_MAX = 64,           // server-sent event streams
    API_BODY_BYTES_MAX = 8192,          // of a request
    API_FLAGS_BODY_BYTES_MAX = 1 << 20, // of a request to /v1/flags and below
    API_PENDING_BYTES_MAX = 262144,     // a subscriber that lags further behind is let go
    API_REQUEST_MS_MAX = 10000,         // from a request's first byte to its last
    API_IDLE_MS_MAX = 60000,
    API_HEARTBEAT_MS = 15000,
    API_PROGRESS_MS = 1000,
    API_RELOAD_BYTES_MAX = 32768, // of what a reload tells
};

struct api;

enum { API_WHY_BYTES = 160 };

// The parent that holds this process's sockets.
struct api_supervisor {
    bool present;
    bool upgraded;               // this is the first process of another binary
    uint32_t deaths;             // of processes before this one
    uint32_t refused;            // other binaries, since this process began
    char why[API_WHY_BYTES];     // this one took the place of one before; empty: it did not
    char refusal[API_WHY_BYTES]; // the last
};

// What the API has from the program around it. Called on the engine's loop.
struct api_program {
    void *context;
    // Reads the daemon's file again. STATUS_OK: it is in force; anything else: nothing changed. told has room
    // for API_RELOAD_BYTES_MAX and takes what people should know: why it was refused, or what waits for a
    // restart (nothing: all of it is in force).
    enum status (*reload)(void *context, struct text *told);
    // Asks the supervisor for the binary that is installed now. NOT_FOUND: there is none.
    enum status (*upgrade)(void *context);
    void (*supervisor)(void *context, struct api_supervisor *supervisor);
    // How answers differ in a rollout's shadow, or in a service's own mirror (rollout empty). NOT_FOUND:
    // nothing is mirrored; NO_MEMORY. The report is for heap_free. NULL: this program mirrors nothing.
    enum status (*diff)(void *context, struct slice service, struct slice rollout,
                        struct shadow_report **report);
};

// Listens on addr and answers from now on, at most so many connections at once. program is borrowed; NULL:
// there is no program around it. Statuses as io_listener_open, and NO_MEMORY.
MUST_USE enum status api_create(struct engine *engine, const struct io_addr *addr, uint32_t connections,
                                const struct api_program *program, struct api **api);
// The address it is bound to.
void api_addr(const struct api *api, struct io_addr *addr);
// Closes everything; turn the loop until api_closed, then destroy.
void api_close(struct api *api);
bool api_closed(const struct api *api);
void api_destroy(struct api *api);

// The list of all addresses, as docs/guide/api.md has it.
enum { API_ROUTES_BYTES_MAX = 8192 };
void api_routes_write(struct text *text);
