// SPDX-License-Identifier: Apache-2.0
// Which endpoint of a version a request goes to, as far as weights, keys, zones and load decide. What is
// known against an endpoint is not looked at here: upstream.c and protect.c ask, and pass over who is out.
//
// By weight: two endpoints are drawn, each as often as its weight says, and the less busy for its weight is
// taken. By key: highest random weight (Thaler and Ravishankar 1998), so that a key moves only when its
// endpoint leaves, or to one that is new.
#pragma once

#include "net/proxy/proxy_private.h"

enum {
    BALANCE_FRESH_US = 10000000, // latencies say nothing when the last was measured longer ago, ...
    BALANCE_ANSWERS = 8,         // ... or fewer than so many were
    BALANCE_SLOWER_TIMES = 2,    // so much slower, and ...
    BALANCE_SLOWER_US = 5000,    // ... by so much: only then does latency decide
};

struct balance_pair {
    uint32_t first, second; // indices of endpoints; alike where there is one
};

// Two of the first `reach` endpoints, at least 1 and at most all that are drawn. The first is drawn with the
// probability of its weight; the second likewise, of the others.
struct balance_pair balance_draw(const struct proxy_version *version, uint32_t reach, struct rng *rng);
// Of two that were drawn: the one with fewer exchanges for its weight. With as many, the first, unless it was
// lately much slower.
const struct proxy_endpoint *balance_of_two(const struct worker *worker, const struct proxy_endpoint *a,
                                            const struct proxy_endpoint *b);
// One of those that are drawn that `usable` lets pass, best by the key; NULL: none passes. usable NULL: all
// do.
typedef bool balance_usable(void *context, const struct proxy_endpoint *endpoint);
const struct proxy_endpoint *balance_by_key(const struct proxy_version *version, uint64_t key,
                                            balance_usable *usable, void *context);
// What the service's requests are spread by, taken from worker->request. Without a value they are spread as
// without `hash`.
void balance_take_key(struct exchange *exchange, const struct proxy_service *service);
// A good answer began after that time.
void balance_measured(struct exchange *exchange, uint64_t waited_us);
// Of an address; alike in every process.
uint64_t balance_hash(const struct io_addr *addr);
