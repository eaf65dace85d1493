// SPDX-License-Identifier: Apache-2.0
// Whole answers: status, headers, media types, what a recipe leaves out; text and gRPC; classes of values.
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

#define HEADER(name, value)                                                                                  \
    {                                                                                                        \
        {name, sizeof(name) - 1},                                                                            \
        {                                                                                                    \
            value, sizeof(value) - 1                                                                         \
        }                                                                                                    \
    }
#define ANSWER(code, list)                                                                                   \
    {                                                                                                        \
        .status = (code), .headers = (list), .header_count = ARRAY_LEN(list)                                 \
    }

TEST(status_and_headers_differ)
{
    static const struct diff_header a[] = {
        HEADER("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        HEADER("Content-Length", "1"),
        HEADER("X-One", "1"),
        HEADER("ETag", "\"b\""),
        HEADER("x-two", "a"),
        HEADER("X-Two", "b"),
    };
    static const struct diff_header b[] = {
        HEADER("x-two", "a"), HEADER("etag", "\"c\""),   HEADER("X-TWO", "c"),
        HEADER("x-two", "d"), HEADER("Connection", "x"), HEADER("X-New", "n"),
    };
    struct diff_answer first = ANSWER(200, a), second = ANSWER(503, b);
    assert_string_equal(diff_world_answers(&world, &first, &second),
                        "status status 200 | 503\nmissing header.x-one 1 | \n"
                        "value header.etag \"b\" | \"c\"\nvalue header.x-two b | c\nadded header.x-two  | d\n"
                        "added header.x-new  | n");
    assert_string_equal(diff_world_answers(&world, &first, &first), "");
    static const struct slice asked[] = {{"date", 4}, {"etag", 4}};
    world.recipe.headers = asked;
    world.recipe.header_count = 2;
    assert_string_equal(diff_world_answers(&world, &first, &second),
                        "status status 200 | 503\nmissing header.date Sun, 06 Nov 1994 08:49:37 GMT | \n"
                        "value header.etag \"b\" | \"c\"");
    world.recipe.header_count = 0; // none of them
    assert_string_equal(diff_world_answers(&world, &first, &second), "status status 200 | 503");
}

TEST(headers_beyond_the_limit_are_said)
{
    static struct diff_header many[DIFF_HEADERS_MAX + 1];
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i] = (struct diff_header)HEADER("x", "1");
    struct diff_answer first = ANSWER(200, many), second = first;
    second.header_count--;
    assert_string_equal(diff_world_answers(&world, &first, &second), "");
    assert_int_equal(world.found.notes, DIFF_NOTE_HEADERS);
}

TEST(media_types_choose_the_reader)
{
    static const struct {
        const char *type;
        enum diff_reader reader;
    } cases[] = {
        {"application/json", DIFF_READER_JSON},
        {"Application/Problem+JSON ; charset=utf-8", DIFF_READER_JSON},
        {"text/json", DIFF_READER_JSON},
        {"text/html; charset=utf-8", DIFF_READER_TEXT},
        {"application/xhtml+xml", DIFF_READER_TEXT},
        {"application/x-ndjson", DIFF_READER_TEXT},
        {"application/grpc", DIFF_READER_GRPC},
        {"application/grpc+proto", DIFF_READER_GRPC},
        {"application/grpc+json", DIFF_READER_BYTES},
        {"application/octet-stream", DIFF_READER_BYTES},
        {"image/png", DIFF_READER_BYTES},
        {"", DIFF_READER_BYTES},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(diff_reader_of(slice_of(cases[i].type)), cases[i].reader);
    assert_memory_equal(diff_world_bodies(&world, "image/png", SLICE("[1]"), SLICE("[ 1]")),
                        "bytes body 3 bytes, digest ", 27);
    assert_int_equal(world.found.notes, 0);
}

TEST(other_media_types_are_compared_as_bytes)
{
    static const struct diff_header json[] = {HEADER("content-type", "text/json")},
                                    html[] = {HEADER("content-type", "text/html")};
    struct diff_answer first = ANSWER(200, json), second = ANSWER(200, html);
    first.body = SLICE("[]");
    second.body = SLICE("<p>");
    (void)diff_world_answers(&world, &first, &second);
    assert_int_equal(world.found.count, 2);
    assert_string_equal(world.found.findings[0].path, "header.content-type");
    assert_int_equal(world.found.findings[1].kind, DIFF_BYTES);
    assert_int_equal(world.found.notes, DIFF_NOTE_MEDIA);
    second.body = first.body;
    (void)diff_world_answers(&world, &first, &second);
    assert_int_equal(world.found.count, 1);
}

TEST(a_cut_body_is_not_read)
{
    static const struct diff_header json[] = {HEADER("content-type", "text/json")};
    struct diff_answer first = ANSWER(200, json), second = ANSWER(200, json);
    first.body = SLICE("[1,2]");
    second.body = SLICE("[1,2");
    second.cut = DIFF_CUT_BROKEN;
    (void)diff_world_answers(&world, &first, &second);
    assert_int_equal(world.found.count, 2);
    assert_int_equal(world.found.findings[0].kind, DIFF_CUT);
    assert_string_equal(world.found.findings[0].first, "whole");
    assert_string_equal(world.found.findings[0].second, "broken off");
    assert_int_equal(world.found.findings[1].kind, DIFF_BYTES);
    assert_int_equal(world.found.notes, DIFF_NOTE_CUT);
    first = second;
    assert_string_equal(diff_world_answers(&world, &first, &second), "");
    assert_int_equal(world.found.notes, DIFF_NOTE_CUT);
}

TEST(an_empty_body_is_missing)
{
    assert_string_equal(diff_world_json(&world, "", "[1]"), "added body  | [1]");
    assert_string_equal(diff_world_json(&world, "[1]", ""), "missing body [1] | ");
    assert_string_equal(diff_world_json(&world, "", ""), "");
}

TEST(a_recipe_leaves_out_what_it_names)
{
    const char *a = "{\"id\":1,\"x\":{\"updated\":1,\"list\":[{\"updated\":2,\"v\":1}]}}";
    const char *b = "{\"id\":2,\"x\":{\"updated\":3,\"list\":[{\"updated\":4,\"v\":2}]}}";
    static const struct {
        const char *pattern, *lines;
        uint64_t ignored;
    } cases[] = {
        {"body.id",
         "value body.x.updated 1 | 3\nvalue body.x.list[].updated [0] 2 | 4\nvalue body.x.list[].v [0] 1 | 2",
         1},
        {"body.*.updated", "value body.id 1 | 2\nvalue body.x.list[].v [0] 1 | 2", 2},
        {"*updated", "value body.id 1 | 2\nvalue body.x.list[].v [0] 1 | 2", 2},
        {"body.x*", "value body.id 1 | 2", 3},
        {"body.x.list[].*", "value body.id 1 | 2\nvalue body.x.updated 1 | 3", 2},
        {"body.i",
         "value body.id 1 | 2\nvalue body.x.updated 1 | 3\nvalue body.x.list[].updated [0] 2 | 4\n"
         "value body.x.list[].v [0] 1 | 2",
         0},
        {"**", "", 4},
        {"body.x*.v*",
         "value body.id 1 | 2\nvalue body.x.updated 1 | 3\nvalue body.x.list[].updated [0] 2 | 4", 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct diff_ignore ignore = {slice_of(cases[i].pattern), SLICE("a test")};
        world.recipe.ignores = &ignore;
        world.recipe.ignore_count = 1;
        assert_string_equal(diff_world_json(&world, a, b), cases[i].lines);
        assert_int_equal(world.found.ignored, cases[i].ignored);
    }
}

TEST(values_of_one_class_say_so)
{
    const char *a =
        "{\"t\":\"2024-01-02T03:04:05Z\",\"at\":1700000000,\"url\":\"/x/0123456789abcdef/y\",\"n\":1}";
    const char *b =
        "{\"t\":\"2024-01-02T03:04:06.5+01:00\",\"at\":1700000001,\"url\":\"/x/fedcba9876543210/y\",\"n\":2}";
    assert_string_equal(diff_world_json(&world, a, b),
                        "value body.t 2024-01-02T03:04:05Z | 2024-01-02T03:04:06.5+01:00 (time)\n"
                        "value body.at 1700000000 | 1700000001 (epoch)\n"
                        "value body.url /x/0123456789abcdef/y | /x/fedcba9876543210/y (hex)\n"
                        "value body.n 1 | 2");
    world.recipe.ignored_classes = 1U << DIFF_CLASS_TIME | 1U << DIFF_CLASS_HEX | 1U << DIFF_CLASS_NONE;
    assert_string_equal(diff_world_json(&world, a, b),
                        "value body.at 1700000000 | 1700000001 (epoch)\nvalue body.n 1 | 2");
    assert_int_equal(world.found.ignored, 2);
    // A class belongs to a finding only if all of its pairs are of it.
    assert_string_equal(diff_world_json(&world, "[1700000000,1]", "[1700000001,2]"),
                        "value body[] [0] 1700000000 | 1700000001 x2");
}

TEST(classes_are_told_by_shape)
{
    static const struct {
        const char *value;
        enum diff_class class;
    } cases[] = {
        {"f81d4fae-7dec-11d0-a765-00a0c91e6bf6", DIFF_CLASS_UUID},
        {"f81d4fae-7dec-11d0-a765-00a0c91e6bfg", DIFF_CLASS_NONE},
        {"01ARZ3NDEKTSV4RRFFQ69G5FAV", DIFF_CLASS_ULID},
        {"81ARZ3NDEKTSV4RRFFQ69G5FAV", DIFF_CLASS_NONE},
        {"eyJhbGciOiJub25lIn0.eyJqb2UiOjF9.c2ln", DIFF_CLASS_JWT},
        {"eyJhbGciOiJub25lIn0.eyJqb2UiOjF9", DIFF_CLASS_NONE},
        {"2024-02-29", DIFF_CLASS_TIME},
        {"2024-13-29", DIFF_CLASS_NONE},
        {"20240229T101112Z", DIFF_CLASS_TIME},
        {"2024-02-29 10:11:12,123", DIFF_CLASS_TIME},
        {"2024-02-29T10:11+0200", DIFF_CLASS_TIME},
        {"2024-02-29T10:11:12Zx", DIFF_CLASS_NONE},
        {"Sun, 06 Nov 1994 08:49:37 GMT", DIFF_CLASS_HTTP},
        {"1700000000", DIFF_CLASS_EPOCH},
        {"1700000000123", DIFF_CLASS_EPOCH},
        {"1700000000123456789", DIFF_CLASS_EPOCH},
        {"1700000000.25", DIFF_CLASS_EPOCH},
        {"0700000000", DIFF_CLASS_NONE},
        {"170000000012", DIFF_CLASS_NONE},
        {"12ms", DIFF_CLASS_DURATION},
        {"1.5 s", DIFF_CLASS_DURATION},
        {"250µs", DIFF_CLASS_DURATION},
        {"PT1H30M", DIFF_CLASS_DURATION},
        {"12mm", DIFF_CLASS_NONE},
        {"0123456789abcdef", DIFF_CLASS_HEX},
        {"0123456789abcde", DIFF_CLASS_NONE},
        {"1e99999999999999999", DIFF_CLASS_NONE},
        {"dGhpcyBpcyBhIHRva2Vu1+/=", DIFF_CLASS_TOKEN},
        {"aQw4w9WgXcQ_-12345678", DIFF_CLASS_TOKEN},
        {"internationalisation", DIFF_CLASS_NONE},
        {"", DIFF_CLASS_NONE},
        {"x", DIFF_CLASS_NONE},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (diff_class_of(slice_of(cases[i].value)) != cases[i].class)
            fail_msg("%s: %s", cases[i].value, diff_class_name(diff_class_of(slice_of(cases[i].value))));
    assert_true(diff_class_is_id(SLICE("205705993")) && diff_class_is_id(SLICE("2024-02-29")));
    assert_false(diff_class_is_id(SLICE("total")) || diff_class_is_id(SLICE("a1")) ||
                 diff_class_is_id(SLICE("")));
}

TEST(text_is_compared_by_lines)
{
    const char *a = "<html>\n<p>one</p>\n<p>two</p>\n</html>\n";
    const char *b = "<html>\r\n<p>zero</p>\r\n<p>one</p>\r\n<p>2</p>\r\n</html>";
    assert_string_equal(diff_world_bodies(&world, "text/html", slice_of(a), slice_of(b)),
                        "added body[] [1]  | <p>zero</p>\nvalue body[] [2] <p>two</p> | <p>2</p>");
    assert_string_equal(diff_world_bodies(&world, "text/plain", SLICE("a\nb\n"), SLICE("a\r\nb")), "");
    assert_string_equal(
        diff_world_bodies(&world, "text/html", SLICE("<i nonce=\"aQw4w9WgXcQ12345\">"),
                          SLICE("<i nonce=\"bQw4w9WgXcQ99345\">")),
        "value body[] [0] <i nonce=\"aQw4w9WgXcQ12345\"> | <i nonce=\"bQw4w9WgXcQ99345\"> (token)");
}

TEST(long_values_are_shown_around_their_difference)
{
    char a[400], b[400];
    memset(a, 'x', sizeof a);
    memset(b, 'x', sizeof b);
    b[300] = 'y';
    (void)diff_world_bodies(&world, "text/plain", (struct slice){a, sizeof a}, (struct slice){b, sizeof b});
    assert_memory_equal(world.found.findings[0].second, "…xxxxxxxxxxxxxxxxyx", 21);
    assert_int_equal(strlen(world.found.findings[0].second), DIFF_VALUE_BYTES - 1);
}

// The examples of "Encoding" of Protocol Buffers: field 1 is 150, field 2 is "testing".
#define FIELD_1 "\x08\x96\x01"
#define FIELD_2 "\x12\x07testing"
#define MESSAGE_OF(len, fields) "\0\0\0\0" len fields

TEST(messages_of_grpc_are_compared_by_field)
{
    static const struct {
        struct slice first, second;
        const char *lines;
    } cases[] = {
        {SLICE(MESSAGE_OF("\x0c", FIELD_1 FIELD_2)), SLICE(MESSAGE_OF("\x0c", FIELD_2 FIELD_1)), ""},
        {SLICE(MESSAGE_OF("\x03", FIELD_1)), SLICE(MESSAGE_OF("\x04", "\x08\x96\x81\0")),
         ""}, // the same number
        {SLICE(MESSAGE_OF("\x03", FIELD_1)), SLICE(MESSAGE_OF("\x02", "\x08\x07")),
         "value body[].1 [0] 150 | 7"},
        {SLICE(MESSAGE_OF("\x03", FIELD_1)), SLICE(MESSAGE_OF("\x09", FIELD_2)),
         "missing body[].1 [0] 150 | \nadded body[].2 [0]  | testing"},
        {SLICE(MESSAGE_OF("\x06", FIELD_1 "\x08\x01")), SLICE(MESSAGE_OF("\x06", FIELD_1 "\x08\x02")),
         "unreadable"},
        {SLICE(MESSAGE_OF("\x05", FIELD_1 "\x08\x01")), SLICE(MESSAGE_OF("\x05", FIELD_1 "\x08\x02")),
         "value body[].1 [0] 1 | 2"}, // the second of a repeated field
        {SLICE(MESSAGE_OF("\x05", "\x1d\x01\0\0\0")), SLICE(MESSAGE_OF("\x05", "\x1d\x02\0\0\0")),
         "value body[].3 [0] 0x01000000 | 0x02000000"},
        {SLICE(MESSAGE_OF("\x03", "\x22\x01\xff")), SLICE(MESSAGE_OF("\x02", "\x22\0")),
         "value body[].4 [0] 0xff | "},
        {SLICE(MESSAGE_OF("\x03", FIELD_1)), SLICE(MESSAGE_OF("\x03", FIELD_1) MESSAGE_OF("\0", "")),
         "added body[] [1]  | a message of 0 bytes"},
        {SLICE(MESSAGE_OF("\x03", FIELD_1)), SLICE(MESSAGE_OF("\x09", FIELD_1)), "unreadable"},
        {SLICE(MESSAGE_OF("\x03", FIELD_1)), SLICE(MESSAGE_OF("\x01", "\x0b")), "unreadable"}, // a group
        {SLICE(MESSAGE_OF("\x03", FIELD_1)), SLICE(MESSAGE_OF("\x02", "\x12\x07")), "unreadable"},
        {SLICE(MESSAGE_OF("\x03", FIELD_1)), SLICE("\0\0\0"), "unreadable"},
        {SLICE(MESSAGE_OF("\x03", FIELD_1)), SLICE(MESSAGE_OF("\x01", "\x08")), "unreadable"},
        {SLICE(MESSAGE_OF("\x03", FIELD_1)), SLICE(MESSAGE_OF("\x02", "\0\1")), "unreadable"}, // field 0
        {SLICE("\1\0\0\0\1x"), SLICE("\1\0\0\0\1y"), "value body[] [0] 0x78 | 0x79"},          // compressed
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *lines = diff_world_bodies(&world, "application/grpc", cases[i].first, cases[i].second);
        bool unreadable = strcmp(cases[i].lines, "unreadable") == 0;
        assert_int_equal((world.found.notes & DIFF_NOTE_UNREADABLE) != 0, unreadable);
        if (!unreadable)
            assert_string_equal(lines, cases[i].lines);
    }
}

TEST(a_finding_is_told_in_words)
{
    static const struct {
        const char *first, *second, *words;
    } cases[] = {
        {"{\"p\":[1,2]}", "{\"p\":[3,4]}", "body.p[]: was 1, is 3; 2 times, first at item 0"},
        {"{\"p\":1}", "{\"p\":\"1\"}", "body.p: of another type: was 1, is 1"},
        {"{\"p\":1}", "{}", "body.p: missing, was 1"},
        {"[]", "[4]", "body[]: new, 4; at item 0"},
        {"[1,2]", "[2,1]", "body: the same items in another order"},
        {"[1]", "[1.0]", "body[]: an equal number written otherwise: was 1, is 1.0; at item 0"},
        {"[1700000000]", "[1700000001]", "body[]: was 1700000000, is 1700000001 (epoch); at item 0"},
    };
    char words[DIFF_WORDS_BYTES];
    world.recipe.spelling = true;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        (void)diff_world_json(&world, cases[i].first, cases[i].second);
        diff_finding_words(&world.found.findings[0], words);
        assert_string_equal(words, cases[i].words);
    }
    for (int i = 0; i < DIFF_NOTES; i++)
        assert_true(strlen(diff_note_words(1U << i)) > 10);
}

TEST(no_reader_passes_the_space)
{
    struct slice lines = SLICE("a\nb\n"), message = SLICE(MESSAGE_OF("\x03", FIELD_1));
    for (size_t nodes = 1; nodes < 6; nodes++) {
        world.space = nodes * DIFF_NODE_BYTES;
        (void)diff_world_bodies(&world, "text/plain", lines, SLICE("a\nc\n"));
        assert_int_equal(world.found.notes, DIFF_NOTE_TOO_LARGE);
        (void)diff_world_bodies(&world, "application/grpc", message, SLICE(MESSAGE_OF("\x02", "\x08\x07")));
        assert_int_equal(world.found.notes, DIFF_NOTE_TOO_LARGE);
    }
    world.space = 6 * DIFF_NODE_BYTES;
    (void)diff_world_bodies(&world, "text/plain", lines, SLICE("a\nc\n"));
    assert_int_equal(world.found.notes, 0);
}
