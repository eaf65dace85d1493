// SPDX-License-Identifier: Apache-2.0
// A certificate for first tries, signed by itself: P-256, for names and addresses.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "net/tls/tls_private.h"

enum { NAMES_BYTES = 2048, SERIAL_BYTES = 16 };

static bool add_extension(X509 *certificate, int kind, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    bool added = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

static bool is_address(const char *name)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

static bool add_names(X509 *certificate, const char *const *names)
{
    char value[NAMES_BYTES];
    struct text text = text_over(value, sizeof value);
    for (size_t i = 0; names[i] != NULL; i++)
        text_addf(&text, "%s%s:%s", i > 0 ? "," : "", is_address(names[i]) ? "IP" : "DNS", names[i]);
    return !text.cut && add_extension(certificate, NID_subject_alt_name, value);
}

static bool set_serial(X509 *certificate)
{
    unsigned char bytes[SERIAL_BYTES];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    bytes[0] &= 0x7f; // RFC 5280, 4.1.2.2: positive
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool set = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return set;
}

static bool fill(X509 *certificate, EVP_PKEY *key, const char *const *names, int days)
{
    X509_NAME *subject = X509_get_subject_name(certificate);
    return X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
           X509_gmtime_adj(X509_getm_notBefore(certificate), days > 0 ? -3600 : -7200) != NULL &&
           X509_gmtime_adj(X509_getm_notAfter(certificate), days > 0 ? 86400L * days : -3600) != NULL &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)names[0], -1, -1,
                                      0) == 1 &&
           X509_set_issuer_name(certificate, subject) == 1 && X509_set_pubkey(certificate, key) == 1 &&
           add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE") &&
           add_names(certificate, names) && X509_sign(certificate, key, EVP_sha256()) > 0;
}

// A file that is there is left as it is: it may be somebody's key.
static FILE *create(const char *path, unsigned mode, struct fault *fault)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file != NULL)
        return file;
    (void)fault_set(fault, errno == EEXIST ? STATUS_CONFLICT : STATUS_IO, "%s: %s", path,
                    errno == EEXIST ? "is there already" : strerror(errno));
    if (fd >= 0)
        close(fd);
    return NULL;
}

static enum status write_both(X509 *certificate, EVP_PKEY *key, const char *certificate_path,
                              const char *key_path, struct fault *fault)
{
    FILE *keys = create(key_path, 0600, fault);
    if (keys == NULL)
        return fault->status;
    bool written = PEM_write_PrivateKey(keys, key, NULL, NULL, 0, NULL, NULL) == 1;
    written = fclose(keys) == 0 && written;
    FILE *certificates = written ? create(certificate_path, 0644, fault) : NULL;
    if (certificates == NULL) {
        unlink(key_path);
        return written ? fault->status : fault_set(fault, STATUS_IO, "%s: cannot be written", key_path);
    }
    written = PEM_write_X509(certificates, certificate) == 1;
    if (fclose(certificates) == 0 && written)
        return STATUS_OK;
    unlink(key_path);
    unlink(certificate_path);
    return fault_set(fault, STATUS_IO, "%s: cannot be written", certificate_path);
}

enum status tls_self_signed(const char *const *names, int days, const char *certificate, const char *key,
                            struct fault *fault)
{
    EVP_PKEY *made = EVP_EC_gen("P-256");
    X509 *x509 = X509_new();
    enum status status = STATUS_OK;
    if (made == NULL || x509 == NULL || !fill(x509, made, names, days))
        status = fault_set(fault, STATUS_INVALID, "%s: no certificate can be made for that name", names[0]);
    if (status == STATUS_OK)
        status = write_both(x509, made, certificate, key, fault);
    ERR_clear_error();
    X509_free(x509);
    EVP_PKEY_free(made);
    return status;
}
