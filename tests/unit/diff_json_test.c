// SPDX-License-Identifier: Apache-2.0
// Pairs of JSON documents and what must be found. Each pair is also compared the other way round.
#include "base/check.h"
#include "diff_world.h"
#include "test.h"

static struct diff_world world;

static int set_up(void **state)
{
    (void)state;
    world = (struct diff_world){.recipe = {.key = {11, 22}}};
    return 0;
}
EACH_TEST(set_up, NULL);

struct pair {
    const char *first, *second, *found, *mirrored;
};

static void expect(const struct pair *pair)
{
    assert_string_equal(diff_world_json(&world, pair->first, pair->second), pair->found);
    assert_string_equal(diff_world_json(&world, pair->second, pair->first), pair->mirrored);
    assert_string_equal(diff_world_json(&world, pair->first, pair->first), "");
    assert_string_equal(diff_world_json(&world, pair->second, pair->second), "");
}

#define EXPECT_ALL(pairs)                                                                                    \
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)                                                            \
    expect(&(pairs)[i])

TEST(members_stand_in_any_order)
{
    static const struct pair pairs[] = {
        {"{\"a\":1,\"b\":[2],\"c\":{}}", "{ \"c\" : {}, \"b\":[2 ],\n\"a\":1}", "", ""},
        {"{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":3}", "value body.a 1 | 3", "value body.a 3 | 1"},
        {"{\"a\":1}", "{\"a\":1,\"b\":{\"c\":2}}", "added body.b  | {\"c\":2}",
         "missing body.b {\"c\":2} | "},
        {"{\"x\":{\"a\":1,\"b\":2,\"c\":3}}", "{\"x\":{\"c\":3,\"d\":2,\"a\":1}}",
         "missing body.x.b 2 | \nadded body.x.d  | 2", "missing body.x.d 2 | \nadded body.x.b  | 2"},
        {"{}", "[]", "type body {} | []", "type body [] | {}"},
        {"{\"a\":null}", "{}", "missing body.a null | ", "added body.a  | null"},
        {"{\"a\":true}", "{\"a\":false}", "value body.a true | false", "value body.a false | true"},
        {"{\"a\":null}", "{\"a\":0}", "type body.a null | 0", "type body.a 0 | null"},
        {"{\"a\":\"1\"}", "{\"a\":1}", "type body.a 1 | 1", "type body.a 1 | 1"},
    };
    EXPECT_ALL(pairs);
}

TEST(numbers_are_told_by_value)
{
    static const char *const EQUAL[][2] = {
        {"1", "1.0"},
        {"1", "1e0"},
        {"1", "10E-1"},
        {"100", "1e+2"},
        {"0", "-0"},
        {"0", "0.000e99"},
        {"0.001", "1e-3"},
        {"-12.50", "-1.25e1"},
        {"123456789012345678901234567890", "1.2345678901234567890123456789e29"},
        {"1e400", "10e399"},
        {"1e999999999999999999999", "1e0999999999999999999999"},
        {"1000000000000000000000", "1e21"},
    };
    static const char *const DIFFERENT[][2] = {
        {"9007199254740993", "9007199254740992"}, // one double
        {"18446744073709551615", "18446744073709551614"},
        {"123456789012345678901234567890", "123456789012345678901234567891"},
        {"1", "-1"},
        {"1", "10"},
        {"0.1", "0.01"},
        {"1e400", "1e401"}, // one infinity
        {"1e999999999999999999999", "1e-999999999999999999999"},
        {"1e999999999999999999999", "1e999999999999999999998"},
        {"0.1", "0.10000000000000001"}, // one double
        {"1000000000000000000001", "1000000000000000000010"},
    };
    for (size_t i = 0; i < ARRAY_LEN(EQUAL); i++)
        assert_string_equal(diff_world_json(&world, EQUAL[i][0], EQUAL[i][1]), "");
    for (size_t i = 0; i < ARRAY_LEN(DIFFERENT); i++) {
        char line[128];
        snprintf(line, sizeof line, "value body %s | %s", DIFFERENT[i][0], DIFFERENT[i][1]);
        assert_string_equal(diff_world_json(&world, DIFFERENT[i][0], DIFFERENT[i][1]), line);
    }
}

TEST(another_spelling_is_told_when_asked_for)
{
    world.recipe.spelling = true;
    assert_string_equal(diff_world_json(&world, "[1,2.0,3]", "[1.0,2.0,4]"),
                        "spelling body[] [0] 1 | 1.0\nvalue body[] [2] 3 | 4");
}

TEST(strings_are_told_by_what_their_escapes_mean)
{
    static const struct pair pairs[] = {
        {"\"a/b\"", "\"a\\/b\"", "", ""},
        {"\"\\u00e9\\n\"", "\"é\\u000A\"", "", ""},
        {"\"\\ud83d\\ude00\"", "\"😀\"", "", ""},
        {"\"\\b\\f\\n\\r\\t\\\"\\\\\"", "\"\\u0008\\u000c\\u000a\\u000d\\u0009\\u0022\\u005c\"", "", ""},
        {"{\"\\u0061\":1}", "{\"a\":1}", "", ""},
        {"{\"\\u0061\":1}", "{\"a\":2}", "value body.a 1 | 2", "value body.a 2 | 1"},
        {"\"\\u00e9\"", "\"e\\u0301\"", "value body \\u00e9 | e\\u0301", "value body e\\u0301 | \\u00e9"},
        {"\"\"", "\"\\u0000\"", "value body  | \\u0000", "value body \\u0000 | "},
    };
    EXPECT_ALL(pairs);
    assert_int_equal(world.found.notes, 0);
}

TEST(strings_that_are_no_unicode_are_compared_as_bytes)
{
    assert_string_equal(diff_world_json(&world, "[\"\xff\"]", "[\"\xfe\"]"), "value body[] [0] ? | ?");
    assert_int_equal(world.found.notes, DIFF_NOTE_NOT_UTF8);
    assert_string_equal(diff_world_json(&world, "[\"\xff\", 1]", "[\"\xff\",1]"), "");
    assert_int_equal(world.found.notes, DIFF_NOTE_NOT_UTF8);
    assert_string_equal(diff_world_json(&world, "[\"\\ud800\"]", "[\"\\uD800\"]"), "");
    assert_int_equal(world.found.notes, DIFF_NOTE_NOT_UTF8);
    assert_string_equal(diff_world_json(&world, "[\"\\ud800\"]", "[\"\\ud801\"]"),
                        "value body[] [0] \\ud800 | \\ud801");
}

TEST(paths_say_where)
{
    static const struct pair pairs[] = {
        {"{\"items\":[{\"price\":1},{\"price\":2}]}", "{\"items\":[{\"price\":3},{\"price\":4}]}",
         "value body.items[].price [0] 1 | 3 x2", "value body.items[].price [0] 3 | 1 x2"},
        {"[[1,2],[3,4]]", "[[1,2],[3,5]]", "value body[][] [1,1] 4 | 5", "value body[][] [1,1] 5 | 4"},
        {"{\"a.b\":{\"\":{\"x y\":1}}}", "{\"a.b\":{\"\":{\"x y\":2}}}",
         "value body[\"a.b\"][\"\"][\"x y\"] 1 | 2", "value body[\"a.b\"][\"\"][\"x y\"] 2 | 1"},
        {"{\"by\":{\"205705993\":1,\"205705994\":1}}", "{\"by\":{\"205705993\":2,\"205705994\":3}}",
         "value body.by{*} 1 | 2 x2", "value body.by{*} 2 | 1 x2"},
        {"{\"*\":1}", "{\"*\":2}", "value body[\"*\"] 1 | 2", "value body[\"*\"] 2 | 1"},
    };
    EXPECT_ALL(pairs);
}

TEST(items_are_paired)
{
    static const struct pair pairs[] = {
        // By position, when nothing else is known.
        {"[1,2,3]", "[1,5,3]", "value body[] [1] 2 | 5", "value body[] [1] 5 | 2"},
        {"[{\"t\":1},{\"t\":2}]", "[{\"t\":3},{\"t\":4}]", "value body[].t [0] 1 | 3 x2",
         "value body[].t [0] 3 | 1 x2"},
        // Equal items hold the others in their places.
        {"[1,2,3,4]", "[0,1,2,3,4]", "added body[] [0]  | 0", "missing body[] [0] 0 | "},
        {"[0,0,1,0]", "[0,1,0]", "missing body[] [1] 0 | ", "added body[] [1]  | 0"},
        {"[1,2,3,4,5]", "[1,9,3,5]", "missing body[] [3] 4 | \nvalue body[] [1] 2 | 9",
         "added body[] [3]  | 4\nvalue body[] [1] 9 | 2"},
        // The same items otherwise: one finding.
        {"{\"a\":[1,2,3]}", "{\"a\":[3,1,2]}", "order body.a", "order body.a"},
        {"[[1,2],[3]]", "[[3],[1,2]]", "order body", "order body"},
        {"[1,1,2]", "[2,1,1]", "order body", "order body"},
        {"[1,2,3,4]", "[4,3,1]", "order body\nmissing body[] [1] 2 | ", "order body\nadded body[] [1]  | 2"},
        // By an id.
        {"[{\"id\":1,\"v\":1},{\"id\":2,\"v\":2}]",
         "[{\"id\":3,\"v\":0},{\"id\":1,\"v\":1},{\"id\":2,\"v\":9}]",
         "added body[] [0]  | {\"id\":3,\"v\":0}\nvalue body[].v [1] 2 | 9",
         "missing body[] [0] {\"id\":3,\"v\":0} | \nvalue body[].v [2] 9 | 2"},
        {"[{\"id\":\"a\",\"v\":1},{\"id\":\"b\",\"v\":2}]", "[{\"id\":\"b\",\"v\":2},{\"id\":\"a\",\"v\":3}]",
         "order body\nvalue body[].v [0] 1 | 3", "order body\nvalue body[].v [1] 3 | 1"},
        {"[{\"name\":\"x\",\"v\":1}]", "[{\"name\":\"y\",\"v\":1},{\"name\":\"x\",\"v\":1}]",
         "added body[] [0]  | {\"name\":\"y\",\"v\":1}", "missing body[] [0] {\"name\":\"y\",\"v\":1} | "},
        // A name that several have is no id.
        {"[{\"name\":\"x\",\"v\":1},{\"name\":\"x\",\"v\":2},{\"name\":\"y\",\"v\":3}]",
         "[{\"name\":\"x\",\"v\":0},{\"name\":\"x\",\"v\":1},{\"name\":\"x\",\"v\":2},{\"name\":\"y\",\"v\":4}]",
         "added body[] [0]  | {\"name\":\"x\",\"v\":0}\nvalue body[].v [2] 3 | 4",
         "missing body[] [0] {\"name\":\"x\",\"v\":0} | \nvalue body[].v [3] 4 | 3"},
        // An id that is new each time pairs nothing: by position then.
        {"[{\"id\":1,\"v\":1},{\"id\":2,\"v\":2}]", "[{\"id\":3,\"v\":1},{\"id\":4,\"v\":2}]",
         "value body[].id [0] 1 | 3 x2", "value body[].id [0] 3 | 1 x2"},
        {"[]", "[1,2]", "added body[] [0]  | 1 x2", "missing body[] [0] 1 |  x2"},
    };
    EXPECT_ALL(pairs);
}

TEST(members_of_one_name_are_paired_in_their_order)
{
    static const struct pair pairs[] = {
        {"{\"a\":1,\"a\":2}", "{\"a\":1 ,\"a\":2}", "", ""},
        {"{\"a\":1,\"a\":2}", "{\"a\":2,\"a\":1}", "value body.a 1 | 2 x2", "value body.a 2 | 1 x2"},
        {"{\"a\":1,\"a\":2}", "{\"a\":1}", "missing body.a 2 | ", "added body.a  | 2"},
    };
    EXPECT_ALL(pairs);
    (void)diff_world_json(&world, "{\"a\":1,\"a\":2}", "{}");
    assert_int_equal(world.found.notes, DIFF_NOTE_DUPLICATE);
    (void)diff_world_json(&world, "{\"a\":1,\"b\":{\"a\":2}}", "{}");
    assert_int_equal(world.found.notes, 0);
}

TEST(what_is_no_json_is_compared_as_bytes_and_said)
{
    static const struct {
        const char *text, *what;
        uint32_t at;
    } cases[] = {
        {"[NaN]", "expected a value", 1},
        {"[1,]", "expected a value", 3},
        {"[01]", "a number must not begin with a needless zero", 3},
        {"[1.]", "expected digits after the point", 3},
        {"[1e]", "expected digits in the exponent", 3},
        {"[-]", "expected a value", 2},
        {"[+1]", "expected a value", 1},
        {"[.5]", "expected a value", 1},
        {"{\"a\" 1}", "expected ':'", 5},
        {"{a:1}", "expected the name of a member", 1},
        {"{\"a\":1,}", "expected the name of a member", 7},
        {"{\"a\":1]", "expected ',' or '}'", 6},
        {"[1}", "expected ',' or ']'", 2},
        {"[1] x", "bytes after the end of the document", 4},
        {"[\"a", "the string has no end", 3},
        {"[\"\t\"]", "a control character in a string must be escaped", 2},
        {"[\"\\x\"]", "malformed escape in a string", 2},
        {"[\"\\u12\"]", "malformed escape in a string", 2},
        {"[tru]", "expected a value", 1},
        {" ", "expected a value", 1},
        {"[", "expected a value", 1},
        {"'a'", "expected a value", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *lines = diff_world_json(&world, "[]", cases[i].text);
        assert_memory_equal(lines, "bytes body 2 bytes, digest ", 27);
        assert_int_equal(world.found.notes, DIFF_NOTE_UNREADABLE);
        assert_int_equal(world.found.reader, DIFF_READER_BYTES);
        assert_string_equal(world.found.fault.what, cases[i].what);
        assert_int_equal(world.found.fault.at, cases[i].at);
        assert_true(world.found.fault.second);
    }
    (void)diff_world_json(&world, "{", "[]");
    assert_false(world.found.fault.second);
}

TEST(a_byte_order_mark_makes_no_difference)
{
    assert_string_equal(diff_world_json(&world, "\xef\xbb\xbf[1]", "[1]"), "");
    assert_string_equal(diff_world_json(&world, "\xef\xbb\xbf[1]", "[2]"), "value body[] [0] 1 | 2");
}

static struct slice nested(char *storage, uint32_t depth, char leaf)
{
    memset(storage, '[', depth);
    storage[depth] = leaf;
    memset(storage + depth + 1, ']', depth);
    return (struct slice){storage, 2 * (size_t)depth + 1};
}

TEST(depth_has_a_limit)
{
    static char a[2 * DIFF_DEPTH_MAX + 8], b[2 * DIFF_DEPTH_MAX + 8];
    const char *lines = diff_world_bodies(&world, "application/json", nested(a, DIFF_DEPTH_MAX, '1'),
                                          nested(b, DIFF_DEPTH_MAX, '2'));
    assert_int_equal(world.found.notes, 0);
    assert_int_equal(world.found.count, 1);
    assert_non_null(strstr(lines, "[][]… [0,0,"));
    assert_int_equal(world.found.findings[0].kind, DIFF_VALUE);
    (void)diff_world_bodies(&world, "application/json", nested(a, DIFF_DEPTH_MAX + 1, '1'),
                            nested(b, DIFF_DEPTH_MAX + 1, '2'));
    assert_int_equal(world.found.notes, DIFF_NOTE_TOO_DEEP);
    assert_int_equal(world.found.findings[0].kind, DIFF_BYTES);
}

TEST(what_does_not_fit_into_the_space_is_compared_as_bytes)
{
    for (size_t nodes = 1; nodes < 8; nodes++) {
        world.space = nodes * DIFF_NODE_BYTES;
        (void)diff_world_json(&world, "[1,2,3]", "[1,2,4]");
        assert_int_equal(world.found.notes, DIFF_NOTE_TOO_LARGE);
        assert_int_equal(world.found.findings[0].kind, DIFF_BYTES);
    }
    world.space = 8 * DIFF_NODE_BYTES;
    assert_string_equal(diff_world_json(&world, "[1,2,3]", "[1,2,4]"), "value body[] [2] 3 | 4");
    world.recipe.body_max = 6;
    (void)diff_world_json(&world, "[1,2,3]", "[1,2,4]");
    assert_int_equal(world.found.notes, DIFF_NOTE_TOO_LARGE);
}

TEST(many_equal_items_take_linear_time)
{
    enum { ITEMS = 20000 };
    static char a[2 * ITEMS + 8], b[2 * ITEMS + 8];
    for (size_t i = 0; i < ITEMS; i++) {
        memcpy(a + 1 + 2 * i, "0,", 2);
        memcpy(b + 1 + 2 * i, "0,", 2);
    }
    a[0] = b[0] = '[';
    memcpy(a + 2 * ITEMS + 1, "1]", 3);
    memcpy(b + 2 * ITEMS + 1, "0]", 3);
    b[1] = '1';
    assert_string_equal(diff_world_json(&world, a, b), "order body");
}

TEST(findings_are_bounded)
{
    static char a[1 << 14], b[1 << 14];
    struct text first = text_over(a, sizeof a), second = text_over(b, sizeof b);
    enum { MEMBERS = DIFF_FINDINGS_MAX + 7 };
    for (int i = 0; i < MEMBERS; i++) {
        text_addf(&first, "%s\"m%c%c\":[1,2]", i > 0 ? "," : "{", 'a' + i / 26, 'a' + i % 26);
        text_addf(&second, "%s\"m%c%c\":[2,3]", i > 0 ? "," : "{", 'a' + i / 26, 'a' + i % 26);
    }
    text_add_char(&first, '}');
    text_add_char(&second, '}');
    assert_false(first.cut || second.cut);
    (void)diff_world_json(&world, a, b);
    assert_int_equal(world.found.count, DIFF_FINDINGS_MAX);
    uint64_t counted = world.found.beyond;
    for (uint32_t i = 0; i < world.found.count; i++)
        counted += world.found.findings[i].count;
    assert_int_equal(counted, 2 * MEMBERS); // 1 is missing, 3 was added
}

// Which version looked at its clock first says nothing about either. A wrong date does.
TEST(clocks_are_left_out)
{
    static const struct {
        const char *first, *second;
        bool told;
    } cases[] = {
        {"\"2026-11-28T18:18:30.415Z\"", "\"2026-11-28T18:18:30.430Z\"", false},
        {"\"2026-11-28T18:18:30Z\"", "\"2026-11-28T20:20:31+02:00\"", false},
        {"\"2026-11-28T18:18:30Z\"", "\"2026-11-28T12:48:30-0530\"", false},
        {"\"2026-11-28T18:18:30Z\"", "\"2026-11-28T18:18:30+02:00\"", true},
        {"\"2026-11-28T18:18:30Z\"", "\"2026-11-29T18:18:30Z\"", true},
        {"\"2026-11-28\"", "\"2026-11-29\"", true},
        {"\"Sat, 28 Nov 2026 18:18:29 GMT\"", "\"Sat, 28 Nov 2026 18:18:30 GMT\"", false},
        {"\"Sat, 28 Nov 2026 18:18:29 GMT\"", "\"Mon, 28 Dec 2026 18:18:29 GMT\"", true},
        {"1795889910", "1795889911", false},
        {"1795889910415", "1795889910430", false},
        {"1795889910415000000", "1795889910430000000", false},
        {"1795889910", "1795899910", true},
        {"17", "18", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        world.recipe = (struct diff_recipe){.now_ms = 1795889910348};
        bool told = diff_world_json(&world, cases[i].first, cases[i].second)[0] != '\0';
        if (told != cases[i].told)
            fail_msg("%s and %s", cases[i].first, cases[i].second);
        world.recipe.now_ms = 0;
        assert_true(diff_world_json(&world, cases[i].first, cases[i].second)[0] != '\0');
    }
    world.recipe = (struct diff_recipe){.now_ms = 0};
}
