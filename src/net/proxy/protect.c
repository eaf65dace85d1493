// SPDX-License-Identifier: Apache-2.0
// Who is in use, who is out, and what that counts as. Invariant: an endpoint that is out hides nothing from
// the evidence: the requests that were drawn for it are errors of its version, whichever arm that is.
#include "net/proxy/protect.h"

#include "net/proxy/balance.h"

enum { RAMP_MIN = 100, RAMP_FULL = 1000, FULL_RETRY_MS = 1000 };

static struct endpoint_state *state_of(const struct worker *worker, uint16_t slot)
{
    return &worker->proxy->endpoint_states[slot];
}

static bool is_ejected(const struct endpoint_state *state, uint64_t now_us)
{
    return atomic_load_explicit(&state->out_until_us, memory_order_relaxed) > now_us;
}

static enum proxy_endpoint_health known_health(const struct endpoint_state *state)
{
    return (enum proxy_endpoint_health)atomic_load_explicit(&state->health, memory_order_relaxed);
}

static bool is_out(const struct worker *worker, uint16_t slot)
{
    const struct endpoint_state *state = state_of(worker, slot);
    return known_health(state) != PROXY_ENDPOINT_HEALTHY || is_ejected(state, worker_now_us(worker));
}

// Of the first `count` endpoints.
static uint32_t count_out(const struct worker *worker, const struct proxy_version *version, uint32_t count)
{
    uint32_t out = 0;
    for (uint32_t i = 0; i < count; i++)
        out += is_out(worker, version->endpoints[i].slot);
    return out;
}

bool protect_none_in_use(const struct worker *worker, const struct proxy_version *version)
{
    bool all_when_few = version->protection == NULL || version->protection->panic > 0;
    if (version->endpoint_count == 0 || all_when_few)
        return version->endpoint_count == 0;
    return count_out(worker, version, version->endpoint_count) == version->endpoint_count;
}

static bool are_few(const struct proxy_version *version, uint32_t in_use, uint32_t all)
{
    return (uint64_t)in_use * ROLLOUT_WEIGHT_FULL < (uint64_t)version->protection->panic * all;
}

// ---- choice ----

struct choice {
    struct exchange *exchange;
    const struct proxy_version *version;
    bool counted; // who is out; only when one of the drawn is
    bool panic;   // too few are in use: all are used
};

static bool is_barred(struct choice *choice, const struct proxy_endpoint *endpoint)
{
    const struct worker *worker = choice->exchange->worker;
    if (!is_out(worker, endpoint->slot))
        return false;
    if (!choice->counted) {
        uint32_t all = choice->version->endpoint_count, out = count_out(worker, choice->version, all);
        choice->counted = true;
        choice->panic = are_few(choice->version, all - out, all);
    }
    return !choice->panic;
}

uint32_t protect_ramp(uint64_t back_us, uint32_t slow_start_ms)
{
    uint64_t whole_us = (uint64_t)slow_start_ms * 1000;
    if (back_us >= whole_us)
        return RAMP_FULL;
    uint32_t ramp = (uint32_t)(back_us * RAMP_FULL / whole_us);
    return ramp < RAMP_MIN ? RAMP_MIN : ramp;
}

// One that has just come back takes only a part of what is drawn for it.
static bool takes_draw(struct choice *choice, const struct proxy_endpoint *endpoint)
{
    struct worker *worker = choice->exchange->worker;
    uint32_t slow_start_ms = choice->version->protection->slow_start_ms;
    if (slow_start_ms == 0)
        return true;
    const struct endpoint_state *state = state_of(worker, endpoint->slot);
    uint64_t since_us = atomic_load_explicit(&state->since_us, memory_order_relaxed);
    uint64_t back_us = atomic_load_explicit(&state->out_until_us, memory_order_relaxed);
    uint64_t from_us = since_us > back_us ? since_us : back_us, now_us = worker_now_us(worker);
    uint32_t ramp = from_us >= now_us ? RAMP_MIN : protect_ramp(now_us - from_us, slow_start_ms);
    return ramp == RAMP_FULL || rng_below(&worker->rng, RAMP_FULL) < ramp;
}

static bool is_usable(void *context, const struct proxy_endpoint *endpoint)
{
    struct choice *choice = context;
    return pool_eligible(choice->exchange, endpoint) && !is_barred(choice, endpoint);
}

// How many endpoints are drawn from: the near ones while enough of them are in use, else all.
static uint32_t reach_of(const struct worker *worker, const struct proxy_version *version)
{
    uint32_t near = version->near_count;
    if (LIKELY(near == version->endpoint_count))
        return near;
    uint32_t in_use = near - count_out(worker, version, near);
    return in_use == 0 || are_few(version, in_use, near) ? version->endpoint_count : near;
}

// The first usable one from a place on, of those within reach first; failing that, one in use with room,
// whatever else is known against it.
static const struct proxy_endpoint *search(struct choice *choice, uint32_t reach, uint32_t from)
{
    const struct proxy_version *version = choice->version;
    const struct proxy_endpoint *with_room = NULL;
    for (uint32_t i = 0; i < version->endpoint_count; i++) {
        const struct proxy_endpoint *endpoint = &version->endpoints[i < reach ? (from + i) % reach : i];
        if (is_usable(choice, endpoint))
            return endpoint;
        if (with_room == NULL && pool_has_room(choice->exchange, endpoint) && !is_barred(choice, endpoint))
            with_room = endpoint;
    }
    return with_room;
}

// New endpoints that no check has passed yet are no failure of the version.
static void count_ejected(struct choice *choice, const struct proxy_endpoint *drawn)
{
    struct exchange *exchange = choice->exchange;
    if (exchange->attempts > 0 || exchange->fallen_back || !is_barred(choice, drawn) ||
        known_health(state_of(exchange->worker, drawn->slot)) == PROXY_ENDPOINT_NEW)
        return;
    exchange_count_error(exchange, ATTEMPT_EJECTED, "its endpoint is out of use");
}

static const struct proxy_endpoint *choose_by_key(struct choice *choice)
{
    const struct proxy_version *version = choice->version;
    uint64_t key = choice->exchange->hash;
    count_ejected(choice, balance_by_key(version, key, NULL, NULL));
    const struct proxy_endpoint *best = balance_by_key(version, key, is_usable, choice);
    return best != NULL ? best : search(choice, version->endpoint_count, 0);
}

static const struct proxy_endpoint *choose_by_lot(struct choice *choice)
{
    struct worker *worker = choice->exchange->worker;
    const struct proxy_version *version = choice->version;
    uint32_t reach = reach_of(worker, version);
    struct balance_pair pair = balance_draw(version, reach, &worker->rng);
    const struct proxy_endpoint *a = &version->endpoints[pair.first], *b = &version->endpoints[pair.second];
    count_ejected(choice, a);
    bool a_usable = is_usable(choice, a), b_usable = is_usable(choice, b);
    if (a_usable && b_usable) {
        bool a_takes = takes_draw(choice, a), b_takes = takes_draw(choice, b);
        if (a_takes != b_takes)
            return a_takes ? a : b;
        return balance_of_two(worker, a, b);
    }
    if (a_usable || b_usable)
        return a_usable ? a : b;
    return search(choice, reach, pair.first);
}

const struct proxy_endpoint *protect_choose(struct exchange *exchange, const struct proxy_version *version)
{
    struct choice choice = {.exchange = exchange, .version = version};
    if (version->endpoint_count == 0)
        return NULL;
    return exchange->hashed ? choose_by_key(&choice) : choose_by_lot(&choice);
}

// ---- ejection ----

uint64_t protect_ejection_us(const struct proxy_outlier *outlier, uint32_t nth)
{
    uint64_t ms = (uint64_t)outlier->ejection_ms * nth;
    return (ms < outlier->ejection_ms_max ? ms : outlier->ejection_ms_max) * 1000;
}

uint32_t protect_ejection_nth(const struct proxy_outlier *outlier, uint32_t before, uint64_t out_until_us,
                              uint64_t now_us)
{
    bool in_a_row = before > 0 && now_us < out_until_us + protect_ejection_us(outlier, before);
    return in_a_row ? before + 1 : 1;
}

uint32_t protect_ejections_max(const struct proxy_outlier *outlier, uint32_t endpoints)
{
    uint32_t most = (uint32_t)((uint64_t)endpoints * outlier->at_most / ROLLOUT_WEIGHT_FULL);
    return most > 0 ? most : endpoints > 1;
}

static enum proxy_version_counter reason_of(enum attempt_error error)
{
    switch (error) {
    case ATTEMPT_CONNECT:
    case ATTEMPT_TLS: // no connection that could be used
        return PROXY_VERSION_EJECTED_CONNECT;
    case ATTEMPT_TIMEOUT:
        return PROXY_VERSION_EJECTED_TIMEOUT;
    case ATTEMPT_RESET:
        return PROXY_VERSION_EJECTED_RESET;
    case ATTEMPT_BROKEN:
        return PROXY_VERSION_EJECTED_BROKEN;
    default:
        return PROXY_VERSION_EJECTED_ANSWER;
    }
}

// One failure after its return takes it out again, until an answer says that it is well.
static void eject(struct endpoint_state *state, const struct proxy_outlier *outlier, uint64_t now_us)
{
    uint32_t nth =
        protect_ejection_nth(outlier, atomic_load_explicit(&state->ejections, memory_order_relaxed),
                             atomic_load_explicit(&state->out_until_us, memory_order_relaxed), now_us);
    atomic_store_explicit(&state->ejections, nth, memory_order_relaxed);
    atomic_store_explicit(&state->failures, outlier->consecutive - 1, memory_order_relaxed);
    atomic_store_explicit(&state->out_until_us, now_us + protect_ejection_us(outlier, nth),
                          memory_order_relaxed);
}

static const struct proxy_version *version_of(const struct exchange *exchange)
{
    const struct proxy_table *table = exchange->worker->table;
    const struct proxy_service *service = table == NULL ? NULL : table->by_slot[exchange->service];
    const struct proxy_version *version =
        service == NULL ? NULL : proxy_service_version(service, exchange->version);
    return version != NULL && version->protection != NULL ? version : NULL;
}

static bool is_same_endpoint(const struct upstream *upstream)
{
    return upstream != NULL && upstream->generation == upstream->pool->generation;
}

void protect_failed(struct exchange *exchange, enum attempt_error error)
{
    struct worker *worker = exchange->worker;
    const struct proxy_version *version = version_of(exchange);
    if (version == NULL || version->protection->outlier.consecutive == 0 ||
        !is_same_endpoint(exchange->upstream) || exchange->outlied)
        return;
    exchange->outlied = true;
    const struct proxy_outlier *outlier = &version->protection->outlier;
    struct endpoint_state *state = state_of(worker, exchange->upstream->pool->slot);
    struct version_state *shared = &worker->proxy->version_states[version->slot];
    uint64_t now_us = worker_now_us(worker);
    uint32_t failures = atomic_fetch_add_explicit(&state->failures, 1, memory_order_relaxed) + 1;
    if (failures < outlier->consecutive || is_ejected(state, now_us) ||
        atomic_flag_test_and_set_explicit(&shared->ejecting, memory_order_acquire))
        return; // another one is being ejected just now: the next failure comes
    uint32_t all = version->endpoint_count;
    if (!is_ejected(state, now_us) && count_out(worker, version, all) < protect_ejections_max(outlier, all)) {
        eject(state, outlier, now_us);
        version_count(worker->versions[version->slot], reason_of(error), 1);
    }
    atomic_flag_clear_explicit(&shared->ejecting, memory_order_release);
}

// ---- the breaker ----

bool protect_admit(struct exchange *exchange, const struct proxy_version *version, const char **why,
                   uint64_t *retry_ms)
{
    const struct proxy_protection *rules = version->protection;
    struct version_state *state = &exchange->worker->proxy->version_states[version->slot];
    enum breaker_pass pass =
        breaker_ask(&state->breaker, &rules->breaker, worker_now_us(exchange->worker), retry_ms);
    if (pass == BREAKER_REFUSE) {
        *why = "the version's breaker is open";
        return false;
    }
    if (rules->requests_max > 0 &&
        atomic_fetch_add_explicit(&state->under_way, 1, memory_order_relaxed) >= rules->requests_max) {
        atomic_fetch_sub_explicit(&state->under_way, 1, memory_order_relaxed);
        breaker_untold(&state->breaker, pass);
        *why = "the version has as many requests under way as its breaker allows";
        *retry_ms = FULL_RETRY_MS;
        return false;
    }
    exchange->admitted = true;
    exchange->limited = rules->requests_max > 0;
    exchange->probe = pass == BREAKER_PROBE;
    return true;
}

void protect_release(struct exchange *exchange, enum exchange_fate fate)
{
    const struct worker *worker = exchange->worker;
    struct version_state *state = &worker->proxy->version_states[exchange->version];
    const struct proxy_version *version = version_of(exchange);
    enum breaker_pass pass = exchange->probe ? BREAKER_PROBE : BREAKER_PASS;
    bool failed = fate == FATE_ERROR || exchange->faulty;
    exchange->admitted = false;
    if (exchange->limited)
        atomic_fetch_sub_explicit(&state->under_way, 1, memory_order_relaxed);
    if (version == NULL || fate == FATE_ABORTED)
        breaker_untold(&state->breaker, pass);
    else
        breaker_told(&state->breaker, &version->protection->breaker, worker_now_us(worker), pass, failed);
    if (failed || fate != FATE_OK || !is_same_endpoint(exchange->upstream))
        return;
    struct endpoint_state *endpoint = state_of(worker, exchange->upstream->pool->slot);
    if (atomic_load_explicit(&endpoint->failures, memory_order_relaxed) != 0)
        atomic_store_explicit(&endpoint->failures, 0, memory_order_relaxed);
}

// ---- the fallback ----

bool protect_fall_back(struct exchange *exchange)
{
    const struct proxy_table *table = exchange->worker->table;
    const struct proxy_service *service = table == NULL ? NULL : table->by_slot[exchange->service];
    if (service == NULL || service->protection == NULL || !service->protection->fallback ||
        exchange->operator_sent || exchange->fallen_back)
        return false;
    const struct proxy_version *canary = service->arms[ROLLOUT_ARM_CANARY];
    const struct proxy_version *stable = service->arms[ROLLOUT_ARM_STABLE];
    if (canary == NULL || canary == stable || canary->slot != exchange->version)
        return false;
    if (exchange->admitted)
        protect_release(exchange, FATE_ERROR);
    exchange->fallen_back = true;
    exchange->canary_attempts = exchange->attempts;
    exchange->version = stable->slot;
    version_count(exchange->counts, PROXY_VERSION_FALLBACKS, 1);
    return true;
}

// ---- for the engine's thread ----

void protect_forget(struct proxy *proxy, uint16_t version)
{
    breaker_forget(&proxy->version_states[version].breaker);
}

void proxy_endpoint_health_set(struct proxy *proxy, uint16_t endpoint, enum proxy_endpoint_health health,
                               uint64_t now_us)
{
    struct endpoint_state *state = &proxy->endpoint_states[endpoint];
    CHECK(endpoint < PROXY_ENDPOINTS_MAX);
    if (known_health(state) == health)
        return;
    if (health == PROXY_ENDPOINT_HEALTHY)
        atomic_store_explicit(&state->since_us, now_us, memory_order_relaxed);
    atomic_store_explicit(&state->health, (uint32_t)health, memory_order_relaxed);
}

void proxy_endpoint_begin(struct proxy *proxy, uint16_t endpoint, uint64_t now_us)
{
    CHECK(endpoint < PROXY_ENDPOINTS_MAX);
    struct endpoint_state *state = &proxy->endpoint_states[endpoint];
    atomic_store_explicit(&state->health, PROXY_ENDPOINT_HEALTHY, memory_order_relaxed);
    atomic_store_explicit(&state->failures, 0, memory_order_relaxed);
    atomic_store_explicit(&state->ejections, 0, memory_order_relaxed);
    atomic_store_explicit(&state->out_until_us, 0, memory_order_relaxed);
    atomic_store_explicit(&state->since_us, now_us, memory_order_relaxed);
}

void proxy_endpoint_get(const struct proxy *proxy, uint16_t endpoint, struct proxy_endpoint_view *view)
{
    CHECK(endpoint < PROXY_ENDPOINTS_MAX);
    const struct endpoint_state *state = &proxy->endpoint_states[endpoint];
    view->health = known_health(state);
    view->failures = atomic_load_explicit(&state->failures, memory_order_relaxed);
    view->out_until_us = atomic_load_explicit(&state->out_until_us, memory_order_relaxed);
}

enum breaker_phase proxy_breaker_phase(const struct proxy *proxy, uint16_t version)
{
    CHECK(version < PROXY_VERSIONS_MAX);
    return breaker_phase(&proxy->version_states[version].breaker);
}
