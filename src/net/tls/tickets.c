// SPDX-License-Identifier: Apache-2.0
// Keys of tickets: a new one every hour, the one before is still taken. So no ticket outlives two hours, and
// whoever steals a key reads no session that is older.
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <string.h>

#include "base/heap.h"
#include "net/tls/tls_private.h"

enum { KEY_NAME = 16, KEY_BYTES = 32, KEY_SECONDS = 3600 };

struct key {
    unsigned char name[KEY_NAME];
    unsigned char cipher[KEY_BYTES];
    unsigned char mac[KEY_BYTES];
    bool set;
};

struct tls_tickets {
    pthread_mutex_t lock;
    int64_t made;
    struct key now, before;
};

// False: no random bytes; the key stays as it was.
static bool draw(struct tls_tickets *tickets)
{
    struct key fresh = {.set = true};
    if (RAND_bytes(fresh.name, KEY_NAME) != 1 || RAND_priv_bytes(fresh.cipher, KEY_BYTES) != 1 ||
        RAND_priv_bytes(fresh.mac, KEY_BYTES) != 1)
        return false;
    tickets->before = tickets->now;
    tickets->now = fresh;
    tickets->made = tls_seconds();
    OPENSSL_cleanse(&fresh, sizeof fresh);
    return true;
}

enum status tls_tickets_create(struct tls_tickets **made)
{
    struct tls_tickets *tickets = heap_alloc(1, sizeof *tickets);
    if (tickets == NULL)
        return STATUS_NO_MEMORY;
    pthread_mutex_init(&tickets->lock, NULL);
    if (!draw(tickets)) {
        heap_free(tickets);
        return STATUS_NO_MEMORY;
    }
    *made = tickets;
    return STATUS_OK;
}

void tls_tickets_rotate(struct tls_tickets *tickets)
{
    pthread_mutex_lock(&tickets->lock);
    (void)draw(tickets);
    pthread_mutex_unlock(&tickets->lock);
}

void tls_tickets_destroy(struct tls_tickets *tickets)
{
    if (tickets == NULL)
        return;
    OPENSSL_cleanse(tickets, sizeof *tickets);
    heap_free(tickets);
}

static int prepare(const struct key *key, const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                   int encrypt)
{
    unsigned char mac_key[KEY_BYTES];
    memcpy(mac_key, key->mac, KEY_BYTES);
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, mac_key, KEY_BYTES),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t) "SHA256", 0),
        OSSL_PARAM_END};
    bool good = EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv, encrypt) == 1 &&
                EVP_MAC_CTX_set_params(mac, parameters) == 1;
    OPENSSL_cleanse(mac_key, sizeof mac_key);
    return good ? 1 : -1;
}

// As SSL_CTX_set_tlsext_ticket_key_evp_cb(3) wants it: 1 taken, 2 taken and to be renewed, 0 unknown, -1
// failed.
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int encrypt)
{
    struct tls_tickets *tickets = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    pthread_mutex_lock(&tickets->lock);
    if (tls_seconds() - tickets->made >= KEY_SECONDS)
        (void)draw(tickets);
    const struct key now = tickets->now, before = tickets->before;
    pthread_mutex_unlock(&tickets->lock);
    if (encrypt) {
        memcpy(name, now.name, KEY_NAME);
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
            return -1;
        return prepare(&now, iv, cipher, mac, 1);
    }
    bool is_now = memcmp(name, now.name, KEY_NAME) == 0;
    if (!is_now && (!before.set || memcmp(name, before.name, KEY_NAME) != 0))
        return 0;
    if (prepare(is_now ? &now : &before, iv, cipher, mac, 0) != 1)
        return -1;
    // In TLS 1.3 a client uses a ticket once (RFC 8446, C.4), so each gives it another.
    return is_now && SSL_version(ssl) < TLS1_3_VERSION ? 1 : 2;
}

void tls_tickets_use(struct tls_tickets *tickets, SSL_CTX *ssl)
{
    SSL_CTX_set_app_data(ssl, tickets);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ssl, on_ticket);
    SSL_CTX_set_timeout(ssl, KEY_SECONDS);
}
