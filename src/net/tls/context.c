// SPDX-License-Identifier: Apache-2.0
// What servers and clients are made of.
#include <openssl/err.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "net/tls/tls_private.h"

int64_t tls_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

void tls_context_get(struct tls_context *context)
{
    atomic_fetch_add_explicit(&context->holders, 1, memory_order_relaxed);
}

void tls_context_put(struct tls_context *context)
{
    if (context != NULL && atomic_fetch_sub_explicit(&context->holders, 1, memory_order_acq_rel) == 1)
        context->free(context);
}

// A key that wants a passphrase must not stop a daemon to ask for it.
static int no_passphrase(char *to, int cap, int writing, void *context)
{
    (void)to;
    (void)cap;
    (void)writing;
    (void)context;
    return -1;
}

SSL_CTX *tls_ssl_new(const SSL_METHOD *method, enum tls_version version_min)
{
    SSL_CTX *ssl = SSL_CTX_new(method);
    if (ssl == NULL)
        return NULL;
    SSL_CTX_set_min_proto_version(ssl, version_min == TLS_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    // An idle session keeps no buffers.
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
    return ssl;
}

enum status tls_fault(struct fault *fault, const char *file, const char *what)
{
    unsigned long error = ERR_peek_error();
    const char *reason = error != 0 ? ERR_reason_error_string(error) : NULL;
    if (error != 0 && ERR_GET_LIB(error) == ERR_LIB_SYS)
        reason = strerror(ERR_GET_REASON(error));
    ERR_clear_error();
    return fault_set(fault, STATUS_INVALID, "%s: %s%s%s", file, what, reason != NULL ? ": " : "",
                     reason != NULL ? reason : "");
}

int64_t tls_identity_ends_ms(SSL_CTX *ssl)
{
    int days = 0, seconds = 0;
    const X509 *own = SSL_CTX_get0_certificate(ssl);
    ASN1_TIME *epoch = own != NULL ? ASN1_TIME_set(NULL, 0) : NULL;
    bool known = epoch != NULL && ASN1_TIME_diff(&days, &seconds, epoch, X509_get0_notAfter(own)) == 1;
    ASN1_TIME_free(epoch);
    return known ? ((int64_t)days * 86400 + seconds) * 1000 : 0;
}

enum status tls_load_identity(SSL_CTX *ssl, const char *certificate, const char *key, struct fault *fault)
{
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(ssl, certificate) != 1)
        return tls_fault(fault, certificate, "cannot be read as a certificate in PEM");
    if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) == 1)
        return STATUS_OK;
    unsigned long error = ERR_peek_last_error();
    bool other = ERR_GET_LIB(error) == ERR_LIB_X509 && ERR_GET_REASON(error) == X509_R_KEY_VALUES_MISMATCH;
    if (!other)
        return tls_fault(fault, key, "cannot be read as a key in PEM without a passphrase");
    ERR_clear_error();
    return fault_set(fault, STATUS_INVALID, "%s: the key is not that of %s", key, certificate);
}

enum status tls_load_ciphers(SSL_CTX *ssl, const char *ciphers, struct fault *fault)
{
    if (ciphers == NULL || SSL_CTX_set_cipher_list(ssl, ciphers) == 1)
        return STATUS_OK;
    ERR_clear_error();
    return fault_set(fault, STATUS_INVALID, "ciphers: none of '%s' is known", ciphers);
}

size_t tls_alpn_write(const char *const *protocols, unsigned char *to, size_t cap)
{
    size_t len = 0;
    for (; protocols != NULL && *protocols != NULL; protocols++) {
        size_t one = strlen(*protocols);
        if (one == 0 || one >= TLS_PROTOCOL_BYTES || len + 1 + one > cap)
            return 0;
        to[len] = (unsigned char)one;
        memcpy(to + len + 1, *protocols, one);
        len += 1 + one;
    }
    return len;
}
