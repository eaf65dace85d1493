// SPDX-License-Identifier: Apache-2.0
// A server's contexts: one for each identity, chosen by the name that the client asks for (RFC 6066, 3).
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/siphash.h"
#include "net/tls/tls_private.h"

enum { STAPLE_BYTES_MAX = 65536, SESSIONS = 4096 };

struct identity {
    SSL_CTX *ssl; // the first one's is the context's own
    unsigned char *staple;
    size_t staple_len;
};

struct tls_server {
    struct tls_context context;
    uint32_t identity_count;
    struct identity identities[TLS_IDENTITIES_MAX];
    unsigned char alpn[TLS_ALPN_BYTES];
    size_t alpn_len;
    int64_t expires_ms;
};

static void server_free(struct tls_context *context)
{
    struct tls_server *server = CONTAINER_OF(context, struct tls_server, context);
    for (uint32_t i = 0; i < server->identity_count; i++) {
        SSL_CTX_free(server->identities[i].ssl);
        heap_free(server->identities[i].staple);
    }
    heap_free(server);
}

// ---- what clients ask ----

static int on_name(SSL *ssl, int *alert, void *argument)
{
    (void)alert;
    const struct tls_server *server = argument;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    for (uint32_t i = 0; name != NULL && i < server->identity_count; i++) {
        X509 *certificate = SSL_CTX_get0_certificate(server->identities[i].ssl);
        if (X509_check_host(certificate, name, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) != 1)
            continue;
        if (i > 0)
            SSL_set_SSL_CTX(ssl, server->identities[i].ssl);
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_NOACK; // the first certificate; whether that will do is the client's to say
}

static int on_protocols(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_len,
                        const unsigned char *offered, unsigned offered_len, void *argument)
{
    (void)ssl;
    const struct tls_server *server = argument;
    unsigned char *out;
    if (SSL_select_next_proto(&out, chosen_len, server->alpn, (unsigned)server->alpn_len, offered,
                              offered_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL; // RFC 7301, 3.2
    *chosen = out;
    return SSL_TLSEXT_ERR_OK;
}

static int on_status(SSL *ssl, void *argument)
{
    const struct tls_server *server = argument;
    const SSL_CTX *used = SSL_get_SSL_CTX(ssl);
    for (uint32_t i = 0; i < server->identity_count; i++) {
        const struct identity *identity = &server->identities[i];
        if (identity->ssl != used || identity->staple == NULL)
            continue;
        unsigned char *copy = OPENSSL_memdup(identity->staple, identity->staple_len);
        if (copy == NULL)
            return SSL_TLSEXT_ERR_NOACK;
        SSL_set_tlsext_status_ocsp_resp(ssl, copy, (int)identity->staple_len);
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_NOACK;
}

// ---- loading ----

static enum status load_staple(const char *path, struct identity *identity, struct fault *fault)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return fault_set(fault, STATUS_INVALID, "%s: cannot be opened", path);
    unsigned char *bytes = heap_alloc(1, STAPLE_BYTES_MAX);
    size_t len = bytes != NULL ? fread(bytes, 1, STAPLE_BYTES_MAX, file) : 0;
    fclose(file);
    if (bytes == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    const unsigned char *at = bytes;
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)len);
    ERR_clear_error();
    if (response == NULL || at != bytes + len) {
        OCSP_RESPONSE_free(response);
        heap_free(bytes);
        return fault_set(fault, STATUS_INVALID, "%s: is no OCSP response in DER", path);
    }
    OCSP_RESPONSE_free(response);
    identity->staple = bytes;
    identity->staple_len = len;
    return STATUS_OK;
}

static enum status load_client_ca(SSL_CTX *ssl, const struct tls_server_config *config, struct fault *fault)
{
    if (config->client_ca == NULL)
        return STATUS_OK;
    ERR_clear_error();
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(config->client_ca);
    if (names == NULL || SSL_CTX_load_verify_locations(ssl, config->client_ca, NULL) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return tls_fault(fault, config->client_ca, "cannot be read as certificates in PEM");
    }
    SSL_CTX_set_client_CA_list(ssl, names);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | (config->client_required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                       NULL);
    return STATUS_OK;
}

// A session is resumed without a look at the client's certificate. So those of one server are none for
// another that believes other issuers, and none for the same once an issuer was taken from its file.
static void name_sessions(SSL_CTX *ssl, const struct tls_server_config *config)
{
    static const struct siphash_key KEY = {0x746c73, 0x73657373};
    STACK_OF(X509_OBJECT) *believed = X509_STORE_get0_objects(SSL_CTX_get_cert_store(ssl));
    uint64_t mark = config->client_required;
    for (int i = 0; i < sk_X509_OBJECT_num(believed); i++) {
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned len = 0;
        const X509 *issuer = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(believed, i));
        if (issuer != NULL && X509_digest(issuer, EVP_sha256(), digest, &len) == 1)
            mark += siphash(KEY, digest, len);
    }
    SSL_CTX_set_session_id_context(ssl, (const unsigned char *)&mark, sizeof mark);
}

static enum status load_identity(struct tls_server *server, const struct tls_server_config *config,
                                 const struct tls_identity *from, struct tls_tickets *tickets,
                                 struct fault *fault)
{
    struct identity *identity = &server->identities[server->identity_count];
    SSL_CTX *ssl = tls_ssl_new(TLS_server_method(), config->version_min);
    if (ssl == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    identity->ssl = ssl;
    server->identity_count++;
    enum status status = tls_load_identity(ssl, from->certificate, from->key, fault);
    if (status == STATUS_OK)
        status = tls_load_ciphers(ssl, config->ciphers, fault);
    if (status == STATUS_OK)
        status = load_client_ca(ssl, config, fault);
    if (status == STATUS_OK && from->ocsp != NULL)
        status = load_staple(from->ocsp, identity, fault);
    if (status != STATUS_OK)
        return status;
    SSL_CTX_sess_set_cache_size(ssl, SESSIONS);
    name_sessions(ssl, config);
    tls_tickets_use(tickets, ssl);
    SSL_CTX_set_tlsext_servername_callback(ssl, on_name);
    SSL_CTX_set_tlsext_servername_arg(ssl, server);
    SSL_CTX_set_tlsext_status_cb(ssl, on_status);
    SSL_CTX_set_tlsext_status_arg(ssl, server);
    if (server->alpn_len > 0)
        SSL_CTX_set_alpn_select_cb(ssl, on_protocols, server);
    int64_t end = tls_identity_ends_ms(ssl);
    if (server->expires_ms == 0 || end < server->expires_ms)
        server->expires_ms = end;
    return STATUS_OK;
}

enum status tls_server_create(const struct tls_server_config *config, struct tls_tickets *tickets,
                              struct tls_counts *counts, struct tls_server **made, struct fault *fault)
{
    CHECK(config->identity_count > 0 && config->identity_count <= TLS_IDENTITIES_MAX);
    struct tls_server *server = heap_alloc(1, sizeof *server);
    if (server == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    server->context = (struct tls_context){.counts = counts, .holders = 1, .free = server_free};
    server->alpn_len = tls_alpn_write(config->alpn, server->alpn, sizeof server->alpn);
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < config->identity_count && status == STATUS_OK; i++)
        status = load_identity(server, config, &config->identities[i], tickets, fault);
    if (status != STATUS_OK) {
        tls_context_put(&server->context);
        return status;
    }
    server->context.ssl = server->identities[0].ssl;
    *made = server;
    return STATUS_OK;
}

struct tls_server *tls_server_share(struct tls_server *server)
{
    tls_context_get(&server->context);
    return server;
}

void tls_server_destroy(struct tls_server *server)
{
    if (server != NULL)
        tls_context_put(&server->context);
}

int64_t tls_server_expires_ms(const struct tls_server *server)
{
    return server->expires_ms;
}

enum status tls_accept(struct tls_server *server, struct io_stream *stream)
{
    SSL *ssl = SSL_new(server->context.ssl);
    if (ssl != NULL)
        SSL_set_accept_state(ssl);
    return tls_begin(&server->context, stream, ssl);
}
