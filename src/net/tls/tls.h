// SPDX-License-Identifier: Apache-2.0
// TLS 1.2 and 1.3 (RFC 5246, 8446) over io streams, by OpenSSL: a filter that encrypts. The owner of a stream
// sees nothing of it but that on_open comes after the handshake, and that an end without the peer's word is a
// failure (RFC 8446, 6.1), so that what was cut off never looks complete.
//
// Contexts belong to one thread, like the loop. Tickets are shared by all.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/slice.h"
#include "base/text.h"
#include "net/io/loop.h"

enum {
    TLS_IDENTITIES_MAX = 64,
    TLS_NAME_BYTES = 256,
    TLS_PATH_BYTES = 1024,
    TLS_PROTOCOL_BYTES = 16, // of ALPN, the NUL included
};

enum tls_version { TLS_1_2, TLS_1_3, TLS_VERSIONS };

// Why handshakes, and sessions after them, failed.
enum tls_failure {
    TLS_FAILURE_PROTOCOL,    // not TLS, no version or cipher in common, broken records
    TLS_FAILURE_EXPIRED,     // the peer's certificate has ended, or has not begun
    TLS_FAILURE_NAME,        // it is for another name or address
    TLS_FAILURE_ISSUER,      // it is of no issuer that is believed, or signs itself
    TLS_FAILURE_REVOKED,     // it is taken back, says an answer of OCSP that the peer stapled
    TLS_FAILURE_CERTIFICATE, // it is missing, or not to be believed for another reason
    TLS_FAILURE_REFUSED,     // the peer sent an alert: it does not like ours, mostly
    TLS_FAILURE_CUT,         // the connection ended without a word
    TLS_FAILURE_UNFINISHED,  // it was reset within the handshake, or closed by us because that took too long
    TLS_FAILURES
};
const char *tls_failure_name(enum tls_failure failure); // "protocol", ...

// Monotone counts of one context; one writer, any reader.
struct tls_counts {
    _Atomic uint64_t handshakes[TLS_VERSIONS][2]; // full, resumed
    _Atomic uint64_t failures[TLS_FAILURES];
};

// ---- tickets: keys of session resumption without state (RFC 5077, RFC 8446 4.6.1) ----

struct tls_tickets;
// With fresh random keys. NO_MEMORY.
MUST_USE enum status tls_tickets_create(struct tls_tickets **made);
// A new key for tickets from now on; those of the one before are still taken. For one thread.
void tls_tickets_rotate(struct tls_tickets *tickets);
void tls_tickets_destroy(struct tls_tickets *tickets); // NULL is allowed; after all contexts

// ---- servers ----

struct tls_identity {
    const char *certificate; // PEM files: the chain, own certificate first; and its key
    const char *key;
    const char *ocsp; // DER; NULL: nothing is stapled
};

struct tls_server_config {
    const struct tls_identity *identities; // the first is for names that no other has
    uint32_t identity_count;
    enum tls_version version_min;
    const char *ciphers;     // of TLS 1.2, as OpenSSL words them; NULL: its default
    const char *client_ca;   // PEM; NULL: clients are not asked for certificates
    bool client_required;    // with client_ca: none is a failure
    const char *const *alpn; // protocols in order of preference, NULL ends them; NULL: none
};

struct tls_server;
// Reads the files: INVALID with a sentence that names the file (not readable, no certificate, a key that is
// not its own, unknown ciphers); NO_MEMORY. The counts outlive many contexts; tickets as well.
MUST_USE enum status tls_server_create(const struct tls_server_config *config, struct tls_tickets *tickets,
                                       struct tls_counts *counts, struct tls_server **made,
                                       struct fault *fault);
// Another holder, who destroys it too. From any thread.
struct tls_server *tls_server_share(struct tls_server *server);
void tls_server_destroy(struct tls_server *server); // NULL is allowed. Streams under way keep what they need
// When the first of its certificates ends, milliseconds since 1970.
int64_t tls_server_expires_ms(const struct tls_server *server);

// When io_filter_put may be called. on_open of the stream's ops may be NULL. NO_MEMORY.
MUST_USE enum status tls_accept(struct tls_server *server, struct io_stream *stream);

// ---- clients ----

struct tls_client_config {
    bool verify;                   // the chain, the name, and a stapled answer of OCSP
    const char *ca;                // PEM file of issuers; NULL: those of the system
    const char *certificate, *key; // ours; NULL: none
    enum tls_version version_min;
    const char *ciphers;
    const char *const *alpn;
};

// What an earlier handshake left to resume by, of one peer under one name. Zeroed: nothing. A session is used
// for an hour after the peer's certificate was seen, and only by the client that has seen it.
struct tls_resume {
    struct ssl_session_st *session;
    int64_t seen_s; // when its certificate was seen
};
void tls_resume_forget(struct tls_resume *resume);

struct tls_client;
MUST_USE enum status tls_client_create(const struct tls_client_config *config, struct tls_counts *counts,
                                       struct tls_client **made, struct fault *fault);
// Another holder, who destroys it too. From any thread.
struct tls_client *tls_client_share(struct tls_client *client);
// When our own certificate ends, milliseconds since 1970; 0: there is none.
int64_t tls_client_expires_ms(const struct tls_client *client);
void tls_client_destroy(struct tls_client *client); // NULL is allowed. Streams under way keep what they need
// Right after io_stream_connect. name: for SNI and the check; an IP address is checked as one and not sent;
// empty: none is sent, and only a client that does not verify takes it. resume (NULL: none) must live as long
// as the stream. INVALID: the name is too long, or empty; NO_MEMORY. On failure the stream has no TLS.
MUST_USE enum status tls_connect(struct tls_client *client, struct io_stream *stream, struct slice name,
                                 struct tls_resume *resume);

// Right after tls_connect: this stream offers these protocols (as `alpn`) instead of its client's. NO_MEMORY.
MUST_USE enum status tls_offer(struct io_stream *stream, const char *const *protocols);

// ---- streams ----

struct tls_info {
    enum tls_version version;
    bool resumed;
    char protocol[TLS_PROTOCOL_BYTES]; // agreed by ALPN; empty: none
    char name[TLS_NAME_BYTES];         // of SNI, as the client sent it; empty: none
    char subject[TLS_NAME_BYTES];      // of the peer's certificate (RFC 4514); empty: none
};
bool tls_on(const struct io_stream *stream);
// The handshake has begun and is not over.
bool tls_shaking(const struct io_stream *stream);

enum tls_peer {
    TLS_PEER_SUBJECT,     // RFC 4514, ASCII
    TLS_PEER_NAMES,       // "DNS:a.example, URI:spiffe://b, email:c@d", what is unsafe in there as %XX
    TLS_PEER_FINGERPRINT, // SHA-256 in lower-case hexadecimal
};
// What the peer's certificate says; nothing where there is none.
void tls_peer_write(const struct io_stream *stream, enum tls_peer what, struct text *out);
// After the handshake. False: the stream has no TLS, or not yet.
bool tls_info_get(const struct io_stream *stream, struct tls_info *info);
// Why the stream failed, in constant text, for on_open and on_end; empty: not by TLS.
const char *tls_why(const struct io_stream *stream);
// Before io_stream_close of a stream that has not failed: the peer is told that it ends, as far as that can
// be sent at once.
void tls_say_end(struct io_stream *stream);

// ---- first tries ----

// A certificate that signs itself, for these names and addresses (NULL ends them), good for so many days (0:
// it ended an hour ago), and its key. Files that are there are left: CONFLICT. INVALID, IO with a sentence.
MUST_USE enum status tls_self_signed(const char *const *names, int days, const char *certificate,
                                     const char *key, struct fault *fault);
