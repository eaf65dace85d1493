// SPDX-License-Identifier: Apache-2.0
// Why a handshake failed, in the words of people and under one of few names.
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/check.h"
#include "net/tls/tls_private.h"

const char *tls_failure_name(enum tls_failure failure)
{
    static const char *const names[] = {"protocol",    "expired", "name", "issuer",    "revoked",
                                        "certificate", "refused", "cut",  "unfinished"};
    _Static_assert(ARRAY_LEN(names) == TLS_FAILURES, "a name for each");
    CHECK((unsigned)failure < TLS_FAILURES);
    return names[failure];
}

static const char SELF_SIGNED[] = "the peer's certificate signs itself, and is not among those believed";
static const char NO_ISSUER[] = "the peer's certificate is of no issuer that is believed";

static const struct {
    long verdict;
    enum tls_failure failure;
    const char *why;
} VERDICTS[] = {
    {X509_V_ERR_CERT_HAS_EXPIRED, TLS_FAILURE_EXPIRED, "the peer's certificate has expired"},
    {X509_V_ERR_CERT_NOT_YET_VALID, TLS_FAILURE_EXPIRED, "the peer's certificate is not valid yet"},
    {X509_V_ERR_HOSTNAME_MISMATCH, TLS_FAILURE_NAME, "the peer's certificate is for another name"},
    {X509_V_ERR_IP_ADDRESS_MISMATCH, TLS_FAILURE_NAME, "the peer's certificate is for another address"},
    {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, TLS_FAILURE_ISSUER, SELF_SIGNED},
    {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, TLS_FAILURE_ISSUER, NO_ISSUER},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, TLS_FAILURE_ISSUER, NO_ISSUER},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, TLS_FAILURE_ISSUER, NO_ISSUER},
    {X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, TLS_FAILURE_ISSUER, NO_ISSUER},
    {X509_V_ERR_CERT_REVOKED, TLS_FAILURE_REVOKED, "the peer's certificate is revoked"},
};

static enum tls_failure failure_of_verdict(long verdict, const char **why)
{
    for (size_t i = 0; i < ARRAY_LEN(VERDICTS); i++)
        if (VERDICTS[i].verdict == verdict) {
            *why = VERDICTS[i].why;
            return VERDICTS[i].failure;
        }
    *why = X509_verify_cert_error_string(verdict);
    return TLS_FAILURE_CERTIFICATE;
}

// What a peer that speaks another protocol looks like to a parser of records.
static bool is_no_tls(const SSL *ssl, int reason)
{
    return SSL_in_init(ssl) && (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
                                reason == SSL_R_PACKET_LENGTH_TOO_LONG);
}

enum tls_failure tls_failure_of(const SSL *ssl, unsigned long error, const char **why)
{
    long verdict = SSL_get_verify_result(ssl);
    int reason = ERR_GET_REASON(error);
    if (verdict != X509_V_OK && SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE)
        return failure_of_verdict(verdict, why);
    const char *words =
        is_no_tls(ssl, reason) ? "the peer does not speak TLS" : ERR_reason_error_string(error);
    *why = words != NULL ? words : "broken TLS";
    if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        return TLS_FAILURE_CERTIFICATE;
    return reason > SSL_AD_REASON_OFFSET ? TLS_FAILURE_REFUSED : TLS_FAILURE_PROTOCOL;
}
