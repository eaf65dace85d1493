// SPDX-License-Identifier: Apache-2.0
// Bytes out. A head is written straight into the buffer, its body behind it; a body may run over several.
#include <string.h>
#include <time.h>

#include "net/http/http1_write.h"
#include "net/web/web_private.h"

static void hand_over(struct web_connection *c)
{
    struct io_buf *buf = c->out;
    c->out = NULL;
    c->written += io_buf_len(buf);
    io_stream_send(&c->stream, buf);
}

void web_out_flush(struct web_connection *c, bool always)
{
    if (c->out != NULL && (always || io_stream_pending(&c->stream) == 0))
        hand_over(c);
}

// Makes `out` a buffer with that much room.
static bool make_room(struct web_connection *c, uint32_t bytes)
{
    if (LIKELY(c->out != NULL)) {
        if (LIKELY(io_buf_room(c->out) >= bytes))
            return true;
        hand_over(c);
    }
    c->out = io_buf_get(c->web->loop);
    if (LIKELY(c->out != NULL))
        return true;
    web_connection_close(c);
    return false;
}

bool web_out_add(struct web_connection *c, struct slice bytes)
{
    while (bytes.len > 0) {
        if (!make_room(c, 1))
            return false;
        size_t n = bytes.len < io_buf_room(c->out) ? bytes.len : io_buf_room(c->out);
        memcpy(c->out->data + c->out->end, bytes.data, n);
        c->out->end += (uint32_t)n;
        bytes.data += n;
        bytes.len -= n;
    }
    return true;
}

void web_unsent_count(struct web_connection *c)
{
    uint32_t unsent = web_unsent(c);
    c->web->memory += unsent;
    c->web->memory -= c->counted;
    c->counted = unsent;
}

// ---- heads ----

static char *put(char *at, struct slice text)
{
    memcpy(at, text.data, text.len);
    return at + text.len;
}

static char *put_number(char *at, uint64_t number)
{
    char digits[20];
    size_t n = sizeof digits;
    do
        digits[--n] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return put(at, (struct slice){digits + n, sizeof digits - n});
}

static char *put_two(char *at, int number)
{
    *at++ = (char)('0' + number / 10 % 10);
    *at++ = (char)('0' + number % 10);
    return at;
}

// RFC 9110 5.6.7, written once a second.
static struct slice date_line(struct web *web)
{
    static const char DAYS[] = "SunMonTueWedThuFriSat";
    static const char MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int64_t now_s = io_loop_wall_ms(web->loop) / 1000;
    struct tm utc;
    time_t seconds = now_s;
    if (LIKELY(now_s == web->date_s && web->date_line.len > 0))
        return web->date_line;
    if (gmtime_r(&seconds, &utc) == NULL)
        return SLICE("");
    char *at = put(web->date, SLICE("Date: "));
    at = put(at, (struct slice){DAYS + (size_t)utc.tm_wday * 3, 3});
    at = put(at, SLICE(", "));
    at = put_two(at, utc.tm_mday);
    *at++ = ' ';
    at = put(at, (struct slice){MONTHS + (size_t)utc.tm_mon * 3, 3});
    *at++ = ' ';
    at = put_two(put_two(at, (utc.tm_year + 1900) / 100), utc.tm_year + 1900);
    *at++ = ' ';
    at = put_two(at, utc.tm_hour);
    *at++ = ':';
    at = put_two(at, utc.tm_min);
    *at++ = ':';
    at = put_two(at, utc.tm_sec);
    at = put(at, SLICE(" GMT\r\n"));
    web->date_s = now_s;
    web->date_line = (struct slice){web->date, (size_t)(at - web->date)};
    return web->date_line;
}

static char *put_status(char *at, unsigned status)
{
    if (LIKELY(status == 200))
        return put(at, SLICE("HTTP/1.1 200 OK\r\n"));
    at = put_number(put(at, SLICE("HTTP/1.1 ")), status);
    *at++ = ' ';
    return put(put(at, http_reason_phrase(status)), SLICE("\r\n"));
}

// RFC 9110 6.4.1: what never has a body, whatever the handler says.
static bool status_has_body(unsigned status)
{
    return status >= 200 && status != 204 && status != 304;
}

static void write_head(struct web_connection *c, const struct web_answer *answer, struct slice type,
                       size_t body_len)
{
    char *begin = (char *)c->out->data + c->out->end;
    char *at = put(put_status(begin, answer->status), date_line(c->web));
    if (type.len > 0)
        at = put(put(put(at, SLICE("Content-Type: ")), type), SLICE("\r\n"));
    if (answer->fields.len > 0)
        at = put(at, answer->fields);
    if (status_has_body(answer->status) && !answer->stream)
        at = put(put_number(put(at, SLICE("Content-Length: ")), body_len), SLICE("\r\n"));
    if (!c->keep_alive)
        at = put(at, SLICE("Connection: close\r\n"));
    else if (c->say_keep_alive)
        at = put(at, SLICE("Connection: keep-alive\r\n"));
    at = put(at, SLICE("\r\n"));
    c->out->end += (uint32_t)(at - begin);
}

bool web_answer_send(struct web_connection *c, const struct web_answer *answer)
{
    struct slice type = {"", 0};
    struct slice body = {"", 0};
    CHECK(answer->fields.len <= WEB_FIELDS_BYTES_MAX);
    if (answer->content_type != NULL && status_has_body(answer->status)) {
        type = slice_of(answer->content_type);
        body = answer->body;
        CHECK(type.len <= WEB_TYPE_BYTES_MAX);
    }
    if (!make_room(c, WEB_HEAD_BYTES + (uint32_t)answer->fields.len))
        return false;
    write_head(c, answer, type, body.len);
    return c->head_only || web_out_add(c, body);
}

void web_refuse(struct web_connection *c, unsigned status, const char *sentence)
{
    struct web_answer answer = {
        .status = status,
        .content_type = "text/plain",
        .fields = SLICE("Cache-Control: no-store\r\n"),
        .body = slice_of(sentence),
    };
    c->web->stats.refused++;
    c->keep_alive = false;
    c->head_only = false;
    if (web_answer_send(c, &answer))
        web_connection_finish(c);
}
