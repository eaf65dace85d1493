// SPDX-License-Identifier: Apache-2.0
// Response heads: status line and framing, which depends on the request's method and on the status (RFC 9112
// 4, 6.3).
#include "net/http/http_private.h"

// "HTTP/1.1 200" is the least; the reason and even the blank before it may be absent, as some origins have
// it.
#define STATUS_LINE_BYTES_MIN 12

static enum http1_reject status_line_read(const char *line, size_t len, struct http_response *out)
{
    const char *digits = line + 9;
    if (len < STATUS_LINE_BYTES_MIN || memcmp(line, "HTTP/", 5) != 0)
        return HTTP1_REJECT_START_LINE;
    if (line[5] != '1' || line[6] != '.' || (line[7] != '0' && line[7] != '1'))
        return HTTP1_REJECT_VERSION_UNKNOWN;
    if (line[8] != ' ')
        return HTTP1_REJECT_START_LINE;
    for (unsigned i = 0; i < 3; i++)
        if (digits[i] < '0' || digits[i] > '9')
            return HTTP1_REJECT_STATUS_CODE;
    if (digits[0] < '1' || (len > STATUS_LINE_BYTES_MIN && digits[3] != ' '))
        return HTTP1_REJECT_STATUS_CODE;
    out->version_minor = (uint8_t)(line[7] - '0');
    out->status = (uint16_t)((digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0'));
    out->reason = (struct slice){NULL, 0};
    if (len > STATUS_LINE_BYTES_MIN + 1)
        out->reason = (struct slice){digits + 4, len - STATUS_LINE_BYTES_MIN - 1};
    return HTTP1_REJECT_NONE;
}

// A length said twice is one where both say the same (RFC 9110 8.6). Only from origins: what is behind us
// reads what we write.
static bool lengths_agree(const struct http_fields *fields)
{
    struct slice first = http_fields_find(fields, HTTP_FIELD_CONTENT_LENGTH)->value;
    for (uint32_t i = 0; i < fields->count; i++)
        if (fields->items[i].id == HTTP_FIELD_CONTENT_LENGTH && !slice_equal(fields->items[i].value, first))
            return false;
    return true;
}

static enum http1_reject response_facts_read(struct http_response *out, const struct http_head_facts *facts,
                                             enum http_method request_method)
{
    struct http_fields *fields = &out->fields;
    const uint64_t length_bit = http_field_bit(HTTP_FIELD_CONTENT_LENGTH);
    uint64_t repeated = facts->repeated;
    if (UNLIKELY((repeated & length_bit) != 0) && lengths_agree(fields))
        repeated &= ~length_bit;
    enum http1_reject why =
        http_framing_decide(fields, repeated, out->version_minor, &out->framing, &out->content_length);
    if (why != HTTP1_REJECT_NONE)
        return why;
    bool never = out->status < 200 || out->status == 204;
    bool none = never || out->status == 304 || request_method == HTTP_METHOD_HEAD;
    bool persists = out->version_minor > 0 || facts->keep_alive;
    // Behind 1xx comes another head: what would then be a chunk could be taken for it.
    if (out->status < 200 && out->framing == HTTP_FRAMING_CHUNKED)
        return HTTP1_REJECT_CODING_MISPLACED;
    // A body on an answer that can have none is dropped; if it was meant, its bytes are still to come.
    if (never && (out->content_length > 0 || out->framing == HTTP_FRAMING_CHUNKED))
        persists = false;
    out->has_content_length = out->framing == HTTP_FRAMING_LENGTH && !never;
    if (none)
        out->framing = HTTP_FRAMING_NONE;
    else if (out->framing == HTTP_FRAMING_NONE)
        out->framing = HTTP_FRAMING_UNTIL_CLOSE;
    out->informational = out->status < 200 && out->status != 101;
    out->keep_alive =
        persists && !facts->close && out->framing != HTTP_FRAMING_UNTIL_CLOSE && out->status != 101;
    out->upgrade = (struct slice){NULL, 0};
    // Connection should name it, but nothing else can be meant.
    if ((out->status == 101 || out->status == 426) && http_fields_have(fields, HTTP_FIELD_UPGRADE))
        out->upgrade = http_fields_find(fields, HTTP_FIELD_UPGRADE)->value;
    return HTTP1_REJECT_NONE;
}

enum status http1_response_parse(const char *data, size_t len, const struct http1_limits *limits,
                                 enum http_method request_method, struct http_response *out, size_t *head_len,
                                 enum http1_reject *why)
{
    struct http_lines lines;
    struct http_head_facts facts;
    if (limits == NULL)
        limits = &http1_limits_default;
    enum status status = http_head_scan(data, len, false, limits, &lines, why);
    if (status != STATUS_OK)
        return status;
    enum http1_reject reason = status_line_read(data, lines.end[0], out);
    if (reason == HTTP1_REJECT_NONE)
        reason = http_fields_cut(data, len, &lines, limits, &out->fields, &facts);
    if (reason == HTTP1_REJECT_NONE)
        reason = response_facts_read(out, &facts, request_method);
    if (reason != HTTP1_REJECT_NONE) {
        *why = reason;
        return STATUS_INVALID;
    }
    *head_len = lines.head_len;
    return STATUS_OK;
}
