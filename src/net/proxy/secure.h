// SPDX-License-Identifier: Apache-2.0
// What secure listeners answer with, and what versions with TLS are asked with: for each worker a server of
// each such listener, and a client of each way in which origins are spoken to. Tables hold it, so that new
// certificates come with a new table, and the old ones go when no worker has the old table any more.
#pragma once

#include "net/tls/tls.h"

struct proxy_tls;

enum { PROXY_ORIGIN_NONE = 0xffff };

// A way to speak to origins.
struct proxy_origin_plan {
    uint64_t key;                           // of what the file says of it: another one has another key
    uint64_t files;                         // of how its files look
    const struct tls_client_config *config; // NULL: its files cannot be used, and nobody is spoken to by it
};

// All is borrowed for the call.
struct proxy_tls_plan {
    const struct tls_server_config *const *listeners; // [i] NULL: listener i has what it had in `before`
    uint32_t listener_count;
    const struct proxy_origin_plan *origins; // those that `before` has, files alike, are shared with it
    uint32_t origin_count;
    uint32_t workers;
    const struct proxy_tls *before; // NULL: nothing
    struct tls_tickets *tickets;
    struct tls_counts *client_counts; // of listeners; these outlive all
    struct tls_counts *origin_counts;
};

// Held once, by the caller. As tls_server_create and tls_client_create.
MUST_USE enum status proxy_tls_create(const struct proxy_tls_plan *plan, struct proxy_tls **made,
                                      struct fault *fault);
void proxy_tls_hold(struct proxy_tls *tls); // NULL is allowed in this and the next
void proxy_tls_release(struct proxy_tls *tls);
// When the first certificate of all ends, milliseconds since 1970; 0: there is none.
int64_t proxy_tls_expires_ms(const struct proxy_tls *tls);
// NULL: none.
struct tls_server *proxy_tls_server(const struct proxy_tls *tls, uint32_t worker, uint32_t listener);
// PROXY_ORIGIN_NONE: there is no such key.
uint16_t proxy_tls_origin(const struct proxy_tls *tls, uint64_t key);
// NULL: none that could be used. The one behind the last worker's is for the thread of the mirror.
struct tls_client *proxy_tls_client(const struct proxy_tls *tls, uint32_t worker, uint16_t origin);
