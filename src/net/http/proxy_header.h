// SPDX-License-Identifier: Apache-2.0
// What a proxy of TCP says before a connection's first byte: for whom it speaks. Versions 1 and 2 of the
// PROXY protocol (HAProxy, doc/proxy-protocol.txt, sections 2.1 and 2.2).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum {
    HTTP_PROXY_HEADER_BYTES_MAX = 16384, // a longer one of version 2 is refused by its first 16 bytes
    HTTP_PROXY_HEADER_V1_BYTES_MAX = 107,
};

enum http_proxy_family {
    HTTP_PROXY_NOBODY, // LOCAL, UNKNOWN or a unix socket: the connection's own address holds
    HTTP_PROXY_IPV4,
    HTTP_PROXY_IPV6,
};

struct http_proxy_header {
    enum http_proxy_family family;
    uint8_t address[16]; // the client's; the first 4 bytes for IPv4. Unset for NOBODY, as the port
    uint16_t port;       // in the order of this machine
};

// Writes one of that version (1 or 2) from the client to where it connected, and gives its length. A target
// of another family is told as the unspecified address; NOBODY is UNKNOWN, or LOCAL.
size_t http_proxy_header_write(unsigned version, const struct http_proxy_header *client,
                               const struct http_proxy_header *target,
                               char out[HTTP_PROXY_HEADER_V1_BYTES_MAX]);

// Reads the header that data begins with; *header_len bytes are its own, extensions (TLVs) of version 2
// included, which are skipped. STATUS_AGAIN: so far it is one, and more must come. STATUS_INVALID: it is
// none.
MUST_USE enum status http_proxy_header_read(const char *data, size_t len, struct http_proxy_header *header,
                                            size_t *header_len);
