// SPDX-License-Identifier: Apache-2.0
// Known field names: a perfect hash over names of at most 16 bytes, a short list for the longer ones.
#include "net/http/http_private.h"

#include "base/check.h"

const uint8_t http_field_slots[HTTP_FIELD_SLOTS] = {
    [0] = HTTP_FIELD_TRAILER,
    [5] = HTTP_FIELD_X_FORWARDED_HOST,
    [7] = HTTP_FIELD_LAST_MODIFIED,
    [12] = HTTP_FIELD_FORWARDED,
    [14] = HTTP_FIELD_PROXY_CONNECTION,
    [19] = HTTP_FIELD_ACCEPT_ENCODING,
    [23] = HTTP_FIELD_IF_NONE_MATCH,
    [25] = HTTP_FIELD_CONNECTION,
    [30] = HTTP_FIELD_EXPECT,
    [31] = HTTP_FIELD_X_REQUEST_ID,
    [32] = HTTP_FIELD_GRPC_STATUS,
    [34] = HTTP_FIELD_LOCATION,
    [35] = HTTP_FIELD_RANGE,
    [36] = HTTP_FIELD_X_REAL_IP,
    [46] = HTTP_FIELD_ETAG,
    [52] = HTTP_FIELD_TRACEPARENT,
    [53] = HTTP_FIELD_USER_AGENT,
    [55] = HTTP_FIELD_TRACESTATE,
    [57] = HTTP_FIELD_COOKIE,
    [61] = HTTP_FIELD_DATE,
    [62] = HTTP_FIELD_SET_COOKIE,
    [65] = HTTP_FIELD_CONTENT_ENCODING,
    [66] = HTTP_FIELD_AUTHORIZATION,
    [70] = HTTP_FIELD_SERVER,
    [75] = HTTP_FIELD_CONTENT_TYPE,
    [77] = HTTP_FIELD_CACHE_CONTROL,
    [80] = HTTP_FIELD_HOST,
    [88] = HTTP_FIELD_VIA,
    [98] = HTTP_FIELD_ACCEPT_LANGUAGE,
    [99] = HTTP_FIELD_KEEP_ALIVE,
    [102] = HTTP_FIELD_REFERER,
    [104] = HTTP_FIELD_UPGRADE,
    [105] = HTTP_FIELD_ACCEPT,
    [107] = HTTP_FIELD_TE,
    [108] = HTTP_FIELD_X_FORWARDED_FOR,
    [111] = HTTP_FIELD_RETRY_AFTER,
    [112] = HTTP_FIELD_MAX_FORWARDS,
    [117] = HTTP_FIELD_ORIGIN,
    [122] = HTTP_FIELD_CONTENT_RANGE,
    [123] = HTTP_FIELD_X_FORWARDED_PORT,
    [125] = HTTP_FIELD_CONTENT_LENGTH,
};

// Exactly 16 bytes each, zero-padded, not terminated when full.
const char http_field_padded[HTTP_FIELD_COUNT][HTTP_FIELD_WORDS_BYTES] = {
    [HTTP_FIELD_HOST] = "host",
    [HTTP_FIELD_CONNECTION] = "connection",
    [HTTP_FIELD_CONTENT_LENGTH] = "content-length",
    [HTTP_FIELD_EXPECT] = "expect",
    [HTTP_FIELD_UPGRADE] = "upgrade",
    [HTTP_FIELD_VIA] = "via",
    [HTTP_FIELD_TE] = "te",
    [HTTP_FIELD_TRAILER] = "trailer",
    [HTTP_FIELD_KEEP_ALIVE] = "keep-alive",
    [HTTP_FIELD_PROXY_CONNECTION] = "proxy-connection",
    [HTTP_FIELD_FORWARDED] = "forwarded",
    [HTTP_FIELD_X_FORWARDED_FOR] = "x-forwarded-for",
    [HTTP_FIELD_X_FORWARDED_HOST] = "x-forwarded-host",
    [HTTP_FIELD_X_FORWARDED_PORT] = "x-forwarded-port",
    [HTTP_FIELD_X_REAL_IP] = "x-real-ip",
    [HTTP_FIELD_COOKIE] = "cookie",
    [HTTP_FIELD_SET_COOKIE] = "set-cookie",
    [HTTP_FIELD_AUTHORIZATION] = "authorization",
    [HTTP_FIELD_CONTENT_TYPE] = "content-type",
    [HTTP_FIELD_CONTENT_ENCODING] = "content-encoding",
    [HTTP_FIELD_DATE] = "date",
    [HTTP_FIELD_SERVER] = "server",
    [HTTP_FIELD_USER_AGENT] = "user-agent",
    [HTTP_FIELD_ACCEPT] = "accept",
    [HTTP_FIELD_ACCEPT_ENCODING] = "accept-encoding",
    [HTTP_FIELD_ACCEPT_LANGUAGE] = "accept-language",
    [HTTP_FIELD_CACHE_CONTROL] = "cache-control",
    [HTTP_FIELD_ETAG] = "etag",
    [HTTP_FIELD_LAST_MODIFIED] = "last-modified",
    [HTTP_FIELD_LOCATION] = "location",
    [HTTP_FIELD_RETRY_AFTER] = "retry-after",
    [HTTP_FIELD_IF_NONE_MATCH] = "if-none-match",
    [HTTP_FIELD_RANGE] = "range",
    [HTTP_FIELD_CONTENT_RANGE] = "content-range",
    [HTTP_FIELD_MAX_FORWARDS] = "max-forwards",
    [HTTP_FIELD_REFERER] = "referer",
    [HTTP_FIELD_ORIGIN] = "origin",
    [HTTP_FIELD_GRPC_STATUS] = "grpc-status",
    [HTTP_FIELD_TRACEPARENT] = "traceparent",
    [HTTP_FIELD_TRACESTATE] = "tracestate",
    [HTTP_FIELD_X_REQUEST_ID] = "x-request-id",
};

static const struct {
    struct slice name;
    enum http_field_id id;
} long_names[] = {
    {{"transfer-encoding", 17}, HTTP_FIELD_TRANSFER_ENCODING},
    {{"x-forwarded-proto", 17}, HTTP_FIELD_X_FORWARDED_PROTO},
    {{"if-modified-since", 17}, HTTP_FIELD_IF_MODIFIED_SINCE},
    {{"proxy-authenticate", 18}, HTTP_FIELD_PROXY_AUTHENTICATE},
    {{"proxy-authorization", 19}, HTTP_FIELD_PROXY_AUTHORIZATION},
};

enum { NAME_KNOWN_MAX = 20 }; // the longest of all has 19

static const struct slice sluice_prefix = {"x-sluice-", 9};

static enum http_field_id id_of_long(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(long_names); i++)
        if (slice_equal_nocase(name, long_names[i].name))
            return long_names[i].id;
    struct slice prefix = {name.data, sluice_prefix.len};
    return slice_equal_nocase(prefix, sluice_prefix) ? HTTP_FIELD_X_SLUICE : HTTP_FIELD_OTHER;
}

enum http_field_id http_field_id_of(struct slice name)
{
    if (name.len > HTTP_FIELD_WORDS_BYTES)
        return id_of_long(name);
    char lower[HTTP_FIELD_WORDS_BYTES] = {0};
    for (size_t i = 0; i < name.len; i++)
        lower[i] = slice_lower_char(name.data[i]);
    return http_field_id_of_words(http_load64(lower), http_load64(lower + 8));
}

struct slice http_field_id_name(enum http_field_id id)
{
    for (size_t i = 0; i < ARRAY_LEN(long_names); i++)
        if (id == long_names[i].id)
            return long_names[i].name;
    if (id == HTTP_FIELD_X_SLUICE)
        return sluice_prefix;
    CHECK(id < HTTP_FIELD_COUNT);
    return (struct slice){http_field_padded[id], strnlen(http_field_padded[id], HTTP_FIELD_WORDS_BYTES)};
}

static enum http1_reject reject_of_name_byte(char c)
{
    return c == ' ' || c == '\t' ? HTTP1_REJECT_SPACE_BEFORE_COLON : HTTP1_REJECT_NAME;
}

#define ALIAS_BYTES_MAX 32

static enum http_field_id id_or_alias(struct slice name)
{
    enum http_field_id id = http_field_id_of(name);
    if (id != HTTP_FIELD_OTHER || name.len > ALIAS_BYTES_MAX || memchr(name.data, '_', name.len) == NULL)
        return id;
    char dashed[ALIAS_BYTES_MAX];
    for (size_t i = 0; i < name.len; i++)
        dashed[i] = name.data[i] == '_' ? '-' : name.data[i];
    id = http_field_id_of((struct slice){dashed, name.len});
    return (1ULL << id & HTTP_FIELDS_GUARDED) != 0 ? HTTP_FIELD_ALIAS : HTTP_FIELD_OTHER;
}

size_t http_name_cut_portable(const char *line, size_t line_len, enum http_field_id *id,
                              enum http1_reject *why)
{
    size_t n = 0;
    while (n < line_len && http_is(line[n], HTTP_CLASS_TOKEN))
        n++;
    size_t name_len = n;
    if (name_len == 0 || n == line_len || line[n] != ':') {
        *why = name_len == 0 || n == line_len ? HTTP1_REJECT_NAME : reject_of_name_byte(line[n]);
        return 0;
    }
    *id = id_or_alias((struct slice){line, name_len});
    return name_len;
}

bool http_field_reserved(struct slice name)
{
    static const uint64_t reserved =
        1ULL << HTTP_FIELD_HOST | 1ULL << HTTP_FIELD_CONNECTION | 1ULL << HTTP_FIELD_CONTENT_LENGTH |
        1ULL << HTTP_FIELD_TRANSFER_ENCODING | 1ULL << HTTP_FIELD_EXPECT | 1ULL << HTTP_FIELD_UPGRADE |
        1ULL << HTTP_FIELD_VIA | 1ULL << HTTP_FIELD_TE | 1ULL << HTTP_FIELD_TRAILER |
        1ULL << HTTP_FIELD_KEEP_ALIVE | 1ULL << HTTP_FIELD_PROXY_CONNECTION |
        1ULL << HTTP_FIELD_PROXY_AUTHENTICATE | 1ULL << HTTP_FIELD_PROXY_AUTHORIZATION |
        1ULL << HTTP_FIELD_FORWARDED | 1ULL << HTTP_FIELD_X_FORWARDED_FOR |
        1ULL << HTTP_FIELD_X_FORWARDED_PROTO | 1ULL << HTTP_FIELD_X_FORWARDED_HOST |
        1ULL << HTTP_FIELD_X_SLUICE;
    char dashed[NAME_KNOWN_MAX];
    if (name.len > sizeof dashed)
        name.len = sizeof dashed; // longer than every known name but those known by their beginning
    for (size_t i = 0; i < name.len; i++)
        dashed[i] = name.data[i] == '_' ? '-' : name.data[i];
    return (reserved >> http_field_id_of((struct slice){dashed, name.len}) & 1) != 0;
}

static bool char_alike(char a, char b)
{
    return a == b || (a == '_' && b == '-') || (a == '-' && b == '_');
}

bool http_field_alike(struct slice a, struct slice b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (!char_alike(slice_lower_char(a.data[i]), slice_lower_char(b.data[i])))
            return false;
    return true;
}
