// SPDX-License-Identifier: Apache-2.0
// Bodies of all framings out of any fragmentation. Chunk lines and trailers are judged byte by byte and never
// kept but for the trailers the caller gave storage for. A refused body stays refused.
#include "base/check.h"
#include "net/http/http_private.h"

enum body_state {
    BODY_SIZE_FIRST = 0, // the first digit of a chunk size
    BODY_SIZE,
    BODY_SIZE_BLANK, // blanks behind it
    BODY_EXTENSION_NAME_FIRST,
    BODY_EXTENSION_NAME,
    BODY_EXTENSION_NAME_BLANK,
    BODY_EXTENSION_VALUE_FIRST,
    BODY_EXTENSION_VALUE,
    BODY_EXTENSION_QUOTED,
    BODY_EXTENSION_ESCAPED,
    BODY_EXTENSION_QUOTE_END,
    BODY_SIZE_LF,
    BODY_DATA,
    BODY_DATA_CR,
    BODY_DATA_LF,
    BODY_TRAILER_FIRST,
    BODY_TRAILER_NAME,
    BODY_TRAILER_VALUE,
    BODY_TRAILER_LF,
    BODY_LAST_LF,
};

void http1_body_init(struct http1_body *body, enum http_framing framing, uint64_t content_length,
                     const struct http1_limits *limits, char *trailers, size_t trailers_cap)
{
    CHECK(framing != HTTP_FRAMING_AS_RECEIVED && content_length <= HTTP1_BODY_BYTES_MAX);
    if (limits == NULL)
        limits = &http1_limits_default;
    *body = (struct http1_body){
        .framing = (uint8_t)framing,
        .remaining = framing == HTTP_FRAMING_LENGTH ? content_length : 0,
        .trailers = trailers,
        .trailers_cap = trailers != NULL ? trailers_cap : 0,
        .extension_bytes_max = limits->chunk_extension_bytes_max,
        .trailer_bytes_max = limits->trailer_bytes_max,
        .done = framing == HTTP_FRAMING_NONE || (framing == HTTP_FRAMING_LENGTH && content_length == 0),
    };
    if (body->extension_bytes_max > HTTP1_CHUNK_EXTENSION_BYTES_MAX)
        body->extension_bytes_max = HTTP1_CHUNK_EXTENSION_BYTES_MAX;
    if (body->trailer_bytes_max > HTTP1_TRAILER_BYTES_MAX)
        body->trailer_bytes_max = HTTP1_TRAILER_BYTES_MAX;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

// A byte that does not fit where it stands.
static enum http1_reject misfit(char c, enum http1_reject otherwise)
{
    return c == '\n' ? HTTP1_REJECT_BARE_LF : otherwise;
}

static enum http1_reject size_digit(struct http1_body *body, char c)
{
    if (++body->digits > HTTP1_CHUNK_SIZE_DIGITS_MAX || body->remaining > (HTTP1_BODY_BYTES_MAX >> 4))
        return HTTP1_REJECT_CHUNK_SIZE;
    body->remaining = body->remaining << 4 | http_hex_value(c);
    body->state = BODY_SIZE;
    return HTTP1_REJECT_NONE;
}

static enum http1_reject size_byte(struct http1_body *body, char c)
{
    if (http_is(c, HTTP_CLASS_HEX))
        return size_digit(body, c);
    if (body->state == BODY_SIZE_FIRST)
        return misfit(c, HTTP1_REJECT_CHUNK_SIZE);
    if (c == '\r') {
        body->state = BODY_SIZE_LF;
        return HTTP1_REJECT_NONE;
    }
    if (c == ';') {
        body->state = BODY_EXTENSION_NAME_FIRST;
        return HTTP1_REJECT_NONE;
    }
    if (body->blanks && is_blank(c)) {
        body->state = BODY_SIZE_BLANK;
        return HTTP1_REJECT_NONE;
    }
    return misfit(c, HTTP1_REJECT_CHUNK_SIZE);
}

// Blanks stand before and behind ';' and '=', and at the line's end.
static bool extension_blank(struct http1_body *body, char c)
{
    if (!body->blanks || !is_blank(c) || body->state == BODY_EXTENSION_QUOTED ||
        body->state == BODY_EXTENSION_ESCAPED)
        return false;
    if (body->state == BODY_EXTENSION_NAME)
        body->state = BODY_EXTENSION_NAME_BLANK;
    else if (body->state == BODY_EXTENSION_VALUE)
        body->state = BODY_EXTENSION_QUOTE_END;
    return true;
}

// Extensions (RFC 9112 7.1.1) are checked and dropped.
static enum http1_reject extension_move(struct http1_body *body, char c)
{
    bool token = http_is(c, HTTP_CLASS_TOKEN);
    bool named = body->state == BODY_EXTENSION_NAME || body->state == BODY_EXTENSION_NAME_BLANK;
    bool ends = named || body->state == BODY_EXTENSION_VALUE || body->state == BODY_EXTENSION_QUOTE_END ||
                body->state == BODY_SIZE_BLANK;
    if (extension_blank(body, c))
        return HTTP1_REJECT_NONE;
    if (body->state == BODY_EXTENSION_ESCAPED && http_is(c, HTTP_CLASS_VALUE)) {
        body->state = BODY_EXTENSION_QUOTED;
    } else if (body->state == BODY_EXTENSION_QUOTED && http_is(c, HTTP_CLASS_VALUE)) {
        if (c == '"')
            body->state = BODY_EXTENSION_QUOTE_END;
        else if (c == '\\')
            body->state = BODY_EXTENSION_ESCAPED;
    } else if (ends && c == '\r') {
        body->state = BODY_SIZE_LF;
    } else if (ends && c == ';') {
        body->state = BODY_EXTENSION_NAME_FIRST;
    } else if (named && c == '=') {
        body->state = BODY_EXTENSION_VALUE_FIRST;
    } else if (body->state == BODY_EXTENSION_VALUE_FIRST && c == '"') {
        body->state = BODY_EXTENSION_QUOTED;
    } else if (body->state == BODY_EXTENSION_NAME_FIRST && token) {
        body->state = BODY_EXTENSION_NAME;
    } else if (body->state == BODY_EXTENSION_VALUE_FIRST && token) {
        body->state = BODY_EXTENSION_VALUE;
    } else if ((body->state != BODY_EXTENSION_NAME && body->state != BODY_EXTENSION_VALUE) || !token) {
        return misfit(c, HTTP1_REJECT_CHUNK_EXTENSION);
    }
    return HTTP1_REJECT_NONE;
}

static enum http1_reject extension_byte(struct http1_body *body, char c)
{
    if (++body->line_bytes > body->extension_bytes_max ||
        ++body->extensions_total > HTTP1_CHUNK_EXTENSIONS_TOTAL_BYTES_MAX)
        return HTTP1_REJECT_CHUNK_EXTENSION_LONG;
    return extension_move(body, c);
}

static enum http1_reject size_line_end(struct http1_body *body, char c)
{
    if (c != '\n')
        return HTTP1_REJECT_BARE_CR;
    body->line_bytes = 0;
    body->digits = 0;
    if (body->remaining > HTTP1_BODY_BYTES_MAX - body->total)
        return HTTP1_REJECT_BODY_LONG;
    body->state = body->remaining > 0 ? BODY_DATA : BODY_TRAILER_FIRST;
    return HTTP1_REJECT_NONE;
}

static enum http1_reject trailer_first(struct http1_body *body, char c)
{
    if (c == '\r') {
        body->state = BODY_LAST_LF;
        return HTTP1_REJECT_NONE;
    }
    if (is_blank(c))
        return HTTP1_REJECT_FOLD;
    if (!http_is(c, HTTP_CLASS_TOKEN))
        return misfit(c, HTTP1_REJECT_NAME);
    if (++body->trailer_count > HTTP1_TRAILER_FIELDS_MAX)
        return HTTP1_REJECT_FIELDS_MANY;
    body->state = BODY_TRAILER_NAME;
    return HTTP1_REJECT_NONE;
}

static enum http1_reject trailer_move(struct http1_body *body, char c)
{
    if (body->state == BODY_TRAILER_FIRST)
        return trailer_first(body, c);
    if (body->state == BODY_TRAILER_NAME) {
        if (c == ':')
            body->state = BODY_TRAILER_VALUE;
        else if (is_blank(c))
            return HTTP1_REJECT_SPACE_BEFORE_COLON;
        else if (!http_is(c, HTTP_CLASS_TOKEN))
            return misfit(c, HTTP1_REJECT_NAME);
        return HTTP1_REJECT_NONE;
    }
    if (body->state == BODY_TRAILER_VALUE) {
        if (c == '\r')
            body->state = BODY_TRAILER_LF;
        else if (!http_is(c, HTTP_CLASS_VALUE))
            return misfit(c, HTTP1_REJECT_CONTROL);
        return HTTP1_REJECT_NONE;
    }
    if (c != '\n')
        return HTTP1_REJECT_BARE_CR;
    if (body->state == BODY_LAST_LF)
        body->done = true;
    body->state = BODY_TRAILER_FIRST;
    return HTTP1_REJECT_NONE;
}

static enum http1_reject trailer_byte(struct http1_body *body, char c)
{
    if (++body->line_bytes > body->trailer_bytes_max)
        return HTTP1_REJECT_TRAILER_LONG;
    enum http1_reject why = trailer_move(body, c);
    if (why != HTTP1_REJECT_NONE || body->state == BODY_LAST_LF || body->done)
        return why;
    if (body->trailers_len < body->trailers_cap)
        body->trailers[body->trailers_len++] = c;
    else
        body->trailers_cut = true;
    return HTTP1_REJECT_NONE;
}

// Any byte of a chunked body that is not data.
static enum http1_reject chunked_byte(struct http1_body *body, char c)
{
    switch (body->state) {
    case BODY_SIZE_FIRST:
    case BODY_SIZE:
        return size_byte(body, c);
    case BODY_SIZE_LF:
        return size_line_end(body, c);
    case BODY_DATA_CR:
        body->state = BODY_DATA_LF;
        return c == '\r' ? HTTP1_REJECT_NONE : misfit(c, HTTP1_REJECT_CHUNK_END);
    case BODY_DATA_LF:
        body->state = BODY_SIZE_FIRST;
        return c == '\n' ? HTTP1_REJECT_NONE : HTTP1_REJECT_BARE_CR;
    case BODY_TRAILER_FIRST:
    case BODY_TRAILER_NAME:
    case BODY_TRAILER_VALUE:
    case BODY_TRAILER_LF:
    case BODY_LAST_LF:
        return trailer_byte(body, c);
    default:
        return extension_byte(body, c);
    }
}

static enum status body_refused(const struct http1_body *body)
{
    unsigned status = http1_reject_status((enum http1_reject)body->reject);
    return status == 413 || status == 431 ? STATUS_FULL : STATUS_INVALID;
}

// Up to the next data byte, the end of the message or the end of the bytes.
static enum status chunked_lines(struct http1_body *body, const char *data, size_t len, size_t *used)
{
    size_t at = 0;
    while (at < len && body->state != BODY_DATA && !body->done) {
        enum http1_reject why = chunked_byte(body, data[at]);
        if (why != HTTP1_REJECT_NONE) {
            body->reject = (uint8_t)why;
            return body_refused(body);
        }
        at++;
    }
    *used = at;
    return STATUS_OK;
}

enum status http1_body_next(struct http1_body *body, const char *data, size_t len, size_t *consumed,
                            struct slice *payload)
{
    if (body->reject != HTTP1_REJECT_NONE)
        return body_refused(body);
    size_t at = 0;
    size_t take = 0;
    if (body->framing == HTTP_FRAMING_CHUNKED && body->state != BODY_DATA && !body->done) {
        enum status status = chunked_lines(body, data, len, &at);
        if (status != STATUS_OK)
            return status;
    }
    if (!body->done && body->framing == HTTP_FRAMING_UNTIL_CLOSE)
        take = len;
    else if (!body->done)
        take = body->remaining < len - at ? (size_t)body->remaining : len - at;
    // The size still being read stands in remaining too.
    if (body->framing == HTTP_FRAMING_CHUNKED && body->state != BODY_DATA)
        take = 0;
    *payload = (struct slice){take > 0 ? data + at : NULL, take};
    *consumed = at + take;
    body->total += take;
    if (body->framing != HTTP_FRAMING_UNTIL_CLOSE)
        body->remaining -= take;
    if (take > 0 && body->remaining == 0 && body->framing == HTTP_FRAMING_CHUNKED)
        body->state = BODY_DATA_CR;
    if (take > 0 && body->remaining == 0 && body->framing == HTTP_FRAMING_LENGTH)
        body->done = true;
    return take > 0 || body->done ? STATUS_OK : STATUS_AGAIN;
}

enum status http1_body_finish(struct http1_body *body)
{
    if (body->reject != HTTP1_REJECT_NONE)
        return body_refused(body);
    if (body->framing == HTTP_FRAMING_UNTIL_CLOSE)
        body->done = true;
    if (body->done)
        return STATUS_OK;
    body->reject = HTTP1_REJECT_TRUNCATED;
    return STATUS_INVALID;
}

enum status http1_body_trailers(const struct http1_body *body, struct http_fields *out)
{
    CHECK(body->done);
    out->present = 0;
    out->count = 0;
    size_t at = 0;
    while (at < body->trailers_len) {
        const char *line = body->trailers + at;
        const char *cr = memchr(line, '\r', body->trailers_len - at);
        if (cr == NULL || (size_t)(cr - body->trailers) + 1 >= body->trailers_len)
            break; // cut by the storage's end
        struct http_field *field = &out->items[out->count];
        // The lines were judged as they came in, by the same grammar.
        CHECK(http_field_cut(line, (size_t)(cr - line), body->trailers_len - at, field) == HTTP1_REJECT_NONE);
        uint64_t bit = 1ULL << field->id;
        if ((bit & HTTP_FIELDS_NO_TRAILER) != 0)
            field->marks |= HTTP_FIELD_HOP;
        if ((out->present & bit) == 0)
            out->first[field->id] = (uint8_t)out->count;
        out->present |= bit;
        out->count++;
        at = (size_t)(cr - body->trailers) + 2;
    }
    return body->trailers_cut ? STATUS_FULL : STATUS_OK;
}
