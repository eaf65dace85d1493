// SPDX-License-Identifier: Apache-2.0
// Request heads: every rule of strictness by one message at least, every split position, limits, what the
// fields say.
#include "base/check.h"
#include "base/text.h"
#include "net/http/http1_write.h"
#include "net/http/http_private.h"
#include "test.h"

static struct http_request request;
static size_t head_len;
static enum http1_reject why;

static enum status parse(struct slice text)
{
    why = HTTP1_REJECT_NONE;
    head_len = 0;
    return http1_request_parse(text.data, text.len, NULL, &request, &head_len, &why);
}

#define H "Host: a\r\n"

struct refusal {
    struct slice text;
    enum http1_reject why;
};
#define REFUSED(text, why)                                                                                   \
    {                                                                                                        \
        {(text), sizeof(text) - 1}, HTTP1_REJECT_##why                                                       \
    }

static const struct refusal refusals[] = {
    // Line ends and control characters.
    REFUSED("GET / HTTP/1.1\nHost: a\r\n\r\n", BARE_LF),
    REFUSED("GET / HTTP/1.1\r\nHost: a\n\r\n", BARE_LF),
    REFUSED("GET / HTTP/1.1\r\nHost: a\r\nX: 1\n", BARE_LF),
    REFUSED("GET / HTTP/1.1\r\nHost: a\r\n\n", BARE_LF),
    REFUSED("GET / HTTP/1.1\rHost: a\r\n\r\n", BARE_CR),
    REFUSED("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", BARE_CR),
    REFUSED("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\r\n\r\n", BARE_CR),
    REFUSED("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", CONTROL),
    REFUSED("GET / HTTP/1.1\r\nHost: a\r\nX: a\x7f\r\n\r\n", CONTROL),
    REFUSED("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", CONTROL),
    REFUSED("\x16\x03\x01\x02", CONTROL),
    REFUSED("\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", LEADING_LINES),
    // Start line.
    REFUSED(" GET / HTTP/1.1\r\n" H "\r\n", METHOD),
    REFUSED("G@T / HTTP/1.1\r\n" H "\r\n", METHOD),
    REFUSED("GET\t/ HTTP/1.1\r\n" H "\r\n", METHOD),
    REFUSED("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n" H "\r\n", METHOD_LONG),
    REFUSED("GET\r\n" H "\r\n", START_LINE),
    REFUSED("GET /\r\n" H "\r\n", START_LINE),
    REFUSED("GET HTTP/1.1\r\n" H "\r\n", START_LINE),
    REFUSED("GET  / HTTP/1.1\r\n" H "\r\n", START_LINE),
    REFUSED("GET /  HTTP/1.1\r\n" H "\r\n", TARGET),
    REFUSED("GET / HTTP/1.1 \r\n" H "\r\n", VERSION),
    REFUSED("GET / HTTP/1.1 x\r\n" H "\r\n", VERSION),
    REFUSED("GET / http/1.1\r\n" H "\r\n", VERSION),
    REFUSED("GET / HTTP/01.01\r\n" H "\r\n", VERSION),
    REFUSED("GET /a HTTP/1.\r\n" H "\r\n", VERSION),
    REFUSED("GET /aa HTTP/1\r\n" H "\r\n", VERSION),
    REFUSED("GET / HTTP/1.2\r\n" H "\r\n", VERSION_UNKNOWN),
    REFUSED("GET / HTTP/0.9\r\n" H "\r\n", VERSION_UNKNOWN),
    REFUSED("GET / HTTP/2.0\r\n" H "\r\n", VERSION_UNKNOWN),
    REFUSED("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VERSION_UNKNOWN),
    REFUSED("CONNECT a:443 HTTP/1.1\r\n" H "\r\n", CONNECT),
    REFUSED("GET * HTTP/1.1\r\n" H "\r\n", TARGET),
    REFUSED("OPTIONS ** HTTP/1.1\r\n" H "\r\n", TARGET),
    REFUSED("GET a HTTP/1.1\r\n" H "\r\n", TARGET),
    REFUSED("GET /a#b HTTP/1.1\r\n" H "\r\n", TARGET),
    REFUSED("GET /a\\b HTTP/1.1\r\n" H "\r\n", TARGET),
    REFUSED("GET /a?b#c HTTP/1.1\r\n" H "\r\n", TARGET),
    REFUSED("GET /a b HTTP/1.1\r\n" H "\r\n", TARGET),
    REFUSED("GET /a\tb HTTP/1.1\r\n" H "\r\n", TARGET),
    REFUSED("GET /0123456789abcdef\"x HTTP/1.1\r\n" H "\r\n", TARGET),
    REFUSED("GET /caf\xc3\xa9 HTTP/1.1\r\n" H "\r\n", TARGET),
    REFUSED("GET ftp://a/ HTTP/1.1\r\n" H "\r\n", TARGET),
    REFUSED("GET http:///x HTTP/1.1\r\n" H "\r\n", TARGET),
    REFUSED("GET http://u@a/x HTTP/1.1\r\n" H "\r\n", TARGET),
    // Field lines.
    REFUSED("GET / HTTP/1.1\r\n" H "X : 1\r\n\r\n", SPACE_BEFORE_COLON),
    REFUSED("GET / HTTP/1.1\r\nHost : a\r\n\r\n", SPACE_BEFORE_COLON),
    REFUSED("GET / HTTP/1.1\r\n" H "X\t: 1\r\n\r\n", SPACE_BEFORE_COLON),
    REFUSED("GET / HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n", SPACE_BEFORE_COLON),
    REFUSED("GET / HTTP/1.1\r\n" H "X: 1\r\n 2\r\n\r\n", FOLD),
    REFUSED("GET / HTTP/1.1\r\n" H "X: 1\r\n\t2\r\n\r\n", FOLD),
    REFUSED("GET / HTTP/1.1\r\n " H "\r\n", FOLD),
    REFUSED("GET / HTTP/1.1\r\n \r\n" H "\r\n", FOLD),
    REFUSED("GET / HTTP/1.1\r\n" H ": 1\r\n\r\n", NAME),
    REFUSED("GET / HTTP/1.1\r\n" H "X\r\n\r\n", NAME),
    REFUSED("GET / HTTP/1.1\r\n" H "NoColonInAVeryLongLine\r\n\r\n", NAME),
    REFUSED("GET / HTTP/1.1\r\n" H "Bad[Name: 1\r\n\r\n", NAME),
    REFUSED("GET / HTTP/1.1\r\n" H "Bad@: 1\r\n\r\n", NAME),
    REFUSED("GET / HTTP/1.1\r\n" H "B\xc3\xa4"
            "d: 1\r\n\r\n",
            NAME),
    REFUSED("GET / HTTP/1.1\r\n" H "(comment): 1\r\n\r\n", NAME),
    // Host.
    REFUSED("GET / HTTP/1.1\r\n\r\n", HOST_MISSING),
    REFUSED("GET http://a/ HTTP/1.1\r\n\r\n", HOST_MISSING),
    REFUSED("GET / HTTP/1.1\r\n" H H "\r\n", HOST_REPEATED),
    REFUSED("GET / HTTP/1.0\r\n" H H "\r\n", HOST_REPEATED),
    REFUSED("GET / HTTP/1.1\r\nHost:\r\n\r\n", HOST),
    REFUSED("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", HOST),
    REFUSED("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", HOST),
    REFUSED("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", HOST),
    REFUSED("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", HOST),
    REFUSED("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", HOST),
    REFUSED("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", HOST),
    REFUSED("GET / HTTP/1.1\r\nHost: :80\r\n\r\n", HOST),
    // Body framing.
    REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            LENGTH_AND_CODING),
    REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\nContent-Length: 5\r\n\r\n",
            LENGTH_AND_CODING),
    REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
            CONTENT_LENGTH_REPEATED),
    REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
            CONTENT_LENGTH_REPEATED),
    REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n", CONTENT_LENGTH),
    REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n", CONTENT_LENGTH),
    REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: -0\r\n\r\n", CONTENT_LENGTH),
    REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n", CONTENT_LENGTH),
    REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 1 0\r\n\r\n", CONTENT_LENGTH),
    REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: \r\n\r\n", CONTENT_LENGTH),
    REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 9223372036854775808\r\n\r\n", CONTENT_LENGTH),
    REFUSED("POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551621\r\n\r\n", CONTENT_LENGTH),
    REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n", CODING),
    REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n", CODING),
    REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, gzip\r\n\r\n", CODING),
    REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n", CODING),
    REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: , chunked\r\n\r\n", CODING),
    REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked,\r\n\r\n", CODING),
    REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked;a=b\r\n\r\n", CODING),
    REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", CODING),
    REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: \"chunked\"\r\n\r\n", CODING),
    REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n", CODING),
    REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            CODING),
    REFUSED("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", CODING_UNKNOWN),
    REFUSED("POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", CODING_VERSION),
    REFUSED("TRACE / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", TRACE_BODY),
    // Connection and Expect.
    REFUSED("GET / HTTP/1.1\r\n" H "Connection: a b\r\n\r\n", CONNECTION),
    REFUSED("GET / HTTP/1.1\r\n" H "Connection: close;\r\n\r\n", CONNECTION),
    REFUSED("GET / HTTP/1.1\r\n" H "Expect: 200-ok\r\n\r\n", EXPECT),
};

TEST(refusals)
{
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        enum status status = parse(refusals[i].text);
        if (status != STATUS_INVALID || why != refusals[i].why)
            fail_msg("case %zu: status %s, %s, wanted %s\n" SLICE_FMT, i, status_name(status),
                     http1_reject_word(why), http1_reject_word(refusals[i].why), SLICE_ARG(refusals[i].text));
        unsigned answer = http1_reject_status(why);
        assert_true(answer == 400 || answer == 417 || answer == 501 || answer == 505);
    }
}

TEST(answers)
{
    assert_int_equal(http1_reject_status(HTTP1_REJECT_START_LINE_LONG), 414);
    assert_int_equal(http1_reject_status(HTTP1_REJECT_HEAD_LONG), 431);
    assert_int_equal(http1_reject_status(HTTP1_REJECT_EXPECT), 417);
    assert_int_equal(http1_reject_status(HTTP1_REJECT_CODING_UNKNOWN), 501);
    assert_int_equal(http1_reject_status(HTTP1_REJECT_VERSION_UNKNOWN), 505);
    assert_int_equal(http1_reject_status(HTTP1_REJECT_BODY_LONG), 413);
    for (unsigned i = 0; i < HTTP1_REJECT_COUNT; i++) {
        assert_non_null(http1_reject_text((enum http1_reject)i));
        assert_non_null(http1_reject_word((enum http1_reject)i));
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(http1_reject_word((enum http1_reject)i),
                                    http1_reject_word((enum http1_reject)j));
    }
}

#define TEXT(text)                                                                                           \
    {                                                                                                        \
        (text), sizeof(text) - 1                                                                             \
    }

static const struct slice accepted[] = {
    TEXT("GET / HTTP/1.1\r\n" H "\r\n"),
    TEXT("\r\nGET / HTTP/1.1\r\n" H "\r\n"),
    TEXT("GET / HTTP/1.0\r\n\r\n"),
    TEXT("GET /a/b?c=d&e=?/ HTTP/1.1\r\nHost: a.example:8080\r\nX:\r\nY: \xe4 \t z \r\n\r\n"),
    TEXT("POST /x HTTP/1.1\r\nhOST: [::1]:80\r\nContent-Length: 0005\r\nExpect: 100-Continue\r\n\r\n"),
    TEXT("OPTIONS * HTTP/1.1\r\n" H "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\r\n"),
    TEXT("M-SEARCH http://b:81?q HTTP/1.1\r\n" H "proxy-authorization: x\r\nTE: gzip, Trailers\r\n\r\n"),
    TEXT("PUT /0123456789abcdef0123456789 HTTP/1.1\r\n" H "Transfer-Encoding:  Chunked \r\n\r\n"),
    TEXT("GET /chat HTTP/1.1\r\n" H "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"),
};

static void assert_slice(struct slice got, const char *wanted)
{
    if (!slice_equal(got, slice_of(wanted)))
        fail_msg("got \"" SLICE_FMT "\", wanted \"%s\"", SLICE_ARG(got), wanted);
}

// Every proper prefix is AGAIN; with anything behind it the head is the same.
TEST(splits)
{
    for (size_t i = 0; i < ARRAY_LEN(accepted); i++) {
        struct slice text = accepted[i];
        assert_int_equal(text.len, strlen(text.data));
        for (size_t cut = 0; cut < text.len; cut++) {
            char exact[128];
            memcpy(exact, text.data, cut);
            assert_int_equal(parse((struct slice){exact, cut}), STATUS_AGAIN);
        }
        if (parse(text) != STATUS_OK)
            fail_msg("case %zu: %s", i, http1_reject_word(why));
        assert_int_equal(head_len, text.len);
        uint32_t count = request.fields.count;
        for (unsigned more = 1; more < 80; more++) {
            char longer[256];
            memset(longer, more % 2 ? '\n' : '\0', sizeof longer);
            memcpy(longer, text.data, text.len);
            assert_int_equal(parse((struct slice){longer, text.len + more}), STATUS_OK);
            assert_int_equal(head_len, text.len);
            assert_int_equal(request.fields.count, count);
        }
    }
}

TEST(target_forms)
{
    assert_int_equal(parse(accepted[3]), STATUS_OK);
    assert_slice(request.target, "/a/b?c=d&e=?/");
    assert_slice(request.path, "/a/b");
    assert_slice(request.query, "c=d&e=?/");
    assert_slice(request.host, "a.example");
    assert_int_equal(request.port, 8080);
    assert_slice(request.fields.items[1].value, "");
    assert_slice(request.fields.items[2].value, "\xe4 \t z");
    assert_int_equal(parse(accepted[5]), STATUS_OK);
    assert_int_equal(request.form, HTTP1_TARGET_ASTERISK);
    assert_slice(request.path, "*");
    // The absolute form's authority replaces Host.
    assert_int_equal(parse(accepted[6]), STATUS_OK);
    assert_int_equal(request.form, HTTP1_TARGET_ABSOLUTE);
    assert_int_equal(request.method_id, HTTP_METHOD_OTHER);
    assert_slice(request.method, "M-SEARCH");
    assert_slice(request.authority, "b:81");
    assert_slice(request.path, "/");
    assert_slice(request.query, "q");
    assert_true(request.te_trailers);
    assert_int_equal(parse(accepted[0]), STATUS_OK);
    assert_null(request.query.data);
    assert_int_equal(request.port, 0);
}

TEST(framing)
{
    assert_int_equal(parse(accepted[0]), STATUS_OK);
    assert_int_equal(request.framing, HTTP_FRAMING_NONE);
    assert_int_equal(parse(accepted[4]), STATUS_OK);
    assert_int_equal(request.framing, HTTP_FRAMING_LENGTH);
    assert_int_equal(request.content_length, 5);
    assert_true(request.expect_continue);
    assert_slice(request.host, "[::1]");
    assert_int_equal(request.port, 80);
    assert_int_equal(parse(accepted[7]), STATUS_OK);
    assert_int_equal(request.framing, HTTP_FRAMING_CHUNKED);
    assert_int_equal(parse(SLICE("PUT / HTTP/1.1\r\n" H "content-length: 9223372036854775807\r\n\r\n")),
                     STATUS_OK);
    assert_true(request.content_length == INT64_MAX);
    // An expectation without a body, or from HTTP/1.0, is not passed on.
    assert_int_equal(parse(SLICE("GET / HTTP/1.1\r\n" H "Expect: 100-continue\r\n\r\n")), STATUS_OK);
    assert_false(request.expect_continue);
    assert_true(request.fields.items[1].marks & HTTP_FIELD_HOP);
    assert_int_equal(parse(SLICE("PUT / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")),
                     STATUS_OK);
    assert_false(request.expect_continue);
}

TEST(persistence)
{
    assert_int_equal(parse(SLICE("GET / HTTP/1.1\r\n" H "\r\n")), STATUS_OK);
    assert_true(request.keep_alive);
    assert_int_equal(parse(SLICE("GET / HTTP/1.1\r\n" H "Connection: x,, Close\r\n\r\n")), STATUS_OK);
    assert_false(request.keep_alive);
    assert_int_equal(parse(SLICE("GET / HTTP/1.0\r\n\r\n")), STATUS_OK);
    assert_false(request.keep_alive);
    assert_int_equal(parse(SLICE("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")), STATUS_OK);
    assert_true(request.keep_alive);
    assert_int_equal(
        parse(SLICE("GET / HTTP/1.1\r\n" H "Connection: keep-alive\r\nConnection: close\r\n\r\n")),
        STATUS_OK);
    assert_false(request.keep_alive);
}

TEST(upgrade)
{
    assert_int_equal(parse(accepted[8]), STATUS_OK);
    assert_slice(request.upgrade, "websocket");
    static const struct slice ignored[] = {
        TEXT("GET / HTTP/1.1\r\n" H "Upgrade: websocket\r\n\r\n"),
        TEXT("GET / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
        TEXT("GET / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: a, HTTP/2.0\r\n\r\n"),
        TEXT("PUT / HTTP/1.1\r\n" H
             "Transfer-Encoding: chunked\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n"),
        TEXT("GET / HTTP/1.0\r\n" H "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        TEXT("PUT / HTTP/1.1\r\n" H "Content-Length: 1\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n"),
    };
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++) {
        assert_int_equal(parse(ignored[i]), STATUS_OK);
        assert_int_equal(request.upgrade.len, 0);
    }
}

// Connection takes away what it names, but not what others decide by; an underscore does not smuggle a
// guarded name.
TEST(hop_marks)
{
    assert_int_equal(
        parse(SLICE("GET / HTTP/1.1\r\nConnection: x-a, host, cookie, content-length, x-forwarded-for\r\n" H
                    "X-A: 1\r\nx-A: 2\r\nX-B: 3\r\nCookie: a=b\r\nContent-Length: 0\r\nKeep-Alive: 5\r\n"
                    "Content_Length: 9\r\nX_Forwarded_For: 9\r\nmy_name: 1\r\nTransfer_Encoding: chunked\r\n"
                    "X-Forwarded-For: 1\r\nTrailer: x\r\n\r\n")),
        STATUS_OK);
    static const bool wanted[] = {true, false, true, true,  false, false, false,
                                  true, true,  true, false, true,  false, false};
    assert_int_equal(request.fields.count, ARRAY_LEN(wanted));
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        if (((request.fields.items[i].marks & HTTP_FIELD_HOP) != 0) != wanted[i])
            fail_msg("field %zu: " SLICE_FMT, i, SLICE_ARG(request.fields.items[i].name));
}

static enum status parse_big(const char *before, char fill, size_t count, const char *after)
{
    static char bytes[100000];
    size_t n = strlen(before);
    memcpy(bytes, before, n);
    memset(bytes + n, fill, count);
    memcpy(bytes + n + count, after, strlen(after));
    return parse((struct slice){bytes, n + count + strlen(after)});
}

TEST(limits)
{
    assert_int_equal(parse_big("GET /", 'a', HTTP1_START_LINE_BYTES_MAX - 14, " HTTP/1.1\r\n" H "\r\n"),
                     STATUS_OK);
    assert_int_equal(parse_big("GET /", 'a', HTTP1_START_LINE_BYTES_MAX - 13, " HTTP/1.1\r\n" H "\r\n"),
                     STATUS_FULL);
    assert_int_equal(why, HTTP1_REJECT_START_LINE_LONG);
    assert_int_equal(parse_big("GET /", 'a', HTTP1_START_LINE_BYTES_MAX - 5, ""), STATUS_AGAIN);
    assert_int_equal(parse_big("GET /", 'a', HTTP1_START_LINE_BYTES_MAX - 3, ""), STATUS_FULL);
    assert_int_equal(why, HTTP1_REJECT_START_LINE_LONG);
    const char *start = "GET / HTTP/1.1\r\n" H;
    char line[64];
    snprintf(line, sizeof line, "%sX: ", start);
    assert_int_equal(parse_big(line, 'a', HTTP1_HEAD_BYTES_MAX - 40, "\r\n\r\n"), STATUS_OK);
    assert_int_equal(parse_big(start, 'a', HTTP1_NAME_BYTES_MAX, ":\r\n\r\n"), STATUS_OK);
    assert_int_equal(parse_big(start, 'a', HTTP1_NAME_BYTES_MAX + 1, ":\r\n\r\n"), STATUS_FULL);
    assert_int_equal(why, HTTP1_REJECT_NAME_LONG);
    assert_int_equal(parse_big(line, 'a', HTTP1_HEAD_BYTES_MAX, "\r\n\r\n"), STATUS_FULL);
    assert_int_equal(why, HTTP1_REJECT_HEAD_LONG);
    assert_int_equal(parse_big(line, 'a', HTTP1_HEAD_BYTES_MAX - 29, ""), STATUS_AGAIN);
    assert_int_equal(parse_big(line, 'a', HTTP1_HEAD_BYTES_MAX - 28, ""), STATUS_FULL);
}

// What programs send that do not escape; never what two readers could cut differently.
TEST(raw_queries)
{
    static const char *const fine[] = {"?filter={\"id\":1}", "?a=<b>&c=|^`\\"}, *const bad[] = {"?a#b",
                                                                                                "?a=\"\x80",
                                                                                                "/\"", "/<"};
    struct http1_limits limits = http1_limits_default;
    limits.query_raw = true;
    char text[128];
    for (size_t i = 0; i < 6; i++) {
        const char *target = i < 2 ? fine[i] : bad[i - 2];
        snprintf(text, sizeof text, "GET /%s HTTP/1.1\r\n" H "\r\n", target);
        enum status status = http1_request_parse(text, strlen(text), &limits, &request, &head_len, &why);
        assert_int_equal(status, i < 2 ? STATUS_OK : STATUS_INVALID);
        if (i < 2)
            assert_true(slice_equal(request.query, slice_of(target + 1)));
        assert_int_equal(parse(slice_of(text)), STATUS_INVALID);
    }
}

TEST(field_count)
{
    for (unsigned extra = 0; extra < 2; extra++) {
        char text[2048] = "GET / HTTP/1.1\r\n" H;
        size_t n = strlen(text);
        for (unsigned i = 1; i < HTTP_FIELDS_MAX + extra; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "x%u:\r\n", i);
        memcpy(text + n, "\r\n", 2);
        assert_int_equal(parse((struct slice){text, n + 2}), extra ? STATUS_FULL : STATUS_OK);
        if (extra)
            assert_int_equal(why, HTTP1_REJECT_FIELDS_MANY);
        else
            assert_int_equal(request.fields.count, HTTP_FIELDS_MAX);
    }
    struct http1_limits limits = http1_limits_default;
    limits.value_bytes_max = 3;
    struct slice long_value = SLICE("GET / HTTP/1.1\r\n" H "X: 1234\r\n\r\n");
    assert_int_equal(http1_request_parse(long_value.data, long_value.len, &limits, &request, &head_len, &why),
                     STATUS_FULL);
    assert_int_equal(why, HTTP1_REJECT_VALUE_LONG);
    limits.value_bytes_max = HTTP1_VALUE_BYTES_MAX;
    limits.fields_max = 1;
    struct slice two = SLICE("GET / HTTP/1.1\r\n" H "X: 1\r\n\r\n");
    assert_int_equal(http1_request_parse(two.data, two.len, &limits, &request, &head_len, &why), STATUS_FULL);
    limits.fields_max = 2;
    assert_int_equal(http1_request_parse(two.data, two.len, &limits, &request, &head_len, &why), STATUS_OK);
}

// A head at its limits, written anew with all that is added, fits a buffer of 20 KiB: else a long name alone
// would be answered as if the proxy were out of buffers.
TEST(largest_head_fits)
{
    static char head[HTTP1_HEAD_BYTES_MAX];
    static const size_t host_lens[] = {HTTP_HOST_BYTES_MAX, HTTP_HOST_BYTES_MAX + 1};
    for (size_t i = 0; i < ARRAY_LEN(host_lens); i++) {
        struct text text = text_over(head, sizeof head);
        text_add(&text, SLICE("GET / HTTP/1.1\r\nHost: "));
        for (size_t k = 0; k < host_lens[i]; k++)
            text_add_char(&text, 'a');
        text_add(&text, SLICE("\r\nConnection: upgrade\r\nUpgrade: "));
        for (size_t k = 0; k < HTTP_UPGRADE_BYTES_MAX; k++)
            text_add_char(&text, 'u');
        while (text.len < sizeof head - 256) {
            text_add(&text, SLICE("\r\nX-Name: "));
            for (int k = 0; k < 200; k++)
                text_add_char(&text, 'x');
        }
        text_add(&text, SLICE("\r\n\r\n"));
        assert_false(text.cut);
        enum status status = parse(text_slice(&text));
        if (host_lens[i] > HTTP_HOST_BYTES_MAX) {
            assert_int_equal(status, STATUS_INVALID);
            assert_int_equal(why, HTTP1_REJECT_HOST);
            continue;
        }
        assert_int_equal(status, STATUS_OK);
        assert_int_equal(request.upgrade.len, HTTP_UPGRADE_BYTES_MAX);
        const struct http1_forward forward = {
            .via = SLICE("sluice"), .peer_address = SLICE("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")};
        assert_true(http1_request_head_bound(&request, &forward) <= 36864);
    }
}
