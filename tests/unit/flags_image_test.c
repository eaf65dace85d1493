// SPDX-License-Identifier: Apache-2.0
// flags: compiling and opening images. What refuses a set, what only marks a flag, where problems are said to
// lie, storage that runs out, damage.
#include "flags_fixture.h"
#include "test.h"

static bool reported(enum flags_severity severity, const char *part)
{
    for (size_t i = 0; i < fixture.problem_count && i < FIXTURE_PROBLEMS; i++)
        if (fixture.problems[i].severity == severity && strstr(fixture.problems[i].message, part) != NULL)
            return true;
    return false;
}

static void assert_refused(const char *json, const char *message)
{
    enum status status = fixture_compile(&fixture, json);
    if (status != STATUS_INVALID || !reported(FLAGS_ERROR, message))
        fail_msg("%s: %s, first problem: %s", json, status_name(status),
                 fixture.problem_count > 0 ? fixture.problems[0].message : "none");
}

#define FLAG(members) "{\"flags\":{\"f\":{" members "}}}"
#define BOOLEANS "\"variants\":{\"on\":true,\"off\":false}"
#define ENABLED "\"state\":\"ENABLED\","

TEST(structural)
{
    assert_refused("", "expected an object");
    assert_refused("[]", "an object with \"flags\"");
    assert_refused("{}", "an object with \"flags\"");
    assert_refused("{\"flags\":7}", "an object or a list");
    assert_refused("{\"flags\":{}} x", "something follows");
    assert_refused("{\"flags\":{},\"flags\":{}}", "twice");
    assert_refused(FLAG("\"state\":\"ENABLED\""), "has variants");
    assert_refused(FLAG(ENABLED "\"variants\":{}"), "has variants");
    assert_refused(FLAG(BOOLEANS), "state is");
    assert_refused(FLAG("\"state\":\"enabled\"," BOOLEANS), "state is");
    assert_refused(FLAG(ENABLED "\"variants\":{\"a\":1,\"b\":\"1\"}"), "one type");
    assert_refused(FLAG(ENABLED "\"variants\":{\"a\":null}"), "a boolean, a string");
    assert_refused(FLAG(ENABLED "\"variants\":{\"a\":[1]}"), "a boolean, a string");
    assert_refused(FLAG(ENABLED BOOLEANS ",\"defaultVariant\":\"no\""), "names no variant");
    assert_refused(FLAG(ENABLED BOOLEANS ",\"defaultVariant\":true"), "name or null");
    assert_refused(FLAG(ENABLED BOOLEANS ",\"metadata\":{\"a\":[]}"), "metadata value");
    assert_refused("{\"flags\":{},\"metadata\":{\"a\":null}}", "metadata value");
    assert_refused("{\"flags\":{},\"metadata\":3}", "metadata is an object");
    assert_refused("{\"flags\":{\"f\":1}}", "a flag is an object");
    assert_refused("{\"flags\":[{" ENABLED BOOLEANS "}]}", "has a key");
    assert_refused("{\"flags\":{},\"$evaluators\":[]}", "$evaluators");
    assert_refused("{\"flags\":{\"f\":{" ENABLED BOOLEANS "},\"f\":{" ENABLED BOOLEANS "}}}",
                   "twice in the set");
    assert_refused("{\"flags\":{\"f\":{" ENABLED BOOLEANS "},\"\\u0066\":{" ENABLED BOOLEANS "}}}", "twice");
    assert_refused("{\"flags\":{\"f\":{" ENABLED "\"x\":\"\xc3\x28\"}}}", "UTF-8");
    assert_refused(FLAG(ENABLED "\"variants\":{\"a\":1e999}"), "out of range");
}

TEST(extension_faults)
{
#define EXTENDED(members) FLAG(ENABLED BOOLEANS ",\"x-sluice\":{" members "}")
    assert_refused("{\"flags\":{},\"x-sluice\":{\"fractional\":4}}", "generations");
    assert_refused("{\"flags\":{},\"x-sluice\":{\"fractionall\":3}}", "unknown setting");
    assert_refused(EXTENDED("\"kil\":true"), "unknown setting");
    assert_refused(EXTENDED("\"kill\":\"no\""), "kill names no variant");
    assert_refused(EXTENDED("\"targets\":{\"no\":[\"u\"]}"), "targets name no variant");
    assert_refused(EXTENDED("\"targets\":{\"on\":[\"u\"],\"off\":[\"u\"]}"), "stands twice");
    assert_refused(EXTENDED("\"schedule\":{\"from\":20,\"until\":10}"), "ends before");
    assert_refused(EXTENDED("\"schedule\":{\"from\":\"2026-02-29T00:00:00Z\"}"), "a time is");
    assert_refused(EXTENDED("\"schedule\":{\"from\":\"2026-02-28 00:00\"}"), "a time is");
    assert_refused(EXTENDED("\"schedule\":{\"from\":1795251600000}"), "counts milliseconds");
    assert_refused(EXTENDED("\"schedule\":{\"until\":-100000000000}"), "counts milliseconds");
    assert_refused(EXTENDED("\"prerequisites\":[{\"flag\":\"g\",\"variant\":\"on\"}]"), "names no flag");
    assert_refused(EXTENDED("\"prerequisites\":[{\"flag\":\"f\",\"variant\":\"no\"}]"), "names no variant");
    assert_refused(EXTENDED("\"prerequisites\":[{\"flag\":\"f\"}]"), "a flag and a variant");
    assert_refused(EXTENDED("\"prerequisites\":[{\"flag\":\"f\",\"variant\":\"on\"}]"), "lead back");
}

// No operator that takes a list has a limit to it.
TEST(many_arguments)
{
    static const char *const NAMES[] = {"or", "and", "if", "missing", "cat", "max", "merge", "+"};
    static char storage[1 << 14];
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        struct text json = text_over(storage, sizeof storage);
        text_addf(&json,
                  "{\"flags\":{\"f\":{" ENABLED BOOLEANS
                  ",\"defaultVariant\":\"on\",\"targeting\":{\"%s\":[\"\"",
                  NAMES[i]);
        for (int k = 0; k < 999; k++)
            text_addf(&json, ",\"1\"");
        text_addf(&json, "]}}}}");
        assert_int_equal(fixture_compile_with(&fixture, slice_of(storage), true, 0), STATUS_OK);
        assert_int_equal(fixture.problem_count, 0);
    }
}

static void add_chained(struct text *json, int i, int needs)
{
    text_addf(json, "%s\"f%d\":{" ENABLED BOOLEANS ",\"defaultVariant\":\"on\"", i > 0 ? "," : "", i);
    if (needs >= 0)
        text_addf(json, ",\"x-sluice\":{\"prerequisites\":[{\"flag\":\"f%d\",\"variant\":\"on\"}]}", needs);
    text_addf(json, "}");
}

TEST(prerequisite_chains)
{
    static char storage[1 << 14];
    // f0 needs f1 needs f2 ...: seventeen flags make a chain of sixteen, the longest allowed.
    for (int count = 16; count <= 18; count++) {
        struct text json = text_over(storage, sizeof storage);
        text_addf(&json, "{\"flags\":{");
        for (int i = 0; i < count; i++)
            add_chained(&json, i, i + 1 < count ? i + 1 : -1);
        text_addf(&json, "}}");
        if (count <= FLAGS_PREREQUISITES_MAX + 1)
            assert_int_equal(fixture_compile(&fixture, storage), STATUS_OK);
        else
            assert_refused(storage, "too long");
    }
    struct text json = text_over(storage, sizeof storage);
    text_addf(&json, "{\"flags\":{");
    for (int i = 0; i < 3; i++)
        add_chained(&json, i, (i + 1) % 3);
    text_addf(&json, "}}");
    assert_refused(storage, "lead back");
}

// Targeting faults: the set stands, the flag answers PARSE_ERROR (evaluated elsewhere), lint refuses.
TEST(targeting_faults)
{
    static const char *const FAULTS[][2] = {
        {"{\"nope\":[1]}", "unknown operator"},
        {"{\"if\":[{\"a\":1,\"b\":2},\"on\"]}", "exactly one operator"},
        {"{\"$ref\":\"none\"}", "names no evaluator"},
        {"{\"$ref\":7}", "by a string"},
        {"{\"$ref\":\"loop\"}", "with a fault"},
        {"[1]", "targeting is a rule"},
    };
    for (size_t i = 0; i < ARRAY_LEN(FAULTS); i++) {
        char json[512];
        snprintf(json, sizeof json,
                 "{\"flags\":{\"f\":{" ENABLED BOOLEANS ",\"targeting\":%s}},\"$evaluators\":"
                 "{\"loop\":{\"!\":{\"$ref\":\"pool\"}},\"pool\":{\"!\":{\"$ref\":\"loop\"}}}}",
                 FAULTS[i][0]);
        assert_int_equal(fixture_compile(&fixture, json), STATUS_OK);
        assert_true(reported(FLAGS_FAULT, FAULTS[i][1]));
        assert_true(reported(FLAGS_FAULT, "leads back"));
        struct flags_info info;
        assert_true(flags_image_find(&fixture.set, SLICE("f"), &info));
        assert_true(info.fault.len > 0 && info.has_targeting);
        assert_int_equal(fixture_compile_with(&fixture, slice_of(json), true, 0), STATUS_INVALID);
    }
}

TEST(remarks)
{
    static const char *const REMARKS[] = {
        "{\"==\":[1]}",
        "{\"starts_with\":[\"a\"]}",
        "{\"sem_ver\":[\"1\",\"=\"]}",
        "{\"sem_ver\":[\"x\",\"=\",\"1\"]}",
        "{\"fractional\":[[\"on\",-1],[\"off\"]]}",
        "{\"fractional\":[[\"on\",\"1\"]]}",
        "{\"fractional\":\"x\"}",
        "{\"fractional\":[[\"on\",2147483647],[\"off\",1]]}",
        "{\"var\":\"$flagd.nope\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(REMARKS); i++) {
        char rest[256];
        snprintf(rest, sizeof rest, "\"targeting\":%s", REMARKS[i]);
        assert_int_equal(fixture_compile_flag(&fixture, rest), STATUS_OK);
        assert_true(fixture.problem_count > 0 && fixture.problems[0].severity == FLAGS_WARNING);
        struct flags_info info;
        assert_true(flags_image_find(&fixture.set, SLICE("f"), &info));
        assert_int_equal(info.fault.len, 0);
    }
}

TEST(too_deep)
{
    static char storage[1 << 16];
    // Chains of evaluators, each one deeper than the next one it refers to.
    for (int count = 40; count <= 60; count += 20) {
        struct text json = text_over(storage, sizeof storage);
        text_addf(&json, "{\"flags\":{\"f\":{" ENABLED BOOLEANS
                         ",\"targeting\":{\"$ref\":\"e0\"}}},\"$evaluators\":{");
        for (int i = 0; i < count; i++)
            text_addf(&json, "\"e%d\":{\"!\":{\"$ref\":\"e%d\"}},", i, i + 1);
        text_addf(&json, "\"e%d\":{\"==\":[1,1]}}}", count);
        assert_int_equal(fixture_compile(&fixture, storage), STATUS_OK);
        struct flags_info info;
        assert_true(flags_image_find(&fixture.set, SLICE("f"), &info));
        assert_int_equal(info.fault.len > 0, count == 60);
    }
    // Far more than the compiler follows: refused, not a stack that runs out.
    struct text json = text_over(storage, sizeof storage);
    text_addf(&json, "{\"flags\":{},\"$evaluators\":{");
    for (int i = 0; i < 1500; i++)
        text_addf(&json, "\"e%d\":{\"!\":{\"$ref\":\"e%d\"}},", i, i + 1);
    text_addf(&json, "\"e1500\":{}}}");
    assert_false(json.cut);
    assert_int_equal(fixture_compile(&fixture, storage), STATUS_OK);
    assert_true(reported(FLAGS_FAULT, "too deeply"));
}

TEST(position)
{
    assert_int_equal(fixture_compile(&fixture,
                                     "{\"flags\":{\n \"a\":{" ENABLED BOOLEANS "},\n \"b\":{" ENABLED BOOLEANS
                                     ",\n  \"targeting\":{\"bad\":[]}}}}"),
                     STATUS_OK);
    assert_int_equal(fixture.problem_count, 1);
    assert_int_equal(fixture.problems[0].line, 4);
    assert_int_equal(fixture.problems[0].column, 15);
    assert_true(slice_equal(fixture.problems[0].key, SLICE("b")));
    assert_true(slice_equal(fixture.problems[0].subject, SLICE("bad")));
    assert_int_equal(fixture_compile(&fixture, "{\"flags\":{\n\"a\":{]}}"), STATUS_INVALID);
    assert_int_equal(fixture.problems[0].line, 2);
    assert_int_equal(fixture.problems[0].column, 6);
}

TEST(storage)
{
    static const char JSON[] =
        "{\"flags\":{\"a\":{" ENABLED BOOLEANS ",\"targeting\":{\"if\":[{\"in\":[{\"var\":\"x\"},"
        "[\"a\",\"b\",\"c\",\"d\"]]},\"on\",\"off\"]},\"metadata\":{\"k\":\"v\"}}}}";
    _Alignas(8) static uint8_t image[4096];
    struct flags_compile_options options = {0};
    struct flags_json_space space = {
        .nodes = fixture.nodes, .node_cap = FIXTURE_NODES, .chars = fixture.chars, .char_cap = FIXTURE_CHARS};
    size_t count;
    size_t len = 0;
    size_t full = 0;
    assert_int_equal(
        flags_compile(SLICE(JSON), &options, &space, image, sizeof image, &full, NULL, 0, &count), STATUS_OK);
    for (size_t cap = 0; cap < full; cap++)
        assert_int_equal(flags_compile(SLICE(JSON), &options, &space, image, cap, &len, NULL, 0, &count),
                         STATUS_FULL);
    assert_int_equal(flags_compile(SLICE(JSON), &options, &space, image, full, &len, NULL, 0, &count),
                     STATUS_OK);
    assert_int_equal(len, full);
    space.node_cap = 5;
    assert_int_equal(flags_compile(SLICE(JSON), &options, &space, image, full, &len, NULL, 0, &count),
                     STATUS_NO_MEMORY);
}

TEST(damage)
{
    struct flags_image set;
    assert_int_equal(fixture_compile(&fixture, FLAG(ENABLED BOOLEANS)), STATUS_OK);
    for (size_t i = 0; i < fixture.len; i++) {
        fixture.image[i] ^= 0x10;
        assert_int_equal(flags_image_open(fixture.image, fixture.len, &set), STATUS_CORRUPT);
        fixture.image[i] ^= 0x10;
    }
    for (size_t cut = 0; cut < fixture.len; cut++)
        assert_int_equal(flags_image_open(fixture.image, cut, &set), STATUS_CORRUPT);
    assert_int_equal(flags_image_open(fixture.image, fixture.len + 100, &set), STATUS_OK);
    // Position-independent: a copy elsewhere is as good.
    _Alignas(8) static uint8_t copy[4096];
    memcpy(copy, fixture.image, fixture.len);
    assert_int_equal(flags_image_open(copy, fixture.len, &set), STATUS_OK);
    assert_int_equal(flags_image_flag_count(&set), 1);
}

TEST(listing)
{
    static const char JSON[] =
        "{\"metadata\":{\"set\":1,\"v\":\"s\"},\"x-sluice\":{\"fractional\":2},\"flags\":["
        "{\"key\":\"b\"," ENABLED "\"variants\":{\"x\":\"q\\\"\\u00e9\"},\"defaultVariant\":\"x\","
        "\"metadata\":{\"v\":\"f\"}},"
        "{\"key\":\"a\",\"state\":\"DISABLED\",\"variants\":{\"o\":{\"k\":1}},\"defaultVariant\":null}]}";
    struct flags_info info;
    struct slice name;
    struct slice value;
    uint32_t cursor = 0;
    assert_int_equal(fixture_compile(&fixture, JSON), STATUS_OK);
    assert_int_equal(flags_image_generation(&fixture.set), FLAGS_GENERATION_2);
    assert_true(slice_equal(flags_image_metadata(&fixture.set), SLICE("{\"set\":1,\"v\":\"s\"}")));
    assert_true(flags_image_next(&fixture.set, &cursor, &info));
    assert_true(slice_equal(info.key, SLICE("b")) && info.enabled && info.type == FLAGS_STRING);
    assert_true(slice_equal(info.metadata, SLICE("{\"set\":1,\"v\":\"f\"}")));
    assert_true(slice_equal(info.default_variant, SLICE("x")));
    assert_true(flags_image_variant_get(&fixture.set, SLICE("b"), 0, &name, &value));
    assert_true(slice_equal(name, SLICE("x")) && slice_equal(value, SLICE("\"q\\\"\xc3\xa9\"")));
    assert_false(flags_image_variant_get(&fixture.set, SLICE("b"), 1, &name, &value));
    assert_true(flags_image_next(&fixture.set, &cursor, &info));
    assert_true(slice_equal(info.key, SLICE("a")) && !info.enabled && info.type == FLAGS_OBJECT);
    assert_int_equal(info.default_variant.len, 0);
    assert_false(flags_image_next(&fixture.set, &cursor, &info));
    uint64_t before = flags_image_checksum(&fixture.set);
    assert_int_equal(fixture_compile(&fixture, JSON), STATUS_OK);
    assert_true(before == flags_image_checksum(&fixture.set));
}
