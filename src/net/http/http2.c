// SPDX-License-Identifier: Apache-2.0
// Fields of HTTP/2 into the lines of HTTP/1.1 that say the same. Nothing is written that could be read as
// more than one line, or as another field than was sent.
#include "net/http/http2.h"

#include "net/http/http_private.h"

void http2_head_init(struct http2_head *head, char *lines, char *aside, const struct http1_limits *limits)
{
    *head = (struct http2_head){
        .lines = lines, .aside = aside, .limits = limits != NULL ? limits : &http1_limits_default};
}

void http2_head_init_answer(struct http2_head *head, char *lines, const struct http1_limits *limits)
{
    http2_head_init(head, lines, NULL, limits);
    head->answer = true;
}

// ---- writing ----

static void refuse(struct http2_head *head, enum http1_reject why)
{
    if (head->why == HTTP1_REJECT_NONE)
        head->why = (uint16_t)why;
}

static void put(char *storage, uint32_t *len, struct slice text)
{
    CHECK(text.len <= HTTP2_HEAD_BYTES - *len);
    if (text.data != NULL)
        memcpy(storage + *len, text.data, text.len);
    *len += (uint32_t)text.len;
}

static void put_line(struct http2_head *head, struct slice name, struct slice value)
{
    put(head->lines, &head->lines_len, name);
    put(head->lines, &head->lines_len, SLICE(": "));
    put(head->lines, &head->lines_len, value);
    put(head->lines, &head->lines_len, SLICE("\r\n"));
    head->count++;
}

// ---- pseudo-fields (RFC 9113, 8.3) ----

static enum http2_pseudo pseudo_of(struct slice name)
{
    static const char *const NAMES[HTTP2_PSEUDOS] = {
        [HTTP2_PSEUDO_METHOD] = ":method",       [HTTP2_PSEUDO_SCHEME] = ":scheme",
        [HTTP2_PSEUDO_AUTHORITY] = ":authority", [HTTP2_PSEUDO_PATH] = ":path",
        [HTTP2_PSEUDO_PROTOCOL] = ":protocol",
    };
    int i = 0;
    while (i < HTTP2_PSEUDOS && !slice_equal(name, slice_of(NAMES[i])))
        i++;
    return (enum http2_pseudo)i;
}

// RFC 9113, 8.3.2: the one that answers have.
static void add_status(struct http2_head *head, struct slice name, struct slice value)
{
    if (head->fields || head->lines_len > 0 || value.len != 3 || !slice_equal(name, SLICE(":status"))) {
        refuse(head, HTTP2_REJECT_PSEUDO);
        return;
    }
    put(head->lines, &head->lines_len, SLICE("HTTP/1.1 "));
    put(head->lines, &head->lines_len, value);
    put(head->lines, &head->lines_len, SLICE("\r\n"));
}

static void add_pseudo(struct http2_head *head, struct slice name, struct slice value)
{
    if (head->answer) {
        add_status(head, name, value);
        return;
    }
    enum http2_pseudo which = pseudo_of(name);
    if (head->aside == NULL || head->fields || which == HTTP2_PSEUDOS || head->pseudo[which].data != NULL) {
        refuse(head, HTTP2_REJECT_PSEUDO);
        return;
    }
    head->pseudo[which] = (struct slice){head->aside + head->aside_len, value.len};
    put(head->aside, &head->aside_len, value);
}

static bool has(const struct http2_head *head, enum http2_pseudo which)
{
    return head->pseudo[which].data != NULL;
}

bool http2_head_opens(const struct http2_head *head)
{
    return has(head, HTTP2_PSEUDO_PROTOCOL);
}

static bool scheme_known(struct slice scheme)
{
    return slice_equal_nocase(scheme, SLICE("https")) || slice_equal_nocase(scheme, SLICE("http"));
}

// What the pseudo-fields are for the rest to rest on: those that must be are there, and each can be a part of
// a line. The parser judges them further.
static enum http1_reject pseudo_read(const struct http2_head *head)
{
    const struct slice *pseudo = head->pseudo;
    bool connect = slice_equal(pseudo[HTTP2_PSEUDO_METHOD], SLICE("CONNECT"));
    if (!has(head, HTTP2_PSEUDO_METHOD))
        return HTTP2_REJECT_PSEUDO;
    if (connect && !has(head, HTTP2_PSEUDO_PROTOCOL))
        return HTTP1_REJECT_CONNECT;
    if (!has(head, HTTP2_PSEUDO_SCHEME) || !has(head, HTTP2_PSEUDO_PATH))
        return HTTP2_REJECT_PSEUDO;
    if (http2_head_opens(head) && (!connect || !has(head, HTTP2_PSEUDO_AUTHORITY)))
        return HTTP2_REJECT_PSEUDO;
    struct slice path = pseudo[HTTP2_PSEUDO_PATH];
    if (!scheme_known(pseudo[HTTP2_PSEUDO_SCHEME]))
        return HTTP1_REJECT_TARGET;
    if (path.len == 0 || (path.data[0] != '/' && !slice_equal(path, SLICE("*"))))
        return HTTP1_REJECT_TARGET;
    return http_token_valid(pseudo[HTTP2_PSEUDO_METHOD]) ? HTTP1_REJECT_NONE : HTTP1_REJECT_METHOD;
}

// The start line and Host, once: no pseudo-field follows.
static void begin_lines(struct http2_head *head)
{
    const struct slice *pseudo = head->pseudo;
    if (head->fields || (head->aside == NULL && !head->answer))
        return;
    head->fields = true;
    if (head->answer) {
        if (head->lines_len == 0)
            refuse(head, HTTP2_REJECT_PSEUDO);
        return;
    }
    head->cookies_at = head->aside_len;
    enum http1_reject why = pseudo_read(head);
    if (why != HTTP1_REJECT_NONE) {
        refuse(head, why);
        return;
    }
    bool opens = http2_head_opens(head);
    put(head->lines, &head->lines_len, opens ? SLICE("GET") : pseudo[HTTP2_PSEUDO_METHOD]);
    put(head->lines, &head->lines_len, SLICE(" "));
    put(head->lines, &head->lines_len, pseudo[HTTP2_PSEUDO_PATH]);
    put(head->lines, &head->lines_len, SLICE(" HTTP/1.1\r\n"));
    if (has(head, HTTP2_PSEUDO_AUTHORITY))
        put_line(head, SLICE("host"), pseudo[HTTP2_PSEUDO_AUTHORITY]);
    if (opens)
        put_line(head, SLICE("upgrade"), pseudo[HTTP2_PSEUDO_PROTOCOL]);
}

// ---- fields ----

// RFC 9113, 8.2.2: what speaks of a connection of HTTP/1.
static bool connection_specific(enum http_field_id id, struct slice value)
{
    const uint64_t never = http_field_bit(HTTP_FIELD_CONNECTION) |
                           http_field_bit(HTTP_FIELD_PROXY_CONNECTION) |
                           http_field_bit(HTTP_FIELD_KEEP_ALIVE) | http_field_bit(HTTP_FIELD_UPGRADE) |
                           http_field_bit(HTTP_FIELD_TRANSFER_ENCODING);
    return (http_field_bit(id) & never) != 0 ||
           (id == HTTP_FIELD_TE && !slice_equal_nocase(value, SLICE("trailers")));
}

// RFC 9113, 8.2.1.
static bool name_valid(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.data[i] >= 'A' && name.data[i] <= 'Z')
            return false;
    return http_token_valid(name);
}

// RFC 9113, 8.2.3: the pieces of Cookie are one field for whoever is behind us.
static void add_cookie(struct http2_head *head, struct slice value)
{
    if (head->aside_len > head->cookies_at)
        put(head->aside, &head->aside_len, SLICE("; "));
    put(head->aside, &head->aside_len, value);
}

// Whoever repeats it is judged by the parser.
static void note_length(struct http2_head *head, struct slice value)
{
    head->sized = true;
    if (head->answer && http_content_length_read(value, &head->length) != HTTP1_REJECT_NONE)
        refuse(head, HTTP1_REJECT_CONTENT_LENGTH);
}

static void add_field(struct http2_head *head, struct slice name, struct slice value)
{
    enum http_field_id id = http_field_id_of(name);
    if (!name_valid(name)) {
        refuse(head, HTTP1_REJECT_NAME);
        return;
    }
    if (connection_specific(id, value)) {
        refuse(head, HTTP2_REJECT_FIELD);
        return;
    }
    begin_lines(head);
    if (head->why != HTTP1_REJECT_NONE)
        return;
    bool opens = http2_head_opens(head);
    if (opens && slice_equal(name, SLICE("sec-websocket-key")))
        return; // ours is written
    if (id == HTTP_FIELD_COOKIE && head->aside != NULL) {
        add_cookie(head, value);
    } else if (id == HTTP_FIELD_HOST && has(head, HTTP2_PSEUDO_AUTHORITY)) {
        // RFC 9113, 8.3.1: it may only say the same.
        if (!slice_equal_nocase(value, head->pseudo[HTTP2_PSEUDO_AUTHORITY]))
            refuse(head, HTTP2_REJECT_AUTHORITY);
    } else {
        if (id == HTTP_FIELD_CONTENT_LENGTH)
            note_length(head, value);
        put_line(head, name, value);
    }
}

void http2_head_add(struct http2_head *head, struct slice name, struct slice value)
{
    bool trailers = head->aside == NULL && !head->answer;
    uint32_t most = trailers ? HTTP1_TRAILER_BYTES_MAX : HTTP1_HEAD_BYTES_MAX;
    uint32_t limit = trailers ? head->limits->trailer_bytes_max : head->limits->head_bytes_max;
    most = limit < most ? limit : most;
    if (head->why != HTTP1_REJECT_NONE)
        return;
    size_t bytes = name.len + value.len + 4;
    if (bytes > most - head->bytes || (trailers && head->count >= HTTP1_TRAILER_FIELDS_MAX)) {
        refuse(head, trailers ? HTTP1_REJECT_TRAILER_LONG : HTTP1_REJECT_HEAD_LONG);
        return;
    }
    head->bytes += (uint32_t)bytes;
    if (!http_value_valid(value))
        refuse(head, HTTP2_REJECT_VALUE);
    else if (name.len > 0 && name.data[0] == ':')
        add_pseudo(head, name, value);
    else
        add_field(head, name, value);
}

// ---- the end ----

// The lines that no field of the client's stands for.
static void end_lines(struct http2_head *head, bool ended, struct slice key)
{
    struct slice cookies = {head->aside + head->cookies_at, head->aside_len - head->cookies_at};
    bool opens = http2_head_opens(head);
    if (cookies.len > 0)
        put_line(head, SLICE("cookie"), cookies);
    if (opens)
        put_line(head, SLICE("connection"), SLICE("upgrade"));
    if (opens && slice_equal_nocase(head->pseudo[HTTP2_PSEUDO_PROTOCOL], SLICE("websocket")))
        put_line(head, SLICE("sec-websocket-key"), key);
    if (!opens && !ended && !head->sized)
        put_line(head, SLICE("transfer-encoding"), SLICE("chunked"));
    put(head->lines, &head->lines_len, SLICE("\r\n"));
}

static enum status refused(enum http1_reject reason, enum http1_reject *why)
{
    *why = reason;
    return http1_reject_status(reason) == 431 ? STATUS_FULL : STATUS_INVALID;
}

enum status http2_head_request(struct http2_head *head, bool ended, struct slice key,
                               struct http_request *out, enum http1_reject *why)
{
    size_t head_len;
    begin_lines(head);
    if (head->why == HTTP1_REJECT_NONE)
        end_lines(head, ended, key);
    if (head->why != HTTP1_REJECT_NONE)
        return refused((enum http1_reject)head->why, why);
    enum status status = http1_request_parse(head->lines, head->lines_len, head->limits, out, &head_len, why);
    if (status != STATUS_OK)
        return status == STATUS_AGAIN ? refused(HTTP1_REJECT_HEAD_LONG, why) : status;
    bool opens = http2_head_opens(head);
    if (opens && (out->upgrade.len == 0 || ended))
        return refused(HTTP2_REJECT_PSEUDO, why);
    if (ended && out->framing == HTTP_FRAMING_LENGTH && out->content_length > 0)
        return refused(HTTP2_REJECT_LENGTH, why);
    out->http2 = true;
    return STATUS_OK;
}

// RFC 9113, 8.1: what is informational ends nothing, and 101 does not exist (8.6).
static bool status_fits(const char *digits, bool ended)
{
    return digits[0] != '1' || (!ended && memcmp(digits, "101", 3) != 0);
}

enum status http2_head_answer(struct http2_head *head, bool ended, enum http_method method, unsigned *status,
                              enum http1_reject *why)
{
    begin_lines(head);
    const char *digits = head->lines + sizeof "HTTP/1.1 " - 1;
    if (head->why == HTTP1_REJECT_NONE && !status_fits(digits, ended))
        refuse(head, HTTP2_REJECT_PSEUDO);
    if (head->why != HTTP1_REJECT_NONE)
        return refused((enum http1_reject)head->why, why);
    *status =
        (unsigned)(digits[0] - '0') * 100 + (unsigned)(digits[1] - '0') * 10 + (unsigned)(digits[2] - '0');
    bool never = *status < 200 || *status == 204 || *status == 304 || method == HTTP_METHOD_HEAD;
    if (ended && head->sized && head->length > 0 && !never)
        return refused(HTTP2_REJECT_LENGTH, why);
    if (ended && !head->sized && !never)
        put_line(head, SLICE("content-length"), SLICE("0"));
    put(head->lines, &head->lines_len, SLICE("\r\n"));
    return STATUS_OK;
}

enum status http2_head_trailers(const struct http2_head *head, struct http_fields *out,
                                enum http1_reject *why)
{
    const struct http1_body body = {.done = true, .trailers = head->lines, .trailers_len = head->lines_len};
    if (head->why != HTTP1_REJECT_NONE)
        return refused((enum http1_reject)head->why, why);
    return http1_body_trailers(&body, out);
}
