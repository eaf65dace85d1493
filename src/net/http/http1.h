// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 messages in (RFC 9110, RFC 9112), strictly. Bytes in, slices of them out: no copy, no heap.
// What two parsers could read in two ways is refused here, so that what is forwarded has one meaning.
// A parse is two passes: one finds the end of the head, all line ends and every control character, the other
// cuts.
#pragma once

#include "net/http/message.h"

#define HTTP1_HEAD_BYTES_MAX 32768
#define HTTP1_START_LINE_BYTES_MAX 16384
#define HTTP1_NAME_BYTES_MAX 256
#define HTTP1_VALUE_BYTES_MAX 32768 // browsers send all cookies of a site in one
#define HTTP1_METHOD_BYTES_MAX 32
#define HTTP1_NOMINATED_MAX 32 // names in Connection
#define HTTP1_CHUNK_EXTENSION_BYTES_MAX 256
#define HTTP1_CHUNK_EXTENSIONS_TOTAL_BYTES_MAX 16384 // in one message
#define HTTP1_CHUNK_SIZE_DIGITS_MAX 16
#define HTTP1_TRAILER_BYTES_MAX 8192
#define HTTP1_TRAILER_FIELDS_MAX 64
#define HTTP1_BODY_BYTES_MAX ((uint64_t)INT64_MAX)

// May be lowered below the compiled maxima, never raised above them (larger values count as the maximum).
struct http1_limits {
    uint32_t head_bytes_max;       // start line, fields and the empty line; an allowed leading CRLF counts
    uint32_t start_line_bytes_max; // without CRLF
    uint32_t fields_max;
    uint32_t name_bytes_max;
    uint32_t value_bytes_max;
    uint32_t chunk_extension_bytes_max; // per chunk
    uint32_t trailer_bytes_max;         // whole trailer section
    bool query_raw; // also take '"', '<' and '>' unescaped in a query, as some programs send them
};
extern const struct http1_limits http1_limits_default;

// Why a message was refused. Names follow the place, not the clause; http1_reject_text says it in a sentence.
enum http1_reject {
    HTTP1_REJECT_NONE = 0,
    HTTP1_REJECT_BARE_CR,
    HTTP1_REJECT_BARE_LF,
    HTTP1_REJECT_CONTROL,         // NUL or another control character anywhere in a head or trailer
    HTTP1_REJECT_LEADING_LINES,   // more than one empty line before the start line
    HTTP1_REJECT_START_LINE,      // not three parts split by single spaces
    HTTP1_REJECT_METHOD,          // not a token
    HTTP1_REJECT_METHOD_LONG,     // 501
    HTTP1_REJECT_CONNECT,         // 501: we are not a forward proxy
    HTTP1_REJECT_TARGET,          // none of the forms, or a byte outside visible ASCII
    HTTP1_REJECT_START_LINE_LONG, // 414
    HTTP1_REJECT_VERSION,         // "HTTP/d.d" malformed: 400
    HTTP1_REJECT_VERSION_UNKNOWN, // neither 1.0 nor 1.1: 505 (HTTP/2 preface included)
    HTTP1_REJECT_STATUS_CODE,     // response: not three digits from 100 on
    HTTP1_REJECT_HEAD_LONG,       // 431
    HTTP1_REJECT_FIELDS_MANY,     // 431
    HTTP1_REJECT_NAME_LONG,       // 431
    HTTP1_REJECT_VALUE_LONG,      // 431
    HTTP1_REJECT_NAME,            // no colon, empty, or a character that is no token
    HTTP1_REJECT_SPACE_BEFORE_COLON,
    HTTP1_REJECT_FOLD, // obs-fold, or blanks before the first field
    HTTP1_REJECT_HOST_MISSING,
    HTTP1_REJECT_HOST_REPEATED,
    HTTP1_REJECT_HOST,
    HTTP1_REJECT_CONTENT_LENGTH,          // malformed, a list, or over 2^63 - 1
    HTTP1_REJECT_CONTENT_LENGTH_REPEATED, // even when equal
    HTTP1_REJECT_LENGTH_AND_CODING,       // Content-Length beside Transfer-Encoding
    HTTP1_REJECT_CODING,           // Transfer-Encoding malformed, repeated, or its last coding not chunked
    HTTP1_REJECT_CODING_UNKNOWN,   // 501: a coding other than chunked before the last
    HTTP1_REJECT_CODING_VERSION,   // Transfer-Encoding in HTTP/1.0
    HTTP1_REJECT_CODING_MISPLACED, // response: Transfer-Encoding in 1xx or 204
    HTTP1_REJECT_CONNECTION,       // Connection malformed or names too many
    HTTP1_REJECT_EXPECT,           // 417: something other than 100-continue
    HTTP1_REJECT_TRACE_BODY,       // RFC 9110 9.3.8
    HTTP1_REJECT_CHUNK_SIZE,
    HTTP1_REJECT_CHUNK_EXTENSION,
    HTTP1_REJECT_CHUNK_EXTENSION_LONG, // 413
    HTTP1_REJECT_CHUNK_END,            // no CRLF after the data
    HTTP1_REJECT_TRAILER_LONG,         // 431
    HTTP1_REJECT_BODY_LONG,            // 413: chunk sizes add up to more than 2^63 - 1
    HTTP1_REJECT_TRUNCATED,            // the peer closed inside a message
    HTTP2_REJECT_PSEUDO,               // a pseudo-field is missing, repeated, unknown or out of place
    HTTP2_REJECT_FIELD,                // a field that speaks of a connection of HTTP/1
    HTTP2_REJECT_VALUE,                // a control character, or blanks around it
    HTTP2_REJECT_AUTHORITY,            // Host says another than :authority
    HTTP2_REJECT_LENGTH,               // Content-Length is not the length of the body that came
    HTTP1_REJECT_COUNT
};

// The answer to a refused request (400, 413, 414, 417, 431, 501 or 505). A refused response is always a 502
// for us.
unsigned http1_reject_status(enum http1_reject why);
// One short sentence for the log, never NULL.
const char *http1_reject_text(enum http1_reject why);
// A word fit for a metric label ("bare_lf").
const char *http1_reject_word(enum http1_reject why);

// The value of a Content-Length.
enum http1_reject http_content_length_read(struct slice value, uint64_t *content_length);

// Parses one request head at data. limits may be NULL for the defaults.
//   STATUS_OK       out filled, *head_len bytes belong to the head (a skipped leading CRLF included)
//   STATUS_AGAIN    not complete; call again with more bytes at the same start
//   STATUS_INVALID, STATUS_FULL   *why says the reason; answer http1_reject_status(*why) and close
// out is scratch: undefined unless STATUS_OK. *head_len and *why change only in their cases. All slices of
// out borrow from data, except the constant "/" for an empty path.
MUST_USE enum status http1_request_parse(const char *data, size_t len, const struct http1_limits *limits,
                                         struct http_request *out, size_t *head_len, enum http1_reject *why);

// The same for a response to a request of that method. A 101 ends HTTP on the connection: framing is NONE,
// upgrade is set, and every byte after the head belongs to the tunnel.
MUST_USE enum status http1_response_parse(const char *data, size_t len, const struct http1_limits *limits,
                                          enum http_method request_method, struct http_response *out,
                                          size_t *head_len, enum http1_reject *why);

// ---- bodies

struct http1_body {
    uint64_t remaining; // LENGTH: bytes to come; CHUNKED: of this chunk
    uint64_t total;     // payload bytes given out so far
    char *trailers;     // the caller's storage, or NULL: trailers are checked and dropped
    size_t trailers_cap;
    size_t trailers_len; // raw trailer lines kept, "name: value CRLF" each
    uint32_t line_bytes; // of the present chunk-size line or trailer section
    uint32_t extensions_total;
    uint32_t trailer_count;
    uint32_t extension_bytes_max;
    uint32_t trailer_bytes_max;
    uint8_t framing; // enum http_framing
    uint8_t state;   // internal
    uint8_t digits;
    bool trailers_cut; // the trailer storage was too small
    bool blanks;    // set by the caller: chunk lines may have them, as recipients must take (RFC 9112 7.1.1)
    uint8_t reject; // enum http1_reject, after STATUS_INVALID or STATUS_FULL
    bool done;      // the message is complete; bytes after it were not consumed
};

// Starts a body. trailers: storage of trailers_cap bytes that outlives the body (HTTP1_TRAILER_BYTES_MAX
// holds all), or NULL. A body of framing NONE, or of LENGTH 0, is done at once. limits may be NULL.
void http1_body_init(struct http1_body *body, enum http_framing framing, uint64_t content_length,
                     const struct http1_limits *limits, char *trailers, size_t trailers_cap);

// Takes bytes of the message in any fragmentation. Call in a loop, each time with what was not consumed:
//   STATUS_OK      *payload (borrowed from data) is the next run of body bytes, or body->done is set, or
//   both;
//                  bytes after the message's end are never consumed
//   STATUS_AGAIN   all bytes consumed, no payload in them, more needed
//   STATUS_INVALID, STATUS_FULL   body->reject says why; stays so on every later call
MUST_USE enum status http1_body_next(struct http1_body *body, const char *data, size_t len, size_t *consumed,
                                     struct slice *payload);

// The peer closed: STATUS_OK when the message is (or thereby becomes) complete, else STATUS_INVALID
// (TRUNCATED).
MUST_USE enum status http1_body_finish(struct http1_body *body);

// The trailers of a done chunked body as fields (slices borrow from the trailer storage). Names that must not
// be in a trailer (framing, routing, Connection; RFC 9110 6.5.1) are marked HTTP_FIELD_HOP and so never
// written. STATUS_FULL when the storage given at init was too small and some were dropped.
MUST_USE enum status http1_body_trailers(const struct http1_body *body, struct http_fields *out);
