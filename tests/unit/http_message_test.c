// SPDX-License-Identifier: Apache-2.0
// http: a copied request reads as the one it was made of, after the bytes of that one are gone.
#include "base/check.h"
#include "net/http/http1.h"
#include "net/http/http1_write.h"
#include "test.h"

TEST(a_copy_outlives_its_bytes)
{
    static const char text[] = "PUT http://shop.example:8080/a/b?c=d HTTP/1.1\r\nHost: other\r\nX-Empty:\r\n"
                               "Cookie: a=1\r\nContent-Length: 3\r\n\r\n";
    static struct http_request request;
    static _Alignas(16) char storage[4096];
    char bytes[sizeof text], before[1024], after[1024];
    const struct http1_forward forward = {.via = SLICE("here")};
    size_t head_len;
    enum http1_reject why;
    memcpy(bytes, text, sizeof text);
    assert_int_equal(http1_request_parse(bytes, sizeof text - 1, NULL, &request, &head_len, &why), STATUS_OK);
    struct http1_writer first = http1_writer_over(before, sizeof before);
    assert_int_equal(http1_write_request_head(&first, &request, &forward), STATUS_OK);
    size_t need = http_request_copy_bytes(&request);
    assert_true(need <= sizeof storage);
    memset(storage, 0x55, sizeof storage);
    const struct http_request *copy = http_request_copy(&request, storage);
    assert_int_equal(storage[need], 0x55);
    memset(bytes, 0, sizeof bytes);
    struct http1_writer second = http1_writer_over(after, sizeof after);
    assert_int_equal(http1_write_request_head(&second, copy, &forward), STATUS_OK);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(before, after, first.len);
    assert_true(slice_equal(copy->host, SLICE("shop.example")));
    assert_true(slice_equal(copy->query, SLICE("c=d")));
    assert_int_equal(http_fields_find(&copy->fields, HTTP_FIELD_COOKIE)->value.len, 3);
}

static void expect_normal(const char *path, const char *wanted)
{
    char storage[64];
    struct slice normal = http_path_normal(slice_of(path), storage);
    if (!slice_equal(normal, slice_of(wanted)))
        fail_msg("%s became %.*s", path, (int)normal.len, normal.data);
}

TEST(prefixes_cover_segments)
{
    static const struct {
        const char *prefix, *path;
        size_t covered;
    } CASES[] = {
        {"/a", "/a", 2},
        {"/a", "/a/b", 2},
        {"/a", "/ab", HTTP_PATH_NONE},
        {"/a", "/a;v/b", 4},
        {"/a/b", "/a;v/b;w", 8},
        {"/a/b", "/a", HTTP_PATH_NONE},
        {"", "/a", 0},
        {"/a;v", "/a;v/b", 4},
        {"/a;v", "/a;w", HTTP_PATH_NONE},
        {"/", "/", 1},
        {"/a", "/A", HTTP_PATH_NONE},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++)
        assert_int_equal(http_path_covers(slice_of(CASES[i].prefix), slice_of(CASES[i].path)),
                         CASES[i].covered);
}

TEST(paths_have_one_form)
{
    expect_normal("/a/b", "/a/b");
    expect_normal("/%7euser/%41%2D%5f", "/~user/A-_");
    expect_normal("/a%2fb%3f%c3%BC", "/a%2Fb%3F%C3%BC");
    expect_normal("/%zz/%4", "/%zz/%4");
    expect_normal("/a/./b/../../mid/6/", "/mid/6/");
    expect_normal("/a/b/..", "/a/");
    expect_normal("/a/b/.", "/a/b/");
    expect_normal("/..", "/");
    expect_normal("/../../a", "/a");
    expect_normal("//a/.../..b/.c", "/a/.../..b/.c");
    expect_normal("/a//b///", "/a/b/");
    expect_normal("/a;v=1/./b;w", "/a;v=1/b;w");
    expect_normal("/a//../b", "");
    expect_normal("//..", "");
    expect_normal("/a/%%32E%%32E/b", "");
    expect_normal("/%%2f%", "/%%2F%");
    expect_normal("/a/%2e%2E;x/b", "");
    expect_normal("/.;/b", "");
    expect_normal("/a/;x/b", "");
    expect_normal("/a//;", "");
    expect_normal("/...;x", "/...;x");
    expect_normal("/%2e%2e/%252e", "/%252e");
    expect_normal("*", "*");
}
