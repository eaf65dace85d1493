// SPDX-License-Identifier: Apache-2.0
// Active health checks: endpoints are asked by themselves, off the path of requests, whether they can answer.
// Everything here is for the thread of one loop. Each endpoint is checked about every `every_ms`, spread at
// random; at most HEALTH_UNDER_WAY_MAX checks are under way, and others wait for their turn.
#pragma once

#include "base/status.h"
#include "net/io/loop.h"
#include "net/tls/tls.h"

enum {
    HEALTH_UNDER_WAY_MAX = 64,
    HEALTH_PATH_BYTES = 1024, // the NUL included, as below
    HEALTH_HOST_BYTES = 256,
    HEALTH_SPREAD_PERCENT = 10, // a pause is shorter or longer by up to that
};

// What is asked and what counts as an answer.
struct health_rule {
    bool tcp;                           // a connection that opens is enough, its TLS included; what
                                        // follows up to the statuses is of HTTP
    char path[HEALTH_PATH_BYTES];       // GET of this, sent as it stands
    char host[HEALTH_HOST_BYTES];       // empty: its certificate's name, else the endpoint's address
    uint16_t status_first, status_last; // both in it
    uint32_t every_ms;
    uint32_t timeout_ms;  // from the connect to the answer's head, TLS included
    uint32_t rise, fall;  // so many in a row change what is known, at least 1
    bool unhealthy_first; // an endpoint that is new is not used before `rise` checks passed
};

struct health_endpoint {
    uint16_t slot;
    struct io_addr addr;
    const struct health_rule *rule; // copied, as the name
    bool secure;                    // by TLS alone
    struct tls_client *client;      // shared; NULL and secure: none can be used, and every check fails
    struct slice name; // that its certificate must have, below HEALTH_HOST_BYTES; empty: its address
    uint8_t header;    // version of the PROXY header that comes first, for nobody; 0: none
};

// What is known of one endpoint.
struct health_state {
    bool healthy;
    bool checked;      // at least one check has ended
    uint16_t status;   // of the last answer; 0: none
    uint32_t in_a_row; // results that speak against `healthy`
    uint64_t passed, failed;
    const char *why; // the last check failed, constant text; NULL: it passed, or there was none
};

struct health;

struct health_parts {
    struct io_loop *loop; // borrowed
    uint16_t slots;       // endpoints' slots are below
    uint64_t seed;        // of the spread
    // What is known has changed; also told of an endpoint that begins unhealthy, within health_follow.
    void (*changed)(void *context, uint16_t slot, const struct health_state *state);
    void *context;
};

MUST_USE enum status health_create(const struct health_parts *parts, struct health **health);
// From now on these are checked and no others. What is known of a slot stays while its address does; another
// rule then holds from the next check on. STATUS_NO_MEMORY: those that found no room are not checked and
// count as healthy.
MUST_USE enum status health_follow(struct health *health, const struct health_endpoint *endpoints,
                                   uint32_t count);
// NULL: it is not checked.
const struct health_state *health_of(const struct health *health, uint16_t slot);
// Ends all checks; turn the loop until health_closed, then destroy.
void health_close(struct health *health);
bool health_closed(const struct health *health);
void health_destroy(struct health *health); // NULL is allowed
