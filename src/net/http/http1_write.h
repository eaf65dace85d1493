// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 messages out, written from the parsed form into the caller's bytes. Each call either writes all of
// its part or nothing. Framing, Connection and hop-by-hop fields are always our own: none passes through from
// a peer.
#pragma once

#include "net/http/http1.h"

struct http1_writer {
    char *data;
    size_t len; // written so far
    size_t cap;
};

static inline struct http1_writer http1_writer_over(char *storage, size_t cap)
{
    return (struct http1_writer){.data = storage, .cap = cap};
}

// What Connection says of persistence.
enum http1_connection {
    HTTP1_CONNECTION_DEFAULT = 0, // nothing: HTTP/1.1 persists
    HTTP1_CONNECTION_CLOSE,
    HTTP1_CONNECTION_KEEP_ALIVE, // said aloud, for HTTP/1.0 clients
};

// How a message is passed on. All zero is a sound default: no Via, no forwarding fields, spoofed ones
// stripped.
struct http1_forward {
    struct slice via; // our pseudonym for "Via: 1.1 <via>"; empty: no Via is added (received ones stay)
    // Requests only.
    struct slice
        peer_address;      // text of the peer's address without port; empty: X-Forwarded-For is not extended
    struct slice protocol; // "http" or "https"; empty: X-Forwarded-Proto is not written
    struct slice target_replace; // written in place of the request's path and query when not empty
    struct slice host_replace;   // written as Host when not empty; the old one becomes X-Forwarded-Host
    // Whether the peer is a proxy that is believed. If not, every received X-Forwarded-*, X-Real-IP and
    // Forwarded field is dropped. If so, the last trusted_hops entries of X-Forwarded-For stay, further left
    // ones (which anyone may have written) go.
    bool trusted;
    unsigned trusted_hops;
    bool forwarded;   // also write Forwarded (RFC 7239)
    bool keep_sluice; // keep received x-sluice-* fields (trusted operator); otherwise they are dropped
    bool upgrade;     // pass the message's Upgrade on (request that has one; 101 or 426 response)
    // Both directions.
    uint8_t connection;      // enum http1_connection
    uint8_t framing;         // enum http_framing; AS_RECEIVED keeps the message's
    uint64_t content_length; // for framing HTTP_FRAMING_LENGTH given here
    const struct http_field
        *add; // written at the end; must be valid names and values (http_fields_add checks)
    size_t add_count;
    const struct slice *strip; // names dropped, ASCII case-insensitive
    size_t strip_count;
};

// An upper bound of what http1_request_head_write writes; like http1_response_head_write it gives STATUS_FULL
// when less room than its bound is left.
size_t http1_request_head_bound(const struct http_request *request, const struct http1_forward *forward);

// The head for the upstream: origin-form target (or "*"), HTTP/1.1, Host first. Fields marked HTTP_FIELD_HOP
// are dropped. Never dropped because a client nominated them in Connection: Host, Content-Length, Expect,
// Cookie, Authorization, the forwarding fields and others that somebody behind us decides by. An HTTP/1.0
// request may have no authority: then the caller gives host_replace, else Host is written empty.
MUST_USE enum status http1_write_request_head(struct http1_writer *writer, const struct http_request *request,
                                              const struct http1_forward *forward);
// The head for the client. HTTP/1.1 always; for an HTTP/1.0 client the caller sets framing to LENGTH or
// UNTIL_CLOSE.
MUST_USE enum status http1_write_response_head(struct http1_writer *writer,
                                               const struct http_response *response,
                                               const struct http1_forward *forward);

// "1a2b CRLF" before a chunk's data (len at least 1), CRLF after it. HTTP1_CHUNK_HEADER_BYTES_MAX is enough
// for the first.
#define HTTP1_CHUNK_HEADER_BYTES_MAX 18
MUST_USE enum status http1_write_chunk_header(struct http1_writer *writer, uint64_t len);
MUST_USE enum status http1_write_chunk_end(struct http1_writer *writer);
// Header, data and CRLF at once.
MUST_USE enum status http1_write_chunk(struct http1_writer *writer, struct slice data);
// "0 CRLF", the trailers that may be forwarded (NULL: none), CRLF.
MUST_USE enum status http1_write_last_chunk(struct http1_writer *writer, const struct http_fields *trailers);

// A whole answer of our own, head and body.
MUST_USE enum status http1_write_local(struct http1_writer *writer, const struct http_answer *local);
