// SPDX-License-Identifier: Apache-2.0
// The whole daemon in a simulated world: first safety under faults, then everything heals and progress is
// demanded. One seed is one world; every seed runs twice and must give the same trace and the same journal.
//
//     daemon_sim --seed 7 --verbose      one seed, with what happened
//     daemon_sim --seeds 1-40            many, one line at the end
//     daemon_sim --minutes 30            soak: new seeds until the time is over
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "world.h"

enum {
    STEP_US = 100000,
    OPERATOR_US = 500000,
    PROGRESS_US = 90000000, // a rollout must have ended by then
    LOAD_US = 1000000000,
    FINAL_LOAD_US = 1500000,
    FAILED_TOLD_MAX = 20,
};

// ---- the second phase ----

// What an attentive operator does: goes on where a person is waited for.
static void operate(struct world *world, uint32_t service, const struct rollout_view *view)
{
    switch (view->state) {
    case ROLLOUT_PENDING:
        (void)world_command(world, service, ROLLOUT_COMMAND_START);
        return;
    case ROLLOUT_PAUSED:
        (void)world_command(world, service, ROLLOUT_COMMAND_RESUME);
        return;
    case ROLLOUT_AWAITING_APPROVAL:
        (void)world_command(world, service, ROLLOUT_COMMAND_APPROVE);
        return;
    case ROLLOUT_UNDECIDED:
        if (!plan_nature_is_bad(world->plan.nature))
            (void)world_command(world, service, ROLLOUT_COMMAND_PROMOTE);
        return;
    default:
        return;
    }
}

static bool is_over(const struct rollout_view *view, uint32_t run)
{
    return rollout_state_is_final(view->state) || run == 0;
}

// Waits until every rollout is over. False when one does not end.
static bool await_end(struct world *world)
{
    uint64_t began_us = world_now_us(world);
    uint64_t next_us = began_us;
    while (world_now_us(world) - began_us < PROGRESS_US && !world->result->failed) {
        world_run(world, world_now_us(world) + STEP_US);
        bool over = world->daemon.up;
        bool act = world_now_us(world) >= next_us;
        for (uint32_t i = 0; i < world->plan.services && world->daemon.up; i++) {
            struct rollout_view view;
            uint32_t run;
            world_view(world, i, &view, &run);
            over = over && is_over(&view, run);
            if (act && !is_over(&view, run))
                operate(world, i, &view);
        }
        if (over)
            return true;
        if (act)
            next_us = world_now_us(world) + OPERATOR_US;
    }
    world_fail(world, "nothing is broken any more, and not every rollout ends%s",
               world->daemon.up ? "" : ": the daemon is down");
    return false;
}

static void take_back(struct world *world, uint32_t service)
{
    struct rollout_view view;
    uint32_t run;
    world_view(world, service, &view, &run);
    if (view.state != ROLLOUT_COMPLETED)
        return;
    enum status status = world_command(world, service, ROLLOUT_COMMAND_UNDO);
    if (status != STATUS_OK)
        world_fail(world, "a completed rollout cannot be undone: %s", status_name(status));
}

static void begin_again(struct world *world, uint32_t service)
{
    enum status status = world_command(world, service, ROLLOUT_COMMAND_START);
    if (status != STATUS_OK)
        world_fail(world, "a rollout cannot be started in a healthy world: %s", status_name(status));
}

// A run that no fault touches must end as the new version deserves.
static void judge_outcome(struct world *world, uint32_t service)
{
    struct rollout_view view;
    uint32_t run;
    world_view(world, service, &view, &run);
    bool good = world->plan.nature == PLAN_GOOD;
    bool alarm = view.state == ROLLOUT_ROLLED_BACK && view.last.outcome == ROLLOUT_OUTCOME_ROLLED_BACK;
    world_count_up(world, WORLD_GOOD_RUNS, good);
    world_count_up(world, WORLD_FALSE_ALARMS, good && alarm);
    world_say(world, "== the untouched run ends %s", rollout_state_name(view.state));
    if (plan_nature_is_bad(world->plan.nature) && view.state != ROLLOUT_ROLLED_BACK)
        world_fail(world, "a version that is clearly bad (%s) ended %s", plan_nature_name(world->plan.nature),
                   rollout_state_name(view.state));
    if (good && view.state == ROLLOUT_ROLLED_BACK && !alarm &&
        world->plan.undecided != ROLLOUT_UNDECIDED_ROLLBACK)
        world_fail(world, "a good version was taken back without evidence");
}

static void demand_progress(struct world *world)
{
    world_heal(world);
    world_say(world, "== everything heals");
    if (!await_end(world))
        return;
    for (uint32_t i = 0; i < world->plan.services; i++)
        take_back(world, i);
    if (!await_end(world))
        return;
    for (uint32_t i = 0; i < world->plan.services; i++)
        begin_again(world, i);
    if (world->result->failed || !await_end(world))
        return;
    for (uint32_t i = 0; i < world->plan.services; i++)
        judge_outcome(world, i);
}

static bool version_serves(struct world *world, const char *version)
{
    for (uint32_t i = 0; i < world->plan.services; i++) {
        struct rollout_view view;
        uint32_t run;
        world_view(world, i, &view, &run);
        if (strcmp(version, view.state == ROLLOUT_COMPLETED ? "v2" : "v1") == 0)
            return true;
    }
    return false;
}

// After a rollback all is answered by the old version, after completion by the new one.
static void demand_traffic(struct world *world)
{
    world_load_begin(world, world->plan.rate, FINAL_LOAD_US);
    world_run(world, world_now_us(world) + FINAL_LOAD_US + OPERATOR_US);
    const struct load_totals *t = load_totals(world->load);
    for (uint32_t i = 0; i < t->version_count; i++)
        if (!version_serves(world, t->versions[i].name))
            world_fail(world, "after the end \"%s\" answered %" PRIu64 " requests, and serves nothing",
                       t->versions[i].name, t->versions[i].answers);
    if (t->scheduled < 100 || t->failed != t->failures[LOAD_FAILED_STATUS] || t->failed > t->scheduled / 10)
        world_fail(world, "after the end %" PRIu64 " of %" PRIu64 " requests failed", t->failed,
                   t->scheduled);
    world_load_end(world);
}

// ---- one seed ----

static void run_world(uint64_t seed, struct world_result *result, FILE *verbose)
{
    static struct world world;
    world_create(&world, seed, result, verbose);
    if (verbose != NULL)
        plan_print(&world.plan, verbose);
    world_load_begin(&world, world.plan.rate, LOAD_US);
    world_run(&world, world.plan.safety_us);
    if (!result->failed)
        demand_progress(&world);
    if (!result->failed)
        world_load_end(&world);
    if (!result->failed)
        demand_traffic(&world);
    if (!result->failed) {
        world_check_accounts(&world);
        world_stop(&world);
        world_check_closed(&world);
        world_check_journal(&world);
    }
    world_destroy(&world);
}

static bool run_seed(uint64_t seed, uint64_t totals[WORLD_COUNTS], FILE *verbose)
{
    static struct world_result first, second;
    run_world(seed, &first, verbose);
    run_world(seed, &second, NULL);
    if (!first.failed &&
        (first.trace_hash != second.trace_hash || first.journal_hash != second.journal_hash)) {
        first.failed = true;
        snprintf(first.failure, sizeof first.failure, "the second run differs in its %s",
                 first.trace_hash != second.trace_hash ? "trace" : "journal");
    }
    for (int k = 0; k < WORLD_COUNTS; k++)
        totals[k] += first.counts[k];
    if (verbose != NULL)
        fprintf(verbose, "trace %016" PRIx64 ", journal %016" PRIx64 "\n", first.trace_hash,
                first.journal_hash);
    if (first.failed)
        fprintf(stderr, "seed %" PRIu64 " failed %s\n    daemon_sim --seed %" PRIu64 " --verbose\n", seed,
                first.failure, seed);
    return !first.failed;
}

// ---- many ----

struct tally {
    uint64_t passed, failed;
    uint64_t totals[WORLD_COUNTS];
};

static void tally_seed(struct tally *tally, uint64_t seed)
{
    if (run_seed(seed, tally->totals, NULL))
        tally->passed++;
    else
        tally->failed++;
}

// More false alarms than alpha = 1 % explains: four sigmas and one.
static bool alarms_excessive(const struct tally *tally)
{
    uint64_t runs = tally->totals[WORLD_GOOD_RUNS];
    double mean = 0.01 * (double)runs;
    double excess = (double)tally->totals[WORLD_FALSE_ALARMS] - mean - 1.0;
    return excess > 0.0 && excess * excess > 16.0 * mean;
}

static int tally_print(const struct tally *tally)
{
    for (int k = 0; k < WORLD_COUNTS; k++)
        printf("  %10" PRIu64 " %s\n", tally->totals[k], world_count_name((enum world_count)k));
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", tally->passed, tally->failed);
    if (!alarms_excessive(tally))
        return tally->failed == 0 ? 0 : 1;
    printf("more false alarms than 1 %% of the good runs\n");
    return 1;
}

static int soak(uint64_t first, double minutes)
{
    struct tally tally = {.passed = 0};
    time_t end = time(NULL) + (time_t)(minutes * 60.0);
    for (uint64_t seed = first; time(NULL) < end && tally.failed < FAILED_TOLD_MAX; seed++)
        tally_seed(&tally, seed);
    return tally_print(&tally);
}

static int usage(void)
{
    fprintf(stderr, "usage: daemon_sim --seed N [--verbose] | --seeds A-B | --minutes M [--seed FIRST]\n");
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, last = 0;
    double minutes = 0.0;
    FILE *verbose = NULL;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--verbose") == 0)
            verbose = stdout;
        else if (strcmp(argv[i], "--seed") == 0 && more)
            seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--minutes") == 0 && more)
            minutes = strtod(argv[++i], NULL);
        else if (strcmp(argv[i], "--seeds") != 0 || !more ||
                 sscanf(argv[++i], "%" SCNu64 "-%" SCNu64, &seed, &last) != 2)
            return usage();
    }
    if (minutes > 0.0)
        return soak(seed, minutes);
    struct tally tally = {.passed = 0};
    if (last == 0) {
        printf("seed %" PRIu64 "\n", seed);
        return run_seed(seed, tally.totals, verbose) ? 0 : 1;
    }
    for (uint64_t each = seed; each <= last; each++)
        tally_seed(&tally, each);
    return tally_print(&tally);
}
