// SPDX-License-Identifier: Apache-2.0
// Names, character classes, hosts, lists, cookies; the SSE2 variants against the portable ones.
#include <ctype.h>

#include "base/check.h"
#include "base/rng.h"
#include "net/http/http_private.h"
#include "test.h"

static void assert_slice(struct slice got, const char *wanted)
{
    if (!slice_equal(got, slice_of(wanted)))
        fail_msg("got \"" SLICE_FMT "\", wanted \"%s\"", SLICE_ARG(got), wanted);
}

TEST(every_id)
{
    for (unsigned id = 1; id < HTTP_FIELD_COUNT; id++) {
        struct slice name = http_field_id_name((enum http_field_id)id);
        assert_true(name.len > 0);
        char upper[64];
        for (size_t i = 0; i < name.len; i++)
            upper[i] = (char)toupper((unsigned char)name.data[i]);
        assert_int_equal(http_field_id_of(name), id);
        assert_int_equal(http_field_id_of((struct slice){upper, name.len}), id);
        if (id == HTTP_FIELD_X_SLUICE)
            continue;
        upper[name.len] = 'x';
        assert_int_equal(http_field_id_of((struct slice){upper, name.len + 1}), HTTP_FIELD_OTHER);
        assert_int_not_equal(http_field_id_of((struct slice){upper, name.len - 1}), id);
    }
    assert_int_equal(http_field_id_of(SLICE("X-Sluice-Shadow")), HTTP_FIELD_X_SLUICE);
    assert_int_equal(http_field_id_of(SLICE("x-sluice-a-very-long-name")), HTTP_FIELD_X_SLUICE);
    assert_int_equal(http_field_id_of(SLICE("x-sluicegate")), HTTP_FIELD_OTHER);
    assert_int_equal(http_field_id_of(SLICE("x-sluice")), HTTP_FIELD_OTHER);
}

// The grammars of RFC 9110 5.6.2 and 5.5, and RFC 3986, said once more.
TEST(classes)
{
    for (int c = 0; c < 256; c++) {
        bool alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        bool visible = c > 0x20 && c < 0x7f;
        assert_int_equal(http_is((char)c, HTTP_CLASS_TOKEN),
                         alnum || (c != 0 && strchr("!#$%&'*+-.^_`|~", c)));
        assert_int_equal(http_is((char)c, HTTP_CLASS_QUERY), visible && !strchr("#\"<>", c));
        assert_int_equal(http_is((char)c, HTTP_CLASS_TARGET), visible && !strchr("#\"<>\\", c));
        assert_int_equal(http_is((char)c, HTTP_CLASS_VALUE), visible || c == ' ' || c == '\t' || c >= 0x80);
        assert_int_equal(http_is((char)c, HTTP_CLASS_HOST), alnum || (c != 0 && strchr("-._~!$&'()*+;=", c)));
        assert_int_equal(http_is((char)c, HTTP_CLASS_HEX), c < 0x80 && isxdigit(c) != 0);
    }
}

TEST(hosts)
{
    static const char *const good[] = {"a",
                                       "a.b-c_d~",
                                       "127.0.0.1:80",
                                       "a:",
                                       "a:65535",
                                       "%41b",
                                       "[::]",
                                       "[::1]:8080",
                                       "[1::]",
                                       "[1:2:3:4:5:6:7:8]",
                                       "[::ffff:1.2.3.4]",
                                       "[1:2:3:4:5:6:1.2.3.4]"};
    static const char *const bad[] = {"",
                                      ":80",
                                      "a:65536",
                                      "a:b",
                                      "a b",
                                      "a/b",
                                      "u@a",
                                      "a,b",
                                      "%4",
                                      "%zz",
                                      "[",
                                      "[]",
                                      "[:]",
                                      "[1]",
                                      "[:::]",
                                      "[1::2::3]",
                                      "[12345::]",
                                      "[1:2:3:4:5:6:7]",
                                      "[1:2:3:4:5:6:7:8:9]",
                                      "[::1",
                                      "::1",
                                      "[::1]x",
                                      "[v1.a]",
                                      "[1:2:3:4:5:6:7:8:]",
                                      "[::1.2.3]",
                                      "[::1.2.3.4.]",
                                      "[:1:2:3:4:5:6:7:8]",
                                      "a:80:80",
                                      "a?",
                                      "a#"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (!http_host_valid(slice_of(good[i])))
            fail_msg("refused %s", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (http_host_valid(slice_of(bad[i])))
            fail_msg("accepted %s", bad[i]);
    struct slice host;
    uint16_t port;
    http_host_split(SLICE("[::1]:8080"), &host, &port);
    assert_slice(host, "[::1]");
    assert_int_equal(port, 8080);
    http_host_split(SLICE("[::1]"), &host, &port);
    assert_slice(host, "[::1]");
    assert_int_equal(port, 0);
}

TEST(lists)
{
    struct slice rest = SLICE(" , a ,,\tb c,");
    struct slice element;
    assert_true(http_list_next(&rest, &element));
    assert_slice(element, "a");
    assert_true(http_list_next(&rest, &element));
    assert_slice(element, "b c");
    assert_false(http_list_next(&rest, &element));
    assert_true(http_list_has(SLICE("gzip, Trailers"), SLICE("trailers")));
    assert_false(http_list_has(SLICE("gzip, xtrailers"), SLICE("trailers")));
}

TEST(cookies_and_queries)
{
    static struct http_fields fields;
    struct slice value = SLICE("untouched");
    fields.count = 0;
    fields.present = 0;
    assert_int_equal(http_cookie_find(&fields, SLICE("a"), &value), STATUS_NOT_FOUND);
    assert_int_equal(http_fields_add(&fields, SLICE("X"), SLICE("a=0")), STATUS_OK);
    assert_int_equal(http_fields_add(&fields, SLICE("Cookie"), SLICE("x; aa=1;  a = 2 ;a=3")), STATUS_OK);
    assert_int_equal(http_fields_add(&fields, SLICE("cookie"), SLICE("sid=\"q=;\"; b=")), STATUS_OK);
    assert_int_equal(http_cookie_find(&fields, SLICE("x"), &value), STATUS_NOT_FOUND);
    assert_slice(value, "untouched");
    assert_int_equal(http_cookie_find(&fields, SLICE("a"), &value), STATUS_OK);
    assert_slice(value, "2");
    assert_int_equal(http_cookie_find(&fields, SLICE("b"), &value), STATUS_OK);
    assert_slice(value, "");
    assert_int_equal(http_query_find(SLICE("aa=1&a=x%20&a=2&b"), SLICE("a"), &value), STATUS_OK);
    assert_slice(value, "x%20");
    assert_int_equal(http_query_find(SLICE("aa=1&&b"), SLICE("b"), &value), STATUS_OK);
    assert_slice(value, "");
    assert_int_equal(http_query_find(SLICE("aa=1"), SLICE("a"), &value), STATUS_NOT_FOUND);
}

TEST(add_refuses)
{
    static struct http_fields fields;
    assert_int_equal(http_fields_add(&fields, SLICE("a b"), SLICE("c")), STATUS_INVALID);
    assert_int_equal(http_fields_add(&fields, SLICE(""), SLICE("c")), STATUS_INVALID);
    assert_int_equal(http_fields_add(&fields, SLICE("a"), SLICE("c\r\nx: y")), STATUS_INVALID);
    assert_int_equal(http_fields_add(&fields, SLICE("a"), SLICE(" c")), STATUS_INVALID);
    for (unsigned i = 0; i < HTTP_FIELDS_MAX; i++)
        assert_int_equal(http_fields_add(&fields, SLICE("a"), SLICE("c")), STATUS_OK);
    assert_int_equal(http_fields_add(&fields, SLICE("a"), SLICE("c")), STATUS_FULL);
    assert_non_null(http_fields_find_name(&fields, SLICE("A")));
    assert_null(http_fields_find_name(&fields, SLICE("host")));
}

TEST(client_address)
{
    static struct http_fields fields;
    struct slice peer = SLICE("9.9.9.9");
    assert_slice(http_client_address(&fields, 2, peer), "9.9.9.9");
    assert_int_equal(http_fields_add(&fields, SLICE("X-Forwarded-For"), SLICE("6.6.6.6, 1.1.1.1")),
                     STATUS_OK);
    assert_int_equal(http_fields_add(&fields, SLICE("x-forwarded-for"), SLICE("2.2.2.2,")), STATUS_OK);
    assert_slice(http_client_address(&fields, 0, peer), "9.9.9.9");
    assert_slice(http_client_address(&fields, 1, peer), "2.2.2.2");
    assert_slice(http_client_address(&fields, 2, peer), "1.1.1.1");
    assert_slice(http_client_address(&fields, 7, peer), "6.6.6.6");
}

// One client is one, however a proxy or the kernel writes its address.
TEST(client_address_forms)
{
    static const char *const forms[][2] = {{"203.0.113.7:40001", "203.0.113.7"},
                                           {"203.0.113.7", "203.0.113.7"},
                                           {"::ffff:203.0.113.7", "203.0.113.7"},
                                           {"[::FFFF:203.0.113.7]:4", "203.0.113.7"},
                                           {"[2001:db8::1]:443", "2001:db8::1"},
                                           {"[2001:db8::1]", "2001:db8::1"},
                                           {"2001:db8::1", "2001:db8::1"},
                                           {"fe80::1%eth0", "fe80::1"},
                                           {"[fe80::1%25eth0]:80", "fe80::1"},
                                           {"::ffff:1", "::ffff:1"},
                                           {"unix:", "unix:"},
                                           {"unix:/run/a.sock", "unix:/run/a.sock"},
                                           {"unknown", "unknown"},
                                           {"_hidden:x", "_hidden:x"},
                                           {":", ":"},
                                           {"[", ""}};
    static struct http_fields fields;
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        assert_slice(http_client_address(&fields, 0, slice_of(forms[i][0])), forms[i][1]);
        fields.count = 0;
        fields.present = 0;
        assert_int_equal(http_fields_add(&fields, SLICE("X-Forwarded-For"), slice_of(forms[i][0])),
                         STATUS_OK);
        assert_slice(http_client_address(&fields, 1, SLICE("9.9.9.9")), forms[i][1]);
    }
}

#if HTTP_HAVE_SSE2
// Random text made mostly of what matters, in buffers of exact size: both scans must agree in everything.
TEST(scans_agree)
{
    static const char alphabet[] = "\r\n\r\n\r\n\r\naaaaaaaaaaaaaaaaaaaaaaa:- \t\x01\x7f\x80";
    struct rng rng;
    rng_init(&rng, 7);
    for (unsigned round = 0; round < 30000; round++) {
        char bytes[300];
        size_t len = rng_below(&rng, sizeof bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] = rng_below(&rng, 12) == 0 ? alphabet[rng_below(&rng, sizeof alphabet - 1)] : 'a';
        for (size_t i = 0; i + 1 < len; i++)
            if (bytes[i] == '\r' && rng_below(&rng, 20) != 0)
                bytes[i + 1] = '\n';
        bool skip = rng_below(&rng, 2);
        struct http_lines a = {0};
        struct http_lines b = {0};
        enum http1_reject why_a = HTTP1_REJECT_NONE;
        enum http1_reject why_b = HTTP1_REJECT_NONE;
        char *exact = bytes + sizeof bytes - len;
        memmove(exact, bytes, len);
        assert_int_equal(http_scan_sse2(exact, len, skip, &a, &why_a),
                         http_scan_portable(exact, len, skip, &b, &why_b));
        assert_int_equal(why_a, why_b);
        assert_memory_equal(&a, &b, sizeof a);
    }
}

TEST(names_agree)
{
    struct rng rng;
    rng_init(&rng, 8);
    for (unsigned round = 0; round < 60000; round++) {
        char line[48];
        size_t len = 1 + rng_below(&rng, sizeof line - 1);
        memset(line, 'v', sizeof line);
        struct slice name =
            http_field_id_name((enum http_field_id)(1 + rng_below(&rng, HTTP_FIELD_COUNT - 1)));
        memcpy(line, name.data, name.len);
        line[name.len] = ':';
        for (unsigned flips = (unsigned)rng_below(&rng, 3); flips > 0; flips--) {
            uint8_t byte = (uint8_t)(0x20 + rng_below(&rng, 224));
            line[rng_below(&rng, 20)] = byte == 0x7f ? '_' : (char)byte;
        }
        enum http_field_id id_a = HTTP_FIELD_OTHER;
        enum http_field_id id_b = HTTP_FIELD_OTHER;
        enum http1_reject why_a = HTTP1_REJECT_NONE;
        enum http1_reject why_b = HTTP1_REJECT_NONE;
        char *exact = line + sizeof line - len;
        memmove(exact, line, len);
        size_t a = http_name_cut_sse2(exact, len, len, &id_a, &why_a);
        size_t b = http_name_cut_portable(exact, len, &id_b, &why_b);
        assert_int_equal(a, b);
        assert_int_equal(id_a, id_b);
        assert_int_equal(why_a, why_b);
    }
}
#endif
