// SPDX-License-Identifier: Apache-2.0
// What goes out: heads written from the parsed form, whole texts compared; responses in; answers of our own.
#include "base/check.h"
#include "net/http/http1_write.h"
#include "test.h"

static struct http_request request;
static struct http_response response;
static char bytes[4096];

static struct slice forwarded_request(const char *text, const struct http1_forward *forward)
{
    size_t head_len;
    enum http1_reject why = HTTP1_REJECT_NONE;
    if (http1_request_parse(text, strlen(text), NULL, &request, &head_len, &why) != STATUS_OK)
        fail_msg("refused: %s", http1_reject_word(why));
    struct http1_writer w = http1_writer_over(bytes, sizeof bytes);
    assert_int_equal(http1_write_request_head(&w, &request, forward), STATUS_OK);
    assert_true(w.len <= http1_request_head_bound(&request, forward));
    return (struct slice){bytes, w.len};
}

static struct slice forwarded_response(const char *text, enum http_method method,
                                       const struct http1_forward *forward)
{
    size_t head_len;
    enum http1_reject why = HTTP1_REJECT_NONE;
    if (http1_response_parse(text, strlen(text), NULL, method, &response, &head_len, &why) != STATUS_OK)
        fail_msg("refused: %s", http1_reject_word(why));
    struct http1_writer w = http1_writer_over(bytes, sizeof bytes);
    assert_int_equal(http1_write_response_head(&w, &response, forward), STATUS_OK);
    return (struct slice){bytes, w.len};
}

static void assert_text(struct slice got, const char *wanted)
{
    if (!slice_equal(got, slice_of(wanted)))
        fail_msg("got:\n" SLICE_FMT "wanted:\n%s", SLICE_ARG(got), wanted);
}

static const struct http1_forward nothing = {0};
static const struct http1_forward proxied = {
    .via = {"sluice", 6}, .peer_address = {"9.9.9.9", 7}, .protocol = {"https", 5}};

TEST(request_plain)
{
    assert_text(forwarded_request("GET /a?b HTTP/1.1\r\nX:  1 \r\nHost:a:80\r\nY: 2\r\nZ:\r\n\r\n", &nothing),
                "GET /a?b HTTP/1.1\r\nHost: a:80\r\nX: 1\r\nY: 2\r\nZ: \r\n\r\n");
    assert_text(forwarded_request(
                    "POST http://b/?q HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n", &nothing),
                "POST /?q HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_text(forwarded_request("PUT / HTTP/1.0\r\nHost: a\r\nContent-Length: 007\r\n\r\n", &nothing),
                "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n");
    assert_text(forwarded_request("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &nothing),
                "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
}

TEST(request_hop_by_hop)
{
    assert_text(
        forwarded_request(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-A, Host, Cookie, TE\r\nX-A: 1\r\n"
            "Cookie: c=d\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\nTE: trailers, gzip\r\n"
            "Proxy-Authorization: p\r\nUpgrade: websocket\r\nX_Forwarded_For: 6.6.6.6\r\nX-B: 2\r\n\r\n",
            &nothing),
        "GET / HTTP/1.1\r\nHost: a\r\nCookie: c=d\r\nX-B: 2\r\nConnection: TE\r\nTE: trailers\r\n\r\n");
    const char *upgrade = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    assert_text(forwarded_request(upgrade, &nothing), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    const struct http1_forward pass = {.upgrade = true};
    assert_text(forwarded_request(upgrade, &pass),
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    const struct http1_forward close = {.connection = HTTP1_CONNECTION_CLOSE};
    assert_text(forwarded_request("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &close),
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
}

TEST(request_forwarding_fields)
{
    const char *text =
        "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 v\r\nX-Forwarded-For: 6.6.6.6, 1.1.1.1\r\n"
        "X-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nX-Real-IP: 6.6.6.6\r\n"
        "Forwarded: for=6.6.6.6\r\nX-Sluice-Version: v2\r\n\r\n";
    assert_text(
        forwarded_request(text, &proxied),
        "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 v\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n"
        "Via: 1.1 sluice\r\n\r\n");
    assert_text(forwarded_request(text, &nothing), "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 v\r\n\r\n");
    struct http1_forward trusted = proxied;
    trusted.trusted = true;
    trusted.trusted_hops = 2;
    trusted.keep_sluice = true;
    assert_text(
        forwarded_request(text, &trusted),
        "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 v\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n"
        "X-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Sluice-Version: v2\r\n"
        "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 9.9.9.9\r\nVia: 1.1 sluice\r\n\r\n");
    struct http1_forward rewrite = {.host_replace = {"up", 2},
                                    .target_replace = {"/n", 2},
                                    .peer_address = {"::1", 3},
                                    .protocol = {"http", 4},
                                    .forwarded = true};
    assert_text(forwarded_request("GET /o HTTP/1.0\r\nHost: a:1\r\n\r\n", &rewrite),
                "GET /n HTTP/1.1\r\nHost: up\r\nX-Forwarded-For: ::1\r\nX-Forwarded-Proto: "
                "http\r\nX-Forwarded-Host: a:1\r\n"
                "Forwarded: for=\"[::1]\";proto=http;host=\"a:1\"\r\n\r\n");
}

TEST(forwarded_is_quoted)
{
    static const char *const cases[][3] = {
        {"203.0.113.7", "[2001:db8::1]:80", "for=203.0.113.7;by=_sluice;host=\"[2001:db8::1]:80\""},
        {"2001:db8::7", "a;c=d!$&'()*+", "for=\"[2001:db8::7]\";by=_sluice;host=\"a;c=d!$&'()*+\""},
        {"unix:/run/x", "a", "for=unknown;by=_sluice;host=\"a\""},
        {"", "a%22b", "for=unknown;by=_sluice;host=\"a%22b\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http1_forward forward = {
            .via = SLICE("sluice"), .peer_address = slice_of(cases[i][0]), .forwarded = true};
        char text[200], wanted[200];
        snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", cases[i][1]);
        snprintf(wanted, sizeof wanted, "\r\nForwarded: %s\r\n", cases[i][2]);
        struct slice written = forwarded_request(text, &forward);
        if (memmem(written.data, written.len, wanted, strlen(wanted)) == NULL)
            fail_msg("no %s in\n%.*s", wanted, (int)written.len, written.data);
    }
}

TEST(add_and_strip)
{
    const struct slice strip[] = {SLICE("X-A"), SLICE("cookie")};
    const struct http_field add[] = {{.name = SLICE("X-Sluice-Shadow"), .value = SLICE("1")}};
    const struct http1_forward forward = {.strip = strip,
                                          .strip_count = 2,
                                          .add = add,
                                          .add_count = 1,
                                          .framing = HTTP_FRAMING_LENGTH,
                                          .content_length = 12};
    assert_text(
        forwarded_request(
            "PUT / HTTP/1.1\r\nHost: a\r\nx-a: 1\r\nX-AB: 1\r\nCookie: c\r\nTransfer-Encoding: chunked\r\n"
            "X-Sluice-Shadow: 0\r\n\r\n",
            &forward),
        "PUT / HTTP/1.1\r\nHost: a\r\nX-AB: 1\r\nContent-Length: 12\r\nX-Sluice-Shadow: 1\r\n\r\n");
}

TEST(fit_or_fail)
{
    struct slice whole = forwarded_request("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n", &proxied);
    assert_true(whole.len > 0);
    size_t bound = http1_request_head_bound(&request, &proxied);
    for (size_t cap = 0; cap < bound; cap++) {
        struct http1_writer w = http1_writer_over(bytes, cap);
        assert_int_equal(http1_write_request_head(&w, &request, &proxied), STATUS_FULL);
        assert_int_equal(w.len, 0);
    }
}

TEST(responses)
{
    const char *plain =
        "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 5\r\nConnection: X-A\r\nX-A: 1\r\n\r\n";
    assert_text(forwarded_response(plain, HTTP_METHOD_GET, &proxied),
                "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 5\r\nVia: 1.1 sluice\r\n\r\n");
    assert_true(response.keep_alive && response.framing == HTTP_FRAMING_LENGTH);
    assert_text(forwarded_response(plain, HTTP_METHOD_HEAD, &nothing),
                "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 5\r\n\r\n");
    assert_int_equal(response.framing, HTTP_FRAMING_NONE);
    assert_text(forwarded_response("HTTP/1.0 200\r\n\r\n", HTTP_METHOD_GET, &nothing),
                "HTTP/1.1 200 \r\nConnection: close\r\n\r\n");
    assert_int_equal(response.framing, HTTP_FRAMING_UNTIL_CLOSE);
    assert_false(response.keep_alive);
    const struct http1_forward rechunk = {.framing = HTTP_FRAMING_CHUNKED,
                                          .connection = HTTP1_CONNECTION_KEEP_ALIVE};
    assert_text(forwarded_response("HTTP/1.0 200 \r\n\r\n", HTTP_METHOD_GET, &rechunk),
                "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n");
    assert_text(
        forwarded_response("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", HTTP_METHOD_GET, &rechunk),
        "HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n");
    assert_true(response.keep_alive);
    assert_text(forwarded_response("HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n", HTTP_METHOD_GET, &nothing),
                "HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n");
    assert_text(forwarded_response("HTTP/1.1 100 Continue\r\n\r\n", HTTP_METHOD_GET, &nothing),
                "HTTP/1.1 100 Continue\r\n\r\n");
    assert_true(response.informational);
    const struct http1_forward pass = {.upgrade = true};
    assert_text(forwarded_response("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
                                   HTTP_METHOD_GET, &pass),
                "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_false(response.informational || response.keep_alive);
    // A body where none can be: the connection is not used again.
    forwarded_response("HTTP/1.1 204 N\r\nContent-Length: 3\r\n\r\n", HTTP_METHOD_GET, &nothing);
    assert_false(response.keep_alive);
}

// What origins send though they should not, and only one thing can be meant by.
TEST(response_tolerance)
{
    const struct http1_forward pass = {.upgrade = true};
    assert_text(forwarded_response("HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n", HTTP_METHOD_GET, &pass),
                "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_text(forwarded_response("HTTP/1.1 426 U\r\nUpgrade: a/2\r\nContent-Length: 0\r\n\r\n",
                                   HTTP_METHOD_GET, &pass),
                "HTTP/1.1 426 U\r\nContent-Length: 0\r\nConnection: upgrade\r\nUpgrade: a/2\r\n\r\n");
    assert_text(
        forwarded_response("HTTP/1.1 204 N\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_METHOD_GET, &nothing),
        "HTTP/1.1 204 N\r\n\r\n");
    assert_false(response.keep_alive); // its last chunk may still come
    assert_text(forwarded_response("HTTP/1.1 200 O\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                                   HTTP_METHOD_GET, &nothing),
                "HTTP/1.1 200 O\r\nContent-Length: 5\r\n\r\n");
    assert_int_equal(response.content_length, 5);
    assert_true(response.keep_alive);
    assert_text(forwarded_response("HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n", HTTP_METHOD_GET, &nothing),
                "HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n");
}

TEST(response_refusals)
{
    static const struct {
        const char *text;
        enum http1_reject why;
    } cases[] = {
        {"\r\nHTTP/1.1 200 OK\r\n\r\n", HTTP1_REJECT_LEADING_LINES},
        {"HTTP/1.1\r\n\r\n", HTTP1_REJECT_START_LINE},
        {"HTTP/1.1  200 OK\r\n\r\n", HTTP1_REJECT_STATUS_CODE},
        {"HTTP/1.1 20 OK\r\n\r\n", HTTP1_REJECT_STATUS_CODE},
        {"HTTP/1.1 2000 OK\r\n\r\n", HTTP1_REJECT_STATUS_CODE},
        {"HTTP/1.1 099 OK\r\n\r\n", HTTP1_REJECT_STATUS_CODE},
        {"HTTP/1.1\t200 OK\r\n\r\n", HTTP1_REJECT_START_LINE},
        {"HTTP/2.0 200 OK\r\n\r\n", HTTP1_REJECT_VERSION_UNKNOWN},
        {"ICY 200 OK     \r\n\r\n", HTTP1_REJECT_START_LINE},
        {"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", HTTP1_REJECT_SPACE_BEFORE_COLON},
        {"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", HTTP1_REJECT_FOLD},
        {"HTTP/1.1 200 OK\nA: b\r\n\r\n", HTTP1_REJECT_BARE_LF},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
         HTTP1_REJECT_LENGTH_AND_CODING},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
         HTTP1_REJECT_CONTENT_LENGTH_REPEATED},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", HTTP1_REJECT_CONTENT_LENGTH},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", HTTP1_REJECT_CODING},
        {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP1_REJECT_CODING_VERSION},
        {"HTTP/1.1 103 N\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP1_REJECT_CODING_MISPLACED},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t head_len;
        enum http1_reject why = HTTP1_REJECT_NONE;
        enum status status = http1_response_parse(cases[i].text, strlen(cases[i].text), NULL, HTTP_METHOD_GET,
                                                  &response, &head_len, &why);
        if (status != STATUS_INVALID || why != cases[i].why)
            fail_msg("case %zu: %s, wanted %s", i, http1_reject_word(why), http1_reject_word(cases[i].why));
    }
}

TEST(response_splits)
{
    const char text[] =
        "HTTP/1.1 200 All is well\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
    size_t head_len;
    enum http1_reject why;
    for (size_t cut = 0; cut < sizeof text - 1; cut++)
        assert_int_equal(http1_response_parse(text, cut, NULL, HTTP_METHOD_GET, &response, &head_len, &why),
                         STATUS_AGAIN);
    assert_int_equal(
        http1_response_parse(text, sizeof text - 1, NULL, HTTP_METHOD_GET, &response, &head_len, &why),
        STATUS_OK);
    assert_true(slice_equal(response.reason, SLICE("All is well")));
    assert_int_equal(response.framing, HTTP_FRAMING_CHUNKED);
    assert_int_equal(head_len, sizeof text - 1);
}

TEST(local)
{
    const struct http_field add[] = {{.name = SLICE("Retry-After"), .value = SLICE("1")}};
    struct http_answer local = {
        .status = 503, .body = SLICE("busy\n"), .add = add, .add_count = 1, .close = true};
    struct http1_writer w = http1_writer_over(bytes, sizeof bytes);
    assert_int_equal(http1_write_local(&w, &local), STATUS_OK);
    assert_text(
        (struct slice){bytes, w.len},
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n"
        "Retry-After: 1\r\nConnection: close\r\n\r\nbusy\n");
    local = (struct http_answer){
        .status = 404, .content_type = SLICE("a/b"), .body = SLICE("x"), .head_only = true};
    w = http1_writer_over(bytes, sizeof bytes);
    assert_int_equal(http1_write_local(&w, &local), STATUS_OK);
    assert_text((struct slice){bytes, w.len},
                "HTTP/1.1 404 Not Found\r\nContent-Type: a/b\r\nContent-Length: 1\r\n\r\n");
    local = (struct http_answer){.status = 204, .body = SLICE("x")};
    w = http1_writer_over(bytes, sizeof bytes);
    assert_int_equal(http1_write_local(&w, &local), STATUS_OK);
    assert_text((struct slice){bytes, w.len}, "HTTP/1.1 204 No Content\r\n\r\n");
    w = http1_writer_over(bytes, 20);
    assert_int_equal(http1_write_local(&w, &local), STATUS_FULL);
    assert_true(slice_equal(http_reason_phrase(299), SLICE("Unknown")));
}
