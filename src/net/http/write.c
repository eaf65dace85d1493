// SPDX-License-Identifier: Apache-2.0
// Heads, chunks and small answers out. Room is checked once against an upper bound, then everything is put
// without further looking. Field lines that already lie in the input as we would write them are copied as one
// run.
#include "base/check.h"
#include "net/http/http_private.h"

#include "net/http/http1_write.h"

// Start line, Host, Via, framing, Connection, Upgrade, X-Forwarded-*, Forwarded: names, fixed texts and
// numbers.
#define HEAD_FIXED_BYTES 512
#define DECIMAL_BYTES_MAX 20

static inline char *put(char *at, struct slice text)
{
    if (text.len > 0)
        memcpy(at, text.data, text.len);
    return at + text.len;
}

#define PUT(at, literal) put((at), SLICE(literal))

static inline char *put_field(char *at, struct slice name, struct slice value)
{
    at = put(at, name);
    at = PUT(at, ": ");
    at = put(at, value);
    return PUT(at, "\r\n");
}

static char *put_decimal(char *at, uint64_t number)
{
    char digits[DECIMAL_BYTES_MAX];
    size_t n = sizeof digits;
    do {
        digits[--n] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return put(at, (struct slice){digits + n, sizeof digits - n});
}

static size_t fields_bound(const struct http_field *fields, size_t count)
{
    size_t bound = 0;
    for (size_t i = 0; i < count; i++)
        bound += fields[i].name.len + fields[i].value.len + 4;
    return bound;
}

static size_t forward_bound(const struct http1_forward *forward)
{
    return 2 * forward->via.len + 2 * forward->peer_address.len + 2 * forward->protocol.len +
           fields_bound(forward->add, forward->add_count);
}

size_t http1_request_head_bound(const struct http_request *request, const struct http1_forward *forward)
{
    return HEAD_FIXED_BYTES + request->method.len + request->target.len + forward->target_replace.len +
           3 * request->authority.len + forward->host_replace.len + request->upgrade.len +
           forward_bound(forward) + fields_bound(request->fields.items, request->fields.count);
}

static size_t response_head_bound(const struct http_response *response, const struct http1_forward *forward)
{
    return HEAD_FIXED_BYTES + response->reason.len + response->upgrade.len + forward_bound(forward) +
           fields_bound(response->fields.items, response->fields.count);
}

static bool stripped(struct slice name, const struct http1_forward *forward)
{
    for (size_t i = 0; i < forward->strip_count; i++)
        if (slice_equal_nocase(name, forward->strip[i]))
            return true;
    return false;
}

// The received fields that go on. drop: ids that do not.
static char *put_fields(char *at, const struct http_fields *fields, uint64_t drop,
                        const struct http1_forward *forward)
{
    struct slice run = {NULL, 0};
    for (uint32_t i = 0; i < fields->count; i++) {
        const struct http_field *field = &fields->items[i];
        if ((1ULL << field->id & drop) != 0 || (field->marks & HTTP_FIELD_HOP) != 0)
            continue;
        if (UNLIKELY(forward->strip_count > 0) && stripped(field->name, forward))
            continue;
        size_t line_len = field->name.len + field->value.len + 4;
        if (LIKELY((field->marks & HTTP_FIELD_CONTIGUOUS) != 0)) {
            if (run.len > 0 && run.data + run.len == field->name.data) {
                run.len += line_len;
                continue;
            }
            at = put(at, run);
            run = (struct slice){field->name.data, line_len};
            continue;
        }
        at = put(at, run);
        run.len = 0;
        at = put_field(at, field->name, field->value);
    }
    return put(at, run);
}

static char *put_framing(char *at, uint8_t framing, uint64_t content_length)
{
    if (framing == HTTP_FRAMING_CHUNKED)
        return PUT(at, "Transfer-Encoding: chunked\r\n");
    if (framing != HTTP_FRAMING_LENGTH)
        return at;
    at = PUT(at, "Content-Length: ");
    at = put_decimal(at, content_length);
    return PUT(at, "\r\n");
}

static char *put_connection(char *at, uint8_t connection, struct slice upgrade, bool te_trailers)
{
    if (upgrade.len > 0)
        at = put_field(PUT(at, "Connection: upgrade\r\n"), SLICE("Upgrade"), upgrade);
    if (te_trailers)
        at = PUT(at, "Connection: TE\r\nTE: trailers\r\n");
    if (connection == HTTP1_CONNECTION_CLOSE)
        return PUT(at, "Connection: close\r\n");
    return connection == HTTP1_CONNECTION_KEEP_ALIVE ? PUT(at, "Connection: keep-alive\r\n") : at;
}

static char *put_end(char *at, uint8_t version_minor, bool http2, const struct http1_forward *forward)
{
    if (forward->via.len > 0) {
        if (UNLIKELY(http2))
            at = PUT(at, "Via: 2 ");
        else
            at = version_minor > 0 ? PUT(at, "Via: 1.1 ") : PUT(at, "Via: 1.0 ");
        at = put(at, forward->via);
        at = PUT(at, "\r\n");
    }
    for (size_t i = 0; i < forward->add_count; i++)
        at = put_field(at, forward->add[i].name, forward->add[i].value);
    return PUT(at, "\r\n");
}

static char *put_target(char *at, const struct http_request *request, const struct http1_forward *forward)
{
    if (forward->target_replace.len > 0)
        return put(at, forward->target_replace);
    if (request->form == HTTP1_TARGET_ORIGIN)
        return put(at, request->target);
    at = put(at, request->path);
    return request->query.data != NULL ? put(PUT(at, "?"), request->query) : at;
}

// The last `keep` entries of all X-Forwarded-For fields, in order, each followed by ", ".
static char *put_forwarded_for_kept(char *at, const struct http_fields *fields, unsigned keep)
{
    unsigned total = 0;
    struct slice entry;
    for (int pass = 0; pass < 2; pass++) {
        unsigned seen = 0;
        for (uint32_t i = fields->first[HTTP_FIELD_X_FORWARDED_FOR]; i < fields->count; i++) {
            struct slice rest = fields->items[i].value;
            if (fields->items[i].id != HTTP_FIELD_X_FORWARDED_FOR)
                continue;
            while (http_list_next(&rest, &entry)) {
                if (pass == 1 && total - seen <= keep)
                    at = PUT(put(at, entry), ", ");
                seen++;
            }
        }
        total = seen;
    }
    return at;
}

static bool begins_unix(struct slice address)
{
    return address.len >= 5 && memcmp(address.data, "unix:", 5) == 0;
}

// RFC 7239: an IPv6 address is quoted and bracketed (6), a host is quoted (4), and no host of ours can hold a
// quote or a backslash. What we are called by is no address (6.3).
static char *put_forwarded(char *at, const struct http_request *request, const struct http1_forward *forward)
{
    bool known = forward->peer_address.len > 0 && !begins_unix(forward->peer_address);
    bool ipv6 = known && memchr(forward->peer_address.data, ':', forward->peer_address.len) != NULL;
    at = PUT(at, "Forwarded: for=");
    if (!known)
        at = PUT(at, "unknown");
    else if (ipv6)
        at = PUT(put(PUT(at, "\"["), forward->peer_address), "]\"");
    else
        at = put(at, forward->peer_address);
    if (forward->via.len > 0)
        at = put(PUT(at, ";by=_"), forward->via);
    if (forward->protocol.len > 0)
        at = put(PUT(at, ";proto="), forward->protocol);
    if (request->authority.len > 0)
        at = PUT(put(PUT(at, ";host=\""), request->authority), "\"");
    return PUT(at, "\r\n");
}

static char *put_forwarding(char *at, const struct http_request *request, const struct http1_forward *forward)
{
    const struct http_fields *fields = &request->fields;
    bool trusted = forward->trusted;
    bool kept = trusted && forward->trusted_hops > 0 && http_fields_have(fields, HTTP_FIELD_X_FORWARDED_FOR);
    if (forward->peer_address.len > 0 || kept) {
        char *start = at = PUT(at, "X-Forwarded-For: ");
        if (kept)
            at = put_forwarded_for_kept(at, fields, forward->trusted_hops);
        if (forward->peer_address.len > 0)
            at = put(at, forward->peer_address);
        else if (at > start)
            at -= 2; // the last separator
        at = PUT(at, "\r\n");
    }
    if (forward->protocol.len > 0 && !(trusted && http_fields_have(fields, HTTP_FIELD_X_FORWARDED_PROTO)))
        at = put_field(at, SLICE("X-Forwarded-Proto"), forward->protocol);
    if (forward->host_replace.len > 0 && request->authority.len > 0 &&
        !(trusted && http_fields_have(fields, HTTP_FIELD_X_FORWARDED_HOST)))
        at = put_field(at, SLICE("X-Forwarded-Host"), request->authority);
    return forward->forwarded ? put_forwarded(at, request, forward) : at;
}

static uint64_t request_drop(const struct http1_forward *forward)
{
    uint64_t drop = http_field_bit(HTTP_FIELD_HOST) | http_field_bit(HTTP_FIELD_CONTENT_LENGTH) |
                    http_field_bit(HTTP_FIELD_X_FORWARDED_FOR);
    if (!forward->trusted)
        drop |= HTTP_FIELDS_FORWARDING;
    if (!forward->keep_sluice)
        drop |= http_field_bit(HTTP_FIELD_X_SLUICE);
    return drop;
}

enum status http1_write_request_head(struct http1_writer *writer, const struct http_request *request,
                                     const struct http1_forward *forward)
{
    CHECK(writer->len <= writer->cap);
    if (writer->cap - writer->len < http1_request_head_bound(request, forward))
        return STATUS_FULL;
    bool as_received = forward->framing == HTTP_FRAMING_AS_RECEIVED;
    char *at = writer->data + writer->len;
    at = put(at, request->method);
    at = put_target(PUT(at, " "), request, forward);
    at = PUT(at, " HTTP/1.1\r\n");
    at = put_field(at, SLICE("Host"),
                   forward->host_replace.len > 0 ? forward->host_replace : request->authority);
    at = put_fields(at, &request->fields, request_drop(forward), forward);
    at = put_framing(at, as_received ? request->framing : forward->framing,
                     as_received ? request->content_length : forward->content_length);
    at = put_connection(at, forward->connection,
                        forward->upgrade ? request->upgrade : (struct slice){NULL, 0}, request->te_trailers);
    at = put_forwarding(at, request, forward);
    at = put_end(at, request->version_minor, request->http2, forward);
    writer->len = (size_t)(at - writer->data);
    CHECK(writer->len <= writer->cap);
    return STATUS_OK;
}

// The framing fields of a response: the message's, or as the caller wants it, or none where none may be.
static char *put_response_framing(char *at, const struct http_response *response,
                                  const struct http1_forward *forward)
{
    if (response->status < 200 || response->status == 204)
        return at;
    if (response->framing == HTTP_FRAMING_NONE)
        return response->has_content_length ? put_framing(at, HTTP_FRAMING_LENGTH, response->content_length)
                                            : at;
    if (forward->framing == HTTP_FRAMING_AS_RECEIVED)
        return put_framing(at, response->framing, response->content_length);
    return put_framing(at, forward->framing, forward->content_length);
}

enum status http1_write_response_head(struct http1_writer *writer, const struct http_response *response,
                                      const struct http1_forward *forward)
{
    CHECK(writer->len <= writer->cap);
    if (writer->cap - writer->len < response_head_bound(response, forward))
        return STATUS_FULL;
    uint64_t drop = http_field_bit(HTTP_FIELD_CONTENT_LENGTH);
    if (!forward->keep_sluice)
        drop |= http_field_bit(HTTP_FIELD_X_SLUICE);
    uint8_t framing = forward->framing != HTTP_FRAMING_AS_RECEIVED ? forward->framing : response->framing;
    bool ends_by_close = framing == HTTP_FRAMING_UNTIL_CLOSE && response->framing != HTTP_FRAMING_NONE;
    char *at = writer->data + writer->len;
    at = put_decimal(PUT(at, "HTTP/1.1 "), response->status);
    at = PUT(put(PUT(at, " "), response->reason), "\r\n");
    at = put_fields(at, &response->fields, drop, forward);
    at = put_response_framing(at, response, forward);
    at = put_connection(at, ends_by_close ? HTTP1_CONNECTION_CLOSE : forward->connection,
                        forward->upgrade ? response->upgrade : (struct slice){NULL, 0}, false);
    at = put_end(at, response->version_minor, response->http2, forward);
    writer->len = (size_t)(at - writer->data);
    CHECK(writer->len <= writer->cap);
    return STATUS_OK;
}

enum status http1_write_chunk_header(struct http1_writer *writer, uint64_t len)
{
    CHECK(len > 0);
    unsigned digits = (unsigned)(64 - __builtin_clzll(len) + 3) / 4;
    if (writer->cap - writer->len < digits + 2)
        return STATUS_FULL;
    char *at = writer->data + writer->len;
    for (unsigned i = digits; i > 0; i--)
        *at++ = "0123456789abcdef"[len >> (4 * (i - 1)) & 15];
    at = PUT(at, "\r\n");
    writer->len = (size_t)(at - writer->data);
    return STATUS_OK;
}

enum status http1_write_chunk_end(struct http1_writer *writer)
{
    if (writer->cap - writer->len < 2)
        return STATUS_FULL;
    PUT(writer->data + writer->len, "\r\n");
    writer->len += 2;
    return STATUS_OK;
}

enum status http1_write_chunk(struct http1_writer *writer, struct slice data)
{
    size_t room = writer->cap - writer->len;
    if (room < data.len || room - data.len < HTTP1_CHUNK_HEADER_BYTES_MAX + 2)
        return STATUS_FULL;
    enum status status = http1_write_chunk_header(writer, data.len);
    CHECK(status == STATUS_OK);
    char *at = put(writer->data + writer->len, data);
    at = PUT(at, "\r\n");
    writer->len = (size_t)(at - writer->data);
    return STATUS_OK;
}

enum status http1_write_last_chunk(struct http1_writer *writer, const struct http_fields *trailers)
{
    static const struct http1_forward plain = {0};
    size_t bound = 5 + (trailers != NULL ? fields_bound(trailers->items, trailers->count) : 0);
    if (writer->cap - writer->len < bound)
        return STATUS_FULL;
    char *at = PUT(writer->data + writer->len, "0\r\n");
    if (trailers != NULL)
        at = put_fields(at, trailers, HTTP_FIELDS_NO_TRAILER, &plain);
    at = PUT(at, "\r\n");
    writer->len = (size_t)(at - writer->data);
    return STATUS_OK;
}

enum status http1_write_local(struct http1_writer *writer, const struct http_answer *local)
{
    CHECK(local->status >= 100 && local->status <= 599);
    struct slice reason = http_reason_phrase(local->status);
    struct slice type =
        local->content_type.len > 0 ? local->content_type : SLICE("text/plain; charset=utf-8");
    bool bodiless = local->status < 200 || local->status == 204 || local->status == 304;
    size_t bound = HEAD_FIXED_BYTES + reason.len + type.len + fields_bound(local->add, local->add_count);
    size_t room = writer->cap - writer->len;
    if (room < bound || room - bound < local->body.len)
        return STATUS_FULL;
    char *at = put_decimal(PUT(writer->data + writer->len, "HTTP/1.1 "), local->status);
    at = PUT(put(PUT(at, " "), reason), "\r\n");
    if (!bodiless) {
        at = put_field(at, SLICE("Content-Type"), type);
        at = put_framing(at, HTTP_FRAMING_LENGTH, local->body.len);
    }
    for (size_t i = 0; i < local->add_count; i++)
        at = put_field(at, local->add[i].name, local->add[i].value);
    at = local->close ? PUT(at, "Connection: close\r\n\r\n") : PUT(at, "\r\n");
    if (!bodiless && !local->head_only)
        at = put(at, local->body);
    writer->len = (size_t)(at - writer->data);
    return STATUS_OK;
}
