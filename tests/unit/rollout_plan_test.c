// SPDX-License-Identifier: Apache-2.0
// rollout/plan: what each stage is told to need, and that the machine then needs about that.
#include "rollout_sim.h"
#include "ship/rollout/plan.h"
#include "test.h"

static const struct rollout_plan_traffic traffic = {
    .requests_per_second = 1000.0, .error_rate = 0.01, .error_added = 0.04, .slowdown = 1.5};

TEST(each_stage_is_planned)
{
    static const uint32_t percents[] = {5, 50, 100};
    struct rollout_spec spec;
    struct rollout_plan plan;
    sim_spec(&spec, percents, 3, 10000, 60000);
    rollout_plan_make(&spec, &traffic, &plan);
    assert_int_equal(plan.stage_count, 3);
    for (int i = 0; i < 2; i++) {
        const struct rollout_plan_stage *stage = &plan.stages[i];
        assert_true(stage->promote >= stage->promote_errors && stage->promote >= stage->promote_latency);
        assert_true(stage->promote_throughput <= 0.0);
        assert_true(stage->promote_ms >= 10000.0);
        assert_true(stage->detect_errors_ms >= 10000.0 && stage->detect_errors_ms < 60000.0);
        assert_int_equal(stage->next, percents[i + 1] * 1000);
    }
    assert_true(plan.stages[0].promote > plan.stages[1].promote);
    assert_true(plan.stages[2].promote_ms >= 60000.0 && plan.stages[2].promote_ms <= 60000.0);
    assert_true(isinf(plan.stages[2].detect_errors_ms));
    double sum = plan.stages[0].promote_ms + plan.stages[1].promote_ms + plan.stages[2].promote_ms;
    assert_true(plan.promote_ms >= sum && plan.promote_ms <= sum);
}

TEST(unknown_traffic_has_no_times)
{
    static const uint32_t percents[] = {5, 50, 100};
    struct rollout_spec spec;
    struct rollout_plan plan;
    struct rollout_plan_traffic unknown = traffic;
    unknown.requests_per_second = 0.0;
    sim_spec(&spec, percents, 3, 10000, 60000);
    rollout_plan_make(&spec, &unknown, &plan);
    assert_true(plan.promote_ms <= 0.0 && plan.stages[0].promote_ms <= 0.0);
    assert_true(plan.stages[0].promote > 0.0);
    assert_false(plan.stages[0].beyond_horizon);
}

TEST(slow_traffic_is_beyond_the_horizon)
{
    static const uint32_t percents[] = {1, 100};
    struct rollout_spec spec;
    struct rollout_plan plan;
    struct rollout_plan_traffic slow = traffic;
    slow.requests_per_second = 1.0;
    sim_spec(&spec, percents, 2, 10000, 60000);
    rollout_plan_make(&spec, &slow, &plan);
    assert_true(plan.stages[0].beyond_horizon);
}

// A control arm of the canary's size compares like with like but sees only its part of the traffic.
TEST(a_control_arm_costs_requests)
{
    static const uint32_t percents[] = {5, 100};
    struct rollout_spec spec;
    struct rollout_plan without;
    struct rollout_plan with;
    sim_spec(&spec, percents, 2, 10000, 60000);
    rollout_plan_make(&spec, &traffic, &without);
    spec.control = true;
    rollout_plan_make(&spec, &traffic, &with);
    assert_true(with.stages[0].detect_errors_ms > without.stages[0].detect_errors_ms);
}

TEST(wild_numbers_are_clamped)
{
    static const uint32_t percents[] = {5, 100};
    struct rollout_spec spec;
    struct rollout_plan plan;
    struct rollout_plan_traffic wild = {.requests_per_second = (double)NAN,
                                        .error_rate = 7.0,
                                        .error_added = -1.0,
                                        .slowdown = (double)NAN,
                                        .latency_sigma = -3.0};
    sim_spec(&spec, percents, 2, 10000, 60000);
    rollout_plan_make(&spec, &wild, &plan);
    assert_int_equal(plan.stage_count, 2);
}

// The plan is honest: the machine's mean is within a factor of two of it.
TEST(the_machine_needs_about_what_was_planned)
{
    enum { ROLLOUTS = 12 };
    static const uint32_t percents[] = {50};
    struct rollout_spec spec;
    struct rollout_plan plan;
    sim_spec(&spec, percents, 1, 3600000, 0);
    spec.latency.on = false;
    rollout_plan_make(&spec, &traffic, &plan);
    double seconds = 0.0;
    for (uint64_t seed = 0; seed < ROLLOUTS; seed++) {
        struct sim *sim = sim_create(&spec, 4000 + seed, 100);
        sim->arms[ROLLOUT_ARM_STABLE].error_rate = 0.01;
        sim->arms[ROLLOUT_ARM_CANARY].error_rate = 0.05;
        sim_start(sim);
        assert_true(sim_until(sim, sim_back, 2000));
        seconds += (double)sim->tick / 10.0 / ROLLOUTS;
        sim_destroy(sim);
    }
    double planned = plan.stages[0].detect_errors_ms / 1000.0;
    if (seconds > 2.0 * planned || seconds < planned / 2.0)
        fail_msg("planned %.1f s, needed %.1f s", planned, seconds);
}

// The default stages at little traffic: a service with 20 requests per second is done within a working day,
// one with 1 000 within the time that its stages and its soak take anyway.
TEST(the_default_stages_finish)
{
    struct rollout_spec spec;
    struct rollout_plan plan;
    rollout_spec_init(&spec);
    rollout_spec_default_stages(&spec);
    struct rollout_plan_traffic little = {.requests_per_second = 20.0, .error_rate = 0.001, .slowdown = 1.5};
    rollout_plan_make(&spec, &little, &plan);
    if (!(plan.promote_ms < 8.0 * 3600e3))
        fail_msg("%.1f h at 20 requests per second", plan.promote_ms / 3600e3);
    little.requests_per_second = 1000.0;
    rollout_plan_make(&spec, &little, &plan);
    double minimum = 0.0;
    for (uint32_t i = 0; i < spec.stage_count; i++)
        minimum += (double)(i + 1 < spec.stage_count ? spec.stages[i].min_ms : spec.stages[i].soak_ms);
    assert_true(plan.promote_ms <= minimum + 1.0);
    assert_true(plan.rate_least < 1000.0);
}
