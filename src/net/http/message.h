// SPDX-License-Identifier: Apache-2.0
// Requests and answers as everybody above the wire sees them. Parsers of HTTP/1 (http1.h) and
// HTTP/2 (http2.h) fill these; who reads them does not ask which it was. Slices borrow from the bytes that
// were parsed.
#pragma once

#include "net/http/field.h"

enum http_method {
    HTTP_METHOD_OTHER = 0, // a token that is none of these
    HTTP_METHOD_GET,
    HTTP_METHOD_HEAD,
    HTTP_METHOD_POST,
    HTTP_METHOD_PUT,
    HTTP_METHOD_DELETE,
    HTTP_METHOD_CONNECT,
    HTTP_METHOD_OPTIONS,
    HTTP_METHOD_TRACE,
    HTTP_METHOD_PATCH,
};

// RFC 9110 9.2.2. Unknown methods are not.
bool http_method_idempotent(enum http_method method);

// What is known of a body's length before it comes.
enum http_framing {
    HTTP_FRAMING_AS_RECEIVED = 0, // only in http1_forward: keep the message's own
    HTTP_FRAMING_NONE,            // no body follows the head
    HTTP_FRAMING_LENGTH,
    HTTP_FRAMING_CHUNKED,     // not known; the end is marked: the last chunk, or the end of an HTTP/2 stream
    HTTP_FRAMING_UNTIL_CLOSE, // answers only: not known, and the end is the connection's
};

enum http1_target_form {
    HTTP1_TARGET_ORIGIN = 0, // "/path?query"
    HTTP1_TARGET_ABSOLUTE,   // "http://host/path?query"
    HTTP1_TARGET_ASTERISK,   // "*", OPTIONS only
};

struct http_request {
    struct slice method;
    struct slice target; // as received
    struct slice path;   // begins with '/', or is "*"; "/" when an absolute target has none
    struct slice query;  // after '?'; data is NULL when there is no '?'
    // What the request is for: authority of an absolute target, which replaces Host (RFC 9112 3.2.2), else
    // Host. Empty for an HTTP/1.0 request without either.
    struct slice authority;
    struct slice host; // authority without port; brackets of IPv6 stay
    struct slice
        upgrade; // value of Upgrade when this is an upgrade request that may be tunnelled, else empty
    uint64_t content_length; // HTTP_FRAMING_LENGTH only
    uint16_t port;           // 0 when not given
    uint8_t version_minor;   // 0 for HTTP/1.0, else 1
    bool http2;              // it came over HTTP/2, and is told as the request of HTTP/1.1 that says the same
    uint8_t method_id;       // enum http_method
    uint8_t form;            // enum http1_target_form
    uint8_t framing;         // enum http_framing: NONE, LENGTH or CHUNKED
    bool keep_alive;         // HTTP/1: the client wants the connection to persist; for its engine only
    bool expect_continue;
    bool te_trailers; // TE: trailers was sent
    struct http_fields fields;
};

// The head of an answer: an origin's, as received, or one made here (then count the fields anew, take the
// reason from http_reason_phrase, and set status, framing and length).
struct http_response {
    struct slice reason;     // may be empty
    struct slice upgrade;    // value of Upgrade in a 101 or 426, else empty
    uint64_t content_length; // valid when has_content_length
    uint16_t status;         // 100..999: what is above 599 is an error as 5xx are (RFC 9110 15)
    uint8_t version_minor;
    uint8_t framing;         // enum http_framing: NONE, LENGTH, CHUNKED or UNTIL_CLOSE
    bool has_content_length; // also for answers to HEAD and 304, which have no body
    bool keep_alive;         // HTTP/1: the connection may serve another request after this message
    bool informational;      // 1xx other than 101: another head follows
    bool http2;              // it came by HTTP/2; the caller sets it after the parse
    struct http_fields fields;
};

// A whole small answer of our own.
struct http_answer {
    unsigned status;           // 100..599; the reason phrase is looked up
    struct slice content_type; // empty: text/plain; charset=utf-8
    struct slice body;
    const struct http_field *add;
    size_t add_count;
    bool close;     // the connection ends with it
    bool head_only; // answer to HEAD: Content-Length is that of body, body is not written
};

// The path that all its spellings stand for (RFC 3986 6.2.2): escapes of letters, digits and "-._~" become
// these, other escapes are written in capitals, "." and ".." segments are resolved, and slashes that follow
// each other are one. "%2F" stays, and so do the parameters of a segment (";v=1"). Empty for what servers
// read in two ways: where ".." follows an empty segment ("/a//../b"), and for segments of parameters alone,
// or of dots and parameters ("/..;/a"). storage: path.len bytes; not used for a path that is in that form
// already.
struct slice http_path_normal(struct slice path, char *storage);

#define HTTP_PATH_NONE SIZE_MAX
// The bytes of the normal path that the segments of prefix take, parameters of these included, or
// HTTP_PATH_NONE when it does not begin with them. Parameters are not compared. prefix has no '/' at its end.
size_t http_path_covers(struct slice prefix, struct slice path);

// "Not Found" for 404; "Unknown" for codes without a registered phrase.
struct slice http_reason_phrase(unsigned status);

// A copy of a request that outlives the bytes it was parsed from, in storage of that many bytes, aligned for
// any object. Only as many fields as it has are there: it must not be copied as a whole again.
size_t http_request_copy_bytes(const struct http_request *request);
struct http_request *http_request_copy(const struct http_request *request, void *storage);
