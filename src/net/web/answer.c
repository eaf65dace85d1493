// SPDX-License-Identifier: Apache-2.0
// Answers: the handler's as the server takes them, with the date.
#include <string.h>
#include <time.h>

#include "net/web/web_private.h"

static char *put(char *at, const char *text, size_t len)
{
    memcpy(at, text, len);
    return at + len;
}

static char *put_two(char *at, int number)
{
    *at++ = (char)('0' + number / 10 % 10);
    *at++ = (char)('0' + number % 10);
    return at;
}

// RFC 9110 5.6.7, written once a second.
static struct slice date_value(struct web *web)
{
    static const char DAYS[] = "SunMonTueWedThuFriSat";
    static const char MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int64_t now_s = io_loop_wall_ms(web->loop) / 1000;
    struct tm utc;
    time_t seconds = now_s;
    if (LIKELY(now_s == web->date_s && web->date_value.len > 0))
        return web->date_value;
    if (gmtime_r(&seconds, &utc) == NULL)
        return SLICE("");
    char *at = put(web->date, DAYS + (size_t)utc.tm_wday * 3, 3);
    at = put_two(put(at, ", ", 2), utc.tm_mday);
    at = put(put(at, " ", 1), MONTHS + (size_t)utc.tm_mon * 3, 3);
    at = put_two(put_two(put(at, " ", 1), (utc.tm_year + 1900) / 100), utc.tm_year + 1900);
    at = put_two(put(at, " ", 1), utc.tm_hour);
    at = put_two(put(at, ":", 1), utc.tm_min);
    at = put_two(put(at, ":", 1), utc.tm_sec);
    at = put(at, " GMT", 4);
    web->date_s = now_s;
    web->date_value = (struct slice){web->date, (size_t)(at - web->date)};
    return web->date_value;
}

// RFC 9110 6.4.1: what never has a body, whatever the handler says.
static bool status_has_body(unsigned status)
{
    return status >= 200 && status != 204 && status != 304;
}

static void add(struct http_fields *fields, struct slice name, struct slice value, uint16_t marks)
{
    CHECK(fields->count < HTTP_FIELDS_MAX);
    fields->items[fields->count++] = (struct http_field){.name = name, .value = value, .marks = marks};
}

// Lines of the handler's, "name: value CRLF" each.
static void add_lines(struct http_fields *fields, struct slice lines)
{
    while (lines.len > 0) {
        const char *colon = memchr(lines.data, ':', lines.len);
        const char *end = memchr(lines.data, '\n', lines.len);
        CHECK(colon != NULL && end != NULL && end - colon > 2);
        struct slice name = {lines.data, (size_t)(colon - lines.data)};
        add(fields, name, (struct slice){colon + 2, (size_t)(end - colon) - 3}, HTTP_FIELD_CONTIGUOUS);
        lines.len -= (size_t)(end + 1 - lines.data);
        lines.data = end + 1;
    }
}

enum status web_trailers_send(struct server_stream *stream, struct slice lines)
{
    struct http_fields *fields = &web_of(stream)->response.fields;
    fields->count = 0;
    fields->present = 0;
    add_lines(fields, lines);
    return server_data_end(stream, fields);
}

bool web_answer_send(struct server_stream *stream, const struct web_answer *answer, bool head_only,
                     bool close)
{
    struct web *web = web_of(stream);
    struct http_response *response = &web->response;
    struct http_fields *fields = &response->fields;
    const struct server_added added = {.close = close};
    bool may = status_has_body(answer->status);
    bool typed = answer->content_type != NULL && may;
    struct slice body = typed ? answer->body : (struct slice){"", 0};
    CHECK(answer->fields.len <= WEB_FIELDS_BYTES_MAX);
    fields->count = 0;
    add(fields, SLICE("Date"), date_value(web), 0);
    if (typed)
        add(fields, SLICE("Content-Type"), slice_of(answer->content_type), 0);
    add_lines(fields, answer->fields);
    bool bare = answer->trailed && body.len == 0 && !answer->stream;
    if (bare)
        add_lines(fields, answer->trailers);
    response->status = (uint16_t)answer->status;
    response->reason = http_reason_phrase(answer->status);
    response->has_content_length = may && !answer->stream && !answer->trailed;
    response->content_length = body.len;
    response->framing = answer->trailed  ? HTTP_FRAMING_CHUNKED
                        : answer->stream ? HTTP_FRAMING_UNTIL_CLOSE
                                         : HTTP_FRAMING_LENGTH;
    if (!may || head_only || bare)
        response->framing = HTTP_FRAMING_NONE;
    enum status status = server_head(stream, response, &added);
    if (status == STATUS_OK && body.len > 0 && !head_only)
        status = server_data(stream, body, NULL);
    if (status == STATUS_OK && answer->trailed && !bare && !answer->stream)
        status = web_trailers_send(stream, answer->trailers);
    CHECK(status != STATUS_INVALID); // the bound on fields keeps a head in a buffer
    if (UNLIKELY(status != STATUS_OK))
        server_reset(stream);
    return status == STATUS_OK;
}

void web_refuse(struct server_stream *stream, unsigned status, const char *sentence)
{
    const struct web_answer answer = {
        .status = status,
        .content_type = "text/plain",
        .fields = SLICE("Cache-Control: no-store\r\n"),
        .body = slice_of(sentence),
    };
    if (web_answer_send(stream, &answer, false, true))
        server_end(stream);
}
