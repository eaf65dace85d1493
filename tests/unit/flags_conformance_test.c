// SPDX-License-Identifier: Apache-2.0
// Cases written by others, run where they lie (SLUICE_CONFORMANCE): the flagd testbed's feature files as far
// as they concern evaluation, the JSON Logic list, and the examples of the published schemas.
#include <dirent.h>
#include <math.h>

#include "flagd_testbed.h"
#include "flags/eval/flags_private.h"
#include "test.h"

// Values

static bool value_equals_tree(const struct flags_value *value, const struct flags_json *tree)
{
    struct flags_value wanted = flags_value_of_tree(tree);
    struct flags_value item;
    uint32_t count;
    if (tree->kind != FLAGS_JSON_ARRAY)
        return flags_value_same(value, &wanted) ||
               (value->kind == FLAGS_VALUE_TREE && trees_equal(value->tree, tree));
    if (!flags_value_is_array(value, &count) || count != tree->count)
        return false;
    struct flags_items items = flags_value_items(value);
    for (const struct flags_json *t = tree->first; t != NULL; t = t->next)
        if (!flags_items_next(&items, &item) || !value_equals_tree(&item, t))
            return false;
    return true;
}

// JSON Logic

static bool logic_case(const struct flags_json *c)
{
    static char json[1 << 16];
    const struct flags_json *rule = flags_json_member(c, SLICE("rule"));
    const struct flags_json *result = flags_json_member(c, SLICE("result"));
    struct flags_context context = {.tree = flags_json_member(c, SLICE("data"))};
    const char *quote = rule->kind == FLAGS_JSON_STRING ? "\"" : "";
    snprintf(json, sizeof json,
             "{\"flags\":{\"f\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true},"
             "\"targeting\":{\"if\":[true,%s" SLICE_FMT "%s]}}}}",
             quote, SLICE_ARG(rule->text), quote);
    if (fixture_compile(&fixture, json) != STATUS_OK)
        return false;
    const struct flags_image_flag *flag = flags_find_key(fixture.image, SLICE("f"));
    struct flags_run run = {.image = fixture.image,
                            .context = &context,
                            .flag_key = SLICE("f"),
                            .generation = FLAGS_GENERATION_3,
                            .scratch = {fixture.scratch, sizeof fixture.scratch}};
    if (flag->fault.len > 0)
        return false;
    struct flags_value value = flags_rule_value(&run, flag);
    return run.fault == NULL && value_equals_tree(&value, result);
}

TEST(json_logic)
{
    char path[600];
    size_t len = 0;
    struct count count = {0};
    if (!fixture_conformance(cases_root, sizeof cases_root))
        skip();
    snprintf(path, sizeof path, "%s/jsonlogic/compatible.json", cases_root);
    char *text = fixture_read(path, &len);
    assert_non_null(text);
    const struct flags_json *cases = fixture_tree(spare(0), (struct slice){text, len});
    for (const struct flags_json *c = cases->first; c != NULL; c = c->next) {
        if (c->kind != FLAGS_JSON_OBJECT)
            continue;
        bool passed = logic_case(c);
        count.passed += passed;
        count.failed += !passed;
        if (!passed)
            printf("FAILED: " SLICE_FMT "\n", SLICE_ARG(c->text));
    }
    printf("jsonlogic: %d passed, %d failed\n", count.passed, count.failed);
    free(text);
    assert_int_equal(count.failed, 0);
    assert_int_equal(count.passed, 278);
}

// Schemas

// Wraps a bare targeting rule into a set; "some-ref" is what one of the examples refers to.
static char *wrap_targeting(char *text)
{
    size_t cap = strlen(text) + 512;
    char *json = calloc(cap, 1);
    CHECK(json != NULL);
    snprintf(json, cap,
             "{\"flags\":{\"f\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true},\"targeting\":%s}},"
             "\"$evaluators\":{\"some-ref\":{\"==\":[1,1]}}}",
             text);
    free(text);
    return json;
}

static void schema_folder(const char *folder, bool accept, bool targeting, struct count *count)
{
    char path[1200];
    size_t len = 0;
    snprintf(path, sizeof path, "%s/flagd/schemas/json/test/%s", cases_root, folder);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/flagd/schemas/json/test/%s/%s", cases_root, folder, entry->d_name);
        char *text = fixture_read(path, &len);
        assert_non_null(text);
        if (targeting)
            text = wrap_targeting(text);
        enum status status = fixture_compile_with(&fixture, slice_of(text), true, 0);
        bool passed = accept ? status == STATUS_OK : status == STATUS_INVALID;
        count->passed += passed;
        count->failed += !passed;
        if (!passed)
            printf("FAILED: %s/%s: %s, %s\n", folder, entry->d_name, status_name(status),
                   fixture.problem_count > 0 ? fixture.problems[0].message : "no problem");
        free(text);
    }
    closedir(dir);
}

static enum status compile_example(const char *name, bool strict)
{
    char path[600];
    size_t len = 0;
    snprintf(path, sizeof path, "%s/flagd/schemas/json/examples/%s", cases_root, name);
    char *text = fixture_read(path, &len);
    assert_non_null(text);
    enum status status = fixture_compile_with(&fixture, (struct slice){text, len}, strict, 0);
    free(text);
    return status;
}

TEST(schemas)
{
    struct count count = {0};
    if (!fixture_conformance(cases_root, sizeof cases_root))
        skip();
    schema_folder("flags/positive", true, false, &count);
    schema_folder("flagd/positive", true, false, &count);
    schema_folder("targeting/positive", true, true, &count);
    schema_folder("flags/negative", false, false, &count);
    schema_folder("targeting/negative", false, true, &count);
    printf("schemas: %d passed, %d failed\n", count.passed, count.failed);
    assert_int_equal(count.failed, 0);
    assert_true(count.passed >= 30);
    assert_int_equal(compile_example("minimal.json", true), STATUS_OK);
    // full.json means to show what evaluation does with a number in ends_with and a version of four parts:
    // its schema refuses both, so it is good for serving and not for lint.
    assert_int_equal(compile_example("full.json", false), STATUS_OK);
    assert_int_equal(fixture.problem_count, 2);
    assert_int_equal(compile_example("full.json", true), STATUS_INVALID);
}

// Feature files

TEST(evaluator)
{
    testbed_evaluator(fixture_evaluate);
}

TEST(provider)
{
    testbed_provider(fixture_evaluate);
}
