// SPDX-License-Identifier: Apache-2.0
// Templates of paths: which are sound, what they match, and the texts that are made of their captures.
#include "base/check.h"
#include "net/http/field.h"
#include "net/http/template.h"
#include "test.h"

static const char *wrong_at(const char *text, size_t *at)
{
    return http_template_check(slice_of(text), at);
}

TEST(sound_ones)
{
    static const char *const GOOD[] = {"/",   "/a",        "/{id}",          "/orders/{id}/items",
                                       "/a/", "/f/{r...}", "/{a}/{b}/{c_1}", "/a;v/{x}"};
    static const struct {
        const char *text;
        size_t at;
    } BAD[] = {
        {"", 0},
        {"a", 0},
        {"/a{id}", 1},
        {"/a/{id}b", 3},
        {"/{}", 1},
        {"/{Id}", 1},
        {"/{a}/{a}", 5},
        {"/{r...}/b", 1},
        {"/{a", 1},
        {"/a}", 1},
        {"/a//b", 3},
        {"/{...}", 1},
        {"/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}", 33},
        {"/{", 1},
    };
    size_t at;
    for (size_t i = 0; i < ARRAY_LEN(GOOD); i++)
        assert_null(wrong_at(GOOD[i], &at));
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        assert_non_null(wrong_at(BAD[i].text, &at));
        assert_int_equal(at, BAD[i].at);
    }
}

TEST(what_they_match)
{
    static const struct {
        const char *text, *path, *first; // first: the value of the first name; NULL: no match
    } CASES[] = {
        {"/orders/{id}", "/orders/5", "5"},
        {"/orders/{id}", "/orders/5;v=1", "5;v=1"},
        {"/orders/{id}", "/orders;v=1/5", "5"},
        {"/orders/{id}", "/orders/", NULL},
        {"/orders/{id}", "/orders/5/", NULL},
        {"/orders/{id}", "/orders", NULL},
        {"/orders/{id}", "/order/5", NULL},
        {"/orders/{id}/", "/orders/5/", "5"},
        {"/{a}/items/{b}", "/x/items/y", "x"},
        {"/files/{rest...}", "/files/a/b/c", "a/b/c"},
        {"/files/{rest...}", "/files/", ""},
        {"/files/{rest...}", "/files", NULL},
        {"/{id}", "*", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct http_captures captures = {.count = 0};
        bool matches = http_template_match(slice_of(CASES[i].text), slice_of(CASES[i].path), &captures);
        assert_int_equal(matches, CASES[i].first != NULL);
        assert_int_equal(http_template_match(slice_of(CASES[i].text), slice_of(CASES[i].path), NULL),
                         matches);
        if (matches)
            assert_true(slice_equal(captures.items[0].value, slice_of(CASES[i].first)));
    }
}

TEST(more_specific_ones_rank_higher)
{
    static const char *const ORDER[] = {"/orders/{id}/items",
                                        "/a/{b}/{c}",
                                        "/{a}/{b}/{c}",
                                        "/{a}/{b}/{c...}",
                                        "/orders/{id}",
                                        "/orders/{r...}",
                                        "/{a}/5",
                                        "/{a}/{b}",
                                        "/{a}"};
    for (size_t i = 1; i < ARRAY_LEN(ORDER); i++)
        assert_true(http_template_rank(slice_of(ORDER[i - 1])) > http_template_rank(slice_of(ORDER[i])));
}

TEST(texts)
{
    struct http_captures known = {.count = 0};
    char storage[64];
    size_t at;
    assert_true(http_template_match(SLICE("/{a}/{b...}"), SLICE("/x/y/z"), &known));
    assert_null(http_text_check(SLICE("/v2/{b}-{{{a}}}"), &known, &at));
    struct text text = text_over(storage, sizeof storage);
    http_text_expand(SLICE("/v2/{b}-{{{a}}}"), &known, &text);
    assert_string_equal(storage, "/v2/y/z-{x}");
    static const struct {
        const char *text;
        size_t at;
    } BAD[] = {{"/{c}", 1}, {"{", 0}, {"a}", 1}, {"{a", 0}, {"ab{}", 2}, {"{{a}", 3}};
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        assert_non_null(http_text_check(slice_of(BAD[i].text), &known, &at));
        assert_int_equal(at, BAD[i].at);
    }
}

TEST(reserved_fields)
{
    static const char *const RESERVED[] = {"Host",
                                           "content-length",
                                           "Content_Length",
                                           "TRANSFER-ENCODING",
                                           "te",
                                           "X-Forwarded-For",
                                           "x_forwarded_proto",
                                           "Trailer",
                                           "X-Sluice-Version",
                                           "x_sluice_anything_that_is_longer",
                                           "Upgrade",
                                           "Proxy-Connection"};
    static const char *const FREE[] = {"X-User",
                                       "X-Real-IP",
                                       "Cache-Control",
                                       "Set-Cookie",
                                       "Server",
                                       "X-Forwarded-Prefix",
                                       "a-name-that-is-longer-than-all-known-ones"};
    for (size_t i = 0; i < ARRAY_LEN(RESERVED); i++)
        assert_true(http_field_reserved(slice_of(RESERVED[i])));
    for (size_t i = 0; i < ARRAY_LEN(FREE); i++)
        assert_false(http_field_reserved(slice_of(FREE[i])));
}
