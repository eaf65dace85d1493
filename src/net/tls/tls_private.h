// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/ssl.h>

#include "net/tls/tls.h"

// What servers and clients share. Streams hold it beside its owner, from other threads too.
struct tls_context {
    SSL_CTX *ssl;
    struct tls_counts *counts;
    atomic_uint holders;
    void (*free)(struct tls_context *context);
};

void tls_context_get(struct tls_context *context);
void tls_context_put(struct tls_context *context); // NULL is allowed

// The options that hold on both sides. NULL: no memory.
MUST_USE SSL_CTX *tls_ssl_new(const SSL_METHOD *method, enum tls_version version_min);
// Chain and key of PEM files into ssl.
MUST_USE enum status tls_load_identity(SSL_CTX *ssl, const char *certificate, const char *key,
                                       struct fault *fault);
// When the certificate that was loaded ends, milliseconds since 1970; 0: there is none.
int64_t tls_identity_ends_ms(SSL_CTX *ssl);
MUST_USE enum status tls_load_ciphers(SSL_CTX *ssl, const char *ciphers, struct fault *fault);
// As INVALID, with what OpenSSL says.
enum status tls_fault(struct fault *fault, const char *file, const char *what);
enum { TLS_ALPN_BYTES = 64 }; // of the list of protocols
// The wire form of a list of protocols (RFC 7301, 3.1); 0: it does not fit.
size_t tls_alpn_write(const char *const *protocols, unsigned char *to, size_t cap);

// Seconds of a clock that only goes forward.
int64_t tls_seconds(void);

// failure.c: why a call on ssl failed, by its verdict of the peer's certificate and by OpenSSL's error; *why
// is constant text.
enum tls_failure tls_failure_of(const SSL *ssl, unsigned long error, const char **why);

// stream.c: puts a session of the context on that stream, told already whether it accepts or connects. Takes
// ssl, also on failure; NULL: no memory was left for it.
MUST_USE enum status tls_begin(struct tls_context *context, struct io_stream *stream, SSL *ssl);

// tickets.c
void tls_tickets_use(struct tls_tickets *tickets, SSL_CTX *ssl);
