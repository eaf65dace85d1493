// SPDX-License-Identifier: Apache-2.0
// What status, API and the live terminal read, and the words for states, commands and outcomes.
#include <string.h>

#include "base/check.h"
#include "ship/rollout/rollout_private.h"
#include "stats/real.h"

const struct rollout_spec *rollout_spec_of(const struct rollout *rollout)
{
    return &rollout->spec;
}

void rollout_yardstick_get(const struct rollout *rollout, struct rollout_yardstick *yardstick)
{
    *yardstick = rollout->yardstick;
}

// A view's number for JSON: neither the "not looked yet" nor an infinity leaves the module.
static double presentable(double log_e)
{
    if (!(log_e > -1e299))
        return 0.0;
    return log_e < 1e300 ? log_e : 1e300;
}

// The kernel whose counts stand for a check: of latency, slower than the baseline's p99.
static int kernel_shown(enum rollout_check_kind check)
{
    static const int shown[CHECKS] = {
        [CHECK_ERRORS] = KERNEL_ERRORS,
        [CHECK_LATENCY] = KERNEL_LATENCY + 2,
        [CHECK_THROUGHPUT] = KERNEL_THROUGHPUT,
        [CHECK_STATUSES] = KERNEL_CLIENT_ERRORS,
    };
    return shown[check];
}

static void view_check(const struct rollout *rollout, enum rollout_check_kind check,
                       struct rollout_check_view *view)
{
    static const char *const names[CHECKS] = {"errors", "latency", "throughput", "statuses"};
    const struct rollout_judgement *judgement = &rollout->judgement;
    const struct rollout_totals *shared = &rollout->shared;
    bool cold = check == CHECK_LATENCY || check == CHECK_THROUGHPUT;
    const struct rollout_sums *arms = cold ? shared->judged : shared->all;
    const struct rollout_sums *canary = &arms[ROLLOUT_ARM_CANARY];
    const struct rollout_sums *baseline = &arms[evidence_baseline_arm(rollout)];
    int kernel = kernel_shown(check);
    *view = (struct rollout_check_view){
        .log_e_bad = presentable(judgement->log_bad_check[check]),
        .log_e_good = presentable(judgement->log_good[check]),
        .log_e_good_needed = judge_good_needed(rollout, check),
        .good = rollout->good[check],
        .canary_events = evidence_events(canary, kernel),
        .canary_total = canary->completed,
        .baseline_events = evidence_events(baseline, kernel),
        .baseline_total = baseline->completed,
        .more_requests = judge_more_requests(rollout, check),
    };
    memcpy(view->name, names[check], strlen(names[check]) + 1);
}

static void view_shadow(const struct rollout *rollout, struct rollout_shadow_view *view)
{
    const struct rollout_shadow *shadow = &rollout->shadow;
    view->on = shadow->on;
    view->has_been = shadow->has_been;
    if (!view->has_been)
        return;
    view->sent = shadow->sent;
    view->uncompared = shadow->uncompared;
    view->dropped = shadow->dropped;
    view->candidate_answered = shadow->candidate_answered;
    view->candidate_errors = shadow->candidate_errors;
    view->primary_errors = shadow->primary_errors;
    view->compared = shadow->triples + shadow->pairs;
    view->compared_needed = rollout_spec_shadow(&rollout->spec)->shadow.compared;
    view->triples = shadow->triples;
    view->paths = shadow->path_count;
    view->different = shadow->different;
    view->noisy = shadow->noisy;
    view->suspected = shadow->suspected;
    if (shadow->path_count > 0)
        view->log_e = presentable(shadow->judgements[0].log_e + shadow->judgements[0].log_weight);
    view->log_e_needed = copies_needed(rollout);
    view->found = presentable(copies_found(rollout));
}

void rollout_view_get(const struct rollout *rollout, struct rollout_view *view)
{
    *view = (struct rollout_view){
        .state = rollout->state,
        .stage = rollout->stage,
        .weight = rollout->weight,
        .started_ms = rollout->started_ms,
        .stage_since_ms = rollout->stage_since_ms,
        .stage_watched_ms = rollout->stage_watched_ms,
        .quiet_ms = rollout->quiet_ms,
        .state_since_ms = rollout->state_since_ms,
        .redefined_ms = rollout->redefined_ms,
        .ring_stages = rollout->ring_stages,
        .log_e_srm = presentable(stats_srm_log_e(&rollout->srm)),
        .blocked = rollout->blocked,
        .edges = rollout->yardstick.edges,
        .spans_lost = rollout->spans_lost,
        .spans_ignored = rollout->spans_ignored,
        .baseline_count = rollout->baseline_count,
        .last = rollout->last,
    };
    memcpy(view->routed, rollout->routed, sizeof view->routed);
    memcpy(view->stage_routed, rollout->stage_routed, sizeof view->stage_routed);
    uint64_t pending = 0;
    for (uint32_t i = 0; i < rollout->span_count; i++) {
        uint32_t at = (rollout->span_first + i) % ROLLOUT_SPANS_OPEN_MAX;
        pending += evidence_pending(&rollout->spans[at].arms[ROLLOUT_ARM_CANARY]);
    }
    view->pending.routed = pending < UINT32_MAX ? (uint32_t)pending : UINT32_MAX;
    if (!rollout->has_spec)
        return;
    view_shadow(rollout, &view->shadow);
    view->log_e_bad = presentable(rollout->judgement.log_bad);
    view->log_e_bad_needed = judge_bad_needed(rollout);
    if (rollout->watch.on) {
        view->log_e_bad = presentable(rollout->judgement.log_watch);
        view->log_e_bad_needed = rollout->watch.threshold;
    }
    for (int i = 0; i < CHECKS; i++) {
        enum rollout_check_kind check = (enum rollout_check_kind)i;
        if (judge_check_on(rollout, check))
            view_check(rollout, check, &view->checks[view->check_count++]);
    }
}

const char *rollout_state_name(enum rollout_state state)
{
    static const char *const names[ROLLOUT_STATES] = {
        [ROLLOUT_PENDING] = "Pending",
        [ROLLOUT_BASELINE] = "Baseline",
        [ROLLOUT_SHIFTING] = "Shifting",
        [ROLLOUT_AWAITING_APPROVAL] = "AwaitingApproval",
        [ROLLOUT_PAUSED] = "Paused",
        [ROLLOUT_UNDECIDED] = "Undecided",
        [ROLLOUT_SOAKING] = "Soaking",
        [ROLLOUT_COMPLETED] = "Completed",
        [ROLLOUT_ROLLING_BACK] = "RollingBack",
        [ROLLOUT_ROLLED_BACK] = "RolledBack",
        [ROLLOUT_SEGMENT] = "Segment",
        [ROLLOUT_SHADOW] = "Shadow",
    };
    return (unsigned)state < ROLLOUT_STATES ? names[state] : "Unknown";
}

static const char *const command_names[ROLLOUT_COMMANDS] = {
    [ROLLOUT_COMMAND_START] = "start",     [ROLLOUT_COMMAND_PAUSE] = "pause",
    [ROLLOUT_COMMAND_RESUME] = "resume",   [ROLLOUT_COMMAND_PROMOTE] = "promote",
    [ROLLOUT_COMMAND_ABORT] = "abort",     [ROLLOUT_COMMAND_UNDO] = "undo",
    [ROLLOUT_COMMAND_APPROVE] = "approve",
};

const char *rollout_command_name(enum rollout_command command)
{
    return (unsigned)command < ROLLOUT_COMMANDS ? command_names[command] : "unknown";
}

enum status rollout_command_parse(struct slice word, enum rollout_command *command)
{
    for (int i = 0; i < ROLLOUT_COMMANDS; i++) {
        if (!slice_equal(word, slice_of(command_names[i])))
            continue;
        *command = (enum rollout_command)i;
        return STATUS_OK;
    }
    return STATUS_NOT_FOUND;
}

const char *rollout_outcome_name(enum rollout_outcome outcome)
{
    static const char *const names[ROLLOUT_OUTCOMES] = {
        [ROLLOUT_OUTCOME_NONE] = "none",           [ROLLOUT_OUTCOME_STARTED] = "started",
        [ROLLOUT_OUTCOME_PROMOTED] = "promoted",   [ROLLOUT_OUTCOME_ROLLED_BACK] = "rolled back",
        [ROLLOUT_OUTCOME_UNDECIDED] = "undecided", [ROLLOUT_OUTCOME_OPERATOR] = "operator",
        [ROLLOUT_OUTCOME_COMPLETED] = "completed", [ROLLOUT_OUTCOME_BLOCKED] = "blocked",
    };
    return (unsigned)outcome < ROLLOUT_OUTCOMES ? names[outcome] : "unknown";
}

bool rollout_state_is_final(enum rollout_state state)
{
    return state == ROLLOUT_COMPLETED || state == ROLLOUT_ROLLED_BACK;
}
