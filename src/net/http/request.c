// SPDX-License-Identifier: Apache-2.0
// Request heads: start line, target forms, Host, and what the fields say of body and connection (RFC 9112 3,
// 6, 9).
#include "base/check.h"
#include "net/http/http_private.h"

#define VERSION_BYTES 8

// RFC 9110 9.2.1.
static bool is_safe(enum http_method method)
{
    return method == HTTP_METHOD_GET || method == HTTP_METHOD_HEAD || method == HTTP_METHOD_OPTIONS ||
           method == HTTP_METHOD_TRACE;
}

bool http_method_idempotent(enum http_method method)
{
    return is_safe(method) || method == HTTP_METHOD_PUT || method == HTTP_METHOD_DELETE;
}

static enum http_method method_of(struct slice name)
{
    if (LIKELY(name.len == 3 && memcmp(name.data, "GET", 3) == 0))
        return HTTP_METHOD_GET;
    static const struct {
        char name[8];
        enum http_method id;
    } methods[] = {
        {"GET", HTTP_METHOD_GET},     {"POST", HTTP_METHOD_POST},       {"HEAD", HTTP_METHOD_HEAD},
        {"PUT", HTTP_METHOD_PUT},     {"DELETE", HTTP_METHOD_DELETE},   {"OPTIONS", HTTP_METHOD_OPTIONS},
        {"PATCH", HTTP_METHOD_PATCH}, {"CONNECT", HTTP_METHOD_CONNECT}, {"TRACE", HTTP_METHOD_TRACE},
    };
    char padded[8] = {0};
    if (name.len > 7)
        return HTTP_METHOD_OTHER;
    for (size_t i = 0; i < name.len; i++)
        padded[i] = name.data[i];
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (http_load64(padded) == http_load64(methods[i].name))
            return methods[i].id;
    return HTTP_METHOD_OTHER;
}

// "HTTP/1.1" or "HTTP/1.0" at text[0..8).
static enum http1_reject version_read(const char *text, uint8_t *minor)
{
    const uint64_t http_1_1 = 0x312e312f50545448ULL;
    uint64_t word = http_load64(text);
    if (word == http_1_1 || word == http_1_1 - (1ULL << 56)) {
        *minor = word == http_1_1;
        return HTTP1_REJECT_NONE;
    }
    bool shaped = memcmp(text, "HTTP/", 5) == 0 && text[5] >= '0' && text[5] <= '9' && text[6] == '.' &&
                  text[7] >= '0' && text[7] <= '9';
    return shaped ? HTTP1_REJECT_VERSION_UNKNOWN : HTTP1_REJECT_VERSION;
}

#if HTTP_HAVE_SSE2
// How many leading bytes, in steps of sixteen, are surely allowed in a path.
static inline size_t path_prefix(struct slice text)
{
    size_t i = 0;
    for (; text.len - i >= 16; i += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(text.data + i));
        // Signed comparison: bytes from 0x80 on are below '!'.
        __m128i bad = _mm_or_si128(_mm_cmplt_epi8(bytes, _mm_set1_epi8('!')),
                                   _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f)));
        bad = _mm_or_si128(bad, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('#')));
        bad = _mm_or_si128(bad, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('?')));
        bad = _mm_or_si128(bad, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')));
        bad = _mm_or_si128(bad, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('<')));
        bad = _mm_or_si128(bad, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('>')));
        bad = _mm_or_si128(bad, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
        unsigned mask = (unsigned)_mm_movemask_epi8(bad);
        if (mask != 0)
            return i + (unsigned)__builtin_ctz(mask);
    }
    return i;
}
#else
static inline size_t path_prefix(struct slice text)
{
    (void)text;
    return 0;
}
#endif

// Visible characters: a blank would end the target, '#' begins what is never sent.
static bool query_is_raw(struct slice query)
{
    for (size_t i = 0; i < query.len; i++)
        if (query.data[i] <= ' ' || query.data[i] > '~' || query.data[i] == '#')
            return false;
    return true;
}

// Path and optional query, every byte judged.
static enum http1_reject path_read(struct slice text, bool query_raw, struct http_request *out)
{
    size_t i = path_prefix(text);
    while (i < text.len && text.data[i] != '?' && http_is(text.data[i], HTTP_CLASS_TARGET))
        i++;
    out->path = (struct slice){text.data, i};
    out->query = (struct slice){NULL, 0};
    if (i == text.len)
        return HTTP1_REJECT_NONE;
    if (text.data[i] != '?')
        return HTTP1_REJECT_TARGET;
    out->query = (struct slice){text.data + i + 1, text.len - i - 1};
    if (http_all(out->query, HTTP_CLASS_QUERY) || (query_raw && query_is_raw(out->query)))
        return HTTP1_REJECT_NONE;
    return HTTP1_REJECT_TARGET;
}

static enum http1_reject absolute_read(struct slice target, bool query_raw, struct http_request *out)
{
    size_t scheme = 0;
    if (target.len > 7 && slice_equal_nocase((struct slice){target.data, 7}, SLICE("http://")))
        scheme = 7;
    else if (target.len > 8 && slice_equal_nocase((struct slice){target.data, 8}, SLICE("https://")))
        scheme = 8;
    else
        return HTTP1_REJECT_TARGET;
    size_t end = scheme;
    while (end < target.len && target.data[end] != '/' && target.data[end] != '?')
        end++;
    out->form = HTTP1_TARGET_ABSOLUTE;
    out->authority = (struct slice){target.data + scheme, end - scheme};
    if (!http_host_read(out->authority, &out->host, &out->port))
        return HTTP1_REJECT_TARGET;
    enum http1_reject why = path_read((struct slice){target.data + end, target.len - end}, query_raw, out);
    if (out->path.len == 0)
        out->path = SLICE("/");
    return why;
}

static enum http1_reject target_read(struct slice target, bool query_raw, struct http_request *out)
{
    out->authority = (struct slice){NULL, 0};
    out->form = HTTP1_TARGET_ORIGIN;
    if (LIKELY(target.data[0] == '/'))
        return path_read(target, query_raw, out);
    if (target.len == 1 && target.data[0] == '*') {
        out->form = HTTP1_TARGET_ASTERISK;
        out->path = target;
        out->query = (struct slice){NULL, 0};
        return out->method_id == HTTP_METHOD_OPTIONS ? HTTP1_REJECT_NONE : HTTP1_REJECT_TARGET;
    }
    return absolute_read(target, query_raw, out);
}

// The version is judged before the target, so that "PRI * HTTP/2.0" is told apart from a bad request.
static enum http1_reject start_line_read(const char *line, size_t len, bool query_raw,
                                         struct http_request *out)
{
    size_t method_len = len > 4 && memcmp(line, "GET ", 4) == 0 ? 3 : 0;
    while (method_len < len && http_is(line[method_len], HTTP_CLASS_TOKEN))
        method_len++;
    if (method_len == 0 || (method_len < len && line[method_len] != ' '))
        return HTTP1_REJECT_METHOD;
    // "GET / HTTP/1.1": at least one byte of target, and a blank on each side of it.
    if (len < method_len + 3 + VERSION_BYTES)
        return HTTP1_REJECT_START_LINE;
    size_t target_end = len - VERSION_BYTES - 1;
    enum http1_reject why = version_read(line + target_end + 1, &out->version_minor);
    if (why != HTTP1_REJECT_NONE)
        return why;
    struct slice target = {line + method_len + 1, target_end - method_len - 1};
    if (line[target_end] != ' ' || target.data[0] == ' ')
        return HTTP1_REJECT_START_LINE;
    if (method_len > HTTP1_METHOD_BYTES_MAX)
        return HTTP1_REJECT_METHOD_LONG;
    out->method = (struct slice){line, method_len};
    out->method_id = method_of(out->method);
    if (out->method_id == HTTP_METHOD_CONNECT)
        return HTTP1_REJECT_CONNECT;
    out->target = target;
    return target_read(target, query_raw, out);
}

static enum http1_reject host_read(struct http_request *out, uint64_t repeated)
{
    const struct http_field *field = http_fields_find(&out->fields, HTTP_FIELD_HOST);
    if ((repeated & http_field_bit(HTTP_FIELD_HOST)) != 0)
        return HTTP1_REJECT_HOST_REPEATED;
    if (field == NULL && out->version_minor > 0)
        return HTTP1_REJECT_HOST_MISSING;
    if (field == NULL) {
        if (out->form != HTTP1_TARGET_ABSOLUTE) {
            out->host = (struct slice){NULL, 0};
            out->port = 0;
        }
        return HTTP1_REJECT_NONE;
    }
    struct slice host;
    uint16_t port;
    if (!http_host_read(field->value, &host, &port))
        return HTTP1_REJECT_HOST;
    // Beside an absolute target Host must be valid, and is then ignored.
    if (out->form != HTTP1_TARGET_ABSOLUTE) {
        out->authority = field->value;
        out->host = host;
        out->port = port;
    }
    return HTTP1_REJECT_NONE;
}

// 100-continue goes on only where an answer to it can come back (RFC 9110 10.1.1).
static enum http1_reject expect_read(struct http_request *out)
{
    for (uint32_t i = out->fields.first[HTTP_FIELD_EXPECT]; i < out->fields.count; i++) {
        struct http_field *field = &out->fields.items[i];
        if (field->id != HTTP_FIELD_EXPECT)
            continue;
        if (!slice_equal_nocase(field->value, SLICE("100-continue")))
            return HTTP1_REJECT_EXPECT;
        if (out->expect_continue || out->version_minor == 0 || out->framing == HTTP_FRAMING_NONE)
            field->marks |= HTTP_FIELD_HOP;
        else
            out->expect_continue = true;
    }
    return HTTP1_REJECT_NONE;
}

// An upgrade to another HTTP would let the next requests pass unseen, so it is ignored, as any server may.
static bool upgrade_tunnels(struct slice value)
{
    struct slice protocol;
    bool any = false;
    if (value.len > HTTP_UPGRADE_BYTES_MAX)
        return false;
    while (http_list_next(&value, &protocol)) {
        for (size_t i = 0; i < protocol.len; i++)
            if (!http_is(protocol.data[i], HTTP_CLASS_TOKEN) && protocol.data[i] != '/')
                return false;
        bool http =
            slice_equal_nocase(protocol, SLICE("h2c")) || slice_equal_nocase(protocol, SLICE("h2")) ||
            (protocol.len >= 4 && slice_equal_nocase((struct slice){protocol.data, 4}, SLICE("HTTP"))) ||
            (protocol.len >= 3 && slice_equal_nocase((struct slice){protocol.data, 3}, SLICE("TLS")));
        if (http)
            return false;
        any = true;
    }
    return any;
}

static void te_read(struct http_request *out)
{
    for (uint32_t i = out->fields.first[HTTP_FIELD_TE]; i < out->fields.count && !out->te_trailers; i++)
        if (out->fields.items[i].id == HTTP_FIELD_TE)
            out->te_trailers = http_list_has(out->fields.items[i].value, SLICE("trailers"));
}

static enum http1_reject facts_read(struct http_request *out, const struct http_head_facts *facts)
{
    struct http_fields *fields = &out->fields;
    enum http1_reject why = host_read(out, facts->repeated);
    if (why != HTTP1_REJECT_NONE)
        return why;
    why =
        http_framing_decide(fields, facts->repeated, out->version_minor, &out->framing, &out->content_length);
    if (why != HTTP1_REJECT_NONE)
        return why;
    if (out->method_id == HTTP_METHOD_TRACE && out->framing != HTTP_FRAMING_NONE)
        return HTTP1_REJECT_TRACE_BODY;
    out->keep_alive = !facts->close && (out->version_minor > 0 || facts->keep_alive);
    out->expect_continue = false;
    out->te_trailers = false;
    out->http2 = false;
    out->upgrade = (struct slice){NULL, 0};
    if (http_fields_have(fields, HTTP_FIELD_TE))
        te_read(out);
    const uint64_t upgrade_bit = http_field_bit(HTTP_FIELD_UPGRADE);
    if (facts->upgrade && (fields->present & upgrade_bit) != 0 && (facts->repeated & upgrade_bit) == 0 &&
        out->version_minor > 0 && out->framing != HTTP_FRAMING_CHUNKED && out->content_length == 0) {
        struct slice value = http_fields_find(fields, HTTP_FIELD_UPGRADE)->value;
        if (upgrade_tunnels(value))
            out->upgrade = value;
    }
    return http_fields_have(fields, HTTP_FIELD_EXPECT) ? expect_read(out) : HTTP1_REJECT_NONE;
}

static enum status refused(enum http1_reject reason, enum http1_reject *why)
{
    *why = reason;
    unsigned status = http1_reject_status(reason);
    return status == 414 || status == 431 || status == 413 ? STATUS_FULL : STATUS_INVALID;
}

enum status http1_request_parse(const char *data, size_t len, const struct http1_limits *limits,
                                struct http_request *out, size_t *head_len, enum http1_reject *why)
{
    struct http_lines lines;
    struct http_head_facts facts;
    if (limits == NULL)
        limits = &http1_limits_default;
    enum status status = http_head_scan(data, len, true, limits, &lines, why);
    if (status != STATUS_OK)
        return status;
    size_t start_len = lines.end[0] - lines.start;
    enum http1_reject reason = start_line_read(data + lines.start, start_len, limits->query_raw, out);
    if (reason == HTTP1_REJECT_NONE)
        reason = http_fields_cut(data, len, &lines, limits, &out->fields, &facts);
    if (reason == HTTP1_REJECT_NONE)
        reason = facts_read(out, &facts);
    if (reason != HTTP1_REJECT_NONE)
        return refused(reason, why);
    *head_len = lines.head_len;
    return STATUS_OK;
}
