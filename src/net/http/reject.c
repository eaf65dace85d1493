// SPDX-License-Identifier: Apache-2.0
// Why a message was refused, for the log, for the metric label and for the answer.
#include "base/check.h"
#include "net/http/http_private.h"

static const struct {
    uint16_t status;
    const char *word;
    const char *text;
} rejects[HTTP1_REJECT_COUNT] = {
    [HTTP1_REJECT_NONE] = {200, "none", "The message was not refused."},
    [HTTP1_REJECT_BARE_CR] = {400, "bare_cr", "A CR is not followed by LF."},
    [HTTP1_REJECT_BARE_LF] = {400, "bare_lf", "A line ends with LF alone."},
    [HTTP1_REJECT_CONTROL] = {400, "control", "A control character is in the head or a trailer."},
    [HTTP1_REJECT_LEADING_LINES] = {400, "leading_lines", "Empty lines stand before the start line."},
    [HTTP1_REJECT_START_LINE] = {400, "start_line",
                                 "The start line is not three parts split by single spaces."},
    [HTTP1_REJECT_METHOD] = {400, "method", "The method is not a token."},
    [HTTP1_REJECT_METHOD_LONG] = {501, "method_long", "The method is longer than any known one."},
    [HTTP1_REJECT_CONNECT] = {501, "connect", "CONNECT is not served here."},
    [HTTP1_REJECT_TARGET] = {400, "target",
                             "The request target has no allowed form or holds a forbidden byte."},
    [HTTP1_REJECT_START_LINE_LONG] = {414, "start_line_long", "The start line is longer than allowed."},
    [HTTP1_REJECT_VERSION] = {400, "version", "The protocol version is malformed."},
    [HTTP1_REJECT_VERSION_UNKNOWN] = {505, "version_unknown", "The protocol version is neither 1.0 nor 1.1."},
    [HTTP1_REJECT_STATUS_CODE] = {400, "status_code", "The status code is not a number from 100 to 999."},
    [HTTP1_REJECT_HEAD_LONG] = {431, "head_long", "The head is longer than allowed."},
    [HTTP1_REJECT_FIELDS_MANY] = {431, "fields_many", "The head has more fields than allowed."},
    [HTTP1_REJECT_NAME_LONG] = {431, "name_long", "A field name is longer than allowed."},
    [HTTP1_REJECT_VALUE_LONG] = {431, "value_long", "A field value is longer than allowed."},
    [HTTP1_REJECT_NAME] = {400, "name", "A field name is missing or holds a character that is not allowed."},
    [HTTP1_REJECT_SPACE_BEFORE_COLON] = {400, "space_before_colon", "White space stands before a colon."},
    [HTTP1_REJECT_FOLD] = {400, "fold", "A field line begins with white space."},
    [HTTP1_REJECT_HOST_MISSING] = {400, "host_missing", "An HTTP/1.1 request has no Host."},
    [HTTP1_REJECT_HOST_REPEATED] = {400, "host_repeated", "Host is given more than once."},
    [HTTP1_REJECT_HOST] = {400, "host", "Host is not a valid host with optional port."},
    [HTTP1_REJECT_CONTENT_LENGTH] = {400, "content_length",
                                     "Content-Length is not one decimal number in range."},
    [HTTP1_REJECT_CONTENT_LENGTH_REPEATED] = {400, "content_length_repeated",
                                              "Content-Length is given more than once."},
    [HTTP1_REJECT_LENGTH_AND_CODING] = {400, "length_and_coding",
                                        "Content-Length and Transfer-Encoding are both given."},
    [HTTP1_REJECT_CODING] = {400, "coding", "Transfer-Encoding is malformed or does not end in chunked."},
    [HTTP1_REJECT_CODING_UNKNOWN] = {501, "coding_unknown",
                                     "A transfer coding other than chunked is not served."},
    [HTTP1_REJECT_CODING_VERSION] = {400, "coding_version", "Transfer-Encoding is given in HTTP/1.0."},
    [HTTP1_REJECT_CODING_MISPLACED] = {400, "coding_misplaced",
                                       "Transfer-Encoding is given in an answer that has no body."},
    [HTTP1_REJECT_CONNECTION] = {400, "connection", "Connection is malformed or names too many fields."},
    [HTTP1_REJECT_EXPECT] = {417, "expect", "Only the expectation 100-continue can be met."},
    [HTTP1_REJECT_TRACE_BODY] = {400, "trace_body", "A TRACE request has a body."},
    [HTTP1_REJECT_CHUNK_SIZE] = {400, "chunk_size", "A chunk size is malformed or too large."},
    [HTTP1_REJECT_CHUNK_EXTENSION] = {400, "chunk_extension", "A chunk extension is malformed."},
    [HTTP1_REJECT_CHUNK_EXTENSION_LONG] = {413, "chunk_extension_long",
                                           "Chunk extensions are longer than allowed."},
    [HTTP1_REJECT_CHUNK_END] = {400, "chunk_end", "Chunk data is not followed by CRLF."},
    [HTTP1_REJECT_TRAILER_LONG] = {431, "trailer_long", "The trailer section is longer than allowed."},
    [HTTP1_REJECT_BODY_LONG] = {413, "body_long", "The chunks add up to more than can be counted."},
    [HTTP1_REJECT_TRUNCATED] = {400, "truncated", "The peer closed inside a message."},
    [HTTP2_REJECT_PSEUDO] = {400, "pseudo", "A pseudo-field is missing, repeated, unknown or out of place."},
    [HTTP2_REJECT_FIELD] = {400, "field", "A field of HTTP/1 connections stands in a request of HTTP/2."},
    [HTTP2_REJECT_VALUE] = {400, "value", "A field value holds a character that is not allowed."},
    [HTTP2_REJECT_AUTHORITY] = {400, "authority", "Host and :authority do not say the same."},
    [HTTP2_REJECT_LENGTH] = {400, "length", "Content-Length is not the length of the body."},
};

unsigned http1_reject_status(enum http1_reject why)
{
    CHECK(why < HTTP1_REJECT_COUNT);
    return rejects[why].status;
}

const char *http1_reject_text(enum http1_reject why)
{
    CHECK(why < HTTP1_REJECT_COUNT);
    return rejects[why].text;
}

const char *http1_reject_word(enum http1_reject why)
{
    CHECK(why < HTTP1_REJECT_COUNT);
    return rejects[why].word;
}
