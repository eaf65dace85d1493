// SPDX-License-Identifier: Apache-2.0
// Names as the file writes them: what is one, and what is wrong with what is none.
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "net/names/names.h"
#include "test.h"

static void expect_fault(const char *text, const char *expected)
{
    struct names_text parsed;
    const char *why = "untouched";
    assert_int_equal(names_parse(text, &parsed, &why), STATUS_INVALID);
    if (expected == NULL)
        assert_null(why);
    else
        assert_string_equal(why, expected);
}

TEST(a_name_has_a_port_and_an_srv_name_has_none)
{
    struct names_text parsed;
    const char *why;
    assert_int_equal(names_parse("shop.example:9001", &parsed, &why), STATUS_OK);
    assert_string_equal(parsed.name, "shop.example");
    assert_int_equal(parsed.port, 9001);
    assert_false(parsed.srv);
    assert_int_equal(names_parse("shop_v1.:1", &parsed, &why), STATUS_OK);
    assert_string_equal(parsed.name, "shop_v1.");
    assert_int_equal(names_parse("srv:_http._tcp.shop.example", &parsed, &why), STATUS_OK);
    assert_string_equal(parsed.name, "_http._tcp.shop.example");
    assert_int_equal(parsed.port, 0);
    assert_true(parsed.srv);
}

TEST(what_has_not_the_form_of_a_name_is_none)
{
    expect_fault("shop.example", NULL);
    expect_fault("shop.example:", NULL);
    expect_fault("shop.example:0", NULL);
    expect_fault("shop.example:65536", NULL);
    expect_fault("shop.example:80x", NULL);
    expect_fault("10.0.0.300:80", NULL);
    expect_fault(":80", NULL);
}

TEST(what_is_wrong_with_a_name_is_said)
{
    char text[NAMES_TEXT_BYTES * 2];
    expect_fault("a..b:80", "a label is empty");
    expect_fault("-a.b:80", "a label begins or ends with '-'");
    expect_fault("a.b-:80", "a label begins or ends with '-'");
    expect_fault("_http._tcp.b:80", "a label begins with '_', as only SRV names do");
    expect_fault("a b:80", "a name has letters, digits, '-' and '.'");
    expect_fault("srv:shop.example", "an SRV name is _service._protocol.name");
    expect_fault("srv:_http._tcp", "an SRV name is _service._protocol.name");
    expect_fault("srv:_http._tcp.shop.example:80", "a name has letters, digits, '-' and '.'");
    snprintf(text, sizeof text, "%064d.example:80", 1);
    expect_fault(text, "a label is longer than 63 characters");
}

TEST(a_name_has_at_most_253_characters)
{
    char label[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk"; // 63
    char text[NAMES_TEXT_BYTES * 2];
    struct names_text parsed;
    const char *why;
    snprintf(text, sizeof text, "%s.%s.%s.%.61s.:65535", label, label, label, label);
    assert_int_equal(strcspn(text, ":"), 254);
    assert_int_equal(names_parse(text, &parsed, &why), STATUS_OK);
    snprintf(text, sizeof text, "%s.%s.%s.%.62s:80", label, label, label, label);
    expect_fault(text, "a name has at most 253 characters");
}
