// SPDX-License-Identifier: Apache-2.0
// rollout: whole rollouts against a seeded service. Good versions stay, bad ones leave, and each trap of
// docs/DECISIONS.md has a case that fails without its guard.
#include "rollout_hand.h"
#include "test.h"

static const double GOLDEN_LOG_E = 0.762732477;

static struct rollout_view view_of(const struct sim *sim)
{
    static struct rollout_view view;
    rollout_view_get(sim->rollout, &view);
    return view;
}

// ---- null and power ----

TEST(a_good_version_is_seldom_taken_back)
{
    static const uint32_t percents[] = {5, 20, 50};
    enum { ROLLOUTS = 150, TICKS = 200 };
    int back = 0;
    for (int i = 0; i < ROLLOUTS; i++) {
        struct rollout_spec spec;
        sim_spec(&spec, percents, 3, 6000, 0);
        spec.undecided = ROLLOUT_UNDECIDED_PROCEED;
        for (uint32_t k = 0; k < 3; k++)
            spec.stages[k].horizon_ms = 6500;
        struct sim *sim = sim_create(&spec, 1000 + (uint64_t)i, 60);
        sim->arms[ROLLOUT_ARM_STABLE].error_rate = 0.05;
        sim->arms[ROLLOUT_ARM_CANARY].error_rate = 0.05;
        sim_start(sim);
        back += sim_until(sim, sim_back, TICKS);
        sim_destroy(sim);
    }
    // At most 1 % in truth: 1.5 expected, three standard errors are 3.7.
    if (back > 5)
        fail_msg("%d of %d good versions were taken back", back, ROLLOUTS);
}

TEST(a_bad_version_leaves_soon)
{
    struct rollout_spec spec;
    static const uint32_t percents[] = {10, 50, 100};
    for (uint64_t seed = 1; seed <= 10; seed++) {
        sim_spec(&spec, percents, 3, 30000, 0);
        struct sim *sim = sim_create(&spec, seed, 100);
        sim->arms[ROLLOUT_ARM_STABLE].error_rate = 0.001;
        sim->arms[ROLLOUT_ARM_CANARY].error_rate = 0.3;
        sim_start(sim);
        // At ten of a hundred requests a second every second votes as loud as one can: twelve are needed.
        assert_true(sim_until(sim, sim_back, 160));
        assert_int_equal(sim->effects.verdict.outcome, ROLLOUT_OUTCOME_ROLLED_BACK);
        assert_string_equal(sim->effects.verdict.check, "errors");
        assert_true(sim->effects.verdict.ratio_low > 1.0);
        assert_int_equal(sim->effects.weight, 0);
        assert_true(sim->effects.publish);
        sim_destroy(sim);
    }
}

TEST(a_slow_version_leaves)
{
    struct rollout_spec spec;
    static const uint32_t percents[] = {50};
    for (uint64_t seed = 1; seed <= 5; seed++) {
        sim_spec(&spec, percents, 1, 600000, 0);
        struct sim *sim = sim_create(&spec, seed, 100);
        sim->arms[ROLLOUT_ARM_CANARY].slowdown = 1.5;
        sim_start(sim);
        assert_true(sim_until(sim, sim_back, 900));
        assert_memory_equal(sim->effects.verdict.check, "latency", 7);
        sim_destroy(sim);
    }
}

TEST(a_version_that_answers_less_leaves)
{
    struct rollout_spec spec;
    static const uint32_t percents[] = {50};
    sim_spec(&spec, percents, 1, 600000, 0);
    spec.throughput = (struct rollout_check_throughput){.on = true, .share = 0.3, .margin = 1.1};
    struct sim *sim = sim_create(&spec, 3, 100);
    sim->arms[ROLLOUT_ARM_CANARY].lost = 0.5;
    sim_start(sim);
    assert_true(sim_until(sim, sim_back, 200));
    assert_string_equal(sim->effects.verdict.check, "throughput");
    assert_true(strstr(sim->effects.verdict.text, "no good answer: canary 50.") != NULL ||
                strstr(sim->effects.verdict.text, "no good answer: canary 49.") != NULL);
    sim_destroy(sim);
}

TEST(a_good_version_arrives)
{
    struct rollout_spec spec;
    static const uint32_t percents[] = {10, 50, 100};
    sim_spec(&spec, percents, 3, 2000, 5000);
    spec.throughput = (struct rollout_check_throughput){.on = true, .share = 0.3, .margin = 1.1};
    struct sim *sim = sim_create(&spec, 7, 200);
    sim_start(sim);
    assert_true(sim_until(sim, sim_end, 2000));
    assert_int_equal(sim->effects.to, ROLLOUT_COMPLETED);
    assert_int_equal(sim->effects.weight, ROLLOUT_WEIGHT_FULL);
    struct rollout_view view = view_of(sim);
    assert_int_equal(view.spans_ignored, 0);
    assert_int_equal(view.routed[ROLLOUT_ARM_STABLE] + view.routed[ROLLOUT_ARM_CANARY], sim->requests);
    sim_destroy(sim);
}

// A canary that is 2.4 times as far off as the ratio allows must not be promoted by chance more than beta
// says.
TEST(a_worse_version_is_not_promoted)
{
    int promoted = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct rollout_spec spec;
        spec_of_errors(&spec);
        spec.stages[0].min_ms = 1000;
        spec.errors.worse = 100; // no rollback here
        spec.errors.prove = ROLLOUT_PROVE_RATIO;
        spec.errors.margin = 1.25;
        struct sim *sim = sim_create(&spec, 40 + seed, 100);
        sim->arms[ROLLOUT_ARM_STABLE].error_rate = 0.10;
        sim->arms[ROLLOUT_ARM_CANARY].error_rate = 0.13;
        sim_start(sim);
        promoted += sim_until(sim, 1u << ROLLOUT_COMPLETED, 150);
        sim_destroy(sim);
    }
    if (promoted > 6)
        fail_msg("%d of 40 promoted, beta is 5 %%", promoted);
}

// ---- traps ----

// Equal error rates; the canary's errors are known at once, the baseline's after 15 s.
TEST(completion_order_does_not_alarm)
{
    int back = 0;
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct rollout_spec spec;
        spec_of_errors(&spec);
        struct sim *sim = sim_create(&spec, 500 + seed, 40);
        sim->arms[ROLLOUT_ARM_STABLE] =
            (struct sim_arm){.error_rate = 0.05, .error_delay = 5, .slowdown = 1.0};
        sim->arms[ROLLOUT_ARM_CANARY] =
            (struct sim_arm){.error_rate = 0.05, .error_delay = 0, .slowdown = 1.0};
        sim_start(sim);
        back += sim_until(sim, sim_back, 250);
        sim_destroy(sim);
    }
    assert_int_equal(back, 0);
}

// The mirror image: a canary that hangs is not promoted on the answers it did give.
TEST(pending_canary_requests_are_not_good)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    spec.stages[0].min_ms = 0;
    struct sim *sim = sim_create(&spec, 77, 100);
    sim->arms[ROLLOUT_ARM_STABLE] = (struct sim_arm){.error_rate = 0.05, .error_delay = 0, .slowdown = 1.0};
    sim->arms[ROLLOUT_ARM_CANARY] = (struct sim_arm){.error_rate = 0.30, .error_delay = 5, .slowdown = 1.0};
    sim_start(sim);
    assert_false(sim_until(sim, 1u << ROLLOUT_COMPLETED, 140));
    // And when its time-outs come, it leaves.
    assert_true(sim_until(sim, sim_back, 160));
    sim_destroy(sim);
}

// A canary that hangs beyond the deadline without any outcome is as bad as one that fails.
TEST(a_hanging_version_leaves_at_the_deadline)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    spec.deadline_ms = 2000;
    struct sim *sim = sim_create(&spec, 78, 100);
    sim->arms[ROLLOUT_ARM_CANARY] = (struct sim_arm){.error_rate = 0.9, .error_delay = 5, .slowdown = 1.0};
    sim_start(sim);
    assert_true(sim_until(sim, sim_back, 170));
    sim_destroy(sim);
}

// With the latency check it is seen long before any deadline: what waits past its limit is slow already.
TEST(a_hanging_version_is_slow_before_the_deadline)
{
    struct rollout_spec spec;
    static const uint32_t percents[] = {50};
    sim_spec(&spec, percents, 1, 600000, 0);
    struct sim *sim = sim_create(&spec, 79, 100);
    sim->arms[ROLLOUT_ARM_CANARY] = (struct sim_arm){.error_rate = 1.0, .error_delay = 5, .slowdown = 1.0};
    sim_start(sim);
    assert_true(sim_until(sim, sim_back, 145)); // its first error would come after 150
    assert_memory_equal(sim->effects.verdict.check, "latency", 7);
    sim_destroy(sim);
}

// The base rate falls while the weight rises: in totals the canary looks much better or much worse than it
// is.
TEST(a_ramp_under_a_drifting_rate_does_not_alarm)
{
    static const uint32_t percents[] = {1, 50, 90};
    int back = 0;
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct rollout_spec spec;
        sim_spec(&spec, percents, 3, 5000, 0);
        spec.latency.on = false;
        spec.undecided = ROLLOUT_UNDECIDED_PROCEED;
        for (int k = 0; k < 3; k++)
            spec.stages[k].horizon_ms = 5000;
        struct sim *sim = sim_create(&spec, 900 + seed, 100);
        sim_start(sim);
        for (int tick = 0; tick < 150; tick++) {
            double rate = sim->weight <= 1000 ? 0.01 : 0.20; // both arms alike
            sim->arms[ROLLOUT_ARM_STABLE].error_rate = rate;
            sim->arms[ROLLOUT_ARM_CANARY].error_rate = rate;
            sim_tick(sim);
            if ((sim_back & (1u << sim->effects.to)) != 0) {
                back++;
                break;
            }
        }
        sim_destroy(sim);
    }
    assert_int_equal(back, 0);
}

// ---- hand-made spans ----

// Heavy users sit on the stable version: it gets three times its share of the requests, from as many users,
// of whom as many fail.
TEST(heavy_users_under_keyed_assignment_do_not_alarm)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    spec.keyed = true;
    struct hand hand;
    hand_begin(&hand, &spec);
    struct rng rng;
    rng_init(&rng, 5);
    for (int i = 0; i < 300; i++) {
        struct rollout_span_delta delta = hand_span(&hand, 50000, 150, 0, 50, 0);
        for (int user = 0; user < 100; user++) { // half of them in each arm; each one's error counts once
            struct rollout_counts *counts = &delta.arms[user < 50 ? ROLLOUT_ARM_STABLE : ROLLOUT_ARM_CANARY];
            if (rng_double(&rng) >= 0.05)
                continue;
            counts->errors += user < 50 ? 3 : 1;
            counts->error_events++;
        }
        delta.arms[ROLLOUT_ARM_STABLE].units = 1; // users are spread evenly
        delta.arms[ROLLOUT_ARM_CANARY].units = 1;
        hand_tick(&hand, &delta, 1);
        assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    }
    hand_end(&hand);
}

// Fifty users in each arm, each judged once a second. One of them is always slow, and he is in the canary:
// what the lot over users may do is not held against the version. The same from most users is.
TEST(a_slow_user_does_not_alarm)
{
    for (int everybody = 0; everybody < 2; everybody++) {
        struct rollout_spec spec;
        static const uint32_t percents[] = {50};
        sim_spec(&spec, percents, 1, 600000, 0);
        spec.keyed = true;
        spec.errors.on = false;
        struct hand hand;
        hand_begin(&hand, &spec);
        struct rollout_input input = {
            .kind = ROLLOUT_INPUT_EDGES,
            .time_ms = hand.time_ms,
            .edges = {.requests = 10000, .edge_us = {50000, 180000, 512000, 1100000}}};
        rollout_step(hand.rollout, &input, &hand.effects);
        assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
        for (uint32_t i = 0; i < 400 && hand.effects.to == ROLLOUT_SHIFTING; i++) {
            struct rollout_span_delta delta = hand_span(&hand, 50000, 5, 0, 5, 0);
            for (int k = 0; k < ROLLOUT_EDGES; k++)
                delta.arms[ROLLOUT_ARM_CANARY].slow[k] = everybody != 0 ? 4 : i % 10 == 0;
            delta.arms[ROLLOUT_ARM_STABLE].unit_squares = 5 * (2 * (i / 10) + 1);
            delta.arms[ROLLOUT_ARM_CANARY].unit_squares = 5 * (2 * (i / 10) + 1);
            delta.arms[ROLLOUT_ARM_STABLE].units = delta.arms[ROLLOUT_ARM_CANARY].units = i == 0 ? 50 : 0;
            hand_tick(&hand, &delta, 1);
        }
        assert_int_equal(hand.effects.to, everybody != 0 ? ROLLOUT_ROLLING_BACK : ROLLOUT_SHIFTING);
        hand_end(&hand);
    }
}

// A handful of users cannot show that a version is good for all.
TEST(too_few_users_promote_nothing)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    spec.keyed = true;
    spec.stages[0].min_ms = 1000;
    spec.stages[0].horizon_ms = 30000;
    struct hand hand;
    hand_begin(&hand, &spec);
    for (uint32_t i = 0; i < 310 && hand.effects.to == ROLLOUT_SHIFTING; i++) {
        struct rollout_span_delta delta = hand_span(&hand, 50000, 100, 0, 100, 0);
        // Four users in each arm, 25 requests each.
        delta.arms[ROLLOUT_ARM_STABLE].unit_squares = (2 * i + 1) * 4 * 25 * 25;
        delta.arms[ROLLOUT_ARM_CANARY].unit_squares = (2 * i + 1) * 4 * 25 * 25;
        delta.arms[ROLLOUT_ARM_STABLE].units = delta.arms[ROLLOUT_ARM_CANARY].units = i == 0 ? 4 : 0;
        hand_tick(&hand, &delta, 1);
    }
    assert_int_equal(hand.effects.to, ROLLOUT_UNDECIDED);
    assert_true(strstr(hand.effects.verdict.text, "too few users in an arm to tell") != NULL);
    hand_end(&hand);
}

TEST(a_broken_assignment_withholds_promotion_only)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    spec.stages[0].min_ms = 0;
    struct hand hand;
    hand_begin(&hand, &spec);
    int blocked = 0;
    // Twice as many as the weight says; good ones do not carry it on, and bad ones take it back.
    for (int i = 0; i < 400 && hand.effects.to == ROLLOUT_SHIFTING; i++) {
        struct rollout_span_delta delta = hand_span(&hand, 50000, 5, 0, 10, i > 200 ? 3 : 0);
        hand_tick(&hand, &delta, 1);
        if (hand.effects.has_verdict && hand.effects.to == ROLLOUT_SHIFTING) {
            assert_int_equal(hand.effects.verdict.outcome, ROLLOUT_OUTCOME_BLOCKED);
            assert_string_equal(hand.effects.verdict.check, "sample ratio");
            blocked++;
        }
    }
    assert_int_equal(blocked, 1);
    assert_int_equal(hand.effects.to, ROLLOUT_ROLLING_BACK);
    assert_string_equal(hand.effects.verdict.check, "errors");
    hand_end(&hand);
}

// A process that stalls makes hundreds of requests fail or slow at once: that is one event.
TEST(a_stall_is_one_event)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    spec.stages[0].min_ms = 3600000;
    struct hand hand;
    hand_begin(&hand, &spec);
    for (int i = 0; i < 3000; i++) {
        // Each minute one second in which all of the canary's requests fail, and none of the baseline's.
        bool stalls = i % 600 < 9;
        struct rollout_span_delta delta = hand_span(&hand, 50000, 500, 0, 500, stalls ? 500 : 0);
        hand_tick(&hand, &delta, 1);
        assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    }
    hand_end(&hand);
}

// A second in which the weight changed says nothing: its requests were split by two weights.
TEST(a_second_of_two_weights_is_silent)
{
    struct rollout_spec spec;
    static const uint32_t percents[] = {10, 50};
    sim_spec(&spec, percents, 2, 3600000, 0);
    spec.latency.on = false;
    struct hand hand;
    hand_begin(&hand, &spec);
    for (int second = 0; second < 40; second++) {
        for (int i = 0; i < 10; i++) {
            struct rollout_span_delta delta = hand_span(&hand, i < 5 ? 10000 : 50000, 100, 0, 100, 4);
            delta.table = i < 5 ? 1 : 2;
            hand_tick(&hand, &delta, 1);
            assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
        }
    }
    hand_end(&hand);
}

// Most requests fail in each of three seconds, and less than a fifth of the old version's.
TEST(the_outage_trigger)
{
    for (int variant = 0; variant < 5; variant++) {
        struct rollout_spec spec;
        spec_of_errors(&spec);
        spec.outage = variant == 2 ? 0.0 : 0.5;
        struct hand hand;
        hand_begin(&hand, &spec);
        for (int i = 0; i < 60; i++) {
            // Now and then an answer is good, so that there is no outage in the strict sense.
            uint32_t stable_errors = variant == 1   ? 6
                                     : variant == 4 ? 2
                                                    : 0,
                     canary_errors = variant == 3 ? 4 : 7;
            struct rollout_span_delta delta = hand_span(&hand, 50000, 10, stable_errors, 10, canary_errors);
            hand_tick(&hand, &delta, 1);
            if (hand.effects.to != ROLLOUT_SHIFTING)
                break;
        }
        assert_int_equal(hand.effects.to, variant == 0 ? ROLLOUT_ROLLING_BACK : ROLLOUT_SHIFTING);
        if (variant == 0) {
            assert_string_equal(hand.effects.verdict.check, "outage");
            assert_non_null(strstr(
                hand.effects.verdict.text,
                "in each of the last 3 s, of the last of which stable 0 % (0/100): a trigger, not a test"));
            assert_true(hand.tick >= 30 && hand.tick <= 42);
        }
        hand_end(&hand);
    }
}

// Nobody can log in any more: no error, and yet a broken version.
TEST(a_version_that_refuses_everybody_leaves)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    for (int redirects = 0; redirects < 2; redirects++) {
        struct hand hand;
        hand_begin(&hand, &spec);
        for (int i = 0; i < 250 && hand.effects.to == ROLLOUT_SHIFTING; i++) {
            struct rollout_span_delta delta = hand_span(&hand, 50000, 20, 0, 20, 0);
            delta.arms[ROLLOUT_ARM_STABLE].client_errors = 1;
            delta.arms[ROLLOUT_ARM_CANARY].client_errors = redirects != 0 ? 1 : 20;
            delta.arms[ROLLOUT_ARM_CANARY].redirects = redirects != 0 ? 19 : 0;
            hand_tick(&hand, &delta, 1);
        }
        assert_int_equal(hand.effects.to, ROLLOUT_ROLLING_BACK);
        assert_string_equal(hand.effects.verdict.check, redirects != 0 ? "statuses 3xx" : "statuses 4xx");
        hand_end(&hand);
    }
}

// Only time that was watched counts: neither hours without a request of the new version, nor the time that
// the process slept, nor what a wall clock says.
TEST(unwatched_time_completes_nothing)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    spec.stages[0] =
        (struct rollout_stage){.kind = ROLLOUT_STAGE_WEIGHT, .weight = ROLLOUT_WEIGHT_FULL, .soak_ms = 60000};
    struct hand hand;
    hand_begin(&hand, &spec);
    hand_tick(&hand, NULL, 0);
    assert_int_equal(hand.effects.to, ROLLOUT_SOAKING);
    hand.tick += 36000;
    hand.time_ms += 3600000;
    hand_tick(&hand, NULL, 0); // an hour without traffic
    assert_int_equal(hand.effects.to, ROLLOUT_SOAKING);
    for (int i = 0; i < 100; i++) {
        struct rollout_span_delta delta = hand_span(&hand, ROLLOUT_WEIGHT_FULL, 0, 0, 10, 0);
        hand_tick(&hand, &delta, 1);
    }
    struct rollout_view view;
    rollout_view_get(hand.rollout, &view);
    assert_in_range(view.stage_watched_ms, 9800, 10000);
    hand.tick += 36000;
    hand_tick(&hand, NULL, 0); // nobody came for an hour: the first ten seconds of it were watched
    rollout_view_get(hand.rollout, &view);
    assert_in_range(view.stage_watched_ms, 19800, 20000);
    struct rollout_span_delta delta = hand_span(&hand, ROLLOUT_WEIGHT_FULL, 0, 0, 10, 0);
    hand_tick(&hand, &delta, 1);
    // Stopped for an hour in the midst of traffic, then woken: the requests that came meanwhile were not
    // watched.
    delta = hand_span(&hand, ROLLOUT_WEIGHT_FULL, 0, 0, 10, 0);
    delta.tick = hand.tick += 36000;
    struct rollout_input input = {.kind = ROLLOUT_INPUT_TICK, .time_ms = hand.time_ms += 3600000};
    input.tick.tick = ++hand.tick;
    input.tick.slept_ticks = 36000;
    input.tick.spans = &delta;
    input.tick.span_count = 1;
    rollout_step(hand.rollout, &input, &hand.effects);
    rollout_view_get(hand.rollout, &view);
    assert_in_range(view.stage_watched_ms, 19800, 20200);
    hand.time_ms += 7200000; // the clock alone is set
    for (int i = 0; i < 380; i++) {
        delta = hand_span(&hand, ROLLOUT_WEIGHT_FULL, 0, 0, 10, 0);
        hand_tick(&hand, &delta, 1);
        assert_int_equal(hand.effects.to, ROLLOUT_SOAKING);
    }
    for (int i = 0; i < 30; i++) {
        delta = hand_span(&hand, ROLLOUT_WEIGHT_FULL, 0, 0, 10, 0);
        hand_tick(&hand, &delta, 1);
    }
    assert_int_equal(hand.effects.to, ROLLOUT_COMPLETED);
    hand_end(&hand);
}

// What passed since the run before is not this run's time.
TEST(a_new_run_has_a_clock_of_its_own)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    spec.stages[0].min_ms = 1000;
    spec.stages[0].horizon_ms = 20000;
    struct hand hand;
    hand_begin(&hand, &spec);
    hand_tick(&hand, NULL, 0);
    struct rollout_input input = {.kind = ROLLOUT_INPUT_COMMAND, .time_ms = hand.time_ms};
    input.command.command = ROLLOUT_COMMAND_ABORT;
    rollout_step(hand.rollout, &input, &hand.effects);
    for (int i = 0; i < 10; i++)
        hand_tick(&hand, NULL, 0);
    assert_int_equal(hand.effects.to, ROLLOUT_ROLLED_BACK);
    hand.tick += 600;
    input.command.command = ROLLOUT_COMMAND_START;
    rollout_step(hand.rollout, &input, &hand.effects);
    assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    hand_tick(&hand, NULL, 0);
    assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING); // a minute went by, but not under it
    struct rollout_view view;
    rollout_view_get(hand.rollout, &view);
    assert_int_equal(view.stage_watched_ms, 0);
    hand_end(&hand);
}

// An operator who skips the baseline of the only check leaves nothing to judge by: nothing moves, nothing
// breaks.
TEST(without_any_check_nothing_moves)
{
    struct rollout_spec spec;
    static const uint32_t percents[] = {50, 100};
    sim_spec(&spec, percents, 2, 1000, 1000);
    spec.errors.on = spec.statuses.on = false;
    struct hand hand;
    hand_begin(&hand, &spec);
    struct rollout_input input = {.kind = ROLLOUT_INPUT_COMMAND, .time_ms = hand.time_ms};
    input.command.command = ROLLOUT_COMMAND_PROMOTE;
    rollout_step(hand.rollout, &input, &hand.effects);
    assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    for (int i = 0; i < 200; i++) {
        struct rollout_span_delta delta = hand_span(&hand, 50000, 100, 0, 100, 0);
        hand_tick(&hand, &delta, 1);
        assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    }
    hand_end(&hand);
}

// Users who ask often have each had their first error within a second. That the version fails them all, every
// time, is seen by the trigger, with a unit as without, and in the soak as well.
TEST(a_dead_version_with_a_unit_leaves)
{
    for (int soak = 0; soak < 2; soak++) {
        struct rollout_spec spec;
        spec_of_errors(&spec);
        spec.keyed = true;
        if (soak != 0)
            spec.stages[0] = (struct rollout_stage){
                .kind = ROLLOUT_STAGE_WEIGHT, .weight = ROLLOUT_WEIGHT_FULL, .soak_ms = 600000};
        struct hand hand;
        hand_begin(&hand, &spec);
        for (uint32_t i = 0; i < 300 && hand.effects.to != ROLLOUT_ROLLING_BACK; i++) {
            struct rollout_span_delta delta =
                hand_span(&hand, soak != 0 ? ROLLOUT_WEIGHT_FULL : 50000, soak != 0 ? 0 : 10, 0, 10, 10);
            delta.arms[ROLLOUT_ARM_CANARY].error_events = i < 10 ? 10 : 0;
            for (int arm = 0; arm < 2; arm++)
                delta.arms[arm].unit_squares = 10 * (2 * (i / 10) + 1);
            delta.arms[ROLLOUT_ARM_CANARY].units = delta.arms[ROLLOUT_ARM_STABLE].units = i == 0 ? 100 : 0;
            hand_tick(&hand, &delta, 1);
        }
        assert_int_equal(hand.effects.to, ROLLOUT_ROLLING_BACK);
        hand_end(&hand);
    }
}

// A run of another rule goes on where it stands, and what it was seen to do before counts no more.
TEST(a_run_is_taken_over)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    struct rollout *rollout = malloc(rollout_size());
    assert_non_null(rollout);
    rollout_init(rollout);
    struct rollout_input input = {.kind = ROLLOUT_INPUT_TAKEOVER, .time_ms = 1760000000000};
    input.takeover = (struct rollout_takeover){
        .spec = &spec, .state = ROLLOUT_SHIFTING, .weight = 50000, .started_ms = 1750000000000};
    memcpy(input.takeover.last.text, "PROMOTED before", 16);
    struct rollout_effects effects;
    rollout_step(rollout, &input, &effects);
    assert_int_equal(effects.refused, STATUS_OK);
    assert_true(effects.publish);
    struct rollout_view view;
    rollout_view_get(rollout, &view);
    assert_int_equal(view.state, ROLLOUT_SHIFTING);
    assert_int_equal(view.weight, 50000);
    assert_int_equal(view.started_ms, 1750000000000);
    assert_string_equal(view.last.text, "PROMOTED before");
    assert_int_equal(view.routed[ROLLOUT_ARM_CANARY], 0);
    // What does not fit is refused: a weight that the stage does not have, a rule of another version.
    input.takeover.weight = 40000;
    rollout_step(rollout, &input, &effects);
    assert_int_equal(effects.refused, STATUS_INVALID);
    input.takeover.weight = 50000;
    spec.rule = ROLLOUT_RULE_REQUESTS;
    rollout_step(rollout, &input, &effects);
    assert_int_equal(effects.refused, STATUS_INVALID);
    free(rollout);
}

// The process dies while slow baseline failures are in flight: what it knew by then must not look like proof.
TEST(a_restart_does_not_credit_the_slow_failures)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    struct hand hand;
    hand_begin(&hand, &spec);
    for (int i = 0; i < 250; i++) {
        struct rollout_span_delta delta = hand_span(&hand, 50000, 100, 0, 100, 3);
        delta.arms[ROLLOUT_ARM_STABLE].completed -= 3; // will be time-outs
        delta.arms[ROLLOUT_ARM_STABLE].good -= 3;
        hand_tick(&hand, &delta, 1);
        assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    }
    struct rollout_input input = {.kind = ROLLOUT_INPUT_RESUMED, .time_ms = hand.time_ms};
    rollout_step(hand.rollout, &input, &hand.effects);
    assert_true(hand.effects.publish);
    assert_int_equal(hand.effects.weight, 50000);
    hand.tick = 0;
    hand_tick(&hand, NULL, 0);
    assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    // Ticks count from zero again and evidence goes on.
    for (int i = 0; i < 50 && hand.effects.to == ROLLOUT_SHIFTING; i++) {
        struct rollout_span_delta delta = hand_span(&hand, 50000, 100, 0, 100, 80);
        hand_tick(&hand, &delta, 1);
    }
    assert_int_equal(hand.effects.to, ROLLOUT_ROLLING_BACK);
    hand_end(&hand);
}

// ln E of seconds with 30 against 10 errors of a thousand, computed apart, through the whole machine.
TEST(the_judge_sees_the_seconds)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    spec.statuses.on = false;
    struct hand hand;
    hand_begin(&hand, &spec);
    for (int i = 0; i < 30; i++) {
        struct rollout_span_delta delta = hand_span(&hand, 50000, 100, 1, 100, 3);
        hand_tick(&hand, &delta, 1);
    }
    hand_tick(&hand, NULL, 0);
    struct rollout_view view;
    rollout_view_get(hand.rollout, &view);
    if (fabs(view.log_e_bad - GOLDEN_LOG_E) > 1e-6)
        fail_msg("ln E is %.9f", view.log_e_bad);
    hand_end(&hand);
}

// Every canary request is answered well in the end, because a second attempt hid the first one's failure.
TEST(retries_do_not_hide_failures)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    struct hand hand;
    hand_begin(&hand, &spec);
    for (int i = 0; i < 160 && hand.effects.to == ROLLOUT_SHIFTING; i++) {
        struct rollout_span_delta delta = hand_span(&hand, 50000, 100, 0, 100, 10);
        delta.arms[ROLLOUT_ARM_CANARY].good = 100;
        hand_tick(&hand, &delta, 1);
    }
    assert_int_equal(hand.effects.to, ROLLOUT_ROLLING_BACK);
    hand_end(&hand);
}

// The canary fails while it is cold, and so does the control arm; the warm stable arm does not.
TEST(a_control_arm_is_the_baseline)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    spec.control = true;
    spec.stages[0].weight = 10000;
    struct hand hand;
    hand_begin(&hand, &spec);
    for (int i = 0; i < 300; i++) {
        struct rollout_span_delta delta = hand_span(&hand, 10000, 800, 0, 100, 4);
        delta.weight_control = 10000;
        delta.arms[ROLLOUT_ARM_CONTROL] = delta.arms[ROLLOUT_ARM_CANARY];
        hand_tick(&hand, &delta, 1);
        assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    }
    hand_end(&hand);
}

// A process that restarted while the rollout rested counts its ticks from zero; the new run must see them.
TEST(a_run_after_an_unannounced_restart_sees_its_evidence)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    struct hand hand;
    hand_begin(&hand, &spec);
    hand.tick = 50000;
    struct rollout_span_delta delta;
    for (int i = 0; i < 50; i++) {
        delta = hand_span(&hand, 50000, 100, 0, 100, 90);
        hand_tick(&hand, &delta, 1);
    }
    for (int i = 0; i < 10; i++)
        hand_tick(&hand, NULL, 0);
    assert_int_equal(hand.effects.to, ROLLOUT_ROLLED_BACK);
    hand.tick = 0;
    struct rollout_input input = {.kind = ROLLOUT_INPUT_COMMAND, .time_ms = hand.time_ms};
    rollout_step(hand.rollout, &input, &hand.effects);
    assert_int_equal(hand.effects.to, ROLLOUT_SHIFTING);
    for (int i = 0; i < 50 && hand.effects.to == ROLLOUT_SHIFTING; i++) {
        delta = hand_span(&hand, 50000, 100, 0, 100, 90);
        hand_tick(&hand, &delta, 1);
    }
    assert_int_equal(hand.effects.to, ROLLOUT_ROLLING_BACK);
    hand_end(&hand);
}

TEST(the_warm_up_counts_errors_only)
{
    struct rollout_spec spec;
    static const uint32_t percents[] = {50};
    sim_spec(&spec, percents, 1, 600000, 0);
    spec.warmup_ms = 5000;
    struct sim *sim = sim_create(&spec, 11, 100);
    sim->arms[ROLLOUT_ARM_CANARY].slowdown = 3.0;
    sim_start(sim);
    assert_false(sim_until(sim, sim_back, 55));
    struct rollout_view view = view_of(sim);
    assert_true(view.checks[1].log_e_bad <= 0.7);
    assert_true(sim_until(sim, sim_back, 200));
    sim_destroy(sim);
    sim = sim_create(&spec, 11, 100);
    sim->arms[ROLLOUT_ARM_CANARY].error_rate = 0.5;
    sim_start(sim);
    assert_true(sim_until(sim, sim_back, 160));
    assert_string_equal(sim->effects.verdict.check, "errors");
    sim_destroy(sim);
}

TEST(the_soak_catches_what_only_full_load_shows)
{
    static const uint32_t percents[] = {50, 100};
    struct rollout_spec spec;
    sim_spec(&spec, percents, 2, 1000, 60000);
    spec.errors.negligible = 0.01;
    struct sim *sim = sim_create(&spec, 21, 200);
    sim->arms[ROLLOUT_ARM_STABLE].error_rate = 0.002;
    sim->arms[ROLLOUT_ARM_CANARY].error_rate = 0.002;
    sim_start(sim);
    assert_true(sim_until(sim, 1u << ROLLOUT_SOAKING, 3000));
    assert_false(sim_until(sim, sim_back, 100));
    sim->arms[ROLLOUT_ARM_CANARY].error_rate = 0.10;
    assert_true(sim_until(sim, sim_back, 200));
    assert_string_equal(sim->effects.verdict.check, "errors");
    assert_true(strstr(sim->effects.verdict.text, "in the soak at 100 %") != NULL);
    sim_destroy(sim);
}

TEST(a_long_soak_of_a_good_version_stays_quiet)
{
    static const uint32_t percents[] = {50, 100};
    for (uint64_t seed = 0; seed < 3; seed++) {
        struct rollout_spec spec;
        sim_spec(&spec, percents, 2, 1000, 150000);
        struct sim *sim = sim_create(&spec, 31 + seed, 100);
        sim->arms[ROLLOUT_ARM_STABLE].error_rate = 0.01;
        sim->arms[ROLLOUT_ARM_CANARY].error_rate = 0.01;
        sim_start(sim);
        assert_true(sim_until(sim, sim_end, 6000));
        assert_int_equal(sim->effects.to, ROLLOUT_COMPLETED);
        sim_destroy(sim);
    }
}

// Without a baseline beside it, a stall of the machine slows every request of a moment. Such moments are no
// regression; a version that stays slow is.
TEST(the_soak_tells_bursts_from_slowness)
{
    static const uint32_t percents[] = {50, 100};
    struct rollout_spec spec;
    sim_spec(&spec, percents, 2, 1000, 60000);
    spec.latency.on = true;
    struct sim *sim = sim_create(&spec, 41, 200);
    sim_start(sim);
    assert_true(sim_until(sim, 1u << ROLLOUT_SOAKING, 3000));
    for (int burst = 0; burst < 3; burst++) {
        sim_slow_down(sim, ROLLOUT_ARM_CANARY, 8.0);
        assert_false(sim_until(sim, sim_back, 4));
        sim_slow_down(sim, ROLLOUT_ARM_CANARY, 1.0);
        assert_false(sim_until(sim, sim_back, 96));
    }
    sim_slow_down(sim, ROLLOUT_ARM_CANARY, 2.5);
    assert_true(sim_until(sim, sim_back, 200));
    assert_true(strstr(sim->effects.verdict.check, "latency") != NULL);
    sim_destroy(sim);
}

// ---- robustness ----

TEST(more_spans_than_the_ring_holds)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    struct hand hand;
    hand_begin(&hand, &spec);
    static struct rollout_span_delta deltas[ROLLOUT_TICK_SPANS_MAX];
    for (int round = 0; round < 4; round++) {
        for (uint32_t i = 0; i < ROLLOUT_TICK_SPANS_MAX; i++) {
            deltas[i] = hand_span(&hand, 50000, 2, 0, 2, 0);
            deltas[i].table = 1 + i;
            deltas[i].arms[ROLLOUT_ARM_STABLE].completed = 0;
        }
        hand_tick(&hand, deltas, ROLLOUT_TICK_SPANS_MAX);
    }
    // The first round's spans are closed: late news of them is counted as ignored.
    deltas[0].tick = 0;
    hand_tick(&hand, deltas, 1);
    struct rollout_view view;
    rollout_view_get(hand.rollout, &view);
    assert_int_equal(view.spans_ignored, 1);
    assert_int_equal(view.routed[ROLLOUT_ARM_STABLE], 4 * ROLLOUT_TICK_SPANS_MAX * 2);
    hand_end(&hand);
}

TEST(nonsense_is_ignored_and_counted)
{
    struct rollout_spec spec;
    spec_of_errors(&spec);
    struct hand hand;
    hand_begin(&hand, &spec);
    struct rollout_span_delta deltas[5];
    hand.tick = 10;
    for (int i = 0; i < 5; i++)
        deltas[i] = hand_span(&hand, 50000, 10, 0, 10, 0);
    deltas[0].weight = ROLLOUT_WEIGHT_FULL + 1;
    deltas[1].weight_control = 50001;
    deltas[2].tick = UINT64_MAX; // from the future
    deltas[4].weight = 40000;    // a span changes its weight
    hand_tick(&hand, deltas, 5);
    struct rollout_view view;
    rollout_view_get(hand.rollout, &view);
    assert_int_equal(view.spans_ignored, 4);
    assert_int_equal(view.routed[ROLLOUT_ARM_CANARY], 10);
    // Huge counts and a clock that runs back.
    memset(&deltas[3].arms, 0xff, sizeof deltas[3].arms);
    hand.time_ms -= 1000000;
    for (int i = 0; i < 50; i++)
        hand_tick(&hand, &deltas[3], 1);
    rollout_view_get(hand.rollout, &view);
    assert_true(view.routed[ROLLOUT_ARM_CANARY] > UINT32_MAX);
    hand_end(&hand);
}

TEST(a_new_run_starts_clean)
{
    struct rollout_spec spec;
    static const uint32_t percents[] = {50};
    sim_spec(&spec, percents, 1, 600000, 0);
    struct sim *sim = sim_create(&spec, 9, 100);
    sim->arms[ROLLOUT_ARM_CANARY].error_rate = 0.9;
    sim_start(sim);
    assert_true(sim_until(sim, 1u << ROLLOUT_ROLLED_BACK, 100));
    sim->arms[ROLLOUT_ARM_CANARY].error_rate = 0.0;
    sim_start(sim);
    assert_false(sim_until(sim, sim_back, 100));
    struct rollout_view view = view_of(sim);
    assert_int_equal(view.state, ROLLOUT_SHIFTING);
    assert_int_equal(view.checks[0].canary_events, 0);
    sim_destroy(sim);
}
