// SPDX-License-Identifier: Apache-2.0
// Spans and sums. Open spans stand in a ring in routing order; a closed one is taken out and lives on only in
// sums. Whatever a caller sends, the ring stays sorted by (tick, table) and nothing closed changes again.
#include <string.h>

#include "base/check.h"
#include "ship/rollout/rollout_private.h"
#include "stats/histogram.h"
#include "stats/real.h"

static void outcomes_forget(struct rollout *rollout)
{
    rollout->span_first = 0;
    rollout->span_count = 0;
    rollout->before = (struct rollout_totals){.all = {{.routed = 0}}};
    rollout->shared = rollout->before;
    rollout->full = rollout->before;
    memset(&rollout->bank, 0, sizeof rollout->bank);
    memset(&rollout->watch, 0, sizeof rollout->watch);
    memset(&rollout->alarm, 0, sizeof rollout->alarm);
    rollout->good_second = UINT64_MAX;
    memset(&rollout->judgement, 0, sizeof rollout->judgement);
}

void evidence_redefine(struct rollout *rollout, uint64_t table)
{
    rollout->table_first = table;
    outcomes_forget(rollout);
    evidence_stage_reset(rollout);
}

void evidence_reset(struct rollout *rollout)
{
    rollout->has_closed = rollout->tick > 0;
    rollout->closed_tick = rollout->tick > 0 ? rollout->tick - 1 : 0;
    rollout->closed_table = UINT64_MAX;
    rollout->spans_lost = 0;
    rollout->spans_ignored = 0;
    rollout->baseline_count = 0;
    rollout->canary_since_ms = 0;
    rollout->canary_awake_ms = 0;
    rollout->blocked = false;
    evidence_edges_set(rollout, &(struct rollout_edges){.requests = 0});
    memset(rollout->routed, 0, sizeof rollout->routed);
    outcomes_forget(rollout);
    stats_srm_init(&rollout->srm, ROLLOUT_ARMS);
    rollout->srm_restarts = 0;
    evidence_stage_reset(rollout);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void evidence_edges_set(struct rollout *rollout, const struct rollout_edges *edges)
{
    const struct rollout_spec *spec = &rollout->spec;
    struct rollout_yardstick *by = &rollout->yardstick;
    *by = (struct rollout_yardstick){.edges = *edges,
                                     .deadline_us = spec->deadline_ms * 1000,
                                     .error_window_us = spec->errors.window_ms * 1000};
    for (int k = 0; edges->requests > 0 && k < ROLLOUT_EDGES; k++) {
        uint64_t edge_us = edges->edge_us[k];
        uint64_t slacked_us = edge_us + spec->latency.slack_ms * 1000;
        by->worse_us[k] = larger(stats_histogram_edge_scale(edge_us, spec->latency.worse), slacked_us);
        by->margin_us[k] = larger(stats_histogram_edge_scale(edge_us, spec->latency.margin), slacked_us);
    }
}

void evidence_stage_reset(struct rollout *rollout)
{
    memset(rollout->stage_routed, 0, sizeof rollout->stage_routed);
    rollout->in_stage = (struct rollout_totals){.all = {{.routed = 0}}};
    rollout->stage_canary_since_ms = 0;
}

enum rollout_arm evidence_baseline_arm(const struct rollout *rollout)
{
    bool control = rollout->spec.control;
    return control ? ROLLOUT_ARM_CONTROL : ROLLOUT_ARM_STABLE;
}

// ---- the ring ----

static int name_compare(uint64_t tick_a, uint64_t table_a, uint64_t tick_b, uint64_t table_b)
{
    if (tick_a != tick_b)
        return tick_a < tick_b ? -1 : 1;
    if (table_a != table_b)
        return table_a < table_b ? -1 : 1;
    return 0;
}

// First position whose name is not below (tick, table).
static uint32_t ring_find(struct rollout *rollout, uint64_t tick, uint64_t table)
{
    uint32_t low = 0;
    uint32_t high = rollout->span_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const struct rollout_span *span = evidence_span(rollout, middle);
        if (name_compare(span->tick, span->table, tick, table) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct rollout_span *evidence_take_oldest(struct rollout *rollout)
{
    struct rollout_span *span = evidence_span(rollout, 0);
    rollout->has_closed = true;
    rollout->closed_tick = span->tick;
    rollout->closed_table = span->table;
    rollout->span_first = (rollout->span_first + 1) % ROLLOUT_SPANS_OPEN_MAX;
    rollout->span_count--;
    return span;
}

static struct rollout_span *ring_insert(struct rollout *rollout, uint32_t at)
{
    CHECK(rollout->span_count < ROLLOUT_SPANS_OPEN_MAX && at <= rollout->span_count);
    rollout->span_count++;
    for (uint32_t i = rollout->span_count - 1; i > at; i--)
        *evidence_span(rollout, i) = *evidence_span(rollout, i - 1);
    return evidence_span(rollout, at);
}

static bool delta_fits(const struct rollout *rollout, const struct rollout_span_delta *delta)
{
    if (delta->weight > ROLLOUT_WEIGHT_FULL || delta->weight_control > ROLLOUT_WEIGHT_FULL - delta->weight)
        return false;
    if (delta->tick > rollout->tick)
        return false;
    return !rollout->has_closed ||
           name_compare(delta->tick, delta->table, rollout->closed_tick, rollout->closed_table) > 0;
}

// The open span of that name, or NULL; *at: where it stands or would stand.
static struct rollout_span *span_find(struct rollout *rollout, const struct rollout_span_delta *delta,
                                      uint32_t *at)
{
    *at = ring_find(rollout, delta->tick, delta->table);
    struct rollout_span *span = *at < rollout->span_count ? evidence_span(rollout, *at) : NULL;
    bool found = span != NULL && name_compare(span->tick, span->table, delta->tick, delta->table) == 0;
    return found ? span : NULL;
}

bool evidence_lacks_room(struct rollout *rollout, const struct rollout_span_delta *delta)
{
    uint32_t at;
    return rollout->span_count == ROLLOUT_SPANS_OPEN_MAX && delta->table >= rollout->table_first &&
           delta_fits(rollout, delta) && span_find(rollout, delta, &at) == NULL && at > 0;
}

void evidence_rates(const struct rollout *rollout, float rates[KERNELS])
{
    static const float tails[ROLLOUT_EDGES] = {0.5f, 0.1f, 0.01f, 0.001f};
    static const double prior_events = 10.0, prior_requests = 10000.0;
    enum rollout_arm arm = evidence_baseline_arm(rollout);
    const struct rollout_sums *before = &rollout->before.all[arm], *shared = &rollout->shared.all[arm];
    double completed = (double)before->completed + (double)shared->completed;
    double events[KERNELS] = {
        [KERNEL_ERRORS] = (double)before->error_events + (double)shared->error_events,
        [KERNEL_THROUGHPUT] = completed - (double)before->good - (double)shared->good,
        [KERNEL_REDIRECTS] = (double)before->redirects + (double)shared->redirects,
        [KERNEL_CLIENT_ERRORS] = (double)before->client_errors + (double)shared->client_errors,
    };
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        double rate = (events[kernel] + prior_events) / (completed + prior_requests);
        rates[kernel] = (float)(rate < 0.0 ? 0.0 : rate < 1.0 ? rate : 1.0);
    }
    memcpy(rates + KERNEL_LATENCY, tails, sizeof tails);
}

static struct rollout_span *span_open(struct rollout *rollout, const struct rollout_span_delta *delta)
{
    uint32_t at;
    struct rollout_span *span = span_find(rollout, delta, &at);
    if (span != NULL || rollout->span_count == ROLLOUT_SPANS_OPEN_MAX)
        return span;
    span = ring_insert(rollout, at);
    *span = (struct rollout_span){
        .tick = delta->tick,
        .table = delta->table,
        .weight = delta->weight,
        .weight_control = delta->weight_control,
        // Weights grow from stage to stage, so the weight tells the stage.
        .stage = delta->weight > 0 && delta->weight == rollout->weight ? rollout->stage : ROLLOUT_STAGE_NONE,
    };
    evidence_rates(rollout, span->rates);
    return span;
}

// ---- sums ----

static void sums_add(struct rollout_sums *sums, const struct rollout_counts *counts)
{
    sums->routed += counts->routed;
    sums->excused += counts->excused;
    sums->completed += counts->completed;
    sums->errors += counts->errors;
    sums->error_events += counts->error_events;
    sums->failed += counts->failed;
    sums->good += counts->good;
    sums->redirects += counts->redirects;
    sums->client_errors += counts->client_errors;
    sums->unit_squares += counts->unit_squares;
    for (int k = 0; k < ROLLOUT_EDGES; k++) {
        sums->slow[k] += counts->slow[k];
        sums->slow_margin[k] += counts->slow_margin[k];
    }
}

static void totals_add(struct rollout_totals *totals, const struct rollout_span *span,
                       const struct rollout_span_delta *delta)
{
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
        sums_add(&totals->all[arm], &delta->arms[arm]);
        if (!span->warm)
            sums_add(&totals->judged[arm], &delta->arms[arm]);
    }
}

// With keyed assignment users are drawn, not requests: only a unit's first sighting is a draw.
static void srm_add(struct rollout *rollout, const struct rollout_span_delta *delta)
{
    if (delta->weight == 0 || delta->weight == ROLLOUT_WEIGHT_FULL)
        return;
    double weights[STATS_SRM_ARMS_MAX] = {
        [ROLLOUT_ARM_STABLE] = ROLLOUT_WEIGHT_FULL - delta->weight - delta->weight_control,
        [ROLLOUT_ARM_CANARY] = delta->weight,
        [ROLLOUT_ARM_CONTROL] = delta->weight_control,
    };
    uint64_t requests[STATS_SRM_ARMS_MAX];
    uint64_t any = 0;
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
        requests[arm] = rollout->spec.keyed ? delta->arms[arm].units : delta->arms[arm].routed;
        any |= requests[arm];
    }
    if (any != 0 && stats_srm_add(&rollout->srm, weights, requests) != STATUS_OK)
        rollout->spans_ignored++;
}

// Whether a span is in the warm-up depends on time alone, never on what the span holds, so both arms of it
// count or neither does.
static void note_canary(struct rollout *rollout, struct rollout_span *span,
                        const struct rollout_span_delta *delta)
{
    if (delta->arms[ROLLOUT_ARM_CANARY].routed > 0) {
        if (rollout->canary_since_ms == 0)
            rollout->canary_since_ms = rollout->now_ms;
        if (span->stage == rollout->stage && rollout->stage_canary_since_ms == 0)
            rollout->stage_canary_since_ms = rollout->now_ms;
    }
    if (span->weight > 0 && rollout->canary_awake_ms < rollout->spec.warmup_ms)
        span->warm = true;
}

void evidence_add(struct rollout *rollout, const struct rollout_span_delta *delta)
{
    if (delta->table < rollout->table_first)
        return;
    struct rollout_span *span = delta_fits(rollout, delta) ? span_open(rollout, delta) : NULL;
    if (span == NULL || span->weight != delta->weight || span->weight_control != delta->weight_control) {
        rollout->spans_ignored++;
        return;
    }
    note_canary(rollout, span, delta);
    struct rollout_span *counted = span;
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
        struct rollout_counts counts = delta->arms[arm];
        sums_add(&counted->arms[arm], &counts);
        rollout->routed[arm] += delta->arms[arm].routed;
        if (span->stage == rollout->stage)
            rollout->stage_routed[arm] += delta->arms[arm].routed;
    }
    struct rollout_totals *totals = span->weight == 0                     ? &rollout->before
                                    : span->weight == ROLLOUT_WEIGHT_FULL ? &rollout->full
                                                                          : &rollout->shared;
    totals_add(totals, span, delta);
    if (span->stage == rollout->stage)
        totals_add(&rollout->in_stage, span, delta);
    srm_add(rollout, delta);
}

// ---- facts ----

// Judged requests and bad events of one arm, for one kernel.
struct arm_events {
    uint64_t judged;
    uint64_t events;
};

static uint64_t known_events(const struct rollout_sums *sums, int kernel, bool margin)
{
    switch (kernel) {
    case KERNEL_ERRORS:
        return margin ? sums->failed : sums->error_events;
    case KERNEL_THROUGHPUT:
        return sums->completed > sums->good ? sums->completed - sums->good : 0;
    case KERNEL_REDIRECTS:
        return sums->redirects;
    case KERNEL_CLIENT_ERRORS:
        return sums->client_errors;
    default:
        return margin ? sums->slow_margin[kernel - KERNEL_LATENCY] : sums->slow[kernel - KERNEL_LATENCY];
    }
}

uint64_t evidence_events(const struct rollout_sums *sums, int kernel)
{
    return known_events(sums, kernel, false);
}

// A status that never came is none of these; of all else a request that is not answered is an event in the
// end.
static bool missing_is_event(int kernel)
{
    return kernel != KERNEL_REDIRECTS && kernel != KERNEL_CLIENT_ERRORS;
}

// How long the youngest request of the span has waited.
static uint64_t span_age_us(const struct rollout *rollout, const struct rollout_span *span)
{
    uint64_t ticks = rollout->tick > span->tick ? rollout->tick - span->tick - 1 : 0;
    return ticks * ROLLOUT_TICK_MS * 1000;
}

// A pending canary request that has waited past its limit is slow already, however it ends: a version that
// hangs is seen before any deadline.
static bool is_slow_by_age(const struct rollout *rollout, const struct rollout_span *span, int kernel)
{
    const struct rollout_yardstick *by = &rollout->yardstick;
    return kernel >= KERNEL_LATENCY && kernel < KERNEL_THROUGHPUT && by->edges.requests > 0 &&
           span_age_us(rollout, span) > by->worse_us[kernel - KERNEL_LATENCY];
}

static void facts_of_kernel(const struct rollout *rollout, const struct rollout_span *span, int kernel,
                            bool over, struct rollout_facts *facts)
{
    const struct rollout_sums *canary = &span->arms[ROLLOUT_ARM_CANARY];
    const struct rollout_sums *baseline = &span->arms[evidence_baseline_arm(rollout)];
    uint64_t pending_canary = missing_is_event(kernel) ? evidence_pending(canary) : 0;
    uint64_t pending_baseline = missing_is_event(kernel) ? evidence_pending(baseline) : 0;
    bool canary_bad = over || is_slow_by_age(rollout, span, kernel);
    facts->bad.canary_judged[kernel] = facts->good.canary_judged[kernel] = evidence_judged(canary);
    facts->bad.baseline_judged[kernel] = facts->good.baseline_judged[kernel] = evidence_judged(baseline);
    facts->bad.canary[kernel] = known_events(canary, kernel, false) + (canary_bad ? pending_canary : 0);
    facts->bad.baseline[kernel] = known_events(baseline, kernel, false) + pending_baseline;
    facts->good.canary[kernel] = known_events(canary, kernel, true) + pending_canary;
    // Of latency both arms' own limits count: the canary's margin against the baseline's edge.
    facts->good.baseline[kernel] =
        known_events(baseline, kernel, kernel == KERNEL_ERRORS) + (over ? pending_baseline : 0);
}

// A request without an outcome is imputed: E_bad takes a pending baseline request as the worst and a pending
// canary request as the best it can become, which can only lower it; E_good the other way round. So whatever
// the order of completions, E on a prefix is never above its value once all is known, and the bound on the
// supremum over prefixes holds for what is looked at now. (An answer counts when it begins: one of the
// baseline that breaks off later lowers E_bad after it was looked at, by as little as there are such.)
void evidence_facts(const struct rollout *rollout, const struct rollout_span *span,
                    enum rollout_imputing imputing, struct rollout_facts *facts)
{
    bool over = imputing == IMPUTE_TIMED_OUT;
    *facts = (struct rollout_facts){.error_events = 0};
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        enum rollout_check_kind check = votes_check_of(kernel);
        bool cold = span->warm && (check == CHECK_LATENCY || check == CHECK_THROUGHPUT);
        if (!cold && judge_check_on(rollout, check))
            facts_of_kernel(rollout, span, kernel, over, facts);
    }
    const struct rollout_sums *canary = &span->arms[ROLLOUT_ARM_CANARY];
    facts->error_events = canary->error_events + evidence_pending(canary);
}

// ---- closing ----

bool evidence_complete(const struct rollout_span *span)
{
    for (int arm = 0; arm < ROLLOUT_ARMS; arm++)
        if (evidence_pending(&span->arms[arm]) > 0)
            return false;
    return true;
}

struct rollout_span *evidence_take_over(struct rollout *rollout)
{
    uint64_t deadline = (rollout->spec.deadline_ms + ROLLOUT_TICK_MS - 1) / ROLLOUT_TICK_MS;
    if (rollout->span_count == 0)
        return NULL;
    const struct rollout_span *span = evidence_span(rollout, 0);
    uint64_t age = rollout->tick - span->tick;
    // A request routed at the end of its tick is one tick younger than its span.
    if (age <= deadline && !(age > ROLLOUT_SETTLE_TICKS && evidence_complete(span)))
        return NULL;
    return evidence_take_oldest(rollout);
}

void evidence_forget_open(struct rollout *rollout)
{
    rollout->span_count = 0;
    rollout->has_closed = false;
    rollout->tick = rollout->table_first = 0;
}

// The new process would draw the same lot again and call it fresh draws: with enough restarts every lot looks
// broken. Each process is a test of its own, and the n-th restart starts at 1 / n (n + 1): as these sum to 1,
// all restarts together block a sound split no more often than the first process may.
void evidence_strangers(struct rollout *rollout)
{
    if (!rollout->spec.keyed)
        return;
    stats_srm_init(&rollout->srm, ROLLOUT_ARMS);
    double n = (double)++rollout->srm_restarts;
    rollout->srm.closed_log_e = -stats_ln(n * (n + 1.0));
}

uint64_t evidence_canary_pending(struct rollout *rollout)
{
    uint64_t pending = 0;
    for (uint32_t i = 0; i < rollout->span_count; i++)
        pending += evidence_pending(&evidence_span(rollout, i)->arms[ROLLOUT_ARM_CANARY]);
    return pending;
}
