// SPDX-License-Identifier: Apache-2.0
// flags: the JSON reader. Grammar by RFC 8259, UTF-8 by RFC 3629, storage that runs out, walking.
#include "base/check.h"
#include "base/text.h"
#include "flags/eval/json.h"
#include "test.h"

static struct flags_json nodes[6400];
static char chars[1024];
static struct flags_json_error fault;

static enum status parse_with(struct slice source, uint32_t node_cap, size_t char_cap, bool last_wins,
                              struct flags_json **root)
{
    struct flags_json_space space = {
        .nodes = nodes, .node_cap = node_cap, .chars = chars, .char_cap = char_cap, .last_wins = last_wins};
    return flags_json_parse(source, &space, root, &fault);
}

static enum status parse(struct slice source, struct flags_json **root)
{
    return parse_with(source, ARRAY_LEN(nodes), sizeof chars, false, root);
}

TEST(values)
{
    struct flags_json *root;
    assert_int_equal(
        parse(SLICE(" {\"a\":[1,-2.5,1e3],\"b\":\"x\\u00e9\\ud83d\\ude00\\n\",\"c\":null} "), &root), 0);
    assert_int_equal(root->kind, FLAGS_JSON_OBJECT);
    assert_int_equal(root->count, 3);
    const struct flags_json *a = flags_json_member(root, SLICE("a"));
    assert_true(a->first->number == 1 && a->first->integral);
    assert_true(a->first->next->number == -2.5 && !a->first->next->integral);
    assert_true(a->first->next->next->number == 1000);
    assert_true(slice_equal(a->text, SLICE("[1,-2.5,1e3]")));
    assert_true(slice_equal(flags_json_member(root, SLICE("b"))->text, SLICE("x\xc3\xa9\xf0\x9f\x98\x80\n")));
    assert_null(flags_json_member(root, SLICE("d")));
    assert_int_equal(parse(SLICE("123456789012345678901"), &root), STATUS_OK);
    assert_true(root->number == 123456789012345678901.0);
    assert_int_equal(parse(SLICE("-0"), &root), STATUS_OK);
    assert_true(root->number == 0 && __builtin_signbit(root->number));
}

TEST(refused)
{
    static const char *const BAD[] = {
        "",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "01",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e999",
        "nul",
        "\"a",
        "\"\\x\"",
        "\"\\ud800\"",
        "\"\t\"",
        "[1 2]",
        "{a:1}",
        "{\"a\"1}",
        "1 2",
        "NaN",
        "-",
        "\"\\u12g4\"",
        "[}",
        "\"\\udc00\"",
        "\"\xc0\xaf\"",
        "\"\xe0\x80\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xff\"",
        "\"\xe2\x82\"",
        "{\"a\":1,\"a\":2}",
        "\xef\xbb\xbf{}",
    };
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        struct flags_json *root;
        if (parse(slice_of(BAD[i]), &root) != STATUS_INVALID)
            fail_msg("accepted: %s", BAD[i]);
        assert_true(fault.at <= strlen(BAD[i]));
        assert_non_null(fault.what);
    }
    char digits[FLAGS_JSON_NUMBER_BYTES_MAX + 2];
    memset(digits, '1', sizeof digits);
    struct flags_json *root;
    assert_int_equal(parse((struct slice){digits, sizeof digits}, &root), STATUS_INVALID);
}

TEST(depth)
{
    char text[2 * (FLAGS_JSON_DEPTH_MAX + 1)];
    struct flags_json *root;
    for (size_t depth = FLAGS_JSON_DEPTH_MAX; depth <= FLAGS_JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(parse((struct slice){text, 2 * depth}, &root),
                         depth > FLAGS_JSON_DEPTH_MAX ? STATUS_INVALID : STATUS_OK);
    }
}

TEST(space)
{
    struct flags_json *root;
    assert_int_equal(parse_with(SLICE("[1,2,3]"), 4, 0, false, &root), STATUS_OK);
    assert_int_equal(parse_with(SLICE("[1,2,3]"), 3, 0, false, &root), STATUS_FULL);
    assert_int_equal(parse_with(SLICE("\"plain\""), 1, 0, false, &root), STATUS_OK);
    assert_int_equal(parse_with(SLICE("\"a\\nb\""), 1, 3, false, &root), STATUS_OK);
    assert_int_equal(parse_with(SLICE("\"a\\nb\""), 1, 2, false, &root), STATUS_FULL);
}

TEST(last_wins)
{
    struct flags_json *root;
    assert_int_equal(parse_with(SLICE("{\"a\":1,\"b\":2,\"a\":3,\"a\":4,\"c\":5}"), 16, 0, true, &root),
                     STATUS_OK);
    assert_int_equal(root->count, 3);
    assert_true(flags_json_member(root, SLICE("a"))->number == 4);
    uint32_t seen = 0;
    for (const struct flags_json *m = root->first; m != NULL; m = m->next)
        seen++;
    assert_int_equal(seen, 3);
}

// However many members there are.
TEST(large_objects)
{
    enum { MEMBERS = 3000 };
    static char storage[MEMBERS * 16];
    struct flags_json *root;
    for (int twin = -1; twin < MEMBERS; twin += 1500) {
        struct text text = text_over(storage, sizeof storage);
        text_addf(&text, "{");
        for (int i = 0; i < MEMBERS; i++)
            text_addf(&text, "\"m%d\":%d,", i, i);
        size_t at = text.len;
        text_addf(&text, "\"m%d\":-1}", twin);
        struct slice source = text_slice(&text);
        if (twin < 0) {
            assert_int_equal(parse(source, &root), STATUS_OK);
            assert_int_equal(root->count, MEMBERS + 1);
            assert_int_equal(parse_with(source, MEMBERS + 2, 0, false, &root), STATUS_FULL);
            continue;
        }
        assert_int_equal(parse(source, &root), STATUS_INVALID);
        assert_int_equal(fault.at, at + 1);
        assert_int_equal(parse_with(source, 2 * MEMBERS, 0, true, &root), STATUS_OK);
        assert_int_equal(root->count, MEMBERS);
        char name[16];
        snprintf(name, sizeof name, "m%d", twin);
        assert_true(flags_json_member(root, slice_of(name))->number == -1);
        uint32_t seen = 0;
        for (const struct flags_json *m = root->first; m != NULL; m = m->next)
            seen++;
        assert_int_equal(seen, MEMBERS);
    }
}

TEST(walk)
{
    struct slice source = SLICE(" { \"a\" : {\"x\":[1]} , \"b\\n\":2 } ");
    struct flags_json_walk walk;
    struct slice key;
    struct slice value;
    assert_int_equal(flags_json_walk_begin(source, &walk, &fault), STATUS_OK);
    assert_int_equal(flags_json_walk_next(&walk, &key, &value, &fault), STATUS_OK);
    assert_true(slice_equal(key, SLICE("a")) && slice_equal(value, SLICE("{\"x\":[1]}")));
    struct flags_json_space space = {.nodes = nodes, .node_cap = 0, .chars = chars, .char_cap = sizeof chars};
    struct flags_json *node;
    // A step that found no room may be repeated with more.
    assert_int_equal(flags_json_walk_tree(&walk, &space, &key, &node, &fault), STATUS_FULL);
    space.node_cap = 4;
    assert_int_equal(flags_json_walk_tree(&walk, &space, &key, &node, &fault), STATUS_OK);
    assert_true(slice_equal(key, SLICE("b\\n")) && node->number == 2);
    assert_int_equal(flags_json_walk_next(&walk, &key, &value, &fault), STATUS_NOT_FOUND);
    char plain[8];
    size_t len;
    assert_int_equal(flags_json_unescape(key, plain, sizeof plain, &len), STATUS_OK);
    assert_true(slice_equal((struct slice){plain, len}, SLICE("b\n")));
    assert_int_equal(flags_json_walk_begin(SLICE("{}"), &walk, &fault), STATUS_OK);
    assert_int_equal(flags_json_walk_next(&walk, &key, &value, &fault), STATUS_NOT_FOUND);
    assert_int_equal(flags_json_walk_begin(SLICE("7"), &walk, &fault), STATUS_INVALID);
}

TEST(position)
{
    uint32_t line;
    uint32_t column;
    flags_json_position(SLICE("ab\ncd"), 0, &line, &column);
    assert_true(line == 1 && column == 1);
    flags_json_position(SLICE("ab\ncd"), 4, &line, &column);
    assert_true(line == 2 && column == 2);
}
