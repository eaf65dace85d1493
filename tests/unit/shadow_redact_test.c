// SPDX-License-Identifier: Apache-2.0
// What is kept of a request and of values has no secrets in it.
#include "base/check.h"
#include "ship/shadow/shadow.h"
#include "test.h"

#define TOKEN "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
#define HEX "9f86d081884c7d659a2feaa0c55ad015"

static const struct slice patterns[] = {
    {"body.user.email", 15}, {"body.*.iban", 11}, {"query.who*", 10}, {"header.x-key", 12}};
static const struct shadow_redaction redaction = {patterns, ARRAY_LEN(patterns)};

static const char *value(const char *path, const char *text)
{
    static char storage[512];
    struct text shown = text_over(storage, sizeof storage);
    shadow_redact_value(&redaction, slice_of(path), DIFF_CLASS_NONE, slice_of(text), &shown);
    return storage;
}

static const char *target(const char *text)
{
    static char storage[512];
    struct text shown = text_over(storage, sizeof storage);
    shadow_redact_target(&redaction, slice_of(text), &shown);
    return storage;
}

TEST(values_by_their_place)
{
    assert_string_equal(value("header.set-cookie", "a=b"), "(redacted)");
    assert_string_equal(value("header.cookie", "a=b"), "(redacted)");
    assert_string_equal(value("header.authorization", "Basic YTpi"), "(redacted)");
    assert_string_equal(value("header.proxy-authorization", "Basic YTpi"), "(redacted)");
    assert_string_equal(value("header.x-key", "1"), "(redacted)");
    assert_string_equal(value("header.etag", "\"1\""), "\"1\"");
    assert_string_equal(value("body.user.email", "\"a@b.c\""), "(redacted)");
    assert_string_equal(value("body.accounts[].iban", "\"DE\""), "(redacted)");
    assert_string_equal(value("body.user.name", "\"Ann\""), "\"Ann\"");
    assert_string_equal(value("body.user.email", ""), "");
}

// A value that holds the secret one, and a path that was cut before it could be told.
TEST(values_around_secrets)
{
    struct shadow_redaction first = {patterns, 1};
    char storage[64];
    struct text shown = text_over(storage, sizeof storage);
    shadow_redact_value(&first, SLICE("body.user"), DIFF_CLASS_NONE, SLICE("{\"email\":\"a@b.c\"}"), &shown);
    assert_string_equal(storage, "(redacted)");
    assert_string_equal(value("body.deep.x", "[{\"iban\":\"DE\"}]"), "(redacted)");
    assert_string_equal(value("body.us…", "\"a@b.c\""), "(redacted)");
    assert_string_equal(value("header.vary", "{odd}"), "{odd}");
}

TEST(values_by_their_looks)
{
    char storage[512];
    struct text shown = text_over(storage, sizeof storage);
    shadow_redact_value(&redaction, SLICE("body.a"), DIFF_CLASS_HEX, SLICE("…86d0"), &shown);
    assert_string_equal(storage, "(redacted)");
    assert_string_equal(value("body.a", "\"" TOKEN "\""), "\"(redacted)\"");
    assert_string_equal(value("body.a", "key " HEX ", 7"), "key (redacted), 7");
    assert_string_equal(value("body.a", "\"6ba7b810-9dad-11d1-80b4-00c04fd430c8\""),
                        "\"6ba7b810-9dad-11d1-80b4-00c04fd430c8\"");
    assert_string_equal(value("body.a", "12.50"), "12.50");
}

TEST(targets)
{
    assert_string_equal(target("/a/b?x=1&y=2"), "/a/b?x=1&y=2");
    assert_string_equal(target("/reset/" HEX "/now?x"), "/reset/(redacted)/now?x");
    assert_string_equal(
        target("/a?token=1&Access_Token=2&api_key=3&x=4&who=ann&whole=5&empty="),
        "/a?token=(redacted)&Access_Token=(redacted)&api_key=(redacted)&x=4&who=(redacted)&whole=("
        "redacted)&empty=");
    assert_string_equal(target("/a?%74oken=1"), "/a?%74oken=(redacted)");
    assert_string_equal(target("/a?next=/b/" HEX "&x=1"), "/a?next=(redacted)&x=1");
    assert_string_equal(target("*"), "*");
    assert_string_equal(target("/a?&&=&"), "/a?&&=&");
}
