// SPDX-License-Identifier: Apache-2.0
// flags: evaluation. Reasons and error codes, the extension, explaining, and bad input of every kind: always
// an answer with a reason, never a crash.
#include "flags/eval/flags_private.h"
#include "flags_fixture.h"
#include "test.h"

static struct flags_result evaluate(const char *context_json)
{
    struct flags_context context = {.tree = fixture_tree(&fixture, slice_of(context_json)), .time_s = 1000};
    return fixture_evaluate(&fixture, "f", FLAGS_ANY, &context);
}

// One boolean flag "f" with this targeting, evaluated with this context.
static struct flags_result rule(const char *targeting, const char *context_json)
{
    static char rest[1 << 17];
    snprintf(rest, sizeof rest, "\"targeting\":%s", targeting);
    assert_int_equal(fixture_compile_flag(&fixture, rest), STATUS_OK);
    return evaluate(context_json);
}

#define assert_reason(result, wanted) assert_string_equal(flags_reason_name((result).reason), wanted)
#define assert_error(result, wanted) assert_string_equal(flags_error_name((result).error), wanted)

static void assert_on(const char *targeting, const char *context_json, bool on)
{
    struct flags_result r = rule(targeting, context_json);
    if (r.reason != FLAGS_REASON_TARGETING_MATCH || r.boolean != on)
        fail_msg("%s with %s: %s %s %d " SLICE_FMT, targeting, context_json, flags_reason_name(r.reason),
                 flags_error_name(r.error), r.boolean, SLICE_ARG(r.error_text));
}

// {"if":[condition,"on","off"]}
static void assert_condition(const char *condition, const char *context_json, bool on)
{
    static char text[1 << 16];
    snprintf(text, sizeof text, "{\"if\":[%s,\"on\",\"off\"]}", condition);
    assert_on(text, context_json, on);
}

TEST(types)
{
    assert_int_equal(
        fixture_compile(&fixture,
                        "{\"flags\":{"
                        "\"b\":{\"state\":\"ENABLED\",\"variants\":{\"x\":true},\"defaultVariant\":\"x\"},"
                        "\"s\":{\"state\":\"ENABLED\",\"variants\":{\"x\":\"t\"},\"defaultVariant\":\"x\"},"
                        "\"i\":{\"state\":\"ENABLED\",\"variants\":{\"x\":3.0},\"defaultVariant\":\"x\"},"
                        "\"n\":{\"state\":\"ENABLED\",\"variants\":{\"x\":3.5},\"defaultVariant\":\"x\"},"
                        "\"o\":{\"state\":\"ENABLED\",\"variants\":{\"x\":{}},\"defaultVariant\":\"x\"}}}"),
        STATUS_OK);
    static const char *const KEYS[] = {"b", "s", "i", "n", "o"};
    // Rows: keys; columns: ANY, BOOLEAN, STRING, INTEGER, FLOAT, OBJECT.
    static const bool FITS[5][6] = {
        {1, 1, 0, 0, 0, 0}, {1, 0, 1, 0, 0, 0}, {1, 0, 0, 1, 1, 0}, {1, 0, 0, 0, 1, 0}, {1, 0, 0, 0, 0, 1}};
    struct flags_context context = {0};
    for (size_t k = 0; k < ARRAY_LEN(KEYS); k++) {
        for (int type = FLAGS_ANY; type <= FLAGS_OBJECT; type++) {
            struct flags_result r = fixture_evaluate(&fixture, KEYS[k], (enum flags_type)type, &context);
            assert_int_equal(r.has_value, FITS[k][type]);
            assert_reason(r, FITS[k][type] ? "STATIC" : "ERROR");
            assert_error(r, FITS[k][type] ? "" : "TYPE_MISMATCH");
        }
    }
    struct flags_result r = fixture_evaluate(&fixture, "none", FLAGS_ANY, &context);
    assert_error(r, "FLAG_NOT_FOUND");
    assert_false(r.has_value);
}

TEST(errors)
{
    assert_error(rule("{\"nope\":[]}", "{}"), "PARSE_ERROR");
    assert_error(rule("{\"$ref\":\"x\"}", "{}"), "PARSE_ERROR");
    assert_error(rule("{\"if\":[true,\"blue\"]}", "{}"), "GENERAL");
    assert_error(rule("{\"merge\":[1,2]}", "{}"), "GENERAL");
    assert_error(rule("{\"+\":[1,2]}", "{}"), "GENERAL"); // no variant "3"
    assert_error(rule("{\"var\":\"x\"}", "[1]"), "INVALID_CONTEXT");
    struct flags_result r = rule("{\"fractional\":[[\"on\"],[\"off\"]]}", "{}");
    assert_reason(r, "DEFAULT");
    assert_true(slice_equal(r.note, SLICE("no targeting key to bucket by")));
    struct flags_context demanding = {.key_required = true};
    assert_error(fixture_evaluate(&fixture, "f", FLAGS_ANY, &demanding), "TARGETING_KEY_MISSING");
    assert_reason(rule("{\"var\":\"absent\"}", "{}"), "DEFAULT");
    assert_reason(rule("{}", "{}"), "STATIC");
}

// Each $ref doubles the work: 2^18 evaluations from a few hundred bytes.
TEST(steps_bounded)
{
    static char storage[4096];
    struct text json = text_over(storage, sizeof storage);
    text_addf(&json, "{\"flags\":{\"f\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true},\"targeting\":"
                     "{\"if\":[{\"$ref\":\"e17\"},\"on\",\"on\"]}}},\"$evaluators\":{\"e0\":{\"!\":[false]}");
    for (int i = 1; i < 18; i++)
        text_addf(&json, ",\"e%d\":{\"and\":[{\"$ref\":\"e%d\"},{\"$ref\":\"e%d\"}]}", i, i - 1, i - 1);
    text_addf(&json, "}}");
    assert_false(json.cut);
    assert_int_equal(fixture_compile(&fixture, storage), STATUS_OK);
    struct flags_result r = evaluate("{}");
    assert_error(r, "GENERAL");
    assert_true(slice_equal(r.error_text, SLICE("the rule took too many steps")));
}

// A context of thousands of members, looked into again and again: the search counts as work.
TEST(huge_context)
{
    static char storage[1 << 16];
    static char condition[1 << 16];
    struct text context = text_over(storage, sizeof storage);
    struct text all = text_over(condition, sizeof condition);
    text_addf(&context, "{\"m0\":0");
    for (int i = 1; i < 4000; i++)
        text_addf(&context, ",\"m%d\":%d", i, i);
    text_addf(&context, "}");
    text_addf(&all, "{\"if\":[{\"and\":[1");
    for (int i = 0; i < 1000; i++)
        text_addf(&all, ",{\"var\":\"m3999\"}");
    text_addf(&all, "]},\"on\"]}");
    assert_false(context.cut || all.cut);
    assert_condition("{\"==\":[{\"var\":\"m3999\"},3999]}", storage, true);
    assert_error(rule(condition, storage), "GENERAL");
}

TEST(scratch_bounded)
{
    static char storage[1 << 15];
    struct text list = text_over(storage, sizeof storage);
    text_addf(&list, "{\"l\":[0");
    for (int i = 0; i < 2000; i++)
        text_addf(&list, ",%d", i);
    text_addf(&list, "]}");
    struct flags_result r = rule("{\"if\":[{\"map\":[{\"var\":\"l\"},1]},\"on\"]}", storage);
    assert_error(r, "GENERAL");
    assert_true(slice_equal(r.error_text, SLICE("the evaluation needs more scratch than it was given")));
    // The same without any scratch at all; rules that need none do not mind.
    struct flags_context context = {.tree = fixture_tree(&fixture, SLICE("{\"l\":[1]}"))};
    struct flags_scratch none = {NULL, 0};
    flags_evaluate(&fixture.set, SLICE("f"), FLAGS_ANY, &context, none, &r);
    assert_error(r, "GENERAL");
    assert_int_equal(fixture_compile_flag(&fixture, "\"targeting\":{\"if\":[{\"==\":[1,1]},\"on\"]}"),
                     STATUS_OK);
    flags_evaluate(&fixture.set, SLICE("f"), FLAGS_ANY, &context, none, &r);
    assert_reason(r, "TARGETING_MATCH");
}

TEST(depth_bounded)
{
    static char storage[4096];
    struct text json = text_over(storage, sizeof storage);
    for (int i = 0; i < 60; i++)
        text_addf(&json, "{\"!\":");
    text_addf(&json, "true");
    for (int i = 0; i < 60; i++)
        text_addf(&json, "}");
    assert_condition(storage, "{}", true);
}

TEST(comparison)
{
    assert_condition("{\"==\":[{\"var\":\"a\"},\"5\"]}", "{\"a\":5}", true);
    assert_condition("{\"===\":[{\"var\":\"a\"},\"5\"]}", "{\"a\":5}", false);
    assert_condition("{\"==\":[{\"var\":\"a\"},null]}", "{\"a\":0}", false);
    assert_condition("{\"==\":[{\"var\":\"b\"},null]}", "{\"a\":0}", true);
    assert_condition("{\"==\":[{\"var\":\"a\"},\"0x10\"]}", "{\"a\":16}", false);
    assert_condition("{\"==\":[{\"var\":\"a\"},\" 16 \"]}", "{\"a\":16}", true);
    assert_condition("{\"==\":[{\"var\":\"a\"},\"1,2\"]}", "{\"a\":[1,2]}", true);
    assert_condition("{\"==\":[{\"var\":\"a\"},{\"var\":\"a\"}]}", "{\"a\":{}}", true);
    assert_condition("{\"<\":[\"abc\",\"abd\"]}", "{}", true);
    assert_condition("{\"<\":[\"b\",5]}", "{}", false);
    assert_condition("{\">=\":[\"b\",5]}", "{}", false);
    assert_condition("{\"<\":[1]}", "{}", false);
    assert_condition("{\"in\":[{\"var\":\"a\"},[\"x\",\"yy\",\"zzz\",\"w\"]]}", "{\"a\":\"yy\"}", true);
    assert_condition("{\"in\":[{\"var\":\"a\"},[\"x\",\"yy\",\"zzz\",\"w\"]]}", "{\"a\":\"y\"}", false);
    assert_condition("{\"in\":[{\"var\":\"a\"},[\"1\",\"2\",\"3\",\"4\"]]}", "{\"a\":1}", false);
    assert_condition("{\"in\":[\"\",\"abc\"]}", "{}", true);
    assert_condition("{\"==\":[{\"/\":[1,0]},{\"/\":[2,0]}]}", "{}", true);
    assert_condition("{\"==\":[{\"/\":[0,0]},{\"/\":[0,0]}]}", "{}", false);
}

TEST(text)
{
    assert_condition(
        "{\"==\":[{\"cat\":[1.5,true,null,[1,[2]],1e21,1e-7,100,0.1]},\"1.5true1,21e+211e-71000.1\"]}", "{}",
        true);
    assert_condition(
        "{\"==\":[{\"cat\":[123456789012345680000,-0.000001]},\"123456789012345680000-0.000001\"]}", "{}",
        true);
    assert_condition("{\"==\":[{\"substr\":[{\"var\":\"a\"},1,2]},\"\xc3\xa9\xc3\xb8\"]}",
                     "{\"a\":\"x\xc3\xa9\xc3\xb8z\"}", true);
    assert_condition("{\"==\":[{\"substr\":[\"abc\",-9,9]},\"abc\"]}", "{}", true);
    assert_condition("{\"==\":[{\"substr\":[\"abc\",9]},\"\"]}", "{}", true);
    assert_condition("{\"==\":[{\"substr\":[\"abc\",\"x\",1e300]},\"abc\"]}", "{}", true);
}

TEST(versions)
{
    static const struct {
        const char *a;
        const char *op;
        const char *b;
        bool holds;
    } CASES[] = {
        {"1.0.0-alpha", "<", "1.0.0-alpha.1", true},
        {"1.0.0-alpha.1", "<", "1.0.0-alpha.beta", true},
        {"1.0.0-beta.2", "<", "1.0.0-beta.11", true},
        {"1.0.0-rc.1", "<", "1.0.0", true},
        {"1.0.0-1", "<", "1.0.0-a", true},
        {"1.10.0", ">", "1.9.0", true},
        {"1.0.0+a", "=", "1.0.0+b", true},
        {"1.0.0-a", "!=", "1.0.0", true},
        {"99999999999999999999.0.0", ">", "9.0.0", true},
        {"v1.2", "=", "1.2.0", true},
        {"1.2.3", "~", "1.2.9", true},
        {"1.2.3", "~", "1.3.0", false},
        {"1.2.3", "^", "1.9.0", true},
        {"2.0.0", "^", "1.9.0", false},
        {"1.0.0", "<=", "1.0.0", true},
        {"1.0.1", ">=", "1.0.0", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        bool holds = !CASES[i].holds;
        assert_true(
            flags_sem_ver_compare(slice_of(CASES[i].a), slice_of(CASES[i].op), slice_of(CASES[i].b), &holds));
        if (holds != CASES[i].holds)
            fail_msg("%s %s %s", CASES[i].a, CASES[i].op, CASES[i].b);
    }
    static const char *const BAD[] = {"",           "v",      "1.",    "01.0.0",  "1.0.0-", "1.0.0-01",
                                      "1.0.0-a..b", "1.0.0+", "a.b.c", "1.0.0.0", "1-a"};
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        bool holds;
        assert_false(flags_sem_ver_compare(slice_of(BAD[i]), SLICE("="), SLICE("1.0.0"), &holds));
    }
}

// The order in which a client happens to write an object does not move anybody.
TEST(map_order)
{
    uint32_t different = 0;
    for (int i = 0; i < 64; i++) {
        char forward[128];
        char backward[128];
        snprintf(forward, sizeof forward, "{\"o\":{\"a\":%d,\"bb\":[true,{\"x\":1,\"y\":null}]}}", i);
        snprintf(backward, sizeof backward, "{\"o\":{\"bb\":[true,{\"y\":null,\"x\":1.0}],\"a\":%d}}", i);
        static const char RULE[] = "{\"fractional\":[{\"var\":\"o\"},[\"on\",1],[\"off\",1]]}";
        struct flags_result a = rule(RULE, forward);
        struct flags_result b = rule(RULE, backward);
        assert_reason(a, "TARGETING_MATCH");
        assert_int_equal(a.boolean, b.boolean);
        different += a.boolean;
    }
    assert_true(different > 10 && different < 54);
}

static struct flags_result at_time(const char *targeting_key, uint64_t time_s)
{
    struct flags_context context = {
        .has_targeting_key = true, .targeting_key = slice_of(targeting_key), .time_s = time_s};
    return fixture_evaluate(&fixture, "f", FLAGS_ANY, &context);
}

TEST(schedule_and_targets)
{
    // 2026-11-21T09:00:00Z is 1795251600.
    assert_int_equal(
        fixture_compile_flag(&fixture,
                             "\"targeting\":{\"if\":[true,\"on\"]},\"x-sluice\":{"
                             "\"schedule\":{\"from\":\"2026-11-21T10:00:00+01:00\",\"until\":1795251700},"
                             "\"targets\":{\"off\":[\"eve\",\"bob\"]}}"),
        STATUS_OK);
    assert_reason(at_time("u", 1795251599), "DEFAULT");
    assert_true(slice_equal(at_time("u", 1795251599).note, SLICE("outside its schedule")));
    assert_reason(at_time("u", 1795251600), "TARGETING_MATCH");
    assert_true(at_time("u", 1795251600).boolean);
    assert_false(at_time("bob", 1795251600).boolean);
    assert_reason(at_time("bob", 1795251600), "TARGETING_MATCH");
    assert_reason(at_time("u", 1795251700), "DEFAULT");
    assert_int_equal(fixture_compile_flag(&fixture, "\"x-sluice\":{\"targets\":{\"on\":[\"eve\"]}}"),
                     STATUS_OK);
    assert_true(at_time("eve", 0).boolean);
    assert_reason(at_time("u", 0), "DEFAULT");
}

TEST(kill)
{
    assert_int_equal(
        fixture_compile_flag(&fixture, "\"targeting\":{\"if\":[true,\"on\"]},\"x-sluice\":{\"kill\":true}"),
        STATUS_OK);
    struct flags_result r = at_time("u", 0);
    assert_reason(r, "DISABLED");
    assert_true(r.has_value && !r.boolean && slice_equal(r.variant, SLICE("off")));
    assert_int_equal(fixture_compile(&fixture,
                                     "{\"flags\":{\"f\":{\"state\":\"ENABLED\",\"variants\":{\"on\":1,"
                                     "\"off\":0},\"defaultVariant\":\"on\",\"x-sluice\":{\"kill\":"
                                     "true}}}}"),
                     STATUS_OK);
    r = at_time("u", 0);
    assert_reason(r, "DISABLED");
    assert_false(r.has_value); // no variant is false: the caller's default
    assert_int_equal(
        fixture_compile_flag(&fixture, "\"targeting\":{\"nope\":1},\"x-sluice\":{\"kill\":\"off\"}"),
        STATUS_OK);
    r = at_time("u", 0);
    assert_reason(r, "DISABLED");
    assert_true(r.has_value && !r.boolean && slice_equal(r.variant, SLICE("off")));
    assert_int_equal(fixture_compile_flag(&fixture, "\"x-sluice\":{\"kill\":false}"), STATUS_OK);
    assert_reason(at_time("u", 0), "STATIC");
}

TEST(prerequisites)
{
    static const char SET[] =
        "{\"flags\":{\"base\":{\"state\":\"%s\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":"
        "\"on\"},"
        "\"f\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"defaultVariant\":\"off\","
        "\"targeting\":{\"if\":[{\"==\":[{\"var\":\"$flagd.flagKey\"},\"f\"]},\"on\"]},"
        "\"x-sluice\":{\"prerequisites\":[{\"flag\":\"base\",\"variant\":\"on\"}]}}}}";
    char json[1024];
    for (int enabled = 0; enabled < 2; enabled++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(json, sizeof json, SET, enabled ? "ENABLED" : "DISABLED");
#pragma GCC diagnostic pop
        assert_int_equal(fixture_compile(&fixture, json), STATUS_OK);
        struct flags_result r = at_time("u", 0);
        assert_int_equal(r.boolean, enabled);
        assert_reason(r, enabled ? "TARGETING_MATCH" : "DEFAULT");
        if (!enabled)
            assert_true(slice_equal(r.note, SLICE("a prerequisite is not met")));
    }
}

static void assert_path(const char *key, uint64_t time_s, const char *wanted)
{
    char storage[256];
    struct text path = text_over(storage, sizeof storage);
    struct flags_result result;
    struct flags_context context = {
        .has_targeting_key = true, .targeting_key = slice_of(key), .time_s = time_s};
    flags_explain(&fixture.set, SLICE("f"), FLAGS_ANY, &context,
                  (struct flags_scratch){fixture.scratch, sizeof fixture.scratch}, &result, &path);
    assert_string_equal(storage, wanted);
}

TEST(explain)
{
    assert_int_equal(
        fixture_compile(
            &fixture,
            "{\"$evaluators\":{\"half\":{\"fractional\":[[\"on\",0],[\"off\",1]]}},\"flags\":{\"f\":{"
            "\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},\"targeting\":{\"if\":["
            "{\"==\":[{\"var\":\"targetingKey\"},\"a\"]},\"on\",{\"==\":[{\"var\":\"targetingKey\"},\"b\"]},"
            "{\"$ref\":\"half\"},{\"or\":[null,\"off\"]}]},\"x-sluice\":{\"targets\":{\"on\":[\"t\"]},"
            "\"schedule\":{\"until\":100}}}}}"),
        STATUS_OK);
    assert_path("a", 0, "targeting.if[1]");
    assert_path("b", 0, "targeting.if[3].$ref(half).fractional[1]");
    assert_path("c", 0, "targeting.if[4].or[1]");
    assert_path("t", 0, "targets");
    assert_path("t", 100, "schedule");
}

TEST(context)
{
    assert_condition("{\"==\":[{\"var\":\"targetingKey\"},\"k\"]}", "{\"targetingKey\":\"k\"}", true);
    assert_condition("{\"==\":[{\"var\":\"$flagd.timestamp\"},1000]}", "{\"$flagd\":{\"timestamp\":5}}",
                     true);
    assert_condition("{\"==\":[{\"var\":\"a.1.b\"},7]}", "{\"a\":[0,{\"b\":7}]}", true);
    assert_condition("{\"==\":[{\"var\":\"a.9\"},null]}", "{\"a\":[0]}", true);
    assert_condition("{\"==\":[{\"var\":\"a.b.c.d\"},null]}", "{\"a\":\"x\"}", true);
    assert_condition("{\"==\":[{\"var\":[{\"cat\":[\"a.\",\"b\"]}]},7]}", "{\"a\":{\"b\":7}}", true);
    // The last of two members with one name counts, as everywhere in the world of JavaScript.
    assert_condition("{\"==\":[{\"var\":\"a\"},2]}", "{\"a\":1,\"a\":2}", true);
    // Names with a NUL are names.
    assert_condition("{\"==\":[{\"var\":\"a\\u0000b\"},2]}", "{\"a\\u0000b\":2,\"a\":1}", true);
}

// More arguments and longer texts than a node's own count can tell, and numbers that are not whole.
TEST(wide_nodes)
{
    enum { COUNT = 70000 };
    static char json[12 * COUNT];
    static const struct {
        const char *begin;
        const char *item;
        const char *end;
        bool on;
    } rules[] = {
        {"{\"or\":[", "0,", "{\"var\":\"on\"}]}", true},
        {"{\"in\":[\"z\",[", "\"a\",", "\"z\"]]}", true},
        {"{\"in\":[\"y\",[", "\"a\",", "\"z\"]]}", false},
        {"{\"==\":[{\"substr\":[\"", "x", "on\",-2]},\"on\"]}", true},
        {"{\"fractional\":[", "[\"off\",0],", "[\"on\",1]]}", true},
    };
    for (size_t r = 0; r < ARRAY_LEN(rules); r++) {
        struct text text = text_over(json, sizeof json);
        text_addf(&text,
                  "{\"flags\":{\"f\":{\"state\":\"ENABLED\",\"variants\":{\"on\":true,\"off\":false},"
                  "\"defaultVariant\":\"off\",\"targeting\":{\"if\":[%s",
                  r == 4 ? "{\"==\":[\"on\"," : "");
        text_addf(&text, "%s", rules[r].begin);
        for (int i = 0; i < COUNT; i++)
            text_addf(&text, "%s", rules[r].item);
        text_addf(&text, "%s%s,\"on\",\"off\"]}}}}", rules[r].end, r == 4 ? "]}" : "");
        assert_false(text.cut);
        assert_int_equal(fixture_compile(&fixture, json), STATUS_OK);
        struct flags_context context = {.tree = fixture_tree(&fixture, SLICE("{\"on\":true}")),
                                        .has_targeting_key = true,
                                        .targeting_key = SLICE("u")};
        struct flags_result result = fixture_evaluate(&fixture, "f", FLAGS_BOOLEAN, &context);
        assert_int_equal(result.error, FLAGS_ERROR_NONE);
        assert_int_equal(result.boolean, rules[r].on);
    }
    static const char *const TRUE_ONES[] = {
        "{\"==\":[{\"cat\":[{\"/\":[1,-0]}]},\"-Infinity\"]}",
        "{\"==\":[{\"/\":[1,0]},{\"/\":[2,0]}]}",
        "{\"==\":[{\"cat\":[-2147483648]},\"-2147483648\"]}",
        "{\"==\":[{\"cat\":[2147483648]},\"2147483648\"]}",
        "{\"==\":[{\"cat\":[-2147483649]},\"-2147483649\"]}",
        "{\"==\":[{\"cat\":[0.5]},\"0.5\"]}",
        "{\"==\":[{\"cat\":[1e300,-1]},\"1e+300-1\"]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(TRUE_ONES); i++) {
        char rest[256];
        snprintf(rest, sizeof rest, "\"targeting\":{\"if\":[%s,\"on\",\"off\"]}", TRUE_ONES[i]);
        assert_int_equal(fixture_compile_flag(&fixture, rest), STATUS_OK);
        struct flags_context context = {0};
        if (!fixture_evaluate(&fixture, "f", FLAGS_BOOLEAN, &context).boolean)
            fail_msg("%s is not true", TRUE_ONES[i]);
    }
}
