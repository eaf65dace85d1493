// SPDX-License-Identifier: Apache-2.0
// The stage in the shadow: from what mirrored requests showed to what the machine decides. Paths that differ
// are judged by the differ's own rule (ship/diff/judge.h). Errors and slow answers go the way of live ones:
// each pair of answers is a request of either arm, a second is one vote, and what moving on may cost is shown
// before it moves.
#include <string.h>

#include "base/check.h"
#include "ship/rollout/rollout_private.h"
#include "stats/real.h"

// Of the stage's alpha; the other half is for errors and latency.
static const double ALPHA_PART = 0.5;
// Standard deviations that "95 % sure" is.
static const double FOUND_SURE = 1.6448536269514722;

void copies_begin(struct rollout *rollout)
{
    memset(&rollout->shadow, 0, sizeof rollout->shadow);
    rollout->shadow.on = rollout->shadow.has_been = true;
    diff_tests_init(&rollout->shadow.tests);
}

static void paths_forget(struct rollout_shadow *shadow)
{
    shadow->triples = shadow->pairs = 0;
    shadow->path_count = shadow->different = shadow->noisy = shadow->suspected = 0;
    memset(shadow->rows, 0, sizeof shadow->rows);
}

void copies_restart(struct rollout *rollout)
{
    if (!rollout->shadow.on)
        return;
    rollout->shadow.restarts++;
    paths_forget(&rollout->shadow);
}

void copies_end(struct rollout *rollout)
{
    if (!rollout->shadow.on)
        return;
    rollout->shadow.on = false;
    // Live requests are compared by evidence of their own.
    memset(&rollout->bank, 0, sizeof rollout->bank);
    memset(&rollout->judgement, 0, sizeof rollout->judgement);
    rollout->good_second = UINT64_MAX;
}

// ---- what differs ----

// Each time the differ begins afresh is a test of its own, the n-th at 1 / n (n + 1) of alpha: all of them
// together call equal versions different no more often than alpha says.
static double alpha_after(const struct rollout_spec *spec, uint32_t restarts)
{
    double n = (double)restarts + 1.0;
    return ALPHA_PART * spec->diff.alpha / (n * (n + 1.0));
}

double rollout_shadow_alpha(const struct rollout_spec *spec)
{
    return alpha_after(spec, 0);
}

static double alpha_now(const struct rollout *rollout)
{
    return alpha_after(&rollout->spec, rollout->shadow.restarts);
}

double copies_needed(const struct rollout *rollout)
{
    return -stats_ln(alpha_now(rollout));
}

static void paths_judge(struct rollout *rollout)
{
    struct rollout_shadow *shadow = &rollout->shadow;
    double beta = rollout->spec.beta;
    uint32_t count = 0;
    for (uint32_t i = 0; i < DIFF_ROWS_MAX; i++) {
        const struct rollout_shadow_row *row = &shadow->rows[i];
        const struct diff_counts counts = {row->rank, row->both, row->candidate, row->secondary};
        if (row->rank > 0)
            shadow->judgements[count++] = diff_weigh(&shadow->tests, i, &counts);
    }
    diff_judge(shadow->judgements, count, alpha_now(rollout), beta);
    shadow->path_count = count;
    shadow->different = shadow->noisy = shadow->suspected = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct diff_judgement *judged = &shadow->judgements[i];
        shadow->different += judged->verdict == DIFF_DIFFERENT;
        shadow->noisy += judged->verdict == DIFF_NOISY;
        shadow->suspected +=
            judged->verdict != DIFF_DIFFERENT && judged->log_e + judged->log_weight >= -stats_ln(beta);
    }
}

// ---- errors and latency ----

static uint64_t at_most(uint64_t value, uint64_t most)
{
    return value < most ? value : most;
}

static void pairs_set(struct rollout_pairs *pairs, int kernel, const struct rollout_shadow_delta *delta,
                      uint64_t candidate, uint64_t primary)
{
    pairs->canary_judged[kernel] = pairs->baseline_judged[kernel] = delta->sent;
    pairs->canary[kernel] = at_most(candidate, delta->sent);
    pairs->baseline[kernel] = at_most(primary, delta->sent);
}

// What differs between the arms of a pair is all that the tests look at, so events that both answers share
// may be left out, as latency's are, or not, as errors' are not: they lower the evidence by less than they
// are, and never raise it.
static void pairs_take(struct rollout *rollout, const struct rollout_shadow_delta *delta)
{
    struct rollout_span span = {
        .tick = rollout->tick,
        .weight = ROLLOUT_WEIGHT_FULL / 2,
        .weight_control = rollout->spec.control ? ROLLOUT_WEIGHT_FULL / 2 : 0,
        .stage = rollout->stage,
    };
    struct rollout_facts facts = {.error_events = at_most(delta->candidate_errors, delta->sent)};
    evidence_rates(rollout, span.rates);
    span.arms[ROLLOUT_ARM_CANARY].completed = delta->sent;
    span.arms[ROLLOUT_ARM_CANARY].good = delta->sent - facts.error_events;
    pairs_set(&facts.bad, KERNEL_ERRORS, delta, delta->candidate_errors, delta->primary_errors);
    for (int k = 0; k < ROLLOUT_EDGES; k++)
        pairs_set(&facts.bad, KERNEL_LATENCY + k, delta, delta->slow_candidate[k], delta->slow_primary[k]);
    facts.good = facts.bad;
    votes_add(rollout, &span, &facts, &rollout->bank);
}

void copies_take(struct rollout *rollout, const struct rollout_shadow_delta *delta)
{
    struct rollout_shadow *shadow = &rollout->shadow;
    shadow->sent += delta->sent;
    shadow->uncompared += delta->uncompared;
    shadow->dropped += delta->dropped;
    shadow->candidate_answered += delta->candidate_answered;
    shadow->candidate_errors += delta->candidate_errors;
    shadow->primary_errors += delta->primary_errors;
    shadow->triples += delta->triples;
    shadow->pairs += delta->pairs;
    if (delta->sent > 0 && rollout->stage_canary_since_ms == 0)
        rollout->stage_canary_since_ms = rollout->now_ms;
    if (delta->sent > 0)
        pairs_take(rollout, delta);
    for (uint32_t i = 0; i < delta->row_count; i++)
        if (delta->rows[i].row < DIFF_ROWS_MAX)
            shadow->rows[delta->rows[i].row] = delta->rows[i];
    if (delta->row_count > 0)
        paths_judge(rollout);
}

// ---- forward ----

bool copies_good(const struct rollout *rollout)
{
    const struct rollout_shadow *shadow = &rollout->shadow;
    return shadow->triples + shadow->pairs >= rollout_spec_shadow(&rollout->spec)->shadow.compared &&
           shadow->different == 0 && shadow->suspected == 0;
}

// So many differences call the first path different; their number varies by its root.
static double found_among(double alpha, double triples)
{
    struct diff_tests tests;
    diff_tests_init(&tests);
    if (!(triples >= 1.0))
        return 2.0;
    double least = (double)diff_least(&tests, alpha);
    double root = 0.5 * (FOUND_SURE + __builtin_sqrt(FOUND_SURE * FOUND_SURE + 4.0 * least));
    return root * root / triples;
}

double copies_found(const struct rollout *rollout)
{
    return found_among(alpha_now(rollout), (double)rollout->shadow.triples);
}

double rollout_shadow_found(const struct rollout_spec *spec, double triples)
{
    return found_among(rollout_shadow_alpha(spec), triples);
}
