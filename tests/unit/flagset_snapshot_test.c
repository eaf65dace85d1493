// SPDX-License-Identifier: Apache-2.0
// Snapshots: views by selector, definitions, export, references on many threads; and the check of one flag.
#include <pthread.h>

#include "base/heap.h"
#include "flagset_world.h"
#include "test.h"

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

EACH_TEST(setup, teardown);

static struct flagset_source text_source(const char *name, const char *json)
{
    return (struct flagset_source){.kind = FLAGSET_INLINE, .name = name, .json = slice_of(json)};
}

#define IN_SET(id, flags) "{\"metadata\":{\"flagSetId\":\"" id "\"},\"flags\":{" flags "}}"

static const char *variant_by(const struct flagset_world *world, const char *selector, const char *key)
{
    struct flagset_view view;
    (void)flagset_snapshot_view(flagset_current(world->set), slice_of(selector), &view);
    return variant_in(&view.set, key);
}

TEST(selectors)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        text_source("a.json", IN_SET("shop", FLAG("color", "on") "," FLAG("a", "on"))),
        text_source("b.json", IN_SET("shop", FLAG("b", "on"))),
        text_source("c.json", IN_SET("desk", FLAG("color", "off"))),
        text_source("d.json", SET(FLAG("d", "on"))),
    };
    struct flagset_view view;
    assert_int_equal(world_create(world, sources, ARRAY_LEN(sources)), STATUS_OK);
    assert_string_equal(variant_by(world, "", "color"), "off"); // the later document's
    assert_string_equal(variant_by(world, "flagSetId=shop", "color"), "on");
    assert_string_equal(variant_by(world, "flagSetId=shop", "b"), "on");
    assert_string_equal(variant_by(world, "flagSetId=shop", "d"), "!FLAG_NOT_FOUND");
    assert_string_equal(variant_by(world, "flagSetId=", "d"), "on");
    assert_string_equal(variant_by(world, "flagSetId=", "a"), "!FLAG_NOT_FOUND");
    assert_string_equal(variant_by(world, "source=a.json", "color"), "on");
    assert_string_equal(variant_by(world, "a.json", "color"), "on");
    assert_string_equal(variant_by(world, "a.json", "b"), "!FLAG_NOT_FOUND");
    assert_string_equal(variant_by(world, "source=a.json,flagSetId=shop", "a"), "on");
    assert_string_equal(variant_by(world, "source=a.json,flagSetId=desk", "a"), "!FLAG_NOT_FOUND");
    assert_false(flagset_snapshot_view(flagset_current(world->set), SLICE("none.json"), &view));
    assert_int_equal(flags_image_flag_count(&view.set), 0);
    assert_true(view.tag != 0);
    assert_false(flagset_snapshot_view(flagset_current(world->set), SLICE("=,=,x"), &view));
}

// ---- conformance: gherkin/selector.feature of flagd's testbed ----

static const char *conformance_file(const char *name)
{
    static char path[512];
    const char *roots[] = {getenv("SLUICE_CONFORMANCE"), "../shared/conformance", "../../shared/conformance"};
    for (size_t i = 0; i < ARRAY_LEN(roots); i++) {
        if (roots[i] == NULL)
            continue;
        (void)snprintf(path, sizeof path, "%s/flagd/testbed/flags/%s", roots[i], name);
        if (access(path, R_OK) == 0)
            return path;
    }
    return NULL;
}

static struct flagset_source file_source(const char *path, const char *name, char *storage, size_t cap)
{
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    size_t len = fread(storage, 1, cap, file);
    assert_true(len < cap);
    assert_int_equal(fclose(file), 0);
    return (struct flagset_source){.kind = FLAGSET_INLINE, .name = name, .json = {storage, len}};
}

TEST(selectors_of_flagd)
{
    struct flagset_world *world = *state;
    static char texts[2][65536];
    static const char *const HIDDEN[] = {"boolean-flag", "string-flag", "integer-flag", "float-flag"};
    const char *selector = "rawflags/selector-flags.json";
    if (conformance_file("selector-flags.json") == NULL) {
        printf("SKIPPED: flagd's testbed is not there (SLUICE_CONFORMANCE)\n");
        skip();
    }
    struct flagset_source sources[] = {
        file_source(conformance_file("testing-flags.json"), "rawflags/testing-flags.json", texts[0],
                    sizeof texts[0]),
        file_source(conformance_file("selector-flags.json"), selector, texts[1], sizeof texts[1]),
    };
    assert_int_equal(world_create(world, sources, 2), STATUS_OK);
    for (size_t i = 0; i < ARRAY_LEN(HIDDEN); i++) {
        assert_string_equal(variant_by(world, selector, HIDDEN[i]), "!FLAG_NOT_FOUND");
        assert_true(variant_by(world, "", HIDDEN[i])[0] != '!');
    }
    assert_string_equal(variant_by(world, selector, "selector-flag"), "foo");
    assert_string_equal(variant_by(world, "flagSetId=selector-set", "selector-flag"), "foo");
}

TEST(one_source_is_the_whole)
{
    struct flagset_world *world = *state;
    struct flagset_source source = text_source("a.json", IN_SET("shop", FLAG("a", "on")));
    struct flagset_view view;
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    assert_true(flagset_snapshot_view(flagset_current(world->set), SLICE("flagSetId=shop"), &view));
    assert_int_equal(view.index, 0);
    assert_true(view.tag == flagset_current(world->set)->all.tag);
    assert_true(view.set.image == flagset_current(world->set)->all.set.image);
}

#define RULED(name, ref)                                                                                     \
    "\"" name "\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":"       \
    "\"off\",\"targeting\":{\"if\":[{\"$ref\":\"" ref "\"},\"on\",null]}}"

#define NEEDS(name, key, variant)                                                                            \
    "\"" name                                                                                                \
    "\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":\"on\","          \
    "\"x-sluice\":{\"targets\":{\"on\":[\"u\"]},\"prerequisites\":[{\"flag\":\"" key                         \
    "\",\"variant\":\"" variant "\"}]}}"

// A flag that needs what a selector does not select answers an error there, and no other flag does.
TEST(a_view_lacks_what_a_flag_needs)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        text_source(
            "a.json",
            "{\"$evaluators\":{\"who\":{\"==\":[1,1]}},\"metadata\":{\"flagSetId\":\"a\"},\"flags\":{" FLAG(
                "p", "on") "," FLAG("shared", "on") "}}"),
        text_source("b.json",
                    IN_SET("b", NEEDS("q", "p", "on") "," NEEDS("r", "q", "on") "," FLAG(
                                    "plain", "on") "," NEEDS("s", "shared", "on") "," RULED("t", "who"))),
        text_source("c.json", IN_SET("b", FLAG("shared", "off"))),
    };
    const struct fault *problems;
    assert_int_equal(world_create(world, sources, 3), STATUS_OK);
    assert_string_equal(variant_by(world, "", "q"), "on");
    assert_string_equal(variant_by(world, "", "t"), "on");
    assert_string_equal(variant_by(world, "flagSetId=b", "q"), "!PARSE_ERROR");
    assert_string_equal(variant_by(world, "flagSetId=b", "r"),
                        "on"); // by default: its prerequisite is not met
    assert_string_equal(variant_by(world, "flagSetId=b", "t"), "!PARSE_ERROR");
    assert_string_equal(variant_by(world, "flagSetId=b", "plain"), "on");
    assert_string_equal(variant_by(world, "flagSetId=b", "s"), "on");
    assert_int_equal(flagset_problems(world->set, &problems), 1);
    assert_non_null(strstr(problems[0].text, "flagSetId=b: flag"));
}

// What is set at runtime stands in the views it belongs to and in no other; a kill reaches all.
TEST(the_overlay_in_views)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        text_source("a.json", IN_SET("shop", FLAG("a", "on"))),
        text_source("b.json", IN_SET("desk", FLAG("b", "on"))),
    };
    struct flags_patch patch = {.key = SLICE("b"), .kill = true, .kill_variant = SLICE("off")};
    assert_int_equal(world_create(world, sources, 2), STATUS_OK);
    assert_int_equal(
        flagset_overlay(world->set,
                        SLICE("{\"flags\":{" FLAG("a", "off") "," FLAG(
                            "new", "on") ",\"mine\":{\"state\":\"ENABLED\",\"variants\":{\"x\":1},"
                                         "\"defaultVariant\":\"x\",\"metadata\":{\"flagSetId\":\"desk\"}}}}"),
                        &patch, 1, 1),
        STATUS_OK);
    UNTIL(world, flagset_current(world->set)->change == 1);
    assert_string_equal(variant_by(world, "", "new"), "on");
    assert_string_equal(variant_by(world, "flagSetId=shop", "a"), "off");
    assert_string_equal(variant_by(world, "flagSetId=shop", "new"), "!FLAG_NOT_FOUND");
    assert_string_equal(variant_by(world, "flagSetId=desk", "a"), "!FLAG_NOT_FOUND");
    assert_string_equal(variant_by(world, "flagSetId=desk", "mine"), "x");
    assert_string_equal(variant_by(world, "flagSetId=shop", "mine"), "!FLAG_NOT_FOUND");
    assert_string_equal(variant_by(world, "flagSetId=desk", "b"), "off");
    assert_string_equal(variant_by(world, "", "b"), "off");
    // Patches alone: the views' too.
    assert_int_equal(flagset_overlay(world->set, SLICE(SET(FLAG("a", "off"))), NULL, 0, 2), STATUS_OK);
    UNTIL(world, flagset_current(world->set)->change == 2);
    assert_int_equal(flagset_overlay(world->set, SLICE(SET(FLAG("a", "off"))), &patch, 1, 3), STATUS_OK);
    UNTIL(world, flagset_current(world->set)->change == 3);
    assert_string_equal(variant_by(world, "flagSetId=desk", "b"), "off");
    assert_string_equal(variant_by(world, "flagSetId=shop", "a"), "off");
}

#define OTHER_NAMES(name)                                                                                    \
    "\"" name "\":{\"state\":\"ENABLED\",\"variants\":{\"yes\":true,\"no\":false},\"defaultVariant\":\"yes\"}"

// A flag of one key in two sets with different variants: off in both, and whoever asks is told where the
// variant named is not the answer.
TEST(a_kill_reaches_sets_without_its_variant)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        text_source("a.json", IN_SET("shop", OTHER_NAMES("x"))),
        text_source("b.json", IN_SET("desk", FLAG("x", "on"))),
    };
    struct flags_patch patch = {.key = SLICE("x"), .kill = true, .kill_variant = SLICE("off")};
    assert_int_equal(world_create(world, sources, 2), STATUS_OK);
    assert_int_equal(flagset_overlay(world->set, SLICE(""), &patch, 1, 1), STATUS_OK);
    UNTIL(world, flagset_current(world->set)->change == 1);
    assert_string_equal(variant_by(world, "", "x"), "off");
    assert_string_equal(variant_by(world, "flagSetId=desk", "x"), "off");
    assert_string_equal(variant_by(world, "flagSetId=shop", "x"), "no");
    // The file renames the variant: still off, and said.
    sources[1] = text_source("b.json", IN_SET("desk", OTHER_NAMES("x")));
    uint64_t version = flagset_current(world->set)->version;
    flagset_reconfigure(world->set, sources, 2, SLICE(""));
    UNTIL(world, flagset_current(world->set)->version > version);
    assert_string_equal(variant_by(world, "", "x"), "no");
    const struct fault *problems;
    assert_int_equal(flagset_problems(world->set, &problems), 1);
    assert_non_null(strstr(problems[0].text, "names no variant of the flag: 'off'"));
}

TEST(tags_change_with_content_only)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        text_source("a.json", IN_SET("shop", FLAG("a", "on"))),
        text_source("b.json", IN_SET("desk", FLAG("b", "on"))),
    };
    struct flagset_view shop;
    struct flagset_view desk;
    struct flagset_view now;
    assert_int_equal(world_create(world, sources, 2), STATUS_OK);
    assert_true(flagset_snapshot_view(flagset_current(world->set), SLICE("flagSetId=shop"), &shop));
    assert_true(flagset_snapshot_view(flagset_current(world->set), SLICE("flagSetId=desk"), &desk));
    uint64_t version = flagset_current(world->set)->version;
    sources[1] = text_source("b.json", IN_SET("desk", FLAG("b", "off")));
    flagset_reconfigure(world->set, sources, 2, SLICE(""));
    UNTIL(world, flagset_current(world->set)->version > version);
    assert_true(flagset_snapshot_view(flagset_current(world->set), SLICE("flagSetId=shop"), &now));
    assert_true(now.tag == shop.tag);
    assert_true(flagset_snapshot_view(flagset_current(world->set), SLICE("flagSetId=desk"), &now));
    assert_true(now.tag != desk.tag);
}

TEST(definitions)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        text_source("a.json", SET(FLAG("one", "on") ",\"t\\u0077o\":{\"state\":\"ENABLED\",\"variants\":{"
                                                    "\"x\":\"}\\\"\"},\"defaultVariant\":\"x\"}")),
        text_source("b.json",
                    "{\"flags\":[{\"key\":\"one\",\"state\":\"DISABLED\",\"variants\":{\"z\":1}}]}"),
    };
    struct slice json;
    const char *name;
    assert_int_equal(world_create(world, sources, 2), STATUS_OK);
    const struct flagset_snapshot *snapshot = flagset_current(world->set);
    assert_true(flagset_snapshot_definition(snapshot, SLICE("two"), &json, &name));
    assert_string_equal(name, "a.json");
    assert_true(slice_equal(
        json, SLICE("{\"state\":\"ENABLED\",\"variants\":{\"x\":\"}\\\"\"},\"defaultVariant\":\"x\"}")));
    assert_true(flagset_snapshot_definition(snapshot, SLICE("one"), &json, &name));
    assert_string_equal(name, "b.json");
    assert_true(slice_starts_with(json, SLICE("{\"key\":\"one\"")));
    assert_false(flagset_snapshot_definition(snapshot, SLICE("three"), &json, &name));
    assert_true(flagset_snapshot_document(snapshot, 1, &name, &json));
    assert_string_equal(name, "b.json");
    assert_true(flagset_snapshot_document(snapshot, 2, &name, &json)); // what is set at runtime
    assert_false(flagset_snapshot_document(snapshot, 3, &name, &json));
}

// ---- export ----

TEST(export_says_the_same)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        text_source("a.json", "{\"$evaluators\":{\"who\":{\"==\":[1,1]}},\"metadata\":{\"team\":\"x\"},"
                              "\"flags\":{" RULED("a", "who") "," RULED("s", "inside") "}}"),
        text_source("b.json", "{\"$evaluators\":{\"who\":{\"==\":[1,2]}},\"flags\":{" RULED(
                                  "b", "who") "," FLAG("killed", "on") "," FLAG("off", "on") "}}"),
        text_source("c.json", "{\"flags\":[{\"key\":\"listed\",\"state\":\"ENABLED\",\"variants\":{\"v\":1},"
                              "\"defaultVariant\":\"v\"}]}"),
    };
    struct flags_patch patches[] = {
        {.key = SLICE("killed"), .kill = true, .kill_variant = SLICE("off")},
        {.key = SLICE("off"), .state = FLAGS_PATCH_DISABLED},
    };
    char *json;
    size_t len;
    assert_int_equal(
        world_create_with(world, (struct flagset_config){.sources = sources,
                                                         .source_count = 3,
                                                         .segments = SLICE("{\"inside\":{\"!\":[false]}}")}),
        STATUS_OK);
    assert_int_equal(flagset_overlay(world->set, SLICE(""), patches, 2, 1), STATUS_OK);
    UNTIL(world, flagset_current(world->set)->change == 1);
    assert_int_equal(flagset_snapshot_export(flagset_current(world->set), &json, &len), STATUS_OK);
    assert_int_equal(strlen(json), len);

    struct flagset_world other;
    struct flagset_source exported = text_source("exported.json", json);
    world_open(&other);
    if (world_create(&other, &exported, 1) != STATUS_OK || other.problem_count > 0)
        fail_msg("%s\n%s", other.problem_count > 0 ? other.problems[0].text : "", json);
    static const char *const KEYS[] = {"a", "b", "s", "killed", "off", "listed"};
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++)
        assert_string_equal(variant_now(world, KEYS[i]), variant_now(&other, KEYS[i]));
    assert_string_equal(variant_now(&other, "a"), "on");
    assert_string_equal(variant_now(&other, "b"), "off");
    assert_string_equal(variant_now(&other, "s"), "on");
    assert_string_equal(variant_now(&other, "killed"), "off");
    struct flags_info info;
    assert_true(flags_image_find(&flagset_current(other.set)->all.set, SLICE("a"), &info));
    assert_true(slice_equal(info.metadata, SLICE("{\"team\":\"x\"}")));
    assert_true(flags_image_find(&flagset_current(other.set)->all.set, SLICE("b"), &info));
    assert_int_equal(info.metadata.len, 0);
    heap_free(json);
    world_close(&other);
}

// Evaluators keep apart whatever their names, and go along wherever they lie.
TEST(export_of_evaluators)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        text_source("a.json", "{\"$evaluators\":{\"who\":{\"==\":[1,1]}},\"flags\":{" RULED(
                                  "a", "who") "," RULED("lent", "only") "}}"),
        text_source("b.json", "{\"$evaluators\":{\"who\":{\"==\":[1,2]}},\"flags\":{" RULED("b", "who") "}}"),
        text_source("c.json",
                    "{\"$evaluators\":{\"who-2\":{\"==\":[2,2]}},\"flags\":{" RULED("c", "who-2") "}}"),
        text_source("d.json", "{\"$evaluators\":{\"only\":{\"==\":[3,3]}},\"flags\":{}}"),
    };
    static const char *const KEYS[] = {"a", "b", "c", "lent"};
    char *json;
    size_t len;
    assert_int_equal(world_create(world, sources, 4), STATUS_OK);
    assert_int_equal(flagset_snapshot_export(flagset_current(world->set), &json, &len), STATUS_OK);
    struct flagset_world other;
    struct flagset_source exported = text_source("exported.json", json);
    world_open(&other);
    if (world_create(&other, &exported, 1) != STATUS_OK || other.problem_count > 0)
        fail_msg("%s\n%s", other.problem_count > 0 ? other.problems[0].text : "", json);
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++)
        assert_string_equal(variant_now(&other, KEYS[i]), i == 1 ? "off" : "on");
    world_close(&other);
    heap_free(json);
}

// What other programs know of a flag, which have never heard of x-sluice: its state and default variant.
#define OTHERS(name, more)                                                                                   \
    "\"" name "\":{\"variants\":{\"on\":true,\"off\":false},\"targeting\":{\"if\":[true,\"on\"]}" more "}"
#define ON_BY_DEFAULT ",\"state\":\"ENABLED\",\"defaultVariant\":\"on\""

// A flag that is off is off for every reader of an export, also for one that does not know our kill.
TEST(export_is_off_for_others)
{
    struct flagset_world *world = *state;
    struct flagset_source source = text_source(
        "a.json",
        "{\"flags\":{" OTHERS("plain", ON_BY_DEFAULT) "," OTHERS(
            "named", ON_BY_DEFAULT
            ",\"x-sluice\":{\"targets\":{\"on\":[\"u\"]}}") "," OTHERS("file", ON_BY_DEFAULT
                                                                       ",\"x-sluice\":{\"kill\":true}") ","
                                                                                                        "\"text\":{\"state\":\"ENABLED\",\"variants\":{\"on\":\"x\"},\"defaultVariant\":"
                                                                                                        "\"on\"}}}");
    const struct flags_patch patches[] = {
        {.key = SLICE("plain"), .kill = true},
        {.key = SLICE("named"), .kill = true, .kill_variant = SLICE("off")},
        {.key = SLICE("text"), .kill = true},
    };
    static const char *const KEYS[] = {"plain", "named", "file"};
    char *json;
    size_t len;
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    assert_int_equal(flagset_overlay(world->set, SLICE(""), patches, 3, 1), STATUS_OK);
    UNTIL(world, flagset_current(world->set)->change == 1);
    assert_int_equal(flagset_snapshot_export(flagset_current(world->set), &json, &len), STATUS_OK);
    // Our own word must not be what does it.
    for (char *at = json; (at = strstr(at, "x-sluice")) != NULL;)
        *at = 'y';
    struct flagset_world other;
    struct flagset_source exported = text_source("exported.json", json);
    struct flags_info info;
    world_open(&other);
    assert_int_equal(world_create(&other, &exported, 1), STATUS_OK);
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++) {
        assert_string_equal(variant_now(&other, KEYS[i]), "off");
        assert_true(flags_image_find(&flagset_current(other.set)->all.set, slice_of(KEYS[i]), &info));
        assert_true(info.enabled && !info.killed && !info.has_targeting);
    }
    assert_true(flags_image_find(&flagset_current(other.set)->all.set, SLICE("text"), &info));
    assert_false(info.enabled);
    world_close(&other);
    heap_free(json);
}

static char *view_text(struct flagset_world *world, const char *selector)
{
    char *json = NULL;
    size_t len;
    assert_int_equal(
        flagset_snapshot_export_view(flagset_current(world->set), slice_of(selector), &json, &len),
        STATUS_OK);
    assert_int_equal(strlen(json), len);
    return json;
}

// What a token of one environment may read, and nothing of another's: flags, rules, segments, what is set at
// runtime; and patches over its own.
TEST(export_of_a_view)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        text_source("a.json",
                    "{\"$evaluators\":{\"who\":{\"$ref\":\"inside\"}},\"metadata\":{\"flagSetId\":\"a\"},"
                    "\"flags\":{" RULED("mine", "who") "," FLAG("both", "on") "," FLAG("dead", "on") "}}"),
        text_source("b.json",
                    "{\"$evaluators\":{\"who\":{\"$ref\":\"theirs\"}},\"metadata\":{\"flagSetId\":\"b\"},"
                    "\"flags\":{" RULED("other", "who") "," FLAG("both", "off") "}}"),
    };
    struct flags_patch patches[] = {{.key = SLICE("dead"), .kill = true, .kill_variant = SLICE("off")}};
    assert_int_equal(world_create_with(
                         world, (struct flagset_config){.sources = sources,
                                                        .source_count = 2,
                                                        .segments = SLICE("{\"inside\":{\"$ref\":\"deeper\"},"
                                                                          "\"deeper\":{\"!\":[false]},"
                                                                          "\"theirs\":{\"!\":[true]}}")}),
                     STATUS_OK);
    assert_int_equal(
        flagset_overlay(world->set, SLICE(SET(FLAG("runtime", "on") "," FLAG("other", "on"))), patches, 1, 1),
        STATUS_OK);
    UNTIL(world, flagset_current(world->set)->change == 1);
    char *json = view_text(world, "flagSetId=a");
    assert_null(strstr(json, "other"));
    assert_null(strstr(json, "theirs"));
    assert_null(strstr(json, "runtime"));
    assert_null(strstr(json, "\"b\""));

    struct flagset_world alone;
    struct flagset_source exported = text_source("exported.json", json);
    world_open(&alone);
    if (world_create(&alone, &exported, 1) != STATUS_OK || alone.problem_count > 0)
        fail_msg("%s\n%s", alone.problem_count > 0 ? alone.problems[0].text : "", json);
    assert_string_equal(variant_now(&alone, "mine"), "on");
    assert_string_equal(variant_now(&alone, "both"), "on"); // the view's own, though b.json overrides it
    assert_string_equal(variant_now(&alone, "dead"), "off");
    world_close(&alone);
    heap_free(json);

    json = view_text(world, "flagSetId=b");
    assert_non_null(strstr(json, "other")); // set at runtime, and so in its view
    assert_null(strstr(json, "mine"));
    assert_null(strstr(json, "inside"));
    heap_free(json);
    json = view_text(world, "flagSetId=nobody");
    assert_null(strstr(json, "state"));
    assert_null(strstr(json, "inside"));
    heap_free(json);
}

#define TIMED(name, schedule)                                                                                \
    "\"" name "\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true},\"defaultVariant\":\"on\",\"x-sluice\":" \
    "{\"schedule\":" schedule "}}"

// When time changes an answer, of each view by itself; patches leave that as it is.
TEST(schedules_of_views)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        text_source("a.json",
                    "{\"metadata\":{\"flagSetId\":\"a\"},\"flags\":{" TIMED(
                        "x", "{\"from\":300,\"until\":500}") "," TIMED("y", "{\"until\":300}") "}}"),
        text_source("b.json",
                    "{\"metadata\":{\"flagSetId\":\"b\"},\"flags\":{" TIMED("x", "{\"from\":100}") "}}"),
        text_source("c.json", "{\"metadata\":{\"flagSetId\":\"c\"},\"flags\":{" FLAG("z", "on") "}}"),
    };
    struct flags_patch patch = {.key = SLICE("y"), .kill = true};
    struct flagset_view view;
    assert_int_equal(world_create(world, sources, 3), STATUS_OK);
    for (uint64_t change = 0; change < 2; change++) {
        if (change == 1)
            assert_int_equal(flagset_overlay(world->set, SLICE(""), &patch, 1, change), STATUS_OK);
        UNTIL(world, flagset_current(world->set)->change == change);
        const struct flagset_snapshot *snapshot = flagset_current(world->set);
        assert_true(flagset_view_turned_s(&snapshot->all, 99) == INT64_MIN);
        assert_true(flagset_view_turned_s(&snapshot->all, 100) == 100);
        assert_true(flagset_view_turned_s(&snapshot->all, 499) == 300);
        assert_int_equal(snapshot->all.times->count, 2);
        assert_true(flagset_snapshot_view(snapshot, SLICE("flagSetId=a"), &view));
        assert_true(flagset_view_turned_s(&view, 299) == INT64_MIN);
        assert_true(flagset_view_turned_s(&view, 1000) == 500);
        assert_int_equal(view.times->count, 2); // two of them are at the same time
        assert_true(flagset_snapshot_view(snapshot, SLICE("flagSetId=c"), &view));
        assert_null(view.times);
    }
}

TEST(export_cannot_say_two_generations)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        text_source("a.json", "{\"x-sluice\":{\"fractional\":1},\"flags\":{" FLAG("a", "on") "}}"),
        text_source("b.json", SET(FLAG("b", "on"))),
    };
    char *json;
    size_t len;
    assert_int_equal(world_create(world, sources, 2), STATUS_OK);
    assert_int_equal(flagset_snapshot_export(flagset_current(world->set), &json, &len), STATUS_CONFLICT);
}

// ---- the check of one flag ----

static void check_gives(struct flagset_world *world, const char *key, const char *definition,
                        enum status status, const char *words)
{
    struct fault problem;
    assert_int_equal(flagset_check_flag(world->set, slice_of(key), slice_of(definition), &problem), status);
    assert_string_equal(problem.text, words);
}

#define ASKING(flag, variant)                                                                                \
    "{\"state\":\"ENABLED\",\"variants\":{\"on\":true},\"x-sluice\":{\"prerequisites\":[{\"flag\":\"" flag   \
    "\",\"variant\":\"" variant "\"}]}}"

TEST(checking_one_flag)
{
    struct flagset_world *world = *state;
    struct flagset_source source =
        text_source("a.json", SET(FLAG("base", "on") ",\"up\":" ASKING("base", "on")));
    assert_int_equal(
        world_create_with(world, (struct flagset_config){.sources = &source,
                                                         .source_count = 1,
                                                         .segments = SLICE("{\"beta\":{\"==\":[1,1]}}")}),
        STATUS_OK);
    check_gives(world, "x", "{\"state\":\"ENABLED\",\"variants\":{\"on\":true}}", STATUS_OK, "");
    check_gives(world, "x\"y\\", "{\"state\":\"ENABLED\",\"variants\":{\"on\":true}}", STATUS_OK, "");
    check_gives(world, "x", "{\"state\":\"ENABLED\",\n \"variants\":{\"on\":true,}}", STATUS_INVALID,
                "2:24: expected a name in double quotes");
    check_gives(world, "x", "{\"state\":\"ON\",\"variants\":{\"on\":true}}", STATUS_INVALID,
                "1:11: state is \"ENABLED\" or \"DISABLED\"");
    check_gives(world, "x", "{\"state\":\"ENABLED\",\n\"variants\":{\"on\":true,\"off\":1}}", STATUS_INVALID,
                "2:29: the variants of one flag have one type: 'off'");
    check_gives(world, "x", "{}},\"more\":{\"a\":{}", STATUS_INVALID, "1:3: something follows the document");
    check_gives(world, "", "{}", STATUS_INVALID, "1:1: a flag's key is text of at least one character");
    check_gives(world, "x", ASKING("base", "on"), STATUS_OK, "");
    check_gives(world, "x", ASKING("up", "on"), STATUS_OK, "");
    check_gives(world, "x", ASKING("none", "on"), STATUS_INVALID,
                "1:1: a prerequisite names no flag: 'none'");
    check_gives(world, "x", ASKING("base", "blue"), STATUS_INVALID,
                "1:1: a prerequisite names no variant: 'blue'");
    check_gives(world, "x",
                "{\"state\":\"ENABLED\",\"variants\":{\"on\":true},\"targeting\":{\"$ref\":\"beta\"}}",
                STATUS_OK, "");
}

// What was laid over a moment ago counts, although it is not in force: two changes, each well for itself,
// must not become a circle between them, and what was just defined can be asked for.
TEST(checking_beside_what_is_on_its_way)
{
    struct flagset_world *world = *state;
    struct flagset_source source = text_source("a.json", SET(FLAG("base", "on") "," FLAG("up", "on")));
    struct fault problem;
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    assert_int_equal(flagset_overlay(world->set,
                                     SLICE(SET("\"up\":" ASKING("base", "on") "," FLAG("fresh", "on"))), NULL,
                                     0, 1),
                     STATUS_OK);
    assert_int_equal(flagset_current(world->set)->change, 0);
    check_gives(world, "x", ASKING("fresh", "on"), STATUS_OK, "");
    assert_int_equal(flagset_check_flag(world->set, SLICE("base"), SLICE(ASKING("up", "on")), &problem),
                     STATUS_INVALID);
    assert_non_null(strstr(problem.text, "lead back to the flag"));
    UNTIL(world, flagset_current(world->set)->change == 1);
    check_gives(world, "x", ASKING("fresh", "on"), STATUS_OK, "");
    // Taken away, and not yet gone.
    assert_int_equal(flagset_overlay(world->set, SLICE(""), NULL, 0, 2), STATUS_OK);
    check_gives(world, "x", ASKING("fresh", "on"), STATUS_INVALID,
                "1:1: a prerequisite names no flag: 'fresh'");
    check_gives(world, "base", ASKING("up", "on"), STATUS_OK, "");
}

static void many_give(struct flagset_world *world, const char *flags, enum status status, const char *text)
{
    struct fault problem;
    assert_int_equal(flagset_check_flags(world->set, slice_of(flags), &problem), status);
    assert_string_equal(problem.text, text);
}

TEST(checking_many)
{
    struct flagset_world *world = *state;
    struct flagset_source source =
        text_source("a.json", SET(FLAG("base", "on") ",\"up\":" ASKING("base", "on")));
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    many_give(world, "{\"x\":" ASKING("y", "on") ",\"y\":" ASKING("base", "on") "}", STATUS_OK, "");
    // The other way round at once: alone either would be refused.
    many_give(world, "{\"base\":" ASKING("up", "on") "," FLAG("up", "on") "}", STATUS_OK, "");
    many_give(world, "{\"x\":" ASKING("y", "on") ",\n\"y\":" ASKING("x", "on") "}", STATUS_INVALID,
              "1:2: flag 'x': the prerequisites lead back to the flag");
    many_give(world, "{" FLAG("x", "on") ",\n\"y\":" ASKING("none", "on") "}", STATUS_INVALID,
              "2:1: flag 'y': a prerequisite names no flag: 'none'");
    many_give(world, "{\"base\":{\"state\":\"ENABLED\",\"variants\":{\"blue\":true}}}", STATUS_INVALID,
              "1:1: flag 'up': a prerequisite names no variant: 'on'");
    many_give(world, "{\"\":{}}", STATUS_INVALID, "1:1: a flag's key is text of at least one character");
    many_give(world, "[]", STATUS_INVALID, "1:1: flags are an object of keys and definitions");
    many_give(world, "{\"a\":{}", STATUS_INVALID, "1:8: expected ',' or '}'");
    many_give(world, "{}", STATUS_OK, "");
    // More names than are looked through one by one.
    static char text[1 << 16];
    size_t len = 0;
    for (uint32_t i = 0; i < 400; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%s\"many-%u\":%s", i == 0 ? "{" : ",", i,
                                "{\"state\":\"ENABLED\",\"variants\":{\"on\":true}}");
    (void)snprintf(text + len, sizeof text - len, "}");
    many_give(world, text, STATUS_OK, "");
    len = (size_t)snprintf(text, sizeof text, "{\"state\":\"ENABLED\",\"variants\":{\"on\":1");
    for (uint32_t i = 0; i < 200; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, ",\"variant-%u\":%u", i, i);
    (void)snprintf(text + len, sizeof text - len, "}}");
    check_gives(world, "wide", text, STATUS_OK, "");
}

TEST(checking_for_cycles)
{
    struct flagset_world *world = *state;
    struct flagset_source source =
        text_source("a.json", SET(FLAG("base", "on") ",\"up\":" ASKING("base", "on")));
    struct fault problem;
    assert_int_equal(world_create(world, &source, 1), STATUS_OK);
    assert_int_equal(flagset_check_flag(world->set, SLICE("base"), SLICE(ASKING("up", "on")), &problem),
                     STATUS_INVALID);
    assert_non_null(strstr(problem.text, "lead back to the flag"));
    // Without the variant that another flag needs.
    assert_int_equal(flagset_check_flag(world->set, SLICE("base"),
                                        SLICE("{\"state\":\"ENABLED\",\"variants\":{\"blue\":true}}"),
                                        &problem),
                     STATUS_INVALID);
    assert_string_equal(problem.text, "1:1: flag 'up': a prerequisite names no variant: 'on'");
}

// The n-th allocation fails, for every n: said, and nothing is left behind.
TEST(answers_without_memory)
{
    struct flagset_world *world = *state;
    struct flagset_source sources[] = {
        text_source("a.json", "{\"$evaluators\":{\"who\":{\"==\":[1,1]}},\"flags\":{" RULED(
                                  "a", "who") ",\"up\":" ASKING("base", "on") "}}"),
        text_source("b.json", "{\"$evaluators\":{\"who\":{\"==\":[1,2]}},\"flags\":{" RULED(
                                  "b", "who") "," FLAG("base", "on") "}}"),
    };
    struct fault problem;
    char *json = NULL;
    size_t len;
    assert_int_equal(world_create(world, sources, 2), STATUS_OK);
    enum status status = STATUS_NO_MEMORY;
    for (int after = 0; status != STATUS_OK; after++) {
        heap_fail_after(after);
        status = flagset_check_flag(world->set, SLICE("base"),
                                    SLICE("{\"state\":\"ENABLED\",\"variants\":{\"on\":true}}"), &problem);
        heap_fail_after(-1);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
        assert_true(after < 1000);
    }
    status = STATUS_NO_MEMORY;
    for (int after = 0; status != STATUS_OK; after++) {
        heap_fail_after(after);
        status = flagset_snapshot_export(flagset_current(world->set), &json, &len);
        heap_fail_after(-1);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
        assert_true(after < 1000);
    }
    assert_non_null(strstr(json, "\"who-2\""));
    heap_free(json);
}

// ---- threads ----

enum { READERS = 3, UPDATES = 60 };

struct shared {
    pthread_mutex_t lock;
    const struct flagset_snapshot *snapshot;
    atomic_bool stop;
};

struct reader {
    struct shared *shared;
    uint32_t number;
    uint64_t evaluations;
};

static const struct flagset_snapshot *borrow(struct shared *shared)
{
    pthread_mutex_lock(&shared->lock);
    const struct flagset_snapshot *snapshot = flagset_snapshot_ref(shared->snapshot);
    pthread_mutex_unlock(&shared->lock);
    return snapshot;
}

static void *read_on(void *context)
{
    struct reader *reader = context;
    char scratch[1024];
    do {
        const struct flagset_snapshot *snapshot = borrow(reader->shared);
        struct flags_context evaluation = {.has_targeting_key = true, .targeting_key = SLICE("user")};
        struct flags_result result;
        for (int i = 0; i < 100; i++) {
            flags_evaluate(&snapshot->all.set, SLICE("a"), FLAGS_BOOLEAN, &evaluation,
                           (struct flags_scratch){scratch, sizeof scratch}, &result);
            flags_tally_note(&snapshot->tallies[reader->number], &result);
            CHECK(result.has_value);
        }
        reader->evaluations += 100;
        CHECK(flags_tally_read(&snapshot->tallies[reader->number], result.counter) >= 1);
        flagset_snapshot_unref(snapshot);
    } while (!atomic_load(&reader->shared->stop));
    return NULL;
}

static void publish(struct shared *shared, const struct flagset_snapshot *snapshot)
{
    pthread_mutex_lock(&shared->lock);
    const struct flagset_snapshot *old = shared->snapshot;
    shared->snapshot = flagset_snapshot_ref(snapshot);
    pthread_mutex_unlock(&shared->lock);
    flagset_snapshot_unref(old);
}

TEST(snapshots_under_threads)
{
    struct flagset_world *world = *state;
    struct flagset_source source = text_source("a.json", SET(FLAG("a", "on")));
    struct shared shared = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct reader readers[READERS];
    pthread_t threads[READERS];
    assert_int_equal(
        world_create_with(
            world, (struct flagset_config){.sources = &source, .source_count = 1, .reader_count = READERS}),
        STATUS_OK);
    publish(&shared, flagset_current(world->set));
    for (uint32_t r = 0; r < READERS; r++) {
        readers[r] = (struct reader){.shared = &shared, .number = r};
        assert_int_equal(pthread_create(&threads[r], NULL, read_on, &readers[r]), 0);
    }
    for (uint64_t change = 1; change <= UPDATES; change++) {
        struct flags_patch patch = {.key = SLICE("a"), .kill = true, .kill_variant = SLICE("off")};
        struct slice json = change % 5 == 0 ? SLICE(SET(FLAG("a", "off"))) : SLICE(SET(FLAG("b", "off")));
        assert_int_equal(flagset_overlay(world->set, json, &patch, change % 2, change), STATUS_OK);
        UNTIL(world, flagset_current(world->set)->change == change);
        publish(&shared, flagset_current(world->set));
    }
    atomic_store(&shared.stop, true);
    for (uint32_t r = 0; r < READERS; r++) {
        assert_int_equal(pthread_join(threads[r], NULL), 0);
        assert_true(readers[r].evaluations > 0);
    }
    flagset_snapshot_unref(shared.snapshot);
}
