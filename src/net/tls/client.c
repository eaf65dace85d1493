// SPDX-License-Identifier: Apache-2.0
// A client's context: the peer's chain, name and stapled answer of OCSP are verified unless that is switched
// off, sessions resumed.
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/siphash.h"
#include "base/utf8.h"
#include "net/tls/tls_private.h"

enum { RESUME_SECONDS = 3600 };

struct tls_client {
    struct tls_context context;
    uint64_t id; // no other ever has it
    bool verify;
};

static void client_free(struct tls_context *context)
{
    SSL_CTX_free(context->ssl);
    heap_free(CONTAINER_OF(context, struct tls_client, context));
}

// ---- sessions ----

void tls_resume_forget(struct tls_resume *resume)
{
    SSL_SESSION_free(resume->session);
    *resume = (struct tls_resume){.session = NULL};
}

// Whom the session is with: the name, as this client believes it. OpenSSL resumes none for somebody else.
static uint64_t about(const struct tls_client *client, struct slice name)
{
    return siphash((struct siphash_key){client->id, 0}, name.data, name.len);
}

static uint64_t about_of(const SSL_SESSION *session)
{
    unsigned len;
    const unsigned char *bytes = SSL_SESSION_get0_id_context(session, &len);
    uint64_t whom = 0;
    if (len == sizeof whom)
        memcpy(&whom, bytes, len);
    return whom;
}

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_resume *resume = SSL_get_app_data(ssl);
    bool resumed = SSL_session_reused(ssl) != 0;
    // Of one that was resumed it must be known when the certificate was seen.
    bool known = resume != NULL && resume->session != NULL && about_of(resume->session) == about_of(session);
    if (resume == NULL || (resumed && !known))
        return 0;
    SSL_SESSION_free(resume->session);
    *resume = (struct tls_resume){session, resumed ? resume->seen_s : tls_seconds()};
    return 1; // it is ours now
}

static void resume_by(struct tls_resume *resume, SSL *ssl, uint64_t whom)
{
    SSL_set_session_id_context(ssl, (const unsigned char *)&whom, sizeof whom);
    SSL_set_app_data(ssl, resume);
    if (resume == NULL || resume->session == NULL)
        return;
    if (about_of(resume->session) == whom && tls_seconds() - resume->seen_s < RESUME_SECONDS)
        (void)SSL_set_session(ssl, resume->session);
    else
        tls_resume_forget(resume);
}

// ---- what a stapled answer says (RFC 6960) ----

static bool says_revoked(SSL *ssl, OCSP_BASICRESP *basic)
{
    STACK_OF(X509) *chain = SSL_get0_verified_chain(ssl);
    X509_STORE *store = SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl));
    if (chain == NULL || sk_X509_num(chain) == 0 || OCSP_basic_verify(basic, chain, store, 0) != 1)
        return false;
    X509 *issuer = sk_X509_value(chain, sk_X509_num(chain) > 1 ? 1 : 0);
    OCSP_CERTID *id = OCSP_cert_to_id(NULL, sk_X509_value(chain, 0), issuer);
    int status = V_OCSP_CERTSTATUS_UNKNOWN;
    bool found = id != NULL && OCSP_resp_find_status(basic, id, &status, NULL, NULL, NULL, NULL) == 1;
    OCSP_CERTID_free(id);
    return found && status == V_OCSP_CERTSTATUS_REVOKED;
}

// A peer need not staple, so an answer that cannot be believed is as good as none. What an issuer has taken
// back stays so: the answer's age does not matter.
static int on_staple(SSL *ssl, void *context)
{
    (void)context;
    const unsigned char *bytes;
    long len = SSL_get_tlsext_status_ocsp_resp(ssl, &bytes);
    OCSP_RESPONSE *response = len > 0 ? d2i_OCSP_RESPONSE(NULL, &bytes, len) : NULL;
    OCSP_BASICRESP *basic = response != NULL ? OCSP_response_get1_basic(response) : NULL;
    bool revoked = basic != NULL && says_revoked(ssl, basic);
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(response);
    ERR_clear_error();
    if (revoked)
        SSL_set_verify_result(ssl, X509_V_ERR_CERT_REVOKED);
    return !revoked;
}

// ---- making one ----

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

static enum status load_verification(SSL_CTX *ssl, const struct tls_client_config *config,
                                     struct fault *fault)
{
    if (!config->verify)
        return STATUS_OK;
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_tlsext_status_type(ssl, TLSEXT_STATUSTYPE_ocsp);
    SSL_CTX_set_tlsext_status_cb(ssl, on_staple);
    X509_VERIFY_PARAM_set_hostflags(SSL_CTX_get0_param(ssl), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return load_issuers(ssl, config->ca, fault);
}

static enum status prepare(struct tls_client *client, const struct tls_client_config *config,
                           struct fault *fault)
{
    SSL_CTX *ssl = client->context.ssl;
    unsigned char alpn[TLS_ALPN_BYTES];
    size_t alpn_len = tls_alpn_write(config->alpn, alpn, sizeof alpn);
    enum status status = load_verification(ssl, config, fault);
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
    static _Atomic uint64_t ids;
    struct tls_client *client = heap_alloc(1, sizeof *client);
    if (client == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    client->context = (struct tls_context){.ssl = tls_ssl_new(TLS_client_method(), config->version_min),
                                           .counts = counts,
                                           .holders = 1,
                                           .free = client_free};
    client->id = atomic_fetch_add_explicit(&ids, 1, memory_order_relaxed) + 1;
    client->verify = config->verify;
    enum status status = client->context.ssl != NULL ? prepare(client, config, fault)
                                                     : fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    if (status != STATUS_OK) {
        tls_context_put(&client->context);
        return status;
    }
    *made = client;
    return STATUS_OK;
}

struct tls_client *tls_client_share(struct tls_client *client)
{
    tls_context_get(&client->context);
    return client;
}

int64_t tls_client_expires_ms(const struct tls_client *client)
{
    return tls_identity_ends_ms(client->context.ssl);
}

void tls_client_destroy(struct tls_client *client)
{
    if (client != NULL)
        tls_context_put(&client->context);
}

// ---- connecting ----

static bool is_address(const char *name)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

// The name that the peer is asked for, and that its certificate must have.
static bool expect(const struct tls_client *client, SSL *ssl, char *name)
{
    bool address = is_address(name);
    X509_VERIFY_PARAM *wanted = SSL_get0_param(ssl);
    if (client->verify && (address ? X509_VERIFY_PARAM_set1_ip_asc(wanted, name)
                                   : X509_VERIFY_PARAM_set1_host(wanted, name, 0)) != 1)
        return false;
    return address || name[0] == '\0' || SSL_set_tlsext_host_name(ssl, name) == 1;
}

enum status tls_connect(struct tls_client *client, struct io_stream *stream, struct slice name,
                        struct tls_resume *resume)
{
    char text[TLS_NAME_BYTES];
    if (name.len > 1 && name.data[name.len - 1] == '.')
        name.len--; // it only says that the name is whole; none stands in SNI (RFC 6066, 3)
    if (name.len >= sizeof text || (name.len == 0 && client->verify))
        return STATUS_INVALID;
    utf8_copy(text, sizeof text, name);
    SSL *ssl = SSL_new(client->context.ssl);
    if (ssl == NULL || !expect(client, ssl, text)) {
        SSL_free(ssl);
        return STATUS_NO_MEMORY;
    }
    SSL_set_connect_state(ssl);
    resume_by(resume, ssl, about(client, name));
    return tls_begin(&client->context, stream, ssl);
}
