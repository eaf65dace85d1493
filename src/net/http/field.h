// SPDX-License-Identifier: Apache-2.0
// Header fields as cut from a message: name and value borrow from the input bytes, known names carry an id.
// A list is filled by a parser; what reads it never needs to look at a name that has an id.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"

#define HTTP_FIELDS_MAX 200 // fits the indices of http_fields.first

// Known names. At most 64, so that a list can say in one word which of them it holds.
enum http_field_id {
    HTTP_FIELD_OTHER = 0,
    HTTP_FIELD_HOST,
    HTTP_FIELD_CONNECTION,
    HTTP_FIELD_CONTENT_LENGTH,
    HTTP_FIELD_TRANSFER_ENCODING,
    HTTP_FIELD_EXPECT,
    HTTP_FIELD_UPGRADE,
    HTTP_FIELD_VIA,
    HTTP_FIELD_TE,
    HTTP_FIELD_TRAILER,
    HTTP_FIELD_KEEP_ALIVE,
    HTTP_FIELD_PROXY_CONNECTION,
    HTTP_FIELD_PROXY_AUTHENTICATE,
    HTTP_FIELD_PROXY_AUTHORIZATION,
    HTTP_FIELD_FORWARDED,
    HTTP_FIELD_X_FORWARDED_FOR,
    HTTP_FIELD_X_FORWARDED_PROTO,
    HTTP_FIELD_X_FORWARDED_HOST,
    HTTP_FIELD_X_FORWARDED_PORT,
    HTTP_FIELD_X_REAL_IP,
    HTTP_FIELD_COOKIE,
    HTTP_FIELD_SET_COOKIE,
    HTTP_FIELD_AUTHORIZATION,
    HTTP_FIELD_CONTENT_TYPE,
    HTTP_FIELD_CONTENT_ENCODING,
    HTTP_FIELD_DATE,
    HTTP_FIELD_SERVER,
    HTTP_FIELD_USER_AGENT,
    HTTP_FIELD_ACCEPT,
    HTTP_FIELD_ACCEPT_ENCODING,
    HTTP_FIELD_ACCEPT_LANGUAGE,
    HTTP_FIELD_CACHE_CONTROL,
    HTTP_FIELD_ETAG,
    HTTP_FIELD_LAST_MODIFIED,
    HTTP_FIELD_LOCATION,
    HTTP_FIELD_RETRY_AFTER,
    HTTP_FIELD_IF_NONE_MATCH,
    HTTP_FIELD_IF_MODIFIED_SINCE,
    HTTP_FIELD_RANGE,
    HTTP_FIELD_CONTENT_RANGE,
    HTTP_FIELD_MAX_FORWARDS,
    HTTP_FIELD_REFERER,
    HTTP_FIELD_ORIGIN,
    HTTP_FIELD_GRPC_STATUS,
    HTTP_FIELD_TRACEPARENT,
    HTTP_FIELD_TRACESTATE,
    HTTP_FIELD_X_REQUEST_ID,
    HTTP_FIELD_X_SLUICE, // any name that starts with "x-sluice-"
    HTTP_FIELD_COUNT
};

// Marks on a field.
#define HTTP_FIELD_HOP 0x01 // hop-by-hop by its nature or because Connection names it: never forwarded
#define HTTP_FIELD_CONTIGUOUS                                                                                \
    0x02 // from name.data on lie exactly "name: value CRLF": may be copied as one run

struct http_field {
    struct slice name;  // as received, never empty, a token (RFC 9110 5.6.2)
    struct slice value; // without surrounding blanks; no control character but HTAB
    uint16_t id;        // enum http_field_id
    uint16_t marks;     // HTTP_FIELD_HOP, HTTP_FIELD_CONTIGUOUS
};

struct http_fields {
    uint64_t present; // bit id set: at least one field of that id
    uint32_t count;
    uint8_t first[HTTP_FIELD_COUNT]; // index of the first field of an id; defined where its bit is present
    struct http_field items[HTTP_FIELDS_MAX]; // only the first count are defined
};

// The id of a name, HTTP_FIELD_OTHER when it is none of the known ones. ASCII case-insensitive.
enum http_field_id http_field_id_of(struct slice name);
// The lower-case name of an id; empty for HTTP_FIELD_OTHER, "x-sluice-" for HTTP_FIELD_X_SLUICE.
struct slice http_field_id_name(enum http_field_id id);

// Whether rules may not touch a field: it frames the message, belongs to one connection, or is what the proxy
// itself tells. '-' and '_' are the same: some origins read them alike.
bool http_field_reserved(struct slice name);
// Whether two names are one for origins that make variables of them: in any case, '-' and '_' being the same.
bool http_field_alike(struct slice a, struct slice b);

// First field of that id or name, or NULL. The id must not be HTTP_FIELD_OTHER.
const struct http_field *http_fields_find(const struct http_fields *fields, enum http_field_id id);
const struct http_field *http_fields_find_name(const struct http_fields *fields, struct slice name);

// Appends one field (slices are borrowed). STATUS_FULL at HTTP_FIELDS_MAX, STATUS_INVALID for a name that is
// no token or a value with control characters or surrounding blanks. For lists made by us or by the HTTP/2
// glue.
MUST_USE enum status http_fields_add(struct http_fields *fields, struct slice name, struct slice value);

// RFC 9110 5.6.2 token, and 5.5 field value (visible, obs-text, SP, HTAB inside). Both refuse CR, LF, NUL.
bool http_token_valid(struct slice text);
bool http_value_valid(struct slice text);
// Without blanks and tabs around it.
struct slice http_trim(struct slice text);

enum {
    HTTP_HOST_BYTES_MAX = 512,    // a name has 253 at most; it is written up to three times in one head
    HTTP_UPGRADE_BYTES_MAX = 256, // a longer list of protocols is no upgrade
};

// host [":" port], RFC 3986 3.2.2: reg-name, IPv4 or bracketed IPv6; no user info, port 0..65535. Empty and
// longer than HTTP_HOST_BYTES_MAX is not valid.
bool http_host_valid(struct slice text);
// The same, and splits it; *host and *port stay untouched when it is not valid. http_host_split wants a valid
// one: brackets of IPv6 stay in *host. *port is 0 when none is given.
bool http_host_read(struct slice text, struct slice *host, uint16_t *port);
void http_host_split(struct slice text, struct slice *host, uint16_t *port);

// Next element of a comma-separated list (RFC 9110 5.6.1), blanks trimmed, empty elements skipped. Advances
// *rest. False at the end.
bool http_list_next(struct slice *rest, struct slice *element);
// True when a comma list holds that token, ASCII case-insensitive.
bool http_list_has(struct slice list, struct slice token);

// Value of a cookie by exact name over all Cookie fields, first one wins (RFC 6265 4.2, lenient: blanks
// trimmed, one pair of surrounding quotes kept as sent). STATUS_NOT_FOUND.
MUST_USE enum status http_cookie_find(const struct http_fields *fields, struct slice name,
                                      struct slice *value);
// Raw (still percent-encoded) value of a query parameter, first one wins; "a" without "=" is empty.
// STATUS_NOT_FOUND.
MUST_USE enum status http_query_find(struct slice query, struct slice name, struct slice *value);

// Takes out the fields that `which` names; the others keep their order.
void http_fields_remove(struct http_fields *fields,
                        bool (*which)(const void *context, const struct http_field *field),
                        const void *context);

// Takes out what tells of clients and earlier proxies: X-Forwarded-*, X-Real-IP, Forwarded.
void http_forwarded_remove(struct http_fields *fields);
// The entries of X-Forwarded-For from the right, all fields of that name being one list; empty ones are
// skipped.
struct http_forwarded {
    const struct http_fields *fields;
    uint32_t at; // the field, and those behind it, were walked
    struct slice rest;
};
struct http_forwarded http_forwarded_of(const struct http_fields *fields);
// False: there are no more. *entry as received: http_address_alone gives the address in it.
bool http_forwarded_next(struct http_forwarded *walk, struct slice *entry);
// "203.0.113.7:40001", "[2001:db8::1]:443", "fe80::1%eth0", "::ffff:203.0.113.7": what names the host.
struct slice http_address_alone(struct slice entry);

// The client's address as far as it can be believed: with no trusted hop the peer itself, else the n-th entry
// of X-Forwarded-For counted from the right (all fields of that name are one list), or the leftmost when
// there are fewer. The address alone: without port, brackets and zone, an IPv4 address without the prefix
// that makes it an IPv6 one. Not checked to be one. Borrows from the fields or from peer.
struct slice http_client_address(const struct http_fields *fields, unsigned trusted_hops, struct slice peer);
