// SPDX-License-Identifier: Apache-2.0
// control: flags at runtime: nothing changes that is not in the journal, what is there comes back after a
// restart, rollouts of flags split and take back, events are evidence, the kill switch looks at rings too.
#include "control_bench.h"

#include "control/events.h"
#include "control/flags.h"
#include "store/fault_vfs.h"

#define YAML                                                                                                 \
    "segments: {staff: {\"==\": [{var: role}, staff]}}\n"                                                    \
    "flags:\n"                                                                                               \
    "  define:\n"                                                                                            \
    "    banner: {state: ENABLED, variants: {\"on\": true, \"off\": false}, defaultVariant: \"off\"}\n"      \
    "rollouts:\n"                                                                                            \
    "  ship:\n"                                                                                              \
    "    flag: banner\n"                                                                                     \
    "    from: \"off\"\n"                                                                                    \
    "    to: \"on\"\n"                                                                                       \
    "    kill: {errors: 50%, requests: 10, within: 5s}\n"                                                    \
    "    stages: [{segment: staff, for: 1h}, {weight: 30%, for: 1h, horizon: 3h}, {weight: 100%}]\n"

static const char WIDE[] = "{\"state\":\"ENABLED\",\"variants\":{\"a\":1,\"b\":2},\"defaultVariant\":\"a\"}";

static void turn_until(struct bench *bench, bool (*there)(struct bench *bench))
{
    for (int i = 0; i < 3000 && !there(bench); i++)
        assert_int_equal(io_loop_turn(bench->loop, 1000), STATUS_OK);
    assert_true(there(bench));
}

static uint64_t wanted_change;

static bool is_in_force(struct bench *bench)
{
    return flagset_current(control_flagset(bench->control))->change >= wanted_change;
}

static enum status apply(struct bench *bench, enum control_flag_op op, const char *key, const char *text)
{
    struct control_flag_change change = {.op = op, .key = key, .who = "ann", .from = "here"};
    if (op == CONTROL_FLAG_SET)
        change.definition = slice_of(text);
    else
        change.variant = text;
    enum status status = control_flag_apply(bench->control, &change, &wanted_change, &bench->fault);
    if (status == STATUS_OK)
        turn_until(bench, is_in_force);
    return status;
}

static struct flags_result ask(struct bench *bench, const char *flag, const char *key, const char *role)
{
    struct flags_json member = {.kind = FLAGS_JSON_STRING, .key = SLICE("role"), .text = slice_of(role)};
    struct flags_json tree = {.kind = FLAGS_JSON_OBJECT, .count = 1, .first = &member};
    struct flags_context context = {.tree = &tree, .has_targeting_key = true, .targeting_key = slice_of(key)};
    static uint8_t scratch[FLAGS_SCRATCH_DEFAULT];
    struct flags_result result;
    flags_evaluate(&flagset_current(control_flagset(bench->control))->all.set, slice_of(flag), FLAGS_ANY,
                   &context, (struct flags_scratch){scratch, sizeof scratch}, &result);
    return result;
}

static void assert_variant(struct bench *bench, const char *flag, const char *key, const char *role,
                           const char *variant)
{
    struct flags_result result = ask(bench, flag, key, role);
    if (!slice_equal(result.variant, slice_of(variant)))
        fail_msg("%s of %s (%s) is " SLICE_FMT ", not %s", flag, key, role, SLICE_ARG(result.variant),
                 variant);
}

static void test_changes_come_back(void **state)
{
    (void)state;
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    assert_int_equal(apply(&bench, CONTROL_FLAG_SET, "wide", WIDE), STATUS_OK);
    assert_int_equal(apply(&bench, CONTROL_FLAG_OFF, "wide", "b"), STATUS_OK);
    assert_int_equal(apply(&bench, CONTROL_FLAG_OFF, "banner", "on"), STATUS_OK);
    assert_variant(&bench, "wide", "u", "", "b");
    assert_variant(&bench, "banner", "u", "", "on");
    bench_down(&bench);
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    turn_until(&bench, is_in_force);
    assert_variant(&bench, "wide", "u", "", "b");
    assert_variant(&bench, "banner", "u", "", "on");
    assert_int_equal(control_flag_history_count(bench.control), 3);
    assert_string_equal(control_flag_history(bench.control, 0)->who, "ann");
    assert_int_equal(apply(&bench, CONTROL_FLAG_UNSET, "banner", NULL), STATUS_OK);
    assert_variant(&bench, "banner", "u", "", "off");
    bench_down(&bench);
    bench_forget(&bench);
}

static void test_refusals(void **state)
{
    (void)state;
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    uint64_t before = control_flag_history_count(bench.control);
    assert_int_equal(apply(&bench, CONTROL_FLAG_OFF, "nothing", NULL), STATUS_NOT_FOUND);
    assert_int_equal(apply(&bench, CONTROL_FLAG_OFF, "banner", "blue"), STATUS_INVALID);
    assert_int_equal(apply(&bench, CONTROL_FLAG_UNSET, "banner", NULL), STATUS_CONFLICT);
    assert_int_equal(apply(&bench, CONTROL_FLAG_SET, "", WIDE), STATUS_INVALID);
    assert_int_equal(apply(&bench, CONTROL_FLAG_SET, "x\xff", WIDE), STATUS_INVALID);
    assert_int_equal(apply(&bench, CONTROL_FLAG_SET, "x", "{\"variants\":{}}"), STATUS_INVALID);
    assert_true(bench.fault.text[0] != '\0');
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    assert_int_equal(apply(&bench, CONTROL_FLAG_SET, "banner", WIDE), STATUS_CONFLICT);
    assert_non_null(strstr(bench.fault.text, "ship"));
    assert_int_equal(control_flag_history_count(bench.control), before);
    bench_down(&bench);
    bench_forget(&bench);
}

// The disk fails: nothing changes, and nothing is remembered that a restart would not know.
static void test_journal_first(void **state)
{
    (void)state;
    assert_int_equal(fault_vfs_install(), STATUS_OK);
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    fault_vfs_set(&(struct fault_vfs_plan){.write_fails_from = 1, .write_fails_count = UINT64_MAX / 2});
    assert_int_not_equal(apply(&bench, CONTROL_FLAG_OFF, "banner", "on"), STATUS_OK);
    for (int i = 0; i < 50; i++)
        assert_int_equal(io_loop_turn(bench.loop, 1000), STATUS_OK);
    assert_variant(&bench, "banner", "u", "", "off");
    assert_int_equal(control_flag_history_count(bench.control), 0);
    fault_vfs_set(&(struct fault_vfs_plan){0});
    assert_int_equal(apply(&bench, CONTROL_FLAG_OFF, "banner", "on"), STATUS_OK);
    assert_variant(&bench, "banner", "u", "", "on");
    bench_down(&bench);
    bench_forget(&bench);
}

static bool ring_has_it(struct bench *bench)
{
    return slice_equal(ask(bench, "banner", "u", "staff").variant, SLICE("on"));
}

static bool nobody_has_it(struct bench *bench)
{
    return !ring_has_it(bench);
}

static enum control_event_outcome tell(struct bench *bench, const char *key, const char *role, bool error)
{
    struct flags_json member = {.kind = FLAGS_JSON_STRING, .key = SLICE("role"), .text = slice_of(role)};
    struct flags_json tree = {.kind = FLAGS_JSON_OBJECT, .count = 1, .first = &member};
    struct flags_context context = {
        .tree = &tree, .has_targeting_key = key != NULL, .targeting_key = slice_of(key != NULL ? key : "")};
    struct control_event event = {.flag = SLICE("banner"), .context = &context, .error = error};
    return control_flag_event(bench->control, &event);
}

static void test_the_kill_switch_sees_rings(void **state)
{
    (void)state;
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    control_start(bench.control);
    assert_int_equal(tell(&bench, "u", "staff", true), CONTROL_EVENT_UNWANTED);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    turn_until(&bench, ring_has_it);
    assert_variant(&bench, "banner", "u", "guest", "off");
    assert_int_equal(tell(&bench, NULL, "staff", true), CONTROL_EVENT_NO_ARM);
    // Nine failures are too few, and healthy guests do not thin them out.
    for (int i = 0; i < 9; i++)
        assert_int_equal(tell(&bench, "u", "staff", true), CONTROL_EVENT_RING);
    for (int i = 0; i < 100; i++)
        assert_int_equal(tell(&bench, "u", "guest", false), CONTROL_EVENT_COUNTED);
    for (int i = 0; i < 400; i++)
        assert_int_equal(io_loop_turn(bench.loop, 1000), STATUS_OK);
    assert_true(ring_has_it(&bench));
    assert_int_equal(tell(&bench, "u", "staff", false), CONTROL_EVENT_RING);
    turn_until(&bench, nobody_has_it);
    struct control_rollout rollout = bench_rollout(&bench);
    assert_non_null(strstr(rollout.view.last.text, "kill switch: 9 of 10 failed"));
    assert_int_equal(rollout.view.weight, 0);
    bench_down(&bench);
    bench_forget(&bench);
}

static void test_a_split_outlives_a_restart(void **state)
{
    (void)state;
    struct bench bench = {.path = ""};
    char key[32];
    bool had[200];
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    turn_until(&bench, ring_has_it);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_PROMOTE), STATUS_OK);
    uint32_t count = 0;
    for (int turn = 0; turn < 3000 && count == 0; turn++) {
        assert_int_equal(io_loop_turn(bench.loop, 1000), STATUS_OK);
        for (int i = 0; i < 200; i++) {
            snprintf(key, sizeof key, "user-%d", i);
            had[i] = ask(&bench, "banner", key, "guest").arm == FLAGS_ARM_TO;
            count += had[i];
        }
    }
    assert_in_range(count, 35, 85); // 30 % of 200, five standard deviations
    bench_down(&bench);
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    turn_until(&bench, ring_has_it);
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "user-%d", i);
        assert_int_equal(ask(&bench, "banner", key, "guest").arm == FLAGS_ARM_TO, had[i]);
    }
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_ABORT), STATUS_OK);
    turn_until(&bench, nobody_has_it);
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "user-%d", i);
        assert_variant(&bench, "banner", key, "guest", "off");
    }
    bench_down(&bench);
    bench_forget(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes_come_back),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_journal_first),
        cmocka_unit_test(test_the_kill_switch_sees_rings),
        cmocka_unit_test(test_a_split_outlives_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
