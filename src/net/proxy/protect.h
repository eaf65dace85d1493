// SPDX-License-Identifier: Apache-2.0
// Protection of a version's endpoints, for services that ask for it: which of them are in use (active checks,
// ejection of those that fail), the version's breaker, and the fallback to the stable version. What is known
// is shared by all workers in atomics; nobody waits. Services without such words never come here.
#pragma once

#include "net/proxy/breaker.h"
#include "net/proxy/proxy_private.h"

// What all workers know of one endpoint. Zeroed: in use.
struct endpoint_state {
    _Atomic uint32_t health;       // enum proxy_endpoint_health
    _Atomic uint32_t failures;     // in a row
    _Atomic uint32_t ejections;    // in a row
    _Atomic uint64_t out_until_us; // ejected until then
    _Atomic uint64_t since_us;     // that it is healthy, or known at all
};

struct version_state {
    struct breaker breaker;
    _Atomic uint32_t under_way; // requests that were admitted; counted only where there is a limit
    atomic_flag ejecting;       // one worker at a time counts who is out
};

// The endpoint for the exchange's next attempt, or NULL. Counts the request as an error of its version when
// the endpoint that was drawn first is out of use, whoever serves it instead.
const struct proxy_endpoint *protect_choose(struct exchange *exchange, const struct proxy_version *version);
bool protect_none_in_use(const struct worker *worker, const struct proxy_version *version);
// Before the first attempt. False: the version takes no more; *retry_ms is when it may.
bool protect_admit(struct exchange *exchange, const struct proxy_version *version, const char **why,
                   uint64_t *retry_ms);
// An attempt of an admitted exchange failed, by its endpoint.
void protect_failed(struct exchange *exchange, enum attempt_error error);
// The version's part in the exchange is over.
void protect_release(struct exchange *exchange, enum exchange_fate fate);
// Nothing of the request has reached the canary, whose error is counted: the stable version serves it, if
// the service says so. False: it does not.
bool protect_fall_back(struct exchange *exchange);

// The slot will mean another version. Requests under way are not forgotten: each still ends.
void protect_forget(struct proxy *proxy, uint16_t version);

// Pure: how long the n-th ejection in a row lasts, and the number of one that comes now.
uint64_t protect_ejection_us(const struct proxy_outlier *outlier, uint32_t nth);
uint32_t protect_ejection_nth(const struct proxy_outlier *outlier, uint32_t before, uint64_t out_until_us,
                              uint64_t now_us);
// How many of so many endpoints may be out for an ejection.
uint32_t protect_ejections_max(const struct proxy_outlier *outlier, uint32_t endpoints);
// The share, in thousandths, of its draws that an endpoint takes that has been back for so long.
uint32_t protect_ramp(uint64_t back_us, uint32_t slow_start_ms);
