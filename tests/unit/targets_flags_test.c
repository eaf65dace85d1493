// SPDX-License-Identifier: Apache-2.0
// control: flags at runtime: nothing changes that is not in the journal, what is there comes back after a
// restart, rollouts of flags split and take back, events are evidence, the kill switch looks at rings too.
#include "failing_disk.h"
#include "targets_bench.h"
#include "test.h"

#include "flags/runtime/runtime.h"
#include "net/proxy/sheet.h"
#include "ship/engine/engine_private.h"
#include "ship/targets/targets_private.h"

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

EACH_TEST(NULL, disk_heals);

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
    return flagset_current(runtime_flagset(bench->targets->runtime))->change >= wanted_change;
}

static enum status apply(struct bench *bench, enum runtime_op op, const char *key, const char *text)
{
    struct runtime_change change = {.op = op, .key = key, .who = "ann", .from = "here"};
    if (op == RUNTIME_SET)
        change.definition = slice_of(text);
    else
        change.variant = text;
    enum status status = runtime_apply(bench->targets->runtime, &change, &wanted_change, &bench->fault);
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
    flags_evaluate(&flagset_current(runtime_flagset(bench->targets->runtime))->all.set, slice_of(flag),
                   FLAGS_ANY, &context, (struct flags_scratch){scratch, sizeof scratch}, &result);
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

TEST(changes_come_back)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    assert_int_equal(apply(&bench, RUNTIME_SET, "wide", WIDE), STATUS_OK);
    assert_int_equal(apply(&bench, RUNTIME_OFF, "wide", "b"), STATUS_OK);
    assert_int_equal(apply(&bench, RUNTIME_OFF, "banner", "on"), STATUS_OK);
    assert_variant(&bench, "wide", "u", "", "b");
    assert_variant(&bench, "banner", "u", "", "on");
    bench_down(&bench);
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    // From the first set on: nobody sees for a moment what was switched off.
    assert_variant(&bench, "wide", "u", "", "b");
    assert_variant(&bench, "banner", "u", "", "on");
    assert_int_equal(runtime_history_count(bench.targets->runtime), 3);
    assert_string_equal(runtime_history(bench.targets->runtime, 0)->who, "ann");
    assert_int_equal(apply(&bench, RUNTIME_UNSET, "banner", NULL), STATUS_OK);
    assert_variant(&bench, "banner", "u", "", "off");
    bench_down(&bench);
    bench_forget(&bench);
}

TEST(refusals)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    uint64_t before = runtime_history_count(bench.targets->runtime);
    assert_int_equal(apply(&bench, RUNTIME_OFF, "nothing", NULL), STATUS_NOT_FOUND);
    assert_int_equal(apply(&bench, RUNTIME_OFF, "banner", "blue"), STATUS_INVALID);
    assert_int_equal(apply(&bench, RUNTIME_UNSET, "banner", NULL), STATUS_CONFLICT);
    assert_int_equal(apply(&bench, RUNTIME_SET, "", WIDE), STATUS_INVALID);
    assert_int_equal(apply(&bench, RUNTIME_SET, "x\xff", WIDE), STATUS_INVALID);
    assert_int_equal(apply(&bench, RUNTIME_SET, "x", "{\"variants\":{}}"), STATUS_INVALID);
    assert_true(bench.fault.text[0] != '\0');
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    assert_int_equal(apply(&bench, RUNTIME_SET, "banner", WIDE), STATUS_CONFLICT);
    assert_non_null(strstr(bench.fault.text, "ship"));
    assert_int_equal(runtime_history_count(bench.targets->runtime), before);
    bench_down(&bench);
    bench_forget(&bench);
}

// The disk fails: nothing new is put in force, and nothing is remembered that a restart would not know.
// Switching off does not wait for it: it acts, and is in the journal once that can be written.
TEST(journal_first_but_for_off)
{
    assert_int_equal(fault_vfs_install(), STATUS_OK);
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    engine_start(bench.engine);
    fault_vfs_set(&(struct fault_vfs_plan){.write_fails_from = 1, .write_fails_count = UINT64_MAX / 2});
    assert_int_not_equal(apply(&bench, RUNTIME_SET, "fresh", WIDE), STATUS_OK);
    for (int i = 0; i < 50; i++)
        assert_int_equal(io_loop_turn(bench.loop, 1000), STATUS_OK);
    assert_variant(&bench, "banner", "u", "", "off");
    assert_int_equal(runtime_history_count(bench.targets->runtime), 0);
    assert_int_equal(apply(&bench, RUNTIME_OFF, "banner", "on"), STATUS_OK);
    assert_variant(&bench, "banner", "u", "", "on");
    fault_vfs_set(&(struct fault_vfs_plan){0});
    struct engine_health health;
    engine_health_get(bench.engine, &health);
    for (int i = 0; i < 8000 && health.journal_waiting > 0; i++) {
        assert_int_equal(io_loop_turn(bench.loop, 1000), STATUS_OK);
        engine_health_get(bench.engine, &health);
    }
    assert_int_equal(health.journal_waiting, 0);
    bench_down(&bench);
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    assert_variant(&bench, "banner", "u", "", "on");
    bench_down(&bench);
    bench_forget(&bench);
    fault_vfs_remove();
}

static bool ring_has_it(struct bench *bench)
{
    return slice_equal(ask(bench, "banner", "u", "staff").variant, SLICE("on"));
}

static bool nobody_has_it(struct bench *bench)
{
    return !ring_has_it(bench);
}

static enum targets_event_outcome tell(struct bench *bench, const char *key, const char *role, bool error)
{
    struct flags_json member = {.kind = FLAGS_JSON_STRING, .key = SLICE("role"), .text = slice_of(role)};
    struct flags_json tree = {.kind = FLAGS_JSON_OBJECT, .count = 1, .first = &member};
    struct flags_context context = {
        .tree = &tree, .has_targeting_key = key != NULL, .targeting_key = slice_of(key != NULL ? key : "")};
    struct targets_event event = {.flag = SLICE("banner"), .context = &context, .error = error};
    return targets_event_count(bench->engine, &event);
}

static enum targets_event_outcome tell_of(struct bench *bench, int user, const char *role, bool error)
{
    char key[16];
    snprintf(key, sizeof key, "u%d", user);
    return tell(bench, key, role, error);
}

TEST(the_kill_switch_sees_rings)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    engine_start(bench.engine);
    assert_int_equal(tell(&bench, "u", "staff", true), TARGETS_EVENT_UNWANTED);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    turn_until(&bench, ring_has_it);
    assert_variant(&bench, "banner", "u", "guest", "off");
    assert_int_equal(tell(&bench, NULL, "staff", true), TARGETS_EVENT_NO_ARM);
    // Nine failures are too few, and healthy guests do not thin them out.
    for (int i = 0; i < 9; i++)
        assert_int_equal(tell_of(&bench, i, "staff", true), TARGETS_EVENT_RING);
    for (int i = 100; i < 200; i++)
        assert_int_equal(tell_of(&bench, i, "guest", false), TARGETS_EVENT_COUNTED);
    for (int i = 0; i < 400; i++)
        assert_int_equal(io_loop_turn(bench.loop, 1000), STATUS_OK);
    assert_true(ring_has_it(&bench));
    assert_int_equal(tell(&bench, "u", "staff", false), TARGETS_EVENT_RING);
    turn_until(&bench, nobody_has_it);
    struct engine_view rollout = bench_rollout(&bench);
    assert_non_null(strstr(rollout.view.last.text, "kill switch: 9 of 10 failed"));
    assert_int_equal(rollout.view.weight, 0);
    bench_down(&bench);
    bench_forget(&bench);
}

static bool guests_have_it(struct bench *bench)
{
    return ask(bench, "banner", "u0", "guest").arm == FLAGS_ARM_TO;
}

// All that was told and not gathered yet, over both arms.
static struct rollout_counts gathered(struct bench *bench)
{
    static struct rollout_span_delta spans[ROLLOUT_TICK_SPANS_MAX];
    struct rollout_counts sum = {0};
    uint64_t lost = 0;
    bool more = false;
    uint32_t count = targets_events.gather(bench->targets, engine_rollout_find(bench->engine, "ship"), spans,
                                           &lost, &more);
    for (uint32_t i = 0; i < count; i++) {
        for (int arm = 0; arm < ROLLOUT_ARMS; arm++) {
            const struct rollout_counts *counts = &spans[i].arms[arm];
            sum.routed += counts->routed;
            sum.excused += counts->excused;
            sum.completed += counts->completed;
            sum.good += counts->good;
            sum.failed += counts->failed;
            sum.units += counts->units;
            sum.error_events += counts->error_events;
            sum.unit_squares += counts->unit_squares;
        }
    }
    assert_int_equal(lost, 0);
    return sum;
}

#define WIDE_YAML                                                                                            \
    "flags:\n"                                                                                               \
    "  define:\n"                                                                                            \
    "    banner: {state: ENABLED, variants: {\"on\": true, \"off\": false}, defaultVariant: \"off\"}\n"      \
    "rollouts:\n"                                                                                            \
    "  ship:\n"                                                                                              \
    "    flag: banner\n"                                                                                     \
    "    from: \"off\"\n"                                                                                    \
    "    to: \"on\"\n"                                                                                       \
    "    stages: [{weight: 99.999%, for: 1h, horizon: 3h}, {weight: 100%}]\n"                                \
    "    checks: {latency: off}\n"

static void split_up(struct bench *bench)
{
    assert_int_equal(bench_up(bench, WIDE_YAML), STATUS_OK);
    engine_start(bench->engine);
    assert_int_equal(bench_command(bench, ROLLOUT_COMMAND_START), STATUS_OK);
    turn_until(bench, guests_have_it);
}

// The same rule as for requests: one of each second is judged, whatever a key sends.
TEST(one_key_is_one_event_a_second)
{
    struct bench bench = {.path = ""};
    split_up(&bench);
    uint64_t before = proxy_tick(bench.proxy) / 10;
    int judged = 0;
    for (int i = 0; i < 2800; i++)
        judged += tell_of(&bench, 1, "guest", i > 0) == TARGETS_EVENT_COUNTED;
    for (int i = 2; i < 12; i++)
        assert_int_equal(tell_of(&bench, i, "guest", i < 5), TARGETS_EVENT_COUNTED);
    uint64_t seconds = proxy_tick(bench.proxy) / 10 - before + 1;
    struct rollout_counts sum = gathered(&bench);
    assert_in_range(judged, 1, seconds);
    assert_int_equal(sum.routed, 2810);
    assert_int_equal(sum.excused, 2800 - judged);
    assert_int_equal(sum.completed, 10 + judged);
    assert_int_equal(sum.units, 11);
    assert_int_equal(sum.unit_squares, 10 + judged * judged);
    // The failures of the one key that were judged are one event.
    assert_int_equal(sum.failed, 3 + judged - 1);
    assert_int_equal(sum.error_events, 3 + (judged > 1));
    bench_down(&bench);
    bench_forget(&bench);
}

// Nobody is pushed out, and a table that is full is said once.
TEST(more_users_than_the_table_holds)
{
    struct bench bench = {.path = ""};
    char *told = NULL;
    size_t len = 0;
    split_up(&bench);
    FILE *out = open_memstream(&told, &len);
    log_init(&bench.log, out, false, LOG_INFO);
    assert_int_equal(tell_of(&bench, 0, "guest", true), TARGETS_EVENT_COUNTED);
    for (int i = 1; i < 2 * SHEET_UNITS; i++)
        assert_int_equal(tell_of(&bench, i, "guest", false), TARGETS_EVENT_COUNTED);
    (void)gathered(&bench);
    (void)tell_of(&bench, 0, "guest", true); // still known
    struct rollout_counts sum = gathered(&bench);
    assert_int_equal(sum.units, 0);
    assert_int_equal(sum.error_events, 0);
    log_flush(&bench.log, true);
    fflush(out);
    char *first = strstr(told, "more users than the table of this rollout holds");
    assert_non_null(first);
    assert_null(strstr(first + 1, "more users than the table of this rollout holds"));
    bench_down(&bench);
    bench_forget(&bench);
    fclose(out);
    free(told);
}

enum { DRAWN_USERS = 200 };

// Who has it of the first users that are in no ring; how many.
static uint32_t drawn(struct bench *bench, bool has[DRAWN_USERS])
{
    char key[32];
    uint32_t count = 0;
    for (int i = 0; i < DRAWN_USERS; i++) {
        snprintf(key, sizeof key, "user-%d", i);
        has[i] = ask(bench, "banner", key, "guest").arm == FLAGS_ARM_TO;
        count += has[i];
    }
    return count;
}

static void draw(struct bench *bench, bool has[DRAWN_USERS])
{
    assert_int_equal(bench_command(bench, ROLLOUT_COMMAND_START), STATUS_OK);
    turn_until(bench, ring_has_it);
    assert_int_equal(bench_command(bench, ROLLOUT_COMMAND_PROMOTE), STATUS_OK);
    uint32_t count = 0;
    for (int turn = 0; turn < 3000 && count == 0; turn++) {
        assert_int_equal(io_loop_turn(bench->loop, 1000), STATUS_OK);
        count = drawn(bench, has);
    }
    assert_in_range(count, 20, 100); // 30 % of 200, six standard deviations: the salt is another each time
}

static bool is_taken_back(struct bench *bench)
{
    return nobody_has_it(bench) && bench_rollout(bench).view.state == ROLLOUT_ROLLED_BACK;
}

TEST(a_split_outlives_a_restart)
{
    struct bench bench = {.path = ""};
    bool had[DRAWN_USERS], has[DRAWN_USERS];
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    draw(&bench, had);
    bench_down(&bench);
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    assert_true(ring_has_it(&bench));
    (void)drawn(&bench, has);
    assert_memory_equal(has, had, sizeof had);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_ABORT), STATUS_OK);
    turn_until(&bench, nobody_has_it);
    assert_int_equal(drawn(&bench, has), 0);
    // Another run begins with others.
    engine_start(bench.engine);
    turn_until(&bench, is_taken_back);
    draw(&bench, has);
    assert_memory_not_equal(has, had, sizeof had);
    bench_down(&bench);
    bench_forget(&bench);
}

// A flag of the file may need one that was defined at runtime: a restart must not fail for that.
TEST(files_may_need_what_was_defined)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    assert_int_equal(apply(&bench, RUNTIME_SET, "wide", WIDE), STATUS_OK);
    bench_down(&bench);
    assert_int_equal(bench_up(&bench, "flags:\n"
                                      "  define:\n"
                                      "    needy:\n"
                                      "      state: ENABLED\n"
                                      "      variants: {\"on\": true, \"off\": false}\n"
                                      "      defaultVariant: \"on\"\n"
                                      "      x-sluice: {prerequisites: [{flag: wide, variant: a}]}\n"),
                     STATUS_OK);
    assert_variant(&bench, "needy", "u", "", "on");
    bench_down(&bench);
    bench_forget(&bench);
}

static void turn_some(struct bench *bench, int turns)
{
    for (int i = 0; i < turns; i++)
        assert_int_equal(io_loop_turn(bench->loop, 1000), STATUS_OK);
}

#define FLAG(variants)                                                                                       \
    "flags:\n"                                                                                               \
    "  define:\n"                                                                                            \
    "    banner: {state: ENABLED, variants: " variants ", defaultVariant: \"off\"}\n"
#define SHIP(more)                                                                                           \
    "rollouts:\n"                                                                                            \
    "  ship:\n"                                                                                              \
    "    flag: banner\n"                                                                                     \
    "    from: \"off\"\n"                                                                                    \
    "    to: \"on\"\n" more
#define STAGES                                                                                               \
    "    stages: [{segment: staff, for: 1h}, {weight: 30%, for: 1h, horizon: 3h}, {weight: 100%}]\n"
#define STAFF "segments: {staff: {\"==\": [{var: role}, staff]}}\n"
#define BENCH_FLAGS "flags: {}\n"
#define ON_OFF "{\"on\": true, \"off\": false}"

// Rings pass by time alone: a rollout of what is not there would come to its end.
TEST(nothing_is_rolled_out_that_is_not_there)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, STAFF FLAG("{\"yes\": true, \"off\": false}") SHIP(STAGES)), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_CONFLICT);
    assert_non_null(strstr(bench.fault.text, "no variant \"on\""));
    bench_down(&bench);
    assert_int_equal(bench_up(&bench, STAFF "flags: {}\n" SHIP(STAGES)), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_CONFLICT);
    assert_non_null(strstr(bench.fault.text, "no flag \"banner\""));
    bench_down(&bench);
    assert_int_equal(bench_up(&bench, BENCH_YAML), STATUS_OK);
    assert_int_equal(bench_reload(&bench, STAFF FLAG(ON_OFF) SHIP(STAGES)), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_CONFLICT);
    assert_non_null(strstr(bench.fault.text, "started again"));
    bench_down(&bench);
    bench_forget(&bench);
}

TEST(a_definition_stays_while_it_is_rolled_out)
{
    struct bench bench = {.path = ""};
    static const char other[] =
        "{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false,\"third\":true},"
        "\"defaultVariant\":\"off\"}";
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    assert_int_equal(apply(&bench, RUNTIME_SET, "banner", other), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    assert_int_equal(apply(&bench, RUNTIME_UNSET, "banner", NULL), STATUS_CONFLICT);
    assert_non_null(strstr(bench.fault.text, "ship"));
    assert_int_equal(apply(&bench, RUNTIME_OFF, "banner", "third"), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_ABORT), STATUS_OK);
    assert_int_equal(apply(&bench, RUNTIME_UNSET, "banner", NULL), STATUS_OK);
    bench_down(&bench);
    bench_forget(&bench);
}

// A start with a file that a reload would refuse: everybody keeps the old variant, and the run ends.
TEST(starts_that_take_away)
{
    static const char *const files[] = {
        FLAG(ON_OFF) SHIP("    stages: [{weight: 30%, for: 1h, horizon: 3h}, {weight: 100%}]\n"),
        STAFF FLAG(ON_OFF), BENCH_YAML};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct bench bench = {.path = ""};
        assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
        assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
        turn_until(&bench, ring_has_it);
        bench_down(&bench);
        assert_int_equal(bench_up(&bench, files[i]), STATUS_OK);
        assert_int_equal(bench_rollout(&bench).view.state, ROLLOUT_ROLLING_BACK);
        if (i < 2)
            turn_until(&bench, nobody_has_it);
        bench_down(&bench);
        bench_forget(&bench);
    }
}

TEST(reloads_that_take_away)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    turn_until(&bench, ring_has_it);
    // The ring's segment.
    assert_int_equal(
        bench_reload(&bench, FLAG(ON_OFF)
                                 SHIP("    stages: [{weight: 30%, for: 1h, horizon: 3h}, {weight: 100%}]\n")),
        STATUS_CONFLICT);
    assert_non_null(strstr(bench.fault.text, "segment staff"));
    // The rollout.
    assert_int_equal(bench_reload(&bench, STAFF FLAG(ON_OFF)), STATUS_CONFLICT);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_ABORT), STATUS_OK);
    turn_until(&bench, nobody_has_it);
    // All of it: until the next start everything is as it was.
    assert_int_equal(bench_reload(&bench, BENCH_YAML), STATUS_OK);
    turn_some(&bench, 200);
    assert_variant(&bench, "banner", "u", "", "off");
    bench_down(&bench);
    bench_forget(&bench);
}

static struct engine_rollout *ship_of(struct bench *bench)
{
    struct engine_rollout *live = engine_rollout_find(bench->engine, "ship");
    assert_non_null(live);
    return live;
}

static bool splits(struct bench *bench)
{
    return ship_of(bench)->split_weight == 30000;
}

static bool splits_nobody(struct bench *bench)
{
    return ship_of(bench)->split_weight == 0;
}

// The weight of evidence is the share that the set in force splits by, also where it splits nobody.
TEST(the_weight_is_that_of_the_set)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_PROMOTE), STATUS_OK);
    assert_int_equal(ship_of(&bench)->route.weight, 30000);
    assert_int_equal(ship_of(&bench)->split_weight, 0);
    turn_until(&bench, splits);
    bench_down(&bench);
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    assert_int_equal(ship_of(&bench)->split_weight, 30000);
    assert_int_equal(bench_reload(&bench, STAFF FLAG("{\"yes\": true, \"off\": false}") SHIP(STAGES)),
                     STATUS_OK);
    turn_until(&bench, splits_nobody);
    assert_variant(&bench, "banner", "u", "staff", "off");
    bench_down(&bench);
    bench_forget(&bench);
}

static bool is_over(struct bench *bench)
{
    return bench_rollout(bench).view.state == ROLLOUT_ROLLED_BACK;
}

// What goes back ends, although the file no longer knows it nor its service.
TEST(an_orphan_ends)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, STAFF FLAG(ON_OFF) "listen: [127.0.0.1:1]\n"
                                                         "services:\n"
                                                         "  shop:\n"
                                                         "    versions: {v1: [10.0.0.1:80]}\n"
                                                         "    flags: {key: {header: X-User}}\n" SHIP(
                                                             "    service: shop\n    drain: 1s\n" STAGES)),
                     STATUS_OK);
    engine_start(bench.engine);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_ABORT), STATUS_OK);
    assert_int_equal(bench_reload(&bench, BENCH_FLAGS), STATUS_OK);
    turn_until(&bench, is_over);
    bench_down(&bench);
    bench_forget(&bench);
}

// A bound that comes while the rollout is under way looks back as far as it says, not to the beginning.
TEST(the_kill_window_moves_without_a_bound)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, STAFF FLAG(ON_OFF) SHIP(STAGES)), STATUS_OK);
    engine_start(bench.engine);
    assert_int_equal(bench_command(&bench, ROLLOUT_COMMAND_START), STATUS_OK);
    turn_until(&bench, ring_has_it);
    for (int i = 0; i < 50; i++)
        assert_int_equal(tell_of(&bench, i, "staff", true), TARGETS_EVENT_RING);
    uint64_t until_us = io_loop_clock_us(bench.loop) + 1500000;
    while (io_loop_clock_us(bench.loop) < until_us)
        assert_int_equal(io_loop_turn(bench.loop, 100000), STATUS_OK);
    assert_int_equal(bench_reload(&bench, STAFF FLAG(ON_OFF) SHIP(
                                              "    kill: {errors: 50%, requests: 10, within: 1s}\n" STAGES)),
                     STATUS_OK);
    turn_some(&bench, 300);
    assert_true(ring_has_it(&bench));
    for (int i = 50; i < 60; i++)
        assert_int_equal(tell_of(&bench, i, "staff", true), TARGETS_EVENT_RING);
    turn_until(&bench, nobody_has_it);
    bench_down(&bench);
    bench_forget(&bench);
}

// Counts of a set that was in force for a moment only, and of the last second before the end.
TEST(no_count_is_lost)
{
    struct bench bench = {.path = ""};
    struct usage_flag flag;
    const char *const ways[] = {"on", "off"};
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    engine_start(bench.engine);
    for (int i = 0; i < 20; i++) {
        const struct flagset_snapshot *set = flagset_current(runtime_flagset(bench.targets->runtime));
        struct flags_result result = ask(&bench, "banner", "u", "");
        flags_tally_note(&set->tallies[0], &result);
        assert_int_equal(apply(&bench, RUNTIME_OFF, "banner", ways[i % 2]), STATUS_OK);
    }
    uint64_t until_us = io_loop_clock_us(bench.loop) + 1300000;
    while (io_loop_clock_us(bench.loop) < until_us)
        assert_int_equal(io_loop_turn(bench.loop, 100000), STATUS_OK);
    int64_t now_ms = engine_wall_ms(bench.engine);
    assert_true(usage_get(runtime_usage(bench.targets->runtime), SLICE("banner"), now_ms, &flag));
    assert_int_equal(flag.evaluations, 20);
    bench_down(&bench);
    bench_forget(&bench);
}

static bool needed_again(struct bench *bench)
{
    return slice_equal(ask(bench, "needy", "u", "").variant, SLICE("a"));
}

// What was defined at runtime meets other files at the next start: what no longer fits is left out and told,
// and takes nothing else with it.
TEST(one_definition_takes_no_other_with_it)
{
    struct bench bench = {.path = ""};
    static const char needy[] =
        "{\"state\":\"ENABLED\",\"variants\":{\"a\":1},\"defaultVariant\":\"a\","
        "\"x-sluice\":{\"prerequisites\":[{\"flag\":\"banner\",\"variant\":\"off\"}]}}";
    const struct fault *problems;
    assert_int_equal(bench_up(&bench, STAFF FLAG(ON_OFF)), STATUS_OK);
    assert_int_equal(apply(&bench, RUNTIME_SET, "needy", needy), STATUS_OK);
    assert_int_equal(apply(&bench, RUNTIME_SET, "wide", WIDE), STATUS_OK);
    bench_down(&bench);
    assert_int_equal(bench_up(&bench, "flags: {}\n"), STATUS_OK);
    assert_variant(&bench, "wide", "u", "", "a");
    assert_variant(&bench, "needy", "u", "", "");
    assert_true(flagset_problems(runtime_flagset(bench.targets->runtime), &problems) > 0);
    assert_non_null(strstr(problems[0].text, "needy"));
    // Nor do further changes suffer from it.
    assert_int_equal(apply(&bench, RUNTIME_SET, "third", WIDE), STATUS_OK);
    assert_variant(&bench, "third", "u", "", "a");
    assert_int_equal(apply(&bench, RUNTIME_OFF, "wide", "b"), STATUS_OK);
    assert_variant(&bench, "wide", "u", "", "b");
    assert_true(flagset_refused(runtime_flagset(bench.targets->runtime)));
    // It is there again as soon as it fits.
    assert_int_equal(bench_reload(&bench, FLAG(ON_OFF)), STATUS_OK);
    turn_until(&bench, needed_again);
    assert_variant(&bench, "wide", "u", "", "b");
    assert_false(flagset_refused(runtime_flagset(bench.targets->runtime)));
    bench_down(&bench);
    bench_forget(&bench);
}

// A source that is away is told once, not with every change of a flag.
TEST(a_problem_is_told_once)
{
    struct bench bench = {.path = ""};
    char *written = NULL;
    size_t len = 0;
    FILE *stream = open_memstream(&written, &len);
    const struct fault *problems;
    assert_int_equal(bench_up(&bench, "flags:\n"
                                      "  define:\n"
                                      "    banner: {state: ENABLED, variants: " ON_OFF "}\n"
                                      "  sources: [{url: \"http://127.0.0.1:1/\"}]\n"),
                     STATUS_OK);
    assert_true(flagset_problems(runtime_flagset(bench.targets->runtime), &problems) > 0);
    log_init(&bench.log, stream, false, LOG_INFO);
    for (int i = 0; i < 5; i++)
        assert_int_equal(apply(&bench, RUNTIME_OFF, "banner", i % 2 ? "on" : "off"), STATUS_OK);
    bench_down(&bench);
    assert_int_equal(fclose(stream), 0);
    assert_non_null(strstr(written, "flags are in force"));
    assert_null(strstr(written, "127.0.0.1:1/"));
    free(written);
    bench_forget(&bench);
}

// As at a start: a file whose flags cannot be read is not taken, and nothing of it counts.
TEST(reloads_that_cannot_be_read)
{
    struct bench bench = {.path = ""};
    assert_int_equal(bench_up(&bench, YAML), STATUS_OK);
    assert_int_not_equal(bench_reload(&bench, "flags: {sources: [/nowhere/none.json]}\n"), STATUS_OK);
    assert_non_null(strstr(bench.fault.text, "/nowhere/none.json"));
    assert_int_not_equal(bench_reload(&bench, FLAG("{\"on\": true, \"blue\": false}")), STATUS_OK);
    assert_non_null(strstr(bench.fault.text, "banner"));
    turn_some(&bench, 50);
    assert_variant(&bench, "banner", "u", "", "off");
    assert_non_null(config_rollout_find(engine_config(bench.engine), "ship"));
    bench_down(&bench);
    bench_forget(&bench);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

// The flags of an unchanged file are not read by the thread that decides: its reload does not depend on them,
// and the set's own thread tells what is wrong with them.
TEST(a_reload_reads_no_flags_that_it_says_again)
{
    struct bench bench = {.path = ""};
    char path[FOLDER_PATH_BYTES], yaml[FOLDER_PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/again-%d.json", folder_root(), (int)getpid());
    snprintf(yaml, sizeof yaml, "flags: {sources: [%s]}\n", path);
    write_file(
        path,
        "{\"flags\": {\"banner\": {\"state\": \"ENABLED\", \"variants\": {\"on\": true, \"off\": false}, "
        "\"defaultVariant\": \"off\"}}}");
    assert_int_equal(bench_up(&bench, yaml), STATUS_OK);
    write_file(path, "{\"flags\": ");
    assert_int_equal(bench_reload(&bench, yaml), STATUS_OK);
    turn_some(&bench, 50);
    assert_variant(&bench, "banner", "u", "", "off");
    assert_int_not_equal(bench_reload(&bench, "flags: {sources: [/nowhere/none.json]}\n"), STATUS_OK);
    bench_down(&bench);
    bench_forget(&bench);
    unlink(path);
}
