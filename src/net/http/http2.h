// SPDX-License-Identifier: Apache-2.0
// Heads of HTTP/2 (RFC 9113, 8) from their fields, as HPACK gives them one by one. They are put down as the
// heads of HTTP/1.1 that say the same, and then parsed as such: so both have the same rules, and nothing can
// be said in HTTP/2 that somebody with HTTP/1.1 would read otherwise than we did.
#pragma once

#include "net/http/http1.h"

enum http2_pseudo {
    HTTP2_PSEUDO_METHOD,
    HTTP2_PSEUDO_SCHEME,
    HTTP2_PSEUDO_AUTHORITY,
    HTTP2_PSEUDO_PATH,
    HTTP2_PSEUDO_PROTOCOL, // RFC 8441, 4
    HTTP2_PSEUDOS,
};

enum {
    HTTP2_HEAD_BYTES = HTTP1_HEAD_BYTES_MAX + 1024, // what each storage of a head must have
    HTTP2_KEY_BYTES = 24,                           // of a Sec-WebSocket-Key
};

// Private but for its storage. All of a head is in one of the two: the lines, or what has its place in them
// only later.
struct http2_head {
    char *lines;
    char *aside; // pseudo-fields, then the cookies; NULL: these are trailers
    const struct http1_limits *limits;
    uint32_t lines_len, aside_len, cookies_at;
    uint32_t bytes;  // of all fields, as lines
    uint32_t count;  // of lines
    uint16_t why;    // enum http1_reject, the first
    bool fields;     // the pseudo-fields are over
    bool sized;      // Content-Length was among them
    bool answer;     // it is that of an answer
    uint64_t length; // sized: as it said
    struct slice pseudo[HTTP2_PSEUDOS];
};

// Begins a head, or with aside NULL, trailers. Both storages of HTTP2_HEAD_BYTES stay until what was made of
// them is no longer needed. limits may be NULL.
void http2_head_init(struct http2_head *head, char *lines, char *aside, const struct http1_limits *limits);
// Begins the head of an answer, which needs no storage aside.
void http2_head_init_answer(struct http2_head *head, char *lines, const struct http1_limits *limits);
// The next field; name and value are copied. What is wrong with it is told at the end.
void http2_head_add(struct http2_head *head, struct slice name, struct slice value);
// Whether it asks for a tunnel, as far as was seen.
bool http2_head_opens(const struct http2_head *head);
// All fields have come. ended: so has the request, which has no body then. key: a Sec-WebSocket-Key of
// HTTP2_KEY_BYTES for a request that opens a tunnel. Statuses, *why and out as http1_request_parse. A CONNECT
// with :protocol is told as the GET of HTTP/1.1 with `upgrade` that it stands for.
MUST_USE enum status http2_head_request(struct http2_head *head, bool ended, struct slice key,
                                        struct http_request *out, enum http1_reject *why);
// All fields of an answer's head have come: head->lines becomes one of HTTP/1.1 for http1_response_parse, of
// head->lines_len bytes, whose body ends with the stream. *status: its code. ended: so has the answer, and to
// a request of that method. INVALID, FULL with *why.
MUST_USE enum status http2_head_answer(struct http2_head *head, bool ended, enum http_method method,
                                       unsigned *status, enum http1_reject *why);
// The trailers as fields; what must not be among them is marked HTTP_FIELD_HOP, as in http1_body_trailers.
// INVALID, FULL with *why.
MUST_USE enum status http2_head_trailers(const struct http2_head *head, struct http_fields *out,
                                         enum http1_reject *why);
