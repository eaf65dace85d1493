// SPDX-License-Identifier: Apache-2.0
// Bodies: every framing in every fragmentation, what is refused, trailers, and that bytes after the end stay.
#include "base/check.h"
#include "net/http/http1_write.h"
#include "test.h"

struct outcome {
    enum status status; // of the last call; AGAIN when bytes ran out
    enum http1_reject why;
    char payload[512];
    size_t payload_len;
    size_t consumed;
    struct http1_body body;
    char trailers[256];
};

// Feeds text in pieces of the given size, each in a buffer of its own.
static void feed(struct outcome *o, enum http_framing framing, uint64_t length, struct slice text,
                 size_t first, size_t piece)
{
    *o = (struct outcome){.status = STATUS_AGAIN};
    http1_body_init(&o->body, framing, length, NULL, o->trailers, sizeof o->trailers);
    size_t size = first;
    for (size_t at = 0; at < text.len && !o->body.done;) {
        size_t n = text.len - at < size ? text.len - at : size;
        char exact[512];
        memcpy(exact, text.data + at, n);
        size_t used = 0;
        while (used < n && !o->body.done) {
            struct slice payload;
            size_t consumed = 0;
            o->status = http1_body_next(&o->body, exact + used, n - used, &consumed, &payload);
            if (o->status != STATUS_OK && o->status != STATUS_AGAIN) {
                o->why = (enum http1_reject)o->body.reject;
                return;
            }
            assert_true(consumed <= n - used);
            assert_true(o->status == STATUS_OK ? payload.len > 0 || o->body.done : consumed == n - used);
            memcpy(o->payload + o->payload_len, payload.len > 0 ? payload.data : exact, payload.len);
            o->payload_len += payload.len;
            used += consumed;
            o->consumed += consumed;
        }
        at += n;
        size = piece;
    }
}

static const char chunked[] =
    "5\r\nhello\r\n1;a;b=c;d=\"e\\\"f; \"\r\n \r\n00000A\r\n0123456789\r\n0\r\nX-Sum:  a b \r\nHost: "
    "evil\r\ngrpc-status: 0\r\n\r\n";

TEST(every_split)
{
    static struct outcome o;
    char text[512];
    size_t len = sizeof chunked - 1;
    memcpy(text, chunked, len);
    memcpy(text + len, "GET /", 5);
    for (size_t first = 1; first <= len + 5; first++) {
        for (size_t piece = 1; piece < 40; piece += 13) {
            feed(&o, HTTP_FRAMING_CHUNKED, 0, (struct slice){text, len + 5}, first, piece);
            assert_int_equal(o.status, STATUS_OK);
            assert_true(o.body.done);
            assert_int_equal(o.consumed, len);
            assert_int_equal(o.payload_len, 16);
            assert_memory_equal(o.payload, "hello 0123456789", 16);
            assert_int_equal(o.body.total, 16);
            static struct http_fields trailers;
            assert_int_equal(http1_body_trailers(&o.body, &trailers), STATUS_OK);
            assert_int_equal(trailers.count, 3);
            assert_true(slice_equal(trailers.items[0].value, SLICE("a b")));
            assert_true(trailers.items[1].marks & HTTP_FIELD_HOP);
            assert_int_equal(trailers.items[2].id, HTTP_FIELD_GRPC_STATUS);
            assert_false(trailers.items[2].marks & HTTP_FIELD_HOP);
        }
    }
}

// A message cut short anywhere is never taken for a whole one.
TEST(truncated)
{
    static struct outcome o;
    for (size_t cut = 0; cut < sizeof chunked - 1; cut++) {
        feed(&o, HTTP_FRAMING_CHUNKED, 0, (struct slice){chunked, cut}, 7, 7);
        assert_false(o.body.done);
        assert_int_equal(http1_body_finish(&o.body), STATUS_INVALID);
        assert_int_equal(o.body.reject, HTTP1_REJECT_TRUNCATED);
    }
}

TEST(plain_framings)
{
    static struct outcome o;
    feed(&o, HTTP_FRAMING_LENGTH, 5, SLICE("helloGET"), 2, 2);
    assert_true(o.body.done && o.consumed == 5 && o.payload_len == 5);
    feed(&o, HTTP_FRAMING_LENGTH, 9, SLICE("hello"), 2, 2);
    assert_false(o.body.done);
    assert_int_equal(http1_body_finish(&o.body), STATUS_INVALID);
    feed(&o, HTTP_FRAMING_UNTIL_CLOSE, 0, SLICE("hello"), 2, 2);
    assert_false(o.body.done);
    assert_int_equal(http1_body_finish(&o.body), STATUS_OK);
    assert_true(o.body.done && o.payload_len == 5);
    feed(&o, HTTP_FRAMING_NONE, 0, SLICE("GET"), 2, 2);
    assert_true(o.body.done && o.consumed == 0);
    feed(&o, HTTP_FRAMING_LENGTH, 0, SLICE("GET"), 2, 2);
    assert_true(o.body.done && o.consumed == 0);
    size_t consumed = 7;
    struct slice payload;
    assert_int_equal(http1_body_next(&o.body, "GET", 3, &consumed, &payload), STATUS_OK);
    assert_true(consumed == 0 && payload.len == 0);
}

static const struct {
    struct slice text;
    enum http1_reject why;
} refused[] = {
#define REFUSED(text, why)                                                                                   \
    {                                                                                                        \
        {(text), sizeof(text) - 1}, HTTP1_REJECT_##why                                                       \
    }
    REFUSED("\r\n", CHUNK_SIZE),
    REFUSED("g\r\n", CHUNK_SIZE),
    REFUSED("0x5\r\n", CHUNK_SIZE),
    REFUSED("+5\r\n", CHUNK_SIZE),
    REFUSED("-1\r\n", CHUNK_SIZE),
    REFUSED(" 5\r\n", CHUNK_SIZE),
    REFUSED("5 \r\n", CHUNK_SIZE),
    REFUSED("5\t\r\n", CHUNK_SIZE),
    REFUSED("1_0\r\n", CHUNK_SIZE),
    REFUSED("8000000000000000\r\n", CHUNK_SIZE),
    REFUSED("FFFFFFFFFFFFFFFF0\r\n", CHUNK_SIZE),
    REFUSED("00000000000000005\r\n", CHUNK_SIZE),
    REFUSED("5\nhello\r\n", BARE_LF),
    REFUSED("5\rhello\r\n", BARE_CR),
    REFUSED("5;\r\n", CHUNK_EXTENSION),
    REFUSED("5;a=\r\n", CHUNK_EXTENSION),
    REFUSED("5; a\r\n", CHUNK_EXTENSION),
    REFUSED("5;a =b\r\n", CHUNK_EXTENSION),
    REFUSED("5;a=\"b\r\n", CHUNK_EXTENSION),
    REFUSED("5;a=\"b\"c\r\n", CHUNK_EXTENSION),
    REFUSED("5;bad[=x\r\n", CHUNK_EXTENSION),
    REFUSED("5;\0\r\n", CHUNK_EXTENSION),
    REFUSED("5;a\nhello", BARE_LF),
    REFUSED("5;\nhello", BARE_LF),
    REFUSED("5;a=\"\n", BARE_LF),
    REFUSED("5;a\rX\r\n", BARE_CR),
    REFUSED("1\r\nhh\r\n", CHUNK_END),
    REFUSED("5\r\nhello0\r\n\r\n", CHUNK_END),
    REFUSED("5\r\nhello\n0\r\n", BARE_LF),
    REFUSED("5\r\nhello\r0\r\n", BARE_CR),
    REFUSED("7fffffffffffffff\r\n", NONE),
    REFUSED("0\r\nA : b\r\n\r\n", SPACE_BEFORE_COLON),
    REFUSED("0\r\n: b\r\n\r\n", NAME),
    REFUSED("0\r\nA\r\n\r\n", NAME),
    REFUSED("0\r\n b\r\n\r\n", FOLD),
    REFUSED("0\r\nA: b\r\n c\r\n\r\n", FOLD),
    REFUSED("0\r\nA: b\n\r\n", BARE_LF),
    REFUSED("0\r\nA\nB", BARE_LF),
    REFUSED("0\r\n\n", BARE_LF),
    REFUSED("0\r\n\rx", BARE_CR),
    REFUSED("0\r\nA: b\rc\r\n\r\n", BARE_CR),
    REFUSED("0\r\nA: b\0c\r\n\r\n", CONTROL),
};

TEST(refusals)
{
    static struct outcome o;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        for (size_t piece = 1; piece < 20; piece++) {
            feed(&o, HTTP_FRAMING_CHUNKED, 0, refused[i].text, piece, piece);
            if (o.why != refused[i].why)
                fail_msg("case %zu: %s, wanted %s", i, http1_reject_word(o.why),
                         http1_reject_word(refused[i].why));
        }
        if (o.why == HTTP1_REJECT_NONE)
            continue;
        size_t consumed;
        struct slice payload;
        assert_int_equal(http1_body_next(&o.body, "0\r\n\r\n", 5, &consumed, &payload), STATUS_INVALID);
        assert_int_equal(http1_body_finish(&o.body), STATUS_INVALID);
    }
}

static enum http1_reject with_blanks(const char *text, uint64_t *total)
{
    struct http1_body body;
    size_t at = 0, len = strlen(text);
    http1_body_init(&body, HTTP_FRAMING_CHUNKED, 0, NULL, NULL, 0);
    body.blanks = true;
    while (at < len && !body.done) {
        size_t used;
        struct slice payload;
        enum status status = http1_body_next(&body, text + at, 1, &used, &payload);
        if (status != STATUS_OK && status != STATUS_AGAIN)
            break;
        at += used;
    }
    *total = body.total;
    return (enum http1_reject)body.reject;
}

// From an origin (RFC 9112 7.1.1); what is read there is framed anew.
TEST(blanks_in_chunk_lines)
{
    static const char *const fine[] = {
        "2 ; a = b\r\nhi\r\n0\r\n\r\n",
        "2  \r\nhi\r\n0\t\r\n\r\n",
        "2;a =\t\"b c\" ; d\r\nhi\r\n0\r\n\r\n",
        "2;a \r\nhi\r\n0 ;x=1 \r\n\r\n",
    };
    static const char *const bad[] = {" 2\r\n",      "2 2\r\n", "2;a b\r\n",
                                      "2;a=b c\r\n", "2; \r\n", "2;a= \r\n"};
    uint64_t total;
    for (size_t i = 0; i < ARRAY_LEN(fine); i++) {
        assert_int_equal(with_blanks(fine[i], &total), HTTP1_REJECT_NONE);
        assert_int_equal(total, 2);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_not_equal(with_blanks(bad[i], &total), HTTP1_REJECT_NONE);
    char long_line[600] = "2";
    memset(long_line + 1, ' ', sizeof long_line - 2);
    assert_int_equal(with_blanks(long_line, &total), HTTP1_REJECT_CHUNK_EXTENSION_LONG);
}

static enum http1_reject feed_repeated(struct http1_body *body, const char *piece, size_t times)
{
    for (size_t i = 0; i < times; i++) {
        size_t len = strlen(piece);
        size_t at = 0;
        while (at < len) {
            size_t consumed = 0;
            struct slice payload;
            enum status status = http1_body_next(body, piece + at, len - at, &consumed, &payload);
            if (status != STATUS_OK && status != STATUS_AGAIN) {
                assert_int_equal(status, STATUS_FULL);
                return (enum http1_reject)body->reject;
            }
            at += consumed;
        }
    }
    return HTTP1_REJECT_NONE;
}

TEST(limits)
{
    struct http1_body body;
    http1_body_init(&body, HTTP_FRAMING_CHUNKED, 0, NULL, NULL, 0);
    assert_int_equal(feed_repeated(&body, "1;a", 1), HTTP1_REJECT_NONE);
    assert_int_equal(feed_repeated(&body, "a", HTTP1_CHUNK_EXTENSION_BYTES_MAX),
                     HTTP1_REJECT_CHUNK_EXTENSION_LONG);
    http1_body_init(&body, HTTP_FRAMING_CHUNKED, 0, NULL, NULL, 0);
    assert_int_equal(
        feed_repeated(&body, "1;abcdefg\r\nx\r\n", HTTP1_CHUNK_EXTENSIONS_TOTAL_BYTES_MAX / 8 - 1),
        HTTP1_REJECT_NONE);
    assert_int_equal(feed_repeated(&body, "1;abcdefg\r\nx\r\n", 2), HTTP1_REJECT_CHUNK_EXTENSION_LONG);
    http1_body_init(&body, HTTP_FRAMING_CHUNKED, 0, NULL, NULL, 0);
    assert_int_equal(feed_repeated(&body, "0\r\n", 1), HTTP1_REJECT_NONE);
    assert_int_equal(feed_repeated(&body, "a:\r\n", HTTP1_TRAILER_FIELDS_MAX + 1), HTTP1_REJECT_FIELDS_MANY);
    http1_body_init(&body, HTTP_FRAMING_CHUNKED, 0, NULL, NULL, 0);
    assert_int_equal(feed_repeated(&body, "0\r\na:", 1), HTTP1_REJECT_NONE);
    assert_int_equal(feed_repeated(&body, "b", HTTP1_TRAILER_BYTES_MAX), HTTP1_REJECT_TRAILER_LONG);
    http1_body_init(&body, HTTP_FRAMING_CHUNKED, 0, NULL, NULL, 0);
    assert_int_equal(feed_repeated(&body, "1\r\nx\r\n", 1), HTTP1_REJECT_NONE);
    assert_int_equal(feed_repeated(&body, "7fffffffffffffff\r\n", 1), HTTP1_REJECT_BODY_LONG);
}

// Storage too small for all trailers: the whole ones that fit, and the status says so.
TEST(trailer_storage)
{
    static struct http_fields trailers;
    struct slice text = SLICE("0\r\nA: 1\r\nB: 2\r\n\r\n");
    for (size_t cap = 0; cap <= 12; cap++) {
        char storage[12];
        struct http1_body body;
        size_t consumed = 0;
        struct slice payload;
        http1_body_init(&body, HTTP_FRAMING_CHUNKED, 0, NULL, storage, cap);
        assert_int_equal(http1_body_next(&body, text.data, text.len, &consumed, &payload), STATUS_OK);
        assert_true(body.done);
        assert_int_equal(http1_body_trailers(&body, &trailers), cap < 12 ? STATUS_FULL : STATUS_OK);
        assert_int_equal(trailers.count, cap / 6);
    }
}

TEST(chunk_writing)
{
    char bytes[128];
    struct http1_writer w = http1_writer_over(bytes, sizeof bytes);
    assert_int_equal(http1_write_chunk_header(&w, 1), STATUS_OK);
    assert_int_equal(http1_write_chunk_header(&w, 0x10), STATUS_OK);
    assert_int_equal(http1_write_chunk_header(&w, 0xfedcba9876543210), STATUS_OK);
    assert_int_equal(http1_write_chunk_end(&w), STATUS_OK);
    assert_int_equal(http1_write_chunk(&w, SLICE("hello")), STATUS_OK);
    static struct http_fields trailers;
    assert_int_equal(http_fields_add(&trailers, SLICE("Content-Length"), SLICE("5")), STATUS_OK);
    assert_int_equal(http_fields_add(&trailers, SLICE("X"), SLICE("y")), STATUS_OK);
    assert_int_equal(http1_write_last_chunk(&w, &trailers), STATUS_OK);
    const char wanted[] = "1\r\n10\r\nfedcba9876543210\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n";
    assert_int_equal(w.len, sizeof wanted - 1);
    assert_memory_equal(bytes, wanted, w.len);
    for (size_t cap = 0; cap < 5; cap++) {
        w = http1_writer_over(bytes, cap);
        assert_int_equal(http1_write_last_chunk(&w, NULL), STATUS_FULL);
        assert_int_equal(http1_write_chunk(&w, SLICE("hello")), STATUS_FULL);
        assert_int_equal(http1_write_chunk_header(&w, 0x12345), STATUS_FULL);
        assert_int_equal(w.len, 0);
    }
}
