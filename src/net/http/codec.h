// SPDX-License-Identifier: Apache-2.0
// Codecs of bodies (content codings, RFC 9110 8.4.1), and which of them a client accepts.
#pragma once

#include "net/http/field.h"

enum http_codec {
    HTTP_CODEC_NONE = 0, // "identity"
    HTTP_CODEC_GZIP,     // RFC 1952; "x-gzip" is the same
    HTTP_CODEC_BR,       // RFC 7932
    HTTP_CODEC_ZSTD,     // RFC 8878, with the window of RFC 9659
    HTTP_CODECS,
};

// The name in Content-Encoding.
struct slice http_codec_name(enum http_codec codec);

enum { HTTP_WEIGHT_FULL = 1000 };

// How much a client wants each codec, in thousandths; 0: it does not accept it.
struct http_accepted {
    uint16_t weights[HTTP_CODECS];
};

// All Accept-Encoding fields as one list (RFC 9110 12.5.3). Without the field, and for what is not listed,
// only NONE is accepted; that has weight 1, less than all that is asked for, where neither it nor '*' is
// listed. Of a codec that is listed more than once the least weight counts; a weight that is not one is 0.
struct http_accepted http_accepted_read(const struct http_fields *fields);
