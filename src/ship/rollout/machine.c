// SPDX-License-Identifier: Apache-2.0
// The state machine. Stages only go forward or back to zero; a rolled back rollout has weight zero; rollback
// wins ties. Those three are checked after every step, whatever came in.
#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "ship/rollout/rollout_private.h"
#include "stats/real.h"

size_t rollout_size(void)
{
    return sizeof(struct rollout);
}

void rollout_init(struct rollout *rollout)
{
    memset(rollout, 0, sizeof *rollout);
    rollout->state = ROLLOUT_PENDING;
    evidence_reset(rollout);
}

// ---- moves ----

static void state_set(struct rollout *rollout, enum rollout_state state)
{
    rollout->state = state;
    rollout->state_since_ms = rollout->now_ms;
    rollout->state_awake_ms = 0;
}

static void run_reset(struct rollout *rollout)
{
    rollout->stage = 0;
    rollout->ring_stages = 0;
    rollout->weight = 0;
    rollout->started_ms = 0;
    rollout->redefined_ms = 0;
    rollout->stage_since_ms = 0;
    rollout->stage_awake_ms = rollout->stage_watched_ms = 0;
    rollout->quiet_ms = 0;
    rollout->clock_runs = false;
    rollout->terms_next = 0;
    memset(rollout->terms, 0, sizeof rollout->terms);
    memset(&rollout->shadow, 0, sizeof rollout->shadow);
    evidence_reset(rollout);
    state_set(rollout, ROLLOUT_PENDING);
}

static void stage_enter(struct rollout *rollout, uint32_t stage)
{
    const struct rollout_stage *entered = &rollout->spec.stages[stage];
    rollout->stage = stage;
    rollout->stage_since_ms = rollout->now_ms;
    rollout->stage_awake_ms = rollout->stage_watched_ms = 0;
    rollout->ring_stages = stage + 1;
    evidence_stage_reset(rollout);
    copies_end(rollout);
    if (entered->kind == ROLLOUT_STAGE_SHADOW) {
        copies_begin(rollout);
        judge_stage_start(rollout);
        state_set(rollout, ROLLOUT_SHADOW);
        return;
    }
    if (entered->kind == ROLLOUT_STAGE_APPROVE) {
        state_set(rollout, ROLLOUT_AWAITING_APPROVAL);
        return;
    }
    if (entered->kind == ROLLOUT_STAGE_SEGMENT) {
        state_set(rollout, ROLLOUT_SEGMENT);
        return;
    }
    CHECK(entered->weight > rollout->weight);
    rollout->weight = entered->weight;
    judge_stage_start(rollout);
    if (entered->weight < ROLLOUT_WEIGHT_FULL) {
        state_set(rollout, ROLLOUT_SHIFTING);
        return;
    }
    watch_start(rollout);
    state_set(rollout, ROLLOUT_SOAKING);
}

static void stage_leave(struct rollout *rollout)
{
    if (rollout->stage + 1 < rollout->spec.stage_count)
        stage_enter(rollout, rollout->stage + 1);
    else
        state_set(rollout, ROLLOUT_COMPLETED);
}

static void roll_back(struct rollout *rollout)
{
    rollout->weight = 0;
    rollout->ring_stages = 0;
    rollout->watch.on = false;
    rollout->shadow.on = false;
    state_set(rollout, ROLLOUT_ROLLING_BACK);
}

// ---- a tick's decision ----

static bool all_good(const struct rollout *rollout)
{
    for (int check = 0; check < CHECKS; check++)
        if (judge_check_on(rollout, (enum rollout_check_kind)check) && !rollout->good[check])
            return false;
    double shares[CHECKS];
    return rollout->shadow.on || judge_shares(rollout, shares) > 0.0; // what differs is compared anyway
}

static void promote_by_evidence(struct rollout *rollout, struct rollout_effects *effects)
{
    effects->has_verdict = true;
    verdict_promoted(rollout, &effects->verdict);
    stage_leave(rollout);
}

// Requests, and users, in either arm of this stage, without which nobody can say anything.
static bool has_data(const struct rollout *rollout)
{
    if (rollout->shadow.on)
        return rollout->shadow.triples >= ROLLOUT_JUDGED_MIN;
    const struct rollout_sums *arms = rollout->in_stage.all;
    return evidence_judged(&arms[ROLLOUT_ARM_CANARY]) >= ROLLOUT_JUDGED_MIN &&
           evidence_judged(&arms[evidence_baseline_arm(rollout)]) >= ROLLOUT_JUDGED_MIN &&
           judge_units_suffice(rollout);
}

static void leave_undecided(struct rollout *rollout, struct rollout_effects *effects)
{
    enum rollout_undecided policy = rollout->spec.undecided;
    // Neither with a broken assignment nor without data does anything go on by itself.
    if (policy == ROLLOUT_UNDECIDED_PROCEED && (rollout->blocked || !has_data(rollout)))
        policy = ROLLOUT_UNDECIDED_HOLD;
    effects->has_verdict = true;
    if (policy == ROLLOUT_UNDECIDED_ROLLBACK) {
        verdict_undecided(rollout, "rolled back, as `undecided: rollback` says", &effects->verdict);
        roll_back(rollout);
    } else if (policy == ROLLOUT_UNDECIDED_PROCEED) {
        verdict_undecided(rollout, "goes on, as `undecided: proceed` says", &effects->verdict);
        stage_leave(rollout);
    } else {
        verdict_undecided(rollout, "held", &effects->verdict);
        state_set(rollout, ROLLOUT_UNDECIDED);
    }
}

static void decide_forward(struct rollout *rollout, struct rollout_effects *effects)
{
    const struct rollout_stage *stage = &rollout->spec.stages[rollout->stage];
    bool good = !rollout->blocked && has_data(rollout) && all_good(rollout) &&
                (!rollout->shadow.on || copies_good(rollout));
    switch (rollout->state) {
    case ROLLOUT_SHADOW:
    case ROLLOUT_SHIFTING:
        if (good && rollout->stage_watched_ms >= stage->min_ms)
            promote_by_evidence(rollout, effects);
        else if (stage->horizon_ms > 0 && rollout->stage_awake_ms >= stage->horizon_ms)
            leave_undecided(rollout, effects);
        break;
    case ROLLOUT_UNDECIDED:
        if (good && rollout->stage_watched_ms >= stage->min_ms)
            promote_by_evidence(rollout, effects);
        break;
    case ROLLOUT_SEGMENT: // a ring is not drawn at random: only time moves it forward
        if (rollout->stage_awake_ms >= stage->min_ms)
            stage_leave(rollout);
        break;
    case ROLLOUT_SOAKING:
        if (rollout->stage_watched_ms >= stage->soak_ms && !rollout->blocked) {
            effects->has_verdict = true;
            verdict_completed(rollout, &effects->verdict);
            state_set(rollout, ROLLOUT_COMPLETED);
        }
        break;
    default:
        break;
    }
}

static bool decide_back(struct rollout *rollout, struct rollout_effects *effects)
{
    if (rollout->judgement.log_bad >= judge_bad_needed(rollout))
        verdict_rolled_back(rollout, &effects->verdict);
    else if (rollout->shadow.on && rollout->shadow.different > 0)
        verdict_different(rollout, &effects->verdict);
    else if (watch_outage(rollout))
        verdict_outage(rollout, &effects->verdict);
    else if (watch_evaluate(rollout))
        verdict_watch_alarm(rollout, &effects->verdict);
    else
        return false;
    effects->has_verdict = true;
    roll_back(rollout);
    return true;
}

// E of the sample ratio bounds its supremum: once broken, it stays so for the run.
static bool notice_block(struct rollout *rollout, struct rollout_effects *effects)
{
    if (rollout->blocked || stats_srm_log_e(&rollout->srm) < STATS_SRM_LOG_E_STOP)
        return false;
    rollout->blocked = true;
    effects->has_verdict = true;
    verdict_blocked(rollout, &effects->verdict);
    return true;
}

static void decide(struct rollout *rollout, bool hold, struct rollout_effects *effects)
{
    if (rollout->state == ROLLOUT_ROLLING_BACK) {
        uint64_t waited = rollout->state_awake_ms;
        bool drained = waited >= ROLLOUT_DRAIN_MS_MIN && evidence_canary_pending(rollout) == 0;
        if (drained || waited >= rollout->spec.drain_ms)
            state_set(rollout, ROLLOUT_ROLLED_BACK);
        return;
    }
    judge_evaluate(rollout);
    // A broken assignment withholds promotion only: a version that fails goes back, however it came by its
    // requests.
    if (decide_back(rollout, effects) || hold || notice_block(rollout, effects))
        return;
    for (int check = 0; check < CHECKS; check++)
        if (rollout->judgement.log_good[check] >= judge_good_needed(rollout, (enum rollout_check_kind)check))
            rollout->good[check] = true;
    decide_forward(rollout, effects);
}

static bool state_runs(enum rollout_state state)
{
    return state != ROLLOUT_PENDING && !rollout_state_is_final(state);
}

// ---- from spans to sums ----

// What a span held is judged once more, for good.
static void span_close(struct rollout *rollout, struct rollout_span *span, enum rollout_imputing imputing)
{
    struct rollout_facts facts;
    evidence_facts(rollout, span, imputing, &facts);
    judge_close(rollout, span, &facts);
    watch_close(rollout, span, imputing);
    watch_outage_close(rollout, span);
}

static void spans_take(struct rollout *rollout, const struct rollout_input *input)
{
    struct rollout_span *over;
    for (uint32_t i = 0; i < input->tick.span_count; i++) {
        // A full ring ends the oldest span's time early, for both arms at the same age: as fair as the
        // deadline.
        if (evidence_lacks_room(rollout, &input->tick.spans[i]))
            span_close(rollout, evidence_take_oldest(rollout), IMPUTE_TIMED_OUT);
        evidence_add(rollout, &input->tick.spans[i]);
    }
    while ((over = evidence_take_over(rollout)) != NULL)
        span_close(rollout, over, IMPUTE_TIMED_OUT);
}

// The outcomes of requests in flight died with the process. Counting the open spans as they stand would
// credit the arm that fails slowly (its failures are lost, the fast ones are not); dropping them all would
// let a process that restarts often never decide. Whether a span has a request in flight at the moment of the
// crash is a property of that span, so "up to and including the first such span" is a stopping time in
// routing order, and with its pending requests imputed the stopped process keeps its bound.
static void step_resumed(struct rollout *rollout)
{
    bool complete = true;
    while (complete && rollout->span_count > 0) {
        struct rollout_span *span = evidence_take_oldest(rollout);
        complete = evidence_complete(span);
        span_close(rollout, span, IMPUTE_OPEN);
    }
    // Its ticks begin anew: nothing of the old ones may be waited for.
    rollout->bank.outage.out = false;
    rollout->bank.second = (struct rollout_second){.filled = false};
    rollout->bank.burst_tick = 0;
    memset(rollout->bank.bursts, 0, sizeof rollout->bank.bursts);
    memset(&rollout->alarm, 0, sizeof rollout->alarm);
    rollout->good_second = UINT64_MAX;
    rollout->clock_runs = false;
    evidence_forget_open(rollout);
    copies_restart(rollout);
}

// ---- the tick ----

// Only time that the process ran in counts, by its own ticks: the wall clock may jump. Of that, watched is
// what had canary requests, or had some a short while ago.
static void time_passes(struct rollout *rollout, const struct rollout_input *input)
{
    uint64_t ticks = rollout->clock_runs ? input->tick.tick - rollout->tick : 0;
    rollout->clock_runs = true;
    uint64_t slept = input->tick.slept_ticks;
    uint64_t awake_ms = (ticks > slept ? ticks - slept : 0) * ROLLOUT_TICK_MS;
    const struct rollout_shadow_delta *shadow = input->tick.shadow;
    bool canary = rollout->shadow.on && shadow != NULL && shadow->sent > 0;
    for (uint32_t i = 0; i < input->tick.span_count; i++)
        canary |= rollout_counts_judged(&input->tick.spans[i].arms[ROLLOUT_ARM_CANARY]) > 0;
    uint64_t room = rollout->quiet_ms < ROLLOUT_QUIET_MS ? ROLLOUT_QUIET_MS - rollout->quiet_ms : 0;
    uint64_t watched_ms = awake_ms < room ? awake_ms : room;
    rollout->quiet_ms = canary ? 0 : rollout->quiet_ms + awake_ms;
    rollout->state_awake_ms += awake_ms;
    rollout->canary_awake_ms += rollout->canary_since_ms > 0 ? awake_ms : 0;
    if (rollout->state == ROLLOUT_PAUSED)
        return;
    rollout->stage_awake_ms += awake_ms;
    if (rollout->stage_canary_since_ms > 0)
        rollout->stage_watched_ms += watched_ms;
}

static void step_tick(struct rollout *rollout, const struct rollout_input *input,
                      struct rollout_effects *effects)
{
    // A process never counts its ticks backwards: this is a new one that was not announced.
    if (input->tick.tick < rollout->tick)
        step_resumed(rollout);
    time_passes(rollout, input);
    rollout->tick = input->tick.tick;
    if (!state_runs(rollout->state))
        return;
    rollout->spans_lost += input->tick.spans_lost;
    rollout->baseline_count = input->tick.baseline_count;
    spans_take(rollout, input);
    if (rollout->shadow.on && input->tick.shadow != NULL)
        copies_take(rollout, input->tick.shadow);
    decide(rollout, input->tick.hold, effects);
    rollout->tick_before_ms = rollout->now_ms;
}

// ---- commands ----

static uint32_t states(const enum rollout_state *list, size_t count)
{
    uint32_t set = 0;
    for (size_t i = 0; i < count; i++)
        set |= 1u << list[i];
    return set;
}
#define STATES(...)                                                                                          \
    states((const enum rollout_state[]){__VA_ARGS__}, ARRAY_LEN(((const enum rollout_state[]){__VA_ARGS__})))

static uint32_t states_allowing(enum rollout_command command)
{
    switch (command) {
    case ROLLOUT_COMMAND_START:
        return STATES(ROLLOUT_PENDING, ROLLOUT_ROLLED_BACK);
    case ROLLOUT_COMMAND_PAUSE:
        return STATES(ROLLOUT_BASELINE, ROLLOUT_SEGMENT, ROLLOUT_SHADOW, ROLLOUT_SHIFTING,
                      ROLLOUT_AWAITING_APPROVAL, ROLLOUT_UNDECIDED, ROLLOUT_SOAKING);
    case ROLLOUT_COMMAND_RESUME:
        return STATES(ROLLOUT_PAUSED, ROLLOUT_UNDECIDED);
    case ROLLOUT_COMMAND_PROMOTE:
        return STATES(ROLLOUT_BASELINE, ROLLOUT_SEGMENT, ROLLOUT_SHADOW, ROLLOUT_SHIFTING, ROLLOUT_UNDECIDED,
                      ROLLOUT_SOAKING);
    case ROLLOUT_COMMAND_ABORT:
        return STATES(ROLLOUT_BASELINE, ROLLOUT_SEGMENT, ROLLOUT_SHADOW, ROLLOUT_SHIFTING,
                      ROLLOUT_AWAITING_APPROVAL, ROLLOUT_PAUSED, ROLLOUT_UNDECIDED, ROLLOUT_SOAKING);
    case ROLLOUT_COMMAND_UNDO:
        return STATES(ROLLOUT_SOAKING, ROLLOUT_COMPLETED);
    case ROLLOUT_COMMAND_APPROVE:
        return STATES(ROLLOUT_AWAITING_APPROVAL);
    case ROLLOUT_COMMANDS:
        break;
    }
    return 0;
}

// What there is already of what a command asks for, or NULL.
static const char *fulfilled(const struct rollout *rollout, enum rollout_command command)
{
    enum rollout_state state = rollout->state;
    bool to_start = command == ROLLOUT_COMMAND_START;
    bool stands = state == ROLLOUT_PAUSED || state == ROLLOUT_UNDECIDED || state == ROLLOUT_ROLLING_BACK;
    bool to_go_back = command == ROLLOUT_COMMAND_ABORT || command == ROLLOUT_COMMAND_UNDO;
    if (to_go_back && state == ROLLOUT_ROLLING_BACK)
        return "the rollout is going back already";
    // Of undo nothing is so already then: the service may have gone on since.
    if (command == ROLLOUT_COMMAND_ABORT && state == ROLLOUT_ROLLED_BACK)
        return "the rollout has been rolled back already";
    if (command == ROLLOUT_COMMAND_PAUSE && state == ROLLOUT_PAUSED)
        return "the rollout is paused already";
    if (state == ROLLOUT_COMPLETED && (to_start || command == ROLLOUT_COMMAND_PROMOTE))
        return "the rollout is complete already";
    if (to_start && state_runs(state) && !stands)
        return "the rollout has been started already";
    return NULL;
}

// Why a command does not fit the present state, in words that say what would.
static const char *misfit(const struct rollout *rollout, enum rollout_command command)
{
    enum rollout_state state = rollout->state;
    if (state == ROLLOUT_PENDING)
        return "the rollout has not been started";
    if (state == ROLLOUT_ROLLING_BACK)
        return "the rollout is going back; when it is RolledBack, start begins a new run";
    if (state == ROLLOUT_ROLLED_BACK)
        return "the rollout has been rolled back; start begins a new run";
    if (command == ROLLOUT_COMMAND_START)
        return state == ROLLOUT_PAUSED ? "the rollout is paused; resume lets it go on"
                                       : "the evidence did not suffice; resume, promote or abort decides";
    if (state == ROLLOUT_COMPLETED)
        return command == ROLLOUT_COMMAND_ABORT ? "the rollout is complete; undo takes it back"
                                                : "the rollout is complete";
    if (command == ROLLOUT_COMMAND_RESUME)
        return "the rollout is not paused";
    if (command == ROLLOUT_COMMAND_UNDO)
        return "the rollout is not complete; abort takes it back";
    if (command == ROLLOUT_COMMAND_APPROVE)
        return "the rollout waits for no approval";
    if (state == ROLLOUT_AWAITING_APPROVAL)
        return "the rollout waits for an approval";
    if (state == ROLLOUT_BASELINE)
        return "the baseline's latency is still being measured";
    return "the rollout is paused; resume it first";
}

static void refuse(const struct rollout *rollout, const char *verb, enum status status, const char *why,
                   struct rollout_effects *effects)
{
    effects->refused = status;
    struct text text = text_over(effects->refused_text, sizeof effects->refused_text);
    if (status == STATUS_EXISTS)
        text_addf(&text, "nothing to do: %s (it is ", why);
    else
        text_addf(&text, "cannot %s: %s (it is ", verb, why);
    verdict_add_position(rollout, &text);
    text_addf(&text, ")");
}

// Returns NULL or why not, beyond what the state alone says.
static const char *objection(const struct rollout *rollout, const struct rollout_input *input,
                             enum status *status)
{
    enum rollout_command command = input->command.command;
    if (command == ROLLOUT_COMMAND_START && !rollout->has_spec)
        return "nothing says what to roll out";
    if (command == ROLLOUT_COMMAND_UNDO && rollout->state == ROLLOUT_COMPLETED &&
        rollout->now_ms - rollout->state_since_ms > (int64_t)rollout->spec.keep_ms)
        return "the time to undo is over; roll the old version out instead";
    if (command != ROLLOUT_COMMAND_APPROVE)
        return NULL;
    const char *by = rollout->spec.stages[rollout->stage].by;
    if (by[0] == '\0' || strncmp(by, input->command.who, sizeof input->command.who) == 0)
        return NULL;
    *status = STATUS_DENIED;
    return "the approval is another's to give";
}

static void command_start(struct rollout *rollout)
{
    run_reset(rollout);
    rollout->started_ms = rollout->now_ms;
    judge_start(rollout);
    if (rollout->spec.latency.on)
        state_set(rollout, ROLLOUT_BASELINE);
    else
        stage_enter(rollout, 0);
}

static void command_resume(struct rollout *rollout)
{
    if (rollout->state == ROLLOUT_UNDECIDED) { // another horizon
        rollout->stage_since_ms = rollout->now_ms;
        rollout->stage_awake_ms = rollout->stage_watched_ms = 0;
        state_set(rollout, rollout->shadow.on ? ROLLOUT_SHADOW : ROLLOUT_SHIFTING);
        return;
    }
    state_set(rollout, rollout->paused_from);
    if (rollout->state == ROLLOUT_BASELINE && rollout->yardstick.edges.requests > 0)
        stage_enter(rollout, 0);
}

static const char *obey(struct rollout *rollout, enum rollout_command command)
{
    switch (command) {
    case ROLLOUT_COMMAND_START:
        command_start(rollout);
        return "STARTED";
    case ROLLOUT_COMMAND_PAUSE:
        rollout->paused_from = rollout->state;
        state_set(rollout, ROLLOUT_PAUSED);
        return "PAUSED";
    case ROLLOUT_COMMAND_RESUME:
        command_resume(rollout);
        return "RESUMED";
    case ROLLOUT_COMMAND_PROMOTE:
        if (rollout->state == ROLLOUT_BASELINE) // a stable version that is broken must not hold up its mend
            stage_enter(rollout, 0);
        else
            stage_leave(rollout);
        return "PROMOTED BY HAND";
    case ROLLOUT_COMMAND_ABORT:
        roll_back(rollout);
        return "ABORTED";
    case ROLLOUT_COMMAND_UNDO:
        roll_back(rollout);
        return "UNDONE";
    case ROLLOUT_COMMAND_APPROVE:
        stage_leave(rollout);
        return "APPROVED";
    case ROLLOUT_COMMANDS:
        break;
    }
    return "";
}

static void step_command(struct rollout *rollout, const struct rollout_input *input,
                         struct rollout_effects *effects)
{
    enum rollout_command command = input->command.command;
    const char *name = rollout_command_name(command);
    if ((states_allowing(command) & (1u << rollout->state)) == 0) {
        const char *already = fulfilled(rollout, command);
        if (already != NULL)
            refuse(rollout, name, STATUS_EXISTS, already, effects);
        else
            refuse(rollout, name, STATUS_CONFLICT, misfit(rollout, command), effects);
        return;
    }
    enum status status = STATUS_CONFLICT;
    const char *why = objection(rollout, input, &status);
    if (why != NULL) {
        refuse(rollout, name, status, why, effects);
        return;
    }
    const char *headline = obey(rollout, command);
    effects->has_verdict = true;
    verdict_operator(rollout, input, headline, &effects->verdict);
}

// ---- other inputs ----

static void step_spec(struct rollout *rollout, const struct rollout_input *input,
                      struct rollout_effects *effects)
{
    struct fault fault;
    if (state_runs(rollout->state)) {
        refuse(rollout, "take a specification", STATUS_CONFLICT, "the rollout is under way", effects);
        return;
    }
    if (rollout_spec_check(input->spec, &fault) != STATUS_OK) {
        refuse(rollout, "take a specification", STATUS_INVALID, fault.text, effects);
        return;
    }
    rollout->spec = *input->spec;
    rollout->has_spec = true;
    run_reset(rollout);
}

// True when the routing table must carry the edges.
static bool step_edges(struct rollout *rollout, const struct rollout_input *input)
{
    bool paused = rollout->state == ROLLOUT_PAUSED && rollout->paused_from == ROLLOUT_BASELINE;
    if ((rollout->state != ROLLOUT_BASELINE && !paused) || input->edges.requests == 0)
        return false;
    evidence_edges_set(rollout, &input->edges);
    if (!paused)
        stage_enter(rollout, 0);
    return true;
}

// A run that goes back has decided: nothing is weighed any more.
static void step_redefined(struct rollout *rollout, uint64_t errors_id, uint64_t table)
{
    rollout->spec.errors_id = errors_id;
    if (!state_runs(rollout->state) || rollout->state == ROLLOUT_ROLLING_BACK)
        return;
    evidence_redefine(rollout, table);
    rollout->redefined_ms = rollout->stage_since_ms = rollout->now_ms;
    rollout->stage_awake_ms = rollout->stage_watched_ms = 0;
    copies_restart(rollout); // its differ counts errors, too, and begins afresh
    if (rollout->weight > 0 || rollout->shadow.on)
        judge_stage_start(rollout);
    if (rollout->weight == ROLLOUT_WEIGHT_FULL)
        watch_start(rollout);
}

// A file may have been edited while no process ran.
static void step_resumed_by(struct rollout *rollout, uint64_t errors_id)
{
    bool known = errors_id != 0 && rollout->spec.errors_id != 0;
    if (known && rollout->spec.errors_id != errors_id)
        step_redefined(rollout, errors_id, 0);
    else if (errors_id != 0)
        rollout->spec.errors_id = errors_id;
}

// The weight that stands when the stage is entered.
static uint32_t weight_before(const struct rollout_spec *spec, uint32_t stage)
{
    uint32_t weight = 0;
    for (uint32_t i = 0; i < stage; i++)
        weight = spec->stages[i].kind == ROLLOUT_STAGE_WEIGHT ? spec->stages[i].weight : weight;
    return weight;
}

// Whether a run of that specification can stand so.
static bool takeover_fits(const struct rollout_takeover *takeover)
{
    const struct rollout_spec *spec = takeover->spec;
    struct fault fault;
    if (rollout_spec_check(spec, &fault) != STATUS_OK || takeover->stage >= spec->stage_count ||
        takeover->started_ms < 0 || takeover->started_ms > ROLLOUT_TIME_MS_MAX ||
        takeover->state_since_ms < 0 || takeover->state_since_ms > ROLLOUT_TIME_MS_MAX)
        return false;
    const struct rollout_stage *stage = &spec->stages[takeover->stage];
    bool paused = takeover->state == ROLLOUT_PAUSED;
    uint32_t weight = takeover->weight, before = weight_before(spec, takeover->stage);
    enum rollout_state state = paused ? takeover->paused_from : takeover->state;
    if (stage->kind == ROLLOUT_STAGE_SHADOW && state == ROLLOUT_UNDECIDED)
        state = ROLLOUT_SHADOW;
    switch (state) {
    case ROLLOUT_SHADOW:
        return stage->kind == ROLLOUT_STAGE_SHADOW && weight == 0;
    case ROLLOUT_SHIFTING:
    case ROLLOUT_UNDECIDED:
        return stage->kind == ROLLOUT_STAGE_WEIGHT && weight == stage->weight && weight < ROLLOUT_WEIGHT_FULL;
    case ROLLOUT_SOAKING:
        return stage->kind == ROLLOUT_STAGE_WEIGHT && weight == ROLLOUT_WEIGHT_FULL &&
               stage->weight == weight;
    case ROLLOUT_AWAITING_APPROVAL:
        return stage->kind == ROLLOUT_STAGE_APPROVE && weight == before;
    case ROLLOUT_SEGMENT:
        return stage->kind == ROLLOUT_STAGE_SEGMENT && weight == before;
    case ROLLOUT_COMPLETED:
        return !paused && weight <= ROLLOUT_WEIGHT_FULL;
    case ROLLOUT_BASELINE:
        return weight == 0;
    case ROLLOUT_PENDING:
    case ROLLOUT_ROLLING_BACK:
    case ROLLOUT_ROLLED_BACK:
        return !paused && weight == 0;
    default:
        return false;
    }
}

static void step_takeover(struct rollout *rollout, const struct rollout_input *input,
                          struct rollout_effects *effects)
{
    const struct rollout_takeover *takeover = &input->takeover;
    if (!takeover_fits(takeover)) {
        refuse(rollout, "take over the run", STATUS_INVALID, "it does not fit its specification", effects);
        return;
    }
    bool back = takeover->state == ROLLOUT_ROLLING_BACK || takeover->state == ROLLOUT_ROLLED_BACK;
    bool begun = takeover->state != ROLLOUT_PENDING && takeover->state != ROLLOUT_BASELINE;
    rollout->spec = *takeover->spec;
    rollout->has_spec = true;
    run_reset(rollout);
    judge_start(rollout);
    evidence_edges_set(rollout, &takeover->edges);
    rollout->started_ms = takeover->started_ms;
    rollout->stage = takeover->stage;
    rollout->stage_since_ms = rollout->now_ms;
    rollout->weight = takeover->weight;
    rollout->ring_stages = back || !begun ? 0 : takeover->stage + 1;
    rollout->paused_from = takeover->paused_from;
    state_set(rollout, takeover->state);
    rollout->state_since_ms = takeover->state_since_ms;
    rollout->last = takeover->last;
    enum rollout_state stood = takeover->state == ROLLOUT_PAUSED ? takeover->paused_from : takeover->state;
    if (stood == ROLLOUT_SHADOW || (stood == ROLLOUT_UNDECIDED && rollout->weight == 0))
        copies_begin(rollout);
    if (rollout->weight > 0 || rollout->shadow.on)
        judge_stage_start(rollout);
    if (rollout->weight == ROLLOUT_WEIGHT_FULL && !rollout_state_is_final(rollout->state))
        watch_start(rollout);
}

static void clock_set(struct rollout *rollout, int64_t time_ms)
{
    time_ms = time_ms < ROLLOUT_TIME_MS_MAX ? time_ms : ROLLOUT_TIME_MS_MAX;
    rollout->now_ms = time_ms > rollout->now_ms ? time_ms : rollout->now_ms;
}

static void check_invariants(const struct rollout *rollout, const struct rollout_effects *effects,
                             uint32_t stage_before, uint32_t weight_before)
{
    CHECK(rollout->weight <= ROLLOUT_WEIGHT_FULL);
    CHECK(rollout->weight == 0 || rollout->weight >= weight_before);
    CHECK(rollout->weight == 0 || weight_before == 0 || rollout->stage >= stage_before);
    if (rollout->state == ROLLOUT_PENDING || rollout->state == ROLLOUT_BASELINE ||
        rollout->state == ROLLOUT_SHADOW || rollout->state == ROLLOUT_ROLLING_BACK ||
        rollout->state == ROLLOUT_ROLLED_BACK)
        CHECK(rollout->weight == 0);
    CHECK(rollout->shadow.on || rollout->state != ROLLOUT_SHADOW);
    CHECK(!rollout->shadow.on || rollout->weight == 0);
    if (rollout->state == ROLLOUT_SHIFTING || rollout->state == ROLLOUT_SOAKING)
        CHECK(rollout->weight == rollout->spec.stages[rollout->stage].weight);
    CHECK(effects->weight == rollout->weight);
}

void rollout_step(struct rollout *rollout, const struct rollout_input *input, struct rollout_effects *effects)
{
    *effects = (struct rollout_effects){.from = rollout->state, .refused = STATUS_OK};
    uint32_t stage_before = rollout->stage;
    uint32_t weight_before = rollout->weight;
    bool shadow_before = rollout->shadow.on;
    clock_set(rollout, input->time_ms);
    switch (input->kind) {
    case ROLLOUT_INPUT_SPEC:
        step_spec(rollout, input, effects);
        break;
    case ROLLOUT_INPUT_COMMAND:
        step_command(rollout, input, effects);
        break;
    case ROLLOUT_INPUT_EDGES:
        effects->publish = step_edges(rollout, input);
        break;
    case ROLLOUT_INPUT_TICK:
        step_tick(rollout, input, effects);
        break;
    case ROLLOUT_INPUT_RESUMED:
        step_resumed(rollout);
        if (input->resumed.strangers)
            evidence_strangers(rollout);
        step_resumed_by(rollout, input->resumed.errors_id);
        effects->publish = rollout->state != ROLLOUT_PENDING;
        break;
    case ROLLOUT_INPUT_TAKEOVER:
        step_takeover(rollout, input, effects);
        effects->from = rollout->state; // nothing moves by it, whatever stood here before
        stage_before = rollout->stage;
        weight_before = rollout->weight;
        effects->publish = true;
        break;
    case ROLLOUT_INPUT_REDEFINED:
        step_redefined(rollout, input->redefined.errors_id, input->redefined.table);
        break;
    case ROLLOUT_INPUTS:
        break;
    }
    effects->to = rollout->state;
    effects->stage = rollout->stage;
    effects->weight = rollout->weight;
    effects->changed =
        effects->from != effects->to || rollout->stage != stage_before || rollout->weight != weight_before;
    // A flag's set carries rings and arms besides the weight, a service's table what is mirrored.
    effects->publish = effects->publish || rollout->weight != weight_before ||
                       rollout->shadow.on != shadow_before ||
                       (rollout->spec.target == ROLLOUT_TARGET_FLAG && effects->changed);
    if (effects->has_verdict)
        rollout->last = effects->verdict;
    check_invariants(rollout, effects, stage_before, weight_before);
}

static uint64_t left_ms(uint64_t wanted_ms, uint64_t had_ms)
{
    return wanted_ms > had_ms ? wanted_ms - had_ms : 0;
}

static uint64_t state_wait_ms(const struct rollout *rollout)
{
    const struct rollout_stage *stage = &rollout->spec.stages[rollout->stage];
    bool quiet = rollout->quiet_ms >= ROLLOUT_QUIET_MS; // then no time is watched before evidence comes
    switch (rollout->state) {
    case ROLLOUT_SHADOW:
    case ROLLOUT_SHIFTING: {
        uint64_t horizon_ms =
            stage->horizon_ms > 0 ? left_ms(stage->horizon_ms, rollout->stage_awake_ms) : UINT64_MAX;
        uint64_t min_ms = quiet ? 0 : left_ms(stage->min_ms, rollout->stage_watched_ms);
        return min_ms > 0 && min_ms < horizon_ms ? min_ms : horizon_ms;
    }
    case ROLLOUT_SEGMENT:
        return left_ms(stage->min_ms, rollout->stage_awake_ms);
    case ROLLOUT_SOAKING:
        return quiet ? UINT64_MAX : left_ms(stage->soak_ms, rollout->stage_watched_ms);
    case ROLLOUT_ROLLING_BACK: {
        uint64_t drain_ms = rollout->spec.drain_ms;
        drain_ms = drain_ms < ROLLOUT_DRAIN_MS_MIN ? drain_ms : ROLLOUT_DRAIN_MS_MIN;
        return left_ms(drain_ms, rollout->state_awake_ms);
    }
    default:
        return UINT64_MAX;
    }
}

uint64_t rollout_wait_ms(const struct rollout *rollout)
{
    if (!rollout->clock_runs && state_runs(rollout->state))
        return 0; // time is counted from tick to tick
    uint64_t wait_ms = state_wait_ms(rollout);
    // Open spans settle with time alone: their prefixes grow older, and so does what is pending.
    uint64_t settle_ms = ROLLOUT_SETTLE_TICKS * ROLLOUT_TICK_MS;
    return state_runs(rollout->state) && rollout->span_count > 0 && settle_ms < wait_ms ? settle_ms : wait_ms;
}
