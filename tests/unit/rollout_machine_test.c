// SPDX-License-Identifier: Apache-2.0
// rollout/machine: traces in a small language (input on the left, where the machine then stands on the
// right), every command in every state, and what verdicts say.
#include "base/check.h"
#include "ship/rollout/rollout.h"
#include "test.h"

enum { START_MS = 50000000 }; // 13:53:20

struct trace {
    struct rollout *rollout;
    struct rollout_effects effects;
    uint64_t tick;
    int64_t time_ms;
};

static void trace_begin(struct trace *trace)
{
    *trace = (struct trace){.rollout = malloc(rollout_size()), .time_ms = START_MS};
    CHECK(trace->rollout != NULL);
    rollout_init(trace->rollout);
}

static void trace_end(struct trace *trace)
{
    free(trace->rollout);
}

static void stage_weight(struct rollout_spec *spec, uint32_t percent)
{
    spec->stages[spec->stage_count++] = (struct rollout_stage){.kind = ROLLOUT_STAGE_WEIGHT,
                                                               .weight = percent * 1000,
                                                               .min_ms = 10000,
                                                               .horizon_ms = 60000,
                                                               .soak_ms = 20000};
}

// 5 %, approval by sre, 50 %, 100 %.
static void spec_make(struct rollout_spec *spec)
{
    rollout_spec_init(spec);
    memcpy(spec->name, "shop-v2", 8);
    memcpy(spec->service, "shop", 5);
    memcpy(spec->from, "v1", 3);
    memcpy(spec->to, "v2", 3);
    spec->latency.on = false;
    spec->warmup_ms = 0;
    stage_weight(spec, 5);
    spec->stages[spec->stage_count++] = (struct rollout_stage){.kind = ROLLOUT_STAGE_APPROVE, .by = "sre"};
    stage_weight(spec, 50);
    stage_weight(spec, 100);
}

static void give_spec(struct trace *trace, const struct rollout_spec *spec)
{
    struct rollout_input input = {.kind = ROLLOUT_INPUT_SPEC, .time_ms = trace->time_ms, .spec = spec};
    rollout_step(trace->rollout, &input, &trace->effects);
}

static void give_command(struct trace *trace, enum rollout_command command, const char *who)
{
    struct rollout_input input = {.kind = ROLLOUT_INPUT_COMMAND, .time_ms = trace->time_ms};
    input.command.command = command;
    snprintf(input.command.who, sizeof input.command.who, "%s", who);
    snprintf(input.command.from, sizeof input.command.from, "127.0.0.1");
    rollout_step(trace->rollout, &input, &trace->effects);
}

static void give_edges(struct trace *trace)
{
    struct rollout_input input = {.kind = ROLLOUT_INPUT_EDGES,
                                  .time_ms = trace->time_ms,
                                  .edges = {.requests = 10000, .edge_us = {10000, 20000, 50000, 90000}}};
    rollout_step(trace->rollout, &input, &trace->effects);
}

static struct rollout_counts counts_of(uint32_t routed, uint32_t errors, uint32_t pending)
{
    return (struct rollout_counts){.routed = routed,
                                   .completed = routed - pending,
                                   .errors = errors,
                                   .error_events = errors,
                                   .failed = errors,
                                   .good = routed - pending - errors,
                                   .units = routed};
}

// A span of the present weight with these counts, `ms` later. Time is counted from tick to tick, so the first
// one comes after one without evidence.
static void give_tick(struct trace *trace, unsigned ms, uint32_t stable, uint32_t stable_errors,
                      uint32_t canary, uint32_t canary_errors, uint32_t canary_pending)
{
    struct rollout_view view;
    rollout_view_get(trace->rollout, &view);
    struct rollout_input input = {.kind = ROLLOUT_INPUT_TICK, .time_ms = trace->time_ms};
    if (trace->tick == 0) {
        input.tick.tick = trace->tick = 10;
        rollout_step(trace->rollout, &input, &trace->effects);
    }
    trace->time_ms += ms;
    trace->tick += ms / ROLLOUT_TICK_MS;
    struct rollout_span_delta span = {.tick = trace->tick - 1, .table = view.weight, .weight = view.weight};
    span.arms[ROLLOUT_ARM_STABLE] = counts_of(stable, stable_errors, 0);
    span.arms[ROLLOUT_ARM_CANARY] = counts_of(canary, canary_errors, canary_pending);
    input.time_ms = trace->time_ms;
    input.tick.tick = trace->tick;
    input.tick.span_count = stable + canary > 0;
    input.tick.spans = &span;
    rollout_step(trace->rollout, &input, &trace->effects);
}

// One line of a trace: `verb numbers or name -> State stage weight% [outcome] [publish]`.
static void trace_line(struct trace *trace, const char *line)
{
    char verb[32] = "";
    char who[64] = "";
    char state[32] = "";
    char outcome[32] = "";
    unsigned n[6] = {0};
    unsigned stage = 0;
    unsigned percent = 0;
    const char *arrow = strstr(line, "->");
    CHECK(arrow != NULL && sscanf(line, "%31s", verb) == 1);
    CHECK(sscanf(arrow, "-> %31s %u %u%% %31[a-z_]", state, &stage, &percent, outcome) >= 3);
    if (strcmp(outcome, "publish") == 0)
        outcome[0] = '\0';
    enum rollout_command command;
    if (strcmp(verb, "run") == 0) { // so many seconds, each with these counts, until something moves
        CHECK(sscanf(line, "run %u s=%u/%u c=%u/%u pending=%u", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5]) >=
              5);
        bool moved = false;
        for (unsigned i = 0; i < n[0] && !moved; i++) {
            give_tick(trace, 1000, n[2], n[1], n[4], n[3], n[5]);
            moved = trace->effects.changed;
        }
    } else if (strcmp(verb, "tick") == 0) {
        CHECK(sscanf(line, "tick %u s=%u/%u c=%u/%u pending=%u", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5]) >=
              1);
        give_tick(trace, n[0], n[2], n[1], n[4], n[3], n[5]);
    } else if (strcmp(verb, "edges") == 0) {
        give_edges(trace);
    } else if (strcmp(verb, "resumed") == 0) {
        struct rollout_input input = {.kind = ROLLOUT_INPUT_RESUMED, .time_ms = trace->time_ms};
        rollout_step(trace->rollout, &input, &trace->effects);
        trace->tick = 0;
    } else {
        CHECK(rollout_command_parse(slice_of(verb), &command) == STATUS_OK);
        CHECK(sscanf(line, "%*s %63[a-z]", who) <= 1);
        give_command(trace, command, who);
    }
    const struct rollout_effects *effects = &trace->effects;
    const char *got = effects->refused != STATUS_OK ? "refused"
                      : effects->has_verdict        ? rollout_outcome_name(effects->verdict.outcome)
                                                    : "";
    char word[32];
    snprintf(word, sizeof word, "%s", got);
    for (char *c = word; *c != '\0'; c++)
        *c = *c == ' ' ? '_' : *c;
    if (strcmp(state, rollout_state_name(effects->to)) != 0 || stage != effects->stage ||
        percent * 1000 != effects->weight || strcmp(word, outcome) != 0 ||
        (strstr(arrow, "publish") != NULL) != effects->publish)
        fail_msg("'%s': stands at %s %u %u%% %s%s; %s%s", line, rollout_state_name(effects->to),
                 effects->stage, effects->weight / 1000, word, effects->publish ? " publish" : "",
                 effects->verdict.text, effects->refused_text);
}

static void run_trace(const struct rollout_spec *spec, const char *const *lines)
{
    struct trace trace;
    trace_begin(&trace);
    give_spec(&trace, spec);
    assert_int_equal(trace.effects.refused, STATUS_OK);
    for (; *lines != NULL; lines++)
        trace_line(&trace, *lines);
    trace_end(&trace);
}

TEST(forward_with_approval)
{
    struct rollout_spec spec;
    spec_make(&spec);
    run_trace(&spec, (const char *const[]){
                         "start ann -> Shifting 0 5% started publish",
                         "run 9 s=0/19000 c=0/1000 -> Shifting 0 5%",
                         "tick 1900 -> Shifting 0 5%",
                         "tick 100 -> AwaitingApproval 1 5% promoted",
                         "promote ann -> AwaitingApproval 1 5% refused",
                         "approve ann -> AwaitingApproval 1 5% refused",
                         "tick 1000 s=0/19000 c=0/1000 -> AwaitingApproval 1 5%",
                         "approve sre -> Shifting 2 50% operator publish",
                         "run 10 s=0/1000 c=0/1000 -> Shifting 2 50%",
                         "tick 1000 -> Soaking 3 100% promoted publish",
                         "run 15 s=0/0 c=0/5000 -> Soaking 3 100%",
                         "tick 60000 -> Completed 3 100% completed",
                         "pause ann -> Completed 3 100% refused",
                         "undo ann -> RollingBack 3 0% operator publish",
                         "tick 200 -> RollingBack 3 0%",
                         "tick 100 -> RolledBack 3 0%",
                         "start ann -> Shifting 0 5% started publish",
                         NULL,
                     });
}

TEST(back_by_evidence_waits_for_requests_in_flight)
{
    struct rollout_spec spec;
    spec_make(&spec);
    run_trace(&spec, (const char *const[]){
                         "start ann -> Shifting 0 5% started publish",
                         "tick 1000 s=0/1900 c=1/100 pending=5 -> Shifting 0 5%",
                         "run 20 s=1/1900 c=20/100 -> RollingBack 0 0% rolled_back publish",
                         "promote ann -> RollingBack 0 0% refused",
                         "tick 1000 -> RollingBack 0 0%",
                         "tick 28900 -> RolledBack 0 0%",
                         "tick 1000 s=0/1900 c=50/100 -> RolledBack 0 0%",
                         "resume ann -> RolledBack 0 0% refused",
                         NULL,
                     });
}

TEST(pause_stops_the_clock_but_not_the_rollback)
{
    struct rollout_spec spec;
    spec_make(&spec);
    run_trace(&spec, (const char *const[]){
                         "start ann -> Shifting 0 5% started publish",
                         "run 6 s=0/19000 c=0/1000 -> Shifting 0 5%",
                         "pause ann -> Paused 0 5% operator",
                         "run 100 s=0/1900 c=0/100 -> Paused 0 5%",
                         "promote ann -> Paused 0 5% refused",
                         "resume ann -> Shifting 0 5% operator",
                         "tick 4900 -> Shifting 0 5%",
                         "tick 100 -> AwaitingApproval 1 5% promoted",
                         "pause ann -> Paused 1 5% operator",
                         "approve sre -> Paused 1 5% refused",
                         "run 20 s=0/1900 c=30/100 -> RollingBack 1 0% rolled_back publish",
                         NULL,
                     });
}

TEST(undecided_policies)
{
    struct rollout_spec spec;
    spec_make(&spec);
    spec.undecided = ROLLOUT_UNDECIDED_HOLD;
    run_trace(&spec, (const char *const[]){
                         "start ann -> Shifting 0 5% started publish",
                         "tick 30000 s=0/190 c=0/10 -> Shifting 0 5%",
                         "tick 30000 -> Undecided 0 5% undecided",
                         "tick 1000 -> Undecided 0 5%",
                         "resume ann -> Shifting 0 5% operator",
                         "tick 59000 -> Shifting 0 5%",
                         "tick 1000 -> Undecided 0 5% undecided",
                         "run 5 s=0/19000 c=0/1000 -> Undecided 0 5%", // its minimum time is not watched
                         "run 12 s=0/19000 c=0/1000 -> AwaitingApproval 1 5% promoted",
                         "abort ann -> RollingBack 1 0% operator publish",
                         NULL,
                     });
    spec.undecided = ROLLOUT_UNDECIDED_ROLLBACK;
    run_trace(&spec, (const char *const[]){
                         "start ann -> Shifting 0 5% started publish",
                         "tick 60000 -> RollingBack 0 0% undecided publish",
                         NULL,
                     });
    spec.undecided = ROLLOUT_UNDECIDED_PROCEED;
    run_trace(&spec, (const char *const[]){
                         "start ann -> Shifting 0 5% started publish",
                         "run 61 s=0/50 c=0/3 -> AwaitingApproval 1 5% undecided",
                         "approve sre -> Shifting 2 50% operator publish",
                         "run 61 s=0/3 c=0/3 -> Soaking 3 100% undecided publish",
                         NULL,
                     });
    run_trace(&spec, (const char *const[]){
                         "start ann -> Shifting 0 5% started publish",
                         "tick 60000 -> Undecided 0 5% undecided", // nothing goes on by itself without data
                         NULL,
                     });
}

TEST(the_baseline_comes_first)
{
    struct rollout_spec spec;
    spec_make(&spec);
    spec.latency.on = true;
    run_trace(&spec, (const char *const[]){
                         "edges -> Pending 0 0%",
                         "start ann -> Baseline 0 0% started",
                         "tick 1000 s=1/1000 c=0/0 -> Baseline 0 0%",
                         "approve sre -> Baseline 0 0% refused",
                         "pause ann -> Paused 0 0% operator",
                         "edges -> Paused 0 0% publish",
                         "resume ann -> Shifting 0 5% operator publish",
                         "edges -> Shifting 0 5%",
                         "promote ann -> AwaitingApproval 1 5% operator",
                         NULL,
                     });
    run_trace(&spec, (const char *const[]){
                         "start ann -> Baseline 0 0% started",
                         "edges -> Shifting 0 5% publish",
                         "resumed -> Shifting 0 5% publish",
                         "run 4 s=0/1900 c=90/100 -> RollingBack 0 0% rolled_back publish",
                         NULL,
                     });
}

// Ticks of one second until the machine goes back; *watched_ms: of the stage, then.
static int seconds_until_back(const struct rollout_spec *spec, uint64_t *watched_ms)
{
    struct trace trace;
    int seconds = 0;
    trace_begin(&trace);
    give_spec(&trace, spec);
    give_command(&trace, ROLLOUT_COMMAND_START, "ann");
    for (; seconds < 60 && trace.effects.to == ROLLOUT_SHIFTING; seconds++)
        give_tick(&trace, 1000, 760, 0, 40, 20, 0);
    assert_int_equal(trace.effects.to, ROLLOUT_ROLLING_BACK);
    struct rollout_view view;
    rollout_view_get(trace.rollout, &view);
    *watched_ms = view.stage_watched_ms;
    trace_end(&trace);
    return seconds;
}

TEST(rollback_wins_ties)
{
    struct rollout_spec spec;
    uint64_t watched_ms;
    spec_make(&spec);
    // So large a budget that half of the requests may fail: good enough to go on, and far worse than stable.
    spec.errors.budget = 1.0;
    spec.outage = 0.0;
    spec.stages[0].min_ms = 60000;
    int seconds = seconds_until_back(&spec, &watched_ms);
    // Its minimum time is over in the very tick that takes it back.
    spec.stages[0].min_ms = watched_ms;
    assert_int_equal(seconds_until_back(&spec, &watched_ms), seconds);
}

TEST(evidence_of_a_stage_or_of_all)
{
    struct rollout_spec spec;
    spec_make(&spec);
    spec.errors.prove = ROLLOUT_PROVE_RATIO; // harm is of one weight, and never pooled
    static const char *const begin[] = {
        "start ann -> Shifting 0 5% started publish",
        "run 12 s=0/19000 c=0/1000 -> AwaitingApproval 1 5% promoted",
        "approve sre -> Shifting 2 50% operator publish",
    };
    for (int cumulative = 0; cumulative < 2; cumulative++) {
        spec.evidence_cumulative = cumulative != 0;
        run_trace(&spec, (const char *const[]){
                             begin[0],
                             begin[1],
                             begin[2],
                             cumulative != 0 ? "run 50 s=0/12 c=0/12 -> Soaking 3 100% promoted publish"
                                             : "run 50 s=0/12 c=0/12 -> Shifting 2 50%",
                             NULL,
                         });
    }
}

TEST(undo_ends_with_keep)
{
    struct rollout_spec spec;
    spec_make(&spec);
    spec.stage_count = 1;
    spec.keep_ms = 5000;
    run_trace(&spec, (const char *const[]){
                         "start ann -> Shifting 0 5% started publish",
                         "promote ann -> Completed 0 5% operator",
                         "tick 5001 -> Completed 0 5%",
                         "undo ann -> Completed 0 5% refused",
                         NULL,
                     });
}

// ---- every command in every state ----

// A flag's rollout that begins with a ring of ten seconds.
static void ring_first(struct rollout_spec *spec)
{
    memcpy(spec->flag, "banner", 7);
    rollout_spec_classify(spec);
    memmove(&spec->stages[1], &spec->stages[0], spec->stage_count * sizeof spec->stages[0]);
    spec->stage_count++;
    spec->stages[0] =
        (struct rollout_stage){.kind = ROLLOUT_STAGE_SEGMENT, .segment = "internal", .min_ms = 10000};
}

// Puts a fresh machine into a state by inputs alone.
static void shadow_first(struct rollout_spec *spec)
{
    memmove(spec->stages + 1, spec->stages, spec->stage_count++ * sizeof spec->stages[0]);
    spec->stages[0] = (struct rollout_stage){
        .kind = ROLLOUT_STAGE_SHADOW,
        .min_ms = 10000,
        .horizon_ms = 60000,
        .shadow = {.share = 10000, .secondary = ROLLOUT_WEIGHT_FULL, .compared = 1000, .timeout_ms = 10000}};
}

static void reach(struct trace *trace, enum rollout_state state)
{
    struct rollout_spec spec;
    spec_make(&spec);
    if (state == ROLLOUT_BASELINE)
        spec.latency.on = true;
    if (state == ROLLOUT_SEGMENT)
        ring_first(&spec);
    if (state == ROLLOUT_SHADOW)
        shadow_first(&spec);
    trace_begin(trace);
    give_spec(trace, &spec);
    if (state == ROLLOUT_PENDING)
        return;
    give_command(trace, ROLLOUT_COMMAND_START, "ann");
    if (state == ROLLOUT_PAUSED)
        give_command(trace, ROLLOUT_COMMAND_PAUSE, "ann");
    if (state == ROLLOUT_UNDECIDED)
        give_tick(trace, 60000, 0, 0, 0, 0, 0);
    if (state == ROLLOUT_AWAITING_APPROVAL || state == ROLLOUT_SOAKING || state == ROLLOUT_COMPLETED)
        give_command(trace, ROLLOUT_COMMAND_PROMOTE, "ann");
    if (state == ROLLOUT_SOAKING || state == ROLLOUT_COMPLETED) {
        give_command(trace, ROLLOUT_COMMAND_APPROVE, "sre");
        give_command(trace, ROLLOUT_COMMAND_PROMOTE, "ann");
    }
    if (state == ROLLOUT_COMPLETED)
        give_command(trace, ROLLOUT_COMMAND_PROMOTE, "ann");
    if (state == ROLLOUT_ROLLING_BACK || state == ROLLOUT_ROLLED_BACK)
        give_command(trace, ROLLOUT_COMMAND_ABORT, "ann");
    if (state == ROLLOUT_ROLLED_BACK)
        give_tick(trace, 1000, 0, 0, 0, 0, 0);
}

TEST(a_ring_is_given_and_taken_back)
{
    struct rollout_spec spec;
    struct rollout_view view;
    struct trace trace;
    spec_make(&spec);
    ring_first(&spec);
    trace_begin(&trace);
    give_spec(&trace, &spec);
    give_command(&trace, ROLLOUT_COMMAND_START, "ann");
    assert_true(trace.effects.publish);
    rollout_view_get(trace.rollout, &view);
    assert_int_equal(view.state, ROLLOUT_SEGMENT);
    assert_int_equal(view.weight, 0);
    assert_int_equal(view.ring_stages, 1);
    give_tick(&trace, 9000, 0, 0, 0, 0, 0);
    rollout_view_get(trace.rollout, &view);
    assert_int_equal(view.state, ROLLOUT_SEGMENT); // not before its time
    give_tick(&trace, 1500, 0, 0, 0, 0, 0);
    rollout_view_get(trace.rollout, &view);
    assert_int_equal(view.state, ROLLOUT_SHIFTING);
    assert_int_equal(view.ring_stages, 2); // the ring keeps what it has
    assert_int_equal(view.weight, 5000);
    give_command(&trace, ROLLOUT_COMMAND_ABORT, "ann");
    assert_true(trace.effects.publish);
    rollout_view_get(trace.rollout, &view);
    assert_int_equal(view.weight, 0);
    assert_int_equal(view.ring_stages, 0);
    trace_end(&trace);
}

TEST(every_command_in_every_state)
{
    // Rows: states; columns: start, pause, resume, promote, abort, undo, approve. Where the command leads,
    // "-" refused, "=" so already.
    static const char *const expected[ROLLOUT_STATES][ROLLOUT_COMMANDS] = {
        [ROLLOUT_PENDING] = {"Shifting", "-", "-", "-", "-", "-", "-"},
        [ROLLOUT_BASELINE] = {"=", "Paused", "-", "Shifting", "RollingBack", "-", "-"},
        [ROLLOUT_SHIFTING] = {"=", "Paused", "-", "AwaitingApproval", "RollingBack", "-", "-"},
        [ROLLOUT_AWAITING_APPROVAL] = {"=", "Paused", "-", "-", "RollingBack", "-", "Shifting"},
        [ROLLOUT_PAUSED] = {"-", "=", "Shifting", "-", "RollingBack", "-", "-"},
        [ROLLOUT_UNDECIDED] = {"-", "Paused", "Shifting", "AwaitingApproval", "RollingBack", "-", "-"},
        [ROLLOUT_SOAKING] = {"=", "Paused", "-", "Completed", "RollingBack", "RollingBack", "-"},
        [ROLLOUT_COMPLETED] = {"=", "-", "-", "=", "-", "RollingBack", "-"},
        [ROLLOUT_ROLLING_BACK] = {"-", "-", "-", "-", "=", "=", "-"},
        [ROLLOUT_ROLLED_BACK] = {"Shifting", "-", "-", "-", "=", "-", "-"},
        [ROLLOUT_SEGMENT] = {"=", "Paused", "-", "Shifting", "RollingBack", "-", "-"},
        [ROLLOUT_SHADOW] = {"=", "Paused", "-", "Shifting", "RollingBack", "-", "-"},
    };
    for (int from = 0; from < ROLLOUT_STATES; from++) {
        for (int command = 0; command < ROLLOUT_COMMANDS; command++) {
            struct trace trace;
            reach(&trace, (enum rollout_state)from);
            struct rollout_view before;
            rollout_view_get(trace.rollout, &before);
            assert_int_equal(before.state, from);
            give_command(&trace, (enum rollout_command)command, "sre");
            const struct rollout_effects *effects = &trace.effects;
            const char *want = expected[from][command];
            bool refused = effects->refused != STATUS_OK;
            bool already = want[0] == '=';
            if (refused != (want[0] == '-' || already) ||
                (!refused && strcmp(want, rollout_state_name(effects->to)) != 0))
                fail_msg("%s in %s: %s %s", rollout_command_name((enum rollout_command)command),
                         rollout_state_name((enum rollout_state)from), rollout_state_name(effects->to),
                         effects->refused_text);
            if (refused) {
                assert_int_equal(effects->to, from);
                assert_int_equal(effects->weight, before.weight);
                assert_false(effects->has_verdict || effects->publish || effects->changed);
                assert_int_equal(effects->refused == STATUS_EXISTS, already);
                const char *begin = already ? "nothing to do: " : "cannot ";
                assert_int_equal(strncmp(effects->refused_text, begin, strlen(begin)), 0);
                assert_true(strstr(effects->refused_text, rollout_state_name((enum rollout_state)from)) !=
                            NULL);
            } else {
                assert_true(effects->has_verdict);
            }
            trace_end(&trace);
        }
    }
}

TEST(every_other_input_in_every_state_is_safe)
{
    for (int from = 0; from < ROLLOUT_STATES; from++) {
        struct trace trace;
        reach(&trace, (enum rollout_state)from);
        give_edges(&trace);
        give_tick(&trace, 100, 100, 1, 10, 1, 2);
        struct rollout_input input = {.kind = ROLLOUT_INPUT_RESUMED, .time_ms = 0};
        rollout_step(trace.rollout, &input, &trace.effects);
        assert_int_equal(trace.effects.publish, from != ROLLOUT_PENDING);
        struct rollout_spec spec;
        spec_make(&spec);
        give_spec(&trace, &spec);
        bool taken = from == ROLLOUT_PENDING || from == ROLLOUT_COMPLETED || from == ROLLOUT_ROLLED_BACK;
        assert_int_equal(trace.effects.refused == STATUS_OK, taken);
        spec.alpha = 2.0;
        give_spec(&trace, &spec);
        assert_int_equal(trace.effects.refused, taken ? STATUS_INVALID : STATUS_CONFLICT);
        (void)rollout_wait_ms(trace.rollout);
        trace_end(&trace);
    }
}

// ---- words ----

TEST(refusals_say_where_it_stands)
{
    struct trace trace;
    reach(&trace, ROLLOUT_SHIFTING);
    give_command(&trace, ROLLOUT_COMMAND_RESUME, "ann");
    assert_string_equal(trace.effects.refused_text,
                        "cannot resume: the rollout is not paused (it is Shifting, stage 1 of 4, 5 %)");
    trace_end(&trace);
}

// What is so already is no refusal; what only looks like it says what would do.
TEST(what_is_so_already)
{
    static const struct {
        enum rollout_state from;
        enum rollout_command command;
        enum status status;
        const char *words;
    } cases[] = {
        {ROLLOUT_SHIFTING, ROLLOUT_COMMAND_START, STATUS_EXISTS,
         "nothing to do: the rollout has been started already (it is Shifting, stage 1 of 4, 5 %)"},
        {ROLLOUT_COMPLETED, ROLLOUT_COMMAND_START, STATUS_EXISTS, "is complete already"},
        {ROLLOUT_COMPLETED, ROLLOUT_COMMAND_PROMOTE, STATUS_EXISTS, "is complete already"},
        {ROLLOUT_COMPLETED, ROLLOUT_COMMAND_ABORT, STATUS_CONFLICT, "undo takes it back"},
        {ROLLOUT_PAUSED, ROLLOUT_COMMAND_PAUSE, STATUS_EXISTS, "is paused already"},
        {ROLLOUT_PAUSED, ROLLOUT_COMMAND_START, STATUS_CONFLICT, "resume lets it go on"},
        {ROLLOUT_UNDECIDED, ROLLOUT_COMMAND_START, STATUS_CONFLICT, "resume, promote or abort decides"},
        {ROLLOUT_ROLLING_BACK, ROLLOUT_COMMAND_ABORT, STATUS_EXISTS, "is going back already"},
        {ROLLOUT_ROLLING_BACK, ROLLOUT_COMMAND_START, STATUS_CONFLICT, "start begins a new run"},
        {ROLLOUT_ROLLED_BACK, ROLLOUT_COMMAND_ABORT, STATUS_EXISTS, "has been rolled back already"},
        {ROLLOUT_ROLLED_BACK, ROLLOUT_COMMAND_UNDO, STATUS_CONFLICT, "start begins a new run"},
        {ROLLOUT_ROLLED_BACK, ROLLOUT_COMMAND_PROMOTE, STATUS_CONFLICT, "start begins a new run"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct trace trace;
        reach(&trace, cases[i].from);
        give_command(&trace, cases[i].command, "ann");
        assert_int_equal(trace.effects.refused, cases[i].status);
        assert_non_null(strstr(trace.effects.refused_text, cases[i].words));
        assert_false(trace.effects.changed || trace.effects.has_verdict);
        trace_end(&trace);
    }
}

TEST(a_rollback_says_all_it_rested_on)
{
    struct trace trace;
    reach(&trace, ROLLOUT_SHIFTING);
    for (int i = 0; i < 30 && trace.effects.to == ROLLOUT_SHIFTING; i++)
        give_tick(&trace, 1000, 1250, 1, 68, 12, 0);
    const struct rollout_verdict *verdict = &trace.effects.verdict;
    assert_int_equal(verdict->outcome, ROLLOUT_OUTCOME_ROLLED_BACK);
    assert_string_equal(verdict->check, "errors");
    // Whole seconds alone vote: the newest one is not over.
    uint64_t seconds = verdict->canary_total / 68;
    assert_int_equal(verdict->canary_events, 12 * seconds);
    assert_int_equal(verdict->baseline_events, seconds);
    assert_int_equal(verdict->baseline_total, 1250 * seconds);
    assert_true(verdict->ratio_low > 1.0);
    assert_true(verdict->log_e >= verdict->log_e_needed);
    char votes[64];
    snprintf(votes, sizeof votes, "in %u of %u s, each one vote", (unsigned)seconds, (unsigned)seconds);
    const char *const parts[] = {"ROLLED BACK 13:53:",
                                 "errors: canary 17.6 % (",
                                 "vs stable 0.0800 % (",
                                 "\n  more than 1.1× and 0.0200 % ",
                                 votes,
                                 "at most 1 % of rollouts of equal versions go back",
                                 "evidence since 13:53:21 UTC",
                                 "decided within 1.00 s of sufficing"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (strstr(verdict->text, parts[i]) == NULL)
            fail_msg("no '%s' in: %s", parts[i], verdict->text);
    trace_end(&trace);
}

TEST(undecided_says_what_is_missing)
{
    struct trace trace;
    reach(&trace, ROLLOUT_SHIFTING);
    give_tick(&trace, 1000, 1900, 2, 100, 0, 0);
    give_tick(&trace, 59000, 0, 0, 0, 0, 0);
    const struct rollout_verdict *verdict = &trace.effects.verdict;
    assert_int_equal(verdict->outcome, ROLLOUT_OUTCOME_UNDECIDED);
    assert_true(strstr(verdict->text, "UNDECIDED 13:54:20.000  stage 1 of 4, 5 %, after 60 s: held") != NULL);
    assert_true(strstr(verdict->text, "needs about ") != NULL);
    assert_true(strstr(verdict->text, " more requests, about ") != NULL);
    trace_end(&trace);
}

TEST(waits_name_the_next_moment)
{
    struct trace trace;
    reach(&trace, ROLLOUT_PENDING);
    assert_true(rollout_wait_ms(trace.rollout) == UINT64_MAX);
    give_command(&trace, ROLLOUT_COMMAND_START, "ann");
    assert_int_equal(rollout_wait_ms(trace.rollout), 0); // for a first tick
    // Without a request of the new version no time is watched; the horizon still comes nearer.
    give_tick(&trace, 100, 0, 0, 0, 0, 0);
    assert_int_equal(rollout_wait_ms(trace.rollout), 10000);
    give_tick(&trace, 10000, 0, 0, 0, 0, 0);
    assert_int_equal(rollout_wait_ms(trace.rollout), 60000 - 10100);
    // With requests in flight it wants to look again soon.
    give_tick(&trace, 100, 10, 0, 10, 0, 2);
    assert_int_equal(rollout_wait_ms(trace.rollout), 1000);
    give_command(&trace, ROLLOUT_COMMAND_ABORT, "ann");
    assert_int_equal(rollout_wait_ms(trace.rollout), 300);
    trace_end(&trace);
}
