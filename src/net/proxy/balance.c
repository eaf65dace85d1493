// SPDX-License-Identifier: Apache-2.0
// See balance.h. Invariant: endpoints that are drained are never among those that are drawn, for they stand
// behind them.
#include "net/proxy/balance.h"

// Constant, so that every process and every start spreads keys alike.
static const struct siphash_key KEY = {0x736c756963650001, 0x62616c616e636572};

uint64_t balance_hash(const struct io_addr *addr)
{
    return siphash(KEY, addr->bytes, addr->len);
}

// ---- by weight ----

// The endpoint that has the place: those before it have fewer places altogether.
static uint32_t at_place(const struct proxy_version *version, uint32_t reach, uint32_t place)
{
    uint32_t low = 0, high = reach - 1;
    while (low < high) {
        uint32_t middle = (low + high + 1) / 2;
        if (version->endpoints[middle].before <= place)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static struct balance_pair draw_weighted(const struct proxy_version *version, uint32_t reach, struct rng *rng)
{
    const struct proxy_endpoint *last = &version->endpoints[reach - 1];
    uint32_t all = last->before + last->weight;
    uint32_t first = at_place(version, reach, (uint32_t)rng_below(rng, all));
    const struct proxy_endpoint *taken = &version->endpoints[first];
    uint32_t place = (uint32_t)rng_below(rng, all - taken->weight);
    if (place >= taken->before)
        place += taken->weight;
    return (struct balance_pair){first, at_place(version, reach, place)};
}

struct balance_pair balance_draw(const struct proxy_version *version, uint32_t reach, struct rng *rng)
{
    if (reach == 1)
        return (struct balance_pair){0, 0};
    if (UNLIKELY(version->weighted))
        return draw_weighted(version, reach, rng);
    uint32_t first = (uint32_t)rng_below(rng, reach);
    return (struct balance_pair){first, (first + 1 + (uint32_t)rng_below(rng, reach - 1)) % reach};
}

static bool is_fresh(const struct pool *pool, uint64_t now_us)
{
    return pool->measured_us + BALANCE_FRESH_US > now_us;
}

static bool is_known(const struct pool *pool, uint64_t now_us)
{
    return pool->measured == BALANCE_ANSWERS && is_fresh(pool, now_us);
}

static bool is_much_slower(const struct worker *worker, const struct pool *a, const struct pool *b)
{
    uint64_t now_us = worker_now_us(worker);
    return is_known(a, now_us) && is_known(b, now_us) &&
           a->latency_us > BALANCE_SLOWER_TIMES * b->latency_us &&
           a->latency_us - b->latency_us > BALANCE_SLOWER_US;
}

const struct proxy_endpoint *balance_of_two(const struct worker *worker, const struct proxy_endpoint *a,
                                            const struct proxy_endpoint *b)
{
    const struct pool *pool_a = worker->pools[a->slot], *pool_b = worker->pools[b->slot];
    uint64_t busy_a = (uint64_t)pool_a->active * b->weight, busy_b = (uint64_t)pool_b->active * a->weight;
    if (busy_a != busy_b)
        return busy_a < busy_b ? a : b;
    return is_much_slower(worker, pool_a, pool_b) ? b : a;
}

void balance_measured(struct exchange *exchange, uint64_t waited_us)
{
    struct pool *pool = exchange->upstream->pool;
    uint64_t now_us = worker_now_us(exchange->worker);
    if (UNLIKELY(exchange->upstream->generation != pool->generation))
        return; // that was another address
    uint64_t tried_us = now_us > exchange->attempt_us ? now_us - exchange->attempt_us : 0;
    if (UNLIKELY(waited_us > tried_us)) // an earlier attempt took the rest of it
        waited_us = tried_us;
    if (UNLIKELY(!is_fresh(pool, now_us)))
        pool->measured = 0;
    if (UNLIKELY(pool->measured < BALANCE_ANSWERS))
        pool->measured++;
    pool->latency_us += waited_us / pool->measured - pool->latency_us / pool->measured;
    pool->measured_us = now_us;
}

// ---- by key ----

// The natural logarithm of a number in (0, 1), by the series of the area hyperbolic tangent: 1e-6 is more
// than a share of keys needs.
static double logarithm(double x)
{
    static const double LN2 = 0.693147180559945309;
    int halvings = 0;
    for (; x < 0.5; x *= 2)
        halvings++;
    double s = (x - 1) / (x + 1), q = s * s;
    return 2 * s * (1 + q * (1.0 / 3 + q * (1.0 / 5 + q * (1.0 / 7 + q / 9)))) - halvings * LN2;
}

// Grows with the weight so that the highest of several is each one's with the probability of its weight.
static double score_of(const struct proxy_version *version, const struct proxy_endpoint *endpoint,
                       uint64_t key)
{
    uint64_t mix = endpoint->hash ^ key;
    double drawn =
        ((double)(rng_splitmix(&mix) >> 12) + 0.5) / 4503599627370496.0; // of 52 bits, never 0 or 1
    return version->weighted ? -(double)endpoint->weight / logarithm(drawn) : drawn;
}

const struct proxy_endpoint *balance_by_key(const struct proxy_version *version, uint64_t key,
                                            balance_usable *usable, void *context)
{
    const struct proxy_endpoint *best = NULL;
    double highest = 0;
    for (uint32_t i = 0; i < version->endpoint_count; i++) {
        const struct proxy_endpoint *endpoint = &version->endpoints[i];
        double score = score_of(version, endpoint, key);
        if ((best == NULL || score > highest) && (usable == NULL || usable(context, endpoint))) {
            best = endpoint;
            highest = score;
        }
    }
    return best;
}

void balance_take_key(struct exchange *exchange, const struct proxy_service *service)
{
    struct slice value;
    exchange->hashed = request_attribute(exchange, service->hash, &value) && value.len > 0;
    if (exchange->hashed)
        exchange->hash = siphash(KEY, value.data, value.len);
}
