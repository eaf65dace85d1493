// SPDX-License-Identifier: Apache-2.0
// A client's context: the peer's chain and name are verified unless that is switched off, sessions resumed.
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "net/tls/tls_private.h"

enum { ALPN_BYTES = 64 };

struct tls_client {
    struct tls_context context;
    char name[TLS_NAME_BYTES];
    bool is_address;
    SSL_SESSION *session; // of the latest handshake; NULL: none
};

static void client_free(struct tls_context *context)
{
    struct tls_client *client = CONTAINER_OF(context, struct tls_client, context);
    SSL_SESSION_free(client->session);
    SSL_CTX_free(context->ssl);
    heap_free(client);
}

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_context *context = SSL_get_app_data(ssl);
    struct tls_client *client = CONTAINER_OF(context, struct tls_client, context);
    SSL_SESSION_free(client->session);
    client->session = session;
    return 1; // it is ours now
}

static bool is_address(const char *name)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

static enum status load_issuers(SSL_CTX *ssl, const char *ca, struct fault *fault)
{
    ERR_clear_error();
    if (ca == NULL)
        return SSL_CTX_set_default_verify_paths(ssl) == 1
                   ? STATUS_OK
                   : tls_fault(fault, "the system", "its certificates cannot be read");
    return SSL_CTX_load_verify_locations(ssl, ca, NULL) == 1
               ? STATUS_OK
               : tls_fault(fault, ca, "cannot be read as certificates in PEM");
}

static enum status expect(struct tls_client *client, struct fault *fault)
{
    SSL_CTX *ssl = client->context.ssl;
    X509_VERIFY_PARAM *wanted = SSL_CTX_get0_param(ssl);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    int taken = client->is_address ? X509_VERIFY_PARAM_set1_ip_asc(wanted, client->name)
                                   : X509_VERIFY_PARAM_set1_host(wanted, client->name, 0);
    return taken == 1 ? STATUS_OK : fault_set(fault, STATUS_NO_MEMORY, "no memory left");
}

static enum status prepare(struct tls_client *client, const struct tls_client_config *config,
                           struct fault *fault)
{
    SSL_CTX *ssl = client->context.ssl;
    enum status status = STATUS_OK;
    unsigned char alpn[ALPN_BYTES];
    size_t alpn_len = tls_alpn_write(config->alpn, alpn, sizeof alpn);
    if (config->verify)
        status = load_issuers(ssl, config->ca, fault);
    if (status == STATUS_OK && config->verify)
        status = expect(client, fault);
    if (status == STATUS_OK && config->certificate != NULL)
        status = tls_load_identity(ssl, config->certificate, config->key, fault);
    if (status == STATUS_OK)
        status = tls_load_ciphers(ssl, config->ciphers, fault);
    if (status == STATUS_OK && alpn_len > 0 && SSL_CTX_set_alpn_protos(ssl, alpn, (unsigned)alpn_len) != 0)
        status = fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ssl, on_session);
    return status;
}

enum status tls_client_create(const struct tls_client_config *config, struct tls_counts *counts,
                              struct tls_client **made, struct fault *fault)
{
    struct tls_client *client = heap_alloc(1, sizeof *client);
    if (client == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    client->context = (struct tls_context){.ssl = tls_ssl_new(TLS_client_method(), config->version_min),
                                           .counts = counts,
                                           .holders = 1,
                                           .free = client_free};
    snprintf(client->name, sizeof client->name, "%s", config->name);
    client->is_address = is_address(client->name);
    enum status status = client->context.ssl != NULL ? prepare(client, config, fault)
                                                     : fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    if (status != STATUS_OK) {
        tls_context_put(&client->context);
        return status;
    }
    *made = client;
    return STATUS_OK;
}

void tls_client_destroy(struct tls_client *client)
{
    if (client != NULL)
        tls_context_put(&client->context);
}

enum status tls_connect(struct tls_client *client, struct io_stream *stream)
{
    SSL *ssl;
    enum status status = tls_begin(&client->context, stream, &ssl);
    if (status != STATUS_OK)
        return status;
    SSL_set_connect_state(ssl);
    if (!client->is_address)
        (void)SSL_set_tlsext_host_name(ssl, client->name);
    if (client->session != NULL)
        (void)SSL_set_session(ssl, client->session);
    return STATUS_OK;
}
