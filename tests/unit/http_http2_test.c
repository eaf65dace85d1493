// SPDX-License-Identifier: Apache-2.0
// http: fields of HTTP/2 as a request, clause by clause of RFC 9113, 8, and RFC 8441. Names and values with a
// '|' in the tables are split there.
#include "base/check.h"
#include "net/http/http1_write.h"
#include "net/http/http2.h"
#include "test.h"

static struct http_request request;
static struct http2_head head;
static char lines[HTTP2_HEAD_BYTES], aside[HTTP2_HEAD_BYTES];
static enum http1_reject why;

static const struct slice KEY = {"AAECAwQFBgcICQoLDA0ODw==", HTTP2_KEY_BYTES};

static void add(const char *name, const char *value)
{
    http2_head_add(&head, slice_of(name), slice_of(value));
}

// "name|value" each; NULL ends them.
static enum status parse(const char *const *fields, bool ended)
{
    http2_head_init(&head, lines, aside, NULL);
    for (; *fields != NULL; fields++) {
        const char *bar = strchr(*fields, '|');
        http2_head_add(&head, (struct slice){*fields, (size_t)(bar - *fields)}, slice_of(bar + 1));
    }
    why = HTTP1_REJECT_NONE;
    return http2_head_request(&head, ended, KEY, &request, &why);
}

#define FIELDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define GET ":method|GET", ":scheme|https", ":authority|shop.example", ":path|/a?b=c"
#define POST ":method|POST", ":scheme|https", ":authority|shop.example", ":path|/"

static void expect_slice(struct slice got, const char *wanted)
{
    assert_int_equal(got.len, strlen(wanted));
    assert_memory_equal(got.data, wanted, got.len);
}

static const struct http_field *field(const char *name)
{
    return http_fields_find_name(&request.fields, slice_of(name));
}

// What an origin of HTTP/1.1 gets.
static void expect_written(bool upgrade, const char *wanted)
{
    static char bytes[2 * HTTP1_HEAD_BYTES_MAX];
    struct http1_writer writer = http1_writer_over(bytes, sizeof bytes);
    const struct http1_forward forward = {.via = SLICE("sluice"), .upgrade = upgrade};
    assert_int_equal(http1_write_request_head(&writer, &request, &forward), STATUS_OK);
    bytes[writer.len] = '\0';
    assert_string_equal(bytes, wanted);
}

TEST(a_get_is_told_as_one_of_http1)
{
    assert_int_equal(parse(FIELDS(GET, "accept|*/*", "te|trailers"), true), STATUS_OK);
    assert_int_equal(request.method_id, HTTP_METHOD_GET);
    expect_slice(request.path, "/a");
    expect_slice(request.query, "b=c");
    expect_slice(request.host, "shop.example");
    assert_int_equal(request.framing, HTTP_FRAMING_NONE);
    assert_true(request.te_trailers && request.http2);
    expect_written(false, "GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\naccept: */*\r\n"
                          "Connection: TE\r\nTE: trailers\r\nVia: 2 sluice\r\n\r\n");
}

TEST(a_body_without_length_goes_on_in_chunks)
{
    assert_int_equal(parse(FIELDS(POST), false), STATUS_OK);
    assert_int_equal(request.framing, HTTP_FRAMING_CHUNKED);
    expect_written(false, "POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n"
                          "Via: 2 sluice\r\n\r\n");
    assert_int_equal(parse(FIELDS(POST, "content-length|12"), false), STATUS_OK);
    assert_int_equal(request.framing, HTTP_FRAMING_LENGTH);
    assert_int_equal(request.content_length, 12);
    assert_int_equal(parse(FIELDS(POST, "content-length|0"), true), STATUS_OK);
}

// RFC 9113, 8.2.3.
TEST(pieces_of_cookie_are_joined)
{
    assert_int_equal(parse(FIELDS(GET, "cookie|a=1", "accept|*/*", "cookie|b=2", "cookie|c=3"), true),
                     STATUS_OK);
    expect_slice(field("cookie")->value, "a=1; b=2; c=3");
    expect_written(false, "GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\naccept: */*\r\n"
                          "cookie: a=1; b=2; c=3\r\nVia: 2 sluice\r\n\r\n");
}

// RFC 9113, 8.3.1: without :authority, Host is what counts; beside it, it may only say the same.
TEST(host_and_authority)
{
    assert_int_equal(parse(FIELDS(":method|GET", ":scheme|http", ":path|/", "host|a.example:81"), true),
                     STATUS_OK);
    expect_slice(request.host, "a.example");
    assert_int_equal(request.port, 81);
    assert_int_equal(parse(FIELDS(GET, "host|SHOP.example"), true), STATUS_OK);
    expect_slice(request.authority, "shop.example");
    assert_int_equal(parse(FIELDS(GET, "host|other.example"), true), STATUS_INVALID);
    assert_int_equal(why, HTTP2_REJECT_AUTHORITY);
}

static const struct {
    const char *clause;
    const char *fields[8];
    enum http1_reject why;
} MALFORMED[] = {
    {"8.3 unknown pseudo-field", {GET, ":colour|red"}, HTTP2_REJECT_PSEUDO},
    {"8.3 of an answer", {GET, ":status|200"}, HTTP2_REJECT_PSEUDO},
    {"8.3 after a field", {":method|GET", ":scheme|https", "accept|*/*", ":path|/"}, HTTP2_REJECT_PSEUDO},
    {"8.3 after a field, though repeated", {GET, "a|b", ":path|/"}, HTTP2_REJECT_PSEUDO},
    {"8.3.1 twice", {GET, ":path|/"}, HTTP2_REJECT_PSEUDO},
    {"8.3.1 no method", {":scheme|https", ":authority|a", ":path|/"}, HTTP2_REJECT_PSEUDO},
    {"8.3.1 no scheme", {":method|GET", ":authority|a", ":path|/"}, HTTP2_REJECT_PSEUDO},
    {"8.3.1 no path", {":method|GET", ":scheme|https", ":authority|a"}, HTTP2_REJECT_PSEUDO},
    {"8.3.1 empty path", {":method|GET", ":scheme|https", ":authority|a", ":path|"}, HTTP1_REJECT_TARGET},
    {"8.3.1 path of another form",
     {":method|GET", ":scheme|https", ":authority|a", ":path|http://b/"},
     HTTP1_REJECT_TARGET},
    {"8.3.1 asterisk but not OPTIONS",
     {":method|GET", ":scheme|https", ":authority|a", ":path|*"},
     HTTP1_REJECT_TARGET},
    {"8.3.1 user info", {":method|GET", ":scheme|https", ":authority|u@a", ":path|/"}, HTTP1_REJECT_HOST},
    {"8.3.1 nobody to ask", {":method|GET", ":scheme|https", ":path|/"}, HTTP1_REJECT_HOST_MISSING},
    {"8.3.1 scheme", {":method|GET", ":scheme|ftp", ":authority|a", ":path|/"}, HTTP1_REJECT_TARGET},
    {"8.5 CONNECT", {":method|CONNECT", ":authority|a:443"}, HTTP1_REJECT_CONNECT},
    {"8.2.1 capitals", {GET, "Accept|x"}, HTTP1_REJECT_NAME},
    {"8.2.1 blank in a name", {GET, "a b|x"}, HTTP1_REJECT_NAME},
    {"8.2.1 empty name", {GET, "|x"}, HTTP1_REJECT_NAME},
    {"8.2.1 colon in a name", {GET, "a:b|x"}, HTTP1_REJECT_NAME},
    {"8.2.1 line break in a name", {GET, "a\r\nb|x"}, HTTP1_REJECT_NAME},
    {"8.2.1 CR in a value", {GET, "a|x\ry"}, HTTP2_REJECT_VALUE},
    {"8.2.1 LF in a value", {GET, "a|x\nhost: evil"}, HTTP2_REJECT_VALUE},
    {"8.2.1 leading blank", {GET, "a| x"}, HTTP2_REJECT_VALUE},
    {"8.2.1 trailing tab", {GET, "a|x\t"}, HTTP2_REJECT_VALUE},
    {"8.2.1 line break in a path",
     {":method|GET", ":scheme|https", ":authority|a", ":path|/ HTTP/1.1\r\nx: y"},
     HTTP2_REJECT_VALUE},
    {"8.2.1 blank in a path",
     {":method|GET", ":scheme|https", ":authority|a", ":path|/ HTTP/1.1"},
     HTTP1_REJECT_TARGET},
    {"8.2.1 blank in a method",
     {":method|GET /x HTTP/1.1", ":scheme|https", ":authority|a", ":path|/"},
     HTTP1_REJECT_METHOD},
    {"8.2.1 line break in :authority",
     {":method|GET", ":scheme|https", ":authority|a\r\nx: y", ":path|/"},
     HTTP2_REJECT_VALUE},
    {"8.2.2 connection", {GET, "connection|close"}, HTTP2_REJECT_FIELD},
    {"8.2.2 keep-alive", {GET, "keep-alive|timeout=5"}, HTTP2_REJECT_FIELD},
    {"8.2.2 proxy-connection", {GET, "proxy-connection|close"}, HTTP2_REJECT_FIELD},
    {"8.2.2 transfer-encoding", {GET, "transfer-encoding|chunked"}, HTTP2_REJECT_FIELD},
    {"8.2.2 upgrade", {GET, "upgrade|websocket"}, HTTP2_REJECT_FIELD},
    {"8.2.2 te", {GET, "te|gzip"}, HTTP2_REJECT_FIELD},
    {"8.2.2 te of two", {GET, "te|trailers, gzip"}, HTTP2_REJECT_FIELD},
    {"8.1.1 a length, and no body", {POST, "content-length|5"}, HTTP2_REJECT_LENGTH},
    {"8.1.1 two lengths",
     {POST, "content-length|0", "content-length|0"},
     HTTP1_REJECT_CONTENT_LENGTH_REPEATED},
    {"8.1.1 no length", {POST, "content-length|+5"}, HTTP1_REJECT_CONTENT_LENGTH},
    {"8.3.1 two hosts",
     {":method|GET", ":scheme|https", ":path|/", "host|a", "host|a"},
     HTTP1_REJECT_HOST_REPEATED},
    {"8441 4 :protocol without CONNECT", {GET, ":protocol|websocket"}, HTTP2_REJECT_PSEUDO},
    {"8441 4 no :path",
     {":method|CONNECT", ":protocol|websocket", ":scheme|https", ":authority|a"},
     HTTP2_REJECT_PSEUDO},
    {"8441 4 no :authority",
     {":method|CONNECT", ":protocol|websocket", ":scheme|https", ":path|/"},
     HTTP2_REJECT_PSEUDO},
};

TEST(what_is_malformed_is_refused)
{
    for (size_t i = 0; i < ARRAY_LEN(MALFORMED); i++) {
        enum status status = parse(MALFORMED[i].fields, true);
        if (status != STATUS_INVALID || why != MALFORMED[i].why)
            fail_msg("%s: %s, %s", MALFORMED[i].clause, status_name(status), http1_reject_word(why));
    }
}

// RFC 9113, 8.2.1, of bytes that no C string holds.
TEST(a_nul_is_refused)
{
    http2_head_init(&head, lines, aside, NULL);
    http2_head_add(&head, SLICE(":method"), SLICE("G\0T"));
    assert_int_equal(http2_head_request(&head, true, KEY, &request, &why), STATUS_INVALID);
    assert_int_equal(why, HTTP2_REJECT_VALUE);
}

TEST(a_body_of_trace_is_refused)
{
    const char *const fields[] = {":method|TRACE", ":scheme|http", ":authority|a", ":path|/", NULL};
    assert_int_equal(parse(fields, true), STATUS_OK);
    assert_int_equal(parse(fields, false), STATUS_INVALID);
    assert_int_equal(why, HTTP1_REJECT_TRACE_BODY);
}

// The list has the limits of a head of HTTP/1.
TEST(a_head_that_is_too_long_is_431)
{
    static char value[4096];
    memset(value, 'v', sizeof value - 1);
    http2_head_init(&head, lines, aside, NULL);
    add(":method", "GET");
    add(":scheme", "http");
    add(":path", "/");
    add(":authority", "a");
    for (int i = 0; i < 9; i++)
        add(i % 2 == 0 ? "cookie" : "x", value);
    assert_int_equal(http2_head_request(&head, true, KEY, &request, &why), STATUS_FULL);
    assert_int_equal(why, HTTP1_REJECT_HEAD_LONG);
    http2_head_init(&head, lines, aside, NULL);
    add(":method", "GET");
    add(":scheme", "http");
    add(":path", "/");
    add(":authority", "a");
    for (int i = 0; i < HTTP_FIELDS_MAX + 1; i++)
        add("x", "");
    assert_int_equal(http2_head_request(&head, true, KEY, &request, &why), STATUS_FULL);
    assert_int_equal(why, HTTP1_REJECT_FIELDS_MANY);
}

// RFC 8441, 4 and 5: an extended CONNECT is the upgrade of HTTP/1.1, with a key of ours.
TEST(a_websocket_is_told_as_an_upgrade)
{
    const char *const fields[] = {
        ":method|CONNECT", ":protocol|websocket",      ":scheme|https",       ":authority|a",
        ":path|/chat",     "sec-websocket-version|13", "sec-websocket-key|x", NULL};
    assert_int_equal(parse(fields, false), STATUS_OK);
    assert_int_equal(request.framing, HTTP_FRAMING_NONE);
    expect_slice(request.upgrade, "websocket");
    expect_written(true, "GET /chat HTTP/1.1\r\nHost: a\r\nsec-websocket-version: 13\r\n"
                         "sec-websocket-key: AAECAwQFBgcICQoLDA0ODw==\r\nConnection: upgrade\r\n"
                         "Upgrade: websocket\r\nVia: 2 sluice\r\n\r\n");
    assert_int_equal(parse(fields, true), STATUS_INVALID);
    assert_int_equal(why, HTTP2_REJECT_PSEUDO);
}

TEST(trailers_are_fields)
{
    http2_head_init(&head, lines, NULL, NULL);
    add("checksum", "abc");
    add("content-length", "3");
    assert_int_equal(http2_head_trailers(&head, &request.fields, &why), STATUS_OK);
    assert_int_equal(request.fields.count, 2);
    expect_slice(field("checksum")->value, "abc");
    assert_int_equal(field("content-length")->marks & HTTP_FIELD_HOP, HTTP_FIELD_HOP);
}

// RFC 9113, 8.1: no pseudo-field among them; and all rules of fields.
TEST(trailers_that_are_malformed_are_refused)
{
    static const struct {
        const char *name, *value;
        enum http1_reject why;
    } cases[] = {
        {":path", "/", HTTP2_REJECT_PSEUDO},  {":status", "200", HTTP2_REJECT_PSEUDO},
        {"Big", "x", HTTP1_REJECT_NAME},      {"a", "x\r\ny: z", HTTP2_REJECT_VALUE},
        {"upgrade", "x", HTTP2_REJECT_FIELD},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        http2_head_init(&head, lines, NULL, NULL);
        add(cases[i].name, cases[i].value);
        assert_int_equal(http2_head_trailers(&head, &request.fields, &why), STATUS_INVALID);
        assert_int_equal(why, cases[i].why);
    }
    http2_head_init(&head, lines, NULL, NULL);
    for (int i = 0; i <= HTTP1_TRAILER_FIELDS_MAX; i++)
        add("a", "b");
    assert_int_equal(http2_head_trailers(&head, &request.fields, &why), STATUS_FULL);
}
