// SPDX-License-Identifier: Apache-2.0
// Sources that are files, directories and text: what is read, what is noticed, what is refused.
#include "flagset_world.h"

static int setup(void **state)
{
    static struct flagset_world world;
    world_open(&world);
    *state = &world;
    return 0;
}

static int teardown(void **state)
{
    world_close(*state);
    return 0;
}

static void file_text_and_overlay(void **state)
{
    struct flagset_world *world = *state;
    write_at(world_path(world, "a.json"), SET(FLAG("one", "on") "," FLAG("two", "off")));
    struct flagset_source sources[] = {
        {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")},
        {.kind = FLAGSET_INLINE, .name = "sluice.yaml", .json = SLICE(SET(FLAG("two", "on")))},
    };
    assert_int_equal(world_create(world, sources, 2), STATUS_OK);
    assert_string_equal(variant_now(world, "one"), "on");
    assert_string_equal(variant_now(world, "two"), "on"); // later overrides earlier
    assert_string_equal(variant_now(world, "three"), "!FLAG_NOT_FOUND");
    assert_int_equal(world->problem_count, 0);

    assert_int_equal(
        flagset_overlay(world->set, SLICE(SET(FLAG("one", "off") "," FLAG("three", "on"))), NULL, 0, 7),
        STATUS_OK);
    UNTIL(world, flagset_current(world->set)->change == 7);
    assert_string_equal(variant_now(world, "one"), "off");
    assert_string_equal(variant_now(world, "three"), "on");
    assert_int_equal(world->snapshots, 1);
}

static void a_missing_file_is_named(void **state)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {.kind = FLAGSET_FILE, .name = world_path(world, "none.json")};
    assert_int_equal(world_create(world, &source, 1), STATUS_INVALID);
    assert_int_equal(world->problem_count, 1);
    assert_true(world->problems[0].error);
    assert_non_null(strstr(world->problems[0].text, "none.json: there is no such file"));
}

static void a_change_is_in_force_soon(void **state)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")};
    write_at(source.name, SET(FLAG("one", "on")));
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    uint64_t tag = flagset_current(world->set)->all.tag;
    uint64_t begin_ms = now_ms();
    write_at(source.name, SET(FLAG("one", "off")));
    UNTIL(world, strcmp(variant_now(world, "one"), "off") == 0);
    printf("in force after %u ms\n", (unsigned)(now_ms() - begin_ms));
    assert_true(flagset_current(world->set)->all.tag != tag);
}

static void a_bad_change_is_refused(void **state)
{
    struct flagset_world *world = *state;
    struct flagset_source source = {.kind = FLAGSET_FILE, .name = world_path(world, "a.json")};
    char expected[300];
    write_at(source.name, SET(FLAG("one", "on")));
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    write_at(source.name, "{\"flags\": {\n  " FLAG("one", "off") ",\n  " FLAG("two", "blue") "\n}}");
    UNTIL(world, flagset_refused(world->set));
    (void)snprintf(expected, sizeof expected, "%s:3:81: flag 'two': defaultVariant names no variant: 'blue'",
                   source.name);
    assert_string_equal(first_problem(world), expected);
    assert_string_equal(variant_now(world, "one"), "on");
    struct flagset_source_state state_now;
    flagset_source_get(world->set, 0, &state_now);
    assert_false(state_now.good);
    assert_string_equal(state_now.problem, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(file_text_and_overlay, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_file_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(a_change_is_in_force_soon, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bad_change_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
